"""Models as one HTML file, with the page on which people use them."""

import json
import re
import shutil
import subprocess
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp.export.checks import Check, as_inputs, compared, sample_rows
from fastmlp.export.common import exportable, predicted
from fastmlp.page import render
from fastmlp.page.weights import decoded, encoded
from fastmlp.portable import PlainModel, about
from fastmlp.utils.files import AnyPath, atomic_write

__all__ = ["check_html", "to_html"]

_N_ROWS = 200
_OLDEST_NODE = 18


def to_html(
    model: Any,
    path: AnyPath | None = None,
    *,
    small: bool = False,
    dtype: str = "float16",
    title: str | None = None,
    white: float | None = None,
) -> str:
    """Export a model as one HTML file on which people can use it.

    A model of images gets a drawing area, one of tables a form. The file contains the weights and
    computes predictions itself, so it works offline, without a server, in any current browser.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, MLPEnsemble, or a pipeline for tables that ends in one
        Fitted.
    path : path, optional
        Where to write the file; an existing one is replaced.
    small : bool, default=False
        Store weights as int8, in half of the space: short for ``dtype="int8"``.
    dtype : {"float16", "int8", "float32"}, default="float16"
        How weights are stored. float16 changes probabilities by about 1e-3, int8 by about 1e-2;
        `check_html` measures it.
    title : str, optional
        By default the name of the file without its ending, or of the estimator.
    white : float, optional
        The value that white pixels have in the training images. By default what `input_scale`
        tells of it, otherwise 255.

    Returns
    -------
    str
        The HTML.

    Raises
    ------
    TypeError, sklearn.exceptions.NotFittedError
        See `fastmlp.portable.plain`.
    ValueError
        If `dtype` is another one.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.datasets import load_digits
    >>> (X, y), (X_test, y_test) = load_digits()
    >>> model = MLPClassifier(input_scale=1 / 16, tol=1e-3, random_state=1).fit(X, y)
    >>> html = to_html(model, dtype="float32")
    >>> check_html(model, html, X_test).n_labels
    0
    """
    found = exportable(model)
    name = title or (Path(path).stem if path is not None else found.estimator)
    described = about(model, name)
    if white is not None:
        described["white"] = white
    networks = {name: encoded(found, "int8" if small else dtype)}
    page = render([described], runs="here", networks=networks)
    if path is not None:
        with atomic_write(path) as file:
            file.write(page.encode())
    return page


def check_html(model: Any, html: str, rows: Any = None) -> Check:
    """Compare the predictions of an exported page with those of the model.

    The page's own script is run by Node if it is installed; otherwise, NumPy computes with the
    weights of the page.

    Parameters
    ----------
    model : estimator
        The exported one.
    html : str
        What `to_html` returned.
    rows : array of shape (n_rows, n_features), DataFrame or list of dict, optional
        What the model predicts; of tables, a DataFrame, or dictionaries by names of columns. By
        default 200 random rows.

    Returns
    -------
    Check

    Raises
    ------
    RuntimeError
        If Node cannot run the script.
    """
    found = exportable(model)
    if rows is None:
        rows = sample_rows(model, found, _N_ROWS)
    if hasattr(rows, "iloc"):
        wanted = model.predict_proba(rows) if found.is_classifier else model.predict(rows)
        wanted = np.asarray(wanted).reshape(len(rows), -1)
        rows = _rows_of_frame(model, found, rows)
    else:
        wanted = predicted(model, found, rows)
    stored = next(iter(_data(html, "networks").values()))
    n_bytes = len(html.encode())
    node = _node()
    if node is None:
        numbers = decoded(stored, found.classes).probabilities(as_inputs(found, rows))
        by = f"NumPy, weights of the file, {stored['stored']}"
        return compared(found, wanted, numbers, by, n_bytes)
    answer = _run_in_node(node, html, rows)
    numbers = np.array(answer["predictions"], np.float64)
    by = f"node {answer['node']}, {stored['stored']}"
    return compared(found, wanted, numbers, by, n_bytes, answer["microseconds"])


def _rows_of_frame(model: Any, found: PlainModel, frame: Any) -> Any:
    """Return rows of a DataFrame as numbers, or, of tables, as dictionaries."""
    if found.table is None:
        return frame.to_numpy()
    values = model["columns"].transform(frame).astype(object)
    return values.where(values.notna(), None).to_dict("records")


def _data(html: str, name: str) -> Any:
    """Return the content of a script element of data."""
    content = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.S)
    if content is None:
        raise ValueError(f"html must be what to_html returned, got a text without its {name}.")
    return json.loads(content[1])


def _node() -> str | None:
    """Return the path of Node, if it is installed and not too old."""
    node = shutil.which("node")
    if node is None:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60)
    major = re.match(r"v(\d+)", answer.stdout)
    return node if major is not None and int(major[1]) >= _OLDEST_NODE else None


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a table with the largest numbers, which JSON has, instead of infinities.

    The scaling of a table's columns clips both to the same.
    """
    return {
        name: float(np.nan_to_num(value, nan=np.nan)) if isinstance(value, float) else value
        for name, value in row.items()
    }


def _run_in_node(node: str, html: str, rows: Any) -> dict[str, Any]:
    """Return the predictions of the page's script."""
    content = rows.tolist() if isinstance(rows, np.ndarray) else list(map(_finite, rows))
    with (
        tempfile.TemporaryDirectory() as folder,
        as_file(files("fastmlp.page").joinpath("check.js")) as script,
    ):
        page = Path(folder, "page.html")
        page.write_text(html, "utf-8")
        answer = subprocess.run(
            [node, script, page], input=json.dumps(content), capture_output=True, text=True
        )
    if answer.returncode:
        reason = next((line for line in answer.stderr.splitlines() if "Error" in line), "no reason")
        raise RuntimeError(f"Node must run the page's script, but failed: {reason.strip()}")
    return json.loads(answer.stdout)
