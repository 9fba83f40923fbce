"""The compiled extensions and their flags; everything else is in pyproject.toml."""

from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

HERE = "fastmlp/backends/cython_backend"
FLAGS = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-pthread"]
# GCC for Windows aligns the stack to 16 bytes only, but moves AVX registers to and from it as if
# it were aligned to 32 or 64 (GCC bug 54412). The assembler, of binutils 2.38 or later, can turn
# these moves into such as need no alignment, which take no longer.
WINDOWS_FLAGS = ["-Wa,-muse-unaligned-vector-move"]


class BuildExtensions(build_ext):
    """Chooses flags by the compiler, which is known only when the build begins."""

    def build_extension(self, extension):
        if self.compiler.compiler_type == "msvc":
            # The engine is written in GNU C: vector types, attributes of statements. MinGW's GCC
            # compiles that: `python setup.py build_ext --compiler=mingw32`.
            if extension.name.endswith("._engine"):
                raise CompileError("MSVC cannot compile the engine; use --compiler=mingw32.")
            extension.extra_compile_args = extension.extra_link_args = []
        elif self.compiler.compiler_type == "mingw32" and extension.name.endswith("._engine"):
            extension.extra_compile_args = FLAGS + WINDOWS_FLAGS
            extension.extra_link_args = ["-static"]  # users have none of GCC's libraries
        super().build_extension(extension)


extensions = cythonize(
    [
        Extension(
            "fastmlp.backends.cython_backend._engine",
            sources=[f"{HERE}/_engine.pyx", f"{HERE}/engine.c"],
            depends=sorted(glob(f"{HERE}/*.h")),
            include_dirs=[HERE],
            extra_compile_args=FLAGS,
            extra_link_args=["-pthread"],
        ),
        Extension(
            "fastmlp.idx._scaling",
            sources=["fastmlp/idx/_scaling.pyx"],
            # Product and sum are rounded each, as NumPy does.
            extra_compile_args=["-O3", "-ffp-contract=off"],
        ),
    ],
    language_level=3,
)
# Without a C compiler fastmlp still installs; `fastmlp info` and the error of backend="cython"
# say that the engine was not built. (cythonize does not pass this on, so it is set here.)
for extension in extensions:
    extension.optional = True

setup(ext_modules=extensions, cmdclass={"build_ext": BuildExtensions})
