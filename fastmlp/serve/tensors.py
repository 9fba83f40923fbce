"""Requests and answers of the Open Inference Protocol, version 2.

Tensors are lists in the JSON or, with the binary tensor data extension, bytes behind it. The header
``Inference-Header-Content-Length`` says where the JSON ends.
"""

import json
import math
import operator
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.serve.errors import RequestError
from fastmlp.serve.rows import flat, kind_of, shown
from fastmlp.serve.service import parsed_json

__all__ = [
    "InferRequest",
    "Output",
    "datatype_of",
    "encoded",
    "infer_request",
    "is_tensor_of_bytes",
    "json_bytes",
]

_DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1",
    "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}

_LENGTH_BYTES = 4  # before each element of BYTES
_MOST_DIMENSIONS = 8


@dataclass
class InferRequest:
    """A request for predictions.

    Attributes
    ----------
    id : str or None
    tensors : dict of str to array or list
        Inputs by name: arrays of numbers in their shape, or flat lists of str (BYTES) or None.
    shapes : dict of str to tuple of int
    outputs : dict of str to bool, or None
        The requested outputs, and whether as bytes; None: all.
    is_binary : bool
        Whether outputs are bytes unless they say otherwise.
    """

    id: str | None
    tensors: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    outputs: dict[str, bool] | None = None
    is_binary: bool = False

    @property
    def wants_bytes_only(self) -> bool:
        """Whether all outputs are to be bytes."""
        return self.is_binary if self.outputs is None else all(self.outputs.values())


@dataclass(frozen=True)
class Output:
    """A tensor of an answer.

    Attributes
    ----------
    name : str
    datatype : str
    shape : tuple of int
    numbers : array or None
        Its elements, unless they are text.
    texts : sequence of str
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    numbers: NDArray | None = None
    texts: Sequence[str] = field(default_factory=tuple)

    def as_list(self) -> list[Any]:
        """Return the elements."""
        return list(self.texts) if self.numbers is None else self.numbers.ravel().tolist()

    def as_bytes(self) -> Any:
        """Return the elements as bytes, or an array of them."""
        if self.numbers is not None:
            return np.ascontiguousarray(self.numbers).data.cast("B")
        words = {text: text.encode() for text in set(self.texts)}
        framed = {
            text: len(word).to_bytes(_LENGTH_BYTES, "little") + word for text, word in words.items()
        }
        return b"".join(framed[text] for text in self.texts)


def datatype_of(dtype: np.dtype) -> str:
    """Return the protocol's name of a dtype; BYTES for text and others."""
    return _NAMES.get(dtype.newbyteorder("<") if dtype.itemsize > 1 else dtype, "BYTES")


# ---------------------------------------------------------------------------------------- requests


def infer_request(content: memoryview, json_length: str | None, max_elements: int) -> InferRequest:
    """Read a request.

    Parameters
    ----------
    content : bytes
        The body.
    json_length : str or None
        Value of the header ``Inference-Header-Content-Length``.
    max_elements : int
        Of text tensors.

    Raises
    ------
    RequestError
        If it is invalid.
    """
    n_json = json_bytes(json_length, len(content))
    document = parsed_json(content[:n_json])
    if not isinstance(document, dict):
        raise RequestError(f"the request must be an object, got {kind_of(document)}.")
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise RequestError(f'"id" must be text, got {kind_of(identifier)}.')
    parameters = _parameters(document, "the request")
    request = InferRequest(
        identifier, {}, {}, is_binary=parameters.get("binary_data_output") is True
    )
    rest = content[n_json:]
    for entry in _entries(document, "inputs"):
        rest = _read_input(entry, rest, request, max_elements)
    if not request.tensors:
        raise RequestError('there must be an input in "inputs", got none.')
    if len(rest):
        raise RequestError(
            f"the bytes behind the JSON must be those of the inputs, got {len(rest)} more: say how "
            'many by "binary_data_size".'
        )
    if document.get("outputs") is not None:
        request.outputs = {}
        for entry in _entries(document, "outputs"):
            parameters = _parameters(entry, "an output")
            if "classification" in parameters:
                raise RequestError(
                    'the parameter "classification" of outputs is not supported: ask for "label" '
                    'and "probabilities".'
                )
            wants_bytes = parameters.get("binary_data", request.is_binary)
            request.outputs[_name(entry, "output")] = wants_bytes is True
    return request


