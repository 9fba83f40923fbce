"""Subclasses that override scikit-learn's private methods, and models made by hand."""

import copy
import pickle
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import LabelBinarizer

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.accel import SKLEARN_ESTIMATORS
from fastmlp.estimators.overrides import _ENGINES_PART, check_overrides

RNG = np.random.RandomState(0)
X = RNG.standard_normal((60, 4))
NUMBERS = X @ RNG.standard_normal((4, 2))
LABELS = np.array(["a", "b", "c"])[NUMBERS.argmax(axis=1) + (NUMBERS[:, 0] > 1)]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Orthogonal:
    """Weights that a subclass draws itself, knowing where in the network it is."""

    def _init_coef(self, fan_in, fan_out, dtype):
        self.seen_ = [*getattr(self, "seen_", []), (fan_in, fan_out, np.dtype(dtype).name)]
        drawn = self._random_state.standard_normal((max(fan_in, fan_out),) * 2)
        coef = np.linalg.qr(drawn)[0][:fan_in, :fan_out] / (1 + len(self.coefs_))
        is_last = len(self.coefs_) == self.n_layers_ - 2
        return coef.astype(dtype), np.full(fan_out, 0.0 if is_last else 0.1, dtype)


class Halved:
    """Weights that a subclass changes."""

    def _init_coef(self, fan_in, fan_out, dtype):
        coef, intercept = super()._init_coef(fan_in, fan_out, dtype)
        return coef / 2, np.zeros_like(intercept)


def pair(mixin, name):
    """Return the mixin on top of our class, and of scikit-learn's."""
    theirs = type("Theirs", (mixin, SKLEARN_ESTIMATORS[name]), {})
    ours = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}[name]
    return type("Ours", (mixin, ours), {}), theirs


def subclass(name, method=lambda self, *args, **kwargs: None):
    return type("Special", (MLPRegressor,), {name: method})


class TestInitialWeights:
    @pytest.mark.parametrize("mixin", [Orthogonal, Halved])
    @pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    @pytest.mark.parametrize(
        ("name", "y", "activation"),
        # Numbers as classes: scikit-learn 1.7 cannot validate others.
        [("MLPClassifier", NUMBERS.argmax(axis=1), "logistic"), ("MLPRegressor", NUMBERS, "relu")],
    )
    def test_are_those_of_scikit_learns_subclass(self, mixin, solver, dtype, name, y, activation):
        parameters = {
            "hidden_layer_sizes": (7, 5),
            "activation": activation,
            "solver": solver,
            "max_iter": 3,
            "early_stopping": solver != "lbfgs",
            "random_state": 3,
        }
        data = X.astype(dtype)
        ours, theirs = (cls(**parameters).fit(data, y) for cls in pair(mixin, name))
        tolerance = 1e-9 if dtype == "float64" else 1e-3
        for a, b in zip(
            ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True
        ):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        assert ours.loss_ == pytest.approx(theirs.loss_, rel=tolerance)
        if mixin is Orthogonal:
            assert ours.seen_ == theirs.seen_
            assert ours.seen_[0] == (4, 7, dtype)

    def test_of_one_object(self):
        model = MLPRegressor(hidden_layer_sizes=(3,), max_iter=1)
        model._init_coef = lambda fan_in, fan_out, dtype: (
            np.zeros((fan_in, fan_out)),
            np.zeros(fan_out),
        )
        model.fit(X, NUMBERS)
        np.testing.assert_array_equal(model.coefs_[0], 0)

    def test_are_drawn_once(self):
        cls, _ = pair(Orthogonal, "MLPRegressor")
        model = cls(hidden_layer_sizes=(3,), max_iter=1, warm_start=True).fit(X, NUMBERS)
        seen = list(model.seen_)
        assert len(seen) == 2
        assert model.fit(X, NUMBERS).partial_fit(X, NUMBERS).seen_ == seen

    @pytest.mark.parametrize(
        "returned",
        [None, 3, (), (np.zeros((4, 3)),), (np.zeros((3, 4)), np.zeros(3)), (1, 2), ("a", "b"),
         (np.full((4, 3), "x"), np.zeros(3)), (np.zeros((4, 3)), np.zeros((3, 1)))],
        ids=repr,
    )  # fmt: skip
    def test_of_a_wrong_shape_are_refused(self, returned):
        model = subclass("_init_coef", lambda *_: returned)(hidden_layer_sizes=(3,))
        before = vars(model).copy()
        with pytest.raises(ValueError, match=r"_init_coef must return .* \(4, 3\) and \(3,\), got"):
            model.fit(X, NUMBERS)
        assert vars(model) == before


