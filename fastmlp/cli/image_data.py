"""Images on the command line: known data sets, IDX files, arrays and image files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp.cli.output import note, note_columns, note_unknown_classes, noting_warnings
from fastmlp.cli.progress import file_display
from fastmlp.utils import memory
from fastmlp.utils.gray_levels import WHITES, are_opposite, background
from fastmlp.utils.image_shapes import square_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Fraction of the images held out for testing if there is no test part.
HELD_OUT = 0.2

#: Images of several sizes, or larger ones, are resized to this.
DEFAULT_SIZE = (32, 32)
_LARGEST = 64  # rows or columns up to which images are not resized

# How files of PNG, JPEG, BMP, GIF, TIFF, WebP and PNM begin.
_SIGNATURES = (
    *(b"\x89PNG", b"\xff\xd8", b"BM", b"GIF8", b"II", b"MM", b"RIFF"),
    *(b"P%d" % kind for kind in range(1, 8)),
)
_PICTURES_AT_ONCE = 1000
_PART_BYTES = 8 << 20  # of a memory map, in memory
_GRID = 4  # blocks per side of an image whose gray levels are compared
_SAMPLES_TO_JUDGE = 30  # fewer samples vary too much
_LEAST_SPREAD = 5.0  # gray levels; added because constant blocks have no spread
_FAR = 0.65  # standard deviations


@dataclass(frozen=True)
class ImageData:
    """Training and test images, as rows.

    Attributes
    ----------
    train, test : (X, y)
        Arrays of shape (n_samples, n_pixels), uint8, and (n_samples,).
    shape : (rows, columns) or None
        None if the rows are not images.
    file : path or None
        Of the training images, if they are a memory map.
    """

    train: tuple["NDArray[np.uint8]", "NDArray[Any]"]
    test: tuple["NDArray[np.uint8]", "NDArray[Any]"]
    shape: tuple[int, int] | None
    file: Path | None = None


def load(
    data: str,
    data_home: Path | None = None,
    size: tuple[int, int] | None = None,
    max_memory: str | None = None,
) -> ImageData:
    """Load images from a data set by name, an IDX directory or file, .npz, or an image folder.

    Parameters
    ----------
    data : str
    data_home : Path, optional
        For names; see `fastmlp.datasets.load`.
    size : (rows, columns), optional
        Size to resize images to. By default their own, if it is the same for all and not too
        large, otherwise `DEFAULT_SIZE`.
    max_memory : str, optional
        IDX files that take more than half of it are mapped into memory, not read; others are
        refused.
    """
    from fastmlp import datasets
    from fastmlp.convert import read

    path = Path(data).expanduser()
    is_known = data in datasets.DATASETS or data == "digits"
    is_idx = not is_known and path.is_dir() and _is_idx_directory(path)
    if max_memory is not None and not _fits(data, path, size, max_memory):
        if is_idx:
            return _mapped(path, max_memory)
        raise ValueError(
            f"{data} must take at most half of --max-memory {max_memory} in memory, unless it is a "
            f"directory of uncompressed IDX files: pass more memory, or write IDX files with "
            f"'fastmlp data convert', where there is more."
        )
    if is_known or is_idx:
        split = datasets.load(data, data_home)
        note_columns(data)
        return ImageData(*split, _rows_and_columns(datasets.image_shape(data)))
    if not path.exists():
        if path.suffix:
            raise ValueError(
                f"{data} does not exist: name a file with a table or with images, a folder, or one "
                f"of {', '.join([*datasets.DATASETS, 'digits'])}."
            )
        datasets.load(data, data_home)  # refuses it
    if path.is_dir() and not any(entry.is_dir() for entry in path.iterdir()):
        names = sorted(entry.name for entry in path.iterdir())
        raise ValueError(
            f"{data} must hold four IDX files, or one folder of images per label, got "
            f"{', '.join(names[:8]) or 'an empty directory'}{', ...' if names[8:] else ''}."
        )
    if path.is_dir() and size is None:
        size = _size_of(path)
    with noting_warnings(), file_display(wanted=True) as progress:
        parts = read(data, data_home=data_home, size=size, progress=progress)
    shape = _rows_and_columns(next(iter(parts.values())).images.shape[1:])
    rows = [(part.images.reshape(len(part.images), -1), part.labels) for part in parts.values()]
    if len(rows) == 1:
        rows = _split(*rows[0], data)
    return ImageData(rows[0], rows[1], shape)


def _fits(data: str, path: Path, size: tuple[int, int] | None, max_memory: str) -> bool:
    """Return whether images take at most half of some memory."""
    import zipfile

    from fastmlp import datasets, idx

    if data == "digits" or not (data in datasets.DATASETS or path.exists()):  # refused later
        n_bytes = 0
    elif data in datasets.DATASETS:
        n_bytes = 70_000 * 28 * 28
    elif path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(entry.file_size for entry in archive.infolist())
    elif path.is_file():
        try:
            n_bytes = idx.info(path).n_bytes
        except idx.IDXError:
            n_bytes = path.stat().st_size
    elif _is_idx_directory(path):
        n_bytes = sum(idx.info(file).n_bytes for file in datasets.find_idx_files(path))
    else:
        rows, columns = size or (_LARGEST, _LARGEST)
        n_bytes = rows * columns * sum(1 for entry in path.rglob("*") if entry.is_file())
    return n_bytes <= memory.as_bytes(max_memory) / 2


def _mapped(path: Path, max_memory: str) -> ImageData:
    """Return the images of a directory of IDX files as memory maps."""
    from fastmlp import datasets

    files = datasets.find_idx_files(path)
    train, test = (_mapped_pair(*files[i : i + 2], max_memory=max_memory) for i in (0, 2))
    note_columns(str(path))
    return ImageData(train, test, _rows_and_columns(datasets.image_shape(path)), files[0])


def _mapped_pair(images: Path, labels: Path, *, max_memory: str) -> tuple[Any, Any]:
    """Return a memory map of images, as rows, and their labels."""
    from fastmlp import datasets, idx

    if idx.info(images).compressed:
        raise ValueError(
            f"{images} must be uncompressed, because the images take more than half of "
            f"--max-memory {max_memory}: decompress it with gunzip."
        )
    X, y = idx.read(images, mmap=True), datasets.class_column(idx.read(labels))
    if X.dtype != "uint8" or X.ndim < 2 or y.ndim != 1 or len(X) != len(y):
        raise ValueError(
            f"{images} and {labels} must hold images of bytes and a label for each, got {X.dtype} "
            f"of shape {X.shape} and {y.dtype} of shape {y.shape}: they do not belong together."
        )
    return X.reshape(len(X), -1), y


def largest(X: "NDArray") -> int:
    """Return the largest value of bytes, in memory or on disk; at least 1."""
    return max((int(part.max(initial=1)) for part in parts(X)), default=1)


def accuracy(model: Any, X: "NDArray", y: "NDArray") -> float:
    """Return the accuracy of a classifier, on data in memory or on disk."""
    n_correct = start = 0
    for part in parts(X):
        stop = start + len(part)
        n_correct += round(model.score(part, y[start:stop]) * len(part))
        start = stop
    return n_correct / len(X)


def parts(X: "NDArray") -> "Iterator[NDArray]":
    """Yield rows in memory as they are, and those of a memory map some at a time."""
    from fastmlp.blocks import Rows, is_on_disk

    if not is_on_disk(X):
        yield X
        return
    rows, step = Rows(X), max(1, _PART_BYTES // max(1, X.shape[1]))
    for start in range(0, len(X), step):
        yield rows[start : start + step]


def check_classes(data: str, loaded: ImageData) -> None:
    """Refuse a folder of images of a single label."""
    import numpy as np

    labels = np.unique(loaded.train[1])
    if len(labels) == 1 and is_folder(data):
        raise ValueError(
            f"{data} must hold images of two labels or more, got only {labels[0]!s}; make a "
            "folder for each label."
        )


def _rows_and_columns(shape: tuple[int, ...]) -> tuple[int, int] | None:
    return (shape[0], shape[1]) if len(shape) == 2 else None


def is_folder(data: str) -> bool:
    """Return whether a source is a directory of images, not of IDX files."""
    from fastmlp import datasets

    path = Path(data).expanduser()
    is_known = data in datasets.DATASETS or data == "digits"
    return not is_known and path.is_dir() and not _is_idx_directory(path)


def _is_idx_directory(path: Path) -> bool:
    from fastmlp import datasets

    return any("idx" in entry.name.lower() for entry in path.iterdir()) or bool(
        datasets.find_idx_directories(path)
    )


def _size_of(directory: Path) -> tuple[int, int] | None:
    """Return the size to resize images to, or None if they need no resizing."""
    from fastmlp import images

    parts = list(images.find_parts(directory).values()) or [directory]
    sizes: set[tuple[int, int]] = set()
    for part in parts:
        sizes |= set(images.find_pictures(part).sizes)
    if len(sizes) == 1 and max(next(iter(sizes))) <= _LARGEST:
        return None
    height, width = DEFAULT_SIZE
    what = f"{len(sizes)} sizes" if len(sizes) > 1 else "more pixels than a network needs"
    note(
        f"the images have {what}: they are resized to {height} x {width}, in grayscale. Only "
        "'fastmlp train' has --size HxW to change that."
    )
    return DEFAULT_SIZE


def _split(X: Any, y: Any, data: str) -> list[tuple[Any, Any]]:
    """Hold out images for testing, always the same ones, stratified if possible."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    if len(X) < 2:
        raise ValueError(f"{data} must hold several images, got {len(X)}.")
    _, counts = np.unique(y, return_counts=True)
    n_test = int(np.ceil(HELD_OUT * len(y)))
    can_be_stratified = counts.min() >= 2 and len(counts) <= min(n_test, len(y) - n_test)
    note(f"{data} has no test part: {n_test} of {len(X)} images are held out for testing.")
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=HELD_OUT, random_state=0, stratify=y if can_be_stratified else None
    )
    return [(X, y), (X_test, y_test)]


