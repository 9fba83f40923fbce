"""``fastmlp data``: fetch, inspect and convert data sets."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastmlp.cli import tables
from fastmlp.cli.options import DATA_NAMES, DataHome, Json, Quiet, Size, complete
from fastmlp.cli.output import note, noting_warnings, print_json, print_table
from fastmlp.cli.progress import file_display
from fastmlp.cli.usage import EXIT_STATUS, Command, Group
from fastmlp.utils.suggestions import did_you_mean

if TYPE_CHECKING:
    from fastmlp import images

_MOST_LABELS = 100

app = typer.Typer(cls=Group, epilog=EXIT_STATUS, no_args_is_help=True, rich_markup_mode="markdown")
_command = partial(app.command, cls=Command, epilog=EXIT_STATUS)


@_command()
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="mnist, fashion or kmnist.",
            autocompletion=complete(DATA_NAMES[:3]),
        ),
    ],
    data_home: DataHome = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download data sets if necessary, verify them, and print their directories.

    They are looked up in the data directory first, see 'fastmlp info'.

    For example:

        fastmlp data fetch mnist fashion
    """
    from fastmlp import datasets

    for name in names:
        datasets.check_name(name)
    directories = {}
    for name in names:
        directories[name] = datasets.fetch(name, data_home)
        if not as_json:
            typer.echo(directories[name])
    if as_json:
        print_json({"directories": directories})


