"""``fastmlp train`` on a table."""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fastmlp import backends
from fastmlp.cli import tables
from fastmlp.cli.output import (
    backend_in_words,
    network_in_words,
    note,
    noting_warnings,
    print_json,
    units_of,
)
from fastmlp.cli.pictures import save_pictures
from fastmlp.cli.train_large import LargeTable, fit_on_all_rows, larger_than
from fastmlp.cli.train_output import Outputs, fit_as_json
from fastmlp.cli.usage import INTERRUPTED

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_SEED = 0


def train_table(
    data: str,
    target: str | None,
    task: str | None,
    parameters: Mapping[str, Any],
    outputs: Outputs,
    max_memory: str | None = None,
) -> None:
    """Train on a table, score the held-out rows, save and report.

    Parameters
    ----------
    data : str
        A file, or "-" for standard input.
    target, task : str, optional
        The options' values.
    parameters : mapping
        Parameters of the estimator that were given.
    outputs : Outputs
    max_memory : str, optional
        A table that takes too much of it is read in batches.
    """
    import fastmlp
    from fastmlp.report import write_report
    from fastmlp.tables import make_table_pipeline

    seed = parameters.get("random_state", _SEED)
    with noting_warnings():
        table = _table(data, target, task, seed, max_memory, outputs)
    if not outputs.as_json:
        table.print_columns()
    options = {"random_state": seed, **parameters}
    is_large = isinstance(table, LargeTable)
    if is_large:
        options["n_estimators"] = 1  # an ensemble's fit takes no batches
    if table.has_single_row_of_class:  # which cannot be split again
        options.setdefault("early_stopping", False)
    pipeline = make_table_pipeline(table.task, n_rows=table.n_train, **options)
    unfitted, n_networks = _template(pipeline)
    if outputs.checkpoint is not None and n_networks > 1:
        raise ValueError(
            f"--checkpoint is for one network, but {n_networks} are trained on {len(table.X)} "
            "rows: omit it; each of them takes seconds."
        )
    # Early stopping has its own validation rows; with several networks, no curve is the model's.
    draws_test = outputs.has_curves and not unfitted.early_stopping and n_networks == 1
    draws_test &= not is_large  # the network has more labels than the sample
    draws_test &= table.task == "regression" or set(table.y_test) <= set(table.y)
    val_name = "test" if draws_test else "validation"
    with noting_warnings():
        seconds, interrupted = _fit(pipeline, table, draws_test, outputs)
    found = _networks(pipeline)
    if interrupted and not (found and found[0].n_iter_):
        note("no epoch was finished, so nothing is saved.")
        raise typer.Exit(INTERRUPTED)
    model = found[0]
    if outputs.model_file is not None:  # first, so that another Ctrl-C does not prevent it
        fastmlp.save(pipeline, outputs.model_file, metadata=table.metadata(pipeline))
    scores = tables.metrics(pipeline, table.X_test, table.y_test, table.y)
    if outputs.model_file is not None:
        about = {**table.metadata(pipeline), "card": table.card(tables.metrics_as_json(scores))}
        fastmlp.save(pipeline, outputs.model_file, metadata=about)
    written = [] if outputs.plots is None else _draw(pipeline, table, outputs.plots, val_name)
    if outputs.report is not None:
        facts = {
            "file": table.name,
            "rows": table.rows_in_words,
            "target": f"{table.target} ({table.why_target})",
        }
        write_report(
            outputs.report,
            pipeline,
            table.X_test,
            table.y_test,
            X_train=table.X,
            y_train=table.y,
            title=f"{table.target} of {Path(table.name).name}",
            data_about=facts,
            val_name=val_name,
        )
    backend = backends.resolve(model.backend)
    if outputs.as_json:
        print_json(
            {
                "data set": table.name,
                "target": table.target,
                "task": table.task,
                "columns": tables.columns_as_json(table.columns),
                "training samples": table.n_train,
                "test samples": len(table.X_test),
                "network": units_of(model),
                "networks": len(found),
                "activation": model.activation,
                "solver": model.solver,
                **fit_as_json(model, backend, interrupted),
                "test scores": tables.metrics_as_json(scores),
                "training time": seconds,
                **outputs.as_entries(written),
            }
        )
        raise typer.Exit(INTERRUPTED if interrupted else 0)
    tables.print_metrics(scores, f"{len(table.X_test):,} rows held out")
    tables.print_summary(
        {
            "network": network_in_words(pipeline),
            "backend": backend_in_words(backend),
            "epochs": _epochs_in_words(found),
            "training time": f"{seconds:.2f} s",
            **outputs.in_words(written),
        }
    )
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if outputs.model_file is not None and data != "-":
        tables.what_next(_next_commands(data, target, outputs, max_memory if is_large else None))


def _table(
    data: str,
    target: str | None,
    task: str | None,
    seed: int,
    max_memory: str | None,
    outputs: Outputs,
) -> tables.TrainingTable:
    """Read a table, or a sample of one that takes too much memory."""
    large = None if max_memory is None else larger_than(max_memory, data)
    if large is None or max_memory is None:
        return tables.TrainingTable(data, target, task, seed)
    return LargeTable(
        large, data, target, task, seed, max_memory, shows_progress=outputs.shows_epochs
    )


