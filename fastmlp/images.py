"""Folders of pictures, one sub-folder per label: read as a matrix of gray bytes, and written.

Pillow decodes and encodes; this module decides what becomes a sample, under which label and in
which order. Whatever lies in a folder and cannot be read is listed with its reason, and never
keeps the others from being read.
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
Progress: TypeAlias = Callable[[int, int], object]  # done, of how many

# Not all that Pillow knows: some formats start other programs, some take any text for a picture.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_MAGIC = (b"\x89PNG", b"\xff\xd8", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"RIFF")
_CHUNK = 16  # pictures that a thread takes at a time; Ctrl-C waits for them
_MOST_LISTED = 10

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_OWN_NAME = re.compile(r"[0-9]+\.png")  # what `save_folder` calls its pictures
_LITTER = ("Thumbs.db", "desktop.ini")  # Windows puts them beside pictures
# What some system does not take as the name of a folder, and names that would be hidden.
_NO_FOLDER_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^\.|[. ]$|^$')


# Why what lies in the folder of a label is left out, where others have the labels one level below.
_NESTED = "is a folder within a label's folder, which is not searched"

# Names of the parts of a data set, each a directory with a folder per label.
_TRAIN, _TESTS = "train", ("test", "t10k")


class UnreadableFileWarning(FastMLPWarning):
    """Some files in a folder of pictures were left out, because they could not be read."""


class _UnknownRangeError(ValueError):
    pass


@dataclass(frozen=True)
class ImageFolder:
    """What `load_folder` found.

    Attributes
    ----------
    X : ndarray of shape (n_samples, height * width), uint8
        A gray picture per row, 0 is black.
    y : ndarray of shape (n_samples,), uint8, int64 or str
        The names of the folders: numbers if all of them are whole numbers, otherwise text.
    shape : (int, int)
        Height and width of every picture.
    paths : list of str
        ``label/file`` of every row.
    unreadable : list of (str, str)
        What was left out: path and reason.
    """

    X: NDArray[np.uint8]
    y: NDArray[Any]
    shape: tuple[int, int]
    paths: list[str]
    unreadable: list[tuple[str, str]]

    @property
    def index(self) -> NDArray[np.int64] | None:
        """Numbers that the files are named by, (n_samples,); None unless all differ.

        `save_folder` names every picture by its row, so ``X[np.argsort(index)]`` are the rows in
        the order that they had when they were saved.
        """
        stems = [Path(path).stem for path in self.paths]
        if not all(re.fullmatch("[0-9]{1,18}", stem) for stem in stems):
            return None
        numbers = np.array([int(stem) for stem in stems], np.int64)
        return numbers if len(np.unique(numbers)) == len(numbers) else None


@dataclass(frozen=True)
class Pictures:
    """What `find_pictures` found.

    Attributes
    ----------
    labels : dict of str to int
        The name of every label's folder, and how many pictures it holds.
    sizes : dict of (int, int) to int
        Height and width, and how many pictures have them.
    unreadable : list of (str, str)
        What `load_folder` would leave out: path and reason.
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
    """Read a folder of pictures in which every label has a sub-folder.

    Pictures are PNG, JPEG, BMP, GIF, TIFF, WebP or PNM, recognised by their content, not by their
    names. Colours become gray by their luma (0.299 R + 0.587 G + 0.114 B), 16 bits become 8, of
    several frames the first counts, and photographs are turned upright as their cameras say.
    Gray pictures of 8 bits come as they are.

    Hidden files and folders are passed over. Everything else that is no picture in a label's
    folder is left out, warned of and listed: other files, damaged ones, folders within.

    Parameters
    ----------
    directory : path
        Holds ``label/picture`` for every sample. Of a directory with train and test parts in it,
        name one of them.
    size : (height, width), optional
        Resize all pictures to it, without keeping their proportions. Otherwise they must all have
        the same size.
    background : int, default=0
        The gray, 0..255, that shows through transparent pixels. Black stands for "nothing is
        there", as in MNIST; dark ink on a transparent ground needs 255.
    n_threads : int, optional
        By default all that this process may use; the result does not depend on it.
    progress : callable, optional
        Called as ``progress(done, total)`` from time to time, with numbers of files.

    Returns
    -------
    folder : ImageFolder
        Sorted by label (numbers by value), then by name in natural order: 10.png follows 9.png.

    Raises
    ------
    ValueError
        There is no readable picture, sizes differ and `size` is not given, or an argument is
        wrong.
    OSError
        The directory cannot be read.
    ImportError
        Pillow is not installed.

    Warns
    -----
    UnreadableFileWarning
        If files were left out.

    Examples
    --------
    >>> folder = load_folder("pictures", size=(28, 28))  # doctest: +SKIP
    >>> model.fit(folder.X, folder.y)  # doctest: +SKIP
    """
    pillow = _pillow()
    if size is not None:
        size = check_shape(size, "size")
    if not 0 <= background <= 255:
        raise ValueError(f"background must be a gray from 0 (black) to 255, got {background}.")
    directory = Path(directory).expanduser()
    found, unreadable = _find_pictures(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on odd metadata
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
    """Return the pictures in one array, if there is any, and by number why others were not read.

    The array has a place for each path, those that were not read included.
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
                    f"all pictures in {directory} must have the same size, got "
                    f"{_in_words(images.shape[1:])} ({paths[first]}) and "
                    f"{_in_words(image.shape)} ({paths[number]}): give the size that they are to "
                    "be resized to, such as size=(28, 28)."
                )
            else:
                images[number] = image
        return failures

    rest = range(first, len(paths))  # the first again: it costs less than a special case
    for failures in _in_threads(read_some, rest, n_threads, progress):
        reasons |= failures
    return images, reasons


def find_pictures(
    directory: AnyPath, *, n_threads: int | None = None, progress: Progress | None = None
) -> Pictures:
    """Look at the headers of the pictures that `load_folder` would read.

    Parameters
    ----------
    directory, n_threads, progress
        As in `load_folder`.

    Returns
    -------
    pictures : Pictures
        A picture whose header is sound may be damaged further on.

    Raises
    ------
    ValueError, OSError, ImportError
        As `load_folder`, but pictures may differ in size.
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
    """Return whether a file is a picture of a kind that is read, by its content."""
    image = _pillow()
    try:
        with image.open(path, formats=_FORMATS):
            return True
    except Exception:  # a decoder may raise anything on damaged data
        return False


def read_pictures(
    path: AnyPath, size: tuple[int, int], *, background: int = 0, n_threads: int | None = None
) -> tuple[NDArray[np.uint8], list[str]]:
    """Read a picture, or all that lie in a directory, without labels.

    Parameters
    ----------
    path : path
        A picture, or a directory with pictures or with folders of pictures.
    size : (height, width)
        They are resized to it; see `load_folder`.
    background, n_threads
        As in `load_folder`.

    Returns
    -------
    pictures : array of shape (n_pictures, height, width), uint8
    names : list of str
        Of their files, relative to the directory, in natural order.

    Raises
    ------
    ValueError
        There is no readable picture.
    OSError
        The directory cannot be read.

    Warns
    -----
    UnreadableFileWarning
        If files were left out.
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
        warnings.simplefilter("ignore")  # Pillow's on odd metadata
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
        raise ValueError(f"{path} must hold a picture that can be read, got none: {reasons}.")
    if unreadable:
        warn(f"{_count(len(unreadable), 'file')} left out: {_listed(unreadable)}.",
             UnreadableFileWarning)  # fmt: skip
    kept = [number for number, (picture, _) in enumerate(results) if picture is not None]
    return np.stack([results[number][0] for number in kept]), [names[number] for number in kept]


def find_parts(directory: AnyPath) -> dict[str, Path]:
    """Return the training and the test part of a directory of pictures.

    Parameters
    ----------
    directory : path

    Returns
    -------
    parts : dict of str to Path
        "train" and "test" (whose directory may be called t10k), each with a folder per label; or
        nothing, if the directory is not made of such parts.
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
        raise ImportError("pictures need Pillow: pip install 'fastmlp[images]'.") from None
    Image.init()  # here, because threads that do it at once see half of the decoders
    return Image


def _find_pictures(directory: Path) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return (label, path) of what may be pictures, in order, and (path, reason) of the rest."""
    found, others, labels = [], [], []
    for entry in _visible(directory):
        if entry.is_dir():
            labels.append(entry.name)
        else:
            others.append((entry.name, "lies in no label's folder"))
    numeric = all(map(_INTEGER.fullmatch, labels))
    for label in sorted(labels, key=lambda text: (int(text) if numeric else 0, _natural(text))):
        for entry in sorted(_visible(directory / label), key=lambda entry: _natural(entry.name)):
            path = f"{label}/{entry.name}"
            if entry.is_file():
                found.append((label, path))
            elif entry.is_dir():
                others.append((path, _NESTED))
            else:
                others.append((path, "is no file, or a link to none"))
    if not labels:
        names = sorted(name for name, _ in others)
        raise ValueError(
            f"{directory} must hold a folder per label with the pictures of that label, got "
            f"{', '.join(names[:4]) or 'an empty directory'}{', ...' if names[4:] else ''}."
        )
    return found, others


def _visible(directory: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.name not in _LITTER:
                yield entry


def _natural(name: str) -> tuple[list[str | int], str]:
    """Return a key by which a9 comes before a10; the name itself decides between 1 and 01."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if odd % 2 else part for odd, part in enumerate(parts)], name


def labels_from_text(texts: Sequence[str]) -> NDArray[Any]:
    """Return labels as numbers if all of them are different whole numbers, otherwise as text.

    Parameters
    ----------
    texts : sequence of str

    Returns
    -------
    labels : ndarray of shape (n_samples,)
        uint8 if all are from 0 to 255, as the files of MNIST have them; int64, uint64 or str.

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
    """Return a picture as gray bytes (height, width), or None and the reason."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=_FORMATS) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            gray = _to_gray(picture, background)
        if size is not None and gray.size != size[::-1]:
            # Bilinear, over as many pixels as become one: no pixel is passed over.
            gray = gray.resize(size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(gray), ""
    except MemoryError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        return None, _reason(path, error)


def _read_size(path: str) -> tuple[tuple[int, int] | None, str]:
    """Return height and width of a picture, as `_read_gray` gives it; or None and the reason."""
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

    # "I" is 32 bits wide, but holds 16 where Pillow reads PNG and PGM into it.
    if picture.mode.startswith("I;16") or picture.mode == "I" and picture.format in ("PNG", "PPM"):
        values = np.asarray(picture).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 / 255 = 257
    if picture.mode in ("I", "F"):
        raise _UnknownRangeError("has pixels of 32 bits, whose range is not known")
    if picture.has_transparency_data:
        ground = Image.new("RGBA", picture.size, (background, background, background, 255))
        return Image.alpha_composite(ground, picture.convert("RGBA")).convert("L")
    return picture.convert("L")


def _reason(path: str, error: Exception) -> str:
    """Say in words why a file could not be read."""
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
        return f"is no picture of a known format, it starts with {head!r}"
    if isinstance(error, _UnknownRangeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be opened: {error.strerror}"
    return f"is damaged: {str(error).rstrip('.') or type(error).__name__}"


def _failures(
    found: list[tuple[str, str]], unreadable: list[tuple[str, str]], reasons: dict[int, str]
) -> list[tuple[str, str]]:
    """Return path and reason of all that could not be read, in order."""
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
            f"{directory} must hold a folder per label with pictures in it, got such folders in "
            f"{_enumerated(nested)}: name one of these, such as {directory / nested[0]}."
        )
    return (
        f"{directory} must hold pictures in a folder per label, got none that can be read"
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
    """Write every image as ``directory/label/row.png``, where row is its number in `X`.

    All pictures appear together, when the last has been written: if anything is raised before,
    Ctrl-C included, the directory is as it was. `load_folder` gives the same bytes back, sorted by
    label; its `ImageFolder.index` says which row each was.

    Parameters
    ----------
    X : array of shape (n_samples, height * width) or (n_samples, height, width), uint8
        0 is black.
    y : array of shape (n_samples,), integers or strings
        Strings must do as names of folders. Those that are all whole numbers are read back as
        numbers.
    directory : path
        Made if it is not there, and its parents.
    shape : (height, width), optional
        Of an image that is a row of `X`; by default images are square.
    overwrite : bool, default=False
        Replace what is in the directory, provided that it holds nothing but pictures that this
        function wrote. Otherwise it must be empty.
    n_threads, progress
        As in `load_folder`.

    Raises
    ------
    ValueError
        `X`, `y` or `shape` is not as above, or the directory is not empty.
    OSError
        A picture cannot be written.
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
        That of `save_folder`, or one with several such directories in it.
    overwrite : bool
        As in `save_folder`.
    """
    directory = Path(directory).expanduser()
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} must be a directory or a new name, got a file.")
    names = os.listdir(directory) if directory.exists() else []
    # What a process that was killed has left is no reason, and is removed by the next write.
    entries = sorted(name for name in names if not is_temporary(name))
    if not entries:
        return
    if not overwrite:
        raise ValueError(
            f"{directory} must be empty, got {entries[0]} in it: name another directory, or allow "
            "that its pictures are replaced (overwrite=True, --force)."
        )
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not is_temporary(name)]
        for name in names:
            if is_temporary(name):
                continue
            if folder == str(directory) or not _OWN_NAME.fullmatch(name):
                raise ValueError(
                    f"{directory} is replaced only if it holds nothing but folders of numbered "
                    f"PNG files, got {Path(folder, name)}: name another directory."
                )


def _check_images(X: NDArray[Any], shape: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Return the images as an array of shape (n_samples, height, width)."""
    if X.dtype != np.uint8:
        raise ValueError(f"X must be uint8, got {X.dtype}{_way_to_bytes(X)}.")
    return X.reshape(len(X), *shape_of_images(X.shape, shape))


def _way_to_bytes(X: NDArray[Any]) -> str:
    """Say how to make bytes of numbers that are none, judging by what they are."""
    if X.dtype.kind not in "biuf" or not X.size:
        return ""
    low, high = X.min(), X.max()
    if X.dtype.kind == "b" or (X.dtype.kind == "f" and low >= 0 and high <= 1):
        return ': convert it with (255 * X).astype("uint8")'
    if not (low >= 0 and high <= 255):  # or not a number
        return f' from {low:g} to {high:g}: scale it to 0..255, then .astype("uint8")'
    if (X == np.trunc(X)).all():
        return ': convert it with X.astype("uint8")'
    return ': convert it with X.round().astype("uint8")'


def _check_labels(y: NDArray[Any], n_samples: int) -> list[str]:
    """Return the names of the folders, one per sample."""
    if y.shape != (n_samples,):
        raise ValueError(f"y must hold a label per image, ({n_samples},), got shape {y.shape}.")
    names = [str(label) for label in y.tolist()]
    if y.dtype.kind == "O" and any(not isinstance(label, str | int) for label in y.tolist()):
        raise ValueError("y must hold integers or strings, got other objects too.")
    if y.dtype.kind not in "iuUO":
        raise ValueError(f"y must hold integers or strings, got {y.dtype}.")
    for name in set(names):
        if _NO_FOLDER_NAME.search(name) or name in _LITTER or not _is_encodable(name):
            raise ValueError(
                f"labels must do as names of folders on every system, got {name!r}: rename it."
            )
    return names


def _is_encodable(name: str) -> bool:
    """Return whether the file system can hold a name, which not every str can be."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _write_png(image: NDArray[np.uint8], path: str) -> None:
    from PIL import Image

    encoded = BytesIO()  # one write to the disk, not one per chunk of the format
    Image.fromarray(image).save(encoded, "PNG")
    with open(path, "wb") as file:
        file.write(encoded.getbuffer())


def _in_threads(
    function: Callable[[range], Any], items: range, n_threads: int | None, progress: Progress | None
) -> list[Any]:
    """Call a function with consecutive parts of a range; return its results in order.

    What it raises first, in the order of the items, is raised here, and so is Ctrl-C; parts that
    have not begun are then dropped.
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
