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
    from sklearn.metrics import accuracy_score

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
        predictions = averaged.predict(X_test)
        seconds = time.perf_counter() - started
        n_errors = len(y_test) - int(accuracy_score(y_test, predictions, normalize=False))
        train_score = model.score(*train_part)  # of the network alone
    test_score = 1 - n_errors / len(y_test)
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
                "test score": test_score,
                "test errors": n_errors,
                "copies": copies,
                "test samples": len(y_test),
                "test time": seconds,
            }
        )
        return
    over = f", over {copies} copies of each image" if copies else ""
    print_facts(
        {
            "data set": data,
            "network": network_in_words(model),
            "backend": backend_in_words(network.backend),
            "train score": score_in_words(train_score),
            "test score": score_in_words(test_score),
            "test errors": f"{n_errors} of {len(y_test)}{over}",
            "test time": f"{seconds:.3f} s",
        }
    )


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
