"""Models in files: what comes back is what was saved, and a broken file is refused."""

import copy
import io
import itertools
import json
import math
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zipfile
from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import neural_network
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, LabelBinarizer
from sklearn.svm import SVC

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, __version__
from fastmlp.augment import (
    Compose,
    ElasticDistortion,
    RandomAffine,
    RandomDeskew,
    RandomFlip,
    RandomNoise,
    RandomThickness,
)
from fastmlp.exceptions import ModelFileWarning, WarmStartWarning
from fastmlp.persistence import ModelFileError, is_model_file, load, save
from fastmlp.persistence import models as persistence
from fastmlp.training import TrainingState

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

RNG = np.random.RandomState(0)
X = RNG.normal(size=(60, 5))
CLASSES = np.arange(60) % 3
MULTILABEL = (X[:, :3] > 0).astype(int)


def fit(y=CLASSES, X=X, **parameters):
    parameters = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0} | parameters
    return MLPClassifier(**parameters).fit(X, y)


def round_trip(model, tmp_path):
    save(model, tmp_path / "model.npz")
    return load(tmp_path / "model.npz")


def attributes(model):
    """All that a model consists of, but the optimiser, which every fit begins anew."""
    parts = dict(vars(model))
    parts.pop("_optimizer", None)
    for name in parts.keys() & {"_state", "_label_binarizer"}:
        parts |= {f"{name}.{key}": value for key, value in vars(parts.pop(name)).items()}
    for name in ("history_", "_state.history"):  # no two runs take the same time
        parts[name] = {key: value for key, value in parts[name].items() if key != "seconds"}
    return parts


def assert_same(model, other, X=X):
    parts, other_parts = attributes(model), attributes(other)
    assert parts.keys() == other_parts.keys()
    for name, part in parts.items():
        assert type(part) is type(other_parts[name]), name
        np.testing.assert_equal(other_parts[name], part, err_msg=name)
        assert getattr(part, "dtype", None) == getattr(other_parts[name], "dtype", None), name
    for method in ("predict", "predict_proba"):
        if not hasattr(model, method):
            continue
        expected, got = getattr(model, method)(X), getattr(other, method)(X)
        assert type(expected) is type(got) and expected.dtype == got.dtype
        if sp.issparse(expected):
            expected, got = expected.toarray(), got.toarray()
        np.testing.assert_array_equal(got, expected)  # the same bits


# -------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize(
    "y",
    [
        pytest.param(y, id=name)
        for name, y in {
            "int64": CLASSES,
            "uint8": CLASSES.astype(np.uint8) + 250,
            "big-endian": CLASSES.astype(">i4"),
            "binary": CLASSES > 0,
            "negative": np.where(CLASSES, -7, 3),
            "one class": np.zeros(60, int),
            "float": CLASSES / 1.0,
            "text": np.array(["no", "yes", "maybe"])[CLASSES],
            "text objects": np.array(["ä", "\N{GRINNING FACE}", ""], object)[CLASSES],
            "many": np.arange(60) % 30,
            "multilabel": MULTILABEL,
            "sparse multilabel": sp.csr_matrix(MULTILABEL),
        }.items()
    ],
)
def test_labels(y, tmp_path):
    model = fit(y)
    assert_same(model, round_trip(model, tmp_path))


@pytest.mark.parametrize(
    "parameters",
    [
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": 1, "solver": "sgd", "learning_rate": "adaptive"},
        {"hidden_layer_sizes": (3, 2, 2), "activation": "tanh", "n_iter_no_change": np.inf},
        {"dtype": "float32", "input_scale": "standard"},
        {"dtype": "float64", "input_scale": 0.5, "n_threads": 1, "backend": "numpy"},
        {"input_scale": (2.0, (1.0, 2.0, 3.0, 4.0, 5.0))},
        {"early_stopping": True, "max_iter": 5, "alpha": 1e-300},
        {"verbose": False, "shuffle": False, "batch_size": 7, "random_state": None},
    ],
)
def test_parameters(parameters, tmp_path):
    model = fit(**parameters)
    assert_same(model, round_trip(model, tmp_path))


@pytest.mark.parametrize("y", [X[:, 0], X[:, :3]], ids=["one output", "three outputs"])
@pytest.mark.parametrize(
    "parameters", [{}, {"solver": "lbfgs"}, {"early_stopping": True}, {"dtype": "float32"}]
)
def test_regressors(y, parameters, tmp_path):
    model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0, **parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # L-BFGS has not converged
        model.fit(X, y)
    assert_same(model, round_trip(model, tmp_path))


@pytest.mark.parametrize("n_hidden", [0, 1, 9, 10, 11, 25, 101])
@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_any_number_of_layers(n_hidden, estimator, tmp_path):
    """Layers are read in the order of their numbers, in which 10 comes after 9."""
    model = estimator(hidden_layer_sizes=tuple(range(2, n_hidden + 2)), max_iter=1).fit(X, CLASSES)
    assert_same(model, round_trip(model, tmp_path))


