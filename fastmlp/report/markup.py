"""Generate HTML, with all text escaped."""

from collections.abc import Iterable
from html import escape
from typing import Any, TypeAlias

__all__ = ["Child", "Markup", "element", "table"]

_VOID = {"img", "input"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


#: Content of an element: text, which is escaped; elements; several of them; or nothing.
Child: TypeAlias = "str | Markup | Iterable[Child] | None"


def element(tag: str, *children: Child, **attributes: Any) -> Markup:
    """Return an element.

    Parameters
    ----------
    tag : str
    *children : str, Markup, iterable of these, or None
    **attributes : object
        ``class_`` and ``for_`` are for Python's keywords, ``_`` in a name becomes ``-``. None and
        False omit an attribute, True sets it without a value.

    Returns
    -------
    Markup

    Examples
    --------
    >>> element("p", "1 < 2", element("b", "!"), class_="note", hidden=True)
    '<p class="note" hidden>1 &lt; 2<b>!</b></p>'
    """
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        parts.append(f" {name}" if value is True else f' {name}="{escape(str(value))}"')
    parts.append(">")
    if tag not in _VOID:
        parts.extend(_flat(children))
        parts.append(f"</{tag}>")
    return Markup("".join(parts))


def _flat(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str):
            yield escape(child, quote=False)
        elif child is not None:
            yield from _flat(child)


def table(
    head: Iterable[Child],
    rows: Iterable[Iterable[Child]],
    *,
    label: str,
    tall: bool = False,
    **attributes: Any,
) -> Markup:
    """Return a table whose first column names the rows, in a box that scrolls if necessary.

    Parameters
    ----------
    head : iterable of children
        One cell per column.
    rows : iterable of iterable of children
    label : str
        Accessible name.
    tall : bool, default=False
        Whether it may have many rows; then the box scrolls in both directions.
    **attributes : object
        Attributes of the table.

    Returns
    -------
    Markup
    """
    body = []
    for row in rows:
        first, *others = row
        body.append(
            element(
                "tr", element("th", first, scope="row"), [element("td", cell) for cell in others]
            )
        )
    titles = [element("th", cell, scope="col") for cell in head]
    return scrolling(
        element(
            "table",
            element("thead", element("tr", titles)) if titles else None,
            element("tbody", body),
            **attributes,
        ),
        label,
        tall=tall,
    )


def scrolling(content: Child, label: str, *, tall: bool = False) -> Markup:
    """Return a box that scrolls if its content is too large, also with the keyboard."""
    return element(
        "div",
        content,
        class_="scroll tall" if tall else "scroll",
        tabindex="0",
        role="region",
        aria_label=label,
    )
