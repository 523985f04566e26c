"""Ray Data on a real cluster of two nodes: the same to the bit as one process, whoever is killed on the way."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from processes_at_work import children, is_alive

import mammi
from small_job import SCRIPT, assert_same, call, write_parts

pytest.importorskip("ray", reason="Ray is not installed (mammi[ray])")

#: A node of a cluster, that ends with its pipe: `ray start` for the test's own process.
RAY = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]

#: A node is missed after seconds, not after half a minute.
QUICK = '--system-config={"health_check_period_ms": 1000, "health_check_failure_threshold": 4}'
PATH = os.pathsep.join(path for path in sys.path if path)
TOKEN = secrets.token_hex(32)


def descendants(pid: int):
    for child in children(pid):
        yield child
        yield from descendants(child)


def titled(pids, title: str) -> list[int]:
    """Those processes that Ray gave this title."""
    found = []
    for pid in pids:
        try:
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if title.encode() in name:
            found.append(pid)
    return found


def environment() -> dict[str, str]:
    """What a machine of a cluster that lets no stranger in must have in common with the others."""
    return {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "PYTHONPATH": PATH}


class Node:
    """A raylet and all it starts, on this machine."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*RAY, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
        )

    def kill(self) -> None:
        everyone = [self.process.pid, *descendants(self.process.pid)]
        for pid in everyone:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def cluster():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray-")  # sockets lie in it, whose names must be short
    here = "--node-ip-address=127.0.0.1"
    head = Node(
        "--head", f"--port={port}", "--num-cpus=3", "--include-dashboard=false", f"--temp-dir={folder}", QUICK, here
    )
    other = Node(f"--address=127.0.0.1:{port}", "--num-cpus=2", here)
    yield f"127.0.0.1:{port}", head, other
    for node in (other, head):
        node.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_an_actor_and_a_node_killed_on_the_way_change_nothing(cluster, tmp_path):
    address, head, other = cluster
    parts, out = write_parts(tmp_path), tmp_path / "run"
    script = SCRIPT.replace("layers=", f"engine=mammi.create_engine('ray', workers=2, address='{address}'), layers=")
    env = {**environment(), "MAMMI_TEST_SLOW_VLM": "0.02"}
    driver = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, str(parts), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )
    killed = []
    said = []
    with driver:
        for line in driver.stdout:
            said.append(line)
            if line.startswith("recording films"):
                done = int(line.split()[-1])
                if done >= 32 and not killed:
                    actors = titled(descendants(head.process.pid), "ray::MapWorker(MapBatches(_Actor))")
                    killed.append(actors[0])
                    quiet = list(said)  # of what it loses, Ray speaks
                    os.kill(actors[0], signal.SIGKILL)
                if done >= 160 and len(killed) == 1:
                    other.kill()
                    killed.append(time.monotonic())
        complaints = driver.stderr.read()
    assert driver.returncode == 0, complaints
    assert len(killed) == 2
    assert all("RAY_BACKEND_LOG_LEVEL" in line for line in complaints.splitlines()), complaints
    steps = ("fingerprint", "recording", "encoding", "selecting", "matching")
    assert [line for line in quiet if not line.startswith(steps)] == []
    assert_same(mammi.open_run(out), call(parts, tmp_path / "one"))
