"""Dropout, augmentation, smoothed labels and the squared error, from a user's point of view."""

import numpy as np
import oracle
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone

from fastmlp import MLPClassifier, MLPRegressor, backends, persistence
from fastmlp.augment import RandomAffine, RandomNoise
from fastmlp.core.random_bits import Dropout
from fastmlp.datasets import load_digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

(DIGITS, LABELS), (TEST_DIGITS, TEST_LABELS) = load_digits()
DIGITS, TEST_DIGITS = (X.reshape(len(X), -1) for X in (DIGITS, TEST_DIGITS))


def classifier(**parameters):
    defaults = {"hidden_layer_sizes": (20, 10), "max_iter": 5, "random_state": 1}
    return MLPClassifier(**{**defaults, "input_scale": 1 / 16, **parameters})


def weights(model):
    return np.concatenate([v.ravel() for v in [*model.coefs_, *model.intercepts_]])


class TestDropout:
    @pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
    def test_weights_are_those_of_the_bare_algorithm(self, backend, estimator):
        """A fit of the oracle, with the seed that the documented order of draws gives."""
        rng = np.random.RandomState(0)
        X, y = rng.standard_normal((12, 3)), rng.randint(0, 2, 12)
        rates = (0.25, 0.5)
        model = estimator(
            hidden_layer_sizes=(5, 4), dropout=rates, max_iter=3, batch_size=5, random_state=7,
            backend=backend, shuffle=False, alpha=0.1,
        ).fit(X, y)  # fmt: skip
        untrained = clone(model).set_params(max_iter=1, learning_rate_init=1e-300).fit(X, y)
        low, high = self.seed_of(untrained)
        coefs = [W.astype(float) for W in untrained.coefs_]
        intercepts = [b.astype(float) for b in untrained.intercepts_]
        adam = oracle.Adam(1e-3, 0.9, 0.999, 1e-8)
        for epoch in (1, 2, 3):
            loss = oracle.train_epoch(
                coefs, intercepts, "relu", model.out_activation_, 0.1, X, y[:, np.newaxis],
                np.arange(12), 5, adam, None, False, (rates, low + (high << 32), epoch),
            )  # fmt: skip
            assert model.loss_curve_[epoch - 1] == pytest.approx(loss / 12, rel=1e-9)
        np.testing.assert_allclose(
            weights(model), np.concatenate([v.ravel() for v in coefs + intercepts]), rtol=1e-8
        )

    @staticmethod
    def seed_of(model):
        """Draw what fit draws: weights and intercepts layer by layer, then the seed."""
        rng = np.random.RandomState(model.random_state)
        for W, b in zip(model.coefs_, model.intercepts_, strict=True):
            rng.uniform(size=W.size)
            rng.uniform(size=b.size)
        return (int(word) for word in rng.randint(0, 2**32, size=2, dtype=np.uint64))

    @pytest.mark.slow
    def test_backends_and_threads_agree(self):
        fits = [
            classifier(dropout=0.5, backend=name, n_threads=n, dtype="float64", augment=augment)
            for augment in (None, RandomNoise(0.1))
            for name in backends.available()
            if name != "cuda"
            for n in (1, 2)
        ]
        fitted = [weights(model.fit(DIGITS, LABELS)) for model in fits]
        half = len(fits) // 2
        for group in (fitted[:half], fitted[half:]):
            for other in group[1:]:
                np.testing.assert_allclose(other, group[0], rtol=1e-7, atol=1e-9)
        assert not np.allclose(fitted[0], fitted[half], rtol=1e-3)

    def test_none_of_it_at_predict_and_of_zero_nothing_at_all(self):
        model = classifier(dropout=0.5).fit(DIGITS, LABELS)
        probabilities = model.predict_proba(TEST_DIGITS)
        np.testing.assert_array_equal(model.predict_proba(TEST_DIGITS), probabilities)
        without = [classifier(dropout=p).fit(DIGITS, LABELS) for p in (0, 0.0, [0, 0.0])]
        for other in without[1:]:
            np.testing.assert_array_equal(weights(other), weights(without[0]))
        assert not np.array_equal(weights(model), weights(without[0]))

    def test_every_epoch_and_every_partial_fit_has_masks_of_its_own(self, monkeypatch):
        seen = []
        monkeypatch.setattr(
            Dropout, "threshold", lambda self, layer: seen.append((self.epoch, self.seed)) or 2**31
        )
        model = classifier(dropout=0.5, backend="numpy", hidden_layer_sizes=(8,), max_iter=2)
        model.fit(DIGITS[:50], LABELS[:50])
        model.partial_fit(DIGITS[:50], LABELS[:50])
        assert [epoch for epoch, _ in seen] == [1, 2, 3]

    @pytest.mark.slow
    def test_it_regularises(self):
        few = slice(0, 200)
        plain, dropped = (
            classifier(
                hidden_layer_sizes=(200,), max_iter=500, dropout=p, n_iter_no_change=500
            ).fit(DIGITS[few], LABELS[few])
            for p in (0.0, 0.5)
        )
        assert dropped.loss_ > plain.loss_  # it is harder to learn by heart ...
        assert dropped.score(TEST_DIGITS, TEST_LABELS) >= plain.score(TEST_DIGITS, TEST_LABELS)

    def test_a_warm_start_keeps_the_layers_that_have_it(self, backend):
        rates = (0.2, 0.5)
        model = classifier(dropout=rates, warm_start=True, backend=backend).fit(DIGITS, LABELS)
        model.set_params(hidden_layer_sizes=(20,))
        with pytest.warns(UserWarning, match="hidden layers .20, 10. of the first fit are kept"):
            model.fit(DIGITS, LABELS)
        model.set_params(dropout=(0.5,))
        with (
            pytest.warns(UserWarning, match="are kept"),
            pytest.raises(ValueError, match="each of the 2 hidden layers"),
        ):
            model.fit(DIGITS, LABELS)

    @pytest.mark.parametrize(
        "rate", [-0.1, 1.0, [0.5], [0.5, 1.0], [0.1, 0.2, 0.3], "half", ["a", 0]]
    )
    def test_what_is_no_probability_is_refused(self, rate):
        with pytest.raises(ValueError, match=r"dropout.* (must be a|2 hidden layers; got)"):
            classifier(dropout=rate).fit(DIGITS, LABELS)


