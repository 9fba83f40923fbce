"""Observers of fits: notified of their start, progress and end, and able to stop them."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastmlp.training.state import EpochReport, Progress


@dataclass(frozen=True)
class Fit:
    """The description of a fit for observers.

    Parameters
    ----------
    model : estimator
        Its weights are set when the fit has ended.
    method : {"fit", "partial_fit"}
    backend : str
        The backend that trains, such as "cython".
    dtype : str
        Precision: "float32" or "float64".
    shape : (n_samples, n_features)
        Shape of the data passed to `fit`.
    n_samples : int
        Samples per epoch, without held-out ones.
    max_iter : int
        Maximum number of epochs, or of iterations of L-BFGS.
    n_before : int
        Epochs that a checkpoint had; reports go on counting there.
    """

    model: Any
    method: str
    backend: str
    dtype: str
    shape: tuple[int, int]
    n_samples: int
    max_iter: int
    n_before: int = 0


@dataclass(frozen=True)
class Outcome:
    """The outcome of a fit.

    Parameters
    ----------
    n_iter : int
        Number of finished epochs.
    seconds : float
        Time of the fit, including validation of the data.
    interrupted : bool
        Whether it was stopped by Ctrl-C.
    error : BaseException or None
        The exception raised by `fit`; None if it returns the model, also after Ctrl-C.
    """

    n_iter: int
    seconds: float
    interrupted: bool
    error: BaseException | None


class Observer:
    """Base class of observers, which follow fits and can stop them; see `observing`.

    The methods do nothing; override those that you need. They are called in the thread of the fit.
    Their exceptions stop the fit, which keeps the weights of the finished epochs and re-raises
    them.

    Attributes
    ----------
    wants_training_score : bool, default=False
        Whether to compute the `training_score` of reports, which takes a prediction for all
        training samples after every epoch. Not available for L-BFGS.
    handles_interrupts : bool, default=False
        By default, Ctrl-C in a search or ensemble stops all of it with KeyboardInterrupt. If True,
        it only stops the current fit, which keeps its weights; the observer then has to stop the
        following fits, by returning True from `epoch_ended`.

    Notes
    -----
    With scikit-learn 1.9 and later, an observer of one estimator may be passed to its
    ``set_callbacks``.
    """

    wants_training_score = False
    handles_interrupts = False

    # scikit-learn's protocol of callbacks, of which nothing is needed.

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing; for scikit-learn."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing; for scikit-learn."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing; for scikit-learn."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Do nothing; for scikit-learn."""

    def fit_began(self, fit: Fit) -> None:
        """Handle the start of a fit, after validation of the data.

        Parameters
        ----------
        fit : Fit
            The same object in all calls for this fit.
        """

    def samples_done(self, fit: Fit, n_samples: int) -> None:
        """Handle progress within an epoch; called periodically.

        Parameters
        ----------
        fit : Fit
        n_samples : int
        """

    def epoch_ended(self, fit: Fit, report: EpochReport) -> bool | None:
        """Handle the end of an epoch.

        Parameters
        ----------
        fit : Fit
        report : EpochReport

        Returns
        -------
        bool or None
            Whether to stop the fit, as if `max_iter` were reached, but without a warning.
        """

    def fit_ended(self, fit: Fit, outcome: Outcome) -> None:
        """Handle the end of a fit; called once for every `fit_began`.

        Parameters
        ----------
        fit : Fit
        outcome : Outcome
        """


_AnyObserver = TypeVar("_AnyObserver", bound=Observer)

_of_context: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())
_everywhere: dict[object, Observer] = {}


