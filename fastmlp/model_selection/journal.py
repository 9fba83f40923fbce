"""The results of a search in a file, from which a killed search continues.

The file is a JSON document with the fields "journal" (its format), "search" (what must be the same,
as texts by name) and "results": what scikit-learn's function has returned for each candidate and
split, by a digest of both, with the history of the fit.
"""

import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, NoReturn

import numpy as np

from fastmlp.exceptions import CheckpointWarning, warn
from fastmlp.model_selection.identity import (
    IGNORED,
    UnknownIdentityError,
    identity,
    identity_of_data,
)
from fastmlp.training import Checkpoint, CheckpointError, differences
from fastmlp.utils.files import InUseError, atomic_write, locked
from fastmlp.utils.interrupts import uninterrupted

__all__ = ["Journal"]

_FORMAT = 1

#: Parameters of the search that must be the same.
_OF_SEARCH = ("scoring", "error_score", "return_train_score")

_MOST_NAMES = 3  # in a sentence
_LONG = 60  # characters, of a text that is not shown
_RESULT = {"test_scores", "fit_error", "n_test_samples", "fit_time", "score_time"}


class Journal:
    """The results of a search.

    Parameters
    ----------
    name : str
        The path, for messages.
    path : str
    results : dict
        Those in the file.
    search : dict of str to str
        What must be the same.
    """

    def __init__(
        self, name: str, path: str, results: dict[str, dict[str, Any]], search: dict[str, str]
    ) -> None:
        self._name, self._path, self._results, self._search = name, path, results, search
        self._lock = threading.Lock()
        self._is_written = False
        self._written_at, self._cost = -math.inf, 0.0
        self._failed = False

    @classmethod
    @contextmanager
    def opened(cls, path: Any, search: Any, X: Any, y: Any, params: Mapping[str, Any]) -> Iterator:
        """Lock and read the file, and write what is left at the end.

        Parameters
        ----------
        path : path
        search : estimator
            The search.
        X, y
            Its data.
        params : mapping
            Further arguments of its `fit`.

        Yields
        ------
        Journal

        Raises
        ------
        CheckpointError
            If the file is in use, no journal, or of another search.
        """
        name = os.fsdecode(Checkpoint.of(path).path)  # which checks it
        whole = os.path.abspath(name)
        if os.path.exists(whole) and not os.path.isfile(whole):
            raise CheckpointError(f"{name} is no regular file: use another path as checkpoint.")
        here = _what_must_be_the_same(search, X, y, params)
        try:
            with locked(whole):
                results = _read(name, whole, here) if os.path.exists(whole) else {}
                journal = cls(name, whole, results, here)
                journal._write(is_first=True)
                try:
                    yield journal
                finally:
                    with journal._lock:
                        if not journal._is_written:
                            journal._write()
        except InUseError:
            raise CheckpointError(
                f"the checkpoint {name} is in use by another search; wait for it, or use another "
                "path."
            ) from None

    def key(self, given: Mapping[str, Any]) -> str:
        """Return a digest of a candidate and a split.

        Parameters
        ----------
        given : mapping
            The arguments of scikit-learn's function.
        """
        words = [f"{k}={_identity(k, v)}" for k, v in sorted(given["parameters"].items())]
        rows = [identity(np.asarray(given[name])) for name in ("train", "test")]
        return hashlib.sha256("\n".join([*words, *rows]).encode()).hexdigest()

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the result and the history of a candidate and a split, or None."""
        return self._results.get(key)

    def refuse(self) -> NoReturn:
        """Raise that a result is none of this search."""
        raise CheckpointError(
            f"{self._name} is not a readable checkpoint of this search: it has results that are "
            "not possible. Use another path."
        )

    def add(self, key: str, result: Mapping[str, Any], history: Mapping[str, Any]) -> None:
        """Add a result, and write the file if it is time: that takes at most 1 % of it."""
        try:
            entry = {"result": _plain(result), "history": _plain(history)}
        except TypeError:  # scores that are no numbers of JSON; they are computed again
            return
        with self._lock:
            self._results[key] = entry
            self._is_written = False
            if time.perf_counter() - self._written_at >= 100 * self._cost:
                self._write()

    def _write(self, *, is_first: bool = False) -> None:
        begun = time.perf_counter()
        document = {
            "journal": _FORMAT,
            "search": self._search,
            "results": self._results,
        }
        try:
            text = json.dumps(document, indent=0)
            with uninterrupted(), atomic_write(self._path, sync=True) as file:
                file.write(text.encode())
        except OSError as error:
            if is_first:
                error.filename = self._name
                raise
            if not self._failed:
                self._failed = True
                warn(
                    f"the checkpoint {self._name} cannot be written ({error.strerror}): the search "
                    "goes on, and the file remains as it was; it is tried again.",
                    CheckpointWarning,
                )
        else:
            self._is_written, self._failed = True, False
        self._written_at = time.perf_counter()
        self._cost = self._written_at - begun


def _plain(value: Any) -> Any:
    """Return a result for JSON, from which it comes back as it was."""
    if isinstance(value, np.float64 | np.integer | np.bool_ | np.float32):
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    raise TypeError


def _identity(name: str, value: Any) -> str:
    """Return a text for a parameter, or refuse one that cannot be compared."""
    try:
        return identity(value)
    except UnknownIdentityError as error:
        raise CheckpointError(
            f"a checkpoint needs parameters that can be compared with those of a later call, got "
            f"{name}={error}; use a function or class with a name, in a module."
        ) from None


def _what_must_be_the_same(
    search: Any, X: Any, y: Any, params: Mapping[str, Any]
) -> dict[str, str]:
    """Return texts by name."""
    parameters = search.estimator.get_params()
    named = {
        "the version of fastmlp": version("fastmlp"),
        **{k: v for k, v in parameters.items() if k.rpartition("__")[2] not in IGNORED},
        **{name: getattr(search, name) for name in _OF_SEARCH},
    }
    texts = {
        "the estimator": f"{type(search.estimator).__module__}.{type(search.estimator).__name__}"
    }
    texts |= {name: _identity(name, value) for name, value in named.items()}
    data = {"X": X, "y": y, **params}
    return texts | {f"data: {name}": identity_of_data(value) for name, value in data.items()}


def _read(name: str, path: str, here: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Return the results in a file, after checking what it holds."""
    reason = ""
    document: Any = None
    with open(path, "rb") as file:
        text = file.read()
    try:
        document = json.loads(text)
        for field, is_valid in _FIELDS.items():
            if not is_valid(document[field]):
                reason = f"its field {field} is invalid"
                break
    except KeyError as error:
        reason = f"it lacks {error}"
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if reason:
        raise CheckpointError(
            f"{name} is not a readable checkpoint of a search: {reason}. Use another path."
        )
    there = document["search"]
    names = [n for n in {**there, **here} if there.get(n) != here.get(n)]
    # Of a pipeline, the parameter itself says more than the steps that have it.
    nested = {n for n in names if len(there.get(n, "")) > _LONG or len(here.get(n, "")) > _LONG}
    names = [n for n in names if n not in nested or n.startswith("data: ")] or names
    names.sort(key=lambda name: not (name.startswith("data: ") or name == "the estimator"))
    if names:
        del names[_MOST_NAMES:]
        raise CheckpointError(
            f"the checkpoint {name} belongs to another search: {differences(there, here, names)}. "
            "Pass the same data and parameters, or another path to start over."
        )
    return document["results"]


