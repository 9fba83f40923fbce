"""Test of parity: scikit-learn and every backend on random configurations.

All are trained on the same data with the same parameters, drawn from a seed. Reported are the
largest differences from scikit-learn, and the configurations that exceed the tolerance.
"""

import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fastmlp.accel import ESTIMATORS, SKLEARN_ESTIMATORS
from fastmlp.core.functions import ACTIVATIONS

CLASSIFICATION = ("binary", "multiclass", "multilabel")
REGRESSION = ("one output", "several outputs", "counts")
DTYPES = ("float64", "float32")

#: If rounding X to float32 changes scikit-learn's own losses by more than this (relatively),
#: float32 is not compared: L-BFGS that leaves a plateau, which is why it gets few iterations.
STABLE = 1e-4

# One batch with such a small learning rate leaves the weights unchanged, which gives access to
# scikit-learn's initial weights. They do not depend on the parameters changed here.
_STILL = {"solver": "sgd", "learning_rate_init": 1e-300, "max_iter": 1, "early_stopping": False}


@dataclass(frozen=True)
class Data:
    """Random data, determined by this description.

    The samples' `weights` are "none", "positive" or "some zero"; if `sparse`, X is a CSR matrix.
    """

    task: str
    n_samples: int
    n_features: int
    sparse: bool
    weights: str
    seed: int

    def draw(self, dtype: str) -> tuple[Any, NDArray, NDArray | None]:
        """Return the arguments of `fit`: X, rounded to that dtype, y, and sample weights."""
        rng = np.random.default_rng(self.seed)
        X = rng.standard_normal((self.n_samples, self.n_features))
        if self.sparse:
            X *= rng.random(X.shape) < 0.3
        scores = X @ rng.standard_normal((self.n_features, 4)) / np.sqrt(self.n_features)
        scores += rng.standard_normal(scores.shape)
        y = {
            "binary": scores[:, 0] > np.median(scores[:, 0]),
            "multiclass": np.array(["ash", "beech", "elm", "oak"])[scores.argmax(axis=1)],
            "multilabel": (scores[:, :3] > 0).astype(int),
            "one output": scores[:, 0],
            "several outputs": scores[:, :3],
            "counts": rng.poisson(np.exp(scores[:, 0] / 2)).astype(float),
        }[self.task]
        weight = rng.uniform(0.2, 2, self.n_samples)
        if self.weights == "some zero":
            weight[rng.random(self.n_samples) < 0.2] = 0
        X = csr_array(X.astype(dtype)) if self.sparse else X.astype(dtype)
        return X, y, None if self.weights == "none" else weight


@dataclass(frozen=True)
class Configuration:
    """Data, and the parameters of the estimator."""

    data: Data
    parameters: dict[str, Any]

    @property
    def estimator(self) -> str:
        """The name of the estimator's class."""
        return "MLPClassifier" if self.data.task in CLASSIFICATION else "MLPRegressor"

    def reproduction(self, backend: str, dtype: str) -> str:
        """Return Python code that trains it with fastmlp."""
        given = self.parameters | {"backend": backend}
        arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return (
            f"from fastmlp import {self.estimator}\nfrom fastmlp.bench.parity import Data\n"
            f"{self.estimator}({arguments}).fit(*{self.data!r}.draw({dtype!r}))"
        )


def configurations(n: int, seed: int) -> Iterator[Configuration]:
    """Draw configurations; the first ones are the same for every `n`."""
    rng = random.Random(seed)
    return (_draw(rng) for _ in range(n))


