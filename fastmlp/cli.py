"""The command line: ``fastmlp train``, ``evaluate``, ``show``, ``confusions``, ``data`` and so on.

NumPy, scikit-learn and rich are imported where they are needed, so that ``fastmlp --help`` is
quick. Results go to standard output; notes and errors, a sentence each, to standard error.
"""

import csv
import errno
import json
import math
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from fastmlp import __version__, backends, recipes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from fastmlp.displays import ConfusionDisplay, MistakesDisplay
    from fastmlp.estimators import MLPClassifier
    from fastmlp.parity import Row
    from fastmlp.training import EpochReport

_DEFAULT_RECIPE = "sgd-50"
_NO_PARITY = 1
_UNEQUAL_LOSSES = 1
_USAGE_ERROR = 2
_QUIET_SECONDS = 1.0  # what takes no longer needs no progress bar
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_INTERRUPTION = "Training interrupted by user."  # the warning of `fastmlp.training.train`

app = typer.Typer(
    help="Multilayer perceptrons, trained by a compiled engine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


def main() -> None:
    """Run the command line; an error that the user can mend becomes one sentence."""
    try:
        app(prog_name="fastmlp")
    except (
        ValueError,
        OSError,
        MemoryError,
        ImportError,
        backends.BackendUnavailableError,
    ) as error:
        typer.echo(f"Error: {_in_words(error)}", err=True)
        sys.exit(_USAGE_ERROR)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    pass


# ----------------------------------------------------------------------------------------- options


def _hidden(text: str) -> tuple[int, ...]:
    """Parse the units of the hidden layers, such as "100,50"."""
    units = text.split(",")
    if not all(part.isdecimal() and int(part) for part in units):
        raise typer.BadParameter(f"must be units per layer such as 50 or 100,50, got {text!r}.")
    return tuple(map(int, units))


def _scale(text: str) -> str | float:
    """Parse an input scale: a word, or a number that may be a fraction."""
    if text in ("auto", "standard", "none"):
        return text
    try:
        scale = float(Fraction(text))
    except (ValueError, ArithmeticError):
        scale = 0.0
    if not scale:  # which would make all samples the same
        rule = "must be auto, standard, none, or a number other than 0 such as 1/255"
        raise typer.BadParameter(f"{rule}, got {text!r}.")
    return scale


def _one_of(*names: str) -> dict[str, Any]:
    """Return the options of an option that takes one of these names.

    Of a Literal, typer says "Value error, ..." where it refuses.
    """

    def parse(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"must be one of {', '.join(names)}, got {text!r}.")
        return text

    return {"parser": parse, "metavar": f"<{'|'.join(names)}>"}


def _size(text: str) -> tuple[int, int]:
    """Parse height and width, such as "28x28"."""
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise typer.BadParameter(f"must be height and width such as 28x28, got {text!r}.")
    return int(sides[0]), int(sides[1])


_data_option = partial(typer.Option, rich_help_panel="Data")
_network_option = partial(typer.Option, rich_help_panel="Network and training")
_engine_option = partial(typer.Option, rich_help_panel="Engine")
_output_option = partial(typer.Option, rich_help_panel="Output")

_DATA = _data_option(
    metavar="NAME|DIR", help="mnist, fashion, kmnist, digits, or a directory with four IDX files."
)
DataHome: TypeAlias = Annotated[
    Path | None,
    _data_option(
        metavar="DIR",
        help="Where data sets are kept. Otherwise $FASTMLP_DATA, else the cache.",
    ),
]
Backend: TypeAlias = Annotated[
    str | None,
    _engine_option(
        metavar="|".join(("auto", *backends.NAMES)), help="Implementation; see 'fastmlp info'."
    ),
]
Threads: TypeAlias = Annotated[
    int | None, _engine_option(min=1, metavar="N", help="Threads at most; otherwise all.")
]
ModelFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model that 'fastmlp train' has saved.")
]
Part: TypeAlias = Annotated[
    str, _data_option(**_one_of("train", "test"), help="Which of its samples.")
]
PictureFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a picture: .png, .svg or .pdf. A file is replaced."),
]


# ---------------------------------------------------------------------------------------- commands


