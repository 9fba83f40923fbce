"""The nodes of ONNX graphs that compute as our networks do.

`Graph` makes them by `onnx.helper`; skl2onnx has its own way, see `sklearn_onnx`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastmlp.portable import PlainModel, PlainNetwork

if TYPE_CHECKING:
    import onnx

__all__ = ["OPSET", "Builder", "Graph", "element", "label_classes", "labels", "predictions"]

#: Activations that are operators of later opsets are written out.
OPSET = 13


class Builder(Protocol):
    """What adds nodes to a graph."""

    def constant(self, values: Any, dtype: DTypeLike | None = None) -> str:
        """Add a constant; return its name."""

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; return its name. `domain` is one of the attributes."""


class Graph:
    """A graph in the making.

    Parameters
    ----------
    names : iterable of str
        Names of inputs and outputs, which are not given to others.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: Any, dtype: DTypeLike | None = None) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = self._free(f"constant_{len(self.constants)}")
        array = np.ascontiguousarray(np.asarray(values, dtype)).reshape(np.shape(values))
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; return its name."""
        from onnx import helper

        name = output or self._free(f"{op}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"/{name}", **attributes))
        return name

    def _free(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def predictions(
    graph: Builder, X: str, plain: PlainModel, real: np.dtype, output: str | None = None
) -> str:
    """Add the networks of a model to a graph.

    Parameters
    ----------
    graph : Builder
    X : str
        The inputs of the networks, of shape (N, n_features) and dtype `real`.
    plain : PlainModel
    real : float32 or float64
    output : str, optional
        The name of the result.

    Returns
    -------
    str
        The name of the probabilities or predicted numbers, of shape (N, n_outputs).
    """
    parts = [_network(graph, X, network, plain.task, real) for network in plain.networks]
    total = parts[0]
    for part in parts[1:]:
        total = graph.node("Add", total, part)
    if len(parts) > 1:
        total = graph.node("Div", total, graph.constant(len(parts), real))
    return total if output is None else graph.node("Identity", total, output=output)


def labels(
    graph: Builder,
    probabilities: str,
    plain: PlainModel,
    real: np.dtype,
    output: str | None = None,
) -> str:
    """Add the predicted labels to a graph; return their name."""
    from onnx import TensorProto

    if plain.task == "multilabel":
        is_on = graph.node("Greater", probabilities, graph.constant(0.5, real))
        return graph.node("Cast", is_on, to=TensorProto.INT64, output=output)
    place = graph.node("ArgMax", probabilities, axis=1, keepdims=0)
    return graph.node("Gather", graph.constant(label_classes(plain)), place, output=output)


def label_classes(plain: PlainModel) -> NDArray:
    """Return the classes as a graph has them: int64, or str objects."""
    assert plain.classes is not None
    classes = plain.classes
    if classes.dtype.kind in "biuf":
        whole = classes.astype(np.int64)
        if np.array_equal(whole, classes):
            return whole
    elif all(isinstance(label, str) for label in classes.tolist()):
        return classes.astype(object)
    raise ValueError(
        "labels in ONNX are text or integers of 64 bits, got the classes "
        f"{', '.join(map(repr, classes.tolist()[:5]))}: encode them, for example as text, and "
        "train again."
    )


def _network(graph: Builder, X: str, network: PlainNetwork, task: str, real: np.dtype) -> str:
    """Add one network and what is made of its outputs."""
    if network.input_scale is not None:
        X = _scaled(graph, X, network.input_scale, real)
    for layer, (coef, intercept) in enumerate(zip(network.coefs, network.intercepts, strict=True)):
        X = graph.node("Gemm", X, graph.constant(coef, real), graph.constant(intercept, real))
        is_last = layer == len(network.coefs) - 1
        name = network.output if is_last else network.activation
        if is_last and task == "multiclass" and name == "logistic":  # which is divided by its sum
            X = _gated(graph, graph.constant(1, real), X, real)
        else:
            X = _activated(graph, name, X, real)
    if network.target_scale is not None:
        X = _unscaled(graph, X, network.target_scale, real)
    if task == "binary":
        other = graph.node("Sub", graph.constant(1, real), X)
        return graph.node("Concat", other, X, axis=1)
    if task == "multiclass" and network.output == "logistic":
        X = graph.node("Add", X, graph.constant(np.finfo(real).tiny, real))
        total = graph.node("ReduceSum", X, graph.constant([1], np.int64), keepdims=1)
        return graph.node("Div", X, total)
    return X


def _scaled(graph: Builder, X: str, input_scale: Sequence[NDArray], real: np.dtype) -> str:
    """Return ``scale * X + shift``.

    As scale * (X - center) + rest, with a small rest: the product is then as small as the result,
    and is rounded as little as by the model, which rounds once.
    """
    scale, shift = (part.astype(np.float64) for part in input_scale)
    center = (-shift / np.where(scale == 0, np.inf, scale)).astype(real)
    rest = shift + scale * center
    if center.any():
        X = graph.node("Sub", X, graph.constant(center))
    X = graph.node("Mul", X, graph.constant(scale, real))
    return graph.node("Add", X, graph.constant(rest, real)) if rest.any() else X


def _unscaled(graph: Builder, X: str, target_scale: Sequence[NDArray], real: np.dtype) -> str:
    """Return outputs in the units of the targets: computed in float64, as by the model."""
    scale, shift = (graph.constant(part, np.float64) for part in target_scale)
    wide = graph.node("Cast", X, to=element(np.float64))
    wide = graph.node("Div", graph.node("Sub", wide, shift), scale)
    return graph.node("Cast", wide, to=element(real))


#: Of exponentials that are far from overflow.
_EXPONENTS = {"float32": 87.0, "float64": 690.0}

#: Activations that are operators, and their attributes.
_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "logistic": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "relu": ("Relu", {}),
    "exp": ("Exp", {}),
    "softmax": ("Softmax", {"axis": 1}),
}


def _activated(graph: Builder, name: str, z: str, real: np.dtype) -> str:
    """Add an activation; see `fastmlp.core.functions`."""

    def number(value: float) -> str:
        return graph.constant(value, real)

    if name in _OPERATORS:
        op, attributes = _OPERATORS[name]
        return graph.node(op, z, **attributes)
    match name:
        case "identity":
            return z
        case "leaky_relu":  # the operator of this name is not for float64 in onnxruntime
            return graph.node("Max", z, graph.node("Mul", z, number(0.01)))
        case "silu":
            return _gated(graph, z, z, real)
        case "gelu":  # (1 + tanh(u)) / 2 is the logistic function of 2 u
            cube = graph.node("Mul", graph.node("Mul", z, z), z)
            inner = graph.node("Add", z, graph.node("Mul", cube, number(0.044715)))
            u = graph.node("Mul", inner, number(2 * math.sqrt(2 / math.pi)))
            return _gated(graph, z, u, real)
    raise ValueError(f"the activation {name!r} is not known in ONNX: export another model.")


def _gated(graph: Builder, z: str, u: str, real: np.dtype) -> str:
    """Return z times the logistic function of u.

    As z / (1 + exp(-u)), which has all digits where it is near 0: runtimes bound Sigmoid below, at
    about 1e-8, and 1 + Tanh cancels.
    """
    bound = graph.constant(_EXPONENTS[real.name], real)  # some runtimes divide by inf to NaN
    e = graph.node("Exp", graph.node("Min", graph.node("Neg", u), bound))
    return graph.node("Div", z, graph.node("Add", e, graph.constant(1, real)))


def element(dtype: DTypeLike) -> int:
    """Return ONNX's number of a dtype."""
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
