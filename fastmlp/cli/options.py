"""Options and arguments that several commands have."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from fastmlp import backends


def one_of(*names: str) -> dict[str, Any]:
    """Return the options of an option that takes one of these names.

    Of a Literal, typer says "Value error, ..." where it refuses.
    """

    def parse(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"must be one of {', '.join(names)}, got {text!r}.")
        return text

    return {"parser": parse, "metavar": f"<{'|'.join(names)}>"}


data_option = partial(typer.Option, rich_help_panel="Data")
engine_option = partial(typer.Option, rich_help_panel="Engine")

DATA = data_option(
    metavar="NAME|DIR",
    help="mnist, fashion, kmnist, digits, or a directory with four IDX files, which may be "
    "torchvision's root.",
)
DataHome: TypeAlias = Annotated[
    Path | None,
    data_option(
        metavar="DIR",
        help="Where data sets are kept. Otherwise $FASTMLP_DATA, else the cache.",
    ),
]
Backend: TypeAlias = Annotated[
    str | None,
    engine_option(
        metavar="|".join(("auto", *backends.NAMES)), help="Implementation; see 'fastmlp info'."
    ),
]
Threads: TypeAlias = Annotated[
    int | None, engine_option(min=1, metavar="N", help="Threads at most; otherwise all.")
]
ModelFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model that 'fastmlp train' has saved.")
]
Part: TypeAlias = Annotated[
    str, data_option(**one_of("train", "test"), help="Which of its samples.")
]
PictureFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a picture: .png, .svg or .pdf. A file is replaced."),
]
