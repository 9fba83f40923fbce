"""Models as a PyTorch ``state_dict``, and the lines that use it."""

import json
import os
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.export.checks import Check, compared
from fastmlp.export.common import exportable, predicted, rows_to_check, seconds, weights
from fastmlp.portable import PlainModel, PlainNetwork
from fastmlp.utils.files import AnyPath, atomic_write

if TYPE_CHECKING:
    import torch

__all__ = ["check_torch", "to_torch", "torch_lines"]

_WHAT = "a state_dict of PyTorch"

#: Activations in `torch.nn`: names of modules, and their arguments.
_MODULES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "identity": ("Identity", ()),
    "logistic": ("Sigmoid", ()),
    "tanh": ("Tanh", ()),
    "relu": ("ReLU", ()),
    "leaky_relu": ("LeakyReLU", (0.01,)),
    "gelu": ("GELU", ("tanh",)),
    "silu": ("SiLU", ()),
    "softmax": ("Softmax", (1,)),
}


def to_torch(
    model: Any, path: AnyPath | None = None, *, dtype: str | None = None
) -> "dict[str, torch.Tensor]":
    """Convert a fitted model to a PyTorch ``state_dict``.

    It is that of an ``nn.Sequential`` of ``nn.Linear`` and activations: "0.weight", "0.bias",
    "2.weight" and so on. Input and target scalings are inside the weights, so the network takes
    what `predict` takes. An ensemble has the weights of an ``nn.ModuleList`` of such networks:
    "0.0.weight" and so on. `torch_lines` returns the lines that use it.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor or MLPEnsemble
        Fitted.
    path : path, optional
        Where to write it, too, by ``torch.save``. An existing file is replaced.
    dtype : {"float32", "float64"}, optional
        By default that of the model, but float64 if the inputs are far from 0 compared with their
        spread, such as years: float32 has too few digits for the scaling to be inside the weights.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    sklearn.exceptions.NotFittedError
    TypeError
        If the model is something else, or of a subclass.
    ValueError
        If it is a pipeline, or its targets are scaled after an output activation.
    ImportError
        If torch is not installed.
    OSError
        If the file cannot be written.
    """
    torch = _import_torch()
    found = weights(exportable(model), _WHAT, dtype)
    state = {name: torch.from_numpy(array) for name, array in found.items()}
    if path is not None:
        with atomic_write(path) as file:
            torch.save(state, file)
    return state


def check_torch(model: Any, state: "dict[str, torch.Tensor] | AnyPath", rows: Any = None) -> Check:
    """Compare the predictions of PyTorch with those of the model.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor or MLPEnsemble
    state : dict of str to torch.Tensor, or path
        Of `to_torch`, or its file.
    rows : array of shape (n_rows, n_features), optional
        What to predict. By default 256 rows such as the model could get.

    Returns
    -------
    Check
        By PyTorch on one thread of the CPU.

    Raises
    ------
    ImportError
        If torch is not installed.
    RuntimeError
        If the names or shapes of the ``state_dict`` are not those of the model.
    """
    torch = _import_torch()
    plain = exportable(model)
    rows = rows_to_check(model, plain, rows)
    if isinstance(state, str | os.PathLike):
        state = torch.load(state, weights_only=True)
    assert isinstance(state, dict)
    nets = torch.nn.ModuleList(map(_sequential, plain.networks))
    net = nets if len(nets) > 1 else nets[0]
    dtype = next(iter(state.values())).dtype
    net.to(dtype).load_state_dict(state)
    X = torch.as_tensor(np.asarray(rows), dtype=dtype)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            found = sum(_result(plain, net(X)) for net in nets) / len(nets)
            elapsed = seconds(lambda: [net(X) for net in nets])
    finally:
        torch.set_num_threads(n_threads)
    return compared(
        plain,
        predicted(model, plain, rows),
        found.numpy(),
        f"torch {torch.__version__}",
        n_bytes=sum(tensor.nbytes for tensor in state.values()),
        microseconds=1e6 * elapsed / len(rows),
    )


