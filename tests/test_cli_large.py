"""``fastmlp train --max-memory``: tables and images that are read in parts."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_cli import INTERRUPTED
from test_cli_tables import refused, run

import fastmlp
from fastmlp import MLPClassifier, idx
from fastmlp.blocks import is_on_disk
from fastmlp.cli.epoch_display import EpochDisplay
from fastmlp.estimators import on_disk

pd = pytest.importorskip("pandas", reason="tables need pandas: fastmlp[tables]")
pytest.importorskip("pyarrow", reason="tables need pyarrow: fastmlp[tables]")
pytest.importorskip("skops", reason="pipelines are saved with skops: fastmlp[tables]")

from fastmlp.tables import (  # noqa: E402
    ParquetTable,
    fit_in_batches,
    make_table_pipeline,
    read_table,
)

N = 20_000
SMALL = "1M"  # the tables take about as much
PARAMETERS = ("--epochs", 4, "--hidden", 24, "--learning-rate", 0.01)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def houses():
    """A table with a column of every kind, missing values and text as label."""
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({f"x{number}": rng.normal(size=N) for number in range(5)})
    frame["town"] = rng.choice(["Ulm", "Köln", "Bern"], N)
    frame["built"] = pd.Timestamp("1950-01-01") + pd.to_timedelta(rng.randint(0, 25000, N), "D")
    frame["garden"] = rng.choice(["yes", "no"], N)
    price = frame.x0 + (frame.town == "Bern") - 0.8 * (frame.garden == "yes")
    frame.loc[::10, "x1"] = np.nan
    frame.loc[::11, "town"] = None
    frame["price"] = price + 0.1 * rng.normal(size=N)
    return frame


def rated():
    frame = houses()
    frame["price"] = np.where(frame.price > 0, "dear", "cheap")
    return frame


def written(frame, name="t.parquet"):
    frame.to_parquet(name, row_group_size=3000)
    return name


def train(*more, data="t.parquet", max_memory=SMALL):
    limit = () if max_memory is None else ("--max-memory", max_memory)
    return json.loads(run("train", "--data", data, *PARAMETERS, *limit, "--json", *more))


@pytest.fixture
def read_whole(monkeypatch):
    """Whether a table was read as a whole: a list that is empty if not."""
    from fastmlp.cli import tables

    calls, original = [], tables.read
    monkeypatch.setattr(tables, "read", lambda data: calls.append(data) or original(data))
    return calls


class Windows:
    """The fits in which the network has read windows of temporary files."""

    def __init__(self, monkeypatch):
        self.rows = []
        original = on_disk.OnDisk.trainer

        def trainer(source, job):
            self.rows.append(source.shape[0])
            return original(source, job)

        monkeypatch.setattr(on_disk.OnDisk, "trainer", trainer)


class TestTables:
    @pytest.mark.slow
    def test_as_good_as_the_usual_path(self, read_whole, monkeypatch):
        written(rated())
        usual = train(max_memory=None)
        assert read_whole == ["t.parquet"]
        windows = Windows(monkeypatch)
        found = train()
        assert read_whole == ["t.parquet"]
        assert windows.rows == [found["training samples"]]
        assert found["training samples"] + found["test samples"] == N
        assert 200 < found["test samples"] < 1000
        scores = [document["test scores"]["Accuracy"]["model"] for document in (found, usual)]
        assert scores[0] > 0.9 and scores[0] > scores[1] - 0.04, scores
        assert found.keys() == usual.keys()
        kinds = [{c["name"]: c["type"] for c in d["columns"]} for d in (found, usual)]
        assert kinds[0] == kinds[1]
        assert (found["networks"], found["target"]) == (1, "price")

    @pytest.mark.slow
    def test_regression(self, monkeypatch):
        written(houses())
        windows = Windows(monkeypatch)
        found = train()
        assert windows.rows and found["task"] == "regression"
        assert found["test scores"]["R²"]["model"] > 0.9
        model = fastmlp.load("model.skops")
        assert model.predict(houses()[:3]).shape == (3,)

    def test_the_model_is_the_usual_one(self):
        written(rated())
        text = run("train", "--data", "t.parquet", *PARAMETERS, "--max-memory", SMALL)
        assert "t.parquet: 20,000 rows, 9 columns" in text
        assert re.search(
            r"those of a sample of 2,\d{3} rows|those of a sample of 1,9\d\d rows", text
        )
        assert "predict" not in text  # which would read all of it
        (command,) = re.findall(r"^  fastmlp (train .*?)  +# ", text, re.MULTILINE)
        assert "--max-memory 1M" in command
        model = fastmlp.load("model.skops")
        about = model.metadata_
        assert (about["kind"], about["task"]) == ("table", "classification")
        assert about["card"]["data"]["rows"] > 19_000
        assert len(about["card"]["data"]["SHA-256 of the file"]) == 64
        assert about["ranges"]["town"] and len(about["ranges"]["x0"]) == 3
        rated()[:50].to_csv("new.csv", index=False)
        scores = json.loads(run("evaluate", "model.skops", "--data", "new.csv", "--json"))
        assert scores["test scores"]["Accuracy"]["model"] > 0.8

    @pytest.mark.slow
    def test_outputs(self):
        written(rated())
        found = train("--plots", "plots", "--report", "r.html", "--log", "log.csv")
        names = [Path(path).name for path in found["pictures"]]
        assert names == ["loss_curve.png", "confusion.png"]
        assert "columns and training rows are shown of a sample" in Path("r.html").read_text()
        assert len(Path("log.csv").read_text().splitlines()) == 5

    @pytest.mark.slow
    def test_ctrl_c_and_checkpoint(self, monkeypatch):
        written(rated())
        options = ("train", "--data", "t.parquet", *PARAMETERS, "--max-memory", SMALL, "--json")
        whole = json.loads(run(*options))
        original = EpochDisplay.epoch_ended

        def epoch_ended(self, fit, report):
            stop = original(self, fit, report)
            if report.epoch == 2:
                signal.raise_signal(signal.SIGINT)
            return stop

        with monkeypatch.context() as patch:
            patch.setattr(EpochDisplay, "epoch_ended", epoch_ended)
            found = json.loads(run(*options, "--checkpoint", "a.ckpt", status=INTERRUPTED))
        assert found["interrupted"] and found["epochs"] == 2
        assert fastmlp.load("model.skops").predict(rated()[:3]).shape == (3,)
        again = json.loads(run(*options, "--checkpoint", "a.ckpt"))
        assert again["epochs"] == 4
        assert again["final loss"] == whole["final loss"]
        assert again["test scores"] == whole["test scores"]

    @pytest.mark.parametrize("method", ["sample", "batches"])
    def test_ctrl_c_while_rows_are_read(self, method, monkeypatch):
        written(rated())

        def interrupted(*_, **__):
            signal.raise_signal(signal.SIGINT)
            return iter([])

        monkeypatch.setattr(ParquetTable, method, interrupted)
        options = ("--data", "t.parquet", *PARAMETERS, "--max-memory", SMALL)
        text = run("train", *options, status=INTERRUPTED)
        assert ("held out" in text) == (method == "batches")
        assert not Path("model.skops").exists()

    def test_it_fits(self, monkeypatch):
        written(rated()[:1000])
        usual = train(max_memory=None)
        windows = Windows(monkeypatch)
        found = train(max_memory="1G")
        assert windows.rows == []
        for document in (usual, found):
            del document["training time"]
        assert found == usual

    @pytest.mark.slow
    def test_what_only_the_last_rows_have(self):
        """A category, a label, and values in a column that has no missing ones elsewhere."""
        frame = rated()
        frame["price"] = frame["price"].astype(object)
        frame.loc[N - 30 :, "town"] = "Basel"
        frame.loc[N - 30 :, "price"] = "free"
        frame.loc[N - 5 :, "x2"] = np.nan
        frame.loc[N - 100 : N - 60, "price"] = None
        written(frame)
        found = train()
        assert found["training samples"] + found["test samples"] == N - 41
        model = fastmlp.load("model.skops")
        assert model.classes_.tolist() == ["cheap", "dear", "free"]
        assert model.predict_proba(frame[-3:]).shape == (3, 3)

    @pytest.mark.parametrize("labels", ["text of digits", "booleans", "integers"])
    def test_labels(self, labels):
        frame = rated()[:12_000]
        high = frame.pop("price") == "dear"
        frame["label"] = {
            "text of digits": np.where(high, "07", "x"),
            "booleans": high,
            "integers": np.where(high, 3, 5).astype(np.int64),
        }[labels]
        # A batch of its own in which the text could be numbers.
        frame.loc[:9000, "label"] = frame["label"][high].iloc[0]
        written(frame)
        found = train("--epochs", 1, max_memory="500K")
        assert found["task"] == "classification"
        expected = sorted(set(read_table("t.parquet")["label"].tolist()))
        assert fastmlp.load("model.skops").classes_.tolist() == expected

    @pytest.mark.slow
    def test_a_folder(self, read_whole):
        frame = rated()
        Path("parts").mkdir()
        for number in range(4):
            part = frame[number * 5000 : (number + 1) * 5000]
            part.to_parquet(f"parts/part-{number}.parquet")
        Path("parts/_SUCCESS").touch()
        written(frame)
        one, several = train(), train(data="parts")
        assert not read_whole
        assert several["training samples"] == one["training samples"]
        assert several["final loss"] == one["final loss"]
        whole = train("--epochs", 1, data="parts", max_memory=None)
        assert (read_whole, whole["training samples"]) == (["parts"], 16_000)

    def test_sorted_by_label(self):
        written(rated().sort_values("price"))
        assert train()["test scores"]["Accuracy"]["model"] > 0.88

    @pytest.mark.slow
    def test_memory(self):
        """Of a table of 300 MB in memory, 60 MB are used more than of a tiny one."""
        rng = np.random.RandomState(0)
        frame = pd.DataFrame(rng.normal(size=(400_000, 90))).add_prefix("x")
        frame["label"] = frame.x0 > 0
        frame.to_parquet("large.parquet", row_group_size=100_000)
        written(frame[:3000], "tiny.parquet")
        peaks = []
        for data in ("tiny.parquet", "large.parquet"):
            program = (
                "import resource, sys; from fastmlp.cli import app\n"
                "try: app(sys.argv[1:])\n"
                "except SystemExit: pass\n"
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
            )
            options = ("--data", data, "--epochs", "1", "--max-memory", "120M", "--no-save")
            done = subprocess.run(
                [sys.executable, "-c", program, "train", *options],
                *(), capture_output=True, text=True, check=True,
            )  # fmt: skip
            unit = 1024 if sys.platform == "darwin" else 1
            peaks.append(int(done.stdout.split()[-1]) / 1024 / unit)
        assert peaks[1] < peaks[0] + 120, peaks


class TestTestRows:
    """Training never sees the rows that are held out."""

    def test_scores_are_of_other_rows(self, monkeypatch):
        frame = rated()[["x0"]]
        frame["x0"] = np.arange(N) % 10_007 + 0.5  # each at most twice
        frame["label"] = np.random.RandomState(1).choice(["a", "b"], N)
        written(frame)
        seen = []
        original = MLPClassifier.fit

        def fit(self, X, y=None, **options):
            def watched():
                for part, labels in X:
                    seen.append(len(labels))
                    yield part, labels

            return original(self, watched(), y, **options)

        monkeypatch.setattr(MLPClassifier, "fit", fit)
        found = train("--epochs", 1, max_memory="300K")
        assert sum(seen) == found["training samples"] == N - found["test samples"]

    def test_rows_are_left_out_by_number(self):
        from fastmlp.cli.train_large import LargeTable

        frame = rated()
        frame["row"] = np.random.RandomState(0).permutation(N) * 3 + 1
        written(frame)
        table = LargeTable(
            *(ParquetTable("t.parquet"), "t.parquet", "price", None, 0, SMALL),
            shows_progress=False,
        )
        trained = np.concatenate([part["row"] for part in table.training_rows()])
        tested = table.X_test["row"].to_numpy()
        assert not set(trained) & set(tested)
        assert set(trained) | set(tested) == set(frame["row"])
        assert not set(table.sample["row"]) & set(tested)
        assert table.n_train == len(trained)


class TestLibrary:
    def test_a_sample(self):
        frame = houses()
        table = ParquetTable(written(frame))
        assert table.n_rows == N
        sample = table.sample(3000, random_state=0)
        assert 2700 < len(sample) < 3300
        assert sample.index.is_monotonic_increasing and sample.index.is_unique
        np.testing.assert_allclose(sample["x0"], frame["x0"][sample.index], rtol=1e-6)
        assert np.histogram(sample.index, 10, (0, N))[0].min() > 200
        assert sample.equals(table.sample(3000, random_state=0))
        assert not sample.index.equals(table.sample(3000, random_state=1).index)

    def test_all_rows_are_those_of_read_table(self):
        frame = ParquetTable(written(houses())).read()
        pd.testing.assert_frame_equal(frame, read_table("t.parquet"), check_index_type=False)

    @pytest.mark.parametrize("kind", ["numbers", "dictionary", "text", "repeated text"])
    def test_estimated_size(self, kind):
        import pyarrow.parquet

        rng = np.random.RandomState(0)
        frame = {
            "numbers": lambda: pd.DataFrame(rng.normal(size=(N, 4))).add_prefix("x"),
            "dictionary": lambda: pd.DataFrame({"x": rng.choice(list("abc"), N)}),
            "text": lambda: pd.DataFrame({"x": [f"{n:0{10 + n % 50}}" for n in range(N)]}),
            "repeated text": lambda: pd.DataFrame(
                {"x": ["some long text" * 9, "short"] * (N // 2)}
            ),
        }[kind]()
        table = ParquetTable(written(frame))
        actual = pyarrow.parquet.read_table("t.parquet").nbytes
        assert 0.9 * actual < table.n_bytes < 1.3 * actual

    def test_an_ensemble(self):
        table = ParquetTable(written(rated()))
        sample = table.sample(1000)
        with pytest.raises(ValueError, match="got MLPEnsemble: pass n_estimators=1"):
            fit_in_batches(make_table_pipeline("classification"), [sample], sample, "price")

    def test_other_values_than_in_the_sample(self):
        frame = rated().assign(size="12")
        sample = frame[:1000]
        sample = sample.assign(size=(np.arange(1000) % 90).astype(str))
        pipeline = make_table_pipeline("classification", n_estimators=1, max_iter=1)
        frame.loc[1500, "size"] = "large"
        with pytest.raises(ValueError, match="^rows 1000 to 1999: the column 'size' must hold num"):
            fit_in_batches(pipeline, [frame[:1000], frame[1000:2000]], sample, "price")
        with pytest.raises(ValueError, match="'price' must hold numbers, as in the sample, got 'x"):
            fit_in_batches(
                make_table_pipeline("regression", n_estimators=1, max_iter=1),
                [houses()[:1000].assign(price="x")],
                *(houses()[:1000], "price"),
            )

    @pytest.mark.slow
    def test_many_categories(self, monkeypatch):
        """The usual encoding is sparse; that of the batches is dense."""
        rng = np.random.RandomState(0)
        frame = pd.DataFrame({"code": rng.choice([f"c{n}" for n in range(200)], N)})
        frame["label"] = frame["code"].str[-1].isin(list("02468"))
        table = ParquetTable(written(frame))
        pipeline = make_table_pipeline("classification", n_estimators=1, max_iter=3, random_state=0)
        windows = Windows(monkeypatch)
        fit_in_batches(pipeline, table.batches(), table.sample(4000, 0), "label", max_memory="9M")
        assert windows.rows == [N]
        assert hasattr(pipeline[:-1].transform(frame[:3]), "indptr")
        assert pipeline.score(frame[["code"]], frame["label"]) > 0.95


class TestRefused:
    @pytest.mark.slow
    def test_other_files(self):
        frame = rated()
        frame.to_csv("my table.csv", index=False)
        message = refused("train", "--data", "my table.csv", "--max-memory", "1M")
        assert message.startswith("my table.csv takes about ")
        assert "at most an eighth of --max-memory 1M for other files than Parquet" in message
        command = re.search(r"with (python .*), and pass --data (.*)\.$", message)
        program, folder = shlex.split(command[1])[2], shlex.split(command[2])[0]
        subprocess.run([sys.executable, "-c", program], check=True)
        found = train("--epochs", 1, data=folder)
        assert found["training samples"] + found["test samples"] == N
        frame.to_csv("t.csv.gz", index=False)
        assert os.path.getsize("t.csv.gz") < os.path.getsize("my table.csv") / 2
        limit = os.path.getsize("t.csv.gz") * 9  # it would fit, but its content does not
        message = refused("train", "--data", "t.csv.gz", "--max-memory", limit)
        assert "t.csv.gz takes about " in message
        np.save("t.npy", np.ones((N, 10)))
        message = refused("train", "--data", "t.npy", "--max-memory", "1M")
        assert message.endswith(
            "convert it to Parquet, of which rows are read when they are needed."
        )
        frame[:100].to_csv("small.csv", index=False)
        assert train("--epochs", 1, data="small.csv", max_memory="100K")["training samples"] == 80

    def test_standard_input(self):
        message = refused("train", "--data", "-", "--max-memory", "1M")
        assert "got standard input: write it to a Parquet file" in message

    @pytest.mark.parametrize("amount", ["much", "0", "-3M", "1X"])
    def test_amounts(self, amount):
        text = run("train", "--data", "digits", "--max-memory", amount, status=2)
        assert text == ""

    def test_folders(self):
        Path("empty").mkdir()
        with pytest.raises(
            ValueError, match="empty must hold files that end in .parquet, got none"
        ):
            ParquetTable("empty")
        frame = rated()
        frame.to_parquet("empty/a.parquet")
        frame.rename(columns={"x0": "other"}).to_parquet("empty/b.parquet")
        assert "got others in b.parquet than in a.parquet" in refused(
            "train", "--data", "empty", "--max-memory", "1M"
        )
        Path("empty/b.parquet").write_bytes(b"PAR1 and so on")
        with pytest.raises(ValueError, match=r"b\.parquet cannot be read: "):
            ParquetTable("empty")
        frame[:0].to_parquet("none.parquet")
        with pytest.raises(ValueError, match=r"none\.parquet has no rows"):
            ParquetTable("none.parquet")

    def test_too_little(self):
        written(rated())
        assert "is too small" in refused("train", "--data", "t.parquet", "--max-memory", "50K")


def images(ending="", copies=10):
    """Write scikit-learn's digits several times as IDX files."""
    from fastmlp.datasets import load_digits

    (X, y), (X_test, y_test) = load_digits()
    rows = np.random.RandomState(0).permutation(np.tile(np.arange(len(X)), copies))
    Path("many").mkdir(exist_ok=True)
    for name, array in {
        "train-images-idx3-ubyte": X[rows].reshape(-1, 8, 8),
        "train-labels-idx1-ubyte": y[rows],
        "t10k-images-idx3-ubyte": X_test.reshape(-1, 8, 8),
        "t10k-labels-idx1-ubyte": y_test,
    }.items():
        idx.write(f"many/{name}{ending}", array)
    return "many"


