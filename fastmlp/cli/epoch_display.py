"""The progress of ``fastmlp train``: a line per epoch, and a progress bar on a terminal."""

import math
import sys
import time
from datetime import timedelta
from typing import Self

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from fastmlp.cli.epoch_log import EpochLog
from fastmlp.cli.output import new_console
from fastmlp.training import EpochReport, Fit, Observer, Outcome
from fastmlp.utils.terminal import shows_progress


class EpochDisplay(Observer):
    """Shows a line per epoch, and a progress bar below it on a terminal.

    A context manager that shows the bar, and an observer of the fits in it.

    Parameters
    ----------
    max_iter : int
        Maximum number of epochs of a network.
    wanted : bool
        Whether to show anything.
    lines : bool
        Whether to print lines; without them, the bar shows more.
    log : EpochLog, optional
        Gets a line per epoch in any case.
    val_name : str
        Name of the validation data.
    n_networks : int
        Number of networks that are trained, one after the other.
    training_score : bool
        Whether to compute the score on the training data, too.

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C was pressed. The following networks then stop after one epoch.
    n_before : int
        Epochs that a checkpoint had of the last network.
    """

    handles_interrupts = True

    def __init__(
        self,
        max_iter: int,
        wanted: bool,
        *,
        lines: bool = True,
        log: EpochLog | None = None,
        val_name: str = "validation",
        n_networks: int = 1,
        training_score: bool = False,
    ) -> None:
        self.wants_training_score, self.interrupted = training_score, False
        self._max_iter, self._wanted, self._lines, self._log = max_iter, wanted, lines, log
        self._console, self._val_name = new_console(), val_name
        self._is_narrow = self._console.width < 80  # where the bar would be truncated
        columns = (
            SpinnerColumn(),
            TextColumn("{task.fields[epoch]}"),
            BarColumn(bar_width=8 if self._is_narrow else 16),
            TextColumn("{task.description}"),
        )
        hidden = not (wanted and shows_progress(sys.stdout))
        self._bar = Progress(*columns, console=self._console, transient=True, disable=hidden)
        self._n_networks = n_networks
        self._n_begun = 0  # networks
        self._epoch = 0  # of the network
        self._n_epochs = 0  # of all networks
        self._task = self._bar.add_task("", total=n_networks * max_iter, epoch=self._position(0))
        self._seconds = 0.0  # of all epochs so far
        self.n_before = 0
        self._begun = time.perf_counter()
        self._said = ""

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._wanted:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        if self._wanted:
            self._bar.stop()

    def fit_began(self, fit: Fit) -> None:
        """Record that a network starts: the bar can move within its first epoch."""
        self._n_begun += 1
        self._epoch, self._begun = fit.n_before, time.perf_counter()
        self.n_before = fit.n_before
        if fit.n_before and self._wanted:
            self._console.print(f"Going on after epoch {fit.n_before} of {fit.max_iter}")

    def samples_done(self, fit: Fit, n_samples: int) -> None:
        """Show the progress within the epoch."""
        if n_samples:
            self._show(min(1.0, n_samples / fit.n_samples))

    def epoch_ended(self, fit: Fit, report: EpochReport) -> bool:
        """Show a finished epoch; return whether to stop, after Ctrl-C."""
        self._epoch = report.epoch
        self._n_epochs += 1
        if self._log is not None:
            self._log.add(report, self._n_begun)
        if self._wanted:
            self._show_epoch(report)
        return self.interrupted

    def fit_ended(self, fit: Fit, outcome: Outcome) -> None:
        """Record Ctrl-C."""
        self.interrupted |= outcome.interrupted

    def _show_epoch(self, report: EpochReport) -> None:
        """Show the results of an epoch."""
        line = f"Iteration {report.epoch}, loss = {report.loss:.8f}"
        if report.training_score is not None:
            line += f", score = {report.training_score:.4f}"
        if report.validation_loss is not None:
            line += f", {self._val_name} loss = {report.validation_loss:.8f}"
            line += f", {self._val_name} score = {report.validation_score:.4f}"
        if self._lines:
            self._console.print(line)
        self._seconds += report.seconds
        self._said = f"loss {report.loss:.4f}"
        if report.validation_score is not None and not self._lines:
            self._said += f"  {self._val_name} score {report.validation_score:.4f}"
        elif not self._is_narrow:
            self._said += f"  {report.n_samples / report.seconds:,.0f} samples/s"
        self._show(0)

    def _show(self, part: float) -> None:
        """Show the number of finished epochs, with a fraction, and the remaining time."""
        # Not rich's own estimate, which uses only the last half minute.
        if self._n_epochs:
            seconds = self._seconds / self._n_epochs
        else:
            seconds = (time.perf_counter() - self._begun) / part
        done = self._network * self._max_iter + self._epoch + part
        left = timedelta(seconds=round(seconds * (self._n_networks * self._max_iter - done)))
        status = f"{self._said}  {left} left".strip()
        epoch = self._position(min(self._epoch + math.ceil(part), self._max_iter))
        self._bar.update(self._task, completed=done, description=status, epoch=epoch)

    @property
    def _network(self) -> int:
        """Number of finished networks."""
        return max(0, self._n_begun - 1)

    def _position(self, epoch: int) -> str:
        """Return the epoch and, if there are several, the network in words."""
        words = f"epoch {epoch}/{self._max_iter}"
        if self._n_networks == 1:
            return words
        return f"network {self._network + 1}/{self._n_networks} {words}"