class TestSquaredError:
    def test_classes(self):
        model = classifier(loss="squared_error", max_iter=200, tol=0).fit(DIGITS, LABELS)
        assert model.out_activation_ == "logistic"
        assert model.n_outputs_ == 10
        assert model.score(TEST_DIGITS, TEST_LABELS) > 0.85
        probabilities = model.predict_proba(TEST_DIGITS)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(
            model.predict(TEST_DIGITS), model.classes_[probabilities.argmax(axis=1)]
        )

    def test_loss_is_half_the_mean_squared_error(self):
        model = classifier(
            loss="squared_error", max_iter=1, batch_size=2000, alpha=0, learning_rate_init=1e-12
        )
        with pytest.warns(UserWarning, match="batch_size"):
            model.fit(DIGITS, LABELS)
        outputs = model._forward_pass_fast(DIGITS)
        expected = 0.5 * ((outputs - np.eye(10)[LABELS]) ** 2).mean()
        assert model.loss_ == pytest.approx(expected, rel=1e-5)

    def test_two_classes_and_several_labels(self):
        binary = classifier(loss="squared_error").fit(DIGITS, LABELS > 4)
        assert binary.predict_proba(TEST_DIGITS).shape == (len(TEST_DIGITS), 2)
        several = np.column_stack([LABELS > 4, LABELS % 2 == 0]).astype(int)
        multilabel = classifier(loss="squared_error", max_iter=40).fit(DIGITS, several)
        assert (multilabel.predict(DIGITS) == several).mean() > 0.9

    @pytest.mark.slow
    def test_lbfgs(self):
        """The line search fails if the gradient is not that of the loss."""
        model = classifier(solver="lbfgs", loss="squared_error", max_iter=300, tol=1e-6)
        model.set_params(activation="tanh")
        model.fit(DIGITS, LABELS)
        assert model.n_iter_ > 150
        assert model.score(DIGITS, LABELS) > 0.95

    @pytest.mark.parametrize("y", [LABELS, LABELS > 4], ids=["ten classes", "two"])
    @pytest.mark.parametrize(
        ("first", "then"), [("log_loss", "squared_error"), ("squared_error", "log_loss")]
    )
    def test_a_warm_start_keeps_the_loss(self, tmp_path, first, then, y):
        model = classifier(loss=first, warm_start=True).fit(DIGITS, y)
        activation, loss = model.out_activation_, model.loss_
        model.set_params(loss=then)
        with pytest.warns(UserWarning, match=f"loss '{first}' of the first fit is kept; loss="):
            model.fit(DIGITS, y)
        assert model.out_activation_ == activation
        assert loss / 2 < model.loss_ < loss
        persistence.save(model, tmp_path / "model.npz")
        loaded = persistence.load(tmp_path / "model.npz")
        np.testing.assert_array_equal(loaded.predict_proba(DIGITS), model.predict_proba(DIGITS))
        with pytest.warns(UserWarning, match=f"loss '{first}' of the first fit is kept; loss="):
            loaded.fit(DIGITS, y)

    def test_crossing_over_to_scikit_learn(self):
        model = classifier(loss="squared_error").fit(DIGITS, LABELS)
        np.testing.assert_array_equal(
            model.to_sklearn().predict(TEST_DIGITS), model.predict(TEST_DIGITS)
        )


