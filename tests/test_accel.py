"""scikit-learn's names for fastmlp's estimators, and programs run under them unchanged."""

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import types
import warnings

import numpy as np
import pytest
import sklearn.neural_network
from sklearn.base import clone

import fastmlp
from fastmlp import accel, model_selection
from fastmlp.accel import SKLEARN_ESTIMATORS, patch_sklearn, unpatch_sklearn
from fastmlp.exceptions import LatePatchWarning
from fastmlp.training import observing

# Other modules of tests hold scikit-learn's classes, on purpose; see TestLatePatch.
pytestmark = pytest.mark.filterwarnings("ignore::fastmlp.exceptions.LatePatchWarning")

DATA = """
    import numpy as np
    rng = np.random.RandomState(0)
    X = rng.standard_normal((150, 4))
    y = np.array(["a", "b", "c"])[(X @ rng.standard_normal((4, 3))).argmax(axis=1)]
"""


@pytest.fixture
def patched():
    patch_sklearn()
    yield
    unpatch_sklearn()


def write(directory, *code, name="script.py"):
    (directory / name).write_text("".join(map(textwrap.dedent, code)))


def python(directory, *arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], cwd=directory, capture_output=True, text=True, **options
    )


def accelerated(directory, *arguments, flags=(), **options):
    return python(directory, *flags, "-m", "fastmlp.accel", *arguments, **options)


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """Run the command line in this process, which takes no seconds to import scikit-learn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])  # as python -m has it
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fastmlp.accel", *arguments])
        accel.main()

    with warnings.catch_warnings():
        yield run
    unpatch_sklearn()


def assert_same_run(directory, *arguments, flags=(), returncode=0, stderr=True, **options):
    expected = python(directory, *flags, *arguments, **options)
    assert expected.returncode == returncode, expected.stderr
    got = accelerated(directory, *arguments, flags=flags, **options)
    assert got.stdout == expected.stdout, got.stderr
    assert got.returncode == returncode, got.stderr
    if stderr:
        assert got.stderr == expected.stderr
    return got


class TestPatch:
    def test_every_way_to_import_gives_ours(self, patched):
        import sklearn.neural_network as nn
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        assert nn.MLPClassifier is MLPClassifier is fastmlp.MLPClassifier
        assert nn.MLPRegressor is MLPRegressor is fastmlp.MLPRegressor

    def test_unpatch_restores_exactly(self):
        before = dict(vars(sklearn.neural_network))
        unpatch_sklearn()
        assert dict(vars(sklearn.neural_network)) == before
        patch_sklearn()
        patch_sklearn()
        assert dict(vars(sklearn.neural_network)) != before
        unpatch_sklearn()
        assert dict(vars(sklearn.neural_network)) == before
        assert all(before[name] is cls for name, cls in SKLEARN_ESTIMATORS.items())
        assert all(cls.__module__.startswith("sklearn.") for cls in SKLEARN_ESTIMATORS.values())

    def test_searches(self, patched):
        from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score

        assert GridSearchCV is model_selection.GridSearchCV
        assert HalvingGridSearchCV is model_selection.HalvingGridSearchCV
        assert cross_val_score is model_selection.cross_val_score
        unpatch_sklearn()
        found = vars(sklearn.model_selection)
        for name in model_selection.__all__:
            assert found[name] is not getattr(model_selection, name)
            assert found[name].__module__.startswith("sklearn.")

    def test_model_is_an_instance_of_what_scikit_learn_has(self, patched):
        model = clone(fastmlp.MLPClassifier())
        assert isinstance(model, sklearn.neural_network.MLPClassifier)
        assert not isinstance(model, sklearn.neural_network.MLPRegressor)

    @pytest.mark.parametrize("options", ["", "hidden_layer_sizes=(3,), alpha=1, verbose=True"])
    def test_model_looks_like_scikit_learns(self, options):
        for name, theirs in SKLEARN_ESTIMATORS.items():
            parameters = eval(f"dict({options})")
            assert repr(getattr(fastmlp, name)(**parameters)) == repr(theirs(**parameters))

    def test_old_pickles_of_scikit_learns_load_under_the_patch(self, patched):
        theirs = SKLEARN_ESTIMATORS["MLPRegressor"](alpha=0.5)
        assert type(pickle.loads(pickle.dumps(theirs))) is type(theirs)


class TestLatePatch:
    """Names that were imported before the patch are scikit-learn's still, which is said."""

    @pytest.fixture(autouse=True)
    def _unpatched(self):
        yield
        unpatch_sklearn()

    @staticmethod
    def said(monkeypatch, **names):
        """Return what patching says of a module with these names."""
        module = types.ModuleType("helper")
        vars(module).update(names)
        modules = {"sklearn.neural_network": sklearn.neural_network, "helper": module, "none": None}
        monkeypatch.setattr("fastmlp.accel.sys", types.SimpleNamespace(modules=modules))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            patch_sklearn()
        assert {w.filename for w in caught} <= {__file__}
        return [str(w.message) for w in caught if w.category is LatePatchWarning]

    def test_names_where_they_are(self, monkeypatch):
        classes = {"MLPClassifier": SKLEARN_ESTIMATORS["MLPClassifier"]}
        [text] = self.said(monkeypatch, **classes)
        assert text == (
            "patch_sklearn() does not reach what was imported before it: helper.MLPClassifier is "
            "still scikit-learn's. Call it before these imports, or import these names again."
        )

    def test_other_names_and_many(self, monkeypatch):
        names = {f"Net{i}": SKLEARN_ESTIMATORS["MLPRegressor"] for i in range(6)}
        [text] = self.said(monkeypatch, **names)
        assert "helper.Net0, helper.Net1, helper.Net2, helper.Net3, helper.Net4, ... are" in text

    def test_says_nothing_of_others(self, monkeypatch):
        names = {
            "MLPClassifier": fastmlp.MLPClassifier,
            "nn": sklearn.neural_network,
            "model": SKLEARN_ESTIMATORS["MLPRegressor"](),
            "X": np.zeros(3),
        }
        assert not self.said(monkeypatch, **names)

    @pytest.mark.slow
    def test_in_a_script(self, tmp_path):
        write(tmp_path, "from sklearn.neural_network import MLPRegressor as MLP", name="helper.py")
        code = """
            import sys
            import sklearn.neural_network as nn, sklearn.model_selection
            from fastmlp.accel import patch_sklearn, unpatch_sklearn
            patch_sklearn()
            from sklearn.neural_network import MLPClassifier, MLPRegressor
            patch_sklearn()
            print(MLPClassifier.__module__)
            print("not where it comes first", file=sys.stderr)

            unpatch_sklearn()
            import helper
            from sklearn.neural_network import MLPClassifier
            patch_sklearn()
            print(MLPClassifier.__module__, nn.MLPClassifier.__module__)
        """
        write(tmp_path, code)
        run = python(tmp_path, "script.py")
        assert run.returncode == 0
        first, theirs, ours = run.stdout.split()
        assert first == ours == "fastmlp.estimators" and theirs.startswith("sklearn.")
        title, line, source = run.stderr.splitlines()
        assert title == "not where it comes first"
        assert re.fullmatch(
            r".*script\.py:14: LatePatchWarning: patch_sklearn\(\) does not reach .* before it: "
            r"__main__\.MLPClassifier, helper\.MLP are still scikit-learn's\. Call it .* again\.",
            line,
        )
        assert source == "  patch_sklearn()"


class TestRunner:
    @pytest.mark.slow
    def test_unmodified_script_prints_the_same(self, tmp_path):
        """Under -W error, too, though fastmlp has a hint to give about the last fit."""
        code = """
            import sys
            from sklearn.model_selection import cross_val_score, train_test_split
            from sklearn.neural_network import MLPClassifier, MLPRegressor
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import StandardScaler

            X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
            model = MLPClassifier(hidden_layer_sizes=(10,), max_iter=30, tol=0.1, random_state=0,
                                  verbose=True)
            pipeline = make_pipeline(StandardScaler(), model).fit(X_train, y_train)
            print(pipeline)
            print(model, isinstance(model, MLPClassifier), type(model).__name__)
            print(pipeline.score(X_test, y_test), pipeline.predict(X_test)[:5])
            print(model.classes_, model.n_iter_, model.t_, f"{model.loss_:.6f}")
            model.set_params(verbose=False, learning_rate_init=0.01)
            print(cross_val_score(pipeline, X, y, cv=3).round(6))
            regressor = MLPRegressor(early_stopping=True, random_state=0, verbose=True)
            print(f"{regressor.fit(X, X[:, 0]).score(X, X[:, 0]):.6f}", regressor)
            print(MLPClassifier((8,), tol=100.0, random_state=0).fit(X * 1000, y).n_iter_)
            print("without the script's directory:", sys.path)
        """
        write(tmp_path, DATA, code)
        run = assert_same_run(tmp_path, "script.py", flags=["-P", "-W", "error"])
        assert "Iteration 1, loss = " in run.stdout and "Validation score: " in run.stdout
        assert not run.stderr

    @pytest.mark.slow
    def test_searches_print_the_same(self, tmp_path):
        write(
            tmp_path,
            DATA,
            """
            import warnings
            from sklearn.experimental import enable_halving_search_cv
            from sklearn.linear_model import LogisticRegression
            from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
            from sklearn.neural_network import MLPClassifier

            warnings.simplefilter("ignore")
            network = MLPClassifier(5, max_iter=3, random_state=0)
            for search in [
                GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, verbose=1, cv=2),
                GridSearchCV(network, {"alpha": [0.1, 1]}, verbose=1, cv=2),
                HalvingGridSearchCV(network, {"alpha": [0.1, 1, 2]}, verbose=1, cv=2),
            ]:
                search.fit(X, y)
                print(search, search.best_params_, f"{search.best_score_:.6f}")
            """,
        )
        got = assert_same_run(tmp_path, "script.py")
        assert "HalvingGridSearchCV(" in got.stdout

    def test_it_is_ours_that_runs(self, tmp_path):
        """Its pickles load without the patch; and what it imports is the accel that runs it."""
        code = """
            import pickle
            import sklearn.neural_network
            from sklearn.neural_network import MLPClassifier, MLPRegressor
            from fastmlp import accel
            accel.patch_sklearn()
            print(MLPClassifier.__module__)
            model = MLPClassifier((8,), tol=0.1, random_state=0).fit(X, y)
            with open("model.pickle", "wb") as file:
                pickle.dump((model, X, model.predict_proba(X)), file)
            accel.unpatch_sklearn()
            print(sklearn.neural_network.MLPClassifier.__module__)
        """
        write(tmp_path, DATA, code)
        run = accelerated(tmp_path, "script.py")
        assert (run.returncode, run.stderr) == (0, "")
        ours, theirs = run.stdout.split()
        assert ours == "fastmlp.estimators"
        assert theirs.startswith("sklearn.neural_network")
        model, X, probabilities = pickle.loads((tmp_path / "model.pickle").read_bytes())
        assert type(model) is fastmlp.MLPClassifier
        np.testing.assert_array_equal(model.predict_proba(X), probabilities)

    @pytest.mark.slow
    def test_surroundings_of_a_script(self, tmp_path):
        (tmp_path / "scripts").mkdir()
        write(tmp_path, "name = 'neighbour'", name="scripts/neighbour.py")
        code = """
            import atexit, pickle, sys
            import neighbour

            class Thing:
                pass

            def last_words():
                print("at exit", type(pickle.loads(pickle.dumps(Thing()))).__module__)

            if __name__ == "__main__":
                atexit.register(last_words)
                print(sys.argv, __file__, sys.path[0], __spec__, __package__, __cached__)
                print(__loader__.path, __loader__.name, __builtins__)
                print(neighbour.name, sys.modules["__main__"].Thing is Thing)
                print(sys.stdin.read())
                sys.exit(3)
        """
        write(tmp_path, code, name="scripts/script.py")
        run = assert_same_run(
            tmp_path,
            "scripts/script.py",
            "-m",
            "--report",
            "--",
            "x y",
            input="said to it",
            returncode=3,
        )
        assert "['scripts/script.py', '-m', '--report', '--', 'x y']" in run.stdout
        assert "said to it" in run.stdout and "at exit __main__" in run.stdout

    @pytest.mark.slow
    def test_surroundings_of_a_module(self, tmp_path):
        (tmp_path / "package").mkdir()
        write(tmp_path, "", name="package/__init__.py")
        write(tmp_path, "name = 'neighbour'", name="package/neighbour.py")
        code = """
            import atexit, pickle, sys
            from . import neighbour

            class Thing:
                pass

            @atexit.register
            def last_words():
                print(type(pickle.loads(pickle.dumps(Thing()))).__module__, sys.argv)

            print(sys.argv, __name__, __file__, sys.path[0], __spec__.name, __package__)
            print(sys.modules["__main__"].neighbour.name, __builtins__)
            raise ValueError("of the module")
        """
        write(tmp_path, code, name="package/__main__.py")
        run = assert_same_run(
            tmp_path, "-m", "package", "--report", "x", returncode=1, stderr=False
        )
        assert run.stderr.startswith("Traceback (most recent call last):\n")
        assert run.stderr.count("\n  File ") == 1
        assert run.stderr.endswith("\nValueError: of the module\n")

    @pytest.mark.slow
    @pytest.mark.parametrize(("kind", "flags"), [("directory", []), ("zip", ["-P"])])
    def test_surroundings_of_a_directory_or_zip_file(self, tmp_path, kind, flags):
        code = """
            import sys
            import neighbour
            print(sys.argv, __name__, __file__, sys.path[0], __spec__.name, __package__)
            print(sys.modules["__main__"].neighbour.name, __cached__, type(__loader__).__name__)
            with open("mlps", "w") as file:
                mlps = sys.modules.get("sklearn.neural_network")
                file.write(mlps.MLPClassifier.__module__ if mlps else "not imported")
        """
        (tmp_path / "program").mkdir()
        write(tmp_path, code, name="program/__main__.py")
        write(tmp_path, "name = 'neighbour'", name="program/neighbour.py")
        name = "program"
        if kind == "zip":
            name = os.path.basename(shutil.make_archive(tmp_path / name, "zip", tmp_path / name))
        assert_same_run(tmp_path, name, "x", flags=flags)
        assert (tmp_path / "mlps").read_text() == "fastmlp.estimators"

    @pytest.mark.parametrize("arguments", [["--", "--", "-m", "-"], ["--report"]])
    @pytest.mark.parametrize("program", [["script.py"], ["--", "script.py"], ["-m", "script"]])
    def test_arguments_are_left_to_the_program(
        self, tmp_path, in_process, capsys, program, arguments
    ):
        write(tmp_path, "import sys; print(sys.argv)")
        expected = python(tmp_path, *program, *arguments).stdout
        assert "script.py'" in expected
        in_process(*program, *arguments)
        assert capsys.readouterr().out == expected

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("code", "returncode"),
        [
            (
                "def f():\n    try:\n        1 / 0\n    except ZeroDivisionError as e:\n"
                "        raise KeyError('x') from e\n\nf()\n",
                1,
            ),
            ("if True\n    pass\n", 1),
            ("raise KeyboardInterrupt\n", -signal.SIGINT),
        ],
        ids=["error", "syntax", "interrupt"],
    )
    def test_end_of_a_script(self, tmp_path, code, returncode):
        write(tmp_path, code)
        assert_same_run(tmp_path, "script.py", returncode=returncode)

    @pytest.mark.parametrize("code", ["a last word", None])
    def test_exit_of_a_script(self, tmp_path, in_process, code):
        write(tmp_path, f"raise SystemExit({code!r})")
        with pytest.raises(SystemExit) as caught:
            in_process("script.py")
        assert caught.value.code == code

    @pytest.mark.slow
    def test_worker_processes(self, tmp_path):
        code = """
            import sys
            from sklearn.model_selection import GridSearchCV
            from sklearn.neural_network import MLPClassifier

            if __name__ == "__main__":
                n_jobs = 2 if "fastmlp" in sys.modules else None  # theirs does not depend on it
                model = MLPClassifier((8,), tol=0.1, random_state=0)
                search = GridSearchCV(model, {"alpha": [1e-4, 1.0, 50.0]}, cv=3, n_jobs=n_jobs)
                search.fit(X * 1000, y)
                print(search.best_params_, search.cv_results_["mean_test_score"].round(6))
                print(search.best_estimator_)
        """
        write(tmp_path, DATA, code)
        assert_same_run(tmp_path, "script.py")

    @pytest.mark.slow
    @pytest.mark.parametrize("flags", [[], ["-W", "always"]])
    def test_warnings_are_shown_and_filtered_alike(self, tmp_path, flags):
        """With the same words, from the same lines: standard error is the same."""
        code = """
            import sys, warnings
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.model_selection import cross_val_score
            from sklearn.neural_network import MLPClassifier, MLPRegressor

            def fit(title):
                print(title, file=sys.stderr)
                for _ in range(2):
                    MLPClassifier((4,), max_iter=2, batch_size=500).fit(X, y)
                MLPRegressor(hidden_layer_sizes=4, tol=100.0).fit(X, X[:, :1])
                cross_val_score(MLPClassifier((4,), max_iter=2), X, y, cv=2)
                MLPClassifier((4,), tol=100.0).fit(X, y[:, np.newaxis]).predict_log_proba(X * 1e6)
                MLPRegressor(hidden_layer_sizes=4, max_iter=2, solver="lbfgs").fit(X, X[:, 0] ** 9)

            fit("All")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
                fit("Some")
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message=".*lbfgs", module="sklearn")
                try:
                    fit("One is an error")
                except ConvergenceWarning as error:
                    print(error)
        """
        write(tmp_path, DATA, code)
        run = assert_same_run(tmp_path, "script.py", flags=flags)
        everything, some = run.stderr.split("Some\n")
        some, _ = some.split("One is an error\n")
        assert "ConvergenceWarning" in everything and "ConvergenceWarning" not in some
        assert "UserWarning" in some
        assert "lbfgs" in run.stdout

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["nowhere.py"], 2, r"python -m fastmlp\.accel: there is no script 'nowhere\.py'\.\n"),
            (["-m", "nowhere"], 1, ".*python.*: No module named nowhere\n"),
            (["."], 1, ".*python.*: can't find '__main__' module in '.*'\n"),
            ([], 2, "usage: .*\n.* required: .*program.*\n"),
        ],
    )
    def test_nothing_to_run(self, in_process, capsys, arguments, code, message):
        with pytest.raises(SystemExit) as caught:
            in_process(*arguments)
        said, end = capsys.readouterr().err, caught.value.code
        if isinstance(end, str):  # which the interpreter writes
            said, end = f"{said}{end}\n", 1
        assert end == code
        assert re.fullmatch(message, said)

    def test_help(self, in_process, capsys):
        with pytest.raises(SystemExit) as caught:
            in_process("--help")
        assert caught.value.code == 0
        usage = "usage: python -m fastmlp.accel [--report] (program | -m mo"
        assert capsys.readouterr().out.startswith(usage)


