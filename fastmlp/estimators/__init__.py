"""The estimators: scikit-learn's interface around the engine."""

from fastmlp.estimators.classifier import MLPClassifier
from fastmlp.estimators.regressor import MLPRegressor
from fastmlp.exceptions import InputScaleWarning

__all__ = ["InputScaleWarning", "MLPClassifier", "MLPRegressor"]

# Their public name, which pickles and representations have in them.
MLPClassifier.__module__ = MLPRegressor.__module__ = __name__
