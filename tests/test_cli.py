"""The command line: in this process where that suffices, in one of its own where it matters."""

import errno
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from typer.testing import CliRunner

from fastmlp import (
    MLPClassifier,
    MLPRegressor,
    TTAClassifier,
    __version__,
    backends,
    bench,
    cli,
    datasets,
    idx,
    images,
    persistence,
    recipes,
)
from fastmlp.augment import RandomAffine
from fastmlp.convert import read_array
from fastmlp.datasets import FILE_NAMES

LOSSES = recipes.RECIPES["sgd-50"].losses
DATA_HOME = os.environ.get("FASTMLP_DATA")
USAGE_ERROR, INTERRUPTED = 2, 130


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path, monkeypatch):
    """No test finds a data set, or leaves a model, where it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "80")


def fastmlp(*args, status=0):
    """Run a command in this process; return its standard output."""
    result = CliRunner().invoke(cli.app, [str(arg) for arg in args], prog_name="fastmlp")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.stdout


def refusal(monkeypatch, capsys, *args):
    """Run a command that must fail with a sentence; return the sentence."""
    monkeypatch.setattr(sys, "argv", ["fastmlp", *map(str, args)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    captured = capsys.readouterr()
    assert caught.value.code == USAGE_ERROR
    assert re.fullmatch(r"Error: [^\n]+[.?]\n", captured.err)
    return captured.err.removeprefix("Error: ")[:-1]


COMMAND = (sys.executable, "-c", "from fastmlp.cli import main; main()")


def subprocess_of(*args, **options):
    return subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=120, **options
    )


def facts(stdout):
    """Return the summary as a mapping."""
    return dict(re.findall(r"^(\S+(?: \S+)*) {2,}(.+?) *$", stdout, re.MULTILINE))


def losses(stdout):
    return re.findall(r"^Iteration \d+, loss = ([\d.]+)", stdout, re.MULTILINE)


@pytest.fixture
def idx_directory(tmp_path):
    """A data set in which the label is the brightest of three columns; labels 5, 6 and 7."""
    rng = np.random.default_rng(0)
    directory = tmp_path / "toys"
    directory.mkdir()
    for part, n_samples in ((FILE_NAMES[:2], 90), (FILE_NAMES[2:], 30)):
        images = rng.integers(0, 100, (n_samples, 2, 3), dtype=np.uint8)
        labels = rng.integers(0, 3, n_samples)
        images[np.arange(n_samples), :, labels] += 150
        idx.write(directory / part[0], images)
        idx.write(directory / f"{part[1]}.gz", (labels + 5).astype(np.uint8))
    return directory


@pytest.fixture
def model_file(idx_directory, tmp_path):
    (X, y), _ = datasets.load_idx_directory(idx_directory)
    model = MLPClassifier((8,), input_scale=1 / 255, random_state=0, learning_rate_init=0.05)
    persistence.save(model.fit(X, y), tmp_path / "toys.npz")
    return tmp_path / "toys.npz"


def plain(text):
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", text)


# ---------------------------------------------------------------------------------------- help


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = "import sys, fastmlp.cli; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert not {"numpy", "sklearn", "rich.table", "fastmlp.datasets"} & set(modules.split())


@pytest.mark.parametrize(
    "command",
    [
        *("", "train", "evaluate", "predict", "show", "confusions", "bench", "info", "recipes"),
        *("data", "data convert"),
    ],
)
def test_help(command):
    help_text = fastmlp(*command.split(), "--help")
    assert f"fastmlp {command}".strip() in help_text
    assert max(map(len, help_text.splitlines())) <= 80


def test_help_tells_the_rules():
    text = " ".join(fastmlp("train", "-h").split())
    assert "sgd-50" in text and "fastmlp train --data digits" in text
    assert "exit status is 130" in text
    assert f"{', '.join(bench.SUITES)}, devices, or the name of a case" in " ".join(
        fastmlp("bench", "-h").replace("│", " ").split()
    )


# --------------------------------------------------------------------------------------- train


def test_weight_decay_and_clipping():
    options = "train --data digits --solver adamw --epochs 3".split()
    results = [
        fastmlp(*options, *more.split(), "--json")
        for more in ("", "--weight-decay 0", "--max-grad-norm 0.1")
    ]
    assert len({json.loads(result)["final loss"] for result in results}) == 3
    model = persistence.load("model.npz")
    assert (model.weight_decay, model.max_grad_norm) == (0.01, 0.1)


def test_train_on_digits_saves_what_it_shows():
    stdout = fastmlp("train", "--data", "digits", "--epochs", "5")
    summary = facts(stdout)
    assert list(summary) == [
        *("data set", "network", "solver", "backend", "threads", "dtype", "epochs", "final loss"),
        *("train score", "test score", "training time", "model file"),
    ]
    assert summary["network"] == "64-50-10, relu"
    assert summary["solver"] == "sgd, learning rate 0.1"
    assert summary["dtype"] == "float64"
    assert summary["epochs"] == "5 of 5, the loss had not settled"
    assert summary["model file"] == "model.npz"
    assert losses(stdout)[-1] == summary["final loss"]

    (X, y), test_part = datasets.load_digits()
    model = persistence.load("model.npz")
    assert f"{model.score(X, y):.3f}" == summary["train score"]
    assert f"{model.score(*test_part):.3f}" == summary["test score"]
    parameters = recipes.get("sgd-50").parameters | {"input_scale": 1 / 16, "max_iter": 5}
    assert model.get_params() == MLPClassifier(**parameters).get_params()
    with pytest.warns(UserWarning, match="Maximum iterations"):
        expected = MLPClassifier(**parameters).fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])


def test_every_option_reaches_the_model(idx_directory):
    fastmlp(
        *("train", "--data", idx_directory, "--hidden", "7,6", "--hidden", "5", "--epochs", "2"),
        *("--activation", "tanh", "--solver", "adam", "--batch-size", "9", "--alpha", "0.5"),
        *("--learning-rate", "0.02", "--seed", "3", "--dtype", "float32", "--early-stopping"),
        *("--input-scale", "1/100", "--backend", "numpy", "--threads", "1", "--out", "m.npz"),
    )
    parameters = persistence.load("m.npz").get_params()
    assert {name: parameters[name] for name in parameters} == MLPClassifier(
        hidden_layer_sizes=(7, 6, 5),
        max_iter=2,
        activation="tanh",
        solver="adam",
        batch_size=9,
        alpha=0.5,
        learning_rate_init=0.02,
        random_state=3,
        dtype="float32",
        early_stopping=True,
        input_scale=0.01,
        backend="numpy",
        n_threads=1,
    ).get_params()


def test_validation_scores_are_shown(idx_directory):
    stdout = fastmlp("train", "--data", idx_directory, "--early-stopping", "--epochs", "2")
    figures = r"validation loss = \d\.\d{8}, validation score = \d\.\d{4}"
    assert re.search(rf"^Iteration 2, loss = \d\.\d{{8}}, {figures}$", stdout, re.M)


def test_a_recipe_with_validation_shows_both_scores():
    stdout = fastmlp("train", "--recipe", "dropout-300", "--data", "digits", "--epochs", "2")
    assert "digits: 1149 training samples, 288 validation samples, 360 test samples" in stdout
    assert re.search(r"^Iteration 1, loss = \S+, score = 0\.\d{4}, validation loss", stdout, re.M)
    assert re.search(r"^validation score +0\.\d{3}$", stdout, re.M)
    model = persistence.load("model.npz")
    assert (model.dropout, model.loss, model.label_smoothing) == (
        0.6,
        "squared_error",
        (0.01, 0.99),
    )


def test_an_interrupt_before_training_is_told(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(MLPClassifier, "_prepare", interrupted)
    result = CliRunner().invoke(cli.app, ["train", "--data", "digits"])
    assert result.exit_code == INTERRUPTED
    assert "no epoch was finished, so nothing is saved." in result.stderr
    assert not Path("model.npz").exists()


def test_what_a_recipe_schedules_gives_way():
    options = "train", "--recipe", "dropout-300", "--data", "digits", "--epochs", "2"
    assert facts(fastmlp(*options))["solver"] == "adam, learning rate 0.001 to 0.001"
    stdout = fastmlp(*options, "--learning-rate", "0.5")
    assert facts(stdout)["solver"] == "adam, learning rate 0.5"
    assert persistence.load("model.npz").lr_schedule is None
    stdout = fastmlp(*options, "--solver", "lbfgs")
    assert facts(stdout)["solver"] == "lbfgs"


def test_every_data_set_has_its_name_in_the_help():
    from fastmlp.cli.options import DATA, DATA_NAMES

    assert DATA_NAMES == (*datasets.DATASETS, "digits")
    assert all(name in DATA.help for name in DATA_NAMES)


def test_every_optimiser_is_a_solver():
    from fastmlp.cli.train import SOLVERS
    from fastmlp.core.optimizers import OPTIMIZERS

    assert sorted(SOLVERS) == sorted((*OPTIMIZERS, "lbfgs"))


def test_images_that_are_not_square_are_augmented_too(tmp_path):
    rng = np.random.RandomState(0)
    folder = tmp_path / "wide"
    folder.mkdir()
    for kind, n in (("train", 60), ("t10k", 20)):
        idx.write(folder / f"{kind}-images-idx3-ubyte", rng.randint(0, 256, (n, 4, 6), np.uint8))
        idx.write(folder / f"{kind}-labels-idx1-ubyte", (np.arange(n) % 3).astype(np.uint8))
    fastmlp("train", "--data", folder, "--augment", "--epochs", "1")


def test_dropout_and_augmentation():
    fastmlp("train", "--data", "digits", "--epochs", "2", "--dropout", "0.25")
    assert persistence.load("model.npz").dropout == 0.25
    options = "--data", "digits", "--epochs", "2", "--hidden", "20,10", "--dropout", "0.25,0.5"
    plain = fastmlp("train", *options)
    assert persistence.load("model.npz").dropout == (0.25, 0.5)
    augmented = fastmlp("train", *options, "--augment")
    assert str(persistence.load("model.npz").augment).startswith("Compose(RandomAffine(")
    assert facts(augmented)["dropout"] == "0.25, 0.5"
    assert facts(augmented)["augmentation"] == "RandomAffine"
    assert not {"dropout", "augmentation"} & facts(fastmlp("train", *options[:4])).keys()
    assert plain.splitlines()[1] != augmented.splitlines()[1]
    for rate in ("1", "x", "0.1,", ""):
        result = CliRunner().invoke(cli.app, ["train", "--dropout", rate])
        assert result.exit_code == USAGE_ERROR
        assert "must be a probability below 1" in result.stderr


def test_a_recipe_s_learning_rate_is_for_its_solver():
    fastmlp("train", "--data", "digits", "--solver", "adam", "--epochs", "1")
    assert persistence.load("model.npz").learning_rate_init == 0.001
    fastmlp("train", "--data", "digits", "--solver", "sgd", "--epochs", "1")
    assert persistence.load("model.npz").learning_rate_init == 0.1


@pytest.mark.parametrize(
    ("option", "scale"),
    [
        ((), 1 / 249),
        (("--input-scale", "auto"), 1 / 249),
        (("--input-scale", "standard"), "standard"),
        (("--input-scale", "none"), None),
        (("--input-scale", "0.25"), 0.25),
        (("--input-scale", "1/255"), 1 / 255),
    ],
)
def test_input_scale(option, scale, idx_directory):
    (X, _), _ = datasets.load_idx_directory(idx_directory)
    assert X.max() == 249
    fastmlp("train", "--data", idx_directory, "--epochs", "1", *option)
    assert persistence.load("model.npz").input_scale == scale


def test_without_mnist_the_digits_are_used(monkeypatch, tmp_path):
    load = datasets.load

    def offline(name, *args, **kwargs):
        if name == "mnist":
            raise datasets.DatasetError("MNIST could not be downloaded:\n  a mirror: no answer")
        return load(name, *args, **kwargs)

    monkeypatch.setattr(datasets, "load", offline)
    result = CliRunner().invoke(cli.app, ["train", "--epochs", "2"])
    assert result.exit_code == 0
    note = "mnist is not available ('fastmlp data fetch mnist' says why); using the digits."
    assert result.stderr == f"Note: {note}\n"
    assert facts(result.stdout)["data set"] == "digits"
    assert persistence.load("model.npz").input_scale == 1 / 16  # not the recipe's
    for asked in (["--data", "mnist"], ["--recipe", "sgd-50"], ["--data-home", "elsewhere"]):
        with pytest.raises(datasets.DatasetError):
            fastmlp("train", *asked)


def test_a_spoiled_mnist_is_an_error_not_a_reason_for_digits(monkeypatch, capsys, tmp_path):
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    for name in FILE_NAMES:
        idx.write(tmp_path / "data" / "mnist" / name, np.zeros(3, np.uint8))
    message = refusal(monkeypatch, capsys, "train")
    assert "is not the genuine file of MNIST" in message
    assert not Path("model.npz").exists()


def test_data_info_of_a_data_set_that_is_not_here(monkeypatch, capsys):
    message = refusal(monkeypatch, capsys, "data", "info", "kmnist")
    assert message == "kmnist is not on this machine: 'fastmlp data fetch kmnist' downloads it."


def test_version():
    assert fastmlp("--version") == fastmlp("-V") == f"{__version__}\n"


def test_published_figures_stand_beside_an_unchanged_recipe_only(monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *_: datasets.load_digits())
    scale = ("--input-scale", "1/255")
    stdout = fastmlp("train", *scale, "--no-save")
    assert facts(stdout)["test score"].endswith(" (published: 0.970)")
    assert facts(stdout)["model file"] == "not saved"
    stdout = fastmlp("train", *scale, "--no-save", "--epochs", "9")
    assert "published" not in stdout
    assert not Path("model.npz").exists()


def test_warnings_become_notes(idx_directory):
    result = CliRunner().invoke(
        cli.app,
        ["train", "--data", str(idx_directory), "--input-scale", "none", "--epochs", "1"],
    )
    assert result.stderr.startswith("Note: The features span ")
    assert result.stderr.count("\n") == 1 and ".py" not in result.stderr


@pytest.fixture
def without_cython(monkeypatch):
    load = backends._load
    missing = (None, "it was not built")
    monkeypatch.setattr(backends, "_load", lambda name: missing if name == "cython" else load(name))


@pytest.mark.slow
@pytest.mark.usefixtures("without_cython")
def test_without_cython_train_says_why_it_uses_another(idx_directory, monkeypatch, capsys):
    train = ["train", "--data", str(idx_directory), "--epochs", "1"]
    result = CliRunner().invoke(cli.app, train)
    assert result.stderr == "Note: the cython backend is not available: it was not built.\n"
    assert facts(result.stdout)["backend"] == "numba"
    message = refusal(monkeypatch, capsys, *train, "--backend", "cython")
    assert message.startswith("backend='cython' is not available: it was not built. Available: ")


@pytest.mark.slow
def test_without_any_compiled_backend_a_note_says_so(idx_directory, monkeypatch):
    load = backends._load
    missing = {"cython": (None, "it was not built"), "numba": (None, "it is not installed")}
    monkeypatch.setattr(backends, "_load", lambda name: missing.get(name) or load(name))
    data = ["--data", str(idx_directory)]
    for arguments in (["train", *data, "--epochs", "1"], ["evaluate", "model.npz", *data]):
        monkeypatch.setattr("fastmlp.estimators.hints._warned_of_backend", False)
        result = CliRunner().invoke(cli.app, arguments)
        assert result.stderr.startswith("Note: backend='auto' uses NumPy, which is slower, ")
        assert "(cython: it was not built; numba: it is not installed)" in result.stderr
        assert result.stderr.count("\n") == 1
        assert facts(result.stdout)["backend"] == "numpy"


def test_an_unknown_instruction_set_is_one_sentence(idx_directory, monkeypatch, capsys):
    load = backends._load
    missing = (None, "FASTMLP_ISA='sse9' is not an instruction set; unset it")
    monkeypatch.setattr(backends, "_load", lambda name: missing if name == "cython" else load(name))
    message = refusal(monkeypatch, capsys, "train", "--data", str(idx_directory), "--epochs", "1")
    assert message == "FASTMLP_ISA='sse9' is not an instruction set; unset it."


# ---------------------------------------------------------------------------------- the model file


def test_a_model_is_replaced_and_nothing_else(idx_directory, monkeypatch, capsys):
    train = ("train", "--data", idx_directory, "--epochs", "1", "--out")
    fastmlp(*train, "m.npz")
    fastmlp(*train, "m.npz", "--seed", "2")
    assert persistence.load("m.npz").random_state == 2

    Path("empty").touch()
    fastmlp(*train, "empty")
    assert persistence.is_model_file("empty")

    np.savez("mine.npz", X=[1, 2])
    for name in ("mine.npz", "toys/train-images-idx3-ubyte"):
        before = Path(name).read_bytes()
        message = refusal(monkeypatch, capsys, *train, name)
        assert message == f"{name} exists and is not a model: use another file with --out."
        assert Path(name).read_bytes() == before
    for name in ("none/m.npz", "toys"):
        assert "--out must be a file in a directory that exists" in refusal(
            monkeypatch, capsys, *train, name
        )


def test_a_directory_that_cannot_be_written_is_noticed_before_training(monkeypatch, capsys):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied", "a temporary name")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    message = refusal(monkeypatch, capsys, "train", "--data", "digits", "--out", "m.npz")
    assert message == "m.npz: cannot be written."


@pytest.mark.skipif(os.name == "nt", reason="POSIX devices")
def test_the_model_may_go_to_a_device():
    fastmlp("train", "--data", "digits", "--epochs", "1", "--out", os.devnull)
    assert not Path(os.devnull).is_file()


# ----------------------------------------------------------------------------------- interruption


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGINT")
def test_ctrl_c_keeps_what_was_learned():
    arguments = ("train", "--data", "digits", "--hidden", "300", "--epochs", "9000")
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        shown = ""
        while "Iteration 2," not in shown:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            shown += line
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert stderr == "Note: Training interrupted by user.\n"
    summary = facts(stdout)
    assert re.fullmatch(r"\d+ of 9000", summary["epochs"])
    assert summary["model file"] == "model.npz"
    model = persistence.load("model.npz")
    assert model.n_iter_ == int(summary["epochs"].split()[0]) >= 2
    assert f"{model.score(*datasets.load_digits()[1]):.3f}" == summary["test score"]


def test_ctrl_c_in_the_first_epoch_saves_nothing(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastmlp.backends.numpy_backend.Engine.train_epoch", interrupt)
    stdout = fastmlp("train", "--data", "digits", "--backend", "numpy", status=INTERRUPTED)
    assert not facts(stdout) and not Path("model.npz").exists()


def test_ctrl_c_elsewhere_is_quiet(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "load", interrupt)
    assert fastmlp("train", status=INTERRUPTED) == ""


# ------------------------------------------------------------------------------ evaluate, predict


def test_evaluate(model_file, idx_directory):
    summary = facts(fastmlp("evaluate", model_file, "--data", idx_directory))
    _, (X_test, y_test) = datasets.load_idx_directory(idx_directory)
    model = persistence.load(model_file)
    n_errors = int((model.predict(X_test) != y_test).sum())
    assert summary["test errors"] == f"{n_errors} of 30"
    assert summary["test score"] == f"{model.score(X_test, y_test):.3f}"
    assert float(summary["train score"]) > 0.9
    assert summary["network"] == "6-8-3, relu"
    assert fastmlp("evaluate", model_file, "--data", idx_directory, "--backend", "numpy")


def test_copies_of_augmented_images_are_averaged():
    fastmlp("train", "--data", "digits", "--augment", "--epochs", "2", "--out", "digits.npz")
    model = persistence.load("digits.npz")
    (X, y), (X_test, y_test) = datasets.load_digits()
    averaged = TTAClassifier(FrozenEstimator(model), n_copies=3).fit(X, y)
    summary = facts(fastmlp("evaluate", "digits.npz", "--data", "digits", "--copies", "3"))
    n_errors = int((averaged.predict(X_test) != y_test).sum())
    n_alone = int((model.predict(X_test) != y_test).sum())
    assert n_errors != n_alone
    alone, over = 1 - n_alone / len(y_test), 1 - n_errors / len(y_test)
    assert summary["test score"] == f"{alone:.3f}"
    assert summary["test errors"] == f"{n_alone} of {len(y_test)}"
    assert summary["averaged score"] == f"{over:.3f}, {n_errors} errors, over 3 copies of each"
    document = json.loads(
        fastmlp("evaluate", "digits.npz", "--data", "digits", "--copies", "3", "--json")
    )
    assert (document["test errors"], document["averaged errors"]) == (n_alone, n_errors)
    assert document["copies"] == 3 and document["averaged score"] == pytest.approx(over)
    np.save("X.npy", X_test)
    assert fastmlp("predict", "digits.npz", "X.npy", "--copies", "3").split() == [
        str(label) for label in averaged.predict(X_test)
    ]
    _, *rows = fastmlp("predict", "digits.npz", "X.npy", "--copies", "3", "--proba").splitlines()
    found = np.array([row.split(",") for row in rows], float)
    np.testing.assert_allclose(found, averaged.predict_proba(X_test), rtol=1e-5, atol=1e-12)


def test_a_recipe_with_test_time_augmentation():
    arguments = ("train", "--recipe", "record", "--data", "digits", "--epochs", "2", "--seed", "3")
    summary = facts(fastmlp(*arguments))
    model = persistence.load("model.npz")
    (X, y), (X_test, y_test) = datasets.load_digits()
    assert model.hidden_layer_sizes == (1200, 800, 400)
    averaged = TTAClassifier(FrozenEstimator(model), n_copies=32).fit(X, y)
    score = averaged.score(X_test, y_test)
    assert score != model.score(X_test, y_test)
    expected = f"{score:.3f}, over 32 augmented copies of each image"
    assert summary["averaged score"] == expected
    assert json.loads(fastmlp(*arguments, "--json"))["averaged score"] == pytest.approx(score)
    card = model.metadata_["card"]["scores"]
    name = f"accuracy on {len(y_test)} test images, averaged over 32 augmented copies of each"
    assert card[name] == pytest.approx(score)


def test_copies_need_augmentation(model_file, idx_directory, monkeypatch, capsys):
    for arguments in (
        ["evaluate", model_file, "--data", idx_directory],
        ["predict", model_file, "x"],
    ):
        message = refusal(monkeypatch, capsys, *arguments, "--copies", "3")
        assert "--copies is for networks that were trained on augmented images" in message
        assert message.endswith("which files do not keep): omit it, or train with --augment.")
    X = np.zeros((20, 6)) + np.arange(20)[:, None]
    augment = RandomAffine(image_shape=(2, 3))
    model = MLPRegressor(
        hidden_layer_sizes=(2,),
        augment=augment,
        tol=10,
        target_scale="standard",
        input_scale="standard",
    )
    persistence.save(model.fit(X, X[:, 0]), "numbers.npz")
    message = refusal(monkeypatch, capsys, "predict", "numbers.npz", "x", "--copies", "3")
    assert message == "--copies is for classifiers, but numbers.npz predicts numbers: omit it."


def test_files_of_test_time_augmentation(tmp_path, capsys, monkeypatch):
    """The commands take them for the classifiers that they are."""
    (X, y), (X_test, y_test) = datasets.load_digits()
    network = MLPClassifier((8,), augment=RandomAffine(shift=1), input_scale=1 / 16, tol=1)
    model = TTAClassifier(FrozenEstimator(network.fit(X, y)), n_copies=3).fit(X, y)
    persistence.save(model, "averaged.skops")
    for options, n_copies in ([], 3), (["--threads", "1"], 3), (["--copies", "5"], 5):
        shown = facts(fastmlp("evaluate", "averaged.skops", "--data", "digits", *options))
        expected = model.set_params(n_copies=n_copies).score(X_test, y_test)
        assert expected in (
            pytest.approx(float(shown[name]), abs=1e-3)
            for name in shown
            if name in ("test score", "averaged score")
        )
    assert "64-8-10" in fastmlp("show-model", "averaged.skops")
    assert "export its estimator_" in refusal(
        monkeypatch, capsys, "export", "averaged.skops", "--to", "onnx"
    )


def test_a_recipe_without_augmentation_does_not_average():
    arguments = ("train", "--recipe", "record", "--data", "digits", "--epochs", "1")
    assert "averaged score" not in facts(fastmlp(*arguments, "--solver", "lbfgs"))


@pytest.mark.parametrize("form", ["raw", "gz", "npy", "flat.npy", "npz"])
def test_predict(form, model_file, idx_directory):
    raw = idx_directory / FILE_NAMES[2]
    images = idx.read(raw)
    path = Path(f"images.{form}")
    if form == "raw":
        path = raw
    elif form == "gz":
        path.write_bytes(gzip.compress(raw.read_bytes()))
    elif form == "npz":
        np.savez(path, images)
    else:
        np.save(path, images.reshape(30, 6) if form == "flat.npy" else images)
    model = persistence.load(model_file)
    expected = model.predict(images.reshape(30, 6))
    assert fastmlp("predict", model_file, path) == "".join(f"{label}\n" for label in expected)

    header, *rows = fastmlp("predict", model_file, path, "--proba").splitlines()
    assert header == "5,6,7"
    probabilities = np.array([row.split(",") for row in rows], float)
    np.testing.assert_allclose(
        probabilities, model.predict_proba(images.reshape(30, 6)), rtol=1e-5, atol=1e-12
    )


def test_predict_prints_labels_of_any_kind(tmp_path):
    X = np.random.RandomState(0).normal(size=(40, 3))
    np.save("X.npy", X)
    text = np.array(["a,b", 'say "c"', "d"])[np.arange(40) % 3]
    for y, pattern in (
        (text, '("a,b"|"say ""c"""|d)\n'),
        ((X > 0).astype(int), "[01],[01],[01]\n"),
    ):
        persistence.save(MLPClassifier((9,), max_iter=200, tol=1).fit(X, y), "m.npz")
        assert re.fullmatch(f"(?:{pattern}){{40}}", fastmlp("predict", "m.npz", "X.npy"))


