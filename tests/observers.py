"""An observer that calls functions, for tests that look into a fit."""

from fastmlp.training import Observer, observing


class Calling(Observer):
    def __init__(self, on_epoch=None, on_samples=None):
        self._on_epoch, self._on_samples = on_epoch, on_samples

    def samples_done(self, fit, n_samples):
        if self._on_samples is not None:
            self._on_samples(n_samples)

    def epoch_ended(self, fit, report):
        return None if self._on_epoch is None else self._on_epoch(report)


def observed_fit(model, X, y, **functions):
    """Fit a model; `on_epoch` gets the reports, and `on_samples` the samples that are done."""
    with observing(Calling(**functions)):
        return model.fit(X, y)
