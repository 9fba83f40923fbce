"""Options and arguments shared by several commands, and the parsing of their values."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from fastmlp import backends
from fastmlp.cli.output import silence
from fastmlp.utils.suggestions import did_you_mean

data_option = partial(typer.Option, rich_help_panel="Data")
engine_option = partial(typer.Option, rich_help_panel="Engine")
script_option = partial(typer.Option, rich_help_panel="For scripts")


def one_of(*names: str, help: str, more: str = "") -> dict[str, Any]:
    """Return the arguments of an option with these choices, which its help lists.

    Not a Literal, because typer's errors would begin with "Value error, ...".
    """

    def parse(text: str) -> str:
        if text not in names:
            choices = ", ".join(names)
            end = did_you_mean(text, names)
            raise typer.BadParameter(f"must be one of {choices}, got {text!r}{end}")
        return text

    text = f"{help}: {', '.join(names[:-1])} or {names[-1]}. {more}".rstrip()
    return {"parser": parse, "metavar": "NAME", "help": text, "autocompletion": complete(names)}


def whole(least: int, most: int | None = None) -> dict[str, Any]:
    """Return the arguments of an option with an integer value."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            rule = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise typer.BadParameter(f"must be an integer {rule}, got {text!r}.")
        return value

    return {"parser": parse, "metavar": "N"}


def number(rule: str, accepts: Callable[[float], bool]) -> dict[str, Any]:
    """Return the arguments of an option with a finite number as its value, checked by a rule."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (abs(value) < float("inf") and accepts(value)):
            raise typer.BadParameter(f"must be a number {rule}, got {text!r}.")
        return value

    return {"parser": parse, "metavar": "X"}


def _size(text: str) -> tuple[int, int]:
    """Parse height and width, such as "28x28"."""
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise typer.BadParameter(f"must be height and width such as 28x28, got {text!r}.")
    return int(sides[0]), int(sides[1])


def hidden_units(text: str) -> tuple[int, ...]:
    """Parse the units of the hidden layers, such as "100,50"."""
    units = text.split(",")
    if not all(part.isdecimal() and int(part) for part in units):
        raise typer.BadParameter(f"must be units per layer such as 50 or 100,50, got {text!r}.")
    return tuple(map(int, units))


def dropout_rates(text: str) -> tuple[float, ...]:
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


def complete(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the completion function for these names."""

    def names_like(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return names_like


def _silence_if(quiet: bool) -> bool:
    if quiet:
        silence()
    return quiet


#: Names of data sets, for shell completion.
DATA_NAMES = ("mnist", "fashion", "kmnist", "digits")

DATA = data_option(
    metavar="NAME|PATH",
    help="mnist, fashion, kmnist, digits; a directory with one folder of images per label, or with "
    "four IDX files (or torchvision's root); a file with a table.",
    autocompletion=complete(DATA_NAMES),
)
Target: TypeAlias = Annotated[
    str | None,
    data_option(
        metavar="COLUMN",
        help="Target column of a table. Default: the one named target, label, class or y, "
        "otherwise the last.",
    ),
]
Task: TypeAlias = Annotated[
    str | None,
    data_option(
        **one_of(
            *("classification", "regression"),
            help="Task for a table",
            more="Default: inferred from the target.",
        )
    ),
]
DataHome: TypeAlias = Annotated[
    Path | None,
    data_option(
        metavar="DIR",
        help="Directory of the data sets. Default: $FASTMLP_DATA, otherwise the cache.",
    ),
]
Size: TypeAlias = Annotated[
    Any,
    data_option(parser=_size, metavar="HxW", help="Resize images to this height and width."),
]
Backend: TypeAlias = Annotated[
    str | None,
    engine_option(
        metavar="NAME",
        help=f"Implementation: {', '.join(('auto', *backends.NAMES))}; see 'fastmlp info'.",
        autocompletion=complete(("auto", *backends.NAMES)),
    ),
]
Copies: TypeAlias = Annotated[
    int,
    typer.Option(
        **whole(0),
        help="Average the predictions for this many augmented copies of each image, augmented half "
        "as strongly as in training: slower and often better. Only for networks that were "
        "trained on augmented images; 0 for the image itself.",
    ),
]
Threads: TypeAlias = Annotated[
    int | None, engine_option(**whole(1), help="Maximum number of threads. Default: all CPUs.")
]
ModelFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model saved by 'fastmlp train'.")
]
Part: TypeAlias = Annotated[
    str, data_option(**one_of("train", "test", help="Part of the data set"))
]
PictureFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write an image: .png, .svg or .pdf. An existing file is replaced."
    ),
]
Json: TypeAlias = Annotated[
    bool,
    script_option("--json", help="Print one JSON object; docs/command_line.md lists its keys."),
]
Quiet: TypeAlias = Annotated[
    bool,
    script_option(
        "--quiet", "-q", callback=_silence_if, help="Print results only, no progress and no notes."
    ),
]
