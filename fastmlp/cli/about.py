"""``fastmlp info`` and ``recipes``: what is installed, and what can be trained."""

from fastmlp import __version__, backends, recipes
from fastmlp.cli.output import new_console, print_facts


def info() -> None:
    """Show versions, backends, instruction set, threads and the data directory."""
    import platform

    import numpy as np
    import sklearn

    from fastmlp import datasets
    from fastmlp.threads import usable_threads

    reasons = backends.unavailable()
    facts = {
        "fastmlp": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
    for name in backends.NAMES:
        reason = reasons.get(name)
        facts[f"{name} backend"] = f"not available: {reason}" if reason else "available"
    if "cython" in backends.available():
        from fastmlp.backends import cython_backend

        others = ", ".join(cython_backend.supported_isas())
        facts["instruction set"] = f"{cython_backend.ISA} (this CPU can: {others})"
    facts["threads"] = str(usable_threads())
    facts["data directory"] = str(datasets.data_home_path())
    print_facts(facts)


def list_recipes() -> None:
    """List the published systems that 'fastmlp train --recipe NAME' trains again.

    Shown are the published accuracy, and ours: on the test images or, for dropout-300, on the
    images that it sets aside for validation. Ours are means over five seeds for the last two. Of
    'best', which is our own, stands the best published accuracy of two layers beside it.

    For example:

        fastmlp recipes
        fastmlp train --recipe lbfgs-397
    """
    from rich.table import Table

    table = Table("recipe", "what it is", "published", "ours", box=None, pad_edge=False)
    for recipe in recipes.RECIPES.values():
        scores = f"{recipe.published:.3f}", f"{recipe.ours:.3f}"
        table.add_row(recipe.name, recipe.description, *scores)
    new_console().print(table)
