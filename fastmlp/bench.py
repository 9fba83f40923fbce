"""The benchmark suite: fastmlp beside scikit-learn, PyTorch, JAX, and bare matrix products.

What is fair to compare is laid down in `CASES`. The contenders of a case get the same samples, the
same initial weights and the same order of samples, all do every epoch, and their losses must
agree: a faster run that trains differently fails. They take turns, so that every ratio is of
moments next to each other; kept are the median ratio and its spread.

Each contender is in a process of its own, because thread pools that share one disturb each other.
``python -m fastmlp.bench`` is such a worker. It reads one JSON object per line and answers each
with one:

    a Job, once              {} when it is ready, or {"missing": why it cannot take part}
    {}, for a measurement    {"value": seconds or megabytes, "losses": [what must agree]}
"""

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# ------------------------------------------------------------------------------------------- cases

TITLES = {"fastmlp": "fastmlp", "sklearn": "scikit-learn", "torch": "PyTorch", "jax": "JAX"}

#: What a measurement is, per task.
UNITS = {
    "fit": "s per epoch",
    "evaluation": "s per evaluation",
    "predict": "s per call",
    "startup": "s",
    "memory": "MB",
}

#: Samples of every data set; `quick` takes a tenth.
SIZES = {"mnist": 60_000, "standardized mnist": 60_000, "tabular": 20_000, "regression": 20_000}
SIZES |= {"text": 20_000, "digits": 1797, "nothing": 0}

_ROUNDS, _QUICK_ROUNDS = 5, 3
_QUICK_EPOCHS = 2

#: Seconds before every measurement, for the last contender to come to rest.
_PAUSE = 0.05


