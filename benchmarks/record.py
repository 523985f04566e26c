"""What a benchmark measured, kept beside it as JSON: the machine in words, the date, the commit, the figures."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "load", "machine", "save"]

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> str:
    """Say what computes: the processor's name, its cores, and whether it has instructions for bfloat16."""
    found: dict[str, str] = {}
    for line in (
        Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else ()
    ):
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    name = found.get("model name", platform.processor() or platform.machine())
    with_bf16 = ", AVX512-bf16" if "avx512_bf16" in found.get("flags", "") else ""
    return f"{name}, {os.cpu_count()} cores{with_bf16}"


def commit() -> str:
    """Return the short name of the commit that was measured; with a plus if files were changed since."""
    git = ["git", "-C", str(RESULTS.parent)]
    try:
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)  # noqa: S603
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "../src"], check=False)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.stdout.strip() + ("+" if changed.returncode else "")


def save(name: str, figures: Sequence[tuple[str, str]], values: Mapping[str, Any]) -> None:
    """Write ``results/NAME.json``.

    Args:
        name: of the result.
        figures: rows for the table of the README: what was measured, and how much.
        values: whatever else another command computes with.
    """
    script = Path(sys.argv[0]).parent if Path(sys.argv[0]).stem == "__main__" else Path(sys.argv[0])
    words = " ".join(["python", f"benchmarks/{script.name}", *sys.argv[1:]])
    entry = {
        # Where files lay on this machine says nothing to others.
        "command": re.sub(r" --(folder|data|out)[ =]\S+", "", words),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "torch": version("torch"),
        "figures": [list(row) for row in figures],
        "values": dict(values),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    """Read ``results/NAME.json``; an empty mapping if it was not measured yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
