"""What commands print, and how: facts, notes, and models in words."""

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastmlp import backends

if TYPE_CHECKING:
    from rich.console import Console

    from fastmlp.estimators import MLPClassifier


def print_facts(facts: Mapping[str, str]) -> None:
    """Print a table of names and values."""
    from rich.text import Text

    console = new_console()
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        console.print(Text.assemble((name.ljust(width), "bold"), value), soft_wrap=True)


def network_in_words(model: "MLPClassifier") -> str:
    """Return the units of every layer and the activation of the hidden ones."""
    units = [model.n_features_in_, *(len(intercept) for intercept in model.intercepts_)]
    return f"{'-'.join(map(str, units))}, {model.activation}"


def backend_in_words(name: str) -> str:
    """Return the backend's name and, if it has some to choose from, the instruction set."""
    name = backends.resolve(name)
    isa = getattr(backends.get(name), "ISA", None)
    return f"{name} ({isa})" if isa else name


@contextmanager
def noting_warnings() -> Iterator[list[str]]:
    """Show the library's warnings as notes; what they said is collected in the list."""
    from sklearn.exceptions import ConvergenceWarning

    texts: list[str] = []

    def show(message: Warning | str, *_: Any) -> None:
        texts.append(str(message))
        note(texts[-1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)  # the summary says it
        warnings.showwarning = show  # type: ignore[assignment]
        yield texts


def note_columns(data: str) -> None:
    """Say which column of a data set's labels is the class, if there are several."""
    from fastmlp import datasets

    n_columns = datasets.label_columns(data)
    if n_columns > 1:
        note(f"the labels of {data} have {n_columns} columns; column 0 is the class.")


def note(text: str) -> None:
    """Write a sentence to standard error."""
    # Not typer.echo, which looks behind what a progress bar has put in the place of sys.stderr.
    sys.stderr.write(f"Note: {text}\n")


def new_console() -> "Console":
    """Return a console for standard output that prints text as it is."""
    from rich.console import Console

    # In a file or a pipe there is no edge of a screen to break lines at.
    width = None if sys.stdout.isatty() else 500
    return Console(width=width, markup=False, emoji=False, highlight=False)
