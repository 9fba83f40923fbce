"""Checkpoints: a fit that was killed goes on with the same bits."""

import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from fastmlp import Checkpoint, MLPClassifier, MLPRegressor, backends
from fastmlp.augment import RandomAffine
from fastmlp.exceptions import CheckpointWarning
from fastmlp.training import CheckpointError, Observer, Progress, TrainingState, lbfgs, observing
from fastmlp.training.lbfgs import minimize_resumably
from fastmlp.utils import files
from fastmlp.utils.archives import read_npz

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X, Y = X[:400], Y[:400]
SCALED = {"input_scale": 1 / 16}

CASES = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.5},
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.3, "tol": 0.1,
        "n_iter_no_change": 2,
    },
    "adamw": {"solver": "adamw", "lr_schedule": "cosine", "max_grad_norm": 0.5},
    "schedule": {"lr_schedule": {1: 0.01, 5: 0.001}},
    "early_stopping": {"early_stopping": True, "n_iter_no_change": 4, "learning_rate_init": 0.02},
    "dropout": {"dropout": 0.3},
    "augment": {"augment": RandomAffine(rotate=10), "shuffle": False},
    "lbfgs": {"solver": "lbfgs"},
    "lbfgs-float32": {"solver": "lbfgs", "dtype": "float32"},
}  # fmt: skip


class Stop(Observer):
    """Ends a fit after some epochs by an exception, as a kill would."""

    def __init__(self, epoch, error=RuntimeError):
        self.epoch, self.error = epoch, error

    def epoch_ended(self, fit, report):
        if report.epoch == self.epoch:
            raise self.error


def classifier(**parameters):
    options = {"hidden_layer_sizes": (9, 7), "max_iter": 12, "random_state": 3, **SCALED}
    return MLPClassifier(**options | parameters)


def stop_at(epoch, model, *data, error=RuntimeError, **options):
    with observing(Stop(epoch, error)):
        try:
            model.fit(*data, **options)
        except error:
            return
    assert error is KeyboardInterrupt


