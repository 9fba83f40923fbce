"""How an epoch goes through the samples: in memory, or changed by augmentation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastmlp.core.optimizers import Optimizer
from fastmlp.core.random_bits import Dropout

#: Approximate number of augmented samples in memory; enough for some batches and all threads.
_AUGMENTED_ROWS = 4096


@dataclass(frozen=True)
class Noise:
    """Dropout and augmentation, which differ between epochs.

    Parameters
    ----------
    dropout : Dropout, optional
        Its epoch is set to the current one, counted from 1 over all calls (see
        `Progress.number`).
    augmented : callable, optional
        Maps indices of samples and the epoch, counted in the same way, to the augmented samples:
        inputs, targets and weights, for `Engine.bind`.
    """

    dropout: Dropout | None = None
    augmented: Callable[[NDArray, int], tuple[Any, NDArray, NDArray | None]] | None = None


class Pass(Protocol):
    """An epoch after the other over the same samples.

    Attributes
    ----------
    order : array of int64
        A permutation, the order of the last epoch, which the next one shuffles; for checkpoints.
    """

    order: NDArray

    def train_epoch(
        self, number: int, optimizer: Optimizer, on_samples: Callable[[int], None] | None
    ) -> float:
        """Train on every sample once.

        Parameters
        ----------
        number : int
            The epoch, counted from 1 over all calls.
        optimizer : Optimizer
        on_samples : callable or None
            As in the engine's `train_epoch`.

        Returns
        -------
        float
            The mean loss.
        """


class InMemory:
    """Epochs over samples that an engine is bound to.

    Parameters
    ----------
    engine : Engine of any backend
    n_samples, batch_size : int
    shuffle : bool
        Shuffle the samples again in every epoch, starting from the last order.
    random_state : RandomState
    rows : array of shape (n_samples,), optional
        The samples' rows of what the engine is bound to, if they are not all of them in order. Not
        with augmentation.
    noise : Noise
    order : array of shape (n_samples,), optional
        The order of the last epoch, where training goes on with that of a checkpoint.
    n_before : int
        Samples of the epoch that others train on before these.
    """

    def __init__(
        self,
        engine: Any,
        n_samples: int,
        batch_size: int,
        *,
        shuffle: bool,
        random_state: np.random.RandomState,
        rows: NDArray | None = None,
        noise: Noise = Noise(),
        order: NDArray | None = None,
        n_before: int = 0,
    ) -> None:
        self.order = np.arange(n_samples) if order is None else order
        self._engine = engine
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._random_state = random_state
        self._rows = rows
        self._noise = noise
        self._n_before = n_before

    def train_epoch(
        self, number: int, optimizer: Optimizer, on_samples: Callable[[int], None] | None
    ) -> float:
        """Train on every sample once; see `Pass`."""
        n_samples, dropout = len(self.order), self._noise.dropout
        if dropout is not None:
            dropout = replace(dropout, epoch=number, start=self._n_before)
        if self._shuffle:
            permutation = np.arange(n_samples)
            self._random_state.shuffle(permutation)
            self.order = self.order[permutation]
        if self._noise.augmented is not None:
            return self._train_part_by_part(number, optimizer, dropout, on_samples) / n_samples
        samples = self.order if self._rows is None else self._rows[self.order]
        return (
            self._engine.train_epoch(samples, self._batch_size, optimizer, dropout, on_samples)
            / n_samples
        )

    def _train_part_by_part(
        self,
        number: int,
        optimizer: Optimizer,
        dropout: Dropout | None,
        on_samples: Callable[[int], None] | None,
    ) -> float:
        """Train on samples that are augmented in chunks, and return the summed loss."""
        assert self._noise.augmented is not None
        rows = self._batch_size * max(1, _AUGMENTED_ROWS // self._batch_size)
        summed_loss = 0.0
        for start in range(0, len(self.order), rows):
            part = self.order[start : start + rows]
            self._engine.bind(*self._noise.augmented(part, number))
            masks = dropout and replace(dropout, start=self._n_before + start)
            summed_loss += self._engine.train_epoch(
                np.arange(len(part)), self._batch_size, optimizer, masks
            )
            if on_samples is not None:
                on_samples(start + len(part))
        return summed_loss
