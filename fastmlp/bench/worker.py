"""The process of a contender: `python -m fastmlp.bench.worker` serves the package's protocol."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.bench.cases import Job


class _Missing(Exception):
    """A contender is not available; the message says why."""


def _worker() -> None:
    """Serve the protocol of the package's docstring."""
    answers, sys.stdout = sys.stdout, sys.stderr  # output of libraries is not an answer
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent

    def answer(message: Mapping[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)  # noqa: T201

    job = Job(**json.loads(sys.stdin.readline()))
    try:
        prepare = _LIBRARIES.get(job.library) or _TASKS[job.task]
        act = prepare(job)
    except _Missing as reason:
        answer({"missing": str(reason)})
        return
    answer({})
    for line in sys.stdin:
        with _busy_process() if job.busy else nullcontext():
            value, losses, *rest = act(**json.loads(line))
        answer({"value": value, "losses": [float(loss) for loss in losses], **dict(*rest)})


#: A measurement of a worker: returns the value, the losses, and optionally a dict with more.
Act = Callable[..., tuple[Any, ...]]


def _fit(job: Job) -> Act:
    evaluations: list[int] = []
    seconds: list[float] = []
    if job.task == "evaluation":
        _watch_minimize(evaluations, seconds)
    Estimator = _estimator(job)
    X, y = _load(job)
    _check_threads(job)
    _check_backend(job)

    def act() -> tuple[float, Iterable[float]]:
        model = Estimator(**job.parameters)
        start = time.perf_counter()
        model.fit(X, y)
        elapsed = time.perf_counter() - start
        if evaluations:
            return seconds.pop() / evaluations.pop(), [model.loss_]
        if len(model.loss_curve_) != job.parameters["max_iter"]:
            raise RuntimeError(f"training ended after {len(model.loss_curve_)} epochs.")
        return elapsed / len(model.loss_curve_), model.loss_curve_

    return act


def _watch_minimize(evaluations: list[int], seconds: list[float]) -> None:
    """Record the time and evaluations of SciPy's minimizer. Must precede imports of it."""
    import scipy.optimize

    minimize = scipy.optimize.minimize

    def watched(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = minimize(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        evaluations.append(result.nfev)
        return result

    scipy.optimize.minimize = watched


def _predict(job: Job) -> Act:
    X, y = _load(job)
    model = _estimator(job)(**job.parameters | {"max_iter": 1, "n_iter_no_change": 1})
    model.fit(X[:2000], y[:2000])
    rows = X[: job.n_rows]

    def act() -> tuple[float, Iterable[float]]:
        calls, start, elapsed = 0, time.perf_counter(), 0.0
        while elapsed < 0.2:
            probabilities = model.predict_proba(rows)
            calls += 1
            elapsed = time.perf_counter() - start
        return elapsed / calls, probabilities.mean(axis=0)

    return act


_FIRST_FIT = """
import numpy as np
from {module} import MLPClassifier
X = np.random.RandomState(0).randn(100, 4)
print(MLPClassifier((8,), max_iter=5, random_state=0{options}).fit(X, X[:, 0] > 0).loss_)
"""


def _startup(job: Job) -> Act:
    _check_backend(job)
    backend = job.parameters.get("backend")
    options = f", backend={backend!r}" if backend else ""
    code = _FIRST_FIT.format(module=_MODULES[job.library], options=options)

    def act() -> tuple[float, Iterable[float]]:
        with tempfile.TemporaryDirectory(prefix="fastmlp-bench-") as empty:
            environment = os.environ | ({"NUMBA_CACHE_DIR": empty} if job.cold else {})
            start = time.perf_counter()
            loss = _run_python("-W", "ignore", "-c", code, env=environment)
            return time.perf_counter() - start, [float(loss)]

    return act


def _memory(job: Job) -> Act:
    from fastmlp import idx

    images, labels = _load(replace(job, input="uint8"))
    paths = Path(job.folder, f"{job.library}-images"), Path(job.folder, f"{job.library}-labels")
    idx.write(paths[0], images)
    idx.write(paths[1], labels.astype(np.uint8))
    code = "from fastmlp.bench import worker; worker._train_from_files()"
    arguments = json.dumps([asdict(job), *map(str, paths)])

    def act() -> tuple[float, Iterable[float]]:
        megabytes, *losses = json.loads(_run_python("-W", "ignore", "-c", code, arguments))
        return megabytes, losses

    return act


def _train_from_files() -> None:
    """Train from the files in the arguments, and print the peak above imports, and the losses."""
    from fastmlp import idx

    job, images, labels = json.loads(sys.argv[1])
    job = Job(**job)
    Estimator = _estimator(job)
    imports = _megabytes("VmRSS")
    X, y = idx.read(images, mmap=True), idx.read(labels)
    if job.input != "uint8":
        X = (X / 255).astype(job.input, copy=False)
    model = Estimator(**job.parameters).fit(X, y)
    print(json.dumps([_megabytes("VmHWM") - imports, *model.loss_curve_]))  # noqa: T201


def _megabytes(name: str) -> float:
    """Return a memory statistic of this process, on Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6
    raise OSError(f"/proc/self/status does not tell {name}.")


def _products(job: Job) -> Act:
    """Compute only the matrix products of an epoch (of a forward pass, for predict)."""
    X, y = _load(job)
    X = X[: job.n_rows or None]
    n_outputs = 1 if job.data == "regression" else len(np.unique(y))
    units = [X.shape[1], *job.parameters["hidden_layer_sizes"], n_outputs]
    rng = np.random.default_rng(0)
    weights = [rng.random(shape, dtype=X.dtype) for shape in pairwise(units)]
    gradients = [np.empty_like(weight) for weight in weights]
    whole = job.task in ("evaluation", "predict")
    batch_size = len(X) if whole else job.parameters.get("batch_size", 200)
    buffers = [rng.random((batch_size, n), dtype=X.dtype) for n in units[1:]]

    def act() -> tuple[float, Iterable[float]]:
        start = time.perf_counter()
        for first in range(0, len(X), batch_size):
            batch = X[first : first + batch_size]
            activations = [batch, *(buffer[: len(batch)] for buffer in buffers)]
            for a, weight, out in zip(activations, weights, activations[1:], strict=False):
                np.matmul(a, weight, out=out)
            if job.task == "predict":
                continue
            for layer in reversed(range(len(weights))):
                delta = activations[layer + 1]
                np.matmul(activations[layer].T, delta, out=gradients[layer])
                if layer:
                    np.matmul(delta, weights[layer].T, out=activations[layer])
        return time.perf_counter() - start, []

    return act


def _device(job: Job) -> Act:
    """Time the copies to a backend's device, its epochs, and the copies back."""
    from fastmlp import backends
    from fastmlp.core.inputs import Inputs
    from fastmlp.core.network import Network, Parameters
    from fastmlp.training import Adam

    _check_backend(job)
    backend, dtype = backends.get(job.parameters["backend"]), np.dtype(np.float32)
    X, y = _load(job)
    Y = np.eye(10, dtype=dtype)[y.astype(int)]
    scale = np.full(X.shape[1], 1 / 255, dtype)

    def act(n_hidden: int, batch_size: int) -> tuple[Any, ...]:
        rng = np.random.RandomState(1)
        network = Network((X.shape[1], n_hidden, 10), "relu", "softmax")
        parameters = Parameters.initial(network, rng, dtype)
        adam = Adam(np.zeros_like(parameters.flat), np.zeros_like(parameters.flat))
        start = time.perf_counter()
        engine = backend.Engine(
            network, parameters, Inputs(X, dtype, scale, np.zeros_like(scale)), Y, many_passes=True
        )
        into = time.perf_counter() - start
        seconds, losses = _epochs(
            rng, len(X), lambda order: engine.train_epoch(order, batch_size, adam) / len(X)
        )
        start = time.perf_counter()
        engine.sync()
        return seconds, losses[:1], {"into": into, "out": time.perf_counter() - start}

    return act


def _epochs(
    rng: np.random.RandomState, n: int, epoch: Callable[[NDArray], float]
) -> tuple[float, list[float]]:
    """Train for half a second, and at least twice.

    Return the median of the seconds of all but the first epoch, which may compile, and the losses.
    """
    seconds: list[float] = []
    losses: list[float] = []
    while len(seconds) < 2 or sum(seconds[1:]) < 0.5:
        order = rng.permutation(n)
        start = time.perf_counter()
        losses.append(epoch(order))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]), losses


def _torch_device(job: Job, device: str = "cuda") -> Act:
    """Train with PyTorch, everything on the device: eagerly, or with one batch as a CUDA graph."""
    try:
        import torch
    except ImportError:
        raise _Missing("PyTorch is not installed.") from None
    if device == "cuda" and not torch.cuda.is_available():
        raise _Missing("PyTorch has no CUDA device.")
    from fastmlp.core.network import Network, Parameters

    X, y = _load(job)
    uses_graph = bool(job.parameters.get("graph"))

    def act(n_hidden: int, batch_size: int) -> tuple[Any, ...]:
        rng = np.random.RandomState(1)
        network = Network((X.shape[1], n_hidden, 10), "relu", "softmax")
        initial = Parameters.initial(network, rng, np.float32)
        start = time.perf_counter()
        inputs = torch.from_numpy(X).to(device)
        targets = torch.from_numpy(y.astype(np.int64)).to(device)
        layers = [torch.nn.Linear(*coef.shape, device=device) for coef in initial.coefs]
        with torch.no_grad():
            for layer, coef, bias in zip(layers, initial.coefs, initial.intercepts, strict=True):
                layer.weight.copy_(torch.from_numpy(coef.T))
                layer.bias.copy_(torch.from_numpy(bias))
        into = time.perf_counter() - start
        model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])
        adam = torch.optim.Adam(model.parameters(), fused=True, capturable=device == "cuda")
        total = torch.zeros((), device=device)

        def step(batch: Any) -> None:
            adam.zero_grad(set_to_none=False)
            loss = torch.nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
            loss.backward()
            adam.step()
            total.add_(loss.detach(), alpha=len(batch))

        step_of: Callable[[Any], None] = step
        if uses_graph:
            step_of = _captured(torch, model, adam, total, step, batch_size)

        def epoch(order: NDArray) -> float:
            total.zero_()
            for batch in torch.from_numpy(order).to(device).split(batch_size):
                (step_of if len(batch) == batch_size else step)(batch)
            return float(total) / len(X)

        seconds, losses = _epochs(rng, len(X), epoch)
        start = time.perf_counter()
        for parameter in model.parameters():
            parameter.detach().cpu()
        return seconds, losses[:1], {"into": into, "out": time.perf_counter() - start}

    return act


