"""The benchmark cases."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastmlp.utils.suggestions import did_you_mean

TITLES = {"fastmlp": "fastmlp", "sklearn": "scikit-learn", "torch": "PyTorch", "jax": "JAX"}

#: The unit of a measurement, per task.
UNITS = {
    "fit": "s per epoch",
    "evaluation": "s per evaluation",
    "predict": "s per call",
    "startup": "s",
    "memory": "MB",
}

#: Epochs of a quick run.
QUICK_EPOCHS = 2

#: Samples of every data set; `quick` takes a tenth.
SIZES = {"mnist": 60_000, "standardized mnist": 60_000, "tabular": 20_000, "regression": 20_000}
SIZES |= {"part of mnist": 33_600, "lifted part of mnist": 33_600}  # what R4 trains on
SIZES |= {"text": 20_000, "digits": 1797, "nothing": 0}


@dataclass(frozen=True)
class Contender:
    """A library, and how it is used.

    Attributes
    ----------
    library : {"fastmlp", "sklearn", "torch", "jax", "products"}
        The last only computes the matrix products of an epoch.
    input : {"uint8", "float32", "float64"}
        The dtype of its data; 0..255 for uint8, otherwise 0..1.
    parameters : mapping
        Parameters of the estimator, in addition to those of the case.
    tolerance : float
        Maximum relative difference of its losses from ours.
    data : str, optional
        Replaces the data set of the case.
    busy : bool
        Another process keeps a core busy.
    cold : bool
        No compiled kernel is cached on disk.
    title : str, optional
        Its name in tables.
    """

    library: str
    input: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-8
    data: str = ""
    busy: bool = False
    cold: bool = False
    title: str = ""

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.title or f"{TITLES[self.library]} {self.input}"


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes
    ----------
    name, about : str
        Name and one-line description.
    group : str
        Its suite.
    data : str
        One of `SIZES`.
    parameters : mapping
        Parameters of every contender's estimator.
    ours : Contender
    peers : tuple of Contender
    floor : str
        The dtype of the matrix products for comparison, if any.
    task : str
        What is measured: one of `UNITS`.
    n_rows : int
        Number of predicted rows.
    """

    name: str
    about: str
    group: str
    data: str
    parameters: Mapping[str, Any]
    ours: Contender
    peers: tuple[Contender, ...]
    floor: str = ""
    task: str = "fit"
    n_rows: int = 0

    @property
    def contenders(self) -> list[Contender]:
        """All of them: ours, the peers, the floor."""
        floor = [Contender("products", self.floor, title="matrix products")] if self.floor else []
        return [self.ours, *self.peers, *floor]


def _sklearn(dtype: str, tolerance: float, **options: Any) -> Contender:
    return Contender("sklearn", dtype, tolerance=tolerance, **options)


_R1 = {"hidden_layer_sizes": [50], "solver": "sgd", "learning_rate_init": 0.1, "max_iter": 10}
_R2 = {"hidden_layer_sizes": [100, 50, 25], "learning_rate": "adaptive", "max_iter": 5}
_R3 = {"hidden_layer_sizes": [397], "solver": "lbfgs", "alpha": 1e-5, "max_iter": 5}
_300 = {"hidden_layer_sizes": [300], "batch_size": 500, "alpha": 0.0, "max_iter": 10}
_R4 = {
    "hidden_layer_sizes": [300], "batch_size": 67, "alpha": 0.0, "max_iter": 5, "dropout": 0.6,
    "loss": "squared_error", "label_smoothing": (0.01, 0.99),
}  # fmt: skip
_WIDE = {"hidden_layer_sizes": [1024, 1024], "batch_size": 256, "max_iter": 2}
_100 = {"hidden_layer_sizes": [100], "max_iter": 10}
_SCALE, _LIFTED = {"input_scale": 1 / 255}, {"input_scale": (0.99 / 255, 0.01)}
_BYTES = Contender("fastmlp", "uint8", _SCALE)
_FLOAT32, _FLOAT64 = Contender("fastmlp", "float32"), Contender("fastmlp", "float64")
_NUMBA, _CYTHON = {"backend": "numba"}, {"backend": "cython"}

