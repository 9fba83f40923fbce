"""`fastmlp serve`: real sockets, a real client of others, malformed and slow requests, signals.

FASTMLP_REQUIRE_TOOLS="starlette,tritonclient" makes tests fail that otherwise skip without these.
"""

import asyncio
import base64
import csv
import hashlib
import http.client
import importlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import serve_attacks
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import fastmlp
from fastmlp import MLPClassifier, MLPEnsemble, MLPRegressor, cli
from fastmlp.datasets import load_digits
from fastmlp.portable import PlainTable, about, plain
from fastmlp.serve.limits import Limits


def needed(package):
    """Import a package, or skip the test, unless FASTMLP_REQUIRE_TOOLS names it."""
    if package.partition(".")[0] in os.environ.get("FASTMLP_REQUIRE_TOOLS", "").split(","):
        return importlib.import_module(package)
    return pytest.importorskip(package)


pd = needed("pandas")
needed("skops")
for package in ("starlette", "uvicorn", "httptools", "prometheus_client"):
    needed(package)
errors, metrics, models, pages, predicting, running, service, tables, tensors = (
    importlib.import_module(f"fastmlp.serve.{name}")
    for name in (
        *("errors", "metrics", "models", "pages", "predicting", "running", "service", "tables"),
        "tensors",
    )
)
make_table_pipeline = importlib.import_module("fastmlp.tables").make_table_pipeline

TOKEN = "a-token-of-enough-letters"
BINARY = "application/octet-stream"


# ------------------------------------------------------------------------------------------ models


def quick(estimator, X, y, **parameters):
    defaults = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator(**{**defaults, **parameters}).fit(X, y)


def table_frame(n_rows=300, seed=0):
    random = np.random.RandomState(seed)
    frame = pd.DataFrame(
        {
            "size": random.normal(size=n_rows).round(3),
            "count": random.randint(0, 2, n_rows),
            "colour": random.choice(["red", "green", "blue"], n_rows),
            "when": pd.to_datetime("2024-01-01")
            + pd.to_timedelta(random.randint(0, 99, n_rows), "D"),
            "sold": random.choice(["yes", "no"], n_rows),
            "new": random.uniform(size=n_rows) > 0.5,
        }
    )
    frame.loc[random.uniform(size=n_rows) < 0.1, "size"] = np.nan
    frame.loc[random.uniform(size=n_rows) < 0.1, "colour"] = None
    return frame


def table_pipeline(task="classification"):
    frame = table_frame()
    number = frame["size"].fillna(0) + (frame["colour"] == "red")
    y = np.where(number > 0.5, "large", "small") if task == "classification" else number.to_numpy()
    pipeline = make_table_pipeline(
        task, n_rows=len(frame), random_state=0, n_estimators=2, hidden_layer_sizes=(8,), max_iter=3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pipeline.fit(frame, y)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of models of every kind."""
    folder = tmp_path_factory.mktemp("models")
    (X, y), _ = load_digits()
    digits = quick(MLPClassifier, X, y, input_scale=1 / 16)
    metadata = {"kind": "images", "shape": [8, 8], "background": 0.0, "data": "digits"}
    fastmlp.save(digits, folder / "digits.npz", metadata=metadata)
    iris, kinds = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[kinds]
    scaled = {"input_scale": "standard"}
    models = {
        "iris": quick(MLPClassifier, iris, names, **scaled),
        "narrow": quick(MLPClassifier, iris.astype(np.float32), kinds),
        "two": quick(MLPClassifier, iris, kinds > 0),
        "squares": quick(MLPClassifier, iris, kinds, loss="squared_error"),
        "labels": quick(MLPClassifier, iris, np.eye(3, dtype=int)[kinds]),
        "number": quick(MLPRegressor, iris[:, :3], iris[:, 3], **scaled),
        "numbers": quick(MLPRegressor, iris[:, :2], iris[:, 2:]),
        "named": quick(MLPClassifier, pd.DataFrame(iris, columns=list("abcd")), names),
    }
    ensemble = MLPEnsemble(MLPClassifier((8,), max_iter=3), 2, random_state=0)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=3, random_state=0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models["several"] = ensemble.fit(iris, kinds)
        models["piped"] = pipeline.fit(pd.DataFrame(iris, columns=list("abcd")), names)
    models |= {"sales": table_pipeline(), "prices": table_pipeline("regression")}
    for name, model in models.items():
        fastmlp.save(model, folder / f"{name}.{'npz' if name not in SKOPS else 'skops'}")
    return folder


SKOPS = ("several", "piped", "sales", "prices")


def file_of(folder, name):
    return next(folder.glob(f"{name}.*"))


# ----------------------------------------------------------------------------------------- servers


@contextmanager
def serving(*paths, limits=None, **settings):
    """Run a server in a thread; yield its client."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = running.Server(
            paths, fastmlp.load, running.Settings(port=0, limits=limits or Limits(), **settings)
        )
    started = threading.Event()
    thread = threading.Thread(target=server.run, args=[started.set])
    thread.start()
    try:
        assert started.wait(20)
        yield Client(server)
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self):
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body, parse_constant=pytest.fail)


class Client:
    """Sends requests, each on a connection of its own."""

    def __init__(self, server):
        self.server = server
        self.port = urlsplit(server.url).port

    def __call__(self, path, body=None, kind=None, method=None, **headers):
        if not isinstance(body, bytes | str | None):
            body, kind = json.dumps(body), kind or "application/json"
        if kind is not None:
            headers["Content-Type"] = kind
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        method = method or ("GET" if body is None else "POST")
        connection.request(method, path, body, headers)
        reply = Reply(connection.getresponse())
        connection.close()
        return reply

    def refusal(self, path, body=None, status=400, **options):
        """Return the sentence of a refused request."""
        reply = self(path, body, **options)
        assert reply.status == status, reply.body
        sentence = reply.json["error"]
        assert sentence.endswith((".", "?")) and len(sentence) < 500
        return sentence

    def metric(self, line):
        text = self("/metrics").body.decode()
        found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
        return 0.0 if found is None else float(found[1])


@pytest.fixture(scope="module")
def ask(folder):
    with serving(*sorted(folder.iterdir())) as client:
        yield client


@pytest.fixture(scope="module")
def digits():
    (X, y), _ = load_digits()
    return X


def load(folder, name):
    return fastmlp.load(file_of(folder, name))


# ---------------------------------------------------------------------------------- the short form


def test_rows_of_images(ask, folder, digits):
    model, rows = load(folder, "digits"), digits[:3]
    for body in ({"rows": rows.tolist()}, rows.tolist()):
        found = ask("/predict?model=digits", body).json
        assert found == ask("/models/digits/predict", body).json
        assert found["model"] == "digits"
        assert found["classes"] == list(range(10))
        assert found["predictions"] == model.predict(rows).tolist()
        assert (np.array(found["probabilities"]) == model.predict_proba(rows)).all()


@pytest.mark.parametrize(
    "name", ["iris", "narrow", "two", "squares", "labels", "several", "named", "piped"]
)
def test_rows_of_numbers(ask, folder, name):
    model, X = load(folder, name), load_iris().data[::7]
    if name == "narrow":
        X = X.astype(np.float32)
    frame = pd.DataFrame(X, columns=list("abcd")) if name in ("named", "piped") else X
    found = ask(f"/models/{name}/predict", {"rows": X.tolist()}).json
    assert found["predictions"] == model.predict(frame).tolist()
    assert (np.array(found["probabilities"]) == model.predict_proba(frame)).all()


@pytest.mark.parametrize("name", ["number", "numbers"])
def test_predicted_numbers(ask, folder, name):
    model, X = load(folder, name), load_iris().data[:5]
    X = X[:, : model.n_features_in_]
    found = ask(f"/models/{name}/predict", X.tolist()).json
    assert found == {"model": name, "predictions": model.predict(X).tolist()}


