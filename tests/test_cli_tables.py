"""The command line on people's own data: tables of any kind, and folders of pictures."""

import io
import json
import re
import shlex
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from test_cli import INTERRUPTED
from test_tables import MALFORMED
from typer.testing import CliRunner

import fastmlp
from fastmlp import cli
from fastmlp.cli.epoch_display import EpochDisplay
from fastmlp.estimators.base import BaseMLP

pd = pytest.importorskip("pandas", reason="tables need pandas: fastmlp[tables]")
pytest.importorskip("pyarrow", reason="tables need pyarrow: fastmlp[tables]")
pytest.importorskip("skops", reason="pipelines are saved with skops: fastmlp[tables]")

DOCUMENTATION = Path(__file__).parents[1] / "docs/command_line.md"
N = 120


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*args, status=0, given=None):
    """Run the command; return what is on standard output, or the sentence that refuses."""
    result = CliRunner().invoke(cli.app, list(map(str, args)), prog_name="fastmlp", input=given)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.stdout


def refused(*args):
    """Return the sentence with which the command refuses something."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - main makes a sentence of it
        run(*args)
    return str(caught.value)


def houses():
    """A table with a column of every kind."""
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(
        {
            "size": rng.gamma(3, 40, N).round(1),
            "town": rng.choice(["Ulm", "Köln", "Bern"], N),
            "built": pd.Timestamp("1950-01-01") + pd.to_timedelta(rng.randint(0, 25000, N), "D"),
            "garden": rng.choice(["yes", "no"], N),
        }
    )
    frame.loc[::10, "size"] = np.nan
    frame["price"] = (frame["size"].fillna(100) * 3 + (frame.town == "Bern") * 100).round(2)
    return frame


@pytest.fixture
def priced():
    houses().to_csv("houses.csv", index=False)
    run("train", "--data", "houses.csv", "--epochs", 3, "--quiet")
    return "model.skops"


@pytest.fixture
def rated():
    frame = houses()
    frame["price"] = np.where(frame.price > 400, "dear", "cheap")
    frame.to_parquet("rated.parquet")
    run("train", "--data", "rated.parquet", "--epochs", 3, "--quiet", "--out", "rated.skops")
    return "rated.skops"


def test_train_says_what_it_has_read_and_does():
    houses().to_csv("houses.csv", index=False)
    text = run("train", "--data", "houses.csv", "--epochs", 3)
    assert "houses.csv: 120 rows, 5 columns" in text
    assert re.search(r"size +number +12 +\d+ +scaled, the missing ones filled", text)
    assert re.search(r"town +category +3 +one-hot of 3", text)
    assert "target: price (it is the last column)" in text
    assert "task: regression (the target has numbers with fractions)" in text
    assert "96 rows to train on, 24 held out" in text
    for score in ("R²", "MAE", "RMSE"):
        assert re.search(rf"{score} +-?[0-9.e-]+ +-?[0-9.e-]+", text)


@pytest.mark.slow
def test_the_commands_that_are_named_next_work_as_printed():
    houses().to_csv("my houses.csv", index=False)
    text = run("train", "--data", "my houses.csv", "--epochs", 3, "--out", "my model.skops")
    commands = re.findall(r"^  fastmlp (.*?)  +# ", text, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["predict", "evaluate", "serve", "train"]
    for command in commands:
        if command.startswith("serve"):  # which goes on until it is stopped; see test_serve.py
            assert command == "serve 'my model.skops' --open"
            continue
        run(*shlex.split(command), *(["--epochs", 3] if command.startswith("train") else []))
    assert Path("report.html").exists()


def test_train_as_json_has_the_keys_that_are_documented():
    houses().to_csv("houses.csv", index=False)
    found = json.loads(run("train", "--data", "houses.csv", "--epochs", 3, "--json"))
    section = DOCUMENTATION.read_text().split("with tables\n")[1]
    listed = {
        name
        for names in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
        for name in names.split(", ")
        if name != "key" and set(name) != {"-"}
    }
    columns = {f"columns[].{key}" for key in found["columns"][0]}
    assert listed == (found.keys() - {"columns"}) | columns
    assert found["test scores"]["MAE"].keys() == {"model", "baseline"}
    assert found["training samples"] == 96 and found["epochs"] == 3


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "feather", "jsonl", "csv.gz"])
def test_any_kind_of_file(ending):
    frame = houses()
    match ending:
        case "parquet":
            frame.to_parquet("t.parquet")
        case "feather":
            frame.to_feather("t.feather")
        case "jsonl":
            frame.to_json("t.jsonl", orient="records", lines=True, date_format="iso")
        case _:
            frame.to_csv(f"t.{ending}", index=False, sep="\t" if ending == "tsv" else ",")
    found = json.loads(run("train", "--data", f"t.{ending}", "--epochs", 2, "--json"))
    types = {column["name"]: column["type"] for column in found["columns"]}
    assert types == {
        "size": "number", "town": "category", "built": "date", "garden": "boolean",
        "price": "number",
    }  # fmt: skip


def test_arrays_are_tables_too():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((60, 3)).astype(np.float32)
    np.savez("t.npz", X=X, y=(X[:, 0] > 0).astype(int))
    found = json.loads(run("train", "--data", "t.npz", "--epochs", 2, "--json"))
    assert (found["target"], found["task"]) == ("y", "classification")


def test_predict_gives_a_row_for_a_row(priced):
    rows = run("predict", priced, "houses.csv").splitlines()
    assert rows[0] == "prediction" and len(rows) == 1 + N
    assert all(float(row) > -1e6 for row in rows[1:])


@pytest.mark.slow
def test_columns_are_matched_by_name(priced):
    frame = houses()
    frame.drop(columns="price").to_csv("same.csv", index=False)
    mixed = frame[["town", "garden", "size", "built"]].assign(extra=1)
    mixed.to_csv("mixed.csv", index=False)
    assert run("predict", priced, "same.csv") == run("predict", priced, "mixed.csv")
    frame.drop(columns="town").to_csv("less.csv", index=False)
    assert "lacks the column 'town'" in refused("predict", priced, "less.csv")


@pytest.mark.slow
def test_predict_from_standard_input(priced):
    text = Path("houses.csv").read_text()
    assert run("predict", priced, "-", given=text) == run("predict", priced, "houses.csv")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_predict_into_a_file_beside_the_columns(rated, ending):
    out = f"predicted.{ending}"
    run("predict", rated, "rated.parquet", "--proba", "--keep", "--out", out)
    match ending:
        case "csv":
            back = pd.read_csv(out)
        case "parquet":
            back = pd.read_parquet(out)
        case _:
            back = pd.read_json(out, orient="records", lines=True)
    frame = houses()
    # Where numbers are text they have their own digits, not those of float32.
    narrow = np.float32 if ending == "parquet" else np.float64
    np.testing.assert_array_equal(back["size"], frame["size"].astype(narrow))
    assert set(back["prediction"]) <= {"dear", "cheap"}
    both = back["probability of cheap"] + back["probability of dear"]
    np.testing.assert_allclose(both, 1, rtol=1e-5)


@pytest.mark.slow
def test_evaluate_scores_other_rows(priced, rated):
    scores = json.loads(run("evaluate", priced, "--data", "houses.csv", "--json"))["test scores"]
    assert scores.keys() == {"R²", "MAE", "RMSE"}
    assert "Accuracy" in run("evaluate", rated, "--data", "rated.parquet")
    houses().drop(columns="price").to_csv("none.csv", index=False)
    assert "must have the column 'price'" in refused("evaluate", priced, "--data", "none.csv")


def notes_of(*args):
    """Return what a command says beside its results."""
    result = CliRunner().invoke(cli.app, list(map(str, args)), prog_name="fastmlp")
    assert result.exit_code == 0, result.output
    return result.stderr


def test_info_says_what_train_would_do():
    houses().to_csv("houses.csv", index=False)
    text = run("data", "info", "houses.csv")
    assert re.search(r"town +category +3 +one-hot of 3", text)
    assert "target, unless --target names another: price" in text
    found = json.loads(run("data", "info", "houses.csv", "--json"))
    assert (found["rows"], found["target"], found["task"]) == (120, "price", "regression")
    assert [column["name"] for column in found["columns"]] == list(houses())


def test_show_prints_rows():
    houses().to_csv("houses.csv", index=False)
    lines = run("show", "--data", "houses.csv", "--index", 7, "--n", 2).splitlines()
    assert lines[0].split() == ["row", "size", "town", "built", "garden", "price"]
    assert [line.split()[0] for line in lines[1:]] == ["7", "8"]
    alone = run("show", "--data", "houses.csv", "--index", 9)
    assert alone.startswith("row 9\n") and re.search(r"^town +\w+ *$", alone, re.MULTILINE)
    drawn = json.loads(run("show", "--data", "houses.csv", "--random", "--seed", 1, "--json"))
    [sample] = drawn["samples"]
    assert sample["row"]["price"] == houses()["price"][sample["index"]]
    assert "--n must be at most 120" in refused("show", "--data", "houses.csv", "--n", 121)
    assert "--out is for images" in refused("show", "--data", "houses.csv", "--out", "x.png")


@pytest.mark.slow
def test_confusions_of_rows(rated):
    frame = pd.read_parquet("rated.parquet")
    predicted = pd.read_csv(io.StringIO(run("predict", rated, "rated.parquet")))["prediction"]
    n_wrong = (predicted != frame["price"]).sum()
    assert n_wrong
    frame.loc[0, "price"] = None  # left out, and the others keep their numbers
    frame.to_parquet("rated.parquet")
    wrong = np.flatnonzero((predicted != frame["price"]) & frame["price"].notna())
    text = run("confusions", rated, "--data", "rated.parquet")
    assert f"{len(wrong)} of 119 rows are misclassified" in text
    options = ("--pair", "dear,cheap", "--n", 200)
    found = json.loads(run("confusions", rated, "--data", "rated.parquet", *options, "--json"))
    assert sorted(mistake["index"] for mistake in found["mistakes"]) == wrong.tolist()
    text = run("confusions", rated, "--data", "rated.parquet", *options)
    numbers = re.findall(r"^ *(\d+) +\S+ +(?:Ulm|Köln|Bern)", text, re.MULTILINE)
    assert sorted(map(int, numbers)) == wrong.tolist()


@pytest.mark.slow
def test_what_cannot_be_meant_is_said(rated):
    assert not notes_of("evaluate", rated, "--data", "rated.parquet")
    frame = pd.read_parquet("rated.parquet")
    frame["size"] *= 1000
    frame.loc[:9, "price"] = "free"
    frame.assign(colour="red").to_parquet("strange.parquet")
    notes = notes_of("evaluate", rated, "--data", "strange.parquet")
    assert "columns that the model does not know are ignored: 'colour'" in notes
    assert "10 of 120 rows have classes that the model does not know (free)" in notes
    assert "the column 'size' has the median" in notes and "are the units the same?" in notes
    assert "units" in notes_of("predict", rated, "strange.parquet")
    frame.iloc[:19].to_parquet("few.parquet")
    assert "units" not in notes_of("predict", rated, "few.parquet")


def test_dropout_is_that_of_the_table_s_own_layers():
    houses().to_csv("houses.csv", index=False)
    run("train", "--data", "houses.csv", "--epochs", 1, "--dropout", "0.1,0.2", "--no-save")


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "n_networks"), [(3, 1), (15, 2)])
def test_ctrl_c_keeps_the_networks_that_are_trained(epoch, n_networks, monkeypatch):
    houses().to_csv("houses.csv", index=False)
    seen, original = [], EpochDisplay.epoch_ended

    def epoch_ended(self, fit, report):
        stop = original(self, fit, report)
        seen.append(report)
        if len(seen) == epoch:
            signal.raise_signal(signal.SIGINT)
        return stop

    monkeypatch.setattr(EpochDisplay, "epoch_ended", epoch_ended)
    found = json.loads(
        run("train", "--data", "houses.csv", "--epochs", "6", "--json", status=INTERRUPTED)
    )
    assert found["interrupted"] and found["networks"] == n_networks
    assert found["epochs"] == min(epoch, 6)
    ensemble = fastmlp.load("model.skops")[-1]
    assert len(ensemble.estimators_) == n_networks
    inputs = fastmlp.load("model.skops")[:-1].transform(houses())
    mean = np.mean([network.predict(inputs) for network in ensemble.estimators_], axis=0)
    np.testing.assert_allclose(ensemble.predict(inputs), mean, rtol=1e-6)


def test_ctrl_c_between_two_networks(monkeypatch):
    """Then it reaches none of the fits that the display watches."""
    houses().to_csv("houses.csv", index=False)
    begun, original = [], BaseMLP._prepare

    def prepare(self, *args, **options):
        begun.append(self)
        if len(begun) == 3:
            signal.raise_signal(signal.SIGINT)
        return original(self, *args, **options)

    monkeypatch.setattr(BaseMLP, "_prepare", prepare)
    options = ("--data", "houses.csv", "--epochs", 2)
    found = json.loads(run("train", *options, "--json", status=INTERRUPTED))
    assert found["interrupted"] and found["networks"] == 2 and len(begun) == 3
    ensemble = fastmlp.load("model.skops")[-1]
    assert len(ensemble.estimators_) == 2 and ensemble.n_jobs is None


def test_the_log_names_the_network():
    houses().to_csv("houses.csv", index=False)
    run("train", "--data", "houses.csv", "--epochs", 2, "--quiet", "--log", "run.csv")
    log = pd.read_csv("run.csv")
    assert log[["network", "epoch"]].to_numpy().tolist() == [
        [network, epoch] for network in range(1, 6) for epoch in (1, 2)
    ]


def test_the_recipe_of_tables_may_be_named():
    houses().to_csv("houses.csv", index=False)
    run("train", "--data", "houses.csv", "--epochs", 1, "--recipe", "table", "--no-save")
    assert "for tables: give one with --data" in refused("train", "--recipe", "table")
    assert "'table'], got 'tabel'" in (sentence := refused("train", "--recipe", "tabel"))
    assert sentence.endswith("Did you mean 'table'?")
    assert "--recipe is for images" in refused("train", "--data", "houses.csv", "--recipe", "best")


@pytest.mark.slow
def test_curves_of_held_out_rows():
    frame = houses().assign(price=lambda frame: np.where(frame["garden"] == "yes", "a", "b"))
    frame.to_csv("t.csv", index=False)
    drawn = []
    options = ("--data", "t.csv", "--epochs", 1, "--no-save", "--plots", "p", "--report", "r.html")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastmlp.tables.pipeline._N_ESTIMATORS", 1)
        patch.setattr(
            "fastmlp.displays.LossCurveDisplay.plot", lambda self, ax=None: drawn.append(self)
        )
        patch.setattr(
            "fastmlp.cli.train_table.save_pictures", lambda d: [f(ax=None) for f in d.values()]
        )
        run("train", *options)
        run("train", *options, "--no-validation")
    assert [display.val_name for display in drawn] == ["test", "validation"]
    assert drawn[0].val_loss is not None and drawn[1].val_loss is None


@pytest.mark.slow
def test_report_and_plots():
    pytest.importorskip("matplotlib", reason="pictures need matplotlib: fastmlp[plot]")
    houses().to_csv("houses.csv", index=False)
    run("train", "--data", "houses.csv", "--epochs", 2, "--report", "r.html", "--plots", "plots")
    assert "houses.csv" in Path("r.html").read_text()
    drawn = {path.name for path in Path("plots").iterdir()}
    assert drawn == {"loss_curve.png", "predicted_against_true.png"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "prize"], "the target must be a column of the table, got 'prize'; did you"),
        (["--task", "classification"], "classification needs a target of classes"),
        (["--augment"], "--augment is for images, but houses.csv is a table"),
        (["--recipe", "best"], "--recipe is for images"),
        (["--input-scale", "standard"], "--input-scale is for images"),
        (["--report", "report.txt"], "--report must end in .html, got report.txt"),
        (["--out", "houses.csv"], "houses.csv exists and is not a model"),
    ],
)
def test_what_does_not_suit_a_table_is_refused(options, message):
    houses().to_csv("houses.csv", index=False)
    assert message in refused("train", "--data", "houses.csv", *options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"a,b\n", "no rows"),
        (b"a,b\n1,2\n3\n", "every row must have 2 cells"),
        (b"\x00\x01\x02\x03" * 50, "t.csv"),
        (b"a\n" + b"1\n2\n" * 20, "another column than the target"),
        (b"a,b\n" + b"1,\n2,\n" * 20, "only missing values"),
        (b"a,b\n" + b"1,7\n2,7\n" * 20, "two distinct values"),
        (b"a,b\n1,2\n2,3\n", "must have at least 10 rows"),
    ],
)
def test_tables_that_nothing_can_be_learned_from(content, message):
    Path("t.csv").write_bytes(content)
    assert message in refused("train", "--data", "t.csv")


@pytest.fixture
def as_typed(monkeypatch, capsys):
    """Run a command as the shell does; return the exit status and what is printed."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["fastmlp", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return call


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_gets_a_sentence(case, as_typed):
    content, words = MALFORMED[case]
    Path("t.csv").write_bytes(content)
    commands = [["train", "--data", "t.csv"], ["data", "info", "t.csv"]]
    for command in commands[:1] if case == "IDX" else commands:
        status, out, err = as_typed(*command)
        assert status == 2 and not out
        if case not in ("IDX", "images"):  # which those commands take for what they are
            assert words.replace("the stream", "t.csv") in err
        assert err.startswith("Error: ") and err.count("\n") == 1 and "Traceback" not in err
    assert [path.name for path in Path().iterdir()] == ["t.csv"]