def assert_same(model, expected):
    """Compare everything that training leaves, but for the seconds."""
    for name in ("coefs_", "intercepts_"):
        for ours, theirs in zip(getattr(model, name), getattr(expected, name), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert model.n_iter_ == expected.n_iter_
    assert model.loss_ == expected.loss_
    state, other = vars(model._state).copy(), vars(expected._state).copy()
    history, other_history = state.pop("history"), other.pop("history")
    assert state == other
    for name in (*history.keys(), *other_history.keys()):
        if name != "seconds":
            np.testing.assert_array_equal(history[name], other_history[name])


def generator(kind):
    """Return a random state of a kind, as at the beginning of a new process."""
    np.random.seed(7)
    return {"integer": 3, "instance": np.random.RandomState(5), "none": None}[kind]


@pytest.mark.parametrize("kind", ["integer", "instance", "none"])
@pytest.mark.parametrize("case", CASES)
def test_a_fit_that_was_killed_goes_on_with_the_same_bits(tmp_path, case, kind):
    if case == "augment":
        image = X.astype(np.uint8)
        data = image.reshape(-1, 64), Y
    else:
        data = X, Y
    expected = classifier(**CASES[case], random_state=generator(kind)).fit(*data)
    path = tmp_path / "run.ckpt"
    for epoch in (2, 5, 6):
        model = classifier(**CASES[case], random_state=generator(kind))
        stop_at(epoch, model, *data, checkpoint=Checkpoint(path, every=2))
        assert os.listdir(tmp_path) == ["run.ckpt"]
    model = classifier(**CASES[case], random_state=generator(kind))
    assert_same(model.fit(*data, checkpoint=path), expected)
    again = classifier(**CASES[case], random_state=generator(kind))
    assert_same(again.fit(*data, checkpoint=path), expected)  # reads it all


@pytest.mark.parametrize("backend", backends.available())
@pytest.mark.parametrize("sparse", [False, True])
def test_every_backend(tmp_path, backend, sparse):
    data = (csr_matrix(X) if sparse else X), Y
    expected = classifier(backend=backend).fit(*data)
    stop_at(5, classifier(backend=backend), *data, checkpoint=tmp_path / "run")
    assert_same(classifier(backend=backend).fit(*data, checkpoint=tmp_path / "run"), expected)


def test_regression_weights_and_validation_data(tmp_path):
    target, weight = X[:, 3] + Y, np.linspace(0.5, 2, len(Y))
    options = {"X_val": X[:50], "y_val": target[:50], "sample_weight_val": weight[:50]}
    model = MLPRegressor(
        hidden_layer_sizes=8, max_iter=10, random_state=0, target_scale="standard", **SCALED
    )
    expected = clone(model).fit(X, target, weight, **options)
    stop_at(6, clone(model), X, target, weight, **options, checkpoint=tmp_path / "run")
    assert_same(
        clone(model).fit(X, target, weight, **options, checkpoint=tmp_path / "run"), expected
    )
    with pytest.raises(CheckpointError, match="the validation data differs"):
        clone(model).fit(X, target, weight, checkpoint=tmp_path / "run")


def test_a_warm_start(tmp_path):
    begun = classifier(max_iter=4).fit(X, Y)

    def model():
        return begun.__class__(**begun.get_params()).set_params(warm_start=True)

    def continued():
        again = model()
        again.__dict__.update({k: v for k, v in vars(begun).items() if k.endswith("_")})
        again.__dict__.update(_state=begun._state, _label_binarizer=begun._label_binarizer)
        again._fitted_loss = begun._fitted_loss
        return again

    expected = continued().fit(X, Y)
    stop_at(2, continued(), X, Y, checkpoint=tmp_path / "run")
    assert_same(continued().fit(X, Y, checkpoint=tmp_path / "run"), expected)
    begun.coefs_[0][0, 0] += 1
    with pytest.raises(CheckpointError, match="the model's state differs"):
        continued().fit(X, Y, checkpoint=tmp_path / "run")


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_ctrl_c_keeps_all_epochs(tmp_path, solver):
    """Also where the next write would be due in an hour."""
    expected = classifier(solver=solver).fit(X, Y)
    checkpoint = Checkpoint(tmp_path / "run", every="1h")
    with pytest.warns(UserWarning, match="interrupted"):
        stop_at(8, classifier(solver=solver), X, Y, checkpoint=checkpoint, error=KeyboardInterrupt)
    with observing(Observer()) as observer:
        observer.fit_began = lambda fit: found.append(fit.n_before)
        found = []
        assert_same(classifier(solver=solver).fit(X, Y, checkpoint=checkpoint), expected)
    assert found[0] in range(9)  # a copy may be some milliseconds old


@pytest.mark.parametrize("case", ["adam", "lbfgs", "early_stopping"])
def test_more_epochs_than_before(tmp_path, case):
    options = CASES[case] | {"tol": 0}
    if case != "lbfgs":
        options["n_iter_no_change"] = 99
    expected = classifier(**options, max_iter=20).fit(X, Y)
    for max_iter in (3, 4, 20):
        model = classifier(**options, max_iter=max_iter).fit(X, Y, checkpoint=tmp_path / "run")
        assert model.n_iter_ == max_iter
    assert_same(model, expected)
    with pytest.raises(
        CheckpointError, match="has 20 epochs, more than max_iter=19; pass a larger"
    ):
        classifier(**options, max_iter=19).fit(X, Y, checkpoint=tmp_path / "run")


def test_a_fit_that_ended_by_itself_remains_ended(tmp_path):
    options = {"n_iter_no_change": 2, "tol": 1.0}
    model = classifier(**options).fit(X, Y, checkpoint=tmp_path / "run")
    assert model.n_iter_ < 12
    again = classifier(**options, max_iter=90).fit(X, Y, checkpoint=tmp_path / "run")
    assert_same(again, model)


def test_the_warning_of_an_unfinished_fit_comes_again(tmp_path):
    for _ in range(2):
        with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
            classifier(max_iter=2).fit(X, Y, checkpoint=tmp_path / "run")


class TestKeepBest:
    def test_lowest_loss(self, tmp_path):
        options = {"solver": "sgd", "learning_rate_init": 2.0, "n_iter_no_change": 99}  # jumps
        losses = classifier(**options).fit(X, Y).loss_curve_
        best = int(np.argmin(losses)) + 1
        assert best < len(losses)
        expected = classifier(**options, max_iter=best).fit(X, Y)
        checkpoint = Checkpoint(tmp_path / "run", every=3, keep="best")
        stop_at(best + 1, classifier(**options), X, Y, checkpoint=checkpoint)
        model = classifier(**options).fit(X, Y, checkpoint=checkpoint)
        assert model.n_iter_ == 12
        np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])

    def test_best_validation_score(self, tmp_path):
        options = {"learning_rate_init": 0.1, "n_iter_no_change": 99}
        data = {"X_val": X[300:], "y_val": Y[300:]}
        checkpoint = Checkpoint(tmp_path / "run", keep="best")
        model = classifier(**options).fit(X[:300], Y[:300], **data, checkpoint=checkpoint)
        scores = model.history_["val_score"]
        assert model.score(X[300:], Y[300:]) == max(scores)
        assert max(scores) > scores[-1]

    def test_not_for_lbfgs(self, tmp_path):
        checkpoint = Checkpoint(tmp_path / "run", keep="best")
        with pytest.raises(ValueError, match="keep='best' is for the stochastic solvers"):
            classifier(solver="lbfgs").fit(X, Y, checkpoint=checkpoint)


