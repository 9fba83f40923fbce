"""Several threads and one estimator; and Ctrl-C at every line of a fit."""

import copy
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.estimators.turns import _locks, turn_of

X = np.random.RandomState(0).standard_normal((40, 3))
LABELS = np.where(X[:, 0] > 0, "yes", "no")


def in_threads(*works):
    """Do some work in a thread each; return what they raised."""
    raised = []

    def run(work):
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_callbacks_are_set_up_and_torn_down_in_the_turn():
    """Threads that fit one estimator, switching as often as they can."""
    model = MLPRegressor(hidden_layer_sizes=(2,), max_iter=1)

    def fit():
        for _ in range(100):
            model.fit(X, X[:, 0])
            model.partial_fit(X, X[:, 0])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        assert in_threads(fit, fit, fit) == []
    finally:
        sys.setswitchinterval(interval)


class TestTurns:
    def test_one_at_a_time(self):
        owner, inside, most = object(), [], []

        def work():
            for _ in range(200):
                with turn_of(owner):
                    inside.append(None)
                    most.append(len(inside))
                    inside.pop()

        assert in_threads(*[work] * 4) == []
        assert max(most) == 1
        assert len(_locks) == 0

    def test_a_thread_may_take_it_again(self):
        owner = object()
        with turn_of(owner), turn_of(owner):
            pass

    def test_others_do_not_wait(self):
        with turn_of(object()):
            assert in_threads(lambda: MLPClassifier((2,), tol=1).fit(X, LABELS)) == []

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # threads and fork
    def test_a_forked_child_begins_anew(self):
        owner, held, done = object(), threading.Event(), threading.Event()

        def hold():
            with turn_of(owner):
                held.set()
                done.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(60)
        child = os.fork()
        if not child:
            with turn_of(owner):
                os._exit(7)
        _, status = os.waitpid(child, 0)
        done.set()
        thread.join()
        assert os.waitstatus_to_exitcode(status) == 7


#: Fits, and predictions, of one estimator in several threads, with data of different widths. What
#: is wrong use may raise an error, but the process must end well, and the model be whole.
STORM = """
import sys, threading, time, warnings
import numpy as np
from fastmlp import MLPClassifier
warnings.simplefilter("ignore")
rng = np.random.RandomState(0)
data = [(rng.standard_normal((400, width)), rng.randint(0, width, 400)) for width in (3, 300, 40)]

def fit(X, y):
    while time.monotonic() < end:
        model.fit(X, y)

def predict(X, y):
    while time.monotonic() < end:
        for rows in (X[:3], X):
            try:
                model.predict_proba(rows)
            except (ValueError, IndexError, AttributeError):
                pass

ways = {
    "beside fit": [(fit, *data[1]), (fit, *data[2]), (fit, *data[0])],
    "beside predict": [
        (fit, *data[1]), (fit, *data[0]), (predict, *data[0]), (predict, *data[1])
    ],
}
for way, works in ways.items():
    print(way, flush=True)
    model = MLPClassifier((30,), max_iter=4, backend=sys.argv[1], random_state=0, n_threads=2)
    model.fit(*data[0])
    end = time.monotonic() + 1
    threads = [threading.Thread(target=work, args=args) for work, *args in works]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    X, y = next(xy for xy in data if xy[0].shape[1] == model.n_features_in_)
    assert len(model.classes_) == model.n_outputs_ == len(model.intercepts_[-1])
    assert model.predict(X).shape == y.shape
    print("whole")
"""


