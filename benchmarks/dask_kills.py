"""Kill the processes of Dask workers that train: does the fit end, with the same losses?

    python benchmarks/dask_kills.py --library fastmlp               # or xgboost, lightgbm
    python benchmarks/dask_kills.py --library fastmlp --solver lbfgs --kills 20 --seed 1

Three fits of the same images of MNIST, each in a fresh cluster of two worker processes with a
nanny: two without kills, which show what differs anyway, and one during which a random worker is
sent SIGKILL so many times, at random moments within three quarters of the time of the first. All
settings of Dask and of the library are its defaults, but for the size of the model. Of each fit
are printed: seconds, when a worker was killed, the loss on the training rows round by round, and
the error if it failed. A fit that takes longer than the limit is ended, and called hung.

Needs Dask's distributed, and the library with its parts for Dask.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, wait

from fastmlp.datasets import load_mnist

_ROUNDS = {"fastmlp": 60, "xgboost": 30, "lightgbm": 30}
_RESULT, _KILLED = "result: ", "killed at "  # how lines of a fit's process begin


def fit_fastmlp(client, X, y, options):
    from fastmlp.dask import DaskMLPClassifier

    model = DaskMLPClassifier(
        hidden_layer_sizes=(50,),
        solver=options.solver,
        max_iter=options.rounds,
        random_state=0,
        client=client,
    )
    return model.fit(X, y).history_["loss"]


def fit_xgboost(client, X, y, options):
    from xgboost.dask import DaskXGBClassifier

    model = DaskXGBClassifier(n_estimators=options.rounds, max_depth=4, random_state=0)
    model.client = client
    model.fit(X, y, eval_set=[(X, y)], verbose=False)
    return model.evals_result()["validation_0"]["mlogloss"]


def fit_lightgbm(client, X, y, options):
    from lightgbm import DaskLGBMClassifier

    model = DaskLGBMClassifier(
        client=client, n_estimators=options.rounds, max_depth=4, random_state=0, verbose=-1
    )
    model.fit(X, y, eval_set=[(X, y)])
    return model.evals_result_["valid_0"]["multi_logloss"]


_FITS = {"fastmlp": fit_fastmlp, "xgboost": fit_xgboost, "lightgbm": fit_lightgbm}


class Killer(threading.Thread):
    """Kills a random worker of a cluster, again and again, until it is stopped."""

    def __init__(self, cluster, kills, seconds, seed):
        super().__init__(daemon=True)
        self._cluster, self._random = cluster, random.Random(seed)
        self._moments = sorted(self._random.uniform(0, 0.75 * seconds) for _ in range(kills))
        self._stopped, self._killed = threading.Event(), set()

    def run(self):
        start = time.perf_counter()
        for moment in self._moments:
            if self._stopped.wait(max(0, start + moment - time.perf_counter())):
                return
            while not (pids := self._pids()):  # the nannies are starting them
                if self._stopped.wait(0.1):
                    return
            pid = self._random.choice(pids)
            os.kill(pid, signal.SIGKILL)
            self._killed.add(pid)
            print(f"{_KILLED}{time.perf_counter() - start:.1f}", flush=True)

    def _pids(self):
        processes = [nanny.process for nanny in self._cluster.workers.values()]
        pids = [process.pid for process in processes if process and process.is_alive()]
        return [pid for pid in pids if pid not in self._killed]

    def stop(self):
        self._stopped.set()
        self.join()


def train(options):
    """Train once, in this process; print the result as JSON."""
    (X, y), _ = load_mnist()
    X, y = X[: options.rows].astype(np.float32) / 255, y[: options.rows].astype(np.int64)
    curve, error = [], ""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        n_rows = -(-options.rows // 4)
        X = client.persist(da.from_array(X, chunks=(n_rows, -1)))
        y = client.persist(da.from_array(y, chunks=n_rows))
        wait([X, y])
        killer = Killer(cluster, options.kills, options.seconds, options.seed)
        start = time.perf_counter()
        killer.start()
        try:
            curve = _FITS[options.library](client, X, y, options)
        except Exception as raised:
            error = " ".join(f"{type(raised).__name__}: {raised}".split())
        seconds = time.perf_counter() - start
        killer.stop()
        curve = [float(loss) for loss in curve]
        print(
            _RESULT + json.dumps({"curve": curve, "error": error, "seconds": seconds}), flush=True
        )


def run(options, kills, seconds):
    """Train in a process of its own, and end it if it takes too long; return the result."""
    command = [sys.executable, __file__, *sys.argv[1:], "--rounds", str(options.rounds), "--once"]
    command += ["--kills", str(kills), "--seconds", str(seconds)]
    start, log = time.perf_counter(), None if options.log else subprocess.DEVNULL
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
    )
    try:
        printed, _ = process.communicate(timeout=options.limit)
        error = f"the process ended with status {process.returncode}"
    except subprocess.TimeoutExpired:
        error = f"hung: no end in {options.limit:g} s"
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    result = {"curve": [], "error": error, "seconds": time.perf_counter() - start, "killed": []}
    for line in printed.splitlines():
        if line.startswith(_KILLED):
            result["killed"].append(line.removeprefix(_KILLED))
        elif line.startswith(_RESULT):
            result.update(json.loads(line.removeprefix(_RESULT)))
    return result


def report(title, result, first=None):
    """Print the result of a fit, and whether its losses are those of the first."""
    curve, error, killed = result["curve"], result["error"], result["killed"]
    print(f"{title}: {result['seconds']:.1f} s, {len(killed)} kills, {len(curve)} rounds")
    if killed:
        print("  killed after", *killed, "s")
    if error:
        print(f"  failed: {error[:300]}")
    if curve:
        print("  losses", *curve[:: max(1, len(curve) // 5)], "... last", curve[-1])
    if curve and first:
        differ = [ours != theirs for ours, theirs in zip(curve, first["curve"], strict=False)]
        other = f"other losses from round {(*differ, True).index(True) + 1} on"
        print(" ", "the same to the last digit" if curve == first["curve"] else other)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--library", choices=_FITS, default="fastmlp")
    parser.add_argument("--solver", choices=["adam", "sgd", "lbfgs"], default="adam")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, help="epochs, iterations or trees")
    parser.add_argument("--limit", type=float, default=300, help="seconds until a fit is ended")
    parser.add_argument("--log", action="store_true", help="show what the processes write")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = options.rounds or _ROUNDS[options.library]
    if options.once:
        return train(options)
    names = dict.fromkeys([options.library, "dask", "distributed"])
    print(*(f"{name} {version(name)}" for name in names), sep=", ")
    first = run(options, 0, 0)
    report("without kills", first)
    if first["error"]:
        sys.exit(1)
    report("without kills, again", run(options, 0, 0), first)
    report(f"kills of seed {options.seed}", run(options, options.kills, first["seconds"]), first)


if __name__ == "__main__":
    main()
