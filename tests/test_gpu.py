"""The CUDA backend on a device; the table of cases of tests/test_backends.py runs there, too."""

import os
import signal
import time

import numpy as np
import pytest
from test_backends import as_seen, optimizers, problem

from fastmlp import backends
from fastmlp.backends import numpy_backend
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.training import SGD, Adam

_REASON = (
    "the simulator has no device"
    if os.environ.get("NUMBA_ENABLE_CUDASIM")
    else backends.unavailable().get("cuda", "")
)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(_REASON), reason=_REASON)]

# Two stages, a stage per layer, and a stage per layer because a layer is wide.
SHAPES = [(784, 50, 10), (67, 100, 50, 4), (300, 1030, 520, 10)]


@pytest.fixture
def cuda_backend():
    return backends.get("cuda")


def images(n_samples, seed=0):
    """Draw bytes that are mostly zeros, as images are, with ten classes that can be learned."""
    rng = np.random.RandomState(seed)
    prototypes = rng.randint(1, 256, (10, 784)) * (rng.rand(10, 784) < 0.19)
    labels = rng.randint(10, size=n_samples)
    noise = rng.rand(n_samples, 784) < 0.8
    X = (prototypes[labels] * noise).astype(np.uint8)
    return X, np.eye(10, dtype=np.float32)[labels]


def trained(engine_class, dtype, units, optimizer, source, epochs=3, **arguments):
    """Train; return the losses, the parameters, the gradient there, and predictions."""
    case = (803, units, "tanh", "softmax", 201, True)
    network, parameters, inputs, Y, weights, batch_size = problem(case, dtype, source=source)
    ours, _ = optimizers(optimizer, parameters.flat.size, dtype)
    ours.learning_rate_init = ours.learning_rate = 0.002
    engine = engine_class(network, parameters, inputs, Y, weights, **arguments)
    rng = np.random.RandomState(0)
    losses = [
        engine.train_epoch(rng.permutation(len(Y)), batch_size, ours) / len(Y)
        for _ in range(epochs)
    ]
    engine.sync()
    gradient, outputs = np.empty_like(parameters.flat), np.empty(Y.shape, dtype)
    losses.append(engine.loss_and_gradient(parameters.flat, gradient))
    engine.predict(inputs, outputs)
    return losses, parameters.flat, gradient, outputs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("units", SHAPES, ids=str)
@pytest.mark.parametrize(("optimizer", "source"), [("nesterov", "bytes"), ("adam", "sparse")])
class TestAgainstTheSpecification:
    def test_numbers(self, cuda_backend, dtype, units, optimizer, source):
        results = [
            trained(engine_class, dtype, units, optimizer, source)
            for engine_class in (cuda_backend.Engine, numpy_backend.Engine)
        ]
        rtol, atol = (1e-9, 1e-10) if dtype == "float64" else (2e-3, 2e-4)
        for ours, expected in zip(*results, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=rtol, atol=atol)

    def test_bits(self, cuda_backend, dtype, units, optimizer, source):
        """The same from run to run, whatever the number of blocks, and launch by launch."""
        first, *others = (
            trained(cuda_backend.Engine, dtype, units, optimizer, source, **arguments)
            for arguments in (
                {},
                {},
                {"n_blocks": 1},
                {"n_blocks": 7},
                {"cooperative": False},
                {"cooperative": False, "n_blocks": 5},
            )
        )
        for other in others:
            for ours, expected in zip(other, first, strict=True):
                np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("is_fused", [True, False])
