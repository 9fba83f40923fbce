"""The kernels. Their arguments are documented in `kernels`.

There are no atomics, and every sum has a fixed order that depends on the shapes only, so results
are bit-identical between runs and independent of the number of blocks.

Sparse rows are expanded when a batch is gathered: on a device, dense arithmetic is faster than
lists per feature, if the batch fits into memory.

A lower bound of an epoch, derived, not measured, for 784-50-10 in float32 on 60 000 uint8 rows in
batches of 200, on a device that does 128 multiply-adds, reads 32 numbers of shared memory and 64
bytes of the second-level cache per cycle and multiprocessor, at least 104 of which it has:

- barriers: 300 batches x 2. Their latency is the device's (benchmarks/gpu_timings.py measures it).
- SAMPLES: 100 pairs of samples, each of which reads all weights once: 159 kB, 2 500 cycles, and
  does 80 000 multiply-adds, 620 cycles.
- WEIGHTS: 104 tiles of 16 x 32 weights. Each reads 200 x 48 numbers (38 kB, 600 cycles) and does
  102 000 multiply-adds (800 cycles). A thread with 4 x 4 sums reads half a number for each
  (1 600 cycles), which is the bound.
- memory: 47 MB of bytes per epoch, a few hundredths of a millisecond at terabytes a second.

That is 4 100 cycles per batch and 1.2 million per epoch, 0.7 ms at 1.75 GHz, and 600 barriers.
Latency is added to this: a stage is a chain of reads and of barriers within a block.
"""

import math
from functools import cache
from typing import Any

import numpy as np
from numba import cuda

from fastmlp.backends.cuda_backend.device import SIMULATED
from fastmlp.backends.cuda_backend.plan import (
    ALPHA,
    BACKWARD,
    BATCHES,
    BEGINS_BATCH,
    CLIP,
    CLIPS,
    COEF,
    D_OUT,
    ENDS_BATCH,
    EPOCH,
    EXP,
    FIRST_TILE,
    FORWARD,
    GATHER,
    GRADIENT,
    GROUP,
    HEAD,
    HERE_IN,
    HERE_OUT,
    HIDDEN,
    INTERCEPT,
    IS_SCALED,
    IS_SPARSE,
    IS_SQUARED,
    IS_WEIGHTED,
    KEPT,
    KEY_HIGH,
    KEY_LOW,
    LAST,
    LOGISTIC,
    MAX_NORM,
    MEASURE,
    N_FIELDS,
    N_IN,
    N_LAYERS,
    N_OUT,
    N_PARAMETERS,
    N_PIECE,
    N_SAMPLES,
    N_STAGES,
    N_STEP,
    N_TILES,
    OUTPUT,
    PARTIAL,
    PREDICT,
    RATE,
    READS_Z,
    ROWS_IN,
    ROWS_OUT,
    SAMPLES,
    SETTINGS_AT,
    SOFTMAX,
    SQUARES,
    STAGES,
    START,
    THRESHOLD,
    TOTAL_WEIGHT,
    UPDATE,
    WEIGHTS,
    Shape,
)
from fastmlp.core.functions import ACTIVATIONS, CODES, bound
from fastmlp.core.optimizers import OPTIMIZER_CODES, OPTIMIZERS, SETTINGS
from fastmlp.core.random_bits import philox_words

n_settings = len(SETTINGS)

# Indices in kernels are unsigned, to avoid checks for negative indices.
# (Sums of signed and unsigned numbers would be floating-point numbers; so the conversion is last.)
U = np.uint64


#: See `fastmlp.core.random_bits`.
philox = cuda.jit(device=True)(philox_words)


@cuda.jit(device=True)
def smaller(a: Any, b: Any) -> Any:
    """Return the minimum; the CUDA target of numba 0.68 cannot compile `min`."""
    return a if a < b else b


