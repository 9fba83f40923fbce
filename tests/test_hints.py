"""Hints are given where there is something to say, and only there."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fastmlp import MLPClassifier, MLPRegressor, backends
from fastmlp.estimators import hints
from fastmlp.exceptions import (
    ConstantFeatureWarning,
    FastMLPWarning,
    IneffectiveParameterWarning,
    InputScaleWarning,
    OneHotLabelsWarning,
    SlowBackendWarning,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.RandomState(0).standard_normal((60, 3))
Y = np.arange(60) % 3


def hints_of(fit):
    """Return the hints that a call gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    return [w for w in caught if issubclass(w.category, FastMLPWarning)]


def classifier(**parameters):
    return MLPClassifier(**{"hidden_layer_sizes": (4,), "max_iter": 2, **parameters})


class TestParametersWithoutEffect:
    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"learning_rate": "adaptive"}, "learning_rate='adaptive' has no effect with"),
            ({"momentum": 0.5, "power_t": 0.1}, "momentum=0.5, power_t=0.1 have no effect with"),
            ({"solver": "sgd", "beta_1": 0.5}, "beta_1=0.5 has no effect with solver='sgd'; omit"),
            ({"solver": "lbfgs", "learning_rate_init": 0.1}, "learning_rate_init=0.1 has no"),
            ({"solver": "lbfgs", "dropout": [0.5]}, r"dropout=\[0.5\] has no effect"),
            ({"solver": "lbfgs", "lr_schedule": {1: 0.1}}, "lr_schedule={1: 0.1} has no effect"),
            (
                {"solver": "lbfgs", "lr_schedule": dict.fromkeys(range(1, 99), 0.1)},
                r"0.1, \.\.\. has",
            ),
            ({"solver": "lbfgs", "augment": np.copy}, "augment=<function copy"),
        ],
    )
    def test_are_named(self, parameters, words):
        with pytest.warns(IneffectiveParameterWarning, match=words):
            classifier(**parameters).fit(X, Y)
        with pytest.warns(IneffectiveParameterWarning, match=words):
            MLPRegressor(hidden_layer_sizes=4, max_iter=2, **parameters).fit(X, Y)

    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"learning_rate_init": 0.01, "beta_1": 0.5, "dropout": 0.1, "lr_schedule": {1: 0.1}},
            {"solver": "sgd", "learning_rate": "adaptive", "momentum": 0.5, "dropout": 0.5},
            {"solver": "lbfgs", "tol": 0.1, "max_fun": 7, "alpha": 1.0, "momentum": 0.9},
            {"solver": "lbfgs", "dropout": (0.0,)},
            {"solver": "lbfgs", "dropout": 0, "momentum": np.float32(0.9) * 0 + 0.9},
        ],
    )
    def test_others_are_not(self, parameters):
        assert not hints_of(lambda: classifier(**parameters).fit(X, Y))

    def test_a_subclass_may_have_fewer(self):
        class Small(MLPClassifier):
            def __init__(self, alpha=1.0, momentum=0.5):
                super().__init__(hidden_layer_sizes=3, max_iter=2, alpha=alpha, momentum=momentum)

        class Passing(MLPClassifier):
            def __init__(self, units, **others):
                super().__init__(hidden_layer_sizes=units, max_iter=2, **others)

            @classmethod
            def _get_param_names(cls):
                return ["hidden_layer_sizes", "momentum"]

        assert not hints_of(lambda: Small().fit(X, Y))
        assert not hints_of(lambda: Passing(3, momentum=0.1).fit(X, Y))
        with pytest.warns(IneffectiveParameterWarning, match="momentum=0.1 has no effect"):
            Small(momentum=0.1).fit(X, Y)

    def test_once_and_from_the_line_of_the_user(self):
        model = classifier(learning_rate="adaptive", warm_start=True)
        [hint] = hints_of(lambda: model.fit(X, Y).fit(X, Y))
        assert hint.filename == __file__


class TestOneHotLabels:
    def test_are_recognised(self):
        with pytest.warns(OneHotLabelsWarning, match="y has 3 columns .* y.argmax"):
            classifier().fit(X, np.eye(3, dtype=int)[Y])

    @pytest.mark.parametrize(
        "labels",
        [
            np.eye(3, dtype=int)[Y] | np.eye(3, dtype=int)[Y % 2],
            np.where(np.arange(60)[:, None] == 7, 0, np.eye(3, dtype=int)[Y]),
            (Y == 1).astype(int)[:, np.newaxis].repeat(2, axis=1),
            Y,
        ],
        ids=["several", "none", "both or none", "classes"],
    )
    def test_labels_that_are_not_exclusive_are_no_mistake(self, labels):
        assert not hints_of(lambda: classifier().fit(X, labels))

    def test_a_few_samples_prove_nothing(self):
        assert not hints_of(lambda: classifier().fit(X[:3], np.eye(3, dtype=int)))


