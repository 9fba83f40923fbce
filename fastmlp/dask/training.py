"""Fits on a cluster: the client runs the epochs, workers compute them.

The client has the weights, the optimiser and the checkpoint, so a worker that dies costs the work
of one call: its samples and its part are computed again.
"""

from __future__ import annotations

import copy
import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import backends
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.core.optimizers import Optimizer
from fastmlp.core.random_bits import Dropout
from fastmlp.dask import shards
from fastmlp.dask.cluster import Call, Cluster, StalledError, large_arguments
from fastmlp.dask.partitions import Partitions, first_of, plan, some_partitions
from fastmlp.estimators.parts import Job, Source, Trainer
from fastmlp.estimators.summaries import Questions, Summary, added
from fastmlp.estimators.weights import check_any_weight
from fastmlp.training import InMemory, PartialSum, Pass, SummedObjective, digest
from fastmlp.utils.logs import LOGGER

#: Shards per worker: so many that workers that join later get some, too. A power of two in all, so
#: that the sums are the same if a worker is missing in the beginning.
_SHARDS_PER_WORKER, _MIN_SHARDS = 4, 8

#: Fraction of the cluster's memory that samples may take, and of a worker's, that a shard may
#: take if they do not fit.
_FRACTION, _WAVE_FRACTION = 0.5, 0.05

#: Times that samples are made anew if nothing is computed.
_RENEWALS = 5

#: Seconds that a worker may be gone until the others take over its share for good.
_GONE = 60.0


