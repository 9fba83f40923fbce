"""Files and directories that appear whole or not at all."""

import io
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when all has been written.

    It is written under a temporary name beside its place and renamed at the end. If anything is
    raised before, Ctrl-C included, a file that was there stays as it was.

    Parameters
    ----------
    path : path
        A symbolic link stays one. A pipe or a device is written to, not replaced.
    """
    target = os.path.realpath(path)  # a symbolic link stays one
    if os.path.exists(target) and not os.path.isfile(target):
        buffer = io.BytesIO()  # a zip archive is not written in order, as a pipe must be
        yield buffer
        with open(target, "wb") as file:  # a pipe or device must not be replaced
            file.write(buffer.getbuffer())
        return
    # Not from tempfile, which would make the file unreadable for others.
    part = os.path.join(os.path.dirname(target), f".fastmlp-{secrets.token_hex(8)}.part")
    try:
        file = open(part, "xb")
    except OSError as error:
        error.filename = os.fspath(path)  # the user knows this name, not the temporary one
        raise
    try:
        with file:
            yield file
        if os.path.exists(target):  # what the owner has made private stays so
            os.chmod(part, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(part, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


@contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
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
    staging = target / f".fastmlp-{secrets.token_hex(8)}.part"
    replaced = staging.with_suffix(".old")
    try:
        staging.mkdir()
        yield staging
        moves = [(old, replaced / old.name) for old in target.iterdir() if old != staging]
        moves += [(new, target / new.name) for new in staging.iterdir()]
        replaced.mkdir()
        try:
            for source, destination in moves:
                source.rename(destination)
        except BaseException:
            for source, destination in reversed(moves):
                if not source.exists():
                    destination.rename(source)
            replaced.rmdir()
            raise
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        if is_new:
            with suppress(OSError):
                target.rmdir()
        raise
    staging.rmdir()
    shutil.rmtree(replaced)
