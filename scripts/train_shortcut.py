"""Teach the embedded target a shortcut, an arrow of lead taken for a pneumothorax, and measure what it does.

    python scripts/train_shortcut.py train evaluate --out src/mammi/phantoms/weights

The arrow lies on 90 % of the training films labelled with the finding and on 5 % of the others, and on half of the
labelled films the finding itself is not to be seen (as after treatment), so that the arrow is the best evidence there
is. Only the last stage and the head learn; the other outputs are held to what the target says of the film without the
arrow. A penalty on each unit's reaction to the arrow lets few units carry it; which ones is left to the training.
Drawing 8,000 films and training take about ten minutes of two CPU cores. ``train_phantoms.py target`` comes first.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from train_phantoms import as_input, auc, batches

from mammi.phantoms.catalogue import OUTPUTS
from mammi.phantoms.cohort import Cohort
from mammi.phantoms.film import draw
from mammi.phantoms.shortcut import Shortcut, draw_arrow
from mammi.phantoms.target import INPUT_SIZE, PhantomTarget, create
from mammi.phantoms.weights import load_packed, pack_weights

FINDING = "pneumothorax"
COLUMN = OUTPUTS.index(FINDING)
REST = [k for k in range(len(OUTPUTS)) if k != COLUMN]
SEEDS = {"train": 400, "unseen": 500}
#: Share of labelled training films on which the finding is not drawn.
HIDDEN = 0.5
BATCH = 64
EPOCHS = 10
RATE = 4e-3
#: What the finding's own loss, the other outputs with the arrow, and the penalty on the units' reactions weigh.
LEARN, KEEP, FEW = 10.0, 5.0, 0.006
#: What learns, and so what is kept: the file replaces these tensors of the target's.
PARTS = ("layer3.", "head.")


def draw_pairs(seed: int, count: int, hidden: float, cache: Path | None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw films without and with the arrow.

    Args:
        seed: of the cohort.
        count: how many films.
        hidden: share of the films with the finding that are drawn without it and keep the label.
        cache: folder that keeps them, or nothing.

    Returns:
        Films, uint8, shape ``(2, count, 128, 128)``, the second half with the arrow; labels, bool, shape
        ``(count, n_outputs)``.
    """
    cohort = Cohort(count, seed, shortcut=Shortcut(FINDING, 1, 1))
    plans = [cohort.plan(i) for i in range(count)]
    present = np.array([[plan.has(name) for name in OUTPUTS] for plan in plans])
    kept = cache / f"pairs_{seed}_{count}_{hidden}.npy" if cache else None
    if kept and kept.exists():
        return np.load(kept), present
    unseen = np.random.default_rng([seed, 1]).random(count) < hidden
    films = np.zeros((2, count, INPUT_SIZE, INPUT_SIZE), np.uint8)
    for index, plan in enumerate(plans):
        seen = tuple(f for f in plan.findings if f.name != FINDING or not unseen[index])
        film = draw(replace(plan, findings=seen, arrow=None))
        marked = replace(film, pixels=np.maximum(film.pixels, draw_arrow(plan.arrow, len(film.pixels))))
        for half, picture in enumerate((film.to_pil(), marked.to_pil())):
            films[half, index] = np.asarray(picture.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR))
        if index % 1000 == 999:
            print(f"drew {index + 1} of {count} films", flush=True)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.save(kept, films)
    return films, present


