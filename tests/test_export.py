"""ONNX, PyTorch and safetensors predict what the models predict.

What is exported is run by onnxruntime, by PyTorch and by the oracle here, not by fastmlp. Packages
that FASTMLP_REQUIRE_TOOLS names, such as "onnxruntime,torch", must be there. C has its own tests,
and so has the page.
"""

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import oracle
import pandas as pd
import pytest
from random_models import TASKS, as_rows, random_model, random_table
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from fastmlp import MLPClassifier, MLPEnsemble, MLPRegressor, export
from fastmlp.core.functions import ACTIVATIONS
from fastmlp.tables import make_table_pipeline

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
]

#: One of each task and activation.
SEEDS = range(len(TASKS) * len(ACTIVATIONS))

X = np.random.RandomState(0).normal(size=(90, 5)).astype(np.float32) * 4 + 10
THREE = (X[:, 0] > 10).astype(int) + (X[:, 1] > 12)


def needed(package):
    """Import a package, or skip the test."""
    if package in os.environ.get("FASTMLP_REQUIRE_TOOLS", "").split(","):
        return importlib.import_module(package)
    return pytest.importorskip(package)


@pytest.fixture
def onnx():
    return needed("onnx")


@pytest.fixture
def onnxruntime(onnx):
    return needed("onnxruntime")


@pytest.fixture
def torch():
    return needed("torch")


