"""Progress bars, which only a terminal shows, and the line of an epoch."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from fastmlp.cli.output import new_console
from fastmlp.utils.terminal import shows_progress

if TYPE_CHECKING:
    from fastmlp.cli.epoch_log import EpochLog
    from fastmlp.training import EpochReport

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
INTERRUPTION = "Training interrupted by user."  # the warning of `fastmlp.training.train`

_QUIET_SECONDS = 1.0  # what takes no longer needs no progress bar


class EpochDisplay:
    """What a run of training shows: a line per epoch, and a bar below it on a terminal.

    A context manager; the bar lives within. `on_epoch` and `on_samples` are what a fit calls.

    Parameters
    ----------
    max_iter : int
        Epochs at most, of a network.
    wanted : bool
        Whether anything is to be shown.
    lines : bool
        Whether there are lines; the bar has more to say if not.
    log : EpochLog, optional
        Gets a line per epoch in any case.
    val_name : str
        What the validation data are called.
    n_networks : int
        How many networks are trained, one after the other.
    """

    def __init__(
        self,
        max_iter: int,
        wanted: bool,
        *,
        lines: bool = True,
        log: "EpochLog | None" = None,
        val_name: str = "validation",
        n_networks: int = 1,
    ) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._max_iter, self._wanted, self._lines, self._log = max_iter, wanted, lines, log
        self._console, self._val_name = new_console(), val_name
        self._is_narrow = self._console.width < 80  # where the bar would be cut
        columns = (
            SpinnerColumn(),
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=8 if self._is_narrow else 16),
            TextColumn("{task.description}"),
        )
        hidden = not (wanted and shows_progress(sys.stdout))
        self._bar = Progress(*columns, console=self._console, transient=True, disable=hidden)
        self._n_networks = n_networks
        self._network = 0  # networks that are done
        self._epoch = 0  # of the network
        self._n_epochs = 0  # of all networks
        self._task = self._bar.add_task("", total=n_networks * max_iter, epoch=self._position(0))
        self._samples = 0  # of an epoch
        self._seconds = 0.0  # of all epochs so far
        self._begun = time.perf_counter()
        self._said = ""

    def __enter__(self) -> Self:
        """Begin to show the bar."""
        if self._wanted:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        if self._wanted:
            self._bar.stop()

    def begins(self, n_samples: int) -> None:
        """Tell how many samples an epoch has, so that the bar can move within the first one."""
        self._samples, self._begun = n_samples, time.perf_counter()

    def on_samples(self, n_done: int) -> None:
        """Show how far the epoch has come."""
        if self._samples and n_done:
            self._show(min(1.0, n_done / self._samples))

    def on_epoch(self, report: "EpochReport") -> None:
        """Show an epoch that is over."""
        if report.epoch <= self._epoch:
            self._network += 1
        self._epoch = report.epoch
        self._n_epochs += 1
        if self._log is not None:
            self._log.add(report, self._network + 1)
        if not self._wanted:
            return
        line = f"Iteration {report.epoch}, loss = {report.loss:.8f}"
        if report.training_score is not None:
            line += f", score = {report.training_score:.4f}"
        if report.validation_loss is not None:
            line += f", {self._val_name} loss = {report.validation_loss:.8f}"
            line += f", {self._val_name} score = {report.validation_score:.4f}"
        if self._lines:
            self._console.print(line)
        self._samples = report.n_samples
        self._seconds += report.seconds
        self._said = f"loss {report.loss:.4f}"
        if report.validation_score is not None and not self._lines:
            self._said += f"  {self._val_name} score {report.validation_score:.4f}"
        elif not self._is_narrow:
            self._said += f"  {report.n_samples / report.seconds:,.0f} samples/s"
        self._show(0)

    def _show(self, part: float) -> None:
        """Show the epochs that are done and a part of one, and the time that the others take."""
        # Not rich's own estimate, which forgets what is longer ago than half a minute.
        if self._n_epochs:
            seconds = self._seconds / self._n_epochs
        else:
            seconds = (time.perf_counter() - self._begun) / part
        done = self._network * self._max_iter + self._epoch + part
        left = timedelta(seconds=round(seconds * (self._n_networks * self._max_iter - done)))
        status = f"{self._said}  {left} left".strip()
        epoch = self._position(min(self._epoch + math.ceil(part), self._max_iter))
        self._bar.update(self._task, completed=done, description=status, epoch=epoch)

    def _position(self, epoch: int) -> str:
        """Return which epoch it is, and of which network if there are several."""
        words = f"epoch {epoch}/{self._max_iter}"
        if self._n_networks == 1:
            return words
        return f"network {self._network + 1}/{self._n_networks} {words}"


@contextmanager
def file_display(wanted: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal, if it is not all done within a second."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(bar_width=16), MofNCompleteColumn(), TimeRemainingColumn()
    display = Progress(*columns, console=new_console(), transient=True)
    due = time.monotonic() + _QUIET_SECONDS if wanted and shows_progress(sys.stdout) else math.inf
    task = display.add_task("")

    def show(done: int, of: int) -> None:
        if time.monotonic() > due and not display.live.is_started:
            display.start()
        display.update(task, completed=done, total=of)

    try:
        yield show
    finally:
        if display.live.is_started:  # otherwise it would print an empty line
            display.stop()
