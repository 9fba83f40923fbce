"""Tests of fastmlp.idx against an encoder and a decoder written with struct alone."""

import gzip
import importlib
import io
import math
import os
import pickle
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import tracemalloc
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp import idx
from fastmlp.idx import format, scaling

# ---------------------------------------------------------------------------
# The oracle: elements as unsigned integers of the same bits, so that NaN counts too

CODES = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


def encode(dtype, shape, bits):
    """Return the IDX file of elements with these bits."""
    letter = UNSIGNED[np.dtype(dtype).itemsize]
    header = struct.pack(f">4B{len(shape)}I", 0, 0, CODES[dtype], len(shape), *shape)
    return header + struct.pack(f">{len(bits)}{letter}", *bits)


def decode(data):
    """Return (dtype, shape, bits) of an IDX file, raw or gzipped, or None if it is malformed."""
    while data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except Exception:
            return None
    names = {code: dtype for dtype, code in CODES.items()}
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in names or data[3] > 32:
        return None
    n_dimensions, dtype = data[3], names[data[2]]
    if len(data) < 4 + 4 * n_dimensions:
        return None
    shape = struct.unpack_from(f">{n_dimensions}I", data, 4)
    itemsize = np.dtype(dtype).itemsize
    count = math.prod(shape)
    if len(data) != 4 + 4 * n_dimensions + count * itemsize:
        return None
    if 8 * math.prod(size or 1 for size in shape) > sys.maxsize:  # NumPy's limit, even if empty
        return None
    return (
        dtype,
        shape,
        struct.unpack_from(f">{count}{UNSIGNED[itemsize]}", data, len(data) - count * itemsize),
    )


def bits_of(array):
    array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).reshape(-1)
    return tuple(array.view(UNSIGNED[array.itemsize]).tolist())


def example(dtype, shape=(3, 5)):
    count = math.prod(shape)
    array = np.frombuffer(np.random.default_rng(0).bytes(count * np.dtype(dtype).itemsize), dtype)
    return array.reshape(shape)


class Stream:
    """A file object with nothing but `read`, which hands out at most `most` bytes at a time."""

    def __init__(self, data, most=sys.maxsize):
        self._file = io.BytesIO(data)
        self._most = most

    def read(self, size):
        return self._file.read(min(size, self._most))


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


IMAGES = encode("uint8", (2, 28, 28), [n % 251 for n in range(1568)])
LABELS = encode("uint8", (300,), [n % 10 for n in range(300)])


# ---------------------------------------------------------------------------
# Reading and writing what is well-formed

SHAPES = [(), (0,), (1,), (300,), (3, 0, 2), (2, 3, 4, 5), (1,) * 32]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", CODES)
def test_every_type_and_shape(dtype, shape, tmp_path):
    array = example(dtype, shape)
    data = encode(dtype, shape, bits_of(array))
    path = tmp_path / "file"
    idx.write(path, array)
    assert path.read_bytes() == data

    result = idx.read(path)
    assert result.dtype == np.dtype(dtype) and result.dtype.isnative
    assert result.shape == shape and result.flags.c_contiguous and result.flags.writeable
    assert bits_of(result) == bits_of(array)

    mapped = idx.read(path, mmap=True)
    assert mapped.dtype == np.dtype(dtype).newbyteorder(">") and type(mapped) is np.memmap
    assert mapped.shape == shape and bits_of(mapped) == bits_of(array)

    info = idx.info(path)
    assert (info.dtype, info.shape, info.compressed) == (np.dtype(dtype), shape, False)
    assert (info.n_bytes, info.offset) == (array.nbytes, len(data) - array.nbytes)


LAYOUTS = {
    "read-only": lambda a: a,
    "Fortran": lambda a: np.array(a, order="F"),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, a.size, 1).reshape(a.shape),
}


@st.composite
def arrays(draw):
    dtype = np.dtype(draw(st.sampled_from(list(CODES))))
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=4)))
    n_bytes = math.prod(shape) * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=n_bytes, max_size=n_bytes)), dtype).reshape(shape)