def _captured(
    torch: Any, model: Any, adam: Any, total: Any, step: Callable[[Any], None], batch_size: int
) -> Callable[[Any], None]:
    """Return a training step that replays a CUDA graph of `step`, without changing the model."""
    batch = torch.zeros(batch_size, dtype=torch.int64, device="cuda")
    before = [parameter.detach().clone() for parameter in model.parameters()]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # memory and kernels must exist before the capture
        for _ in range(3):
            step(batch)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), before, strict=True):
            parameter.copy_(value)
        for state in adam.state.values():
            for value in state.values():
                value.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(batch)

    def replay(rows: Any) -> None:
        batch.copy_(rows)
        graph.replay()

    return replay


def _torch(job: Job) -> Act:
    """Train with PyTorch's fastest method on a CPU: tensors in memory, a plain loop, fused Adam."""
    try:
        import torch
    except ImportError:
        raise _Missing("PyTorch is not installed.") from None
    X, y = _load(job)
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y.astype(np.int64))
    loss_of: Callable[..., Any] = torch.nn.functional.cross_entropy
    after_hidden, after_output = [torch.nn.ReLU()], []
    if job.parameters.get("loss") == "squared_error":
        off, on = job.parameters["label_smoothing"]
        targets = torch.nn.functional.one_hot(targets) * torch.tensor(on - off) + off
        after_hidden.append(torch.nn.Dropout(job.parameters["dropout"]))
        after_output.append(torch.nn.Sigmoid())

        def loss_of(outputs: Any, wanted: Any) -> Any:
            return 0.5 * torch.nn.functional.mse_loss(outputs, wanted)

    def act() -> tuple[float, Iterable[float]]:
        start = time.perf_counter()
        coefs, intercepts, orders = _beginning(job, X, y)
        torch.manual_seed(0)
        layers: list[Any] = []
        for coef, intercept in zip(coefs, intercepts, strict=True):
            layer = torch.nn.Linear(*coef.shape)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(coef.T))
                layer.bias.copy_(torch.from_numpy(intercept))
            layers += [layer, *(after_output if coef is coefs[-1] else after_hidden)]
        network = torch.nn.Sequential(*layers)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.001, fused=True)
        losses = []
        for order in orders:
            total = torch.zeros(())
            for batch in torch.from_numpy(order).split(job.parameters["batch_size"]):
                optimizer.zero_grad()
                loss = loss_of(network(inputs[batch]), targets[batch])
                loss.backward()
                optimizer.step()
                total += loss.detach() * len(batch)
            losses.append(float(total) / len(X))
        return (time.perf_counter() - start) / len(losses), losses

    return act


