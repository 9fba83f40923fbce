"""Observers: what they are told of which fits, how they end them, and what Ctrl-C does."""

import threading

import numpy as np
import pytest
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score

from fastmlp import MLPClassifier, MLPRegressor, backends
from fastmlp.training import Observation, Observer, Outcome, observing

X = np.random.RandomState(0).standard_normal((60, 4))
Y = (X[:, 0] > 0).astype(int)


class Record(Observer):
    """Writes down what it is told; ends fits after an epoch, or raises in it."""

    def __init__(self, last=None, raised=None):
        self.told, self.outcomes, self.reports = [], [], []
        self._last, self._raised = last, raised

    def fit_began(self, fit):
        self.fit = fit
        self.told.append("began")

    def epoch_ended(self, fit, report):
        assert fit is self.fit
        self.told.append(report.epoch)
        self.reports.append(report)
        if report.epoch == self._last and self._raised is not None:
            raise self._raised
        return report.epoch == self._last

    def fit_ended(self, fit, outcome):
        assert fit is self.fit
        self.told.append("ended")
        self.outcomes.append(outcome)


class Keeping(Record):
    """Has Ctrl-C end one fit, and ends those that follow by itself."""

    handles_interrupts = True

    def epoch_ended(self, fit, report):
        return super().epoch_ended(fit, report) or any(o.interrupted for o in self.outcomes)


def model(solver="adam", **parameters):
    return MLPClassifier(
        (3,), solver=solver, max_iter=9, tol=0, random_state=0, n_threads=1, **parameters
    )


def test_what_is_told_of_a_fit():
    with observing(Record(last=3)) as record:
        fitted = model(early_stopping=True).fit(X.astype(np.float32), Y)
    assert record.told == ["began", 1, 2, 3, "ended"]
    fit, outcome = record.fit, record.outcomes[0]
    assert fit.model is fitted
    assert (fit.method, fit.backend, fit.dtype) == ("fit", backends.resolve(), "float32")
    assert (fit.shape, fit.n_samples, fit.max_iter) == ((60, 4), 54, 9)
    assert outcome.n_iter == fitted.n_iter_ == 3
    assert outcome.seconds >= sum(report.seconds for report in record.reports)
    assert not outcome.interrupted and outcome.error is None
    assert [report.training_score for report in record.reports] == [None] * 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_partial_fit(solver):
    regressor = MLPRegressor(solver=solver, max_iter=2, random_state=0, backend="numpy")
    with observing(Record()) as record:
        regressor.partial_fit(X.tolist(), Y)
    assert (record.fit.method, record.fit.backend) == ("partial_fit", "numpy")
    # As in scikit-learn, L-BFGS then runs in full.
    assert record.fit.max_iter == record.outcomes[0].n_iter == (2 if solver == "lbfgs" else 1)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.filterwarnings("error")
def test_each_of_several_observers_is_told_and_may_end_the_fit(solver):
    with observing(Record()) as outer, observing(Record(last=2)) as inner:
        fitted = model(solver).fit(X, Y)
    assert outer.told == inner.told == ["began", 1, 2, "ended"]
    assert fitted.n_iter_ == 2


def test_only_fits_within_are_told():
    record = Record(last=1)
    model().set_params(max_iter=1, lr_schedule="linear").fit(X, Y)
    with observing(record):
        model().fit(X, Y)
    model().set_params(max_iter=1, lr_schedule="linear").fit(X, Y)
    assert record.told == ["began", 1, "ended"]


def test_other_threads_are_told_only_if_they_are_asked_for():
    def fit():
        model().set_params(max_iter=1, lr_schedule="linear").fit(X, Y)

    with observing(Record()) as own, observing(Record(), everywhere=True) as all_of_them:
        fit()
        thread = threading.Thread(target=fit)
        thread.start()
        thread.join()
    assert own.told == ["began", 1, "ended"]
    assert all_of_them.told == 2 * own.told
    fit()
    assert all_of_them.told == 2 * own.told


