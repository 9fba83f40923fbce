"""From a table to predictions: scikit-learn's parts, and what they lack."""

import copy
import inspect
from typing import Any, Self

import numpy as np
import pandas as pd
import sklearn
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, issparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_is_fitted

from fastmlp.estimators import MLPClassifier, MLPRegressor
from fastmlp.tables import columns, text
from fastmlp.tables.averages import (
    AveragedMLPClassifier,
    AveragedMLPRegressor,
    check_n_estimators,
)

__all__ = [
    "ColumnsOfDtype",
    "RobustSmoothScaler",
    "TableColumns",
    "TableOneHotEncoder",
    "make_table_pipeline",
]

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

    Its steps are `TableColumns`, which says what each column is when it is fitted and finds the
    columns by name afterwards; a `ColumnTransformer` that scales and fills in numbers, and encodes
    categories, as CSR where they are many; and `MLPClassifier` or `MLPRegressor`, or the average of
    several of them if there are not many rows. Numbers are float32 throughout.

    Parameters
    ----------
    task : {"classification", "regression"}
    n_rows : int, optional
        Rows that it will be fitted on, if known: how large batches are, how many epochs there are
        and whether rows are held out to stop early follow from it.
    n_estimators : int, optional
        How many networks are averaged; by default 5 up to 20 000 rows, and 1 from there on.
        Each learns from all rows; early stopping holds out others for each.
    random_state : int, RandomState instance or None, default=None
        Of the estimator.
    **parameters
        Of the estimator, in place of the defaults here: ``hidden_layer_sizes=(64,)``.

    Returns
    -------
    pipeline : Pipeline
        With the steps "columns", "encode" and "mlp".

    Raises
    ------
    ValueError
        If there is no such task or parameter.

    Examples
    --------
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
    numbers = Pipeline(
        [
            ("scale", RobustSmoothScaler()),
            # Scaled, the median is 0: SimpleImputer would take seconds to find it in large tables.
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
    network = estimator(**defaults | parameters)
    if n_estimators > 1:
        averaged: Any = AveragedMLPRegressor if task == "regression" else AveragedMLPClassifier
        # The networks differ by their first weights, and by what they hold out.
        network = averaged(
            network.set_params(random_state=None), n_estimators, random_state=random_state
        )
    return Pipeline([("columns", TableColumns()), ("encode", encode), ("mlp", network)])


def _of_size(n_rows: int | None, defaults: dict[str, Any], max_iter: int | None) -> dict[str, Any]:
    """Return the parameters that depend on the number of rows, and on the epochs if given."""
    if max_iter is None:
        max_iter = defaults["max_iter"]
        if n_rows is not None and n_rows > _ROWS_OF_ALL_EPOCHS:
            max_iter = max(_MIN_EPOCHS, max_iter * _ROWS_OF_ALL_EPOCHS // n_rows)
    # All of the schedule is gone through, so no epoch without progress ends it.
    parameters: dict[str, Any] = {"max_iter": max_iter, "n_iter_no_change": max_iter}
    if n_rows is None or n_rows >= _MIN_ROWS_TO_HOLD_OUT:
        parameters["early_stopping"] = True
    # A part of a cross-validation may have half of the rows.
    if n_rows is not None and n_rows < 2 * defaults["batch_size"]:
        parameters["batch_size"] = "auto"
    return parameters


class TableColumns(TransformerMixin, BaseEstimator):
    """Find out what the columns of a table are, and give those that can be learned from.

    Columns are matched by name: others may have been added, their order and dtypes may have
    changed. What comes out has numbers, booleans as 0 and 1 and dates as days since 1970, with NaN
    where they are missing, and categories of text. It is a DataFrame whatever `set_output` says,
    because the next step chooses columns by dtype.

    Attributes
    ----------
    kinds_ : dict of str to str
        The columns that are used, and what they are: "number", "boolean", "date" or "category".
    left_out_ : dict of str to str
        The others, and why they are not used.
    words_ : dict of str to list of str
        For booleans that are written as text, the words for false and true.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)
        If the table had names.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find out what the columns are.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X is no table, or if nothing can be learned from any of its columns.
        """
        frame = _as_frame(X)
        names = [str(name) for name in frame.columns]
        if twice := sorted({repr(name) for name in names if names.count(name) > 1}):
            raise ValueError(
                f"the columns of a table must have different names, got {', '.join(twice)} more "
                "than once; rename or drop some."
            )
        self.kinds_: dict[str, str] = {}
        self.left_out_: dict[str, str] = {}
        self.words_: dict[str, list[str]] = {}
        for place, name in enumerate(names):
            values = frame.iloc[:, place]
            column = columns.judge(values, name)
            if not column.is_used:
                self.left_out_[name] = column.action.removeprefix("left out: ")
                continue
            self.kinds_[name] = column.kind
            if column.kind == "boolean":
                family, array = columns.plain(values)
                if family == "text":
                    pair = text.boolean_pair(array.remove_unused_categories().categories)
                    assert pair is not None
                    self.words_[name] = list(pair)
        if not self.kinds_:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(self.left_out_.items())[:5])
            raise ValueError(
                "a table must have a column that something can be learned from, got none "
                f"({reasons or 'it has no columns'})."
            )
        self.n_features_in_ = len(names)
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.array(names, dtype=object)
        else:
            self.__dict__.pop("feature_names_in_", None)
        return self

    def transform(self, X: Any) -> pd.DataFrame:
        """Return the columns that are used.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)

        Returns
        -------
        frame : DataFrame
            Its index is that of X.

        Raises
        ------
        ValueError
            If columns are missing or hold something else than when it was fitted.
        """
        check_is_fitted(self)
        frame = _as_frame(X)
        if not hasattr(X, "columns") and frame.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X must have {self.n_features_in_} columns, as in training, got {frame.shape[1]}."
            )
        places: dict[str, int] = {}
        for place, name in enumerate(map(str, frame.columns)):
            if name in places and name in self.kinds_:
                raise ValueError(
                    f"the table must have one column {name!r}, got several; rename or drop some."
                )
            places[name] = place
        if missing := [name for name in self.kinds_ if name not in places]:
            shown = ", ".join(map(repr, missing[:5]))
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            plural = "s" if len(missing) > 1 else ""
            hint = columns.did_you_mean(missing[0], [n for n in places if n not in self.kinds_])
            hint = f" ({hint})" if hint.startswith("did") else ""
            raise ValueError(
                f"the table lacks the column{plural} {shown}{more} that the model has learned "
                f"from{hint}; add {'them' if plural else 'it'}, empty if need be."
            )
        converted = {
            name: self._converted(frame.iloc[:, places[name]], name, kind)
            for name, kind in self.kinds_.items()
        }
        return pd.DataFrame(converted, index=frame.index, copy=False)

    def _converted(self, values: pd.Series, name: str, kind: str) -> Any:
        """Return a column as the next step takes it."""
        family, array = columns.plain(values)
        if family != "other" and pd.isna(array).all():  # of no kind
            empty = np.full(len(array), np.nan)
            return pd.Categorical(empty.astype(object)) if kind == "category" else empty
        if kind == "category":
            return _as_categories(family, array, name)
        if kind == "number" and family in ("number", "boolean"):
            return array
        if kind == "date" and family == "date":
            days = array.astype("datetime64[us]").astype(np.int64) / 86_400e6
            days[np.isnat(array)] = np.nan
            return days
        if kind == "boolean" and family in ("number", "boolean"):
            known = array[~np.isnan(array)]
            if name not in self.words_ and np.isin(known, (0, 1)).all():
                return array.astype(np.float32)
            if family == "boolean":
                return array
        if kind == "boolean" and family == "text":
            false, true = self.words_.get(name, ["False", "True"])
            words = [word.strip().lower() for word in array.categories]
            numbers = [{false.strip().lower(): 0, true.strip().lower(): 1}.get(w) for w in words]
            if None not in numbers:
                return np.array([*numbers, np.nan], dtype=np.float32)[array.codes]
        shown = next((value for value in array if not pd.isna(value)), None)
        pair = f"{', '.join(map(repr, self.words_[name]))} only" if name in self.words_ else ""
        rule = {"number": "numbers", "date": "dates", "boolean": pair or "booleans"}[kind]
        if kind == "number" and family == "text":
            shown = next((w for w in array.categories if not text.is_number(w)), shown)
        if kind == "boolean" and family == "text":
            shown = array.categories[numbers.index(None)]
        got = {"date": "dates", "text": "text", "number": "numbers"}.get(family, "something else")
        raise ValueError(
            f"the column {name!r} must hold {rule}, as in training, got {got} such as "
            f"{str(shown)!r}; mend these values or empty them."
        )

    def set_output(self, *, transform: str | None = None) -> Self:
        """Do nothing: a DataFrame comes out whatever is asked for.

        Parameters
        ----------
        transform : ignored

        Returns
        -------
        self
        """
        return self

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Return the names of the columns that are used.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        names : array of str objects
        """
        check_is_fitted(self)
        return np.array(list(self.kinds_), dtype=object)

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: text and missing values are fine."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = tags.input_tags.allow_nan = True
        return tags


def _as_frame(X: Any) -> pd.DataFrame:
    """Return a table as pandas' frame, whatever it is."""
    if isinstance(X, pd.DataFrame):
        return X
    if issparse(X):
        raise ValueError(
            "a table must be a DataFrame or an array, got a sparse matrix; pass it to "
            "MLPClassifier or MLPRegressor itself."
        )
    if hasattr(X, "to_pandas"):  # Polars, Arrow
        return X.to_pandas()
    array = np.asarray(X)
    if array.ndim != 2:
        raise ValueError(
            f"a table must have rows and columns, got an array of shape {array.shape}; pass a "
            "DataFrame."
        )
    return pd.DataFrame(array, columns=[f"x{number}" for number in range(array.shape[1])])


def _as_categories(family: str, array: Any, name: str) -> pd.Categorical:
    """Return a column as categories of text, the same for 3, 3.0 and "3"."""
    if family == "text":
        return array
    if family == "other":
        raise ValueError(
            f"the column {name!r} must hold a text per row, as in training, got "
            f"{type(array[0]).__name__}."
        )
    if family == "boolean":
        return pd.Categorical.from_codes(
            np.where(np.isnan(array), -1, array).astype(np.int8), categories=["False", "True"]
        )
    column = pd.Categorical(array)
    return pd.Categorical.from_codes(
        column.codes, categories=[str(columns.as_word(value)) for value in column.categories]
    )


class RobustSmoothScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Scale numbers by their quartiles and clip them smoothly between -3 and 3.

    The median becomes 0 and the distance of the quartiles 1 (where that is 0, the range becomes
    2); then x becomes ``x / sqrt(1 + (x / 3)**2)``, so that outliers and infinity stay harmless.
    NaN remains. Of columns of zeros and ones the more frequent one becomes 0, so that 0 always
    stands for the median. (Holzmueller et al. 2024.) Columns pass one by one, in float64, and come
    out as float32.

    Attributes
    ----------
    center_, scale_ : array of shape (n_features_in_,)
        ``(x - center_) * scale_`` is what is clipped.
    is_binary_ : array of shape (n_features_in_,), bool
        Columns of zeros and ones: ``x - center_`` is what comes out.
    n_features_in_ : int
    feature_names_in_ : array of shape (n_features_in_,)
        If X had names.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find medians and quartiles.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        self
        """
        names, parts = _parts(X)
        centers, scales, binary = [], [], []
        for part in parts:
            values = part[np.isfinite(part)]
            center, scale, is_binary = 0.0, 0.0, False
            if values.size:
                low, center, high = np.percentile(values, (25, 50, 75))
                smallest, largest = values.min(), values.max()
                is_binary = smallest >= 0 and largest <= 1 and bool(np.isin(values, (0, 1)).all())
                if is_binary:
                    center = float(values.mean() > 0.5)
                if high > low:
                    scale = 1 / (high - low)
                elif largest > smallest:
                    scale = 2 / (largest - smallest)
            centers.append(center)
            scales.append(scale)
            binary.append(is_binary)
        self.center_ = np.array(centers, dtype=np.float64)
        self.scale_ = np.array(scales, dtype=np.float64)
        self.is_binary_ = np.array(binary, dtype=bool)
        self.n_features_in_ = len(centers)
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        else:
            self.__dict__.pop("feature_names_in_", None)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Scale and clip.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_samples, n_features)

        Returns
        -------
        X_scaled : array of shape (n_samples, n_features), float32
        """
        check_is_fitted(self)
        _, parts = _parts(X)
        parts = list(parts)
        if len(parts) != self.n_features_in_:
            raise ValueError(
                f"X must have {self.n_features_in_} features, as in training, got {len(parts)}."
            )
        scaled = np.empty((len(parts[0]), len(parts)), np.float32)
        for place, part in enumerate(parts):
            if self.is_binary_[place]:
                scaled[:, place] = np.clip(part, 0, 1) - self.center_[place]
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                # Far beyond the bound already, and finite when it is squared.
                x = np.clip((part - self.center_[place]) * self.scale_[place], -1e9, 1e9)
            scaled[:, place] = x / np.sqrt(1 + (x / 3) ** 2)
        return scaled

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: NaN is fine."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _parts(X: Any) -> tuple[list[str] | None, Any]:
    """Return the names of the columns, and the columns one by one, in float64."""
    if isinstance(X, pd.DataFrame):
        names = list(map(str, X.columns))
        return names, (X.iloc[:, place].to_numpy(np.float64) for place in range(X.shape[1]))
    array = np.asarray(X)
    if array.ndim != 2:
        raise ValueError(f"X must have rows and columns, got an array of shape {array.shape}.")
    return None, (array[:, place].astype(np.float64) for place in range(array.shape[1]))


class ColumnsOfDtype(make_column_selector):
    """scikit-learn's selector of columns by dtype, which prints as it is written.

    Parameters
    ----------
    dtype_include : dtype or "number" or "category"
    """

    def __init__(self, dtype_include: Any) -> None:
        super().__init__(dtype_include=dtype_include)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype_include!r})"


