"""``fastmlp export``: files, the comparison that is printed, and what is refused."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_cli import USAGE_ERROR, facts, refusal
from test_cli import fastmlp as run
from test_export import needed

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, cli, datasets, export
from fastmlp.cli import export as command
from fastmlp.tables import make_table_pipeline

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
]

DIGITS = {"kind": "images", "data": "digits", "shape": [8, 8], "background": 0.0}


@pytest.fixture(autouse=True)
def in_an_empty_directory(tmp_path, monkeypatch):
    """No test finds a data set, or leaves a model, where it runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def trained():
    (X, y), _ = datasets.load_digits()
    return MLPClassifier((8,), input_scale=1 / 16, max_iter=20, random_state=0).fit(X, y)


@pytest.fixture
def digits(trained):
    fastmlp.save(trained, "digits.npz", metadata=DIGITS)
    return "digits.npz"


@pytest.fixture
def houses():
    """A model of a table, and the table."""
    random = np.random.RandomState(0)
    frame = pd.DataFrame(
        {
            "size": random.normal(50, 9, 120).round(1),
            "kind": random.choice(["flat", "house", None], 120),
            "sold": pd.Timestamp("2020-01-01") + pd.to_timedelta(random.randint(0, 999, 120), "D"),
            "garden": random.choice(["Yes", "no", None], 120),
        }
    )
    y = np.where(frame["size"] > 50, "large", "small")
    pipeline = make_table_pipeline("classification", n_rows=120, random_state=0, max_iter=3)
    metadata = {"kind": "table", "target": "price", "data": "houses.csv"}
    fastmlp.save(pipeline.fit(frame, y), "houses.skops", metadata=metadata)
    frame.assign(price=y).to_csv("houses.csv", index=False)
    return "houses.skops"


def document(*arguments, status=0):
    return json.loads(run("export", *arguments, "--json", status=status))


ENDINGS = {
    "onnx": ".onnx", "torch": ".pt", "safetensors": ".safetensors", "html": ".html", "c": ".h",
    "card": "_card.md",
}  # fmt: skip
SLOW = {to: pytest.mark.slow for to in ("torch", "c")}  # imports, and compiles
PACKAGES = ("onnx", "torch", "safetensors")


def test_the_formats_are_tested():
    assert ENDINGS.keys() == command._FORMATS.keys() == command._EXPORTERS.keys()
    for name in ENDINGS:
        assert getattr(export, f"to_{name}")


@pytest.mark.parametrize("to", [pytest.param(to, marks=SLOW.get(to, ())) for to in ENDINGS])
def test_it_writes_a_file_and_says_how_far_it_is(to, digits):
    if to in PACKAGES:
        needed(to)
    name = f"digits{ENDINGS[to]}"
    shown = facts(run("export", digits, "--to", to))
    assert re.fullmatch(rf"{re.escape(name)} \([\d.]+ (kB|bytes)\)", shown["file"])
    assert Path(name).stat().st_size > 500
    if to == "card":
        assert shown.keys() == {"file"}
        assert Path(name).read_text(encoding="utf-8").startswith("# digits\n")
        return
    pattern = (
        r"0 of \d+ labels differ, largest difference of a probability: \d.\de-\d\d \(.+ rows\)"
    )
    assert re.fullmatch(pattern, shown["check"])
    assert shown["rows"] == "test samples of digits"
    found = document(digits, "--to", to)  # an export is replaced
    assert found["file"] == name and found["bytes"] == Path(name).stat().st_size
    assert found["format"] == to and found["model file"] == digits
    assert found["passed"] is True and found["data set"] == "digits"
    assert found["labels that differ"] == 0
    n_rows = 360 if to == "html" else 256  # which is rounded by default
    assert (found["rows"], found["dtype"]) == (n_rows, shown["weights"])
    assert (found["lines"] != []) == (to == "torch")


@pytest.mark.slow
def test_the_printed_lines_work(digits):
    torch = needed("torch")
    text = run("export", digits, "--to", "torch", "--out", "net.pt")
    code = text[text.index("import torch") :]
    X, _ = datasets.load_digits()[1]
    names = {"X": X}
    exec(code, names)
    assert names["probabilities"].dtype == torch.float32
    assert np.array_equal(names["labels"].numpy(), fastmlp.load(digits).predict(X))
    assert document(digits, "--to", "torch", "--out", "net.pt")["lines"] == code.splitlines()
    assert "import torch" not in run("export", digits, "--to", "torch", "--quiet")


