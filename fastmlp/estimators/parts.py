"""Fits on samples that come in parts: blocks of data on disk, or the partitions of a cluster.

A `Source` takes the place of X in `_fit`. `prepare` asks it for a `Summary` of all samples, from
which classes, scales and initial weights follow as for an array, and then for a `Trainer`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight

from fastmlp import backends
from fastmlp.core.inputs import Inputs, affine_map, standard_map_of
from fastmlp.core.network import Network, Parameters
from fastmlp.core.optimizers import OPTIMIZERS
from fastmlp.core.random_bits import Dropout
from fastmlp.estimators.samples import Preparation, Samples
from fastmlp.estimators.summaries import Questions, Summary
from fastmlp.estimators.weights import check_any_weight, check_weight_range
from fastmlp.training import Pass, Run, digest
from fastmlp.utils.generators import generator_of_context


class Source(ABC):
    """Samples that come in parts, in the place of X."""

    @abstractmethod
    def summarize(self, ask: Questions) -> Summary:
        """Go through all samples once."""

    @abstractmethod
    def facts(self) -> dict[str, str]:
        """Return what the data of a fit that goes on with a checkpoint must have in common."""

    @abstractmethod
    def trainer(self, job: Job) -> Trainer:
        """Make everything ready for epochs."""


@dataclass(frozen=True)
class Job:
    """What a `Source` is to train.

    Parameters
    ----------
    model : estimator
    network : Network
    parameters : Parameters
    encoding : Encoding
    scale : tuple of array, or None
        The scaling of the inputs, in the network's dtype.
    dropout : callable
        Returns dropout, and the seed of augmentation; to be called when samples are held out.
    resume : callable
        Sets the weights to those of a checkpoint; called with the length of the passes' order,
        before an engine is made.
    random_state : RandomState
        From which held-out samples and epochs are drawn.
    holds_out : bool
        Whether `validation_fraction` of the samples are for early stopping.
    some : Summary
    """

    model: Any
    network: Network
    parameters: Parameters
    encoding: Encoding
    scale: tuple[NDArray, NDArray] | None
    dropout: Callable[[], tuple[Dropout | None, int]]
    resume: Callable[[int], None]
    random_state: np.random.RandomState
    holds_out: bool
    some: Summary

    @property
    def dtype(self) -> np.dtype:
        """The network's."""
        return self.parameters.flat.dtype

    def inputs(self, X: Any) -> Inputs:
        """Return samples for an engine."""
        return Inputs(X, self.dtype, *(self.scale or ()))


@dataclass(frozen=True)
class Trainer:
    """What trains and validates; see `Preparation` for these."""

    engine: Any
    passes: Callable[..., Pass]
    validate: Callable[[], tuple[float, float]] | None
    n_samples: int