@dataclass(frozen=True)
class Contender:
    """A library, and how it is used.

    Attributes
    ----------
    library : {"fastmlp", "sklearn", "torch", "jax", "products"}
        The last does the matrix products of an epoch and nothing else.
    input : {"uint8", "float32", "float64"}
        As what it gets the data; of bytes it gets 0..255, otherwise 0..1.
    parameters : mapping
        Of the estimator, beside those of the case.
    tolerance : float
        How far its losses may be from ours, relatively.
    data : str, optional
        Another data set than the case's.
    busy : bool
        Another process wants a core meanwhile.
    title : str, optional
        What tables call it.
    """

    library: str
    input: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-8
    data: str = ""
    busy: bool = False
    title: str = ""

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.title or f"{TITLES[self.library]} {self.input}"


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes
    ----------
    name, about : str
        What it is called, and what it is, in a line.
    group : str
        What ``--suite`` calls it together with others.
    data : str
        One of `SIZES`.
    parameters : mapping
        Of every contender's estimator.
    ours : Contender
    peers : tuple of Contender
    floor : str
        The dtype of the matrix products beside it, if any.
    task : str
        What is measured: one of `UNITS`.
    n_rows : int
        How many rows are predicted.
    """

    name: str
    about: str
    group: str
    data: str
    parameters: Mapping[str, Any]
    ours: Contender
    peers: tuple[Contender, ...]
    floor: str = ""
    task: str = "fit"
    n_rows: int = 0

    @property
    def contenders(self) -> list[Contender]:
        """All of them: ours, the peers, the floor."""
        floor = [Contender("products", self.floor, title="matrix products")] if self.floor else []
        return [self.ours, *self.peers, *floor]


def _sklearn(dtype: str, tolerance: float, **options: Any) -> Contender:
    return Contender("sklearn", dtype, tolerance=tolerance, **options)


_R1 = {"hidden_layer_sizes": [50], "solver": "sgd", "learning_rate_init": 0.1, "max_iter": 10}
_R2 = {"hidden_layer_sizes": [100, 50, 25], "learning_rate": "adaptive", "max_iter": 5}
_R3 = {"hidden_layer_sizes": [397], "solver": "lbfgs", "alpha": 1e-5, "max_iter": 5}
_300 = {"hidden_layer_sizes": [300], "batch_size": 500, "alpha": 0.0, "max_iter": 10}
_WIDE = {"hidden_layer_sizes": [1024, 1024], "batch_size": 256, "max_iter": 2}
_100 = {"hidden_layer_sizes": [100], "max_iter": 10}
_SCALE = {"input_scale": 1 / 255}
_BYTES = Contender("fastmlp", "uint8", _SCALE)
_FLOAT32, _FLOAT64 = Contender("fastmlp", "float32"), Contender("fastmlp", "float64")

# Float32 drifts from float64, and from itself in another order of sums, over thousands of updates.
CASES = (
    Case(
        name="r1",
        about="784-50-10, SGD, from bytes",
        group="mnist",
        data="mnist",
        parameters=_R1,
        ours=_BYTES,
        peers=(_sklearn("float64", 0.03), _sklearn("float32", 0.03)),
        floor="float32",
    ),
    Case(
        name="r1-float32",
        about="784-50-10, SGD, float32",
        group="mnist",
        data="mnist",
        parameters=_R1,
        ours=_FLOAT32,
        peers=(_sklearn("float32", 0.03),),
        floor="float32",
    ),
    Case(
        name="r1-float64",
        about="784-50-10, SGD, float64",
        group="mnist",
        data="mnist",
        parameters=_R1,
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        floor="float64",
    ),
    Case(
        name="r2",
        about="784-100-50-25-10, Adam, from bytes",
        group="mnist",
        data="mnist",
        parameters=_R2,
        ours=_BYTES,
        peers=(_sklearn("float64", 0.03), _sklearn("float32", 0.03)),
        floor="float32",
    ),
    Case(
        name="r3",
        about="784-397-10, L-BFGS, bytes standardized",
        group="mnist",
        data="mnist",
        parameters=_R3,
        ours=Contender("fastmlp", "uint8", {"input_scale": "standard"}),
        peers=(_sklearn("float32", 0.03, data="standardized mnist"),),
        floor="float32",
        task="evaluation",
    ),
    Case(
        name="adam-300",
        about="784-300-10, Adam, batches of 500, from bytes",
        group="mnist",
        data="mnist",
        parameters=_300,
        ours=_BYTES,
        peers=(
            _sklearn("float32", 0.03),
            Contender("torch", "float32", tolerance=0.03),
            Contender("jax", "float32", tolerance=0.03),
        ),
        floor="float32",
    ),
    Case(
        name="wide",
        about="784-1024-1024-10, Adam, batches of 256, float32",
        group="mnist",
        data="mnist",
        parameters=_WIDE,
        ours=_FLOAT32,
        peers=(_sklearn("float32", 0.05),),
        floor="float32",
    ),
    Case(
        name="tabular-float32",
        about="30-100-4, Adam, 20 000 rows, float32",
        group="tabular",
        data="tabular",
        parameters=_100,
        ours=_FLOAT32,
        peers=(_sklearn("float32", 1e-3),),
        floor="float32",
    ),
    Case(
        name="tabular-float64",
        about="30-100-4, Adam, 20 000 rows, float64",
        group="tabular",
        data="tabular",
        parameters=_100,
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        floor="float64",
    ),
    Case(
        name="regression",
        about="8-100-1, Adam, 20 000 rows, float64",
        group="tabular",
        data="regression",
        parameters=_100,
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        floor="float64",
    ),
    Case(
        name="digits",
        about="64-100-10, Adam, 1797 rows, float64",
        group="tabular",
        data="digits",
        parameters={"hidden_layer_sizes": [100], "max_iter": 50},  # scikit-learn's defaults
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        floor="float64",
    ),
    Case(
        name="sparse",
        about="20000-32-4, Adam, CSR with 0.2 % filled, float32",
        group="sparse",
        data="text",
        parameters={"hidden_layer_sizes": [32], "max_iter": 3},
        ours=_FLOAT32,
        peers=(_sklearn("float32", 1e-3),),
    ),
    Case(
        name="predict-1",
        about="784-50-10, probabilities of 1 row, float64",
        group="predict",
        data="mnist",
        parameters=_R1,
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        task="predict",
        n_rows=1,
    ),
    Case(
        name="predict-10000",
        about="784-50-10, probabilities of 10 000 rows, float64",
        group="predict",
        data="mnist",
        parameters=_R1,
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        floor="float64",
        task="predict",
        n_rows=10_000,
    ),
    Case(
        name="startup",
        about="a new process: import, and a first small fit",
        group="startup",
        data="nothing",
        parameters={},
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        task="startup",
    ),
    Case(
        name="memory",
        about="784-50-10, SGD, from a mapped file: peak above the imports",
        group="memory",
        data="mnist",
        parameters=_R1 | {"max_iter": 2},
        ours=_BYTES,
        peers=(_sklearn("float64", 0.03),),
        task="memory",
    ),
    Case(
        name="two-threads",
        about="784-50-10, SGD, from bytes: two threads, and one",
        group="threads",
        data="mnist",
        parameters=_R1,
        ours=Contender("fastmlp", "uint8", _SCALE | {"n_threads": 2}, title="two threads"),
        peers=(Contender("fastmlp", "uint8", _SCALE | {"n_threads": 1}, 0, title="one thread"),),
    ),
    Case(
        name="busy-core",
        about="784-50-10, SGD, from bytes: alone, and beside a busy process",
        group="threads",
        data="mnist",
        parameters=_R1,
        ours=Contender("fastmlp", "uint8", _SCALE, title="alone"),
        peers=(Contender("fastmlp", "uint8", _SCALE, 0, busy=True, title="busy neighbour"),),
    ),
)

SUITES = (*dict.fromkeys(case.group for case in CASES), "all")


def select(names: Iterable[str]) -> list[Case]:
    """Return the cases that suites, or names of cases, stand for.

    Raises
    ------
    ValueError
        If there is no such suite or case; the message lists them.

    Examples
    --------
    >>> [case.name for case in select(["predict", "r1"])]
    ['r1', 'predict-1', 'predict-10000']
    """
    wanted = set(names)
    if unknown := wanted - {*SUITES, *(case.name for case in CASES)}:
        raise ValueError(
            f"a suite must be one of {', '.join(SUITES)}, or a case: "
            f"{', '.join(case.name for case in CASES)}; got {min(unknown)!r}."
        )
    return [case for case in CASES if wanted & {"all", case.group, case.name}]


# --------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Job:
    """What a worker is to do; see `Contender` and `Case`. Files that it needs go to `folder`."""

    task: str
    library: str
    data: str
    input: str
    parameters: dict[str, Any]
    n_samples: int
    n_rows: int
    busy: bool
    folder: str


class Worker:
    """A contender in a process of its own, with what it measured so far.

    Attributes
    ----------
    contender : Contender
    missing : str
        Why it cannot take part; empty if it can.
    values : list of float
        Of every measurement but the first, which also loads code and pages.
    losses : list of float
    """

    def __init__(self, contender: Contender, job: Job) -> None:
        self.contender = contender
        self.missing = ""
        self.values: list[float] = []
        self.losses: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastmlp.bench"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._send(asdict(job))

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(
                f"the worker of {self.contender.label} failed; its own message is above."
            )
        return json.loads(line)

    def warm_up(self) -> None:
        """Wait until it is ready, measure once, and keep the losses only."""
        self.missing = self._answer().get("missing", "")
        if not self.missing:
            self.losses = self.measure()["losses"]
            self.values.clear()

    def measure(self) -> dict[str, Any]:
        """Measure once, and wait for it.

        Then the process is stopped until the next time: a library's threads may spin
        on for long after their work, on cores that the others need.
        """
        if hasattr(signal, "SIGSTOP"):
            self._process.send_signal(signal.SIGCONT)
        time.sleep(_PAUSE)
        self._send({})
        answer = self._answer()
        if hasattr(signal, "SIGSTOP"):
            self._process.send_signal(signal.SIGSTOP)
        self.values.append(answer["value"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class Contest:
    """The contenders of a case, ready to take turns.

    Use it as a context manager, or call `measure`, which does everything.

    Parameters
    ----------
    case : Case
    quick : bool
        Fewer samples, epochs and rounds.

    Attributes
    ----------
    rounds : int
        How many rounds there should be.
    ours : Worker
    others : list of Worker
        The peers and the floor, without those that are missing.
    """

    def __init__(self, case: Case, quick: bool = False) -> None:
        self.case = case
        self.rounds = _QUICK_ROUNDS if quick else _ROUNDS
        self._quick = quick

    def __enter__(self) -> "Contest":
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastmlp-bench-"))
            self._workers = []
            for contender in self.case.contenders:  # all start now, and warm up one by one
                worker = Worker(contender, _job(self.case, contender, folder, self._quick))
                stack.callback(worker.close)
                self._workers.append(worker)
            for worker in self._workers:
                worker.warm_up()
            self.ours = self._workers[0]
            self.others = [worker for worker in self._workers[1:] if not worker.missing]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure_others(self) -> None:
        """Let every other contender have its turn."""
        for worker in self.others:
            worker.measure()

    def result(self) -> dict[str, Any]:
        """Return what was measured so far, as in the JSON document."""
        ours, case = self.ours, self.case
        entry: dict[str, Any] = {
            "name": case.name,
            "about": case.about,
            "group": case.group,
            "unit": UNITS[case.task],
        }
        if ours.missing:
            return entry | {"missing": ours.missing}
        entry |= {"ours": {"label": case.ours.label, **summary(ours.values)}, "peers": []}
        for worker in self._workers[1:]:
            found: dict[str, Any] = {"label": worker.contender.label}
            if worker.missing:
                found["missing"] = worker.missing
            else:
                found |= summary(worker.values)
                found["ratio"] = summary(ratios(ours.values, worker.values))
            if worker.contender.library == "products":
                entry["floor"] = found
                continue
            found["library"] = worker.contender.library
            if not worker.missing:
                found["losses"] = compare(ours.losses, worker.losses, worker.contender.tolerance)
            entry["peers"].append(found)
        return entry


def measure(
    case: Case, quick: bool = False, on_round: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, Any]:
    """Let the contenders of a case take turns.

    Parameters
    ----------
    case : Case
    quick : bool, default=False
        A tenth of the samples, fewer epochs, fewer rounds: to see that it works.
    on_round : callable, optional
        Told after every round how many are done, and of how many.

    Returns
    -------
    dict
        "name", "about", "group", "unit"; then either "missing", a reason, or "ours", "peers" and,
        if there is one, "floor". Values are summaries (see `summary`); those of others have
        "ratio", their value / ours, and those of peers "losses" (see `compare`).
    """
    with Contest(case, quick) as contest:
        if not contest.ours.missing:
            for done in range(1, contest.rounds + 1):
                contest.measure_others()
                contest.ours.measure()
                on_round(done, contest.rounds)
        return contest.result()


def _job(case: Case, contender: Contender, folder: str, quick: bool) -> Job:
    parameters = {"max_iter": 200, "random_state": 1, **case.parameters, **contender.parameters}
    n_samples = SIZES[case.data]
    if quick:
        parameters["max_iter"] = min(parameters["max_iter"], _QUICK_EPOCHS)
        n_samples = n_samples if n_samples < 2000 else n_samples // 10
    # So that all do every epoch; L-BFGS may end sooner, as it is measured per evaluation.
    parameters |= {"tol": 0.0, "n_iter_no_change": parameters["max_iter"]}
    return Job(
        task=case.task,
        library=contender.library,
        data=contender.data or case.data,
        input=contender.input,
        parameters=parameters,
        n_samples=n_samples,
        n_rows=case.n_rows,
        busy=contender.busy,
        folder=folder,
    )


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the median of values, their range, and the values.

    Examples
    --------
    >>> summary([3.0, 1.0, 2.0])
    {'median': 2.0, 'lowest': 1.0, 'highest': 3.0, 'values': [3.0, 1.0, 2.0]}
    """
    return {
        "median": statistics.median(values),
        "lowest": min(values),
        "highest": max(values),
        "values": list(values),
    }


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return, per round, how many times as long (or as large) theirs is.

    Examples
    --------
    >>> ratios([1.0, 2.0], [4.0, 4.0])
    [4.0, 2.0]
    """
    return [b / a for a, b in zip(ours, theirs, strict=True)]


def compare(ours: Sequence[float], theirs: Sequence[float], tolerance: float) -> dict[str, Any]:
    """Return how far losses are apart, relatively, and whether that is within the tolerance.

    Examples
    --------
    >>> compare([0.5, 0.25], [0.5, 0.2], tolerance=0.1)
    {'difference': 0.25, 'tolerance': 0.1, 'equal': False}
    """
    a, b = np.asarray(ours, float), np.asarray(theirs, float)
    difference = np.inf
    if a.shape == b.shape and np.isfinite([a, b]).all():
        difference = float(np.max(np.abs(a - b) / np.maximum(np.abs(b), np.finfo(float).tiny)))
    return {
        "difference": round(difference, 12) if np.isfinite(difference) else None,
        "tolerance": tolerance,
        "equal": bool(difference <= tolerance),
    }


def in_words(value: float, unit: str) -> str:
    """Return a measured value with three digits and a unit that suits it.

    Examples
    --------
    >>> in_words(0.01234, "s per epoch"), in_words(98.7, "MB")
    ('12.3 ms', '99 MB')
    """
    if unit == "MB":
        return f"{value:.0f} MB"
    factor, name = (1, "s") if value >= 1 else (1e3, "ms") if value >= 1e-3 else (1e6, "us")
    return f"{value * factor:.3g} {name}"


def passed(entries: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether all losses agreed."""
    peers = (peer for entry in entries for peer in entry.get("peers", []))
    return all(peer["losses"]["equal"] for peer in peers if "losses" in peer)


