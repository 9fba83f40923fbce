"""The rows of a drop-in that test_parity.py and test_estimators.py leave open.

Regression, L-BFGS, partial_fit, sample weights, sparse input, warm starts and error texts are
compared with scikit-learn's own; validation data, schedules, class weights and the history, which
it has not, with what they are defined to be.
"""

import copy
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
import sklearn
from observers import observed_fit
from scipy.sparse import csc_array, csr_array, csr_matrix
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.metrics import log_loss, mean_poisson_deviance, mean_squared_error
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.neural_network import MLPRegressor as SklearnMLPRegressor
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.fixes import parse_version

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.exceptions import NegativeWeightWarning, WarmStartWarning

SKLEARN_1_9 = parse_version(sklearn.__version__) >= parse_version("1.9.dev0")
THEIRS = {MLPClassifier: SklearnMLPClassifier, MLPRegressor: SklearnMLPRegressor}
ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
SOLVERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.002, "batch_size": 32},
    "adam": {"solver": "adam", "learning_rate_init": 0.01, "batch_size": 32},
    "lbfgs": {"solver": "lbfgs"},
}
TARGETS = {
    "binary": MLPClassifier, "multiclass": MLPClassifier, "multilabel": MLPClassifier,
    "one": MLPRegressor, "several": MLPRegressor, "poisson": MLPRegressor,
}  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastmlp.exceptions.IneffectiveParameterWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def data(target, n_samples=130):
    """Return X, y, and weights, of which some are zero."""
    rng = np.random.RandomState(3)
    X = rng.standard_normal((n_samples, 8))
    scores = X @ rng.standard_normal((8, 3)) + 0.3 * rng.standard_normal((n_samples, 3))
    y = {
        "binary": np.where(scores[:, 0] > 0, "yes", "no"),
        "multiclass": np.array(["red", "green", "blue"])[scores.argmax(axis=1)],
        "multilabel": (scores > 0).astype(int),
        "one": scores[:, 0],
        "several": scores,
        "poisson": rng.poisson(np.exp(0.5 * scores[:, 0])),
    }[target]
    weight = rng.uniform(0, 2, n_samples)
    weight[::9] = 0
    return X, y, weight


def scorable(y):
    """Return labels as numbers: before 1.9, scikit-learn cannot score texts while it trains."""
    return y if y.dtype.kind != "U" else np.unique(y, return_inverse=True)[1]


def mlp(target, backend, cls=None, **parameters):
    """Return a small model for a target."""
    cls = cls or TARGETS[target]
    parameters = {"hidden_layer_sizes": (9, 5), "max_iter": 6, "random_state": 7, **parameters}
    if target == "poisson":
        parameters["loss"] = "poisson"
    if backend is not None:
        parameters["backend"] = backend
    return cls(**parameters)


def pair(target, backend, **parameters):
    """Return our model and scikit-learn's with the same parameters."""
    ours = mlp(target, backend, **parameters)
    return ours, mlp(target, None, THEIRS[type(ours)], **parameters)


def call_both(models, method, *args, **kwargs):
    for model in models:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            getattr(model, method)(*args, **kwargs)


ATTRIBUTES = [
    "loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_", "t_",
    "n_iter_", "n_layers_", "n_outputs_", "n_features_in_", "out_activation_", "coefs_",
    "intercepts_", "classes_",
]  # fmt: skip


def assert_same(ours, theirs, *, exact):
    """Compare all that was fitted: identical bits, or 1e-9 relative."""
    for name in ATTRIBUTES:
        assert hasattr(ours, name) == hasattr(theirs, name), name
        a, b = getattr(ours, name, None), getattr(theirs, name, None)
        for x, y in zip(a, b, strict=True) if name in ("coefs_", "intercepts_") else [(a, b)]:
            if exact or np.asarray(y).dtype.kind != "f":
                np.testing.assert_array_equal(x, y, err_msg=name)
            else:
                # Relative to the largest element: single ones may be near zero.
                atol = 1e-9 * np.abs(y).max()
                np.testing.assert_allclose(x, y, rtol=1e-9, atol=atol, err_msg=name)


def outputs(model, X):
    """Return the numbers that a model predicts."""
    return (
        model.predict_proba(X)
        if isinstance(model, MLPClassifier | SklearnMLPClassifier)
        else (model.predict(X))
    )


def in_child(check):
    """Run `check` in a forked child, which must end well: neither die nor raise."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    child = multiprocessing.get_context("fork").Process(target=check)
    child.start()
    child.join()
    assert child.exitcode == 0


class TestNumbers:
    """Whole fits: the same numbers as scikit-learn's."""

    @pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
    @pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early-stopping"])
    @pytest.mark.parametrize("target", ["one", "several", "poisson"])
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_regressor(self, backend, activation, solver, target, early_stopping, weighted):
        X, y, weight = data(target)
        models = pair(
            target,
            backend,
            activation=activation,
            early_stopping=early_stopping,
            **SOLVERS[solver],
        )
        call_both(models, "fit", X, y, weight if weighted else None)
        assert_same(*models, exact=backend == "numpy")
        ours, theirs = (model.predict(X) for model in models)
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)
        ours, theirs = (model.score(X, y, weight) for model in models)
        assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-10)

    @pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early-stopping"])
    @pytest.mark.parametrize("target", ["binary", "multiclass", "multilabel"])
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("activation", ["tanh", "relu"])
    def test_weighted_classifier(self, backend, activation, solver, target, early_stopping):
        X, y, weight = data(target)
        y = scorable(y) if early_stopping else y
        models = pair(
            target,
            backend,
            activation=activation,
            early_stopping=early_stopping,
            **SOLVERS[solver],
        )
        call_both(models, "fit", X, y, weight)
        assert_same(*models, exact=backend == "numpy")
        np.testing.assert_array_equal(*(model.predict(X) for model in models))

    @pytest.mark.parametrize("target", ["binary", "multiclass", "multilabel"])
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_lbfgs_classifier(self, backend, activation, target):
        X, y, _ = data(target)
        models = pair(target, backend, solver="lbfgs", activation=activation)
        call_both(models, "fit", X, y)
        assert_same(*models, exact=backend == "numpy")

    @pytest.mark.few_backends
    @pytest.mark.parametrize("weight", [2, 0.5, np.float32(3), [1] * 130], ids=repr)
    def test_scalar_and_listed_weights(self, backend, weight):
        X, y, _ = data("one")
        models = pair("one", backend)
        call_both(models, "fit", X, y, weight)
        assert_same(*models, exact=backend == "numpy")

    @pytest.mark.parametrize(
        "parameters",
        [
            {"learning_rate_init": 0.003},
            {"beta_1": 0.8},
            {"beta_2": 0.99},
            {"beta_1": 0.8, "beta_2": 0.99, "learning_rate_init": 0.003, "epsilon": 1e-7},
            {"alpha": 0.01, "tol": 0.01},
            {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3, "momentum": 0.7},
        ],
        ids=" ".join,
    )
    def test_hyperparameters_in_float32(self, parameters):
        """Where scikit-learn computes with them in float32, so does the NumPy backend."""
        X, y, _ = data("binary")
        parameters = {
            name: value if isinstance(value, str) else np.float32(value)
            for name, value in parameters.items()
        }
        models = pair("binary", "numpy", **parameters)
        call_both(models, "fit", X, y)
        assert_same(*models, exact=True)

    @pytest.mark.parametrize("target", TARGETS)
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_float32(self, backend, solver, target):
        """Ours stays in float32 where scikit-learn goes on in float64: with L-BFGS, and with \
        regression targets in float64."""
        X, y, weight = data(target)
        models = pair(target, backend, **SOLVERS[solver])
        call_both(models, "fit", X.astype(np.float32), y, weight)
        ours, theirs = models
        assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-3)
        assert {W.dtype for W in ours.coefs_ + ours.intercepts_} == {np.dtype(np.float32)}
        assert outputs(ours, X.astype(np.float32)).dtype == np.float32
        np.testing.assert_allclose(outputs(ours, X), outputs(theirs, X), rtol=0.02, atol=0.02)

    @pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early-stopping"])
    def test_single_class(self, backend, early_stopping):
        X = data("binary")[0]
        models = pair("binary", backend, early_stopping=early_stopping)
        call_both(models, "fit", X, np.full(len(X), 3))
        assert_same(*models, exact=backend == "numpy")
        assert outputs(models[0], X).shape == outputs(models[1], X).shape == (len(X), 2)
        np.testing.assert_array_equal(*(model.predict(X) for model in models))

    @pytest.mark.few_backends
    @pytest.mark.parametrize("dtype", ["longdouble", "float16", "int8", "uint16", "object"])
    @pytest.mark.parametrize("target", ["one", "multiclass"])
    def test_any_numeric_dtype(self, backend, dtype, target):
        X, y, _ = data(target)
        X = np.round(3 * np.abs(X)).astype(dtype)
        models = pair(target, backend)
        call_both(models, "fit", X, y)
        assert_same(*models, exact=backend == "numpy")
        ours, theirs = (outputs(model, X).astype(float) for model in models)
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)


