"""MLPClassifier as scikit-learn users know it, and what it has beyond."""

import copy
import inspect
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import sklearn
from observers import observed_fit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.neural_network import MLPRegressor as SklearnMLPRegressor
from sklearn.preprocessing import LabelBinarizer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastmlp import InputScaleWarning, MLPClassifier, MLPRegressor, backends
from fastmlp.core.functions import ACTIVATIONS
from fastmlp.training import EpochReport

OURS_ONLY = {
    *("backend", "n_threads", "dtype", "input_scale", "lr_schedule", "dropout", "augment"),
    *("weight_decay", "max_grad_norm"),
}
OURS_FOR_NUMBERS = {"target_scale"}
OURS_FOR_CLASSES = {"loss", "label_smoothing", "class_weight"}


@pytest.fixture
def blobs():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((120, 5))
    return X, np.array(["a", "b", "c"])[(X @ rng.standard_normal((5, 3))).argmax(axis=1)]


def quick(**parameters):
    """Return a model that trains for a moment without a warning about convergence."""
    return MLPClassifier(
        **{"hidden_layer_sizes": (8,), "tol": 0.5, "random_state": 0, **parameters}
    )


@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        MLPClassifier((20,), backend="numpy", learning_rate_init=0.01, max_iter=60),
        MLPRegressor(hidden_layer_sizes=20, backend="numpy", learning_rate_init=0.01, max_iter=60),
    ]
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_conventions_with_numpy(estimator, check):
    check(estimator)


class TestParameters:
    @pytest.mark.parametrize(
        ("our_class", "their_class", "extra"),
        [
            (MLPClassifier, SklearnMLPClassifier, OURS_ONLY | OURS_FOR_CLASSES),
            (MLPRegressor, SklearnMLPRegressor, OURS_ONLY | OURS_FOR_NUMBERS),
        ],
    )
    def test_signature_is_scikit_learns_and_more(self, our_class, their_class, extra):
        ours = inspect.signature(our_class).parameters
        theirs = inspect.signature(their_class).parameters
        assert set(ours) - set(theirs) == extra
        for name, parameter in theirs.items():
            assert ours[name].default == parameter.default, name
            assert ours[name].kind == parameter.kind, name
        assert list(ours)[: len(theirs)] == list(theirs)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("hidden_layer_sizes", 0), ("hidden_layer_sizes", "abc"),
            ("hidden_layer_sizes", [3, -1]), ("hidden_layer_sizes", 2.5),
            ("activation", "swish"), ("activation", None),
            ("alpha", -1), ("alpha", "a"), ("alpha", np.nan), ("batch_size", 0),
            ("batch_size", "all"), ("batch_size", 2.0), ("learning_rate", "fast"),
            ("learning_rate_init", 0), ("power_t", -0.1), ("max_iter", 0), ("max_iter", 2.5),
            ("shuffle", 3), ("random_state", -1), ("random_state", np.random.default_rng(0)),
            ("tol", None), ("tol", -1), ("verbose", -1), ("verbose", "yes"), ("warm_start", "no"),
            ("momentum", 1.1), ("nesterovs_momentum", 1), ("early_stopping", None),
            ("validation_fraction", 1), ("validation_fraction", -0.1), ("beta_1", 1), ("beta_2", 2),
            ("epsilon", 0), ("n_iter_no_change", 0), ("n_iter_no_change", 1.5), ("max_fun", 0),
        ],
    )  # fmt: skip
    def test_bad_values_raise_scikit_learns_errors(self, blobs, name, value):
        errors = []
        for cls in (MLPClassifier, SklearnMLPClassifier):
            with pytest.raises((ValueError, TypeError)) as caught:
                cls(**{name: value}).fit(*blobs)
            errors.append(caught.value)
        ours, theirs = errors
        assert type(ours).__name__ == type(theirs).__name__
        # scikit-learn lists the options of a set in any order; ours are sorted.
        words = re.compile(r"[^\s,{}]+")
        more = {repr(name) for name, a in ACTIVATIONS.items() if not a.is_sklearns}
        found = [word for word in words.findall(str(ours)) if word not in more]
        assert sorted(found) == sorted(words.findall(str(theirs)))

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            (
                {"solver": "lion"},
                r"'solver' parameter .* must be a str among \{'adam', 'adamw', 'lbfgs', 'sgd'\}",
            ),
            (
                {"backend": "abacus"},
                r"'backend' parameter .* among \{'auto', 'cuda', 'cython', 'numba', 'numpy'\}",
            ),
            ({"n_threads": 0}, r"'n_threads' parameter .* an int in the range \[1, inf\) or None"),
            ({"dtype": "float16"}, r"'dtype' .* among \{'float32', 'float64'\} or None"),
            (
                {"input_scale": "minmax"},
                "input_scale must be None, 'standard', a number, or a pair",
            ),
            ({"input_scale": [1, 2, 3]}, "input_scale must be None, 'standard', a number, or a pa"),
            ({"input_scale": ([1, 2], 0)}, r"got \(\[1, 2\], 0\) for 5 features"),
            ({"input_scale": np.inf}, "all finite, got inf"),
        ],
    )
    def test_bad_values_of_our_own(self, blobs, parameters, message):
        with pytest.raises(ValueError, match=message):
            MLPClassifier(**parameters).fit(*blobs)

    @pytest.mark.parametrize(
        "sizes", [True, [3, True], [3, np.True_], np.array([True]), np.array(5), [2.0]], ids=repr
    )
    def test_hidden_layer_sizes_that_are_no_integers(self, blobs, sizes):
        for cls in (MLPClassifier, SklearnMLPClassifier):
            with pytest.raises(TypeError, match="integer|0-d array"):
                cls(sizes).fit(*blobs)

    def test_validation_can_be_switched_off(self, blobs):
        with sklearn.config_context(skip_parameter_validation=True):
            quick(verbose=np.float64(0)).fit(*blobs)

    def test_clone_and_repr(self):
        model = MLPClassifier((3, 4), alpha=0.5, input_scale="standard")
        assert clone(model).get_params() == model.get_params()
        assert "input_scale='standard'" in repr(model)


