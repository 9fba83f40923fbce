"""Every backend against the oracle, through one table of cases."""

import inspect
import os
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from functools import cache, partial

import numpy as np
import oracle
import pytest
import scipy.sparse
import scipy.special
from threadpoolctl import threadpool_info

from fastmlp import backends
from fastmlp.backends import numpy_backend
from fastmlp.core.functions import ACTIVATIONS
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.core.optimizers import OPTIMIZERS
from fastmlp.core.random_bits import Dropout
from fastmlp.training import SGD, Adam

# (n_samples, layer units, hidden, output, batch size, weighted). Sizes are no multiples of a
# tile (6 rows), a vector (2 to 16 units) or a panel (up to 112), and include 1 everywhere.
CASES = [
    (1, (1, 1), "relu", "identity", 1, False),
    (5, (3, 2), "relu", "softmax", 2, False),
    (7, (4, 1, 1), "tanh", "logistic", 7, True),
    (13, (5, 7, 3), "relu", "softmax", 4, False),
    (20, (9, 17, 2), "logistic", "logistic", 6, True),
    (11, (6, 5, 4, 3), "identity", "softmax", 5, False),
    (9, (2, 3, 5, 1), "relu", "identity", 4, True),
    (10, (50, 70, 3), "relu", "softmax", 10, False),
    (8, (33, 16, 8), "tanh", "identity", 3, False),
    (14, (7, 5, 2), "relu", "exp", 5, True),
    (70, (67, 9, 3), "tanh", "softmax", 66, True),  # no multiples of a mask (64) either
]
# Those with zeros have so many that the compiled engine skips them.
SOURCES = ["float", "bytes", "scaled", "sparse", "sparse64", "sparse-scaled"]
ZEROS = ["zeros", "zeros-scaled", "zero-bytes", "zero-bytes-scaled", "zero-bytes-shifted"]
# Numbers that are bytes in truth, which the compiled engine finds out.
ZEROS += ["zeros-coded-255", "zeros-coded-1", "zeros-coded-scaled"]
IDS = ["-".join(map(str, [case[0], *case[1], *case[2:5]])) for case in CASES]


def problem(case, dtype, seed=0, source="float", loss=""):
    """Draw a network, its data and weights for one case."""
    n_samples, units, hidden, output, batch_size, weighted = case
    rng = np.random.RandomState(seed)
    network = Network(units, hidden, output, alpha=0.1, loss=loss)
    parameters = Parameters.initial(network, rng, dtype)
    dtype = np.dtype(dtype)
    if source.startswith("sparse"):
        values = scipy.sparse.random(
            n_samples, units[0], density=0.3, format="csr", random_state=rng, dtype=dtype
        )
        if source == "sparse64":  # indices of large matrices
            values.indptr, values.indices = (
                a.astype(np.int64) for a in (values.indptr, values.indices)
            )
        factor = rng.uniform(0.5, 2, units[0]).astype(dtype)
        scaling = (factor, np.zeros_like(factor)) if source == "sparse-scaled" else ()
        inputs = Inputs(values, dtype, *scaling)
    elif source == "float":
        inputs = Inputs(rng.standard_normal((n_samples, units[0])).astype(dtype), dtype)
    elif source.startswith("zero"):
        values = rng.randint(1, 256, (n_samples, units[0])) * (rng.rand(n_samples, units[0]) < 0.3)
        values[:, ::5] = 0  # features that never are anything else
        scale = np.full(units[0], 0.01) if "scaled" not in source else rng.rand(units[0]) / 100
        shift = 0.1 * rng.standard_normal(units[0]) if "shifted" in source else 0 * scale
        values = values.astype(np.uint8 if "bytes" in source else dtype)
        if source == "zeros":
            factor = rng.standard_normal(values.shape) / 100
            inputs = Inputs(values * factor.astype(dtype), dtype)
        elif source == "zeros-coded-255":
            inputs = Inputs(values * dtype.type(1 / 255), dtype)
        elif source == "zeros-coded-1":
            inputs = Inputs(np.minimum(values, 1), dtype)
        elif source == "zeros-coded-scaled":
            inputs = Inputs(
                values / dtype.type(255), dtype, *(100 * a.astype(dtype) for a in (scale, shift))
            )
        else:
            inputs = Inputs(values, dtype, scale.astype(dtype), shift.astype(dtype))
    else:
        scale, shift = rng.uniform(0.001, 0.01, (2, units[0])).astype(dtype)
        values = rng.randint(0, 256, (n_samples, units[0])).astype(
            np.uint8 if source == "bytes" else dtype
        )
        inputs = Inputs(values, dtype, scale, -shift)
    if output == "softmax":
        Y = np.eye(units[-1])[rng.randint(units[-1], size=n_samples)]
    elif output == "exp":
        Y = rng.poisson(1.0, (n_samples, units[-1]))
    elif output == "logistic":
        Y = rng.randint(0, 2, (n_samples, units[-1])).astype(float)
    else:
        Y = rng.standard_normal((n_samples, units[-1]))
    weights = rng.uniform(0.5, 2, n_samples).astype(dtype) if weighted else None
    return network, parameters, inputs, Y.astype(dtype), weights, batch_size


def as_seen(inputs):
    """Return the inputs as the network sees them, in float64."""
    X = inputs.values.toarray() if inputs.is_sparse else inputs.values
    X = X.astype(np.float64)
    if inputs.scale is None:
        return X
    return X * inputs.scale.astype(np.float64) + inputs.shift.astype(np.float64)


def layers(parameters):
    """Return float64 copies of coefs and intercepts."""
    return (
        [W.astype(np.float64) for W in parameters.coefs],
        [b.astype(np.float64) for b in parameters.intercepts],
    )


def flat(coefs, intercepts):
    return np.concatenate([v.ravel() for v in [*coefs, *intercepts]])


def tolerance(dtype):
    return {"rtol": 1e-11, "atol": 1e-12} if dtype == "float64" else {"rtol": 2e-4, "atol": 2e-5}


def optimizers(name, size, dtype):
    """Return the same optimiser, ours and the oracle's."""
    if name not in ("sgd", "nesterov"):
        settings = (0.01, 0.8, 0.95, 1e-6)
        ours = OPTIMIZERS[name](np.zeros(size, dtype), np.zeros(size, dtype), *settings)
        return ours, oracle.OPTIMIZERS[name](*settings)
    nesterov = name == "nesterov"
    ours = SGD(np.zeros(size, dtype), 0.05, momentum=0.7, nesterov=nesterov)
    return ours, oracle.SGD(0.05, 0.7, nesterov)


