"""What only the Numba backend has: compiling, its cache on disk, its team of Python threads."""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from fastmlp import backends
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network, Parameters
from fastmlp.training import SGD, Adam

if "numba" not in backends.available():
    pytest.skip(backends.unavailable()["numba"], allow_module_level=True)

from fastmlp.backends.numba_backend import Engine, kernels

pytestmark = pytest.mark.slow

FIT = """
import numpy as np
from fastmlp import MLPClassifier
X = np.random.RandomState(0).randn(60, 5).astype("float32")
model = MLPClassifier((4,), backend="numba", max_iter=2, verbose=True, random_state=0)
print("loss", model.fit(X, X[:, 0] > 0).loss_)
"""

# Few rows: of those kernels that users reach alone, the one that compiles fastest.
PREDICT = """
import numpy as np
from fastmlp import MLPClassifier
X = np.random.RandomState(0).randn(10, 5).astype("float32")
model = MLPClassifier((4,), backend="numpy", max_iter=2).fit(X, X[:, 0] > 0)
print("score", model.set_params(backend="numba").score(X, X[:, 0] > 0))
"""


def engine_and_optimizer(n_samples=2000, n_hidden=40, n_threads=2, optimizer="sgd"):
    rng = np.random.RandomState(0)
    network = Network((30, n_hidden, 3), "relu", "softmax", alpha=1e-4)
    parameters = Parameters.initial(network, rng, "float32")
    X = rng.standard_normal((n_samples, 30)).astype("float32")
    Y = np.eye(3, dtype="float32")[rng.randint(3, size=n_samples)]
    state = np.zeros((2, parameters.flat.size), "float32")
    made = Adam(*state) if optimizer == "adam" else SGD(state[0])
    return Engine(network, parameters, Inputs(X, np.dtype("float32")), Y, None, n_threads), made


@pytest.mark.filterwarnings("ignore")
def test_the_next_process_finds_what_was_compiled(capsys):
    exec(FIT, {})  # compiled now, for this test or an earlier one
    here = capsys.readouterr().out.splitlines()
    other = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIT], capture_output=True, text=True, check=True
    )
    assert other.stdout.startswith("Iteration 1, loss = ")
    assert other.stdout.splitlines() == [line for line in here if not line.startswith("Compiling")]


