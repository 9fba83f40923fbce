"""Whole fits beside scikit-learn's: own processes, alternating, equal losses asserted."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

R1 = {
    "hidden_layer_sizes": [50],
    "max_iter": 10,
    "alpha": 1e-4,
    "solver": "sgd",
    "random_state": 1,
    "learning_rate_init": 0.1,
}


class Worker:
    """A library in a process of its own; see fit_worker.py."""

    def __init__(self, library, dtype, **parameters):
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("fit_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.fits = []
        self._send({"library": library, "dtype": dtype, "parameters": parameters})

    def _send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def fit(self):
        """Fit once and wait for it."""
        self._send({})
        self.fits.append(json.loads(self.process.stdout.readline()))

    def close(self):
        self.process.communicate()

    @property
    def seconds(self):
        return [fit["seconds"] for fit in self.fits]

    @property
    def losses(self):
        return self.fits[0]["losses"]


# (id, our input, our parameters, the peer's input, how closely the losses must agree)
CASES = [
    # float32 drifts from float64 over 3000 updates, so the curves are compared loosely.
    ("uint8-to-float32-against-float64", "uint8", {"input_scale": 1 / 255}, "float64", 0.03),
    ("float32-against-float32", "float32", {}, "float32", 0.03),
    ("float64-against-float64", "float64", {}, "float64", 1e-8),
    ("numpy-backend-float64", "float64", {"backend": "numpy"}, "float64", 1e-12),
]


@pytest.mark.parametrize(
    ("ours", "parameters", "theirs", "tolerance"),
    [pytest.param(*case, id=name) for name, *case in CASES],
)
def test_r1(benchmark, ours, parameters, theirs, tolerance):
    """784-50-10, SGD, batch 200, 10 epochs of MNIST; ratio = scikit-learn's time / ours."""
    worker, peer = Worker("fastmlp", ours, **R1, **parameters), Worker("sklearn", theirs, **R1)
    try:
        for process in (worker, peer):
            process.fit()  # the first fit also loads code and pages
        np.testing.assert_allclose(worker.losses, peer.losses, rtol=tolerance)
        # The peer fits before each of our rounds, so every pair shares one moment.
        benchmark.pedantic(worker.fit, setup=peer.fit, rounds=5)
    finally:
        worker.close()
        peer.close()
    pairs = zip(worker.seconds[1:], peer.seconds[1:], strict=True)
    ratios = sorted(b / a for a, b in pairs)
    benchmark.extra_info["ratio"] = statistics.median(ratios)
    benchmark.extra_info["ratio_spread"] = [ratios[0], ratios[-1]]
    benchmark.extra_info["peer_median_seconds"] = statistics.median(peer.seconds[1:])
