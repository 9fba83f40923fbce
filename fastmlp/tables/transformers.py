"""Transformers for tables: column selection, scaling of numbers, encoding of categories."""

import copy
from typing import Any, Self

import numpy as np
import pandas as pd
import sklearn
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, issparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_is_fitted

from fastmlp.tables import columns, text

__all__ = ["RobustSmoothScaler", "TableColumns", "TableOneHotEncoder"]


class TableColumns(TransformerMixin, BaseEstimator):
    """Determine the types of the columns of a table, and select and convert usable columns.

    Columns are matched by name: others may be added, and their order and dtypes may change. The
    output has numbers, booleans as 0 and 1 and dates as days since 1970, with NaN for missing
    values, and categories of text. It is a DataFrame regardless of `set_output`, because the next
    step selects columns by dtype.

    Attributes
    ----------
    kinds_ : dict of str to str
        The used columns and their types: "number", "boolean", "date" or "category".
    left_out_ : dict of str to str
        The others, and why they are not used.
    words_ : dict of str to list of str
        For booleans written as text, the words for false and true.
    n_features_in_ : int
    feature_names_in_ : array of shape (`n_features_in_`,)
        If the table has column names.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Determine the types of the columns.

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
            If X is not a table, or if no column is usable.
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
                f"a table must have a usable column, got none ({reasons or 'it has no columns'})."
            )
        self.n_features_in_ = len(names)
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.array(names, dtype=object)
        else:
            self.__dict__.pop("feature_names_in_", None)
        return self

    def transform(self, X: Any) -> pd.DataFrame:
        """Return the used columns, converted.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)

        Returns
        -------
        frame : DataFrame
            With the index of X.

        Raises
        ------
        ValueError
            If columns are missing or have another type than in `fit`.
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
                f"the table lacks the column{plural} {shown}{more} that the model was "
                f"trained on{hint}; add {'them' if plural else 'it'}, if necessary empty."
            )
        converted = {
            name: self._converted(frame.iloc[:, places[name]], name, kind)
            for name, kind in self.kinds_.items()
        }
        return pd.DataFrame(converted, index=frame.index, copy=False)

    def _converted(self, values: pd.Series, name: str, kind: str) -> Any:
        """Convert a column for the next step."""
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
            f"{str(shown)!r}; correct or remove these values."
        )

    def set_output(self, *, transform: str | None = None) -> Self:
        """Do nothing: the output is always a DataFrame.

        Parameters
        ----------
        transform : ignored

        Returns
        -------
        self
        """
        return self

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Return the names of the used columns.

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
        """Return scikit-learn's tags: text and missing values are supported."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = tags.input_tags.allow_nan = True
        return tags


def _as_frame(X: Any) -> pd.DataFrame:
    """Convert a table of any type to a pandas DataFrame."""
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
    """Convert a column to categories of text, the same for 3, 3.0 and "3"."""
    if family == "text":
        return array
    if family == "other":
        raise ValueError(
            f"the column {name!r} must hold one text per row, as in training, got "
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

    The median becomes 0 and the interquartile range 1 (if that is 0, the range becomes 2); then x
    becomes ``x / sqrt(1 + (x / 3)**2)``, to limit outliers and infinity. NaN is kept. In columns
    of zeros and ones the more frequent value becomes 0, so that 0 is always the median.
    (Holzmueller et al. 2024.) Columns are processed one by one, in float64, with float32 output.

    Attributes
    ----------
    center_, scale_ : array of shape (`n_features_in_`,)
        ``(x - center_) * scale_`` is clipped.
    is_binary_ : array of shape (`n_features_in_`,), bool
        Columns of zeros and ones, whose output is ``x - center_``.
    n_features_in_ : int
    feature_names_in_ : array of shape (`n_features_in_`,)
        If X had names.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Compute medians and quartiles.

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
                # Far beyond the bound, with a finite square.
                x = np.clip((part - self.center_[place]) * self.scale_[place], -1e9, 1e9)
            scaled[:, place] = x / np.sqrt(1 + (x / 3) ** 2)
        return scaled

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags: NaN is supported."""
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


class TableOneHotEncoder(OneHotEncoder):
    """scikit-learn's one-hot encoder, faster, in float32, and with support of `set_output`.

    scikit-learn's refuses `set_output` for sparse output; this one is dense then. It also counts
    and encodes categories row by row, in Python; this one once per category. The output is the
    same. So are the parameters, except for `dtype`, which is float32.
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
            and isinstance(self.min_frequency or 1, int)  # not a fraction of all rows
            and (self.min_frequency or 1) >= 1
            and isinstance(self.categories, str)  # otherwise ties depend on their order
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
        """Encode each category once, and look up the rows."""
        few = _a_row_per_category(X) if _is_categorical(X) else None
        if few is None or X.shape[1] != len(self.categories_):
            return super().transform(X)
        encoded = super().transform(few)
        widths = [
            len(known) - (0 if rare is None else len(rare) - 1)  # infrequent ones share an input
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
    """Return a table with each value of each column; None if it has as many rows."""
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
    """Return a small table with the same infrequent categories, in the same order of frequency.

    Categories with fewer than `min_frequency` rows keep their number of rows. The others get that
    many and one more for each smaller number of rows of a category, so that their ranking,
    including ties, is preserved.
    """
    parts = []
    for place in range(X.shape[1]):
        column = X.iloc[:, place].array
        try:
            order = np.argsort(np.asarray(column.categories, dtype=object))  # as the encoder's
        except TypeError:  # numbers and text; the encoder refuses mixed columns
            return X
        places = np.append(order, -1)  # missing is the last
        n_rows = np.bincount(np.asarray(column.codes) + 1, minlength=len(places))[places + 1]
        frequent = n_rows >= min_frequency
        if not frequent.any():
            return X
        fewer = np.minimum(n_rows, min_frequency)
        fewer[frequent] += np.unique(n_rows[frequent], return_inverse=True)[1]
        # The last of the most frequent ones may have more: the first one is kept.
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
