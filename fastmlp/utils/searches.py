"""Detection of searches: calls of scikit-learn and joblib that train many models.

A fit may be part of a parameter search, a cross-validation or an ensemble. Then a warning is issued
once and not by every fit, and Ctrl-C stops the whole search. The search is found by inspecting the
stack: that of the fit or, in a worker thread, that of the waiting thread. It is passed to worker
processes with the estimators.
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

#: Modules, including submodules, whose functions train many models. Pipelines train one.
_TRAIN_MANY = (
    "fastmlp.estimators.many",
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

#: Modules that are not the user's code.
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
    "concurrent",  # in whose threads joblib dispatches the next fits
    "runpy",
)

_FIT = ("fastmlp.estimators.base",)
_NAME = "<search of fastmlp>"  # not a valid variable name


@dataclass
class Search:
    """State shared by the fits of a search: the line of the user's call, and issued warnings.

    Parameters
    ----------
    filename, lineno, module : str, int, str
        The line of the user's code, for `warnings.warn_explicit`.
    owner : int
        The process of the user's call.
    directory : str
        Contains an empty file per issued warning, visible to all processes. Empty if there is no
        writable directory; then every fit issues its warnings.
    """

    filename: str
    lineno: int
    module: str
    owner: int
    directory: str

    @classmethod
    def begun_at(cls, user: FrameType) -> "Search":
        """Create a search for this line of the user; its directory exists as long as the search."""
        try:
            directory = tempfile.mkdtemp(prefix="fastmlp-hints-")
        except OSError:
            directory = ""
        module = user.f_globals.get("__name__", "")
        search = cls(user.f_code.co_filename, user.f_lineno, module, os.getpid(), directory)
        weakref.finalize(search, _remove, directory, search.owner)
        return search

    def is_first(self, text: str) -> bool:
        """Return whether a warning is new, and record it.

        Warnings that differ only in numbers, such as those of two folds, are the same.
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
    """Remove the directory of a finished search, in the process that created it."""
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)


_told: Search | None = None  # set in worker processes by the main process


def current() -> Search | None:
    """Return the search that the calling fit is part of, or None."""
    here = sys._getframe(1)
    outermost = _outermost(here)
    if outermost is None or not any(_is_of(outer, _FIT) for outer in _outward(here)):
        return None
    return _told_of() or _begun(outermost) or _awaited()


def is_running() -> bool:
    """Return whether the calling fit is one of many."""
    return _outermost(sys._getframe(1)) is not None


def line_of_user(frame: FrameType) -> tuple[FrameType | None, int]:
    """Return the nearest frame of user code, or None in a worker, and its distance."""
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
    # joblib's workers are run by "python -m", with another name of __main__.
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
    """Return the search that was passed to this process, while it exists, or None."""
    return _told if _told is not None and os.path.isdir(_told.directory) else None


def _begun(outermost: FrameType) -> Search | None:
    """Return the search of this frame, which is called by user code, or None.

    It is stored in the local variables of the frame: there it is found by every fit, and it ends
    with the call.
    """
    user, _ = line_of_user(outermost)
    if user is None:
        return None
    variables: Any = outermost.f_locals
    # Another thread may be faster, so the stored value is returned.
    return variables.get(_NAME) or variables.setdefault(_NAME, Search.begun_at(user))


def _awaited() -> Search | None:
    """Return the search of another thread that waits for its workers, or None."""
    frames = sys._current_frames()
    del frames[threading.get_ident()]
    for frame in frames.values():
        outermost = _outermost(frame)
        search = None if outermost is None else _begun(outermost)
        if search is not None:
            return search
    return None


class TellsWorkers:
    """Mixin of estimators that passes the search to worker processes when pickled."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle, with the search while joblib sends it to a worker."""
        state: Any = super().__getstate__()
        here = sys._getframe()
        # joblib pickles in its own thread, whose stack has no search and no user code.
        if line_of_user(here)[0] is not None or _outermost(here) is not None:
            return state
        search = _told_of() or _awaited()
        return state if search is None else {**state, _NAME: vars(search)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled state, and record the search."""
        global _told
        if _NAME in state:
            state = dict(state)
            search = Search(**state.pop(_NAME))
            if search.owner != os.getpid():  # the process that receives results
                _told = search
        super().__setstate__(state)  # type: ignore[misc]
