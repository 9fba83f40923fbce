"""Folders of pictures: real files of many kinds, read, written, and read back."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from fastmlp import images
from fastmlp.images import (
    UnreadableFileWarning,
    find_parts,
    find_pictures,
    load_folder,
    save_folder,
)

Image = pytest.importorskip("PIL.Image", reason="images need Pillow: fastmlp[images]")

RAMP = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


def put(folder, name, picture=RAMP, **options):
    """Save a picture, of which an array holds the grays or colours."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    picture.save(path, **options)
    return path


def only(folder, **options):
    """Return the one picture of a folder, (height, width)."""
    found = load_folder(folder, **options)
    assert len(found.X) == 1 and not found.unreadable
    return found.X.reshape(found.shape)


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --------------------------------------------------------------------------- what becomes of pixels


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff", "gif", "pgm", "webp"])
def test_gray_comes_as_it_is(folder, ending):
    put(folder, f"0/a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    found = load_folder(folder)
    np.testing.assert_array_equal(found.X.reshape(3, 4), RAMP)
    assert found.X.shape == (1, 12) and found.X.dtype == np.uint8 and found.shape == (3, 4)
    assert found.X.flags.c_contiguous


def test_jpeg_nearly_does(folder):
    put(folder, "0/a.jpg", np.full((8, 8), 77, np.uint8))
    np.testing.assert_allclose(only(folder), 77, atol=1)


def test_the_content_decides_not_the_name(folder):
    put(folder, "0/a.png", format="BMP")
    put(folder, "0/b", format="PNG")
    np.testing.assert_array_equal(load_folder(folder).X, [RAMP.ravel(), RAMP.ravel()])


def test_colours_become_gray_by_their_luma(folder):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]]], np.uint8)
    put(folder, "0/a.png", colours)
    assert only(folder).tolist() == [[76, 150, 29, 9]]  # 0.299, 0.587 and 0.114 of 255


def test_palette(folder):
    put(folder, "0/a.png", Image.fromarray(RAMP).convert("RGB").quantize(256))
    np.testing.assert_array_equal(only(folder), RAMP)


def test_two_colours(folder):
    put(folder, "0/a.png", Image.fromarray(RAMP > 100))
    np.testing.assert_array_equal(only(folder), np.where(RAMP > 100, 255, 0))


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_16_bits_are_scaled_to_8(folder, ending):
    deep = np.array([[0, 128, 129, 257, 32768, 65407, 65535]], np.uint16)
    if ending == "pgm":  # which not every Pillow writes
        (folder / "0").mkdir(parents=True)
        (folder / "0" / "a.pgm").write_bytes(b"P5 7 1 65535\n" + deep.astype(">u2").tobytes())
    else:
        put(folder, f"0/a.{ending}", Image.fromarray(deep))
    assert only(folder).tolist() == [[0, 0, 1, 1, 128, 255, 255]]  # v / 257, rounded


def test_every_gray_of_8_bits_survives_16(folder):
    grays = np.arange(256, dtype=np.uint16)[None]
    put(folder, "0/a.png", Image.fromarray(grays * 257))
    np.testing.assert_array_equal(only(folder), grays)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_show_the_background(folder, mode):
    alpha = np.array([[0, 255, 128]], np.uint8)
    gray = np.array([[200, 200, 200]], np.uint8)
    if mode == "P":
        picture, options = Image.fromarray(np.array([[0, 1, 2]], np.uint8)), {}
        picture.putpalette([200] * 9)
        options["transparency"] = bytes(alpha.tolist()[0])
        put(folder, "0/a.png", picture, **options)
    else:
        planes = [gray] * (3 if mode == "RGBA" else 1) + [alpha]
        put(folder, "0/a.png", Image.fromarray(np.stack(planes, axis=-1)))
    np.testing.assert_allclose(only(folder), [[0, 200, 100]], atol=1)
    np.testing.assert_allclose(only(folder, background=255), [[255, 200, 227]], atol=1)


def test_one_colour_that_stands_for_transparent(folder):
    colours = np.array([[[9, 9, 9], [7, 7, 7]]], np.uint8)
    put(folder, "0/a.png", colours, transparency=(9, 9, 9))
    assert only(folder).tolist() == [[0, 7]]


