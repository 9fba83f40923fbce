"""Every display is drawn, and what can be read in it is compared with what it shows."""

import io
import subprocess
import sys
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from fastmlp import MLPClassifier, MLPRegressor, datasets, displays
from fastmlp.displays import (
    ConfusionDisplay,
    DigitDisplay,
    LossCurveDisplay,
    MistakesDisplay,
    WeightsDisplay,
)

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


@pytest.fixture(autouse=True)
def no_window():
    """Pyplot draws without a screen, and no figure outlives a test."""
    matplotlib.use("agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def digits():
    return datasets.load_digits()


PARAMETERS = {"hidden_layer_sizes": (20,), "max_iter": 5, "random_state": 0}


@pytest.fixture(scope="module", params=["fastmlp", "scikit-learn"])
def model(request, digits):
    """A fitted classifier of either library."""
    (X, y), _ = digits
    estimator = MLPClassifier if request.param == "fastmlp" else TheirClassifier
    with pytest.warns(UserWarning, match="Maximum iterations"):
        return estimator(**PARAMETERS).fit(X / 16, y)


def png(display):
    """Return the picture as a file; drawing it must not warn."""
    file = io.BytesIO()
    display.figure_.savefig(file)
    assert file.getvalue().startswith(b"\x89PNG")
    return file.getvalue()


def limits(axes):
    return {image.get_clim() for place in axes for image in place.get_images()}


def titles(axes):
    return [place.get_title() for place in axes]


def texts(ax):
    return [text.get_text() for text in ax.texts]


# ----------------------------------------------------------------------------------------- images


def test_as_images():
    square = displays.as_images(np.arange(18).reshape(2, 9))
    assert square.shape == (2, 3, 3) and square[1, 0, 2] == 11
    assert displays.as_images(np.zeros((2, 6)), (3, 2)).shape == (2, 3, 2)
    assert displays.as_images(np.zeros((2, 5, 7))).shape == (2, 5, 7)
    assert displays.as_images(np.zeros((2, 2, 6)), (3, 4)).shape == (2, 3, 4)
    assert displays.as_images(csr_matrix(np.eye(4)))[2].tolist() == [[0, 0], [1, 0]]
    assert displays.as_images(pd.DataFrame(np.eye(4))).shape == (4, 2, 2)
    assert displays.as_images(np.zeros((0, 9))).shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("X", "shape", "message"),
    [
        (np.zeros((2, 30)), None, r"must be square .* 30 pixels: give shape=\(height, width\)\."),
        (np.zeros((2, 30)), (5, 5), r"have 30 pixels, got \(5, 5\)\."),
        (np.zeros((2, 30)), (30,), r"must be \(height, width\), .* got \(30,\)"),
        (np.zeros(9), None, r"got \(9,\); one sample is X\[\[i\]\]\."),
    ],
)
def test_what_is_no_image(X, shape, message):
    with pytest.raises(ValueError, match=message):
        displays.as_images(X, shape)


@pytest.mark.slow
def test_digits(digits):
    _, (X, y) = digits
    display = DigitDisplay(X[:11], y[:11]).plot()
    assert titles(display.axes_) == [str(label) for label in y[:11]]
    assert limits(display.axes_) == {(0, 16)}
    np.testing.assert_array_equal(display.axes_[7].get_images()[0].get_array().ravel(), X[7])
    rows = {place.get_subplotspec().rowspan.start for place in display.axes_}
    assert rows == {0, 1} and display.figure_.get_size_inches()[0] > 6  # 6 + 5, not 8 + 3
    assert png(display)


def test_one_sample_without_a_label_or_a_square():
    display = DigitDisplay(np.arange(6)[np.newaxis], shape=(2, 3)).plot()
    assert titles(display.axes_) == [""]
    assert display.images.tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert png(display)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        DigitDisplay(np.zeros((2, 4)), [1])


# ---------------------------------------------------------------------------------------- weights


@pytest.mark.slow
def test_weights(model):
    display = WeightsDisplay.from_estimator(model)
    coef = model.coefs_[0]
    assert display.axes_.shape == (16,)
    limit = np.abs(coef).max() / 2
    assert limits(display.axes_) == {(-limit, limit)}
    np.testing.assert_array_equal(display.axes_[3].get_images()[0].get_array().ravel(), coef[:, 3])
    assert len(display.figure_.axes) == 1 + 16 + 1  # the place, the images, the scale
    assert all(not place.get_xticks().size for place in display.axes_)
    assert png(display)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "drawn"), [(1, 1), (4, 4), (5, 5), (99, 5), (None, 5)])
