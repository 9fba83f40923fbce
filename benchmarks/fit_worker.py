"""A process that holds a data set and one library, and fits whenever it is asked to.

Each library is timed in a process of its own, because thread pools that share a
process disturb each other. The parent writes one JSON object per line to ask
for a fit, and reads one per fit:

    {"library": "fastmlp", "dtype": "float32", "parameters": {...}}   once, the setup
    {}                                                                per fit
"""

import json
import sys
import time
import warnings

import numpy as np


def main():
    answers = sys.stdout
    sys.stdout = sys.stderr
    setup = json.loads(sys.stdin.readline())
    warnings.simplefilter("ignore")
    if setup["library"] == "fastmlp":
        from fastmlp import MLPClassifier
    else:
        from sklearn.neural_network import MLPClassifier
    from fastmlp.datasets import load_mnist

    (X, y), _ = load_mnist()
    if setup["dtype"] != "uint8":
        X = (X / 255).astype(setup["dtype"])
    for _ in sys.stdin:
        model = MLPClassifier(**setup["parameters"])
        start = time.perf_counter()
        model.fit(X, y)
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "losses": np.asarray(model.loss_curve_, float).tolist()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
