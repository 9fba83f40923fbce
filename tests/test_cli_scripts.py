"""The command line as scripts use it: JSON, quiet, logs, exit codes, and output without colours."""

import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_cli import (
    COMMAND,
    INTERRUPTED,
    TINY,
    USAGE_ERROR,
    facts,
    losses,
    measured,
    plain,
    refusal,
)
from test_cli import fastmlp as run
from typer.testing import CliRunner

from fastmlp import (
    MLPClassifier,
    MLPEnsemble,
    MLPRegressor,
    backends,
    bench,
    cli,
    datasets,
    idx,
    images,
    persistence,
)
from fastmlp.bench import parity
from fastmlp.cli import epoch_log
from fastmlp.recipes import RECIPES
from fastmlp.utils import suggestions
from fastmlp.utils.logs import LOGGER

DOCUMENTATION = Path(__file__).parent.parent / "docs" / "command_line.md"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path, monkeypatch):
    """No test finds a data set, or leaves a model, where it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def digits_model():
    """A model of the digits that has learned little."""
    (X, y), _ = datasets.load_digits()
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model = MLPClassifier((8,), max_iter=2, random_state=0, backend="numpy").fit(X / 16, y)
    model.set_params(input_scale=1 / 16)
    persistence.save(model, "digits.npz")
    return "digits.npz"


TRAIN = ("train", "--data", "digits", "--backend", "numpy", "--hidden", "8")

#: A training that is noted: the bytes are not scaled.
NOTED = ("train", "--data", "bytes", "--backend", "numpy", "--epochs", "2", "--input-scale", "none")


@pytest.fixture
def in_bytes():
    """A data set of bytes, for `NOTED`."""
    rng = np.random.default_rng(0)
    Path("bytes").mkdir()
    for kind, n in (("train", 60), ("t10k", 20)):
        array = rng.integers(0, 256, (n, 2, 3), dtype=np.uint8)
        idx.write(f"bytes/{kind}-images-idx3-ubyte", array)
        idx.write(f"bytes/{kind}-labels-idx1-ubyte", (np.arange(n) % 3).astype(np.uint8))


# -------------------------------------------------------------------------------------------- JSON


def documented():
    """Return, per command, the keys that the documentation lists, and their types."""
    commands = {}
    for section in DOCUMENTATION.read_text().split("\n### fastmlp ")[1:]:
        command, _, text = section.partition("\n")
        if " with tables" in command:  # tests/test_cli_tables.py reads it
            continue
        commands[command] = keys = {}
        for names, kind in re.findall(r"^\| ([^|]+) \| ([^|]*?) ?\|", text, re.MULTILINE)[1:]:
            if set(names) == {"-"}:
                continue
            for name in names.split(", "):
                keys[name] = kind
    return commands


def fits(value, kind):
    """Return whether a value is of a type that the documentation names."""
    if value is None or not kind:
        return True
    types = {"text": str, "number": (int, float), "boolean": bool, "object": dict, "list": list}
    name, _, elements = kind.partition(" of ")
    return (
        isinstance(value, types[name])
        and (name != "number" or not isinstance(value, bool))
        and (not elements or all(fits(entry, elements.removesuffix("s")) for entry in value))
    )


def leaves(value, keys, path=""):
    """Yield the keys of a document as the documentation writes them, and their values."""
    if path in keys:
        yield path, value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from leaves(entry, keys, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for entry in value:
            yield from leaves(entry, keys, f"{path}[]")
    elif value is not None:  # a list that does not apply
        yield path, value


def document_of(*args, status=0):
    """Run a command with --json; return the one object that it prints."""
    stdout = run(*args, "--json", status=status)
    assert not CONTROL.search(stdout)
    return json.loads(stdout)


def documents(command):
    """Return documents of a command that together have all its keys."""
    model = "digits.npz"
    match command:
        case "train":
            return [document_of(*TRAIN, "--epochs", 2)]
        case "search":
            options = ("--data", "digits", "--hidden", 5, "--epochs", 2, "--cv", 2)
            return [document_of("search", *options, "--plot", "scores.png")]
        case "evaluate":
            return [document_of("evaluate", model, "--data", "digits")]
        case "predict":
            np.save("X.npy", datasets.load_digits()[1][0][:3])
            return [document_of("predict", model, "X.npy", "--proba")]
        case "show":
            return [document_of("show", "--data", "digits", "--n", 2)]
        case "export":
            return [document_of("export", model, "--to", "c")]
        case "serve":  # which prints no JSON
            return []
        case "show-model":
            run(*TRAIN, "--epochs", 1)
            return [document_of("show-model", "model.npz")]
        case "confusions":
            found = document_of("confusions", model, "--data", "digits")
            pair = f"{found['pairs'][0]['true']},{found['pairs'][0]['predicted']}"
            return [found, document_of("confusions", model, "--data", "digits", "--pair", pair)]
        case "parity":
            return [document_of("parity", "--n", 2, "--backend", "numpy", status=s) for s in (0, 1)]
        case "bench":
            return [document_of("bench", "--suite", "all", "--suite", "devices")]
        case "info" | "recipes":
            return [document_of(command)]
        case "data fetch":
            return [document_of("data", "fetch", "mnist", "kmnist")]
        case "data info":
            idx.write("labels-idx1-ubyte", np.zeros(3, np.uint8))
            pictures = np.zeros((2, 2, 3), np.uint8)
            images.save_folder(pictures, ["a", "b"], "pictures")
            Path("pictures/a/none.png").touch()
            return [document_of("data", "info", name) for name in ("labels-idx1-ubyte", "pictures")]
        case "data convert":
            return [document_of("data", "convert", "digits", "d.npz")]


@pytest.mark.parametrize("command", documented())
def test_every_key_is_documented_and_there(command, digits_model, monkeypatch):
    if command == "data info":
        pytest.importorskip("PIL", reason="images need Pillow: fastmlp[images]")
    if command == "data fetch":
        monkeypatch.setattr(datasets, "fetch", lambda name, home: Path("here") / name)
    if command == "parity":
        verdicts = iter([parity.Differences(), parity.Differences(weights=1.0)])
        row = parity.Row("numpy", "float64")
        configuration = next(parity.configurations(1, 0))

        def check(*_):
            row.add(configuration, next(verdicts))
            return [row]

        monkeypatch.setattr(parity, "check", check)
    if command == "bench":
        gone = {"name": "other", "about": "", "group": "sparse", "unit": "s", "missing": "no data."}
        whole = measured() | {"floor": {"label": "", **bench.summary([1.0])}}
        entries = iter([whole, gone])
        monkeypatch.setattr(bench, "measure", lambda *_: next(entries))
        monkeypatch.setattr(bench.cases, "CASES", (TINY, TINY))
        nothing = {"missing": {}, "cells": [], "passed": True}
        monkeypatch.setattr("fastmlp.bench.devices.measure", lambda *_: nothing)
    keys, found = documented()[command], {}
    for document in documents(command):
        for key, value in leaves(document, keys):
            assert key in keys, f"{key} of {command} is not documented"
            assert fits(value, keys[key]), f"{key} of {command} is no {keys[key]}: {value!r}"
            found[key] = value
    assert keys.keys() == found.keys()


def test_every_command_is_documented():
    import typer

    def names(group, before=""):
        for name, command in group.commands.items():
            path = f"{before} {name}".strip()
            yield from names(command, path) if hasattr(command, "commands") else [path]

    assert set(names(typer.main.get_command(cli.app))) == documented().keys()


@pytest.mark.slow
def test_train_s_numbers_are_those_that_it_prints():
    printed = facts(run(*TRAIN, "--epochs", 3, "--early-stopping"))
    found = document_of(*TRAIN, "--epochs", 3, "--early-stopping")
    assert f"{found['final loss']:.8f}" == printed["final loss"]
    assert f"{found['test score']:.3f}" == printed["test score"]
    assert found["network"] == [64, 8, 10] and printed["network"] == "64-8-10, relu"
    assert (found["epochs"], found["epochs at most"]) == (3, 3)
    assert found["learning rate"] == found["final learning rate"] == 0.1
    assert found["model file"] == "model.npz" and Path("model.npz").exists()
    assert document_of(*TRAIN, "--epochs", 1, "--no-save")["model file"] is None
    lbfgs = document_of(*TRAIN, "--epochs", 1, "--solver", "lbfgs")
    assert lbfgs["learning rate"] is None
    recipe = document_of("train", "--recipe", "dropout-300", "--data", "digits", "--epochs", 1)
    assert recipe["dropout"] == [0.6] and recipe["validation samples"] == 288
    assert 0 <= recipe["validation score"] <= 1


def test_predictions_of_any_kind_as_json(digits_model):
    X = datasets.load_digits()[1][0][:3]
    np.save("X.npy", X)
    model = persistence.load(digits_model)
    found = document_of("predict", digits_model, "X.npy")
    assert found["predictions"] == model.predict(X).tolist() and found["probabilities"] is None
    found = document_of("predict", digits_model, "X.npy", "--proba")
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X))
    with pytest.warns(UserWarning, match="Maximum iterations"):
        regressor = MLPRegressor(hidden_layer_sizes=(3,), max_iter=1, random_state=0).fit(
            X / 16, [0.0, 1.0, 2.0]
        )
    persistence.save(regressor, "r.npz")
    found = document_of("predict", "r.npz", "X.npy")
    assert found["predictions"] == regressor.predict(X).tolist() and found["classes"] is None


def test_an_ensemble():
    pytest.importorskip("skops", reason="ensembles are saved with skops: fastmlp[tables]")
    (X, y), (X_test, y_test) = datasets.load_digits()
    network = MLPClassifier((8,), max_iter=2, input_scale=1 / 16)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        model = MLPEnsemble(network, 3, n_jobs=1, random_state=0).fit(X, y)
    persistence.save(model, "e.skops")
    options = ("e.skops", "--data", "digits", "--threads", "1", "--backend", "numpy")
    found = document_of("evaluate", *options)
    assert found["network"] == [64, 8, 10] and found["networks"] == 3
    assert found["test errors"] == (model.predict(X_test) != y_test).sum()
    assert found["backend"] == "numpy"
    assert "64-8-10, relu (3 of them, averaged)" in run("evaluate", *options)
    np.save("X.npy", X[:3])
    found = document_of("predict", "e.skops", "X.npy", "--proba")
    np.testing.assert_allclose(found["probabilities"], model.predict_proba(X[:3]))
    assert document_of("confusions", *options)["errors"] == (model.predict(X_test) != y_test).sum()


def test_proba_of_a_regressor_is_refused_before_the_data_are_read(monkeypatch, capsys):
    with pytest.warns(UserWarning, match="Maximum iterations"):
        persistence.save(MLPRegressor(max_iter=1).fit([[0.0], [1.0]], [0.0, 1.0]), "r.npz")
    message = refusal(monkeypatch, capsys, "predict", "r.npz", "nothing.npy", "--proba")
    assert message.startswith("--proba is for classifiers, but ")
    assert message.endswith(" predicts numbers: omit it.")


def test_what_is_not_finite_is_null():
    from fastmlp.cli.output import _plain

    document = {"a": np.float32(np.nan), "b": [np.inf, 1], "c": np.arange(2), "d": Path("x")}
    assert _plain(document) == {"a": None, "b": [None, 1], "c": [0, 1], "d": "x"}


def test_bench_s_json_file_of_before_still_works(monkeypatch):
    monkeypatch.setattr(bench, "measure", lambda *_: measured())
    result = CliRunner().invoke(cli.app, ["bench", "--suite", "sparse", "--json", "run.json"])
    assert result.exit_code == 0 and "scikit-learn float64" in result.stdout
    assert "Note: --json run.json is deprecated: use --out run.json.\n" in result.stderr
    document = json.loads(Path("run.json").read_text())
    assert document_of("bench", "--suite", "sparse", "--out", "new.json") == document
    assert json.loads(Path("new.json").read_text()) == document


# ------------------------------------------------------------------------------------------- quiet


@pytest.mark.usefixtures("in_bytes")
def test_quiet_leaves_results_only():
    loud = CliRunner().invoke(cli.app, NOTED)
    quiet = CliRunner().invoke(cli.app, [*NOTED, "--quiet"])
    assert loud.stderr.startswith("Note: ") and quiet.stderr == ""
    assert losses(loud.stdout) and not losses(quiet.stdout)
    assert facts(quiet.stdout).keys() == facts(loud.stdout).keys()
    assert facts(quiet.stdout)["final loss"] == facts(loud.stdout)["final loss"]
    assert LOGGER.level == logging.NOTSET  # of this process, which goes on
    assert "Error: " in CliRunner().invoke(cli.app, ["train", "--quiet", "--epochs", "0"]).stderr


# --------------------------------------------------------------------------------------- --log FILE


def read_log(path):
    if path.endswith(".csv"):
        with open(path, newline="") as file:
            return [
                {name: None if text == "" else text for name, text in row.items()}
                for row in csv.DictReader(file)
            ]
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.mark.parametrize("path", ["run.jsonl", "run.csv"])
def test_a_line_per_epoch(path):
    shown = losses(run(*TRAIN, "--epochs", 3, "--early-stopping", "--log", path))
    rows = read_log(path)
    assert [f"{float(row['loss']):.8f}" for row in rows] == shown
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    for row in rows:
        assert tuple(row) == epoch_log.COLUMNS
        assert float(row["validation_loss"]) > 0 and 0 <= float(row["validation_score"]) <= 1
        assert row["training_score"] is None and int(row["n_samples"]) > 1000
        assert float(row["seconds"]) > 0 and row["time"].endswith("+00:00")
    run(*TRAIN, "--epochs", 2, "--log", path, "--json")  # goes on at the end
    assert [int(row["epoch"]) for row in read_log(path)] == [1, 2, 3, 1, 2]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("run.txt", "--log must end in .jsonl or .csv, got run.txt."),
        ("run", "--log must end in .jsonl or .csv, got run."),
        ("no/run.csv", "--log must be a file in a directory that exists, got no/run.csv."),
        ("folder.csv", "--log must be a file in a directory that exists, got folder.csv."),
        ("mine.csv", "mine.csv exists and is not a log of epochs: use another file with --log."),
        ("mine.jsonl", "mine.jsonl exists and is not a log of epochs: use another file with"),
    ],
)
def test_a_log_is_refused_before_data_is_loaded(path, message, monkeypatch, capsys):
    monkeypatch.delattr(datasets, "load")
    Path("folder.csv").mkdir()
    for mine in ("mine.csv", "mine.jsonl"):
        Path(mine).write_text("a,b\n1,2\n")
    assert message in refusal(monkeypatch, capsys, "train", "--data", "digits", "--log", path)
    assert Path("mine.csv").read_text() == Path("mine.jsonl").read_text() == "a,b\n1,2\n"


def test_a_log_goes_on_behind_a_torn_line():
    run(*TRAIN, "--epochs", 1, "--log", "run.jsonl")
    with open("run.jsonl", "a") as file:
        file.write('{"epo')
    run(*TRAIN, "--epochs", 1, "--log", "run.jsonl")
    whole, torn, more = Path("run.jsonl").read_text().splitlines()
    assert torn == '{"epo' and json.loads(whole)["loss"] == json.loads(more)["loss"]


def test_training_goes_on_when_the_log_cannot(monkeypatch):
    open_ = Path.open

    def full(self, mode="r", *rest, **more):
        if self.name == "run.csv" and mode == "ab":
            raise OSError(28, "No space left on device", str(self))
        return open_(self, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", full)
    arguments = [str(arg) for arg in (*TRAIN, "--epochs", 3, "--log", "run.csv")]
    result = CliRunner().invoke(cli.app, arguments)
    note = "run.csv cannot be written (No space left on device): training continues without it."
    assert result.exit_code == 0 and result.stderr == f"Note: {note}\n"
    assert facts(result.stdout)["epochs"].startswith("3 of 3")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize(("killer", "path"), [("SIGKILL", "run.jsonl"), ("SIGINT", "run.csv")])
def test_a_log_outlives_its_process(killer, path):
    arguments = (*COMMAND, *TRAIN[:3], "--backend", "numpy", "--hidden", "300", "--epochs", "9000")
    with subprocess.Popen(
        [*arguments, "--batch-size", "1437", "--quiet", "--json", "--log", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 100
        while not (Path(path).exists() and Path(path).read_text().count("\n") > 3):
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(getattr(signal, killer))
        stdout, _ = process.communicate(timeout=60)
    rows = read_log(path)
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    assert all(float(row["loss"]) > 0 for row in rows) and len(rows) >= 3
    if killer == "SIGINT":
        assert process.returncode == INTERRUPTED
        document = json.loads(stdout)
        assert document["interrupted"] and document["epochs"] == len(rows)
    else:
        assert process.returncode == -signal.SIGKILL and stdout == ""


# ----------------------------------------------------------------------------------------- logging


@pytest.mark.usefixtures("in_bytes")
def test_notes_and_epochs_are_log_records(caplog):
    with caplog.at_level(logging.DEBUG, "fastmlp"):
        stdout = run(*NOTED)
    records = [record for record in caplog.records if record.name == "fastmlp"]
    lines = [record.message for record in records if record.levelno == logging.DEBUG]
    assert [line for line in lines if line.startswith("Iteration")] == [
        line for line in stdout.splitlines() if line.startswith("Iteration")
    ]
    (note,) = (record for record in records if record.levelno == logging.WARNING)
    assert note.message.startswith("The features span ")


def test_the_estimators_lines_are_log_records(caplog, capsys):
    X = np.random.RandomState(0).normal(size=(30, 3))
    with caplog.at_level(logging.DEBUG, "fastmlp"), pytest.warns(UserWarning, match="Maximum"):
        MLPClassifier(max_iter=2, verbose=True).fit(X, X[:, 0] > 0)
    assert capsys.readouterr().out.splitlines() == caplog.messages
    assert len(caplog.messages) == 2


QUIET_LIBRARY = """
import warnings; warnings.simplefilter("ignore")
from fastmlp import MLPClassifier
from fastmlp.utils.logs import LOGGER
MLPClassifier(max_iter=2).fit([[0.0], [1.0]], [0, 1])
LOGGER.warning("a note")
"""


@pytest.mark.slow
def test_the_library_s_logger_shows_nothing_by_itself():
    result = subprocess.run([sys.executable, "-c", QUIET_LIBRARY], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setup", "shown"),
    [
        ("pass", "Note: The features span "),
        ("logging.basicConfig()", "WARNING:fastmlp:The features span "),
        (
            "logging.getLogger('fastmlp').addHandler(logging.StreamHandler())",
            "The features span ",
        ),
    ],
)
@pytest.mark.usefixtures("in_bytes")
def test_a_note_is_shown_once(setup, shown, into_pipes):
    code = f"""
