"""Write the tables and ratios in README.md and docs/benchmarks.md from the records, and the chart.

There is a record per class of processors: the processor and its instruction set are in its name.

    fastmlp bench --out benchmarks/results/2026-11-22-zen4-x86-64-v4.json
    python benchmarks/report.py
"""

import json
import re
from pathlib import Path
from statistics import geometric_mean

from fastmlp import bench

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
README = ROOT / "README.md"
PAGE = ROOT / "docs/benchmarks.md"
CHART = ROOT / "docs/benchmark.svg"
TABLE = re.compile("(<!-- benchmark table -->\n).*?(<!-- /benchmark table -->)", re.DOTALL)
#: A figure in a sentence, with its name in `FIGURES`.
FIGURE = re.compile("(<!-- benchmark: ([^>]+) -->).*?(<!-- / -->)", re.DOTALL)

#: The most relevant rows, which are shown in README.md.
SHORT = (
    *("r1", "r2", "r3", "r4", "adam-300"),
    *("wide", "tabular-float64", "digits", "sparse", "predict-1"),
)

#: Virtual machines call all of these "AMD EPYC": family and model -> generation.
GENERATIONS = {(23, 1): "Zen 1", (23, 49): "Zen 2", (25, 1): "Zen 3", (25, 17): "Zen 4"}


def cpu_of(record):
    """Return the name of a record's processor."""
    if record["cpu"] != "AMD EPYC":
        return record["cpu"]
    numbers = record["cpu_family"], record["cpu_model"]
    return f"AMD EPYC ({GENERATIONS.get(numbers, 'family {}, model {}'.format(*numbers))})"


def class_of(record):
    """Return the class of a record: its processor and instruction set."""
    return f"{cpu_of(record)}, {record['instruction_set']}"


def newest(folder):
    """Return the newest record of each class of processors, the fastest first."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        if record["quick"] or not record["passed"]:
            raise SystemExit(f"{path} is of a --quick run, or its losses differ: not for a table.")
        name = class_of(record)
        if name not in found or record["date"] >= found[name]["date"]:
            found[name] = record
    if not found:
        raise SystemExit(f"{folder} has no record: write one with 'fastmlp bench --out FILE'.")
    records = list(found.values())
    shared = set.intersection(*(set(seconds_of(record)) for record in records))
    return sorted(
        records, key=lambda record: geometric_mean(seconds_of(record)[name] for name in shared)
    )


def entries_of(record):
    """Return the measured cases of a record, by name."""
    return {entry["name"]: entry for entry in record["cases"] if "missing" not in entry}


def seconds_of(record):
    """Return our seconds, by case."""
    entries = entries_of(record).items()
    return {name: e["ours"]["median"] for name, e in entries if e["unit"].startswith("s")}


def pairs_of(records):
    """Return the cases in the suite's order, with their descriptions and peers in any record."""
    pairs = {}
    for record in records:
        for name, entry in entries_of(record).items():
            _, labels = pairs.setdefault(name, (entry["about"], {}))
            labels.update(dict.fromkeys(p["label"] for p in entry["peers"] if "ratio" in p))
    order = [case.name for case in bench.CASES]
    return dict(
        sorted(pairs.items(), key=lambda pair: (*order, pair[0]).index(pair[0]))  # former ones last
    )


def ratio_of(entry, label):
    """Return the summary of the ratios with a peer, None if it was not measured."""
    peers = entry["peers"] if entry else []
    return next((p.get("ratio") for p in peers if p["label"] == label), None)


def ours_of(entry):
    """Return our value in words."""
    return bench.in_words(entry["ours"]["median"], entry["unit"]) if entry else ""


def table(records):
    """Return a row per case with our values, and one per pair of libraries with the ratios."""
    lines = head_of("", records)
    for name, (about, labels) in pairs_of(records).items():
        entries = [entries_of(record).get(name) for record in records]
        ours = []
        for entry in entries:
            floor = entry.get("floor") if entry else None
            share = f" ({1 / floor['ratio']['median']:.2f})" if floor else ""
            ours.append(ours_of(entry) + share)
        lines.append(row_of([about, "ours", *ours]))
        for label in labels:
            ratios = [ratio_of(entry, label) for entry in entries]
            form = "{median:.1f} ({lowest:.1f} to {highest:.1f})"
            lines.append(row_of(["", label, *(form.format(**r) if r else "" for r in ratios)]))
    return lines


def short_table(records):
    """Return the rows in README.md, each with its first peer and our values."""
    lines = head_of("compared with", records)
    for name, (about, labels) in pairs_of(records).items():
        for label in list(labels)[: name in SHORT]:
            entries = [entries_of(record).get(name) for record in records]
            ratios = [ratio_of(entry, label) for entry in entries]
            cells = [
                f"{ratio['median']:.1f} ({ours_of(entry)})" if ratio else ""
                for ratio, entry in zip(ratios, entries, strict=True)
            ]
            lines.append(row_of([about, label, *cells]))
    return lines


def head_of(second, records):
    """Return the head of a table: what is compared, the second column, and one per record."""
    head = ["", second, *map(class_of, records)]
    return [row_of(head), row_of(["---"] * len(head))]


def row_of(cells):
    """Return a row of a table."""
    return f"| {' | '.join(cells)} |"


def origin(record):
    """Return where the figures of a record are from."""
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return f"{class_of(record)}: {record['date']}, {record['threads']} threads, {versions}."


def numba_in_times_of_cython(record):
    """Return how many times as long Numba takes as the compiled engine: fewest to most."""
    entries = entries_of(record).values()
    ratios = [1 / ratio["median"] for e in entries if (ratio := ratio_of(e, "cython"))]
    return f"{min(ratios):.1f} to {max(ratios):.1f}"


def seconds_of_compiling(record):
    """Return how long Numba compiles: a first fit without its files, less one with them."""
    (entry,) = (e for e in entries_of(record).values() if ratio_of(e, "numba, compiling"))
    (peer,) = (p for p in entry["peers"] if p["label"] == "numba, compiling")
    return f"{peer['median'] - entry['ours']['median']:.0f} s"


#: What sentences say of the slowest of the processors.
FIGURES = {
    "processor": class_of,
    "numba / cython": numba_in_times_of_cython,
    "numba, compiling": seconds_of_compiling,
}


def filled(text, records, lines):
    """Return the text of a page with lines between its markers, and figures in its sentences."""
    # A list, because GitHub joins lines.
    about = [f"- {origin(record)}" for record in records]
    content = "\n".join(["<!-- written by benchmarks/report.py -->", *lines, "", *about, ""])
    text, n_found = TABLE.subn(lambda match: match[1] + content + match[2], text)
    if n_found != 1:
        raise SystemExit("a page must have the two markers of the table once.")
    return FIGURE.sub(lambda match: match[1] + FIGURES[match[2]](records[-1]) + match[3], text)


def pages(records):
    """Return the text that each page should have."""
    tables = {README: short_table(records), PAGE: table(records)}
    return {
        page: filled(page.read_text(encoding="utf-8"), records, lines)
        for page, lines in tables.items()
    }


def main():
    records = newest(RESULTS)
    for page, text in pages(records).items():
        page.write_text(text, encoding="utf-8")
        print(page)
    slowest = records[-1] | {"cpu": cpu_of(records[-1])}
    for path in bench.plot(slowest, CHART.parent, CHART.stem):
        print(path)


if __name__ == "__main__":
    main()