def test_rows_by_names(ask, folder):
    model, X = load(folder, "named"), load_iris().data[:2]
    frame = pd.DataFrame(X, columns=list("abcd"))
    rows = frame[list("dcba")].to_dict("records")
    wanted = model.predict_proba(frame).tolist()
    assert ask("/models/named/predict", rows).json["probabilities"] == wanted
    assert ask("/models/named/predict", rows[0]).json["probabilities"] == wanted[:1]
    del rows[1]["b"]
    assert "the column 'b' that the model was trained on" in ask.refusal(
        "/models/named/predict", rows
    )


def json_rows(frame):
    """Return rows as a program in any language would write them."""
    text = frame.to_json(orient="records", date_format="iso", date_unit="s")
    return [
        {
            k: v.removesuffix(".000").removesuffix("Z")[:10] if k == "when" else v
            for k, v in row.items()
        }
        for row in json.loads(text)
    ]


@pytest.mark.parametrize("name", ["sales", "prices"])
@pytest.mark.parametrize("n_rows", [1, 5, 200])
def test_rows_of_tables(ask, folder, name, n_rows):
    model, frame = load(folder, name), table_frame(n_rows, seed=1)
    found = ask(f"/models/{name}/predict", {"rows": json_rows(frame)}).json
    assert np.array_equal(found["predictions"], model.predict(frame))
    if name == "sales":
        assert (np.array(found["probabilities"]) == model.predict_proba(frame)).all()


def test_values_of_tables(ask, folder):
    """Values may be missing, unknown, and written in several ways."""
    model = load(folder, "sales")
    row = {
        "size": 0.25, "count": 1, "colour": "red", "when": "2024-02-01", "sold": "yes", "new": True
    }  # fmt: skip
    written = [row]
    typed = [{**row, "when": pd.Timestamp("2024-02-01")}]
    for name, json_value, value in [
        ("size", None, None), ("size", "NA", None), ("size", "0.5", 0.5), ("size", 3, 3.0),
        ("size", 1e300, 1e300), ("count", True, 1), ("colour", None, None), ("colour", "", None),
        ("colour", "pink", "pink"), ("when", None, None), ("sold", " YES", "yes"),
        ("sold", None, None), ("new", 0, False), ("new", None, None),
        ("when", "2024-02-01T12:30:00", pd.Timestamp("2024-02-01T12:30:00")),
        ("when", "2024-02-01T12:30:00+02:00", pd.Timestamp("2024-02-01T10:30:00")),
    ]:  # fmt: skip
        written.append({**row, name: json_value})
        typed.append({**typed[0], name: value})
    frame = pd.DataFrame(typed)
    frame["new"] = frame["new"].astype("boolean")
    wanted = model.predict_proba(frame)
    assert (wanted[1:] != wanted[0]).any(axis=1).sum() > 8
    for rows in (written, written * 10):  # which are encoded in two ways
        found = np.array(ask("/models/sales/predict", rows).json["probabilities"])
        assert (found == np.tile(wanted, (len(rows) // len(written), 1))).all()
    for row_ in written:
        assert ask("/models/sales/predict", row_).status == 200


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("size", "large", "must hold numbers, as in training, got 'large' in row 0."),
        ("size", [1], "must hold numbers, as in training, got a list in row 0."),
        ("colour", {}, "must hold text or numbers, as in training, got an object in row 0."),
        ("when", "yesterday", "must hold dates such as '2024-12-31'"),
        ("when", 5, "must hold dates such as '2024-12-31'"),
        ("sold", "maybe", "must hold true, false, 'no' or 'yes', as in training, got 'maybe'"),
        ("sold", 1, "must hold true, false, 'no' or 'yes'"),
        ("new", 2, "must hold true, false, 0 or 1, as in training, got 2 in row 0."),
    ],
)
def test_wrong_values_of_tables(ask, name, value, words):
    row = json_rows(table_frame(1))[0] | {name: value}
    sentence = ask.refusal("/models/sales/predict", [row])
    assert sentence.startswith(f"the column {name!r} ") and words in sentence


def test_large_integers_are_categories(ask):
    row = json_rows(table_frame(1))[0] | {"colour": 10**400}
    assert ask("/models/sales/predict", [row]).status == 200


def test_pictures(ask, folder, digits, tmp_path):
    image = needed("PIL.Image")
    from fastmlp import images

    model = load(folder, "digits")
    large = np.kron(digits[0].reshape(8, 8) * 15, np.ones((4, 4), np.uint8)).astype(np.uint8)
    for levels, note in ((large, False), (255 - large, True)):
        image.fromarray(levels).convert("RGB").save(tmp_path / "picture.png")
        content = (tmp_path / "picture.png").read_bytes()
        rows, _ = images.read_pictures(tmp_path / "picture.png", (8, 8))
        rows = rows.reshape(1, -1)
        grays = 255 - rows if note else rows  # white is 16 in the training images
        wanted = model.predict_proba((grays * (16 / 255)).astype(np.float32))
        for kind in ("image/png", "application/x-www-form-urlencoded", None):
            found = ask("/models/digits/predict", content, kind).json
            assert found["probabilities"] == wanted.tolist()
            assert ("note" in found) == note
    assert "takes rows, got a picture" in ask.refusal("/models/iris/predict", content, 415,
                                                      kind="image/png")  # fmt: skip
    refusal = ask.refusal("/models/digits/predict", content[:60], kind="image/png")
    assert refusal.startswith("the picture cannot be read: ")


def test_csv(ask, folder):
    model, X = load(folder, "named"), load_iris().data[:4]
    frame = pd.DataFrame(X, columns=list("abcd"))
    text = frame[list("badc")].to_csv(index=False)
    found = ask("/models/named/predict", text, "text/csv").json
    assert found["probabilities"] == model.predict_proba(frame).tolist()
    reply = ask("/models/iris/predict", text, "text/csv; charset=utf-8", Accept="text/csv")
    assert reply.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(reply.body.decode())))
    assert rows[0] == [
        "prediction",
        *(f"probability of {c}" for c in load(folder, "iris").classes_),
    ]
    assert len(rows) == 5
    text = "\n".join(",".join(map(repr, row)) for row in X.tolist())  # without a header
    wanted = load(folder, "iris").predict_proba(X)
    found = ask("/models/iris/predict", text, "text/csv").json
    assert found["probabilities"] == wanted.tolist()


def test_csv_of_tables(ask, folder):
    """Columns are kept, and predictions are those of `fastmlp predict`."""
    model, frame = load(folder, "sales"), table_frame(50, seed=2)
    frame["prediction"] = 7  # a name that is taken
    text = frame.to_csv(index=False)
    wanted = model.predict_proba(frame)
    found = ask("/models/sales/predict", text, "text/csv").json
    assert (np.array(found["probabilities"]) == wanted).all()
    reply = ask("/models/sales/predict", text, "text/csv", Accept="text/csv")
    kept = pd.read_csv(io.BytesIO(reply.body))
    assert list(kept.columns) == [
        *frame.columns, "prediction_", "probability of large", "probability of small"
    ]  # fmt: skip
    assert kept["prediction_"].tolist() == model.predict(frame).tolist()
    assert np.allclose(kept.iloc[:, -2:], wanted, rtol=1e-6)
    lacking = frame.drop(columns="colour").to_csv(index=False)
    sentence = ask.refusal("/models/sales/predict", lacking, kind="text/csv")
    assert sentence.startswith("the table lacks the column 'colour'")


# ------------------------------------------------------------------------------ what the page asks


