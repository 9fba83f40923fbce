"""IDX files: read, write and memory-map, with error messages for damaged files.

A file is ``00 00 TT DD``, then DD sizes as big-endian uint32, then the elements in C order,
big-endian; TT is the element type, DD the number of dimensions
(http://yann.lecun.com/exdb/mnist). Files are usually gzipped.

Files can be damaged in many ways (an error page saved under the file's name, an interrupted
download, a header written by hand); each has its own message. Nothing is allocated before the sizes
in the header have been compared with the size of the file.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastmlp.idx import scaling
from fastmlp.utils.files import atomic_write

AnyPath: TypeAlias = str | os.PathLike

_TYPES: dict[int, np.dtype] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(np.int16),
    0x0C: np.dtype(np.int32),
    0x0D: np.dtype(np.float32),
    0x0E: np.dtype(np.float64),
}
_CODES = {dtype: code for code, dtype in _TYPES.items()}
_TYPE_NAMES = ", ".join(str(dtype) for dtype in _TYPES.values())

_MAX_DIMENSIONS = 32  # NumPy 1's limit; IDX allows 255
_MAX_SIZE = 2**32 - 1
# Bytes that are read and decoded at a time, to fit into the cache.
_CHUNK = 1 << 20
# Bytes of compressed data at a time; fewer than above, because zlib copies unused ones.
_GZIP_CHUNK = 1 << 16
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_LEVELS = 3
# A match takes at least 2 bits of compressed data and decodes to at most 258 bytes.
_GZIP_EXPANSION = 1032

_FETCH_AGAIN = "fetch it again"
# Other formats, by their first bytes, and the way out.
_FOREIGN = {
    b"<": ("an HTML page", _FETCH_AGAIN),
    b"version https://git-lfs": ("a Git LFS pointer", "fetch the file itself with 'git lfs pull'"),
    b"PK\x03\x04": ("a zip archive", "unpack it first"),
    b"\x93NUMPY": ("a NumPy .npy file", "read it with numpy.load"),
    b"\x89PNG": ("a PNG image", "name the IDX file instead"),
    b"\xfd7zXZ": ("an xz archive", "pass the file object lzma.open(path)"),
    b"BZh": ("a bzip2 archive", "pass the file object bz2.open(path)"),
    b"\x80": ("a Python pickle", "name the IDX file instead"),
}


class IDXError(ValueError):
    """The file is not IDX, is damaged, or the array cannot be stored as IDX."""


@dataclass(frozen=True)
class IDXInfo:
    """The header of an IDX file; `dtype` is in native byte order."""

    dtype: np.dtype
    shape: tuple[int, ...]
    compressed: bool

    @property
    def n_bytes(self) -> int:
        """Length of the decompressed payload in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def offset(self) -> int:
        """Offset of the payload in the decompressed file, in bytes."""
        return 4 + 4 * len(self.shape)

    @property
    def kind(self) -> Literal["images", "labels", "array"]:
        """The magic number: 2051 (uint8, three dimensions) for images, 2049 (one) for labels."""
        kinds: dict[int, Literal["images", "labels"]] = {3: "images", 1: "labels"}
        return kinds.get(len(self.shape), "array") if self.dtype == np.uint8 else "array"


