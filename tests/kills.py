"""Kill the training of every recipe, and a search, at random moments: is the result the same?

    python tests/kills.py                        # 100 kills of every recipe, some ten minutes each
    python tests/kills.py --kills 20 sgd-50 best search

A checkpoint is written after every epoch; that of a search at most for a hundredth of its time.
Each process that is killed has begun with the file that the one before has left; what counts are
the weights, losses and scores in the end.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fastmlp import recipes

TRAIN = """
import hashlib, sys, warnings
from fastmlp import Checkpoint, MLPClassifier, recipes
from fastmlp.datasets import load

warnings.simplefilter("ignore")
name, checkpoint = sys.argv[1:]
recipe = recipes.get(name)
(X, y), _ = load(recipe.dataset)
parameters = recipe.estimator_parameters()
parameters["max_iter"] = min(parameters.get("max_iter", 200), 30)
(X, y), validation = recipe.split(X, y, parameters["random_state"])
X_val, y_val = validation or (None, None)
print("begins", flush=True)
model = MLPClassifier(**parameters)
model.fit(X, y, X_val=X_val, y_val=y_val, checkpoint=Checkpoint(checkpoint, every=1))
model.history_.pop("seconds")
found = hashlib.sha256(repr(model.history_).encode())
for array in (*model.coefs_, *model.intercepts_):
    found.update(array.tobytes())
print(found.hexdigest())
"""

SEARCH = """
import hashlib, sys, warnings
from fastmlp import MLPClassifier
from fastmlp.datasets import load_mnist
from fastmlp.model_selection import GridSearchCV

warnings.simplefilter("ignore")
_, checkpoint = sys.argv[1:]
(X, y), _ = load_mnist()
X, y = X[:6000], y[:6000]
network = MLPClassifier(max_iter=10, random_state=0, input_scale=1 / 255)
grid = {"hidden_layer_sizes": [20, 50, (40, 20)], "alpha": [1e-4, 0.1], "dropout": [0, 0.3]}
print("begins", flush=True)
search = GridSearchCV(network, grid, cv=3).fit(X, y, checkpoint=checkpoint)
results = {k: v for k, v in search.cv_results_.items() if "time" not in k}
found = hashlib.sha256(repr(results).encode())
for key in sorted(k for k in results if k.startswith("split")):
    found.update(results[key].tobytes())
for array in search.best_estimator_.coefs_:
    found.update(array.tobytes())
print(found.hexdigest())
"""


def run(name, folder):
    """Start training a recipe in a new process."""
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            SEARCH if name == "search" else TRAIN,
            name,
            str(folder / "run.ckpt"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def finished(name, folder):
    """Train a recipe to the end; return a digest of the result, and the seconds of its training."""
    with run(name, folder) as process:
        process.stdout.readline()
        begun = time.monotonic()
        found = process.stdout.read()
    assert process.returncode == 0
    return found, time.monotonic() - begun


def check(name, kills, seed):
    """Return how many times the result was that of an undisturbed run, and how many it was made."""
    draw = random.Random(seed)
    n_equal = n_results = n_killed = 0
    with tempfile.TemporaryDirectory() as undisturbed:
        expected, seconds = finished(name, Path(undisturbed))
    while n_killed < kills:
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(min(10, kills - n_killed)):  # then to the end, and anew
                with run(name, Path(folder)) as process:
                    if draw.random() < 0.9:  # else while it imports and loads
                        process.stdout.readline()
                    time.sleep(draw.uniform(0, seconds / 5))
                    process.kill()
                n_killed += process.returncode == -signal.SIGKILL
            found, _ = finished(name, Path(folder))
            n_results += 1
            n_equal += found == expected
            left = {path.name for path in Path(folder).iterdir()}
            assert left == {"run.ckpt"}, left
    text = f"{name}: {n_killed} kills, {n_equal} of {n_results} results equal\n"
    sys.stdout.write(text)
    sys.stdout.flush()
    return n_equal == n_results


def main():
    """Parse the arguments and check the recipes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipes", nargs="*", default=[*recipes.RECIPES, "search"])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    results = [check(name, arguments.kills, arguments.seed) for name in arguments.recipes]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