def test_how_many_weights(n, drawn):
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=1).fit(np.eye(9), range(9))
    display = WeightsDisplay.from_estimator(model, n=n, cmap="RdBu_r")
    assert len(display.axes_) == drawn
    assert png(display)


@pytest.mark.parametrize("weights", [np.zeros((4, 2)), np.full((4, 2), np.nan)])
def test_weights_without_a_size(weights):
    display = WeightsDisplay(weights).plot()
    assert limits(display.axes_) == {(-1, 1)}
    assert png(display)


def test_weights_of_a_pipeline_and_a_shape(digits):
    (X, _), _ = digits
    pipeline = make_pipeline(StandardScaler(), MLPRegressor(**PARAMETERS))
    pipeline.fit(X[:50, :30], X[:50, 30])
    with pytest.raises(ValueError, match=r"got 30 pixels: give shape=\(height, width\)"):
        WeightsDisplay.from_estimator(pipeline)
    display = WeightsDisplay.from_estimator(pipeline, shape=(5, 6))
    assert display.images.shape == (20, 5, 6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: WeightsDisplay.from_estimator(m, n=0), ValueError, "n must be at least 1"),
        (lambda m: WeightsDisplay.from_estimator(MLPClassifier()), NotFittedError, "not fitted"),
        (
            lambda m: LossCurveDisplay.from_estimator(StandardScaler().fit([[1.0]])),
            ValueError,
            "must be a fitted MLPClassifier or MLPRegressor, .* got StandardScaler",
        ),
    ],
)
def test_what_has_no_weights(model, call, error, message):
    with pytest.raises(error, match=message):
        call(model)


# ------------------------------------------------------------------------------------------- loss


def curves(ax):
    return {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in ax.get_lines()}


def test_loss_curve(model):
    display = LossCurveDisplay.from_estimator(model)
    assert curves(display.ax_) == {"training loss": model.loss_curve_}
    assert display.ax_.get_xlabel() == "epoch" and display.ax_.get_ylabel() == "loss"
    assert all(tick == round(tick) for tick in display.ax_.get_xticks())
    assert display.score_ax_ is None
    assert png(display)


def test_loss_curve_with_validation_data(digits):
    (X, y), (X_val, y_val) = digits
    model = MLPClassifier(**PARAMETERS, input_scale=1 / 16).fit(X, y, X_val=X_val, y_val=y_val)
    display = LossCurveDisplay.from_estimator(model)
    history = model.history_
    assert curves(display.ax_) == {
        "training loss": history["loss"],
        "validation loss": history["val_loss"],
    }
    assert curves(display.score_ax_) == {"validation accuracy": history["val_score"]}
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["training loss", "validation loss", "validation accuracy"]
    assert png(display)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [MLPRegressor, TheirRegressor])
def test_loss_curve_of_early_stopping(digits, estimator):
    (X, y), _ = digits
    model = estimator(**PARAMETERS, early_stopping=True).fit(X / 16, y.astype(float))
    display = LossCurveDisplay.from_estimator(model)
    assert curves(display.score_ax_) == {"validation R²": model.validation_scores_}
    assert ("validation loss" in curves(display.ax_)) == (estimator is MLPRegressor)
    assert model.validation_scores_[display.kept_epoch - 1] == model.best_validation_score_
    assert f"kept: epoch {display.kept_epoch}" in curves(display.ax_)
    assert png(display)


def test_loss_curve_of_lbfgs(digits):
    (X, y), _ = digits
    parameters = PARAMETERS | {"solver": "lbfgs"}
    with pytest.warns(UserWarning, match="lbfgs failed to converge"):
        ours = MLPClassifier(**parameters).fit(X[:50] / 16, y[:50])
    assert len(LossCurveDisplay.from_estimator(ours).loss) == ours.n_iter_
    with pytest.warns(UserWarning, match="lbfgs failed to converge"):
        theirs = TheirClassifier(**parameters).fit(X[:50] / 16, y[:50])
    with pytest.raises(ValueError, match=r"got none \(solver='lbfgs'\): scikit-learn's"):
        LossCurveDisplay.from_estimator(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [[0.5], [np.inf, 3, np.nan, 2], np.geomspace(1, 0.01, 200)])
def test_odd_losses(loss):
    assert png(LossCurveDisplay(loss, val_score=loss).plot())


# -------------------------------------------------------------------------------------- confusion


TRUE = [3, 3, 3, 8, 8, 8, 8, 5, 5, 0]
PREDICTED = [3, 8, 8, 8, 3, 3, 3, 5, 3, 0]


