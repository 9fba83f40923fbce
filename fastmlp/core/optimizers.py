"""The optimizers: state, parameters, and the update of one weight.

An optimizer is a class and an entry of `OPTIMIZERS`. Its `update` is compiled by Numba, for the
host and for devices; the C engine has the same in weights.h, and its names are compared with these
on import. The NumPy backend computes it on arrays, except for scikit-learn's two, whose operations
are bit-identical.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

#: The numbers read by updates, in the order of `Optimizer.settings`.
SETTINGS = (
    "rate", "momentum", "ahead", "nesterov", "beta_1", "beta_2", "rest_1", "rest_2", "epsilon",
    "decay",
)  # fmt: skip
RATE, MOMENTUM, AHEAD, NESTEROV, BETA_1, BETA_2, REST_1, REST_2, EPSILON, DECAY = range(
    len(SETTINGS)
)


def sqrt(x: Any) -> Any:
    """Return the square root; replaced by backends."""
    return math.sqrt(x)


def _update_sgd(w, g, velocity, unused, s):  # type: ignore[no-untyped-def]
    """Nesterov: w += momentum * v - rate * g; plain momentum: w += v."""
    v = s[MOMENTUM] * velocity - s[RATE] * g
    return w + (s[AHEAD] * v - s[NESTEROV] * s[RATE] * g), v, unused


def _update_adam(w, g, m, v, s):  # type: ignore[no-untyped-def]
    """Kingma and Ba, 2014, end of section 2: epsilon outside the bias correction."""
    m = s[BETA_1] * m + s[REST_1] * g
    v = s[BETA_2] * v + s[REST_2] * g * g
    return w - s[RATE] * m / (sqrt(v) + s[EPSILON]), m, v


def _update_adamw(w, g, m, v, s):  # type: ignore[no-untyped-def]
    """Loshchilov and Hutter, 2019, algorithm 2; as Adam, and the decay follows the rate."""
    m = s[BETA_1] * m + s[REST_1] * g
    v = s[BETA_2] * v + s[REST_2] * g * g
    return w - (s[DECAY] * w + s[RATE] * m / (sqrt(v) + s[EPSILON])), m, v


class Optimizer:
    """What the training loop and the engines know of an optimiser.

    Attributes
    ----------
    name : str
        The estimators' `solver`.
    state_names : tuple of str, at most two
        Attributes with its state, vectors in the layout of `Parameters`.
    parameters : tuple of str
        The estimators' parameters that are specific to it.
    corrects_bias : bool
        Whether its learning rate is multiplied, in update t, by
        ``sqrt(1 - beta_2 ** t) / (1 - beta_1 ** t)``.
    is_sklearns : bool
        Whether scikit-learn has it.
    max_grad_norm : float
        Maximum Euclidean norm of a batch's gradient, over all parameters; larger gradients are
        scaled down to it. 0 for no limit.
    update : callable
        ``update(w, g, state_1, state_2, settings)``: a weight and its state after a step along the
        gradient g.
    """

    name: ClassVar[str]
    state_names: ClassVar[tuple[str, ...]]
    parameters: ClassVar[tuple[str, ...]]
    corrects_bias: ClassVar[bool] = False
    is_sklearns: ClassVar[bool] = False
    update: ClassVar[Any]

    t: int = 0
    learning_rate: float
    max_grad_norm: float = 0.0

    @classmethod
    def of(cls, parameters: Mapping[str, Any], flat: NDArray) -> Self:
        """Create the optimizer from an estimator's parameters."""
        raise NotImplementedError

    @property
    def state(self) -> list[NDArray]:
        """Its state vectors."""
        return [getattr(self, name) for name in self.state_names]

    @property
    def rate(self) -> float:
        """The learning rate of the next epoch, before any correction; may be set."""
        raise NotImplementedError

    @rate.setter
    def rate(self, value: float) -> None:
        raise NotImplementedError

    def settings(self) -> list[float]:
        """Return the numbers of `SETTINGS` for the next epoch; 0 for those that do not apply."""
        raise NotImplementedError

    def adapt(self, flat: NDArray) -> None:
        """Convert the state for the parameters `flat`, also after unpickling."""
        for name in self.state_names:
            setattr(self, name, _fitting(getattr(self, name), flat))

    def updated(self, t: int) -> None:
        """Set the number of updates so far."""

    def epoch_ended(self, n_samples_seen: int) -> None:
        """Update the learning rate after an epoch, if there is a schedule."""

    def progress_stalled(self) -> tuple[bool, str]:
        """Return whether to stop after progress has stalled, and a message for the user."""
        return True, "Stopping."


