"""A progress bar as a callback of scikit-learn: on terminals, and in notebooks, where it stays."""

import html
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from fastmlp.utils.terminal import shows_progress

__all__ = ["ProgressBar"]

_SECONDS_BETWEEN = 0.2  # two updates of a notebook's cell
_NAMES = {"epoch": "epochs"}

# The displays of the fits that run in this process, by the identifier that their tasks share. Not
# in the callback, which is copied and pickled with its estimator.
_displays: dict[UUID, "_Display"] = {}


class ProgressBar:
    """Show how far a fit has come: epochs, loss, and the time that is left.

    On a terminal, a line that moves and stays when the fit is over; in a notebook the same below
    its cell, also after it is saved, which needs no ipywidgets; elsewhere nothing but the last
    line. Searches and pipelines show their own tasks, and the fits within while they last. Fits in
    other processes are not shown, only that they have ended.

    Parameters
    ----------
    max_propagation_depth : int or None, default=1
        How deep in searches and pipelines estimators show their bars, as in scikit-learn's own
        `ProgressBar`.

    Examples
    --------
    >>> from fastmlp import MLPClassifier, ProgressBar
    >>> model = MLPClassifier(max_iter=5).set_callbacks(ProgressBar())  # doctest: +SKIP
    >>> model.fit(X, y)  # doctest: +SKIP
    MLPClassifier: 5 of 5 epochs, loss 0.3018, 0:00:01
    """

    def __init__(self, max_propagation_depth: int | None = 1) -> None:
        self.max_propagation_depth = max_propagation_depth

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin, as scikit-learn asks callbacks to.

        Parameters
        ----------
        estimator : estimator
        context : CallbackContext
        """
        _displays[context.root_uuid] = _new_display()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Show a task that has subtasks.

        Parameters
        ----------
        estimator : estimator
        context : CallbackContext
        """
        display = _displays.get(context.root_uuid)
        if display is not None and context.max_subtasks != 0:
            display.begin(_path(context), context)

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Show that a task is over.

        Parameters
        ----------
        estimator : estimator
        context : CallbackContext
        """
        display = _displays.get(context.root_uuid)
        if display is not None:
            display.end(_path(context), context, getattr(estimator, "loss_", None))

    def teardown(self, estimator: Any, context: Any) -> None:
        """End, as scikit-learn asks callbacks to.

        Parameters
        ----------
        estimator : estimator
        context : CallbackContext
        """
        display = _displays.pop(context.root_uuid, None)
        if display is not None:
            display.close()


def _path(context: Any) -> tuple[Any, ...]:
    """Return where a task is in the tree of tasks."""
    path = []
    while context is not None:
        path.append((context.estimator_name, context.task_name, context.task_id))
        context = context.parent
    return tuple(reversed(path))


@dataclass
class _Bar:
    """A task that has subtasks."""

    title: str
    total: int | None
    depth: int
    done: int = 0
    subtasks: str = ""
    loss: float | None = None
    begun: float = field(default_factory=time.monotonic)
    seconds: float | None = None  # once it is over

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.total}" if self.total else str(self.done)]
        parts[0] += f" {_NAMES.get(self.subtasks, self.subtasks)}".rstrip()
        if self.loss is not None:
            parts.append(f"loss {self.loss:.4f}")
        seconds = time.monotonic() - self.begun if self.seconds is None else self.seconds
        if self.seconds is None and self.total and self.done:
            left = seconds / self.done * (self.total - self.done)
            parts.append(f"{timedelta(seconds=round(left))} left")
        else:
            parts.append(str(timedelta(seconds=round(seconds))))
        return f"{'  ' * self.depth}{self.title}: {', '.join(parts)}"


class _Display:
    """The bars of one fit: the outermost task, and those within it while they last."""

    def __init__(self) -> None:
        self._bars: dict[tuple[Any, ...], _Bar] = {}
        self._lock = threading.Lock()  # a search has fits in several threads

    def begin(self, path: tuple[Any, ...], context: Any) -> None:
        """Add a bar."""
        with self._lock:
            depth = sum(path[: len(outer)] == outer for outer in self._bars)
            self._bars[path] = _Bar(context.estimator_name, context.max_subtasks, depth)
            self._show(list(self._bars.values()), now=False)

    def end(self, path: tuple[Any, ...], context: Any, loss: float | None) -> None:
        """Count a task for the one that it is part of, and take its own bar away."""
        with self._lock:
            own, parent = self._bars.get(path), self._bars.get(path[:-1])
            if own is not None:
                own.seconds = time.monotonic() - own.begun
                own.loss = loss
                if parent is not None:
                    del self._bars[path]
            if parent is not None:
                parent.done += 1
                parent.subtasks = context.task_name if context.max_subtasks == 0 else "tasks"
                parent.loss = loss if context.max_subtasks == 0 else None
            self._show(list(self._bars.values()), now=False)

    def close(self) -> None:
        """Show how it has ended."""
        with self._lock:
            for bar in self._bars.values():
                if bar.seconds is None:
                    bar.seconds = time.monotonic() - bar.begun
            self._show(list(self._bars.values()), now=True)

    def _show(self, bars: list[_Bar], now: bool) -> None:
        """Show bars; `now` if they are the last."""
        if now:
            for bar in bars:
                print(bar)  # noqa: T201


class _TerminalDisplay(_Display):
    """Bars of rich."""

    def __init__(self) -> None:
        super().__init__()
        from rich.live import Live

        self._live = Live(refresh_per_second=5)
        self._live.start()

    def _show(self, bars: list[_Bar], now: bool) -> None:
        from rich.progress_bar import ProgressBar as RichBar
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for bar in bars:
            table.add_row(RichBar(bar.total or 1, bar.done, width=16), str(bar))
        self._live.update(table)
        if now:
            self._live.stop()


class _NotebookDisplay(_Display):
    """HTML below a notebook's cell, which is saved with it; plain text where HTML is not shown."""

    def __init__(self) -> None:
        super().__init__()
        self._handle: Any = None
        self._due = 0.0

    def _show(self, bars: list[_Bar], now: bool) -> None:
        from IPython.display import display

        if not now and time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _SECONDS_BETWEEN
        text = "\n".join(map(str, bars))
        rows = [
            f'<div style="margin-left:{2 * bar.depth}em">'
            f'<progress max="{bar.total or max(1, bar.done)}" value="{bar.done}" '
            f'style="width:12em"></progress> {html.escape(str(bar).strip())}</div>'
            for bar in bars
        ]
        data = {"text/plain": text, "text/html": "".join(rows)}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def _new_display() -> _Display:
    """Return what suits the place where the program runs."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is not None:
        return _NotebookDisplay()
    return _TerminalDisplay() if shows_progress(sys.stdout) else _Display()
