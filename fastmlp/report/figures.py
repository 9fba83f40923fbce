"""Figures of the page: SVG charts, whose colors are in the style sheet, and PNG images."""

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.report.markup import Markup, element

__all__ = ["Plot", "bar_chart", "data_uri", "legend", "thinned"]

# In units of the view box, which is as wide as the screen of a phone, so that text is readable.
_WIDTH, _HEIGHT = 360, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 38
_TICKS = 5
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass
class Plot:
    """A chart with two axes.

    Parameters
    ----------
    x_limits, y_limits : (float, float)
        Minimum ranges of the axes; both ends may be equal.
    x_label, y_label : str
    description : str
        Text alternative.
    whole_x : bool, default=False
        Ticks of x are integers.
    """

    x_limits: tuple[float, float]
    y_limits: tuple[float, float]
    x_label: str
    y_label: str
    description: str
    whole_x: bool = False
    _parts: list[Markup] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.x_limits, self.y_limits = _widened(*self.x_limits), _widened(*self.y_limits)

    def _x(self, values: ArrayLike) -> NDArray[np.float64]:
        low, high = self.x_limits
        values = np.asarray(values, np.float64)
        return _LEFT + (values - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, values: ArrayLike) -> NDArray[np.float64]:
        low, high = self.y_limits
        values = np.asarray(values, np.float64)
        return _HEIGHT - _BOTTOM - (values - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    def _points(self, x: ArrayLike, y: ArrayLike) -> list[str]:
        """Return the coordinates of all points; empty texts for non-finite ones."""
        places = zip(self._x(x).tolist(), self._y(y).tolist(), strict=True)
        return [
            f"{a:.1f} {b:.1f}" if math.isfinite(a) and math.isfinite(b) else "" for a, b in places
        ]

    def line(self, x: ArrayLike, y: ArrayLike, class_: str, title: str = "") -> None:
        """Draw a line through points, interrupted at NaN."""
        points = self._points(x, y)
        runs = " ".join(
            f"{'L' if i and points[i - 1] else 'M'}{point}"
            for i, point in enumerate(points)
            if point
        )
        name = element("title", title) if title else None
        self._parts.append(element("path", name, d=runs, class_=f"line {class_}"))

    def points(self, x: ArrayLike, y: ArrayLike, class_: str) -> None:
        """Draw points, as lines of length 0 with round ends, which is compact."""
        drawn = "".join(f"M{point}h0" for point in self._points(x, y) if point)
        self._parts.append(element("path", d=drawn, class_=f"points {class_}"))

    def bars(
        self, edges: ArrayLike, heights: ArrayLike, class_: str, titles: Iterable[str]
    ) -> None:
        """Draw bars between edges, from the lower end of y."""
        left, top = self._x(edges), self._y(heights)
        for i, title in enumerate(titles):
            width = max(left[i + 1] - left[i] - 1, 0.5)
            height = _HEIGHT - _BOTTOM - top[i]
            if height > 0:
                self._parts.append(
                    element(
                        "rect",
                        element("title", title),
                        x=f"{left[i]:.1f}",
                        y=f"{top[i]:.1f}",
                        width=f"{width:.1f}",
                        height=f"{height:.1f}",
                        class_=f"bar {class_}",
                    )
                )

    def mark_x(self, x: float, text: str, *, at_top: bool) -> None:
        """Draw a vertical line with a label."""
        place = float(self._x(x))
        is_right = place > _WIDTH / 2
        end = {"x1": f"{place:.1f}", "x2": f"{place:.1f}", "y1": _TOP, "y2": _HEIGHT - _BOTTOM}
        self._parts.append(element("line", class_="mark", **end))
        self._parts.append(
            element(
                "text",
                text,
                x=f"{place + (-4 if is_right else 4):.1f}",
                y=_TOP + 10 if at_top else _HEIGHT - _BOTTOM - 8,
                text_anchor="end" if is_right else "start",
                class_="mark",
            )
        )

    def svg(self) -> Markup:
        """Return the chart."""
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        grid: list[Markup] = []
        for tick in _ticks(*self.y_limits):
            y = f"{float(self._y(tick)):.1f}"
            grid.append(element("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid"))
            grid.append(
                element("text", _number(tick), x=_LEFT - 6, y=y, dy="0.35em", text_anchor="end")
            )
        for tick in _ticks(*self.x_limits, whole=self.whole_x):
            x = f"{float(self._x(tick)):.1f}"
            grid.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="grid"))
            grid.append(element("text", _number(tick), x=x, y=bottom + 17, text_anchor="middle"))
        middle = (_LEFT + right) / 2
        labels = [
            element("text", self.x_label, x=middle, y=_HEIGHT - 4, text_anchor="middle"),
            element("text", self.y_label, x=4, y=13),
        ]
        return element(
            "svg",
            element("title", self.description),
            grid,
            self._parts,
            labels,
            viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
            role="img",
            aria_label=self.description,
        )


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return limits with a sufficient difference."""
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return float(low), float(high)
    width = 0.5 * (abs(low) or 1.0)
    return low - width, high + width


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return round numbers within limits."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in _STEPS if s * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, math.ceil(step))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12 - math.floor(math.log10(step))) for k in range(first, last + 1)]


def _number(value: float) -> str:
    """Return the label of a tick."""
    for factor, unit in ((1e9, "e9"), (1e6, "M"), (1e3, "k")):
        if 10 * factor <= abs(value) < 1e4 * factor or unit != "k" and factor <= abs(value) < 1e12:
            return f"{value / factor:.4g}{unit}"
    return f"{value + 0.0:.4g}".replace("-", "\N{MINUS SIGN}")


def bar_chart(
    names: Sequence[str],
    values: ArrayLike,
    deviations: ArrayLike,
    *,
    head: tuple[str, str],
    description: str,
) -> Markup:
    """Return horizontal bars with their numbers, as a table.

    Parameters
    ----------
    names : sequence of str
    values, deviations : array-like of shape (n_bars,)
        Lengths, and their standard deviations. Negative lengths have no bar.
    head : (str, str)
        Headings of the columns of names and numbers.
    description : str

    Returns
    -------
    Markup
    """
    values, deviations = np.asarray(values), np.asarray(deviations)
    largest = max(values.max(initial=0), 1e-300)
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element(
                "td",
                element("span", class_="track", style=f"--length:{max(value, 0) / largest:.4f}"),
                class_="bars",
                aria_hidden="true",
            ),
            element("td", f"{value:.4f} ± {deviation:.4f}".replace("-", "\N{MINUS SIGN}")),
        )
        for name, value, deviation in zip(names, values, deviations, strict=True)
    ]
    titles = [
        element("th", head[0], scope="col"),
        element("td", class_="bars", aria_hidden="true"),
        element("th", head[1], scope="col"),
    ]
    return element(
        "table",
        element("thead", element("tr", titles)),
        element("tbody", rows),
        class_="bar-chart",
        aria_label=description,
    )


def legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """Return the legend of a chart, from pairs of a CSS class and a text."""
    return element(
        "ul",
        [element("li", element("i", class_=f"key {class_}"), text) for class_, text in entries],
        class_="legend",
    )


def thinned(x: NDArray, y: NDArray, most: int = 200) -> tuple[NDArray, NDArray]:
    """Return a limited number of points of a line, equally spaced, including both ends."""
    if len(x) <= most:
        return x, y
    span_x, span_y = np.ptp(x) or 1.0, np.ptp(y) or 1.0
    way = np.concatenate(
        [[0.0], np.cumsum(np.abs(np.diff(x)) / span_x + np.abs(np.diff(y)) / span_y)]
    )
    rows = np.unique(np.searchsorted(way, np.linspace(0, way[-1], most - 1)))
    rows = np.union1d(np.minimum(rows, len(x) - 1), [0, len(x) - 1])
    return x[rows], y[rows]


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """Return an image as a PNG data URL.

    Parameters
    ----------
    pixels : array of shape (rows, columns) or (rows, columns, 4), uint8
        Gray, or red, green, blue and opacity.

    Returns
    -------
    str
    """
    rows, columns = pixels.shape[:2]
    colour_type = 0 if pixels.ndim == 2 else 6
    lines = np.zeros((rows, 1 + pixels[0].size), np.uint8)  # each begins with its filter type, none
    lines[:, 1:] = pixels.reshape(rows, -1)
    header = struct.pack(">IIBBBBB", columns, rows, 8, colour_type, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", header),
            (b"IDAT", zlib.compress(lines.tobytes(), 9)),
            (b"IEND", b""),
        )
    )
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
