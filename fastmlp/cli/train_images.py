"""``fastmlp train`` on images."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fastmlp import backends
from fastmlp.cli import image_data
from fastmlp.cli.models import averaged_over_copies
from fastmlp.cli.output import (
    backend_in_words,
    network_in_words,
    note,
    noting_warnings,
    print_facts,
    print_json,
    score_in_words,
    units_of,
)
from fastmlp.cli.pictures import no_images, save_pictures
from fastmlp.cli.tables import file_digest
from fastmlp.cli.train_output import Outputs, fit_as_json
from fastmlp.cli.usage import INTERRUPTED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmlp.estimators import MLPClassifier
    from fastmlp.recipes import Recipe

#: Images of a memory map among which a report looks for the nearest ones.
_NEIGHBOURS = 5000


def train_images(
    chosen: "Recipe",
    data: str | None,
    *,
    data_home: Path | None,
    size: tuple[int, int] | None,
    given: Mapping[str, Any],
    input_scale: Any,
    augment: bool,
    is_default: bool,
    engine: Mapping[str, Any],
    outputs: Outputs,
    max_memory: str | None = None,
) -> None:
    """Train a recipe on images, score, save, plot and report.

    Parameters
    ----------
    chosen : Recipe
    data : str, optional
        Replaces the recipe's.
    data_home, size
        See `fastmlp.cli.image_data.load`.
    given : mapping
        Parameters of the estimator, None for those that were not given.
    input_scale : str, float or None
        The option's value.
    augment : bool
    is_default : bool
        Whether the recipe is the default; then the digits may replace its data.
    engine : mapping
        The estimator's backend and n_threads, None if they were not given.
    outputs : Outputs
    max_memory : str, optional
        See `fastmlp.cli.image_data.load`.
    """
    import numpy as np

    from fastmlp import persistence
    from fastmlp.cards import record
    from fastmlp.cli.epoch_display import EpochDisplay
    from fastmlp.estimators import MLPClassifier
    from fastmlp.report import write_report
    from fastmlp.training import observing

    backend, threads = engine["backend"] or "auto", engine["n_threads"]
    backend_name = backends.resolve(backend)
    name, loaded = _load(
        *(data or chosen.dataset, data_home, size, max_memory), may_replace=is_default and not data
    )
    (X, y), (X_test, y_test), shape = loaded.train, loaded.test, loaded.shape
    if (augment or chosen.is_augmented) and shape is None:
        raise ValueError(
            f"{name} must hold images to be augmented, got a file without rows and columns: omit "
            "--augment, or choose another recipe."
        )
    is_square = shape is None or shape[0] == shape[1]
    own = chosen.estimator_parameters(augment, None if is_square else shape)
    parameters = _parameters(own, given)
    parameters["input_scale"] = _input_scale(input_scale, chosen, name, X)
    model = MLPClassifier(**parameters, backend=backend, n_threads=threads)

    is_part = chosen.n_samples is not None and chosen.n_samples < len(X)
    if loaded.file is not None and (is_part or chosen.validation):
        raise ValueError(
            f"--recipe {chosen.name} holds out images, which needs all of {name} in memory: choose "
            "another recipe, or pass a larger --max-memory."
        )
    (X, y), validation = chosen.split(X, y, parameters["random_state"])
    X_val, y_val = validation or (None, None)
    draws_test = outputs.has_curves and validation is None and not model.early_stopping
    draws_test &= set(np.unique(y_test).tolist()) <= set(np.unique(y).tolist())
    val_name = "test" if draws_test else "validation"
    if draws_test:  # for the curve only; early stopping would select by it
        X_val, y_val = X_test, y_test
    aside = f", {len(validation[0])} validation samples" if validation is not None else ""
    if augment and chosen.augmented:
        changed = (key for key in chosen.augmented if given.get(key) is None)
        note(f"with --augment, {chosen.name} uses other values for {', '.join(changed)}.")
    if not outputs.as_json:
        typer.echo(f"{name}: {len(X)} training samples{aside}, {len(X_test)} test samples")
    first = backends.NAMES[0]
    if engine["backend"] is None and backend_name not in (first, "numpy"):  # which has a warning
        note(f"the {first} backend is not available: {backends.unavailable()[first]}.")
    display = EpochDisplay(
        model.max_iter,
        outputs.shows_epochs,
        log=outputs.epoch_log,
        val_name=val_name,
        training_score=validation is not None,
    )
    with noting_warnings(), display, observing(display):
        started = time.perf_counter()
        try:
            model.fit(
                *(X, y),
                X_val=X_val,
                y_val=y_val,
                checkpoint=outputs.checkpoint,
                max_memory=max_memory,
            )
        except KeyboardInterrupt:  # not during training, which keeps its weights
            display.interrupted = True
        seconds = time.perf_counter() - started
    interrupted = display.interrupted
    if interrupted and not getattr(model, "n_iter_", 0):
        note("no epoch was finished, so nothing is saved.")
        raise typer.Exit(INTERRUPTED)
    if outputs.model_file is not None:  # first, so that another Ctrl-C does not prevent it
        about = image_data.metadata(name, loaded)
        persistence.save(model, outputs.model_file, metadata=about)

    parts = {"train": (X, y), "validation": validation, "test": (X_test, y_test)}
    accuracies = {
        part: None if xy is None else image_data.accuracy(model, *xy) for part, xy in parts.items()
    }
    n_copies = 0 if model.augment is None else chosen.n_copies  # L-BFGS augments nothing
    averaged = averaged_over_copies(model, n_copies)
    copies = f"{n_copies} augmented copies of each"
    averaged_score = None
    if averaged is not model:
        averaged_score = image_data.accuracy(averaged, X_test, y_test)
    if outputs.model_file is not None:
        recorded = {
            f"accuracy on {len(parts[part][1])} {part} images": score  # type: ignore[index]
            for part, score in accuracies.items()
            if score is not None
        }
        if averaged_score is not None:
            of_copies = f"accuracy on {len(X_test)} test images, averaged over {copies}"
            recorded[of_copies] = averaged_score
        about["card"] = record(
            *(X, y),
            name=name,
            sha256=None if loaded.file is None else file_digest(loaded.file),
            scores=recorded,
        )
        persistence.save(model, outputs.model_file, metadata=about)
    scores = {
        part: score_in_words(score) for part, score in accuracies.items() if score is not None
    }
    if averaged_score is not None:
        scores["averaged"] = score_in_words(averaged_score)
    published = {}
    if name == chosen.dataset and parameters == own and not augment and not interrupted:
        figures = {"train": chosen.train_score}
        best = "test" if averaged_score is None else "averaged"
        figures[best if validation is None else "validation"] = chosen.published
        published = {part: figure for part, figure in figures.items() if figure is not None}
        for part, figure in published.items():
            scores[part] += f" (published: {score_in_words(figure)})"
    if averaged_score is not None:
        scores["averaged"] += f", over {copies} image"
    drawn = []
    if outputs.plots is not None:
        drawn = _draw_training(model, name, loaded, outputs.plots, val_name)
    if outputs.report is not None:
        step = 1 if loaded.file is None else -(-len(X) // _NEIGHBOURS)
        write_report(
            outputs.report,
            model,
            X_test,
            y_test,
            X_train=X[::step],
            y_train=y[::step],
            image_shape=shape,
            title=f"{name}, {'-'.join(map(str, units_of(model)))}",
            data_about={"data set": name},
            val_name=val_name,
        )
    samples = {part: 0 if xy is None else len(xy[0]) for part, xy in parts.items()}
    speed = samples["train"] * (model.n_iter_ - display.n_before) / seconds
    if outputs.as_json:
        print_json(
            {
                "data set": name,
                "recipe": chosen.name,
                "training samples": samples["train"],
                "validation samples": samples["validation"],
                "test samples": samples["test"],
                **_run_as_json(model, backend_name, interrupted),
                **{f"{part} score": score for part, score in accuracies.items()},
                "averaged score": averaged_score,
                "published scores": published,
                "training time": seconds,
                "samples per second": speed,
                **outputs.as_entries(drawn),
            }
        )
    else:
        typer.echo()
        print_facts(
            {
                "data set": name,
                **_run_in_words(model, backend_name),
                **{f"{part} score": score for part, score in scores.items()},
                "training time": f"{seconds:.2f} s, {speed:,.0f} samples/s",
                **outputs.in_words(drawn),
            }
        )
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _load(
    name: str,
    data_home: Path | None,
    size: tuple[int, int] | None,
    max_memory: str | None,
    *,
    may_replace: bool,
) -> tuple[str, image_data.ImageData]:
    """Return a data set and its name; with `may_replace`, the digits if it cannot be had."""
    from fastmlp import datasets

    try:
        loaded = image_data.load(name, data_home, size, max_memory)
        image_data.check_classes(name, loaded)
    except datasets.DatasetError as error:
        if data_home or not may_replace or isinstance(error, datasets.SpoiledFileError):
            raise
        note(f"{name} is not available ('fastmlp data fetch {name}' says why); using the digits.")
        name = "digits"
        loaded = image_data.load(name)
    return name, loaded


def _parameters(own: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's parameters, and in their place those that were given."""
    from fastmlp.estimators import hints

    parameters = dict(own)
    if given["solver"] not in (None, parameters["solver"]):
        # A good rate for SGD is far too high for Adam. What the solver ignores is omitted.
        without_effect = hints.WITHOUT_EFFECT[given["solver"]]
        for parameter in ("learning_rate_init", "lr_schedule", *without_effect):
            parameters.pop(parameter, None)
    if given["learning_rate_init"] is not None:
        parameters.pop("lr_schedule", None)
    return parameters | {key: value for key, value in given.items() if value is not None}


