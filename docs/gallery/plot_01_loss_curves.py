"""
The same losses as scikit-learn, in less time
=============================================

The same network is trained by scikit-learn and by fastmlp. In float64, the losses of all epochs
must agree, up to the order in which numbers are added.
"""

# %%
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier

from fastmlp import MLPClassifier

X, y = load_digits(return_X_y=True)
X = X / 16

estimators = {"scikit-learn": SklearnMLPClassifier, "fastmlp": MLPClassifier}
models, seconds = {}, dict.fromkeys(estimators, float("inf"))
for _ in range(2):  # in alternation; the shortest time counts
    for name, estimator in estimators.items():
        model = estimator(
            (50,), solver="sgd", learning_rate_init=0.1, max_iter=20, tol=0, random_state=0
        )
        start = perf_counter()
        models[name] = model.fit(X, y)
        seconds[name] = min(seconds[name], perf_counter() - start)

np.testing.assert_allclose(
    models["fastmlp"].loss_curve_, models["scikit-learn"].loss_curve_, rtol=1e-6
)
print("The losses are equal.")

# %%
# The curves lie on each other if they are drawn over epochs. Over seconds, they do not.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
styles = {"scikit-learn": {"lw": 6, "alpha": 0.35, "color": "C1"}, "fastmlp": {"color": "C0"}}
for name, model in models.items():
    n = model.n_iter_
    axes[0].plot(np.arange(1, n + 1), model.loss_curve_, label=name, **styles[name])
    times = seconds[name] * np.arange(1, n + 1) / n
    axes[1].plot(times, model.loss_curve_, label=f"{name}, {seconds[name]:.2f} s", **styles[name])
axes[0].set(xlabel="epoch", ylabel="loss", yscale="log")
axes[1].set(xlabel="seconds")
for ax in axes:
    ax.legend()

# %%
# This is one short run on the machine that made these pages, where other programs may have run.
# Ratios to rely on are in the :doc:`benchmarks </benchmarks>`.