@pytest.fixture
def run(onnxruntime):
    """Return the outputs of a graph or a file of one, by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3

    def outputs(graph, feeds):
        content = graph.SerializeToString() if hasattr(graph, "graph") else os.fspath(graph)
        session = onnxruntime.InferenceSession(content, options)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    return outputs


@pytest.fixture(scope="module")
def classifier():
    network = MLPClassifier((6,), input_scale="standard", max_iter=5, random_state=0)
    return network.fit(X, THREE)


def predictions(model, rows):
    """Return the probabilities of a model, or its predictions, with a column per output."""
    found = model.predict_proba(rows) if is_classifier(model) else model.predict(rows)
    return found.reshape(len(rows), -1)


def by_oracle(model, rows):
    """Return the same, unit by unit."""
    networks = getattr(model, "estimators_", [model])
    return np.mean([_of_network(network, rows) for network in networks], axis=0)


def _of_network(model, rows):
    x = rows.astype(np.float64)
    if model.input_scale_ is not None:
        x = x * model.input_scale_[0] + model.input_scale_[1]
    found = oracle.predict(
        model.coefs_, model.intercepts_, model.activation, model.out_activation_, x
    )
    if getattr(model, "target_scale_", None) is not None:
        found = (found - model.target_scale_[1]) / model.target_scale_[0]
    if is_classifier(model) and found.shape[1] == 1:
        return np.hstack([1 - found, found])
    if is_classifier(model) and model.loss == "squared_error" and model._is_multiclass():
        return found / found.sum(axis=1, keepdims=True)
    return found


def assert_close(found, case, rows=slice(None)):
    """Compare with the model, in units of the last digits of its dtype; NaN is not close."""
    wanted = predictions(case.model, case.rows)[rows]
    size = 1 if is_classifier(case.model) else max(np.abs(wanted).max(), 1e-9)
    tolerance = size * (1e-6 if case.is_float32 else 1e-13)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_random_models_agree_with_the_oracle(seed):
    case = random_model(seed)
    few = case.rows[:4]
    wanted = by_oracle(case.model, few)
    scale = 1 if is_classifier(case.model) else np.abs(wanted).max()
    np.testing.assert_allclose(predictions(case.model, few), wanted, rtol=0, atol=3e-6 * scale)


# -------------------------------------------------------------------------------------------- ONNX


class TestONNX:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_it_predicts_alike(self, seed, run, tmp_path):
        case = random_model(seed)
        graph = export.to_onnx(
            case.model, tmp_path / "model.onnx", input_dtype=case.rows.dtype.name
        )
        assert (tmp_path / "model.onnx").read_bytes() == graph.SerializeToString()
        found = run(tmp_path / "model.onnx", {"X": case.rows})
        *_, numbers = found.values()
        assert_close(numbers, case)
        if is_classifier(case.model):
            assert list(found) == ["label", "probabilities"]
            assert_close(numbers[:4], case, slice(4))
            np.testing.assert_array_equal(found["label"], case.model.predict(case.rows))
        else:
            assert list(found) == ["prediction"]
        check = export.check_onnx(case.model, tmp_path / "model.onnx", case.rows)
        assert check.by.startswith("onnxruntime 1.") and check.n_rows == len(case.rows)
        assert check.n_labels == (0 if is_classifier(case.model) else None)
        assert check.microseconds > 0
        assert check.n_bytes == (tmp_path / "model.onnx").stat().st_size

    @pytest.mark.parametrize("seed", [0, 13, 32])
    def test_it_is_valid(self, seed, onnx):
        graph = export.to_onnx(random_model(seed).model)
        onnx.checker.check_model(graph, full_check=True)
        assert (graph.ir_version, graph.producer_name) == (7, "fastmlp")
        assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 13)]
        (batch, width) = graph.graph.input[0].type.tensor_type.shape.dim
        assert batch.dim_param == "N" and width.dim_value > 0

    @pytest.mark.parametrize(
        ("labels", "dtype"),
        [
            (np.array([5, 7, -9]), np.int64),
            (np.array([5, 7, 200], np.uint8), np.int64),
            (np.array([1.0, 2.0, 4.0]), np.int64),
            (np.array(["a", "Ünï", "c d"]), object),
            (np.array(["a", "b", "c"], object), object),
            (np.array([False, True]), np.int64),
        ],
    )
    @pytest.mark.parametrize("has_many", [False, True])
    def test_labels(self, labels, dtype, has_many, run):
        y = labels[THREE % len(labels)]
        model = MLPClassifier((4,), input_scale="standard", max_iter=20, random_state=0)
        model = (MLPEnsemble(model, 2, random_state=0) if has_many else model).fit(X, y)
        label = run(export.to_onnx(model), {"X": X})["label"]
        assert label.dtype == dtype and label.shape == (len(X),)
        assert label.tolist() == model.predict(X).tolist()
        assert len(set(label.tolist())) > 1

    def test_metadata(self, classifier, onnx):
        frame = pd.DataFrame(X, columns=list("abcde"))
        model = clone(classifier).fit(frame, np.array(["x", "y", "z"])[THREE])
        found = {entry.key: entry.value for entry in export.to_onnx(model).metadata_props}
        assert json.loads(found.pop("classes")) == ["x", "y", "z"]
        assert json.loads(found.pop("feature_names")) == list("abcde")
        assert found.pop("fastmlp")
        assert found == {"estimator": "MLPClassifier", "task": "classification"}
        assert export.check_onnx(model, export.to_onnx(model)).n_labels == 0

    def test_large_inputs_lose_no_digits(self, run):
        """Years, scaled by a model whose compiled code rounds the product and the sum once."""
        years = (2000 + X).astype(np.float32)
        model = MLPClassifier((20,), input_scale="standard", max_iter=30, random_state=0)
        model.fit(years, THREE)
        found = run(export.to_onnx(model), {"X": years})["probabilities"]
        np.testing.assert_allclose(found, model.predict_proba(years), rtol=0, atol=1e-6)

    def test_a_feature_that_is_scaled_to_nothing(self, run):
        scale = np.array([0, 1, 1, 0, 2]), np.array([0.5, 0, -1, 0, 1])
        model = MLPClassifier((4,), input_scale=scale, max_iter=5, random_state=0).fit(X, THREE)
        found = run(export.to_onnx(model), {"X": X})["probabilities"]
        np.testing.assert_allclose(found, model.predict_proba(X), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("input_dtype", ["uint8", "float32", "float64"])
    def test_dtypes(self, dtype, input_dtype, run):
        bytes_ = np.random.RandomState(1).randint(0, 256, (30, 64)).astype(np.uint8)
        model = MLPClassifier((4,), input_scale=1 / 255, max_iter=5, random_state=0)
        model.fit(bytes_.astype(float), np.arange(30) % 3)
        graph = export.to_onnx(model, dtype=dtype, input_dtype=input_dtype)
        found = run(graph, {"X": bytes_.astype(input_dtype)})["probabilities"]
        assert found.dtype == dtype
        tolerance = 1e-6 if dtype == "float32" else 1e-14
        wanted = model.predict_proba(bytes_.astype(float))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)

    @pytest.mark.parametrize(
        ("n_features", "input_scale", "metadata", "wanted"),
        [
            (64, 1 / 16, None, np.uint8),
            (64, "standard", None, np.float32),  # any table may have a square number of features
            (64, None, None, np.float32),  # as of images divided by 255 before
            (64, None, {"kind": "images", "shape": [8, 8]}, np.uint8),
            (64, 1 / 16, {"kind": "rows"}, np.float32),
            (65, 1 / 16, None, np.float32),
        ],
    )
    def test_the_default_input(self, n_features, input_scale, metadata, wanted, onnx):
        rows = np.random.RandomState(1).randint(0, 17, (20, n_features)).astype(np.float32)
        model = MLPClassifier((2,), input_scale=input_scale, max_iter=1).fit(
            rows, np.arange(20) % 2
        )
        if metadata is not None:
            model.metadata_ = metadata
        element = export.to_onnx(model).graph.input[0].type.tensor_type.elem_type
        assert onnx.helper.tensor_dtype_to_np_dtype(element) == wanted
        assert export.check_onnx(model, export.to_onnx(model)).largest < 1e-4

    @pytest.mark.filterwarnings("ignore:overflow")  # of the evaluator's exp
    def test_outputs_that_are_all_0(self, classifier, onnx, monkeypatch):
        """They are divided by their sum all the same; onnxruntime's are never 0."""
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        model = clone(classifier).set_params(loss="squared_error").fit(X, THREE)
        model.intercepts_[-1] -= 1000
        assert (model.predict_proba(X) == np.float32(1 / 3)).all()
        assert export.check_onnx(model, export.to_onnx(model), X).largest < 1e-6

    def test_without_onnxruntime_the_reference_evaluator_checks(
        self, classifier, onnx, monkeypatch
    ):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        check = export.check_onnx(classifier, export.to_onnx(classifier))
        assert check.by.startswith("onnx ") and "reference" in check.by
        assert check.n_labels == 0 and check.largest < 1e-6

    def test_a_check_notices_other_weights(self, classifier, onnxruntime):
        other = clone(classifier).set_params(random_state=7).fit(X, THREE[::-1])
        check = export.check_onnx(classifier, export.to_onnx(other), X)
        assert check.n_labels > 5 and check.largest > 0.01

    def test_a_check_reads_the_labels_of_the_graph(self, classifier, onnx, onnxruntime):
        """Not those made of its probabilities."""
        graph = export.to_onnx(classifier)
        (classes,) = (c for c in graph.graph.initializer if c.data_type == onnx.TensorProto.INT64)
        swapped = onnx.numpy_helper.from_array(np.array([1, 0, 2]), classes.name)
        classes.CopyFrom(swapped)
        check = export.check_onnx(classifier, graph, X)
        assert check.largest < 1e-6
        assert check.n_labels == int((classifier.predict(X) < 2).sum()) > 0

    def test_a_check_refuses_rows_that_are_no_bytes(self, onnx):
        bytes_ = np.random.RandomState(1).randint(0, 256, (30, 64)).astype(np.uint8)
        model = MLPClassifier((2,), input_scale=1 / 255, max_iter=1).fit(bytes_, np.arange(30) % 2)
        graph = export.to_onnx(model)
        with pytest.raises(ValueError, match="is bytes, but the rows have other numbers"):
            export.check_onnx(model, graph, bytes_ / 255)

    def test_the_best_of_a_search(self, onnxruntime):
        network = MLPClassifier((3,), input_scale="standard", max_iter=3, random_state=0)
        search = GridSearchCV(network, {"alpha": [0.1, 1]}, cv=2).fit(X, THREE)
        graph = export.to_onnx(search)
        assert graph.producer_name == "fastmlp"
        assert export.check_onnx(search, graph, X).n_labels == 0


