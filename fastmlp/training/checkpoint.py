"""Checkpoints: the state of a fit in a file, from which a killed one goes on with the same bits.

The file is a NumPy .npz archive of plain arrays without pickle:

    checkpoint          uint8; a JSON document in UTF-8, see `_Document`
    flat                (n_parameters,), the weights after the last finished epoch
    best                (n_parameters,), if others are to be the final ones
    history             (n_epochs, n_names), the entries of the history
    order               (n_samples,), the order of the last epoch
    state_0, state_1    (n_parameters,), of the optimiser
    lbfgs_*             scipy's work arrays, for L-BFGS

A fit repeats its preparation when it goes on: the generator is set back to where it began, so that
held-out samples and the seed of the noise are drawn again.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from fastmlp.core.optimizers import Optimizer
from fastmlp.exceptions import CheckpointWarning, warn
from fastmlp.training.state import SNAPSHOT_NUMBERS, Progress
from fastmlp.utils.archives import read_npz
from fastmlp.utils.files import atomic_write, locked, write_npz
from fastmlp.utils.interrupts import uninterrupted

_FORMAT = 1
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}

#: A generator's state in JSON: key, position, and the normal number that is left over, if any.
Generator: TypeAlias = list[Any]


class CheckpointError(ValueError):
    """The file is no checkpoint, is damaged, or belongs to another fit."""


@dataclass(frozen=True)
class Checkpoint:
    """A file from which a fit goes on where it ended.

    Pass it to ``fit(X, y, checkpoint=...)``, or to ``set_callbacks`` with scikit-learn 1.9. The
    same call, repeated after Ctrl-C or in a new process after a kill, reads the file and trains the
    epochs that are left; the result has the same bits as that of an undisturbed fit. A finished fit
    returns at once, and goes on if `max_iter` is larger now.

    Data and parameters must be the same, except for `max_iter`, `n_threads`, `backend` and
    `verbose`. (Another backend changes the last bits. Functions, such as an `lr_schedule`, are
    compared by their names.)

    Parameters
    ----------
    path : path
        Written next to its final name, synced to the disk, and renamed. One fit at a time may use
        it.
    every : int or str, default="60s"
        How often it is written: after so many epochs, or after the epoch in which this time has
        passed ("90s", "10min", "1h"). It is also written at the end, and on Ctrl-C.
    keep : {"last", "best"}, default="last"
        The weights that the model has in the end: as without a checkpoint, or those of the epoch
        with the best validation score or, without validation data, the lowest training loss.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastmlp import MLPClassifier
    >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
    >>> path = os.path.join(tempfile.mkdtemp(), "run.ckpt")
    >>> model = MLPClassifier(max_iter=20, lr_schedule={1: 0.01, 25: 0.001}, random_state=0)
    >>> first = model.fit(X, y, checkpoint=path).coefs_[0].copy()
    >>> model.set_params(max_iter=30).fit(X, y, checkpoint=path).n_iter_  # 20 epochs were there
    30
    """

    path: str | os.PathLike[str]
    every: int | str = "60s"
    keep: str = "last"

    def __post_init__(self) -> None:
        """Refuse invalid values."""
        if not isinstance(self.path, str | os.PathLike):
            raise TypeError(f"checkpoint must be a path, got {type(self.path).__name__}.")
        if self.keep not in ("last", "best"):
            raise ValueError(f"keep must be 'last' or 'best', got {self.keep!r}.")
        self._interval()

    @classmethod
    def of(cls, value: Any) -> "Checkpoint":
        """Return a checkpoint, which may be given by its path."""
        return value if isinstance(value, cls) else cls(value)

    def _interval(self) -> tuple[int, float]:
        """Return after how many epochs, and after how many seconds, it is written."""
        found = isinstance(self.every, str) and re.fullmatch(
            r"(\d+(?:\.\d+)?) ?(s|min|h)", self.every
        )
        if found and float(found[1]) > 0:
            return 0, float(found[1]) * _UNITS[found[2]]
        if type(self.every) is int and self.every > 0:
            return self.every, 0.0
        raise ValueError(
            "every must be a number of epochs, at least 1, or a time such as '90s', '10min' or "
            f"'1h', got {self.every!r}."
        )

    # scikit-learn's protocol of callbacks; `fit` looks for it among them.

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing; for scikit-learn."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing; for scikit-learn."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing; for scikit-learn."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Do nothing; for scikit-learn."""

    @contextmanager
    def opened(self) -> Iterator["Run"]:
        """Lock the file, read it if it exists, and write what is left to write at the end.

        Yields
        ------
        run : Run

        Raises
        ------
        CheckpointError
            If the file is in use, no checkpoint, or damaged.
        OSError
            If it cannot be read or written.
        """
        name = os.fspath(self.path)
        try:
            with locked(name):
                run = Run(self, _read(name) if os.path.exists(name) else None)
                try:
                    yield run
                finally:
                    run.write_what_is_left()
        except BlockingIOError:
            raise CheckpointError(
                f"the checkpoint {name} is in use by another fit; wait for it, or use another path."
            ) from None