# float32 drifts from float64, and from other orders of summation, over thousands of updates.
CASES = (
    Case(
        name="r1",
        about="784-50-10, SGD, from bytes",
        group="mnist",
        data="mnist",
        parameters=_R1,
        ours=_BYTES,
        peers=(_sklearn("float64", 0.03), _sklearn("float32", 0.03)),
        floor="float32",
    ),
    Case(
        name="r1-float32",
        about="784-50-10, SGD, float32",
        group="mnist",
        data="mnist",
        parameters=_R1,
        ours=_FLOAT32,
        peers=(_sklearn("float32", 0.03),),
        floor="float32",
    ),
    Case(
        name="r1-float64",
        about="784-50-10, SGD, float64",
        group="mnist",
        data="mnist",
        parameters=_R1,
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        floor="float64",
    ),
    Case(
        name="r2",
        about="784-100-50-25-10, Adam, from bytes",
        group="mnist",
        data="mnist",
        parameters=_R2,
        ours=_BYTES,
        peers=(_sklearn("float64", 0.03), _sklearn("float32", 0.03)),
        floor="float32",
    ),
    Case(
        name="r3",
        about="784-397-10, L-BFGS, bytes standardized",
        group="mnist",
        data="mnist",
        parameters=_R3,
        ours=Contender("fastmlp", "uint8", {"input_scale": "standard"}),
        peers=(_sklearn("float32", 0.03, data="standardized mnist"),),
        floor="float32",
        task="evaluation",
    ),
    Case(
        name="r4",
        about="784-300-10, dropout, squared error, Adam, from bytes",
        group="mnist",
        data="part of mnist",
        parameters=_R4,
        ours=Contender("fastmlp", "uint8", _LIFTED),
        # Of other masks; that is worth some per cent.
        peers=(Contender("torch", "float32", tolerance=0.05, data="lifted part of mnist"),),
        floor="float32",
    ),
    Case(
        name="dropout",
        about="784-300-10 as in dropout-300: with dropout 0.6, and without",
        group="mnist",
        data="part of mnist",
        parameters=_R4,
        ours=Contender("fastmlp", "uint8", _LIFTED, title="with dropout"),
        # Without it, the loss is different.
        peers=(Contender("fastmlp", "uint8", _LIFTED | {"dropout": 0.0}, 9, title="without"),),
    ),
    Case(
        name="adam-300",
        about="784-300-10, Adam, batches of 500, from bytes",
        group="mnist",
        data="mnist",
        parameters=_300,
        ours=_BYTES,
        peers=(
            _sklearn("float32", 0.03),
            Contender("torch", "float32", tolerance=0.03),
            Contender("jax", "float32", tolerance=0.03),
        ),
        floor="float32",
    ),
    Case(
        name="wide",
        about="784-1024-1024-10, Adam, batches of 256, float32",
        group="mnist",
        data="mnist",
        parameters=_WIDE,
        ours=_FLOAT32,
        peers=(_sklearn("float32", 0.05),),
        floor="float32",
    ),
    Case(
        name="tabular-float32",
        about="30-100-4, Adam, 20 000 rows, float32",
        group="tabular",
        data="tabular",
        parameters=_100,
        ours=_FLOAT32,
        peers=(_sklearn("float32", 1e-3),),
        floor="float32",
    ),
    Case(
        name="tabular-float64",
        about="30-100-4, Adam, 20 000 rows, float64",
        group="tabular",
        data="tabular",
        parameters=_100,
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        floor="float64",
    ),
    Case(
        name="regression",
        about="8-100-1, Adam, 20 000 rows, float64",
        group="tabular",
        data="regression",
        parameters=_100,
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        floor="float64",
    ),
    Case(
        name="digits",
        about="64-100-10, Adam, 1797 rows, float64",
        group="tabular",
        data="digits",
        parameters={"hidden_layer_sizes": [100], "max_iter": 50},  # scikit-learn's defaults
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        floor="float64",
    ),
    Case(
        name="sparse",
        about="20000-32-4, Adam, CSR with 0.2 % filled, float32",
        group="sparse",
        data="text",
        parameters={"hidden_layer_sizes": [32], "max_iter": 3},
        ours=_FLOAT32,
        peers=(_sklearn("float32", 1e-3),),
    ),
    Case(
        name="predict-1",
        about="784-50-10, probabilities of 1 row, float64",
        group="predict",
        data="mnist",
        parameters=_R1,
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        task="predict",
        n_rows=1,
    ),
    Case(
        name="predict-10000",
        about="784-50-10, probabilities of 10 000 rows, float64",
        group="predict",
        data="mnist",
        parameters=_R1,
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        floor="float64",
        task="predict",
        n_rows=10_000,
    ),
    Case(
        name="startup",
        about="a new process: import, and a first small fit",
        group="startup",
        data="nothing",
        parameters={},
        ours=_FLOAT64,
        peers=(_sklearn("float64", 1e-8),),
        task="startup",
    ),
    Case(
        name="memory",
        about="784-50-10, SGD, from a mapped file: peak above the imports",
        group="memory",
        data="mnist",
        parameters=_R1 | {"max_iter": 2},
        ours=_BYTES,
        peers=(_sklearn("float64", 0.03),),
        task="memory",
    ),
    Case(
        name="startup-numba",
        about="a new process, Numba's kernels on disk, and without them",
        group="backends",
        data="nothing",
        parameters={},
        ours=Contender("fastmlp", "float64", _NUMBA, title="numba, from disk"),
        peers=(
            Contender("fastmlp", "float64", _NUMBA, cold=True, title="numba, compiling"),
            _sklearn("float64", 1e-8),
        ),
        task="startup",
    ),
    Case(
        name="numba-r1",
        about="784-50-10, SGD, from bytes: numba, and cython",
        group="backends",
        data="mnist",
        parameters=_R1,
        ours=Contender("fastmlp", "uint8", _SCALE | _NUMBA, title="numba"),
        peers=(Contender("fastmlp", "uint8", _SCALE | _CYTHON, 1e-5, title="cython"),),
    ),
    Case(
        name="numba-r1-float32",
        about="784-50-10, SGD, float32: numba, and cython",
        group="backends",
        data="mnist",
        parameters=_R1,
        ours=Contender("fastmlp", "float32", _NUMBA, title="numba"),
        peers=(Contender("fastmlp", "float32", _CYTHON, 1e-5, title="cython"),),
    ),
    Case(
        name="numba-tabular",
        about="30-100-4, Adam, 20 000 rows, float32: numba, and cython",
        group="backends",
        data="tabular",
        parameters=_100,
        ours=Contender("fastmlp", "float32", _NUMBA, title="numba"),
        peers=(Contender("fastmlp", "float32", _CYTHON, 1e-4, title="cython"),),
    ),
    Case(
        name="two-threads",
        about="784-50-10, SGD, from bytes: two threads, and one",
        group="threads",
        data="mnist",
        parameters=_R1,
        ours=Contender("fastmlp", "uint8", _SCALE | {"n_threads": 2}, title="two threads"),
        peers=(Contender("fastmlp", "uint8", _SCALE | {"n_threads": 1}, 0, title="one thread"),),
    ),
    Case(
        name="busy-core",
        about="784-50-10, SGD, from bytes: alone, and beside a busy process",
        group="threads",
        data="mnist",
        parameters=_R1,
        ours=Contender("fastmlp", "uint8", _SCALE, title="alone"),
        peers=(Contender("fastmlp", "uint8", _SCALE, 0, busy=True, title="busy neighbour"),),
    ),
)