def read(
    path_or_file: AnyPath | Any,
    *,
    mmap: bool = False,
    dtype: DTypeLike | None = None,
    scale: float = 1.0,
    shift: float = 0.0,
) -> NDArray:
    """Read an IDX file, raw or gzipped.

    Parameters
    ----------
    path_or_file : path or binary file object
        Gzip is detected by content, not by name. A file object needs only ``read``; it
        is read from its position to its end and not closed.
    mmap : bool
        Memory-map the file instead of reading it. Only for an uncompressed file given by its path.
    dtype : {None, "float32", "float64"} or the file's own type
        None is the file's own type. A uint8 file can be converted to floating point while it is
        read, without a copy of the bytes in memory.
    scale, shift : float
        The conversion is ``scale * byte + shift``, computed in `dtype`.

    Returns
    -------
    array : array of the file's shape
        Native byte order, C-contiguous and writeable; with `mmap`, a `numpy.memmap`, read-only and
        big-endian (if elements have more than one byte).

    Raises
    ------
    IDXError
        If the file is not IDX or is damaged.
    ValueError
        If `dtype`, `scale`, `shift` or `mmap` are invalid for the file.
    OSError
        If the file cannot be opened or read.

    Examples
    --------
    >>> import io
    >>> labels = io.BytesIO(bytes([0, 0, 8, 1, 0, 0, 0, 3]) + bytes([5, 0, 4]))
    >>> read(labels)
    array([5, 0, 4], dtype=uint8)
    """
    if mmap and not isinstance(path_or_file, AnyPath):
        raise ValueError("mmap=True needs the path of the file, got a file object: pass its path.")
    if mmap and (dtype is not None or (scale, shift) != (1.0, 0.0)):
        raise ValueError(
            "mmap=True returns the elements of the file unchanged, so dtype, scale and shift "
            f"must be omitted, got {dtype=}, {scale=}, {shift=}: convert the array afterwards."
        )
    with _open(path_or_file) as source:
        source, header = _read_header(source)
        if not mmap:
            out_dtype = _output_dtype(header.dtype, dtype, scale, shift)
            return _read_payload(source, header, out_dtype, scale, shift)
        if source.length is None:
            source.fail(
                "cannot be memory-mapped, because it is compressed: decompress it (gunzip "
                "or 'fastmlp data convert'), or read it with mmap=False."
            )
        dtype = header.dtype.newbyteorder(">")
        return np.memmap(source.name, dtype, "r", header.offset, header.shape)


def info(path_or_file: AnyPath | Any) -> IDXInfo:
    """Read the header of an IDX file, and compare it with the file's length.

    The length of gzipped content is known only after decompression, so it is not checked here, but
    in `read`.

    Parameters
    ----------
    path_or_file : path or binary file object
        As in `read`. From a file object, only the header is read.

    Returns
    -------
    info : IDXInfo

    Raises
    ------
    IDXError
        If the file is not IDX or is damaged.
    OSError
        If the file cannot be opened or read.

    Examples
    --------
    >>> import io
    >>> info(io.BytesIO(bytes([0, 0, 8, 1, 0, 0, 0, 3]) + bytes([5, 0, 4])))
    IDXInfo(dtype=dtype('uint8'), shape=(3,), compressed=False)
    """
    with _open(path_or_file) as source:
        return _read_header(source)[1]


def write(path_or_file: AnyPath | Any, array: ArrayLike, *, compress: bool | None = None) -> None:
    r"""Write an array as an IDX file.

    A file given by its path is written atomically: to a temporary file, which is then renamed.
    Equal arrays give equal files, also if gzipped.

    Parameters
    ----------
    path_or_file : path or buffered binary file object
        A file object is written at its position and not closed.
    array : array of uint8, int8, int16, int32, float32 or float64
        At most 32 dimensions. Any byte order and memory layout.
    compress : bool or None
        Whether to use gzip. None uses it if the path ends in ".gz".

    Raises
    ------
    IDXError
        If IDX does not support the type or the shape.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> write(file, np.array([5, 0, 4], dtype=np.uint8))
    >>> file.getvalue()
    b'\x00\x00\x08\x01\x00\x00\x00\x03\x05\x00\x04'
    """
    array = np.asarray(array)
    header = _make_header(array)
    if not isinstance(path_or_file, AnyPath):
        _encode(path_or_file, header, array, bool(compress))
        return
    if compress is None:
        compress = os.fsdecode(path_or_file).endswith(".gz")
    with atomic_write(path_or_file) as file:
        _encode(file, header, array, compress)


def _make_header(array: NDArray) -> bytes:
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        raise IDXError(
            f"IDX has the element types {_TYPE_NAMES}, got an array of {array.dtype}: "
            "convert it to one of these, for example with array.astype('int32')."
        )
    if array.ndim > _MAX_DIMENSIONS or max(array.shape, default=0) > _MAX_SIZE:
        raise IDXError(
            f"an IDX array must have at most {_MAX_DIMENSIONS} dimensions, each of size at most "
            f"{_MAX_SIZE}, got shape {array.shape}: reshape or split it."
        )
    return struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)


