"""The objective over samples that come in parts, for L-BFGS."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters


@dataclass(frozen=True)
class PartialSum:
    """The losses of some samples and their gradient, times the samples' weights, and added up.

    Parameters
    ----------
    loss : float
        Without the penalty.
    gradient : array of shape (n_parameters,), float64
    weight : float
        The sum of the weights.
    """

    loss: float
    gradient: NDArray
    weight: float


class SummedObjective:
    """What L-BFGS needs of an engine, for samples that come in parts.

    Sums are added in the order of the parts, so the result does not depend on who computes which
    and when. The penalty is added once.

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
        loss, weight, gradient = 0.0, 0.0, np.zeros(len(flat))
        for part in self._parts(flat):
            loss += part.loss
            weight += part.weight
            gradient += part.gradient
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
    if total == 0:  # of which there is no mean; weights of both signs are refused before
        return PartialSum(0.0, gradient.astype(np.float64), 0.0)
    loss = engine.loss_and_gradient(flat, gradient)
    return PartialSum(loss * total, gradient.astype(np.float64) * total, total)
