"""``fastmlp evaluate``: the score of a saved model on a data set."""

import time
from pathlib import Path
from typing import Annotated, Any

from fastmlp import backends
from fastmlp.cli import image_data, tables
from fastmlp.cli.models import (
    averaged_over_copies,
    check_features,
    is_pipeline,
    load_model,
    own_size,
    scored_rows,
)
from fastmlp.cli.options import DATA, Backend, Copies, DataHome, Json, ModelFile, Quiet, Threads
from fastmlp.cli.output import (
    backend_in_words,
    instruction_set,
    network_in_words,
    noting_warnings,
    print_facts,
    print_json,
    score_in_words,
    units_of,
)


def evaluate(
    model_file: ModelFile,
    data: Annotated[str, DATA] = "mnist",
    data_home: DataHome = None,
    backend: Backend = None,
    copies: Copies = 0,
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a saved model on a data set.

    Any data set with the same number of features can be used.

    For example:

        fastmlp evaluate model.npz --data mnist
        fastmlp evaluate model.npz --data folder/of/idx/files
        fastmlp evaluate best.npz --copies 32
    """
    from fastmlp.report.analysis import networks

    model = load_model(model_file, backend, threads)
    averaged = averaged_over_copies(model, copies, model_file)
    if is_pipeline(model):
        _evaluate_table(model, model_file, data, as_json)
        return
    loaded = image_data.load(data, data_home, own_size(model, data))
    train_part, (X_test, y_test) = loaded.train, loaded.test
    check_features(model_file, model, data, X_test)
    image_data.note_strangers(model, data, X_test, y_test)
    with noting_warnings():
        started = time.perf_counter()
        n_errors = _n_errors(model, X_test, y_test)
        seconds = time.perf_counter() - started
        train_score = model.score(*train_part)
        n_averaged = None if averaged is model else _n_errors(averaged, X_test, y_test)
    n_test = len(y_test)
    found = networks(model)
    network = found[0]
    if as_json:
        name = backends.resolve(network.backend)
        print_json(
            {
                "data set": data,
                "network": units_of(network),
                "networks": len(found),
                "activation": network.activation,
                "backend": name,
                "instruction set": instruction_set(name),
                "train score": train_score,
                "test score": 1 - n_errors / n_test,
                "test errors": n_errors,
                "test samples": n_test,
                "test time": seconds,
                "averaged score": None if n_averaged is None else 1 - n_averaged / n_test,
                "averaged errors": n_averaged,
                "copies": copies,
            }
        )
        return
    facts = {
        "data set": data,
        "network": network_in_words(model),
        "backend": backend_in_words(network.backend),
        "train score": score_in_words(train_score),
        "test score": score_in_words(1 - n_errors / n_test),
        "test errors": f"{n_errors} of {n_test}",
        "test time": f"{seconds:.3f} s",
    }
    if n_averaged is not None:
        words = score_in_words(1 - n_averaged / n_test)
        facts["averaged score"] = f"{words}, {n_averaged} errors, over {copies} copies of each"
    print_facts(facts)


def _n_errors(model: Any, X: Any, y: Any) -> int:
    """Return the number of samples that are predicted wrongly."""
    from sklearn.metrics import accuracy_score

    return len(y) - int(accuracy_score(y, model.predict(X), normalize=False))


def _evaluate_table(pipeline: Any, model_file: Path, data: str, as_json: bool) -> None:
    """Score a pipeline on a table with the target column."""
    X, y = scored_rows(pipeline, model_file, data)
    with noting_warnings():
        started = time.perf_counter()
        pipeline.predict(X)
        seconds = time.perf_counter() - started
        scores = tables.metrics(pipeline, X, y)
    if as_json:
        print_json(
            {
                "data set": tables.name_of(data),
                "target": tables.target_of(pipeline),
                "test samples": len(X),
                "test scores": tables.metrics_as_json(scores),
                "test time": seconds,
            }
        )
        return
    tables.print_metrics(scores, f"{len(X):,} rows of {tables.name_of(data)}")
