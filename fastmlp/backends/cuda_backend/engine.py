"""The GPU backend: whole epochs in one cooperative launch, by numba.cuda.

The contract is that of `fastmlp.backends.numpy_backend`; here stands how it is kept on a device.
Data, order, parameters and optimiser state lie on the device; parameters and state come home in
``sync``. Bytes stay bytes and sparse rows stay sparse; a batch is converted when it is gathered.

A *piece* is a batch, or a part of one that the scratch memory holds. It passes through *stages*,
and all blocks meet after each of them. Every stage is a number of independent items (samples or
tiles), and block b takes items b, b + n_blocks, ... There are no atomics, and every sum has one
order that depends on the shapes only, so results are equal bit by bit from run to run and whatever
the number of blocks. Two lists of stages do the same:

- Small networks, where waiting is all that costs (`_is_fused`), take two stages. ``SAMPLES``: a
  block takes two samples through the whole network and back, in shared memory. ``WEIGHTS``: a
  block takes a tile of weights, sums their gradient over the batch, and updates them at once.
- Others take a stage per layer and direction, each a product of matrices in tiles.

Where the device cannot launch cooperatively, every stage is a launch of its own, of the same
functions. The simulator of numba (NUMBA_ENABLE_CUDASIM=1) runs both, with one block at a time.

Sparse rows are expanded when a batch is gathered: dense arithmetic costs a device less than lists
per feature would, as long as the batch fits its memory.

The floor of an epoch, derived and not measured, for 784-50-10 in float32 on 60 000 rows of bytes in
batches of 200, on a device that does 128 multiply-adds, reads 32 numbers of shared memory and 64
bytes of the second-level cache per cycle and multiprocessor, at least 104 of which it has:

- meetings: 300 batches x 2. Their latency is the device's (benchmarks/gpu_timings.py measures it).
- SAMPLES: 100 pairs of samples, each of which reads all weights once: 159 kB, 2 500 cycles, and
  does 80 000 multiply-adds, 620 cycles.
- WEIGHTS: 104 tiles of 16 x 32 weights. Each reads 200 x 48 numbers (38 kB, 600 cycles) and does
  102 000 multiply-adds (800 cycles). A thread with 4 x 4 sums reads half a number for each
  (1 600 cycles), which is the bound.
- memory: 47 MB of bytes per epoch, a few hundredths of a millisecond at terabytes a second.

That is 4 100 cycles per batch and 1.2 million per epoch, 0.7 ms at 1.75 GHz, and 600 meetings.
What comes on top is latency: a stage is a chain of reads and of meetings of a block's threads.
"""

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.core.random_bits import Dropout, philox_words

try:
    # numba-cuda, the maintained package, takes the place of the numba.cuda inside numba by itself;
    # what is used here both have.
    from numba import config, cuda
except ImportError as error:
    raise ImportError("numba is not installed (pip install 'fastmlp[cuda]')") from error

SIMULATED = bool(config.ENABLE_CUDASIM)


def _reason_against() -> str:
    """Return why no kernel can run here, in words; nothing if it can."""
    if SIMULATED:
        return ""
    reason = cuda.cuda_error()
    if not reason and cuda.is_available():
        return "" if len(cuda.gpus) else "no CUDA device was found"
    reason = str(cuda.cuda_error() or "")
    if "NO_DEVICE" in reason or "no CUDA-capable device" in reason:
        return "no CUDA device was found"
    if not reason:
        return "the CUDA toolkit was not found (pip install 'fastmlp[cuda]')"
    if "cannot be found" in reason:
        return "no CUDA driver was found; if there is one, set NUMBA_CUDA_DRIVER to its library"
    return f"no CUDA driver can be used: {' '.join(reason.split())}"


if _reason_against():
    raise ImportError(_reason_against())

# ---- what host and kernels agree on ------------------------------------------------------------

# Samples that a block takes at once. Kernels write out two sums; more would share the reads of
# weights among more samples, but leave multiprocessors without any.
GROUP = 2

#: Bytes of scratch memory for the rows of a piece.
ROW_BYTES = 1 << 28

#: Most parameters of a network that passes in two stages, and most rows of its pieces; beyond,
#: reading all weights for every two samples costs more than meeting after every layer.
FUSED_PARAMETERS, FUSED_ROWS = 1 << 17, 1 << 11

#: How long a launch may take, in seconds, because nothing can interrupt it.
LAUNCH_SECONDS = 0.25

# What a first launch is assumed to do in a second: multiply-adds, and batches.
_ASSUMED_WORK, _ASSUMED_BATCHES = 2e11, 2e4

# Modes of a launch: what becomes of the outputs and of the gradient.
PREDICT, GRADIENT, SGD, NESTEROV, ADAM = range(5)

# Stages.
MEASURE, SAMPLES, GATHER, FORWARD, OUTPUT, BACKWARD, WEIGHTS = range(7)

# Functions.
IDENTITY, LOGISTIC, TANH, RELU, SOFTMAX, EXP = range(6)
_FUNCTIONS = {
    "identity": IDENTITY,
    "logistic": LOGISTIC,
    "tanh": TANH,
    "relu": RELU,
    "softmax": SOFTMAX,
    "exp": EXP,
}

# The integers of `table`: a head, then N_FIELDS per layer, then (stage, layer) pairs.
N_LAYERS, HIDDEN, LAST, IS_SPARSE, IS_SCALED, IS_WEIGHTED, N_SAMPLES, N_PARAMETERS, N_TILES = range(
    9
)
PARTIAL, N_STAGES, STAGES, IS_SQUARED, KEY_LOW, KEY_HIGH, EPOCH, START, HEAD = range(9, 18)
# Per layer: its shape; where its coefficients and intercepts begin in `weights`; where the rows of
# its inputs, its outputs and the deltas of its outputs begin in `rows`; where two samples' inputs
# and outputs begin in shared memory; its first tile of weights; what dropout leaves out of its
# outputs: those that draw less than a threshold, and where the share that it keeps stands in
# `steps`, or 0 if it leaves nothing out.
N_IN, N_OUT, COEF, INTERCEPT, ROWS_IN, ROWS_OUT, D_OUT, HERE_IN, HERE_OUT, FIRST_TILE = range(10)
THRESHOLD, KEPT, N_FIELDS = 10, 11, 12

# The integers of `pieces`: first and last position in `order`, batch, and the sum of these flags.
N_PIECE = 4
BEGINS_BATCH, ENDS_BATCH = 1, 2

# The numbers of `steps`: the settings of the optimiser, three per batch, then what KEPT speaks of.
ALPHA, MOMENTUM, BETA_1, BETA_2, EPSILON, BATCHES = 0, 1, 2, 3, 4, 5
TOTAL_WEIGHT, RATE, SQUARES, N_STEP = 0, 1, 2, 3


