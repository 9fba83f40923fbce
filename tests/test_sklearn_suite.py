"""scikit-learn's own tests of its MLPs (``test_mlp.py`` of the installed version), on ours."""

from importlib.util import find_spec, module_from_spec
from unittest.mock import patch

import pytest

from fastmlp import MLPClassifier, MLPRegressor, backends

pytestmark = pytest.mark.slow

#: The tests that reach into private parts of scikit-learn's classes.
EXCEPTIONS = {
    "test_gradient": "calls `_loss_grad_lbfgs`; test_backends.py checks our gradients",
}


def _load():
    """Return the tests by name, with our classes in place of theirs."""
    spec = find_spec("sklearn.neural_network.tests.test_mlp")
    if spec is None:
        pytest.skip("this scikit-learn comes without its tests", allow_module_level=True)
    module = module_from_spec(spec)
    with patch.multiple(
        "sklearn.neural_network", MLPClassifier=MLPClassifier, MLPRegressor=MLPRegressor
    ):
        spec.loader.exec_module(module)
    return {name: value for name, value in vars(module).items() if name.startswith("test_")}


SUITE = _load()
for _name, _test in SUITE.items():
    _test = pytest.mark.few_backends(pytest.mark.usefixtures("auto_backend")(_test))
    # As in scikit-learn's own configuration, warnings are no errors.
    _test = pytest.mark.filterwarnings("ignore")(_test)
    if _name in EXCEPTIONS:
        # Strict: an exception that is needed no longer is a failure.
        _test = pytest.mark.xfail(raises=AttributeError, reason=EXCEPTIONS[_name])(_test)
    globals()[_name] = _test


@pytest.fixture
def auto_backend(backend, monkeypatch):
    """Let "auto" stand for each backend in turn."""
    monkeypatch.setattr(backends, "NAMES", (backend, *set(backends.NAMES) - {backend}))
    assert backends.resolve("auto") == backend


@pytest.fixture
def global_random_seed():
    """Stand in for the fixture of scikit-learn's conftest, with its default."""
    return 42


def test_exceptions_are_few_and_all_others_run():
    assert set(EXCEPTIONS) <= set(SUITE)
    assert len(EXCEPTIONS) <= 4
    assert len(SUITE) > 40
    for test in SUITE.values():
        for name in ("MLPClassifier", "MLPRegressor"):
            assert test.__globals__[name].__module__.startswith("fastmlp.")
