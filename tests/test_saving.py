"""Whole pipelines in files: what comes back is what was saved, and what is hostile is refused."""

import copy
import io
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import warnings
import zipfile

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import sklearn
import skops.io
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import (
    BaggingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor, persistence
from fastmlp.augment import RandomNoise
from fastmlp.exceptions import ModelFileWarning
from fastmlp.persistence import ModelFileError, is_model_file, models
from fastmlp.persistence import pipelines as saving

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

RNG = np.random.RandomState(0)
X = RNG.normal(size=(60, 5))
CLASSES = np.arange(60) % 3
TEXT = np.array(["no", "yes", "maybe"])[CLASSES]
Y = np.stack([CLASSES, CLASSES > 0], axis=1)
TARGET = X[:, 0] + 2
SPARSE = sp.csr_matrix(np.where(X > 0, X, 0))
TABLE = pd.DataFrame(
    {
        "length": X[:, 0].astype(np.float32),
        "weight": np.where(X[:, 1] > 1, np.nan, X[:, 1]),
        "kind": np.array(["b", "a", "c"])[CLASSES],
        "colour": pd.Categorical(np.array(["red", "blue"])[CLASSES % 2]),
        "is new": CLASSES > 1,
    }
)


def classifier(**parameters):
    parameters = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0} | parameters
    return MLPClassifier(**parameters)


def regressor(**parameters):
    return MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0, **parameters)


def columns(sparse_threshold=0.3, sparse_output=True):
    """Return what a table goes through."""
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), RobustScaler())
    words = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=2,
        dtype=np.float32,
        sparse_output=sparse_output,
    )
    return ColumnTransformer(
        [("numbers", numbers, ["length", "weight"]), ("words", words, ["kind", "colour"])],
        remainder="passthrough",
        sparse_threshold=sparse_threshold,
    )


def by_dtype():
    return ColumnTransformer(
        [
            ("numbers", SimpleImputer(), make_column_selector(dtype_include=np.number)),
            ("others", OrdinalEncoder(), make_column_selector(pattern="kind|colour")),
        ]
    )


def search(**options):
    grid = {"mlpclassifier__alpha": [0.1, 1.0]}
    return GridSearchCV(make_pipeline(StandardScaler(), classifier()), grid, cv=2, **options)


MODELS = {
    "classifier": lambda: classifier().fit(X, TEXT),
    "regressor": lambda: regressor(target_scale="standard").fit(X, TARGET),
    "pipeline": lambda: make_pipeline(StandardScaler(), classifier()).fit(X, CLASSES),
    "text labels": lambda: make_pipeline(StandardScaler(), classifier()).fit(X, TEXT),
    "text objects": lambda: make_pipeline(classifier()).fit(X, TEXT.astype(object)),
    "several labels": lambda: make_pipeline(classifier()).fit(X, (X > 0).astype(int)),
    "of no step": lambda: make_pipeline("passthrough", classifier()).fit(X, TEXT),
    "sparse": lambda: make_pipeline(classifier()).fit(SPARSE, TEXT),
    "table": lambda: make_pipeline(columns(), classifier()).fit(TABLE, TEXT),
    "sparse table": lambda: make_pipeline(columns(1.0), classifier()).fit(TABLE, TEXT),
    "selectors": lambda: make_pipeline(by_dtype(), classifier()).fit(TABLE, TEXT),
    "frames": lambda: (
        make_pipeline(columns(sparse_output=False), regressor())
        .set_output(transform="pandas")
        .fit(TABLE, TARGET)
    ),
    "union": lambda: make_pipeline(
        make_union(StandardScaler(), QuantileTransformer(n_quantiles=9)), SelectKBest(k=3),
        FunctionTransformer(np.tanh), classifier(),
    ).fit(X, TEXT),
    "nested": lambda: make_pipeline(
        StandardScaler(), make_pipeline(RobustScaler(), make_pipeline(classifier()))
    ).fit(X, TEXT),
    "functions of the target": lambda: TransformedTargetRegressor(
        regressor(), func=np.log1p, inverse_func=np.expm1
    ).fit(X, TARGET - TARGET.min()),
    "scaled target": lambda: make_pipeline(
        StandardScaler(), TransformedTargetRegressor(regressor(), transformer=StandardScaler())
    ).fit(X, TARGET),
    "votes": lambda: VotingClassifier(
        [("mlp", make_pipeline(StandardScaler(), classifier())), ("linear", LogisticRegression())],
        voting="soft",
    ).fit(X, TEXT),
    "mean": lambda: VotingRegressor([("mlp", regressor()), ("linear", Ridge())]).fit(X, TARGET),
    "stack": lambda: StackingClassifier(
        [("mlp", classifier()), ("linear", LogisticRegression())], classifier(), cv=2
    ).fit(X, TEXT),
    "bag": lambda: BaggingClassifier(classifier(), n_estimators=2, random_state=0).fit(X, TEXT),
    "outputs": lambda: MultiOutputClassifier(classifier()).fit(X, Y),
    "search": lambda: search().fit(X, TEXT),
    "scored search": lambda: search(
        scoring={"f1": make_scorer(f1_score, average="macro"), "accuracy": "accuracy"},
        refit="f1",
    ).set_params(cv=StratifiedKFold(2, shuffle=True, random_state=0)).fit(X, CLASSES),
    "winner": lambda: search().fit(X, TEXT).best_estimator_,
}  # fmt: skip

