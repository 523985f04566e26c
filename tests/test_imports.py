"""Imports run one way, `import mammi` is light, and the public surface is what it says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mammi

SRC = Path(mammi.__file__).parent
BASE = {"errors", "types", "registry"}
#: What each room may import of ours, besides itself and the three files everything stands on.
MAY_IMPORT = {
    "errors": set(),
    "types": set(),
    "registry": set(),
    "functional": set(),
    "factory_file": set(),
    "weights_file": set(),
    "concepts": {"functional"},
    "data": {"functional"},
    "targets": {"functional", "factory_file", "weights_file"},
    "vlms": {"functional", "factory_file", "weights_file"},
    "capture": {"functional", "data", "targets"},
    "methods": {"functional", "concepts"},
    "metrics": {"functional"},
    "store": {"functional"},
    "phantoms": {"functional", "data"},
    "engine": {"functional", "data", "targets", "vlms", "capture", "store"},
    "arrays": {"functional", "methods"},
    "evidence": {"functional", "methods", "store"},
    "results": {"functional", "data", "methods"},
    "job": {"functional", "concepts", "data", "targets", "vlms", "capture", "methods", "store", "engine"},
    "naming": {
        *("functional", "capture", "engine", "evidence", "job", "methods", "store", "targets", "untrained", "vlms")
    },
    "pipeline": {
        *("functional", "concepts", "data", "targets", "vlms", "capture"),
        *("methods", "store", "engine", "results", "untrained", "job", "naming", "opinions"),
    },
    "opinions": {
        *("concepts", "data", "engine", "evidence", "explain", "functional"),
        *("job", "methods", "results", "store", "untrained", "vlms"),
    },
    "untrained": {"capture", "data", "engine", "store", "targets"},
    "benchmark": {"arrays", "capture", "concepts", "functional", "methods", "phantoms", "store", "targets", "vlms"},
    "explain": {"functional", "data", "targets", "vlms", "capture", "engine", "store"},
    "pages": {"explain", "store", "data", "functional"},
    "reports": {"explain", "pages", "store", "data"},
    "web": {"comparison", "explain", "pages", "store", "data", "functional", "capture", "targets"},
    "comparison": {"functional", "store"},
}
#: The command line stands on top and may import every room; two rooms hand over to the embedded models by name.
FREE = {"cli", "__init__", ""}
EMBEDDED = {("targets", "phantoms"), ("vlms", "phantoms")}


def room_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports name the whole path"
            yield node.module, node.lineno


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: path.relative_to(SRC).as_posix())
def test_imports_run_one_way(path):
    room = room_of(path)
    if room in FREE:
        return
    assert room in MAY_IMPORT, f"room {room!r} has no line in the table above: decide what it may import"
    for module, line in imports(path):
        if not module.startswith("mammi."):
            continue
        other = module.split(".")[1]
        allowed = {room, *BASE, *MAY_IMPORT[room]} | {b for a, b in EMBEDDED if a == room}
        assert other in allowed, f"{path.relative_to(SRC)}:{line}: {room} must not import {other}"


def test_the_table_has_no_rooms_that_are_gone():
    assert set(MAY_IMPORT) <= {room_of(path) for path in SRC.rglob("*.py")}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sorted(sys.modules)))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_mammi_is_light():
    heavy = {"torch", "pandas", "torchvision", "timm", "open_clip", "transformers", "spacy", "fastapi", "duckdb"}
    assert not heavy & loaded_by("import mammi, mammi.cli")


def test_the_main_job_needs_no_model_library():
    heavy = {"torchvision", "timm", "open_clip", "transformers", "spacy", "textblob", "pydicom"}
    assert not heavy & loaded_by("import mammi.pipeline, mammi.arrays, mammi.reports, mammi.vlms, mammi.targets")


def test_every_public_name_can_be_reached():
    assert mammi.__all__ == sorted(mammi.__all__)
    for name in mammi.__all__:
        assert getattr(mammi, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'anotate'"):
        _ = mammi.anotate
