"""``fastmlp search``: candidates, live table, best model, and searches that go on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from typer.testing import CliRunner

import fastmlp
from fastmlp import cli, model_selection
from fastmlp.cli.search import _candidates
from fastmlp.cli.search_display import SearchDisplay
from fastmlp.model_selection.standings import Standings

DIGITS = ("search", "--data", "digits", "--epochs", 3, "--cv", 2)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*args, status=0):
    """Run the command; return what is on standard output."""
    result = CliRunner().invoke(cli.app, list(map(str, args)), prog_name="fastmlp")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.stdout


def refused(*args):
    """Return the sentence with which the command refuses something."""
    with pytest.raises((ValueError, OSError, SystemExit)) as caught:
        run(*args)
    return str(caught.value)


def document(*args):
    found = json.loads(run(*args, "--json"))
    for candidate in found["candidates"]:
        del candidate["seconds"]
    del found["search time"]
    return found


def test_all_combinations():
    text = run(*DIGITS, "--hidden", 8, "--hidden", "20,10", "--alpha", 1e-4, "--alpha", 1)
    lines = text.splitlines()
    assert lines[0] == "digits: 1437 training samples, 360 test samples"
    assert lines[2].split() == ["rank", "accuracy", "±", "seconds", "alpha", "hidden"]
    rows = [line.split() for line in lines[3:7]]
    assert [row[0] for row in rows] == list("1234")
    assert {row[-1] for row in rows} == {"8", "20,10"}
    assert sorted(rows, key=lambda row: -float(row[1])) == rows
    _, alpha, hidden = re.search(r"best +(alpha (\S+), hidden (\S+))\n", text).groups()
    assert [alpha, hidden] == rows[0][-2:]
    model = fastmlp.load("best.npz")
    assert model.alpha == float(alpha) and model.max_iter == 3
    assert model.metadata_["data"] == "digits"
    found = re.search(r"test accuracy +(\S+)\n", text)[1]
    (_, _), (X, y) = fastmlp.datasets.load_digits()
    assert float(found) == pytest.approx(model.score(X, y), abs=5e-5)


def test_the_same_as_a_search_by_hand():
    found = document(*DIGITS, "--n-iter", 4, "--seed", 3)
    assert len(found["candidates"]) == 4 and found["fits"] == 8
    (X, y), _ = fastmlp.datasets.load_digits()
    best = found["candidates"][0]
    names = {"hidden": "hidden_layer_sizes", "learning rate": "learning_rate_init"}
    parameters = {names.get(k, k): v for k, v in best["parameters"].items()}
    network = fastmlp.MLPClassifier(
        **parameters, max_iter=3, n_iter_no_change=3, input_scale=1 / 16, random_state=3
    )
    folds = model_selection.searches.sklearn.model_selection.StratifiedKFold(
        2, shuffle=True, random_state=3
    )
    with pytest.warns(match="Maximum iterations"):
        scores = model_selection.cross_val_score(network, X, y, cv=folds)
    assert best["mean"] == pytest.approx(scores.mean())
    assert found == document(*DIGITS, "--n-iter", 4, "--seed", 3)
    assert found["candidates"] != document(*DIGITS, "--n-iter", 4)["candidates"]


def test_candidates():
    space = {"hidden_layer_sizes": [(5,), (6,)], "alpha": (1e-6, 1e-1)}
    drawn = _candidates(space, 50, 0)
    assert len(drawn) == 50 and drawn == _candidates(space, 50, 0)
    alphas = np.array([candidate["alpha"] for candidate in drawn])
    assert 1e-6 <= alphas.min() < 1e-5 and 1e-2 < alphas.max() <= 0.1
    assert all(
        len(f"{alpha:.15g}".strip("0.").replace(".", "").split("e")[0]) <= 2 for alpha in alphas
    )
    lists = {"hidden_layer_sizes": [(5,), (6,)], "alpha": [0, 1, 2]}
    assert len(_candidates(lists, 6, 0)) == 6
    some = _candidates(lists, 5, 0)
    assert len({str(sorted(candidate.items())) for candidate in some}) == 5


def test_tables():
    pytest.importorskip("skops", reason="pipelines are saved with skops: fastmlp[tables]")
    frame = load_diabetes(as_frame=True).frame
    frame.to_csv("patients.csv", index=False)
    options = ("--hidden", 4, "--hidden", 8, "--epochs", 5, "--cv", 3)
    text = run("search", "--data", "patients.csv", *options)
    assert "353 rows to train on, 89 held out" in text
    assert re.search(r"rank +R² +± +seconds +hidden", text)
    assert re.search(r"89 rows held out +model +baseline\nR² +", text)
    assert re.search(r"R² in 3 folds +-?\d", text)
    model = fastmlp.load("best.skops")
    assert model[-1].max_iter == 5
    assert len(run("predict", "best.skops", "patients.csv").splitlines()) == 443
    found = document("search", "--data", "patients.csv", *options)
    assert found["task"] == "regression" and set(found["test scores"]) == {"R²", "MAE", "RMSE"}


def test_halving():
    options = ("--hidden", 5, "--hidden", 9, "--alpha", 0, "--alpha", 1, "--halving", "--epochs", 9)
    found = document("search", "--data", "digits", "--cv", 2, *options, "--plot", "scores.png")
    epochs = [candidate["parameters"]["epochs"] for candidate in found["candidates"]]
    assert epochs == [9, 9, 3, 3] and found["fits"] == 12
    assert Path("scores.png").stat().st_size > 10_000


def test_a_search_goes_on(monkeypatch):
    options = (*DIGITS, "--n-iter", 4, "--checkpoint", "search.ckpt")
    expected = document(*DIGITS, "--n-iter", 4, "--out", "other.npz")
    original, count = Standings.__call__, [0]

    def stopping(standings, call, result):
        count[0] += 1
        if count[0] == 4:
            raise KeyboardInterrupt
        return original(standings, call, result)

    with monkeypatch.context() as patch:
        patch.setattr(Standings, "__call__", stopping)
        result = CliRunner().invoke(cli.app, list(map(str, options)), prog_name="fastmlp")
    assert result.exit_code == 130 and not Path("best.npz").exists()
    assert "the same command continues from search.ckpt" in result.stderr
    assert document(*options) == expected | {"model file": "best.npz"}
    assert re.search(r"search time +\S+ s for 0 fits; 8 more are from search.ckpt", run(*options))
    first, other = (fastmlp.load(name) for name in ("best.npz", "other.npz"))
    np.testing.assert_array_equal(first.coefs_[0], other.coefs_[0])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--target", "y"), "--target is for tables, but digits is not one: omit it"),
        (("--cv", 2000), "--cv must be at most the number of training samples, 1437, got 2000"),
        (("--plot", "x.txt"), "--plot must end in .png, .svg or .pdf, got x.txt"),
        (("--checkpoint", "no/x"), "--checkpoint must be a file in a directory that exists"),
        (("--checkpoint", "a", "--out", "a"), "--checkpoint and --out must be two files"),
        (("--out", "no/x"), "--out must be a file in a directory that exists"),
        (("--backend", "fast"), "fast"),
        (
            ("--hidden", 5, "--dropout", "0.1,0.2"),
            "or one for each layer of every --hidden, got 0.1,0.2 for 1 layers.",
        ),
    ],
)
def test_bad_options(options, sentence):
    assert sentence in refused("search", "--data", "digits", *options)
    assert not list(Path().iterdir())


def test_values_without_an_option():
    result = CliRunner().invoke(cli.app, ["search", "--hidden", "9", "50"], prog_name="fastmlp")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: fastmlp search does not take '50': write the name of an option before each value. "
        "'fastmlp search -h' lists them all.\n"
    )


def test_live_table():
    standings = Standings()
    rows = [["1", "0.9", "0.1", "2.0", "5"]]
    headings = ["rank", "accuracy", "±", "seconds", "hidden"]
    display = SearchDisplay(standings, lambda: (headings, rows), 8, wanted=True)

    def shown():
        with display._console.capture() as captured:
            display._console.print(display._drawn())
        return captured.get()

    standings.n_scores = 2
    display.epoch_ended(None, None)
    text = shown()
    assert "rank" in text and re.search(r"2 of 8 fits, 1 epochs, 0:00:\d\d left", text)
    standings.n_scores = 8
    assert "8 of 8 fits, 1 epochs, training the best on all data" in shown()
    rows.clear()
    assert "rank" not in shown()


def call(parameters, split):
    given = {"parameters": parameters, "split_progress": (split, 2)}
    return SimpleNamespace(is_known=False, given=given)


def test_standings():
    standings = Standings("max_iter")
    for parameters, scores in [
        ({"alpha": 1, "max_iter": 3}, [0.7, 0.9]),
        ({"alpha": 2, "max_iter": 3}, [0.8, 0.9]),
        ({"alpha": 3, "max_iter": 3}, [0.5, np.nan]),
        ({"alpha": 4, "max_iter": 3}, [0.6]),
        ({"alpha": 1, "max_iter": 9}, [0.6, 0.7]),
    ]:
        for split, score in reversed(list(enumerate(scores))):
            error = "Traceback\nValueError: no\n" if np.isnan(score) else None
            result = {"test_scores": score, "fit_time": 1.0, "fit_error": error}
            ended = standings(call(parameters, split), result)
        assert (ended is not None) == (len(scores) == 2)
    ranked = standings.ranked()
    assert [candidate.parameters["alpha"] for candidate in ranked] == [1, 2, 4, 3]
    assert ranked[0].parameters["max_iter"] == 9 and ranked[0].seconds == 2
    assert [candidate.is_complete for candidate in ranked] == [True, True, False, True]
    assert standings.errors == {"ValueError: no": 1} and standings.n_scores == 9


def test_fits_that_fail():
    text = refused(*DIGITS, "--hidden", 5, "--learning-rate", 1e300)
    assert text.startswith("all fits have failed: ValueError: Solver produced non-finite")
    result = CliRunner().invoke(
        cli.app, list(map(str, (*DIGITS, "--learning-rate", 1e300, "--learning-rate", 1e-3)))
    )
    assert result.exit_code == 0
    assert "Note: 2 of 4 fits have failed: ValueError: Solver produced non" in result.stderr
    assert re.search(r"\n +2 +nan +nan", result.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
def test_a_killed_search_goes_on():
    options = map(str, ("search", "--data", "digits", "--n-iter", 8, "--cv", 3, "--epochs", 40))
    command = [sys.executable, "-m", "fastmlp", *options, "--json", "--checkpoint", "run.ckpt"]
    whole = subprocess.run([*command[:-1], "o.ckpt"], check=True, capture_output=True, text=True)
    expected = json.loads(whole.stdout)
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            deadline = time.monotonic() + 60
            before = os.path.getmtime("run.ckpt") if os.path.exists("run.ckpt") else 0
            while time.monotonic() < deadline and process.poll() is None:
                if os.path.exists("run.ckpt") and os.path.getmtime("run.ckpt") > before:
                    time.sleep(0.2)
                    break
                time.sleep(0.01)
            process.send_signal(number)
        assert process.returncode in (130, -signal.SIGKILL, 0)
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for one in (found, expected):
        del one["search time"]
        for candidate in one["candidates"]:
            del candidate["seconds"]
    assert found == expected