DATA = {"sparse": SPARSE, **dict.fromkeys(["table", "sparse table", "selectors", "frames"], TABLE)}


def outputs(model, X):
    """All that a model says of data."""
    names = ["predict", "predict_proba", "decision_function"]
    return [getattr(model, name)(X) for name in names if hasattr(model, name)]


def unaddressed(value):
    """Return the text of an object without the addresses of others in it."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def plain(parameters):
    """Return parameters such that equal ones compare equal: objects as text."""
    return {
        name: value if isinstance(value, np.ndarray | float | int) else unaddressed(value)
        for name, value in parameters.items()
    }


def save(model, tmp_path, **options):
    fastmlp.save(model, tmp_path / "model", **options)
    return tmp_path / "model"


@pytest.fixture(scope="module")
def skops_file(tmp_path_factory):
    """The path of a pipeline, which tests must not change, and the pipeline."""
    model = make_pipeline(columns(), classifier()).fit(TABLE, TEXT)
    return save(model, tmp_path_factory.mktemp("skops"), metadata={"columns": [*TABLE]}), model


def with_parts(path, target, *, header=None, schema=None):
    """Copy a file with other documents in it; they are given as functions that change them."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
        for member in source.infolist():
            content = source.read(member)
            change = {"fastmlp.json": header, "schema.json": schema}.get(member.filename)
            if change is not None:
                document = json.loads(content)
                content = json.dumps(change(document) or document).encode()
            copy.writestr(member.filename, content)
    return target


def assert_refused(path, reason, **options):
    with pytest.raises(ModelFileError) as caught:
        fastmlp.load(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path} is not a model that fastmlp can load: ")
    assert message.endswith(".") and "\n" not in message and len(message) < 900
    assert re.search(reason, message), message
    return message


# -------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize("name", MODELS)
def test_round_trip(name, tmp_path):
    data = DATA.get(name, X)
    model = MODELS[name]()
    loaded = fastmlp.load(save(model, tmp_path))
    assert type(loaded) is type(model) and unaddressed(loaded) == unaddressed(model)
    assert vars(loaded).keys() - {"_optimizer"} == vars(model).keys() - {"_optimizer"}
    for expected, got in zip(outputs(model, data), outputs(loaded, data), strict=True):
        assert type(got) is type(expected)
        assert getattr(got, "dtype", None) == getattr(expected, "dtype", None)
        np.testing.assert_equal(got, expected)  # the same bits
    np.testing.assert_equal(plain(loaded.get_params()), plain(model.get_params()))
    np.testing.assert_equal(plain(clone(loaded).get_params()), plain(clone(model).get_params()))
    for attribute in ("classes_", "feature_names_in_", "n_features_in_"):
        expected, got = (getattr(m, attribute, None) for m in (model, loaded))
        np.testing.assert_equal(got, expected)
        assert getattr(got, "dtype", None) == getattr(expected, "dtype", None)
    assert is_model_file(tmp_path / "model")
    assert not hasattr(loaded, "metadata_")


def test_it_can_be_fitted_and_saved_again(skops_file, tmp_path):
    path, model = skops_file
    loaded = fastmlp.load(path)
    refitted = fastmlp.load(save(clone(loaded).fit(TABLE, TEXT), tmp_path))
    np.testing.assert_array_equal(refitted.predict_proba(TABLE), model.predict_proba(TABLE))


def test_the_model_stays_as_it_is(tmp_path):
    model = search().fit(X, TEXT)
    mlp, optimizer = model.best_estimator_[-1], model.best_estimator_[-1]._optimizer
    save(model, tmp_path)
    assert model.best_estimator_[-1] is mlp and mlp._optimizer is optimizer
    assert type(model.estimator[-1]) is MLPClassifier


def test_one_estimator_in_two_places_is_stored_once(tmp_path):
    model = make_pipeline(StandardScaler(), classifier()).fit(X, TEXT)
    n_members = len(zipfile.ZipFile(save(model, tmp_path)).namelist())
    model.twin_ = model[-1]
    path = save(model, tmp_path)
    assert len(zipfile.ZipFile(path).namelist()) == n_members
    loaded = fastmlp.load(path)
    assert loaded.twin_ is loaded[-1]


