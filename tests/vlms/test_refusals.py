"""Every published model: another network's weights, half a file, code in it, no tokenizer; each refused in one line."""

from importlib import import_module
from pathlib import Path

import pytest
from tests import published
from tests.published.refusals import SPOILED, refusal

SOURCES = sorted(path.stem for path in Path(published.__file__).parent.glob("*.py"))
ROWS = [
    row
    for name in SOURCES
    if not name.startswith(("_", "target"))
    for row in getattr(import_module(f"tests.published.{name}"), "ROWS", ())
    if not row.generic
]
#: What must be said, whichever the model.
SAID = {
    "another network's weights": ("",),
    "cut in half": ("truncated", "not a whole", "copy it again", "download"),
    "holds code": ("could run code", "or not what their name says"),  # a library opens safetensors only
    "no tokenizer": ("okeni", "vocab", "incomplete"),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("how", SPOILED)
def test_a_spoiled_checkpoint_is_refused_in_one_line(row, how, tmp_path, no_network):
    said = refusal(row, tmp_path, how)
    if not said:
        assert row.name.startswith("CheXzero"), "its tokenizer is part of open_clip"
        assert how == "no tokenizer"
        return
    assert said not in ("LOADED", "RAN CODE")
    assert "\n" not in said
    assert len(said) < 700
    assert any(word in said for word in SAID[how]), said
