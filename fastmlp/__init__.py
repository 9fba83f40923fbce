"""fastmlp: multilayer perceptrons for scikit-learn users, with a compiled engine.

The names below are loaded on first use, so that ``fastmlp.idx`` and the command line start
without importing scikit-learn.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmlp.estimators import (
        InputScaleWarning,
        MLPClassifier,
        MLPEnsemble,
        MLPRegressor,
        TTAClassifier,
    )
    from fastmlp.estimators.many import fit_many
    from fastmlp.estimators.progress_bar import ProgressBar
    from fastmlp.persistence import load, save
    from fastmlp.training import Checkpoint

    __version__: str

__all__ = [
    "Checkpoint",
    "InputScaleWarning",
    "MLPClassifier",
    "MLPEnsemble",
    "MLPRegressor",
    "ProgressBar",
    "TTAClassifier",
    "__version__",
    "fit_many",
    "load",
    "save",
]

#: Modules of the names that are not in `fastmlp.estimators`.
_ELSEWHERE = {
    "Checkpoint": "training",
    "ProgressBar": "estimators.progress_bar",
    "fit_many": "estimators.many",
    "load": "persistence",
    "save": "persistence",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("fastmlp")
    if name not in __all__:
        raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")
    module = importlib.import_module(f"fastmlp.{_ELSEWHERE.get(name, 'estimators')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
