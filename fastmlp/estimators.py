"""The estimator: scikit-learn's interface, labels and fitted attributes around the engine."""

import operator
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import sklearn
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from fastmlp import backends, constraints
from fastmlp.constraints import BOOLEAN, RANDOM_STATE, VERBOSE, Constraint, Exactly, Interval, OneOf
from fastmlp.inputs import Inputs, affine_map
from fastmlp.network import ACTIVATIONS, Network, Parameters
from fastmlp.training import SGD, Adam, EpochReport, TrainingState, train

#: Inputs that span more than this, unscaled, get an `InputScaleWarning`: 25 times the
#: range of a standardised feature's central 95 %, well below the 255 of raw pixels.
_WIDE_RANGE = 100.0


class InputScaleWarning(UserWarning):
    """The features span far more than unit scale, on which these networks train badly."""


class MLPClassifier(ClassifierMixin, BaseEstimator):
    """Multilayer perceptron classifier, a drop-in for scikit-learn's, on a compiled engine.

    It minimises the log loss by stochastic gradient descent or Adam. The
    parameters that scikit-learn has mean what they mean there, and in float64
    the same random state gives the same numbers.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Units per hidden layer; empty for a linear model.
    activation : {"identity", "logistic", "tanh", "relu"}, default="relu"
        Function of the hidden layers.
    solver : {"sgd", "adam"}, default="adam"
        How the weights are optimised.
    alpha : float, default=0.0001
        Strength of the L2 penalty, which is divided by the batch size.
    batch_size : int or "auto", default="auto"
        Samples per update; "auto" is ``min(200, n_samples)``.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Schedule of the learning rate, for ``solver="sgd"`` only. "invscaling"
        divides the initial rate by ``(t_ + 1) ** power_t`` after each epoch;
        "adaptive" divides the rate by 5 whenever progress stalls.
    learning_rate_init : float, default=0.001
        Initial learning rate.
    power_t : float, default=0.5
        Exponent of "invscaling".
    max_iter : int, default=200
        Epochs at most.
    shuffle : bool, default=True
        Visit the samples in a new order in every epoch.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the validation split and the order of
        the samples.
    tol : float, default=1e-4
        Improvement of the loss, or of the validation score, that counts.
    verbose : bool or int, default=False
        Print a line per epoch.
    warm_start : bool, default=False
        Start from the weights of the last call to fit.
    momentum : float in [0, 1], default=0.9
        Momentum of ``solver="sgd"``.
    nesterovs_momentum : bool, default=True
        Use Nesterov's momentum.
    early_stopping : bool, default=False
        Hold out a part of the training data, stop when the score on it no
        longer improves, and keep the best weights.
    validation_fraction : float in [0, 1), default=0.1
        The part held out by `early_stopping`.
    beta_1, beta_2 : float in [0, 1), default=0.9 and 0.999
        Decay rates of Adam's moments.
    epsilon : float, default=1e-8
        Adam's numerical stabiliser.
    n_iter_no_change : int or inf, default=10
        Epochs without improvement after which training stops.
    max_fun : int, default=15000
        Accepted for compatibility; only L-BFGS uses it.
    backend : {"auto", "cython", "numpy"}, default="auto"
        Implementation of the engine. "auto" is the first that is available;
        one that is named is used or refused with the reason.
    n_threads : int or None, default=None
        Threads at most. None is as many as this process may use. The result
        does not depend on it.
    dtype : {"float32", "float64"} or None, default=None
        Precision of the arithmetic. None follows the input: float32 for
        float32 and uint8, otherwise float64.
    input_scale : None, "standard", float or (scale, shift), default=None
        An affine map of the features, ``x' = scale * x + shift``, that is part
        of the model. "standard" gives every feature mean 0 and variance 1 over
        the training data; ``1 / 255`` suits byte images, which stay uint8.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        Class labels.
    coefs_ : list of array of shape (fan_in, fan_out)
        Weights per layer.
    intercepts_ : list of array of shape (fan_out,)
        Biases per layer.
    loss_ : float
        Loss of the last epoch.
    best_loss_ : float or None
        Lowest loss; None with `early_stopping`.
    loss_curve_ : list of float
        Loss per epoch.
    validation_scores_ : list of float or None
        Accuracy on the held-out data per epoch, with `early_stopping`.
    best_validation_score_ : float or None
        The best of them.
    t_ : int
        Training samples seen.
    n_iter_ : int
        Epochs of the last fit.
    n_layers_, n_outputs_ : int
        Layers, counting input and output, and output units.
    out_activation_ : {"softmax", "logistic"}
        Function of the output layer.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, if X had any.
    input_scale_ : tuple of array of shape (n_features_in_,), or None
        The affine map (scale, shift) in use.

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.datasets import load_digits
    >>> (X, y), (X_test, y_test) = load_digits()
    >>> model = MLPClassifier(input_scale=1 / 16, tol=1e-3, random_state=1).fit(X, y)
    >>> model.score(X_test, y_test) > 0.85
    True
    """

    _constraints: ClassVar[dict[str, Sequence[Constraint]]] = {
        "hidden_layer_sizes": [constraints.ArrayLike(), Interval(Integral, 1, None, "[)")],
        "activation": [OneOf(ACTIVATIONS)],
        "solver": [OneOf(("sgd", "adam"))],
        "alpha": [Interval(Real, 0, None, "[)")],
        "batch_size": [OneOf(("auto",)), Interval(Integral, 1, None, "[)")],
        "learning_rate": [OneOf(("constant", "invscaling", "adaptive"))],
        "learning_rate_init": [Interval(Real, 0, None, "()")],
        "power_t": [Interval(Real, 0, None, "[)")],
        "max_iter": [Interval(Integral, 1, None, "[)")],
        "shuffle": BOOLEAN,
        "random_state": RANDOM_STATE,
        "tol": [Interval(Real, 0, None, "[)")],
        "verbose": VERBOSE,
        "warm_start": BOOLEAN,
        "momentum": [Interval(Real, 0, 1, "[]")],
        "nesterovs_momentum": BOOLEAN,
        "early_stopping": BOOLEAN,
        "validation_fraction": [Interval(Real, 0, 1, "[)")],
        "beta_1": [Interval(Real, 0, 1, "[)")],
        "beta_2": [Interval(Real, 0, 1, "[)")],
        "epsilon": [Interval(Real, 0, None, "()")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, "[)"),
            Exactly(np.inf, "a float among {inf}"),
        ],
        "max_fun": [Interval(Integral, 1, None, "[)")],
        "backend": [OneOf(("auto", *backends.NAMES))],
        "n_threads": [Interval(Integral, 1, None, "[)"), constraints.NONE],
        "dtype": [OneOf(("float32", "float64")), constraints.NONE],
    }

    coefs_: list[NDArray]
    intercepts_: list[NDArray]

    def __init__(
        self,
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
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.backend = backend
        self.n_threads = n_threads
        self.dtype = dtype
        self.input_scale = input_scale

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train the network.

        Ctrl-C ends training with a warning and keeps what has been learned.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples. uint8 stays uint8.
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
            Class labels of any type, or a 0/1 matrix of labels that are not
            exclusive (multilabel).

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or if training diverged to
            weights that are not finite.
        BackendUnavailableError
            If `backend` names one that cannot be used here.
        """
        return self._fit(X, y)

    def _fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        on_epoch: Callable[[EpochReport], None] | None = None,
    ) -> Self:
        """Train, and call `on_epoch` after every epoch."""
        if not sklearn.get_config()["skip_parameter_validation"]:
            constraints.validate(
                self.get_params(deep=False), self._constraints, type(self).__name__
            )
        backend = backends.get(self.backend)
        hidden_units = _hidden_units(self.hidden_layer_sizes)
        resumes = self.warm_start and hasattr(self, "coefs_")

        data, Y = self._validate_training_data(X, y, reset=not resumes)
        dtype = np.dtype(self.dtype or (np.float32 if data.dtype == np.uint8 else data.dtype))
        random_state = check_random_state(self.random_state)
        # scikit-learn's order of draws: initial weights, held-out samples, epochs.
        if resumes:
            network, parameters = self._resumed(hidden_units, dtype)
        else:
            network, parameters = self._initialized(data, Y, hidden_units, dtype, random_state)
        X_train, Y_train, held_out = self._hold_out(data, Y, random_state)
        if not resumes:
            self.input_scale_ = self._input_scale(X_train, dtype)

        engine = backend.Engine(
            network,
            parameters,
            self._inputs(X_train, dtype),
            Y_train.astype(dtype),
            n_threads=self.n_threads,
        )
        validation_score = None
        if held_out is not None:
            X_validation, Y_validation = held_out
            validation_score = _accuracy_scorer(
                engine, self._inputs(X_validation, dtype), Y_validation
            )
            if self._state.best_flat is None:
                self._state.best_flat = parameters.flat.copy()
        self._optimizer = self._new_optimizer(parameters.flat)
        self.n_layers_ = len(network.layer_units)
        self.coefs_ = parameters.coefs
        self.intercepts_ = parameters.intercepts
        self.n_iter_ = train(
            engine,
            self._optimizer,
            self._state,
            n_samples=len(X_train),
            batch_size=self._batch_size(len(X_train)),
            max_iter=self.max_iter,
            shuffle=self.shuffle,
            random_state=random_state,
            tol=self.tol,
            n_iter_no_change=self.n_iter_no_change,
            validation_score=validation_score,
            verbose=bool(self.verbose),
            on_epoch=on_epoch,
        )
        self._publish_history()
        if not np.isfinite(parameters.flat).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        return self

    def predict(self, X: ArrayLike) -> NDArray:
        """Predict class labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_labels)
            The most probable class; for a multilabel problem, 1 where the
            label's probability exceeds one half.
        """
        outputs = self._outputs(X)
        return self._label_binarizer.inverse_transform(
            outputs.ravel() if self.n_outputs_ == 1 else outputs
        )

    def predict_proba(self, X: ArrayLike) -> NDArray:
        """Estimate the probability of every class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            Rows sum to 1, except for a multilabel problem. Columns are in the
            order of `classes_`.
        """
        outputs = self._outputs(X)
        if self.n_outputs_ == 1:
            return np.hstack([1 - outputs, outputs])
        return outputs

    def predict_log_proba(self, X: ArrayLike) -> NDArray:
        """Estimate the logarithm of the probability of every class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            ``log(predict_proba(X))``; minus infinity where a probability is 0.
        """
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: several classes and several labels are fine."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there are weights to predict with."""
        return hasattr(self, "coefs_")

    def _validate_training_data(self, X: Any, y: Any, *, reset: bool) -> tuple[NDArray, NDArray]:
        """Return X as a matrix that an engine takes, and the labels as 0/1 columns."""
        floating = (np.float64, np.float32) if self.dtype is None else (np.dtype(self.dtype),)
        X, y = validate_data(
            self,
            X,
            y,
            reset=reset,
            dtype=(*floating, np.uint8),
            order="C",
            multi_output=True,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if reset:
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {self.classes_!s}, `y` has {classes!s}"
                )
        return X, self._label_binarizer.transform(y)

    def _initialized(
        self,
        X: NDArray,
        Y: NDArray,
        hidden_units: tuple[int, ...],
        dtype: np.dtype,
        random_state: np.random.RandomState,
    ) -> tuple[Network, Parameters]:
        """Begin a new model: its network and initial weights."""
        self.n_outputs_ = Y.shape[1]
        multiclass = self._label_binarizer.y_type_ == "multiclass"
        self.out_activation_ = "softmax" if multiclass else "logistic"
        self._state = TrainingState()
        network = self._network((X.shape[1], *hidden_units, self.n_outputs_))
        return network, Parameters.initial(network, random_state, dtype)

    def _resumed(
        self, hidden_units: tuple[int, ...], dtype: np.dtype
    ) -> tuple[Network, Parameters]:
        """Go on with the fitted model: its network and a copy of its weights."""
        network = self._network()
        if network.layer_units[1:-1] != hidden_units:
            warnings.warn(
                f"warm_start keeps the hidden layers {network.layer_units[1:-1]} of the first fit; "
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} has no effect.",
                stacklevel=4,
            )
        return network, Parameters.from_layers(network, self.coefs_, self.intercepts_, dtype)

    def _hold_out(
        self, X: NDArray, Y: NDArray, random_state: np.random.RandomState
    ) -> tuple[NDArray, NDArray, tuple[NDArray, NDArray] | None]:
        """Return what to train on and, with early stopping, what to validate on."""
        if not self.early_stopping:
            return X, Y, None
        X_train, X_validation, Y_train, Y_validation = train_test_split(
            X,
            Y,
            random_state=random_state,
            test_size=self.validation_fraction,
            stratify=Y if self.n_outputs_ == 1 else None,
        )
        if len(X_validation) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        return X_train, Y_train, (X_validation, Y_validation)

    def _network(self, layer_units: tuple[int, ...] | None = None) -> Network:
        """Return the network of these layers, or else of the fitted weights."""
        if layer_units is None:
            layer_units = (self.coefs_[0].shape[0], *(len(b) for b in self.intercepts_))
        return Network(layer_units, self.activation, self.out_activation_, float(self.alpha))

    def _input_scale(self, X: NDArray, dtype: np.dtype) -> tuple[NDArray, NDArray] | None:
        """Return the affine map to learn with; warn if there should be one and is none."""
        scale, shift = affine_map(self.input_scale, X, dtype)
        if scale is not None and shift is not None:
            return scale, shift
        low, high = X.min(), X.max()
        if float(high) - float(low) > _WIDE_RANGE:
            warnings.warn(
                f"The features span {low:g} to {high:g}; a network trains well on about unit "
                "scale and may diverge or stall on this. Pass input_scale='standard' (or "
                "input_scale=1/255 for byte images), or scale X first.",
                InputScaleWarning,
                stacklevel=4,
            )
        return None

    def _inputs(self, X: NDArray, dtype: np.dtype) -> Inputs:
        """Return X behind the fitted affine map."""
        if X.dtype != np.uint8:
            X = X.astype(dtype, copy=False)
        if self.input_scale_ is None:
            return Inputs(X, dtype)
        scale, shift = (part.astype(dtype, copy=False) for part in self.input_scale_)
        return Inputs(X, dtype, scale, shift)

    def _batch_size(self, n_samples: int) -> int:
        """Return the samples per update."""
        if self.batch_size == "auto":
            return min(200, n_samples)
        batch_size = operator.index(self.batch_size)  # type: ignore[arg-type]
        if batch_size > n_samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=4,
            )
        return min(batch_size, n_samples)

    def _new_optimizer(self, flat: NDArray) -> SGD | Adam:
        """Return the solver's optimiser in its initial state."""
        if self.solver == "sgd":
            return SGD(
                np.zeros_like(flat),
                self.learning_rate_init,
                self.learning_rate,
                self.power_t,
                self.momentum,
                bool(self.nesterovs_momentum),
            )
        return Adam(
            np.zeros_like(flat),
            np.zeros_like(flat),
            self.learning_rate_init,
            self.beta_1,
            self.beta_2,
            self.epsilon,
        )

    def _publish_history(self) -> None:
        """Hand out the training state under scikit-learn's names."""
        state = self._state
        self.t_ = state.n_samples_seen
        self.loss_curve_ = state.loss_curve
        if state.loss_curve:
            self.loss_ = state.loss_curve[-1]
        self.best_loss_ = None if self.early_stopping else state.best_loss
        self.validation_scores_ = state.validation_scores if self.early_stopping else None
        self.best_validation_score_ = state.best_validation_score if self.early_stopping else None

    def _outputs(self, X: Any) -> NDArray:
        """Return the values of the output units, of shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype="numeric", order="C")
        if self.dtype is not None:
            dtype = np.dtype(self.dtype)
        else:
            dtype = np.result_type(self.coefs_[0], X)
        backend = backends.get(self.backend)
        network = self._network()
        parameters = Parameters.from_layers(network, self.coefs_, self.intercepts_, dtype)
        engine = backend.Engine(network, parameters, n_threads=self.n_threads)
        outputs = np.empty((X.shape[0], network.n_outputs), dtype)
        engine.predict(self._inputs(X, dtype), outputs)
        return outputs


def _hidden_units(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Return the units of the hidden layers as a tuple."""
    sizes = list(hidden_layer_sizes) if np.iterable(hidden_layer_sizes) else [hidden_layer_sizes]
    if any(size <= 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return tuple(operator.index(size) for size in sizes)


def _accuracy_scorer(engine: Any, inputs: Inputs, Y: NDArray) -> Callable[[], float]:
    """Return a function that scores the engine's current parameters on held-out data.

    The score is the accuracy; for several labels, that of whole rows.
    """
    outputs = np.empty(Y.shape, inputs.dtype)
    classes = Y.argmax(axis=1)

    def score() -> float:
        engine.predict(inputs, outputs)
        if engine.network.output_activation == "softmax":
            return float(np.mean(outputs.argmax(axis=1) == classes))
        return float(np.mean(((outputs > 0.5) == Y).all(axis=1)))

    return score
