"""The text of a C header, made of a model's numbers and of the parts in model.h.in."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from itertools import starmap
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fastmlp.export.c_numbers import (
    ByteNetwork,
    arrays_of,
    is_scaled_alike,
    network_inputs,
    with_arrays,
)
from fastmlp.portable import PlainColumn, PlainModel, PlainNetwork

__all__ = ["Recorded", "header_text", "part", "read_header"]

#: What an activation puts in place of z[j].
_FORMULAS = {
    "logistic": "1.0f / (1.0f + expf(-z[j]))",
    "tanh": "tanhf(z[j])",
    "relu": "z[j] < 0.0f ? 0.0f : z[j]",
    "leaky_relu": "z[j] > 0.0f ? z[j] : 0.01f * z[j]",
    "gelu": "0.5f * z[j] * (1.0f + tanhf(0.797884561f * (z[j] + 0.044715f * z[j] * z[j] * z[j])))",
    "silu": "z[j] / (1.0f + expf(-z[j]))",
    "exp": "expf(z[j])",
}

_N_RECORDED = 4


@dataclass(frozen=True)
class Recorded:
    """Rows, what a header is to predict for them, and how far it may be off.

    Attributes
    ----------
    x : array of shape (n_rows, n_features), uint8 or float32
    outputs : array of shape (n_rows, n_outputs), float32
    tolerance : float
    """

    x: NDArray
    outputs: NDArray[np.float32]
    tolerance: float

    @classmethod
    def of(cls, model: PlainModel, numbers: NDArray) -> Self:
        """Choose some of the rows that a header reads, with finite predictions."""
        inputs = network_inputs(model, numbers)
        with np.errstate(all="ignore"):
            outputs = model.probabilities(inputs).astype(np.float32)
        chosen = np.flatnonzero(np.isfinite(outputs).all(axis=1))
        if not len(chosen):
            raise ValueError(
                "the predictions must be finite in float32, with which C computes, but those for "
                "all rows overflow: scale inputs and targets, and train the model anew."
            )
        chosen = chosen[:: -(-len(chosen) // _N_RECORDED)]
        outputs = outputs[chosen]
        size = 1.0 if model.is_classifier else float(np.abs(outputs).max())
        if isinstance(model.networks[0], ByteNetwork):  # a number may be rounded to the next byte
            tolerance = 0.02 * size
        else:
            precise = model.mapped(_in_float64).probabilities(inputs[chosen])
            tolerance = max(1e-5 * size, 16 * float(np.abs(outputs - precise).max()))
        return cls(numbers[chosen], outputs, tolerance)


def _in_float64(network: PlainNetwork) -> PlainNetwork:
    arrays = {key: array.astype(np.float64) for key, array in arrays_of(network).items()}
    return with_arrays(network, arrays)


# --------------------------------------------------------------------------------------- constants


def _array(c_type: str, name: str, values: NDArray) -> str:
    """Return the definition of an array of numbers."""
    if values.dtype.kind == "f":  # as many digits as float32 needs
        texts = values.ravel().astype(np.float32).astype(str).tolist()
        literals, per_line = ["NAN" if text == "nan" else f"{text}f" for text in texts], 6
    else:
        literals, per_line = values.ravel().astype(str).tolist(), 20
    body = _lines([literals[i : i + per_line] for i in range(0, len(literals), per_line)])
    size = " * ".join(map(str, values.shape))
    return f"static const {c_type} {name}[{size}] = {{{body}}};"


def _lines(rows: Sequence[Sequence[str]]) -> str:
    lines = [", ".join(row) for row in rows]
    if len(lines) == 1 and len(lines[0]) < 50:
        return lines[0]
    return "\n    " + ",\n    ".join(lines) + "\n"


def _string(text: str) -> str:
    """Return a C string; all that is not harmless ASCII is written as bytes of UTF-8."""
    harmless = set(range(32, 127)) - set(b'"\\?')  # two question marks may be a trigraph
    data = text.encode("utf-8", "surrogatepass")
    return '"' + "".join(chr(byte) if byte in harmless else f"\\{byte:03o}" for byte in data) + '"'


def _words(name: str, words: Sequence[str]) -> str:
    """Return the definition of an array of strings."""
    literals = list(map(_string, words))
    is_short = sum(map(len, literals)) < 60
    body = _lines([literals] if is_short else [[literal] for literal in literals])
    return f"static const char *const {name}[{len(literals)}] = {{{body}}};"


def _classes(name: str, classes: NDArray) -> str:
    """Return the definition of the array of classes."""
    values = classes.tolist()
    if classes.dtype.kind == "f":
        return f"static const double {name}[{len(values)}] = {{{', '.join(map(repr, values))}}};"
    largest = max(map(abs, values)) if classes.dtype.kind in "biu" else 2**63
    if largest < 2**63:
        c_type = "int32_t" if largest < 2**31 else "int64_t"
        return _array(c_type, name, classes.astype(np.int64))
    return _words(name, list(map(str, values)))


def _checksum(arrays: Sequence[NDArray]) -> tuple[int, int]:
    """Return the sum of all numbers' bits, and of its values after each of them."""
    words = np.concatenate(
        [
            array.ravel().view(np.uint32)
            if array.dtype == np.float32
            else array.ravel().astype(np.int32).view(np.uint32)
            for array in arrays
        ]
    )
    sums = np.cumsum(words, dtype=np.uint32)
    return int(sums[-1]), int(sums.sum(dtype=np.uint32))


