"""A team of Python threads, which lives for one call of a kernel."""

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from fastmlp.backends.numba_backend.kernels import STOP, Scratch


def in_threads(
    work: Callable[..., Any],
    n_threads: int,
    scratch: Scratch,
    is_short: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[list[Any], bool]:
    """Call work(thread, n_threads) in every thread of a team.

    Threads live for one call, so that nothing is in the way of a fork or of other calls. The
    calling thread only waits, for Ctrl-C too, and calls `meanwhile` now and then; but it does the
    work itself if that is too short for waiting and for more than one thread.

    Returns
    -------
    results : list
    interrupted : bool
        Whether Ctrl-C has come meanwhile; the kernels have then ended early.
    """
    scratch.team[...] = 0
    results: list[Any] = [None] * n_threads
    done = [False] * n_threads
    errors: list[BaseException] = []
    gate, size = threading.Event(), [0]
    wake: SimpleQueue[None] = SimpleQueue()  # Thread.join does not outlive a Ctrl-C

    def run(thread: int) -> None:
        gate.wait()
        try:
            if size[0]:
                results[thread] = work(thread, size[0])
        except BaseException as error:
            errors.append(error)
        finally:
            done[thread] = True
            wake.put(None)

    if is_short and n_threads == 1:
        return [work(0, 1)], False
    started = 0
    try:
        for thread in range(n_threads):
            threading.Thread(target=run, args=(thread,), daemon=True).start()
            started += 1
    except RuntimeError:  # the system refuses more threads
        if not started:
            return [work(0, 1)], False
    except BaseException:
        gate.set()  # those that wait end without work
        raise
    # Ctrl-C may come between any two steps, so each may be done again.
    interrupted = False
    while True:
        try:
            size[0] = started
            gate.set()
            while not all(done[:started]):
                try:
                    wake.get(timeout=0.2)
                except Empty:
                    meanwhile()
            break
        except KeyboardInterrupt:
            interrupted = True
            scratch.team[STOP] = 1
        except BaseException as error:  # of `meanwhile`; the others have to end first
            errors.append(error)
            scratch.team[STOP] = 1
    if errors:
        raise errors[0]
    return results[:started], interrupted