def _jax(job: Job) -> Act:
    """Train with JAX's fastest method: an epoch is one compiled scan over batches of equal size."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        raise _Missing("JAX is not installed.") from None
    X, y = _load(job)
    inputs, targets = jnp.asarray(X), jnp.asarray(y.astype(np.int32))
    batch_size = job.parameters["batch_size"]
    tree_map = jax.tree_util.tree_map

    def objective(parameters: Any, batch: Any) -> Any:
        activations = inputs[batch]
        for coef, intercept in parameters[:-1]:
            activations = jax.nn.relu(activations @ coef + intercept)
        coef, intercept = parameters[-1]
        log_probabilities = jax.nn.log_softmax(activations @ coef + intercept)
        return -jnp.take_along_axis(log_probabilities, targets[batch][:, None], axis=1).mean()

    def update(state: Any, batch: Any) -> Any:
        parameters, m, v, t = state
        loss, gradient = jax.value_and_grad(objective)(parameters, batch)
        m = tree_map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
        v = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
        t = t + 1
        rate = 0.001 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        parameters = tree_map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), parameters, m, v)
        return (parameters, m, v, t), loss

    @jax.jit
    def epoch(state: Any, batches: Any) -> Any:
        state, losses = jax.lax.scan(update, state, batches)
        return state, losses.mean()

    def act() -> tuple[float, Iterable[float]]:
        start = time.perf_counter()
        coefs, intercepts, orders = _beginning(job, X, y)
        layers = zip(coefs, intercepts, strict=True)
        parameters = [(jnp.asarray(coef), jnp.asarray(b)) for coef, b in layers]
        zeros = tree_map(jnp.zeros_like, parameters)
        state = parameters, zeros, zeros, jnp.float32(0)
        losses = []
        for order in orders:
            state, loss = epoch(state, jnp.asarray(order.reshape(-1, batch_size)))
            losses.append(float(loss))
        return (time.perf_counter() - start) / len(losses), losses

    return act


def _beginning(
    job: Job, X: NDArray, y: NDArray
) -> tuple[list[NDArray], list[NDArray], Iterator[NDArray]]:
    """Return scikit-learn's initial weights, and the order of the samples per epoch."""
    from fastmlp.core.network import Network, Parameters

    units = (X.shape[1], *job.parameters["hidden_layer_sizes"], len(np.unique(y)))
    rng = np.random.RandomState(job.parameters["random_state"])
    parameters = Parameters.initial(Network(units, "relu", "softmax"), rng, X.dtype)

    def orders() -> Iterator[NDArray]:
        order = np.arange(len(X))
        for _ in range(job.parameters["max_iter"]):
            indices = np.arange(len(X))
            rng.shuffle(indices)
            order = order[indices]
            yield order

    return parameters.coefs, parameters.intercepts, orders()


