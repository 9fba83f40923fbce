"""Base class of both estimators: validation, training on the engine, fitted attributes."""

from __future__ import annotations

import copy
import inspect
import math
import operator
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import numpy as np
import sklearn
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from fastmlp import backends
from fastmlp.augment.applying import apply, check_augment
from fastmlp.core.functions import ACTIVATIONS, LOSSES
from fastmlp.core.inputs import Inputs, affine_map
from fastmlp.core.network import Network, Parameters, initial_layer
from fastmlp.core.optimizers import OPTIMIZERS, Optimizer
from fastmlp.core.random_bits import Dropout
from fastmlp.estimators import constraints, conversion, hints, on_disk, parts, prediction
from fastmlp.estimators.callbacks import (
    CallbackSupportMixin,
    FitTasks,
    checkpoint_among,
    observers_among,
)
from fastmlp.estimators.constraints import (
    BOOLEAN,
    RANDOM_STATE,
    VERBOSE,
    Constraint,
    Exactly,
    Interval,
    OneOf,
)
from fastmlp.estimators.overrides import check_overrides
from fastmlp.estimators.samples import Preparation, Samples, Share
from fastmlp.estimators.turns import turn_of
from fastmlp.estimators.weights import (
    check_any_weight,
    check_sample_weight,
    check_weight_range,
)
from fastmlp.exceptions import WarmStartWarning, warn, warn_as_sklearn
from fastmlp.training import (
    SCHEDULES,
    Checkpoint,
    EpochReport,
    Fit,
    InMemory,
    Noise,
    Observation,
    Progress,
    Run,
    TrainingState,
    digest,
    finish,
    in_words,
    say,
    scheduled_rate,
    train,
    train_lbfgs,
)
from fastmlp.utils.generators import generator_of_context
from fastmlp.utils.searches import TellsWorkers
from fastmlp.utils.threads import sharing_threads

#: Parameters that reach compiled code, where an invalid value could crash the process: checked
#: even with scikit-learn's setting skip_parameter_validation.
_ALWAYS_CHECKED = ("activation", "solver", "batch_size", "backend", "n_threads", "dtype")

#: Fitted attributes with another name in the training state.
_OF_STATE = {
    "t_": "n_samples_seen",
    "loss_curve_": "loss_curve",
    "best_loss_": "best_loss",
    "validation_scores_": "validation_scores",
    "best_validation_score_": "best_validation_score",
}

#: Inputs or targets of this magnitude may cause training to diverge.
_LARGE = 100.0


#: By class: to read a signature of 35 parameters takes as long as an epoch of a small network.
_names_of_parameters: WeakKeyDictionary[type, list[str]] = WeakKeyDictionary()


class ExplainedMemoryError(MemoryError):
    """Out of memory, with a message that says for what."""