def _is_number(value: Any) -> bool:
    return type(value) in (bool, float) or (type(value) is int and abs(value) < 2**63)


def _is_score(value: Any) -> bool:
    """Return whether it is a number, or several by name."""
    if type(value) is dict:
        return bool(value) and all(map(_is_number, value.values()))
    return _is_number(value)


def _is_result(value: Any) -> bool:
    """Return whether it may be what scikit-learn's function returns, with a history."""
    if type(value) is not dict or value.keys() != {"result", "history"}:
        return False
    result, history = value["result"], value["history"]
    return (
        type(result) is dict
        and _RESULT <= result.keys() <= {*_RESULT, "train_scores"}
        and _is_score(result["test_scores"])
        and _is_score(result.get("train_scores", 0))
        and type(result["fit_error"]) in (str, type(None))
        and type(result["n_test_samples"]) is int
        and all(type(result[k]) is float for k in ("fit_time", "score_time"))
        and type(history) is dict
        and all(type(v) is list and all(map(_is_number, v)) for v in history.values())
    )


#: What each field of the document must be.
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "journal": lambda v: type(v) is int and v == _FORMAT,
    "search": lambda v: (
        type(v) is dict
        and all(name.isprintable() for name in v)
        and all(type(text) is str and text.isprintable() for text in v.values())
    ),
    "results": lambda v: type(v) is dict and all(map(_is_result, v.values())),
}