@app.command()
def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A published system, which supplies the data set and all values that are not "
            f"given: {', '.join(recipes.RECIPES)}.",
        ),
    ] = None,
    data: Annotated[str | None, _DATA] = None,
    data_home: DataHome = None,
    input_scale: Annotated[
        Any,
        _data_option(
            parser=_scale,
            metavar="auto|standard|none|X",
            help="Factor of the features, such as 1/255. 'auto' makes the largest value 1, "
            "'standard' gives every feature mean 0 and variance 1.",
        ),
    ] = None,
    hidden: Annotated[
        list[Any] | None,
        _network_option(
            parser=_hidden,
            metavar="N[,N...]",
            help="Units of the hidden layers, such as 50 or 100,50,25.",
        ),
    ] = None,
    activation: Annotated[
        str | None,
        _network_option(
            **_one_of("identity", "logistic", "tanh", "relu"), help="Function of the hidden layers."
        ),
    ] = None,
    solver: Annotated[
        str | None,
        _network_option(
            **_one_of("sgd", "adam", "lbfgs"),
            help="Optimiser. If it is not the recipe's, neither is the learning rate: 0.001.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, _network_option(metavar="X", help="Initial learning rate.")
    ] = None,
    alpha: Annotated[
        float | None, _network_option(metavar="X", help="Strength of the L2 penalty.")
    ] = None,
    batch_size: Annotated[
        int | None, _network_option(min=1, metavar="N", help="Samples per update.")
    ] = None,
    epochs: Annotated[
        int | None, _network_option(min=1, metavar="N", help="Epochs at most.")
    ] = None,
    early_stopping: Annotated[
        bool,
        _network_option(
            "--early-stopping",
            help="Hold out a tenth of the training data, and stop when it is no longer "
            "predicted better.",
        ),
    ] = False,
    seed: Annotated[
        int | None,
        _network_option(
            min=0, metavar="N", help="Determines the initial weights and the order of the samples."
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        _engine_option(**_one_of("float32", "float64"), help="Precision; float32 is faster."),
    ] = None,
    backend: Backend = None,
    threads: Threads = None,
    out: Annotated[
        Path,
        _output_option(
            metavar="FILE",
            help="Where to save the model. A model of that name is replaced, any other file "
            "is not.",
        ),
    ] = Path("model.npz"),
    no_save: Annotated[bool, _output_option("--no-save", help="Do not save the model.")] = False,
    plots: Annotated[
        Path | None,
        _output_option(
            metavar="DIR",
            help="Draw weights.png, loss_curve.png and, of the test samples, confusion.png and "
            "mistakes.png. Files of these names are replaced.",
        ),
    ] = None,
) -> None:
    """Train a network, watch it learn, score it, and save it.

    The recipe, sgd-50 on MNIST if none is named, supplies every value that is not given. Its
    input scale is the exception: on another data set than its own that is 'auto'. If neither
    --recipe nor --data nor --data-home is given and MNIST cannot be had, the digits that come with
    scikit-learn take its place.

    Ctrl-C ends the training: what has been learned is scored and saved, and the exit status is
    130.

    For example:

        fastmlp train
        fastmlp train --data digits --hidden 100,50 --epochs 50
        fastmlp train --data fashion --solver adam --early-stopping --out fashion.npz
        fastmlp train --data digits --plots .
    """
    from fastmlp import datasets, persistence
    from fastmlp.estimators import MLPClassifier
    from fastmlp.threads import usable_threads

    chosen = recipes.get(recipe or _DEFAULT_RECIPE)
    backend_name = backends.resolve(backend or "auto")
    if (solver or chosen.parameters["solver"]) == "lbfgs":
        unused = {
            "--learning-rate": learning_rate is not None,
            "--batch-size": batch_size is not None,
            "--early-stopping": early_stopping,
        }
        for option in (option for option, is_given in unused.items() if is_given):
            raise ValueError(
                f"{option} has no effect on lbfgs: leave it out, or choose --solver sgd or adam."
            )
    if not no_save:
        _check_destination(out)
    if plots is not None:
        _check_plots(plots)

    name = data or chosen.dataset
    try:
        (X, y), (X_test, y_test) = datasets.load(name, data_home)
    except datasets.DatasetError as error:
        if data or data_home or recipe or isinstance(error, datasets.SpoiledFileError):
            raise
        _note(f"{name} cannot be had ('fastmlp data fetch {name}' says why); using the digits.")
        name = "digits"
        (X, y), (X_test, y_test) = datasets.load(name)

    parameters = dict(chosen.parameters)
    if solver not in (None, parameters["solver"]):
        # A good rate for SGD is far too high for Adam.
        parameters.pop("learning_rate_init", None)
    given = {
        "hidden_layer_sizes": tuple(chain(*hidden)) if hidden else None,
        "activation": activation,
        "solver": solver,
        "learning_rate_init": learning_rate,
        "alpha": alpha,
        "batch_size": batch_size,
        "max_iter": epochs,
        "early_stopping": early_stopping or None,
        "random_state": seed,
        "dtype": dtype,
    }
    parameters |= {key: value for key, value in given.items() if value is not None}
    parameters["input_scale"] = _input_scale(input_scale, chosen, name, X)
    model = MLPClassifier(**parameters, backend=backend or "auto", n_threads=threads)

    typer.echo(f"{name}: {len(X)} training samples, {len(X_test)} test samples")
    if backend is None and backend_name != (first := backends.NAMES[0]):
        _note(f"the {first} backend is not available: {backends.unavailable()[first]}.")
    with _notes() as notes, _epoch_display(model.max_iter) as on_epoch:
        started = time.perf_counter()
        model._fit(X, y, on_epoch=on_epoch)
        seconds = time.perf_counter() - started
    interrupted = _INTERRUPTION in notes
    if interrupted and not model.n_iter_:
        _note("no epoch was finished, so nothing is saved.")
        raise typer.Exit(_INTERRUPTED)
    if not no_save:  # before anything else, so that another Ctrl-C cannot come between
        persistence.save(model, out)

    scores = [f"{model.score(*part):.3f}" for part in ((X, y), (X_test, y_test))]
    if name == chosen.dataset and parameters == chosen.parameters:
        published = (chosen.train_score, chosen.test_score)
        scores = [
            score if figure is None else f"{score} (published: {figure:.3f})"
            for score, figure in zip(scores, published, strict=True)
        ]
    typer.echo()
    drawn = [] if plots is None else _draw_training(model, name, (X_test, y_test), plots)
    unsettled = ", the loss had not settled" if model.n_iter_ == model.max_iter else ""
    _print_facts(
        {
            "data set": name,
            "network": _network_in_words(model),
            "solver": _solver_in_words(model),
            "backend": _backend_in_words(backend_name),
            "threads": str(threads or usable_threads()),
            "dtype": str(model.coefs_[0].dtype),
            "epochs": f"{model.n_iter_} of {model.max_iter}{unsettled}",
            "final loss": f"{model.loss_:.8f}",
            "train score": scores[0],
            "test score": scores[1],
            "training time": f"{seconds:.2f} s, {len(X) * model.n_iter_ / seconds:,.0f} samples/s",
            "model file": "not saved" if no_save else str(out),
            **({"pictures": ", ".join(map(str, drawn))} if drawn else {}),
        }
    )
    if interrupted:
        raise typer.Exit(_INTERRUPTED)


@app.command()
def evaluate(
    model_file: ModelFile,
    data: Annotated[str, _DATA] = "mnist",
    data_home: DataHome = None,
    backend: Backend = None,
    threads: Threads = None,
) -> None:
    """Score a saved model on a data set.

    Any data set with as many features will do.

    For example:

        fastmlp evaluate model.npz --data mnist
        fastmlp evaluate model.npz --data directory/with/four/idx/files
    """
    from sklearn.metrics import accuracy_score

    from fastmlp import datasets

    model = _load_model(model_file, backend, threads)
    train_part, (X_test, y_test) = datasets.load(data, data_home)
    _check_features(model_file, model, data, X_test)
    with _notes():
        started = time.perf_counter()
        predictions = model.predict(X_test)
        seconds = time.perf_counter() - started
        n_errors = len(y_test) - int(accuracy_score(y_test, predictions, normalize=False))
        train_score = model.score(*train_part)
    _print_facts(
        {
            "data set": data,
            "network": _network_in_words(model),
            "backend": _backend_in_words(model.backend),
            "train score": f"{train_score:.3f}",
            "test score": f"{1 - n_errors / len(y_test):.3f}",
            "test errors": f"{n_errors} of {len(y_test)}",
            "test time": f"{seconds:.3f} s",
        }
    )


@app.command()
def predict(
    model_file: ModelFile,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A row or an image per sample: IDX, gzipped IDX, .npy or .npz."
        ),
    ],
    proba: Annotated[
        bool,
        typer.Option("--proba", help="Print CSV: the classes, then their probabilities."),
    ] = False,
    backend: Backend = None,
    threads: Threads = None,
) -> None:
    """Print the label of every sample as a saved model predicts it, one a line.

    Labels go to standard output, from where they can be redirected.

    For example:

        fastmlp predict model.npz t10k-images-idx3-ubyte.gz > labels.txt
        fastmlp predict model.npz images.npy --proba > probabilities.csv
    """
    from fastmlp.formats import read_array

    model = _load_model(model_file, backend, threads)
    samples = read_array(file)
    if samples.ndim < 2:
        raise ValueError(
            f"{file} must hold a row or an image per sample, got shape {samples.shape}."
        )
    X = samples.reshape(len(samples), math.prod(samples.shape[1:]))
    _check_features(model_file, model, file, X)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    with _notes():
        outputs = model.predict_proba(X) if proba else model.predict(X).reshape(len(X), -1)
    if proba:
        writer.writerow(model.classes_.tolist())
        writer.writerows([f"{value:.6g}" for value in row] for row in outputs)
    else:
        writer.writerows(outputs.tolist())