def document(entries: Sequence[Mapping[str, Any]], quick: bool) -> dict[str, Any]:
    """Return the JSON document of a run: the entries, and what makes them reproducible."""
    from fastmlp import backends
    from fastmlp.threads import usable_threads

    versions = {"Python": platform.python_version()}
    for name in ("fastmlp", "numpy", "scipy", "scikit-learn", "torch", "jax"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "date": date.today().isoformat(),
        "quick": quick,
        "passed": passed(entries),
        "cpu": _cpu(),
        "threads": usable_threads(),
        "backend": backends.resolve(),
        "instruction_set": getattr(backends.get(), "ISA", None),
        "versions": versions,
        "cases": list(entries),
    }


def _cpu() -> str:
    """Return the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


# ----------------------------------------------------------------------------------- in the worker


class _Missing(Exception):
    """A contender cannot take part; the message says why."""


def _worker() -> None:
    """Serve the protocol of this module's docstring."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this

    def answer(message: Mapping[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)  # noqa: T201

    job = Job(**json.loads(sys.stdin.readline()))
    try:
        prepare = _LIBRARIES.get(job.library) or _TASKS[job.task]
        act = prepare(job)
    except _Missing as reason:
        answer({"missing": str(reason)})
        return
    answer({})
    for _ in sys.stdin:
        with _busy_process() if job.busy else nullcontext():
            value, losses = act()
        answer({"value": value, "losses": [float(loss) for loss in losses]})


#: What a worker does for a measurement: returns the value, and the losses that led to it.
Act = Callable[[], tuple[float, Iterable[float]]]


def _fit(job: Job) -> Act:
    evaluations: list[int] = []
    seconds: list[float] = []
    if job.task == "evaluation":
        _watch_minimize(evaluations, seconds)
    Estimator = _estimator(job)
    X, y = _load(job)
    _check_threads(job)

    def act() -> tuple[float, Iterable[float]]:
        model = Estimator(**job.parameters)
        start = time.perf_counter()
        model.fit(X, y)
        elapsed = time.perf_counter() - start
        if evaluations:
            return seconds.pop() / evaluations.pop(), [model.loss_]
        if len(model.loss_curve_) != job.parameters["max_iter"]:
            raise RuntimeError(f"training ended after {len(model.loss_curve_)} epochs.")
        return elapsed / len(model.loss_curve_), model.loss_curve_

    return act


def _watch_minimize(evaluations: list[int], seconds: list[float]) -> None:
    """Note how long SciPy minimizes, and with how many evaluations. Must precede imports of it."""
    import scipy.optimize

    minimize = scipy.optimize.minimize

    def watched(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = minimize(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        evaluations.append(result.nfev)
        return result

    scipy.optimize.minimize = watched


def _predict(job: Job) -> Act:
    X, y = _load(job)
    model = _estimator(job)(**job.parameters | {"max_iter": 1, "n_iter_no_change": 1})
    model.fit(X[:2000], y[:2000])
    rows = X[: job.n_rows]

    def act() -> tuple[float, Iterable[float]]:
        calls, start, elapsed = 0, time.perf_counter(), 0.0
        while elapsed < 0.2:
            probabilities = model.predict_proba(rows)
            calls += 1
            elapsed = time.perf_counter() - start
        return elapsed / calls, probabilities.mean(axis=0)

    return act


_FIRST_FIT = """
import numpy as np
from {module} import MLPClassifier
X = np.random.RandomState(0).randn(100, 4)
print(MLPClassifier((8,), max_iter=5, random_state=0).fit(X, X[:, 0] > 0).loss_)
"""


def _startup(job: Job) -> Act:
    code = _FIRST_FIT.format(module=_MODULES[job.library])

    def act() -> tuple[float, Iterable[float]]:
        start = time.perf_counter()
        loss = _run_python("-W", "ignore", "-c", code)
        return time.perf_counter() - start, [float(loss)]

    return act


def _memory(job: Job) -> Act:
    from fastmlp import idx

    images, labels = _load(replace(job, input="uint8"))
    paths = Path(job.folder, f"{job.library}-images"), Path(job.folder, f"{job.library}-labels")
    idx.write(paths[0], images)
    idx.write(paths[1], labels.astype(np.uint8))
    code = "from fastmlp import bench; bench._train_from_files()"
    arguments = json.dumps([asdict(job), *map(str, paths)])

    def act() -> tuple[float, Iterable[float]]:
        megabytes, *losses = json.loads(_run_python("-W", "ignore", "-c", code, arguments))
        return megabytes, losses

    return act


def _train_from_files() -> None:
    """Train from the files in the arguments, and print the peak above imports, and the losses."""
    from fastmlp import idx

    job, images, labels = json.loads(sys.argv[1])
    job = Job(**job)
    Estimator = _estimator(job)
    imports = _megabytes("VmRSS")
    X, y = idx.read(images, mmap=True), idx.read(labels)
    if job.input != "uint8":
        X = (X / 255).astype(job.input, copy=False)
    model = Estimator(**job.parameters).fit(X, y)
    print(json.dumps([_megabytes("VmHWM") - imports, *model.loss_curve_]))  # noqa: T201


def _megabytes(name: str) -> float:
    """Return what Linux knows about this process's memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/self/status does not tell {name}.")


def _products(job: Job) -> Act:
    """Do the matrix products of an epoch (of a forward pass, for predict) and nothing else."""
    X, y = _load(job)
    X = X[: job.n_rows or None]
    n_outputs = 1 if job.data == "regression" else len(np.unique(y))
    units = [X.shape[1], *job.parameters["hidden_layer_sizes"], n_outputs]
    rng = np.random.default_rng(0)
    weights = [rng.random(shape, dtype=X.dtype) for shape in pairwise(units)]
    gradients = [np.empty_like(weight) for weight in weights]
    whole = job.task in ("evaluation", "predict")
    batch_size = len(X) if whole else job.parameters.get("batch_size", 200)
    buffers = [rng.random((batch_size, n), dtype=X.dtype) for n in units[1:]]

    def act() -> tuple[float, Iterable[float]]:
        start = time.perf_counter()
        for first in range(0, len(X), batch_size):
            batch = X[first : first + batch_size]
            activations = [batch, *(buffer[: len(batch)] for buffer in buffers)]
            for a, weight, out in zip(activations, weights, activations[1:], strict=False):
                np.matmul(a, weight, out=out)
            if job.task == "predict":
                continue
            for layer in reversed(range(len(weights))):
                delta = activations[layer + 1]
                np.matmul(activations[layer].T, delta, out=gradients[layer])
                if layer:
                    np.matmul(delta, weights[layer].T, out=activations[layer])
        return time.perf_counter() - start, []

    return act


def _torch(job: Job) -> Act:
    """Train as PyTorch does best on a CPU: tensors in memory, a plain loop, fused Adam."""
    try:
        import torch
    except ImportError:
        raise _Missing("PyTorch is not installed.") from None
    X, y = _load(job)
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y.astype(np.int64))

    def act() -> tuple[float, Iterable[float]]:
        start = time.perf_counter()
        coefs, intercepts, orders = _beginning(job, X, y)
        layers: list[Any] = []
        for coef, intercept in zip(coefs, intercepts, strict=True):
            layer = torch.nn.Linear(*coef.shape)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(coef.T))
                layer.bias.copy_(torch.from_numpy(intercept))
            layers += [layer, torch.nn.ReLU()]
        network = torch.nn.Sequential(*layers[:-1])
        optimizer = torch.optim.Adam(network.parameters(), lr=0.001, fused=True)
        losses = []
        for order in orders:
            total = torch.zeros(())
            for batch in torch.from_numpy(order).split(job.parameters["batch_size"]):
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(network(inputs[batch]), targets[batch])
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(batch)
            losses.append(float(total) / len(X))
        return (time.perf_counter() - start) / len(losses), losses

    return act


def _jax(job: Job) -> Act:
    """Train as JAX does best: an epoch is one compiled scan over batches of the same size."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        raise _Missing("JAX is not installed.") from None
    X, y = _load(job)
    inputs, targets = jnp.asarray(X), jnp.asarray(y.astype(np.int32))
    batch_size = job.parameters["batch_size"]
    tree_map = jax.tree_util.tree_map

    def objective(parameters: Any, batch: Any) -> Any:
        activations = inputs[batch]
        for coef, intercept in parameters[:-1]:
            activations = jax.nn.relu(activations @ coef + intercept)
        coef, intercept = parameters[-1]
        log_probabilities = jax.nn.log_softmax(activations @ coef + intercept)
        return -jnp.take_along_axis(log_probabilities, targets[batch][:, None], axis=1).mean()

    def update(state: Any, batch: Any) -> Any:
        parameters, m, v, t = state
        loss, gradient = jax.value_and_grad(objective)(parameters, batch)
        m = tree_map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        t = t + 1
        rate = 0.001 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        parameters = tree_map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), parameters, m, v)
        return (parameters, m, v, t), loss

    @jax.jit
    def epoch(state: Any, batches: Any) -> Any:
        state, losses = jax.lax.scan(update, state, batches)
        return state, losses.mean()

    def act() -> tuple[float, Iterable[float]]:
        start = time.perf_counter()
        coefs, intercepts, orders = _beginning(job, X, y)
        layers = zip(coefs, intercepts, strict=True)
        parameters = [(jnp.asarray(coef), jnp.asarray(b)) for coef, b in layers]
        zeros = tree_map(jnp.zeros_like, parameters)
        state = parameters, zeros, zeros, jnp.float32(0)
        losses = []
        for order in orders:
            state, loss = epoch(state, jnp.asarray(order.reshape(-1, batch_size)))
            losses.append(float(loss))
        return (time.perf_counter() - start) / len(losses), losses

    return act


def _beginning(
    job: Job, X: NDArray, y: NDArray
) -> tuple[list[NDArray], list[NDArray], Iterator[NDArray]]:
    """Return the initial weights, and per epoch the order of the samples, as scikit-learn draws."""
    from fastmlp.network import Network, Parameters

    units = (X.shape[1], *job.parameters["hidden_layer_sizes"], len(np.unique(y)))
    rng = np.random.RandomState(job.parameters["random_state"])
    parameters = Parameters.initial(Network(units, "relu", "softmax"), rng, X.dtype)

    def orders() -> Iterator[NDArray]:
        order = np.arange(len(X))
        for _ in range(job.parameters["max_iter"]):
            indices = np.arange(len(X))
            rng.shuffle(indices)
            order = order[indices]
            yield order

    return parameters.coefs, parameters.intercepts, orders()


_TASKS: dict[str, Callable[[Job], Act]] = {
    "fit": _fit,
    "evaluation": _fit,
    "predict": _predict,
    "startup": _startup,
    "memory": _memory,
}

# Those that are no estimators.
_LIBRARIES: dict[str, Callable[[Job], Act]] = {"products": _products, "torch": _torch, "jax": _jax}

_MODULES = {"fastmlp": "fastmlp", "sklearn": "sklearn.neural_network"}


def _estimator(job: Job) -> Any:
    from importlib import import_module

    name = "MLPRegressor" if job.data == "regression" else "MLPClassifier"
    return getattr(import_module(_MODULES[job.library]), name)


def _check_threads(job: Job) -> None:
    from fastmlp.threads import usable_threads

    if job.parameters.get("n_threads", 1) > usable_threads() or (job.busy and os.cpu_count() == 1):
        raise _Missing("this process may use one CPU only.")


@contextmanager
def _busy_process() -> Iterator[subprocess.Popen]:
    """Keep a core busy meanwhile; it ends with this process, too."""
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10000))"
    process = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(0.1)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _run_python(*arguments: str) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _load(job: Job) -> tuple[Any, NDArray]:
    """Return the samples of a job in the type that it wants, and their targets."""
    n, dtype = job.n_samples, np.dtype(job.input)
    rng = np.random.default_rng(0)
    if job.data in ("mnist", "standardized mnist"):
        from fastmlp.datasets import DatasetError, load_mnist

        try:
            (X, y), _ = load_mnist()
        except DatasetError:
            raise _Missing(
                "MNIST cannot be had here: 'fastmlp data fetch mnist' says why."
            ) from None
        X, y = X[:n], y[:n]
        if job.data == "standardized mnist":
            deviation = X.std(axis=0)
            return ((X - X.mean(axis=0)) / np.where(deviation, deviation, 1)).astype(dtype), y
        return (X if dtype == np.uint8 else (X / 255).astype(dtype)), y
    if job.data == "digits":
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        return X.astype(dtype), y
    if job.data == "text":
        from scipy.sparse import coo_array

        shape, n_words = (n, 20_000), 40
        words = (shape[1] * rng.random(n * n_words) ** 3).astype(int)  # some are common
        rows = np.repeat(np.arange(n), n_words)
        X = coo_array((np.ones(len(words), dtype), (rows, words)), shape).tocsr()
        X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    else:
        X = rng.standard_normal((n, 8 if job.data == "regression" else 30)).astype(dtype)
    hidden = np.tanh(X @ rng.standard_normal((X.shape[1], 10)) / 2)
    scores = hidden @ rng.standard_normal((10, 4)) + 0.3 * rng.standard_normal((n, 4))
    return X, scores[:, 0].astype(dtype) if job.data == "regression" else scores.argmax(axis=1)


