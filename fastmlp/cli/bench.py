"""``fastmlp bench``: speed compared with other libraries."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fastmlp.cli.options import Json, Quiet, complete
from fastmlp.cli.output import backend_in_words, new_console, note, print_json, print_table
from fastmlp.utils.terminal import shows_progress

_UNEQUAL_LOSSES = 1

#: For shell completion: importing `fastmlp.bench` for its names would take too long.
_SUITES = (
    *("mnist", "tabular", "sparse", "predict", "startup", "memory", "backends", "threads", "all"),
    "devices",
)


def bench(
    suite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=complete(_SUITES),
            help="mnist, tabular, sparse, predict, startup, memory, backends, threads, all, "
            "devices, or the name of a case; may be repeated. Default: all, without devices.",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A tenth of the samples, to check that it works."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write all measurements to a file, in the format of --json."
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Draw the ratios (benchmark.png, .svg) or a heat map (devices.png, .svg).",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    json_file: Annotated[Path | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Compare fastmlp with scikit-learn, and with PyTorch and JAX if they are installed.

    Each library runs in its own process, alternating, with the same data and initial weights.
    Shown are the medians, the ratio of the times (lowest and highest round in parentheses), the
    difference of the losses, and the time of the epoch's matrix products alone.

    The suite "devices" shows at which sizes a GPU is faster: seconds per epoch of every backend,
    and of PyTorch on the GPU, for several widths and batch sizes.

    The exit status is 1 if losses differ by more than the tolerance. A full run takes a few
    minutes, on an otherwise idle machine.

    For example:

        fastmlp bench --quick
        fastmlp bench --suite mnist --suite tabular --plot .
        fastmlp bench --suite mnist --out run.json
        fastmlp bench --suite devices --plot .
    """
    import json

    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from fastmlp import bench
    from fastmlp.bench import devices
    from fastmlp.utils.files import atomic_write

    if json_file is not None:
        # Formerly, "--json FILE" wrote a file. typer has no options with an optional value, so the
        # file arrives as an argument.
        if not as_json:
            raise ValueError(
                f"bench has no arguments, got {json_file}: use '--suite {json_file}' for a suite."
            )
        note(f"--json {json_file} is deprecated: use --out {json_file}.")
        as_json, out = False, out or json_file
    others = [name for name in suite or ["all"] if name != "devices"]
    cases = bench.select(others) if others else []
    if plot is not None:
        bench.check_plot()
        if not plot.is_dir():
            raise ValueError(f"--plot must be a directory that exists, got {plot}.")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise ValueError(f"--out must be a file in a directory that exists, got {out}.")
    if not as_json:
        typer.echo(_in_words(bench.machine()))
    columns = TextColumn("{task.description}"), BarColumn(bar_width=16), TimeElapsedColumn()
    entries: list[dict[str, Any]] = []
    found: dict[str, Any] | None = None
    with Progress(
        *columns,
        console=new_console(),
        transient=True,
        disable=as_json or not shows_progress(sys.stdout),
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
    if found is not None:
        document |= {"devices": found, "passed": document["passed"] and found["passed"]}
    if as_json:
        print_json(document)
    else:
        if cases:
            _print_bench(document)
        if found is not None:
            _print_devices(found)
    if out is not None:
        with atomic_write(out) as file:
            file.write((json.dumps(document, indent=1, allow_nan=False) + "\n").encode())
    if plot is not None:
        drawn = bench.plot(document, plot) if cases else []
        drawn += devices.plot(found, plot) if found and found["cells"] else []
        for path in () if as_json else drawn:
            typer.echo(path)
    if not document["passed"]:
        raise typer.Exit(_UNEQUAL_LOSSES)


def _in_words(machine: Mapping[str, Any]) -> str:
    """Return the processor, the backend with its instruction set, and the number of threads."""
    cpu, family, model = (machine[key] for key in ("cpu", "cpu_family", "cpu_model"))
    numbers = "" if family is None or model is None else f" (family {family}, model {model})"
    backend, n = backend_in_words(machine["backend"]), machine["threads"]
    return f"{cpu}{numbers}, {backend}, {n} thread{'s' * (n != 1)}"


def _print_bench(document: Mapping[str, Any]) -> None:
    """Print a line per pair, then which libraries are missing and whose losses differ."""
    from fastmlp.bench import in_words

    headings = (
        *("case", "ours", "", "compared with", "theirs", "theirs / ours", "losses\ndiffer by"),
        *("matrix\nproducts", "ours /\nproducts"),
    )
    names = (
        *("case", "ours", "ours takes", "compared with", "theirs takes", "theirs / ours"),
        *("losses differ by", "matrix products", "ours / products"),
    )
    rows, notes = [], []
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
                notes.append(f"{entry['name']}, compared with {peer['label']}: {peer['missing']}")
                continue
            ratio, losses = peer["ratio"], peer["losses"]
            difference = losses["difference"]
            verdict = (
                "no number" if difference is None else f"{difference:.0e}" if difference else "0"
            )
            if not losses["equal"]:
                verdict = f"{verdict} FAILED"
                notes.append(
                    f"{entry['name']}, compared with {peer['label']}: losses may differ by "
                    f"{losses['tolerance']:g}. The ratio is not meaningful."
                )
            spread = f"({ratio['lowest']:.1f} to {ratio['highest']:.1f})"
            theirs = in_words(peer["median"], unit)
            times = f"{ratio['median']:.1f} {spread}"
            rows.append((*left, peer["label"], theirs, times, verdict, *right))
            left, right = ("", "", ""), ("", "")
    print_table(headings, rows, right=(2, 4, 5, 6, 7, 8), names=names)
    if document["quick"]:
        notes.insert(0, "--quick only checks that it works; its times are not representative.")
    for text in notes:
        note(text)


def _print_devices(found: Mapping[str, Any]) -> None:
    """Print a line per cell of the grid, and at which sizes a GPU is faster."""
    from fastmlp.bench import devices, in_words

    labels = list(found["cells"][0]["epoch"]) if found["cells"] else []
    headings = ["hidden", "batch", *labels]
    if "cuda" in labels:
        headings += ["CPU / GPU", "copies in, out"]
    rows = []
    for cell in found["cells"]:
        cells = []
        for label in labels:
            equal = "" if cell["losses"][label]["equal"] else " FAILED"
            cells.append(in_words(cell["epoch"][label], "s") + equal)
        if "cuda" in labels:
            copies = (in_words(cell[way]["cuda"], "s") for way in ("into", "out"))
            cells += [f"{devices.gain(cell) or 0:.1f}", ", ".join(copies)]
        rows.append((str(cell["n_hidden"]), str(cell["batch_size"]), *cells))
    if labels:
        print_table(headings, rows, right=range(len(headings)))
    for sentence in devices.conclusions(found):
        typer.echo(sentence)
    for label, reason in found["missing"].items():
        if label != "cuda":
            note(f"compared with {label}: {reason}")
