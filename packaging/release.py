"""Check the files of a release before they are published.

    python -m build && python packaging/release.py dist/*
    python packaging/release.py dist/* --tag v0.2.0 --sums SHA256SUMS    # in a release

Checked are: the version, which pyproject.toml, CITATION.cff, CHANGELOG.md and the files must agree
on, with a date in the changelog; that wheels hold the engine, but neither sources nor tests; that
the sdist holds both, but nothing compiled; that each wheel's RECORD has the digests of its files;
and that a wheel for this machine installs and trains in an environment without a compiler. With a
tag, also that it is of this version, and that each platform and Python has its wheel. Ends with
status 1 and a sentence for each thing that is wrong.
"""

import argparse
import base64
import csv
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile
from email.parser import HeaderParser
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: What a release has a wheel for, each of these with each of those.
PYTHONS = ("cp311", "cp312", "cp313", "cp314")
PLATFORMS = (
    "manylinux*_x86_64",
    "manylinux*_aarch64",
    "macosx_*_arm64",
    "macosx_*_x86_64",
    "win_amd64",
)

ENGINE = "fastmlp/backends/cython_backend/_engine"
COMPILED = (".so", ".pyd")

#: What a wheel must hold besides its compiled modules: names begin with these.
IN_WHEEL = (
    "fastmlp/py.typed",
    "fastmlp/page/page.html",
    "fastmlp/report/page.html",
    "fastmlp/export/model.h.in",
)
#: What a wheel must not hold: the ends and the beginnings of names.
SOURCES = (".pyx", ".pxd", ".c", ".h", ".o")
FOLDERS = ("tests/", "benchmarks/", "docs/", "examples/", "packaging/", "build/")

IN_SDIST = (
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "setup.py",
    f"{ENGINE}.pyx",
    "fastmlp/backends/cython_backend/engine.c",
    "fastmlp/backends/cython_backend/engine.h",
    "fastmlp/idx/_scaling.pyx",
    "tests/conftest.py",
)
#: What builds leave behind: Cython's C and compiled modules.
NOT_IN_SDIST = (*COMPILED, ".pyc", "/_engine.c", "/_scaling.c")

#: What the installed wheel has to do.
COMMANDS = (
    ["fastmlp", "--version"],
    ["fastmlp", "train", "--data", "digits", "--epochs", "3", "--out", "digits.npz"],
    ["fastmlp", "evaluate", "digits.npz", "--data", "digits"],
    ["python", "-c", "from fastmlp import backends; assert 'cython' in backends.available()"],
    ["python", "-c", "import fastmlp.idx._scaling"],
)


