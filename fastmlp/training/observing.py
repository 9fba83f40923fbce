"""Observing fits from outside: when they begin, how they go and how they end; and stopping them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from fastmlp.training.state import EpochReport, Progress


@dataclass(frozen=True)
class Fit:
    """A fit that observers are told of, from its beginning on.

    Parameters
    ----------
    model : estimator
        Its weights are those of the last epoch only when the fit is over.
    method : {"fit", "partial_fit"}
    backend : str
        The backend that trains, such as "cython".
    dtype : str
        Precision: "float32" or "float64".
    shape : (n_samples, n_features)
        Of the data that `fit` was given.
    n_samples : int
        Samples of an epoch: those given, without the ones that are held out.
    max_iter : int
        Epochs at most, or iterations of L-BFGS.
    """

    model: Any
    method: str
    backend: str
    dtype: str
    shape: tuple[int, int]
    n_samples: int
    max_iter: int


@dataclass(frozen=True)
class Outcome:
    """How a fit has ended.

    Parameters
    ----------
    n_iter : int
        Epochs that were finished.
    seconds : float
        Time that the fit took, validation of the data included.
    interrupted : bool
        Whether Ctrl-C has ended it.
    error : BaseException or None
        What `fit` raises; None if it returns the model, also after Ctrl-C.
    """

    n_iter: int
    seconds: float
    interrupted: bool
    error: BaseException | None


class Observer:
    """Is told how fits go, and may end them; see `observing`.

    The base of observers: these methods do nothing, override those that you need. They are called
    by the thread that fits. What they raise ends the fit, which keeps what it has learned and
    raises it, too.

    Attributes
    ----------
    wants_training_score : bool, default=False
        Whether reports are to have a `training_score`. It takes a prediction for all training
        samples after every epoch. L-BFGS reports none.
    handles_interrupts : bool, default=False
        Ctrl-C in a search or an ensemble ends all of it with KeyboardInterrupt. If this is true, it
        ends the fit that it comes in only, which keeps what it has learned; the observer then has
        to end the fits that follow, by what `epoch_ended` returns.
    """

    wants_training_score = False
    handles_interrupts = False

    def fit_began(self, fit: Fit) -> None:
        """Hear that a fit begins: its data are valid, and the first epoch is next.

        Parameters
        ----------
        fit : Fit
            The same object in all calls on this fit.
        """

    def samples_done(self, fit: Fit, n_samples: int) -> None:
        """Hear, now and then, how many samples of an epoch are done.

        Parameters
        ----------
        fit : Fit
        n_samples : int
        """

    def epoch_ended(self, fit: Fit, report: EpochReport) -> bool | None:
        """Hear that an epoch is over.

        Parameters
        ----------
        fit : Fit
        report : EpochReport

        Returns
        -------
        bool or None
            Whether the fit is to end here, as if `max_iter` were reached, but without a warning.
        """

    def fit_ended(self, fit: Fit, outcome: Outcome) -> None:
        """Hear that a fit is over; called once for every `fit_began`.

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
    """Tell an observer of all fits, such as those of a pipeline, a search or an ensemble.

    Several observers may be told of the same fit: each one may end it.

    Parameters
    ----------
    observer : Observer
    everywhere : bool, default=False
        Whether it is told of the fits of all threads of this process, and not only of those of the
        calling thread. Its methods are then called by several threads, also at the same time.
        Fits in other processes are not observed.

    Yields
    ------
    observer : Observer

    Raises
    ------
    TypeError
        If `observer` is not an instance of `Observer`.

    Examples
    --------
    End training when the loss is small enough, and say what was trained:

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
    """The observers of a fit that begins, as the estimator tells them of it.

    Attributes
    ----------
    wants_training_score, handles_interrupts : bool
        Whether one of them does.
    """

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._observers = (*_everywhere.values(), *_of_context.get())
        self._fit: Any = None
        self.wants_training_score = any(o.wants_training_score for o in self._observers)
        self.handles_interrupts = any(o.handles_interrupts for o in self._observers)

    @contextmanager
    def of(self, progress: Progress, fit: Callable[[], Fit]) -> Iterator[None]:
        """Tell that a fit begins and, whatever comes, how it ends; `fit` describes it."""
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
        """Tell an observer that the fit is over; the last arguments are those of `__exit__`."""
        seconds = time.perf_counter() - self._begun
        interrupted = progress.interrupted or isinstance(error, KeyboardInterrupt)
        observer.fit_ended(self._fit, Outcome(progress.n_epochs, seconds, interrupted, error))

    @property
    def on_samples(self) -> Callable[[int], None] | None:
        """What is called within an epoch; None if nobody listens, so that it costs nothing."""
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
        """Tell that an epoch is over; return whether one of the observers wants to stop."""
        return any([observer.epoch_ended(self._fit, report) for observer in self._observers])
