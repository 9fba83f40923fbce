"""Predictions: whatever form the input has, what they cost, and models that were assembled."""

import time
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn import neural_network
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import LabelBinarizer

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, backends
from fastmlp.core.inputs import Inputs
from fastmlp.core.network import Network

RNG = np.random.RandomState(0)
X = RNG.standard_normal((300, 13))
Y = np.arange(300) % 3
PAIRS = {
    MLPClassifier: neural_network.MLPClassifier,
    MLPRegressor: neural_network.MLPRegressor,
}


def pair(dtype=np.float64, names=False):
    """Return scikit-learn's model, fitted, and ours with the same weights."""
    given = pd.DataFrame(X, columns=[f"x{i}" for i in range(13)]) if names else X.astype(dtype)
    theirs = neural_network.MLPClassifier((20, 7), max_iter=2, random_state=0)
    with warnings.catch_warnings(action="ignore"):
        theirs.fit(given, Y)
    return theirs, getattr(fastmlp, type(theirs).__name__).from_sklearn(theirs)


FORMS = {
    "float64": lambda X: X,
    "float32": lambda X: X.astype(np.float32),
    "float16": lambda X: X.astype(np.float16),
    "int64": lambda X: (10 * X).astype(np.int64),
    "bool": lambda X: X > 0,
    "list": lambda X: X.tolist(),
    "Fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "big-endian": lambda X: X.astype(">f8"),
    "frame": pd.DataFrame,
    "csr": sp.csr_matrix,
    "csr array": sp.csr_array,
    "csr float32": lambda X: sp.csr_matrix(X.astype(np.float32)),
    "csr int": lambda X: sp.csr_matrix((10 * X).astype(np.int64)),
    "csc": sp.csc_matrix,
    "coo": sp.coo_matrix,
    "zeros": lambda X: X * (X > 0.5),
    "read-only": lambda X: np.frombuffer(X.tobytes()).reshape(X.shape),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_form_of_input(backend, dtype, form):
    theirs, ours = pair(dtype)
    ours.set_params(backend=backend)
    for n in (1, 3, 17, 300):
        given = FORMS[form](X[:n])
        expected, got = theirs.predict_proba(given), ours.predict_proba(given)
        limits = {"rtol": 1e-10} if got.dtype == np.float64 else {"rtol": 1e-4, "atol": 1e-6}
        np.testing.assert_allclose(got, expected, **limits)
        np.testing.assert_array_equal(ours.predict(given), theirs.predict(given))
        if form not in ("float16", "bool"):  # small numbers stay small here
            assert got.dtype == expected.dtype


def test_a_model_of_a_frame_warns_of_an_array():
    theirs, ours = pair(names=True)
    for model in (theirs, ours):
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            model.predict(X[:1])
    frame = pd.DataFrame(X[:2], columns=ours.feature_names_in_)
    np.testing.assert_allclose(ours.predict_proba(frame), theirs.predict_proba(frame), rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("form", ["float64", "float32", "csr", "csr float32", "list", "zeros"])
def test_elements_that_are_not_finite(backend, form, bad):
    ours = pair()[1].set_params(backend=backend)
    for n in (1, 40):
        spoilt = X[:n].copy()
        spoilt[-1, 2] = bad
        with pytest.raises(ValueError, match="Input X contains (NaN|infinity)"):
            ours.predict(FORMS[form](spoilt))


def seconds(action, repeat=7):
    """Return the least time that an action takes."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def memory(action):
    """Return the most memory that NumPy holds during an action."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assembled(units, dtype=np.float64):
    """Return a regressor of so many units, whose weights nobody has trained."""
    model = MLPRegressor(hidden_layer_sizes=units[1:-1])
    model.coefs_ = [np.full(shape, 0.01, dtype) for shape in zip(units, units[1:], strict=False)]
    model.intercepts_ = [np.zeros(n, dtype) for n in units[1:]]
    model.out_activation_, model.n_outputs_, model.n_layers_ = "identity", units[-1], len(units)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cython", "numba", "numpy"])
def test_a_sparse_row_costs_what_it_stores(name):
    """Not what its features would: the weights of all of them are ten thousand times as many."""
    model = assembled((2**19, 32, 1)).set_params(backend=name)
    row = sp.csr_matrix(([1.0, 2.0], ([0, 0], [5, 2**19 - 1])), shape=(1, 2**19))
    expected = 0.01 * 32 * 0.03
    np.testing.assert_allclose(model.predict(row), [expected])
    # A copy of the weights is 134 MB and takes 50 ms.
    assert memory(lambda: model.predict(row)) < 1e6
    assert seconds(lambda: model.predict(row)) < 0.01


@pytest.mark.parametrize("form", ["list", "int64", "float32", "frame", "float64", "csr"])
def test_a_dense_row_needs_no_copy_of_the_weights(form):
    model = assembled((13, 2048, 1024, 1))
    given = FORMS[form](X[:1])
    model.predict(given)
    assert memory(lambda: model.predict(given)) < 1e6  # of 17 MB
    assert memory(lambda: model.predict(FORMS[form](X[:40]))) < 2e6


def test_float32_weights_are_not_converted():
    model = assembled((13, 2048, 1024, 1), np.float32)
    assert model.predict(X[:1]).dtype == np.float64
    assert memory(lambda: model.predict(X[:1])) < 1e6
    assert memory(lambda: model.predict(X[:40])) < 2e6


@pytest.mark.skipif("cython" not in backends.available(), reason="the engine was not built")
def test_threads_start_only_where_they_pay():
    from fastmlp.backends.cython_backend._engine import useful_threads

    small = Network((784, 50, 10), "relu", "softmax")
    wide = Network((784, 1024, 10), "relu", "softmax")
    float64 = np.dtype(np.float64)

    def threads(network, X):
        return useful_threads(network, Inputs(X, float64))

    dense = np.ones((2000, 784))
    assert [threads(small, dense[:n]) for n in (1, 4, 5, 32)] == [1, 1, 1, 1]
    assert threads(small, dense) > 8
    assert threads(wide, dense[:32]) > 2
    # Zeros are skipped: in rows of mostly zeros, and of CSR all of them.
    mostly_zeros = dense * (np.arange(784) % 5 == 0)
    assert threads(small, mostly_zeros) < threads(small, dense)
    assert threads(small, sp.csr_matrix(mostly_zeros)) < threads(small, dense)
    assert threads(Network((2**20, 50, 10), "relu", "softmax"), sp.csr_matrix((1, 2**20))) == 1


def test_edits_in_place_count_at_once(backend):
    model = pair()[1].set_params(backend=backend)
    for n in (1, 50):
        before = model.predict_proba(X[:n])
        model.coefs_[0] += 0.5
        assert not np.allclose(model.predict_proba(X[:n]), before)
        model.coefs_[0] -= 0.5
        np.testing.assert_allclose(model.predict_proba(X[:n]), before, rtol=1e-9)


class TestAssembledModels:
    def test_a_regressor_that_was_never_fitted(self, backend):
        for cls in PAIRS.values(), PAIRS:
            model = next(c for c in cls if c.__name__ == "MLPRegressor")(hidden_layer_sizes=(3,))
            model.coefs_ = [np.ones((4, 3)), np.ones((3, 1))]
            model.intercepts_ = [np.zeros(3), np.zeros(1)]
            model.n_layers_, model.n_outputs_, model.out_activation_ = 3, 1, "identity"
            if isinstance(model, MLPRegressor):
                model.set_params(backend=backend)
            assert model.predict([[1.0, 2, 3, 4]]).tolist() == [30.0]

    @pytest.mark.parametrize("classes", [["no", "yes"], [3, 5, 9]])
    def test_a_classifier_that_was_never_fitted(self, backend, classes):
        n_outputs = 1 if len(classes) == 2 else 3
        results = []
        for cls in PAIRS[MLPClassifier], MLPClassifier:
            model = cls(hidden_layer_sizes=(3,))
            if cls is MLPClassifier:
                model.set_params(backend=backend)
            rng = np.random.RandomState(1)
            model.coefs_ = [rng.randn(4, 3), rng.randn(3, n_outputs)]
            model.intercepts_ = [rng.randn(3), rng.randn(n_outputs)]
            model._label_binarizer = LabelBinarizer().fit(classes * 2)
            model.classes_, model.n_layers_ = np.array(classes), 3
            model.n_outputs_ = n_outputs
            model.out_activation_ = "logistic" if n_outputs == 1 else "softmax"
            given = rng.randn(20, 4)
            results.append((model.predict(given), model.predict_proba(given)))
        np.testing.assert_array_equal(results[0][0], results[1][0])
        np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-12)

    @pytest.mark.parametrize("output", ["relu", "tanh", "logistic", "identity", "softmax"])
    def test_another_function_of_the_outputs(self, backend, output):
        """A published trick: "relu" keeps a regressor's predictions from being negative."""
        theirs = neural_network.MLPRegressor(hidden_layer_sizes=(5,), max_iter=3, random_state=0)
        with warnings.catch_warnings(action="ignore"):
            theirs.fit(X, X[:, :3])
        ours = (
            getattr(fastmlp, type(theirs).__name__).from_sklearn(theirs).set_params(backend=backend)
        )
        theirs.out_activation_ = ours.out_activation_ = output
        for n in (1, 300):
            np.testing.assert_allclose(ours.predict(X[:n]), theirs.predict(X[:n]), rtol=1e-10)
        assert output != "relu" or (ours.predict(X) == 0).any()

    def test_the_forward_passes_of_scikit_learn(self):
        theirs, ours = pair()
        for given in (X[:9], sp.csr_matrix(X[:9])):
            lists = [[given] + [None] * 3 for _ in range(2)]
            for model, activations in zip((theirs, ours), lists, strict=True):
                assert model._forward_pass(activations) is activations
            for ours_, theirs_ in zip(lists[1][1:], lists[0][1:], strict=True):
                np.testing.assert_allclose(ours_, theirs_, rtol=1e-12)
            for options in ({}, {"check_input": False}):
                got = ours._forward_pass_fast(given, **options)
                np.testing.assert_allclose(got, theirs._forward_pass_fast(given, **options))

    def test_an_override_of_the_forward_pass_is_used(self):
        class Doubled(MLPRegressor):
            def _forward_pass_fast(self, X, check_input=True):
                return 2 * super()._forward_pass_fast(X, check_input)

        model = Doubled(hidden_layer_sizes=(5,), max_iter=500, tol=1e-2, random_state=0)
        model.fit(X, X[:, 0])
        plain = assembled((13, 5, 1))
        plain.coefs_, plain.intercepts_ = model.coefs_, model.intercepts_
        np.testing.assert_allclose(model.predict(X), 2 * plain.predict(X), rtol=1e-12)

    def test_no_weights(self):
        with pytest.raises(NotFittedError):
            MLPRegressor().predict(X)


class TestWhatWasReplaced:
    """Attributes and parameters that were set after the fit: used, or refused in a sentence."""

    @pytest.mark.parametrize(
        ("parameter", "bad"),
        [
            ("n_threads", 0),
            ("n_threads", -1),
            ("n_threads", 1.5),
            ("backend", "gpu"),
            ("dtype", "float16"),
            ("activation", "sine"),
        ],
    )
    def test_parameters(self, parameter, bad):
        model = pair()[1].set_params(**{parameter: bad})
        for n in (1, 300):
            with pytest.raises(ValueError, match=parameter):
                model.predict(X[:n])

    def test_a_million_threads(self):
        theirs, ours = pair()
        ours.set_params(n_threads=10**6)
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)

    @pytest.mark.parametrize(
        "bad",
        [
            (np.ones(2), np.ones(2)),
            (np.ones(13), None),
            (np.ones(13),),
            np.ones(13),
            3.0,
            "standard",
            (np.ones((13, 1)), np.ones(13)),
            (np.array(["a"] * 13), np.ones(13)),
        ],
        ids=str,
    )
    def test_input_scale(self, backend, bad):
        model = pair()[1].set_params(backend=backend)
        model.input_scale_ = bad
        for n in (1, 300):
            with pytest.raises(ValueError, match=r"input_scale_ must be None or a pair"):
                model.predict(X[:n])

    @pytest.mark.parametrize("dtype", ["f4", ">f8", "i8"])
    def test_an_input_scale_of_another_dtype(self, backend, dtype):
        model = pair()[1].set_params(backend=backend)
        expected = model.predict_proba(3 * X + 1)
        model.input_scale_ = np.full(13, 3).astype(dtype), np.ones(26, dtype)[::2]
        for n in (1, 300):
            np.testing.assert_allclose(model.predict_proba(X[:n]), expected[:n], rtol=1e-10)

    @pytest.mark.parametrize(
        ("layer", "bad", "sentence"),
        [
            (0, np.ones((5, 20)), "coefs_ are for 5 features, but X has 13"),
            (1, np.ones((20, 8)), "must have the shapes"),
            (1, np.ones((19, 7)), "must have the shapes"),
            (1, np.ones(20), "must have the shapes"),
            (1, np.ones((20, 0)), "must have the shapes"),
            (1, "abc", "must be arrays of numbers"),
            (1, None, "must be arrays of numbers"),
            (1, np.full((20, 7), 1j), "must be arrays of numbers"),
        ],
        ids=repr,
    )
    def test_coefs(self, backend, layer, bad, sentence):
        model = pair()[1].set_params(backend=backend)
        model.coefs_ = [*model.coefs_]
        model.coefs_[layer] = bad
        for n in (1, 300):
            with pytest.raises(ValueError, match=sentence):
                model.predict(X[:n])

    def test_layers_that_are_missing(self, backend):
        model = pair()[1].set_params(backend=backend)
        model.intercepts_ = model.intercepts_[:-1]
        with pytest.raises(ValueError, match="an array per layer"):
            model.predict(X)
        for nothing in ([], None):
            model.coefs_ = model.intercepts_ = nothing
            with pytest.raises(ValueError, match="an array per layer"):
                model.predict(X)

    def test_an_unknown_function_of_the_outputs(self):
        model = pair()[1]
        model.out_activation_ = "sine"
        with pytest.raises(ValueError, match="out_activation_ must be one of"):
            model.predict(X)

    def test_sparse_indices_outside_the_matrix(self, backend):
        row = sp.csr_matrix(X[:1])
        row.indices[-1] = 10**6
        with pytest.raises(ValueError, match="column"):
            pair()[1].set_params(backend=backend).predict(row)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["coefs_", "intercepts_"])
