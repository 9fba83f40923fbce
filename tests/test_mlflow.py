"""Models and curves in a real MLflow, whose store is a file of SQLite."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from fastmlp import MLPClassifier, MLPEnsemble, MLPRegressor, cards
from fastmlp.mlflow import EpochLogger, log_model
from fastmlp.training import observing

X = np.random.RandomState(0).normal(size=(80, 3))
Y = (X[:, 0] > 0).astype(int)


def test_without_mlflow_there_is_a_sentence():
    code = "import sys; sys.modules['mlflow'] = None; import fastmlp.mlflow as m; m.EpochLogger()"
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "fastmlp.mlflow needs MLflow, which is not installed" in failed.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestMLflow:
    @pytest.fixture
    def mlflow(self, tmp_path, monkeypatch):
        mlflow = pytest.importorskip("mlflow")
        pytest.importorskip("skops")
        monkeypatch.chdir(tmp_path)
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
        with mlflow.start_run():
            yield mlflow

    @pytest.mark.parametrize(
        "model",
        [
            MLPClassifier((4,), max_iter=5, early_stopping=True, random_state=0),
            make_pipeline(StandardScaler(), MLPEnsemble(MLPClassifier((4,), max_iter=5), 2)),
            MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs"),
        ],
        ids=["network", "ensemble", "lbfgs"],
    )
    def test_a_model_comes_back(self, model, mlflow):
        info = log_model(model.fit(X, Y))
        loaded = mlflow.sklearn.load_model(info.model_uri)
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
        assert info.metadata["card"]["model"] == cards.card(model)["model"]

    def test_unknown_types_are_named(self, mlflow):
        model = make_pipeline(FunctionTransformer(lambda_like), MLPClassifier((4,), max_iter=2))
        with pytest.raises(ValueError, match=r"got \['test_mlflow.lambda_like'\]: if you trust"):
            log_model(model.fit(X, Y))

    def test_every_epoch_is_logged(self, mlflow):
        model = MLPClassifier((4,), max_iter=7, early_stopping=True, random_state=0)
        with observing(EpochLogger(prefix="first/")):
            model.fit(X, Y)
        run_id = mlflow.active_run().info.run_id
        for name, wanted in {
            "loss": model.loss_curve_,
            "val_score": model.validation_scores_,
        }.items():
            history = mlflow.MlflowClient().get_metric_history(run_id, f"first/{name}")
            assert [entry.step for entry in history] == list(range(1, model.n_iter_ + 1))
            np.testing.assert_allclose([entry.value for entry in history], wanted)


def lambda_like(X):
    return X
