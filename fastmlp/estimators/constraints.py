"""Constraints on parameter values, with scikit-learn's error messages.

scikit-learn's own validation is not part of its public interface.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np


class InvalidParameterError(ValueError, TypeError):
    """A parameter of an estimator has an invalid type or value."""


@dataclass(frozen=True)
class Interval:
    """Numbers between two bounds.

    Parameters
    ----------
    kind : Integral or Real
    left, right : number or None
        None is unbounded.
    brackets : str
        Two characters, such as "[)": which bounds are included.
    """

    kind: type
    left: float | None
    right: float | None
    brackets: str

    def accepts(self, value: object) -> bool:
        """Return whether `value` is in the interval."""
        if not isinstance(value, self.kind) or not isinstance(value, Real) or value != value:
            return False
        left = -np.inf if self.left is None else self.left
        right = np.inf if self.right is None else self.right
        number = float(value)
        after_left = number >= left if self.brackets[0] == "[" else number > left
        before_right = number <= right if self.brackets[1] == "]" else number < right
        return after_left and before_right

    def __str__(self) -> str:
        """Describe it in words."""
        noun = "an int" if self.kind is Integral else "a float"
        left, right = (
            default if bound is None else str(float(bound) if self.kind is Real else bound)
            for bound, default in ((self.left, "-inf"), (self.right, "inf"))
        )
        return f"{noun} in the range {self.brackets[0]}{left}, {right}{self.brackets[1]}"


@dataclass(frozen=True)
class OneOf:
    """One of some strings."""

    options: tuple[str, ...]

    def accepts(self, value: object) -> bool:
        """Return whether `value` is one of the strings."""
        return isinstance(value, str) and value in self.options

    def __str__(self) -> str:
        """Describe it in words."""
        return f"a str among {{{', '.join(sorted(map(repr, self.options)))}}}"


@dataclass(frozen=True)
class InstanceOf:
    """An instance of a type."""

    type: type

    def accepts(self, value: object) -> bool:
        """Return whether `value` is an instance of the type."""
        return isinstance(value, self.type)

    def __str__(self) -> str:
        """Describe it in words."""
        module = "" if self.type.__module__ == "builtins" else f"{self.type.__module__}."
        return f"an instance of {module + self.type.__qualname__!r}"


@dataclass(frozen=True)
class Exactly:
    """One value."""

    value: object
    words: str

    def accepts(self, value: object) -> bool:
        """Return whether `value` is that value."""
        return value is self.value or (isinstance(value, Real) and value == self.value)

    def __str__(self) -> str:
        """Describe it in words."""
        return self.words


@dataclass(frozen=True)
class ArrayLike:
    """Anything that can be converted to an array."""

    def accepts(self, value: object) -> bool:
        """Return whether `value` is array-like."""
        return not isinstance(value, str) and (
            hasattr(value, "__len__") or hasattr(value, "shape") or hasattr(value, "__array__")
        )

    def __str__(self) -> str:
        """Describe it in words."""
        return "an array-like"


@dataclass(frozen=True)
class Callable:
    """Anything that can be called."""

    def accepts(self, value: object) -> bool:
        """Return whether `value` can be called."""
        return callable(value)

    def __str__(self) -> str:
        """Describe it in words."""
        return "a callable"


Constraint = Interval | OneOf | InstanceOf | Exactly | ArrayLike | Callable

NONE = Exactly(None, "None")
CALLABLE = Callable()
BOOLEAN = (InstanceOf(bool), InstanceOf(np.bool_))
VERBOSE = (Interval(Integral, 0, None, "[)"), *BOOLEAN)
RANDOM_STATE = (
    Interval(Integral, 0, 2**32 - 1, "[]"),
    InstanceOf(np.random.RandomState),
    NONE,
)


def validate(
    parameters: Mapping[str, object],
    constraints: Mapping[str, Sequence[Constraint]],
    owner: str,
) -> None:
    """Check parameters against their constraints.

    Parameters
    ----------
    parameters : mapping of name to value
    constraints : mapping of name to allowed alternatives
        A parameter without an entry is not checked.
    owner : str
        Name of the estimator, for the message.

    Raises
    ------
    InvalidParameterError
        For the first parameter that satisfies none of its alternatives.

    Examples
    --------
    >>> validate({"alpha": -1}, {"alpha": [Interval(Real, 0, None, "[)")]}, "MLP")
    Traceback (most recent call last):
    fastmlp.estimators.constraints.InvalidParameterError: The 'alpha' parameter of MLP must be a \
float in the range [0.0, inf). Got -1 instead.
    """
    for name, value in parameters.items():
        alternatives = constraints.get(name)
        if alternatives is None or any(a.accepts(value) for a in alternatives):
            continue
        *others, last = map(str, alternatives)
        words = f"{', '.join(others)} or {last}" if others else last
        raise InvalidParameterError(
            f"The {name!r} parameter of {owner} must be {words}. Got {value!r} instead."
        )
