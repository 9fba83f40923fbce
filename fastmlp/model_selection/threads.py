"""joblib's tasks in threads of this process, for networks that compute outside Python's lock."""

import heapq
import math
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeAlias

import joblib
from joblib.parallel import (
    FallbackToBackend,
    LokyBackend,
    ParallelBackendBase,
    get_active_backend,
)

from fastmlp.estimators.many import Stop, epochs_of
from fastmlp.estimators.progress_bar import ManyBar
from fastmlp.model_selection.calls import Call, Calls, network_of
from fastmlp.model_selection.journal import Journal
from fastmlp.model_selection.standings import Standings
from fastmlp.training import observing
from fastmlp.utils.threads import usable_threads

__all__ = ["ThreadsBackend", "in_threads", "reason_against", "watching"]


#: Whether to say and show what scikit-learn does not; not in its programs under `fastmlp.accel`.
says_more = True

#: Called with every call that has ended, and its result, in the thread that has run it.
Watcher: TypeAlias = Callable[[Call, Any], object]

_watchers: ContextVar[tuple[Watcher, ...]] = ContextVar("watchers", default=())


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Call a function with the results of the searches in this context, one by one."""
    token = _watchers.set((*_watchers.get(), watcher))
    try:
        yield
    finally:
        _watchers.reset(token)


def reason_against(estimator: Any) -> str:
    """Return why an estimator is not trained in threads; empty if it is."""
    active, _ = get_active_backend()
    network = network_of(estimator)
    if network is None:
        return f"{type(estimator).__name__} is not an MLP of fastmlp, or a pipeline to one"
    if not says_more and network.random_state is None:
        return "numbers are drawn from NumPy's global generator, in order"
    if active.nesting_level or type(active).__name__ != "LokyBackend":
        return f"joblib's backend is {type(active).__name__}"
    return ""


@contextmanager
def in_threads(
    estimator: Any,
    *,
    title: str = "",
    resource: str | None = None,
    journal: Journal | None = None,
    verbose: int = 0,
) -> Iterator["ThreadsBackend | None"]:
    """Run the parallel parts of scikit-learn's functions in threads, if they train our networks.

    Nothing is changed for other estimators, in joblib's workers, or if the user has chosen another
    backend of joblib's.

    Parameters
    ----------
    estimator : estimator
        What is to be trained.
    title : str
        Of the bar over all epochs.
    resource : str, optional
        See `Calls`.
    journal : Journal, optional
        Has, and gets, results.
    verbose : int
        Whether to show the bar, or say that nothing is changed.

    Yields
    ------
    ThreadsBackend or None
    """
    if reason := reason_against(estimator):
        if verbose and says_more:
            print(f"fastmlp: {reason}; fits run in scikit-learn's way.", file=sys.stderr)  # noqa: T201
        yield None
        return
    bar, standings = ManyBar(title, bool(verbose) and says_more), Standings()

    def show(call: Call, result: Any) -> None:
        candidate = standings(call, result)
        if candidate is not None and math.isfinite(candidate.mean):
            bar.scored(candidate.mean)

    backend = ThreadsBackend(Calls(usable_threads() + 1, resource), journal, bar.expect)
    with joblib.parallel_config(backend=backend), observing(bar), watching(show):
        try:
            yield backend
        finally:
            bar.close()


class ThreadsBackend(ParallelBackendBase):
    """A backend for joblib: tasks run in threads, the longest first.

    As many as there are CPUs by default. When fewer are left, each has more threads. It is for one
    call of joblib's, or several in one context.

    Parameters
    ----------
    calls : Calls
    journal : Journal, optional
    expect : callable, optional
        Called with the maximum number of epochs of each fit that is to come.

    Attributes
    ----------
    finished : list of Call
        In the order in which they were submitted.
    """

    supports_retrieve_callback = True
    supports_sharedmem = True
    uses_threads = True

    def __init__(
        self,
        calls: Calls,
        journal: Journal | None = None,
        expect: Callable[[int], object] = bool,
    ) -> None:
        super().__init__(nesting_level=0)
        self._calls, self._journal, self._expect = calls, journal, expect
        self._lock = threading.Lock()
        self._waiting: list[tuple[Any, int, list[Call], Context, Future[Any]]] = []
        self._pool: ThreadPoolExecutor | None = None
        self._stop = Stop()
        self.finished: list[Call] = []
        self._n_submitted = 0
        self._is_over = False

    @property
    def default_n_jobs(self) -> int:
        """How many tasks run at a time where nobody says."""
        return 1 if self._is_over else -1

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many tasks run at a time, for joblib, which would submit none to one."""
        return max(2, _n_threads(n_jobs))

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Start; called by joblib."""
        if self._is_over:  # steps of the best pipeline, which is trained on all data
            raise FallbackToBackend(LokyBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        parallel.pre_dispatch = "all"  # tasks cost nothing, and the longest is to be known
        self._pool_size = _n_threads(n_jobs)
        self._pool = ThreadPoolExecutor(self._pool_size, "fastmlp")
        return self.effective_n_jobs(n_jobs)

    def submit(self, func: Any, callback: Callable[[Any], Any] | None = None) -> Future[Any]:
        """Queue a batch of tasks; called by joblib."""
        assert self._pool is not None
        calls = [self._calls.of(*task) for task in func.items]
        for call in calls:
            self._expect(0 if call.network is None else epochs_of(call.network))
        future: Future[Any] = Future()
        if callback is not None:
            future.add_done_callback(callback)
        with self._lock:
            self.finished.extend(calls)
            self._n_submitted += 1
            order = min(call.order for call in calls)
            entry = order, self._n_submitted, calls, copy_context(), future
            heapq.heappush(self._waiting, entry)
        self._pool.submit(self._run_next)
        return future

    apply_async = submit  # its name in joblib before 1.5

    def _run_next(self) -> None:
        """Run what comes first of what is waiting."""
        with self._lock:
            _, _, calls, context, future = heapq.heappop(self._waiting)
        try:
            result = context.run(self._run, calls)
        except BaseException as error:  # for the thread that waits
            future.set_exception(error)
        else:
            future.set_result(result)

    def _run(self, calls: list[Call]) -> list[Any]:
        results = []
        with observing(self._stop):
            for call in calls:
                result = call.run(self._journal)
                for watcher in _watchers.get():
                    watcher(call, result)
                results.append(result)
                call.release()  # or the networks of all candidates would be kept
        return results

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """Return the result of tasks, or raise their error; called by joblib."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Stop the fits that are running, and drop the others; called by joblib."""
        self._stop.is_set = True
        self.terminate()
        self._waiting.clear()
        self._stop = Stop()
        if ensure_ready:
            self._is_over = False
            self._pool = ThreadPoolExecutor(self._pool_size, "fastmlp")

    def terminate(self) -> None:
        """End; called by joblib."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            self._is_over = True


def _n_threads(n_jobs: int | None) -> int:
    if n_jobs == 0:
        raise ValueError("n_jobs must not be 0; pass -1 to use all CPUs.")
    if n_jobs is None or n_jobs < 0:
        return max(1, usable_threads() + 1 + (-1 if n_jobs is None else n_jobs))
    return n_jobs
