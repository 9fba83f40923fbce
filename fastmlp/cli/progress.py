"""A progress bar over files, shown only in a terminal."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastmlp.cli.output import new_console
from fastmlp.utils.terminal import shows_progress

_QUIET_SECONDS = 1.0  # shorter work needs no progress bar


@contextmanager
def file_display(wanted: bool, label: str = "") -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar in a terminal, if the work takes more than a second."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(bar_width=16), MofNCompleteColumn(), TimeRemainingColumn()
    display = Progress(*([label] if label else []), *columns, console=new_console(), transient=True)
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