_TASKS: dict[str, Callable[[Job], Act]] = {
    "fit": _fit,
    "evaluation": _fit,
    "predict": _predict,
    "startup": _startup,
    "memory": _memory,
    "device": _device,
}

# Those without estimators.
_LIBRARIES: dict[str, Callable[[Job], Act]] = {
    "products": _products,
    "torch": _torch,
    "torch-cuda": _torch_device,
    "jax": _jax,
}

_MODULES = {"fastmlp": "fastmlp", "sklearn": "sklearn.neural_network"}


def _estimator(job: Job) -> Any:
    from importlib import import_module

    name = "MLPRegressor" if job.data == "regression" else "MLPClassifier"
    return getattr(import_module(_MODULES[job.library]), name)


def _check_backend(job: Job) -> None:
    from fastmlp import backends

    name = job.parameters.get("backend", "auto")
    if reason := backends.unavailable().get(name) if name != "auto" else None:
        raise _Missing(f"{reason}.")


def _check_threads(job: Job) -> None:
    from fastmlp.utils.threads import usable_threads

    if job.parameters.get("n_threads", 1) > usable_threads() or (job.busy and os.cpu_count() == 1):
        raise _Missing("this process may only use one CPU.")


@contextmanager
def _busy_process() -> Iterator[subprocess.Popen]:
    """Keep a core busy, until this process ends."""
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10000))"
    process = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(0.1)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _run_python(*arguments: str, env: Mapping[str, str] | None = None) -> str:
    command = [sys.executable, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env).stdout


