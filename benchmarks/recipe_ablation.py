"""What each ingredient of the recipe "record" gives, on 10 000 held-out images of MNIST.

    python benchmarks/recipe_ablation.py benchmarks/results/recipes/record_ablation.jsonl
    python benchmarks/recipe_ablation.py benchmarks/results/recipes/record_ablation.jsonl --show

Each step keeps what the steps before it have added. The networks are trained on the first 50 000
training images; mistakes and log loss are those on the last 10 000, of the network alone and
averaged over augmented copies. The test images are not used. A line per step and random state is
appended to the file, and finished ones are skipped. `--show` prints the table as Markdown, with the
means over random states.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from fastmlp import MLPClassifier, TTAClassifier, recipes
from fastmlp.augment import RandomAffine, RandomDeskew
from fastmlp.datasets import load_mnist

N_COPIES = recipes.get("record").n_copies
_BEST, _RECORD = (recipes.get(name).estimator_parameters() for name in ("best", "record"))
_AFFINE = RandomAffine(**recipes.get("best").augmentation["RandomAffine"])

#: What each step adds to the one before it.
STEPS: dict[str, dict[str, Any]] = {
    "800 and 400 units, 40 epochs": _BEST | {"augment": None, "max_iter": 40},
    "affine maps": {"augment": _AFFINE},
    "elastic distortions": {"augment": _BEST["augment"]},
    "straightening": {"augment": RandomDeskew() + _BEST["augment"]},
    "gradient descent with momentum instead of Adam": {
        name: _RECORD[name] for name in ("solver", "learning_rate_init", "batch_size")
    },
    "stronger distortions, smaller shifts": {"augment": _RECORD["augment"]},
    "1200, 800 and 400 units": {"hidden_layer_sizes": _RECORD["hidden_layer_sizes"]},
    "80 epochs": {"max_iter": 80},
    "270 epochs: the recipe record": _RECORD,
}


def measured(step: str, state: int, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what a network gives."""
    (X, y), _ = load_mnist()
    train, held_out = (X[:50_000], y[:50_000]), (X[50_000:], y[50_000:])
    start = time.perf_counter()
    fixed = {"n_iter_no_change": 1000, "random_state": state}
    network = MLPClassifier(**parameters | fixed).fit(*train)
    seconds = round(time.perf_counter() - start)
    models = {"alone": network}
    if network.augment is not None:
        frozen = FrozenEstimator(network)
        models["averaged"] = TTAClassifier(frozen, n_copies=N_COPIES).fit(*train)
    row: dict[str, Any] = {"step": step, "random_state": state, "seconds": seconds}
    row["loss"] = round(network.loss_, 4)
    for kind, model in models.items():
        probabilities = model.predict_proba(held_out[0]).astype(float)
        mistakes = int(np.count_nonzero(probabilities.argmax(axis=1) != held_out[1]))
        row[kind] = [mistakes, round(log_loss(held_out[1], probabilities), 4)]
    return row


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print("| added | networks | mistakes | log loss | averaged: mistakes | log loss | s |")
    print("|---|---|---|---|---|---|---|")
    for step in STEPS:
        of_step = [row for row in rows if row["step"] == step]
        if not of_step:
            continue
        alone = np.mean([row["alone"] for row in of_step], axis=0)
        averaged = np.mean([row.get("averaged", [np.nan, np.nan]) for row in of_step], axis=0)
        cells = [f"{alone[0]:g}", f"{alone[1]:.4f}", f"{averaged[0]:g}", f"{averaged[1]:.4f}"]
        seconds = f"{np.mean([row['seconds'] for row in of_step]):.0f}"
        print(f"| {' | '.join([step, str(len(of_step)), *cells, seconds])} |".replace("nan", ""))


def main() -> None:
    """Measure the steps that are not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--states", type=int, default=1, help="random states (default 1)")
    parser.add_argument("--show", action="store_true", help="print the table")
    options = parser.parse_args()
    lines = options.file.read_text().splitlines() if options.file.exists() else []
    rows = [json.loads(line) for line in lines]
    if options.show:
        show(rows)
        return
    warnings.simplefilter("ignore")  # that the last epoch was the last
    done = {(row["step"], row["random_state"]) for row in rows}
    for state in range(1, options.states + 1):
        parameters: dict[str, Any] = {}
        for step, added in STEPS.items():
            parameters |= added
            if (step, state) not in done:
                row = measured(step, state, parameters)
                print(json.dumps(row), flush=True)
                with options.file.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
