"""What is printed commands no terminal and is no markup, whoever chose the words."""

import io

import pytest

from mammi.cli import console
from mammi.cli.app import table

HOSTILE = "mass \x1b]52;c;aGk=\x07 \x1b[2J \x9b31m \u202etfel [/bold] [red]x"


@pytest.fixture
def printed(monkeypatch):
    monkeypatch.setattr(console.out, "_file", io.StringIO())
    monkeypatch.setattr(console.out, "_width", 200)
    return console.out.file


def test_escapes_of_a_name_do_not_reach_the_terminal(printed):
    from rich.markup import escape

    console.out.print(HOSTILE, markup=False)
    rows = table("name")
    rows.add_row(escape(HOSTILE))
    console.out.print(rows)
    console.out.print("two\nlines\tand a tab", markup=False)
    said = printed.getvalue()
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)
    assert said.count("[/bold] [red]x") == 2
    assert "two\nlines" in said


def test_a_step_named_after_a_layer_is_no_markup(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(console.err, "_file", file)
    with console.progress_bars() as progress:
        progress("selecting for [/x] [red]block", 1, 1)
    assert "selecting for [/x] [red]block: 1 of 1" in file.getvalue()
