"""Warnings that scikit-learn gives too come from its place, ours from the user's line."""

import subprocess
import sys
import unittest
import warnings
from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.neural_network import MLPRegressor as SklearnMLPRegressor

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.exceptions import InputScaleWarning

X = np.random.RandomState(0).standard_normal((60, 3))
Y = np.arange(60) % 3
FRAME = pd.DataFrame(X, columns=list("abc"))
MODULE = "sklearn.neural_network._multilayer_perceptron"

SKLEARNS = {"MLPClassifier": SklearnMLPClassifier, "MLPRegressor": SklearnMLPRegressor}
OURS = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}


def quick(classes, name, **parameters):
    return classes[name](
        **{"hidden_layer_sizes": (4,), "random_state": 0, "tol": 100.0, **parameters}
    )


def interrupted(classes):
    model = quick(classes, "MLPClassifier")
    if classes is OURS:
        model.set_params(backend="numpy")
        place = "fastmlp.backends.numpy_backend.Engine.train_epoch"
    else:
        place = f"{MODULE}.MLPClassifier._backprop"
    with patch(place, side_effect=KeyboardInterrupt):
        model.fit(X, Y)


# What gives a warning in scikit-learn.
CASES = {
    "not converged": lambda of: quick(of, "MLPClassifier", max_iter=2, tol=0).fit(X, Y),
    "regressor not converged": lambda of: (
        quick(of, "MLPRegressor", max_iter=2, tol=0, solver="sgd").fit(X, Y)
    ),
    "L-BFGS not converged": lambda of: (
        quick(of, "MLPRegressor", max_iter=2, tol=0, solver="lbfgs").fit(X, Y)
    ),
    "L-BFGS out of evaluations": lambda of: (
        quick(of, "MLPClassifier", max_fun=3, tol=0, solver="lbfgs").fit(X, Y)
    ),
    "interrupted": interrupted,
    "large batches": lambda of: quick(of, "MLPClassifier", batch_size=99).fit(X, Y),
    "large batches of partial_fit": lambda of: (
        quick(of, "MLPRegressor", batch_size=99).partial_fit(X, Y)
    ),
    "column of labels": lambda of: quick(of, "MLPClassifier").fit(X, Y[:, np.newaxis]),
    "column of labels in partial_fit": lambda of: (
        quick(of, "MLPClassifier").partial_fit(X, Y[:, np.newaxis], classes=[0, 1, 2])
    ),
    "column of numbers": lambda of: quick(of, "MLPRegressor").fit(X, Y[:, np.newaxis]),
    "names that fit did not see": lambda of: quick(of, "MLPClassifier").fit(X, Y).predict(FRAME),
    "names that predict does not see": lambda of: (
        quick(of, "MLPRegressor").fit(FRAME, Y).predict(X)
    ),
    "names that partial_fit does not see": lambda of: (
        quick(of, "MLPClassifier").fit(FRAME, Y).partial_fit(X, Y)
    ),
    "names that score does not see": lambda of: (
        quick(of, "MLPClassifier").fit(FRAME, Y).score(X, Y)
    ),
    "logarithm of zero": lambda of: (
        quick(of, "MLPClassifier").fit(X, Y).predict_log_proba(X * 1e5)
    ),
}  # fmt: skip


