"""The page of models: its arithmetic in Node, and all of it in a real, headless Chromium.

FASTMLP_REQUIRE_TOOLS="node,chromium" makes tests fail that otherwise skip where these are missing.
"""

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import fastmlp
from fastmlp import MLPClassifier, MLPEnsemble, MLPRegressor, datasets
from fastmlp.export import html as exporting
from fastmlp.export.html import check_html, to_html
from fastmlp.page import render
from fastmlp.page.weights import DTYPES, decoded, encoded
from fastmlp.portable import about, plain
from fastmlp.tables import make_table_pipeline

pytestmark = pytest.mark.filterwarnings(
    "ignore:(Stochastic Optimizer|Maximum iterations|lbfgs failed|the features|X has features)"
)

PAGE = files("fastmlp.page")
DIGITS = 784


def tool(*names):
    """Return the path of a program, the first of some names; skip the test if there is none."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        reason = f"{names[0]} is not installed"
        if names[0] in os.environ.get("FASTMLP_REQUIRE_TOOLS", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def node():
    return tool("node")


def in_node(node, script, content=None):
    """Return what a script prints as JSON; it has `$`, the exports of the page's scripts."""
    names = ["encoding.js", "csv.js", "pixels.js", "network.js"]
    # In the page, scripts share one scope.
    source = "\n".join(
        PAGE.joinpath(name).read_text("utf-8").replace('"use strict";', "") for name in names
    )
    source = re.sub(r"(?m)^if \(typeof module.*$", "", source)
    source += f"""
const content = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify((() => {{ {script} }})()));
"""
    answer = subprocess.run(
        [node, "-e", source], input=json.dumps(content), capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


# ------------------------------------------------------------------------------------ small models

random = np.random.RandomState(0)
X = random.normal(size=(60, 6))
Y = {
    "binary": np.where(X[:, 0] > 0, "yes", "no"),
    "multiclass": np.digitize(X[:, 0] + X[:, 1], [-0.7, 0.7]),
    "multilabel": (X[:, :4] + X[:, 2:] > 0).astype(int),
    "number": X[:, 0] * 1000 + 5,
    "numbers": X[:, :2] * [3, 1e-3],
    "counts": random.poisson(np.exp(X[:, 0])),
}

CASES = {
    "binary": (MLPClassifier, "binary", {}),
    "multiclass": (MLPClassifier, "multiclass", {}),
    "multilabel": (MLPClassifier, "multilabel", {}),
    "squared errors": (MLPClassifier, "multiclass", {"loss": "squared_error"}),
    "binary squared errors": (MLPClassifier, "binary", {"loss": "squared_error"}),
    "number": (MLPRegressor, "number", {"target_scale": "standard"}),
    "numbers": (MLPRegressor, "numbers", {"target_scale": "standard"}),
    "counts": (MLPRegressor, "counts", {"loss": "poisson"}),
    "scaled": (MLPClassifier, "multiclass", {"input_scale": "standard"}),
    "moved": (MLPClassifier, "binary", {"input_scale": (0.25, np.arange(6.0))}),
    "float64": (MLPClassifier, "multiclass", {"dtype": "float64", "input_scale": "standard"}),
    "deep": (MLPClassifier, "multiclass", {"hidden_layer_sizes": (20, 10, 5)}),
    "flat": (MLPClassifier, "multiclass", {"hidden_layer_sizes": ()}),
    "float32": (MLPClassifier, "multilabel", {"dtype": "float32"}),
}
#: Of differences, by labels that differ: regressors round numbers of more than one deviation.
LIMIT = {0: 1e-6, None: 3e-6}

ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "leaky_relu", "gelu", "silu")


def fitted(case, activation="relu", **parameters):
    kind, target, own = CASES[case]
    parameters = {"hidden_layer_sizes": (9,), "max_iter": 20, "random_state": 0} | own | parameters
    return kind(activation=activation, **parameters).fit(X, Y[target])


def houses(n_rows=120):
    """A table with all kinds of columns, some values of which are missing."""
    random = np.random.RandomState(1)
    days = pd.to_datetime("2020-01-01") + pd.to_timedelta(random.randint(0, 900, n_rows), "D")
    frame = pd.DataFrame(
        {
            "area": random.gamma(9, 13, n_rows).round(1),
            "rooms": random.randint(1, 8, n_rows),
            "town": random.choice(["Köln", "Bonn", "Trier, old", 'the "new" one'], n_rows),
            "garden": random.choice(["yes", "no"], n_rows),
            "new": random.rand(n_rows) < 0.5,
            "sold": days,
            "__proto__": random.choice(["constructor", "a", "b"], n_rows),
        }
    )
    price = frame["area"] * 3 + frame["rooms"] * 20 + (frame["garden"] == "yes") * 100
    frame.loc[random.rand(n_rows) < 0.2, "area"] = np.nan
    frame.loc[random.rand(n_rows) < 0.2, "town"] = None
    return frame, price


@pytest.fixture(scope="session")
def table_models():
    """A regressor and a classifier of the table, by name."""
    frame, price = houses()
    parameters = {"hidden_layer_sizes": (12,), "max_iter": 15, "random_state": 0, "n_estimators": 2}
    models = {}
    for task, y in {"regression": price, "classification": price > price.median()}.items():
        model = make_table_pipeline(task, n_rows=len(frame), **parameters).fit(frame, y)
        model.metadata_ = {"kind": "table", "target": "price"}
        models[task] = model
    return models


# -------------------------------------------------------------------------------------- arithmetic


