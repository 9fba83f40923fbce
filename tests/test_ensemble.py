"""MLPEnsemble: the mean of networks that differ in their random states, bit for bit."""

import pickle
import signal
import sys
import threading
import time

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp
from fastmlp import MLPClassifier, MLPEnsemble, MLPRegressor
from fastmlp.estimators import base
from fastmlp.exceptions import InterruptedWarning
from fastmlp.training import Observer, observing

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastmlp.exceptions.ConstantFeatureWarning"),
]

X, Y = load_digits(return_X_y=True)
X, Y = X[:300] / 16, Y[:300]
WEIGHTS = np.linspace(0.5, 2, len(X))
TARGETS = {
    "classes": Y.astype(str),
    "two classes": Y > 4,
    "labels": np.column_stack([Y > 4, Y % 2]).astype(int),
    "numbers": np.sqrt(Y),
    "columns": np.column_stack([Y, Y % 3]) / 3,
}


def network(target="classes", **parameters):
    cls = MLPRegressor if target in ("numbers", "columns") else MLPClassifier
    return cls(**{"hidden_layer_sizes": (9,), "max_iter": 4, **parameters})


def ensemble(target="classes", n_estimators=3, **parameters):
    return MLPEnsemble(network(target, **parameters), n_estimators, random_state=0)


def alone(model, X, y, **options):
    """Return the networks of an ensemble, each fitted by itself."""
    generator = np.random.RandomState(model.random_state)
    fitted = []
    for _ in range(model.n_estimators):
        seed = generator.randint(np.iinfo(np.int32).max)
        fitted.append(clone(model.estimator).set_params(random_state=seed).fit(X, y, **options))
    return fitted


def mean(outputs):
    return sum(outputs[1:], start=outputs[0]) / len(outputs)


@parametrize_with_checks(
    [MLPEnsemble(MLPClassifier(), 2), MLPEnsemble(MLPRegressor(), 2), MLPEnsemble()]
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


class TestMeans:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    @pytest.mark.parametrize("target", TARGETS)
    def test_same_bits_as_by_hand(self, target, dtype, weighted):
        data, y = X.astype(dtype), TARGETS[target]
        options = {"sample_weight": WEIGHTS} if weighted else {}
        model = ensemble(target).fit(data, y, **options)
        networks = alone(model, data, y, **options)
        if target in ("numbers", "columns"):
            outputs = [one.predict(data) for one in networks]
            expected, std = mean(outputs), np.std(outputs, axis=0)
            got, spread = model.predict(data, return_std=True)
            np.testing.assert_array_equal(got, expected)
            np.testing.assert_array_equal(spread, std)
            assert spread.shape == y.shape and spread.dtype == got.dtype == dtype
            assert spread.min() >= 0 and spread.max() > 0
        else:
            probabilities = mean([one.predict_proba(data) for one in networks])
            got = model.predict_proba(data)
            np.testing.assert_array_equal(got, probabilities)
            assert got.dtype == dtype
            np.testing.assert_array_equal(model.predict_log_proba(data), np.log(probabilities))
            if target == "labels":
                expected = (probabilities > 0.5).astype(int)
            else:
                expected = model.classes_[probabilities.argmax(axis=1)]
        np.testing.assert_array_equal(model.predict(data), expected)
        metric = r2_score if target in ("numbers", "columns") else accuracy_score
        assert model.score(data, y) == metric(y, expected)
        assert model.score(data, y, WEIGHTS) == metric(y, expected, sample_weight=WEIGHTS)

    @pytest.mark.parametrize("n_jobs", [1, 2, -1])
    def test_the_result_does_not_depend_on_n_jobs(self, n_jobs):
        expected = ensemble().fit(X, Y).predict_proba(X)
        got = ensemble().set_params(n_jobs=n_jobs).fit(X, Y).predict_proba(X)
        np.testing.assert_array_equal(got, expected)

    @pytest.mark.parametrize("form", ["sparse", "bytes", "list"])
    def test_other_inputs(self, form):
        data = {"sparse": csr_matrix(X), "bytes": (16 * X).astype(np.uint8), "list": X.tolist()}
        model = ensemble(input_scale=1 / 2).fit(data[form], Y)
        expected = mean([one.predict_proba(data[form]) for one in alone(model, data[form], Y)])
        np.testing.assert_array_equal(model.predict_proba(data[form]), expected)

    def test_frames(self):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
        model = ensemble().fit(frame, Y)
        assert model.feature_names_in_[3] == "pixel 3" and model.n_features_in_ == 64
        np.testing.assert_array_equal(
            model.predict(frame), ensemble().fit(X, Y).predict(frame.to_numpy())
        )
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(frame.rename(columns={"pixel 3": "pixel three"}))

    def test_validation_data_are_passed_on(self):
        options = {"X_val": X[:50], "y_val": Y[:50], "sample_weight_val": WEIGHTS[:50]}
        model = ensemble(early_stopping=True).fit(X, Y, **options)
        for one, other in zip(model.estimators_, alone(model, X, Y, **options), strict=True):
            np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])
            assert one.validation_scores_ == other.validation_scores_ != []

    def test_class_weights_are_of_the_labels(self):
        words = np.where(Y > 4, "large", "small")
        model = ensemble(class_weight={"large": 50, "small": 1}).fit(X, words)
        assert model.classes_.tolist() == ["large", "small"]
        plain = ensemble().fit(X, words)
        assert (model.predict_proba(X)[:, 0] > plain.predict_proba(X)[:, 0]).all()

    def test_one_class(self):
        model = ensemble().fit(X, 0 * Y)
        np.testing.assert_array_equal(model.predict(X), 0)

    def test_x_is_validated_once(self, monkeypatch):
        seen, original = [], base.validate_data

        def noting(model, X, **options):
            seen.append(X)
            return original(model, X, **options)

        monkeypatch.setattr(base, "validate_data", noting)
        model = ensemble().set_params(n_jobs=2).fit(X.tolist(), Y)
        assert len(seen) == 1 and model.n_features_in_ == 64

    def test_the_generator_is_drawn_from(self):
        generator = np.random.RandomState(0)
        model = ensemble().set_params(random_state=generator)
        first = [one.random_state for one in model.fit(X, Y).estimators_]
        second = [one.random_state for one in model.fit(X, Y).estimators_]
        assert first == [one.random_state for one in ensemble().fit(X, Y).estimators_]
        assert len({*first, *second}) == 6


