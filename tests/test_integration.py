"""Our estimators inside scikit-learn's and joblib's machinery: what scikit-learn's would give."""

import copy
import multiprocessing
import os
import pickle
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, StackingRegressor, VotingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, learning_curve
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputRegressor, RegressorChain
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.neural_network import MLPRegressor as SklearnMLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import estimator_html_repr

from fastmlp import MLPClassifier, MLPRegressor, backends

QUICK = {
    "hidden_layer_sizes": (6,),
    "max_iter": 8,
    "random_state": 0,
    "learning_rate_init": 0.02,
    "batch_size": 25,
}

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastmlp.exceptions.IneffectiveParameterWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture
def classifier(backend):
    return MLPClassifier(**QUICK, backend=backend)


@pytest.fixture
def regressor(backend):
    return MLPRegressor(**QUICK, backend=backend)


def classes():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((120, 5)) * [1, 5, 1, 0.2, 1] + [0, 3, 0, 0, -1]
    scores = X @ rng.standard_normal((5, 3))
    return X, np.array(["ash", "birch", "cedar"])[scores.argmax(axis=1)]


def numbers():
    rng = np.random.RandomState(1)
    X = rng.standard_normal((120, 5))
    return X, X @ rng.standard_normal((5, 2)) + 3


def in_child(check):
    """Run `check` in a forked child, which must end well: neither die nor raise."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    child = multiprocessing.get_context("fork").Process(target=check)
    child.start()
    child.join()
    assert child.exitcode == 0


# What each consumer makes of a classifier, as numbers.
CLASSIFIER_CONSUMERS = {
    "pipeline": lambda mlp, X, y: make_pipeline(StandardScaler(), mlp).fit(X, y).predict_proba(X),
    "set_output": lambda mlp, X, y: (
        make_pipeline(StandardScaler().set_output(transform="pandas"), mlp)
        .fit(pd.DataFrame(X, columns=list("abcde")), y)
        .predict_proba(pd.DataFrame(X, columns=list("abcde")))
    ),
    "cross_val_score": lambda mlp, X, y: cross_val_score(mlp, X, y, cv=3),
    "cross_val_predict": lambda mlp, X, y: cross_val_predict(
        mlp, X, y, cv=3, method="predict_log_proba"
    ),
    "learning_curve": lambda mlp, X, y: np.stack(
        learning_curve(mlp, X, y, cv=3, train_sizes=[0.5, 1.0])[1:]
    ),
    "learning_curve with partial_fit": lambda mlp, X, y: np.stack(
        learning_curve(mlp, X, y, cv=3, train_sizes=[0.4, 1.0], exploit_incremental_learning=True)[
            1:
        ]
    ),
    "calibration": lambda mlp, X, y: CalibratedClassifierCV(mlp, cv=3).fit(X, y).predict_proba(X),
    "bagging": lambda mlp, X, y: (
        BaggingClassifier(mlp, n_estimators=3, max_features=0.8, random_state=0)
        .fit(X, y)
        .predict_proba(X)
    ),
    "bagging with sample_weight": lambda mlp, X, y: (
        BaggingClassifier(mlp, n_estimators=2, random_state=0)
        .fit(X, y, sample_weight=np.linspace(1, 2, len(y)))
        .predict_proba(X)
    ),
    "voting": lambda mlp, X, y: (
        VotingClassifier([("mlp", mlp), ("linear", LogisticRegression())], voting="soft")
        .fit(X, y)
        .predict_proba(X)
    ),
    "one versus rest": lambda mlp, X, y: OneVsRestClassifier(mlp).fit(X, y).predict_proba(X),
    "chain": lambda mlp, X, y: (
        ClassifierChain(mlp).fit(X, np.stack([X[:, 0] > 0, X[:, 1] > 3], 1)).predict_proba(X)
    ),
    "permutation_importance": lambda mlp, X, y: (
        permutation_importance(mlp.fit(X, y), X, y, n_repeats=2, random_state=0).importances
    ),
    "feature selection": lambda mlp, X, y: (
        SequentialFeatureSelector(mlp, n_features_to_select=2, cv=2).fit(X, y).get_support()
    ),
    "grid search": lambda mlp, X, y: (
        GridSearchCV(mlp, {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(3,), (4, 4)]}, cv=2)
        .fit(X, y)
        .cv_results_["mean_test_score"]
    ),
}

REGRESSOR_CONSUMERS = {
    "pipeline": lambda mlp, X, y: make_pipeline(StandardScaler(), mlp).fit(X, y).predict(X),
    "multioutput": lambda mlp, X, y: MultiOutputRegressor(mlp).fit(X, y).predict(X),
    "chain": lambda mlp, X, y: RegressorChain(mlp).fit(X, y).predict(X),
    "transformed target": lambda mlp, X, y: (
        TransformedTargetRegressor(mlp, transformer=StandardScaler()).fit(X, y).predict(X)
    ),
    "stacking": lambda mlp, X, y: (
        StackingRegressor([("mlp", mlp), ("linear", Ridge())], cv=3).fit(X, y[:, 0]).predict(X)
    ),
    "cross_val_score": lambda mlp, X, y: cross_val_score(mlp, X, y, cv=3, scoring="r2"),
}


@pytest.mark.slow
@pytest.mark.few_backends
@pytest.mark.parametrize("name", CLASSIFIER_CONSUMERS)
def test_consumers_of_a_classifier(classifier, name):
    X, y = classes()
    consume = CLASSIFIER_CONSUMERS[name]
    expected = consume(SklearnMLPClassifier(**QUICK), X, y)
    np.testing.assert_allclose(consume(classifier, X, y), expected, rtol=1e-7, atol=1e-10)


@pytest.mark.few_backends
@pytest.mark.parametrize("name", REGRESSOR_CONSUMERS)
def test_consumers_of_a_regressor(regressor, name):
    X, y = numbers()
    consume = REGRESSOR_CONSUMERS[name]
    expected = consume(SklearnMLPRegressor(**QUICK), X, y)
    np.testing.assert_allclose(consume(regressor, X, y), expected, rtol=1e-7, atol=1e-10)


class TestPandas:
    @pytest.fixture
    def frame(self):
        X, y = classes()
        frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(5)])
        frame["colour"] = pd.Series(np.where(X[:, 0] > 0, "red", "blue"), dtype="category")
        return frame, pd.Series(y, name="tree")

    def test_column_transformer(self, classifier, frame):
        X, y = frame
        columns = ColumnTransformer(
            [("numbers", StandardScaler(), ["x0", "x1"]), ("words", OneHotEncoder(), ["colour"])]
        )
        ours = make_pipeline(columns, classifier).fit(X, y)
        theirs = make_pipeline(columns, SklearnMLPClassifier(**QUICK)).fit(X, y)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)

    def test_sparse_column_transformer(self, classifier, frame):
        X, y = frame
        columns = ColumnTransformer([("words", OneHotEncoder(), ["colour"])], sparse_threshold=1)
        model = make_pipeline(columns, classifier).fit(X, y)
        assert model.predict(X).shape == (120,)

    def test_feature_names(self, classifier, frame):
        X, y = frame
        X = X.drop(columns="colour")
        classifier.fit(X, y)
        assert classifier.feature_names_in_.tolist() == ["x0", "x1", "x2", "x3", "x4"]
        with pytest.raises(ValueError, match="feature names should match"):
            classifier.predict(X.rename(columns={"x0": "z"}))
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            classifier.predict(X.to_numpy())

    def test_feature_names_reach_the_estimator_through_set_output(self, classifier, frame):
        X, y = frame
        scaler = StandardScaler().set_output(transform="pandas")
        model = make_pipeline(scaler, classifier).fit(X.drop(columns="colour"), y)
        assert model[-1].feature_names_in_.tolist() == ["x0", "x1", "x2", "x3", "x4"]

    def test_validation_data_and_early_stopping_are_silent(self, classifier, frame):
        """The scores of every epoch must not warn about feature names."""
        X, y = frame
        X = X.drop(columns="colour")
        classifier.fit(X[:90], y[:90], X_val=X[90:], y_val=y[90:])
        assert len(classifier.history_["val_score"]) == 8
        classifier.set_params(early_stopping=True).fit(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("joblib_backend", ["loky", "threading"])
def test_grid_search_in_parallel_gives_what_it_gives_in_a_row(joblib_backend):
    X, y = classes()
    grid = {"alpha": [1e-4, 1.0], "backend": backends.available()}
    search = GridSearchCV(MLPClassifier(**QUICK), grid, cv=2)
    expected = clone(search).fit(X, y)
    with joblib.parallel_config(joblib_backend, n_jobs=2):
        search.fit(X, y)
    for column in ("mean_test_score", "split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(search.cv_results_[column], expected.cv_results_[column])
    np.testing.assert_array_equal(search.predict_proba(X), expected.predict_proba(X))


@pytest.mark.slow
def test_read_only_data_of_loky(classifier):
    """Arrays above a megabyte reach joblib's workers as read-only memory maps."""
    X, y = np.tile(classes()[0], (250, 1)), np.tile(classes()[1], 250)
    assert X.nbytes > 2**20
    classifier.set_params(max_iter=1)
    expected = cross_val_score(classifier, X, y, cv=2)
    with joblib.parallel_config("loky", n_jobs=2):
        np.testing.assert_array_equal(cross_val_score(classifier, X, y, cv=2), expected)