def test_parameters_of_estimators_that_are_not_fitted(tmp_path):
    parameters = {
        "random_state": np.random.RandomState(3),
        "augment": RandomNoise(0.1),
        "lr_schedule": {1: 0.1, 3: 0.01},
        "class_weight": {"no": 1, "yes": 2.5, "maybe": 1},
        "solver": "sgd",
    }
    model = GridSearchCV(classifier(**parameters), {"alpha": [1]}, cv=2).fit(X, TEXT)
    loaded = fastmlp.load(save(model, tmp_path)).estimator
    with pytest.raises(NotFittedError):
        loaded.predict(X)
    own = loaded.get_params()
    expected = parameters.pop("random_state").rand(5)
    np.testing.assert_array_equal(own["random_state"].rand(5), expected)
    assert {name: own[name] for name in parameters} == parameters


def test_files_that_are_open(skops_file, tmp_path):
    path, model = skops_file
    npz = save(classifier().fit(X, TEXT), tmp_path)
    for name, data in [(path, TABLE), (npz, X)]:
        with open(name, "rb") as file:
            assert fastmlp.load(file).predict(data).shape == (60,)
            assert not file.closed
        assert fastmlp.load(io.BytesIO(name.read_bytes())).predict(data).shape == (60,)
        assert fastmlp.load(str(name)).predict(data).shape == (60,)
    with open(npz, "rb") as file:
        assert type(persistence.load(file)) is MLPClassifier
    with pytest.raises(TypeError, match="a path or an open binary file, got StringIO"):
        fastmlp.load(io.StringIO("text"))
    with pytest.raises(ModelFileError, match="^the file is not a model"):
        fastmlp.load(io.BytesIO(b"text"))


def test_pipes_are_read(skops_file):
    path, _ = skops_file
    read, write = os.pipe()
    code = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=write):
        os.close(write)
        with open(read, "rb") as pipe:
            assert fastmlp.load(pipe).predict(TABLE).shape == (60,)


def test_files_of_persistence_are_the_same(tmp_path):
    """So what was written before there was `fastmlp.save` loads."""
    model = classifier().fit(X, TEXT)
    persistence.save(model, tmp_path / "old.npz")
    loaded = fastmlp.load(tmp_path / "old.npz")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    with np.load(save(model, tmp_path)) as new, np.load(tmp_path / "old.npz") as old:
        assert new.files == old.files
        for name in new.files:
            np.testing.assert_array_equal(new[name], old[name])
    # Such a document as fastmlp wrote when it knew neither versions nor metadata.
    with np.load(tmp_path / "old.npz") as archive:
        arrays = dict(archive)
    document = json.loads(arrays["model"].tobytes())
    del document["versions"]
    text = json.dumps(document).encode()
    np.savez(tmp_path / "old.npz", **{**arrays, "model": np.frombuffer(text, np.uint8)})
    loaded = fastmlp.load(tmp_path / "old.npz")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_persistence_says_who_reads_pipelines(skops_file):
    with pytest.raises(ModelFileError, match="more than one of fastmlp's .* use fastmlp.load"):
        models.load(skops_file[0])


def test_no_pickle_and_no_code_in_the_file(skops_file):
    with zipfile.ZipFile(skops_file[0]) as archive:
        names = archive.namelist()
        assert {"fastmlp.json", "schema.json"} < set(names)
        for name in set(names) - {"fastmlp.json", "schema.json"}:
            np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
        assert not re.search(
            r"persistence\.(?!Stored)|estimators\.MLP", archive.read("schema.json").decode()
        )


