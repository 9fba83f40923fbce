"""``fastmlp train``: a network from the options to the saved model."""

import errno
import os
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastmlp import backends, recipes
from fastmlp.cli import image_data, tables
from fastmlp.cli.epoch_log import EpochLog
from fastmlp.cli.options import (
    DATA,
    Backend,
    DataHome,
    Json,
    Quiet,
    Size,
    Threads,
    complete,
    data_option,
    engine_option,
    number,
    one_of,
    script_option,
    whole,
)
from fastmlp.cli.output import (
    backend_in_words,
    instruction_set,
    network_in_words,
    note,
    noting_warnings,
    print_facts,
    print_json,
    units_of,
)
from fastmlp.cli.pictures import check_writable, no_images, save_pictures
from fastmlp.cli.progress import EpochDisplay
from fastmlp.cli.train_table import INTERRUPTED, INTERRUPTION, train_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmlp.estimators import MLPClassifier

_DEFAULT_RECIPE = "sgd-50"


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
            autocompletion=complete(recipes.RECIPES),
        ),
    ] = None,
    data: Annotated[str | None, DATA] = None,
    target: Annotated[
        str | None,
        data_option(
            metavar="COLUMN",
            help="The column of a table that is to be predicted; otherwise one called target, "
            "label, class or y, or the last.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        data_option(
            **one_of(
                *("classification", "regression"),
                help="What is predicted from a table",
                more="Otherwise as the target's values suggest.",
            )
        ),
    ] = None,
    data_home: DataHome = None,
    size: Size = None,
    input_scale: Annotated[
        Any,
        data_option(
            parser=_scale,
            metavar="X",
            help="Factor of the features, such as 1/255, or a word: auto makes the largest value "
            "1, standard gives every feature mean 0 and variance 1, none changes nothing.",
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
            **one_of(
                *("identity", "logistic", "tanh", "relu"), help="Function of the hidden layers"
            )
        ),
    ] = None,
    solver: Annotated[
        str | None,
        _network_option(
            **one_of(
                *("sgd", "adam", "lbfgs"),
                help="Optimiser",
                more="If it is not the recipe's, neither is the learning rate: 0.001.",
            )
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        _network_option(**number("above 0", lambda x: x > 0), help="Initial learning rate."),
    ] = None,
    alpha: Annotated[
        float | None,
        _network_option(
            **number("of at least 0", lambda x: x >= 0), help="Strength of the L2 penalty."
        ),
    ] = None,
    batch_size: Annotated[
        int | None, _network_option(**whole(1), help="Samples per update.")
    ] = None,
    epochs: Annotated[int | None, _network_option(**whole(1), help="Epochs at most.")] = None,
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
            **whole(0, 2**32 - 1),
            help="Determines the initial weights and the order of the samples.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        engine_option(**one_of("float32", "float64", help="Precision", more="float32 is faster.")),
    ] = None,
    backend: Backend = None,
    threads: Threads = None,
    out: Annotated[
        Path | None,
        _output_option(
            metavar="FILE",
            help="Where to save the model: model.npz, or model.skops for tables, if it is not "
            "given. A model of that name is replaced, any other file is not.",
        ),
    ] = None,
    no_save: Annotated[bool, _output_option("--no-save", help="Do not save the model.")] = False,
    plots: Annotated[
        Path | None,
        _output_option(
            metavar="DIR",
            help="Draw weights.png, loss_curve.png and, of the test samples, confusion.png and "
            "mistakes.png. Files of these names are replaced.",
        ),
    ] = None,
    no_validation: Annotated[
        bool,
        _output_option(
            "--no-validation",
            help="Do not score the test samples after every epoch, as --plots and --report do for "
            "their curves. No weight depends on it.",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        _output_option(
            metavar="FILE",
            help="Write a page, .html, on the model and its mistakes on the rows or images that "
            "it was not trained on.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log: Annotated[
        Path | None,
        script_option(
            metavar="FILE",
            help="Write a line per epoch, as it happens, at the end of this file: .jsonl or .csv.",
        ),
    ] = None,
) -> None:
    """Train a network, watch it learn, score it, and save it.

    A table (CSV, Parquet, Feather, JSON lines, .npz or .npy; - is standard input) is described,
    a fifth of its rows is set aside, and a pipeline is trained on the others.

    For images, the recipe, sgd-50 on MNIST if none is named, supplies every value that is not
    given. Its input scale is the exception: on another data set than its own that is 'auto'. If
    neither --recipe nor --data nor --data-home is given and MNIST cannot be had, the digits that
    come with scikit-learn take its place. Of a folder of pictures without the parts train and test
    a fifth is set aside.

    Ctrl-C ends the training: what has been learned is scored and saved, and the exit status is
    130.

    For example:

        fastmlp train
        fastmlp train --data houses.csv --target price
        fastmlp train --data photos --report report.html
        fastmlp train --data digits --hidden 100,50 --epochs 50
        fastmlp train --data fashion --solver adam
        fastmlp train --data digits --plots . --log run.csv
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
    is_table = data is not None and tables.is_table(data)
    layers = tuple(chain(*hidden)) if hidden else chosen.parameters["hidden_layer_sizes"]
    if dropout is not None and (hidden or not is_table) and len(dropout) not in (1, len(layers)):
        raise ValueError(
            "--dropout must be one probability, or one for each hidden layer, got "
            f"{','.join(f'{rate:g}' for rate in dropout)} for {','.join(map(str, layers))} units."
        )
    epoch_log = None if log is None else EpochLog(log)
    if out is None:
        out = tables.DEFAULT_FILE if is_table else Path("model.npz")
    if not no_save:
        _check_destination(out)
    if plots is not None:
        _check_plots(plots)
    if report is not None:
        _check_report(report)
    given = {
        "hidden_layer_sizes": layers if hidden else None,
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
    if data is not None and is_table:
        for option, value in {
            "--recipe": recipe, "--input-scale": input_scale, "--augment": augment or None
        }.items():  # fmt: skip
            if value is not None:
                raise ValueError(
                    f"{option} is for images, but {tables.name_of(data)} is a table: leave it out."
                )
        engine = {"backend": backend, "n_threads": threads}
        train_table(
            data,
            target=target,
            task=task,
            parameters={k: v for k, v in (given | engine).items() if v is not None},
            out=None if no_save else out,
            report=report,
            plots=plots,
            draws_test=not no_validation,
            epoch_log=epoch_log,
            as_json=as_json,
            quiet=quiet,
        )
        return
    for option, value in {"--target": target, "--task": task}.items():
        if value is not None:
            raise ValueError(
                f"{option} is for tables, but {data or chosen.dataset} is none: leave it out, or "
                "name a table with --data."
            )

    name = data or chosen.dataset
    try:
        loaded = image_data.load(name, data_home, size)
    except datasets.DatasetError as error:
        if data or data_home or recipe or isinstance(error, datasets.SpoiledFileError):
            raise
        note(f"{name} cannot be had ('fastmlp data fetch {name}' says why); using the digits.")
        name = "digits"
        loaded = image_data.load(name)
    (X, y), (X_test, y_test), shape = loaded.train, loaded.test, loaded.shape
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
    parameters |= {key: value for key, value in given.items() if value is not None}
    parameters["input_scale"] = _input_scale(input_scale, chosen, name, X)
    model = MLPClassifier(**parameters, backend=backend or "auto", n_threads=threads)

    (X, y), validation = chosen.split(X, y, parameters["random_state"])
    X_val, y_val = validation or (None, None)
    wants_curve = (plots is not None or report is not None) and not no_validation
    draws_test = wants_curve and validation is None and not model.early_stopping
    draws_test &= set(y_test.tolist()) <= set(y.tolist())
    val_name = "test" if draws_test else "validation"
    if draws_test:  # to be drawn only; early stopping would choose by it
        X_val, y_val = X_test, y_test
    aside = f", {len(validation[0])} validation samples" if validation is not None else ""
    if augment and chosen.augmented:
        changed = (key for key in chosen.augmented if given.get(key) is None)
        note(f"with --augment, {chosen.name} has values of its own: {', '.join(changed)}.")
    if not as_json:
        typer.echo(f"{name}: {len(X)} training samples{aside}, {len(X_test)} test samples")
    if backend is None and backend_name != (first := backends.NAMES[0]):
        note(f"the {first} backend is not available: {backends.unavailable()[first]}.")
    with (
        noting_warnings() as notes,
        EpochDisplay(
            model.max_iter, not (quiet or as_json), log=epoch_log, val_name=val_name
        ) as display,
    ):
        display.begins(len(X))
        started = time.perf_counter()
        try:
            model._fit(
                X,
                y,
                validation=(X_val, y_val, None),
                on_epoch=display.on_epoch,
                on_samples=display.on_samples,
                reports_training_score=validation is not None,
            )
        except KeyboardInterrupt:  # not while training, which keeps what it has
            notes.append(INTERRUPTION)
        seconds = time.perf_counter() - started
    interrupted = INTERRUPTION in notes
    if interrupted and not getattr(model, "n_iter_", 0):
        note("no epoch was finished, so nothing is saved.")
        raise typer.Exit(INTERRUPTED)
    if not no_save:  # before anything else, so that another Ctrl-C cannot come between
        persistence.save(model, out, metadata=image_data.metadata(name, loaded))

    parts = {"train": (X, y), "validation": validation, "test": (X_test, y_test)}
    accuracies = {part: None if xy is None else model.score(*xy) for part, xy in parts.items()}
    scores = {part: f"{score:.3f}" for part, score in accuracies.items() if score is not None}
    published = {}
    if name == chosen.dataset and parameters == own and not augment and not interrupted:
        figures = {"train": chosen.train_score}
        figures["test" if validation is None else "validation"] = chosen.published
        published = {part: figure for part, figure in figures.items() if figure is not None}
        for part, figure in published.items():
            scores[part] += f" (published: {figure:.3f})"
    drawn = [] if plots is None else _draw_training(model, name, loaded, plots, val_name)
    if report is not None:
        from fastmlp.report import write_report

        write_report(
            report,
            model,
            X_test,
            y_test,
            X_train=X,
            y_train=y,
            image_shape=shape,
            title=f"{name}, {'-'.join(map(str, units_of(model)))}",
            data_about={"data set": name},
            val_name=val_name,
        )
    if as_json:
        rates = None if model.solver == "lbfgs" else model.history_["learning_rate"]
        print_json(
            {
                "data set": name,
                "recipe": chosen.name,
                "training samples": len(X),
                "validation samples": 0 if validation is None else len(validation[0]),
                "test samples": len(X_test),
                "network": units_of(model),
                "activation": model.activation,
                "solver": model.solver,
                "learning rate": None if rates is None else rates[0],
                "final learning rate": None if rates is None else rates[-1],
                "dropout": _dropout_rates(model),
                "augmentation": _augmentations(model),
                "backend": backend_name,
                "instruction set": instruction_set(backend_name),
                "threads": threads or usable_threads(),
                "dtype": str(model.coefs_[0].dtype),
                "epochs": model.n_iter_,
                "epochs at most": model.max_iter,
                "interrupted": interrupted,
                "final loss": model.loss_,
                **{f"{part} score": score for part, score in accuracies.items()},
                "published scores": published,
                "training time": seconds,
                "samples per second": len(X) * model.n_iter_ / seconds,
                "model file": None if no_save else out,
                "report": report,
                "pictures": drawn,
            }
        )
        raise typer.Exit(INTERRUPTED if interrupted else 0)
    typer.echo()
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
            **({} if report is None else {"report": str(report)}),
            **({"pictures": ", ".join(map(str, drawn))} if drawn else {}),
        }
    )
    if interrupted:
        raise typer.Exit(INTERRUPTED)


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


def _check_report(path: Path) -> None:
    """Refuse a file for the page before anything is trained."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--report must end in .html, got {path}.")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--report must be a file in a directory that exists, got {path}.")
    check_writable(path.resolve().parent, path)