# -------------------------------------------------------------------------------------- for models


def metadata(data: str, loaded: ImageData) -> dict[str, Any]:
    """Return the metadata of the training images, to be saved with a model."""
    X, _ = loaded.train
    if loaded.shape is None:
        return {"kind": "rows", "data": data}
    images = X[:_PICTURES_AT_ONCE].reshape(-1, *loaded.shape)
    grays = _grays(images)
    return {
        "kind": "images",
        "data": data,
        "shape": list(loaded.shape),
        "background": background(images),
        "white": next(white for white in WHITES if largest(X) <= white),
        "grays": grays.mean(axis=0).round(1).tolist(),
        "spread of grays": grays.std(axis=0).round(1).tolist(),
    }


def _grays(images: "NDArray") -> "NDArray":
    """Return the mean gray levels of 4 x 4 blocks of images, shape (n_samples, n_blocks)."""
    import numpy as np

    rows, columns = (
        np.linspace(0, length, min(_GRID, length) + 1).astype(int)[:-1]
        for length in images.shape[1:]
    )
    sums = np.add.reduceat(np.add.reduceat(images, rows, 1, np.int64), columns, 2)
    sizes = np.outer(
        *(
            np.diff([*starts, length])
            for starts, length in zip((rows, columns), images.shape[1:], strict=True)
        )
    )
    return (sums / sizes).reshape(len(images), -1)