@contextmanager
def observing(observer: _AnyObserver, *, everywhere: bool = False) -> Iterator[_AnyObserver]:
    """Notify an observer of all fits in this context, such as those of a pipeline or a search.

    Several observers may follow the same fit; each of them can stop it.

    Parameters
    ----------
    observer : Observer
    everywhere : bool, default=False
        Whether to observe the fits of all threads of this process, not only of the calling thread.
        The methods of the observer may then be called concurrently. Fits in other processes are
        not observed.

    Yields
    ------
    observer : Observer

    Raises
    ------
    TypeError
        If `observer` is not an instance of `Observer`.

    Examples
    --------
    Stop training when the loss is small enough, and print what was trained:

    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.training import Observer, observing
    >>> from sklearn.datasets import load_iris
    >>> class Until(Observer):
    ...     def __init__(self, loss):
    ...         self.loss = loss
    ...     def epoch_ended(self, fit, report):
    ...         return report.loss < self.loss
    ...     def fit_ended(self, fit, outcome):
    ...         print(f"{fit.method} on {fit.n_samples} samples, Ctrl-C: {outcome.interrupted}")
    >>> X, y = load_iris(return_X_y=True)
    >>> with observing(Until(0.5)):
    ...     model = MLPClassifier(random_state=0).fit(X, y)
    fit on 150 samples, Ctrl-C: False
    >>> model.n_iter_ < model.max_iter
    True
    """
    if not isinstance(observer, Observer):
        name = observer.__name__ if isinstance(observer, type) else type(observer).__name__
        way_out = f"pass {name}()" if isinstance(observer, type) else "derive it from Observer"
        raise TypeError(f"observer must be an instance of Observer, got {name}; {way_out}.")
    if everywhere:
        key = object()  # the same observer may be registered twice
        _everywhere[key] = observer
        try:
            yield observer
        finally:
            del _everywhere[key]
    else:
        token = _of_context.set((*_of_context.get(), observer))
        try:
            yield observer
        finally:
            _of_context.reset(token)


class Observation:
    """The observers of a fit, for the estimator.

    Parameters
    ----------
    own : iterable of Observer
        The estimator's, in addition to those of `observing`.

    Attributes
    ----------
    wants_training_score, handles_interrupts : bool
        Whether any of them does.
    """

    def __init__(self, own: Iterable[Observer] = ()) -> None:
        self._begun = time.perf_counter()
        self._observers = (*_everywhere.values(), *_of_context.get(), *own)
        self._fit: Any = None
        self.wants_training_score = any(o.wants_training_score for o in self._observers)
        self.handles_interrupts = any(o.handles_interrupts for o in self._observers)

    @contextmanager
    def of(self, progress: Progress, fit: Callable[[], Fit]) -> Iterator[None]:
        """Notify of the start and, in any case, the end of a fit; `fit` describes it."""
        if not self._observers:
            yield
            return
        self._fit = fit()
        with ExitStack() as stack:
            for observer in self._observers:
                observer.fit_began(self._fit)
                stack.push(partial(self._tell_end, observer, progress))
            yield

    def _tell_end(
        self, observer: Observer, progress: Progress, _: object, error: Any, __: object
    ) -> None:
        """Notify an observer of the end of the fit; the last arguments are those of `__exit__`."""
        seconds = time.perf_counter() - self._begun
        interrupted = progress.interrupted or isinstance(error, KeyboardInterrupt)
        observer.fit_ended(self._fit, Outcome(progress.n_epochs, seconds, interrupted, error))

    @property
    def on_samples(self) -> Callable[[int], None] | None:
        """The callback within an epoch; None without listeners, to have no overhead."""
        fit, base = self._fit, Observer.samples_done
        methods = [observer.samples_done for observer in self._observers]
        listening = [told for told in methods if getattr(told, "__func__", told) is not base]
        if not listening:
            return None

        def on_samples(n_samples: int) -> None:
            for told in listening:
                told(fit, n_samples)

        return on_samples

    def epoch_ended(self, report: EpochReport) -> bool:
        """Notify of the end of an epoch; return whether an observer wants to stop."""
        return any([observer.epoch_ended(self._fit, report) for observer in self._observers])