@app.command()
def show(
    data: Annotated[str, _DATA] = "mnist",
    data_home: DataHome = None,
    part: Part = "test",
    index: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="The sample, counted from 0; otherwise the first."),
    ] = None,
    at_random: Annotated[bool, typer.Option("--random", help="Draw samples at random.")] = False,
    n: Annotated[
        int, typer.Option("--n", min=1, metavar="N", help="How many, from --index on.")
    ] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Determines what --random draws.")
    ] = None,
    out: PictureFile = None,
) -> None:
    """Show samples of a data set as images, in the terminal or in a file.

    Above each image stand its index and its label. The terminal needs no matplotlib, a file does.

    For example:

        fastmlp show --index 42
        fastmlp show --data fashion --part train --random --n 8
        fastmlp show --data digits --random --n 16 --out digits.png
    """
    import numpy as np

    from fastmlp import displays

    if index is not None and at_random:
        raise ValueError("--index and --random exclude each other: give one of them.")
    if out is not None:
        _check_picture(out)
    X, y = _load_part(data, data_home, part)
    shape = _image_shape(data)
    if shape is None:
        raise ValueError(_no_images(data))
    last = len(X) - (1 if at_random else n)
    if n > len(X) or (index or 0) > last:
        name, limit = ("--index", last) if n <= len(X) else ("--n", len(X))
        raise ValueError(
            f"{name} must be at most {limit}, because {data} has {len(X)} {part} samples, got "
            f"{index if name == '--index' else n}."
        )
    indices = np.arange(n) + (index or 0)
    if at_random:
        indices = np.random.default_rng(seed).choice(len(X), n, replace=False)
    captions = [f"{i}: {y[i]}" for i in indices]
    if out is None:
        _print_images(X[indices], shape, captions)
    else:
        display = displays.DigitDisplay(X[indices], captions, shape=shape)
        typer.echo(_save_picture(out, display.plot))