class BaseMLP(TellsWorkers, CallbackSupportMixin, BaseEstimator):
    """Base class of MLP classification and regression.

    Subclasses define how targets are encoded (`_encode`), the output activation
    (`_output_activation`) and the score of outputs (`_score_outputs`).
    """

    # Link of the HTML representation. scikit-learn's page documents the shared parameters.
    _doc_link_module = "fastmlp"
    _doc_link_template = (
        "https://scikit-learn.org/stable/modules/generated/"
        "sklearn.neural_network.{estimator_name}.html"
    )

    _constraints: ClassVar[dict[str, Sequence[Constraint]]] = {
        "hidden_layer_sizes": [constraints.ArrayLike(), Interval(Integral, 1, None, "[)")],
        "activation": [OneOf(tuple(ACTIVATIONS))],
        "solver": [OneOf(("lbfgs", *OPTIMIZERS))],
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
        "weight_decay": [Interval(Real, 0, None, "[)")],
        "max_grad_norm": [Interval(Real, 0, None, "()"), constraints.NONE],
        "n_iter_no_change": [
            Interval(Integral, 1, None, "[)"),
            Exactly(np.inf, "a float among {inf}"),
        ],
        "max_fun": [Interval(Integral, 1, None, "[)")],
        "backend": [OneOf(("auto", *backends.NAMES))],
        "n_threads": [Interval(Integral, 1, None, "[)"), constraints.NONE],
        "dtype": [OneOf(("float32", "float64")), constraints.NONE],
        "lr_schedule": [
            OneOf(SCHEDULES),
            constraints.InstanceOf(dict),
            constraints.CALLABLE,
            constraints.NONE,
        ],
        "dropout": [Interval(Real, 0, 1, "[)"), constraints.ArrayLike()],
        "augment": [constraints.CALLABLE, constraints.NONE],
    }
    _sklearn_class: ClassVar[type]  # whose place it takes
    _of_targets: ClassVar[dict[str, bool]] = {}  # how scikit-learn validates them
    _optimizer: Optimizer | None = None
    _fitted_loss = ""  # the canonical one, for models converted from scikit-learn
    loss: str
    coefs_: list[NDArray]
    intercepts_: list[NDArray]
    _state: TrainingState

    def __init__(
        self,
        *,
        hidden_layer_sizes: int | ArrayLike,
        activation: str,
        solver: str,
        alpha: float,
        batch_size: int | str,
        learning_rate: str,
        learning_rate_init: float,
        power_t: float,
        max_iter: int,
        shuffle: bool,
        random_state: int | np.random.RandomState | None,
        tol: float,
        verbose: bool | int,
        warm_start: bool,
        momentum: float,
        nesterovs_momentum: bool,
        early_stopping: bool,
        validation_fraction: float,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        n_iter_no_change: float,
        max_fun: int,
        backend: str,
        n_threads: int | None,
        dtype: str | None,
        input_scale: object,
        lr_schedule: str | Mapping[int, float] | Callable[[int], float] | None,
        dropout: float | ArrayLike,
        augment: Callable[..., NDArray] | None,
        weight_decay: float,
        max_grad_norm: float | None,
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
        self.lr_schedule = lr_schedule
        self.dropout = dropout
        self.augment = augment
        self.weight_decay = weight_decay
        self.max_grad_norm = max_grad_norm

    def __copy__(self) -> Self:
        """Return a copy with the same weights, whose training goes on independently."""
        other = object.__new__(type(self))
        own = {name: copy.deepcopy(vars(self).get(name)) for name in ("_state", "_optimizer")}
        other.__dict__.update(vars(self))
        other.__dict__.update({name: value for name, value in own.items() if name in vars(self)})
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle: only plain objects, for skops, which trusts few types."""
        state = dict(super().__getstate__())
        if type(state.get("_state")) is TrainingState:
            state["_state"] = vars(state["_state"]).copy()
        if isinstance(state.get("_optimizer"), Optimizer):
            optimizer = state["_optimizer"]
            state["_optimizer"] = {"name": optimizer.name, **vars(optimizer)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled state; the next fit refuses what is not of a previous one."""
        state = dict(state)
        found = state.get("_state")
        if isinstance(found, dict) and found.keys() == vars(TrainingState()).keys():
            state["_state"] = TrainingState(**found)
        found = state.get("_optimizer")
        if isinstance(found, dict) and found.get("name") in OPTIMIZERS:
            optimizer = object.__new__(OPTIMIZERS[found["name"]])
            vars(optimizer).update({key: entry for key, entry in found.items() if key != "name"})
            state["_optimizer"] = optimizer
        super().__setstate__(state)

    @classmethod
    def _get_param_names(cls) -> list[str]:
        """Return the names of the parameters, which scikit-learn looks up for every clone."""
        found = _names_of_parameters.get(cls)
        if found is None:
            found = _names_of_parameters[cls] = super()._get_param_names()
        return list(found)

    @abstractmethod
    def _encode(
        self, X: Any, y: Any, *, reset: bool, incremental: bool
    ) -> tuple[Any, Any, NDArray]:
        """Validate training data; return X, y, and y as columns for the output units."""

    @abstractmethod
    def _encode_validation(self, y: Any) -> NDArray:
        """Return the targets of validation data as columns for the output units."""

    @abstractmethod
    def _output_activation(self) -> str:
        """Return the activation of the output layer."""

    @abstractmethod
    def _score_outputs(self, Y: NDArray, outputs: NDArray, weight: NDArray | None) -> float:
        """Return the score of outputs."""

    def _settle_targets(self, Y: NDArray, *, resumes: bool) -> None:
        """Set the scaling of the targets, before `_targets` is called."""

    def _targets(self, Y: NDArray, dtype: np.dtype) -> NDArray:
        """Return the targets of the output units."""
        return Y.astype(dtype)

    def _weights(self, y: Any, sample_weight: Any, X: Any, *, incremental: bool) -> NDArray | None:
        """Return the weights of the training samples, or None if they are all equal."""
        return None if sample_weight is None else check_sample_weight(sample_weight, X)

    def fit(
        self,
        X: ArrayLike | Iterable[Any],
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        max_memory: int | str | None = None,
    ) -> Self:
        """Train the network.

        Ctrl-C stops training with a warning and keeps the weights of the finished epochs; a search
        or cross-validation is stopped as a whole.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), or iterable of batches
            Samples. uint8 and sparse input are not converted. Arrays on disk (NumPy's memory maps,
            h5py's datasets, Zarr's arrays) may be larger than memory, and so may all batches
            together: ``(X, y)`` or ``(X, y, sample_weight)`` each, and no `y` besides.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets. For a classifier, labels of any type, or a 0/1 indicator matrix
            (multilabel); for a regressor, numbers.
        sample_weight : array-like of shape (n_samples,), optional
            A batch whose weights sum to zero is skipped.
        X_val, y_val, sample_weight_val : array-like, optional
            Validation data: its loss and score are recorded in `history_`, and
            `early_stopping` uses it instead of holding out a part of the training data.
        checkpoint : path or fastmlp.Checkpoint, optional
            A file from which the same call, repeated after Ctrl-C or a kill, goes on where it
            ended, with the same result, bit for bit. A path is written once a minute.
        max_memory : int or str, optional
            Memory for this process, such as "1G", for data on disk and batches. Data that take more
            than half of it are not read at once, but in blocks; see Notes. By default the memory of
            the machine, or of the container.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, if training diverged to
            non-finite weights, or if the checkpoint belongs to another fit.
        BackendUnavailableError
            If the `backend` is not available.

        Notes
        -----
        Data larger than memory are passed to `fit`, and not to a class or method of their own, so
        that parameters, checkpoints, callbacks and fitted attributes are the same for all data;
        scikit-learn's `partial_fit` leaves epochs, shuffling and stopping to its caller.

        Data that take at most half of `max_memory` give the same bits as arrays in memory. Of
        others, blocks of consecutive rows (up to 1 MiB) are taken in random order, and those that
        fit in a quarter of `max_memory` are shuffled together, while the next ones are read. So
        even sorted data are mixed, but the result depends on `max_memory`. Batches are first
        written to temporary files, in the directory that the environment variable TMPDIR names.
        Early stopping holds out whole blocks.
        """
        # A subclass may have a _fit without these.
        options: dict[str, Any] = {}
        if any(part is not None for part in (X_val, y_val, sample_weight_val)):
            options["validation"] = (X_val, y_val, sample_weight_val)
        if checkpoint is not None:
            options["checkpoint"] = Checkpoint.of(checkpoint)
        if max_memory is None and not on_disk.is_large_kind(X, y):
            return self._fit(X, y, sample_weight=sample_weight, incremental=False, **options)
        with on_disk.opened(X, y, sample_weight, max_memory) as (X, y, sample_weight):
            return self._fit(X, y, sample_weight=sample_weight, incremental=False, **options)

    @sharing_threads
    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        incremental: bool = False,
        validation: tuple[Any, Any, Any] = (None, None, None),
        checkpoint: Checkpoint | None = None,
    ) -> Self:
        """Train, and notify observers; see `fastmlp.training.observing`.

        A fit that is refused or interrupted before training leaves the model unchanged; afterwards,
        the model has the weights of the epochs before an interrupt or an error.
        """
        observation = Observation(observers_among(self))
        if checkpoint is None and not incremental:
            checkpoint = checkpoint_among(self)
        with ExitStack() as stack:
            stack.enter_context(turn_of(self))
            self._check_parameters()
            check_overrides(self)
            run = None
            if checkpoint is not None:
                self._check_checkpoint(checkpoint)
                run = stack.enter_context(checkpoint.opened())
            resumes = (self.warm_start or incremental) and hasattr(self, "coefs_")
            before = self.__dict__.copy()
            ready = progress = None
            try:
                ready = self._prepare(
                    X, y, sample_weight, validation, run, resumes=resumes, incremental=incremental
                )
                progress = self._begin(ready, resumes=resumes)
                self._publish(ready, progress)
                tasks = FitTasks(
                    self, self._max_epochs(incremental), ready.X, ready.y, sample_weight
                )
                if run is not None and run.resumes:
                    say(bool(self.verbose), f"{run.name}: going on after epoch {progress.n_epochs}")
                described = partial(self._described, ready, incremental, progress.n_epochs)
                with observation.of(progress, described):
                    self._optimize(ready, progress, tasks, incremental, observation)
                    self._check_finite(ready)
            except BaseException as error:
                needs = self._memory_in_words(X) if isinstance(error, MemoryError) else ""
                if ready is None or progress is None:
                    self.__dict__ = before
                else:
                    self._publish(ready, progress)
                if needs and not isinstance(error, ExplainedMemoryError):
                    raise ExplainedMemoryError(f"{str(error).rstrip('.')}. {needs}") from error
                raise
        return self

    def _described(self, ready: Preparation, incremental: bool, n_before: int) -> Fit:
        """Return the description of a fit for observers."""
        return Fit(
            self,
            "partial_fit" if incremental else "fit",
            backends.resolve(self.backend),
            str(ready.engine.parameters.flat.dtype),
            ready.shape,
            ready.n_samples,
            1 if incremental and self.solver != "lbfgs" else self.max_iter,
            n_before,
        )

    def _check_parameters(self) -> None:
        """Refuse parameters with an invalid type or value."""
        parameters = self.get_params(deep=False)
        if sklearn.get_config()["skip_parameter_validation"]:
            parameters = {name: parameters[name] for name in _ALWAYS_CHECKED if name in parameters}
        constraints.validate(parameters, self._constraints, type(self).__name__)

    def _network_dtype(self, X: Any, *, resumes: bool) -> np.dtype:
        """Return the dtype of the network."""
        if self.dtype is not None:
            return np.dtype(self.dtype)
        if resumes:  # weights keep their dtype
            return np.dtype(np.float32 if self.coefs_[0].dtype == np.float32 else np.float64)
        return np.dtype(np.float32) if X.dtype == np.uint8 else X.dtype

    def _memory_in_words(self, X: Any) -> str:
        """Return the memory requirements of a fit in words; empty if they are not known."""
        n_samples, n_features = X.shape if getattr(X, "ndim", 0) == 2 else (0, 0)
        n_outputs = vars(self).get("n_outputs_")
        if not n_samples or n_outputs is None:
            return ""
        units = (n_features, *_hidden_units(self.hidden_layer_sizes), n_outputs)
        is_single = self.dtype == "float32" or (
            self.dtype is None and getattr(X, "dtype", None) in (np.float32, np.uint8)
        )
        itemsize = 4 if is_single else 8
        n_parameters = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(units))
        # The parameters and the solver's vectors, once for the model and once for the engine;
        # L-BFGS keeps ten pairs of points and gradients, in float64.
        n_bytes = 2 * itemsize + 25 * 8
        if self.solver != "lbfgs":
            n_bytes = 2 * itemsize * (1 + len(OPTIMIZERS[self.solver].state_names))
        weights = n_bytes * n_parameters
        samples = n_samples * n_outputs * (itemsize + 9)  # as numbers, and encoded
        if not issparse(X) and getattr(X, "dtype", None) not in (f"float{8 * itemsize}", np.uint8):
            samples += itemsize * n_samples * n_features
        rows = n_samples if self.solver == "lbfgs" else self._batch_rows(n_samples)
        layers = 2 * itemsize * min(rows, 256) * sum(units)  # engines work in chunks
        total, *parts = (
            f"{n_bytes / 2**20:,.0f} MB"
            for n_bytes in (weights + samples + layers, weights, samples, layers)
        )
        return (
            f"The whole fit, of {n_samples} samples by {n_features} features through layers of "
            f"{units[1:]} units, needs about {total} besides X: {parts[0]} for weights and solver, "
            f"{parts[1]} for converted data, {parts[2]} for a batch. Use smaller layers or "
            "dtype='float32', or pass parts of the data to partial_fit."
        )

    def _check_finite(self, ready: Preparation) -> None:
        """Refuse non-finite weights."""
        parameters = ready.engine.parameters
        if np.isfinite(parameters.flat).all():
            return
        inputs = self._largest_input(ready.samples.X)
        targets = np.abs(self._targets(ready.samples.Y, parameters.flat.dtype)).max(initial=0)
        reasons = []
        if inputs > _LARGE:
            reasons.append(
                "The input data may contain large values and need to be preprocessed: the network "
                f"sees numbers as large as {inputs:.3g}. Use input_scale='standard'."
            )
        if targets > _LARGE:
            reasons.append(
                f"The targets are as large as {targets:.3g}. Use target_scale='standard'."
            )
        if not reasons and self.solver == "lbfgs":
            reasons.append("Inputs and targets are not large; a larger alpha may help.")
        elif not reasons:
            reasons.append(
                "Inputs and targets are not large, so the learning rate may be too high: "
                f"learning_rate_init={self.learning_rate_init!r}; try a tenth of it."
            )
        raise ValueError(f"Solver produced non-finite parameter weights. {' '.join(reasons)}")

    def _largest_input(self, X: Any) -> float:
        """Return the largest absolute value of scaled samples."""
        scale, shift = (1.0, 0.0) if self.input_scale_ is None else self.input_scale_
        if issparse(X):
            return float(
                np.abs(X.data * np.broadcast_to(scale, X.shape[1:])[X.indices]).max(initial=0)
            )
        ends = (X.min(axis=0, initial=0), X.max(axis=0, initial=0))
        return max(float(np.abs(scale * end + shift).max(initial=0)) for end in ends)

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any],
        run: Run | None,
        *,
        resumes: bool,
        incremental: bool,
    ) -> Preparation:
        """Validate everything and bind an engine."""
        backend = backends.get(self.backend)
        hints.about_backend(self.backend, backend)
        if resumes:
            self._check_by_hand()
        hidden_units = self._hidden_units()
        self._schedule()  # refuses an invalid one before training
        if not resumes:
            defaults = _defaults(type(self))  # type: ignore[arg-type]  # types are hashable
            hints.about_parameters(self.solver, self.get_params(deep=False), defaults)
        if isinstance(X, parts.Source):
            return parts.prepare(self, X, validation, run, resumes=resumes)
        rows = X.rows if isinstance(X, Share) else None
        X, y, Y = self._encode(X, y, reset=not resumes, incremental=incremental)
        if rows is not None and (self.solver == "lbfgs" or self.augment is not None):
            X, rows = X[rows], None  # which take all samples at once, or change them
        like = X if rows is None or sample_weight is None else X[rows]
        weights = self._weights(y, sample_weight, like, incremental=incremental)
        samples = Samples(X, Y, weights, rows)
        if incremental and self.early_stopping and self.solver != "lbfgs":
            raise ValueError("partial_fit does not support early_stopping=True")
        held_out = self._validation_samples(*validation, n_outputs=Y.shape[1])
        if self.solver == "lbfgs" and samples.weight is not None and samples.weight.sum() == 0:
            raise ValueError("sample_weight must not sum to zero for solver='lbfgs'.")
        dtype = self._network_dtype(X, resumes=resumes)
        given = generator_of_context() if self.random_state is None else self.random_state
        random_state = check_random_state(given)
        if run is not None:
            random_state = run.random_state(random_state)
        # scikit-learn's order of draws: initial weights, held-out samples, epochs.
        if resumes:
            network, parameters = self._resumed(samples, hidden_units, dtype)
        else:
            network, parameters = self._initialized(samples, hidden_units, dtype, random_state)
        if held_out is None and self.early_stopping and self.solver != "lbfgs":
            samples, held_out = self._hold_out(samples, random_state)
        if held_out is not None and held_out.weight is not None:
            check_any_weight(held_out.weight)
            check_weight_range(held_out.weight, np.dtype(np.float64))
            if held_out.weight.sum() == 0:
                raise ValueError(
                    "the weights of the validation samples must not sum to zero, because loss and "
                    "score are weighted means; pass other weights, or none."
                )
        if not resumes:
            self.input_scale_ = self._input_scale(samples, dtype)
        self._settle_targets(samples.Y, resumes=resumes)
        if samples.weight is not None:
            check_weight_range(samples.weight, dtype)
            if not resumes:
                hints.about_weights(samples.weight)
        Y = self._targets(samples.Y, dtype)
        weight = None if samples.weight is None else samples.weight.astype(dtype)
        noise = self._noise(
            replace(samples, Y=Y, weight=weight), network.layer_units[1:-1], dtype, random_state
        )
        if run is not None:
            start = parameters.flat if resumes else None
            fit = {}
            if run.compares:
                fit = self._what_must_be_the_same(X, samples, sample_weight, held_out, start)
            stochastic = OPTIMIZERS.get(self.solver)
            run.check(
                fit,
                backends.resolve(self.backend),
                self.max_iter,
                random_state=self.random_state,
                n_samples=len(samples),
                flat=parameters.flat,
                optimizer=None
                if stochastic is None
                else stochastic.of(vars(self), parameters.flat),
            )
            run.restore_parameters(parameters.flat)
            random_state = run.generator(random_state)

        engine = backend.Engine(
            network,
            parameters,
            replace(prediction.mapped(self, samples.matrix, dtype), rows=samples.rows),
            samples.spread(Y),
            samples.spread(weight),
            self.n_threads,
            many_passes=not incremental and self.max_iter > 1 and noise.augmented is None,
        )
        if self.solver != "lbfgs":
            self._ready_optimizer(parameters, run, incremental=incremental)
        if rows is not None and hasattr(self, "_skl_callbacks"):
            X = X[rows]  # which callbacks may ask for
        passes = partial(
            InMemory,
            engine,
            len(samples),
            shuffle=self.shuffle,
            random_state=random_state,
            rows=samples.rows,
            noise=noise,
        )
        validate = self._validator(engine, held_out)
        return Preparation(
            *(X, y, (y.shape[0], X.shape[1]), samples, len(samples)),
            *(engine, passes, validate, random_state, run),
        )

    def _ready_optimizer(
        self, parameters: Parameters, run: Run | None, *, incremental: bool = False
    ) -> None:
        """Make the optimiser, or take that of a previous fit."""
        if not incremental or self._optimizer is None:
            self._optimizer = OPTIMIZERS[self.solver].of(vars(self), parameters.flat)
        if not isinstance(self._optimizer, Optimizer):
            raise TypeError(
                "_optimizer must be the one of a previous fit, got "
                f"{type(self._optimizer).__name__}; set it to None to start with a new one."
            )
        self._optimizer.adapt(parameters.flat)
        self._optimizer.max_grad_norm = float(self.max_grad_norm or 0)
        if run is not None:
            run.restore_optimizer(self._optimizer)

    def _check_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Refuse what a checkpoint cannot do."""
        if checkpoint.keep == "best" and self.solver == "lbfgs":
            raise ValueError(
                "keep='best' is for the stochastic solvers, got solver='lbfgs', whose loss falls "
                "in every iteration; use keep='last'."
            )

    def _what_must_be_the_same(
        self,
        X: Any,
        samples: Samples,
        sample_weight: Any,
        held_out: Samples | None,
        start: NDArray | None,
    ) -> dict[str, str]:
        """Return what a fit that goes on with a checkpoint must have in common with that before.

        `start` are the weights of a warm start.
        """
        state = "" if start is None else in_words(vars(self._state_to_resume()))
        weight = None if sample_weight is None else np.asarray(sample_weight)
        return {
            **self._parameters_in_words(),
            "data: X": digest(X),
            "data: y": digest(samples.Y) + in_words(list(getattr(self, "classes_", ()))),
            "data: sample_weight": digest(weight),
            **self._validation_in_words(held_out),
            "data: the model's state": digest(start) + state,
        }

    @staticmethod
    def _validation_in_words(held_out: Samples | None) -> dict[str, str]:
        """Return what a checkpoint compares of the user's validation data."""
        aside = (None,) * 3 if held_out is None else (held_out.X, held_out.Y, held_out.weight)
        return {"data: the validation data": " ".join(map(digest, aside))}

    def _parameters_in_words(self) -> dict[str, str]:
        """Return the class and those parameters that a checkpoint compares."""
        parameters = self.get_params(deep=False)
        for name in ("n_threads", "backend", "verbose", "warm_start"):
            parameters.pop(name)
        if not isinstance(self.lr_schedule, str):  # which depends on max_iter
            del parameters["max_iter"]
        words = {name: in_words(value) for name, value in parameters.items()}
        return {"the estimator": type(self).__name__, **words}

    def _noise(
        self,
        samples: Samples,
        hidden_units: tuple[int, ...],
        dtype: np.dtype,
        random_state: np.random.RandomState,
    ) -> Noise:
        """Return dropout and augmentation."""
        if self.augment is not None and issparse(samples.matrix):
            raise ValueError("augment needs dense X, got a sparse one; pass X.toarray().")
        dropout, seed = self._dropout_and_seed(hidden_units, random_state)
        if self.augment is None or self.solver == "lbfgs":
            return Noise(dropout)
        return Noise(dropout, self._augmented(samples, dtype, seed))

    def _dropout_and_seed(
        self, hidden_units: tuple[int, ...], random_state: np.random.RandomState
    ) -> tuple[Dropout | None, int]:
        """Return dropout, and the seed of augmentation."""
        rates = _dropout_rates(self.dropout, len(hidden_units))
        if self.solver == "lbfgs" or not (any(rates) or self.augment is not None):
            return None, 0  # without random numbers that scikit-learn does not draw
        low, high = random_state.randint(0, 2**32, size=2, dtype=np.uint64)
        seed = int(low) + (int(high) << 32)
        return Dropout(rates, seed) if any(rates) else None, seed

    def _augmented(
        self, samples: Samples, dtype: np.dtype, seed: int
    ) -> Callable[[NDArray, int], tuple[Inputs, NDArray, NDArray | None]]:
        """Return a function for the augmented samples of an epoch; see `train`."""
        augment: Any = self.augment
        threads = self.n_threads
        check_augment(augment, samples.X[:1])

        def augmented(rows: NDArray, epoch: int) -> tuple[Inputs, NDArray, NDArray | None]:
            X = samples.X[rows]
            X = apply(augment, X, seed=seed, epoch=epoch, rows=rows, n_threads=threads)
            weight = None if samples.weight is None else samples.weight[rows]
            return prediction.mapped(self, X, dtype), samples.Y[rows], weight

        return augmented

    def _begin(self, ready: Preparation, *, resumes: bool) -> Progress:
        """Return the progress record of a new fit."""
        state = self._state_to_resume() if resumes else TrainingState()
        stochastic = self.solver != "lbfgs"
        early_stopping = stochastic and bool(self.early_stopping)
        names = [
            "loss",
            *(["learning_rate"] if stochastic else []),
            *(["val_loss", "val_score"] if ready.validate is not None else []),
            "seconds",
        ]
        # A warm start begins from scratch: scikit-learn overwrites the best weights of the last
        # fit, so they are no longer available.
        keeps_first = not stochastic or (early_stopping and not state.loss_curve)
        progress = Progress(
            state,
            names,
            has_curve=stochastic,
            early_stopping=early_stopping,
            keeps_best=ready.run is not None and ready.run.checkpoint.keep == "best",
            tol=self.tol,
            flat=ready.engine.parameters.flat.copy() if keeps_first else None,
        )
        if ready.run is not None:
            ready.run.restore(progress, ready.random_state)
        return progress

    def _state_to_resume(self) -> TrainingState:
        """Return the current training state of the model.

        It may have been created or changed by hand.
        """
        state = vars(self).get("_state", TrainingState())
        if not isinstance(state, TrainingState):
            raise TypeError(
                f"_state must be the one of a previous fit, got {type(state).__name__}; delete it "
                "to start with a new one."
            )
        changes: dict[str, Any] = {}
        for attribute, name in _OF_STATE.items():
            value = vars(self).get(attribute)
            if value is None:
                continue
            numbers = np.asarray(value)
            wants_list = isinstance(getattr(state, name), list)
            if numbers.ndim != wants_list or (numbers.size and numbers.dtype.kind not in "iuf"):
                raise ValueError(
                    f"{attribute} must be {'a list of numbers' if wants_list else 'a number'}, got "
                    f"{value!r}; restore the fitted one, or fit again."
                )
            changes[name] = list(value) if wants_list else value
        return replace(state, **changes)

    def _publish(self, ready: Preparation, progress: Progress) -> None:
        """Set the fitted attributes after the finished epochs, all at once."""
        finish(ready.engine, progress)
        state = progress.state()
        fitted: dict[str, Any] = {
            "n_layers_": len(ready.engine.network.layer_units),
            "coefs_": ready.engine.parameters.coefs,
            "intercepts_": ready.engine.parameters.intercepts,
            "n_iter_": progress.n_epochs,
            "_state": state,
            **self._history_attributes(state),
        }
        if self.solver == "lbfgs":
            fitted["loss_"] = progress.loss
        # One operation, which Ctrl-C cannot interrupt.
        self.__dict__.update(fitted)

    def _optimize(
        self,
        ready: Preparation,
        progress: Progress,
        tasks: FitTasks,
        incremental: bool,
        observation: Observation,
    ) -> None:
        """Run the solver, and set the fitted attributes."""
        engine, n_samples = ready.engine, ready.n_samples
        compiled = False

        def fitted_attributes() -> dict[str, Any]:
            engine.sync()
            state = progress.state()
            return {
                "coefs_": [coef.copy() for coef in self.coefs_],
                "intercepts_": [intercept.copy() for intercept in self.intercepts_],
                "_state": state,
                "_optimizer": copy.deepcopy(self._optimizer),
                **self._history_attributes(state),
            }

        def epoch_ended(report: EpochReport) -> bool:
            self.n_iter_, self.loss_ = report.epoch, report.loss
            nonlocal compiled
            if self.verbose and engine.seconds_compiling > 0 and not compiled:
                compiled = True
                print(f"Compiling took {engine.seconds_compiling:.1f} s, once.")  # noqa: T201
            stop = tasks.epoch_ended(fitted_attributes)
            return observation.epoch_ended(report) or stop

        common: dict[str, Any] = {
            "max_iter": self.max_iter,
            "tol": self.tol,
            "validate": ready.validate,
            "n_samples": n_samples,
            "verbose": bool(self.verbose),
            "before_epoch": tasks.epoch_begins,
            "on_epoch": epoch_ended,
            "handles_interrupts": observation.handles_interrupts,
        }
        if ready.run is not None:
            common |= self._checkpointing(ready.run, ready, progress)
        has_ended = ready.run is not None and ready.run.has_ended
        order = None if ready.run is None else ready.run.order
        if self.solver == "lbfgs" and not has_ended:
            train_lbfgs(engine, progress, max_fun=self.max_fun, **common)
        elif not has_ended:
            assert self._optimizer is not None
            scored = ready.samples if observation.wants_training_score else None
            evaluate = self._validator(engine, scored)
            train(
                engine,
                self._optimizer,
                progress,
                ready.passes(self._batch_size(n_samples), order=order),
                n_iter_no_change=self.n_iter_no_change,
                lr_schedule=self._schedule(),
                incremental=incremental,
                score_training=None if evaluate is None else lambda: evaluate()[1],
                on_samples=observation.on_samples,
                **common,
            )
        self._publish(ready, progress)
        tasks.fit_ended(fitted_attributes)

    def _checkpointing(self, run: Run, ready: Preparation, progress: Progress) -> dict[str, Any]:
        """Return the solver's arguments to go on with a checkpoint, and to keep it up to date."""
        engine = ready.engine

        def keep_work(
            work: dict[str, NDArray], finished: bool = False, is_final: bool = False
        ) -> None:
            flat = engine.parameters.flat
            run.keep(progress, flat, lbfgs=work, finished=finished, is_final=is_final)

        def keep(order: NDArray, finished: bool = False, is_final: bool = False) -> None:
            run.keep(
                progress,
                engine.parameters.flat,
                engine.sync,
                generator=ready.random_state,
                optimizer=self._optimizer,
                order=order,
                finished=finished,
                is_final=is_final,
            )

        if self.solver == "lbfgs":
            return {"work": run.lbfgs, "keep": keep_work}
        return {"resumes": run.order is not None, "keep": keep}

    def _publish_history(self) -> None:
        """Set the attributes of the training state under scikit-learn's names."""
        self.__dict__.update(self._history_attributes(self._state))

    def _history_attributes(self, state: TrainingState) -> dict[str, Any]:
        """Return the fitted attributes of a training state."""
        attributes: dict[str, Any] = {"t_": state.n_samples_seen, "history_": state.history}
        if self.solver == "lbfgs":
            return attributes
        # NumPy scalars, as in scikit-learn, because they print differently.
        attributes["loss_curve_"] = [np.float64(loss) for loss in state.loss_curve]
        if state.loss_curve:
            attributes["loss_"] = attributes["loss_curve_"][-1]
        early_stopping = bool(self.early_stopping)
        attributes["best_loss_"] = None if early_stopping else np.float64(state.best_loss)
        attributes["validation_scores_"] = state.validation_scores if early_stopping else None
        attributes["best_validation_score_"] = (
            state.best_validation_score if early_stopping else None
        )
        return attributes

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: sparse input is supported."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there are weights to predict with."""
        return hasattr(self, "coefs_")

    def to_sklearn(self) -> Any:
        """Return scikit-learn's estimator with this model's weights.

        Its predictions are the same, up to rounding, and neither it nor its pickle needs fastmlp.
        (Except that multiclass probabilities after ``loss="squared_error"`` do not sum to 1.)
        Parameters that only fastmlp has are dropped; ``input_scale_`` becomes part of the first
        layer, and ``target_scale_`` of the last one (losses remain those of the scaled targets). It
        can be trained further (`warm_start`, `partial_fit`), with a new optimizer.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or sklearn.neural_network.MLPRegressor

        Raises
        ------
        TypeError
            If the model is an instance of a subclass.
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        ValueError
            If scikit-learn does not support its activation, solver or gradient clipping.
        """
        return conversion.to_sklearn(self, self._sklearn_class)

    @classmethod
    def from_sklearn(cls, model: BaseEstimator) -> Self:
        """Convert scikit-learn's model to this class; see `conversion.from_sklearn`."""
        return conversion.from_sklearn(model, cls._sklearn_class, cls)

    @property
    def _no_improvement_count(self) -> int:
        """Consecutive epochs without improvement, under scikit-learn's name; may be set."""
        return self._state.no_improvement_count

    @_no_improvement_count.setter
    def _no_improvement_count(self, count: float) -> None:
        if not isinstance(count, Real):
            raise TypeError(f"_no_improvement_count must be a number, got {count!r}.")
        state = vars(self).get("_state", TrainingState())
        self._state = replace(state, no_improvement_count=count)

    def _check_solver(self) -> bool:
        """Return True, or raise if partial_fit is not available."""
        if self.solver not in OPTIMIZERS:
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    def _validate_training_data(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        """Return X as a matrix for an engine, and y; of shared data, the whole X."""
        if isinstance(X, Share):
            return X.validated(self)
        return self._validate_matrix(X, y=y, reset=reset, multi_output=True, **self._of_targets)

    def _validate_matrix(self, X: Any, **options: Any) -> Any:
        """Return validated data as a matrix for an engine."""
        prediction.refuse_batches(X)
        floating = (np.float64, np.float32) if self.dtype is None else (np.dtype(self.dtype),)
        return validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype=floating if issparse(X) else (*floating, np.uint8),
            order="C",
            **options,
        )

    def _validation_samples(
        self, X: Any, y: Any, sample_weight: Any, *, n_outputs: int
    ) -> Samples | None:
        """Return the user's validation data, if any."""
        if X is None and y is None and sample_weight is None:
            return None
        if X is None or y is None:
            raise ValueError("X_val and y_val must be given together, got only one of them.")
        try:
            X = self._validate_matrix(X, reset=False)
        except ValueError as error:  # whose message says X
            raise ValueError(f"X_val: {error}") from None
        Y = self._encode_validation(y)
        if Y.shape[1] != n_outputs:
            raise ValueError(
                f"y_val must have as many outputs as y, {n_outputs}, got {Y.shape[1]}."
            )
        if len(Y) != X.shape[0]:
            raise ValueError(
                "X_val and y_val must have the same number of samples, got "
                f"{X.shape[0]} and {len(Y)}."
            )
        return Samples(
            X, Y, None if sample_weight is None else check_sample_weight(sample_weight, X)
        )

    def _initialized(
        self,
        samples: Samples,
        hidden_units: tuple[int, ...],
        dtype: np.dtype,
        random_state: np.random.RandomState,
    ) -> tuple[Network, Parameters]:
        """Create the network and initial weights of a new model."""
        for name in (*_OF_STATE, "loss_", "history_", "_state", "_optimizer"):
            self.__dict__.pop(name, None)  # of another fit
        self.n_outputs_ = samples.Y.shape[1]
        self.out_activation_ = self._output_activation()
        self._fitted_loss = self.loss
        self.n_iter_ = self.t_ = 0
        network = self._network((samples.matrix.shape[1], *hidden_units, self.n_outputs_))
        self.n_layers_ = len(network.layer_units)
        parameters = Parameters(network, np.empty(network.n_parameters, dtype))
        coefs: list[NDArray] = []
        intercepts: list[NDArray] = []
        if getattr(self._init_coef, "__func__", None) is not BaseMLP._init_coef:
            # The layers so far, which it may read. Otherwise the old model is kept until the end.
            self.coefs_, self.intercepts_ = coefs, intercepts
        self._random_state = random_state
        for coef, intercept in zip(parameters.coefs, parameters.intercepts, strict=True):
            fan_in, fan_out = coef.shape
            layer = self._init_coef(fan_in, fan_out, dtype)
            coef[...], intercept[...] = _checked_layer(layer, fan_in, fan_out)
            coefs.append(coef)
            intercepts.append(intercept)
        del self._random_state
        return network, parameters

    def _init_coef(self, fan_in: int, fan_out: int, dtype: np.dtype) -> tuple[NDArray, NDArray]:
        """Return the initial weights of a layer; scikit-learn's hook for subclasses.

        Called for each layer, starting at the inputs, with ``_random_state``, ``n_layers_``,
        ``n_outputs_``, ``out_activation_`` and the layers so far (``coefs_``, ``intercepts_``) set.

        Parameters
        ----------
        fan_in, fan_out : int
        dtype : float32 or float64

        Returns
        -------
        coef : array of shape (fan_in, fan_out)
        intercept : array of shape (fan_out,)
        """
        coef, intercept = initial_layer(fan_in, fan_out, self.activation, self._random_state)
        return coef.astype(dtype, copy=False), intercept.astype(dtype, copy=False)

    def _resumed(
        self, samples: Samples, hidden_units: tuple[int, ...], dtype: np.dtype
    ) -> tuple[Network, Parameters]:
        """Return the network and a copy of the weights of a model, fitted or made by hand."""
        fitted = self.__dict__
        fitted.setdefault("input_scale_", None)
        if "_fitted_loss" not in fitted and self.loss in LOSSES.get(self.out_activation_, ()):
            self._fitted_loss = self.loss
        network = self._network()
        fitted.setdefault("n_features_in_", network.n_features)
        fitted.setdefault("n_outputs_", network.n_outputs)
        if network.layer_units[1:-1] != hidden_units:
            warn(
                f"the hidden layers {network.layer_units[1:-1]} of the first fit are kept; "
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} has no effect.",
                WarmStartWarning,
            )
        if self.out_activation_ != self._output_activation() or network.loss != self.loss:
            warn(
                f"the loss {network.loss!r} of the first fit is kept; loss={self.loss!r} has no "
                "effect.",
                WarmStartWarning,
            )
        prediction.check_features(self.coefs_, samples.X)
        if self.input_scale_ is not None:
            prediction.fitted_map(self.input_scale_, network.n_features, dtype)  # is one
        if self._changed_input_scale(samples.X):
            warn(
                "input_scale_ of the first fit is kept; "
                f"input_scale={self.input_scale!r} has no effect.",
                WarmStartWarning,
            )
        if samples.Y.shape[1] != network.n_outputs:
            raise ValueError(
                f"y must have {network.n_outputs} outputs as in the first fit, got "
                f"{samples.Y.shape[1]}; fit a new model for other targets."
            )
        return network, Parameters.from_layers(network, self.coefs_, self.intercepts_, dtype)

    def _check_by_hand(self) -> None:
        """Refuse to train an incomplete model that was made by hand."""
        fitted = vars(self)
        if missing := [n for n in ("intercepts_", "out_activation_") if n not in fitted]:
            raise ValueError(
                f"a model with coefs_ must have {' and '.join(missing)}, too, to be trained; "
                "set what is missing, or fit a new model."
            )
        if self.out_activation_ not in LOSSES:
            raise ValueError(
                f"out_activation_ must be one of {tuple(LOSSES)} to be trained, got "
                f"{self.out_activation_!r}; restore the fitted one, or fit a new model."
            )
        self.coefs_, self.intercepts_ = prediction.layers(self)
        for name in ("coefs_", "intercepts_"):
            for layer, array in enumerate(getattr(self, name)):
                if not np.isfinite(array).all():
                    raise ValueError(
                        f"{name}[{layer}] must be finite to be trained, but contains NaN or "
                        "infinity; restore the fitted ones, or fit a new model."
                    )

    def _hold_out(
        self, samples: Samples, random_state: np.random.RandomState
    ) -> tuple[Samples, Samples]:
        """Split the samples for early stopping, as scikit-learn does."""
        # Its parameters are already validated.
        with sklearn.config_context(skip_parameter_validation=True):
            parts = train_test_split(
                np.arange(len(samples)),
                random_state=random_state,
                test_size=self.validation_fraction,
                stratify=self._strata(samples.Y),
            )
        if len(parts[1]) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        trained, held_out = map(samples.part, parts)
        if trained.weight is not None and not trained.weight.any():
            raise ValueError(
                "only samples held out for early stopping have a nonzero weight; "
                "pass X_val and y_val, or another random_state."
            )
        return trained, held_out

    def _strata(self, Y: NDArray) -> NDArray | None:
        """Return the labels for a stratified split, if any."""
        return None

    def _network(self, layer_units: tuple[int, ...] | None = None) -> Network:
        """Return the network with these layers, by default those of the fitted weights."""
        if layer_units is None:
            layer_units = (self.coefs_[0].shape[0], *(len(b) for b in self.intercepts_))
        return Network(
            layer_units, self.activation, self.out_activation_, float(self.alpha), self._fitted_loss
        )

    def _input_scale(self, samples: Samples, dtype: np.dtype) -> tuple[NDArray, NDArray] | None:
        """Return the input scaling; warn if it is missing but needed."""
        depends_on_data = isinstance(self.input_scale, str)
        X = samples.X if depends_on_data else samples.matrix
        scale, shift = affine_map(self.input_scale, X, dtype)
        if scale is not None and shift is not None:
            if depends_on_data and not issparse(X):
                hints.about_constant_features(X)
            return scale, shift
        hints.about_range(X if issparse(X) else samples.some(hints.RANGE_SAMPLES))
        return None

    def _changed_input_scale(self, X: Any) -> bool:
        """Return whether `input_scale` differs from the fitted scaling."""
        if self.input_scale is None or self.input_scale_ is None:
            return self.input_scale is not None or self.input_scale_ is not None
        if isinstance(self.input_scale, str):  # "standard" depends on the data
            return False
        wanted: Any = affine_map(self.input_scale, X, self.input_scale_[0].dtype)
        return not np.array_equal(wanted, self.input_scale_)

    def _hidden_units(self) -> tuple[int, ...]:
        """Return the units of the hidden layers."""
        return _hidden_units(self.hidden_layer_sizes)

    def _batch_rows(self, n_samples: int) -> int:
        """Return the requested samples per update."""
        if self.batch_size == "auto":
            return min(200, n_samples)
        return operator.index(self.batch_size)  # type: ignore[arg-type]

    def _batch_size(self, n_samples: int) -> int:
        """Return the samples per update."""
        batch_size = self._batch_rows(n_samples)
        if batch_size > n_samples:
            warn_as_sklearn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
            )
        return min(batch_size, n_samples)

    def _max_epochs(self, incremental: bool) -> int:
        """Return the maximum number of epochs, for callbacks."""
        if self.solver == "lbfgs":
            return self.max_iter + 1  # with one more iteration that is started but not finished
        return 1 if incremental else self.max_iter

    def _schedule(self) -> Callable[[int], float] | None:
        """Return `lr_schedule` as a function of the epoch."""
        schedule = self.lr_schedule
        if schedule is None:
            return None
        if self.solver == "sgd" and self.learning_rate != "constant":
            raise ValueError(
                f"lr_schedule and learning_rate={self.learning_rate!r} both set the learning rate; "
                "keep one of them."
            )
        if isinstance(schedule, str):
            return partial(self._named_rate, schedule)
        if not isinstance(schedule, Mapping):
            return partial(_checked_rate, schedule)
        if not all(
            isinstance(epoch, Integral) and isinstance(rate, Real) and epoch >= 1 and rate > 0
            for epoch, rate in schedule.items()
        ):
            raise ValueError(
                "lr_schedule must map epochs (counted from 1) to learning rates > 0, "
                f"got {schedule!r}."
            )

        def rate_of(epoch: int) -> float:
            begun = [first for first in schedule if first <= epoch]
            return float(schedule[max(begun)] if begun else self.learning_rate_init)

        return rate_of

    def _named_rate(self, name: str, epoch: int) -> float:
        """Return the learning rate of an epoch, by a named schedule."""
        return scheduled_rate(name, float(self.learning_rate_init), epoch, self.max_iter)

    def _validator(
        self, engine: Any, samples: Samples | None
    ) -> Callable[[], tuple[float, float]] | None:
        """Return a function that computes loss and score of the engine's parameters on samples."""
        if samples is None:
            return None
        dtype = engine.parameters.flat.dtype
        inputs = prediction.mapped(self, samples.X, dtype)
        Y = self._targets(samples.Y, dtype)
        outputs = np.empty(Y.shape, dtype)

        def validate() -> tuple[float, float]:
            engine.predict(inputs, outputs)
            loss = engine.network.loss_value(Y, outputs, samples.weight)
            return float(loss), self._score_outputs(samples.Y, outputs, samples.weight)

        return validate

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> NDArray:
        """Return the values of the output units; scikit-learn's name, used by subclasses.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        check_input : bool
            Ignored: X is always checked.

        Returns
        -------
        array of shape (n_samples, n_outputs)
        """
        return prediction.outputs(self, X)

    def _forward_pass(self, activations: list[Any]) -> list[Any]:
        """Compute the values of all layers; scikit-learn's name, for inspection tools.

        Parameters
        ----------
        activations : list
            Its first element is X, an array or CSR matrix; the others are replaced.

        Returns
        -------
        list of array of shape (n_samples, n_units)
            The same list.
        """
        activations[:] = prediction.activations(self, activations[0])
        return activations