def test_the_inputs_of_a_graph_are_printed(digits):
    needed("onnx")
    shown = facts(run("export", digits, "--to", "onnx", "--dtype", "float64"))
    assert shown["inputs"] == "X: uint8 (N, 64)"
    assert shown["outputs"] == "label: int64 (N), probabilities: float64 (N, 10)"
    assert shown["weights"] == "float64"


@pytest.mark.parametrize("options", [["--dtype", "int8"], ["--small"]])
@pytest.mark.parametrize("to", ["html", pytest.param("c", marks=pytest.mark.slow)])
def test_rounding_may_change_scores(to, options, digits):
    found = document(digits, "--to", to, *options)
    X, y = datasets.load_digits()[1]
    accuracy = accuracy_score(y, fastmlp.load(digits).predict(X))
    assert (found["dtype"], found["rows"], found["test samples"]) == ("int8", 360, 360)
    assert (found["score"], found["model score"]) == ("accuracy", accuracy)
    assert 0 < found["largest difference"] < 0.2
    assert found["passed"] is True
    share = found["labels that differ"] / 360
    assert abs(found["export score"] - accuracy) <= share + 1e-12
    shown = facts(run("export", digits, "--to", to, *options))
    assert shown["test accuracy"] == f"{found['export score']:.4f}, of the model {accuracy:.4f}"


def test_a_regressor_s_score(digits):
    (X, y), _ = datasets.load_digits()
    model = MLPRegressor(
        hidden_layer_sizes=(8,), max_iter=60, input_scale=1 / 16, target_scale="standard",
        random_state=0,
    )  # fmt: skip
    fastmlp.save(model.fit(X, y.astype(float)), "numbers.npz", metadata=DIGITS)
    found = document("numbers.npz", "--to", "c", "--small")
    assert found["score"] == "R²" and found["labels that differ"] is None
    assert found["model score"] > 0.5
    assert found["export score"] == pytest.approx(found["model score"], abs=0.02)


@pytest.mark.parametrize("metadata", [None, DIGITS | {"data": "mnist"}, DIGITS | {"data": "gone/"}])
def test_without_data_rows_are_generated(metadata, trained):
    needed("safetensors")
    fastmlp.save(trained, "model.npz", metadata=metadata)
    found = document("model.npz", "--to", "safetensors")
    assert found["data set"] is None and found["rows"] == 256
    assert facts(run("export", "model.npz", "--to", "safetensors"))["rows"] == "generated"
    assert document("model.npz", "--to", "safetensors", "--data", "digits")["data set"] == "digits"


def test_data_of_another_size(digits, monkeypatch, capsys):
    np.savez(
        "other.npz", x_train=np.zeros((4, 3, 3), np.uint8), y_train=[0, 1, 0, 1],
        x_test=np.zeros((2, 3, 3), np.uint8), y_test=[0, 1],
    )  # fmt: skip
    message = refusal(monkeypatch, capsys, "export", digits, "--to", "c", "--data", "other.npz")
    assert "must hold samples of 64 features" in message


def test_an_export_that_is_too_far_away(digits, monkeypatch):
    needed("safetensors")
    near = export.check_safetensors

    def far(*arguments):
        return dataclasses.replace(near(*arguments), largest=0.02)

    monkeypatch.setattr("fastmlp.export.safetensors.check_safetensors", far)
    found = document(digits, "--to", "safetensors", status=1)
    assert found["passed"] is False and found["largest difference"] == 0.02


# ------------------------------------------------------------------------------------------ tables


@pytest.mark.slow
@pytest.mark.parametrize("to", ["onnx", "html", "c"])
def test_a_table(to, houses):
    if to in PACKAGES:
        needed(to)
    found = document(houses, "--to", to)
    assert found["data set"] is None and found["labels that differ"] == 0
    found = document(houses, "--to", to, "--data", "houses.csv")
    assert found["data set"] == "houses.csv" and found["rows"] == 120
    assert found["labels that differ"] == 0 and found["largest difference"] < 2e-3


def test_the_rows_of_a_table_are_those_of_the_file(houses):
    pipeline = fastmlp.load(houses)
    frame = pd.read_csv("houses.csv", parse_dates=["sold"])
    frame["garden"] = frame["garden"].replace({"no": " NO", "Yes": "yes"})
    rows = command._table_rows(pipeline, frame.drop(columns="price"))
    assert rows[0].keys() == {"size", "kind", "sold", "garden"}
    from fastmlp.export.checks import as_frame
    from fastmlp.portable import plain

    again = as_frame(plain(pipeline), rows)
    np.testing.assert_array_equal(pipeline.predict_proba(again), pipeline.predict_proba(frame))
    assert {row["garden"] for row in rows} == {"Yes", "no", None}


