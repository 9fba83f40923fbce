"""The same numbers as scikit-learn: bit for bit in NumPy, within rounding elsewhere."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.utils.fixes import parse_version

from fastmlp import MLPClassifier

ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
TARGETS = ["binary", "multiclass", "multilabel"]
# Before 1.9, scikit-learn cannot score labels that are texts while it trains.
SCORES_TEXTS = parse_version(sklearn.__version__) >= parse_version("1.9")
COLOURS = np.array(["red", "green", "blue", "grey"] if SCORES_TEXTS else [8, 2, 5, 3])
SOLVERS = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "sgd-plain": {
        "solver": "sgd",
        "learning_rate_init": 0.05,
        "momentum": 0.5,
        "nesterovs_momentum": False,
        "learning_rate": "invscaling",
        "power_t": 0.2,
    },
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
}


def data(target, n_samples=230):
    rng = np.random.RandomState(42)
    X = rng.standard_normal((n_samples, 12))
    scores = X @ rng.standard_normal((12, 4)) + rng.standard_normal((n_samples, 4))
    y = {
        "binary": scores[:, 0] > 0,
        "multiclass": COLOURS[scores.argmax(axis=1)],
        "multilabel": (scores > 0).astype(int),
    }[target]
    return X, y


def fit_both(X, y, backend, **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = SklearnMLPClassifier(**parameters).fit(X, y)
        ours = MLPClassifier(**parameters, backend=backend).fit(X, y)
    return ours, theirs


def assert_same(ours, theirs, backend):
    """Compare two fitted models: identical bits in NumPy, 1e-9 relative elsewhere."""
    if backend == "numpy":
        compare = np.testing.assert_array_equal
    else:

        def compare(a, b):
            # Relative to the array's largest element: single elements may be near zero.
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max())

    compare(ours.loss_curve_, theirs.loss_curve_)
    for a, b in zip(
        ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True
    ):
        compare(a, b)
    assert ours.validation_scores_ == theirs.validation_scores_


@pytest.mark.parametrize("early_stopping", [False, True], ids=["all", "early-stopping"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training(backend, activation, solver, target, early_stopping):
    X, y = data(target)
    ours, theirs = fit_both(
        X,
        y,
        backend,
        hidden_layer_sizes=(17, 9),
        activation=activation,
        **SOLVERS[solver],
        batch_size=32,
        max_iter=10,
        alpha=0.01,
        early_stopping=early_stopping,
        n_iter_no_change=100,
        random_state=7,
    )
    assert_same(ours, theirs, backend)
    assert ours.n_iter_ == theirs.n_iter_ == 10
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-8)


@pytest.mark.parametrize(
    "parameters",
    [
        {"shuffle": False},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": 5},
        {"alpha": 0},
        {"batch_size": 1, "max_iter": 3},
        {"batch_size": 230},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
        {"solver": "sgd", "tol": 0.05, "n_iter_no_change": 2, "max_iter": 50},
        {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 50},
        {"random_state": np.random.RandomState(5)},
    ],
    ids="-".join,
)
def test_parameters(backend, parameters):
    X, y = data("multiclass")
    ours, theirs = (
        fit_both(
            X,
            y,
            backend,
            **{"hidden_layer_sizes": (11,), "max_iter": 10, "random_state": 3, **parameters},
        )
        if "random_state" not in parameters
        else fit_with_equal_states(X, y, backend)
    )
    assert_same(ours, theirs, backend)
    assert ours.n_iter_ == theirs.n_iter_


def fit_with_equal_states(X, y, backend):
    models = [
        MLPClassifier(max_iter=3, random_state=np.random.RandomState(5), backend=backend),
        SklearnMLPClassifier(max_iter=3, random_state=np.random.RandomState(5)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [model.fit(X, y) for model in models]


def test_warm_start(backend):
    X, y = data("multiclass")
    parameters = {"max_iter": 4, "random_state": 0, "warm_start": True, "solver": "sgd"}
    models = [MLPClassifier(**parameters, backend=backend), SklearnMLPClassifier(**parameters)]
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            ours, theirs = [model.fit(X, y) for model in models]
        assert_same(ours, theirs, backend)
        assert (ours.t_, ours.n_iter_) == (theirs.t_, theirs.n_iter_)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("target", TARGETS)
def test_float32(backend, solver, target):
    X, y = data(target)
    ours, theirs = fit_both(
        X.astype(np.float32), y, backend, max_iter=10, random_state=1, **SOLVERS[solver]
    )
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-3)
    assert ours.coefs_[0].dtype == theirs.coefs_[0].dtype == np.float32


@pytest.mark.parametrize(
    "parameters",
    [
        {"solver": "sgd", "max_iter": 3},
        {"solver": "sgd", "tol": 0.05, "n_iter_no_change": 2},
        {"solver": "sgd", "tol": 0.1, "n_iter_no_change": 1, "learning_rate": "adaptive"},
        {
            "solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1,
            "learning_rate_init": 1e-5,
        },
        {"early_stopping": True, "n_iter_no_change": 2},
    ],
    ids="-".join,
)  # fmt: skip
def test_verbose_text(backend, parameters, capsys):
    X, y = data("multiclass")
    texts = []
    for model in (
        MLPClassifier(**parameters, verbose=True, random_state=0, backend=backend),
        SklearnMLPClassifier(**parameters, verbose=True, random_state=0),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, y)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "Iteration 1, loss = " in texts[0]
