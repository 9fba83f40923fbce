"""In a search, hints are given once, and Ctrl-C ends all of it."""

import copy
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import warnings
from collections import Counter

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from fastmlp import MLPClassifier, exceptions
from fastmlp.exceptions import FastMLPWarning, IneffectiveParameterWarning, InputScaleWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

rng = np.random.RandomState(0)
X = rng.standard_normal((60, 3)) * 1e3
Y = np.arange(60) % 3


def unscaled(**parameters):
    """Return a model that has a hint to give about X."""
    return MLPClassifier(**{"hidden_layer_sizes": (3,), "max_iter": 2, **parameters})


def hints_of(act):
    """Return how often an act gives which hint, though it may always be given."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        act()
    return Counter(w.category for w in caught if issubclass(w.category, FastMLPWarning))


SEARCHES = {
    "search": lambda: GridSearchCV(unscaled(), {"alpha": [1e-4, 1.0]}, cv=3).fit(X, Y),
    "cross-validation": lambda: cross_val_score(unscaled(), X, Y, cv=3),
    "a search in cross-validation": lambda: cross_val_score(
        GridSearchCV(unscaled(), {"alpha": [1e-4, 1.0]}, cv=2), X, Y, cv=2
    ),
    "pipelines": lambda: cross_val_score(
        make_pipeline(MinMaxScaler((0, 999)), unscaled()), X, Y, cv=3
    ),
    "bagging": lambda: BaggingClassifier(unscaled(), n_estimators=3).fit(X, Y),
    "voting": lambda: VotingClassifier([("a", unscaled()), ("b", unscaled())]).fit(X, Y),
    "one versus rest": lambda: OneVsRestClassifier(unscaled()).fit(X, Y),
    "feature selection": lambda: SequentialFeatureSelector(
        unscaled(), n_features_to_select=2, cv=2
    ).fit(X, Y),
    "joblib": lambda: joblib.Parallel(1)(joblib.delayed(unscaled().fit)(X, Y) for _ in "123"),
    "joblib's threads": lambda: joblib.Parallel(2, "threading")(
        joblib.delayed(unscaled().fit)(X, Y) for _ in "1234"
    ),
}


class TestHints:
    @pytest.mark.parametrize("name", SEARCHES)
    def test_once_in_each_search(self, name):
        for _ in range(2):
            assert hints_of(SEARCHES[name]) == {InputScaleWarning: 1}

    def test_every_fit_outside(self):
        pipeline = make_pipeline(MinMaxScaler((0, 999)), unscaled())
        for model in (unscaled(), pipeline):
            assert hints_of(lambda model=model: model.fit(X, Y).fit(X, Y)) == {InputScaleWarning: 2}
            for _ in range(2):
                with pytest.warns(InputScaleWarning):
                    model.fit(X, Y)

    def test_one_fit_after_a_search_with_its_estimator(self):
        search = GridSearchCV(unscaled(), {"alpha": [1e-4, 1.0]}, cv=3)
        with pytest.warns(InputScaleWarning):
            search.fit(X, Y)
        for model in (search.estimator, search.best_estimator_):
            with pytest.warns(InputScaleWarning):
                model.fit(X, Y)

    def test_different_ones_are_all_given(self):
        grid = {"solver": ["adam", "lbfgs"], "momentum": [0.5, 0.8]}
        search = GridSearchCV(unscaled(), grid, cv=2)
        assert hints_of(lambda: search.fit(X, Y)) == {
            InputScaleWarning: 1, IneffectiveParameterWarning: 2,
        }  # fmt: skip

    def test_what_is_not_about_a_fit_is_always_given(self):
        def several():
            for number in range(3):
                exceptions.warn(f"{number} files left out.", FastMLPWarning)

        parallel = joblib.Parallel(1)
        assert hints_of(lambda: parallel([joblib.delayed(several)()])) == {FastMLPWarning: 3}

    def test_in_a_thread_without_a_search(self):
        thread = threading.Thread(target=unscaled().fit, args=(X, Y))

        def act():
            thread.start()
            thread.join()

        assert hints_of(act) == {InputScaleWarning: 1}

    def test_where_the_user_called(self):
        with pytest.warns(InputScaleWarning) as caught:
            with joblib.parallel_config("threading", n_jobs=2):
                line = sys._getframe().f_lineno + 1
                cross_val_score(unscaled(), X, Y, cv=3)
        [hint] = [w for w in caught if w.category is InputScaleWarning]
        assert (hint.filename, hint.lineno) == (__file__, line)

    @pytest.mark.parametrize("joblib_backend", ["sequential", "threading"])
    def test_an_error_in_every_fit_if_it_is_one(self, joblib_backend):
        with warnings.catch_warnings(), joblib.parallel_config(joblib_backend, n_jobs=2):
            warnings.simplefilter("error", InputScaleWarning)
            with pytest.raises(ValueError, match="All the 4 fits failed"):
                cross_val_score(unscaled(), X, Y, cv=4)

    def test_every_fit_where_nothing_can_be_noted(self, monkeypatch):
        def no_place(**_):
            raise FileNotFoundError("no usable temporary directory")

        monkeypatch.setattr(tempfile, "mkdtemp", no_place)
        assert hints_of(SEARCHES["cross-validation"]) == {InputScaleWarning: 3}

    def test_nothing_is_left_behind(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        made, mkdtemp = [], tempfile.mkdtemp

        def noted(**options):
            made.append(mkdtemp(**options))
            return made[-1]

        monkeypatch.setattr(tempfile, "mkdtemp", noted)
        assert hints_of(SEARCHES["search"])
        assert len(made) == 1
        assert not list(tmp_path.iterdir())

    def test_pickles_and_copies_know_nothing_of_a_search(self):
        seen = []

        class Curious(MLPClassifier):
            def __reduce__(self):  # the class is not one of a module
                return MLPClassifier, (), self.__getstate__()

            def fit(self, X, y):
                super().fit(X, y)
                seen.append((pickle.dumps(self), copy.deepcopy(self)))
                return self

        model = Curious(hidden_layer_sizes=(3,), max_iter=2, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = set(vars(clone(model).fit(X, Y)))
            for joblib_backend in ("sequential", "threading"):
                with joblib.parallel_config(joblib_backend, n_jobs=2):
                    cross_val_score(model, X, Y, cv=2)
        assert len(seen) == 5
        for pickled, copied in seen:
            assert b"search of fastmlp" not in pickled
            assert set(vars(copied)) == plain


WORKERS = """
    import sys, warnings
    import joblib
    import numpy as np
    from sklearn.model_selection import GridSearchCV, cross_validate
    from fastmlp import MLPClassifier, exceptions, exceptions

    def section(name):
        sys.stderr.write(f"== {backend}: {name}\\n")

    if __name__ == "__main__":
        X = np.random.RandomState(0).standard_normal((90, 3)) * 1e3
        y = np.arange(90) % 3
        model = MLPClassifier((3,), max_iter=2, momentum=0.5)
        for backend in sys.argv[1:]:
            # This makes Python forget, too, which warnings it has shown.
            warnings.filterwarnings("ignore", module="sklearn")
            with joblib.parallel_config(backend, n_jobs=2):
                search = GridSearchCV(model, {"alpha": np.logspace(-4, 1, 6)}, cv=5)
                section("search")
                search.fit(X, y)
                section("search again")
                search.fit(X, y)
                section("cross-validation")
                cross_validate(model, X, y, cv=5, return_estimator=True)
                section("cross-validation again")
                cross_validate(model, X, y, cv=5, return_estimator=True)
                section("joblib")
                joblib.Parallel()(joblib.delayed(model.fit)(X, y) for _ in range(6))
            section("fit")
            model.fit(X, y)