@pytest.mark.slow
def test_only_loading_needs_skops(tmp_path):
    """What fastmlp saves by itself loads where skops is not installed."""
    npz = save(classifier().fit(X, TEXT), tmp_path)
    code = """
        import sys
        sys.modules["skops"] = sys.modules["skops.io"] = None
        import fastmlp
        model = fastmlp.load(sys.argv[1])
        fastmlp.save(model, sys.argv[1])
        from sklearn.pipeline import make_pipeline
        try:
            fastmlp.save(make_pipeline(model), sys.argv[1])
        except ImportError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), npz], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "skops, which is not installed: pip install 'fastmlp[tables]'" in run.stdout


# ---------------------------------------------------------------------------------------- metadata


@pytest.mark.parametrize("name", ["classifier", "pipeline", "search"])
def test_metadata(name, tmp_path):
    model = MODELS[name]()
    metadata = {
        "columns": np.array(["a", "ä\ud800"], object),
        "n": np.int64(3),
        "mean": np.array([[1.5, np.inf]], np.float32),
        "nested": {"a": [None, True, ("x", {})]},
        "": 1e300,
    }
    loaded = fastmlp.load(save(model, tmp_path, metadata=metadata))
    expected = {
        "columns": ["a", "ä\ud800"],
        "n": 3,
        "mean": [[1.5, np.inf]],
        "nested": {"a": [None, True, ["x", {}]]},
        "": 1e300,
    }
    assert loaded.metadata_ == expected and type(loaded.metadata_["n"]) is int
    assert not hasattr(model, "metadata_")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    # They are kept when the model is saved again, unless there are others.
    assert fastmlp.load(save(loaded, tmp_path)).metadata_ == expected
    assert fastmlp.load(save(loaded, tmp_path, metadata={"a": 1})).metadata_ == {"a": 1}
    assert not hasattr(clone(loaded), "metadata_")


@pytest.mark.parametrize("name", ["classifier", "pipeline"])
@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([1], "metadata must be a dict, got list"),
        ({1: 2}, "metadata must have text for keys, got 1"),
        ({"a": [{"b": {3}}]}, r"metadata\['a'\]\[0\]\['b'\] must be JSON-serializable .* got set"),
        ({"d": np.array(["2020-01-01"], "M8[D]")}, r"metadata\['d'\]\[0\] must be .* got date"),
        ({"c": 1j}, "got complex: convert it to text"),
    ],
)
def test_metadata_that_json_cannot_hold(name, metadata, reason, tmp_path):
    with pytest.raises(TypeError, match=reason):
        save(MODELS[name](), tmp_path, metadata=metadata)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------- versions


def set_version(name, version):
    def change(document):
        document["versions"][name] = version

    return change


def test_versions_are_written(skops_file):
    with zipfile.ZipFile(skops_file[0]) as archive:
        versions = json.loads(archive.read("fastmlp.json"))["versions"]
    assert versions["scikit-learn"] == sklearn.__version__
    assert versions["numpy"] == np.__version__
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["skops"] == skops.__version__
    assert versions["fastmlp"] == fastmlp.__version__


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("fastmlp", "99.1", "fastmlp 99.1, but"),
        ("scikit-learn", "1.0.2", "scikit-learn 1.0.2, but 1."),
        ("scikit-learn", "2.0", "scikit-learn 2.0, but 1."),
        ("fastmlp", "0.0.1", None),
        ("scikit-learn", ".".join(sklearn.__version__.split(".")[:2]) + ".99", None),
        ("numpy", "1.26.0", None),
        ("python", "3.99", None),
        ("skops", "99", None),
    ],
)
def test_other_versions(name, version, says, skops_file, tmp_path):
    path, model = skops_file
    other = with_parts(path, tmp_path / "other", header=set_version(name, version))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loaded = fastmlp.load(other)
    if says is None:
        assert not said
    else:
        (warning,) = said
        assert warning.category is ModelFileWarning and says in str(warning.message)
        assert warning.filename == __file__
    np.testing.assert_array_equal(loaded.predict(TABLE), model.predict(TABLE))


def test_a_warning_for_all_parts(skops_file, tmp_path):
    """scikit-learn's own, one for each part, are said once and in our words."""

    def change(schema):
        text = json.dumps(schema)
        version = json.dumps(json.dumps(sklearn.__version__))
        assert version in text
        return json.loads(text.replace(version, json.dumps('"1.0.2"')))

    header = set_version("scikit-learn", "1.0.2")
    other = with_parts(skops_file[0], tmp_path / "other", header=header, schema=change)
    with pytest.warns(ModelFileWarning) as said:
        fastmlp.load(other)
    assert len(said) == 1


def test_a_newer_fastmlp_wrote_a_model(tmp_path):
    path = save(classifier().fit(X, TEXT), tmp_path)
    with np.load(path) as archive:
        arrays = dict(archive)
    document = json.loads(arrays["model"].tobytes()) | {"fastmlp": "99.1"}
    text = np.frombuffer(json.dumps(document).encode(), np.uint8)
    np.savez(tmp_path / "new.npz", **{**arrays, "model": text})
    with pytest.warns(ModelFileWarning, match="written by fastmlp 99.1, but this is"):
        fastmlp.load(tmp_path / "new.npz")


def test_a_newer_format_is_refused(skops_file, tmp_path):
    path = with_parts(skops_file[0], tmp_path / "new", header=lambda d: d | {"format": 2})
    assert_refused(path, "in format 2; it was written by fastmlp .*, but this is .*: upgrade")


def test_a_newer_protocol_of_skops_is_refused(skops_file, tmp_path):
    path = with_parts(skops_file[0], tmp_path / "new", schema=lambda d: d | {"protocol": 99})
    assert_refused(path, "protocol 99.*update skops")