class TestNetworks:
    """network.js and encoding.js in Node predict what the model predicts."""

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @pytest.mark.parametrize("case", CASES)
    def test_float32_is_exact(self, node, case, activation):
        model = fitted(case, activation)
        check = check_html(model, to_html(model, dtype="float32"))
        assert check.largest <= LIMIT[check.n_labels]
        assert check.n_rows == 200 and check.by.startswith("node ")
        assert check.microseconds > 0

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_own_rows(self, node, dtype):
        model = fitted("binary")
        found = check_html(model, to_html(model, dtype=dtype), X[:7])
        assert found.n_rows == 7
        assert found.by.endswith(dtype)

    @pytest.mark.parametrize("dtype, limit", [("float16", 3e-3), ("int8", 5e-2)])
    def test_fewer_bits(self, node, dtype, limit):
        model = fitted("deep", hidden_layer_sizes=(20, 20))
        check = check_html(model, to_html(model, dtype=dtype), X)
        assert 1e-6 < check.largest < limit
        assert check.n_bytes < check_html(model, to_html(model, dtype="float32"), X).n_bytes

    def test_ensemble(self, node):
        model = MLPEnsemble(MLPClassifier((5,), max_iter=9), 3, random_state=0)
        model.fit(X, Y["multiclass"])
        check = check_html(model, to_html(model, dtype="float32"), X)
        assert check.largest < 1e-6

    @pytest.mark.parametrize("task", ["regression", "classification"])
    def test_table(self, node, table_models, task):
        model = table_models[task]
        page = to_html(model, dtype="float32")
        for rows in (None, houses()[0]):
            check = check_html(model, page, rows)
            assert check.largest <= LIMIT[check.n_labels]

    def test_large_weights(self, node):
        """Beyond the range of float16, and all zero."""
        model = fitted("number")
        model.coefs_ = [model.coefs_[0] * 1e6, model.coefs_[1] * 1e-6]
        assert check_html(model, to_html(model), X).largest < 1e-2

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_zero_weights(self, node, dtype):
        model = fitted("multiclass")
        model.coefs_ = [coef * 0 for coef in model.coefs_]
        assert check_html(model, to_html(model, dtype=dtype), X).largest < 1e-6

    def test_far_from_zero(self, node):
        """Inputs of 1e5 plus or minus 1: float32 rounds them before they are scaled."""
        far = (X + 1e5).astype(np.float32)
        model = MLPClassifier((5,), input_scale="standard", max_iter=20, random_state=0)
        model.fit(far, Y["multiclass"])
        assert check_html(model, to_html(model, dtype="float32"), far).largest < 1e-6

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_without_node(self, monkeypatch, dtype, table_models):
        """NumPy computes with what the page stores."""
        monkeypatch.setattr(exporting.shutil, "which", lambda name: None)
        for model in (fitted("scaled"), table_models["classification"]):
            check = check_html(model, to_html(model, dtype=dtype))
            assert check.by == f"NumPy, weights of the file, {dtype}"
            assert check.largest < (1e-6 if dtype == "float32" else 0.05)
            assert check.microseconds is None

    def test_node_and_numpy_agree(self, node, monkeypatch):
        """Also on the error that int8 makes."""
        model = fitted("deep")
        page = to_html(model, small=True)
        by_node = check_html(model, page, X)
        monkeypatch.setattr(exporting.shutil, "which", lambda name: None)
        assert check_html(model, page, X).largest == pytest.approx(by_node.largest, abs=1e-6)

    def test_old_node(self, node, monkeypatch, tmp_path):
        old = tmp_path / "node"
        old.write_text("#!/bin/sh\necho v12.22.9\n")
        old.chmod(0o755)
        monkeypatch.setattr(exporting.shutil, "which", lambda name: str(old))
        model = fitted("binary")
        assert check_html(model, to_html(model)).by.startswith("NumPy")

    @pytest.mark.parametrize(
        "change",
        [
            lambda page: page.replace('"relu"', '"tanh"'),
            lambda page: page.replace("value * coefs[", "value * 2 * coefs["),
            lambda page: re.sub(r'("dtype":"float16","base64":")(.{8})', r"\1AAAAAAAA", page),
        ],
        ids=["activation", "script", "weights"],
    )
    def test_damage_is_found(self, node, change):
        model = fitted("multiclass")
        page = to_html(model)
        assert change(page) != page
        assert check_html(model, change(page), X).largest > 0.01

    def test_broken_script(self, node):
        model = fitted("binary")
        page = to_html(model).replace("function modelOf", "function somethingElse")
        with pytest.raises(RuntimeError, match="Node must run .* failed: ReferenceError: modelOf"):
            check_html(model, page)

    def test_another_page(self):
        with pytest.raises(ValueError, match="html must be what to_html returned"):
            check_html(fitted("binary"), "<p>no</p>")

    @pytest.mark.parametrize("case", ["number", "multilabel", "float64", "scaled"])
    def test_stored(self, case):
        found = plain(fitted(case))
        stored = json.loads(json.dumps(encoded(found, "float32")))
        again = decoded(stored, found.classes)
        for one, other in zip(found.networks, again.networks, strict=True):
            for ours, theirs in zip(one.coefs, other.coefs, strict=True):
                assert theirs.dtype == ours.dtype
                assert np.array_equal(ours.astype(np.float32), theirs.astype(np.float32))
            for ours, theirs in zip(one.intercepts, other.intercepts, strict=True):
                assert np.array_equal(ours, theirs)
        assert np.allclose(again.probabilities(X), found.probabilities(X), atol=1e-6)

    def test_unknown_dtype(self):
        with pytest.raises(ValueError, match="dtype must be one of float16, int8, float32, got 'b"):
            to_html(fitted("binary"), dtype="bfloat16")

    @pytest.mark.parametrize(
        "units, small, limit",
        [((50,), False, 150_000), ((300,), False, 700_000), ((300,), True, 370_000)],
    )
    def test_size(self, units, small, limit):
        random = np.random.RandomState(0)
        images, labels = random.randint(0, 256, (40, DIGITS), np.uint8), np.arange(40) % 10
        model = MLPClassifier(units, max_iter=2, input_scale=1 / 255, random_state=0)
        assert len(to_html(model.fit(images, labels), small=small).encode()) < limit

    @pytest.mark.slow
    def test_speed(self, node):
        """784-1024-1024-10 takes less than the 20 ms in which bars seem to move with the pen."""
        random = np.random.RandomState(0)
        images, labels = random.randint(0, 256, (20, DIGITS), np.uint8), np.arange(20) % 10
        model = MLPClassifier((1024, 1024), max_iter=1, input_scale=1 / 255, random_state=0)
        model.fit(images, labels)
        checks = [check_html(model, to_html(model), images) for _ in range(2)]
        assert min(check.microseconds for check in checks) < 20_000


class TestWhite:
    """What white pixels are, which `input_scale` tells."""

    @pytest.mark.parametrize("white", [1, 16, 255])
    @pytest.mark.parametrize("input_scale", ["standard", "range", "constant"])
    @pytest.mark.filterwarnings("ignore:.* constant")
    def test_by_input_scale(self, white, input_scale):
        images = np.random.RandomState(0).randint(0, 2, (50, 256)) * float(white)
        images[:, :3] = 0
        scales = {"constant": 1 / white, "range": (np.full(256, 2 / white), -1.0)}
        model = MLPClassifier((3,), max_iter=2, input_scale=scales.get(input_scale, input_scale))
        assert self.white_of(to_html(model.fit(images, np.arange(50) % 2))) == white

    def test_given(self):
        model = MLPClassifier((3,), max_iter=2).fit(np.eye(256), np.arange(256) % 2)
        assert self.white_of(to_html(model)) == 255
        assert self.white_of(to_html(model, white=1)) == 1

    @staticmethod
    def white_of(page):
        return exporting._data(page, "abouts")[0]["white"]


# -------------------------------------------------------------------------------------------- CSV

TRICKY = [
    "a,b\n1,2\n",
    "a,b\r\n1,2\r\n",
    "a,b\r1,2",
    'a,b\n"1,5","two\nlines"\n"say ""hi""",\n',
    'a,b\r\n"""",""\r\n',
    "a,b\n\n1,2\n\n\n",
    'a,"b\r\nc"\n,x\n',
    "a\n1\n",
    'a,b\n"x"y,2\n',
]


class TestCsv:
    @pytest.mark.parametrize("text", TRICKY)
    def test_records(self, node, text):
        wanted = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
        assert in_node(node, "return parseCsv(content, ',');", text) == wanted

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_delimiters(self, node, delimiter):
        frame = pd.DataFrame({"a": ["x;y,z", "1|2"], "b\nc": ["\t", '"'], "d": [1, 2]})
        text = frame.to_csv(index=False, sep=delimiter)
        found = in_node(node, "return readTable(content);", text)
        assert found["delimiter"] == delimiter
        assert found["header"] == list(frame.columns)
        assert found["records"] == frame.astype(str).to_numpy().tolist()

    @pytest.mark.parametrize("delimiter", [",", ";"])
    def test_writing(self, node, delimiter):
        records = [["a", 'b"c', "d;e", "f,g"], ["\n", "\r", "", " x "]]
        text = in_node(node, f"return writeCsv(content, '{delimiter}');", records)
        assert text.endswith("\r\n")
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        assert list(rows) == records

    def test_declared_delimiter(self, node):
        found = in_node(node, "return readTable(content);", "sep=;\na;b,c\n1;2\n")
        assert found["header"] == ["a", "b,c"]

    @pytest.mark.parametrize(
        "text, message",
        [
            ('a,b\n1,"2\n3', "Line 2: a cell begins with a quote that is not closed."),
            ("a,b\n1,2\n3\n", "Row 2 must have 2 cells, as the first line, got 1."),
            ("a,a\n1,2\n", 'The columns must have different names, got "a" more than once.'),
            ("a,b\n", "The file must have a line of names and rows below it, got no rows."),
            ("", "The file must have a line of names and rows below it, got no rows."),
        ],
    )
    def test_refused(self, node, text, message):
        script = "try { return readTable(content); } catch (error) { return error.message; }"
        assert in_node(node, script, text) == message

    @pytest.mark.parametrize(
        "cells",
        [
            ["2024-01-31", "1999-12-01", ""],
            ["2024/1/31", "1999/12/01"],
            ["31.01.2024", "1.12.1999", "NA"],
            ["31-01-2024", "01-12-1999"],
            ["12/31/2024", "1/12/1999"],
            ["31/12/2024", "1/12/1999"],
            ["1/2/2024", "3/12/1999"],
            ["2024-01-31 12:30", "2024-01-31 12:31"],
            ["2024-01-31T12:30:15.5", "2024-01-31T12:30:16.0"],
        ],
    )
    def test_dates(self, node, cells):
        """As the pipeline reads them."""
        from fastmlp.tables.text import MISSING_WORDS, dates

        known = [cell for cell in cells if cell not in MISSING_WORDS]
        wanted = dates(known)[0].astype("datetime64[us]").astype(int) / 86_400e6
        script = """
const values = valuesOf({name: "d", kind: "date"}, content, false);
return values.map((value) => value && daysOf(value.toLowerCase()));
"""
        found = in_node(node, script, cells)
        assert [day for day in found if day is not None] == pytest.approx(list(wanted))
        assert [day is None for day in found] == [cell in MISSING_WORDS for cell in cells]

    @pytest.mark.parametrize(
        "column, cells, wanted",
        [
            ({"kind": "number"}, ["1", "-2.5e3", "", "NA", " 7 "], [1, -2500, None, None, 7]),
            ({"kind": "number"}, ["true", "False"], 'must hold numbers, got "true"'),
            ({"kind": "number"}, ["1", "0x10"], 'must hold numbers, got "0x10"'),
            ({"kind": "category"}, ["1", "2.0", "03"], ["1", "2", "3"]),
            ({"kind": "category"}, ["1", "b", ""], ["1", "b", None]),
            ({"kind": "boolean", "words": ["no", "yes"]}, ["YES", "no", ""], [1, 0, None]),
            ({"kind": "boolean", "words": None}, ["True", "false", "1"], [1, 0, 1]),
            ({"kind": "boolean", "words": ["no", "yes"]}, ["maybe"], 'hold no or yes, got "maybe"'),
            ({"kind": "date"}, ["2024-01-01", "soon"], 'hold dates such as 2024-12-31, got "soon"'),
            ({"kind": "date"}, ["2024-13-01"], 'hold dates such as 2024-12-31, got "2024-13-01"'),
        ],
    )  # fmt: skip
    def test_cells(self, node, column, cells, wanted):
        script = """
const [column, cells] = content;
try { return valuesOf(column, cells, false); } catch (error) { return error.message; }
"""
        found = in_node(node, script, [{"name": "c", "words": None} | column, cells])
        assert wanted in found if isinstance(wanted, str) else found == wanted

    def test_decimal_comma(self, node):
        script = """
const {delimiter, header, records} = readTable(content);
const comma = hasDecimalComma(records, delimiter);
return header.map((name, place) =>
  valuesOf({name, kind: "number"}, records.map((record) => record[place]), comma));
"""
        assert in_node(node, script, "a;b\n1,5;2\n-3,25;7\n") == [[1.5, -3.25], [2, 7]]


