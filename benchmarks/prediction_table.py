"""The time of a prediction compared with scikit-learn, for every type and size of the input.

    python benchmarks/prediction_table.py [--quick] [--json FILE]

Both models have the same weights, take turns, and must give the same probabilities. Before every
turn there is a pause, because the threads of the other library's last call still spin on the
processors for a while; all of it takes some ten minutes. A line per network and form, a column per
number of rows: our time, and as a share of scikit-learn's, medians of some turns. Then 64-50-10
beside onnxruntime, where it and onnx are installed, with as many threads as we have; and a row of a
text pipeline. Ctrl-C ends it.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.pipeline import make_pipeline

import fastmlp
from fastmlp import backends
from fastmlp.utils.threads import usable_threads

NETWORKS = [(784, 50, 10), (784, 1024, 1024, 10)]
ROWS = [1, 2, 8, 16, 17, 32, 100, 300, 1000, 10_000]
TURNS = 5
PAUSE = 0.25  # seconds

#: Form of the input -> the dtype of the weights, and what makes it of an array.
FORMS = {
    "float64": ("float64", lambda X: X),
    "float32 throughout": ("float32", lambda X: X.astype("float32")),
    "float32 on float64": ("float64", lambda X: X.astype("float32")),
    "float64 on float32": ("float32", lambda X: X),
    "int64": ("float64", lambda X: (10 * X).astype("int64")),
    "list": ("float64", lambda X: X.tolist()),
    "frame": ("float64", pd.DataFrame),
    "81 % zeros": ("float64", lambda X: X * (np.abs(X) > 1.31)),
    "CSR, 5 % stored": ("float64", lambda X: sp.csr_matrix(X * (np.abs(X) > 1.96))),
}


def ours_of(model):
    return getattr(fastmlp, type(model).__name__).from_sklearn(model)


def fitted(units, dtype, names=False):
    """Return scikit-learn's model of so many units, and ours with the same weights."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((4 * units[-1], units[0])).astype(dtype)
    y = np.arange(len(X)) % units[-1]
    with warnings.catch_warnings(action="ignore"):
        model = Theirs(units[1:-1], max_iter=1, random_state=0)
        model.fit(pd.DataFrame(X).rename(columns=str) if names else X, y)
    return ours_of(model), model


def medians(actions):
    """Return the median time of each action, in seconds, taking turns."""
    times = [[] for _ in actions]
    for action in actions:
        action()
    for _ in range(TURNS):
        for action, of in zip(actions, times, strict=True):
            time.sleep(PAUSE)
            action()
            start, n = time.perf_counter(), 0
            while n == 0 or time.perf_counter() < start + 0.01:
                action()
                n += 1
            of.append((time.perf_counter() - start) / n)
    return [float(np.median(of)) for of in times]


def compared(ours, theirs, X):
    """Return our time and scikit-learn's for the probabilities of X, which must agree."""
    exact = {"rtol": 1e-9, "atol": 1e-12}
    expected = theirs.predict_proba(X)
    limits = exact if expected.dtype == np.float64 else {"rtol": 1e-3, "atol": 1e-5}
    np.testing.assert_allclose(ours.predict_proba(X), expected, **limits)
    return medians([lambda: ours.predict_proba(X), lambda: theirs.predict_proba(X)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few sizes: shows that it works")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    rows = [1, 17, 300] if options.quick else ROWS
    isa = backends.get("cython").ISA
    print(f"{isa}, {usable_threads()} threads; our time (share of scikit-learn's)\n", flush=True)
    print("| network | input |", *(f" {n} |" for n in rows))
    print("|---|---|", *("---|" for _ in rows), sep="")
    found = {"isa": isa, "threads": usable_threads(), "seconds": []}
    slowest = 0.0
    for units in NETWORKS:
        for form, (dtype, convert) in FORMS.items():
            ours, theirs = fitted(units, dtype, names=form == "frame")
            print(f"| {'-'.join(map(str, units))} | {form} |", end="", flush=True)
            for n in rows:
                X = convert(np.random.RandomState(n).standard_normal((n, units[0])))
                X = X.rename(columns=str) if form == "frame" else X
                mine, others = compared(ours, theirs, X)
                slowest = max(slowest, mine / others)
                found["seconds"].append([units, form, n, mine, others])
                print(f" {1e3 * mine:.3g} ms ({mine / others:.2f}) |", end="", flush=True)
            print()
    print(f"\nthe largest share: {slowest:.2f}")
    found["text"] = text_row(options.quick)
    found["onnxruntime"] = beside_onnxruntime(rows)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def text_row(quick):
    """Print what a row of a text pipeline costs."""
    texts = [f"word{i} and word{i + 1} or some text {i * i}" for i in range(40)]
    figures = []
    for bits in (16,) if quick else (16, 18, 20):
        vectorizer = HashingVectorizer(n_features=2**bits)
        theirs = Theirs((50,), max_iter=1, random_state=0)
        with warnings.catch_warnings(action="ignore"):
            theirs.fit(vectorizer.transform(texts), np.arange(40) % 2)
        pipelines = [make_pipeline(vectorizer, model) for model in (ours_of(theirs), theirs)]
        mine, others = compared(*pipelines, texts[:1])
        figures.append([bits, mine, others])
        print(f"text, 2^{bits} features: {1e3 * mine:.3g} ms ({mine / others:.2f})", flush=True)
    return figures


def beside_onnxruntime(rows):
    """Print the time for 64-50-10 as a share of onnxruntime's, if it is installed."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        print(f"onnxruntime: left out ({error})")
        return None
    figures = []
    for threads in sorted({1, usable_threads()}):
        for dtype in ("float32", "float64"):
            ours, _ = fitted((64, 50, 10), dtype)
            ours.set_params(n_threads=threads)
            names = "WbVc"
            arrays = [ours.coefs_[0], ours.intercepts_[0], ours.coefs_[1], ours.intercepts_[1]]
            nodes = [
                helper.make_node("Gemm", ["X", "W", "b"], ["Z"]),
                helper.make_node("Relu", ["Z"], ["A"]),
                helper.make_node("Gemm", ["A", "V", "c"], ["T"]),
                helper.make_node("Softmax", ["T"], ["P"], axis=1),
            ]
            kind = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[dtype]
            graph = helper.make_graph(
                nodes,
                "mlp",
                [helper.make_tensor_value_info("X", kind, [None, 64])],
                [helper.make_tensor_value_info("P", kind, [None, 10])],
                [
                    numpy_helper.from_array(np.ascontiguousarray(a), n)
                    for a, n in zip(arrays, names, strict=True)
                ],
            )
            opset = [helper.make_opsetid("", 17)]
            model = helper.make_model(graph, opset_imports=opset, ir_version=9)
            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = threads
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
            )
            for n in rows:
                X = np.random.RandomState(n).standard_normal((n, 64)).astype(dtype)
                other = lambda X=X, session=session: session.run(None, {"X": X})[0]  # noqa: E731
                np.testing.assert_allclose(ours.predict_proba(X), other(), rtol=1e-3, atol=1e-5)
                mine, others = medians([lambda X=X, ours=ours: ours.predict_proba(X), other])
                figures.append([threads, dtype, n, mine, others])
            mine, others = figures[-1][-2:]
            print(
                f"onnxruntime, 64-50-10, {rows[-1]} rows, {dtype}, {threads} threads: "
                f"{1e3 * mine:.3g} ms ({mine / others:.2f})",
                flush=True,
            )
    return figures


if __name__ == "__main__":
    main()