@app.command()
def confusions(
    model_file: ModelFile,
    data: Annotated[str, _DATA] = "mnist",
    data_home: DataHome = None,
    part: Part = "test",
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Show the mistakes between these two classes, such as 3,8."
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("--n", min=1, metavar="N", help="Pairs, or mistakes, at most.")
    ] = 10,
    out: PictureFile = None,
    backend: Backend = None,
    threads: Threads = None,
) -> None:
    """Show which classes a saved model confuses, and how it errs.

    Without --pair, a table of the classes that are taken for another, the most frequent first;
    --out draws the confusion matrix. With --pair, the mistakes between two classes, the most
    confident first: where they are in the data, and the images; --out draws these.

    For example:

        fastmlp confusions model.npz
        fastmlp confusions model.npz --out confusion.png
        fastmlp confusions model.npz --pair 3,8 --n 20
    """
    from fastmlp import displays

    if out is not None:
        _check_picture(out)
    model = _load_model(model_file, backend, threads)
    if not hasattr(model, "classes_"):
        raise ValueError(f"MODEL must be a classifier, got a {type(model).__name__}.")
    X, y = _load_part(data, data_home, part)
    _check_features(model_file, model, data, X)
    with _notes():
        predictions = model.predict(X)
    matrix, classes = displays.count_confusions(y, predictions)
    if pair is None:
        n_wrong = int(matrix.sum() - matrix.trace())
        typer.echo(f"{data}: {n_wrong} of {len(y)} {part} samples are taken for another class")
        confusion = displays.ConfusionDisplay(matrix, classes)
        _print_pairs(confusion, n)
        if out is not None:
            typer.echo(_save_picture(out, partial(confusion.plot, n_pairs=n)))
        return

    names = {str(name): name for name in classes.tolist()}
    two = pair.split(",")
    if len(two) != 2 or two[0] == two[1] or not names.keys() >= set(two):
        raise ValueError(
            f"--pair must be two of the classes {', '.join(names)} with a comma between them, got "
            f"{pair!r}."
        )
    shape = _image_shape(data)
    if shape is None and out is not None:
        raise ValueError(_no_images(data))
    mistakes = displays.MistakesDisplay(
        X,
        y,
        predictions,
        model.predict_proba(X).max(axis=1),
        pair=(names[two[0]], names[two[1]]),
        shape=shape,
    )
    _print_mistakes(mistakes, f"{data}, {part} samples", n)
    if out is not None:
        typer.echo(_save_picture(out, partial(mistakes.plot, n=n)))
    elif shape is None:
        _note(_no_images(data))
    elif len(mistakes.indices):
        typer.echo()
        captions = [f"{i}: {mistakes.y_true[i]}" for i in mistakes.indices[:n]]
        _print_images(X[mistakes.indices[:n]], shape, captions)


@app.command()
def parity(
    n: Annotated[
        int, typer.Option("--n", min=1, metavar="N", help="Configurations to draw.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Determines what is drawn.")] = 0,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(backends.NAMES),
            help="Check this backend; may be given again. Otherwise all that are available.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the table.")
    ] = False,
) -> None:
    """Compare every backend with the installed scikit-learn.

    Both learn random data with random parameters. Shown are the largest differences in initial
    weights, losses, weights and predictions, relative to the largest number (losses: to each),
    and the share of the labels that differ. In float64 the NumPy backend must give
    scikit-learn's numbers exactly; the others may differ by 1e-8 in losses and by 1e-6 in weights
    and predictions. In float32 only losses are judged: by 1e-3.

    The exit status is 1 if a difference is larger; the worst configuration is then printed as
    code that reproduces it.
    """
    import numpy as np
    import sklearn
    from rich.progress import track

    from fastmlp.parity import check, configurations

    names = list(dict.fromkeys(map(backends.resolve, backend or backends.available())))
    drawn = track(
        configurations(n, seed),
        description="",
        total=n,
        console=_console(),
        transient=True,
        disable=not sys.stdout.isatty(),  # rich would take FORCE_COLOR for a terminal, too
    )
    rows = check(drawn, names)
    passed = not any(row.failures for row in rows)
    if as_json:
        document = {
            "passed": passed,
            "n": n,
            "seed": seed,
            "fastmlp": __version__,
            "scikit-learn": sklearn.__version__,
            "NumPy": np.__version__,
            "rows": [row.as_dict() for row in rows],
        }
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        _print_parity(rows)
    if not passed:
        raise typer.Exit(_NO_PARITY)


