"""The results of a search in a file: a killed search goes on where it ended.

The file is a JSON document with the fields "journal" (its format), "fastmlp" (the version),
"search" (what must be the same, as texts by name) and "results": what scikit-learn's function has
returned for each candidate and split, by a digest of both, with the history of the fit.
"""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from scipy.sparse import issparse

from fastmlp.exceptions import CheckpointWarning, warn
from fastmlp.training import Checkpoint, CheckpointError, differences, digest, in_words
from fastmlp.utils.files import InUseError, atomic_write, locked
from fastmlp.utils.interrupts import uninterrupted

__all__ = ["Journal"]

_FORMAT = 1

#: Parameters of the search that must be the same, and parameters of estimators that need not be;
#: the last are lists of estimators.
_OF_SEARCH = ("scoring", "error_score", "return_train_score")
_FREE = ("n_threads", "verbose", "steps", "transformers")


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

    def __len__(self) -> int:
        """Return the number of results."""
        return len(self._results)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return what is known of a candidate and a split: its result and history, or None."""
        return self._results.get(key)

    def add(self, key: str, result: Mapping[str, Any], history: Mapping[str, Any]) -> None:
        """Add a result, and write the file if it is time: that takes at most 1 % of it."""
        with self._lock:
            self._results[key] = {"result": dict(result), "history": dict(history)}
            self._is_written = False
            if time.perf_counter() - self._written_at >= 100 * self._cost:
                self._write()

    def _write(self, *, is_first: bool = False) -> None:
        begun = time.perf_counter()
        document = {
            "journal": _FORMAT,
            "fastmlp": version("fastmlp"),
            "search": self._search,
            "results": self._results,
        }
        try:
            text = json.dumps(document, default=_plain, indent=0)
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


_MOST_NAMES = 3  # in a sentence


def _plain(value: Any) -> Any:
    """Return a number of NumPy's for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a score must be a number, got {type(value).__name__}")


def _what_must_be_the_same(
    search: Any, X: Any, y: Any, params: Mapping[str, Any]
) -> dict[str, str]:
    estimator = search.estimator
    texts = {"the estimator": type(estimator).__name__}
    for name, value in estimator.get_params().items():
        if hasattr(value, "get_params"):  # its parameters have names of their own
            texts[name] = type(value).__qualname__
        elif name.rpartition("__")[2] not in _FREE:
            texts[name] = " ".join(in_words(value).split())
    return {
        **texts,
        **{name: in_words(getattr(search, name)) for name in _OF_SEARCH},
        "data: X": _digest(X),
        "data: y": _digest(y),
        **{f"data: {name}": _digest(value) for name, value in params.items()},
    }


def _digest(data: Any) -> str:
    """Return a text that tells data from others."""
    if data is None or issparse(data):
        return digest(data)
    columns = getattr(data, "columns", None)
    if columns is None:
        return digest(np.asarray(data))
    parts = [digest(np.asarray(data[name])) for name in columns]  # of one dtype each
    return f"{in_words(list(columns))} {' '.join(parts)}"


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
    names.sort(key=lambda name: not (name.startswith("data: ") or name == "the estimator"))
    if names:
        del names[_MOST_NAMES:]
        raise CheckpointError(
            f"the checkpoint {name} belongs to another search: {differences(there, here, names)}. "
            "Pass the same data and parameters, or another path to start over."
        )
    return document["results"]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_result(value: Any) -> bool:
    """Return whether it may be what scikit-learn's function returns, with a history."""
    if type(value) is not dict or value.keys() != {"result", "history"}:
        return False
    result, history = value["result"], value["history"]
    scores = [v for k, v in result.items() if k in ("test_scores", "train_scores")]
    return (
        "test_scores" in result
        and type(result.get("fit_error")) in (str, type(None))
        and all(
            _is_number(s) or (type(s) is dict and all(map(_is_number, s.values()))) for s in scores
        )
        and all(_is_number(result[k]) for k in result.keys() - {*_SCORES, "fit_error"})
        and type(history) is dict
        and all(type(v) is list and all(map(_is_number, v)) for v in history.values())
    )


_SCORES = ("test_scores", "train_scores")

#: What each field of the document must be.
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "journal": lambda v: v == _FORMAT,
    "fastmlp": lambda v: type(v) is str,
    "search": lambda v: (
        type(v) is dict
        and all(name.isprintable() for name in v)
        and all(type(text) is str and text.isprintable() for text in v.values())
    ),
    "results": lambda v: type(v) is dict and all(map(_is_result, v.values())),
}
