"""The benchmark suite: fastmlp compared with scikit-learn, PyTorch, JAX, and matrix products.

`CASES` defines the comparisons. The contenders of a case get the same samples, initial weights and
order of samples, run all epochs, and their losses must agree: a faster run that trains differently
fails. They alternate, so that each ratio is of consecutive measurements; reported are the median
ratio and its range.

Each contender has its own process, because thread pools in one process interfere.
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
    machine,
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
    "machine",
    "measure",
    "passed",
    "plot",
    "ratios",
    "select",
    "summary",
]