def check_outputs(network, parameters, inputs, outputs, dtype):
    expected = oracle.predict(
        *layers(parameters), network.activation, network.output_activation, as_seen(inputs)
    )
    np.testing.assert_allclose(outputs, expected, **tolerance(dtype))


def orders(n_samples, n_epochs):
    """Return the order of the samples in each epoch."""
    rng = np.random.RandomState(3)
    return [rng.permutation(n_samples) for _ in range(n_epochs)]


@cache  # for every engine
def trained_by_the_oracle(case, dtype, optimizer, source, loss, dropout, n_epochs, max_norm):
    """Return the losses of the epochs, the parameters, the optimiser's state and its updates, \
and the outputs afterwards."""
    network, parameters, inputs, Y, weights, batch_size = problem(
        case, dtype, source=source, loss=loss
    )
    _, theirs = optimizers(optimizer, parameters.flat.size, dtype)
    theirs.max_norm = max_norm
    coefs, intercepts = layers(parameters)
    losses = [
        oracle.train_epoch(
            coefs, intercepts, network.activation, network.output_activation, network.alpha,
            as_seen(inputs), Y.astype(float), order, batch_size, theirs, weights,
            network.loss == "squared_error", dropout and (dropout.rates, dropout.seed, epoch),
        )
        for epoch, order in enumerate(orders(len(Y), n_epochs))
    ]  # fmt: skip
    states = [theirs.velocity] if optimizer in ("sgd", "nesterov") else [theirs.m, theirs.v]
    flat_states = [np.concatenate([part.ravel() for part in state]) for state in states]
    activations = network.activation, network.output_activation
    outputs = oracle.predict(coefs, intercepts, *activations, as_seen(inputs))
    return losses, flat(coefs, intercepts), flat_states, getattr(theirs, "t", 0), outputs


@cache  # for every engine
def gradient_of_the_oracle(case, dtype, source, loss, dropout):
    """Return the loss and its gradient where all weights are 0.01 larger; the first outputs."""
    network, parameters, inputs, Y, weights, _ = problem(case, dtype, source=source, loss=loss)
    elsewhere = Parameters(network, parameters.flat + np.asarray(0.01, dtype))
    loss, d_coefs, d_intercepts = oracle.objective(
        *layers(elsewhere), network.activation, network.output_activation, network.alpha,
        as_seen(inputs), Y.astype(float), weights, network.loss == "squared_error",
        dropout and (dropout.rates, dropout.seed, dropout.epoch), dropout.start if dropout else 0,
    )  # fmt: skip
    activations = network.activation, network.output_activation
    outputs = oracle.predict(*layers(parameters), *activations, as_seen(inputs))
    return loss, flat(d_coefs, d_intercepts), outputs


def check_training(
    engine_class, case, dtype, optimizer, source="float", loss="", dropout=None, n_epochs=2,
    max_norm=0.0,
):  # fmt: skip
    """Train as the oracle does: losses, parameters, the optimiser's state and predictions."""
    network, parameters, inputs, Y, weights, batch_size = problem(
        case, dtype, source=source, loss=loss
    )
    ours, _ = optimizers(optimizer, parameters.flat.size, dtype)
    ours.max_grad_norm = max_norm
    losses, expected, expected_states, t, expected_outputs = trained_by_the_oracle(
        case, dtype, optimizer, source, loss, dropout, n_epochs, max_norm
    )
    engine = engine_class(network, parameters, inputs, Y, weights, 2, many_passes=True)
    for epoch, order in enumerate(orders(len(Y), n_epochs)):
        masks = replace(dropout, epoch=epoch) if dropout else None
        loss = engine.train_epoch(order, batch_size, ours, masks)
        np.testing.assert_allclose(loss, losses[epoch], **tolerance(dtype))
    engine.sync()
    np.testing.assert_allclose(parameters.flat, expected, **tolerance(dtype))
    assert getattr(ours, "t", 0) == t
    states = [ours.velocity] if optimizer in ("sgd", "nesterov") else [ours.m, ours.v]
    for state, theirs in zip(states, expected_states, strict=True):
        np.testing.assert_allclose(state, theirs, **tolerance(dtype))
    if dropout:  # none of it is left when the network predicts
        outputs = np.empty(Y.shape, dtype)
        assert engine.predict(inputs, outputs)
        np.testing.assert_allclose(outputs, expected_outputs, **tolerance(dtype))


def check_gradient(engine_class, case, dtype, source="float", loss="", dropout=None):
    """Compute the gradient elsewhere as the oracle does, and predict where the engine is."""
    network, parameters, inputs, Y, weights, _ = problem(case, dtype, source=source, loss=loss)
    before = parameters.flat.copy()
    elsewhere = parameters.flat + np.asarray(0.01, dtype)
    gradient = np.full_like(elsewhere, np.nan)
    engine = engine_class(network, parameters, inputs, Y, weights, 2)
    found = engine.loss_and_gradient(elsewhere, gradient, dropout)
    expected, expected_gradient, expected_outputs = gradient_of_the_oracle(
        case, dtype, source, loss, dropout
    )
    np.testing.assert_allclose(found, expected, **tolerance(dtype))
    np.testing.assert_allclose(gradient, expected_gradient, **tolerance(dtype))
    outputs = np.full(Y.shape, np.nan, dtype)
    assert engine.predict(inputs, outputs)
    engine.sync()
    np.testing.assert_array_equal(parameters.flat, before)
    np.testing.assert_allclose(outputs, expected_outputs, **tolerance(dtype))