def test_explaining_images(ask, folder, digits):
    model = load(folder, "digits")
    found = ask("/models/digits/explain", {"pixels": digits[0].tolist()}).json
    assert found["probabilities"] == model.predict_proba(digits[:1])[0].tolist()
    assert found["label"] == model.predict(digits[:1])[0]
    hidden = np.maximum(digits[0] / 16 @ model.coefs_[0] + model.intercepts_[0], 0)
    values = hidden * np.linalg.norm(model.coefs_[1], axis=1)
    assert [entry["unit"] for entry in found["units"]] == np.argsort(
        -values, kind="stable"
    ).tolist()
    assert np.allclose([entry["value"] for entry in found["units"]], np.sort(values)[::-1])


def test_weights_of_units(ask, folder):
    coefs = load(folder, "digits").coefs_[0]
    weights = ask("/models/digits/units/3").json["weights"]
    found = np.frombuffer(base64.b64decode(weights), np.int8)
    scale = np.abs(coefs[:, 3]).max() / 127
    assert np.abs(found).max() == 127
    assert np.abs(found * scale - coefs[:, 3]).max() <= scale / 2 + 1e-12
    for wrong in ("8", "-1", "x", "1e0", "²", "0x1", "9" * 5000):
        sentence = ask.refusal(f"/models/digits/units/{quote(wrong)}", status=404)
        assert "from 0 to 7" in sentence


@pytest.mark.parametrize("name", ["sales", "prices"])
def test_explaining_tables(ask, folder, name):
    model = load(folder, name)
    frame = table_frame(1, seed=3)
    row = json_rows(frame)[0]
    found = ask(f"/models/{name}/explain", {"row": row}).json
    columns = {c["name"]: c for c in ask(f"/models/{name}").json["columns"]}

    def predicted(row):
        document = ask(f"/models/{name}/predict", [row]).json
        if name == "prices":
            return document["predictions"][0]
        return document["probabilities"][0][document["classes"].index(label)]

    label = found.get("label")
    if name == "sales":
        assert label == model.predict(frame)[0]
    assert {entry["name"] for entry in found["columns"]} == set(row)
    effects = [abs(entry["effect"]) for entry in found["columns"]]
    assert effects == sorted(effects, reverse=True) and effects[0] > 0
    for entry in found["columns"]:
        other = predicted({**row, entry["name"]: columns[entry["name"]]["typical"]})
        assert entry["effect"] == pytest.approx(predicted(row) - other, abs=1e-6)


def test_descriptions_of_models(ask, folder):
    found = ask("/models").json
    assert [entry["name"] for entry in found] == sorted(path.stem for path in folder.iterdir())
    for entry in found:
        assert entry == ask(f"/models/{entry['name']}").json
        assert entry == json.loads(json.dumps(about(load(folder, entry["name"]), entry["name"])))


def test_the_page(folder):
    with serving(file_of(folder, "digits"), file_of(folder, "sales")) as ask:
        reply = ask("/")
        assert reply.status == 200 and reply.headers["content-type"].startswith("text/html")
        text = reply.body.decode()
        assert "digits" in text and "sales" in text
        policy = reply.headers["content-security-policy"]
        scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL)
        for script in scripts:
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
        assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
        assert not re.search(r"https?:|//", policy)


# --------------------------------------------------------------------- the Open Inference Protocol


def tensor(X, datatype, *, data=None, name="input"):
    entry = {"name": name, "datatype": datatype, "shape": list(X.shape)}
    if data is None:
        entry["parameters"] = {"binary_data_size": X.nbytes}
    else:
        entry["data"] = data
    return entry


def infer(ask, name, document, *arrays):
    """Send a request with bytes behind the JSON; return the JSON and arrays of the answer."""
    head = json.dumps(document).encode()
    body = b"".join([head, *(array.tobytes() for array in arrays)])
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = ask(f"/v2/models/{name}/infer", body, BINARY, **headers)
    if reply.status != 200:
        return reply.json, {}
    n_json = int(reply.headers.get("inference-header-content-length", len(reply.body)))
    document, rest = json.loads(reply.body[:n_json]), reply.body[n_json:]
    outputs = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            outputs[output["name"]], rest = rest[:size], rest[size:]
    assert not rest
    return document, outputs


DTYPES = {"UINT8": "u1", "INT32": "<i4", "INT64": "<i8", "UINT16": "<u2", "FP32": "<f4",
          "FP64": "<f8", "FP16": "<f2", "INT8": "i1"}  # fmt: skip


@pytest.mark.parametrize("datatype", DTYPES)
def test_tensors(ask, folder, digits, datatype):
    model = load(folder, "digits")
    X = digits[:5].astype(DTYPES[datatype])
    wanted = model.predict_proba(X.astype(np.float32) if datatype == "FP16" else X)
    document = {"id": "7", "inputs": [tensor(X, datatype, data=X.tolist())]}
    found = ask("/v2/models/digits/infer", document).json
    assert found["model_name"] == "digits" and found["id"] == "7"
    outputs = {output["name"]: output for output in found["outputs"]}
    assert outputs["label"]["data"] == model.predict(X).tolist()
    assert outputs["probabilities"]["shape"] == [5, 10]
    assert outputs["probabilities"]["data"] == wanted.ravel().tolist()
    document = {
        "inputs": [tensor(X, datatype)],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
    }
    found, arrays = infer(ask, "digits", document, X)
    assert found["outputs"][0]["datatype"] == f"FP{8 * wanted.itemsize}"
    probabilities = np.frombuffer(arrays["probabilities"], wanted.dtype)
    assert (probabilities.reshape(5, 10) == wanted).all()


def test_brain_floats(ask, folder, digits):
    X = digits[:2].astype(np.float32)
    halves = (X.view(np.uint32) >> 16).astype(np.uint16)
    document = {"inputs": [tensor(halves, "BF16")], "parameters": {"binary_data_output": True}}
    found, arrays = infer(ask, "digits", document, halves)
    wanted = load(folder, "digits").predict_proba(X)
    probabilities = np.frombuffer(arrays["probabilities"], np.float32)
    assert (probabilities.reshape(2, 10) == wanted).all()
    assert np.frombuffer(arrays["label"], np.uint8).tolist() == wanted.argmax(axis=1).tolist()


def test_images_as_tensors_of_their_shape(ask, digits):
    X = digits[:3]
    flat, _ = infer(ask, "digits", {"inputs": [tensor(X, "UINT8")]}, X)
    for shape in ((3, 8, 8), (3, 1, 8, 8)):
        images = X.reshape(shape)
        assert infer(ask, "digits", {"inputs": [tensor(images, "UINT8")]}, images)[0] == flat


@pytest.mark.parametrize(
    "name, datatype", [("digits", "UINT8"), ("digits", "FP32"), ("iris", "FP64")]
)
def test_many_rows_as_bytes(ask, folder, digits, name, datatype):
    """They are predicted while they arrive, in parts, if that does not change the results."""
    random = np.random.RandomState(0)
    model = load(folder, name)
    X = random.randint(0, 17, (20_000, model.n_features_in_)).astype(DTYPES[datatype])
    document = {"inputs": [tensor(X, datatype)], "parameters": {"binary_data_output": True}}
    found, arrays = infer(ask, name, document, X)
    wanted = model.predict_proba(X)
    probabilities = np.frombuffer(arrays["probabilities"], wanted.dtype)
    assert (probabilities.reshape(wanted.shape) == wanted).all()
    X[15_000, 2] = np.nan if datatype != "UINT8" else 0
    if datatype != "UINT8":
        refused, _ = infer(ask, name, document, X)
        assert "NaN" in refused["error"]
    assert infer(ask, name, document, X[:100])[0]["error"].startswith("the input 'input' must have")


