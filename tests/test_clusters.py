"""Searches and predictions on the workers of other programs: the same as here, and run there."""

import os
import runpy
import shutil
import subprocess
import sys
import time
import uuid
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples/clusters"

pytestmark = [
    pytest.mark.slow,
    # Of the modules that examples import; examples and workers run in processes of their own.
    pytest.mark.filterwarnings("ignore:::(dask|distributed|ray|pyspark|joblibspark)"),
]

#: What a program needs: modules, and a command.
NEEDS = {
    "dask": (["distributed", "dask.dataframe"], None),
    "ray": (["ray"], None),
    "spark": (["pyspark", "joblibspark"], "java"),
}


def require(program):
    """Skip a test if a program is not here; fail if FASTMLP_REQUIRE_TOOLS names it."""
    modules, command = NEEDS[program]
    try:
        for module in modules:
            pytest.importorskip(module)
        if command and not shutil.which(command):
            pytest.skip(f"{program} needs {command}, which is not on the PATH")
    except pytest.skip.Exception as reason:
        if program in os.environ.get("FASTMLP_REQUIRE_TOOLS", "").split(","):
            pytest.fail(f"FASTMLP_REQUIRE_TOOLS names {program}, but: {reason}")
        raise


def run(*arguments):
    """Run Python with arguments, check that all of its processes end; return the lines of output.

    Without those of Ray, which sometimes reports the end of a worker that it ends itself.
    """
    mark = uuid.uuid4().hex
    environment = {**os.environ, "FASTMLP_TEST_MARK": mark, "PYSPARK_PYTHON": sys.executable}
    ended = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert "fastmlp/" not in ended.stderr  # no warning of ours, and no traceback
    deadline = time.monotonic() + 20  # some end after the process that has started them
    while left := processes_with(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    return [line for line in ended.stdout.splitlines() if "(raylet)" not in line]


def processes_with(mark):
    """Return the commands of the processes whose environment has a mark; Linux says it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.parametrize("program", NEEDS)
def test_example_of_a_search(program):
    require(program)
    script = EXAMPLES / f"joblib_{program}.py"
    namespace = runpy.run_path(str(script))
    results = namespace["search"].fit(namespace["X"], namespace["y"]).cv_results_
    expected = [
        f"{score} {parameters}"
        for score, parameters in zip(results["mean_test_score"], results["params"], strict=True)
    ]
    assert len(set(results["mean_test_score"])) > 1
    assert run(script) == expected


#: Start two local workers; return what ends them.
STARTS = {
    "dask": """
def start():
    from distributed import Client
    return Client(n_workers=2, threads_per_worker=1, dashboard_address=":0").shutdown
""",
    "ray": """
def start():
    import ray
    from ray.util.joblib import register_ray
    ray.init(num_cpus=2, include_dashboard=False)
    register_ray()
    return ray.shutdown
""",
    "spark": """
def start():
    from joblibspark import register_spark
    from pyspark.sql import SparkSession
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", False)
    stop = builder.getOrCreate().stop
    register_spark()
    return stop
""",
}

SEARCHES = """
import os, sys
import sklearn.model_selection
from joblib import parallel_config
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
import fastmlp.model_selection
from fastmlp import MLPClassifier
from fastmlp.utils.threads import usable_threads

def process(model, X, y):
    return os.getpid()

def threads(model, X, y):
    return usable_threads()

X, y = load_iris(return_X_y=True)
network = MLPClassifier((5,), early_stopping=True, max_iter=50, random_state=0)
pipeline = make_pipeline(StandardScaler(), network)
grid = {"mlpclassifier__alpha": [1e-4, 1], "mlpclassifier__activation": ["relu", "tanh"]}
scoring = {"accuracy": "accuracy", "process": process, "threads": threads}

def search(package, name, options):
    cls = getattr(package, name)
    if name.startswith("Halving"):  # which has one score
        return cls(pipeline, grid, cv=2, **options).fit(X, y)
    return cls(pipeline, grid, cv=2, scoring=scoring, refit="accuracy", **options).fit(X, y)

def column(search, name):
    results = search.cv_results_
    names = [key for key in results if key.startswith("split") and key.endswith("_" + name)]
    return [value for key in names for value in results[key].tolist()]

if __name__ == "__main__":
    stop = start()
    for name, score, options in [
        ("GridSearchCV", "accuracy", {}),
        ("RandomizedSearchCV", "accuracy", {"n_iter": 3, "random_state": 0}),
        ("HalvingGridSearchCV", "score", {"factor": 2, "random_state": 0}),
    ]:
        for package in (sklearn.model_selection, fastmlp.model_selection):
            here = search(package, name, options)
            with parallel_config(backend=sys.argv[1], n_jobs=2):
                there = search(package, name, options)
            print((
                package.__name__, name, os.getpid(),
                column(here, "test_" + score), column(there, "test_" + score),
                column(there, "process"), column(there, "threads"),
                (here.predict_proba(X) == there.predict_proba(X)).all().item(),
            ))
    stop()
"""


@pytest.mark.parametrize("program", NEEDS)
def test_searches_run_on_the_workers_that_joblib_is_given(program, tmp_path):
    require(program)
    script = tmp_path / "searches.py"
    script.write_text(STARTS[program] + SEARCHES)
    lines = [literal_eval(line) for line in run(script, program)]
    assert len(lines) == 6
    for package, name, own, here, there, processes, threads, is_same in lines:
        assert here == there, (package, name)
        assert len(here) > 4
        assert is_same, "the best model differs"
        if not name.startswith("Halving"):
            assert processes
            assert own not in processes, "a fit has run in the process of the search"
            assert set(threads) == {1}  # as these programs say by OMP_NUM_THREADS


@pytest.mark.parametrize("program", ["dask", "spark"])
def test_example_of_predictions(program):
    require(program)
    pytest.importorskip("pyarrow")
    script = EXAMPLES / f"{program}_predict.py"
    namespace = runpy.run_path(str(script))
    data, pipeline = namespace["wine"].data, namespace["pipeline"]
    names = pipeline.predict(data)
    *first, labels, counts = run(script)
    assert labels.split() == ["names", *names[::60]]
    assert literal_eval(counts) == dict(zip(*np.unique(names, return_counts=True), strict=True))
    if program == "dask":
        model, X, y = namespace["model"], namespace["X"], namespace["y"]
        confidence = model.predict_proba(X).max(axis=1).mean()
        assert first[0] == f"accuracy {model.score(X, y)}"
        assert float(first[1].removeprefix("mean confidence ")) == pytest.approx(confidence)


#: A table of several types with missing values, as Spark and Dask hand its parts to a model.
TABLE = """
import sys
import numpy as np, pandas as pd
from fastmlp.tables import make_table_pipeline

random = np.random.RandomState(0)
table = pd.DataFrame({
    "size": np.where(random.uniform(size=200) < 0.1, np.nan, random.normal(size=200)),
    "count": random.randint(0, 9, 200),
    "kind": random.choice(["a", "b", "c", None], 200),
    "is_new": random.uniform(size=200) < 0.5,
    "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.randint(0, 90, 200), "D"),
})
y = (table["size"].fillna(0) + (table["kind"] == "a") + table["is_new"]).to_numpy()
pipeline = make_table_pipeline("regression", n_estimators=1, random_state=0, max_iter=40)
pipeline.fit(table, y)
expected = pipeline.predict(table)

def check(found):
    np.testing.assert_array_equal(np.asarray(found, expected.dtype), expected)
    print("equal", np.ptp(expected) > 0.1)
"""

PREDICTIONS = {
    "dask": """
if __name__ == "__main__":
    import dask.dataframe as dd
    from distributed import Client
    parts = dd.from_pandas(table, npartitions=3)
    found = parts.map_partitions(pipeline.predict, meta=expected[:0])
    check(found.compute(scheduler="threads"))
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=":0"):
        check(found.compute())
""",
    "spark": """
if __name__ == "__main__":
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import pandas_udf, struct
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", False)
    spark = builder.getOrCreate()

    @pandas_udf("double")
    def predicted(columns: pd.DataFrame) -> pd.Series:
        return pd.Series(pipeline.predict(columns))

    def with_prediction(parts):
        for part in parts:
            yield part.assign(predicted=pipeline.predict(part))[["row", "predicted"]]

    table["row"] = range(len(table))
    parts = spark.createDataFrame(table).repartition(3)
    one = parts.select("row", predicted(struct(*table.columns[:-1])).alias("predicted"))
    other = parts.mapInPandas(with_prediction, "row long, predicted double")
    for found in (one, other):
        check(found.toPandas().sort_values("row")["predicted"])
    spark.stop()
""",
}


@pytest.mark.parametrize("program", PREDICTIONS)
def test_parts_of_a_table_of_several_types(program, tmp_path):
    require(program)
    pytest.importorskip("pyarrow")
    script = tmp_path / "table.py"
    script.write_text(TABLE + PREDICTIONS[program])
    assert run(script) == ["equal True"] * 2
