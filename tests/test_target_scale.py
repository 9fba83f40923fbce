"""Targets far from unit scale: the hint, `target_scale`, and what is said of divergence."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_friedman1
from sklearn.preprocessing import StandardScaler

from fastmlp import MLPClassifier, MLPRegressor, persistence
from fastmlp.core.inputs import target_map
from fastmlp.exceptions import InputScaleWarning, TargetScaleWarning, WarmStartWarning

X, UNIT = make_friedman1(600, n_features=6, noise=0.5, random_state=0)
X = StandardScaler().fit_transform(X)
UNIT = (UNIT - UNIT.mean()) / UNIT.std()
HOUSES = 300_000 + 80_000 * UNIT
TRAIN, TEST = slice(400), slice(400, None)
PARAMETERS = {"hidden_layer_sizes": (20,), "random_state": 0}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def mlp(**parameters):
    return MLPRegressor(**PARAMETERS | parameters)


class TestMap:
    @pytest.mark.parametrize(
        ("target_scale", "scale", "shift"),
        [
            (2, [2, 2], [0, 0]), ((0.5, -1), [0.5, 0.5], [-1, -1]),
            (([1, -2], [3, 4]), [1, -2], [3, 4]), ("standard", [1, 0.5], [-2, -2]),
        ],
    )  # fmt: skip
    def test_values(self, target_scale, scale, shift):
        Y = np.array([[1.0, 2.0], [3.0, 6.0]])
        for ours, expected in zip(target_map(target_scale, Y), (scale, shift), strict=True):
            assert ours.dtype == np.float64
            np.testing.assert_allclose(ours, expected, rtol=1e-15)

    def test_a_constant_becomes_zero(self):
        scale, shift = target_map("standard", np.full((5, 1), 7.0))
        assert (scale * 7 + shift).item() == 0

    @pytest.mark.parametrize(
        "bad",
        ["minmax", 0, np.nan, (1, np.inf), (1, 2, 3), ([1, 0], 0), ([1, 2, 3], 0), ...,
         ("a", 1), {}],
        ids=repr,
    )  # fmt: skip
    def test_what_is_none_is_refused(self, bad):
        model = mlp(target_scale=bad)
        with pytest.raises(ValueError, match="target_scale must be None, 'standard', a number"):
            model.fit(X[TRAIN], np.c_[UNIT, UNIT][TRAIN])
        assert not hasattr(model, "coefs_")

    @pytest.mark.parametrize("bad", ["standard", -1.0, (1, 1)])
    def test_counts_keep_their_sign(self, bad):
        with pytest.raises(ValueError, match="must be a positive factor where targets must not be"):
            mlp(target_scale=bad, loss="poisson").fit(X, np.abs(HOUSES))


class TestLearning:
    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_hundred_thousands(self, backend, dtype):
        """As good as scikit-learn's way, and so much better than without."""
        data, y = X.astype(dtype), HOUSES.astype(dtype)
        options = {"backend": backend, "learning_rate_init": 0.01}
        expected = TransformedTargetRegressor(mlp(**options), transformer=StandardScaler())
        expected = expected.fit(data[TRAIN], y[TRAIN]).score(data[TEST], y[TEST])
        assert expected > 0.85
        model = mlp(target_scale="standard", **options).fit(data[TRAIN], y[TRAIN])
        assert model.score(data[TEST], y[TEST]) == pytest.approx(expected, abs=1e-3)
        assert model.predict(data).dtype == dtype
        with pytest.warns(TargetScaleWarning, match="target_scale='standard'"):
            without = mlp(**options).fit(data[TRAIN], y[TRAIN])
        assert without.score(data[TEST], y[TEST]) < -5

    @pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
    def test_is_training_on_scaled_targets(self, solver):
        """Numbers and all: weights, losses, scores and validation."""
        early_stopping = solver != "lbfgs"
        Y = np.c_[HOUSES, 5 - 1000 * UNIT]
        options = {"solver": solver, "max_iter": 5, "early_stopping": early_stopping}
        model = mlp(target_scale=([1e-5, 2e-3], [-3, 0.5]), **options)
        model.fit(X[TRAIN], Y[TRAIN], np.arange(400.0))
        plain = mlp(**options)
        scaled = np.c_[1e-5 * Y[:, 0] - 3, 2e-3 * Y[:, 1] + 0.5]
        plain.fit(X[TRAIN], scaled[TRAIN], np.arange(400.0))
        np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])
        assert model.history_["loss"] == plain.history_["loss"]
        if early_stopping:
            np.testing.assert_allclose(model.validation_scores_, plain.validation_scores_)
        undone = (plain.predict(X) - [-3, 0.5]) / [1e-5, 2e-3]
        np.testing.assert_allclose(model.predict(X), undone, rtol=1e-12)

    def test_validation_data(self):
        model = mlp(target_scale="standard", max_iter=3)
        model.fit(X[TRAIN], HOUSES[TRAIN], X_val=X[TEST], y_val=HOUSES[TEST])
        assert model.history_["val_score"][-1] == pytest.approx(model.score(X[TEST], HOUSES[TEST]))
        scale, shift = model.target_scale_
        errors = scale * (model.predict(X[TEST]) - HOUSES[TEST])
        assert model.history_["val_loss"][-1] == pytest.approx((errors**2).mean() / 2)

    def test_poisson_with_a_factor(self):
        counts = np.exp(5 + UNIT)
        model = mlp(loss="poisson", target_scale=1 / counts.mean()).fit(X[TRAIN], counts[TRAIN])
        assert model.score(X[TEST], counts[TEST]) > 0.3
        np.testing.assert_allclose(model.to_sklearn().predict(X), model.predict(X), rtol=1e-9)

    def test_bytes_and_bools_as_targets(self):
        y = (UNIT > 0).astype(np.uint8)
        models = [mlp(target_scale="standard", max_iter=3).fit(X, each) for each in (y, y > 0)]
        np.testing.assert_array_equal(models[0].predict(X), models[1].predict(X))


