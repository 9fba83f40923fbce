"""Run contenders in alternation, and summarize their measurements."""

import json
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.bench.cases import UNITS, Case, Contender, Job, job_of

_ROUNDS, _QUICK_ROUNDS = 5, 3

#: Seconds before every measurement, for the last contender to become idle.
_PAUSE = 0.05


class Worker:
    """A contender in its own process, with its measurements so far.

    Attributes
    ----------
    contender : Contender
    missing : str
        Why it is not available; empty if it is.
    values : list of float
        Of every measurement except the first, which also loads code and pages.
    losses : list of float
    """

    def __init__(self, contender: Contender, job: Job) -> None:
        self.contender = contender
        self.missing = ""
        self.values: list[float] = []
        self.losses: list[float] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fastmlp.bench.worker"],
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

    def warm_up(self, message: Mapping[str, Any] | None = None) -> None:
        """Wait until it is ready, measure once, and keep only the losses."""
        self.missing = self._answer().get("missing", "")
        if not self.missing:
            self.losses = self.measure(message)["losses"]
            self.values.clear()

    def measure(self, message: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a message, measure once, and wait for the result.

        Then the process is suspended until the next time: a library's threads may keep
        spinning after their work, on cores that the others need.
        """
        if hasattr(signal, "SIGSTOP"):
            self._process.send_signal(signal.SIGCONT)
        time.sleep(_PAUSE)
        self._send(message or {})
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
    """The contenders of a case.

    Use it as a context manager, or call `measure`, which does everything.

    Parameters
    ----------
    case : Case
    quick : bool
        Fewer samples, epochs and rounds.

    Attributes
    ----------
    rounds : int
        Number of rounds.
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
                worker = Worker(contender, job_of(self.case, contender, folder, self._quick))
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
        """Measure all other contenders once."""
        for worker in self.others:
            worker.measure()

    def result(self) -> dict[str, Any]:
        """Return the measurements so far, as in the JSON document."""
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
    """Run the contenders of a case in alternation.

    Parameters
    ----------
    case : Case
    quick : bool, default=False
        A tenth of the samples, fewer epochs, fewer rounds, to check that it works.
    on_round : callable, optional
        Called after every round with the number of finished rounds and the total.

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
    """Return the ratio theirs / ours per round.

    Examples
    --------
    >>> ratios([1.0, 2.0], [4.0, 4.0])
    [4.0, 2.0]
    """
    return [b / a for a, b in zip(ours, theirs, strict=True)]


def compare(ours: Sequence[float], theirs: Sequence[float], tolerance: float) -> dict[str, Any]:
    """Return the relative difference of losses, and whether it is within the tolerance.

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
    """Return a measured value with three digits and a suitable unit.

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
    """Return whether all losses agree."""
    peers = (peer for entry in entries for peer in entry.get("peers", []))
    return all(peer["losses"]["equal"] for peer in peers if "losses" in peer)


def document(entries: Sequence[Mapping[str, Any]], quick: bool) -> dict[str, Any]:
    """Return the JSON document of a run: the entries, and the environment."""
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
        **machine(),
        "versions": versions,
        "cases": list(entries),
    }


def machine() -> dict[str, Any]:
    """Return the processor, the number of threads, the backend and its instruction set."""
    from fastmlp import backends
    from fastmlp.utils.threads import usable_threads

    return {
        **_processor(),
        "threads": usable_threads(),
        "backend": backends.resolve(),
        "instruction_set": getattr(backends.get(), "ISA", None),
    }


def _processor(path: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Return the name of the processor, and its family and model, which x86 and Linux have.

    Virtual machines may hide the rest of the name: "AMD EPYC" is any of them.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        lines = []
    found: dict[str, str] = {}
    for line in lines:  # those of the first core
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    family, model = (
        int(text) if (text := found.get(name, "")).isdecimal() else None
        for name in ("cpu family", "model")
    )
    return {
        "cpu": found.get("model name") or platform.processor() or platform.machine(),
        "cpu_family": family,
        "cpu_model": model,
    }