def _fitting(state: NDArray, flat: NDArray) -> NDArray:
    """Return a state vector of an optimizer, converted for the parameters `flat`."""
    if not isinstance(state, np.ndarray) or state.dtype.kind != "f":
        raise ValueError(
            "the state of the optimizer must be an array of floats, got "
            f"{type(state).__name__}; set _optimizer to None to start with a new one."
        )
    if state.shape != flat.shape:
        raise ValueError(
            f"the state of the optimizer is for a network with {state.size} parameters, this one "
            f"has {flat.size}; fit again, or restore the fitted coefs_."
        )
    return np.require(state, flat.dtype, ["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])


def _settings(**numbers: float) -> list[float]:
    """Return settings in order."""
    return [float(numbers.get(name, 0.0)) for name in SETTINGS]


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, and its learning rate schedule.

    Parameters
    ----------
    velocity : array of shape (n_parameters,)
        The state, in the layout of `Parameters`.
    learning_rate_init : float
    schedule : {"constant", "invscaling", "adaptive"}
    power_t : float
        Exponent of "invscaling".
    momentum : float
    nesterov : bool

    Attributes
    ----------
    learning_rate : float
        The rate of the next epoch.
    """

    name: ClassVar[str] = "sgd"
    state_names: ClassVar[tuple[str, ...]] = ("velocity",)
    parameters: ClassVar[tuple[str, ...]] = (
        "momentum", "nesterovs_momentum", "learning_rate", "power_t",
    )  # fmt: skip
    is_sklearns: ClassVar[bool] = True
    update: ClassVar[Any] = staticmethod(_update_sgd)

    velocity: NDArray
    learning_rate_init: float = 0.001
    schedule: str = "constant"
    power_t: float = 0.5
    momentum: float = 0.9
    nesterov: bool = True
    learning_rate: float = field(init=False)

    def __post_init__(self) -> None:
        self.learning_rate = float(self.learning_rate_init)

    @classmethod
    def of(cls, parameters: Mapping[str, Any], flat: NDArray) -> Self:
        """Create the optimizer from an estimator's parameters."""
        return cls(
            np.zeros_like(flat),
            parameters["learning_rate_init"],
            parameters["learning_rate"],
            parameters["power_t"],
            parameters["momentum"],
            bool(parameters["nesterovs_momentum"]),
        )

    @property
    def rate(self) -> float:
        """The rate of the next epoch; may be set."""
        return self.learning_rate

    @rate.setter
    def rate(self, value: float) -> None:
        self.learning_rate = value

    def settings(self) -> list[float]:
        """Return the numbers of `SETTINGS` for the next epoch."""
        return _settings(
            rate=self.learning_rate,
            momentum=self.momentum,
            ahead=self.momentum if self.nesterov else 1.0,
            nesterov=self.nesterov,
        )

    def epoch_ended(self, n_samples_seen: int) -> None:
        """Update the learning rate after an epoch."""
        if self.schedule == "invscaling":
            self.learning_rate = (
                float(self.learning_rate_init) / (n_samples_seen + 1) ** self.power_t
            )

    def progress_stalled(self) -> tuple[bool, str]:
        """Return whether to stop after progress has stalled, and a message for the user.

        "adaptive" divides the learning rate by 5 and continues until it is 1e-6 or less.
        """
        if self.schedule != "adaptive":
            return True, "Stopping."
        if self.learning_rate <= 1e-6:
            return True, "Learning rate too small. Stopping."
        self.learning_rate /= 5.0
        return False, f"Setting learning rate to {self.learning_rate:f}"


@dataclass
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2014).

    Parameters
    ----------
    m, v : array of shape (n_parameters,)
        First and second moments, in the layout of `Parameters`.
    learning_rate_init, beta_1, beta_2, epsilon : float

    Attributes
    ----------
    t : int
        Updates made so far.
    learning_rate : float
        The bias-corrected rate of the last update.
    """

    name: ClassVar[str] = "adam"
    state_names: ClassVar[tuple[str, ...]] = ("m", "v")
    parameters: ClassVar[tuple[str, ...]] = ("beta_1", "beta_2", "epsilon")
    corrects_bias: ClassVar[bool] = True
    is_sklearns: ClassVar[bool] = True
    update: ClassVar[Any] = staticmethod(_update_adam)

    m: NDArray
    v: NDArray
    learning_rate_init: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    t: int = 0
    learning_rate: float = field(init=False)

    def __post_init__(self) -> None:
        self.learning_rate = float(self.learning_rate_init)

    @classmethod
    def of(cls, parameters: Mapping[str, Any], flat: NDArray) -> Self:
        """Create the optimizer from an estimator's parameters."""
        numbers = (parameters[name] for name in ("learning_rate_init", *Adam.parameters))
        return cls(np.zeros_like(flat), np.zeros_like(flat), *numbers)

    @property
    def rate(self) -> float:
        """The rate of the next epoch, before the bias correction; may be set."""
        return self.learning_rate_init

    @rate.setter
    def rate(self, value: float) -> None:
        self.learning_rate_init = value

    def settings(self) -> list[float]:
        """Return the numbers of `SETTINGS` for the next epoch."""
        beta_1, beta_2 = float(self.beta_1), float(self.beta_2)
        return _settings(
            rate=self.learning_rate_init,
            beta_1=beta_1,
            beta_2=beta_2,
            # Computed before rounding, because float32 would round it to 0.
            rest_1=1 - beta_1,
            rest_2=1 - beta_2,
            epsilon=self.epsilon,
        )

    def corrected_rate(self, t: int | None = None) -> float:
        """Return the step size of update t, which corrects the bias of both moments."""
        t = self.t if t is None else t
        # np.sqrt, for scikit-learn's precision with float32 hyperparameters.
        return float(self.learning_rate_init * np.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t))

    def updated(self, t: int) -> None:
        """Set the number of updates so far."""
        if t > 0:
            self.t = t
            self.learning_rate = self.corrected_rate()


