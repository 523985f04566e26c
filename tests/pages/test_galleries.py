"""Films beside each other."""

import numpy as np

from mammi.pages.galleries import K_PATIENTS, gallery, one_a_patient, ranked, spread_films, withheld_because


def test_the_rule():
    assert K_PATIENTS == 3
    assert [bool(withheld_because(patients)) for patients in range(1, 5)] == [True, True, False, False]
    assert "of 1 patient;" in withheld_because(1)


def test_gallery_counts_patients_not_films(view):
    activation = np.arange(40.0, dtype=np.float32)
    assert gallery(view, [0, 1, 2, 3], activation)["withheld"]
    found = gallery(view, [0, 2, 4], activation, ["a", "b", "c"])
    assert (found["patients"], found["withheld"]) == (3, "")
    assert [film["caption"] for film in found["films"]] == ["a", "b", "c"]
    assert [film["activation"] for film in found["films"]] == [0, 2, 4]
    assert len({film["patient"] for film in found["films"]}) == 3
    assert gallery(view, [], activation) == {"films": [], "patients": 0, "withheld": ""}


def test_ranked():
    assert ranked(np.array([2.0, np.nan, 1.0, 2.0, -np.inf, 0.0])).tolist() == [5, 2, 0, 3]
    assert ranked(np.array([1.0, 1.0, 0.0])).tolist() == [2, 0, 1]
    assert ranked(np.array([np.nan])).tolist() == []


def test_one_film_a_patient(view):
    order = np.arange(40)
    assert one_a_patient(view, order, 3) == [0, 2, 4]
    assert one_a_patient(view, order[::-1], 2, frozenset({19})) == [37, 35]
    assert one_a_patient(view, order[:4], 5, frozenset({0})) == [2]
    assert one_a_patient(view, order[:4], 5, frozenset({0, 1})) == [0, 2]  # nobody else is left
    assert one_a_patient(view, order[:0], 5) == []


def test_spread():
    assert spread_films(np.array([7, 3, 9]), (0.0, 0.5, 1.0)) == [7, 3, 9]
    assert spread_films(np.array([7]), (0.0, 0.5, 1.0)) == [7, 7, 7]
    assert spread_films(np.array([], dtype=np.int64), (0.0,)) == []