@dataclass(frozen=True)
class Shape:
    """How a block's threads share a tile of a matrix product.

    Every thread sums `side` x `side` elements over a slice of the depth; the ``side ** 2`` slices
    are then added, one element to a thread. Powers of two.

    Parameters
    ----------
    rows, columns : int
        Of a tile. The block has as many threads as a tile has elements.
    side : int
    depth : int
        Terms of the sums that are in shared memory at a time.
    """

    rows: int
    columns: int
    side: int
    depth: int

    @property
    def n_threads(self) -> int:
        """Threads of a block."""
        return self.rows * self.columns

    @property
    def slice_pitch(self) -> int:
        """Numbers from a row of a slice to the next; chosen so that a warp meets each bank once."""
        return self.columns + self.columns // self.side

    @property
    def n_shared(self) -> int:
        """Numbers of shared memory that a block has."""
        factors = self.depth * (self.rows + 1 + self.columns + 1)
        slices = self.side**2 // 2 * self.rows * self.slice_pitch
        return max(factors, slices)


def shape_for(dtype: np.dtype) -> Shape:
    """Return the shape of the blocks; shared memory of 48 kB bounds its depth."""
    if SIMULATED:  # a thread of it costs a millisecond, and edges of tiles are to occur
        return Shape(4, 4, 2, 16)
    return Shape(16, 32, 4, 128 if dtype.itemsize == 4 else 64)


# Indices in kernels are unsigned, or a device would look at each whether it counts from the end.
# (Sums of signed and unsigned numbers would be floating-point numbers; so the conversion is last.)
U = np.uint64

# ---- kernels -----------------------------------------------------------------------------------


#: See `fastmlp.core.random_bits`.
philox = cuda.jit(device=True)(philox_words)


@cuda.jit(device=True)
def smaller(a: Any, b: Any) -> Any:
    """Return the smaller number; the CUDA target inside numba 0.68 cannot compile `min`."""
    return a if a < b else b


