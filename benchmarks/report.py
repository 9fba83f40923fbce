"""Write the tables in docs/benchmarks.md and README.md from the newest record, and the chart.

fastmlp bench --out benchmarks/results/2026-11-22.json
python benchmarks/report.py
"""

import json
import re
from pathlib import Path

from fastmlp import bench

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
README = ROOT / "README.md"
PAGE = ROOT / "docs/benchmarks.md"
CHART = ROOT / "docs/benchmark.svg"
TABLE = re.compile("(<!-- benchmark table -->\n).*?(<!-- /benchmark table -->\n)", re.DOTALL)

#: The most relevant rows, which are shown in README.md.
SHORT = (
    *("r1", "r2", "r3", "r4", "adam-300"),
    *("wide", "tabular-float64", "digits", "sparse", "predict-1"),
)


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


def table(record):
    """Return a row per pair of libraries."""
    lines = [
        "| | ours | compared with | theirs / ours | ours / matrix products |",
        "|---|---|---|---|---|",
    ]
    for entry in record["cases"]:
        if "missing" in entry:
            continue
        floor = entry.get("floor")
        left = [entry["about"], bench.in_words(entry["ours"]["median"], entry["unit"])]
        share = f"{1 / floor['ratio']['median']:.2f}" if floor else ""
        for peer in entry["peers"]:
            if ratio := peer.get("ratio"):
                times = f"{ratio['median']:.1f} ({ratio['lowest']:.1f} to {ratio['highest']:.1f})"
                lines.append("| " + " | ".join([*left, peer["label"], times, share]) + " |")
                left, share = ["", ""], ""
    return lines


def short_table(record):
    """Return the rows in README.md, each with its first peer."""
    entries = {entry["name"]: entry for entry in record["cases"]}
    lines = ["| | ours | compared with | theirs / ours |", "|---|---|---|---|"]
    for name in SHORT:
        entry = entries[name]
        ours = bench.in_words(entry["ours"]["median"], entry["unit"])
        peer = next(peer for peer in entry["peers"] if peer.get("ratio"))
        ratio = f"{peer['ratio']['median']:.1f}"
        lines.append(f"| {entry['about']} | {ours} | {peer['label']} | {ratio} |")
    return lines


def write(page, path, record, lines):
    """Put lines between the markers of a page, with where the figures are from."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    machine = f"{record['cpu']}, {record['threads']} threads, {record['instruction_set']}"
    source = f"<!-- written by benchmarks/report.py from {path.relative_to(ROOT)} -->"
    content = "\n".join([source, *lines, "", f"{record['date']}, {machine}, {versions}.", ""])
    text, n_found = TABLE.subn(
        lambda match: match[1] + content + match[2], page.read_text(encoding="utf-8")
    )
    if n_found != 1:
        raise SystemExit(f"{page} must have the two markers of the table once.")
    page.write_text(text, encoding="utf-8")


def main():
    path, record = newest(RESULTS)
    write(README, path, record, short_table(record))
    write(PAGE, path, record, table(record))
    for written in [README, PAGE, *bench.plot(record, CHART.parent, CHART.stem)]:
        print(written)


if __name__ == "__main__":
    main()