def _encode(file: Any, header: bytes, array: NDArray, compress: bool) -> None:
    if compress:  # no name and no time, so that equal arrays give equal files
        with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as stream:
            return _encode(stream, header, array, compress=False)
    file.write(header)
    flat = np.ascontiguousarray(array).reshape(-1)
    step = _CHUNK // flat.itemsize
    for start in range(0, flat.size, step):
        elements = flat[start : start + step].astype(flat.dtype.newbyteorder(">"), copy=False)
        file.write(elements.view(np.uint8).data)


class _Source:
    """A sequential reader of an uncompressed file, with bounds on its length."""

    depth = 0  # how many times the bytes were gzipped
    cut = False  # whether a gzip stream was truncated

    def __init__(self, name: str, file: Any, length: int | None) -> None:
        self.name = name
        self.file = file
        self.length = length  # None if not known before reading
        self.ceiling = length  # maximum number of bytes; None if unknown

    def fill(self, view: memoryview) -> int:
        """Read bytes into the beginning of `view`; return their number, 0 only at the end."""
        if hasattr(self.file, "readinto"):
            return self.file.readinto(view) or 0
        data = self.file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readinto(self, view: memoryview) -> int:
        """Fill `view` as far as possible; return the number of bytes."""
        done = 0
        while done < len(view) and (count := self.fill(view[done:])):
            done += count
        return done

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer only at the end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def skip(self, most: int) -> int:
        """Skip up to `most` bytes; return their number."""
        scratch = memoryview(bytearray(min(most, _CHUNK)))
        done = 0
        while done < most and (count := self.fill(scratch[: most - done])):
            done += count
        return done

    def fail(self, what: str) -> NoReturn:
        raise IDXError(f"{self.name} {what}")


class _Inflated(_Source):
    """The content of a gzip stream with any number of members, each followed by zeros."""

    def __init__(self, outer: _Source, head: bytes) -> None:
        length = outer.length
        self.name = outer.name
        self.length = None
        self.ceiling = None if length is None else length * _GZIP_EXPANSION
        self.depth = outer.depth + 1
        self._outer = outer
        self._input = head
        self._member = zlib.decompressobj(wbits=31)

    def fill(self, view: memoryview) -> int:
        while True:
            if self._member.eof:
                self._input = self._input.lstrip(b"\0")
                if self._input:
                    if not self._input.startswith(_GZIP_MAGIC[:1]):
                        self.fail(
                            "has bytes after its gzip stream that are not gzip "
                            f"({self._input[:16]!r}): {_FETCH_AGAIN}."
                        )
                    self._member = zlib.decompressobj(wbits=31)
            if not self._member.eof:
                try:
                    data = self._member.decompress(self._input, len(view))
                except zlib.error as error:
                    self.fail(f"is a corrupted gzip file ({error}): {_FETCH_AGAIN}.")
                self._input = self._member.unused_data or self._member.unconsumed_tail
                if data:
                    view[: len(data)] = data
                    return len(data)
            if not self._input:
                self._input = self._outer.read(_GZIP_CHUNK)
                if not self._input:
                    self.cut = self._outer.cut or not self._member.eof
                    return 0


@contextmanager
def _open(path_or_file: AnyPath | Any) -> Iterator[_Source]:
    if isinstance(path_or_file, AnyPath):
        name = os.fsdecode(path_or_file)
        with open(name, "rb", buffering=0) as file:
            yield _Source(name, file, _length(file))
    elif hasattr(path_or_file, "read") and not isinstance(path_or_file, io.TextIOBase):
        yield _Source("<stream>", path_or_file, _length(path_or_file))
    else:
        raise TypeError(
            "path_or_file must be a path or a file object opened in binary mode, "
            f"got {type(path_or_file).__name__}."
        )