def test_confusion_from_predictions():
    display = ConfusionDisplay.from_predictions(TRUE, PREDICTED)
    assert display.display_labels.tolist() == [0, 3, 5, 8]
    assert display.confusion_matrix.tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 2],
        [0, 1, 1, 0],
        [0, 3, 0, 1],
    ]
    assert display.pairs_ == [(8, 3, 3), (3, 8, 2), (5, 3, 1)]
    where = {text.get_position(): text.get_text() for text in display.ax_.texts}
    assert len(where) == 7
    # Column: predicted 3, row: true 8. The classes are of unequal size, so there are rates.
    assert where[1, 3] == "3\n75%" and where[0, 0] == "1\n100%"
    assert display.ax_.get_title() == "accuracy 0.400: 6 mistakes of 10"
    listed = [label.get_text() for label in display.pairs_ax_.get_yticklabels()]
    assert listed == ["8 → 3", "3 → 8", "5 → 3"]
    assert texts(display.pairs_ax_) == ["3", "2", "1"]
    assert [bar.get_width() for bar in display.pairs_ax_.patches] == [3, 2, 1]
    assert display.pairs_ax_.yaxis_inverted()
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("predicted class", "true class")
    assert png(display)


@pytest.mark.slow
def test_confusion_from_estimator(model, digits):
    _, (X, y) = digits
    display = ConfusionDisplay.from_estimator(model, X / 16, y, n_pairs=3)
    assert np.trace(display.confusion_matrix) == round(model.score(X / 16, y) * len(y))
    assert display.confusion_matrix.sum(axis=1).tolist() == np.bincount(y).tolist()
    counts = [count for _, _, count in display.pairs_]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == len(y) - np.trace(display.confusion_matrix)
    assert len(display.pairs_ax_.patches) == 3
    assert png(display)


@pytest.mark.parametrize(("frequent", "text"), [(3, "1"), (4, "1\n25%"), (200, "1\n<1%")])
def test_rates_stand_beside_counts_of_unequal_classes(frequent, text):
    display = ConfusionDisplay([[frequent - 1, 1], [0, 2]]).plot()
    where = {place.get_position(): place.get_text() for place in display.ax_.texts}
    assert where[1, 0] == text
    shown = display.ax_.get_images()[1].get_array()
    assert shown[0, 1] == (1 if frequent == 3 else 1 / frequent)  # colours compare rates
    assert png(display)


