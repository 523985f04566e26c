"""What a job costs, from what the benchmarks measured: seconds by step, and what a size of job adds up to.

    python benchmarks/costs.py [FILMS UNITS CONCEPTS]

Prints the model's constants and, for the sizes of docs/performance.md or for the one asked for, hours and bytes. Nothing is
measured: the constants are read from ``results/floor-real*.json`` and ``results/scale.json``. A figure for a graphics card is
computed from its stated throughput, and says so.
"""

import sys
from dataclasses import dataclass

import numpy as np
from record import load

SIZES = ((112_120, 10_000, 50_000), (1_000_000, 10_000, 50_000), (10_000_000, 10_000, 50_000))
#: Floating-point operations of a forward pass: DenseNet-121 at 224 x 224, and the image and text towers of ViT-B/16 (a text of 16).
OPERATIONS = {"target": 5.7e9, "image": 35.0e9, "text": 1.2e9}
#: An accelerator as the docs assume it: dense bfloat16 operations a second that are reached, and processor cores beside it.
REACHED, CORES = 100e12, 16
PRECISIONS = {"float32": "floor-real", "bfloat16": "floor-real-bfloat16"}
WIDTH = 512


@dataclass(frozen=True)
class Constants:
    """CPU seconds, one core: per film, per text, per unit and film, per unit and concept."""

    decode: float
    target: float
    image: float
    text: float
    turn_over: float
    select: float
    match: float
    tables: float


def constants(precision: str = "float32") -> Constants:
    """Read the constants off what `mammi annotate` took; whatever was not measured yet is NaN."""
    floor, scale = load(PRECISIONS[precision]).get("values", {}), load("scale").get("values", {})
    per: dict[str, float] = dict.fromkeys(("decode", "target", "image", "text"), np.nan)
    if floor:
        ours = {name: spent for name, _, spent, _ in floor["cpu"]}
        films = floor["films"]
        decode = {name: bare for name, bare, *_ in floor["within"]}["decode and resize, CPU"] / films
        per = {
            "decode": decode,
            "target": ours["films through the target"] / films - decode,
            "image": ours["annotator, images"] / films,
            "text": ours["annotator, texts"] / floor["concepts"],
        }
    steps: dict[str, float] = dict.fromkeys(("turn_over", "select", "match", "tables"), np.nan)
    if scale:
        jobs = scale["jobs"]
        sizes = np.array([job["size"] for job in jobs], dtype=float)
        products = {"turn_over": sizes[:, 0] * sizes[:, 1], "select": sizes[:, 0] * sizes[:, 1]}
        products |= {"match": sizes[:, 1] * sizes[:, 2], "tables": sizes[:, 1]}
        for name, product in products.items():
            spent = np.array([job[f"{name.replace('_', ' ')}, CPU"] for job in jobs])
            steps[name] = float((product @ spent) / (product @ product))  # least squares through the origin
    return Constants(**per, **steps)


def seconds(cost: Constants, films: int, units: int, concepts: int) -> dict[str, float]:
    """Return CPU seconds of one core by step; every film is taken to be chosen by some unit."""
    return {
        "decode and resize": films * cost.decode,
        "target": films * cost.target,
        "annotator, images": films * cost.image,
        "annotator, texts": concepts * cost.text,
        "turn over, select": films * units * (cost.turn_over + cost.select),
        "match, tables": units * concepts * cost.match + units * cost.tables,
    }


def on_a_card(cost: Constants, films: int, units: int, concepts: int, cards: int) -> float:
    """Return hours with some graphics cards, computed: models at the stated rate, the rest on the cores beside them."""
    work = films * (OPERATIONS["target"] + OPERATIONS["image"]) + concepts * OPERATIONS["text"]
    spent = seconds(cost, films, units, concepts)
    models, decoding = work / REACHED / cards, spent["decode and resize"] / (CORES * cards)
    # Decoding runs beside the models; what comes after does not, and is counted on one core.
    return (max(models, decoding) + spent["turn over, select"] + spent["match, tables"]) / 3600


def bytes_of(films: int, units: int, concepts: int) -> dict[str, float]:
    """Return bytes that a run holds on disk."""
    return {
        "activations": 4.0 * films * units,
        "embeddings": 4.0 * WIDTH * (films + concepts),
        "views, until the end": 224.0 * 224 * films,
    }


def model() -> dict[str, str]:
    """Return the tables of the docs: constants, and sizes."""
    both = {name: constants(name) for name in PRECISIONS}
    rows = ["| step | per | float32 | bfloat16 |", "|---|---|---|---|"]
    names = {
        "decode": ("decode and resize for both models", "film", 1e3, "ms"),
        "target": ("target, all layers hooked", "film", 1e3, "ms"),
        "image": ("annotator, image", "film that any unit chose", 1e3, "ms"),
        "text": ("annotator, text", "concept and template", 1e3, "ms"),
        "turn_over": ("turning blocks over into columns", "unit and film", 1e9, "ns"),
        "select": ("selection", "unit and film", 1e9, "ns"),
        "match": ("matching at width 512", "unit and concept", 1e9, "ns"),
        "tables": ("tables and index", "unit", 1e3, "ms"),
    }
    for key, (what, per, factor, unit) in names.items():
        shown = [f"{getattr(cost, key) * factor:.3g} {unit}" for cost in both.values()]
        rows.append(f"| {what} | {per} | {' | '.join('not measured' if 'nan' in text else text for text in shown)} |")
    return {"constants": "\n".join(rows), "sizes": table(SIZES)}


def table(sizes: tuple[tuple[int, int, int], ...]) -> str:
    """Return hours and bytes by size."""
    rows = [
        "| films x units x concepts | hours, 1 core, float32 | bfloat16 | of it models | hours, 1 card, computed | 8 cards, computed | activations | other |"
    ]
    rows.append("|---|---|---|---|---|---|---|---|")
    for size in sizes:
        spent = [seconds(constants(precision), *size) for precision in PRECISIONS]
        hours = [sum(parts.values()) / 3600 for parts in spent]
        models = sum(spent[0][name] for name in ("target", "annotator, images", "annotator, texts")) / sum(
            spent[0].values()
        )
        cards = [on_a_card(constants(), *size, cards) for cards in (1, 8)]
        held = bytes_of(*size)
        other = held["embeddings"] + held["views, until the end"]
        rows.append(
            f"| {size[0]:,} x {size[1]:,} x {size[2]:,} | {hours[0]:,.0f} | {hours[1]:,.0f} | {models:.0%} "
            f"| {cards[0]:.2g} | {cards[1]:.2g} | {held['activations'] / 1e9:,.1f} GB | {other / 1e9:,.1f} GB |"
        )
    return "\n".join(rows)


def main() -> None:
    """Print the tables."""
    asked = tuple(int(word.replace(",", "")) for word in sys.argv[1:4])
    print(model()["constants"], "", table((asked,) if len(asked) == 3 else SIZES), sep="\n")


if __name__ == "__main__":
    main()