# ------------------------------------------------------------------------------------------ header


@cache
def _parts() -> dict[str, str]:
    """Return the parts of model.h.in by name."""
    text = files("fastmlp.export").joinpath("model.h.in").read_text("utf-8")
    _, *found = re.split(r"^// (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(found[::2], found[1::2], strict=True))


def part(key: str, name: str, **values: str) -> str:
    """Return a part of model.h.in with another name, and values in place of names between @."""
    names = {"model": name, "MODEL": name.upper()}
    text = re.sub(r"\bmodel(?=[_.:])|\bMODEL(?=_)", lambda found: names[found[0]], _parts()[key])
    return re.sub("@([a-z0-9_]+)@", lambda found: values[found[1]], text)


def header_text(name: str, model: PlainModel, recorded: Recorded) -> str:
    """Return the text of a header.

    Parameters
    ----------
    name : str
    model : PlainModel
        With the numbers to be stored.
    recorded : Recorded
    """
    header = _Header(name, model)
    body = header.constants() + header.arithmetic() + header.encoding() + header.functions()
    return header.head(body) + body + header.self_test(recorded)


class _Header:
    """The sections of a header."""

    def __init__(self, name: str, model: PlainModel) -> None:
        self._name = name
        self._model = model
        self._columns = () if model.table is None else model.table.columns
        self._kind = {"regression": "numbers", "multilabel": "labels"}.get(model.task, "classes")
        self._is_int8 = isinstance(model.networks[0], ByteNetwork)
        layers = _ByteLayers if self._is_int8 else _Layers
        self._networks = [
            layers(name, prefix, network)
            for prefix, network in zip(_prefixes(name, model), model.networks, strict=True)
        ]

    def _part(self, key: str, **values: str) -> str:
        n_inputs = "N_INPUTS" if self._columns else "N_FEATURES"
        return part(key, self._name, n_inputs=n_inputs, **values)

    # ----------------------------------------------------------------------------------- the head

    def head(self, body: str) -> str:
        """Return the comment that describes the header, and the includes."""
        called = sorted(set(re.findall(r"\b(?:exp|tanh|fabs|sqrt|fmin|fmax)f(?=\()", body)))
        has_strings = "strcmp(" in body
        return self._part(
            "head",
            title=self._title(),
            usage=self._usage(),
            rounding=self._part("usage int8") if self._is_int8 else "",
            functions=", ".join([*called, *(["strcmp"] if has_strings else [])]),
            includes="\n#include <string.h>" if has_strings else "",
        )

    def _title(self) -> str:
        model, n_networks = self._model, len(self._networks)
        which = model.estimator if n_networks == 1 else f"mean of {n_networks} {model.estimator}s"
        *most, last = map(str, model.networks[0].units)
        dtype = "int8" if self._is_int8 else "float32"
        return (
            f"{which} of {', '.join(most)} and {last} units, {dtype}, exported by fastmlp "
            f"{version('fastmlp')}."
        )

    def _usage(self) -> str:
        kind = self._kind
        text = self._part(f"usage {kind}")
        if self._columns:
            words = self._part("usage words") if any(map(_words_of, self._columns)) else ""
            return text + words + self._part("usage columns")
        odd = {
            "classes": "the index is -1 and all probabilities are NaN",
            "labels": "all labels are -1 and all probabilities are NaN",
            "numbers": "all predictions are NaN",
        }
        functions = ["predict_u8"] if kind == "numbers" else ["predict_u8", "predict_proba_u8"]
        same = ", ".join(f"{self._name}_{function}" for function in functions)
        return text + self._part("usage features", same=same, odd=odd[kind])

    # ------------------------------------------------------------------------------ its constants

    def constants(self) -> str:
        """Return the sizes, the names and the numbers."""
        model, upper = self._model, self._name.upper()
        sizes = {"N_FEATURES": len(self._columns) or model.n_features}
        if self._columns:
            sizes["N_INPUTS"] = model.n_features
        sizes["N_OUTPUTS"] = model.n_outputs
        if model.is_classifier:
            sizes["N_CLASSES"] = model.n_outputs
        sizes["SCRATCH_BYTES"] = self._scratch_bytes()
        lines = ["", *(f"#define {upper}_{key} {size}" for key, size in sizes.items())]
        lines += self._features()
        if model.classes is not None:
            lines += ["", _classes(f"{self._name}_classes", model.classes)]
        return "\n".join([*lines, "", *starmap(_array, self._arrays()), ""])

    def _features(self) -> list[str]:
        """Return the lines of a macro with the names of what is read, if they are known."""
        names = [column.name for column in self._columns] or self._model.feature_names or []
        kinds = [f", {column.kind}" for column in self._columns] or [""] * len(names)
        if not names:
            return []
        lines = [
            f"    {_string(name)}, /* {place}{kind} */"
            for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
        ]
        return ["", " \\\n".join([f"#define {self._name.upper()}_FEATURES {{", *lines, "}"])]

    def _arrays(self) -> list[tuple[str, str, NDArray]]:
        """Return C type, name and values of the arrays of numbers."""
        return [
            ("int8_t" if array.dtype == np.int8 else "float", f"{network.prefix}_{key}", array)
            for network in self._networks
            for key, array in network.arrays.items()
        ]

    def _scratch_bytes(self) -> int:
        """Return the size of all arrays on the stack, at most."""
        n_floats = self._model.n_outputs * (1 + (len(self._networks) > 1))
        n_floats += self._model.n_features if self._columns else 0
        return 4 * n_floats + max(network.scratch_bytes() for network in self._networks)

    # ----------------------------------------------------------------------------- its arithmetic

    def arithmetic(self) -> str:
        """Return the functions that compute the outputs for inputs."""
        networks = self._networks
        keys = dict.fromkeys(key for network in networks for key in network.parts())
        activations = {key for network in networks for key in network.activations()}
        is_normalised = self._model.task == "multiclass" and "logistic" in {
            network.output for network in self._model.networks
        }
        return "".join(
            [
                *map(self._part, ["finite", *keys]),
                *(
                    self._part("activation", activation=key, formula=_FORMULAS[key])
                    for key in sorted(activations & set(_FORMULAS))
                ),
                self._part("softmax") if "softmax" in activations else "",
                self._part("normalise") if is_normalised else "",
                *(network.text(self._finish(is_normalised)) for network in networks),
                self._part("outputs", networks="\n".join(self._calls())),
            ]
        )

    def _finish(self, is_normalised: bool) -> list[str]:
        """Return what makes probabilities of the outputs of a network."""
        if self._model.task == "binary":
            return ["outputs[1] = outputs[0];", "outputs[0] = 1.0f - outputs[1];"]
        if is_normalised:
            return [f"{self._name}_normalise(outputs, {self._model.n_outputs});"]
        return []

    def _calls(self) -> list[str]:
        """Return what computes the mean of the networks' outputs."""
        functions = [f"{network.prefix}_network" for network in self._networks]
        if len(functions) == 1:
            return [f"    {functions[0]}(x, bytes, outputs);"]
        loop = f"    for (int j = 0; j < {self._name.upper()}_N_OUTPUTS; j++)"
        lines = [f"    float own[{self._name.upper()}_N_OUTPUTS];"]
        lines += [f"    {functions[0]}(x, bytes, outputs);"]
        for function in functions[1:]:
            lines += [f"    {function}(x, bytes, own);", loop, "        outputs[j] += own[j];"]
        return [*lines, loop, f"        outputs[j] /= {len(functions)}.0f;"]

    # -------------------------------------------------------------------------------- its columns

    def encoding(self) -> str:
        """Return the functions that compute inputs from the columns of a table."""
        if not self._columns:
            return ""
        kinds = {_encoder(column) for column in self._columns}
        lists = [_words_of(column) for column in self._columns]
        definitions, lines, cases = [], [], []
        for place, (column, words) in enumerate(zip(self._columns, lists, strict=True)):
            lines.append(self._encode(place, column))
            if column.inputs:
                places = np.array(list(column.inputs.values()))
                definitions.append(_array("int", f"{self._name}_places_{place}", places))
            if words:
                definitions.append(_words(f"{self._name}_words_{place}", words))
                other = "-1.0f" if column.kind == "category" else "NAN"
                cases.append(
                    f"    case {place}:\n        return {self._name}_find(text, "
                    f"{self._name}_words_{place}, {len(words)}, {other});"
                )
        return "".join(
            [
                "\n".join(["", *definitions, ""]) if definitions else "",
                self._part("encode head"),
                *(self._part(f"encode {kind}") for kind in sorted(kinds)),
                self._part("encode", columns="\n".join(lines)),
                self._part("words", cases="\n".join(cases)) if cases else "",
            ]
        )

    def _encode(self, place: int, column: PlainColumn) -> str:
        """Return the call that sets the inputs of a column."""
        kind = _encoder(column)
        center, scale = (_literal(value) for value in (column.center, column.scale))
        places = f"{self._name}_places_{place}" if column.inputs else "0"
        arguments = {
            "number": f"{center}, {scale}, {column.input}",
            "binary": f"{center}, {column.input}",
            "category": f"{places}, {len(column.inputs)}, {column.unknown}",
        }
        call = (
            f"{self._name}_encode_{kind}(x[{place}], {arguments[kind]}, {column.missing}, inputs)"
        )
        return f"    {call};"

    # ------------------------------------------------------------------------------ its functions

    def functions(self) -> str:
        """Return the functions that predict."""
        kinds = {
            "classes": ["classifier", "predict probabilities", "predict class"],
            "labels": ["multilabel", "predict probabilities", "predict labels"],
            "numbers": ["predict numbers"],
        }
        calls = [("", "float", f"{self._name}_outputs(x, 0,")]
        if self._columns:
            calls = [("", "float", f"{self._name}_table_outputs(x,")]
        else:
            calls.append(("_u8", "uint8_t", f"{self._name}_outputs(0, x,"))
        return "".join(
            self._part(key, suffix=suffix, type=c_type, outputs=outputs)
            for suffix, c_type, outputs in calls
            for key in kinds[self._kind]
            if not suffix or key.startswith("predict")
        )

    # ------------------------------------------------------------------------------ its self-test

    def self_test(self, recorded: Recorded) -> str:
        """Return the function that tests the header, and the program."""
        arrays = self._arrays()
        first, second = _checksum([array for _, _, array in arrays])
        kinds = {"float": "floats", "int8_t": "int8"}
        sums = [
            f"    {self._name}_sum_{kinds[c_type]}({name}, {array.size}, sums);"
            for c_type, name, array in arrays
        ]
        x_type = "uint8_t" if recorded.x.dtype == np.uint8 else "float"
        function = "predict" if self._kind == "numbers" else "predict_proba"
        return self._part(
            "self-test",
            n_tests=str(len(recorded.x) + 1),
            tolerance=_literal(recorded.tolerance),
            recorded="\n".join(
                [
                    _array(x_type, f"{self._name}_recorded_x", recorded.x),
                    _array("float", f"{self._name}_recorded_outputs", recorded.outputs),
                ]
            ),
            sum_int8=self._part("sum int8") if any(c == "int8_t" for c, *_ in arrays) else "",
            sums="\n".join(sums),
            sum_0=str(first),
            sum_1=str(second),
            predict=function + ("_u8" if x_type == "uint8_t" else ""),
        )


def _literal(value: float) -> str:
    """Return a float constant."""
    return f"{np.float32(value)!s}f"


def _words_of(column: PlainColumn) -> list[str]:
    """Return the words of a column, in the order of their numbers."""
    return list(column.inputs) if column.kind == "category" else list(column.words or ())


def _encoder(column: PlainColumn) -> str:
    """Return which function sets the inputs of a column."""
    if column.kind == "category":
        return "category"
    return "binary" if column.is_binary else "number"


def _wrapped(line: str) -> str:
    """Return a statement in lines that are not too long."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(line, 100, subsequent_indent=indent, break_long_words=False)


class _Layers:
    """The function that computes the outputs of a network in float32."""

    def __init__(self, name: str, prefix: str, network: PlainNetwork) -> None:
        self._name = name
        self.prefix = prefix
        self._network = network
        self.arrays = arrays_of(network)

    def parts(self) -> list[str]:
        """Return the parts that it calls."""
        return ["float32 first layer", "float32 layer"][: len(self._network.coefs)]

    def activations(self) -> set[str]:
        """Return the activations that it calls."""
        network = self._network
        return {network.output, *([network.activation] if len(network.coefs) > 1 else [])}

    def scratch(self) -> dict[str, tuple[str, int]]:
        """Return C type and length of the arrays on the stack."""
        hidden = self._network.units[1:-1]
        names = {"odd": hidden[::2], "even": hidden[1::2]}
        return {name: ("float", max(widths)) for name, widths in names.items() if widths}

    def scratch_bytes(self) -> int:
        """Return their size."""
        sizes = {"float": 4, "int32_t": 4, "uint8_t": 1}
        return sum(sizes[c_type] * length for c_type, length in self.scratch().values())

    def text(self, finish: Sequence[str]) -> str:
        """Return it, with statements that follow the last layer."""
        network = self._network
        n_layers = len(network.coefs)
        lines = [f"{c_type} {name}[{size}];" for name, (c_type, size) in self.scratch().items()]
        read = ""
        for layer in range(n_layers):
            is_last = layer == n_layers - 1
            into = "outputs" if is_last else ["odd", "even"][layer % 2]
            lines += self._layer(layer, read, into) if layer else self._first_layer(into)
            activation = network.output if is_last else network.activation
            if activation != "identity":
                lines.append(f"{self._name}_{activation}({into}, {network.units[layer + 1]});")
            read = into
        if network.target_scale is not None:
            scale, shift = (f"{self.prefix}_target_{key}[j]" for key in ("scale", "shift"))
            lines.append(f"for (int j = 0; j < {network.units[-1]}; j++)")
            lines.append(f"    outputs[j] = outputs[j] * {scale} + {shift};")
        body = "\n".join(_wrapped(f"    {line}") for line in [*lines, *finish])
        return (
            f"\nstatic inline void {self.prefix}_network(const float *x, const uint8_t *bytes, "
            f"float *outputs)\n{{\n{body}\n}}\n"
        )

    def _scaled(self, value: str) -> str:
        """Return the expression for an input after scaling."""
        for key, operator in (("input_scale", "*"), ("input_shift", "+")):
            if key in self.arrays:
                index = 0 if is_scaled_alike(self._network) else "i"
                value += f" {operator} {self.prefix}_{key}[{index}]"
        return value

    def _numbers(self, layer: int, *keys: str) -> str:
        """Return the names of the arrays of a layer."""
        return ", ".join(f"{self.prefix}_{key}_{layer + 1}" for key in keys)

    def _first_layer(self, into: str) -> list[str]:
        n_inputs, n_units = self._network.units[:2]
        weights, biases = self._numbers(0, "weights"), self._numbers(0, "biases")
        value = self._scaled("value")
        return [
            f"{self._name}_start({biases}, {n_units}, {into});",
            f"for (int i = 0; i < {n_inputs}; i++) {{",
            "    const float value = bytes ? (float)bytes[i] : x[i];",
            f"    {self._name}_add({value}, {weights} + i * {n_units}, {n_units}, {into});",
            "}",
        ]

    def _layer(self, layer: int, read: str, into: str) -> list[str]:
        n_inputs, n_units = self._network.units[layer : layer + 2]
        numbers = self._numbers(layer, "weights", "biases")
        return [f"{self._name}_layer({read}, {n_inputs}, {numbers}, {n_units}, {into});"]


class _ByteLayers(_Layers):
    """The function that computes the outputs of a network in int8."""

    def parts(self) -> list[str]:
        return ["int8 layer"]

    def scratch(self) -> dict[str, tuple[str, int]]:
        units = self._network.units
        arrays = super().scratch()
        arrays["products"] = "int32_t", max(units[1:])
        arrays["rounded"] = "uint8_t", max(units[:-1])
        if not is_scaled_alike(self._network):
            arrays["scaled"] = "float", units[0]
        return arrays

    def _first_layer(self, into: str) -> list[str]:
        n_inputs = self._network.units[0]
        name = self._name
        if not is_scaled_alike(self._network):
            value = self._scaled("(bytes ? (float)bytes[i] : x[i])")
            return [
                f"for (int i = 0; i < {n_inputs}; i++)",
                f"    scaled[i] = {value};",
                f"{name}_rounded from = {name}_round(scaled, {n_inputs}, rounded);",
                self._products(0, into),
            ]
        lines = [
            f"{name}_rounded from = {{bytes, 0.0f, 1.0f}};",
            "if (!bytes)",
            f"    from = {name}_round(x, {n_inputs}, rounded);",
        ]
        if "input_scale" in self.arrays:
            lines.append(f"from.low = {self._scaled('from.low')};")
            lines.append(f"from.step *= {self.prefix}_input_scale[0];")
        return [*lines, self._products(0, into)]

    def _layer(self, layer: int, read: str, into: str) -> list[str]:
        n_inputs = self._network.units[layer]
        return [
            f"from = {self._name}_round({read}, {n_inputs}, rounded);",
            self._products(layer, into),
        ]

    def _products(self, layer: int, into: str) -> str:
        n_inputs, n_units = self._network.units[layer : layer + 2]
        numbers = self._numbers(layer, "weights", "scales", "totals", "biases")
        return f"{self._name}_layer(from, {n_inputs}, {numbers}, {n_units}, products, {into});"


# --------------------------------------------------------------------------------------- reading


def _prefixes(name: str, model: PlainModel) -> list[str]:
    """Return what the names of the arrays of each network begin with."""
    n_networks = len(model.networks)
    return [name] if n_networks == 1 else [f"{name}_{i + 1}" for i in range(n_networks)]


def read_header(header: str, model: PlainModel) -> tuple[str, PlainModel]:
    """Return the name in a header, and the model with the header's numbers.

    Raises
    ------
    ValueError
        If it is no header of this model.
    """
    function = re.search(r"^static inline \w+ (\w+)_predict\(", header, flags=re.MULTILINE)
    definitions = re.finditer(
        r"^static const (float|int8_t) (\w+)\[[^]]*\] = \{([^}]*)\};", header, flags=re.MULTILINE
    )
    try:
        arrays = {found[2]: _parsed(found[1], found[3]) for found in definitions}
        if function is None:
            raise KeyError("predict")
        networks = [
            with_arrays(
                network,
                {
                    key.removeprefix(f"{prefix}_"): array
                    for key, array in arrays.items()
                    if key.startswith(f"{prefix}_")
                },
            )
            for prefix, network in zip(_prefixes(function[1], model), model.networks, strict=True)
        ]
    except (KeyError, ValueError):
        raise ValueError(
            "the header must be one of this model, but its arrays or functions have other names "
            "or sizes: export the model anew."
        ) from None
    return function[1], replace(model, networks=tuple(networks))


def _parsed(c_type: str, body: str) -> NDArray:
    """Return the numbers of an initialiser."""
    if c_type == "int8_t":
        return np.array([int(text) for text in body.split(",")], np.int8)
    return np.array(body.replace("f", "").replace("NAN", "nan").split(","), np.float32)
