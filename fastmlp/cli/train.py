"""``fastmlp train``: a network from the options to the saved model."""

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastmlp import backends, recipes
from fastmlp.cli.options import DATA, Backend, DataHome, Threads, data_option, engine_option, one_of
from fastmlp.cli.output import (
    backend_in_words,
    network_in_words,
    new_console,
    note,
    note_columns,
    noting_warnings,
    print_facts,
)
from fastmlp.cli.pictures import check_writable, no_images, rows_and_columns, save_pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmlp.estimators import MLPClassifier
    from fastmlp.training import EpochReport

_DEFAULT_RECIPE = "sgd-50"
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_INTERRUPTION = "Training interrupted by user."  # the warning of `fastmlp.training.train`


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


def _dropout(text: str) -> tuple[float, ...]:
    """Parse the dropout of the hidden layers, such as "0.5" or "0.2,0.5"."""
    try:
        rates = tuple(map(float, text.split(",")))
    except ValueError:
        rates = ()
    if not rates or not all(0 <= rate < 1 for rate in rates):
        raise typer.BadParameter(
            f"must be a probability below 1, or one per hidden layer such as 0.2,0.5, got {text!r}."
        )
    return rates


_network_option = partial(typer.Option, rich_help_panel="Network and training")
_output_option = partial(typer.Option, rich_help_panel="Output")