class TestConstantFeatures:
    flat = np.column_stack([X, np.full(60, 7.0), np.zeros(60)])

    def test_are_named_when_standardising(self):
        with pytest.warns(ConstantFeatureWarning, match=r"2 of 5 features .* \(columns 3, 4\)"):
            classifier(input_scale="standard").fit(self.flat, Y)

    def test_not_otherwise(self):
        assert not hints_of(lambda: classifier(input_scale="standard").fit(X, Y))
        assert not hints_of(lambda: classifier(input_scale=0.1).fit(self.flat, Y))
        assert not hints_of(lambda: classifier().fit(self.flat, Y))

    def test_borders_of_byte_images_are_no_mistake(self):
        images = np.random.RandomState(0).randint(0, 9, (60, 5)).astype(np.uint8)
        images[:, 0] = 0
        assert not hints_of(lambda: classifier(input_scale="standard").fit(images, Y))


class TestRange:
    @pytest.mark.parametrize("as_given", [np.asarray, csr_matrix])
    def test_raw_pixels(self, as_given):
        with pytest.warns(InputScaleWarning, match="span .* input_scale='standard'"):
            classifier().fit(as_given(np.abs(X) * 200), Y)
        assert not hints_of(lambda: classifier(input_scale=1 / 255).fit(np.abs(X) * 200, Y))


class TestSlowBackend:
    WORDS = (
        r"^backend='auto' uses NumPy, which is slower, .* \(cython: it was not built; numba: No "
        r"module named 'numba'\)\. Install a C compiler and reinstall fastmlp, or run 'pip install "
        r"numba'\. backend='numpy' does not warn\.$"
    )

    @pytest.fixture
    def missing(self, monkeypatch):
        """Return what is missing, and why: a test may take it away."""
        load = backends._load
        missing = {"cython": "it was not built; do", "numba": "No module named 'numba'\nor so"}
        monkeypatch.setattr(
            backends, "_load", lambda n: (None, missing[n]) if n in missing else load(n)
        )
        monkeypatch.setattr(hints, "_warned_of_backend", False)
        return missing

    @pytest.mark.usefixtures("missing")
    @pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
    def test_is_named_once_per_process_at_the_line_of_the_user(self, cls):
        model = cls(hidden_layer_sizes=(4,), max_iter=2)
        with pytest.warns(SlowBackendWarning, match=self.WORDS) as caught:
            model.fit(X, Y)
        assert [w.filename for w in caught if w.category is SlowBackendWarning] == [__file__]
        assert not hints_of(lambda: model.fit(X, Y).predict(X))
        assert not hints_of(lambda: model.partial_fit(X, Y))

    def test_prediction_names_it_too(self, missing, monkeypatch):
        model = classifier(backend="numpy").fit(X, Y).set_params(backend="auto")
        with pytest.warns(SlowBackendWarning, match=self.WORDS) as caught:
            model.predict(X)
        assert caught[0].filename == __file__
        assert not hints_of(lambda: model.predict_proba(X))

    @pytest.mark.usefixtures("missing")
    def test_is_not_given_for_numpy_by_name(self):
        assert not hints_of(lambda: classifier(backend="numpy").fit(X, Y).predict(X))

    def test_is_not_given_where_numba_is_there(self, missing, monkeypatch):
        del missing["numba"]
        if "numba" not in backends.available():
            pytest.skip("Numba is not installed")
        assert not hints_of(lambda: classifier().fit(X, Y).predict(X))

    @pytest.mark.usefixtures("missing")
    def test_an_error_is_raised_in_every_fit(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error", SlowBackendWarning)
            for _ in range(2):
                with pytest.raises(SlowBackendWarning):
                    classifier().fit(X, Y)

    @pytest.mark.slow
    def test_in_a_program(self, tmp_path):
        (tmp_path / "program.py").write_text(
            "import sys\n"
            "for name in ('fastmlp.backends.cython_backend', 'numba'):\n"
            "    sys.modules[name] = None\n"
            "import fastmlp.estimators\n"
            "print('imported', file=sys.stderr)\n"
            "model = fastmlp.MLPClassifier((2,), max_iter=9, tol=100.0, n_iter_no_change=1)\n"
            "for _ in range(2):\n"
            "    model.fit([[0.0], [1.0]] * 10, [0, 1] * 10)\n"
        )
        run = subprocess.run(
            [sys.executable, "program.py"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
        )  # fmt: skip
        before, shown, source = run.stderr.splitlines()
        assert before == "imported"
        assert "program.py:8: SlowBackendWarning: backend='auto' uses NumPy" in shown
        assert source.strip().startswith("model.fit")