@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    Parameters
    ----------
    m, v, learning_rate_init, beta_1, beta_2, epsilon, t
        As in `Adam`.
    weight_decay : float
        Each update multiplies weights and intercepts by ``1 - learning_rate * weight_decay``,
        without effect on the moments, as in ``torch.optim.AdamW``.
    """

    name: ClassVar[str] = "adamw"
    parameters: ClassVar[tuple[str, ...]] = (*Adam.parameters, "weight_decay")
    is_sklearns: ClassVar[bool] = False
    update: ClassVar[Any] = staticmethod(_update_adamw)

    weight_decay: float = 0.01

    @classmethod
    def of(cls, parameters: Mapping[str, Any], flat: NDArray) -> Self:
        """Create the optimizer from an estimator's parameters."""
        optimizer = super().of(parameters, flat)
        optimizer.weight_decay = parameters["weight_decay"]
        return optimizer

    def settings(self) -> list[float]:
        """Return the numbers of `SETTINGS` for the next epoch."""
        settings = super().settings()
        settings[DECAY] = float(self.learning_rate_init) * float(self.weight_decay)
        return settings


#: The optimizers by the name of the estimators' `solver`.
OPTIMIZERS: dict[str, type[Optimizer]] = {cls.name: cls for cls in (SGD, Adam, AdamW)}

#: Their codes in compiled code.
OPTIMIZER_CODES = {name: code for code, name in enumerate(OPTIMIZERS)}