class Shards:
    """Samples on the workers.

    Parameters
    ----------
    cluster : Cluster
    futures : list of Future
    numbers : list of int
        Of the shards; random numbers and the order of samples depend on them.
    lengths : list of int
        Samples of each.
    starts : list of int
        Samples of all shards before each of them.
    renew : callable
        Returns other futures for shards of these numbers.
    """

    def __init__(
        self,
        cluster: Cluster,
        futures: list[Any],
        numbers: list[int],
        lengths: list[int],
        starts: list[int],
        renew: Callable[[list[int]], list[Any]],
    ) -> None:
        self.cluster, self.futures, self.numbers = cluster, futures, numbers
        self.lengths, self.starts = lengths, starts
        self._renew = renew

    def __len__(self) -> int:
        """Return the number of shards."""
        return len(self.futures)

    def by_worker(self, places: Iterable[int], n_groups: int | None = None) -> list[Group]:
        """Return shards in groups, one for each worker by default, where they are kept."""
        there = list(self.cluster.present())
        n_groups = n_groups or len(there)
        groups: list[list[int]] = [[] for _ in range(n_groups)]
        for place in places:
            groups[place % n_groups].append(place)
        return [Group(g, there[i % len(there)]) for i, g in enumerate(groups) if g]

    def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return the results of a function of each shard, in order; one task for each worker.

        Parameters
        ----------
        name : str
            On Dask's dashboard.
        function : callable
        *arguments
            Passed after the shard.
        """
        groups = self.by_worker(range(len(self)))
        results = self._run(name, function, arguments, groups, None, adds=False)
        found: dict[int, Any] = {}
        for group, of_group in zip(groups, results, strict=True):
            found.update(zip(group.places, of_group, strict=True))
        return [found[place] for place in range(len(self))]

    def sums(
        self,
        name: str,
        function: Callable[..., PartialSum],
        *arguments: Any,
        each: Mapping[int, Any] | None = None,
    ) -> list[PartialSum]:
        """Return the sums of what a function returns for the shards of each worker.

        Parameters
        ----------
        name, function, *arguments
            As for `call`.
        each : mapping, optional
            The last argument, by the place of a shard; shards without one are left out.
        """
        groups = self.by_worker(range(len(self)) if each is None else sorted(each))
        results = self._run(name, function, arguments, groups, each, adds=True)
        return [total for of_group in results for total in of_group]

    def _run(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        groups: Sequence[Group],
        each: Mapping[int, Any] | None,
        *,
        adds: bool,
    ) -> list[list[Any]]:
        def call_of(group: Group) -> Call:
            futures = [self.futures[place] for place in group.places]
            own = None if each is None else [each[place] for place in group.places]
            passed = (futures, function, list(arguments), own, adds)
            return Call(name, shards.for_each, passed, group.worker)

        return self.run(groups, call_of)

    def run(self, groups: Sequence[Group], call_of: Callable[[Group], Call]) -> list[Any]:
        """Return the results of a call for each group; make the shards anew if Dask is stuck."""
        for _ in range(_RENEWALS):
            try:
                return self.cluster.run([call_of(group) for group in groups])
            except StalledError:
                LOGGER.debug("no worker computes: the samples are made anew")
                self.cluster.client.cancel(self.futures)  # and Dask forgets what they need
                self.futures = self._renew(self.numbers)
        raise RuntimeError(
            f"the workers computed nothing, {_RENEWALS} times in a row; look at the log of the "
            "scheduler, restart the cluster, and fit again, with checkpoint=... to go on."
        )


@dataclass(frozen=True)
class Group:
    """The places of shards for one task, and the address of the worker that it is for."""

    places: list[int]
    worker: str


class Partitioned(Source):
    """Samples in the partitions of Dask's collections.

    Parameters
    ----------
    cluster : Cluster
    partitions : Partitions
    sync_every : int
        See `DaskMLPClassifier`.
    """

    def __init__(self, cluster: Cluster, partitions: Partitions, sync_every: int) -> None:
        self._cluster, self._partitions, self._sync_every = cluster, partitions, sync_every
        self._summary: Summary | None = None
        self._samples: Samples | None = None
        self.deals = sync_every > 1

    def summarize(self, ask: Questions) -> Summary:
        """Bring the samples to the workers if they fit, and go through them once."""
        samples = Samples(self._cluster, self._partitions, ask, deals=self.deals)
        total, sums = None, np.zeros(0, np.uint64)
        self._samples = samples
        for wave in samples.waves():
            found = wave.call("mlp-summary", shards.summarize, ask)
            part = [summary for summary, _ in found]
            samples.learn_lengths(wave, [0 if p is None else p.n_samples for p in part])
            total = added([total, *part])
            sums = reduce(shards.added_checksums, (checksum for _, checksum in found), sums)
        if total is None:
            raise ValueError("X must have at least one row, got empty partitions only.")
        columns = getattr(self._partitions.collections[0], "columns", None)
        self._summary = total.with_rows(total.X, None if columns is None else list(columns))
        self._checksum = sums
        return self._summary

    def release(self) -> None:
        """Let the workers forget the samples."""
        if self._samples is not None:
            self._samples.release()

    def facts(self) -> dict[str, str]:
        """Return what is known of all samples, on however many workers."""
        assert self._summary is not None
        summary = self._summary
        return {
            "data: X": f"{summary.n_samples} {digest(self._checksum)}",
            "data: y": "" if summary.counts is None else digest(summary.y) + digest(summary.counts),
            "data: sample_weight": " ".join(f"{value:.6g}" for value in summary.weight or ()),
            "the number of partitions": f"{len(self._partitions)}",
        }

    def trainer(self, job: Job) -> Trainer:
        """Make the engine of the client, and its passes."""
        assert self._samples is not None
        model, samples = job.model, self._samples
        stochastic = model.solver != "lbfgs"
        if model.augment is not None and stochastic:
            raise ValueError(
                "augment is not supported on a cluster; change the partitions, with map_blocks, or "
                "use MLPClassifier."
            )
        is_exact = stochastic and not self.deals
        if is_exact and (np.any(model.dropout) or job.holds_out):
            raise ValueError(
                "sync_every=1 supports neither dropout nor early_stopping without X_val; pass a "
                "larger sync_every."
            )
        if is_exact and not samples.are_kept:
            raise ValueError(
                "sync_every=1 needs all samples in the workers' memory; use more workers, or a "
                "larger sync_every."
            )
        task = shards.Task(
            self._cluster.token,
            *(job.network, job.encoding, job.scale, backends.resolve(model.backend)),
            model.validation_fraction if job.holds_out else 0.0,
            job.encoding.weighs or (job.some.weight is not None),
        )
        dropout, _ = job.dropout()
        job.resume(samples.n if is_exact else 0)
        engine = Client(job, task, samples)
        if not stochastic:
            objective = SummedObjective(job.network, job.parameters, engine.sums, engine.predict)
            return Trainer(objective, _no_pass, None, samples.n)
        validate = partial(_validate, job, task, samples) if job.holds_out else None
        n_samples = samples.n - sum(round(task.held_out * n) for n in samples.lengths)
        if not 0 < n_samples < samples.n + (not job.holds_out):
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
                if n_samples
                else f"validation_fraction={task.held_out} leaves no samples to train on, of "
                f"{samples.n} in {len(samples)} shards; pass a smaller one."
            )
        shuffles, random_state = model.shuffle, job.random_state
        passes: Callable[..., Pass] = partial(
            InMemory, engine, n_samples, shuffle=shuffles, random_state=random_state
        )
        if not is_exact:
            held_out = task.held_out
            passes = partial(Replicas, job, task, samples, self._sync_every, dropout, held_out)
        return Trainer(engine, passes, validate, n_samples)


class Samples:
    """All samples, on the workers, or made anew each time if they do not fit there.

    Parameters
    ----------
    cluster : Cluster
    partitions : Partitions
    ask : Questions
    deals : bool
        Whether rows, or partitions if they do not fit, are dealt out at random.

    Attributes
    ----------
    are_kept : bool
        Whether they stay on the workers.
    lengths : list of int
        Samples of each shard.
    """

    def __init__(
        self, cluster: Cluster, partitions: Partitions, ask: Questions, *, deals: bool
    ) -> None:
        self.cluster = cluster
        workers = cluster.present()
        n_bytes = partitions.n_bytes
        if np.isnan(n_bytes):
            first = cluster.client.compute(first_of(partitions, shards.size_of)).result()
            n_bytes = float(first) * len(partitions)
        memory = cluster.memory()
        self.are_kept = n_bytes <= _FRACTION * memory
        wanted = max(_MIN_SHARDS, _SHARDS_PER_WORKER * len(workers))
        n_shards = 1 << math.ceil(math.log2(wanted))
        if self.are_kept:
            self._plan = partial(plan, partitions, ask, n_shards, deals=deals)
            self._planned = self._plan(workers=list(workers), token=cluster.token)
            self._wave_size = len(self._planned)
        else:
            smallest = memory / len(workers)
            n_shards = max(n_shards, math.ceil(n_bytes / (_WAVE_FRACTION * smallest)))
            order = np.arange(len(partitions))
            if deals:
                np.random.RandomState(0).shuffle(order)
            groups = [g.tolist() for g in np.array_split(order, min(n_shards, len(order)))]
            self._plan = partial(some_partitions, partitions, ask, groups)
            self._planned = self._plan(token=cluster.token)
            self._wave_size = len(workers)
        self.lengths = [0] * len(self._planned)
        self._kept: list[Any] | None = None
        self._passing: list[Any] = []
        self._generation = 0

    def __len__(self) -> int:
        """Return the number of shards."""
        return len(self._planned)

    @property
    def n(self) -> int:
        """Number of samples."""
        return sum(self.lengths)

    def learn_lengths(self, wave: Shards, lengths: Sequence[int]) -> None:
        """Set the lengths of a wave's shards."""
        for number, length in zip(wave.numbers, lengths, strict=True):
            self.lengths[number] = length
        wave.lengths = list(lengths)

    def waves(self, order: NDArray | None = None) -> Iterator[Shards]:
        """Yield shards, those of all samples if they are kept, otherwise some at a time.

        The next ones are computed meanwhile.

        Parameters
        ----------
        order : array of int, optional
            Of the shards; ignored if all are yielded at once.
        """
        if self.are_kept:
            if self._kept is None:
                self._kept = self._computed(range(len(self)))
            yield self._shards(list(range(len(self))), self._kept)
            return
        order = np.arange(len(self)) if order is None else order
        size = self._wave_size
        waves = [order[i : i + size].tolist() for i in range(0, len(order), size)]
        ahead = self._computed(waves[0])
        for numbers, following in zip(waves, [*waves[1:], []], strict=True):
            futures, ahead = ahead, self._computed(following, priority=-1)
            self._passing = [*futures, *ahead]
            yield self._shards(numbers, futures)
        self._passing = []

    def _shards(self, numbers: list[int], futures: list[Any]) -> Shards:
        starts = np.cumsum([0, *self.lengths])
        return Shards(
            *(self.cluster, futures, numbers),
            [self.lengths[number] for number in numbers],
            [int(starts[number]) for number in numbers],
            self._renewed,
        )

    def _renewed(self, numbers: list[int]) -> list[Any]:
        """Return futures of shards with other keys, which Dask does not know.

        No task is restricted to a worker any more.
        """
        self._generation += 1
        self._planned = self._plan(token=f"{self.cluster.token}-{self._generation}")
        futures = self._computed(numbers)
        if self.are_kept:
            self._kept = futures
        return futures

    def release(self) -> None:
        """Let the workers forget everything."""
        for future in [*(self._kept or ()), *self._passing]:
            future.release()
        self._kept, self._passing = None, []

    def _computed(self, numbers: Sequence[int], priority: int = 0) -> list[Any]:
        """Return futures of shards, spread over the workers."""
        there = list(self.cluster.present())
        options = {"optimize_graph": False, "priority": priority}
        planned = [self._planned[number] for number in numbers]
        compute = self.cluster.client.compute
        with large_arguments():
            if self.are_kept or self._generation:
                return compute(planned, **options)
            # Each worker makes the partitions of its shards: nothing is sent. See `plan` for what
            # happens if all workers are gone.
            futures: list[Any] = [None] * len(numbers)
            for place, worker in enumerate(there[: len(numbers)]):
                own = slice(place, None, len(there))
                where = {"workers": [worker], "allow_other_workers": True}
                futures[own] = compute(planned[own], **where, **options)
            return futures