# -------------------------------------------------------------------------------------- the chart

_COLOURS = {
    "scikit-learn float64": "#f28e2b",
    "scikit-learn float32": "#ffbe7d",
    "PyTorch float32": "#b07aa1",
    "JAX float32": "#4e79a7",
}


def check_plot() -> None:
    """Raise ValueError if there is no matplotlib, which draws the chart."""
    if find_spec("matplotlib") is None:
        raise ValueError("a chart needs matplotlib: pip install 'fastmlp[plot]'.")


def plot(run: Mapping[str, Any], folder: Path, name: str = "benchmark") -> list[Path]:
    """Draw the ratios of a document as bars, and save it as PNG and SVG.

    Ratios are drawn on a logarithmic scale, so that twice as fast and twice as slow are bars of
    the same length. Cases without another library are left out.

    Parameters
    ----------
    run : dict
        See `document`.
    folder : Path
        A directory that exists.
    name : str
        Of the files, without an ending.

    Returns
    -------
    list of Path
        What was written.
    """
    check_plot()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    groups = []  # per case: what it is, and its bars
    for entry in run["cases"]:
        bars = [p for p in entry.get("peers", []) if p["library"] != "fastmlp" and "ratio" in p]
        if bars:
            groups.append((entry["about"], bars))
    if not groups:
        raise ValueError("there is no ratio to draw: no other library took part.")
    n_bars = sum(len(bars) for _, bars in groups)
    figure = Figure(figsize=(9, 1.3 + 0.25 * n_bars + 0.12 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()

    ticks, y = [], 0.0
    highest, lowest = 1.0, 1.0
    for _, bars in groups:
        ticks.append(y + (len(bars) - 1) / 2)
        for bar in bars:
            ratio = bar["ratio"]
            median, low, high = ratio["median"], ratio["lowest"], ratio["highest"]
            # From 1 to the ratio; barh on a logarithmic axis would begin at the edge.
            axes.barh(y, median - 1, left=1, height=0.85, color=_COLOURS.get(bar["label"], "#999"))
            axes.plot([low, high], [y, y], color="#333", linewidth=1, solid_capstyle="butt")
            axes.text(max(high, 1) * 1.03, y, _times(median), va="center", fontsize=9)
            highest, lowest = max(highest, high), min(lowest, low)
            y += 1
        y += 0.5
    axes.axvline(1, color="#333", linewidth=1.2)
    axes.set_xscale("log")
    axes.set_xlim(min(0.9, lowest * 0.9), highest * 1.25)
    marks = [
        m for m in (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100) if lowest <= m <= highest * 1.2
    ]
    axes.set_xticks(marks, [f"{mark:g}x" for mark in marks])
    axes.xaxis.minorticks_off()
    axes.set_yticks(ticks, [label for label, _ in groups], fontsize=9)
    axes.set_ylim(y - 1, -0.6)  # the first case on top
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#ddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    used = {bar["label"] for _, bars in groups for bar in bars}
    patches = [Patch(color=c, label=label) for label, c in _COLOURS.items() if label in used]
    figure.legend(handles=patches, loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    axes.set_xlabel("times as fast as the other library (memory: times as little); line: spread")
    figure.supxlabel(_run_in_words(run), fontsize=8, color="#666")

    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    # SVG: text stays text, and the same run gives the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastmlp"}):
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio < 100 else f"{ratio:.0f}x"


def _run_in_words(run: Mapping[str, Any]) -> str:
    versions = ", ".join(
        f"{k} {v}" for k, v in run["versions"].items() if k not in ("Python", "scipy")
    )
    quick = ", quick sizes" if run["quick"] else ""
    return f"{run['date']}, {run['cpu']}, {run['threads']} threads{quick}, {versions}"


if __name__ == "__main__":
    _worker()
