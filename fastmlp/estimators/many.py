"""Training of many models in one process: of a search, a cross-validation or an ensemble."""

from __future__ import annotations

import contextvars
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import sklearn
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _num_samples

from fastmlp.estimators.base import BaseMLP
from fastmlp.estimators.progress_bar import ManyBar
from fastmlp.estimators.samples import Share, SharedData
from fastmlp.exceptions import InterruptedWarning, warn
from fastmlp.training import EpochReport, Fit, Observer, observing
from fastmlp.utils.generators import drawing_from
from fastmlp.utils.threads import usable_threads

__all__ = [
    "Job",
    "Stop",
    "checked_jobs",
    "epochs_of",
    "estimated_cost",
    "fit_many",
    "run",
]

#: An iteration of L-BFGS evaluates more than once, and its line searches are not free.
_EVALUATIONS = 1.5


@dataclass
class Job:
    """A fit of many.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Unfitted; is fitted.
    share : Share
        What it is trained on.
    sample_weight : array or None
    name : str
        For messages.
    fit_params : mapping
        Further arguments of `fit`.

    Attributes
    ----------
    error : Exception or None
    is_done : bool
        Whether it is fitted or has failed.
    """

    model: BaseMLP
    share: Share
    sample_weight: Any
    name: str
    fit_params: Mapping[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    is_done: bool = False

    def __post_init__(self) -> None:
        """Draw from the global generator, while the order is known."""
        self._drawing = generator_in_order(self.model)

    def cost(self, n_samples: int, n_features: int) -> float:
        """Return roughly how long it will take, in any unit."""
        n_rows = n_samples if self.share.rows is None else len(self.share.rows)
        return estimated_cost(self.model, n_rows, n_features)


def generator_in_order(model: BaseMLP) -> Callable[[], AbstractContextManager[None]]:
    """Return a context for a fit in a thread: with a generator of its own if it has no seed.

    It is drawn here, so that a seed of NumPy's global generator determines all fits.
    """
    if model.random_state is not None:
        return nullcontext
    generator = np.random.RandomState(np.random.randint(2**31))
    return partial(drawing_from, generator)


def estimated_cost(model: BaseMLP, n_samples: int, n_features: int) -> float:
    """Return roughly how long a fit will take, in any unit."""
    try:
        hidden: Any = model.hidden_layer_sizes
        units = [n_features, *np.atleast_1d(hidden).astype(int), 10]
        products = float(np.dot(units[:-1], units[1:]))
        epochs = float(model.max_iter)
    except (TypeError, ValueError):  # fit will refuse them
        return 0.0
    return products * n_samples * epochs * (_EVALUATIONS if model.solver == "lbfgs" else 1)


def epochs_of(model: BaseMLP) -> int:
    """Return the maximum number of epochs; 0 for an invalid one."""
    return model.max_iter if isinstance(model.max_iter, numbers.Integral) else 0


def fit_many(
    estimators: Iterable[BaseMLP],
    X: ArrayLike,
    y: ArrayLike,
    *,
    folds: Iterable[Any] | None = None,
    sample_weight: ArrayLike | None = None,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> list[Any]:
    """Fit many estimators on the same data, several at a time, in this process.

    While as many fits are left as there are CPUs, each has one thread; the last ones have more. The
    longest begin first. X is validated and converted once, and shared; a fold is a selection of its
    rows, without a copy (except for L-BFGS and augmentation). Results are those of fitting each
    estimator alone, bit for bit.

    Ctrl-C keeps the fits that have ended, and stops the others.

    Parameters
    ----------
    estimators : iterable of MLPClassifier and MLPRegressor
        Unfitted; not changed. Their parameters may differ in any way.
    X, y : array-like or sparse matrix
        As for `fit`.
    folds : iterable of arrays, or of pairs of arrays, optional
        Rows to train on: indices or a boolean mask. Of a pair, as from ``KFold().split(X)``, the
        second, the test rows, is ignored.
    sample_weight : array-like of shape (n_samples,), optional
    n_jobs : int, optional
        How many fits run at a time: by default, and for -1, as many as there are CPUs.
    verbose : bool, default=False
        Whether to show a bar over the epochs of all fits, in a terminal or notebook.

    Returns
    -------
    fitted : list of estimators, or of lists of estimators
        Fitted clones, in the order of `estimators`; with `folds`, a list of one per fold for each.
        None stands for those that Ctrl-C has stopped.

    Raises
    ------
    ValueError
        If the list is empty, an estimator is fitted, or `folds` or `n_jobs` are invalid; and the
        first error of a fit, once the others have ended.
    TypeError
        If an estimator is none of fastmlp's.

    Warns
    -----
    fastmlp.exceptions.InterruptedWarning
        After Ctrl-C.

    Examples
    --------
    >>> from fastmlp import MLPClassifier, fit_many
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> grid = [MLPClassifier(n, solver="lbfgs", random_state=0) for n in (4, 8, 16)]
    >>> [len(model.coefs_[0][0]) for model in fit_many(grid, X, y)]
    [4, 8, 16]
    """
    models = _checked(estimators)
    n_threads = checked_jobs(n_jobs)
    data = SharedData(X, y)
    n_samples = _num_samples(X)
    if sample_weight is not None and not isinstance(sample_weight, numbers.Real):
        check_consistent_length(X, sample_weight)
    chosen = [None] if folds is None else _checked_folds(folds, n_samples)
    jobs = [
        Job(
            clone(model),
            Share(data, rows),
            _weights_of(sample_weight, rows),
            f"estimators[{i}]" + ("" if folds is None else f", fold {fold}"),
        )
        for i, model in enumerate(models)
        for fold, rows in enumerate(chosen)
    ]
    bar = ManyBar(f"{len(jobs)} fits", verbose)
    for job in jobs:
        bar.expect(epochs_of(job.model))
    try:
        with observing(bar):
            interrupted = run(jobs, n_samples, _n_features(X), n_threads)
    finally:
        bar.close()
    failed = [job for job in jobs if job.error is not None]
    if failed:
        error = failed[0].error
        assert error is not None
        more = f", and {len(failed) - 1} other fits" if len(failed) > 1 else ""
        error.add_note(f"This is the error of {failed[0].name}{more}.")
        raise error
    if interrupted:
        done = sum(job.is_done for job in jobs)
        warn(
            f"interrupted: {done} of {len(jobs)} fits have ended; None is in the place of the "
            "others.",
            InterruptedWarning,
        )
    fitted = [job.model if job.is_done else None for job in jobs]
    if folds is None:
        return fitted
    n_folds = len(chosen)
    return [fitted[i : i + n_folds] for i in range(0, len(fitted), n_folds)]


def run(
    jobs: Sequence[Job],
    n_samples: int,
    n_features: int,
    n_threads: int,
    ended: Callable[[Job], None] | None = None,
) -> bool:
    """Run fits, the longest first.

    Parameters
    ----------
    jobs : sequence of Job
        Their models are fitted, or they have an error.
    n_samples, n_features : int
        Of the shared data.
    n_threads : int
        Fits at a time.
    ended : callable, optional
        Called in this thread with every job that has ended. If it raises, the others are stopped.

    Returns
    -------
    bool
        Whether Ctrl-C has stopped it.
    """
    order = sorted(jobs, key=lambda job: -job.cost(n_samples, n_features))  # stable
    stop = Stop()
    config = sklearn.get_config()

    def fit(job: Job) -> Job:
        if stop.is_set:
            return job
        with sklearn.config_context(**config), observing(stop), job._drawing():
            try:
                share: Any = job.share
                job.model.fit(
                    share, share.data.y, sample_weight=job.sample_weight, **job.fit_params
                )
                job.is_done = True
            except StoppedError:
                pass
            except Exception as error:
                job.error, job.is_done = error, True
        return job

    if n_threads == 1:  # Ctrl-C arrives in this thread
        return _run_here(order, fit, ended)
    interrupted = False
    with ThreadPoolExecutor(min(n_threads, len(jobs)), "fastmlp") as pool:
        waiting = order[::-1]
        running: set[Future[Job]] = set()
        while waiting or running:
            try:
                while waiting:
                    context = contextvars.copy_context()
                    running.add(pool.submit(context.run, fit, waiting.pop()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    job = future.result()
                    if ended is not None and job.is_done:
                        ended(job)
            except KeyboardInterrupt:
                interrupted = stop.is_set = True
                waiting = []
                for future in running:
                    future.cancel()
                running = {future for future in running if not future.cancelled()}
            except BaseException:
                stop.is_set = True
                for future in running:
                    future.cancel()
                raise
    return interrupted


def _run_here(
    jobs: Sequence[Job], fit: Callable[[Job], Job], ended: Callable[[Job], None] | None
) -> bool:
    try:
        for job in jobs:
            fit(job)
            if ended is not None:
                ended(job)
    except KeyboardInterrupt:
        return True
    return False


class StoppedError(BaseException):
    """Ends a fit, whatever catches exceptions of fits."""


class Stop(Observer):
    """Stops fits in other threads, which Ctrl-C does not reach.

    Attributes
    ----------
    is_set : bool
    """

    is_set = False

    def samples_done(self, fit: Fit, n_samples: int) -> None:
        """Stop within an epoch."""
        if self.is_set:
            raise StoppedError

    def epoch_ended(self, fit: Fit, report: EpochReport) -> None:
        """Stop after an epoch."""
        if self.is_set:
            raise StoppedError


# -------------------------------------------------------------------------------------- arguments


def _checked(estimators: Iterable[BaseMLP]) -> list[BaseMLP]:
    if isinstance(estimators, BaseMLP):
        raise TypeError(
            f"estimators must be a list, got one {type(estimators).__name__}; put it in a list."
        )
    models = list(estimators)
    if not models:
        raise ValueError("estimators must hold at least one estimator, got an empty list.")
    for i, model in enumerate(models):
        if not isinstance(model, BaseMLP):
            raise TypeError(
                f"estimators must be fastmlp's MLPClassifier or MLPRegressor, got "
                f"{type(model).__name__} as number {i}; fit others with their own `fit`."
            )
        if model.__sklearn_is_fitted__():
            raise ValueError(
                f"estimators must not be fitted, but number {i} is; pass "
                "sklearn.base.clone(estimator)."
            )
    return models


def checked_jobs(n_jobs: int | None) -> int:
    """Return how many fits run at a time."""
    if n_jobs is None or n_jobs == -1:
        return usable_threads()
    if not isinstance(n_jobs, numbers.Integral) or isinstance(n_jobs, bool) or n_jobs < 1:
        raise ValueError(f"n_jobs must be an integer of at least 1, -1 or None, got {n_jobs!r}.")
    return int(n_jobs)


def _checked_folds(folds: Iterable[Any], n_samples: int) -> list[NDArray | None]:
    found: list[NDArray | None] = []
    if not isinstance(folds, Iterable):
        raise TypeError(
            f"folds must be arrays of rows, or pairs of them, got {folds!r}; pass "
            "KFold(3).split(X), for example."
        )
    for i, fold in enumerate(folds):
        rows = fold[0] if isinstance(fold, tuple) and len(fold) == 2 else fold
        try:
            rows = np.asarray(rows)
        except ValueError:  # ragged
            rows = np.empty(0, object)
        if rows.dtype == bool and rows.shape == (n_samples,):
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
            raise ValueError(
                "folds must hold arrays of row indices, or masks, with at least one row, or pairs "
                f"of them, got {rows.dtype} of shape {rows.shape} as number {i}."
            )
        if rows.min() < -n_samples or rows.max() >= n_samples:
            raise ValueError(
                f"folds must hold rows from 0 to {n_samples - 1}, got {rows.min()} to "
                f"{rows.max()} in number {i}."
            )
        found.append(np.where(rows < 0, rows + n_samples, rows).astype(np.int64))
    if not found:
        raise ValueError(
            "folds must hold at least one fold, got none; a generator can be used only once."
        )
    return found


def _n_features(X: Any) -> int:
    shape = getattr(X, "shape", None) or np.shape(X)
    return int(shape[1]) if len(shape) > 1 else 1


def _weights_of(sample_weight: Any, rows: NDArray | None) -> Any:
    if rows is None or sample_weight is None or isinstance(sample_weight, numbers.Real):
        return sample_weight
    return np.asarray(sample_weight)[rows]