def check_other_samples(engine_class, case, source, n_first):
    """Training part by part, on other arrays or new contents, is training on the whole."""
    network, parameters, inputs, Y, weights, batch_size = problem(case, "float64", source=source)
    dropout = Dropout((0.3,), 3, 2)
    order = np.random.RandomState(0).permutation(len(Y))
    ours, theirs = (optimizers("adam", parameters.flat.size, "float64")[0] for _ in range(2))
    whole = Parameters(network, parameters.flat.copy())
    engine = engine_class(network, whole, inputs, Y, weights, 2)
    expected = engine.train_epoch(order, batch_size, theirs, dropout)
    engine.sync()

    engine, loss = engine_class(network, parameters, inputs, Y, weights, 2), 0
    for start in (0, n_first):
        part = order[start : start + n_first]
        some = replace(inputs, values=inputs.values[part])
        engine.bind(some, Y[part], weights[part])
        masks = replace(dropout, start=start)
        loss += engine.train_epoch(np.arange(len(part)), batch_size, ours, masks)
    engine.sync()
    assert loss == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(parameters.flat, whole.flat, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
class TestAgainstOracle:
    @pytest.mark.parametrize("source", ["float", "sparse", "zeros", "zeros-coded-255"])
    @pytest.mark.parametrize("optimizer", ["nesterov", *OPTIMIZERS])
    def test_train_epoch(self, engine_class, case, dtype, optimizer, source):
        check_training(engine_class, case, dtype, optimizer, source, n_epochs=3)

    @pytest.mark.parametrize("source", ["float", "sparse", "zero-bytes-shifted"])
    @pytest.mark.parametrize("max_norm", [0.05, 1.0])
    def test_clipped_gradients(self, engine_class, case, dtype, source, max_norm):
        optimizer = "adamw" if case[0] % 2 else "nesterov"
        check_training(engine_class, case, dtype, optimizer, source, max_norm=max_norm)

    @pytest.mark.parametrize("source", SOURCES + ZEROS)
    def test_loss_and_gradient(self, engine_class, case, dtype, source):
        check_gradient(engine_class, case, dtype, source)

    @pytest.mark.parametrize("source", SOURCES + ZEROS)
    def test_predict(self, engine_class, case, dtype, source):
        network, parameters, inputs, Y, _, _ = problem(case, dtype, source=source)
        outputs = np.full(Y.shape, np.nan, dtype)
        engine_class(network, parameters, n_threads=2).predict(inputs, outputs)
        check_outputs(network, parameters, inputs, outputs, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["zeros", "zero-bytes", "zero-bytes-scaled", "sparse"])
def test_every_width_of_a_panel(engine_class, dtype, source):
    """Panels that skip zeros have up to 14 vectors, of 2 to 16 numbers."""
    for n_hidden in [*range(1, 60, 4), 67, 75, 83, 91, 99, 107, 119]:
        case = (9, (5, n_hidden, n_hidden, 2), "relu", "softmax", 4, True)
        check_training(engine_class, case, dtype, "adam", source, n_epochs=1)
        check_gradient(engine_class, case, dtype, source)


# (case, loss, rates of dropout). The last is large enough for several threads and chunks.
DROPOUT_CASES = [
    ((13, (5, 7, 3), "relu", "softmax", 4, False), "", (0.5,)),
    ((20, (9, 17, 5, 2), "logistic", "logistic", 6, True), "squared_error", (0.25, 0.4)),
    ((9, (4, 66, 3), "tanh", "logistic", 9, False), "squared_error", (0.0,)),
    ((11, (6, 5, 4, 3), "identity", "softmax", 5, True), "", (0.0, 0.5)),
    ((10, (3, 70, 2), "tanh", "identity", 4, False), "", (0.6,)),
    ((7, (2, 3, 1), "relu", "exp", 3, False), "", (0.3,)),
    ((150, (70, 33, 20, 3), "relu", "softmax", 120, True), "", (0.2, 0.5)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["float", "sparse", "zero-bytes-shifted"])
@pytest.mark.parametrize(("case", "loss", "rates"), DROPOUT_CASES)
class TestDropoutAndSquaredError:
    def test_train_epoch(self, engine_class, case, loss, rates, dtype, source):
        dropout = Dropout(rates, 2**35 + 11)
        check_training(engine_class, case, dtype, "adam", source, loss, dropout)

    def test_loss_and_gradient(self, engine_class, case, loss, rates, dtype, source):
        dropout = Dropout(rates, 5, 1, start=2**32 - 3)
        check_gradient(engine_class, case, dtype, source, loss, dropout)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name, a in ACTIVATIONS.items() if not a.is_sklearns])
class TestActivationsOfOurOwn:
    """Those of scikit-learn are in all other tables."""

    @pytest.mark.parametrize("rates", [None, (0.3, 0.2)], ids=["", "dropout"])
    def test_train_epoch(self, engine_class, name, dtype, rates):
        dropout = None if rates is None else Dropout(rates, 2**35 + 11)
        for case in [
            (13, (5, 7, 4, 3), name, "softmax", 4, True),
            (80, (70, 33, 20, 3), name, "logistic", 64, False),
        ]:
            check_training(engine_class, case, dtype, "adam", "zero-bytes", "", dropout)
            check_gradient(engine_class, case, dtype, "float", "", dropout)

    def test_predict(self, engine_class, name, dtype):
        for n in (1, 3, 17, 70):
            case = (n, (9, 33, 5, 2), name, "identity", 1, False)
            network, parameters, inputs, Y, *_ = problem(case, dtype)
            outputs = np.full(Y.shape, np.nan, dtype)
            engine_class(network, parameters, n_threads=2).predict(inputs, outputs)
            check_outputs(network, parameters, inputs, outputs, dtype)

    def test_far_from_zero(self, engine_class, name, dtype):
        """Neither overflow nor NaN where networks may come to."""
        network = Network((1, 1, 1), name, "identity")
        parameters = Parameters(network, np.array([1, 1, 0, 0], dtype))
        X = np.array([[-1000.0], [-100.0], [-20.0], [0.0], [20.0], [100.0], [1000.0]], dtype)
        outputs, gradient = np.full((7, 1), np.nan, dtype), np.empty(4, dtype)
        Y = np.zeros((7, 1), dtype)
        engine = engine_class(network, parameters, Inputs(X, np.dtype(dtype)), Y, n_threads=1)
        engine.predict(engine.inputs, outputs)
        expected = [[oracle.activation(name, float(x))] for x in X[:, 0]]
        np.testing.assert_allclose(outputs, expected, **tolerance(dtype))
        assert np.isfinite(engine.loss_and_gradient(parameters.flat, gradient))
        assert np.isfinite(gradient).all()


