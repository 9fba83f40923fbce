"""Does the client's memory grow with the data? Adam on 200 GB of partitions that are made lazily.

    python benchmarks/lazy_partitions.py                    # 8,000 partitions of 25 MB: minutes
    python benchmarks/lazy_partitions.py --partitions 400   # 10 GB

Client, scheduler and two workers are processes of their own, on this machine; each worker may take
4 GB. Prints the seconds to plan 10,000 partitions, and the client's memory until the first million
rows have been trained on. Before that, all rows are gone through once, for the classes.
"""

import argparse
import threading
import time
import warnings

import dask.array as da
import numpy as np
import psutil
from distributed import Client
from distributed.deploy import SubprocessCluster

from fastmlp.dask import DaskMLPClassifier, partitions
from fastmlp.estimators.summaries import Questions
from fastmlp.training import Observer, observing

ROWS, COLUMNS = 25_000, 1000


def place(block_info):
    return block_info[None]["chunk-location"][0]


def rows(block_info=None):
    generator = np.random.Generator(np.random.SFC64(place(block_info)))
    return generator.integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)


def labels(block_info=None):
    return np.random.RandomState(place(block_info)).randint(0, 10, ROWS)


def collections(n):
    X = da.map_blocks(rows, dtype=np.uint8, chunks=((ROWS,) * n, (COLUMNS,)))
    return X, da.map_blocks(labels, dtype=np.int64, chunks=((ROWS,) * n,))


def plan():
    """Print the seconds that a plan takes."""
    pairs = partitions.paired(*collections(10_000), None)
    ask = Questions(True, None, False, False)
    for deals, words in ((True, "rows dealt out"), (False, "rows in order")):
        begun = time.perf_counter()
        partitions.plan(pairs, ask, 16, deals=deals)
        print(f"10,000 partitions, {words}: planned in {time.perf_counter() - begun:.2f} s")


class Watch(Observer):
    """Prints the client's memory, and ends the fit after a million rows."""

    def __init__(self):
        self._begun, self._process = time.monotonic(), psutil.Process()
        self._stopped = threading.Event()

    def tell(self, what):
        n_bytes = self._process.memory_info().rss
        seconds = time.monotonic() - self._begun
        print(f"{seconds:6.0f} s, {what}: the client has {n_bytes / 1e6:.0f} MB", flush=True)

    def every(self, seconds):
        while not self._stopped.wait(seconds):
            self.tell("meanwhile")

    def fit_began(self, fit):
        self.tell("classes are known, and training begins")

    def samples_done(self, fit, n):
        if n > 1_000_000:
            self.tell(f"trained on {n:,} rows")
            self._stopped.set()
            raise KeyboardInterrupt  # ends the fit, which keeps its weights


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--partitions", type=int, default=8000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    plan()
    X, y = collections(options.partitions)
    print(f"{X.nbytes / 1e9:.0f} GB in {options.partitions:,} partitions")
    cluster = SubprocessCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None,
        worker_kwargs={"memory_limit": "4GB"},
    )  # fmt: skip
    with cluster, Client(cluster):
        watch = Watch()
        watch.tell("before")
        threading.Thread(target=watch.every, args=(30,), daemon=True).start()
        with observing(watch):
            DaskMLPClassifier((10,), max_iter=1, input_scale=1 / 255, random_state=0).fit(X, y)


if __name__ == "__main__":
    main()