@cuda.jit(device=True)
def quotient(a: Any, b: Any) -> Any:
    """Return a // b for numbers below 2**32, which a device divides several times faster."""
    return np.int64(np.uint32(a) // np.uint32(b))


@cuda.jit(device=True)
def sum_over(wide: Any, value: Any, width: Any, n: Any) -> Any:
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


def _number_functions(dtype: np.dtype) -> tuple[Any, ...]:
    """Return the device functions of one number: activations, the loss, dropout."""
    real = dtype.type
    zero, one, half_one = real(0), real(1), real(0.5)
    eps = np.finfo(dtype).eps
    certain = real(1) - eps

    @cuda.jit(device=True)
    def exp(z):
        return real(math.exp(z))

    @cuda.jit(device=True)
    def tanh(z):
        return real(math.tanh(z))

    @cuda.jit(device=True)
    def logistic(z):
        e = exp(-abs(z))  # never overflows
        return (e if z < zero else one) / (one + e)

    @cuda.jit(device=True)
    def where(condition, a, b):
        return a if condition else b

    def compiled(function):
        primitives = {"exp": exp, "tanh": tanh, "logistic": logistic, "where": where}
        return cuda.jit(device=True)(bound(function, **primitives))

    def chain(make, functions, end):
        """Return a function that calls that of the code that is its first argument."""
        for name, function in functions.items():
            end = make(CODES[name], function, end)
        return end

    def activating(code, f, others):
        @cuda.jit(device=True)
        def activate(function, z):
            return f(z, real) if function == code else others(function, z)

        return activate

    def differentiating(code, df, others):
        @cuda.jit(device=True)
        def differentiate(function, z, a):
            return df(z, a, real) if function == code else others(function, z, a)

        return differentiate

    @cuda.jit(device=True)
    def activate_exp(function, z):
        return exp(z)

    @cuda.jit(device=True)
    def differentiate_identity(function, z, a):
        return one

    activate = chain(
        activating, {name: compiled(a.f) for name, a in ACTIVATIONS.items()}, activate_exp
    )
    #: The derivative of a hidden activation at z, in terms of its value a too.
    differentiate = chain(
        differentiating, {name: compiled(a.df) for name, a in ACTIVATIONS.items()},
        differentiate_identity,
    )  # fmt: skip

    @cuda.jit(device=True)
    def leave_out(table, steps, rows, at, layer, position, unit, z, a, place):
        """Return a hidden activation times dropout's factor.

        What its delta is to be multiplied by is left at a place in `rows`: that factor, and the
        derivative if it is not found from the activation.
        """
        kept = table[U(at + KEPT)]
        slope = one
        if table[READS_Z] != 0:
            slope = differentiate(table[HIDDEN], z, a)
            rows[U(place)] = slope
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
        rows[U(place)] = slope * factor
        return a * factor

    @cuda.jit(device=True)
    def delta_of(table, steps, rows, at, a, delta, place):
        """Return a hidden unit's delta from that of its output a, with what stands in `rows`."""
        kept = table[U(at + KEPT)]
        if table[READS_Z] != 0:
            return delta * rows[U(place)]
        if kept == 0:
            return delta * differentiate(table[HIDDEN], a, a)
        a *= real(steps[U(kept)])
        return delta * differentiate(table[HIDDEN], a, a) * rows[U(place)]

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

    return activate, differentiate, loss_of, leave_out, delta_of


def _sample_functions(
    dtype: np.dtype,
    shape: Shape,
    activate: Any,
    differentiate: Any,
    loss_of: Any,
    leave_out: Any,
    delta_of: Any,
) -> tuple[Any, ...]:
    """Return the device functions by which a block takes GROUP samples through a stage.

    Half of the threads have one sample, the other half the other.
    """
    real = dtype.type
    zero, one = real(0), real(1)
    n_threads = shape.n_threads
    lanes = n_threads // GROUP

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
                    delta *= differentiate(LOGISTIC, p, p) / real(n)
                z[U(start + j * unit_stride)] = delta
            loss *= np.float64(weight)
            if is_squared:
                loss /= n
        loss = sum_over(wide, loss, lanes, n)
        if is_mine and lane == 0:
            losses[U(first + row)] = loss

    @cuda.jit(device=True)
    def weigh_inputs(table, at, weights, here):
        """Leave each layer output's sum over some of the inputs, for two samples, in `here`."""
        t = cuda.threadIdx.x
        n_in, n_out = table[U(at + N_IN)], table[U(at + N_OUT)]
        n_parts = smaller(n_in, quotient(n_threads, n_out))
        part = quotient(t, n_out)
        first_sum, second_sum = zero, zero
        if part < n_parts:
            # Adjacent threads read adjacent weights; eight at a time, because each comes
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
        """Run both passes of two samples; unit k of sample s is at k * GROUP + s in `here`.

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
                    a = activate(table[HIDDEN], z)
                    if sample < count:
                        place = (row + sample) * n + unit
                        a = leave_out(table, steps, rows, at, layer, first + sample, unit, z, a,
                                      table[U(at + D_OUT)] + place)  # fmt: skip
                        rows[U(table[U(at + ROWS_OUT)] + place)] = a
                    z = a
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

    return gather, finish_rows, pass_samples


def _tile_functions(
    dtype: np.dtype, shape: Shape, activate: Any, leave_out: Any, delta_of: Any
) -> tuple[Any, ...]:
    """Return the device functions by which a block computes a tile of a product of matrices."""
    real = dtype.type
    zero, one = real(0), real(1)
    n_threads, tile_rows, tile_columns = shape.n_threads, shape.rows, shape.columns
    side, depth_limit = shape.side, shape.depth
    n_slices, half_slices = side**2, side**2 // 2
    slice_threads = n_threads // n_slices
    row_step, column_step = tile_rows // side, tile_columns // side
    slice_pitch = shape.slice_pitch
    slice_size = tile_rows * slice_pitch
    row_pitch, column_pitch = tile_rows + 1, tile_columns + 1  # odd, for the banks
    columns_at = depth_limit * row_pitch

    @cuda.jit(device=True)
    def fetch(array, start, n, step, first, depth, depth_step, ones, here, to, width, pitch):
        """Copy a strip of a matrix, `width` x `depth`, to shared memory; zeros are put around it.

        Only the first n rows exist; row `ones`, if there is one, consists of ones.
        """
        t = cuda.threadIdx.x
        if depth_step == 1:  # adjacent threads read adjacent numbers
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
                a = activate(table[HIDDEN], z)
                z = leave_out(table, steps, rows, at, layer, start + row, unit, z, a,
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
    def sqrt(x):
        return real(math.sqrt(x))

    def updating(code, formula, others):
        @cuda.jit(device=True)
        def update(kind, w, g, state_1, state_2, settings):
            if kind == code:
                return formula(w, g, state_1, state_2, settings)
            return others(kind, w, g, state_1, state_2, settings)

        return update

    @cuda.jit(device=True)
    def unchanged(kind, w, g, state_1, state_2, settings):
        return w, state_1, state_2

    step_of = unchanged
    for name, optimizer in OPTIMIZERS.items():
        formula = cuda.jit(device=True)(bound(optimizer.update, sqrt=sqrt))
        step_of = updating(OPTIMIZER_CODES[name], formula, step_of)

    @cuda.jit(device=True)
    def update(steps, weights, mode, p, n_parameters, g, rate):
        """Update parameter p by its gradient g; return its new value."""
        settings = cuda.local.array(n_settings, real)
        for i in range(n_settings):
            settings[i] = real(steps[U(SETTINGS_AT + i)])
        settings[0] = real(rate)
        w, state_1, state_2 = step_of(
            mode - UPDATE, weights[U(p)], g, weights[U(p + n_parameters)],
            weights[U(p + 2 * n_parameters)], settings,
        )  # fmt: skip
        weights[U(p)] = w
        weights[U(p + n_parameters)] = state_1
        weights[U(p + 2 * n_parameters)] = state_2
        return w

    @cuda.jit(device=True)
    def find_weight(table, tile):
        """Return the layer's place in the table, and the tile's first row and unit."""
        at = HEAD
        for layer in range(1, table[N_LAYERS]):
            if tile >= table[U(HEAD + layer * N_FIELDS + FIRST_TILE)]:
                at = HEAD + layer * N_FIELDS
        n_out = table[U(at + N_OUT)]
        n_across = (n_out + tile_columns - 1) // tile_columns
        place = tile - table[U(at + FIRST_TILE)]
        down = quotient(place, n_across)
        first_row, first_unit = down * tile_rows, (place - down * n_across) * tile_columns
        return at, first_row, first_unit

    @cuda.jit(device=True)
    def weight_tile(table, steps, weights, rows, squares, mode, flags, batch, n_rows, tile, is_new,
                    here, wide):  # fmt: skip
        """Sum the gradient of a tile of weights over a piece, and update them at a batch's end.

        The intercepts are one more row of coefficients, whose input is 1. With `is_new` the tile's
        squares are summed and no more.
        """
        at, first_row, first_unit = find_weight(table, tile)
        n_in, n_out = table[U(at + N_IN)], table[U(at + N_OUT)]
        row = first_row + cuda.threadIdx.x // tile_columns
        unit = first_unit + cuda.threadIdx.x % tile_columns
        is_weight = row <= n_in and unit < n_out
        is_coef = row < n_in and is_weight
        p = table[U(at + COEF)] + row * n_out + unit if is_coef else table[U(at + INTERCEPT)] + unit
        w, clipped = zero, zero
        updates = mode != GRADIENT and table[CLIPS] == 0
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
                if not updates or not flags & ENDS_BATCH:
                    weights[U(p + 3 * n_parameters)] = clipped = g
                else:
                    updated = update(
                        steps, weights, mode, p, n_parameters, g, steps[U(step + RATE)]
                    )
                    if is_coef:
                        w = updated
        if is_new or (updates and flags & ENDS_BATCH):
            square = sum_over(wide, np.float64(w) * np.float64(w), n_threads, n_threads)
            if cuda.threadIdx.x == 0:
                squares[U(tile)] = square
        elif table[CLIPS] != 0 and flags & ENDS_BATCH:
            square = np.float64(clipped) * np.float64(clipped)
            square = sum_over(wide, square, n_threads, n_threads)
            if cuda.threadIdx.x == 0:
                squares[U(table[N_TILES] + tile)] = square

    @cuda.jit(device=True)
    def clip_tile(table, steps, weights, squares, mode, batch, tile, factor, wide):
        """Update a tile of weights by the gradient of a batch, times a factor."""
        at, first_row, first_unit = find_weight(table, tile)
        n_in, n_out = table[U(at + N_IN)], table[U(at + N_OUT)]
        row = first_row + cuda.threadIdx.x // tile_columns
        unit = first_unit + cuda.threadIdx.x % tile_columns
        is_coef = row < n_in and unit < n_out
        w = zero
        if row <= n_in and unit < n_out:
            n_parameters = table[N_PARAMETERS]
            p = table[U(at + INTERCEPT)] + unit
            if is_coef:
                p = table[U(at + COEF)] + row * n_out + unit
            g = weights[U(p + 3 * n_parameters)] * factor
            rate = steps[U(BATCHES + batch * N_STEP + RATE)]
            updated = update(steps, weights, mode, p, n_parameters, g, rate)
            if is_coef:
                w = updated
        square = sum_over(wide, np.float64(w) * np.float64(w), n_threads, n_threads)
        if cuda.threadIdx.x == 0:
            squares[U(tile)] = square

    @cuda.jit(device=True)
    def clipping_factor(table, steps, squares, wide):
        """Return the factor that clips the norm of the gradient."""
        value, n_tiles = 0.0, table[N_TILES]
        for i in range(cuda.threadIdx.x, n_tiles, n_threads):
            value += squares[U(n_tiles + i)]
        norm = math.sqrt(sum_over(wide, value, n_threads, n_threads))
        return real(steps[MAX_NORM] / norm) if norm > steps[MAX_NORM] else one

    @cuda.jit(device=True)
    def sum_squares(steps, squares, n_tiles, batch, wide):
        """Add up the tiles' squared coefficients: the penalty at the beginning of a batch."""
        value = 0.0
        for i in range(cuda.threadIdx.x, n_tiles, n_threads):
            value += squares[U(i)]
        value = sum_over(wide, value, n_threads, n_threads)
        if cuda.threadIdx.x == 0:
            steps[U(BATCHES + batch * N_STEP + SQUARES)] = value

    return forward_tile, backward_tile, weight_tile, clip_tile, clipping_factor, sum_squares


@cache
def kernels(dtype: np.dtype, shape: Shape) -> tuple[Any, Any]:
    """Return the two kernels for a dtype: all stages of many pieces, and one stage of one piece.

    Their arguments, all on the device and of one dimension (`real` is `dtype`):

    - table : int64         IN, the network, the data and the stages, see `Plan.table`
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
                            deltas' places hold what they will be multiplied by before
    - losses : float64      OUT, the weighted loss at each position; for predictions, not 0 where
                            inputs are not finite
    - squares : float64     scratch: the sum of squared coefficients of each tile of weights, then
                            of squared gradients, where these are clipped
    - mode : int            PREDICT, GRADIENT or, of an optimiser, UPDATE plus its code
    """
    real = dtype.type
    n_threads, tile_rows, tile_columns = shape.n_threads, shape.rows, shape.columns
    n_shared = shape.n_shared
    # A multiprocessor has 65 536 registers. The simulator does not know the option.
    options = {} if SIMULATED else {"max_registers": 65536 // n_threads}
    activate, differentiate, loss_of, leave_out, delta_of = _number_functions(dtype)
    gather, finish_rows, pass_samples = _sample_functions(
        dtype, shape, activate, differentiate, loss_of, leave_out, delta_of
    )
    forward_tile, backward_tile, weight_tile, clip_tile, clipping_factor, sum_squares = (
        _tile_functions(dtype, shape, activate, leave_out, delta_of)
    )

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
        elif stage == CLIP:
            if flags & ENDS_BATCH:
                factor = clipping_factor(table, steps, squares, wide)
                for tile in range(block, table[N_TILES], n_blocks):
                    clip_tile(table, steps, weights, squares, mode, batch, tile, factor, wide)
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
        """Run all stages of pieces first to last, in one cooperative launch."""
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
        """Run one stage of one piece."""
        here = cuda.shared.array(n_shared, real)
        wide = cuda.shared.array(n_threads, np.float64)
        run_stage(table, pieces, steps, order, values, places, affine, labels, weights, rows,
                  losses, squares, mode, piece, stage, layer, cuda.blockIdx.x, cuda.gridDim.x,
                  here, wide)  # fmt: skip

    return run_pieces, run_one