@cache  # for every engine
def factors_of(dropout, n_samples, n_units):
    return dropout.factors(0, np.arange(n_samples), n_units, "float64")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.6])
def test_every_backend_draws_the_same_masks(engine_class, rate):
    """A million draws: the sums of identity units tell which were kept."""
    n_samples, n_units = 1000, 1000
    network = Network((1, n_units, 1), "identity", "identity")
    parameters = Parameters(network, np.zeros(network.n_parameters))
    parameters.coefs[0][...] = 1
    inputs = Inputs(np.ones((n_samples, 1)), np.dtype("float64"))
    Y = -np.arange(1.0, n_samples + 1)[:, None]
    dropout = Dropout((rate,), seed=1)
    gradient = Parameters(network, np.empty(network.n_parameters))
    engine = engine_class(network, parameters, inputs, Y, n_threads=2)
    engine.loss_and_gradient(parameters.flat, gradient.flat, dropout)
    # The outputs are 0, so the gradient of unit u's weight is the mean of factor(sample, u)
    # times (sample + 1).
    factors = factors_of(dropout, n_samples, n_units)
    expected = factors.T @ -Y[:, 0] / n_samples
    np.testing.assert_allclose(gradient.coefs[1][:, 0], expected, rtol=1e-12)
    assert (factors != 0).mean() == pytest.approx(1 - rate, rel=0.005)


@pytest.mark.parametrize("source", ["bytes", "sparse"])
def test_other_samples_of_the_same_kind(engine_class, source):
    case = (70, (9, 30, 3), "relu", "softmax", 10, True)
    check_other_samples(engine_class, case, source, 40)


@pytest.mark.parametrize("source", ["zero-bytes", "zeros", "sparse"])
def test_other_samples_may_be_more_and_denser(engine_class, source):
    case = (150, (70, 9, 3), "relu", "softmax", 1, True)
    network, parameters, inputs, Y, weights, _ = problem(case, "float64", source=source)
    full = inputs.values.toarray() if inputs.is_sparse else inputs.values
    full = type(inputs.values)(full + 1) if inputs.is_sparse else full + 1
    first = replace(inputs, values=inputs.values[:20])
    engine = engine_class(network, parameters, first, Y[:20], weights[:20], 2, many_passes=True)
    gradient, expected = np.empty((2, parameters.flat.size))
    for values in (inputs.values[:20], inputs.values, full):
        some, n = replace(inputs, values=values), values.shape[0]
        engine.bind(some, Y[:n], weights[:n])
        theirs = numpy_backend.Engine(network, parameters, some, Y[:n], weights[:n])
        assert engine.loss_and_gradient(parameters.flat, gradient) == pytest.approx(
            theirs.loss_and_gradient(parameters.flat, expected), rel=1e-12
        )
        np.testing.assert_allclose(gradient, expected, **tolerance("float64"))


