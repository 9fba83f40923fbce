"""The NumPy backend: the reference implementation, written for readability.

The algorithm of training a multilayer perceptron: forward pass, loss, backward
pass, update. In float64 its results are bit-identical to scikit-learn's. The
other backends have the same names and signatures and are tested against this
one; the interface is documented here.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from fastmlp.core.arrays import activate, multiply_by_derivative, slope_of
from fastmlp.core.functions import bound
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.core.optimizers import RATE, SGD, Adam, Optimizer
from fastmlp.core.random_bits import Dropout
from fastmlp.utils.threads import usable_threads

#: Bytes of float input, or of activations, that `predict` allocates at a time.
_PREDICT_BYTES = 1 << 24


class Engine:
    """A network bound to its parameters and its data, ready to train or predict.

    An engine owns all scratch memory of its backend. Nothing is validated here,
    but in the estimators. Different engines may be used in different threads at
    the same time; a single engine may not.

    Parameters
    ----------
    network : Network
    parameters : Parameters
        float32 or float64, the dtype of all computations. Updated by
        training; to be read after `sync`.
    inputs : Inputs, optional
        The training data; not needed to predict.
    targets : array of shape (n_samples, n_outputs), optional
        In the parameters' dtype: rows that sum to 1 for softmax, numbers from
        0 to 1 for logistic outputs, any for identity and exponential outputs.
    sample_weight : array of shape (n_samples,), optional
        In the parameters' dtype; all ones if None.
    n_threads : int, optional
        Maximum number of threads of this engine. None leaves the choice to the
        backend. Here it limits the threads of the BLAS library.
    many_passes : bool
        Whether there will be several passes over the data, so that preparing
        them is worthwhile. Ignored here.

    Attributes
    ----------
    seconds_compiling : float
        Compilation time of this engine, for backends that compile on first use.
    skips_zeros : bool
        Whether training skips zeros of the inputs. Here always False; this and the next three
        describe settings of other backends.
    recoded : bool
        Whether byte-valued inputs were converted to bytes.
    threads_used : int
        Number of threads of the last epoch; 0 before the first one.
    isa : str
        The instruction set that the kernels are compiled for, or "".
    """

    seconds_compiling = 0.0
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
    ) -> None:
        self.network = network
        self.parameters = parameters
        self.inputs = inputs
        self.targets = targets
        self.sample_weight = sample_weight
        self.n_threads = n_threads
        self._gradient = Parameters(network, np.zeros_like(parameters.flat))

    def bind(self, inputs: Inputs, targets: NDArray, sample_weight: NDArray | None) -> None:
        """Train on other samples.

        Parameters
        ----------
        inputs, targets, sample_weight
            As in the constructor, with the same types, scaling and dtypes; only
            their number may differ. The same arrays may have new contents.
        """
        self.inputs, self.targets, self.sample_weight = inputs, targets, sample_weight

    def train_epoch(
        self,
        order: NDArray,
        batch_size: int,
        optimizer: Any,
        dropout: Dropout | None = None,
        on_samples: Callable[[int], None] | None = None,
    ) -> float:
        """Train on every sample once.

        Parameters
        ----------
        order : array of shape (n_samples,), int64
            The order of the samples.
        batch_size : int
            Samples per update; the last batch may be smaller.
        optimizer : Optimizer (see `fastmlp.core.optimizers`)
            Its state vectors are updated too; read them after `sync`.
        dropout : Dropout, optional
            Hidden units to drop; a sample's position is that in `order`.
        on_samples : callable, optional
            Called periodically, in the calling thread, with the number of processed samples. Not
            called for short epochs, or if the backend does not support it.

        Returns
        -------
        float
            The sum over batches of the batch's objective, taken before its
            update, times the batch's number of samples. Divided by n_samples
            this is scikit-learn's ``loss_``. A batch whose weights sum to zero
            is skipped.

        Raises
        ------
        KeyboardInterrupt
            Within about a second of Ctrl-C. Parameters and optimizer are then
            as after the last finished batch.
        """
        summed_loss = np.float64(0)
        with _blas_threads(self.n_threads):
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                if self._total_weight(batch) == 0:
                    continue
                positions = np.arange(start, start + len(batch))
                factors = _dropout_factors(self.network, dropout, positions, self._gradient)
                loss = self._objective(self.parameters, batch, self._gradient, factors)
                step(optimizer, self.parameters.flat, self._gradient.flat)
                summed_loss += loss * len(batch)
                if on_samples is not None:
                    on_samples(start + len(batch))
        return float(summed_loss)

    def loss_and_gradient(
        self, flat: NDArray, out: NDArray, dropout: Dropout | None = None
    ) -> float:
        """Compute the objective over all samples, and its gradient.

        Parameters
        ----------
        flat : array of shape (n_parameters,)   # IN, where to evaluate; not kept
        out : array of shape (n_parameters,)    # OUT, overwritten
            Both in the parameters' dtype and layout.
        dropout : Dropout, optional
            Hidden units to drop; a sample's position is that in the data.

        Returns
        -------
        float
        """
        assert self.inputs is not None
        everything = slice(0, self.inputs.n_samples)  # a view, not a gathered copy
        parameters, gradient = Parameters(self.network, flat), Parameters(self.network, out)
        positions = np.arange(self.inputs.n_samples)
        factors = _dropout_factors(self.network, dropout, positions, gradient)
        with _blas_threads(self.n_threads):
            return float(self._objective(parameters, everything, gradient, factors))

    def predict(self, inputs: Inputs, out: NDArray) -> bool:
        """Compute the outputs of the network.

        Parameters
        ----------
        inputs : Inputs
            Any number of rows; processed in chunks, to limit memory.
        out : array of shape (n_samples, n_outputs)  # OUT, overwritten
            In the parameters' dtype, C-contiguous.

        Returns
        -------
        bool
            Whether all elements of an array of numbers are finite. If not, the
            rows where they are not are NaN or undefined.
        """
        coefs, intercepts = self.parameters.coefs, self.parameters.intercepts
        return predict(self.network, coefs, intercepts, inputs, self.n_threads, out)

    def load(self) -> None:
        """Take the parameters anew, which the caller has changed; the optimizer is another one."""

    def sync(self) -> None:
        """Update the host's parameters and optimizer state.

        Backends that train on copies write them back here.
        """

    def _total_weight(self, batch: NDArray) -> float:
        """Return the sum of a batch's weights."""
        return len(batch) if self.sample_weight is None else self.sample_weight[batch].sum()

    def _objective(
        self,
        parameters: Parameters,
        batch: NDArray | slice,
        gradient: Parameters,
        factors: Sequence[NDArray | None],
    ) -> np.floating:
        """Return the objective of a batch and write its gradient.

        If the loss is canonical for the output activation, its derivative by
        the output layer's pre-activations is output - target. The activations
        of hidden layer l are multiplied by factors[l], those of dropout.
        """
        assert self.inputs is not None and self.targets is not None
        alpha = self.network.alpha
        Y = self.targets[batch]
        weight = None if self.sample_weight is None else self.sample_weight[batch]
        total_weight = len(Y) if weight is None else weight.sum()

        slopes: list[NDArray | None] = []
        activations = _forward(
            self.network,
            parameters.coefs,
            parameters.intercepts,
            _rows(self.inputs, batch),
            factors,
            slopes,
        )
        loss = self.network.loss_value(Y, activations[-1], weight)
        squares = 0
        for coef in parameters.coefs:
            squares += np.dot(coef.ravel(), coef.ravel())
        loss += (0.5 * alpha) * squares / total_weight

        delta = activations[-1] - Y
        if not self.network.is_canonical:  # the mean squared error of logistic outputs
            multiply_by_derivative("logistic", activations[-1], delta)
            delta /= delta.shape[1]
        if weight is not None:
            delta *= weight[:, np.newaxis]
        for layer in range(len(parameters.coefs) - 1, -1, -1):
            d_coef = activations[layer].T @ delta
            d_coef += alpha * parameters.coefs[layer]
            d_coef /= total_weight
            gradient.coefs[layer][...] = d_coef
            gradient.intercepts[layer][...] = np.sum(delta, axis=0) / total_weight
            if layer > 0:
                delta = delta @ parameters.coefs[layer].T
                A, factor, slope = activations[layer], factors[layer - 1], slopes[layer - 1]
                if factor is not None:
                    delta *= factor
                    # Dropped units have no derivative; the others' is in terms of their value.
                    A = np.divide(A, factor, out=np.zeros_like(A), where=factor != 0)
                if slope is not None:
                    delta *= slope
                else:
                    multiply_by_derivative(self.network.activation, A, delta)
        return loss


