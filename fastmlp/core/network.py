"""The network: its shape, its functions, and one flat vector of parameters.

Data structures shared by the estimators, the training loop and all backends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.special import xlogy

from fastmlp.core.functions import ACTIVATIONS, LOSSES


@dataclass(frozen=True)
class Network:
    """The definition of a multilayer perceptron, without its parameters.

    Parameters
    ----------
    layer_units : tuple of int
        Units per layer, from the input features to the outputs.
    activation : str
        Activation of every hidden layer, one of `ACTIVATIONS`.
    output_activation : {"softmax", "logistic", "identity", "exp"}
        Activation of the output layer.
    alpha : float
        L2 penalty. The objective of a batch of total weight S is the mean
        loss plus ``alpha / (2 S) * sum(coefs ** 2)``; intercepts are free.
    loss : {"", "log_loss", "squared_error", "poisson"}
        One of `LOSSES` for the output activation; empty is replaced by its
        canonical one.
    """

    layer_units: tuple[int, ...]
    activation: str
    output_activation: str
    alpha: float = 0.0
    loss: str = ""

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {tuple(ACTIVATIONS)}, got {self.activation!r}."
            )
        if self.output_activation not in LOSSES:
            raise ValueError(
                f"output_activation must be one of {tuple(LOSSES)}, got {self.output_activation!r}."
            )
        losses = LOSSES[self.output_activation]
        if not self.loss:
            object.__setattr__(self, "loss", losses[0])
        elif self.loss not in losses:
            raise ValueError(
                f"the loss of {self.output_activation} outputs must be one of {losses}, "
                f"got {self.loss!r}."
            )

    @property
    def is_canonical(self) -> bool:
        """Whether the loss's gradient through the output activation is ``output - target``."""
        return self.loss == LOSSES[self.output_activation][0]

    def loss_value(self, Y: NDArray, outputs: NDArray, weight: NDArray | None) -> np.floating:
        """Return the mean loss of the network's outputs, without the penalty.

        Parameters
        ----------
        Y, outputs : array of shape (n_samples, n_outputs)
        weight : array of shape (n_samples,) or None
        """
        return loss_value(self.output_activation, self.loss, Y, outputs, weight)

    @property
    def n_features(self) -> int:
        """Units of the input layer."""
        return self.layer_units[0]

    @property
    def n_outputs(self) -> int:
        """Units of the output layer."""
        return self.layer_units[-1]

    @property
    def n_parameters(self) -> int:
        """Length of the flat parameter vector."""
        return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(self.layer_units))


class Parameters:
    """All weights of a network in one flat vector, with a view per layer.

    The order is that of scikit-learn's L-BFGS vector: every coefficient matrix
    in C order, first layer first, then every intercept vector. Optimizers store
    their state in vectors with the same layout.

    Parameters
    ----------
    network : Network
    flat : array of shape (network.n_parameters,), C-contiguous
        Not copied.

    Attributes
    ----------
    flat : array of shape (n_parameters,)
    coefs : list of array of shape (fan_in, fan_out)
        Views of `flat`.
    intercepts : list of array of shape (fan_out,)
        Views of `flat`.

    Examples
    --------
    >>> network = Network((2, 3, 1), "relu", "logistic")
    >>> parameters = Parameters(network, np.zeros(network.n_parameters))
    >>> parameters.intercepts[0][:] = 1
    >>> parameters.flat
    array([0., 0., 0., 0., 0., 0., 0., 0., 0., 1., 1., 1., 0.])
    """

    def __init__(self, network: Network, flat: NDArray) -> None:
        if flat.shape != (network.n_parameters,):
            raise ValueError(
                f"flat must have shape ({network.n_parameters},) for layers "
                f"{network.layer_units}, got {flat.shape}."
            )
        self.flat = flat
        self.coefs: list[NDArray] = []
        self.intercepts: list[NDArray] = []
        start = 0
        for fan_in, fan_out in pairwise(network.layer_units):
            stop = start + fan_in * fan_out
            self.coefs.append(flat[start:stop].reshape(fan_in, fan_out))
            start = stop
        for fan_out in network.layer_units[1:]:
            self.intercepts.append(flat[start : start + fan_out])
            start += fan_out

    @classmethod
    def initial(
        cls, network: Network, rng: np.random.RandomState, dtype: DTypeLike
    ) -> "Parameters":
        """Draw initial weights, layer by layer; see `initial_layer`."""
        parameters = cls(network, np.empty(network.n_parameters, dtype))
        for coef, intercept in zip(parameters.coefs, parameters.intercepts, strict=True):
            fan_in, fan_out = coef.shape
            coef[...], intercept[...] = initial_layer(fan_in, fan_out, network.activation, rng)
        return parameters

    @classmethod
    def from_layers(
        cls,
        network: Network,
        coefs: Sequence[NDArray],
        intercepts: Sequence[NDArray],
        dtype: DTypeLike,
    ) -> "Parameters":
        """Copy separate layer arrays into a new flat vector."""
        parameters = cls(network, np.empty(network.n_parameters, dtype))
        for view, source in zip(
            parameters.coefs + parameters.intercepts, [*coefs, *intercepts], strict=True
        ):
            if view.shape != source.shape:
                raise ValueError(f"a layer of shape {view.shape} was expected, got {source.shape}.")
            view[...] = source
        return parameters


def initial_layer(
    fan_in: int, fan_out: int, activation: str, rng: np.random.RandomState
) -> tuple[NDArray, NDArray]:
    """Draw the initial weights of a layer exactly as scikit-learn draws them.

    Coefficients and then intercepts are uniform in ``[-bound, bound]`` with
    ``bound = sqrt(factor / (fan_in + fan_out))`` (Glorot and Bengio, 2010). The
    factor is 2 if the hidden activation is logistic, otherwise 6, also for the
    output layer.

    Returns
    -------
    coef : array of shape (fan_in, fan_out), float64
    intercept : array of shape (fan_out,), float64
    """
    bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (fan_in + fan_out))
    return rng.uniform(-bound, bound, (fan_in, fan_out)), rng.uniform(-bound, bound, fan_out)


def loss_value(
    output_activation: str, loss: str, Y: NDArray, P: NDArray, weight: NDArray | None
) -> np.floating:
    """Return the weighted mean of a loss over the samples, summed over the outputs.

    The squared error is halved and averaged over the outputs, as printed by scikit-learn. (For
    identity outputs the gradient is that of the sum, as in scikit-learn; for logistic ones, which
    it does not have, that of the mean.) Probabilities are clipped, so that the loss is finite.

    Parameters
    ----------
    output_activation, loss : str
        One of `LOSSES`, and one of its losses.
    Y, P : array of shape (n_samples, n_outputs)
        Targets and outputs.
    weight : array of shape (n_samples,) or None
    """
    if loss == "squared_error":
        return 0.5 * np.average((Y - P) ** 2, weights=weight, axis=0).mean()
    if loss == "poisson":  # half the deviance
        # For Y = 0 the first term is 0, even if P has underflowed to 0.
        ratio = np.divide(Y, P, out=np.ones_like(P), where=Y != 0)
        return np.average(xlogy(Y, ratio) - Y + P, weights=weight, axis=0).sum()
    eps = np.finfo(P.dtype).eps
    P = np.clip(P, eps, 1 - eps)
    terms = xlogy(Y, P)
    if output_activation == "logistic":
        terms = terms + xlogy(1 - Y, 1 - P)
    return -np.average(terms, weights=weight, axis=0).sum()