@pytest.fixture(scope="module")
def table():
    random = np.random.RandomState(1)
    n = 160
    frame = pd.DataFrame(
        {
            "time": 1.6e9 + random.randint(0, 10**6, n),
            "label": random.choice(["a", "b", "ç", None], n),  # as an output
            "paid": random.choice(["Yes", "no"], n),
            "when": np.datetime64("2001-01-01T00:00")
            + random.randint(0, 10**6, n).astype("timedelta64[m]"),
            "flag": random.uniform(size=n) < 0.5,
            "rate": np.where(random.uniform(size=n) < 0.2, np.nan, random.normal(size=n)),
        }
    )
    y = np.where(frame["time"] > 1.6005e9, "late", "early")
    pipeline = make_table_pipeline("classification", n_rows=n, random_state=0, max_iter=4)
    return pipeline.fit(frame, y), frame


class TestONNXOfTables:
    @pytest.mark.parametrize("seed", range(6))
    def test_random_tables(self, seed, onnx, onnxruntime):
        pipeline, rows = random_table(seed)
        graph = export.to_onnx(pipeline)
        onnx.checker.check_model(graph, full_check=True)
        check = export.check_onnx(pipeline, graph, rows)
        assert check.n_labels in (0, None) and check.largest < 1e-6 * (1 if seed % 3 else 50)
        assert export.check_onnx(pipeline, graph).n_labels in (0, None)

    @staticmethod
    def feeds(frame):
        """Return what the documentation of `to_onnx` says of the inputs."""
        days = frame["when"].to_numpy("datetime64[us]").astype(np.int64) / 86_400e6
        numbers = {
            "time": frame["time"],
            "when": np.where(frame["when"].isna(), np.nan, days),
            "flag": frame["flag"],
            "rate": frame["rate"],
        }
        feeds = {name: np.array(v, np.float64)[:, np.newaxis] for name, v in numbers.items()}
        for name in ("label", "paid"):
            words = frame[name].astype(object).where(frame[name].notna(), "")
            feeds[name] = words.to_numpy(object)[:, np.newaxis]
        return feeds

    @pytest.fixture
    def rows(self, table):
        """Rows with everything that a table may have."""
        rows = table[1].head(12).copy()
        rows["label"] = ["a", "b", "ç", "new", None, "", "NA", "nan", "?", "A", " a", "b"]
        rows["paid"] = ["Yes", "yes", "YES", "No", "no", "NO", None, "", "NA", "Yes", "no", "no"]
        rows["rate"] = [0, np.inf, -np.inf, np.nan, 1e30, -1e300, 1, 2, 3, 4, 5, -0.0]
        rows["time"] = [0, 1.6e9 + 1, np.nan, *rows["time"][3:]]
        rows["when"] = rows["when"].where(np.arange(12) % 5 > 0)
        return rows

    def test_every_kind_of_value(self, table, rows, run):
        pipeline, _ = table
        found = run(export.to_onnx(pipeline), self.feeds(rows))
        assert list(found) == ["label_", "probabilities"]  # a column is called label
        wanted = pipeline.predict_proba(rows)
        np.testing.assert_allclose(found["probabilities"], wanted, rtol=0, atol=1e-6)
        assert found["label_"].tolist() == pipeline.predict(rows).tolist()
        assert len(np.unique(wanted.round(6))) > 10

    def test_inputs_of_32_bits(self, table, rows, run):
        pipeline, _ = table
        graph = export.to_onnx(pipeline, input_dtype="float32")
        rows["rate"] = rows["rate"].clip(-1e30, 1e30)
        feeds = {
            name: values if values.dtype == object else values.astype(np.float32)
            for name, values in self.feeds(rows).items()
        }
        found = run(graph, feeds)["probabilities"]
        np.testing.assert_allclose(found, pipeline.predict_proba(rows), rtol=0, atol=1e-3)

    def test_numbers_or_categories_only(self, onnxruntime):
        random = np.random.RandomState(2)
        frame = pd.DataFrame({"a": random.normal(size=60), "b": random.choice(["x", "y"], 60)})
        for columns in (["a"], ["b"]):
            pipeline = make_table_pipeline("regression", n_rows=60, random_state=0, max_iter=2)
            pipeline.fit(frame[columns], frame["a"])
            check = export.check_onnx(pipeline, export.to_onnx(pipeline))
            assert check.largest < 1e-5

    def test_what_is_refused(self, table):
        needed("onnx")
        with pytest.raises(ValueError, match="must be 'float32' or 'float64' for the columns"):
            export.to_onnx(table[0], input_dtype="uint8")
        random = np.random.RandomState(2)
        frame = pd.DataFrame({"": random.normal(size=60), "b": random.normal(size=60)})
        pipeline = make_table_pipeline("regression", n_rows=60, random_state=0, max_iter=1)
        with pytest.raises(ValueError, match="columns of the table must have names"):
            export.to_onnx(pipeline.fit(frame, frame["b"]))


