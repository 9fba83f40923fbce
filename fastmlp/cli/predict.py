"""``fastmlp predict``: the predictions of a saved model, one per line."""

import csv
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fastmlp.cli import image_data, tables
from fastmlp.cli.models import (
    averaged_over_copies,
    check_features,
    check_is_table,
    is_pipeline,
    load_model,
)
from fastmlp.cli.options import Backend, Copies, Json, ModelFile, Quiet, Threads
from fastmlp.cli.output import noting_warnings, print_json


def predict(
    model_file: ModelFile,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="For a model of tables: a table, or - for standard input. For a model of images: "
            "an image, a folder of images, IDX, .npy or .npz.",
        ),
    ],
    proba: Annotated[
        bool,
        typer.Option("--proba", help="Print CSV: a header with the classes, then probabilities."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the predictions for a table to a .csv, .parquet or .jsonl file.",
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Keep the columns of the table in addition to the predictions."
        ),
    ] = False,
    copies: Copies = 0,
    backend: Backend = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Print the predictions of a saved model, one per line.

    For a table, the output is CSV with a header; columns are matched by name.

    For example:

        fastmlp predict model.skops new.csv > predicted.csv

        fastmlp predict model.npz images.npy > labels.txt
        fastmlp predict model.npz images.npy --proba > proba.csv
    """
    from fastmlp.convert import read_array

    model = load_model(model_file, backend, threads)
    is_classifier = hasattr(model, "classes_")
    if proba and not is_classifier:
        raise ValueError(f"--proba is for classifiers, but {model_file} predicts numbers: omit it.")
    averaged = averaged_over_copies(model, copies, model_file)
    if is_pipeline(model):
        _predict_table(model, model_file, file, proba, out, keep, as_json)
        return
    for option, is_given in {"--out": out is not None, "--keep": keep}.items():
        if is_given:
            raise ValueError(
                f"{option} is for models of tables, but {model_file} is not one: omit it."
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
        probabilities = averaged.predict_proba(X) if proba else None
        predictions = averaged.predict(X) if as_json or not proba else None
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
    if files is not None:  # then rows show their index
        header = ["file", *(header or ["prediction"])]
        lines = [[name, *line] for name, line in zip(files, lines, strict=True)]
    if header:
        writer.writerow(header)
    writer.writerows(lines)


def _predict_table(
    pipeline: Any,
    model_file: Path,
    file: str,
    proba: bool,
    out: Path | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Print or write a row of predictions per row of a table."""
    if out is not None:
        tables.check_out(out, model_file, Path(file).expanduser())
    check_is_table(file, None)
    frame = tables.read(file)
    tables.note_strangers(pipeline, frame)
    predicted = tables.predictions_of(pipeline, frame, proba, keep)
    if as_json:
        print_json({"predictions": predicted.to_dict(orient="records")})
        return
    tables.write(predicted, out)