def _input_scale(wanted: Any, recipe: "Recipe", data: str, X: "NDArray") -> Any:
    """Return the estimator's `input_scale`; a recipe's number is for the recipe's data only."""
    if wanted is None:
        own = recipe.parameters["input_scale"]
        wanted = own if data == recipe.dataset or own == "standard" else "auto"
    if wanted == "auto":
        return 1 / image_data.largest(X)
    return None if wanted == "none" else wanted


def _draw_training(
    model: "MLPClassifier",
    data: str,
    loaded: image_data.ImageData,
    folder: Path,
    val_name: str,
) -> list[Path]:
    """Draw weights, loss curve and mistakes; return the written files."""
    from fastmlp.displays import (
        ConfusionDisplay,
        LossCurveDisplay,
        MistakesDisplay,
        WeightsDisplay,
    )

    drawings: dict[str, Callable[..., Any]] = {
        "loss_curve": partial(LossCurveDisplay.from_estimator, model, val_name=val_name),
        "confusion": partial(ConfusionDisplay.from_estimator, model, *loaded.test),
    }
    shape = loaded.shape
    if shape is None:
        note(f"no weights.png and mistakes.png: {no_images(data)}")
    else:
        drawings |= {
            "weights": partial(WeightsDisplay.from_estimator, model, shape=shape),
            "mistakes": partial(MistakesDisplay.from_estimator, model, *loaded.test, shape=shape),
        }
    folder.mkdir(parents=True, exist_ok=True)
    return save_pictures({folder / f"{name}.png": draw for name, draw in drawings.items()})