@dataclass
class _Saved:
    """What a file holds.

    Parameters
    ----------
    document : dict
        format, fastmlp; `fit`, what must be the same; backend; begun, the generator before the fit,
        and generator, after the last epoch; names, of the history; progress; optimizer; finished,
        whether the fit has ended by itself; lbfgs, numbers.
    arrays : dict of str to array
    """

    document: dict[str, Any]
    arrays: dict[str, NDArray] = field(default_factory=dict)


class Run:
    """The checkpoint of a running fit.

    Parameters
    ----------
    checkpoint : Checkpoint
    found : _Saved or None
        The content of its file.
    """

    def __init__(self, checkpoint: Checkpoint, found: _Saved | None) -> None:
        self.checkpoint, self._found = checkpoint, found
        self.name = os.fspath(checkpoint.path)
        self._epochs, self._seconds = checkpoint._interval()
        self._begun: Generator | None = None
        self._fit: dict[str, Any] = {}
        self._backend = ""
        self._left: Callable[[], _Saved] | None = None  # not written yet
        self._written_at = time.perf_counter()
        self._written_epochs = -1 if found is None else len(found.arrays["history"])
        self._failed = False

    @property
    def resumes(self) -> bool:
        """Whether the fit goes on where the file says."""
        return self._found is not None

    @property
    def has_ended(self) -> bool:
        """Whether the fit in the file has ended by itself, as after epochs without progress."""
        return self._found is not None and self._found.document["finished"]

    def random_state(self, given: np.random.RandomState) -> np.random.RandomState:
        """Return the generator that the fit begins with: the given one, or one like that of before.

        Parameters
        ----------
        given : RandomState
            Set back, unless it is NumPy's global one.
        """
        if self._found is None:
            self._begun = _plain(given)
            return given
        self._begun = self._found.document["begun"]
        if given is np.random.mtrand._rand:
            given = np.random.RandomState()
        _set(given, self._begun)
        return given

    def check(self, fit: dict[str, Any], backend: str, max_iter: int) -> None:
        """Refuse a file of another fit, and try whether it can be written.

        Parameters
        ----------
        fit : dict of str to JSON value
            What must be the same: texts by name.
        backend : str
        max_iter : int
        """
        self._fit, self._backend = fit, backend
        if self._found is None:
            return
        document = self._found.document
        there = document["fit"]
        names = [name for name in {**there, **fit} if there.get(name) != fit.get(name)]
        if names:
            raise CheckpointError(
                f"the checkpoint {self.name} belongs to another fit: "
                f"{_differences(there, fit, names)}. Pass the same data and parameters, or another "
                "path to begin anew."
            )
        n_epochs = len(self._found.arrays["history"])
        if n_epochs > max_iter:
            raise CheckpointError(
                f"the checkpoint {self.name} has {n_epochs} epochs, more than max_iter={max_iter}; "
                "pass a larger max_iter, or another path to begin anew."
            )
        if document["backend"] != backend:
            warn(
                f"the checkpoint {self.name} was begun with backend={document['backend']!r} and "
                f"goes on with {backend!r}: the last bits will not be those of a fit with either.",
                CheckpointWarning,
            )

    def restore_parameters(self, flat: NDArray) -> None:
        """Set the weights to those of the file, if there is one."""
        if self._found is not None:
            flat[...] = self._array("flat", flat)

    def restore_optimizer(self, optimizer: Optimizer) -> None:
        """Set an optimiser's state to that of the file, if there is one."""
        if self._found is None:
            return
        for i, state in enumerate(optimizer.state):
            state[...] = self._array(f"state_{i}", state)
        numbers = self._found.document["optimizer"]
        optimizer.t, optimizer.learning_rate = numbers["t"], numbers["learning_rate"]

    def restore(self, progress: Progress, generator: np.random.RandomState) -> None:
        """Set the progress and the generator to those of the file, if there is one."""
        if self._found is None:
            return
        document, arrays = self._found.document, self._found.arrays
        entries = [
            dict(zip(document["names"], map(float, row), strict=True)) for row in arrays["history"]
        ]
        progress.resume(entries, document["progress"], arrays.get("best"))
        _set(generator, document["generator"])

    def order_of(self, n_samples: int) -> NDArray | None:
        """Return the order of the last epoch, if there was one."""
        order = None if self._found is None else self._found.arrays.get("order")
        if order is not None and len(order) != n_samples:
            raise self._damaged(f"its order must have {n_samples} samples, got {len(order)}")
        return order

    @property
    def lbfgs(self) -> dict[str, NDArray]:
        """The work arrays of L-BFGS by name; empty if there are none."""
        arrays = {} if self._found is None else self._found.arrays
        return {k.removeprefix("lbfgs_"): v for k, v in arrays.items() if k.startswith("lbfgs_")}

    def _array(self, name: str, like: NDArray) -> NDArray:
        assert self._found is not None
        if name not in self._found.arrays:
            raise self._damaged(f"it lacks {name!r}")
        array = self._found.arrays[name]
        if array.shape != like.shape or array.dtype != like.dtype:
            raise self._damaged(
                f"its {name} must be {like.dtype} of shape {like.shape}, got {array.dtype} of "
                f"shape {array.shape}"
            )
        return array

    def _damaged(self, how: str) -> CheckpointError:
        return CheckpointError(
            f"the checkpoint {self.name} is damaged: {how}; delete it to begin anew."
        )

    def keep(
        self,
        progress: Progress,
        flat: NDArray,
        *,
        generator: np.random.RandomState | None = None,
        optimizer: Optimizer | None = None,
        order: NDArray | None = None,
        lbfgs: Mapping[str, NDArray] | None = None,
        finished: bool = False,
        is_final: bool = False,
    ) -> None:
        """Keep the state after an epoch, and write it if it is time.

        Parameters
        ----------
        progress : Progress
        flat : array of shape (n_parameters,)
            The weights.
        generator, optimizer, order
            Of the stochastic solvers. `order` is not changed later.
        lbfgs : mapping of str to array
            The work arrays of L-BFGS. No copies: they change only between calls.
        finished : bool
            Whether the fit has ended by itself.
        is_final : bool
            Whether this is the last call, so that it is written at once.
        """
        entries, numbers, best = progress.snapshot()
        n_epochs = numbers["n_epochs"]
        state = None if generator is None else generator.get_state(legacy=False)
        # What has no copy changes only while nobody writes.
        flat = flat if lbfgs else flat.copy()
        arrays = {f"lbfgs_{name}": array for name, array in (lbfgs or {}).items()}
        if best is not None:
            arrays["best"] = best
        if order is not None:
            arrays["order"] = order
        trained = {}
        if optimizer is not None:
            rate = float(optimizer.learning_rate)
            trained["optimizer"] = {"t": int(optimizer.t), "learning_rate": rate}
            arrays |= {f"state_{i}": state.copy() for i, state in enumerate(optimizer.state)}

        def saved() -> _Saved:
            names = list(dict.fromkeys(name for epoch in entries[:n_epochs] for name in epoch))
            history = [[epoch.get(name, np.nan) for name in names] for epoch in entries[:n_epochs]]
            document = {
                "format": _FORMAT,
                "fastmlp": version("fastmlp"),
                "numpy": np.__version__,
                "fit": self._fit,
                "backend": self._backend,
                "begun": self._begun,
                "generator": self._begun if state is None else _as_plain(state),
                "names": names,
                "progress": numbers,
                "finished": finished,
                **trained,
            }
            history_array = np.array(history, np.float64).reshape(n_epochs, len(names))
            return _Saved(document, {"flat": flat, "history": history_array, **arrays})

        self._left = saved
        is_first = self._written_epochs < 0
        by_epochs = self._epochs and n_epochs - self._written_epochs >= self._epochs
        by_time = self._seconds and time.perf_counter() - self._written_at >= self._seconds
        if n_epochs == self._written_epochs and not finished:
            self._left = None
        elif is_first or by_epochs or by_time or is_final:
            self._write(n_epochs, is_first=is_first)

    def write_what_is_left(self) -> None:
        """Write the last state that was kept, if it is not in the file."""
        if self._left is not None:
            self._write(0, is_first=False)

    def _write(self, n_epochs: int, *, is_first: bool) -> None:
        assert self._left is not None
        saved = self._left()
        text = json.dumps(saved.document, indent=1)
        arrays = {"checkpoint": np.frombuffer(text.encode(), np.uint8), **saved.arrays}
        try:
            with uninterrupted(), atomic_write(self.name, sync=True) as file:
                write_npz(file, arrays)
        except OSError as error:
            if is_first:  # nothing is lost yet
                raise
            if not self._failed:
                self._failed = True
                warn(
                    f"the checkpoint {self.name} cannot be written ({error.strerror}): training "
                    "goes on, and the file remains as it was; it is tried again.",
                    CheckpointWarning,
                )
        else:
            self._left, self._failed = None, False
            self._written_epochs = n_epochs
        self._written_at = time.perf_counter()


