"""Models as plain arrays predict what the models predict; tables are encoded as by the pipeline."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmlp import MLPClassifier, MLPEnsemble, MLPRegressor
from fastmlp.portable import PlainTable, about, plain

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
]

RANDOM = np.random.RandomState(0)
X = RANDOM.normal(size=(70, 5)) * [1, 2, 3, 0.1, 10] + 3
THREE = np.array(["a", "b", "c"])[np.arange(70) % 3]
TWO = np.arange(70) % 2 == 0
LABELS = RANDOM.randint(0, 2, (70, 4))


def classifier(**parameters):
    return MLPClassifier((6, 3), max_iter=3, random_state=0, **parameters)


def regressor(**parameters):
    return MLPRegressor(hidden_layer_sizes=(6,), max_iter=3, random_state=0, **parameters)


MODELS = {
    "softmax": (classifier(activation="tanh"), THREE),
    "squared error": (classifier(loss="squared_error"), THREE),
    "binary": (classifier(activation="gelu"), TWO),
    "multilabel": (classifier(activation="silu", input_scale="standard"), LABELS),
    "one label": (classifier(), LABELS[:, :1].ravel()),
    "scaled": (classifier(input_scale=0.1, activation="leaky_relu"), THREE),
    "regression": (regressor(target_scale="standard", input_scale="standard"), X[:, 0] * 100),
    "two targets": (regressor(activation="logistic"), X[:, :2]),
    "poisson": (regressor(loss="poisson", target_scale=0.5), X[:, 0].round() ** 2),
    "ensemble": (MLPEnsemble(classifier(), 3), THREE),
    "mean of regressors": (MLPEnsemble(regressor(target_scale="standard"), 3), X[:, 0] * 5),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_it_predicts_alike(name, dtype):
    model, y = MODELS[name]
    x = X.astype(dtype)
    model.fit(x, y)
    found = plain(model)
    assert found.dtype == dtype
    numbers = found.probabilities(x)
    wanted = model.predict_proba(x) if found.is_classifier else model.predict(x)
    tolerance = (2e-6 if dtype == "float32" else 1e-12) * max(1, np.abs(wanted).max())
    np.testing.assert_allclose(numbers, wanted.reshape(numbers.shape), rtol=0, atol=tolerance)
    if found.is_classifier:
        np.testing.assert_array_equal(found.labels(numbers), model.predict(x))


def test_scalings_can_be_folded():
    model, y = MODELS["regression"]
    found = plain(model.fit(X, y))
    folded = found.mapped(lambda network: network.folded())
    assert folded.networks[0].input_scale is folded.networks[0].target_scale is None
    np.testing.assert_allclose(
        folded.probabilities(X).ravel(), model.predict(X), rtol=1e-12, atol=1e-12
    )


def test_targets_of_exponentials_stay_outside():
    model, y = MODELS["poisson"]
    folded = plain(model.fit(X, y)).mapped(lambda network: network.folded())
    assert folded.networks[0].target_scale is not None
    np.testing.assert_allclose(folded.probabilities(X).ravel(), model.predict(X), rtol=1e-10)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (MLPClassifier(), NotFittedError, "not fitted"),
        (StandardScaler(), TypeError, "model must be an MLPClassifier.*got StandardScaler"),
        (
            make_pipeline(StandardScaler(), MLPClassifier()),
            TypeError,
            "got the steps StandardScaler, MLPClassifier",
        ),
    ],
)
def test_what_is_refused(model, error, message):
    with pytest.raises(error, match=message):
        plain(model)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match=r"two classes or more, got only \[1\]"):
        plain(classifier().fit(X, np.ones(70, int)))


def test_weights_that_are_not_finite():
    model = classifier().fit(X, THREE)
    model.coefs_[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        plain(model)


# ------------------------------------------------------------------------------------------ tables


def table(n_rows=200, seed=0):
    random = np.random.RandomState(seed)
    frame = pd.DataFrame(
        {
            "size": random.normal(5, 2, n_rows),
            "kind": random.choice(["x", "y", "z", "rare"], n_rows, p=[0.5, 0.3, 0.195, 0.005]),
            "sold": random.uniform(size=n_rows) < 0.3,
            "day": pd.Timestamp("2020-01-01")
            + pd.to_timedelta(random.randint(0, 999, n_rows), "D"),
            "word": random.choice(["Yes", "No"], n_rows),
            "constant": 1,
        }
    )
    frame.loc[::7, "size"] = np.nan
    frame.loc[::5, "kind"] = None
    frame.loc[[1, 2], "kind"] = "rare"
    frame.loc[::11, "word"] = None
    return frame


@pytest.fixture(scope="module", params=["classification", "regression", "numbers", "categories"])
def pipeline(request):
    from fastmlp.tables import make_table_pipeline

    task = "regression" if request.param == "regression" else "classification"
    frame = table()
    if request.param == "numbers":
        frame = frame[["size", "day"]]
    elif request.param == "categories":
        frame = frame[["kind"]]
    y = frame.index % 3 if task == "classification" else np.arange(200) / 7
    return make_table_pipeline(task, n_rows=200, random_state=0, max_iter=2).fit(frame, y)


def test_rows_are_encoded_as_by_the_pipeline(pipeline):
    frame = table(seed=1)
    frame.loc[3, "kind"] = "unknown"
    frame.loc[4, "size"] = 1e30
    frame = frame[[str(name) for name in pipeline.feature_names_in_]]
    converted = pipeline["columns"].transform(frame)
    rows = [
        {name: None if pd.isna(value) else value for name, value in row.items()}
        for row in converted.to_dict("records")
    ]
    found = plain(pipeline)
    inputs = found.table.inputs(rows)
    wanted = pipeline["encode"].transform(converted)
    wanted = wanted.toarray() if hasattr(wanted, "toarray") else wanted
    np.testing.assert_array_equal(inputs, wanted)
    numbers = found.probabilities(inputs)
    own = pipeline.predict_proba(frame) if found.is_classifier else pipeline.predict(frame)
    np.testing.assert_allclose(numbers, own.reshape(numbers.shape), rtol=1e-5, atol=1e-6)


def test_other_pipelines_are_no_tables():
    assert PlainTable.of(make_pipeline(StandardScaler(), MLPClassifier())) is None


# ------------------------------------------------------------------------------------------- about


def test_about_tables(pipeline):
    found = about(pipeline, "houses")
    assert found["kind"] == "table"
    columns = {column["name"]: column for column in found["columns"]}
    assert "constant" not in columns
    if "kind" in columns:
        assert set(columns["kind"]["values"]) == {"x", "y", "z", "rare"}
    if "word" in columns:
        assert columns["word"]["values"] == ["No", "Yes"]
        assert columns["sold"] == {
            "name": "sold", "kind": "boolean", "typical": False, "values": [False, True],
        }  # fmt: skip
    if "day" in columns:
        day = columns["day"]
        assert "2019" <= day["low"] < day["typical"] < day["high"] < "2025"
    json.dumps(found)


def test_ranges_of_the_training_data_are_used(pipeline):
    if "kind" not in pipeline.feature_names_in_:
        pytest.skip("it has no such column")
    pipeline.metadata_ = {"target": "price", "ranges": {"kind": ["z", "x"], "size": [1, 2, 3]}}
    found = about(pipeline, "houses")
    del pipeline.metadata_
    columns = {column["name"]: column for column in found["columns"]}
    assert (columns["kind"]["values"], columns["kind"]["typical"]) == (["z", "x"], "z")
    if "size" in columns:
        assert [columns["size"][name] for name in ("low", "typical", "high")] == [1, 2, 3]
    assert found["target"] == "price"


def test_about_images_and_rows():
    digits = classifier(input_scale=1 / 16).fit(np.zeros((30, 64)), np.arange(30) % 3)
    assert about(digits, "d")["white"] == 16
    assert about(digits, "d")["shape"] == [8, 8]
    digits.metadata_ = {"kind": "rows"}
    assert about(digits, "d")["kind"] == "rows"
    digits.metadata_ = {"kind": "images", "shape": [4, 16], "background": 255.0}
    found = about(digits, "d")
    assert (found["kind"], found["shape"], found["background"]) == ("images", [4, 16], 255.0)
    unscaled = classifier().fit(np.zeros((30, 64)), np.arange(30) % 3)
    assert about(unscaled, "r")["kind"] == "rows"
    rows = about(classifier().fit(pd.DataFrame(X, columns=list("abcde")), LABELS), "r")
    assert [column["name"] for column in rows["columns"]] == list("abcde")
    assert rows["task"] == "multilabel"
    assert about(regressor().fit(X, X[:, 0]), "r")["classes"] is None
