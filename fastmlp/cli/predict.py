"""``fastmlp evaluate`` and ``predict``: what a saved model makes of samples."""

import csv
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastmlp import backends
from fastmlp.cli import image_data, tables
from fastmlp.cli.options import DATA, Backend, DataHome, Json, ModelFile, Quiet, Threads
from fastmlp.cli.output import (
    backend_in_words,
    instruction_set,
    network_in_words,
    noting_warnings,
    print_facts,
    print_json,
    units_of,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from fastmlp.estimators import MLPClassifier


def evaluate(
    model_file: ModelFile,
    data: Annotated[str, DATA] = "mnist",
    data_home: DataHome = None,
    backend: Backend = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a saved model on a data set.

    Any data set with as many features will do.

    For example:

        fastmlp evaluate model.npz --data mnist
        fastmlp evaluate model.npz --data folder/of/idx/files
    """
    from sklearn.metrics import accuracy_score

    model = load_model(model_file, backend, threads)
    if is_pipeline(model):
        _evaluate_table(model, model_file, data, as_json)
        return
    loaded = image_data.load(data, data_home, own_size(model, data))
    train_part, (X_test, y_test) = loaded.train, loaded.test
    check_features(model_file, model, data, X_test)
    image_data.note_strangers(model, data, X_test, y_test)
    with noting_warnings():
        started = time.perf_counter()
        predictions = model.predict(X_test)
        seconds = time.perf_counter() - started
        n_errors = len(y_test) - int(accuracy_score(y_test, predictions, normalize=False))
        train_score = model.score(*train_part)
    test_score = 1 - n_errors / len(y_test)
    if as_json:
        name = backends.resolve(model.backend)
        print_json(
            {
                "data set": data,
                "network": units_of(model),
                "activation": model.activation,
                "backend": name,
                "instruction set": instruction_set(name),
                "train score": train_score,
                "test score": test_score,
                "test errors": n_errors,
                "test samples": len(y_test),
                "test time": seconds,
            }
        )
        return
    print_facts(
        {
            "data set": data,
            "network": network_in_words(model),
            "backend": backend_in_words(model.backend),
            "train score": f"{train_score:.3f}",
            "test score": f"{test_score:.3f}",
            "test errors": f"{n_errors} of {len(y_test)}",
            "test time": f"{seconds:.3f} s",
        }
    )


def predict(
    model_file: ModelFile,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="For a model of a table, a table, or - for standard input; for one of images, a "
            "picture, a folder of them, IDX, .npy or .npz.",
        ),
    ],
    proba: Annotated[
        bool,
        typer.Option("--proba", help="Print CSV: the classes, then their probabilities."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the predictions for a table to a .csv, .parquet or .jsonl file.",
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the columns of a table beside the predictions.")
    ] = False,
    backend: Backend = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print what a saved model predicts for every sample, one a line.

    Labels go to standard output, from where they can be redirected. For a table they are CSV, with
    a header; its columns are matched by name.

    For example:

        fastmlp predict model.skops new.csv > predicted.csv

        fastmlp predict model.npz images.npy > labels.txt
        fastmlp predict model.npz images.npy --proba > proba.csv
    """
    from fastmlp.convert import read_array

    model = load_model(model_file, backend, threads)
    is_classifier = hasattr(model, "classes_")
    if proba and not is_classifier:
        raise ValueError(
            f"--proba is for models of classes, but {model_file} predicts numbers: leave it out."
        )
    if is_pipeline(model):
        _predict_table(model, model_file, file, proba, out, keep, as_json)
        return
    for option, is_given in {"--out": out is not None, "--keep": keep}.items():
        if is_given:
            raise ValueError(
                f"{option} is for models of tables, but {model_file} is none: leave it out."
            )
    path, names = Path(file).expanduser(), None
    if image_data.is_picture(path):
        with noting_warnings():
            X, names = image_data.pictures_for(model, path)
    else:
        samples = read_array(path)
        if samples.ndim < 2:
            raise ValueError(
                f"{file} must hold a row or an image per sample, got shape {samples.shape}."
            )
        X = samples.reshape(len(samples), math.prod(samples.shape[1:]))
    check_features(model_file, model, file, X)
    image_data.note_strangers(model, file, X)
    files = names if names is not None and path.is_dir() else None
    writer = csv.writer(sys.stdout, lineterminator="\n")
    with noting_warnings():
        probabilities = model.predict_proba(X) if proba else None
        predictions = model.predict(X) if as_json or not proba else None
    if as_json:
        print_json(
            {
                "files": files,
                "predictions": predictions,
                "classes": model.classes_ if is_classifier else None,
                "probabilities": probabilities,
            }
        )
        return
    header: list[Any] = []
    lines: list[list[Any]] = []
    if probabilities is not None:
        header = model.classes_.tolist()
        lines = [[f"{value:.6g}" for value in row] for row in probabilities]
    elif predictions is not None:
        lines = predictions.reshape(len(X), -1).tolist()
    if files is not None:  # then rows say of which they are
        header = ["file", *(header or ["prediction"])]
        lines = [[name, *line] for name, line in zip(files, lines, strict=True)]
    if header:
        writer.writerow(header)
    writer.writerows(lines)


def own_size(model: Any, data: str) -> tuple[int, int] | None:
    """Return the size that pictures must get for a model."""
    return image_data.shape_of_model(model) if Path(data).expanduser().is_dir() else None


def is_pipeline(model: Any) -> bool:
    """Return whether a model has steps, as those of tables have."""
    return hasattr(model, "steps")


def _evaluate_table(pipeline: Any, model_file: Path, data: str, as_json: bool) -> None:
    """Score a pipeline on a table that has the target's column."""
    X, y = scored_rows(pipeline, model_file, data)
    with noting_warnings():
        started = time.perf_counter()
        pipeline.predict(X)
        seconds = time.perf_counter() - started
        scores = tables.metrics(pipeline, X, y)
    if as_json:
        print_json(
            {
                "data set": tables.name_of(data),
                "target": tables.target_of(pipeline),
                "test samples": len(X),
                "test scores": tables.metrics_as_json(scores),
                "test time": seconds,
            }
        )
        return
    tables.print_metrics(scores, f"{len(X):,} rows of {tables.name_of(data)}")


def scored_rows(pipeline: Any, model_file: Path, data: str) -> tuple["pd.DataFrame", "NDArray"]:
    """Return the rows of a table and the target that a pipeline is to be compared with."""
    from fastmlp.tables import take_target

    _refuse_others(data, model_file)
    frame, target = tables.read(data), tables.target_of(pipeline)
    if target is None or target not in frame.columns:
        raise ValueError(
            f"{tables.name_of(data)} must have the column {target!r}, which {model_file} predicts, "
            f"to score it, got {', '.join(map(repr, list(frame.columns)[:8]))}: 'fastmlp predict' "
            "needs none."
        )
    task = "classification" if hasattr(pipeline, "classes_") else "regression"
    with noting_warnings():
        X, y = take_target(frame, target, task)
    tables.note_strangers(pipeline, X, y)
    return X, y


def _predict_table(
    pipeline: Any,
    model_file: Path,
    file: str,
    proba: bool,
    out: Path | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Print or write a row of predictions for every row of a table."""
    if out is not None:
        tables.check_out(out, model_file, Path(file).expanduser())
    _refuse_others(file, None)
    frame = tables.read(file)
    tables.note_strangers(pipeline, frame)
    predicted = tables.predictions_of(pipeline, frame, proba, keep)
    if as_json:
        print_json({"predictions": predicted.to_dict(orient="records")})
        return
    tables.write(predicted, out)


def _refuse_others(data: str, model_file: Path | None) -> None:
    """Refuse what is no table."""
    if data != "-" and not Path(data).expanduser().exists():
        hint = "with --data" if model_file is not None else "or - for standard input"
        raise ValueError(f"{data} does not exist: name a table, {hint}.")
    if not tables.is_table(data):
        what = "the model" if model_file is None else str(model_file)
        raise ValueError(f"{data} must be a table, as {what} was trained on one.")


def load_model(path: Path, backend: str | None, threads: int | None) -> Any:
    """Load a model, to be used with another backend or number of threads if these are given."""
    import fastmlp

    try:
        model = fastmlp.load(path)
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist: name a model that 'fastmlp train' has saved, as model.npz or "
            "where --out said."
        ) from None
    if backend is not None or threads is not None:
        from fastmlp.report.analysis import networks

        for network in networks(model) if is_pipeline(model) else [model]:
            if backend is not None:
                network.set_params(backend=backends.resolve(backend))
            if threads is not None:
                network.set_params(n_threads=threads)
    return model


def check_features(model_file: Path, model: "MLPClassifier", source: object, X: "NDArray") -> None:
    """Refuse samples that are not of the kind that a model has been trained on."""
    if X.shape[1] != model.n_features_in_:
        raise ValueError(
            f"{source} must hold samples of {model.n_features_in_} features, as {model_file} was "
            f"trained on, got {X.shape[1]}: name data and a model that belong together."
        )