def _draw_training(
    model: "MLPClassifier",
    data: str,
    loaded: image_data.ImageData,
    folder: Path,
    val_name: str,
) -> list[Path]:
    """Draw what was learned, how, and what is still wrong; return what was written."""
    from fastmlp.displays import (
        ConfusionDisplay,
        LossCurveDisplay,
        MistakesDisplay,
        WeightsDisplay,
    )

    drawings: dict[str, Callable[..., Any]] = {
        "loss_curve": partial(LossCurveDisplay.from_estimator, model, val_name=val_name),
        "confusion": partial(ConfusionDisplay.from_estimator, model, *loaded.test),
    }
    shape = loaded.shape
    if shape is None:
        note(f"no weights.png and mistakes.png: {no_images(data)}")
    else:
        drawings |= {
            "weights": partial(WeightsDisplay.from_estimator, model, shape=shape),
            "mistakes": partial(MistakesDisplay.from_estimator, model, *loaded.test, shape=shape),
        }
    folder.mkdir(parents=True, exist_ok=True)
    return save_pictures({folder / f"{name}.png": draw for name, draw in drawings.items()})


def _noise_in_words(model: "MLPClassifier") -> dict[str, str]:
    """Return what made epochs differ, if anything did."""
    rates, steps = _dropout_rates(model), _augmentations(model)
    words = {"dropout": ", ".join(f"{rate:g}" for rate in rates)} if any(rates) else {}
    if steps:
        words["augmentation"] = ", ".join(steps)
    return words


def _dropout_rates(model: "MLPClassifier") -> list[float]:
    """Return the dropout of the hidden layers: one for all, or one each."""
    dropout: Any = model.dropout
    return list(dropout) if isinstance(dropout, tuple) else [dropout]


def _augmentations(model: "MLPClassifier") -> list[str]:
    """Return what is done to the images of every epoch."""
    if model.augment is None:
        return []
    steps = getattr(model.augment, "steps", [model.augment])
    return [type(step).__name__ for step in steps]


def _solver_in_words(model: "MLPClassifier") -> str:
    if model.solver == "lbfgs":
        return model.solver
    if model.lr_schedule is None:
        return f"{model.solver}, learning rate {model.learning_rate_init:g}"
    rates = model.history_["learning_rate"]
    return f"{model.solver}, learning rate {rates[0]:g} to {rates[-1]:g}"
