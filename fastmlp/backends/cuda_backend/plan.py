"""The partition of batches into stages; constants shared by host and kernels.

A *piece* is a batch, or a part of one that fits into the scratch memory. It is processed in
*stages*, with a barrier of all blocks after each. A stage has independent items (samples or tiles),
and block b processes items b, b + n_blocks, ... There are two equivalent lists of stages:

- Small networks, where latency dominates (`Plan.is_fused`), have two stages. ``SAMPLES``: a block
  runs the forward and backward pass of two samples, in shared memory. ``WEIGHTS``: a block sums the
  gradient of a tile of weights over the batch, and updates them.
- Others have a stage per layer and direction, each a tiled matrix product.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastmlp.core.functions import ACTIVATIONS, CODES
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network
from fastmlp.core.optimizers import SETTINGS
from fastmlp.core.random_bits import Dropout

# Samples that a block takes at once. Kernels write out two sums; more would share the reads of
# weights among more samples, but leave multiprocessors without any.
GROUP = 2

#: Bytes of scratch memory for the rows of a piece.
ROW_BYTES = 1 << 28

#: Most parameters of a network that passes in two stages, and most rows of its pieces; beyond,
#: reading all weights for every two samples costs more than a barrier after every layer.
FUSED_PARAMETERS, FUSED_ROWS = 1 << 17, 1 << 11

# Modes of a launch: the use of the outputs and the gradient. From UPDATE on, it is that of
# an optimiser: UPDATE plus its code.
PREDICT, GRADIENT, UPDATE = range(3)

# Stages.
MEASURE, SAMPLES, GATHER, FORWARD, OUTPUT, BACKWARD, WEIGHTS, CLIP = range(8)

# Functions of the output layer.
LOGISTIC, SOFTMAX, EXP = CODES["logistic"], CODES["softmax"], CODES["exp"]

# The integers of `table`: a head, then N_FIELDS per layer, then (stage, layer) pairs.
N_LAYERS, HIDDEN, LAST, IS_SPARSE, IS_SCALED, IS_WEIGHTED, N_SAMPLES, N_PARAMETERS, N_TILES = range(
    9
)
PARTIAL, N_STAGES, STAGES, IS_SQUARED, KEY_LOW, KEY_HIGH, EPOCH, START = range(9, 17)
# Whether the derivative of the hidden layers' function needs the pre-activation; whether the
# gradient's norm has a limit.
READS_Z, CLIPS, HEAD = 17, 18, 19
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

# The numbers of `steps`: the penalty, the limit of the gradient's norm, the settings of the
# optimiser (but for its rate, which may change), three per batch, then what KEPT speaks of.
ALPHA, MAX_NORM, SETTINGS_AT = 0, 1, 2
BATCHES = SETTINGS_AT + len(SETTINGS)
TOTAL_WEIGHT, RATE, SQUARES, N_STEP = 0, 1, 2, 3

#: The arrays that the kernels take, in order.
ARGUMENTS = (
    "table", "pieces", "steps", "order", "values", "places", "affine", "labels", "weights", "rows",
    "losses", "squares",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """The partition of a tile of a matrix product among the threads of a block.

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
        """Numbers from a row of a slice to the next, so that a warp accesses each bank once."""
        return self.columns + self.columns // self.side

    @property
    def n_shared(self) -> int:
        """Numbers of shared memory that a block has."""
        factors = self.depth * (self.rows + 1 + self.columns + 1)
        slices = self.side**2 // 2 * self.rows * self.slice_pitch
        return max(factors, slices)


