"""
An ensemble, and where its networks differ
==========================================

Networks with different random states agree where there are data, and differ elsewhere.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from fastmlp import MLPEnsemble, MLPRegressor

rng = np.random.default_rng(1)
x = np.concatenate([rng.uniform(-3, -0.8, 60), rng.uniform(0.7, 2.6, 60)])
y = np.sin(2 * x) + 0.3 * x + rng.normal(0, 0.1, len(x))

network = MLPRegressor(
    hidden_layer_sizes=(30, 30), activation="tanh", solver="lbfgs", alpha=1e-3,
    max_iter=200, tol=1e-3, target_scale="standard",
)  # fmt: skip
ensemble = MLPEnsemble(network, 8, random_state=0).fit(x[:, None], y)

grid = np.linspace(-4, 4, 300)
mean, std = ensemble.predict(grid[:, None], return_std=True)

figure, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
for single in ensemble.estimators_:
    ax.plot(grid, single.predict(grid[:, None]), color="C0", alpha=0.25, linewidth=1)
ax.fill_between(grid, mean - 2 * std, mean + 2 * std, color="C0", alpha=0.15, label="2 std")
ax.plot(grid, mean, color="C0", linewidth=2, label="ensemble")
ax.plot(x, y, ".", color="C1", label="training data")
ax.set(xlabel="x", ylabel="y", ylim=(-3.5, 3.5))
ax.legend(loc="upper left")

# %%
# The standard deviation is that of the networks. It hints at inputs unlike the training data, and
# is not a confidence interval: it knows nothing of the noise of the targets.