def test_rates_themselves_have_no_accuracy():
    display = ConfusionDisplay([[0.25, 0.75], [0.0, 1.0]]).plot()
    assert display.ax_.get_title() == ""
    assert sorted(texts(display.ax_)) == ["0.25", "0.75", "1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "rotation"), [(["malignant", "benign"], 0), ([f"class {i}" for i in range(20)], 90)]
)
def test_names_are_turned_where_they_have_no_room(names, rotation):
    display = ConfusionDisplay(np.eye(len(names), dtype=int), names).plot()
    assert {label.get_rotation() for label in display.ax_.get_xticklabels()} == {rotation}
    assert png(display)
    renderer = display.figure_.canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in display.ax_.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_counts_are_scikit_learns():
    from sklearn.metrics import confusion_matrix

    rng = np.random.default_rng(0)
    y_true, y_pred = rng.integers(0, 6, (2, 200))
    for labels in (None, [5, 0, 3], [0, 1, 2, 3, 4, 5, 9]):
        matrix, names = displays.count_confusions(y_true, y_pred, labels)
        np.testing.assert_array_equal(matrix, confusion_matrix(y_true, y_pred, labels=labels))
        assert names.tolist() == (labels or list(range(6)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_classes", "n_pairs"),
    [(1, None), (2, None), (10, 40), (25, None), (26, None), (47, None), (120, None)],
)
def test_many_classes_stay_readable(n_classes, n_pairs):
    rng = np.random.default_rng(0)
    matrix = rng.integers(1, 1000, (n_classes, n_classes))
    names = [f"a class with a very long name {i}" for i in range(n_classes)]
    display = ConfusionDisplay(matrix, names).plot(n_pairs=n_pairs)
    assert png(display)
    assert len(display.ax_.texts) == (n_classes**2 if n_classes <= 25 else 0)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert len(labels) <= 50 and max(map(len, labels)) <= 14
    # Nothing is written over its neighbour.
    renderer = display.figure_.canvas.get_renderer()
    for ax in (display.ax_, display.pairs_ax_) if display.pairs_ else ():
        ticks = ax.get_yticklabels()
        boxes = [label.get_window_extent(renderer) for label in ticks]
        for above, below in pairwise(boxes):
            assert above.y0 >= below.y1 - 1
    boxes = [label.get_window_extent(renderer) for label in display.ax_.get_xticklabels()]
    for left, right in pairwise(boxes):
        assert left.x1 <= right.x0 + 1


def test_confusion_without_mistakes_or_pairs():
    display = ConfusionDisplay.from_predictions(["a", "a"], ["a", "a"])
    assert display.pairs_ == [] and texts(display.pairs_ax_) == ["no mistakes"]
    assert png(display)
    display = ConfusionDisplay.from_predictions(TRUE, PREDICTED, n_pairs=0)
    assert display.pairs_ax_ is None and display.figure_.axes == [display.ax_]


def test_shares_instead_of_counts():
    display = ConfusionDisplay([[0.9, 0.1], [0.25, 0.75]], ["no", "yes"]).plot()
    assert display.pairs_ == [("yes", "no", 0.25), ("no", "yes", 0.1)]
    assert "0.25" in texts(display.ax_)
    assert png(display)


def test_what_is_no_confusion():
    with pytest.raises(ValueError, match=r"must be square, got shape \(2, 3\)"):
        ConfusionDisplay(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"y_true must be one class per sample.*y_true\.argmax"):
        ConfusionDisplay.from_predictions(np.eye(3), [0, 1, 2])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ConfusionDisplay.from_predictions([1, 2], [1])
    regressor = TheirRegressor(max_iter=1).fit([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(ValueError, match="must be a classifier, got MLPRegressor"):
        ConfusionDisplay.from_estimator(regressor, [[0.0]], [0])


# --------------------------------------------------------------------------------------- mistakes


def test_mistakes_from_predictions():
    X = np.arange(90).reshape(10, 9)
    confidence = np.array([1, 0.5, 0.9, 1, 0.7, 0.9, 0.8, 1, 0.953, 1])
    display = MistakesDisplay.from_predictions(X, TRUE, PREDICTED, confidence)
    assert display.indices.tolist() == [8, 2, 5, 6, 4, 1]  # 2 and 5 are equally confident
    assert titles(display.axes_)[:2] == ["#8\n5 → 3, 95.3%", "#2\n3 → 8, 90.0%"]
    np.testing.assert_array_equal(display.axes_[0].get_images()[0].get_array().ravel(), X[8])
    assert limits(display.axes_) == {(0, 80)}  # one scale: from 0 to the largest that is shown
    title = (
        "accuracy 0.400: 6 mistakes of 10 samples\n"
        "(the most confident first, #row: true → predicted)"
    )
    assert any(title in texts(ax) for ax in display.figure_.axes)
    assert png(display)


@pytest.mark.parametrize("pair", [(3, 8), (8, 3)])
def test_mistakes_of_a_pair(pair):
    X = np.arange(90).reshape(10, 9)
    display = MistakesDisplay.from_predictions(csr_matrix(X), TRUE, PREDICTED, pair=pair, n=2)
    assert display.indices.tolist() == [1, 2, 4, 5, 6]
    assert titles(display.axes_) == ["#1: 3 → 8", "#2: 3 → 8"]
    title = f"2 of 5 mistakes between {pair[0]} and {pair[1]}\n(#row: true → predicted)"
    assert any(title in texts(ax) for ax in display.figure_.axes)
    assert png(display)


@pytest.mark.parametrize("pair", [(3, 3), (3, 4), (3, 5, 8)])
def test_what_is_no_pair(pair):
    with pytest.raises(ValueError, match=r"two different classes of \[0, 3, 5, 8\], got \(3, "):
        MistakesDisplay(np.zeros((10, 9)), TRUE, PREDICTED, pair=pair)


def test_mistakes_from_estimator(model, digits):
    _, (X, y) = digits
    display = MistakesDisplay.from_estimator(model, X / 16, y, n=5)
    probabilities = model.predict_proba(X / 16)
    wrong = np.flatnonzero(model.predict(X / 16) != y)
    assert sorted(display.indices) == wrong.tolist()
    confidence = probabilities[display.indices].max(axis=1)
    assert (np.diff(confidence) <= 0).all()
    first = display.indices[0]
    predicted = probabilities[first].argmax()
    title = f"#{first}\n{y[first]} → {predicted}, {confidence[0]:.1%}"
    assert display.axes_[0].get_title() == title
    assert len(display.axes_) == 5 and display.images(2).shape == (2, 8, 8)
    assert png(display)


def test_mistakes_of_a_classifier_without_probabilities(digits):
    (X, y), (X_test, y_test) = digits
    model = LinearSVC(random_state=0, max_iter=20000).fit(X[:300] / 16, y[:300])
    display = MistakesDisplay.from_estimator(model, X_test / 16, y_test)
    assert (np.diff(display.indices) > 0).all() and "%" not in "".join(titles(display.axes_))


def test_no_mistakes_and_one():
    X = np.zeros((2, 9))
    display = MistakesDisplay.from_predictions(X, [1, 2], [1, 2])
    assert display.axes_.shape == (0,)
    title = "accuracy 1.000: no mistakes of 2 samples"
    assert any(title in texts(ax) for ax in display.figure_.axes)
    assert png(display)
    display = MistakesDisplay.from_predictions(X, [1, 2], [1, 1], [0.4, 0.6], n=None)
    title = "accuracy 0.500: 1 mistake of 2 samples\n(#row: true → predicted)"
    assert any(title in texts(ax) for ax in display.figure_.axes)


def test_long_names_go_to_the_next_line():
    names = ["Ankle boot", "a name that is far too long"]
    display = MistakesDisplay.from_predictions(np.zeros((2, 9)), names, names[::-1], [0.9, 0.8])
    assert titles(display.axes_)[0] == "#0\nAnkle boot →\na name t… long,\n90.0%"
    assert png(display)
    renderer = display.figure_.canvas.get_renderer()
    left, right = (place.title.get_window_extent(renderer) for place in display.axes_)
    assert left.x1 < right.x0


def test_a_confidence_is_one_number_per_sample():
    with pytest.raises(ValueError, match=r"got \(10, 2\): use predict_proba\(X\)\.max\(axis=1\)"):
        MistakesDisplay(np.zeros((10, 9)), TRUE, PREDICTED, np.zeros((10, 2)))


# ---------------------------------------------------------------------------------------- figures


@pytest.mark.slow
@pytest.mark.parametrize("model", ["fastmlp"], indirect=True)
def test_an_axes_is_divided_and_pyplot_left_alone(model, digits):
    import matplotlib.pyplot as plt

    _, (X, y) = digits
    figure = Figure(figsize=(12, 9), layout="constrained")
    places = figure.subplots(2, 2)
    drawn = [
        WeightsDisplay.from_estimator(model, ax=places[0, 0]),
        LossCurveDisplay.from_estimator(model, ax=places[0, 1]),
        ConfusionDisplay.from_estimator(model, X / 16, y, ax=places[1, 0]),
        MistakesDisplay.from_estimator(model, X / 16, y, ax=places[1, 1], n=9),
    ]
    assert all(display.figure_ is figure for display in drawn)
    assert png(drawn[0])
    loss, confusion = drawn[1].ax_.get_position(), drawn[2].pairs_ax_.get_position()
    for ax in drawn[0].axes_:  # top left
        assert ax.get_position().x1 < loss.x0 and ax.get_position().y0 > confusion.y1
    for ax in drawn[3].axes_:  # bottom right
        assert ax.get_position().x0 > confusion.x1 and ax.get_position().y1 < loss.y0
    assert not plt.get_fignums()


def test_without_an_axes_the_figure_is_pyplots(model):
    import matplotlib.pyplot as plt

    display = LossCurveDisplay.from_estimator(model)
    assert plt.gcf() is display.figure_
    assert tuple(display.figure_.get_size_inches()) == display.figsize_


def test_an_axes_without_a_grid():
    ax = Figure().add_axes((0, 0, 1, 1))
    with pytest.raises(ValueError, match=r"created by plt\.subplots or figure\.subplots"):
        DigitDisplay(np.zeros((1, 4))).plot(ax)
    assert LossCurveDisplay([1, 2]).plot(ax).ax_ is ax


def test_without_matplotlib(monkeypatch, model):
    monkeypatch.setattr("fastmlp.displays.layout.find_spec", lambda name: None)
    for draw in (
        lambda: WeightsDisplay.from_estimator(model),
        lambda: LossCurveDisplay.from_estimator(None),  # said before anything else
        lambda: ConfusionDisplay.from_predictions(TRUE, PREDICTED),
        lambda: MistakesDisplay.from_estimator(None, None, None),
        DigitDisplay(np.zeros((1, 4))).plot,
    ):
        with pytest.raises(ValueError, match=r"needs? matplotlib: pip install 'fastmlp\[plot\]'\."):
            draw()


@pytest.mark.slow
def test_holding_what_is_to_be_seen_needs_no_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from fastmlp.displays import ConfusionDisplay, MistakesDisplay, DigitDisplay\n"
        "print(ConfusionDisplay([[1, 2], [0, 1]]).pairs_)\n"
        "print(MistakesDisplay([[0], [0]], [1, 2], [2, 2]).indices, DigitDisplay([[1]]).images)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[(0, 1, 2)]\n[0] [[[1]]]\n"
