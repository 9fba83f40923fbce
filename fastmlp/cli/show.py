"""``fastmlp show`` and ``confusions``: samples and mistakes, in the terminal or as a picture."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fastmlp.cli import image_data, tables
from fastmlp.cli.options import (
    DATA,
    Backend,
    DataHome,
    Json,
    ModelFile,
    Part,
    PictureFile,
    Quiet,
    Threads,
    whole,
)
from fastmlp.cli.output import (
    new_console,
    note,
    noting_warnings,
    print_json,
    print_table,
)
from fastmlp.cli.pictures import check_picture, no_images, save_picture
from fastmlp.cli.predict import check_features, is_pipeline, load_model, own_size, scored_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmlp.displays import ConfusionDisplay, MistakesDisplay


def show(
    data: Annotated[str, DATA] = "mnist",
    data_home: DataHome = None,
    part: Part = "test",
    index: Annotated[
        int | None,
        typer.Option(**whole(0), help="The sample, counted from 0; otherwise the first."),
    ] = None,
    at_random: Annotated[bool, typer.Option("--random", help="Draw samples at random.")] = False,
    n: Annotated[int, typer.Option("--n", **whole(1), help="How many, from --index on.")] = 1,
    seed: Annotated[
        int | None, typer.Option(**whole(0), help="Determines what --random draws.")
    ] = None,
    out: PictureFile = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show samples of a data set as images, in the terminal or in a file; or rows of a table.

    Above each image stand its index and its label. The terminal needs no matplotlib, a file does.

    For example:

        fastmlp show --data houses.csv --random --n 5

        fastmlp show --index 42
        fastmlp show --data fashion --part train --random --n 8
        fastmlp show --data digits --n 16 --out digits.png
    """
    from fastmlp import displays

    if index is not None and at_random:
        raise ValueError("--index and --random exclude each other: give one of them.")
    if tables.is_table(data):
        _show_rows(data, index, at_random, n, seed, out, as_json)
        return
    if out is not None:
        check_picture(out)
    loaded = image_data.load(data, data_home)
    (X, y), shape = loaded.train if part == "train" else loaded.test, loaded.shape
    if shape is None:
        raise ValueError(no_images(data))
    indices = _chosen(len(X), f"{part} samples", data, index, at_random, n, seed)
    captions = [f"{i}: {y[i]}" for i in indices]
    if out is not None:
        display = displays.DigitDisplay(X[indices], captions, shape=shape)
        save_picture(out, display.plot)
    if as_json:
        print_json(
            {
                "data set": data,
                "part": part,
                "shape": shape,
                "samples": [{"index": i, "label": y[i]} for i in indices],
                "picture": out,
            }
        )
    elif out is None:
        _print_images(X[indices], shape, captions)
    else:
        typer.echo(out)


