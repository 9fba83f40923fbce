"""``fastmlp search``: find good parameters by cross-validation, and train with them."""

import shlex
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastmlp import backends, recipes
from fastmlp.cli import image_data, tables
from fastmlp.cli.options import (
    DATA,
    Backend,
    DataHome,
    Json,
    Quiet,
    Size,
    Target,
    Task,
    Threads,
    dropout_rates,
    hidden_units,
    number,
    whole,
)
from fastmlp.cli.output import network_in_words, note, noting_warnings, print_json, print_table
from fastmlp.cli.pictures import check_picture, save_picture
from fastmlp.cli.train_output import Outputs
from fastmlp.cli.usage import INTERRUPTED

if TYPE_CHECKING:
    from fastmlp.model_selection.standings import Candidate

_candidate_option = partial(typer.Option, rich_help_panel="Candidates (each may be repeated)")
_search_option = partial(typer.Option, rich_help_panel="Search")
_output_option = partial(typer.Option, rich_help_panel="Output")

_EPOCHS_OF_IMAGES = 20
_MOST_ROWS = 10  # of the table of candidates
_HALVING_FACTOR = 3

#: What is searched if no value is given: lists, and (lowest, highest) on a logarithmic scale.
_SPACES: dict[str, dict[str, Any]] = {
    "images": {
        "hidden_layer_sizes": [(50,), (100,), (200,), (100, 50), (200, 100)],
        "alpha": (1e-6, 1e-1),
        "learning_rate_init": (3e-4, 1e-2),
        "dropout": [0.0, 0.2, 0.4],
    },
    "table": {
        "hidden_layer_sizes": [(64,), (64, 64), (128, 128), (256, 128), (128, 128, 128)],
        "alpha": (1e-6, 1e-1),
        "learning_rate_init": (5e-4, 1e-2),
        "dropout": [0.0, 0.1, 0.2, 0.3],
    },
}


