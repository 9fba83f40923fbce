"""How fast IDX files are read, against the bare reading of the same bytes and against old habits.

Run with ``pytest benchmarks/bench_idx.py``. Rows of one group do the same work. Where a limit is
set as a ratio, the peer runs before every round, so that both see the same machine, and the ratio
of the medians is stored as ``extra_info["ratio"]``.
"""

import gzip
import struct
from statistics import median
from time import perf_counter

import numpy as np
import pytest

from fastmlp import idx
from fastmlp.idx import scaling, scaling_numba

N_TRAIN, N_TEST = 60_000, 10_000  # the images of MNIST
N_DOUBLES = 5_000_000  # 40 MB


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files with as many zeros and other bytes as MNIST has."""
    folder = tmp_path_factory.mktemp("idx")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N_TRAIN, 28, 28), dtype=np.uint8)
    images[:, rng.random((28, 28)) < 0.8] = 0
    idx.write(folder / "train", images)
    idx.write(folder / "test", images[:N_TEST])
    idx.write(folder / "test.gz", images[:N_TEST])
    idx.write(folder / "doubles", rng.random(N_DOUBLES))
    return folder


def versus(benchmark, call, peer, limit):
    """Time `call`, and `peer` before each of its rounds."""
    seconds = []

    def run_peer():
        start = perf_counter()
        result = peer()
        seconds.append(perf_counter() - start)
        del result

    benchmark.pedantic(call, setup=run_peer, rounds=25, warmup_rounds=2)
    if benchmark.enabled:
        ratio = benchmark.stats.stats.median / median(seconds[2:])
        benchmark.extra_info.update(ratio=ratio, limit=limit)


def naive_parser(path):
    """Parse as the script of recipe R3 does: the whole file becomes a list of Python integers."""
    with open(path, "rb") as file:
        _, n_images, n_rows, n_columns = struct.unpack(">IIII", file.read(16))
        pixels = list(struct.unpack(f">{n_images * n_rows * n_columns}B", file.read()))
    return np.array(pixels, dtype=np.uint8).reshape(n_images, n_rows, n_columns)


def gzip_frombuffer(path):
    """Parse as the better scripts do."""
    with gzip.open(path) as file:
        data = file.read()
    return np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)


@pytest.mark.benchmark(group="idx: raw uint8, 47 MB")
def test_raw(benchmark, folder):
    path = folder / "train"
    versus(benchmark, lambda: idx.read(path), lambda: np.fromfile(path, np.uint8), limit=1.2)


@pytest.mark.benchmark(group="idx: raw uint8, 47 MB")
def test_raw_fromfile(benchmark, folder):
    benchmark(np.fromfile, folder / "train", np.uint8)


@pytest.mark.benchmark(group="idx: raw uint8, 47 MB")
def test_mmap_open(benchmark, folder):
    benchmark(idx.read, folder / "train", mmap=True)


@pytest.mark.benchmark(group="idx: raw uint8, 47 MB")
def test_header_only(benchmark, folder):
    benchmark(idx.info, folder / "train")


@pytest.mark.benchmark(group="idx: raw uint8, 47 MB")
def test_raw_idx2numpy(benchmark, folder):
    idx2numpy = pytest.importorskip("idx2numpy")
    result = benchmark(idx2numpy.convert_from_file, str(folder / "train"))
    np.testing.assert_array_equal(result, idx.read(folder / "train"))


@pytest.mark.benchmark(group="idx: raw uint8, 47 MB")
def test_raw_naive(benchmark, folder):
    # Seconds and gigabytes at full size, so where nothing is measured, the smaller file will do.
    name = "train" if benchmark.enabled else "test"
    result = benchmark.pedantic(naive_parser, [folder / name], rounds=3)
    np.testing.assert_array_equal(result, idx.read(folder / name))


@pytest.mark.benchmark(group="idx: uint8 to scaled float32, 47 MB of bytes")
@pytest.mark.parametrize("kernel", ["cython", "numba", "numpy"])
def test_scaled(benchmark, folder, kernel, monkeypatch):
    kernels = {"numba": scaling_numba.scale_bytes, "numpy": scaling.scale_bytes}
    if kernel == "cython":
        kernels["cython"] = pytest.importorskip("fastmlp.idx._scaling").scale_bytes
    monkeypatch.setattr(scaling, "kernel_for", lambda n_bytes: kernels[kernel])
    benchmark(idx.read, folder / "train", dtype="float32", scale=1 / 255)


@pytest.mark.benchmark(group="idx: uint8 to scaled float32, 47 MB of bytes")
def test_scaled_numpy(benchmark, folder):
    benchmark(lambda: np.fromfile(folder / "train", np.uint8).astype(np.float32) / 255)


@pytest.mark.benchmark(group="idx: big-endian float64, 40 MB")
def test_raw_doubles(benchmark, folder):
    path = folder / "doubles"
    versus(benchmark, lambda: idx.read(path), lambda: np.fromfile(path, np.float64), limit=1.5)


@pytest.mark.benchmark(group="idx: big-endian float64, 40 MB")
def test_raw_doubles_fromfile(benchmark, folder):
    benchmark(np.fromfile, folder / "doubles", np.float64)


@pytest.mark.benchmark(group="idx: gzip, 7.8 MB of bytes")
def test_gzip(benchmark, folder):
    benchmark(idx.read, folder / "test.gz")


@pytest.mark.benchmark(group="idx: gzip, 7.8 MB of bytes")
def test_gzip_frombuffer(benchmark, folder):
    benchmark(gzip_frombuffer, folder / "test.gz")


@pytest.mark.benchmark(group="idx: hand-written parsers, 7.8 MB")
def test_small_raw(benchmark, folder):
    benchmark(idx.read, folder / "test")


@pytest.mark.benchmark(group="idx: hand-written parsers, 7.8 MB")
def test_small_raw_naive(benchmark, folder):
    result = benchmark.pedantic(naive_parser, [folder / "test"], rounds=3)
    np.testing.assert_array_equal(result, idx.read(folder / "test"))
