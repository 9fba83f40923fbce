"""Atomic writing of files and directories, also of several at once.

Data is written to a hidden directory next to the target, or within the target directory:

    .fastmlp-<name>-<token>.part   that directory; <name> is derived from the target's name
    .fastmlp-<name>-<token>.lock   locked by the writing process while it runs

A killed process leaves both without a lock, so the next write to the same name removes them. (If
files cannot be locked, as on Windows and some network drives, they remain.)
"""

import errno
import io
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from fastmlp.utils.interrupts import uninterrupted

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "InUseError",
    "atomic_directory",
    "atomic_files",
    "atomic_write",
    "is_temporary",
    "locked",
    "workspace",
    "write_npz",
]

AnyPath: TypeAlias = str | os.PathLike[str]

_TEMPORARY = re.compile(r"\.fastmlp-[0-9a-f]{8}-[0-9a-f]{16}\.(?:part|lock)")
# The content of a workspace: the new and the old target.
_NEW, _OLD = "new", "old"


# ------------------------------------------------------------------------------------------- files


@contextmanager
def atomic_write(path: AnyPath, *, sync: bool = False) -> Iterator[BinaryIO]:
    """Open a file for atomic writing.

    It is written under a temporary name in the same directory and renamed at the end. After an
    exception, including Ctrl-C, an existing file is unchanged.

    Parameters
    ----------
    path : path
        A symbolic link is kept. A pipe or device is written to, not replaced.
    sync : bool
        Wait until the disk has the file, so that a power failure leaves the old one or the new one.

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
        if sync and not isinstance(file, io.BytesIO):
            file.flush()
            os.fsync(file.fileno())
    if sync:
        _sync_directory(Path(os.path.realpath(path)).parent)


def _sync_directory(folder: Path) -> None:
    """Write a directory's names to the disk, where the system can do that."""
    with suppress(OSError):  # Windows cannot open directories, some file systems not sync them
        directory = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@contextmanager
def atomic_files(paths: Sequence[AnyPath]) -> Iterator[list[BinaryIO]]:
    """Open several files for atomic writing: all of them are replaced, or none.

    If one cannot be renamed, the others are restored. Only a process killed between two renames
    leaves a mixture.

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
        The final path.
    folder : Path or None
        The workspace that contains it; None if the target is written to, not replaced.
    file : binary file object
    """

    def __init__(self, target: Path, folder: Path | None) -> None:
        self.target = target
        self.folder = folder
        # A zip archive is not written sequentially, as a pipe must be.
        self.file: BinaryIO = io.BytesIO() if folder is None else open(folder / _NEW, "xb")

    def finish(self) -> None:
        """Flush the file to disk."""
        if isinstance(self.file, io.BytesIO):
            with self.file.getbuffer() as content:
                self.target.write_bytes(content)
        self.file.close()
        if self.folder is not None and self.target.exists():
            # Keep the permissions.
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
            error.filename = os.fspath(path)  # report this name, not the temporary one
            raise
        stack.enter_context(closing(part.file))
        yield part


def _replace_all(moves: list[tuple[Path, Path, Path]]) -> None:
    """Replace old files by new ones, all or none; each is (new, target, old)."""
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
    """Rename a file; copy it if the file system does not support that."""
    try:
        os.link(source, name)
    except OSError:
        shutil.copy2(source, name)


class InUseError(OSError):
    """Another process or thread has locked the file."""


