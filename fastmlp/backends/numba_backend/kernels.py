"""The kernels of the Numba backend; compiled code is in this file and in `fastmlp.core`.

A minibatch has two phases, with a barrier of the threads in between:

    A  forward and backward pass: each thread gathers the inputs of some samples, computes their
       activations and loss, and the deltas (the derivatives of the loss by the pre-activations).
    B  weight update: each thread computes the gradient of some weights from activations and
       deltas, adds the penalty and applies the update.

Every sum has a fixed order, so results do not depend on the number of threads. A batch whose
inputs do not fit into the cache is processed in chunks; then the gradient is accumulated over the
chunks and applied with the last one.

Rows of weights, activations and deltas are padded with zeros to whole vectors of `lanes` numbers,
so that no loop has a tail. Products are computed in *tiles*: a few rows, a few vectors wide, whose
sums stay in registers. Plain loops over arrays would keep them in memory, which takes two to three
times as long, so tiles are generated for LLVM directly (`_emit_tile`), with an equivalent in Python
for NUMBA_DISABLE_JIT=1.
"""

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numba.np import arrayobj
from numba.np.unsafe.ndarray import to_fixed_tuple

from fastmlp.core import functions, optimizers, random_bits
from fastmlp.core.functions import ACTIVATIONS, CODES, bound
from fastmlp.core.optimizers import (
    BETA_1,
    BETA_2,
    EPSILON,
    OPTIMIZER_CODES,
    OPTIMIZERS,
    RATE,
    SETTINGS,
)
from fastmlp.core.random_bits import philox_words

# "reassoc" would break the rounding in exp; "nnan" and "ninf" would hide divergence.
_JIT: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"contract", "nsz"},
    "error_model": "numpy",
}
jit = njit(**_JIT)


def entry(function: Any) -> Any:
    """Compile a function that is called from Python, and cache it on disk."""
    try:
        kernel = njit(**_JIT, cache=True)(function)
    except RuntimeError:  # no writable cache directory
        return jit(function)
    if not config.DISABLE_JIT:
        # Numba recompiles when this file changes; the others are added here.
        index = kernel._cache._cache_file
        index._source_stamp = (index._source_stamp, _OTHER_SOURCES)
    return kernel


def _stamp(module: Any) -> tuple[float, int]:
    """Return the version stamp of a module's file, as Numba does."""
    status = os.stat(module.__file__)
    return status.st_mtime, status.st_size


_OTHER_SOURCES = tuple(map(_stamp, (functions, optimizers, random_bits)))


def _vector_bytes() -> int:
    """Return the size of the processor's vectors."""
    if config.CPU_FEATURES is not None:
        features = set(config.CPU_FEATURES.replace("+", "").split(","))
    else:
        features = {name for name, there in llvm.get_host_cpu_features().items() if there}
    return 64 if "avx512f" in features else 32 if "avx2" in features else 16


#: Whether kernels run as plain Python, slowly, for debugging.
IS_PLAIN = bool(config.DISABLE_JIT)

VECTOR_BYTES = _vector_bytes()

#: Rows and vectors of a dense tile: as many sums as there are registers for, which are 32 with
#: AVX-512, else 16.
TILE_ROWS = 6
TILE_VECTORS = 4 if VECTOR_BYTES == 64 else 2

#: The same of a tile that skips zeros in the weight update. Its rows share a mask, because adjacent
#: features are often zero together. The fewer they are, the fewer zeros are multiplied after all.
MASKED_ROWS = 4 if VECTOR_BYTES == 64 else 2
MASKED_VECTORS = 4

#: Vectors of weights, at most, that one walk over a sample's mask or list serves.
SKIPPING_VECTORS = 4 if VECTOR_BYTES == 64 else 8

#: Numbers per mask, and rows of weights per work item of the weight update that skips zeros.
MASK_BITS = 64

#: The same where zeros are not skipped.
BLOCK_ROWS = 8 * TILE_ROWS

#: Rows per work item of the forward and backward pass.
GROUP_ROWS = 32

#: Arguments of functions: for a literal, Numba would compile one more version.
ZERO, ONE = np.int64(0), np.int64(1)

#: Bytes that are read from memory together.
CACHE_LINE = 64

#: Number of spins of a waiting thread before it yields, and then sleeps.
SPINS, YIELDS = 2000, 1000

# Kinds of input.
DENSE, BYTES, CSR = 0, 1, 2

# Activations of the output layer.
LOGISTIC, SOFTMAX, EXP = CODES["logistic"], CODES["softmax"], CODES["exp"]

# Columns of `Net.layers`: units, padded units, and where things of the layer begin.
N_IN, N_OUT, WIDTH, BACK_WIDTH, WEIGHTS_AT, INTERCEPTS_AT, TRANSPOSED_AT = range(7)

# Columns of `Net.blocks`.
LAYER, ROW, N_ROWS, FIRST, UNITS = range(5)

# Elements of `Net.draws`, in front of a threshold per hidden layer.
KEY_LOW, KEY_HIGH, EPOCH, START, THRESHOLDS = range(5)

# Elements of `Scratch.team`, on cache lines of their own.
ARRIVED, GENERATION, GROUPS_TAKEN, BLOCKS_TAKEN, STOP, STOPPING, UPDATES = range(0, 56, 8)

# Elements of the optimiser's description and, in the engine's dtype, of a row of `Scratch.steps`,
# which says what turns gradient sums into a step: its settings follow. In place of the code stands
# the factor of the sums there.
CODE, CORRECTS_BIAS, MAX_NORM, SETTINGS_AT = range(4)
SCALE = 0

N_SETTINGS = len(SETTINGS)

STEP_SIZE = 16  # a cache line or two


class Net(NamedTuple):
    """A network. Vectors over all weights have the same layout: per layer, rows then intercepts."""

    layers: Any  # (n_layers, 7) int64
    blocks: Any  # (n_blocks, 5) int64: the items of work of phase B
    hidden: int  # activation
    reads_z: bool  # its derivative needs the pre-activation
    output: int
    is_squared: bool  # the loss is the squared error
    alpha: float
    weights: Any  # (n,)
    transposed: Any  # (n,) the weights transposed, of all layers but the first
    state_1: Any  # (n,) of the optimiser, or (0,)
    state_2: Any
    gradient: Any  # (n,) or (0,)
    squares: Any  # (n_blocks,) float64: sum of squares of each block's weights
    gradient_squares: Any  # (n_blocks,) the same of its gradient, if that is clipped
    kept: Any  # (n_layers - 1,) float64: the share of units that dropout keeps, 1 for all of them
    draws: Any  # (4 + n_layers - 1,) uint64: what dropout draws its masks from


class Data(NamedTuple):
    """What to train on or predict. Of the three matrices, those that are not meant are empty."""

    kind: int
    n_samples: int
    skips_zeros: bool  # so many inputs are zeros that looking for them pays
    keeps_bytes: bool  # then bytes stay bytes even when they are gathered
    byte_values: Any  # (n_samples * n_in,) uint8
    values: Any  # (n_samples * n_in,)
    stored: Any  # (n_stored,) CSR, already scaled
    indices: Any  # (n_stored,) int32
    indptr: Any  # (n_samples + 1,) int64
    scale: Any  # (n_in,) or (0,); not used by CSR
    shift: Any
    table: Any  # (256,) what bytes stand for if their zeros are skipped
    is_shifted: bool
    targets: Any  # (n_samples * n_outputs,)
    weights: Any  # (n_samples,) or (0,) for all ones


class Scratch(NamedTuple):
    """Memory for one chunk, and per thread."""

    n_threads: int  # that there is room for
    rows_at: Any  # (n_layers,) int64: where a layer's rows begin in A and D
    stride: int  # between rows of gathered inputs
    X: Any  # (chunk_rows * stride,) gathered inputs
    byte_X: Any  # the same, uint8, if bytes stay bytes
    n_masks: int  # per row
    masks: Any  # (chunk_rows * n_masks,) uint64: which inputs are not zero
    A: Any  # (chunk_rows * padded units of all layers,) activations
    D: Any  # the same, deltas
    factors: Any  # the same, of dropout; never touched without it
    slopes: Any  # the same, derivatives of activations; empty if they are computed from A
    losses: Any  # (chunk_rows,) float64
    sample_weights: Any  # (chunk_rows,)
    list_start: Any  # (n_in + 1,) int64: CSR chunks as lists per feature
    list_next: Any  # (n_in,) int64
    list_rows: Any  # (room,) int32
    list_values: Any  # (room,)
    sums: Any  # (n_threads * MASK_BITS * units of the widest block,) of a block
    starts: Any  # (n_threads * width of the first layer,) what its sums begin with
    delta_sums: Any  # (the same,)
    feature_masks: Any  # (n_threads * chunk_rows / MASKED_ROWS,) uint64
    steps: Any  # (n_threads * 16,)
    zeros: Any  # (units of the widest layer,)
    ones: Any  # (1,)
    team: Any  # (64,) int64


# ------------------------------------------------------------------------------------------- tiles


