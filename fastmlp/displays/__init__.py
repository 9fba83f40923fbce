"""Pictures of models and of what they get wrong, in the style of scikit-learn's displays."""

from fastmlp.displays.displays import (
    ConfusionDisplay,
    DigitDisplay,
    LossCurveDisplay,
    MistakesDisplay,
    WeightsDisplay,
    as_images,
    check_matplotlib,
    count_confusions,
    kept_epoch,
)

__all__ = [
    "ConfusionDisplay",
    "DigitDisplay",
    "LossCurveDisplay",
    "MistakesDisplay",
    "WeightsDisplay",
    "as_images",
    "check_matplotlib",
    "count_confusions",
    "kept_epoch",
]