def _no_pass(*_: Any, **__: Any) -> Any:
    """L-BFGS has no epochs."""


class Client:
    """What the training loop needs of an engine; it computes nothing itself, but predictions.

    Parameters
    ----------
    job : Job
    task : shards.Task
    samples : Samples
    """

    seconds_compiling = 0.0

    def __init__(self, job: Job, task: shards.Task, samples: Samples) -> None:
        self.network: Network = job.network
        self.parameters: Parameters = job.parameters
        self._task, self._samples, self._backend = task, samples, backends.get(job.model.backend)
        self._step = backends.get("numpy").step

    def sums(self, flat: NDArray) -> Iterator[PartialSum]:
        """Yield the sums over the samples of each worker."""
        for wave in self._samples.waves():
            yield from wave.sums("mlp-gradient", shards.gradient, self._task, flat)

    def train_epoch(
        self,
        order: NDArray,
        batch_size: int,
        optimizer: Optimizer,
        dropout: Dropout | None = None,
        on_samples: Callable[[int], None] | None = None,
    ) -> float:
        """Train on batches of samples of all shards together; see the NumPy backend."""
        flat = self.parameters.flat
        gradient, summed_loss = np.empty_like(flat), 0.0
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            objective = SummedObjective(
                self.network, self.parameters, partial(self._sums_of, batch), self.predict
            )
            try:
                loss = objective.loss_and_gradient(flat, gradient)
            except ZeroDivisionError:  # its weights sum to zero
                continue
            self._step(optimizer, flat, gradient)
            summed_loss += loss * len(batch)
            if on_samples is not None:
                on_samples(start + len(batch))
        return summed_loss

    def _sums_of(self, batch: NDArray, flat: NDArray) -> Iterator[PartialSum]:
        """Yield the sums over those of a batch that each shard has."""
        (found,) = self._samples.waves()
        number = np.searchsorted(found.starts, batch, side="right") - 1
        rows = {int(i): batch[number == i] - found.starts[i] for i in np.unique(number)}
        name, function = "mlp-gradient", shards.gradient_of_rows
        yield from found.sums(name, function, self._task, flat, each=rows)

    def predict(self, inputs: Inputs, out: NDArray) -> bool:
        """Compute the outputs of the network, here."""
        coefs, intercepts = self.parameters.coefs, self.parameters.intercepts
        return self._backend.predict(self.network, coefs, intercepts, inputs, None, out)

    def sync(self) -> None:
        """Do nothing: the parameters are here."""


