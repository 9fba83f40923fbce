"""Checkpoints: the state of a fit in a file, from which a killed one goes on with the same bits.

The file is a NumPy .npz archive of plain arrays without pickle:

    checkpoint          uint8; a JSON document in UTF-8, see `_Saved`
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
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from fastmlp.core.optimizers import Optimizer
from fastmlp.exceptions import CheckpointWarning, warn
from fastmlp.training.lbfgs import check_work
from fastmlp.training.state import SNAPSHOT_NUMBERS, Progress
from fastmlp.utils.archives import read_npz
from fastmlp.utils.files import InUseError, atomic_write, locked, write_npz
from fastmlp.utils.generators import as_generator, plain_generator, plain_state, set_generator
from fastmlp.utils.interrupts import uninterrupted

_FORMAT = 1
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}

#: A generator's state in JSON: key, position, and the normal number that is left over, if any.
Generator: TypeAlias = list[Any]


@cache
def _version() -> str:
    return version("fastmlp")  # reads a file


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
    compared by their names. A generator given as `random_state` must be in the state in which it
    was. With `warm_start`, the model must have the weights that the first call began with.)

    Parameters
    ----------
    path : path
        Written next to its final name, synced to the disk, and renamed. One fit at a time may use
        it; it is not for searches, which run many.
    every : int or str, default="60s"
        How often it is written: after so many epochs, or after the epoch in which this time has
        passed ("90s", "10min", "1h"). It is also written at the end, and on Ctrl-C or an error,
        with the last state of which there is a copy: copies may take a hundredth of the time.
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
        if not os.fspath(self.path):
            raise ValueError("checkpoint must be a path, got an empty one.")
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
        name = os.fsdecode(self.path)
        path = os.path.abspath(name)  # the working directory may change
        if os.path.exists(path) and not os.path.isfile(path):
            raise CheckpointError(f"{name} is no regular file: use another path as checkpoint.")
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(path))
            except InUseError:
                raise CheckpointError(
                    f"the checkpoint {name} is in use by another fit; wait for it, or use another "
                    "path."
                ) from None
            except OSError as error:
                error.filename = name
                raise
            run = Run(self, name, path, _read(name, path) if os.path.exists(path) else None)
            try:
                yield run
            finally:
                run.write_what_is_left()


class CheckpointInMemory(Checkpoint):
    """The state of a fit, from which the same fit goes on with a larger `max_iter`.

    That data and other parameters are the same is not checked.
    """

    saved: "_Saved | None"

    def __init__(self) -> None:
        super().__init__("of memory")  # for messages
        vars(self)["saved"] = None

    @contextmanager
    def opened(self) -> Iterator["Run"]:
        """Yield a run, which stores what the fit has at its end."""
        yield _RunInMemory(self, os.fspath(self.path), "", self.saved)


@dataclass
class _Saved:
    """What a file holds.

    Parameters
    ----------
    document : dict
        format; fastmlp and numpy, versions; fit, what must be the same; backend; begun, the
        generator before the fit, and generator, after the last epoch; names, of the history;
        progress; optimizer, its numbers; finished, whether the fit has ended by itself.
    arrays : dict of str to array
    """

    document: dict[str, Any]
    arrays: dict[str, NDArray] = field(default_factory=dict)


class Run:
    """The checkpoint of a running fit.

    Parameters
    ----------
    checkpoint : Checkpoint
    name, path : str
        Its path, for messages and absolute.
    found : _Saved or None
        The content of its file.

    Attributes
    ----------
    compares : bool
        Whether data and parameters may differ from those of before.
    """

    compares = True

    def __init__(self, checkpoint: Checkpoint, name: str, path: str, found: _Saved | None) -> None:
        self.checkpoint, self.name, self._path, self._found = checkpoint, name, path, found
        self._kept_at, self._cost = -math.inf, 0.0  # when a state was kept, and how long it took
        self._given: np.random.RandomState | None = None
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
        """Return the generator for the preparation: the given one, or one like that of before.

        Parameters
        ----------
        given : RandomState
            Not changed if the fit goes on.
        """
        self._begun, self._given = _plain(given), given
        if self._found is None:
            return given
        return as_generator(self._found.document["begun"])

    def check(
        self,
        fit: dict[str, str],
        backend: str,
        max_iter: int,
        *,
        random_state: object,
        n_samples: int,
        flat: NDArray,
        optimizer: Optimizer | None,
    ) -> None:
        """Refuse a file of another fit, or one that could not be used.

        Parameters
        ----------
        fit : dict of str to str
            What must be the same, as texts by name.
        backend : str
        max_iter : int
        random_state : object
            The estimator's.
        n_samples : int
            Samples of an epoch.
        flat : array of shape (n_parameters,)
        optimizer : Optimizer or None
            None for L-BFGS.
        """
        fit["keep"] = repr(self.checkpoint.keep)
        if isinstance(random_state, np.random.RandomState):
            fit["random_state"] = f"RandomState {_digest_of_text(json.dumps(self._begun))}"
        self._fit, self._backend = fit, backend
        if self._found is None:
            return
        self._begun = self._found.document["begun"]
        document = self._found.document
        there = document["fit"]
        names = [name for name in {**there, **fit} if there.get(name) != fit.get(name)]
        if names:
            raise CheckpointError(
                f"the checkpoint {self.name} belongs to another fit: "
                f"{differences(there, fit, names)}. Pass the same data and parameters, or another "
                "path to begin anew."
            )
        self._check_arrays(n_samples, flat, optimizer)
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
        set_generator(generator, document["generator"])

    def generator(self, prepared: np.random.RandomState) -> np.random.RandomState:
        """Return the generator for the epochs: the user's own, if there is one."""
        own = self._given
        if self._found is None or own is None or own is np.random.mtrand._rand:
            return prepared
        return own

    @property
    def order(self) -> NDArray | None:
        """The order of the last epoch, if there was one."""
        return None if self._found is None else self._found.arrays.get("order")

    def _check_arrays(self, n_samples: int, flat: NDArray, optimizer: Optimizer | None) -> None:
        """Refuse arrays that do not fit the network, the data or the optimiser."""
        assert self._found is not None
        arrays, document = self._found.arrays, self._found.document
        self._array("flat", flat)
        expected = {"flat", "history", "best"}
        if optimizer is None:
            expected |= {name for name in arrays if name.startswith("lbfgs_")}
            if "best" not in arrays:
                raise self._damaged("it lacks 'best'")
            try:
                check_work(self.lbfgs, len(flat))
            except ValueError as error:
                raise self._damaged(str(error)) from None
        else:
            states = [f"state_{i}" for i in range(len(optimizer.state))]
            for name, state in zip(states, optimizer.state, strict=True):
                self._array(name, state)
            if "order" not in arrays:
                raise self._damaged("it lacks 'order'")
            if len(arrays["order"]) != n_samples:
                n = len(arrays["order"])
                raise self._damaged(f"its order must have {n_samples} samples, got {n}")
            if "optimizer" not in document:
                raise self._damaged("it lacks 'optimizer'")
            expected |= {"order", *states}
        if unknown := sorted(arrays.keys() - expected):
            raise self._damaged(f"it has arrays {unknown} that are unknown")

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
        sync: Callable[[], object] = bool,
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
        sync : callable
            Brings weights and optimiser up to date.
        generator, optimizer, order
            Of the stochastic solvers. `order` is not changed later.
        lbfgs : mapping of str to array
            The work arrays of L-BFGS. No copies: they change only between calls.
        finished : bool
            Whether the fit has ended by itself.
        is_final : bool
            Whether this is the last call, so that it is written at once.
        """
        begun = time.perf_counter()
        if not (is_final or lbfgs or self._wants(progress.n_epochs, begun)):
            return
        sync()
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
                "fastmlp": _version(),
                "numpy": np.__version__,
                "fit": self._fit,
                "backend": self._backend,
                "begun": self._begun,
                "generator": self._begun if state is None else plain_state(state),
                "names": names,
                "progress": numbers,
                "finished": finished,
                **trained,
            }
            history_array = np.array(history, np.float64).reshape(n_epochs, len(names))
            return _Saved(document, {"flat": flat, "history": history_array, **arrays})

        self._left = saved
        self._kept_at = time.perf_counter()
        self._cost = self._kept_at - begun
        if n_epochs == self._written_epochs and not finished:
            self._left = None
        elif is_final or self._is_due(n_epochs, begun):
            self._write(n_epochs, is_first=self._written_epochs < 0)

    def _is_due(self, n_epochs: int, now: float) -> bool:
        """Return whether the file is to be written."""
        if self._written_epochs < 0:
            return True
        if self._epochs:
            return n_epochs - self._written_epochs >= self._epochs
        return now - self._written_at >= self._seconds

    def _wants(self, n_epochs: int, now: float) -> bool:
        """Return whether the state is to be kept: copies take at most 1 % of the time."""
        return self._is_due(n_epochs, now) or now - self._kept_at >= 100 * self._cost

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
            with uninterrupted(), atomic_write(self._path, sync=True) as file:
                write_npz(file, arrays)
        except OSError as error:
            if is_first:  # nothing is lost yet
                error.filename = self.name
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


class _RunInMemory(Run):
    compares = False

    def _wants(self, n_epochs: int, now: float) -> bool:
        return False

    def _is_due(self, n_epochs: int, now: float) -> bool:
        return False

    def _write(self, n_epochs: int, *, is_first: bool) -> None:
        assert self._left is not None
        vars(self.checkpoint)["saved"] = self._left()
        self._left = None


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


def _digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def in_words(value: Any) -> str:
    """Return a text that tells the value of a parameter from others, in any process."""
    if isinstance(value, np.ndarray):
        return f"array {digest(value)}"
    if isinstance(value, np.float64 | np.integer | np.bool_):
        value = value.item()
    if isinstance(value, np.random.RandomState):
        return "RandomState"  # `Run.check` looks at its state
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k!r}: {in_words(v)}' for k, v in value.items())}}}"
    if hasattr(value, "get_params") and not isinstance(value, type):  # whose repr may be cut
        return f"{type(value).__qualname__}{in_words(value.get_params(deep=False))}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(in_words, value))})"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def differences(there: Mapping[str, str], here: Mapping[str, str], names: list[str]) -> str:
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
    return ", ".join(words)


# --------------------------------------------------------------------------------------- generators


def _plain(generator: np.random.RandomState) -> Generator:
    """Return the state of NumPy's default generator as JSON; refuse another."""
    state = plain_generator(generator)
    if state is None:
        raise CheckpointError(
            "a checkpoint needs NumPy's default generator, got a RandomState with another; pass an "
            "integer as random_state."
        )
    return state


