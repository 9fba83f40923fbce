"""The page is read as a browser would read it, and compared with what scikit-learn computes."""

import base64
import re
import struct
import zlib
from functools import cached_property
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from sklearn.calibration import calibration_curve
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, make_classification
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    mean_absolute_error,
    r2_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastmlp import MLPClassifier, MLPRegressor, datasets
from fastmlp.report import analysis, write_report
from fastmlp.report.figures import Plot, data_uri, thinned
from fastmlp.report.markup import Markup, element

pytestmark = pytest.mark.filterwarnings(
    "ignore:(Stochastic Optimizer|Maximum iterations|lbfgs failed)"
)

PARAMETERS = {"hidden_layer_sizes": (8,), "max_iter": 8, "random_state": 0}
VOID = {"meta", "img", "input"}


class Node:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children = []

    @cached_property
    def below(self):
        """The elements below, of any depth."""
        found = []
        for child in self.children:
            if isinstance(child, Node):
                found += [child, *child.below]
        return found

    def all(self, tag=None, **attributes):
        """Return the elements below of a tag and with these attributes; True is any value."""
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            node for node in self.below
            if tag in (None, node.tag)
            and all(
                name in node.attributes and value in (True, node.attributes[name])
                for name, value in wanted.items()
            )
        ]  # fmt: skip

    def one(self, tag=None, **attributes):
        (found,) = self.all(tag, **attributes)
        return found

    @property
    def text(self):
        return "".join(c if isinstance(c, str) else c.text for c in self.children)


