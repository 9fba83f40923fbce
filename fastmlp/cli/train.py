"""``fastmlp train``: train, score and save a model."""

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
    Target,
    Task,
    Threads,
    complete,
    data_option,
    dropout_rates,
    engine_option,
    hidden_units,
    number,
    one_of,
    script_option,
    whole,
)
from fastmlp.cli.train_images import train_images
from fastmlp.cli.train_output import Outputs
from fastmlp.cli.train_table import train_table
from fastmlp.core.functions import ACTIVATIONS
from fastmlp.utils import memory


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


def _amount(text: str) -> str:
    """Check an amount of memory."""
    try:
        memory.as_bytes(text)
    except ValueError:
        rule = "must be an amount of memory such as 500M or 4G"
        raise typer.BadParameter(f"{rule}, got {text!r}.") from None
    return text


_network_option = partial(typer.Option, rich_help_panel="Network and training")
_output_option = partial(typer.Option, rich_help_panel="Output")


#: Repeated here, because the module that defines them imports NumPy.
SOLVERS = ("sgd", "adam", "adamw", "lbfgs")


def train(
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A published model, which provides the data set and all values that are not "
            f"given: {', '.join([*recipes.RECIPES, recipes.TABLE])}.",
            autocompletion=complete([*recipes.RECIPES, recipes.TABLE]),
        ),
    ] = None,
    data: Annotated[str | None, DATA] = None,
    target: Target = None,
    task: Task = None,
    data_home: DataHome = None,
    size: Size = None,
    input_scale: Annotated[
        Any,
        data_option(
            parser=_scale,
            metavar="X",
            help="Factor for the features, such as 1/255, or auto (scales the largest value to "
            "1), standard (mean 0 and variance 1 per feature) or none.",
        ),
    ] = None,
    hidden: Annotated[
        list[Any] | None,
        _network_option(
            parser=hidden_units,
            metavar="N[,N...]",
            help="Units of the hidden layers, such as 50 or 100,50,25.",
        ),
    ] = None,
    activation: Annotated[
        str | None,
        _network_option(**one_of(*ACTIVATIONS, help="Activation of the hidden layers")),
    ] = None,
    solver: Annotated[
        str | None,
        _network_option(
            **one_of(
                *SOLVERS,
                help="Optimiser",
                more="If it is not the recipe's, the default learning rate is 0.001.",
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
    weight_decay: Annotated[
        float | None,
        _network_option(
            **number("of at least 0", lambda x: x >= 0), help="Weight decay of --solver adamw."
        ),
    ] = None,
    max_grad_norm: Annotated[
        float | None,
        _network_option(
            **number("above 0", lambda x: x > 0),
            help="Maximum norm of a batch's gradient; larger ones are scaled down.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, _network_option(**whole(1), help="Samples per update.")
    ] = None,
    epochs: Annotated[
        int | None, _network_option(**whole(1), help="Maximum number of epochs.")
    ] = None,
    dropout: Annotated[
        Any,
        _network_option(
            parser=dropout_rates,
            metavar="P[,P...]",
            help="Probability of dropping a hidden unit; one for all layers, or one per layer.",
        ),
    ] = None,
    augment: Annotated[
        bool,
        _network_option(
            "--augment",
            help="Randomly rotate, shift, zoom and shear the images, differently in each epoch. "
            "Some recipes then change other values, too.",
        ),
    ] = False,
    early_stopping: Annotated[
        bool,
        _network_option(
            "--early-stopping",
            help="Hold out a tenth of the training data, and stop when the score on it no longer "
            "improves.",
        ),
    ] = False,
    seed: Annotated[
        int | None,
        _network_option(
            **whole(0, 2**32 - 1),
            help="Seed of the initial weights and the order of the samples.",
        ),
    ] = None,
    max_memory: Annotated[
        Any,
        data_option(
            parser=_amount,
            metavar="SIZE",
            help="Memory for this process, such as 500M or 4G: Parquet and IDX files that take "
            "too much of it as a whole are read in parts.",
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
            help="Where to save the model. Default: model.npz, or model.skops for tables. An "
            "existing model is replaced, any other file is not.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        _output_option(
            metavar="FILE",
            help="Write the state of training to this file once a minute. After Ctrl-C or a kill, "
            "the same command goes on from it, with the same result, bit for bit.",
        ),
    ] = None,
    no_save: Annotated[bool, _output_option("--no-save", help="Do not save the model.")] = False,
    plots: Annotated[
        Path | None,
        _output_option(
            metavar="DIR",
            help="Draw weights.png, loss_curve.png and, for the test samples, confusion.png and "
            "mistakes.png. Existing files are replaced.",
        ),
    ] = None,
    no_validation: Annotated[
        bool,
        _output_option(
            "--no-validation",
            help="Do not score the test samples after every epoch for the curves of --plots and "
            "--report. Has no effect on the weights.",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        _output_option(
            metavar="FILE",
            help="Write an HTML page about the model and its mistakes on the test data.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    log: Annotated[
        Path | None,
        script_option(
            metavar="FILE",
            help="Append a line to this file after each epoch: .jsonl or .csv.",
        ),
    ] = None,
) -> None:
    """Train a network, show its progress, score it, and save it.

    For a table (CSV, Parquet, Feather, JSON lines, .npz or .npy; - is standard input), the columns
    are described, a fifth of the rows is held out, and a pipeline is trained on the others. With
    --max-memory, a Parquet file or a folder of them may be larger than memory: a sample of the rows
    determines how columns are encoded, and a fifth of it is held out.

    For images, values that are not given are those of the recipe: by default sgd-50 on MNIST, or
    pictures for a folder of images. Except for the input scale, which is 'auto' on another data
    set than the recipe's. If none of --recipe, --data and --data-home is given and MNIST is not
    available, scikit-learn's digits are used. From a folder of images without train and test
    parts, a fifth is held out.

    Ctrl-C, as well as SIGTERM and SIGHUP, stops training: the model is scored and saved as it is,
    and the exit status is 130.

    For example:

        fastmlp train
        fastmlp train --data houses.csv --target price
        fastmlp train --data photos --report report.html
        fastmlp train --data digits --hidden 100,50 --epochs 50
        fastmlp train --data fashion --solver adam
        fastmlp train --data digits --plots . --log run.csv
        fastmlp train --recipe best --checkpoint best.ckpt
        fastmlp train --data huge.parquet --max-memory 2G
    """
    is_table = data is not None and tables.is_table(data)
    is_folder = data is not None and not is_table and image_data.is_folder(data)
    default = recipes.PICTURES if is_folder else recipes.DEFAULT
    chosen = recipes.get(default if is_table else recipe or default)
    backends.resolve(backend or "auto")
    optimizer = solver or chosen.parameters["solver"]
    if optimizer != "adamw":
        _refuse({"--weight-decay": weight_decay}, "is for --solver adamw: add it, or use --alpha.")
    if optimizer == "lbfgs":
        unused = {
            "--max-grad-norm": max_grad_norm,
            "--learning-rate": learning_rate,
            "--batch-size": batch_size,
            "--early-stopping": early_stopping or None,
            "--dropout": dropout,
            "--augment": augment or None,
        }
        _refuse(unused, "has no effect on lbfgs: omit it, or choose another --solver.")
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
        checkpoint=checkpoint,
    )
    outputs.check()
    given = {
        "hidden_layer_sizes": layers if hidden else None,
        "activation": activation,
        "solver": solver,
        "learning_rate_init": learning_rate,
        "alpha": alpha,
        "weight_decay": weight_decay,
        "max_grad_norm": max_grad_norm,
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
        is_for = f"is for images, but {tables.name_of(data)} is a table: omit it."
        _refuse(of_images, is_for)
        parameters = {k: v for k, v in (given | engine).items() if v is not None}
        train_table(data, target, task, parameters, outputs, max_memory)
        return
    name = data or chosen.dataset
    is_for = f"is for tables, but {name} is not one: omit it, or give a table with --data."
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
        max_memory=max_memory,
    )


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse given options that do not apply."""
    for option, value in options.items():
        if value is not None:
            raise ValueError(f"{option} {why}")
