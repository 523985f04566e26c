"""``mammi opinion``: what other annotators, and other wordings, say of the units of a run."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mammi.cli.app import app, command, table
from mammi.cli.console import err, out, progress_bars
from mammi.errors import InputError

if TYPE_CHECKING:
    from mammi.store.opinions import Opinions, UnitOpinion

__all__ = ["opinion"]


@app.command()
@command
def opinion(
    run: Annotated[Path, typer.Argument(help="A run folder that 'mammi annotate' wrote.")],
    vlm: Annotated[
        list[str] | None,
        typer.Option(help="Another annotator, as for 'mammi annotate'; may be given several times."),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(help="Another wording, {} standing for the concept; may be given several times."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Disagreements to print; 0 for all.")] = 10,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as JSON.")] = None,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="For commercial use: refuse an annotator whose licence forbids it.")
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Films per call of a model.")] = 16,
    workers: Annotated[int, typer.Option(help="Processes, each with models of its own; changes no result.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")] = "cpu",
) -> None:
    """Ask for second opinions on a run, or print those it has: who agrees, on what, and what chance would give."""
    from mammi.engine import create_engine
    from mammi.explain.models import load_vlm
    from mammi.opinions import ask_second_opinions
    from mammi.store import open_run
    from mammi.store.files import write_json
    from mammi.vlms import create_vlm

    opened = open_run(run)
    if vlm or template or opened.opinions is None:
        others = [create_vlm(spec, device=device, commercial=commercial) for spec in vlm or ()]
        with progress_bars() as progress:
            opened = ask_second_opinions(
                opened,
                others,
                templates=template or (),
                naming=load_vlm(opened, device=device),
                batch_size=batch_size,
                engine=create_engine(workers=workers),
                progress=progress,
            )
    found = opened.opinions
    if found is None:
        raise InputError(f"{run} holds no second opinions: give --vlm or --template")
    if json_file is not None:
        write_json(json_file, {name: value for name, value in found.note.items() if name not in ("key", "same")})
    _show_head(found)
    _show_agreement(found)
    _show_scored(found)
    _show_disagreements(found, limit)


def _show_head(found: "Opinions") -> None:
    for number, one in enumerate(found.note["vlms"]):
        did = "named the units" if number == 0 else "gives a second opinion"
        out.print(f"{_letter(number)}: {one['label']} {did}; licence: {one['licence']}", markup=False, soft_wrap=True)
        if one["shared_corpora"]:
            shared = ", ".join(one["shared_corpora"])
            err.print(f"note: {one['label']} saw {shared}, as the target did", markup=False, soft_wrap=True)
    wordings = list(dict.fromkeys(one["template"] for one in found.note["asked"] if one["template"] is not None))
    out.print(f"asked as: {'; '.join(map(repr, wordings))}", markup=False, soft_wrap=True)


def _show_agreement(found: "Opinions") -> None:
    rows = table(
        *("layer", "over", "units", "same", "chance", "kept", "chance", "alpha", "95 %"),
        right=("units", "same", "chance", "kept", "alpha"),
    )
    for one in found.note["agreement"]:
        over = (
            f"{', '.join(map(_letter, one['vlms']))}"
            if one["over"] == "annotators"
            else f"wordings, {_letter(one['vlms'][0])}"
        )
        rows.add_row(
            *(escape(one["layer"]), over, f"{one['units']:,}", _percent(one["same"])),
            *(f"{_percent(one['same_chance'])} ({_percent(one['same_chance_high'])})", _decimal(one["jaccard"])),
            *(_decimal(one["jaccard_chance"]), _decimal(one["alpha"])),
            "" if one["low"] is None else f"{one['low']:.2f} to {one['high']:.2f}",
        )
    out.print(
        "\nsame: pairs of opinions with the same first concept; kept: Jaccard of what they keep; chance: with the units "
        "dealt anew, mean (95 % of deals below); alpha: Krippendorff's",
        markup=False,
        soft_wrap=True,
    )
    out.print(rows)
    rows = table(
        *("layer", "units", "consensus", "all the same", "differ", "no concept at all"),
        right=("units", "consensus", "all the same", "differ", "no concept at all"),
    )
    for one in found.note["consensus"]:
        counts = (one[name] for name in ("units", "consensus", "all_same", "differ", "silent"))
        rows.add_row(escape(one["layer"]), *(f"{count:,}" for count in counts))
    out.print(
        f"\nconsensus: a concept that more than half of {found.note['n_voters']} opinions keep",
        markup=False,
        soft_wrap=True,
    )
    out.print(rows)


def _show_scored(found: "Opinions") -> None:
    if not found.note["scored"]:
        return
    rows = table(
        *("layer", "named by", "scored by", "units", "ranked first", "median rank", "mean z", "place"),
        right=("units", "ranked first", "median rank", "mean z", "place"),
    )
    for one in found.note["scored"]:
        rows.add_row(
            *(escape(one["layer"]), _letter(one["namer"]), _letter(one["scorer"])),
            *(f"{one['units']:,}", _percent(one["first"]), f"{one['median_rank']:,.0f}"),
            *(_decimal(one["mean_z"]), f"{_decimal(one['mean_place'])} ({_decimal(one['place_chance'])})"),
        )
    out.print(
        "\none names, another scores: the first concept among all; place: share of the others that score less (the same "
        "with the names dealt to other units)",
        markup=False,
        soft_wrap=True,
    )
    out.print(rows)


def _show_disagreements(found: "Opinions", limit: int) -> None:
    differ = found.disagreements()
    if not len(differ):
        return
    shown = differ.head(limit or len(differ))
    count = (
        f"{len(differ):,}" if len(shown) == len(differ) else f"{len(shown):,} of {len(differ):,}; --limit 0 shows all"
    )
    out.print(f"\nopinions differ ({count})", markup=False)
    rows = table("unit", "votes", "first names", "consensus", right=("votes",))
    for row in shown.to_dict("records"):
        said = found.of_unit(str(row["layer"]), int(row["unit"]))
        cells = (f"{row['layer']}:{row['unit']}", f"{row['votes']} of {found.note['n_voters']}", _firsts(said, found))
        rows.add_row(*map(escape, (*cells, row["consensus"] or "none")))
    out.print(rows)


def _firsts(said: "list[UnitOpinion]", found: "Opinions") -> str:
    """Return the first names that the votes give, the commonest first."""
    votes = [one for one, asked in zip(said, found.note["asked"], strict=True) if asked["template"] is not None]
    counts = Counter(one.names[0] if one.names else "no concept" for one in votes)
    return "; ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.most_common())


def _letter(number: int) -> str:
    """Return what an annotator is called in a narrow table."""
    return chr(ord("A") + number) if number < 26 else f"no. {number + 1}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _decimal(value: Any) -> str:  # noqa: ANN401 - a number or nothing
    return "-" if value is None else f"{value:.2f}"
