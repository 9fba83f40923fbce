"""Data sets from every kind of file into every other."""

import io
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmlp import datasets, idx
from fastmlp.convert import LabelWarning, Part, convert, tables
from fastmlp.datasets import FILE_NAMES


def needs(package):
    reason = f"{package} is not installed"
    return pytest.mark.skipif(find_spec(package) is None, reason=reason)


PICTURES = pytest.param("pictures", marks=needs("PIL"))
PARQUET = pytest.param("d.parquet", marks=needs("pyarrow"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def idx_directory(tmp_path):
    """A data set of 3 x 2 images, the labels in an order of their own."""
    rng = np.random.default_rng(0)
    directory = tmp_path / "source-idx"
    directory.mkdir()
    for part, n_samples in ((FILE_NAMES[:2], 40), (FILE_NAMES[2:], 13)):
        images = rng.integers(0, 256, (n_samples, 3, 2), dtype=np.uint8)
        idx.write(directory / part[0], images)
        idx.write(directory / part[1], rng.integers(0, 12, n_samples, dtype=np.uint8))
    return directory


def part(n_samples=20, shape=(3, 2), labels=None):
    rng = np.random.default_rng(1)
    X = rng.integers(0, 256, (n_samples, *shape), dtype=np.uint8)
    return X, rng.integers(0, 5, n_samples, dtype=np.uint8) if labels is None else labels


def write_npz(path, X, y):
    np.savez(path, x=X, y=y)
    return path


def read_npz(source):
    convert(source, "result.npz", force=True)
    with np.load("result.npz") as archive:
        return archive["x"], archive["y"]


def bytes_in(directory):
    return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


# -------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("kind", ["d.npz", "d.csv", PARQUET, PICTURES, "d-idx"])
def test_a_data_set_comes_back_the_same(idx_directory, kind):
    written = convert(idx_directory, kind)
    assert all(path.exists() for path in written)
    convert(kind, "back-idx")
    assert bytes_in("back-idx") == bytes_in(idx_directory)


@pytest.mark.parametrize("kind", ["d.npz", "d.csv", PARQUET, PICTURES, "d-images-idx3-ubyte.gz"])
@pytest.mark.parametrize("shape", [(3, 2), (1, 1), (5, 5)])
def test_one_part_comes_back_the_same(kind, shape):
    X, y = part(shape=shape)
    write_npz("source.npz", X, y)
    written = convert("source.npz", kind)
    assert all(path.exists() for path in written)
    if kind.endswith(".gz"):
        convert(kind, "d.csv")  # this needs the labels beside the images
        kind = "d.csv"
    images, labels = read_npz(kind)
    np.testing.assert_array_equal(images, X)
    np.testing.assert_array_equal(labels, y)
    assert images.dtype == np.uint8 and labels.dtype == np.uint8


@pytest.mark.parametrize("kind", ["d.npz", "d.csv", PARQUET, PICTURES])
@pytest.mark.parametrize("labels", [["a", "b, c", "ä"], [-3, 400, 7]], ids=["text", "numbers"])
def test_labels_of_any_kind(kind, labels):
    X, y = part(3, labels=np.array(labels))
    write_npz("source.npz", X, y)
    convert("source.npz", kind)
    images, labels = read_npz(kind)
    np.testing.assert_array_equal(images, X)
    np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize("kind", ["d.npz", "d.csv", PARQUET])
def test_rows_that_are_no_square_images(kind):
    X, y = part(shape=(5,))
    write_npz("source.npz", X, y)
    convert("source.npz", kind)
    images, _ = read_npz(kind)
    np.testing.assert_array_equal(images, X)


def test_data_sets_by_name(monkeypatch, idx_directory):
    monkeypatch.setattr(datasets, "fetch", lambda name, home: idx_directory)
    convert("mnist", "m-idx")
    assert bytes_in("m-idx") == bytes_in(idx_directory)
    written = convert("digits", "digits.csv")
    assert {path.name: text for path, text in written.items()} == {
        "digits_train.csv": "1437 images of 8 x 8, 10 labels",
        "digits_test.csv": "360 images of 8 x 8, 10 labels",
    }


@needs("PIL")
def test_pictures_of_others_are_sorted_by_label(tmp_path):
    from PIL import Image

    for number, name in enumerate(["b/1.png", "a/x10.png", "a/x9.png"]):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((2, 3), number, np.uint8)).save(tmp_path / "own" / name)
    X, y = read_npz("own")
    assert X[:, 0, 0].tolist() == [2, 1, 0] and y.tolist() == ["a", "a", "b"]
    convert("own", "small.npz", size=(1, 1))
    with np.load("small.npz") as archive:
        assert archive["x"].shape == (3, 1, 1)


# Text that has been lost, or changed, on its way through a file.
ODD_LABELS = [
    *(
        "a ",
        " a",
        " ",
        "",
        "\u2028",
        "\u2029",
        "\x85",
        "\r",
        "\n",
        "\r\n",
        "a\r\n\r\nb",
        "\t",
        "\v",
        "\f",
    ),
    *(
        "\x1c",
        "\x1f",
        "\0x",
        "\xa0",
        "\u3000",
        "\ufeff",
        '"',
        '""',
        'a"b',
        "'",
        ",",
        "a,b",
        ";",
        "#",
        "# a",
    ),
    *(
        "\\",
        "\\n",
        "007",
        "+7",
        "7.0",
        "1e3",
        "-0",
        "--1",
        "nan",
        "NaN",
        "None",
        "True",
        "null",
        "١",
    ),
    *("ä", "a\u0308", "\N{GRINNING FACE}", "label", "1x1", "x" * 1000, "=1+1"),
]


@pytest.mark.parametrize("kind", ["d.npz", "d.csv", PARQUET])
@pytest.mark.parametrize(
    "labels",
    [ODD_LABELS, ["007", "1"], ["-0", "1"], ["1.0", "2"], ["", ""], [" "], ["\n"], ["+7"], ["١"]],
)
def test_odd_labels_come_back_the_same(kind, labels):
    X, y = part(len(labels), labels=np.array(labels))
    write_npz("source.npz", X, y)
    convert("source.npz", kind)
    images, back = read_npz(kind)
    assert back.tolist() == labels
    np.testing.assert_array_equal(images, X)


@pytest.mark.slow
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=1))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_labels_come_back_the_same_from_csv(labels):
    y = np.array(labels)  # which drops NUL from the end
    X = np.zeros((len(y), 2, 2), np.uint8)
    file = io.BytesIO()
    tables._write_csv(file, Part(X, y))
    Path("d.csv").write_bytes(file.getvalue())
    back = tables._read_csv(Path("d.csv")).labels
    is_numbers = all(re.fullmatch(r"[ \t]*(0|-?[1-9][0-9]{0,17})[ \t]*", label) for label in labels)
    assert back.tolist() == ([int(label) for label in labels] if is_numbers else y.tolist())