def test_training_scores_come_if_one_of_the_observers_wants_them():
    wanting = Record(last=2)
    wanting.wants_training_score = True
    with observing(Record()) as other, observing(wanting):
        fitted = model().fit(X, Y)
    assert other.reports == wanting.reports
    assert other.reports[-1].training_score == fitted.score(X, Y)


def test_nothing_is_called_within_an_epoch_if_nobody_listens():
    class Listening(Observer):
        def samples_done(self, fit, n_samples):
            raise NotImplementedError

    for observer, expected in ((Record(), False), (Listening(), True)):
        with observing(observer):
            assert (Observation().on_samples is not None) == expected
    assert Observation().on_samples is None


def test_a_fit_that_is_refused_never_began():
    with observing(Record()) as record, pytest.raises(ValueError, match="alpha"):
        model(alpha=-1).fit(X, Y)
    assert not record.told


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_errors_are_told():
    rates = {"learning_rate_init": 1e9, "max_iter": 9}
    diverging = MLPRegressor(activation="identity", solver="sgd", **rates)
    with observing(Record()) as record, np.errstate(all="ignore"):
        with pytest.raises(ValueError, match="non-finite") as diverged:
            diverging.fit(X, Y)
    assert record.outcomes[0].error is diverged.value
    assert record.outcomes[0].n_iter > 0

    error = ZeroDivisionError()
    with observing(Record()) as other, observing(Record(last=2, raised=error)) as record:
        with pytest.raises(ZeroDivisionError):
            fitted = model()
            fitted.fit(X, Y)
    assert other.outcomes[0].error is record.outcomes[0].error is error
    assert not record.outcomes[0].interrupted
    assert fitted.n_iter_ == record.outcomes[0].n_iter == 2


def test_who_began_also_ends_if_the_next_observer_fails():
    class Failing(Observer):
        def fit_began(self, fit):
            raise ZeroDivisionError

    with observing(Record()) as record, observing(Failing()):
        with pytest.raises(ZeroDivisionError):
            model().fit(X, Y)
    assert record.told == ["began", "ended"]


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
class TestInterrupt:
    @staticmethod
    def ends(record):
        return [
            (outcome.n_iter, outcome.interrupted, type(outcome.error))
            for outcome in record.outcomes
        ]

    def test_of_a_fit(self, solver):
        with observing(Record(last=2, raised=KeyboardInterrupt())) as record:
            with pytest.warns(UserWarning, match=r"^Training interrupted by user\.$"):
                model(solver).fit(X, Y)
        assert self.ends(record) == [(2, True, type(None))]

    def test_of_a_search(self, solver):
        """It ends all of it, as if nobody observed."""
        with observing(Record(last=2, raised=KeyboardInterrupt())) as record:
            with pytest.raises(KeyboardInterrupt):
                cross_val_score(model(solver), X, Y)
        assert self.ends(record) == [(2, True, KeyboardInterrupt)]

    def test_of_an_ensemble_whose_observer_handles_it(self, solver):
        ensemble = BaggingClassifier(model(solver), n_estimators=3, random_state=0)
        with observing(Keeping(last=2, raised=KeyboardInterrupt())) as record:
            with pytest.warns(UserWarning, match="Training interrupted by user"):
                ensemble.fit(X, Y)
        nothing = type(None)
        assert self.ends(record) == [(2, True, nothing), (1, False, nothing), (1, False, nothing)]
        assert [member.n_iter_ for member in ensemble.estimators_] == [2, 1, 1]


def test_an_observer_must_be_one():
    with pytest.raises(TypeError, match=r"of Observer, got Record; pass Record\(\)\.$"):
        with observing(Record):
            raise AssertionError
    with pytest.raises(TypeError, match=r"got function; derive it from Observer\.$"):
        with observing(lambda report: None):
            raise AssertionError


def test_the_methods_of_the_base_do_nothing():
    with observing(Observer()), pytest.warns(ConvergenceWarning):
        assert model().fit(X, Y).n_iter_ == 9
    assert Observer().samples_done(None, 1) is None
    assert Observer().fit_ended(None, Outcome(1, 0.0, False, None)) is None
