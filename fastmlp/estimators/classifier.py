"""MLPClassifier: encoding of labels, and prediction of labels and probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import sklearn.neural_network
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels

from fastmlp.estimators import constraints, hints
from fastmlp.estimators.base import BaseMLP, ExplainedMemoryError
from fastmlp.estimators.callbacks import with_callbacks
from fastmlp.estimators.constraints import Interval, OneOf
from fastmlp.estimators.samples import Share
from fastmlp.estimators.turns import in_turn
from fastmlp.estimators.weights import check_any_weight
from fastmlp.exceptions import (
    warn_as_sklearn,
    warn_of_column,
)

__all__ = ["MLPClassifier"]


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multilayer perceptron classifier, a drop-in replacement for scikit-learn's.

    It minimizes the log loss or the squared error by stochastic gradient descent, Adam, AdamW or
    L-BFGS. scikit-learn's parameters have the same meaning as there, and in float64 the same
    random state gives the same numbers.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Units per hidden layer; empty for a linear model.
    activation : {"identity", "logistic", "tanh", "relu", "leaky_relu", "gelu", "silu"}, \
default="relu"
        Activation function of the hidden layers. "leaky_relu" has a slope of 0.01 below 0,
        "gelu" is the approximation by tanh, and "silu" (swish) is ``z / (1 + exp(-z))``.
    solver : {"lbfgs", "sgd", "adam", "adamw"}, default="adam"
        Optimizer of the weights. "lbfgs" uses all samples at once; "adamw" is Adam with decoupled
        weight decay.
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
        Maximum number of epochs; for "lbfgs", of iterations.
    shuffle : bool, default=True
        Shuffle the samples in each epoch.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the validation split and the order of
        the samples.
    tol : float, default=1e-4
        Minimum improvement of the loss or the validation score; for "lbfgs", the
        tolerance for the largest component of the gradient.
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
        The fraction held out by `early_stopping`.
    beta_1, beta_2 : float in [0, 1), default=0.9 and 0.999
        Decay rates of Adam's moments.
    epsilon : float, default=1e-8
        Added to Adam's denominator for numerical stability.
    n_iter_no_change : int or inf, default=10
        Epochs without improvement after which training stops.
    max_fun : int, default=15000
        Maximum number of loss evaluations, for ``solver="lbfgs"``.
    backend : {"auto", "cython", "numba", "numpy", "cuda"}, default="auto"
        Implementation of the engine. "auto" is the first available of the others except
        "cuda", with a `SlowBackendWarning` if nothing is compiled and NumPy is left; a
        named one that is not available raises an error with the reason.
    n_threads : int or None, default=None
        Maximum number of threads. None uses all CPUs available to the process. The
        result does not depend on it.
    dtype : {"float32", "float64"} or None, default=None
        Precision of computations. None depends on the input: float32 for
        float32 and uint8, otherwise float64.
    input_scale : None, "standard", float or (scale, shift), default=None
        Affine scaling of the features, ``x' = scale * x + shift``, as part of the
        model. "standard" gives every feature mean 0 and variance 1 over the
        training data; ``1 / 255`` is for uint8 images, which are not converted.
    lr_schedule : "linear", "cosine", dict of int to float, callable or None, default=None
        Learning rate per epoch, counted from 1. "linear" is ``learning_rate_init *
        (max_iter + 1 - epoch) / max_iter``, "cosine" is ``learning_rate_init / 2 *
        (1 + cos(pi * (epoch - 1) / max_iter))``; later epochs than `max_iter`, of a
        warm start or `partial_fit`, keep its rate. ``{1: 1e-3, 15: 1e-4}``
        sets the rate from these epochs on. A callable maps the epoch to its
        rate; to pickle the model, it must be a function of a module, not a
        lambda. Not for "lbfgs"; with ``learning_rate="constant"``.
    dropout : float in [0, 1) or array-like of such, default=0.0
        Probability of dropping a hidden unit, for each sample and epoch; one for
        all hidden layers or one per layer. The other units are multiplied by
        ``1 / (1 - dropout)``; predictions use all units. Not for "lbfgs".
    augment : Augmentation, callable or None, default=None
        Augmentation of the training images, different in each epoch: an object of
        `fastmlp.augment`, or a function that maps an array of samples, of shape
        (n, n_features), to another of the same shape and dtype, before
        `input_scale`; it is tried on one sample, then called with some
        thousands. X must be dense; validation data are not augmented. Not for
        "lbfgs".
    weight_decay : float, default=0.01
        Weight decay of ``solver="adamw"``: each update multiplies the weights and
        intercepts by ``1 - learning_rate * weight_decay``, as PyTorch's AdamW does. `alpha`, the L2
        penalty, is not 0 by default; ``alpha=0`` leaves only the decay.
    max_grad_norm : float or None, default=None
        Maximum Euclidean norm of a batch's gradient, over all weights and intercepts, with that
        of the L2 penalty; larger gradients are scaled down to it. Not for "lbfgs".
    loss : {"log_loss", "squared_error"}, default="log_loss"
        "squared_error" is half the squared error of logistic outputs, one per class,
        averaged over the outputs.
    label_smoothing : float in [0, 1) or pair (off, on), default=0.0
        A float s changes the targets 0 and 1 to ``s / n_classes`` and ``1 - s + s /
        n_classes``, where independent outputs (binary, multilabel,
        "squared_error") count as two classes each. A pair contains the
        targets themselves: ``(0.01, 0.99)``. Also applies to the loss of
        validation data.
    class_weight : dict, "balanced" or None, default=None
        Class weights, as in other classifiers of scikit-learn; multiplied with
        `sample_weight`.

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
        Lowest loss; None with `early_stopping`. Not for "lbfgs".
    loss_curve_ : list of float
        Loss per epoch. Not for "lbfgs".
    validation_scores_ : list of float or None
        Accuracy on the held-out data per epoch, with `early_stopping`.
    best_validation_score_ : float or None
        The best of these scores.
    t_ : int
        Training samples seen.
    n_iter_ : int
        Epochs of the last fit.
    n_layers_, n_outputs_ : int
        Number of layers, including input and output, and of output units.
    out_activation_ : {"softmax", "logistic"}
        Activation function of the output layer.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : array of shape (`n_features_in_`,)
        Names of the features, if X has any.
    history_ : dict of str to list of float
        Lists of equal length with an entry per epoch: "loss",
        "learning_rate" (not for "lbfgs"), "seconds" and, with validation data,
        "val_loss" and "val_score".
    input_scale_ : tuple of array of shape (`n_features_in_`,), or None
        The fitted scaling (scale, shift).

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.datasets import load_digits
    >>> (X, y), (X_test, y_test) = load_digits()
    >>> model = MLPClassifier(input_scale=1 / 16, tol=1e-3, random_state=1).fit(X, y)
    >>> model.score(X_test, y_test) > 0.85
    True
    """

    _sklearn_class = sklearn.neural_network.MLPClassifier
    _constraints: ClassVar = {
        **BaseMLP._constraints,
        "loss": [OneOf(("log_loss", "squared_error"))],
        "label_smoothing": [
            Interval(Real, 0, 1, "[)"),
            constraints.InstanceOf(tuple),
            constraints.InstanceOf(list),
        ],
        "class_weight": [
            constraints.InstanceOf(dict),
            constraints.InstanceOf(list),
            OneOf(("balanced",)),
            constraints.NONE,
        ],
    }

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
        lr_schedule: str | Mapping[int, float] | Callable[[int], float] | None = None,
        dropout: float | ArrayLike = 0.0,
        augment: Callable[..., NDArray] | None = None,
        weight_decay: float = 0.01,
        max_grad_norm: float | None = None,
        loss: str = "log_loss",
        label_smoothing: float | tuple[float, float] = 0.0,
        class_weight: dict | list | str | None = None,
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
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight

    fit = in_turn(with_callbacks(BaseMLP.fit))  # callbacks are set up and torn down within the lock

    @available_if(lambda self: self._check_solver())
    @in_turn
    @with_callbacks
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on these samples; the state of the optimizer is kept.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_labels)
        sample_weight : array-like of shape (n_samples,), optional
        classes : array-like of shape (n_classes,), optional
            Classes across all calls of partial_fit; required for the first call only.

        Returns
        -------
        self
        """
        before = self.__dict__.copy()
        try:
            self._set_classes(classes, y)
            return self._fit(X, y, sample_weight=sample_weight, incremental=True)
        finally:
            if not hasattr(self, "coefs_"):  # a refused first call sets no attributes
                self.__dict__ = before

    def _set_classes(self, classes: Any, y: Any) -> None:
        """Set the classes in the first call of partial_fit, and refuse others in later calls."""
        fitted: Any = getattr(self, "classes_", None)
        if classes is None and fitted is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if classes is not None and fitted is None:
            self.classes_ = unique_labels(classes)
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
        elif classes is not None and not np.array_equal(fitted, unique_labels(classes)):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{fitted!r}"
            )

    def predict(self, X: ArrayLike) -> NDArray:
        """Predict class labels.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_labels)
            The most probable class; for multilabel problems, 1 where the
            probability of the label exceeds 0.5.
        """
        return self._predict(X)

    def _predict(self, X: ArrayLike, check_input: bool = True) -> NDArray:
        """Predict class labels; scikit-learn's hook for subclasses."""
        outputs = self._forward_pass_fast(X)
        if self._is_multiclass():
            return self.classes_[outputs.argmax(axis=1)]
        return self._label_binarizer.inverse_transform(
            outputs.ravel() if self.n_outputs_ == 1 else outputs
        )

    def predict_proba(self, X: ArrayLike) -> NDArray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            Rows sum to 1, except for multilabel problems. Columns are in the
            order of `classes_`. Outputs trained with ``loss="squared_error"``
            are divided by their sum.
        """
        outputs = self._forward_pass_fast(X)
        if self.n_outputs_ == 1:
            return np.hstack([1 - outputs, outputs])
        if self._is_multiclass() and self.out_activation_ == "logistic":
            outputs += np.finfo(outputs.dtype).tiny  # equal probabilities if all are 0
            outputs /= outputs.sum(axis=1, keepdims=True)
        return outputs

    def predict_log_proba(self, X: ArrayLike) -> NDArray:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        array of shape (n_samples, n_classes)
            ``log(predict_proba(X))``; -inf for a probability of 0.
        """
        probabilities = self.predict_proba(X)
        if np.geterr()["divide"] != "warn":
            return np.log(probabilities, out=probabilities)
        with np.errstate(divide="call", call=_warn_of_logarithm):
            return np.log(probabilities, out=probabilities)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: multilabel targets are supported."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _encode(
        self, X: Any, y: Any, *, reset: bool, incremental: bool
    ) -> tuple[Any, Any, NDArray]:
        """Validate training data; return X, y, and the labels as 0/1 columns."""
        share = X if isinstance(X, Share) else None
        X, y = self._validate_training_data(X, y, reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y)
            warn_of_column("MLPClassifier")
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            encode = partial(_encoded, y)
            found = encode() if share is None else share.once("labels", encode)
            self._label_binarizer, Y = found
            self.classes_ = self._label_binarizer.classes_
            if y.ndim == 2:
                hints.about_labels(Y)
            return X, y, Y
        self._check_label_binarizer()
        classes = unique_labels(_distinct_text(y)[0])
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the "
                    f"previous call to fit. Previously got {self.classes_!s}, `y` has "
                    f"{classes!s}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has "
                f"{self.classes_!s}. 'y' has {classes!s}."
            )
        return X, y, _encoded(y, self._label_binarizer)[1]

    def _check_label_binarizer(self) -> None:
        """Refuse fitted labels that were replaced or removed."""
        known = getattr(getattr(self, "_label_binarizer", None), "classes_", None)
        if known is None or not np.array_equal(known, self.classes_):
            raise ValueError(
                "classes_ and _label_binarizer must have the same classes, got "
                f"{self.classes_!s} and {known!s}; set _label_binarizer to "
                "sklearn.preprocessing.LabelBinarizer().fit(classes_), or fit a new model."
            )

    def _encode_validation(self, y: Any) -> NDArray:
        """Return the validation labels as 0/1 columns."""
        y = check_array(y, ensure_2d=False, dtype=None, input_name="y_val")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y)
            warn_of_column("MLPClassifier")
        labels, codes = _distinct_text(y)
        unseen = np.setdiff1d(unique_labels(labels), self.classes_)
        if len(unseen):
            raise ValueError(f"y_val has classes that are not in y: {unseen.tolist()}.")
        return self._label_binarizer.transform(labels).astype(bool)[codes]

    def _weights(self, y: Any, sample_weight: Any, X: Any, *, incremental: bool) -> NDArray | None:
        """Return the sample weights multiplied by the class weights."""
        weights = super()._weights(y, sample_weight, X, incremental=incremental)
        if self.class_weight is None:
            return weights
        self._check_class_weight()
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported by partial_fit, which does not have all "
                "samples; pass the dict of sklearn.utils.class_weight.compute_class_weight instead."
            )
        if y.ndim == 1:  # y need not have all classes in partial_fit
            by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
            of_classes = by_class[np.searchsorted(self.classes_, y)]
        else:
            of_classes = compute_sample_weight(self.class_weight, y)
        with np.errstate(over="ignore"):  # infinite weights are refused below
            weights = of_classes if weights is None else weights * of_classes
        if not incremental:
            check_any_weight(weights)
        return weights

    def _check_class_weight(self) -> None:
        """Refuse class weights that are not finite numbers."""
        _check_class_weight(self.class_weight)

    def _output_activation(self) -> str:
        """Return softmax for multiclass, logistic for binary and multilabel targets."""
        return "softmax" if self._is_multiclass() and self.loss == "log_loss" else "logistic"

    def _is_multiclass(self) -> bool:
        """Return whether there are more than two classes, one per sample."""
        return self._label_binarizer.y_type_ == "multiclass"

    def _targets(self, Y: NDArray, dtype: np.dtype) -> NDArray:
        """Return the targets of the outputs, with `label_smoothing`."""
        is_distribution = self.out_activation_ == "softmax"
        if not isinstance(self.label_smoothing, Real):
            off, on = _smoothed_pair(self.label_smoothing)
            total = on + (Y.shape[1] - 1) * off
            if is_distribution and abs(total - 1) > 1e-6:
                raise ValueError(
                    f"label_smoothing={self.label_smoothing!r} gives {Y.shape[1]} classes targets "
                    f"that sum to {total:g}, but their outputs sum to 1; pass a float, or "
                    "loss='squared_error'."
                )
            if not self._is_multiclass() and not off < 0.5 < on:  # where predict decides
                raise ValueError(
                    f"label_smoothing={self.label_smoothing!r} must have one target below and one "
                    "above 0.5, the threshold of predict; pass others."
                )
        else:
            off = self.label_smoothing / (Y.shape[1] if is_distribution else 2)
            on = 1 - self.label_smoothing + off
        return np.where(Y, np.asarray(on, dtype), np.asarray(off, dtype))

    def _strata(self, Y: NDArray) -> NDArray | None:
        """Return the labels, if there are two classes: scikit-learn stratifies no others.

        In one dimension: for two, scikit-learn converts rows to text, with the same split.
        """
        if self.n_outputs_ != 1:
            return None
        has_all = 1 < np.count_nonzero(Y) < len(Y) - 1  # otherwise the error shows these rows
        return Y.ravel() if has_all else Y

    def _score_outputs(self, Y: NDArray, outputs: NDArray, weight: NDArray | None) -> float:
        """Return the accuracy; for multilabel targets, the subset accuracy."""
        if len(self.classes_) == 1:  # a single class is always predicted
            return 1.0
        if self._is_multiclass():
            correct = outputs.argmax(axis=1) == Y.argmax(axis=1)
        else:
            correct = ((outputs > 0.5) == Y).all(axis=1)
        return float(np.average(correct, weights=weight))