"""


@pytest.mark.slow
def test_workers_give_a_hint_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(WORKERS))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    run = subprocess.run(
        [sys.executable, script, "multiprocessing", "loky", "threading", "sequential"],
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    sections = re.split(r"^== (.*)\n", run.stderr, flags=re.MULTILINE)[1:]
    assert len(sections) == 2 * 4 * 6
    lines = script.read_text().splitlines()
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        # Filters reach joblib's own workers through scikit-learn's Parallel only.
        given = re.findall(r"^(.*):(\d+): (?!Conv)(\w+Warning): ", text, re.MULTILINE)
        # At the line of the user, from workers too.
        call = f'section("{name.partition(": ")[2]}")'
        line = str(1 + next(i for i, text in enumerate(lines) if call in text) + 1)
        assert sorted(given) == [
            (str(script), line, "IneffectiveParameterWarning"),
            (str(script), line, "InputScaleWarning"),
        ], name
    assert not list(temporary.glob("fastmlp*"))


ENDLESS = """
    import sys, warnings
    import joblib
    import numpy as np
    from sklearn.experimental import enable_halving_search_cv
    from sklearn.model_selection import (
        GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV, cross_val_score,
    )
    from fastmlp import MLPClassifier, exceptions, MLPRegressor
    from fastmlp.exceptions import FastMLPWarning

    def train(call, solver, backend, n_jobs):
        X = np.random.RandomState(0).standard_normal((600, 20))
        y = np.arange(600) % 3
        grid = {"alpha": [0.1, 1.0, 10.0]}
        endless = {"max_iter": 10**7, "tol": 0, "n_iter_no_change": np.inf, "verbose": True}
        if solver == "lbfgs":
            X = X ** 9
            model = MLPRegressor(
                solver="lbfgs", hidden_layer_sizes=(600, 600), tol=0, max_iter=10**7, max_fun=10**7,
                verbose=True,
            )
        else:
            model = MLPClassifier((9,), solver=solver, **endless)
        with joblib.parallel_config(backend, n_jobs=int(n_jobs)):
            {
                "fit": lambda: model.fit(X, y),
                "cross_val_score": lambda: cross_val_score(model, X, y),
                "grid": lambda: GridSearchCV(model, grid).fit(X, y),
                "randomized": lambda: RandomizedSearchCV(model, grid, n_iter=3).fit(X, y),
                "halving": lambda: HalvingGridSearchCV(model, grid).fit(X, y),
            }[call]()

    if __name__ == "__main__":
        warnings.simplefilter("ignore", FastMLPWarning)
        for number, act in enumerate(sys.argv[1:]):
            print("==", act, flush=True)
            print("==", act, file=sys.stderr, flush=True)
            try:
                train(*act.split())
            except KeyboardInterrupt:
                outcome = "stopped"
            else:
                outcome = "went on"
            with open(f"outcome-{number}", "w") as file:  # threads may still print
                file.write(outcome)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