class TestGoingOn:
    @pytest.mark.parametrize("way", ["warm start", "partial_fit"])
    def test_the_map_of_the_first_fit_is_kept(self, way):
        model = mlp(target_scale="standard", max_iter=2, warm_start=True)
        go_on = model.fit if way == "warm start" else model.partial_fit
        go_on(X[TRAIN], HOUSES[TRAIN])
        first = model.target_scale_
        go_on(X[TEST], 2 * HOUSES[TEST])
        assert model.target_scale_ is first
        for other in (None, 1e-5):
            model.target_scale = other
            with pytest.warns(WarmStartWarning, match="target_scale_ of the first fit is"):
                go_on(X, HOUSES)
        model.target_scale = first
        go_on(X, HOUSES)
        assert model.fit(X, HOUSES).target_scale_ is first

    def test_a_new_fit_has_a_new_map(self):
        model = mlp(target_scale="standard", max_iter=2).fit(X, HOUSES)
        assert model.set_params(target_scale=None).fit(X, UNIT).target_scale_ is None

    def test_copies(self):
        model = mlp(target_scale="standard", max_iter=2).fit(X, HOUSES)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            np.testing.assert_array_equal(other.predict(X), model.predict(X))
            np.testing.assert_array_equal(
                other.partial_fit(X, HOUSES).predict(X),
                copy.deepcopy(model).partial_fit(X, HOUSES).predict(X),
            )

    @pytest.mark.parametrize(
        "bad", [0.5, (np.ones(2), np.ones(1)), (np.ones(1), None), (np.ones(1),), "standard"]
    )
    def test_one_that_was_replaced_is_refused(self, bad):
        model = mlp(max_iter=2).fit(X, UNIT)
        model.target_scale_ = bad
        for act in (lambda: model.partial_fit(X, UNIT), lambda: model.predict(X)):
            with pytest.raises(ValueError, match=r"target_scale_ must be None or a pair .*\(1,\)"):
                act()


class TestSaved:
    @pytest.mark.parametrize("Y", [HOUSES, np.c_[HOUSES, -UNIT]], ids=["one", "several"])
    def test_goes_on_after_loading(self, Y, tmp_path):
        model = mlp(target_scale="standard", max_iter=3, warm_start=True).fit(X, Y)
        persistence.save(model, tmp_path / "model.npz")
        loaded = persistence.load(tmp_path / "model.npz")
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
        np.testing.assert_array_equal(loaded.target_scale_, model.target_scale_)
        assert loaded.target_scale == "standard"
        np.testing.assert_array_equal(loaded.fit(X, Y).predict(X), model.fit(X, Y).predict(X))

    def test_a_pair_and_none(self, tmp_path):
        for target_scale in (([1e-5], [2.0]), None):
            model = mlp(target_scale=target_scale, max_iter=3).fit(X, UNIT)
            persistence.save(model, tmp_path / "model.npz")
            loaded = persistence.load(tmp_path / "model.npz")
            np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
            loaded.fit(X, UNIT)

    @pytest.mark.parametrize("bad", [np.ones(3), np.zeros(1), np.ones((1, 1)), np.array(["x"])])
    def test_one_that_does_not_fit_is_refused(self, bad, tmp_path):
        model = mlp(target_scale=2.0, max_iter=3).fit(X, UNIT)
        persistence.save(model, tmp_path / "model.npz")
        with np.load(tmp_path / "model.npz") as archive:
            arrays = dict(archive)
        np.savez(tmp_path / "other.npz", **(arrays | {"target_scale": bad}))
        with pytest.raises(persistence.ModelFileError, match="its target_scale"):
            persistence.load(tmp_path / "other.npz")


