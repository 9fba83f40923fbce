"""Every display is drawn, and what can be read in it is compared with what it shows."""

import io
import subprocess
import sys
import warnings
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix
from scipy.stats import loguniform
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
)
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
    SearchDisplay,
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


# --------------------------------------------------------------------------------------- searches


SMALL = MLPClassifier(hidden_layer_sizes=(4,), max_iter=2, random_state=0, backend="numpy")
RANDOM = {
    "alpha": loguniform(1e-6, 1),
    "learning_rate_init": loguniform(1e-4, 0.1),
    "hidden_layer_sizes": [(50,), (100,), (50, 10), (200, 100, 50)],
    "activation": ["relu", "tanh"],
    "early_stopping": [True, False],
    "max_grad_norm": [None, 1.0, 5.0],
    "batch_size": [32, 64, 128],
    "dropout": [0, 0.2, 0.5],
}


def fitted(search, data):
    (X, y), _ = data
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return search.fit(X[:120] / 16, y[:120])


def results(params, scores=None, **more):
    """Return what a search with these candidates may have found."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0.9, 0.02, len(params)) if scores is None else np.asarray(scores, float)
    spreads = np.where(np.isnan(scores), np.nan, 0.01)
    return {"params": params, "mean_test_score": scores, "std_test_score": spreads, **more}


def histories_of(lengths):
    """Return histories of candidates with one fit per length; the loss is 1 / epoch."""
    return [
        [{"loss": (1 / np.arange(1, n + 1)).tolist()} if n else {} for n in fits]
        for fits in lengths
    ]


def tick_texts(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def key(figure):
    """Return the lines of all legends in a figure, with their titles."""
    lines = []
    for ax in figure.axes:
        if ax.get_legend():
            lines += ax.get_legend().get_title().get_text().split("\n")
            lines += [text.get_text() for text in ax.get_legend().get_texts()]
    return [line for line in lines if line]


def drawn_points(ax):
    """Return the places of the points in a panel, but for the mark of the best."""
    lines = [line for line in ax.get_lines() if line.get_marker() in ("o", "v")]
    return np.concatenate([line.get_xydata() for line in lines])


def check_room(ax, axis):
    """Assert that the names of an axis are not written over each other, nor cut."""
    renderer = ax.figure.canvas.get_renderer()
    low, high = sorted(axis.get_view_interval())
    labels = [
        label
        for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        if low <= place <= high and label.get_text()
    ]
    assert labels
    boxes = [label.get_window_extent(renderer) for label in labels]
    for i, box in enumerate(boxes):
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= ax.figure.bbox.x1 + 1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_search_over_one_parameter(digits):
    grid = {"alpha": [1e-4, 1e-2, 1.0, 10.0]}
    search = fitted(GridSearchCV(SMALL, grid, cv=2), digits)
    display = SearchDisplay.from_estimator(make_pipeline(search))
    assert display.varying == ["alpha"] and display.best_index == search.best_index_
    (ax,) = display.axes_
    means = search.cv_results_["mean_test_score"]
    np.testing.assert_allclose(drawn_points(ax), np.transpose([grid["alpha"], means]))
    assert ax.get_xscale() == "log" and tick_texts(ax.xaxis) == ["0.0001", "0.01", "1", "10"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("alpha", "mean test score")
    star = next(line for line in ax.get_lines() if line.get_marker() == "*")
    best = [search.best_params_["alpha"], search.best_score_]
    np.testing.assert_allclose(star.get_xydata(), [best])
    assert key(display.figure_)[0].startswith(f"best: {search.best_score_:.3f} ± ")
    assert png(display)


def test_search_over_a_grid_of_two(digits):
    sizes = [(50, 10), (5,), (20,)]
    grid = {"mlpclassifier__alpha": [1e-2, 1e-4], "mlpclassifier__hidden_layer_sizes": sizes}
    model = make_pipeline(StandardScaler(), SMALL)
    search = fitted(GridSearchCV(model, grid, cv=2), digits)
    display = SearchDisplay.from_estimator(search)
    (ax,) = display.axes_
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("alpha", "hidden_layer_sizes")
    assert tick_texts(ax.xaxis) == ["0.0001", "0.01"]
    assert tick_texts(ax.yaxis) == ["(5,)", "(20,)", "(50, 10)"]
    written = {text.get_position(): text.get_text() for text in ax.texts}
    for params, score in zip(display.candidates, display.scores, strict=True):
        alpha, size = params.values()
        place = [1e-4, 1e-2].index(alpha), [(5,), (20,), (50, 10)].index(size)
        assert written[place] == f"{score:.3f}"
    (frame,) = ax.patches
    x, y = (round(place + 0.5) for place in frame.get_xy())
    assert written[x, y] == f"{search.best_score_:.3f}"
    assert f"best (framed): {search.best_score_:.3f}" in ax.get_title()
    assert png(display)


def test_two_parameters_that_are_no_grid(digits):
    parameters = {"alpha": loguniform(1e-6, 1), "hidden_layer_sizes": [(5,), (10, 5)]}
    search = RandomizedSearchCV(SMALL, parameters, n_iter=6, cv=2, random_state=0)
    display = SearchDisplay.from_estimator(fitted(search, digits))
    assert [ax.get_xlabel() for ax in display.axes_] == ["alpha", "hidden_layer_sizes"]
    assert [len(drawn_points(ax)) for ax in display.axes_] == [6, 6]
    assert display.axes_[0].get_xscale() == "log"
    assert tick_texts(display.axes_[1].xaxis) == ["(5,)", "(10, 5)"]
    places = drawn_points(display.axes_[1])[:, 0]
    assert len(set(places)) == 6 and (abs(places - places.round()) <= 0.3).all()
    assert png(display)


@pytest.mark.slow
@pytest.mark.parametrize("resource", ["n_samples", "max_iter"])
def test_search_by_halving(digits, resource):
    grid = {"alpha": [1e-4, 1e-2, 1.0], "hidden_layer_sizes": [(5,), (20,)]}
    options = {"n_samples": {"min_resources": 40}, "max_iter": {"max_resources": 8}}[resource]
    search = HalvingGridSearchCV(SMALL, grid, cv=2, factor=2, resource=resource, **options)
    fitted(search, digits)
    display = SearchDisplay.from_estimator(search)
    assert display.varying == ["alpha", "hidden_layer_sizes"]  # and not the resource
    amounts = [f"({resource}={amount})" for amount in search.n_resources_]
    assert [line.split()[-1] for line in key(display.figure_)[1:]] == amounts
    for ax in display.axes_:
        groups = [line for line in ax.get_lines() if line.get_marker() == "o"]
        assert [len(line.get_xdata()) for line in groups] == search.n_candidates_
        assert len({line.get_color() if isinstance(line.get_color(), str) else
                    tuple(line.get_color()) for line in groups}) == len(groups)  # fmt: skip
    assert png(display)
    chosen = SearchDisplay(search.cv_results_).best_index
    assert search.cv_results_["iter"][chosen] == search.n_iterations_ - 1


def test_several_metrics(digits):
    scoring = ["accuracy", "neg_log_loss"]
    search = GridSearchCV(SMALL, {"alpha": [1e-4, 9]}, cv=2, scoring=scoring, refit="neg_log_loss")
    fitted(search, digits)
    display = SearchDisplay.from_estimator(search)
    assert display.axes_[0].get_ylabel() == "mean test neg_log_loss"
    display = SearchDisplay.from_estimator(search, metric="accuracy")
    means = search.cv_results_["mean_test_accuracy"]
    assert display.best_index == means.argmax()
    with pytest.raises(ValueError, match="must be 'accuracy' or 'neg_log_loss', .* got 'score'"):
        SearchDisplay.from_estimator(search, metric="score")
    search.refit = False
    with pytest.raises(ValueError, match="given if refit does not name one, got None: choose of"):
        SearchDisplay.from_estimator(search)


def test_failed_fits_are_counted():
    parameters = {name: RANDOM[name] for name in ("alpha", "activation")}
    params = list(ParameterSampler(parameters, 20, random_state=0))
    scores = np.linspace(0.8, 0.9, 20)
    scores[[3, 19]] = np.nan
    display = SearchDisplay(results(params, scores)).plot()
    assert len(display.axes_) == 2 and display.best_index == 18
    assert {len(drawn_points(ax)) for ax in display.axes_} == {18}
    assert "2 of 20 scores are left out: fits failed" in key(display.figure_)
    assert png(display)
    grid = list(ParameterGrid({"alpha": [1, 2], "beta_1": [0.8, 0.9]}))
    display = SearchDisplay(results(grid, [0.5, np.nan, 0.6, 0.7])).plot()
    assert sorted(texts(display.axes_[0])) == ["0.500", "0.600", "0.700", "–"]
    assert "1 of 4 scores is left out: fits failed" in display.axes_[0].get_title()
    with pytest.raises(ValueError, match="got none from 4 candidates: all fits failed; .*'raise'"):
        SearchDisplay(results(grid, [np.nan] * 4))


def test_scores_far_below_do_not_hide_the_others():
    scores = np.linspace(0.8, 0.9, 20)
    scores[[2, 5]] = -1e9, -30
    display = SearchDisplay(results([{"alpha": i} for i in range(20)], scores)).plot()
    assert "2 of 20 scores far below stand at the lower edge (triangles)" in key(display.figure_)
    low, high = display.axes_[0].get_ylim()
    assert 0.7 < low < 0.8 and high > 0.9
    assert png(display)


def test_where_nothing_varies(digits):
    display = SearchDisplay.from_estimator(fitted(GridSearchCV(SMALL, {}, cv=2), digits))
    assert display.varying == [] and display.axes_[0].get_xlabel() == "candidate"
    assert tick_texts(display.axes_[0].xaxis) == ["0"]
    assert png(display)


@pytest.mark.parametrize(
    ("values", "scale", "names"),
    [
        ([1e-4, 1e-1], "log", ["0.0001", "0.1"]),
        ([0, 1e-4, 1e-2, 1], "symlog", ["0", "0.0001", "0.01", "1"]),
        ([0.0, 0.25, 0.5], "linear", ["0", "0.25", "0.5"]),
        ([16, 65536, 32], "log", ["16", "32", "65536"]),
        (np.linspace(1, 100, 5), "linear", ["1", "25.75", "50.5", "75.25", "100"]),
        ([None, 5.0, 1], "linear", ["1", "5", "None"]),
        ([True, False], "linear", ["True", "False"]),
        ([(np.int64(9), 3), (9,), [4]], "linear", ["(9, 3)", "(9,)", "[4]"]),
        ([np.tanh, LinearSVC(C=2), object(), "$x$"], "linear",
         ["tanh", "LinearSVC(C=2)", "object", r"\$x\$"]),
        (["a word that is long, and ends in 1", "a word that is long, and ends in 1!"], "linear",
         ["a word that is l… in 1", "a word that is l…in 1!"]),
        (["a word that is long 1, and ends", "a word that is long 2, and ends"], "linear",
         ["a word that is l… ends", "a word that is l… ends #2"]),
    ],
)  # fmt: skip
def test_values_of_parameters(values, scale, names):
    display = SearchDisplay(results([{"a": value} for value in values])).plot()
    (ax,) = display.axes_
    assert ax.get_xscale() == scale and tick_texts(ax.xaxis) == names
    assert png(display)
    check_room(ax, ax.xaxis)


def test_parameters_of_some_candidates_only():
    grids = [{"solver": ["adam"], "beta_1": [0.9, 0.99]}, {"solver": ["sgd"]}]
    display = SearchDisplay(results(list(ParameterGrid(grids)))).plot()
    assert display.varying == ["beta_1", "solver"]
    assert tick_texts(display.axes_[0].xaxis) == ["0.9", "0.99", "not set"]


@pytest.mark.slow
@pytest.mark.parametrize("n_candidates", [2, 60, 500])
def test_many_candidates_stay_readable(n_candidates):
    params = list(ParameterSampler(RANDOM, n_candidates, random_state=1))
    for i, candidate in enumerate(params):
        candidate["words"] = f"a very long value that ends in {i % 9}"
        candidate["sizes"] = (i % 97, 7)
        candidate["number"] = None if i % 5 == 4 else i**2
    display = SearchDisplay(results(params)).plot()
    assert png(display)
    for ax in display.axes_:
        check_room(ax, ax.xaxis)
        assert len(drawn_points(ax)) >= 0.8 * n_candidates
    for i, ax in enumerate(display.axes_):
        box = ax.get_tightbbox()
        assert not any(box.overlaps(other.get_tightbbox()) for other in display.axes_[i + 1 :])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 2), (12, 20), (40, 25)])
def test_heat_maps_stay_readable(shape):
    grid = {"alpha": np.geomspace(1e-8, 1, shape[0]), "word": [f"{'long' * 9} {i}" for i in
            range(shape[1])]}  # fmt: skip
    display = SearchDisplay(results(list(ParameterGrid(grid)))).plot()
    assert png(display)
    (ax,) = display.axes_
    assert len(ax.texts) == (shape[0] * shape[1] if shape[0] <= 12 else 0)
    check_room(ax, ax.xaxis)
    check_room(ax, ax.yaxis)
    renderer = display.figure_.canvas.get_renderer()
    boxes = sorted((text.get_window_extent(renderer) for text in ax.texts), key=lambda b: b.x0)
    row = [box for box in boxes if abs(box.y0 - boxes[0].y0) < 2]
    assert all(left.x1 < right.x0 for left, right in pairwise(row))


def test_curves_of_candidates():
    params = [{"alpha": 1.0, "hidden_layer_sizes": (50, 10)}, {"alpha": 0.1}, {"alpha": 0.01}]
    histories = histories_of([(4, 2), (3, 3), (0, 0)])
    for fit in histories[1]:
        fit["val_score"] = [0.1, np.nan, 0.3]
    display = SearchDisplay(results(params, [0.8, 0.7, np.nan]), histories=histories)
    (ax,) = display.plot(kind="curves").axes_
    second, best = (line.get_ydata().tolist() for line in ax.get_lines())
    assert second == [1, 1 / 2, 1 / 3]
    assert best == [1, 1 / 2, (1 / 3 + 1 / 2) / 2, (1 / 4 + 1 / 2) / 2]  # one stopped at 2
    assert key(display.figure_) == [
        "1 of 3 scores is left out: fits failed",
        "best: 0.800 ± 0.010\nalpha=1, hidden_layer_sizes=(50, 10)",
    ]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "training loss, mean over splits")
    assert "mean test score" in [place.get_ylabel() for place in display.figure_.axes]
    assert png(display)
    display.plot(kind="curves", curve="val_score")
    (line,) = display.axes_[0].get_lines()
    assert line.get_xydata().tolist() == [[1, 0.1], [3, 0.3]]
    assert key(display.figure_)[1] == "1 of 3 candidates has no such curve"
    assert png(display)


def test_curves_of_a_search(digits):
    search = fitted(GridSearchCV(SMALL, {"alpha": [1e-4, 1.0]}, cv=2), digits)
    with pytest.raises(ValueError, match="needs the history of every fit, got none: .*fastmlp.mod"):
        SearchDisplay.from_estimator(search, kind="curves")
    search.fit_histories_ = histories_of([(2, 2), (2, 3)])
    display = SearchDisplay.from_estimator(search, kind="curves")
    assert len(display.axes_[0].get_lines()) == 2
    message = "got 'val_loss': they recorded 'loss'; validation needs early_stopping or X_val"
    with pytest.raises(ValueError, match=message):
        SearchDisplay.from_estimator(search, kind="curves", curve="val_loss")


@pytest.mark.slow
@pytest.mark.parametrize("n_candidates", [1, 200])
def test_many_curves_stay_readable(n_candidates):
    params = list(ParameterSampler(RANDOM, n_candidates, random_state=0))
    histories = histories_of([(30, 20 + i % 20, 0) for i in range(n_candidates)])
    histories[-1][0]["loss"][3] = np.inf
    display = SearchDisplay(results(params), histories=histories).plot(kind="curves")
    assert png(display)
    legend = display.axes_[0].get_legend().get_window_extent()
    assert legend.x0 >= 0 and legend.x1 <= display.figure_.bbox.x1
    assert not legend.overlaps(display.axes_[0].get_window_extent())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SearchDisplay.from_estimator(SMALL, kind="loss"), ValueError,
         "kind must be 'scores' or 'curves', got 'loss'"),
        (lambda: SearchDisplay.from_estimator(GridSearchCV(SMALL, {})), NotFittedError,
         "GridSearchCV instance is not fitted"),
        (lambda: SearchDisplay.from_estimator(SMALL), ValueError,
         "search must be a fitted GridSearchCV, .*, got MLPClassifier"),
        (lambda: SearchDisplay({"alpha": [1]}), ValueError, r"got the keys \['alpha'\]"),
        (lambda: SearchDisplay(results([{}]), metric="f1"), ValueError,
         "metric must be 'score', which the search has, got 'f1'"),
        (lambda: SearchDisplay(results([{}]), histories=[]), ValueError,
         "an entry for each of 1 candidates, got 0"),
    ],
)  # fmt: skip
def test_what_is_no_search(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.slow
def test_a_search_within_an_axes():
    figure = Figure(figsize=(12, 9), layout="constrained")
    places = figure.subplots(2, 2)
    params = list(ParameterSampler(RANDOM, 9, random_state=0))
    display = SearchDisplay(results(params), histories=histories_of([(5, 4)] * 9))
    panels = display.plot(places[0, 0]).axes_
    curves = display.plot(places[0, 1], kind="curves").axes_[0]
    grid = list(ParameterGrid({"alpha": [1, 2], "beta_1": [0.8, 0.9]}))
    heat_map = SearchDisplay(results(grid)).plot(places[1, 0]).axes_[0]
    assert curves is places[0, 1] and heat_map is places[1, 0]
    assert png(display) and display.figure_ is figure
    for ax in panels:  # top left
        assert ax.get_position().x1 < curves.get_position().x0
        assert ax.get_position().y0 > heat_map.get_position().y1


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
        lambda: SearchDisplay.from_estimator(None),
        SearchDisplay(results([{}])).plot,
        DigitDisplay(np.zeros((1, 4))).plot,
    ):
        with pytest.raises(ValueError, match=r"needs? matplotlib: pip install 'fastmlp\[plot\]'\."):
            draw()


@pytest.mark.slow
def test_holding_what_is_to_be_seen_needs_no_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from fastmlp.displays import ConfusionDisplay, MistakesDisplay, DigitDisplay\n"
        "from fastmlp.displays import SearchDisplay\n"
        "SearchDisplay({'params': [{}], 'mean_test_score': [1]})\n"
        "print(ConfusionDisplay([[1, 2], [0, 1]]).pairs_)\n"
        "print(MistakesDisplay([[0], [0]], [1, 2], [2, 2]).indices, DigitDisplay([[1]]).images)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[(0, 1, 2)]\n[0] [[[1]]]\n"
