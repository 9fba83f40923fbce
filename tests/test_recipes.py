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
        assert line.split()[-2:] == [f"{recipe.test_score:.3f}", f"{recipe.our_test_score:.3f}"]
        assert recipe.our_test_score >= recipe.test_score


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_parameters_are_the_estimator_s(name):
    parameters = dict(recipes.get(name).parameters)
    assert MLPClassifier(**parameters).get_params().items() >= parameters.items()


@pytest.mark.mnist
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_adam_100_50_25_in_full(mnist):
    recipe = recipes.get("adam-100-50-25")
    (X, y), (X_test, y_test) = mnist
    score = MLPClassifier(**recipe.parameters).fit(X, y).score(X_test, y_test)
    assert score >= recipe.test_score
    assert score == pytest.approx(recipe.our_test_score, abs=0.002)


@pytest.mark.mnist
def test_lbfgs_397_on_a_tenth(mnist):
    """In full it takes some fifteen seconds per run; CI does it once, by the example."""
    (X, y), (X_test, y_test) = mnist
    parameters = recipes.get("lbfgs-397").parameters
    model = MLPClassifier(**parameters).fit(X[:6000], y[:6000])
    assert model.score(X[:6000], y[:6000]) == 1.0
    assert model.score(X_test, y_test) > 0.93


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