@pytest.mark.parametrize(
    "name, label, number",
    [("iris", "BYTES", "FP64"), ("narrow", "INT64", "FP32"), ("two", "BOOL", "FP64"),
     ("labels", "INT64", "FP64"), ("number", None, "FP64"), ("numbers", None, "FP64"),
     ("digits", "UINT8", "FP32"), ("several", "INT64", "FP64"), ("named", "BYTES", "FP64"),
     ("sales", "BYTES", "FP32"), ("prices", None, "FP32")],
)  # fmt: skip
def test_metadata_are_those_of_answers(ask, name, label, number):
    described = ask(f"/v2/models/{name}").json
    assert described == ask(f"/v2/models/{name}/versions/1").json
    assert described["name"] == name and described["versions"] == ["1"]
    inputs = [
        {**entry, "shape": [2, *(max(side, 1) for side in entry["shape"][1:])]}
        for entry in described["inputs"]
    ]
    for entry in inputs:
        value = {"BYTES": "2024-01-01", "BOOL": True}.get(entry["datatype"], 0)
        value = "yes" if entry["name"] == "sold" else value
        entry["data"] = [value] * int(np.prod(entry["shape"]))
    outputs = ask(f"/v2/models/{name}/infer", {"inputs": inputs}).json["outputs"]
    assert [(output["name"], output["datatype"]) for output in outputs] == [
        (output["name"], output["datatype"]) for output in described["outputs"]
    ]
    for output, entry in zip(outputs, described["outputs"], strict=True):
        assert output["shape"] == [2, *entry["shape"][1:]]
        assert len(output["data"]) == np.prod(output["shape"])
    datatypes = {output["name"]: output["datatype"] for output in outputs}
    assert datatypes.get("label") == label
    assert datatypes.get("probabilities", datatypes.get("prediction")) == number


def test_tables_as_tensors(ask, folder):
    model, frame = load(folder, "sales"), table_frame(6, seed=4)
    wanted = model.predict_proba(frame)
    rows = json_rows(frame)
    datatypes = {e["name"]: e["datatype"] for e in ask("/v2/models/sales").json["inputs"]}
    assert datatypes == {
        "size": "FP64", "count": "FP64", "colour": "BYTES", "when": "BYTES", "sold": "BYTES",
        "new": "BOOL",
    }  # fmt: skip
    for shape in ([6], [6, 1]):
        inputs = [
            {"name": n, "datatype": t, "shape": shape, "data": [row[n] for row in rows]}
            for n, t in datatypes.items()
        ]
        found = ask("/v2/models/sales/infer", {"inputs": inputs}).json["outputs"]
        assert found[1]["data"] == wanted.ravel().tolist()
    assert "a value per row" in ask.refusal(
        "/v2/models/sales/infer", {"inputs": [{**inputs[0], "shape": [2, 3]}]}
    )
    assert "the columns 'count', 'colour'" in ask.refusal(
        "/v2/models/sales/infer", {"inputs": inputs[:1]}
    )


def test_the_client_of_triton(ask, folder, digits):
    """A client that nobody here wrote gets `predict_proba`'s numbers."""
    triton = needed("tritonclient.http")
    client = triton.InferenceServerClient(f"127.0.0.1:{ask.port}")
    try:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("digits") and not client.is_model_ready("nothing")
        assert client.get_server_metadata()["name"] == "fastmlp"
        assert client.get_model_metadata("digits", "1")["inputs"][0]["shape"] == [-1, 64]
        model = load(folder, "digits")
        for dtype, name in ((np.uint8, "UINT8"), (np.float32, "FP32"), (np.float64, "FP64")):
            for n_rows in (1, 1700):
                X = np.tile(digits, (2, 1))[:n_rows].astype(dtype)
                given = triton.InferInput("input", X.shape, name)
                for is_binary in (True, False):
                    given.set_data_from_numpy(X, binary_data=is_binary)
                    wanted = triton.InferRequestedOutput("probabilities", binary_data=is_binary)
                    for outputs in ([wanted], None):
                        found = client.infer("digits", [given], outputs=outputs)
                        assert (found.as_numpy("probabilities") == model.predict_proba(X)).all()
                        if outputs is None:
                            assert (found.as_numpy("label") == model.predict(X)).all()
        X = load_iris().data
        given = triton.InferInput("input", X.shape, "FP64")
        given.set_data_from_numpy(X)
        found = client.infer("iris", [given])
        assert (
            found.as_numpy("label").astype(str).tolist() == load(folder, "iris").predict(X).tolist()
        )
        frame = table_frame(20, seed=5).fillna({"colour": "red"})
        inputs = []
        for name, kind in {"size": "FP64", "count": "FP64", "colour": "BYTES", "when": "BYTES",
                           "sold": "BYTES", "new": "BOOL"}.items():  # fmt: skip
            column = frame[name].dt.strftime("%Y-%m-%d") if name == "when" else frame[name]
            array = column.to_numpy({"FP64": np.float64, "BOOL": bool}.get(kind, object))
            inputs.append(triton.InferInput(name, [20], kind))
            inputs[-1].set_data_from_numpy(array)
        found = client.infer("sales", inputs).as_numpy("probabilities")
        assert (found == load(folder, "sales").predict_proba(frame)).all()
        with pytest.raises(Exception, match="there is no model 'nothing'"):
            client.infer("nothing", [given])
    finally:
        client.close()


def test_health_and_versions(ask):
    assert ask("/v2").json["extensions"] == ["binary_tensor_data"]
    for path in (
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/iris/ready",
        "/ping",
        "/health",
    ):
        assert ask(path).status == 200
    assert ask("/version").body.decode() == fastmlp.__version__
    assert "has the version 1 only" in ask.refusal("/v2/models/iris/versions/2", status=404)


# ------------------------------------------------------------------------------------------ MLflow


def test_invocations(ask, folder):
    model = load(folder, "named")
    frame = pd.DataFrame(load_iris().data[::30], columns=list("abcd"))
    wanted = {"predictions": model.predict(frame).tolist()}
    mixed = frame[list("cadb")]
    for body in (
        {"dataframe_split": json.loads(mixed.to_json(orient="split"))},
        {"dataframe_records": mixed.to_dict("records")},
        {"instances": mixed.to_dict("records")},
        {"instances": frame.to_numpy().tolist()},
        {"inputs": mixed.to_dict("list"), "params": {}},
        {"inputs": frame.to_numpy().tolist()},
    ):
        assert ask("/invocations?model=named", body).json == wanted
    text = mixed.to_csv(index=False)
    assert ask("/invocations?model=named", text, "text/csv").json == wanted
    unnamed = pd.DataFrame(frame.to_numpy())
    body = {"dataframe_split": json.loads(unnamed.to_json(orient="split"))}
    assert ask("/invocations?model=iris", body).status == 200
    rows = json_rows(table_frame(3))
    found = ask("/invocations?model=sales", {"dataframe_records": rows}).json["predictions"]
    assert found == load(folder, "sales").predict(table_frame(3)).tolist()
    assert "must have one of dataframe_split" in ask.refusal(
        "/invocations?model=named", {"rows": []}
    )


# ------------------------------------------------------------------------------------------ batches


class Recorder(predicting.Predictor):
    """A predictor that notes how many rows it is given."""

    def __init__(self, model, work=None):
        super().__init__(model, plain(model))
        self.calls = []
        self.work = self.work if work is None else work

    def __call__(self, X):
        self.calls.append((len(X), X.dtype.name))
        return super().__call__(X)


def predicted_together(predictor, requests):
    async def main():
        with ThreadPoolExecutor(1) as executor:
            batches = predicting.Batches(predictor, executor, lambda *_: None)
            return await asyncio.gather(*map(batches.predict, requests), return_exceptions=True)

    return asyncio.run(main())


@pytest.mark.parametrize("work", [None, 10**9])  # on the event loop, in a thread
def test_requests_that_arrive_together_are_predicted_together(folder, digits, work):
    model = load(folder, "digits")
    predictor = Recorder(model, work)
    requests = [digits[i : i + 1 + i % 3] for i in range(30)]
    requests += [X.astype(np.float32) for X in requests[:5]]
    for X, found in zip(requests, predicted_together(predictor, requests), strict=True):
        assert (found.probabilities == model.predict_proba(X)).all()
        assert (found.values == model.predict(X)).all()
    assert [dtype for _, dtype in predictor.calls] == ["uint8", "float32"]