@pytest.mark.parametrize("kind", ["d.csv", PARQUET, PICTURES])
@pytest.mark.parametrize("label", ["\ud800", "a\udce4", "\udfff"])
def test_labels_that_are_no_unicode(kind, label):
    X, y = part(2, labels=np.array([label, "x"]))
    write_npz("source.npz", X, y)
    if kind == "pictures" and label == "a\udce4":  # as undecodable names of folders are read
        convert("source.npz", kind)
        assert read_npz(kind)[1].tolist() == y.tolist()
        return
    message = "labels must (be valid Unicode|be valid names of folders) .*rename it"
    with pytest.raises(ValueError, match=message) as caught:
        convert("source.npz", kind)
    assert ascii(label) in str(caught.value)
    assert [path.name for path in Path().iterdir()] == ["source.npz"]


@pytest.mark.parametrize("kind", ["d.csv", PARQUET, PICTURES])
def test_text_that_will_be_numbers_is_said(kind):
    X, y = part(2, labels=np.array(["10", "7"]))
    write_npz("source.npz", X, y)
    with pytest.warns(LabelWarning, match="are text, such as '10', but will be read back as num"):
        convert("source.npz", kind)
    assert read_npz(kind)[1].tolist() == [10, 7]
    convert("source.npz", "e.npz")  # which keeps text
    assert read_npz("e.npz")[1].tolist() == ["10", "7"]


