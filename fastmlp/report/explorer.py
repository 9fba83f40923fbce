"""The list of mistakes: each row with its nearest training rows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.report.analysis import Classification, Regression, take_rows
from fastmlp.report.markup import Child, Markup, element, table
from fastmlp.report.rows import Cells, Pictures, cell_text, shortened

__all__ = ["Neighbours", "RowView", "class_cards", "error_cards"]

_MOST_COLUMNS = 20  # of a complete row
_FIRST_COLUMNS = 6  # that are shown at first
_MOST_BYTES = 1_500_000  # of all cards
_BADGE = element("span", "label suspected", class_="badge")


@dataclass(frozen=True)
class Neighbours:
    """The nearest training rows of some mistakes.

    Attributes
    ----------
    rows : array of shape (n_mistakes, n_neighbors)
        Indices of training rows.
    texts : function of a row
        The class or the target of a training row.
    names : function of a row
        The name of a training row.
    """

    rows: NDArray[np.intp]
    texts: Callable[[int], str]
    names: Callable[[int], str]


@dataclass(frozen=True)
class RowView:
    """How rows are shown.

    Attributes
    ----------
    names : function of a row
        The name of a row.
    X, X_train : array, sparse matrix or frame; X_train may be None
    pictures : Pictures or None
    cells : Cells
        The features of the rows.
    train_cells : Cells or None
    frame_cells : Cells or None
        The rows as shown to the user, if these are not the features.
    order : array of shape (n_features,)
        The features, the most important first.
    """

    names: Callable[[int], str]
    X: Any
    X_train: Any
    pictures: Pictures | None
    cells: Cells
    train_cells: Cells | None
    frame_cells: Cells | None
    order: NDArray[np.intp]

    def body(self, row: int, text: str, number: int, neighbours: Neighbours | None) -> list[Child]:
        """Return the content of a card: a row and its neighbors."""
        near = [] if neighbours is None else neighbours.rows[number].tolist()
        if self.pictures is not None:
            picture = self.pictures(take_rows(self.X, np.array([row])), text)
            return [picture, self._near_pictures(near, neighbours)]
        return [*self._table(row, near, neighbours)]

    def _near_pictures(self, near: list[int], neighbours: Neighbours | None) -> Child:
        if not near or neighbours is None or self.pictures is None:
            return None
        texts = [neighbours.texts(row) for row in near]
        shown = [
            element(
                "figure",
                self.pictures(take_rows(self.X_train, np.array([row])), f"training row, {text}"),
                element("figcaption", element("b", text), " ", neighbours.names(row)),
            )
            for row, text in zip(near, texts, strict=True)
        ]
        summary = element("summary", "Nearest training rows: ", ", ".join(texts))
        return element("details", summary, element("div", shown, class_="near"))

    def _table(self, row: int, near: list[int], neighbours: Neighbours | None) -> Iterable[Child]:
        cells, own = self.cells, self.cells.row(row)
        if self.frame_cells is not None:
            known = self.frame_cells.row(row)
            pairs = list(zip(self.frame_cells.names, known, strict=True))
            yield _pairs(pairs[:_MOST_COLUMNS])
            if len(pairs) > _MOST_COLUMNS:
                yield element("p", f"and {len(pairs) - _MOST_COLUMNS} more columns", class_="note")
        order = self._shown(own)
        if self.frame_cells is None:
            yield _pairs((cells.names[i], own[i]) for i in order[:_FIRST_COLUMNS])
        if neighbours is not None and self.train_cells is not None and near:
            texts = [neighbours.texts(r) for r in near]
            others = [self.train_cells.row(r) for r in near]
            head: list[Child] = ["", "this row"]
            head += [
                [text, element("small", neighbours.names(r))]
                for r, text in zip(near, texts, strict=True)
            ]
            summary = element("summary", "Nearest training rows: ", ", ".join(texts))
        elif len(order) > _FIRST_COLUMNS and self.frame_cells is None:
            others, head = [], ["", "this row"]
            summary = element("summary", "The whole row")
        else:
            return
        shown = order[:_MOST_COLUMNS]
        body = [
            [shortened(cells.names[i], 30), cell_text(own[i]), *(cell_text(o[i]) for o in others)]
            for i in shown
        ]
        more = len(order) - len(shown)
        yield element(
            "details",
            summary,
            table(head, body, label="The row and its nearest training rows"),
            element("p", f"and {more} more features", class_="note") if more else None,
        )

    def _shown(self, own: list[Any]) -> list[int]:
        """Return the features in the order shown; if there are many, the nonzero ones."""
        order = self.order.tolist()
        if len(order) <= _MOST_COLUMNS:
            return order
        return [i for i in order if own[i] != 0] or order


def _pairs(pairs: Iterable[tuple[str, Any]]) -> Markup:
    """Return names and values, side by side."""
    shown = [
        element("div", element("dt", shortened(name, 30)), element("dd", cell_text(value)))
        for name, value in pairs
    ]
    return element("dl", shown, class_="cells")


def class_cards(
    result: Classification,
    rows: NDArray[np.intp],
    is_suspected: NDArray[np.bool_],
    view: RowView,
    neighbours: Neighbours | None,
) -> list[Markup]:
    """Return a card for each mistake of a classifier, up to the limit of the page."""

    def card(number: int, row: int) -> Markup:
        true, predicted = int(result.true[row]), int(result.predicted[row])
        names = [shortened(str(result.classes[k]), 30) for k in (true, predicted)]
        own = f"{result.probabilities[row, true]:.1%}" if true < result.n_known else "unknown"
        text = f"labeled {names[0]}, predicted {names[1]}"
        return element(
            "article",
            element("h4", view.names(row), _BADGE if is_suspected[row] else None),
            element("p", element("b", names[0]), " → ", element("b", names[1]), class_="verdict"),
            element(
                "p", f"{names[1]}: {result.confidence[row]:.1%}, {names[0]}: {own}", class_="note"
            ),
            view.body(row, text, number, neighbours),
            class_="mistake",
            data_row=row,
            data_true=true,
            data_predicted=predicted,
            data_suspected=bool(is_suspected[row]),
        )

    return _fitting(card, rows)


def error_cards(
    result: Regression, rows: NDArray[np.intp], view: RowView, neighbours: Neighbours | None
) -> list[Markup]:
    """Return a card for each of the largest errors of a regressor."""

    def card(number: int, row: int) -> Markup:
        output, error = int(result.worst_output[row]), float(result.errors[row])
        true, predicted = result.true[row, output], result.predicted[row, output]
        direction = "high" if error > 0 else "low"
        name = result.names[output] if len(result.names) > 1 else ""
        return element(
            "article",
            element("h4", view.names(row)),
            element(
                "p",
                f"{name}: " if name else None,
                element("b", f"{cell_text(abs(error))} too {direction}"),
                class_="verdict",
            ),
            element(
                "p", f"true {cell_text(true)}, predicted {cell_text(predicted)}", class_="note"
            ),
            view.body(row, f"true {cell_text(true)}", number, neighbours),
            class_="mistake",
            data_row=row,
            data_direction=direction,
        )

    return _fitting(card, rows)


def _fitting(
    card: Callable[[int, int], Markup], rows: Sequence[int] | NDArray[np.intp]
) -> list[Markup]:
    """Return cards of the first rows, up to the limit of the page."""
    cards: list[Markup] = []
    size = 0
    for number, row in enumerate(np.asarray(rows).tolist()):
        made = card(number, row)
        size += len(made)
        if size > _MOST_BYTES and cards:
            break
        cards.append(made)
    return cards
