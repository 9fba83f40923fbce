"""The compiled extensions and their flags; everything else is in pyproject.toml."""

import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

HERE = "fastmlp/backends/cython_backend"
FLAGS = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-pthread"]

extensions = cythonize(
    [
        Extension(
            "fastmlp.backends.cython_backend._engine",
            sources=[f"{HERE}/_engine.pyx", f"{HERE}/engine.c"],
            depends=sorted(glob(f"{HERE}/*.h")),
            include_dirs=[HERE],
            extra_compile_args=[] if sys.platform == "win32" else FLAGS,
            extra_link_args=[] if sys.platform == "win32" else ["-pthread"],
        ),
        Extension(
            "fastmlp.idx._scaling",
            sources=["fastmlp/idx/_scaling.pyx"],
            # Product and sum are rounded each, as NumPy does.
            extra_compile_args=[] if sys.platform == "win32" else ["-O3", "-ffp-contract=off"],
        ),
    ],
    language_level=3,
)
# Without a C compiler fastmlp still installs; `fastmlp info` and the error of backend="cython"
# say that the engine was not built. (cythonize does not pass this on, so it is set here.)
for extension in extensions:
    extension.optional = True

setup(ext_modules=extensions)