# --------------------------------------------------------------------------------- what is trusted


class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return 2 * X


def halved(X):
    return X / 2


def test_own_types_must_be_named(tmp_path):
    steps = Doubled(), FunctionTransformer(halved), classifier()
    model = make_pipeline(*steps).fit(X, TEXT)
    path = tmp_path / "model"
    names = [f"{__name__}.Doubled", f"{__name__}.halved"]
    with pytest.warns(ModelFileWarning, match=re.escape(f"trusted={names}")) as said:
        fastmlp.save(model, path)
    assert said[0].filename == __file__
    message = assert_refused(path, re.escape(", ".join(names)))
    assert message.endswith(f"pass trusted={names}.")
    assert_refused(path, re.escape(f"pass trusted={names}"), trusted=names[:1])
    loaded = fastmlp.load(path, trusted=names)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_trees_must_be_named(tmp_path):
    """Compiled code reads their nodes without a check."""
    forest = RandomForestClassifier(2, random_state=0)
    model = VotingClassifier([("mlp", classifier()), ("forest", forest)]).fit(X, TEXT)
    with pytest.warns(ModelFileWarning, match="parts that fastmlp does not know"):
        path = save(model, tmp_path)
    assert_refused(path, "it contains sklearn.tree._tree.Tree, which fastmlp does not trust")
    loaded = fastmlp.load(path, trusted="sklearn.tree._tree.Tree")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def call(name, *arguments):
    """Return what skops would take for a call."""
    module, _, function = name.rpartition(".")
    content = [
        {
            "__class__": "str",
            "__module__": "builtins",
            "__loader__": "JsonNode",
            "content": json.dumps(a),
            "is_json": True,
            "__id__": 7000 + i,
        }
        for i, a in enumerate(arguments)
    ]
    arguments = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode"}
    return {
        "__class__": function,
        "__module__": module,
        "__loader__": "ConstructorFromReduceNode",
        "content": arguments | {"content": content, "__id__": 6999},
        "__id__": 6998,
    }


def function(name, loader="FunctionNode"):
    module, _, function = name.rpartition(".")
    return {"__class__": function, "__module__": module, "__loader__": loader, "__id__": 6990}


def in_pipeline(node):
    """Put a node in the place of a pipeline's parameter."""

    def change(schema):
        schema["content"]["content"]["verbose"] = node

    return change