import logging
loggers = logging.getLogger(), logging.getLogger("fastmlp")
before = [logger.handlers.copy() for logger in loggers]
{setup}
try:
    cli.main()
finally:  # the process is used further
    for logger, handlers in zip(loggers, before, strict=True):
        logger.handlers = handlers
"""
    _, stderr = into_pipes(*NOTED, code=code)
    assert stderr.startswith(shown) and stderr.count("\n") == 1


# ------------------------------------------------------------------------------- refusals, and help


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            "train --lr 0.1",
            "fastmlp train has no option --lr. Did you mean --learning-rate? 'fastmlp train -h' "
            "lists them all.",
        ),
        ("train --optimizer adam", "has no option --optimizer. Did you mean --solver? "),
        ("train --max-iter 3", "Did you mean --epochs? "),
        ("train --hiden 3", "Did you mean --hidden? "),
        ("train --max_iter 3", "Did you mean --epochs? "),
        ("evaluate m.npz --lr 3", "fastmlp evaluate has no option --lr. 'fastmlp evaluate -h'"),
        ("train -x", "fastmlp train has no option -x. 'fastmlp train -h' lists them all."),
        ("--verison", "fastmlp has no option --verison. Did you mean --version? 'fastmlp -h'"),
        (
            "trian",
            "fastmlp has no command 'trian'. Did you mean 'train'? 'fastmlp -h' lists them all.",
        ),
        ("data ftech", "fastmlp data has no command 'ftech'. Did you mean 'fetch'? 'fastmlp data"),
        ("explain", "fastmlp has no command 'explain'. 'fastmlp -h' lists them all."),
        (
            "train --solver adma",
            "--solver must be one of sgd, adam, adamw, lbfgs, got 'adma'. Did you",
        ),
        ("train --dtype floot32", "got 'floot32'. Did you mean 'float32'?"),
        (
            "train --activation sigmoid",
            "must be one of identity, logistic, tanh, relu, leaky_relu, gelu, silu, got 'sig",
        ),
        ("train --recipe sgd50", "got 'sgd50'. Did you mean 'sgd-50'?"),
        ("train --data fasion", "got 'fasion'. Did you mean 'fashion'?"),
        ("train --backend gpu", "got 'gpu'. Did you mean 'cuda'?"),
        ("train --backend Numpy", "got 'Numpy'. Did you mean 'numpy'?"),
        ("bench --suite tablar", "got 'tablar'. Did you mean 'tabular'?"),
        ("data fetch mnist kmnits", "got 'kmnits'. Did you mean 'kmnist'?"),
        ("data info mnits", "and none of ['mnist', 'fashion', 'kmnist']. Did you mean 'mnist'?"),
        ("parity --backend nunpy", "got 'nunpy'. Did you mean 'numpy'?"),
        ("train --epochs 0", "--epochs must be an integer of at least 1, got '0'."),
        ("train --epochs 1.5", "--epochs must be an integer of at least 1, got '1.5'."),
        ("train --seed -1", "--seed must be an integer from 0 to 4294967295, got '-1'."),
        ("train --learning-rate 0", "--learning-rate must be a number above 0, got '0'."),
        ("train --alpha nan", "--alpha must be a number of at least 0, got 'nan'."),
        ("train --hidden 3 --dropout 0.1,0.2", "one for each hidden layer, got 0.1,0.2 for 3 u"),
        ("train --epochs", "--epochs requires an argument: see 'fastmlp train -h'."),
        ("train --quiet=3", "--quiet does not take a value: see 'fastmlp train -h'."),
        ("train mnist", "fastmlp train does not take 'mnist': write the name of an option"),
        ("evaluate", "fastmlp evaluate needs MODEL: see 'fastmlp evaluate -h'."),
        ("data convert a", "fastmlp data convert needs TARGET: see 'fastmlp data convert -h'."),
        ("show --n x", "--n must be an integer of at least 1, got 'x'."),
        ("show --part tset", "--part must be one of train, test, got 'tset'. Did you mean 'test'?"),
    ],
)
def test_bad_use_is_a_sentence_before_data_is_loaded(args, message, monkeypatch, capsys):
    for module in (datasets.fetching, datasets.loading):
        monkeypatch.delattr(module, "read_verified_files")
    for module in (datasets, datasets.loading):
        monkeypatch.delattr(module, "load_digits")
    monkeypatch.delattr(bench, "measure")
    assert message in refusal(monkeypatch, capsys, *args.split())


def test_what_is_no_likely_slip_gets_no_question():
    assert suggestions.did_you_mean("x", ["sgd", "adam"]) == "."
    assert suggestions.closest("GPU", ["numpy"], {"gpu": "cuda"}) is None


COMMANDS = ["", *documented(), "data"]


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_and_has_no_noise(command, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = run(*command.split(), "--help")
    assert max(map(len, text.splitlines())) <= columns
    words = " ".join(text.replace("│", " ").split())
    if command == "serve":  # which Ctrl-C ends
        assert "Exit status: 0 after Ctrl-C" in words
    else:
        assert "Exit status: 0 on success, " in words and "130 after Ctrl-C." in words
    assert ("1 if" in words) == (command in ("parity", "bench", "export"))
    assert not re.search(r"<\w+>|bool|\[x>=|INTEGER|FLOAT|BOOLEAN", text)
    examples = re.findall(r"^  (fastmlp .*?) *$", text, re.MULTILINE)
    source = [line.strip() for line in _docstring(command).splitlines()]
    assert examples == [line for line in source if line.startswith("fastmlp ")]  # none is broken
    if command in documented():
        assert ("--json" in text or command == "serve") and "--quiet" in text


def _docstring(command):
    import typer

    found = typer.main.get_command(cli.app)
    for name in command.split():
        found = found.commands[name]
    return found.help or ""


@pytest.mark.slow
def test_completion(into_pipes):
    assert "--show-completion" in run("--help")
    for words, expected in {
        "fastmlp train --recipe l": ["lbfgs-397"],
        "fastmlp train --solver a": ["adam", "adamw"],
        "fastmlp bench --suite ta": ["tabular"],
        "fastmlp train --learn": ["--learning-rate"],
    }.items():
        place = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        stdout, _ = into_pipes(**place, _FASTMLP_COMPLETE="complete_bash")
        assert stdout.split() == expected


# ------------------------------------------------------------------------- terminals of any width


@pytest.mark.slow
def test_recipes_stack_at_60_columns(on_terminal):
    lines = plain(on_terminal("recipes", columns=60)).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[:5] == [
        "recipe      sgd-50",
        "what it is  One hidden layer of 50 units, stochastic",
        "            gradient descent, 10 epochs.",
        "published   0.970",
        "ours        0.970",
    ]
    assert lines[5] == "" and lines[6] == "recipe      adam-100-50-25"
    wide = plain(on_terminal("recipes", columns=200)).splitlines()
    assert wide[0].split() == ["recipe", "what", "it", "is", "published", "ours"]
    assert len(wide) == 1 + len(RECIPES) + 1  # and that of tables


CANNED_BENCH = """
import json, sys
from unittest.mock import patch
from fastmlp import bench
entries = json.loads(sys.argv.pop())
with patch.object(bench, "measure", side_effect=entries):
    with patch.object(bench.cases, "CASES", bench.cases.CASES[:1]):
        cli.main()
