"""Seconds of fits on Dask workers, and the model of docs/scaling.md fitted to them.

    python benchmarks/scaling.py            # 1, 2 and 4 worker processes of one thread, here

For each number of workers and network, the median seconds of an evaluation of L-BFGS's objective
and of an epoch of Adam with one average are measured, alternately, on MNIST. The model is

    seconds = compute * rows * parameters / min(workers, cores) + latency + workers * bytes / rate

where bytes are those that go to and come from a worker. Its three numbers are fitted by least
squares of relative errors, and used to predict larger clusters.
"""

import argparse
import json
import logging
import os
import time
import warnings

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from scipy.optimize import nnls

from fastmlp.dask import DaskMLPClassifier
from fastmlp.datasets import load_mnist

NETWORKS = ((50,), (100, 50, 25), (200,))
WORKERS = (1, 2, 4)


def n_parameters(hidden):
    units = (784, *hidden, 10)
    return sum((a + 1) * b for a, b in zip(units[:-1], units[1:], strict=True))


def seconds_of(client, X, y, hidden, solver, n_iter):
    """Return the median seconds of an iteration, without the first, which makes the engines."""
    options = {"solver": solver, "max_iter": n_iter, "random_state": 0, "input_scale": 1 / 255}
    if solver == "lbfgs":
        options["dtype"] = "float64"
    else:
        options["sync_every"] = 10**6
    model = DaskMLPClassifier(hidden, client=client, **options)
    seconds = model.fit(X, y).history_["seconds"]
    return float(np.median(seconds[1:]))


def traffic(hidden, solver):
    """Return the bytes that a worker gets and sends in an iteration."""
    # L-BFGS: weights; sums and what they have lost by rounding. Adam: weights and two moments.
    return n_parameters(hidden) * ((8 + 12) if solver == "lbfgs" else 2 * 3 * 4)


def fitted(rows, cores):
    """Return compute, latency and traffic of measurements of one solver."""
    A = [
        [n * n_parameters(h) / min(w, cores), 1.0, w * traffic(h, solver)]
        for h, w, n, solver, _ in rows
    ]
    b = np.array([seconds for *_, seconds in rows])
    A = np.array(A) / b[:, np.newaxis]
    return nnls(A, np.ones(len(b)))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=6)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cores = len(os.sched_getaffinity(0))
    (X, y), _ = load_mnist()
    clients = {
        n: Client(
            LocalCluster(
                n_workers=n, threads_per_worker=1, dashboard_address=None,
                silence_logs=logging.ERROR,
            ),
            set_as_default=False,
        )
        for n in WORKERS
    }  # fmt: skip
    dX, dy = da.from_array(X, chunks=(5000, 784)), da.from_array(y, chunks=5000)
    for solver in ("lbfgs", "adam"):
        measured = {}
        for _ in range(options.repeats):
            for hidden in NETWORKS:
                for n, client in clients.items():
                    found = seconds_of(client, dX, dy, hidden, solver, options.iterations)
                    measured.setdefault((hidden, n), []).append(found)
        rows = [
            (hidden, n, len(X), solver, float(np.median(times)))
            for (hidden, n), times in measured.items()
        ]
        compute, latency, per_byte = fitted(rows, cores)
        print(
            f"{solver}: {compute:.3g} s per row and parameter, latency {1000 * latency:.0f} ms, ",
            end="",
        )
        print(f"{1e-9 / per_byte if per_byte else float('inf'):.2f} GB/s")
        for hidden, n, n_rows, _, seconds in rows:
            model = (
                compute * n_rows * n_parameters(hidden) / min(n, cores)
                + latency
                + per_byte * n * traffic(hidden, solver)
            )
            print(f"  {hidden!s:14} {n} workers: {seconds:.3f} s, model {model:.3f} s")
    print(json.dumps({"cores": cores, "date": time.strftime("%Y-%m-%d")}))
    for client in clients.values():
        client.close()
        client.cluster.close()


if __name__ == "__main__":
    main()
