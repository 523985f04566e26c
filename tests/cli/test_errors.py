"""A user's mistake is one line on standard error that says what, where and what to do; exit code 2; nothing written."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mammi.cli import app

MODEL = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(2, 3)
    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3)))
"""


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "films").mkdir()
    for i in range(3):
        Image.fromarray(np.full((8, 8), 60 * i, np.uint8)).save(tmp_path / "films" / f"{i}.png")
    (tmp_path / "concepts.txt").write_text("nodule\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "labels.csv").write_text("name,finding\n0,1\n")
    (tmp_path / "no_term.csv").write_text("word,count\nnodule,3\n")
    (tmp_path / "blank.txt").write_text("\n\n")
    torch.save({"other.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with (tmp_path / "bomb.pt").open("wb") as file:
        pickle.dump(Bomb(tmp_path / "exploded"), file)
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 20)
    (tmp_path / "file").write_text("")
    (tmp_path / "torn_films").mkdir()
    (tmp_path / "torn_films" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path


ANNOTATE = {
    "--target": "model.py:Net",
    "--layers": "head",
    "--images": "films",
    "--concepts": "concepts.txt",
    "--vlm": "phantom",
    "--out": "run",
}


def annotate(**changes: str) -> list[str]:
    options = ANNOTATE | {f"--{name}": value for name, value in changes.items()}
    return ["annotate", *(part for pair in options.items() for part in pair)]


CASES = {
    "wrong layer": (annotate(layers="haed"), ["'haed'", "Did you mean 'head'?", "mammi layers"]),
    "wrong weights": (annotate(weights="other.pt"), ["other.pt", "conv.weight", "other.weight"]),
    "pickle with code": (annotate(weights="bomb.pt"), ["bomb.pt", "was not opened", "state_dict()"]),
    "torn weights": (annotate(weights="torn.safetensors"), ["torn.safetensors"]),
    "no weights there": (annotate(weights="gone.pt"), ["gone.pt"]),
    "empty folder": (annotate(images="empty"), ["empty", "no image"]),
    "no folder": (annotate(images="gone"), ["gone"]),
    "CSV without its column": (annotate(labels="labels.csv"), ["labels.csv", "name", "finding"]),
    "concepts without term": (annotate(concepts="no_term.csv"), ["no_term.csv", "'term'", "'word', 'count'"]),
    "concepts all blank": (annotate(concepts="blank.txt"), ["blank.txt"]),
    "no concepts there": (annotate(concepts="gone.csv"), ["gone.csv"]),
    "unknown VLM": (annotate(vlm="fantom"), ["'fantom'", "Did you mean 'phantom'?", "mammi vlms"]),
    "VLM file without factory": (annotate(vlm="model.py:create"), ["create", "model.py"]),
    "unknown target": (annotate(target="torchvison:resnet18"), ["torchvison", "Did you mean 'torchvision'?"]),
    "no such network": (annotate(target="torchvision:resnet19", weights="random"), ["resnet19", "resnet1"]),
    "target file gone": (annotate(target="gone.py:Net"), ["gone.py"]),
    "target name wrong": (annotate(target="model.py:Nett"), ["Nett", "Net"]),
    "target refuses the films": (annotate(channels="3"), ["3", "channels"]),
    "unwritable output": (annotate(out="file/run"), ["file/run", "Choose another --out"]),
    "output is a file": (annotate(out="file"), ["file is a file"]),
    "output holds other things": (annotate(out="films"), ["films is not empty"]),
    "unknown method": (annotate(method="mami"), ["'mami'", "Did you mean 'mammi'?", "mammi methods"]),
    "unknown option": ([*annotate(), "-O", "treshold=1"], ["no option 'treshold'"]),
    "option of another type": ([*annotate(), "-O", "top_k=many"], ["top_k", "'many'"]),
    "option without value": ([*annotate(), "-O", "top_k"], ["NAME=VALUE"]),
    "size no number": (annotate(size="nan"), ["--size", "'nan'"]),
    "size in parts of a pixel": (annotate(size="16.7"), ["--size", "'16.7'"]),
    "frame before the first": (annotate(frame="-1"), ["counts from 0, got -1"]),
    "too many examples": ([*annotate(), "-O", "max_examples=99999999999999999999"], ["'max_examples'", "whole number"]),
    "a count that is a word": (
        [*annotate(), "-O", "max_examples=abc"],
        ["max_examples must be a whole number, got 'abc'"],
    ),
    "wrong size": (annotate(size="big"), ["--size", "'big'"]),
    "unreadable films": (annotate(images="torn_films", out="run"), ["1 of 1 films cannot be read", "--on-error skip"]),
    "show nothing": (["show", "empty"], ["empty holds no run", "mammi annotate"]),
    "report nothing": (["report", "empty", "-o", "page.html"], ["empty holds no run"]),
    "films to an unwritable place": (["phantoms", "write", "file/x", "--films", "1"], ["cannot read or write file/x"]),
    "demo in an unwritable place": (["demo", "file/x", "--films", "1"], ["cannot read or write file/x"]),
    "no reports": (["concepts", "build", "gone.jsonl", "-o", "out.csv"], ["gone.jsonl"]),
    "wrong device": (["layers", "--target", "model.py:Net", "--device", "gpu"], ["gpu", "cpu"]),
}


@pytest.mark.parametrize("case", CASES)
def test_mistakes(parts, case):
    arguments, words = CASES[case]
    before = {path: path.stat().st_mtime_ns for path in parts.rglob("*") if path.is_file()}
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("mammi: error: ")]
    assert len(errors) == 1, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr, f"{word!r} is not in: {result.stderr}"
    after = {
        path: path.stat().st_mtime_ns for path in parts.rglob("*") if path.is_file() and "__pycache__" not in str(path)
    }
    if case != "unreadable films":  # what could be recorded of the others stays
        assert after == before
    assert not (parts / "exploded").exists()


def test_a_concept_file_with_blank_and_duplicate_lines_is_read_with_a_note(parts):
    (parts / "concepts.txt").write_text("nodule\n\nmass\nNodule\n\n")
    result = CliRunner().invoke(app, annotate(layers="haed"))
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert "note: 2 blank lines dropped" in notes
    assert "note: 1 repeated line dropped: 'Nodule'" in notes


@pytest.mark.parametrize("arguments", [["annotate"], ["nothing"], ["layers", "--target"], ["show"]])
def test_wrong_usage_exits_with_2(arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_an_interrupt_is_one_line(parts, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("mammi.pipeline.annotate", interrupted)
    result = CliRunner().invoke(app, annotate())
    assert result.exit_code == 130
    assert "mammi: interrupted; what is recorded stays" in result.stderr
