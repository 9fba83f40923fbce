"""``fastmlp parity`` and ``bench``: the same numbers as others, and how fast."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastmlp import __version__, backends
from fastmlp.cli.output import new_console, note

if TYPE_CHECKING:
    from fastmlp.parity import Row

_NO_PARITY = 1
_UNEQUAL_LOSSES = 1


def parity(
    n: Annotated[
        int, typer.Option("--n", min=1, metavar="N", help="Configurations to draw.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Determines what is drawn.")] = 0,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join(backends.NAMES),
            help="Check this backend; may be given again. Otherwise all that are available.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the table.")
    ] = False,
) -> None:
    """Compare every backend with the installed scikit-learn.

    Both learn random data with random parameters. Shown are the largest differences in initial
    weights, losses, weights and predictions, relative to the largest number (losses: to each),
    and the share of the labels that differ. In float64 the NumPy backend must give
    scikit-learn's numbers exactly; the others may differ by 1e-8 in losses and by 1e-6 in weights
    and predictions. In float32 only losses are judged: by 1e-3.

    The exit status is 1 if a difference is larger; the worst configuration is then printed as
    code that reproduces it.
    """
    import numpy as np
    import sklearn
    from rich.progress import track

    from fastmlp.parity import check, configurations

    names = list(dict.fromkeys(map(backends.resolve, backend or backends.available())))
    drawn = track(
        configurations(n, seed),
        description="",
        total=n,
        console=new_console(),
        transient=True,
        disable=not sys.stdout.isatty(),  # rich would take FORCE_COLOR for a terminal, too
    )
    rows = check(drawn, names)
    passed = not any(row.failures for row in rows)
    if as_json:
        document = {
            "passed": passed,
            "n": n,
            "seed": seed,
            "fastmlp": __version__,
            "scikit-learn": sklearn.__version__,
            "NumPy": np.__version__,
            "rows": [row.as_dict() for row in rows],
        }
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        _print_parity(rows)
    if not passed:
        raise typer.Exit(_NO_PARITY)


def bench(
    suite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="mnist, tabular, sparse, predict, startup, memory, backends, threads, all, or a "
            "case of theirs, or devices; may be given again. Otherwise all, without devices.",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A tenth of the samples: shows that it works, not how fast."),
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all that was measured.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Draw the ratios (benchmark.png, .svg) or a heat map (devices.png, .svg).",
        ),
    ] = None,
) -> None:
    """Measure fastmlp beside scikit-learn, and PyTorch and JAX if they are installed.

    Every library works in a process of its own, in turns, on the same data with the same initial
    weights. Shown are the medians, how many times as long the other takes (the lowest and highest
    of the rounds in brackets), how far the losses are apart, and the bare matrix products of the
    same epoch with our share of their time.

    The suite "devices" shows from where on a GPU pays: seconds per epoch of every backend, and of
    PyTorch on the GPU, for several widths and batch sizes.

    The exit status is 1 if losses are further apart than they may be. A full run takes some
    minutes, on a machine that has nothing else to do.

    For example:

        fastmlp bench --quick
        fastmlp bench --suite mnist --suite tabular --json run.json --plot .
        fastmlp bench --suite devices --plot .
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from fastmlp import bench
    from fastmlp.bench import devices
    from fastmlp.files import atomic_write

    others = [name for name in suite or ["all"] if name != "devices"]
    cases = bench.select(others) if others else []
    if plot is not None:
        bench.check_plot()
        if not plot.is_dir():
            raise ValueError(f"--plot must be a directory that exists, got {plot}.")
    if json_file is not None and not json_file.parent.is_dir():
        raise ValueError(f"--json must be a file in a directory that exists, got {json_file}.")
    columns = TextColumn("{task.description}"), BarColumn(bar_width=16), TimeElapsedColumn()
    entries: list[dict[str, Any]] = []
    found: dict[str, Any] | None = None
    with Progress(
        *columns,
        console=new_console(),
        transient=True,
        disable=not sys.stdout.isatty(),  # rich would take FORCE_COLOR for a terminal, too
    ) as progress:
        task = progress.add_task("", total=len(cases))

        def show(done: int, of: int) -> None:
            progress.update(task, completed=len(entries) + done / of)

        for case in cases:
            progress.update(task, description=case.about, completed=len(entries))
            entries.append(bench.measure(case, quick, show))
        if "devices" in (suite or []):
            progress.update(task, description="devices", completed=0, total=None)
            found = devices.measure(
                quick, lambda done, of: progress.update(task, completed=done, total=of)
            )
    document = bench.document(entries, quick)
    if cases:
        _print_bench(document)
    if found is not None:
        document |= {"devices": found, "passed": document["passed"] and found["passed"]}
        _print_devices(found)
    if json_file is not None:
        with atomic_write(json_file) as file:
            file.write((json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    if plot is not None:
        drawn = bench.plot(document, plot) if cases else []
        drawn += devices.plot(found, plot) if found and found["cells"] else []
        for path in drawn:
            typer.echo(path)
    if not document["passed"]:
        raise typer.Exit(_UNEQUAL_LOSSES)


def _print_parity(rows: Sequence["Row"]) -> None:
    """Print the largest differences, and the worst configuration of every row that failed."""
    from dataclasses import astuple

    from rich.table import Table

    headings = ("initial\nweights", "loss\ncurves", "weights", "predictions", "labels")
    table = Table("backend", "dtype", "fits", *headings, "verdict", box=None, pad_edge=False)
    for row in rows:
        numbers = astuple(row.largest)[: len(headings)]
        cells = [f"{number:.1e}" if number else "0" for number in numbers]
        verdict = "FAILED" if row.failures else "passed"
        table.add_row(row.backend, row.dtype, str(row.fits), *cells, verdict)
    new_console().print(table)
    if unstable := max(row.unstable for row in rows):
        note(
            f"in float32, {unstable} are not judged: scikit-learn's own losses change too much "
            "when X is rounded."
        )
    for row in rows:
        name = f"{row.backend} {row.dtype}"
        if row.unequal:
            note(f"{name}: {row.unequal} stopped in another epoch than scikit-learn.")
        if row.failures:
            typer.echo(f"\n{name}: {len(row.failures)} of {row.fits} failed. The worst:\n")
            typer.echo(row.as_dict()["worst"]["reproduction"])


def _print_bench(document: Mapping[str, Any]) -> None:
    """Print a line per pair, then why somebody is missing and whose losses differ."""
    from rich.table import Table

    from fastmlp.bench import in_words

    headings = (
        "theirs",
        "theirs / ours",
        "losses\ndiffer by",
        "matrix\nproducts",
        "ours /\nproducts",
    )
    table = Table("case", "ours", "", "beside", *headings, box=None, pad_edge=False)
    for column in table.columns[2:3] + table.columns[4:]:
        column.justify = "right"
    notes = []
    for entry in document["cases"]:
        if "missing" in entry:
            notes.append(f"{entry['name']}: {entry['missing']}")
            continue
        unit, ours = entry["unit"], entry["ours"]
        left = (entry["name"], ours["label"], in_words(ours["median"], unit))
        right = ("", "")
        if floor := entry.get("floor"):
            share = f"{1 / floor['ratio']['median']:.2f}"
            right = (in_words(floor["median"], unit), share)
        for peer in entry["peers"]:
            if "missing" in peer:
                notes.append(f"{entry['name']}, beside {peer['label']}: {peer['missing']}")
                continue
            ratio, losses = peer["ratio"], peer["losses"]
            difference = losses["difference"]
            verdict = (
                "no number" if difference is None else f"{difference:.0e}" if difference else "0"
            )
            if not losses["equal"]:
                verdict = f"{verdict} FAILED"
                notes.append(
                    f"{entry['name']}, beside {peer['label']}: losses may differ by "
                    f"{losses['tolerance']:g}. A ratio of unequal trainings means nothing."
                )
            spread = f"({ratio['lowest']:.1f} to {ratio['highest']:.1f})"
            theirs = in_words(peer["median"], unit)
            times = f"{ratio['median']:.1f} {spread}"
            table.add_row(*left, peer["label"], theirs, times, verdict, *right)
            left, right = ("", "", ""), ("", "")
    new_console().print(table)
    if document["quick"]:
        notes.insert(0, "--quick shows that it works, not how fast.")
    for text in notes:
        note(text)


def _print_devices(found: Mapping[str, Any]) -> None:
    """Print a line per cell of the grid, and from where on a GPU pays."""
    from rich.table import Table

    from fastmlp.bench import devices, in_words

    labels = list(found["cells"][0]["epoch"]) if found["cells"] else []
    table = Table("hidden", "batch", *labels, box=None, pad_edge=False)
    if "cuda" in labels:
        table.add_column("CPU / GPU")
        table.add_column("copies in, out")
    for column in table.columns:
        column.justify = "right"
    for cell in found["cells"]:
        cells = []
        for label in labels:
            equal = "" if cell["losses"][label]["equal"] else " FAILED"
            cells.append(in_words(cell["epoch"][label], "s") + equal)
        if "cuda" in labels:
            copies = (in_words(cell[way]["cuda"], "s") for way in ("into", "out"))
            cells += [f"{devices.gain(cell) or 0:.1f}", ", ".join(copies)]
        table.add_row(str(cell["n_hidden"]), str(cell["batch_size"]), *cells)
    if labels:
        new_console().print(table)
    for sentence in devices.conclusions(found):
        typer.echo(sentence)
    for label, reason in found["missing"].items():
        if label != "cuda":
            note(f"beside {label}: {reason}")