def step(optimizer: Optimizer, flat: NDArray, gradient: NDArray) -> None:
    """Update parameters and the optimizer's state, after clipping the gradient; only here."""
    _clip(gradient, optimizer.max_grad_norm)
    update = _UPDATES.get(optimizer.name, _update_by_formula)
    update(optimizer, flat, gradient)


def predict(
    network: Network,
    coefs: Sequence[NDArray],
    intercepts: Sequence[NDArray],
    inputs: Inputs,
    n_threads: int | None,
    out: NDArray,
) -> bool:
    """Compute the outputs of a network without an engine, which would copy the weights.

    Parameters
    ----------
    network : Network
    coefs, intercepts : sequence of array, one per layer
        C-contiguous; all of the dtype of `out`, or all float32.
    inputs : Inputs
        Any number of rows; processed in chunks, to limit memory. With the dtype of
        `out`.
    n_threads : int or None
        As in `Engine`.
    out : array of shape (n_samples, n_outputs)  # OUT, overwritten
        C-contiguous; its dtype is that of the computations.

    Returns
    -------
    bool
        Whether all elements of an array of numbers are finite. If not, the
        rows where they are not are NaN or undefined.
    """
    # Sparse rows are not expanded, but the following layers are dense.
    widest = max(network.layer_units[1:] if inputs.is_sparse else network.layer_units)
    rows = max(1, _PREDICT_BYTES // (widest * out.itemsize))
    all_finite = True
    with _blas_threads(n_threads):
        for start in range(0, inputs.n_samples, rows):
            chunk = slice(start, start + rows)
            is_finite = inputs.is_sparse or _all_finite(inputs.values[chunk])
            with nullcontext() if is_finite else np.errstate(all="ignore"):
                X = _rows(inputs, chunk)
                out[chunk] = _forward(network, coefs, intercepts, X)[-1]
            all_finite &= is_finite
    return all_finite


def forward(
    network: Network, coefs: Sequence[NDArray], intercepts: Sequence[NDArray], inputs: Inputs
) -> list[NDArray]:
    """Return the activations of every layer, from the input to the output; only here."""
    return _forward(network, coefs, intercepts, _rows(inputs, slice(None)))


def _all_finite(X: NDArray) -> bool:
    return X.dtype == np.uint8 or bool(np.isfinite(X).all())


def _forward(
    network: Network,
    coefs: Sequence[NDArray],
    intercepts: Sequence[NDArray],
    X: Any,
    factors: Sequence[NDArray | None] = (),
    slopes: list[NDArray | None] | None = None,
) -> list[Any]:
    """Return the activations of every layer, from the input to the output.

    Those of hidden layer l are multiplied by factors[l], if given. The derivatives of each hidden
    layer that cannot be computed from its activations, otherwise None, are appended to `slopes`.
    """
    activations = [X]
    last = len(coefs) - 1
    for layer, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
        Z = activations[-1] @ coef
        Z += intercept
        name = network.output_activation if layer == last else network.activation
        if slopes is not None and layer < last:
            slopes.append(slope_of(name, Z))
        activate(name, Z)
        if layer < len(factors) and (factor := factors[layer]) is not None:
            Z *= factor
        activations.append(Z)
    return activations


def _dropout_factors(
    network: Network, dropout: Dropout | None, positions: NDArray, like: Parameters
) -> list[NDArray | None]:
    """Return the dropout factors per hidden layer, in the dtype of the parameters."""
    hidden = network.layer_units[1:-1]
    if dropout is None:
        return [None] * len(hidden)
    dtype = like.flat.dtype
    return [dropout.factors(layer, positions, n, dtype) for layer, n in enumerate(hidden)]


def _rows(inputs: Inputs, rows: NDArray | slice) -> Any:
    """Return some rows of the scaled input; sparse ones remain sparse."""
    X = inputs.values[rows]
    if inputs.is_sparse:
        return X if inputs.scale is None else X.multiply(inputs.scale).tocsr()
    if inputs.scale is None:
        return X.astype(inputs.dtype, copy=False)
    X = X * inputs.scale
    X += inputs.shift
    return X


def _clip(gradient: NDArray, max_norm: float) -> None:
    """Clip a gradient to a maximum norm; 0 is no limit."""
    norm = math.sqrt(np.dot(gradient, gradient)) if max_norm > 0 else 0.0
    if norm > max_norm:
        gradient *= gradient.dtype.type(max_norm / norm)


# Updates change the flat parameters by the flat gradient.


def _update_sgd(optimizer: SGD, flat: NDArray, gradient: NDArray) -> None:
    """Step with momentum: ``v = momentum * v - rate * g``, then ``flat += v``.

    Nesterov's variant looks one step ahead: ``flat += momentum * v - rate * g``.
    """
    velocity = optimizer.velocity
    step = optimizer.learning_rate * gradient
    velocity *= optimizer.momentum
    velocity -= step
    flat += optimizer.momentum * velocity - step if optimizer.nesterov else velocity


def _update_adam(optimizer: Adam, flat: NDArray, gradient: NDArray) -> None:
    """Step by Adam (Kingma and Ba, 2014, end of section 2: epsilon outside the bias correction)."""
    optimizer.t += 1
    optimizer.m *= optimizer.beta_1
    optimizer.m += (1 - optimizer.beta_1) * gradient
    optimizer.v *= optimizer.beta_2
    optimizer.v += (1 - optimizer.beta_2) * gradient**2
    optimizer.learning_rate = optimizer.corrected_rate()
    # In place, because each of these vectors is as large as the network.
    scale = np.sqrt(optimizer.v)
    scale += optimizer.epsilon
    step = -optimizer.learning_rate * optimizer.m
    step /= scale
    flat += step


def _update_by_formula(optimizer: Optimizer, flat: NDArray, gradient: NDArray) -> None:
    """Step by the formula of the optimizer."""
    optimizer.updated(optimizer.t + 1)
    settings = np.array(optimizer.settings(), flat.dtype)
    settings[RATE] = optimizer.learning_rate
    state = [*optimizer.state, None, None][:2]
    update = bound(type(optimizer).update, sqrt=np.sqrt)
    flat[...], *new_state = update(flat, gradient, *state, settings)
    for vector, values in zip(optimizer.state, new_state, strict=False):
        vector[...] = values


#: Those of scikit-learn, with its operations; all others use a formula.
_UPDATES: dict[str, Callable[[Any, NDArray, NDArray], None]] = {
    "sgd": _update_sgd,
    "adam": _update_adam,
}


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


class _BlasLimit:
    """The thread limit of BLAS, which is shared by all Python threads.

    The lowest of the current limits applies; the original one is restored at the end.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: list[int] = []
        self._first: Any = None

    @contextmanager
    def at_most(self, n_threads: int) -> Iterator[None]:
        """Return a context in which BLAS uses at most `n_threads`."""
        with self._changing():
            limiter = _blas().limit(limits=min([n_threads, *self._wanted]))
            if not self._wanted:
                self._first = limiter  # stores the original limit
            self._wanted.append(n_threads)
        try:
            yield
        finally:
            with self._changing():
                self._wanted.remove(n_threads)
                if self._wanted:
                    _blas().limit(limits=min(self._wanted))
                else:
                    self._first.restore_original_limits()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            yield
            # Since 3.7, a thread that has set a limit is the only one that can, until it leaves
            # a context of threadpoolctl's.
            with _blas().limit(limits=None):
                pass


_blas_limit = _BlasLimit()
if hasattr(
    os, "register_at_fork"
):  # threads with limits or the lock do not exist in a forked child
    os.register_at_fork(after_in_child=_blas_limit.__init__)  # type: ignore[misc]


def _blas_threads(n_threads: int | None) -> AbstractContextManager:
    """Return a context in which BLAS uses at most `n_threads`."""
    if n_threads is None:
        return nullcontext()
    return _blas_limit.at_most(min(int(n_threads), usable_threads()))