def test_weights_that_are_not_finite_are_not_trained_on(name, bad):
    model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=3, random_state=0)
    with warnings.catch_warnings(action="ignore"):
        model.fit([[0.0], [1.0]], [0.0, 1.0])
    getattr(model, name)[1][0] = bad
    with pytest.raises(ValueError, match=rf"{name}\[1\] must be finite to be trained"):
        model.partial_fit([[0.0], [1.0]], [0.0, 1.0])


def test_clipped_outputs_are_not_trained_on():
    with warnings.catch_warnings(action="ignore"):
        model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=3).fit([[0.0], [1.0]], [0.0, 1.0])
    model.out_activation_ = "relu"
    with pytest.raises(ValueError, match="out_activation_ must be one of .* to be trained"):
        model.partial_fit([[0.0], [1.0]], [0.0, 1.0])


@pytest.mark.parametrize("name", ["activation", "out_activation_"])
def test_functions_that_are_no_names(name):
    with warnings.catch_warnings(action="ignore"):
        model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=3).fit([[0.0], [1.0]], [0.0, 1.0])
    setattr(model, name, ["relu"])
    with pytest.raises(ValueError, match=f"{name} must be one of"):
        model.predict([[0.0]])


@pytest.mark.parametrize("dtype", [">f4", "float16", "float32"])
def test_narrow_weights_of_any_kind_predict_in_float32(dtype):
    with warnings.catch_warnings(action="ignore"):
        model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=3).fit([[0.0], [1.0]], [0.0, 1.0])
    model.coefs_ = [coef.astype(dtype) for coef in model.coefs_]
    model.intercepts_ = [intercept.astype(dtype) for intercept in model.intercepts_]
    assert model.predict(np.zeros((3, 1), np.float32)).dtype == np.float32