def test_files_of_many_layers_that_were_written_before_they_could_be_read(tmp_path):
    """The bytes are those that np.savez wrote of ten hidden layers of three units."""
    model = MLPRegressor(hidden_layer_sizes=(3,) * 10, max_iter=1, random_state=0)
    model.fit(X, X[:, 0])
    save(model, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as archive:
        arrays = dict(archive)
    document = json.loads(arrays.pop("model").tobytes())
    for name in ("fitted_loss", "out_activation"):  # older files have not even these
        del document[name]
    text = json.dumps(document).encode()
    np.savez(tmp_path / "old.npz", **arrays, model=np.frombuffer(text, np.uint8))
    assert_same(model, load(tmp_path / "old.npz"))


def test_weights_of_several_labels(tmp_path):
    model = fit(y=MULTILABEL, class_weight=[{0: 1, 1: 2}, {0: 1, 1: 1}, {0: 0.5, 1: 1.5}])
    assert_same(model, round_trip(model, tmp_path))


def test_parameters_that_are_not_plain(tmp_path):
    model = fit(
        hidden_layer_sizes=np.array([4, 3]),
        alpha=np.float32(0.1),
        batch_size=np.int64(5),
        shuffle=np.True_,
        input_scale=[np.float64(0.5), np.zeros(5)],
        random_state=np.random.RandomState(0),
        learning_rate_init=True,
    )
    loaded = round_trip(model, tmp_path)
    parameters = loaded.get_params()
    assert parameters["learning_rate_init"] == 1
    assert type(parameters["learning_rate_init"]) is int
    assert parameters["hidden_layer_sizes"] == (4, 3)
    assert parameters["alpha"] == float(np.float32(0.1))
    assert parameters["batch_size"] == 5 and parameters["shuffle"] is True
    assert parameters["input_scale"] == (0.5, (0.0,) * 5)
    loaded_draws, draws = (m.get_params()["random_state"].rand(700) for m in (loaded, model))
    np.testing.assert_array_equal(loaded_draws, draws)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    "step",
    [
        RandomNoise(np.float64(0.1), probability=0.5, limits=(-3, 3)),
        RandomAffine(rotate=3, image_shape=(1, 5)) + ElasticDistortion(alpha=1),
        Compose(RandomNoise(0.2)),
        RandomDeskew(image_shape=(1, 5)) + RandomFlip(0.25) + RandomThickness(np.float32(0.25)),
    ],
)
def test_augmentations(step, tmp_path):
    loaded = round_trip(fit(max_iter=1).set_params(augment=step), tmp_path)
    assert loaded.augment == step and type(loaded.augment) is type(step)


@pytest.mark.parametrize(
    "parameters",
    [
        {"lr_schedule": lambda epoch: 0.1, "solver": "sgd"},
        {"augment": np.sort},
        {"random_state": np.random.RandomState(np.random.PCG64(0))},
    ],
)
def test_what_is_left_out_is_said(parameters, tmp_path):
    (name, *_) = parameters
    model = fit(**parameters)
    with pytest.warns(ModelFileWarning, match=f"^{name} cannot be saved, .* will be None") as said:
        loaded = round_trip(model, tmp_path)
    assert said[0].filename == __file__
    assert getattr(loaded, name) is None
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_bytes_and_float32_input(tmp_path):
    X_bytes = RNG.randint(0, 256, (60, 5)).astype(np.uint8)
    model = fit(X=X_bytes, input_scale=1 / 255)
    assert model.coefs_[0].dtype == np.float32
    assert_same(model, round_trip(model, tmp_path), X=X_bytes)


def test_feature_names(tmp_path):
    model = fit()
    model.feature_names_in_ = np.array(["a", "b", "länge", "d", "e"], object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # X has no names, but the model was fitted with them
        assert_same(model, round_trip(model, tmp_path))


def test_training_that_was_interrupted_in_its_first_epoch(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    engine = "fastmlp.backends.numpy_backend.Engine.train_epoch"
    monkeypatch.setattr(engine, interrupt)
    with pytest.warns(UserWarning, match="interrupted"):
        model = fit(backend="numpy")
    assert not hasattr(model, "loss_")
    assert_same(model, round_trip(model, tmp_path))


def test_a_history_that_was_interrupted(tmp_path):
    model = fit()
    model._state.history["loss"].append(0.5)
    loaded = round_trip(model, tmp_path)
    assert len({len(entries) for entries in loaded.history_.values()}) == 1
    assert loaded.history_["loss"][-1] == 0.5 and np.isnan(loaded.history_["seconds"][-1])
    loaded.partial_fit(X, CLASSES)


@pytest.mark.parametrize("fitted", ["adam", "sgd", "lbfgs", "early stopping"])
@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_models_from_scikit_learn(name, fitted, tmp_path):
    parameters = {"early_stopping": True} if fitted == "early stopping" else {"solver": fitted}
    parameters |= {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}
    ours = getattr(fastmlp, name).from_sklearn(
        getattr(neural_network, name)(**parameters).fit(X, CLASSES)
    )
    loaded = round_trip(ours, tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), ours.predict(X))
    for attribute in ("n_iter_", "t_", "loss_", "history_", "_state"):
        assert getattr(loaded, attribute) == getattr(ours, attribute), attribute


@pytest.mark.parametrize("dtype", [float, int, np.float32])
def test_weights_set_by_hand(dtype, tmp_path):
    model = MLPRegressor(hidden_layer_sizes=(3,))
    model.coefs_ = [np.ones((5, 3), dtype), np.arange(3, dtype=dtype).reshape(3, 1)]
    model.intercepts_ = [np.zeros(3, dtype), np.ones(1, dtype)]
    model.n_layers_, model.n_outputs_, model.out_activation_ = 3, 1, "identity"
    loaded = round_trip(model, tmp_path)
    hidden = np.maximum(X @ np.ones((5, 3)), 0)
    expected = hidden @ np.arange(3.0) + 1
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-12}
    np.testing.assert_allclose(loaded.predict(X), expected, **tolerance)
    assert loaded.coefs_[0].dtype == (np.float32 if dtype == np.float32 else np.float64)
    loaded.partial_fit(X, X[:, 0])


