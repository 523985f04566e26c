"""A real browser, a real server process, and the demo's own run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mammi
from mammi.phantoms import Cohort, write_cohort
from mammi.phantoms.writing import write_dicom

ROOT = Path(__file__).resolve().parents[2]
#: What the accessibility rules are read from; `make browser` puts it there.
AXE = ROOT / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
#: As root, without a screen, and without the browser's own calls home.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"] + [
    f"--disable-{name}" for name in ("background-networking", "component-update", "sync", "default-apps")
]


def absent(what: str) -> None:
    """Skip with a word on a machine without; fail where the tests must be whole."""
    message = f"{what} is not installed: 'make browser' does it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module")
def chromium():
    """A browser; ended with its module, since other tests cannot run an event loop of their own beside its."""
    path = shutil.which("chromium")
    if path is None:
        absent("Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe():
    """Return a function that lists the serious accessibility faults of a page."""
    if not AXE.is_file():
        absent("axe-core")
    script = AXE.read_text(encoding="utf-8")

    def faults(page) -> list[str]:
        page.evaluate(script)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{fault['id']}: {fault['help']}: {node['html'][:160]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]

    return faults


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """The demo's run on fewer films."""
    folder = tmp_path_factory.mktemp("demo")
    write_cohort(folder, 240, seed=2026)
    return mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(folder / "images", folder / "labels.csv"),
        mammi.build_concepts(mammi.read_reports(folder / "reports.jsonl")),
        mammi.create_vlm("phantom"),
        layers=["head", "layer3", "layer2"],
        out=folder / "run",
        method="calibrated",
    )


@pytest.fixture(scope="session")
def unseen_dicom(tmp_path_factory):
    """A drawn film of another patient with an effusion, as DICOM, and its name that must not come back."""
    cohort = Cohort(64, seed=77)
    number = next(i for i in range(64) if cohort.plan(i).has("effusion"))
    path = tmp_path_factory.mktemp("uploads") / "Doe, Jane 1961-03-02.dcm"
    write_dicom(cohort.film(number), path, inverted=True)
    return path


@pytest.fixture(scope="session")
def explorer(demo_run):
    """The link that `mammi serve` prints."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [
        sys.executable,
        "-c",
        "from mammi.cli import main; main()",
        "serve",
        str(demo_run.folder),
        "--with-images",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as server:
        try:
            lines = []
            for line in server.stdout:
                lines.append(line)
                if found := re.search(r"http://127\.0\.0\.1:\d+/\S*token=\S+", line):
                    yield found.group()
                    break
            else:
                pytest.fail(f"no link was printed: {''.join(lines)}")
        finally:
            server.terminate()
            server.wait(timeout=20)