class TestRefused:
    @pytest.mark.parametrize("name", _ENGINES_PART)
    def test_an_override_that_would_be_ignored(self, name):
        # each exists in the scikit-learn that is installed
        assert any(hasattr(cls, name) for cls in SKLEARN_ESTIMATORS.values())
        model = subclass(name)(hidden_layer_sizes=(3,), early_stopping=True)
        with pytest.raises(TypeError, match=rf"Special overrides {name}, but .*\['MLPRegressor'\]"):
            model.fit(X, NUMBERS)
        with pytest.raises(TypeError, match=f"Special overrides {name}"):
            model.partial_fit(X, NUMBERS)

    def test_predictions_call_forward_pass_fast(self):
        special = subclass("_forward_pass_fast", lambda self, X, check_input=True: X[:, :2] + 1)
        model = special(hidden_layer_sizes=(3,), max_iter=2).fit(X, NUMBERS)
        np.testing.assert_array_equal(model.predict(X), X[:, :2] + 1)

    def test_one_inherited_from_afar(self):
        special = subclass("_backprop")
        grandchild = type("Child", (special,), {})
        with pytest.raises(TypeError, match="Special overrides _backprop"):
            grandchild(hidden_layer_sizes=(3,)).fit(X, NUMBERS)

    def test_one_of_a_single_object(self):
        model = MLPClassifier((3,))
        model._update_no_improvement_count = lambda *_: None
        with pytest.raises(TypeError, match="this MLPClassifier overrides _update_no_improv"):
            model.fit(X, LABELS)

    def test_a_class_that_was_patched(self, monkeypatch):
        monkeypatch.setattr(MLPClassifier, "_backprop", lambda *_: None, raising=False)
        with pytest.raises(TypeError, match="MLPClassifier overrides _backprop"):
            MLPClassifier((3,)).fit(X, LABELS)

    def test_our_own_classes_override_nothing(self):
        for cls in (MLPClassifier, MLPRegressor):
            check_overrides(cls())

    def test_the_way_out_works(self):
        with pytest.raises(TypeError) as caught:
            subclass("_backprop")(hidden_layer_sizes=(3,)).fit(X, NUMBERS)
        where = re.search(r"fastmlp\.accel\.(SKLEARN_ESTIMATORS)\['(\w+)'\]", str(caught.value))
        theirs = SKLEARN_ESTIMATORS[where[2]]

        class Special(theirs):
            def _backprop(self, *args):
                self.called_ = True
                return super()._backprop(*args)

        assert Special(hidden_layer_sizes=(3,), max_iter=1).fit(X, NUMBERS).called_


class TestPredict:
    """`_predict` is called by predictions in both libraries, fitted or not."""

    @pytest.mark.parametrize("is_fitted", [True, False])
    @pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
    def test_an_override_is_called_as_scikit_learns(self, name, is_fitted):
        class First:
            def _predict(self, X, check_input=True):
                return super()._predict(X, check_input=check_input)[:1]

        y = LABELS if name == "MLPClassifier" else NUMBERS[:, 0]
        predictions = []
        for cls in pair(First, name):
            model = cls(hidden_layer_sizes=(3,), max_iter=2, random_state=0)
            if is_fitted:
                model.fit(X, y)
            else:
                plain = cls.__mro__[2](hidden_layer_sizes=(3,), max_iter=2, random_state=0)
                model.__dict__.update(vars(plain.fit(X, y)))
            predictions.append(model.predict(X))
        assert len(predictions[0]) == len(predictions[1]) == 1
        if name == "MLPRegressor":
            np.testing.assert_allclose(*predictions, rtol=1e-9)
        else:
            assert predictions[0] == predictions[1]

    def test_it_is_refused_where_validation_data_are_scored(self):
        special = type("Special", (MLPRegressor,), {"_predict": lambda self, X, check_input: 0})
        with pytest.raises(TypeError, match="overrides _predict.*for validation data"):
            special(early_stopping=True).fit(X, NUMBERS[:, 0])