@lru_cache(maxsize=64)
def _defaults(estimator: type) -> dict[str, Any]:
    """Return the default values of an estimator's parameters."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(estimator).parameters.items()
        if parameter.default is not parameter.empty
    }


def _checked_rate(schedule: Callable[[int], float], epoch: int) -> float:
    """Return the learning rate of an epoch, by the user's function."""
    rate = schedule(epoch)
    try:
        number = float(rate)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(
            "lr_schedule must return a finite learning rate of at least 0, got "
            f"{rate!r} for epoch {epoch}."
        )
    return number


def _dropout_rates(dropout: Any, n_hidden: int) -> tuple[float, ...]:
    """Return the dropout rate per hidden layer."""
    rates: list[Any] = (
        [dropout] * n_hidden if isinstance(dropout, Real) else list(np.atleast_1d(dropout))
    )
    if len(rates) != n_hidden or not all(
        isinstance(rate, Real) and 0 <= float(rate) < 1 for rate in rates
    ):
        raise ValueError(
            "dropout must be a probability in [0, 1), or one for each of the "
            f"{n_hidden} hidden layers; got {dropout!r}."
        )
    return tuple(map(float, rates))


def _checked_layer(layer: Any, fan_in: int, fan_out: int) -> tuple[NDArray, NDArray]:
    """Return the result of `_init_coef` as arrays, or refuse it."""
    try:
        coef, intercept = (np.asarray(part) for part in layer)
    except (TypeError, ValueError):  # not a pair of arrays
        coef = intercept = np.empty(0)
    if (
        (coef.shape, intercept.shape) != ((fan_in, fan_out), (fan_out,))
        or coef.dtype.kind not in "iuf"
        or intercept.dtype.kind not in "iuf"
    ):
        raise ValueError(
            f"_init_coef must return coef and intercept, arrays of numbers of shape "
            f"{(fan_in, fan_out)} and {(fan_out,)}, got {described(layer)}."
        )
    return coef, intercept


def described(value: Any) -> str:
    """Describe a value that should have been arrays."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(described, value))})"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return type(value).__name__


def _hidden_units(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Return the units of the hidden layers as a tuple."""
    # Not np.iterable: like scikit-learn, refuse an array without dimensions.
    is_list = hasattr(hidden_layer_sizes, "__iter__")
    sizes = list(hidden_layer_sizes) if is_list else [hidden_layer_sizes]
    if any(isinstance(size, bool | np.bool_) for size in sizes):  # operator.index takes them
        raise TypeError(f"hidden_layer_sizes must be integers, got {sizes}.")
    if any(size <= 0 for size in sizes):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return tuple(operator.index(size) for size in sizes)