def _draw(rng: random.Random) -> Configuration:
    """Draw a configuration, with learning rates that do not diverge."""
    task, solver = rng.choice(CLASSIFICATION + REGRESSION), rng.choice(("lbfgs", "sgd", "adam"))
    parameters: dict[str, Any] = {
        "hidden_layer_sizes": tuple(rng.randint(1, 40) for _ in range(rng.randint(0, 3))),
        "activation": rng.choice([name for name, a in ACTIVATIONS.items() if a.is_sklearns]),
        "solver": solver,
        "alpha": rng.choice((0.0, 1e-4, 0.01, 0.1)),
        "max_iter": rng.randint(1, 6) if solver == "lbfgs" else rng.randint(3, 12),
        "tol": rng.choice((0.0, 1e-4, 0.02)),
        "random_state": rng.randrange(2**31),
    }
    if task == "counts":
        parameters["loss"] = "poisson"
    tiny = rng.random() < 0.1  # batches, and then fewer samples, for speed
    n_samples = rng.randint(20, 60 if tiny else 300)
    whole = n_samples + rng.randint(0, 9)
    batch_size = rng.randint(1, 3) if tiny else rng.choice(("auto", rng.randint(8, 99), whole))
    if solver != "lbfgs":
        parameters |= {
            "learning_rate_init": _rate(rng, 1e-4, 2e-3) if tiny else _rate(rng, 1e-3, 0.02),
            "batch_size": batch_size,
            "shuffle": rng.random() < 0.8,
            "n_iter_no_change": rng.choice((1, 2, 10)),
            "early_stopping": rng.random() < 0.3,
            "validation_fraction": rng.choice((0.1, 0.25)),
        }
    if solver == "sgd":
        parameters |= {
            "learning_rate": rng.choice(("constant", "invscaling", "adaptive")),
            "power_t": rng.choice((0.1, 0.5)),
            "momentum": rng.choice((0.0, 0.5, 0.9)),
            "nesterovs_momentum": rng.random() < 0.5,
        }
    elif solver == "adam":
        parameters |= {
            "beta_1": rng.choice((0.0, 0.8, 0.9)),
            "beta_2": rng.choice((0.9, 0.99, 0.999)),
            "epsilon": rng.choice((1e-8, 1e-6, 1e-3)),
        }
    # Only in a single batch: scikit-learn refuses batches whose weights sum to zero.
    zero = "some zero" if solver == "lbfgs" or batch_size == whole else "positive"
    weights, sparse = rng.choice(("none", "none", "positive", zero)), rng.random() < 0.25
    data = Data(task, n_samples, rng.randint(1, 40), sparse, weights, seed=rng.randrange(2**32))
    return Configuration(data, parameters)


def _rate(rng: random.Random, low: float, high: float) -> float:
    """Draw a learning rate with two digits, log-uniformly."""
    return float(f"{low * (high / low) ** rng.random():.2g}")


class Fit(NamedTuple):
    """The compared results of a model; L-BFGS has one loss, regressors have no labels."""

    initial_weights: NDArray
    losses: NDArray
    weights: NDArray
    predictions: NDArray
    labels: NDArray | None


def solve(
    configuration: Configuration, dtype: str, classes: Mapping[str, Any], **options: Any
) -> Fit | None:
    """Train one of the classes on X of a dtype; return None if training diverges."""
    Estimator = classes[configuration.estimator]
    X, y, sample_weight = configuration.data.draw(dtype)
    parameters = configuration.parameters | options
    still = parameters | _STILL | {"batch_size": len(y)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", "Training interrupted")
        try:
            initial = _flat(Estimator(**still).fit(X, y, sample_weight))
            model = Estimator(**parameters).fit(X, y, sample_weight)
        except UserWarning as warning:  # Ctrl-C, which would only stop this fit
            raise KeyboardInterrupt from warning
        except ValueError as error:
            if "non-finite" not in str(error):
                raise
            return None
        predictions, labels = model.predict(X), None
        if configuration.estimator == "MLPClassifier":
            predictions, labels = model.predict_proba(X), predictions
    losses = np.asarray(getattr(model, "loss_curve_", [model.loss_]), np.float64)
    if not np.isfinite(losses).all():
        return None
    return Fit(initial, losses, _flat(model), predictions, labels)


def _flat(model: Any) -> NDArray:
    return np.concatenate([part.ravel() for part in model.coefs_ + model.intercepts_])


@dataclass(frozen=True)
class Differences:
    """The differences of two fits of a configuration, or their tolerances.

    For `initial_weights`, `weights` and `predictions` (probabilities or numbers),
    the largest difference, relative to the largest of them; for `loss_curves`,
    the largest relative difference in a common epoch; for `labels` the share
    that differs, and for `epochs` the number.
    """

    initial_weights: float = 0.0
    loss_curves: float = 0.0
    weights: float = 0.0
    predictions: float = 0.0
    labels: float = 0.0
    epochs: float = 0.0

    def within(self, tolerance: "Differences") -> bool:
        """Return whether all are finite and none exceeds its tolerance."""
        found = np.asarray(astuple(self))
        return bool(np.all(np.isfinite(found) & (found <= astuple(tolerance))))

    def as_dict(self) -> dict[str, float | None]:
        """Return them by name, with None for non-finite values, for JSON."""
        return {k: v if np.isfinite(v) else None for k, v in asdict(self).items()}


def compare(ours: Fit | None, theirs: Fit | None) -> Differences:
    """Return the differences of two fits; infinite if only one of them diverged."""
    if ours is None or theirs is None:
        return Differences() if ours is theirs else Differences(*[np.inf] * 6)
    return Differences(
        initial_weights=_relative(ours.initial_weights, theirs.initial_weights),
        loss_curves=max(map(_relative, ours.losses, theirs.losses)),
        weights=_relative(ours.weights, theirs.weights),
        predictions=_relative(ours.predictions, theirs.predictions),
        labels=0.0 if ours.labels is None else float(np.mean(ours.labels != theirs.labels)),
        epochs=float(abs(len(ours.losses) - len(theirs.losses))),
    )


def _relative(a: Any, b: Any) -> float:
    return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), np.finfo(float).tiny))


