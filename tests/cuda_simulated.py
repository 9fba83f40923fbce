"""The CUDA backend in numba's simulator: `NUMBA_ENABLE_CUDASIM=1 pytest tests/cuda_simulated.py`.

The simulator takes a millisecond for each thread and step, so nets are tiny, and so are blocks and
tiles there (16 threads, 4 x 4): edges occur all the same.
"""

import threading
from functools import partial

import numpy as np
import oracle
import pytest
from numba import cuda
from numba.cuda.simulator.kernel import BlockThread
from test_backends import (
    as_seen,
    check_gradient,
    check_other_samples,
    check_training,
    layers,
    optimizers,
    problem,
    tolerance,
)

from fastmlp.backends import cuda_backend
from fastmlp.backends.cuda_backend import Engine, device, kernels, plan
from fastmlp.core.network import Parameters
from fastmlp.core.random_bits import Dropout, philox

assert device.SIMULATED, "only with NUMBA_ENABLE_CUDASIM=1"


def is_alive(thread):
    """Wait a little for a thread that runs; the simulator would ask on and so keep it from running.

    That took two thirds of the time of these tests.
    """
    if not thread.syncthreads_blocked:
        thread.join(0.0005)
    return threading.Thread.is_alive(thread)


BlockThread.is_alive = is_alive

# How batches pass: all stages in one launch or a launch each, on so many blocks; two stages or a
# stage per layer; whole or, if 1, two rows at a time.
PATHS = {
    "cooperative": ({"cooperative": True}, True, False),
    "cooperative-layers": ({"cooperative": True}, False, False),
    "staged": ({"cooperative": False, "n_blocks": 3}, True, False),
    "staged-one-block": ({"cooperative": False, "n_blocks": 1}, True, False),
    "staged-layers": ({"cooperative": False, "n_blocks": 3}, False, False),
    "pieces": ({"cooperative": True}, True, True),
    "pieces-layers": ({"cooperative": False, "n_blocks": 2}, False, True),
}

# (n_samples, layer units, hidden, output, batch size, weighted), dtype, optimiser, source, path,
# rates of dropout; logistic outputs have the squared error if there are such
TRAINING = [
    ((1, (1, 1), "relu", "identity", 1, False), "float64", "sgd", "float", "cooperative", ()),
    ((5, (3, 4, 2), "relu", "softmax", 2, True), "float64", "adam", "bytes", "cooperative", (0.4,)),
    ((3, (17, 3, 2), "tanh", "logistic", 2, False), "float32", "nesterov", "float", "cooperative",
     ()),
    ((5, (3, 5, 2), "relu", "softmax", 5, True), "float32", "adam", "scaled", "cooperative-layers",
     ()),
    ((3, (2, 17, 2), "logistic", "logistic", 3, False), "float64", "sgd", "sparse", "cooperative",
     (0.5,)),
    ((3, (4, 3, 2, 1), "identity", "exp", 2, True), "float64", "nesterov", "sparse-scaled",
     "staged", (0.0, 0.3)),
    ((4, (5, 1, 1), "logistic", "logistic", 4, False), "float32", "adam", "sparse64",
     "staged-one-block", ()),
    ((5, (3, 5, 2), "tanh", "identity", 5, True), "float32", "sgd", "bytes", "staged-layers", ()),
    ((5, (3, 4, 2), "relu", "softmax", 5, True), "float64", "adam", "float", "pieces", ()),
    ((5, (3, 4, 2), "tanh", "logistic", 4, True), "float64", "nesterov", "sparse", "pieces-layers",
     (0.5,)),
    # More features than all other units: a group's second row would end behind the memory.
    ((5, (3, 4, 2), "tanh", "softmax", 3, True), "float64", "clipped", "float", "pieces", ()),
    ((5, (3, 4, 2), "tanh", "softmax", 3, True), "float32", "clipped", "float", "staged-layers",
     ()),
    ((5, (3, 4, 2), "relu", "softmax", 2, True), "float64", "adamw", "float", "cooperative", ()),
    ((5, (3, 4, 3, 2), "gelu", "softmax", 2, True), "float64", "adam", "float", "cooperative",
     (0.4, 0.0)),
    ((4, (3, 5, 2), "gelu", "identity", 3, False), "float64", "sgd", "float", "staged-layers", ()),
    ((2, (12, 1), "relu", "identity", 1, False), "float32", "sgd", "float", "cooperative-layers",
     ()),
    ((3, (12, 1), "relu", "identity", 3, False), "float32", "sgd", "sparse", "staged-layers", ()),
]  # fmt: skip

# (case, dtype, source, path, rates); the gradient and predictions
EVALUATION = [
    ((3, (4, 3, 2), "relu", "softmax", 1, True), "float32", "bytes", "cooperative", ()),
    ((5, (3, 5, 2), "tanh", "logistic", 1, False), "float64", "sparse-scaled", "pieces", (0.5,)),
    ((5, (3, 2, 4, 1), "logistic", "identity", 1, True), "float64", "scaled", "staged-layers",
     (0.2, 0.6)),
]  # fmt: skip