class Encoding:
    """Maps labels or targets, and weights, of any of the samples to those of the network.

    Parameters
    ----------
    model : estimator
        With its fitted attributes of the targets; of its weights nothing is kept.
    dtype : float32 or float64
    counts : array or None
        Samples by class.
    """

    def __init__(self, model: Any, dtype: np.dtype, counts: NDArray | None) -> None:
        self.dtype = dtype
        self.classes: NDArray | None = None
        self._model = shell_of(model)
        self._by_class: NDArray | None = None
        self._codes_of: NDArray | None = None
        if counts is not None:
            self.classes = model.classes_
            self._raw = model._label_binarizer.transform(model.classes_).astype(bool)
            self._table = model._targets(self._raw, dtype)
            self._by_class = _class_weights(model, counts)
            self._codes_of = _lookup(model.classes_)

    def raw(self, y: NDArray) -> NDArray:
        """Return labels as 0/1 columns, or targets as columns, of shape (n, n_outputs)."""
        if self.classes is not None:
            return self._raw[self._codes(y)]
        if self.classifies:  # an indicator matrix
            return self._model._label_binarizer.transform(y).astype(bool)
        return self._model._columns(y, "y")

    def targets(self, y: NDArray) -> NDArray:
        """Return the targets of the output units, of shape (n, n_outputs)."""
        if self.classes is not None:
            return self._table[self._codes(y)]
        return self.from_raw(self.raw(y))

    def from_raw(self, raw: NDArray) -> NDArray:
        """Return the targets of what `raw` has returned."""
        return self._model._targets(raw, self.dtype)

    @property
    def weighs(self) -> bool:
        """Whether classes have weights."""
        return self._by_class is not None

    def weights(self, y: NDArray, sample_weight: NDArray | None) -> NDArray | None:
        """Return the samples' weights times those of their classes, of shape (n,), or None."""
        weights = sample_weight
        if self._by_class is not None:
            weights = self._by_class[self._codes(y)]
            if sample_weight is not None:
                weights = weights * sample_weight
        return None if weights is None else weights.astype(self.dtype)

    def check_weights(self, counts: NDArray) -> None:
        """Refuse weights of classes that are zero for all samples."""
        if self._by_class is not None:
            check_any_weight(self._by_class * counts)

    @property
    def classifies(self) -> bool:
        """Whether targets are labels."""
        return is_classifier(self._model)

    def unscaled(self, outputs: NDArray) -> NDArray:
        """Return the outputs of a regressor in the units of its targets."""
        return self._model._unscaled(outputs)

    def score(self, raw: NDArray, outputs: NDArray, weight: NDArray | None) -> float:
        """Return the score of outputs."""
        return self._model._score_outputs(raw, outputs, weight)

    def _codes(self, y: NDArray) -> NDArray:
        assert self.classes is not None
        if y.ndim == 2:  # a column
            y = y[:, 0]
        if self._codes_of is not None and y.dtype == self.classes.dtype:
            places = y.astype(np.int64) - int(self.classes[0])
            known = places.min(initial=0) >= 0 and places.max(initial=0) < len(self._codes_of)
            codes = self._codes_of[places] if known else np.array([-1])
            known = codes.min(initial=0) >= 0
        else:
            codes = np.minimum(np.searchsorted(self.classes, y), len(self.classes) - 1)
            known = (self.classes[codes] == y).all()
        if not known:
            raise ValueError(
                "y has labels that it did not have when its classes were determined: "
                f"{np.setdiff1d(y, self.classes)[:5].tolist()}; it must be the same each time it "
                "is read."
            )
        return codes


def shell_of(model: Any) -> Any:
    """Return an estimator with the parameters and fitted attributes of another, but no weights."""
    shell = object.__new__(type(model))
    left_out = {"coefs_", "intercepts_", "_state", "_optimizer", "history_", "_random_state"}
    shell.__dict__.update({k: v for k, v in vars(model).items() if k not in left_out})
    return shell


def prepare(
    model: Any, source: Source, validation: tuple[Any, Any, Any], run: Run | None, *, resumes: bool
) -> Preparation:
    """Do for a source what `_prepare` does for arrays."""
    classifies = is_classifier(model)
    stochastic = model.solver != "lbfgs"
    wants_scale = isinstance(model.input_scale, str) and not resumes
    ask = Questions(classifies, model.dtype, wants_scale, not classifies)
    summary = source.summarize(ask)
    if classifies and model.class_weight is not None and summary.counts is None:
        raise ValueError(
            "class_weight needs data in memory if y is an indicator matrix; pass sample weights."
        )
    X, y, Y = model._encode(*_as_samples(summary), reset=not resumes, incremental=False)
    if summary.weight is not None:
        _check_weights(summary.weight)
    dtype = model._network_dtype(X, resumes=resumes)
    if summary.weight is not None:
        check_weight_range(np.array(summary.weight[1]), dtype)
    given = generator_of_context() if model.random_state is None else model.random_state
    random_state = check_random_state(given)
    if run is not None:
        random_state = run.random_state(random_state)
    samples = Samples(X, Y, None)
    hidden_units = model._hidden_units()
    if resumes:
        network, parameters = model._resumed(samples, hidden_units, dtype)
    else:
        network, parameters = model._initialized(samples, hidden_units, dtype, random_state)
        model.input_scale_ = _input_scale(model, samples, summary, dtype)
    held_out = model._validation_samples(*validation, n_outputs=Y.shape[1])
    _settle_targets(model, samples, summary, resumes=resumes)
    encoding = Encoding(model, dtype, summary.counts)
    if summary.counts is not None:
        encoding.check_weights(summary.counts)
    holds_out = held_out is None and bool(model.early_stopping) and stochastic
    if holds_out and not model.validation_fraction:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your "
            "dataset."
        )
    scale = None
    if model.input_scale_ is not None:
        scale = model.input_scale_[0].astype(dtype), model.input_scale_[1].astype(dtype)

    def noise() -> tuple[Dropout | None, int]:
        """Draw it as for arrays, after the samples that are held out."""
        return model._dropout_and_seed(network.layer_units[1:-1], random_state)

    def resume(n_places: int) -> None:
        """Check the checkpoint, and take its weights."""
        if run is None:
            return
        optimizer: Any = OPTIMIZERS.get(model.solver)
        start = digest(parameters.flat) if resumes else "none"
        run.check(
            {
                **model._parameters_in_words(),
                **source.facts(),
                **model._validation_in_words(held_out),
                "data: the model's state": start,
            },
            backends.resolve(model.backend),
            model.max_iter,
            random_state=model.random_state,
            n_samples=n_places,
            flat=parameters.flat,
            optimizer=optimizer and optimizer.of(vars(model), parameters.flat),
        )
        run.restore_parameters(parameters.flat)

    trainer = source.trainer(
        Job(
            *(model, network, parameters, encoding, scale, noise, resume, random_state),
            holds_out=holds_out,
            some=summary,
        )
    )
    validate = trainer.validate
    if held_out is not None:
        validate = model._validator(trainer.engine, held_out)
    if stochastic:
        model._ready_optimizer(parameters, run)
    return Preparation(
        *(X, y, (summary.n_samples, X.shape[1]), samples, trainer.n_samples),
        *(trainer.engine, trainer.passes, validate, random_state, run),
    )


