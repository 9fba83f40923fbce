"""``fastmlp train``: a network from the options to the saved model."""

from collections.abc import Mapping
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

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
from fastmlp.cli.train_images import train_images
from fastmlp.cli.train_output import Outputs
from fastmlp.cli.train_table import train_table
from fastmlp.core.functions import ACTIVATIONS


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


#: Said here, because the module that knows them imports NumPy.
SOLVERS = ("sgd", "adam", "adamw", "lbfgs")


def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A published system, which supplies the data set and all values that are not "
            f"given: {', '.join([*recipes.RECIPES, recipes.TABLE])}.",
            autocompletion=complete([*recipes.RECIPES, recipes.TABLE]),
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
        _network_option(**one_of(*ACTIVATIONS, help="Function of the hidden layers")),
    ] = None,
    solver: Annotated[
        str | None,
        _network_option(
            **one_of(
                *SOLVERS,
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

    For images, the recipe, sgd-50 on MNIST if none is named (pictures, for a folder of them),
    supplies every value that is not given. Its input scale is the exception: on another data set
    than its own that is 'auto'. If neither --recipe nor --data nor --data-home is given and MNIST
    cannot be had, the digits that come with scikit-learn take its place. Of a folder of pictures
    without the parts train and test a fifth is set aside.

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
    is_table = data is not None and tables.is_table(data)
    default = recipes.PICTURES if data and image_data.is_folder(data) else recipes.DEFAULT
    chosen = recipes.get(default if is_table else recipe or default)
    backends.resolve(backend or "auto")
    if (solver or chosen.parameters["solver"]) == "lbfgs":
        unused = {
            "--learning-rate": learning_rate,
            "--batch-size": batch_size,
            "--early-stopping": early_stopping or None,
            "--dropout": dropout,
            "--augment": augment or None,
        }
        _refuse(unused, "has no effect on lbfgs: leave it out, or choose another --solver.")
    layers = tuple(chain(*hidden)) if hidden else chosen.parameters["hidden_layer_sizes"]
    if dropout is not None and (hidden or not is_table) and len(dropout) not in (1, len(layers)):
        raise ValueError(
            "--dropout must be one probability, or one for each hidden layer, got "
            f"{','.join(f'{rate:g}' for rate in dropout)} for {','.join(map(str, layers))} units."
        )
    if out is None:
        out = tables.DEFAULT_FILE if is_table else Path("model.npz")
    outputs = Outputs(
        model_file=None if no_save else out,
        report=report,
        plots=plots,
        draws_test=not no_validation,
        epoch_log=None if log is None else EpochLog(log),
        as_json=as_json,
        quiet=quiet,
    )
    outputs.check()
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
    engine = {"backend": backend, "n_threads": threads}
    if data is not None and is_table:
        of_images = {
            "--recipe": None if recipe == recipes.TABLE else recipe,
            "--input-scale": input_scale,
            "--augment": augment or None,
        }
        is_for = f"is for images, but {tables.name_of(data)} is a table: leave it out."
        _refuse(of_images, is_for)
        parameters = {k: v for k, v in (given | engine).items() if v is not None}
        train_table(data, target, task, parameters, outputs)
        return
    name = data or chosen.dataset
    is_for = f"is for tables, but {name} is none: leave it out, or name a table with --data."
    _refuse({"--target": target, "--task": task}, is_for)
    train_images(
        chosen,
        data,
        data_home=data_home,
        size=size,
        given=given,
        input_scale=input_scale,
        augment=augment,
        is_default=recipe is None,
        engine=engine,
        outputs=outputs,
    )


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse options that were given, of those that have no place here."""
    for option, value in options.items():
        if value is not None:
            raise ValueError(f"{option} {why}")