@pytest.mark.parametrize("kind", ["d.csv", PARQUET, PICTURES])
@pytest.mark.parametrize("numeric", ["train", "test"])
def test_labels_of_two_parts_are_of_one_kind(kind, numeric):
    arrays = {}
    for name in ("train", "test"):
        labels = np.array(["1", "2"] if name == numeric else ["1", "x"])
        arrays |= {f"x_{name}": part(2)[0], f"y_{name}": labels}
    np.savez("source.npz", **arrays)
    convert("source.npz", kind)
    convert(kind, "back.npz")
    with np.load("back.npz") as back:
        for name, array in arrays.items():
            np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("labels", [[2**63 - 1, -(2**63)], [2**64 - 1, 2**63], [10**18, 5]])
@pytest.mark.parametrize("kind", ["d.npz", "d.csv", PARQUET, PICTURES])
def test_large_numbers(kind, labels):
    X, y = part(2, labels=np.array(labels))
    write_npz("source.npz", X, y)
    convert("source.npz", kind)
    assert read_npz(kind)[1].tolist() == labels


# ------------------------------------------------------------------------------------------- QMNIST


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_labels_of_qmnist(ending):
    X, y = part()
    labels = np.arange(160, dtype=np.int32).reshape(20, 8)
    labels[:, 0] = y
    for split in ("train", "test"):
        idx.write(f"qmnist-{split}-images-idx3-ubyte{ending}", X)
        idx.write(f"qmnist-{split}-labels-idx2-int{ending}", labels)
    said = f"qmnist-train-labels-idx2-int{ending} holds 8 columns; column 0, the class, is the "
    said += "label."
    with pytest.warns(LabelWarning, match=said):
        convert(f"qmnist-train-images-idx3-ubyte{ending}", "one.csv")
    np.testing.assert_array_equal(read_npz("one.csv")[1], y)
    with pytest.warns(LabelWarning) as caught:
        convert(".", "all.npz")
    assert [str(warning.message) for warning in caught] == [said, said.replace("train", "test")]
    with np.load("all.npz") as archive:
        np.testing.assert_array_equal(archive["y_train"], y)
        np.testing.assert_array_equal(archive["y_test"], y)
    # What is written has one column, and does not replace the eight.
    convert("one.csv", f"qmnist-train-images-idx3-ubyte{ending}", force=True)
    np.testing.assert_array_equal(idx.read(f"qmnist-train-labels-idx2-int{ending}"), labels)
    np.testing.assert_array_equal(idx.read(f"qmnist-train-labels-idx1-ubyte{ending}"), y)


@needs("PIL")
def test_parts_may_be_called_as_those_of_mnist(idx_directory):
    convert(idx_directory, "pictures")
    Path("pictures/test").rename("pictures/t10k")
    convert("pictures", "back-idx")
    assert bytes_in("back-idx") == bytes_in(idx_directory)


# ---------------------------------------------------------------------------------------------- CSV


@pytest.mark.parametrize(
    "text",
    [
        "label,1x1,1x2,2x1,2x2,3x1,3x2\n7,0,1,2,3,4,255\n10,9,8,7,6,5,4\n",
        "\ufefflabel,1x1,1x2,2x1,2x2,3x1,3x2\r\n7,0,1,2,3,4,255\r\n10,9,8,7,6,5,4",
        '"label","1x1","1x2","2x1","2x2","3x1","3x2"\n"7",0,1,2,3,4,255\n10, 9,8,7,6,5,4\n\n',
        "1x1,1x2,2x1,2x2,3x1,3x2,Class\n0,1,2,3,4,255,7\n9,8,7,6,5,4,10\n",
    ],
)
def test_csv_as_others_write_it(text):
    Path("d.csv").write_text(text, encoding="utf-8")
    X, y = read_npz("d.csv")
    assert X.tolist() == [[[0, 1], [2, 3], [4, 255]], [[9, 8], [7, 6], [5, 4]]]
    assert y.tolist() == [7, 10] and X.dtype == y.dtype == np.uint8


