"""The numbers of a C header: networks rounded to float32 or int8, and the rows that it reads.

A `PlainNetwork` in float32 or a `ByteNetwork` computes what the header computes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fastmlp.core.arrays import activate
from fastmlp.portable import PlainColumn, PlainModel, PlainNetwork, PlainTable

__all__ = [
    "ByteNetwork",
    "arrays_of",
    "as_float32",
    "as_int8",
    "checked_rows",
    "float32",
    "is_scaled_alike",
    "network_inputs",
    "read_numbers",
    "standardised",
    "with_arrays",
]

#: Inputs of a layer of which int8 sums fit into 32 bits.
_MOST_INPUTS = (2**31 - 1) // (255 * 127)


# -------------------------------------------------------------------------------------------- rows


def checked_rows(model: PlainModel, X: Any) -> Any:
    """Return rows as an array of uint8 or the model's dtype; those of tables as a list of dict."""
    if model.table is not None:
        if hasattr(X, "to_dict"):
            X = X.astype(object).where(X.notna(), None).to_dict("records")
        rows = list(X)
        if not rows or not all(isinstance(row, Mapping) for row in rows):
            raise ValueError(
                "rows of a table must be a DataFrame or a list of dicts by the names of columns, "
                f"and at least one, got {X!r:.60}."
            )
        return rows
    X = np.asarray(X)
    if X.ndim != 2 or X.shape[1] != model.n_features or not len(X) or X.dtype.kind not in "biuf":
        raise ValueError(
            f"rows must be numbers of shape (n_rows, {model.n_features}), and at least one, got "
            f"{X.dtype} of shape {X.shape}: pass rows as to predict."
        )
    if not np.isfinite(X).all():
        raise ValueError("rows must be finite, but contain NaN or infinity: leave out such rows.")
    return X if X.dtype == np.uint8 else X.astype(model.dtype)


def read_numbers(model: PlainModel, rows: Any) -> NDArray:
    """Return rows as a header reads them: uint8 or float32, a number per feature or column."""
    if model.table is None:
        return np.ascontiguousarray(rows if rows.dtype == np.uint8 else rows.astype(np.float32))
    columns = model.table.columns
    return np.array(
        [[_number(column, row.get(column.name)) for column in columns] for row in rows], np.float32
    )


def _number(column: PlainColumn, value: Any) -> float:
    """Return the number for a value of a column: NaN if it is missing, -1 for other words."""
    if value is None or value != value:  # noqa: PLR0124
        return np.nan
    if column.kind == "category":
        words = list(column.inputs)
        return words.index(str(value)) if str(value) in words else -1
    return column.number(value)


def network_inputs(model: PlainModel, numbers: NDArray) -> NDArray:
    """Return the inputs of the networks for rows as a header reads them."""
    if model.table is None:
        return numbers
    columns = model.table.columns
    return model.table.inputs(
        [
            {column.name: _value(column, x) for column, x in zip(columns, row, strict=True)}
            for row in numbers.tolist()
        ]
    )


def _value(column: PlainColumn, number: float) -> float | str | None:
    """Return what a number of `_number` stands for."""
    if np.isnan(number):
        return None
    if column.kind != "category":
        return number
    return "\x00 other" if number < 0 else list(column.inputs)[int(number)]


# ----------------------------------------------------------------------------------------- float32


def as_float32(model: PlainModel) -> PlainModel:
    """Return a model with all numbers in float32.

    Raises
    ------
    ValueError
        If they are too large.
    """
    return replace(model.mapped(_rounded), table=_rounded_table(model.table))


def float32(array: NDArray) -> NDArray[np.float32]:
    """Return numbers in float32; raise ValueError if they are too large."""
    with np.errstate(over="ignore"):
        rounded = np.asarray(array).astype(np.float32)
    if not np.isfinite(rounded).all():
        raise ValueError(
            "the numbers of the model must fit into float32, with which C computes, got one of "
            f"size {np.abs(array).max():.3g}: scale inputs and targets, and train it anew."
        )
    return rounded