class Tree(HTMLParser):
    """Builds the tree, and fails on tags that are not closed in order."""

    def __init__(self, page):
        super().__init__()
        self.root = self.here = Node("root", {}, None)
        self.feed(page)
        self.close()
        assert self.here is self.root

    def handle_starttag(self, tag, attributes):
        node = Node(tag, dict(attributes), self.here)
        assert len(node.attributes) == len(attributes)
        self.here.children.append(node)
        if tag not in VOID:
            self.here = node

    def handle_endtag(self, tag):
        assert tag == self.here.tag
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.children.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Write a report and return its tree; what holds of every page is asserted."""
    folder = tmp_path_factory.mktemp("written")

    def write(*arguments, **options):
        path = write_report(folder / "report.html", *arguments, **options)
        assert path == folder / "report.html"
        assert [entry.name for entry in folder.iterdir()] == ["report.html"]
        page = path.read_text("utf-8")
        assert len(page) < 3e6
        root = Tree(page).root
        check(root)
        return root

    return write


def check(root):
    """Assert what must hold of every page."""
    ids = [node.attributes["id"] for node in root.all(id=True)]
    targets = {"#", *(f"#{name}" for name in ids)}
    assert len(ids) == len(targets) - 1
    for node in root.all():
        for name, address in node.attributes.items():
            if name in ("src", "href", "data", "action", "poster", "srcset", "background"):
                assert address in targets or address.startswith("data:image/png;base64,"), address
            assert not name.startswith("on")
        assert node.tag not in ("link", "iframe", "object", "embed", "base")
    assert len(root.all("script")) == len(root.all("style")) == 1
    for part in ("css", "js"):
        text = files("fastmlp.report").joinpath(f"page.{part}").read_text("utf-8")
        assert not re.search(r"url\(|@import|https?:|fetch|import\(|</", text)
        assert text in root.one("script" if part == "js" else "style").text
    [policy] = root.all("meta", http_equiv="Content-Security-Policy")
    assert "default-src 'none'" in policy.attributes["content"]
    sections = [node.attributes["id"] for node in root.all("section")]
    assert [a.attributes["href"][1:] for a in root.one("nav").all("a")] == sections
    assert "nan" not in [word.lower() for word in re.findall(r"\w+", root.one("main").text)]
    for path in root.all("path"):
        assert re.fullmatch(r"([ML]?-?[\d.]+ -?[\d.]+(h0)?\s*)*", path.attributes["d"])


def section(root, name):
    return root.one("section", id=name)


def scores(root, part=None):
    """Return the scores as {name: (model, baseline)}."""
    rows = (part or section(root, "scores")).all("tr")[1:]
    return {
        row.one("th").children[0]: tuple(float(d.attributes["value"]) for d in row.all("data"))
        for row in rows
    }


def cards(root):
    return root.all("article", class_="mistake")


def numbers(nodes, name):
    return [int(node.attributes[f"data-{name}"]) for node in nodes]


@pytest.fixture(scope="module")
def cancer():
    """A frame with text labels: X, X_test, y, y_test."""
    data = load_breast_cancer(as_frame=True)
    y = data.target_names[data.target]
    return train_test_split(data.data, y, test_size=0.4, random_state=0)


@pytest.fixture(scope="module", params=[MLPClassifier, TheirClassifier])
def cancer_model(request, cancer):
    return make_pipeline(StandardScaler(), request.param(**PARAMETERS)).fit(cancer[0], cancer[2])


@pytest.fixture(scope="module")
def digits():
    (X, y), (X_test, y_test) = datasets.load_digits()
    model = MLPClassifier(**PARAMETERS, input_scale=1 / 16, learning_rate_init=0.01)
    return model.fit(X, y), X_test, y_test, X, y


@pytest.fixture(scope="module")
def cancer_page(written, cancer, cancer_model):
    X, X_test, y, y_test = cancer
    return written(cancer_model, X_test, y_test, X_train=X, y_train=y)


@pytest.fixture(scope="module")
def digits_page(written, digits):
    """Without the training samples, so without pictures."""
    model, X_test, y_test, *_ = digits
    return written(model, X_test, y_test)


@pytest.fixture(scope="module")
def digits_in_pictures(written, digits):
    model, X_test, y_test, X, y = digits
    return written(model, X_test, y_test, X_train=X, y_train=y, image_shape=(8, 8))


# ------------------------------------------------------------------------------------------ scores


@pytest.mark.slow
def test_two_classes(cancer_page, cancer, cancer_model):
    X, X_test, y, y_test = cancer
    root = cancer_page
    names = ["scores", "data", "training", "confusion", "curves", "importance", "mistakes"]
    assert [s.attributes["id"] for s in root.all("section")] == [*names, "parameters", "versions"]
    dummy = DummyClassifier().fit(X, y)
    expected = {"Accuracy": [], "Balanced accuracy": [], "Log loss": [], "ROC AUC": []}
    for model in (cancer_model, dummy):
        predicted, probabilities = model.predict(X_test), model.predict_proba(X_test)
        expected["Accuracy"].append(accuracy_score(y_test, predicted))
        expected["Balanced accuracy"].append(balanced_accuracy_score(y_test, predicted))
        expected["Log loss"].append(log_loss(y_test, probabilities))
        expected["ROC AUC"].append(roc_auc_score(y_test, probabilities[:, 1]))
    found = scores(root)
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name] == pytest.approx(expected[name], rel=1e-12)
    assert "of the training rows" in section(root, "scores").text
    matrix = root.one("table", class_="matrix")
    counts = [[cell.text for cell in row.all("span", class_="count")] for row in matrix.all("tr")]
    assert counts[1:] == confusion_matrix(y_test, cancer_model.predict(X_test)).astype(str).tolist()


@pytest.mark.slow
def test_several_classes(digits_page, digits):
    model, X_test, y_test, X, y = digits
    root = digits_page
    probabilities = model.predict_proba(X_test)
    found = scores(root)
    assert found["Accuracy"][0] == model.score(X_test, y_test)
    exact = probabilities.astype(np.float64)
    expected = log_loss(y_test, exact / exact.sum(axis=1, keepdims=True))
    assert found["Log loss"][0] == pytest.approx(expected, rel=1e-12)
    area = roc_auc_score(y_test, probabilities, multi_class="ovr")
    assert found["ROC AUC"][0] == pytest.approx(area, rel=1e-12)
    prior = DummyClassifier().fit(X_test, y_test)
    assert found["Accuracy"][1] == prior.score(X_test, y_test)
    assert "of the held-out rows themselves" in section(root, "scores").text
    recalls = recall_score(y_test, model.predict(X_test), average=None)
    rows = section(root, "confusion").all("table", class_="numbers")[0].all("tr")[1:]
    shown = [float(row.all("data")[0].attributes["value"]) for row in rows]
    assert shown == pytest.approx(recalls.tolist(), rel=1e-12)


@pytest.mark.slow
def test_rates_are_shares_of_the_true_class(digits_page, digits):
    model, X_test, y_test, *_ = digits
    matrix = digits_page.one("table", class_="matrix")
    expected = confusion_matrix(y_test, model.predict(X_test), normalize="true")
    for row, shares in zip(matrix.all("tr")[1:], expected, strict=True):
        for cell, share in zip(row.all("td"), shares, strict=True):
            text = "" if share == 0 else "<1" if share < 0.005 else f"{100 * share:.0f}"
            assert "".join(span.text for span in cell.all("span", class_="rate")) == text


@pytest.mark.slow
def test_classes_missing_from_y(written, digits):
    model, X_test, y_test, *_ = digits
    rows = np.isin(y_test, [1, 4, 7])
    root = written(model, X_test[rows], y_test[rows])
    found = scores(root)
    assert found["Accuracy"][0] == model.score(X_test[rows], y_test[rows])
    assert "No held-out row is of class 0, 2, 3, 5, 6, 8, 9" in section(root, "scores").text
    probabilities = model.predict_proba(X_test[rows])
    areas = [roc_auc_score(y_test[rows] == k, probabilities[:, k]) for k in (1, 4, 7)]
    assert found["ROC AUC"][0] == pytest.approx(np.mean(areas))
    predicted = model.predict(X_test[rows])
    recalls = recall_score(y_test[rows], predicted, labels=[1, 4, 7], average=None)
    assert found["Balanced accuracy"][0] == pytest.approx(recalls.mean())


@pytest.mark.slow
def test_labels_that_the_model_does_not_know(written, digits):
    model, X_test, y_test, X, y = digits
    X_test, y_test = X_test[:90], y_test[:90]
    renamed = np.where(y_test == 3, 33, y_test)
    root = written(model, X_test, renamed, X_train=X, y_train=y)
    assert scores(root)["Accuracy"][0] == model.score(X_test, renamed)
    known = y_test != 3
    expected = log_loss(y_test[known], model.predict_proba(X_test[known]), labels=model.classes_)
    assert scores(root)["Log loss"][0] == pytest.approx(expected)
    text = section(root, "scores").text
    assert f"{(~known).sum()} rows of a class that the model does not know (33)" in text
    assert not any("suspected" in c.text for c in cards(root) if c.attributes["data-true"] == "10")


@pytest.mark.slow
@pytest.mark.parametrize("labels", [str, float, object, bool])
def test_types_of_labels(written, labels):
    X, y = make_classification(80, 5, random_state=0)
    y = (y + 1).astype(labels) if labels is not bool else y > 0
    model = MLPClassifier(**PARAMETERS).fit(X, y.astype(str) if labels is object else y)
    y = y.astype(str).astype(object) if labels is object else y
    root = written(model, X, y, X_train=X, y_train=y)
    assert scores(root)["Accuracy"][0] == np.mean(model.predict(X) == y)


@pytest.mark.slow
def test_a_hundred_classes(written):
    random = np.random.RandomState(0)
    y = np.repeat(np.arange(100), 8)
    X = random.randn(100, 8)[y] + random.randn(800, 8)
    model = MLPClassifier(**PARAMETERS).fit(X, y)
    root = written(model, X, y, X_train=X, y_train=y)
    assert len(root.one("section", id="confusion").all("img", class_="heat")) == 1
    assert len(cards(root)) == 300
    links = root.one("ul", class_="pairs").all("a")
    assert len(links) == 24  # there are mistakes of the most frequent pairs on the page
    pairs = {(c.attributes["data-true"], c.attributes["data-predicted"]) for c in cards(root)}
    assert {(a.attributes["data-true"], a.attributes["data-predicted"]) for a in links} <= pairs


def test_calibration_is_scikit_learns():
    random = np.random.RandomState(0)
    probability = random.rand(500) ** 2
    happened = random.rand(500) < probability
    predicted, observed, counts = analysis.calibration(probability, happened)
    theirs = calibration_curve(happened, probability, n_bins=10)
    assert counts.sum() == 500
    np.testing.assert_allclose(observed[counts > 0], theirs[0], rtol=1e-12)
    np.testing.assert_allclose(predicted[counts > 0], theirs[1], rtol=1e-12)


# ---------------------------------------------------------------------------------------- training


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [MLPClassifier, TheirClassifier])
def test_kept_epoch_is_marked(written, digits, estimator):
    _, X_test, y_test, X, y = digits
    model = estimator((8,), max_iter=6, random_state=0, early_stopping=True).fit(X, y)
    training = section(written(model, X_test[:50], y_test[:50]), "training")
    kept = int(np.argmax(model.validation_scores_)) + 1
    assert f"kept the weights of epoch {kept}." in training.text
    marks = training.all("text", class_="mark")
    assert [mark.text for mark in marks] == [f"kept: epoch {kept}"] * 2
    curve = training.all("path", class_="line s0")[0].attributes["d"]
    assert len(re.findall("[ML]", curve)) == len(model.loss_curve_)


@pytest.mark.slow
def test_without_losses(written, cancer):
    X, X_test, y, y_test = cancer
    model = TheirClassifier((4,), solver="lbfgs", max_iter=3).fit(X.to_numpy(), y)
    root = written(model, X_test.to_numpy(), y_test)
    assert "has no loss curve" in section(root, "training").text


# -------------------------------------------------------------------------------------- regression


@pytest.fixture(scope="module")
def diabetes():
    data = load_diabetes(as_frame=True)
    X, X_test, y, y_test = train_test_split(data.data, data.target, random_state=0)
    model = make_pipeline(StandardScaler(), MLPRegressor(target_scale="standard", **PARAMETERS))
    return model.fit(X, y), X_test, y_test, X, y


@pytest.mark.slow
def test_regression(written, diabetes):
    model, X_test, y_test, X, y = diabetes
    root = written(model, X_test, y_test, X_train=X, y_train=y)
    found = scores(root)
    for k, estimator in enumerate([model, DummyRegressor().fit(X, y)]):
        predicted = estimator.predict(X_test)
        assert found["R²"][k] == pytest.approx(r2_score(y_test, predicted))
        assert found["MAE"][k] == pytest.approx(mean_absolute_error(y_test, predicted))
        assert found["RMSE"][k] == pytest.approx(root_mean_squared_error(y_test, predicted))
    points = section(root, "predictions").all("path", class_="points s0")
    assert [p.attributes["d"].count("h0") for p in points] == [len(y_test)] * 2
    errors = model.predict(X_test) - y_test
    order = np.argsort(-np.abs(errors.to_numpy()), kind="stable")
    assert numbers(cards(root), "row") == order.tolist()
    directions = [card.attributes["data-direction"] for card in cards(root)]
    assert directions == ["high" if error > 0 else "low" for error in errors.iloc[order]]
    assert cards(root)[0].one("h4").text == f"row {X_test.index[order[0]]}"


@pytest.mark.slow
def test_several_outputs(written, diabetes):
    _, X_test, y_test, X, y = diabetes
    Y, Y_test = (pd.DataFrame({"a": part, "<b>": -3 * part}) for part in (y, y_test))
    model = MLPRegressor(target_scale="standard", **PARAMETERS).fit(X, Y)
    root = written(model, X_test, Y_test, X_train=X, y_train=Y)
    predicted = model.predict(X_test)
    tables = section(root, "scores").all("table")
    assert [h.text for h in section(root, "scores").all("h3")] == ["a", "<b>"]
    for k, part in enumerate(tables):
        expected = mean_absolute_error(Y_test.iloc[:, k], predicted[:, k])
        assert scores(root, part)["MAE"][0] == pytest.approx(expected)
    assert len(section(root, "predictions").all("svg")) == 6


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-30, 0.0, 1e30])
def test_targets_of_any_size(written, diabetes, scale):
    model, X_test, y_test, *_ = diabetes
    written(model, X_test[:30], y_test[:30] * scale + (scale == 0))


# ---------------------------------------------------------------------------------------- features


@pytest.mark.slow
def test_importance_is_scikit_learns(cancer_page, cancer, cancer_model):
    X, X_test, y, y_test = cancer
    rows = section(cancer_page, "importance").one("table").all("tr")[1:]
    shown = {row.one("th").text: row.all("td")[1].text.split()[0] for row in rows}
    random = np.random.RandomState(0)
    order = np.sort(random.choice(len(X_test), len(X_test), replace=False))
    theirs = permutation_importance(
        cancer_model, X_test.iloc[order], y_test[order], random_state=random
    )
    best = np.argsort(-theirs.importances_mean, kind="stable")[:20]
    assert shown == {
        X.columns[i]: f"{theirs.importances_mean[i]:.4f}".replace("-", "\N{MINUS SIGN}")
        for i in best
    }


def test_too_many_features(written):
    X = csr_matrix((np.ones(40), (np.arange(40), np.arange(40) % 7)), shape=(40, 600))
    y = np.arange(40) % 2
    model = MLPClassifier(**PARAMETERS).fit(X, y)
    root = written(model, X, y, X_train=X, y_train=y)
    assert "Not computed: 600 features" in section(root, "importance").text
    assert "sparse float64, 0.17% filled" in section(root, "data").text
    # of so many features, those that are not zero are shown
    assert {len(card.one("dl").all("dt")) for card in cards(root)} <= {1}


def png(address):
    """Return the pixels of a picture of ours."""
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"), validate=True)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    lines = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8)
    lines = lines.reshape(height, -1)
    assert depth == 8 and not lines[:, 0].any()
    return lines[:, 1:].reshape((height, width) if colour == 0 else (height, width, 4))


def test_pictures_can_be_read():
    pytest.importorskip("PIL")
    from io import BytesIO

    from PIL import Image

    random = np.random.RandomState(0)
    for shape in [(1, 1), (5, 7), (6, 2, 4)]:
        pixels = random.randint(0, 256, shape).astype(np.uint8)
        address = data_uri(pixels)
        np.testing.assert_array_equal(png(address), pixels)
        with Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
            np.testing.assert_array_equal(np.asarray(picture), pixels)


@pytest.mark.slow
def test_mean_pictures(digits_in_pictures, digits):
    _, _, _, X, y = digits
    root = digits_in_pictures
    assert not root.all("section", id="importance")
    pictures = section(root, "means").all("img")
    assert len(pictures) == 10
    for k, picture in enumerate(pictures):
        mean = X[y == k].mean(axis=0).reshape(8, 8)  # of 0 to 16, dark on paper
        expected = np.round(255 * (1 - mean / 16))
        assert np.abs(png(picture.attributes["src"]) - expected).max() <= 1


@pytest.mark.slow
def test_pictures_in_a_frame(written, digits_in_pictures, digits):
    model, X_test, y_test, X, y = digits
    X, X_test = (pd.DataFrame(part.reshape(len(part), -1)) for part in (X, X_test))
    model = MLPClassifier(**model.get_params()).fit(X, y)
    framed = written(model, X_test, y_test, X_train=X, y_train=y, image_shape=(8, 8))
    for part in ("means", "mistakes"):
        sources = [
            [i.attributes["src"] for i in section(r, part).all("img")]
            for r in (digits_in_pictures, framed)
        ]
        assert sources[0] == sources[1]


def test_large_pictures_are_made_smaller(written):
    X = np.tile(np.arange(200, 10, -1, dtype=np.uint8), (8, 130))
    y = np.arange(8) % 2
    model = MLPClassifier(**PARAMETERS, input_scale=1 / 255).fit(X, y)
    root = written(model, X, y, image_shape=(130, 190))
    [*pictures] = section(root, "means").all("img")
    shapes = {(p.attributes["width"], p.attributes["height"]) for p in pictures}
    assert shapes == {("63", "43")}
    assert png(pictures[0].attributes["src"])[0, 0] > 200  # bright as in the data: a photograph


# ---------------------------------------------------------------------------------------- mistakes


@pytest.mark.slow
def test_mistakes(digits_in_pictures, digits):
    model, X_test, y_test, X, y = digits
    root = digits_in_pictures
    predicted, probabilities = model.predict(X_test), model.predict_proba(X_test)
    wrong = np.flatnonzero(predicted != y_test)
    expected = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    found = cards(root)
    assert numbers(found, "row") == expected.tolist()
    assert numbers(found, "true") == y_test[expected].tolist()
    assert numbers(found, "predicted") == predicted[expected].tolist()
    assert [card.one("h4").children[0] for card in found] == [f"row {row}" for row in expected]

    averages = [probabilities[y_test == k, k].mean() for k in range(10)]
    suspected = [
        row for row in expected
        if probabilities[row].max() >= max(0.9, averages[predicted[row]])
    ]  # fmt: skip
    marked = [c for c in found if "data-suspected" in c.attributes]
    assert numbers(marked, "row") == suspected
    assert f"Suspected label errors ({len(suspected)})" in section(root, "mistakes").text
    assert len(section(root, "mistakes").all("span", class_="badge")) == len(suspected)

    distances, _ = NearestNeighbors(n_neighbors=5).fit(X).kneighbors(X_test[expected])
    for card, theirs, own in zip(found, distances, X_test[expected], strict=True):
        captions = [c.text for c in card.all("figcaption")]
        rows = [int(text.split()[-1]) for text in captions]
        assert captions == [f"{y[r]} row {r}" for r in rows]
        ours = np.linalg.norm(X[rows].astype(float) - own, axis=1)  # rows may be equally far
        np.testing.assert_allclose(ours, theirs)
        pictures = [png(image.attributes["src"]) for image in card.all("img")]
        for pixels, sample in zip(pictures, [own, *X[rows]], strict=True):
            assert np.abs(pixels - (255 - sample.reshape(8, 8) * (255 / 16))).max() <= 1


@pytest.mark.slow
def test_filter(digits_page):
    root = digits_page
    found = cards(root)
    links = root.all("a", data_true=True)
    pairs = {(a.attributes["data-true"], a.attributes["data-predicted"]) for a in links}
    assert pairs == {(c.attributes["data-true"], c.attributes["data-predicted"]) for c in found}
    assert {a.attributes["href"] for a in links} == {"#mistakes"}
    form = root.one("form", id="filter")
    for name in ("true", "predicted"):
        options = form.one("select", name=name).all("option")
        values = {option.attributes["value"] for option in options}
        assert values == {""} | {card.attributes[f"data-{name}"] for card in found}
    # what the script asks for is there
    script = root.one("script").text
    for name in re.findall(r'getElementById\("(\w+)"\)', script):
        assert root.all(id=name)


@pytest.mark.slow
def test_suspected_label_is_found(written, cancer):
    """A label that was changed is among the suspected ones."""
    X, X_test, y, y_test = cancer
    model = make_pipeline(StandardScaler(), MLPClassifier((20,), max_iter=100, random_state=0))
    model.fit(X, y)
    sure = np.argsort(-model.predict_proba(X_test).max(axis=1))
    row = next(r for r in sure if model.predict(X_test.iloc[[r]])[0] == y_test[r])
    changed = y_test.copy()
    changed[row] = {"benign": "malignant", "malignant": "benign"}[y_test[row]]
    first = cards(written(model, X_test, changed))[0]
    assert first.attributes["data-row"] == str(row)
    assert "label suspected" in first.text


@pytest.mark.slow
def test_neighbours_are_those_that_the_network_sees(cancer_page, cancer):
    X, X_test, y, _ = cancer
    scaler = StandardScaler().fit(X)
    search = NearestNeighbors(n_neighbors=3).fit(scaler.transform(X))
    found = search.kneighbors(scaler.transform(X_test), return_distance=False)
    for card in cards(cancer_page):
        number = int(card.attributes["data-row"])
        row, nearest = X_test.iloc[[number]], found[number]
        head = [th.text for th in card.one("table").all("tr")[0].all("th")]
        assert head == ["", "this row", *(f"{y[i]}row {X.index[i]}" for i in nearest)]
        assert f"row {row.index[0]}" in card.one("h4").text
        shown = pd.concat([row, X.iloc[nearest]])
        rows = card.one("table").all("tr")[1:]
        assert len(rows) == 20  # of 30 features, the most important ones
        for cells in rows:
            values = shown[cells.one("th").text].to_numpy()
            assert [float(td.text) for td in cells.all("td")] == pytest.approx(values, rel=1e-5)


def test_no_mistakes(written, digits):
    model, X_test, *_ = digits
    root = written(model, X_test[:90], model.predict(X_test[:90]))
    assert "There are no mistakes." in section(root, "mistakes").text
    assert not root.all("form")


def test_choice_of_mistakes():
    """Every pair is there, then the most confident, in the order of confidence."""

    class Result:
        classes = [0, 1, 2]
        true = np.array([0] * 50 + [1, 2])
        predicted = np.array([1] * 50 + [2, 0])
        confidence = np.linspace(0.9, 0.6, 52)

    suspected = np.zeros(52, bool)
    suspected[40] = True
    chosen = analysis.chosen_mistakes(Result, suspected, 10, per_pair=3)
    assert chosen.tolist() == [0, 1, 2, 3, 4, 5, 6, 40, 50, 51]
    assert analysis.chosen_mistakes(Result, suspected, 2).tolist() == [0, 50]


# ---------------------------------------------------------------------------------- text from data


BAD = "<script>alert('x')</script>"


def hostile():
    """A frame whose names, cells, index and labels are HTML, and a pipeline that takes it."""
    random = np.random.RandomState(0)
    X = pd.DataFrame(
        {
            BAD: random.randn(80),
            "a&b": random.randn(80),
            "text": [f"{BAD}{i}" for i in range(80)],
            "gap": np.where(random.rand(80) < 0.2, np.nan, random.randn(80)),
            "kind": pd.Categorical(random.choice(["<i>", '"'], 80)),
            "when": pd.date_range("2020-01-01", periods=80),
            "list": [[i % 3] for i in range(80)],
        },
        index=[f"<b>{i}" for i in range(80)],
    )
    y = np.where(X[BAD] + random.randn(80) > 0, BAD, '"&<')
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), [BAD, "a&b", "gap"]),
        (OneHotEncoder(), ["kind"]),
    )
    return make_pipeline(columns, MLPClassifier(**PARAMETERS)).fit(X, y), X, y


@pytest.mark.slow
def test_text_from_data_is_escaped(written):
    model, X, y = hostile()
    about = {BAD: BAD}
    root = written(model, X, y, X_train=X, y_train=y, title=BAD, data_about=about)
    assert root.one("h1").text == root.one("head").one("title").text == BAD
    assert not [b for b in root.all("b") if b.parent.attributes.get("class") != "verdict"]
    assert {i.attributes["class"].split()[0] for i in root.all("i")} == {"key"}
    text = section(root, "mistakes").text
    assert BAD in text and '"&<' in text
    options = [o.text for o in root.one("select", name="true").all("option")]
    assert options == ["any", '"&<', BAD]
    assert all(card.one("h4").text.startswith("row <b>") for card in cards(root))
    assert "missing" in text
    columns = section(root, "data").all("table")[1].all("tr")[1:]
    assert [row.one("th").text for row in columns] == X.columns.tolist()
    assert [row.all("td")[1].text for row in columns] == X.isna().sum().astype(str).tolist()


@pytest.mark.slow
def test_rows_as_their_user_knows_them(written, digits):
    model, X_test, y_test, X, y = digits
    X_test, y_test = X_test[:90], y_test[:90]
    frame = pd.DataFrame({"file": [f"<{i}>.png" for i in range(len(X_test))]})
    frame.index += 1000
    root = written(model, X_test, y_test, X_train=X, y_train=y, frame=frame)
    for card in cards(root):
        row = int(card.attributes["data-row"])
        assert card.one("h4").children[0] == f"row {row + 1000}"
        assert card.one("dd").text == f"<{row}>.png"


def test_text_that_no_encoding_has(tmp_path, digits):
    model, X_test, y_test, *_ = digits
    path = write_report(tmp_path / "a.html", model, X_test, y_test, title="a\udcffb")
    assert "<h1>a\\udcffb</h1>" in path.read_text("utf-8")


def test_markup():
    assert element("p", "<", element("b", "&"), ["x", None]) == "<p>&lt;<b>&amp;</b>x</p>"
    assert element("a", title="\"'<", hidden=True, id=None) == (
        '<a title="&quot;&#x27;&lt;" hidden></a>'
    )
    assert element("p", Markup("<br>")) == "<p><br></p>"


# ------------------------------------------------------------------------------------ other inputs


@pytest.mark.slow
def test_bounded_for_much_data(written):
    random = np.random.RandomState(0)
    y = random.randint(0, 10, 10_000)
    X = (random.rand(10_000, 784) * 255).astype(np.uint8)  # noise, which no PNG makes small
    model = MLPClassifier(**{**PARAMETERS, "max_iter": 1}, input_scale=1 / 255).fit(
        X[:500], y[:500]
    )
    root = written(model, X, y, X_train=X, y_train=y, image_shape=(28, 28))  # under 3 MB
    assert 50 < len(cards(root)) <= 300
    assert f"{len(cards(root))} of them are on this page" in section(root, "mistakes").text
    assert "among 5000 of 10000" in section(root, "mistakes").text


@pytest.mark.slow
@pytest.mark.parametrize("form", [np.asarray, csr_matrix, np.ndarray.tolist, pd.DataFrame])
def test_forms_of_X(written, form):
    X, y = make_classification(60, 5, random_state=0)
    X = np.maximum(X, 0)
    model = MLPClassifier(**PARAMETERS).fit(form(X), y)
    root = written(model, form(X), y.tolist(), X_train=form(X), y_train=y.tolist())
    assert scores(root)["Accuracy"][0] == model.score(form(X), y)


@pytest.mark.parametrize("n_samples", [1, 2, 60])
def test_one_feature(written, n_samples):
    X, y = make_classification(60, 4, random_state=0)
    model = MLPClassifier(**PARAMETERS).fit(X[:, :1], y)
    written(model, X[:n_samples, :1], y[:n_samples], X_train=X[:2, :1], y_train=y[:2])


@pytest.mark.parametrize("others", [False, True])
def test_a_model_of_one_class(written, others):
    X, y = make_classification(60, 4, random_state=0)
    model = MLPClassifier(**PARAMETERS).fit(X, np.zeros(60, int))
    root = written(model, X, y * others)
    assert "–" in section(root, "scores").text


@pytest.mark.slow
def test_models_within_models(written, diabetes):
    _, X_test, y_test, X, y = diabetes
    inner = TheirRegressor(**PARAMETERS)
    model = TransformedTargetRegressor(inner, transformer=StandardScaler()).fit(X, y)
    assert "Parameters of MLPRegressor" in written(model, X_test, y_test).text
    X, y = make_classification(60, 4, random_state=0)
    model = BaggingClassifier(MLPClassifier(**PARAMETERS), 3, random_state=0).fit(X, y)
    assert "3 networks; of the first" in written(model, X, y).text


@pytest.mark.slow
def test_parameters(digits_page, digits):
    model, *_ = digits
    rows = section(digits_page, "parameters").one("table").all("tr")
    shown = {row.one("th").text: row.one("td").text for row in rows}
    assert shown == {name: repr(value) for name, value in model.get_params().items()}
    changed = {row.one("th").text for row in rows if row.attributes.get("class") == "changed"}
    assert changed == {*PARAMETERS, "input_scale", "learning_rate_init"}


@pytest.mark.slow
def test_inputs_are_not_changed(tmp_path):
    model, X, y = hostile()
    before, labels = X.copy(deep=True), y.copy()
    pages = [
        write_report(tmp_path / name, model, X, y, X_train=X, y_train=y).read_text("utf-8")
        for name in "ab"
    ]
    pd.testing.assert_frame_equal(X, before)
    np.testing.assert_array_equal(y, labels)
    assert re.sub(r"Written by.*", "", pages[0]) == re.sub(r"Written by.*", "", pages[1])


def test_a_page_that_was_there_stays_if_the_report_fails(tmp_path, digits):
    model, X_test, y_test, *_ = digits
    path = tmp_path / "report.html"
    path.write_text("before")
    with pytest.raises(ValueError, match="y must have a row"):
        write_report(path, model, X_test, y_test[:-1])
    assert path.read_text() == "before"


@pytest.fixture(scope="module")
def small():
    X, y = make_classification(60, 6, n_informative=4, n_classes=3, random_state=0)
    return MLPClassifier(**PARAMETERS).fit(X, y), X, y


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda X, y: {"y": y[:5]}, "y must have a row for each of the 60 of X, got 5"),
        (lambda X, y: {"X": X[:0], "y": y[:0]}, "X must hold at least one row"),
        (lambda X, y: {"X": X[0]}, r"X must have shape \(n_samples, n_features\), got \(6,\)"),
        (lambda X, y: {"X": X[:, :3]}, "3 features"),
        (lambda X, y: {"X": np.where(X > 1, np.nan, X)}, "NaN"),
        (lambda X, y: {"y": np.eye(3)[y]}, "y must hold one class per row, got shape"),
        (lambda X, y: {"y": np.where(y, y, np.nan)}, "y must have a label in every row, got none"),
        (lambda X, y: {"y": [None, *y[1:]]}, "got none in row 0"),
        (lambda X, y: {"y": y.astype(str)}, "y must hold classes that the model knows, 0, 1, 2, "),
        (lambda X, y: {"X_train": X}, "X_train needs y_train"),
        (lambda X, y: {"X_train": X[:, :2], "y_train": y}, "X_train must have the 6 features"),
        (lambda X, y: {"X_train": X, "y_train": y[:5]}, "y_train must have a row for each"),
        (lambda X, y: {"frame": pd.DataFrame({"a": [1]})}, "frame must have a row for each"),
        (lambda X, y: {"frame": {"a": 1}}, "frame must be a pandas DataFrame, got dict"),
        (lambda X, y: {"feature_names": ["a"]}, "feature_names must hold one name per feature, 6"),
        (lambda X, y: {"image_shape": (5, 5)}, "shape must be"),
        (
            lambda X, y: {"X": np.repeat(X, 50, 0), "y": np.r_[0.0, 0.5 + np.arange(2999)]},
            "at most 2000 classes can be reported",
        ),
        (lambda X, y: {"model": StandardScaler().fit(X)}, "model must be a fitted MLPClassifier"),
        (lambda X, y: {"model": LogisticRegression().fit(X, y)}, "got LogisticRegression"),
        (
            lambda X, y: {"model": MLPClassifier(**PARAMETERS).fit(X, (X > 0) * 1)},
            "multilabel classifier",
        ),
    ],
)
def test_bad_input(tmp_path, small, change, sentence):
    model, X, y = small
    arguments = {"model": model, "X": X, "y": y} | change(X, y)
    with pytest.raises(ValueError, match=sentence):
        write_report(tmp_path / "report.html", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        (["a"] * 111, "y must hold numbers for a regressor"),
        (np.r_[np.nan, np.ones(110)], r"y must hold finite numbers, got \[nan\] in row 0"),
        (np.ones((111, 2)), "y must have the 1 outputs of the model, got 2"),
        (np.ones((111, 1, 1)), "y must have shape"),
    ],
)
def test_bad_targets(tmp_path, diabetes, y, sentence):
    model, X_test, *_ = diabetes
    assert len(X_test) == 111
    with pytest.raises(ValueError, match=sentence):
        write_report(tmp_path / "report.html", model, X_test, y)


def test_not_fitted(tmp_path, small):
    with pytest.raises(NotFittedError):
        write_report(tmp_path / "report.html", MLPClassifier(), *small[1:])


# ----------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    "limits", [(0, 0), (5, 5), (-1e-30, 1e-30), (1e300, 2e300), (3, 3 + 1e-15)]
)
def test_axes_of_any_range(limits):
    plot = Plot(limits, limits, "x", "y", "a plot")
    plot.line(limits, limits, "s0")
    labels = [text.text for text in Tree(plot.svg()).root.all("text")]
    assert labels[-2:] == ["x", "y"] and 4 <= len(labels) <= 20
    assert "nan" not in plot.svg() and "inf" not in plot.svg()


def test_lines_are_interrupted_where_there_is_no_number():
    plot = Plot((0, 4), (0, 1), "x", "y", "a plot")
    plot.line(range(5), [0, 1, np.nan, 1, 0], "s0")
    path = Tree(plot.svg()).root.one("path").attributes["d"]
    assert re.sub("[^ML]", "", path) == "MLML"


def test_thinned_lines_keep_their_shape():
    x = np.linspace(0, 1, 5000)
    y = np.where(x < 0.5, 0.0, 1.0)
    fewer, values = thinned(x, y, 100)
    assert len(fewer) <= 100 and fewer[0] == 0 and fewer[-1] == 1
    assert np.abs(np.interp(x, fewer, values) - y).mean() < 0.02
    assert thinned(x[:5], y[:5])[0] is not None and len(thinned(x[:5], y[:5])[0]) == 5


@pytest.mark.slow
@pytest.mark.mnist
def test_mnist(written, mnist):
    (X, y), (X_test, y_test) = mnist
    X, y = X[:20_000], y[:20_000]
    model = MLPClassifier((30,), max_iter=1, input_scale=1 / 255, random_state=0).fit(X, y)
    root = written(model, X_test, y_test, X_train=X, y_train=y, image_shape=(28, 28))
    assert scores(root)["Accuracy"][0] == model.score(X_test, y_test)
    assert len(cards(root)) == 300
