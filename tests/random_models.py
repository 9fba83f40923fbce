"""Random fitted models of every kind, for exports: all tasks, activations, scalings and dtypes."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fastmlp import MLPClassifier, MLPEnsemble, MLPRegressor
from fastmlp.core.functions import ACTIVATIONS
from fastmlp.tables import make_table_pipeline

#: The first four are tasks of classifiers.
TASKS = ("multiclass", "binary", "multilabel", "squared error", "regression", "poisson")
_N_TRAINED, _N_ROWS = 120, 100


@dataclass
class Case:
    """A fitted model, and rows that it has not seen."""

    name: str
    model: Any
    rows: np.ndarray

    @property
    def is_float32(self):
        return self.model_of_one.coefs_[0].dtype == np.float32

    @property
    def model_of_one(self):
        return getattr(self.model, "estimators_", [self.model])[0]


def random_model(seed, task=None, activation=None, dtype=None):
    """Return a random case; it has all tasks and activations in turn, unless they are given."""
    random = np.random.RandomState(seed)
    task = task or TASKS[seed % len(TASKS)]
    activation = activation or list(ACTIVATIONS)[seed // len(TASKS) % len(ACTIVATIONS)]
    is_image = random.uniform() < 0.25
    dtype = dtype or random.choice(["float32", "float32", "float32", "float64"])
    X = _images(random) if is_image else _rows(random).astype(dtype)
    if is_image:
        scalings = [1 / 255, 1 / 255, "standard" if X.shape[1] == 64 else 1 / 255]
    else:
        scalings = ["standard", _pair(X), None if np.abs(X).max() < 8 else "standard"]
    parameters = {
        "hidden_layer_sizes": tuple(random.randint(1, 65, random.choice([1, 1, 2, 3]))),
        "activation": activation,
        "learning_rate_init": random.choice([0.001, 0.003]),
        "max_iter": random.randint(1, 25) if task in TASKS[:4] else random.randint(50, 150),
        "dtype": dtype,
        "input_scale": scalings[random.randint(3)],
        "random_state": random,
    }
    model, y = _learner(random, task, X, parameters)
    if random.uniform() < 0.2:
        model = MLPEnsemble(model, random.randint(2, 5), random_state=random)
    with warnings.catch_warnings(action="ignore"):
        model.fit(X[:_N_TRAINED], y[:_N_TRAINED])
    units = "-".join(map(str, parameters["hidden_layer_sizes"]))
    kind = "images" if is_image else f"{X.shape[1]} features"
    scaled = "" if parameters["input_scale"] is None else ", scaled"
    many = f", {len(model.estimators_)} networks" if isinstance(model, MLPEnsemble) else ""
    name = f"{seed}: {task}, {activation}, {units}, {dtype}, {kind}{scaled}{many}"
    return Case(name, model, X[_N_TRAINED:])


def _images(random):
    side = random.choice([8, 12, 28])
    X = random.randint(0, 256, (_N_TRAINED + _N_ROWS, side * side)).astype(np.uint8)
    X[random.uniform(size=X.shape) < 0.75] = 0
    return X


def _rows(random):
    n_features = random.randint(1, 40)
    X = random.normal(size=(_N_TRAINED + _N_ROWS, n_features))
    if random.uniform() < 0.5:  # as of measurements, some of which vary little
        X = X * 10 ** random.uniform(-2, 2, n_features)
        X += X.std(axis=0) * random.choice([0, 1, 3, 30], n_features)
    return X


def _pair(X):
    """Return a scaling by hand."""
    spread = np.maximum(X.std(axis=0, dtype=np.float64), 1e-3)
    return 1 / spread, -X.mean(axis=0, dtype=np.float64) / spread


def _learner(random, task, X, parameters):
    """Return an unfitted model, and labels or targets that depend on the inputs."""
    spread = np.maximum(X.std(axis=0, dtype=np.float64), 1e-9)
    Z = (X - X.mean(axis=0, dtype=np.float64)) / spread @ random.normal(size=(X.shape[1], 10))
    n_classes = random.randint(3, 11)
    if task == "regression":
        targets = Z[:, : random.randint(1, 4)] * 10 ** random.uniform(-2, 3) + random.choice([0, 7])
        y = targets[:, 0] if targets.shape[1] == 1 else targets
        scale = [None, "standard", 0.1][random.randint(3)]
        return MLPRegressor(target_scale=scale, **parameters), y
    if task == "poisson":
        scale = [None, "standard", 0.1][random.randint(3)]
        y = random.poisson(np.exp(Z[:, 0] / Z[:, 0].std())).astype(float)
        scale = None if scale == "standard" else scale  # which would make some negative
        return MLPRegressor(loss="poisson", target_scale=scale, **parameters), y
    if task == "multilabel":
        return MLPClassifier(**parameters), (Z[:, :n_classes] > 0).astype(int)
    if task == "binary":
        pair = [(False, True), (0, 1), (1, 2), ("no", "yes"), (-1.0, 1.0)][random.randint(5)]
        return MLPClassifier(**parameters), np.array(pair)[(Z[:, 0] > 0).astype(int)]
    places = np.append(np.arange(n_classes), Z[:, :n_classes].argmax(axis=1)[n_classes:])
    names = [
        np.arange(n_classes, dtype=np.uint8),
        np.arange(n_classes) * 10 - 5,
        np.array([f"Straße {i}" for i in range(n_classes)]),
        np.arange(n_classes, dtype=float),
    ]
    loss = "squared_error" if task == "squared error" else "log_loss"
    return MLPClassifier(loss=loss, **parameters), names[random.randint(4)][places]


def random_table(seed):
    """Return a pipeline fitted on a random table, and rows that it has not seen, as dicts.

    Some values are missing, and some categories were not in the training data.
    """
    random = np.random.RandomState(seed)
    frame = _frame(random, _N_TRAINED, ["a", "b", "c d", "é"])
    task = "regression" if seed % 3 == 0 else "classification"
    number = frame["size"].fillna(50) + 20 * (frame["label"] == "a")
    y = number.to_numpy() if task == "regression" else np.where(number > 55, "large", "small")
    pipeline = make_table_pipeline(
        task, n_rows=_N_TRAINED, random_state=seed, max_iter=4, n_estimators=1 + seed % 2
    )
    with warnings.catch_warnings(action="ignore"):
        pipeline.fit(frame, y)
    return pipeline, as_rows(_frame(random, _N_ROWS, ["a", "b", "c d", "é", "new"]))


def _frame(random, n_rows, names):
    frame = pd.DataFrame(
        {
            "size": random.normal(50, 9, n_rows),
            "is new": random.uniform(size=n_rows) < 0.3,
            "paid": random.choice(["Yes", "no"], n_rows),
            "label": random.choice(names, n_rows),
            "code": random.choice(["7", "12", "x"], n_rows),
            "when": np.datetime64("1999-12-31") + random.randint(0, 9999, n_rows),
            "0 or 1": random.randint(0, 2, n_rows),
        }
    )
    for name in ("size", "paid", "label", "when"):
        frame[name] = frame[name].where(random.uniform(size=n_rows) > 0.1)
    return frame


def as_rows(frame):
    """Return a table as a dict per row, with None for what is missing."""
    frame = frame.assign(when=frame["when"].astype(str).where(frame["when"].notna()))
    return frame.astype(object).where(frame.notna(), None).to_dict("records")
