"""The estimators: scikit-learn's interface around the engine."""

from fastmlp.estimators.classifier import MLPClassifier
from fastmlp.estimators.ensemble import MLPEnsemble
from fastmlp.estimators.regressor import MLPRegressor
from fastmlp.estimators.tta import TTAClassifier
from fastmlp.exceptions import InputScaleWarning

__all__ = ["InputScaleWarning", "MLPClassifier", "MLPEnsemble", "MLPRegressor", "TTAClassifier"]

# The public module name, which is part of pickles and reprs.
MLPClassifier.__module__ = MLPRegressor.__module__ = MLPEnsemble.__module__ = __name__
TTAClassifier.__module__ = __name__