def json_bytes(json_length: str | None, n_bytes: int) -> int:
    """Return the length of the JSON in a body.

    Parameters
    ----------
    json_length : str or None
        Value of the header ``Inference-Header-Content-Length``.
    n_bytes : int
        Of the body.

    Raises
    ------
    RequestError
        If it is invalid.
    """
    if json_length is None:
        return n_bytes
    if not (json_length.isascii() and json_length.isdecimal() and len(json_length) < 12):
        raise RequestError(
            f"Inference-Header-Content-Length must be a number of bytes, got {shown(json_length)}."
        )
    if int(json_length) > n_bytes:
        raise RequestError(
            f"Inference-Header-Content-Length must be at most the length of the body, {n_bytes}, "
            f"got {int(json_length)}."
        )
    return int(json_length)


def is_tensor_of_bytes(document: Any) -> bool:
    """Return whether a request has one input, whose bytes are its elements as they are."""
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        return False
    datatype = inputs[0].get("datatype")
    is_plain = isinstance(datatype, str) and datatype in _DTYPES.keys() - {"BOOL", "FP16"}
    return is_plain and "data" not in inputs[0]


def _entries(document: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    entries = document.get(what)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        got = "something else in it" if isinstance(entries, list) else kind_of(entries)
        raise RequestError(f'"{what}" must be a list of objects, got {got}.')
    return entries


def _parameters(document: Mapping[str, Any], what: str) -> dict[str, Any]:
    parameters = document.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(f'"parameters" of {what} must be an object, got {kind_of(parameters)}.')
    if any(name.startswith("shared_memory") for name in parameters):
        raise RequestError("shared memory is not supported: send the tensors themselves.")
    return parameters


def _name(entry: Mapping[str, Any], what: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str):
        raise RequestError(f'"name" of an {what} must be text, got {kind_of(name)}.')
    return name


def _read_input(
    entry: Mapping[str, Any], rest: memoryview, request: InferRequest, max_elements: int
) -> memoryview:
    """Add an input to a request, and return the bytes behind those that belong to it."""
    name = _name(entry, "input")
    if name in request.tensors:
        raise RequestError(f"inputs must have different names, got {shown(name)} twice.")
    datatype = entry.get("datatype")
    if not isinstance(datatype, str) or datatype not in (*_DTYPES, "BYTES", "BF16"):
        raise RequestError(
            f"the datatype of the input {shown(name)} must be one of {', '.join(_DTYPES)}, BF16 or "
            f"BYTES, got {kind_of(datatype)}."
        )
    request.shapes[name] = shape = _shape(entry, name)
    n_bytes = _parameters(entry, f"the input {shown(name)}").get("binary_data_size")
    if n_bytes is None:
        request.tensors[name] = _of_list(entry.get("data"), datatype, shape, name, max_elements)
        return rest
    if isinstance(n_bytes, bool) or not isinstance(n_bytes, int) or n_bytes < 0:
        raise RequestError(
            f'"binary_data_size" of the input {shown(name)} must be a number of bytes, got '
            f"{kind_of(n_bytes)}."
        )
    if entry.get("data") is not None:
        raise RequestError(f'the input {shown(name)} must have "data" or bytes, got both.')
    if n_bytes > len(rest):
        raise RequestError(
            f"the input {shown(name)} must have {n_bytes} bytes behind the JSON, got {len(rest)}."
        )
    request.tensors[name] = _of_bytes(rest[:n_bytes], datatype, shape, name, max_elements)
    return rest[n_bytes:]


def _shape(entry: Mapping[str, Any], name: str) -> tuple[int, ...]:
    shape = entry.get("shape")
    if (
        isinstance(shape, list)
        and 0 < len(shape) <= _MOST_DIMENSIONS
        and all(type(side) is int and 0 <= side < 2**40 for side in shape)
    ):
        return tuple(shape)
    raise RequestError(
        f"the shape of the input {shown(name)} must be a list of one to {_MOST_DIMENSIONS} numbers "
        f"of elements, got {shown(json.dumps(shape))}."
    )


def _check_number(name: str, n_found: int, n_elements: int) -> None:
    if n_found != n_elements:
        raise RequestError(
            f"the input {shown(name)} must have as many elements as its shape says, {n_elements}, "
            f"got {n_found}."
        )


def _of_list(data: Any, datatype: str, shape: tuple[int, ...], name: str, max_elements: int) -> Any:
    """Return the elements of a list as an array, or as a list of texts."""
    if not isinstance(data, list):
        raise RequestError(
            f'the input {shown(name)} must have a list "data", or "binary_data_size" and bytes '
            f"behind the JSON, got {kind_of(data)}."
        )
    if math.prod(shape) > max_elements:
        raise RequestError(f"the input {shown(name)} has too many elements for a request.", 413)
    values = flat(data)
    _check_number(name, len(values), math.prod(shape))
    if datatype != "BYTES":
        return _numbers(values, datatype, shape, name)
    if not all(value is None or isinstance(value, str) for value in values):
        raise RequestError(
            f"the elements of the input {shown(name)} must be text or null, got others."
        )
    return values


def _numbers(values: list[Any], datatype: str, shape: tuple[int, ...], name: str) -> NDArray:
    """Return a list of numbers as an array; null is NaN, if it can be."""
    dtype = np.dtype(np.float32 if datatype == "BF16" else _DTYPES[datatype])
    if dtype.kind == "f" and None in values:
        values = [math.nan if value is None else value for value in values]
    try:
        if dtype.kind in "iu" and dtype.itemsize == 8:  # float64 does not have all of them
            tensor = np.array(list(map(operator.index, values)), dtype)
        else:
            numbers = np.frombuffer(array("d", values))
            with np.errstate(over="ignore", invalid="ignore"):
                tensor = numbers.astype(dtype)
            if dtype.kind != "f" and not np.array_equal(tensor, numbers):
                raise _wrong_elements(name, datatype)
    except (TypeError, OverflowError):
        raise _wrong_elements(name, datatype) from None
    return _widened(tensor.reshape(shape))


def _wrong_elements(name: str, datatype: str) -> RequestError:
    return RequestError(
        f"the elements of the input {shown(name)} must be numbers in the range of {datatype}, got "
        "others."
    )


def _of_bytes(
    content: memoryview, datatype: str, shape: tuple[int, ...], name: str, max_elements: int
) -> Any:
    """Return bytes as an array, without copying them, or as a list of texts."""
    if datatype == "BYTES":
        values = _framed_texts(content, name, max_elements)
        _check_number(name, len(values), math.prod(shape))
        return values
    dtype = np.dtype("<u2" if datatype == "BF16" else _DTYPES[datatype])
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes != len(content):
        raise RequestError(
            f"the input {shown(name)} must have {n_bytes} bytes, as its shape and datatype say, "
            f"got {len(content)}."
        )
    tensor = np.frombuffer(content, dtype).reshape(shape)
    if datatype == "BF16":  # the upper half of a float32
        tensor = (tensor.astype("<u4") << 16).view("<f4")
    if datatype == "BOOL" and tensor.view(np.uint8).max(initial=0) > 1:
        raise _wrong_elements(name, datatype)
    return _widened(tensor)


def _widened(tensor: NDArray) -> NDArray:
    """Return float16, which networks do not read, as float32."""
    return tensor.astype(np.float32) if tensor.dtype == np.float16 else tensor


def _framed_texts(content: memoryview, name: str, max_elements: int) -> list[str | None]:
    """Return texts that each have their length before them."""
    found: list[str | None] = []
    at = 0
    while at < len(content):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(content[at:start], "little")
        if at > len(content) or start > len(content) or len(found) >= max_elements:
            raise RequestError(
                f"the texts of the input {shown(name)} must each be behind their length, within "
                f"{len(content)} bytes, got others."
            )
        try:
            found.append(str(content[start:at], "utf-8"))
        except UnicodeDecodeError:
            raise RequestError(
                f"the texts of the input {shown(name)} must be UTF-8, got something else."
            ) from None
    return found


# ----------------------------------------------------------------------------------------- answers


def encoded(
    request: InferRequest,
    model_name: str,
    version: str,
    outputs: Mapping[str, Callable[[], Output]],
) -> tuple[dict[str, Any], list[Any]]:
    """Return the JSON of an answer, and the bytes that follow it.

    Parameters
    ----------
    request : InferRequest
    model_name, version : str
    outputs : dict of str to callable
        Return the outputs of the model.

    Raises
    ------
    RequestError
        If another output is requested.
    """
    wanted = request.outputs
    if wanted is None:
        wanted = dict.fromkeys(outputs, request.is_binary)
    entries: list[dict[str, Any]] = []
    parts: list[Any] = []
    for name, is_binary in wanted.items():
        if name not in outputs:
            raise RequestError(f"an output must be one of {', '.join(outputs)}, got {shown(name)}.")
        output = outputs[name]()
        entry: dict[str, Any] = {
            "name": name,
            "datatype": output.datatype,
            "shape": list(output.shape),
        }
        if is_binary:
            parts.append(output.as_bytes())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = output.as_list()
        entries.append(entry)
    document: dict[str, Any] = {"model_name": model_name, "model_version": version}
    if request.id is not None:
        document["id"] = request.id
    return {**document, "outputs": entries}, parts
