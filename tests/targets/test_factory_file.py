import sys

import pytest

from mammi.errors import InputError, TargetError
from mammi.factory_file import call_factory, load_factory


def test_a_file_is_imported_under_a_private_name_and_leaves_the_path_alone(tmp_path):
    (tmp_path / "neighbour_of_net.py").write_text("VALUE = 7\n")
    (tmp_path / "torch.py").write_text("from neighbour_of_net import VALUE\ndef create():\n    return VALUE\n")
    before = list(sys.path)
    import torch

    factory, module = load_factory(f"{tmp_path}/torch.py:create")
    assert call_factory(factory, f"{tmp_path}/torch.py:create") == 7
    assert sys.path == before
    assert sys.modules["torch"] is torch
    assert module.__name__ != "torch"


def test_a_path_that_the_file_adds_itself_stays(tmp_path):
    (tmp_path / "net.py").write_text(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\ndef create(): pass\n")
    before = list(sys.path)
    try:
        load_factory(f"{tmp_path}/net.py:create")
        assert sys.path.count(str(tmp_path)) == 1
    finally:
        sys.path[:] = before


def test_dataclasses_with_text_annotations_work_inside_a_file(tmp_path):
    (tmp_path / "net.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Box:\n    x: int = 3\n"
    )
    factory, _ = load_factory(f"{tmp_path}/net.py:Box")
    assert call_factory(factory, f"{tmp_path}/net.py:Box").x == 3


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        ("def create(): pass", "crate", r"has no 'crate'\. Did you mean 'create'\?"),
        ("def create(): pass", "", r"needs a name: .*It defines: create"),
        ("create = 3", "create", r"is a int: expected a function or a class"),
        ("x = 1 / 0", "create", r"failed while it was imported: ZeroDivisionError.*line 1 of net\.py"),
        ("def create(:", "create", r"SyntaxError.*line 1 of net\.py"),
        ("def create(n): pass", "create", r"callable without arguments: missing a required argument: 'n'"),
        ("def create():\n    raise OSError('no disk')", "create", r"failed: OSError: no disk \(line 2 of net\.py\)"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, body, name, message):
    (tmp_path / "net.py").write_text(body + "\n")
    spec = f"{tmp_path}/net.py:{name}" if name else f"{tmp_path}/net.py"
    with pytest.raises(TargetError, match=message) as caught:
        call_factory(load_factory(spec, error=TargetError)[0], spec, error=TargetError)
    assert "\n" not in str(caught.value)
    assert not any(str(tmp_path) == entry for entry in sys.path)


def test_a_file_that_failed_is_not_left_half_imported(tmp_path):
    (tmp_path / "net.py").write_text("x = 1 / 0\n")
    before = set(sys.modules)
    with pytest.raises(InputError):
        load_factory(f"{tmp_path}/net.py:create")
    assert not [name for name in set(sys.modules) - before if "_mammi_user_" in name]


def test_a_missing_file_is_said():
    with pytest.raises(InputError, match=r"no file 'nowhere/net\.py'"):
        load_factory("nowhere/net.py:create")
