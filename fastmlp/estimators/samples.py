"""What a fit is trained on: validated samples, and data of which several fits take rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from fastmlp.training import Pass, Run


@dataclass(frozen=True)
class Samples:
    """Validated samples.

    Parameters
    ----------
    matrix : array or CSR matrix of shape (n_rows, n_features)
    Y : array of shape (n_samples, n_outputs)
        Targets of the output units.
    weight : array of shape (n_samples,) or None
    rows : array of shape (n_samples,), optional
        The samples' rows of the matrix, if they are not all of them in order.
    """

    matrix: Any
    Y: NDArray
    weight: NDArray | None
    rows: NDArray | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.Y)

    @property
    def X(self) -> Any:
        """The samples' inputs: the matrix, or a copy of its rows."""
        return self.matrix if self.rows is None else self.matrix[self.rows]

    def some(self, most: int) -> Any:
        """Return inputs of at most so many samples, evenly spread."""
        step = -(-len(self) // most) or 1
        return self.matrix[::step] if self.rows is None else self.matrix[self.rows[::step]]

    def part(self, index: NDArray) -> Samples:
        """Return some of the samples."""
        weight = None if self.weight is None else self.weight[index]
        if self.rows is None:
            return Samples(self.matrix[index], self.Y[index], weight)
        return Samples(self.matrix, self.Y[index], weight, self.rows[index])

    def spread(self, values: NDArray | None) -> NDArray | None:
        """Return values of the samples in the places of their rows."""
        if values is None or self.rows is None:
            return values
        placed = np.zeros((self.matrix.shape[0], *values.shape[1:]), values.dtype)
        placed[self.rows] = values
        return placed


@dataclass(frozen=True)
class Preparation:
    """Validated inputs of a fit.

    Parameters
    ----------
    X, y : array or matrix
        Validated, held-out samples included; for callbacks. Some of them, if they are in parts.
    shape : (int, int)
        Of all samples, held-out ones included.
    samples : Samples
        To train on; some of them, if they are in parts.
    n_samples : int
        To train on.
    engine : Engine of any backend
    passes : callable
        Maps the batch size, and the order of the last epoch or None, to the `Pass` of `train`.
    validate : callable or None
        Returns the loss and the score of the engine's parameters on validation data.
    random_state : RandomState
        In the same state as scikit-learn's before the first epoch, except for drawing the seed of
        dropout and augmentation.
    run : Run or None
        Of the checkpoint.
    """

    X: Any
    y: Any
    shape: tuple[int, int]
    samples: Samples
    n_samples: int
    engine: Any
    passes: Callable[..., Pass]
    validate: Callable[[], tuple[float, float]] | None
    random_state: np.random.RandomState
    run: Run | None = None


class SharedData:
    """Data that several fits share, validated once for each kind of estimator.

    Parameters
    ----------
    X, y
        As for `fit`.
    """

    def __init__(self, X: Any, y: Any) -> None:
        self.X, self.y = X, y
        self._found: dict[Any, tuple[Any, Any, dict[str, Any]]] = {}
        self._computed: dict[Any, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def of(self, model: Any) -> tuple[Any, Any]:
        """Return X and y, validated for this estimator, which gets the names of the features."""
        with self._lock:
            key = type(model), model.dtype
            if key not in self._found:
                probe = clone(model)
                X, y = probe._validate_training_data(self.X, self.y, reset=True)
                seen = {k: v for k, v in vars(probe).items() if k.endswith("_in_")}
                self._found[key] = X, y, seen
            X, y, seen = self._found[key]
        model.__dict__.update(seen)
        return X, y

    def once(self, name: str, rows: NDArray | None, compute: Callable[[], Any]) -> Any:
        """Return something that depends on the rows of y only, computed by the first who asks."""
        with self._lock:
            key = name, id(rows)
            if key not in self._computed:
                self._computed[key] = compute(), rows  # which keeps its id
            return self._computed[key][0]


@dataclass(frozen=True)
class Share:
    """What one fit takes of shared data; passed to `fit` as X.

    Parameters
    ----------
    data : SharedData
    rows : array of shape (n_samples,), optional
        All rows by default.
    """

    data: SharedData
    rows: NDArray | None = None

    def inputs(self) -> Any:
        """Return the rows of X as they were given, for predictions."""
        return self.data.X if self.rows is None else _safe_indexing(self.data.X, self.rows)

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return something that depends on these rows of y only; see `SharedData`."""
        return self.data.once(name, self.rows, compute)

    def validated(self, model: Any) -> tuple[Any, Any]:
        """Return the whole X, and the rows of y, validated for this estimator."""
        X, y = self.data.of(model)
        return X, y if self.rows is None else y[self.rows]