@pytest.mark.slow
@pytest.mark.few_backends
def test_one_estimator_in_several_threads(backend):
    done = subprocess.run(
        [sys.executable, "-c", STORM, backend], capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "beside fit\nwhole\nbeside predict\nwhole\n", done.stderr
    assert done.stderr == ""  # a thread that fails says so here


@pytest.mark.slow
def test_partial_fits_of_several_threads_all_count():
    model = MLPClassifier((3,), random_state=0)
    classes = np.unique(LABELS)

    def work():
        for _ in range(20):
            model.partial_fit(X, LABELS, classes=classes)

    assert in_threads(*[work] * 4) == []
    assert len(model.loss_curve_) == len(model.history_["loss"]) == 80
    assert model.t_ == 80 * len(X)


def test_a_turn_leaves_no_trace():
    model = MLPClassifier((3,), tol=1).fit(X, LABELS)
    for other in (clone(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert not any("lock" in type(value).__name__.lower() for value in vars(other).values())
        other.fit(X, LABELS)


class Interrupt:
    """Raises KeyboardInterrupt before the n-th line that fastmlp's own training executes."""

    # Not turns.py: between the end of a with statement's body and the release of its lock, which
    # are one step for Ctrl-C, tracing sees a line.
    FILES = {
        str(Path(fastmlp.__file__).parent / name)
        for name in (
            *("estimators/base.py", "estimators/classifier.py"),
            *("training/loop.py", "training/passes.py", "training/lbfgs.py"),
            "training/state.py",
        )
    }
    assert all(map(os.path.exists, FILES))

    def __init__(self, at):
        self.at, self.count = at, 0

    def __call__(self, frame, event, arg):
        if frame.f_code.co_filename not in self.FILES:
            return None
        if event == "line":
            self.count += 1
            if self.count == self.at:
                raise KeyboardInterrupt
        return self

    def during(self, work):
        """Return whether the interrupt came out of `work`."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            work()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def is_same(model, other):
    """Return whether two models are as if nothing had happened to one of them."""
    if not hasattr(other, "coefs_"):
        return vars(model) == vars(other)
    return (model.n_iter_, model.history_, model.coefs_[0].tobytes()) == (
        *(other.n_iter_, other.history_, other.coefs_[0].tobytes()),
    )


def assert_whole(model, n_before):
    """Check that all fitted attributes describe the same epochs; return how many of this fit."""
    lengths = {name: len(entries) for name, entries in model.history_.items()}
    assert len(set(lengths.values())) == 1, lengths
    n_epochs = lengths["loss"] - n_before
    assert model.n_iter_ == n_epochs
    if model.solver == "lbfgs":
        assert n_epochs == 0 or model.loss_ <= model.history_["loss"][-1]
    else:
        assert model.loss_curve_ == model.history_["loss"]
        assert model.t_ == model._state.n_samples_seen
        if model.loss_curve_:
            assert model.t_ % len(model.loss_curve_) == 0
        assert getattr(model, "loss_", None) == (model.loss_curve_ or [None])[-1]
        if model.early_stopping:
            assert model.validation_scores_ == model.history_["val_score"]
            assert model.best_validation_score_ == max([-np.inf, *model.validation_scores_])
        else:
            assert model.best_loss_ == min([np.inf, *model.loss_curve_])
    assert model.n_layers_ == len(model.coefs_) + 1
    assert all(np.isfinite(coef).all() for coef in model.coefs_)
    assert model.predict(X).shape == (len(X),)
    return n_epochs


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fit", "warm start", "fit again", "partial_fit"])
@pytest.mark.parametrize("solver", ["adam", "early stopping", "lbfgs"])
def test_ctrl_c_at_every_line(way, solver):
    if way == "partial_fit" and solver != "adam":
        pytest.skip("there is none")
    model = MLPClassifier(
        (3,),
        solver="lbfgs" if solver == "lbfgs" else "adam",
        early_stopping=solver == "early stopping",
        max_iter=2,
        random_state=0,
        warm_start=way == "warm start",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way in ("warm start", "fit again"):
            model.fit(X, LABELS)
        n_before = len(model.history_["loss"]) if way == "warm start" else 0
        seen, at = set(), 1
        while True:
            other = copy.deepcopy(model)
            interrupt = Interrupt(at)
            if way == "partial_fit":
                came_out = interrupt.during(
                    lambda other=other: other.partial_fit(X, LABELS, classes=["no", "yes"])
                )
            else:
                came_out = interrupt.during(lambda other=other: other.fit(X, LABELS))
            if interrupt.count < at:
                break
            assert len(_locks) == 0
            if is_same(other, model):
                assert came_out
                seen.add("as before")
            else:
                seen.add(assert_whole(other, n_before))
            other.fit(X, LABELS)  # it can be trained further
            at += 17  # every line would take minutes
    assert seen >= ({"as before", 0, 1} if way == "partial_fit" else {"as before", 0, 1, 2})


def test_a_fit_in_another_thread_after_an_interrupt():
    model = MLPRegressor(hidden_layer_sizes=(3,), max_iter=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert Interrupt(30).during(lambda: model.fit(X, X[:, 0]))
        assert in_threads(lambda: model.fit(X, X[:, 0])) == []