class TestFit:
    @pytest.mark.parametrize("n_threads", [np.int64(2), np.uint8(1), 100, 2**31, 10**30])
    def test_any_number_of_threads(self, backend, blobs, n_threads):
        expected = quick(backend=backend).fit(*blobs).loss_
        assert quick(backend=backend, n_threads=n_threads).fit(*blobs).loss_ == pytest.approx(
            expected
        )

    def test_attributes(self, backend, blobs):
        X, y = blobs
        model = quick(backend=backend).fit(X, y)
        assert model.classes_.tolist() == ["a", "b", "c"]
        assert [W.shape for W in model.coefs_] == [(5, 8), (8, 3)]
        assert [b.shape for b in model.intercepts_] == [(8,), (3,)]
        assert (model.n_layers_, model.n_outputs_, model.n_features_in_) == (3, 3, 5)
        assert model.out_activation_ == "softmax"
        assert model.t_ == model.n_iter_ * len(X)
        assert len(model.loss_curve_) == model.n_iter_
        assert model.loss_ == model.loss_curve_[-1]
        assert model.best_loss_ == min(model.loss_curve_)
        assert model.validation_scores_ is None
        assert model.best_validation_score_ is None
        assert model.input_scale_ is None

    def test_early_stopping_keeps_the_best_weights(self, backend, blobs):
        X, y = blobs
        model = quick(
            backend=backend, early_stopping=True, n_iter_no_change=5, learning_rate_init=0.3
        ).fit(X, y)
        assert model.best_loss_ is None
        assert len(model.validation_scores_) == model.n_iter_
        assert model.best_validation_score_ == max(model.validation_scores_)

    def test_too_small_a_validation_set(self, blobs):
        with pytest.raises(ValueError, match="The validation set is too small. Increase"):
            quick(early_stopping=True, validation_fraction=0.001).fit(*blobs)

    def test_warnings(self, blobs):
        X, y = blobs
        with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
            MLPClassifier((3,), max_iter=2).fit(X, y)
        with pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample"):
            quick(batch_size=500).fit(X, y)
        with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
            quick().fit(X, y[:, np.newaxis])

    def test_warm_start_refuses_other_classes(self, blobs):
        X, y = blobs
        model = quick(warm_start=True).fit(X, y)
        with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same"):
            model.fit(X[y != "c"], y[y != "c"])

    def test_warm_start_says_that_new_layers_have_no_effect(self, blobs):
        model = quick(warm_start=True).fit(*blobs)
        model.set_params(hidden_layer_sizes=(4, 4))
        with pytest.warns(UserWarning, match=r"the hidden layers \(8,\) of the first fit are kept"):
            model.fit(*blobs)
        assert model.coefs_[0].shape == (5, 8)

    def test_warm_start_into_early_stopping(self, blobs):
        model = quick(warm_start=True).fit(*blobs)
        model.set_params(early_stopping=True).fit(*blobs)
        assert model.best_validation_score_ == max(model.validation_scores_)
        model.set_params(early_stopping=False).fit(*blobs)
        assert model.validation_scores_ is None

    def test_divergence_is_an_error(self, backend, blobs):
        X, y = blobs
        with (
            pytest.raises(ValueError, match="Solver produced non-finite parameter weights"),
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            MLPClassifier(
                solver="sgd", learning_rate_init=1e200, activation="identity", backend=backend
            ).fit(X, y)

    def test_refitting_forgets(self, blobs):
        X, y = blobs
        model = quick().fit(X, y)
        first = model.predict_proba(X)
        model.fit(X[:, :2], y == "a")
        assert model.classes_.tolist() == [False, True]
        np.testing.assert_array_equal(model.fit(X, y).predict_proba(X), first)

    @pytest.mark.parametrize(
        "refusal",
        [
            {"early_stopping": True, "validation_fraction": 0.001},
            {"input_scale": ([1, 2, 3], 0)},
            {"lr_schedule": {0: 1.0}},
        ],
        ids=lambda parameters: next(iter(parameters)),
    )
    def test_a_refused_fit_leaves_the_model_as_it_was(self, backend, blobs, refusal):
        X, y = blobs
        model = quick(backend=backend).fit(X, y)
        before = model.predict_proba(X)
        with pytest.raises(ValueError):
            clone(model).set_params(**refusal).fit(X[:, :2], y == "a")  # it is refused
        model.set_params(**refusal)
        with pytest.raises(ValueError):
            model.fit(X[:, :2], y == "a")
        np.testing.assert_array_equal(model.predict_proba(X), before)
        with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 5"):
            model.predict(X[:, :2])

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
    def test_the_loss_does_not_depend_on_the_clock(self):
        """Long epochs are computed in slices of time; the sums go on over them."""
        if "cython" not in backends.available():
            pytest.skip("the compiled engine was not built")
        rng = np.random.RandomState(0)
        X, y = rng.standard_normal((40_000, 100)), rng.randint(3, size=40_000)
        losses = {
            quick(hidden_layer_sizes=(200,), backend="cython", n_threads=1, max_iter=1)
            .fit(X, y)
            .loss_
            for _ in range(3)
        }
        assert len(losses) == 1

    @pytest.mark.parametrize(
        ("X", "y", "message"),
        [
            (np.array([[1.0, np.nan], [1, 2]]), [0, 1], "Input X contains NaN"),
            (np.array([[1.0, np.inf], [1, 2]]), [0, 1], "Input X contains infinity"),
            (np.array([[1.0, 2], [1, 2]]), [0, 1, 1], "inconsistent numbers of samples"),
            (np.array([1.0, 2]), [0, 1], "Expected 2D array, got 1D array"),
            (np.array([["x", "y"], ["z", "w"]]), [0, 1], "could not convert string to float"),
            (np.array([[1j, 2], [1, 2]]), [0, 1], "Complex data not supported"),
            (np.empty((0, 2)), [], "Found array with 0 sample"),
            (np.array([[1.0, 2], [1, 2]]), [0.5, 1.25], "Unknown label type"),
        ],
    )
    def test_bad_data_raises_scikit_learns_errors(self, X, y, message):
        texts = []
        for cls in (MLPClassifier, SklearnMLPClassifier):
            with pytest.raises(ValueError, match=message) as caught:
                cls().fit(X, y)
            texts.append(str(caught.value))
        assert texts[0] == texts[1]

    def test_on_epoch_reports(self, blobs):
        X, y = blobs
        reports = []
        model = observed_fit(quick(early_stopping=True), X, y, on_epoch=reports.append)
        assert [r.epoch for r in reports] == list(range(1, model.n_iter_ + 1))
        assert [r.loss for r in reports] == model.loss_curve_
        assert [r.validation_score for r in reports] == model.validation_scores_
        assert all(isinstance(r, EpochReport) and r.n_samples == 108 for r in reports)


@pytest.mark.filterwarnings("ignore::fastmlp.exceptions.IneffectiveParameterWarning")
@pytest.mark.few_backends
class TestFailure:
    """What is called during training may fail: that leaves the model of the epochs before."""

    @staticmethod
    def fail(*_):
        raise ZeroDivisionError

    def check(self, model, X, y, n_iter, **options):
        shorter = clone(model).set_params(lr_schedule=None, max_iter=n_iter)
        shorter.fit(X, y)
        with pytest.raises(ZeroDivisionError):
            observed_fit(model, X, y, **options)
        model.set_params(lr_schedule=None)
        for _ in range(2):
            np.testing.assert_array_equal(model.predict_proba(X), shorter.predict_proba(X))
            for name in ("n_iter_", "t_", "loss_", "loss_curve_", "best_validation_score_"):
                assert getattr(model, name, None) == getattr(shorter, name, None), name
            assert model.history_["loss"] == shorter.history_["loss"]
            assert len(model.history_["seconds"]) == len(model.history_["loss"])
            if model.solver != "lbfgs":  # the optimiser's state is that of the same epoch
                for each in (model, shorter):
                    each.set_params(early_stopping=False).partial_fit(X, y)

    @pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early-stopping"])
    @pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_of_a_callback(self, backend, blobs, solver, early_stopping):
        model = quick(backend=backend, solver=solver, early_stopping=early_stopping, tol=1e-4)
        fail_third = {3: self.fail}
        self.check(model, *blobs, 3, on_epoch=lambda r: fail_third.get(r.epoch, bool)())

    @pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early-stopping"])
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    def test_of_a_schedule(self, backend, blobs, solver, early_stopping):
        rates = {1: 0.001, 2: 0.001}
        model = quick(
            backend=backend,
            solver=solver,
            early_stopping=early_stopping,
            lr_schedule=lambda epoch: rates.get(epoch) or self.fail(),
        )
        self.check(model, *blobs, 2)

    def test_in_the_first_epoch(self, backend, blobs):
        model = quick(backend=backend, lr_schedule=self.fail)
        with pytest.raises(ZeroDivisionError):
            model.fit(*blobs)
        assert (model.n_iter_, model.t_, model.loss_curve_) == (0, 0, [])
        assert model.predict(blobs[0]).shape == blobs[1].shape
        model.set_params(lr_schedule=None, warm_start=True).fit(*blobs)
        assert model.n_iter_ == len(model.loss_curve_) > 0

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_of_a_warning_that_is_an_error(self, backend, blobs, solver):
        model = quick(backend=backend, solver=solver, max_iter=3, tol=1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = clone(model).fit(*blobs)
            warnings.simplefilter("error")
            with pytest.raises(ConvergenceWarning):
                model.fit(*blobs)
        np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])
        assert (model.n_iter_, model.loss_) == (expected.n_iter_, expected.loss_)


