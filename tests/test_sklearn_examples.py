"""scikit-learn's own examples print, warn and draw the same with fastmlp.

They run where FASTMLP_SKLEARN_EXAMPLES names a copy of the examples of the installed version.
"""

import os
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import sklearn_examples

EXAMPLES = os.environ.get("FASTMLP_SKLEARN_EXAMPLES")
SCRIPTS = sklearn_examples.find(EXAMPLES) if EXAMPLES else []


@pytest.mark.skipif(not EXAMPLES, reason="FASTMLP_SKLEARN_EXAMPLES names no copy of the examples")
class TestExamples:
    def test_there_are_some(self):
        assert len(SCRIPTS) >= 5, f"{EXAMPLES} has too few scripts that use MLPs"

    @pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
    def test_print_warn_and_draw_the_same(self, script):
        theirs, ours, found, _ = sklearn_examples.compare(script)
        if ours is None:
            pytest.skip(theirs.warned[-1])
        assert not found


SAME = """
    import warnings
    import matplotlib.pyplot as plt
    import numpy as np
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    X = np.arange(80.0).reshape(40, 2) / 80
    model = MLPClassifier((5,), max_iter=4, random_state=0).fit(X, np.arange(40) % 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        MLPClassifier((5,), max_iter=4).fit(X, np.arange(40) % 2)
    print(model, round(model.loss_, 8), "in 0.123 s")
    for curve in (model.loss_curve_, np.random.uniform(size=9)):
        plt.figure()
        plt.plot(curve)
    plt.show()
    plt.plot(X[:, 0], model.predict_proba(X)[:, 0])

    # Of this result, only the last bits are drawn.
    X = np.random.RandomState(0).standard_normal((200, 30))
    model = MLPRegressor(solver="lbfgs", max_iter=9, tol=0, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn")
        weights = model.fit(X, X[:, 0] ** 2).coefs_[0].ravel()
    plt.figure()
    plt.imshow((weights * 2.0**44).reshape(50, 60) % 1)
"""


class TestTheComparison:
    @staticmethod
    def compare(tmp_path, *code):
        script = tmp_path / "script.py"
        script.write_text("".join(map(textwrap.dedent, code)))
        assert sklearn_examples.find(tmp_path) == [script]
        return sklearn_examples.compare(script)

    @pytest.mark.slow
    def test_sees_everything_and_tells_rounding_from_a_difference(self, tmp_path):
        theirs, ours, found, remarks = self.compare(tmp_path, SAME)
        assert not found
        for run in (theirs, ours):
            assert run.printed.endswith(" in # s\n")
            assert "ConvergenceWarning" in "".join(run.warned) and len(run.warned) == 2
            assert len(run.figures) == 4
        assert sklearn_examples.pixels(theirs, ours)[:3] == [0, 0, 0]
        [remark] = remarks
        assert re.match(r"figure 4: \d+ pixels differ, 0 with the NumPy backend", remark)

    def test_sees_what_differs(self, monkeypatch):
        def run(script, *, accelerated=False):
            module = "fastmlp.estimators" if accelerated else "sklearn.neural_network"
            figure = np.zeros((200, 300 if accelerated else 200, 4))
            warned = [f"script.py:6: UserWarning: {module}"]
            return sklearn_examples.Run(module, warned, [figure], module, int(accelerated), 1.0)

        monkeypatch.setattr(sklearn_examples, "run", run)
        _, _, found, _ = sklearn_examples.compare("script.py")
        assert re.match("exit status 0 and 1: ", found[0])
        assert re.match("prints 'sklearn.neural_network", found[1])
        assert re.match("warns '.*UserWarning: sklearn", found[2])
        assert re.match("draws ", found[3])
        assert len(found) == 4

    @pytest.mark.parametrize(
        ("exact", "nudged", "message"),
        [
            ([[1, 0]], [[1, 1]], "figure 1: 1 pixels differ, 1 with the NumPy backend"),
            ([[0, 0]], [[0, 0]], "figure 1: 1 pixels differ, 0 with the NumPy backend"),
        ],
    )
    def test_sees_pixels_that_differ(self, monkeypatch, exact, nudged, message):
        """Which NumPy's backend does not draw either, or no change of the last bits makes."""

        def run(script, *, accelerated=False, way=""):
            pixels = {"numpy": exact, "nudge": nudged}.get(way, [[int(accelerated), 0]])
            module = "fastmlp.estimators" if accelerated else "sklearn.neural_network"
            return sklearn_examples.Run("", [], [np.array(pixels)[..., np.newaxis]], module, 0, 1.0)

        monkeypatch.setattr(sklearn_examples, "run", run)
        _, _, found, remarks = sklearn_examples.compare("script.py")
        assert len(found) == 1 and found[0].startswith(message)
        assert not remarks

    @pytest.mark.slow
    def test_says_why_it_skips(self, tmp_path):
        code = """
            from sklearn.datasets import fetch_openml
            from sklearn.neural_network import MLPClassifier
            fetch_openml("titanic")
        """
        theirs, ours, _, _ = self.compare(tmp_path, code)
        assert ours is None and theirs.status == sklearn_examples.SKIPPED
        assert theirs.warned == ["there is no stand-in for the data set 'titanic'."]

    def test_finds_scripts_by_their_code(self, tmp_path):
        for name, code in {
            "comment": "# MLPClassifier",
            "text": "'MLPClassifier'",
            "imported": "from sklearn.neural_network import MLPRegressor as N",
            "reached": "import sklearn\nsklearn.neural_network.MLPClassifier()",
        }.items():
            (tmp_path / f"{name}.py").write_text(code)
        assert [path.stem for path in sklearn_examples.find(tmp_path)] == ["imported", "reached"]


def test_a_copy_that_is_named_exists():
    assert EXAMPLES is None or Path(EXAMPLES).is_dir()
