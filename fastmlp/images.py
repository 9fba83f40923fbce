"""Read and write folders of images, with one subfolder per label, as 8-bit grayscale.

Pillow decodes and encodes; this module determines samples, labels and their order. Files that
cannot be read are skipped and listed with the reason.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.exceptions import FastMLPWarning, warn
from fastmlp.utils.files import atomic_directory, is_temporary
from fastmlp.utils.image_shapes import check_shape, shape_of_images, square_shape
from fastmlp.utils.threads import usable_threads

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = [
    "ImageFolder",
    "Pictures",
    "UnreadableFileWarning",
    "check_destination",
    "find_parts",
    "find_pictures",
    "is_picture",
    "labels_from_text",
    "load_folder",
    "read_pictures",
    "save_folder",
    "square_shape",
]

AnyPath: TypeAlias = str | os.PathLike[str]
Progress: TypeAlias = Callable[[int, int], object]  # done, total

# Not all formats of Pillow: some run other programs, some accept any text as an image.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_MAGIC = (b"\x89PNG", b"\xff\xd8", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")
_CHUNK = 16  # images per task of a thread; Ctrl-C waits for them
_MOST_LISTED = 10

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_OWN_NAME = re.compile(r"[0-9]+\.png")  # file names of `save_folder`
_LITTER = ("Thumbs.db", "desktop.ini")  # created by Windows
# Names of folders that are invalid on some system, or hidden.
_NO_FOLDER_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^\.|[. ]$|^$')


# The reason for skipping folders within the folder of a label.
_NESTED = "is a folder within a label's folder, which is not searched"

# Names of the parts of a data set, each a directory with one folder per label.
_TRAIN, _TESTS = "train", ("test", "t10k")


class UnreadableFileWarning(FastMLPWarning):
    """Some files in an image folder were skipped, because they could not be read."""


class _UnknownRangeError(ValueError):
    pass


@dataclass(frozen=True)
class ImageFolder:
    """The result of `load_folder`.

    Attributes
    ----------
    X : ndarray of shape (n_samples, height * width), uint8
        One grayscale image per row, 0 is black.
    y : ndarray of shape (n_samples,), uint8, int64 or str
        The names of the folders: numbers if all of them are integers, otherwise text.
    shape : (int, int)
        Height and width of the images.
    paths : list of str
        ``label/file`` of every row.
    unreadable : list of (str, str)
        Skipped files: path and reason.
    """

    X: NDArray[np.uint8]
    y: NDArray[Any]
    shape: tuple[int, int]
    paths: list[str]
    unreadable: list[tuple[str, str]]

    @property
    def index(self) -> NDArray[np.int64] | None:
        """Numbers in the names of the files, (n_samples,); None unless all differ.

        `save_folder` names each image by its row, so ``X[np.argsort(index)]`` restores the
        original order.
        """
        stems = [Path(path).stem for path in self.paths]
        if not all(re.fullmatch("[0-9]{1,18}", stem) for stem in stems):
            return None
        numbers = np.array([int(stem) for stem in stems], np.int64)
        return numbers if len(np.unique(numbers)) == len(numbers) else None


@dataclass(frozen=True)
class Pictures:
    """The result of `find_pictures`.

    Attributes
    ----------
    labels : dict of str to int
        The name of each label's folder, and its number of images.
    sizes : dict of (int, int) to int
        Height and width, and the number of images of this size.
    unreadable : list of (str, str)
        Files that `load_folder` would skip: path and reason.
    """

    labels: dict[str, int]
    sizes: dict[tuple[int, int], int]
    unreadable: list[tuple[str, str]]


# ----------------------------------------------------------------------------------------- reading


def load_folder(
    directory: AnyPath,
    size: tuple[int, int] | None = None,
    *,
    background: int = 0,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> ImageFolder:
    """Read a directory of images with one subfolder per label.

    Images may be PNG, JPEG, BMP, GIF, TIFF, WebP or PNM, detected by content, not by name. Colors
    are converted to grayscale by their luma (0.299 R + 0.587 G + 0.114 B), 16 bits to 8, of
    several frames the first is used, and photographs are rotated according to their metadata.
    8-bit grayscale images are not changed.

    Hidden files and folders are ignored. Everything else in a label's folder that is not an image
    is skipped, with a warning, and listed: other files, damaged ones, folders.

    Parameters
    ----------
    directory : path
        Contains ``label/image`` for each sample. If there are train and test parts, use the
        directory of one part.
    size : (height, width), optional
        Resize all images to this size, without keeping the aspect ratio. By default, they must all
        have the same size.
    background : int, default=0
        The gray level, 0..255, behind transparent pixels. The default is black, as in MNIST; dark
        ink on a transparent background needs 255.
    n_threads : int, optional
        By default all CPUs available to the process; the result does not depend on it.
    progress : callable, optional
        Called as ``progress(done, total)`` from time to time, with numbers of files.

    Returns
    -------
    folder : ImageFolder
        Sorted by label (numbers by value), then by name in natural order: 10.png follows 9.png.

    Raises
    ------
    ValueError
        There is no readable image, sizes differ and `size` is not given, or an argument is
        invalid.
    OSError
        The directory cannot be read.
    ImportError
        Pillow is not installed.

    Warns
    -----
    UnreadableFileWarning
        If files were skipped.

    Examples
    --------
    >>> folder = load_folder("pictures", size=(28, 28))  # doctest: +SKIP
    >>> model.fit(folder.X, folder.y)  # doctest: +SKIP
    """
    pillow = _pillow()
    if size is not None:
        size = check_shape(size, "size")
    if not 0 <= background <= 255:
        raise ValueError(
            f"background must be a gray level from 0 (black) to 255, got {background}."
        )
    directory = Path(directory).expanduser()
    found, unreadable = _find_pictures(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about invalid metadata
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        read = partial(_read_gray, size=size, background=background)
        paths = [path for _, path in found]
        images, reasons = _read_all(directory, paths, read, n_threads, progress)
    if images is None:
        raise ValueError(_nothing_found(directory, found, unreadable, reasons))
    unreadable = _failures(found, unreadable, reasons)
    if unreadable:
        warn(f"{_count(len(unreadable), 'file')} left out: {_listed(unreadable)}.",
             UnreadableFileWarning)  # fmt: skip
        kept = [number for number in range(len(found)) if number not in reasons]
        images = images[kept]
        found = [found[number] for number in kept]
    return ImageFolder(
        X=images.reshape(len(images), -1),
        y=labels_from_text([label for label, _ in found]),
        shape=(images.shape[1], images.shape[2]),
        paths=[path for _, path in found],
        unreadable=unreadable,
    )


def _read_all(
    directory: Path,
    paths: Sequence[str],
    read: Callable[[str], tuple[NDArray[np.uint8] | None, str]],
    n_threads: int | None,
    progress: Progress | None,
) -> tuple[NDArray[np.uint8] | None, dict[int, str]]:
    """Return the images in one array (None if there are none), and errors by index.

    The array has a row for each path, including those that were not read.
    """
    reasons: dict[int, str] = {}
    for first, path in enumerate(paths):
        image, reason = read(os.path.join(directory, path))
        if image is not None:
            break
        reasons[first] = reason
    else:
        return None, reasons
    images = np.empty((len(paths), *image.shape), np.uint8)

    def read_some(numbers: range) -> dict[int, str]:
        failures = {}
        for number in numbers:
            image, reason = read(os.path.join(directory, paths[number]))
            if image is None:
                failures[number] = reason
            elif image.shape != images.shape[1:]:
                raise ValueError(
                    f"all images in {directory} must have the same size, got "
                    f"{_in_words(images.shape[1:])} ({paths[first]}) and "
                    f"{_in_words(image.shape)} ({paths[number]}): give the size to "
                    "resize them to, such as size=(28, 28)."
                )
            else:
                images[number] = image
        return failures

    rest = range(first, len(paths))  # the first again, which is simpler than a special case
    for failures in _in_threads(read_some, rest, n_threads, progress):
        reasons |= failures
    return images, reasons


def find_pictures(
    directory: AnyPath, *, n_threads: int | None = None, progress: Progress | None = None
) -> Pictures:
    """Read the headers of the images that `load_folder` would read.

    Parameters
    ----------
    directory, n_threads, progress
        As in `load_folder`.

    Returns
    -------
    pictures : Pictures
        An image with a valid header may be damaged.

    Raises
    ------
    ValueError, OSError, ImportError
        As in `load_folder`, but images may differ in size.
    """
    pillow = _pillow()
    directory = Path(directory).expanduser()
    found, unreadable = _find_pictures(directory)

    def look_at(numbers: range) -> list[tuple[tuple[int, int] | None, str]]:
        return [_read_size(os.path.join(directory, found[number][1])) for number in numbers]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        looks = _in_threads(look_at, range(len(found)), n_threads, progress)
    labels: dict[str, int] = {}
    sizes: dict[tuple[int, int], int] = {}
    reasons = {}
    for number, (size, reason) in enumerate(look for part in looks for look in part):
        label, path = found[number]
        labels.setdefault(label, 0)
        if size is None:
            reasons[number] = reason
        else:
            labels[label] += 1
            sizes[size] = sizes.get(size, 0) + 1
    if not sizes:
        raise ValueError(_nothing_found(directory, found, unreadable, reasons))
    return Pictures(labels, sizes, _failures(found, unreadable, reasons))


def is_picture(path: AnyPath) -> bool:
    """Return whether a file is an image of a supported format, by its content."""
    image = _pillow()
    try:
        with image.open(path, formats=_FORMATS):
            return True
    except Exception:  # decoders may raise any exception
        return False


def read_pictures(
    path: AnyPath, size: tuple[int, int], *, background: int = 0, n_threads: int | None = None
) -> tuple[NDArray[np.uint8], list[str]]:
    """Read an image, or all images in a directory, without labels.

    Parameters
    ----------
    path : path
        An image, or a directory with images or with folders of images.
    size : (height, width)
        Size to resize them to; see `load_folder`.
    background, n_threads
        As in `load_folder`.

    Returns
    -------
    pictures : array of shape (n_pictures, height, width), uint8
    names : list of str
        Names of their files, relative to the directory, in natural order.

    Raises
    ------
    ValueError
        There is no readable image.
    OSError
        The directory cannot be read.

    Warns
    -----
    UnreadableFileWarning
        If files were skipped.
    """
    pillow = _pillow()
    size = check_shape(size, "size")
    path = Path(path).expanduser()
    names = [path.name]
    if path.is_dir():
        found = [entry.name for entry in _visible(path) if entry.is_file()]
        for folder in (entry.name for entry in _visible(path) if entry.is_dir()):
            inside = _visible(path / folder)
            found += [f"{folder}/{entry.name}" for entry in inside if entry.is_file()]
        names = sorted(found, key=_natural)
    files = [os.fspath(path / name if path.is_dir() else path) for name in names]

    def read_some(numbers: range) -> list[tuple[NDArray[np.uint8] | None, str]]:
        return [_read_gray(files[number], size, background) for number in numbers]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about invalid metadata
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        parts = _in_threads(read_some, range(len(files)), n_threads, None)
    results = [result for part in parts for result in part]
    unreadable = [
        (name, reason)
        for name, (picture, reason) in zip(names, results, strict=True)
        if picture is None
    ]
    if len(unreadable) == len(names):
        reasons = _listed(unreadable) or "it is empty"
        raise ValueError(f"{path} must hold a readable image, got none: {reasons}.")
    if unreadable:
        warn(f"{_count(len(unreadable), 'file')} left out: {_listed(unreadable)}.",
             UnreadableFileWarning)  # fmt: skip
    kept = [number for number, (picture, _) in enumerate(results) if picture is not None]
    return np.stack([results[number][0] for number in kept]), [names[number] for number in kept]


def find_parts(directory: AnyPath) -> dict[str, Path]:
    """Return the training and the test part of a directory of images.

    Parameters
    ----------
    directory : path

    Returns
    -------
    parts : dict of str to Path
        "train" and "test" (whose directory may be named t10k), each with a folder per label;
        empty if the directory has no such parts.
    """
    directory = Path(directory)
    names = [_TRAIN, next((name for name in _TESTS if (directory / name).is_dir()), _TESTS[0])]
    parts = {part: directory / name for part, name in zip((_TRAIN, _TESTS[0]), names, strict=True)}
    return parts if all(map(_holds_folders, parts.values())) else {}


def _holds_folders(directory: Path) -> bool:
    return directory.is_dir() and any(entry.is_dir() for entry in _visible(directory))


def _pillow() -> Any:
    """Return the module PIL.Image, with the decoders loaded."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("images need Pillow: pip install 'fastmlp[images]'.") from None
    Image.init()  # here, because concurrent first calls in threads see only some of the decoders
    return Image


