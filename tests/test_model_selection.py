"""Searches and cross-validation: scikit-learn's results, with shared data and in threads."""

import pickle
import re
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections import Counter
from fractions import Fraction

import joblib
import numpy as np
import pytest
import sklearn
import sklearn.model_selection as theirs
from scipy.sparse import csc_matrix, csr_matrix
from scipy.stats import loguniform, randint
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, get_scorer, make_scorer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

import fastmlp.model_selection as ours
from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.model_selection import calls
from fastmlp.training import CheckpointError, Observer, observing
from fastmlp.utils.files import locked

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastmlp.exceptions.FastMLPWarning"),
    pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite"),
    pytest.mark.filterwarnings("ignore:One or more of the train scores are non-finite"),
]

X, Y = load_digits(return_X_y=True)
X, Y = X[:400], Y[:400]
TARGET = X[:, 20] / 4 + X[:, 30]
NET = MLPClassifier(8, max_iter=4, random_state=0, input_scale=1 / 16)
PIPELINE = Pipeline([("scale", MinMaxScaler()), ("pca", PCA(20, random_state=0)), ("net", NET)])
FORMS = {
    "float64": X,
    "float32": X.astype(np.float32),
    "bytes": X.astype(np.uint8),
    "sparse": csr_matrix(X),
    "list": X.tolist(),
}


def frame():
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])


def assert_same(one, other):
    """Compare results, except for times."""
    assert one.keys() == other.keys()
    for name in one.keys() - {"estimator"}:
        if "time" in name:
            assert np.shape(one[name]) == np.shape(other[name])
        elif name == "indices":
            assert_same(
                *(
                    dict(zip("ab", map(np.concatenate, r[name].values()), strict=True))
                    for r in (one, other)
                )
            )
        elif name == "params":
            assert repr(one[name]) == repr(other[name])
        else:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def compare(name, estimator, space, data=X, target=Y, fit_params=(), **options):
    """Return our search, after comparing it with scikit-learn's."""
    options = {"cv": 3, **options}
    found = []
    for module in (ours, theirs):
        if module is theirs:
            options["n_jobs"] = None
        search = getattr(module, name)(clone(estimator), space, **options)
        found.append(search.fit(data, target, **dict(fit_params)))
    assert_same(found[0].cv_results_, found[1].cv_results_)
    for attribute in ("best_params_", "best_index_", "best_score_", "multimetric_", "n_splits_"):
        assert hasattr(found[0], attribute) == hasattr(found[1], attribute)
        assert repr(getattr(found[0], attribute, 0)) == repr(getattr(found[1], attribute, 0))
    if options.get("refit", True):
        np.testing.assert_array_equal(found[0].predict(data), found[1].predict(data))
    return found[0]


@pytest.fixture
def understood(monkeypatch):
    """Return counts of calls that were understood, and of those that were not."""
    counts = Counter()
    original = calls.Call._changed

    def changed(call):
        result = original(call)
        counts["as it is" if result is None else "shared"] += 1
        return result

    monkeypatch.setattr(calls.Call, "_changed", changed)
    return counts


@pytest.mark.parametrize("form", [*FORMS, "frame"])
def test_same_results_for_every_form_of_data(form, understood):
    data = frame() if form == "frame" else FORMS[form]
    grid = {"hidden_layer_sizes": [3, (5, 4)], "alpha": [1e-4, 1.0]}
    search = compare("GridSearchCV", NET, grid, data)
    assert understood == {"shared": 12}
    assert hasattr(search.best_estimator_, "feature_names_in_") == (form == "frame")


