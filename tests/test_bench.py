"""`fastmlp.bench`: the workers' protocol, the arithmetic, and what it refuses to call equal."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from fastmlp import backends, bench
from fastmlp.bench import Case, Contender, chart, worker

TINY = Case(
    name="tiny",
    about="64-8-10, Adam",
    group="tabular",
    data="digits",
    parameters={"hidden_layer_sizes": [8], "batch_size": 599, "alpha": 0.0, "max_iter": 2},
    ours=Contender("fastmlp", "float64"),
    peers=(Contender("sklearn", "float64"),),
    floor="float64",
)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Small products in several threads crawl while other processes want the cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def job(contender=TINY.ours, case=TINY, folder=""):
    return bench.job_of(case, contender, str(folder), quick=True)


# -------------------------------------------------------------------------------------- arithmetic


def test_a_ratio_is_of_one_round():
    found = bench.summary(bench.ratios([1.0, 2.0, 4.0], [6.0, 6.0, 8.0]))
    assert found == {"median": 3.0, "lowest": 2.0, "highest": 6.0, "values": [6.0, 3.0, 2.0]}


@pytest.mark.parametrize(
    ("ours", "theirs", "difference", "equal"),
    [
        ([0.5, 0.2], [0.5, 0.2], 0, True),
        ([0.5, 0.202], [0.5, 0.2], 0.01, True),
        ([0.5, 0.3], [0.5, 0.2], 0.5, False),
        ([0.5], [0.5, 0.2], None, False),
        ([np.nan], [0.5], None, False),
        ([0.5], [np.inf], None, False),
    ],
)
def test_losses_are_compared(ours, theirs, difference, equal):
    found = bench.compare(ours, theirs, 0.02)
    assert found["difference"] == pytest.approx(difference)
    assert found["equal"] is equal


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (1.234, "s", "1.23 s"),
        (0.0456, "s per epoch", "45.6 ms"),
        (1.1e-5, "s", "11 us"),
        (1234.5, "MB", "1234 MB"),
    ],
)
def test_values_in_words(value, unit, words):
    assert bench.in_words(value, unit) == words


# ------------------------------------------------------------------------------------------- cases


def test_the_table_of_cases():
    names = [case.name for case in bench.CASES]
    assert len(set(names)) == len(names)
    for suite in set(names) & set(bench.SUITES):  # no other case hides behind its name
        assert len(bench.select([suite])) == 1
    assert {case.group for case in bench.CASES} | {"all"} == set(bench.SUITES)
    for case in bench.CASES:
        assert case.task in bench.UNITS and case.data in bench.SIZES
        assert case.ours.library == "fastmlp" and case.peers
        for peer in case.peers:
            assert peer.library == "fastmlp" or peer.label in chart._COLOURS
        # JAX scans over batches of one size, in both sizes of the data.
        if any(peer.library == "jax" for peer in case.peers):
            assert bench.SIZES[case.data] // 10 % case.parameters["batch_size"] == 0


def test_suites_and_cases_can_be_selected():
    assert bench.select(["all"]) == list(bench.CASES)
    assert {case.group for case in bench.select(["sparse", "tabular"])} == {"sparse", "tabular"}
    with pytest.raises(ValueError, match="must be one of mnist, .* got 'fast'"):
        bench.select(["sparse", "fast"])


def test_all_do_every_epoch():
    for contender in TINY.contenders:
        parameters = job(contender).parameters
        assert parameters["tol"] == 0 and parameters["n_iter_no_change"] == parameters["max_iter"]


@pytest.mark.parametrize("data", ["tabular", "regression", "text", "digits"])
def test_data(data):
    wanted = replace(job(), data=data, input="float32", n_samples=1797)
    (X, y), (X_again, y_again) = worker._load(wanted), worker._load(wanted)
    assert X.dtype == np.float32 and X.shape[0] == len(y) == 1797
    assert abs(X - X_again).sum() == 0 and np.array_equal(y, y_again)
    if data == "text":
        assert X.format == "csr" and 0.0019 < X.nnz / np.prod(X.shape) <= 0.002
    if data == "regression":
        assert y.dtype == np.float32
    else:
        counts = np.bincount(y)
        assert len(counts) == (10 if data == "digits" else 4) and counts.min() > 50


# ----------------------------------------------------------------------------------------- workers


@pytest.mark.slow
def test_protocol():
    lines = [json.dumps(asdict(job())), "{}", "{}"]
    run = subprocess.run(
        [sys.executable, "-m", "fastmlp.bench.worker"],
        input="\n".join(lines), capture_output=True, text=True, check=True,
    )  # fmt: skip
    ready, first, second = map(json.loads, run.stdout.splitlines())
    assert ready == {}
    assert first["value"] > 0 and len(first["losses"]) == 2
    assert first["losses"] == second["losses"]


@pytest.mark.slow
def test_contest_in_which_libraries_are_missing(tmp_path, monkeypatch):
    for library in ("torch", "jax"):
        (tmp_path / f"{library}.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    peers = tuple(Contender(library, "float32") for library in ("torch", "jax"))
    rounds = []
    # And one that trains differently.
    other = Contender("sklearn", "float64", {"learning_rate_init": 0.01})
    case = replace(TINY, peers=(*peers, *TINY.peers, other))
    entry = bench.measure(case, quick=True, on_round=lambda *done: rounds.append(done))
    assert rounds == [(1, 3), (2, 3), (3, 3)]
    torch, jax, peer, other = entry["peers"]
    assert not other["losses"]["equal"] and not bench.passed([entry])
    assert bench.document([entry], quick=True)["passed"] is False
    assert torch["missing"] == "PyTorch is not installed." and "ratio" not in torch
    assert jax["missing"] == "JAX is not installed."
    assert peer["losses"]["equal"] and bench.passed([{"peers": [torch, jax, peer]}])
    pairs = zip(peer["values"], entry["ours"]["values"], strict=True)
    assert peer["ratio"]["values"] == [b / a for b, a in pairs]
    assert len(entry["floor"]["ratio"]["values"]) == 3 and "losses" not in entry["floor"]


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_other_libraries_train_the_same(library):
    pytest.importorskip(library)
    case = replace(
        TINY,
        data="tabular",
        parameters=TINY.parameters | {"batch_size": 500},
        ours=Contender("fastmlp", "float32"),
        peers=(Contender(library, "float32", tolerance=1e-3),),
        floor="",
    )
    entry = bench.measure(case, quick=True)
    assert bench.passed([entry]), entry["peers"]


@pytest.mark.slow
def test_without_mnist_the_case_says_so(tmp_path, monkeypatch):
    file = tmp_path / "no-directory"
    file.touch()
    monkeypatch.setenv("FASTMLP_DATA", str(file))
    (case,) = bench.select(["r1-float32"])
    case = replace(case, peers=case.peers[:1], floor="")  # these would import more
    entry = bench.measure(case, quick=True)
    assert entry["missing"].startswith("MNIST is not available") and "ours" not in entry


@pytest.mark.slow
def test_a_worker_that_fails(capfd):
    ours = Contender("fastmlp", "float64", {"solver": "none"})
    broken = replace(TINY, ours=ours, peers=(), floor="")
    with pytest.raises(ChildProcessError, match="the worker of fastmlp float64 failed"):
        bench.measure(broken, quick=True)
    assert "solver" in capfd.readouterr().err


@pytest.mark.slow
def test_no_process_outlives_an_interruption():
    def interrupted(*_):
        raise KeyboardInterrupt

    contest = bench.Contest(replace(TINY, floor=""), quick=True)
    with pytest.raises(KeyboardInterrupt), contest:
        interrupted()
    assert all(worker._process.returncode is not None for worker in contest._workers)


@pytest.mark.slow
def test_evaluations():
    parameters = TINY.parameters | {"solver": "lbfgs", "max_iter": 4}
    case = replace(TINY, task="evaluation", parameters=parameters, floor="")
    entry = bench.measure(case, quick=True)
    assert bench.passed([entry]) and entry["unit"] == "s per evaluation"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_prediction():
    case = replace(TINY, task="predict", n_rows=3)
    ours, theirs, floor = (
        prepare(job(contender, case))()
        for contender, prepare in zip(
            case.contenders, (worker._predict, worker._predict, worker._products), strict=True
        )
    )
    assert min(ours[0], theirs[0], floor[0]) > 0
    assert bench.compare(list(ours[1]), list(theirs[1]), 1e-8)["equal"]


@pytest.mark.slow
@pytest.mark.parametrize("library", ["fastmlp", "sklearn"])
def test_startup(library):
    seconds, losses = worker._startup(job(Contender(library, "float64")))()
    assert seconds > 0 and len(losses) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_above_the_imports(tmp_path):
    contender = Contender("fastmlp", "uint8", {"input_scale": 1 / 16})
    megabytes, losses = worker._memory(job(contender, folder=tmp_path))()
    assert 0 < megabytes < 40 and len(losses) == 2


def test_a_busy_process_is_busy_and_ends():
    with worker._busy_process() as process:
        assert process.poll() is None
    assert process.returncode is not None


# -------------------------------------------------------------------------------- what is reported


def entry_of(label="scikit-learn float64", library="sklearn", ratio=4.0):
    values = bench.summary([1.0, 1.0, 2.0])
    peer = {"label": label, "library": library, **values, "ratio": bench.summary([ratio])}
    peer["losses"] = bench.compare([0.5], [0.5], 1e-8)
    return {
        "name": "tiny", "about": "64-8-10, Adam", "group": "tabular", "unit": "s per epoch",
        "ours": {"label": "fastmlp float64", **values}, "peers": [peer],
    }  # fmt: skip


def test_document():
    entry = entry_of()
    document = json.loads(json.dumps(bench.document([entry], quick=False), allow_nan=False))
    assert document["cases"] == [entry]
    assert document["passed"] is True and document["quick"] is False
    assert document["threads"] >= 1 and document["cpu"]
    assert document["backend"] == backends.resolve()
    assert {"Python", "fastmlp", "numpy", "scikit-learn"} <= set(document["versions"])
    assert len(document["date"]) == len("2026-01-01")


@pytest.mark.slow
def test_plot(tmp_path):
    torch = entry_of("PyTorch float32", "torch", 0.5)
    entries = [entry_of(), torch, entry_of(library="fastmlp"), {"name": "gone", "missing": "why"}]
    png, svg = bench.plot(bench.document(entries, quick=True), tmp_path, "chart")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    assert "4.0x" in text and "0.5x" in text and "PyTorch float32" in text
    assert text.count("64-8-10, Adam") >= 2
    again = bench.plot(bench.document(entries, quick=True), tmp_path, "again")[1].read_text()
    assert again == text


def test_plot_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="no other library took part"):
        bench.plot(bench.document([entry_of(library="fastmlp")], quick=True), tmp_path)


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setattr(chart, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'fastmlp\[plot\]'"):
        bench.check_plot()
