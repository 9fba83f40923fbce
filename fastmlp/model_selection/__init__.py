"""Searches and cross-validation of networks: scikit-learn's names and results, sooner.

Every class and function is scikit-learn's own of the same name, on its public interfaces; only the
fits are done in another way, see `GridSearchCV`.
"""

from fastmlp.model_selection.searches import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
)
from fastmlp.model_selection.validation import (
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)

__all__ = [
    "GridSearchCV",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "RandomizedSearchCV",
    "cross_val_predict",
    "cross_val_score",
    "cross_validate",
    "learning_curve",
    "validation_curve",
]
