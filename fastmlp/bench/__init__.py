"""The benchmark suite: fastmlp beside scikit-learn, PyTorch, JAX, and bare matrix products.

What is fair to compare is laid down in `CASES`. The contenders of a case get the same samples, the
same initial weights and the same order of samples, all do every epoch, and their losses must
agree: a faster run that trains differently fails. They take turns, so that every ratio is of
moments next to each other; kept are the median ratio and its spread.

Each contender is in a process of its own, because thread pools that share one disturb each other.
``python -m fastmlp.bench.worker`` is such a process. It reads one JSON object per line and answers
each with one:

    a Job, once              {} when it is ready, or {"missing": why it cannot take part}
    {}, for a measurement    {"value": seconds or megabytes, "losses": [what must agree]}
"""

from fastmlp.bench.cases import CASES, SIZES, SUITES, UNITS, Case, Contender, Job, job_of, select
from fastmlp.bench.chart import check_plot, plot
from fastmlp.bench.contest import (
    Contest,
    compare,
    document,
    in_words,
    measure,
    passed,
    ratios,
    summary,
)

__all__ = [
    "CASES",
    "SIZES",
    "SUITES",
    "UNITS",
    "Case",
    "Contender",
    "Contest",
    "Job",
    "check_plot",
    "compare",
    "document",
    "in_words",
    "job_of",
    "measure",
    "passed",
    "plot",
    "ratios",
    "select",
    "summary",
]
