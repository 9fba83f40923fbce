"""The engine of the Numba backend, and predictions without an engine.

See `fastmlp.backends.numpy_backend` for the interface, ``kernels.py`` for the algorithm, and
``team.py`` for the threads.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numba import typeof
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from fastmlp.backends.numba_backend import kernels
from fastmlp.backends.numba_backend.kernels import BYTES, CSR, DENSE, Data, Net, Scratch
from fastmlp.backends.numba_backend.team import in_threads
from fastmlp.core.functions import ACTIVATIONS, CODES
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.core.optimizers import OPTIMIZER_CODES
from fastmlp.core.random_bits import Dropout
from fastmlp.utils.terminal import shows_progress
from fastmlp.utils.threads import usable_threads

#: Bytes of gathered inputs that one chunk may take: about a second-level cache; and its rows.
_CHUNK_BYTES = 1 << 20
_CHUNK_ROWS_MAX, _CHUNK_ROWS_MIN = 1024, 48

#: Minimum multiplications per thread, and maximum between checks for Ctrl-C.
_THREAD_WORK = 1_000_000
_UNINTERRUPTED_WORK = 200_000_000

#: Maximum number of rows for which using the weights without packing is faster.
_FEW_ROWS = 16

#: Rows that predict looks for Ctrl-C after, in multiplications.
_PREDICT_WORK = 2_000_000_000


class Engine:
    """A network bound to its parameters and its data.

    See `fastmlp.backends.numpy_backend.Engine` for the interface. This one trains on copies of the
    parameters and the optimizer's state, padded to whole vectors; `sync` writes them back.
    """

    seconds_compiling = 0.0
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
    ) -> None:
        self.network = network
        self.parameters = parameters
        self.inputs = inputs
        self.targets = targets
        self.sample_weight = sample_weight
        self.n_threads = n_threads
        self._threads = min(usable_threads() if n_threads is None else int(n_threads), 64)
        if kernels.IS_PLAIN:
            self._threads = 1
        self._dtype = parameters.flat.dtype
        self._layers, self._n_padded, self._n_transposed = _layers(network, self._dtype)
        self._weights = self._padded(parameters.flat)
        self._trained = False  # the engine's parameters are newer than the host's
        self._displaced = False  # the host may have replaced them since
        self._optimizer: Any = None
        self._state: list[NDArray] = []
        self._training_scratch: Scratch | None = None
        self._data = None if inputs is None else self._describe(inputs, targets, sample_weight)
        self._blocks = _blocks(self._layers, self._dtype, self._data)

    @property
    def skips_zeros(self) -> bool:
        """Whether training skips zeros of the inputs."""
        return self._data is not None and bool(self._data.skips_zeros)

    def bind(self, inputs: Inputs, targets: NDArray, sample_weight: NDArray | None) -> None:
        """Train on other samples; see the NumPy backend."""
        self.inputs, self.targets, self.sample_weight = inputs, targets, sample_weight
        self._data = self._describe(inputs, targets, sample_weight, like=self._data)
        self._blocks = _blocks(self._layers, self._dtype, self._data)
        scratch = self._training_scratch
        if scratch and len(scratch.list_rows) < _list_room(self._data, len(scratch.losses)):
            self._training_scratch = None

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
            self._state = [self._padded(state) for state in optimizer.state]
            self._optimizer = optimizer
        head = (OPTIMIZER_CODES[optimizer.name], optimizer.corrects_bias, optimizer.max_grad_norm)
        description = np.array([*head, *optimizer.settings()], float)
        self._trained = True
        net = self._net(self._weights, *self._state, dropout=dropout)
        order = np.array(order, dtype=np.int64)  # a copy may be written to, as kernels may all else
        if self._training_scratch is not None:
            self._training_scratch.team[kernels.UPDATES] = 0  # of another optimizer
        try:
            return self._train(net, order, batch_size, description, optimizer.t, on_samples)
        finally:
            optimizer.updated(self._updates())

    def loss_and_gradient(
        self, flat: NDArray, out: NDArray, dropout: Dropout | None = None
    ) -> float:
        """Compute the objective over all samples, and its gradient; see the NumPy backend."""
        assert self.inputs is not None
        self.sync()
        self._displaced = True
        n = self.inputs.n_samples
        gradient = _zeros(len(self._weights), self._dtype)
        net = self._net(self._padded(flat), gradient=gradient, dropout=dropout)
        loss = self._train(net, np.arange(n), n, np.empty(0), 0)
        self._unpadded(net.gradient, out)
        return loss / n

    def predict(self, inputs: Inputs, out: NDArray) -> bool:
        """Compute the outputs of the network; see the NumPy backend."""
        self._own_parameters()
        net, data = self._net(self._weights), self._describe(inputs)
        some = max(1024, _PREDICT_WORK // self.network.n_parameters)
        scratch = self._scratch(data, min(some, len(out)))
        n_threads = min(self._useful_threads(len(out) // 3), len(scratch.losses))
        self._compile(kernels.predict, net, data, scratch, out, 0, n_threads)
        all_finite = True
        for at in range(0, len(out), some):
            part = (
                net,
                _rows(data, self.network.n_features, at, at + some),
                scratch,
                out[at : at + some],
            )
            found, interrupted = in_threads(partial(kernels.predict, *part), n_threads, scratch)
            if interrupted:
                raise KeyboardInterrupt
            all_finite &= all(found)
        return all_finite

    def load(self) -> None:
        """Take the host's parameters anew; see the NumPy backend."""
        self._state, self._optimizer = [], None
        self._trained, self._displaced = False, True

    def sync(self) -> None:
        """Update the host's parameters and optimizer state."""
        if not self._trained:
            return
        self._unpadded(self._weights, self.parameters.flat)
        for ours, host in zip(self._state, self._optimizer.state, strict=True):
            self._unpadded(ours, host)
        self._state = []  # two copies of it would be the peak of memory
        self._optimizer = None
        self._trained = False

    def _own_parameters(self) -> None:
        """Copy the host's parameters, which the caller of `loss_and_gradient` sets."""
        if self._displaced:
            self._weights = self._padded(self.parameters.flat)
            self._displaced = False

    def _train(
        self,
        net: Net,
        order: NDArray,
        batch_size: int,
        optimizer: NDArray,
        t: int,
        on_samples: Callable[[int], None] | None = None,
    ) -> float:
        """Train on the samples of the order, after t updates; return the summed loss."""
        data = self._data
        assert data is not None
        scratch = self._training_scratch
        n_rows = min(batch_size, len(order), self._chunk_limit(data))
        if scratch is None or len(scratch.losses) < n_rows:
            self._training_scratch = scratch = self._scratch(data, n_rows, for_training=True)
        clips = len(optimizer) > 0 and optimizer[kernels.MAX_NORM] > 0
        if (clips or batch_size > len(scratch.losses)) and len(net.gradient) == 0:
            net = net._replace(gradient=_zeros(len(net.weights), self._dtype))
        given = net, data, scratch, order, batch_size, optimizer, t
        self._compile(kernels.prepare, net)
        self._compile(kernels.train, *given, 0, 1)
        kernels.prepare(net)
        work = self.network.n_parameters * len(order)

        def tell() -> None:
            if on_samples is not None and self._updates() > t:
                on_samples(min((self._updates() - t) * batch_size, len(order)))

        self.threads_used = self._useful_threads(batch_size)
        results, interrupted = in_threads(
            partial(kernels.train, *given),
            self.threads_used,
            scratch,
            is_short=work < _UNINTERRUPTED_WORK,
            meanwhile=tell,
        )
        if interrupted:
            raise KeyboardInterrupt
        return results[0]

    def _updates(self) -> int:
        """Return the number of updates so far, as the kernels have left it; 0 if they have not."""
        scratch = self._training_scratch
        return 0 if scratch is None else int(scratch.team[kernels.UPDATES])

    def _useful_threads(self, n_rows: int) -> int:
        """With too many threads, barriers cost more than they save."""
        limit = 1 + 6 * self.network.n_parameters * n_rows // _THREAD_WORK
        return min(self._threads, limit)

    def _net(
        self,
        weights: NDArray,
        state_1: NDArray | None = None,
        state_2: NDArray | None = None,
        gradient: NDArray | None = None,
        *,
        dropout: Dropout | None = None,
    ) -> Net:
        none, n_hidden = np.empty(0, self._dtype), len(self._layers) - 1
        kept, draws = np.ones(n_hidden), np.zeros(kernels.THRESHOLDS + n_hidden, np.uint64)
        if dropout is not None:
            kept -= dropout.rates
            draws[:] = [
                *dropout.key, dropout.epoch, dropout.start, *map(dropout.threshold, range(n_hidden))
            ]  # fmt: skip
        return Net(
            layers=self._layers,
            blocks=self._blocks,
            hidden=CODES[self.network.activation],
            reads_z=ACTIVATIONS[self.network.activation].reads_z,
            output=CODES[self.network.output_activation],
            is_squared=self.network.loss == "squared_error",
            alpha=float(self.network.alpha),
            weights=weights,
            transposed=_zeros(self._n_transposed, self._dtype),
            state_1=none if state_1 is None else state_1,
            state_2=none if state_2 is None else state_2,
            gradient=none if gradient is None else gradient,
            squares=np.zeros(len(self._blocks)),
            gradient_squares=np.zeros(len(self._blocks)),
            kept=kept,
            draws=draws,
        )

    def _padded(self, flat: NDArray) -> NDArray:
        """Return a flat vector in the layout of the kernels."""
        to = _zeros(self._n_padded, self._dtype)
        self._copy(Parameters(self.network, flat), to, into=True)
        return to

    def _unpadded(self, padded: NDArray, flat: NDArray) -> None:
        """Copy a vector of the kernels' layout into a flat one."""
        self._copy(Parameters(self.network, flat), padded, into=False)

    def _copy(self, parameters: Parameters, padded: NDArray, into: bool) -> None:
        layers = zip(self._layers, parameters.coefs, parameters.intercepts, strict=True)
        for row, coef, intercept in layers:
            n_in, n_out, width = row[[kernels.N_IN, kernels.N_OUT, kernels.WIDTH]]
            at = row[kernels.WEIGHTS_AT]
            rows = padded[at : at + (n_in + 1) * width].reshape(n_in + 1, width)[:, :n_out]
            if into:
                rows[:-1], rows[-1] = coef, intercept
            else:
                coef[...], intercept[...] = rows[:-1], rows[-1]

    def _describe(
        self,
        inputs: Inputs,
        targets: NDArray | None = None,
        sample_weight: NDArray | None = None,
        like: Data | None = None,
    ) -> Data:
        """Return the kernels' view of samples, with the settings of earlier ones."""
        dtype, values = self._dtype, inputs.values
        none, n = np.empty(0, dtype), inputs.n_samples
        matrix: dict[str, Any] = {
            "byte_values": np.empty(0, np.uint8),
            "values": none,
            "stored": none,
            "indices": np.empty(0, np.int32),
            "indptr": np.empty(0, np.int64),
        }
        if inputs.is_sparse:
            stored = (
                values.data if inputs.scale is None else values.data * inputs.scale[values.indices]
            )
            matrix["stored"] = _plain(stored, dtype)
            matrix["indices"] = _plain(values.indices, np.int32)
            matrix["indptr"] = _plain(values.indptr, np.int64)
        else:
            matrix["byte_values" if values.dtype == np.uint8 else "values"] = _plain(values.ravel())
        skips_zeros = inputs.is_mostly_zeros() if like is None else like.skips_zeros
        scale = none if inputs.scale is None or inputs.is_sparse else _plain(inputs.scale)
        shift = none if inputs.shift is None or inputs.is_sparse else _plain(inputs.shift)
        factor = scale[0] if len(scale) else dtype.type(1)
        return Data(
            kind=CSR if inputs.is_sparse else BYTES if values.dtype == np.uint8 else DENSE,
            n_samples=n,
            skips_zeros=skips_zeros,
            keeps_bytes=bool(skips_zeros and values.dtype == np.uint8 and np.all(scale == factor)),
            **matrix,
            scale=scale,
            shift=shift,
            table=np.arange(256, dtype=dtype) * factor,
            is_shifted=bool(np.any(shift)),
            targets=none if targets is None else _plain(targets, dtype).ravel(),
            weights=none if sample_weight is None else _plain(sample_weight, dtype),
        )

    def _chunk_limit(self, data: Data) -> int:
        """Rows of a chunk at most, which depend on the inputs only, so that sums do, too."""
        if data.kind == CSR:
            return _CHUNK_ROWS_MAX
        limit = _CHUNK_BYTES // (self.network.n_features * self._dtype.itemsize)
        return int(np.clip(limit, _CHUNK_ROWS_MIN, _CHUNK_ROWS_MAX))

    def _scratch(self, data: Data, n_rows: int, for_training: bool = False) -> Scratch:
        dtype, n_in, threads = self._dtype, self.network.n_features, self._threads
        rows = min(n_rows, self._chunk_limit(data))
        n_masks = -(-n_in // kernels.MASK_BITS)
        # Whole masks, and an odd number of cache lines, so that a column of rows does not fall
        # into few sets of the cache.
        itemsize = 1 if data.keeps_bytes else dtype.itemsize
        stride = _odd_lines(n_masks * kernels.MASK_BITS, itemsize)
        n_gathered = rows * stride if data.kind != CSR else 0
        widths = self._layers[:, kernels.WIDTH]
        width = int(widths[0])
        n_units = int(widths.sum()) * rows
        n_features = n_in if data.kind == CSR and for_training else 0
        keeps_slopes = for_training and ACTIVATIONS[self.network.activation].reads_z
        room = _list_room(data, rows) if for_training else 0
        most = max(kernels.TILE_VECTORS, kernels.SKIPPING_VECTORS) * kernels.lanes(dtype)
        n_feature_masks = -(-rows // kernels.MASK_BITS) * kernels.MASK_BITS // kernels.MASKED_ROWS
        return Scratch(
            n_threads=threads,
            rows_at=(np.cumsum(widths) - widths) * rows,
            stride=stride,
            X=_zeros(0 if data.keeps_bytes else n_gathered, dtype),
            byte_X=_zeros(n_gathered if data.keeps_bytes else 0, np.uint8),
            n_masks=n_masks,
            masks=np.zeros(rows * n_masks, np.uint64),
            A=_zeros(n_units, dtype),
            D=_zeros(n_units if for_training else 0, dtype),
            factors=_zeros(n_units if for_training else 0, dtype),
            slopes=_zeros(n_units if keeps_slopes else 0, dtype),
            losses=np.zeros(rows),
            sample_weights=np.zeros(rows, dtype),
            list_start=np.zeros(n_features + 1, np.int64),
            list_next=np.zeros(n_features, np.int64),
            list_rows=np.zeros(room, np.int32),
            list_values=_zeros(room, dtype),
            sums=_zeros(threads * kernels.MASK_BITS * most, dtype),
            starts=_zeros(threads * width, dtype),
            delta_sums=_zeros(threads * width, dtype),
            feature_masks=np.zeros(threads * n_feature_masks, np.uint64),
            steps=_zeros(threads * kernels.STEP_SIZE, dtype),
            zeros=_zeros(int(widths.max()), dtype),
            ones=np.ones(1, dtype),
            team=np.zeros(64, np.int64),
        )

    def _compile(self, kernel: Any, *arguments: Any) -> None:
        """Compile a kernel for these arguments, and record the time."""
        self.seconds_compiling += _compile(kernel, self._dtype, *arguments)


def _compile(kernel: Any, dtype: np.dtype, *arguments: Any) -> float:
    """Compile a kernel, once per dtype; return the seconds, or 0 if it was on disk."""
    if kernels.IS_PLAIN or (kernel, dtype) in _compiled:
        return 0.0
    start, hits = time.perf_counter(), sum(kernel.stats.cache_hits.values())
    signature = tuple(typeof(argument) for argument in arguments)
    patience = threading.Timer(1.0, _say_that_it_compiles)  # from disk, it takes less
    patience.daemon = True
    patience.start()
    try:
        kernel.compile(signature)
    except OSError:
        if signature not in kernel.signatures:
            raise
        # It is compiled, but the disk is full.
    finally:
        patience.cancel()
    _compiled.add((kernel, dtype))
    is_new = sum(kernel.stats.cache_hits.values()) == hits
    return time.perf_counter() - start if is_new else 0.0


def _say_that_it_compiles() -> None:
    """Print in a terminal that kernels are being compiled."""
    if shows_progress(sys.stderr):
        print("Numba compiles its kernels, once; that takes some 20 s.", file=sys.stderr)  # noqa: T201


#: Kernels that have been compiled in this process, with the dtype.
_compiled: set[tuple[Any, np.dtype]] = set()


def predict(
    network: Network,
    coefs: Sequence[NDArray],
    intercepts: Sequence[NDArray],
    inputs: Inputs,
    n_threads: int | None,
    out: NDArray,
) -> bool:
    """Compute the outputs of a network without an engine; see the NumPy backend.

    Few rows are weighed where the weights lie; for more, an engine packs these. Of CSR rows only
    those weights are taken that they need. Float32 weights of a float64 network are converted.
    """
    if inputs.is_sparse:
        network, coefs, inputs = _stored_features(network, coefs, inputs)
    if inputs.n_samples <= _FEW_ROWS:
        return _predict_few(network, coefs, intercepts, inputs, out)
    parameters = Parameters.from_layers(network, coefs, intercepts, out.dtype)
    return Engine(network, parameters, n_threads=n_threads).predict(inputs, out)


def _stored_features(
    network: Network, coefs: Sequence[NDArray], inputs: Inputs
) -> tuple[Network, Sequence[NDArray], Inputs]:
    """Return the network and CSR rows without the features that no row has, if these are many."""
    X, n_features = inputs.values, network.n_features
    if 2 * X.nnz > n_features:
        return network, coefs, inputs
    features, indices = np.unique(X.indices, return_inverse=True)
    if not len(features):  # all rows are empty, but a network has inputs
        features = np.zeros(1, np.intp)
    units = (len(features), *network.layer_units[1:])
    few = csr_matrix((X.data, indices, X.indptr), shape=(X.shape[0], len(features)))
    scale = None if inputs.scale is None else inputs.scale[features]
    shift = None if inputs.shift is None else inputs.shift[features]
    return (
        replace(network, layer_units=units),
        [coefs[0][features], *coefs[1:]],
        Inputs(few, inputs.dtype, scale, shift),
    )


def _predict_few(
    network: Network,
    coefs: Sequence[NDArray],
    intercepts: Sequence[NDArray],
    inputs: Inputs,
    out: NDArray,
) -> bool:
    """Compute the outputs for a few samples, a layer at a time."""
    X = inputs.values.toarray() if inputs.is_sparse else inputs.values
    if not np.isfinite(X).all():
        return False
    values = np.array(X, out.dtype)
    if inputs.scale is not None:
        values *= inputs.scale
        values += inputs.shift
    top = len(coefs) - 1
    for layer, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
        name = network.output_activation if layer == top else network.activation
        following = out if layer == top else np.empty((len(X), coef.shape[1]), out.dtype)
        weights = _plain(coef, out.dtype), _plain(intercept, out.dtype)
        given = (CODES[name], values, *weights, following)
        _compile(kernels.few_rows, out.dtype, *given)
        kernels.few_rows(*given)
        values = following
    return True


def _layers(network: Network, dtype: np.dtype) -> tuple[NDArray, int, int]:
    """Return the kernels' table of layers, and the lengths of its vectors."""
    lanes = kernels.lanes(dtype)
    at = transposed_at = 0
    rows = []
    for layer, (n_in, n_out) in enumerate(pairwise(network.layer_units)):
        width, back = (-(-n // lanes) * lanes for n in (n_out, n_in))
        rows.append([n_in, n_out, width, back, at, at + n_in * width, transposed_at])
        at += (n_in + 1) * width
        transposed_at += n_out * back if layer else 0
    return np.array(rows, np.int64), at, transposed_at


def _blocks(layers: NDArray, dtype: np.dtype, data: Data | None) -> NDArray:
    """Return the kernels' table of blocks, for training on this data."""
    lanes = kernels.lanes(dtype)
    blocks = []
    for layer, (n_in, width) in enumerate(layers[:, [kernels.N_IN, kernels.WIDTH]].tolist()):
        rows, panel = kernels.BLOCK_ROWS, kernels.TILE_VECTORS * lanes
        if layer == 0 and data is not None and (data.kind == CSR or data.skips_zeros):
            rows = kernels.MASK_BITS
            panel = kernels.panel_units(width, lanes, kernels.SKIPPING_VECTORS)
        blocks += [
            [layer, row, min(rows, n_in - row), first, min(panel, width - first)]
            for row in range(0, n_in, rows)
            for first in range(0, width, panel)
        ]
    return np.array(blocks, np.int64)


def _rows(data: Data, n_in: int, start: int, stop: int) -> Data:
    """Return some samples of the data."""
    part: dict[str, Any] = {"n_samples": min(stop, data.n_samples) - start}
    if data.kind == CSR:
        part["indptr"] = data.indptr[start : stop + 1]
    elif data.kind == BYTES:
        part["byte_values"] = data.byte_values[start * n_in : stop * n_in]
    else:
        part["values"] = data.values[start * n_in : stop * n_in]
    return data._replace(**part)


def _list_room(data: Data, n_rows: int) -> int:
    """Return the most stored values that a chunk of so many CSR rows may have."""
    return int(np.sort(np.diff(data.indptr))[-n_rows:].sum())


def _odd_lines(n: int, itemsize: int) -> int:
    """Return the elements of the least odd number of cache lines that have room for n."""
    return (-(-n * itemsize // 64) | 1) * 64 // itemsize


def _zeros(n: int, dtype: Any) -> NDArray:
    """Return zeros aligned to a cache line: vectors across two lines take twice as long."""
    n_bytes = int(n) * np.dtype(dtype).itemsize
    memory = np.zeros(n_bytes + 64, np.uint8)
    at = -memory.ctypes.data % 64
    return memory[at : at + n_bytes].view(dtype)


class _Writable:
    """Presents possibly read-only memory to NumPy as a writable array."""

    def __init__(self, array: NDArray) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.owner = array


def _plain(array: NDArray, dtype: Any = None) -> NDArray:
    """Return an array for the signature of the kernels, copied only if necessary.

    Read-only arrays are another type in Numba and would be compiled separately. Kernels do not
    write to inputs.
    """
    array = np.ascontiguousarray(array, dtype=dtype)
    return (
        array
        if array.flags.writeable and type(array) is np.ndarray
        else np.asarray(_Writable(array))
    )
