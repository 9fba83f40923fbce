"""Texts that tell parameters and data from others, in this process and in later ones."""

import functools
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse

from fastmlp.training import digest

__all__ = ["IGNORED", "UnknownIdentityError", "identity", "identity_of_data"]

#: Parameters of estimators that do not change results.
IGNORED = ("n_threads", "n_jobs", "verbose")

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class UnknownIdentityError(ValueError):
    """A value, such as a lambda, cannot be told from another one in a later process."""


def identity(value: Any) -> str:
    """Return a text that is equal for equal values only.

    Parameters
    ----------
    value : object
        A parameter: numbers, texts, arrays, named functions and classes, NumPy's generators,
        estimators, and containers of these.

    Raises
    ------
    UnknownIdentityError
        For lambdas, functions within functions, and objects of unknown kinds.
    """
    if isinstance(value, np.generic):
        return f"{value.dtype} {value.item()!r}"
    if type(value) in _PLAIN:
        return repr(value)
    if isinstance(value, np.ndarray):
        return f"array {digest(value)}"
    if isinstance(value, np.random.RandomState):
        state = value.get_state(legacy=False)
        return f"RandomState {_digest_of_text(_nested(state))}"
    if isinstance(value, Mapping):
        return f"{type(value).__name__} {_nested(value)}"
    if isinstance(value, list | tuple | range):
        return f"{type(value).__name__}({', '.join(map(identity, value))})"
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({', '.join(sorted(map(identity, value)))})"
    if isinstance(value, functools.partial):
        return f"partial({identity((value.func, value.args, value.keywords))})"
    if isinstance(value, type) or callable(value) and hasattr(value, "__qualname__"):
        return _name_of(value)
    if hasattr(value, "get_params"):
        parameters = value.get_params(deep=False)
        known = {k: v for k, v in parameters.items() if k not in IGNORED}
        return f"{_name_of(type(value))}{_nested(known)}"
    attributes = getattr(value, "__dict__", None)
    if attributes is None or not type(value).__module__.startswith(_OF_ATTRIBUTES):
        raise UnknownIdentityError(f"{type(value).__name__} {value!r}")
    return f"{_name_of(type(value))}{_nested(attributes)}"


#: Modules whose objects are what their attributes say, such as scorers and augmentations.
_OF_ATTRIBUTES = ("fastmlp.", "sklearn.")


def _nested(values: Mapping[Any, Any]) -> str:
    return f"{{{', '.join(f'{k!r}: {identity(v)}' for k, v in values.items())}}}"


def _name_of(value: Any) -> str:
    """Return the name of a function or class that any process finds, with the function's code."""
    name = f"{value.__module__}.{value.__qualname__}"
    if "<" in name:
        raise UnknownIdentityError(f"{value.__qualname__} of {value.__module__}")
    if isinstance(value, types.FunctionType) and value.__module__ == "__main__":
        code = value.__code__  # which may have been edited
        name += f" {_digest_of_text(f'{code.co_code!r} {code.co_consts!r} {code.co_names}')}"
    return name


def identity_of_data(data: Any) -> str:
    """Return a text that is equal for equal data only: arrays, matrices, lists and frames."""
    if issparse(data):
        rows = data if data.format in ("csr", "csc", "bsr") else data.tocsr()
        return f"{rows.format} {digest(rows)}"
    columns = getattr(data, "columns", None)
    if columns is None:
        return digest(None if data is None else np.asarray(data))
    parts = [digest(np.asarray(data[name])) for name in columns]  # of one dtype each
    return f"{identity(list(columns))} {' '.join(parts)}"


def _digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
