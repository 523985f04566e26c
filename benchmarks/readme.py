"""Write what the benchmarks measured last into the pages that show it: the table of the README, the cost model of the docs.

    python benchmarks/readme.py

Nothing is measured: everything is read from ``results/*.json``, which the benchmarks write. Text outside the marks stays as it is.
"""

import re
from pathlib import Path

from costs import model
from record import RESULTS, load

HERE = Path(__file__).resolve().parent


def fill(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the marks of a name."""
    before = page.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name} begins -->\n).*?(<!-- {name} ends -->)", re.DOTALL)
    after, count = pattern.subn(lambda marks: f"{marks[1]}{text}\n{marks[2]}", before)
    if count != 1:
        raise SystemExit(f"{page} must hold '<!-- {name} begins -->' and '<!-- {name} ends -->' once, found {count}")
    page.write_text(after, encoding="utf-8")


def figures() -> str:
    """Return one row per figure, with the command that prints it and where and when it did."""
    rows = ["| figure | measured | command | machine, date, commit |", "|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        entry = load(path.stem)
        where = f"{entry['machine']}; {entry['date']}; {entry['commit']}"
        rows += [f"| {what} | {value} | `{entry['command']}` | {where} |" for what, value in entry["figures"]]
    return "\n".join(rows)


def phases() -> str:
    """Return seconds of the processor and ratios by phase, for every job that was held against the floor."""
    rows = []
    for path in sorted(RESULTS.glob("floor-*.json")):
        values = load(path.stem)["values"]
        rounds = values["rounds"]
        rows += [f"{values['setting']}, {f'medians of {rounds} rounds' if rounds > 1 else 'one round'} in turns:", ""]
        rows += [
            "| phase | floor, CPU s | `mammi annotate`, CPU s | ratio | ratio of seconds passed |",
            "|---|---|---|---|---|",
        ]
        for (name, floor, ours, ratio), (*_, passed) in zip(values["cpu"], values["wall"], strict=True):
            shown = ["-" if value is None else f"{value:.2f}" for value in (ratio, passed)]
            rows.append(f"| {name} | {floor:.2f} | {ours:.2f} | {shown[0]} | {shown[1]} |")
        rows.append("")
    return "\n".join(rows).rstrip()


def largest() -> str:
    """Return the three largest costs of the run that was profiled."""
    values = load("profile")["values"]
    rows = [f"Of the time of the main thread ({values['setting']}), the three largest costs:", ""]
    rows += [f"{place}. `{name}`: {share:.0%}" for place, (name, share) in enumerate(values["largest"][:3], start=1)]
    return "\n".join(rows)


def main() -> None:
    """Fill both pages."""
    fill(HERE / "README.md", "figures", figures())
    page = HERE.parent / "docs" / "performance.md"
    fill(page, "phases", phases())
    fill(page, "largest", largest())
    for name, text in model().items():
        fill(page, name, text)


if __name__ == "__main__":
    main()