class TestWithinAnEpoch:
    """A bar that moves within an epoch: checks are 0.2 s apart, and this one takes longer."""

    X = np.random.RandomState(0).standard_normal((40_000, 50)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)

    def model(self, backend):
        return MLPClassifier((512, 512), max_iter=1, batch_size=500, backend=backend, n_threads=1)

    @pytest.mark.slow
    def test_it_is_told_what_is_done_and_nothing_changes(self, backend):
        told = []
        with pytest.warns(ConvergenceWarning):
            model, same = self.model(backend), self.model(backend)
            same.random_state = model.random_state = 0
            observed_fit(model, self.X, self.y, on_samples=told.append)
            same.fit(self.X, self.y)
        assert told
        assert all(0 < n <= len(self.X) and n % 500 == 0 for n in told)
        assert any(n < len(self.X) for n in told)
        assert (same.loss_, same.t_) == (model.loss_, model.t_)
        np.testing.assert_array_equal(same.coefs_[0], model.coefs_[0])

    def test_an_error_ends_training_and_keeps_the_model(self, backend):
        def fail(n_done):
            raise ZeroDivisionError

        model, n_threads = self.model(backend), threading.active_count()
        with pytest.raises(ZeroDivisionError):
            observed_fit(model, self.X, self.y, on_samples=fail)
        assert threading.active_count() == n_threads
        assert model.n_iter_ == 0
        assert model.predict(self.X[:3]).shape == (3,)