class TestStorage:
    @pytest.mark.parametrize("compress", [0, 3])
    def test_joblib(self, classifier, tmp_path, compress):
        X, y = classes()
        classifier.fit(X, y)
        joblib.dump(classifier, tmp_path / "model", compress=compress)
        loaded = joblib.load(tmp_path / "model")
        np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
        for model in (classifier, loaded):
            model.partial_fit(X, y)
        np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))

    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_memory_mapped_model_predicts_and_trains(self, backend, solver, tmp_path):
        X, y = classes()
        model = MLPClassifier((300,), solver=solver, backend=backend, random_state=0)
        model.partial_fit(X, y, classes=np.unique(y))
        joblib.dump(model, tmp_path / "model")
        expected = model.predict_proba(X), model.partial_fit(X, y).predict_proba(X)

        def check():
            loaded = joblib.load(tmp_path / "model", mmap_mode="r")
            assert not loaded.coefs_[0].flags.writeable
            np.testing.assert_array_equal(loaded.predict_proba(X), expected[0])
            np.testing.assert_array_equal(loaded.partial_fit(X, y).predict_proba(X), expected[1])

        in_child(check)  # because a write into the map ends a process

    def test_clone_forgets_what_was_learned(self, classifier):
        X, y = classes()
        copy = clone(classifier.fit(X, y))
        assert copy.get_params() == classifier.get_params()
        assert not [name for name in vars(copy) if name.endswith("_")]
        np.testing.assert_array_equal(copy.fit(X, y).coefs_[0], classifier.coefs_[0])


