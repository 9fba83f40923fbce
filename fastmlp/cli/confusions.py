"""``fastmlp confusions``: which classes a saved model confuses."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fastmlp.cli import image_data, tables
from fastmlp.cli.models import check_features, is_pipeline, load_model, own_size, scored_rows
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
from fastmlp.cli.output import note, noting_warnings, print_json, print_table
from fastmlp.cli.pictures import check_picture, no_images, print_images, save_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmlp.displays import ConfusionDisplay, MistakesDisplay


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
    n: Annotated[
        int, typer.Option("--n", **whole(1), help="Maximum number of pairs or mistakes.")
    ] = 10,
    out: PictureFile = None,
    backend: Backend = None,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which classes a saved model confuses, and its mistakes.

    Without --pair, a table of the confused pairs of classes, the most frequent first; --out draws
    the confusion matrix. With --pair, the mistakes between two classes, the most confident first,
    with their index and image; --out draws the images.

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
            f"confusions needs a classifier, but {model_file} predicts numbers: 'fastmlp evaluate' "
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
        else:
            typer.echo(f"{data}: {n_wrong} of {len(y)} {samples} are misclassified")
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
        print_images(X[mistakes.indices[:n]], shape, captions)


def _refuse_pair(pair: str, classes: Iterable[Any]) -> NoReturn:
    raise ValueError(
        f"--pair must be two of the classes {', '.join(map(str, classes))}, separated by a "
        f"comma, got {pair!r}."
    )


def _most_confused(confusion: "ConfusionDisplay", n: int) -> list[dict[str, Any]]:
    """Return the most confused pairs, with their share of the true class."""
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
    """Return the indices of the mistakes between two classes, the most confident first."""
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
    """Print the mistakes between two classes."""
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