def test_predict_notes_what_the_library_warns_of(model_file, idx_directory):
    model = persistence.load(model_file)
    model.feature_names_in_ = np.array(list("abcdef"), object)
    persistence.save(model, "named.npz")
    images = idx_directory / FILE_NAMES[2]
    result = CliRunner().invoke(cli.app, ["predict", "named.npz", str(images)])
    assert result.stderr.startswith("Note: X does not have valid feature names")
    assert result.stderr.count("\n") == 1 and result.stdout.count("\n") == 30


@pytest.mark.slow
def test_predict_into_a_closed_pipe(model_file, idx_directory):
    command = [*COMMAND, "predict", str(model_file), str(idx_directory / FILE_NAMES[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


# ------------------------------------------------------------------------------------ info, data


def test_info(tmp_path):
    summary = facts(fastmlp("info"))
    assert summary["fastmlp"] == __version__ and summary["NumPy"] == np.__version__
    assert summary["numpy backend"] == "available"
    assert int(summary["threads"]) >= 1
    assert summary["data directory"] == str(tmp_path / "data")
    assert ("instruction set" in summary) == (summary["cython backend"] == "available")


@pytest.mark.usefixtures("without_cython")
def test_info_says_why_a_backend_is_missing():
    summary = facts(fastmlp("info"))
    assert summary["cython backend"] == "not available: it was not built"
    assert "instruction set" not in summary


def test_data_fetch(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets, "fetch", lambda name, home: (home or tmp_path) / name)
    assert fastmlp("data", "fetch", "mnist", "kmnist", "--data-home", "d").splitlines() == [
        *("d/mnist", "d/kmnist"),
    ]


def test_data_info(idx_directory):
    rows = [line.split() for line in fastmlp("data", "info", idx_directory).splitlines()]
    assert rows == [
        [str(idx_directory)],
        ["file", "kind", "type", "shape", "bytes", "gzip"],
        ["t10k-images-idx3-ubyte", "images", "uint8", "30", "x", "2", "x", "3", "180", "no"],
        ["t10k-labels-idx1-ubyte.gz", "labels", "uint8", "30", "30", "yes"],
        ["train-images-idx3-ubyte", "images", "uint8", "90", "x", "2", "x", "3", "540", "no"],
        ["train-labels-idx1-ubyte.gz", "labels", "uint8", "90", "90", "yes"],
    ]
    idx.write("an array", np.zeros((2, 0), np.float32))
    assert fastmlp("data", "info", "an array").split()[-6:] == ["float32", "2", "x", "0", "0", "no"]


@pytest.fixture
def qmnist_root(idx_directory, tmp_path):
    """torchvision's root with QMNIST in it, whose labels have eight columns."""
    raw = tmp_path / "root" / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    for split, part in (("train", FILE_NAMES[:2]), ("test", FILE_NAMES[2:])):
        labels = idx.read(idx_directory / f"{part[1]}.gz")
        columns = np.full((len(labels), 8), 99, np.int32)
        columns[:, 0] = labels
        images = idx.read(idx_directory / part[0])
        idx.write(raw / f"qmnist-{split}-images-idx3-ubyte.gz", images)
        idx.write(raw / f"qmnist-{split}-labels-idx2-int.gz", columns)
    return tmp_path / "root"


@pytest.mark.slow
def test_labels_of_qmnist_are_said_wherever_they_are_read(qmnist_root, idx_directory):
    def run(*args):
        result = CliRunner().invoke(cli.app, list(map(str, args)))
        assert result.exit_code == 0, result.output
        return result

    said = f"Note: the labels of {qmnist_root} have 8 columns; column 0 is the class.\n"
    for data in (qmnist_root, idx_directory):
        options = ("--data", data, "--hidden", "8", "--epochs", 3, "--seed", 1)
        trained = run("train", *options)
        shown = [trained, run("evaluate", "model.npz", "--data", data)]
        shown += [run("show", "--data", data, "--n", 2)]
        shown += [run("confusions", "model.npz", "--data", data)]
        for result in shown:
            assert (said in result.stderr) == (data == qmnist_root)
        if data == qmnist_root:
            expected = losses(trained.stdout)
    assert losses(trained.stdout) == expected  # the same images and classes
    converted = run("data", "convert", qmnist_root, "d.npz")
    assert "-train-labels-idx2-int.gz holds 8 columns; column 0, the class, is" in converted.stderr
    with np.load("d.npz") as archive:
        assert set(archive["y_test"]) <= {5, 6, 7}


def test_data_info_of_a_root_of_torchvision(qmnist_root):
    rows = fastmlp("data", "info", qmnist_root).splitlines()
    assert rows[0] == str(qmnist_root / "QMNIST" / "raw") and len(rows) == 6
    assert re.search("qmnist-test-labels.* labels, the class in column 0 +int32 +30 x 8 ", rows[3])
    (other := qmnist_root / "MNIST" / "raw").mkdir(parents=True)
    idx.write(other / "train-images-idx3-ubyte", np.zeros((1, 2, 3), np.uint8))
    rows = fastmlp("data", "info", qmnist_root).splitlines()
    assert str(other) in rows and str(qmnist_root / "QMNIST" / "raw") in rows


def test_mnist_is_found_where_torchvision_has_put_it(monkeypatch, tmp_path):
    """The digests are right, so the genuine files are where they are expected."""
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in FILE_NAMES:
        (raw / name).write_bytes(b"")
    for home in ("root", "root/MNIST"):
        monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / home))
        with pytest.raises(datasets.SpoiledFileError, match="is not the genuine file") as caught:
            datasets.load("mnist", download=False)
        assert str(raw) in str(caught.value) and "delete" not in str(caught.value)


@pytest.mark.slow
def test_data_info_of_pictures(monkeypatch, capsys):
    pytest.importorskip("PIL", reason="images need Pillow: fastmlp[images]")
    fastmlp("data", "convert", "digits", "pictures")
    rows = fastmlp("data", "info", "pictures").splitlines()
    assert rows[0] == "pictures/train: 1437 images of 8 x 8, 10 labels"
    assert rows[12] == "pictures/test: 360 images of 8 x 8, 10 labels"
    assert [row.split() for row in rows[1:4]] == [["label", "pictures"], ["0", "143"], ["1", "146"]]
    assert len(rows) == 24
    images.save_folder(np.zeros((1, 2, 3), np.uint8), ["x"], "pictures/test/more")
    Path("pictures/test/3/none.png").touch()
    result = CliRunner().invoke(cli.app, ["data", "info", "pictures/test"])
    assert result.stdout.splitlines()[0] == "pictures/test: 360 images of 8 x 8, 10 labels"
    assert result.stderr == ("Note: 2 of its files would be skipped: 3/none.png (is empty), ....\n")
    os.renames("pictures/test/more/x/0.png", "pictures/test/3/0.png")
    stdout = fastmlp("data", "info", "pictures/test")
    assert stdout.startswith("pictures/test: 361 images of 2 sizes, most of 8 x 8, 10 labels\n")
    message = refusal(monkeypatch, capsys, "data", "info", "pictures/test/3")
    assert message.startswith("pictures/test/3 must hold IDX files, or one folder of images per la")
    for label in range(150):
        images.save_folder(np.zeros((1, 2, 3), np.uint8), ["0"], f"many/{label}")
    with pytest.raises(ValueError, match="got such folders in 0, 1, 2, .*: use one of these"):
        fastmlp("data", "info", "many")
    images.save_folder(np.zeros((150, 2, 3), np.uint8), np.arange(150), "labels")
    rows = fastmlp("data", "info", "labels").splitlines()
    assert len(rows) == 103 and rows[-1].split() == ["..."]


def test_data_info_of_nothing_that_is_known(monkeypatch, capsys):
    Path("empty").mkdir()
    message = refusal(monkeypatch, capsys, "data", "info", "empty")
    assert message == (
        "empty must hold IDX files, or one folder of images per label, got an empty directory."
    )


@pytest.mark.parametrize("start", ["a-idx3-ubyte", "a.npy", "a.npz", "a.gz"])
@pytest.mark.parametrize("end", ["b-idx3-ubyte", "b.npy", "b.npz", "b.gz"])
@pytest.mark.parametrize("array", [np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.ones((0, 2))])
def test_convert(start, end, array):
    np.save("source.npy", array)
    fastmlp("data", "convert", "source.npy", start)
    stdout = fastmlp("data", "convert", start, end)
    assert stdout == f"{end}: {array.dtype} of shape {array.shape}\n"
    result = read_array(Path(end))
    np.testing.assert_array_equal(result, array)
    assert result.dtype == array.dtype
    assert (Path(end).read_bytes()[:2] == b"\x1f\x8b") == (end == "b.gz")


def test_convert_does_not_overwrite(monkeypatch, capsys):
    np.save("a.npy", np.arange(3, dtype=np.uint8))
    Path("b.npy").write_text("precious")
    message = refusal(monkeypatch, capsys, "data", "convert", "a.npy", "b.npy")
    assert message == "b.npy exists: use another name, or replace it with --force."
    assert Path("b.npy").read_text() == "precious"
    fastmlp("data", "convert", "a.npy", "b.npy", "--force")
    fastmlp("data", "convert", "b.npy", "b.npy", "--force")
    assert np.load("b.npy").tolist() == [0, 1, 2]


def test_convert_a_data_set(idx_directory):
    stdout = fastmlp("data", "convert", idx_directory, "toys.csv")
    assert stdout.splitlines() == [
        "toys_train.csv: 90 images of 2 x 3, 3 labels",
        "toys_test.csv: 30 images of 2 x 3, 3 labels",
    ]
    fastmlp("data", "convert", "toys.csv", "toys-idx")
    for name in FILE_NAMES:
        (path,) = idx_directory.glob(f"{name}*")
        np.testing.assert_array_equal(idx.read(f"toys-idx/{name}"), idx.read(path))
    stdout = fastmlp("data", "convert", "toys_test.csv", "test-images-idx3-ubyte")
    assert stdout.splitlines() == [
        "test-images-idx3-ubyte: uint8 of shape (30, 2, 3)",
        "test-labels-idx1-ubyte: uint8 of shape (30,)",
    ]


@pytest.mark.slow
def test_convert_pictures(monkeypatch, capsys):
    pytest.importorskip("PIL", reason="images need Pillow: fastmlp[images]")
    stdout = fastmlp("data", "convert", "digits", "pictures")
    assert stdout.splitlines() == [
        "pictures/train: 1437 images of 8 x 8, 10 labels",
        "pictures/test: 360 images of 8 x 8, 10 labels",
    ]
    Path("pictures/test/3/nothing.png").touch()
    arguments = ["data", "convert", "pictures/test", "d.npz", "--size", "4x5"]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.stdout == "d.npz: x (360, 4, 5), y (360,)\n"
    assert result.stderr == "Note: 1 file was left out: 3/nothing.png (is empty).\n"
    for force in ((), ("--force",)):
        message = refusal(monkeypatch, capsys, "data", "convert", "digits", "pictures", *force)
        assert message.startswith("pictures ")
    Path("pictures/test/3/nothing.png").unlink()
    fastmlp("data", "convert", "digits", "pictures", "--force")


def test_convert_without_pillow(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "PIL", None)
    message = refusal(monkeypatch, capsys, "data", "convert", "digits", "pictures")
    assert message == "images need Pillow: pip install 'fastmlp[images]'."
    assert not Path("pictures").exists()


@pytest.mark.slow
@pytest.mark.parametrize("quiet_seconds", [0, 60])
def test_a_bar_is_shown_while_pictures_are_written(quiet_seconds, on_terminal):
    pytest.importorskip("PIL", reason="images need Pillow: fastmlp[images]")
    code = f"cli.progress._QUIET_SECONDS = {quiet_seconds}; cli.main()"
    shown = plain(on_terminal("data", "convert", "digits", "pictures", code=code))
    assert "pictures/test: 360 images of 8 x 8, 10 labels" in shown
    assert ("/1437" in shown) == (quiet_seconds == 0)
    if quiet_seconds:
        assert shown.startswith("pictures/train")


# ----------------------------------------------------------------------------------------- bench

TINY = bench.Case(
    name="tiny",
    about="64-8-10, Adam",
    group="tabular",
    data="digits",
    parameters={"hidden_layer_sizes": [8], "max_iter": 2},
    ours=bench.Contender("fastmlp", "float64"),
    peers=(bench.Contender("sklearn", "float64"),),
    floor="float64",
)


def measured(difference=0.0, **peer):
    """Return what `bench.measure` returns for a case, without measuring."""
    values = bench.summary([0.25, 0.5, 0.5])
    peer = {"label": "scikit-learn float64", "library": "sklearn"} | (
        peer
        or values
        | {"ratio": bench.summary([2.0, 4.0, 3.0])}
        | {"losses": bench.compare([1.0 + difference], [1.0], 1e-8)}
    )
    return {
        "name": "tiny", "about": "64-8-10, Adam", "group": "tabular", "unit": "s per epoch",
        "ours": {"label": "fastmlp float64", **values}, "peers": [peer],
    }  # fmt: skip


@pytest.mark.slow
def test_bench(monkeypatch):
    monkeypatch.setattr(bench.cases, "CASES", (TINY,))
    stdout = fastmlp("bench", "--quick", "--suite", "tabular", "--out", "run.json")
    line = stdout.splitlines()[-1]
    assert line.startswith("tiny") and "scikit-learn float64" in line
    run = json.loads(Path("run.json").read_text())
    assert run["passed"] and run["quick"] and run["versions"]["fastmlp"] == __version__
    (entry,) = run["cases"]
    (peer,) = entry["peers"]
    assert peer["losses"]["equal"]
    assert f"{peer['ratio']['median']:.1f} ({peer['ratio']['lowest']:.1f} to " in line
    assert f"{1 / entry['floor']['ratio']['median']:.2f}" == line.split()[-1]


@pytest.mark.parametrize(("difference", "status"), [(0.0, 0), (1e-9, 0), (1e-3, 1)])
def test_bench_fails_if_losses_differ(monkeypatch, difference, status):
    monkeypatch.setattr(bench, "measure", lambda *_: measured(difference))
    stdout = fastmlp("bench", "--suite", "sparse", "--out", "run.json", status=status)
    assert "500 ms" in stdout and "3.0 (2.0 to 4.0)" in stdout
    assert ("FAILED" in stdout) == bool(status)
    assert json.loads(Path("run.json").read_text())["passed"] != bool(status)


def test_bench_says_what_runs_before_it_measures(monkeypatch):
    def fail(*_):
        raise KeyError("measured")

    machine = {"cpu": "AMD EPYC", "cpu_family": 23, "cpu_model": 1, "threads": 2}
    machine["backend"] = "numpy"
    monkeypatch.setattr(bench, "machine", lambda: machine)
    monkeypatch.setattr(bench, "measure", fail)
    result = CliRunner().invoke(cli.app, ["bench"])
    assert result.stdout == "AMD EPYC (family 23, model 1), numpy, 2 threads\n"
    machine |= {"cpu_family": None, "backend": backends.resolve(), "threads": 1}
    isa = getattr(backends.get(), "ISA", None)
    result = CliRunner().invoke(cli.app, ["bench"])
    assert isinstance(result.exception, KeyError)
    words = f"{machine['backend']} ({isa})" if isa else machine["backend"]
    assert result.stdout == f"AMD EPYC, {words}, 1 thread\n"
    assert CliRunner().invoke(cli.app, ["bench", "--json"]).stdout == ""


def test_bench_says_who_is_missing(monkeypatch, capsys):
    gone = {"name": "other", "about": "", "group": "sparse", "unit": "s", "missing": "no data."}
    entries = iter([measured(missing="JAX is not installed."), gone])
    monkeypatch.setattr(bench, "measure", lambda *_: next(entries))
    monkeypatch.setattr(bench.cases, "CASES", (TINY, TINY))
    result = CliRunner().invoke(cli.app, ["bench"])
    assert result.exit_code == 0
    assert (
        "Note: tiny, compared with scikit-learn float64: JAX is not installed.\n" in result.stderr
    )
    assert "Note: other: no data.\n" in result.stderr


def test_bench_refuses_before_it_measures(monkeypatch, capsys):
    monkeypatch.delattr(bench, "measure")
    fault = refusal(monkeypatch, capsys, "bench", "--suite", "fast")
    assert fault.startswith("a suite must be one of mnist, tabular,")
    fault = refusal(monkeypatch, capsys, "bench", "--out", "nowhere/run.json")
    assert fault == "--out must be a file in a directory that exists, got nowhere/run.json."
    fault = refusal(monkeypatch, capsys, "bench", "mnist")
    assert fault == "bench has no arguments, got mnist: use '--suite mnist' for a suite."
    monkeypatch.setattr(bench.chart, "find_spec", lambda name: None)
    fault = refusal(monkeypatch, capsys, "bench", "--plot", ".")
    assert fault == "a chart needs matplotlib: pip install 'fastmlp[plot]'."


# -------------------------------------------------------------------------------------- pictures


PNG = b"\x89PNG"


@pytest.fixture
def without_matplotlib(monkeypatch):
    monkeypatch.setattr("fastmlp.displays.layout.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def png_size(path):
    """Return the width and height that the header of a PNG file says."""
    header = Path(path).read_bytes()[:24]
    assert header.startswith(PNG)
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:], "big")


