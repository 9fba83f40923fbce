"""Seconds per epoch of the CUDA backend, compared with the CPU, and the time of barriers.

    python benchmarks/gpu_timings.py OUT.json [--quick]

Data are drawn, 19 % of the bytes are not zero. Each row is the median of some epochs after two that
do not count; transfers of the order to the device and of the losses back are part of an epoch.
"""

import json
import platform
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numba import cuda

from fastmlp import backends
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.training import SGD, Adam

# (layer units, solver, batch size, rows); L-BFGS is timed by evaluation.
CASES = [
    ((784, 50, 10), "sgd", 200, 60_000),
    ((784, 100, 50, 25, 10), "adam", 200, 60_000),
    ((784, 300, 10), "adam", 500, 60_000),
    ((784, 1024, 1024, 10), "adam", 500, 60_000),
    ((30, 100, 4), "adam", 200, 20_000),
    ((784, 397, 10), "lbfgs", 60_000, 60_000),
]


def seconds_per_epoch(backend, case, n_epochs):
    """Return the median epoch, the first one, and the last loss."""
    units, solver, batch_size, n_samples = case
    rng = np.random.RandomState(0)
    network = Network(units, "relu", "softmax", alpha=1e-4)
    parameters = Parameters.initial(network, rng, "float32")
    X = rng.randint(1, 256, (n_samples, units[0]), dtype=np.uint8)
    X *= rng.rand(*X.shape) < 0.19
    scale = np.full(units[0], 1 / 255, np.float32)
    inputs = Inputs(X, np.dtype("float32"), scale, np.zeros_like(scale))
    Y = np.eye(units[-1], dtype=np.float32)[rng.randint(units[-1], size=n_samples)]
    engine = backends.get(backend).Engine(network, parameters, inputs, Y, many_passes=True)
    state = [np.zeros_like(parameters.flat) for _ in range(2)]
    optimizer = SGD(state[0], 0.01) if solver == "sgd" else Adam(*state)
    order, gradient = np.arange(n_samples), np.empty_like(parameters.flat)
    seconds = []
    for _ in range(n_epochs + 2):
        rng.shuffle(order)
        started = time.perf_counter()
        if solver == "lbfgs":
            loss = engine.loss_and_gradient(parameters.flat, gradient)
        else:
            loss = engine.train_epoch(order, batch_size, optimizer) / n_samples
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[2:]), seconds[0], loss


def seconds_per_meeting():
    """Return the time of a barrier of all blocks of a launch, one on each multiprocessor."""

    @cuda.jit
    def meet(n):
        grid = cuda.cg.this_grid()
        for _ in range(n):
            grid.sync()

    n_blocks = max(128, cuda.get_current_device().MULTIPROCESSOR_COUNT)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        meet[n_blocks, 512](10_000)
        cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times) / 10_000


def package(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main(path, is_quick):
    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    document = {
        "device": name,
        "multiprocessors": device.MULTIPROCESSOR_COUNT,
        "host": platform.processor() or platform.machine(),
        "packages": {p: package(p) for p in ("fastmlp", "numba", "numba-cuda", "numpy")},
        "seconds_per_meeting": seconds_per_meeting(),
        "rows": [],
    }
    print(f"{name}, a barrier of all blocks: {document['seconds_per_meeting'] * 1e6:.2f} us")
    print(f"{'network':24} {'solver':6} {'batch':>6} {'GPU ms':>9} {'us/batch':>9} {'CPU ms':>9}")
    for units, solver, batch_size, n_samples in CASES:
        n_samples = min(n_samples, 2000) if is_quick else n_samples
        case = (units, solver, min(batch_size, n_samples), n_samples)
        gpu, first, loss = seconds_per_epoch("cuda", case, 2 if is_quick else 20)
        cpu, _, cpu_loss = seconds_per_epoch("auto", case, 1 if is_quick else 3)
        row = {
            "units": units,
            "solver": solver,
            "batch_size": case[2],
            "n_samples": n_samples,
            "gpu_seconds": gpu,
            "gpu_first_seconds": first,
            "gpu_loss": loss,
            "cpu_backend": backends.resolve("auto"),
            "cpu_seconds": cpu,
            "cpu_loss": cpu_loss,
        }
        document["rows"].append(row)
        n_batches = -(-n_samples // case[2])
        print(
            f"{'-'.join(map(str, units)):24} {solver:6} {case[2]:6} {gpu * 1e3:9.2f} "
            f"{gpu / n_batches * 1e6:9.1f} {cpu * 1e3:9.2f}"
        )
    with open(path, "w") as file:
        json.dump(document, file, indent=2)


if __name__ == "__main__":
    main(sys.argv[1], "--quick" in sys.argv[2:])