def test_photographs_are_turned_upright(folder):
    picture = Image.fromarray(RAMP)
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was held upright
    put(folder, "0/a.png", picture, exif=exif)
    np.testing.assert_array_equal(only(folder), np.rot90(RAMP, -1))


def test_of_several_frames_the_first_counts(folder):
    other = Image.fromarray(255 - RAMP)
    put(folder, "0/a.gif", save_all=True, append_images=[other])
    put(folder, "0/b.tiff", save_all=True, append_images=[other])
    np.testing.assert_array_equal(load_folder(folder).X, [RAMP.ravel(), RAMP.ravel()])


# --------------------------------------------------------------------------------- labels and order


def test_order_and_numeric_labels(folder):
    for number, name in enumerate(["10/9.png", "10/10.png", "9/b10.png", "9/b9.png", "9/a.png"]):
        put(folder, name, np.full((1, 2), number, np.uint8))
    found = load_folder(folder)
    assert found.paths == ["9/a.png", "9/b9.png", "9/b10.png", "10/9.png", "10/10.png"]
    assert found.X[:, 0].tolist() == [4, 3, 2, 0, 1]
    assert found.y.tolist() == [9, 9, 9, 10, 10] and found.y.dtype == np.uint8
    assert found.index is None


@pytest.mark.parametrize(
    ("names", "labels", "dtype"),
    [
        (["-1", "0", "2"], [-1, 0, 2], np.int64),
        (["7", "300"], [7, 300], np.int64),
        (["cat", "dog"], ["cat", "dog"], "<U3"),
        (["7", "class10", "class9"], ["7", "class9", "class10"], "<U7"),
        (["a b", "ä"], ["a b", "ä"], "<U3"),
        (["007", "010"], [7, 10], np.uint8),
        (["1", "01"], ["01", "1"], "<U2"),  # two labels, not one
        (["-9223372036854775808", "5"], [-(2**63), 5], np.int64),
        (["5", "18446744073709551615"], [5, 2**64 - 1], np.uint64),
        (["-1", "9223372036854775808"], ["-1", "9223372036854775808"], "<U19"),
        (["5", "123456789012345678901"], ["5", "123456789012345678901"], "<U21"),
    ],
)
def test_labels(folder, names, labels, dtype):
    for name in names:
        put(folder, f"{name}/1.png")
    y = load_folder(folder).y
    assert y.tolist() == labels and y.dtype == dtype


def test_the_result_does_not_depend_on_the_threads(folder):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (70, 12), dtype=np.uint8)
    save_folder(X, rng.integers(0, 3, 70), folder, (3, 4), n_threads=3)
    (folder / "1" / "1000.png").write_text("text")
    with pytest.warns(UnreadableFileWarning):
        one = load_folder(folder, n_threads=1)
    with pytest.warns(UnreadableFileWarning):
        many = load_folder(folder, n_threads=5)
    np.testing.assert_array_equal(one.X, many.X)
    assert one.paths == many.paths and one.unreadable == many.unreadable


# ------------------------------------------------------------------------------------------- sizes


def test_sizes_must_agree(folder):
    put(folder, "0/1.png")
    put(folder, "0/2.png", RAMP.T.copy())
    message = (
        r"must have the same size, got 3 x 4 \(0/1.png\) and 4 x 3 \(0/2.png\): give the size "
        r"that they are to be resized to, such as size=\(28, 28\)"
    )
    with pytest.raises(ValueError, match=message):
        load_folder(folder)
    assert load_folder(folder, size=(2, 5)).shape == (2, 5)


def test_resizing_passes_over_no_pixel(folder):
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 200
    put(folder, "0/a.png", checks.astype(np.uint8))
    put(folder, "0/b.png", np.full((5, 7), 50, np.uint8))
    X = load_folder(folder, size=(4, 4)).X
    np.testing.assert_allclose(X[0], 100, atol=2)
    np.testing.assert_array_equal(X[1], 50)
    put(folder, "0/b.png", RAMP)
    np.testing.assert_array_equal(load_folder(folder, size=(3, 4)).X[1], RAMP.ravel())


@pytest.mark.parametrize("size", [(0, 3), (3,), 28, (2, 2, 2), ("a", 1)])
def test_a_size_that_is_none(folder, size):
    put(folder, "0/1.png")
    with pytest.raises(ValueError, match=r"size must be \(height, width\), both at least 1, got"):
        load_folder(folder, size)