@pytest.mark.slow
def test_train_draws_its_pictures():
    folder = Path("new/pictures")
    train = ("train", "--data", "digits", "--epochs", "2", "--early-stopping", "--plots", folder)
    stdout = fastmlp(*train)
    names = ["confusion.png", "loss_curve.png", "mistakes.png", "weights.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert all(min(png_size(folder / name)) > 400 for name in names)
    drawn = facts(stdout)["pictures"].split(", ")
    assert sorted(Path(path) for path in drawn) == [folder / name for name in names]


@pytest.mark.slow
def test_pictures_of_images_that_are_no_squares(idx_directory):
    names = ("weights.png", "mistakes.png")
    for name in names:
        Path(name).write_text("an older one")
    fastmlp("train", "--data", idx_directory, "--epochs", "2", "--plots", ".")  # 2 x 3
    assert all(map(png_size, names))


@pytest.fixture
def table_directory(idx_directory):
    """A data set whose samples are no images."""
    for name in (FILE_NAMES[0], FILE_NAMES[2]):
        images = idx.read(idx_directory / name)
        idx.write(idx_directory / name, images.reshape(len(images), -1))
    return idx_directory


NO_IMAGES = "must hold images to draw them, got a file without rows and columns: IDX files "


@pytest.mark.slow
def test_what_can_be_drawn_of_samples_that_are_no_images(
    model_file, table_directory, monkeypatch, capsys
):
    train = ["train", "--data", str(table_directory), "--epochs", "2", "--plots", "."]
    result = CliRunner().invoke(cli.app, train)
    assert result.stderr.startswith(f"Note: no weights.png and mistakes.png: {table_directory} ")
    assert result.stderr.count("\n") == 1 and NO_IMAGES in result.stderr
    assert facts(result.stdout)["pictures"] == "loss_curve.png, confusion.png"
    assert NO_IMAGES in refusal(monkeypatch, capsys, "show", "--data", table_directory)
    pair = ("confusions", model_file, "--data", table_directory, "--pair", "5,6")
    assert "mistake" in fastmlp(*pair)
    assert NO_IMAGES in refusal(monkeypatch, capsys, *pair, "--out", "a.png")


@pytest.mark.usefixtures("without_matplotlib")
def test_without_matplotlib_nothing_is_trained_for_a_picture(monkeypatch, capsys, model_file):
    monkeypatch.delattr("fastmlp.estimators.base.BaseMLP._fit")
    for args in (
        ("train", "--data", "digits", "--plots", "."),
        ("show", "--data", "digits", "--out", "a.png"),
        ("confusions", model_file, "--data", "digits", "--out", "a.png"),
    ):
        message = refusal(monkeypatch, capsys, *args)
        assert message == "plots need matplotlib: pip install 'fastmlp[plot]'."


def test_pictures_that_cannot_be_written_are_noticed_before_training(monkeypatch, capsys):
    monkeypatch.delattr("fastmlp.estimators.base.BaseMLP._fit")
    Path("file").touch()
    for name in ("file", "file/pictures"):
        message = refusal(monkeypatch, capsys, "train", "--data", "digits", "--plots", name)
        assert message.startswith(f"--plots must be a directory, got {name}, and ")

    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied", "a temporary name")

    Path("pictures").mkdir()
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    train = ("train", "--data", "digits", "--no-save", "--plots", "pictures")
    assert refusal(monkeypatch, capsys, *train) == "pictures: cannot be written."


@pytest.mark.usefixtures("without_matplotlib")
def test_show_draws_in_the_terminal():
    _, (X, y) = datasets.load_digits()
    lines = fastmlp("show", "--data", "digits", "--index", "42", "--n", "2").splitlines()
    assert lines[0] == f"42: {y[42]}     43: {y[43]}"
    assert len(lines) == 1 + 4
    image = X[42].reshape(8, 8).astype(float)
    shades = np.rint((image[::2] + image[1::2]) / 2 / 16 * 4).astype(int)
    expected = ["".join(" ░▒▓█"[shade] for shade in row) for row in shades]
    assert [line[:8].ljust(8) for line in lines[1:]] == expected
    assert fastmlp("show", "--data", "digits").startswith(f"0: {y[0]}\n")
    train = fastmlp("show", "--data", "digits", "--part", "train", "--index", "1436")
    assert train.startswith(f"1436: {datasets.load_digits()[0][1][-1]}\n")


def test_show_draws_at_random():
    show = ("show", "--data", "digits", "--random", "--n", "8", "--seed")
    first = fastmlp(*show, "1")
    assert first == fastmlp(*show, "1") != fastmlp(*show, "2")
    shown = re.findall(r"(\d+): (\d)", first)
    y = datasets.load_digits()[1][1]
    assert len({index for index, _ in shown}) == 8
    assert all(str(y[int(index)]) == label for index, label in shown)
    everything = fastmlp("show", "--data", "digits", "--random", "--n", "360")
    assert len(re.findall(r"\d+: ", everything)) == 360


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.svg", "a.pdf"])
def test_show_writes_a_picture(name):
    Path(name).write_text("an older one")
    assert fastmlp("show", "--data", "digits", "--n", "2", "--out", name) == f"{name}\n"
    kind = {"png": PNG, "svg": b"<?xml", "pdf": b"%PDF"}[name[2:].lower()]
    assert Path(name).read_bytes().startswith(kind)


@pytest.mark.slow
def test_a_command_opens_no_window(on_terminal):
    code = """
import sys
try:
    cli.main()
finally:
    assert 'matplotlib.pyplot' not in sys.modules
"""
    on_terminal("show", "--data", "digits", "--n", "1", "--out", "a.png", code=code)
    assert png_size("a.png")


@pytest.fixture
def poor_model_file(tmp_path):
    """A model of the digits that has learned little."""
    fastmlp("train", "--data", "digits", "--epochs", "3", "--out", tmp_path / "poor.npz")
    return tmp_path / "poor.npz"


@pytest.mark.slow
def test_confusions(poor_model_file):
    _, (X, y) = datasets.load_digits()
    wrong = persistence.load(poor_model_file).predict(X) != y
    lines = fastmlp("confusions", poor_model_file, "--data", "digits", "--n", "4").splitlines()
    assert lines[0] == f"digits: {wrong.sum()} of 360 test samples are misclassified"
    assert lines[1].split() == ["true", "predicted", "times", "of", "the", "class"]
    rows = [line.split() for line in lines[2:]]
    counts = [int(row[2]) for row in rows]
    assert len(rows) == 4 and counts == sorted(counts, reverse=True)
    true, predicted, count, share = rows[0]
    predictions = persistence.load(poor_model_file).predict(X)
    assert int(count) == np.sum((y == int(true)) & (predictions == int(predicted)))
    assert share == f"{int(count) / np.sum(y == int(true)):.1%}"
    stdout = fastmlp("confusions", poor_model_file, "--data", "digits", "--out", "c.png")
    assert stdout.endswith("\nc.png\n") and png_size("c.png")


@pytest.mark.slow
def test_confusions_of_a_pair(poor_model_file):
    confusions = ("confusions", poor_model_file, "--data", "digits")
    a, b = fastmlp(*confusions).splitlines()[2].split()[:2]
    lines = fastmlp(*confusions, "--pair", f"{b},{a}", "--n", "2").splitlines()
    _, (X, y) = datasets.load_digits()
    model = persistence.load(poor_model_file)
    predictions, pair = model.predict(X), (int(a), int(b))
    wrong = (y != predictions) & np.isin(y, pair) & np.isin(predictions, pair)
    confidence = model.predict_proba(X).max(axis=1)
    first = np.flatnonzero(wrong)[np.argsort(-confidence[wrong], kind="stable")][:2]
    title = f"digits, test samples: {wrong.sum()} mistakes between {b} and {a}"
    assert lines[0].startswith(title)
    assert lines[0].endswith(", of which these are the first 2") == (wrong.sum() > 2)
    expected = [[str(i), str(y[i]), str(predictions[i]), f"{confidence[i]:.1%}"] for i in first]
    assert [line.split() for line in lines[2:4]] == expected
    assert lines[5].split() == [f"{first[0]}:", str(y[first[0]]), f"{first[1]}:", str(y[first[1]])]
    assert fastmlp(*confusions, "--pair", f"{a},{b}", "--out", "p.png").endswith("p.png\n")
    assert png_size("p.png")


def test_confusions_where_there_are_none(idx_directory):
    fastmlp("train", "--data", idx_directory, "--epochs", "80", "--batch-size", "10")
    stdout = fastmlp("confusions", "model.npz", "--data", idx_directory)
    assert re.fullmatch(r".*toys: 0 of 30 test samples are misclassified\n", stdout)
    stdout = fastmlp("confusions", "model.npz", "--data", idx_directory, "--pair", "5,6")
    assert stdout.endswith("toys, test samples: 0 mistakes between 5 and 6\n")


def test_confusions_of_a_regressor(monkeypatch, capsys):
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model = MLPRegressor(max_iter=1).fit([[0.0], [1.0]], [0.0, 1.0])
    persistence.save(model, "r.npz")
    message = refusal(monkeypatch, capsys, "confusions", "r.npz", "--data", "digits")
    assert message.startswith("confusions needs a classifier, but ")
    assert message.endswith(" predicts numbers: 'fastmlp evaluate' scores it.")


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("train --data mnits", r"\['mnist', 'fashion', 'kmnist', 'digits'\].*got 'mnits'"),
        ("train --data digits --recipe sgd", r"recipe must be one of \['sgd-50', .*\], got 'sgd'"),
        ("train --data digits --backend gpu", "backend must be one of 'auto'.*got 'gpu'"),
        ("train --data digits --alpha -1", "--alpha must be a number of at least 0, got '-1'."),
        ("train --data digits --learning-rate 1e30 --epochs 1", "non-finite"),
        ("train --data empty", "must hold four IDX files"),
        ("train --recipe lbfgs-397 --learning-rate 0.1", "--learning-rate has no effect on lbfgs"),
        ("train --solver lbfgs --batch-size 9", "--batch-size has no effect on lbfgs: omit it"),
        ("train --solver lbfgs --max-grad-norm 1", "--max-grad-norm has no effect on lbfgs"),
        ("train --max-grad-norm 0", "--max-grad-norm must be a number above 0, got '0'."),
        ("train --weight-decay 0.1", "--weight-decay is for --solver adamw: add it, or use"),
        ("train --solver lbfgs --early-stopping", "--early-stopping has no effect on lbfgs"),
        ("evaluate none.npz --data digits", "none.npz does not exist: name a model that 'fastmlp"),
        ("evaluate text --data digits", "text is not a model that fastmlp can load: "),
        (
            "evaluate toys.npz --data digits",
            "digits must hold samples of 6 features, as toys.npz was trained on, got 64: name data",
        ),
        ("predict toys.npz none", "none: No such file or directory"),
        ("show --data digits --index 360", "--index must be at most 359, .* 360 test samples, got"),
        ("show --data digits --index 355 --n 9", "--index must be at most 351, .* got 355"),
        ("show --data digits --n 361", "--n must be at most 360, because digits has .* got 361"),
        ("show --data digits --random --n 361", "--n must be at most 360, .* got 361"),
        ("show --data digits --random --index 1", "--index and --random are mutually exclusive"),
        ("show --data digits --out a.gif", r"--out must end in .png, .svg or .pdf, got a.gif"),
        ("show --data digits --out no/a.png", "file in a directory that exists, got no.a.png"),
        ("show --data mnits", "got 'mnits'"),
        ("confusions none.npz", "none.npz does not exist: name a model"),
        (
            "confusions toys.npz --data digits",
            "digits must hold samples of 6 .* toys.npz .* got 64",
        ),
        ("confusions toys.npz --data toys --pair 5", "two of the classes 5, 6, 7, .* got '5'"),
        ("confusions toys.npz --data toys --pair 5,5", "two of the classes 5, 6, 7, .* got '5,5'"),
        ("confusions toys.npz --data toys --pair 5,9", "two of the classes 5, 6, 7, .* got '5,9'"),
        ("predict toys.npz text", "text is not IDX"),
        ("predict toys.npz 1d.npy", r"1d.npy must hold a row or an image per sample, got .*\(3,\)"),
        ("predict toys.npz nan.npy", "NaN"),
        ("predict toys.npz wide.npy", "wide.npy must hold samples of 6 features, .* got 9"),
        ("predict toys.npz cut.npy", "cut.npy cannot be read: mmap length"),
        ("predict toys.npz objects.npy", "objects.npy cannot be read: .*[Oo]bject"),
        (
            "predict toys.npz two.npz",
            r"two.npz cannot be read: it must hold one array, got \['a', 'b'\]",
        ),
        ("predict toys.npz cut.npz", "cut.npz cannot be read: File is not a zip file"),
        ("data fetch digits", r"\['mnist', 'fashion', 'kmnist'\], got 'digits'"),
        ("data info mnits", "'mnits' is no file or directory"),
        ("data info digits", "NAME must have files, but the digits are part of scikit-learn"),
        (
            "data info mnist",
            "mnist is not on this machine: 'fastmlp data fetch mnist' downloads it.",
        ),
        ("data info text", "text has a header and no rows: 'text', ' not data'; a table needs"),
        ("data convert 1d.npy 1d.txt", "TARGET must end in .npz, .npy, .csv, .*got 1d.txt"),
        ("data convert 1d.npy 1d.csv", "1d.npy must hold images and labels .*got one array"),
        ("data convert toys.npz toys.csv", "toys.npz must hold images and labels"),
        ("data convert mnits mnist.csv", "mnits: No such file or directory"),
        ("data convert empty e.npz", "must hold one folder per label .*got an empty directory"),
        ("data convert int64.npy labels-idx1", "got an array of int64: convert it"),
        ("data convert none there.npy", "none: No such file"),
        ("data convert toys.csv empty/", "toys.csv: No such file"),
        ("data convert 1d.npy folder.npy", "folder.npy is a directory, not a file"),
        ("data convert digits folder.npz --force", "folder.npz is a directory, not a file"),
        ("data info empty", "empty must hold IDX files, or one folder of images per label"),
    ],
)
def test_an_error_is_a_sentence(args, message, model_file, monkeypatch, capsys):
    for folder in ("empty", "folder.npy", "folder.npz"):
        Path(folder).mkdir()
    Path("text").write_text("text, not data")
    np.save("1d.npy", np.zeros(3))
    np.save("nan.npy", np.full((2, 6), np.nan))
    np.save("wide.npy", np.zeros((2, 3, 3)))
    np.save("int64.npy", np.arange(3))
    np.save("objects.npy", np.array([None]))
    np.savez("two.npz", a=[1], b=[2])
    for whole, cut in (("1d.npy", "cut.npy"), ("two.npz", "cut.npz")):
        Path(cut).write_bytes(Path(whole).read_bytes()[:-9])
    assert re.search(message, refusal(monkeypatch, capsys, *args.split()))
    assert not Path("model.npz").exists()


