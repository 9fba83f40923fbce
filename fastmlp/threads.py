"""How many threads this process may use."""

import os
from functools import cache


def usable_threads() -> int:
    """Return how many threads a computation may start here.

    The number of CPUs that the affinity mask, the cgroup quota and
    ``LOKY_MAX_CPU_COUNT`` leave to this process, and no more than
    ``OMP_NUM_THREADS``, which joblib sets in its workers.

    Examples
    --------
    >>> usable_threads() >= 1
    True
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    affinity = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cpus = _cpus(affinity, os.environ.get("LOKY_MAX_CPU_COUNT", ""))
    return max(1, min(cpus, int(limit))) if limit.isdecimal() else cpus


@cache
def _cpus(affinity: frozenset[int] | None, loky_limit: str) -> int:
    """Return the CPUs for this process, which takes the time of a prediction to find out.

    The arguments are what may change while it runs, of all that joblib looks at.
    """
    # joblib knows the quotas of all platforms; scikit-learn has imported it already.
    import joblib

    return int(joblib.cpu_count())
