"""Files and directories that appear whole or not at all, several at once if need be.

What is being written lies in a hidden directory beside its place, or within the directory that it
will fill:

    .fastmlp-<name>-<token>.part   that directory; <name> stands for the target's name
    .fastmlp-<name>-<token>.lock   locked by the process that writes, for as long as it lives

A process that is killed leaves both, but no lock, so the next write to the same name removes them.
(Where files cannot be locked, as on Windows and some network drives, they stay.)
"""

import errno
import io
import os
import re
import secrets
import shutil
import signal
import stat
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "atomic_directory",
    "atomic_files",
    "atomic_write",
    "is_temporary",
    "uninterrupted",
    "workspace",
    "write_npz",
]

AnyPath: TypeAlias = str | os.PathLike[str]

_TEMPORARY = re.compile(r"\.fastmlp-[0-9a-f]{8}-[0-9a-f]{16}\.(?:part|lock)")
# What lies in a workspace: what is to be in the target's place, and what was there.
_NEW, _OLD = "new", "old"


# ------------------------------------------------------------------------------------------- files


@contextmanager
def atomic_write(path: AnyPath) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when all has been written.

    It is written under a temporary name beside its place and renamed at the end. If anything is
    raised before, Ctrl-C included, a file that was there stays as it was.

    Parameters
    ----------
    path : path
        A symbolic link stays one. A pipe or a device is written to, not replaced.

    Yields
    ------
    file : binary file object

    Raises
    ------
    IsADirectoryError
        The path is a directory.
    OSError
        The file cannot be written.
    """
    with atomic_files([path]) as (file,):
        yield file


@contextmanager
def atomic_files(paths: Sequence[AnyPath]) -> Iterator[list[BinaryIO]]:
    """Open several files that take their names together, when all have been written.

    If one of them cannot be renamed, the others are given back. What remains is the moment between
    two renames, in which a process can be killed.

    Parameters
    ----------
    paths : sequence of paths
        As in `atomic_write`; all different.

    Yields
    ------
    files : list of binary file objects
        In the order of the paths.

    Raises
    ------
    IsADirectoryError, OSError
        As in `atomic_write`; nothing has been replaced.
    """
    for path in paths:
        if os.path.isdir(path):
            raise IsADirectoryError(
                errno.EISDIR, "is a directory, where a file is to be written", os.fspath(path)
            )
    with ExitStack() as stack:
        parts = [stack.enter_context(_part(path)) for path in paths]
        yield [part.file for part in parts]
        for part in parts:
            part.finish()
        moves = [
            (part.folder / _NEW, part.target, part.folder / _OLD) for part in parts if part.folder
        ]
        if len(moves) == 1:
            os.replace(moves[0][0], moves[0][1])
        else:
            with uninterrupted():
                _replace_all(moves)


class _Part:
    """A file that is being written.

    Attributes
    ----------
    target : Path
        Where it will be.
    folder : Path or None
        The workspace in which it lies; None if the target is written to, not replaced.
    file : binary file object
    """

    def __init__(self, target: Path, folder: Path | None) -> None:
        self.target = target
        self.folder = folder
        # A zip archive is not written in order, as a pipe must be.
        self.file: BinaryIO = io.BytesIO() if folder is None else open(folder / _NEW, "xb")

    def finish(self) -> None:
        """Bring to the disk what has been written."""
        if isinstance(self.file, io.BytesIO):
            self.target.write_bytes(self.file.getbuffer())
        self.file.close()
        if self.folder is not None and self.target.exists():
            # What the owner has made private stays so.
            os.chmod(self.folder / _NEW, stat.S_IMODE(self.target.stat().st_mode))


@contextmanager
def _part(path: AnyPath) -> Iterator[_Part]:
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    with ExitStack() as stack:
        folder = None
        try:
            if target.is_file() or not target.exists():
                folder = stack.enter_context(workspace(target.parent, target.name))
            part = _Part(target, folder)
        except OSError as error:
            error.filename = os.fspath(path)  # the user knows this name, not the temporary one
            raise
        stack.enter_context(closing(part.file))
        yield part


def _replace_all(moves: list[tuple[Path, Path, Path]]) -> None:
    """Put new files in the places of old ones, all or none; each is (new, target, old)."""
    kept, replaced = [], []
    try:
        for _, target, old in moves:
            if target.exists():
                _link(target, old)
                kept.append(old)
        for new, target, old in moves:
            os.replace(new, target)
            replaced.append((target, old))
    except BaseException:
        for target, old in reversed(replaced):
            if old in kept:
                os.replace(old, target)
            else:
                target.unlink()
        for old in kept:
            old.unlink(missing_ok=True)
        raise
    for old in kept:
        old.unlink(missing_ok=True)


def _link(source: Path, name: Path) -> None:
    """Give a file another name; where the file system cannot do that, copy it."""
    try:
        os.link(source, name)
    except OSError:
        shutil.copy2(source, name)


# ------------------------------------------------------------------------------------- directories


@contextmanager
def atomic_directory(path: AnyPath) -> Iterator[Path]:
    """Give a directory new contents, which appear in it only when all have been written.

    They are written into a hidden directory within, from which they are renamed at the end; what
    was there before is removed then. If anything is raised before, Ctrl-C included, the directory
    is as it was, or is not there.

    Parameters
    ----------
    path : path
        Made if it is not there, and its parents. The directory itself stays the same one, as it
        may be a mount point or somebody's working directory.

    Yields
    ------
    staging : Path
        Where to write.
    """
    target = Path(path)
    is_new = not target.exists()
    target.mkdir(parents=True, exist_ok=True)
    try:
        with workspace(target) as folder:
            new, old = folder / _NEW, folder / _OLD
            new.mkdir()
            yield new
            moves = [
                (entry, old / entry.name)
                for entry in target.iterdir()
                if not is_temporary(entry.name)
            ]
            moves += [(entry, target / entry.name) for entry in new.iterdir()]
            old.mkdir()
            with uninterrupted():
                _move_all(moves, old)
    except BaseException:
        if is_new:
            with suppress(OSError):
                target.rmdir()
        raise


def _move_all(moves: list[tuple[Path, Path]], old: Path) -> None:
    """Rename files or directories, all or none; in the end nothing is called `old` any more."""
    done = []
    try:
        for source, destination in moves:
            source.rename(destination)
            done.append((source, destination))
    except BaseException:
        for source, destination in reversed(done):
            destination.rename(source)
        old.rmdir()
        raise
    old.rename(old.with_name("replaced"))


# -------------------------------------------------------------------------------------- workspaces


@contextmanager
def workspace(directory: AnyPath, name: str = "") -> Iterator[Path]:
    """Make a hidden directory to write in, which is removed afterwards.

    What processes that were killed have left for the same name is removed, too. What they have
    replaced is kept until there is something in its place.

    Parameters
    ----------
    directory : path
        Where to make it.
    name : str
        What is to be written.

    Yields
    ------
    folder : Path
        Only this process uses it, and other users may not look into it.

    Raises
    ------
    OSError
        Nothing can be written in the directory.
    """
    prefix = f".fastmlp-{zlib.crc32(os.fsencode(name)):08x}-"
    _clear(directory, prefix, replaced=False)
    with _lock_file(directory, prefix) as lock:
        folder = lock.with_suffix(".part")
        folder.mkdir(mode=0o700)
        try:
            yield folder
            _clear(directory, prefix, replaced=True)
        finally:
            _remove(folder, replaced=False)


def is_temporary(name: str) -> bool:
    """Tell whether a file or directory of this name is a workspace or its lock.

    Examples
    --------
    >>> is_temporary(".fastmlp-00000000-0123456789abcdef.part")
    True
    """
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def _lock_file(directory: AnyPath, prefix: str) -> Iterator[Path]:
    """Make a file that is locked meanwhile, and remove it."""
    while True:
        path = Path(directory, f"{prefix}{secrets.token_hex(8)}.lock")
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except OSError as error:
            error.filename = os.fspath(directory)
            raise
        try:
            # Unless another process has taken it for a dead one's before it was locked.
            if _lock(file) is not False and path.exists():
                yield path
                return
        finally:
            path.unlink(missing_ok=True)
            os.close(file)


def _lock(file: int) -> bool | None:
    """Lock a file; False if it is locked already, None if that cannot be known."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _clear(directory: AnyPath, prefix: str, *, replaced: bool) -> None:
    """Remove workspaces whose process is dead; the replaced files in them only if `replaced`."""
    with suppress(OSError):  # of which the caller will hear
        for name in os.listdir(directory):
            if not (name.startswith(prefix) and is_temporary(name)):
                continue
            path = Path(directory, name)
            folder, lock = path.with_suffix(".part"), path.with_suffix(".lock")
            with suppress(OSError), ExitStack() as stack:
                # A workspace without a lock file has begun to be removed.
                if lock.exists():
                    file = os.open(lock, os.O_RDWR)
                    stack.callback(os.close, file)
                    if not _lock(file):
                        continue
                _remove(folder, replaced=replaced)
                if not folder.exists():
                    lock.unlink(missing_ok=True)