def _rounded(network: PlainNetwork) -> PlainNetwork:
    input_scale = network.input_scale
    return replace(
        network,
        coefs=list(map(float32, network.coefs)),
        intercepts=list(map(float32, network.intercepts)),
        input_scale=input_scale and (float32(input_scale[0]), float32(input_scale[1])),
    )


def _rounded_table(table: PlainTable | None) -> PlainTable | None:
    if table is None:
        return None
    columns = [
        replace(
            column,
            center=float(float32(np.array(column.center))),
            scale=float(float32(np.array(column.scale))),
        )
        for column in table.columns
    ]
    return replace(table, columns=tuple(columns))


# -------------------------------------------------------------------------------------------- int8


@dataclass(frozen=True)
class ByteNetwork(PlainNetwork):
    """A network whose weights, and inputs of layers, have 8 bits.

    The inputs of a layer are rounded to 256 values from the smallest to the largest of the row, so
    no ranges are to be known beforehand; bytes remain as they are if all are scaled alike.

    Attributes
    ----------
    coefs : list of array of shape (fan_in, fan_out), int8
    scales : list of array of shape (fan_out,), float32
        The weights of unit j of a layer are ``coefs[layer][:, j] * scales[layer][j]``, ...
    totals : list of array of shape (fan_out,), float32
        ... and add up to ``totals[layer][j]``.
    """

    scales: list[NDArray[np.float32]] = field(default_factory=list)
    totals: list[NDArray[np.float32]] = field(default_factory=list)

    @classmethod
    def of(cls, network: PlainNetwork) -> Self:
        """Return a network with its weights rounded."""
        if max(network.units[:-1]) > _MOST_INPUTS:
            raise ValueError(
                f"with dtype='int8', a layer must have at most {_MOST_INPUTS} inputs, got "
                f"{max(network.units[:-1])}: use dtype='float32'."
            )
        scales = [np.abs(coef).max(axis=0) / np.float32(127) for coef in network.coefs]
        coefs = [
            np.rint(coef / np.where(scale == 0, 1, scale)).clip(-127, 127).astype(np.int8)
            for coef, scale in zip(network.coefs, scales, strict=True)
        ]
        totals = [
            float32(coef.sum(axis=0, dtype=np.int64) * scale.astype(np.float64))
            for coef, scale in zip(coefs, scales, strict=True)
        ]
        return cls(**{**vars(network), "coefs": coefs}, scales=scales, totals=totals)

    def values(self, X: NDArray) -> list[NDArray]:
        """Return the values of each layer after the inputs, for samples."""
        x, low, step = self._inputs(X)
        values: list[NDArray] = []
        for layer, coef in enumerate(self.coefs):
            if values:
                x, low, step = _as_bytes(values[-1])
            products = (x.astype(np.int32) @ coef.astype(np.int32)).astype(np.float32)
            z = step * self.scales[layer] * products
            z += low * self.totals[layer] + self.intercepts[layer]
            activate(self.output if layer == len(self.coefs) - 1 else self.activation, z)
            values.append(z)
        if self.target_scale is not None:
            scale, shift = self.target_scale
            values[-1] = ((values[-1] - shift) / scale).astype(np.float32)
        return values

    def _inputs(self, X: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        scale, shift = self.input_scale or (np.ones(1, np.float32), np.zeros(1, np.float32))
        if not is_scaled_alike(self):
            return _as_bytes(X.astype(np.float32) * scale + shift)
        if X.dtype == np.uint8:
            return X, shift[0], scale[0]
        x, low, step = _as_bytes(X.astype(np.float32))
        return x, low * scale[0] + shift[0], step * scale[0]


def as_int8(model: PlainModel) -> PlainModel:
    """Return a model whose networks are of class `ByteNetwork`.

    Raises
    ------
    ValueError
        If a layer has too many inputs, or numbers are too large.
    """
    return as_float32(model).mapped(ByteNetwork.of)


def _as_bytes(x: NDArray[np.float32]) -> tuple[NDArray, NDArray, NDArray]:
    """Round the numbers of each row to bytes; return these, the smallest, and the step."""
    low = x.min(axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        step = (x.max(axis=1, keepdims=True) - low) / np.float32(255)
        step[~np.isfinite(step)] = np.nan
        factor = np.where(step > 1e-30, np.float32(1) / step, np.float32(0))
        scaled = (x - low) * factor + np.float32(0.5)
    return np.nan_to_num(scaled, nan=0, posinf=0).astype(np.uint8), low, step


def is_scaled_alike(network: PlainNetwork) -> bool:
    """Return whether a network scales all inputs by the same factor and shift, if at all."""
    if network.input_scale is None:
        return True
    scale, shift = network.input_scale
    return bool((scale == scale[0]).all() and (shift == shift[0]).all())


def standardised(network: PlainNetwork, X: NDArray) -> PlainNetwork:
    """Return the same function in float64, whose weights are for inputs standardised by X."""
    scale, shift = (
        part.astype(np.float64)
        for part in network.input_scale or (np.ones(X.shape[1]), np.zeros(X.shape[1]))
    )
    center, spread = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
    # What is constant in X is scaled as the network does.
    spread = np.where(spread == 0, 1 / np.where(scale == 0, 1, np.abs(scale)), spread)
    coefs, intercepts = list(network.coefs), list(network.intercepts)
    intercepts[0] = intercepts[0] + (scale * center + shift) @ coefs[0]
    coefs[0] = coefs[0] * (scale * spread)[:, np.newaxis]
    input_scale = 1 / spread, -center / spread
    return replace(network, coefs=coefs, intercepts=intercepts, input_scale=input_scale)


# ------------------------------------------------------------------------------------------ arrays


def arrays_of(network: PlainNetwork) -> dict[str, NDArray]:
    """Return the arrays that are stored of a network, by the ends of their names."""
    arrays: dict[str, NDArray] = {}
    if network.input_scale is not None:
        scale, shift = network.input_scale
        if is_scaled_alike(network):
            scale, shift = scale[:1], shift[:1]
        arrays["input_scale"] = scale
        if shift.any():
            arrays["input_shift"] = shift
    for layer, (coef, intercept) in enumerate(zip(network.coefs, network.intercepts, strict=True)):
        arrays[f"weights_{layer + 1}"] = coef
        if isinstance(network, ByteNetwork):
            arrays[f"scales_{layer + 1}"] = network.scales[layer]
            arrays[f"totals_{layer + 1}"] = network.totals[layer]
        arrays[f"biases_{layer + 1}"] = intercept
    if network.target_scale is not None:  # such that it is a product and a sum
        scale, shift = network.target_scale
        arrays["target_scale"] = float32(1 / scale)
        arrays["target_shift"] = float32(-shift / scale)
    return arrays


def with_arrays(network: PlainNetwork, arrays: Mapping[str, NDArray]) -> PlainNetwork:
    """Return a network with stored arrays instead of its own.

    Raises
    ------
    KeyError, ValueError
        If one is missing, or of another size.
    """
    input_scale = target_scale = None
    if "input_scale" in arrays:
        scale = arrays["input_scale"]
        shift = arrays.get("input_shift", np.zeros(1, np.float32))
        n_features = network.units[0]
        input_scale = np.resize(scale, n_features), np.resize(shift, n_features)
    if "target_scale" in arrays:
        factor, offset = (arrays[f"target_{part}"].astype(float) for part in ("scale", "shift"))
        target_scale = 1 / factor, -offset / factor

    def per_layer(key: str) -> list[NDArray]:
        shapes = [coef.shape if key == "weights" else coef.shape[1:] for coef in network.coefs]
        return [arrays[f"{key}_{layer + 1}"].reshape(shape) for layer, shape in enumerate(shapes)]

    read = replace(
        network,
        coefs=per_layer("weights"),
        intercepts=per_layer("biases"),
        input_scale=input_scale,
        target_scale=target_scale,
    )
    if "scales_1" not in arrays:
        return read
    return ByteNetwork(**vars(read), scales=per_layer("scales"), totals=per_layer("totals"))