@pytest.fixture
def path(monkeypatch):
    """Return a function that chooses a path and returns the engine's arguments for it."""

    def choose(name):
        arguments, is_fused, is_divided = PATHS[name]
        monkeypatch.setattr(plan, "FUSED_ROWS", 1 << 11 if is_fused else 0)
        monkeypatch.setattr(plan, "ROW_BYTES", 0 if is_divided else 1 << 28)
        return arguments

    return choose


def dropout_and_loss(case, rates, **place):
    """Return what a row of the tables says with its rates of dropout."""
    if not rates:
        return {}
    is_logistic = case[3] == "logistic"
    return {
        "dropout": Dropout(rates, 2**35 + 11, **place),
        "loss": "squared_error" if is_logistic else "",
    }


@pytest.mark.parametrize(("case", "dtype", "optimizer", "source", "name", "rates"), TRAINING)
def test_train_epoch(path, case, dtype, optimizer, source, name, rates):
    n_samples, *_, batch_size, _ = case
    check_training(
        partial(Engine, **path(name)), case, dtype, optimizer.replace("clipped", "adam"), source,
        n_epochs=2 if batch_size == n_samples else 1, **dropout_and_loss(case, rates),
        max_norm=0.05 if optimizer == "clipped" else 0.0,
    )  # fmt: skip


def test_blocks_of_a_device(monkeypatch):
    """The 512 threads that a block has outside the simulator, once."""
    monkeypatch.setattr(device, "shape_for", lambda dtype: plan.Shape(16, 32, 4, 128))
    case = (2, (17, 5, 3), "relu", "softmax", 2, True)
    check_training(Engine, case, "float32", "adam", "bytes", n_epochs=1)


@pytest.mark.parametrize(("case", "dtype", "source", "name", "rates"), EVALUATION)
def test_gradient_and_predictions(path, case, dtype, source, name, rates):
    options = dropout_and_loss(case, rates, epoch=1, start=2**32 - 3)
    check_gradient(partial(Engine, **path(name)), case, dtype, source, **options)


def test_other_samples_of_the_same_kind(path):
    case = (4, (3, 4, 2), "relu", "softmax", 2, True)
    check_other_samples(partial(Engine, **path("cooperative")), case, "sparse", 2)


def test_other_samples_take_the_place_of_the_first():
    network, parameters, inputs, Y, weights, _ = problem(
        (5, (3, 2), "relu", "softmax", 5, True), "float32", source="bytes"
    )
    engine = Engine(network, parameters, inputs, Y, weights)
    arrays = dict(engine._arrays)
    inputs.values[...] += np.uint8(1)
    engine.bind(inputs, Y, weights)
    assert all(engine._arrays[name] is array for name, array in arrays.items())
    np.testing.assert_array_equal(arrays["values"].copy_to_host(), inputs.values.ravel())


@pytest.mark.parametrize("suffix", ["", "-layers"])
def test_blocks_and_launches_change_no_bit(path, monkeypatch, suffix):
    results = []
    for name, seconds in [("cooperative", 0), ("cooperative", 100), ("staged", 100)]:
        monkeypatch.setattr("fastmlp.backends.cuda_backend.engine.LAUNCH_SECONDS", seconds)
        case = (3, (2, 5, 2), "tanh", "softmax", 2, True)
        network, parameters, inputs, Y, weights, batch_size = problem(case, "float32")
        ours, _ = optimizers("nesterov", parameters.flat.size, "float32")
        engine = Engine(network, parameters, inputs, Y, weights, **path(name + suffix))
        loss = engine.train_epoch(np.arange(3), batch_size, ours, Dropout((0.3,), 1))
        engine.sync()
        results.append((loss, parameters.flat.tobytes()))
    assert len(set(results)) == 1