def _check_weights(weight: tuple[float, float, float, float]) -> None:
    """Refuse weights of which parts may sum to nothing."""
    total, _, low, _ = weight
    if low < 0:
        raise ValueError(
            f"sample weights must not be negative where samples come in parts, got {low:g}; pass "
            "weights >= 0, or arrays in memory."
        )
    check_any_weight(np.array([total]))


def _as_samples(summary: Summary) -> tuple[Any, NDArray]:
    """Return rows of X, and a label or target for each, all classes among them."""
    rows = np.arange(max(summary.X.shape[0], len(summary.y)))
    X = summary.X[rows % summary.X.shape[0]]
    if summary.columns is not None and not issparse(X):
        import pandas as pd

        X = pd.DataFrame(X, columns=summary.columns)
    return X, summary.y[rows % len(summary.y)]


def _input_scale(
    model: Any, samples: Samples, summary: Summary, dtype: np.dtype
) -> tuple[NDArray, NDArray] | None:
    """Return the input scaling of all samples; warn if it is missing but needed."""
    moments = summary.moments_X
    if moments is None or model.input_scale != "standard":
        if not isinstance(model.input_scale, str) or issparse(samples.matrix):
            return model._input_scale(samples, dtype)
        affine_map(model.input_scale, samples.matrix, dtype)  # which refuses other names
    assert moments is not None
    scale, shift = standard_map_of(summary.n_samples, moments.mean, moments.squares / moments.n)
    return np.ascontiguousarray(scale, dtype), np.ascontiguousarray(shift, dtype)


def _settle_targets(model: Any, samples: Samples, summary: Summary, *, resumes: bool) -> None:
    """Set the scaling of the targets, of regressors."""
    moments = summary.moments_y
    if moments is None or resumes or getattr(model, "target_scale", None) != "standard":
        model._settle_targets(samples.Y, resumes=resumes)
        return
    if model.out_activation_ == "exp":
        model._settle_targets(samples.Y, resumes=False)  # which refuses it
    variance = moments.squares / moments.n
    model.target_scale_ = standard_map_of(summary.n_samples, moments.mean, variance)


def _lookup(classes: NDArray) -> NDArray | None:
    """Return the places of integers in the classes, from the smallest on, if they are close."""
    if classes.dtype.kind not in "iu" or int(classes[-1]) - int(classes[0]) > 1 << 16:
        return None
    codes = np.full(int(classes[-1]) - int(classes[0]) + 1, -1, np.int32)
    codes[classes.astype(np.int64) - int(classes[0])] = np.arange(len(classes))
    return codes


def _class_weights(model: Any, counts: NDArray) -> NDArray | None:
    """Return a weight per class, as scikit-learn computes it, or None."""
    wanted = model.class_weight
    if wanted is None:
        return None
    model._check_class_weight()
    if isinstance(wanted, str) and wanted == "balanced":
        return counts.sum() / (len(counts) * counts)
    return compute_class_weight(wanted, classes=model.classes_, y=model.classes_)
