"""TTAClassifier: the mean over augmented copies, the same for an image whatever is beside it."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp
from fastmlp import MLPClassifier, MLPEnsemble, TTAClassifier
from fastmlp.augment import ElasticDistortion, RandomAffine, RandomNoise

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastmlp.exceptions.ConstantFeatureWarning"),
]

X, Y = load_digits(return_X_y=True)
X, Y = (X[:300] * 15.9).astype(np.uint8), Y[:300]
AUGMENT = RandomAffine(rotate=10, shift=0.5) + ElasticDistortion(alpha=4, sigma=2)


def network(**parameters):
    own = {"max_iter": 5, "random_state": 0, "input_scale": 1 / 255, "augment": AUGMENT}
    return MLPClassifier((16,), **own | parameters)


@pytest.fixture(scope="module")
def trained():
    return network().fit(X, Y)


@parametrize_with_checks(
    [TTAClassifier(MLPClassifier(random_state=0), RandomNoise(0.01), n_copies=2)]
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_conventions(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("augment", [AUGMENT, AUGMENT.scaled(2), RandomNoise(0.2, limits=(0, 255))])
def test_probabilities_are_the_mean_over_copies(trained, dtype, augment):
    images = X[:50].astype(dtype)
    model = TTAClassifier(FrozenEstimator(trained), augment, n_copies=3, random_state=7)
    # Each image alone is row 0 of its data set.
    expected = [
        sum(trained.predict_proba(augment(image, seed=7, epoch=copy)) for copy in range(3)) / 3
        for image in np.split(images, len(images))
    ]
    found = model.fit(X, Y).predict_proba(images)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-5)
    assert not np.allclose(found, trained.predict_proba(images), rtol=1e-3)
    np.testing.assert_array_equal(model.predict(images), model.classes_[found.argmax(axis=1)])
    np.testing.assert_array_equal(model.predict_log_proba(images), np.log(found))


def test_an_image_s_prediction_depends_on_nothing_else(trained, monkeypatch):
    model = TTAClassifier(FrozenEstimator(trained), n_copies=4).fit(X, Y)
    expected = model.predict_proba(X)
    np.testing.assert_array_equal(model.predict_proba(X[40:41]), expected[40:41])
    np.testing.assert_array_equal(model.predict_proba(X[::-1].copy())[::-1], expected)
    monkeypatch.setattr("fastmlp.estimators.tta._BLOCK", 7)
    np.testing.assert_array_equal(model.predict_proba(X), expected)


def test_the_default_is_half_of_the_network_s_own():
    half = RandomAffine(rotate=5, shift=0.25, zoom=0.05) + ElasticDistortion(alpha=2, sigma=2)
    frozen = FrozenEstimator(network().fit(X, Y))
    pipeline = make_pipeline(FunctionTransformer(), network())
    for estimator in (network(), MLPEnsemble(network(), 2), frozen, pipeline):
        model = TTAClassifier(estimator, n_copies=1).fit(X, Y)
        assert model.augment_ == half
        assert model.augment is None
    for estimator in (None, network(augment=None), network(augment=lambda X: X)):
        with pytest.raises(ValueError, match="of its own to take half of, got None: pass augment="):
            TTAClassifier(estimator).fit(X, Y)


def test_it_trains_a_copy_and_passes_on_fit_parameters():
    weight = np.where(Y < 5, 1.0, 0.0)
    model = TTAClassifier(network(), n_copies=2).fit(X, Y, sample_weight=weight, X_val=X, y_val=Y)
    alone = network().fit(X, Y, sample_weight=weight)
    np.testing.assert_array_equal(model.estimator_.coefs_[0], alone.coefs_[0])
    assert model.estimator_.history_["val_score"]
    assert not hasattr(model.estimator, "coefs_")


def test_functions_and_labels_of_text(trained):
    names = np.array([f"digit {label}" for label in Y])
    model = TTAClassifier(network(), lambda X: X[:, ::-1], n_copies=1).fit(X, names)
    flipped = model.estimator_.predict(np.ascontiguousarray(X[:, ::-1]))
    np.testing.assert_array_equal(model.predict(X), flipped)


def test_frames(trained):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(64)])
    model = TTAClassifier(network(), n_copies=2).fit(frame, Y)
    assert model.feature_names_in_[3] == "pixel3"
    np.testing.assert_array_equal(model.predict(frame), model.fit(X, Y).predict(X))


@pytest.mark.parametrize("kind", ["frozen", "network", "ensemble"])
def test_files_and_copies(kind, trained, tmp_path):
    made = {"frozen": FrozenEstimator(trained), "network": network()}
    estimator = made.get(kind, MLPEnsemble(network(), 2))
    model = TTAClassifier(estimator, n_copies=3).fit(X, Y)
    expected = model.predict_proba(X)
    fastmlp.save(model, tmp_path / "model.skops")
    for copy in (fastmlp.load(tmp_path / "model.skops"), pickle.loads(pickle.dumps(model))):
        assert copy.augment_ == model.augment_
        np.testing.assert_array_equal(copy.predict_proba(X), expected)
    assert not hasattr(clone(model), "estimator_")


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"n_copies": 0}, "n_copies must be an integer >= 1, got 0."),
        ({"n_copies": 2.0}, "n_copies must be an integer >= 1, got 2.0."),
        ({"n_copies": True}, "n_copies must be an integer >= 1, got True."),
        ({"random_state": -1}, "random_state must be an integer >= 0, got -1."),
        ({"random_state": None}, "random_state must be an integer >= 0, got None."),
        ({"augment": 0.5}, "augment must be an augmentation of fastmlp.augment, a function or"),
    ],
)
def test_invalid_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        TTAClassifier(network(), **parameters).fit(X, Y)


def test_invalid_data(trained):
    model = TTAClassifier(FrozenEstimator(trained))
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(ValueError, match="y must hold one label per image, got 2 columns"):
        model.fit(X, np.column_stack([Y > 4, Y > 2]))
    with pytest.raises(ValueError, match="image_shape"):  # before training: not a square
        TTAClassifier(network()).fit(X[:, :63], Y)


class TestScaled:
    def test_all_ranges_are(self):
        step = RandomAffine(rotate=10, shift=2, zoom=0.2, shear=4, image_shape=(2, 3))
        half = RandomAffine(rotate=5, shift=1, zoom=0.1, shear=2, image_shape=(2, 3))
        assert step.scaled(0.5) == half
        assert ElasticDistortion(alpha=4, sigma=2).scaled(2) == ElasticDistortion(alpha=8, sigma=2)
        noise = RandomNoise(0.1, probability=0.5, limits=(0, 1))
        assert noise.scaled(2) == RandomNoise(0.2, probability=0.5, limits=(0, 1))
        assert (step + noise).scaled(0.5) == half + noise.scaled(0.5)
        assert (step + noise).scaled(1) == step + noise

    def test_zero_changes_nothing(self):
        np.testing.assert_array_equal((AUGMENT + RandomNoise()).scaled(0)(X), X)

    @pytest.mark.parametrize(
        "factor, message",
        [(-1, "factor must be >= 0 and finite, got -1"), (10, "zoom must be a part, >= 0 and < 1")],
    )
    def test_refused(self, factor, message):
        with pytest.raises(ValueError, match=message):
            AUGMENT.scaled(factor)
