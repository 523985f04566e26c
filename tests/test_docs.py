"""The documents tell the truth: their commands and their Python run, their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mammi.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "page",
    [
        "docs/tutorial.md",
        "README.md",
        "docs/compare.md",
        "docs/explain.md",
        "docs/cluster.md",
        "docs/annotators.md",
        "docs/ontologies.md",
    ],
)
def test_commands_and_code_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    ran = 0
    for language, text in blocks(ROOT / page):
        if language == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["mammi"]:
                    result = CliRunner().invoke(app, words[1:])
                    assert result.exit_code == 0, f"{line}\n{result.output}"
                    ran += 1
        elif language == "python":
            exec(compile(text, page, "exec"), names)
            ran += 1
    assert ran


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_within_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_notice_stands_where_it_must():
    assert "A research and audit tool, not a diagnostic device" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_method_has_its_page_in_the_readme():
    from mammi.methods import METHODS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in METHODS.names():
        assert f"`{name}`" in readme