def _load(job: Job) -> tuple[Any, NDArray]:
    """Return the samples of a job in its dtype, and their targets."""
    n, dtype = job.n_samples, np.dtype(job.input)
    rng = np.random.default_rng(0)
    if job.data.endswith("mnist"):
        from fastmlp.datasets import DatasetError, load_mnist

        try:
            (X, y), _ = load_mnist()
        except DatasetError:
            raise _Missing("MNIST is not available: 'fastmlp data fetch mnist' says why.") from None
        X, y = X[:n], y[:n]
        if job.data == "standardized mnist":
            deviation = X.std(axis=0)
            return ((X - X.mean(axis=0)) / np.where(deviation, deviation, 1)).astype(dtype), y
        if job.data.startswith("lifted"):
            return (X / 255 * 0.99 + 0.01).astype(dtype), y
        return (X if dtype == np.uint8 else (X / 255).astype(dtype)), y
    if job.data == "digits":
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        return X.astype(dtype), y
    if job.data == "text":
        from scipy.sparse import coo_array

        shape, n_words = (n, 20_000), 40
        words = (shape[1] * rng.random(n * n_words) ** 3).astype(int)  # some are common
        rows = np.repeat(np.arange(n), n_words)
        X = coo_array((np.ones(len(words), dtype), (rows, words)), shape).tocsr()
        X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    else:
        X = rng.standard_normal((n, 8 if job.data == "regression" else 30)).astype(dtype)
    hidden = np.tanh(X @ rng.standard_normal((X.shape[1], 10)) / 2)
    scores = hidden @ rng.standard_normal((10, 4)) + 0.3 * rng.standard_normal((n, 4))
    return X, scores[:, 0].astype(dtype) if job.data == "regression" else scores.argmax(axis=1)


if __name__ == "__main__":
    _worker()