@contextmanager
def locked(path: AnyPath) -> Iterator[None]:
    """Keep other processes, and other threads, from a file that is replaced again and again.

    A lock file stands next to it meanwhile, which the system unlocks when the process ends, however
    it ends. (Where files cannot be locked, as on Windows and some network drives, nobody is kept.)
    What killed processes have left that wrote the file is removed.

    Parameters
    ----------
    path : path

    Raises
    ------
    InUseError
        Somebody else has it.
    OSError
        The directory is not writable.
    """
    target = Path(os.path.realpath(path))
    lock = target.with_name(f".{target.name}.lock")
    while True:
        try:
            file = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            error.filename = os.fspath(path)
            raise
        try:
            if _lock(file) is False:
                raise InUseError(
                    errno.EAGAIN, "is in use by another process or thread", os.fspath(path)
                )
            # Unless the one who had it has removed it before it was locked here.
            if lock.exists() and os.path.samestat(os.fstat(file), os.stat(lock)):
                _clear(target.parent, _prefix(target.name), replaced=target.exists())
                try:
                    yield
                finally:
                    lock.unlink(missing_ok=True)
                return
        finally:
            os.close(file)


# ------------------------------------------------------------------------------------- directories


@contextmanager
def atomic_directory(path: AnyPath) -> Iterator[Path]:
    """Replace the content of a directory atomically.

    The new content is written to a hidden directory in it and renamed at the end, when the old
    content is removed. After an exception, including Ctrl-C, the directory is unchanged, or does
    not exist.

    Parameters
    ----------
    path : path
        Created if it does not exist, with its parents. The directory itself is not replaced, as it
        may be a mount point or a working directory.

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
    """Rename files or directories, all or none; at the end, `old` paths no longer exist."""
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
    """Create a hidden directory to write in, and remove it afterwards.

    Those left by killed processes for the same name are removed, too. Files replaced by them are
    kept until the target exists again.

    Parameters
    ----------
    directory : path
        Its parent.
    name : str
        Name of the target.

    Yields
    ------
    folder : Path
        Used by this process only, and not accessible to other users.

    Raises
    ------
    OSError
        The directory is not writable.
    """
    prefix = _prefix(name)
    _clear(directory, prefix, replaced=False)
    with _lock_file(directory, prefix) as lock:
        folder = lock.with_suffix(".part")
        folder.mkdir(mode=0o700)
        try:
            yield folder
            _clear(directory, prefix, replaced=True)
        finally:
            _remove(folder, replaced=False)


def _prefix(name: str) -> str:
    """Return how the names of the workspaces for a target begin."""
    return f".fastmlp-{zlib.crc32(os.fsencode(name)):08x}-"


def is_temporary(name: str) -> bool:
    """Return whether this is the name of a workspace or its lock.

    Examples
    --------
    >>> is_temporary(".fastmlp-00000000-0123456789abcdef.part")
    True
    """
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def _lock_file(directory: AnyPath, prefix: str) -> Iterator[Path]:
    """Create and lock a file, and remove it at the end."""
    while True:
        path = Path(directory, f"{prefix}{secrets.token_hex(8)}.lock")
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except OSError as error:
            error.filename = os.fspath(directory)
            raise
        try:
            # Unless another process has removed it as stale before it was locked.
            if _lock(file) is not False and path.exists():
                yield path
                return
        finally:
            path.unlink(missing_ok=True)
            os.close(file)


def _lock(file: int) -> bool | None:
    """Lock a file; return False if it is already locked, None if that is not known."""
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
    """Remove workspaces of dead processes; the replaced files in them only if `replaced`."""
    with suppress(OSError):  # reported to the caller
        for name in os.listdir(directory):
            if not (name.startswith(prefix) and is_temporary(name)):
                continue
            path = Path(directory, name)
            folder, lock = path.with_suffix(".part"), path.with_suffix(".lock")
            with suppress(OSError), ExitStack() as stack:
                # A workspace without a lock file was partially removed.
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


def write_npz(file: BinaryIO, arrays: Mapping[str, ArrayLike], *, compress: bool = False) -> None:
    """Write arrays in NumPy's .npz format; Ctrl-C raises only `KeyboardInterrupt`.

    Otherwise, Ctrl-C within zipfile may leave an archive that cannot be closed, with another error.

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
    """A file that can be set to refuse further writes."""

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