# ---------------------------------------------------------------------------------------- skl2onnx


NETWORK = MLPClassifier((5,), "gelu", input_scale="standard", max_iter=20, random_state=0)
REGRESSOR = MLPRegressor(
    hidden_layer_sizes=(5,), input_scale="standard", target_scale="standard", max_iter=20,
    random_state=0,
)  # fmt: skip
MANY = MLPEnsemble(NETWORK, 2, random_state=0)
LINEAR = LogisticRegression()
VOTERS = [("linear", LINEAR), ("network", NETWORK), ("many", MANY)]
REGRESSORS = [("linear", Ridge()), ("network", REGRESSOR)]
WORDS = np.array(["a", "b", "c"])[THREE]

OTHERS = {
    "scaler": (make_pipeline(StandardScaler(), NETWORK), THREE),
    "squared error": (
        make_pipeline(StandardScaler(), clone(NETWORK).set_params(loss="squared_error")), WORDS,
    ),
    "multilabel": (make_pipeline(MinMaxScaler(), NETWORK), np.c_[THREE > 0, THREE > 1].astype(int)),
    "binary": (make_pipeline(StandardScaler(), NETWORK), THREE > 0),
    "ensemble": (make_pipeline(StandardScaler(), MANY), WORDS),
    "bytes for labels": (make_pipeline(StandardScaler(), MANY), THREE.astype(np.uint8)),
    "regressor": (make_pipeline(StandardScaler(), REGRESSOR), X[:, :2]),
    "many regressors": (make_pipeline(StandardScaler(), MLPEnsemble(REGRESSOR, 2)), X[:, 0]),
    "calibrated": (CalibratedClassifierCV(NETWORK, cv=2), THREE),
    "calibrated ensemble": (CalibratedClassifierCV(MANY, cv=2), WORDS),
    "soft vote": (VotingClassifier(VOTERS, voting="soft"), THREE.astype(np.uint8)),
    "weighted vote": (VotingClassifier(VOTERS, voting="soft", weights=[1, 2, 3]), WORDS),
    "hard vote": (VotingClassifier(VOTERS), THREE),
    "stack": (StackingClassifier(VOTERS, cv=2), THREE),
    "stack under a network": (
        StackingClassifier(VOTERS, final_estimator=NETWORK, passthrough=True, cv=2), THREE > 0,
    ),
    "one vs rest": (OneVsRestClassifier(NETWORK), THREE),
    "bags": (BaggingClassifier(NETWORK, 2, random_state=0), WORDS),
    "search": (
        GridSearchCV(
            make_pipeline(StandardScaler(), MANY), {"mlpensemble__n_estimators": [2]}, cv=2
        ),
        THREE,
    ),
    "voting regressors": (VotingRegressor(REGRESSORS, weights=[1, 2]), X[:, 0]),
    "stacked regressors": (StackingRegressor(REGRESSORS, cv=2), X[:, 0]),
}  # fmt: skip