# ------------------------------------------------------------------------------------ what is equal


def digest(data: Any) -> str:
    """Return a text that tells data from others: kind, shape and SHA-256.

    Parameters
    ----------
    data : array, sparse matrix or None
    """
    if data is None:
        return "none"
    parts = [data.indptr, data.indices, data.data] if issparse(data) else [data]
    found = hashlib.sha256()
    for part in map(np.ascontiguousarray, parts):
        if part.dtype.hasobject:
            part = np.frombuffer(repr(part.tolist()).encode(), np.uint8)
        found.update(part.reshape(-1).view(np.uint8).data)
    shape = " x ".join(map(str, data.shape))
    return f"{shape} {data.dtype} {found.hexdigest()}"


def in_words(value: Any) -> str:
    """Return a text that tells the value of a parameter from others, in any process."""
    if isinstance(value, np.ndarray):
        return f"array {digest(value)}"
    if isinstance(value, np.random.RandomState):
        return f"RandomState {hashlib.sha256(repr(_plain(value)).encode()).hexdigest()}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k!r}: {in_words(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(in_words, value))})"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _differences(there: Mapping[str, str], here: Mapping[str, str], names: list[str]) -> str:
    """Return in words what differs."""
    words = []
    for name in names:
        old, new = there.get(name), here.get(name)
        if name.startswith("data: "):
            words.append(f"{name.removeprefix('data: ')} differs")
        elif old is None or new is None or max(len(old), len(new)) > 60:
            words.append(f"{name} differs")
        else:
            words.append(f"{name} is {old} there and {new} here")
    return ", and ".join(words)


