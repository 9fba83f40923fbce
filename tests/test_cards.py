"""Cards of saved models: what they say is what was trained, and it survives saving."""

import hashlib
import json
import warnings

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import fastmlp
from fastmlp import MLPClassifier, MLPEnsemble, MLPRegressor, cards, cli
from fastmlp.portable import about

X = np.random.RandomState(0).normal(size=(60, 3))
Y = np.where(X[:, 0] > 0, "yes", "no")


def fitted(**parameters):
    return MLPClassifier((4,), solver="lbfgs", random_state=0, **parameters).fit(X, Y)


class TestRecord:
    def test_of_classes(self):
        found = cards.record(X, Y, name="sixty", scores={"accuracy": np.float32(0.5)})
        assert found["data"]["name"] == "sixty"
        assert (found["data"]["rows"], found["data"]["features"]) == (60, 3)
        assert found["data"]["classes"] == {"no": (Y == "no").sum(), "yes": (Y == "yes").sum()}
        assert found["scores"] == {"accuracy": 0.5}
        json.dumps(found)

    def test_the_digest_is_sha256(self):
        found = cards.record(X, X[:, 0])["data"]
        assert found["SHA-256 of X"] == hashlib.sha256(X.tobytes()).hexdigest()
        changed = X.copy()
        changed[3, 1] += 1e-12
        assert cards.record(changed, X[:, 0])["data"]["SHA-256 of X"] != found["SHA-256 of X"]

    def test_of_targets(self):
        found = cards.record(X, np.arange(60) / 8)["data"]
        assert found["target"] == "0 to 7.375, mean 3.6875"
        assert "classes" not in found

    def test_many_classes_are_counted(self):
        assert (
            cards.record(np.zeros((300, 1)), np.repeat(np.arange(100), 3))["data"]["classes"] == 100
        )

    def test_facts_and_the_digest_of_a_file(self):
        found = cards.record(X.tolist(), Y, sha256="ab", licence="CC0")["data"]
        assert found["SHA-256 of the file"] == "ab"
        assert found["licence"] == "CC0"


class TestCard:
    def test_of_a_network(self):
        found = cards.card(fitted(input_scale=0.5))
        assert found["model"]["units per layer"] == "3-4-1"
        assert found["model"]["weights"] == 3 * 4 + 4 + 4 + 1
        assert found["model"]["classes"] == "no, yes"
        assert found["parameters"] == {
            "hidden_layer_sizes": [4], "solver": "lbfgs", "random_state": 0, "input_scale": 0.5,
        }  # fmt: skip
        assert found["training"]["epochs"] == fitted(input_scale=0.5).n_iter_
        assert "data" not in found  # not recorded

    def test_of_ensembles_and_pipelines(self):
        network = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=50)
        model = make_pipeline(StandardScaler(), MLPEnsemble(network, 3, random_state=0))
        found = cards.card(model.fit(X, X[:, 0]))
        assert found["model"]["networks"] == "3, averaged"
        assert found["model"]["steps"] == "StandardScaler, MLPEnsemble"
        assert found["model"]["task"] == "regression"
        assert len(found["training"]["epochs"]) == 3

    def test_parameters_that_json_does_not_know(self):
        network = MLPClassifier(
            (4,),
            max_iter=2,
            tol=0,
            n_iter_no_change=3,
            lr_schedule={1: 0.1},
            class_weight={"no": 2},
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 2 epochs
            found = cards.card(network.fit(X, Y))
        assert found["parameters"]["lr_schedule"] == {"1": 0.1}
        json.dumps(found)

    def test_it_is_saved_with_the_model(self, tmp_path):
        record = cards.record(X, Y, name="sixty")
        fastmlp.save(fitted(), tmp_path / "model.npz", metadata={"card": record})
        found = cards.card(fastmlp.load(tmp_path / "model.npz"))
        assert found["data"] == record["data"]
        assert found["training"]["date"] == record["date"]
        assert found["versions"]["fastmlp"] == fastmlp.__version__


class TestMarkdown:
    def test_it_has_every_section_and_fact(self):
        model = fitted()
        model.metadata_ = {"card": cards.record(X, Y, name="sixty")}
        text = cards.to_markdown(model, "yes or no")
        assert text.startswith("# yes or no\n")
        for title, section in cards.card(model).items():
            assert f"\n## {title.capitalize()}\n" in text
            for name in section:
                assert name.replace("_", "\\_") in text

    def test_text_of_others_is_no_markup(self):
        model = fitted()
        model.metadata_ = {"card": cards.record(X, Y, name="<script>|[x](y)\n# z")}
        text = cards.to_markdown(model, "a|b")
        assert "\\<script\\>\\|\\[x\\](y) \\# z" in text
        assert "\n# z" not in text


@pytest.mark.parametrize(
    "metadata",
    [
        {"card": [1]},
        {"card": "x"},
        {"card": {"data": 3, "scores": [1], "versions": None}},
        {"card": {"data": {"rows": "many"}}},
        {"shape": 5, "kind": "images"},
        {"kind": "images", "shape": [10**9, 10**9]},
        {"ranges": 3, "target": {"a": 1}},
    ],
)
def test_the_file_of_a_model_may_hold_anything(metadata, tmp_path):
    fastmlp.save(fitted(), tmp_path / "model.npz", metadata=metadata)
    model = fastmlp.load(tmp_path / "model.npz")
    assert cards.card(model)["model"]["estimator"] == "MLPClassifier"
    assert cards.to_markdown(model, "title")
    assert about(model, "name")["kind"] == "rows"
    run("show-model", str(tmp_path / "model.npz"))


def test_control_characters_are_not_printed(tmp_path):
    hostile = {"card": {"data": {"\x1b]0;title\x07": "\x1b[2J"}}}
    fastmlp.save(fitted(), tmp_path / "model.npz", metadata=hostile)
    assert "\x1b" not in run("show-model", str(tmp_path / "model.npz"))


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((X, Y[:3]), {}, r"X and y must be the training data.*\(60, 3\) and \(3,\)"),
        (("a.csv", Y), {}, "X and y must be the training data"),
        ((X, Y), {"scores": 3}, "scores must be numbers by what they measure"),
    ],
)
def test_records_of_something_else(args, options, message):
    with pytest.raises(ValueError, match=message):
        cards.record(*args, **options)


def run(*args):
    """Run a command; return what is on standard output."""
    result = CliRunner().invoke(cli.app, list(args), prog_name="fastmlp", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_recorded_by_train(tmp_path):
    out = tmp_path / "model.npz"
    run("train", "--data", "digits", "--epochs", "2", "--out", str(out))
    found = cards.card(fastmlp.load(out))
    assert found["data"]["name"] == "digits"
    assert sum(found["data"]["classes"].values()) == found["data"]["rows"]
    assert any(name.startswith("accuracy on") for name in found["scores"])
    shown = run("show-model", str(out))
    assert "SCORES" in shown and found["training"]["date"] in shown
    as_json = json.loads(run("show-model", str(out), "--json"))
    assert as_json.pop("model file") == str(out)
    assert as_json == found