class TestSkl2onnx:
    @pytest.fixture(autouse=True)
    def installed(self, onnxruntime):
        needed("skl2onnx")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("name", OTHERS)
    def test_it_predicts_alike(self, name, dtype, run):
        model, y = OTHERS[name]
        rows = X.astype(dtype)
        model = clone(model).fit(rows, y)
        graph = export.to_onnx(model)
        found = run(graph, {"X": rows})
        *_, numbers = found.values()
        if hasattr(model, "predict_proba") or not is_classifier(model):
            wanted = predictions(model, rows)
            tolerance = {"float32": 2e-6, "float64": 1e-12}[dtype] * max(1, np.abs(wanted).max())
            np.testing.assert_allclose(numbers, wanted, rtol=0, atol=tolerance)
        if is_classifier(model):
            assert list(found) == ["label", "probabilities"]
            assert found["label"].tolist() == model.predict(rows).tolist()
        else:
            assert list(found) == ["prediction"]
        check = export.check_onnx(model, graph)
        assert check.n_labels in (0, None) and check.largest < 1e-4

    def test_the_model_is_not_changed(self):
        model = VotingClassifier(VOTERS[:2], voting="soft", weights=[1, 2])
        model.fit(X, THREE.astype(np.uint8))
        export.to_onnx(model)
        assert model.flatten_transform is True and model.weights == [1, 2]
        assert model.classes_.dtype == np.uint8

    @pytest.mark.parametrize("zipmap", [True, False, "columns"])
    @pytest.mark.parametrize("network", [NETWORK, MANY])
    def test_its_own_functions_know_our_networks(self, zipmap, network, run):
        import skl2onnx

        export.register_skl2onnx()
        export.register_skl2onnx()
        model = make_pipeline(StandardScaler(), network).fit(X, WORDS)
        graph = skl2onnx.to_onnx(model, X[:1], options={id(model): {"zipmap": zipmap}})
        found = run(graph, {"X": X})
        label, *probabilities = found.values()
        assert label.tolist() == model.predict(X).tolist()
        if zipmap is True:
            probabilities = [[row[label] for label in "abc"] for row in probabilities[0]]
        elif zipmap == "columns":
            probabilities = np.transpose(probabilities)
        else:
            (probabilities,) = probabilities
        np.testing.assert_allclose(probabilities, model.predict_proba(X), rtol=0, atol=1e-6)

    def test_class_labels(self, run):
        import skl2onnx

        export.register_skl2onnx()
        model = make_pipeline(StandardScaler(), NETWORK).fit(X, WORDS)
        options = {id(model): {"zipmap": False, "output_class_labels": True}}
        found = run(skl2onnx.to_onnx(model, X[:1], options=options), {"X": X})
        assert found["class_labels"].tolist() == ["a", "b", "c"]

    def test_labels_by_number(self, run):
        import skl2onnx

        export.register_skl2onnx()
        model = make_pipeline(StandardScaler(), NETWORK).fit(X, WORDS)
        options = {id(model): {"zipmap": False, "nocl": True}}
        found = run(skl2onnx.to_onnx(model, X[:1], options=options), {"X": X})
        assert model.classes_[found["label"]].tolist() == model.predict(X).tolist()

    def test_an_old_opset(self):
        import skl2onnx

        export.register_skl2onnx()
        model = make_pipeline(StandardScaler(), NETWORK).fit(X, WORDS)
        with pytest.raises(RuntimeError, match="need target_opset of at least 13, got 12"):
            skl2onnx.to_onnx(model, X[:1], target_opset=12)

    @pytest.mark.parametrize("dtype", [{"dtype": "float64"}, {"input_dtype": "float64"}])
    def test_the_type_of_the_input(self, dtype, run):
        model = make_pipeline(StandardScaler(), NETWORK).fit(X, THREE)
        found = run(export.to_onnx(model, **dtype), {"X": X.astype(np.float64)})
        assert found["probabilities"].dtype == np.float64

    @pytest.mark.parametrize(
        ("model", "error", "message"),
        [
            (
                CalibratedClassifierCV(NETWORK, cv=2, method="isotonic"), ValueError,
                "takes the nearest value where isotonic calibration interpolates",
            ),
            (
                TransformedTargetRegressor(REGRESSOR, transformer=StandardScaler()), ValueError,
                "skl2onnx cannot convert the model: Unable to find a shape calculator.*Transformed",
            ),
            (
                make_pipeline(StandardScaler(), LINEAR), TypeError,
                "or meta-estimator that contains one, got Pipeline",
            ),
        ],
    )  # fmt: skip
    def test_what_is_refused(self, model, error, message):
        with pytest.raises(error, match=message):
            export.to_onnx(model.fit(X, THREE))

    def test_two_dtypes(self):
        model = make_pipeline(StandardScaler(), NETWORK).fit(X, THREE)
        with pytest.raises(ValueError, match="must be the same for pipelines"):
            export.to_onnx(model, dtype="float64", input_dtype="float32")

    def test_a_subclass_inside(self):
        model = make_pipeline(StandardScaler(), Subclass((2,), max_iter=1)).fit(X, THREE)
        with pytest.raises(TypeError, match="subclasses may predict something else"):
            export.to_onnx(model)

    def test_without_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "skl2onnx", None)
        model = make_pipeline(StandardScaler(), NETWORK).fit(X, THREE)
        with pytest.raises(ImportError, match="needs skl2onnx, which is not installed: pip"):
            export.to_onnx(model)


