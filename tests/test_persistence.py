"""Models in files: what comes back is what was saved, and a broken file is refused."""

import io
import json
import os
import re
import stat
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError
from sklearn.svm import SVC

from fastmlp import MLPClassifier, __version__, persistence
from fastmlp.persistence import ModelFileError, is_model_file, load, save

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
    for name in ("_state", "_label_binarizer"):
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


def test_parameters_that_are_not_plain(tmp_path):
    model = fit(
        hidden_layer_sizes=np.array([4, 3]),
        alpha=np.float32(0.1),
        batch_size=np.int64(5),
        shuffle=np.True_,
        input_scale=[np.float64(0.5), np.zeros(5)],
        random_state=np.random.RandomState(0),
    )
    loaded = round_trip(model, tmp_path)
    parameters = loaded.get_params()
    assert parameters["hidden_layer_sizes"] == (4, 3)
    assert parameters["alpha"] == float(np.float32(0.1))
    assert parameters["batch_size"] == 5 and parameters["shuffle"] is True
    assert parameters["input_scale"] == (0.5, (0.0,) * 5)
    assert parameters["random_state"] is None
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
        save(SVC(), path)
    model = fit()
    for labels in ([1, "a", None], ["a", "b", "c\0"]):
        model.classes_ = np.array(labels, object)
        with pytest.raises(ValueError, match="must be numbers, booleans or strings to be saved"):
            save(model, path)
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
        (with_lying_shape, "coef_0.npy has not the length of float64 of shape"),
        (with_pickle, "classes.npy has not the length of object of shape"),
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
        (change(None, "format", 2), "written by fastmlp .*, and this is .*: upgrade"),
        (change(None, "format", "1"), "not supported between"),
        (change(None, "estimator", "MLPRegressor"), "upgrade"),
        (change("parameters", "batch_norm", 0.5), r"no parameters \['batch_norm'\]; .*upgrade"),
        (change("parameters", "activation", "sine"), "'activation' parameter of MLPClassifier"),
        (change("state", "momentum", 1), "momentum"),
        (lambda document, arrays: document.pop("labels"), "it lacks 'labels'"),
        (drop("coef_1"), "layer|outputs"),
        (drop("coef_0"), "it lacks 'coef_0'"),
        (drop("intercept_1"), "it lacks 'intercept_1'"),
        (drop("classes"), "it lacks 'classes'"),
        (drop("input_shift"), "it lacks 'input_shift'"),
        (replace("coef_1", np.zeros((3, 3))), "shape"),
        (replace("coef_1", np.zeros((4, 3), int)), "all be float32 or all float64"),
        (replace("coef_1", np.zeros((4, 3), np.float32)), "all be float32 or all float64"),
        (replace("classes", np.arange(4)), "3 outputs where 4 are needed"),
        (replace("classes", np.array([2, 1, 0])), "not sorted and unique"),
        (replace("input_scale", np.ones(4)), "do not fit 5 features"),
        (replace("feature_names", np.array(["a"])), "do not fit 5 features"),
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


def test_damaged_bytes_change_nothing_unnoticed(tmp_path):
    model = fit(hidden_layer_sizes=2)
    save(model, tmp_path / "model.npz")
    data = bytearray((tmp_path / "model.npz").read_bytes())
    expected = model.predict_proba(X)
    path = tmp_path / "damaged.npz"
    n_refused = 0
    for position in range(0, len(data), 3):
        for bit in (1, 128):
            damaged = bytearray(data)
            damaged[position] ^= bit
            path.write_bytes(damaged)
            try:
                loaded = load(path)
            except ModelFileError as error:
                assert "\n" not in str(error)
                n_refused += 1
            else:  # a date, or the like
                np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    assert n_refused > len(data) / 3


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    (tmp_path / "text").write_text("text")
    assert not is_model_file(tmp_path / "text")
