"""The door: a complete run in, the same run with second opinions out; resumable, and nothing of the run is touched."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from mammi.concepts.same import same_concepts
from mammi.engine import Engine, LocalEngine, Precisions
from mammi.errors import InputError, RunError, StaleRunError
from mammi.explain.models import load_vlm
from mammi.functional.fingerprint import fingerprint_value
from mammi.job import vlm_note
from mammi.methods import create_method
from mammi.opinions.asking import Asked, Question, Witness, ask, open_asked, refuse_opinions
from mammi.opinions.comparing import Names, Said, agreement, scored_summary, scored_table, unit_table
from mammi.store.files import locked, remove_half_written, write_json
from mammi.store.opinions import Opinions
from mammi.store.run import Run, open_run
from mammi.store.tables import write_parquet
from mammi.types import Progress, no_progress
from mammi.vlms import Annotator
from mammi.vlms.corpora import common_corpora

__all__ = ["ask_second_opinions"]

#: Version of the tables; another one is made anew.
VERSION = 1


def ask_second_opinions(
    run: Run | str | Path,
    vlms: Sequence[Annotator] = (),
    *,
    templates: Sequence[str] = (),
    naming: Annotator | None = None,
    batch_size: int = 16,
    engine: Engine | None = None,
    progress: Progress = no_progress,
) -> Run:
    """Ask other annotators, and in other wordings, what the units of a run respond to.

    The units, their examples and the method stay those of the run, and so do its names: only what they are put in words
    by changes. Each annotator is asked as the units were named, and in each template alone. What was asked before is
    replaced; what was encoded before is not encoded again, so that a call that was cut off goes on.

    Args:
        run: a complete run.
        vlms: other annotators, from `create_vlm`.
        templates: wordings to ask in beside those of the run, with ``{}`` for the concept.
        naming: the annotator that named the units; None loads it as the run's private folder says.
        batch_size: films per call of a model.
        engine: who does the work, from `create_engine`; None for this process. Changes no result.
        progress: told of every step.

    Returns:
        The run, with `mammi.Run.opinions`.

    Raises:
        InputError: if there is nothing to compare, the method names units without an annotator or by formulas, two
            annotators are the same, or a template is none.
        RunError: if a part of the run is gone; StaleRunError: if a film, the concept set or the naming annotator is not
            that of the run; BusyRunError: if another process is working in the folder.
        ImageError: if a film cannot be read any more.
        VlmError: if an annotator fails. The run and its earlier opinions stay as they are.
    """
    run = run if isinstance(run, Run) else open_run(run)
    identity = run.manifest["identity"]
    method = identity["method"]
    recipe = create_method(method["name"], **method["options"])
    own = [identity["template"]] if isinstance(identity["template"], str) else list(identity["template"])
    wordings = list(dict.fromkeys([*own, *templates]))
    for text in wordings:
        if text.count("{}") != 1:
            raise InputError(f"'templates' must hold {{}} once each, where the concept goes, got {text!r}")
    refuse_opinions(method["name"], recipe, vlms)
    if not vlms and len(wordings) < 2:
        raise InputError(
            f"{run.folder} was named by one annotator in one wording, and nothing else is asked: give another "
            "annotator (--vlm) or another wording (--template)"
        )
    naming = load_vlm(run) if naming is None else naming
    if naming.fingerprint != identity["vlm"]:
        raise StaleRunError(f"{Path(naming.name).name} is not the annotator that named the units of {run.folder}")
    everyone = [naming, *vlms]
    refuse_opinions(method["name"], recipe, everyone)
    key = fingerprint_value([VERSION, identity, [vlm.fingerprint for vlm in everyone], wordings])
    with locked(run.folder):
        run = open_run(run.folder)
        if run.opinions is not None and run.opinions.note["key"] == key and _readable(run.opinions):
            return run
        remove_half_written(run.folder, ("opinions",))
        asked = open_asked(run)
        # As the units were named: in all templates of the run, averaged; that is one of the wordings if there is one only.
        as_run = None if len(own) > 1 else own[0]
        questions = list(dict.fromkeys([as_run, *wordings]))
        precision = Precisions.from_dict(run.manifest.get("precision")).annotator.precision
        answers: dict[Question, pd.DataFrame] = {}
        scores: list[dict[str, Tensor]] = []
        for number, vlm in enumerate(everyone):
            used = vlm.at(precision) if number == 0 else vlm
            witness = Witness(asked, used, number == 0, batch_size, engine or LocalEngine(), progress)
            said, table = ask(witness, number, questions, with_scores=bool(vlms))
            answers |= said
            scores.append(table)
        answers[Question(0, as_run)] = run.annotations  # to the letter
        return _write(asked, key, everyone, answers, scores, as_run, wordings)


def _readable(opinions: Opinions) -> bool:
    try:
        return len(opinions.table) >= 0 and len(opinions.units) >= 0 and len(opinions.scored) >= 0
    except RunError:
        return False


def _labels(vlms: Sequence[Annotator]) -> list[str]:
    """Return what each annotator is called: its title or file, numbered where two are called the same."""
    names = [vlm.card.title or Path(vlm.name).name for vlm in vlms]
    counts, seen = Counter(names), Counter[str]()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(f"{name} ({seen[name]})" if counts[name] > 1 else name)
    return labels


def _write(
    asked: Asked,
    key: str,
    vlms: Sequence[Annotator],
    answers: dict[Question, pd.DataFrame],
    scores: Sequence[dict[str, Tensor]],
    as_run: str | None,
    wordings: Sequence[str],
) -> Run:
    """Compare the opinions, write their tables, and then the note that says they are there."""
    run, terms = asked.run, asked.concepts.terms
    same = same_concepts(asked.concepts)
    names, labels = Names.of(terms, same), _labels(vlms)
    agreements: list[dict[str, Any]] = []
    consensus: list[dict[str, Any]] = []
    summary: list[dict[str, Any]] = []
    units, scored = [], []
    for layer in run.layers:
        n_units = len(run.activations(layer))
        said = {
            question: Said.of(table[table["layer"] == layer], n_units, names) for question, table in answers.items()
        }
        annotators = [said[Question(number, as_run)] for number in range(len(vlms))]
        by_vlm = [[said[Question(number, text)] for text in wordings] for number in range(len(vlms))]
        everyone = range(len(vlms))
        groups: list[tuple[str, list[int], list[Said]]] = [("annotators", list(everyone), annotators)]
        if len(vlms) > 2:
            groups += [("annotators", [i, j], [annotators[i], annotators[j]]) for i, j in combinations(everyone, 2)]
        groups += [("wordings", [number], by_vlm[number]) for number in everyone]
        agreements += [
            {"layer": layer, "over": over, "vlms": who, "n_units": n_units, "opinions": len(group), **agreement(group)}
            for over, who, group in groups
            if len(group) > 1
        ]
        voters = [opinion for opinions in by_vlm for opinion in opinions]
        table = unit_table(layer, voters, annotators, by_vlm[0], names)
        units.append(table)
        consensus.append(
            {
                "layer": layer,
                "units": n_units,
                "consensus": int((table["consensus"] != "").sum()),
                "all_same": int((~table["differs"] & (table["naming"] > 0)).sum()),
                "silent": int((table["naming"] == 0).sum()),
                "differ": int(table["differs"].sum()),
            }
        )
        if len(vlms) > 1:
            of_layer = [table[layer] for table in scores]
            scored.append(scored_table(layer, annotators, of_layer, names))
            summary += scored_summary(layer, scored[-1], of_layer, names)
    known = run.manifest["target"].get("training_corpora", [])
    asked_of = [
        {
            "vlm": question.vlm,
            "template": question.template,
            "label": labels[question.vlm]
            + (f", {question.template!r}" if question.template is not None else ", all wordings averaged"),
        }
        for question in answers
    ]
    note = {
        "key": key,
        "vlms": [
            {
                **vlm_note(vlm, common_corpora(vlm.card.training_corpora, known)),
                "label": label,
                "content": vlm.fingerprint,
            }
            for vlm, label in zip(vlms, labels, strict=True)
        ],
        "asked": asked_of,
        "n_voters": len(vlms) * len(wordings),
        # Other names of one thing, by the name it is counted under.
        "same": {terms[row]: terms[first] for row, first in enumerate(same) if row != first},
        "agreement": agreements,
        "consensus": consensus,
        "scored": summary,
    }
    folder = run.folder / "opinions"
    manifest = {name: value for name, value in run.manifest.items() if name != "opinions"}
    write_json(run.folder / "manifest.json", manifest)  # no note while the tables change
    columns = ["layer", "unit", "rank", "concept", "score", "kept", "effect"]
    opinions = pd.concat(
        [table[columns].assign(opinion=number) for number, table in enumerate(answers.values())], ignore_index=True
    )
    write_parquet(folder / "opinions.parquet", opinions)
    write_parquet(folder / "units.parquet", pd.concat(units, ignore_index=True))
    if scored:
        write_parquet(folder / "scored.parquet", pd.concat(scored, ignore_index=True))
    else:
        (folder / "scored.parquet").unlink(missing_ok=True)
    write_json(run.folder / "manifest.json", {**manifest, "opinions": note})
    return open_run(run.folder)