def lanes(dtype: Any) -> int:
    """Return how many numbers a vector holds."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def panel_units(width, n_lanes, most):
    """Return the units of the panels of a matrix that is `width` units wide: as few panels as can
    be if none has more than `most` vectors, and as equal. The last one may have fewer."""
    vectors = width // n_lanes
    n_panels = (vectors + most - 1) // most
    return (vectors + n_panels - 1) // n_panels * n_lanes


def _element(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    """Return a pointer to an element of an array whose elements lie next to each other."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [at])


def _vector(builder: Any, pointer: Any, kind: Any) -> Any:
    return builder.bitcast(pointer, kind.as_pointer())


def _matrices(context: Any, builder: Any, kinds: Any, args: Sequence[Any]) -> list[Any]:
    """Return pairs (pointer, distance between rows) of triples (array, at, step)."""
    return [
        (_element(context, builder, kind, args[3 * i], args[3 * i + 1]), args[3 * i + 2])
        for i, kind in enumerate(kinds)
    ]


def _emit_tile(
    builder: Any,
    rows: int,
    vectors: int,
    real: Any,
    loop: Any,
    value: Any,
    B: tuple[Any, Any],
    C0: tuple[Any, Any],
    C: tuple[Any, Any],
) -> None:
    """Emit C[i, :] = C0[i, :] + sum over k of value(i, k) * B[k, :].

    `loop` is a context that gives k; B, C0 and C are pairs (pointer, distance between rows).
    """
    itemsize = real.bitwidth // 8
    n_lanes = VECTOR_BYTES // itemsize
    number = ir.FloatType() if itemsize == 4 else ir.DoubleType()
    kind = ir.VectorType(number, n_lanes)
    no_lane = ir.Constant(ir.VectorType(ir.IntType(32), n_lanes), None)

    def place(matrix: tuple[Any, Any], i: Any, j: int) -> Any:
        pointer, step = matrix
        at = builder.add(builder.mul(i, step), ir.Constant(i.type, j * n_lanes))
        return _vector(builder, builder.gep(pointer, [at]), kind)

    def index(i: int) -> Any:
        return ir.Constant(ir.IntType(64), i)

    sums = [[cgutils.alloca_once(builder, kind) for _ in range(vectors)] for _ in range(rows)]
    for i in range(rows):
        for j in range(vectors):
            start = builder.load(place(C0, index(i), j), align=itemsize)
            builder.store(start, sums[i][j])
    with loop() as k:
        row = [builder.load(place(B, k, j), align=itemsize) for j in range(vectors)]
        for i in range(rows):
            undefined = ir.Constant(kind, ir.Undefined)
            one = builder.insert_element(undefined, value(i, k), ir.Constant(ir.IntType(32), 0))
            a = builder.shuffle_vector(one, undefined, no_lane)  # the same in every lane
            for j in range(vectors):
                product = builder.fmul(a, row[j], flags=("contract",))
                total = builder.fadd(builder.load(sums[i][j]), product, flags=("contract",))
                builder.store(total, sums[i][j])
    for i in range(rows):
        for j in range(vectors):
            builder.store(builder.load(sums[i][j]), place(C, index(i), j), align=itemsize)


def _emit_tiles(builder: Any, rows: int, most: int, vectors: Any, *rest: Any) -> None:
    """Emit the tile for each number of vectors up to `most`, and the choice of one of them."""
    end = builder.append_basic_block("tiles.end")
    choice = builder.switch(vectors, end)
    for n in range(1, most + 1):
        block = builder.append_basic_block(f"tiles.{n}")
        choice.add_case(ir.Constant(vectors.type, n), block)
        builder.position_at_end(block)
        _emit_tile(builder, rows, n, *rest)
        builder.branch(end)
    builder.position_at_end(end)


def _count(builder: Any, n: Any) -> Any:
    """Return a context that gives 0 to n - 1."""

    @contextmanager
    def loop() -> Iterator[Any]:
        with cgutils.for_range(builder, n) as counter:
            yield counter.index

    return loop


def _bits(builder: Any, mask: Any) -> Any:
    """Return a context that gives the positions of the bits that are set, lowest first."""

    @contextmanager
    def loop() -> Iterator[Any]:
        rest = cgutils.alloca_once_value(builder, mask)
        test, body, end = (builder.append_basic_block(f"bits.{part}") for part in "tbe")
        builder.branch(test)
        builder.position_at_end(test)
        left = builder.load(rest)
        zero, one = ir.Constant(mask.type, 0), ir.Constant(mask.type, 1)
        builder.cbranch(builder.icmp_unsigned("!=", left, zero), body, end)
        builder.position_at_end(body)
        yield builder.cttz(left, ir.Constant(ir.IntType(1), 1))
        builder.store(builder.and_(left, builder.sub(left, one)), rest)
        builder.branch(test)
        builder.position_at_end(end)

    return loop


# Makers of tiles: of some rows, and up to `most` vectors, as many as the first argument says.


def _make_dense_tile(rows: int, most: int) -> Any:
    """Return C[i, :] = C0[i, :] + sum over k of A[i * row_step + k * k_step] * B[k, :]."""
    if IS_PLAIN:
        return partial(_plain_dense_tile, rows)

    @intrinsic
    def tile(typing_context, vectors, n_k, A, a_at, row_step, k_step, B, b_at, b_step,
             C0, c0_at, c0_step, C, c_at, c_step):  # fmt: skip
        i8 = types.int64
        signature = types.void(i8, i8, A, i8, i8, i8, B, i8, i8, C0, i8, i8, C, i8, i8)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors, n_k, A_, a_at, row_step, k_step, *rest = args
            a = _element(context, builder, A, A_, a_at)

            def value(i: int, k: Any) -> Any:
                at = builder.mul(row_step, ir.Constant(ir.IntType(64), i))
                return builder.load(builder.gep(a, [builder.add(at, builder.mul(k, k_step))]))

            matrices = _matrices(context, builder, (B, C0, C), rest)
            loop = _count(builder, n_k)
            _emit_tiles(builder, rows, most, vectors, B.dtype, loop, value, *matrices)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _make_masked_tile(rows: int, most: int) -> Any:
    """Return C[i, :] = C0[i, :] + sum over the bits k of a mask of A(i, k) * B[k, :], where
    A(i, k) is what values[k * stride + i] stands for: bytes, for an entry of the table."""
    if IS_PLAIN:
        return partial(_plain_masked_tile, rows)

    @intrinsic
    def tile(typing_context, vectors, mask, values, v_at, stride, table, B, b_at, b_step,
             C0, c0_at, c0_step, C, c_at, c_step):  # fmt: skip
        i8 = types.int64
        signature = types.void(
            i8, types.uint64, values, i8, i8, table, B, i8, i8, C0, i8, i8, C, i8, i8
        )

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors, mask_, values_, v_at, stride, table_, *rest = args
            element = _element(context, builder, values, values_, v_at)
            entry = _element(context, builder, table, table_, ir.Constant(ir.IntType(64), 0))

            def value(i: int, k: Any) -> Any:
                at = builder.add(builder.mul(k, stride), ir.Constant(ir.IntType(64), i))
                found = builder.load(builder.gep(element, [at]))
                if values.dtype == types.uint8:
                    code = builder.zext(found, ir.IntType(64))
                    found = builder.load(builder.gep(entry, [code]))
                return found

            matrices = _matrices(context, builder, (B, C0, C), rest)
            loop = _bits(builder, mask_)
            _emit_tiles(builder, rows, most, vectors, B.dtype, loop, value, *matrices)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _make_listed_tile(most: int) -> Any:
    """Return C = C0 + sum over the n entries k from `at` on of values[k] * B[rows[k], :]."""
    if IS_PLAIN:
        return _plain_listed_tile

    @intrinsic
    def tile(typing_context, vectors, n, rows, values, at, B, b_at, b_step, C0, c0_at, C, c_at):
        i8 = types.int64
        signature = types.void(i8, i8, rows, values, i8, B, i8, i8, C0, i8, C, i8)

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vectors, n, rows_, values_, at, B_, b_at, b_step, C0_, c0_at, C_, c_at = args
            row = _element(context, builder, rows, rows_, at)
            number = _element(context, builder, values, values_, at)
            position: list[Any] = []

            @contextmanager
            def loop() -> Iterator[Any]:
                with cgutils.for_range(builder, n) as counter:
                    position[:] = [counter.index]
                    yield builder.sext(builder.load(builder.gep(row, [*position])), ir.IntType(64))

            none = ir.Constant(ir.IntType(64), 0)
            matrices = _matrices(
                context, builder, (B, C0, C), [B_, b_at, b_step, C0_, c0_at, none, C_, c_at, none]
            )
            value = lambda i, k: builder.load(builder.gep(number, [*position]))  # noqa: E731
            _emit_tiles(builder, 1, most, vectors, B.dtype, loop, value, *matrices)
            return context.get_dummy_value()

        return signature, generate

    return tile