def torch_lines(model: Any, path: AnyPath = "model.pt", *, dtype: str | None = None) -> list[str]:
    r"""Return the lines of Python that load a ``state_dict`` and predict with it.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor or MLPEnsemble
        Fitted.
    path : path
        The file that `to_torch` has written.
    dtype : {"float32", "float64"}, optional
        As given to `to_torch`.

    Returns
    -------
    list of str
        They read `X`, an array as `predict` takes it, and set `probabilities` and `labels` or, of
        regressors, `predictions`.

    Examples
    --------
    >>> from fastmlp import MLPRegressor
    >>> X = np.arange(8.0).reshape(4, 2)
    >>> model = MLPRegressor(hidden_layer_sizes=3, solver="lbfgs").fit(X, X[:, 0])
    >>> print("\n".join(torch_lines(model)))
    import torch
    from torch import nn
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    net.load_state_dict(torch.load("model.pt", weights_only=True))
    predictions = net(torch.as_tensor(X, dtype=torch.float64)).detach()
    """
    plain = exportable(model)
    chosen = next(iter(weights(plain, _WHAT, dtype).values())).dtype.name
    n_networks = len(plain.networks)
    modules = ", ".join(
        f"nn.{name}({', '.join(map(json.dumps, arguments))})"
        for name, arguments in _modules(plain.networks[0])
    )
    name, make = "net", f"nn.Sequential({modules})"
    outputs = _in_python(plain, f"net(torch.as_tensor(X, dtype=torch.{chosen}))")
    if n_networks > 1:
        name, make = "nets", f"nn.ModuleList({make} for _ in range({n_networks}))"
        outputs = f"(sum({outputs} for net in nets) / {n_networks})"
    double = ".double()" if chosen == "float64" else ""
    file = json.dumps(str(path), ensure_ascii=False)
    return [
        "import torch",
        "from torch import nn",
        f"{name} = {make}{double}",
        f"{name}.load_state_dict(torch.load({file}, weights_only=True))",
        *_last_lines(plain, f"{outputs}.detach()"),
    ]


def _import_torch() -> Any:
    try:
        import torch
    except ImportError:
        raise ImportError(
            "exporting to PyTorch needs torch, which is not installed: pip install torch."
        ) from None
    return torch


def _modules(network: PlainNetwork) -> list[tuple[str, tuple[Any, ...]]]:
    """Return the modules of a network: their names in `torch.nn`, and their arguments."""
    found: list[tuple[str, tuple[Any, ...]]] = []
    for fan_in, fan_out in pairwise(network.units):
        found += [("Linear", (fan_in, fan_out)), _MODULES[network.activation]]
    found.pop()
    if network.output not in ("identity", "exp"):  # exp is no module
        found.append(_MODULES[network.output])
    return found


def _sequential(network: PlainNetwork) -> Any:
    """Return the modules as a network."""
    from torch import nn

    return nn.Sequential(*(getattr(nn, name)(*args) for name, args in _modules(network)))


def _is_normalized(plain: PlainModel) -> bool:
    """Return whether the outputs are divided by their sum."""
    return plain.task == "multiclass" and plain.networks[0].output == "logistic"


def _result(plain: PlainModel, outputs: "torch.Tensor") -> "torch.Tensor":
    """Return the probabilities or predictions of one network."""
    import torch

    if plain.networks[0].output == "exp":
        return outputs.exp()
    if plain.task == "binary":
        return torch.cat([1 - outputs, outputs], dim=1)
    if _is_normalized(plain):
        outputs = outputs + torch.finfo(outputs.dtype).tiny
        return outputs / outputs.sum(1, keepdim=True)
    return outputs


def _in_python(plain: PlainModel, outputs: str) -> str:
    """Return how the outputs of one network become those that are averaged."""
    if plain.networks[0].output == "exp":
        return f"{outputs}.exp()"
    if _is_normalized(plain):  # the constant counts where all outputs underflow
        return f"nn.functional.normalize({outputs} + 1e-38, p=1, dim=1, eps=0)"
    return outputs


def _last_lines(plain: PlainModel, outputs: str) -> list[str]:
    """Return the lines that set the results."""
    if not plain.is_classifier:
        return [f"predictions = {outputs}"]
    lines = [f"probabilities = {outputs}"]
    if plain.task == "binary":
        lines = [f"second = {outputs}", "probabilities = torch.cat([1 - second, second], dim=1)"]
    if plain.task == "multilabel":
        return [*lines, "labels = (probabilities > 0.5).int()"]
    assert plain.classes is not None
    classes = plain.classes.tolist()
    if classes == list(range(len(classes))) and not isinstance(classes[0], bool):
        return [*lines, "labels = probabilities.argmax(dim=1)"]
    return [
        *lines,
        f"classes = {classes!r}",
        "labels = [classes[place] for place in probabilities.argmax(dim=1)]",
    ]
