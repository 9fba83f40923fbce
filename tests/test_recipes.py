"""The recipes: each reaches its published accuracy, by the command and by its example."""

import ast
import os
import runpy
from pathlib import Path

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from typer.testing import CliRunner

from fastmlp import MLPClassifier, TTAClassifier, cli, datasets, recipes

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("0*.py"))


def test_fastmlp_recipes_lists_them_all():
    result = CliRunner().invoke(cli.app, ["recipes"])
    assert result.exit_code == 0
    for recipe in recipes.RECIPES.values():
        (line,) = (line for line in result.stdout.splitlines() if line.startswith(recipe.name))
        digits = 4 if recipe.ours > 0.99 else 3
        if recipe.published is None:
            assert line.split()[-1] == f"{recipe.ours:.{digits}f}"
            continue
        published, ours = line.split()[-2:]
        assert published == f"{recipe.published:.{digits}f}"
        assert ours == f"{recipe.ours:.{digits}f}"
        if recipe.name != "record":  # which is not there yet
            assert recipe.ours >= recipe.published


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("name", recipes.RECIPES)
def test_parameters_are_the_estimator_s(name, augment):
    recipe = recipes.get(name)
    parameters = recipe.estimator_parameters(augment)
    assert MLPClassifier(**parameters).get_params().items() >= parameters.items()
    assert ("augment" in parameters) == (augment or recipe.is_augmented)


def test_samples_are_set_aside_for_validation():
    X, y = np.arange(50_000)[:, np.newaxis], np.arange(50_000) % 10
    assert recipes.get("sgd-50").split(X, y, 1) == ((X, y), None)
    (X_train, y_train), (X_val, y_val) = recipes.get("dropout-300").split(X, y, 1)
    assert (len(X_train), len(X_val)) == (33_600, 8_400)
    assert len(np.unique(np.concatenate([X_train, X_val]))) == 42_000
    np.testing.assert_array_equal(X_val[:, 0] % 10, y_val)
    np.testing.assert_array_equal(X_train[:, 0] % 10, y_train)


def trained(name, mnist, **changed):
    """Return the model of a recipe, and its score on the samples that its figures are about."""
    recipe = recipes.get(name)
    samples, validation = recipe.split(*mnist[0], random_state=1)
    model = MLPClassifier(**recipe.estimator_parameters() | changed)
    if validation is None:
        return model.fit(*samples), model.score(*mnist[1])
    X_val, y_val = validation
    model.fit(*samples, X_val=X_val, y_val=y_val)
    assert model.history_["val_score"][-1] == model.score(X_val, y_val)
    return model, model.score(X_val, y_val)


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize(
    ("name", "max_iter", "loss", "score"),
    [
        ("adam-100-50-25", 3, 0.24713880, 0.9267),
        ("lbfgs-397", 5, 0.33846081, 0.8829),
        ("dropout-300", 3, 0.00935602, 0.9221),
        ("best", 1, 1.03702505, 0.9176),
        ("record", 1, 0.91689647, 0.9357),
    ],
)
def test_on_its_way(mnist, name, max_iter, loss, score):
    """In full they take minutes; where they are after a moment tells that all is as it was."""
    (X, y), test_part = mnist
    changed = {"max_iter": max_iter}
    if name == "record":  # whose large steps multiply the rounding errors of float32
        changed["dtype"] = "float64"
    model, found = trained(name, ((X[:12_000], y[:12_000]), test_part), **changed)
    assert model.history_["loss"][-1] == pytest.approx(loss, rel=1e-4)
    assert found == pytest.approx(score, abs=0.001)


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.skipif(
    not os.environ.get("FASTMLP_RECIPES_IN_FULL"),
    reason="FASTMLP_RECIPES_IN_FULL, which takes an hour, is not set",
)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("name", ["adam-100-50-25", "lbfgs-397", "dropout-300", "best", "record"])
def test_in_full(mnist, name):
    recipe = recipes.get(name)
    model, score = trained(name, mnist)
    if recipe.n_copies:
        copies = TTAClassifier(FrozenEstimator(model), n_copies=recipe.n_copies)
        score = copies.fit(*mnist[0]).score(*mnist[1])
    assert score == pytest.approx(recipe.ours, abs=0.002)
    if name == "lbfgs-397":
        assert model.score(*mnist[0]) == 1.0
    if name == "dropout-300":
        assert model.history_["learning_rate"][::20] == [1e-3, 1e-4, 1e-5, 5e-6, 5e-6]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in EXAMPLES])
def test_examples_are_short_and_run(path, monkeypatch, tmp_path, capsys):
    source = path.read_text()
    assert len(source.splitlines()) < 40
    assert ast.get_docstring(ast.parse(source))
    rng = np.random.RandomState(0)
    y = np.tile(np.arange(10, dtype=np.uint8), 60)
    X = (rng.randint(0, 60, (600, 784)) + 150 * (rng.rand(10, 784) > 0.7)[y]).astype(np.uint8)
    monkeypatch.setattr(datasets, "load_mnist", lambda *_, **__: ((X, y), (X[:50], y[:50])))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    assert "test" in capsys.readouterr().out