HOSTILE = {
    "os.system": lambda target: call("os.system", f"touch {target}"),
    "posix.system": lambda target: call("posix.system", f"touch {target}"),
    "builtins.eval": lambda target: call("builtins.eval", f"open({str(target)!r}, 'w')"),
    "builtins.exec": lambda target: call("builtins.exec", f"open({str(target)!r}, 'w')"),
    "builtins.open": lambda target: call("builtins.open", str(target), "w"),
    "subprocess.Popen": lambda target: call("subprocess.Popen", ["touch", str(target)]),
    "fastmlp.utils.files.atomic_write": lambda target: call(
        "fastmlp.utils.files.atomic_write", str(target)
    ),
    "fastmlp.utils.files._remove": lambda target: call("fastmlp.utils.files._remove", str(target)),
    "fastmlp.persistence.save": lambda target: call("fastmlp.persistence.save", 1, str(target)),
    "fastmlp.estimators.MLPClassifier": lambda target: (
        function("fastmlp.estimators.MLPClassifier", "ObjectNode") | {"content": None}
    ),
    "fastmlp.estimators.base.BaseMLP": lambda target: call("fastmlp.estimators.base.BaseMLP"),
    "numpy.load": lambda target: call("numpy.load", str(target)),
    "pickle.loads": lambda target: function("pickle.loads"),
    "os.remove": lambda target: function("os.remove", "TypeNode"),
    "joblib.load": lambda target: function("joblib.load", "TypeNode"),
    "sklearn.datasets.load_files": lambda target: call("sklearn.datasets.load_files", "/"),
    "operator.methodcaller": lambda _: (
        function("operator.methodcaller", "OperatorFuncNode") | {"attrs": call("a.b")["content"]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, skops_file, tmp_path):
    target = tmp_path / "target"
    node = HOSTILE[name](target)
    path = with_parts(skops_file[0], tmp_path / "hostile", schema=in_pipeline(node))
    message = assert_refused(path, re.escape(f"it contains {name}, which fastmlp does not trust"))
    assert f"trusted={[name]}" in message
    assert not target.exists()


@pytest.mark.slow
def test_refused_modules_are_not_imported(skops_file, tmp_path):
    (tmp_path / "payload.py").write_text("import os\nos._exit(13)\n")
    nodes = [call("payload.f"), function("payload.f", "TypeNode")]
    paths = [
        with_parts(skops_file[0], tmp_path / f"hostile{i}", schema=in_pipeline(node))
        for i, node in enumerate(nodes)
    ]
    code = """
        import sys, fastmlp
        for path in sys.argv[1:]:
            try: fastmlp.load(path)
            except ValueError as error: print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *paths],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    said = run.stdout.splitlines()
    assert len(said) == 2
    assert all("it contains payload.f, which fastmlp does not trust" in line for line in said)


def test_what_is_trusted_by_fastmlp_is_harmless():
    """Classes, and metrics or scores of features; all exist in one of the supported versions."""
    names = saving.trusted_types()
    assert "fastmlp.persistence.StoredModel" in names
    assert {name for name in names if name.startswith("fastmlp.")} == {
        "fastmlp.estimators.MLPEnsemble",
        "fastmlp.estimators.TTAClassifier",
        "fastmlp.persistence.StoredAugmentation",
        "fastmlp.persistence.StoredGenerator",
        "fastmlp.persistence.StoredModel",
        *(
            f"fastmlp.tables.pipeline.{part}"
            for part in ("ColumnsOfDtype", "RobustSmoothScaler", "TableColumns")
        ),
        "fastmlp.tables.pipeline.TableOneHotEncoder",
    }
    for name in names:
        module, _, attribute = name.rpartition(".")
        found = getattr(__import__(module, fromlist=["_"]), attribute)
        assert isinstance(found, type) or re.match(
            r"sklearn\.(metrics\.|feature_selection\._(univariate|mutual))", name
        ), name


@pytest.mark.parametrize(
    "content",
    [
        lambda: call("fastmlp.persistence.StoredModel", "text"),
        lambda: call("fastmlp.persistence.StoredModel"),
        lambda: call("fastmlp.persistence.StoredModel", 1, 2),
        lambda: function("fastmlp.persistence.StoredModel", "ObjectNode") | {"content": None},
    ],
)
def test_estimators_that_are_none(content, skops_file, tmp_path):
    path = with_parts(skops_file[0], tmp_path / "hostile", schema=in_pipeline(content()))
    assert_refused(path, "bytes of a file|argument")


def test_generators(skops_file, tmp_path):
    """NumPy takes any position in their state, and ends the process when they draw."""
    generator = np.random.RandomState(0)
    model = make_pipeline(QuantileTransformer(n_quantiles=9, random_state=generator), classifier())
    loaded = fastmlp.load(save(model.fit(X, TEXT), tmp_path))
    np.testing.assert_array_equal(loaded[0].random_state.rand(700), generator.rand(700))

    def change(schema):
        text = json.dumps(schema)
        assert re.search(r"\], \d+, 0, 0\.0\]", text)
        return json.loads(re.sub(r"\], \d+, 0, 0\.0\]", "], 10000000, 0, 0.0]", text))

    path = with_parts(tmp_path / "model", tmp_path / "hostile", schema=change)
    assert_refused(path, "not the state of a Mersenne Twister")
    skops.io.dump({"a": generator}, tmp_path / "generator")
    with zipfile.ZipFile(tmp_path / "generator") as archive:
        node = json.loads(archive.read("schema.json"))["content"]["a"]
    path = with_parts(skops_file[0], tmp_path / "hostile", schema=in_pipeline(node))
    assert_refused(path, "it has random generators as RandomStateNode, whose state is not checked")
    model.set_params(quantiletransformer__random_state=np.random.RandomState(np.random.PCG64(0)))
    with pytest.raises(ValueError, match="^the model cannot be saved: .*Mersenne|unpack"):
        fastmlp.save(model, tmp_path / "other")


def test_our_estimators_are_checked_within_a_pipeline(tmp_path):
    """As `test_persistence` does for each field: the same reader reads them."""
    path = save(make_pipeline(StandardScaler(), classifier()).fit(X, TEXT), tmp_path)
    stored = saving.StoredModel.of(fastmlp.load(path)[-1])
    with np.load(io.BytesIO(stored.content.tobytes())) as archive:
        arrays = dict(archive)

    def with_model(change):
        changed = dict(arrays)
        document = json.loads(changed["model"].tobytes())
        change(document, changed)
        changed["model"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
        file = io.BytesIO()
        np.savez(file, **changed)
        data = io.BytesIO()
        np.save(data, np.frombuffer(file.getbuffer(), np.uint8))
        target = tmp_path / "changed"
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
            for member in source.infolist():
                content = source.read(member)
                if b"coef_0.npy" in content:
                    content = data.getvalue()
                copy.writestr(member.filename, content)
        return target

    assert fastmlp.load(with_model(lambda document, arrays: None)).predict(X).shape == (60,)
    for change, reason in [
        (lambda d, a: a.update(coef_0=a["coef_0"] * np.nan), "its coef_0 must be finite"),
        (lambda d, a: a.update(coef_0=a["coef_0"][:, :2]), "its coef_0 and intercept must"),
        (lambda d, a: a.pop("classes"), "it lacks 'classes'"),
        (lambda d, a: d.update(n_iter=-1), "its field n_iter must be an integer"),
        (lambda d, a: d["parameters"].update(alpha="x"), "its parameter alpha cannot be used"),
        (lambda d, a: d.update(fitted=False), r"fields \['labels', 'n_iter'|fields"),
        (lambda d, a: d.update(estimator="SVC"), "its estimator is 'SVC'"),
    ]:
        assert_refused(with_model(change), reason)


# ---------------------------------------------------------------------------------- damaged files


def test_every_truncation_is_refused(skops_file, tmp_path):
    data = skops_file[0].read_bytes()
    path = tmp_path / "cut"
    for length in range(0, len(data), len(data) // 40):
        path.write_bytes(data[:length])
        assert_refused(path, "")


def test_damaged_bytes(skops_file, tmp_path):
    """They are refused or make a model that predicts the same."""
    source, model = skops_file
    data = source.read_bytes()
    expected = model.predict_proba(TABLE)
    path = tmp_path / "damaged"
    n_refused = 0
    for position in range(3, len(data), len(data) // 150):
        damaged = bytearray(data)
        damaged[position] ^= 16
        path.write_bytes(damaged)
        try:
            loaded = fastmlp.load(path)
        except ModelFileError as error:
            assert "\n" not in str(error)
            n_refused += 1
        else:  # a date, or the like
            np.testing.assert_array_equal(loaded.predict_proba(TABLE), expected)
    assert n_refused > 100


@pytest.mark.parametrize(
    ("header", "schema", "reason"),
    [
        (lambda d: [1], None, "its document must be an object, got \\[1\\]"),
        (lambda d: {"a": 1}, None, "it lacks 'format'"),
        (lambda d: d | {"format": "1"}, None, "its field format must be an integer"),
        (lambda d: d | {"versions": 3}, None, "its field versions must be an object"),
        (lambda d: d | {"versions": {}}, None, "it lacks 'versions.fastmlp'"),
        (lambda d: d | {"metadata": [1]}, None, "its field metadata must be an object"),
        (lambda d: d | {"extra": 1}, None, r"fields \['extra'\] that are unknown"),
        (set_version("numpy", 3), None, "its field versions.numpy must be text"),
        (set_version("fastmlp", "1\n2"), None, "its field versions.fastmlp must be text"),
        (None, lambda d: [1], "attribute|indices"),
        (None, lambda d: {"protocol": 2}, "__loader__|__id__"),
        (None, lambda d: d | {"protocol": "x"}, "protocol"),
        (None, lambda d: d | {"__loader__": "EvalNode"}, "EvalNode"),
        (None, lambda d: d["content"]["content"]["steps"].update(__id__=d["__id__"]), ""),
        (
            None,
            lambda d: d | json.loads(json.dumps(d["content"])),
            "it contains an object of type dict",
        ),
    ],
)
def test_wrong_documents(header, schema, reason, skops_file, tmp_path):
    path = with_parts(skops_file[0], tmp_path / "wrong", header=header, schema=schema)
    assert_refused(path, reason)


def test_archives_that_lie(skops_file, tmp_path):
    path, lying = skops_file[0], tmp_path / "lying"
    huge = io.BytesIO()
    np.save(huge, np.zeros(8))
    huge = huge.getvalue().replace(b"(8,), }              ", b"(800000000000,), }   ")
    for name, content, reason in [
        ("1.npy", huge, "1.npy does not have the length"),
        ("schema.json", b"[" * 100_000, "recursion"),
        ("schema.json", b"\xff", ""),
        ("fastmlp.json", b"{", "Expecting property name"),
    ]:
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(lying, "w") as copy:
            for member in source.namelist():
                copy.writestr(member, content if member == name else source.read(member))
            if name not in source.namelist():
                copy.writestr(name, content)
        assert_refused(lying, reason)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(lying, "w", zipfile.ZIP_DEFLATED) as copy:
        for member in source.namelist():
            copy.writestr(member, source.read(member))
    assert_refused(lying, "compressed")


def test_sparse_arrays_that_lie(tmp_path):
    path = save(make_pipeline(StandardScaler(), classifier()).fit(X, TEXT), tmp_path)
    file, lying = io.BytesIO(), io.BytesIO()
    sp.save_npz(file, SPARSE)
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(lying, "w") as copy:
        for member in source.namelist():
            content = source.read(member)
            if member == "data.npy":
                content = re.sub(rb"\((\d+),\), \}          ", rb"(\g<1>00000000,), }  ", content)
                assert content != source.read(member)
            copy.writestr(member, content)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("1.npz", lying.getvalue())
    assert_refused(path, "data.npy does not have the length")


def test_files_of_skops_itself(tmp_path):
    skops.io.dump(StandardScaler().fit(X), tmp_path / "model")
    assert_refused(tmp_path / "model", "it was not written by fastmlp.save; skops.io.load reads")
    assert not is_model_file(tmp_path / "model")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastmlp.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        fastmlp.load(tmp_path)


# ----------------------------------------------------------------------------- what is not written


class Own(MLPClassifier):
    pass


def test_what_cannot_be_saved(tmp_path):
    path = tmp_path / "model"
    for model in (classifier(), make_pipeline(StandardScaler(), classifier()), search()):
        with pytest.raises(NotFittedError):
            fastmlp.save(model, path)
    for model in ({"a": 1}, MLPClassifier, None, StandardScaler):
        with pytest.raises(TypeError, match="model must be an estimator of fastmlp, or"):
            fastmlp.save(model, path)
    scaled = FunctionTransformer(lambda X: X)
    broken = make_pipeline(classifier()).fit(X, TEXT)
    broken[-1].coefs_[0][0] = np.nan
    for model, reason in [
        (
            make_pipeline(scaled, classifier()).fit(X, TEXT),
            "functions must be importable from a module",
        ),
        (make_pipeline(Own(max_iter=1)).fit(X, TEXT), "it has a Own in it, a subclass"),
        (broken, "its coef_0 must be finite"),
    ]:
        with pytest.raises(ValueError, match=f"^the model cannot be saved: .*{reason}") as caught:
            fastmlp.save(model, path)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_parts_that_are_left_out_are_said(tmp_path):
    mlp = classifier(solver="sgd", lr_schedule=lambda epoch: 0.1)
    model = make_pipeline(StandardScaler(), mlp).fit(X, TEXT)
    with pytest.warns(ModelFileWarning, match="^lr_schedule cannot be saved") as said:
        path = save(model, tmp_path)
    assert len(said) == 1
    np.testing.assert_array_equal(fastmlp.load(path).predict(X), model.predict(X))


def test_a_failure_leaves_the_old_file(skops_file, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fastmlp.save(skops_file[1], path)
    assert path.read_bytes() == b"old" and [*tmp_path.iterdir()] == [path]


def test_ctrl_c_finishes_the_file(skops_file, tmp_path, monkeypatch):
    import signal

    replace = os.replace

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        replace(*arguments)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fastmlp.save(skops_file[1], tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert fastmlp.load(tmp_path / "model").predict(TABLE).shape == (60,)


SIGNS = (X[:, 0] > 0).astype(int)


class TestWithSkopsAlone:
    """A model in a file of skops, or a pickle: one type of ours to trust, and nothing is lost."""

    @pytest.mark.parametrize("solver", ["sgd", "adam", "adamw", "lbfgs"])
    def test_only_the_estimator_is_to_be_trusted(self, solver):
        model = MLPClassifier((4,), solver=solver, max_iter=3, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, SIGNS)
        content = skops.io.dumps(model)
        needed = skops.io.get_untrusted_types(data=content)
        assert needed == ["fastmlp.estimators.MLPClassifier"]
        assert_continues_alike(model, skops.io.loads(content, trusted=needed))

    def test_pickles(self):
        model = MLPClassifier((4,), max_iter=3, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, SIGNS)
        assert_continues_alike(model, pickle.loads(pickle.dumps(model)))
        old = object.__new__(MLPClassifier)  # a pickle from before state was plain
        old.__setstate__(vars(model) | {"_optimizer": copy.deepcopy(model._optimizer)})
        assert_continues_alike(model, old)


def test_a_copy_is_trained_on_independently():
    """Of its optimizer nothing is shared: the original goes on as if there were no copy."""
    model = MLPClassifier((4,), random_state=0)
    model.partial_fit(X, SIGNS, classes=[0, 1])
    wanted = copy.deepcopy(model).partial_fit(X, SIGNS)
    copy.copy(model).partial_fit(X, SIGNS)
    model.partial_fit(X, SIGNS)
    for ours, theirs in zip(model.coefs_, wanted.coefs_, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def assert_continues_alike(model, other):
    assert type(other._state) is type(model._state)
    assert other.loss_curve_ == model.loss_curve_ if hasattr(model, "loss_curve_") else True
    if model.solver == "lbfgs":
        np.testing.assert_array_equal(model.predict_proba(X), other.predict_proba(X))
        return
    for each in (model, other):
        each.random_state = 1
        each.partial_fit(X, SIGNS)
    for ours, theirs in zip(model.coefs_, other.coefs_, strict=True):
        np.testing.assert_array_equal(ours, theirs)
