"""The objective over samples that come in parts, for L-BFGS."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters


@dataclass(frozen=True)
class PartialSum:
    """The gradient and the losses of some samples, times the samples' weights, and added up.

    Sums have twice the digits of float64, so that the rounded result does not depend on who adds
    which parts first (Knuth, "The Art of Computer Programming", volume 2, section 4.2.2, theorem
    C).

    Parameters
    ----------
    high : array of shape (n_parameters + 2,), float64
        The gradient, without penalty, then the loss and the sum of the weights.
    low : array of shape (n_parameters + 2,), float32, or None
        What these have lost by rounding, if there were several parts.
    """

    high: NDArray
    low: NDArray | None = None

    def __add__(self, other: PartialSum) -> PartialSum:
        """Return the sum over the samples of both."""
        # In few arrays: for a large network, Dask's workers get new pages for each of them.
        total = self.high + other.high
        rounded = total - self.high
        lost = total - rounded
        np.subtract(self.high, lost, out=lost)
        np.subtract(other.high, rounded, out=rounded)
        lost += rounded
        for low in (self.low, other.low):
            if low is not None:
                lost += low
        return PartialSum(total, lost.astype(np.float32))

    @property
    def rounded(self) -> NDArray:
        """The sums in float64."""
        return self.high if self.low is None else self.high + self.low

    @classmethod
    def of(cls, gradient: NDArray, loss: float, weight: float) -> PartialSum:
        """Return that of samples with this mean gradient, mean loss and weight."""
        sums = np.empty(len(gradient) + 2)
        np.multiply(gradient, weight, out=sums[:-2])
        sums[-2:] = loss * weight, weight
        return cls(sums)


class SummedObjective:
    """What L-BFGS needs of an engine, for samples that come in parts.

    The penalty is added once.

    Parameters
    ----------
    network : Network
    parameters : Parameters
    parts : callable
        Maps a parameter vector to the `PartialSum` of each part, in a fixed order.
    predict : callable
        As the engines'.
    """

    seconds_compiling = 0.0

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        parts: Callable[[NDArray], Iterable[PartialSum]],
        predict: Callable[[Inputs, NDArray], bool],
    ) -> None:
        self.network, self.parameters = network, parameters
        self._parts = parts
        self.predict = predict

    def loss_and_gradient(self, flat: NDArray, out: NDArray) -> float:
        """Compute the objective over all samples, and its gradient."""
        sums = reduce(operator.add, self._parts(flat)).rounded
        gradient, (loss, weight) = sums[:-2].copy(), sums[-2:].tolist()
        if weight == 0:
            raise ZeroDivisionError("the weights of the samples sum to zero")
        squares = 0.0
        penalty = Parameters(self.network, gradient)
        for coef, gathered in zip(Parameters(self.network, flat).coefs, penalty.coefs, strict=True):
            squares += float(np.dot(coef.ravel(), coef.ravel()))
            gathered += self.network.alpha * coef
        gradient /= weight
        out[...] = gradient
        return (loss + 0.5 * self.network.alpha * squares) / weight

    def sync(self) -> None:
        """Do nothing: the parameters are the caller's."""


def without_penalty(network: Network) -> Network:
    """Return the network of an engine that computes `partial_sum`."""
    return replace(network, alpha=0.0)


def partial_sum(engine: Any, flat: NDArray) -> PartialSum:
    """Return the sums over the samples that an engine, without penalty, is bound to."""
    n_samples, weight = engine.inputs.n_samples, engine.sample_weight
    total = float(n_samples if weight is None else weight.sum(dtype=np.float64))
    gradient = np.zeros_like(flat)
    if total == 0:  # then there is no mean
        return PartialSum.of(gradient, 0.0, 0.0)
    loss = engine.loss_and_gradient(flat, gradient)
    return PartialSum.of(gradient, loss, total)