@pytest.mark.parametrize("dropout", [None, Dropout((0.5, 0.2), 7)], ids=["", "dropout"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    ("output", "loss"),
    [
        *(("softmax", "log_loss"), ("logistic", "log_loss"), ("logistic", "squared_error")),
        *(("identity", "squared_error"), ("exp", "poisson")),
    ],
)
@pytest.mark.parametrize("hidden", list(ACTIVATIONS))
def test_gradient_is_that_of_the_loss(engine_class, hidden, output, loss, smoothing, dropout):
    """Finite differences; identity with one output, where the squared error's mean is its sum."""
    units = (4, 6, 5, 1 if output == "identity" else 3)
    case = (12, units, hidden, output, 12, True)
    network, parameters, inputs, Y, weights, _ = problem(case, "float64", loss=loss)
    Y = (1 - smoothing) * Y + smoothing / 3
    engine = engine_class(network, parameters, inputs, Y, weights)
    gradient, scratch = np.empty((2, parameters.flat.size))
    engine.loss_and_gradient(parameters.flat, gradient, dropout)
    for i in range(parameters.flat.size):
        step = np.zeros(parameters.flat.size)
        step[i] = 1e-5
        above = engine.loss_and_gradient(parameters.flat + step, scratch, dropout)
        below = engine.loss_and_gradient(parameters.flat - step, scratch, dropout)
        assert (above - below) / 2e-5 == pytest.approx(gradient[i], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("dropout", [None, Dropout((0.4,), 2, 3)], ids=["", "dropout"])
@pytest.mark.parametrize("source", ["bytes", "sparse", "zeros", "zero-bytes-shifted"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batches_larger_than_the_cache(engine_class, dtype, source, dropout):
    """Such a batch passes in several chunks; the result is that of one."""
    case = (150, (5000, 9, 3), "relu", "softmax", 120, True)
    if source == "sparse":  # 1024 rows a chunk
        case = (2500, (40, 9, 3), "relu", "softmax", 2200, True)
    network, parameters, inputs, Y, weights, batch_size = problem(case, dtype, source=source)
    ours, _ = optimizers("nesterov", parameters.flat.size, dtype)
    specification = Parameters(network, parameters.flat.astype("float64"))
    theirs, _ = optimizers("nesterov", parameters.flat.size, "float64")
    numpy_engine = backends.get("numpy").Engine(
        network, specification, Inputs(as_seen(inputs), np.dtype("float64")),
        Y.astype(float), weights.astype(float),
    )  # fmt: skip
    engine = engine_class(network, parameters, inputs, Y, weights, 3)
    order = np.random.RandomState(0).permutation(len(Y))
    loss = engine.train_epoch(order, batch_size, ours, dropout)
    assert loss == pytest.approx(
        numpy_engine.train_epoch(order, batch_size, theirs, dropout),
        rel=1e-5 if dtype == "float32" else 1e-11,
    )
    engine.sync()
    np.testing.assert_allclose(parameters.flat, specification.flat, **tolerance(dtype))


@pytest.mark.compiled  # the order of summation inside NumPy's BLAS is not ours
@pytest.mark.parametrize("source", ["bytes", "sparse", "zeros", "zero-bytes-shifted"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["nesterov", "adam", "adamw"])
@pytest.mark.parametrize("max_norm", [0, 0.01], ids=["", "clipped"])
@pytest.mark.parametrize("dropout", [None, Dropout((0.5, 0.2), 7)], ids=["", "dropout"])
def test_result_does_not_depend_on_threads(
    engine_class, dtype, optimizer, source, max_norm, dropout
):
    # Enough work for five threads; a small batch would get fewer.
    case = (803, (37, 200, 40, 4), "tanh", "softmax", 401, True)
    results = []
    for n_threads in (1, 2, 5):
        network, parameters, inputs, Y, weights, batch_size = problem(case, dtype, source=source)
        ours, _ = optimizers(optimizer, parameters.flat.size, dtype)
        ours.max_grad_norm = max_norm
        engine = engine_class(network, parameters, inputs, Y, weights, n_threads)
        order = np.random.RandomState(0).permutation(len(Y))
        losses = [engine.train_epoch(order, batch_size, ours, dropout) for _ in range(2)]
        outputs = np.empty(Y.shape, dtype)
        engine.predict(inputs, outputs)
        engine.sync()
        assert n_threads == 1 or engine.threads_used > 1
        results.append((losses, parameters.flat, outputs))
    for losses, values, outputs in results[1:]:
        assert losses == results[0][0]
        np.testing.assert_array_equal(values, results[0][1])
        np.testing.assert_array_equal(outputs, results[0][2])


@pytest.mark.compiled  # the NumPy backend skips nothing
@pytest.mark.parametrize("source", [source for source in ZEROS if "shifted" not in source])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_hidden", [5, 50, 130])
def test_skipping_zeros_changes_no_bit(engine_class, monkeypatch, dtype, source, n_hidden):
    case = (400, (131, n_hidden, 3), "relu", "softmax", 170, True)
    results = []
    for density in (0, 1):
        monkeypatch.setattr("fastmlp.core.inputs.MAX_DENSITY", density)
        network, parameters, inputs, Y, weights, batch_size = problem(case, dtype, source=source)
        ours, _ = optimizers("adam", parameters.flat.size, dtype)
        engine = engine_class(network, parameters, inputs, Y, weights, 2, many_passes=density == 1)
        losses = [engine.train_epoch(np.arange(len(Y)), batch_size, ours) for _ in range(3)]
        gradient, outputs = np.empty_like(parameters.flat), np.empty(Y.shape, dtype)
        losses.append(engine.loss_and_gradient(parameters.flat, gradient))
        engine.predict(inputs, outputs)
        engine.sync()
        results.append((losses, parameters.flat, gradient, outputs))
    # The penalty is summed block by block, and the blocks differ.
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6)
    for dense, skipped in zip(*(result[1:] for result in results), strict=True):
        np.testing.assert_array_equal(skipped, dense)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("name", ["logistic", "exp", "tanh"])
def test_functions_are_accurate(engine_class, dtype, name):
    """Against the C library in extended precision, in units in the last place."""
    units, hidden, output = {
        "logistic": ((1, 1), "relu", "logistic"),
        "exp": ((1, 1), "relu", "exp"),
        "tanh": ((1, 1, 1), "tanh", "identity"),
    }[name]
    network = Network(units, hidden, output)
    parameters = Parameters(network, np.zeros(network.n_parameters, dtype))
    for coef in parameters.coefs:
        coef[...] = 1
    rng = np.random.RandomState(0)
    limit = {"float32": 87.0, "float64": 708.0}[dtype]  # beyond it exp is no normal number
    small = 2.0 ** rng.uniform(-60, 1, 20000) * rng.choice([-1, 1], 20000)
    X = np.concatenate([rng.uniform(-limit, limit, 60000), rng.uniform(-3, 3, 60000), small, [0]])
    X = X.astype(dtype)[:, np.newaxis]
    outputs = np.empty_like(X)
    engine_class(network, parameters).predict(Inputs(X, np.dtype(dtype)), outputs)
    x = X.astype(np.longdouble)
    exact = {"logistic": 1 / (1 + np.exp(-x)), "exp": np.exp(x), "tanh": np.tanh(x)}[name]
    error = np.abs(outputs - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert error.max() < 4
    huge = np.finfo(dtype).max
    beyond = np.array([-huge, -1e30, -2 * limit, 2 * limit, 1e30, huge], dtype)[:, np.newaxis]
    outputs = np.empty_like(beyond)
    engine_class(network, parameters).predict(Inputs(beyond, np.dtype(dtype)), outputs)
    high = np.inf if name == "exp" else 1
    low = -1 if name == "tanh" else 0
    np.testing.assert_array_equal(outputs[:, 0], [low, low, low, high, high, high])
    parameters.intercepts[0][...] = np.nan
    engine_class(network, parameters).predict(Inputs(beyond, np.dtype(dtype)), outputs)
    assert np.isnan(outputs).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predict_tells_inputs_that_are_not_finite(engine_class, dtype, bad):
    network, parameters, inputs, Y, _, _ = problem(
        (3000, (37, 5, 2), "relu", "softmax", 1, 0), dtype
    )
    engine, outputs = engine_class(network, parameters, n_threads=2), np.empty(Y.shape, dtype)
    assert engine.predict(inputs, outputs)
    expected = outputs.copy()
    inputs.values[1999, 36] = bad
    assert not engine.predict(inputs, outputs)
    others = np.arange(3000) != 1999
    np.testing.assert_array_equal(outputs[others], expected[others])


# Rows that take each way of a prediction, and rows around the tiles; layers that take each.
ROWS = [1, 2, 4, 5, 7, 47, 49, 250]
PREDICTED = [(21, 3, 4), (784, 50, 10), (60, 90, 270, 3), (130, 300, 600, 7), (5, 2), (70, 1100)]
HIDDEN = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}  # zeros of ReLU may be skipped


@cache  # for every engine
def rows_problem(units, activation, dtype, weights_dtype, source):
    """Return a network, its parameters and samples, and what the formulas give."""
    case = (max(ROWS), units, activation, "softmax", 1, False)
    network, parameters, inputs, _, _, _ = problem(case, dtype, source=source)
    parameters = Parameters(network, parameters.flat.astype(weights_dtype))
    expected = as_seen(inputs)  # in NumPy: the oracle's loops would take minutes
    *hidden, (coef, intercept) = zip(*layers(parameters), strict=True)
    for W, b in hidden:
        expected = HIDDEN[activation](expected @ W + b)
    return network, parameters, inputs, scipy.special.softmax(expected @ coef + intercept, axis=1)


def check_rows(predict, dtype, weights_dtype, source):
    """Whatever way a prediction takes, it is what the formulas give."""
    for i, units in enumerate(PREDICTED):
        for j, n in enumerate(ROWS):  # either activation with each layer, and with each n
            network, parameters, everything, expected = rows_problem(
                units, list(HIDDEN)[(i + j) % 2], dtype, weights_dtype, source
            )
            inputs = replace(everything, values=everything.values[:n])
            outputs = np.full((n, units[-1]), np.nan, dtype)
            assert predict(network, parameters, inputs, outputs)
            np.testing.assert_allclose(outputs, expected[:n], **tolerance(dtype))


def predicting(name):
    """Return a function that predicts without an engine."""

    def predict(network, parameters, inputs, outputs):
        layers = parameters.coefs, parameters.intercepts
        return backends.get(name).predict(network, *layers, inputs, 2, outputs)

    return predict


@pytest.mark.parametrize("source", [*SOURCES, *ZEROS[:5]])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.slow
class TestRows:
    def test_engine(self, engine_class, dtype, source):
        def predict(network, parameters, inputs, outputs):
            return engine_class(network, parameters, n_threads=2).predict(inputs, outputs)

        check_rows(predict, dtype, dtype, source)

    def test_without_an_engine(self, backend, dtype, source):
        check_rows(predicting(backend), dtype, dtype, source)


@pytest.mark.parametrize("n_units", [300, 1000])  # of which weights are small, and large
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_of_relu_are_skipped_if_they_are_many(n_units, dtype):
    """0 times an infinite weight is NaN, so the outputs tell whether it was multiplied."""
    if "cython" not in backends.available():
        pytest.skip(backends.unavailable()["cython"])
    network = Network((1, n_units, n_units, 1), "relu", "identity")
    parameters = Parameters(network, np.ones(1 + n_units * (n_units + 4), dtype))
    inputs = Inputs(np.linspace(1, 2, 200, dtype=dtype)[:, None], np.dtype(dtype))
    outputs = np.empty((200, 1), dtype)
    for eighths in (4, 1):
        zeros = np.arange(n_units) % 8 < eighths  # units of the first hidden layer
        parameters.intercepts[0][:] = np.where(zeros, -9, 1)
        parameters.coefs[1][:] = np.where(zeros, np.inf, 1)[:, None]
        with np.errstate(all="ignore"):
            predicting("cython")(network, parameters, inputs, outputs)
        assert (np.isfinite(outputs) if eighths == 4 else np.isnan(outputs)).all()


@pytest.mark.slow
@pytest.mark.parametrize("source", ["float", "sparse", "zeros", "zero-bytes-shifted"])
def test_float64_with_float32_weights(backend, source):
    """Weights keep their dtype, and nothing but them is rounded to it."""
    check_rows(predicting(backend), "float64", "float32", source)


@pytest.mark.parametrize("source", ["float", "zeros", "scaled"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite(backend, bad, source):
    for units in PREDICTED:
        case = (max(ROWS), units, "relu", "identity", 1, False)
        network, parameters, everything, _, _, _ = problem(case, "float32", source=source)
        everything.values[-1, -1] = bad
        for n in ROWS:
            inputs = replace(everything, values=everything.values[-n:])
            outputs = np.empty((n, units[-1]), "float32")
            assert not predicting(backend)(network, parameters, inputs, outputs), (units, n)


@pytest.mark.parametrize("n_layers", [1, 16, 17, 60])
def test_many_layers(backend, n_layers):
    units = (21, *[3 + layer % 5 for layer in range(n_layers - 1)], 4)
    case = (9, units, "tanh", "softmax", 1, False)
    network, parameters, inputs, Y, _, _ = problem(case, "float64")
    outputs = np.empty(Y.shape)
    assert predicting(backend)(network, parameters, inputs, outputs)
    check_outputs(network, parameters, inputs, outputs, "float64")


@pytest.mark.parametrize("beta_2", [0.999, 0.999999, 1 - 1e-8])
def test_adam_in_float32_with_slow_moments(engine_class, beta_2):
    """1 - beta_2 must be taken before rounding to float32, where beta_2 may be 1."""
    network, parameters, inputs, Y, weights, batch_size = problem(CASES[3], "float32")
    coefs, intercepts = layers(parameters)
    size = parameters.flat.size
    ours = Adam(np.zeros(size, "float32"), np.zeros(size, "float32"), 0.01, beta_2=beta_2)
    theirs = oracle.Adam(0.01, 0.9, beta_2, 1e-8)
    engine = engine_class(network, parameters, inputs, Y, weights)
    for _ in range(5):
        loss = engine.train_epoch(np.arange(len(Y)), batch_size, ours)
        expected = oracle.train_epoch(
            coefs, intercepts, network.activation, network.output_activation, network.alpha,
            as_seen(inputs), Y.astype(float), np.arange(len(Y)), batch_size, theirs, weights,
        )  # fmt: skip
        assert loss == pytest.approx(expected, rel=1e-3)


def test_inputs_are_not_modified(engine_class):
    network, parameters, inputs, Y, weights, batch_size = problem(CASES[4], "float64")
    arrays = [inputs.values, Y, weights]
    order = np.arange(len(Y))
    copies = [a.copy() for a in [*arrays, order]]
    for array in [*arrays, order]:
        array.flags.writeable = False
    engine = engine_class(network, parameters, inputs, Y, weights)
    ours, _ = optimizers("adam", parameters.flat.size, "float64")
    engine.train_epoch(order, batch_size, ours)
    engine.predict(inputs, np.empty(Y.shape))
    for array, copy in zip([*arrays, order], copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_nan_reaches_loss_and_weights(engine_class):
    """A diverged network must be seen to have diverged."""
    network, parameters, inputs, Y, weights, batch_size = problem(CASES[3], "float64")
    parameters.flat[0] = np.nan
    engine = engine_class(network, parameters, inputs, Y, weights)
    ours, _ = optimizers("sgd", parameters.flat.size, "float64")
    assert np.isnan(engine.train_epoch(np.arange(len(Y)), batch_size, ours))
    engine.sync()
    assert np.isnan(parameters.flat).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_poisson_mean_that_underflows_fits_zero_counts(engine_class, dtype):
    network = Network((1, 1), "relu", "exp")
    parameters = Parameters(network, np.array([-1.0, 0.0], dtype))
    inputs = Inputs(np.array([[1e4], [0.0]], dtype), np.dtype(dtype))  # means of 0 and 1
    engine = engine_class(network, parameters, inputs, np.zeros((2, 1), dtype))
    gradient = np.empty(2, dtype)
    assert engine.loss_and_gradient(parameters.flat, gradient) == 0.5
    assert gradient.tolist() == [0, 0.5]


@pytest.mark.slow
def test_engines_in_several_threads_do_not_disturb_each_other(engine_class):
    case = (600, (60, 100, 4), "relu", "softmax", 300, False)  # enough work for two threads
    results = {}

    def fit(key):
        network, parameters, inputs, Y, weights, batch_size = problem(case, "float32")
        ours, _ = optimizers("adam", parameters.flat.size, "float32")
        engine = engine_class(network, parameters, inputs, Y, weights, 2)
        for _ in range(10):
            engine.train_epoch(np.arange(len(Y)), batch_size, ours)
        engine.sync()
        results[key] = parameters.flat

    fit("alone")
    threads = [threading.Thread(target=fit, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        np.testing.assert_array_equal(results[i], results["alone"])


class TestBlasLimit:
    @pytest.fixture(autouse=True)
    def _needs_a_blas(self, monkeypatch):
        if not self.limits():
            pytest.skip("threadpoolctl does not know this BLAS")
        monkeypatch.setattr(numpy_backend, "usable_threads", lambda: 3)  # of any machine

    @staticmethod
    def limits():
        infos = [info for info in threadpool_info() if info["user_api"] == "blas"]
        return {info["filepath"]: info["num_threads"] for info in infos}

    @pytest.mark.slow
    def test_it_is_as_before_once_all_have_left(self):
        before = self.limits()
        start, seen = threading.Barrier(4), set()

        def fit(n_threads):
            start.wait()
            for _ in range(100):
                with numpy_backend._blas_threads(n_threads):
                    seen.update(self.limits().values())

        threads = [threading.Thread(target=fit, args=(n,)) for n in (1, 1, 1, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == {1}
        assert self.limits() == before

    def test_the_lowest_applies(self):
        before = self.limits()
        with numpy_backend._blas_threads(3):
            assert set(self.limits().values()) == {3}
            with numpy_backend._blas_threads(1):
                assert set(self.limits().values()) == {1}
                with numpy_backend._blas_threads(2):
                    assert set(self.limits().values()) == {1}
            assert set(self.limits().values()) == {3}
        assert self.limits() == before

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_child_begins_anew(self):
        with numpy_backend._blas_threads(1):
            child = os.fork()
            if child == 0:
                with numpy_backend._blas_threads(2):
                    os._exit(set(self.limits().values()) != {2})
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestContract:
    def test_same_names_and_signatures(self, backend):
        specification = backends.get("numpy")
        module = backends.get(backend)
        for name, method in vars(specification.Engine).items():
            if name.startswith("_") or not callable(method):
                continue
            ours = list(inspect.signature(getattr(module.Engine, name)).parameters)
            assert ours == list(inspect.signature(method).parameters), name

    def test_an_unknown_name_lists_the_choices(self):
        with pytest.raises(
            ValueError,
            match="must be one of 'auto', 'cython', 'numba', 'numpy', 'cuda', got 'abacus'",
        ):
            backends.get("abacus")

    def test_a_missing_backend_is_refused_with_its_reason(self, monkeypatch):
        there = backends.get("numpy")
        missing = {"cython": "no compiler", "numba": "numba is not installed"}
        monkeypatch.setattr(
            backends, "_load", lambda n: (None, missing[n]) if n in missing else (there, "")
        )
        assert backends.resolve("auto") == "numpy"
        assert backends.unavailable() == missing
        with pytest.raises(
            backends.BackendUnavailableError,
            match=r"backend='cython' is not available: no compiler\. Available: numpy",
        ):
            backends.get("cython")
        del missing["numba"]
        assert backends.resolve("auto") == "numba"

    @pytest.mark.slow
    def test_an_unknown_instruction_set_is_refused(self):
        """By every fit that would use it; other backends do not need it."""
        if "cython" not in backends.available():
            pytest.skip("the compiled engine was not built")
        code = """
from fastmlp import MLPClassifier, backends
X, y = [[0.0], [1.0]] * 10, [0, 1] * 10
MLPClassifier((2,), max_iter=1, tol=100.0, n_iter_no_change=1, backend="numpy").fit(X, y)
print(backends.unavailable()["cython"])
MLPClassifier((2,), max_iter=1).fit(X, y)
"""
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "FASTMLP_ISA": "sse9"},
            capture_output=True,
            text=True,
        )
        reason = "FASTMLP_ISA='sse9' is not an instruction set"
        assert run.stdout.startswith(reason)
        assert run.returncode == 1
        assert f"BackendUnavailableError: {reason} that this build" in run.stderr

    @pytest.mark.slow
    def test_an_empty_instruction_set_is_none(self):
        """Scripts unset variables like this."""
        run = subprocess.run(
            [sys.executable, "-c", "from fastmlp import backends; print(backends.resolve())"],
            env={**os.environ, "FASTMLP_ISA": ""},
            capture_output=True,
            text=True,
        )
        assert run.stdout.strip() == backends.resolve()

    @pytest.mark.parametrize("missing", [("cython",), ("cython", "numba")])
    def test_auto_does_not_replace_a_chosen_instruction_set(self, monkeypatch, missing):
        there = backends.get("numpy")
        reason = "FASTMLP_ISA='sse9' is not an instruction set; unset it"
        monkeypatch.setattr(
            backends, "_load", lambda n: (None, reason) if n in missing else (there, "")
        )
        with pytest.raises(backends.BackendUnavailableError, match=f"^{reason}\\.$"):
            backends.resolve("auto")
        assert backends.resolve("numpy") == "numpy"


class TestDecisions:
    """Engines say what they decided: it changes no number, so that no other test sees it."""

    @staticmethod
    def trained(engine_class, source="float", units=(37, 200, 40, 4), activation="tanh", **options):
        case = (803, units, activation, "softmax", 401, True)
        network, parameters, inputs, Y, weights, batch_size = problem(
            case, "float64", source=source
        )
        engine = engine_class(network, parameters, inputs, Y, weights, **options)
        assert engine.threads_used == 0
        ours, _ = optimizers("adam", parameters.flat.size, "float64")
        engine.train_epoch(np.arange(len(Y)), batch_size, ours)
        return engine

    @pytest.mark.parametrize("source", [*SOURCES, *ZEROS])
    def test_about_inputs(self, engine_class, source):
        engine = self.trained(engine_class, source, (37, 5, 4), many_passes=True)
        looks_at_zeros = isinstance(engine_class, partial)  # neither NumPy nor CUDA
        assert engine.skips_zeros == (looks_at_zeros and "zero" in source)
        has_bytes = "coded" in source or source == "zeros-scaled"
        assert engine.recoded == (bool(engine.isa) and has_bytes)
        assert not self.trained(engine_class, source, (37, 5, 4)).recoded  # one pass is too few

    def test_about_threads(self, engine_class):
        if not isinstance(engine_class, partial):
            assert self.trained(engine_class, n_threads=2).threads_used == 0  # not its choice
            return
        for n_threads in (1, 2, 3):
            engine = self.trained(engine_class, n_threads=n_threads)
            assert engine.threads_used == (1 if os.environ.get("NUMBA_DISABLE_JIT") else n_threads)
        assert self.trained(engine_class, units=(2, 1, 4), n_threads=3).threads_used == 1

    def test_about_instruction_sets(self, engine_class, request):
        engine = self.trained(engine_class, units=(37, 5, 4))
        assert engine.isa == request.node.callspec.id.partition("cython-")[2]

    @pytest.mark.parametrize("activation", ["tanh", "relu"])
    @pytest.mark.parametrize(("source", "skips"), [("float", 0), ("zeros", 1), ("sparse", 1)])
    def test_about_panels(self, engine_class, source, skips, activation):
        """One walk over zeros, of the inputs or those that ReLU makes, serves many vectors; a dense
        tile has two or four."""
        engine = self.trained(engine_class, source, (37, 130, 50, 4), activation)
        if not engine.isa:
            pytest.skip("only the compiled engine has several instruction sets")
        lanes, tile, walk = {
            "x86-64-v4": (8, 4, 4), "x86-64-v3": (4, 2, 14), "x86-64-v2": (2, 2, 14),
            "baseline": (2, 2, 8), "neon": (2, 4, 14),
        }[engine.isa]  # fmt: skip
        relu = activation == "relu"
        for units, panel, walks in zip((130, 50, 4), engine.panels, (skips, relu, 0), strict=True):
            vectors = -(-units // lanes)
            most = walk if walks else tile
            assert -(-vectors // (panel // lanes)) == -(-vectors // most)  # as few as can be
            assert panel <= most * lanes

    def test_zeros_of_relu_are_skipped(self, engine_class):
        """0 times an infinite weight is NaN. Unit 7 of the second layer is always zero, and so are
        its deltas: what the first layer gets tells whether both passes leave it out."""
        network = Network((6, 80, 80, 3), "relu", "softmax", alpha=0)
        rng = np.random.RandomState(0)
        parameters = Parameters.initial(network, rng, np.dtype("float64"))
        parameters.coefs[1][:, 7] = -np.inf
        X, Y = rng.standard_normal((40, 6)), np.eye(3)[rng.randint(3, size=40)]
        engine = engine_class(network, parameters, Inputs(X, X.dtype), Y)
        gradient = Parameters(network, np.empty_like(parameters.flat))
        with np.errstate(invalid="ignore"):
            loss = engine.loss_and_gradient(parameters.flat, gradient.flat)
        skips = engine.isa not in ("", "x86-64-v4")
        assert np.isfinite(loss) == skips
        assert np.isfinite(gradient.coefs[0]).all() == skips

    @pytest.mark.skipif("FASTMLP_ISA" in os.environ, reason="FASTMLP_ISA chooses another")
    def test_the_best_instruction_set_is_chosen(self):
        if "cython" not in backends.available():
            pytest.skip(backends.unavailable()["cython"])
        module = backends.get("cython")
        order = ["x86-64-v4", "x86-64-v3", "x86-64-v2", "baseline"]
        isas = module.supported_isas()
        assert [isa for isa in order if isa in isas] == [isa for isa in isas if isa in order]
        assert self.trained(module.Engine).isa == module.ISA == isas[0]

    @pytest.mark.parametrize("n", [1, 4, 5])
    def test_few_rows_read_no_weights_of_zeros(self, n):
        """0 times an infinite weight is NaN, so the outputs tell whether it was multiplied."""
        if "cython" not in backends.available():
            pytest.skip(backends.unavailable()["cython"])
        network = Network((9, 3), "relu", "identity")
        parameters = Parameters(network, np.ones(network.n_parameters))
        parameters.coefs[0][4] = np.inf
        X, outputs = np.ones((n, 9)), np.empty((n, 3))
        X[:, 4] = 0
        predicting("cython")(network, parameters, Inputs(X, np.dtype("float64")), outputs)
        assert (np.isfinite(outputs) if n <= 4 else np.isnan(outputs)).all()


def test_numpy_predicts_in_chunks():
    """100 000 rows of bytes would be 80 MB of numbers."""
    network = Network((100, 3), "relu", "identity")
    coefs, intercepts = [np.zeros((100, 3))], [np.zeros(3)]
    inputs = Inputs(np.zeros((100_000, 100), np.uint8), np.dtype("float64"))
    out = np.empty((100_000, 3))
    tracemalloc.start()
    try:
        numpy_backend.predict(network, coefs, intercepts, inputs, None, out)
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
def test_a_batch_without_weight_teaches_nothing(engine_class, optimizer):
    network, parameters, inputs, Y, _, _ = problem(CASES[4], "float64")
    weights = np.ones(len(Y))
    weights[6:12] = [1, -1, 2, -2, 0, 0]
    order = np.arange(len(Y))
    results = []
    for samples in (order, np.delete(order, range(6, 12))):
        twin = Parameters(network, parameters.flat.copy())
        ours, _ = optimizers(optimizer, twin.flat.size, "float64")
        engine = engine_class(network, twin, inputs, Y, weights)
        loss = engine.train_epoch(samples, 6, ours)
        engine.sync()
        results.append((loss, twin.flat, getattr(ours, "t", 0)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-14)
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]