class TestConversion:
    @pytest.mark.parametrize("Y", [HOUSES, np.c_[HOUSES, -UNIT]], ids=["one", "several"])
    def test_becomes_part_of_the_last_layer(self, Y):
        model = mlp(target_scale="standard", input_scale=2.0, max_iter=5).fit(X, Y)
        theirs = model.to_sklearn()
        np.testing.assert_allclose(theirs.predict(X), model.predict(X), rtol=1e-9)
        back = MLPRegressor.from_sklearn(theirs)
        assert back.target_scale_ is None
        np.testing.assert_allclose(back.predict(X), model.predict(X), rtol=1e-9)

    def test_not_of_another_function(self):
        model = mlp(target_scale="standard", max_iter=2).fit(X, HOUSES)
        model.out_activation_ = "relu"
        with pytest.raises(ValueError, match="target_scale_ cannot become part of an output layer"):
            model.to_sklearn()


class TestHint:
    @pytest.mark.parametrize(
        ("y", "solver"),
        [(HOUSES, "adam"), (1990 + UNIT, "adam"), (5000 * UNIT, "sgd"), (1990 + UNIT, "lbfgs"),
         (np.c_[UNIT, HOUSES], "adam")],
    )  # fmt: skip
    def test_given(self, y, solver):
        model = mlp(solver=solver, learning_rate_init=1e-12, max_iter=2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X, y)
        hints = [w for w in caught if w.category is TargetScaleWarning]
        assert len(hints) == 1
        assert hints[0].filename == __file__

    @pytest.mark.parametrize(
        ("y", "parameters"),
        [
            (UNIT, {}), (200 * UNIT, {}), (50 + UNIT, {}), (5000 * UNIT, {"solver": "lbfgs"}),
            (HOUSES, {"target_scale": "standard"}), (HOUSES, {"target_scale": 1e-5}),
            (np.exp(UNIT) * 1000, {"loss": "poisson"}),
        ],
    )  # fmt: skip
    def test_not_given(self, y, parameters):
        mlp(max_iter=2, **parameters).fit(X, y)

    def test_given_once_per_model(self):
        model = mlp(warm_start=True, max_iter=2)
        with pytest.warns(TargetScaleWarning):
            model.fit(X, HOUSES)
        model.fit(X, HOUSES)


class TestDivergence:
    FIRST = "Solver produced non-finite parameter weights. "

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    @pytest.mark.parametrize(
        ("factor", "y", "rate", "named"),
        [
            (1, HOUSES, 0.001, ["The targets are as large as 5.*target_scale='standard'"]),
            (1e6, UNIT, 0.1, ["The input data may contain large values and need to be preproc"]),
            (1e6, HOUSES, 0.1, ["The input data may contain large values", "The targets are as"]),
            (1, UNIT, 100.0, ["learning rate may be too high: learning_rate_init=100.0"]),
        ],
    )
    def test_says_what_is_large(self, backend, factor, y, rate, named):
        model = mlp(solver="sgd", learning_rate_init=rate, max_iter=50, backend=backend)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InputScaleWarning)
            warnings.simplefilter("ignore", TargetScaleWarning)
            with pytest.raises(ValueError, match=self.FIRST) as caught:
                model.fit(factor * X, y)
        assert str(caught.value).startswith(self.FIRST)
        reasons = ("The input data", "The targets", "learning rate")
        assert sum(reason in str(caught.value) for reason in reasons) == len(named)
        for words in named:
            assert re.search(words, str(caught.value))

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_of_a_classifier(self):
        with pytest.raises(ValueError, match=f"{self.FIRST}.*learning_rate_init=1000"):
            MLPClassifier((5,), solver="sgd", learning_rate_init=1e15, alpha=1).fit(X, UNIT > 0)

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_of_sparse_and_scaled_inputs(self):
        from scipy.sparse import csr_matrix

        def message(data, **parameters):
            model = mlp(solver="sgd", learning_rate_init=100.0, max_iter=50, **parameters)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InputScaleWarning)
                with pytest.raises(ValueError, match=self.FIRST) as caught:
                    model.fit(data, UNIT)
            return str(caught.value)

        assert "The input data" in message(csr_matrix(1e4 * X))
        assert "learning rate may" in message(csr_matrix(1e4 * X), input_scale=1e-4)
        assert "learning rate may" in message(1e4 * X, input_scale="standard")
