"""How long the explorer takes to answer: a synthetic run of 1,000 units and 100,000 films, over HTTP on this machine.

    python benchmarks/explorer.py [UNITS FILMS]

The run is that of `benchmarks/pages.py`. A search by any words is timed with embeddings of 512 numbers and an annotator
that takes no time of its own: to it comes one text through the run's own model. Milliseconds; the first page of a kind
also reads what is kept for all later ones.
"""

import http.client
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import torch
import uvicorn

from mammi.explain.search import UnitSearch, standing
from mammi.store import open_run
from mammi.web.app import UPLOADS, create_app
from mammi.web.guard import Guard
from pages import LABELS, write_run

ROUNDS = 20
WIDTH = 512


def main() -> None:
    n_units, n_films = (int(sys.argv[1]), int(sys.argv[2])) if len(sys.argv) > 2 else (1000, 100_000)
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), n_units, n_films)
        run = open_run(folder)
        app = create_app(run, with_images=True)
        server = uvicorn.Server(
            uvicorn.Config(
                Guard(app, "secret", uploads=UPLOADS), port=0, ws="none", access_log=False, log_level="error"
            )
        )
        threading.Thread(target=server.run, daemon=True).start()
        while not server.started:
            time.sleep(0.05)
        app.state.models.wait()  # a synthetic run has no models to load
        connection = http.client.HTTPConnection("127.0.0.1", server.servers[0].sockets[0].getsockname()[1])
        cookie = enter(connection)
        print(f"{n_units:,} units, {n_films:,} films, {LABELS} labels; milliseconds, median of {ROUNDS} (first)")
        for name, address in (
            ("overview", lambda n: "/"),
            ("units", lambda n: f"/units?page={1 + n % 5}"),
            ("units, found and sorted", lambda n: f"/units?query=concept+{n}&sort=effect"),
            ("unit", lambda n: f"/unit/0/{n * 37 % n_units}"),
            ("unit, as JSON", lambda n: f"/unit/0/{n * 37 % n_units}.json"),
            ("classes", lambda n: "/classes"),
            ("class", lambda n: f"/class/{n % LABELS}"),
            ("method", lambda n: "/method"),
            ("search by name", lambda n: f"/search?q=concept+{n}"),
            ("filters", lambda n: "/search?only=none&below=0.05"),
        ):
            timed(name, connection, cookie, address)
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((n_films, WIDTH), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        vlm = SimpleNamespace(embed_texts=lambda texts: torch.from_numpy(rows[: len(texts)]))
        began = time.perf_counter()
        search = UnitSearch(run, vlm, np.arange(n_films), rows - rows.mean(axis=0), complete=True)
        search.prepare()
        print(f"{'once: units made ready for words':34} {time.perf_counter() - began:8.1f} s")
        app.state.models.search = search
        timed("search by any words", connection, cookie, lambda n: f"/search?q=shadow+{n}")
        film = np.array(run.activations("features")[:, 5])
        began = time.perf_counter()
        standing(run, "features", film)
        print(f"{'search by a film (network apart)':34} {1000 * (time.perf_counter() - began):8.0f}")
        server.should_exit = True


def enter(connection: http.client.HTTPConnection) -> str:
    connection.request("GET", "/?token=secret")
    answer = connection.getresponse()
    answer.read()
    return re.match(r"[^;]+", answer.headers["set-cookie"])[0]


def timed(name: str, connection: http.client.HTTPConnection, cookie: str, address: Callable[[int], str]) -> None:
    connection.close()  # it may have been idle for too long; the next request opens it
    took = []
    for n in range(ROUNDS + 1):
        began = time.perf_counter()
        connection.request("GET", address(n), headers={"Cookie": cookie})
        answer = connection.getresponse()
        body = answer.read()
        took.append(1000 * (time.perf_counter() - began))
        if answer.status != 200:
            raise SystemExit(f"{address(n)}: {answer.status} {body[:300]!r}")
        if address(n).endswith(".json"):
            json.loads(body)
    print(f"{name:34} {median(took[1:]):8.0f} ({took[0]:.0f})")


if __name__ == "__main__":
    main()