def _remove(folder: Path, *, replaced: bool) -> None:
    """Remove a workspace, as far as possible; the replaced files in it only if `replaced`."""
    if replaced or not (folder / _OLD).exists():
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in folder.iterdir():
        if path.is_dir() and path.name != _OLD:
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != _OLD:
            with suppress(OSError):
                path.unlink()


# ------------------------------------------------------------------------------------------- Ctrl-C


@contextmanager
def uninterrupted(stop: Callable[[], object] | None = None) -> Iterator[None]:
    """Keep Ctrl-C until the end of a block that it must not leave half done.

    `KeyboardInterrupt` is raised then. Nothing is done where Ctrl-C does not raise it: in other
    threads, and where the user handles the signal.

    Parameters
    ----------
    stop : callable, optional
        Called when Ctrl-C comes, so that the block can end soon.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    is_interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        if stop is not None:
            stop()

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if is_interrupted:
            raise KeyboardInterrupt


def write_npz(file: BinaryIO, arrays: Mapping[str, ArrayLike], *, compress: bool = False) -> None:
    """Write arrays as NumPy's .npz, so that Ctrl-C is seen as nothing but `KeyboardInterrupt`.

    Between two steps of zipfile it would leave an archive that cannot be closed, whose error would
    be seen instead.

    Parameters
    ----------
    file : binary file object
    arrays : mapping of str to array-like
    compress : bool
    """
    save = np.savez_compressed if compress else np.savez
    stoppable = _Stoppable(file)
    with uninterrupted(stoppable.stop), suppress(_StoppedError):
        save(stoppable, **arrays)  # type: ignore[arg-type]


class _StoppedError(Exception):
    pass


class _Stoppable:
    """A file that can be told to refuse what is still to be written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._is_stopped = False

    def stop(self) -> None:
        self._is_stopped = True

    def write(self, data: bytes) -> int:
        if self._is_stopped:
            raise _StoppedError
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