class TestOtherFits:
    """What must be the same, and what need not."""

    @pytest.fixture
    def path(self, tmp_path):
        stop_at(4, classifier(), X, Y, checkpoint=Checkpoint(tmp_path / "run", every=1))
        return tmp_path / "run"

    @pytest.mark.parametrize(
        ("parameters", "words"),
        [
            ({"alpha": 0.5}, "alpha is 0.0001 there and 0.5 here"),
            ({"solver": "adamw"}, "solver is 'adam' there and 'adamw' here"),
            ({"hidden_layer_sizes": (9, 8)}, r"hidden_layer_sizes is \(9, 7\) there and \(9, 8\)"),
            ({"random_state": 4}, "random_state is 3 there and 4 here"),
            (
                {"lr_schedule": "linear"},
                "lr_schedule is None there and 'linear' here, max_iter",
            ),
            ({"class_weight": "balanced", "dropout": 0.1}, "class_weight is .*, dropout is "),
        ],
    )
    def test_other_parameters(self, path, parameters, words):
        with pytest.raises(CheckpointError, match=f"belongs to another fit: {words}"):
            classifier(**parameters).fit(X, Y, checkpoint=path)

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ((X + 0.5, Y), "X differs"),
            ((X[::-1], Y), "X differs"),
            ((X, np.roll(Y, 1)), "y differs"),
            ((X, Y + 1), "y differs"),
            ((X, Y.astype(str)), "y differs"),
            ((X, Y, np.linspace(1, 2, len(Y))), "sample_weight differs"),
            ((X[:300], Y[:300]), "X differs, y differs"),
            ((csr_matrix(X), Y), "X differs"),
            ((X.astype(np.float32), Y), "X differs"),
        ],
    )
    def test_other_data(self, path, data, words):
        with pytest.raises(
            CheckpointError, match=f"belongs to another fit: {words}. Pass the same"
        ):
            classifier().fit(*data, checkpoint=path)

    def test_another_estimator(self, path):
        with pytest.raises(CheckpointError, match="the estimator is MLPClassifier there and MLPR"):
            MLPRegressor(hidden_layer_sizes=(9, 7), random_state=3, **SCALED).fit(
                X, Y, checkpoint=path
            )

    def test_what_may_change(self, path, capsys):
        model = classifier(n_threads=1, verbose=True, max_iter=14).fit(X, Y, checkpoint=path)
        assert_same(model, classifier(max_iter=14).fit(X, Y))
        assert capsys.readouterr().out.startswith(f"{path}: going on after epoch 4\nIteration 5, ")

    def test_another_backend(self, path):
        with pytest.warns(CheckpointWarning, match="goes on with 'numpy': the last bits"):
            model = classifier(backend="numpy").fit(X, Y, checkpoint=path)
        np.testing.assert_allclose(model.coefs_[0], classifier().fit(X, Y).coefs_[0], rtol=1e-6)

    def test_another_keep(self, path):
        with pytest.raises(CheckpointError, match="keep is 'last' there and 'best' here"):
            classifier().fit(X, Y, checkpoint=Checkpoint(path, keep="best"))

    def test_another_generator(self, tmp_path):
        path = tmp_path / "run"
        checkpoint = Checkpoint(path, every=1)
        stop_at(4, classifier(random_state=np.random.RandomState(5)), X, Y, checkpoint=checkpoint)
        other = np.random.RandomState(6)
        before = other.get_state()[1].copy()
        with pytest.raises(CheckpointError, match="random_state differs"):
            classifier(random_state=other).fit(X, Y, checkpoint=path)
        with pytest.raises(CheckpointError, match="alpha is"):
            classifier(random_state=other, alpha=9).fit(X, Y, checkpoint=path)
        np.testing.assert_array_equal(other.get_state()[1], before)

    def test_a_generator_is_left_as_after_an_undisturbed_fit(self, tmp_path):
        ours, theirs = np.random.RandomState(5), np.random.RandomState(5)
        classifier(random_state=theirs).fit(X, Y)
        stop_at(
            4, classifier(random_state=np.random.RandomState(5)), X, Y, checkpoint=tmp_path / "a"
        )
        classifier(random_state=ours).fit(X, Y, checkpoint=tmp_path / "a")
        assert ours.randint(2**31) == theirs.randint(2**31)

    def test_numbers_of_numpy_are_numbers(self, path):
        options = {
            "alpha": np.float64(0.0001),
            "random_state": np.int64(3),
            "max_iter": np.int32(12),
        }
        assert_same(classifier(**options).fit(X, Y, checkpoint=path), classifier().fit(X, Y))

    def test_functions_are_compared_by_name(self, tmp_path):
        def rate(epoch):
            return 0.01 / epoch

        def other(epoch):
            return 0.02 / epoch

        expected = classifier(lr_schedule=rate).fit(X, Y)
        stop_at(5, classifier(lr_schedule=rate), X, Y, checkpoint=tmp_path / "run")
        with pytest.raises(CheckpointError, match="lr_schedule differs"):
            classifier(lr_schedule=other).fit(X, Y, checkpoint=tmp_path / "run")
        model = classifier(lr_schedule=rate).fit(X, Y, checkpoint=tmp_path / "run")
        assert_same(model, expected)

    def test_the_model_is_left_alone(self, path):
        model = classifier().fit(X[:300], Y[:300])
        before = model.coefs_[0].copy()
        with pytest.raises(CheckpointError):
            model.fit(X, np.roll(Y, 1), checkpoint=path)
        np.testing.assert_array_equal(model.coefs_[0], before)