def given(act, *filters):
    """Return the warnings that filters let through: category, text, file and line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for arguments in filters:
            warnings.filterwarnings(**arguments)
        act()
    return [(w.category, str(w.message), w.filename, w.lineno) for w in caught]


class TestWhatScikitLearnGivesToo:
    @pytest.mark.parametrize("name", CASES)
    def test_comes_from_the_same_line(self, name):
        expected = given(lambda: CASES[name](SKLEARNS))
        assert expected  # or the case is none
        assert given(lambda: CASES[name](OURS)) == expected

    @pytest.mark.parametrize("module", [MODULE, "sklearn", r"sklearn\.utils", "fastmlp", __name__])
    @pytest.mark.parametrize("name", CASES)
    def test_filters_by_module_act_alike(self, name, module):
        ignored = {"action": "ignore", "module": module}
        expected = given(lambda: CASES[name](SKLEARNS), ignored)
        assert given(lambda: CASES[name](OURS), ignored) == expected

    def test_filter_of_scikit_learns_own_examples(self):
        ignored = {"action": "ignore", "category": ConvergenceWarning, "module": "sklearn"}
        fit = CASES["not converged"]
        assert not given(lambda: fit(OURS), ignored)
        assert len(given(lambda: fit(OURS), {**ignored, "category": DeprecationWarning})) == 1

    def test_filter_makes_an_error_of_it(self):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=ConvergenceWarning, module=MODULE)
            with pytest.raises(ConvergenceWarning, match="Maximum iterations"):
                CASES["not converged"](OURS)

    @pytest.mark.parametrize("name", CASES)
    def test_the_default_filter_shows_it_as_often(self, name):
        def thrice(classes):
            for _ in range(3):
                CASES[name](classes)

        default = {"action": "default"}
        expected = given(lambda: thrice(SKLEARNS), default)
        assert given(lambda: thrice(OURS), default) == expected

    def test_unittest_sees_it_again(self):
        """Python notes in a module what it has shown there; unittest empties these notes."""
        for _ in range(2):
            with unittest.TestCase().assertWarns(ConvergenceWarning) as caught:
                CASES["not converged"](OURS)
            assert len(caught.warnings) == 1

    @pytest.mark.parametrize("setting", ["ignore", "raise", "call"])
    def test_numpys_settings_hold_for_the_logarithm(self, setting):
        calls = []
        model = quick(OURS, "MLPClassifier").fit(X, Y)
        with np.errstate(divide=setting, call=lambda *what: calls.append(what)):
            if setting == "raise":
                with pytest.raises(FloatingPointError, match="divide by zero"):
                    model.predict_log_proba(X * 1e5)
            else:
                assert model.predict_log_proba(X * 1e5).min() == -np.inf
        assert len(calls) == (setting == "call")


SCRIPT = """
import numpy as np
from fastmlp import MLPClassifier
X = np.arange(40.0).reshape(20, 2) / 40
MLPClassifier((3,), max_iter=2).fit(X, np.arange(20) % 2)
"""


@pytest.mark.parametrize("of", ["sklearn.neural_network", "fastmlp"])
@pytest.mark.parametrize(
    ("option", "is_error", "shown"),
    [
        ("default", False, True),
        (f"ignore:::{MODULE}", False, False),
        ("ignore:::__main__", False, True),
        (f"error::UserWarning:{MODULE}", True, True),
        ("error::UserWarning:__main__", False, True),
        (f"error::RuntimeWarning:{MODULE}", False, True),
    ],
)
def test_filters_of_the_command_line(of, option, is_error, shown):
    """What ``python -W`` makes of its options, for a script that runs in this process."""
    code = compile(SCRIPT.replace("fastmlp", of), "script.py", "exec")
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        warnings._setoption(option)
        with pytest.raises(ConvergenceWarning) if is_error else nullcontext():
            exec(code, {"__name__": "__main__"})
    assert bool([w for w in caught if w.category is ConvergenceWarning]) == (shown and not is_error)


@pytest.mark.slow
def test_a_filter_of_a_real_command_line(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.run(
        [sys.executable, "-W", f"error::UserWarning:{MODULE}", "script.py"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1
    assert "ConvergenceWarning: Stochastic Optimizer" in run.stderr


class TestHints:
    def test_name_the_line_of_the_user(self):
        with pytest.warns(InputScaleWarning) as caught:
            quick(OURS, "MLPClassifier").fit(X * 1e4, Y)
        assert caught[0].filename == __file__

    def test_filters_by_module_mean_the_users(self):
        fit = lambda: quick(OURS, "MLPClassifier").fit(X * 1e4, Y)  # noqa: E731
        assert given(fit, {"action": "ignore", "module": "sklearn|fastmlp"})
        assert not given(fit, {"action": "ignore", "module": __name__})