class TestCtrlC:
    @staticmethod
    def interrupted(tmp_path, *acts, whole_group=True):
        """Return what a script does and warns when Ctrl-C comes while it fits; for each act."""
        (tmp_path / "script.py").write_text(textwrap.dedent(ENDLESS))
        process = subprocess.Popen(
            [sys.executable, "script.py", *acts],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a group of its own, as a terminal's foreground job is
        )
        too_long = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
        too_long.start()
        try:
            for act in acts:
                for awaited in (f"== {act}\n", "Iteration 3, "):
                    while not (line := process.stdout.readline()).startswith(awaited):
                        assert line, f"{act}: it has ended, or goes on after the Ctrl-C before"
                kill = os.killpg if whole_group else os.kill
                kill(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
        finally:
            too_long.cancel()
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        outcomes = [(tmp_path / f"outcome-{n}").read_text() for n in range(len(acts))]
        warned = re.split(r"^== .*\n", err, flags=re.MULTILINE)[1:]
        return list(zip(outcomes, warned, strict=True))

    @pytest.mark.slow
    def test_ends_a_search_and_keeps_the_model_of_a_fit(self, tmp_path):
        *searches, fit = self.interrupted(
            tmp_path,
            *(f"{call} adam loky 1" for call in ("cross_val_score", "grid", "randomized")),
            "halving adam loky 1",
            "grid lbfgs loky 1",
            "fit adam loky 1",
        )
        assert searches == [("stopped", "")] * 5
        assert fit[0] == "went on"
        assert "UserWarning: Training interrupted by user." in fit[1]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("joblib_backend", "whole_group"),
        [("loky", True), ("loky", False), ("threading", True)],
        ids=["terminal", "signal", "threads"],
    )
    def test_ends_a_search_with_workers(self, tmp_path, joblib_backend, whole_group):
        act = f"grid sgd {joblib_backend} 2"
        [(out, err)] = self.interrupted(tmp_path, act, whole_group=whole_group)
        assert out == "stopped"
        assert "Training interrupted" not in err
