"""The command line: ``fastmlp train``, ``evaluate``, ``show``, ``confusions``, ``data`` and more.

NumPy, scikit-learn and rich are imported where they are needed, so that ``fastmlp --help`` is
fast. Results go to standard output; notes and errors, one sentence each, to standard error.
"""

import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from fastmlp import __version__, backends
from fastmlp.cli import (
    bench,
    confusions,
    data,
    evaluate,
    export,
    info,
    parity,
    predict,
    recipes,
    search,
    serve,
    show,
    show_model,
    train,
)
from fastmlp.cli.output import showing_notes
from fastmlp.cli.usage import EXIT_STATUS, USAGE_ERROR, Command, Group, exit_status
from fastmlp.utils.interrupts import STOPPING

app = typer.Typer(
    cls=Group,
    help="Multilayer perceptrons, trained by a compiled engine.",
    epilog=EXIT_STATUS,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; expected errors are printed as one sentence."""
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:  # not ignored, as by nohup
            signal.signal(number, signal.default_int_handler)
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
        sys.exit(USAGE_ERROR)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            *("--version", "-V"),
            callback=_show_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    context.with_resource(showing_notes())


def _add(command: Callable[..., None], failure: str = "") -> None:
    epilog = exit_status(failure) if failure else EXIT_STATUS
    app.command(cls=Command, epilog=epilog)(command)


# In the order of the help text.
_add(train.train)
_add(search.search)
_add(evaluate.evaluate)
_add(predict.predict)
app.command(cls=Command, epilog=serve.EXIT_STATUS)(serve.serve)
_add(export.export, failure="if the export does not predict what the model predicts")
_add(show.show)
_add(show_model.show_model)
_add(confusions.confusions)
_add(parity.parity, failure="if a difference is too large")
_add(bench.bench, failure="if losses are too far apart")
_add(info.info)
_add(recipes.recipes)
app.add_typer(data.app, name="data", help="Fetch, inspect and convert data sets.")


def _in_words(error: Exception) -> str:
    """Return the text of an error for the user."""
    if isinstance(error, MemoryError):
        return f"there is not enough memory. {error}".rstrip()
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}."
    # scikit-learn's messages go on with advice in further lines; those of DatasetError, an
    # OSError, list what was tried.
    text = str(error) if isinstance(error, OSError) else str(error).partition("\n")[0]
    return text or type(error).__name__
