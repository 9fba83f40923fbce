"""The progress of ``fastmlp search``: a live table of the best candidates, on a terminal."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from fastmlp.cli.output import new_console
from fastmlp.training import EpochReport, Fit, Observer
from fastmlp.utils.terminal import shows_progress

if TYPE_CHECKING:
    from fastmlp.model_selection.standings import Standings

_MOST_ROWS = 10


class SearchDisplay(Observer):
    """Shows the standings of a search, while it runs.

    A context manager, and an observer of the fits in it.

    Parameters
    ----------
    standings : Standings
    table : callable
        Returns the headings and rows of all candidates that have all scores, the best first.
    n_fits : int or None
        How many fits there will be, if it is known.
    wanted : bool
        Whether to show anything.
    """

    def __init__(
        self,
        standings: "Standings",
        table: Callable[[], tuple[list[str], list[list[str]]]],
        n_fits: int | None,
        wanted: bool,
    ) -> None:
        from rich.live import Live

        self._standings, self._table, self._n_fits = standings, table, n_fits
        self._epochs = 0
        self._begun = time.monotonic()
        self._console = new_console()
        self._live = Live(
            get_renderable=self._drawn, console=self._console, refresh_per_second=4, transient=True
        )
        self._wanted = wanted and shows_progress(sys.stdout)

    def __enter__(self) -> Self:
        """Show the table."""
        self._begun = time.monotonic()
        if self._wanted:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the table; the final one is printed."""
        if self._wanted:
            self._live.stop()

    def epoch_ended(self, fit: Fit, report: EpochReport) -> None:
        """Count an epoch."""
        self._epochs += 1

    def _drawn(self) -> Any:
        """Return what is shown now."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        headings, rows = self._table()
        shown = max(1, min(_MOST_ROWS, self._console.height - 4))
        table = Table(*headings, box=None, pad_edge=False)
        for column in table.columns[:4]:
            column.justify = "right"
        for row in rows[:shown]:
            table.add_row(*row)
        done, seconds = self._standings.n_scores, time.monotonic() - self._begun
        if self._n_fits is None:
            text = Text(f"{done} fits, {self._epochs} epochs, {_time(seconds)}")
            return Group(table, text) if rows else text
        words = f" {done} of {self._n_fits} fits, {self._epochs} epochs"
        if done == self._n_fits:
            words += ", training the best on all data"
        elif done:
            words += f", {_time(seconds / done * (self._n_fits - done))} left"
        line = Table.grid()
        line.add_row(ProgressBar(self._n_fits, done, width=16), Text(words))
        return Group(table, line) if rows else line


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