def test_attributes_set_by_hand_after_a_fit(tmp_path):
    """Published tricks: outputs clipped at 0, patience begun anew, losses forgotten."""
    model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0).fit(X, X[:, 0])
    model.out_activation_ = "relu"
    model._no_improvement_count = 0.0
    model.best_loss_ = 7
    model.input_scale_ = (np.full(5, 2), np.zeros(5, int))
    loaded = round_trip(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.predict(X).min() == 0 and loaded.out_activation_ == "relu"
    assert loaded.best_loss_ == 7 and loaded._no_improvement_count == 0
    loaded.out_activation_ = "identity"
    with pytest.warns(WarmStartWarning, match="input_scale_ of the first fit is kept"):
        loaded.partial_fit(X, X[:, 0])


@pytest.mark.parametrize("target_scale", [None, "standard", 0.5, (2, [1, 2])])
def test_scaled_targets(target_scale, tmp_path):
    model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, target_scale=target_scale)
    model.fit(X, 3 * X[:, :2])
    assert_same(model, round_trip(model, tmp_path))


@pytest.mark.parametrize("schedule", ["linear", "cosine", {1: 0.1, 2: 0.01}])
def test_schedules_that_have_a_name(schedule, tmp_path):
    model = fit(lr_schedule=schedule)
    loaded = round_trip(model, tmp_path)
    assert_same(model, loaded)
    assert loaded.lr_schedule == schedule


def test_a_classifier_set_by_hand(tmp_path):
    fitted = fit()
    model = MLPClassifier((4,))
    for name in ("coefs_", "intercepts_", "n_layers_", "n_outputs_", "out_activation_"):
        setattr(model, name, getattr(fitted, name))
    model.classes_ = np.array(["a", "b", "c"])
    model._label_binarizer = LabelBinarizer().fit(model.classes_)
    loaded = round_trip(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), model.classes_[fitted.predict(X)])


@pytest.mark.slow
def test_saving_while_another_thread_fits(tmp_path):
    """What is saved is of one moment, whatever network the other thread makes meanwhile."""
    model = fit()
    stop = threading.Event()

    def fit_again():
        sizes = itertools.cycle([(2,), (3, 4), (5, 6, 7)])
        while not stop.is_set():
            model.set_params(hidden_layer_sizes=next(sizes), max_iter=1).fit(X, CLASSES)

    thread = threading.Thread(target=fit_again)
    thread.start()
    try:
        found = {round_trip(model, tmp_path).n_layers_ for _ in range(60)}
    finally:
        stop.set()
        thread.join()
    assert len(found) > 1


@pytest.mark.parametrize("early_stopping", [False, True])
def test_warm_start_goes_on(early_stopping, tmp_path):
    model = fit(warm_start=True, early_stopping=early_stopping, max_iter=4)
    loaded = round_trip(model, tmp_path)
    assert_same(model.fit(X, CLASSES), loaded.fit(X, CLASSES))
    assert loaded.t_ > 0 and len(loaded.loss_curve_) == 8


def test_saved_again_it_is_the_same(tmp_path):
    save(fit(), tmp_path / "1.npz")
    save(load(tmp_path / "1.npz"), tmp_path / "2.npz")
    first, second = (np.load(tmp_path / name) for name in ("1.npz", "2.npz"))
    with first, second:
        assert first.files == second.files
        for name in first.files:
            np.testing.assert_array_equal(first[name], second[name])


# ------------------------------------------------------------------------------------- the file