class TestFit:
    """`_fit` and `_check_solver` are Python in both libraries."""

    @pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
    def test_an_override_is_called_as_scikit_learns(self, name):
        class Twice:
            calls = ()

            def _fit(self, X, y, sample_weight=None, incremental=False):
                self.calls = (*self.calls, (sample_weight is None, incremental))
                return super()._fit(2 * X, y, sample_weight=sample_weight, incremental=incremental)

        y = LABELS if name == "MLPClassifier" else NUMBERS[:, 0]
        classes = {"classes": np.unique(y)} if name == "MLPClassifier" else {}
        models = []
        for cls in pair(Twice, name):
            model = cls(hidden_layer_sizes=(3,), max_iter=2, random_state=0).fit(
                X, y, np.ones(len(X))
            )
            assert model.calls == ((False, False),)
            other = clone(model).partial_fit(X, y, **classes)
            assert other.calls == ((True, True),)
            models.append(model)
        np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0], rtol=1e-9)

    def test_check_solver(self):
        special = type("Never", (MLPClassifier,), {"_check_solver": lambda self: False})
        assert not hasattr(special(), "partial_fit")


class TestByHand:
    @staticmethod
    def made(cls, y, **parameters):
        """Return a model that never saw fit."""
        model = cls(hidden_layer_sizes=(3,), random_state=0, max_iter=3, **parameters)
        rng = np.random.RandomState(7)
        model.coefs_ = [rng.standard_normal((4, 3)), rng.standard_normal((3, 2))]
        model.intercepts_ = [np.zeros(3), np.zeros(2)]
        model.n_layers_, model.n_outputs_, model.out_activation_ = 3, 2, "identity"
        return model

    def test_lbfgs_goes_on_as_scikit_learns(self):
        ours, theirs = (
            self.made(cls, NUMBERS, solver="lbfgs", warm_start=True).fit(X, NUMBERS)
            for cls in (MLPRegressor, SKLEARN_ESTIMATORS["MLPRegressor"])
        )
        np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=1e-6)
        assert ours.loss_ == pytest.approx(theirs.loss_)

    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    @pytest.mark.parametrize("way", ["warm start", "partial_fit"])
    def test_stochastic_solvers_go_on(self, solver, way):
        """scikit-learn's need t_, loss_curve_ and what counts progress, too; set these for it."""
        models = []
        for cls in (MLPRegressor, SKLEARN_ESTIMATORS["MLPRegressor"]):
            model = self.made(cls, NUMBERS, solver=solver, warm_start=way == "warm start")
            model.t_, model.loss_curve_, model.best_loss_ = 120, [9.0, 8.0], 8.0
            model._no_improvement_count = 1
            if way == "partial_fit":
                for _ in range(3):
                    model.partial_fit(X, NUMBERS)
            else:
                model.fit(X, NUMBERS)
            models.append(model)
        ours, theirs = models
        np.testing.assert_allclose(ours.coefs_[1], theirs.coefs_[1], rtol=1e-9)
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
        assert len(ours.loss_curve_) == 5
        assert (ours.t_, ours.n_iter_) == (theirs.t_, theirs.n_iter_)
        assert ours._no_improvement_count == theirs._no_improvement_count
        bare = self.made(MLPRegressor, NUMBERS, solver=solver).partial_fit(X, NUMBERS)
        assert bare.t_ == len(X)
        assert bare.n_features_in_ == 4

    def test_a_classifier(self):
        model = self.made(MLPClassifier, LABELS, warm_start=True)
        model.out_activation_ = "softmax"
        model.coefs_[1], model.intercepts_[1] = np.ones((3, 3)), np.zeros(3)
        model.classes_ = np.array(["a", "b", "c"])
        with pytest.raises(ValueError, match="classes_ and _label_binarizer must"):
            model.fit(X, LABELS)
        model._label_binarizer = LabelBinarizer().fit(LABELS)
        assert model.fit(X, LABELS).n_iter_ == 3

    @pytest.mark.parametrize("missing", ["intercepts_", "out_activation_"])
    def test_what_is_missing_is_named(self, missing):
        model = self.made(MLPRegressor, NUMBERS)
        delattr(model, missing)
        with pytest.raises(ValueError, match=f"a model with coefs_ must have {missing}, too"):
            model.partial_fit(X, NUMBERS)

    @pytest.mark.parametrize(
        "change",
        [
            {"coefs_": None}, {"coefs_": []}, {"coefs_": [np.ones((4, 2))]},
            {"coefs_": [np.ones(4), np.ones((3, 2))]}, {"intercepts_": 3},
            {"coefs_": [np.full((4, 3), "x"), np.ones((3, 2))]},
            {"intercepts_": [np.ones((3, 1)), np.ones(2)]}, {"intercepts_": [None, np.ones(2)]},
        ],
        ids=str,
    )  # fmt: skip
    def test_layers_that_are_none_are_refused(self, change):
        model = self.made(MLPRegressor, NUMBERS)
        vars(model).update(change)
        with pytest.raises(
            ValueError, match=r"coefs_.* and intercepts_.* must .* restore the fitted"
        ):
            model.partial_fit(X, NUMBERS)

    def test_lists_become_arrays(self):
        model, other = (self.made(MLPRegressor, NUMBERS) for _ in range(2))
        other.coefs_ = [coef.tolist() for coef in other.coefs_]
        np.testing.assert_array_equal(
            model.partial_fit(X, NUMBERS).coefs_[0], other.partial_fit(X, NUMBERS).coefs_[0]
        )

    def test_changed_weights_are_trained_on(self):
        models = [
            cls(hidden_layer_sizes=(3,), random_state=0, solver="sgd").partial_fit(X, NUMBERS)
            for cls in (MLPRegressor, SKLEARN_ESTIMATORS["MLPRegressor"])
        ]
        for model in models:
            model.coefs_[0][:] = 0.25
            model.intercepts_[1] += 1
            model.partial_fit(X, NUMBERS)
        np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0], rtol=1e-9)


class TestNoImprovementCount:
    def test_before_a_fit(self):
        model = MLPRegressor(hidden_layer_sizes=(3,), max_iter=2)
        model._no_improvement_count = 0
        assert model._no_improvement_count == 0
        for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert other.fit(X, NUMBERS).n_iter_ == 2

    def test_between_partial_fits_is_scikit_learns(self):
        """One more epoch without improvement than is allowed would print that training stops."""
        counts = []
        for cls in (MLPRegressor, SKLEARN_ESTIMATORS["MLPRegressor"]):
            model = cls(hidden_layer_sizes=(3,), tol=1e9, random_state=0).partial_fit(X, NUMBERS)
            for _ in range(4):
                model.partial_fit(X, NUMBERS)
            counts.append(model._no_improvement_count)
            model._no_improvement_count = 0
            counts.append(model.partial_fit(X, NUMBERS)._no_improvement_count)
        assert counts == [4, 1, 4, 1]

    def test_is_a_number(self):
        with pytest.raises(TypeError, match="_no_improvement_count must be a number, got 'few'"):
            MLPRegressor()._no_improvement_count = "few"

    def test_is_absent_from_a_new_model(self):
        assert not hasattr(MLPRegressor(), "_no_improvement_count")
