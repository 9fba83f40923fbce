"""Write the README's table and the chart from the newest record in benchmarks/results.

fastmlp bench --out benchmarks/results/2026-11-22.json
python benchmarks/report.py
"""

import json
import re
from pathlib import Path

from fastmlp import bench

ROOT = Path(__file__).parents[1]
RESULTS, README, CHART = (
    ROOT / "benchmarks/results",
    ROOT / "README.md",
    ROOT / "docs/benchmark.svg",
)
TABLE = re.compile("(<!-- benchmark table -->\n).*?(<!-- /benchmark table -->\n)", re.DOTALL)


def newest(folder):
    """Return the path and the content of the newest record of `fastmlp bench`."""
    records = ((path, json.loads(path.read_text())) for path in sorted(folder.glob("*.json")))
    found = [(path, record) for path, record in records if "cases" in record]
    if not found:
        raise SystemExit(f"{folder} has no record: write one with 'fastmlp bench --out FILE'.")
    path, record = max(found, key=lambda pair: pair[1]["date"])
    if record["quick"] or not record["passed"]:
        raise SystemExit(f"{path} is of a --quick run, or its losses differ: not for the README.")
    return path, record


def table(path, record):
    """Return the text between the markers: a row per pair, and where the figures are from."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    machine = f"{record['cpu']}, {record['threads']} threads, {record['instruction_set']}"
    lines = [
        f"<!-- written by benchmarks/report.py from {path.relative_to(ROOT)} -->",
        "| | ours | beside | theirs / ours | ours / matrix products |",
        "|---|---|---|---|---|",
    ]
    for entry in record["cases"]:
        if "missing" in entry:
            continue
        ours = entry["ours"]
        floor = entry.get("floor")
        left = [entry["about"], bench.in_words(ours["median"], entry["unit"])]
        share = f"{1 / floor['ratio']['median']:.2f}" if floor else ""
        for peer in entry["peers"]:
            if ratio := peer.get("ratio"):
                times = f"{ratio['median']:.1f} ({ratio['lowest']:.1f} to {ratio['highest']:.1f})"
                lines.append("| " + " | ".join([*left, peer["label"], times, share]) + " |")
                left, share = ["", ""], ""
    chart = f"![The ratios as bars]({CHART.relative_to(ROOT)})"
    return "\n".join([*lines, "", f"{record['date']}, {machine}, {versions}.", "", chart, ""])


def main():
    path, record = newest(RESULTS)
    text, n_found = TABLE.subn(
        lambda match: match[1] + table(path, record) + match[2], README.read_text()
    )
    if n_found != 1:
        raise SystemExit(f"{README} must have the two markers of the table once.")
    README.write_text(text)
    for written in [README, *bench.plot(record, CHART.parent, CHART.stem)]:
        print(written)


if __name__ == "__main__":
    main()
