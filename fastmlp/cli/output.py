"""Output of the commands: tables, JSON, notes and descriptions of models."""

import logging
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp import backends
from fastmlp.utils.logs import LOGGER
from fastmlp.utils.terminal import on_terminal

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from fastmlp.estimators import MLPClassifier

_WIDE = 500  # for files and pipes, whose lines are not wrapped


# ----------------------------------------------------------------------------------------- results


def print_facts(facts: Mapping[str, str]) -> None:
    """Print a table of names and values."""
    import textwrap

    from rich.cells import cell_len
    from rich.text import Text

    console = new_console()
    margin = max(map(cell_len, facts)) + 2
    for name, value in facts.items():
        lines = [value]
        if margin + cell_len(value) > console.width:  # paths are not wrapped
            lines = textwrap.wrap(
                value, max(20, console.width - margin), break_long_words=False,
                break_on_hyphens=False,
            ) or [""]  # fmt: skip
        first = Text.assemble((name + " " * (margin - cell_len(name)), "bold"), lines[0])
        console.print(first, soft_wrap=True)
        for line in lines[1:]:
            console.print(Text(" " * margin + line), soft_wrap=True)


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    names: Sequence[str] | None = None,
    pad_edge: bool = False,
) -> None:
    """Print a table; if it is too wide for the terminal, a block of lines per row.

    Parameters
    ----------
    headings : sequence of str
    rows : sequence of sequences of str
    right : sequence of int
        The right-aligned columns.
    names : sequence of str, optional
        Names of the columns in blocks, by default `headings`. Blocks omit empty cells.
    pad_edge : bool, default=False
        Begin every line with a space.
    """
    from rich.table import Table

    table = Table(*headings, box=None, pad_edge=pad_edge)
    for column in right:
        table.columns[column].justify = "right"
    for row in rows:
        table.add_row(*row)
    console = new_console()
    unlimited = console.options.update(max_width=1_000_000)
    width = console.measure(table, options=unlimited).maximum
    if width <= console.width or not on_terminal(sys.stdout):
        new_console(max(width, console.width)).print(table)
        return
    names = names or [heading.replace("\n", " ") for heading in headings]
    for i, row in enumerate(rows):
        if i:
            console.print()
        print_facts({name: cell for name, cell in zip(names, row, strict=True) if cell})


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object; see docs/command_line.md."""
    import json

    import typer

    typer.echo(json.dumps(_plain(document), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    """Convert a value for JSON: no arrays, no paths, and None for non-finite numbers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):  # NumPy arrays and numbers
        return _plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "isoformat"):  # dates; pandas' missing ones are unequal to themselves
        return value.isoformat() if value == value else None  # noqa: PLR0124
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ------------------------------------------------------------------------------------------- notes


class _NoteHandler(logging.Handler):
    """Writes notes to standard error, unless the program's logging already does."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a note."""
        streams = (sys.stderr, sys.__stderr__, sys.stdout, sys.__stdout__)
        for handler in LOGGER.handlers + logging.getLogger().handlers:
            stream = getattr(handler, "stream", None)
            if stream is not None and stream in streams and record.levelno >= handler.level:
                return
        # Not typer.echo, which bypasses a progress bar's replacement of sys.stderr.
        sys.stderr.write(f"Note: {record.getMessage()}\n")


@contextmanager
def showing_notes() -> Iterator[None]:
    """Write the notes of the commands to standard error."""
    # The lines of a training have a lower level; they go to standard output.
    handler, level = _NoteHandler(logging.WARNING), LOGGER.level
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(level)


def silence() -> None:
    """Hide notes and progress until `showing_notes` ends."""
    LOGGER.setLevel(logging.ERROR)


def note(text: str) -> None:
    """Write a note to standard error, as a record of the logger ``fastmlp``."""
    LOGGER.warning("%s", text)


def note_columns(data: str) -> None:
    """Print a note on which column of the labels is the class, if there are several."""
    from fastmlp import datasets

    n_columns = datasets.label_columns(data)
    if n_columns > 1:
        note(f"the labels of {data} have {n_columns} columns; column 0 is the class.")


def note_unknown_classes(model: Any, y: "NDArray", samples: str) -> None:
    """Print a note if samples have classes unknown to a model.

    Parameters
    ----------
    model : classifier
    y : array of shape (n_samples,)
        Labels; compared as text.
    samples : str
        Subject of the note, such as "rows have".
    """
    import numpy as np

    labels, counts = np.unique(y, return_counts=True)
    is_new = ~np.isin(labels.astype(str), np.asarray(model.classes_).astype(str))
    if is_new.any():
        shown = ", ".join(map(str, labels[is_new][:5])) + (", ..." if is_new.sum() > 5 else "")
        note(
            f"{counts[is_new].sum():,} of {len(y):,} {samples} classes that the model does not "
            f"know ({shown}): it cannot predict them correctly."
        )


@contextmanager
def noting_warnings() -> Iterator[None]:
    """Show warnings of the library as notes, each once."""
    from sklearn.exceptions import ConvergenceWarning

    texts: list[str] = []

    def show(message: Warning | str, *_: Any) -> None:
        if (text := str(message)) not in texts:
            texts.append(text)
            note(text)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)  # the summary shows it
        warnings.showwarning = show  # type: ignore[assignment]
        yield


# ------------------------------------------------------------------------------- models, and where


def network_in_words(model: Any) -> str:
    """Return the units per layer and the activation of the hidden layers, in words.

    Of an ensemble, those of the first network, and how many there are.
    """
    from fastmlp.report.analysis import networks

    found = networks(model)
    words = f"{'-'.join(map(str, units_of(found[0])))}, {found[0].activation}"
    return words + (f" ({len(found)} of them, averaged)" if len(found) > 1 else "")


def score_in_words(score: float) -> str:
    """Return a score with three decimals, or with four where three would hide the differences."""
    return f"{score:.4f}" if 0.99 <= score < 1 else f"{score:.3f}"


def units_of(model: "MLPClassifier") -> list[int]:
    """Return the units per layer, including input and output."""
    return [model.n_features_in_, *(len(intercept) for intercept in model.intercepts_)]


def backend_in_words(name: str) -> str:
    """Return the name of the backend and, if it has several, the instruction set."""
    name = backends.resolve(name)
    isa = instruction_set(name)
    return f"{name} ({isa})" if isa else name


def instruction_set(name: str) -> str | None:
    """Return the instruction set of a backend, None if it has only one."""
    return getattr(backends.get(name), "ISA", None)


def new_console(width: int | None = None) -> "Console":
    """Return a console for standard output that prints text unchanged."""
    from rich.console import Console

    terminal = on_terminal(sys.stdout)
    return Console(
        width=None if terminal else width or _WIDE,
        force_terminal=None if terminal else False,
        markup=False,
        emoji=False,
        highlight=False,
    )
