"""scikit-learn's own examples that use its MLPs, with and without fastmlp.

    python tests/sklearn_examples.py EXAMPLES [NAME ...]

runs every script in EXAMPLES (the folder `examples` of scikit-learn's repository) whose code names
MLPClassifier or MLPRegressor, or those whose path contains a NAME, twice: as it is and with
``python -m fastmlp.accel``. It compares what they print, their warnings (standard error, with text,
file and line) and every pixel that they draw, and prints a table. Exit status 1 if any differ.

A figure may differ for nothing but rounding: L-BFGS goes elsewhere when a last digit is another.
That counts as the same if fastmlp's NumPy backend, which rounds as scikit-learn does, draws every
pixel alike, and if scikit-learn's own figure moves as far (half as far at least) when every number
of X is replaced by its neighbour.

Nothing is fetched: MNIST is that of `fastmlp.datasets`, and for the bike rentals stand made-up
numbers in a table of the same columns, because it is two runs that are compared.
"""

import argparse
import ast
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
import types
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

MLPS = {"MLPClassifier", "MLPRegressor"}
SKIPPED = 77  # the exit status of a run that cannot have its data
MINUTES = 30


def find(examples):
    """Return the scripts whose code (not only their text) names an MLP."""
    return [path for path in sorted(Path(examples).rglob("*.py")) if MLPS & _names(path)]


