"""Reading of .npz archives that may be damaged or hostile: no pickle, not larger than the file."""

import math
import os
import zipfile
from typing import IO

import numpy as np
from numpy.typing import NDArray


def read_npz(file: IO[bytes]) -> dict[str, NDArray]:
    """Return the arrays of an uncompressed archive.

    Parameters
    ----------
    file : seekable binary file object

    Returns
    -------
    arrays : dict of str to array

    Raises
    ------
    ValueError
        If the archive is damaged, or its arrays need pickle; the message begins with "it".
    zipfile.BadZipFile
        If it is no archive.
    """
    with zipfile.ZipFile(file) as archive:
        check_sizes(archive, file.seek(0, os.SEEK_END))
        return {
            member.filename.removesuffix(".npy"): read_array(archive, member)
            for member in archive.infolist()
        }


def check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive that is larger than its file, or does not begin at its start.

    A truncated file may end with an archive that was one of its members.
    """
    members = archive.infolist()
    if members and min(member.header_offset for member in members) != 0:
        raise ValueError("it is truncated, or has data before its arrays")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("its arrays are compressed, which fastmlp does not support")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its arrays are larger than the file")


def read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray:
    """Read one array, after checking its header against its length."""
    check_array_header(archive, member)
    with archive.open(member) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def check_array_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse an array whose header does not match its length."""
    with archive.open(member) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f"{member.filename} is not an array of fastmlp")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        n_bytes = math.prod(shape) * dtype.itemsize
        if dtype.itemsize == 0 or n_bytes != member.file_size - stream.tell():
            raise ValueError(
                f"{member.filename} does not have the length of {dtype} of shape {shape}"
            )