@pytest.mark.parametrize(
    "args",
    [
        "train --hidden 0",
        "train --hidden 50,x",
        "train --input-scale 1/0",
        "train --input-scale wide",
        "train --input-scale 0",
        "train --input-scale 1e-999",
        "train --solver newton",
        "train --epochs 0",
        "train --threads 0",
        "train mnist",
        "evaluate",
        "show --index -1",
        "show --n 0",
        "show --part all",
        "confusions",
        "predict model.npz",
        "data convert a.npy",
        "data convert a b.npy --size 28",
        "data convert a b.npy --size 0x28",
        "explain",
    ],
)
def test_a_usage_error_exits_with_2(args):
    assert fastmlp(*args.split(), status=USAGE_ERROR) == ""


def test_a_name_that_is_no_choice_is_refused_in_our_words():
    result = CliRunner().invoke(cli.app, ["train", "--solver", "newton"])
    assert "must be one of sgd, adam, adamw, lbfgs, got 'newton'." in result.stderr.replace(
        "\n", " "
    )
    assert "Value error" not in result.stderr


def test_memory_and_other_errors_in_words():
    assert cli._in_words(MemoryError()) == "there is not enough memory."
    assert cli._in_words(MemoryError("8 TB")) == "there is not enough memory. 8 TB"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.npz")
    assert cli._in_words(full) == "model.npz: No space left on device."
    assert cli._in_words(ValueError("one\ntwo")) == "one"
    assert cli._in_words(datasets.DatasetError("tried:\n  this")) == "tried:\n  this"
    assert cli._in_words(ValueError()) == "ValueError"


