"""``fastmlp info`` and ``recipes``: what is installed, and what can be trained."""

from typing import Any

from fastmlp import __version__, backends, recipes
from fastmlp.cli.options import Json, Quiet
from fastmlp.cli.output import print_facts, print_json, print_table


def info(as_json: Json = False, quiet: Quiet = False) -> None:
    """Show versions, backends, instruction set, threads and the data directory."""
    import platform

    import numpy as np
    import sklearn

    from fastmlp import datasets
    from fastmlp.utils.threads import usable_threads

    reasons = backends.unavailable()
    facts: dict[str, Any] = {
        "fastmlp": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
    for name in backends.NAMES:
        reason = reasons.get(name)
        facts[f"{name} backend"] = f"not available: {reason}" if reason else "available"
    isa, isas = None, []
    if "cython" in backends.available():
        from fastmlp.backends import cython_backend

        isa, isas = cython_backend.ISA, list(cython_backend.supported_isas())
        facts["instruction set"] = f"{isa} (this CPU can: {', '.join(isas)})"
    facts["threads"] = str(usable_threads())
    facts["data directory"] = str(datasets.data_home_path())
    if as_json:
        numbers = {"instruction set": isa, "instruction sets": isas, "threads": usable_threads()}
        print_json(facts | numbers)
    else:
        print_facts(facts)


def list_recipes(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the published systems that 'fastmlp train --recipe NAME' trains again.

    Shown are the published accuracy, and ours: on the test images or, for dropout-300, on the
    images that it sets aside for validation. Ours are means over five seeds from dropout-300 on. Of
    'best', which is our own, stands the best published accuracy of two layers beside it; 'pictures'
    and 'table' are what is trained on folders of pictures and on tables if no recipe is named.

    For example:

        fastmlp recipes
        fastmlp train --recipe lbfgs-397
    """
    headings = ("recipe", "what it is", "published", "ours")
    rows: list[tuple[str, str, float | None, float | None]] = [
        (r.name, r.description, r.published, r.ours) for r in recipes.RECIPES.values()
    ]
    rows.append((recipes.TABLE, recipes.TABLE_DESCRIPTION, None, None))
    if as_json:
        print_json({"recipes": [dict(zip(headings, row, strict=True)) for row in rows]})
        return
    print_table(
        headings,
        [
            (name, what, *("" if score is None else f"{score:.3f}" for score in scores))
            for name, what, *scores in rows
        ],
    )
