"""Exported C headers, compiled by real compilers, predict what the models predict."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from shutil import which

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmlp import MLPClassifier, MLPEnsemble, MLPRegressor
from fastmlp.datasets import load_digits, load_mnist
from fastmlp.export import check_c, to_c
from fastmlp.export.c_header import read_header
from fastmlp.portable import plain
from fastmlp.tables import make_table_pipeline

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
]

ROOT = Path(__file__).parents[1]
WARNINGS = "-Wall -Wextra -Werror -pedantic -Wconversion -Wdouble-promotion".split()
STANDARDS = {
    "gcc": ["-std=c99"],
    "clang": ["-std=c99"],
    "g++": ["-xc++", "-std=c++11"],
    "clang++": ["-xc++", "-std=c++11"],
}
ARM = (
    "-std=gnu99 -Os -mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 "
    "--specs=nosys.specs --specs=nano.specs -Wl,--no-warn-rwx-segments"
).split()

#: A program that predicts the rows of a file with a header, and tests it.
PROGRAM = """
#define {upper}_SELF_TEST
#include "{name}.h"
#include <stdio.h>

static void run_{name}(void)
{{
    FILE *x = fopen("{name}.x", "rb"), *y = fopen("{name}.y", "wb");
    static {c_type} row[{upper}_N_FEATURES];
    float found[{upper}_N_OUTPUTS];
    int labels[{upper}_N_OUTPUTS];
    while (fread(row, sizeof row, 1, x) == 1) {{
        {calls}
        fwrite(found, sizeof found, 1, y);
        fwrite(labels, sizeof labels[0], {n_labels}, y);
    }}
    fclose(x);
    fclose(y);
    printf("{name} %d\\n", {name}_self_test());
}}
"""


def tool(name):
    """Return a program's name; skip the test if there is none."""
    if which(name) is None:
        missing = f"there is no {name} on the PATH"
        if name in os.environ.get("FASTMLP_REQUIRE_TOOLS", "").split(","):
            pytest.fail(missing)
        pytest.skip(missing)
    return name


class Case:
    """A header with its model, and rows to predict."""

    def __init__(self, name, model, rows, **parameters):
        self.name, self.model, self.rows = name, model, rows
        self.plain = plain(model)
        self.header = to_c(model, name=name, **parameters)

    def source(self):
        task, suffix = self.plain.task, "_u8" if self.rows.dtype == np.uint8 else ""
        proba, predict = f"{self.name}_predict_proba{suffix}", f"{self.name}_predict{suffix}"
        calls = {
            "regression": f"{predict}(row, found);",
            "multilabel": f"{proba}(row, found); {predict}(row, labels);",
        }.get(task, f"{proba}(row, found); labels[0] = {predict}(row);")
        return PROGRAM.format(
            name=self.name,
            upper=self.name.upper(),
            c_type="uint8_t" if suffix else "float",
            calls=calls,
            n_labels=self.n_labels,
        )

    @property
    def n_labels(self):
        counts = {"regression": 0, "multilabel": self.plain.n_outputs}
        return counts.get(self.plain.task, 1)

    def wanted(self):
        found = self.model.predict_proba if self.plain.is_classifier else self.model.predict
        return np.asarray(found(self.rows)).reshape(len(self.rows), -1)


