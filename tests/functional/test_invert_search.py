from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest
import torch

from mammi.functional import invert_search
from mammi.functional.auroc import auroc
from mammi.functional.invert_search import Formula, Term, evaluate, search_formulas


def problem(seed, n_films=15, n_units=3, n_concepts=5, unknown=0.0):
    rng = np.random.default_rng(seed)
    activations = rng.integers(0, 7, size=(n_films, n_units)).astype(np.float32)
    labels = (rng.uniform(size=(n_films, n_concepts)) < 0.4).astype(np.float32)
    labels[rng.uniform(size=labels.shape) < unknown] = np.nan
    return activations, labels


def logic_not(value):
    return None if value is None else not value


def logic(operator, left, right):
    """Kleene's three-valued AND and OR on True, False and None."""
    decides = operator == "OR"  # one True decides an OR, one False an AND
    if left is decides or right is decides:
        return decides
    return None if left is None or right is None else not decides


def exact_auc(column, holds):
    """Return the AUC as a fraction, and how often the formula holds and fails; None where there is no pair."""
    yes = [a for a, h in zip(column, holds, strict=True) if h is True]
    no = [a for a, h in zip(column, holds, strict=True) if h is False]
    if not yes or not no:
        return None, len(yes), len(no)
    won = sum(Fraction(1) if a > b else Fraction(int(a == b), 2) for a, b in product(yes, no))
    return won / (len(yes) * len(no)), len(yes), len(no)


