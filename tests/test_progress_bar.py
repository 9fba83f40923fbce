"""The progress bar: in a file, on a terminal, in a notebook, in searches, and after pickling."""

import io
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmlp import MLPClassifier, ProgressBar, fit_many, model_selection
from fastmlp.estimators import progress_bar

NOTEBOOK = Path(__file__).parents[1] / "examples/05_notebook.ipynb"
X = np.random.RandomState(0).standard_normal((200, 4))
Y = (X[:, 0] > 0).astype(int)

needs_callbacks = pytest.mark.skipif(
    not hasattr(MLPClassifier, "set_callbacks"), reason="callbacks came with scikit-learn 1.9"
)


def model(**parameters):
    return MLPClassifier((5,), max_iter=4, lr_schedule="linear", random_state=0, **parameters)


@needs_callbacks
def test_in_a_file_there_is_one_line(capsys):
    fitted = model().set_callbacks(ProgressBar()).fit(X, Y)
    [line] = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"MLPClassifier: 4 of 4 epochs, loss \d\.\d{4}, 0:00:\d\d", line)
    assert f"loss {fitted.loss_:.4f}" in line
    assert not progress_bar._displays


@needs_callbacks
def test_it_goes_where_its_estimator_goes(capsys):
    watched = model().set_callbacks(ProgressBar(max_propagation_depth=0))
    for copied in (clone(watched), pickle.loads(pickle.dumps(watched))):
        copied.fit(X, Y)
    assert len(capsys.readouterr().out.splitlines()) == 2


@needs_callbacks
@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_searches_show_their_tasks(capsys, n_jobs):
    search = GridSearchCV(model(), {"alpha": [0.1, 1]}, cv=2, n_jobs=n_jobs)
    search.set_callbacks(ProgressBar()).fit(X, Y)
    make_pipeline(StandardScaler(), model()).set_callbacks(ProgressBar()).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["GridSearchCV", "Pipeline"]
    assert all("2 of 2 tasks" in line for line in lines)


@needs_callbacks
def test_a_fit_that_fails_ends_the_display(capsys):
    def fail(epoch):
        return 1 / (epoch - 3)

    watched = MLPClassifier((5,), lr_schedule=fail).set_callbacks(ProgressBar())
    with pytest.raises((ZeroDivisionError, ValueError)):
        watched.fit(X, Y)
    assert not progress_bar._displays


@pytest.mark.slow
@needs_callbacks
@pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")
def test_on_a_terminal_the_line_moves():
    import pty

    code = (
        "import numpy as np, time\n"
        "from fastmlp import MLPClassifier, ProgressBar\n"
        "X = np.random.RandomState(0).standard_normal((200, 4)); y = (X[:, 0] > 0) * 1\n"
        "slow = lambda epoch: time.sleep(0.4) or 0.001\n"
        "m = MLPClassifier((5,), max_iter=4, lr_schedule=slow).set_callbacks(ProgressBar())\n"
        "m.fit(X, y)\n"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = io.BytesIO()
    while True:
        try:
            part = os.read(ours, 10_000)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown.write(part)
    os.close(ours)
    assert process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.getvalue().decode())
    assert re.search(r"1 of 4 epochs, loss \d\.\d{4}, 0:00:0\d left", text)
    assert re.search(r"4 of 4 epochs, loss \d\.\d{4}, 0:00:0\d\s*$", text)


@pytest.mark.slow
@needs_callbacks
def test_the_notebook_runs_and_its_bar_stays(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat")
    nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient")
    pytest.importorskip("ipykernel", reason="notebooks need ipykernel")
    for needed in ("pandas", "pyarrow", "skops", "matplotlib"):
        pytest.importorskip(needed)
    notebook = nbformat.read(NOTEBOOK, 4)
    [slow] = [cell for cell in notebook.cells if "cv=5" in cell.source]
    slow.source = slow.source.replace("cv=5", "cv=2")
    kernel = {"metadata": {"path": str(tmp_path)}}  # where it runs, and leaves its files
    nbclient.NotebookClient(notebook, timeout=300, resources=kernel).execute()
    cells = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    [bar] = [o for o in cells[0] if o.output_type == "display_data"]
    assert re.search(r"<progress max=\"(\d+)\" value=\"\1\"", bar.data["text/html"])
    assert "epochs, loss" in bar.data["text/plain"]
    for outputs in cells:
        assert not [o for o in outputs if o.output_type == "stream"], outputs
        assert sum("image/png" in o.get("data", {}) for o in outputs) <= 1
    assert sum("image/png" in o.get("data", {}) for outputs in cells for o in outputs) == 4


class Shown:
    """A display that records what it shows."""

    def __init__(self):
        self.texts = []

    def show(self, bars, now):
        self.texts.append(str(bars[0]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_bar_over_many_fits(monkeypatch):
    shown = Shown()
    monkeypatch.setattr("fastmlp.estimators.progress_bar._new_display", lambda: shown)
    models = [MLPClassifier(3, max_iter=n, random_state=0, tol=0) for n in (2, 3, 30)]
    models[2].set_params(tol=10, n_iter_no_change=2)  # which ends early
    fit_many(models, X, Y, verbose=True)
    assert shown.texts[0].startswith("3 fits: 0 of 2 epochs")
    assert re.fullmatch(r"3 fits: 35 of 35 epochs, 0:00:0\d", shown.texts[-1])
    search = model_selection.GridSearchCV(models[0], {"alpha": [0, 1]}, cv=3, verbose=1)
    search.fit(X, Y)
    score = f"{search.best_score_:.4f}"
    # Six fits, and the last one.
    assert re.fullmatch(rf"GridSearchCV: 14 of 14 epochs, best score {score}, .*", shown.texts[-1])
    n_shown = len(shown.texts)
    fit_many(models, X, Y)
    assert len(shown.texts) == n_shown