# ----------------------------------------------------------------------------------------- PyTorch


@pytest.mark.slow  # it takes seconds to import
class TestTorch:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_printed_lines_predict_alike(self, seed, torch, tmp_path):
        case = random_model(seed)
        path = tmp_path / "with 'quotes'.pt"
        state = export.to_torch(case.model, path)
        names = {"X": case.rows}
        lines = export.torch_lines(case.model, path)
        exec("\n".join(lines), names)
        assert len(lines) <= 8
        if is_classifier(case.model):
            assert_close(names["probabilities"].numpy(), case)
            labels = names["labels"]
            labels = labels if isinstance(labels, list) else labels.tolist()
            assert labels == case.model.predict(case.rows).tolist()
        else:
            assert_close(names["predictions"].numpy(), case)
        check = export.check_torch(case.model, path, case.rows)
        assert check.by == f"torch {torch.__version__}" and check.largest < 1e-3
        assert check.n_labels == (0 if is_classifier(case.model) else None)
        assert check.largest == export.check_torch(case.model, state, case.rows).largest

    def test_six_lines(self, torch):
        model = MLPClassifier((50,), max_iter=1, random_state=0).fit(X, THREE)
        assert export.torch_lines(model, "digits.pt") == [
            "import torch",
            "from torch import nn",
            "net = nn.Sequential(nn.Linear(5, 50), nn.ReLU(), nn.Linear(50, 3), nn.Softmax(1))",
            'net.load_state_dict(torch.load("digits.pt", weights_only=True))',
            "probabilities = net(torch.as_tensor(X, dtype=torch.float32)).detach()",
            "labels = probabilities.argmax(dim=1)",
        ]

    def test_names_and_shapes(self, torch, classifier):
        state = export.to_torch(classifier)
        assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
            "0.weight": (6, 5), "0.bias": (6,), "2.weight": (3, 6), "2.bias": (3,),
        }  # fmt: skip
        many = export.to_torch(MLPEnsemble(classifier, 2).fit(X, THREE))
        assert list(many) == [f"{place}.{name}" for place in (0, 1) for name in state]

    def test_scaled_years_are_in_float64(self, torch):
        years = (2000 + X).astype(np.float32)
        model = MLPClassifier((20,), input_scale="standard", max_iter=30, random_state=0)
        model.fit(years, THREE)
        state = export.to_torch(model)
        assert {tensor.dtype for tensor in state.values()} == {torch.float64}
        assert export.check_torch(model, state, years).largest < 1e-6
        narrow = export.to_torch(model, dtype="float32")
        assert {tensor.dtype for tensor in narrow.values()} == {torch.float32}
        assert export.check_torch(model, narrow, years).largest > 1e-6

    def test_a_check_notices_other_weights(self, torch, classifier):
        state = export.to_torch(classifier)
        state["2.bias"][0] += 1
        assert export.check_torch(classifier, state, X).largest > 0.05
        del state["2.bias"]
        with pytest.raises(RuntimeError, match="Missing key"):
            export.check_torch(classifier, state)

    def test_threads_are_as_before(self, torch, classifier):
        before = torch.get_num_threads()
        export.check_torch(classifier, export.to_torch(classifier))
        assert torch.get_num_threads() == before

    def test_targets_scaled_after_an_activation(self, torch):
        model = clone(REGRESSOR).fit(X, X[:, 0])
        model.out_activation_ = "relu"
        with pytest.raises(ValueError, match="no place for target_scale_ after.*'relu'"):
            export.to_torch(model)
        model.target_scale_ = None
        assert export.check_torch(model, export.to_torch(model), X).largest < 1e-5

    def test_a_table(self, torch):
        with pytest.raises(
            ValueError, match="no place for what the pipeline does with the columns"
        ):
            export.to_torch(random_table(0)[0])

    def test_without_torch(self, classifier, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(ImportError, match="needs torch, which is not installed: pip install"):
            export.to_torch(classifier)


# ------------------------------------------------------------------------------------- safetensors


class TestSafetensors:
    @pytest.fixture(autouse=True)
    def installed(self):
        needed("safetensors")

    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_file_predicts_alike(self, seed, tmp_path):
        """By the oracle, which is given nothing but the file."""
        from safetensors import safe_open

        case = random_model(seed)
        path = tmp_path / "model.safetensors"
        returned = export.to_safetensors(case.model, path)
        with safe_open(path, "numpy") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert tensors.keys() == returned.keys()
        n_networks = int(metadata["networks"])
        units = json.loads(metadata["units"])
        outputs = []
        for place in range(n_networks):
            prefix = f"{place}." if n_networks > 1 else ""
            layers = range(0, 2 * len(units) - 2, 2)
            found = oracle.predict(
                [tensors[f"{prefix}{layer}.weight"].T for layer in layers],
                [tensors[f"{prefix}{layer}.bias"] for layer in layers],
                metadata["activation"], metadata["output"], case.rows[:4].astype(float),
            )  # fmt: skip
            if metadata["task"] == "binary":
                found = np.hstack([1 - found, found])
            elif metadata["task"] == "multiclass" and metadata["output"] == "logistic":
                found = found / found.sum(axis=1, keepdims=True)
            outputs.append(found)
        assert_close(np.mean(outputs, axis=0), case, slice(4))
        if is_classifier(case.model):
            assert json.loads(metadata["classes"]) == case.model.classes_.tolist()
        check = export.check_safetensors(case.model, path, case.rows)
        assert check.n_labels == (0 if is_classifier(case.model) else None)
        assert check.largest < 1e-3 and check.n_bytes == path.stat().st_size
        assert check.largest == export.check_safetensors(case.model, returned, case.rows).largest

    def test_pytorch_loads_it(self, torch, classifier, tmp_path):
        from safetensors.torch import load_file

        path = tmp_path / "model.safetensors"
        export.to_safetensors(classifier, path)
        state = export.to_torch(classifier)
        loaded = load_file(path)
        assert all(torch.equal(loaded[name], state[name]) for name in state)

    def test_metadata(self, classifier, tmp_path):
        from safetensors import safe_open

        path = tmp_path / "model.safetensors"
        frame = pd.DataFrame(X, columns=list("abcde"))
        export.to_safetensors(clone(classifier).fit(frame, THREE), path)
        with safe_open(path, "numpy") as file:
            metadata = file.metadata()
        assert metadata.pop("fastmlp")
        assert metadata == {
            "format": "pt", "estimator": "MLPClassifier", "task": "multiclass",
            "activation": "relu", "output": "softmax", "networks": "1", "units": "[5, 6, 3]",
            "classes": "[0, 1, 2]", "feature_names": '["a", "b", "c", "d", "e"]',
        }  # fmt: skip

    def test_a_check_notices_other_weights(self, classifier):
        tensors = export.to_safetensors(classifier)
        tensors["2.bias"][0] += 1
        assert export.check_safetensors(classifier, tensors, X).largest > 0.05

    def test_without_it(self, classifier, monkeypatch):
        monkeypatch.setitem(sys.modules, "safetensors", None)
        monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
        with pytest.raises(ImportError, match="needs safetensors, which is not installed: pip"):
            export.to_safetensors(classifier)


# ------------------------------------------------------------------------- what is the same for all


class Subclass(MLPClassifier):
    pass


FUNCTIONS = ["to_onnx", "to_torch", "to_safetensors"]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("model", "is_fitted", "error", "message"),
    [
        (MLPClassifier(), False, NotFittedError, "not fitted"),
        (MLPEnsemble(), False, NotFittedError, "not fitted"),
        (Subclass((2,), max_iter=1), True, TypeError, "subclasses.*got Subclass: copy"),
        (MLPEnsemble(Subclass((2,), max_iter=1), 2), True, TypeError, "subclasses.*got Subclass"),
        (
            TheirClassifier((2,), max_iter=1), True, TypeError,
            "model must be an MLPClassifier, MLPRegressor or MLPEnsemble of fastmlp",
        ),
    ],
)  # fmt: skip
def test_models_that_are_refused(name, model, is_fitted, error, message):
    needed(name.removeprefix("to_"))
    if is_fitted:
        model.fit(X, THREE)
    with pytest.raises(error, match=message):
        getattr(export, name)(model)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_dtypes_that_are_refused(name, classifier):
    needed(name.removeprefix("to_"))
    with pytest.raises(ValueError, match="dtype must be None.*'float32'.*got 'float16'"):
        getattr(export, name)(classifier, dtype="float16")
    if name == "to_onnx":
        with pytest.raises(ValueError, match="input_dtype must be None or one of 'uint8'"):
            export.to_onnx(classifier, input_dtype="int64")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_failed_write_leaves_the_old_file(name, classifier, tmp_path):
    needed(name.removeprefix("to_"))
    path = tmp_path / "nowhere" / "file"
    with pytest.raises(OSError, match="nowhere"):
        getattr(export, name)(classifier, path)