class TestImages:
    OPTIONS = ("--epochs", 3, "--seed", 1, "--json")

    def train(self, *more, data="many"):
        return json.loads(run("train", "--data", data, *self.OPTIONS, *more))

    @pytest.mark.slow
    def test_as_good_as_the_usual_path(self, monkeypatch):
        images()
        usual = self.train()
        windows = Windows(monkeypatch)
        found = self.train("--max-memory", "400K", "--report", "r.html", "--plots", "plots")
        assert windows.rows == [14_370]
        assert found["training samples"] == usual["training samples"] == 14_370
        assert found["train score"] > usual["train score"] - 0.02 > 0.9
        assert found["test score"] > usual["test score"] - 0.03
        assert len(found["pictures"]) == 4 and Path("r.html").exists()
        model = fastmlp.load("model.npz")
        about = model.metadata_
        assert (about["shape"], about["white"]) == ([8, 8], 16)
        assert len(about["card"]["data"]["SHA-256 of the file"]) == 64
        assert model.input_scale == 1 / 16

    def test_it_fits(self, monkeypatch):
        images()
        windows = Windows(monkeypatch)
        found, usual = self.train("--max-memory", "3M"), self.train()
        assert windows.rows == []
        for document in (found, usual):
            del document["training time"], document["samples per second"]
        assert found == usual

    def test_refused(self):
        images(".gz")
        message = refused("train", "--data", "many", "--max-memory", "400K")
        assert "train-images-idx3-ubyte.gz must be uncompressed" in message
        assert "gunzip" in message
        images()
        for file in Path("many").glob("*.gz"):
            file.unlink()
        message = refused(
            *("train", "--recipe", "dropout-300", "--data", "many", "--max-memory", "400K")
        )
        assert "--recipe dropout-300 holds out images" in message
        idx.write("many/train-labels-idx1-ubyte", np.zeros(7, np.uint8))
        message = refused("train", "--data", "many", "--max-memory", "400K")
        assert "they do not belong together" in message
        message = refused("train", "--data", "mnist", "--max-memory", "1M")
        assert "mnist must take at most half of --max-memory 1M" in message


def test_memory_maps_of_idx_files_are_on_disk(tmp_path):
    X = (np.arange(300_000) % 251).astype(np.uint8).reshape(5000, 60)
    idx.write("X", X)
    mapped = idx.read("X", mmap=True)
    assert is_on_disk(mapped) and mapped.offset == 12
    assert os.path.samefile(mapped.filename, "X")
    y = X[:, 0] > 9
    parameters = {
        "max_iter": 2, "random_state": 0, "hidden_layer_sizes": 3, "shuffle": False,
        "input_scale": 1 / 255,
    }  # fmt: skip
    with pytest.warns(Warning, match="converge"):
        models = [
            MLPClassifier(**parameters).fit(array, y, **options)
            for array, options in ((X, {}), (mapped, {"max_memory": 400_000}))
        ]
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])
