"""Files that appear whole or not at all."""

import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