def test_batches_are_limited(folder, digits, monkeypatch):
    monkeypatch.setattr(predicting, "_BATCH_ROWS", 10)
    predictor = Recorder(load(folder, "digits"))
    predicted_together(predictor, [digits[:4]] * 5)
    assert [n for n, _ in predictor.calls] == [8, 8, 4]


def test_models_whose_sums_depend_on_the_batch_predict_alone(folder):
    """A shift of the inputs is added to the intercepts if most inputs of a batch are zeros."""
    X = load_iris().data[:5]
    predictor = Recorder(load(folder, "iris"))
    assert not predictor.is_row_wise
    predicted_together(predictor, [X[:1], X[1:]])
    assert [n for n, _ in predictor.calls] == [1, 4]
    numpy = Recorder(load(folder, "narrow").set_params(backend="numpy"))
    assert not numpy.is_row_wise


@pytest.mark.parametrize("hidden", [(), (3,), (50,), (100, 37)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_rows_are_predicted_alike_alone_and_together(hidden, dtype, activation):
    """What merging requests relies on."""
    random = np.random.RandomState(0)
    X = random.randint(0, 256, (300, 70)).astype(np.uint8)
    X[random.uniform(size=X.shape) < 0.7] = 0
    y = random.randint(0, 3, len(X))
    model = quick(
        MLPClassifier, X, y, hidden_layer_sizes=hidden, dtype=dtype, activation=activation,
        input_scale=1 / 255, max_iter=2,
    )  # fmt: skip
    predictor = predicting.Predictor(model, plain(model))
    if not predictor.is_row_wise:
        pytest.skip("needs the compiled engine")
    dense = random.normal(size=X.shape)
    for rows in (X, X.astype(np.float32), dense, dense.astype(np.float32)):
        together = predictor(rows).probabilities
        for n in (1, 2, 5, 17):
            parts = [predictor(rows[i : i + n]).probabilities for i in range(0, len(rows), n)]
            assert (np.concatenate(parts) == together).all()


def test_a_failing_request_fails_alone(folder, digits):
    predictor = Recorder(load(folder, "digits"))
    found = predicted_together(predictor, [digits[:1], digits[:1, :5].astype(np.uint16)])
    assert isinstance(found[1], errors.RequestError) and "64 features" in found[1].sentence
    assert found[0].values.shape == (1,)


def test_late_answers(folder, digits):
    class Slow(Recorder):
        def __call__(self, X):
            time.sleep(0.2)
            return super().__call__(X)

    async def main():
        with ThreadPoolExecutor(1) as executor:
            batches = predicting.Batches(Slow(model, 10**9), executor, lambda *_: None)
            requests = [asyncio.ensure_future(batches.predict(digits[:1]))]
            await asyncio.sleep(0.05)
            requests.append(asyncio.ensure_future(batches.predict(digits[:1])))
            await asyncio.sleep(0.05)
            batches.check_time(asyncio.get_running_loop().time(), 0.01)
            return await asyncio.gather(*requests, return_exceptions=True)

    model = load(folder, "digits")
    for error in asyncio.run(main()):
        assert error.status == 503 and error.headers == {"Retry-After": "1"}


def test_simultaneous_clients(ask, folder, digits):
    """Each gets the answer to its own request, while batches form."""
    model = load(folder, "digits")
    wanted = model.predict_proba(digits)
    before = ask.metric('fastmlp_batch_requests_count{model="digits"}')

    def one_client(number):
        connection = http.client.HTTPConnection("127.0.0.1", ask.port, timeout=30)
        for i in range(number, 200, 8):
            connection.request("POST", "/predict?model=digits", json.dumps([digits[i].tolist()]))
            found = json.loads(connection.getresponse().read())["probabilities"]
            assert found == [wanted[i].tolist()]
        connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one_client, range(8)))
    assert ask.metric('fastmlp_batch_requests_count{model="digits"}') - before <= 200


# ------------------------------------------------------------------------------- names and refusals


def test_several_models(ask):
    assert "several models are served, 'digits'" in ask.refusal("/predict", [[1]])
    assert ask.refusal("/predict?model=digist", [[1]], 404) == (
        "there is no model 'digist'. Did you mean 'digits'?"
    )
    for path in ("/models/x/predict", "/v2/models/x/infer", "/models/x/explain"):
        assert "there is no model 'x', there is 'digits'" in ask.refusal(path, {}, 404)
    for path in ("/models/x", "/v2/models/x", "/v2/models/x/ready", "/models/x/units/0"):
        assert "there is no model 'x'" in ask.refusal(path, status=404)


def test_the_only_model(folder, digits):
    with serving(file_of(folder, "digits")) as ask:
        assert ask("/predict", digits[:1].tolist()).status == 200


def make_library(*paths, load=fastmlp.load):
    return models.Library(paths, load, ThreadPoolExecutor(1), 10, metrics.Metrics())


def test_models_must_have_different_names(folder, tmp_path):
    shutil.copy(file_of(folder, "iris"), tmp_path / "iris.npz")
    with pytest.raises(ValueError, match="must have different names.* got 'iris' twice"):
        make_library(file_of(folder, "iris"), tmp_path / "iris.npz")


def test_models_that_cannot_be_served():
    for model, words in (
        (MLPClassifier(), "must hold a fitted model to be served"),
        (StandardScaler().fit([[0.0], [1.0]]), "must hold a classifier or regressor"),
    ):
        with pytest.raises(ValueError, match=f"x.npz {words}"):
            make_library(Path("x.npz"), load=lambda _, model=model: model)
    with pytest.raises(ValueError, match="there must be a model to serve"):
        make_library()


@pytest.mark.parametrize(
    "body, words",
    [
        (b"", "must be valid JSON"),
        (b"{", "must be valid JSON"),
        (b'{"rows": [[NaN]]}', "got NaN, which JSON does not have"),
        (b'{"rows": [[1e999, 0, 0, 0]]}', "numbers must be finite"),
        (b'{"rows": [[%s, 0, 0, 0]]}' % (b"9" * 400), "beyond float64's range in row 0"),
        (b'{"rows": [[%s, 0, 0, 0]]}' % (b"9" * 5000), "too many digits"),
        (b'{"rows": [["1", 0, 0, 0]]}', "must have numbers only, got '1' at 0 of row 0"),
        (b'{"rows": [[0, null, 0, 0]]}', "must have numbers only, got null at 1 of row 0"),
        (b'{"rows": [[0, 0, 0, [0]]]}', "must have numbers only, got a list at 3 of row 0"),
        (b'{"rows": [[0, 0, 0, 0], [0, 0, 0]]}', "must have 4 numbers, got 3 in row 1"),
        (b'{"rows": [1]}', "a row must be a list of 4 numbers, got 1 in row 0"),
        (b'{"rows": []}', "there must be a row to predict, got none"),
        (b'{"rows": [[0, 0, 0, 0]], "rows": []}', "different names, got 'rows' twice"),
        (b"[" * 100_000, "JSON of few levels"),
        (b'{"a":' * 100_000, "JSON of few levels"),
        (b"\xff", "JSON in UTF-8, got the byte 0xff at 0"),
        (b"5", 'must be {"rows": [...]} or a list of rows, got 5'),
        (b'{"row": 1, "raw": 2}', 'got an object with the names "row", "raw"'),
    ],
)
def test_malformed_rows(ask, body, words):
    assert words in ask.refusal("/models/narrow/predict", body, kind="application/json")


