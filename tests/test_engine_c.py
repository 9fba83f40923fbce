"""The C engine without Python: engine_test.c for this machine and, in emulators, for others.

They are skipped where a compiler or an emulator is missing, but not those that
FASTMLP_REQUIRE_TARGETS names, such as ``"arm windows"``.
"""

import ast
import os
import subprocess
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "fastmlp/backends/cython_backend"

#: Per target the compiler, what runs its programs, if anything, and flags besides setup.py's.
TARGETS = {
    "native": (["cc"], [], []),
    "arm": (["aarch64-linux-gnu-gcc"], ["qemu-aarch64"], ["-static"]),
    "windows": (["x86_64-w64-mingw32-gcc"], ["wine", "wine64"], []),
}


def _constants(path):
    """Return the lists of strings that a Python file assigns to names, without running it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            yield node.targets[0].id, ast.literal_eval(node.value)


def _tool(target, names):
    """Return the first program that there is; skip the test if there is none."""
    for name in names:
        if which(name):
            return name
    missing = f"there is no {' or '.join(names)} on the PATH"
    if target in os.environ.get("FASTMLP_REQUIRE_TARGETS", "").split():
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_every_engine(target, tmp_path):
    if not (ENGINE / "engine.c").exists():
        pytest.skip("the engine's sources are not here: these are tests of an installed package")
    compilers, emulators, extra = TARGETS[target]
    compiler = _tool(target, compilers)
    emulator = [_tool(target, emulators)] if emulators else []
    constants = dict(_constants(ROOT / "setup.py"))
    flags = [*constants["FLAGS"], *extra]
    if target == "windows":
        flags += constants["WINDOWS_FLAGS"]
    sources = [ROOT / "tests/engine_test.c", ENGINE / "engine.c"]
    program = tmp_path / "engine_test.exe"
    subprocess.run(
        [compiler, *flags, f"-I{ENGINE}", *sources, "-lm", "-o", program], check=True, timeout=900
    )
    # A file, because Wine's services keep a pipe open; and a folder of which nothing is kept.
    with open(tmp_path / "output", "w+") as output, TemporaryDirectory() as prefix:
        environment = {**os.environ, "WINEDEBUG": "-all", "WINEPREFIX": prefix}
        try:
            process = subprocess.run(
                [*emulator, program],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=900,
            )
        finally:
            if target == "windows":
                subprocess.run(["wineserver", "-k", "-w"], env=environment, check=False)
        output.seek(0)
        text = output.read()
    assert process.returncode == 0 and text.rstrip().endswith(" passed, 0 failed"), text