def _strange(**columns):
    """A table with a column to learn from, some others, and a target."""
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"size": rng.randn(N), **columns})
    return frame.assign(y=np.where(frame["size"] > 0, "large", "small"))


#: Name -> a table, and what the command prints of it.
STRANGE = {
    "a column without values": (_strange(a=None), "left out: all values are missing"),
    "a constant column": (_strange(a=7), "left out: constant"),
    "a category per row": (_strange(a=[f"n{i}" for i in range(N)]), "a different value in every"),
    "free text": (_strange(a=[f"n{i % 100}" for i in range(N)]), "left out: free text, 100"),
    "rare categories": (_strange(a=[f"n{i // 3}" for i in range(N)]), "all of them rare"),
    "an identifier": (_strange(id=range(N)), "it numbers the rows"),
    "infinity": (_strange(a=[np.inf, -np.inf, 1] * (N // 3)), "scaled"),
    "huge numbers": (_strange(a=[1e300, -1e300, 1e-300] * (N // 3)), "scaled"),
    "dates": (_strange(a=["2020-02-29", "2021-03-01"] * (N // 2)), "as days since 1970"),
    "dates that are none": (_strange(a=["2021-02-29", "2021-03-01"] * (N // 2)), "a  "),
    "booleans as text": (_strange(a=["yes", "no", None] * (N // 3)), "as 0 and 1, the missing"),
    "booleans": (_strange(a=[True, False] * (N // 2)), "as 0 and 1"),
    "mixed types": (_strange(a=["1", "x", "2.5", ""] * (N // 4)), "one-hot of 3, missing is one"),
    "numbers but for a few": (_strange(a=[*map(str, range(N - 1)), "x"]), "scaled"),
    "accented letters": (_strange(ä=["ß", "€"] * (N // 2)), "one-hot of 2"),
    "missing nearly everywhere": (_strange(a=[1.0, 2.0] + [None] * (N - 2)), "and marked"),
    "one row of a class": (_strange().assign(y=["once", "often", *["few", "often"] * 59]), ""),
    "one row of one of two classes": (
        pd.concat([_strange()] * 12).assign(y=["x"] * (12 * N - 1) + ["z"]),
        "2 different values",
    ),
    "a target with gaps": (_strange().assign(y=[1.5, 2.5, None] * (N // 3)), "rows to train on"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_table_is_learned_from(case, as_typed, monkeypatch):
    monkeypatch.setattr("fastmlp.tables.pipeline._N_ESTIMATORS", 2)  # of 5, which take longer
    table, words = STRANGE[case]
    table.to_csv("t.csv", index=False)
    status, out, err = as_typed("train", "--data", "t.csv", "--epochs", "1", "--quiet")
    assert status == 0 and "Traceback" not in err
    assert words in out and "model.skops" in out
    status, out, err = as_typed("predict", "model.skops", "t.csv")
    assert status == 0 and out.count("\n") == len(table) + 1
    assert "Warning" not in err
    if case == "numbers but for a few":
        assert err.startswith("Note: t.csv: column 'a' holds numbers, except for 1 of 120 rows")


def test_duplicated_and_unnamed_columns(as_typed):
    rows = "".join(f"{i % 7},{i % 5},{i % 3},{i % 2}\n" for i in range(N))
    Path("t.csv").write_text("a,a,,y\n" + rows)
    status, out, err = as_typed("train", "--data", "t.csv", "--epochs", "1")
    assert status == 0 and "a_2" in out
    assert "duplicate names are changed to 'a_2'" in err and "without a name are named 'x2'" in err


@pytest.mark.slow
def test_many_categories(as_typed):
    n = 100_000
    table = pd.DataFrame({"c": [f"c{i}" for i in range(n // 2)] * 2, "x": np.arange(n) % 7})
    table.assign(y=table.x > 3).to_csv("t.csv", index=False)
    status, out, _ = as_typed("data", "info", "t.csv")
    assert status == 0 and "50,000" in out and "all of them rare" in out


@pytest.mark.slow
def test_predictions_do_not_replace_what_is_read(rated):
    before = {path: Path(path).read_bytes() for path in (rated, "rated.parquet")}
    for file in ("rated.parquet", "./rated.parquet"):
        message = refused("predict", rated, "rated.parquet", "--out", file)
        assert message.startswith("--out must not be an input file, got rated.parquet")
    assert before == {path: Path(path).read_bytes() for path in before}
    for _ in range(2):  # predictions are replaced by predictions
        run("predict", rated, "rated.parquet", "--out", "p.csv")


@pytest.mark.slow
def test_predictions_are_made_in_parts(priced, monkeypatch):
    whole = run("predict", priced, "houses.csv")
    sizes = []
    real = fastmlp.tables.TableColumns.transform
    monkeypatch.setattr(
        fastmlp.tables.TableColumns,
        "transform",
        lambda self, X: sizes.append(len(X)) or real(self, X),
    )
    monkeypatch.setattr(cli.tables, "_ROWS_AT_ONCE", 50)
    got = run("predict", priced, "houses.csv")
    assert sizes[-3:] == [50, 50, 20]
    np.testing.assert_allclose(*(np.array(t.split()[1:], float) for t in (got, whole)), rtol=1e-5)


@pytest.mark.slow
def test_new_categories_are_said(as_typed):
    table = _strange(town=["Ulm", "Bern"] * (N // 2))
    table.to_csv("t.csv", index=False)
    as_typed("train", "--data", "t.csv", "--epochs", "1", "--quiet")
    _, _, err = as_typed("predict", "model.skops", "t.csv")
    assert not err
    table.loc[:3, "town"] = "Lugano"
    table.to_csv("new.csv", index=False)
    _, _, err = as_typed("predict", "model.skops", "new.csv")
    assert err == (
        "Note: the column 'town' has values that were not in the training data, in 4 of 120 rows "
        "('Lugano'): they are treated as infrequent.\n"
    )


def test_a_file_that_is_not_there():
    assert "houses.csv does not exist: name a file" in refused("train", "--data", "houses.csv")


def test_arrays_are_predicted_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    run("train", "--data", "digits", "--epochs", 1, "--quiet")
    np.save("X.npy", np.zeros((2, 64), np.uint8))
    assert len(run("predict", "model.npz", "X.npy").split()) == 2
    assert "No such file" in refused("predict", "model.npz", "none.png")


def test_targets_are_for_tables():
    assert "--target is for tables" in refused("train", "--data", "digits", "--target", "x")


class TestPictures:
    @pytest.fixture(autouse=True)
    def _pillow(self):
        self.Image = pytest.importorskip("PIL.Image", reason="images need Pillow")

    def draw(self, folder, n, size=(12, 12), paper=False):
        """Write pictures of two kinds: a bar that stands, and one that lies."""
        rng = np.random.RandomState(n)
        for i in range(n):
            for label in ("stands", "lies"):
                image = np.zeros((12, 12), np.uint8)
                place = rng.randint(2, 10)
                image[(slice(2, 10), place) if label == "stands" else (place, slice(2, 10))] = 255
                place = Path(folder) / label / f"{i}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                picture = self.Image.fromarray(255 - image if paper else image)
                picture.convert("RGB").resize(size).save(place)

    def test_pictures_of_one_label_are_refused(self):
        self.draw("bars", 20)
        for picture in Path("bars/lies").iterdir():
            picture.unlink()
        Path("bars/lies").rmdir()
        message = refused("train", "--data", "bars")
        assert message.startswith("bars must hold images of two labels or more, got only stands")

    def test_a_folder_is_trained_on_and_single_pictures_are_predicted(self):
        self.draw("bars", 60)
        found = json.loads(
            run("train", "--data", "bars", "--solver", "adam", "--epochs", 30, "--json")
        )
        assert found["test samples"] == 24 and found["network"][0] == 144
        assert found["test score"] > 0.9
        self.draw("new", 3, size=(40, 40))
        assert run("predict", "model.npz", "new/lies/0.png") == "lies\n"
        rows = run("predict", "model.npz", "new").splitlines()
        assert rows[0] == "file,prediction" and rows[1].startswith("lies/0.png,")
        assert (
            json.loads(run("evaluate", "model.npz", "--data", "bars", "--json"))["test score"] > 0.9
        )

    def test_paper_white_pictures_are_inverted_and_it_is_said(self, capfd):
        self.draw("bars", 60)
        run("train", "--data", "bars", "--solver", "adam", "--epochs", 30, "--quiet")
        self.draw("paper", 5, paper=True)
        result = CliRunner().invoke(cli.app, ["predict", "model.npz", "paper/lies"])
        predictions = [row.split(",")[1] for row in result.stdout.splitlines()[1:]]
        assert predictions == ["lies"] * 5

    @pytest.mark.slow
    def test_images_that_look_otherwise_are_noted(self):
        self.draw("bars", 80)
        self.draw("grayer", 80)
        for path in Path("grayer").rglob("*.png"):
            image = np.asarray(self.Image.open(path))
            self.Image.fromarray(image // 2 + 90).save(path)
        Path("grayer/lies").rename("grayer/rests")
        run("train", "--data", "bars", "--solver", "adam", "--epochs", 2, "--quiet")
        for command in ("evaluate", "confusions"):
            assert "differs from the" not in notes_of(command, "model.npz", "--data", "bars")
            notes = notes_of(command, "model.npz", "--data", "grayer")
            assert "grayer differs from the training data (bars)" in notes
            assert "16 of 32 labels of grayer are classes that the model does not know (r" in notes
        assert "differs from the training data" in notes_of("predict", "model.npz", "grayer")
        assert "differs from the training data" not in notes_of("predict", "model.npz", "bars")

    def test_pictures_of_several_sizes_become_equal(self):
        self.draw("bars", 10)
        self.draw("bars/more", 1, size=(20, 30))
        Path("bars/more/lies/0.png").rename("bars/lies/x.png")
        import shutil

        shutil.rmtree("bars/more")
        found = json.loads(run("train", "--data", "bars", "--epochs", 1, "--json"))
        assert found["network"][0] == 32 * 32
        found = json.loads(run("train", "--data", "bars", "--epochs", 1, "--size", "8x9", "--json"))
        assert found["network"][0] == 72

    def test_rows_are_refused_pictures(self):
        houses().to_csv("houses.csv", index=False)
        run("train", "--data", "houses.csv", "--epochs", 2, "--quiet")
        self.draw("bars", 1)
        assert "must be a table" in refused("predict", "model.skops", "bars")