def note_strangers(model: Any, data: str, X: "NDArray", y: "NDArray | None" = None) -> None:
    """Print a note if samples differ from the training data of a model.

    This is when they have unknown classes, or their gray levels differ more than between two
    samples of one data set: MNIST's test images by 0.2 standard deviations, Fashion-MNIST by 1.8.
    """
    import numpy as np

    if y is not None and hasattr(model, "classes_"):
        note_unknown_classes(model, y, f"labels of {data} are")
    about = getattr(model, "metadata_", {})
    if about.get("kind") != "images" or "grays" not in about or len(X) < _SAMPLES_TO_JUDGE:
        return
    chosen = X[:: max(1, len(X) // _PICTURES_AT_ONCE)]
    grays = _grays(chosen.reshape(-1, *about["shape"])).mean(axis=0)
    spread = np.asarray(about["spread of grays"]) + _LEAST_SPREAD
    distance = float(np.sqrt(np.mean(((grays - about["grays"]) / spread) ** 2)))
    if distance > _FAR:
        note(
            f"{data} differs from the training data ({about['data']}): gray levels differ by "
            f"{distance:.1f} standard deviations. Predictions may be meaningless."
        )


def shape_of_model(model: Any) -> tuple[int, int] | None:
    """Return the shape of the training images of a model, or None if it is not known."""
    known = getattr(model, "metadata_", {}).get("shape")
    if known is not None:
        return known[0], known[1]
    return square_shape(model.n_features_in_)


def pictures_for(model: Any, path: Path) -> tuple["NDArray[np.uint8]", list[str]]:
    """Return one image, or all of a folder, as input rows of a model, and their names.

    They are converted to grayscale and resized to the size of the training images. Gray levels are
    inverted if the background is light and that of the training images dark, or vice versa.
    """
    from fastmlp import images

    shape = shape_of_model(model)
    if shape is None:
        raise ValueError(
            f"the model must have been trained on images to predict images, got a model with "
            f"{model.n_features_in_} features: use rows in IDX, .npy or .npz files."
        )
    rows, names = images.read_pictures(path, shape)
    trained_on = getattr(model, "metadata_", {}).get("background")
    found = background(rows)
    if trained_on is not None and are_opposite(trained_on, found):
        here, there = ("light", "dark") if found > trained_on else ("dark", "light")
        note(f"the background is {here}, not {there} as in training: gray levels are inverted.")
        rows = 255 - rows
    white = getattr(model, "metadata_", {}).get("white", 255)  # 16 of scikit-learn's digits
    if white != 255:
        rows = (rows.astype("uint16") * white // 255).astype("uint8")
    return rows.reshape(len(rows), -1), names


def is_picture(path: Path) -> bool:
    """Return whether a path is a readable image file, or a directory."""
    from fastmlp import images

    if path.is_dir() or not path.exists():
        return path.is_dir()
    with path.open("rb") as file:
        looks_like_one = file.read(4).startswith(_SIGNATURES)
    return looks_like_one and images.is_picture(path)  # arrays need no Pillow