def test_a_background_that_is_none(folder):
    with pytest.raises(ValueError, match="background must be a gray level from 0 .* got 256"):
        load_folder(folder, background=256)


# ---------------------------------------------------------------------------- what cannot be read


def test_unreadable_files_are_listed_and_the_others_read(folder, monkeypatch):
    for name in ("0/5.png", "1/6.png"):
        put(folder, name)
    whole = put(folder, "0/cut.png", np.random.default_rng(0).integers(0, 255, (60, 60), np.uint8))
    whole.write_bytes(whole.read_bytes()[:-900])
    header = put(folder, "0/header.png")
    header.write_bytes(header.read_bytes()[:12])
    broken = put(folder, "0/broken.png")
    broken.write_bytes(broken.read_bytes().replace(b"IDAT", b"IDA!"))
    put(folder, "0/float.tiff", Image.fromarray(np.ones((3, 4), np.float32)))
    put(folder, "1/huge.png", np.zeros((70, 70), np.uint8))  # Pillow warns
    put(folder, "1/gigantic.png", np.zeros((90, 90), np.uint8))  # Pillow refuses
    put(folder, "1/deeper/7.png")
    put(folder, "above.png")
    put(folder, "1/.hidden.png")
    put(folder, ".hidden/8.png")
    (folder / "0" / "text.png").write_text("not a picture")
    (folder / "0" / "empty.png").touch()
    (folder / "0" / "Thumbs.db").write_text("from Windows")
    (folder / "0" / "dangling.png").symlink_to(folder / "nowhere")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "0" / "pipe.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3600)

    with pytest.warns(UnreadableFileWarning, match="^1[12] files were left out: 0/b") as caught:
        found = load_folder(folder)
    assert caught[0].filename == __file__
    assert found.paths == ["0/5.png", "1/6.png"] and found.y.tolist() == [0, 1]
    np.testing.assert_array_equal(found.X, [RAMP.ravel(), RAMP.ravel()])
    reasons = dict(found.unreadable)
    assert list(reasons) == sorted(reasons)
    reasons.pop("0/pipe.png", None)
    bomb = "claims to have more than 3,600 pixels"
    assert "is damaged" in reasons.pop("0/broken.png")
    assert "truncated" in reasons.pop("0/cut.png")
    assert reasons == {
        "0/dangling.png": "is not a file, or a broken link",
        "0/empty.png": "is empty",
        "0/float.tiff": "has 32-bit pixels, whose range is not known",
        "0/header.png": "is damaged: its header cannot be read",
        "0/text.png": "is not an image of a supported format, it starts with b'not a picture'",
        "1/deeper": "is a folder within a label's folder, which is not searched",
        "1/gigantic.png": bomb,
        "1/huge.png": bomb,
        "above.png": "is not in the folder of a label",
    }


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
def test_a_file_cut_anywhere_is_no_crash(folder, ending):
    noise = np.random.default_rng(1).integers(0, 256, (9, 9), dtype=np.uint8)
    data = put(folder, f"0/whole.{ending}", noise).read_bytes()
    for length in range(0, len(data), 7):
        (folder / "0" / f"cut{length}.{ending}").write_bytes(data[:length])
    for place in range(0, len(data), 5):  # and with a byte that is wrong
        spoiled = bytearray(data)
        spoiled[place] ^= 0x55
        (folder / "0" / f"spoiled{place}.{ending}").write_bytes(spoiled)
    with pytest.warns(UnreadableFileWarning):
        found = load_folder(folder, size=(9, 9))
    assert f"0/whole.{ending}" in found.paths
    assert len(found.paths) + len(found.unreadable) == len(list((folder / "0").iterdir()))
    assert found.X.shape == (len(found.paths), 81) and found.y.shape == (len(found.paths),)


def test_many_unreadable_files_are_counted(folder):
    put(folder, "0/0.png")
    for number in range(1, 14):
        (folder / "0" / f"{number}.png").touch()
    with pytest.warns(UnreadableFileWarning, match=r"^13 files .*0/10.png \(is empty\) and 3 more"):
        assert len(load_folder(folder).unreadable) == 13


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all files")
def test_a_file_that_may_not_be_read(folder):
    put(folder, "0/0.png")
    put(folder, "0/1.png").chmod(0)
    with pytest.warns(UnreadableFileWarning, match="cannot be opened: Permission denied"):
        load_folder(folder)