def _find_pictures(directory: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return (label, path) of potential images, in order, and (path, reason) of other files."""
    found, others, labels = [], [], []
    for entry in _visible(directory):
        if entry.is_dir():
            labels.append(entry.name)
        else:
            others.append((entry.name, "is not in the folder of a label"))
    numeric = all(map(_INTEGER.fullmatch, labels))
    for label in sorted(labels, key=lambda text: (int(text) if numeric else 0, _natural(text))):
        for entry in sorted(_visible(directory / label), key=lambda entry: _natural(entry.name)):
            path = f"{label}/{entry.name}"
            if entry.is_file():
                found.append((label, path))
            elif entry.is_dir():
                others.append((path, _NESTED))
            else:
                others.append((path, "is not a file, or a broken link"))
    if not labels:
        names = sorted(name for name, _ in others)
        raise ValueError(
            f"{directory} must hold one folder per label with the images of that label, got "
            f"{', '.join(names[:4]) or 'an empty directory'}{', ...' if names[4:] else ''}."
        )
    return found, others


def _visible(directory: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name not in _LITTER:
                yield entry


def _natural(name: str) -> tuple[list[str | int], str]:
    """Return a sort key by which a9 comes before a10; ties such as 1 and 01 by the name."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], name


def labels_from_text(texts: Sequence[str]) -> NDArray[Any]:
    """Convert labels to numbers if all of them are distinct integers, otherwise return text.

    Parameters
    ----------
    texts : sequence of str

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        uint8 if all are from 0 to 255, as in MNIST's files; otherwise int64, uint64 or str.

    Examples
    --------
    >>> labels_from_text(["7", "10"])
    array([ 7, 10], dtype=uint8)
    >>> labels_from_text(["7", "ten"])
    array(['7', 'ten'], dtype='<U3')
    """
    numbers = {text: int(text) for text in set(texts) if _INTEGER.fullmatch(text)}
    low, high = min(numbers.values(), default=0), max(numbers.values(), default=0)
    if len(set(numbers.values())) == len(set(texts)):  # 1 and 01 are not the same label
        for dtype in (np.uint8, np.int64, np.uint64):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return np.array([numbers[text] for text in texts], dtype)
    return np.array(texts, dtype=np.str_)


def _read_gray(
    path: str, size: tuple[int, int] | None, background: int
) -> tuple[NDArray[np.uint8] | None, str]:
    """Return an image as gray bytes (height, width), or None and the reason."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=_FORMATS) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            gray = _to_gray(picture, background)
        if size is not None and gray.size != size[::-1]:
            # Bilinear, over all pixels that are merged into one.
            gray = gray.resize(size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(gray), ""
    except MemoryError:
        raise
    except Exception as error:  # decoders may raise any exception
        return None, _reason(path, error)


def _read_size(path: str) -> tuple[tuple[int, int] | None, str]:
    """Return height and width of an image, as in `_read_gray`; or None and the reason."""
    from PIL import ExifTags, Image

    try:
        with Image.open(path, formats=_FORMATS) as picture:
            lies = picture.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return picture.size if lies else picture.size[::-1], ""
    except MemoryError:
        raise
    except Exception as error:
        return None, _reason(path, error)


def _to_gray(picture: Picture, background: int) -> Picture:
    from PIL import Image

    # "I" has 32 bits, but only 16 are used for PNG and PGM.
    if picture.mode.startswith("I;16") or picture.mode == "I" and picture.format in ("PNG", "PPM"):
        values = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 / 255 = 257
    if picture.mode in ("I", "F"):
        raise _UnknownRangeError("has 32-bit pixels, whose range is not known")
    if picture.has_transparency_data:
        ground = Image.new("RGBA", picture.size, (background, background, background, 255))
        return Image.alpha_composite(ground, picture.convert("RGBA")).convert("L")
    return picture.convert("L")


def _reason(path: str, error: Exception) -> str:
    """Describe why a file could not be read."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombWarning | Image.DecompressionBombError):
        return f"claims to have more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    if isinstance(error, UnidentifiedImageError):
        with open(path, "rb") as file:
            head = file.read(16)
        if not head:
            return "is empty"
        if head.startswith(_MAGIC):
            return "is damaged: its header cannot be read"
        return f"is not an image of a supported format, it starts with {head!r}"
    if isinstance(error, _UnknownRangeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    return f"is damaged: {str(error).rstrip('.') or type(error).__name__}"


def _failures(
    found: list[tuple[str, str]], unreadable: list[tuple[str, str]], reasons: dict[int, str]
) -> list[tuple[str, str]]:
    """Return path and reason of all files that could not be read, in order."""
    failures = [*unreadable, *((found[number][1], reason) for number, reason in reasons.items())]
    return sorted(failures, key=lambda entry: _natural(entry[0]))


def _nothing_found(
    directory: Path,
    found: list[tuple[str, str]],
    unreadable: list[tuple[str, str]],
    reasons: dict[int, str],
) -> str:
    failures = _failures(found, unreadable, reasons)
    nested = list(dict.fromkeys(p.partition("/")[0] for p, why in failures if why == _NESTED))
    if nested:
        return (
            f"{directory} must hold one folder of images per label, got such folders in "
            f"{_enumerated(nested)}: use one of these, such as {directory / nested[0]}."
        )
    return (
        f"{directory} must hold one folder of images per label, got no readable image"
        f"{f': {_listed(failures)}' if failures else ''}."
    )


def _enumerated(names: list[str]) -> str:
    return ", ".join(names[:_MOST_LISTED]) + (", ..." if names[_MOST_LISTED:] else "")


def _listed(failures: list[tuple[str, str]]) -> str:
    texts = [f"{path} ({reason})" for path, reason in failures[:_MOST_LISTED]]
    more = len(failures) - len(texts)
    return ", ".join(texts) + (f" and {more} more" if more else "")


def _count(number: int, noun: str) -> str:
    return f"1 {noun} was" if number == 1 else f"{number} {noun}s were"


def _in_words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


# ----------------------------------------------------------------------------------------- writing


def save_folder(
    X: ArrayLike,
    y: ArrayLike,
    directory: AnyPath,
    shape: tuple[int, int] | None = None,
    *,
    overwrite: bool = False,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write each image as ``directory/label/row.png``, where row is its index in `X`.

    All images appear at once, after the last has been written: after an exception, including
    Ctrl-C, the directory is unchanged. `load_folder` returns the same bytes, sorted by label; its
    `ImageFolder.index` contains the rows.

    Parameters
    ----------
    X : array of shape (n_samples, height * width) or (n_samples, height, width), uint8
        0 is black.
    y : array of shape (n_samples,), integers or strings
        Strings must be valid names of folders. If all are integers, they are read back as
        numbers.
    directory : path
        Created if it does not exist, with its parents.
    shape : (height, width), optional
        Shape of an image in a row of `X`; by default images are square.
    overwrite : bool, default=False
        Replace the content of the directory, if it contains only images written by this
        function. By default, it must be empty.
    n_threads, progress
        As in `load_folder`.

    Raises
    ------
    ValueError
        `X`, `y` or `shape` is invalid, or the directory is not empty.
    OSError
        An image cannot be written.
    ImportError
        Pillow is not installed.

    Examples
    --------
    >>> (X, y), _ = load_mnist()  # doctest: +SKIP
    >>> save_folder(X, y, "mnist_png")  # doctest: +SKIP
    """
    _pillow()
    images = _check_images(np.asarray(X), shape)
    labels = _check_labels(np.asarray(y), len(images))
    check_destination(directory, overwrite)
    with atomic_directory(Path(directory).expanduser()) as staging:
        for label in sorted(set(labels)):
            try:
                (staging / label).mkdir()
            except FileExistsError:
                raise ValueError(
                    f"labels must differ in more than case on this file system, got {label!r} and "
                    "another spelling of it: rename one of them."
                ) from None

        def write_some(rows: range) -> None:
            for row in rows:
                _write_png(images[row], os.path.join(staging, labels[row], f"{row}.png"))

        for _ in _in_threads(write_some, range(len(images)), n_threads, progress):
            pass


def check_destination(directory: AnyPath, overwrite: bool = False) -> None:
    """Raise ValueError unless `save_folder` may write into a directory.

    Parameters
    ----------
    directory : path
        That of `save_folder`, or one that contains several such directories.
    overwrite : bool
        As in `save_folder`.
    """
    directory = Path(directory).expanduser()
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} must be a directory or a new name, got a file.")
    names = os.listdir(directory) if directory.exists() else []
    # Temporary files of a killed process do not count; the next write removes them.
    entries = sorted(name for name in names if not is_temporary(name))
    if not entries:
        return
    if not overwrite:
        raise ValueError(
            f"{directory} must be empty, got {entries[0]} in it: use another directory, or allow "
            "replacing its images (overwrite=True, --force)."
        )
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not is_temporary(name)]
        for name in names:
            if is_temporary(name):
                continue
            if folder == str(directory) or not _OWN_NAME.fullmatch(name):
                raise ValueError(
                    f"{directory} is replaced only if it holds nothing but folders of numbered "
                    f"PNG files, got {Path(folder, name)}: use another directory."
                )


def _check_images(X: NDArray[Any], shape: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return the images as an array of shape (n_samples, height, width)."""
    if X.dtype != np.uint8:
        raise ValueError(f"X must be uint8, got {X.dtype}{_way_to_bytes(X)}.")
    return X.reshape(len(X), *shape_of_images(X.shape, shape))


def _way_to_bytes(X: NDArray[Any]) -> str:
    """Describe how to convert numbers to bytes, depending on their range."""
    if X.dtype.kind not in "biuf" or not X.size:
        return ""
    low, high = X.min(), X.max()
    if X.dtype.kind == "b" or (X.dtype.kind == "f" and low >= 0 and high <= 1):
        return ': convert it with (255 * X).astype("uint8")'
    if not (low >= 0 and high <= 255):  # or NaN
        return f' from {low:g} to {high:g}: scale it to 0..255, then .astype("uint8")'
    if (X == np.trunc(X)).all():
        return ': convert it with X.astype("uint8")'
    return ': convert it with X.round().astype("uint8")'


def _check_labels(y: NDArray[Any], n_samples: int) -> list[str]:
    """Return the names of the folders, one per sample."""
    if y.shape != (n_samples,):
        raise ValueError(f"y must hold one label per image, ({n_samples},), got shape {y.shape}.")
    names = [str(label) for label in y.tolist()]
    if y.dtype.kind == "O" and any(not isinstance(label, str | int) for label in y.tolist()):
        raise ValueError("y must hold integers or strings, got other objects too.")
    if y.dtype.kind not in "iuUO":
        raise ValueError(f"y must hold integers or strings, got {y.dtype}.")
    for name in set(names):
        if _NO_FOLDER_NAME.search(name) or name in _LITTER or not _is_encodable(name):
            raise ValueError(
                f"labels must be valid names of folders on every system, got {name!r}: rename it."
            )
    return names


def _is_encodable(name: str) -> bool:
    """Return whether a name can be encoded for the file system."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _write_png(image: NDArray[np.uint8], path: str) -> None:
    from PIL import Image

    encoded = BytesIO()  # a single write, not one per chunk of the format
    Image.fromarray(image).save(encoded, "PNG")
    with open(path, "wb") as file:
        file.write(encoded.getbuffer())


def _in_threads(
    function: Callable[[range], Any], items: range, n_threads: int | None, progress: Progress | None
) -> list[Any]:
    """Call a function with consecutive parts of a range; return its results in order.

    The first exception, in the order of the items, is raised, and so is Ctrl-C; parts that have
    not started are then cancelled.
    """
    parts = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    results = []
    done = 0
    with ThreadPoolExecutor(n_threads or usable_threads()) as pool:
        futures = [pool.submit(function, part) for part in parts]
        try:
            for future, part in zip(futures, parts, strict=True):
                results.append(future.result())
                done += len(part)
                if progress:
                    progress(done, len(items))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return results
