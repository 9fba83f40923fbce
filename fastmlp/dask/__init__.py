"""Estimators for Dask's arrays and data frames, trained where the partitions are.

As `xgboost.dask` and `lightgbm.dask`: the same parameters and attributes as the estimators for
arrays, lazy predictions, and `to_local`. See docs/scaling.md.
"""

try:
    import dask.array  # noqa: F401
    import distributed  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"fastmlp.dask needs Dask, of which {error.name} is not installed: "
        "pip install 'fastmlp[dask]'"
    ) from None

from fastmlp.dask.estimators import DaskMLPClassifier, DaskMLPRegressor

__all__ = ["DaskMLPClassifier", "DaskMLPRegressor"]
