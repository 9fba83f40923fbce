"""
Early stopping keeps the best weights
=====================================

A network that is large for its data learns them by heart: the training loss falls, and the
validation loss rises. With ``early_stopping``, training ends when the score on validation data no
longer improves, and the best weights are kept.
"""

# %%
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from fastmlp import MLPRegressor
from fastmlp.displays import LossCurveDisplay

X, y = load_diabetes(return_X_y=True)
X, X_val, y, y_val = train_test_split(X, y, test_size=0.4, random_state=0)

network = MLPRegressor(
    hidden_layer_sizes=(200, 200), max_iter=100, n_iter_no_change=100, learning_rate_init=3e-4,
    input_scale="standard", target_scale="standard", random_state=0,
)  # fmt: skip
network.fit(X, y, X_val=X_val, y_val=y_val)
display = LossCurveDisplay.from_estimator(network)

# %%
# Without ``early_stopping``, validation data are only recorded. With it, they decide.
network.set_params(early_stopping=True, n_iter_no_change=10)
network.fit(X, y, X_val=X_val, y_val=y_val)
display = LossCurveDisplay.from_estimator(network)

# %%
# This score has chosen the epoch, so it is a little too good. A third part of the data would say
# how the network does on new samples.
print(f"{network.n_iter_} epochs, best validation score {network.best_validation_score_:.2f}")
