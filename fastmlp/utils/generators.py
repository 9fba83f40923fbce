"""NumPy's generators: one in the place of the global one, and states as JSON.

States are checked, because NumPy reads out of bounds if they are wrong.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

_own: ContextVar[np.random.RandomState | None] = ContextVar("generator", default=None)


@contextmanager
def drawing_from(generator: np.random.RandomState) -> Iterator[None]:
    """Give fits in this context a generator in the place of the global one.

    Threads would draw from that in no order.
    """
    token = _own.set(generator)
    try:
        yield
    finally:
        _own.reset(token)


def generator_of_context() -> np.random.RandomState | None:
    """Return the generator in the place of the global one, or None."""
    return _own.get()


def plain_generator(generator: np.random.RandomState) -> list[Any] | None:
    """Return the state of NumPy's default generator, or None for another.

    Returns
    -------
    state : list of key (624 integers), position, has_gauss and gauss
    """
    return plain_state(generator.get_state(legacy=False))


def plain_state(state: Any) -> list[Any] | None:
    """Return the same for what ``get_state(legacy=False)`` has returned."""
    if state["bit_generator"] != "MT19937":
        return None
    twister = state["state"]
    return [twister["key"].tolist(), int(twister["pos"]), state["has_gauss"], state["gauss"]]


def set_generator(generator: np.random.RandomState, content: Any) -> None:
    """Set a generator to a stored state, which NumPy does not check.

    Raises
    ------
    ValueError
        If it is none; the message begins with "it".
    """
    key, position, has_gauss, gauss = content
    if (
        type(key) is not list
        or len(key) != 624
        or not all(type(word) is int and 0 <= word < 2**32 for word in key)
        or not (type(position) is int and 0 <= position <= 624)
        or not (type(has_gauss) is int and has_gauss in (0, 1))
        or not (type(gauss) in (int, float) and math.isfinite(gauss))
    ):
        raise ValueError("it is not the state of a Mersenne Twister")
    state = ("MT19937", np.array(key, np.uint32), position, has_gauss, float(gauss))
    generator.set_state(state)


def as_generator(content: Any) -> np.random.RandomState:
    """Return a generator with a stored state; see `set_generator`."""
    generator = np.random.RandomState()
    set_generator(generator, content)
    return generator