def _run_as_json(model: "MLPClassifier", backend_name: str, interrupted: bool) -> dict[str, Any]:
    """Return how a model was trained, for --json."""
    rates = None if model.solver == "lbfgs" else model.history_["learning_rate"]
    return {
        "network": units_of(model),
        "activation": model.activation,
        "solver": model.solver,
        "learning rate": None if rates is None else rates[0],
        "final learning rate": None if rates is None else rates[-1],
        "dropout": _dropout_rates(model),
        "augmentation": _augmentations(model),
        **fit_as_json(model, backend_name, interrupted),
    }


def _run_in_words(model: "MLPClassifier", backend_name: str) -> dict[str, str]:
    """Return how a model was trained, in words."""
    from fastmlp.utils.threads import usable_threads

    ends_early = model.lr_schedule is None  # a schedule ends with the last epoch
    unsettled = (
        ", the loss had not settled" if ends_early and model.n_iter_ == model.max_iter else ""
    )
    return {
        "network": network_in_words(model),
        "solver": _solver_in_words(model),
        **_noise_in_words(model),
        "backend": backend_in_words(backend_name),
        "threads": str(model.n_threads or usable_threads()),
        "dtype": str(model.coefs_[0].dtype),
        "epochs": f"{model.n_iter_} of {model.max_iter}{unsettled}",
        "final loss": f"{model.loss_:.8f}",
    }


def _noise_in_words(model: "MLPClassifier") -> dict[str, str]:
    """Return dropout and augmentation in words."""
    rates, steps = _dropout_rates(model), _augmentations(model)
    words = {"dropout": ", ".join(f"{rate:g}" for rate in rates)} if any(rates) else {}
    if steps:
        words["augmentation"] = ", ".join(steps)
    return words


def _dropout_rates(model: "MLPClassifier") -> list[float]:
    """Return the dropout of the hidden layers: one for all, or one per layer."""
    dropout: Any = model.dropout
    return list(dropout) if isinstance(dropout, tuple) else [dropout]


def _augmentations(model: "MLPClassifier") -> list[str]:
    """Return the augmentation steps in words."""
    if model.augment is None:
        return []
    steps = getattr(model.augment, "steps", [model.augment])
    return [type(step).__name__ for step in steps]


def _solver_in_words(model: "MLPClassifier") -> str:
    if model.solver == "lbfgs":
        return model.solver
    if model.lr_schedule is None:
        return f"{model.solver}, learning rate {model.learning_rate_init:g}"
    rates = model.history_["learning_rate"]
    return f"{model.solver}, learning rate {rates[0]:g} to {rates[-1]:g}"