class Replicas:
    """Epochs in which each worker trains a replica of the network, which are averaged.

    Parameters
    ----------
    job : Job
    task : shards.Task
    samples : Samples
    sync_every : int
        Batches of each replica between two averages.
    dropout : Dropout or None
    held_out : float
        Fraction of each shard that is not trained on.
    batch_size : int
        Samples per update of all replicas together.
    """

    def __init__(
        self,
        job: Job,
        task: shards.Task,
        samples: Samples,
        sync_every: int,
        dropout: Dropout | None,
        held_out: float,
        batch_size: int,
        *,
        order: NDArray | None = None,
    ) -> None:
        self.order = np.arange(0)
        self._job, self._task, self._samples = job, task, samples
        self._sync_every, self._dropout = sync_every, dropout
        self._held_out, self._batch_size = held_out, batch_size
        self._n_replicas = max(len(samples.cluster.present()), samples.cluster.n_seen)
        self._short_since = float("inf")

    def train_epoch(
        self, number: int, optimizer: Optimizer, on_samples: Callable[[int], None] | None
    ) -> float:
        """Train on every sample once; see `Pass`."""
        seed = int(self._job.random_state.randint(2**31))
        order = np.arange(len(self._samples))
        if self._job.model.shuffle:
            np.random.RandomState(seed).shuffle(order)
        dropout = self._dropout and replace(self._dropout, epoch=number)
        loss, n_done = 0.0, 0
        for wave in self._samples.waves(order):
            for found in self._rounds(wave, optimizer, seed, dropout):
                self._average(found, optimizer)
                loss += sum(part.loss for part in found)
                n_done += sum(part.n_samples for part in found)
                if on_samples is not None:
                    on_samples(n_done)
        return loss / n_done

    def _rounds(
        self, wave: Shards, optimizer: Optimizer, seed: int, dropout: Dropout | None
    ) -> Iterator[list[shards.Stepped]]:
        """Yield what the replicas have after each `sync_every` batches."""
        groups = wave.by_worker(range(len(wave)), self._count_replicas())
        size = max(1, round(self._batch_size / len(groups)))
        trained = [n - round(self._held_out * n) for n in wave.lengths]
        n_batches = [sum(-(-trained[place] // size) for place in g.places) for g in groups]
        most = max(n_batches)
        if not most:  # nothing but empty partitions, or rows that are held out
            return
        n_rounds = max(1, round(most / self._sync_every))  # without a short one at the end
        n_steps = -(-most // n_rounds)
        for first in range(0, most, n_steps):
            left = [g for g, n in zip(groups, n_batches, strict=True) if first < n]

            def call_of(group: Group, first: int = first) -> Call:
                steps = shards.Steps(
                    flat=self._job.parameters.flat,
                    optimizer=copy.copy(optimizer),
                    batch_size=size,
                    first=first,
                    n_batches=n_steps,
                    seed=seed,
                    numbers=[wave.numbers[place] for place in group.places],
                    starts=[wave.starts[place] for place in group.places],
                    shuffles=bool(self._job.model.shuffle),
                    dropout=dropout,
                )
                futures = [wave.futures[place] for place in group.places]
                passed = (futures, self._task, steps)
                return Call("mlp-steps", shards.local_steps, passed, group.worker)

            yield [part for part in wave.run(left, call_of) if part.n_samples]

    def _average(self, found: list[shards.Stepped], optimizer: Optimizer) -> None:
        """Take the means of the replicas' weights and states, by their samples."""
        n_samples = sum(part.n_samples for part in found)
        vectors = [self._job.parameters.flat, *optimizer.state]
        for place, vector in enumerate(vectors):
            mean = np.zeros(len(vector))
            for part in found:
                mean += (part.n_samples / n_samples) * [part.flat, *part.state][place]
            vector[...] = mean
        optimizer.updated(max(part.t for part in found))

    def _count_replicas(self) -> int:
        """Return the number of replicas.

        One for each worker; as many as before while a worker is gone for a short time only.
        """
        n_present, now = len(self._samples.cluster.present()), time.monotonic()
        if n_present >= self._n_replicas or now - self._short_since > _GONE:
            self._n_replicas, self._short_since = n_present, float("inf")
        else:
            self._short_since = min(self._short_since, now)
        return self._n_replicas


def _validate(job: Job, task: shards.Task, samples: Samples) -> tuple[float, float]:
    """Return loss and score on held-out samples."""
    flat = job.parameters.flat
    scored = []
    for wave in samples.waves():
        scored += wave.call("mlp-validate", shards.validate, task, flat)
    weight = sum(part.weight for part in scored)
    check_any_weight(np.array([weight]))
    loss = sum(part.loss for part in scored) / weight
    if job.encoding.classifies:
        return loss, sum(part.score for part in scored) / weight
    residuals = np.sum([part.residuals for part in scored if part.residuals is not None], axis=0)
    targets = reduce(operator.add, (part.targets for part in scored if part.targets is not None))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(targets.squares > 0, residuals / targets.squares, residuals > 0)
    return loss, float(np.mean(1 - ratio))