# ----------------------------------------------------------------------------------------- pixels


class TestPixels:
    """pixels.js prepares drawings as MNIST's makers did."""

    CENTRED = """
const {images, shape, factor} = content;
const [rows, columns] = shape;
return images.map((values) => {
  const large = resized({rows, columns, values}, [rows * factor, columns * factor]);
  return Array.from(bytesOfImage(centred(large, shape)));
});
"""

    @pytest.mark.mnist
    def test_mnist_stays_as_it_is(self, node, mnist):
        """Its images are centred and scaled already, so ten times as large they come back."""
        (_, (images, _)) = mnist
        images = images[:100]
        found = np.array(
            in_node(
                node, self.CENTRED, {"images": images.tolist(), "shape": [28, 28], "factor": 10}
            )
        )
        is_same = np.abs(found - images).max(axis=1) <= 1
        assert is_same.mean() > 0.97

    @pytest.mark.mnist
    def test_mnist_moved_and_shrunk(self, node, mnist):
        """Half as large in a corner, they are nearly as before; without centring they are not."""
        (_, (images, _)) = mnist
        images = images[:50].reshape(-1, 28, 28).astype(float)
        corners = np.zeros((50, 56, 56))
        corners[:, 25:53, 3:31] = images
        script = """
return content.map((values) => {
  const image = {rows: 56, columns: 56, values};
  return [centred, resized].map((way) => Array.from(bytesOfImage(way(image, [28, 28]))));
});
"""
        found = np.array(in_node(node, script, corners.reshape(50, -1).tolist()))
        centred, resized = found[:, 0], found[:, 1]
        wanted = images.reshape(50, -1)
        assert np.abs(centred - wanted).mean() < 5
        assert np.abs(resized - wanted).mean() > 20

    def test_digits_fill_their_images(self, node):
        _, (images, _) = datasets.load_digits()
        images = images[:100].astype(float) * 255 / 16
        found = np.array(
            in_node(node, self.CENTRED, {"images": images.tolist(), "shape": [8, 8], "factor": 35})
        )
        assert np.abs(found - images).mean() < 15

    def test_middle_and_size(self, node):
        """A bar: 20 of 28 pixels long, its centre of mass in the middle; also of wide images."""
        script = """
return content.map(([rows, columns, top, left, height, width, shape]) => {
  const values = new Float64Array(rows * columns);
  for (let row = top; row < top + height; row++) {
    values.fill(255, row * columns + left, row * columns + left + width);
  }
  return Array.from(centred({rows, columns, values}, shape).values);
});
"""
        cases = [[280, 280, 5, 200, 60, 20, [28, 28]], [280, 560, 100, 10, 30, 300, [28, 56]]]
        for case, found in zip(cases, in_node(node, script, cases), strict=True):
            shape = case[-1]
            image = np.array(found).reshape(shape)
            rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
            assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
            grid = np.indices(shape).reshape(2, -1)
            middle = (grid * image.ravel()).sum(axis=1) / image.sum()
            assert np.abs(middle - np.array(shape) / 2).max() <= 0.5

    def test_area_average(self, node):
        """Sums are kept, to any size."""
        image = np.random.RandomState(0).uniform(0, 255, (9, 7))
        script = "return content.map(([image, shape]) => Array.from(resized(image, shape).values));"
        document = {"rows": 9, "columns": 7, "values": image.ravel().tolist()}
        shapes = [(3, 7), (4, 5), (9, 7), (18, 14), (1, 1), (13, 3)]
        for shape, found in zip(
            shapes, in_node(node, script, [[document, shape] for shape in shapes]), strict=True
        ):
            found = np.array(found).reshape(shape)
            assert found.mean() == pytest.approx(image.mean())
            if shape == (3, 7):
                assert np.allclose(found, image.reshape(3, 3, 7).mean(axis=1))

    def test_background(self, node):
        script = """
const flat = (gray, middle) => {
  const values = new Float64Array(100).fill(gray);
  values[55] = middle;
  return {rows: 10, columns: 10, values};
};
return content.map(([gray, middle, background]) =>
  withBackground(flat(gray, middle), background).values[55]);
"""
        cases = [
            [250, 10, 0],
            [10, 250, 0],
            [10, 250, 255],
            [250, 10, 255],
            [120, 7, 0],
            [250, 9, 120],
        ]
        assert in_node(node, script, cases) == [245, 250, 5, 10, 7, 9]


# --------------------------------------------------------------------------------------- rendering