def test_answers_are_json(tmp_path):
    """NaN has no place in JSON; in bytes it has."""
    model = quick(MLPRegressor, [[0.0], [1.0]], [0.0, 1.0], activation="identity")
    for coef in model.coefs_:
        coef[:] = 1e100
    fastmlp.save(model, tmp_path / "line.npz")
    with serving(tmp_path / "line.npz") as ask:
        assert "must be finite to be JSON, got NaN or inf" in ask.refusal("/predict", [[1e300]])
        X = np.array([[1e300]])
        document = {"inputs": [tensor(X, "FP64")], "parameters": {"binary_data_output": True}}
        _, arrays = infer(ask, "line", document, X)
        assert not np.isfinite(np.frombuffer(arrays["prediction"])).any()


def test_what_does_not_exist(ask):
    assert ask.refusal("/nothing", status=404).startswith("there is nothing at '/nothing'")
    assert ask.refusal("/models/", status=404)
    reply = ask("/predict")
    assert reply.status == 405 and reply.headers["allow"] == "POST"
    assert reply.json["error"] == "'/predict' must be asked by POST, got GET."
    assert ask("/", method="HEAD").body == b""


@pytest.mark.parametrize(
    "path",
    ["/models/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/models/..%2f..%2fetc%2fpasswd",
     "/models/digits.npz", "//etc/passwd", "/models/%00", "/models/digits%2fpredict", "/..\\x"],
)  # fmt: skip
def test_the_file_system_is_out_of_reach(ask, path):
    reply = ask(path)
    assert reply.status in (404, 405) and b"root:" not in reply.body


def test_kinds_of_bodies(ask, digits):
    assert "got a form" in ask.refusal("/models/digits/predict", "x", 415,
                                       kind="multipart/form-data; boundary=x")  # fmt: skip
    assert "Content-Encoding" in ask.refusal(
        "/models/digits/predict", "x", 415, **{"Content-Encoding": "gzip"}
    )
    for content in (b"\x1f\x8b" + bytes(9), b"PK\x03\x04", b"PAR1", b"a\0b"):
        assert "must be CSV, got other content" in ask.refusal(
            "/models/sales/predict", content, kind="text/csv"
        )


# ------------------------------------------------------------------------------------------- limits


def raw(port, *parts, timeout=20, half=False):
    """Send bytes; return everything that comes back until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        for part in parts:
            if isinstance(part, bytes):
                with suppress(ConnectionError):
                    connection.sendall(part)
            else:
                time.sleep(part)
        if half:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                found += part
        return found


SMALL = {"body_bytes": 600_000, "rows": 50, "predict_seconds": 5.0, "connections": 12}


@pytest.fixture(scope="module")
def strict(folder):
    """A server of small limits."""
    with serving(file_of(folder, "digits"), limits=Limits(**SMALL)) as client:
        yield client


@pytest.fixture(scope="module")
def hasty(folder):
    """Another, which does not wait for long."""
    with serving(file_of(folder, "digits"), limits=Limits(**SMALL, receive_seconds=0.5)) as client:
        yield client


def test_too_many_bytes(strict, digits):
    body = json.dumps(digits[:50].tolist()).encode()
    assert strict("/predict", body).status == 200
    for n_bytes in (700_000, 1_100_000):
        sentence = strict.refusal("/predict", b" " * n_bytes, 413)
        assert sentence.startswith("the body must have at most 600,000 bytes")
    chunked = (b"%x\r\n%s\r\n" % (50_000, b" " * 50_000)) * 20 + b"0\r\n\r\n"
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert raw(strict.port, head + chunked).startswith(b"HTTP/1.1 413 ")
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n"
    answer = raw(strict.port, head + b"Expect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_too_many_rows(strict, digits):
    assert strict("/predict", digits[:50].tolist()).status == 200
    assert strict.refusal("/predict", digits[:51].tolist(), 413) == (
        "a request must have at most 50 rows, got 51: send them in parts."
    )


@pytest.mark.parametrize("n_bytes", [30, 400_000])  # in parts, and into an array
def test_bodies_that_do_not_arrive(hasty, n_bytes):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % n_bytes
    started = time.monotonic()
    answer = raw(hasty.port, head + b"[[")
    assert 0.4 < time.monotonic() - started < 5
    assert answer.startswith(b"HTTP/1.1 408 ") and b"must arrive within 0.5 seconds" in answer


@pytest.mark.parametrize("start", [b"", b"POST /pre", b"GET / HTTP/1.1\r\nHost: ", b"\r\n"])
def test_headers_that_do_not_arrive(hasty, start):
    started = time.monotonic()
    answer = raw(hasty.port, start)
    assert 0.4 < time.monotonic() - started < 5
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_headers_that_are_too_large(strict):
    for content in (b"X: " + b"a" * 100_000, b"\r\n".join([b"X: a"] * 20_000)):
        answer = raw(strict.port, b"GET / HTTP/1.1\r\n" + content + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 431 ") and b'{"error": "the headers' in answer


def test_what_is_not_http(strict):
    answer = raw(strict.port, b"hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ") and b'{"error": "the request must be valid' in answer


def test_clients_that_receive_nothing(hasty, digits):
    """Their connections are closed, however large the answers that they do not read."""
    body = json.dumps(digits[:50].tolist()).encode()
    one = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body), body,
    )  # fmt: skip
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(0.2)
        connection.connect(("127.0.0.1", hasty.port))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                connection.sendall(one)
            except TimeoutError:
                continue
            except OSError:  # it was closed
                break
        else:
            pytest.fail("the connection is still open")
    assert hasty("/predict", digits[:1].tolist()).status == 200


def test_clients_that_send_nothing_more_get_an_answer(strict):
    request = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = raw(strict.port, request, half=True)
    assert answer.startswith(b"HTTP/1.1 200 ") and b'"name":"fastmlp"' in answer


def test_bodies_that_must_be_asked_for(strict, digits):
    for n_rows, padding in ((1, 0), (1, 400_000)):
        body = json.dumps(digits[:n_rows].tolist()).encode() + b" " * padding
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", strict.port), timeout=10) as connection:
            connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_too_many_connections(strict):
    idle = [socket.create_connection(("127.0.0.1", strict.port)) for _ in range(12)]
    try:
        time.sleep(0.1)
        reply = strict("/v2")
        assert reply.status == 503 and reply.headers["retry-after"] == "1"
        assert "the server is busy" in reply.json["error"]
        others = [socket.create_connection(("127.0.0.1", strict.port)) for _ in range(12)]
        time.sleep(0.1)
        assert others[-1].recv(1) == b""  # closed at once
        idle += others
    finally:
        for connection in idle:
            connection.close()
    deadline = time.monotonic() + 5
    while strict("/v2").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_memory_of_bodies(hasty):
    """Four bodies of maximum size may be there at a time."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n"
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: raw(hasty.port, head + b"[", timeout=10), range(6)))
    statuses = sorted(answer[9:12] for answer in answers)
    assert statuses == [b"408"] * 4 + [b"503"] * 2
    assert hasty("/predict", b" " * 500_000).status == 400