def _length(file: Any) -> int | None:
    """Return the number of remaining bytes of `file`, None if it would have to be read."""
    plain = (io.FileIO, io.BufferedReader, io.BufferedRandom, io.BytesIO)
    if not (isinstance(file, plain) and file.seekable()):
        return None
    position = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(position)
    return max(end - position, 0)


def _read_header(source: _Source) -> tuple[_Source, IDXInfo]:
    """Read and check the header; return it and the reader of the payload, which decompresses it."""
    magic = source.read(4)
    while magic[:2] == _GZIP_MAGIC:
        if source.depth == _GZIP_LEVELS:
            source.fail(
                f"is gzipped more than {_GZIP_LEVELS} times: decompress it with gunzip first."
            )
        source = _Inflated(source, magic)
        magic = source.read(4)
    if not magic and not source.cut:
        source.fail(
            f"is empty (0 bytes), IDX begins with a header of 4 bytes or more: {_FETCH_AGAIN}."
        )
    if magic[:2].strip(b"\0"):
        _refuse_foreign(source, magic)
    sizes = b""
    if len(magic) == 4:
        code, n_dimensions = magic[2:]
        if code not in _TYPES:
            known = ", ".join(f"0x{code:02x} {dtype}" for code, dtype in _TYPES.items())
            source.fail(f"has the unknown type byte 0x{code:02x}, IDX has {known}: {_FETCH_AGAIN}.")
        if n_dimensions > _MAX_DIMENSIONS:
            source.fail(
                f"has {n_dimensions} dimensions, at most {_MAX_DIMENSIONS} are supported: "
                f"{_FETCH_AGAIN}, or reshape the array where it was written."
            )
        sizes = source.read(4 * n_dimensions)
    if len(magic) < 4 or len(sizes) < 4 * n_dimensions:
        needed = 4 if len(magic) < 4 else 4 + 4 * n_dimensions
        source.fail(
            f"ends in its header, after {len(magic + sizes)} of {needed} bytes"
            f"{' (its gzip stream is truncated)' * source.cut}: {_FETCH_AGAIN}."
        )
    header = IDXInfo(_TYPES[code], struct.unpack(f">{n_dimensions}I", sizes), source.depth > 0)
    _check_sizes(source, header)
    return source, header


def _refuse_foreign(source: _Source, magic: bytes) -> NoReturn:
    """Raise the error for a file that does not begin with two zero bytes."""
    if magic[2:] == b"\0\0" and magic[0] <= _MAX_DIMENSIONS and magic[1] in _TYPES:
        source.fail(
            f"has a little-endian header (it begins with {magic.hex(' ')}), that of IDX is "
            "big-endian: write it again with fastmlp.idx.write."
        )
    head = (magic + source.read(60)).removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, (what, way_out) in _FOREIGN.items():
        if head.startswith(start):
            source.fail(f"is {what} (it begins with {head[:16]!r}), not IDX: {way_out}.")
    source.fail(
        "is not IDX, which begins with two zero bytes, the type and the number of dimensions, "
        f"got {magic.hex(' ')}: use the IDX file instead, or {_FETCH_AGAIN}."
    )


def _check_sizes(source: _Source, header: IDXInfo) -> None:
    """Compare the header with the size of the file, before anything is allocated."""
    length = None if source.length is None else source.length - header.offset
    ceiling = sys.maxsize if source.ceiling is None else source.ceiling - header.offset
    if length in (None, header.n_bytes) and header.n_bytes <= ceiling and not _too_large(header):
        return
    if length is None and source.ceiling is not None:
        # Decompress only as much as needed to choose between the explanations.
        expected = _byteswapped(header).n_bytes
        if expected <= ceiling and source.skip(expected + 1) == expected:
            length = expected
    _fail_sizes(source, header, length)


def _too_large(header: IDXInfo) -> bool:
    # NumPy multiplies the nonzero sizes even if one is 0; the result may be float64.
    return 8 * math.prod(size for size in header.shape if size) > sys.maxsize