def _names(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names.add(node.name)
    return names


@dataclass
class Run:
    """What a script has left."""

    printed: str
    warned: list[str]
    figures: list[np.ndarray]
    module: str  # of the MLPs that it got
    status: int
    seconds: float


def run(script, *, accelerated=False, way=""):
    """Run a script in a process of its own, and in a way of `_WAYS`."""
    with tempfile.TemporaryDirectory() as out:
        runner = [sys.executable, *(["-m", "fastmlp.accel"] if accelerated else [])]
        started = time.perf_counter()
        process = subprocess.run(
            [*runner, __file__, "--run", str(script), out, way],
            capture_output=True,
            text=True,
            # Workers print as they like; BLAS's sums must not depend on the load of the machine.
            env={**os.environ, "PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1"},
            timeout=60 * MINUTES,
        )
        seconds = time.perf_counter() - started
        notes = Path(out, "notes.json")
        module = json.loads(notes.read_text())["module"] if notes.exists() else ""
        figures = [_pixels(path) for path in sorted(Path(out).glob("*.png"))]
    # The time that something took is no result.
    printed = re.sub(r"\d+\.\d+( ?s\b)", r"#\1", process.stdout)
    return Run(printed, process.stderr.splitlines(), figures, module, process.returncode, seconds)


def _pixels(path):
    from matplotlib.image import imread

    return imread(path)


def differences(theirs, ours):
    """Return in words where two runs differ but for figures; nothing if they are the same."""
    found = []
    if (theirs.status, ours.status) != (0, 0):
        found.append(f"exit status {theirs.status} and {ours.status}: {ours.warned[-1:]}")
    if ours.module != "fastmlp.estimators" or not theirs.module.startswith("sklearn."):
        found.append(f"the MLPs are of {theirs.module} and {ours.module}")
    found += _first_difference("prints", theirs.printed.splitlines(), ours.printed.splitlines())
    # Two workers may warn in either order.
    found += _first_difference("warns", sorted(theirs.warned), sorted(ours.warned))
    shapes = [figure.shape for figure in theirs.figures], [figure.shape for figure in ours.figures]
    found += _first_difference("draws", *shapes)
    return found


def _first_difference(verb, theirs, ours):
    for a, b in zip_longest(theirs, ours):
        if a != b:
            return [f"{verb} {a!r} and {b!r}"]
    return []


def pixels(theirs, ours):
    """Return how many pixels differ in each figure."""
    return [
        int((a != b).any(axis=-1).sum()) for a, b in zip(theirs.figures, ours.figures, strict=True)
    ]


def compare(script):
    """Compare a script's runs.

    Returns
    -------
    theirs, ours : Run
        With scikit-learn and with fastmlp; `ours` is None if the script was skipped.
    found : list of str
        Where they differ.
    remarks : list of str
        Where they differ by rounding.
    """
    theirs = run(script)
    if theirs.status == SKIPPED:
        return theirs, None, [], []
    ours = run(script, accelerated=True)
    found = differences(theirs, ours)
    if found or not any(pixels(theirs, ours)):
        return theirs, ours, found, []
    exact, nudged = run(script, accelerated=True, way="numpy"), run(script, way="nudge")
    found = differences(theirs, exact)
    remarks = []
    for number, counts in enumerate(
        zip(*(pixels(theirs, other) for other in (ours, exact, nudged)), strict=True), start=1
    ):
        words = (
            "figure {}: {} pixels differ, {} with the NumPy backend; of scikit-learn's own {} when "
            "X changes in its last bits".format(number, *counts)
        )
        by_engine, by_numpy, by_nudge = counts
        if by_numpy or by_engine > 2 * by_nudge:
            found.append(words)
        elif by_engine:
            remarks.append(words)
    return theirs, ours, found, remarks


# ------------------------------------------------------------------- in the process of the example


def _use_numpy():
    """Let fastmlp use its NumPy backend."""
    from fastmlp import backends

    backends.NAMES = ("numpy",)


def _nudge():
    """Let scikit-learn's MLPs train on the neighbours of the numbers that they are given."""
    from sklearn.neural_network import _multilayer_perceptron

    fit = _multilayer_perceptron.BaseMultilayerPerceptron._fit

    def nudged_fit(model, X, *args, **options):
        return fit(model, np.nextafter(X, np.inf), *args, **options)

    _multilayer_perceptron.BaseMultilayerPerceptron._fit = nudged_fit


_WAYS = {"": lambda: None, "numpy": _use_numpy, "nudge": _nudge}


def _run_here(script, out, way):
    """Run a script as ``python`` does, and leave its figures and the MLPs' module in a folder."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import sklearn.datasets
    import sklearn.neural_network

    def show(*_, **__):
        for number in plt.get_fignums():
            n_figures = len(list(Path(out).glob("*.png")))
            plt.figure(number).savefig(Path(out, f"{n_figures:03d}.png"), metadata={"Software": ""})
        plt.close("all")

    plt.show = show
    _WAYS[way]()
    sklearn.datasets.fetch_openml = _fetch
    module = sklearn.neural_network.MLPClassifier.__module__
    Path(out, "notes.json").write_text(json.dumps({"module": module}))
    sys.argv[:] = [script]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    np.random.seed(0)  # for what an example leaves to chance
    runpy.run_path(script, run_name="__main__")
    show()


def _fetch(name, *, return_X_y=False, as_frame="auto", **_):
    """Stand in for `fetch_openml`."""
    if name == "mnist_784" and return_X_y and not as_frame:
        from fastmlp import datasets

        try:
            (X, y), (X_test, y_test) = datasets.load_mnist()
        except datasets.DatasetError as error:
            sys.stderr.write(f"MNIST is not available: {error}\n")
            os._exit(SKIPPED)
        return np.concatenate([X, X_test]).astype(float), np.concatenate([y, y_test]).astype(str)
    if name == "Bike_Sharing_Demand" and as_frame and not return_X_y:
        return _bike_rentals()
    sys.stderr.write(f"there is no stand-in for the data set {name!r}.\n")
    os._exit(SKIPPED)


def _bike_rentals():
    """Return made-up numbers in a table as OpenML's Bike_Sharing_Demand, version 2."""
    import pandas as pd

    rng = np.random.RandomState(0)
    hours = pd.date_range("2011-01-01", periods=17379, freq="h")
    season = (hours.month % 12) // 3
    warmth = -np.cos((hours.dayofyear - 15) / 365 * 2 * np.pi)
    temp = (
        16 + 12 * warmth + 4 * np.sin((hours.hour - 9) / 24 * 2 * np.pi) + rng.normal(0, 2, 17379)
    )
    weather = rng.choice(4, 17379, p=[0.66, 0.26, 0.0795, 0.0005])
    workingday = (hours.weekday < 5) & (rng.uniform(size=17379) > 0.03)
    rush = np.exp(-((hours.hour - 8) ** 2) / 4) + np.exp(-((hours.hour - 17.5) ** 2) / 6)
    leisure = np.exp(-((hours.hour - 14) ** 2) / 18)
    demand = np.where(workingday, rush, leisure) * (1 + warmth / 2) * (1 - weather / 4)
    demand = demand * np.where(hours.year == 2011, 300, 480) + 5
    frame = pd.DataFrame(
        {
            "season": pd.Categorical(np.array(["winter", "spring", "summer", "fall"])[season]),
            "year": (hours.year - 2011).astype(float),
            "month": hours.month.astype(float),
            "hour": hours.hour.astype(float),
            "holiday": pd.Categorical((~workingday & (hours.weekday < 5)).astype(str)),
            "weekday": ((hours.weekday + 1) % 7).astype(float),
            "workingday": pd.Categorical(workingday.astype(str)),
            "weather": pd.Categorical(np.array(["clear", "misty", "rain", "heavy_rain"])[weather]),
            "temp": temp.round(2),
            "feel_temp": (temp + rng.normal(3, 2, 17379)).round(2),
            "humidity": rng.uniform(0.2, 1.0, 17379).round(2),
            "windspeed": rng.gamma(2, 6, 17379).round(4),
            "count": rng.poisson(demand).clip(1).astype(float),
        }
    )
    data, target = frame.drop(columns="count"), frame["count"]
    return types.SimpleNamespace(frame=frame, data=data, target=target)


# -------------------------------------------------------------------------------------- the command


def main():
    if sys.argv[1:2] == ["--run"]:
        _run_here(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("examples", type=Path)
    parser.add_argument("name", nargs="*")
    options = parser.parse_args()
    scripts = [
        script
        for script in find(options.examples)
        if not options.name or any(name in str(script) for name in options.name)
    ]
    if not scripts:
        parser.error(f"no script in {options.examples} uses an MLP.")
    failed = False
    for script in scripts:
        theirs, ours, found, remarks = compare(script)
        name = script.relative_to(options.examples)
        if ours is None:
            print(f"skipped    {name}: {theirs.warned[-1]}", flush=True)
            continue
        failed = failed or bool(found)
        print(
            f"{'DIFFERENT' if found else 'the same':9}  {name}: "
            f"{len(theirs.printed.splitlines())} lines, {len(theirs.warned)} of warnings, "
            f"{len(theirs.figures)} figures; {theirs.seconds:.0f} and {ours.seconds:.0f} s",
            *found,
            *remarks,
            sep="\n           ",
            flush=True,
        )
    sys.exit(failed)


if __name__ == "__main__":
    main()