@app.command()
def bench(
    suite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="mnist, tabular, sparse, predict, startup, memory, backends, threads, all, or a "
            "case of theirs, or devices; may be given again. Otherwise all, without devices.",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A tenth of the samples: shows that it works, not how fast."),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all that was measured.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Draw the ratios (benchmark.png, .svg) or a heat map (devices.png, .svg).",
        ),
    ] = None,
) -> None:
    """Measure fastmlp beside scikit-learn, and PyTorch and JAX if they are installed.

    Every library works in a process of its own, in turns, on the same data with the same initial
    weights. Shown are the medians, how many times as long the other takes (the lowest and highest
    of the rounds in brackets), how far the losses are apart, and the bare matrix products of the
    same epoch with our share of their time.

    The suite "devices" shows from where on a GPU pays: seconds per epoch of every backend, and of
    PyTorch on the GPU, for several widths and batch sizes.

    The exit status is 1 if losses are further apart than they may be. A full run takes some
    minutes, on a machine that has nothing else to do.

    For example:

        fastmlp bench --quick
        fastmlp bench --suite mnist --suite tabular --json run.json --plot .
        fastmlp bench --suite devices --plot .
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from fastmlp import bench
    from fastmlp.bench import devices
    from fastmlp.files import atomic_write

    others = [name for name in suite or ["all"] if name != "devices"]
    cases = bench.select(others) if others else []
    if plot is not None:
        bench.check_plot()
        if not plot.is_dir():
            raise ValueError(f"--plot must be a directory that exists, got {plot}.")
    if json_file is not None and not json_file.parent.is_dir():
        raise ValueError(f"--json must be a file in a directory that exists, got {json_file}.")
    columns = TextColumn("{task.description}"), BarColumn(bar_width=16), TimeElapsedColumn()
    entries: list[dict[str, Any]] = []
    found: dict[str, Any] | None = None
    with Progress(
        *columns,
        console=_console(),
        transient=True,
        disable=not sys.stdout.isatty(),  # rich would take FORCE_COLOR for a terminal, too
    ) as progress:
        task = progress.add_task("", total=len(cases))

        def show(done: int, of: int) -> None:
            progress.update(task, completed=len(entries) + done / of)

        for case in cases:
            progress.update(task, description=case.about, completed=len(entries))
            entries.append(bench.measure(case, quick, show))
        if "devices" in (suite or []):
            progress.update(task, description="devices", completed=0, total=None)
            found = devices.measure(
                quick, lambda done, of: progress.update(task, completed=done, total=of)
            )
    document = bench.document(entries, quick)
    if cases:
        _print_bench(document)
    if found is not None:
        document |= {"devices": found, "passed": document["passed"] and found["passed"]}
        _print_devices(found)
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write((json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    if plot is not None:
        drawn = bench.plot(document, plot) if cases else []
        drawn += devices.plot(found, plot) if found and found["cells"] else []
        for path in drawn:
            typer.echo(path)
    if not document["passed"]:
        raise typer.Exit(_UNEQUAL_LOSSES)


@app.command()
def info() -> None:
    """Show versions, backends, instruction set, threads and the data directory."""
    import platform

    import numpy as np
    import sklearn

    from fastmlp import datasets
    from fastmlp.threads import usable_threads

    reasons = backends.unavailable()
    facts = {
        "fastmlp": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
    for name in backends.NAMES:
        reason = reasons.get(name)
        facts[f"{name} backend"] = f"not available: {reason}" if reason else "available"
    if "cython" in backends.available():
        from fastmlp.backends import cython_backend

        others = ", ".join(cython_backend.supported_isas())
        facts["instruction set"] = f"{cython_backend.ISA} (this CPU can: {others})"
    facts["threads"] = str(usable_threads())
    facts["data directory"] = str(datasets.data_home_path())
    _print_facts(facts)


@app.command("recipes")
def list_recipes() -> None:
    """List the published systems that 'fastmlp train --recipe NAME' trains again.

    Shown are the published accuracy on the test images, and ours.

    For example:

        fastmlp recipes
        fastmlp train --recipe lbfgs-397
    """
    from rich.table import Table

    table = Table("recipe", "what it is", "published", "ours", box=None, pad_edge=False)
    for recipe in recipes.RECIPES.values():
        scores = f"{recipe.test_score:.3f}", f"{recipe.our_test_score:.3f}"
        table.add_row(recipe.name, recipe.description, *scores)
    _console().print(table)


app.add_typer(data_app, name="data", help="Fetch, inspect and convert data sets.")


@data_app.command()
def fetch(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="mnist, fashion or kmnist.")
    ],
    data_home: DataHome = None,
) -> None:
    """Make sure that data sets are here and genuine, and print where.

    They are looked for in the data directory first, see 'fastmlp info'.

    For example:

        fastmlp data fetch mnist fashion
    """
    from fastmlp import datasets

    for name in names:
        typer.echo(datasets.fetch(name, data_home))


@data_app.command("info")
def inspect(
    source: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="A data set, a directory or an IDX file.")
    ],
    data_home: DataHome = None,
) -> None:
    """Show what the headers of IDX files say.

    A data set that is named must have been fetched before.

    For example:

        fastmlp data info mnist
        fastmlp data info train-images-idx3-ubyte.gz
    """
    from rich.table import Table

    from fastmlp import datasets, idx

    path = Path(source)
    if source in datasets.DATASETS:
        try:
            datasets.load(source, data_home, download=False)
        except datasets.SpoiledFileError:
            raise
        except datasets.DatasetError:
            raise ValueError(
                f"{source} is not on this machine: 'fastmlp data fetch {source}' gets it."
            ) from None
        path = datasets.fetch(source, data_home)
    elif not path.exists():
        raise ValueError(f"{source!r} is no file or directory, and none of {[*datasets.DATASETS]}.")
    paths = [path]
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if "idx" in p.name.lower() and p.is_file())
        typer.echo(path)
    table = Table("file", "kind", "type", "shape", "bytes", "gzip", box=None)
    for path in paths:
        header = idx.info(path)
        table.add_row(
            path.name,
            header.kind,
            str(header.dtype),
            " x ".join(map(str, header.shape)),
            f"{header.n_bytes:,}",
            "yes" if header.compressed else "no",
        )
    _console().print(table)


@data_app.command()
def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A data set by name, a directory with four IDX files, a directory of pictures, or "
            "an IDX, .npz, .npy, .csv or .parquet file.",
        ),
    ],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="What to write; its name says of which kind.")
    ],
    size: Annotated[
        Any,
        typer.Option(parser=_size, metavar="HxW", help="Resize pictures to this height and width."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace TARGET if it exists.")] = False,
    data_home: DataHome = None,
) -> None:
    """Convert a data set between IDX, NPZ, CSV, Parquet and folders of pictures.

    The name of TARGET says what it becomes: ending in .npz, .npy, .csv or .parquet; with idx or
    ubyte in it, or ending in .gz, IDX; without an ending, folders of pictures, one per label
    (with fastmlp's extra 'images').

    Training and test images become train/ and test/ with pictures in them, four IDX files in a
    directory, one .npz file, or two tables: mnist_train.csv and mnist_test.csv for mnist.csv.
    Tables have a header, then a row per image: label, pixels. A file with one array (IDX, .npy,
    .npz) stays one array, unless TARGET needs labels: those of images-idx3-ubyte are looked for in
    labels-idx1-ubyte.

    For example:

        fastmlp data convert mnist mnist_png
        fastmlp data convert photos/ train-images-idx3-ubyte --size 28x28
        fastmlp data convert mnist_train.csv train.npz
        fastmlp data convert train-images-idx3-ubyte.gz images.npy
    """
    from fastmlp import formats
    from fastmlp.notices import FastMLPWarning

    with warnings.catch_warnings(record=True) as caught, _file_display() as progress:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", FastMLPWarning)  # files that were left out
        written = formats.convert(
            source, target, data_home=data_home, size=size, force=force, progress=progress
        )
    for warning in caught:
        _note(str(warning.message))
    for path, content in written.items():
        typer.echo(f"{path}: {content}")


# ----------------------------------------------------------------------------------------- helpers


def _input_scale(wanted: Any, recipe: recipes.Recipe, data: str, X: "NDArray") -> Any:
    """Return the estimator's `input_scale`; a recipe's number suits the recipe's data only."""
    if wanted is None:
        own = recipe.parameters["input_scale"]
        wanted = own if data == recipe.dataset or own == "standard" else "auto"
    if wanted == "auto":
        return 1 / int(X.max(initial=1))
    return None if wanted == "none" else wanted


def _check_destination(out: Path) -> None:
    """Refuse a place where the model cannot or must not be put, before it has been trained."""
    from fastmlp.persistence import is_model_file

    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"--out must be a file in a directory that exists, got {out}.")
    if out.exists() and not out.is_file():  # a pipe or a device
        if not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, "cannot be written", str(out))
        return
    _check_writable(out.resolve().parent, out)
    if out.is_file() and out.stat().st_size and not is_model_file(out):
        raise ValueError(f"{out} exists and is not a model: name another file with --out.")


