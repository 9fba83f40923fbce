"""How far exports are from their models: 200 random models in every format.

    python benchmarks/export_table.py [--models 200] [--tables 40] [--out FILE]

The models have all tasks, activations, scalings and dtypes, and some are ensembles; see
tests/random_models.py. Each is exported in every format and predicts 100 rows that it has not seen,
in onnxruntime, PyTorch, NumPy, Node.js and compiled C. Then pipelines of random tables, whose rows
have missing values and unknown categories; then the size and time of one network. All of it takes
some ten minutes. Formats that are not available are left out with the reason.

Exits with 1 if a label differs in a format that is not rounded to fewer bits, or a probability of a
float32 model by more than 1e-6.
"""

import argparse
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from fastmlp import MLPClassifier, export
from fastmlp.bench.contest import machine
from fastmlp.utils.threads import usable_threads

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from random_models import random_model, random_table  # noqa: E402

LIMIT = 1e-6  # of the probabilities of float32 models
NETWORK = (784, 50, 10)

#: Format -> whether it is rounded to fewer bits than the model has, and the check of an export.
FORMATS = {
    "ONNX": (False, lambda m, X: export.check_onnx(m, export.to_onnx(m), X)),
    "PyTorch": (False, lambda m, X: export.check_torch(m, export.to_torch(m), X)),
    "safetensors": (False, lambda m, X: export.check_safetensors(m, export.to_safetensors(m), X)),
    "HTML, float32": (False, lambda m, X: _html(m, X, "float32")),
    "HTML, float16": (True, lambda m, X: _html(m, X, "float16")),
    "HTML, int8": (True, lambda m, X: _html(m, X, "int8")),
    "C, float32": (False, lambda m, X: _c(m, X, "float32")),
    "C, int8": (True, lambda m, X: _c(m, X, "int8")),
}
OF_TABLES = [name for name in FORMATS if name not in ("PyTorch", "safetensors")]


def _html(model, X, dtype):
    return export.check_html(model, export.to_html(model, dtype=dtype), X)


def _c(model, X, dtype):
    return export.check_c(model, export.to_c(model, dtype=dtype, X=X), X)


@dataclass
class Tally:
    """The differences of one format."""

    is_rounded: bool
    n_models: int = 0
    n_labels: int = 0
    by: str = ""
    #: Kind of model -> the largest difference, and of which model.
    largest: dict = field(default_factory=dict)

    def add(self, kind, check, name):
        self.n_models += 1
        self.n_labels += check.n_labels or 0
        self.by = check.by.split(",")[0]
        if check.largest >= self.largest.get(kind, (0.0, ""))[0]:
            self.largest[kind] = check.largest, name

    @property
    def is_exact(self):
        largest, _ = self.largest.get("float32", (0.0, ""))
        return self.n_labels == 0 and largest <= LIMIT


def tallied(cases, names):
    """Return the tally of each format over cases: (model, rows, kind, name)."""
    tallies = {name: Tally(FORMATS[name][0]) for name in names}

    def checks(case):
        model, rows, *_ = case
        return case, {name: checked(name, model, rows) for name in names}

    with ThreadPoolExecutor(usable_threads()) as threads:
        for place, ((_, _, kind, name), found) in enumerate(threads.map(checks, cases)):
            for form, check in found.items():
                if check is not None:
                    tallies[form].add(kind, check, name)
            if place % 20 == 19:
                print(f"{place + 1} models", flush=True)
    return {name: tally for name, tally in tallies.items() if tally.n_models}


def checked(name, model, rows):
    """Return the check of an export, or None if a package is not installed."""
    try:
        return FORMATS[name][1](model, rows)
    except ImportError as error:
        print(f"{name} is left out: {error}")
        return None


def models(n):
    for seed in range(n):
        case = random_model(seed)
        kind = "float32" if case.is_float32 else "float64"
        is_classifier = hasattr(case.model, "predict_proba")
        yield case.model, case.rows, kind if is_classifier else "numbers", case.name


def tables(n):
    for seed in range(n):
        pipeline, rows = random_table(seed)
        is_classifier = hasattr(pipeline, "classes_")
        yield pipeline, rows, "float32" if is_classifier else "numbers", f"table {seed}"


def one_network():
    """Return the check of one network of images in each format."""
    random = np.random.RandomState(0)
    X = random.randint(0, 256, (500, NETWORK[0])).astype(np.uint8)
    X[random.uniform(size=X.shape) < 0.8] = 0
    y = np.arange(len(X)) % NETWORK[-1]
    with warnings.catch_warnings(action="ignore"):
        model = MLPClassifier(NETWORK[1:-1], input_scale=1 / 255, max_iter=3, random_state=0)
        model.fit(X, y)
    found = {name: checked(name, model, X) for name in FORMATS}
    return {name: check for name, check in found.items() if check is not None}


def page(of_models, of_tables, sizes):
    """Return the results as Markdown."""
    about = machine()
    packages = ("numpy", "onnx", "onnxruntime", "torch", "safetensors")
    tools = {tally.by for tally in of_models.values() if tally.by.startswith(("gcc", "node"))}
    versions = ", ".join([*(f"{name} {version(name)}" for name in packages), *sorted(tools)])
    n_models = max(tally.n_models for tally in of_models.values())
    return "\n".join(
        [
            "# Exports",
            "",
            "Made by `python benchmarks/export_table.py`, which says what is compared. Largest",
            "differences are those of a probability or, for models that predict numbers, of a",
            "prediction divided by the standard deviation of all predictions.",
            "",
            f"{about['cpu']} ({about['instruction_set']}); {versions}.",
            "",
            f"## {n_models} random models, 100 rows each",
            "",
            *_table(of_models),
            "",
            f"## {max(tally.n_models for tally in of_tables.values())} pipelines of tables, "
            "100 rows each",
            "",
            *_table(of_tables),
            "",
            f"## {'-'.join(map(str, NETWORK))}, float32: size and time of a row of 500, one thread",
            "",
            "| format | bytes | microseconds |",
            "|---|---|---|",
            *(f"| {n} | {c.n_bytes:,} | {c.microseconds:.1f} |" for n, c in sizes.items()),
            "",
        ]
    )


def _table(tallies):
    kinds = {
        "float32": "float32 models",
        "float64": "float64 models",
        "numbers": "predicted numbers",
    }
    used = [kind for kind in kinds if any(kind in tally.largest for tally in tallies.values())]
    yield f"| format | models | labels that differ | {' | '.join(map(kinds.get, used))} |"
    yield f"|---|---|---|{'---|' * len(used)}"
    for name, tally in tallies.items():
        cells = [_number(tally.largest.get(kind, (None, ""))[0]) for kind in used]
        yield f"| {name} | {tally.n_models} | {tally.n_labels} | {' | '.join(cells)} |"


def _number(value):
    return "" if value is None else f"{value:.2g}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--tables", type=int, default=40)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/exports.md")
    options = parser.parse_args()
    of_models = tallied(models(options.models), FORMATS)
    of_tables = tallied(tables(options.tables), OF_TABLES)
    text = page(of_models, of_tables, one_network())
    options.out.write_text(text, encoding="utf-8")
    print(f"\n{text}")
    failed = [
        f"{name}: {tally.n_labels} labels, {tally.largest}"
        for tallies in (of_models, of_tables)
        for name, tally in tallies.items()
        if not (tally.is_rounded or tally.is_exact)
    ]
    print("\n".join(failed) or "labels are equal, and probabilities within the limit")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