def test_folders_without_pictures(folder):
    with pytest.raises(FileNotFoundError):
        load_folder(folder)
    folder.mkdir()
    with pytest.raises(
        ValueError, match="must hold one folder per label .* got an empty directory"
    ):
        load_folder(folder)
    put(folder, "a.png")
    with pytest.raises(ValueError, match="must hold one folder per label .* got a.png"):
        load_folder(folder)
    (folder / "0").mkdir()
    with pytest.raises(
        ValueError, match=r"got no readable image: a.png \(is not in the folder of a label"
    ):
        load_folder(folder)
    (folder / "a.png").rename(folder / "0" / "a.png")
    (folder / "0" / "a.png").write_text("text")
    with pytest.raises(ValueError, match=r"got no readable image: 0/a.png \(is not an image"):
        load_folder(folder)


@pytest.mark.parametrize("test", ["test", "t10k"])
def test_parts_are_not_read_as_one(folder, test):
    """The sentence names the directories that can be read, of which there is a folder per part."""
    for part in ("train", test):
        X, y = sample(20)
        save_folder(X, y, folder / part, (3, 4))
    named = rf"got such folders in {test}, train: use one of these, such as {folder}/{test}\."
    for read in (load_folder, find_pictures):
        with pytest.raises(ValueError, match=named):
            read(folder)
    assert find_parts(folder) == {"train": folder / "train", "test": folder / test}
    assert find_parts(folder / test) == {}
    assert len(load_folder(folder / test).X) == 20
    (folder / test / "README").touch()
    for read in (load_folder, find_pictures):
        with pytest.raises(ValueError, match=named):
            read(folder)


def test_labels_called_like_parts_are_labels(folder):
    put(folder, "train/0.png")
    put(folder, "test/0.png")
    assert find_parts(folder) == {}
    assert load_folder(folder).y.tolist() == ["test", "train"]


