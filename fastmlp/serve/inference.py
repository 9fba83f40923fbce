"""The Open Inference Protocol: ``/v2``, as clients of Triton and KServe speak it."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fastmlp.serve.connections import LargeBody
from fastmlp.serve.errors import RequestError
from fastmlp.serve.models import ServedModel
from fastmlp.serve.predicting import Outcome, joined
from fastmlp.serve.rows import ALONE_BYTES, NumberRows, shown
from fastmlp.serve.service import Service, json_answer, parsed_json
from fastmlp.serve.tensors import (
    InferRequest,
    Output,
    datatype_of,
    encoded,
    infer_request,
    is_tensor_of_bytes,
    json_bytes,
)

__all__ = ["metadata", "routes"]

_VERSION = "1"  # of every model
_JSON_LENGTH = "Inference-Header-Content-Length"
_INPUT = "input"

#: Bytes of the rows that are predicted while others arrive; starting threads for fewer takes longer
#: than it saves.
_PART_BYTES = 4 << 20

#: Datatypes of the columns of tables. Booleans that are written as words are BYTES.
_OF_KIND = {"number": "FP64", "boolean": "BOOL", "date": "BYTES", "category": "BYTES"}


def routes(service: Service) -> list[Route]:
    """Return the routes of the protocol."""

    def model_of(request: Request) -> ServedModel:
        model = service.model_of(request)
        asked = request.path_params.get("version", _VERSION)
        if asked != _VERSION:
            raise RequestError(
                f"the model {model.name!r} has the version {_VERSION} only, got {shown(asked)}.",
                404,
            )
        return model

    async def infer(request: Request) -> Response:
        model = model_of(request)
        json_length = request.headers.get(_JSON_LENGTH)
        async with service.arriving(request) as (large, _):
            if large is not None and json_length is not None and model.batches.is_row_wise:
                if (answer := await _in_parts(service, model, large, json_length)) is not None:
                    return answer
        async with service.body(request) as content:
            asked, X = await service.decoded(content, _read, json_length, model)
            return await _answered(service, model, asked, await service.predict(model, X))

    async def server(request: Request) -> Response:
        extensions = ["binary_tensor_data"]
        return json_answer(
            {"name": "fastmlp", "version": version("fastmlp"), "extensions": extensions}
        )

    async def live(request: Request) -> Response:
        return json_answer({"live": True})

    async def ready(request: Request) -> Response:
        return json_answer({"ready": True})

    async def model_ready(request: Request) -> Response:
        return json_answer({"name": model_of(request).name, "ready": True})

    async def model(request: Request) -> Response:
        return json_answer(metadata(model_of(request)))

    found = []
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        found += [
            Route(f"{path}/infer", infer, methods=["POST"]),
            Route(f"{path}/ready", model_ready),
            Route(path, model),
        ]
    return [
        *found,
        Route("/v2", server),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
    ]


def metadata(model: ServedModel) -> dict[str, Any]:
    """Return what the protocol says of a model: the names, datatypes and shapes of its tensors."""
    if isinstance(model.rows, NumberRows):
        datatype = "UINT8" if model.shape is not None else datatype_of(model.rows.dtype)
        inputs = [
            {"name": _INPUT, "datatype": datatype, "shape": [-1, model.rows.n_features or -1]}
        ]
    else:
        columns = {column["name"]: column for column in model.columns}
        inputs = [
            {"name": name, "datatype": _datatype_of_column(columns.get(name, {})), "shape": [-1]}
            for name in model.rows.names
        ]
    outputs = [
        {"name": name, "datatype": output().datatype, "shape": [-1, *output().shape[1:]]}
        for name, output in _outputs(model, model.example).items()
    ]
    return {
        "name": model.name,
        "versions": [_VERSION],
        "platform": "fastmlp",
        "inputs": inputs,
        "outputs": outputs,
    }


def _datatype_of_column(column: Mapping[str, Any]) -> str:
    kind = column.get("kind", "category")
    if kind == "boolean" and not all(isinstance(value, bool) for value in column["values"]):
        return "BYTES"
    return _OF_KIND[kind]


async def _in_parts(
    service: Service, model: ServedModel, large: LargeBody, json_length: str
) -> Response | None:
    """Predict rows while later ones arrive; return None if the request is not such."""
    n_json = json_bytes(json_length, large.n_bytes)
    document = parsed_json((await large.first(n_json))[:n_json])
    if not is_tensor_of_bytes(document):
        return None
    # The array is there, but not yet what is in it.
    asked, X = _read(await large.first(n_json), json_length, model)
    if X.nbytes < ALONE_BYTES:
        return None
    row_bytes = X.nbytes // len(X)
    part_rows = max(_PART_BYTES // row_bytes, 1)
    parts, start = [], 0
    while start < len(X):
        await large.first(n_json + min(start + part_rows, len(X)) * row_bytes)
        stop = min((large.n_received - n_json) // row_bytes, len(X))
        parts.append(await service.predict(model, X[start:stop]))
        start = stop
    await large.complete()
    return await _answered(service, model, asked, joined(parts))


def _read(
    content: memoryview, json_length: str | None, model: ServedModel
) -> tuple[InferRequest, Any]:
    """Return a request, and its rows as the model takes them."""
    rows = model.rows
    names = [_INPUT] if isinstance(rows, NumberRows) else rows.names
    max_elements = rows.max_rows * max(len(names), model.about["n_features"], 1)
    asked = infer_request(content, json_length, max_elements)
    for name in asked.tensors:
        if name not in names:
            shown_names = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
            raise RequestError(f"an input must be one of {shown_names}, got {shown(name)}.")
    if isinstance(rows, NumberRows):
        tensor = asked.tensors[_INPUT]
        if isinstance(tensor, list):
            raise RequestError(f"the input {_INPUT!r} must be numbers, got BYTES.")
        return asked, rows.of_tensor(tensor)
    for name, shape in asked.shapes.items():
        if shape[1:] not in ((), (1,)):
            raise RequestError(
                f"the shape of the input {shown(name)} must be [n] or [n, 1], a value per row, got "
                f"{list(shape)}."
            )
    return asked, rows.of_columns(
        {
            name: tensor if isinstance(tensor, list) else tensor.ravel().tolist()
            for name, tensor in asked.tensors.items()
        }
    )


async def _answered(
    service: Service, model: ServedModel, asked: InferRequest, outcome: Outcome
) -> Response:
    if asked.wants_bytes_only:  # which takes no time
        return _answer(outcome, model, asked)
    return await service.encoded(outcome, _answer, model, asked)


def _answer(outcome: Outcome, model: ServedModel, asked: InferRequest) -> Response:
    document, parts = encoded(asked, model.name, _VERSION, _outputs(model, outcome))
    if not parts:
        return json_answer(document)
    head = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    return Response(
        b"".join([head, *parts]),
        headers={_JSON_LENGTH: str(len(head))},
        media_type="application/octet-stream",
    )


def _outputs(model: ServedModel, outcome: Outcome) -> dict[str, Callable[[], Output]]:
    """Return the outputs of a model."""
    if not model.is_classifier:
        return {"prediction": partial(_output, "prediction", outcome.values)}
    outputs: dict[str, Callable[[], Output]] = {"label": partial(_output, "label", outcome.values)}
    if outcome.probabilities is not None:
        outputs["probabilities"] = partial(_output, "probabilities", outcome.probabilities)
    return outputs


def _output(name: str, values: NDArray) -> Output:
    datatype = datatype_of(values.dtype)
    if datatype == "BYTES":
        return Output(name, datatype, values.shape, texts=list(map(str, values.ravel().tolist())))
    return Output(name, datatype, values.shape, values)
