"""Export to C: one header without dependencies, in float32 or int8.

Below this module, c_numbers.py has the numbers of a header and computes with them as it does, and
c_header.py its text, of which the arithmetic is in model.h.in.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.export.c_header import Recorded, header_text, part, read_header
from fastmlp.export.c_numbers import (
    ByteNetwork,
    as_float32,
    as_int8,
    checked_rows,
    network_inputs,
    read_numbers,
    standardised,
)
from fastmlp.export.checks import Check, compared, sample_rows
from fastmlp.export.common import exportable, predicted
from fastmlp.portable import PlainModel, about
from fastmlp.utils.files import AnyPath, atomic_write

__all__ = ["check_c", "to_c"]

_CHECKED_ROWS = 500
_SAMPLE_ROWS = 64

#: Seconds that a compiler or a program may take.
_TIMEOUT = 600


def to_c(
    model: Any,
    path: AnyPath | None = None,
    *,
    dtype: str = "float32",
    X: Any = None,
    name: str = "model",
) -> str:
    """Write a model as a C header.

    It has functions ``NAME_predict`` and, of classifiers, ``NAME_predict_proba``, for rows of
    floats and, with the suffix ``_u8``, of bytes; those of models for tables read a number per
    column. The comment at its top describes them. It is valid C99 and C++11, allocates no memory,
    and needs only <math.h>.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, MLPEnsemble, or a pipeline for tables that ends in one
        Fitted.
    path : path, optional
        Where to write the header, in place of an existing file.
    dtype : {"float32", "int8"}, default="float32"
        Of the weights. "int8" takes a quarter of the memory and changes some predictions; see
        `check_c`.
    X : array of shape (n_samples, n_features), or list of dict (of tables), optional
        Rows as the model is trained on. Up to four of them are recorded for the self-test, instead
        of random ones, and so can be read in the header. With ``dtype="int8"``, inputs that are not
        bytes are standardised by them, which matters if their sizes differ and the model has no
        ``input_scale="standard"``.
    name : str, default="model"
        What the names of functions begin with, and in upper case those of macros.

    Returns
    -------
    str
        The text of the header.

    Raises
    ------
    TypeError, sklearn.exceptions.NotFittedError
        If the model is none of these.
    ValueError
        If a parameter is invalid, or numbers do not fit into the dtype.

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> model = MLPClassifier((4,), solver="lbfgs", random_state=0)
    >>> model = model.fit([[0.0], [1.0], [2.0]], ["low", "middle", "high"])
    >>> header = to_c(model, name="level")
    >>> [line for line in header.splitlines() if "level_classes[" in line]
    ['static const char *const level_classes[3] = {"high", "low", "middle"};']
    """
    if dtype not in ("float32", "int8"):
        raise ValueError(f"dtype must be 'float32' or 'int8', got {dtype!r}.")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name, flags=re.ASCII):
        raise ValueError(
            "name must be a C identifier (letters, digits and underscores, a letter first), got "
            f"{name!r}: pass another, such as name='model'."
        )
    exact = exportable(model)
    rows = None if X is None else checked_rows(exact, X)
    if dtype == "float32":
        stored = as_float32(exact)
    else:
        stored = as_int8(exact if rows is None else _standardised(model, exact, rows))
    if rows is None:
        rows = sample_rows(model, exact, _SAMPLE_ROWS)
    some = rows[:: -(-len(rows) // _SAMPLE_ROWS)]
    recorded = Recorded.of(stored, read_numbers(exact, some))
    text = header_text(name, stored, recorded)
    if path is not None:
        with atomic_write(path) as file:
            file.write(text.encode())
    return text


def _standardised(model: Any, exact: PlainModel, rows: Any) -> PlainModel:
    """Return the model for inputs standardised by rows, if they are neither bytes nor encoded."""
    if exact.table is not None or rows.dtype == np.uint8 or about(model, "")["kind"] == "images":
        return exact
    return exact.mapped(lambda network: standardised(network, rows))


def check_c(model: Any, header: AnyPath, rows: Any = None, *, compiler: str | None = None) -> Check:
    """Compile an exported header and compare what it predicts with the model.

    Parameters
    ----------
    model : estimator
        As passed to `to_c`.
    header : str or path
        The text of the header, or its path.
    rows : array of shape (n_rows, n_features), or list of dict (of tables), optional
        What to predict; uint8 for the functions that read bytes. By default, random rows.
    compiler : str, optional
        A command such as "gcc -O3". By default that of the environment variable CC, or the first
        of cc, gcc and clang, with -O3.

    Returns
    -------
    Check
        If there is no compiler, by NumPy, with the numbers of the header.

    Raises
    ------
    ValueError
        If it is no header of this model.
    RuntimeError
        If it cannot be compiled or run, or its self-test fails.
    """
    is_text = isinstance(header, str) and "\n" in header
    text = str(header) if is_text else Path(header).read_text("utf-8")
    exact = exportable(model)
    name, stored = read_header(text, exact)
    rows = sample_rows(model, exact, _CHECKED_ROWS) if rows is None else checked_rows(exact, rows)
    wanted = predicted(model, exact, rows)
    numbers, n_bytes = read_numbers(exact, rows), len(text.encode())
    command = _compiler(compiler)
    if command is None:
        by = "NumPy, numbers of the file; no C compiler was found"
        found = stored.probabilities(network_inputs(stored, numbers))
        return compared(exact, wanted, found, by, n_bytes)
    found, microseconds = _run(command, text, name, exact, numbers)
    dtype = "int8" if isinstance(stored.networks[0], ByteNetwork) else "float32"
    by = f"{_version(command)}, {dtype}"
    return compared(exact, wanted, found, by, n_bytes, microseconds)


# ---------------------------------------------------------------------------------------- compilers


def _compiler(command: str | None) -> list[str] | None:
    """Return the command of a C compiler, or None if none is found."""
    command = command or os.environ.get("CC")
    if command:
        words = shlex.split(command)
        if shutil.which(words[0]) is None:
            raise RuntimeError(f"the C compiler must be on the PATH, but {words[0]} is not there.")
        return words
    names = [name for name in ("cc", "gcc", "clang") if shutil.which(name)]
    return names[:1] or None


def _version(command: list[str]) -> str:
    """Return name and version of a compiler, such as "gcc 12.2"."""
    run = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    first = run.stdout.partition("\n")[0]
    name = Path(command[0]).name
    if name == "cc":
        name = "clang" if "clang" in first else "gcc" if "Free Software" in run.stdout else name
    number = re.search(r"(?:\) |version )(\d+\.\d+)", first)
    return f"{name} {number[1]}" if number else name


def _run(
    command: list[str], header: str, name: str, model: PlainModel, numbers: NDArray
) -> tuple[NDArray, float]:
    """Return what a compiled header predicts for rows, and microseconds per row."""
    is_bytes = numbers.dtype == np.uint8
    program = part(
        "check",
        name,
        n_rows=str(len(numbers)),
        type="uint8_t" if is_bytes else "float",
        predict=("predict_proba" if model.is_classifier else "predict") + "_u8" * is_bytes,
    )
    with TemporaryDirectory() as folder:
        source, compiled, x, y = (
            os.path.join(folder, file) for file in ("check.c", "check.exe", "x", "y")
        )
        Path(folder, f"{name}.h").write_text(header, "utf-8")
        Path(source).write_text(program, "utf-8")
        numbers.tofile(x)
        level = [] if any(word.startswith("-O") for word in command) else ["-O3"]
        _output([*command, "-std=c99", *level, source, "-o", compiled, "-lm"], "compiled")
        printed = _output([compiled, x, y], "run")
        found = np.fromfile(y, np.float32)
    n_failures, microseconds = printed.split()
    if n_failures != "0":
        raise RuntimeError(
            f"{n_failures} comparisons of the header's self-test fail: the file has been changed, "
            "or the compiler computes otherwise. Export the model anew."
        )
    return found.reshape(len(numbers), -1), float(microseconds)


def _output(command: list[str], done: str) -> str:
    """Run a command and return what it prints."""
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    else:
        if run.returncode == 0:
            return run.stdout
        lines = [line for line in run.stderr.splitlines() if "error" in line] or ["no message"]
        problem = f"{lines[0]} (status {run.returncode})"
    raise RuntimeError(
        f"the header cannot be {done}: {problem}. Pass the C compiler of this machine, such as "
        "compiler='gcc'."
    )
