"""TTAClassifier: the mean over augmented copies, the same for an image whatever is beside it."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp
from fastmlp import MLPClassifier, MLPEnsemble, TTAClassifier
from fastmlp.augment import ElasticDistortion, RandomAffine, RandomDeskew, RandomFlip, RandomNoise

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::fastmlp.exceptions.ConstantFeatureWarning"),
]

X, Y = load_digits(return_X_y=True)
X, Y = (X[:300] * 15.9).astype(np.uint8), Y[:300]
AUGMENT = RandomAffine(rotate=10, shift=0.5) + ElasticDistortion(alpha=4, sigma=2)


class Own(RandomAffine):
    """A user's own augmentation."""


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


def test_it_is_described_as_its_network(trained):
    from fastmlp.portable import about

    expected = about(trained, "digits")
    assert expected["shape"] == [8, 8]
    for estimator in (network(), FrozenEstimator(trained), MLPEnsemble(network(), 2)):
        found = about(TTAClassifier(estimator, n_copies=1).fit(X, Y), "digits")
        assert found | {"card": expected["card"]} == expected


def test_the_default_is_half_of_the_network_s_own():
    half = RandomAffine(rotate=5, shift=0.25, zoom=0.05) + ElasticDistortion(alpha=2, sigma=2)
    frozen = FrozenEstimator(network().fit(X, Y))
    pipeline = make_pipeline(FunctionTransformer(), network())
    for estimator in (network(), MLPEnsemble(network(), 2), frozen, pipeline):
        model = TTAClassifier(estimator, n_copies=1).fit(X, Y)
        assert model.augment_ == half
        assert model.augment is None
    for own, kind in ((None, "None"), (lambda X: X, "a function")):
        with pytest.raises(ValueError, match=f"the estimator's own is {kind}, of which half"):
            TTAClassifier(network(augment=own)).fit(X, Y)


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
        ({"n_copies": 0}, r"n_copies must be an integer from 1 to 2\*\*32 - 1, got 0."),
        ({"n_copies": 2.0}, "n_copies must be an integer from 1 to .*, got 2.0."),
        ({"n_copies": True}, "n_copies must be an integer from 1 to .*, got True."),
        ({"random_state": -1}, "random_state must be an integer from 0 to .*, got -1."),
        ({"random_state": None}, "random_state must be an integer from 0 to .*, got None."),
        ({"random_state": 2**64}, r"random_state must be an integer from 0 to 2\*\*64 - 1, got"),
        ({"augment": RandomAffine}, r"augment must be an object, got the class; pass Random"),
        ({"augment": lambda X: X / 255}, "augment must return an array of the same shape and dty"),
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
    with pytest.raises(ValueError, match="y must hold one label"):
        model.fit(X, np.column_stack([Y, Y]))
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(ValueError, match="y must hold one label per image, got 2 columns"):
        model.fit(X, np.column_stack([Y > 4, Y > 2]))
    with pytest.raises(ValueError, match="image_shape"):  # before training: not a square
        TTAClassifier(network()).fit(X[:, :63], Y)


def test_functions_cannot_change_the_caller_s_images(trained):
    def brighter(images):
        images += 1
        return images

    images = X.copy()
    model = TTAClassifier(FrozenEstimator(trained), brighter, n_copies=3).fit(images, Y)
    np.testing.assert_allclose(model.predict_proba(images), trained.predict_proba(X + 1), rtol=1e-5)
    np.testing.assert_array_equal(images, X)
    with pytest.raises(ValueError, match="augment must return an array of the same shape"):
        model.set_params(augment=lambda X: X[:1]).fit(X, Y).predict(X)


def test_the_augmentation_of_what_was_chosen_is_found():
    weak, strong = RandomAffine(rotate=2), RandomAffine(rotate=20)
    search = GridSearchCV(network(augment=strong), {"augment": [weak]}, cv=2).fit(X, Y)
    nested = make_pipeline(FunctionTransformer(), make_pipeline(MLPEnsemble(network(), 2)))
    for estimator, augment in [(FrozenEstimator(search), weak), (nested, AUGMENT)]:
        assert TTAClassifier(estimator, n_copies=1).fit(X, Y).augment_ == augment.scaled(0.5)


def test_frozen_models_that_do_not_suit_the_data(trained):
    with pytest.raises(ValueError, match="X must have 64 pixels, as estimator was trained on"):
        TTAClassifier(FrozenEstimator(trained)).fit(X[:, :49].copy(), Y)
    with pytest.raises(ValueError, match="y must hold labels that estimator was trained on, got "):
        TTAClassifier(FrozenEstimator(trained)).fit(X, Y + 100)
    labels = network().fit(X, np.column_stack([Y > 4, Y > 2]))
    with pytest.raises(ValueError, match="must predict one label per image, got a multilabel"):
        TTAClassifier(FrozenEstimator(labels)).fit(X, Y > 4)
    with pytest.raises(TypeError, match="estimator must have predict_proba.*, got LinearSVC"):
        TTAClassifier(LinearSVC(), AUGMENT).fit(X, Y)


def test_threads_are_the_network_s(trained, monkeypatch):
    used = []

    def apply(augment, images, **options):
        used.append(options["n_threads"])
        return images

    monkeypatch.setattr("fastmlp.estimators.tta.apply", apply)
    network = clone(trained).set_params(n_threads=1).fit(X, Y)
    TTAClassifier(FrozenEstimator(network), n_copies=2).fit(X, Y).predict(X)
    assert used == [1, 1]


@pytest.mark.parametrize("augment", [RandomAffine(rotate=np.int64(3)), Own(rotate=3)])
def test_files_of_odd_augmentations(augment, trained, tmp_path):
    model = TTAClassifier(FrozenEstimator(trained), augment, n_copies=2).fit(X, Y)
    trusted = []
    if isinstance(augment, Own):
        trusted = [f"{Own.__module__}.Own"]
        with pytest.warns(fastmlp.exceptions.ModelFileWarning, match="parts that fastmlp does not"):
            fastmlp.save(model, tmp_path / "model.skops")
    else:
        fastmlp.save(model, tmp_path / "model.skops")
    copy = fastmlp.load(tmp_path / "model.skops", trusted=trusted)
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))


class TestScaled:
    def test_all_ranges_are(self):
        step = RandomAffine(rotate=10, shift=2, zoom=0.2, shear=4, image_shape=(2, 3))
        half = RandomAffine(rotate=5, shift=1, zoom=0.1, shear=2, image_shape=(2, 3))
        assert step.scaled(0.5) == half
        assert ElasticDistortion(alpha=4, sigma=2).scaled(2) == ElasticDistortion(alpha=8, sigma=2)
        for same in (RandomDeskew(0.5), RandomFlip(0.5)):
            assert same.scaled(0.1) == same
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