def search(
    data: Annotated[str | None, DATA] = None,
    target: Target = None,
    task: Task = None,
    data_home: DataHome = None,
    size: Size = None,
    hidden: Annotated[
        list[Any] | None,
        _candidate_option(
            parser=hidden_units,
            metavar="N[,N...]",
            help="Units of the hidden layers, such as --hidden 50 --hidden 100,50.",
        ),
    ] = None,
    alpha: Annotated[
        list[float] | None,
        _candidate_option(
            **number("of at least 0", lambda x: x >= 0), help="Strength of the L2 penalty."
        ),
    ] = None,
    learning_rate: Annotated[
        list[float] | None,
        _candidate_option(**number("above 0", lambda x: x > 0), help="Initial learning rate."),
    ] = None,
    batch_size: Annotated[
        list[int] | None, _candidate_option(**whole(1), help="Samples per update.")
    ] = None,
    dropout: Annotated[
        list[Any] | None,
        _candidate_option(
            parser=dropout_rates,
            metavar="P[,P...]",
            help="Probability of dropping a hidden unit.",
        ),
    ] = None,
    n_iter: Annotated[
        int,
        _search_option(
            **whole(1),
            help="Number of candidates, drawn at random if there are more combinations.",
        ),
    ] = 30,
    cv: Annotated[
        int, _search_option(**whole(2), help="Number of folds of the cross-validation.")
    ] = 5,
    halving: Annotated[
        bool,
        _search_option(
            "--halving",
            help="Train all candidates for a few epochs, and only the best third further, round by "
            "round.",
        ),
    ] = False,
    epochs: Annotated[
        int | None,
        _search_option(
            **whole(1),
            help="Maximum number of epochs. Default: 20 for images; up to 256 for tables, fewer if "
            "they are large.",
        ),
    ] = None,
    seed: Annotated[
        int,
        _search_option(
            **whole(0, 2**32 - 1),
            help="Seed of the candidates, the folds, the initial weights and the order.",
        ),
    ] = 0,
    backend: Backend = None,
    threads: Threads = None,
    out: Annotated[
        Path | None,
        _output_option(
            metavar="FILE",
            help="Where to save the best model. Default: best.npz, or best.skops for tables. An "
            "existing model is replaced, any other file is not.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        _output_option(
            metavar="FILE",
            help="Draw the scores over the parameters: .png, .svg or .pdf.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        _output_option(
            metavar="FILE",
            help="Write each score to this file. After Ctrl-C or a kill, the same command "
            "continues from it, with the same result.",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for good parameters, train with the best ones, score the model, and save it.

    Every candidate is scored by cross-validation on the training data: by its accuracy, or by R²
    for regression. The best one is trained on all of them and scored on the test data, which the
    search has not seen: those of the data set, or a fifth that is held out. Without --data, the
    images are MNIST.

    Without values of --hidden, --alpha, --learning-rate, --batch-size or --dropout, candidates are
    drawn at random: one to three hidden layers of 50 to 256 units, alpha from 1e-6 to 0.1, learning
    rates from 3e-4 to 0.01, dropout up to 0.4. With values, only these are tried: all combinations,
    or --n-iter of them.

    In the table, ± is the standard deviation over the folds, and seconds are those of all folds.
    Ctrl-C prints what is known so far; with --checkpoint, the same command continues from there.

    For example:

        fastmlp search --data digits
        fastmlp search --data houses.csv --n-iter 50
        fastmlp search --data digits --hidden 50 --hidden 99
        fastmlp search --data fashion --halving --cv 3
    """
    is_table = data is not None and tables.is_table(data)
    backends.resolve(backend or "auto")
    if out is None:
        out = Path("best.skops" if is_table else "best.npz")
    Outputs(
        out, None, None, draws_test=False, epoch_log=None, as_json=as_json, quiet=quiet,
        checkpoint=checkpoint,
    ).check()  # fmt: skip
    if plot is not None:
        check_picture(plot, "--plot")
    given = {
        "hidden_layer_sizes": hidden,
        "alpha": alpha,
        "learning_rate_init": learning_rate,
        "batch_size": batch_size,
        "dropout": [r[0] if len(r) == 1 else r for r in dropout] if dropout else None,
    }
    values = {name: list(dict.fromkeys(found)) for name, found in given.items() if found}
    engine = {"backend": backend, "n_threads": threads}
    fixed = {name: value for name, value in engine.items() if value is not None}
    if is_table:
        assert data is not None
        subject = _table(data, target, task, epochs, seed, cv, fixed, as_json)
    else:
        name = data or recipes.get(recipes.DEFAULT).dataset
        for option, value in {"--target": target, "--task": task}.items():
            if value is not None:
                raise ValueError(
                    f"{option} is for tables, but {name} is not one: omit it, or give a table with "
                    "--data."
                )
        subject = _images(name, data_home, size, epochs, seed, fixed, as_json)
    space = values or _SPACES[subject.kind]
    candidates = [
        {subject.prefix + name: value for name, value in candidate.items()}
        for candidate in _candidates(space, n_iter, seed)
    ]
    _check_folds(subject, cv)
    _check_dropout(values)
    found = _Search(subject, candidates, cv, seed, halving, checkpoint)
    interrupted = found.run(shows=not (quiet or as_json))
    if interrupted:
        if not as_json:
            found.print_table()
        note(found.interruption_in_words())
        raise typer.Exit(INTERRUPTED)
    best = found.search.best_estimator_
    with noting_warnings():
        subject.save(best, out)
        scores, print_scores = subject.score_test(best)
        subject.save(best, out, scores)
    if plot is not None:
        from fastmlp.displays import SearchDisplay

        save_picture(plot, partial(SearchDisplay.from_estimator, found.search))
    if as_json:
        files = {"model file": out, "picture": plot}
        print_json({**found.as_json(), "test scores": scores, **files})
        return
    found.print_table()
    if print_scores is not None:
        typer.echo()
        print_scores()
    words = {
        "best": _in_words(found.search.best_params_, subject),
        f"{subject.score_name} in {cv} folds": f"{found.search.best_score_:.4f}",
        **({} if print_scores else {f"test {k}": f"{v:.4f}" for k, v in scores.items()}),
        "network": network_in_words(best),
        "search time": found.time_in_words(),
        "model file": str(out),
    }
    if plot is not None:
        words["picture"] = str(plot)
    tables.print_summary(words)
    if data is not None and data != "-":
        tables.what_next(_next_commands(data, out, is_table))


def _next_commands(data: str, out: Path, is_table: bool) -> dict[str, str]:
    """Return commands that use the model, and what each gives."""
    name, saved = shlex.quote(data), shlex.quote(str(out))
    if is_table:
        return {
            f"fastmlp predict {saved} {name}": "one prediction per row, for any such file",
            f"fastmlp evaluate {saved} --data {name}": "scores; use new rows",
        }
    return {
        f"fastmlp evaluate {saved} --data {name}": "scores on training and test data",
        f"fastmlp confusions {saved} --data {name}": "which classes are confused",
    }


# ------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class _Subject:
    """What is searched on.

    Parameters
    ----------
    kind : {"images", "table"}
    name : str
        Of the data.
    estimator : estimator
        A network, or a pipeline that ends in one.
    prefix : str
        Of the network's parameters.
    X, y, X_test, y_test
    task : {"classification", "regression"}
    metadata : callable
        Returns what is saved with a model; of the model, and of its test scores if they are known.
    score_test : callable
        Returns the scores of a model on the test data by name, and what prints them if they are
        no numbers.
    """

    kind: str
    name: str
    estimator: Any
    prefix: str
    X: Any
    y: Any
    X_test: Any
    y_test: Any
    task: str
    metadata: Callable[[Any, dict[str, Any] | None], dict[str, Any]]
    score_test: Callable[[Any], tuple[dict[str, Any], Callable[[], None] | None]]

    @property
    def score_name(self) -> str:
        return "accuracy" if self.task == "classification" else "R²"

    def option(self, parameter: str) -> str:
        """Return the name of a parameter's option, in words."""
        name = parameter.removeprefix(self.prefix)
        known = {
            "hidden_layer_sizes": "hidden",
            "learning_rate_init": "learning rate",
            "max_iter": "epochs",
        }
        return known.get(name, name.replace("_", " "))

    def save(self, model: Any, out: Path, scores: dict[str, Any] | None = None) -> None:
        """Save a model, with its test scores if they are known."""
        import fastmlp

        fastmlp.save(model, out, metadata=self.metadata(model, scores))


def _images(
    name: str,
    data_home: Path | None,
    size: tuple[int, int] | None,
    epochs: int | None,
    seed: int,
    fixed: Mapping[str, Any],
    as_json: bool,
) -> _Subject:
    """Return images to search on."""
    from fastmlp import MLPClassifier
    from fastmlp.cards import record

    loaded = image_data.load(name, data_home, size)
    image_data.check_classes(name, loaded)
    (X, y), (X_test, y_test) = loaded.train, loaded.test
    if not as_json:
        typer.echo(f"{name}: {len(X)} training samples, {len(X_test)} test samples\n")
    epochs = epochs or _EPOCHS_OF_IMAGES
    network = MLPClassifier(
        max_iter=epochs,
        n_iter_no_change=epochs,
        input_scale=1 / int(X.max(initial=1)),
        random_state=seed,
        **fixed,
    )

    def metadata(model: Any, scores: dict[str, Any] | None) -> dict[str, Any]:
        about = image_data.metadata(name, loaded)
        if scores is None:
            return about
        named = {f"{score} on {len(y_test)} test images": v for score, v in scores.items()}
        return {**about, "card": record(X, y, name=name, scores=named)}

    def score_test(model: Any) -> tuple[dict[str, Any], Callable[[], None] | None]:
        return {"accuracy": float(model.score(X_test, y_test))}, None

    return _Subject(
        "images", name, network, "", X, y, X_test, y_test, "classification", metadata, score_test
    )


def _table(
    data: str,
    target: str | None,
    task: str | None,
    epochs: int | None,
    seed: int,
    cv: int,
    fixed: Mapping[str, Any],
    as_json: bool,
) -> _Subject:
    """Return a table to search on."""
    from fastmlp.tables import make_table_pipeline

    with noting_warnings():
        table = tables.TrainingTable(data, target, task, seed)
    if not as_json:
        table.print_columns()
    options = {"random_state": seed, **fixed}
    if epochs is not None:
        options["max_iter"] = epochs
    if table.has_single_row_of_class:  # which cannot be split again
        options["early_stopping"] = False
    n_rows = len(table.X) * (cv - 1) // cv
    pipeline = make_table_pipeline(table.task, n_rows=n_rows, n_estimators=1, **options)

    def metadata(model: Any, scores: dict[str, Any] | None) -> dict[str, Any]:
        about = table.metadata(model)
        return about if scores is None else {**about, "card": table.card(scores)}

    def score_test(model: Any) -> tuple[dict[str, Any], Callable[[], None] | None]:
        found = tables.metrics(model, table.X_test, table.y_test, table.y)
        heading = f"{len(table.X_test):,} rows held out"
        return tables.metrics_as_json(found), partial(tables.print_metrics, found, heading)

    return _Subject(
        "table", table.name, pipeline, "mlp__", table.X, table.y, table.X_test, table.y_test,
        table.task, metadata, score_test,
    )  # fmt: skip


def _check_folds(subject: _Subject, cv: int) -> None:
    if len(subject.y) < cv:
        raise ValueError(
            f"--cv must be at most the number of training samples, {len(subject.y)}, got {cv}."
        )


def _check_dropout(values: Mapping[str, list[Any]]) -> None:
    """Refuse probabilities per layer for networks with other numbers of layers."""
    layers = {len(units) for units in values.get("hidden_layer_sizes", [])}
    for rates in values.get("dropout", []):
        if isinstance(rates, tuple) and layers != {len(rates)}:
            text = ",".join(f"{rate:g}" for rate in rates)
            raise ValueError(
                f"--dropout must be one probability, or one for each layer of every --hidden, got "
                f"{text} for {', '.join(map(str, sorted(layers))) or 'unknown numbers of'} layers."
            )


# ----------------------------------------------------------------------------------------- search


def _candidates(space: Mapping[str, Any], n_iter: int, seed: int) -> list[dict[str, Any]]:
    """Return all combinations of a space, or so many of them, drawn at random."""
    from math import prod

    from scipy.stats import loguniform
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    lists = all(isinstance(values, list) for values in space.values())
    if lists and prod(map(len, space.values())) <= n_iter:
        return list(ParameterGrid(space))
    drawn = ParameterSampler(
        {k: v if isinstance(v, list) else loguniform(*v) for k, v in space.items()},
        n_iter,
        random_state=seed,
    )
    return [
        {k: v if isinstance(space[k], list) else float(f"{v:.2g}") for k, v in candidate.items()}
        for candidate in drawn
    ]


class _Search:
    """A search with its standings.

    Attributes
    ----------
    search : GridSearchCV or HalvingGridSearchCV
    standings : Standings
    seconds : float
    """

    def __init__(
        self,
        subject: _Subject,
        candidates: Sequence[Mapping[str, Any]],
        cv: int,
        seed: int,
        halving: bool,
        checkpoint: Path | None,
    ) -> None:
        from fastmlp.model_selection import GridSearchCV, HalvingGridSearchCV
        from fastmlp.model_selection.standings import Standings

        self._subject, self._checkpoint = subject, checkpoint
        resource = f"{subject.prefix}max_iter"
        self.standings = Standings(resource if halving else "")
        self.seconds = 0.0
        network = subject.estimator[-1] if subject.prefix else subject.estimator
        grid = [{name: [value] for name, value in c.items()} for c in candidates]
        options = {"cv": _folds(subject, cv, seed)}
        self.search: Any
        if halving:
            self.search = HalvingGridSearchCV(
                subject.estimator,
                grid,
                resource=resource,
                max_resources=network.max_iter,
                factor=_HALVING_FACTOR,
                random_state=seed,
                return_train_score=False,
                **options,
            )
        else:
            self.search = GridSearchCV(subject.estimator, grid, **options)
        self._n_fits = None if halving else len(candidates) * cv

    def run(self, shows: bool) -> bool:
        """Run the search, with progress; return whether Ctrl-C was pressed."""
        from fastmlp.cli.search_display import SearchDisplay
        from fastmlp.model_selection.threads import watching
        from fastmlp.training import observing

        display = SearchDisplay(self.standings, self._table, self._n_fits, shows)
        started = time.perf_counter()
        try:
            with display, watching(self.standings), observing(display), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of fits that fail, see `_note_errors`
                self.search.fit(self._subject.X, self._subject.y, checkpoint=self._checkpoint)
        except KeyboardInterrupt:
            return True
        except ValueError as error:
            if "fits failed" not in str(error):
                raise
            reason, _ = self.standings.errors.most_common(1)[0]
            raise ValueError(f"all fits have failed: {reason}") from None
        finally:
            self.seconds = time.perf_counter() - started
        self._note_errors()
        return False

    def _note_errors(self) -> None:
        for reason, n_fits in self.standings.errors.items():
            note(f"{n_fits} of {self.standings.n_scores} fits have failed: {reason}")

    def print_table(self) -> None:
        """Print the best candidates."""
        headings, rows = self._table()
        if not rows:
            return
        print_table(headings, rows[:_MOST_ROWS], right=(0, 1, 2, 3))
        if len(rows) > _MOST_ROWS:
            typer.echo(f"... and {len(rows) - _MOST_ROWS} more, all of which --json prints")

    def as_json(self) -> dict[str, Any]:
        """Return the search and its candidates, for --json."""
        subject = self._subject
        return {
            "data set": subject.name,
            "task": subject.task,
            "training samples": len(subject.y),
            "test samples": len(subject.y_test),
            "score": subject.score_name,
            "folds": self.search.n_splits_,
            "candidates": [
                {
                    "rank": rank,
                    "parameters": {subject.option(k): v for k, v in c.parameters.items()},
                    "mean": c.mean,
                    "spread": c.spread,
                    "seconds": c.seconds,
                }
                for rank, c in enumerate(self._ranked(), 1)
            ],
            "fits": self.standings.n_scores,
            "search time": self.seconds,
        }

    def time_in_words(self) -> str:
        """Return how long the search took."""
        n_scores, n_known = self.standings.n_scores, self.standings.n_known
        words = f"{self.seconds:.1f} s for {n_scores - n_known} fits"
        return words + (f"; {n_known} more are from {self._checkpoint}" if n_known else "")

    def interruption_in_words(self) -> str:
        """Return what Ctrl-C has left."""
        way_out = "with --checkpoint FILE, it could be continued"
        if self._checkpoint is not None:
            way_out = f"the same command continues from {self._checkpoint}"
        return (
            f"interrupted after {self.standings.n_scores} fits, the largest networks first; no "
            f"model is saved; {way_out}."
        )

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Return the headings and rows of a table of candidates."""
        ranked, option = self._ranked(), self._subject.option
        names = list(dict.fromkeys(name for c in ranked for name in c.parameters))
        headings = ["rank", self._subject.score_name, "±", "seconds"]
        is_partial = not all(c.is_complete for c in ranked)
        rows = [
            [
                str(rank),
                f"{c.mean:.4f}",
                f"{c.spread:.4f}",
                f"{c.seconds:.1f}",
                *([f"{len(c.scores)}/{c.n_splits}"] if is_partial else []),
                *(_value(c.parameters.get(name)) for name in names),
            ]
            for rank, c in enumerate(ranked, 1)
        ]
        return [*headings, *(["folds"] if is_partial else []), *map(option, names)], rows

    def _ranked(self) -> list["Candidate"]:
        """Return the candidates by rank; of equal ones, that which the search has chosen first."""
        chosen = getattr(self.search, "best_params_", None)
        return sorted(self.standings.ranked(), key=lambda c: c.parameters != chosen)


def _folds(subject: _Subject, cv: int, seed: int) -> Any:
    """Return shuffled folds, stratified if every class has enough samples."""
    import numpy as np
    from sklearn.model_selection import KFold, StratifiedKFold

    stratified = False
    if subject.task == "classification":
        stratified = np.unique(np.asarray(subject.y), return_counts=True)[1].min() >= cv
    made: Any = StratifiedKFold if stratified else KFold
    return made(cv, shuffle=True, random_state=seed)


# ----------------------------------------------------------------------------------------- output


def _in_words(parameters: Mapping[str, Any], subject: _Subject) -> str:
    return ", ".join(f"{subject.option(k)} {_value(v)}" for k, v in parameters.items())


def _value(value: Any) -> str:
    """Return the value of a parameter as its option would have it."""
    if isinstance(value, tuple):
        return ",".join(f"{part:g}" for part in value)
    return "" if value is None else f"{value:g}"
