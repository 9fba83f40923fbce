"""What ``pytest`` runs, ``pytest --full`` and ``--exhaustive`` add, and the fixtures of all tests.

By default: the NumPy backend and the compiled engine with the best instruction set, nothing that
is marked slow and, of a test with many cases, float64 and eight that differ most. With ``--full``:
every test, on every backend and instruction set, and of one with many cases so many that each pair
of two parameters' values occurs. With ``--exhaustive``: all cases, as of tests that are named by
``::`` or, without ``--full``, by ``-k``, and with ``--lf``.
"""

import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from functools import cache, partial
from importlib import import_module
from itertools import combinations
from pathlib import Path

import pytest
import typer
from command_server import Server
from threadpoolctl import ThreadpoolController

from fastmlp import backends, datasets

# Where a shell has started this as a background job, SIGINT is ignored, and the processes that
# tests start and interrupt would inherit that. A handler, in contrast, is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Typer builds the command line from signatures at each call, which takes longer than most calls.
typer.main.get_command = cache(typer.main.get_command)

#: Of a test with more cases, so many are run by default.
_CASES = 8


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run every test, on every backend")
    parser.addoption("--exhaustive", action="store_true", help="likewise, and with all cases")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Use every core if all tests are to run; `-n` says otherwise."""
    is_worker = hasattr(config, "workerinput")
    runs_all = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not is_worker
    if runs_all and config.getoption("numprocesses", 0) is None:
        config.option.numprocesses, config.option.dist = "auto", "worksteal"


def pytest_report_header(config):
    if not config.option.full:  # which --exhaustive sets
        return "fastmlp: the quick tests; --full runs all of them"


def pytest_configure(config):
    config.option.full |= config.option.exhaustive
    starts_workers = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if config.option.full and starts_workers and not os.environ.get("NUMBA_DISABLE_JIT"):
        if "numba" in backends.available():
            _compile_numba()


def _compile_numba():
    """Compile Numba's kernels before workers start: each would do it, and take as long."""
    code = """
import sys
import numpy as np
from fastmlp import MLPClassifier
X = np.arange(8, dtype=sys.argv[1]).reshape(4, 2)
MLPClassifier((2,), max_iter=1, backend="numba").fit(X, [0, 1, 0, 1]).predict(X)
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    dtypes = [subprocess.Popen([*command, dtype]) for dtype in ("float32", "float64")]
    assert not any([process.wait() for process in dtypes])


def pytest_generate_tests(metafunc):
    """Run a test over engines and backends; see the fixtures below."""
    full = metafunc.config.option.full
    if "engine_class" in metafunc.fixturenames:
        engines = [
            pytest.param(engine, id=name, marks=[pytest.mark.gpu] if name == "cuda" else [])
            for name, engine in _engines(full)
            if isinstance(engine, partial) or not metafunc.definition.get_closest_marker("compiled")
        ]
        metafunc.parametrize("engine_class", engines, indirect=True)
    own = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "backend" in metafunc.fixturenames and not any("backend" in names for names in own):
        few = metafunc.definition.get_closest_marker("few_backends") is not None
        metafunc.parametrize("backend", backend_names(full, few), indirect=True)


@pytest.hookimpl(trylast=True)  # once -k and -m have left out theirs
def pytest_collection_modifyitems(config, items):
    full, keyword = config.option.full, config.option.keyword
    last_failed = config.getoption("lf", False) or config.getoption("failedfirst", False)
    by_keyword = keyword and "not " not in keyword and not full
    if config.option.exhaustive or last_failed or by_keyword:
        return
    skips_slow = not full and not config.option.markexpr
    left_out, cases = set(), defaultdict(list)
    for item in items:
        if _is_named(item, config.args):
            continue
        if skips_slow and item.get_closest_marker("slow"):
            left_out.add(item)
        elif hasattr(item, "callspec"):
            cases[item.parent.nodeid, item.originalname].append(item)
    for of_one_test in cases.values():
        sample = _sample(of_one_test) if full else _sample(_in_float64(of_one_test), _CASES)
        left_out |= set(of_one_test) - set(sample)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


def _is_named(item, arguments):
    """Return whether an argument such as ``tests/test_a.py::test_b`` names the test."""
    parts = [argument.partition("::") for argument in arguments]
    own = item.nodeid.partition("::")[2]
    return any(
        tail and Path(file).name == item.path.name and own.startswith(tail)
        for file, _, tail in parts
    )


def _in_float64(items):
    """Leave out the cases in float32 that there are in float64, too."""
    dtypes = [str(item.callspec.params.get("dtype")) for item in items]
    if "float64" not in dtypes:
        return items
    return [item for item, dtype in zip(items, dtypes, strict=True) if dtype != "float32"]


def _sample(items, limit=None):
    """Choose cases of a test one after the other, each with as much that is new as possible.

    First in values of its parameters, then in pairs of two parameters' values, until there are
    `limit`, or nothing new is left.
    """
    if len(items) <= _CASES:
        return items
    values = {
        item: [(name, id(value)) for name, value in item.callspec.params.items()]
        for item in random.Random(0).sample(items, len(items))  # else the first would be chosen
    }
    content = {item: {*values[item], *combinations(values[item], 2)} for item in items}
    missing, sample = set().union(*content.values()), []
    while len(sample) < limit if limit else missing:
        new = {item: content[item] & missing for item in content}
        best = max(new, key=lambda item: (len(new[item] & {*values[item]}), len(new[item])))
        sample.append(best)
        missing -= content.pop(best)
    return sample


def backend_names(full, few=False):
    """Return the backends that a test runs on.

    Parameters
    ----------
    full : bool
        Whether on every one that is available: else on NumPy's and the preferred one.
    few : bool
        Whether the backend hardly matters to the test: two if `full`, else the preferred one.
    """
    if full and not few:
        return backends.available()
    preferred = backends.resolve("auto")
    return [preferred, "numpy"] if (full or not few) and preferred != "numpy" else [preferred]


def _engines(full):
    """Yield the engines to be tested: (id, constructor)."""
    if os.environ.get("NUMBA_DISABLE_JIT"):  # the kernels as plain Python, and nothing else
        yield "numba", partial(import_module("fastmlp.backends.numba_backend").Engine)
        return
    names = backend_names(full)
    yield "numpy", import_module("fastmlp.backends.numpy_backend").Engine
    if "cython" in names:
        module = import_module("fastmlp.backends.cython_backend")
        isas = module.supported_isas()
        for isa in isas if full else [module.ISA]:
            yield f"cython-{isa}", partial(module.Engine, isa=isa)
    if "numba" in names:
        yield "numba", partial(import_module("fastmlp.backends.numba_backend").Engine)
    # The simulator would take hours; tests/cuda_simulated.py is made for it.
    if "cuda" in names and not os.environ.get("NUMBA_ENABLE_CUDASIM"):
        yield "cuda", import_module("fastmlp.backends.cuda_backend").Engine


@pytest.fixture(autouse=True, scope="session")
def _one_blas_thread():
    """Keep BLAS from starting threads for products this small, which only wait for each other."""
    for library in ThreadpoolController().select(user_api="blas").lib_controllers:
        library.set_num_threads(1)  # a context would keep other threads from setting limits


@pytest.fixture
def engine_class(request):
    """Every backend's Engine; the compiled one once per instruction set."""
    return request.param


@pytest.fixture
def backend(request):
    """Every available backend's name; see `backend_names`."""
    return request.param


@pytest.fixture(scope="module")
def on_terminal():
    """Run a command on a terminal; return every character that it sends there."""
    if os.name == "nt":
        pytest.skip("pseudo-terminals")
    with Server(on_terminal=True) as server:
        yield server


@pytest.fixture(scope="module")
def into_pipes():
    """Run a command in a process of its own; return what it writes to its two streams."""
    with Server(on_terminal=False) as server:
        yield server


@pytest.fixture(scope="session")
def mnist():
    """The real MNIST: ``(X_train, y_train), (X_test, y_test)``; fetched once into the cache."""
    try:
        return datasets.load_mnist()
    except datasets.DatasetError as error:
        if os.environ.get("FASTMLP_REQUIRE_MNIST"):
            raise
        pytest.skip(f"MNIST is not available: {error}")
