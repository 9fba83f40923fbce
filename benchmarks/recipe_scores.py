"""Train a recipe with five random states, and write its scores and seconds.

python benchmarks/recipe_scores.py best benchmarks/results/recipes/best.json
python benchmarks/recipe_scores.py dropout-300 out.json --augment
"""

import json
import sys
import time
import warnings
from pathlib import Path

from fastmlp import MLPClassifier, datasets, recipes


def main(name: str, out: str, *options: str) -> None:
    """Write a row per random state: seconds, and the score of each part of the data."""
    recipe = recipes.get(name)
    warnings.simplefilter("ignore")  # that the last epoch was the last
    (X, y), test = datasets.load(recipe.dataset)
    rows = []
    for seed in range(1, 6):
        parameters = recipe.estimator_parameters("--augment" in options) | {"random_state": seed}
        train, validation = recipe.split(X, y, seed)
        X_val, y_val = validation or (None, None)
        start = time.perf_counter()
        model = MLPClassifier(**parameters).fit(*train, X_val=X_val, y_val=y_val)
        row = {"random_state": seed, "seconds": round(time.perf_counter() - start, 1)}
        parts = {"train": train, "validation": validation, "test": test}
        rows.append(row | {part: model.score(*xy) for part, xy in parts.items() if xy is not None})
    Path(out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