# --------------------------------------------------------------------------------------- generators


def _plain(generator: np.random.RandomState) -> Generator:
    """Return the state of NumPy's default generator as JSON."""
    state: Any = generator.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise CheckpointError(
            "a checkpoint needs NumPy's default generator, got one of "
            f"{state['bit_generator']}; pass an integer as random_state."
        )
    return _as_plain(state)


def _as_plain(state: Any) -> Generator:
    twister = state["state"]
    return [twister["key"].tolist(), int(twister["pos"]), state["has_gauss"], state["gauss"]]


def _set(generator: np.random.RandomState, state: Generator) -> None:
    key, position, has_gauss, gauss = state
    generator.set_state(("MT19937", np.array(key, np.uint32), position, has_gauss, float(gauss)))


# ------------------------------------------------------------------------------------------ reading


def _read(name: str) -> _Saved:
    """Read a checkpoint, and check what it holds."""
    reason = ""
    try:
        with open(name, "rb") as file:
            arrays = read_npz(file)
        document = json.loads(arrays.pop("checkpoint").tobytes())
        _check(document, arrays)
    except (OSError, MemoryError):
        raise
    except KeyError as error:
        reason = f"it lacks {error}"
    except Exception as error:  # of zip, NumPy's headers and JSON
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if reason:
        raise CheckpointError(
            f"{name} is no checkpoint that this fastmlp can read: {reason}. Delete it to begin "
            "anew, or use another path."
        )
    return _Saved(document, arrays)