def read_version(root: Path = ROOT) -> str:
    """Return the version of pyproject.toml, which the others are compared with."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]


def version_problems(version: str, tag: str | None = None, root: Path = ROOT) -> list[str]:
    """Compare the places where the version is, and the tag if there is one."""
    problems = []
    cited = re.search(r"^version: *(.+)$", (root / "CITATION.cff").read_text("utf-8"), re.M)
    if cited is None or cited[1].strip("\"' ") != version:
        problems.append(
            f"CITATION.cff must have the version {version} of pyproject.toml, got "
            f"{cited[1] if cited else 'none'}."
        )
    heading = re.search(r"^## (.+)$", (root / "CHANGELOG.md").read_text("utf-8"), re.M)
    dated = rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)"
    if heading is None or not re.fullmatch(dated, heading[1]):
        problems.append(
            f"CHANGELOG.md must begin with the heading '## {version} (YYYY-MM-DD)', got "
            f"{f'## {heading[1]}' if heading else 'none'!r}."
        )
    if tag is not None and tag != f"v{version}":
        problems.append(f"The tag must be v{version}, got {tag}.")
    return problems


def platform_problems(files: list[Path]) -> list[str]:
    """Look for platforms without a file, and for files that an index would refuse."""
    names = [file.name for file in files]
    wheels = [f"*-{python}-{python}-{platform}.whl" for python in PYTHONS for platform in PLATFORMS]
    patterns = [*wheels, "*.tar.gz"]
    missing = [pattern for pattern in patterns if not any(fnmatch(n, pattern) for n in names)]
    others = [n for n in names if not any(fnmatch(n, pattern) for pattern in patterns)]
    return [f"A release must have a file {pattern}." for pattern in missing] + [
        f"{name} is for no platform that releases are made for." for name in others
    ]


def wheel_problems(path: Path, version: str) -> list[str]:
    """Look into a wheel."""
    if path.name.split("-")[:2] != ["fastmlp", version]:
        return [f"{path.name} must be of fastmlp {version}, the version of pyproject.toml."]
    problems = []
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
        for name in names:
            if name.endswith(SOURCES) or name.startswith(FOLDERS):
                problems.append(f"{path.name} must not hold {name}.")
        metadata, record = (
            f"fastmlp-{version}.dist-info/{name}" for name in ("METADATA", "RECORD")
        )
        for needed in (*IN_WHEEL, metadata, record):
            if needed not in names:
                problems.append(f"{path.name} must hold {needed}.")
        for module in (ENGINE, "fastmlp/idx/_scaling"):
            if not any(name.startswith(f"{module}.") and name.endswith(COMPILED) for name in names):
                problems.append(
                    f"{path.name} must hold the compiled {module}.*: build it with a C compiler."
                )
        if metadata in names:
            inside = HeaderParser().parsestr(wheel.read(metadata).decode())["Version"]
            if inside != version:
                problems.append(f"{path.name} must say Version: {version}, got {inside}.")
        if record in names:
            problems += record_problems(path, wheel, record)
    return problems


def record_problems(path: Path, wheel: zipfile.ZipFile, record: str) -> list[str]:
    """Compare the files of a wheel with the digests in its RECORD."""
    rows = csv.reader(io.StringIO(wheel.read(record).decode()))
    digests = {row[0]: row[1] for row in rows if row}
    names = {name for name in wheel.namelist() if not name.endswith("/")}
    problems = [
        f"{path.name} has no {name}, which its RECORD lists."
        for name in sorted(digests.keys() - names)
    ]
    for name in sorted(names - {record}):
        digest = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(name)).digest())
        if name not in digests:
            problems.append(f"{path.name} holds {name}, which its RECORD does not list.")
        elif digests[name] != f"sha256={digest.rstrip(b'=').decode()}":
            problems.append(f"{path.name} has another digest of {name} in its RECORD.")
    return problems


def sdist_problems(path: Path, version: str) -> list[str]:
    """Look into a source distribution."""
    problems = []
    with tarfile.open(path) as archive:
        members = archive.getnames()
    names = [name.partition("/")[2] for name in members]
    if {name.partition("/")[0] for name in members} != {f"fastmlp-{version}"}:
        problems.append(f"{path.name} must hold one folder, fastmlp-{version}.")
    problems += [f"{path.name} must hold {name}." for name in IN_SDIST if name not in names]
    problems += [f"{path.name} must not hold {n}." for n in names if n.endswith(NOT_IN_SDIST)]
    return problems


def install_problems(path: Path) -> list[str]:
    """Install a wheel where there is no compiler, and use it."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / ("Scripts" if os.name == "nt" else "bin")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
        }
        # Windows looks for libraries there, too.
        system = [Path(os.environ["SYSTEMROOT"]) / "System32"] if os.name == "nt" else []
        environment |= {"PATH": os.pathsep.join(map(str, [programs, *system])), "CC": "false"}
        begun = time.monotonic()
        install = ["python", "-m", "pip", "install", "--quiet", str(path.resolve())]
        for program, *arguments in (install, *COMMANDS):
            run = subprocess.run(
                [programs / program, *arguments],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
            )
            if run.returncode:
                command = " ".join([program, *arguments])
                return [f"{path.name}: {command} failed:\n{run.stdout}{run.stderr}"]
        print(f"{path.name} installs and trains, in {time.monotonic() - begun:.0f} s")
    return []


def fits_this_machine(path: Path) -> bool:
    """Return whether pip would install a wheel with this Python."""
    if find_spec("pip") is None:
        sys.exit("pip must be installed, to try the wheels: python -m ensurepip")
    command = "-m pip install --quiet --dry-run --no-deps --ignore-installed".split()
    return subprocess.run([sys.executable, *command, path], capture_output=True).returncode == 0


def main() -> None:
    """Check the files that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tag", help="of the release, such as v0.2.0")
    parser.add_argument("--sums", type=Path, help="write SHA-256 digests there, if all is well")
    options = parser.parse_args()
    version = read_version()
    problems = version_problems(version, options.tag)
    if options.tag is not None:
        problems += platform_problems(options.files)
    for file in options.files:
        if file.name.endswith(".tar.gz"):
            problems += sdist_problems(file, version)
        elif file.suffix == ".whl":
            found = wheel_problems(file, version)
            if not found and fits_this_machine(file):
                found = install_problems(file)
            elif not found:
                print(f"{file.name} is for another machine: not installed")
            problems += found
        else:
            problems.append(f"{file.name} is neither a wheel nor a .tar.gz.")
    if problems:
        sys.exit("\n".join(problems))
    if options.sums is not None:
        lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in options.files]
        new = options.sums.with_name(f"{options.sums.name}.new")
        new.write_text("".join(lines))
        new.replace(options.sums)  # as a whole or not at all
    print(f"{len(options.files)} files can be published")


if __name__ == "__main__":
    main()