def test_numpy_reads_the_file_without_pickle(tmp_path):
    model = fit(input_scale="standard")
    save(model, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    assert sorted(arrays) == [
        *("classes", "coef_0", "coef_1", "input_scale", "input_shift"),
        *("intercept_0", "intercept_1", "model"),
    ]
    np.testing.assert_array_equal(arrays["coef_1"], model.coefs_[1])
    document = json.loads(arrays["model"].tobytes())
    assert document["format"] == 1 and document["fastmlp"] == __version__
    assert document["parameters"]["hidden_layer_sizes"] == [4]
    assert is_model_file(tmp_path / "model.npz")


def test_the_name_is_used_as_it_is(tmp_path):
    model = fit()
    save(model, str(tmp_path / "model"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert_same(model, load(tmp_path / "model"))


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    save(fit(), path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(persistence.np, "savez", fail)
    with pytest.raises(OSError, match="No space"):
        save(fit(random_state=1), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.npz"]


SAVE = """
import os, signal, sys, zipfile
from fastmlp import MLPRegressor
from fastmlp.persistence import models as persistence
path, *names = sys.argv[1:]
with open(path, "rb") as file:
    before = file.read()
model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=1, n_iter_no_change=7)
model.fit([[0.0, 1], [1, 0]], [0, 1])
step = zipfile._ZipWriteFile.__init__
for name in names:
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with open(path, "rb") as file:
            print(status, file.read() == before, len(os.listdir(os.path.dirname(path))), flush=True)
        continue
    def signalled(*args):
        os.kill(os.getpid(), getattr(signal, name))
        return step(*args)
    zipfile._ZipWriteFile.__init__ = signalled
    persistence.save(model, path)
    sys.exit()
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_signals_while_a_model_is_saved(tmp_path):
    """Processes that are killed leave the old file; one that gets Ctrl-C finishes its own."""
    save(fit(), tmp_path / "model.npz")
    command = [sys.executable, "-W", "ignore", "-c", SAVE, tmp_path / "model.npz"]
    result = subprocess.run(
        [*command, "SIGKILL", "SIGKILL", "SIGINT"], capture_output=True, text=True, timeout=60
    )
    *killed, interrupted = (line.split() for line in result.stdout.splitlines())
    # Never more files than the last one's two.
    assert killed == [[str(-signal.SIGKILL), "True", "3"]] * 2
    assert interrupted[0] in ("1", str(-signal.SIGINT)) and interrupted[1:] == ["False", "1"]
    # Nothing but KeyboardInterrupt is seen.
    assert result.stderr.rstrip().endswith("KeyboardInterrupt")
    assert result.stderr.count("Traceback") == 1
    assert "ZIP" not in result.stderr and "ignored" not in result.stderr
    assert load(tmp_path / "model.npz").n_iter_no_change == 7
    assert os.listdir(tmp_path) == ["model.npz"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions, links and devices")
def test_permissions_links_and_devices(tmp_path):
    (tmp_path / "link").symlink_to("model.npz")
    umask = os.umask(0o022)
    try:
        save(fit(), tmp_path / "link")
    finally:
        os.umask(umask)
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "model.npz").stat().st_mode) == 0o644
    save(fit(), os.devnull)
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)


# ------------------------------------------------------------------------------- what is refused


def test_what_cannot_be_saved(tmp_path):
    path = tmp_path / "model.npz"
    with pytest.raises(NotFittedError):
        save(MLPClassifier(), path)
    with pytest.raises(TypeError, match=r"one of \['MLPClassifier', 'MLPRegressor'\], got SVC"):
        persistence.save(SVC(), path)
    model = fit()
    for labels in ([1, "a", None], ["a", "b", "c\0"]):
        model.classes_ = np.array(labels, object)
        with pytest.raises(ValueError, match="must be numbers, booleans or strings to be saved"):
            save(model, path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"coefs_": [np.full((5, 4), np.nan), np.ones((4, 3))]}, "its coef_0 must be finite"),
        ({"coefs_": [np.ones((5, 4)), np.ones((3, 3))]}, r"coefs_\[1\] .* n is 4; got \(3, 3\)"),
        ({"input_scale_": (np.ones(2), np.ones(2))}, "its input_scale must be 5 numbers"),
        ({"input_scale_": (np.ones(5), None)}, "its input_shift must be 5 numbers"),
        ({"input_scale_": 3}, "not iterable"),
        ({"n_iter_": "three"}, "its field n_iter must be an integer from 0"),
        ({"out_activation_": "sine"}, "its field out_activation must be one of"),
        ({"coefs_": "weights"}, "coefs_ and intercepts_ must"),
        ({"loss_curve_": "low"}, "loss_curve_ must be a list of numbers"),
        ({"hidden_layer_sizes": (0,)}, "parameter hidden_layer_sizes .* must be > 0"),
        ({"alpha": -1}, "'alpha' parameter .* Got -1"),
        ({"dropout": (0.1, 0.2)}, "parameter dropout .* each of the 1 hidden layers"),
        ({"feature_names_in_": np.array(["a"])}, "feature_names must be a text for each of 5"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(change, reason, tmp_path):
    model = fit()
    vars(model).update(change)
    with pytest.raises(ValueError, match=f"^the model cannot be saved: .*{reason}"):
        save(model, tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


def assert_refused(path, reason):
    with pytest.raises(ModelFileError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is not a model that fastmlp can load: ")
    assert message.endswith(".") and "\n" not in message
    assert re.search(reason, message), message


class Explosive:
    def __reduce__(self):
        return os._exit, (1,)


def with_lying_shape(path, arrays):
    """Give coef_0 a header of 8 TB."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            file = io.BytesIO()
            np.save(file, array)
            data = file.getvalue()
            if name == "coef_0":
                data = data.replace(b"(5, 4), }            ", b"(1000000, 1000000), }")
            archive.writestr(f"{name}.npy", data)


def with_pickle(path, arrays):
    arrays["classes"] = np.array([Explosive()] * 3, object)
    np.savez(path, **arrays)


def compressed(path, arrays):
    np.savez_compressed(path, **arrays)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (with_lying_shape, "coef_0.npy does not have the length of float64 of shape"),
        (with_pickle, "classes.npy does not have the length of object of shape"),
        (compressed, "compressed"),
        (lambda path, arrays: np.save(path.open("wb"), X), "not a zip file"),
        (lambda path, arrays: np.savez(path, X=X), "it lacks 'model'"),
        (lambda path, arrays: path.write_bytes(b""), "not a zip file"),
        (lambda path, arrays: path.write_bytes(b"PK\3\4 and so on"), "not a zip file"),
        (lambda path, arrays: zipfile.ZipFile(path, "w").close(), "it lacks 'model'"),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed file")
def test_files_that_are_no_models(write, reason, tmp_path):
    save(fit(), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as archive:
        arrays = dict(archive)
    path = tmp_path / "bad.npz"
    write(path, arrays)
    tracemalloc.start()
    assert_refused(path, reason)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def change(part, key, value):
    def edit(document, arrays):
        (document[part] if part else document)[key] = value

    return edit


def drop(name):
    return lambda document, arrays: arrays.pop(name)


def replace(name, array):
    return lambda document, arrays: arrays.update({name: array})


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (change(None, "format", 2), "written by fastmlp .*, but this is .*: upgrade"),
        (change(None, "format", "1"), "its field format must be an integer from 1"),
        (change(None, "estimator", "MLPRegressor"), "upgrade"),
        (change("parameters", "batch_norm", 0.5), r"no parameters \['batch_norm'\]; .*upgrade"),
        (change("parameters", "activation", "sine"), "'activation' parameter of MLPClassifier"),
        (change("state", "momentum", 1), r"fields \['state.momentum'\] .* unknown; .*upgrade"),
        (
            change(None, "momentum", 1),
            r"it has fields \['momentum'\] that are unknown; .*upgrade",
        ),
        (
            change("state", "n_samples_seen", -1),
            "its field state.n_samples_seen must be an integer",
        ),
        (change("state", "n_samples_seen", 10**30), "from 0 to 9223372036854775807, got 10+"),
        (
            change("state", "loss_curve", [1, "2"]),
            r"state.loss_curve .* list of numbers, got \[1, '2",
        ),
        (change("state", "best_loss", None), "state.best_loss must be a number, got None"),
        (
            change("state", "history", {"loss": [1], "seconds": []}),
            "state.history .* of equal length",
        ),
        (change("labels", "sparse", 0), "its field labels.sparse must be true or false, got 0"),
        (change(None, "labels", []), r"its field labels must be an object, got \[\]"),
        (change(None, "fastmlp", "1\n2"), "its field fastmlp must be text in one line"),
        (change(None, "n_iter", True), "its field n_iter must be an integer .* got True"),
        (change("parameters", "hidden_layer_sizes", [4, "a"]), "parameter hidden_layer_sizes "),
        (change("parameters", "max_iter", 10**400), "parameter max_iter must be below 2"),
        (
            change("parameters", "lr_schedule", {"items": [[0, 1]]}),
            "parameter lr_schedule .* epochs",
        ),
        (change("parameters", "class_weight", {"items": [[1]]}), "parameter class_weight .* pairs"),
        (change("parameters", "class_weight", {0: 1}), "parameter class_weight .* pairs"),
        (change("parameters", "label_smoothing", [1, 0]), "parameter label_smoothing .*off < on"),
        (change("parameters", "input_scale", [1, 2, 3]), "parameter input_scale .* a pair"),
        (change("parameters", "input_scale", math.inf), "parameter input_scale .* all finite"),
        (lambda document, arrays: document.clear(), "it lacks 'format'"),
        (lambda document, arrays: document.pop("labels"), "it lacks 'labels'"),
        (drop("coef_1"), "it lacks 'coef_1'"),
        (drop("coef_0"), "it lacks 'coef_0'"),
        (drop("intercept_1"), "it lacks 'intercept_1'"),
        (drop("classes"), "it lacks 'classes'"),
        (drop("input_shift"), "it lacks 'input_shift'"),
        (replace("coef_1", np.zeros((3, 3))), "shape"),
        (replace("coef_1", np.zeros((4, 3), int)), "all be float32 or all float64"),
        (replace("coef_1", np.zeros((4, 3), np.float32)), "all be float32 or all float64"),
        (replace("coef_1", np.zeros((4, 3), "f4,f4")), "all be float32 or all float64"),
        (
            replace("coef_0", np.zeros((0, 4))),
            r"coef_0 and intercept .* n at least 1, got \(0, 4\)",
        ),
        (
            replace("coef_0", np.zeros((5, 0))),
            r"coef_0 and intercept .* n at least 1, got \(5, 0\)",
        ),
        (replace("coef_0", np.full((5, 4), np.inf)), "its coef_0 must be finite"),
        (replace("coef_2", np.zeros((3, 3))), "it lacks 'intercept_2'"),
        (replace("classes", np.arange(4)), "3 outputs, but 4 are needed"),
        (replace("classes", np.array([2, 1, 0])), "not sorted and unique"),
        (replace("classes", np.array([0.5, 1, 2])), "its classes "),
        (replace("classes", np.zeros(3, "i4,i4")), "its classes must be a 1d array of numbers"),
        (replace("classes", np.zeros(0)), "its classes must be a 1d array of numbers"),
        (replace("classes", np.array([1, np.nan, 2])), "classes "),
        (replace("input_scale", np.ones(4)), "its input_scale must be 5 numbers"),
        (
            replace("input_scale", np.ones(5, int)),
            "its input_scale must be 5 numbers of float32 or",
        ),
        (replace("input_shift", np.full(5, np.nan)), "its input_shift must be finite"),
        (replace("feature_names", np.array(["a"])), "feature_names must be a text for each of 5"),
        (replace("feature_names", np.arange(5)), "feature_names must be a text for each of 5"),
        (
            replace("target_map", np.ones(3)),
            r"arrays \['target_map'\] that are unknown; .*upgrade",
        ),
    ],
)
def test_content_that_does_not_fit(edit, reason, tmp_path):
    save(fit(input_scale="standard"), tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as archive:
        arrays = dict(archive)
    document = json.loads(arrays["model"].tobytes())
    edit(document, arrays)
    arrays["model"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    np.savez(tmp_path / "model.npz", **arrays)
    assert_refused(tmp_path / "model.npz", reason)


OPTIMIZERS = {
    "adam": {},
    "adamw": {"solver": "adamw", "weight_decay": 0.1, "max_grad_norm": 0.5},
    "sgd": {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.8},
    "float32": {"dtype": "float32"},
}


class TestOptimizer:
    """On request it is in the file, so that `partial_fit` goes on as if nothing had been saved."""

    @pytest.mark.parametrize("case", OPTIMIZERS)
    @pytest.mark.parametrize("in_pipeline", [False, True])
    def test_partial_fit_goes_on(self, case, in_pipeline, tmp_path):
        model = fit(**OPTIMIZERS[case])
        whole = make_pipeline(FunctionTransformer(), model) if in_pipeline else model
        others = {}
        for keeps in (True, False):
            fastmlp.save(whole, tmp_path / "model", optimizer=keeps)
            loaded = fastmlp.load(tmp_path / "model")
            others[keeps] = loaded[-1] if in_pipeline else loaded
        for _ in range(3):
            model.partial_fit(X, CLASSES)
            for other in others.values():
                other.partial_fit(X, CLASSES)
        assert_same(others[True], model)
        assert not np.array_equal(others[False].coefs_[0], model.coefs_[0])

    def test_only_on_request(self, tmp_path):
        save(fit(), tmp_path / "model.npz")
        size = (tmp_path / "model.npz").stat().st_size
        with np.load(tmp_path / "model.npz") as archive:
            assert not any("optimizer" in name for name in archive)
        save(fit(), tmp_path / "model.npz", optimizer=True)
        assert (tmp_path / "model.npz").stat().st_size > size

    def test_without_one(self, tmp_path):
        model = fit(solver="lbfgs", alpha=1, max_iter=200)
        save(model, tmp_path / "model.npz", optimizer=True)
        assert_same(load(tmp_path / "model.npz"), model)

    @pytest.mark.parametrize(
        ("edit", "reason"),
        [
            (change("optimizer", "name", "other"), "its field optimizer must be numbers by name"),
            (change("optimizer", "t", -1), "its optimizer cannot be used: t is -1"),
            (change("optimizer", "t", 2**63), "its optimizer cannot be used: t is 9"),
            (
                change("optimizer", "beta_1", math.nan),
                "its optimizer cannot be used: beta_1 is nan",
            ),
            (change("optimizer", "beta_1", "0.9"), "its optimizer cannot be used: beta_1 is '0.9'"),
            (change("optimizer", "learned", 1), "its optimizer cannot be used: .* 'learned'"),
            (replace("optimizer_0", None), "it lacks 'optimizer_0'"),
            (replace("optimizer_0", np.zeros(3)), "its optimizer_0 must be 39 numbers"),
            (replace("optimizer_1", np.full(39, np.inf)), "its optimizer_1 must be finite"),
            (replace("optimizer_2", np.zeros(39)), r"arrays \['optimizer_2'\] that are unknown"),
        ],
    )
    def test_content_that_does_not_fit(self, edit, reason, tmp_path):
        save(fit(), tmp_path / "model.npz", optimizer=True)
        with np.load(tmp_path / "model.npz") as archive:
            arrays = dict(archive)
        document = json.loads(arrays["model"].tobytes())
        edit(document, arrays)
        arrays["model"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
        np.savez(tmp_path / "model.npz", **{k: v for k, v in arrays.items() if v is not None})
        assert_refused(tmp_path / "model.npz", reason)


# What may stand in place of a field: every type of JSON, and numbers at the edges.
WRONG_VALUES = [
    *(None, True, -1, 0, 3, 2**63, 10**400, 0.5, math.nan, math.inf, "", "x"),
    *([], [0], [1, 2, 3], ["a"], [[1]], [None], [math.nan]),
    *({}, {"a": [1]}, {"items": 3}, {"items": [[1, 2]]}, {"items": [[[1], 2]]}),
]


def wrong_arrays(array):
    """Yield arrays that should not stand in the place of one."""
    yield from (array[:0], array[:-1], np.concatenate([array, array[-1:]]), array[np.newaxis])
    yield from (array[..., np.newaxis], array.T, array[::-1], array.ravel()[0])
    for dtype in ("?", "i1", "i8", "u8", "f2", "f4", ">f8", "f8", "c16", "S3", "U3", "m8[s]"):
        yield np.zeros(array.shape, dtype)
    for value in (math.nan, math.inf, -1.0):
        yield np.full(array.shape, value)
    yield np.zeros(array.shape, "f8,f8")
    yield np.zeros(array.shape, [("a", "f8", (2,))])
    yield np.full(array.shape, None)


def places(value, path=()):
    """Yield the path of every value in a document; of a list, that of the last element."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index in range(len(value))[-1:]:
            yield from places(value[index], (*path, index))


def replaced(document, path, value):
    """Return a copy of a document with another value in one place."""
    if not path:
        return value
    copied = document.copy()
    copied[path[0]] = replaced(document[path[0]], path[1:], value) if path[1:] else value
    return copied


def without(document, path):
    """Return a copy of a document that lacks one field or element."""
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    smaller = parent.copy()
    del smaller[path[-1]]
    return replaced(document, path[:-1], smaller)


# A model, and patterns of the fields and of the arrays that no model above it has like this.
RICH_MODELS = {
    "classifier": (
        lambda: fit(
            solver="sgd",
            input_scale=(0.5, (1.0, 2.0, 3.0, 4.0, 5.0)),
            lr_schedule={1: 0.1, 3: 0.01},
            dropout=(0.5,),
            class_weight={0: 1, 1: 2, 2: 3},
            label_smoothing=(0.01, 0.98),
        ),
        "",
        "",
    ),
    "text": (
        lambda: fit(np.array(["a", "b", "c"], object)[CLASSES], early_stopping=True),
        "labels|validation|stopping|no_change|solver|learning_rate",
        "classes",
    ),
    "several labels": (
        lambda: fit(MULTILABEL, class_weight=[{0: 1, 1: 2}] * 3),
        "labels|class_weight|smoothing|activation|loss$",
        "classes|_1",
    ),
    "generators": (
        lambda: fit(
            random_state=np.random.RandomState(0), augment=RandomNoise(0.1, limits=(-3, 3))
        ),
        "random_state|augment|versions|metadata|fitted",
        "feature_names",
    ),
    "regressor": (
        lambda: MLPRegressor(
            hidden_layer_sizes=(3, 2),
            max_iter=2,
            input_scale="standard",
            target_scale="standard",
            dtype="float32",
            lr_schedule="cosine",
        ).fit(X, X[:, :2]),
        "^$|^n_iter|estimator|activation|loss|labels|dtype|_scale|hidden|schedule",
        "",
    ),
}


@pytest.fixture(scope="module", params=RICH_MODELS)
def rich_file(request, tmp_path_factory):
    """The document and the arrays of a model that uses all that there is, and the patterns."""
    make, *patterns = RICH_MODELS[request.param]
    model = make()
    model.feature_names_in_ = np.array(["a", "b", "c", "d", "e"], object)
    path = tmp_path_factory.mktemp("rich") / "model.npz"
    save(model, path, metadata={"columns": ["a", "b"]})
    with np.load(path) as archive:
        arrays = dict(archive)
    for array in arrays.values():
        array.flags.writeable = False
    return json.loads(arrays.pop("model").tobytes()), arrays, *patterns


@pytest.fixture
def model_file(tmp_path):
    save(fit(), tmp_path / "model.npz")
    return tmp_path / "model.npz"


def check_refused_or_sound(document, arrays, *, unwritten=None):
    """Load a file: it is refused in a sentence, or makes a model that does all that models do.

    Much of the time is that of the file; its content may stand for that of another, `unwritten`.

    Returns
    -------
    sentence : str
        Empty if the model is sound.
    """
    text = json.dumps(document).encode()
    content = {"model": np.frombuffer(text, np.uint8), **arrays}
    file, reading = unwritten, nullcontext()
    if file is not None:
        content = copy.deepcopy(content)  # whose arrays the model takes
        reading = patch("fastmlp.persistence.models._read_arrays", return_value=content)
    else:
        np.savez(file := io.BytesIO(), **content)
    try:
        with reading:
            model = load(file)
    except ModelFileError as error:
        assert "\n" not in str(error) and str(error).endswith(".") and len(str(error)) < 800
        return str(error)
    y = X[:, :2]
    if isinstance(model, MLPClassifier):
        y = model.classes_[np.arange(len(X)) % len(model.classes_)]
        if model._label_binarizer.y_type_.startswith("multilabel"):
            y = MULTILABEL
    # What a file may hold, but no fit can do, or not in a test.
    own = model.get_params()
    parameters = {"verbose": False, "n_threads": min(model.n_threads or 2, 2)}
    parameters |= {name: min(getattr(model, name), 3) for name in ("learning_rate_init", "alpha")}
    parameters |= {"validation_fraction": model.validation_fraction or 0.1}
    model.set_params(**parameters)
    model.predict(X)
    if model.early_stopping:  # which partial_fit refuses
        model.set_params(max_iter=1, warm_start=True).fit(X, y)
    else:
        model.partial_fit(X, y)
    file = io.BytesIO()
    with patch("fastmlp.persistence.models.atomic_write", return_value=nullcontext(file)):
        save(model.set_params(**own), "unwritten")
    load(file).predict(X)
    return ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # what a fit says of parameters and names
def test_every_field_with_every_wrong_value(rich_file, model_file):
    document, arrays, pattern, _ = rich_file
    n_refused = 0
    for place in places(document):
        if not re.search(pattern, ".".join(map(str, place))):
            continue
        for value in WRONG_VALUES:
            try:
                sentence = check_refused_or_sound(
                    replaced(document, place, value), arrays, unwritten=model_file
                )
            except Exception as error:
                raise AssertionError(f"{'.'.join(map(str, place))} = {value!r}") from error
            n_refused += bool(sentence)
            if sentence and place:
                # Wrong parameters bring wrong names, and labels may be wrong for their weights.
                other = "class_weight" if place[0] == "labels" else "parameter"
                assert any(name in sentence for name in (*place[:2], other)), sentence
    assert n_refused > 200


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_field_missing_or_added(rich_file, model_file):
    document, arrays, pattern, _ = rich_file
    assert check_refused_or_sound(document, arrays) == ""
    for place in filter(len, places(document)):
        if not re.search(pattern, ".".join(map(str, place))):
            continue
        changed = without(document, place)
        sentence = check_refused_or_sound(changed, arrays, unwritten=model_file)
        if (
            (place[0] not in ("parameters", "fitted_loss", "out_activation", "metadata"))
            and place != ("versions",)
            and "history" not in place
        ):
            assert isinstance(place[-1], int) or place[-1] in sentence, place
    for place in ((), ("parameters",), ("state",), ("labels",)):
        if set(place) <= document.keys():
            changed = replaced(document, (*place, "extra"), 1)
            assert "extra'" in check_refused_or_sound(changed, arrays, unwritten=model_file)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_array_with_every_wrong_one(rich_file):
    document, arrays, _, pattern = rich_file
    changed = [name for name in arrays if re.search(pattern, name)]
    n_refused = 0
    for name in changed:
        for wrong in wrong_arrays(arrays[name]):
            try:
                sentence = check_refused_or_sound(document, {**arrays, name: wrong})
            except Exception as error:
                raise AssertionError(f"{name}: {wrong!r}") from error
            n_refused += bool(sentence)
            # Of two that do not fit each other, either may be named.
            words = r"its [a-z_]+|outputs, but|\.npy (has|does)"
            assert not sentence or re.search(words, sentence), sentence
        others = {other: a for other, a in arrays.items() if other != name}
        sentence = check_refused_or_sound(document, others)
        assert (f"it lacks '{name}'" in sentence) or name == "feature_names"
    assert n_refused > 10 * len(changed)


@pytest.mark.slow
@pytest.mark.parametrize("rich_file", ["classifier", "regressor"], indirect=True)
def test_wrong_arrays_of_other_names(rich_file):
    document, arrays, *_ = rich_file
    for name in ("model", "extra"):
        for wrong in wrong_arrays(np.zeros(7, np.uint8)):
            assert check_refused_or_sound(document, {**arrays, name: wrong})


def test_the_tables_name_all_that_there_is():
    assert persistence._DOCUMENT["state"].keys() == vars(TrainingState()).keys()


def test_a_model_from_before_a_parameter_has_its_default(tmp_path):
    model = fit()
    save(model, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as archive:
        arrays = dict(archive)
    document = json.loads(arrays["model"].tobytes())
    del document["parameters"]["n_threads"]
    arrays["model"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    np.savez(tmp_path / "model.npz", **arrays)
    assert_same(model, load(tmp_path / "model.npz"))


def test_every_truncation_is_refused(tmp_path):
    save(fit(hidden_layer_sizes=2), tmp_path / "model.npz")
    data = (tmp_path / "model.npz").read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        assert_refused(path, "")


@pytest.mark.slow
def test_damaged_bytes_change_nothing_unnoticed(tmp_path):
    model = fit(hidden_layer_sizes=2)
    save(model, tmp_path / "model.npz")
    data = bytearray((tmp_path / "model.npz").read_bytes())
    expected = model.predict_proba(X)
    n_refused = 0
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= (1, 128)[position % 2]
        try:
            loaded = load(io.BytesIO(damaged))
        except ModelFileError as error:
            assert "\n" not in str(error)
            n_refused += 1
        else:  # a date, or the like
            np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    assert n_refused > len(data) / 6


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    (tmp_path / "text").write_text("text")
    assert not is_model_file(tmp_path / "text")