def _encoded(y: NDArray, binarizer: LabelBinarizer | None = None) -> tuple[LabelBinarizer, NDArray]:
    """Return the fitted encoder of the labels, and the labels as 0/1 columns."""
    labels, codes = _distinct_text(y)
    if binarizer is None:
        binarizer = LabelBinarizer().fit(labels)
    try:
        return binarizer, binarizer.transform(labels).astype(bool)[codes]
    except MemoryError:
        n_classes = len(binarizer.classes_)
        raise ExplainedMemoryError(
            f"y has {n_classes} classes, with one output each: the targets of {len(y)} samples "
            f"need {9 * n_classes * len(y) / 2**30:.1f} GiB. If they are numbers to be "
            "predicted, use MLPRegressor; otherwise merge rare classes, or pass fewer samples "
            "at a time to partial_fit."
        ) from None


def _distinct_text(y: NDArray) -> tuple[NDArray, Any]:
    """Return the distinct labels, and the samples' labels as codes; all labels if not text.

    scikit-learn sorts the labels several times, which takes seconds for a million.
    """
    if y.ndim == 1 and y.dtype.kind in "OU":
        of_samples = y.tolist()
        try:
            numbers = {label: number for number, label in enumerate(dict.fromkeys(of_samples))}
        except TypeError:  # lists and similar, which are refused elsewhere
            return y, slice(None)
        if all(type(label) is str for label in numbers):
            codes = np.fromiter(map(numbers.__getitem__, of_samples), np.intp, len(of_samples))
            return np.array(list(numbers), dtype=y.dtype), codes
    return y, slice(None)


def _check_class_weight(class_weight: Any) -> None:
    """Refuse class weights that are not finite numbers."""
    for weights in class_weight if isinstance(class_weight, list) else [class_weight]:
        for label, weight in weights.items() if isinstance(weights, dict) else ():
            if not isinstance(weight, Real) or not np.isfinite(float(weight)):
                raise ValueError(
                    "class_weight must be a finite number for every class, got "
                    f"{weight!r} for class {label!r}."
                )


def _warn_of_logarithm(what: str, _: int) -> None:
    """Issue NumPy's warning, as in scikit-learn's predict_log_proba."""
    warn_as_sklearn(f"{what} encountered in log", RuntimeWarning, at=r"np\.log\(y_prob")


def _smoothed_pair(pair: Any) -> tuple[float, float]:
    """Return the targets (off, on) of label_smoothing, or refuse them."""
    are_numbers = len(pair) == 2 and all(isinstance(target, Real) for target in pair)
    if not are_numbers or not 0 <= pair[0] < pair[1] <= 1:
        raise ValueError(
            "label_smoothing must be a float in [0, 1), or a pair (off, on) of targets with "
            f"0 <= off < on <= 1; got {pair!r}."
        )
    return pair[0], pair[1]
