"""Two Dask workers of one thread compared with one, on MNIST.

    python benchmarks/dask_workers.py lbfgs     # seconds per iteration, and differences of weights
    python benchmarks/dask_workers.py adam      # seconds until one machine's training loss

Fits alternate; medians are printed. L-BFGS is also compared with what the machine can give at most:
two processes that know nothing of each other, each with half of the images. For Adam, the loss is
that of the network after an epoch, on all training images, which is to be what 20 epochs of one
machine reach: an epoch's own loss is the mean over batches of what replicas had before they were
averaged, which says less about the network.
"""

import argparse
import logging
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.metrics import log_loss

from fastmlp import MLPClassifier
from fastmlp.dask import DaskMLPClassifier
from fastmlp.datasets import load_mnist

LBFGS = {
    "hidden_layer_sizes": (397,), "input_scale": 1 / 255, "random_state": 1, "max_iter": 6,
    "solver": "lbfgs", "dtype": "float64",
}  # fmt: skip
ADAM = {"hidden_layer_sizes": (100, 50, 25), "input_scale": 1 / 255, "n_iter_no_change": 1000}

#: Parameters of Adam by their names in the table. A replica's batches are batch_size / workers.
SETTINGS = {
    "one worker": (1, {}),
    "two, defaults": (2, {}),
    "two, batch_size=400, learning_rate_init=0.002": (
        *(2, {"batch_size": 400, "learning_rate_init": 0.002}),
    ),
}


def start(n_workers):
    cluster = LocalCluster(
        n_workers=n_workers, threads_per_worker=1, dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )  # fmt: skip
    return Client(cluster, set_as_default=False)


def split(array, n):
    ends = np.linspace(0, len(array), n + 1).astype(int)
    return da.from_array(array, chunks=(tuple(np.diff(ends).tolist()), *array.shape[1:]))


def parameters_of(model):
    return np.concatenate([part.ravel() for part in model.coefs_ + model.intercepts_])


def alone(part, n_parts):
    """Return the seconds of an iteration on a part of the images, in this process."""
    warnings.simplefilter("ignore")
    (X, y), _ = load_mnist()
    model = MLPClassifier(**LBFGS, n_threads=1).fit(X[part::n_parts], y[part::n_parts])
    return np.median(model.history_["seconds"])


def lbfgs(repeats, clients, X, y):
    local = MLPClassifier(**LBFGS, n_threads=1).fit(X, y)
    for n in (1, 2, 3, 7):
        model = DaskMLPClassifier(**LBFGS, client=clients[2]).fit(split(X, n), split(y, n))
        difference = np.abs(parameters_of(model) - parameters_of(local)).max()
        print(f"{n} partitions: weights within {difference:.1e} of one machine's", flush=True)
    times = {"one process": [], "two processes": [], "one worker": [], "two workers": []}
    spawn = get_context("spawn")  # OpenMP's threads do not outlive a fork
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        for _ in range(repeats):
            times["one process"].append(pool.submit(alone, 0, 1).result())
            times["two processes"].append(max(pool.map(alone, range(2), [2, 2])))
            for name, client in zip(("one worker", "two workers"), clients.values(), strict=True):
                model = DaskMLPClassifier(**LBFGS, client=client).fit(split(X, 6), split(y, 6))
                times[name].append(np.median(model.history_["seconds"]))
                assert np.isclose(model.loss_, local.loss_, rtol=1e-12)
    for name, found in times.items():
        print(f"{name}: {np.median(found):.3f} s per iteration")
    for one, two in (("one process", "two processes"), ("one worker", "two workers")):
        ratio = np.median(np.array(times[one]) / np.array(times[two]))
        print(f"{two}: {ratio:.2f} times as fast as {one}")


def adam(repeats, clients, X, y):
    seconds = {name: [] for name in SETTINGS}
    epochs = {name: [] for name in SETTINGS}
    dX, dy = split(X, 6), split(y, 6)
    for seed in range(1, repeats + 1):
        options = ADAM | {"random_state": seed}
        local = MLPClassifier(**options, max_iter=20).fit(X, y, X_val=X, y_val=y)
        target = np.median(local.history_["val_loss"][-5:])  # it varies a lot
        for name, (n, others) in SETTINGS.items():
            model = DaskMLPClassifier(**options | others, client=clients[n], max_iter=40)
            if n == 1:
                epochs[name].append(local.n_iter_)
            else:
                losses = np.array(model.fit(dX, dy, X_val=X, y_val=y).history_["val_loss"])
                epochs[name].append(int(np.argmax(losses <= target)) + 1)
            begun = time.perf_counter()
            model.set_params(max_iter=epochs[name][-1]).fit(dX, dy)
            seconds[name].append(time.perf_counter() - begun)
            loss = log_loss(y, model.predict_proba(X))
            assert n == 1 or loss <= target * 1.0001
            print(
                f"random_state={seed}, {name}: loss {loss:.4f} (one machine {target:.4f}) after "
                f"{epochs[name][-1]} epochs, {seconds[name][-1]:.2f} s",
                flush=True,
            )
    for name, found in seconds.items():
        ratio = np.median(np.array(found) / np.array(seconds["one worker"]))
        print(
            f"{name}: {np.median(epochs[name]):.0f} epochs, {np.median(found):.2f} s, "
            f"{ratio:.2f} of one worker's time"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("solver", choices=["lbfgs", "adam"])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{len(os.sched_getaffinity(0))} cores, {time.strftime('%Y-%m-%d')}")
    (X, y), _ = load_mnist()
    clients = {n: start(n) for n in (1, 2)}
    {"lbfgs": lbfgs, "adam": adam}[options.solver](options.repeats, clients, X, y)
    for client in clients.values():
        client.close()
        client.cluster.close()


if __name__ == "__main__":
    main()
