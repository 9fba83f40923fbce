"""The number of threads for this process, and for each fit."""

import os
import sys
import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_fitting: set[int] = set()  # threads with running fits
if hasattr(os, "register_at_fork"):  # a forked child has none of them
    os.register_at_fork(after_in_child=_fitting.clear)


def usable_threads() -> int:
    """Return the number of threads for a computation.

    The number of CPUs available to this process, according to the affinity
    mask, the cgroup quota and ``LOKY_MAX_CPU_COUNT``, limited by
    ``OMP_NUM_THREADS``, which joblib sets in its workers. Running fits in
    several threads, and joblib's jobs in threads, share them equally.

    Examples
    --------
    >>> usable_threads() >= 1
    True
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    affinity = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cpus = _cpus(affinity, os.environ.get("LOKY_MAX_CPU_COUNT", ""))
    if limit.isdecimal():
        cpus = min(cpus, int(limit))
    return max(1, cpus // max(len(_fitting), _jobs_in_threads()))


@cache
def _cpus(affinity: frozenset[int] | None, loky_limit: str) -> int:
    """Return the number of CPUs for this process; cached, because it is slow.

    The arguments are the inputs of joblib that may change at run time.
    """
    # joblib supports the quotas of all platforms; already imported by scikit-learn.
    import joblib

    return int(joblib.cpu_count())


def sharing_threads(fit: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a fit, so that it is counted while it runs."""

    @wraps(fit)
    def counted(*args: _P.args, **options: _P.kwargs) -> _R:
        thread = threading.get_ident()
        if thread in _fitting:  # a nested fit
            return fit(*args, **options)
        _fitting.add(thread)
        try:
            return fit(*args, **options)
        finally:
            _fitting.discard(thread)

    return counted


class _OneBlasThread:
    """A context that limits BLAS libraries to one thread, in which several threads may be."""

    def __init__(self) -> None:
        self._lock, self._n_inside, self._limits = threading.Lock(), 0, None

    def __enter__(self) -> None:
        from threadpoolctl import threadpool_limits

        with self._lock:
            if not self._n_inside:
                self._limits = threadpool_limits(1, "blas")
            self._n_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside and self._limits is not None:
                self._limits.restore_original_limits()


one_blas_thread = _OneBlasThread()


def _jobs_in_threads() -> int:
    """Return the number of joblib's jobs in threads, including the calling one.

    Otherwise the first job would use all CPUs, because the others have not started yet.
    """
    import joblib
    from joblib.parallel import get_active_backend

    if not get_active_backend()[0].nesting_level:  # not a job of joblib
        return 1
    jobs = [1]
    for frame in sys._current_frames().values():
        while frame is not None:
            if frame.f_code is joblib.Parallel.__call__.__code__:
                # None in a worker process, as the call is in another.
                n_jobs = frame.f_locals["self"].n_jobs or 1
                jobs.append(n_jobs if n_jobs > 0 else joblib.cpu_count() + 1 + n_jobs)
            frame = frame.f_back  # type: ignore[assignment]
    return max(jobs)
