"""Trials of Optuna are pruned after the epochs that its pruner says, and no others."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.optuna import PruningCallback
from fastmlp.training import Observer, observing

optuna = pytest.importorskip("optuna")

X, Y = load_digits(return_X_y=True)
X, Y = X[:400] / 16, Y[:400]
DATA = {"X_val": X[300:], "y_val": Y[300:]}
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]
with_callbacks = pytest.mark.skipif(
    not hasattr(MLPClassifier, "set_callbacks"), reason="callbacks came with scikit-learn 1.9"
)


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def study_of(objective, rates, direction, pruner=None):
    """Run a trial for each learning rate."""
    pruner = pruner or optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=2)
    study = optuna.create_study(direction=direction, pruner=pruner)
    for rate in rates:
        study.enqueue_trial({"rate": rate})
    study.optimize(objective, n_trials=len(rates))
    return study


def model_of(trial, estimator=MLPClassifier, **parameters):
    rate = trial.suggest_float("rate", 1e-6, 1.0, log=True)
    return estimator(
        hidden_layer_sizes=12, learning_rate_init=rate, max_iter=8, random_state=0,
        n_iter_no_change=8, **parameters,
    )  # fmt: skip


@with_callbacks
@pytest.mark.parametrize("monitor", ["val_score", "val_loss", "loss"])
def test_a_bad_trial_is_pruned_and_a_good_one_is_not(monitor):
    models = []

    def objective(trial):
        model = model_of(trial).set_callbacks(PruningCallback(trial, monitor))
        models.append(model)
        return model.fit(X[:300], Y[:300], **DATA).history_[monitor][-1]

    direction = "maximize" if monitor == "val_score" else "minimize"
    study = study_of(objective, [1e-3, 1e-6, 5e-3], direction)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED", "COMPLETE"]
    for model, trial in zip(models, study.trials, strict=True):
        assert list(trial.intermediate_values) == list(range(1, model.n_iter_ + 1))
        assert list(trial.intermediate_values.values()) == model.history_[monitor]
    assert models[1].n_iter_ in (2, 3, 4)  # the first that the pruner looks at


def test_in_a_pipeline():
    def objective(trial):
        pipeline = make_pipeline(StandardScaler(), model_of(trial, early_stopping=True))
        with observing(PruningCallback(trial)):
            return pipeline.fit(X, Y).score(X, Y)

    study = study_of(objective, [1e-2, 1e-6], "maximize")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]


@pytest.mark.filterwarnings("ignore::fastmlp.exceptions.FastMLPWarning")
def test_a_diverging_trial_is_pruned():
    def objective(trial):
        model = model_of(trial, MLPRegressor, solver="sgd", activation="identity")
        with observing(PruningCallback(trial, "loss")):
            return model.fit(1e6 * X, 1e9 * Y).loss_

    with np.errstate(all="ignore"):
        study = study_of(objective, [1.0], "minimize", optuna.pruners.NopPruner())
    assert [trial.state.name for trial in study.trials] == ["PRUNED"]


def test_without_validation_data():
    trial = optuna.create_study().ask()
    with (
        observing(PruningCallback(trial)),
        pytest.raises(ValueError, match="monitor='val_score' needs validation data: pass X_val"),
    ):
        MLPClassifier(max_iter=2).fit(X, Y)


def test_an_unknown_monitor():
    with pytest.raises(ValueError, match=r"monitor must be one of \['loss', 'val_loss', 'val_sc"):
        PruningCallback(None, "accuracy")


def test_without_optuna():
    script = (
        "import sys; sys.modules['optuna'] = None\n"
        "from fastmlp.optuna import PruningCallback\n"
        "try: PruningCallback(None)\n"
        "except ImportError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == (
        "PruningCallback needs Optuna, which is not installed: pip install optuna\n"
    )


@with_callbacks
def test_any_observer_is_a_callback():
    """Of its estimator only, and of its clones."""

    class Counting(Observer):
        def __init__(self):
            self.epochs = []

        def epoch_ended(self, fit, report):
            self.epochs.append(report.epoch)
            return report.epoch == 3

    observer = Counting()
    model = MLPClassifier(max_iter=5).set_callbacks(observer).fit(X, Y)
    MLPClassifier(max_iter=1).fit(X, Y)
    assert observer.epochs == [1, 2, 3] and model.n_iter_ == 3
