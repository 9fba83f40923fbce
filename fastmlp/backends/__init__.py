"""The backends: one contract, several implementations, chosen by name.

Every backend is a module with the same two names, documented in full in
`fastmlp.backends.numpy_backend`, which is both the specification and a
working implementation:

- ``Engine``: a network bound to its parameters and its training data;
- ``predict``: the outputs for samples, without an engine that would copy the weights.

This package knows which backends exist, whether each one can be used here,
and if not, why not. A backend that the user names is used or refused with the
reason; only ``"auto"`` chooses.
"""

import importlib
from functools import cache
from types import ModuleType

from fastmlp.utils.suggestions import did_you_mean

#: In the order in which "auto" prefers them; what follows "numpy" is used only when named.
NAMES = ("cython", "numba", "numpy", "cuda")


class BackendUnavailableError(RuntimeError):
    """A backend was asked for by name and cannot be used here."""


@cache
def _load(name: str) -> tuple[ModuleType | None, str]:
    """Return the backend's module, or None and the reason in words."""
    try:
        return importlib.import_module(f"fastmlp.backends.{name}_backend"), ""
    except ImportError as error:
        return None, str(error)


def unavailable() -> dict[str, str]:
    """Return ``{name: reason}`` for every backend that cannot be used here."""
    return {name: reason for name in NAMES for module, reason in [_load(name)] if module is None}


def available() -> list[str]:
    """Return the names of the backends that can be used here, preferred first."""
    return [name for name in NAMES if _load(name)[0] is not None]


def resolve(name: str = "auto") -> str:
    """Return the name of the backend that `name` stands for.

    Parameters
    ----------
    name : {"auto", "cython", "numba", "numpy", "cuda"}
        "auto" stands for the first available one in the order of `NAMES`.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    BackendUnavailableError
        If the backend exists but cannot be used here; the message says why.

    Examples
    --------
    >>> resolve("numpy")
    'numpy'
    """
    if name == "auto":
        return next(name for name in NAMES if _load(name)[0] is not None)
    if name not in NAMES:
        choices = ", ".join(repr(choice) for choice in ("auto", *NAMES))
        end = did_you_mean(name, ("auto", *NAMES), {"gpu": "cuda"})
        raise ValueError(f"backend must be one of {choices}, got {name!r}{end}")
    module, reason = _load(name)  # no other: importing a backend may take seconds
    if module is None:
        raise BackendUnavailableError(
            f"backend={name!r} is not available: {reason}. Available: {', '.join(available())}."
        )
    return name


def get(name: str = "auto") -> ModuleType:
    """Return the backend module that `name` stands for; see `resolve`."""
    module, _ = _load(resolve(name))
    assert module is not None
    return module