def test_large_bodies_of_refused_requests_are_not_kept(strict):
    """They are received nevertheless, because the next request is behind them."""
    head = b"POST /models/nothing/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(("127.0.0.1", strict.port), timeout=10) as connection:
        connection.sendall(head % 500_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
        (protocol,) = strict.server._server.server_state.connections
        body = protocol.transport.get_protocol()
        assert body.n_missing == 500_000 and len(body._content) < 100_000
        connection.sendall(bytes(500_000) + b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_several_requests_at_once_on_one_connection(strict):
    one = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", strict.port), timeout=10) as connection:
        connection.sendall(one * 20)
        found = b""
        while found.count(b'"name":"fastmlp"') < 20:
            found += connection.recv(65536)


def test_large_bodies_one_after_the_other(ask, folder, digits):
    """The parser goes on behind a body that it has not seen, even if the next is already there."""
    X = np.tile(digits, (5, 1))
    head = json.dumps({"inputs": [tensor(X, "UINT8")]}).encode()
    request = (
        b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
        b"Inference-Header-Content-Length: %d\r\n\r\n" % (len(head) + X.nbytes, len(head))
    )
    last = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    whole = (request + head + X.tobytes()) * 3 + last
    with socket.create_connection(("127.0.0.1", ask.port), timeout=30) as connection:
        sender = threading.Thread(target=connection.sendall, args=[whole])
        sender.start()
        found = b""
        while part := connection.recv(1 << 20):
            found += part
        sender.join()
    assert found.count(b"HTTP/1.1 200 OK") == 4 and found.count(b'"model_name":"digits"') == 3


# ------------------------------------------------------------------------------------------ attacks


def attack(ask, digits, number, seed, slow):
    """Send malformed requests, and a good one after each."""
    good = json.dumps(digits[:1].tolist())
    wanted = ask("/predict?model=digits", good).json

    def check():
        assert ask("/predict?model=digits", good).json == wanted

    targets = [
        serve_attacks.Target("digits", 64),
        serve_attacks.Target("sales", 6, ["size", "count", "colour", "when", "sold", "new"]),
    ]
    for part, target in enumerate(targets):
        made = serve_attacks.attacks(target, number // 2, seed + part, slow // 2)
        answers = asyncio.run(
            serve_attacks.send_all("127.0.0.1", ask.port, made, timeout=30, check=check)
        )
        assert len(answers) == number // 2
        assert not serve_attacks.faults(answers)
        assert sum(answer.status is not None for answer in answers) > 0.8 * len(answers)


@pytest.fixture(scope="module")
def attacked(folder):
    limits = Limits(receive_seconds=1.5)
    with serving(file_of(folder, "digits"), file_of(folder, "sales"), limits=limits) as client:
        yield client


@pytest.mark.slow
def test_a_thousand_malformed_requests(attacked, digits):
    attack(attacked, digits, 1000, 1, 32)


# -------------------------------------------------------------------------------------- who may ask


def test_token(folder, tmp_path, digits):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with serving(file_of(folder, "digits"), token_file=tmp_path / "token") as ask:
        rows = digits[:1].tolist()
        good = {"Authorization": f"Bearer {TOKEN}"}
        assert ask("/predict", rows, **good).status == 200
        assert ask("/predict", rows, Host="models.example", **good).status == 200
        for wrong in ("Bearer x", TOKEN, f"Basic {TOKEN}", "Bearer \xff", None):
            headers = {} if wrong is None else {"Authorization": wrong}
            reply = ask("/predict", rows, **headers)
            assert reply.status == 401 and reply.headers["www-authenticate"] == "Bearer"
            assert "the server's token" in reply.json["error"]
        for path in (
            *("/models", "/metrics", "/models/digits", "/v2/models/digits", "/nothing"),
            *("/docs", "/openapi.json", "//", "/v2/", "/models/../"),
        ):
            assert ask(path).status == 401
        for path in ("/v2/health/live", "/v2/health/ready", "/ping", "/v2", "/version"):
            assert ask(path).status == 200
        assert "securitySchemes" in ask("/openapi.json", **good).json["components"]
        assert "Bearer TOKEN" in ask("/docs", **good).body.decode()
        page = ask("/").body.decode()
        assert 'data-required="yes"' in page and "digits" not in page.partition("</title>")[0]
        assert '<script type="application/json" id="abouts">[]</script>' in page


@pytest.mark.parametrize("text", ["", "short", "two words of enough letters", "ü" * 20])
def test_invalid_tokens(folder, tmp_path, text):
    (tmp_path / "token").write_text(text)
    with pytest.raises(ValueError, match="must hold a token, a word of at least 16"):
        running.Server(
            [file_of(folder, "digits")],
            fastmlp.load,
            running.Settings(token_file=tmp_path / "token"),
        )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.test"])
def test_others_need_a_token(folder, host):
    with pytest.raises(ValueError, match=rf"--host {host} needs --token-file"):
        running.Server([file_of(folder, "digits")], fastmlp.load, running.Settings(host=host))


def test_hosts_that_do_not_exist(folder, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    settings = running.Settings(host="no such host", token_file=tmp_path / "token")
    with pytest.raises(ValueError, match="--host must be a name or address of this machine"):
        running.Server([file_of(folder, "digits")], fastmlp.load, settings)


def test_names_of_this_machine(ask):
    """A page whose name resolves to this machine cannot use the server."""
    for host in ("localhost", f"127.0.0.1:{ask.port}", "[::1]:8000", "LOCALHOST:1"):
        assert ask("/v2", Host=host).status == 200
    for host in (
        "evil.test",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "",
        "[::2]",
        "localhost@x",
    ):
        assert "must name this machine" in ask.refusal("/v2", status=403, Host=host)


def test_pages_of_others_cannot_ask(ask, digits):
    rows = digits[:1].tolist()
    own = {"Host": f"localhost:{ask.port}", "Origin": f"http://localhost:{ask.port}"}
    assert ask("/models/digits/predict", rows, **own).status == 200
    for origin in (
        "http://evil.test",
        "null",
        "http://localhost:1",
        f"http://localhost:{ask.port}.x",
    ):
        sentence = ask.refusal("/models/digits/predict", rows, 403, **own | {"Origin": origin})
        assert "must come from a page of this server" in sentence


def test_headers_of_answers(ask):
    for path in ("/v2", "/nothing", "/predict", "/docs"):
        headers = ask(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in headers and "server" not in headers


def test_policy_of_pages():
    policy = pages.policy_of("<script>a</script><SCRIPT type='x'>b\n</SCRIPT >")
    assert policy.count("'sha256-") == 2
    assert "script-src 'none'" in pages.policy_of("<p>")


# ------------------------------------------------------------------------- descriptions and metrics


def test_openapi(ask, folder):
    document = ask("/openapi.json").json
    assert document["openapi"] == "3.1.0"

    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            node = list(node.values())
        if isinstance(node, list):
            for entry in node:
                yield from references(entry)

    for reference in references(document):
        name = reference.removeprefix("#/components/schemas/")
        assert name in document["components"]["schemas"]
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    page = ask("/docs").body.decode()
    for path, operations in document["paths"].items():
        assert path in page
        for method in operations:  # each exists
            assert ask(path, method=method.upper()).status not in (404, 405)
    for path in sorted(folder.iterdir()):  # the examples are good
        rows = document["components"]["schemas"][f"{path.stem}.rows"]["examples"][0]
        if all(None not in row.values() for row in rows["rows"] if isinstance(row, dict)):
            assert ask(f"/models/{path.stem}/predict", rows).status == 200, path.stem
    assert "src=" not in page and not re.search(rf"https?://(?!127.0.0.1:{ask.port}/)", page)


def test_metrics(ask, digits):
    line = 'fastmlp_requests_total{route="/predict",status="200"}'
    rows = 'fastmlp_rows_total{model="digits"}'
    before, rows_before = ask.metric(line), ask.metric(rows)
    ask("/predict?model=digits", digits[:7].tolist())
    assert ask.metric(line) == before + 1
    assert ask.metric(rows) == rows_before + 7
    assert ask.metric("fastmlp_requests_in_flight") == 1  # this one
    ask("/some/path/of/many")
    assert ask.metric('fastmlp_requests_total{route="other",status="404"}') >= 1
    assert "some/path" not in ask("/metrics").body.decode()


def test_errors_of_the_server_are_told(folder, monkeypatch, caplog):
    def broken(self, X):
        raise RuntimeError("broken")

    with serving(file_of(folder, "digits")) as ask:
        monkeypatch.setattr(predicting.Predictor, "__call__", broken)
        sentence = ask.refusal("/predict", [[0] * 64], 500)
        assert "which its log describes" in sentence and "broken" not in sentence
        assert "RuntimeError: broken" in caplog.text
        assert ask.metric('fastmlp_requests_total{route="/predict",status="500"}') == 1


def test_log(folder, capfd):
    with serving(file_of(folder, "digits"), logs=True) as ask:
        ask("/models/%0a%1b[31m/predict", [[1]])
    assert re.search(
        r"^127.0.0.1 POST /models/\\n\\x1b\[31m/predict 404 \d+\.\d ms$",
        capfd.readouterr().err,
        re.MULTILINE,
    )


# --------------------------------------------------------------------------------------- reloading


def constant(label):
    """Return a model that says nothing else."""
    model = quick(MLPClassifier, np.zeros((4, 3)), np.array(["a", "b", "c", label])[[0, 1, 2, 3]])
    for array in (*model.coefs_, *model.intercepts_):
        array[:] = 0
    model.intercepts_[-1][list(model.classes_).index(label)] = 100
    return model


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_replaced_files(tmp_path, caplog):
    """A request sees the old model or the new one, and a file that is none changes nothing."""
    path = tmp_path / "one.npz"
    fastmlp.save(constant("old"), path)
    with serving(path, reloads=True) as ask:

        def label():
            reply = ask("/predict", [[0, 0, 0]])
            assert reply.status == 200
            document = reply.json
            assert document["predictions"][0] in document["classes"]  # of the same model
            return document["predictions"][0]

        assert label() == "old"
        fastmlp.save(constant("new"), path)  # renamed
        until(lambda: label() == "new")
        assert "new" in ask("/models/one").json["classes"]
        fastmlp.save(constant("third"), tmp_path / "other")
        path.write_bytes((tmp_path / "other").read_bytes())  # in place
        until(lambda: label() == "third")
        content = path.read_bytes()
        for broken in (content[: len(content) // 2], b"", b"nothing"):
            caplog.clear()
            path.write_bytes(broken)
            until(lambda: "but the old model stays" in caplog.text)
            assert label() == "third"
        caplog.clear()
        path.unlink()
        until(lambda: "the file is gone" in caplog.text)
        assert label() == "third"
        fastmlp.save(constant("fourth"), path)
        until(lambda: label() == "fourth")
        assert ask.metric('fastmlp_reloads_total{model="one",result="loaded"}') == 3
        with path.open("wb") as file:  # slowly, in place
            for part in (content[:1000], content[1000:3000], content[3000:]):
                file.write(part)
                file.flush()
                for _ in range(8):
                    assert label() in ("fourth", "third")
                    time.sleep(0.05)
        until(lambda: label() == "third")


# ----------------------------------------------------------------------------------------- signals


@contextmanager
def command(*arguments):
    """Run the command; yield its process and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fastmlp", "serve", *map(str, arguments), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = []
        while not lines or "http://" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        yield process, lines
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_finish_what_is_under_way(folder, digits, number):
    with command(file_of(folder, "digits")) as (process, lines):
        assert lines[0] == "digits: 64-8-10, 10 classes\n"
        found = re.fullmatch(r"(http://127.0.0.1:(\d+))  \(Ctrl-C stops\)\n", lines[1])
        body = json.dumps(digits[:2].tolist()).encode()
        idle = socket.create_connection(("127.0.0.1", int(found[2])))
        with socket.create_connection(("127.0.0.1", int(found[2])), timeout=20) as connection:
            head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % len(body) + body[:50])
            time.sleep(0.5)
            process.send_signal(number)
            time.sleep(0.5)
            connection.sendall(body[50:])
            answer = b""
            while part := connection.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200 ") and b'"predictions":[' in answer
        assert process.wait(10) == 0
        idle.close()
        assert process.stderr.read() == ""


def refused(*arguments):
    result = CliRunner().invoke(cli.app, ["serve", *map(str, arguments)])
    assert result.exit_code and not result.stdout
    return f"{result.exception} {result.stderr}"


def test_refusals_of_the_command(folder, tmp_path):
    model = file_of(folder, "digits")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 cannot be used (address already in use)" in refused(
            model, "--port", port
        )
    assert "--host 0.0.0.0 needs --token-file" in refused(model, "--host", "0.0.0.0")
    assert "does not exist" in refused(tmp_path / "nothing.npz")
    shutil.copy(model, tmp_path / "digits.npz")
    assert "must have different names" in refused(model, tmp_path / "digits.npz")
    assert "must be an integer of at least 1" in refused(model, "--max-rows", "0")
    assert "must be a number greater than 0" in refused(model, "--receive-seconds", "0")
    assert "needs MODEL" in refused()


def test_options_of_the_command(folder, monkeypatch):
    """They reach the server; --open opens its page once it listens."""
    made, opened = [], []

    class Fake(running.Server):
        def __init__(self, paths, load, settings):
            made.append(settings)
            super().__init__(paths, load, settings)

        def run(self, on_listening):
            assert not opened
            on_listening()
            self._socket.close()

    monkeypatch.setattr(running, "Server", Fake)
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.setattr("gc.set_threshold", lambda *_: None)
    options = "--port 0 --open --reload --max-body 2 --max-rows 3 --max-connections 4 --log --quiet"
    options += " --receive-seconds 0.5 --predict-seconds 7"
    result = CliRunner().invoke(
        cli.app, ["serve", str(file_of(folder, "digits")), *options.split()]
    )
    assert result.exit_code == 0 and not result.stderr
    assert re.fullmatch(r"http://127.0.0.1:\d+  \(Ctrl-C stops\)\n", result.stdout)
    assert opened == [result.stdout.split()[0]]
    limits = Limits(2 << 20, 3, 0.5, 7.0, 4)
    assert made == [running.Settings(port=0, reloads=True, logs=True, limits=limits)]


def test_what_is_not_installed(folder, monkeypatch):
    from fastmlp.cli import serve

    monkeypatch.setitem(sys.modules, "fastmlp.serve.running", None)
    monkeypatch.delitem(sys.modules, "fastmlp.serve.running")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [name for name in sys.modules if name.startswith("fastmlp.serve.conn")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"serving needs .*: pip install 'fastmlp\[serve\]'"):
        serve._server([file_of(folder, "digits")], fastmlp.load, limits={})


# ------------------------------------------------------------------------------------------- parts


def test_texts_as_bytes():
    output = tensors.Output("label", "BYTES", (3,), texts=["a", "bcd", ""])
    content = output.as_bytes()
    assert content == b"\x01\0\0\0a\x03\0\0\0bcd\0\0\0\0"
    assert tensors._framed_texts(memoryview(content), "x", 10) == ["a", "bcd", ""]


def test_tables_are_encoded_as_the_pipeline_does():
    """In both ways, for missing and unknown values too."""
    pipeline = table_pipeline()
    frame = table_frame(100, seed=6)
    frame.loc[3, "colour"] = "pink"
    found = PlainTable.of(pipeline)
    rows = tables.TableRows(found, pipeline, 1000)
    encoded = rows.of_rows(json_rows(frame))
    wanted = pipeline[:-1].transform(frame)
    wanted = wanted.toarray() if hasattr(wanted, "toarray") else wanted
    assert encoded.dtype == np.float32 and (encoded == wanted).all()
    one_by_one = [rows.of_rows([row])[0] for row in json_rows(frame)]
    assert (np.array(one_by_one) == wanted).all()


def test_many_named_features_are_matched_by_name(tmp_path):
    frame = pd.DataFrame(np.random.RandomState(0).normal(size=(40, 600)))
    frame.columns = [f"f{i}" for i in range(600)]
    model = quick(MLPClassifier, frame, np.arange(40) % 2)
    fastmlp.save(model, tmp_path / "wide.npz")
    with serving(tmp_path / "wide.npz") as ask:
        for table in (frame, frame.iloc[:, ::-1]):
            found = ask("/predict", table.to_csv(index=False)).json  # without a Content-Type
            np.testing.assert_allclose(
                found["probabilities"], model.predict_proba(frame), atol=1e-6
            )