def _byteswapped(header: IDXInfo) -> IDXInfo:
    """Return the header with its sizes read as little-endian."""
    shape = np.array(header.shape, dtype=">u4").view("<u4").tolist()
    return IDXInfo(header.dtype, tuple(shape), header.compressed)


def _fail_sizes(source: _Source, header: IDXInfo, length: int | None) -> NoReturn:
    """Raise the error for a payload of `length` bytes (None if unknown) that does not match."""
    needed = header.n_bytes
    array = f"shape {header.shape} of {header.dtype}"
    swapped = _byteswapped(header)
    if length == swapped.n_bytes != needed:
        source.fail(
            f"has sizes that look byte-swapped ({swapped.shape[0]} was written as "
            f"{header.shape[0]}), those of IDX are big-endian: write it again with "
            "fastmlp.idx.write."
        )
    if _too_large(header):
        source.fail(f"has a header of {array}, more than any array can hold: {_FETCH_AGAIN}.")
    if length is None:
        source.fail(
            f"has a header of {array}, {needed} bytes, but a gzip file of this size holds at most "
            f"{source.ceiling}: {_FETCH_AGAIN}."
        )
    if length < needed:
        source.fail(
            f"is truncated, its payload ends after {max(length, 0)} of {needed} bytes ({array})"
            f"{' where its gzip stream is truncated' * source.cut}: {_FETCH_AGAIN}."
        )
    extra = length - needed
    at_least = "at least " * (source.length is None and extra == _CHUNK)
    source.fail(
        f"has {at_least}{extra} bytes after its payload, which must end after {needed} "
        f"bytes ({array}): {_FETCH_AGAIN}."
    )


def _output_dtype(own: np.dtype, dtype: DTypeLike | None, scale: float, shift: float) -> np.dtype:
    """Return the dtype of the result for a file of type `own`."""
    wanted = own if dtype is None else np.dtype(dtype)
    if wanted == own:
        if (scale, shift) != (1.0, 0.0):
            raise ValueError(
                "scale and shift need a file of uint8 and dtype='float32' or 'float64', got a file "
                f"of {own} and {dtype=}: scale the array afterwards."
            )
    elif own != np.uint8 or wanted not in (np.float32, np.float64):
        raise ValueError(
            f"dtype must be None or {own}, the file's own type (or float32 or float64 if that is "
            f"uint8), got {wanted}: convert the array afterwards."
        )
    return wanted


def _read_payload(
    source: _Source, header: IDXInfo, dtype: np.dtype, scale: float, shift: float
) -> NDArray:
    """Read the elements into a new array, in chunks, and check that the file ends there."""
    count = math.prod(header.shape)
    stored = header.dtype.newbyteorder(">")
    in_place = dtype == header.dtype
    scale_bytes = None if (scale, shift) == (1.0, 0.0) else scaling.kernel_for(count)
    step = _CHUNK // dtype.itemsize
    # If the length is unknown, the array grows while reading.
    out = np.empty(min(count, step) if source.ceiling is None else count, dtype)
    scratch = np.empty(0 if in_place else min(count, step), stored)
    done = 0
    while done < count:
        if done == len(out):
            grown = np.empty(min(count, 2 * done), dtype)
            grown[:done] = out
            out = grown
        part = out[done : done + step]
        payload = part.view(stored) if in_place else scratch[: len(part)]
        n_bytes = source.readinto(payload.view(np.uint8).data)
        if n_bytes < payload.nbytes:
            _fail_sizes(source, header, done * stored.itemsize + n_bytes)
        if scale_bytes is not None:
            scale_bytes(payload, scale, shift, part)
        elif dtype != stored:
            part[...] = payload  # NumPy's byte swap and conversion is as fast as a kernel
        done += len(part)
    if source.length is None:  # otherwise checked by _check_sizes
        if extra := source.skip(_CHUNK):
            _fail_sizes(source, header, header.n_bytes + extra)
        if source.cut:
            source.fail(f"is truncated, its gzip stream ends within its checksum: {_FETCH_AGAIN}.")
    return out.reshape(header.shape)
