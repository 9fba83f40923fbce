"""An epoch of Adam on a file that is larger than memory, compared with the same rows in memory.

    python benchmarks/large_file.py                    # makes 8 GB of MNIST below TMPDIR, removed
    python benchmarks/large_file.py --cgroup /sys/fs/cgroup/memory/small 784-50-10 784-300-10

MNIST is repeated, shifted by up to two pixels, and shuffled. Fits alternate, each in a process of
its own, with one that reads the file and does nothing else. The file's have max_memory="1G", and
are put into the cgroup if one is given, whose limit of 1 GB then also holds for what the system
caches. Its folder must exist, and be writable.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fastmlp import MLPClassifier
from fastmlp.blocks import Rows
from fastmlp.blocks.windows import BLOCK_BYTES
from fastmlp.datasets import load_mnist

LIMIT = 1 << 30


def make(folder, n_bytes):
    (X, y), _ = load_mnist()
    n = max(1, round(n_bytes / X.nbytes))
    generator = np.random.RandomState(0)
    shape = (n * len(X), X.shape[1])
    rows = np.lib.format.open_memmap(folder / "X.npy", "w+", np.uint8, shape)
    labels = np.empty(shape[0], y.dtype)
    images = X.reshape(-1, 28, 28)
    for part in range(n):
        there = slice(part * len(X), (part + 1) * len(X))
        order = generator.permutation(len(X))
        by = tuple(generator.randint(-2, 3, 2))
        rows[there] = np.roll(images, by, axis=(1, 2)).reshape(X.shape)[order]
        labels[there] = y[order]
        print(f"\r{there.stop:,} of {shape[0]:,} rows", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    rows.flush()
    np.save(folder / "y.npy", labels)


def forget(path):
    """Remove a file from the system's cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fit(folder, kind, hidden):
    """Print the seconds of an epoch, its loss, and the most memory that this process took."""
    warnings.simplefilter("ignore")
    if kind == "reading":
        print(seconds_of_reading(folder / "X.npy"), 0, 0)
        return
    y = np.load(folder / "y.npy")
    if kind == "memory":
        X, options = np.load(folder / "X.npy"), {}
    else:
        X, options = np.load(folder / "X.npy", mmap_mode="r"), {"max_memory": LIMIT}
    model = MLPClassifier(hidden, input_scale=1 / 255, random_state=1, max_iter=1)
    model.fit(X, y, **options)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(model.history_["seconds"][0], model.loss_, most)


def seconds_of_reading(path):
    """Return the seconds to read blocks of a file in random order, as a fit does."""
    rows = Rows(np.load(path, mmap_mode="r"), caches=False)
    n = BLOCK_BYTES // rows.shape[1]
    starts = np.random.RandomState(0).permutation(len(rows) // n) * n
    begun = time.perf_counter()
    with ThreadPoolExecutor(4) as readers:
        for _ in readers.map(lambda start: rows[start : start + n].shape, starts.tolist()):
            pass
    return time.perf_counter() - begun


def measured(folder, kind, network, cgroup):
    forget(folder / "X.npy")

    def enter():
        if cgroup is not None and kind == "file":
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    run = subprocess.run(
        [sys.executable, __file__, network, "--folder", folder, "--kind", kind],
        check=True, capture_output=True, text=True, preexec_fn=enter,
    )  # fmt: skip
    return [float(word) for word in run.stdout.split()]


def limit_of(cgroup):
    """Set the limit of a cgroup, of version 2 or 1."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        if (cgroup / name).exists():
            (cgroup / name).write_text(str(LIMIT))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=["784-50-10"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--cgroup", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        (network,) = options.networks
        fit(options.folder, options.kind, tuple(map(int, network.split("-")[1:-1])))
        return
    if options.cgroup is not None:
        limit_of(options.cgroup)
    print(f"{len(os.sched_getaffinity(0))} cores, {time.strftime('%Y-%m-%d')}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.gigabytes * 1e9)
        for network in options.networks:
            found = {"memory": [], "file": [], "reading": []}
            for _ in range(options.repeats):
                for kind, results in found.items():
                    results.append(measured(Path(folder), kind, network, options.cgroup))
                    print(f"  {network} {kind}: {results[-1][0]:.1f} s", flush=True)
            seconds, losses, most = (
                {kind: np.median([r[i] for r in results]) for kind, results in found.items()}
                for i in range(3)
            )
            pairs = zip(found["memory"], found["file"], strict=True)
            ratio = np.median([a[0] / b[0] for a, b in pairs])
            print(
                f"{network}: memory {seconds['memory']:.1f} s, file {seconds['file']:.1f} s, "
                f"{ratio:.2f} of the speed, reading alone {seconds['reading']:.1f} s; "
                f"losses {losses['memory']:.4f}, {losses['file']:.4f}; "
                f"the process had {most['file'] / 1e6:.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
