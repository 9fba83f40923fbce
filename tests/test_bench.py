"""`fastmlp.bench`: the workers' protocol, the arithmetic, and what it refuses to call equal."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fastmlp import backends, bench
from fastmlp.bench import Case, Contender, chart, contest, worker

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
    assert bench.machine().items() <= document.items()
    assert document["backend"] == backends.resolve()
    assert {"Python", "fastmlp", "numpy", "scikit-learn"} <= set(document["versions"])
    assert len(document["date"]) == len("2026-01-01")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\n"
            "processor\t: 1\ncpu family\t: 6\nmodel\t\t: 1\nmodel name\t: another\n",
            {"cpu": "AMD EPYC", "cpu_family": 25, "cpu_model": 17},
        ),
        ("processor\t: 0\nCPU part\t: 0xd0c\n", {"cpu_family": None, "cpu_model": None}),
        (None, {"cpu_family": None, "cpu_model": None}),
    ],
)
def test_processor(tmp_path, text, expected):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    found = contest._processor(tmp_path / "cpuinfo")
    assert found == {"cpu": found["cpu"]} | expected and found["cpu"]


@pytest.mark.slow
def test_plot(tmp_path):
    torch = entry_of("PyTorch float32", "torch", 0.5)
    entries = [entry_of(), torch, entry_of(library="fastmlp"), {"name": "gone", "missing": "why"}]
    png, svg = bench.plot(bench.document(entries, quick=True), tmp_path, "chart")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    assert "4.0x" in text and "0.5x" in text and "PyTorch float32" in text
    assert text.count("64-8-10, Adam") >= 2
    machine = bench.machine()
    assert f"{machine['cpu']}, {machine['instruction_set'] or machine['backend']}, " in text
    again = bench.plot(bench.document(entries, quick=True), tmp_path, "again")[1].read_text()
    assert again == text


def test_plot_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="no other library took part"):
        bench.plot(bench.document([entry_of(library="fastmlp")], quick=True), tmp_path)


def test_plot_without_matplotlib(monkeypatch):
    monkeypatch.setattr(chart, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'fastmlp\[plot\]'"):
        bench.check_plot()


# ------------------------------------------------------------------ benchmarks/report.py, the pages

ROOT = Path(__file__).parents[1]
ZEN_4 = {"date": "2026-11-22", "cpu": "AMD EPYC (Zen 4)", "instruction_set": "x86-64-v4"}
ZEN_1 = {"date": "2026-11-27", "cpu": "AMD EPYC", "instruction_set": "x86-64-v3"}
ZEN_1 |= {"cpu_family": 23, "cpu_model": 1}


@pytest.fixture(scope="module")
def report():
    path = ROOT / "benchmarks/report.py"
    if not path.exists():
        pytest.skip("this is not a clone")
    spec = importlib.util.spec_from_file_location("benchmarks_report", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record_of(machine, seconds, ratio, **changes):
    """Return a record of two cases, one of them against another backend."""
    ours = {"label": "fastmlp", **bench.summary([seconds])}
    floor = {"label": "matrix products", "ratio": bench.summary([0.5])}
    entries = [
        entry_of(ratio=ratio) | {"name": "r1", "ours": ours, "floor": floor},
        entry_of("cython", "fastmlp", ratio / 10) | {"name": "numba-r1", "ours": ours},
    ]
    machine = {"quick": False, "passed": True, "threads": 2, "versions": {"numpy": "2.4"}} | machine
    return machine | {"cases": entries} | changes


def newest(report, folder, *records):
    for i, record in enumerate(records):
        (folder / f"{i}.json").write_text(json.dumps(record))
    return report.newest(folder)


class TestPages:
    def test_are_what_the_records_say(self, report):
        for page, text in report.pages(report.newest(report.RESULTS)).items():
            assert page.read_text(encoding="utf-8") == text, "run benchmarks/report.py"

    def test_no_ratio_is_written_by_hand(self, report):
        for page in (report.README, report.PAGE):
            text = page.read_text(encoding="utf-8")
            # A line that begins with a comment would end the paragraph, so that a space is lost.
            assert not re.search(r"^\s*<!-- (benchmark: |/ -->)", text, flags=re.MULTILINE)
            by_hand = report.FIGURE.sub("", report.TABLE.sub("", text))
            assert not re.findall(r"\d ?(?:times|x|×) (?:as|faster|slower|the)\b.*", by_hand)

    def test_the_time_of_realmlp_is_that_of_the_record(self, report):
        line = re.search(
            r"summed over the tables: recipe ([\d.]+), .*, realmlp ([\d.]+)",
            report.PAGE.read_text(),
        )
        share = f"{100 * float(line[1]) / float(line[2]):.0f} % of RealMLP's time"
        for page in (report.README, report.PAGE):
            text = " ".join(page.read_text(encoding="utf-8").split())
            assert re.findall(r"\d+ % of RealMLP's time", text) == [share]

    def test_a_column_per_processor(self, report, tmp_path):
        slow, fast = record_of(ZEN_1, 0.05, 5.0), record_of(ZEN_4, 0.02, 9.0)
        del fast["cases"][1]
        fast["cases"][0]["peers"].append(entry_of("JAX float32", "jax", 2.0)["peers"][0])
        records = newest(report, tmp_path, slow, fast)
        assert report.table(records) == [
            "|  |  | AMD EPYC (Zen 4), x86-64-v4 | AMD EPYC (Zen 1), x86-64-v3 |",
            "| --- | --- | --- | --- |",
            "| 64-8-10, Adam | ours | 20 ms (2.00) | 50 ms (2.00) |",
            "|  | scikit-learn float64 | 9.0 (9.0 to 9.0) | 5.0 (5.0 to 5.0) |",
            "|  | JAX float32 | 2.0 (2.0 to 2.0) |  |",
            "| 64-8-10, Adam | ours |  | 50 ms |",
            "|  | cython |  | 0.5 (0.5 to 0.5) |",
        ]
        assert report.short_table(records)[2:] == [
            "| 64-8-10, Adam | scikit-learn float64 | 9.0 (20 ms) | 5.0 (50 ms) |"
        ]
        assert report.short_table([fast])[2:] == [
            "| 64-8-10, Adam | scikit-learn float64 | 9.0 (20 ms) |"
        ]

    def test_sentences_quote_the_slowest(self, report, tmp_path):
        records = newest(report, tmp_path, record_of(ZEN_1, 0.05, 5.0), record_of(ZEN_4, 0.02, 8.0))
        table = "<!-- benchmark table -->\nold\n<!-- /benchmark table -->\n"
        page = f"{table}takes <!-- benchmark: numba / cython -->9<!-- / --> times as long"
        text = report.filled(page, records, ["new"])
        assert text.endswith(
            "takes <!-- benchmark: numba / cython -->2.0 to 2.0<!-- / --> times as long"
        )
        assert "\nnew\n" in text and "old" not in text
        assert "\n- AMD EPYC (Zen 1), x86-64-v3: 2026-11-27, 2 threads, numpy 2.4.\n" in text
        assert report.filled(text, records, ["new"]) == text
        with pytest.raises(SystemExit, match="the two markers"):
            report.filled(page + table, records, [])

    def test_the_newest_of_a_processor_counts(self, report, tmp_path):
        old, new = (record_of(ZEN_4 | {"date": f"2026-11-{day}"}, 0.02, 9.0) for day in (30, 29))
        assert newest(report, tmp_path, old, new) == [old]
        with pytest.raises(SystemExit, match="quick"):
            newest(report, tmp_path, old | {"quick": True})

    @pytest.mark.parametrize(
        ("machine", "name"),
        [
            (ZEN_1, "AMD EPYC (Zen 1), x86-64-v3"),
            (ZEN_1 | {"cpu_model": 99}, "AMD EPYC (family 23, model 99), x86-64-v3"),
            (ZEN_1 | {"cpu": "Intel 8488C"}, "Intel 8488C, x86-64-v3"),
        ],
    )
    def test_names_of_processors(self, report, machine, name):
        assert report.class_of(machine) == name
