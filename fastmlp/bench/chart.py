"""The chart of a run."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_COLOURS = {
    "scikit-learn float64": "#f28e2b",
    "scikit-learn float32": "#ffbe7d",
    "PyTorch float32": "#b07aa1",
    "JAX float32": "#4e79a7",
}


def check_plot() -> None:
    """Raise ValueError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise ValueError("a chart needs matplotlib: pip install 'fastmlp[plot]'.")


def plot(run: Mapping[str, Any], folder: Path, name: str = "benchmark") -> list[Path]:
    """Draw the ratios of a document as bars, and save it as PNG and SVG.

    Ratios are drawn on a logarithmic scale, so that twice as fast and twice as slow are bars of
    the same length. Cases without another library are omitted.

    Parameters
    ----------
    run : dict
        See `document`.
    folder : Path
        A directory that exists.
    name : str
        Name of the files, without extension.

    Returns
    -------
    list of Path
        The written files.
    """
    check_plot()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    groups = []  # per case: description and bars
    for entry in run["cases"]:
        bars = [p for p in entry.get("peers", []) if p["library"] != "fastmlp" and "ratio" in p]
        if bars:
            groups.append((entry["about"], bars))
    if not groups:
        raise ValueError("there is no ratio to draw: no other library took part.")
    n_bars = sum(len(bars) for _, bars in groups)
    figure = Figure(figsize=(9, 1.3 + 0.25 * n_bars + 0.12 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()

    ticks, y = [], 0.0
    highest, lowest = 1.0, 1.0
    for _, bars in groups:
        ticks.append(y + (len(bars) - 1) / 2)
        for bar in bars:
            ratio = bar["ratio"]
            median, low, high = ratio["median"], ratio["lowest"], ratio["highest"]
            # From 1 to the ratio; barh on a logarithmic axis would begin at the edge.
            axes.barh(y, median - 1, left=1, height=0.85, color=_COLOURS.get(bar["label"], "#999"))
            axes.plot([low, high], [y, y], color="#333", linewidth=1, solid_capstyle="butt")
            axes.text(max(high, 1) * 1.03, y, _times(median), va="center", fontsize=9)
            highest, lowest = max(highest, high), min(lowest, low)
            y += 1
        y += 0.5
    axes.axvline(1, color="#333", linewidth=1.2)
    axes.set_xscale("log")
    axes.set_xlim(min(0.9, lowest * 0.9), highest * 1.25)
    marks = [
        m for m in (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100) if lowest <= m <= highest * 1.2
    ]
    axes.set_xticks(marks, [f"{mark:g}x" for mark in marks])
    axes.xaxis.minorticks_off()
    axes.set_yticks(ticks, [label for label, _ in groups], fontsize=9)
    axes.set_ylim(y - 1, -0.6)  # the first case on top
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#ddd")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    used = {bar["label"] for _, bars in groups for bar in bars}
    patches = [Patch(color=c, label=label) for label, c in _COLOURS.items() if label in used]
    figure.legend(handles=patches, loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    axes.set_xlabel("times as fast as the other library (memory: times as little); line: spread")
    figure.supxlabel(_run_in_words(run), fontsize=8, color="#666")

    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    # SVG: text stays text, and the same run gives the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastmlp"}):
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio < 100 else f"{ratio:.0f}x"


def _run_in_words(run: Mapping[str, Any]) -> str:
    versions = ", ".join(
        f"{k} {v}" for k, v in run["versions"].items() if k not in ("Python", "scipy")
    )
    quick = ", quick sizes" if run["quick"] else ""
    isa = run["instruction_set"] or run["backend"]
    return f"{run['date']}, {run['cpu']}, {isa}, {run['threads']} threads{quick}, {versions}"
