"""The sizes at which a GPU is faster: epochs of every backend, for several widths and batch sizes.

The network is 784-h-10 with Adam on MNIST as uint8. Epochs are timed without the copies to and from
the device, which are timed separately; both in seconds. Backends alternate, each in its own
process, and their losses must agree.
"""

import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastmlp.bench.cases import SIZES, Contender, Job
from fastmlp.bench.chart import check_plot
from fastmlp.bench.contest import Worker, compare, in_words

HIDDEN, QUICK_HIDDEN = (16, 64, 256, 1024), (16, 128)
BATCHES, QUICK_BATCHES = (50, 200, 1000), (200,)

_ROUNDS = 3

#: Losses in float32 drift apart over an epoch's updates.
_TOLERANCE = 0.03

#: The contenders; the first three on the CPU.
CONTENDERS = (
    *(
        Contender("fastmlp", "uint8", {"backend": name}, title=name)
        for name in ("cython", "numba", "numpy", "cuda")
    ),
    Contender("torch-cuda", "float32", title="PyTorch"),
    Contender("torch-cuda", "float32", {"graph": True}, title="PyTorch, graph"),
)
_ON_CPU = ("cython", "numba", "numpy")


def measure(
    quick: bool = False, on_cell: Callable[[int, int], None] = lambda done, of: None
) -> dict[str, Any]:
    """Train every network of the grid with every available backend.

    Parameters
    ----------
    quick : bool, default=False
        A tenth of the samples and a smaller grid, to check that it works.
    on_cell : callable, optional
        Called after every cell of the grid with the number of finished cells and the total.

    Returns
    -------
    dict
        "missing", reasons by contender; "cells", per cell "n_hidden", "batch_size" and, by
        contender, "epoch", "into" and "out" (seconds) and "losses" (see `contest.compare`; of the
        first epoch, compared with the first contender); and "passed", whether all losses agree.
    """
    n_samples = SIZES["mnist"] // (10 if quick else 1)
    grid = [
        {"n_hidden": n_hidden, "batch_size": batch_size}
        for n_hidden in (QUICK_HIDDEN if quick else HIDDEN)
        for batch_size in (QUICK_BATCHES if quick else BATCHES)
    ]
    with ExitStack() as stack:
        workers = []
        for contender in CONTENDERS:
            job = Job(
                "device", contender.library, "mnist", contender.input, dict(contender.parameters),
                n_samples, 0, busy=False, cold=False, folder="",
            )  # fmt: skip
            worker = Worker(contender, job)
            stack.callback(worker.close)
            worker.warm_up(grid[0])
            workers.append(worker)
        present = [worker for worker in workers if not worker.missing]
        cells = []
        for cell in grid if present else []:
            rounds = [
                {worker.contender.label: worker.measure(cell) for worker in present}
                for _ in range(1 if quick else _ROUNDS)
            ]
            cells.append(cell | _summary(rounds))
            on_cell(len(cells), len(grid))
    missing = {worker.contender.label: worker.missing for worker in workers if worker.missing}
    passed = all(found["equal"] for cell in cells for found in cell["losses"].values())
    return {"missing": missing, "cells": cells, "passed": passed}