@pytest.mark.parametrize("fitted", [False, True])
def test_html_repr(classifier, fitted):
    X, y = classes()
    model = make_pipeline(StandardScaler(), classifier)
    if fitted:
        model.fit(X, y)
    html = model._repr_html_() if hasattr(model, "_repr_html_") else estimator_html_repr(model)
    for text in ("MLPClassifier", "input_scale", "lr_schedule", "learning_rate_init"):
        assert text in html
    assert ("Not fitted" in html) is not fitted
    assert "MLPClassifier" in classifier._repr_mimebundle_()["text/html"]


class TestMetadataRouting:
    @pytest.fixture(autouse=True)
    def _routing(self):
        with sklearn.config_context(enable_metadata_routing=True):
            yield

    def test_requests(self):
        assert set(MLPClassifier().get_metadata_routing().fit.requests) == {
            "sample_weight", "X_val", "y_val", "sample_weight_val", "checkpoint", "max_memory",
        }  # fmt: skip
        assert set(MLPClassifier().get_metadata_routing().partial_fit.requests) == {
            "sample_weight", "classes",
        }  # fmt: skip
        assert set(MLPRegressor().get_metadata_routing().partial_fit.requests) == {"sample_weight"}

    def test_sample_weight_through_a_pipeline(self, classifier):
        X, y = classes()
        weight = np.linspace(0, 2, len(y))
        expected = clone(classifier).fit(StandardScaler().fit_transform(X), y, weight)
        classifier.set_fit_request(sample_weight=True)
        model = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), classifier)
        model.fit(X, y, sample_weight=weight)
        assert model[-1].loss_curve_ == expected.loss_curve_

    def test_sample_weight_through_grid_search(self, classifier):
        X, y = classes()
        weight = np.linspace(0, 2, len(y))
        search = GridSearchCV(
            classifier.set_fit_request(sample_weight=True).set_score_request(sample_weight=True),
            {"alpha": [1e-4, 10.0]},
            cv=2,
        ).fit(X, y, sample_weight=weight)
        best = clone(classifier).set_params(**search.best_params_).fit(X, y, weight)
        assert search.best_estimator_.loss_curve_ == best.loss_curve_
        assert search.score(X, y, sample_weight=weight) == best.score(X, y, weight)

    def test_without_a_request_weights_are_refused(self, classifier):
        X, y = classes()
        with pytest.raises(ValueError, match="sample_weight.* not explicitly set as requested"):
            make_pipeline(classifier).fit(X, y, sample_weight=np.ones(len(y)))

    def test_a_pipeline_transforms_validation_data(self, classifier):
        X, y = classes()
        scaler = StandardScaler().fit(X[:90])
        expected = clone(classifier).fit(
            scaler.transform(X[:90]), y[:90], X_val=scaler.transform(X[90:]), y_val=y[90:]
        )
        model = make_pipeline(
            StandardScaler(),
            classifier.set_fit_request(X_val=True, y_val=True),
            transform_input=["X_val"],
        ).fit(X[:90], y[:90], X_val=X[90:], y_val=y[90:])
        assert model[-1].history_["val_loss"] == expected.history_["val_loss"]