@pytest.mark.parametrize(
    "header", ["", "label,pixel0,pixel1,pixel2,pixel3\n", "label,0,1,2,3\n", "y,a,b,c,d\n"]
)
def test_csv_of_square_images(header):
    Path("d.csv").write_text(header + "5,0,1,2,3\n0,4,5,6,7\n")
    X, y = read_npz("d.csv")
    assert X.tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]] and y.tolist() == [5, 0]


def test_csv_that_is_written():
    write_npz("d.npz", *part(2, labels=np.array(["a,b", "c"])))
    convert("d.npz", "d.csv")
    lines = Path("d.csv").read_bytes().split(b"\n")
    assert lines[0] == b"label,1x1,1x2,2x1,2x2,3x1,3x2"
    assert re.fullmatch(rb'"a,b"(,\d+){6}', lines[1]) and lines[3:] == [b""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "it holds no images"),
        (b"label,1x1\n", "it holds no images"),
        (b"label\n3\n", "it holds no images"),
        (b"label,1x1\n3,256\n", "could not convert string '256' to uint8 at row 0, column 2"),
        (b"label,1x1\n3,-1\n", "could not convert string '-1'"),
        (b"label,1x1\n3,0.5\n", "could not convert string '0.5'"),
        (b"label,1x1\n3,\n", "could not convert string ''"),
        (b"label,1x1\n3\n", "1"),
        (b"number,1x1\n3,1\n", "one column must be named label, class, target or y, got 0"),
        (b"label,1x1,class\n3,1,3\n", "got 2 such among label, 1x1, class"),
        (b"\xff\xfe\x00", "codec can't decode"),
    ],
)
def test_csv_that_cannot_be_read(text, message):
    Path("d.csv").write_bytes(text)
    with pytest.raises(ValueError, match=f"^d.csv cannot be read: .*{re.escape(message)}") as error:
        convert("d.csv", "d.npz")
    assert str(error.value).endswith("numbers from 0 to 255.")
    assert not Path("d.npz").exists()


# ------------------------------------------------------------------------------------------ Parquet


@needs("pyarrow")
def test_parquet_as_others_write_it():
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {f"pixel{n}": np.array([n, 0]) for n in range(1, 5)} | {"class": ["7", "9"]}
    pq.write_table(pa.table(columns), "d.parquet")
    X, y = read_npz("d.parquet")
    assert X.tolist() == [[[1, 2], [3, 4]], [[0, 0], [0, 0]]] and y.tolist() == [7, 9]


@needs("pyarrow")
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pixel1": [1]}, "one column must be named label"),
        ({"label": [1]}, "labels or pixels are missing"),
        ({"label": [None], "pixel1": [1]}, "labels or pixels are missing"),
        ({"label": [1], "pixel1": [256]}, "pixels must be integers from 0 to 255"),
        ({"label": [1], "pixel1": [0.5]}, "pixels must be integers from 0 to 255"),
        ({"label": [1, 2], "pixel1": [1, None]}, "pixels must be integers from 0 to 255"),
        ({"label": [1], "pixel1": ["x"]}, "pixels must be integers from 0 to 255"),
        ({"label": [1.5], "pixel1": [1]}, "labels must be integers or strings, got float64"),
    ],
)
def test_parquet_that_cannot_be_read(columns, message):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), "d.parquet")
    with pytest.raises(ValueError, match=message):
        convert("d.parquet", "d.npz")


@needs("pyarrow")
def test_damaged_parquet():
    Path("d.parquet").write_text("PAR1 but no more")
    with pytest.raises(ValueError, match="d.parquet cannot be read: "):
        convert("d.parquet", "d.npz")


def test_without_pyarrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    write_npz("d.npz", *part())
    Path("there.parquet").touch()
    for names in (("d.npz", "d.parquet"), ("there.parquet", "e.npz")):
        with pytest.raises(ImportError, match="^Parquet needs pyarrow: pip install pyarrow.$"):
            convert(*names)
    assert not Path("d.parquet").exists()


# ----------------------------------------------------------------------------------------- the rest