@settings(deadline=None)
@given(
    array=arrays(),
    layout=st.sampled_from(list(LAYOUTS)),
    compress=st.booleans(),
    source=st.sampled_from(["str", "PathLike", "file", "BytesIO", "stream", "slow stream"]),
    chunk=st.sampled_from([16, 64, format._CHUNK]),
    gzip_chunk=st.sampled_from([1, 7, format._GZIP_CHUNK]),
)
def test_round_trip(folder, array, layout, compress, source, chunk, gzip_chunk):
    given_array = LAYOUTS[layout](array)
    path = folder / ("round.gz" if compress else "round")
    with mock.patch.multiple(format, _CHUNK=chunk, _GZIP_CHUNK=gzip_chunk):
        idx.write(path, given_array)
        assert bits_of(given_array) == bits_of(array)
        data = path.read_bytes()
        expected = array.dtype.name, array.shape, bits_of(array)
        assert decode(data) == expected
        if source == "file":
            with open(path, "rb") as file:
                result = idx.read(file)
                assert not file.closed
        else:
            argument = {
                "str": str(path),
                "PathLike": path,
                "BytesIO": io.BytesIO(data),
                "stream": Stream(data),
                "slow stream": Stream(data, 3),
            }[source]
            result = idx.read(argument)
    assert (result.dtype.name, result.shape, bits_of(result)) == expected


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("kind", ["raw", "gz", "stream"])
def test_more_than_one_chunk(dtype, kind, tmp_path):
    array = example(dtype, (2 * format._CHUNK // np.dtype(dtype).itemsize + 7,))
    path = tmp_path / f"file.{kind}"
    idx.write(path, array)
    result = idx.read(Stream(path.read_bytes()) if kind == "stream" else path)
    assert result.tobytes() == array.tobytes()


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float64", 1e-15)])
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_conversion_while_reading(dtype, rtol, name, tmp_path):
    array = example("uint8", (3, 700, 701))
    path = tmp_path / name
    idx.write(path, array)
    result = idx.read(path, dtype=dtype)
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, array)
    result = idx.read(path, dtype=dtype, scale=1 / 255, shift=-0.5)
    np.testing.assert_allclose(result, array / 255 - 0.5, rtol=rtol, atol=rtol)


def test_conversion_of_every_byte():
    data = encode("uint8", (256,), range(256))
    result = idx.read(Stream(data), dtype=np.float32, scale=0.5, shift=2)
    assert result.tolist() == [0.5 * n + 2 for n in range(256)]


def kernel(name):
    """Return a kernel by the name of its module."""
    if name == "_scaling" and scaling._built is None:
        pytest.skip("it was not built")
    return importlib.import_module(f"fastmlp.idx.{name}").scale_bytes


@pytest.mark.parametrize("name", ["_scaling", "scaling_numba", "scaling"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("scale", "shift"), [(1 / 255, 0), (1 / 255, -0.5), (-3, 0.1), (1, 7)])
def test_kernels_agree_in_every_bit(name, dtype, scale, shift):
    """The product and the sum are rounded, each to the dtype of the result."""
    scale_bytes = kernel(name)
    payload = np.random.RandomState(0).randint(0, 256, 1001).astype(np.uint8)
    payload[:256] = range(256)
    number = np.dtype(dtype).type
    expected = payload.astype(dtype) * number(scale) + number(shift)
    for n in (0, 1, 7, 64, 1001):
        out = np.full(1001, np.nan, dtype)
        scale_bytes(payload[:n], scale, shift, out[:n])
        assert out[:n].tobytes() == expected[:n].tobytes()
        assert np.isnan(out[n:]).all()


def test_which_kernel_is_used(monkeypatch):
    """The compiled one if there is one; else NumPy, and Numba where loading it pays."""
    if scaling._built is not None:
        assert scaling.kernel_for(0) is scaling.kernel_for(1 << 40) is kernel("_scaling")
    monkeypatch.setattr(scaling, "_built", None)
    assert scaling.kernel_for(1 << 20) is kernel("scaling")
    assert scaling.kernel_for(1 << 40) is kernel("scaling_numba")
    monkeypatch.setitem(sys.modules, "fastmlp.idx.scaling_numba", None)  # as without Numba
    assert scaling.kernel_for(1 << 40) is kernel("scaling")


def test_reading_needs_neither_compiler_nor_numba(tmp_path):
    (tmp_path / "images").write_bytes(IMAGES)
    code = f"""
        import sys
        sys.modules["fastmlp.idx._scaling"] = None  # as where it was not built
        from fastmlp import idx
        path = {str(tmp_path / "images")!r}
        print(idx.read(path, dtype="float32", scale=0.5, shift=1).sum(), "numba" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(0.5 * sum(decode(IMAGES)[2]) + 1568), "False"]


@pytest.mark.parametrize("dtype", CODES)
def test_own_type_may_be_named(dtype):
    array = example(dtype)
    data = encode(dtype, array.shape, bits_of(array))
    assert idx.read(io.BytesIO(data), dtype=dtype).tobytes() == array.tobytes()


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_gzip_is_recognised_by_content(levels, tmp_path):
    data = IMAGES
    for _ in range(levels):
        data = gzip.compress(data)
    path = tmp_path / "no-suffix"
    path.write_bytes(data)
    for source in (path, io.BytesIO(data), Stream(data, 5)):
        assert bits_of(idx.read(source)) == decode(IMAGES)[2]
    assert idx.info(path).compressed and idx.info(path).kind == "images"


def test_raw_file_named_gz(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(IMAGES)
    assert bits_of(idx.read(path)) == decode(IMAGES)[2]


@pytest.mark.parametrize("cut", [2, 4, 10, 100, len(IMAGES)])
@pytest.mark.parametrize("padding", [0, 1, 100_000])
def test_gzip_members_and_padding(cut, padding):
    zeros = bytes(padding)
    data = gzip.compress(IMAGES[:cut]) + zeros + gzip.compress(IMAGES[cut:]) + zeros
    assert bits_of(idx.read(io.BytesIO(data))) == decode(IMAGES)[2]


def test_file_object_is_read_from_its_position(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(b"before" + LABELS)
    with open(path, "rb") as file:
        file.seek(6)
        assert bits_of(idx.read(file)) == decode(LABELS)[2]
    with open(path, "rb") as file:
        file.seek(6)
        assert idx.info(file).shape == (300,)


def test_pipe():
    images = example("int16", (300, 28, 28))
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "wb") as writer:

        def send():
            idx.write(writer, images, compress=True)
            writer.close()

        thread = threading.Thread(target=send)
        thread.start()
        result = idx.read(reader)
        thread.join()
    assert result.tobytes() == images.tobytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_is_written_and_stays(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    images = example("uint8", (300, 28, 28))
    thread = threading.Thread(target=idx.write, args=(path, images))
    thread.start()
    assert idx.read(path).tobytes() == images.tobytes()
    thread.join()
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize(
    ("dtype", "shape", "kind"),
    [
        ("uint8", (2, 28, 28), "images"),
        ("uint8", (300,), "labels"),
        ("uint8", (), "array"),
        ("uint8", (2, 8), "array"),
        ("uint8", (2, 4, 4, 3), "array"),
        ("int32", (2, 8), "array"),
        ("int8", (2,), "array"),
        ("float32", (2, 28, 28), "array"),
    ],
)
def test_kind(dtype, shape, kind):
    array = example(dtype, shape)
    assert idx.info(Stream(encode(dtype, shape, bits_of(array)))).kind == kind


# ---------------------------------------------------------------------------
# Memory-maps


def test_mmap_is_read_only_and_no_copy(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(IMAGES)
    mapped = idx.read(path, mmap=True)
    with pytest.raises(ValueError, match="read-only"):
        mapped[0, 0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        mapped.setflags(write=True)
    with open(path, "r+b") as file:
        file.seek(16)
        file.write(b"\xee")
    assert mapped[0, 0, 0] == 0xEE


@pytest.mark.parametrize("name", ["images.gz", "images"])
def test_mmap_of_gzip(name, tmp_path):
    path = tmp_path / name
    idx.write(path, example("uint8"), compress=True)
    with pytest.raises(idx.IDXError, match="cannot be memory-mapped.*decompress it.*data convert"):
        idx.read(path, mmap=True)


def test_mmap_of_file_object():
    with pytest.raises(ValueError, match="mmap=True needs the path of the file, got a file object"):
        idx.read(io.BytesIO(IMAGES), mmap=True)


@pytest.mark.parametrize("arguments", [{"dtype": "float32"}, {"scale": 2}, {"shift": 1}])
def test_mmap_does_not_convert(arguments, tmp_path):
    path = tmp_path / "images"
    path.write_bytes(IMAGES)
    with pytest.raises(ValueError, match="dtype, scale and shift must be omitted"):
        idx.read(path, mmap=True, **arguments)


# ---------------------------------------------------------------------------
# Malformed files, each with its own words


def header(code, *sizes):
    return struct.pack(f">4B{len(sizes)}I", 0, 0, code, len(sizes), *sizes)


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("train-images-idx3-ubyte", IMAGES)
    return file.getvalue()


def saved(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


HTML = b"<!DOCTYPE html>\n<html><body>403 Forbidden</body></html>\n"
GZ = gzip.compress(IMAGES, mtime=0)

MALFORMED = {
    "html": (HTML, "is an HTML page .it begins with b'<!DOCTYPE.*not IDX: fetch it again"),
    "html lower case": (b"<html>..", "is an HTML page .it begins with b'<html>"),
    "html after newlines": (b"\n\n" + HTML, "is an HTML page"),
    "html after a byte order mark": (b"\xef\xbb\xbf" + HTML, "is an HTML page"),
    "html gzipped": (gzip.compress(HTML), "is an HTML page"),
    "Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "zip": (zipped(), "is a zip archive .*unpack it first"),
    "npy": (saved(example("uint8")), "is a NumPy .npy file .*numpy.load"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(20), "is a PNG image"),
    "xz": (b"\xfd7zXZ\0\0\x04", "is an xz archive .*lzma.open"),
    "bzip2": (b"BZh91AY&SY", "is a bzip2 archive .*bz2.open"),
    "pickle": (pickle.dumps([1, 2, 3], 4), "is a Python pickle"),
    "other": (b"\x01\x02\x03\x04data", "is not IDX, which begins with two zero.*got 01 02 03 04"),
    "one wrong byte": (b"\x01", "is not IDX.*got 01:"),
    "empty": (b"", "is empty .0 bytes., .*4 bytes or more"),
    "gzip of nothing": (gzip.compress(b""), "is empty .0 bytes., "),
    "3 bytes": (b"\0\0\x08", "ends in its header, after 3 of 4 bytes: fetch"),
    "header cut": (IMAGES[:13], "ends in its header, after 13 of 16 bytes: fetch"),
    "header cut in gzip": (
        gzip.compress(IMAGES[:13]),
        "ends in its header, after 13 of 16 bytes: ",
    ),
    "gzip cut in header": (GZ[:11], "header, after 0 of 4 bytes .its gzip stream is truncated.: "),
    "gzip magic alone": (GZ[:2], "header, after 0 of 4 bytes .its gzip stream is truncated.: "),
    "payload cut": (
        IMAGES[:-5],
        r"truncated, .*after 1563 of 1568 bytes \(shape \(2, 28, 28\) of u",
    ),
    "payload missing": (IMAGES[:16], "truncated, its payload ends after 0 of 1568 bytes"),
    "payload cut in an element": (header(14, 3) + bytes(17), "ends after 17 of 24 bytes"),
    "payload short in gzip": (
        gzip.compress(IMAGES[:-5]),
        r"after 1563 of 1568 bytes .*uint8\): fet",
    ),
    "gzip cut": (GZ[:200], r"ends after \d+ of 1568 .* where its gzip stream is truncated: fetch"),
    "gzip cut in checksum": (GZ[:-3], "truncated, its gzip stream ends within its checksum: fetch"),
    "gzip checksum": (
        GZ[:-8] + b"\0\0\0\0" + GZ[-4:],
        "corrupted gzip file .*incorrect data check",
    ),
    "gzip length": (GZ[:-4] + b"\0\0\0\0", "corrupted gzip file .*incorrect length check"),
    "gzip method": (b"\x1f\x8b\x07" + GZ[3:], "corrupted gzip file .*unknown compression method"),
    "gzip followed by text": (
        GZ + b"the end",
        "has bytes after its gzip stream that are not gzip .b'the end'",
    ),
    "too often gzipped": (
        gzip.compress(gzip.compress(gzip.compress(GZ))),
        "is gzipped more than 3 times: decompress it",
    ),
    "trailing byte": (
        IMAGES + b"\0",
        r"has 1 bytes after its payload, which must end .* 1568 bytes",
    ),
    "trailing bytes": (LABELS * 2, "has 308 bytes after its payload"),
    "trailing bytes in gzip": (gzip.compress(LABELS * 2), "has 308 bytes after its payload"),
    "trailing, too many to count": (
        gzip.compress(LABELS + bytes(3 << 20)),
        "has at least 1048576 bytes after its payload",
    ),
    "trailing after a scalar": (header(8) + b"\x05\x06", "has 1 bytes after"),
    "type 0x0a": (
        header(0x0A, 1) + b"\0",
        "unknown type byte 0x0a, IDX has 0x08 uint8, .* 0x0e float",
    ),
    "zeros": (bytes(100), "unknown type byte 0x00"),
    "33 dimensions": (header(8, *[1] * 33) + b"\0", "has 33 dimensions, at most 32"),
    "255 dimensions": (b"\0\0\x08\xff" + bytes(4), "has 255 dimensions, at most 32"),
    "huge sizes": (header(8, *[2**32 - 1] * 3) + bytes(9), "more than any array can hold"),
    "huge sizes, one of them 0": (header(8, 0, *[2**32 - 1] * 3), "more than any array can hold"),
    "huge sizes in gzip": (gzip.compress(header(8, *[2**32 - 1] * 32)), "more than any array can"),
    "one large size": (header(8, 2**32 - 1) + bytes(9), "ends after 9 of 4294967295 bytes"),
    "one large size in gzip": (
        gzip.compress(header(8, 2**32 - 1) + bytes(9)),
        "header of shape .4294967295,. of uint8, 4294967295 bytes, but a gzip file of this size",
    ),
    "sizes swapped": (
        b"\0\0\x08\x03" + struct.pack("<3I", 2, 28, 28) + IMAGES[16:],
        r"sizes that look byte-swapped \(2 was written as 33554432\).*fastmlp.idx.write",
    ),
    "size swapped, of int32": (
        b"\0\0\x0c\x01" + struct.pack("<I", 28) + bytes(112),
        r"byte-swapped \(28 was written as 469762048\)",
    ),
    "sizes swapped in gzip": (
        gzip.compress(b"\0\0\x08\x03" + struct.pack("<3I", 2, 28, 28) + IMAGES[16:]),
        r"byte-swapped \(2 was written as 33554432\)",
    ),
    "sizes swapped, but not fitting": (
        b"\0\0\x08\x01" + struct.pack("<I", 28) + bytes(27),
        "truncated, its payload ends after 27 of 469762048 bytes",
    ),
    "little-endian header": (
        struct.pack("<4I", 0x00000803, 2, 28, 28) + IMAGES[16:],
        r"has a little-endian header \(it begins with 03 08 00 00\)",
    ),
}


@pytest.mark.parametrize(("data", "match"), MALFORMED.values(), ids=MALFORMED)
def test_malformed(data, match, tmp_path):
    path = tmp_path / "train-images.gz"
    path.write_bytes(data)
    with pytest.raises(idx.IDXError, match=match) as caught:
        idx.read(path)
    assert isinstance(caught.value, ValueError) and str(caught.value).startswith(f"{path} ")
    assert "delete" not in str(caught.value)  # whose file it is, is not known here
    with pytest.raises(idx.IDXError, match=match) as caught:
        idx.read(io.BytesIO(data))
    assert str(caught.value).startswith("<stream> ")
    for stream in (Stream(data), Stream(data, 1)):
        with pytest.raises(idx.IDXError, match="^<stream> "):
            idx.read(stream)
    with pytest.raises(idx.IDXError):
        idx.read(path, mmap=True)


@pytest.mark.parametrize("case", ["payload cut", "trailing byte", "html", "sizes swapped"])
def test_info_checks_the_length(case, tmp_path):
    data, match = MALFORMED[case]
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(idx.IDXError, match=match):
        idx.info(path)


def test_endless_stream():
    class Endless:
        def read(self, size):
            return bytes(size)

    class Tail(Stream):
        def read(self, size):
            return super().read(size) or bytes(size)

    with pytest.raises(idx.IDXError, match="unknown type byte 0x00"):
        idx.read(Endless())
    with pytest.raises(idx.IDXError, match="at least 1048576 bytes after its payload"):
        idx.read(Tail(LABELS))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        idx.read(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        idx.info(tmp_path)


@pytest.mark.parametrize("source", [io.StringIO("text"), 3, None, IMAGES], ids=type)
def test_neither_path_nor_binary_file(source):
    with pytest.raises(TypeError, match=f"binary mode, got {type(source).__name__}"):
        idx.read(source)


@pytest.mark.parametrize(
    ("dtype", "arguments", "match"),
    [
        ("uint8", {"dtype": "int32"}, "dtype must be None or uint8, .* got int32"),
        ("uint8", {"dtype": ">f4"}, "dtype must be None or uint8, .* got >f4"),
        ("float32", {"dtype": "float64"}, "dtype must be None or float32, .* got float64"),
        ("int16", {"dtype": "float32"}, "dtype must be None or int16, .* got float32"),
        ("uint8", {"scale": 0.5}, "scale and shift need a file of uint8 and dtype="),
        (
            "float32",
            {"shift": 0.5},
            "scale and shift need a file of uint8 .* got a file of float32",
        ),
        ("float32", {"dtype": "float32", "scale": 2}, "scale and shift need a file of uint8"),
    ],
)
def test_impossible_conversion(dtype, arguments, match):
    array = example(dtype)
    with pytest.raises(ValueError, match=match):
        idx.read(io.BytesIO(encode(dtype, array.shape, bits_of(array))), **arguments)


# ---------------------------------------------------------------------------
# Anything else that can come: a correct array or IDXError, in bounded memory

mutations = st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), max_size=4)
small_files = arrays().map(lambda a: encode(a.dtype.name, a.shape, bits_of(a)))
sizes = st.sampled_from([0, 1, 2, 3, 28, 255, 2**16, 2**24, 2**31, 2**32 - 1, 28 << 24])


@st.composite
def invented_files(draw):
    code = draw(st.sampled_from([*CODES.values(), 0x0A]))
    return header(code, *draw(st.lists(sizes, max_size=5))) + draw(st.binary(max_size=64))


@st.composite
def mutated(draw, files):
    data = bytearray(draw(files))
    for position, value in draw(mutations):
        if data:
            data[position % len(data)] = value
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data) + draw(st.sampled_from([b"", b"\0", b"\0\0\0tail"]))


def read_or_refuse(source, bound):
    """Return the array or None for IDXError; the peak of memory must stay below `bound`."""
    with mock.patch.multiple(format, _CHUNK=4096, _GZIP_CHUNK=4096):
        tracemalloc.start()
        try:
            return idx.read(source)
        except idx.IDXError:
            return None
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < bound


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(data=st.one_of(mutated(small_files), mutated(invented_files()), st.binary(max_size=200)))
def test_any_raw_bytes(folder, data):
    path = folder / "any"
    path.write_bytes(data)
    expected = decode(data)
    for source in (path, io.BytesIO(data), Stream(data)):
        result = read_or_refuse(source, 128 * 1024 + 8 * len(data))
        got = None if result is None else (result.dtype.name, result.shape, bits_of(result))
        assert got == expected


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(
    data=st.one_of(
        mutated(st.one_of(small_files, invented_files()).map(gzip.compress)),
        mutated(small_files.map(gzip.compress).map(gzip.compress)),
        mutated(mutated(invented_files()).map(gzip.compress)),
        st.binary(max_size=200).map(lambda tail: GZ[:10] + tail),
        st.binary(max_size=200).map(gzip.compress),
    )
)
def test_any_gzipped_bytes(folder, data):
    path = folder / "any"
    path.write_bytes(data)
    for source in (path, io.BytesIO(data), Stream(data)):
        result = read_or_refuse(source, 256 * 1024 + 1032 * len(data))
        if result is not None:  # zlib checks more of gzip's header than the oracle
            assert (result.dtype.name, result.shape, bits_of(result)) == decode(data)


def peak_of(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "dtype", "arguments", "times"),
    [
        ("raw", "uint8", {}, 1),
        ("raw", "float64", {}, 1),
        ("gz", "uint8", {}, 1),
        ("raw", "uint8", {"dtype": "float32"}, 4),
        ("gz", "uint8", {"dtype": "float32", "scale": 0.5}, 4),
        ("raw", "uint8", {"mmap": True}, 0),
    ],
)
def test_peak_memory(name, dtype, arguments, times, tmp_path):
    n_bytes = 16 << 20
    path = tmp_path / f"file.{name}"
    idx.write(path, np.zeros(n_bytes // np.dtype(dtype).itemsize, dtype))
    assert peak_of(lambda: idx.read(path, **arguments)) < times * n_bytes + 5 * format._CHUNK


def test_gzip_bomb_is_not_allocated(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(header(8, 2**31) + bytes(1 << 20)))
    with pytest.raises(idx.IDXError, match="a gzip file of this size"):
        assert peak_of(lambda: idx.read(path)) < 4 * format._CHUNK


# ---------------------------------------------------------------------------
# Writing


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, np.int64),
        np.zeros(3, bool),
        np.zeros(3, np.uint16),
        np.zeros(3, np.uint32),
        np.zeros(3, np.float16),
        np.zeros(3, np.longdouble),
        np.zeros(3, complex),
        np.array(["a"]),
        np.array([None]),
        np.zeros(3, "u1,u1"),
        np.zeros(3, "M8[s]"),
        [1, 2, 3],
    ],
    ids=lambda array: str(np.asarray(array).dtype),
)
def test_types_that_idx_does_not_have(array, tmp_path):
    path = tmp_path / "file"
    with pytest.raises(idx.IDXError, match=r"types uint8, int8, .*got an array of.*array.astype"):
        idx.write(path, array)
    assert not path.exists()


@pytest.mark.parametrize("shape", [(1,) * 33, (0, 2**32)], ids=["33 dimensions", "size 2**32"])
def test_shapes_that_idx_does_not_have(shape, tmp_path):
    if len(shape) > 32 and np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("NumPy 1 has at most 32 dimensions")
    with pytest.raises(
        idx.IDXError, match="at most 32 dimensions, each of size at most 4294967295"
    ):
        idx.write(tmp_path / "file", np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("name", "compress", "compressed"),
    [
        ("a.gz", None, True),
        ("a", None, False),
        ("a.gz", False, False),
        ("a", True, True),
    ],
)
def test_compress(name, compress, compressed, tmp_path):
    path = tmp_path / name
    idx.write(path, example("uint8"), compress=compress)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == compressed


def test_gzip_is_deterministic(tmp_path):
    array = example("float32")
    idx.write(tmp_path / "one.gz", array)
    with mock.patch("time.time", return_value=1e9):
        idx.write(str(tmp_path / "two.gz"), array)
    file = io.BytesIO()
    idx.write(file, array, compress=True)
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()
    assert (tmp_path / "one.gz").read_bytes() == file.getvalue()
    assert file.getvalue()[3:8] == bytes(5)  # no flags, so no name; no time


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
@pytest.mark.parametrize("name", ["labels", "labels.gz"])
def test_interrupted_write_leaves_the_old_file(name, error, tmp_path, monkeypatch):
    path = tmp_path / name
    idx.write(path, example("uint8"))
    before = path.read_bytes()

    def encode_half(file, header, array, compress):
        file.write(header)
        raise error

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(format, "_encode", encode_half)
        idx.write(path, example("uint8", (100,)))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [name]

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(os, "replace", mock.Mock(side_effect=error))
        idx.write(path, example("uint8", (100,)))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(os.name != "posix", reason="file modes and symbolic links")
def test_written_file_is_an_ordinary_one(tmp_path):
    (tmp_path / "link").symlink_to("real")
    umask = os.umask(0o027)
    try:
        idx.write(tmp_path / "link", example("uint8"))
    finally:
        os.umask(umask)
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640


def test_write_to_a_folder_or_a_missing_one(tmp_path):
    with pytest.raises(IsADirectoryError):
        idx.write(tmp_path, example("uint8"))
    with pytest.raises(FileNotFoundError):
        idx.write(tmp_path / "missing" / "file", example("uint8"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_no_file_stays_open(tmp_path):
    path = tmp_path / "file"
    before = len(os.listdir("/proc/self/fd"))
    for data, _ in MALFORMED.values():
        path.write_bytes(data)
        with pytest.raises(idx.IDXError):
            idx.read(path)
        with pytest.raises(idx.IDXError):
            idx.read(path, mmap=True)
    for data in (IMAGES, GZ):
        path.write_bytes(data)
        idx.read(path)
        idx.info(path)
    assert len(os.listdir("/proc/self/fd")) == before