class TestFile:
    @pytest.fixture
    def path(self, tmp_path):
        stop_at(4, classifier(), X, Y, checkpoint=Checkpoint(tmp_path / "run", every=1))
        return tmp_path / "run"

    def fit(self, path, **options):
        return classifier(**options).fit(X, Y, checkpoint=path)

    @pytest.mark.parametrize("part", [0, 10, 0.3, 0.9, -1])
    def test_truncated(self, path, part):
        content = path.read_bytes()
        length = int(part * len(content)) if isinstance(part, float) else part
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"is no checkpoint that .*\. Delete it to begin"):
            self.fit(path)

    def test_another_kind_of_file(self, path):
        classifier(max_iter=1).fit(X, Y)
        np.savez(path.with_suffix(".npz"), a=[1])
        with pytest.raises(CheckpointError, match="it lacks 'checkpoint'"):
            self.fit(path.with_suffix(".npz"))

    def changed(self, path, document=None, **arrays):
        """Rewrite a checkpoint with other fields or arrays."""
        with open(path, "rb") as file:
            content = read_npz(file)
        fields = json.loads(content["checkpoint"].tobytes()) | (document or {})
        content["checkpoint"] = np.frombuffer(json.dumps(fields).encode(), np.uint8)
        content |= arrays
        with open(path, "wb") as file:
            np.savez(file, **{k: v for k, v in content.items() if v is not None})

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"format": 2}, "its field format is invalid"),
            ({"finished": 1}, "its field finished is invalid"),
            ({"generator": [[1] * 623, 0, 0, 0.0]}, "its field generator is invalid"),
            ({"begun": [[1] * 624, 999, 0, 0.0]}, "its field begun is invalid"),
            ({"progress": {"n_epochs": "many"}}, "its field progress is invalid"),
            ({"progress": {"n_epochs": 9}}, "its field progress is invalid"),
            ({"names": ["loss"]}, "its history is invalid"),
            ({"optimizer": {"t": 1.5, "learning_rate": 0.1}}, "its field optimizer is invalid"),
            ({"optimizer": {"t": 2**63, "learning_rate": 0.1}}, "its field optimizer is invalid"),
            ({"optimizer": {"t": 1, "learning_rate": math.nan}}, "its field optimizer is invalid"),
            ({"backend": "\x1b[31mred"}, "its field backend is invalid"),
            ({"fit": {"a\nb": "c"}}, "its field fit is invalid"),
        ],
    )
    def test_invalid_fields(self, path, fields, words):
        self.changed(path, fields)
        with pytest.raises(CheckpointError, match=words):
            self.fit(path)

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"order": np.arange(400) + 1}, "its order is no permutation"),
            ({"order": np.zeros(400)}, "its order is invalid"),
            ({"order": np.arange(399)}, "its order must have 400 samples, got 399"),
            ({"flat": np.zeros(3)}, r"its flat must be float64 of shape .*, got float64 of shape"),
            ({"flat": None}, "it lacks 'flat'"),
            ({"state_0": None}, "it lacks 'state_0'"),
            ({"state_1": np.zeros(3)}, "its state_1 must be float64 of shape"),
            ({"history": np.zeros(3)}, "its history is invalid"),
            ({"order": None}, "it lacks 'order'"),
            ({"best": np.zeros(3)}, "its best is invalid"),
            ({"extra": np.zeros(3)}, r"it has arrays \['extra'\] that are unknown"),
        ],
    )
    def test_invalid_arrays(self, path, arrays, words):
        self.changed(path, **arrays)
        with pytest.raises(CheckpointError, match=words):
            self.fit(path)

    def test_invalid_work_arrays(self, tmp_path):
        stop_at(4, classifier(solver="lbfgs"), X, Y, checkpoint=tmp_path / "run")
        self.changed(tmp_path / "run", lbfgs_wa=np.zeros(3))
        with pytest.raises(CheckpointError, match="is damaged: its lbfgs_wa must be float64 of"):
            self.fit(tmp_path / "run", solver="lbfgs")

    @pytest.mark.parametrize("name", ["isave", "iwa", "task", "lsave", "n_evaluations"])
    def test_work_arrays_that_compiled_code_would_trust(self, tmp_path, name):
        """Its routine checks nothing: an offset or an index from a file could crash the process."""
        path = tmp_path / "run"
        stop_at(4, classifier(solver="lbfgs"), X, Y, checkpoint=Checkpoint(path, every=1))
        with open(path, "rb") as file:
            array = read_npz(file)[f"lbfgs_{name}"]
        content = path.read_bytes()
        rng = np.random.RandomState(0)
        for low, high in ((-(2**31), -(2**30)), (-1000, -10)):
            wrong = rng.randint(low, high, array.shape).astype(array.dtype)
            path.write_bytes(content)
            self.changed(path, **{f"lbfgs_{name}": wrong})
            with pytest.raises(CheckpointError, match=f"is damaged: its lbfgs_{name} is invalid"):
                self.fit(path, solver="lbfgs")
        path.write_bytes(content)
        self.changed(path, **{f"lbfgs_{name}": None})
        with pytest.raises(CheckpointError, match="its arrays of L-BFGS must be"):
            self.fit(path, solver="lbfgs")

    @pytest.mark.skipif(os.name != "posix", reason="files of POSIX")
    def test_special_files(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for name in (tmp_path / "pipe", "/dev/full", tmp_path):
            with pytest.raises(CheckpointError, match="is no regular file"):
                self.fit(name)

    def test_the_model_is_left_alone(self, path):
        self.changed(path, order=np.arange(399))
        model = classifier().fit(X[:300], Y[:300])
        before = model.coefs_[0].copy()
        with pytest.raises(CheckpointError):
            model.fit(X, Y, checkpoint=path)
        np.testing.assert_array_equal(model.coefs_[0], before)

    def test_the_working_directory_may_change(self, tmp_path, monkeypatch):
        for name in ("here", "there"):
            (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / "here")

        class Leaving(Observer):
            def epoch_ended(self, fit, report):
                os.chdir(tmp_path / "there")

        with observing(Leaving()):
            classifier().fit(X, Y, checkpoint=Checkpoint("run", every=1))
        assert os.listdir(tmp_path / "here") == ["run"] and not os.listdir(tmp_path / "there")

    def test_ways_to_write_a_path(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        found = []

        class Noting(Observer):
            def fit_began(self, fit):
                found.append(fit.n_before)

        with observing(Noting()):
            for path in ("run", "run/", "./run", Path("run"), tmp_path / "run"):
                classifier().fit(X, Y, checkpoint=path)
        assert found == [0, 12, 12, 12, 12] and os.listdir(tmp_path) == ["run"]
        with pytest.raises(ValueError, match="checkpoint must be a path, got an empty one"):
            classifier().fit(X, Y, checkpoint="")

    def test_errors_of_the_fit_remain_themselves(self, tmp_path):
        with observing(Stop(3, BlockingIOError)), pytest.raises(BlockingIOError):
            classifier().fit(X, Y, checkpoint=tmp_path / "run")

    def test_a_folder_that_does_not_exist(self, tmp_path):
        with pytest.raises(FileNotFoundError) as caught:
            self.fit(tmp_path / "none/run")
        assert caught.value.filename == str(tmp_path / "none/run")

    def test_invalid_arguments(self, tmp_path):
        with pytest.raises(TypeError, match="checkpoint must be a path, got int"):
            classifier().fit(X, Y, checkpoint=3)
        with pytest.raises(ValueError, match="keep must be 'last' or 'best', got 'all'"):
            Checkpoint("run", keep="all")
        for every in (0, -1, 2.5, True, "60", "0s", "1 day", None):
            with pytest.raises(ValueError, match="every must be a number of epochs, at least 1"):
                Checkpoint("run", every=every)

    @pytest.mark.parametrize(("every", "writes"), [(1, 13), (5, 4), ("1h", 2), ("0.000001s", 13)])
    def test_how_often_it_is_written(self, tmp_path, monkeypatch, every, writes):
        """At the beginning, as often as was wanted, and at the end."""
        found = []
        write = files.atomic_write

        def counted(path, **options):
            found.append(path)
            return write(path, **options)

        monkeypatch.setattr("fastmlp.training.checkpoint.atomic_write", counted)
        classifier().fit(X, Y, checkpoint=Checkpoint(tmp_path / "run", every=every))
        assert len(found) == writes

    @pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
    def test_one_fit_at_a_time(self, path):
        running = []

        class Another(Observer):
            def epoch_ended(self, fit, report):
                if not running:
                    running.append(True)
                    with pytest.raises(CheckpointError, match="is in use by another fit; wait for"):
                        classifier().fit(X, Y, checkpoint=path)

        with observing(Another()):
            self.fit(path)
        assert running and os.listdir(path.parent) == ["run"]
        self.fit(path)  # it is free again

    @pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
    def test_a_full_disk(self, tmp_path):
        """Training goes on, what was written remains, and it is written once there is room."""
        script = f"""
            import resource, signal, warnings
            import numpy as np
            from fastmlp import MLPClassifier, Checkpoint
            from fastmlp.training import Observer, observing
            class Full(Observer):
                def epoch_ended(self, fit, report):
                    room = 1000 if 2 <= report.epoch < 6 else resource.RLIM_INFINITY
                    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
                    if report.epoch == 5:
                        size.append(len(open({str(tmp_path / "run")!r}, "rb").read()))
            size = []
            X = np.random.RandomState(0).normal(size=(50, 3))
            with warnings.catch_warnings(record=True) as found, observing(Full()):
                warnings.simplefilter("always")
                model = MLPClassifier(max_iter=9, random_state=0)
                model.fit(X, X[:, 0] > 0, checkpoint=Checkpoint({str(tmp_path / "run")!r}, every=1))
            found = [str(w.message) for w in found if w.category.__name__ == "CheckpointWarning"]
            assert len(found) == 1 and "cannot be written (File too large)" in found[0], found
            assert size[0] > 1000
            again = MLPClassifier(max_iter=9, random_state=0)
            again.fit(X, X[:, 0] > 0, checkpoint={str(tmp_path / "run")!r})
            assert again.n_iter_ == 9 and (again.coefs_[0] == model.coefs_[0]).all()
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


@pytest.mark.skipif(
    not hasattr(MLPClassifier, "set_callbacks"), reason="callbacks came with scikit-learn 1.9"
)
def test_as_a_callback(tmp_path):
    expected = classifier().fit(X, Y)
    checkpoint = Checkpoint(tmp_path / "run")
    stop_at(5, classifier().set_callbacks(checkpoint), X, Y)
    assert os.path.exists(tmp_path / "run")
    assert_same(classifier().set_callbacks(checkpoint).fit(X, Y), expected)


class TestMinimizer:
    """It does what scipy's does, from any of its states."""

    @staticmethod
    def problem(seed):
        rng = np.random.RandomState(seed)
        A, b = rng.normal(size=(30, 12)), rng.normal(size=30)

        def objective(x):
            r = A @ np.tanh(x) - b
            return 0.5 * r @ r + 0.01 * np.sum(x**4), (1 - np.tanh(x) ** 2) * (
                A.T @ r
            ) + 0.04 * x**3

        return objective, rng.normal(size=12)

    @staticmethod
    def progress():
        return Progress(TrainingState(), has_curve=False)

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize(
        "options", [{"maxiter": 200}, {"maxiter": 7}, {"maxiter": 200, "maxfun": 9}, {"gtol": 1e9}]
    )
    def test_same_bits_as_scipy(self, seed, options):
        objective, start = self.problem(seed)
        options = {"maxiter": 200, "maxfun": 15000, "gtol": 1e-6} | options
        iterates = []
        expected = minimize(
            objective, start, method="L-BFGS-B", jac=True, options=options,
            callback=lambda intermediate_result: iterates.append(intermediate_result.x.copy()),
        )  # fmt: skip
        for stops in ((), (1, 3, 4)):
            work, progress, found = {}, self.progress(), []
            for stop in (*stops, None):

                def callback(result, stop=stop, progress=progress, found=found):
                    progress.add({"loss": result.fun}, 0, result.x)
                    found.append(result.x.copy())
                    if len(found) == stop:
                        raise KeyboardInterrupt

                kept = []

                def keep(work, kept=kept, **end):
                    kept[:] = [{name: array.copy() for name, array in work.items()}]

                try:
                    result = minimize_resumably(
                        objective, start, callback, progress, work, keep, **options
                    )
                except KeyboardInterrupt:
                    work = kept[0]
            np.testing.assert_array_equal(result.x, expected.x)
            np.testing.assert_array_equal(found, iterates)
            for name in ("fun", "nit", "status", "message"):
                assert result[name] == expected[name]

    @pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
    @pytest.mark.parametrize("at", range(1, 24, 2))
    def test_interrupted_right_after_the_routine(self, monkeypatch, tmp_path, at):
        expected = classifier(solver="lbfgs").fit(X, Y)
        routine, messages = lbfgs._routine()
        n_calls = 0

        def interrupting(*arguments):
            nonlocal n_calls
            routine(*arguments)
            n_calls += 1
            if n_calls == at:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(lbfgs, "_routine", lambda: (interrupting, messages))
        with pytest.warns(UserWarning, match="interrupted"):
            classifier(solver="lbfgs").fit(X, Y, checkpoint=tmp_path / "run")
        monkeypatch.setattr(lbfgs, "_routine", lambda: (routine, messages))
        model = classifier(solver="lbfgs").fit(X, Y, checkpoint=tmp_path / "run")
        assert_same(model, expected)

    def test_interrupted_while_evaluating(self):
        objective, start = self.problem(0)
        options = {"maxiter": 200, "maxfun": 15000, "gtol": 1e-6}
        expected = minimize(objective, start, method="L-BFGS-B", jac=True, options=options)
        n_evaluations, work, progress = 0, {}, self.progress()

        def fragile(x):
            nonlocal n_evaluations
            n_evaluations += 1
            if n_evaluations % 4 == 0:
                raise KeyboardInterrupt
            return objective(x)

        def keep(arrays, **end):
            work.update({name: array.copy() for name, array in arrays.items()})

        def callback(result):
            progress.add({"loss": result.fun}, 0, result.x)

        while True:
            try:
                result = minimize_resumably(
                    fragile, start, callback, progress, dict(work), keep, **options
                )
                break
            except KeyboardInterrupt:
                pass
        np.testing.assert_array_equal(result.x, expected.x)
        assert (result.nit, progress.n_epochs) == (expected.nit, expected.nit)


# ---------------------------------------------------------------------------------- real processes

SIGNALS = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def command(folder, *options):
    return [sys.executable, "-m", "fastmlp", "train", "--data", "digits", "--seed", "1",
            "--out", str(folder / "model.npz"), "--checkpoint", str(folder / "run.ckpt"),
            *options]  # fmt: skip


def weights(path):
    with open(path, "rb") as file:
        return {k: v.tobytes() for k, v in read_npz(file).items() if k != "model"}


#: Kills per case; the figure of a release is FASTMLP_KILLS=100.
KILLS = int(os.environ.get("FASTMLP_KILLS", "2"))


@SIGNALS
@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--solver", "sgd", "--epochs", "1000", "--batch-size", "50"],
        ["--solver", "adam", "--epochs", "600", "--dropout", "0.2", "--batch-size", "50"],
        ["--solver", "lbfgs", "--epochs", "3000", "--hidden", "60", "--alpha", "0"],
    ],
    ids=["sgd", "adam", "lbfgs"],
)
def test_sigkill_at_random_moments(tmp_path, options):
    (tmp_path / "undisturbed").mkdir()
    subprocess.run(command(tmp_path / "undisturbed", *options, "--quiet"), check=True)
    expected = weights(tmp_path / "undisturbed/model.npz")
    draw = random.Random(0)
    killed = 0
    while killed < KILLS:
        with subprocess.Popen(
            command(tmp_path, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            began = time.monotonic()
            while not (tmp_path / "run.ckpt").exists() and time.monotonic() < began + 60:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 4))
            process.kill()
        killed += process.returncode == -signal.SIGKILL
        if process.returncode == 0:  # it was faster: begin anew
            assert weights(tmp_path / "model.npz") == expected
            for path in tmp_path.glob("*.*"):
                path.unlink()
    subprocess.run(command(tmp_path, *options, "--quiet"), check=True)
    assert weights(tmp_path / "model.npz") == expected
    names = {path.name for path in tmp_path.iterdir()} - {"undisturbed"}
    assert names == {"model.npz", "run.ckpt"}