class TestSparse:
    @pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early-stopping"])
    @pytest.mark.parametrize("target", ["binary", "multiclass", "several", "poisson"])
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize("container", [csr_array, csr_matrix, csc_array])
    def test_numbers(self, backend, container, solver, target, early_stopping):
        """scikit-learn's numbers, and those of the same matrix when it is dense."""
        X, y, weight = data(target)
        y = scorable(y) if early_stopping else y
        X[np.abs(X) < 0.8] = 0
        parameters = {**SOLVERS[solver], "early_stopping": early_stopping}
        models = pair(target, backend, **parameters)
        call_both(models, "fit", container(X), y, weight)
        # With columns first, scikit-learn adds in another order than we, who take rows.
        assert_same(*models, exact=backend == "numpy" and container is not csc_array)
        dense = mlp(target, backend, **parameters)
        dense.fit(X, y, weight)
        assert models[0].loss_ == pytest.approx(dense.loss_, rel=1e-9)
        np.testing.assert_allclose(outputs(models[0], container(X)), outputs(dense, X), rtol=1e-7)

    @pytest.mark.few_backends
    @pytest.mark.parametrize(
        "change",
        [
            lambda X: X.asformat("coo"),
            lambda X: X.asformat("lil"),
            lambda X: X.astype(np.float32),
            lambda X: (X * 4).astype(np.int8),
            lambda X: with_parts(X, indices=X.indices.astype(np.int64), indptr=X.indptr),
            lambda X: with_parts(X, data=read_only(X.data)),
            lambda X: reversed_rows(X),
            lambda X: with_doubled_entries(X),
            lambda X: with_explicit_zeros(X),
        ],
        ids=[
            "coo", "lil", "float32", "int8", "int64-indices", "read-only", "unsorted",
            "duplicates", "explicit-zeros",
        ],
    )  # fmt: skip
    def test_forms(self, backend, change):
        X, y, _ = data("multiclass")
        X[np.abs(X) < 0.8] = 0
        X[5] = 0  # an empty row
        X[:, 2] = 0  # and an empty column
        sparse = change(csr_array(X))
        before = copy.deepcopy(sparse)
        models = pair("multiclass", backend)
        call_both(models, "fit", sparse, y)
        rtol = 1e-5 if sparse.dtype == np.float32 else 1e-9
        assert models[0].loss_curve_ == pytest.approx(models[1].loss_curve_, rel=rtol)
        assert models[0].coefs_[0].dtype == models[1].coefs_[0].dtype
        dense = sparse.toarray()
        np.testing.assert_allclose(
            outputs(models[0], sparse), outputs(models[0], dense), rtol=100 * rtol
        )
        if sparse.format == "csr":
            for part in ("data", "indices", "indptr"):
                np.testing.assert_array_equal(getattr(sparse, part), getattr(before, part))

    def test_input_scale(self, backend):
        """A factor, but no shift, keeps zeros zero."""
        X, y, _ = data("one")
        X[np.abs(X) < 0.8] = 0
        scale = np.linspace(0.5, 2, X.shape[1])
        model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=4, random_state=0, backend=backend)
        expected = copy.deepcopy(model).fit(X * scale, y)
        model.set_params(input_scale=(scale, 0)).fit(csr_array(X), y)
        assert model.loss_curve_ == pytest.approx(expected.loss_curve_, rel=1e-9)
        np.testing.assert_allclose(model.predict(csr_array(X)), expected.predict(X * scale))
        with pytest.raises(ValueError, match="input_scale must not shift sparse input"):
            model.set_params(input_scale=(scale, 1.0)).fit(csr_array(X), y)

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
    def test_memory(self, backend):
        """Training takes the parameters, Adam's moments and a few temporaries; no dense copy."""
        code = """
import json, sys, warnings
import numpy as np
from scipy.sparse import csr_array
from fastmlp import MLPClassifier

def status(field):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
n_samples, n_features, per_row = 12_000, 25_000, 50
indices = rng.integers(0, n_features, (n_samples, per_row), dtype=np.int32)
indices.sort(axis=1)
indptr = np.arange(0, n_samples * per_row + 1, per_row, dtype=np.int32)
values = np.ones(n_samples * per_row, np.float32)
X = csr_array((values, indices.ravel(), indptr), shape=(n_samples, n_features))
y = rng.integers(0, 2, n_samples)
model = MLPClassifier(
    (100,), batch_size=1000, max_iter=1, random_state=0, backend=sys.argv[1]
)
model.fit(X[:, :20], y)  # imports
before = status("VmRSS")
with open("/proc/self/clear_refs", "w") as control:
    control.write("5")  # the high-water mark starts anew
model.fit(X, y)
parameters = sum(a.nbytes for a in model.coefs_ + model.intercepts_)
assert parameters == 4 * (n_features * 100 + 100 + 100 + 1)
print(json.dumps({
    "growth": status("VmHWM") - before,
    "input": X.data.nbytes + X.indices.nbytes + X.indptr.nbytes,
    "parameters": parameters,
    "dense": 4 * n_samples * n_features,
}))
"""
        run = subprocess.run(
            [sys.executable, "-c", code, backend], capture_output=True, text=True, check=True
        )
        bytes_of = json.loads(run.stdout)
        # 30 MB for the thread stacks, the activations and what the allocator keeps.
        limit = bytes_of["input"] + 6 * bytes_of["parameters"] + 30e6
        assert bytes_of["growth"] <= limit < bytes_of["dense"] / 10, bytes_of

    @pytest.mark.slow
    def test_many_features_in_float32(self, backend):
        rng = np.random.default_rng(0)
        indices = np.sort(rng.integers(0, 5_000, (2_000, 5)), axis=1)
        X = csr_array(
            (np.ones(10_000, np.float32), indices.ravel(), np.arange(0, 10_001, 5)),
            shape=(2_000, 5_000),
        )
        y = rng.integers(0, 2, 2_000)
        models = [
            MLPClassifier((100,), max_iter=2, random_state=0, backend=backend),
            SklearnMLPClassifier((100,), max_iter=2, random_state=0),
        ]
        call_both(models, "fit", X, y)
        assert models[0].loss_curve_ == pytest.approx(models[1].loss_curve_, rel=1e-5)


def with_parts(X, **parts):
    """Return a CSR matrix with some of its arrays replaced as they are."""
    X = X.copy()
    for name, part in parts.items():
        setattr(X, name, part)
    return X


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def reversed_rows(X):
    """Return the same matrix, with the entries of each row from right to left."""
    order = np.concatenate(
        [np.arange(*span)[::-1] for span in zip(X.indptr, X.indptr[1:], strict=False)]
    )
    reordered = csr_array((X.data[order], X.indices[order], X.indptr), shape=X.shape)
    assert not reordered.has_sorted_indices
    return reordered


def with_doubled_entries(X):
    """Return the same matrix, with every entry as the sum of two halves."""
    return csr_array((np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), 2 * X.indptr), X.shape)


def with_explicit_zeros(X):
    X = csr_array(X.toarray() + 1)
    X.data -= 1
    return X


class TestPartialFit:
    CHUNKS = (slice(0, 50), slice(50, 53), slice(53, 130), slice(0, 40))

    @pytest.mark.parametrize(
        ("solver", "target"),
        [
            (solver, target)
            for solver in SOLVERS
            for target in TARGETS
            if solver != "lbfgs" or TARGETS[target] is MLPRegressor  # classifiers have none then
        ],
    )
    def test_sequence(self, backend, solver, target):
        X, y, weight = data(target)
        models = pair(target, backend, **{**SOLVERS[solver], "batch_size": 3})
        classes = {}
        if TARGETS[target] is MLPClassifier:
            classes = {"classes": [0, 1, 2] if target == "multilabel" else np.unique(y)}
        for i, chunk in enumerate(self.CHUNKS):
            weights = weight[chunk] if i == 2 else None
            call_both(models, "partial_fit", X[chunk], y[chunk], weights, **classes)
            assert_same(*models, exact=backend == "numpy")
            if i == 1:
                classes = {}  # may be given again, need not

    def test_lbfgs_has_no_early_stopping_to_refuse(self, backend):
        X, y, _ = data("one")
        models = pair("one", backend, solver="lbfgs", early_stopping=True)
        for _ in range(2):
            call_both(models, "partial_fit", X, y)
            assert_same(*models, exact=backend == "numpy")

    @pytest.mark.few_backends
    @pytest.mark.parametrize(
        "steps",
        [
            "fit partial_fit partial_fit",
            "partial_fit fit partial_fit",
            "partial_fit sgd partial_fit",
            "partial_fit slower partial_fit",
        ],
    )
    def test_mixed_with(self, backend, steps):
        X, y, _ = data("multiclass")
        models = pair("multiclass", backend)
        classes = np.unique(y)
        actions = {
            "fit": lambda: call_both(models, "fit", X, y),
            "partial_fit": lambda: call_both(models, "partial_fit", X, y, classes=classes),
            # Changing these has no effect on the optimiser that there is.
            "sgd": lambda: call_both(models, "set_params", solver="sgd"),
            "slower": lambda: call_both(models, "set_params", learning_rate_init=1e-5),
            "early": lambda: call_both(models, "set_params", early_stopping=True),
        }
        for step in steps.split():
            actions[step]()
        assert_same(*models, exact=backend == "numpy")

    def test_after_early_stopping(self, backend):
        """scikit-learn fails with a TypeError here."""
        X, y, _ = data("binary")
        model = mlp("binary", backend, early_stopping=True)
        model.fit(X, y).set_params(early_stopping=False)
        penalty = model.alpha * sum(np.sum(W**2) for W in model.coefs_) / (2 * len(X))
        expected = log_loss(y, outputs(model, X)) + penalty
        # One batch, whose loss is taken before the update.
        assert model.partial_fit(X, y).loss_ == pytest.approx(expected, rel=1e-9)
        assert model.validation_scores_ is None

    def test_after_lbfgs(self, backend):
        """scikit-learn fails with an AttributeError here."""
        X, y, _ = data("binary")
        model = mlp("binary", backend, solver="lbfgs")
        model.fit(X, y).set_params(solver="adam")
        before = model.loss_
        model.partial_fit(X, y)
        assert len(model.loss_curve_) == 1
        # The loss is taken before the updates.
        assert model.loss_ == pytest.approx(before, rel=1e-6)

    @pytest.mark.few_backends
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    @pytest.mark.parametrize("target", ["multiclass", "several"])
    def test_goes_on_after_pickling(self, backend, solver, target):
        X, y, _ = data(target)
        model = mlp(target, backend, **SOLVERS[solver])
        classes = {"classes": np.unique(y)} if target == "multiclass" else {}
        model.partial_fit(X, y, **classes).partial_fit(X, y)
        restored = pickle.loads(pickle.dumps(model))
        for _ in range(2):
            model.partial_fit(X, y)
            restored.partial_fit(X, y)
        assert_same(restored, model, exact=True)
        assert restored.history_["loss"] == model.history_["loss"]

    @pytest.mark.few_backends
    @pytest.mark.parametrize("way", ["partial_fit", "fit"])
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    @pytest.mark.parametrize(
        "dtypes", ["float32 float64", "float64 float32", "uint8 float64", "float64 uint8"]
    )
    def test_other_dtype_than_before(self, backend, solver, dtypes, way):
        """The weights keep their dtype, as scikit-learn's do."""
        X, y, _ = data("binary")
        X = (X > 0.3).astype(float)
        y = (y == "yes").astype(int)
        models = pair("binary", backend, solver=solver, warm_start=way == "fit")
        classes = {} if way == "fit" else {"classes": [0, 1]}

        def check():
            first, then = dtypes.split()
            for dtype in (first, then, then, first):
                call_both(models, way, X.astype(dtype), y, **classes)
                rtol = 1e-9 if first == "float64" else 1e-4
                assert models[0].loss_ == pytest.approx(models[1].loss_, rel=rtol)
                assert models[0].coefs_[0].dtype == ("float64" if first == "float64" else "float32")

        in_child(check)  # because vectors of mixed dtypes can end a process


