"""Searches: calls of scikit-learn and joblib that train many models, as a fit within sees them.

A fit may be one of many: of a search for parameters, of cross-validation, of an ensemble. Then a
hint is given once and not by every fit, and Ctrl-C ends the search and not this fit only. Nobody
tells a fit where it is, so it looks at the stack: at its own or, in a worker thread, at that of the
thread that waits for it. To worker processes it is told along with the estimators sent to them.
"""

import hashlib
import os
import re
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

#: Modules (with those in them) whose functions train many models. Pipelines train one.
_TRAIN_MANY = (
    "joblib.parallel",
    "sklearn.calibration",
    "sklearn.ensemble",
    "sklearn.feature_selection",
    "sklearn.impute",
    "sklearn.model_selection",
    "sklearn.multiclass",
    "sklearn.multioutput",
    "sklearn.semi_supervised",
)

#: Modules that are not the user's, between the user and a fit or below a worker.
_MACHINERY = (
    "fastmlp",
    "sklearn",
    "joblib",
    "scipy",
    "contextlib",
    "cloudpickle",
    "pickle",
    "threading",
    "multiprocessing",
    "concurrent",  # in whose threads joblib sends out the next fits
    "runpy",
)

_FIT = ("fastmlp.estimators.base",)
_NAME = "<search of fastmlp>"  # cannot be a variable's


@dataclass
class Search:
    """What the fits of one search share: where the user called, and the hints given so far.

    Parameters
    ----------
    filename, lineno, module : str, int, str
        The line of the user, as `warnings.warn_explicit` takes it.
    owner : int
        The process in which the user called.
    directory : str
        Has an empty file for every hint that was given, where all processes see it. Empty if there
        is no place to write to; then every fit gives its hints.
    """

    filename: str
    lineno: int
    module: str
    owner: int
    directory: str

    @classmethod
    def begun_at(cls, user: FrameType) -> "Search":
        """Return the search that a user begins here; its directory lives as long as it does."""
        try:
            directory = tempfile.mkdtemp(prefix="fastmlp-hints-")
        except OSError:
            directory = ""
        module = user.f_globals.get("__name__", "")
        search = cls(user.f_code.co_filename, user.f_lineno, module, os.getpid(), directory)
        weakref.finalize(search, _remove, directory, search.owner)
        return search

    def is_first(self, text: str) -> bool:
        """Return whether a hint is new, and take note of it.

        Hints that differ in nothing but numbers are the same, such as those of two folds.
        """
        try:
            os.close(os.open(self._note_of(text), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        except OSError:  # better twice than never
            pass
        return True

    def _note_of(self, text: str) -> str:
        if not self.directory:
            raise FileNotFoundError
        same = re.sub(r"-?\d[\d.e+-]*", "#", text)
        return os.path.join(self.directory, hashlib.sha256(same.encode()).hexdigest())


def _remove(directory: str, owner: int) -> None:
    """Remove the notes of a search that is over, in the process that made them."""
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


_told: Search | None = None  # to this process, a worker, by the one that it works for


def current() -> Search | None:
    """Return the search that the calling fit is part of, or None; None if there is no fit."""
    here = sys._getframe(1)
    outermost = _outermost(here)
    if outermost is None or not any(_is_of(outer, _FIT) for outer in _outward(here)):
        return None
    return _told_of() or _begun(outermost) or _awaited()


def is_running() -> bool:
    """Return whether the calling fit is one of many."""
    return _outermost(sys._getframe(1)) is not None


def line_of_user(frame: FrameType) -> tuple[FrameType | None, int]:
    """Return the user's nearest frame, or None in a worker, and how many frames were passed."""
    distance = 0
    for distance, outer in enumerate(_outward(frame)):  # noqa: B007
        if not _is_of(outer, _MACHINERY):
            return outer, distance
    return None, distance


def _outward(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_of(frame: FrameType, modules: tuple[str, ...]) -> bool:
    # joblib's workers are run by "python -m", in a __main__ of another name.
    spec = frame.f_globals.get("__spec__")
    name = f"{spec.name if spec else frame.f_globals.get('__name__', '')}."
    return name.startswith(tuple(f"{module}." for module in modules))


def _outermost(frame: FrameType) -> FrameType | None:
    """Return the frame of the outermost function that trains many models, or None."""
    found = None
    for outer in _outward(frame):
        if _is_of(outer, _TRAIN_MANY):
            found = outer
    return found


def _told_of() -> Search | None:
    """Return the search that this process was told of, while it lasts, or None."""
    return _told if _told is not None and os.path.isdir(_told.directory) else None


def _begun(outermost: FrameType) -> Search | None:
    """Return the search of this frame, which a user has called, or None.

    It is kept in the frame, beside the function's variables: there it is found by every fit, and
    there it ends with the call, whose beginning and end nobody else tells us.
    """
    user, _ = line_of_user(outermost)
    if user is None:
        return None
    variables: Any = outermost.f_locals
    # Another thread may come in between, so what is there in the end counts.
    return variables.get(_NAME) or variables.setdefault(_NAME, Search.begun_at(user))


def _awaited() -> Search | None:
    """Return the search that another thread has begun, and now waits for its workers, or None."""
    frames = sys._current_frames()
    del frames[threading.get_ident()]
    for frame in frames.values():
        outermost = _outermost(frame)
        search = None if outermost is None else _begun(outermost)
        if search is not None:
            return search
    return None


class TellsWorkers:
    """An estimator that tells worker processes which search it is sent to them for."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle and, while joblib sends it to a worker, the search."""
        state: Any = super().__getstate__()
        here = sys._getframe()
        # joblib pickles in a thread of its own, where neither a search nor a user is on the stack.
        if line_of_user(here)[0] is not None or _outermost(here) is not None:
            return state
        search = _told_of() or _awaited()
        return state if search is None else {**state, _NAME: vars(search)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled state, and note which search this process works for."""
        global _told
        if _NAME in state:
            state = dict(state)
            search = Search(**state.pop(_NAME))
            if search.owner != os.getpid():  # where results come back to
                _told = search
        super().__setstate__(state)  # type: ignore[misc]