class TestConventions:
    @pytest.mark.parametrize("target", ["classes", "numbers"])
    def test_the_kind_is_that_of_the_networks(self, target):
        model, is_class = ensemble(target), target == "classes"
        assert is_classifier(model) == is_class and is_regressor(model) != is_class
        assert get_tags(model) == get_tags(model.estimator)
        for method in ("predict_proba", "predict_log_proba"):
            assert hasattr(model, method) == is_class
        for name in ("classes_", "n_features_in_", "n_outputs_", "feature_names_in_"):
            assert not hasattr(model, name)
        model.fit(X, TARGETS[target])
        for name in ("classes_", "predict_proba", "predict_log_proba"):
            assert hasattr(model, name) == is_class
        assert model.n_features_in_ == 64 and model.n_outputs_ == (10 if is_class else 1)
        assert not hasattr(model, "feature_names_in_")

    def test_default(self):
        model = MLPEnsemble()
        assert is_classifier(model) and hasattr(model, "predict_proba")
        model.set_params(estimator=MLPRegressor())
        assert is_regressor(model) and not hasattr(model, "predict_proba")
        assert MLPEnsemble.__module__ == "fastmlp.estimators"

    def test_parameters_clones_and_pickles(self):
        model = ensemble().set_params(estimator__alpha=0.5, n_jobs=1)
        copy = clone(model)
        assert copy.get_params()["estimator__alpha"] == 0.5 and copy.n_jobs == 1
        assert copy.estimator is not model.estimator
        model.fit(X, Y)
        assert not hasattr(model.estimator, "coefs_")
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        fitted = model.estimators_[0]  # its weights are not used
        other = MLPEnsemble(fitted, 3, random_state=0).fit(X, Y)
        np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))

    def test_inside_others(self):
        grid = {"mlpensemble__estimator__alpha": [0.1, 1], "mlpensemble__n_estimators": [1, 2]}
        model = ensemble(max_iter=20, learning_rate_init=0.02)
        search = GridSearchCV(make_pipeline(StandardScaler(), model), grid, cv=2).fit(X, Y)
        assert search.best_score_ > 0.8
        assert (
            len(search.best_estimator_[-1].estimators_)
            == search.best_params_["mlpensemble__n_estimators"]
        )

    def test_what_is_predicted_by_a_fitted_one_stays(self):
        model = ensemble().fit(X, Y)
        expected = model.predict(X)
        model.set_params(estimator=MLPRegressor())
        np.testing.assert_array_equal(model.predict(X), expected)
        model.fit(X, np.sqrt(Y))
        assert model.predict(X).dtype == float and not hasattr(model, "predict_proba")

    @pytest.mark.parametrize("target", TARGETS)
    def test_one_file(self, target, tmp_path):
        pytest.importorskip("skops")
        model = ensemble(target).set_params(n_jobs=1).fit(X, TARGETS[target])
        fastmlp.save(model, tmp_path / "model.skops", metadata={"about": "digits"})
        loaded = fastmlp.load(tmp_path / "model.skops")
        assert type(loaded) is MLPEnsemble and loaded.metadata_ == {"about": "digits"}
        assert repr(loaded) == repr(model)
        for method in ("predict", "predict_proba"):
            if hasattr(model, method):
                np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(model, method)(X))


