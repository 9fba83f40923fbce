"""How many threads this process may use."""

import os


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
    # joblib knows the quotas of all platforms; scikit-learn has imported it already.
    import joblib

    limit = os.environ.get("OMP_NUM_THREADS", "")
    cpus = int(joblib.cpu_count())
    return max(1, min(cpus, int(limit))) if limit.isdecimal() else cpus
