"""Fixtures that run a test over every backend and over every instruction set."""

import os
import signal
from functools import partial
from importlib import import_module

import pytest

from fastmlp import backends, datasets

# Where a shell has started this as a background job, SIGINT is ignored, and the processes that
# tests start and interrupt would inherit that. A handler, in contrast, is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)


def _engines():
    """Every engine to be tested: (id, constructor or reason why it is missing)."""
    yield "numpy", import_module("fastmlp.backends.numpy_backend").Engine
    if "cython" in backends.available():
        module = import_module("fastmlp.backends.cython_backend")
        for isa in module.supported_isas():
            yield f"cython-{isa}", partial(module.Engine, isa=isa)
    if "numba" in backends.available():
        yield "numba", partial(import_module("fastmlp.backends.numba_backend").Engine)
    # The simulator would take hours; tests/cuda_simulated.py is made for it.
    if "cuda" in backends.available() and not os.environ.get("NUMBA_ENABLE_CUDASIM"):
        yield "cuda", import_module("fastmlp.backends.cuda_backend").Engine


@pytest.fixture(
    params=[
        pytest.param(engine, id=name, marks=[pytest.mark.gpu] if name == "cuda" else [])
        for name, engine in _engines()
    ]
)
def engine_class(request):
    """Every backend's Engine; the compiled one once per instruction set."""
    return request.param


@pytest.fixture(params=backends.available())
def backend(request):
    """Every available backend's name."""
    return request.param


@pytest.fixture(scope="session")
def mnist():
    """The real MNIST: ``(X_train, y_train), (X_test, y_test)``; fetched once into the cache."""
    try:
        return datasets.load_mnist()
    except datasets.DatasetError as error:
        if os.environ.get("FASTMLP_REQUIRE_MNIST"):
            raise
        pytest.skip(f"MNIST cannot be had here: {error}")
