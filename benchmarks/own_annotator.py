"""An annotator fitted on real films, checked beside one that its user brought, and both asked about a real network.

Fits on the NIH films outside the official test split, with the layers of a real MobileNet; checks both annotators on the
test films (no patient is in both); names the MobileNet's outputs by one with the other as second opinion. Both share its
backbone: that they agree proves nothing about the network, and is what the last table shows.

    python benchmarks/own_annotator.py [DATA] [--out FOLDER]      # DATA: the folder with nih/, mobilenet_nih/, ...
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from mammi.concepts import ConceptSet

MAMMI = Path(sys.executable).with_name("mammi")


def run(*words: str | Path) -> None:
    """Print a command without the folders of this machine, run it, and say how long it took."""
    print("\n$ mammi", *(word.name if isinstance(word, Path) else word for word in words), flush=True)
    start = time.perf_counter()
    subprocess.run([MAMMI, *map(str, words)], check=True, stderr=subprocess.DEVNULL)  # noqa: S603 - our own command
    print(f"({time.perf_counter() - start:.0f} s)", flush=True)


def main() -> None:
    """Fit, check both, ask both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, nargs="?", default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    data, out = asked.data, asked.out or Path(tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    images, network, weights = data / "nih" / "images", data / "mobilenet_nih" / "model.py", "weights.pt"
    target = ["--target", f"{network}:MNV3S", "--weights", network.with_name(weights)]
    table = pd.read_csv(data / "nih" / "labels.csv", dtype=str)
    tested = table["split_official"] == "test"
    if set(table["patient"][tested]) & set(table["patient"][~tested]):
        raise SystemExit("a patient is on both sides of the split")
    table[~tested].to_csv(out / "fit.csv", index=False)
    table[tested].to_csv(out / "test.csv", index=False)
    ConceptSet.read("nih-14").write_csv(out / "concepts.csv")
    fit = [
        "--layers",
        "hs2,bneck.9,bneck.7,bneck.5,bneck.3",
        "--corpus",
        "NIH ChestX-ray14",
        "--modality",
        "chest films",
    ]
    run("vlms", "fit", *target, *fit, "--images", images, "--table", out / "fit.csv", "--out", out / "fitted")
    brought, fitted = f"{data / 'cxr_mini_vlm' / 'vlm.py'}:create", f"fitted:{out / 'fitted'}"
    for name, vlm in (("fitted", fitted), ("brought", brought)):
        result = out / f"{name}.json"
        run("vlms", "check", vlm, "--images", images, "--labels", out / "test.csv", "--template", "{}", "-o", result)
    ask = ["--layers", "linear4,hs3", "--images", images, "--labels", data / "nih" / "labels.csv", "--vlm", brought]
    ask += ["--concepts", out / "concepts.csv", "--template", "{}", "--template", "A chest x-ray image of a {}"]
    for method in ("mammi", "calibrated"):
        here = ["--vlm", fitted, "--method", method, "--trained-on", "NIH ChestX-ray14", "--out", out / method]
        run("annotate", *target, *ask, *here)
        run("opinion", out / method, "--limit", "5")


if __name__ == "__main__":
    main()