def slow_search(column, labels, length=3, beam=3, low=0.0, high=0.5, limit=None):
    """The beam search of one unit as written, in lists and fractions."""

    def score(terms, holds):
        auc, yes, no = exact_auc(column, holds)
        return None if auc is None or not low <= yes / (yes + no) <= high else (auc, terms, holds)

    def best(ranked):
        kept = []
        for entry in sorted((entry for entry in ranked if entry), key=lambda entry: -entry[0]):
            if len(kept) < beam and entry[2] not in [other[2] for other in kept]:
                kept.append(entry)
        return kept

    atoms = {m: [None if np.isnan(x) else bool(x) for x in y] for m, y in enumerate(labels.T)}
    atoms = {m: holds for m, holds in atoms.items() if exact_auc(column, holds)[0] is not None}
    negations = {m: [logic_not(h) for h in holds] for m, holds in atoms.items()}
    kept = best(
        [score(((("AND"), m, False),), holds) for m, holds in atoms.items()]
        + [score((("AND", m, True),), holds) for m, holds in negations.items()]
    )
    joined = sorted(atoms, key=lambda m: (-abs(2 * exact_auc(column, atoms[m])[0] - 1), m))[:limit]
    for _ in range(length - 1):
        news = []
        for _, terms, holds in kept:
            for operator in ("AND", "OR"):
                for negated, table in ((False, atoms), (True, negations)):
                    for m in sorted(joined):
                        after = [logic(operator, x, y) for x, y in zip(holds, table[m], strict=True)]
                        if after != holds:
                            news.append(score((*terms, (operator, m, negated)), after))
        kept = best(kept + news)
    return kept[0] if kept else None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"length": 1},
        {"length": 4, "beam": 1},
        {"length": 2, "beam": 50},
        {"beam": 4, "min_fraction": 0.2, "max_fraction": 0.9},
        {"limit_search": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("unknown", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_search_equals_the_search_as_written(seed, unknown, options):
    activations, labels = problem(seed, unknown=unknown)
    found = search_formulas(torch.from_numpy(activations), torch.from_numpy(labels), **options)
    names = {"min_fraction": "low", "max_fraction": "high", "limit_search": "limit"}
    for unit, formula in enumerate(found):
        slow = slow_search(activations[:, unit], labels, **{names.get(k, k): v for k, v in options.items()})
        assert tuple((term.operator, term.concept, term.negated) for term in formula.terms) == slow[1]
        assert formula.auc == float(slow[0])
        assert (formula.n_present, formula.n_absent) == (slow[2].count(True), slow[2].count(False))


@pytest.mark.parametrize("unknown", [0.0, 0.25])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_returned_is_what_was_scored(seed, unknown):
    activations, labels = (torch.from_numpy(x) for x in problem(seed, n_films=40, n_concepts=9, unknown=unknown))
    for unit, formula in enumerate(search_formulas(activations, labels, length=4)):
        present, absent = evaluate(formula.terms, labels)
        truth = torch.where(present, 1.0, torch.where(absent, 0.0, torch.nan))[:, None]
        assert auroc(activations[:, [unit]], truth).item() == formula.auc
        assert (int(present.sum()), int(absent.sum())) == (formula.n_present, formula.n_absent)
        assert 0 < formula.n_present <= formula.n_absent


@pytest.mark.parametrize("seed", range(5))
def test_counting_by_products_equals_counting_film_by_film(seed, monkeypatch):
    activations, labels = (torch.from_numpy(x) for x in problem(seed, n_films=50, n_units=6, n_concepts=11))
    quick = search_formulas(activations, labels)
    monkeypatch.setattr(invert_search._Table, "_count_complete", invert_search._Table._count_partial)
    assert search_formulas(activations, labels) == quick


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_best_of_all_pairs(seed):
    activations, labels = problem(seed)
    found = search_formulas(torch.from_numpy(activations), torch.from_numpy(labels), length=2, beam=10)
    atoms = [row for y in labels.T for row in (list(y == 1), list(y == 0))]
    inside = [atom for atom in atoms if 0 < sum(atom) <= 0.5 * len(atom)]
    # Only formulas between the fractions are joined further, with any atom at all.
    pairs = [
        [logic(o, bool(x), bool(y)) for x, y in zip(*p, strict=True)]
        for o in ("AND", "OR")
        for p in product(inside, atoms)
    ]
    for unit, formula in enumerate(found):
        scored = [exact_auc(activations[:, unit], [bool(h) for h in holds]) for holds in [*inside, *pairs]]
        assert formula.auc == float(max(a for a, yes, no in scored if a is not None and yes <= no))


def planted(rule, seed, n_films=300, n_concepts=12):
    """Films, concepts by chance, and a unit that is strong where the rule holds, with noise below the step."""
    rng = np.random.default_rng(seed)
    labels = (rng.uniform(size=(n_films, n_concepts)) < 0.35).astype(np.float32)
    unit = rule(labels == 1) + rng.uniform(0, 0.9, size=n_films)
    return torch.from_numpy(unit[:, None]), torch.from_numpy(labels)


TERMS = ("{2}", "NOT {7}", "{3}")


@pytest.mark.parametrize(
    ("rule", "texts"),
    [
        (lambda y: y[:, 4], {"{4}"}),
        (lambda y: y[:, 4] & y[:, 9], {"{4} AND {9}", "{9} AND {4}"}),
        (lambda y: y[:, 2] & ~y[:, 7], {"{2} AND NOT {7}"}),
        (lambda y: y[:, 2] & ~y[:, 7] & y[:, 3], {f"{a} AND {b} AND {c}" for a, b, c in permutations(TERMS)}),
        (lambda y: (y[:, 1] & y[:, 3]) | y[:, 5], {"({1} AND {3}) OR {5}", "({3} AND {1}) OR {5}"}),
    ],
    ids=["one", "and", "and-not", "and-and-not", "and-or"],
)
@pytest.mark.parametrize("seed", range(3))
def test_planted_formulas_are_found(rule, texts, seed):
    (formula,) = search_formulas(*planted(rule, seed), beam=100)
    assert formula.auc == 1
    assert str(formula) in texts


def test_planted_or_and_not_are_found():
    (formula,) = search_formulas(*planted(lambda y: y[:, 2] | y[:, 8], 1), max_fraction=0.9)
    assert str(formula) in {"{2} OR {8}", "{8} OR {2}"}
    activations, labels = planted(lambda y: ~y[:, 6], 2)
    (formula,) = search_formulas(activations, labels, max_fraction=0.9)
    assert str(formula) == "NOT {6}"
    (bounded,) = search_formulas(activations, labels)  # the negation holds on two films of three: too many
    assert bounded.n_present <= bounded.n_absent


def test_order_of_films_and_company_of_units_change_nothing(monkeypatch):
    activations, labels = (torch.from_numpy(x) for x in problem(8, n_films=60, n_units=7, n_concepts=10))
    whole = search_formulas(activations, labels)
    order = torch.from_numpy(np.random.default_rng(2).permutation(60))
    assert search_formulas(activations[order], labels[order]) == whole
    assert search_formulas(activations[:, [5]], labels) == whole[5:6]
    monkeypatch.setattr(invert_search, "BLOCK", 1)
    assert search_formulas(activations, labels) == whole


def test_order_of_concepts_renames_them():
    activations, labels = (torch.from_numpy(x) for x in problem(9, n_films=200, n_units=4, n_concepts=8))
    activations = activations + torch.from_numpy(np.random.default_rng(4).uniform(0, 0.5, size=activations.shape))
    order = torch.from_numpy(np.random.default_rng(3).permutation(8))
    for plain, moved in zip(
        search_formulas(activations, labels), search_formulas(activations, labels[:, order]), strict=True
    ):
        assert moved.auc == plain.auc
        assert {(int(order[t.concept]), t.negated) for t in moved.terms} == {
            (t.concept, t.negated) for t in plain.terms
        }


def test_concepts_that_say_nothing_are_left_out():
    nan = float("nan")
    activations = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    constant, unknown, twice = [1.0] * 4, [nan] * 4, [0.0, 0.0, 0.0, 1.0]
    labels = torch.tensor([constant, unknown, twice, twice]).T
    assert [str(formula) for formula in search_formulas(activations, labels)] == ["{2}"]
    assert search_formulas(activations, labels[:, :2]) == [None]
    assert search_formulas(activations, labels, max_fraction=0.2) == [None]
    assert search_formulas(activations[:, :0], labels) == []


def test_unknown_is_decided_by_what_is_known():
    nan = float("nan")
    labels = torch.tensor([[1, nan], [0, nan], [nan, nan], [nan, 0], [nan, 1]])
    both = evaluate((Term("AND", 0, False), Term("AND", 1, False)), labels)
    assert [side.tolist() for side in both] == [[False] * 5, [False, True, False, True, False]]
    either = evaluate((Term("AND", 0, False), Term("OR", 1, True)), labels)
    assert [side.tolist() for side in either] == [[True, False, False, True, False], [False] * 5]


def test_text_has_parentheses_where_the_operator_changes():
    a, b, c, d = (Term(o, m, n) for o, m, n in (("AND", 1, True), ("OR", 2, False), ("OR", 3, True), ("AND", 4, False)))
    assert str(Formula((a, b, c), 1.0, 1, 1)) == "NOT {1} OR {2} OR NOT {3}"
    assert str(Formula((a, b, c, d), 1.0, 1, 1)) == "(NOT {1} OR {2} OR NOT {3}) AND {4}"
    assert str(Formula((a, d, b, d), 1.0, 1, 1)) == "((NOT {1} AND {4}) OR {2}) AND {4}"