class TestErrors:
    @pytest.mark.parametrize(
        ("parameters", "error", "words"),
        [
            ({"n_estimators": 0}, ValueError, "n_estimators must be an integer >= 1, got 0."),
            ({"n_estimators": True}, ValueError, "n_estimators must be an integer >= 1, got True."),
            ({"n_estimators": 2.0}, ValueError, "n_estimators must be an integer >= 1, got 2.0."),
            ({"n_jobs": 0}, ValueError, "n_jobs must be an integer of at least 1, -1 or None, go"),
            (
                {"estimator": LogisticRegression()},
                TypeError,
                "estimator must be fastmlp's MLPClassifier or MLPRegressor, or None, got "
                "LogisticRegression; for others, use scikit-learn's VotingClassifier",
            ),
            (
                {"estimator": MLPRegressor},
                TypeError,
                r"got the class MLPRegressor; pass MLPRegressor\(\).",
            ),
            ({"estimator": "mlp"}, TypeError, "got str; for others, use"),
        ],
    )
    def test_parameters(self, parameters, error, words):
        with pytest.raises(error, match=words):
            ensemble().set_params(**parameters).fit(X, Y)

    def test_spread_of_classes(self):
        with pytest.raises(ValueError, match="must be False for classifiers, got True; the spread"):
            ensemble().fit(X, Y).predict(X, return_std=True)

    @pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
    def test_not_fitted(self, method):
        with pytest.raises(NotFittedError, match="This MLPEnsemble instance is not fitted yet"):
            getattr(ensemble(), method)(X)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_those_of_the_networks(self, n_jobs):
        with pytest.raises(ValueError, match="'alpha' parameter of MLPClassifier") as caught:
            ensemble(alpha=-1).set_params(n_jobs=n_jobs).fit(X, Y)
        assert not hasattr(caught.value, "__notes__")

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_the_first_error_stops_all(self, n_jobs):
        class Failing(Observer):
            n = 0

            def fit_began(self, fit):
                Failing.n += 1

            def epoch_ended(self, fit, report):
                raise RuntimeError("enough")

        model = ensemble(n_estimators=20).set_params(n_jobs=n_jobs)
        with observing(Failing()), pytest.raises(RuntimeError, match="enough"):
            model.fit(X, Y)
        assert Failing.n < 20 if n_jobs == 2 else Failing.n == 1
        assert not hasattr(model, "estimators_")


class CtrlC(Observer):
    """Presses Ctrl-C in the first epoch of a network, counted from 1."""

    def __init__(self, number):
        self.number, self.begun, self.lock = number, [], threading.Lock()

    def fit_began(self, fit):
        with self.lock:
            self.begun.append(fit)
        if len(self.begun) > self.number:
            self.wait()

    def epoch_ended(self, fit, report):
        pressed = report.epoch == 1 and len(self.begun) >= self.number
        if pressed and fit is self.begun[self.number - 1]:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            self.wait()

    def wait(self):
        """Wait in another thread until the main one knows."""
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.5)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("n_jobs", [1, 2])
class TestCtrlC:
    def test_keeps_what_is_trained(self, n_jobs):
        model = ensemble(n_estimators=5).set_params(n_jobs=n_jobs)
        watch = CtrlC(3)
        with observing(watch), pytest.warns(InterruptedWarning) as found:
            model.fit(X, Y)
        n = len(model.estimators_)
        assert n == 2 if n_jobs == 1 else n in (1, 2)
        assert str(found[-1].message).startswith(f"interrupted: {n} of 5 networks are trained; the")
        assert found[-1].filename == __file__
        whole = ensemble(n_estimators=5).fit(X, Y).estimators_
        seeds = [one.random_state for one in whole]
        kept = [whole[seeds.index(one.random_state)] for one in model.estimators_]
        expected = mean([one.predict_proba(X) for one in kept])
        np.testing.assert_array_equal(model.predict_proba(X), expected)

    def test_before_any_is(self, n_jobs):
        model = ensemble().fit(X, Y)
        before = model.estimators_
        model.set_params(n_jobs=n_jobs, estimator__max_iter=5000, estimator__n_iter_no_change=5000)
        with observing(CtrlC(1)), pytest.raises(KeyboardInterrupt):
            model.fit(X, Y)
        assert model.estimators_ is before

    def test_stops_a_search(self, n_jobs):
        watch = CtrlC(3)
        model = ensemble(n_estimators=4).set_params(n_jobs=n_jobs)
        with observing(watch), pytest.raises(KeyboardInterrupt):
            cross_val_score(model, X, Y, cv=3)
        assert len(watch.begun) <= 4