class TableOneHotEncoder(OneHotEncoder):
    """scikit-learn's one-hot encoder, in float32, which gives frames where they are asked for.

    scikit-learn's own refuses `set_output` while its output is sparse; this one is dense then. It
    also counts and encodes categories one row at a time, in Python; this one does it once for each
    category. What comes out is the same. So are the parameters, but for `dtype`, which is float32.
    """

    def __init__(
        self,
        *,
        categories: Any = "auto",
        drop: Any = None,
        sparse_output: bool = True,
        dtype: Any = np.float32,
        handle_unknown: str = "error",
        min_frequency: float | None = None,
        max_categories: int | None = None,
        feature_name_combiner: Any = "concat",
    ) -> None:
        super().__init__(
            categories=categories,
            drop=drop,
            sparse_output=sparse_output,
            dtype=dtype,
            handle_unknown=handle_unknown,
            min_frequency=min_frequency,
            max_categories=max_categories,
            feature_name_combiner=feature_name_combiner,
        )

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the categories; see scikit-learn's `OneHotEncoder.fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        self
        """
        if (
            self._counts_rows
            and isinstance(self.min_frequency or 1, int)  # no part of all rows
            and (self.min_frequency or 1) >= 1
            and isinstance(self.categories, str)  # else ties have their order
            and _is_categorical(X)
        ):
            X = _fewer_rows(X, self.min_frequency or 1)
        return super().fit(X, y)

    def transform(self, X: Any) -> Any:
        """Encode categories; see scikit-learn's `OneHotEncoder.transform`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        encoded : CSR matrix, array or frame of shape (n_samples, n_encoded_features)
        """
        asked = getattr(self, "_sklearn_output_config", {}).get("transform")
        if (asked or sklearn.get_config()["transform_output"]) == "default":
            is_simple = self.sparse_output and self.drop is None
            is_simple &= hasattr(self, "infrequent_categories_")  # fitted, and rows were counted
            return self._transform_categories(X) if is_simple else super().transform(X)
        dense = copy.copy(self)
        dense.sparse_output = False
        return OneHotEncoder.transform(dense, X)

    @property
    def _counts_rows(self) -> bool:
        return self.min_frequency is not None or self.max_categories is not None

    def _transform_categories(self, X: Any) -> Any:
        """Encode every category once, and look up what the rows get."""
        few = _a_row_per_category(X) if _is_categorical(X) else None
        if few is None or X.shape[1] != len(self.categories_):
            return super().transform(X)
        encoded = super().transform(few)
        widths = [
            len(known) - (0 if rare is None else len(rare) - 1)  # the rare ones share an input
            for known, rare in zip(self.categories_, self.infrequent_categories_, strict=True)
        ]
        ends = np.cumsum(widths)
        inputs = np.empty(X.shape, np.int32)  # -1: none
        for place, (end, width) in enumerate(zip(ends, widths, strict=True)):
            column, own = few.iloc[:, place].array, encoded[:, end - width : end]
            of_row = np.full(len(few), -1, np.int32)
            of_row[np.repeat(np.arange(len(few)), np.diff(own.indptr))] = own.indices + end - width
            of_code = np.full(len(column.categories) + 1, -1, np.int32)  # the last: missing
            of_code[column.codes] = of_row
            inputs[:, place] = of_code[X.iloc[:, place].array.codes]
        exists = inputs >= 0
        indptr = np.zeros(len(X) + 1, np.int32 if exists.size < 2**31 else np.int64)
        np.cumsum(np.count_nonzero(exists, axis=1), out=indptr[1:])
        ones = np.ones(indptr[-1], self.dtype)
        return csr_matrix((ones, inputs[exists], indptr), shape=(len(X), int(ends[-1])))


def _is_categorical(X: Any) -> bool:
    """Return whether all columns of a table are categorical, and it has some."""
    return (
        isinstance(X, pd.DataFrame)
        and X.shape[1] > 0
        and all(isinstance(dtype, pd.CategoricalDtype) for dtype in X.dtypes)
    )


def _a_row_per_category(X: pd.DataFrame) -> pd.DataFrame | None:
    """Return a table in which each value of each column occurs; None if that has as many rows."""
    found = []
    for place in range(X.shape[1]):
        column = X.iloc[:, place].array
        counts = np.bincount(np.asarray(column.codes) + 1, minlength=len(column.categories) + 1)
        found.append(np.flatnonzero(counts) - 1)
    n_needed = max(map(len, found))
    if n_needed >= len(X):
        return None
    return pd.DataFrame(
        {
            name: pd.Categorical.from_codes(np.resize(codes, n_needed), dtype=dtype)
            for name, dtype, codes in zip(X.columns, X.dtypes, found, strict=True)
        }
    )


def _fewer_rows(X: pd.DataFrame, min_frequency: int) -> pd.DataFrame:
    """Return a table whose categories are as rare, and follow each other, as those of another.

    Categories with fewer than `min_frequency` rows keep their number of rows. The others get that
    many and one more for each smaller number of rows that a category has, so that the most
    frequent ones, and those that are equally frequent, remain so.
    """
    parts = []
    for place in range(X.shape[1]):
        column = X.iloc[:, place].array
        try:
            order = np.argsort(np.asarray(column.categories, dtype=object))  # as the encoder's
        except TypeError:  # numbers and text; if rows have both, the encoder refuses them
            return X
        places = np.append(order, -1)  # missing is the last
        n_rows = np.bincount(np.asarray(column.codes) + 1, minlength=len(places))[places + 1]
        frequent = n_rows >= min_frequency
        if not frequent.any():
            return X
        fewer = np.minimum(n_rows, min_frequency)
        fewer[frequent] += np.unique(n_rows[frequent], return_inverse=True)[1]
        # The last of the most frequent ones may have more: it is the first that is kept.
        top = len(n_rows) - 1 - int(np.argmax(n_rows[::-1]))
        parts.append((np.repeat(places, fewer), places[top]))
    n_needed = max(len(codes) for codes, _ in parts)
    if n_needed >= len(X):
        return X
    filled = [np.append(codes, np.full(n_needed - len(codes), top)) for codes, top in parts]
    return pd.DataFrame(
        {
            name: pd.Categorical.from_codes(codes, dtype=dtype)
            for name, codes, dtype in zip(X.columns, filled, X.dtypes, strict=True)
        }
    )
