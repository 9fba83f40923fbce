"""What a person, a page or a form needs to know of a model."""

from typing import Any

import numpy as np
from sklearn.base import OneToOneFeatureMixin, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from fastmlp import cards
from fastmlp.portable.tables import PlainTable
from fastmlp.utils.gray_levels import WHITES
from fastmlp.utils.image_shapes import square_shape

__all__ = ["about", "first_network"]

_MOST_CATEGORIES = 512  # of a column that are listed
_MOST_FEATURES = 512  # of a model that are listed
_LARGE_SIDE, _SMALL_SIDE = 16, 8  # of images: with fewer pixels, rows may be those of a table


def about(model: Any, name: str) -> dict[str, Any]:
    """Describe a fitted model as JSON, for those who are to give it data.

    Parameters
    ----------
    model : estimator
        Of fastmlp, an ensemble, or a pipeline; with ``metadata_`` if it was trained by the command
        line.
    name : str

    Returns
    -------
    dict
        With the keys

        - name : str
        - kind : "images", "table" or "rows". What it predicts: images of `shape`, rows with named
          columns, or rows of numbers.
        - task : "classification", "multilabel" or "regression"
        - classes : list of str, int, float or bool, or None
        - shape : [rows, columns] or None
        - background : float or None. Gray level around the training images, 0 for black to 255 for
          white.
        - white : float or None. The value of a white pixel: 255 for bytes, 16 for scikit-learn's
          digits. If it was not recorded in training, the smallest of 1, 16 and 255 for which
          `input_scale` gives 1.
        - n_features : int
        - target : str or None. Name of the column that is predicted.
        - names : list of str or None. Of the features, if the model was trained on named ones.
        - columns : list of dict, or None. Of tables, and of rows of not too many features: name,
          kind ("number", "boolean", "date" or "category"), typical (a value to begin with), low and
          high (of numbers; dates are ISO texts) or values (of categories, the frequent ones first;
          of booleans, as they are written), None where it is not known.
        - card : dict. The model card; see `fastmlp.cards.card`.

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.datasets import load_digits
    >>> (X, y), _ = load_digits()
    >>> model = MLPClassifier(input_scale=1 / 16, tol=1e-3, random_state=1).fit(X, y)
    >>> found = about(model, "digits")
    >>> found["kind"], found["shape"], found["classes"][:3]
    ('images', [8, 8], [0, 1, 2])
    """
    metadata = getattr(model, "metadata_", None) or {}
    if not isinstance(metadata, dict):
        metadata = {}
    table = PlainTable.of(model) if isinstance(model, Pipeline) else None
    n_features = int(model.n_features_in_) if hasattr(model, "n_features_in_") else 0
    kind, shape = "rows", None
    if table is not None:
        kind = "table"
    elif metadata.get("kind") == "images" and _is_shape(metadata.get("shape"), n_features):
        kind, shape = "images", list(metadata["shape"])
    elif "kind" not in metadata and not hasattr(model, "feature_names_in_"):
        square = square_shape(n_features)  # of a model that Python has saved
        if square is not None and (square[0] >= _LARGE_SIDE or _reads_bytes(model, square[0])):
            kind, shape = "images", list(square)
    names = getattr(model, "feature_names_in_", None) if table is None else None
    return {
        "name": name,
        "kind": kind,
        "task": _task(model),
        "classes": model.classes_.tolist() if hasattr(model, "classes_") else None,
        "shape": shape,
        "background": metadata.get("background", 0.0) if kind == "images" else None,
        "white": metadata.get("white", _white(model)) if kind == "images" else None,
        "n_features": n_features,
        "target": None if metadata.get("target") is None else str(metadata["target"]),
        "names": None if names is None else list(map(str, names)),
        "columns": None if kind == "images" else _columns(model, table, metadata, n_features),
        "card": cards.card(model),
    }


def first_network(model: Any) -> Any:
    """Return the first network of those that are averaged, or another model itself."""
    model = cards.without_averaging(model)
    return getattr(model, "estimators_", [model])[0]


