"""The published run on the real MNIST files, to the last printed digit."""

import numpy as np
import pytest

from fastmlp import InputScaleWarning, MLPClassifier, backends

pytestmark = [
    pytest.mark.mnist,
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
]

PARAMETERS = {
    "hidden_layer_sizes": (50,),
    "alpha": 1e-4,
    "solver": "sgd",
    "random_state": 1,
    "learning_rate_init": 0.1,
}
LOSSES = [
    "0.32009978", "0.15347534", "0.11544755", "0.09279764", "0.07889367",
    "0.07170497", "0.06282111", "0.05530788", "0.04960484", "0.04645355",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("as_bytes", [False, True], ids=["divided", "bytes"])
def test_published_losses(mnist, backend, as_bytes):
    (X, y), (X_test, y_test) = mnist
    scale = {"input_scale": 1 / 255, "dtype": "float64"} if as_bytes else {}
    if not as_bytes:
        X, X_test = X / 255.0, X_test / 255.0
    # All epochs once; on other data, every backend is compared with scikit-learn.
    is_whole = backend == backends.resolve("auto") and not as_bytes
    n_epochs = 10 if is_whole else 1 if backend == "numpy" else 2
    model = MLPClassifier(**PARAMETERS, max_iter=n_epochs, backend=backend, **scale).fit(X, y)
    assert [f"{loss:.8f}" for loss in model.loss_curve_] == LOSSES[:n_epochs]
    if is_whole:
        assert round(model.score(X, y), 3) == 0.987
        assert round(model.score(X_test, y_test), 3) == 0.970


@pytest.mark.slow
@pytest.mark.few_backends
def test_unscaled_run_warns_and_gives_scikit_learns_losses(mnist, backend):
    (X, y), _ = mnist
    with pytest.warns(InputScaleWarning, match="span 0 to 255"):
        model = MLPClassifier(**PARAMETERS, max_iter=3, backend=backend).fit(
            X.astype(np.float64), y
        )
    assert [f"{loss:.8f}" for loss in model.loss_curve_] == [
        "88770.42594147", "94144.72785948", "94116.48942606",
    ]  # fmt: skip


@pytest.mark.slow
def test_float32_learns_as_well(mnist, backend):
    (X, y), (X_test, y_test) = mnist
    model = MLPClassifier(**PARAMETERS, max_iter=3, backend=backend, input_scale=1 / 255)
    assert model.fit(X, y).coefs_[0].dtype == np.float32
    assert model.score(X_test, y_test) == pytest.approx(0.9643, abs=0.001)
