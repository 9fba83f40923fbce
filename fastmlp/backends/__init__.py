"""The backends: several implementations of one interface, selected by name.

Every backend is a module with the same two names, documented in full in
`fastmlp.backends.numpy_backend`, which is both the specification and a
working implementation:

- ``Engine``: a network bound to its parameters and its training data;
- ``predict``: the outputs for samples, without an engine that would copy the weights.

This package determines which backends are available and, if not, why. A backend
given by name is used or refused with the reason; only ``"auto"`` selects one.
"""

import importlib
from functools import cache
from types import ModuleType

from fastmlp.utils.suggestions import did_you_mean

#: In the order of preference of "auto"; those after "numpy" are used only by name.
NAMES = ("cython", "numba", "numpy", "cuda")


class BackendUnavailableError(RuntimeError):
    """A backend was requested by name and is not available."""


@cache
def _load(name: str) -> tuple[ModuleType | None, str]:
    """Return the backend's module, or None and the reason in words."""
    try:
        return importlib.import_module(f"fastmlp.backends.{name}_backend"), ""
    except ImportError as error:
        return None, str(error)


def unavailable() -> dict[str, str]:
    """Return ``{name: reason}`` for every backend that is not available."""
    return {name: reason for name in NAMES for module, reason in [_load(name)] if module is None}


def available() -> list[str]:
    """Return the names of the available backends, in order of preference."""
    return [name for name in NAMES if _load(name)[0] is not None]


def resolve(name: str = "auto") -> str:
    """Return the name of the backend to use.

    Parameters
    ----------
    name : {"auto", "cython", "numba", "numpy", "cuda"}
        "auto" is the first available one in the order of `NAMES`.

    Raises
    ------
    ValueError
        If there is no backend with that name.
    BackendUnavailableError
        If the backend is not available; the message says why. Also for "auto", if the
        environment variable FASTMLP_ISA names an instruction set that is not available.

    Examples
    --------
    >>> resolve("numpy")
    'numpy'
    """
    if name == "auto":
        found = next(name for name in NAMES if _load(name)[0] is not None)
        # The variable was set for the compiled engine, so another backend is not what was meant.
        if found != NAMES[0] and (reason := _load("cython")[1]).startswith("FASTMLP_ISA="):
            raise BackendUnavailableError(f"{reason}.")
        return found
    if name not in NAMES:
        choices = ", ".join(repr(choice) for choice in ("auto", *NAMES))
        end = did_you_mean(name, ("auto", *NAMES), {"gpu": "cuda"})
        raise ValueError(f"backend must be one of {choices}, got {name!r}{end}")
    module, reason = _load(name)  # only this one: importing a backend may take seconds
    if module is None:
        raise BackendUnavailableError(
            f"backend={name!r} is not available: {reason}. Available: {', '.join(available())}."
        )
    return name


def get(name: str = "auto") -> ModuleType:
    """Return the module of a backend; see `resolve`."""
    module, _ = _load(resolve(name))
    assert module is not None
    return module