@pytest.mark.slow
def test_a_table_s_network_has_no_place_in_a_state_dict(houses, monkeypatch, capsys):
    needed("torch")
    message = refusal(monkeypatch, capsys, "export", houses, "--to", "torch")
    assert "has no place for what the pipeline does with the columns" in message


@pytest.mark.slow
def test_another_pipeline(trained):
    needed("skl2onnx")
    X, y = datasets.load_digits()[0]
    model = make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=2, random_state=0))
    fastmlp.save(model.fit(X.astype(np.float32), y), "pipeline.skops")
    found = document("pipeline.skops", "--to", "onnx", "--data", "digits")
    assert found["labels that differ"] == 0 and found["data set"] == "digits"
    assert document("pipeline.skops", "--to", "onnx")["data set"] is None


def test_another_pipeline_in_other_formats(monkeypatch, capsys):
    X, y = datasets.load_digits()[0]
    model = make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=1, random_state=0))
    fastmlp.save(model.fit(X, y), "pipeline.skops")
    message = refusal(monkeypatch, capsys, "export", "pipeline.skops", "--to", "c")
    assert message.startswith("of pipelines, only those of fastmlp.tables")


# ----------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "word"], "--to must be one of onnx, html, c, torch, safetensors, card, got"),
        ([], "--to"),
        (
            ["--to", "onnx", "--out", "model.txt"],
            "--out must end in .onnx for --to onnx, got model",
        ),
        (["--to", "html", "--out", "a.pt"], "--out must end in .html or .htm for --to html"),
        (["--to", "c", "--out", "gone/a.h"], "--out must be a file in a directory that exists"),
        (["--to", "torch", "--small"], "--small is for html and c, got --to torch: omit it."),
        (["--to", "c", "--dtype", "float16"], "--dtype must be one of float32, int8 for --to c"),
        (["--to", "card", "--dtype", "int8"], "--dtype is not for --to card, got int8."),
        (["--to", "c", "--small", "--dtype", "float32"], "--small is --dtype int8, got --dtype"),
        (
            ["--to", "c", "--dtype", "bits"],
            "--dtype must be one of float16, float32, float64, int8",
        ),
        (["--to", "c", "--data", "gone.csv"], "gone.csv does not exist"),
    ],
)
def test_options_that_are_refused(arguments, message, digits, monkeypatch, capsys):
    assert message in refusal(monkeypatch, capsys, "export", digits, *arguments)
    assert sorted(path.name for path in Path().iterdir()) == ["digits.npz"]


def test_a_model_that_does_not_exist(monkeypatch, capsys):
    message = refusal(monkeypatch, capsys, "export", "gone.npz", "--to", "card")
    assert message.startswith("gone.npz does not exist: name a model")


def test_a_missing_package(digits, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = refusal(monkeypatch, capsys, "export", digits, "--to", "onnx")
    assert "needs onnx, which is not installed: pip install 'fastmlp[export]'" in message


@pytest.mark.parametrize("to", ENDINGS)
def test_other_files_are_not_replaced(to, digits, monkeypatch, capsys):
    out = Path(f"digits{ENDINGS[to]}")
    out.write_text("somebody else's")
    message = refusal(monkeypatch, capsys, "export", digits, "--to", to)
    assert f"{out} exists and was not written by 'fastmlp export --to {to}': use" in message
    assert out.read_text() == "somebody else's"


@pytest.mark.slow
def test_a_report_is_not_replaced(digits, monkeypatch, capsys):
    run("train", "--data", "digits", "--epochs", 1, "--hidden", 4, "--report", "digits.html")
    before = Path("digits.html").read_bytes()
    message = refusal(monkeypatch, capsys, "export", digits, "--to", "html")
    assert "digits.html exists and was not written by" in message
    assert Path("digits.html").read_bytes() == before


def test_the_model_itself_is_not_replaced(trained, monkeypatch, capsys):
    fastmlp.save(trained, "model.pt")
    message = refusal(monkeypatch, capsys, "export", "model.pt", "--to", "torch")
    assert message == "--out must not be the model, got model.pt: use another file."


def test_help():
    text = run("export", "-h")
    for name in command._FORMATS:
        assert name in text
    assert "fastmlp export model.npz --to html" in text
    assert "1 if the export does not predict what the model" in " ".join(text.split())
    assert USAGE_ERROR == 2 and cli.app
