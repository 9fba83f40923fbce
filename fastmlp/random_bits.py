"""Random bits by counting: Philox-4x32-10, the same on the host and on a device.

A number is a function of a key and a counter (Salmon, Moraes, Dror and Shaw,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011), so any thread can draw
any number without a state, and the result depends on neither the number of
threads nor their order. `fastmlp.backends.cuda_backend` has the same function
for the device, built on the same constants.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Multipliers of the two halves of a round.
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)

#: What the two words of the key grow by from round to round (Weyl sequences).
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

#: Rounds; with ten, no test of randomness is known to fail.
ROUNDS = 10

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: ArrayLike, key: ArrayLike) -> NDArray:
    """Return the four random words of each counter.

    Parameters
    ----------
    counter : array of shape (..., 4), integers below 2**32
    key : array of shape (..., 2), integers below 2**32
        Broadcast against the counters.

    Returns
    -------
    array of shape (..., 4), uint32

    Examples
    --------
    >>> [f"{word:08x}" for word in philox([0, 0, 0, 0], [0, 0])]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, np.uint64), -1, 0)
    for _ in range(ROUNDS):
        product_0 = np.uint64(MULTIPLIERS[0]) * c0  # 32 by 32 bits: all 64 fit
        product_1 = np.uint64(MULTIPLIERS[1]) * c2
        c0, c2 = (product_1 >> _HALF) ^ c1 ^ k0, (product_0 >> _HALF) ^ c3 ^ k1
        c1, c3 = product_1 & _LOW, product_0 & _LOW
        k0 = (k0 + np.uint64(KEY_STEPS[0])) & _LOW
        k1 = (k1 + np.uint64(KEY_STEPS[1])) & _LOW
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).astype(np.uint32)


def address(
    seed: int, epoch: int, batch: int, layer: int, row: ArrayLike, unit: ArrayLike
) -> tuple[NDArray, NDArray]:
    """Return the counter and the key of what a unit draws for a row of a batch.

    Parameters
    ----------
    seed : int
        Below 2**64: the key.
    epoch : int
        Below 2**32.
    batch : int
        Below 2**32.
    layer : int
        Below 2**8.
    row, unit : array of int of the same shape, or one of them a number
        Row of the batch, below 2**24, and unit of the layer, below 2**32.

    Returns
    -------
    counter : array of shape (..., 4), uint32
        (unit, row and layer, batch, epoch).
    key : array of shape (2,), uint32
    """
    unit, row = np.broadcast_arrays(np.asarray(unit, np.uint32), np.asarray(row, np.uint32))
    counter = np.empty((*unit.shape, 4), np.uint32)
    counter[..., 0] = unit
    counter[..., 1] = row | np.uint32(layer << 24)
    counter[..., 2] = batch
    counter[..., 3] = epoch
    return counter, np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