@pytest.mark.few_backends
class TestWarmStart:
    @pytest.mark.parametrize("target", ["multiclass", "several", "poisson"])
    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_sequence(self, backend, solver, target):
        X, y, weight = data(target)
        models = pair(target, backend, warm_start=True, max_iter=3, **SOLVERS[solver])
        for chunk, weights in [(slice(None), None), (slice(0, 90), None), (slice(20, 120), weight)]:
            call_both(
                models, "fit", X[chunk], y[chunk], None if weights is None else weights[chunk]
            )
            assert_same(*models, exact=backend == "numpy")

    def test_early_stopping(self, backend):
        X, y, _ = data("one")
        models = pair("one", backend, warm_start=True, early_stopping=True, **SOLVERS["adam"])
        for _ in range(3):
            call_both(models, "fit", X, y)
            assert_same(*models, exact=backend == "numpy")

    def test_early_stopping_without_improvement(self, backend):
        """What an earlier fit found best is not restored, because scikit-learn trains it on."""
        X, y, _ = data("multiclass")
        models = pair(
            "multiclass",
            backend,
            warm_start=True,
            early_stopping=True,
            solver="sgd",
            learning_rate_init=1e-6,
            max_iter=2,
        )
        y = scorable(y)
        for _ in range(3):
            call_both(models, "fit", X, y)
            assert_same(*models, exact=backend == "numpy")
        scores = models[0].validation_scores_
        assert max(scores[2:]) <= max(scores[:2])  # or the comparison would be trivial

    def test_a_converged_fit_stops_after_an_epoch(self, backend):
        """The counter of epochs without improvement goes on, as scikit-learn's does."""
        X, y, _ = data("binary")
        models = pair("binary", backend, warm_start=True, tol=0.5, n_iter_no_change=2)
        for n_iter in (4, 1, 1):
            call_both(models, "fit", X, y)
            assert models[0].n_iter_ == models[1].n_iter_ == n_iter
            assert_same(*models, exact=backend == "numpy")

    @pytest.mark.parametrize("way", ["fit", "partial_fit"])
    def test_says_that_a_new_loss_has_no_effect(self, backend, way):
        X, y, _ = data("poisson")
        model, expected = (mlp("one", backend, warm_start=True) for _ in range(2))
        getattr(model, way)(X, y).set_params(loss="poisson")
        with pytest.warns(WarmStartWarning, match="'squared_error' of the first fit is kept; loss"):
            getattr(model, way)(X, y)
        assert_same(model, getattr(getattr(expected, way)(X, y), way)(X, y), exact=True)

    @pytest.mark.parametrize("kept", [None, 0.5, "standard", (0.5, 1.0)], ids=repr)
    def test_says_that_a_new_input_scale_has_no_effect(self, backend, kept):
        X, y, _ = data("one")
        X = X.astype(np.float32)
        model = mlp("one", backend, warm_start=True, input_scale=kept)
        model.fit(X, y).fit(2 * X, y)  # no warning, or the test fails
        loss = copy.deepcopy(model).fit(X, y).loss_
        model.set_params(input_scale=0.1 if kept is None else None)
        with pytest.warns(WarmStartWarning, match="input_scale_ of the first fit is kept; input_s"):
            assert model.fit(X, y).loss_ == loss
        model.set_params(input_scale=(0.1, np.arange(8)))
        with pytest.warns(WarmStartWarning, match="has no effect"):
            model.fit(X, y)

    def test_without_it_every_fit_begins_anew(self, backend):
        X, y, _ = data("binary")
        model = mlp("binary", backend)
        first = model.fit(X, y).loss_curve_
        assert model.fit(X, y).loss_curve_ == first
        assert model.t_ == 6 * len(X)