# ------------------------------------------------------------------------------------------ reading


def _read(name: str, path: str) -> _Saved:
    """Read a checkpoint, and check what it holds."""
    reason = ""
    try:
        with open(path, "rb") as file:
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


_COUNTS = ("n_epochs", "n_samples_seen", "no_improvement_count")

#: The JSON document: what each field must be.
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "format": lambda v: v == _FORMAT,
    "fastmlp": lambda v: type(v) is str,
    "fit": lambda v: (
        type(v) is dict
        and all(name.isprintable() and len(name) < 100 for name in v)
        and all(type(text) is str and text.isprintable() for text in v.values())
    ),
    "backend": lambda v: type(v) is str and v.isprintable() and len(v) < 100,
    "begun": lambda v: _is_generator(v),
    "generator": lambda v: _is_generator(v),
    "names": lambda v: type(v) is list and all(type(name) is str for name in v),
    "progress": lambda v: (
        type(v) is dict
        and v.keys() == set(SNAPSHOT_NUMBERS)
        and all(_is_count(v[name]) for name in _COUNTS)
        and all(type(x) in (int, float) for x in v.values())
    ),
    "finished": lambda v: type(v) is bool,
}


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _is_generator(value: Any) -> bool:
    try:
        as_generator(value)
    except (TypeError, ValueError):
        return False
    return True


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
    if document["progress"]["n_epochs"] != len(history):
        raise ValueError("its field progress is invalid")
    if len(history) and "loss" not in document["names"]:
        raise ValueError("its field names is invalid")
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
        rate = numbers["learning_rate"]
        if not _is_count(numbers["t"]) or type(rate) is not float or not math.isfinite(rate):
            raise ValueError("its field optimizer is invalid")
