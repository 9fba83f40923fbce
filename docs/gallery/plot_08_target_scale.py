"""
Targets far from unit scale
===========================

A network starts with outputs near zero. If targets are in the hundreds, most of the training goes
into getting there. ``target_scale="standard"`` scales them inside the model, and ``predict``
returns the original unit.
"""

# %%
import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.metrics import PredictionErrorDisplay
from sklearn.model_selection import train_test_split

from fastmlp import MLPRegressor
from fastmlp.exceptions import FastMLPWarning

X, y = load_diabetes(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, random_state=0)

models = {}
for target_scale in (None, "standard"):
    model = MLPRegressor(
        hidden_layer_sizes=(50,), max_iter=100, input_scale="standard",
        target_scale=target_scale, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        models[target_scale] = model.fit(X, y)
    print(f"{target_scale}: R² {model.score(X_test, y_test):.2f}")
    for warning in caught:
        if issubclass(warning.category, FastMLPWarning):
            print(f"{warning.category.__name__}: {warning.message}")

# %%
# fastmlp warns of it before training. The same 100 epochs, with and without:
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for ax, (target_scale, model) in zip(axes, models.items(), strict=True):
    PredictionErrorDisplay.from_estimator(
        model, X_test, y_test, kind="actual_vs_predicted", ax=ax, scatter_kwargs={"alpha": 0.6}
    )
    ax.set_title(f"target_scale={target_scale!r}")