@dataclass(frozen=True)
class Plan:
    """The partition of the batches of a network into stages.

    Parameters
    ----------
    network : Network
    shape : Shape
        Of the blocks.
    dtype : numpy.dtype
        Of the parameters.
    """

    network: Network
    shape: Shape
    dtype: np.dtype

    @property
    def n_hidden(self) -> int:
        """Hidden layers."""
        return len(self.network.layer_units) - 2

    @property
    def n_tiles(self) -> int:
        """Tiles of weights."""
        units = self.network.layer_units
        return sum(
            self.tiles(n_in + 1, n_out) for n_in, n_out in zip(units, units[1:], strict=False)
        )

    def tiles(self, n_rows: int, n_columns: int) -> int:
        """Return how many tiles cover a matrix."""
        return -(-n_rows // self.shape.rows) * -(-n_columns // self.shape.columns)

    def rows_at_once(self, n: int) -> int:
        """Return how many of n rows the scratch memory holds."""
        size = (self.network.n_features + 2 * sum(self.network.layer_units)) * self.dtype.itemsize
        return max(1, min(n, max(GROUP, ROW_BYTES // size)))

    def is_fused(self, n_rows: int) -> bool:
        """Return whether pieces of so many rows pass in two stages."""
        units, n_threads = self.network.layer_units, self.shape.n_threads
        return (
            max(units[1:]) <= n_threads
            and GROUP * (sum(units) + n_threads) <= self.shape.n_shared
            and self.network.n_parameters <= FUSED_PARAMETERS
            and n_rows <= FUSED_ROWS
        )

    def places(self, n_rows: int) -> tuple[list[int], list[int], list[int], int]:
        """Return where in `rows` each layer's inputs, outputs and deltas begin, and its length."""
        units = self.network.layer_units
        ends = np.cumsum([0, *units, *units[1:-1]]) * n_rows
        values, deltas = ends[: len(units)].tolist(), ends[len(units) : -1].tolist()
        # The deltas of the output layer take its outputs' place.
        return values[:-1], values[1:], [*deltas, values[-1]], int(ends[-1])

    def stages(self, mode: int, is_fused: bool, clips: bool) -> list[tuple[int, int]]:
        """Return the stages of a piece, each with its layer."""
        layers = range(len(self.network.layer_units) - 1)
        if is_fused:
            forward, backward = [(SAMPLES, 0)], []
        else:
            forward = [(GATHER, 0), *((FORWARD, layer) for layer in layers), (OUTPUT, 0)]
            backward = [(BACKWARD, layer) for layer in layers[:0:-1]]
        rest = [] if mode == PREDICT else [*backward, (WEIGHTS, 0)]
        return [(MEASURE, 0), *forward, *rest, *([(CLIP, 0)] if clips else [])]

    def table(
        self,
        inputs: Inputs,
        n_rows: int,
        stages: list[tuple[int, int]],
        n_steps: int,
        dropout: Dropout | None,
        is_weighted: bool,
    ) -> NDArray:
        """Return the kernels' `table` for pieces of up to n_rows rows, with `steps` that long."""
        units = self.network.layer_units
        n_layers = len(units) - 1
        table = np.zeros(HEAD + n_layers * N_FIELDS, np.int64)
        table[N_LAYERS] = n_layers
        table[HIDDEN] = CODES[self.network.activation]
        table[READS_Z] = ACTIVATIONS[self.network.activation].reads_z
        table[LAST] = CODES[self.network.output_activation]
        table[IS_SPARSE] = inputs.is_sparse
        table[IS_SCALED] = inputs.scale is not None
        table[IS_WEIGHTED] = is_weighted
        table[IS_SQUARED] = self.network.loss == "squared_error"
        table[N_SAMPLES] = inputs.n_samples
        table[N_PARAMETERS] = self.network.n_parameters
        table[N_TILES] = self.n_tiles
        table[PARTIAL] = GROUP * sum(units)
        table[N_STAGES], table[STAGES] = len(stages), len(table)
        table[CLIPS] = (CLIP, 0) in stages
        rows_in, rows_out, d_out, _ = self.places(n_rows)
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
            tile += self.tiles(n_in + 1, n_out)
            if dropout is not None and layer < self.n_hidden and dropout.rates[layer] != 0:
                table[at + THRESHOLD] = dropout.threshold(layer)
                table[at + KEPT] = n_steps - self.n_hidden + layer
        if dropout is not None:
            table[[KEY_LOW, KEY_HIGH, EPOCH, START]] = (
                *dropout.key, dropout.epoch, dropout.start
            )  # fmt: skip
        return np.concatenate([table, np.ravel(stages)])

    def useful_blocks(self, mode: int, n_rows: int, is_fused: bool) -> int:
        """Return how many blocks have something to do in the stage that has most."""
        groups = -(-n_rows // GROUP) + 1
        products = [] if is_fused else [self.tiles(n_rows, n) for n in self.network.layer_units]
        return max([groups, *products, 1 if mode == PREDICT else self.n_tiles])

    def steps(self, totals: NDArray, dropout: Dropout | None = None) -> NDArray:
        """Return the kernels' `steps` for batches of these weights, all rates still 0."""
        steps = np.zeros(BATCHES + N_STEP * len(totals) + self.n_hidden)
        steps[ALPHA] = self.network.alpha
        self.batches(steps)[:, TOTAL_WEIGHT] = totals
        if dropout is not None:
            steps[len(steps) - self.n_hidden :] = 1 - np.array(dropout.rates)
        return steps

    def batches(self, steps: NDArray) -> NDArray:
        """Return the part of `steps` that speaks of batches, one to a row."""
        return steps[BATCHES : len(steps) - self.n_hidden].reshape(-1, N_STEP)


def pieces_of(n: int, batch_size: int, n_at_once: int) -> NDArray:
    """Return the kernels' `pieces`, one to a row: batches in parts of up to n_at_once rows."""
    batch_size = min(batch_size, n)
    n_parts = -(-batch_size // n_at_once)
    batch, part = np.divmod(np.arange(-(-n // batch_size) * n_parts), n_parts)
    batch_stop = np.minimum((batch + 1) * batch_size, n)
    start = batch * batch_size + part * n_at_once
    stop = np.minimum(start + n_at_once, batch_stop)
    flags = BEGINS_BATCH * (part == 0) + ENDS_BATCH * (stop == batch_stop)
    return np.stack([start, stop, batch, flags], axis=1)[start < stop].astype(np.int64)
