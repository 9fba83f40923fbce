"""How long augmentation takes for images of 28 x 28 bytes, in one thread, compared with SciPy.

Run with ``pytest benchmarks/bench_augment.py``. ``extra_info["us_per_image"]`` is the median.
"""

import numpy as np
import pytest
from scipy import ndimage

from fastmlp.augment import (
    ElasticDistortion,
    RandomAffine,
    RandomDeskew,
    RandomNoise,
    RandomThickness,
)

STEPS = {
    "affine": RandomAffine(),
    "elastic": ElasticDistortion(),
    "affine and elastic": RandomAffine() + ElasticDistortion(),
    "deskew": RandomDeskew(),
    "thickness": RandomThickness(),
    "noise": RandomNoise(),
}


@pytest.fixture
def X(benchmark):
    n = 2000 if benchmark.enabled else 20
    return np.random.RandomState(0).randint(0, 256, (n, 28, 28)).astype(np.uint8)


def run(benchmark, X, call):
    benchmark(call)
    if benchmark.enabled:
        benchmark.extra_info["us_per_image"] = benchmark.stats.stats.median / len(X) * 1e6


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.benchmark(group="augment: 28 x 28, one thread")
def test_one_thread(benchmark, X, name, dtype):
    X, step = X.astype(dtype), STEPS[name]
    out = np.empty_like(X)
    step(X, out=out)
    run(benchmark, X, lambda: step(X, out=out, n_threads=1))


@pytest.mark.benchmark(group="augment: 28 x 28, all threads")
def test_all_threads(benchmark, X):
    step = STEPS["affine and elastic"]
    out = np.empty_like(X)
    step(X, out=out)
    run(benchmark, X, lambda: step(X, out=out))


@pytest.mark.benchmark(group="augment: 28 x 28, one thread")
def test_elastic_scipy(benchmark, X):
    """The usual script: two filtered fields and an interpolation per image."""
    X = X[: len(X) // 10]
    rng, grid = np.random.RandomState(0), np.indices((28, 28))

    def distort(image):
        fields = [34 * ndimage.gaussian_filter(rng.uniform(-1, 1, (28, 28)), 5) for _ in range(2)]
        return ndimage.map_coordinates(image, grid + fields, order=1)

    run(benchmark, X, lambda: [distort(image) for image in X])