def test_a_batch_without_weight_teaches_nothing():
    case = (6, (3, 2), "relu", "softmax", 2, False)
    network, parameters, inputs, Y, _, _ = problem(case, "float64")
    weights = np.array([1.0, -1, 1, 1, 0, 0])
    results = []
    for samples in (np.arange(6), np.array([2, 3])):
        twin = Parameters(network, parameters.flat.copy())
        ours, _ = optimizers("adam", twin.flat.size, "float64")
        engine = Engine(network, twin, inputs, Y, weights)
        loss = engine.train_epoch(samples, 2, ours)
        engine.sync()
        results.append((loss, twin.flat.tolist(), ours.t, ours.learning_rate))
    assert results[0] == results[1]


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("name", ["cooperative", "staged-layers"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_predict_tells_inputs_that_are_not_finite(path, bad, name):
    case = (5, (3, 2), "relu", "softmax", 1, False)
    network, parameters, inputs, Y, _, _ = problem(case, "float32")
    engine, outputs = Engine(network, parameters, **path(name)), np.empty((2, *Y.shape), "float32")
    assert engine.predict(inputs, outputs[0])
    inputs.values[3, 2] = bad
    assert not engine.predict(inputs, outputs[1])
    others = np.arange(5) != 3
    np.testing.assert_array_equal(outputs[1, others], outputs[0, others])


def test_nan_reaches_loss_and_weights():
    case = (2, (3, 2, 2), "relu", "softmax", 2, False)
    network, parameters, inputs, Y, _, _ = problem(case, "float64")
    parameters.flat[0] = np.nan
    engine = Engine(network, parameters, inputs, Y)
    ours, _ = optimizers("sgd", parameters.flat.size, "float64")
    assert np.isnan(engine.train_epoch(np.arange(2), 2, ours))
    engine.sync()
    assert np.isnan(parameters.flat[1:]).any()


@pytest.mark.parametrize("name", ["cooperative", "staged"])
def test_an_interrupt_leaves_whole_batches(path, monkeypatch, name):
    case = (6, (3, 2), "relu", "softmax", 2, False)
    results = []
    for is_interrupted in (True, False):
        network, parameters, inputs, Y, _, _ = problem(case, "float64")
        ours, _ = optimizers("adam", parameters.flat.size, "float64")
        engine = Engine(network, parameters, inputs, Y, **path(name))
        monkeypatch.setattr(
            "fastmlp.backends.cuda_backend.engine.LAUNCH_SECONDS", 0
        )  # one batch at a time
        if is_interrupted:
            launches = iter([None, KeyboardInterrupt])

            def synchronize(launches=launches):
                if next(launches):
                    raise KeyboardInterrupt

            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(cuda, "synchronize", synchronize)
                engine.train_epoch(np.arange(6), 2, ours)
        else:
            engine.train_epoch(np.arange(4), 2, ours)
        engine.sync()
        results.append((parameters.flat.tolist(), ours.m.tolist(), ours.t, ours.learning_rate))
    assert results[0] == results[1]


def test_elements_in_two_parts_are_added():
    case = (2, (3, 2), "relu", "identity", 2, False)
    network, parameters, inputs, Y, _, _ = problem(case, "float64", source="sparse")
    values = type(inputs.values)((np.ones(4), [1, 1, 0, 2], [0, 2, 4]), shape=(2, 3))
    twins = [values.copy(), values.copy()]
    twins[1].sum_duplicates()
    results = np.empty((2, *Y.shape))
    for matrix, outputs in zip(twins, results, strict=True):
        Engine(network, parameters).predict(type(inputs)(matrix, inputs.dtype), outputs)
    np.testing.assert_array_equal(results[0], results[1])
    assert twins[0].nnz == 4


def test_too_little_memory_is_told(monkeypatch):
    case = (1000, (1000, 2), "relu", "softmax", 1, False)
    network, parameters, inputs, Y, _, _ = problem(case, "float32")
    context, device_array = type(cuda.current_context()), cuda.device_array

    def allocate(size, dtype):
        if size == inputs.values.size:
            raise RuntimeError("[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY")
        return device_array(size, dtype)

    monkeypatch.setattr(cuda, "device_array", allocate)
    monkeypatch.setattr(context, "get_memory_info", lambda self: (1_000_000, 80_000_000_000))
    with pytest.raises(
        MemoryError, match=r"memory for the values array: 4\.0 MB are needed, 1\.0 MB are free"
    ):
        Engine(network, parameters, inputs, Y)


def test_random_bits_are_those_of_the_host():
    draw = kernels.philox

    @cuda.jit
    def fill(counters, key, out):
        i = cuda.threadIdx.x
        words = draw(counters[i, 0], counters[i, 1], counters[i, 2], counters[i, 3], key[0], key[1])
        for j in range(4):
            out[i, j] = words[j]

    counters = np.random.RandomState(0).randint(0, 2**32, (3, 4)).astype(np.uint64)
    key, out = np.array([7, 2**31 + 5], np.uint64), np.zeros((3, 4), np.uint32)
    device.configured(fill, 1, 3)(counters, key, out)
    np.testing.assert_array_equal(out, philox(counters, key))


@pytest.mark.parametrize("output", ["softmax", "logistic", "identity", "exp"])
@pytest.mark.parametrize("source", ["float", "scaled", "bytes", "sparse-scaled"])
def test_few_rows_are_predicted_on_the_host(source, output):
    case = (4, (3, 5, 2), "tanh", output, 1, False)
    network, parameters, inputs, Y, _, _ = problem(case, "float32", source=source)
    outputs = np.empty(Y.shape, "float32")
    given = network, parameters.coefs, parameters.intercepts, inputs, None, outputs
    assert cuda_backend.predict(*given)
    expected = oracle.predict(*layers(parameters), "tanh", output, as_seen(inputs))
    np.testing.assert_allclose(outputs, expected, **tolerance("float32"))


def test_auto_stands_for_another_backend():
    from fastmlp import backends

    assert "cuda" in backends.available()
    assert backends.resolve("auto") != "cuda"
    assert backends.get("cuda") is cuda_backend
