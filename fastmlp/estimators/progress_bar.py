"""Progress bars for terminals and notebooks: scikit-learn's callback, and one for many fits."""

import html
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from fastmlp.training import EpochReport, Fit, Observer, Outcome
from fastmlp.utils.terminal import shows_progress

__all__ = ["ManyBar", "ProgressBar"]

_SECONDS_BETWEEN = 0.2  # between updates of a notebook cell
_NAMES = {"epoch": "epochs"}

# The displays of running fits in this process, by the identifier of their tasks. Not in the
# callback, which is copied and pickled with its estimator.
_displays: dict[UUID, "_Display"] = {}


class ProgressBar:
    """Show the progress of a fit: epochs, loss, and the remaining time.

    In a terminal, a line that is updated and remains after the fit; in a notebook the same below
    the cell, without ipywidgets, also in saved notebooks; elsewhere only the last line. Searches
    and pipelines show their own tasks, and the running fits within. For fits in other processes,
    only their end is shown.

    Parameters
    ----------
    max_propagation_depth : int or None, default=1
        Maximum depth of estimators in searches and pipelines, as in scikit-learn's `ProgressBar`.

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
        """Set up the display of a fit; called by scikit-learn.

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
        """Show that a task has ended.

        Parameters
        ----------
        estimator : estimator
        context : CallbackContext
        """
        display = _displays.get(context.root_uuid)
        if display is not None:
            display.end(_path(context), context, getattr(estimator, "loss_", None))

    def teardown(self, estimator: Any, context: Any) -> None:
        """Close the display of a fit; called by scikit-learn.

        Parameters
        ----------
        estimator : estimator
        context : CallbackContext
        """
        display = _displays.pop(context.root_uuid, None)
        if display is not None:
            display.close()


class ManyBar(Observer):
    """One bar over the epochs of many fits, with the best score so far.

    It is shown in terminals and notebooks only, and remains after the fits.

    Parameters
    ----------
    title : str
    wanted : bool, default=True
        Whether to show it.
    """

    def __init__(self, title: str, wanted: bool = True) -> None:
        display = _new_display() if wanted else None
        self._display = None if type(display) is _Display else display
        self._bar = _Bar(title, 0, 0, subtasks="epoch")
        self._begun = 0  # epochs of the fits that have begun
        self._lock = threading.Lock()

    def expect(self, n_epochs: int) -> None:
        """Count the epochs of a fit that is to come."""
        self._change(more=n_epochs)

    def scored(self, score: float) -> None:
        """Show the best score, where a larger one is better."""
        with self._lock:
            best = self._bar.best
            self._bar.best = score if best is None or score > best else best

    def epoch_ended(self, fit: Fit, report: EpochReport) -> None:
        """Count an epoch."""
        self._change(done=1)

    def fit_began(self, fit: Fit) -> None:
        """Count the epochs of before, and those of a fit that was not expected."""
        self._begun += fit.max_iter
        self._change(done=fit.n_before, more=max(0, self._begun - (self._bar.total or 0)))

    def fit_ended(self, fit: Fit, outcome: Outcome) -> None:
        """Count the epochs that are not needed."""
        self._change(done=fit.max_iter - outcome.n_iter)

    def close(self) -> None:
        """Show the final state."""
        self._bar.seconds = time.monotonic() - self._bar.begun
        if self._display is not None:
            self._display.show([self._bar], now=True)

    def _change(self, done: int = 0, more: int = 0) -> None:
        with self._lock:
            self._bar.done += done
            self._bar.total = (self._bar.total or 0) + more
            if self._display is not None:
                self._display.show([self._bar], now=False)


def _path(context: Any) -> tuple[Any, ...]:
    """Return the path of a task in the task tree."""
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
    best: float | None = None
    begun: float = field(default_factory=time.monotonic)
    seconds: float | None = None  # when it has ended

    def __str__(self) -> str:
        parts = [f"{self.done} of {self.total}" if self.total else str(self.done)]
        parts[0] += f" {_NAMES.get(self.subtasks, self.subtasks)}".rstrip()
        if self.loss is not None:
            parts.append(f"loss {self.loss:.4f}")
        if self.best is not None:
            parts.append(f"best score {self.best:.4f}")
        seconds = time.monotonic() - self.begun if self.seconds is None else self.seconds
        if self.seconds is None and self.total and self.done:
            left = seconds / self.done * (self.total - self.done)
            parts.append(f"{timedelta(seconds=round(left))} left")
        else:
            parts.append(str(timedelta(seconds=round(seconds))))
        return f"{'  ' * self.depth}{self.title}: {', '.join(parts)}"


class _Display:
    """The bars of one fit: the outermost task, and the running ones within it."""

    def __init__(self) -> None:
        self._bars: dict[tuple[Any, ...], _Bar] = {}
        self._lock = threading.Lock()  # a search has fits in several threads

    def begin(self, path: tuple[Any, ...], context: Any) -> None:
        """Add a bar."""
        with self._lock:
            depth = sum(path[: len(outer)] == outer for outer in self._bars)
            self._bars[path] = _Bar(context.estimator_name, context.max_subtasks, depth)
            self.show(list(self._bars.values()), now=False)

    def end(self, path: tuple[Any, ...], context: Any, loss: float | None) -> None:
        """Count a task in its parent, and remove its own bar."""
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
            self.show(list(self._bars.values()), now=False)

    def close(self) -> None:
        """Show the final state."""
        with self._lock:
            for bar in self._bars.values():
                if bar.seconds is None:
                    bar.seconds = time.monotonic() - bar.begun
            self.show(list(self._bars.values()), now=True)

    def show(self, bars: list[_Bar], now: bool) -> None:
        """Show bars; `now` for the final update."""
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

    def show(self, bars: list[_Bar], now: bool) -> None:
        from rich.progress_bar import ProgressBar as RichBar
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        for bar in bars:
            table.add_row(RichBar(bar.total or 1, bar.done, width=16), str(bar))
        self._live.update(table)
        if now:
            self._live.stop()


class _NotebookDisplay(_Display):
    """HTML below a notebook cell, which is saved with it; with a plain text fallback."""

    def __init__(self) -> None:
        super().__init__()
        self._handle: Any = None
        self._due = 0.0

    def show(self, bars: list[_Bar], now: bool) -> None:
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
    """Return the display class for the environment."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is not None:
        return _NotebookDisplay()
    return _TerminalDisplay() if shows_progress(sys.stdout) else _Display()