def test_what_is_in_a_folder(folder):
    for name in ("9/a.png", "10/b.jpg", "10/c.gif"):
        put(folder, name)
    put(folder, "10/wide.bmp", np.zeros((2, 7), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    put(folder, "10/turned.jpg", RAMP, exif=exif)
    (folder / "9" / "text").write_text("text")
    (folder / "9" / "more").mkdir()
    (folder / "none").mkdir()
    progress = []
    found = find_pictures(folder, progress=lambda done, total: progress.append((done, total)))
    assert found.labels == {"9": 1, "10": 4}
    assert found.sizes == {(3, 4): 3, (2, 7): 1, (4, 3): 1}
    assert [path for path, _ in found.unreadable] == ["9/more", "9/text"]
    assert progress == [(6, 6)]
    with pytest.raises(ValueError, match="must hold one folder of images per label, got no"):
        find_pictures(folder / "9")
    with pytest.raises(FileNotFoundError):
        find_pictures(folder / "nowhere")


def test_without_pillow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    for call in (lambda: load_folder(folder), lambda: save_folder([[1]], [1], folder)):
        with pytest.raises(ImportError, match=r"images need Pillow: pip install 'fastmlp\[imag"):
            call()


# --------------------------------------------------------------------------- writing, and back


def sample(n=50, seed=0, n_pixels=12):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 256, (n, n_pixels), dtype=np.uint8)
    return X, rng.integers(0, 3, n).astype(np.uint8)


@pytest.mark.parametrize("layout", ["flat", "images", "read-only", "strided"])
def test_round_trip(folder, layout):
    X, y = sample()
    given = X if layout == "flat" else X.reshape(-1, 3, 4)
    if layout == "strided":
        given = np.repeat(given, 2, axis=0)[::2]
    given.flags.writeable = layout != "read-only"
    save_folder(given, y, folder, None if given.ndim == 3 else (3, 4))
    assert files_in(folder) == sorted(f"{label}/{row}.png" for row, label in enumerate(y))
    found = load_folder(folder)
    order = np.argsort(y, kind="stable")
    np.testing.assert_array_equal(found.index, order)
    np.testing.assert_array_equal(found.X, X[order])
    back = np.argsort(found.index)
    np.testing.assert_array_equal(found.X[back], X)
    np.testing.assert_array_equal(found.y[back], y)
    assert found.y.dtype == y.dtype


@pytest.mark.parametrize("labels", [["b", "a", "c d"], [-5, 7, 300], [2, 2, 2]])
def test_round_trip_of_labels(folder, labels):
    X, _ = sample(3, n_pixels=9)
    save_folder(X, labels, folder)
    found = load_folder(folder)
    assert found.y[np.argsort(found.index)].tolist() == labels


def test_no_images(folder):
    save_folder(np.ones((0, 784), np.uint8), np.ones(0, int), folder)
    assert folder.is_dir() and files_in(folder) == []


@pytest.mark.parametrize(
    ("X", "y", "shape", "message"),
    [
        (
            np.ones((2, 4)),
            [0, 1],
            None,
            r'got float64: convert it with \(255 \* X\).astype\("uint8"',
        ),
        (np.ones((2, 4), bool), [0, 1], None, r'got bool: convert it with \(255 \* X\).astype\("u'),
        (np.full((2, 4), 255), [0, 1], None, r'got int64: convert it with X.astype\("uint8"\)\.$'),
        (np.full((2, 4), 9.0), [0, 1], None, r'float64: convert it with X.astype\("uint8"\)\.$'),
        (np.full((2, 4), 9.5), [0, 1], None, r'convert it with X.round\(\).astype\("uint8"\)\.$'),
        (np.full((2, 4), 256), [0, 1], None, r"got int64 from 256 to 256: scale it to 0\.\.255"),
        (np.full((2, 4), -1), [0, 1], None, r"got int64 from -1 to -1: scale it to 0\.\.255"),
        (np.full((2, 4), np.nan), [0, 1], None, r"got float64 from nan to nan: scale it"),
        (np.full((2, 4), "a"), [0, 1], None, r"X must be uint8, got <U1\.$"),
        (np.ones(4, np.uint8), [0], None, r"X must be of shape .* got \(4,\)"),
        (np.ones((1, 6), np.uint8), [0], None, r"must be square .* got 6 pixels: give shape=\(h"),
        (np.ones((1, 6), np.uint8), [0], (2, 2), r"shape must be that of .* got \(2, 2\)"),
        (np.ones((1, 2, 3), np.uint8), [0], (3, 3), r"shape must be that of .* got \(3, 3\)"),
        (np.ones((1, 6), np.uint8), [0], (-2, -3), r"shape must be \(height, width\), both at"),
        (np.ones((2, 4), np.uint8), [0], None, r"one label per image, \(2,\), got shape \(1,\)"),
        (np.ones((1, 4), np.uint8), [0.5], None, "y must hold integers or strings, got float64"),
        (np.ones((1, 4), np.uint8), np.array([None]), None, "got other objects too"),
        *(
            (np.ones((1, 4), np.uint8), [name], None, "be valid names of folders .* rename it")
            for name in (
                "",
                "..",
                "a/b",
                "a\\b",
                ".hidden",
                "x.",
                "\n",
                "a:b",
                "Thumbs.db",
                "\ud800",
            )
        ),
    ],
)
def test_what_cannot_be_saved(folder, X, y, shape, message):
    with pytest.raises(ValueError, match=message):
        save_folder(X, y, folder, shape)
    assert not folder.exists()


def test_only_own_pictures_are_replaced(folder):
    X, y = sample(8)
    save_folder(X, y, folder, (3, 4))
    before = files_in(folder)
    with pytest.raises(ValueError, match=r"must be empty, got \d in it: use another directory"):
        save_folder(X, y, folder, (3, 4))
    save_folder(X[:2], [7, 7], folder, (3, 4), overwrite=True)
    assert files_in(folder) == ["7/0.png", "7/1.png"] != before
    assert sorted(os.listdir(folder)) == ["7"]
    for name in ("7/holiday.jpg", "notes.txt", "7/1/note"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
        with pytest.raises(ValueError, match=f"nothing but folders of .* got .*{name}"):
            save_folder(X, y, folder, (3, 4), overwrite=True)
        (folder / name).unlink()
    (folder / "file").touch()
    with pytest.raises(ValueError, match="must be a directory or a new name, got a file"):
        save_folder(X, y, folder / "file", (3, 4), overwrite=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("existing", [False, True])
def test_what_a_process_that_was_killed_has_left_is_no_obstacle(folder, existing):
    """It is hidden in the directory, which counts as empty, and cleared by the next write."""
    X, y = sample(30)
    if existing:
        save_folder(X[:3], y[:3], folder, (3, 4))
        before = files_in(folder)
    code = (
        "import os, signal, sys, numpy as np; from fastmlp import images\n"
        "write = images._write_png\n"
        "def die(image, path):\n"
        "    if path.endswith('20.png'): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(image, path)\n"
        "images._write_png = die\n"
        "X = np.zeros((30, 12), np.uint8)\n"
        "images.save_folder(X, X[:, 0], sys.argv[1], (3, 4), overwrite=True)"
    )
    run = subprocess.run([sys.executable, "-c", code, folder])
    assert run.returncode == -signal.SIGKILL
    left = [name for name in os.listdir(folder) if name.startswith(".")]
    assert len(left) == 2
    if existing:
        assert sorted(set(files_in(folder)) & set(before)) == before
        with pytest.raises(ValueError, match=r"must be empty, got \d in it"):
            save_folder(X, y, folder, (3, 4))
    save_folder(X, y, folder, (3, 4), overwrite=existing)
    assert files_in(folder) == sorted(f"{label}/{row}.png" for row, label in enumerate(y))
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_a_failure_leaves_nothing_behind(folder, monkeypatch):
    X, y = sample(100)
    written = []
    write = images._write_png

    def fail(image, path):
        written.append(path)
        if path.endswith("40.png"):
            raise OSError(28, "No space left on device", path)
        write(image, path)

    monkeypatch.setattr(images, "_write_png", fail)
    with pytest.raises(OSError, match="No space left"):
        save_folder(X, y, folder, (3, 4))
    assert written and not folder.exists()

    folder.mkdir()  # one that was there stays
    with pytest.raises(OSError, match="No space left"):
        save_folder(X, y, folder, (3, 4), n_threads=1)
    assert list(folder.iterdir()) == []
    monkeypatch.undo()
    save_folder(X[:3], y[:3], folder, (3, 4))
    before = files_in(folder)
    monkeypatch.setattr(images, "_write_png", fail)
    with pytest.raises(OSError, match="No space left"):
        save_folder(X, y, folder, (3, 4), overwrite=True)
    assert files_in(folder) == before


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGINT")
def test_ctrl_c_leaves_nothing_behind(folder):
    code = (
        "import sys, numpy as np; from fastmlp.images import save_folder;"
        "X = np.zeros((200000, 784), np.uint8); y = np.zeros(len(X), int);"
        "save_folder(X, y, sys.argv[1], progress=lambda *_: print('going', flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"going\n"
        assert any(folder.rglob("*.png"))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in stderr and process.returncode != 0
    assert not folder.exists()


def test_progress(folder):
    X, y = sample(50)
    calls = []
    save_folder(X, y, folder, (3, 4), progress=lambda *call: calls.append(call))
    assert calls == [(16, 50), (32, 50), (48, 50), (50, 50)]
    calls.clear()
    load_folder(folder, progress=lambda *call: calls.append(call))
    assert calls[-1] == (50, 50) and calls == sorted(calls)


@pytest.mark.mnist
def test_some_of_mnist(mnist, folder):
    X, y = (array[:500] for array in mnist[1])
    save_folder(X, y, folder)
    found = load_folder(folder)
    order = np.argsort(found.index)
    np.testing.assert_array_equal(found.X[order], X)
    np.testing.assert_array_equal(found.y[order], y)


@pytest.mark.mnist
@pytest.mark.skipif(
    not os.environ.get("FASTMLP_ALL_PICTURES"), reason="takes long: FASTMLP_ALL_PICTURES=1 runs it"
)
def test_all_of_mnist(mnist, folder):
    X, y = map(np.concatenate, zip(*mnist, strict=True))
    save_folder(X, y, folder)
    found = load_folder(folder)
    order = np.argsort(found.index)
    assert np.array_equal(found.X[order], X) and np.array_equal(found.y[order], y)
