"""The pipeline for tables, and its default parameters."""

import inspect
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from fastmlp.estimators import MLPClassifier, MLPEnsemble, MLPRegressor
from fastmlp.estimators.ensemble import check_n_estimators
from fastmlp.tables import columns
from fastmlp.tables.transformers import RobustSmoothScaler, TableColumns, TableOneHotEncoder

__all__ = ["ColumnsOfDtype", "make_table_pipeline"]

# Saved pipelines refer to these names.
RobustSmoothScaler.__module__ = TableColumns.__module__ = TableOneHotEncoder.__module__ = __name__

# The parameters begin with those of RealMLP-TD-S (Holzmueller, Grinsztajn, Steinwart: "Better by
# default: strong pre-tuned MLPs and boosted trees on tabular data", NeurIPS 2024): three layers of
# 256 units, batches of 256, 256 epochs of Adam with beta_2 = 0.95, a learning rate that falls along
# cosines, label smoothing of 0.1, targets of regressions standardised, the weights of the best
# epoch kept. The activation is the estimator's own.
#
# The rest was measured on 22 tables of R's packages, of up to 2000 rows, none of which is in
# benchmarks/table_scores.py. Geometric means of the errors as parts of those of scikit-learn's
# defaults, and on how many of the tables they are no larger:
#
#                                        classes  log loss  RMSE  tables  seconds
#   one network as above                 0.84     1.10      0.94  13      173
#   dropout of 0.15                      0.79     0.99      0.95  14      191
#   five of 128-128, dropout             0.80     0.91      0.98  17      185
#   five of 64-64, batches of 16 rows    0.79     0.97      0.99  19      29
#
# Three splits instead of two: label smoothing of 0.03 instead of 0.1 makes the log loss 0.90
# instead of 0.96. A learning rate of 0.002 with dropout of 0.15 instead of 0.001 and 0.1 brings
# classes from 0.87 to 0.79, log loss from 0.90 to 0.81 and RMSE from 0.97 to 0.95, but the log loss
# is smaller than scikit-learn's on 7 of 12 tables only: probabilities of classes overfit sooner.
# 0.003 with 0.1 in 32 epochs, half the time: 0.79, 0.84 and 0.96, on 10 of 12.
# Without held-out rows regressions on less than 1000 rows are better, on more they are worse.
#
# Large tables: R2 on a fifth of ggplot2's diamonds (53,940 rows) and movies (58,788), and seconds:
#
#                                        diamonds        movies
#   one of 256-256-256                   0.9775  171     0.2590  217
#   one of 128-128-128                   0.9748   26
#   one of 128-128                       0.9813   15     0.2631   50
_PARAMETERS: dict[str, Any] = {"beta_2": 0.95, "lr_schedule": "cosine"}
_SEVERAL: dict[str, Any] = {"hidden_layer_sizes": (64, 64), "batch_size": 16}
_SEVERAL_OF_TASK: dict[str, dict[str, Any]] = {
    "classification": {
        "learning_rate_init": 0.003,
        "dropout": 0.1,
        "max_iter": 32,
        "label_smoothing": 0.03,
    },
    "regression": {
        "learning_rate_init": 0.002,
        "dropout": 0.15,
        "max_iter": 64,
        "target_scale": "standard",
    },
}
_ONE: dict[str, Any] = {
    "hidden_layer_sizes": (128, 128),
    "dropout": 0.15,
    "batch_size": 256,
    "max_iter": 256,
}
_ONE_OF_TASK: dict[str, dict[str, Any]] = {
    "classification": {"label_smoothing": 0.1},
    "regression": {"target_scale": "standard"},
}
_N_ESTIMATORS = 5

#: More rows than these get one network, and it fewer epochs, down to a minimum.
_ROWS_OF_ALL_EPOCHS = 20_000
_MIN_EPOCHS = 16

#: Fewer rows than these are all trained on: scores on a tenth of them are so coarse that an early
#: epoch is the best by accident (one network on breast_cancer: 0.918, and 0.970 without).
_MIN_ROWS_TO_HOLD_OUT = 1000