SUITES = (*dict.fromkeys(case.group for case in CASES), "all")


def select(names: Iterable[str]) -> list[Case]:
    """Return the cases of suites, or by name.

    Raises
    ------
    ValueError
        If there is no such suite or case; the message lists them.

    Examples
    --------
    >>> [case.name for case in select(["predict", "r1"])]
    ['r1', 'predict-1', 'predict-10000']
    """
    wanted = set(names)
    cases = [case.name for case in CASES]
    if unknown := wanted - {*SUITES, *cases}:
        end = did_you_mean(min(unknown), ["devices", *SUITES, *cases])
        raise ValueError(
            f"a suite must be one of {', '.join(SUITES)}, devices, or a case: "
            f"{', '.join(cases)}; got {min(unknown)!r}{end}"
        )
    return [case for case in CASES if wanted & {"all", case.group, case.name}]


@dataclass(frozen=True)
class Job:
    """The task of a worker; see `Contender` and `Case`. Its files are in `folder`."""

    task: str
    library: str
    data: str
    input: str
    parameters: dict[str, Any]
    n_samples: int
    n_rows: int
    busy: bool
    cold: bool
    folder: str


def job_of(case: Case, contender: Contender, folder: str, quick: bool) -> Job:
    """Return the job of a contender's process."""
    parameters = {"max_iter": 200, "random_state": 1, **case.parameters, **contender.parameters}
    n_samples = SIZES[case.data]
    if quick:
        parameters["max_iter"] = min(parameters["max_iter"], QUICK_EPOCHS)
        n_samples = n_samples if n_samples < 2000 else n_samples // 10
    # So that all run every epoch; L-BFGS may end sooner, as it is measured per evaluation.
    parameters |= {"tol": 0.0, "n_iter_no_change": parameters["max_iter"]}
    return Job(
        task=case.task,
        library=contender.library,
        data=contender.data or case.data,
        input=contender.input,
        parameters=parameters,
        n_samples=n_samples,
        n_rows=case.n_rows,
        busy=contender.busy,
        cold=contender.cold,
        folder=folder,
    )
