"""The recipes: each reaches its published accuracy, by the command and by its example."""

import ast
import runpy
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fastmlp import MLPClassifier, cli, datasets, recipes

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("0*.py"))


def test_fastmlp_recipes_lists_them_all():
    result = CliRunner().invoke(cli.app, ["recipes"])
    assert result.exit_code == 0
    for recipe in recipes.RECIPES.values():
        (line,) = (line for line in result.stdout.splitlines() if line.startswith(recipe.name))
        if recipe.published is None:
            assert line.split()[-1] == f"{recipe.ours:.3f}"
            continue
        assert line.split()[-2:] == [f"{recipe.published:.3f}", f"{recipe.ours:.3f}"]
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


@pytest.mark.mnist
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_adam_100_50_25_in_full(mnist):
    recipe = recipes.get("adam-100-50-25")
    (X, y), (X_test, y_test) = mnist
    score = MLPClassifier(**recipe.parameters).fit(X, y).score(X_test, y_test)
    assert score >= recipe.published
    assert score == pytest.approx(recipe.ours, abs=0.002)


@pytest.mark.mnist
def test_lbfgs_397_in_full(mnist):
    recipe = recipes.get("lbfgs-397")
    (X, y), (X_test, y_test) = mnist
    model = MLPClassifier(**recipe.parameters).fit(X, y)
    assert model.score(X, y) == 1.0
    assert model.score(X_test, y_test) == pytest.approx(recipe.ours, abs=0.0015)


@pytest.mark.mnist
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_dropout_300_in_full(mnist):
    recipe = recipes.get("dropout-300")
    (X, y), (X_val, y_val) = recipe.split(*mnist[0], random_state=1)
    model = MLPClassifier(**recipe.estimator_parameters()).fit(X, y, X_val=X_val, y_val=y_val)
    assert model.history_["learning_rate"][::20] == [1e-3, 1e-4, 1e-5, 5e-6, 5e-6]
    assert model.score(X_val, y_val) == pytest.approx(recipe.ours, abs=0.002)
    assert model.history_["val_score"][-1] == model.score(X_val, y_val)


@pytest.mark.mnist
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_best_on_its_way(mnist):
    """In full it takes more than a minute; three epochs tell that it learns what it should."""
    (X, y), (X_test, y_test) = mnist
    parameters = recipes.get("best").estimator_parameters() | {"max_iter": 3}
    model = MLPClassifier(**parameters).fit(X, y)
    assert model.score(X_test, y_test) > 0.975


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
