"""
What the first layer looks for
==============================

The weights of a hidden unit have the shape of the image. White is positive, black negative.
"""

# %%
from fastmlp import MLPClassifier
from fastmlp.datasets import load_digits
from fastmlp.displays import WeightsDisplay

(X, y), (X_test, y_test) = load_digits()  # 8 x 8 pixels, bytes from 0 to 16
model = MLPClassifier((30,), alpha=1.0, max_iter=60, input_scale=1 / 16, random_state=0)
model.fit(X, y)
display = WeightsDisplay.from_estimator(model, n=30)

# %%
# That was a strong penalty, which makes smoother images. With little, pixels that are almost always
# 0 keep their random initial weights.
model.set_params(alpha=1e-4).fit(X, y)
display = WeightsDisplay.from_estimator(model, n=30, cmap="RdBu_r")
