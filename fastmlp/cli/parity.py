"""``fastmlp parity``: compare all backends with scikit-learn's numbers."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fastmlp import __version__, backends
from fastmlp.cli.options import Json, Quiet, complete, whole
from fastmlp.cli.output import new_console, note, print_json, print_table
from fastmlp.utils.terminal import shows_progress

if TYPE_CHECKING:
    from fastmlp.bench.parity import Row

_NO_PARITY = 1


def parity(
    n: Annotated[
        int, typer.Option("--n", **whole(1), help="Number of random configurations.")
    ] = 200,
    seed: Annotated[int, typer.Option(**whole(0), help="Seed of the random configurations.")] = 0,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"Check this backend: {', '.join(backends.NAMES)}; may be repeated. Default: "
            "all available backends.",
            autocompletion=complete(backends.NAMES),
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare every backend with the installed scikit-learn.

    Both are trained on random data with random parameters. Shown are the largest differences in
    initial weights, losses, weights and predictions, relative to the largest number (losses: to
    each), and the share of differing labels. In float64 the NumPy backend must give
    scikit-learn's numbers exactly; the others may differ by 1e-8 in losses and 1e-6 in weights
    and predictions. In float32 only losses are compared, with a tolerance of 1e-3.

    The exit status is 1 if a difference is larger; code that reproduces the worst configuration
    is then printed.
    """
    import numpy as np
    import sklearn
    from rich.progress import track

    from fastmlp.bench.parity import check, configurations

    names = list(dict.fromkeys(map(backends.resolve, backend or backends.available())))
    drawn = track(
        configurations(n, seed),
        description="",
        total=n,
        console=new_console(),
        transient=True,
        disable=as_json or not shows_progress(sys.stdout),
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
        print_json(document)
    else:
        _print_parity(rows)
    if not passed:
        raise typer.Exit(_NO_PARITY)


def _print_parity(rows: Sequence["Row"]) -> None:
    """Print the largest differences, and the worst configuration of every failed row."""
    from dataclasses import astuple

    headings = ("initial\nweights", "loss\ncurves", "weights", "predictions", "labels")
    lines = []
    for row in rows:
        numbers = astuple(row.largest)[: len(headings)]
        cells = [f"{number:.1e}" if number else "0" for number in numbers]
        verdict = "FAILED" if row.failures else "passed"
        lines.append((row.backend, row.dtype, str(row.fits), *cells, verdict))
    print_table(("backend", "dtype", "fits", *headings, "verdict"), lines)
    if unstable := max(row.unstable for row in rows):
        note(
            f"in float32, {unstable} are not compared: scikit-learn's own losses change too much "
            "when X is rounded."
        )
    for row in rows:
        name = f"{row.backend} {row.dtype}"
        if row.unequal:
            note(f"{name}: {row.unequal} stopped in a different epoch than scikit-learn.")
        if row.failures:
            typer.echo(f"\n{name}: {len(row.failures)} of {row.fits} failed. The worst:\n")
            typer.echo(row.as_dict()["worst"]["reproduction"])