def _next_commands(
    data: str, target: str | None, outputs: Outputs, max_memory: str | None
) -> dict[str, str]:
    """Return commands that use the model, and what each gives.

    Of a table that is read in parts, for which there is `max_memory`, none that reads all of it.
    """
    name, saved = shlex.quote(data), shlex.quote(str(outputs.model_file))
    whole = {
        f"fastmlp predict {saved} {name}": "one prediction per row, for any such file",
        f"fastmlp evaluate {saved} --data {name}": "scores; use new rows",
    }
    commands = {
        **({} if max_memory else whole),
        f"fastmlp serve {saved} --open": "a form in the browser, and an HTTP API",
    }
    if outputs.report is None:
        chosen = f" --target {shlex.quote(target)}" if target else ""
        chosen += f" --max-memory {shlex.quote(max_memory)}" if max_memory else ""
        command = f"fastmlp train --data {name}{chosen} --report report.html"
        commands[command] = "a page about the model and its mistakes"
    elif not max_memory:
        commands[f"fastmlp predict {saved} {name} --keep --out predicted.csv"] = "into a file"
    return commands


def _fit(
    pipeline: "Pipeline",
    table: tables.TrainingTable,
    scores_test: bool,
    outputs: Outputs,
) -> tuple[float, bool]:
    """Fit a pipeline with progress; return the seconds, and whether Ctrl-C was pressed."""
    if isinstance(table, LargeTable):
        return fit_on_all_rows(pipeline, table, outputs)
    from fastmlp.cli.epoch_display import EpochDisplay
    from fastmlp.training import observing

    model = pipeline[-1]
    network, n_networks = _template(pipeline)
    val_name = "test" if scores_test else "validation"
    display = EpochDisplay(
        network.max_iter,
        outputs.shows_epochs,
        lines=False,
        log=outputs.epoch_log,
        val_name=val_name,
        n_networks=n_networks,
    )
    with display:
        started = time.perf_counter()
        try:
            X = pipeline[:-1].fit_transform(table.X, table.y)
            with observing(display):
                options: dict[str, Any] = {}
                if scores_test:
                    options["X_val"] = pipeline[:-1].transform(table.X_test)
                    options["y_val"] = table.y_test
                if outputs.checkpoint is not None:
                    options["checkpoint"] = outputs.checkpoint
                if n_networks > 1:  # one after another, as the display shows them
                    model.set_params(n_jobs=1)
                model.fit(X, table.y, **options)
            if n_networks > 1:
                model.set_params(n_jobs=None)
                # Between two networks, Ctrl-C is none of the display's.
                display.interrupted |= len(model.estimators_) < n_networks
                if display.interrupted:
                    _keep_finished(model)
        except KeyboardInterrupt:  # not during training, which keeps its weights
            display.interrupted = True
    return time.perf_counter() - started, display.interrupted


def _template(pipeline: "Pipeline") -> tuple[Any, int]:
    """Return the network of an unfitted pipeline, and the number of networks."""
    last = pipeline[-1]
    return getattr(last, "estimator", last), getattr(last, "n_estimators", 1)


def _networks(pipeline: "Pipeline") -> list[Any]:
    """Return the fitted networks of a pipeline; empty if it was interrupted before."""
    from sklearn.exceptions import NotFittedError

    from fastmlp.report.analysis import networks

    try:
        return networks(pipeline)
    except NotFittedError:
        return []


def _keep_finished(ensemble: Any) -> None:
    """Keep the networks of an ensemble that were fully trained before the interrupt."""
    most = max(network.n_iter_ for network in ensemble.estimators_)
    ensemble.estimators_ = [n for n in ensemble.estimators_ if n.n_iter_ == most]


def _epochs_in_words(found: Sequence[Any]) -> str:
    model = found[0]
    words = f"{model.n_iter_} of {model.max_iter}"
    if len(found) > 1:
        return words + " for each"
    if model.early_stopping and model.validation_scores_:
        best = model.validation_scores_.index(model.best_validation_score_) + 1
        words += f", the weights of epoch {best} are kept"
    return words


def _draw(
    pipeline: "Pipeline", table: tables.TrainingTable, folder: Path, val_name: str
) -> list[Path]:
    """Draw the loss curve, and predicted against true targets."""
    from sklearn.metrics import PredictionErrorDisplay

    from fastmlp.displays import ConfusionDisplay, LossCurveDisplay

    test = pipeline, table.X_test, table.y_test
    drawings: dict[str, Callable[..., Any]] = {  # the curve of an ensemble is its first network's
        "loss_curve": partial(
            LossCurveDisplay.from_estimator, _networks(pipeline)[0], val_name=val_name
        )
    }
    if table.task == "classification":
        drawings["confusion"] = partial(ConfusionDisplay.from_estimator, *test)
    else:

        def draw(ax: Any) -> Any:
            display = PredictionErrorDisplay.from_estimator(
                *test, kind="actual_vs_predicted", ax=ax, random_state=0
            )
            r2 = pipeline.score(table.X_test, table.y_test)
            display.ax_.set_title(f"R² {r2:.3f} on {len(table.y_test)} rows", fontsize=10)
            display.figsize_ = (5.0, 5.0)
            return display

        drawings["predicted_against_true"] = draw
    folder.mkdir(parents=True, exist_ok=True)
    return save_pictures({folder / f"{name}.png": draw for name, draw in drawings.items()})
