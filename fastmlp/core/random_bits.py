"""Counter-based random numbers: Philox-4x32-10, the same on the host and on devices.

A number is a function of a key and a counter (Salmon, Moraes, Dror and Shaw,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011), so any thread can draw
any number without a state, and the result depends on neither the number of
threads nor their order. It is used for the masks of dropout and for
`fastmlp.augment`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

#: Multipliers of the two halves of a round.
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)

#: Increments of the two words of the key per round (Weyl sequences).
_KEY_STEP_0, _KEY_STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)

#: Rounds; with ten, no test of randomness is known to fail.
_ROUNDS = 10

_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox_words(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Return the four random words of a counter and a key.

    All are uint64 below 2**32: arrays in NumPy, scalars if compiled by Numba, for the host or for
    a device.
    """
    for _ in range(_ROUNDS):
        product_0 = _MULTIPLIER_0 * c0
        product_1 = _MULTIPLIER_1 * c2
        c0 = (product_1 >> _HALF) ^ c1 ^ k0
        c2 = (product_0 >> _HALF) ^ c3 ^ k1
        c1 = product_1 & _LOW
        c3 = product_0 & _LOW
        k0 = (k0 + _KEY_STEP_0) & _LOW
        k1 = (k1 + _KEY_STEP_1) & _LOW
    return c0, c1, c2, c3


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
    words = philox_words(
        *np.moveaxis(np.asarray(counter, np.uint64), -1, 0),
        *np.moveaxis(np.asarray(key, np.uint64), -1, 0),
    )
    return np.stack(np.broadcast_arrays(*words), axis=-1).astype(np.uint32)


@dataclass(frozen=True)
class Dropout:
    """The dropped hidden units, for every sample of one epoch.

    Unit u of hidden layer l draws for the sample at position p of the epoch
    the word ``u // 16 % 4`` of Philox with the key (low half, high half)
    of `seed` and the counter (u // 64 * 16 + u % 16, l + 256 * (p >> 32), low
    half of p, `epoch`): 16 consecutive counters give 64 adjacent units, in
    vectors. The unit is dropped if the word is below `threshold`. So the masks
    do not depend on batches, threads or the backend.

    Parameters
    ----------
    rates : tuple of float in [0, 1), one per hidden layer
        Dropout probability.
    seed : int
        Below 2**64.
    epoch : int
        Below 2**32.
    start : int
        Position in the epoch of the first sample of the engine.
    """

    rates: tuple[float, ...]
    seed: int
    epoch: int = 0
    start: int = 0

    def threshold(self, layer: int) -> int:
        """Return the smallest random word that keeps a unit of a hidden layer."""
        return min(round(self.rates[layer] * 2**32), 2**32 - 1)

    def factors(
        self, layer: int, positions: NDArray, n_units: int, dtype: DTypeLike
    ) -> NDArray | None:
        """Return the factors of the activations of a hidden layer.

        Parameters
        ----------
        layer : int
            0 for the first hidden layer.
        positions : array of shape (n_samples,), int64
            Positions of the samples, counted from `start`.
        n_units : int
        dtype : float32 or float64

        Returns
        -------
        array of shape (n_samples, n_units), or None if the rate is 0
            0 for dropped units, otherwise ``1 / (1 - rate)``, so that the
            expected sums are those without dropout.
        """
        if self.rates[layer] == 0:
            return None
        at = (positions + self.start).astype(np.uint64)
        n_blocks = -(-n_units // 64)
        counter = np.empty((len(at), n_blocks, 16, 4), np.uint64)
        counter[..., 0] = np.arange(16 * n_blocks).reshape(n_blocks, 16)
        counter[..., 1] = (np.uint64(layer) + (at >> _HALF) * np.uint64(256))[:, None, None]
        counter[..., 2] = (at & _LOW)[:, None, None]
        counter[..., 3] = self.epoch
        words = philox(counter, self.key).swapaxes(-1, -2).reshape(len(at), -1)[:, :n_units]
        return (words >= self.threshold(layer)) * np.asarray(1 / (1 - self.rates[layer]), dtype)

    @property
    def key(self) -> tuple[int, int]:
        """The key of Philox: the low and the high half of the seed."""
        return self.seed & 0xFFFFFFFF, self.seed >> 32