def tolerance(backend: str, dtype: str) -> Differences:
    """Return the tolerances of a backend; all must be finite.

    In float32, weights whose gradient is only rounding errors diverge, and a stopping rule may
    act an epoch sooner or later: only losses are compared.
    """
    if dtype == "float32":
        return Differences(0.0, 1e-3, np.inf, np.inf, np.inf, np.inf)
    return Differences() if backend == "numpy" else Differences(0.0, 1e-8, 1e-6, 1e-6)


@dataclass
class Row:
    """The results of one backend in one dtype.

    `fits` configurations were compared, of which `unequal` ones stopped in another epoch;
    `unstable` ones were not (see `STABLE`).
    """

    backend: str
    dtype: str
    fits: int = 0
    unstable: int = 0
    unequal: int = 0
    largest: Differences = field(default_factory=Differences)
    failures: list[tuple[Configuration, Differences]] = field(default_factory=list)

    def add(self, configuration: Configuration, found: Differences) -> None:
        """Add the results of one configuration."""
        self.fits += 1
        self.unequal += found.epochs != 0
        self.largest = Differences(*np.maximum(astuple(self.largest), astuple(found)).tolist())
        if not found.within(tolerance(self.backend, self.dtype)):
            self.failures.append((configuration, found))

    def as_dict(self) -> dict[str, Any]:
        """Return the row as a JSON object."""
        entries: dict[str, Any] = vars(self) | {
            "failures": len(self.failures),
            "largest": self.largest.as_dict(),
            "tolerance": tolerance(self.backend, self.dtype).as_dict(),
        }
        if self.failures:
            configuration, found = max(self.failures, key=lambda pair: pair[1].loss_curves)
            code = configuration.reproduction(self.backend, self.dtype)
            entries["worst"] = {"differences": found.as_dict(), "reproduction": code}
        return entries


def check(configurations: Iterable[Configuration], backends: Sequence[str]) -> list[Row]:
    """Compare backends with scikit-learn in every configuration and dtype."""
    rows = [Row(backend, dtype) for backend in backends for dtype in DTYPES]
    for configuration in configurations:
        theirs = {dtype: solve(configuration, dtype, SKLEARN_ESTIMATORS) for dtype in DTYPES}
        rounding = compare(theirs["float32"], theirs["float64"])
        for row in rows:
            if row.dtype == "float32" and not rounding.loss_curves <= STABLE:
                row.unstable += 1
                continue
            ours = solve(configuration, row.dtype, ESTIMATORS, backend=row.backend)
            row.add(configuration, compare(ours, theirs[row.dtype]))
    return rows