@pytest.mark.parametrize(
    "options",
    [
        {"return_train_score": True},
        {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss"},
        {"scoring": {"a": "accuracy", "b": make_scorer(accuracy_score)}, "refit": False},
        {"scoring": "roc_auc_ovr", "n_jobs": 1},
        {"scoring": lambda model, data, y: {"zero": 0.5, "n": len(data)}, "refit": "n"},
        {"refit": lambda results: 1, "return_train_score": True},
        {"cv": theirs.StratifiedShuffleSplit(2, random_state=3), "n_jobs": 5},
        {"scoring": lambda model, data, y: model.score(data, y), "return_train_score": True},
    ],
    ids=["train", "several", "names", "auc", "callable", "refit", "shuffled", "own"],
)
@pytest.mark.parametrize("kind", ["network", "pipeline"])
def test_same_results_for_every_option(kind, options):
    estimator, prefix = (NET, "") if kind == "network" else (PIPELINE, "net__")
    compare("GridSearchCV", estimator, {f"{prefix}alpha": [1e-4, 1.0]}, **options)


def test_regression_and_several_targets():
    network = MLPRegressor(hidden_layer_sizes=6, max_iter=4, random_state=0, input_scale=1 / 16)
    for target in (TARGET, np.column_stack([TARGET, X[:, 3]])):
        for scoring in ("neg_mean_absolute_error", None):
            compare("GridSearchCV", network, {"alpha": [0, 1]}, X, target, scoring=scoring)


def test_groups_and_weights():
    weight, groups = np.linspace(0.5, 2, len(X)), np.arange(len(X)) % 5
    params = {"sample_weight": weight, "groups": groups}
    cv = theirs.GroupKFold(3)
    compare("GridSearchCV", NET, {"alpha": [0, 1]}, cv=cv, fit_params=params)
    params = {"net__sample_weight": weight, "groups": groups}
    compare("GridSearchCV", PIPELINE, {"net__alpha": [0, 1]}, cv=cv, fit_params=params)


def test_routed_metadata():
    weight = np.linspace(0.5, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        network = (
            clone(NET).set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        )
        params = {"sample_weight": weight}
        compare("GridSearchCV", network, {"alpha": [0, 1]}, fit_params=params)
        pipeline = make_pipeline(MinMaxScaler(), network)
        scoring = get_scorer("accuracy").set_score_request(sample_weight=True)
        grid = {"mlpclassifier__alpha": [0, 1]}
        compare("GridSearchCV", pipeline, grid, scoring=scoring, fit_params=params)


def random_search(seed):
    rng = np.random.RandomState(seed)
    prefix = rng.choice(["", "net__"])
    space = {
        f"{prefix}alpha": loguniform(1e-6, 10),
        f"{prefix}hidden_layer_sizes": [3, (6,), (5, 4)],
        f"{prefix}solver": ["adam", "sgd", "lbfgs"],
        f"{prefix}batch_size": randint(10, 90),
        f"{prefix}early_stopping": [False, True],
        f"{prefix}activation": ["relu", "tanh", "identity"],
    }
    if prefix:
        space["pca__n_components"] = [5, 20, 200]  # the last is refused
        space["scale"] = [MinMaxScaler(), StandardScaler(), "passthrough"]
    scoring = [None, "accuracy", "neg_log_loss", "f1_macro"][rng.randint(4)]
    if rng.rand() < 0.3:
        scoring = ["accuracy", "f1_macro"]
    folds = [
        3,
        theirs.KFold(4, shuffle=True, random_state=seed),
        theirs.GroupKFold(3),
        theirs.ShuffleSplit(2, test_size=0.3, random_state=seed),
    ]
    options = {
        "n_iter": 4,
        "random_state": seed,
        "scoring": scoring,
        "cv": folds[rng.randint(4)],
        "refit": "accuracy" if isinstance(scoring, list) else bool(rng.rand() < 0.8),
        "return_train_score": bool(rng.rand() < 0.5),
        "n_jobs": rng.choice([None, 1, 2, 3]),
    }
    form = rng.choice(["float64", "bytes", "float32"])
    return PIPELINE if prefix else NET, space, FORMS[form], options


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(i, marks=pytest.mark.slow) for i in range(4, 30))]
)
def test_random_searches(seed):
    estimator, space, data, options = random_search(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # failed fits, and splitters that ignore groups
        compare(
            "RandomizedSearchCV",
            estimator,
            space,
            data,
            fit_params={"groups": np.arange(len(X)) % 4},
            **options,
        )


@pytest.mark.parametrize("kind", ["network", "pipeline"])
def test_functions(kind):
    estimator, name = (NET, "alpha") if kind == "network" else (PIPELINE, "net__alpha")
    both = [
        [
            module.cross_val_score(estimator, X, Y, cv=3),
            module.cross_val_predict(estimator, X, Y, cv=3),
            module.cross_val_predict(estimator, X, Y + 5, cv=3, method="predict_proba"),
            *module.learning_curve(estimator, X, Y, cv=3, train_sizes=[50, 100]),
            *module.learning_curve(
                NET, X, Y, cv=3, train_sizes=[50, 100], exploit_incremental_learning=True
            ),
            *module.validation_curve(estimator, X, Y, param_name=name, param_range=[0.1, 10], cv=3),
        ]
        for module in (ours, theirs)
    ]
    for one, other in zip(*both, strict=True):
        np.testing.assert_array_equal(one, other)
    options = {"cv": 3, "return_estimator": True, "return_indices": True}
    one, other = (m.cross_validate(estimator, X, Y, **options) for m in (ours, theirs))
    assert_same(one, other)
    for model, their_model in zip(one["estimator"], other["estimator"], strict=True):
        assert type(model) is type(estimator)
        assert pickle.loads(pickle.dumps(model)).predict(X).tolist() == (
            their_model.predict(X).tolist()
        )


class Random(TransformerMixin, BaseEstimator):
    """Multiply by another number after each fit."""

    n_fits = 0

    def fit(self, data, y=None):
        type(self).n_fits += 1
        self.factor_ = 1 / (1 + self.n_fits)
        self.n_features_in_ = data.shape[1]
        return self

    def transform(self, data):
        return data * self.factor_


class Counting(TransformerMixin, BaseEstimator):
    """Divide by a number, and count fits."""

    fits = Counter()

    def __init__(self, by=16):
        self.by = by

    def fit(self, data, y=None):
        self.fits[self.by] += 1
        self.n_features_in_ = data.shape[1]
        return self

    def transform(self, data):
        return data / self.by


def test_steps_before_the_network_are_fitted_once_for_each_split():
    pipeline = Pipeline([("by", Counting()), ("net", NET)])
    grid = {"net__alpha": [0, 0.1, 1, 2], "by__by": [8, 16]}
    Counting.fits.clear()
    ours.GridSearchCV(pipeline, grid, cv=3, refit=False).fit(X, Y)
    assert Counting.fits == {8: 3, 16: 3}
    compare("GridSearchCV", pipeline, grid)


def test_x_is_validated_once(monkeypatch):
    from fastmlp.estimators.base import validate_data

    sizes = []

    def counting(model, data, *args, **options):
        if "y" in options:
            sizes.append(len(data))
        return validate_data(model, data, *args, **options)

    monkeypatch.setattr("fastmlp.estimators.base.validate_data", counting)
    ours.GridSearchCV(NET, {"alpha": [0, 1, 2]}, cv=4, refit=False).fit(X, Y)
    assert sizes == [400]


def test_fits_run_in_threads_the_longest_first():
    threads, sizes = set(), []

    class Watching(Observer):
        def fit_began(self, fit):
            threads.add(threading.get_ident())
            sizes.append(fit.model.hidden_layer_sizes)
            if len(sizes) <= 2:
                time.sleep(0.5)  # the first one or two begin while the others are not known yet

    grid = {"hidden_layer_sizes": [2, 3, 4, 5, 6, 7, 8, 60]}
    with observing(Watching()):
        ours.GridSearchCV(NET, grid, cv=2, refit=False, n_jobs=2).fit(X, Y)
    assert threading.get_ident() not in threads and len(threads) == 2
    assert sorted(sizes) == sorted([*grid["hidden_layer_sizes"]] * 2)
    # A fit is noted a moment after a thread has taken it; the other thread may be one ahead.
    assert sizes[:5].count(60) == 2 and np.mean(sizes[-4:]) < 5


CONSTANTS = [True, np.float32(0.5), np.longdouble(1) / 3, Fraction(1)]


class Constant:
    """A scorer that returns a constant."""

    def __init__(self, number):
        self.number = number

    def __call__(self, model, data, y):
        return CONSTANTS[self.number]


Constant.__module__ = "sklearn.of_this_test"  # whose objects are what their attributes say


def test_rows_of_every_kind():
    rows, few = np.arange(300), np.arange(50)
    for cv in [
        [(-rows - 1, few), (rows, few)],
        [(rows, rows), (np.arange(400), np.arange(400))],  # tested on what is trained on
        [(np.arange(400) % 3 > 0, np.arange(400) % 3 == 0)],
        [(np.repeat(few, 3), rows), (rows.astype(np.int8) % 100, few)],
        iter([(rows, few)]),
    ]:
        cv = list(cv)
        for options in ({}, {"return_train_score": True}):
            compare("GridSearchCV", NET, {"alpha": [0, 1]}, cv=cv, **options)
        compare("GridSearchCV", PIPELINE, {"net__alpha": [0, 1]}, cv=cv)


def whole_of(model, data, y):
    """Score by what only the whole pipeline and the original data have."""
    return len(getattr(model, "steps", [])) + float(data.shape[1]) + model.score(data, y)


def test_scorers_that_look_at_the_estimator_and_at_x():
    for scoring in (whole_of, {"whole": whole_of, "accuracy": "accuracy"}):
        for estimator, name in ((NET, "alpha"), (PIPELINE, "net__alpha")):
            options = {"scoring": scoring, "return_train_score": True, "refit": False}
            search = compare("GridSearchCV", estimator, {name: [0, 1]}, **options)
            key = "mean_test_score" if scoring is whole_of else "mean_test_whole"
            assert search.cv_results_[key].min() > 64


def test_sparse_multilabel_targets():
    labels = csr_matrix(np.column_stack([Y % 2, Y % 3 == 0, Y > 5]).astype(int))
    compare("GridSearchCV", NET, {"alpha": [0, 1]}, X, labels, scoring=Subset(), refit=False)


class Subset:
    """Score by the number of predicted labels."""

    def __call__(self, model, data, y):
        return float(model.predict(data).sum())


def test_a_seed_of_numpy_s_generator_determines_all_fits():
    network = clone(NET).set_params(random_state=None)

    def results():
        np.random.seed(3)
        grid = {"hidden_layer_sizes": [3, 4, 5, 6]}
        search = ours.GridSearchCV(network, grid, cv=3, n_jobs=2).fit(X, Y)
        halving = ours.HalvingGridSearchCV(
            network, grid, cv=3, resource="max_iter", max_resources=8, factor=2, n_jobs=3
        ).fit(X, Y)
        return search.cv_results_, halving.cv_results_

    for one, other in zip(results(), results(), strict=True):
        assert_same(one, other)
    assert network.random_state is None


class TestHalving:
    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    @pytest.mark.parametrize("kind", ["network", "pipeline"])
    def test_same_results(self, kind, solver):
        estimator, prefix = (NET, "") if kind == "network" else (PIPELINE, "net__")
        grid = {f"{prefix}alpha": [0, 1e-3, 0.1, 1], f"{prefix}early_stopping": [False, True]}
        options = {"resource": f"{prefix}max_iter", "max_resources": 16, "factor": 2}
        estimator = clone(estimator).set_params(**{f"{prefix}solver": solver})
        search = compare("HalvingGridSearchCV", estimator, grid, **options)
        assert search.n_resources_ == [2, 4, 8, 16]
        assert len(search.fit_histories_) == 8 + 4 + 2 + 1

    def test_random_search_over_samples(self):
        space = {"alpha": loguniform(1e-5, 1)}
        options = {"n_candidates": 6, "random_state": 0}
        compare("HalvingRandomSearchCV", NET, space, **options)

    def epochs(self, estimator, **options):
        """Return how many epochs are trained, and the search."""
        count = Counter()

        class Watching(Observer):
            def epoch_ended(self, fit, report):
                count["epochs"] += 1

        grid = {"alpha": [0, 1e-3, 0.1, 1]}
        options = {"resource": "max_iter", "max_resources": 16, "factor": 2, "cv": 2, **options}
        with observing(Watching()):
            search = ours.HalvingGridSearchCV(estimator, grid, refit=False, **options).fit(X, Y)
        return count["epochs"], search

    def test_candidates_go_on(self):
        n_epochs, search = self.epochs(NET)
        assert search.n_resources_ == [4, 8, 16]
        assert n_epochs == 2 * (4 * 4 + 2 * 4 + 1 * 8)
        n_epochs, _ = self.epochs(clone(NET).set_params(lr_schedule="cosine"))
        assert n_epochs == 2 * (4 * 4 + 2 * 8 + 1 * 16)  # which depends on max_iter
        generator = np.random.RandomState(0)
        n_epochs, _ = self.epochs(clone(NET).set_params(random_state=generator))
        assert n_epochs == 2 * (4 * 4 + 2 * 8 + 1 * 16)

    def test_epochs_of_another_step(self):
        pipeline = Pipeline([("select", SelectFromModel(LogisticRegression())), ("net", NET)])
        options = {"resource": "select__estimator__max_iter", "max_resources": 8, "factor": 2}
        options |= {"min_resources": 1, "refit": False}
        compare("HalvingGridSearchCV", pipeline, {"net__alpha": [0, 0.1, 1, 2]}, **options)

    def test_steps_that_differ_in_every_round(self):
        Random.n_fits = 0
        pipeline = Pipeline([("random", Random()), ("net", NET)])
        grid = {"net__alpha": [0, 1e-3, 0.1, 1]}
        options = {"resource": "net__max_iter", "max_resources": 16, "factor": 2, "cv": 6}
        count = Counter()

        class Watching(Observer):
            def epoch_ended(self, fit, report):
                count["epochs"] += 1

        with observing(Watching()):
            ours.HalvingGridSearchCV(pipeline, grid, refit=False, n_jobs=1, **options).fit(X, Y)
        assert count["epochs"] > 6 * (4 * 4 + 2 * 4 + 1 * 8)  # what is known of the last round

    def test_histories(self):
        _, search = self.epochs(NET)
        lengths = [[len(split["loss"]) for split in fits] for fits in search.fit_histories_]
        assert lengths == [[4, 4]] * 4 + [[8, 8]] * 2 + [[16, 16]]


def test_histories():
    search = ours.GridSearchCV(NET, {"max_iter": [2, 3]}, cv=2).fit(X, Y)
    assert [[len(split["loss"]) for split in fits] for fits in search.fit_histories_] == [
        [2, 2],
        [3, 3],
    ]
    assert not hasattr(theirs.GridSearchCV(NET, {}), "fit_histories_")


class TestErrors:
    @pytest.mark.parametrize("error_score", [np.nan, -7.0])
    def test_candidates_that_fail(self, error_score):
        grid = {"learning_rate_init": [1e-3, 1e308, -1], "solver": ["sgd"]}
        with pytest.warns(sklearn.exceptions.FitFailedWarning, match="6 fits failed"):
            search = ours.GridSearchCV(NET, grid, cv=3, error_score=error_score).fit(X, Y)
        with pytest.warns(sklearn.exceptions.FitFailedWarning, match="6 fits failed"):
            other = theirs.GridSearchCV(NET, grid, cv=3, error_score=error_score).fit(X, Y)
        assert_same(search.cv_results_, other.cv_results_)
        assert [len(fits[0].get("loss", [])) for fits in search.fit_histories_] == [
            4,
            4,
            0,
        ]  # the second diverges

    def test_error_is_raised(self):
        with pytest.raises(ValueError, match="learning_rate_init"):
            ours.GridSearchCV(
                NET, {"learning_rate_init": [1e-3, -1]}, cv=3, error_score="raise"
            ).fit(X, Y)
        with pytest.raises(ValueError, match="alph"):  # no such parameter
            ours.GridSearchCV(NET, {"alph": [1]}, cv=3).fit(X, Y)
        with pytest.raises(ValueError, match="n_jobs must not be 0"):
            ours.GridSearchCV(NET, {"alpha": [1]}, n_jobs=0).fit(X, Y)

    def test_steps_that_fail(self):
        with pytest.warns(sklearn.exceptions.FitFailedWarning, match="3 fits failed"):
            search = ours.GridSearchCV(PIPELINE, {"pca__n_components": [2, 99]}, cv=3).fit(X, Y)
        assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]

    def test_folds_that_cannot_be_used(self, understood):
        data = X.copy()
        data[0, 0] = np.nan  # in the first test fold only
        cv = theirs.KFold(3)
        results = []
        for module in (ours, theirs):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results.append(module.cross_validate(NET, data, Y, cv=cv))
        assert_same(*results)
        assert understood == {"as it is": 3}

    def test_folds_that_lack_a_class(self):
        order = np.argsort(Y, kind="stable")
        compare("GridSearchCV", NET, {"alpha": [0, 1]}, X[order], Y[order], cv=theirs.KFold(5))


