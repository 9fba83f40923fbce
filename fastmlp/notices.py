"""The warnings that fastmlp has of its own, and how they point at the user's line."""

import sys
import warnings


class FastMLPWarning(UserWarning):
    """Something that scikit-learn would not warn about; the base of all such warnings."""


class InputScaleWarning(FastMLPWarning):
    """The features span far more than unit scale, on which these networks train badly."""


class TargetScaleWarning(FastMLPWarning):
    """The targets of a regression are far from unit scale, which takes too long to learn."""


class NegativeWeightWarning(FastMLPWarning):
    """Some samples have negative weights."""


class WarmStartWarning(FastMLPWarning):
    """A parameter was changed that a warm start does not heed."""


class OneHotLabelsWarning(FastMLPWarning):
    """The labels look like one class per sample, one-hot encoded, but mean several labels."""


class IneffectiveParameterWarning(FastMLPWarning):
    """Parameters were set that the chosen solver does not heed."""


class ConstantFeatureWarning(FastMLPWarning):
    """Features that never change were to be standardised; they teach nothing."""


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, naming the line outside fastmlp and scikit-learn that led here."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in (
        "fastmlp",
        "sklearn",
        "contextlib",
        "joblib",
        "scipy",
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