def _summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return medians by contender, and the differences of the losses."""
    first: dict[str, Any] = next(iter(rounds[0].values()), {"losses": []})
    summary: dict[str, Any] = {
        name: {
            label: statistics.median(found[label][key] for found in rounds) for label in rounds[0]
        }
        for name, key in (("epoch", "value"), ("into", "into"), ("out", "out"))
    }
    summary["losses"] = {
        label: compare(first["losses"], found["losses"], _TOLERANCE)
        for label, found in rounds[0].items()
    }
    return summary


def gain(cell: Mapping[str, Any]) -> float | None:
    """Return the ratio of the fastest backend on the CPU to the GPU, if any.

    Examples
    --------
    >>> gain({"epoch": {"cython": 0.5, "numpy": 0.9, "cuda": 0.25}})
    2.0
    >>> gain({"epoch": {"cython": 0.5}}) is None
    True
    """
    on_cpu = [seconds for label, seconds in cell["epoch"].items() if label in _ON_CPU]
    on_gpu = cell["epoch"].get("cuda")
    return min(on_cpu) / on_gpu if on_cpu and on_gpu else None


def conclusions(found: Mapping[str, Any]) -> list[str]:
    """Describe at which sizes the GPU is faster, per batch size, or why this is not known.

    Examples
    --------
    >>> cells = [
    ...     {"n_hidden": 16, "batch_size": 50, "epoch": {"cython": 1.0, "cuda": 2.0}},
    ...     {"n_hidden": 64, "batch_size": 50, "epoch": {"cython": 3.0, "cuda": 2.0}},
    ... ]
    >>> conclusions({"missing": {}, "cells": cells})
    ['In batches of 50, the GPU is faster from 64 hidden units on.']
    """
    if "cuda" in found["missing"]:
        return [f"No GPU: {found['missing']['cuda']}"]
    sentences = []
    for size in dict.fromkeys(cell["batch_size"] for cell in found["cells"]):
        cells = [cell for cell in found["cells"] if cell["batch_size"] == size]
        slower = [cell["n_hidden"] for cell in cells if (gain(cell) or 0) <= 1]
        widths = [cell["n_hidden"] for cell in cells]
        above = [width for width in widths if not slower or width > max(slower)]
        sentences.append(
            f"In batches of {size}, the GPU is faster from {min(above)} hidden units on."
            if above
            else f"In batches of {size}, the GPU is not faster, up to {max(widths)} hidden units."
        )
    return sentences


def plot(found: Mapping[str, Any], folder: Path, name: str = "devices") -> list[Path]:
    """Draw the epochs of each contender as a heat map, and the gain of the GPU, if there is one.

    Parameters
    ----------
    found : dict
        See `measure`.
    folder : Path
        A directory that exists.
    name : str
        Name of the files, without extension.

    Returns
    -------
    list of Path
        The written files, PNG and SVG.
    """
    check_plot()
    import matplotlib
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    cells = found["cells"]
    widths = list(dict.fromkeys(cell["n_hidden"] for cell in cells))
    sizes = list(dict.fromkeys(cell["batch_size"] for cell in cells))
    labels = list(cells[0]["epoch"])
    panels: list[tuple[str, list[float], list[str], Any, str]] = []
    epochs = [seconds for cell in cells for seconds in cell["epoch"].values()]
    for label in labels:
        values = [cell["epoch"][label] for cell in cells]
        texts = [in_words(value, "s") for value in values]
        panels.append((label, values, texts, LogNorm(min(epochs), max(epochs)), "viridis_r"))
    if "cuda" in labels:
        gains = [gain(cell) or 1 for cell in cells]
        most = max(*gains, 1 / min(gains), 1.1)
        norm = LogNorm(1 / most, most)  # white is a ratio of 1
        panels.append(("CPU / GPU", gains, [f"{g:.1f}x" for g in gains], norm, "RdBu"))

    n_columns = min(4, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(
        figsize=(
            1 + (0.9 + 0.75 * len(sizes)) * n_columns,
            1 + (0.6 + 0.45 * len(widths)) * n_rows,
        ),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes_of = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in axes_of[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, values, texts, norm, colours) in zip(axes_of, panels, strict=False):
        grid = np.reshape(values, (len(widths), len(sizes)))
        axes.imshow(grid, norm=norm, cmap=colours, aspect="auto")
        for i, text in enumerate(texts):
            row, column = divmod(i, len(sizes))
            position = norm(grid[row, column])
            dark = position > 0.45 if colours == "viridis_r" else abs(position - 0.5) > 0.35
            axes.text(column, row, text, ha="center", va="center", fontsize=8,
                      color="white" if dark else "black")  # fmt: skip
        axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axes.set_yticks(range(len(widths)), [str(width) for width in widths])
        axes.set_title(title, fontsize=10)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    figure.supxlabel("samples per batch", fontsize=9)
    figure.supylabel("hidden units", fontsize=9)
    figure.suptitle("Seconds per epoch of 784-h-10, Adam, on MNIST's bytes", fontsize=10)
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastmlp"}):
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths
