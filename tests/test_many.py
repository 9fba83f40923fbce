"""Many fits in one process: the same bits as each alone, without copies of the data."""

import subprocess
import sys
import textwrap
import threading
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import sklearn
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import KFold, StratifiedKFold

from fastmlp import MLPClassifier, MLPRegressor, backends, fit_many
from fastmlp.augment import RandomNoise
from fastmlp.exceptions import InputScaleWarning, InterruptedWarning
from fastmlp.training import Observer, observing
from fastmlp.utils import threads

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastmlp.exceptions.ConstantFeatureWarning"),
]

X, Y = load_digits(return_X_y=True)
X, Y = X[:500], Y[:500]
WEIGHTS = np.linspace(0.5, 2, len(X))
FORMS = {
    "float64": X,
    "float32": X.astype(np.float32),
    "bytes": X.astype(np.uint8),
    "sparse": csr_matrix(X),
    "list": X.tolist(),
}
FOLDS = [
    *(train for train, _ in StratifiedKFold(3, shuffle=True, random_state=0).split(X, Y)),
    np.arange(499, 100, -2),
    np.repeat(np.arange(200), 2),
]

model = partial(MLPClassifier, hidden_layer_sizes=9, max_iter=5, random_state=0, input_scale=1 / 16)
MODELS = {
    "adam": model(),
    "sgd": model(solver="sgd", shuffle=False, batch_size=33),
    "standard": model(input_scale="standard"),
    "early_stopping": model(early_stopping=True, validation_fraction=0.2),
    "dropout": model(dropout=0.4, dtype="float32"),
    "balanced": model(class_weight="balanced", label_smoothing=0.1),
    "lbfgs": model(solver="lbfgs"),
    "augment": model(augment=RandomNoise(0.1)),
    "deep": model(hidden_layer_sizes=(8, 7), activation="tanh"),
}


def rows_of(values, rows):
    return [values[row] for row in rows] if isinstance(values, list) else values[rows]


def assert_same(ours, theirs):
    for name in ("coefs_", "intercepts_"):
        for one, other in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(getattr(ours, "classes_", 0), getattr(theirs, "classes_", 0))
    for name in ours.history_.keys() | theirs.history_.keys() - {"seconds"}:
        if name != "seconds":
            np.testing.assert_array_equal(ours.history_[name], theirs.history_[name])
    assert ours.get_params() == theirs.get_params()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_same_bits_as_alone(form, weighted):
    data, weight = FORMS[form], WEIGHTS if weighted else None
    left_out = {"sparse": ("standard", "augment"), "bytes": ()}.get(form, ())
    models = [m for name, m in MODELS.items() if name not in left_out]
    for n_jobs in (1, 3):
        whole = fit_many(models, data, Y, sample_weight=weight, n_jobs=n_jobs)
        parts = fit_many(models, data, Y, folds=FOLDS, sample_weight=weight, n_jobs=n_jobs)
        for model, ours, in_folds in zip(models, whole, parts, strict=True):
            assert_same(ours, clone(model).fit(data, Y, sample_weight=weight))
            for rows, part in zip(FOLDS, in_folds, strict=True):
                some = None if weight is None else weight[rows]
                alone = clone(model).fit(rows_of(data, rows), Y[rows], sample_weight=some)
                assert_same(part, alone)
    assert not any(hasattr(model, "coefs_") for model in models)


@pytest.mark.parametrize("backend", backends.available())
def test_every_backend(backend):
    # The last bits of NumPy's products may depend on the threads of its BLAS.
    options = {"backend": backend, "n_threads": 1}
    models = [clone(MODELS[name]).set_params(**options) for name in ("adam", "lbfgs")]
    for model, fitted in zip(models, fit_many(models, X, Y, folds=FOLDS[:2]), strict=True):
        for rows, part in zip(FOLDS, fitted, strict=False):
            assert_same(part, clone(model).fit(X[rows], Y[rows]))


def test_regressors_and_labels_of_a_fold():
    target = np.column_stack([X[:, 3], X[:, 20]])
    regressor = MLPRegressor(
        max_iter=4, random_state=0, target_scale="standard", input_scale=1 / 16
    )
    ours = fit_many([regressor], X, target, folds=FOLDS)[0]
    for rows, part in zip(FOLDS, ours, strict=True):
        assert_same(part, clone(regressor).fit(X[rows], target[rows]))
    first = np.flatnonzero(Y < 4)  # a fold that lacks classes
    text = Y.astype(str)
    found = fit_many([model()], X, text, folds=[first, np.arange(500)])[0]
    assert found[0].classes_.tolist() == ["0", "1", "2", "3"] and len(found[1].classes_) == 10


def test_names_of_features():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    for fitted in fit_many([model(), model(dtype="float32"), model(alpha=1)], frame, Y):
        assert fitted.feature_names_in_[3] == "pixel 3" and fitted.n_features_in_ == 64


def test_folds_may_be_pairs_masks_and_generators():
    mask = np.arange(500) % 3 > 0
    expected = clone(model()).fit(X[mask], Y[mask])
    assert_same(fit_many([model()], X, Y, folds=[mask])[0][0], expected)
    assert_same(fit_many([model()], X, Y, folds=[np.flatnonzero(mask) - 500])[0][0], expected)
    pairs = fit_many([model(), model(alpha=1)], X, Y, folds=KFold(3).split(X))
    assert [len(fitted) for fitted in pairs] == [3, 3]


def test_the_data_are_not_copied():
    many = np.tile(X.astype(np.uint8), (200, 1))  # 6.4 MB
    labels = np.tile(Y, 200)
    models = [model(max_iter=1, batch_size=1000, alpha=alpha) for alpha in (0.1, 0.2, 0.3)]
    folds = list(KFold(3).split(many))
    one = peak(lambda: clone(models[0]).fit(many, labels))
    all_of_them = peak(lambda: fit_many(models, many, labels, folds=folds, n_jobs=2))
    assert all_of_them < 2 * one + 0.5 * many.nbytes


def peak(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_longest_begin_first():
    begun = []

    class Noting(Observer):
        def fit_began(self, fit):
            begun.append(fit.model.max_iter)

    with observing(Noting()):
        fit_many([model(max_iter=n) for n in (1, 5, 3, 9)], X, Y, n_jobs=1)
    assert begun == [9, 5, 3, 1]


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_so_many_at_a_time(n_jobs):
    running, most, lock = 0, 0, threading.Lock()

    class Counting(Observer):
        def fit_began(self, fit):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)

        def fit_ended(self, fit, outcome):
            nonlocal running
            with lock:
                running -= 1

    with observing(Counting(), everywhere=True):
        fit_many([model(max_iter=20) for _ in range(9)], X, Y, n_jobs=n_jobs)
    assert most <= n_jobs and running == 0


def test_the_last_fit_gets_all_threads(monkeypatch):
    """An engine looks before every epoch how many threads it may use."""
    if "cython" not in backends.available():
        pytest.skip(backends.unavailable()["cython"])
    monkeypatch.setattr(threads, "_cpus", lambda *_: 4)
    monkeypatch.setattr(threads, "_fitting", {1, 2})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    used = []
    engine_class = backends.get("cython").Engine

    class Watched(Observer):
        def epoch_ended(self, fit, report):
            used.append(engines[0].threads_used)
            if report.epoch == 2:
                threads._fitting.discard(1)
                threads._fitting.discard(2)

    engines = []

    class Engine(engine_class):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            engines.append(self)

    monkeypatch.setattr(backends.get("cython"), "Engine", Engine)
    with observing(Watched()):
        MLPClassifier(100, max_iter=4, random_state=0, input_scale=1 / 16).fit(X, Y)
    assert used[0] == used[1] == 1 and used[-1] == 4


def test_the_settings_of_scikit_learn_hold_in_all_threads():
    class Refusing(Observer):
        def fit_began(self, fit):
            found.append(sklearn.get_config()["assume_finite"])

    found = []
    with sklearn.config_context(assume_finite=True), observing(Refusing()):
        fit_many([model(), model(alpha=1), model(alpha=2)], X, Y, n_jobs=3)
    assert found == [True] * 3


def test_a_warning_comes_once_and_at_the_users_line():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", InputScaleWarning)
        fit_many([model(input_scale=None, alpha=a) for a in (1, 2, 3)], 100 * X, Y, folds=FOLDS[:2])
    found = [warning for warning in found if warning.category is InputScaleWarning]
    assert len(found) == 1 and found[0].filename == __file__


class TestErrors:
    @pytest.mark.parametrize(
        ("estimators", "options", "error", "words"),
        [
            ([], {}, ValueError, "estimators must hold at least one estimator, got an empty list"),
            (model(), {}, TypeError, "estimators must be a list, got one MLPClassifier; put it in"),
            ([1], {}, TypeError, "must be fastmlp's MLPClassifier or MLPRegressor, got int as num"),
            ([MLPClassifier], {}, TypeError, "got type as number 0"),
            (
                [model()],
                {"n_jobs": 0},
                ValueError,
                "n_jobs must be an integer of at least 1, -1 or",
            ),
            ([model()], {"n_jobs": 1.5}, ValueError, "n_jobs must be an integer of at least 1, -1"),
            ([model()], {"folds": []}, ValueError, "folds must hold at least one fold, got none"),
            (
                [model()],
                {"folds": [[]]},
                ValueError,
                "with at least one row, or pairs of them, got",
            ),
            ([model()], {"folds": [[0.5]]}, ValueError, "got float64 of shape .1,. as number 0"),
            ([model()], {"folds": [[[1]]]}, ValueError, "got int64 of shape .1, 1. as number 0"),
            (
                [model()],
                {"folds": [[0, 500]]},
                ValueError,
                "rows from 0 to 499, got 0 to 500 in num",
            ),
            ([model()], {"folds": [[-501, 5]]}, ValueError, "rows from 0 to 499, got -501 to 5"),
        ],
    )
    def test_arguments(self, estimators, options, error, words):
        with pytest.raises(error, match=words):
            fit_many(estimators, X, Y, **options)

    def test_fitted_estimators(self):
        with pytest.raises(ValueError, match="must not be fitted, but number 1 is; pass sklearn"):
            fit_many([model(), model().fit(X, Y)], X, Y)

    def test_a_generator_that_is_used_up(self):
        folds = KFold(3).split(X)
        fit_many([model()], X, Y, folds=folds)
        with pytest.raises(ValueError, match="got none; a generator can be used only once"):
            fit_many([model()], X, Y, folds=folds)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_the_others_go_on(self, n_jobs):
        ended = []

        class Noting(Observer):
            def fit_ended(self, fit, outcome):
                ended.append(fit.model.alpha)

        models = [
            model(alpha=1),
            model(alpha=-1),
            model(alpha=2),
            model(activation="x"),
            model(alpha=3),
        ]
        with observing(Noting()), pytest.raises(ValueError, match="'alpha' parameter") as caught:
            fit_many(models, X, Y, n_jobs=n_jobs)
        assert sorted(ended) == [1, 2, 3]
        assert caught.value.__notes__ == ["This is the error of estimators[1], and 1 other fits."]

    def test_invalid_data(self):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            fit_many([model()], np.full((5, 2), np.nan), [0, 1, 0, 1, 0])
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            fit_many([model()], X, Y[:50])


def test_ctrl_c_before_all_are_submitted(monkeypatch):
    """It stops those that have begun."""
    submitted, original = [], ThreadPoolExecutor.submit

    def submit(pool, *args):
        submitted.append(args)
        if len(submitted) == 3:
            raise KeyboardInterrupt
        return original(pool, *args)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    endless = model(max_iter=10**9, n_iter_no_change=10**9)
    with pytest.warns(InterruptedWarning, match="0 of 4 fits have ended"):
        assert fit_many([endless] * 4, X, Y, n_jobs=2) == [None] * 4
    assert len(submitted) == 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_keeps_what_is_finished(n_jobs):
    script = f"""
        import os, signal, threading, time, warnings
        import numpy as np
        from fastmlp import MLPClassifier, fit_many
        from fastmlp.training import Observer, observing
        from fastmlp.exceptions import InterruptedWarning
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", InterruptedWarning)
        class Interrupt(Observer):
            n = 0
            def fit_ended(self, fit, outcome):
                Interrupt.n += 1
                if Interrupt.n == 3:
                    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        X = np.random.RandomState(0).normal(size=(2000, 20))
        models = [MLPClassifier(max_iter=5000 if i > 5 else 6000 + i, n_iter_no_change=9000)
                  for i in range(9)]
        for i in (1, 3, 5):
            models[i].set_params(max_iter=9000, tol=9.0, n_iter_no_change=2)  # these end soon
        begun = time.monotonic()
        with observing(Interrupt()), warnings.catch_warnings(record=True) as found:
            fitted = fit_many(models, X, X[:, 0] > 0, n_jobs={n_jobs})
        assert time.monotonic() - begun < 60
        assert [i for i in range(9) if fitted[i] is not None] == [1, 3, 5], fitted
        assert all(hasattr(fitted[i], "coefs_") for i in (1, 3, 5))
        assert str(found[-1].message).startswith("interrupted: "), found
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