def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A published system, which supplies the data set and all values that are not "
            f"given: {', '.join(recipes.RECIPES)}.",
        ),
    ] = None,
    data: Annotated[str | None, DATA] = None,
    data_home: DataHome = None,
    input_scale: Annotated[
        Any,
        data_option(
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
            **one_of("identity", "logistic", "tanh", "relu"), help="Function of the hidden layers."
        ),
    ] = None,
    solver: Annotated[
        str | None,
        _network_option(
            **one_of("sgd", "adam", "lbfgs"),
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
    dropout: Annotated[
        Any,
        _network_option(
            parser=_dropout,
            metavar="P[,P...]",
            help="Probability that a hidden unit is left out; one for all layers, or one each.",
        ),
    ] = None,
    augment: Annotated[
        bool,
        _network_option(
            "--augment",
            help="Turn, shift, zoom and shear the images a little, anew in every epoch. Some "
            "recipes then change other values, too.",
        ),
    ] = False,
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
        engine_option(**one_of("float32", "float64"), help="Precision; float32 is faster."),
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
    from fastmlp import datasets, hints, persistence
    from fastmlp.estimators import MLPClassifier
    from fastmlp.threads import usable_threads

    chosen = recipes.get(recipe or _DEFAULT_RECIPE)
    backend_name = backends.resolve(backend or "auto")
    if (solver or chosen.parameters["solver"]) == "lbfgs":
        unused = {
            "--learning-rate": learning_rate is not None,
            "--batch-size": batch_size is not None,
            "--early-stopping": early_stopping,
            "--dropout": dropout is not None,
            "--augment": augment,
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
        note(f"{name} cannot be had ('fastmlp data fetch {name}' says why); using the digits.")
        name = "digits"
        (X, y), (X_test, y_test) = datasets.load(name)
    note_columns(name)

    shape = rows_and_columns(name)
    if (augment or chosen.is_augmented) and shape is None:
        raise ValueError(
            f"{name} must hold images to be augmented, got a file without rows and columns: leave "
            "--augment out, or choose another recipe."
        )
    is_square = shape is None or shape[0] == shape[1]
    own = chosen.estimator_parameters(augment, None if is_square else shape)
    parameters = dict(own)
    if solver not in (None, parameters["solver"]):
        # A good rate for SGD is far too high for Adam. What the solver does not heed is left out.
        for parameter in ("learning_rate_init", "lr_schedule", *hints.WITHOUT_EFFECT[solver]):
            parameters.pop(parameter, None)
    if learning_rate is not None:
        parameters.pop("lr_schedule", None)
    given = {
        "hidden_layer_sizes": tuple(chain(*hidden)) if hidden else None,
        "activation": activation,
        "solver": solver,
        "learning_rate_init": learning_rate,
        "alpha": alpha,
        "batch_size": batch_size,
        "max_iter": epochs,
        "dropout": dropout[0] if dropout is not None and len(dropout) == 1 else dropout,
        "early_stopping": early_stopping or None,
        "random_state": seed,
        "dtype": dtype,
    }
    parameters |= {key: value for key, value in given.items() if value is not None}
    parameters["input_scale"] = _input_scale(input_scale, chosen, name, X)
    model = MLPClassifier(**parameters, backend=backend or "auto", n_threads=threads)

    (X, y), validation = chosen.split(X, y, parameters["random_state"])
    X_val, y_val = validation or (None, None)
    aside = f", {len(X_val)} validation samples" if X_val is not None else ""
    if augment and chosen.augmented:
        changed = (key for key in chosen.augmented if given.get(key) is None)
        note(f"with --augment, {chosen.name} has values of its own: {', '.join(changed)}.")
    typer.echo(f"{name}: {len(X)} training samples{aside}, {len(X_test)} test samples")
    if backend is None and backend_name != (first := backends.NAMES[0]):
        note(f"the {first} backend is not available: {backends.unavailable()[first]}.")
    with noting_warnings() as notes, _epoch_display(model.max_iter) as on_epoch:
        started = time.perf_counter()
        try:
            model._fit(
                X,
                y,
                validation=(X_val, y_val, None),
                on_epoch=on_epoch,
                reports_training_score=validation is not None,
            )
        except KeyboardInterrupt:  # not while training, which keeps what it has
            notes.append(_INTERRUPTION)
        seconds = time.perf_counter() - started
    interrupted = _INTERRUPTION in notes
    if interrupted and not getattr(model, "n_iter_", 0):
        note("no epoch was finished, so nothing is saved.")
        raise typer.Exit(_INTERRUPTED)
    if not no_save:  # before anything else, so that another Ctrl-C cannot come between
        persistence.save(model, out)

    parts = {"train": (X, y), "validation": validation, "test": (X_test, y_test)}
    scores = {part: f"{model.score(*xy):.3f}" for part, xy in parts.items() if xy is not None}
    if name == chosen.dataset and parameters == own and not augment and not interrupted:
        figures = {"train": chosen.train_score}
        figures["test" if validation is None else "validation"] = chosen.published
        for part, figure in figures.items():
            scores[part] += "" if figure is None else f" (published: {figure:.3f})"
    typer.echo()
    drawn = [] if plots is None else _draw_training(model, name, (X_test, y_test), plots)
    unsettled = ", the loss had not settled" if model.n_iter_ == model.max_iter else ""
    print_facts(
        {
            "data set": name,
            "network": network_in_words(model),
            "solver": _solver_in_words(model),
            **_noise_in_words(model),
            "backend": backend_in_words(backend_name),
            "threads": str(threads or usable_threads()),
            "dtype": str(model.coefs_[0].dtype),
            "epochs": f"{model.n_iter_} of {model.max_iter}{unsettled}",
            "final loss": f"{model.loss_:.8f}",
            **{f"{part} score": score for part, score in scores.items()},
            "training time": f"{seconds:.2f} s, {len(X) * model.n_iter_ / seconds:,.0f} samples/s",
            "model file": "not saved" if no_save else str(out),
            **({"pictures": ", ".join(map(str, drawn))} if drawn else {}),
        }
    )
    if interrupted:
        raise typer.Exit(_INTERRUPTED)


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
    check_writable(out.resolve().parent, out)
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
    check_writable(existing, folder)


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
    shape = rows_and_columns(data)
    if shape is None:
        note(f"no weights.png and mistakes.png: {no_images(data)}")
    else:
        drawings |= {
            "weights": partial(WeightsDisplay.from_estimator, model, shape=shape),
            "mistakes": partial(MistakesDisplay.from_estimator, model, *test_part, shape=shape),
        }
    folder.mkdir(parents=True, exist_ok=True)
    return save_pictures({folder / f"{name}.png": draw for name, draw in drawings.items()})


@contextmanager
def _epoch_display(max_iter: int) -> Iterator[Callable[["EpochReport"], None]]:
    """Show a line per epoch and, on a terminal, a progress bar below the lines."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    console = new_console()
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
            if report.training_score is not None:
                line += f", score = {report.training_score:.4f}"
            if report.validation_loss is not None:
                line += f", validation loss = {report.validation_loss:.8f}"
                line += f", validation score = {report.validation_score:.4f}"
            console.print(line)
            speed = f"{report.n_samples / report.seconds:,.0f} samples/s"
            # Not rich's own estimate, which forgets what is longer ago than half a minute.
            left = timedelta(seconds=round(seconds / report.epoch * (max_iter - report.epoch)))
            status = f"loss {report.loss:.4f}  {speed}  {left} left"
            progress.update(task, completed=report.epoch, description=status)

        yield show


def _noise_in_words(model: "MLPClassifier") -> dict[str, str]:
    """Return what made epochs differ, if anything did."""
    dropout: Any = model.dropout
    rates = dropout if isinstance(dropout, tuple) else (dropout,)
    words = {"dropout": ", ".join(f"{rate:g}" for rate in rates)} if any(rates) else {}
    if model.augment is not None:
        steps = getattr(model.augment, "steps", [model.augment])
        words["augmentation"] = ", ".join(type(step).__name__ for step in steps)
    return words


def _solver_in_words(model: "MLPClassifier") -> str:
    if model.solver == "lbfgs":
        return model.solver
    if model.lr_schedule is None:
        return f"{model.solver}, learning rate {model.learning_rate_init:g}"
    rates = model.history_["learning_rate"]
    return f"{model.solver}, learning rate {rates[0]:g} to {rates[-1]:g}"
