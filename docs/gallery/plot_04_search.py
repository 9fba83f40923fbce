"""
A search, and what it says of each parameter
============================================

The networks of a search are trained in threads, without copies of the data. Its display shows the
score of every candidate, and how its loss went down.
"""

# %%
from scipy.stats import loguniform

from fastmlp import MLPClassifier
from fastmlp.datasets import load_digits
from fastmlp.displays import SearchDisplay
from fastmlp.model_selection import RandomizedSearchCV

(X, y), _ = load_digits()
network = MLPClassifier(max_iter=25, n_iter_no_change=25, input_scale=1 / 16, random_state=0)
space = {
    "hidden_layer_sizes": [(10,), (30,), (100,)],
    "learning_rate_init": loguniform(1e-4, 1e-1),
    "alpha": loguniform(1e-5, 10),
}
search = RandomizedSearchCV(network, space, n_iter=30, cv=3, random_state=0).fit(X, y)
display = SearchDisplay.from_estimator(search)

# %%
# With learning rates below 0.001, 25 epochs are too few, and so are ten hidden units. The penalty
# matters less.
search.best_params_

# %%
# sphinx_gallery_thumbnail_number = 2
# The losses of the same candidates, colored by their scores.
display = SearchDisplay.from_estimator(search, kind="curves")