@SIGNALS
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_signals_end_a_command_as_ctrl_c_does(tmp_path, name):
    slow = ["--solver", "adam", "--learning-rate", "0.00003", "--batch-size", "20"]
    options = [*slow, "--epochs", "100000"]
    number = getattr(signal, name)
    with subprocess.Popen(
        command(tmp_path, *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup's children ignore it
    ) as process:
        assert any(line.startswith("Iteration 60,") for line in process.stdout)
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == 130, err
    assert "test score" in out
    n_epochs = int(out.partition("epochs ")[2].split()[0])
    assert n_epochs >= 60
    result = subprocess.run(
        command(tmp_path, *slow, "--epochs", str(n_epochs + 5)),
        capture_output=True,
        text=True,
        check=True,
    )
    resumed = re.search(r"Going on after epoch (\d+) of ", result.stdout)
    assert 1 <= int(resumed[1]) <= n_epochs  # a copy may be some epochs old
    assert f"Iteration {n_epochs + 5}, loss" in result.stdout
    again = subprocess.run(
        command(tmp_path, *slow, "--epochs", str(n_epochs + 5)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Iteration" not in again.stdout and "test score" in again.stdout


def test_the_command_refuses(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from fastmlp import cli

    monkeypatch.chdir(tmp_path)
    for options, words in [
        (["--checkpoint", "none/run"], "--checkpoint must be a file in a directory that exists"),
        (["--checkpoint", "model.npz"], "--checkpoint and --out must be two files, got model.npz"),
    ]:
        result = CliRunner().invoke(cli.app, ["train", "--data", "digits", *options])
        assert words in str(result.exception)
    Path("table.csv").write_text("a,b\n" + "\n".join(f"{i},{i % 2}" for i in range(40)))
    options = ["--data", "table.csv", "--checkpoint", "run"]
    result = CliRunner().invoke(cli.app, ["train", *options])
    assert "--checkpoint is for one network, but" in str(result.exception)