def compiled(folder, cases, compiler="gcc", flags=("-O1",)):
    """Return (outputs, labels, failures of the self-test) of each case, of one program."""
    tool(compiler)
    sources = [case.source() for case in cases]
    calls = "".join(f" run_{case.name}();" for case in cases)
    (folder / "main.c").write_text(
        "\n".join([*sources, f"int main(void) {{{calls} return 0; }}\n"])
    )
    for case in cases:
        (folder / f"{case.name}.h").write_text(case.header, "utf-8")
        np.ascontiguousarray(
            case.rows, np.uint8 if case.rows.dtype == np.uint8 else np.float32
        ).tofile(folder / f"{case.name}.x")
    command = [compiler, *STANDARDS[compiler], *WARNINGS, *flags, "main.c", "-o", "main", "-lm"]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[:4000]
    run = subprocess.run(["./main"], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0 and not run.stderr, run.stderr[:4000]
    failures = dict(line.split() for line in run.stdout.splitlines())
    results = []
    for case in cases:
        words = np.fromfile(folder / f"{case.name}.y", np.int32)
        words = words.reshape(-1, case.plain.n_outputs + case.n_labels)
        outputs = np.ascontiguousarray(words[:, : case.plain.n_outputs]).view(np.float32)
        labels = words[:, case.plain.n_outputs :]
        results.append((outputs, labels, int(failures[case.name])))
    return results


# ------------------------------------------------------------------------------------------ models

ACTIVATIONS = ["identity", "logistic", "tanh", "relu", "leaky_relu", "gelu", "silu"]
LAYERS = [(), (1,), (7,), (5, 3), (4, 6, 5)]
FEATURES = [1, 5, 33]
TASKS = [
    "multiclass",
    "binary",
    "multilabel",
    "squared error",
    "binary squared error",
    "regression",
    "targets",
    "poisson",
]
N_MODELS = 56  # of all pairs of a task and an activation
SCALES = [None, 1 / 255, (0.02, -1.5), "standard"]


@cache
def random_case(seed, dtype="float32"):
    """Return a case with a network that differs in all that a network can have."""
    random = np.random.RandomState(seed)
    task = TASKS[seed % len(TASKS)]
    scale = SCALES[random.randint(len(SCALES))]
    shape = 80, FEATURES[random.randint(len(FEATURES))]
    if random.randint(2):
        X = random.randint(0, 256, shape).astype(np.uint8)
        X[random.uniform(size=shape) < 0.5] = 0
        scale = scale or 1 / 255
    else:
        X = random.normal(size=shape).astype(np.float32)
        X = X * np.float32(1 if scale is None else 100)
    parameters = {
        "hidden_layer_sizes": LAYERS[random.randint(len(LAYERS))],
        "activation": ACTIVATIONS[seed % len(ACTIVATIONS)],
        "input_scale": scale,
        "dtype": "float32",
        "max_iter": 4,
        "learning_rate_init": 0.02,
        "random_state": seed,
    }
    targets = {
        "multiclass": np.arange(80) % 4,
        "squared error": np.arange(80) % 3,
        "multilabel": random.randint(0, 2, (80, 3)),
        "regression": X[:, 0] * 3.0 + 7,
        "targets": random.normal(size=(80, 2)) * [1, 30] + [0, 200],
        "poisson": random.poisson(3, 80),
    }
    if "squared" in task:
        parameters["loss"] = "squared_error"
    if task == "poisson":
        parameters["loss"] = "poisson"
    if task in ("regression", "targets"):
        parameters["target_scale"] = "standard"
    y = targets.get(task, np.arange(80) % 2)
    is_regressor = task in ("regression", "targets", "poisson")
    model = (MLPRegressor if is_regressor else MLPClassifier)(**parameters)
    if seed % 5 == 4:
        model = MLPEnsemble(model, 3, n_jobs=1, random_state=seed)
    rows = None if dtype == "float32" else X
    return Case(f"m{seed}", model.fit(X, y), X, dtype=dtype, X=rows)


def assert_alike(case, outputs, labels, tolerance):
    """Check outputs against the model, and labels where two outputs are not the same."""
    wanted = case.wanted()
    if not case.plain.is_classifier:
        size = np.abs(wanted).max(axis=0)
        wanted, outputs = wanted / size, outputs / size
    np.testing.assert_allclose(outputs, wanted, rtol=0, atol=tolerance)
    if case.plain.task == "multilabel":
        clear = np.abs(wanted - 0.5) > 2 * tolerance
        assert (labels == case.model.predict(case.rows))[clear].all()
    elif case.plain.is_classifier:
        first, second = np.sort(wanted, axis=1)[:, :-3:-1].T
        clear = first - second > 2 * tolerance
        assert (case.model.classes_[labels[:, 0]] == case.model.predict(case.rows))[clear].all()


def test_one_of_each_task(tmp_path):
    cases = [random_case(seed) for seed in range(len(TASKS))]
    for case, (outputs, labels, failures) in zip(cases, compiled(tmp_path, cases), strict=True):
        assert failures == 0
        assert_alike(case, outputs, labels, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", STANDARDS)
def test_many_models(compiler, tmp_path):
    cases = [random_case(seed) for seed in range(N_MODELS)]
    for case, (outputs, labels, failures) in zip(
        cases, compiled(tmp_path, cases, compiler, ["-O2"]), strict=True
    ):
        assert failures == 0, case.name
        assert_alike(case, outputs, labels, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", STANDARDS)
def test_many_models_in_int8(compiler, tmp_path):
    cases = [random_case(seed, "int8") for seed in range(N_MODELS)]
    for case, (outputs, labels, failures) in zip(
        cases, compiled(tmp_path, cases, compiler, ["-O2"]), strict=True
    ):
        assert failures == 0, case.name
        # The header computes what NumPy does with its numbers, but for a byte rounded otherwise.
        _, stored = read_header(case.header, case.plain)
        found = stored.probabilities(case.rows)
        size = 1 if case.plain.is_classifier else np.abs(found).max()
        assert np.median(np.abs(outputs - found)) < 1e-6 * size
        np.testing.assert_allclose(outputs, found, rtol=0, atol=0.02 * size)
        assert_alike(case, outputs, labels, 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_sanitizers(dtype, tmp_path):
    cases = [random_case(seed, dtype) for seed in range(0, N_MODELS, 5)] + [table_case(dtype)]
    checks = "-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all".split()
    results = compiled(tmp_path, cases, flags=["-O1", "-g", *checks])
    assert [failures for _, _, failures in results] == [0] * len(cases)


def test_float64_models(tmp_path):
    random = np.random.RandomState(0)
    X = random.normal(size=(60, 4)) * [1, 10, 0.1, 1] + [0, 5, 1, 0]
    rows = X.astype(np.float32).astype(np.float64)
    model = MLPClassifier((9,), activation="tanh", input_scale="standard", max_iter=9)
    numbers = MLPRegressor(
        hidden_layer_sizes=(9,), target_scale="standard", input_scale="standard", max_iter=9
    )
    cases = [
        Case("classes", model.fit(X, np.arange(60) % 3), rows),
        Case("numbers", numbers.fit(X, X.sum(axis=1) * 1e3), rows),
    ]
    for case, (outputs, labels, failures) in zip(cases, compiled(tmp_path, cases), strict=True):
        assert failures == 0
        assert_alike(case, outputs, labels, 2e-6)


@pytest.mark.slow
def test_no_state(tmp_path):
    """Objects have no data but constants, and call nothing but the functions that they name."""
    tool("nm")
    cases = [random_case(seed) for seed in range(3)] + [random_case(0, "int8"), table_case()]
    allowed = {"expf", "tanhf", "memset", "memcpy", "_GLOBAL_OFFSET_TABLE_", "__stack_chk_fail"}
    for place, case in enumerate(cases):
        path = tmp_path / f"{case.name}.h"
        path.write_text(case.header)
        suffix = "" if case.plain.table or case.rows.dtype != np.uint8 else "_u8"
        c_type = "uint8_t" if suffix else "float"
        extra = ", float *y" if case.plain.task == "regression" else ""
        extra = ", int *y" if case.plain.task == "multilabel" else extra
        (tmp_path / "one.c").write_text(
            f'#include "{case.name}.h"\nvoid f(const {c_type} *x{extra});\n'
            f"void f(const {c_type} *x{extra}) {{ (void){case.name}_predict{suffix}"
            f"(x{', y' if extra else ''}); }}\n"
        )
        tool("gcc")
        subprocess.run(["gcc", "-std=c99", "-O2", "-c", "one.c"], cwd=tmp_path, check=True)
        lines = subprocess.check_output(["nm", "one.o"], cwd=tmp_path, text=True).splitlines()
        kinds = {line.split()[-1]: line.split()[-2] for line in lines}
        assert not [name for name, kind in kinds.items() if kind in "dDbBC"], place
        called = {name for name, kind in kinds.items() if kind == "U"}
        assert called <= allowed | {"strcmp", "fminf", "fmaxf", "sqrtf"}
        described = set(re.search(r"calls only\n +([^.]*)\.", case.header)[1].split(", "))
        assert called - allowed <= described and called & {"expf", "tanhf"} <= described


def test_the_command_in_the_header(tmp_path):
    tool("sh")
    tool("cc")
    case = random_case(0)
    (tmp_path / "m0.h").write_text(case.header)
    command = re.search(r"^ +(echo .*)$", case.header, flags=re.MULTILINE)[1]
    found = subprocess.check_output(["sh", "-c", command], cwd=tmp_path, text=True)
    assert found == "m0: 0 of 5 tests failed\n"


# --------------------------------------------------------------------------------------- self-test


@pytest.mark.parametrize("dtype", ["float32", pytest.param("int8", marks=pytest.mark.slow)])
def test_changed_headers_fail(dtype, tmp_path):
    """One number of any array is another, or the arithmetic."""
    case = random_case(0, dtype)
    arrays = re.findall(r"^static const \w+ m0_(?!classes|recorded)(\w+)\[", case.header, re.M)
    assert {"weights_1", "biases_1"} <= set(arrays)
    parameters = {"dtype": dtype, "X": None if dtype == "float32" else case.rows}
    names = [f"n{place}" for place in range(len(arrays) + 2)]
    cases = [Case(name, case.model, case.rows, **parameters) for name in names]
    for copy, array in zip(cases, arrays, strict=False):
        copy.header = changed(copy.header, f"{copy.name}_{array}")
    cases[-2].header = cases[-2].header.replace("z[j] - largest", "largest - z[j]")
    *failures, unchanged = [failures for *_, failures in compiled(tmp_path, cases)]
    assert unchanged == 0 and min(failures) > 0, failures


def changed(header, name):
    """Return a header with another number at the end of an array."""
    start = header.index(f" {name}[")
    end = header.index("};", start)
    of_float, of_int = r"[1-9](?=[\d.e-]*f\s*$)", r"\d(?=\s*$)"
    digit = re.search(of_float, header[start:end]) or re.search(of_int, header[start:end])
    place = start + digit.start()
    return f"{header[:place]}{abs(int(digit[0]) - 1)}{header[place + 1 :]}"


def test_numbers_survive(tmp_path):
    """Compilers read every float32 number as it was."""
    model = MLPClassifier((40,), max_iter=1, dtype="float32", random_state=0)
    random = np.random.RandomState(0)
    X = random.normal(size=(9, 30)).astype(np.float32)
    model.fit(X, np.arange(9) % 3)
    bits = random.randint(0, 2**32, model.coefs_[0].size, dtype=np.uint32)
    with np.errstate(invalid="ignore"):
        numbers = bits.view(np.float32)
    numbers = np.where(np.isfinite(numbers), numbers, np.float32(-0.0))
    odd = [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, 1.1754944e-38, 3.4028235e38, 1.0, 1e10, 0.1]
    numbers[: len(odd)] = odd
    model.coefs_[0][...] = (numbers * np.float32(1)).reshape(30, 40)
    model.coefs_[1][...] = 0
    case = Case("bits", model, np.zeros((1, 30), np.float32), X=np.zeros((1, 30), np.float32))
    _, stored = read_header(case.header, case.plain)
    assert stored.networks[0].coefs[0].tobytes() == model.coefs_[0].tobytes()
    for compiler in ("gcc", "clang"):
        (_, _, failures), *_ = compiled(tmp_path, [case], compiler)
        assert failures == 0  # the checksum is of bits


# ----------------------------------------------------------------------------------- odd numbers


@pytest.mark.parametrize("dtype", ["float32", pytest.param("int8", marks=pytest.mark.slow)])
def test_extreme_inputs(dtype, tmp_path):
    rows = np.zeros((8, 5), np.float32)
    rows[0] = np.nan
    rows[1, 3] = np.nan
    rows[2, 0] = np.inf
    rows[3, 4] = -np.inf
    rows[4] = 1e30
    rows[5] = -3.4e38
    rows[6, ::2] = [3e38, -3e38, 1e-40]
    rows[7] = 1e-40
    X = np.random.RandomState(0).normal(size=(60, 5)).astype(np.float32)
    common = {"max_iter": 5, "dtype": "float32", "random_state": 0}
    models = {
        activation: MLPClassifier((6,), activation=activation, **common).fit(X, np.arange(60) % 3)
        for activation in ACTIVATIONS
    }
    models["linear"] = MLPClassifier((), **common).fit(X, np.arange(60) % 3)
    models["scaled"] = MLPClassifier((6,), input_scale="standard", **common).fit(
        X, np.arange(60) % 2
    )
    models["labels"] = MLPClassifier((6,), **common).fit(X, (X > 0).astype(int))
    models["numbers"] = MLPRegressor(hidden_layer_sizes=(6,), **common).fit(X, X[:, 0])
    cases = [Case(name, model, rows, dtype=dtype) for name, model in models.items()]
    for case, (outputs, labels, failures) in zip(cases, compiled(tmp_path, cases), strict=True):
        assert failures == 0
        assert np.isnan(outputs[:4]).all() and (labels[:4] == -1).all()
        assert not np.isnan(outputs[7]).any() and (labels[7] >= 0).all()
        is_odd = np.isnan(outputs).any(axis=1)
        if case.n_labels == 1:
            assert ((labels[:, 0] == -1) == is_odd).all()
        if dtype == "float32":
            with np.errstate(all="ignore"):
                wanted = case.plain.probabilities(rows[4:])
            np.testing.assert_allclose(outputs[4:], wanted, rtol=1e-5, atol=1e-6)


def test_saturated_outputs(tmp_path):
    X = np.random.RandomState(0).normal(size=(60, 5)).astype(np.float32)
    models = {}
    for name, n_classes, loss in (
        ("softmax", 3, "log_loss"),
        ("normalised", 3, "squared_error"),
        ("binary", 2, "log_loss"),
        ("never", 3, "squared_error"),
    ):
        model = MLPClassifier((6,), loss=loss, max_iter=5, dtype="float32", random_state=0)
        models[name] = model.fit(X, np.arange(60) % n_classes)
        model.coefs_[-1] *= 1e4
    model.intercepts_[-1][...] = -1e7
    cases = [Case(name, model, X) for name, model in models.items()]
    results = compiled(tmp_path, cases)
    for case, (outputs, labels, failures) in zip(cases, results, strict=True):
        assert failures == 0
        np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)
        assert_alike(case, outputs, labels, 1e-3)
        assert case.name == "never" or outputs.max() == 1
    np.testing.assert_allclose(results[-1][0], 1 / 3, atol=1e-6)
    assert not results[-1][1].any()


def test_what_does_not_fit():
    X = np.random.RandomState(0).normal(size=(20, 2))
    model = MLPClassifier((3,), max_iter=2).fit(X, np.arange(20) % 2)
    model.coefs_[0][0, 0] = 1e300
    with pytest.raises(ValueError, match=r"must fit into float32, .* got one of size 1e\+300"):
        to_c(model)
    counts = MLPRegressor(hidden_layer_sizes=(3,), loss="poisson", max_iter=2).fit(
        X, np.arange(20) % 2
    )
    counts.intercepts_[-1][...] = 1000
    with pytest.raises(ValueError, match="must be finite in float32"):
        to_c(counts)
    wide = MLPClassifier((), max_iter=1).fit(np.zeros((4, 67_000)), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="at most 66311 inputs, got 67000: use dtype='float32'"):
        to_c(wide, dtype="int8")


# ------------------------------------------------------------------------------------------- names


def strings(folder, header, name, expression, n):
    """Return strings that a program finds in a header, compiled as C and as C++."""
    (folder / f"{name}.h").write_text(header, "utf-8")
    (folder / "main.c").write_text(
        f'#include "{name}.h"\n#include <stdio.h>\n'
        f"static const char *const found[] = {expression};\n"
        f"int main(void) {{ for (int i = 0; i < {n}; i++) "
        "{ fputs(found[i], stdout); putchar(1); } return 0; }\n"
    )
    results = []
    for compiler in ("gcc", "g++"):
        tool(compiler)
        command = [compiler, *STANDARDS[compiler], "-Wall", "-Werror", "main.c", "-o", "main"]
        subprocess.run([*command, "-lm"], cwd=folder, check=True)
        results.append(subprocess.check_output(["./main"], cwd=folder).decode().split("\1")[:-1])
    assert results[0] == results[1]
    return results[0]


ODD_NAMES = [
    'a "quoted" name',
    "back\\slash \\n",
    "line\nfeed\r\n\ttab",
    "trigraph ??/ ??= ???",
    "Größe 大きい 🙂",
    "1",
    "\x7f\x1b[0m",
    "*/ /* // %s %d",
    "",
    "octal \x013",
]


def test_names_of_classes_and_features(tmp_path):
    odd = [name.replace("\1", "\2") for name in ODD_NAMES]  # which separates them here
    n = len(odd)
    X = np.random.RandomState(0).normal(size=(3 * n, n))
    model = MLPClassifier((2,), max_iter=1).fit(X, np.array(odd, object)[np.arange(3 * n) % n])
    model.feature_names_in_ = np.array(odd, object)
    header = to_c(model, name="odd")
    listed = re.search(
        r"^static const char \*const odd_classes\[\d+] = (.*?);$", header, re.M | re.S
    )
    assert strings(tmp_path, header, "odd", listed[1], n) == model.classes_.tolist()
    assert strings(tmp_path, header, "odd", "ODD_FEATURES", n) == odd


@pytest.mark.parametrize(
    "classes, definition",
    [
        ([3, -1, 7], "static const int32_t m_classes[3] = {-1, 3, 7};"),
        ([2**40, 5], "static const int64_t m_classes[2] = {5, 1099511627776};"),
        ([True, False], "static const int32_t m_classes[2] = {0, 1};"),
        ([1.0, 2.0], "static const double m_classes[2] = {1.0, 2.0};"),
        (["b", "a"], 'static const char *const m_classes[2] = {"a", "b"};'),
    ],
)
def test_types_of_classes(classes, definition):
    X = np.arange(len(classes) * 4.0).reshape(-1, 1)
    model = MLPClassifier((2,), max_iter=1).fit(X, np.array(classes * 4))
    assert definition in to_c(model, name="m").splitlines()


@pytest.mark.parametrize("name", ["", "a-b", "1a", "größe", "_x", "a b", "a\n"])
def test_names_that_are_no_identifiers(name):
    with pytest.raises(ValueError, match="name must be a C identifier") as raised:
        to_c(random_case(0).model, name=name)
    assert repr(name) in str(raised.value) and str(raised.value).count("\n") == 0


# ------------------------------------------------------------------------------------------ tables


@cache
def table_case(dtype="float32", task="classification", n_estimators=1):
    random = np.random.RandomState(0)
    n = 120
    frame = pd.DataFrame(
        {
            "size": random.normal(size=n) * 1000,
            "rooms": random.randint(1, 9, n),
            "color": random.choice(["red", 'gr"een', "bl??/ue"], n),
            "paid": random.choice(["yes", "no"], n),
            "new": random.rand(n) > 0.5,
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.randint(0, 300, n), "D"),
        }
    )
    y = frame["size"] + 1000 * (frame["color"] == "red")
    y = np.where(y > 500, "A", "B") if task == "classification" else y
    frame.loc[::9, "size"] = np.nan
    frame.loc[1::9, "color"] = None
    frame.loc[2::9, "when"] = pd.NaT
    pipeline = make_table_pipeline(
        task, n_rows=n, n_estimators=n_estimators, random_state=0, max_iter=4,
        hidden_layer_sizes=(8,),
    )  # fmt: skip
    case = Case("table", pipeline.fit(frame, y), np.zeros((1, 6), np.float32), dtype=dtype)
    case.frame = frame
    return case


@pytest.mark.slow
@pytest.mark.parametrize("dtype, largest", [("float32", 2e-6), ("int8", 0.05)])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_tables(task, dtype, largest):
    tool("cc")
    case = table_case(dtype, task, 2)
    assert check_c(case.model, case.header).largest < largest
    check = check_c(case.model, case.header, case.frame)
    assert check.n_rows == len(case.frame) and check.largest < largest
    assert "table_predict_u8" not in case.header
    header = to_c(case.model, dtype=dtype, X=case.frame, name="table")
    assert check_c(case.model, header).largest < largest


def test_words_of_tables(tmp_path):
    tool("gcc")
    case = table_case()
    (tmp_path / "table.h").write_text(case.header)
    (tmp_path / "main.c").write_text(
        '#include "table.h"\n#include <stdio.h>\n'
        "static const char *const features[] = TABLE_FEATURES;\n"
        "int main(void)\n{\n"
        '    const char *words[] = {"red", "gr\\"een", "bl?\\?/ue", "pink"};\n'
        "    for (int i = 0; i < TABLE_N_FEATURES; i++)\n"
        '        printf("%s ", features[i]);\n'
        "    for (int i = 0; i < 4; i++)\n"
        '        printf("%g ", (double)table_word(2, words[i]));\n'
        '    printf("%g ", (double)table_word(3, "yes"));\n'
        '    printf("%d", isnan(table_word(3, "maybe")) && isnan(table_word(0, "red")));\n'
        "    return 0;\n}\n"
    )
    command = ["gcc", "-std=c99", *WARNINGS, "main.c", "-o", "main", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    found = subprocess.check_output(["./main"], cwd=tmp_path, text=True)
    assert found == "size rooms color paid new when 2 1 0 -1 1 1"


# ------------------------------------------------------------------------------------------- check


@cache
def digits_model():
    (X, y), test = load_digits()
    model = MLPClassifier(
        (24,), input_scale=1 / 16, dtype="float32", max_iter=20, random_state=1
    ).fit(X, y)
    return model, test


def test_int8_digits():
    tool("cc")
    model, (X, y) = digits_model()
    header = to_c(model, dtype="int8")
    assert len(header) < 0.6 * len(to_c(model))
    check = check_c(model, header, X)
    assert check.by.endswith(", int8") and check.n_rows == len(X)
    assert 1e-6 < check.largest < 0.05 and check.n_labels <= 3
    assert check.microseconds > 0 and check.n_bytes == len(header)
    assert check_c(model, header, X.astype(float)).n_labels <= 3  # through the function of floats


@pytest.mark.slow
@pytest.mark.mnist
def test_int8_mnist():
    tool("cc")
    (X, y), (X_test, y_test) = load_mnist()
    model = MLPClassifier(
        (50,), input_scale=1 / 255, dtype="float32", max_iter=5, random_state=1
    ).fit(X, y)
    header = to_c(model, dtype="int8")
    _, stored = read_header(header, plain(model))
    found = stored.labels(stored.probabilities(X_test))
    assert abs(np.mean(found == y_test) - model.score(X_test, y_test)) < 0.001
    check = check_c(model, header, X_test)
    assert check.n_labels < 20
    check = check_c(model, to_c(model), X_test)
    assert check.n_labels == 0 and check.largest < 2e-6


@pytest.mark.slow
def test_int8_standardises_by_X():
    """Features of different sizes keep their digits if rows are given."""
    random = np.random.RandomState(0)
    X = random.normal(size=(300, 3)).astype(np.float32) * np.float32([1, 1000, 1])
    y = (X[:, 0] > 0).astype(int)
    model = MLPClassifier((8,), input_scale="standard", max_iter=30, dtype="float32").fit(X, y)
    scale, shift = model.input_scale_
    model.intercepts_[0] += shift @ model.coefs_[0]  # the same without a scaling
    model.coefs_[0] *= scale[:, np.newaxis]
    model.input_scale_ = None
    without, given = (check_c(model, to_c(model, dtype="int8", X=rows), X) for rows in (None, X))
    assert given.largest < 0.01 and without.largest > 5 * given.largest


def test_check_without_a_compiler(monkeypatch, tmp_path):
    model, (X, _) = digits_model()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for dtype, largest in (("float32", 2e-6), ("int8", 0.05)):
        header = to_c(model, dtype=dtype)
        check = check_c(model, header, X)
        assert check.by == "NumPy, numbers of the file; no C compiler was found"
        assert check.largest < largest and check.microseconds is None
        assert check_c(model, changed(header, "model_biases_2"), X).largest > 0  # of the file
    array = re.search(r"model_biases_2\[10\] = \{", header)
    other = header[: array.end()] + "9e9f + 0*" + header[array.end() :]
    with pytest.raises(ValueError, match="the header must be one of this model"):
        check_c(model, other, X)


def test_check_finds_other_numbers():
    tool("cc")
    model, (X, _) = digits_model()
    header = to_c(model)
    with pytest.raises(RuntimeError, match="comparisons of the header's self-test fail"):
        check_c(model, changed(header, "model_weights_1"), X)
    other = MLPClassifier((24,), input_scale=1 / 16, dtype="float32", max_iter=1, random_state=2)
    with pytest.warns():
        other.fit(*load_digits()[0])
    assert check_c(other, header, X).largest > 0.1


def test_check_of_something_else():
    model, (X, _) = digits_model()
    for header in ("\n", "\nstatic inline int x_predict(", to_c(random_case(0).model)):
        with pytest.raises(ValueError, match="must be one of this model.*export the model anew"):
            check_c(model, header)
    with pytest.raises(ValueError, match=r"rows must be numbers of shape \(n_rows, 64\)"):
        check_c(model, to_c(model), X[:, :5])


def test_compilers(monkeypatch):
    tool("gcc")
    model, (X, _) = digits_model()
    header = to_c(model)
    assert re.match(r"gcc \d+\.\d+, float32$", check_c(model, header, compiler="gcc -O1").by)
    monkeypatch.setenv("CC", "gcc -O1")
    assert check_c(model, header).by.startswith("gcc ")
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(RuntimeError, match="must be on the PATH, but no-such-compiler is not"):
        check_c(model, header)
    with pytest.raises(RuntimeError, match="cannot be compiled: .*nonsense.*Pass the C compiler"):
        check_c(model, header, compiler="gcc --nonsense")
    with pytest.raises(RuntimeError, match="cannot be compiled"):
        check_c(model, header.replace("#ifndef MODEL_H", "syntax error"), compiler="gcc")


def test_files(tmp_path):
    model, (X, _) = digits_model()
    path = tmp_path / "digits.h"
    path.write_text("old")
    text = to_c(model, path, name="digits", X=X)
    assert path.read_text() == text == to_c(model, name="digits", X=X)
    assert check_c(model, path, X[:20]).n_rows == check_c(model, str(path), X[:20]).n_rows == 20
    assert [file.name for file in tmp_path.iterdir()] == ["digits.h"]
    assert max(map(len, text.splitlines())) <= 100


def test_frames_with_names():
    tool("cc")
    X = pd.DataFrame(np.random.RandomState(0).normal(size=(40, 2)), columns=["a", "b c"])
    model = MLPClassifier((3,), max_iter=3, dtype="float32").fit(X, np.arange(40) % 3)
    header = to_c(model, X=X)
    assert '#define MODEL_FEATURES { \\\n    "a", /* 0 */ \\\n    "b c", /* 1 */ \\\n}' in header
    assert check_c(model, header).largest < 1e-6 and check_c(model, header, X).largest < 1e-6


def test_bad_arguments():
    model, (X, _) = digits_model()
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'int8', got 'float16'"):
        to_c(model, dtype="float16")
    with pytest.raises(NotFittedError):
        to_c(MLPClassifier())
    with pytest.raises(TypeError, match="must be an MLPClassifier"):
        to_c(StandardScaler())
    with pytest.raises(TypeError, match="only the last step"):
        to_c(make_pipeline(StandardScaler(), MLPClassifier()).fit(X[:20], np.arange(20) % 2))
    for rows in (X[:0], X[0], np.full((3, 64), "a"), X[:, :3]):
        with pytest.raises(ValueError, match=r"rows must be numbers of shape \(n_rows, 64\)"):
            to_c(model, X=rows)
    with pytest.raises(ValueError, match="rows must be finite"):
        to_c(model, X=np.full((3, 64), np.nan))
    with pytest.raises(ValueError, match="rows of a table must be a DataFrame or a list of dicts"):
        to_c(table_case().model, X=[[1, 2]])


def test_random_rows_are_not_drawn_from_the_global_state():
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    to_c(digits_model()[0])
    assert (np.random.get_state()[1] == state).all()


# ------------------------------------------------------------------------------------- Cortex-M4


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_cortex_m4(dtype, tmp_path):
    """It links, and where it can be emulated, passes its self-test."""
    tool("arm-none-eabi-gcc")
    model, (X, _) = digits_model()
    for name, case in (("digits", model), ("table", table_case(dtype).model)):
        (tmp_path / f"{name}.h").write_text(to_c(case, name=name, dtype=dtype))
        program = tmp_path / f"{name}.elf"
        (tmp_path / "main.c").write_text(f'#include "{name}.h"\n')
        main = ["arm-none-eabi-gcc", *ARM, *WARNINGS, f"-D{name.upper()}_MAIN"]
        subprocess.run([*main, "main.c", "-lm", "-o", program], cwd=tmp_path, check=True)
        # Ends by a system call of Linux, which qemu-arm emulates, with the number of failures.
        (tmp_path / "start.c").write_text(
            f'#define {name.upper()}_SELF_TEST\n#include "{name}.h"\n'
            "__attribute__((used)) void _start(void);\n"
            "__attribute__((used)) void _start(void)\n{\n"
            f'    register int status __asm__("r0") = {name}_self_test() + 40;\n'
            '    register int number __asm__("r7") = 1;\n'
            '    __asm__ volatile("svc 0" : : "r"(status), "r"(number));\n}\n'
        )
        flags = [flag for flag in WARNINGS if flag != "-pedantic"]
        start = ["arm-none-eabi-gcc", *ARM, *flags, "-nostartfiles", "start.c", "-lm"]
        subprocess.run([*start, "-o", program], cwd=tmp_path, check=True)
        if which("qemu-arm"):
            run = subprocess.run(["qemu-arm", "-cpu", "cortex-a15", program], check=False)
            assert run.returncode == 40


@pytest.mark.slow
def test_the_benchmark():
    for name in ("arm-none-eabi-gcc", "gcc", "clang"):
        tool(name)
    command = [sys.executable, str(ROOT / "benchmarks/export_c_size.py")]
    found = subprocess.check_output(command, text=True, timeout=600)
    assert len(re.findall(r"^\| \d+-\d+-10 \| (float32|int8) \|", found, re.M)) == 8