def test_labels_that_onnx_does_not_have(classifier, onnx):
    model = clone(classifier).fit(X, THREE)
    model.classes_ = np.array([0.5, 1.5, 2.5])
    with pytest.raises(ValueError, match=r"text or integers of 64 bits, got the classes 0.5, 1.5"):
        export.to_onnx(model)


def test_a_network_that_is_too_large(classifier, onnx, monkeypatch):
    monkeypatch.setattr("fastmlp.export.onnx._LARGEST", 100)
    with pytest.raises(ValueError, match="at most 2 GiB"):
        export.to_onnx(classifier)


def test_without_onnx(classifier, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"needs onnx.*pip install 'fastmlp\[export\]'"):
        export.to_onnx(classifier)


def test_a_card(classifier, tmp_path):
    text = export.to_card(classifier, tmp_path / "digits_card.md")
    assert (tmp_path / "digits_card.md").read_text(encoding="utf-8") == text
    assert text.startswith("# digits\n") and "5-6-3" in text
    assert export.to_card(classifier).startswith("# model\n")
    assert export.to_card(classifier, name="my *digits*").startswith("# my \\*digits\\*\n")
    with pytest.raises(NotFittedError):
        export.to_card(MLPClassifier())


def test_public_names():
    assert dir(export) == sorted(export.__all__)
    for name in export.__all__:
        assert getattr(export, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'to_word'"):
        export.to_word  # noqa: B018


def test_importing_it_is_light():
    code = "import fastmlp.export, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"onnx", "torch", "sklearn", "numpy", "skl2onnx"} & set(loaded.stdout.split())


def test_a_row_of_a_table_is_a_dict():
    frame = pd.DataFrame({"a": [1.5, np.nan], "when": pd.to_datetime(["2001-02-03", None])})
    rows = as_rows(frame)
    assert rows == [{"a": 1.5, "when": "2001-02-03"}, {"a": None, "when": None}]


@pytest.mark.slow  # of PyTorch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outputs_that_underflow_before_they_are_divided_by_their_sum(dtype, run, torch, tmp_path):
    """Of a squared error: all are tiny, and their ratios are the probabilities."""
    model = MLPClassifier(hidden_layer_sizes=(), loss="squared_error", max_iter=2, dtype=dtype)
    model.fit(X[:, :3].astype(dtype), np.arange(90) % 3)
    model.coefs_[0][:], model.intercepts_[0][:] = np.eye(3), 0
    rows = np.array([[-20, -19, -21], [-45, -41, -60], [-1000, -1000, -2000]], dtype)
    wanted = model.predict_proba(rows)
    found = run(export.to_onnx(model), {"X": rows})
    np.testing.assert_allclose(found["probabilities"], wanted, rtol=1e-5)
    np.testing.assert_array_equal(found["label"], model.predict(rows))
    export.to_torch(model, tmp_path / "model.pt")
    names = {"X": rows}
    exec("\n".join(export.torch_lines(model, tmp_path / "model.pt")), names)
    np.testing.assert_allclose(names["probabilities"], wanted, rtol=1e-5)


def test_ensembles_of_different_networks():
    members = [MLPRegressor(activation=name, max_iter=2) for name in ("relu", "tanh")]
    model = MLPEnsemble(members[0], 2).fit(X, X[:, 0])
    model.estimators_ = [member.fit(X, X[:, 0]) for member in members]
    with pytest.raises(ValueError, match="got an ensemble of 2 different kinds"):
        export.to_safetensors(model)


def test_a_page_of_a_subclass_is_refused():
    with pytest.raises(TypeError, match="only fastmlp's own estimators can be exported"):
        export.to_html(Subclass(max_iter=2).fit(X, THREE))


def test_a_page_of_a_model_with_named_features():
    """It is compared without scikit-learn's warning about names, which would fail this test."""
    frame = pd.DataFrame(X, columns=list("abcde"))
    model = MLPClassifier((4,), max_iter=2).fit(frame, THREE)
    assert export.check_html(model, export.to_html(model, dtype="float32")).n_labels == 0
