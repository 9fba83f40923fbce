"""How many threads this process may use, and how many of them a fit."""

import os
import sys
import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_fitting: set[int] = set()  # the threads that are fitting
if hasattr(os, "register_at_fork"):  # a child has none of them
    os.register_at_fork(after_in_child=_fitting.clear)


def usable_threads() -> int:
    """Return how many threads a computation may start here.

    The number of CPUs that the affinity mask, the cgroup quota and
    ``LOKY_MAX_CPU_COUNT`` leave to this process, and no more than
    ``OMP_NUM_THREADS``, which joblib sets in its workers. Fits that are under
    way in several threads, and joblib's jobs in threads, share them equally.

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
    """Return the CPUs for this process, which takes the time of a prediction to find out.

    The arguments are what may change while it runs, of all that joblib looks at.
    """
    # joblib knows the quotas of all platforms; scikit-learn has imported it already.
    import joblib

    return int(joblib.cpu_count())


def sharing_threads(fit: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a function that fits, so that it is counted while it runs."""

    @wraps(fit)
    def counted(*args: _P.args, **options: _P.kwargs) -> _R:
        thread = threading.get_ident()
        if thread in _fitting:  # a fit within a fit, which waits for it
            return fit(*args, **options)
        _fitting.add(thread)
        try:
            return fit(*args, **options)
        finally:
            _fitting.discard(thread)

    return counted


def _jobs_in_threads() -> int:
    """Return how many jobs joblib runs in threads beside the one that asks, itself included.

    The first of them would else find nobody to share with, as the others have not begun yet.
    """
    import joblib
    from joblib.parallel import get_active_backend

    if not get_active_backend()[0].nesting_level:  # no job of joblib's
        return 1
    jobs = [1]
    for frame in sys._current_frames().values():
        while frame is not None:
            if frame.f_code is joblib.Parallel.__call__.__code__:
                # In a worker process there is none, as the call is in another.
                n_jobs = frame.f_locals["self"].n_jobs or 1
                jobs.append(n_jobs if n_jobs > 0 else joblib.cpu_count() + 1 + n_jobs)
            frame = frame.f_back  # type: ignore[assignment]
    return max(jobs)