class TestTheOthers:
    def test_other_estimators_go_in_the_way_of_scikit_learn(self, capsys):
        search = ours.GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, verbose=1, cv=2)
        search.fit(X, Y)
        captured = capsys.readouterr()
        assert captured.err.startswith("fastmlp: LogisticRegression is not an MLP of fastmlp")
        assert captured.out.startswith("Fitting 2 folds for each of 2 candidates")
        assert not hasattr(search, "fit_histories_")
        inner = TransformedTargetRegressor(MLPRegressor(hidden_layer_sizes=3, max_iter=2))
        assert ours.cross_val_score(inner, X, TARGET, cv=2).shape == (2,)
        assert capsys.readouterr().err == ""

    def test_a_backend_of_the_user(self, understood):
        with joblib.parallel_config("threading", n_jobs=2):
            search = ours.GridSearchCV(NET, {"alpha": [0, 1]}, cv=2).fit(X, Y)
        assert not understood and search.cv_results_["params"] == [{"alpha": 0}, {"alpha": 1}]

    def test_subclasses_get_arrays(self, understood):
        class Flipped(MLPClassifier):
            def fit(self, data, y, **options):
                return super().fit(data[:, ::-1].copy(), y, **options)

            def predict(self, data):
                return super().predict(data[:, ::-1].copy())

        compare("GridSearchCV", Flipped(3, max_iter=2, random_state=0), {"alpha": [0, 1]})
        assert not understood

    def test_nested(self):
        inner = ours.GridSearchCV(NET, {"alpha": [0, 1]}, cv=2)
        scores = ours.cross_val_score(inner, X, Y, cv=2)
        np.testing.assert_array_equal(scores, theirs.cross_val_score(inner, X, Y, cv=2))

    def test_clone_pickle_and_names(self):
        search = ours.GridSearchCV(NET, {"alpha": [0, 1]}, cv=2).fit(X, Y)
        assert isinstance(search, theirs.GridSearchCV)
        assert clone(search).get_params().keys() == theirs.GridSearchCV(NET, {}).get_params().keys()
        loaded = pickle.loads(pickle.dumps(search))
        np.testing.assert_array_equal(loaded.predict(X), search.predict(X))
        for name in ours.__all__:
            assert getattr(ours, name).__module__ == "fastmlp.model_selection"
            assert getattr(ours, name).__doc__