def test_fit_parameters_reach_a_pipelines_step_without_routing(classifier):
    X, y = classes()
    weight = np.linspace(0, 2, len(y))
    model = make_pipeline(classifier).fit(X, y, mlpclassifier__sample_weight=weight)
    assert model[-1].loss_curve_ == clone(classifier).fit(X, y, weight).loss_curve_


@pytest.mark.slow
class TestConcurrency:
    @pytest.mark.parametrize("kind", ["dense", "sparse", "weighted", "lbfgs"])
    def test_fits_in_threads_equal_single_fits(self, backend, kind):
        X, y = classes()
        X = csr_matrix(X) if kind == "sparse" else X
        weight = np.linspace(0, 2, len(y)) if kind == "weighted" else None
        models = [
            MLPClassifier(
                (10 + seed, 7),
                solver="lbfgs" if kind == "lbfgs" else "adam",
                max_iter=8,
                random_state=seed,
                backend=backend,
                n_threads=2,
            )
            for seed in range(6)
        ]
        expected = [clone(model).fit(X, y, weight).predict_proba(X) for model in models]
        results = [None] * len(models)
        start = threading.Barrier(len(models))

        def work(i):
            start.wait()
            results[i] = models[i].fit(X, y, weight).predict_proba(X)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(models))]
        with warnings.catch_warnings():  # not inside the threads, which share the filters
            warnings.simplefilter("ignore")
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for result, single in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, single)

    def test_one_model_predicts_in_several_threads(self, classifier):
        X, y = classes()
        expected = classifier.fit(X, y).predict_proba(X)
        results = joblib.Parallel(n_jobs=4, backend="threading")(
            joblib.delayed(classifier.predict_proba)(X) for _ in range(20)
        )
        for result in results:
            np.testing.assert_array_equal(result, expected)

    def test_a_forked_child_predicts_and_goes_on_training(self, classifier):
        """Its fit is in test_estimators.py."""
        X, y = classes()
        classifier.set_params(n_threads=2).partial_fit(X, y, classes=np.unique(y))
        before = classifier.predict_proba(X)
        after = copy.deepcopy(classifier).partial_fit(X, y).predict_proba(X)

        def check():
            np.testing.assert_array_equal(classifier.predict_proba(X), before)
            np.testing.assert_array_equal(classifier.partial_fit(X, y).predict_proba(X), after)

        in_child(check)
        np.testing.assert_array_equal(classifier.predict_proba(X), before)
        np.testing.assert_array_equal(classifier.partial_fit(X, y).predict_proba(X), after)


class Recorder:
    """A callback that writes down what it is told, and may stop training after an epoch."""

    def __init__(self, stop_after=np.inf, interrupt_after=np.inf):
        self.stop_after, self.interrupt_after = stop_after, interrupt_after
        self.begun, self.ended, self.set_up, self.torn_down = [], [], 0, 0

    def setup(self, estimator, context):
        self.set_up += 1

    def teardown(self, estimator, context):
        self.torn_down += 1

    def on_fit_task_begin(self, estimator, context, *, X, y, metadata):
        self.begun.append((context.task_name, context.task_id))
        self.data = X, y, metadata

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.ended.append((context.task_name, context.task_id))
        self.fitted = fitted_estimator or getattr(self, "fitted", None)
        if context.task_name == "epoch" and context.task_id + 1 == self.interrupt_after:
            raise KeyboardInterrupt
        return context.task_name == "epoch" and context.task_id + 1 >= self.stop_after

    def check_pairs(self):
        """Every task that has begun has ended, and every epoch before its fit."""
        assert sorted(self.begun) == sorted(self.ended)
        assert self.begun[0] == self.ended[-1] == ("fit", 0)
        assert self.set_up == self.torn_down == 1