class TestRender:
    @staticmethod
    def described(**changes):
        return about(fitted("multiclass"), "a model") | changes

    def test_runs(self):
        with pytest.raises(ValueError, match="runs must be 'server' or 'here', got 'there'"):
            render([self.described()], runs="there")

    @pytest.mark.parametrize("networks", [None, {}, {"another": {}}])
    def test_networks_are_needed(self, networks):
        with pytest.raises(ValueError, match="networks must be those of the models"):
            render([self.described()], runs="here", networks=networks)

    def test_only_what_is_needed(self):
        image_page = to_html(MLPClassifier((3,), max_iter=2).fit(np.eye(256), np.arange(256) % 2))
        table_page = render([self.described()], runs="server")
        everything = render([], runs="server")
        assert "class DrawingView" in image_page and "class FormView" not in image_page
        assert "class FormView" in table_page and "class DrawingView" not in table_page
        assert "class HereModel" not in table_page and "class ServerModel" in table_page
        assert "class FormView" in everything and "class DrawingView" in everything

    @pytest.mark.parametrize("page", ["here", "server"])
    def test_policy(self, page):
        """Each script has its hash in the policy, and nothing refers to another place."""
        model = fitted("multiclass")
        found = plain(model)
        networks = {"a model": encoded(found)} if page == "here" else None
        text = render([self.described()], runs=page, networks=networks)
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
        assert policy.startswith("default-src 'none'; ")
        assert ("connect-src" in policy) == (page == "server")
        contents = re.findall(r"<style>(.*?)</style>", text, re.S)
        contents += re.findall(r'<script id="[^"]*">(.*?)</script>', text, re.S)
        assert len(contents) > 5
        for content in contents:
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
        assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
        assert not re.findall(r"https?://(?!www\.w3\.org)", text)

    def test_text_is_data(self):
        """Names and classes may be anything."""
        evil = "</script><script>alert(1)</script><!-- & \ud800"
        described = self.described(name=evil, classes=[evil, 1.5, True], card={"a": {evil: evil}})
        text = render([described], runs="server", title=evil)
        assert "<script>alert" not in text
        assert exporting._data(text, "abouts")[0]["classes"] == [evil, 1.5, True]
        assert "&amp; \\ud800</h1>" in text.encode().decode()

    def test_numbers_that_json_does_not_have(self):
        text = render([self.described(card={"a": {"b": [float("nan")]}})], runs="server")
        assert exporting._data(text, "abouts")[0]["card"] == {"a": {"b": ["nan"]}}

    def test_file(self, tmp_path):
        path = tmp_path / "my model.html"
        text = to_html(fitted("binary"), path)
        assert path.read_text("utf-8") == text
        assert "<h1>my model</h1>" in text
        assert "<h1>&lt;b&gt;</h1>" in to_html(fitted("binary"), title="<b>")


# ----------------------------------------------------------------------------------- in the browser


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A browser without a window; files that it downloads are in its `downloads`."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program, driver = tool("chromium", "chromium-browser", "google-chrome"), tool("chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    downloads = tmp_path_factory.mktemp("downloads")
    for argument in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        "window-size=1280,1000", f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(driver)
    with webdriver.Chrome(options=options, service=service) as browser:
        browser.set_script_timeout(30)
        yield SimpleNamespace(driver=browser, downloads=downloads)