def _task(model: Any) -> str:
    if not is_classifier(model):
        return "regression"
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    labels = getattr(first_network(last), "_label_binarizer", None)
    if labels is not None and labels.y_type_.startswith("multilabel"):
        return "multilabel"
    return "classification"


def _is_shape(value: Any, n_features: int) -> bool:
    """Return whether a field of a file's metadata is the shape of images of so many pixels."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(side) is int and side > 0 for side in value)
        and value[0] * value[1] == n_features
    )


def _reads_bytes(model: Any, side: int) -> bool:
    """Return whether all inputs are scaled by one small factor, as those of small images are."""
    scaling = getattr(first_network(model), "input_scale_", None)
    if scaling is None or side < _SMALL_SIDE:
        return False
    scale, shift = scaling
    return bool((scale == scale[0]).all() and 0 < scale[0] <= 1 / 8 and not shift.any())


def _white(model: Any) -> float:
    """Return the value of a white pixel by the fitted input scaling."""
    scaling = getattr(first_network(model), "input_scale_", None)
    if scaling is None:
        return 255.0
    # Pixels that are standardized have deviations below 255.
    scale = np.abs(scaling[0]).astype(np.float64)
    reach = 1 / scale[scale > 0].min(initial=np.inf)
    return float(next((white for white in WHITES if reach <= white * (1 + 1e-6)), 255))


def _columns(
    model: Any, table: PlainTable | None, metadata: dict[str, Any], n_features: int
) -> list[dict[str, Any]] | None:
    """Return the columns of a table, or the features of rows."""
    if table is None:
        if not 0 < n_features <= _MOST_FEATURES or not _reads_numbers(model):
            return None
        names = getattr(model, "feature_names_in_", [f"x{i}" for i in range(n_features)])
        ranges_of_features = _scaled_ranges(model, n_features)
        return [
            {"name": str(name), **_number("number", known)}
            for name, known in zip(names, ranges_of_features, strict=True)
        ]
    ranges = metadata.get("ranges")
    ranges = ranges if isinstance(ranges, dict) else {}
    columns = []
    for column in table.columns:
        known = ranges.get(column.name)
        if column.kind == "category":
            values = list(known or column.inputs)[:_MOST_CATEGORIES]
            entry = {"kind": "category", "typical": values[0] if values else None, "values": values}
        elif column.kind == "boolean":
            words = column.words or (False, True)
            is_true = column.center > 0.5
            entry = {"kind": "boolean", "typical": words[is_true], "values": list(words)}
        else:
            if known is None and column.is_binary:
                known = [0.0, column.center, 1.0]
            elif known is None:  # the quartiles are half of 1 / scale from the median, if alike
                reach = 1.5 / column.scale if column.scale else 0.0
                known = [column.center - reach, column.center, column.center + reach]
            entry = _number(column.kind, known)
        columns.append({"name": column.name, **entry})
    return columns


def _reads_numbers(model: Any) -> bool:
    """Return whether all features are numbers, as far as a pipeline tells."""
    if not isinstance(model, Pipeline):
        return True
    first = model.steps[0][1]
    is_scaler = (
        isinstance(first, OneToOneFeatureMixin) and not get_tags(first).input_tags.categorical
    )
    return is_scaler or len(model.steps) == 1


def _scaled_ranges(model: Any, n_features: int) -> list[list[float] | None]:
    """Return two standard deviations around the mean of features that the model standardizes."""
    first = first_network(model)
    scaling = getattr(first, "input_scale_", None)
    if scaling is None or getattr(first, "input_scale", None) != "standard":
        return [None] * n_features
    found: list[list[float] | None] = []
    for scale, shift in zip(*(part.astype(np.float64).tolist() for part in scaling), strict=True):
        found.append([(z - shift) / scale for z in (-2, 0, 2)] if scale else None)
    return found


def _number(kind: str, known: list[float] | None) -> dict[str, Any]:
    """Return the range of a column of numbers or dates."""
    low, typical, high = known or (None, None, None)
    if kind == "date" and known:
        days = [str(np.datetime64(int(day), "D")) for day in known]
        return {"kind": kind, "typical": days[1], "low": days[0], "high": days[2]}
    return {"kind": kind, "typical": typical, "low": low, "high": high}