#: The JSON document: what each field must be.
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "format": lambda v: v == _FORMAT,
    "fastmlp": lambda v: type(v) is str,
    "fit": lambda v: type(v) is dict and all(type(text) is str for text in v.values()),
    "backend": lambda v: type(v) is str,
    "begun": lambda v: _is_generator(v),
    "generator": lambda v: _is_generator(v),
    "names": lambda v: type(v) is list and all(type(name) is str for name in v),
    "progress": lambda v: type(v) is dict and all(type(x) in (int, float) for x in v.values()),
    "finished": lambda v: type(v) is bool,
}


def _is_generator(value: Any) -> bool:
    key, position, has_gauss, gauss = value
    return (
        len(key) == 624
        and all(type(word) is int and 0 <= word < 2**32 for word in key)
        and (type(position) is int and 0 <= position <= 624)
        and has_gauss in (0, 1)
        and type(gauss) in (int, float)
        and bool(np.isfinite(gauss))
    )


def _check(document: Any, arrays: Mapping[str, NDArray]) -> None:
    """Refuse a document or arrays that `Run` could not use."""
    for name, is_valid in _FIELDS.items():
        if not is_valid(document[name]):
            raise ValueError(f"its field {name} is invalid")
    history = arrays["history"]
    if (
        history.ndim != 2
        or history.dtype != np.float64
        or history.shape[1] != len(document["names"])
    ):
        raise ValueError("its history is invalid")
    progress = document["progress"]
    if progress.keys() != set(SNAPSHOT_NUMBERS) or progress["n_epochs"] != len(history):
        raise ValueError("its field progress is invalid")
    best = arrays.get("best", arrays["flat"])
    if best.shape != arrays["flat"].shape or best.dtype.kind != "f":
        raise ValueError("its best is invalid")
    if "order" in arrays:
        order = arrays["order"]
        if order.dtype.kind != "i" or order.ndim != 1:
            raise ValueError("its order is invalid")
        if not np.array_equal(np.sort(order), np.arange(len(order))):  # an index for compiled code
            raise ValueError("its order is no permutation")
    if "optimizer" in document:
        numbers = document["optimizer"]
        if type(numbers["t"]) is not int or type(numbers["learning_rate"]) is not float:
            raise ValueError("its field optimizer is invalid")
