"""Plots of models and their mistakes, in the style of scikit-learn's displays.

A display contains the data of a plot; creating one does not need matplotlib. `plot` draws it, as
do ``from_estimator`` and ``from_predictions``, and stores the figure in ``figure_``. Displays
accept the fitted MLPs of fastmlp and scikit-learn, also as the last step of a pipeline.

As in scikit-learn, a display without `ax` creates a pyplot figure, so that notebooks show it. With
`ax`, pyplot is not used: ``Figure(layout="constrained").subplots()`` is an `ax` for programs
without a screen. A display of several images divides the area of `ax`.
"""

from fastmlp.displays.confusion import ConfusionDisplay, count_confusions
from fastmlp.displays.digits import DigitDisplay
from fastmlp.displays.inputs import as_images
from fastmlp.displays.layout import check_matplotlib
from fastmlp.displays.loss_curve import LossCurveDisplay, kept_epoch
from fastmlp.displays.mistakes import MistakesDisplay
from fastmlp.displays.search import SearchDisplay
from fastmlp.displays.weights import WeightsDisplay

__all__ = [
    "ConfusionDisplay",
    "DigitDisplay",
    "LossCurveDisplay",
    "MistakesDisplay",
    "SearchDisplay",
    "WeightsDisplay",
    "as_images",
    "check_matplotlib",
    "count_confusions",
    "kept_epoch",
]