@_command("info")
def inspect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|PATH",
            help="A data set, a table, a directory (of IDX files or images), or an IDX file.",
        ),
    ],
    data_home: DataHome = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the columns of a table, the headers of IDX files, or the contents of an image directory.

    A data set given by name must have been fetched before.

    For example:

        fastmlp data info mnist
        fastmlp data info houses.csv
        fastmlp data info train-images-idx3-ubyte.gz
        fastmlp data info photos
    """
    from fastmlp import datasets

    path = Path(source)
    if source in datasets.DATASETS:
        try:
            datasets.load(source, data_home, download=False)
        except datasets.SpoiledFileError:
            raise
        except datasets.DatasetError:
            raise ValueError(
                f"{source} is not on this machine: 'fastmlp data fetch {source}' downloads it."
            ) from None
        path = datasets.fetch(source, data_home)
    elif source == "digits" and not path.exists():
        raise ValueError(
            "NAME must have files, but the digits are part of scikit-learn, got 'digits': "
            "'fastmlp show --data digits' draws them."
        )
    elif not path.exists():
        names = [*datasets.DATASETS]
        raise ValueError(
            f"{source!r} is no file or directory, and none of {names}{did_you_mean(source, names)}"
        )
    if tables.is_table(source):
        _show_table(source, as_json)
        return
    if not path.is_dir():
        places = {path.parent: [path]}
    else:
        found = {place: _idx_files(place) for place in (path, path / "raw", *path.glob("*/raw"))}
        places = {place: found[place] for place in sorted(found) if found[place]}
    files = {place: [_header(file) for file in of_place] for place, of_place in places.items()}
    pictures = {} if files else _find_pictures(path, with_progress=not as_json)
    if as_json:
        print_json(
            {
                "files": [
                    {"directory": place} | header
                    for place, headers in files.items()
                    for header in headers
                ],
                "pictures": [_picture_entry(*entry) for entry in pictures.items()],
            }
        )
    for place, headers in () if as_json else files.items():
        if path.is_dir():
            typer.echo(place)
        _show_headers(headers)
    for part, of_part in pictures.items():
        if not as_json:
            _show_pictures(part, of_part)
        if of_part.unreadable:
            file, reason = of_part.unreadable[0]
            note(
                f"{len(of_part.unreadable)} of its files would be skipped: {file} ({reason})"
                f"{', ...' if len(of_part.unreadable) > 1 else ''}."
            )


def _show_table(source: str, as_json: bool) -> None:
    """Describe how `fastmlp train` would use a table."""
    from fastmlp.tables import describe, find_target, find_task

    with noting_warnings():
        frame = tables.read(source)
        target, why_target = find_target(frame, None)
        task, why_task = find_task(frame[target], None)
        columns = describe(frame, target)
    if as_json:
        print_json(
            {
                "rows": len(frame),
                "columns": tables.columns_as_json(columns),
                "target": target,
                "task": task,
            }
        )
        return
    tables.print_columns(source, len(frame), columns)
    typer.echo(f"\ntarget, unless --target names another: {target} ({why_target})")
    typer.echo(f"task: {task} ({why_task})")


def _idx_files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(p for p in directory.iterdir() if "idx" in p.name.lower() and p.is_file())


def _header(file: Path) -> dict[str, Any]:
    """Return the header of an IDX file."""
    from fastmlp import datasets, idx

    header = idx.info(file)
    has_column = "label" in file.name and datasets.has_class_column(header.dtype, header.shape)
    return {
        "file": file.name,
        "kind": "labels, the class in column 0" if has_column else header.kind,
        "type": str(header.dtype),
        "shape": header.shape,
        "bytes": header.n_bytes,
        "gzip": header.compressed,
    }


def _show_headers(headers: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            header["file"],
            header["kind"],
            header["type"],
            " x ".join(map(str, header["shape"])),
            f"{header['bytes']:,}",
            "yes" if header["gzip"] else "no",
        )
        for header in headers
    ]
    print_table(list(headers[0]), rows, pad_edge=True)


def _find_pictures(directory: Path, with_progress: bool) -> dict[Path, "images.Pictures"]:
    """Return the images in the parts of a directory, or in the directory itself."""
    from fastmlp import images

    names = sorted(entry.name for entry in directory.iterdir() if not entry.name.startswith("."))
    if not any((directory / name).is_dir() for name in names):
        raise ValueError(
            f"{directory} must hold IDX files, or one folder of images per label, got "
            f"{', '.join(names[:8]) or 'an empty directory'}{', ...' if names[8:] else ''}."
        )
    parts = list(images.find_parts(directory).values()) or [directory]
    with file_display(with_progress) as progress:
        return {part: images.find_pictures(part, progress=progress) for part in parts}


def _picture_entry(part: Path, pictures: "images.Pictures") -> dict[str, Any]:
    """Return the found images, for --json."""
    return {
        "directory": part,
        "pictures": sum(pictures.labels.values()),
        "labels": pictures.labels,
        "sizes": [
            {"rows": rows, "columns": columns, "pictures": count}
            for (rows, columns), count in pictures.sizes.items()
        ],
        "left out": [{"file": file, "reason": reason} for file, reason in pictures.unreadable],
    }


def _show_pictures(part: Path, pictures: "images.Pictures") -> None:
    """Print the number of images per label and size."""
    sizes = sorted(pictures.sizes, key=lambda size: (-pictures.sizes[size], size))
    of_sizes = " x ".join(map(str, sizes[0]))
    if len(sizes) > 1:
        of_sizes = f"{len(sizes)} sizes, most of {of_sizes}"
    n_pictures = sum(pictures.labels.values())
    typer.echo(f"{part}: {n_pictures} images of {of_sizes}, {len(pictures.labels)} labels")
    rows = [(label, str(count)) for label, count in [*pictures.labels.items()][:_MOST_LABELS]]
    if len(pictures.labels) > _MOST_LABELS:
        rows.append(("...", ""))
    print_table(("label", "pictures"), rows, right=(1,), pad_edge=True)


@_command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A data set by name, a directory with four IDX files, a directory of images, or "
            "an IDX, .npz, .npy, .csv or .parquet file.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="File or directory to write; its name determines the format."
        ),
    ],
    size: Size = None,
    force: Annotated[bool, typer.Option("--force", help="Replace TARGET if it exists.")] = False,
    data_home: DataHome = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Convert a data set between IDX, NPZ, CSV, Parquet and folders of images.

    The name of TARGET determines the format: the extension .npz, .npy, .csv or .parquet; IDX if
    the name contains idx or ubyte or ends in .gz; without an extension, one folder of images per
    label (needs the extra 'images').

    Training and test images become folders train/ and test/, four IDX files in a directory, one
    .npz file, or two tables: mnist_train.csv and mnist_test.csv for mnist.csv. Tables have a
    header and one row per image: label, pixels. A file with one array (IDX, .npy, .npz) stays one
    array, unless TARGET needs labels: those of images-idx3-ubyte are read from
    labels-idx1-ubyte.

    For example:

        fastmlp data convert mnist mnist_png
        fastmlp data convert photos/ photos.npz --size 28x28
        fastmlp data convert mnist_train.csv train.npz
        fastmlp data convert images-idx3-ubyte.gz images.npy
    """
    from fastmlp.convert import convert as convert_files
    from fastmlp.exceptions import FastMLPWarning

    with (
        warnings.catch_warnings(record=True) as caught,
        file_display(not as_json) as progress,
    ):
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", FastMLPWarning)  # skipped files
        written = convert_files(
            source, target, data_home=data_home, size=size, force=force, progress=progress
        )
    for warning in caught:
        note(str(warning.message))
    if as_json:
        files = [{"file": path, "content": content} for path, content in written.items()]
        print_json({"files": files})
        return
    for path, content in written.items():
        typer.echo(f"{path}: {content}")