class Page:
    """What a person sees and does on a page."""

    def __init__(self, chromium, tmp_path):
        self.driver, self.downloads, self.folder = chromium.driver, chromium.downloads, tmp_path

    def open(self, content, *, width=1280):
        """Open HTML as a file, or an address, in a window of some width."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        if content.startswith("<!"):
            path = self.folder / "page.html"
            path.write_text(content, "utf-8")
            content = path.as_uri()
        self.driver.get(content)
        self.until("document.querySelector('[data-part=verdict]')?.textContent")
        return self

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, expression, *arguments, seconds=20):
        """Wait until an expression of JavaScript is true; return its value."""
        end = time.monotonic() + seconds
        while not (value := self.js(f"return {expression}", *arguments)):
            assert time.monotonic() < end, f"{expression}: {self.text('body')}"
            time.sleep(0.02)
        return value

    def settle(self):
        """Wait until what was asked is answered, and frames have been drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0]; setTimeout(() => requestAnimationFrame(() => "
            "requestAnimationFrame(() => setTimeout(done, 120))), 60);"
        )

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def text(self, selector):
        return self.find(selector).text

    def part(self, name):
        return self.find(f"[data-part='{name}']")

    def click(self, name):
        self.part(name).click()
        self.settle()

    @property
    def errors(self):
        """What the browser complains about, such as the content security policy."""
        messages = [entry["message"] for entry in self.driver.get_log("browser")]
        return [text for text in messages if "willReadFrequently" not in text]  # by `saw`

    # ------------------------------------------------------------------------------------- drawing

    def stroke(self, *points, kind="mouse"):
        """Draw a line through points, whose coordinates are parts of the canvas."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        canvas = self.part("canvas")
        self.js("arguments[0].scrollIntoView({block: 'center'})", canvas)
        size = canvas.rect
        actions = ActionChains(self.driver, duration=15, devices=[PointerInput(kind, kind)])

        def at(x, y):
            return int((x - 0.5) * size["width"]), int((y - 0.5) * size["height"])

        pointer = actions.w3c_actions.pointer_action
        pointer.move_to(canvas, *at(*points[0]))
        pointer.pointer_down()
        for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
            for share in (0.25, 0.5, 0.75, 1):
                pointer.move_to(canvas, *at(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share))
        pointer.pointer_up()
        actions.perform()
        self.settle()

    def press(self, *keys, held=None):
        """Press keys, wherever the focus is, while another is held down."""
        from selenium.webdriver.common.action_chains import ActionChains

        actions = ActionChains(self.driver, duration=0)
        if held is not None:
            actions.key_down(held)
        actions.send_keys(*keys)
        if held is not None:
            actions.key_up(held)
        actions.perform()

    @property
    def pixels(self):
        return np.array(self.js("return window.fastmlp.pixels"), np.uint8)

    @property
    def saw(self):
        """The pixels of the picture of what the network saw."""
        return np.array(
            self.js(
                """
const [canvas] = arguments, {width, height} = canvas;
const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
return Array.from(data).filter((_, i) => i % 4 === 0);
""",
                self.part("saw"),
            )
        )

    @property
    def verdict(self):
        return self.part("verdict").text.split("\n")

    @property
    def bars(self):
        """The percentages, by class, as written and as drawn."""
        found = self.js(
            "return [...document.querySelectorAll('[data-part=bars] li')].map((row) => ["
            "row.querySelector('.name').textContent, row.querySelector('.share').textContent,"
            "new DOMMatrix(row.querySelector('.fill').style.transform).a])"
        )
        return {name: (share, length) for name, share, length in found}

    def check_bars(self, probabilities, classes):
        bars = self.bars
        assert list(bars) == [str(label) for label in classes]
        for (text, length), probability in zip(bars.values(), probabilities, strict=True):
            assert float(text.rstrip("%")) == pytest.approx(100 * probability, abs=0.16)
            assert length == pytest.approx(probability, abs=2e-3)

    # ---------------------------------------------------------------------------------------- form

    def control(self, name, kind="input:not([type=range]), select"):
        """Return the control of a column."""
        return self.js(
            "const label = [...document.querySelectorAll('.field > label:not(.missing)')]"
            ".find((label) => label.textContent === arguments[0]);"
            f"return label.closest('.field').querySelector('.control').querySelector('{kind}')",
            name,
        )

    def enter(self, name, value):
        """Enter a value for a column, as its control takes it."""
        self.js(
            """
const [control, value] = arguments;
const choices = control.type === "radio" ? [...document.getElementsByName(control.name)] : [];
if (choices.length) {
  choices.find(({parentElement}) => parentElement.textContent === value).click();
} else {
  control.value = value;
  control.dispatchEvent(new Event("input", {bubbles: true}));
}
""",
            self.control(name),
            value,
        )

    def miss(self, name):
        self.js(
            "const label = [...document.querySelectorAll('.field > label:not(.missing)')]"
            ".find((label) => label.textContent === arguments[0]);"
            "label.closest('.field').querySelector('.missing input').click()",
            name,
        )

    @property
    def effects(self):
        found = self.js(
            "return [...document.querySelectorAll('[data-part=effects] li:not(.empty)')]"
            ".map((row) => [row.querySelector('.name').textContent, "
            "row.querySelector('.share').textContent])"
        )
        return {name: number_of(text) for name, text in found}

    def download(self):
        """Return the content of the file that the link on the page offers."""
        name = self.js("return document.querySelector('a[download]').download")
        path = self.downloads / name
        path.unlink(missing_ok=True)
        self.find("a[download]").click()
        end = time.monotonic() + 20
        while not path.exists():
            assert time.monotonic() < end, os.listdir(self.downloads)
            time.sleep(0.05)
        return path.read_bytes()


def number_of(text):
    return float(text.replace("\u2212", "-").replace(",", "").rstrip("%"))


@pytest.fixture
def page(chromium, tmp_path):
    found = Page(chromium, tmp_path)
    yield found
    assert found.errors == []


FIRST_UNIT = "document.querySelector('[data-part=units] span').textContent"


def answers(model, pixels):
    """Return the values of the units of the first layer, times the norm of what reads them."""
    network = plain(model).networks[0]
    return network.values(pixels[np.newaxis])[0][0] * np.linalg.norm(network.coefs[1], axis=1)


SEVEN = [(0.28, 0.25), (0.7, 0.25), (0.6, 0.5), (0.45, 0.8)]


@pytest.fixture(scope="session")
def noise_model():
    """A model of 28 x 28 images that is quick to train and answers differently to any drawing."""
    random = np.random.RandomState(0)
    images = np.where(random.rand(300, DIGITS) < 0.7, 0, random.randint(0, 256, (300, DIGITS)))
    model = MLPClassifier((30,), max_iter=30, input_scale=1 / 255, random_state=0)
    return model.fit(images.astype(np.uint8), np.arange(300) % 10)


@pytest.fixture(scope="session")
def noise_page(noise_model):
    return to_html(noise_model, dtype="float32", title="noise")


@pytest.fixture(scope="session")
def mnist_model(mnist):
    """Trained for three epochs."""
    (images, labels), _ = mnist
    model = MLPClassifier((50,), max_iter=3, input_scale=1 / 255, random_state=0)
    return model.fit(images, labels)


@pytest.mark.slow
class TestDrawing:
    def test_strokes(self, page, noise_page, noise_model):
        page.open(noise_page)
        assert page.verdict == ["Draw something"]
        assert {text for text, _ in page.bars.values()} == {"\u2013"}
        assert not page.pixels.any()
        page.stroke(*SEVEN)
        first = page.pixels
        assert first.max() > 200
        assert np.array_equal(page.saw, first)
        page.check_bars(noise_model.predict_proba([first])[0], range(10))
        label, share = page.verdict
        assert label == str(noise_model.predict([first])[0])
        assert share == page.bars[label][0]
        page.stroke((0.3, 0.5), (0.7, 0.5))
        second = page.pixels
        assert not np.array_equal(first, second)
        page.check_bars(noise_model.predict_proba([second])[0], range(10))
        page.click("undo")
        assert np.array_equal(page.pixels, first)
        page.click("clear")
        assert page.verdict == ["Draw something"] and not page.pixels.any()
        page.click("undo")
        assert np.array_equal(page.pixels, first)

    @pytest.mark.parametrize("kind", ["touch", "pen"])
    def test_fingers_and_pens(self, page, noise_page, noise_model, kind):
        page.open(noise_page, width=390)
        page.stroke(*SEVEN, kind=kind)
        assert page.pixels.max() > 200
        page.check_bars(noise_model.predict_proba([page.pixels])[0], range(10))

    def test_bars_move_meanwhile(self, page, noise_page):
        """They follow the pen, before it is lifted."""
        page.open(noise_page)
        counts = self.js_of_moves(page)
        assert counts["while drawing"] > 3

    @staticmethod
    def js_of_moves(page):
        return page.driver.execute_async_script(
            """
const done = arguments[0];
const canvas = document.querySelector("[data-part=canvas]");
const {left, top} = canvas.getBoundingClientRect();
const send = (name, x, y) => canvas.dispatchEvent(new PointerEvent(name, {
  pointerId: 1, button: 0, clientX: left + x, clientY: top + y, bubbles: true, cancelable: true}));
canvas.setPointerCapture = () => {};
const seen = new Set();
send("pointerdown", 50, 50);
let x = 50;
const step = () => {
  send("pointermove", x += 20, 50 + x / 2);
  seen.add(document.querySelector("[data-part=bars]").textContent);
  if (x < 250) setTimeout(step, 50);
  else done({"while drawing": seen.size});
};
step();
"""
        )

    @pytest.mark.mnist
    def test_a_seven(self, page, mnist_model):
        page.open(to_html(mnist_model, title="digits"))
        page.stroke(*SEVEN)
        assert page.verdict[0] == "7"
        page.click("clear")
        page.stroke((0.5, 0.2), (0.5, 0.8))
        assert page.verdict[0] == "1"
        page.click("clear")
        circle = [(0.5 + 0.18 * np.sin(t), 0.5 - 0.28 * np.cos(t)) for t in np.linspace(0, 6.3, 14)]
        page.stroke(*circle)
        assert page.verdict[0] == "0"

    @pytest.mark.mnist
    def test_small_and_in_a_corner(self, page, mnist_model):
        """Centred and scaled, it is a seven; as it stands, the network sees another image."""
        page.open(to_html(mnist_model))
        page.stroke(*[(x * 0.4 + 0.02, y * 0.4 + 0.58) for x, y in SEVEN])
        assert page.verdict[0] == "7"
        image = page.pixels.reshape(28, 28)
        page.click("centre")
        moved = page.pixels.reshape(28, 28)
        assert np.flatnonzero(moved.any(1)).min() > 14 > np.flatnonzero(image.any(1)).min()

    def test_keyboard(self, page, noise_page, noise_model):
        """Everything without a pointer: draw a corner, undo, clear, the switch."""
        from selenium.webdriver.common.keys import Keys

        page.open(noise_page)
        for _ in range(3):  # the link that skips to the content, then the canvas
            page.press(Keys.TAB)
            if page.js("return document.activeElement.dataset.part") == "canvas":
                break
        assert page.js("return document.activeElement.dataset.part") == "canvas"
        page.press(Keys.ARROW_LEFT * 5, Keys.ARROW_UP * 3)
        page.settle()
        assert not page.pixels.any()  # the pen is up
        page.press(" ", Keys.ARROW_RIGHT * 10, Keys.ARROW_DOWN * 8, " ", Keys.ARROW_LEFT * 4)
        page.settle()
        drawn = page.pixels
        image = drawn.reshape(28, 28)
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert 15 < np.ptp(rows) < 20 and np.ptp(columns) == 19
        page.check_bars(noise_model.predict_proba([drawn])[0], range(10))
        page.press(" ", Keys.ARROW_UP * 3, " ")
        page.settle()
        assert not np.array_equal(page.pixels, drawn)
        page.press("z", held=Keys.CONTROL)
        page.settle()
        assert np.array_equal(page.pixels, drawn)
        page.press(Keys.DELETE)
        page.settle()
        assert not page.pixels.any()
        page.press(Keys.TAB)  # undo is enabled, clear is not
        assert page.js("return document.activeElement.dataset.part") == "undo"
        page.press(" ")
        page.settle()
        assert np.array_equal(page.pixels, drawn)

    def test_screen_reader(self, page, noise_page):
        """What it says comes after a pause, and controls have names."""
        page.open(noise_page)
        page.stroke(*SEVEN)
        page.until("document.querySelector('[role=status]').textContent")
        label, share = page.verdict
        assert page.js("return document.querySelector('[role=status]').textContent") == (
            f"{label}, {share}"
        )
        check_names(page)

    @pytest.mark.parametrize("is_light", [False, True])
    @pytest.mark.parametrize("background", [0.0, 255.0])
    def test_pictures(self, page, noise_model, tmp_path, is_light, background):
        """The pixels of a picture of the right size are given as they are, or inverted."""
        from PIL import Image

        image = np.zeros((28, 28), np.uint8)
        image[5:20, 8:22] = np.random.RandomState(0).randint(0, 256, (15, 14))
        if is_light:
            image = 255 - image
        Image.fromarray(image).save(tmp_path / "drawn.png")
        noise_model.metadata_ = {"kind": "images", "shape": [28, 28], "background": background}
        try:
            page.open(to_html(noise_model, dtype="float32"))
        finally:
            del noise_model.metadata_
        page.part("file").send_keys(str(tmp_path / "drawn.png"))
        page.until("window.fastmlp.pixels.some((pixel) => pixel !== window.fastmlp.pixels[0])")
        page.settle()
        wanted = 255 - image if is_light != (background > 127) else image
        assert np.array_equal(page.pixels, wanted.ravel())
        page.check_bars(noise_model.predict_proba([wanted.ravel()])[0], range(10))
        page.click("undo")
        assert page.verdict == ["Draw something"]

    def test_large_picture(self, page, noise_page, tmp_path):
        """It is in color, not square, and partly transparent."""
        from PIL import Image

        image = np.zeros((300, 420, 4), np.uint8)
        image[100:200, 140:280] = [200, 30, 90, 255]
        Image.fromarray(image).save(tmp_path / "red.png")
        page.open(noise_page)
        page.part("file").send_keys(str(tmp_path / "red.png"))
        page.until("window.fastmlp.pixels.some((pixel) => pixel > 0)")
        found = page.pixels.reshape(28, 28)
        # Dark ink on white, inverted.
        ink = 255 - (0.299 * 200 + 0.587 * 30 + 0.114 * 90)
        assert abs(found[14, 14] - ink) <= 1 and found[2, 2] == 0
        page.click("centre")
        assert page.pixels.reshape(28, 28)[14, 14] == 255

    def test_no_picture(self, page, noise_page, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
        page.open(noise_page)
        page.part("file").send_keys(str(tmp_path / "broken.png"))
        page.until("!document.querySelector('[data-part=notice]').hidden")
        assert page.part("notice").text == (
            '"broken.png" cannot be read as a picture: use PNG, JPEG, GIF or WebP.'
        )

    def test_dropped_and_pasted(self, page, noise_page):
        page.open(noise_page)
        script = """
const [kind, done] = arguments;
const canvas = Object.assign(document.createElement("canvas"), {width: 28, height: 28});
const context = canvas.getContext("2d");
context.fillRect(0, 0, 28, 28);
context.fillStyle = "#fff";
context.fillRect(10, 10, 4, 9);
canvas.toBlob((blob) => {
  const data = new DataTransfer();
  data.items.add(new File([blob], "a.png", {type: "image/png"}));
  const event = kind === "drop"
    ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
    : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
  document.body.dispatchEvent(event);
  setTimeout(done, 300);
});
"""
        for kind in ("drop", "paste"):
            page.driver.execute_async_script(script, kind)
            assert page.pixels.reshape(28, 28)[10:19, 10:14].tolist() == [[255] * 4] * 9
            assert page.pixels.sum() == 255 * 36
            page.click("clear")

    def test_units(self, page, noise_page, noise_model):
        """Those with the largest values times the norm of what reads them, and their weights."""
        page.open(noise_page)
        page.stroke(*SEVEN)
        values = answers(noise_model, page.pixels)
        order = np.argsort(-np.abs(values))[:8]
        page.until(f"{FIRST_UNIT} === 'unit {order[0]}'")
        shown = page.part("units").text.split("\n")
        assert shown[::2] == [f"unit {unit}" for unit in order]
        assert [float(text) for text in shown[1::2]] == pytest.approx(values[order], rel=6e-3)
        colors = page.js(
            "const canvas = document.querySelector('[data-part=units] canvas');"
            "return Array.from(canvas.getContext('2d').getImageData(0, 0, 28, 28).data)"
        )
        colors = np.array(colors).reshape(-1, 4)
        weights = noise_model.coefs_[0][:, order[0]]
        assert np.allclose(colors[:, 3] / 255, np.abs(weights) / np.abs(weights).max(), atol=0.01)
        is_strong = colors[:, 3] > 60
        is_blue = colors[:, 2] > colors[:, 0]
        assert np.array_equal(is_blue[is_strong], weights[is_strong] > 0)

    def test_digits(self, page):
        """8 x 8 pixels whose white is 16."""
        (images, labels), _ = datasets.load_digits()
        model = MLPClassifier((40,), input_scale=1 / 16, max_iter=40, random_state=1)
        page.open(to_html(model.fit(images, labels), dtype="float32"))
        page.stroke(*SEVEN)
        assert page.verdict[0] == "7"
        assert page.pixels.max() > 200
        page.check_bars(model.predict_proba([page.pixels * (16 / 255)])[0], range(10))

    def test_many_classes(self, page):
        """The ten most likely of them."""
        random = np.random.RandomState(0)
        labels = np.array([f"kind {i}" for i in range(26)])[np.arange(200) % 26]
        model = MLPClassifier((9,), max_iter=5, random_state=0, input_scale=1 / 255)
        model.fit(random.randint(0, 256, (200, 15 * 20)), labels)
        model.metadata_ = {"kind": "images", "shape": [15, 20], "background": 0.0}
        page.open(to_html(model, dtype="float32"))
        page.stroke(*SEVEN)
        probabilities = model.predict_proba([page.pixels])[0]
        order = np.argsort(-probabilities)[:10]
        page.check_bars(probabilities[order], model.classes_[order])
        assert page.verdict[0] == model.classes_[order[0]]

    def test_several_labels(self, page):
        random = np.random.RandomState(0)
        images, labels = random.randint(0, 256, (60, 64)), random.randint(0, 2, (60, 3))
        model = MLPClassifier((9,), max_iter=5, random_state=0, input_scale=1 / 255)
        page.open(to_html(model.fit(images, labels), dtype="float32"))
        page.stroke(*SEVEN)
        probabilities = model.predict_proba([page.pixels])[0]
        page.check_bars(probabilities, range(3))
        assert page.verdict[0] == (
            ", ".join(map(str, np.flatnonzero(probabilities > 0.5))) or "none"
        )

    def test_a_number_of_an_image(self, page):
        random = np.random.RandomState(0)
        images = random.randint(0, 256, (60, 64))
        model = MLPRegressor(
            hidden_layer_sizes=(9,), max_iter=9, random_state=0, input_scale=1 / 255,
            target_scale="standard",
        )  # fmt: skip
        page.open(to_html(model.fit(images, images.mean(axis=1)), dtype="float32"))
        page.stroke(*SEVEN)
        assert number_of(page.verdict[0]) == pytest.approx(
            model.predict([page.pixels])[0], rel=1e-3
        )
        assert not page.part("bars").is_displayed()

    def test_nothing_moves(self, page, noise_page):
        """The page stays where it is while one draws."""
        page.open(noise_page, width=390)
        places = """
return [...document.querySelectorAll("section, li, canvas, button")].map((node) => {
  const {left, top, width, height} = node.getBoundingClientRect();
  return [left, top + scrollY, width, height].map(Math.round);
});
"""
        before = page.js(places)
        page.stroke(*SEVEN)
        page.until("document.querySelector('[data-part=units] span').textContent.trim()")
        assert page.js(places) == before

    def test_colors(self, page, noise_page):
        """Ink is dark on light paper, or light on dark paper, and changes at once."""
        page.open(noise_page)
        page.stroke((0.3, 0.5), (0.7, 0.5))
        inks = {}
        for scheme in ("light", "dark"):
            feature = {"name": "prefers-color-scheme", "value": scheme}
            page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            page.settle()
            inks[scheme] = page.js(
                "const canvas = document.querySelector('[data-part=canvas]'); return canvas"
                ".getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[0]"
            )
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        assert inks["light"] < 60 and inks["dark"] > 200


def check_names(page):
    """Every control that can be reached has a name."""
    assert (
        page.js(
            """
const controls = "button, input:not([hidden]), select, textarea, canvas, [role]";
return [...document.querySelectorAll(controls)]
  .filter((node) => node.checkVisibility())
  .filter((node) => !(node.labels?.length || node.ariaLabel || node.textContent.trim()
    || node.getAttribute("aria-label") !== null || node.role === "status" || node.role === "alert"
    || node.role === "radiogroup"))
  .map((node) => node.outerHTML)
"""
        )
        == []
    )


@pytest.mark.slow
class TestForm:
    def test_number(self, page, table_models):
        model = table_models["regression"]
        frame, _ = houses()
        page.open(to_html(model, dtype="float32"))
        row = {
            "area": "123.5", "rooms": "5", "town": 'the "new" one', "garden": "yes",
            "new": "True", "sold": "2021-07-15", "__proto__": "constructor",
        }  # fmt: skip
        for name, value in row.items():
            page.enter(name, value)
        page.settle()
        table = frame.iloc[:1].assign(
            **row | {"area": 123.5, "rooms": 5, "new": True, "sold": pd.Timestamp("2021-07-15")}
        )
        shown, target = page.verdict
        assert target == "price"
        assert number_of(shown) == pytest.approx(model.predict(table)[0], rel=1e-4)
        page.miss("area")
        page.settle()
        table["area"] = np.nan
        assert number_of(page.verdict[0]) == pytest.approx(model.predict(table)[0], rel=1e-4)
        page.miss("area")
        page.enter("rooms", "")  # nothing is a missing value, too
        page.settle()
        table = table.assign(area=123.5, rooms=np.nan)
        assert number_of(page.verdict[0]) == pytest.approx(model.predict(table)[0], rel=1e-4)

    def test_classes_and_effects(self, page, table_models):
        model = table_models["classification"]
        page.open(to_html(model, dtype="float32"))
        typical = {column["name"]: column["typical"] for column in about(model, "")["columns"]}
        assert page.effects == {}
        assert "All values are typical" in page.part("meaning").text
        row = typical | {"area": 300.0, "garden": "yes", "town": "Bonn"}
        for name in ("area", "garden", "town"):
            page.enter(name, str(row[name]))
        page.settle()

        def of(values):
            frame = pd.DataFrame([values])
            frame["sold"] = pd.to_datetime(frame["sold"])
            return model.predict_proba(frame)[0]

        probabilities = of(row)
        page.check_bars(probabilities, model.classes_)
        best = probabilities.argmax()
        changes = {
            name: 100 * (probabilities[best] - of(row | {name: typical[name]})[best])
            for name in row
        }
        wanted = {name: change for name, change in changes.items() if abs(change) > 0.05}
        assert page.effects == pytest.approx(wanted, abs=0.06)
        assert list(page.effects) == sorted(wanted, key=lambda name: -abs(wanted[name]))
        assert f"the probability of {model.classes_[best]}" in page.part("meaning").text
        page.click("reset")
        page.check_bars(of(typical), model.classes_)

    def test_unfinished(self, page):
        """What is no number yet predicts nothing; neither does nothing, if it cannot be missing."""
        from selenium.webdriver.common.keys import Keys

        page.open(to_html(fitted("number")))
        before = page.verdict
        page.control("x1").send_keys(Keys.BACKSPACE * 3, "-")
        page.settle()
        assert page.verdict == ["Enter a number for x1"]
        page.control("x1").send_keys("2")
        page.settle()
        assert page.verdict != before and page.verdict[1] == "predicted"
        page.control("x1").send_keys(Keys.BACKSPACE * 2)
        page.settle()
        assert page.verdict == ["Enter a number for x1"]

    def test_slider(self, page, table_models):
        page.open(to_html(table_models["regression"]))
        slider = page.control("area", "input[type=range]")
        before = page.verdict
        page.js(
            "arguments[0].value = arguments[0].max;"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            slider,
        )
        page.settle()
        assert page.verdict != before
        field = page.control("area").get_attribute("value")
        assert float(field) == pytest.approx(float(slider.get_attribute("max")))
        page.enter("area", "1e4")  # beyond the slider
        page.settle()
        assert page.control("area").get_attribute("value") == "1e4"

    def test_keyboard(self, page, table_models):
        from selenium.webdriver.common.keys import Keys

        page.open(to_html(table_models["classification"]))
        before = page.bars
        for _ in range(9):
            page.press(Keys.TAB)
            if page.js("return document.activeElement.type") == "range":
                break
        page.press(Keys.END)
        page.settle()
        assert page.bars != before
        check_names(page)

    def test_csv(self, page, table_models, tmp_path):
        """It comes back with predictions, and the rest of it as it was."""
        model = table_models["classification"]
        frame, _ = houses()
        frame["note"] = ["a;b", 'say "hi"', "two\nlines", ""] * 30
        path = tmp_path / "new houses.csv"
        frame.to_csv(path, index=False, sep=";", encoding="utf-8-sig")
        page.open(to_html(model, dtype="float32"))
        page.part("file").send_keys(str(path))
        page.until("document.querySelector('a[download]')")
        assert "120 rows" in page.part("batch").text
        content = page.download()
        found = pd.read_csv(io.BytesIO(content), sep=";", dtype=str, keep_default_na=False)
        assert list(found.columns) == [
            *frame.columns, "prediction", "probability of False", "probability of True",
        ]  # fmt: skip
        original = pd.read_csv(path, sep=";", dtype=str, keep_default_na=False)
        pd.testing.assert_frame_equal(found[list(frame.columns)], original)
        assert found["prediction"].tolist() == model.predict(frame).astype(str).tolist()
        probabilities = found["probability of True"].astype(float)
        assert np.allclose(probabilities, model.predict_proba(frame)[:, 1], atol=1e-6)
        head = page.js(
            "return [...document.querySelectorAll('[data-part=batch] tr')].map((row) => "
            "[...row.children].slice(0, 1).map((cell) => cell.textContent)[0])"
        )
        assert head == ["prediction", *found["prediction"][:5]]

    def test_csv_of_another_table(self, page, table_models, tmp_path):
        (tmp_path / "a.csv").write_text("area,rooms\n1,2\n")
        page.open(to_html(table_models["regression"]))
        page.part("file").send_keys(str(tmp_path / "a.csv"))
        page.until("!document.querySelector('[data-part=complaint]').hidden")
        assert page.part("complaint").text == (
            "a.csv: The file must have the columns that the model was trained on, but lacks "
            '"town", "garden", "new", "sold", "__proto__".'
        )

    @pytest.mark.filterwarnings("ignore:.* no effect with solver='lbfgs'")
    def test_many_columns(self, page):
        """Those that matter come first, the others on demand."""
        random = np.random.RandomState(0)
        frame = pd.DataFrame(
            random.normal(size=(200, 30)), columns=[f"column {i}" for i in range(30)]
        )
        y = frame["column 17"] * 5 + frame["column 3"] * 2
        model = make_table_pipeline(
            "regression", n_rows=200, n_estimators=1, max_iter=300, random_state=0, solver="lbfgs",
            hidden_layer_sizes=(), dropout=0.0, batch_size="auto", lr_schedule=None,
        ).fit(frame, y)  # fmt: skip
        page.open(to_html(model))
        shown = (
            "[...document.querySelectorAll('.field')].filter((field) => field.checkVisibility())"
            ".map((field) => field.querySelector('label').textContent)"
        )
        page.until(f"{shown}[0] === 'column 17'")
        names = page.js(f"return {shown}")
        assert names[:2] == ["column 17", "column 3"] and len(names) == 12
        page.part("filter").send_keys("29")
        assert page.js(f"return {shown}") == ["column 29"]
        page.part("filter").clear()
        page.js("arguments[0].dispatchEvent(new Event('input'))", page.part("filter"))
        page.click("more")
        assert len(page.js(f"return {shown}")) == 30
        assert not page.part("more").is_displayed()

    def test_long_list(self, page):
        """One can search, and enter what was not in the training table."""
        random = np.random.RandomState(0)
        frame = pd.DataFrame({"town": random.choice([f"town {i}" for i in range(40)], 600)})
        y = frame["town"].str.len() + (frame["town"] == "town 7") * 50
        model = make_table_pipeline(
            "regression", n_rows=600, n_estimators=1, max_iter=9, random_state=0
        )
        page.open(to_html(model.fit(frame, y), dtype="float32"))
        for town, is_known in {"town 7": True, "a village": False}.items():
            page.enter("town", town)
            page.settle()
            wanted = model.predict(pd.DataFrame({"town": [town]}))[0]
            assert number_of(page.verdict[0]) == pytest.approx(wanted, rel=1e-3)
            assert ("not seen in training" in page.text(".field")) == (not is_known)

    def test_rows_without_names(self, page):
        """A few have fields, many are pasted."""
        model = fitted("multiclass")
        page.open(to_html(model, dtype="float32"))
        page.enter("x2", "1.5")
        page.settle()
        page.check_bars(model.predict_proba([[0, 0, 1.5, 0, 0, 0]])[0], range(3))
        random = np.random.RandomState(0)
        wide = MLPClassifier((3,), max_iter=3, random_state=0)
        wide.fit(random.normal(size=(30, 700)), np.arange(30) % 2)
        page.open(to_html(wide, dtype="float32"))
        row = random.normal(size=700).round(4)
        field = page.find("textarea")
        assert page.verdict == ["Paste a row"]
        field.send_keys("1, 2 ")
        page.settle()
        assert page.verdict == ["2 of 700 numbers"]
        page.js(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            field,
            "\t".join(map(str, row)),
        )
        page.settle()
        page.check_bars(wide.predict_proba([row])[0], [0, 1])
        field.send_keys(" x")
        page.settle()
        assert page.part("notice").text == 'The cells must be numbers, got "x".'

    def test_csv_without_names(self, page, tmp_path):
        model = fitted("numbers")
        np.savetxt(tmp_path / "rows.csv", X, delimiter=",")
        page.open(to_html(model, dtype="float32"))
        page.part("file").send_keys(str(tmp_path / "rows.csv"))
        page.until("document.querySelector('a[download]')")
        found = pd.read_csv(io.BytesIO(page.download()))
        assert np.allclose(
            found[["prediction of 0", "prediction of 1"]], model.predict(X), rtol=1e-4
        )

    @pytest.mark.parametrize(
        "text, message",
        [
            ("x0,x1\n1,2\n", "a.csv: The rows must have 6 numbers, got 2."),
            ("x0,x1,x2,x3,x4,x5\n1,2,3,4,,6\n", '"x4" must have a number in every row, got none'),
            ("a,b,c,d,e,f\n1,2,3,4,z,6\n", 'a.csv: The cells must be numbers, got "z".'),
        ],
    )
    def test_csv_of_other_rows(self, page, tmp_path, text, message):
        (tmp_path / "a.csv").write_text(text)
        page.open(to_html(fitted("multiclass")))
        page.part("file").send_keys(str(tmp_path / "a.csv"))
        page.until("!document.querySelector('[data-part=complaint]').hidden")
        assert message in page.part("complaint").text


@pytest.mark.slow
class TestAnyPage:
    @pytest.mark.parametrize("width", [320, 390, 768, 1280])
    @pytest.mark.parametrize("kind", ["images", "table"])
    def test_no_sideways_scrolling(self, page, kind, width, noise_page, table_models, tmp_path):
        page.open(
            noise_page if kind == "images" else to_html(table_models["classification"]), width=width
        )
        if kind == "images":
            page.stroke(*SEVEN)
        else:
            frame, _ = houses()
            frame.to_csv(tmp_path / "houses.csv", index=False)
            page.part("file").send_keys(str(tmp_path / "houses.csv"))
            page.until("document.querySelector('a[download]')")
        page.find("summary").click()
        assert page.js("return document.documentElement.scrollWidth") <= width

    def test_card(self, page, noise_page):
        page.open(noise_page)
        page.find("summary").click()
        text = page.text("#card")
        assert "MLPClassifier" in text and "hidden_layer_sizes" in text

    def test_several_models(self, page, noise_model, table_models):
        """A menu shows one of them at a time, whatever they are named."""
        models = {"7 & 8": noise_model, "<b>": table_models["regression"]}
        page.open(
            render(
                [about(model, name) for name, model in models.items()],
                runs="here",
                networks={name: encoded(plain(model)) for name, model in models.items()},
            )
        )
        assert page.text("h1") == "7 & 8"
        page.stroke(*SEVEN)
        choose = (
            "const menu = document.getElementById('models'); menu.selectedIndex = arguments[0];"
            "menu.dispatchEvent(new Event('change'))"
        )
        page.js(choose, 1)
        page.settle()
        assert page.text("h1") == "<b>" and page.verdict[1] == "price"
        page.js(choose, 0)
        page.settle()
        assert page.verdict == ["Draw something"]
        check_names(page)


class Servers:
    """Starts ``fastmlp serve`` with models by name."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = []

    def __call__(self, models, *options):
        """Return the address of a new one."""
        names = []
        for name, model in models.items():
            ending = "skops" if hasattr(model, "steps") else "npz"
            names.append(str(self.folder / f"{name}.{ending}"))
            fastmlp.save(model, names[-1], metadata=getattr(model, "metadata_", None))
        command = [sys.executable, "-m", "fastmlp", "serve", *names, "--port", "0", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        for line in process.stdout:
            if found := re.match(r"(http://\S+)", line):
                return found[1]
        raise AssertionError(f"the server has ended with {process.wait()}")

    def stop(self):
        while self.processes:
            process = self.processes.pop()
            process.terminate()
            process.wait(30)
            process.stdout.close()


@pytest.fixture
def serve(tmp_path):
    for package in ("starlette", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)
    servers = Servers(tmp_path)
    yield servers
    servers.stop()


@pytest.mark.slow
class TestServer:
    def test_drawing(self, page, serve, noise_model):
        page.open(serve({"a b%&c": noise_model}))
        assert page.verdict == ["Draw something"]
        page.stroke(*SEVEN)
        page.until("document.querySelector('[data-part=verdict] strong')")
        page.settle()
        page.check_bars(noise_model.predict_proba([page.pixels])[0], range(10))
        best = np.abs(answers(noise_model, page.pixels)).argmax()
        page.until(f"{FIRST_UNIT} === 'unit {best}'")

    def test_same_as_in_the_page(self, page, serve, table_models, tmp_path):
        """The form gives the same numbers, effects and files as without a server."""
        model = table_models["classification"]
        frame, _ = houses()
        frame.to_csv(tmp_path / "new.csv", index=False)
        found = []
        for content in (serve({"houses": model}), to_html(model, dtype="float32")):
            page.open(content)
            page.enter("area", "300")
            page.enter("town", "Bonn")
            page.miss("garden")
            page.settle()
            page.until("document.querySelector('[data-part=effects] li:not(.empty)')")
            page.part("file").send_keys(str(tmp_path / "new.csv"))
            page.until("document.querySelector('a[download]')")
            table = pd.read_csv(io.BytesIO(page.download()))
            found.append((page.bars, page.effects, table))
        (bars, effects, table), (own_bars, own_effects, own_table) = found
        assert {name: text for name, (text, _) in bars.items()} == {
            name: text for name, (text, _) in own_bars.items()
        }
        assert effects == pytest.approx(own_effects, abs=0.11)
        assert list(table.columns) == list(own_table.columns)
        assert table["prediction"].equals(own_table["prediction"])
        assert np.allclose(
            table["probability of True"], own_table["probability of True"], atol=1e-5
        )

    def test_menu_and_errors(self, page, serve, noise_model, table_models, tmp_path):
        page.open(serve({"digits": noise_model, "houses": table_models["regression"]}))
        page.js(
            "const menu = document.getElementById('models'); menu.selectedIndex = 1;"
            "menu.dispatchEvent(new Event('change'))"
        )
        page.until("document.querySelector('[data-part=verdict] strong')")
        (tmp_path / "a.csv").write_text("area,rooms\n1,2\n")
        page.part("file").send_keys(str(tmp_path / "a.csv"))
        page.until("!document.querySelector('[data-part=complaint]').hidden")
        assert "lacks the columns 'town'" in page.part("complaint").text
        assert any("400" in message for message in page.errors)

    @pytest.mark.parametrize("is_in_address", [True, False])
    def test_token(self, page, serve, noise_model, tmp_path, is_in_address):
        token = "a-token-that-is-long-enough"
        (tmp_path / "token").write_text(token)
        address = serve({"digits": noise_model}, "--token-file", str(tmp_path / "token"))
        if is_in_address:
            page.open(f"{address}/#token={token}")
            assert "token" not in page.js("return location.href")
        else:
            page.driver.get("about:blank")
            page.driver.get(address)
            for entered in ("wrong", token):
                page.until("!document.getElementById('token').hidden")
                field = page.find("#token input")
                field.clear()
                field.send_keys(entered)
                page.find("#token button").click()
                if entered == "wrong":
                    page.until("!document.querySelector('#token [role=alert]').hidden")
        page.until("document.querySelector('[data-part=verdict]')?.textContent")
        page.stroke(*SEVEN)
        page.until("document.querySelector('[data-part=verdict] strong')")
        assert not page.js("return document.querySelector('#token').checkVisibility()")
        page.driver.get_log("browser")  # the refused requests

    def test_the_server_stops(self, page, serve, noise_model):
        page.open(serve({"digits": noise_model}))
        page.stroke(*SEVEN)
        page.until("document.querySelector('[data-part=verdict] strong')")
        serve.stop()
        page.stroke((0.2, 0.2), (0.5, 0.5))
        page.until("!document.querySelector('[data-part=notice]').hidden")
        assert page.part("notice").text == "The server does not answer: is it still running?"
        assert any("ERR_CONNECTION_REFUSED" in message for message in page.errors)