def test_callbacks_of_scikit_learn(understood):
    callback = pytest.importorskip("sklearn.callback", reason="callbacks came with 1.9")

    class Recording(callback.FitCallback):
        """Of the estimator or the search: the tasks that begin and end."""

        def __init__(self):
            self.tasks = []

        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context, *, X=None):
            self.tasks.append((context.task_name, None if X is None else X.shape))

        def on_fit_task_end(self, estimator, context):
            self.tasks.append(context.task_name)

    for where in ("network", "search"):
        found = []
        for module in (ours, theirs):
            recording = Recording()
            search = module.GridSearchCV(clone(NET), {"alpha": [0, 1]}, cv=2, n_jobs=1)
            (search.estimator if where == "network" else search).set_callbacks(recording)
            search.fit(X, Y)
            found.append(sorted(map(str, recording.tasks)))
        assert found[0] == found[1] and (where == "network" or found[0])
    assert not understood["shared"]


def test_the_data_are_not_copied():
    import tracemalloc

    many, labels = np.tile(X.astype(np.uint8), (150, 1)), np.tile(Y, 150)  # 3.8 MB
    network = clone(NET).set_params(max_iter=1, batch_size=1000)

    def peak(function):
        tracemalloc.start()
        function()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    search = ours.GridSearchCV(network, {"alpha": [0, 1]}, cv=3, refit=False, n_jobs=2)
    one = peak(lambda: clone(network).fit(many, labels))
    assert peak(lambda: search.fit(many, labels)) < 2 * one + 1.2 * many.nbytes