"""


@pytest.mark.slow
def test_bench_stacks_at_60_columns(on_terminal):
    arguments = ("bench", "--suite", bench.CASES[0].name, json.dumps([measured()]))
    lines = plain(on_terminal(*arguments, code=CANNED_BENCH, columns=60)).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("case"))
    assert lines[first : first + 7] == [
        "case              tiny",
        "ours              fastmlp float64",
        "ours takes        500 ms",
        "compared with     scikit-learn float64",
        "theirs takes      500 ms",
        "theirs / ours     3.0 (2.0 to 4.0)",
        "losses differ by  0",
    ]


CANNED_PARITY = """
from unittest.mock import patch
from fastmlp.bench import parity
def check(drawn, names):
    rows = [parity.Row(name, "float64", 200) for name in ("cython", "numpy")]
    rows[0].largest = parity.Differences(0, 1.5e-13, 2.5e-12, 3.5e-12, 0)
    return rows
with patch.object(parity, "check", check):
    cli.main()
"""


@pytest.mark.slow
def test_parity_stacks_at_60_columns(on_terminal):
    text = plain(on_terminal("parity", "--n", 1, code=CANNED_PARITY, columns=60))
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    assert blocks[0] == [
        "backend          cython",
        "dtype            float64",
        "fits             200",
        "initial weights  0",
        "loss curves      1.5e-13",
        "weights          2.5e-12",
        "predictions      3.5e-12",
        "labels           0",
        "verdict          passed",
    ]
    assert len(blocks) == 2
    table = plain(on_terminal("parity", "--n", 1, code=CANNED_PARITY, columns=100)).splitlines()
    assert table[-1].split() == ["numpy", "float64", "200", *"00000", "passed"]


@pytest.mark.slow
def test_data_info_stacks_at_60_columns(on_terminal):
    Path("toys").mkdir()
    name = "emnist-byclass-train-images-idx3-ubyte"
    idx.write(f"toys/{name}", np.zeros((1000, 28, 28), np.uint8))
    lines = plain(on_terminal("data", "info", "toys", columns=60)).splitlines()
    assert lines == [
        "toys",
        f"file   {name}",
        "kind   images",
        "type   uint8",
        "shape  1000 x 28 x 28",
        "bytes  784,000",
        "gzip   no",
    ]


@pytest.mark.slow
def test_facts_wrap_between_words_at_60_columns(on_terminal):
    path = "a/" * 40 + "model"
    text = plain(on_terminal("info", columns=60, FASTMLP_DATA=path))
    assert f"data directory   {path}\n" in text or f"{path}\n" in text.replace(" ", "")
    others = [line for line in text.splitlines() if "a/a" not in line]
    assert max(map(len, others)) <= 60


SLOW_EPOCHS = """
import time
from types import SimpleNamespace
from fastmlp.cli.epoch_display import EpochDisplay
fit = SimpleNamespace(n_samples=60_000, n_before=0)
with EpochDisplay(200, wanted=True) as display:
    display.fit_began(fit)
    for epoch in (1, 2, 3):
        display.epoch_ended(fit, SimpleNamespace(
            epoch=epoch, loss=0.12345678, n_samples=60_000, seconds=90.0, training_score=0.98765,
            validation_loss=0.12345678, validation_score=0.98765,
        ))
    time.sleep(0.4)