def confusions(
    model_file: ModelFile,
    data: Annotated[str, DATA] = "mnist",
    data_home: DataHome = None,
    part: Part = "test",
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Show the mistakes between these two classes, such as 3,8."
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", **whole(1), help="Pairs, or mistakes, at most.")] = 10,
    out: PictureFile = None,
    backend: Backend = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which classes a saved model confuses, and how it errs.

    Without --pair, a table of the classes that are taken for another, the most frequent first;
    --out draws the confusion matrix. With --pair, the mistakes between two classes, the most
    confident first: where they are in the data, and the images; --out draws these.

    For example:

        fastmlp confusions model.npz
        fastmlp confusions model.npz --out confusion.png
        fastmlp confusions model.npz --pair 3,8 --n 20
        fastmlp confusions model.skops --data houses.csv
    """
    import numpy as np

    from fastmlp import displays

    if out is not None:
        check_picture(out)
    model = load_model(model_file, backend, threads)
    if not hasattr(model, "classes_"):
        raise ValueError(
            f"confusions are of classes, but {model_file} predicts numbers: 'fastmlp evaluate' "
            "scores it."
        )
    two = () if pair is None else tuple(pair.split(","))
    if pair is not None and (len(two) != 2 or two[0] == two[1]):  # before data is loaded
        _refuse_pair(pair, model.classes_.tolist())
    rows, shape, samples = None, None, "rows"
    if is_pipeline(model):
        rows, y = scored_rows(model, model_file, data)
        X, data, numbers = rows, tables.name_of(data), rows.index.to_numpy()
    else:
        loaded = image_data.load(data, data_home, own_size(model, data))
        (X, y), shape = loaded.train if part == "train" else loaded.test, loaded.shape
        check_features(model_file, model, data, X)
        image_data.note_strangers(model, data, X, y)
        samples, numbers = f"{part} samples", np.arange(len(X))
    with noting_warnings():
        predictions = model.predict(X)
    matrix, classes = displays.count_confusions(y, predictions)
    n_wrong = int(matrix.sum() - matrix.trace())
    confusion = displays.ConfusionDisplay(matrix, classes)
    pairs = _most_confused(confusion, n)
    document = {
        "data set": data,
        "part": None if rows is not None else part,
        "samples": len(y),
        "errors": n_wrong,
        "pairs": pairs,
        "pair": None,
        "mistakes": None,
        "mistakes of the pair": None,
        "picture": out,
    }
    if pair is None:
        if out is not None:
            save_picture(out, partial(confusion.plot, n_pairs=n))
        if as_json:
            print_json(document)
            return
        typer.echo(f"{data}: {n_wrong} of {len(y)} {samples} are taken for another class")
        _print_pairs(pairs)
        if out is not None:
            typer.echo(out)
        return

    names = {str(name): name for name in classes.tolist()}
    if not names.keys() >= set(two):
        _refuse_pair(pair, names)
    if shape is None and out is not None:
        raise ValueError(no_images(data))
    mistakes = displays.MistakesDisplay(
        X,
        y,
        predictions,
        model.predict_proba(X).max(axis=1),
        pair=(names[two[0]], names[two[1]]),
        shape=shape,
    )
    if out is not None:
        save_picture(out, partial(mistakes.plot, n=n))
    if as_json:
        found = {
            "pair": mistakes.pair,
            "mistakes": _first_mistakes(mistakes, n, numbers),
            "mistakes of the pair": len(mistakes.indices),
        }
        print_json(document | found)
        return
    _print_mistakes(mistakes, f"{data}, {samples}", n, numbers)
    if rows is not None and len(mistakes.indices):
        typer.echo()
        tables.print_rows(rows.iloc[mistakes.indices[:n]].assign(true=y[mistakes.indices[:n]]))
    elif out is not None:
        typer.echo(out)
    elif shape is None and rows is None:
        note(no_images(data))
    elif shape is not None and len(mistakes.indices):
        typer.echo()
        captions = [f"{i}: {mistakes.y_true[i]}" for i in mistakes.indices[:n]]
        _print_images(X[mistakes.indices[:n]], shape, captions)


def _chosen(
    n_samples: int,
    what: str,
    data: str,
    index: int | None,
    at_random: bool,
    n: int,
    seed: int | None,
) -> "NDArray":
    """Return the indices of the samples to show."""
    import numpy as np

    last = n_samples - (1 if at_random else n)
    if n > n_samples or (index or 0) > last:
        name, limit = ("--index", last) if n <= n_samples else ("--n", n_samples)
        raise ValueError(
            f"{name} must be at most {limit}, because {data} has {n_samples} {what}, got "
            f"{index if name == '--index' else n}."
        )
    if at_random:
        return np.random.default_rng(seed).choice(n_samples, n, replace=False)
    return np.arange(n) + (index or 0)


def _show_rows(
    data: str,
    index: int | None,
    at_random: bool,
    n: int,
    seed: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Print rows of a table."""
    if out is not None:
        raise ValueError(f"--out is for images, but {data} is a table: leave it out.")
    with noting_warnings():
        frame = tables.read(data)
    name = tables.name_of(data)
    rows = frame.iloc[_chosen(len(frame), "rows", name, index, at_random, n, seed)]
    if as_json:
        samples = [
            {"index": number, "row": row}
            for number, row in zip(rows.index, tables.exactly(rows).to_dict("records"), strict=True)
        ]
        print_json({"data set": name, "samples": samples})
        return
    tables.print_rows(rows)


def _refuse_pair(pair: str, classes: Iterable[Any]) -> NoReturn:
    raise ValueError(
        f"--pair must be two of the classes {', '.join(map(str, classes))} with a comma between "
        f"them, got {pair!r}."
    )


def _print_images(X: "NDArray", shape: tuple[int, int], captions: Sequence[str]) -> None:
    """Print samples as block characters."""
    from fastmlp.cli import terminal_images as blocks

    width = shutil.get_terminal_size().columns
    blocks.print_images(new_console(), X.reshape(len(X), *shape), captions, width)


def _most_confused(confusion: "ConfusionDisplay", n: int) -> list[dict[str, Any]]:
    """Return the most confused pairs, and how large a part of the true class each is."""
    sizes = dict(
        zip(
            confusion.display_labels.tolist(),
            confusion.confusion_matrix.sum(axis=1).tolist(),
            strict=True,
        )
    )
    return [
        {
            "true": true,
            "predicted": predicted,
            "times": count,
            "of the class": count / sizes[true],
        }
        for true, predicted, count in confusion.pairs_[:n]
    ]


def _print_pairs(pairs: Sequence[Mapping[str, Any]]) -> None:
    """Print the most confused pairs."""
    if not pairs:
        return
    rows = [
        (
            str(pair["true"]),
            str(pair["predicted"]),
            str(pair["times"]),
            f"{pair['of the class']:.1%}",
        )
        for pair in pairs
    ]
    print_table(list(pairs[0]), rows, right=(2, 3))


def _first_mistakes(
    mistakes: "MistakesDisplay", n: int, numbers: "NDArray"
) -> list[dict[str, Any]]:
    """Return where mistakes between two classes are, the most confident first."""
    return [
        {
            "index": numbers[i],
            "true": mistakes.y_true[i],
            "predicted": mistakes.y_pred[i],
            "confidence": None if mistakes.confidence is None else mistakes.confidence[i],
        }
        for i in mistakes.indices[:n]
    ]


def _print_mistakes(mistakes: "MistakesDisplay", where: str, n: int, numbers: "NDArray") -> None:
    """Print where the mistakes between two classes are."""
    total = len(mistakes.indices)
    a, b = mistakes.pair or ("", "")
    more = f", of which these are the first {n}" if total > n else ""
    mistake = "mistake" if total == 1 else "mistakes"
    typer.echo(f"{where}: {total} {mistake} between {a} and {b}{more}")
    if not total:
        return
    rows = []
    for found in _first_mistakes(mistakes, n, numbers):
        confidence = "" if found["confidence"] is None else f"{found['confidence']:.1%}"
        rows.append((str(found["index"]), str(found["true"]), str(found["predicted"]), confidence))
    print_table(("index", "true", "predicted", "confidence"), rows, right=(0, 3))
