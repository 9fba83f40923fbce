"""`fastmlp bench --suite devices`: the grid, its conclusions, its picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fastmlp import cli
from fastmlp.bench import Job, devices, worker

CONTENDERS = devices.CONTENDERS  # all, of which other tests take some


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(devices, "QUICK_HIDDEN", (4, 8))
    monkeypatch.setattr(devices, "QUICK_BATCHES", (500,))
    monkeypatch.setattr(devices, "CONTENDERS", (CONTENDERS[0], *CONTENDERS[2:4]))


def found(**gpu):
    """Return what `devices.measure` returns, with a GPU or without."""
    cells = []
    for n_hidden, on_gpu in zip((16, 64, 256), gpu.get("seconds", [None] * 3), strict=True):
        epoch = {"cython": n_hidden / 100, "numpy": n_hidden / 50}
        epoch |= {"cuda": on_gpu} if gpu else {}
        losses = dict.fromkeys(epoch, {"difference": 0.0, "tolerance": 0.03, "equal": True})
        copies = dict.fromkeys(epoch, 0.002)
        cell = {"n_hidden": n_hidden, "batch_size": 200, "epoch": epoch, "losses": losses}
        cells.append(cell | {"into": copies, "out": copies})
    missing = {} if gpu else {"cuda": "no CUDA device was found."}
    return {"cells": cells, "missing": missing, "passed": True}


@pytest.mark.slow
@pytest.mark.mnist
def test_the_suite(mnist):
    options = ["--suite", "devices", "--quick", "--out", "run.json"]
    result = CliRunner().invoke(cli.app, ["bench", *options])
    assert result.exit_code == 0, result.output
    processor, *lines = result.stdout.splitlines()
    assert processor.endswith((" 1 thread", " threads"))
    assert lines[0].split()[:4] == ["hidden", "batch", "cython", "numpy"]
    assert [line.split()[:2] for line in lines[1:3]] == [["4", "500"], ["8", "500"]]
    run = json.loads(Path("run.json").read_text())
    assert run["passed"] and run["cases"] == []
    for cell in run["devices"]["cells"]:
        assert all(seconds > 0 for seconds in cell["epoch"].values())
        assert all(cell["into"][label] > 0 for label in cell["epoch"])
    if "cuda" in run["devices"]["missing"]:
        assert lines[3].startswith("No GPU: ")
        assert "cuda" not in lines[0]


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        ([0.2, 0.6, 1.0], "In batches of 200, the GPU is faster from 64 hidden units on."),
        ([0.1, 0.1, 0.1], "In batches of 200, the GPU is faster from 16 hidden units on."),
        ([0.1, 0.1, 9.0], "In batches of 200, the GPU is not faster, up to 256 hidden units."),
    ],
)
def test_conclusions(seconds, sentence):
    gains = devices.gain(found(seconds=seconds)["cells"][0])
    assert gains == pytest.approx(0.16 / seconds[0])
    assert devices.conclusions(found(seconds=seconds)) == [sentence]


def test_without_a_gpu_no_figure_is_invented():
    assert devices.conclusions(found()) == ["No GPU: no CUDA device was found."]


@pytest.mark.slow
@pytest.mark.parametrize("gpu", [{}, {"seconds": [0.2, 0.6, 1.0]}])
def test_plot(tmp_path, gpu):
    png, svg = devices.plot(found(**gpu), tmp_path)
    assert png.stat().st_size > 5000
    text = svg.read_text()
    assert ("CPU / GPU" in text) == bool(gpu) and "2.56 s" in text


def test_pytorch_trains_the_same(mnist):
    pytest.importorskip("torch")
    parameters = {"backend": "numpy"}
    job = Job("device", "fastmlp", "mnist", "uint8", parameters, 3000, 0, False, False, "")
    _, ours, copies = worker._device(job)(8, 500)
    other = Job("device", "torch-cuda", "mnist", "float32", {}, 3000, 0, False, False, "")
    _, theirs, _ = worker._torch_device(other, "cpu")(8, 500)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert set(copies) == {"into", "out"}


def test_every_contender_has_a_name_of_its_own():
    labels = [contender.label for contender in CONTENDERS]
    assert len(set(labels)) == len(labels) == 6
