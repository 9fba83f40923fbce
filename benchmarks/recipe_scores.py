"""Train a recipe with several random states, and write its scores and seconds.

    python benchmarks/recipe_scores.py best benchmarks/results/recipes/best.json
    python benchmarks/recipe_scores.py dropout-300 out.json --augment
    python benchmarks/recipe_scores.py record out.json --states 3 --data fashion

The file is rewritten after each random state, and a run goes on where it stopped. For recipes with
test-time augmentation, "averaged" is the accuracy over the augmented copies of the test images, and
the seconds are with them.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

from sklearn.frozen import FrozenEstimator

from fastmlp import MLPClassifier, TTAClassifier, datasets, recipes


def row(recipe: recipes.Recipe, data: str, augment: bool, seed: int) -> dict[str, float]:
    """Return seconds, and the score of each part of the data."""
    (X, y), test = datasets.load(data)
    parameters = recipe.estimator_parameters(augment) | {"random_state": seed}
    train, validation = recipe.split(X, y, seed)
    X_val, y_val = validation or (None, None)
    start = time.perf_counter()
    model = MLPClassifier(**parameters).fit(*train, X_val=X_val, y_val=y_val)
    averaged = {}
    if recipe.n_copies:
        copies = TTAClassifier(FrozenEstimator(model), n_copies=recipe.n_copies).fit(*train)
        averaged = {"averaged": copies.score(*test)}
    seconds = round(time.perf_counter() - start, 1)
    parts = {"train": train, "validation": validation, "test": test}
    scores = {part: model.score(*xy) for part, xy in parts.items() if xy is not None}
    return {"random_state": seed, "seconds": seconds, **scores, **averaged}


def main() -> None:
    """Write a row per random state."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=recipes.RECIPES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--augment", action="store_true")
    parser.add_argument("--data", help="a data set instead of the recipe's")
    parser.add_argument("--states", type=int, default=5, help="random states 1, 2, ... (default 5)")
    options = parser.parse_args()
    recipe = recipes.get(options.recipe)
    data = options.data or recipe.dataset
    warnings.simplefilter("ignore")  # that the last epoch was the last
    rows = json.loads(options.out.read_text()) if options.out.exists() else []
    for seed in range(len(rows) + 1, options.states + 1):
        rows.append(row(recipe, data, options.augment, seed))
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
        print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
