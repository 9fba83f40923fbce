"""One fit at a time per estimator, whichever threads call."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from weakref import WeakValueDictionary

#: The lock of an object, by its identity, while anybody has or awaits its turn. Not an attribute of
#: the object, which copies and pickles would carry.
_locks: WeakValueDictionary[int, threading.RLock] = WeakValueDictionary()
_guard = threading.Lock()


@contextmanager
def turn_of(owner: object) -> Iterator[None]:
    """Wait until no other thread has the turn of this object, and have it meanwhile.

    A thread that has it may take it again.
    """
    with _guard:
        lock = _locks.get(id(owner))
        if lock is None:
            lock = _locks[id(owner)] = threading.RLock()
    with lock:
        yield


def in_turn(method: Callable) -> Callable:
    """Return a method that has its object's turn while it runs."""

    @wraps(method)
    def having_the_turn(self: Any, *args: Any, **options: Any) -> Any:
        with turn_of(self):
            return method(self, *args, **options)

    return having_the_turn


def _forget() -> None:
    """Begin anew in a forked child: the threads that held locks are not there."""
    global _guard
    _guard = threading.Lock()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