class TestLabelSmoothing:
    def targets(self, y, **parameters):
        """Return what a network is trained on."""
        model = classifier(**parameters).fit(DIGITS[: len(y)], y)
        return model._targets(model._label_binarizer.transform(y).astype(bool), np.dtype(float))

    def test_softmax(self):
        Y = self.targets(LABELS, label_smoothing=0.2)
        np.testing.assert_allclose(Y, 0.02 + 0.8 * np.eye(10)[LABELS], rtol=1e-12)
        Y = self.targets(LABELS, label_smoothing=(0.01, 0.91))
        np.testing.assert_allclose(Y, 0.01 + 0.9 * np.eye(10)[LABELS], rtol=1e-12)

    def test_logistic(self):
        is_odd = LABELS % 2
        np.testing.assert_allclose(
            self.targets(is_odd, label_smoothing=0.2)[:, 0], 0.1 + 0.8 * is_odd
        )
        Y = self.targets(LABELS, label_smoothing=(0.01, 0.99), loss="squared_error")
        np.testing.assert_allclose(Y, 0.01 + 0.98 * np.eye(10)[LABELS])

    def test_independent_outputs(self):
        Y = self.targets(LABELS, label_smoothing=0.3, loss="squared_error")
        np.testing.assert_allclose(Y, 0.15 + 0.7 * np.eye(10)[LABELS])

    @pytest.mark.parametrize("pair", [(0.6, 0.9), (0.0, 0.4)])
    def test_targets_of_two_classes_lie_on_both_sides_of_one_half(self, pair):
        with pytest.raises(ValueError, match="one target below and one above 0.5"):
            classifier(label_smoothing=pair).fit(DIGITS, LABELS > 4)

    def test_validation_loss_has_the_same_targets(self):
        model = classifier(label_smoothing=0.3, max_iter=1, learning_rate_init=1e-12, alpha=0)
        model.set_params(loss="squared_error", batch_size=len(DIGITS))
        model.fit(DIGITS, LABELS, X_val=DIGITS, y_val=LABELS)
        assert model.history_["val_loss"][0] == pytest.approx(model.loss_, rel=1e-6)
        assert model.history_["val_score"][0] == model.score(DIGITS, LABELS)

    @pytest.mark.slow
    def test_confidence_is_bounded(self):
        smooth, plain = (
            classifier(label_smoothing=s, max_iter=150, tol=0).fit(DIGITS, LABELS) for s in (0.2, 0)
        )
        assert smooth.predict_proba(DIGITS).max(axis=1).mean() < 0.9
        assert plain.predict_proba(DIGITS).max(axis=1).mean() > 0.95

    @pytest.mark.parametrize(
        ("smoothing", "words"),
        [
            (1.0, "label_smoothing"),
            (np.float64(1.5), "label_smoothing"),
            (np.float64(-0.1), "label_smoothing"),
            (np.array(0.1), "label_smoothing"),
            ({0.1, 0.9}, "label_smoothing"),
            ((0.9, 0.1), "0 <= off < on <= 1"),
            ((0.1,), "0 <= off < on <= 1"),
            ((0.1, "b"), "0 <= off < on <= 1"),
            (
                (0.01, 0.99),
                r"10 classes targets that sum to 1.08, but their outputs sum to 1; pass",
            ),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, smoothing, words):
        with pytest.raises(ValueError, match=words):
            classifier(label_smoothing=smoothing).fit(DIGITS, LABELS)


class TestAugment:
    def test_few_images_at_a_time(self):
        """A batch may be more, but the whole set, augmented, may not fit the memory."""
        n_rows = []
        X, y = np.tile(DIGITS, (4, 1)), np.tile(LABELS, 4)
        classifier(augment=lambda X: n_rows.append(len(X)) or X, max_iter=1).fit(X, y)
        assert sum(n_rows) >= len(X) > 4096 >= max(n_rows)

    def test_it_is_training_on_the_augmented_images(self, backend):
        """Each epoch, written out: the images of that epoch in the order of the epoch."""
        augment = RandomAffine(rotate=10, shift=1, zoom=0.1)
        model = classifier(augment=augment, max_iter=2, backend=backend, shuffle=False)
        model.fit(DIGITS, LABELS)
        seed = sum(v << s for v, s in zip(TestDropout.seed_of(model), (0, 32), strict=True))
        epochs = [augment(DIGITS, seed=seed, epoch=epoch) for epoch in (1, 2)]
        assert not np.array_equal(*epochs)
        steps = classifier(backend=backend, shuffle=False, max_iter=1)
        for images in epochs:
            steps.partial_fit(images, LABELS, classes=range(10))
        np.testing.assert_allclose(weights(steps), weights(model), rtol=1e-6, atol=1e-7)

    def test_parts_change_nothing(self, monkeypatch):
        model = classifier(augment=RandomNoise(0.2), batch_size=50, dropout=0.2, max_iter=3)
        monkeypatch.setattr("fastmlp.training.passes._AUGMENTED_ROWS", 10**6)
        whole = clone(model).fit(DIGITS, LABELS, sample_weight=1.0 + LABELS)
        monkeypatch.setattr("fastmlp.training.passes._AUGMENTED_ROWS", 100)
        parts = clone(model).fit(DIGITS, LABELS, sample_weight=1.0 + LABELS)
        np.testing.assert_array_equal(weights(parts), weights(whole))
        assert parts.loss_curve_ == pytest.approx(whole.loss_curve_, rel=1e-12)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
    def test_a_function(self, dtype):
        seen = []

        def flip(images):
            seen.append((images.dtype, images.shape[1]))
            return images[:, ::-1]

        X = DIGITS.astype(dtype)
        model = classifier(augment=flip).fit(X, LABELS)
        assert set(seen) == {(np.dtype(dtype), 64)}
        np.testing.assert_array_equal(X, DIGITS)
        twin = classifier().fit(X[:, ::-1], LABELS)  # of other draws, but of the same data
        assert model.score(X[:, ::-1], LABELS) > model.score(X, LABELS)
        assert abs(model.loss_ - twin.loss_) < 0.5 * twin.loss_

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda X: X[:, :5], r"uint8 of shape \(1, 64\), got uint8 of shape \(1, 5\)"),
            (lambda X: X / 2, "got float64 of shape"),
            (lambda X: None, "got an object of type NoneType"),
        ],
    )
    def test_what_is_no_image_any_more_is_refused(self, function, words):
        n = 1078
        with pytest.raises(ValueError, match=f"augment must return an array .*{words}"):
            classifier(augment=function, batch_size=n).fit(DIGITS[:n], LABELS[:n])

    @pytest.mark.parametrize(
        "refused", [lambda X: X[:, :3], RandomAffine(image_shape=(7, 9)), RandomAffine]
    )
    def test_a_refused_fit_leaves_the_model_as_it_was(self, refused):
        model = classifier().fit(DIGITS, LABELS)
        before = weights(model)
        with pytest.raises(ValueError, match=r"augment must|image_shape"):
            model.set_params(augment=refused).fit(DIGITS, LABELS)
        np.testing.assert_array_equal(weights(model), before)
        new = classifier(augment=refused)
        with pytest.raises(ValueError, match=r"augment must|image_shape"):
            new.partial_fit(DIGITS, LABELS, classes=range(10))
        assert not hasattr(new, "classes_")

    def test_sparse_rows_are_refused(self):
        with pytest.raises(ValueError, match=r"augment needs dense X.* pass X.toarray\(\)"):
            classifier(augment=np.copy).fit(csr_matrix(DIGITS / 16), LABELS)

    def test_validation_data_stay_as_they_are(self):
        model = classifier(augment=lambda X: np.zeros_like(X), early_stopping=True)
        model.fit(DIGITS, LABELS, X_val=TEST_DIGITS, y_val=TEST_LABELS)
        assert model.validation_scores_[-1] == model.score(TEST_DIGITS, TEST_LABELS)

    @pytest.mark.slow
    @pytest.mark.mnist
    def test_it_generalises(self, mnist):
        (X, y), (X_test, y_test) = ((X.reshape(len(X), -1), y) for X, y in mnist)
        plain, augmented = (
            MLPClassifier(max_iter=30, input_scale=1 / 255, random_state=0, augment=augment)
            .fit(X[:3000], y[:3000])
            .score(X_test, y_test)
            for augment in (None, RandomAffine(rotate=10))
        )
        assert augmented > plain + 0.01  # 0.939 and 0.916
