"""One small run whose concepts, labels and table cells hold markup, explored in process and by a real server."""

import csv
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

import mammi
from mammi.concepts import Concept, ConceptSet
from mammi.phantoms import write_cohort

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

MARKUP = "<script>alert('x')</script>"
#: Every one of them breaks out of some place that does not escape it.
NAMES = (
    f"effusion {MARKUP}",
    'large heart "><img src=x onerror=alert(1)>',
    "tube &lt;b&gt; {{ 7 * 7 }} </textarea><svg/onload=alert(1)>",
    "../../../etc/passwd",
)
N_FILMS = 60


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Drawn films, with markup in the names of labels and in cells of the table."""
    folder = tmp_path_factory.mktemp("drawn")
    write_cohort(folder, N_FILMS, seed=13)
    table = folder / "labels.csv"
    with table.open(newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*header, f"label {MARKUP}", "remark"])
        writer.writerows([*row, str(place % 2), MARKUP] for place, row in enumerate(rows))
    return folder


def _annotate(drawn, out, method):
    concepts = ConceptSet([Concept(name) for name in NAMES] + [Concept("cardiomegaly"), Concept("pleural effusion")])
    return mammi.annotate(
        mammi.create_target("phantom"),
        mammi.ProbingSet.open(drawn / "images", drawn / "labels.csv"),
        concepts,
        mammi.create_vlm("phantom"),
        layers=["head", "layer3"],
        out=out,
        method=method,
    )


@pytest.fixture(scope="session")
def run(drawn, tmp_path_factory):
    """By a method that encodes all films; with second opinions, asked in other words."""
    run = _annotate(drawn, tmp_path_factory.mktemp("runs") / "correlation", "correlation")
    return mammi.ask_second_opinions(run, templates=["{}"])


@pytest.fixture(scope="session")
def examples_run(drawn, tmp_path_factory):
    """By a method that encodes examples only."""
    return _annotate(drawn, tmp_path_factory.mktemp("runs") / "mammi", "mammi")


@pytest.fixture(scope="session")
def explorer(run, examples_run):
    """The application without its guard, models loaded, pictures shown; ``client``, ``app``."""
    from fastapi.testclient import TestClient

    from mammi.web.app import create_app

    app = create_app(run, with_images=True, beside=examples_run)
    with TestClient(app, raise_server_exceptions=False) as client:
        app.state.models.wait()
        yield SimpleNamespace(client=client, app=app, models=app.state.models, run=run)


@pytest.fixture(scope="session")
def film(drawn):
    """The bytes of one film."""
    return min((drawn / "images").iterdir()).read_bytes()


@contextmanager
def serving(folder, *options, cwd=None):
    """Run ``mammi serve`` in a process of its own; yield its ``port``, ``token`` and ``process``."""
    command = [sys.executable, "-c", "from mammi.cli import main; main()", "serve", str(folder), *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=cwd
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)
    reader.start()
    try:
        link = process.stdout.readline().strip()
        port, token = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{43})", link).groups()
        yield SimpleNamespace(port=int(port), token=token, process=process, link=link, said=said)
    finally:
        process.terminate()
        try:
            process.wait(20)  # it ends when it is told to, whatever was done to it
        finally:
            process.kill()
            process.stdout.close()
            reader.join(5)
            process.stderr.close()


@pytest.fixture(scope="session")
def server(run):
    """The explorer as a user starts it."""
    with serving(run.folder, "--with-images") as started:
        yield started