def _check_plots(folder: Path) -> None:
    """Refuse a directory for pictures, or to draw at all, before anything is trained."""
    from fastmlp.displays import check_matplotlib

    check_matplotlib()
    whole = folder.resolve()
    existing = next(path for path in (whole, *whole.parents) if path.exists())
    if not existing.is_dir():
        raise ValueError(f"--plots must be a directory, got {folder}, and {existing} is a file.")
    _check_writable(existing, folder)


def _check_picture(out: Path) -> None:
    """Refuse a file for a picture, or to draw at all, before anything is computed."""
    from fastmlp.displays import check_matplotlib

    check_matplotlib()
    if out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--out must end in .png, .svg or .pdf, got {out}.")
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"--out must be a file in a directory that exists, got {out}.")
    _check_writable(out.resolve().parent, out)


def _check_writable(folder: Path, named: Path) -> None:
    """Refuse a directory that cannot be written, by the name that the user gave."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(error.errno, "cannot be written", str(named)) from None


def _save_picture(path: Path, draw: Callable[..., Any]) -> Path:
    """Write the picture of a display, which `draw` draws on an Axes, in the display's size."""
    from matplotlib.figure import Figure

    from fastmlp.files import atomic_write

    figure = Figure(layout="constrained")  # not pyplot's: there may be no screen
    display = draw(ax=figure.subplots())
    figure.set_size_inches(*display.figsize_)
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=150)
    return path


def _draw_training(
    model: "MLPClassifier", data: str, test_part: tuple["NDArray", "NDArray"], folder: Path
) -> list[Path]:
    """Draw what was learned, how, and what is still wrong; return what was written."""
    from fastmlp.displays import (
        ConfusionDisplay,
        LossCurveDisplay,
        MistakesDisplay,
        WeightsDisplay,
    )

    drawings: dict[str, Callable[..., Any]] = {
        "loss_curve": partial(LossCurveDisplay.from_estimator, model),
        "confusion": partial(ConfusionDisplay.from_estimator, model, *test_part),
    }
    shape = _image_shape(data)
    if shape is None:
        _note(f"no weights.png and mistakes.png: {_no_images(data)}")
    else:
        drawings |= {
            "weights": partial(WeightsDisplay.from_estimator, model, shape=shape),
            "mistakes": partial(MistakesDisplay.from_estimator, model, *test_part, shape=shape),
        }
    folder.mkdir(parents=True, exist_ok=True)
    return [_save_picture(folder / f"{name}.png", draw) for name, draw in drawings.items()]


def _load_part(data: str, data_home: Path | None, part: str) -> tuple["NDArray", "NDArray"]:
    """Return the training or the test samples of a data set."""
    from fastmlp import datasets

    train_part, test_part = datasets.load(data, data_home)
    return train_part if part == "train" else test_part


def _image_shape(data: str) -> tuple[int, int] | None:
    """Return rows and columns of a data set's images, or None if its samples are no images."""
    from fastmlp import datasets

    shape = datasets.image_shape(data)
    return (shape[0], shape[1]) if len(shape) == 2 else None


def _no_images(data: str) -> str:
    return (
        f"{data} must hold images to have them drawn, got a file without rows and columns: IDX "
        "files of shape (n_samples, rows, columns) are images."
    )


def _load_model(path: Path, backend: str | None, threads: int | None) -> "MLPClassifier":
    """Load a model, to be used with another backend or number of threads if these are given."""
    from fastmlp import persistence

    try:
        model = persistence.load(path)
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist: name a model that 'fastmlp train' has saved, as model.npz or "
            "where --out said."
        ) from None
    if backend is not None:
        model.set_params(backend=backends.resolve(backend))
    if threads is not None:
        model.set_params(n_threads=threads)
    return model


