"""
Activation functions, and the boundaries they draw
==================================================

``"leaky_relu"``, ``"gelu"`` and ``"silu"`` come in addition to scikit-learn's.
"""

# %%
import matplotlib.pyplot as plt
from sklearn.datasets import make_moons
from sklearn.inspection import DecisionBoundaryDisplay

from fastmlp import MLPClassifier

X, y = make_moons(200, noise=0.25, random_state=0)
figure, axes = plt.subplots(2, 3, figsize=(9, 5.6), layout="constrained")
for ax, activation in zip(
    axes.flat, ["identity", "logistic", "tanh", "relu", "gelu", "silu"], strict=True
):
    model = MLPClassifier(
        (20, 20), activation=activation, solver="lbfgs", alpha=0.1, max_iter=200, random_state=1
    ).fit(X, y)
    DecisionBoundaryDisplay.from_estimator(
        model, X, response_method="predict_proba", plot_method="pcolormesh", cmap="RdBu",
        vmin=0, vmax=1, alpha=0.8, ax=ax, eps=0.3, grid_resolution=100,
    )  # fmt: skip
    ax.scatter(*X.T, c=y, cmap="RdBu", s=14, edgecolor="k", linewidth=0.4)
    ax.set(title=f"{activation}, {model.score(X, y):.3f}", xticks=[], yticks=[])
