"""Models that cross over to scikit-learn and back predict and train on as if they had not."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.neural_network import MLPRegressor as SklearnMLPRegressor
from sklearn.utils.fixes import parse_version
from sklearn.utils.validation import check_is_fitted

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.accel import patch_sklearn, unpatch_sklearn
from fastmlp.core.functions import ACTIVATIONS
from fastmlp.core.optimizers import OPTIMIZERS

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer", "ignore:lbfgs failed")

RNG = np.random.RandomState(0)
X = RNG.standard_normal((90, 4))
NUMBERS = X @ RNG.standard_normal((4, 2))
CLASSES = np.arange(90) % 3
# Before 1.9, scikit-learn cannot score labels that are texts while it trains.
SCORES_TEXTS = parse_version(sklearn.__version__) >= parse_version("1.9")
NAMES = np.array(["no", "yes", "so"] if SCORES_TEXTS else [1, 9, 4])

# Name -> (ours, theirs, targets, parameters)
TASKS = {
    "binary": (MLPClassifier, SklearnMLPClassifier, CLASSES > 0, {}),
    "names": (MLPClassifier, SklearnMLPClassifier, NAMES[CLASSES], {}),
    "multilabel": (MLPClassifier, SklearnMLPClassifier, (X[:, :3] > 0).astype(int), {}),
    "one class": (MLPClassifier, SklearnMLPClassifier, np.zeros(90, int), {}),
    "one number": (MLPRegressor, SklearnMLPRegressor, NUMBERS[:, 0], {}),
    "numbers": (MLPRegressor, SklearnMLPRegressor, NUMBERS, {}),
    "counts": (MLPRegressor, SklearnMLPRegressor, CLASSES, {"loss": "poisson"}),
}


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]


def as_theirs(model):
    return model.to_sklearn()


def as_ours(model):
    is_classifier = isinstance(model, SklearnMLPClassifier)
    return (MLPClassifier if is_classifier else MLPRegressor).from_sklearn(model)


def parameters(**others):
    return {"hidden_layer_sizes": (5, 4), "max_iter": 4, "random_state": 0, **others}


def assert_predicts_the_same(model, other, X=X, **tolerance):
    for method in ("predict", "predict_proba"):
        if hasattr(model, method):
            expected, got = getattr(model, method)(X), getattr(other, method)(X)
            assert got.dtype == expected.dtype
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(got, expected, **tolerance)
            else:
                np.testing.assert_array_equal(got, expected)


def assert_same_fit(model, other):
    """The same bits."""
    for name in ("coefs_", "intercepts_", "loss_curve_", "validation_scores_"):
        layers = getattr(model, name) or [], getattr(other, name) or []
        for expected, got in zip(*layers, strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=name)
    for name in ("n_iter_", "t_", "loss_", "best_loss_", "best_validation_score_"):
        assert getattr(model, name) == getattr(other, name), name
    assert model._no_improvement_count == other._no_improvement_count


class TestBothWays:
    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_predictions_are_equal(self, task, solver, dtype):
        ours_class, theirs_class, y, extra = task
        data = X.astype(dtype)
        tolerance = {"rtol": 1e-12 if dtype == np.float64 else 1e-5, "atol": 1e-6}
        for cls, convert, target in [
            (ours_class, as_theirs, theirs_class),
            (theirs_class, as_ours, ours_class),
        ]:
            model = cls(**parameters(solver=solver, **extra)).fit(data, y)
            other = convert(model)
            assert type(other) is target
            check_is_fitted(other)
            assert other.coefs_[0].dtype == model.coefs_[0].dtype
            assert_predicts_the_same(model, other, data, **tolerance)
            assert_predicts_the_same(model, other, sp.csr_matrix(data), **tolerance)
            assert other.score(data, y) == pytest.approx(model.score(data, y), rel=1e-4)

    def test_there_and_back_is_the_same_model(self, task):
        cls, _, y, extra = task
        model = cls(**parameters(early_stopping=True, backend="numpy", **extra)).fit(X, y)
        back = as_ours(as_theirs(model)).set_params(backend="numpy")
        assert back.get_params() == model.get_params()
        assert_same_fit(model, back)
        for name in vars(model).keys() - {"_optimizer", "_label_binarizer", "_state", "history_"}:
            np.testing.assert_equal(vars(back)[name], vars(model)[name], err_msg=name)
        assert_predicts_the_same(model, back, rtol=0)

    @pytest.mark.parametrize("solver", ["adam", "sgd"])
    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_a_warm_start_goes_on_as_if_nothing_had_happened(self, task, solver, early_stopping):
        ours_class, theirs_class, y, extra = task
        common = parameters(
            solver=solver, early_stopping=early_stopping, warm_start=True, tol=0.0, **extra
        )
        ours = ours_class(**common, backend="numpy").fit(X, y)
        theirs = theirs_class(**common).fit(X, y)
        crossed = [as_theirs(ours), as_ours(theirs).set_params(backend="numpy")]
        theirs.fit(X, y)
        for model in (ours, *crossed):
            assert_same_fit(theirs, model.fit(X, y))

    def test_the_new_model_shares_nothing(self, task):
        ours_class, theirs_class, y, extra = task
        common = parameters(warm_start=True, random_state=np.random.RandomState(0), **extra)
        for cls, convert in [(ours_class, as_theirs), (theirs_class, as_ours)]:
            model = cls(**common).fit(X, y)
            before = pickle.dumps([model.coefs_, model.intercepts_, model.loss_curve_])
            draws = model.random_state.get_state()
            other = convert(model)
            assert other.random_state is not model.random_state
            other.fit(X, y)
            assert pickle.dumps([model.coefs_, model.intercepts_, model.loss_curve_]) == before
            np.testing.assert_equal(model.random_state.get_state(), draws)

    def test_feature_names_cross_over(self):
        table = pd.DataFrame(X, columns=["a", "b", "c", "d"])
        model = MLPClassifier(**parameters()).fit(table, CLASSES)
        for other in (as_theirs(model), as_ours(as_theirs(model))):
            assert list(other.feature_names_in_) == ["a", "b", "c", "d"]
            assert_predicts_the_same(model, other, table, rtol=1e-12)

    @pytest.mark.parametrize("fitted", [True, False])
    def test_metadata_requests_cross_over(self, fitted):
        with sklearn.config_context(enable_metadata_routing=True):
            model = MLPClassifier(**parameters())
            model.set_fit_request(sample_weight="importance", X_val=True)
            model.set_partial_fit_request(classes=True).set_score_request(sample_weight=False)
            theirs = as_theirs(model.fit(X, CLASSES))
            if not fitted:
                theirs = clone(theirs)
            for other in (theirs, as_ours(theirs)):
                routing = other.get_metadata_routing()
                assert routing.fit.requests["sample_weight"] == "importance"
                assert routing.partial_fit.requests == {"classes": True, "sample_weight": None}
                assert routing.score.requests == {"sample_weight": False}
                expected = type(other)().get_metadata_routing().fit.requests.keys()
                assert routing.fit.requests.keys() == expected
            other.set_fit_request(X_val=False)
            assert model.get_metadata_routing().fit.requests["X_val"] is True
            assert not hasattr(as_theirs(MLPRegressor().fit(X, X[:, 0])), "_metadata_request")

    def test_no_hidden_layer(self):
        model = MLPClassifier(**parameters(hidden_layer_sizes=())).fit(X, CLASSES)
        theirs = as_theirs(model)
        assert_predicts_the_same(model, theirs, rtol=1e-12)
        assert_predicts_the_same(model, as_ours(theirs), rtol=1e-12)

    @pytest.mark.filterwarnings("ignore::fastmlp.exceptions.LatePatchWarning")
    def test_under_the_patch(self):
        model = MLPClassifier(**parameters()).fit(X, CLASSES)
        patch_sklearn()
        try:
            theirs = as_theirs(model)
            assert type(theirs) is SklearnMLPClassifier
            assert type(as_ours(theirs)) is MLPClassifier
        finally:
            unpatch_sklearn()


class TestToSklearn:
    @pytest.mark.parametrize("input_scale", ["standard", 0.5, (2.0, -1.0)])
    @pytest.mark.parametrize("hidden_layer_sizes", [(5,), ()])
    def test_input_scale_is_folded_into_the_first_layer(self, input_scale, hidden_layer_sizes):
        data = 3 * X + 7
        model = MLPClassifier(
            **parameters(hidden_layer_sizes=hidden_layer_sizes, input_scale=input_scale)
        ).fit(data, CLASSES)
        scale, shift = model.input_scale_
        theirs = as_theirs(model)
        np.testing.assert_allclose(theirs.coefs_[0], scale[:, np.newaxis] * model.coefs_[0])
        np.testing.assert_allclose(
            theirs.intercepts_[0], model.intercepts_[0] + shift @ model.coefs_[0]
        )
        assert_predicts_the_same(model, theirs, data, rtol=1e-10)

    def test_fold_by_hand(self):
        model = MLPRegressor(**parameters(hidden_layer_sizes=(), input_scale=(2.0, -3.0)))
        model.fit(X[:, :1], NUMBERS[:, 0])
        model.coefs_, model.intercepts_ = [np.array([[5.0]])], [np.array([1.0])]
        theirs = as_theirs(model)  # 5 (2 x - 3) + 1 = 10 x - 14
        assert theirs.coefs_[0].tolist() == [[10.0]]
        assert theirs.intercepts_[0].tolist() == [-14.0]
        assert model.coefs_[0].tolist() == [[5.0]]

    def test_model_of_bytes(self):
        images = RNG.randint(0, 256, (90, 6)).astype(np.uint8)
        model = MLPClassifier(**parameters(input_scale=1 / 255)).fit(images, CLASSES)
        theirs = as_theirs(model)
        assert theirs.coefs_[0].dtype == np.float32
        np.testing.assert_allclose(
            theirs.predict_proba(images), model.predict_proba(images), rtol=1e-5
        )

    def test_own_parameters_stay_behind(self):
        model = MLPClassifier(**parameters(dtype="float32", n_threads=1, lr_schedule={1: 0.01}))
        theirs = as_theirs(model.fit(X, CLASSES))
        shared = {name: model.get_params()[name] for name in SklearnMLPClassifier().get_params()}
        assert theirs.get_params() == shared
        assert repr(theirs) == repr(SklearnMLPClassifier(**parameters()))

    def test_has_what_scikit_learns_own_fit_leaves(self, task):
        cls, theirs_class, y, extra = task
        for others in ({}, {"early_stopping": True}, {"solver": "lbfgs"}):
            expected = theirs_class(**parameters(**others, **extra)).fit(X, y)
            theirs = as_theirs(cls(**parameters(**others, **extra)).fit(X, y))
            scratch = {"_optimizer", "_coef_indptr", "_intercept_indptr", "_no_improvement_count"}
            assert vars(expected).keys() - scratch == vars(theirs).keys() - scratch
            for name in ("coefs_", "intercepts_"):
                for layer in getattr(theirs, name):
                    assert type(layer) is np.ndarray
                    assert layer.flags.owndata and layer.flags.c_contiguous

    def test_trains_on(self, task):
        cls, _, y, extra = task
        theirs = as_theirs(cls(**parameters(input_scale=0.5, **extra)).fit(X, y))
        before = theirs.loss_
        for _ in range(30):
            theirs.partial_fit(X, y)
        assert theirs.loss_ < before

    @pytest.mark.slow
    def test_pickle_needs_no_fastmlp(self, tmp_path):
        pairs = []
        for cls, _, y, extra in TASKS.values():
            model = cls(**parameters(input_scale="standard", **extra)).fit(X, y)
            theirs = as_theirs(model)
            pairs.append((theirs, theirs.predict(X)))
        payload = pickle.dumps((X, pairs))
        assert b"fastmlp" not in payload
        (tmp_path / "models.pickle").write_bytes(payload)
        code = (
            "import pickle, sys; sys.modules['fastmlp'] = None; "
            f"X, pairs = pickle.load(open({str(tmp_path / 'models.pickle')!r}, 'rb')); "
            "print([(model.predict(X) == expected).all().item() for model, expected in pairs])"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.stdout == f"{[True] * len(TASKS)}\n", run.stderr

    def test_refuses_what_is_not_ours(self):
        class Subclass(MLPClassifier):
            pass

        with pytest.raises(
            TypeError, match="only fastmlp's own classes can be converted, got .*Subcl"
        ):
            as_theirs(Subclass())

    @pytest.mark.parametrize("name", [name for name, a in ACTIVATIONS.items() if not a.is_sklearns])
    def test_refuses_what_scikit_learn_has_not(self, name):
        model = MLPRegressor(**parameters(activation=name)).fit(X, X[:, 0])
        with pytest.raises(ValueError, match=f"scikit-learn has no activation='{name}'"):
            model.to_sklearn()

    @pytest.mark.parametrize("name", [name for name, o in OPTIMIZERS.items() if not o.is_sklearns])
    def test_refuses_solvers_that_scikit_learn_has_not(self, name):
        model = MLPRegressor(**parameters(solver=name)).fit(X, X[:, 0])
        with pytest.raises(ValueError, match=f"scikit-learn has no solver='{name}'"):
            model.to_sklearn()

    def test_refuses_clipped_gradients(self):
        model = MLPRegressor(**parameters(max_grad_norm=1.0)).fit(X, X[:, 0])
        with pytest.raises(ValueError, match=r"does not clip gradients \(max_grad_norm=1.0\)"):
            model.to_sklearn()

    def test_refuses_a_model_that_is_not_fitted(self):
        with pytest.raises(NotFittedError, match="This MLPRegressor instance is not fitted yet"):
            as_theirs(MLPRegressor())


class TestFromSklearn:
    @pytest.mark.parametrize("early_stopping", [False, True])
    def test_fitted_attributes(self, task, early_stopping):
        _, theirs_class, y, extra = task
        theirs = theirs_class(**parameters(early_stopping=early_stopping, **extra)).fit(X, y)
        ours = as_ours(theirs)
        assert_same_fit(theirs, ours)
        assert ours.history_["loss"] == theirs.loss_curve_
        assert ours.history_.get("val_score") == theirs.validation_scores_
        assert ours.input_scale_ is None
        assert all(coef.base is ours.coefs_[0].base for coef in ours.coefs_)  # one flat vector

    @pytest.mark.parametrize(
        "solver",
        [
            {"solver": "adam", "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-6},
            {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.8},
            {"solver": "sgd", "nesterovs_momentum": False},
        ],
    )
    def test_partial_fit_goes_on_with_the_same_numbers(self, task, solver):
        _, theirs_class, y, extra = task
        theirs = theirs_class(**parameters(**solver, **extra)).fit(X, y)
        ours = as_ours(theirs).set_params(backend="numpy")
        for _ in range(3):
            assert_same_fit(theirs.partial_fit(X, y), ours.partial_fit(X, y))

    def test_history_goes_on(self):
        ours = as_ours(SklearnMLPClassifier(**parameters(warm_start=True)).fit(X, CLASSES))
        ours.fit(X, CLASSES)
        assert ours.history_["loss"] == ours.loss_curve_
        assert np.isnan(ours.history_["seconds"][:4]).all()
        assert np.isfinite(ours.history_["seconds"][4:]).all()

    def test_the_state_of_single_precision_stays_so(self):
        y = NUMBERS[:, 0]  # with these targets scikit-learn keeps Adam's moments in float64
        theirs = SklearnMLPRegressor(**parameters()).fit(X.astype(np.float32), y)
        ours = as_ours(theirs)
        assert ours._optimizer.m.dtype == ours.coefs_[0].dtype == np.float32
        ours.partial_fit(X.astype(np.float32), y)

    def test_only_parameters_if_not_fitted(self):
        theirs = SklearnMLPRegressor(alpha=0.5, hidden_layer_sizes=(3, 2))
        ours = as_ours(theirs)
        assert theirs.get_params().items() <= ours.get_params().items()
        assert not hasattr(ours, "coefs_")

    def test_refuses_what_is_not_scikit_learns(self):
        with pytest.raises(TypeError, match=r"scikit-learn's MLPClassifier, got fastmlp\.estim"):
            MLPClassifier.from_sklearn(MLPClassifier())
        with pytest.raises(TypeError, match=r"got builtins\.str\."):
            MLPRegressor.from_sklearn("MLPClassifier()")


def test_a_model_made_by_hand_becomes_scikit_learns():
    model = MLPRegressor(hidden_layer_sizes=(2,))
    model.coefs_ = [np.ones((3, 2)), np.ones((2, 1))]
    model.intercepts_, model.out_activation_ = [np.zeros(2), np.zeros(1)], "identity"
    model.n_layers_, model.n_outputs_ = 3, 1
    X = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(model.to_sklearn().predict(X), [6, 24])
