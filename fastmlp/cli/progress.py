"""Progress bars, which only a terminal shows, and the line of an epoch."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from fastmlp.cli.output import new_console
from fastmlp.terminal import shows_progress

if TYPE_CHECKING:
    from fastmlp.training import EpochReport

_QUIET_SECONDS = 1.0  # what takes no longer needs no progress bar


@contextmanager
def epoch_display(
    max_iter: int, wanted: bool, *, lines: bool = True
) -> Iterator[Callable[["EpochReport"], None]]:
    """Show a line per epoch, unless they are not wanted, and on a terminal a progress bar below."""
    if not wanted:
        yield lambda report: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    console = new_console()
    is_narrow = console.width < 80  # where the bar would be cut
    columns = (
        SpinnerColumn(),
        TextColumn("epoch {task.completed}/{task.total}"),
        BarColumn(bar_width=8 if is_narrow else 16),
        TextColumn("{task.description}"),
    )
    seconds = 0.0
    hidden = not shows_progress(sys.stdout)
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=max_iter)

        def show(report: "EpochReport") -> None:
            nonlocal seconds
            seconds += report.seconds
            line = f"Iteration {report.epoch}, loss = {report.loss:.8f}"
            if report.training_score is not None:
                line += f", score = {report.training_score:.4f}"
            if report.validation_loss is not None:
                line += f", validation loss = {report.validation_loss:.8f}"
                line += f", validation score = {report.validation_score:.4f}"
            if lines:
                console.print(line)
            speed = "" if is_narrow else f"  {report.n_samples / report.seconds:,.0f} samples/s"
            # Not rich's own estimate, which forgets what is longer ago than half a minute.
            left = timedelta(seconds=round(seconds / report.epoch * (max_iter - report.epoch)))
            score = report.validation_score
            if score is not None and not lines:
                speed = f"  validation score {score:.4f}"
            status = f"loss {report.loss:.4f}{speed}  {left} left"
            progress.update(task, completed=report.epoch, description=status)

        yield show


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
