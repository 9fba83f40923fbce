"""
Which classes are confused, and which samples
=============================================

A score is one number. These displays show what it consists of.
"""

# %%
from fastmlp import MLPClassifier
from fastmlp.datasets import load_digits
from fastmlp.displays import ConfusionDisplay, MistakesDisplay

(X, y), (X_test, y_test) = load_digits()
model = MLPClassifier((50,), max_iter=60, input_scale=1 / 16, random_state=0).fit(X, y)
print(f"accuracy {model.score(X_test, y_test):.3f}")

# %%
# Colors compare the mistakes; correct predictions are gray.
display = ConfusionDisplay.from_estimator(model, X_test, y_test)

# %%
# The most frequent pairs are available as a list: true class, predicted class, count.
display.pairs_[:3]

# %%
# The mistakes with the highest confidence. Some of these digits are hard to read for people, too.
display = MistakesDisplay.from_estimator(model, X_test, y_test, n=18)
