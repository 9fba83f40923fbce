"""Turn pytest-benchmark's output into the dated record that is committed, and print its ratios.

pytest benchmarks/bench_estimators.py --benchmark-json raw.json
python benchmarks/report.py raw.json benchmarks/results/2026-11-22-r1.json
"""

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from fastmlp.threads import usable_threads


def record(raw):
    """Keep what makes a figure reproducible; leave out what tells of the machine's owner."""
    return {
        "date": raw["datetime"][:10],
        "cpu": raw["machine_info"]["cpu"]["brand_raw"],
        "threads": usable_threads(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("fastmlp", "numpy", "scikit-learn")},
        "benchmarks": {
            bench["name"]: {"median_seconds": bench["stats"]["median"], **bench["extra_info"]}
            for bench in raw["benchmarks"]
        },
    }


def main():
    source, target = map(Path, sys.argv[1:])
    result = record(json.loads(source.read_text()))
    target.write_text(json.dumps(result, indent=1) + "\n")
    for name, figures in result["benchmarks"].items():
        if "ratio_spread" in figures:
            low, high = figures["ratio_spread"]
            print(f"{name}: {figures['ratio']:.1f} ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    main()
