"""Data larger than memory: arrays on disk and batches."""

import os
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.augment import RandomNoise
from fastmlp.blocks import Rows, Windows, gathered, is_on_disk, read_parquet
from fastmlp.estimators import on_disk
from fastmlp.utils import memory

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

N, D = 5003, 20  # not a multiple of a block, a window or a batch
SMALL = 150_000  # bytes: windows of some 700 rows


@pytest.fixture(scope="module")
def data():
    generator = np.random.RandomState(0)
    X = generator.randint(0, 256, (N, D)).astype(np.uint8)
    y = (X[:, :3].astype(int).sum(axis=1) // 200).astype(np.int64)
    return X, y


@pytest.fixture(scope="module")
def on_file(data, tmp_path_factory):
    """Return a function that stores an array and returns its memory map."""
    folder = tmp_path_factory.mktemp("arrays")

    def store(array):
        path = folder / f"{len(list(folder.iterdir()))}.npy"
        np.save(path, array)
        return np.load(path, mmap_mode="r")

    return store


def classifier(**parameters):
    defaults = {
        "hidden_layer_sizes": (7,),
        "random_state": 1,
        "max_iter": 3,
        "input_scale": 1 / 255,
        "batch_size": 64,
        "learning_rate_init": 0.01,
    }
    if parameters.get("solver") == "lbfgs":
        del defaults["batch_size"], defaults["learning_rate_init"]
    return MLPClassifier(**defaults | parameters)


def assert_same(a, b):
    assert_allclose(a.loss_curve_, b.loss_curve_, rtol=1e-12)  # sums of windows are added
    for left, right in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        assert_array_equal(left, right)


class Dataset:
    """What h5py's datasets and Zarr's arrays have, and no more."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.chunks = (100, array.shape[1])

    def __getitem__(self, rows):
        return self.array[rows]


class Spy:
    """Counts the epochs that are trained by windows."""

    def __init__(self, monkeypatch):
        self.epochs = 0
        original = on_disk._Pass.train_epoch

        def train_epoch(*arguments):
            self.epochs += 1
            return original(*arguments)

        monkeypatch.setattr(on_disk._Pass, "train_epoch", train_epoch)


@pytest.fixture
def windows_spy(monkeypatch):
    return Spy(monkeypatch)


class TestThatFit:
    """Data that fit in memory give the bits of an array, and are not read in blocks."""

    @pytest.mark.parametrize("kind", ["memmap", "dataset", "batches", "generator", "frames"])
    def test_same_bits(self, kind, data, on_file, windows_spy):
        X, y = data
        expected = classifier().fit(X, y)
        pairs = [(X[i : i + 700], y[i : i + 700]) for i in range(0, N, 700)]
        passed = {
            "memmap": lambda: (on_file(X), on_file(y)),
            "dataset": lambda: (Dataset(X), y),
            "batches": lambda: (pairs,),
            "generator": lambda: (iter(pairs),),
            "frames": lambda: ([(pd.DataFrame(X).add_prefix("x"), y)],),
        }[kind]()
        found = classifier().fit(*passed)
        assert_same(found, expected)
        assert_same(classifier().fit(*passed, max_memory="1G"), expected) if kind in (
            "memmap",
            "dataset",
            "batches",
        ) else None
        assert windows_spy.epochs == 0
        assert hasattr(found, "feature_names_in_") == (kind == "frames")

    def test_sparse_batches(self, data):
        X, y = data
        X = csr_matrix(np.where(X > 200, X, 0).astype(np.float32))
        expected = classifier().fit(X, y)
        assert_same(classifier().fit([(X[:1000], y[:1000]), (X[1000:], y[1000:])]), expected)

    def test_weights_of_batches(self, data):
        X, y = data
        weight = np.random.RandomState(0).uniform(size=N)
        expected = classifier().fit(X, y, weight)
        batches = [(X[:9], y[:9], weight[:9]), (X[9:], y[9:], weight[9:])]
        assert_same(classifier().fit(batches), expected)


def labels(y, kind):
    if kind == "text":
        return np.array(["a", "bcd", "ef", "g"])[y]
    if kind == "multilabel":
        return np.stack([y > 0, y > 2], axis=1).astype(int)
    if kind == "two":
        return y > 1
    return y


class TestLarger:
    """Data that are read in blocks."""

    # Without shuffling, windows are nothing but parts of the order.
    @pytest.mark.parametrize("backend", ["cython", "numba", "numpy"])
    def test_in_order_the_bits_are_those_of_an_array(self, backend, data, on_file, windows_spy):
        X, y = data
        model = classifier(shuffle=False, backend=backend, dropout=0.2)
        found = model.fit(on_file(X), y, max_memory=SMALL)
        assert windows_spy.epochs == 3
        assert_same(found, classifier(shuffle=False, backend=backend, dropout=0.2).fit(X, y))

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int16, ">f4"])
    @pytest.mark.parametrize("kind", ["text", "multilabel", "two"])
    def test_kinds(self, dtype, kind, data, on_file, windows_spy):
        X, y = data[0].astype(dtype), labels(data[1], kind)
        found = classifier(shuffle=False).fit(on_file(X), y, max_memory=SMALL)
        expected = classifier(shuffle=False).fit(X, y)
        assert windows_spy.epochs == 3
        assert_same(found, expected)
        assert_array_equal(found.classes_, expected.classes_)
        assert_array_equal(found.predict(X[:50]), expected.predict(X[:50]))

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_dtype_of_the_network(self, dtype, data, on_file):
        X, y = data[0].astype(np.float64), data[1]
        found = classifier(shuffle=False, dtype=dtype).fit(on_file(X), y, max_memory=SMALL)
        assert_same(found, classifier(shuffle=False, dtype=dtype).fit(X, y))

    def test_spooled_batches(self, data, on_file, windows_spy):
        X, y = data[0].astype(np.float32), labels(data[1], "text")
        weight = np.linspace(0.5, 2, N)
        expected = classifier(shuffle=False).fit(X, y, weight)
        frame = pd.DataFrame(X).add_prefix("x")

        def batches():
            for i in range(0, N, 321):
                rows = slice(i, i + 321)
                yield frame[rows], y[rows], weight[rows]

        found = classifier(shuffle=False).fit(batches(), max_memory=SMALL)
        assert windows_spy.epochs == 3
        assert_same(found, expected)
        assert found.feature_names_in_.tolist() == list(frame.columns)
        assert found.classes_.tolist() == ["a", "bcd", "ef", "g"]

    def test_weights(self, data, on_file):
        X, y = data
        weight = np.random.RandomState(3).uniform(size=N)
        parameters = {"shuffle": False, "class_weight": {0: 3.0, 1: 0.5}}
        found = classifier(**parameters).fit(on_file(X), y, on_file(weight), max_memory=SMALL)
        assert_same(found, classifier(**parameters).fit(X, y, weight))

    def test_balanced_classes(self, data, on_file):
        X, y = data
        parameters = {"shuffle": False, "class_weight": "balanced"}
        found = classifier(**parameters).fit(on_file(X), y, max_memory=SMALL)
        assert_same(found, classifier(**parameters).fit(X, y))

    def test_standardised(self, data, on_file):
        X, y = data
        parameters = {"shuffle": False, "input_scale": "standard", "dtype": "float64"}
        found = classifier(**parameters).fit(on_file(X), y, max_memory=SMALL)
        expected = classifier(**parameters).fit(X, y)
        for left, right in zip(found.input_scale_, expected.input_scale_, strict=True):
            assert_allclose(left, right, rtol=1e-12)
        assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-9)

    @pytest.mark.parametrize("target_scale", [None, "standard", 0.01])
    def test_regression(self, target_scale, data, on_file):
        X = data[0]
        y = X[:, :2].astype(np.float64) / 100
        parameters = {
            "hidden_layer_sizes": (5,), "shuffle": False, "random_state": 0, "max_iter": 3,
            "target_scale": target_scale, "input_scale": 1 / 255, "dtype": "float64",
        }  # fmt: skip
        found = MLPRegressor(**parameters).fit(on_file(X), y, max_memory=SMALL)
        expected = MLPRegressor(**parameters).fit(X, y)
        assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=1e-9)
        assert_allclose(found.predict(X[:5]), expected.predict(X[:5]), rtol=1e-6)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_lbfgs(self, weighted, data, on_file):
        X, y = data
        weight = np.random.RandomState(3).uniform(size=N) if weighted else None
        parameters = {"solver": "lbfgs", "dtype": "float64", "alpha": 0.1, "max_iter": 10}
        found = classifier(**parameters).fit(on_file(X), y, weight, max_memory=SMALL)
        expected = classifier(**parameters).fit(X, y, weight)
        assert_allclose(found.loss_, expected.loss_, rtol=1e-11)
        for left, right in zip(found.coefs_, expected.coefs_, strict=True):
            assert_allclose(left, right, atol=1e-11)

    def test_sorted_data_are_mixed(self, data, on_file):
        """As good as with an exact shuffle; in order, the last class is all that is learned."""
        X, y = data
        order = np.argsort(y, kind="stable")
        X, y = X[order], y[order]
        parameters = {"max_iter": 10}
        exact = classifier(**parameters).fit(X, y).score(X, y)
        blocks = classifier(**parameters).fit(on_file(X), y, max_memory=SMALL).score(X, y)
        assert blocks > exact - 0.03
        in_order = classifier(**parameters, shuffle=False).fit(X, y).score(X, y)
        assert in_order < exact - 0.1

    def test_early_stopping_holds_out_blocks(self, data, on_file):
        X, y = data
        model = classifier(early_stopping=True, max_iter=40, n_iter_no_change=3)
        model.fit(on_file(X), y, max_memory=SMALL)
        assert model.best_validation_score_ > 0.8
        assert len(model.history_["val_loss"]) == model.n_iter_
        assert 0.85 * N < model.t_ / model.n_iter_ < 0.95 * N

    def test_validation_data(self, data, on_file):
        X, y = data
        model = classifier().fit(on_file(X), y, X_val=X[:100], y_val=y[:100], max_memory=SMALL)
        assert model.history_["val_score"][-1] == model.score(X[:100], y[:100])

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_checkpoint(self, solver, data, on_file, tmp_path):
        X, y = on_file(data[0]), data[1]
        parameters = {"solver": solver, "dropout": 0.1 if solver == "adam" else 0.0}
        expected = classifier(**parameters, max_iter=6).fit(X, y, max_memory=SMALL)
        for max_iter in (2, 6):
            model = classifier(**parameters, max_iter=max_iter)
            model.fit(X, y, max_memory=SMALL, checkpoint=tmp_path / "a.ckpt")
        assert model.n_iter_ == 6
        for left, right in zip(model.coefs_, expected.coefs_, strict=True):
            assert_array_equal(left, right)
        other = data[0].copy()
        other[0, 0] ^= 1
        with pytest.raises(ValueError, match="belongs to another fit: X differs"):
            model.fit(on_file(other), y, max_memory=SMALL, checkpoint=tmp_path / "a.ckpt")
        with pytest.raises(ValueError, match="max_memory is 150000 there and 160000 here"):
            model.fit(X, y, max_memory=160_000, checkpoint=tmp_path / "a.ckpt")

    def test_warm_start(self, data, on_file):
        X, y = on_file(data[0]), data[1]
        model = classifier(warm_start=True).fit(X, y, max_memory=SMALL)
        first = model.loss_
        assert model.fit(X, y, max_memory=SMALL).loss_ < first
        assert len(model.loss_curve_) == 6

    def test_augmentation(self, data, on_file):
        X, y = data[0].astype(np.float32), data[1]
        model = classifier(augment=RandomNoise(0.1, limits=None))
        model.fit(on_file(X), y, max_memory=SMALL)
        again = classifier(augment=RandomNoise(0.1, limits=None), n_threads=1)
        assert_same(model, again.fit(on_file(X), y, max_memory=SMALL))
        assert model.loss_ != classifier().fit(on_file(X), y, max_memory=SMALL).loss_

    def test_views_of_memory_maps(self, data, on_file):
        X, y = data
        view = on_file(X)[100:4000]
        found = classifier(shuffle=False).fit(view, y[100:4000], max_memory=SMALL)
        assert_same(found, classifier(shuffle=False).fit(X[100:4000], y[100:4000]))
        columns = on_file(X)[:, 3:9]
        found = classifier(shuffle=False).fit(columns, y, max_memory=SMALL // 3)
        assert_same(found, classifier(shuffle=False).fit(np.ascontiguousarray(X[:, 3:9]), y))

    def test_parquet(self, data, tmp_path, windows_spy):
        X, y = data[0].astype(np.float32), labels(data[1], "text")
        frame = pd.DataFrame(X).add_prefix("x").assign(kind=y, w=1.0)
        frame.to_parquet(tmp_path / "rows.parquet", row_group_size=999)
        batches = read_parquet(tmp_path / "rows.parquet", "kind", sample_weight="w", batch_rows=500)
        assert batches.n_rows == N
        found = classifier(shuffle=False).fit(batches, max_memory=SMALL)
        assert windows_spy.epochs == 3
        assert_same(found, classifier(shuffle=False).fit(X, y, np.ones(N)))
        assert_same(classifier().fit(batches), classifier().fit(X, y, np.ones(N)))
        with pytest.raises(ValueError, match="no column 'label'; it has x0, x1"):
            read_parquet(tmp_path / "rows.parquet", "label")

    def test_the_process_does_not_grow(self, tmp_path):
        """An epoch over 400 MB takes not much more memory than one over 40 MB."""
        program = (
            "import resource, sys, warnings, numpy as np\n"
            "from fastmlp import MLPClassifier\n"
            "warnings.simplefilter('ignore')\n"
            "X = np.load(sys.argv[1], mmap_mode='r')[: int(sys.argv[2])]\n"
            "MLPClassifier((10,), max_iter=1).fit(X, np.arange(len(X)) % 3, max_memory='60M')\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        )
        np.save(tmp_path / "X.npy", np.ones((400_000, 1000), np.uint8))
        peaks = []
        for rows in ("40000", "400000"):
            done = subprocess.run(
                [sys.executable, "-c", program, tmp_path / "X.npy", rows],
                *(), capture_output=True, text=True, check=True,
            )  # fmt: skip
            peaks.append(int(done.stdout) / 1024)
        assert peaks[1] < peaks[0] + 30, peaks


class TestRefused:
    @pytest.mark.parametrize(
        ("passed", "options", "message"),
        [
            ([5], {}, r"batches must be tuples \(X, y\) or .* got int as batch 0"),
            ([], {}, "at least one batch"),
            ([(np.ones((3, 2)), [0, 1, 2]), (np.ones((3, 3)), [0, 1, 2])], {}, "same columns"),
            ([(np.ones((3, 2)), [0, 1])], {}, r"same number of rows, got \[2, 3\] in batch 0"),
            ([(np.ones((3, 2)), [0, 1, 2], None)], {}, "sample_weight must be an array, got None"),
            ([(np.array([["a"]]), [0])], {}, "X must be numbers"),
            (
                [(np.ones((3, 2)), [0, 1, 2]), (np.ones((3, 2), np.uint8), [0, 1, 2])],
                *({}, "got uint8 with 2 columns"),
            ),
            ([(np.ones((3, 2)), [0, 1, 2])], {"sample_weight": [1, 1, 1]}, "part of the batches"),
            ([(np.ones((3, 2)), [0, 1, 2])], {"max_memory": "much"}, "such as '500M' or '1G'"),
            ([(np.ones((3, 2)), [0, 1, 2])], {"max_memory": 0}, "got 0"),
        ],
    )
    def test_batches(self, passed, options, message):
        with pytest.raises((TypeError, ValueError), match=message):
            classifier().fit(passed, **options)

    def test_arrays(self, data, on_file):
        X, y = on_file(data[0]), data[1]
        small = {"max_memory": SMALL}
        with pytest.raises(ValueError, match="same number of rows, got 5003 and 3"):
            classifier().fit(X, y[:3], **small)
        with pytest.raises(ValueError, match="max_memory=20000 is too small"):
            classifier(batch_size=2000).fit(X, y, max_memory=20000)
        with pytest.raises(ValueError, match="must not be negative"):
            classifier().fit(X, y, np.linspace(-1, 2, N), **small)
        with pytest.raises(ValueError, match="class_weight needs data in memory"):
            classifier(class_weight={0: 1}).fit(X, labels(y, "multilabel"), **small)
        broken = data[0].astype(np.float32)
        broken[4321, 3] = np.nan
        with pytest.raises(ValueError, match=r"In rows \d+ to \d+: Input X contains NaN"):
            classifier().fit(on_file(broken), y, **small)
        with pytest.raises(ValueError, match="requires y to be passed"):
            classifier().fit(X, None)

    def test_nothing_is_left(self, data, on_file, tmp_path, monkeypatch):
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        X, y = data
        n_open = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

        def batches():
            yield X, y
            raise RuntimeError("the reader has failed")

        with pytest.raises(RuntimeError, match="the reader has failed"):
            classifier().fit(batches(), max_memory=SMALL)
        classifier().fit(iter([(X, y)]), max_memory=SMALL)
        assert not list(tmp_path.iterdir())
        if n_open:
            assert len(os.listdir("/proc/self/fd")) <= n_open


def in_windows(n_rows, n_bytes, batch_size, shuffled, width=3):
    X = np.arange(n_rows * width, dtype=np.float32).reshape(n_rows, width)
    windows = Windows(
        Rows(X), np.float64, lambda a, b: X[a:b, :1] * 2, lambda a, b: X[a:b, 0] * 3,
        n_bytes=n_bytes, batch_size=batch_size,
    )  # fmt: skip
    generator = np.random.RandomState(0) if shuffled else None
    blocks = np.arange(windows.n_blocks)
    if generator is not None:
        generator.shuffle(blocks)
    return windows, windows(blocks, generator)


class TestWindows:
    @pytest.mark.parametrize("shuffled", [False, True])
    @pytest.mark.parametrize("n_rows", [1, 9, 10, 11, 257, 1000])
    @pytest.mark.parametrize("batch_size", [1, 10, 16])
    @pytest.mark.parametrize("n_bytes", [1500, 4000, 10**6])
    def test_every_row_once(self, shuffled, n_rows, batch_size, n_bytes):
        seen, sizes = [], []
        for window in in_windows(n_rows, n_bytes, batch_size, shuffled)[1]:
            X, Y, weight = (part[window.order] for part in (window.X, window.Y, window.weight))
            assert_array_equal(Y[:, 0], 2 * X[:, 0])
            assert_array_equal(weight, 3 * X[:, 0])
            seen.extend(X[:, 0] // 3)
            sizes.append(len(X))
        assert sorted(seen) == list(range(n_rows))
        assert all(size % batch_size == 0 for size in sizes[:-1])
        if not shuffled:
            assert seen == sorted(seen)
        elif n_rows > 200:
            assert seen != sorted(seen)

    def test_a_window_is_from_everywhere(self):
        windows, found = in_windows(100_000, 200_000, 10, True)
        first = next(found)
        rows = first.X[first.order, 0] // 3
        assert len(rows) < 10_000
        assert np.histogram(rows, bins=4, range=(0, 100_000))[0].min() > len(rows) / 10
        assert windows.window_blocks >= 64

    def test_the_next_window_is_read_ahead(self):
        """While the first one is trained on, so that disk and processor work together."""
        begun = threading.Event()

        class Slow(Rows):
            def read(self, start, out):
                if start >= 500:
                    begun.set()
                super().read(start, out)

        X = np.zeros((1000, 10), np.uint8)
        windows = Windows(
            Slow(X), np.uint8, lambda a, b: np.zeros((b - a, 1)), None,
            n_bytes=13_000, batch_size=10,
        )  # fmt: skip
        for window in windows(np.arange(windows.n_blocks)):
            assert len(window.order) < 500
            assert begun.wait(10)
            break

    def test_blocks_are_read_at_the_same_time(self):
        """Disks are idle between reads that wait for each other."""
        together = threading.Barrier(4)

        class Four(Rows):
            def read(self, start, out):
                together.wait(10)  # or BrokenBarrierError, which ends the test
                super().read(start, out)

        windows = Windows(
            Four(np.zeros((800, 10), np.uint8)), np.uint8, lambda a, b: np.zeros((b - a, 1)), None,
            n_bytes=10**6, batch_size=10, block_rows=100,
        )  # fmt: skip
        assert [len(window.order) for window in windows(np.arange(8))] == [800]

    def test_a_file_that_became_shorter(self, tmp_path):
        np.save(tmp_path / "X.npy", np.ones((1000, 100)))
        rows = Rows(np.load(tmp_path / "X.npy", mmap_mode="r"))
        os.truncate(tmp_path / "X.npy", 1000)
        with pytest.raises(OSError, match="shorter than the array that was opened"):
            rows[900:]


def test_rows_are_read_from_the_file(tmp_path, monkeypatch):
    """And not by touching pages, which is slower and stays in memory."""
    X = np.arange(60.0).reshape(20, 3)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    reads, preadv = [], os.preadv

    def counted(*arguments):
        reads.append(arguments)
        return preadv(*arguments)

    monkeypatch.setattr(os, "preadv", counted)
    for view, part in ((mapped, X), (mapped[5:], X[5:]), (mapped[2:9][1:], X[3:9])):
        rows = Rows(view)
        assert rows._path is not None
        before = len(reads)
        assert_array_equal(rows[1:4], part[1:4])
        assert len(reads) == before + 1
        out = np.empty((2, 3), np.float32)
        rows.read(1, out)
        assert_array_equal(out, part[1:3])
    past_the_cache = Rows(mapped, caches=False)
    for start in (0, 3, 17):
        assert_array_equal(past_the_cache[start : start + 3], X[start : start + 3])
    assert Rows(mapped[::2])._path is None
    assert_array_equal(Rows(mapped[::2])[1:3], X[2:6:2])


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no direct reads")
def test_large_files_are_read_past_the_cache(tmp_path, monkeypatch):
    X = np.random.RandomState(0).randint(0, 256, (5000, 7)).astype(np.uint8)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    try:
        os.close(os.open(tmp_path / "X.npy", os.O_RDONLY | os.O_DIRECT))
    except OSError:
        assert_array_equal(Rows(mapped, caches=False)[1:3], X[1:3])
        pytest.skip("this file system has no direct reads")
    files, preadv = [], os.preadv

    def recorded(file, *others):
        files.append(file)
        return preadv(file, *others)

    monkeypatch.setattr(os, "preadv", recorded)
    cached, direct = Rows(mapped), Rows(mapped, caches=False)
    for start in (0, 1, 583, 585, 4998):  # also across pages, and at the end of the file
        for rows, expected in ((cached, cached), (direct, direct)):
            files.clear()
            assert_array_equal(rows[start : start + 2], X[start : start + 2])
            assert files == [expected._file if rows is cached else expected._direct]


def test_what_is_on_disk(tmp_path):
    np.save(tmp_path / "X.npy", np.ones((3, 2)))
    assert is_on_disk(np.load(tmp_path / "X.npy", mmap_mode="r"))
    assert is_on_disk(Dataset(np.ones((3, 2))))
    assert not is_on_disk(np.ones((3, 2)))
    assert not is_on_disk(pd.DataFrame({"a": [1]}))
    assert not is_on_disk(csr_matrix(np.ones((3, 2))))


def test_gathered_in_memory_or_in_files():
    batches = [(np.full((5, 2), i, np.float32), np.full(5, i)) for i in range(4)]
    with gathered(batches, 10**6) as found:
        assert isinstance(found.X, np.ndarray)
    with gathered(batches, 100) as found:
        assert isinstance(found.X, Rows)
        assert_array_equal(found.X[:], np.concatenate([X for X, _ in batches]))
        assert_array_equal(found.y[:], np.concatenate([y for _, y in batches]))


def test_the_memory_of_a_container(monkeypatch):
    assert memory.as_bytes("1.5 GiB") == 3 * 2**29
    assert memory.as_bytes(17) == 17
    assert memory.in_words(2_000) == "2 kB"
    limit = memory.of_this_machine()
    assert limit is None or limit > 10**8


def test_by_default_half_of_memory_decides(data, on_file, windows_spy, monkeypatch):
    X, y = on_file(data[0]), data[1]
    monkeypatch.setattr(memory, "of_this_machine", lambda: 300_000)
    classifier().fit(X, y)
    assert windows_spy.epochs == 0  # 100 060 bytes
    monkeypatch.setattr(memory, "of_this_machine", lambda: SMALL)
    with pytest.warns(ConvergenceWarning):
        classifier().fit(X, y)
    assert windows_spy.epochs == 3


class TestBatches:
    """What comes in batches must be of one kind."""

    @pytest.mark.parametrize("max_memory", [None, 60_000])
    def test_columns_in_another_order(self, max_memory):
        generator = np.random.RandomState(0)
        X = pd.DataFrame(generator.normal(size=(2000, 6)), columns=list("abcdef"))
        y = (X["a"] > X["f"]).to_numpy()
        options = {"max_iter": 5, "batch_size": 20, "input_scale": None}

        def batches(*orders):
            for start, order in zip(range(0, 2000, 200), orders * 5, strict=True):
                rows = slice(start, start + 200)
                yield X[rows][list(order)], y[rows]

        straight = classifier(**options).fit(batches("abcdef", "abcdef"), max_memory=max_memory)
        mixed = classifier(**options).fit(batches("abcdef", "fedcba"), max_memory=max_memory)
        assert_same(straight, mixed)
        with pytest.raises(ValueError, match=r"must have the same columns, got .* in batch 1"):
            classifier().fit(batches("abcdef", "abcde"), max_memory=max_memory)
        with pytest.raises(ValueError, match="and no names of columns in batch 1"):
            classifier().fit([(X, y), (X.to_numpy(), y)], max_memory=max_memory)

    @pytest.mark.parametrize(
        ("first", "second", "message"),
        [
            (np.int8(1), np.int64(200), "must have the dtype of the first batch, int8"),
            (np.float32(1), np.float64(1 / 3), "must have the dtype of the first batch, float32"),
            ("a", float("nan"), "y must be numbers, or text without missing values"),
            ("a", 1, "y must be numbers, or text without missing values"),
        ],
    )
    def test_targets_that_do_not_fit(self, first, second, message):
        X = np.zeros((500, 20))

        def column(value):
            dtype = object if isinstance(first, str) else None
            return np.array([value] * 500, dtype)

        with pytest.raises(ValueError, match=message):
            classifier().fit([(X, column(first)), (X, column(second))], max_memory=60_000)

    def test_dates_are_labels(self, data):
        X, y = data
        dates = np.array(["2020-01-01", "2021-01-01"], "M8[D]")[y % 2]
        batches = [(X[a : a + 500], dates[a : a + 500]) for a in range(0, N, 500)]
        model = classifier(max_iter=1).fit(batches, max_memory=SMALL)
        assert_array_equal(model.classes_, np.unique(dates))

    def test_complex_numbers(self):
        with pytest.raises(ValueError, match="X must be real, got complex128 in batch 0"):
            classifier().fit([(np.ones((5, 2), complex), np.arange(5))])

    def test_a_directory_that_is_not_there(self, data, monkeypatch):
        monkeypatch.setenv("TMPDIR", "/no/such/directory")
        with pytest.raises(FileNotFoundError, match="set the environment variable TMPDIR"):
            classifier().fit([data, data], max_memory=SMALL)

    def test_a_full_disk(self, data, tmp_path, monkeypatch):
        from fastmlp.blocks import batches

        monkeypatch.setattr(batches, "_new_file", lambda: open("/dev/full", "wb", buffering=0))
        with pytest.raises(OSError, match="No space left on device: the batches take more than"):
            classifier().fit([data, data], max_memory=SMALL)


def test_the_file_of_a_memory_map_is_replaced(data, tmp_path):
    """The map keeps what it had, and so do we; what has the name now is something else."""
    X, y = data
    path = tmp_path / "X.npy"
    np.save(path, X)
    mapped = np.load(path, mmap_mode="r")
    np.save(tmp_path / "other.npy", 255 - X)
    os.replace(tmp_path / "other.npy", path)
    assert_array_equal(Rows(mapped)[10:20], X[10:20])
    os.unlink(path)
    assert_array_equal(Rows(mapped)[10:20], X[10:20])
    expected = classifier(max_iter=1, shuffle=False).fit(X, y)
    assert_same(classifier(max_iter=1, shuffle=False).fit(mapped, y, max_memory=SMALL), expected)


def test_labels_in_a_column(data, on_file):
    X, y = data
    X = on_file(X)
    expected = classifier(max_iter=1).fit(X, y, max_memory=SMALL)
    found = classifier(max_iter=1).fit(X, y[:, np.newaxis], max_memory=SMALL)
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("options", "weight", "message"),
    [
        ({}, 2.0, "sample_weight must have one element per row of X, got 2.0"),
        ({"class_weight": dict.fromkeys(range(4), 0.0)}, None, "at least one non-zero"),
        ({"early_stopping": True, "validation_fraction": 0.0}, None, "validation set is too small"),
    ],
)
def test_weights_and_fractions_that_leave_nothing(options, weight, message, data, on_file):
    with pytest.raises(ValueError, match=message):
        classifier(**options).fit(on_file(data[0]), data[1], weight, max_memory=SMALL)


def test_a_checkpoint_with_other_validation_data(data, on_file, tmp_path):
    X, path = on_file(data[0]), tmp_path / "run.ckpt"
    options = {"max_memory": SMALL, "checkpoint": path}
    classifier(max_iter=2).fit(X, data[1], X_val=data[0][:50], y_val=data[1][:50], **options)
    with pytest.raises(ValueError, match="the validation data differs"):
        classifier(max_iter=4).fit(X, data[1], X_val=data[0][:60], y_val=data[1][:60], **options)


class TestMessages:
    def test_batches_where_an_array_is_wanted(self, data):
        model = classifier(max_iter=1).fit([data])
        for call in (lambda X: model.predict(X), lambda X: classifier().fit(X, data[1])):
            with pytest.raises(TypeError, match=r"got generator; pass batches of \(X, y\) to fit"):
                call(part for part in [data])

    def test_parquet(self, data, tmp_path):
        frame = pd.DataFrame({"x": [0.0, 1.0], "city": ["a", "b"], "y": [0, 1]})
        for number in range(2):
            frame.to_parquet(tmp_path / f"{number}.parquet")
        paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
        with pytest.raises(ValueError, match=r"got 'city' \((large_)?string\): choose"):
            read_parquet(paths, "y")
        assert read_parquet(paths, "y", columns=["x"]).n_rows == 4
        (tmp_path / "empty").mkdir()
        with pytest.raises(ValueError, match="must hold Parquet files, got none"):
            read_parquet(tmp_path / "empty", "y")

    def test_where_a_number_is_not_finite(self, data, on_file):
        X = data[0].astype(float)
        X[4000, 7] = np.nan
        with pytest.raises(ValueError, match=r"In rows 0 to 5002.* in row 4000 of these, column 7"):
            classifier().fit(on_file(X), data[1], max_memory=SMALL)

    def test_memory_as_a_float(self):
        assert memory.as_bytes(2e9) == 2_000_000_000
        with pytest.raises(ValueError, match="must be a number of bytes"):
            memory.as_bytes(2.5)
