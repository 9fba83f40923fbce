"""One fit at a time per estimator, whichever threads call."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Guards the table of those who have or await their turn: the lock of an object, by its identity,
#: and how many threads hold or want it. Not an attribute, which copies and pickles would carry.
_guard = threading.Lock()
_turns: dict[int, tuple[threading.RLock, list[None]]] = {}


@contextmanager
def turn_of(owner: object) -> Iterator[None]:
    """Wait until no other thread has the turn of this object, and have it meanwhile.

    A thread that has it may take it again.
    """
    key = id(owner)
    with _guard:
        lock, users = _turns.setdefault(key, (threading.RLock(), []))
        users.append(None)
    try:
        with lock:
            yield
    finally:
        with _guard:
            users.pop()
            if not users:
                _turns.pop(key, None)


def _forget() -> None:
    """Begin anew in a forked child: the threads that held locks are not there."""
    global _guard
    _guard = threading.Lock()
    _turns.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
