"""Saved models, for ``fastmlp evaluate``, ``predict`` and ``confusions``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp import backends
from fastmlp.cli import image_data, tables
from fastmlp.cli.output import noting_warnings

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from fastmlp.estimators import MLPClassifier


def load_model(path: Path, backend: str | None, threads: int | None) -> Any:
    """Load a model, and set its backend and number of threads if they are given."""
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

        for network in networks(model):
            if backend is not None:
                network.set_params(backend=backends.resolve(backend))
            if threads is not None:
                network.set_params(n_threads=threads)
    return model


def averaged_over_copies(model: Any, n_copies: int, model_file: Path | None = None) -> Any:
    """Return a model that averages augmented copies of each image, or for 0 the model itself."""
    import numpy as np
    from sklearn.frozen import FrozenEstimator

    from fastmlp.estimators import TTAClassifier

    if n_copies == 0:
        return model
    if isinstance(model, TTAClassifier):
        return model.set_params(n_copies=n_copies)
    if is_pipeline(model):
        raise ValueError(f"--copies is for images, but {model_file} predicts rows: omit it.")
    if not hasattr(model, "classes_"):
        raise ValueError(
            f"--copies is for classifiers, but {model_file} predicts numbers: omit it."
        )
    if getattr(getattr(model, "estimator", model), "augment", None) is None:
        raise ValueError(
            "--copies is for networks that were trained on augmented images, but the augmentation "
            f"of {model_file} is None (or a function, which files do not keep): omit it, or train "
            "with --augment."
        )
    some = np.zeros((1, model.n_features_in_), np.uint8), model.classes_[:1]
    return TTAClassifier(FrozenEstimator(model), n_copies=n_copies).fit(*some)


def is_pipeline(model: Any) -> bool:
    """Return whether a model is a pipeline, as for tables."""
    return hasattr(model, "steps")


def own_size(model: Any, data: str) -> tuple[int, int] | None:
    """Return the size to resize images to for a model."""
    return image_data.shape_of_model(model) if Path(data).expanduser().is_dir() else None


def check_features(model_file: Path, model: "MLPClassifier", source: object, X: "NDArray") -> None:
    """Refuse samples with another number of features than the model's."""
    if X.shape[1] != model.n_features_in_:
        raise ValueError(
            f"{source} must hold samples of {model.n_features_in_} features, as {model_file} was "
            f"trained on, got {X.shape[1]}: name data and a model that belong together."
        )


def scored_rows(pipeline: Any, model_file: Path, data: str) -> tuple["pd.DataFrame", "NDArray"]:
    """Return the rows of a table and the true targets for a pipeline."""
    from fastmlp.tables import take_target

    check_is_table(data, model_file)
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


def check_is_table(data: str, model_file: Path | None) -> None:
    """Refuse a source that is not a table."""
    if data != "-" and not Path(data).expanduser().exists():
        hint = "with --data" if model_file is not None else "or - for standard input"
        raise ValueError(f"{data} does not exist: name a table, {hint}.")
    if not tables.is_table(data):
        what = "the model" if model_file is None else str(model_file)
        raise ValueError(f"{data} must be a table, as {what} was trained on one.")
