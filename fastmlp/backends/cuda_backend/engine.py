"""The engine on a device, and predictions without an engine.

The interface is that of `fastmlp.backends.numpy_backend`. Data, order, parameters and optimizer
state are on the device; `sync` copies parameters and state to the host. uint8 and sparse data are
not converted until a batch is gathered.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from fastmlp.backends.cuda_backend import device
from fastmlp.backends.cuda_backend.kernels import kernels
from fastmlp.backends.cuda_backend.plan import (
    ARGUMENTS,
    BATCHES,
    GRADIENT,
    MAX_NORM,
    PREDICT,
    RATE,
    SETTINGS_AT,
    SQUARES,
    TOTAL_WEIGHT,
    UPDATE,
    Plan,
    pieces_of,
)
from fastmlp.core.arrays import activate
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.core.optimizers import OPTIMIZER_CODES
from fastmlp.core.random_bits import Dropout

#: Maximum time of a launch, in seconds, because it cannot be interrupted.
LAUNCH_SECONDS = 0.25

# What a first launch is assumed to do in a second: multiply-adds, and batches.
_ASSUMED_WORK, _ASSUMED_BATCHES = 2e11, 2e4


class Engine:
    """A network bound to its parameters and its data, on a device.

    See `fastmlp.backends.numpy_backend.Engine` for the interface. `n_threads` and `many_passes`
    are ignored.

    Parameters
    ----------
    cooperative : bool, optional
        For tests: one launch for many batches, or one for every stage. None takes the former if
        the device can.
    n_blocks : int, optional
        For tests: blocks of a launch; at most as many as the device has room for if cooperative.

    Attributes
    ----------
    seconds_compiling : float
        Time of compilation so far.
    """

    seconds_compiling: float = 0.0
    skips_zeros = False
    recoded = False
    threads_used = 0
    isa = ""

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        inputs: Inputs | None = None,
        targets: NDArray | None = None,
        sample_weight: NDArray | None = None,
        n_threads: int | None = None,
        many_passes: bool = False,
        *,
        cooperative: bool | None = None,
        n_blocks: int | None = None,
    ) -> None:
        self.network = network
        self.parameters = parameters
        self.inputs = inputs
        self.targets = targets
        self.sample_weight = sample_weight
        self.n_threads = n_threads
        self._dtype = parameters.flat.dtype
        shape = device.shape_for(self._dtype)
        self._n_threads = shape.n_threads  # of a block
        self._plan = Plan(network, shape, self._dtype)
        self._run_pieces, self._run_one = kernels(self._dtype, shape)
        if cooperative is None:
            cooperative = device.SIMULATED or bool(cuda.get_current_device().COOPERATIVE_LAUNCH)
        self._is_cooperative = cooperative
        self._n_blocks = n_blocks
        self._most_blocks: dict[np.dtype, int] = {}  # by the dtype of the inputs
        self._optimizer: Any = None
        self._is_trained = False  # the device's parameters are newer than the host's
        self._is_displaced = False  # the device has other parameters than the host
        self._arrays = device.Arrays()  # of training
        n_vectors = 1 if inputs is None else 4  # parameters, two of state, gradient
        n = network.n_parameters
        self._weights = self._arrays.room("weights", n_vectors * n, self._dtype)
        self._arrays.room("squares", 2 * self._plan.n_tiles, np.float64)
        self._weights[:n].copy_to_device(parameters.flat)
        if inputs is not None:
            assert targets is not None
            self.bind(inputs, targets, sample_weight)

    def bind(self, inputs: Inputs, targets: NDArray, sample_weight: NDArray | None) -> None:
        """Train on other samples; see the NumPy backend."""
        self.inputs, self.targets, self.sample_weight = inputs, targets, sample_weight
        self._put_inputs(self._arrays, inputs)
        parts = [targets.ravel()] + ([] if sample_weight is None else [sample_weight])
        self._arrays.put("labels", np.concatenate(parts))

    def train_epoch(
        self,
        order: NDArray,
        batch_size: int,
        optimizer: Any,
        dropout: Dropout | None = None,
        on_samples: Callable[[int], None] | None = None,
    ) -> float:
        """Train on every sample once; see the NumPy backend."""
        self._own_parameters()
        if optimizer is not self._optimizer:
            self.sync()
            for which, state in enumerate(optimizer.state, start=1):
                self._vector(which).copy_to_device(state)
            self._optimizer = optimizer
        weight = self.sample_weight
        starts = np.arange(0, len(order), batch_size)
        sizes = np.minimum(batch_size, len(order) - starts)
        totals = sizes.astype(np.float64)
        if weight is not None:
            totals = np.add.reduceat(weight[order].astype(np.float64), starts)
        is_live = totals != 0
        n_live = np.cumsum(is_live)

        steps = self._plan.steps(totals, dropout)
        batches = self._plan.batches(steps)
        mode = UPDATE + OPTIMIZER_CODES[optimizer.name]
        settings = optimizer.settings()
        steps[SETTINGS_AT:BATCHES] = settings
        steps[MAX_NORM] = optimizer.max_grad_norm
        batches[:, RATE] = settings[0]
        t = optimizer.t
        if optimizer.corrects_bias:
            batches[:, RATE] = [optimizer.corrected_rate(t + max(n, 1)) for n in n_live.tolist()]

        self._is_trained = True
        done = 0
        try:
            for done in self._run(self._arrays, mode, order, batch_size, steps, dropout):
                if on_samples is not None:
                    on_samples(min(done * batch_size, len(order)))
        finally:
            if done and n_live[done - 1]:
                optimizer.updated(t + int(n_live[done - 1]))
        return float((self._losses(starts, totals) * sizes)[is_live].sum())

    def loss_and_gradient(
        self, flat: NDArray, out: NDArray, dropout: Dropout | None = None
    ) -> float:
        """Compute the objective over all samples, and its gradient; see the NumPy backend."""
        assert self.inputs is not None
        self.sync()
        self._is_displaced = True
        self._vector(0).copy_to_device(np.ascontiguousarray(flat))
        n, weight = self.inputs.n_samples, self.sample_weight
        totals = np.array([n if weight is None else weight.sum(dtype=np.float64)], np.float64)
        steps = self._plan.steps(totals, dropout)
        for _ in self._run(self._arrays, GRADIENT, np.arange(n), n, steps, dropout):
            pass
        out[...] = self._vector(3).copy_to_host()
        return float(self._losses(np.zeros(1, np.int64), totals)[0])

    def predict(self, inputs: Inputs, out: NDArray) -> bool:
        """Compute the outputs of the network; see the NumPy backend."""
        self._own_parameters()
        arrays = device.Arrays(weights=self._weights, squares=self._arrays["squares"])
        arrays.put("labels", np.zeros(1, self._dtype))
        all_finite = True
        n_at_once = self._plan.rows_at_once(inputs.n_samples)
        for start in range(0, inputs.n_samples, n_at_once):
            n = min(n_at_once, inputs.n_samples - start)
            chunk = inputs.values[start : start + n]
            self._put_inputs(arrays, Inputs(chunk, inputs.dtype, inputs.scale, inputs.shift))
            arrays.put("losses", np.zeros(n))
            for _ in self._run(arrays, PREDICT, np.arange(n), n, self._plan.steps(np.ones(1))):
                pass
            place = self._plan.places(n)[1][-1]
            size = n * self.network.n_outputs
            outputs = arrays["rows"][place : place + size].copy_to_host()
            out[start : start + n] = outputs.reshape(n, -1)
            all_finite &= not arrays["losses"].copy_to_host().any()
        return all_finite

    def load(self) -> None:
        """Take the host's parameters anew; see the NumPy backend."""
        self._optimizer = None
        self._is_trained, self._is_displaced = False, True

    def sync(self) -> None:
        """Update the host's parameters and optimizer state."""
        if not self._is_trained:
            return
        for which, vector in enumerate([self.parameters.flat, *self._optimizer.state]):
            vector[...] = self._vector(which).copy_to_host()
        self._optimizer = None
        self._is_trained = False

    def _vector(self, which: int) -> Any:
        """Return the parameters (0), a vector of state (1, 2) or the gradient (3)."""
        n = self.network.n_parameters
        return self._weights[which * n : (which + 1) * n]

    def _own_parameters(self) -> None:
        """Restore the engine's parameters after `loss_and_gradient` has replaced them."""
        if self._is_displaced:
            self._vector(0).copy_to_device(self.parameters.flat)
            self._is_displaced = False

    def _put_inputs(self, arrays: device.Arrays, inputs: Inputs) -> None:
        """Copy inputs to the device."""
        values, places = inputs.values, np.zeros(1, np.int64)
        if inputs.is_sparse:
            if not values.has_canonical_format:  # an element in two parts would be a race
                values = values.copy()
                values.sum_duplicates()
            places = np.concatenate([values.indptr, values.indices], dtype=np.int64)
            values = values.data
        # Empty arrays are not supported on a device.
        arrays.put("values", values.ravel() if values.size else np.zeros(1, values.dtype))
        arrays.put("places", places)
        affine = [np.zeros(1, self._dtype)] if inputs.scale is None else [inputs.scale]
        if inputs.shift is not None:
            affine.append(inputs.shift)
        arrays.put("affine", np.concatenate(affine))
        arrays.inputs = inputs

    def _losses(self, starts: NDArray, totals: NDArray) -> NDArray:
        """Return each batch's objective after a run."""
        losses = np.add.reduceat(self._arrays["losses"].copy_to_host(), starts)
        squares = self._plan.batches(self._arrays["steps"].copy_to_host())[:, SQUARES]
        with np.errstate(divide="ignore", invalid="ignore"):  # batches without weight
            return (losses + 0.5 * self.network.alpha * squares) / totals

    # -- launches --

    def _run(
        self,
        arrays: device.Arrays,
        mode: int,
        order: NDArray,
        batch_size: int,
        steps: NDArray,
        dropout: Dropout | None = None,
    ) -> Iterator[int]:
        """Launch; yield the number of finished batches as often as Ctrl-C may be looked for."""
        n = len(order)
        n_at_once = self._plan.rows_at_once(min(batch_size, n))
        is_fused = self._plan.is_fused(n_at_once)
        pieces = pieces_of(n, batch_size, n_at_once)
        stages = self._plan.stages(mode, is_fused, steps[MAX_NORM] > 0)
        inputs = arrays.inputs
        is_weighted = self.sample_weight is not None
        table = self._plan.table(inputs, n_at_once, stages, len(steps), dropout, is_weighted)
        arrays.put("table", table)
        arrays.put("pieces", pieces.ravel())
        arrays.put("steps", steps)
        arrays.put("order", np.ascontiguousarray(order, np.int64))
        arrays.room("rows", self._plan.places(n_at_once)[-1], self._dtype)
        arrays.room("losses", n, np.float64)
        arguments = [*(arrays[name] for name in ARGUMENTS), mode]
        n_blocks = self._plan.useful_blocks(mode, n_at_once, is_fused)
        bounds = np.searchsorted(pieces[:, 2], np.arange(pieces[-1, 2] + 2)).tolist()
        if self._is_cooperative:
            runs = self._run_cooperatively(arguments, n_blocks, bounds, batch_size)
        else:
            is_live = self._plan.batches(steps)[:, TOTAL_WEIGHT] != 0
            runs = self._run_one_by_one(arguments, n_blocks, bounds, stages, is_live)
        # What a launch has begun will be done when the device is asked next: batches count as
        # finished from then on, whenever Ctrl-C comes.
        for done in runs:
            yield done
            cuda.synchronize()

    def _run_cooperatively(
        self, arguments: list[Any], n_blocks: int, bounds: list[int], batch_size: int
    ) -> Iterator[int]:
        """Launch many batches at once."""
        kernel = self._compiled(self._run_pieces, [*arguments, 0, 0])
        launch = device.configured(
            kernel, min(n_blocks, self._room_for_blocks(kernel, arguments)), self._n_threads
        )
        n_batches = len(bounds) - 1
        work = 3 * self.network.n_parameters * batch_size / _ASSUMED_WORK + 1 / _ASSUMED_BATCHES
        done, at_once = 0, max(1, int(LAUNCH_SECONDS / work))
        while done < n_batches:
            first, done = done, min(done + at_once, n_batches)
            started = time.perf_counter()
            launch(*arguments, bounds[first], bounds[done])
            yield done
            seconds = max(time.perf_counter() - started, 1e-6)
            at_once = max(1, min(2 * at_once, int((done - first) * LAUNCH_SECONDS / seconds)))

    def _run_one_by_one(
        self,
        arguments: list[Any],
        n_blocks: int,
        bounds: list[int],
        stages: list[tuple[int, int]],
        is_live: NDArray,
    ) -> Iterator[int]:
        """Launch each stage of each piece separately."""
        kernel = self._compiled(self._run_one, [*arguments, 0, 0, 0])
        launch = device.configured(kernel, self._n_blocks or min(n_blocks, 4096), self._n_threads)
        skipped = 1 if arguments[-1] == PREDICT else 0  # weights are measured once
        seen = time.perf_counter()
        for batch in range(len(bounds) - 1):
            if is_live[batch]:
                for piece in range(bounds[batch], bounds[batch + 1]):
                    for stage, layer in stages[skipped:]:
                        launch(*arguments, piece, stage, layer)
                    skipped = 1
            if time.perf_counter() - seen > LAUNCH_SECONDS or batch == len(bounds) - 2:
                yield batch + 1
                seen = time.perf_counter()

    def _compiled(self, kernel: Any, arguments: list[Any]) -> Any:
        """Return the kernel for arguments of these types."""
        if device.SIMULATED:
            return kernel
        started, known = time.perf_counter(), len(kernel.specializations)
        specialized = kernel.specialize(*arguments)
        if len(kernel.specializations) > known:
            self.seconds_compiling += time.perf_counter() - started
        return specialized

    def _room_for_blocks(self, kernel: Any, arguments: list[Any]) -> int:
        """Return how many blocks of a cooperative launch the device has room for, or fewer."""
        if device.SIMULATED:
            return 1  # the simulator does not synchronize blocks
        dtype = arguments[ARGUMENTS.index("values")].dtype
        if dtype not in self._most_blocks:
            (compiled,) = kernel.overloads.values()
            room = compiled.max_cooperative_grid_blocks(self._n_threads)
            self._most_blocks[dtype] = min(room, self._n_blocks or room)
        return self._most_blocks[dtype]


# ---- without an engine -------------------------------------------------------------------------


#: Maximum number of rows that are predicted on the host, which is faster than copying the weights
#: to the device.
_FEW_ROWS = 16


def predict(
    network: Network,
    coefs: Sequence[NDArray],
    intercepts: Sequence[NDArray],
    inputs: Inputs,
    n_threads: int | None,
    out: NDArray,
) -> bool:
    """Compute the outputs of a network without an engine; see the NumPy backend."""
    if inputs.n_samples > _FEW_ROWS:
        parameters = Parameters.from_layers(network, coefs, intercepts, out.dtype)
        return Engine(network, parameters, n_threads=n_threads).predict(inputs, out)
    X = inputs.values
    if not np.isfinite(X.data if inputs.is_sparse else X).all():
        return False
    A = X.astype(out.dtype, copy=False)
    if inputs.scale is not None and inputs.shift is not None:
        A = (
            A.multiply(inputs.scale).tocsr()
            if inputs.is_sparse
            else A * inputs.scale + inputs.shift
        )
    last = len(coefs) - 1
    for layer, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
        Z = A @ coef + intercept
        activate(network.output_activation if layer == last else network.activation, Z)
        A = Z
    out[...] = A
    return True
