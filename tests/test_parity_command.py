"""`fastmlp parity`: it passes, and what would break parity makes it fail."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from fastmlp import backends, cli
from fastmlp.backends import numpy_backend
from fastmlp.bench import parity
from fastmlp.core.optimizers import Adam
from fastmlp.estimators import base

NOT_PASSED, USAGE_ERROR = 1, 2


def run(*args, status=0):
    """Run the command; return its standard output."""
    result = CliRunner().invoke(cli.app, ["parity", *map(str, args)], prog_name="fastmlp")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.stdout


def rows(*args, status=0):
    """Run the command; return its JSON rows by backend and dtype."""
    document = json.loads(run(*args, "--json", status=status))
    assert document["passed"] == (status == 0)
    return {(row["backend"], row["dtype"]): row for row in document["rows"]}


# ------------------------------------------------------------------------------------ it passes


@pytest.mark.slow
def test_every_backend_passes():
    found = rows("--n", 12)
    assert set(found) == {(b, d) for b in backends.available() for d in parity.DTYPES}
    for (backend, dtype), row in found.items():
        assert row["fits"] + row["unstable"] == 12 and row["failures"] == 0
        assert row["largest"]["initial_weights"] == 0
        if (backend, dtype) == ("numpy", "float64"):
            assert set(row["largest"].values()) == {0}
        else:
            assert row["largest"]["loss_curves"] > 0


def test_table(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.split() for line in run("--n", 2, "--backend", "numpy").splitlines()]
    assert lines[-2:] == [
        ["numpy", "float64", "2", *"00000", "passed"],
        ["numpy", "float32", "2", "0", *lines[-1][4:-1], "passed"],
    ]


@pytest.mark.slow
def test_seed_determines_the_result():
    first, again, other = (run("--n", 3, "--seed", seed, "--json") for seed in (1, 1, 2))
    assert first == again != other


def test_only_named_backends():
    assert set(rows("--n", 1, "--backend", "numpy", "--backend", "numpy")) == {
        ("numpy", "float64"),
        ("numpy", "float32"),
    }


def test_unknown_backend(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fastmlp", "parity", "--backend", "fortran"])
    with pytest.raises(SystemExit, match=str(USAGE_ERROR)):
        cli.main()
    assert "got 'fortran'" in capsys.readouterr().err


def test_what_is_drawn():
    """Every choice comes up, and a larger n begins with a smaller one."""
    drawn = list(parity.configurations(300, 0))
    assert drawn[:20] == list(parity.configurations(20, 0))
    tasks = {c.data.task for c in drawn}
    assert tasks == {*parity.CLASSIFICATION, *parity.REGRESSION}
    assert {c.data.weights for c in drawn} == {"none", "positive", "some zero"}
    assert {len(c.parameters["hidden_layer_sizes"]) for c in drawn} == {0, 1, 2, 3}
    for name, values in {
        "solver": {"sgd", "adam", "lbfgs"},
        "activation": {"identity", "logistic", "tanh", "relu"},
        "early_stopping": {True, False},
        "shuffle": {True, False},
        "learning_rate": {"constant", "invscaling", "adaptive"},
        "batch_size": {1, 2, 3, "auto"},
    }.items():
        assert {c.parameters[name] for c in drawn if name in c.parameters} >= values


# ------------------------------------------------------------------------------ it can also fail


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # of what is printed and run here
def test_rounding_in_the_numpy_backend_is_caught(monkeypatch):
    update = numpy_backend._UPDATES["adam"]

    def rounded(optimizer, flat, gradient):
        update(optimizer, flat, gradient)
        flat *= 1 + 1e-15

    monkeypatch.setitem(numpy_backend._UPDATES, "adam", rounded)
    stdout = run("--n", 12, "--backend", "numpy", status=NOT_PASSED)
    table = {tuple(line.split()[:2]): line.split()[-1] for line in stdout.splitlines() if line}
    assert table["numpy", "float64"] == "FAILED" and table["numpy", "float32"] == "passed"
    assert "solver='adam'" in stdout

    # What is printed is code, and reproduces.
    code = stdout.partition("The worst:\n\n")[2]
    exec(code.replace("\nMLP", "\nmodel = MLP"), names := {})
    assert names["model"].n_iter_ >= 1 and names["model"].backend == "numpy"


@pytest.mark.slow
def test_another_epsilon_is_caught(monkeypatch):
    initialized = Adam.__post_init__

    def with_larger_epsilon(self):
        initialized(self)
        self.epsilon *= 1.001

    monkeypatch.setattr(Adam, "__post_init__", with_larger_epsilon)
    found = rows("--n", 12, status=NOT_PASSED)
    for backend in backends.available():
        assert "solver='adam'" in found[backend, "float64"]["worst"]["reproduction"]


@pytest.mark.slow
def test_other_initial_weights_are_caught(monkeypatch):
    def doubled(*args):
        coef, intercept = initial_layer(*args)
        return 2 * coef, 2 * intercept

    initial_layer = base.initial_layer
    monkeypatch.setattr(base, "initial_layer", doubled)
    for row in rows("--n", 1, status=NOT_PASSED).values():
        assert row["largest"]["initial_weights"] == 1 and row["failures"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(("error", "status"), [(1e-10, 0), (1e-5, NOT_PASSED)])
def test_other_backends_have_a_tolerance(monkeypatch, error, status):
    if "cython" not in backends.available():
        pytest.skip(backends.unavailable()["cython"])
    module = backends.get("cython")

    def inexact(network, coefs, intercepts, inputs, n_threads, out):
        finite = predict(network, coefs, intercepts, inputs, n_threads, out)
        out += error
        return finite

    predict = module.predict
    monkeypatch.setattr(module, "predict", inexact)
    row = rows("--n", 3, "--backend", "cython", status=status)["cython", "float64"]
    assert bool(row["failures"]) == bool(status)
    assert row["largest"]["predictions"] > error / 10


def test_divergence_is_a_difference_unless_both_diverge():
    (configuration,) = parity.configurations(1, 0)
    fit = parity.solve(configuration, "float64", parity.SKLEARN_ESTIMATORS)
    row = parity.Row("numpy", "float32")
    assert parity.compare(None, None) == parity.Differences()
    row.add(configuration, parity.compare(None, fit))
    assert row.failures and set(row.as_dict()["largest"].values()) == {None}

    diverging = {"solver": "sgd", "learning_rate_init": 1e9, "max_iter": 50, "activation": "relu"}
    data = parity.Data("one output", 30, 3, sparse=False, weights="none", seed=0)
    for package in (parity.SKLEARN_ESTIMATORS, parity.ESTIMATORS):
        assert parity.solve(parity.Configuration(data, diverging), "float64", package) is None


def test_what_is_not_a_number_fails():
    found = parity.Differences(predictions=np.nan)
    assert not found.within(parity.tolerance("numpy", "float32"))


def test_float32_may_stop_in_another_epoch():
    (configuration,) = parity.configurations(1, 0)
    fit = parity.solve(configuration, "float64", parity.SKLEARN_ESTIMATORS)
    longer = fit._replace(losses=np.append(fit.losses, 0.5))
    found = parity.compare(longer, fit)
    assert found == replace(parity.Differences(), epochs=1)
    assert found.within(parity.tolerance("numpy", "float32"))
    assert not found.within(parity.tolerance("cython", "float64"))


def test_unstable_configurations_are_not_judged_in_float32(monkeypatch):
    monkeypatch.setattr(parity, "STABLE", 0.0)
    found = rows("--n", 2, "--backend", "numpy")
    assert (found["numpy", "float64"]["fits"], found["numpy", "float64"]["unstable"]) == (2, 0)
    assert (found["numpy", "float32"]["fits"], found["numpy", "float32"]["unstable"]) == (0, 2)


def test_ctrl_c_ends_the_command(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(numpy_backend.Engine, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        parity.check(parity.configurations(1, 0), ["numpy"])