@pytest.mark.filterwarnings("ignore")
def test_compiling_is_told_once(monkeypatch, capsys):
    compile_kernel = Engine._compile

    def compile_slowly(engine, *arguments):
        compile_kernel(engine, *arguments)
        engine.seconds_compiling = 12.5

    monkeypatch.setattr(Engine, "_compile", compile_slowly)
    exec(FIT, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Iteration 1, loss = ")
    assert lines[1] == "Compiling took 12.5 s, once."
    assert sum(line.startswith("Compiling") for line in lines) == 1


def test_what_is_on_disk_does_not_count_as_compiling(tmp_path):
    path = tmp_path / "double.py"
    path.write_text(
        "from fastmlp.backends.numba_backend.kernels import entry\n\n\n"
        "@entry\ndef double(x):\n    return 2 * x\n"
    )
    for is_on_disk in (False, True):
        kernel = runpy.run_path(str(path))["double"]
        engine, _ = engine_and_optimizer()
        engine._compile(kernel, 3)
        assert (engine.seconds_compiling == 0) == is_on_disk
        assert kernel(3) == 6


def test_read_only_and_mapped_data_need_no_other_kernels(tmp_path):
    X = np.random.RandomState(0).randint(0, 2, (40, 6)).astype(np.uint8)
    X.tofile(tmp_path / "X")
    network = Network((6, 3, 2), "relu", "softmax")
    dtype = np.dtype("float64")
    Y = np.eye(2)[X[:, 0]]
    read_only = X.copy(), Y.copy(), np.arange(40)
    for array in read_only:
        array.flags.writeable = False
    mapped = np.memmap(tmp_path / "X", np.uint8, "r", shape=X.shape)
    results = []
    for values, targets, order in ((X, Y, np.arange(40)), read_only, (mapped, *read_only[1:])):
        parameters = Parameters.initial(network, np.random.RandomState(1), dtype)
        engine = Engine(network, parameters, Inputs(values, dtype), targets)
        engine.train_epoch(order, 7, SGD(np.zeros_like(parameters.flat)))
        engine.sync()
        results.append((parameters.flat.tolist(), len(kernels.train.signatures)))
    assert results[0] == results[1] == results[2]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that send signals here")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_ctrl_c_ends_an_epoch_with_a_batch(n_threads):
    engine, adam = engine_and_optimizer(200_000, 200, n_threads, "adam")
    engine.train_epoch(np.arange(100), 50, adam)  # compiled now
    updates = adam.t
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for seconds in (0.05, 0.2, 0.8):  # a machine that is busy elsewhere takes its time
            signal.setitimer(signal.ITIMER_REAL, seconds)
            with pytest.raises(KeyboardInterrupt):
                engine.train_epoch(np.arange(200_000), 20, adam)
            if adam.t > updates:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert updates < adam.t < updates + 10_000
    engine.sync()
    assert np.isfinite(engine.parameters.flat).all()
    assert np.any(adam.m)


def test_fewer_threads_than_wanted(monkeypatch):
    """If the system refuses threads, those that there are do the work, with the same result."""
    results = []
    start = threading.Thread.start
    started = []

    def refusing(thread):
        if len(started) == 1:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    for refuses in (False, True):
        engine, sgd = engine_and_optimizer(n_threads=3, n_hidden=300)
        with monkeypatch.context() as patch:
            if refuses:
                patch.setattr(threading.Thread, "start", refusing)
            loss = engine.train_epoch(np.arange(2000), 500, sgd)
        engine.sync()
        results.append((loss, engine.parameters.flat.tolist()))
    assert started
    assert results[0] == results[1]


def test_an_error_in_a_thread_is_passed_on(monkeypatch):
    engine, sgd = engine_and_optimizer(n_threads=1)

    def broken(*_):
        raise ZeroDivisionError("in a thread")

    monkeypatch.setattr("fastmlp.backends.numba_backend.engine._UNINTERRUPTED_WORK", 0)
    engine.train_epoch(np.arange(2000), 500, sgd)
    broken.stats = kernels.train.stats
    monkeypatch.setattr(kernels, "train", broken)
    monkeypatch.setattr(Engine, "_compile", lambda *_: None)
    with pytest.raises(ZeroDivisionError, match="in a thread"):
        engine.train_epoch(np.arange(2000), 500, sgd)


def test_what_fails_before_it_begins_has_made_no_updates(monkeypatch):
    engine, adam = engine_and_optimizer(optimizer="adam")
    engine.train_epoch(np.arange(2000), 500, adam)
    assert adam.t == 4
    _, fresh = engine_and_optimizer(optimizer="adam")

    def failing(*_):
        raise MemoryError

    monkeypatch.setattr(Engine, "_compile", failing)
    with pytest.raises(MemoryError):
        engine.train_epoch(np.arange(2000), 500, fresh)
    assert fresh.t == 0


def test_without_a_place_for_the_cache_kernels_are_compiled_all_the_same(monkeypatch):
    from numba.core.caching import CacheImpl

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])

    def double(x):
        return 2 * x

    kernel = kernels.entry(double)
    assert kernel(3) == 6
    assert kernel.stats.cache_path is None


def test_a_full_disk_ends_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    limit = resource.RLIMIT_FSIZE
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PREDICT],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(limit, (10_000, resource.getrlimit(limit)[1])),
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "score" in run.stdout
    assert not list(tmp_path.rglob("*.nbc"))  # the disk was full indeed


@pytest.mark.skipif(os.name == "nt", reason="SIGINT")
def test_ctrl_c_between_any_two_steps_of_the_waiting_thread(monkeypatch, request):
    """The signal comes right after the call, before its result can be used."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose own threads it would interrupt, too
        test = f"{request.path}::{request.node.name}"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "--full", test]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert run.returncode == 0, run.stdout
        return
    for step in ("set", "get"):
        _interrupt_after(step, monkeypatch)


def _interrupt_after(step, monkeypatch):
    from fastmlp.backends.numba_backend import team

    made, sgd = engine_and_optimizer(n_hidden=300)
    made.train_epoch(np.arange(2000), 500, sgd)
    raised = []

    def interrupted(method):
        def call(*args, **kwargs):
            result = method(*args, **kwargs)
            # A thread that starts sets an event, too; from there, the signal may come any time.
            if len(raised) < 2 and threading.get_ident() == threading.main_thread().ident:
                raised.append(step)
                signal.raise_signal(signal.SIGINT)
            return result

        return call

    if step == "set":
        patched = type("Event", (threading.Event,), {"set": interrupted(threading.Event.set)})
        monkeypatch.setattr(team.threading, "Event", patched)
    else:
        queue = team.SimpleQueue
        patched = type("Queue", (queue,), {"get": interrupted(queue.get)})
        monkeypatch.setattr(team, "SimpleQueue", patched)
    n_threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        made.train_epoch(np.arange(2000), 500, sgd)
    assert raised
    monkeypatch.undo()
    for _ in range(100):
        if threading.active_count() == n_threads:
            break
        with suppress(KeyboardInterrupt):  # the second signal may come as late as this
            time.sleep(0.01)
    assert threading.active_count() == n_threads
    assert np.isfinite(made.train_epoch(np.arange(2000), 500, sgd))