@pytest.mark.skipif(
    not hasattr(MLPClassifier, "set_callbacks"), reason="callbacks came with scikit-learn 1.9"
)
class TestCallbacks:
    SETTINGS = {
        "sgd": {"solver": "sgd"},
        "adam": {"solver": "adam"},
        "lbfgs": {"solver": "lbfgs"},
        "converged": {"tol": 0.5, "n_iter_no_change": 1},
        "early stopping": {"early_stopping": True},
    }

    @pytest.mark.parametrize("name", SETTINGS)
    def test_every_epoch_is_a_task(self, classifier, name):
        X, y = classes()
        recorder = Recorder()
        classifier.set_params(**self.SETTINGS[name])
        expected = clone(classifier).fit(X, y)
        classifier.set_callbacks(recorder).fit(X, y)
        recorder.check_pairs()
        # L-BFGS begins one iteration more than it finishes, as scikit-learn's do.
        epochs = classifier.n_iter_ + (name == "lbfgs")
        assert recorder.begun == [("fit", 0), *(("epoch", i) for i in range(epochs))]
        for ours, theirs in zip(classifier.coefs_, expected.coefs_, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    @pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
    def test_a_true_result_stops_training(self, backend, solver):
        X, y = classes()
        recorder = Recorder(stop_after=3)
        model = MLPClassifier(
            **{**QUICK, "max_iter": 10}, solver=solver, backend=backend
        ).set_callbacks(recorder)
        with warnings.catch_warnings():
            # Stopping is not a failure to converge.
            warnings.simplefilter("error", ConvergenceWarning)
            model.fit(X, y)
        assert model.n_iter_ == len(model.history_["loss"]) == 3
        recorder.check_pairs()
        shorter = MLPClassifier(**{**QUICK, "max_iter": 3}, solver=solver, backend=backend)
        np.testing.assert_array_equal(shorter.fit(X, y).coefs_[0], model.coefs_[0])

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_an_interrupt_in_a_callback_keeps_the_model(self, classifier, solver):
        X, y = classes()
        recorder = Recorder(interrupt_after=2)
        classifier.set_params(solver=solver).set_callbacks(recorder)
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            classifier.fit(X, y)
        recorder.check_pairs()
        assert len(classifier.history_["loss"]) == 2
        shorter = clone(classifier).set_params(max_iter=2).set_callbacks().fit(X, y)
        np.testing.assert_array_equal(classifier.predict_proba(X), shorter.predict_proba(X))

    def test_partial_fit(self, classifier):
        X, y = classes()
        for calls in (1, 2):
            recorder = Recorder()
            classifier.set_callbacks(recorder).partial_fit(X, y, classes=np.unique(y))
            recorder.check_pairs()
            assert recorder.begun == [("fit", 0), ("epoch", 0)]
            assert len(classifier.loss_curve_) == calls

    def test_partial_fit_of_a_regressor_with_lbfgs(self, regressor):
        recorder = Recorder()
        regressor.set_params(solver="lbfgs").set_callbacks(recorder).partial_fit(*numbers())
        recorder.check_pairs()

    def test_callbacks_get_the_data_and_a_model_of_the_moment(self, regressor):
        X, y = numbers()
        weight = np.linspace(0, 2, len(y))
        predictions = []

        class Predict(Recorder):
            def on_fit_task_end(self, estimator, context, *, fitted_estimator):
                if context.task_name == "epoch":
                    self.models = [*getattr(self, "models", []), fitted_estimator]
                    predictions.append(fitted_estimator.predict(X))

        recorder = Predict()
        regressor.set_params(max_iter=3).set_callbacks(recorder).fit(X, y, weight)
        np.testing.assert_array_equal(recorder.data[0], X)
        np.testing.assert_array_equal(recorder.data[1], y)
        np.testing.assert_array_equal(recorder.data[2]["sample_weight"], weight)
        for epoch, model in enumerate(recorder.models):
            # The models of earlier epochs stay as they were.
            np.testing.assert_array_equal(model.predict(X), predictions[epoch])
            shorter = clone(regressor).set_params(max_iter=epoch + 1).set_callbacks()
            np.testing.assert_array_equal(predictions[epoch], shorter.fit(X, y, weight).predict(X))

    @pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
    def test_the_model_of_the_moment_shares_nothing(self, regressor, solver):
        X, y = numbers()

        class TrainOn(Recorder):
            def on_fit_task_end(self, estimator, context, *, fitted_estimator):
                if fitted_estimator is not None:
                    lengths.append(len(fitted_estimator.history_["loss"]))
                    fitted_estimator.set_callbacks().partial_fit(X, y)

        lengths = []
        regressor.set_params(solver=solver, max_iter=3, warm_start=True)
        expected = clone(regressor)
        for _ in range(2):
            regressor.set_callbacks(TrainOn()).fit(X, y)
            expected.fit(X, y)
        np.testing.assert_array_equal(regressor.coefs_[0], expected.coefs_[0])
        assert regressor.history_["loss"] == expected.history_["loss"]
        assert regressor.t_ == expected.t_
        assert lengths == [1, 2, 3, 3, 4, 5, 6, 6]  # epochs, and the fit at its end

    def test_failing_fit_tears_down_and_model_pickles(self, classifier):
        X, y = classes()
        recorder = Recorder()
        classifier.set_callbacks(recorder)
        with pytest.raises(ValueError, match="The validation set is too small"):
            classifier.set_params(early_stopping=True, validation_fraction=1e-3).fit(X, y)
        classifier.set_params(early_stopping=False).fit(X, y)
        assert recorder.set_up == recorder.torn_down
        assert not [name for name in vars(classifier) if "callback_fit_ctx" in name]
        pickle.loads(pickle.dumps(classifier)).predict(X)

    @pytest.mark.parametrize(
        ("place", "n_fits"),
        [
            (lambda model: model, 1),
            (lambda model: make_pipeline(StandardScaler(), model), 1),
            (lambda model: GridSearchCV(model, {"alpha": [1e-4, 1]}, cv=2), 5),
            pytest.param(
                lambda model: GridSearchCV(model, {"alpha": [1e-4, 1]}, cv=2, n_jobs=2),
                5,
                marks=pytest.mark.slow,
            ),
        ],
        ids=["estimator", "pipeline", "search", "parallel-search"],
    )
    def test_progress_bar(self, place, n_fits, capsys):
        from sklearn.callback import ProgressBar

        model = place(MLPClassifier(**QUICK)).set_callbacks(ProgressBar(max_propagation_depth=None))
        model.fit(*classes())
        bars = [line for line in capsys.readouterr().out.splitlines() if "MLPClassifier" in line]
        assert len(bars) == n_fits
        assert all("100%" in line for line in bars)

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_scoring_monitor(self, classifier, solver):
        from sklearn.callback import ScoringMonitor

        X, y = classes()
        monitor = ScoringMonitor(scoring="accuracy")
        classifier.set_params(solver=solver).set_callbacks(monitor).fit(X, y, X_val=X, y_val=y)
        log = monitor.get_logs().data
        epochs = [entry["accuracy"] for entry in log if entry["task_name"] == "epoch"]
        assert epochs == classifier.history_["val_score"]
        assert log[0]["task_name"] == "fit"
        assert log[0]["accuracy"] == classifier.score(X, y)

    @pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
    def test_scoring_monitor_inside_a_search(self, n_jobs):
        from sklearn.callback import ScoringMonitor

        X, y = numbers()
        monitor = ScoringMonitor(scoring="r2")
        model = make_pipeline(StandardScaler(), MLPRegressor(**QUICK).set_callbacks(monitor))
        search = GridSearchCV(model, {"mlpregressor__alpha": [1e-4, 1]}, cv=2, n_jobs=n_jobs)
        search.fit(X, y)
        log = monitor.get_logs().data_as_pandas
        n_fits = 2 * 2 + 1
        assert log.task_name.value_counts()["epoch"] == n_fits * QUICK["max_iter"]
        assert search.score(X, y) in log.r2.to_numpy()
