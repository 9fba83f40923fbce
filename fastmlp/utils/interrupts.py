"""Signals that ask a program to end, and blocks that they must not interrupt."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Ctrl-C, `kill`, and a terminal that is closed.
STOPPING = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


@contextmanager
def uninterrupted(stop: Callable[[], object] | None = None) -> Iterator[None]:
    """Defer Ctrl-C until the end of a block that must not be interrupted.

    `KeyboardInterrupt` is raised then. Does nothing if Ctrl-C does not raise it: in other threads,
    and if the user handles the signal. The same for other signals that raise it, as they do in the
    command line.

    Parameters
    ----------
    stop : callable, optional
        Called on Ctrl-C, so that the block can end early.
    """
    raising = []
    if threading.current_thread() is threading.main_thread():
        raising = [n for n in STOPPING if signal.getsignal(n) is signal.default_int_handler]
    is_interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        is_interrupted = True
        if stop is not None:
            stop()

    for number in raising:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number in raising:
            signal.signal(number, signal.default_int_handler)
        if is_interrupted:
            raise KeyboardInterrupt