def test_labels_beside_images():
    X, y = part()
    idx.write("train-images.idx3-ubyte", X)
    message = "holds no labels: put those of its images into train-labels.idx1-ubyte"
    with pytest.raises(ValueError, match=message):
        convert("train-images.idx3-ubyte", "d.csv")
    idx.write("train-labels.idx1-ubyte.gz", y)
    convert("train-images.idx3-ubyte", "d.csv")
    np.testing.assert_array_equal(read_npz("d.csv")[1], y)
    np.save("image.npy", X)
    np.save("label.npy", y)
    convert("image.npy", "e.csv")
    assert Path("e.csv").read_bytes() == Path("d.csv").read_bytes()


def test_npz_as_keras_publishes_mnist():
    X, y = part(shape=(4, 4))
    np.savez("mnist.npz", x_train=X[:15], y_train=y[:15], x_test=X[15:], y_test=y[15:])
    convert("mnist.npz", "d-idx")
    convert("d-idx", "back.npz")
    with np.load("mnist.npz") as first, np.load("back.npz") as second:
        assert set(first) == set(second)
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


def test_pixels_that_are_bytes_in_truth():
    X, y = part()
    X2, _ = read_npz(write_npz("d.npz", X.astype(float), y))
    np.testing.assert_array_equal(X2, X)
    for wrong in (X + 0.5, X - 1000.0, np.where(X > 9, np.nan, 0), X.astype("U3")):
        write_npz("d.npz", wrong, y)
        with pytest.raises(ValueError, match="d.npz: pixels must be integers from 0 to 255"):
            convert("d.npz", "e.npz")


