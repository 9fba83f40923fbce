"""MLPRegressor: numeric targets, and their scaling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import sklearn.neural_network
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_array, column_or_1d

from fastmlp.core.inputs import is_map, target_map
from fastmlp.estimators import hints
from fastmlp.estimators.base import BaseMLP, described
from fastmlp.estimators.callbacks import with_callbacks
from fastmlp.estimators.constraints import OneOf
from fastmlp.estimators.turns import in_turn
from fastmlp.exceptions import (
    WarmStartWarning,
    warn,
    warn_of_column,
)

__all__ = ["MLPRegressor"]


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multilayer perceptron regressor, a drop-in replacement for scikit-learn's.

    It minimizes the squared error or the Poisson deviance.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default="squared_error"
        The loss, each halved; "poisson" has an exponential output activation and
        needs non-negative targets.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, \
    learning_rate_init, power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, \
    momentum, nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, epsilon, \
    n_iter_no_change, max_fun, backend, n_threads, dtype, input_scale, lr_schedule, dropout, \
    augment, weight_decay, max_grad_norm
        As in `MLPClassifier`. With early stopping the score is R^2.
    target_scale : None, "standard", float or (scale, shift), default=None
        Affine scaling of the targets, ``y' = scale * y + shift``, as part of the
        model: the network is trained on y', and `predict` inverts the scaling.
        "standard" gives every output mean 0 and variance 1 over the training
        data. Losses, also in `history_`, are of y'; scores are of y. For
        ``loss="poisson"``, only a positive factor.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, \
    best_validation_score_, t_, n_iter_, n_layers_, n_outputs_, out_activation_, \
    n_features_in_, feature_names_in_, history_, input_scale_
        As in `MLPClassifier`.
    target_scale_ : tuple of array of shape (`n_outputs_`,), or None
        The fitted scaling (scale, shift) of the targets, in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLPRegressor
    >>> X = np.linspace(-1, 1, 200)[:, np.newaxis]
    >>> model = MLPRegressor(hidden_layer_sizes=30, solver="lbfgs", tol=1e-3, random_state=0)
    >>> model = model.fit(X, np.sin(3 * X[:, 0]))
    >>> model.score(X, np.sin(3 * X[:, 0])) > 0.99
    True
    """

    _sklearn_class = sklearn.neural_network.MLPRegressor
    _of_targets: ClassVar = {"y_numeric": True}
    _constraints: ClassVar = {
        "loss": [OneOf(("squared_error", "poisson"))],
        **BaseMLP._constraints,
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: int | ArrayLike = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        backend: str = "auto",
        n_threads: int | None = None,
        dtype: str | None = None,
        input_scale: object = None,
        lr_schedule: str | Mapping[int, float] | Callable[[int], float] | None = None,
        dropout: float | ArrayLike = 0.0,
        augment: Callable[..., NDArray] | None = None,
        weight_decay: float = 0.01,
        max_grad_norm: float | None = None,
        target_scale: object = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            backend=backend,
            n_threads=n_threads,
            dtype=dtype,
            input_scale=input_scale,
            lr_schedule=lr_schedule,
            dropout=dropout,
            augment=augment,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
        )
        self.loss = loss
        self.target_scale = target_scale

    fit = in_turn(with_callbacks(BaseMLP.fit))  # callbacks are set up and torn down within the lock

    # scikit-learn's regressor has partial_fit for all solvers; L-BFGS then runs completely.
    @in_turn
    @with_callbacks
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on these samples; the state of the optimizer is kept.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight=sample_weight, incremental=True)

    def predict(self, X: ArrayLike) -> NDArray:
        """Predict the targets.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_outputs)
        """
        return self._predict(X)

    def _predict(self, X: ArrayLike, check_input: bool = True) -> NDArray:
        """Predict the targets; scikit-learn's hook for subclasses."""
        outputs = self._unscaled(self._forward_pass_fast(X))
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _encode(
        self, X: Any, y: Any, *, reset: bool, incremental: bool
    ) -> tuple[Any, Any, NDArray]:
        """Validate training data; return X, y, and y as columns."""
        if issparse(y):
            raise TypeError(
                f"y must be a dense array, got a sparse one of shape {y.shape}; use y.toarray()."
            )
        X, y = self._validate_training_data(X, y, reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y)
            warn_of_column("MLPRegressor")
        return X, y, self._columns(y, "y")

    def _encode_validation(self, y: Any) -> NDArray:
        """Return the validation targets as columns."""
        y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y_val")
        return self._columns(y, "y_val")

    def _columns(self, y: NDArray, name: str) -> NDArray:
        """Return targets as columns, and refuse invalid ones."""
        if y.dtype.kind not in "biuf":
            raise TypeError(
                f"{name} must be numbers, got {y.dtype}; convert it with {name}.astype(float)."
            )
        if self.loss == "poisson" and np.any(y < 0):
            raise ValueError(
                f"{name} must not be negative for loss='poisson', got {np.min(y):g}; use "
                "loss='squared_error', or shift the targets."
            )
        return y[:, np.newaxis] if y.ndim == 1 else y

    def _settle_targets(self, Y: NDArray, *, resumes: bool) -> None:
        """Set the scaling of `target_scale`, or keep the fitted one."""
        wanted = target_map(self.target_scale, Y, keeps_sign=self.out_activation_ == "exp")
        if not resumes:
            if wanted is None and self.out_activation_ == "identity":
                hints.about_targets(Y, self.solver)
            self.target_scale_ = wanted
            return
        fitted = self._fitted_target_scale()
        self.target_scale_ = fitted
        if wanted is None or fitted is None:
            is_kept = wanted is fitted
        else:  # "standard" depends on the data
            is_kept = isinstance(self.target_scale, str) or np.array_equal(wanted, fitted)
        if not is_kept:
            warn(
                "target_scale_ of the first fit is kept; "
                f"target_scale={self.target_scale!r} has no effect.",
                WarmStartWarning,
            )

    def _fitted_target_scale(self) -> tuple[NDArray, NDArray] | None:
        """Return the fitted scaling, None for a model made by hand; refuse an invalid one."""
        fitted: Any = vars(self).get("target_scale_")
        # A model that is being fitted, in parts, has no weights yet.
        layers = vars(self).get("intercepts_")
        n_outputs = self.n_outputs_ if layers is None else len(layers[-1])
        if not is_map(fitted, n_outputs):
            raise ValueError(
                "target_scale_ must be None or a pair (scale, shift) of arrays of shape "
                f"({n_outputs},), got {described(fitted)}; restore the fitted one, or fit again."
            )
        return fitted

    def _targets(self, Y: NDArray, dtype: np.dtype) -> NDArray:
        """Return the scaled targets for the network."""
        if self.target_scale_ is None:
            return Y.astype(dtype)
        scale, shift = self.target_scale_
        return (scale * Y + shift).astype(dtype)

    def _unscaled(self, outputs: NDArray) -> NDArray:
        """Return the outputs in the units of the targets."""
        fitted = self._fitted_target_scale()
        if fitted is None:
            return outputs
        scale, shift = fitted
        return ((outputs - shift) / scale).astype(outputs.dtype)

    def _output_activation(self) -> str:
        """Return the output activation of the loss."""
        return "exp" if self.loss == "poisson" else "identity"

    def _score_outputs(self, Y: NDArray, outputs: NDArray, weight: NDArray | None) -> float:
        """Return R^2, or NaN if the network has diverged."""
        outputs = self._unscaled(outputs)
        if not np.isfinite(outputs).all():
            return np.nan
        return float(r2_score(Y, outputs, sample_weight=weight))
