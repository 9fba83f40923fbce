"""Model cards: what a saved model says of itself.

A card has sections of names and values, such as "model", "data" and "scores". What the model knows
(its network, parameters and history) is read from it; what it does not know (the data it was
trained on, scores, date and versions) is recorded after training and saved with it:

    fastmlp.save(model, "model.npz", metadata={"card": record(X, y, name="my digits", ...)})

`fastmlp train` records it for every model. The sections are those of Mitchell et al., "Model cards
for model reporting" (2019), as far as a program can know them.
"""

import platform
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from fastmlp.training import digest

__all__ = ["card", "record", "to_markdown"]

#: Versions that are recorded.
_PACKAGES = ("fastmlp", "numpy", "scikit-learn")
_MOST_CLASSES = 30  # that are listed
_MOST_FEATURES = 30

#: Parameters of the engine, which do not change the model.
_OF_ENGINE = ("backend", "n_threads", "verbose", "n_jobs", "warm_start")


def record(
    X: Any,
    y: Any,
    *,
    name: str | None = None,
    scores: Mapping[str, float] | None = None,
    sha256: str | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Describe the data that a model was trained on, and how well it does, for its card.

    Parameters
    ----------
    X : array-like, sparse matrix or DataFrame of shape (n_samples, n_features)
        The training data.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Labels or targets.
    name : str, optional
        What the data are called, such as the name of their file.
    scores : mapping of str to float, optional
        By what they measure, such as ``{"accuracy on 10000 test images": 0.97}``.
    sha256 : str, optional
        Of the file that the data come from. By default that of `X` and `y` themselves, if these
        are arrays or sparse matrices.
    **facts : str, int or float
        More about the data, such as ``licence="CC0"``.

    Returns
    -------
    dict
        For ``metadata={"card": ...}`` of `fastmlp.save`.

    Examples
    --------
    >>> X, y = np.array([[1.0], [2.0], [3.0]]), np.array(["a", "b", "a"])
    >>> found = record(X, y, name="three rows", scores={"accuracy": 1.0})
    >>> found["data"]["rows"], found["data"]["classes"]
    (3, {'a': 2, 'b': 1})
    """
    shape = X.shape if hasattr(X, "shape") else np.shape(X)
    if len(shape) != 2 or len(np.shape(y)) == 0 or np.shape(y)[0] != shape[0]:
        raise ValueError(
            "X and y must be the training data, of shapes (n_samples, n_features) and (n_samples,) "
            f"or (n_samples, n_outputs), got {shape} and {np.shape(y)}."
        )
    if not isinstance(scores, Mapping | None):
        raise ValueError(
            'scores must be numbers by what they measure, such as {"test accuracy": 0.97}, got '
            f"{scores!r}."
        )
    n_rows, n_features = shape
    data: dict[str, Any] = {} if name is None else {"name": name}
    data |= {"rows": int(n_rows), "features": int(n_features)}
    labels = np.asarray(y)
    if labels.ndim == 1 and (labels.dtype.kind in "OUSb" or _are_few(labels)):
        found, counts = np.unique(labels.astype(str), return_counts=True)
        if len(found) <= _MOST_CLASSES:
            data["classes"] = dict(zip(found.tolist(), counts.tolist(), strict=True))
        else:
            data["classes"] = len(found)
    elif labels.dtype.kind in "iuf":
        data["target"] = (
            f"{_short(labels.min())} to {_short(labels.max())}, mean {_short(labels.mean())}"
        )
    if sha256 is not None:
        data["SHA-256 of the file"] = sha256
    elif isinstance(X, np.ndarray) or hasattr(X, "indptr"):
        data["SHA-256 of X"], data["SHA-256 of y"] = (
            digest(part).rpartition(" ")[2] for part in (X, labels)
        )
    return {
        "data": data | facts,
        "scores": {name: float(score) for name, score in (scores or {}).items()},
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {"Python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
    }


def _are_few(labels: Any) -> bool:
    """Return whether numbers are classes: integers, each of them several times."""
    return labels.dtype.kind in "iu" and len(np.unique(labels)) <= len(labels) / 3


def card(model: Any) -> dict[str, dict[str, Any]]:
    """Return the card of a fitted model: sections of names and values, as JSON.

    Parameters
    ----------
    model : estimator
        Of fastmlp, an ensemble, or a pipeline that ends in one.

    Returns
    -------
    dict of str to dict
        "model", "training", "parameters" (those that are not the defaults) and, as far as they are
        recorded in its ``metadata_``, "data", "scores" and "versions".

    Examples
    --------
    >>> from fastmlp import MLPRegressor
    >>> X = np.arange(8.0).reshape(4, 2)
    >>> card(MLPRegressor(hidden_layer_sizes=3, solver="lbfgs").fit(X, X[:, 0]))["parameters"]
    {'hidden_layer_sizes': 3, 'solver': 'lbfgs'}
    """
    metadata = _section(getattr(model, "metadata_", None))
    recorded = _section(metadata.get("card"))
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    inner = without_averaging(last)
    networks = [n for n in getattr(inner, "estimators_", [inner]) if hasattr(n, "coefs_")]
    found: dict[str, Mapping[str, Any]] = {
        "model": _model(model, last, networks, metadata),
        "data": _section(recorded.get("data")),
        "scores": _section(recorded.get("scores")),
        "training": _training(networks, recorded),
        "parameters": _parameters(networks[0]) if networks else {},
        "versions": _section(recorded.get("versions")),
    }
    return {name: dict(section) for name, section in found.items() if section}


def without_averaging(model: Any) -> Any:
    """Return what a `TTAClassifier` averages, or another model itself."""
    if hasattr(model, "augment_"):
        model = model.estimator_
    return model.estimator if isinstance(model, FrozenEstimator) else model


def _section(value: Any) -> Mapping[str, Any]:
    """Return a mapping as it is; the file of a model may hold anything in its place."""
    return value if isinstance(value, Mapping) else {}


def _model(model: Any, last: Any, networks: list[Any], metadata: Mapping[str, Any]) -> dict:
    """Return what the model is and what it predicts."""
    facts: dict[str, Any] = {"estimator": type(last).__name__}
    if isinstance(model, Pipeline):
        facts["steps"] = ", ".join(type(step).__name__ for _, step in model.steps)
    if networks:
        first = networks[0]
        units = [len(first.coefs_[0]), *(len(part) for part in first.intercepts_)]
        facts["units per layer"] = "-".join(map(str, units))
        facts["activations"] = f"{first.activation}, then {first.out_activation_}"
        facts["weights"] = sum(part.size for part in (*first.coefs_, *first.intercepts_))
        if len(networks) > 1:
            facts["networks"] = f"{len(networks)}, averaged"
        facts["dtype"] = str(first.coefs_[0].dtype)
    if hasattr(last, "augment_"):
        facts["predictions"] = f"averaged over {last.n_copies} augmented copies of each image"
        facts["augmentation of copies"] = repr(last.augment_)
    facts["task"] = "classification" if is_classifier(model) else "regression"
    if metadata.get("target") is not None:
        facts["predicts"] = metadata["target"]
    if hasattr(model, "classes_"):
        facts["classes"] = _some(model.classes_.tolist(), _MOST_CLASSES)
    if isinstance(metadata.get("shape"), list):
        facts["image size"] = " x ".join(map(str, metadata["shape"]))
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        facts["features"] = _some(list(map(str, names)), _MOST_FEATURES)
    return facts


def _training(networks: list[Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the training went."""
    facts: dict[str, Any] = {}
    if networks:
        epochs = [int(network.n_iter_) for network in networks if hasattr(network, "n_iter_")]
        losses = [float(network.loss_) for network in networks if hasattr(network, "loss_")]
        seconds = sum(sum(getattr(n, "history_", {}).get("seconds", ())) for n in networks)
        if epochs:
            facts["epochs"] = epochs[0] if len(epochs) == 1 else epochs
        if losses:
            facts["final loss"] = losses[0] if len(losses) == 1 else losses
        if seconds:
            facts["seconds"] = round(seconds, 3)
    if "date" in recorded:
        facts["date"] = recorded["date"]
    return facts


def _parameters(network: Any) -> dict[str, Any]:
    """Return the parameters that are not the defaults and have an effect on the model."""
    defaults = type(network)().get_params(deep=False)
    return {
        name: _plain(value)
        for name, value in network.get_params(deep=False).items()
        if name not in _OF_ENGINE and repr(value) != repr(defaults[name])
    }


def _plain(value: Any) -> Any:
    """Return a parameter for JSON; what it has no type for as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _some(values: list[Any], most: int) -> str:
    shown = ", ".join(map(str, values[:most]))
    return shown + (f" and {len(values) - most} more" if len(values) > most else "")


def _short(number: Any) -> str:
    return f"{float(number):.6g}"


def to_markdown(model: Any, name: str) -> str:
    """Return the card of a fitted model as Markdown.

    Parameters
    ----------
    model : estimator
        See `card`.
    name : str
        The title.

    Returns
    -------
    str
    """
    lines = [f"# {_escaped(name)}", "", _summary(model)]
    for title, section in card(model).items():
        lines += ["", f"## {title.capitalize()}", "", "| | |", "|---|---|"]
        lines += [f"| {_escaped(key)} | {_escaped(in_words(v))} |" for key, v in section.items()]
    return "\n".join(lines) + "\n"


def _summary(model: Any) -> str:
    metadata = _section(getattr(model, "metadata_", None))
    data = _section(_section(metadata.get("card")).get("data"))
    words = "A multilayer perceptron"
    if isinstance(data.get("rows"), int):
        words += f", trained by fastmlp on {data['rows']:,} rows"
        words += f" of {_escaped(data['name'])}" if "name" in data else ""
    else:
        words += " of fastmlp"
    return f"{words}. Intended use, limits and ethical considerations are for its author to add."


def in_words(value: Any) -> str:
    """Return a value of a card, or a name, as text in one line that can be printed."""
    if isinstance(value, Mapping):
        return ", ".join(f"{in_words(k)}: {in_words(entry)}" for k, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(in_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _escaped(text: Any) -> str:
    """Return text for a cell of a Markdown table."""
    words = " ".join(str(text).split())
    for character in "\\`*_<>|[]#&":
        words = words.replace(character, "\\" + character)
    return words
