"""The names of a real DenseNet-121's outputs, judged as strings and by the built-in ontology.

Units, films and annotator are those of ``recorded_densenet.py``: 14 recorded outputs for 578 NIH films. Each method's
names are compared with the output's own finding: as strings (case, plurals and spelling apart), and by concept, with the
near ones apart.
Three concept sets: the words of the reports with the 14 true names, PadChest's 193 labels, and VinDr-CXR's 28.

    python benchmarks/ontology_matching.py [DATA]      # DATA: the folder with nih/, densenet121_nih_outputs/, ...
"""

import sys
from pathlib import Path

import torch
from recorded_densenet import TEMPLATE, TRUTH, recorded

import mammi
from mammi.concepts import ConceptSet
from mammi.concepts.chest import chest_ontology
from mammi.concepts.words import word_form
from mammi.metrics import LabelAgreement, NamingAccuracy, TruthRanking

METHODS = ("mammi", "calibrated", "clip-dissect", "correlation")
GRADES = ("same", "synonym", "broader", "narrower", "related", "other", "no concept")


def as_strings(truth: str, name: str) -> bool:
    """Tell whether two names are one word but for case, number and spelling."""
    return word_form(truth) == word_form(name)


def main() -> None:
    """Print one table a concept set, one row a method."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "shared" / "data"
    logits, films, texts, bare, words = recorded(data)
    vlm = mammi.create_vlm(f"{data / 'cxr_mini_vlm' / 'vlm.py'}:create").model
    chest = chest_ontology()
    sets = {"words of the reports": (words, texts)}
    for name in ("padchest", "vindr-cxr"):
        terms = [term.lower() for term in ConceptSet.read(name).terms]
        sets[name] = (terms, vlm.encode_texts([TEMPLATE.format(term) for term in terms]).numpy())
    for name, (terms, rows) in sets.items():
        known = sum(bool(chest.find(term)) for term in terms)
        judges = {"strings": as_strings, "concept": chest.names}
        truths = {
            how: [{m for m, t in enumerate(terms) if f(truth, t)} for truth in TRUTH] for how, f in judges.items()
        }
        ceilings = []
        for how, means in judges.items():
            agreement = LabelAgreement(terms, names=means)
            for truth in TRUTH:
                agreement.update(truth, [])
            ceilings.append(f"{agreement.compute()['ceiling']:.2f} ({how})")
        print(f"\n{name}: {len(terms)} concepts, {known} in the ontology; truth in the set: {', '.join(ceilings)}\n")
        print("| method | first, strings | first, concept | hit@10, strings | hit@10, concept |", end="")
        print("".join(f" {grade} |" for grade in (*GRADES, "similarity")))
        print("|" + "---|" * (6 + len(GRADES)))
        for method in METHODS:
            found = mammi.annotate_arrays(logits, films, rows, bare[0], method=method)
            names = [[terms[m] for m in kept] for kept in found.concepts]
            cells, ranks = [], []
            for how, judge in judges.items():
                accuracy = NamingAccuracy(judge, relate=chest.relate, similarity=chest.similarity)
                ranking = TruthRanking()
                there = [unit for unit, right in enumerate(truths[how]) if right]  # the others can only miss
                ranking.update(torch.as_tensor(found.scores[there]), [truths[how][unit] for unit in there])
                for truth, kept in zip(TRUTH, names, strict=True):
                    accuracy.update(truth, kept)
                numbers = accuracy.compute()
                cells.append(f"{numbers['first']:.2f}")
                ranks.append(f"{ranking.compute((10,))['hit@10'] * len(there) / len(TRUTH):.2f}")
            grades = [f"{numbers[f'first: {grade}'] * len(TRUTH):.0f}" for grade in GRADES]
            print(f"| {' | '.join([method, *cells, *ranks, *grades])} | {numbers['first: similarity']:.2f} |")
            print(
                "   ",
                "; ".join(f"{t}: {n[0] if n else '-'}" for t, n in zip(TRUTH, names, strict=True)),
                file=sys.stderr,
            )


if __name__ == "__main__":
    main()
