"""The workers: which there are, and calls that outlive them."""

from __future__ import annotations

import itertools
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import distributed
from distributed.scheduler import KilledWorker

from fastmlp.utils.logs import LOGGER

#: Times that a call is repeated after its worker has died, and seconds to wait for any worker.
_ATTEMPTS = 20
_PATIENCE = 60.0

#: Seconds for which the list of workers is taken as true: to ask takes milliseconds.
_MOMENT = 1.0

#: Results that are fetched at a time.
_AT_ONCE = 32

#: Seconds without any computation after which Dask is taken to have lost a task: one without
#: dependencies that was for a worker that is gone, while no other was there.
_STALLED = 30.0

#: Seconds between two looks at the workers while results are awaited.
_INTERVAL = 2.0


class NoClientError(ValueError):
    """There is no client of a Dask cluster."""


class NoWorkersError(RuntimeError):
    """All workers are gone, and none has come for a minute."""


class ClientClosedError(RuntimeError):
    """The client was closed during a fit."""


class StalledError(Exception):
    """Results are awaited, but no worker computes anything."""


@dataclass(frozen=True)
class Call:
    """Something that a worker is to compute.

    Parameters
    ----------
    name : str
        On Dask's dashboard.
    function : callable
    arguments : tuple
        Futures among them, also in lists, are replaced by their results.
    worker : str or None
        The address of the one that has the data; another one takes over if it is gone.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    worker: str | None = None


class Cluster:
    """The workers of a client.

    Parameters
    ----------
    client : distributed.Client or None
        None is the current one.

    Raises
    ------
    NoClientError
        If there is none.
    """

    def __init__(self, client: Any) -> None:
        if client is None:
            try:
                client = distributed.get_client()
            except ValueError:
                raise NoClientError(
                    "there is no Dask client: make one before, distributed.Client(), or pass "
                    "client=..."
                ) from None
        if client.asynchronous:
            raise ValueError(
                "client must not be asynchronous, because fit returns when it is done; pass a "
                "Client that was made with asynchronous=False."
            )
        self.client = client
        self.token = uuid.uuid4().hex
        self._numbers = itertools.count()
        #: The most workers that were there at a time.
        self.n_seen = 0
        self._known: dict[str, Any] = {}
        self._asked = 0.0

    def workers(self) -> dict[str, Any]:
        """Return what the scheduler knew of each worker a moment ago, by address, in order."""
        self._check_client()
        if self._known and time.monotonic() - self._asked < _MOMENT:
            return self._known
        self._asked = time.monotonic()
        try:
            found = self.client.scheduler_info(n_workers=-1)["workers"]
        except TypeError:  # before Dask 2024.12
            found = self.client.scheduler_info()["workers"]
        self._known = dict(sorted(found.items()))
        self.n_seen = max(self.n_seen, len(found))
        return self._known

    def present(self) -> dict[str, Any]:
        """Return the workers; wait for one if there is none."""
        begun = time.monotonic()
        while not (found := self.workers()):
            if time.monotonic() - begun > _PATIENCE:
                raise NoWorkersError(
                    f"no Dask worker is left, and none came for {_PATIENCE:.0f} seconds. The model "
                    "has the weights of the finished epochs; start workers and fit again, with "
                    "checkpoint=... to go on from there."
                )
            time.sleep(0.1)
        return found

    def memory(self) -> float:
        """Return the bytes of memory of all workers; infinite if any has no limit."""
        limits = [worker.get("memory_limit") or float("inf") for worker in self.present().values()]
        return float(sum(limits))

    def key(self, name: str) -> str:
        """Return a key that no other task has."""
        return f"{name}-{self.token}-{next(self._numbers)}"

    def submit(self, call: Call) -> Any:
        """Submit a call."""
        where = {} if call.worker is None else {"workers": [call.worker]}
        with large_arguments():
            return self.client.submit(
                call.function,
                *call.arguments,
                key=self.key(call.name),
                allow_other_workers=bool(where),
                pure=False,
                **where,
            )

    def run(self, calls: Sequence[Call]) -> list[Any]:
        """Return the results of calls, in their order.

        What was lost with a worker is computed again by another, or by it when it is back.
        """
        return list(self.running(calls))

    def running(self, calls: Sequence[Call]) -> Iterator[Any]:
        """Yield the results of calls, in their order."""
        futures: list[Any] = []
        try:
            futures += [self.submit(call) for call in calls]
            for start in range(0, len(calls), _AT_ONCE):
                places = range(len(calls))[start : start + _AT_ONCE]
                self._wait([futures[place] for place in places])
                yield from self._results(calls, futures, places)
                for place in places:
                    futures[place] = None  # which releases it
        except BaseException as error:
            waiting = [future for future in futures if future is not None]
            if isinstance(error, StalledError):
                self.client.cancel(waiting)
            # Tracebacks, which Dask keeps, would hold them, and all that they need.
            for future in waiting:
                future.release()
            self._check_client(error)
            raise

    def _results(
        self, calls: Sequence[Call], futures: list[Any], places: Sequence[int]
    ) -> list[Any]:
        """Return the results of some calls, whose futures are replaced if they are repeated."""
        try:
            return self._fetched([futures[place] for place in places])
        except (NoWorkersError, StalledError):
            raise
        except Exception:  # one after the other, to see which
            return [self._result(calls[place], futures, place) for place in places]

    def _result(self, call: Call, futures: list[Any], place: int) -> Any:
        """Return the result of a call, which is repeated if its worker has died."""
        for attempt in range(_ATTEMPTS):
            future = futures[place]
            self._wait([future])
            if future.status == "finished":
                try:
                    return self._fetched([future])[0]
                except (distributed.CancelledError, KilledWorker, OSError):
                    pass  # its worker has died since
            elif future.status == "error":
                error = future.exception()
                if not isinstance(error, KilledWorker | distributed.CancelledError):
                    raise error
            LOGGER.debug("%s is computed again, attempt %d", call.name, attempt + 2)
            self._repair(call.arguments)
            futures[place] = self.submit(call)
        raise RuntimeError(
            f"{call.name} was computed {_ATTEMPTS} times, and each time its worker died; workers "
            "may be short of memory: use more of them, or smaller partitions."
        )

    def _check_client(self, error: BaseException | None = None) -> None:
        if self.client.status not in ("running", "connecting"):
            raise ClientClosedError(
                "the Dask client was closed during the fit; the model has the weights of the "
                "finished epochs. Fit again with another client, and checkpoint=... to go on."
            ) from error

    def _repair(self, arguments: Any) -> None:
        """Compute futures again that were lost with workers."""
        lost = [f for f in _futures(arguments) if f.status in ("error", "lost", "cancelled")]
        for future in lost:
            error = future.exception(timeout=_PATIENCE) if future.status == "error" else None
            if error is not None and not isinstance(error, KilledWorker):
                raise error
        if lost:
            self.client.retry(lost)

    def _fetched(self, futures: Sequence[Any]) -> list[Any]:
        """Return the results of futures that are done; their workers may have died since."""
        # Workers of this machine can be reached without a detour over the scheduler.
        direct = isinstance(self.client.cluster, distributed.LocalCluster) or None

        async def fetch() -> list[Any]:
            return await self.client.gather(list(futures), asynchronous=True, direct=direct)

        seconds, active = _INTERVAL, time.monotonic()
        while True:
            try:
                return self.client.sync(fetch, callback_timeout=seconds)
            except TimeoutError:
                active = self._last_active(active)
                seconds *= 2  # results may be large

    def _wait(self, futures: Sequence[Any]) -> None:
        """Wait for futures, as long as there are workers, and these compute."""
        active = time.monotonic()
        while True:
            try:
                distributed.wait(futures, timeout=_INTERVAL)
            except TimeoutError:
                active = self._last_active(active)
            except distributed.CancelledError:
                return
            else:
                return

    def _last_active(self, before: float) -> float:
        """Return when a worker last computed something; raise if that is long ago."""
        metrics = [worker.get("metrics", {}) for worker in self.present().values()]
        counts = [found.get("task_counts", {"executing": 1}) for found in metrics]
        if any(found.get("executing") or found.get("ready") for found in counts):
            return time.monotonic()
        if time.monotonic() - before > _STALLED:
            raise StalledError
        return before


def _futures(arguments: Any) -> Iterator[Any]:
    for argument in arguments:
        if isinstance(argument, distributed.Future):
            yield argument
        elif isinstance(argument, list | tuple):
            yield from _futures(argument)


@contextmanager
def without_a_slot() -> Iterator[None]:
    """Give up the place among a worker's threads, if this is a task: it waits for other tasks."""
    try:
        distributed.secede()
    except (AttributeError, KeyError, ValueError):  # this is no task
        yield
        return
    try:
        yield
    finally:
        distributed.rejoin()


@contextmanager
def large_arguments() -> Iterator[None]:
    """Let weights be arguments of tasks, however large, without Dask's advice to scatter them.

    Scattered data are lost with their worker.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
        yield
