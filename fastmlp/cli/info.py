"""``fastmlp info``: versions and backends."""

from typing import Any

from fastmlp import __version__, backends
from fastmlp.cli.options import Json, Quiet
from fastmlp.cli.output import print_facts, print_json


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
        facts["instruction set"] = f"{isa} (supported by this CPU: {', '.join(isas)})"
    facts["threads"] = str(usable_threads())
    facts["data directory"] = str(datasets.data_home_path())
    if as_json:
        numbers = {"instruction set": isa, "instruction sets": isas, "threads": usable_threads()}
        print_json(facts | numbers)
    else:
        print_facts(facts)