def test_batches_that_pass_in_pieces(cuda_backend, monkeypatch, is_fused):
    from fastmlp.backends.cuda_backend import plan

    expected = trained(cuda_backend.Engine, "float64", (784, 50, 10), "adam", "bytes")
    monkeypatch.setattr(plan, "ROW_BYTES", 40 * 8 * (784 + 2 * 844))
    monkeypatch.setattr(plan, "FUSED_ROWS", 2048 if is_fused else 0)
    ours = trained(cuda_backend.Engine, "float64", (784, 50, 10), "adam", "bytes")
    for values, others in zip(ours, expected, strict=True):
        np.testing.assert_allclose(values, others, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_it_learns_as_the_cpu_does(cuda_backend, name):
    X, Y = images(6000)
    scale = np.full(784, 1 / 255, np.float32)
    network = Network((784, 50, 10), "relu", "softmax", alpha=1e-4)
    curves = []
    for engine_class, dtype in (
        (cuda_backend.Engine, "float32"),
        (numpy_backend.Engine, "float64"),
    ):
        parameters = Parameters.initial(network, np.random.RandomState(1), dtype)
        inputs = Inputs(X, np.dtype(dtype), scale.astype(dtype), np.zeros(784, dtype))
        engine = engine_class(network, parameters, inputs, Y.astype(dtype))
        size = parameters.flat.size
        optimizer = (
            SGD(np.zeros(size, dtype), 0.05)
            if name == "sgd"
            else Adam(np.zeros(size, dtype), np.zeros(size, dtype))
        )
        rng = np.random.RandomState(2)
        curves.append(
            [engine.train_epoch(rng.permutation(6000), 200, optimizer) / 6000 for _ in range(5)]
        )
    np.testing.assert_allclose(*curves, rtol=1e-3)
    assert curves[0][-1] < curves[0][0] / 2


def test_a_large_prediction_passes_in_chunks(cuda_backend, monkeypatch):
    from fastmlp.backends.cuda_backend import plan

    monkeypatch.setattr(plan, "ROW_BYTES", 1 << 20)
    case = (5000, (40, 30, 3), "relu", "softmax", 1, False)
    network, parameters, inputs, Y, _, _ = problem(case, "float32", source="scaled")
    outputs, expected = np.empty((2, *Y.shape), np.float32)
    assert cuda_backend.Engine(network, parameters).predict(inputs, outputs)
    seen = Inputs(as_seen(inputs).astype(np.float32), np.dtype("float32"))
    numpy_backend.Engine(network, parameters).predict(seen, expected)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_too_little_memory_is_told(cuda_backend):
    from numba import cuda

    taken = []
    size = cuda.current_context().get_memory_info()[0]
    while size > 1 << 24:  # leave less than 16 MB
        try:
            taken.append(cuda.device_array(size, np.uint8))
        except Exception as error:
            assert "OUT_OF_MEMORY" in str(error)
            size //= 2
    network = Network((1000, 2), "relu", "softmax")
    parameters = Parameters.initial(network, np.random.RandomState(0), "float32")
    inputs = Inputs(np.zeros((50_000, 1000), np.float32), np.dtype("float32"))
    with pytest.raises(MemoryError, match=r"values array: 200\.0 MB are needed, .* MB are free"):
        cuda_backend.Engine(network, parameters, inputs, np.zeros((50_000, 2), np.float32))


def test_ctrl_c_is_noticed_within_a_second(cuda_backend):
    rng = np.random.RandomState(0)
    n = 2_000_000  # updates, so some ten seconds at least
    inputs = Inputs(rng.rand(n, 4).astype(np.float32), np.dtype("float32"))
    network = Network((4, 8, 1), "relu", "identity")
    parameters = Parameters.initial(network, rng, "float32")
    engine = cuda_backend.Engine(network, parameters, inputs, np.zeros((n, 1), np.float32))
    optimizer = SGD(np.zeros(parameters.flat.size, np.float32), 1e-4)
    engine.train_epoch(np.arange(1000), 1, optimizer)  # compile

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 2)
        started = time.perf_counter()
        with pytest.raises(KeyboardInterrupt):
            engine.train_epoch(np.arange(n), 1, optimizer)
        assert time.perf_counter() - started < 3.5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    engine.sync()
    assert np.isfinite(parameters.flat).all()


def test_compiling_is_timed_once(cuda_backend):
    seconds = []
    for _ in range(2):
        network, parameters, inputs, Y, _, _ = problem(
            (5, (3, 4, 2), "relu", "softmax", 5, False), "float64", source="bytes"
        )
        engine = cuda_backend.Engine(network, parameters, inputs, Y)
        assert engine.seconds_compiling == 0
        engine.loss_and_gradient(parameters.flat, np.empty_like(parameters.flat))
        seconds.append(engine.seconds_compiling)
    assert seconds[1] == 0
