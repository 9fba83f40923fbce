"""``fastmlp evaluate`` and ``predict``: what a saved model makes of samples."""

import csv
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastmlp import backends
from fastmlp.cli.options import DATA, Backend, DataHome, ModelFile, Threads
from fastmlp.cli.output import (
    backend_in_words,
    network_in_words,
    note_columns,
    noting_warnings,
    print_facts,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmlp.estimators import MLPClassifier


def evaluate(
    model_file: ModelFile,
    data: Annotated[str, DATA] = "mnist",
    data_home: DataHome = None,
    backend: Backend = None,
    threads: Threads = None,
) -> None:
    """Score a saved model on a data set.

    Any data set with as many features will do.

    For example:

        fastmlp evaluate model.npz --data mnist
        fastmlp evaluate model.npz --data directory/with/four/idx/files
    """
    from sklearn.metrics import accuracy_score

    from fastmlp import datasets

    model = load_model(model_file, backend, threads)
    train_part, (X_test, y_test) = datasets.load(data, data_home)
    note_columns(data)
    check_features(model_file, model, data, X_test)
    with noting_warnings():
        started = time.perf_counter()
        predictions = model.predict(X_test)
        seconds = time.perf_counter() - started
        n_errors = len(y_test) - int(accuracy_score(y_test, predictions, normalize=False))
        train_score = model.score(*train_part)
    print_facts(
        {
            "data set": data,
            "network": network_in_words(model),
            "backend": backend_in_words(model.backend),
            "train score": f"{train_score:.3f}",
            "test score": f"{1 - n_errors / len(y_test):.3f}",
            "test errors": f"{n_errors} of {len(y_test)}",
            "test time": f"{seconds:.3f} s",
        }
    )


def predict(
    model_file: ModelFile,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A row or an image per sample: IDX, gzipped IDX, .npy or .npz."
        ),
    ],
    proba: Annotated[
        bool,
        typer.Option("--proba", help="Print CSV: the classes, then their probabilities."),
    ] = False,
    backend: Backend = None,
    threads: Threads = None,
) -> None:
    """Print the label of every sample as a saved model predicts it, one a line.

    Labels go to standard output, from where they can be redirected.

    For example:

        fastmlp predict model.npz t10k-images-idx3-ubyte.gz > labels.txt
        fastmlp predict model.npz images.npy --proba > probabilities.csv
    """
    from fastmlp.formats import read_array

    model = load_model(model_file, backend, threads)
    samples = read_array(file)
    if samples.ndim < 2:
        raise ValueError(
            f"{file} must hold a row or an image per sample, got shape {samples.shape}."
        )
    X = samples.reshape(len(samples), math.prod(samples.shape[1:]))
    check_features(model_file, model, file, X)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    with noting_warnings():
        outputs = model.predict_proba(X) if proba else model.predict(X).reshape(len(X), -1)
    if proba:
        writer.writerow(model.classes_.tolist())
        writer.writerows([f"{value:.6g}" for value in row] for row in outputs)
    else:
        writer.writerows(outputs.tolist())


def load_model(path: Path, backend: str | None, threads: int | None) -> "MLPClassifier":
    """Load a model, to be used with another backend or number of threads if these are given."""
    from fastmlp import persistence

    try:
        model = persistence.load(path)
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist: name a model that 'fastmlp train' has saved, as model.npz or "
            "where --out said."
        ) from None
    if backend is not None:
        model.set_params(backend=backends.resolve(backend))
    if threads is not None:
        model.set_params(n_threads=threads)
    return model


def check_features(model_file: Path, model: "MLPClassifier", source: object, X: "NDArray") -> None:
    """Refuse samples that are not of the kind that a model has been trained on."""
    if X.shape[1] != model.n_features_in_:
        raise ValueError(
            f"{source} must hold samples of {model.n_features_in_} features, as {model_file} was "
            f"trained on, got {X.shape[1]}: name data and a model that belong together."
        )