def _check_features(model_file: Path, model: "MLPClassifier", source: object, X: "NDArray") -> None:
    """Refuse samples that are not of the kind that a model has been trained on."""
    if X.shape[1] != model.n_features_in_:
        raise ValueError(
            f"{source} must hold samples of {model.n_features_in_} features, as {model_file} was "
            f"trained on, got {X.shape[1]}: name data and a model that belong together."
        )


@contextmanager
def _notes() -> Iterator[list[str]]:
    """Show the library's warnings as notes; what they said is collected in the list."""
    from sklearn.exceptions import ConvergenceWarning

    texts: list[str] = []

    def show(message: Warning | str, *_: Any) -> None:
        texts.append(str(message))
        _note(texts[-1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)  # the summary says it
        warnings.showwarning = show  # type: ignore[assignment]
        yield texts


def _note(text: str) -> None:
    # Not typer.echo, which looks behind what a progress bar has put in the place of sys.stderr.
    sys.stderr.write(f"Note: {text}\n")


@contextmanager
def _epoch_display(max_iter: int) -> Iterator[Callable[["EpochReport"], None]]:
    """Show a line per epoch and, on a terminal, a progress bar below the lines."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    console = _console()
    columns = (
        SpinnerColumn(),
        TextColumn("epoch {task.completed}/{task.total}"),
        BarColumn(bar_width=16),
        TextColumn("{task.description}"),
    )
    seconds = 0.0
    on_terminal = sys.stdout.isatty()  # rich would take FORCE_COLOR for a terminal, too
    with Progress(*columns, console=console, transient=True, disable=not on_terminal) as progress:
        task = progress.add_task("", total=max_iter)

        def show(report: "EpochReport") -> None:
            nonlocal seconds
            seconds += report.seconds
            line = f"Iteration {report.epoch}, loss = {report.loss:.8f}"
            if report.validation_score is not None:
                line += f", validation score = {report.validation_score:.4f}"
            console.print(line)
            speed = f"{report.n_samples / report.seconds:,.0f} samples/s"
            # Not rich's own estimate, which forgets what is longer ago than half a minute.
            left = timedelta(seconds=round(seconds / report.epoch * (max_iter - report.epoch)))
            status = f"loss {report.loss:.4f}  {speed}  {left} left"
            progress.update(task, completed=report.epoch, description=status)

        yield show


@contextmanager
def _file_display() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal, if it is not all done within a second."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(bar_width=16), MofNCompleteColumn(), TimeRemainingColumn()
    display = Progress(*columns, console=_console(), transient=True)
    # rich would take FORCE_COLOR for a terminal, too
    due = time.monotonic() + _QUIET_SECONDS if sys.stdout.isatty() else math.inf
    task = display.add_task("")

    def show(done: int, of: int) -> None:
        if time.monotonic() > due and not display.live.is_started:
            display.start()
        display.update(task, completed=done, total=of)

    try:
        yield show
    finally:
        if display.live.is_started:  # otherwise it would print an empty line
            display.stop()


def _console() -> "Console":
    """Return a console for standard output that prints text as it is."""
    from rich.console import Console

    # In a file or a pipe there is no edge of a screen to break lines at.
    width = None if sys.stdout.isatty() else 500
    return Console(width=width, markup=False, emoji=False, highlight=False)


def _print_facts(facts: Mapping[str, str]) -> None:
    """Print a table of names and values."""
    from rich.text import Text

    console = _console()
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        console.print(Text.assemble((name.ljust(width), "bold"), value), soft_wrap=True)


def _print_images(X: "NDArray", shape: tuple[int, int], captions: Sequence[str]) -> None:
    """Print samples as block characters."""
    from fastmlp import blocks

    width = shutil.get_terminal_size().columns
    blocks.print_images(_console(), X.reshape(len(X), *shape), captions, width)


def _print_pairs(confusion: "ConfusionDisplay", n: int) -> None:
    """Print the most confused pairs, and how large a part of the true class each is."""
    from rich.table import Table

    if not confusion.pairs_:
        return
    sizes = dict(
        zip(
            confusion.display_labels.tolist(),
            confusion.confusion_matrix.sum(axis=1).tolist(),
            strict=True,
        )
    )
    table = Table("true", "predicted", "times", "of the class", box=None, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    for true, predicted, count in confusion.pairs_[:n]:
        table.add_row(str(true), str(predicted), str(count), f"{count / sizes[true]:.1%}")
    _console().print(table)


def _print_mistakes(mistakes: "MistakesDisplay", where: str, n: int) -> None:
    """Print where the mistakes between two classes are."""
    from rich.table import Table

    total = len(mistakes.indices)
    a, b = mistakes.pair or ("", "")
    more = f", of which these are the first {n}" if total > n else ""
    mistake = "mistake" if total == 1 else "mistakes"
    typer.echo(f"{where}: {total} {mistake} between {a} and {b}{more}")
    if not total:
        return
    table = Table("index", "true", "predicted", "confidence", box=None, pad_edge=False)
    for column in (table.columns[0], table.columns[3]):
        column.justify = "right"
    for i in mistakes.indices[:n]:
        confidence = "" if mistakes.confidence is None else f"{mistakes.confidence[i]:.1%}"
        table.add_row(str(i), str(mistakes.y_true[i]), str(mistakes.y_pred[i]), confidence)
    _console().print(table)


def _print_parity(rows: Sequence["Row"]) -> None:
    """Print the largest differences, and the worst configuration of every row that failed."""
    from dataclasses import astuple

    from rich.table import Table

    headings = ("initial\nweights", "loss\ncurves", "weights", "predictions", "labels")
    table = Table("backend", "dtype", "fits", *headings, "verdict", box=None, pad_edge=False)
    for row in rows:
        numbers = astuple(row.largest)[: len(headings)]
        cells = [f"{number:.1e}" if number else "0" for number in numbers]
        verdict = "FAILED" if row.failures else "passed"
        table.add_row(row.backend, row.dtype, str(row.fits), *cells, verdict)
    _console().print(table)
    if unstable := max(row.unstable for row in rows):
        _note(
            f"in float32, {unstable} are not judged: scikit-learn's own losses change too much "
            "when X is rounded."
        )
    for row in rows:
        name = f"{row.backend} {row.dtype}"
        if row.unequal:
            _note(f"{name}: {row.unequal} stopped in another epoch than scikit-learn.")
        if row.failures:
            typer.echo(f"\n{name}: {len(row.failures)} of {row.fits} failed. The worst:\n")
            typer.echo(row.as_dict()["worst"]["reproduction"])


def _print_bench(document: Mapping[str, Any]) -> None:
    """Print a line per pair, then why somebody is missing and whose losses differ."""
    from rich.table import Table

    from fastmlp.bench import in_words

    headings = (
        "theirs",
        "theirs / ours",
        "losses\ndiffer by",
        "matrix\nproducts",
        "ours /\nproducts",
    )
    table = Table("case", "ours", "", "beside", *headings, box=None, pad_edge=False)
    for column in table.columns[2:3] + table.columns[4:]:
        column.justify = "right"
    notes = []
    for entry in document["cases"]:
        if "missing" in entry:
            notes.append(f"{entry['name']}: {entry['missing']}")
            continue
        unit, ours = entry["unit"], entry["ours"]
        left = (entry["name"], ours["label"], in_words(ours["median"], unit))
        right = ("", "")
        if floor := entry.get("floor"):
            share = f"{1 / floor['ratio']['median']:.2f}"
            right = (in_words(floor["median"], unit), share)
        for peer in entry["peers"]:
            if "missing" in peer:
                notes.append(f"{entry['name']}, beside {peer['label']}: {peer['missing']}")
                continue
            ratio, losses = peer["ratio"], peer["losses"]
            difference = losses["difference"]
            verdict = (
                "no number" if difference is None else f"{difference:.0e}" if difference else "0"
            )
            if not losses["equal"]:
                verdict = f"{verdict} FAILED"
                notes.append(
                    f"{entry['name']}, beside {peer['label']}: losses may differ by "
                    f"{losses['tolerance']:g}. A ratio of unequal trainings means nothing."
                )
            spread = f"({ratio['lowest']:.1f} to {ratio['highest']:.1f})"
            theirs = in_words(peer["median"], unit)
            times = f"{ratio['median']:.1f} {spread}"
            table.add_row(*left, peer["label"], theirs, times, verdict, *right)
            left, right = ("", "", ""), ("", "")
    _console().print(table)
    if document["quick"]:
        notes.insert(0, "--quick shows that it works, not how fast.")
    for note in notes:
        _note(note)


def _print_devices(found: Mapping[str, Any]) -> None:
    """Print a line per cell of the grid, and from where on a GPU pays."""
    from rich.table import Table

    from fastmlp.bench import devices, in_words

    labels = list(found["cells"][0]["epoch"]) if found["cells"] else []
    table = Table("hidden", "batch", *labels, box=None, pad_edge=False)
    if "cuda" in labels:
        table.add_column("CPU / GPU")
        table.add_column("copies in, out")
    for column in table.columns:
        column.justify = "right"
    for cell in found["cells"]:
        cells = []
        for label in labels:
            equal = "" if cell["losses"][label]["equal"] else " FAILED"
            cells.append(in_words(cell["epoch"][label], "s") + equal)
        if "cuda" in labels:
            copies = (in_words(cell[way]["cuda"], "s") for way in ("into", "out"))
            cells += [f"{devices.gain(cell) or 0:.1f}", ", ".join(copies)]
        table.add_row(str(cell["n_hidden"]), str(cell["batch_size"]), *cells)
    if labels:
        _console().print(table)
    for sentence in devices.conclusions(found):
        typer.echo(sentence)
    for label, reason in found["missing"].items():
        if label != "cuda":
            _note(f"beside {label}: {reason}")


def _network_in_words(model: "MLPClassifier") -> str:
    units = [model.n_features_in_, *(len(intercept) for intercept in model.intercepts_)]
    return f"{'-'.join(map(str, units))}, {model.activation}"


def _solver_in_words(model: "MLPClassifier") -> str:
    rate = f", learning rate {model.learning_rate_init:g}" if model.solver != "lbfgs" else ""
    return f"{model.solver}{rate}"


def _backend_in_words(name: str) -> str:
    name = backends.resolve(name)
    isa = getattr(backends.get(name), "ISA", None)
    return f"{name} ({isa})" if isa else name


def _in_words(error: Exception) -> str:
    """Return an error as the sentence that its user reads."""
    if isinstance(error, MemoryError):
        return f"there is not enough memory. {error}".rstrip()
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}."
    # scikit-learn's messages go on with advice in further lines; those of DatasetError, an
    # OSError, list what was tried.
    text = str(error) if isinstance(error, OSError) else str(error).partition("\n")[0]
    return text or type(error).__name__
