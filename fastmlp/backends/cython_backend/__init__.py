"""The compiled CPU backend.

``_engine`` is built from ``_engine.pyx`` and the C files in this directory. It is
missing after a build without a C compiler, which is distinguished from a broken
build.
"""

from importlib.util import find_spec

if find_spec(f"{__name__}._engine") is None:
    raise ImportError(
        "the compiled engine was not built; install a C compiler (gcc or clang) and the Python "
        "headers, then reinstall fastmlp (in a checkout: pip install -e .)"
    )

from fastmlp.backends.cython_backend._engine import (
    ISA,
    Engine,
    predict,
    supported_isas,
)

__all__ = ["ISA", "Engine", "predict", "supported_isas"]
