"""Time the kernels against their references, and say which have become slower than what was recorded last.

Each kernel and a plain operation of the same size are timed in the same run, so that the ratio of their shortest times says
something on any machine of the kind; on one thread, in seconds of the processor, since others may want it too. A ratio more than 20 % above the recorded one is measured twice more, and the least counts.

    python benchmarks/kernels [--record]     # exit status 1 if a kernel is slower than recorded; --record writes anew
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from record import load, save

SLOWER = 1.2


def measure() -> dict[str, float]:
    """Run pytest-benchmark once; return the ratio of the shortest times by kernel."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "pytest", str(HERE), "-q", "--no-header", "-p", "no:cacheprovider"]
        command += [f"--benchmark-json={report}", "--benchmark-disable-gc", "--benchmark-warmup=on"]
        command += ["--benchmark-max-time=0.5", "--benchmark-timer=time.process_time", "--benchmark-columns=min,median"]
        environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
        entries = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    least = {(entry["group"], entry["extra_info"]["side"]): entry["stats"]["min"] for entry in entries}
    return {group: least[group, "kernel"] / least[group, "reference"] for group, side in least if side == "kernel"}


def main() -> None:
    """Print every ratio beside the recorded one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write these ratios down as the ones to hold against")
    asked = parser.parse_args()
    recorded: dict[str, float] = {} if asked.record else load("kernels").get("values", {})
    found = measure()
    for _ in range(2):
        if asked.record or any(ratio > SLOWER * recorded.get(name, ratio) for name, ratio in found.items()):
            again = measure()
            found = {name: min(ratio, again[name]) for name, ratio in found.items()}
    print(f"{'kernel':<20s}{'ratio':>8s}{'recorded':>10s}")
    slower = [name for name, ratio in found.items() if ratio > SLOWER * recorded.get(name, ratio)]
    for name, ratio in found.items():
        mark = "  SLOWER by more than 20 %" if name in slower else ""
        print(f"{name:<20s}{ratio:8.2f}" + (f"{recorded[name]:10.2f}" if name in recorded else f"{'-':>10s}") + mark)
    if asked.record:
        figures = [
            (
                "kernels over plain operations: " + ", ".join(found),
                ", ".join(f"{ratio:.2f} x" for ratio in found.values()),
            )
        ]
        save("kernels", figures, {name: round(ratio, 4) for name, ratio in found.items()})
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    main()