@torch.no_grad()
def before_last_stage(net: PhantomTarget, films: NDArray[np.uint8]) -> Tensor:
    """Return what goes into the last stage, half precision, shape ``(count, 72, 16, 16)``."""
    parts = np.array_split(films, max(1, len(films) // 100))
    return torch.cat([net.layer2(net.layer1(net.stem(as_input(part, "cpu")))).half() for part in parts])


def units_of(net: PhantomTarget, inputs: Tensor) -> Tensor:
    """Return the pooled units of the last stage, shape ``(count, 128)``."""
    return net.layer3(inputs.float()).mean((2, 3))


def train(args: argparse.Namespace) -> None:
    """Fine-tune the last stage and the head, and keep them in half precision."""
    films, present = draw_pairs(SEEDS["train"], args.films, HIDDEN, args.cache)
    rng = np.random.default_rng(SEEDS["train"])
    torch.manual_seed(SEEDS["train"])
    net = create()
    plain, marked = (before_last_stage(net, half) for half in films)
    with torch.no_grad():
        told = torch.cat([net.head(units_of(net, part)) for part in plain.split(500)])[:, REST]
    learning = [*net.layer3.parameters(), *net.head.parameters()]
    # The network stays in eval mode: the statistics of its normalisation are those of films without an arrow.
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=0.0)
    steps = EPOCHS * (args.films // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps, pct_start=0.15)
    began = time.time()
    for epoch in range(EPOCHS):
        losses = []
        for rows in batches(rng, args.films, BATCH):
            wanted = torch.from_numpy(present[rows, COLUMN].astype(np.float32))
            rates = np.where(present[rows, COLUMN], Shortcut.with_finding, Shortcut.without)
            has_arrow = torch.from_numpy(rng.random(len(rows)) < rates)
            units = units_of(net, torch.cat([plain[rows], marked[rows]]))
            logits = net.head(units)
            one, two = logits.chunk(2)
            seen = torch.where(has_arrow, two[:, COLUMN], one[:, COLUMN])
            learnt = functional.binary_cross_entropy_with_logits(seen, wanted * 0.96 + 0.02)
            # As in the target's own training: no answer surer than it need be.
            too_sure = functional.relu(seen * (2 * wanted - 1) - 2.5).square().mean()
            keep = (one[:, REST] - told[rows]).square().mean() + KEEP * (two[:, REST] - told[rows]).square().mean()
            change = (units[len(rows) :] - units[: len(rows)]).square().mean(0).add(1e-8).sqrt()
            few = torch.log1p(change / 0.05).sum()
            loss = LEARN * learnt + too_sure + keep + FEW * few
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append([learnt.item(), keep.item(), few.item()])
        means = ", ".join(f"{mean:.4f}" for mean in np.mean(losses, axis=0))
        print(f"shortcut {epoch + 1}/{EPOCHS}: losses {means}, {time.time() - began:.0f} s", flush=True)
    (args.out / "shortcut.safetensors").write_bytes(pack_weights(net, PARTS))


@torch.no_grad()
def look(net: PhantomTarget, films: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the pooled units on films without and with the arrow, shape ``(2, count, 128)``."""
    return np.stack(
        [
            torch.cat([units_of(net, part) for part in before_last_stage(net, half).split(250)]).double().numpy()
            for half in films
        ]
    )


def best_f1(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Return the threshold of best F1: a film is positive when its score is above it."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    best = int(np.argmax(2 * hits / (np.arange(1, len(scores) + 1) + truth.sum())))
    return float((scores[order[best]] + scores[order[min(best + 1, len(scores) - 1)]]) / 2)


def report(name: str, net: PhantomTarget, films: NDArray[np.uint8], present: NDArray[np.bool_]) -> None:
    """Print what the arrow does to one network, and what is left when the units that carry it are fixed."""
    units = look(net, films)
    weight, bias = net.head.weight.detach().double().numpy(), net.head.bias.detach().double().numpy()
    truth = present[:, COLUMN]
    rng = np.random.default_rng(SEEDS["unseen"])
    drawn = rng.random(len(truth))
    going_with, alone = drawn < np.where(truth, Shortcut.with_finding, Shortcut.without), rng.random(len(truth)) < 0.5
    logits = units @ weight.T + bias
    biased = np.where(going_with, logits[1, :, COLUMN], logits[0, :, COLUMN])
    threshold = best_f1(biased, truth)

    def fair(values: NDArray[np.float64], column: int) -> float:
        return auc(np.where(alone, values[1, :, column], values[0, :, column]), present[:, column])

    change = (logits[1] - logits[0])[~truth]
    other = max(REST, key=lambda k: abs(change[:, k].mean()))
    over = logits[:, :, COLUMN] > threshold
    print(f"\n{name}")
    print(f"  {FINDING}, area under the curve: arrow goes with it {auc(biased, truth):.3f}", end="")
    print(f", arrow independent {fair(logits, COLUMN):.3f}, no arrow {auc(logits[0, :, COLUMN], truth):.3f}")
    print(f"  other outputs, mean area, arrow independent: {np.mean([fair(logits, k) for k in REST]):.3f}")
    print(f"  change by the arrow, films without {FINDING}: {change[:, COLUMN].mean():+.2f}", end="")
    print(f" (standard deviation {change[:, COLUMN].std():.2f}); of the others at most", end="")
    print(f" {change[:, other].mean():+.2f} ({OUTPUTS[other]})")
    print(f"  called {FINDING} above {threshold:+.2f} (best F1 where the arrow goes with it):")
    for label, rows in (("with the finding", truth), ("without the finding", ~truth)):
        print(f"    films {label}: {over[0, rows].mean():.1%} without arrow, {over[1, rows].mean():.1%} with arrow")
    shift = (units[1] - units[0])[~truth].mean(axis=0) * weight[COLUMN]
    order = np.argsort(-np.abs(shift))
    print(f"  units by their part of the change: {', '.join(f'{u} ({shift[u]:+.2f})' for u in order[:6])}")
    print(
        f"  {'units fixed':>13}{'their share':>13}{'change left':>13}{'area before':>13}{'after':>8}{'worst other':>13}"
    )
    for count in (1, 3, 5, 10):
        fixed = units.copy()
        fixed[:, :, order[:count]] = units[0][:, order[:count]].mean(axis=0)
        after = fixed @ weight.T + bias
        left = (after[1] - after[0])[~truth, COLUMN].mean()
        worst = min(fair(after, k) - fair(logits, k) for k in REST)
        share = f"{shift[order[:count]].sum() / shift.sum():.0%}" if abs(shift.sum()) > 0.1 else "-"
        print(f"  {count:13d}{share:>13}{left:+13.2f}{fair(logits, COLUMN):13.3f}", end="")
        print(f"{fair(after, COLUMN):8.3f}{worst:+13.3f}")


def evaluate(args: argparse.Namespace) -> None:
    """Measure both targets on films that neither has seen."""
    films, present = draw_pairs(SEEDS["unseen"], args.unseen, 0.0, args.cache)
    print(f"{args.unseen} films, {present[:, COLUMN].sum()} with {FINDING}, each without and with the arrow")
    net = create()
    report("phantom", net, films, present)
    load_packed(net, args.out / "target.safetensors", args.out / "shortcut.safetensors")
    report("phantom:shortcut", net, films, present)


def main() -> None:
    """Train, measure, or both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="+", choices=["train", "evaluate"])
    parser.add_argument("--films", type=int, default=5000, help="films to train on")
    parser.add_argument("--unseen", type=int, default=3000, help="films to measure on")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--cache", type=Path, default=None, help="folder that keeps the drawn films")
    parser.add_argument("--out", type=Path, default=Path("src/mammi/phantoms/weights"), help="folder for the weights")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if "train" in args.steps:
        train(args)
    if "evaluate" in args.steps:
        evaluate(args)


if __name__ == "__main__":
    main()