@pytest.mark.slow
def test_ctrl_c_ends_a_search(tmp_path):
    script = """
        import os, signal, threading, time
        import numpy as np
        from fastmlp import MLPClassifier
        from fastmlp.model_selection import GridSearchCV
        rng = np.random.RandomState(0)
        X, y = rng.rand(3000, 50), rng.randint(3, size=3000)
        network = MLPClassifier(200, max_iter=10**6, tol=0, n_iter_no_change=10**6)
        threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT)).start()
        begun = time.time()
        try:
            GridSearchCV(network, {"alpha": [0, 1, 2]}, cv=3).fit(X, y)
        except KeyboardInterrupt:
            print("interrupted", time.time() - begun < 8, threading.active_count())
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "interrupted True 1\n", done.stderr


class TestCheckpoint:
    GRID = {"alpha": [0, 1e-3, 0.1, 1], "hidden_layer_sizes": [4, (5, 3)]}

    @pytest.fixture
    def stopping(self, monkeypatch):
        """Return a function that makes the nth fit raise KeyboardInterrupt, and a count of fits."""
        count = Counter()

        class Stopping(Observer):
            at = 10**9

            def fit_began(self, fit):
                count["fits"] += 1
                if count["fits"] == self.at:
                    raise KeyboardInterrupt

        observer = Stopping()

        def stop_at(n):
            count.clear()
            observer.at = n or 10**9

        stop_at.count = count
        with observing(observer, everywhere=True):
            yield stop_at

    @pytest.mark.parametrize("kind", ["network", "pipeline", "halving", "several"])
    def test_a_search_goes_on(self, kind, stopping, tmp_path):
        path = tmp_path / "search.ckpt"
        grid, estimator, name, options = self.GRID, NET, "GridSearchCV", {"n_jobs": 2}
        if kind == "pipeline":
            grid, estimator = {f"net__{k}": v for k, v in grid.items()}, PIPELINE
        elif kind == "halving":
            name = "HalvingGridSearchCV"
            options |= {"resource": "max_iter", "max_resources": 9, "min_resources": 1}
        elif kind == "several":
            options |= {"scoring": ["accuracy", "neg_log_loss"], "refit": "accuracy"}
            options |= {"return_train_score": True}

        def search():
            return getattr(ours, name)(estimator, grid, cv=3, **options)

        expected = search().fit(X, Y)
        for stop in (5, 7, 6):
            stopping(stop)
            with pytest.raises(KeyboardInterrupt):
                search().fit(X, Y, checkpoint=path)
        stopping(0)
        n_fits = sum(map(len, expected.fit_histories_))
        found = search().fit(X, Y, checkpoint=path)
        assert stopping.count["fits"] < n_fits - 3  # and the one of refit
        assert_same(found.cv_results_, expected.cv_results_)
        for one, other in zip(found.fit_histories_, expected.fit_histories_, strict=True):
            assert [h["loss"] for h in one] == [h["loss"] for h in other]
        np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
        stopping(0)
        search().fit(X, Y, checkpoint=path)
        assert stopping.count["fits"] == 1  # refit
        assert [p.name for p in tmp_path.iterdir()] == ["search.ckpt"]

    def test_failed_fits_and_more_candidates(self, stopping, tmp_path):
        path = tmp_path / "search.ckpt"
        grid = {"learning_rate_init": [1e-3, -1]}
        results = []
        for _ in range(2):
            stopping(0)
            with pytest.warns(sklearn.exceptions.FitFailedWarning, match="3 fits failed"):
                search = ours.GridSearchCV(NET, grid, cv=3, refit=False)
                results.append(search.fit(X, Y, checkpoint=path).cv_results_)
        assert stopping.count["fits"] == 0
        assert_same(*results)
        stopping(0)
        more = ours.GridSearchCV(NET, {"learning_rate_init": [1e-3, 1e-2]}, cv=3, refit=False)
        more.fit(X, Y, checkpoint=path)
        assert stopping.count["fits"] == 3

    def test_another_search_is_refused(self, tmp_path):
        path = tmp_path / "search.ckpt"

        def search(network=NET, **options):
            return ours.GridSearchCV(network, {"alpha": [0, 1]}, cv=2, **options)

        search().fit(X, Y, checkpoint=path)
        before = path.read_bytes()
        other = clone(NET).set_params(max_iter=5)
        for made, data, what in [
            (search(), X + 1, "X differs"),
            (search(other), X, "max_iter is 4 there and 5 here"),
            (search(scoring="f1_macro"), X, "scoring is None there and 'f1_macro' here"),
            (search(return_train_score=True), X, "return_train_score is False"),
        ]:
            with pytest.raises(CheckpointError, match=f"belongs to another search: {what}"):
                made.fit(data, Y, checkpoint=path)
        weight = np.ones(len(X))
        with pytest.raises(CheckpointError, match="sample_weight differs"):
            search().fit(X, Y, checkpoint=path, sample_weight=weight)
        assert path.read_bytes() == before
        search(clone(NET).set_params(n_threads=1, verbose=False)).fit(X, Y, checkpoint=path)

    def test_parameters_that_cannot_be_compared(self, tmp_path):
        path = tmp_path / "search.ckpt"
        schedules = [lambda epoch: 0.3, lambda epoch: 1e-4]
        with pytest.raises(CheckpointError, match=r"compared.*got lr_schedule=.*lambda"):
            ours.GridSearchCV(NET, {"lr_schedule": schedules}, cv=2).fit(X, Y, checkpoint=path)
        network = clone(NET).set_params(lr_schedule=schedules[0])
        with pytest.raises(CheckpointError, match=r"got lr_schedule=.*lambda.*with a name"):
            ours.GridSearchCV(network, {"alpha": [1]}, cv=2).fit(X, Y, checkpoint=path)
        grid = {"random_state": [np.random.RandomState(0), np.random.RandomState(5)]}
        search = ours.GridSearchCV(NET, grid, cv=2)
        expected = search.fit(X, Y).cv_results_
        path.unlink()
        found = search.fit(X, Y, checkpoint=path).cv_results_
        np.testing.assert_array_equal(found["mean_test_score"], expected["mean_test_score"])
        assert expected["mean_test_score"][0] != expected["mean_test_score"][1]

    def test_changed_pipelines_are_refused(self, tmp_path):
        path = tmp_path / "search.ckpt"
        encode = ColumnTransformer([("some", MinMaxScaler(), [0, 1, 2, 20, 30])])
        steps = [("encode", encode), ("pca", PCA(4, random_state=0)), ("net", NET)]
        other = ColumnTransformer([("some", MinMaxScaler(), [0, 1, 2, 20, 31])])

        def search(steps):
            return ours.GridSearchCV(Pipeline(steps), {"net__alpha": [0, 1]}, cv=2)

        search(steps).fit(X, Y, checkpoint=path)
        for changed in (
            [("encode", other), *steps[1:]],
            [("pca", PCA(4, random_state=0)), ("encode", MinMaxScaler()), steps[2]],
            [steps[0], ("pca", PCA(4, random_state=1)), steps[2]],
        ):
            with pytest.raises(CheckpointError, match="belongs to another search"):
                search(changed).fit(X, Y, checkpoint=path)

    def test_scores_of_other_kinds(self, tmp_path):
        for number in range(len(CONSTANTS)):
            path = tmp_path / f"{number}.ckpt"
            search = ours.GridSearchCV(NET, {"alpha": [0]}, cv=2, scoring=Constant(number))
            first = search.fit(X, Y, checkpoint=path).cv_results_
            assert_same(search.fit(X, Y, checkpoint=path).cv_results_, first)

    def test_sparse_data_of_any_format(self, tmp_path):
        for form in ("csr", "csc", "coo", "lil", "dok"):
            search = ours.GridSearchCV(NET, {"alpha": [0]}, cv=2, error_score=0)
            data = csr_matrix(X).asformat(form)
            try:
                search.fit(data, Y)
            except TypeError:  # which cannot be indexed
                continue
            search.fit(data, Y, checkpoint=tmp_path / form)
        square = csr_matrix(np.tri(len(Y)))
        path = tmp_path / "square"
        search.fit(square, Y, checkpoint=path)
        other = csc_matrix((square.data, square.indices, square.indptr), square.shape)
        with pytest.raises(CheckpointError, match="X differs"):
            search.fit(other, Y, checkpoint=path)

    def test_bad_files(self, tmp_path):
        search = ours.GridSearchCV(NET, {"alpha": [0]}, cv=2)
        path = tmp_path / "search.ckpt"
        search.fit(X, Y, checkpoint=path)
        good = path.read_text()
        for text, reason in [
            ("", "Expecting value"),
            ("[" * 10**5, "recursion"),
            (good.replace('"journal"', '"other"'), "lacks 'journal'"),
            (good.replace('"test_scores"', '"scores"'), "its field results is invalid"),
            (good.replace('"history": {', '"history": {"a": 1, '), "its field results"),
            (good.replace('"result": {', '"result": 5, "other": {'), "its field results"),
            (good.replace('"fit_time"', '"time"'), "its field results is invalid"),
            (re.sub('"test_scores": [0-9.e-]+', '"test_scores": {}', good), "its field results"),
            (re.sub('"test_scores": [0-9.e-]+', f'"test_scores": 1{"0" * 400}', good), "results"),
            (re.sub('"test_scores": [0-9.e-]+', '"test_scores": {"a": 1}', good), "not possible"),
            (re.sub('"n_test_samples": [0-9]+', '"n_test_samples": 7', good), "not possible"),
            (good.replace('"fit_error"', '"train_scores": 0.5, "fit_error"'), "not possible"),
        ]:
            path.write_text(text)
            with pytest.raises(
                CheckpointError, match=f"not a readable checkpoint of .* search.*{reason}"
            ):
                search.fit(X, Y, checkpoint=path)
            assert path.read_text() == text or reason == "not possible"
        with pytest.raises(CheckpointError, match="is no regular file"):
            search.fit(X, Y, checkpoint=tmp_path)
        with pytest.raises(OSError, match="nowhere"):
            search.fit(X, Y, checkpoint=tmp_path / "nowhere" / "search.ckpt")
        path.unlink()
        with locked(path), pytest.raises(CheckpointError, match="in use by another search"):
            search.fit(X, Y, checkpoint=path)
        with pytest.raises(ValueError, match="checkpoint is for searches of fastmlp's networks"):
            ours.GridSearchCV(LogisticRegression(), {"C": [1]}).fit(X, Y, checkpoint=path)
        with joblib.parallel_config("threading"):  # whose fits nobody would store
            with pytest.raises(ValueError, match="but joblib's backend is ThreadingBackend"):
                search.fit(X, Y, checkpoint=path)
        assert not path.exists()

    def test_frames_and_strings(self, tmp_path):
        path, labels = tmp_path / "search.ckpt", np.char.add("digit ", Y.astype(str))
        data = frame()
        search = ours.GridSearchCV(NET, {"alpha": [0, 1]}, cv=2)
        first = search.fit(data, labels, checkpoint=path).cv_results_
        assert_same(search.fit(data, labels, checkpoint=path).cv_results_, first)
        with pytest.raises(CheckpointError, match="X differs"):
            search.fit(data.rename(columns={"pixel 0": "first"}), labels, checkpoint=path)