@pytest.mark.parametrize(
    ("arrays", "target", "message"),
    [
        ({"x": [[1]], "y": [1, 2]}, "e.npz", r"per label, got shapes \(1, 1\) and \(2,\)"),
        ({"x": [[1]], "y": [0.5]}, "e.npz", "labels must be integers or strings, got float64"),
        ({"x": [[1]], "z": [1]}, "e.npz", r"must hold images and labels .* got x, z"),
        ({"x": [[1]]}, "e.csv", r"must hold images and labels .* got x"),
        ({"x": [[1]], "y": [1]}, "e.npy", "an .npy file holds one array, not images and labels"),
        ({"x": [[1]], "y": ["a"]}, "image-idx", "can only hold integer labels, got 'a'"),
        ({"x": [[1]], "y": [2**40]}, "image-idx", "labels of at most 32 bits, got 0 to 1099511"),
        ({"x": [[1]], "y": [1]}, "e-idx", "must contain 'images', so that labels"),
        ({"x": [[1, 2]], "y": [1]}, "e", "images need a height and a width, got rows of 2"),
        ({"x": [[1]], "y": [1]}, "e.txt", r"TARGET must end in .npz, .npy, .csv, .*got e.txt"),
    ],
)
def test_what_cannot_be_converted(arrays, target, message):
    np.savez("d.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        convert("d.npz", target)
    assert [path.name for path in Path().iterdir()] == ["d.npz"]


def test_two_parts_need_a_directory(idx_directory):
    with pytest.raises(ValueError, match="four IDX files: use a directory, got all.gz"):
        convert(idx_directory, "all.gz")


def test_a_size_is_for_pictures():
    write_npz("d.npz", *part())
    with pytest.raises(ValueError, match="a size is for folders of images, got d.npz: omit it"):
        convert("d.npz", "d.csv", size=(2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["d.csv", "d.npz", "d-idx", PICTURES])
def test_nothing_is_overwritten_unless_told(idx_directory, target):
    convert(idx_directory, target)
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="exists: use another|must be empty, got"):
        convert("digits", target)
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    convert("digits", target, force=True)
    convert(target, "back-idx")
    assert idx.info("back-idx/train-images-idx3-ubyte").shape == (1437, 8, 8)


@pytest.mark.parametrize("target", ["d.csv", "d.npz", "d-idx"])
def test_an_interruption_leaves_nothing(idx_directory, target, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    calls = iter([tables._write_csv, interrupt])
    monkeypatch.setattr(tables, "_write_csv", lambda *args: next(calls)(*args))
    monkeypatch.setattr(np, "savez_compressed", interrupt)
    writes = iter([idx.write, idx.write, interrupt])
    monkeypatch.setattr(idx, "write", lambda *a, **k: next(writes)(*a, **k))
    with pytest.raises(KeyboardInterrupt):
        convert(idx_directory, target)
    files = {path for path in Path().rglob("*") if path.is_file()}
    assert files == set(idx_directory.relative_to(Path.cwd()).iterdir())


@pytest.mark.parametrize("target", ["d.csv", "d-idx"])
@pytest.mark.parametrize("which", [0, -1])
def test_a_directory_in_the_way_is_refused_before_anything_is_replaced(
    idx_directory, target, which
):
    written = list(convert(idx_directory, target))
    before = {path: path.read_bytes() for path in written}
    written[which].unlink()
    written[which].mkdir()
    message = f"{re.escape(str(written[which]))} is a directory, not a file: use another name"
    with pytest.raises(ValueError, match=message):
        convert("digits", target, force=True)
    del before[written[which]]
    assert {path: path.read_bytes() for path in before} == before
    for other in ("d.npz", "one-images-idx3-ubyte.gz"):
        Path(other).mkdir()
        with pytest.raises(ValueError, match=r"is a directory, not|name of the IDX file|four IDX"):
            convert(idx_directory, other, force=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL and limits of files")
@pytest.mark.parametrize("target", ["d.csv", "d-idx"])
@pytest.mark.parametrize("end", ["killed", "full"])
def test_files_of_a_set_are_of_one_run(idx_directory, target, end):
    """Whenever the process is killed, and wherever the disk is full, all are old, or all new."""
    written = list(convert(idx_directory, target))
    code = """
import itertools, os, resource, signal, sys
from pathlib import Path
from fastmlp import idx
from fastmlp.convert import convert, tables
from fastmlp.utils import files
target, end, *written = sys.argv[1:]
before = [Path(name).read_bytes() for name in written]
# Steps; or sizes, from less than the smallest file to more than the largest.
for n in range(1, 15) if end == "killed" else [100, 400, 1_000, 9_000, 90_000, 999_999]:
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = [Path(name).read_bytes() for name in written]
        n_old = sum(map(bytes.__eq__, found, before))
        print(status, n_old, flush=True)
        print("--", file=sys.stderr, flush=True)
        if status == 0:
            break
        continue
    if end == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (n, n))
    else:  # at the n-th step that changes anything in the directory
        steps = itertools.count(1)
        def counting(step):
            def counted(*args, **kwargs):
                if next(steps) == n:
                    os.kill(os.getpid(), signal.SIGKILL)
                return step(*args, **kwargs)
            return counted
        files.workspace = counting(files.workspace)
        files._Part.finish = counting(files._Part.finish)
        tables._write_csv = counting(tables._write_csv)
        idx.write = counting(idx.write)
        files._replace_all = counting(files._replace_all)
    convert("new.npz", target, force=True)
    sys.exit()
"""
    convert("digits", "new.npz")
    run = subprocess.run(
        [sys.executable, "-c", code, target, end, *written], capture_output=True, text=True
    )
    *failed, last = ([int(number) for number in line.split()] for line in run.stdout.splitlines())
    assert last == [0, 0] and len(failed) > 2
    assert all(status and n_old == len(written) for status, n_old in failed)
    if end == "full":
        assert all("File too large" in part for part in run.stderr.split("--\n")[: len(failed)])
    assert not [path for path in written[0].parent.iterdir() if path.name.startswith(".fastmlp")]


@pytest.mark.slow
@pytest.mark.mnist
def test_mnist_comes_back_the_same(mnist):
    directory = datasets.fetch("mnist")
    genuine = [path.read_bytes() for path in datasets.find_idx_files(directory)]
    for start, end in (("mnist", "m.npz"), ("m.npz", "m-idx")):
        convert(start, end)
    assert [Path("m-idx", name).read_bytes() for name in FILE_NAMES] == genuine
    Path("test").mkdir()
    for name in FILE_NAMES[2:]:  # of the larger part, text takes long
        Path("m-idx", name).rename(Path("test", name))
    convert(f"test/{FILE_NAMES[2]}", "t.csv")
    convert("t.csv", FILE_NAMES[2])
    assert [Path(name).read_bytes() for name in FILE_NAMES[2:]] == genuine[2:]
