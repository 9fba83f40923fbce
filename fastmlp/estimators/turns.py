"""A lock per estimator: one fit at a time across threads."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from weakref import WeakValueDictionary

#: The locks in use, by the identity of the object. Not attributes of the objects, because copies
#: and pickles would contain them.
_locks: WeakValueDictionary[int, threading.RLock] = WeakValueDictionary()
_guard = threading.Lock()


@contextmanager
def turn_of(owner: object) -> Iterator[None]:
    """Hold the lock of this object.

    It is reentrant.
    """
    with _guard:
        lock = _locks.get(id(owner))
        if lock is None:
            lock = _locks[id(owner)] = threading.RLock()
    with lock:
        yield


def in_turn(method: Callable) -> Callable:
    """Return a method that holds the lock of its object while it runs."""

    @wraps(method)
    def having_the_turn(self: Any, *args: Any, **options: Any) -> Any:
        with turn_of(self):
            return method(self, *args, **options)

    return having_the_turn


def _forget() -> None:
    """Reset in a forked child, where the threads that held locks do not exist."""
    global _guard
    _guard = threading.Lock()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