@cuda.jit(device=True)
def quotient(a: Any, b: Any) -> Any:
    """Return a // b for numbers below 2**32, which a device divides several times faster."""
    return np.int64(np.uint32(a) // np.uint32(b))


@cache
def kernels(dtype: np.dtype, shape: Shape) -> tuple[Any, Any]:
    """Return the two kernels for a dtype: all stages of many pieces, and one stage of one piece.

    Their arguments, all on the device and of one dimension (`real` is `dtype`):

    - table : int64         IN, the network, the data and the stages, see `_table`
    - pieces : int64        IN, N_PIECE per piece
    - steps : float64       IN, settings, total weight and rate of each batch;
                            OUT, the sum of squared coefficients at the beginning of each batch
    - order : int64         IN, the sample at each position
    - values : uint8 or real  IN, the rows of the inputs (n_samples * n_features), or the stored
                            elements of sparse ones
    - places : int64        IN, of sparse rows: n_samples + 1 bounds, then the features
    - affine : real         IN, scale and shift of each feature (2 * n_features), if IS_SCALED
    - labels : real         IN, the targets (n_samples * n_outputs), then the sample weights if
                            IS_WEIGHTED
    - weights : real        IN and OUT: parameters, two vectors of state, gradient
    - rows : real           scratch: inputs, activations and deltas of a piece's rows; hidden
                            deltas' places hold dropout's factors before
    - losses : float64      OUT, the weighted loss at each position; for predictions, not 0 where
                            inputs are not finite
    - squares : float64     scratch: the sum of squared coefficients of each tile of weights
    - mode : int            PREDICT, GRADIENT, SGD, NESTEROV or ADAM
    """
    real = dtype.type
    zero, one, half_one = real(0), real(1), real(0.5)
    eps = np.finfo(dtype).eps
    certain = real(1) - eps
    n_threads, tile_rows, tile_columns = shape.n_threads, shape.rows, shape.columns
    side, depth_limit, n_shared = shape.side, shape.depth, shape.n_shared
    n_slices, half_slices = side**2, side**2 // 2
    slice_threads = n_threads // n_slices
    row_step, column_step = tile_rows // side, tile_columns // side
    slice_pitch = shape.slice_pitch
    slice_size = tile_rows * slice_pitch
    row_pitch, column_pitch = tile_rows + 1, tile_columns + 1  # odd, for the banks
    columns_at = depth_limit * row_pitch
    lanes = n_threads // GROUP
    # A multiprocessor has 65 536 registers. The simulator does not know the option.
    options = {} if SIMULATED else {"max_registers": 65536 // n_threads}

    # -- functions of one number --

    @cuda.jit(device=True)
    def activate(function, z):
        if function == RELU:
            return zero if z < zero else z  # NaN stays
        if function == TANH:
            return real(math.tanh(z))
        if function == LOGISTIC:
            e = real(math.exp(-abs(z)))  # never overflows
            return (e if z < zero else one) / (one + e)
        if function == EXP:
            return real(math.exp(z))
        return z

    @cuda.jit(device=True)
    def differentiate(function, a, delta):
        """Return delta times the derivative of a hidden activation, in terms of its value a."""
        if function == RELU:
            return zero if a == zero else delta
        if function == TANH:
            return delta * (one - a * a)
        if function == LOGISTIC:
            return delta * a * (one - a)
        return delta

    @cuda.jit(device=True)
    def leave_out(table, steps, rows, at, layer, position, unit, a, place):
        """Return a hidden activation times dropout's factor, which is left at a place in `rows`."""
        kept = table[U(at + KEPT)]
        if kept == 0:
            return a
        low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
        sample = np.uint64(table[START] + position)
        w0, w1, w2, w3 = philox(
            np.uint64(unit // 64 * 16 + unit % 16),
            np.uint64(layer) + (sample >> half) * np.uint64(256),
            sample & low, np.uint64(table[EPOCH]), np.uint64(table[KEY_LOW]),
            np.uint64(table[KEY_HIGH]),
        )  # fmt: skip
        which = unit // 16 % 4
        word = (w0 if which == 0 else w1) if which < 2 else (w2 if which == 2 else w3)
        is_kept = word >= np.uint64(table[U(at + THRESHOLD)])
        factor = real(1.0 / steps[U(kept)]) if is_kept else zero
        rows[U(place)] = factor
        return a * factor

    @cuda.jit(device=True)
    def delta_of(table, steps, rows, at, a, delta, place):
        """Return a hidden unit's delta from that of its output a, with the factor in `rows`."""
        kept = table[U(at + KEPT)]
        if kept == 0:
            return differentiate(table[HIDDEN], a, delta)
        return differentiate(table[HIDDEN], a * real(steps[U(kept)]), delta) * rows[U(place)]

    @cuda.jit(device=True)
    def loss_of(function, is_squared, y, p):
        """Return what one output adds to the loss."""
        if is_squared:
            return half_one * (y - p) * (y - p)
        if function == EXP:
            return p if y == zero else y * real(math.log(y / p)) - y + p
        p = eps if p < eps else (certain if p > certain else p)  # NaN stays
        loss = zero
        if y != zero or p != p:
            loss -= y * real(math.log(p))
        if function == LOGISTIC and y != one:
            loss -= (one - y) * real(math.log(one - p))
        return loss

    # -- what all threads of a block do together --

    @cuda.jit(device=True)
    def sum_over(wide, value, width, n):
        """Return the sum of the values of each `width` threads, of which n have one that counts."""
        t = cuda.threadIdx.x
        wide[U(t)] = value
        cuda.syncthreads()
        half = width // 2
        while half > 0:
            if half < n:
                if t % width < half:
                    wide[U(t)] += wide[U(t + half)]
                cuda.syncthreads()
            half //= 2
        result = wide[U(t - t % width)]
        cuda.syncthreads()
        return result

    @cuda.jit(device=True)
    def gather(table, order, values, places, affine, first, count, to, start, row_stride,
               unit_stride):  # fmt: skip
        """Write the inputs of up to GROUP samples to an array; return whether one is not finite.

        Rows beyond `count` become 0 in a block's own memory (where unit_stride is not 1), which
        has room for them; elsewhere they may not exist.
        """
        row, lane = cuda.threadIdx.x // lanes, cuda.threadIdx.x % lanes
        n = table[HEAD + N_IN]
        start += row * row_stride
        bad = 0
        if (table[IS_SPARSE] != 0 and row < count) or (row >= count and unit_stride != 1):
            for k in range(lane, n, lanes):
                to[U(start + k * unit_stride)] = zero
        if table[IS_SPARSE]:
            cuda.syncthreads()
            if row < count:
                sample = order[U(first + row)]
                features = table[N_SAMPLES] + 1
                for i in range(places[U(sample)] + lane, places[U(sample + 1)], lanes):
                    k = places[U(features + i)]
                    element = real(values[U(i)])
                    if table[IS_SCALED]:
                        element *= affine[U(k)]
                    to[U(start + k * unit_stride)] = element
        elif row < count:
            sample = order[U(first + row)]
            # Four at a time, because each comes from far.
            x = cuda.local.array(4, real)
            factor = cuda.local.array(4, real)
            summand = cuda.local.array(4, real)
            for first_k in range(lane, n, 4 * lanes):
                for u in range(4):
                    k = first_k + u * lanes if first_k + u * lanes < n else first_k
                    x[u] = real(values[U(sample * n + k)])
                    if table[IS_SCALED] != 0:
                        factor[u] = affine[U(k)]
                        summand[u] = affine[U(n + k)]
                for u in range(4):
                    k = first_k + u * lanes
                    if k < n:
                        if not math.isfinite(x[u]):
                            bad = 1
                        if table[IS_SCALED] != 0:
                            x[u] = x[u] * factor[u] + summand[u]
                        to[U(start + k * unit_stride)] = x[u]
        return cuda.syncthreads_or(bad)

    @cuda.jit(device=True)
    def finish_rows(
        table, order, labels, losses, mode, first, count, z, start, row_stride, unit_stride, wide
    ):
        """Turn pre-activations of up to GROUP rows into outputs and, for training, into deltas."""
        row, lane = cuda.threadIdx.x // lanes, cuda.threadIdx.x % lanes
        n = table[U(HEAD + (table[N_LAYERS] - 1) * N_FIELDS + N_OUT)]
        function, is_squared = table[LAST], table[IS_SQUARED] != 0
        start += row * row_stride
        is_mine = row < count
        if function == SOFTMAX:
            highest, total = zero, zero
            if is_mine:
                highest = z[U(start)]
                for j in range(1, n):
                    x = z[U(start + j * unit_stride)]
                    highest = x if x > highest else highest
            cuda.syncthreads()
            if is_mine:
                for j in range(lane, n, lanes):
                    z[U(start + j * unit_stride)] = real(
                        math.exp(z[U(start + j * unit_stride)] - highest)
                    )
            cuda.syncthreads()
            if is_mine:
                for j in range(n):
                    total += z[U(start + j * unit_stride)]
            cuda.syncthreads()
            if is_mine:
                for j in range(lane, n, lanes):
                    z[U(start + j * unit_stride)] /= total
        elif is_mine:
            for j in range(lane, n, lanes):
                z[U(start + j * unit_stride)] = activate(function, z[U(start + j * unit_stride)])
        if mode == PREDICT:
            return
        loss = 0.0
        if is_mine:
            sample = order[U(first + row)]
            weight = one
            if table[IS_WEIGHTED]:
                weight = labels[U(table[N_SAMPLES] * n + sample)]
            for j in range(lane, n, lanes):
                y, p = labels[U(sample * n + j)], z[U(start + j * unit_stride)]
                loss += np.float64(loss_of(function, is_squared, y, p))
                delta = (p - y) * weight
                if is_squared and function == LOGISTIC:
                    delta = differentiate(LOGISTIC, p, delta) / real(n)
                z[U(start + j * unit_stride)] = delta
            loss *= np.float64(weight)
            if is_squared:
                loss /= n
        loss = sum_over(wide, loss, lanes, n)
        if is_mine and lane == 0:
            losses[U(first + row)] = loss

    @cuda.jit(device=True)
    def sum_squares(steps, squares, n_tiles, batch, wide):
        """Add up the tiles' squared coefficients: the penalty at the beginning of a batch."""
        value = 0.0
        for i in range(cuda.threadIdx.x, n_tiles, n_threads):
            value += squares[U(i)]
        value = sum_over(wide, value, n_threads, n_threads)
        if cuda.threadIdx.x == 0:
            steps[U(BATCHES + batch * N_STEP + SQUARES)] = value

    # -- a block takes two samples through a small network --

    @cuda.jit(device=True)
    def weigh_inputs(table, at, weights, here):
        """Leave each layer output's sum over some of the inputs, for two samples, in `here`."""
        t = cuda.threadIdx.x
        n_in, n_out = table[U(at + N_IN)], table[U(at + N_OUT)]
        n_parts = smaller(n_in, quotient(n_threads, n_out))
        part = quotient(t, n_out)
        first_sum, second_sum = zero, zero
        if part < n_parts:
            # Neighbouring threads read neighbouring weights; eight at a time, because each comes
            # from far.
            w = cuda.local.array(8, real)
            i, step = table[U(at + COEF)] + t, n_parts * n_out
            x, x_step = table[U(at + HERE_IN)] + part * GROUP, n_parts * GROUP
            k = part
            while k + 7 * n_parts < n_in:
                for u in range(8):
                    w[u] = weights[U(i + u * step)]
                for u in range(8):
                    first_sum += w[u] * here[U(x + u * x_step)]
                    second_sum += w[u] * here[U(x + u * x_step + 1)]
                k += 8 * n_parts
                i += 8 * step
                x += 8 * x_step
            if k < n_in:  # less than eight are left; reads beyond them are idle
                for u in range(8):
                    w[u] = weights[U(i + u * step if k + u * n_parts < n_in else i)]
                for u in range(8):
                    if k + u * n_parts < n_in:
                        first_sum += w[u] * here[U(x + u * x_step)]
                        second_sum += w[u] * here[U(x + u * x_step + 1)]
        here[U(table[PARTIAL] + t)] = first_sum
        here[U(table[PARTIAL] + n_threads + t)] = second_sum
        cuda.syncthreads()
        return n_parts

    @cuda.jit(device=True)
    def weigh_deltas(table, at, weights, here):
        """Leave each layer input's sum over some of the outputs' deltas in `here`."""
        t = cuda.threadIdx.x
        n_in, n_out = table[U(at + N_IN)], table[U(at + N_OUT)]
        n_parts = smaller(n_out, quotient(n_threads, n_in))
        unit = quotient(t, n_parts)
        part = t - unit * n_parts
        first_sum, second_sum = zero, zero
        if unit < n_in:
            for j in range(part, n_out, n_parts):
                w = weights[U(table[U(at + COEF)] + unit * n_out + j)]
                delta = table[U(at + HERE_OUT)] + j * GROUP
                first_sum += w * here[U(delta)]
                second_sum += w * here[U(delta + 1)]
        here[U(table[PARTIAL] + t)] = first_sum
        here[U(table[PARTIAL] + n_threads + t)] = second_sum
        cuda.syncthreads()
        return n_parts

    @cuda.jit(device=True)
    def pass_samples(
        table, steps, order, values, places, affine, labels, weights, rows, losses, mode, first,
        row, count, here, wide,
    ):  # fmt: skip
        """Take two samples forward and back; unit k of sample s is at k * GROUP + s in `here`.

        Half of the threads finish what all have summed for one sample.
        """
        t = cuda.threadIdx.x
        sample, lane = t // lanes, t % lanes
        bad = gather(table, order, values, places, affine, first, count, here, 0, 1, GROUP)
        if mode == PREDICT:
            if bad and t == 0:
                losses[U(first)] = 1
        elif sample < count:
            n = table[HEAD + N_IN]
            to = table[HEAD + ROWS_IN] + (row + sample) * n
            for unit in range(lane, n, lanes):
                rows[U(to + unit)] = here[U(unit * GROUP + sample)]
        last = table[N_LAYERS] - 1
        for layer in range(last + 1):
            at = HEAD + layer * N_FIELDS
            n_parts = weigh_inputs(table, at, weights, here)
            n = table[U(at + N_OUT)]
            for unit in range(lane, n, lanes):
                part = table[PARTIAL] + sample * n_threads + unit
                z = weights[U(table[U(at + INTERCEPT)] + unit)]
                for _ in range(n_parts):
                    z += here[U(part)]
                    part += n
                if layer < last:
                    z = activate(table[HIDDEN], z)
                    if sample < count:
                        place = (row + sample) * n + unit
                        z = leave_out(table, steps, rows, at, layer, first + sample, unit, z,
                                      table[U(at + D_OUT)] + place)  # fmt: skip
                        rows[U(table[U(at + ROWS_OUT)] + place)] = z
                here[U(table[U(at + HERE_OUT)] + unit * GROUP + sample)] = z
            cuda.syncthreads()
        at = HEAD + last * N_FIELDS
        start, n = table[U(at + HERE_OUT)], table[U(at + N_OUT)]
        finish_rows(table, order, labels, losses, mode, first, count, here, start, 1, GROUP, wide)
        cuda.syncthreads()
        if sample < count:
            to = table[U(at + D_OUT)] + (row + sample) * n
            for unit in range(lane, n, lanes):
                rows[U(to + unit)] = here[U(start + unit * GROUP + sample)]
        if mode != PREDICT:
            for layer in range(last, 0, -1):
                at = HEAD + layer * N_FIELDS
                n_parts = weigh_deltas(table, at, weights, here)
                n = table[U(at + N_IN)]
                for unit in range(lane, n, lanes):
                    part = table[PARTIAL] + sample * n_threads + unit * n_parts
                    delta = zero
                    for _ in range(n_parts):
                        delta += here[U(part)]
                        part += 1
                    own = table[U(at + HERE_IN)] + unit * GROUP + sample
                    if sample < count:
                        place = table[U(at - N_FIELDS + D_OUT)] + (row + sample) * n + unit
                        delta = delta_of(table, steps, rows, at - N_FIELDS, here[U(own)], delta,
                                         place)  # fmt: skip
                        rows[U(place)] = delta
                    here[U(own)] = delta
                cuda.syncthreads()
        cuda.syncthreads()

    # -- a block multiplies two matrices into a tile --

    @cuda.jit(device=True)
    def fetch(array, start, n, step, first, depth, depth_step, ones, here, to, width, pitch):
        """Copy a strip of a matrix, `width` x `depth`, to shared memory; zeros are put around it.

        Only the first n rows exist; row `ones`, if there is one, consists of ones.
        """
        t = cuda.threadIdx.x
        if depth_step == 1:  # neighbouring threads read neighbouring numbers
            k, row, k_turn, row_turn = (
                t % depth_limit,
                t // depth_limit,
                0,
                n_threads // depth_limit,
            )
        else:
            k, row, k_turn, row_turn = t // width, t % width, n_threads // width, 0
        at = start + row * step + (first + k) * depth_step
        turn_step = row_turn * step + k_turn * depth_step
        for _ in range(depth_limit * width // n_threads):
            # All threads read something, so that no read waits for a decision.
            is_inside = k < depth and row < n
            x = array[U(at if is_inside else start)]
            if not is_inside:
                x = one if k < depth and row == ones else zero
            here[U(to + k * pitch + row)] = x
            k += k_turn
            row += row_turn
            at += turn_step

    @cuda.jit(device=True)
    def multiply(
        a, a_start, a_rows, a_step, a_depth_step, a_ones,
        b, b_start, b_columns, b_step, b_depth_step, depth, here,
    ):  # fmt: skip
        """Return an element of a tile of A B: that of row t // columns and column t % columns."""
        t = cuda.threadIdx.x
        part, lane = t // slice_threads, t % slice_threads
        row, column = lane // column_step, lane % column_step
        sums = cuda.local.array(n_slices, real)
        for i in range(n_slices):
            sums[i] = zero
        for first in range(0, depth, depth_limit):
            n = smaller(depth_limit, depth - first)
            fetch(a, a_start, a_rows, a_step, first, n, a_depth_step, a_ones,
                  here, 0, tile_rows, row_pitch)  # fmt: skip
            fetch(b, b_start, b_columns, b_step, first, n, b_depth_step, -1,
                  here, columns_at, tile_columns, column_pitch)  # fmt: skip
            cuda.syncthreads()
            for k in range(part, n, n_slices):
                for i in range(side):
                    x = here[U(k * row_pitch + row + i * row_step)]
                    for j in range(side):
                        y = here[U(columns_at + k * column_pitch + column + j * column_step)]
                        sums[i * side + j] += x * y
            cuda.syncthreads()
        # The upper half of the slices goes to shared memory, the lower half is added to it there.
        at = part % half_slices * slice_size + row * slice_pitch + column
        if part >= half_slices:
            for i in range(side):
                for j in range(side):
                    here[U(at + i * row_step * slice_pitch + j * column_step)] = sums[i * side + j]
        cuda.syncthreads()
        if part < half_slices:
            for i in range(side):
                for j in range(side):
                    here[U(at + i * row_step * slice_pitch + j * column_step)] += sums[i * side + j]
        cuda.syncthreads()
        at = t // tile_columns * slice_pitch + t % tile_columns
        total = zero
        for i in range(half_slices):
            total += here[U(at + i * slice_size)]
        cuda.syncthreads()
        return total

    @cuda.jit(device=True)
    def forward_tile(table, steps, weights, rows, layer, tile, start, n_rows, here):
        """Compute a tile of a layer's outputs for the rows of a piece that begins at a position."""
        at = HEAD + layer * N_FIELDS
        n_in, n_out = table[U(at + N_IN)], table[U(at + N_OUT)]
        n_across = (n_out + tile_columns - 1) // tile_columns
        down = quotient(tile, n_across)
        first_row, first_unit = down * tile_rows, (tile - down * n_across) * tile_columns
        z = multiply(
            rows, table[U(at + ROWS_IN)] + first_row * n_in, n_rows - first_row, n_in, 1, -1,
            weights, table[U(at + COEF)] + first_unit, n_out - first_unit, 1, n_out, n_in, here,
        )  # fmt: skip
        row = first_row + cuda.threadIdx.x // tile_columns
        unit = first_unit + cuda.threadIdx.x % tile_columns
        if row < n_rows and unit < n_out:
            z += weights[U(table[U(at + INTERCEPT)] + unit)]
            if layer < table[N_LAYERS] - 1:
                z = activate(table[HIDDEN], z)
                z = leave_out(table, steps, rows, at, layer, start + row, unit, z,
                              table[U(at + D_OUT)] + row * n_out + unit)  # fmt: skip
            rows[U(table[U(at + ROWS_OUT)] + row * n_out + unit)] = z

    @cuda.jit(device=True)
    def backward_tile(table, steps, weights, rows, layer, tile, n_rows, here):
        """Compute a tile of the deltas of a layer's inputs for the rows of a piece."""
        at = HEAD + layer * N_FIELDS
        n_in, n_out = table[U(at + N_IN)], table[U(at + N_OUT)]
        n_across = (n_in + tile_columns - 1) // tile_columns
        down = quotient(tile, n_across)
        first_row, first_unit = down * tile_rows, (tile - down * n_across) * tile_columns
        delta = multiply(
            rows, table[U(at + D_OUT)] + first_row * n_out, n_rows - first_row, n_out, 1, -1,
            weights, table[U(at + COEF)] + first_unit * n_out, n_in - first_unit, n_out, 1, n_out,
            here,
        )  # fmt: skip
        row = first_row + cuda.threadIdx.x // tile_columns
        unit = first_unit + cuda.threadIdx.x % tile_columns
        if row < n_rows and unit < n_in:
            a = rows[U(table[U(at + ROWS_IN)] + row * n_in + unit)]
            place = table[U(at - N_FIELDS + D_OUT)] + row * n_in + unit
            rows[U(place)] = delta_of(table, steps, rows, at - N_FIELDS, a, delta, place)

    @cuda.jit(device=True)
    def update(steps, weights, mode, p, n_parameters, g, rate):
        """Change parameter p by its gradient g; return what it is then."""
        w, rate = weights[U(p)], real(rate)
        if mode == ADAM:
            # 1 - beta is taken before it is rounded to float32, where beta may be 1.
            m = real(steps[BETA_1]) * weights[U(p + n_parameters)] + real(1.0 - steps[BETA_1]) * g
            v = real(steps[BETA_2]) * weights[U(p + 2 * n_parameters)]
            v += real(1.0 - steps[BETA_2]) * g * g
            weights[U(p + n_parameters)] = m
            weights[U(p + 2 * n_parameters)] = v
            w -= rate * m / (real(math.sqrt(v)) + real(steps[EPSILON]))
        else:
            momentum, step = real(steps[MOMENTUM]), rate * g
            velocity = momentum * weights[U(p + n_parameters)] - step
            weights[U(p + n_parameters)] = velocity
            w += momentum * velocity - step if mode == NESTEROV else velocity
        weights[U(p)] = w
        return w

    @cuda.jit(device=True)
    def weight_tile(table, steps, weights, rows, squares, mode, flags, batch, n_rows, tile, is_new,
                    here, wide):  # fmt: skip
        """Sum the gradient of a tile of weights over a piece, and update them at a batch's end.

        The intercepts are one more row of coefficients, whose input is 1. With `is_new` the tile's
        squares are summed and no more.
        """
        at = HEAD
        for layer in range(1, table[N_LAYERS]):
            if tile >= table[U(HEAD + layer * N_FIELDS + FIRST_TILE)]:
                at = HEAD + layer * N_FIELDS
        n_in, n_out = table[U(at + N_IN)], table[U(at + N_OUT)]
        n_across = (n_out + tile_columns - 1) // tile_columns
        place = tile - table[U(at + FIRST_TILE)]
        down = quotient(place, n_across)
        first_row, first_unit = down * tile_rows, (place - down * n_across) * tile_columns
        row = first_row + cuda.threadIdx.x // tile_columns
        unit = first_unit + cuda.threadIdx.x % tile_columns
        is_weight = row <= n_in and unit < n_out
        is_coef = row < n_in and is_weight
        p = table[U(at + COEF)] + row * n_out + unit if is_coef else table[U(at + INTERCEPT)] + unit
        w = zero
        if is_new:
            if is_coef:
                w = weights[U(p)]
        else:
            g = multiply(
                rows, table[U(at + ROWS_IN)] + first_row, n_in - first_row, 1, n_in,
                n_in - first_row,
                rows, table[U(at + D_OUT)] + first_unit, n_out - first_unit, 1, n_out, n_rows,
                here,
            )  # fmt: skip
            if is_weight:
                n_parameters = table[N_PARAMETERS]
                if not flags & BEGINS_BATCH:
                    g += weights[U(p + 3 * n_parameters)]
                if flags & ENDS_BATCH:
                    step = BATCHES + batch * N_STEP
                    if is_coef:
                        g += real(steps[ALPHA]) * weights[U(p)]
                    g /= real(steps[U(step + TOTAL_WEIGHT)])
                if mode == GRADIENT or not flags & ENDS_BATCH:
                    weights[U(p + 3 * n_parameters)] = g
                else:
                    updated = update(
                        steps, weights, mode, p, n_parameters, g, steps[U(step + RATE)]
                    )
                    if is_coef:
                        w = updated
        if is_new or (mode != GRADIENT and flags & ENDS_BATCH):
            square = sum_over(wide, np.float64(w) * np.float64(w), n_threads, n_threads)
            if cuda.threadIdx.x == 0:
                squares[U(tile)] = square

    # -- stages --

    @cuda.jit(device=True)
    def run_stage(
        table, pieces, steps, order, values, places, affine, labels, weights, rows, losses, squares,
        mode, piece, stage, layer, block, n_blocks, here, wide,
    ):  # fmt: skip
        """Do a block's share of a stage."""
        start, stop = pieces[U(piece * N_PIECE)], pieces[U(piece * N_PIECE + 1)]
        batch, flags = pieces[U(piece * N_PIECE + 2)], pieces[U(piece * N_PIECE + 3)]
        n_rows = stop - start
        if stage == WEIGHTS or stage == MEASURE:
            for tile in range(block, table[N_TILES], n_blocks):
                weight_tile(table, steps, weights, rows, squares, mode, flags, batch, n_rows, tile,
                            stage == MEASURE, here, wide)  # fmt: skip
        elif stage == FORWARD or stage == BACKWARD:
            n = table[U(HEAD + layer * N_FIELDS + (N_OUT if stage == FORWARD else N_IN))]
            n_tiles = (n_rows + tile_rows - 1) // tile_rows
            n_tiles *= (n + tile_columns - 1) // tile_columns
            for tile in range(block, n_tiles, n_blocks):
                if stage == FORWARD:
                    forward_tile(table, steps, weights, rows, layer, tile, start, n_rows, here)
                else:
                    backward_tile(table, steps, weights, rows, layer, tile, n_rows, here)
        else:
            n_groups = (n_rows + GROUP - 1) // GROUP
            n_items = n_groups
            if stage != OUTPUT and mode != PREDICT and flags & BEGINS_BATCH:
                n_items += 1  # the penalty
            for item in range(block, n_items, n_blocks):
                row = item * GROUP
                first, count = start + row, smaller(GROUP, n_rows - row)
                if item == n_groups:
                    sum_squares(steps, squares, table[N_TILES], batch, wide)
                elif stage == SAMPLES:
                    pass_samples(table, steps, order, values, places, affine, labels, weights,
                                 rows, losses, mode, first, row, count, here, wide)  # fmt: skip
                elif stage == GATHER:
                    n = table[HEAD + N_IN]
                    to = table[HEAD + ROWS_IN] + row * n
                    bad = gather(table, order, values, places, affine, first, count, rows, to, n, 1)
                    if bad and mode == PREDICT and cuda.threadIdx.x == 0:
                        losses[U(first)] = 1
                else:
                    at = HEAD + (table[N_LAYERS] - 1) * N_FIELDS
                    n = table[U(at + N_OUT)]
                    finish_rows(table, order, labels, losses, mode, first, count, rows,
                                table[U(at + ROWS_OUT)] + row * n, n, 1, wide)  # fmt: skip

    @cuda.jit(**options)
    def run_pieces(
        table, pieces, steps, order, values, places, affine, labels, weights, rows, losses, squares,
        mode, first, last,
    ):  # fmt: skip
        """Take pieces first to last through all stages, in one cooperative launch."""
        here = cuda.shared.array(n_shared, real)
        wide = cuda.shared.array(n_threads, np.float64)
        block, n_blocks = cuda.blockIdx.x, cuda.gridDim.x
        grid = cuda.cg.this_grid()
        skipped = 1 if mode == PREDICT else 0  # weights are measured once
        for piece in range(first, last):
            batch = pieces[U(piece * N_PIECE + 2)]
            if steps[U(BATCHES + batch * N_STEP + TOTAL_WEIGHT)] != 0:
                for i in range(skipped, table[N_STAGES]):
                    stage = table[U(table[STAGES] + 2 * i)]
                    layer = table[U(table[STAGES] + 2 * i + 1)]
                    run_stage(table, pieces, steps, order, values, places, affine, labels, weights,
                              rows, losses, squares, mode, piece, stage, layer, block, n_blocks,
                              here, wide)  # fmt: skip
                    grid.sync()
                skipped = 1

    @cuda.jit(**options)
    def run_one(
        table, pieces, steps, order, values, places, affine, labels, weights, rows, losses, squares,
        mode, piece, stage, layer,
    ):  # fmt: skip
        """Take one piece through one stage."""
        here = cuda.shared.array(n_shared, real)
        wide = cuda.shared.array(n_threads, np.float64)
        run_stage(table, pieces, steps, order, values, places, affine, labels, weights, rows,
                  losses, squares, mode, piece, stage, layer, cuda.blockIdx.x, cuda.gridDim.x,
                  here, wide)  # fmt: skip

    return run_pieces, run_one


# ---- engine ------------------------------------------------------------------------------------


class Engine:
    """A network bound to its parameters and its data, on a device.

    See `fastmlp.backends.numpy_backend.Engine` for the contract. `n_threads` and `many_passes`
    change nothing here.

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
        What compiling kernels took so far.
    """

    seconds_compiling: float = 0.0

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
        self._shape = shape_for(self._dtype)
        self._run_pieces, self._run_one = kernels(self._dtype, self._shape)
        if cooperative is None:
            cooperative = SIMULATED or bool(cuda.get_current_device().COOPERATIVE_LAUNCH)
        self._is_cooperative = cooperative
        self._n_blocks = n_blocks
        self._n_hidden = len(network.layer_units) - 2
        self._most_blocks: dict[np.dtype, int] = {}  # by the dtype of the inputs
        self._n_tiles = sum(
            self._tiles(n_in + 1, n_out)
            for n_in, n_out in zip(network.layer_units, network.layer_units[1:], strict=False)
        )
        self._optimizer: Any = None
        self._is_trained = False  # the host's parameters are older than the device's
        self._is_displaced = False  # the device holds other parameters than the host's
        self._arrays = _Arrays()  # of training
        n_vectors = 1 if inputs is None else 4  # parameters, two of state, gradient
        n = network.n_parameters
        self._weights = self._arrays.room("weights", n_vectors * n, self._dtype)
        self._arrays.room("squares", self._n_tiles, np.float64)
        self._weights[:n].copy_to_device(parameters.flat)
        if inputs is not None:
            assert targets is not None
            self.bind(inputs, targets, sample_weight)

    def bind(self, inputs: Inputs, targets: NDArray, sample_weight: NDArray | None) -> None:
        """Train on other samples from now on; see the NumPy backend."""
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
            for which, state in enumerate(_state(optimizer), start=1):
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

        steps = self._steps(totals, dropout)
        batches = self._batches(steps)
        if optimizer.name == "sgd":
            mode = NESTEROV if optimizer.nesterov else SGD
            steps[MOMENTUM] = optimizer.momentum
            batches[:, RATE] = optimizer.learning_rate
        else:
            mode, t = ADAM, optimizer.t
            steps[[BETA_1, BETA_2, EPSILON]] = optimizer.beta_1, optimizer.beta_2, optimizer.epsilon
            then = copy(optimizer)
            for batch, n_updates in enumerate(n_live.tolist()):
                if n_updates:
                    then.t = t + n_updates
                    batches[batch, RATE] = then.corrected_rate()

        self._is_trained = True
        done = 0
        try:
            for done in self._run(self._arrays, mode, order, batch_size, steps, dropout):
                if on_samples is not None:
                    on_samples(min(done * batch_size, len(order)))
        finally:
            if mode == ADAM and done and n_live[done - 1]:
                optimizer.t = t + int(n_live[done - 1])
                optimizer.learning_rate = optimizer.corrected_rate()
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
        steps = self._steps(totals, dropout)
        for _ in self._run(self._arrays, GRADIENT, np.arange(n), n, steps, dropout):
            pass
        out[...] = self._vector(3).copy_to_host()
        return float(self._losses(np.zeros(1, np.int64), totals)[0])

    def predict(self, inputs: Inputs, out: NDArray) -> bool:
        """Compute the outputs of the network; see the NumPy backend."""
        self._own_parameters()
        arrays = _Arrays(weights=self._weights, squares=self._arrays["squares"])
        arrays.put("labels", np.zeros(1, self._dtype))
        all_finite = True
        n_at_once = self._rows_at_once(inputs.n_samples)
        for start in range(0, inputs.n_samples, n_at_once):
            n = min(n_at_once, inputs.n_samples - start)
            chunk = inputs.values[start : start + n]
            self._put_inputs(arrays, Inputs(chunk, inputs.dtype, inputs.scale, inputs.shift))
            arrays.put("losses", np.zeros(n))
            for _ in self._run(arrays, PREDICT, np.arange(n), n, self._steps(np.ones(1))):
                pass
            place = self._places(n)[1][-1]
            size = n * self.network.n_outputs
            outputs = arrays["rows"][place : place + size].copy_to_host()
            out[start : start + n] = outputs.reshape(n, -1)
            all_finite &= not arrays["losses"].copy_to_host().any()
        return all_finite

    def sync(self) -> None:
        """Make the host's parameters and optimiser state current."""
        if not self._is_trained:
            return
        for which, vector in enumerate([self.parameters.flat, *_state(self._optimizer)]):
            vector[...] = self._vector(which).copy_to_host()
        self._optimizer = None
        self._is_trained = False

    def _vector(self, which: int) -> Any:
        """Return the parameters (0), a vector of state (1, 2) or the gradient (3)."""
        n = self.network.n_parameters
        return self._weights[which * n : (which + 1) * n]

    def _own_parameters(self) -> None:
        """Bring the engine's parameters back after `loss_and_gradient` has put others there."""
        if self._is_displaced:
            self._vector(0).copy_to_device(self.parameters.flat)
            self._is_displaced = False

    def _put_inputs(self, arrays: "_Arrays", inputs: Inputs) -> None:
        """Copy inputs to the device."""
        values, places = inputs.values, np.zeros(1, np.int64)
        if inputs.is_sparse:
            if not values.has_canonical_format:  # an element in two parts would be a race
                values = values.copy()
                values.sum_duplicates()
            places = np.concatenate([values.indptr, values.indices], dtype=np.int64)
            values = values.data
        # An array of no elements is none on a device.
        arrays.put("values", values.ravel() if values.size else np.zeros(1, values.dtype))
        arrays.put("places", places)
        affine = [np.zeros(1, self._dtype)] if inputs.scale is None else [inputs.scale]
        if inputs.shift is not None:
            affine.append(inputs.shift)
        arrays.put("affine", np.concatenate(affine))
        arrays.inputs = inputs

    def _steps(self, totals: NDArray, dropout: Dropout | None = None) -> NDArray:
        """Return the kernels' `steps` for batches of these weights, all rates still 0."""
        steps = np.zeros(BATCHES + N_STEP * len(totals) + self._n_hidden)
        steps[ALPHA] = self.network.alpha
        self._batches(steps)[:, TOTAL_WEIGHT] = totals
        if dropout is not None:
            steps[len(steps) - self._n_hidden :] = 1 - np.array(dropout.rates)
        return steps

    def _batches(self, steps: NDArray) -> NDArray:
        """Return the part of `steps` that speaks of batches, one to a row."""
        return steps[BATCHES : len(steps) - self._n_hidden].reshape(-1, N_STEP)

    def _losses(self, starts: NDArray, totals: NDArray) -> NDArray:
        """Return each batch's objective after a run."""
        losses = np.add.reduceat(self._arrays["losses"].copy_to_host(), starts)
        squares = self._batches(self._arrays["steps"].copy_to_host())[:, SQUARES]
        with np.errstate(divide="ignore", invalid="ignore"):  # batches without weight
            return (losses + 0.5 * self.network.alpha * squares) / totals

    # -- plans --

    def _tiles(self, n_rows: int, n_columns: int) -> int:
        """Return how many tiles cover a matrix."""
        return -(-n_rows // self._shape.rows) * -(-n_columns // self._shape.columns)

    def _rows_at_once(self, n: int) -> int:
        """Return how many of n rows the scratch memory holds."""
        size = (self.network.n_features + 2 * sum(self.network.layer_units)) * self._dtype.itemsize
        return max(1, min(n, max(GROUP, ROW_BYTES // size)))

    def _is_fused(self, n_rows: int) -> bool:
        """Return whether pieces of so many rows pass in two stages."""
        units, n_threads = self.network.layer_units, self._shape.n_threads
        return (
            max(units[1:]) <= n_threads
            and GROUP * (sum(units) + n_threads) <= self._shape.n_shared
            and self.network.n_parameters <= FUSED_PARAMETERS
            and n_rows <= FUSED_ROWS
        )

    def _places(self, n_rows: int) -> tuple[list[int], list[int], list[int], int]:
        """Return where in `rows` each layer's inputs, outputs and deltas begin, and its length."""
        units = self.network.layer_units
        ends = np.cumsum([0, *units, *units[1:-1]]) * n_rows
        values, deltas = ends[: len(units)].tolist(), ends[len(units) : -1].tolist()
        # The deltas of the output layer take its outputs' place.
        return values[:-1], values[1:], [*deltas, values[-1]], int(ends[-1])

    def _stages(self, mode: int, is_fused: bool) -> list[tuple[int, int]]:
        """Return the stages of a piece, each with its layer."""
        layers = range(len(self.network.layer_units) - 1)
        if is_fused:
            forward, backward = [(SAMPLES, 0)], []
        else:
            forward = [(GATHER, 0), *((FORWARD, layer) for layer in layers), (OUTPUT, 0)]
            backward = [(BACKWARD, layer) for layer in layers[:0:-1]]
        rest = [] if mode == PREDICT else [*backward, (WEIGHTS, 0)]
        return [(MEASURE, 0), *forward, *rest]

    def _table(
        self,
        inputs: Inputs,
        n_rows: int,
        stages: list[tuple[int, int]],
        n_steps: int,
        dropout: Dropout | None,
    ) -> NDArray:
        """Return the kernels' `table` for pieces of up to n_rows rows, with `steps` that long."""
        units = self.network.layer_units
        n_layers = len(units) - 1
        table = np.zeros(HEAD + n_layers * N_FIELDS, np.int64)
        table[N_LAYERS] = n_layers
        table[HIDDEN] = _FUNCTIONS[self.network.activation]
        table[LAST] = _FUNCTIONS[self.network.output_activation]
        table[IS_SPARSE] = inputs.is_sparse
        table[IS_SCALED] = inputs.scale is not None
        table[IS_WEIGHTED] = self.sample_weight is not None
        table[IS_SQUARED] = self.network.loss == "squared_error"
        table[N_SAMPLES] = inputs.n_samples
        table[N_PARAMETERS] = self.network.n_parameters
        table[N_TILES] = self._n_tiles
        table[PARTIAL] = GROUP * sum(units)
        table[N_STAGES], table[STAGES] = len(stages), len(table)
        rows_in, rows_out, d_out, _ = self._places(n_rows)
        coef = here = tile = 0
        intercept = sum(a * b for a, b in zip(units, units[1:], strict=False))
        for layer, (n_in, n_out) in enumerate(zip(units, units[1:], strict=False)):
            at = HEAD + layer * N_FIELDS
            table[at : at + THRESHOLD] = [
                n_in, n_out, coef, intercept, rows_in[layer], rows_out[layer], d_out[layer],
                here, here + GROUP * n_in, tile,
            ]  # fmt: skip
            coef += n_in * n_out
            intercept += n_out
            here += GROUP * n_in
            tile += self._tiles(n_in + 1, n_out)
            if dropout is not None and layer < self._n_hidden and dropout.rates[layer] != 0:
                table[at + THRESHOLD] = dropout.threshold(layer)
                table[at + KEPT] = n_steps - self._n_hidden + layer
        if dropout is not None:
            table[[KEY_LOW, KEY_HIGH, EPOCH, START]] = (
                *dropout.key, dropout.epoch, dropout.start
            )  # fmt: skip
        return np.concatenate([table, np.ravel(stages)])

    def _useful_blocks(self, mode: int, n_rows: int, is_fused: bool) -> int:
        """Return how many blocks have something to do in the stage that has most."""
        groups = -(-n_rows // GROUP) + 1
        products = [] if is_fused else [self._tiles(n_rows, n) for n in self.network.layer_units]
        return max([groups, *products, 1 if mode == PREDICT else self._n_tiles])

    # -- launches --

    def _run(
        self,
        arrays: "_Arrays",
        mode: int,
        order: NDArray,
        batch_size: int,
        steps: NDArray,
        dropout: Dropout | None = None,
    ) -> Iterator[int]:
        """Launch; yield the number of finished batches as often as Ctrl-C may be looked for."""
        n = len(order)
        n_at_once = self._rows_at_once(min(batch_size, n))
        is_fused = self._is_fused(n_at_once)
        pieces = _pieces(n, batch_size, n_at_once)
        stages = self._stages(mode, is_fused)
        inputs = arrays.inputs
        arrays.put("table", self._table(inputs, n_at_once, stages, len(steps), dropout))
        arrays.put("pieces", pieces.ravel())
        arrays.put("steps", steps)
        arrays.put("order", np.ascontiguousarray(order, np.int64))
        arrays.room("rows", self._places(n_at_once)[-1], self._dtype)
        arrays.room("losses", n, np.float64)
        arguments = [*(arrays[name] for name in _ARGUMENTS), mode]
        n_blocks = self._useful_blocks(mode, n_at_once, is_fused)
        bounds = np.searchsorted(pieces[:, 2], np.arange(pieces[-1, 2] + 2)).tolist()
        if self._is_cooperative:
            runs = self._run_cooperatively(arguments, n_blocks, bounds, batch_size)
        else:
            is_live = self._batches(steps)[:, TOTAL_WEIGHT] != 0
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
        launch = _configured(
            kernel, min(n_blocks, self._room_for_blocks(kernel, arguments)), self._shape.n_threads
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
        """Launch once for every stage of every piece."""
        kernel = self._compiled(self._run_one, [*arguments, 0, 0, 0])
        launch = _configured(kernel, self._n_blocks or min(n_blocks, 4096), self._shape.n_threads)
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
        if SIMULATED:
            return kernel
        started, known = time.perf_counter(), len(kernel.specializations)
        specialized = kernel.specialize(*arguments)
        if len(kernel.specializations) > known:
            self.seconds_compiling += time.perf_counter() - started
        return specialized

    def _room_for_blocks(self, kernel: Any, arguments: list[Any]) -> int:
        """Return how many blocks of a cooperative launch the device has room for, or fewer."""
        if SIMULATED:
            return 1  # nothing holds the simulator's blocks together
        dtype = arguments[_ARGUMENTS.index("values")].dtype
        if dtype not in self._most_blocks:
            (compiled,) = kernel.overloads.values()
            room = compiled.max_cooperative_grid_blocks(self._shape.n_threads)
            self._most_blocks[dtype] = min(room, self._n_blocks or room)
        return self._most_blocks[dtype]


#: The arrays that the kernels take, in order.
_ARGUMENTS = (
    "table", "pieces", "steps", "order", "values", "places", "affine", "labels", "weights", "rows",
    "losses", "squares",
)  # fmt: skip


class _Arrays(dict):
    """Arrays on the device by the names of the kernels' arguments; kept where sizes stay."""

    inputs: Inputs

    def room(self, name: str, size: int, dtype: Any) -> Any:
        """Return an array of some size, with any content if it is new."""
        if name not in self or self[name].size != size or self[name].dtype != dtype:
            self.pop(name, None)  # before there is another
            self[name] = _allocate(name, size, np.dtype(dtype))
        return self[name]

    def put(self, name: str, values: NDArray) -> None:
        """Copy an array to the device."""
        self.room(name, values.size, values.dtype).copy_to_device(np.ascontiguousarray(values))


def _allocate(name: str, size: int, dtype: np.dtype) -> Any:
    """Return a new array on the device.

    Raises
    ------
    MemoryError
        With what was needed and what there was.
    """
    try:
        return cuda.device_array(size, dtype)
    except Exception as error:  # the two packages and the simulator have no class in common
        if "OUT_OF_MEMORY" not in str(error):
            raise
        free = cuda.current_context().get_memory_info()[0]
        raise MemoryError(
            f"the GPU has too little memory for the {name} array: "
            f"{size * dtype.itemsize / 1e6:,.1f} MB are needed, {free / 1e6:,.1f} MB are free; use "
            "less data or a smaller network, end other programs on the GPU, or set "
            "backend='cython'."
        ) from error


_configuring = threading.Lock()


def _configured(kernel: Any, n_blocks: int, n_threads: int) -> Any:
    """Return a launcher of a kernel."""
    with _configuring, warnings.catch_warnings():
        # Few blocks are said to be slow. Here they are as many as there is work for.
        warnings.filterwarnings("ignore", message="Grid size .* under-utilization")
        return kernel[n_blocks, n_threads]


def _pieces(n: int, batch_size: int, n_at_once: int) -> NDArray:
    """Return the kernels' `pieces`, one to a row: batches in parts of up to n_at_once rows."""
    batch_size = min(batch_size, n)
    n_parts = -(-batch_size // n_at_once)
    batch, part = np.divmod(np.arange(-(-n // batch_size) * n_parts), n_parts)
    batch_stop = np.minimum((batch + 1) * batch_size, n)
    start = batch * batch_size + part * n_at_once
    stop = np.minimum(start + n_at_once, batch_stop)
    flags = BEGINS_BATCH * (part == 0) + ENDS_BATCH * (stop == batch_stop)
    return np.stack([start, stop, batch, flags], axis=1)[start < stop].astype(np.int64)


def _state(optimizer: Any) -> list[NDArray]:
    """Return the state vectors of an optimiser."""
    return [optimizer.velocity] if optimizer.name == "sgd" else [optimizer.m, optimizer.v]


# ---- without an engine -------------------------------------------------------------------------


#: Rows that are predicted on the host: a device would have to be sent the weights, which takes
#: longer.
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
        A = _FORMULAS[network.output_activation if layer == last else network.activation](Z)
    out[...] = A
    return True


_FORMULAS: dict[str, Callable[[NDArray], NDArray]] = {
    "identity": lambda Z: Z,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda Z: np.maximum(Z, 0),
    "exp": np.exp,
    "softmax": lambda Z: softmax(Z, axis=1),
}