"""

SLOW_EPOCH = """
import time
from types import SimpleNamespace
from fastmlp.cli.epoch_display import EpochDisplay
fit = SimpleNamespace(n_samples=1000, n_before=0)
with EpochDisplay(4, wanted=True) as display:
    display.fit_began(fit)
    for done in (100, 250, 500):
        time.sleep(0.4)
        display.samples_done(fit, done)
    time.sleep(0.4)
"""


@pytest.mark.slow
def test_the_bar_moves_within_an_epoch(on_terminal):
    shown = plain(on_terminal(code=SLOW_EPOCH, columns=80))
    assert re.search(r"epoch 1/4 ━+.* 0:00:(0[4-9]|1\d) left", shown)  # an eighth of about 10 s


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80])
def test_the_bar_fits(columns, on_terminal):
    shown = plain(on_terminal(code=SLOW_EPOCHS, columns=columns))
    assert re.search(r"epoch 3/200 ━+ +loss 0\.1235 .*4:55:30 left", shown)
    assert ("  667 samples/s  4:55:30 left" in shown) == (columns == 80)
    assert "…" not in shown and "validation loss = 0.12345678" in " ".join(shown.split())
    assert max(len(line.rstrip()) for line in re.split(r"[\r\n]", shown)) <= columns


# ----------------------------------------------------------------------------- colours and control


@pytest.mark.slow
def test_no_color_is_honoured(on_terminal):
    colour = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)")
    for arguments in (("--help",), ("train", "--help"), (*TRAIN, "--epochs", 2)):
        assert colour.search(on_terminal(*arguments))
        assert not colour.search(on_terminal(*arguments, NO_COLOR="1"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--help",), 0),
        (("train", "--help"), 0),
        (("recipes",), 0),
        (("info",), 0),
        ((*TRAIN, "--epochs", "3"), 0),
        (("data", "convert", "digits", "d.npz"), 0),
        (("train", "--solver", "x"), USAGE_ERROR),
    ],
)
def test_a_pipe_gets_no_control_characters(arguments, status, into_pipes):
    """Not even if colours are forced, as a notebook's kernel does."""
    stdout, stderr = into_pipes(*arguments, status=status, FORCE_COLOR="1", CLICOLOR_FORCE="1")
    assert not CONTROL.search(stdout + stderr)
    if arguments[0] == "train" and not status and len(arguments) > 2:
        assert stdout.count("\n") == 1 + 3 + 1 + len(facts(stdout))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel",
    [{"JPY_PARENT_PID": "1"}, {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}],
)
def test_a_notebook_s_cell_gets_no_control_characters(kernel, on_terminal):
    """A cell's !command has a terminal, and shows every byte that is sent there."""
    arguments = (*TRAIN, "--epochs", 3)
    shown = on_terminal(*arguments, TERM="xterm-color", FORCE_COLOR="1", CLICOLOR="1", **kernel)
    assert not CONTROL.search(shown) and len(losses(shown)) == 3
    assert shown.count("\n") == 1 + 3 + 1 + len(facts(shown))
    shown = on_terminal("--help", TERM="xterm-color", FORCE_COLOR="1", **kernel)
    assert not CONTROL.search(shown)


@pytest.mark.slow
def test_quiet_and_json_move_nothing_on_a_terminal(on_terminal):
    for option in ("--quiet", "--json"):
        shown = on_terminal(*TRAIN, "--epochs", 3, option)
        assert "epoch" not in shown.split("data set")[0] and "\x1b[?25l" not in shown
    assert not CONTROL.search(shown) and json.loads(shown)["epochs"] == 3


def test_backends_are_named_in_the_help():
    assert ", ".join(("auto", *backends.NAMES)) in " ".join(
        run("train", "--help").replace("│", " ").split()
    )