class TestReport:
    @pytest.mark.slow
    def test_fits_are_named(self, tmp_path):
        code = """
            from sklearn.neural_network import MLPClassifier, MLPRegressor
            for _ in range(2):
                MLPClassifier((8,), tol=0.5).fit(X, y)
            MLPClassifier((8,), tol=0.5, backend="numpy").fit(X.astype(np.float32), y)
            regressor = MLPRegressor(hidden_layer_sizes=8)
            for _ in range(12):
                regressor.partial_fit(X.tolist(), X[:, 0])
            print("the end")
            raise SystemExit(4)
        """
        write(tmp_path, DATA, code)
        run = accelerated(tmp_path, "--report", "script.py")
        assert run.returncode == 4
        assert run.stdout == "the end\n"
        title, header, *rows = run.stderr.splitlines()
        assert re.fullmatch(r"fastmlp: 15 fits in this process, \d+\.\d{3} s", title)
        assert re.split("  +", header.strip()) == [
            "fits", "estimator", "method", "backend", "dtype", "samples x features", "seconds",
        ]  # fmt: skip
        auto = fastmlp.backends.resolve("auto")
        assert {tuple(re.split("  +", row.strip())[:-1]) for row in rows} == {
            ("2", "MLPClassifier", "fit", auto, "float64", "150 x 4"),
            ("1", "MLPClassifier", "fit", "numpy", "float32", "150 x 4"),
            ("12", "MLPRegressor", "partial_fit", auto, "float64", "150 x 4"),
        }
        seconds = [float(row.split()[-1]) for row in rows]
        assert seconds == sorted(seconds, reverse=True)
        assert sum(seconds) == pytest.approx(float(title.split()[-2]), abs=0.002)
        assert len({len(line) for line in (header, *rows)}) == 1  # aligned

    @pytest.mark.slow
    def test_after_an_exception(self, tmp_path):
        code = """
            from sklearn.neural_network import MLPClassifier
            MLPClassifier((8,), tol=0.5).fit(X, y)
            MLPClassifier((8,), alpha=-1).fit(X, y)
        """
        write(tmp_path, DATA, code)
        run = accelerated(tmp_path, "--report", "script.py")
        assert run.returncode == 1
        error, report = run.stderr.split("fastmlp: ")
        assert "InvalidParameterError: The 'alpha' parameter" in error
        assert report.startswith("1 fit in this process, ")

    def test_many_kinds_of_fit_are_cut_short(self):
        report = accel._Report()
        with observing(report, everywhere=True):
            for n in range(30):
                X = np.eye(40)[n:]
                fastmlp.MLPRegressor(hidden_layer_sizes=2).partial_fit(X, X[:, 0])
        lines = str(report).splitlines()
        assert len(lines) == 1 + 1 + 20 + 1
        assert lines[-1].strip() == "and 10 other kinds, each of less time"

    def test_no_fits(self):
        assert str(accel._Report()) == "fastmlp: no fits in this process\n"