def replaced(array, value):
    """Return a copy of an array with `value` in the middle."""
    array = np.array(array, dtype=np.result_type(array, type(value)))
    array[len(array) // 2] = value
    return array


#: What goes wrong -> the target, and what to do with a model, X and y.
BAD_INPUT = {
    "NaN in X": ("one", lambda m, X, y: m.fit(replaced(X, np.nan), y)),
    "infinity in X": ("one", lambda m, X, y: m.fit(replaced(X, np.inf), y)),
    "NaN in sparse X": ("one", lambda m, X, y: m.fit(csr_array(replaced(X, np.nan)), y)),
    "text to predict": ("one", lambda m, X, y: m.fit(X, y).predict(np.full(X.shape, "a"))),
    "text in X": ("one", lambda m, X, y: m.fit(np.full(X.shape, "1.5x"), y)),
    "objects in X": ("one", lambda m, X, y: m.fit(np.full(X.shape, None), y)),
    "complex X": ("one", lambda m, X, y: m.fit(X + 1j, y)),
    "complex sparse X": ("one", lambda m, X, y: m.fit(csr_array(X + 1j), y)),
    "no samples": ("one", lambda m, X, y: m.fit(X[:0], y[:0])),
    "no features": ("one", lambda m, X, y: m.fit(X[:, :0], y)),
    "one-dimensional X": ("one", lambda m, X, y: m.fit(X[:, 0], y)),
    "three-dimensional X": ("one", lambda m, X, y: m.fit(X[np.newaxis], y)),
    "scalar X": ("one", lambda m, X, y: m.fit(3.0, y)),
    "ragged X": ("one", lambda m, X, y: m.fit([[1, 2], [3]], y[:2])),
    "no y": ("one", lambda m, X, y: m.fit(X, None)),
    "NaN in y": ("one", lambda m, X, y: m.fit(X, replaced(y, np.nan))),
    "infinity in y": ("one", lambda m, X, y: m.fit(X, replaced(y, np.inf))),
    "infinity in one of several y": ("several", lambda m, X, y: m.fit(X, replaced(y, -np.inf))),
    "complex y": ("one", lambda m, X, y: m.fit(X, y + 1j)),
    "three-dimensional y": ("several", lambda m, X, y: m.fit(X, y[:, :, np.newaxis])),
    "too few y": ("one", lambda m, X, y: m.fit(X, y[:-1])),
    "too many y": ("several", lambda m, X, y: m.fit(X[:-1], y)),
    "NaN to predict": ("one", lambda m, X, y: m.fit(X, y).predict(replaced(X, np.nan))),
    "infinity to predict": ("binary", lambda m, X, y: m.fit(X, y).predict(replaced(X, np.inf))),
    "NaN for predict_proba": (
        "binary", lambda m, X, y: m.fit(X, y).predict_proba(replaced(X, np.nan))
    ),
    "features to predict": ("one", lambda m, X, y: m.fit(X, y).predict(X[:, :7])),
    "sparse features to predict": (
        "one", lambda m, X, y: m.fit(X, y).predict(csr_array(X[:, :7]))
    ),
    "features for predict_proba": ("binary", lambda m, X, y: m.fit(X, y).predict_proba(X[:, :7])),
    "features to score": ("binary", lambda m, X, y: m.fit(X, y).score(X[:, :7], y)),
    "one row to predict": ("one", lambda m, X, y: m.fit(X, y).predict(X[0])),
    "no rows to predict": ("one", lambda m, X, y: m.fit(X, y).predict(X[:0])),
    "complex to predict": ("one", lambda m, X, y: m.fit(X, y).predict(X + 1j)),
    "predicting before fit": ("one", lambda m, X, y: m.predict(X)),
    "predict_log_proba before fit": ("binary", lambda m, X, y: m.predict_log_proba(X)),
    "features in partial_fit": (
        "one", lambda m, X, y: m.partial_fit(X, y).partial_fit(X[:, :7], y)
    ),
    "more features in partial_fit": (
        "binary",
        lambda m, X, y: m.partial_fit(X, y, classes=["no", "yes"]).partial_fit(np.c_[X, X], y),
    ),
    "features in a warm start": (
        "one", lambda m, X, y: m.set_params(warm_start=True).fit(X, y).fit(X[:, :7], y)
    ),
    "weights of the wrong length": ("one", lambda m, X, y: m.fit(X, y, np.ones(len(y) + 1))),
    "weights in a matrix": ("one", lambda m, X, y: m.fit(X, y, np.ones((len(y), 1)))),
    "weights of zero": ("one", lambda m, X, y: m.fit(X, y, np.zeros(len(y)))),
    "weight of zero": ("one", lambda m, X, y: m.fit(X, y, 0)),
    "text as weights": ("binary", lambda m, X, y: m.fit(X, y, ["much"] * len(y))),
    "complex weights": ("binary", lambda m, X, y: m.fit(X, y, np.full(len(y), 1j))),
    "weights for partial_fit": ("one", lambda m, X, y: m.partial_fit(X, y, np.ones(3))),
    "weights of zero in the held-out part": (
        "one", lambda m, X, y: m.set_params(early_stopping=True).fit(X, y, np.arange(len(y)) == 7)
    ),
    "weights of zero in a classifier's held-out part": (
        "multiclass",
        lambda m, X, y: m.set_params(early_stopping=True).fit(
            X, scorable(y), np.arange(len(y)) == 7
        ),
    ),
    "partial_fit with early stopping": (
        "one", lambda m, X, y: m.set_params(early_stopping=True).partial_fit(X, y)
    ),
    "partial_fit with early stopping and NaN in X": (
        "one",
        lambda m, X, y: m.set_params(early_stopping=True).partial_fit(replaced(X, np.nan), y),
    ),
    "partial_fit with early stopping and weights of the wrong length": (
        "one", lambda m, X, y: m.set_params(early_stopping=True).partial_fit(X, y, np.ones(3))
    ),
    "classifier's partial_fit with early stopping": (
        "binary",
        lambda m, X, y: m.set_params(early_stopping=True).partial_fit(X, y, classes=["no", "yes"]),
    ),
    "partial_fit with L-BFGS": (
        "binary",
        lambda m, X, y: m.set_params(solver="lbfgs").partial_fit(X, y, classes=["no", "yes"]),
    ),
    "partial_fit without classes": ("binary", lambda m, X, y: m.partial_fit(X, y)),
    "other classes in partial_fit": (
        "multiclass",
        lambda m, X, y: (
            m.partial_fit(X, y, classes=["blue", "green", "red"])
            .partial_fit(X, y, classes=["blue", "green"])
        ),
    ),
    "unseen label in partial_fit": (
        "multiclass",
        lambda m, X, y: m.partial_fit(X, y, classes=np.unique(y)).partial_fit(X[:1], ["pink"]),
    ),
    "unseen label in the first partial_fit": (
        "multiclass", lambda m, X, y: m.partial_fit(X, y, classes=["red", "green"])
    ),
    "partial_fit with another label type": (
        "multiclass",
        lambda m, X, y: m.partial_fit(X, y, classes=np.unique(y)).partial_fit(X[:2], [1, 2]),
    ),
    "other labels in partial_fit": (
        "multilabel",
        lambda m, X, y: m.partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y[:, :2]),
    ),
    "other classes in a warm start": (
        "multiclass",
        lambda m, X, y: m.set_params(warm_start=True).fit(X, y).fit(X, np.char.upper(y)),
    ),
    "numbers as classes": ("binary", lambda m, X, y: m.fit(X, X[:, 0])),
    "several outputs of several classes": (
        "multiclass", lambda m, X, y: m.fit(X, (3 * np.abs(X[:, :2])).astype(int))
    ),
    "NaN as a class": ("binary", lambda m, X, y: m.fit(X, replaced(np.ones(len(y)), np.nan))),
    "None as a class": ("binary", lambda m, X, y: m.fit(X, np.full(len(y), None))),
    "texts and numbers as classes": (
        "binary", lambda m, X, y: m.fit(X, np.array(["a", 1] * (len(y) // 2), dtype=object))
    ),
    "a class of one member and early stopping": (
        "binary",
        lambda m, X, y: m.set_params(early_stopping=True).fit(X, np.arange(len(y)) == 0),
    ),
    "too few samples to hold any out": (
        "one", lambda m, X, y: m.set_params(early_stopping=True).fit(X[:2], y[:2])
    ),
    "nothing to hold out": (
        "one",
        lambda m, X, y: m.set_params(early_stopping=True, validation_fraction=0.0).fit(X, y),
    ),
}  # fmt: skip


#: Those that scikit-learn told in other words, or not at all, before 1.9.
NEW_WORDS = [name for name in BAD_INPUT if "of zero" in name] + ["weights in a matrix"]


@pytest.mark.few_backends
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_raises_scikit_learns_errors(backend, name):
    if name in NEW_WORDS and not SKLEARN_1_9:
        pytest.skip("scikit-learn 1.9 has the words that we use")
    target, action = BAD_INPUT[name]
    X, y, _ = data(target)
    errors = []
    for model in pair(target, backend):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - compared below
            action(model, X, y)
        errors.append(caught.value)
    ours, theirs = errors
    assert type(ours).__name__ == type(theirs).__name__, (ours, theirs)
    assert str(ours) == str(theirs)


def test_partial_fit_exists_where_scikit_learn_has_it():
    for ours, theirs in THEIRS.items():
        for solver in SOLVERS:
            assert hasattr(ours(solver=solver), "partial_fit") == hasattr(
                theirs(solver=solver), "partial_fit"
            )
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'") as caught:
        _ = MLPClassifier(solver="lbfgs").partial_fit
    assert "lbfgs is not stochastic" in str(caught.value.__cause__)


def with_layers_of(source, model):
    """Give a fitted model the layers of another one, as a surgeon of networks might."""
    model.coefs_, model.intercepts_ = source.coefs_, source.intercepts_
    return model.set_params(hidden_layer_sizes=source.hidden_layer_sizes)


#: What scikit-learn lets pass, or what it has not -> the target, what to do, and our error's text.
REFUSED = {
    "text in y": (
        "one", lambda m, X, y: m.fit(X, ["a"] * len(y)), "y must be numbers, got <U1; convert it"
    ),
    "numbers as text in y": ("several", lambda m, X, y: m.fit(X, y.astype(str)), "got <U32"),
    "numbers as bytes in y": ("one", lambda m, X, y: m.fit(X, y.astype("S")), "got |S32"),
    "dates in y": ("one", lambda m, X, y: m.partial_fit(X, y.astype("M8[s]")), "got datetime64"),
    "durations in y_val": (
        "one",
        lambda m, X, y: m.fit(X, y, X_val=X, y_val=y.astype("m8[s]")),
        r"y_val must be numbers, got timedelta64\[s\]; convert it with y_val.astype\(float\)",
    ),
    "sparse y": (
        "several",
        lambda m, X, y: m.fit(X, csr_array(y)),
        r"y must be a dense array, got a sparse one of shape \(130, 3\); use y.toarray\(\)",
    ),
    "a sparse column as y": (
        "one", lambda m, X, y: m.partial_fit(X, csr_matrix(y).T), "y must be a dense array"
    ),
    "sparse y_val": (
        "several", lambda m, X, y: m.fit(X, y, X_val=X, y_val=csc_array(y)), "Sparse data was"
    ),
    "negative targets of poisson": (
        "poisson", lambda m, X, y: m.fit(X, y - 1), "y must not be negative for loss='poisson'"
    ),
    "negative targets of poisson in partial_fit": (
        "poisson",
        lambda m, X, y: m.partial_fit(X, y).partial_fit(X, -1 - y),
        "y must not be negative for loss='poisson', got -",
    ),
    "negative validation targets of poisson": (
        "poisson",
        lambda m, X, y: m.fit(X, y, X_val=X, y_val=y - 1),
        "y_val must not be negative for loss='poisson', got -1",
    ),
    "fewer outputs than before": (
        "several", lambda m, X, y: m.partial_fit(X, y).partial_fit(X, y[:, 0]), "output"
    ),
    "more outputs than before": (
        "one", lambda m, X, y: m.partial_fit(X, y).partial_fit(X, np.c_[y, y]), "output"
    ),
    "fewer outputs in a warm start": (
        "several",
        lambda m, X, y: m.set_params(warm_start=True).fit(X, y).fit(X, y[:, :2]),
        "output",
    ),
    "fewer validation outputs": (
        "several", lambda m, X, y: m.fit(X, y, X_val=X, y_val=y[:, 0]), "y_val"
    ),
    "more validation outputs": (
        "one", lambda m, X, y: m.fit(X, y, X_val=X, y_val=np.c_[y, y]), "y_val"
    ),
    "fewer validation labels": (
        "multilabel", lambda m, X, y: m.fit(X, y, X_val=X, y_val=y[:, :2]), "labels"
    ),
    "predicting with layers for other features": (
        "one",
        lambda m, X, y: with_layers_of(mlp("one", m.backend).fit(X[:, :3], y), m.fit(X, y))
        .predict(X),
        "3 .* 8",
    ),
    "training on layers for other features": (
        "one",
        lambda m, X, y: with_layers_of(mlp("one", m.backend).fit(X[:, :3], y), m.fit(X, y))
        .partial_fit(X, y),
        "3 .* 8",
    ),
    "training on more hidden units than the optimiser knows": (
        "one",
        lambda m, X, y: with_layers_of(
            mlp("one", m.backend, hidden_layer_sizes=(900, 5)).fit(X, y), m.fit(X, y)
        ).partial_fit(X, y),
        "optimizer",
    ),
    "weights that sum to zero with L-BFGS": (
        "one",
        lambda m, X, y: m.set_params(solver="lbfgs").fit(X, y, np.r_[np.ones(65), -np.ones(65)]),
        "sum to zero",
    ),
    "X_val alone": (
        "one", lambda m, X, y: m.fit(X, y, X_val=X), "X_val and y_val must be given together"
    ),
    "y_val alone": (
        "one", lambda m, X, y: m.fit(X, y, y_val=y), "X_val and y_val must be given together"
    ),
    "sample_weight_val alone": (
        "one", lambda m, X, y: m.fit(X, y, sample_weight_val=y), "X_val and y_val must be given"
    ),
    "unseen validation classes": (
        "multiclass",
        lambda m, X, y: m.fit(X, y, X_val=X[:2], y_val=["red", "pink"]),
        r"y_val has classes that are not in y: \['pink'\]",
    ),
    "validation features": (
        "one",
        lambda m, X, y: m.fit(X, y, X_val=X[:, :7], y_val=y),
        "X has 7 features, but MLPRegressor is expecting 8",
    ),
    "validation samples": (
        "one",
        lambda m, X, y: m.fit(X, y, X_val=X[:5], y_val=y[:4]),
        "X_val and y_val must have the same number of samples, got 5 and 4",
    ),
    "no validation samples": (
        "one", lambda m, X, y: m.fit(X, y, X_val=X[:0], y_val=y[:0]), "Found array with 0 sample"
    ),
    "NaN in X_val": (
        "one", lambda m, X, y: m.fit(X, y, X_val=replaced(X, np.nan), y_val=y), "contains NaN"
    ),
    "NaN in y_val": (
        "one", lambda m, X, y: m.fit(X, y, X_val=X, y_val=replaced(y, np.nan)), "y_val contains NaN"
    ),
    "validation weights of the wrong length": (
        "one",
        lambda m, X, y: m.fit(X, y, X_val=X, y_val=y, sample_weight_val=y[:3]),
        r"sample_weight.shape == \(3,\), expected \(130,\)",
    ),
    "validation weights of zero": (
        "one",
        lambda m, X, y: m.fit(X, y, X_val=X, y_val=y, sample_weight_val=0 * y),
        "must contain at least one non-zero number",
    ),
    "validation weights that sum to zero": (
        "one",
        lambda m, X, y: m.fit(
            X, y, X_val=X[:4], y_val=y[:4], sample_weight_val=np.array([1, -2, 2, -1])
        ),
        "weights of the validation samples must not sum to zero",
    ),
    "weights of zero but in the held-out part": (
        "one",
        lambda m, X, y: m.set_params(early_stopping=True, validation_fraction=0.99).fit(
            X, y, np.arange(len(y)) < 3
        ),
        "only samples held out for early stopping have a nonzero weight",
    ),
    "NaN weights": (
        "binary",
        lambda m, X, y: m.fit(X, y, np.where(np.arange(len(y)) < 3, 1, np.nan)),
        r"^Input sample_weight contains NaN\. The first one is in row 3\.$",
    ),
    "infinite weights": (
        "one",
        lambda m, X, y: m.partial_fit(X, y, [1, np.inf] + [1] * (len(y) - 2)),
        r"^Input sample_weight contains infinity or .* The first one is in row 1\.$",
    ),
    "a weight that is not a number": (
        "one", lambda m, X, y: m.fit(X, y, np.nan), "sample_weight must be finite, got nan"
    ),
    "numbers as text as weights": (
        "one", lambda m, X, y: m.fit(X, y, ["2"] * len(y)), "sample_weight must be numbers, .* '2'"
    ),
    "text among weights": (
        "one",
        lambda m, X, y: m.fit(X, y, np.array([1, 2, "3"] + [1] * (len(y) - 3), object)),
        "sample_weight must be numbers, got text such as '3'",
    ),
    "huge weights": (
        "one", lambda m, X, y: m.fit(X, y, np.full(len(y), 1e308)), "sum to inf in magnitude"
    ),
    "huge weights with L-BFGS": (
        "one",
        lambda m, X, y: m.set_params(solver="lbfgs").fit(X, y, np.r_[1e308, np.ones(len(y) - 1)]),
        r"sum to 1e\+308 in magnitude, but float64 needs sums from 2e-300 to 2e\+300",
    ),
    "tiny weights": (
        "one", lambda m, X, y: m.fit(X, y, np.full(len(y), 1e-320)), "sum to .* in magnitude"
    ),
    "huge weights for float32": (
        "one",
        lambda m, X, y: m.set_params(dtype="float32").fit(X, y, np.full(len(y), 1e37)),
        "in magnitude, but float32 needs sums",
    ),
    "huge class weights": (
        "binary",
        lambda m, X, y: m.set_params(class_weight={"no": 1e307}).fit(X, y, np.full(len(y), 1e5)),
        "sum to inf in magnitude",
    ),
    "huge validation weights": (
        "one",
        lambda m, X, y: m.fit(
            X, y, X_val=X, y_val=y, sample_weight_val=np.full(len(y), 1e308)
        ),
        "sum to inf in magnitude",
    ),
    "NaN as a class weight": (
        "binary",
        lambda m, X, y: m.set_params(class_weight={"no": 1, "yes": np.nan}).fit(X, y),
        "class_weight must be a finite number for every class, got nan for class 'yes'",
    ),
    "infinity as a class weight": (
        "multiclass",
        lambda m, X, y: m.set_params(class_weight={"red": -np.inf}).partial_fit(
            X, y, classes=np.unique(y)
        ),
        "got -inf for class 'red'",
    ),
    "text as a class weight": (
        "binary",
        lambda m, X, y: m.set_params(class_weight={"no": "2"}).fit(X, y),
        "got '2' for class 'no'",
    ),
    "NaN as the weight of one of several labels": (
        "multilabel",
        lambda m, X, y: m.set_params(
            class_weight=[{0: 1, 1: 1}, {0: 1, 1: np.nan}, {0: 1, 1: 1}]
        ).fit(X, y),
        "got nan for class 1",
    ),
    "class weights of zero": (
        "binary",
        lambda m, X, y: m.set_params(class_weight={"no": 0, "yes": 0}).fit(X, y),
        "Sample weights must contain at least one non-zero number",
    ),
    "class weights of zero wherever sample weights are not": (
        "multiclass",
        lambda m, X, y: m.set_params(class_weight={"red": 0}).fit(X, y, y == "red"),
        "Sample weights must contain at least one non-zero number",
    ),
    "two schedules": (
        "one",
        lambda m, X, y: m.set_params(
            solver="sgd", learning_rate="adaptive", lr_schedule={1: 0.1}
        ).fit(X, y),
        "lr_schedule and learning_rate='adaptive' both set the learning rate",
    ),
    "a schedule from epoch 0": (
        "one",
        lambda m, X, y: m.set_params(lr_schedule={0: 0.1}).fit(X, y),
        r"lr_schedule must map epochs \(counted from 1\) to learning rates > 0, got \{0: 0.1\}",
    ),
    "a schedule from half an epoch": (
        "one", lambda m, X, y: m.set_params(lr_schedule={1.5: 0.1}).fit(X, y), "must map epochs"
    ),
    "a schedule to rate 0": (
        "one", lambda m, X, y: m.set_params(lr_schedule={1: 0}).fit(X, y), "learning rates > 0"
    ),
    "a schedule to NaN": (
        "one", lambda m, X, y: m.set_params(lr_schedule={1: np.nan}).fit(X, y), "rates > 0"
    ),
    "a schedule to a text": (
        "one", lambda m, X, y: m.set_params(lr_schedule={1: "slow"}).fit(X, y), "learning rates > 0"
    ),
    "a list as a schedule": (
        "one",
        lambda m, X, y: m.set_params(lr_schedule=[0.1, 0.01]).fit(X, y),
        "'lr_schedule' parameter of MLPRegressor must be a str among "
        r"\{'cosine', 'linear'\}, an instance of 'dict', a callable or None",
    ),
    "unknown class weights": (
        "binary",
        lambda m, X, y: m.set_params(class_weight="fair").fit(X, y),
        "'class_weight' parameter of MLPClassifier must be",
    ),
}  # fmt: skip


def went_on(change, target="one", skip=False):
    """Return an entry's action: fit, change something, and train on, in both ways."""

    def action(model, X, y):
        model.fit(X, y)
        change(model)
        with sklearn.config_context(skip_parameter_validation=skip):
            copy.deepcopy(model).set_params(warm_start=True).fit(X, y)

    def other(model, X, y):
        model.fit(X, y)
        change(model)
        with sklearn.config_context(skip_parameter_validation=skip):
            model.partial_fit(X, y)

    return [(target, action), (target, other)]


def put(**attributes):
    return lambda model: vars(model).update(attributes)


#: What somebody has changed after a fit -> the sentence that further training answers with.
CHANGED = {
    f"{name}={value!r}{' unchecked' if skip else ''}": (
        went_on(lambda m, n=name, v=value: m.set_params(**{n: v}), skip=skip), f"'{name}' parameter"
    )
    for name, values in {
        "n_threads": (0, -1, 2.5, "two", np.nan), "backend": ("abacus", None, 3),
        "dtype": ("float16", np.float32, 7), "batch_size": (0, -3, 2.5),
    }.items()
    for value in values
    for skip in (False, True)
} | {
    "a map of two features": (
        went_on(put(input_scale_=(np.ones(2), np.ones(2)))),
        r"input_scale_ must be None or a pair .* of shape \(8,\)",
    ),
    "half a map": (went_on(put(input_scale_=(np.ones(8), None))), "input_scale_ must be"),
    "a factor as the map": (went_on(put(input_scale_=0.5)), "input_scale_ must be"),
    "three parts": (went_on(put(input_scale_=(np.ones(8),) * 3)), "input_scale_ must be"),
    "words in the map": (went_on(put(input_scale_=(np.full(8, "x"),) * 2)), "input_scale_ must"),
    "complex numbers in the map": (
        went_on(put(input_scale_=(np.ones(8) * 1j,) * 2)), "input_scale_ must"
    ),
    "a state": (went_on(put(_state={"t": 3})), "_state must be the one of a previous fit, got"),
    "a loss curve": (went_on(put(loss_curve_="steep")), "loss_curve_ must be a list of numbers"),
    "the samples": (went_on(put(t_=[3])), r"t_ must be a number, got \[3\]"),
    "the best loss": (went_on(put(best_loss_="low")), "best_loss_ must be a number"),
    "an optimiser": (
        went_on(put(_optimizer=object()))[1:], "_optimizer must be the one of a previous fit"
    ),
    "the optimiser's state": (
        went_on(lambda m: vars(m._optimizer).update(velocity=[1, 2], m=[1, 2]))[1:],
        "the state of the optimizer must be an array of floats, got list",
    ),
    "the optimiser's state, of another network": (
        went_on(lambda m: vars(m._optimizer).update(velocity=np.ones(3), m=np.ones(3)))[1:],
        "the state of the optimizer is for a network with 3 parameters",
    ),
    "the classes": (
        went_on(put(classes_=np.array(["no", "perhaps", "yes"])), "binary"),
        "classes_ and _label_binarizer must have the same classes",
    ),
    "no encoder": (
        went_on(put(_label_binarizer=None), "binary"), "classes_ and _label_binarizer must"
    ),
    "the function of the outputs": (
        went_on(put(out_activation_="relu")), "out_activation_ must be one of"
    ),
    "the loss": (went_on(put(_fitted_loss="hinge")), "the loss of identity outputs must be one of"),
}  # fmt: skip


@pytest.mark.few_backends
@pytest.mark.parametrize("name", CHANGED)
def test_what_was_changed_after_a_fit_is_refused(backend, name):
    actions, message = CHANGED[name]

    def check():
        for target, action in actions:
            X, y, _ = data(target)
            with pytest.raises((ValueError, TypeError), match=message):
                action(mlp(target, backend), X, y)

    in_child(check)  # because arrays of unexpected shapes can end a process


def test_a_million_threads_are_as_good_as_a_few(backend):
    X, y, _ = data("one")
    model = mlp("one", backend).fit(X, y)
    few, many = (copy.deepcopy(model).set_params(n_threads=n) for n in (2, 10**6))
    in_child(lambda: copy.deepcopy(many).partial_fit(X, y))
    assert_same(many.partial_fit(X, y), few.partial_fit(X, y), exact=True)


@pytest.mark.few_backends
@pytest.mark.parametrize("name", REFUSED)
def test_refused(backend, name):
    target, action, message = REFUSED[name]
    X, y, _ = data(target)
    model = mlp(target, backend)

    def check():
        with pytest.raises((ValueError, TypeError), match=message):
            action(model, X, y)

    in_child(check)  # because arrays of unexpected shapes can end a process


@pytest.mark.few_backends
class TestWeights:
    def test_negative_ones_have_scikit_learns_numbers_and_a_hint(self, backend):
        X, y, _ = data("one")
        weight = np.where(np.arange(len(y)) % 9, 1.0, -0.5)
        ours, theirs = pair("one", backend, warm_start=True)
        with pytest.warns(NegativeWeightWarning, match="15 of 130 sample weights are negative"):
            ours.fit(X, y, weight)
        assert_same(ours, theirs.fit(X, y, weight), exact=backend == "numpy")
        ours.fit(X, y, weight)  # once is enough

    @pytest.mark.filterwarnings("ignore::fastmlp.exceptions.NegativeWeightWarning")
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    @pytest.mark.parametrize("convert", [np.asarray, csr_array], ids=["dense", "sparse"])
    @pytest.mark.parametrize("cancelling", [False, True], ids=["zeros", "cancelling"])
    def test_a_batch_whose_weights_sum_to_zero_is_passed_over(
        self, backend, solver, convert, cancelling
    ):
        X, y, _ = data("several")
        weight = np.ones(len(y))
        weight[20:40] = 0
        if cancelling:
            weight[20:40:2], weight[21:40:2] = 1, -1
        parameters = {"solver": solver, "shuffle": False, "batch_size": 20}
        model = mlp("several", backend, **parameters)
        model.fit(convert(X), y, weight)
        rest = np.r_[0:20, 40:130]
        expected = mlp("several", backend, **parameters)
        expected.fit(convert(X[rest]), y[rest])
        for ours, theirs in zip(model.coefs_, expected.coefs_, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)
        assert model.loss_ == pytest.approx(expected.loss_ * len(rest) / len(X), rel=1e-12)

    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_the_first_samples_may_all_weigh_nothing(self, backend, solver):
        """A chunk with only samples of a class of weight zero changes nothing."""
        X, y, _ = data("binary")
        model = mlp("binary", backend, solver=solver, class_weight={"no": 0, "yes": 1})
        model.partial_fit(X[y == "no"], y[y == "no"], classes=["no", "yes"])
        assert model.loss_ == 0
        expected = mlp("binary", backend, solver=solver, random_state=7)
        expected.partial_fit(X[y == "yes"], y[y == "yes"], classes=["no", "yes"])
        model.set_params(random_state=7).partial_fit(X[y == "yes"], y[y == "yes"])
        assert model.loss_ == pytest.approx(expected.loss_, rel=1e-9)

    def test_weights_stand_for_repetitions(self, backend):
        X, y, _ = data("one")
        times = np.arange(len(y)) % 3
        parameters = {"batch_size": 1000, "shuffle": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the batch size
            weighted = mlp("one", backend, **parameters).fit(X, y, times)
            repeated = mlp("one", backend, **parameters).fit(
                X.repeat(times, axis=0), y.repeat(times)
            )
        assert weighted.loss_curve_ == pytest.approx(repeated.loss_curve_, rel=1e-9)

    @pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize(
        ("target", "class_weight"),
        [
            ("binary", "balanced"),
            ("multiclass", "balanced"),
            ("binary", {"no": 3.0, "yes": 0.5}),
            ("multiclass", {"red": 2}),
            ("multilabel", [{0: 1, 1: 2}, {0: 1, 1: 1}, {0: 3, 1: 1}]),
        ],
    )
    def test_class_weight_is_a_sample_weight(self, backend, solver, target, class_weight, weighted):
        X, y, weight = data(target)
        weight = weight if weighted else None
        model = mlp(target, backend, class_weight=class_weight, **SOLVERS[solver])
        expected = mlp(target, backend, **SOLVERS[solver])
        of_classes = compute_sample_weight(class_weight, y)
        model.fit(X, y, weight)
        expected.fit(X, y, of_classes if weight is None else weight * of_classes)
        assert_same(model, expected, exact=True)
        assert model.loss_ != mlp(target, backend, **SOLVERS[solver]).fit(X, y, weight).loss_

    def test_class_weight_in_partial_fit(self, backend):
        X, y, _ = data("binary")
        model = mlp("binary", backend, class_weight={"no": 3.0, "yes": 0.5})
        expected = mlp("binary", backend)
        for chunk in (slice(0, 3), slice(3, 100)):
            model.partial_fit(X[chunk], y[chunk], classes=["no", "yes"])
            weight = np.where(y[chunk] == "no", 3.0, 0.5)
            expected.partial_fit(X[chunk], y[chunk], weight, classes=["no", "yes"])
            assert_same(model, expected, exact=True)

    @pytest.mark.parametrize("weights", [{"red": 2.0}, {"red": 2.0, "green": 0.5}], ids=repr)
    def test_a_chunk_in_partial_fit_may_lack_a_class_that_has_a_weight(self, backend, weights):
        X, y, _ = data("multiclass")
        X, y = X[y != "red"], y[y != "red"]
        classes = ["blue", "green", "red"]
        model = mlp("multiclass", backend, class_weight=weights)
        model.partial_fit(X, y, classes=classes)
        expected = mlp("multiclass", backend)
        weight = np.array([weights.get(label, 1.0) for label in y])
        assert_same(model, expected.partial_fit(X, y, weight, classes=classes), exact=True)

    def test_balanced_weights_need_all_samples(self, backend):
        X, y, _ = data("binary")
        model = mlp("binary", backend, class_weight="balanced")
        with pytest.raises(
            ValueError, match="class_weight='balanced' is not supported by partial_fit"
        ):
            model.partial_fit(X, y, classes=["no", "yes"])


@pytest.mark.few_backends
class TestValidationData:
    LOSSES = {
        "binary": log_loss,
        "multiclass": log_loss,
        "one": lambda y, p, **weight: mean_squared_error(y, p, **weight) / 2,
        "several": lambda y, p, **weight: mean_squared_error(y, p, **weight) / 2,
        "poisson": lambda y, p, **weight: mean_poisson_deviance(y, p, **weight) / 2,
    }

    @pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
    @pytest.mark.parametrize("target", LOSSES)
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_history(self, backend, solver, target, weighted):
        X, y, weight = data(target)
        held_out = {"X_val": X[90:], "y_val": y[90:]}
        weights = {"sample_weight": weight[90:]} if weighted else {}
        if weighted:
            held_out["sample_weight_val"] = weight[90:]
        model, plain = (mlp(target, backend, **SOLVERS[solver]) for _ in range(2))
        model.fit(X[:90], y[:90], **held_out)
        plain.fit(X[:90], y[:90])
        assert_same(model, plain, exact=True)  # training does not see the validation data
        assert set(model.history_) == set(plain.history_) | {"val_loss", "val_score"}
        assert {len(entries) for entries in model.history_.values()} == {model.n_iter_}
        # The weights of the last epoch are those that are left.
        expected = self.LOSSES[target](y[90:], outputs(model, X[90:]), **weights)
        assert model.history_["val_loss"][-1] == pytest.approx(expected, rel=1e-9)
        expected = model.score(X[90:], y[90:], **weights)
        assert model.history_["val_score"][-1] == pytest.approx(expected, rel=1e-9)

    def test_multilabel(self, backend):
        X, y, _ = data("multilabel")
        model = mlp("multilabel", backend)
        model.fit(X[:90], y[:90], X_val=X[90:], y_val=y[90:])
        p = outputs(model, X[90:])
        expected = sum(log_loss(y[90:, i], p[:, i]) for i in range(3))
        assert model.history_["val_loss"][-1] == pytest.approx(expected, rel=1e-9)
        assert model.history_["val_score"][-1] == model.score(X[90:], y[90:])

    def test_stands_in_for_the_split_of_early_stopping(self, backend):
        X, y, _ = data("multiclass")
        model = mlp(
            "multiclass", backend, early_stopping=True, max_iter=60, learning_rate_init=0.1,
            n_iter_no_change=3,
        )  # fmt: skip
        model.fit(X[:90], y[:90], X_val=X[90:], y_val=y[90:])
        assert model.n_iter_ < 60
        assert model.t_ == 90 * model.n_iter_
        scores = model.history_["val_score"]
        assert scores == model.validation_scores_
        assert scores[-1] < max(scores)  # or the next line would be trivial
        assert model.score(X[90:], y[90:]) == max(scores) == model.best_validation_score_

    def test_without_early_stopping_the_last_weights_stay(self, backend):
        X, y, _ = data("multiclass")
        model = mlp("multiclass", backend, max_iter=30, learning_rate_init=0.1)
        model.fit(X[:90], y[:90], X_val=X[90:], y_val=y[90:])
        assert model.validation_scores_ is None
        assert model.history_["val_score"][-1] == model.score(X[90:], y[90:])

    @pytest.mark.parametrize(
        "convert", [csr_array, csc_array, np.ndarray.tolist, lambda X: X.astype(np.float32)],
        ids=["csr", "csc", "list", "float32"],
    )  # fmt: skip
    def test_of_another_kind_than_the_training_data(self, backend, convert):
        X, y, _ = data("one")
        X = X.round(1)
        same, other = (mlp("one", backend) for _ in range(2))
        same.fit(X[:90], y[:90], X_val=X[90:], y_val=y[90:])
        other.fit(X[:90], y[:90], X_val=convert(X[90:]), y_val=y[90:].tolist())
        assert other.history_["val_loss"] == pytest.approx(same.history_["val_loss"], rel=1e-6)

    def test_input_scale_and_bytes(self, backend):
        X, y, _ = data("one")
        X = np.clip(40 * X + 128, 0, 255).astype(np.uint8)
        model = mlp("one", backend, input_scale="standard")
        model.fit(X[:90], y[:90], X_val=X[90:], y_val=y[90:])
        assert model.history_["val_score"][-1] == pytest.approx(model.score(X[90:], y[90:]))

    def test_one_sample_has_no_r2(self, backend):
        X, y, _ = data("one")
        model = mlp("one", backend)
        with pytest.warns(UndefinedMetricWarning, match="less than two samples"):
            model.fit(X, y, X_val=X[:1], y_val=y[:1])
        assert np.isnan(model.history_["val_score"]).all()
        assert np.isfinite(model.history_["val_loss"]).all()


@pytest.mark.few_backends
class TestSchedule:
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    @pytest.mark.parametrize(
        ("name", "rate"),
        [
            ("linear", lambda epoch: 1e-3 * (81 - epoch) / 80),
            ("cosine", lambda epoch: 1e-3 / 2 * (1 + np.cos(np.pi * (epoch - 1) / 80))),
        ],
    )
    def test_by_name(self, solver, name, rate):
        X, y, _ = data("one")
        options = {"solver": solver, "max_iter": 80, "n_iter_no_change": np.inf}
        options |= {"learning_rate_init": 1e-3}
        named = mlp("one", "numpy", lr_schedule=name, **options).fit(X, y)
        called = mlp("one", "numpy", lr_schedule=rate, **options).fit(X, y)
        rates = [rate(epoch) for epoch in range(1, 81)]
        if name == "linear":
            assert named.history_["learning_rate"] == rates
            assert_same(named, called, exact=True)
        np.testing.assert_allclose(named.history_["learning_rate"], rates, rtol=1e-12)
        assert named.history_["learning_rate"][0] == 1e-3
        # A warm start counts on, and keeps the last rate.
        named.set_params(warm_start=True, max_iter=82).fit(X, y)
        assert len(named.history_["loss"]) == 80 + 82
        later = named.history_["learning_rate"][80:]
        np.testing.assert_allclose(later[0], named._named_rate(name, 81))
        assert set(later[1:]) == {named._named_rate(name, 82)}

    def test_a_name_in_partial_fit(self):
        X, y, _ = data("one")
        model = mlp("one", "numpy", lr_schedule="linear", learning_rate_init=0.5, max_iter=2)
        for _ in range(4):
            model.partial_fit(X, y)
        assert model.history_["learning_rate"] == [0.5, 0.25, 0.25, 0.25]

    def test_a_name_is_pickled_and_cloned(self):
        X, y, _ = data("one")
        model = mlp("one", "numpy", lr_schedule="cosine", max_iter=3).fit(X, y)
        again = clone(pickle.loads(pickle.dumps(model))).fit(X, y)
        assert_same(again, model, exact=True)

    def test_a_name_that_there_is_not(self):
        X, y, _ = data("one")
        with pytest.raises(ValueError, match=r"'lr_schedule' .* among \{'cosine', 'linear'\}"):
            mlp("one", "numpy", lr_schedule="steep").fit(X, y)

    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    @pytest.mark.parametrize(
        ("schedule", "rates"),
        [
            ({1: 0.1, 4: 0.01}, [0.1, 0.1, 0.1, 0.01, 0.01, 0.01]),
            ({4: 0.01, 2: 0.1}, [0.003, 0.1, 0.1, 0.01, 0.01, 0.01]),
            ({100: 0.1}, [0.003] * 6),
            ({}, [0.003] * 6),
            ({np.int64(2): np.float32(0.5)}, [0.003] + [0.5] * 5),
            (lambda epoch: 1 / epoch, [1 / 1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6]),
        ],
        ids=["steps", "unsorted", "later", "empty", "numpy", "callable"],
    )
    def test_rates(self, backend, solver, schedule, rates):
        X, y, _ = data("binary")
        model = mlp(
            "binary", backend, solver=solver, lr_schedule=schedule, learning_rate_init=0.003
        )
        assert model.fit(X, y).history_["learning_rate"] == rates

    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_steps_are_scikit_learns_training_at_these_rates(self, backend, solver):
        """scikit-learn has no schedule, but its optimiser's rate can be set in between."""
        X, y, _ = data("binary")
        steps = {1: 0.05, 3: 0.005, 4: 0.5}
        ours, theirs = pair(
            "binary", backend, solver=solver, shuffle=False, learning_rate_init=0.05
        )
        ours.set_params(lr_schedule=steps)
        for epoch in range(1, 7):
            if epoch in steps and epoch > 1:
                theirs._optimizer.learning_rate_init = steps[epoch]
                theirs._optimizer.learning_rate = steps[epoch]
            theirs.partial_fit(X, y, classes=["no", "yes"])
        ours.fit(X, y)
        rtol = 0 if backend == "numpy" else 1e-9
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=rtol)
        np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=1e3 * rtol)

    @pytest.mark.parametrize("schedule", [{1: 0.01}, lambda epoch: 0.01], ids=["dict", "callable"])
    @pytest.mark.parametrize("solver", ["sgd", "adam"])
    def test_a_constant_one_changes_nothing(self, backend, solver, schedule):
        X, y, _ = data("several")
        plain = mlp("several", backend, solver=solver, learning_rate_init=0.01)
        scheduled = mlp(
            "several", backend, solver=solver, learning_rate_init=0.5, lr_schedule=schedule
        )
        assert_same(scheduled.fit(X, y), plain.fit(X, y), exact=True)
        assert scheduled.history_["learning_rate"] == plain.history_["learning_rate"]

    @pytest.mark.parametrize("way", ["partial_fit", "warm start"])
    def test_epochs_count_over_all_calls(self, backend, way):
        X, y, _ = data("one")
        model = mlp("one", backend, lr_schedule={1: 0.1, 3: 0.01}, warm_start=way == "warm start")
        for _ in range(4):
            if way == "partial_fit":
                model.partial_fit(X, y)
            else:
                model.set_params(max_iter=1).fit(X, y)
        assert model.history_["learning_rate"] == [0.1, 0.1, 0.01, 0.01]

    def test_every_fit_counts_from_one(self, backend):
        X, y, _ = data("one")
        model = mlp("one", backend, lr_schedule={1: 0.1, 3: 0.01})
        assert model.fit(X, y).history_["learning_rate"] == [0.1, 0.1, 0.01, 0.01, 0.01, 0.01]
        assert model.fit(X, y).history_["learning_rate"] == [0.1, 0.1, 0.01, 0.01, 0.01, 0.01]

    def test_invscaling_is_seen_too(self, backend):
        X, y, _ = data("one")
        model = mlp(
            "one", backend, solver="sgd", learning_rate="invscaling", power_t=0.5, max_iter=3
        )
        model.fit(X, y)
        expected = [0.001, 0.001 / 131**0.5, 0.001 / 261**0.5]
        assert model.history_["learning_rate"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.few_backends
class TestHistory:
    @pytest.mark.parametrize("target", ["binary", "several"])
    @pytest.mark.parametrize("solver", SOLVERS)
    def test_entries(self, backend, solver, target):
        X, y, _ = data(target)
        model = mlp(target, backend, **SOLVERS[solver])
        model.fit(X, y)
        assert set(model.history_) == {"loss", "seconds"} | (
            set() if solver == "lbfgs" else {"learning_rate"}
        )
        assert {len(entries) for entries in model.history_.values()} == {model.n_iter_} == {6}
        assert min(model.history_["seconds"]) > 0
        if solver == "lbfgs":
            assert model.history_["loss"][-1] == model.loss_
            assert sorted(model.history_["loss"], reverse=True) == model.history_["loss"]
        else:
            assert model.history_["loss"] == model.loss_curve_

    def test_held_out_data_is_in_it(self, backend):
        X, y, _ = data("one")
        model = mlp("one", backend, early_stopping=True)
        model.fit(X, y)
        assert model.history_["val_score"] == model.validation_scores_
        assert len(model.history_["val_loss"]) == model.n_iter_

    @pytest.mark.parametrize("solver", ["adam", "lbfgs"])
    def test_warm_starts_lengthen_it(self, backend, solver):
        X, y, _ = data("binary")
        model = mlp("binary", backend, solver=solver, warm_start=True, max_iter=2)
        model.fit(X, y).fit(X, y, X_val=X, y_val=y).fit(X, y)
        assert {len(entries) for entries in model.history_.values()} == {6}
        known = np.isfinite(model.history_["val_score"])
        assert known.tolist() == [False, False, True, True, False, False]
        assert np.isfinite(model.history_["val_loss"]).tolist() == known.tolist()

    def test_solvers_may_change(self, backend):
        X, y, _ = data("binary")
        model = mlp("binary", backend, warm_start=True, max_iter=2)
        model.fit(X, y).set_params(solver="lbfgs").fit(X, y)
        rates = model.history_["learning_rate"]
        assert rates[:2] == [0.001, 0.001] and np.isnan(rates[2:]).all() and len(rates) == 4

    def test_partial_fit_lengthens_it_and_fit_begins_anew(self, backend):
        X, y, _ = data("one")
        model = mlp("one", backend)
        model.partial_fit(X, y).partial_fit(X, y).partial_fit(X, y)
        assert len(model.history_["loss"]) == 3
        assert len(model.fit(X, y).history_["loss"]) == 6

    def test_models_do_not_share_it(self, backend):
        X, y, _ = data("one")
        model = mlp("one", backend)
        model.partial_fit(X, y)
        other = copy.deepcopy(model).partial_fit(X, y)
        assert (len(model.history_["loss"]), len(other.history_["loss"])) == (1, 2)


class TestLBFGS:
    def test_verbose(self, backend, capsys):
        X, y, _ = data("binary")
        model = mlp("binary", backend, solver="lbfgs", verbose=True)
        model.fit(X, y)
        assert capsys.readouterr().out.splitlines() == [
            f"Iteration {i}, loss = {loss:.8f}"
            for i, loss in enumerate(model.history_["loss"], start=1)
        ]
        model.set_params(verbose=False).fit(X, y)
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize(
        "limits", [{"max_iter": 2}, {"max_fun": 4}, {"max_iter": 1, "max_fun": 1}], ids=repr
    )
    def test_warning_is_scikit_learns(self, backend, limits):
        X, y, _ = data("binary")
        given = []
        for model in pair("binary", backend, solver="lbfgs", **limits):
            with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge") as caught:
                model.fit(X, y)
            given.append((str(caught[0].message), caught[0].filename, caught[0].lineno))
        assert given[0] == given[1]

    @pytest.mark.slow
    @pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
    def test_convergence(self, backend):
        X, y, _ = data("one")
        ours, theirs = pair("one", backend, solver="lbfgs", max_iter=1000, tol=1e-3, alpha=1)
        assert ours.fit(X, y).n_iter_ < 1000
        # Rounding decides at which step the tolerance is met.
        assert ours.loss_ == pytest.approx(theirs.fit(X, y).loss_, rel=0.05)

    def test_early_stopping_and_batches_have_no_effect(self, backend):
        X, y, _ = data("one")
        plain = mlp("one", backend, solver="lbfgs")
        other = mlp(
            "one", backend, solver="lbfgs", early_stopping=True, batch_size=7, shuffle=False
        )
        assert_same(other.fit(X, y), plain.fit(X, y), exact=True)

    @pytest.mark.parametrize("after", [1, 3])
    def test_an_interrupt_keeps_the_model(self, backend, after):
        X, y, _ = data("binary")
        model = mlp("binary", backend, solver="lbfgs")

        def interrupt(report):
            if report.epoch == after:
                raise KeyboardInterrupt

        with pytest.warns(UserWarning, match="Training interrupted by user"):
            observed_fit(model, X, y, on_epoch=interrupt)
        assert model.n_iter_ == len(model.history_["loss"]) == after
        assert model.loss_ == model.history_["loss"][-1]
        shorter = mlp("binary", backend, solver="lbfgs", max_iter=after)
        np.testing.assert_array_equal(model.predict_proba(X), shorter.fit(X, y).predict_proba(X))

    def test_an_interrupt_before_the_first_iteration_keeps_the_initial_weights(
        self, backend, monkeypatch
    ):
        X, y, _ = data("binary")
        model = mlp("binary", backend, solver="lbfgs")

        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr("fastmlp.training.lbfgs.minimize", interrupted)
        with pytest.warns(UserWarning, match="Training interrupted by user"):
            model.fit(X, y)
        assert model.n_iter_ == 0
        assert set(model.predict(X)) <= {"no", "yes"}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does")
class TestMemory:
    """What runs out of memory says what the whole of it needs, and leaves all usable."""

    LIMITED = """
import resource, warnings, numpy as np
from fastmlp import MLPClassifier, MLPRegressor
warnings.simplefilter("ignore")
X, y = np.random.RandomState(0).standard_normal((400, 20)), np.arange(400) % 2
model = MLPClassifier((5,), backend={backend!r}, max_iter=2, n_threads=1, random_state=0).fit(X, y)
expected = model.predict_proba(X)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 200 * 2**20,) * 2)
try:
    {action}
except MemoryError as error:
    print(error)
print((model.predict_proba(X) == expected).all(), model.fit(X, y).n_iter_)
"""

    def check(self, backend, action):
        code = self.LIMITED.format(backend=backend, action=action)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        message, usable = done.stdout.splitlines()
        assert usable == "True 2"
        return message

    @pytest.mark.slow
    @pytest.mark.few_backends
    def test_of_a_fit(self, backend):
        action = "MLPRegressor(hidden_layer_sizes=(6000, 6000), backend={!r}).fit(X, y)"
        message = self.check(backend, action.format(backend))
        # 6 vectors of 20 * 6000 + 6000 * 6000 + 3 * 6000 + 1 float64
        assert "The whole fit, of 400 samples by 20 features through layers of (6000, 6000, 1)" in (
            message
        )
        assert "needs about 1,69" in message
        assert "1,654 MB for weights and solver" in message

    @pytest.mark.slow
    def test_of_many_classes(self):
        message = self.check(
            "numpy", "model.__class__((5,)).fit(np.ones((20_000, 1)), range(20_000))"
        )
        assert message.startswith("y has 20000 classes, with one output each: the targets")
        assert "20000 samples need 3.4 GiB" in message
