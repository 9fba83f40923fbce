"""How near single kernels of the engine come to what this machine can do.

The engine's interface is an epoch, so each row is a network that consists of little else than the
kernel: ``extra_info`` tells what was reached, as a share of a peak that was measured in the same
run (NumPy's product of two matrices for GF/s, a large copy for GB/s).
"""

from time import perf_counter

import numpy as np
import pytest

from fastmlp import backends
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.training import SGD, Adam

DTYPES = ["float32", "float64"]


@pytest.fixture
def small(benchmark):
    """Whether benchmarks are disabled, and sizes need not mean anything."""
    return not benchmark.enabled


def best(call, rounds):
    """Return the seconds of the fastest of some calls."""
    seconds = []
    for _ in range(rounds):
        start = perf_counter()
        call()
        seconds.append(perf_counter() - start)
    return min(seconds)


@pytest.fixture
def peak_flops(small):
    """Operations per second of NumPy's product of matrices: a function of the dtype."""

    def measure(dtype):
        n = 64 if small else 2048
        a, b = np.ones((2, n, n), dtype)
        return 2 * n**3 / best(lambda: a @ b, 3 if small else 10)

    return measure


@pytest.fixture
def peak_bytes(small):
    """Bytes per second, read and written, of a copy that no cache holds."""
    source = np.ones(1000 if small else 1 << 27, np.uint8)
    target = np.empty_like(source)
    return 2 * source.nbytes / best(lambda: np.copyto(target, source), 3 if small else 10)


def engine(units, activation, dtype, X=None, scale=None):
    """Return an engine for a network with random weights, and samples X if there are any."""
    network = Network(units, activation, "softmax", alpha=1e-4)
    parameters = Parameters.initial(network, np.random.RandomState(0), dtype)
    inputs = targets = None
    if X is not None:
        inputs = Inputs(X, np.dtype(dtype), scale, None if scale is None else np.zeros_like(scale))
        targets = np.eye(units[-1], dtype=dtype)[np.arange(len(X)) % units[-1]]
    return backends.get().Engine(network, parameters, inputs, targets)


def reached(benchmark, amount, peak, unit):
    """Note what was done per second, in units of 1e9, and as a share of the peak."""
    if benchmark.enabled:
        rate = amount / benchmark.stats.stats.median
        benchmark.extra_info.update({unit: rate / 1e9, "peak": peak / 1e9, "share": rate / peak})


@pytest.mark.benchmark(group="kernels: dense product")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [50, 1024])
def test_dense_product(benchmark, small, peak_flops, dtype, width):
    """Forward through one wide layer."""
    n, features = (20, 30) if small else (4096, 1024)
    peak = peak_flops(dtype)
    X = np.random.default_rng(0).standard_normal((n, features)).astype(dtype)
    product = engine((features, width, 2), "identity", dtype)
    inputs, out = Inputs(X, X.dtype), np.empty((n, 2), dtype)
    benchmark(product.predict, inputs, out)
    reached(benchmark, 2 * n * width * (features + 2), peak, "GF/s")


@pytest.mark.benchmark(group="kernels: first layer")
@pytest.mark.parametrize("density", [1.0, 0.5, 0.19, 0.05])
@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_first_layer(benchmark, small, peak_flops, kind, density):
    """An epoch of 784-50-10; GF/s count the zeros too, so a share above 1 was won by skipping."""
    n, features, width = (200, 30, 50) if small else (20_000, 784, 50)
    peak = peak_flops("float32")
    rng = np.random.default_rng(0)
    X = rng.integers(1, 256, (n, features), dtype=np.uint8)
    X[rng.random(X.shape) >= density] = 0
    scale = np.full(features, 1 / 255, np.float32) if kind == "uint8" else None
    X = X if kind == "uint8" else (X / 255).astype(np.float32)
    trained = engine((features, width, 10), "relu", "float32", X, scale)
    optimizer = SGD(np.zeros_like(trained.parameters.flat))
    benchmark(trained.train_epoch, np.arange(n), 200, optimizer)
    reached(benchmark, 2 * n * width * (2 * features + 3 * 10), peak, "GF/s")


@pytest.mark.benchmark(group="kernels: update")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_update(benchmark, small, peak_bytes, solver, dtype):
    """An epoch of one batch of one sample: the parameters and the state pass by once."""
    units = (8, 8, 2) if small else (2048, 4096, 2)
    X = np.ones((1, units[0]), dtype)
    trained = engine(units, "relu", dtype, X)
    flat = trained.parameters.flat
    n_arrays = {"sgd": 2, "adam": 3}[solver]
    state = [np.zeros_like(flat) for _ in range(n_arrays - 1)]
    optimizer = (SGD if solver == "sgd" else Adam)(*state)
    benchmark(trained.train_epoch, np.zeros(1, int), 1, optimizer)
    reached(benchmark, 2 * n_arrays * flat.nbytes, peak_bytes, "GB/s")


@pytest.mark.benchmark(group="kernels: activation")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "relu", "logistic", "tanh"])
def test_activation(benchmark, small, activation, dtype):
    """A layer with next to no product before it; exp and tanh cost what exceeds identity."""
    n, width = (20, 30) if small else (4096, 1024)
    X = np.random.default_rng(0).standard_normal((n, 2)).astype(dtype)
    layer = engine((2, width, 2), activation, dtype)
    benchmark(layer.predict, Inputs(X, X.dtype), np.empty((n, 2), dtype))
    if benchmark.enabled:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["ns per element"] = 1e9 * seconds / (n * width)
