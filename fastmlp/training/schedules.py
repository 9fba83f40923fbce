"""Learning rate schedules."""

import math

#: The named schedules.
SCHEDULES = ("linear", "cosine")


def scheduled_rate(name: str, rate: float, epoch: int, n_epochs: int) -> float:
    """Return the learning rate of an epoch, counted from 1.

    ``"linear"`` is ``rate * (n + 1 - epoch) / n``, and ``"cosine"`` is
    ``rate / 2 * (1 + cos(pi * (epoch - 1) / n))``: both start at `rate` and would be 0 in epoch
    n + 1. Later epochs, of a warm start, have the rate of epoch n.

    Examples
    --------
    >>> [scheduled_rate("linear", 0.5, epoch, 4) for epoch in (1, 2, 3, 4, 5)]
    [0.5, 0.375, 0.25, 0.125, 0.125]
    """
    done = min(epoch, n_epochs) - 1
    if name == "linear":
        return rate * (n_epochs - done) / n_epochs
    return rate / 2 * (1 + math.cos(math.pi * done / n_epochs))