# ------------------------------------------------------------------------- in a process of its own


@pytest.mark.slow
def test_the_process_s_streams_and_status(idx_directory):
    run = subprocess_of("train", "--data", idx_directory, "--epochs", "3")
    assert run.returncode == 0 and run.stderr == ""
    assert len(losses(run.stdout)) == 3 and "\x1b" not in run.stdout
    assert "test score" in fastmlp("evaluate", "model.npz", "--data", idx_directory)
    run = subprocess_of("predict", "nothing.npz", "nothing")
    assert run.returncode == USAGE_ERROR and run.stdout == ""
    assert run.stderr.startswith("Error: nothing.npz does not exist: ")


@pytest.mark.slow
def test_on_a_terminal_a_bar_moves_below_the_losses(on_terminal):
    text = plain(on_terminal("train", "--data", "digits", "--epochs", "4"))
    assert "epoch 0/4" in text and "Iteration 4, loss = " in text
    assert "samples/s" in text and " left" in text
    assert "model.npz" in text


@pytest.mark.slow
@pytest.mark.mnist
def test_without_arguments_it_is_the_published_run(mnist, monkeypatch):
    if DATA_HOME is None:
        monkeypatch.delenv("FASTMLP_DATA")
    else:
        monkeypatch.setenv("FASTMLP_DATA", DATA_HOME)
    run = subprocess_of("train")
    assert run.returncode == 0 and run.stderr == ""
    assert losses(run.stdout) == [f"{loss:.8f}" for loss in LOSSES]
    summary = facts(run.stdout)
    assert summary["train score"] == "0.987 (published: 0.987)"
    assert summary["test score"] == "0.970 (published: 0.970)"
    assert f"{persistence.load('model.npz').score(*mnist[1]):.3f}" == "0.970"
