"""Train on MNIST, and draw the README's pictures: python docs/make_pictures.py."""

from pathlib import Path

import matplotlib
import numpy as np
from scipy.stats import loguniform

from fastmlp import MLPClassifier, recipes
from fastmlp.datasets import load_mnist
from fastmlp.displays import (
    DigitDisplay,
    LossCurveDisplay,
    MistakesDisplay,
    SearchDisplay,
    WeightsDisplay,
)
from fastmlp.model_selection import RandomizedSearchCV

HERE = Path(__file__).parent


def main() -> None:
    """Write the pictures beside this file."""
    matplotlib.use("agg")  # no window
    (X, y), (X_test, y_test) = load_mnist()
    # The recipe sgd-50. Validation data are for the curve only.
    model = MLPClassifier(
        (50,),
        solver="sgd",
        learning_rate_init=0.1,
        max_iter=10,
        random_state=1,
        input_scale=1 / 255,
    )
    model.fit(X, y, X_val=X_test, y_val=y_test)
    network = MLPClassifier(max_iter=12, n_iter_no_change=12, random_state=0, input_scale=1 / 255)
    space = {
        "hidden_layer_sizes": [(20,), (50,), (100,), (200,)],
        "learning_rate_init": loguniform(1e-4, 1e-1),
        "alpha": loguniform(1e-6, 1),
    }
    search = RandomizedSearchCV(network, space, n_iter=24, cv=3, refit=False, random_state=0)
    search.fit(X[:10_000], y[:10_000])
    # One 4 and what the recipe best makes of it in 15 epochs.
    augment = recipes.get("best").estimator_parameters()["augment"]
    digit = X[2:3]
    epochs = [augment(digit, seed=1, epoch=epoch) for epoch in range(1, 16)]
    titles = ["original", *(f"epoch {epoch}" for epoch in range(1, 16))]
    displays = {
        "augmented": DigitDisplay(np.concatenate([digit, *epochs]), titles).plot(),
        "weights": WeightsDisplay.from_estimator(model),
        "loss_curve": LossCurveDisplay.from_estimator(model),
        "search": SearchDisplay.from_estimator(search),
        "search_curves": SearchDisplay.from_estimator(search, kind="curves"),
        "mistakes": MistakesDisplay.from_estimator(model, X_test, y_test, n=16),
    }
    for name, display in displays.items():
        display.figure_.savefig(HERE / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