class TestInterrupt:
    def test_in_a_callback_keeps_the_model(self, backend, blobs):
        X, y = blobs

        def stop(report):
            if report.epoch == 3:
                raise KeyboardInterrupt

        model = MLPClassifier((4,), tol=0, random_state=0, backend=backend)
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            observed_fit(model, X, y, on_epoch=stop)
        assert model.t_ == 3 * len(X)
        assert len(model.loss_curve_) == 3
        assert model.predict(X).shape == y.shape

    @pytest.mark.slow
    @pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
    def test_ctrl_c_inside_an_epoch(self):
        """One epoch of this problem takes far longer than the second that Ctrl-C may take."""
        code = (
            "import sys, warnings, numpy as np\n"
            "from fastmlp import MLPClassifier\n"
            "X = np.zeros((2_000_000, 50), np.uint8); X[::2] = 1\n"
            "y = np.arange(len(X)) % 2\n"
            "warnings.simplefilter('always')\n"
            "for name in sys.argv[1:]:\n"
            # Called when an epoch begins, however long the imports and checks before it take.
            "    rate = lambda epoch: print(name, 'ready', flush=True) or 1e-3\n"
            "    m = MLPClassifier((512, 512), backend=name, batch_size=500, max_iter=3,\n"
            "                      lr_schedule=rate)\n"
            "    m.fit(X, y)\n"
            "    print(m.predict(X[:4]).shape, m.n_iter_, flush=True)\n"
        )
        names = backends.available()
        process = subprocess.Popen(
            [sys.executable, "-c", code, *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        late = threading.Timer(20 + 20 * len(names), process.kill)
        late.start()
        try:
            for name in names:
                assert process.stdout.readline() == f"{name} ready\n"
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(1)
                process.send_signal(signal.SIGINT)
                sent = time.monotonic()
                assert process.stdout.readline() == "(4,) 0\n", name
                assert time.monotonic() - sent < 20
            out, err = process.communicate(timeout=20)
        finally:
            late.cancel()
            process.kill()
        assert err.count("UserWarning: Training interrupted by user.") == len(names)
        assert out == ""


class TestInput:
    def test_uint8_stays_uint8_and_trains_in_float32(self, backend):
        rng = np.random.RandomState(0)
        X = rng.randint(0, 256, (90, 7)).astype(np.uint8)
        y = X[:, 0] > 128
        bytes_ = quick(backend=backend, input_scale=1 / 255).fit(X, y)
        floats = quick(backend=backend).fit(X.astype(np.float32) * np.float32(1 / 255), y)
        assert bytes_.coefs_[0].dtype == np.float32
        np.testing.assert_allclose(bytes_.loss_curve_, floats.loss_curve_, rtol=1e-4)
        assert bytes_.predict_proba(X).dtype == np.float32

    @pytest.mark.filterwarnings("ignore::fastmlp.exceptions.ConstantFeatureWarning")
    def test_standard_is_standard_scaler(self, backend, blobs):
        X, y = blobs
        X = X * [1, 10, 100, 1e-3, 0] + [0, 5, -100, 1e-3, 3]
        scaler = StandardScaler().fit(X)
        inside = quick(backend=backend, input_scale="standard").fit(X, y)
        outside = quick(backend=backend).fit(scaler.transform(X), y)
        np.testing.assert_allclose(inside.loss_curve_, outside.loss_curve_, rtol=1e-9)
        np.testing.assert_allclose(
            inside.predict_proba(X), outside.predict_proba(scaler.transform(X)), rtol=1e-6
        )

    def test_a_pair_maps_feature_by_feature(self, blobs):
        X, y = blobs
        scale, shift = np.arange(1, 6) / 10, np.arange(5) / 7
        inside = quick(input_scale=(scale, shift)).fit(X, y)
        outside = quick().fit(X * scale + shift, y)
        np.testing.assert_allclose(inside.loss_curve_, outside.loss_curve_, rtol=1e-10)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_dtype(self, backend, blobs, dtype):
        X, y = blobs
        for source in (X, X.astype(np.float32), (10 * X).astype(int), X.astype(np.float16)):
            model = quick(dtype=dtype, backend=backend).fit(source, y)
            assert model.coefs_[0].dtype == dtype
            assert model.predict_proba(source).dtype == dtype

    @pytest.mark.parametrize(
        ("source", "trains", "predicts"),
        [
            ("float64", "float64", "float64"),
            ("float32", "float32", "float32"),
            ("float16", "float64", "float64"),
            ("int64", "float64", "float64"),
            ("bool", "float64", "float64"),
            ("uint8", "float32", "float32"),
        ],
    )
    def test_dtype_follows_the_input(self, blobs, source, trains, predicts):
        X, y = (blobs[0] > 0).astype(source), blobs[1]
        model = quick().fit(X, y)
        assert model.coefs_[0].dtype == trains
        assert model.predict_proba(X).dtype == predicts

    def test_float32_model_predicts_float64_in_float64(self, blobs):
        X, y = blobs
        assert quick().fit(X.astype(np.float32), y).predict_proba(X).dtype == np.float64

    def test_any_layout(self, backend, blobs):
        X, y = blobs
        expected = quick(backend=backend).fit(X, y).predict_proba(X)
        read_only = X.copy()
        read_only.flags.writeable = False
        for layout in (np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], read_only, X.tolist()):
            proba = quick(backend=backend).fit(layout, y).predict_proba(layout)
            np.testing.assert_array_equal(proba, expected)

    def test_warns_about_raw_pixels_once(self):
        X = np.arange(0, 256, dtype=np.uint8).reshape(64, 4)
        y = np.arange(64) % 2
        with pytest.warns(
            InputScaleWarning, match=r"span 0 to 255; .* input_scale='standard'"
        ) as w:
            quick().fit(X, y)
        assert len(w) == 1
        assert w[0].filename == __file__
        quick(input_scale=1 / 255).fit(X, y)  # no warning, or the test fails
        quick().fit(X / 255, y)

    def test_labels_of_any_kind(self, backend):
        X = np.random.RandomState(0).standard_normal((60, 3))
        for labels in (
            [0, 1], [-1, 7], [False, True], ["no", "yes"], [0.0, 1.0],
            np.array(["no", "yes"], object), [3, 5, 9], ["x", "yy", "zzz"],
        ):  # fmt: skip
            y = np.asarray(labels)[np.arange(60) % len(labels)]
            model = quick(backend=backend).fit(X, y)
            assert model.classes_.tolist() == list(labels)
            theirs = SklearnMLPClassifier((8,), tol=0.5, random_state=0).fit(X, y)
            np.testing.assert_array_equal(model.predict(X), theirs.predict(X), strict=True)
            assert 0 <= model.score(X, y) <= 1

    def test_multilabel(self, backend):
        rng = np.random.RandomState(0)
        X = rng.standard_normal((80, 3))
        Y = (X @ rng.standard_normal((3, 4)) > 0).astype(int)
        model = quick(backend=backend).fit(X, Y)
        assert model.out_activation_ == "logistic"
        assert model.predict(X).shape == model.predict_proba(X).shape == (80, 4)
        np.testing.assert_array_equal(model.predict(X), model.predict_proba(X) > 0.5)


class TestPredict:
    def test_probabilities(self, backend, blobs):
        X, y = blobs
        model = quick(backend=backend).fit(X, y)
        proba = model.predict_proba(X)
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_array_equal(model.classes_[proba.argmax(axis=1)], model.predict(X))
        np.testing.assert_array_equal(model.predict_log_proba(X), np.log(proba))
        assert model.score(X, y) == np.mean(model.predict(X) == y)

    def test_one_row_equals_its_row_among_many(self, blobs):
        X, y = blobs
        if "cython" not in backends.available():
            pytest.skip("BLAS sums in another order for one row")
        model = quick(backend="cython").fit(X, y)
        np.testing.assert_array_equal(model.predict_proba(X[17:18]), model.predict_proba(X)[17:18])

    def test_unfitted(self, blobs):
        with pytest.raises(NotFittedError):
            MLPClassifier().predict(blobs[0])

    def test_wrong_number_of_features(self, blobs):
        X, y = blobs
        with pytest.raises(ValueError, match="X has 4 features, but MLPClassifier is expecting 5"):
            quick().fit(X, y).predict(X[:, :4])

    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies_predict_the_same(self, blobs, duplicate):
        X, y = blobs
        model = quick(input_scale="standard").fit(X, y)
        np.testing.assert_array_equal(duplicate(model).predict_proba(X), model.predict_proba(X))

    def test_replaced_weights_are_used(self, blobs):
        X, y = blobs
        model = quick().fit(X, y)
        model.coefs_ = [np.zeros_like(W) for W in model.coefs_]
        model.intercepts_ = [np.zeros_like(b) for b in model.intercepts_]
        np.testing.assert_allclose(model.predict_proba(X), 1 / 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fit_in_a_forked_child_after_a_fit_in_the_parent(blobs):
    X, y = blobs
    if "cython" not in backends.available():
        pytest.skip("OpenBLAS's own pool is not ours to test")
    model = quick(backend="cython", n_threads=2, hidden_layer_sizes=(300,))  # work for two
    expected = model.fit(X, y).loss_
    child = os.fork()
    if child == 0:
        loss = clone(model).fit(X, y).loss_
        os._exit(0 if loss == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestPredictLooksCloser:
    @pytest.mark.parametrize("dtype", [">f4", "f2", "i8"])
    def test_replaced_weights_of_other_dtypes(self, backend, dtype):
        X = np.random.RandomState(0).randint(0, 2, (60, 5)).astype(np.uint8)
        model = quick(backend=backend).fit(X, X[:, 0])
        model.coefs_ = [coef.astype(dtype) for coef in model.coefs_]
        model.intercepts_ = [intercept.astype(dtype) for intercept in model.intercepts_]
        expected = model.predict_proba(X.astype(np.float64))
        np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-6)
        np.testing.assert_allclose(model.predict_proba(X[:3]), expected[:3], rtol=1e-6)

    def test_a_number_too_large_spoils_its_own_row_only(self, backend):
        X = np.random.RandomState(0).rand(60, 5)
        model = quick(backend=backend, dtype="float32").fit(X, X[:, 0] > 0.5)
        expected = model.predict_proba(X)
        X[7, 0] = 1e39  # infinite in float32
        with np.errstate(over="ignore"):
            got = model.predict_proba(X)
        others = np.arange(60) != 7
        np.testing.assert_array_equal(got[others], expected[others])


@pytest.mark.parametrize("dtype", [object, str])
def test_text_is_encoded_once_per_label(dtype, blobs, monkeypatch):
    n_labels = []
    real = LabelBinarizer.transform
    monkeypatch.setattr(
        LabelBinarizer, "transform", lambda self, y: n_labels.append(len(y)) or real(self, y)
    )
    X, y = blobs
    model = quick().fit(X, y.astype(dtype))
    assert n_labels == [3] and model.classes_.tolist() == ["a", "b", "c"]
    other = quick().fit(X, np.searchsorted(model.classes_, y))  # integers are not text
    np.testing.assert_array_equal(other.coefs_[0], model.coefs_[0])
    assert n_labels == [3, len(y)]
