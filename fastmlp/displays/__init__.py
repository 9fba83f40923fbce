"""Pictures of models and of what they get wrong, in the style of scikit-learn's displays.

A display holds what is to be seen; making one needs no matplotlib. `plot` draws it, as
``from_estimator`` and ``from_predictions`` do at once, and leaves the figure in ``figure_``. All
displays take the fitted MLPs of fastmlp and of scikit-learn, also as the last step of a pipeline.

Like scikit-learn's, a display without `ax` opens a figure of pyplot's, so that a notebook shows it.
With `ax`, pyplot is not touched: ``Figure(layout="constrained").subplots()`` is an `ax` for
programs without a screen. A display of several images divides the place that `ax` has in its grid.
"""

from fastmlp.displays.confusion import ConfusionDisplay, count_confusions
from fastmlp.displays.digits import DigitDisplay
from fastmlp.displays.inputs import as_images
from fastmlp.displays.layout import check_matplotlib
from fastmlp.displays.loss_curve import LossCurveDisplay, kept_epoch
from fastmlp.displays.mistakes import MistakesDisplay
from fastmlp.displays.weights import WeightsDisplay

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