@intrinsic
def _part(typing_context, array, at, n):
    """array[at : at + n], without the reference count, which threads would fight over."""
    signature = array(array, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result = context.make_array(array)(context, builder)
        itemsize = context.get_constant(types.intp, array.dtype.bitwidth // 8)
        arrayobj.populate_array(
            result,
            data=_element(context, builder, array, *args[:2]),
            shape=[args[2]],
            strides=[itemsize],
            itemsize=itemsize,
            meminfo=None,
        )
        return result._getvalue()

    return signature, generate


@intrinsic
def _mask_of(typing_context, values, at):
    signature = types.uint64(values, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _element(context, builder, values, *args)
        number = pointer.type.pointee
        kind = ir.VectorType(number, MASK_BITS)
        align = 1 if values.dtype == types.uint8 else values.dtype.bitwidth // 8
        found = builder.load(_vector(builder, pointer, kind), align=align)
        zeros = ir.Constant(kind, None)
        if values.dtype == types.uint8:
            bits = builder.icmp_unsigned("!=", found, zeros)
        else:
            bits = builder.fcmp_unordered("!=", found, zeros)  # NaN is not zero
        return builder.bitcast(bits, ir.IntType(MASK_BITS))

    return signature, generate


@intrinsic
def _prefetch(typing_context, array, at):
    """Have the cache line of an element read, without waiting for it."""
    signature = types.void(array, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.bitcast(_element(context, builder, array, *args), cgutils.voidptr_t)
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, i32, i32, i32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [cgutils.voidptr_t], kind)
        # To read it, into the first-level cache, as data.
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _bits_of(typing_context, x):
    """Reinterpret a number as a signed integer of its size, or back."""
    into = {
        types.float32: types.int32,
        types.float64: types.int64,
        types.int32: types.float32,
        types.int64: types.float64,
    }[x]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return into(x), generate


@intrinsic
def _atomic_add(typing_context, array, at, value):
    signature = types.int64(array, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _element(context, builder, array, *args[:2])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return signature, generate


@intrinsic
def _atomic_load(typing_context, array, at):
    signature = types.int64(array, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_element(context, builder, array, *args), "seq_cst", 8)

    return signature, generate


@intrinsic
def _atomic_store(typing_context, array, at, value):
    signature = types.void(array, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _element(context, builder, array, *args[:2])
        builder.store_atomic(args[2], pointer, "seq_cst", 8)
        return context.get_dummy_value()

    return signature, generate


# The same without a compiler.


def _plain_dense_tile(
    rows, vectors, n_k, A, a_at, row_step, k_step, B, b_at, b_step, C0, c0_at, c0_step, C, c_at,
    c_step,
):  # fmt: skip
    for i in range(rows):
        values = [A[a_at + i * row_step + k * k_step] for k in range(n_k)]
        listed = np.arange(n_k), values, range(n_k)
        _plain_sum(vectors, *listed, B, b_at, b_step, C0, c0_at + i * c0_step, C, c_at + i * c_step)


def _plain_masked_tile(
    rows, vectors, mask, values, v_at, stride, table, B, b_at, b_step, C0, c0_at, c0_step, C, c_at,
    c_step,
):  # fmt: skip
    ks = [k for k in range(MASK_BITS) if int(mask) >> k & 1]
    for i in range(rows):
        found = [values[v_at + k * stride + i] for k in ks]
        numbers = [table[v] for v in found] if values.dtype == np.uint8 else found
        listed = np.array(ks, int), numbers, range(len(ks))
        _plain_sum(vectors, *listed, B, b_at, b_step, C0, c0_at + i * c0_step, C, c_at + i * c_step)


def _plain_listed_tile(vectors, n, rows, values, at, B, b_at, b_step, C0, c0_at, C, c_at):
    _plain_sum(vectors, rows, values, range(at, at + n), B, b_at, b_step, C0, c0_at, C, c_at)


def _plain_sum(vectors, rows, values, ks, B, b_at, b_step, C0, c0_at, C, c_at):
    """C = C0 + sum over k of values[k] * B[rows[k]]."""
    width = vectors * lanes(B.dtype)
    sums = C0[c0_at : c0_at + width].copy()
    for k in ks:
        at = b_at + rows[k] * b_step
        sums += values[k] * B[at : at + width]
    C[c_at : c_at + width] = sums


def _plain_part(array, at, n):
    return array[at : at + n]


def _plain_mask_of(values, at):
    mask = sum(1 << i for i in range(MASK_BITS) if values[at + i] != 0)
    return np.uint64(mask)


def _plain_prefetch(array, at):
    pass


def _plain_bits_of(x):
    into = {"f4": "i4", "f8": "i8", "i4": "f4", "i8": "f8"}[x.dtype.str[1:]]
    return x.view(into)


def _plain_atomic_add(array, at, value):
    before = array[at]
    array[at] += value
    return before


def _plain_atomic_load(array, at):
    return array[at]


def _plain_atomic_store(array, at, value):
    array[at] = value


dense_tile = _make_dense_tile(TILE_ROWS, TILE_VECTORS)
dense_row = _make_dense_tile(1, TILE_VECTORS)
masked_tile = _make_masked_tile(MASKED_ROWS, MASKED_VECTORS)
masked_row = _make_masked_tile(1, SKIPPING_VECTORS)
listed_row = _make_listed_tile(SKIPPING_VECTORS)

if IS_PLAIN:
    part, mask_of, bits_of = _plain_part, _plain_mask_of, _plain_bits_of
    atomic_add, atomic_load = _plain_atomic_add, _plain_atomic_load
    atomic_store, prefetch = _plain_atomic_store, _plain_prefetch
else:
    part, mask_of, bits_of = _part, _mask_of, _bits_of
    atomic_add, atomic_load, atomic_store = _atomic_add, _atomic_load, _atomic_store
    prefetch = _prefetch


_panel_units = jit(panel_units)


@jit
def product(n_rows, width, n_k, A, a_at, row_step, k_step, B, b_at, b_step, C0, c0_at, c0_step,
            C, c_at, c_step):  # fmt: skip
    """C[i, :] = C0[i, :] + sum over k of A(i, k) * B[k, :] for `width` units, where A(i, k) is
    A[a_at + i * row_step + k * k_step]: activations (samples by inputs) and gradients (inputs by
    samples) are formed by the same code."""
    n_lanes = VECTOR_BYTES // B.itemsize
    for first in range(0, width, TILE_VECTORS * n_lanes):
        vectors = min(TILE_VECTORS, (width - first) // n_lanes)
        i = 0
        while i < n_rows:
            full = n_rows - i >= TILE_ROWS
            rest = (n_k, A, a_at + i * row_step, row_step, k_step, B, b_at + first, b_step,
                    C0, c0_at + first + i * c0_step, c0_step,
                    C, c_at + first + i * c_step, c_step)  # fmt: skip
            if full:
                dense_tile(vectors, *rest)
                i += TILE_ROWS
            else:
                dense_row(vectors, *rest)
                i += 1


@jit
def masked_rows(n, vectors, masks, mask_at, mask_step, values, v_at, v_step, stride, table,
                B, b_at, b_step, C0, c0_at, c0_step, C, c_at, c_step):  # fmt: skip
    """The product over the numbers that are not zero, for n rows on the same rows of B. The rows'
    masks are mask_step apart, and their values v_step."""
    for i in range(n):
        masked_row(vectors, masks[mask_at + i * mask_step], values, v_at + i * v_step, stride,
                   table, B, b_at, b_step, C0, c0_at + i * c0_step, 0,
                   C, c_at + i * c_step, 0)  # fmt: skip


@jit
def masked_tiles(n, vectors, masks, mask_at, values, v_at, stride, table,
                 B, b_at, b_step, C0, c0_at, c0_step, C, c_at, c_step):  # fmt: skip
    """The same for n tiles of `MASKED_ROWS` rows, which share a mask."""
    for t in range(n):
        i = t * MASKED_ROWS
        masked_tile(vectors, masks[mask_at + t], values, v_at + i, stride, table, B, b_at, b_step,
                    C0, c0_at + i * c0_step, c0_step, C, c_at + i * c_step, c_step)  # fmt: skip


@jit
def listed(vectors, n, rows, values, at, B, b_at, b_step, C0, c0_at, C, c_at):
    """C = C0 + sum over the n entries from `at` on of values[k] * B[rows[k], :]."""
    listed_row(vectors, n, rows, values, at, B, b_at, b_step, C0, c0_at, C, c_at)


# --------------------------------------------------------------------------------------- functions


def _make_exponentials(real: Any) -> tuple[Any, Any, Any]:
    """Return exp, tanh and logistic for a dtype, without branches, so that LLVM vectorises them.

    x = n ln 2 + r with |r| <= ln 2 / 2, exp(x) = 2^n exp(r), and exp(r) by its Taylor series up
    to a remainder below half a unit in the last place (Muller, Elementary Functions, 3rd ed.,
    ch. 11).
    """
    info = np.finfo(real)
    mantissa, n_terms = (23, 7) if real is np.float32 else (52, 13)
    bias = info.maxexp - 1
    bits: Any = np.int32 if real is np.float32 else np.int64
    log2e = real(1 / math.log(2))
    # The high part of ln 2 has so few digits that its multiples are exact.
    high = real(float.fromhex("0x1.62e4p-1" if real is np.float32 else "0x1.62e42feep-1"))
    low = real(float.fromhex("0x1.7f7d1cp-20" if real is np.float32 else "0x1.a39ef35793c76p-33"))
    lowest, highest = (real(-105), real(89)) if real is np.float32 else (real(-746), real(710))
    tanh_limit = real(10) if real is np.float32 else real(20)
    # Adding it rounds to an integer, which then stands in the last bits of the sum.
    magic = real(1.5 * 2.0**mantissa)
    zero = magic.view(bits)
    terms = tuple(real(1 / math.factorial(k)) for k in range(2, n_terms + 1))
    one, two = real(1), real(2)
    bias_, mantissa_, unit = bits(bias), bits(mantissa), bits(1)

    @jit
    def power_of_2(n):
        return bits_of(bits((bits(n) + bias_) << mantissa_))

    @jit
    def series(r):
        """(exp(r) - 1 - r) / r^2."""
        p = terms[-1]
        for k in range(len(terms) - 2, -1, -1):
            p = p * r + terms[k]
        return p

    @jit
    def exp(x):
        x = lowest if x < lowest else x
        x = highest if x > highest else x
        shifted = x * log2e + magic
        n = bits(bits_of(shifted) - zero)
        whole = shifted - magic
        r = x - whole * high - whole * low
        p = r + r * r * series(r) + one
        # In two steps, because 2^n itself may be no normal number.
        half = bits(n >> unit)
        return p * power_of_2(half) * power_of_2(bits(n - half))

    @jit
    def tanh(x):
        x = -tanh_limit if x < -tanh_limit else x
        x = tanh_limit if x > tanh_limit else x
        doubled = two * x
        shifted = doubled * log2e + magic
        n = bits(bits_of(shifted) - zero)
        whole = shifted - magic
        r = doubled - whole * high - whole * low
        scale = power_of_2(n)
        expm1 = (r + r * r * series(r)) * scale + (scale - one)  # small x keep their accuracy
        return expm1 / (expm1 + two)

    @jit
    def logistic(x):
        return one / (one + exp(-x))

    return exp, tanh, logistic


_exp_32, _tanh_32, _logistic_32 = _make_exponentials(np.float32)
_exp_64, _tanh_64, _logistic_64 = _make_exponentials(np.float64)


def exp(x):
    """e^x, of x's dtype; NaN gives NaN."""
    return (_exp_32 if x.dtype == np.float32 else _exp_64)(x)


def tanh(x):
    """The hyperbolic tangent, of x's dtype."""
    return (_tanh_32 if x.dtype == np.float32 else _tanh_64)(x)


def logistic(x):
    """1 / (1 + e^-x), of x's dtype."""
    return (_logistic_32 if x.dtype == np.float32 else _logistic_64)(x)


@overload(logistic)
def _logistic_for(x):
    return (lambda x: _logistic_32(x)) if x == types.float32 else (lambda x: _logistic_64(x))


@overload(exp)
def _exp_for(x):
    return (lambda x: _exp_32(x)) if x == types.float32 else (lambda x: _exp_64(x))


@overload(tanh)
def _tanh_for(x):
    return (lambda x: _tanh_32(x)) if x == types.float32 else (lambda x: _tanh_64(x))


@jit
def where(condition, a, b):
    """a where the condition holds, else b."""
    return a if condition else b


def _ignored(*arguments: Any) -> None:
    """What is at the end of a chain of functions."""


def _chain(make: Any, names: Any) -> Any:
    """Return a function that calls that of the code that is its first argument.

    ``make(code, f, df, others)`` returns one that does so for a code, and else calls others.
    """
    chain = jit(_ignored)
    for name in names:
        given = (ACTIVATIONS[name].f, ACTIVATIONS[name].df) if name in ACTIVATIONS else (_exp, _exp)
        f, df = (jit(bound(g, exp=exp, tanh=tanh, logistic=logistic, where=where)) for g in given)
        chain = make(CODES[name], f, df, chain)
    return chain


def _exp(z, real):
    return exp(z)


def _activating(code: int, f: Any, df: Any, others: Any) -> Any:
    @jit
    def activate(activation, values):
        if activation == code:
            real = values.dtype.type
            for i in range(len(values)):
                values[i] = f(values[i], real)
        else:
            others(activation, values)

    return activate


def _activating_and_differentiating(code: int, f: Any, df: Any, others: Any) -> Any:
    @jit
    def activate_and_differentiate(activation, values, slopes):
        if activation == code:
            real = values.dtype.type
            for i in range(len(values)):
                z = values[i]
                a = f(z, real)
                values[i] = a
                slopes[i] = df(z, a, real)
        else:
            others(activation, values, slopes)

    return activate_and_differentiate


def _differentiating(code: int, f: Any, df: Any, others: Any) -> Any:
    @jit
    def multiply_by_derivative(activation, values, kept, delta):
        if activation == code:
            real = values.dtype.type
            for i in range(len(delta)):
                value = values[i] * kept
                delta[i] *= df(value, value, real)
        else:
            others(activation, values, kept, delta)

    return multiply_by_derivative


#: Apply a function of one number to each.
activate_each = _chain(_activating, ["exp", *ACTIVATIONS])

#: Apply an activation, and write its derivatives.
activate_and_differentiate = _chain(
    _activating_and_differentiating, [name for name, a in ACTIVATIONS.items() if a.reads_z]
)

#: Multiply deltas by the activation's derivative, in terms of its value before dropout, which has
#: divided it by `kept`.
multiply_by_derivative = _chain(
    _differentiating, [name for name, a in ACTIVATIONS.items() if not a.reads_z]
)


@jit
def softmax(row, n):
    """Apply softmax to the n units of a row that are not padding."""
    highest = row[0]
    for i in range(1, n):
        highest = row[i] if row[i] > highest else highest
    for i in range(len(row)):
        row[i] = exp(row[i] - highest)
    total = row.dtype.type(0)
    for i in range(n):
        total += row[i]
    for i in range(len(row)):
        row[i] /= total


@jit
def activate(activation, rows, width, n):
    """Apply an activation to rows of n units, which follow each other, `width` apart. What this
    makes of the padding, nothing reads."""
    if activation == SOFTMAX:
        for first in range(0, len(rows), width):
            softmax(part(rows, first, width), n)
    else:
        activate_each(activation, rows)


# A call in the loop over counters would keep that from becoming vector code.
philox = njit(**_JIT, forceinline=True)(philox_words)


@jit
def draw_factors(net, layer, position, factors):
    """Draw what dropout multiplies a sample's row of a hidden layer by, padding included; see
    `fastmlp.core.random_bits.Dropout`. Without branches, so that LLVM draws many words at once."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    k0, k1 = net.draws[KEY_LOW] & low, net.draws[KEY_HIGH] & low
    c3, threshold = net.draws[EPOCH] & low, net.draws[THRESHOLDS + layer]
    at = net.draws[START] + np.uint64(position)
    c1, c2 = (np.uint64(layer) + (at >> half) * np.uint64(256)) & low, at & low
    zero, kept = factors.dtype.type(0), factors.dtype.type(1 / net.kept[layer])
    n = len(factors)
    for block in range(n // 64):
        first = 64 * block
        for i in range(16):
            w0, w1, w2, w3 = philox(np.uint64(16 * block + i) & low, c1, c2, c3, k0, k1)
            factors[first + i] = zero if w0 < threshold else kept
            factors[first + 16 + i] = zero if w1 < threshold else kept
            factors[first + 32 + i] = zero if w2 < threshold else kept
            factors[first + 48 + i] = zero if w3 < threshold else kept
    rest = n // 64 * 64
    for word in range((n - rest + 15) // 16):
        first = rest + 16 * word
        for i in range(min(16, n - first)):
            w0, w1, w2, w3 = philox(np.uint64(rest // 4 + i) & low, c1, c2, c3, k0, k1)
            drawn = (w0 if word == 0 else w1) if word < 2 else (w2 if word == 2 else w3)
            factors[first + i] = zero if drawn < threshold else kept


@jit
def multiply(rows, factors):
    """Multiply rows by others."""
    for i in range(len(rows)):
        rows[i] *= factors[i]


@jit
def sample_loss(output, is_squared, activations, target, weight, delta):
    """Return the loss of one sample and write its deltas, both times its weight.

    Where the loss is canonical for the output activation, the delta is output - target. As in
    scikit-learn, probabilities are clipped for the loss only, and the squared error is halved and
    averaged over the outputs, although the deltas of identity outputs are those of the sum.
    """
    loss = 0.0
    n = len(target)
    for j in range(n):
        delta[j] = (activations[j] - target[j]) * weight
    if is_squared:
        for j in range(n):
            difference = np.float64(target[j]) - np.float64(activations[j])
            loss += difference * difference
        if output == LOGISTIC:
            share, one = activations.dtype.type(1 / n), activations.dtype.type(1)
            for j in range(n):
                delta[j] *= activations[j] * (one - activations[j]) * share
        return 0.5 * loss / n * np.float64(weight)
    if output == EXP:
        for j in range(n):
            p, t = np.float64(activations[j]), np.float64(target[j])
            loss += (t * np.log(t / p) if t != 0 else 0.0) - t + p
        return loss * np.float64(weight)
    low = np.float64(np.finfo(activations.dtype).eps)
    high = np.float64(activations.dtype.type(1) - np.finfo(activations.dtype).eps)
    for j in range(n):
        t = np.float64(target[j])
        if output == SOFTMAX and t == 0:
            continue
        p = np.float64(activations[j])
        p = low if p < low else high if p > high else p
        if t != 0:
            loss -= t * math.log(p)
        if output == LOGISTIC and t != 1:
            loss -= (1 - t) * math.log(1 - p)
    return loss * np.float64(weight)


# ---------------------------------------------------------------------------- without references


@jit
def borrow(array):
    """Return an array that owns nothing, so that handing it on counts no references: the threads
    would fight over the counters."""
    return part(array, 0, len(array))


@jit
def borrow_net(net):
    """Return the same network, owning nothing."""
    return Net(
        net.layers, net.blocks, net.hidden, net.reads_z, net.output, net.is_squared, net.alpha,
        borrow(net.weights), borrow(net.transposed), borrow(net.state_1), borrow(net.state_2),
        borrow(net.gradient), borrow(net.squares), borrow(net.gradient_squares),
        borrow(net.kept), borrow(net.draws),
    )  # fmt: skip


@jit
def borrow_data(data):
    """Return the same data, owning nothing."""
    return Data(
        data.kind, data.n_samples, data.skips_zeros, data.keeps_bytes, borrow(data.byte_values),
        borrow(data.values), borrow(data.stored), borrow(data.indices), borrow(data.indptr),
        borrow(data.scale), borrow(data.shift), borrow(data.table), data.is_shifted,
        borrow(data.targets), borrow(data.weights),
    )  # fmt: skip


@jit
def borrow_scratch(scratch):
    """Return the same memory, owning nothing."""
    return Scratch(
        scratch.n_threads, borrow(scratch.rows_at), scratch.stride, borrow(scratch.X),
        borrow(scratch.byte_X), scratch.n_masks, borrow(scratch.masks), borrow(scratch.A),
        borrow(scratch.D), borrow(scratch.factors), borrow(scratch.slopes),
        borrow(scratch.losses), borrow(scratch.sample_weights), borrow(scratch.list_start),
        borrow(scratch.list_next), borrow(scratch.list_rows), borrow(scratch.list_values),
        borrow(scratch.sums), borrow(scratch.starts), borrow(scratch.delta_sums),
        borrow(scratch.feature_masks), borrow(scratch.steps), borrow(scratch.zeros),
        borrow(scratch.ones), borrow(scratch.team),
    )  # fmt: skip


# ------------------------------------------------------------------------------ phase A: samples


@jit
def gather_bytes(n_in, values, to, masks):
    """Fetch a sample's bytes, and tell which are not zero."""
    for i in range(n_in):
        to[i] = values[i]
    for m in range(len(masks)):
        masks[m] = mask_of(to, m * MASK_BITS)


@jit
def gather_numbers(n_in, values, scale, shift, skips_zeros, to, masks):
    """Fetch a sample's inputs as the network sees them. If zeros are skipped, the shift is not
    added, and `masks` are to tell which are not zero."""
    for i in range(n_in):
        to[i] = values[i]
    if len(scale) > 0:
        for i in range(n_in):
            to[i] *= scale[i]
    if skips_zeros:
        for m in range(len(masks)):
            masks[m] = mask_of(to, m * MASK_BITS)
    elif len(shift) > 0:
        for i in range(n_in):
            to[i] += shift[i]


@jit
def are_finite(numbers):
    """Return whether all numbers are finite."""
    n_bad, limit = 0, np.finfo(numbers.dtype).max
    for i in range(len(numbers)):
        n_bad += 0 if abs(numbers[i]) <= limit else 1
    return n_bad == 0


@jit
def fetch(data, n_in, n_out, order, begin, end, first, last):
    """Have the inputs [first, last) of the samples at positions [begin, end) of the order read:
    they lie anywhere, so that the processor cannot foresee them."""
    for position in range(begin, min(end, len(order))):
        sample = order[position]
        if data.kind == BYTES:
            for i in range(first, last, CACHE_LINE):
                prefetch(data.byte_values, sample * n_in + i)
        elif data.kind == DENSE:
            for i in range(first, last, CACHE_LINE // data.values.itemsize):
                prefetch(data.values, sample * n_in + i)
        if first == 0:
            prefetch(data.targets, sample * n_out)


@jit
def gather(data, scratch, n_in, order, at, begin, end):
    """Fetch the inputs of rows [begin, end) of the chunk that begins at position `at` of the
    order. CSR is read without a copy."""
    n_masks, stride = scratch.n_masks, scratch.stride
    if data.kind == CSR:
        return
    for row in range(begin, end):
        sample = order[at + row]
        masks = part(scratch.masks, row * n_masks, n_masks)
        if data.keeps_bytes:
            bytes_ = part(data.byte_values, sample * n_in, n_in)
            gather_bytes(n_in, bytes_, part(scratch.byte_X, row * stride, stride), masks)
        elif data.kind == BYTES:
            bytes_ = part(data.byte_values, sample * n_in, n_in)
            gather_numbers(n_in, bytes_, data.scale, data.shift, data.skips_zeros,
                           part(scratch.X, row * stride, stride), masks)  # fmt: skip
        else:
            numbers = part(data.values, sample * n_in, n_in)
            gather_numbers(n_in, numbers, data.scale, data.shift, data.skips_zeros,
                           part(scratch.X, row * stride, stride), masks)  # fmt: skip


@jit
def find_starts(net, data, scratch, thread):
    """Form what the sums of the first layer begin with: the intercepts, and what the inputs' shift
    t adds to every sample where its zeros are skipped: (s x + t) W = s x W + t W."""
    width = net.layers[0, WIDTH]
    starts = part(scratch.starts, thread * width, width)
    intercepts = part(net.weights, net.layers[0, INTERCEPTS_AT], width)
    for j in range(width):
        starts[j] = intercepts[j]
    if data.skips_zeros and data.is_shifted:
        for i in range(net.layers[0, N_IN]):
            row = part(net.weights, net.layers[0, WEIGHTS_AT] + i * width, width)
            for j in range(width):
                starts[j] += data.shift[i] * row[j]


@jit
def first_layer(net, data, scratch, order, at, begin, end, upcoming, thread):
    """Form the first layer's sums for rows [begin, end) of the chunk, which begins at position
    `at` of the order. Meanwhile have as many samples read from position `upcoming` on."""
    n_in, width = net.layers[0, N_IN], net.layers[0, WIDTH]
    n_out = net.layers[len(net.layers) - 1, N_OUT]
    weights_at, rows_at = net.layers[0, WEIGHTS_AT], scratch.rows_at[0]
    starts_at = thread * width
    n_lanes = VECTOR_BYTES // scratch.X.itemsize
    panel = _panel_units(width, n_lanes, SKIPPING_VECTORS)
    n, n_masks, stride = end - begin, scratch.n_masks, scratch.stride
    if data.kind != CSR and not data.skips_zeros:
        fetch(data, n_in, n_out, order, upcoming, upcoming + n, ZERO, n_in)
        product(n, width, n_in, scratch.X, begin * stride, stride, ONE,
                net.weights, weights_at, width, scratch.starts, starts_at, ZERO,
                scratch.A, rows_at + begin * width, width)  # fmt: skip
        return
    for first in range(0, width, panel):
        vectors = min(panel, width - first) // n_lanes
        out = rows_at + begin * width + first
        if data.kind == CSR:
            for i in range(begin, end):
                sample = order[at + i]
                start = data.indptr[sample]
                listed(vectors, data.indptr[sample + 1] - start, data.indices, data.stored, start,
                       net.weights, weights_at + first, width, scratch.starts, starts_at + first,
                       scratch.A, rows_at + i * width + first)  # fmt: skip
        else:
            # A group of samples passes over the weights that one mask speaks of while they are
            # in the first-level cache.
            for m in range(n_masks):
                k = m * MASK_BITS
                if first == 0:  # piece by piece, as few reads can be under way
                    last = min(k + MASK_BITS, n_in)
                    fetch(data, n_in, n_out, order, upcoming, upcoming + n, k, last)
                rest = (net.weights, weights_at + k * width + first, width,
                        scratch.starts if m == 0 else scratch.A,
                        starts_at + first if m == 0 else out,
                        0 if m == 0 else width, scratch.A, out, width)  # fmt: skip
                masks_at, at_x = begin * n_masks + m, begin * stride + k
                if data.keeps_bytes:
                    masked_rows(n, vectors, scratch.masks, masks_at, n_masks,
                                scratch.byte_X, at_x, stride, 1, data.table, *rest)  # fmt: skip
                else:
                    masked_rows(n, vectors, scratch.masks, masks_at, n_masks,
                                scratch.X, at_x, stride, 1, data.table, *rest)  # fmt: skip


@jit
def forward(net, data, scratch, order, at, begin, end, upcoming, thread):
    """Run rows [begin, end) of the chunk forward through all layers."""
    first_layer(net, data, scratch, order, at, begin, end, upcoming, thread)
    n_layers = len(net.layers)
    for layer in range(n_layers):
        width, rows_at = net.layers[layer, WIDTH], scratch.rows_at[layer]
        if layer > 0:
            below = net.layers[layer - 1, WIDTH]
            product(end - begin, width, net.layers[layer, N_IN],
                    scratch.A, scratch.rows_at[layer - 1] + begin * below, below, ONE,
                    net.weights, net.layers[layer, WEIGHTS_AT], width,
                    net.weights, net.layers[layer, INTERCEPTS_AT], ZERO,
                    scratch.A, rows_at + begin * width, width)  # fmt: skip
        activation = net.output if layer == n_layers - 1 else net.hidden
        start, n = rows_at + begin * width, (end - begin) * width
        rows = part(scratch.A, start, n)
        if net.reads_z and layer < n_layers - 1 and len(scratch.slopes) > 0:
            activate_and_differentiate(activation, rows, part(scratch.slopes, start, n))
        else:
            activate(activation, rows, width, net.layers[layer, N_OUT])
        if layer < n_layers - 1 and net.kept[layer] != 1:
            for i in range(begin, end):
                draw_factors(net, layer, at + i, part(scratch.factors, rows_at + i * width, width))
            multiply(rows, part(scratch.factors, start, n))


@jit
def backward(net, scratch, begin, end):
    """Run rows [begin, end) backward, from the output's deltas to those of the first layer."""
    for layer in range(len(net.layers) - 1, 0, -1):
        width, rows_at = net.layers[layer, WIDTH], scratch.rows_at[layer]
        back, to_at = net.layers[layer, BACK_WIDTH], scratch.rows_at[layer - 1]
        kept = scratch.D.dtype.type(net.kept[layer - 1])
        product(end - begin, back, net.layers[layer, N_OUT],
                scratch.D, rows_at + begin * width, width, ONE,
                net.transposed, net.layers[layer, TRANSPOSED_AT], back,
                scratch.zeros, ZERO, ZERO, scratch.D, to_at + begin * back, back)  # fmt: skip
        start, n = to_at + begin * back, (end - begin) * back
        deltas = part(scratch.D, start, n)
        if net.reads_z:
            multiply(deltas, part(scratch.slopes, start, n))
        else:
            multiply_by_derivative(net.hidden, part(scratch.A, start, n), kept, deltas)
        if net.kept[layer - 1] != 1:
            multiply(deltas, part(scratch.factors, start, n))
        # The padding is already zero, unless a diverged delta made it infinity times zero.
        for first in range(0, n, back):
            for j in range(net.layers[layer, N_IN], back):
                deltas[first + j] = 0


@jit
def train_rows(net, data, scratch, order, at, begin, end, thread, n_threads):
    """Phase A for rows [begin, end) of the chunk that begins at position `at` of the order."""
    upcoming = at + begin + (end - begin) * n_threads  # other threads take what is in between
    gather(data, scratch, net.layers[0, N_IN], order, at, begin, end)
    for i in range(begin, end):
        sample = order[at + i]
        weight = data.weights[sample] if len(data.weights) > 0 else scratch.ones[0]
        scratch.sample_weights[i] = weight
    forward(net, data, scratch, order, at, begin, end, upcoming, thread)
    top = len(net.layers) - 1
    width, rows_at, n = net.layers[top, WIDTH], scratch.rows_at[top], net.layers[top, N_OUT]
    for i in range(begin, end):
        row = rows_at + i * width
        scratch.losses[i] = sample_loss(
            net.output, net.is_squared, part(scratch.A, row, n),
            part(data.targets, order[at + i] * n, n), scratch.sample_weights[i],
            part(scratch.D, row, n),
        )  # fmt: skip
    backward(net, scratch, begin, end)


@jit
def make_lists(data, scratch, order, at, m, thread, n_threads):
    """Make the lists of the features that are this thread's share, from a CSR chunk's m rows."""
    n_in = len(scratch.list_next)
    low, high = n_in * thread // n_threads, n_in * (thread + 1) // n_threads
    following = scratch.list_next
    position = 0
    for feature in range(low, high):
        following[feature] = 0
    for i in range(m):
        sample = order[at + i]
        for k in range(data.indptr[sample], data.indptr[sample + 1]):
            feature = data.indices[k]
            if feature < low:
                position += 1  # lists of lower features come before ours
            elif feature < high:
                following[feature] += 1
    for feature in range(low, high):
        length = following[feature]
        scratch.list_start[feature] = following[feature] = position
        position += length
    if high == n_in:
        scratch.list_start[n_in] = position
    for i in range(m):
        sample = order[at + i]
        for k in range(data.indptr[sample], data.indptr[sample + 1]):
            feature = data.indices[k]
            if low <= feature < high:
                to = following[feature]
                following[feature] = to + 1
                scratch.list_rows[to] = i
                scratch.list_values[to] = data.stored[k]


# ------------------------------------------------------------------------------ phase B: weights


@jit
def make_step(optimizer, t, total_weight, step):
    """Fill in what is the same for all weights of a batch, in the engine's dtype."""
    step[SCALE] = 1 / total_weight
    if len(optimizer) == 0:
        return
    for i in range(SETTINGS_AT, len(optimizer)):
        step[i] = optimizer[i]
    if optimizer[CORRECTS_BIAS] != 0:
        beta_1, beta_2 = optimizer[SETTINGS_AT + BETA_1], optimizer[SETTINGS_AT + BETA_2]
        rate = optimizer[SETTINGS_AT + RATE]
        step[SETTINGS_AT + RATE] = rate * (math.sqrt(1 - beta_2**t) / (1 - beta_1**t))
    # Not rounded to zero: the padding of the weights would become 0 / 0.
    epsilon = max(optimizer[SETTINGS_AT + EPSILON], np.float64(np.finfo(step.dtype).tiny))
    step[SETTINGS_AT + EPSILON] = epsilon


@jit
def _settings_of(step):
    """The settings of a step, as numbers: the compiler need not look for changes of an array."""
    settings = step[SETTINGS_AT : SETTINGS_AT + N_SETTINGS]
    return settings if IS_PLAIN else to_fixed_tuple(settings, N_SETTINGS)


def _updating(code: int, formula: Any, others: Any) -> Any:
    @jit
    def update(kind, step, alpha, n_rows, n, sums, sums_at, sums_step,
               weights, state_1, state_2, at, at_step):  # fmt: skip
        if kind == code:
            scale, settings = step[SCALE], _settings_of(step)
            for row in range(n_rows):
                G = part(sums, sums_at + row * sums_step, n)
                W = part(weights, at + row * at_step, n)
                S = part(state_1, at + row * at_step, n)
                T = part(state_2, at + row * at_step, n)
                for i in range(n):
                    g = (G[i] + alpha * W[i]) * scale
                    w, first, second = formula(W[i], g, S[i], T[i], settings)
                    W[i] = w
                    S[i] = first
                    T[i] = second
        else:
            others(kind, step, alpha, n_rows, n, sums, sums_at, sums_step,
                   weights, state_1, state_2, at, at_step)  # fmt: skip

    return update


def _updating_one_vector(code: int, formula: Any, others: Any) -> Any:
    @jit
    def update(kind, step, alpha, n_rows, n, sums, sums_at, sums_step,
               weights, state_1, state_2, at, at_step):  # fmt: skip
        if kind == code:
            scale, settings = step[SCALE], _settings_of(step)
            zero = scale - scale
            for row in range(n_rows):
                G = part(sums, sums_at + row * sums_step, n)
                W = part(weights, at + row * at_step, n)
                S = part(state_1, at + row * at_step, n)
                for i in range(n):
                    g = (G[i] + alpha * W[i]) * scale
                    w, first, _ = formula(W[i], g, S[i], zero, settings)
                    W[i] = w
                    S[i] = first
        else:
            others(kind, step, alpha, n_rows, n, sums, sums_at, sums_step,
                   weights, state_1, state_2, at, at_step)  # fmt: skip

    return update


def _chain_of_updates() -> Any:
    """Return a function that updates weights by the formula of its first argument, a code."""
    chain = jit(_ignored)
    for name, optimizer in OPTIMIZERS.items():
        make = _updating if len(optimizer.state_names) == 2 else _updating_one_vector
        formula = jit(bound(optimizer.update, sqrt=np.sqrt))
        chain = make(OPTIMIZER_CODES[name], formula, chain)
    return chain


update = _chain_of_updates()


@jit
def updates_at_once(optimizer):
    """Whether a block's gradient is used as soon as it is known."""
    return len(optimizer) > 0 and optimizer[MAX_NORM] == 0


@jit
def use_up(net, optimizer, step, at, at_step, n_rows, n, alpha, sums, sums_at, sums_step):
    """Update rows of n weights, the first of which begins at `at`, by their gradient sums."""
    update(int(optimizer[CODE]), step, alpha, n_rows, n, sums, sums_at, sums_step,
           net.weights, net.state_1, net.state_2, at, at_step)  # fmt: skip


@jit
def finish_gradient(net, step, at, n, alpha, sums):
    """Turn the gradient sums of n weights into gradients; return the sum of their squares."""
    weights = part(net.weights, at, n)
    for i in range(n):
        sums[i] = (sums[i] + alpha * weights[i]) * step[SCALE]
    return np.float64(squares_of(sums))


@jit
def transpose_masks(masks, groups):
    """Turn the masks of 64 rows into those of their 64 columns in groups of `MASKED_ROWS`: bit k
    of groups[i] is set if any of row k's bits from MASKED_ROWS * i on is."""
    for i in range(MASK_BITS):
        v = masks[i] | (masks[i] >> np.uint64(1))
        if MASKED_ROWS == 4:
            masks[i] = (v | (v >> np.uint64(2))) & np.uint64(0x1111111111111111)
        else:
            masks[i] = v & np.uint64(0x5555555555555555)
    # Stages of the transposition of 64 x 64 bits: in all squares of 2 * width bits, the upper
    # right and the lower left quarter change places (Warren, Hacker's Delight, 2nd ed., 7-3).
    low = np.uint64(0x00000000FFFFFFFF)
    width = 32
    while width >= MASKED_ROWS:
        shift = np.uint64(width)
        for first in range(0, MASK_BITS, 2 * width):
            for i in range(first, first + width):
                change = ((masks[i] >> shift) ^ masks[i + width]) & low
                masks[i + width] ^= change
                masks[i] ^= change << shift
        width //= 2
        low ^= low << np.uint64(width)
    # Squares of MASKED_ROWS bits are in place now, each with one column that may be set.
    for i in range(MASK_BITS // MASKED_ROWS):
        groups[i] = masks[MASKED_ROWS * i]
        for j in range(1, MASKED_ROWS):
            groups[i] |= masks[MASKED_ROWS * i + j] << np.uint64(j)


@jit
def feature_masks_at(scratch, thread):
    """Return where a thread's masks of features begin."""
    n = (len(scratch.losses) + MASK_BITS - 1) // MASK_BITS
    return thread * n * (MASK_BITS // MASKED_ROWS)


@jit
def find_feature_masks(scratch, m, index, thread):
    """Tell in which samples of the chunk a block's features, in groups, are not all zero."""
    masks = np.empty(MASK_BITS, np.uint64)
    to = feature_masks_at(scratch, thread)
    for row in range(0, m, MASK_BITS):
        for i in range(MASK_BITS):
            at = (row + i) * scratch.n_masks + index
            masks[i] = scratch.masks[at] if row + i < m else np.uint64(0)
        n = MASK_BITS // MASKED_ROWS
        transpose_masks(masks, part(scratch.feature_masks, to + row // MASKED_ROWS, n))


@jit
def masked_gradient(data, scratch, values, row0, n_rows, width, d_at, d_step, units, m,
                    before, before_at, before_step, to, to_at, thread):  # fmt: skip
    """to = before + X^T D for a block's features, skipping zeros."""
    n_tiles, stride = n_rows // MASKED_ROWS, scratch.stride
    rest = n_tiles * MASKED_ROWS
    n_lanes = VECTOR_BYTES // to.itemsize
    some = _panel_units(units, n_lanes, MASKED_VECTORS)
    for row in range(0, m, MASK_BITS):
        masks_at = feature_masks_at(scratch, thread) + row // MASKED_ROWS
        is_first = row == 0
        C0 = before if is_first else to
        at, step = (before_at, before_step) if is_first else (to_at, width)
        x_at = row * stride + row0
        # A few columns at a time, so that what is read of D stays in the first-level cache.
        for first in range(0, units, some):
            vectors = min(some, units - first) // n_lanes
            D_at = d_at + row * d_step + first
            masked_tiles(n_tiles, vectors, scratch.feature_masks, masks_at, values, x_at, stride,
                         data.table, scratch.D, D_at, d_step, C0, at + first, step,
                         to, to_at + first, width)  # fmt: skip
            if rest < n_rows:
                masked_rows(n_rows - rest, vectors, scratch.feature_masks, masks_at + n_tiles, ZERO,
                            values, x_at + rest, ONE, stride, data.table, scratch.D, D_at, d_step,
                            C0, at + first + rest * step, step,
                            to, to_at + first + rest * width, width)  # fmt: skip


@jit
def transpose_block(net, layer, row, n_rows, first, width):
    """Bring the transposed copy of one block of weights up to date."""
    stride, back = net.layers[layer, WIDTH], net.layers[layer, BACK_WIDTH]
    at, to = net.layers[layer, WEIGHTS_AT], net.layers[layer, TRANSPOSED_AT]
    n = min(width, net.layers[layer, N_OUT] - first)
    for i in range(row, row + n_rows):
        for j in range(first, first + n):
            net.transposed[to + j * back + i] = net.weights[at + i * stride + j]


@njit(**_JIT | {"fastmath": {"contract", "nsz", "reassoc"}})  # in vectors
def squares_of(values):
    """Return the sum of squares."""
    total = values.dtype.type(0)
    for i in range(len(values)):
        total += values[i] * values[i]
    return total


@jit
def sum_squares(net, index):
    """Note the sum of squares of a block's weights."""
    block = net.blocks[index]
    stride = net.layers[block[LAYER], WIDTH]
    at = net.layers[block[LAYER], WEIGHTS_AT] + block[ROW] * stride + block[FIRST]
    total = 0.0
    n_runs, run = block[N_ROWS], block[UNITS]
    if run == stride:
        n_runs, run = 1, n_runs * run
    for i in range(n_runs):
        total += np.float64(squares_of(part(net.weights, at + i * stride, run)))
    net.squares[index] = total


@jit
def train_block(net, data, scratch, optimizer, index, m, is_first, is_last, thread):
    """Phase B for one block over a chunk's m samples: form the gradient sums of its weights, and
    with a batch's last chunk use them up. A panel's first block takes its intercepts along."""
    block = net.blocks[index]
    layer, row, n_rows, first, units = (
        block[LAYER],
        block[ROW],
        block[N_ROWS],
        block[FIRST],
        block[UNITS],
    )
    width, d_at = net.layers[layer, WIDTH], scratch.rows_at[layer] + first
    at = net.layers[layer, WEIGHTS_AT] + row * width + first
    keeps = not is_last or not updates_at_once(optimizer)  # the sums are for later
    gradient_squares = 0.0
    step = part(scratch.steps, thread * STEP_SIZE, STEP_SIZE)
    alpha = step.dtype.type(net.alpha)
    # Sums go on from those of earlier chunks, or from one row of zeros.
    before = scratch.zeros if is_first else net.gradient
    before_at, before_step = (0, 0) if is_first else (at, width)
    sums_at = len(scratch.sums) // scratch.n_threads * thread
    to = net.gradient if keeps else scratch.sums
    to_at, to_step = (at, width) if keeps else (sums_at, units)
    if layer == 0 and data.kind == CSR:
        vectors = units // (VECTOR_BYTES // scratch.X.itemsize)
        for i in range(n_rows):
            start = scratch.list_start[row + i]
            listed(vectors, scratch.list_start[row + i + 1] - start, scratch.list_rows,
                   scratch.list_values, start, scratch.D, d_at, width,
                   before, before_at + i * before_step, to, to_at + i * to_step)  # fmt: skip
    elif layer == 0 and data.skips_zeros:
        find_feature_masks(scratch, m, row // MASK_BITS, thread)
        rest = (row, n_rows, to_step, d_at, width, units, m, before, before_at, before_step,
                to, to_at, thread)  # fmt: skip
        if data.keeps_bytes:
            masked_gradient(data, scratch, scratch.byte_X, *rest)
        else:
            masked_gradient(data, scratch, scratch.X, *rest)
        if data.is_shifted:
            deltas = part(scratch.delta_sums, thread * width + first, units)
            for i in range(n_rows):
                row_sums = part(to, to_at + i * to_step, units)
                for j in range(units):
                    row_sums[j] += data.shift[row + i] * deltas[j]
    elif layer == 0:
        product(n_rows, units, m, scratch.X, row, ONE, scratch.stride, scratch.D, d_at, width,
                before, before_at, before_step, to, to_at, to_step)  # fmt: skip
    else:
        product(n_rows, units, m, scratch.A, scratch.rows_at[layer - 1] + row, ONE,
                net.layers[layer - 1, WIDTH], scratch.D, d_at, width, before, before_at,
                before_step, to, to_at, to_step)  # fmt: skip
    if is_last:
        # All of a block at once if its rows follow each other.
        n_runs, run = (1, n_rows * units) if units == width else (n_rows, units)
        if keeps:
            for i in range(n_runs):
                sums = part(to, to_at + i * to_step, run)
                gradient_squares += finish_gradient(net, step, at + i * width, run, alpha, sums)
        else:
            use_up(net, optimizer, step, at, width, n_runs, run, alpha, to, to_at, to_step)
            weights_changed(net, index)
    if row == 0:
        at = net.layers[layer, INTERCEPTS_AT] + first
        product(ONE, units, m, scratch.ones, ZERO, ZERO, ZERO, scratch.D, d_at, width,
                before, 0 if is_first else at, ZERO,
                to, at if keeps else sums_at, ZERO)  # fmt: skip
        if is_last:
            zero = step.dtype.type(0)
            if keeps:
                gradient_squares += finish_gradient(net, step, at, units, zero, part(to, at, units))
            else:
                use_up(net, optimizer, step, at, ZERO, ONE, units, zero, to, sums_at, ZERO)
    net.gradient_squares[index] = gradient_squares


@jit
def weights_changed(net, index):
    """Bring what is derived from a block's weights up to date."""
    block = net.blocks[index]
    sum_squares(net, index)
    if block[LAYER] > 0:
        transpose_block(net, block[LAYER], block[ROW], block[N_ROWS], block[FIRST], block[UNITS])


@jit
def update_clipped(net, optimizer, step, thread, n_threads):
    """Update a thread's blocks by the finished gradient, once it is scaled down to the largest norm
    that it may have. Every thread adds up the same sums."""
    total = 0.0
    for index in range(len(net.blocks)):
        total += net.gradient_squares[index]
    norm, most = math.sqrt(total), optimizer[MAX_NORM]
    step[SCALE] = most / norm if norm > most else 1.0
    zero = step.dtype.type(0)
    for index in range(thread, len(net.blocks), n_threads):
        block = net.blocks[index]
        layer, width = block[LAYER], net.layers[block[LAYER], WIDTH]
        at = net.layers[layer, WEIGHTS_AT] + block[ROW] * width + block[FIRST]
        use_up(net, optimizer, step, at, width, block[N_ROWS], block[UNITS], zero,
               net.gradient, at, width)  # fmt: skip
        weights_changed(net, index)
        if block[ROW] == 0:
            at = net.layers[layer, INTERCEPTS_AT] + block[FIRST]
            use_up(net, optimizer, step, at, ZERO, ONE, block[UNITS], zero, net.gradient, at, ZERO)


# ------------------------------------------------------------------------------------------- team

if sys.platform == "win32":
    _yield_core = types.ExternalFunction("SwitchToThread", types.int32())
    _sleep = types.ExternalFunction("Sleep", types.void(types.uint32))
    _NAP = 1  # milliseconds
else:
    _yield_core = types.ExternalFunction("sched_yield", types.int32())
    _sleep = types.ExternalFunction("usleep", types.int32(types.uint32))
    _NAP = 50  # microseconds


@jit
def barrier_wait(team, n_threads):
    """Wait until all threads of the team have arrived.

    Spinning is fastest, but with fewer free cores than threads, a spinning thread occupies the core
    that the others need: so spin briefly, then yield, then sleep.
    """
    if n_threads == 1:
        return
    generation = atomic_load(team, GENERATION)
    if atomic_add(team, ARRIVED, 1) + 1 == n_threads:
        atomic_store(team, ARRIVED, 0)
        atomic_store(team, GENERATION, generation + 1)
        return
    tries = 0
    while atomic_load(team, GENERATION) == generation:
        tries += 1
        if tries > SPINS + YIELDS:
            _sleep(_NAP)
        elif tries > SPINS:
            _yield_core()


@jit
def group_begin(m, n_groups, group):
    """Return the row of a chunk that a group begins with: groups are whole tiles."""
    tiles = (m + TILE_ROWS - 1) // TILE_ROWS
    return min(m, tiles * group // n_groups * TILE_ROWS)


@entry
def train(net, data, scratch, order, batch_size, optimizer, t, thread, n_threads):
    """What every thread of the team does: all batches, in step with the others.

    Returns the summed loss, in thread 0. Ends with a batch if `STOP` is set. There have been t
    updates before; how many there are in the end is in the team's `UPDATES`.
    """
    net, data, scratch = borrow_net(net), borrow_data(data), borrow_scratch(scratch)
    team, chunk_rows = scratch.team, len(scratch.losses)
    n_blocks = len(net.blocks)
    step = part(scratch.steps, thread * STEP_SIZE, STEP_SIZE)
    width = net.layers[0, WIDTH]
    batch, stop, summed_loss = 0, len(order), 0.0
    stopped = False
    while batch < stop and not stopped:
        n = min(batch_size, stop - batch)
        n_chunks = (n + chunk_rows - 1) // chunk_rows
        rows = (n + n_chunks - 1) // n_chunks  # batches are cut evenly
        loss, total_weight = 0.0, 0.0
        find_starts(net, data, scratch, thread)
        # The penalty is that of the weights before this batch's update.
        if thread == 0 and net.alpha != 0:
            for i in range(n_blocks):
                loss += net.squares[i]
            loss *= 0.5 * net.alpha
        for first in range(0, n, rows):
            m = min(rows, n - first)
            is_first, is_last = first == 0, first + m == n
            n_groups = n_threads * ((m + n_threads * GROUP_ROWS - 1) // (n_threads * GROUP_ROWS))
            group = atomic_add(team, GROUPS_TAKEN, 1)
            while group < n_groups:
                begin = group_begin(m, n_groups, group)
                end = group_begin(m, n_groups, group + 1)
                train_rows(net, data, scratch, order, batch + first, begin, end, thread, n_threads)
                group = atomic_add(team, GROUPS_TAKEN, 1)
            if data.kind == CSR:
                make_lists(data, scratch, order, batch + first, m, thread, n_threads)
            if thread == 0:
                atomic_store(team, BLOCKS_TAKEN, 0)
            barrier_wait(team, n_threads)

            for i in range(m):
                total_weight += np.float64(scratch.sample_weights[i])
            counts = not is_last or total_weight != 0  # a batch without weight teaches nothing
            if is_last and counts:
                t += 1
                make_step(optimizer, t, total_weight, step)
            if thread == 0:
                atomic_store(team, GROUPS_TAKEN, 0)
                for i in range(m):
                    loss += scratch.losses[i]
                if is_last:
                    team[UPDATES] = t
                    if total_weight != 0:
                        summed_loss += loss / total_weight * n
                    team[STOPPING] = atomic_load(team, STOP)
            if counts:
                if data.skips_zeros and data.is_shifted:
                    product(ONE, width, m, scratch.ones, ZERO, ZERO, ZERO,
                            scratch.D, scratch.rows_at[0], width, scratch.zeros, ZERO, ZERO,
                            scratch.delta_sums, thread * width, ZERO)  # fmt: skip
                index = atomic_add(team, BLOCKS_TAKEN, 1)
                while index < n_blocks:
                    train_block(net, data, scratch, optimizer, index, m, is_first, is_last, thread)
                    index = atomic_add(team, BLOCKS_TAKEN, 1)
            barrier_wait(team, n_threads)
            if is_last and len(optimizer) > 0 and not updates_at_once(optimizer):
                if counts:
                    update_clipped(net, optimizer, step, thread, n_threads)
                barrier_wait(team, n_threads)
        stopped = team[STOPPING] != 0
        batch += n
    return summed_loss


@entry
def prepare(net):
    """Make what is derived from the weights: their transposed copy, and sums of squares."""
    for index in range(len(net.blocks)):
        weights_changed(net, index)


@entry
def predict(net, data, scratch, outputs, thread, n_threads):
    """Compute the outputs; groups of rows go round the threads. Return whether all of them are
    of finite inputs."""
    rows = len(scratch.losses) // n_threads
    begin, n = thread * rows, len(outputs)
    top = len(net.layers) - 1
    width, rows_at = net.layers[top, WIDTH], scratch.rows_at[top]
    order = np.empty(len(scratch.losses), np.int64)
    all_finite = True
    find_starts(net, data, scratch, thread)
    for at in range(begin, n, rows * n_threads):
        m = min(rows, n - at)
        for i in range(m):
            order[begin + i] = at + i
        n_in = net.layers[0, N_IN]
        if data.kind == DENSE:
            all_finite &= are_finite(part(data.values, at * n_in, m * n_in))
        gather(data, scratch, n_in, order, 0, begin, begin + m)
        forward(net, data, scratch, order, 0, begin, begin + m, len(order), thread)
        for i in range(m):
            row = rows_at + (begin + i) * width
            for j in range(outputs.shape[1]):
                outputs[at + i, j] = scratch.A[row + j]
    return all_finite


@entry
def few_rows(activation, X, coef, intercept, out):
    """Compute a layer's outputs for a few samples, without copies of the weights."""
    for i in range(len(X)):
        row = out[i]
        row[:] = intercept
        for k in range(len(coef)):
            a = X[i, k]
            if a != 0:
                for j in range(len(row)):
                    row[j] += a * coef[k, j]
        activate(activation, row, len(row), len(row))
