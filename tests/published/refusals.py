"""What is done to a published checkpoint that must then be refused, and what is said of it."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tests.published.vlm_row import Published
from torch import nn

from mammi.errors import MammiError
from mammi.vlms import create_vlm

__all__ = ["SPOILED", "refusal", "spoil"]

WEIGHTS = (".pt", ".pth", ".bin", ".tar", ".safetensors")
#: Vocabularies of every kind; what remains must not make an empty tokenizer.
WORDS = ("vocab.txt", "vocab.json", "tokenizer.json", "merges.txt", "spiece.model", "tokenizer.model")
SPOILED = ("another network's weights", "cut in half", "holds code", "no tokenizer")


class Code:
    """A pickle that makes a file when it is opened the unsafe way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def spoil(folder: Path, how: str) -> bool:
    """Spoil the checkpoint in a folder; return whether there was something to spoil."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    weights = [path for path in files if path.suffix in WEIGHTS]
    if how == "no tokenizer":
        words = [
            path for path in files if path.name in WORDS or "tokenizers" in path.parts or "byte_level" in path.name
        ]
        for path in words:
            path.unlink()
        return bool(words)
    for path in weights:
        if how == "cut in half":
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
        elif how == "holds code":
            torch.save({"model": {"weight": torch.zeros(2)}, "more": Code(folder / "RAN")}, path)
        else:
            torch.manual_seed(0)
            state = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).state_dict()
            save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return bool(weights)


def refusal(published: Published, folder: Path, how: str) -> str:
    """Return what is said of a spoiled tiny checkpoint; ``"LOADED"`` if it loads, ``"RAN CODE"`` if code was run.

    Returns ``""`` where there is nothing to spoil: a tokenizer that is part of a library.
    """
    home = folder / how.replace(" ", "-") / published.repository
    home.mkdir(parents=True)
    spec = published.make(home, "tiny")
    try:
        if not spoil(home, how):
            return ""
        create_vlm(spec)
    except MammiError as error:
        return "RAN CODE" if (home / "RAN").exists() else str(error).replace(str(home), "FOLDER")
    finally:
        ran = (home / "RAN").exists()
        shutil.rmtree(home)
    return "RAN CODE" if ran else "LOADED"