def make_table_pipeline(
    task: str,
    *,
    n_rows: int | None = None,
    n_estimators: int | None = None,
    random_state: int | np.random.RandomState | None = None,
    **parameters: Any,
) -> Pipeline:
    """Make an unfitted pipeline that learns from tables of mixed columns.

    Its steps are `TableColumns`, which determines the type of each column and selects columns by
    name; a `ColumnTransformer` that scales and imputes numbers, and one-hot encodes categories (as
    CSR if there are many); and `MLPClassifier` or `MLPRegressor`, or an `MLPEnsemble` of several
    for small tables. All numbers are float32.

    Parameters
    ----------
    task : {"classification", "regression"}
    n_rows : int, optional
        Number of training rows, if known. It determines the batch size, the number of epochs and
        early stopping.
    n_estimators : int, optional
        Number of averaged networks; by default 5 up to 20 000 rows, otherwise 1. Each is trained
        on all rows; early stopping holds out different rows for each.
    random_state : int, RandomState instance or None, default=None
        Random state of the estimator.
    **parameters
        Parameters of the estimator that replace the defaults: ``hidden_layer_sizes=(64,)``.

    Returns
    -------
    pipeline : Pipeline
        With the steps "columns", "encode" and "mlp".

    Raises
    ------
    ValueError
        If the task or a parameter does not exist.

    Examples
    --------
    >>> import pandas as pd
    >>> from fastmlp.tables import make_table_pipeline
    >>> pipeline = make_table_pipeline("classification", n_rows=100, random_state=0, max_iter=20)
    >>> [name for name, _ in pipeline.steps]
    ['columns', 'encode', 'mlp']
    >>> frame = pd.DataFrame({"size": [1.0, 2.0, None, 9.0], "kind": list("abac")})
    >>> inputs = pipeline[:-1].set_output(transform="pandas")
    >>> inputs.fit_transform(frame).columns.tolist()  # doctest: +NORMALIZE_WHITESPACE
    ['numbers__size', 'numbers__missingindicator_size', 'categories__kind_infrequent_sklearn']
    """
    if task not in columns.TASKS:
        raise ValueError(
            f"task must be 'classification' or 'regression', got {task!r}; "
            f"{columns.did_you_mean(str(task), columns.TASKS)}"
        )
    network = _network(task, n_rows, n_estimators, random_state, parameters)
    numbers = Pipeline(
        [
            ("scale", RobustSmoothScaler()),
            # After scaling the median is 0; SimpleImputer would take seconds to compute it.
            ("impute", SimpleImputer(strategy="constant", fill_value=0, add_indicator=True)),
        ]
    )
    categories = TableOneHotEncoder(
        handle_unknown="infrequent_if_exist",
        min_frequency=columns.MIN_ROWS_OF_CATEGORY,
        max_categories=columns.MAX_CATEGORIES,
    )
    encode = ColumnTransformer(
        [
            ("numbers", numbers, ColumnsOfDtype("number")),
            ("categories", categories, ColumnsOfDtype("category")),
        ],
        # Of 150 inputs a fifth of which are not 0, a dense epoch takes half of the time of CSR.
        sparse_threshold=0.1,
    )
    return Pipeline([("columns", TableColumns()), ("encode", encode), ("mlp", network)])


def _network(
    task: str,
    n_rows: int | None,
    n_estimators: int | None,
    random_state: int | np.random.RandomState | None,
    parameters: dict[str, Any],
) -> Any:
    """Return an estimator with the defaults for tables, or an ensemble of several."""
    estimator: Any = MLPClassifier if task == "classification" else MLPRegressor
    known = list(inspect.signature(estimator).parameters)
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"parameters must be those of {estimator.__name__}, got {name!r}; "
                f"{columns.did_you_mean(name, known)}"
            )
    if n_estimators is None:
        is_large = n_rows is not None and n_rows > _ROWS_OF_ALL_EPOCHS
        n_estimators = 1 if is_large else _N_ESTIMATORS
    check_n_estimators(n_estimators)
    if n_estimators > 1:
        of_number = _SEVERAL | _SEVERAL_OF_TASK[task]
    else:
        of_number = _ONE | _ONE_OF_TASK[task]
    defaults = {
        **_PARAMETERS,
        **of_number,
        **_of_size(n_rows, of_number, parameters.get("max_iter")),
        "random_state": random_state,
    }
    network = estimator(**defaults | parameters)
    if n_estimators == 1:
        return network
    # The networks have different initial weights and validation rows.
    network.set_params(random_state=None)
    return MLPEnsemble(network, n_estimators, random_state=random_state)


def _of_size(n_rows: int | None, defaults: dict[str, Any], max_iter: int | None) -> dict[str, Any]:
    """Return the parameters that depend on the number of rows, and on the epochs if given."""
    if max_iter is None:
        max_iter = defaults["max_iter"]
        if n_rows is not None and n_rows > _ROWS_OF_ALL_EPOCHS:
            max_iter = max(_MIN_EPOCHS, max_iter * _ROWS_OF_ALL_EPOCHS // n_rows)
    # The schedule is completed, so epochs without progress do not stop training.
    parameters: dict[str, Any] = {"max_iter": max_iter, "n_iter_no_change": max_iter}
    if n_rows is None or n_rows >= _MIN_ROWS_TO_HOLD_OUT:
        parameters["early_stopping"] = True
    # A fold of a cross-validation may have half of the rows.
    if n_rows is not None and n_rows < 2 * defaults["batch_size"]:
        parameters["batch_size"] = "auto"
    return parameters


class ColumnsOfDtype(make_column_selector):
    """scikit-learn's column selector by dtype, with a readable repr.

    Parameters
    ----------
    dtype_include : dtype or "number" or "category"
    """

    def __init__(self, dtype_include: Any) -> None:
        super().__init__(dtype_include=dtype_include)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype_include!r})"
