"""The columns of a table in an ONNX graph: the inputs, and what comes before the networks."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastmlp.export.onnx_graph import Graph, element
from fastmlp.portable import PlainColumn, PlainTable

__all__ = ["column_input", "is_text", "table_inputs"]


def is_text(column: PlainColumn) -> bool:
    """Return whether the input for a column is text."""
    return column.kind == "category" or column.words is not None


def table_inputs(graph: Graph, table: PlainTable) -> str:
    """Add what comes before the networks of a table: float32 of shape (N, n_inputs)."""
    numbers = [column for column in table.columns if column.kind != "category"]
    parts = _numbers(graph, sorted(numbers, key=lambda column: column.input)) if numbers else []
    categories = [column for column in table.columns if column.kind == "category"]
    for column in sorted(categories, key=_first_input):
        if _first_input(column) < table.n_inputs:
            parts.append(_one_hot(graph, column))
    return graph.node("Concat", *parts, axis=1)


def _numbers(graph: Graph, columns: list[PlainColumn]) -> list[str]:
    """Add the inputs of numbers, and those that say which are missing."""

    def vector(of: Callable[[PlainColumn], Any]) -> str:
        return graph.constant([of(column) for column in columns])

    def number(value: float) -> str:
        return graph.constant(value, np.float64)

    x = graph.node("Concat", *(_number(graph, column) for column in columns), axis=1)
    x = graph.node("Max", x, vector(lambda column: 0.0 if column.is_binary else -math.inf))
    x = graph.node("Min", x, vector(lambda column: 1.0 if column.is_binary else math.inf))
    x = graph.node("Sub", x, vector(lambda column: column.center))
    x = graph.node("Mul", x, vector(lambda column: 1.0 if column.is_binary else column.scale))
    x = graph.node("Min", graph.node("Max", x, number(-1e9)), number(1e9))
    third = graph.node("Div", x, number(3))
    root = graph.node("Sqrt", graph.node("Add", graph.node("Mul", third, third), number(1)))
    smooth = graph.node("Div", x, root)
    x = graph.node("Where", vector(lambda column: column.is_binary), x, smooth)
    is_missing = graph.node("IsNaN", x)
    x = graph.node("Where", is_missing, number(0), x)
    parts = [graph.node("Cast", x, to=element(np.float32))]
    marked = [place for place, column in enumerate(columns) if column.missing >= 0]
    if marked:
        marked.sort(key=lambda place: columns[place].missing)
        flags = graph.node("Gather", is_missing, graph.constant(marked, np.int64), axis=1)
        parts.append(graph.node("Cast", flags, to=element(np.float32)))
    return parts


def _number(graph: Graph, column: PlainColumn) -> str:
    """Add a column as float64; words other than the two are missing."""
    name = column.name
    if column.words is not None:
        spelled = {
            spelling: float(value)
            for value, word in enumerate(column.words)
            for spelling in (word.lower(), word.upper(), word.capitalize(), word)
        }
        name = _looked_up(graph, name, spelled, math.nan)
    return graph.node("Cast", name, to=element(np.float64))


def _first_input(column: PlainColumn) -> int:
    """Return the first input of a category; a large number if it has none."""
    places = [*column.inputs.values(), column.unknown, column.missing]
    return min((place for place in places if place >= 0), default=2**31)


def _one_hot(graph: Graph, column: PlainColumn) -> str:
    """Add the inputs of a column of categories, which are consecutive."""
    from fastmlp.tables.text import MISSING_WORDS

    places = dict.fromkeys(MISSING_WORDS, column.missing) | column.inputs
    first = _first_input(column)
    width = max(*places.values(), column.unknown) - first + 1

    def own(place: int) -> int:
        return place - first if place >= 0 else width  # which is none

    codes = {word: own(place) for word, place in places.items()}
    code = _looked_up(graph, column.name, codes, own(column.unknown))
    ends = graph.constant([0, 1], np.float32)
    encoded = graph.node("OneHot", code, graph.constant(width, np.int64), ends)
    return graph.node("Reshape", encoded, graph.constant([-1, width], np.int64))


def _looked_up(graph: Graph, name: str, words: dict[str, Any], default: Any) -> str:
    """Add a dictionary from text to numbers, all int or all float."""
    kind = "int64" if isinstance(default, int) else "float"
    attributes: dict[str, Any] = {
        "keys_strings": list(words),
        f"values_{kind}s": list(words.values()),
    }
    attributes[f"default_{kind}"] = default
    return graph.node("LabelEncoder", name, domain="ai.onnx.ml", **attributes)


def column_input(column: PlainColumn, values: list[Any], dtype: DTypeLike) -> NDArray:
    """Return a column of a table as an input, of shape (n_rows, 1)."""
    if is_text(column):
        found: list[Any] = ["" if value is None else str(value) for value in values]
    else:
        found = [math.nan if value is None else column.number(value) for value in values]
    return np.array(found, dtype).reshape(-1, 1)
