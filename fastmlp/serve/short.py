"""The short form of the API: ``POST /predict`` and what the page asks for."""

import json
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fastmlp.serve import explaining
from fastmlp.serve.answers import csv_answer, predictions_answer, wants_csv
from fastmlp.serve.errors import RequestError
from fastmlp.serve.models import ServedModel
from fastmlp.serve.pictures import is_picture, read_picture
from fastmlp.serve.rows import NumberRows, kind_of
from fastmlp.serve.service import Service, json_answer, parsed_json
from fastmlp.serve.tables import read_csv

__all__ = ["routes"]


def routes(service: Service) -> list[Route]:
    """Return the routes of the short form."""

    async def predict(request: Request) -> Response:
        model = service.model_of(request)
        async with service.body(request) as content:
            kind = _kind_of_body(request, content)
            if kind == "csv":
                return await _predict_csv(service, request, model, content)
            note = None
            if kind == "picture":
                X, note = await service.in_thread(_picture, model, content)
            else:
                X = await service.decoded(content, _rows, model)
            outcome = await service.predict(model, X)
        if wants_csv(request):
            return await service.encoded(outcome, csv_answer, model)
        return await service.encoded(outcome, predictions_answer, model, note)

    async def explain(request: Request) -> Response:
        model = service.model_of(request)
        async with service.body(request) as content:
            document = await service.decoded(content, parsed_json)
        if not isinstance(document, dict):
            raise RequestError(f"the body must be an object, got {kind_of(document)}.")
        if model.shape is not None:
            return json_answer(await explaining.pixels(service, model, document))
        return json_answer(await explaining.columns(service, model, document))

    async def unit(request: Request) -> Response:
        return json_answer(explaining.unit(service.model_of(request), request.path_params["unit"]))

    async def models(request: Request) -> Response:
        return json_answer([model.about for model in service.library])

    async def model(request: Request) -> Response:
        return json_answer(service.model_of(request).about)

    return [
        Route("/predict", predict, methods=["POST"]),
        Route("/models/{name}/predict", predict, methods=["POST"]),
        Route("/models/{name}/explain", explain, methods=["POST"]),
        Route("/models/{name}/units/{unit}", unit),
        Route("/models", models),
        Route("/models/{name}", model),
    ]


def _kind_of_body(request: Request, content: memoryview) -> str:
    """Return what a body is: "csv", "picture" or "json"."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/csv":
        return "csv"
    if kind.startswith("image/"):
        return "picture"
    if kind == "multipart/form-data":
        raise RequestError(
            "the body must be JSON, CSV or a picture itself, got a form: send the file as the "
            "body, with its Content-Type.",
            415,
        )
    # What curl says of anything, if it is told nothing else, or what browsers do not know.
    is_unknown = kind in ("", "application/octet-stream", "application/x-www-form-urlencoded")
    if not is_unknown:
        return "json"
    if is_picture(content):
        return "picture"
    start = bytes(content[:64]).lstrip()[:1]
    return "json" if start in (b"", b"[", b"{") else "csv"


def _rows(content: memoryview, model: ServedModel) -> Any:
    """Return the rows of a body of JSON, as the model takes them."""
    document = parsed_json(content)
    if isinstance(document, dict) and isinstance(document.get("rows"), list):
        document = document["rows"]
    elif isinstance(document, dict) and not document.keys().isdisjoint(model.rows.names or ()):
        document = [document]
    if not isinstance(document, list):
        raise RequestError(
            f'the body must be {{"rows": [...]}} or a list of rows, got {_shape_of(document)}.'
        )
    return model.rows.of_rows(document)


def _shape_of(document: Any) -> str:
    if not isinstance(document, dict):
        return kind_of(document)
    names = ", ".join(map(json.dumps, list(document)[:5]))
    return f"an object with the names {names[:60]}" if document else "an empty object"


def _picture(model: ServedModel, content: memoryview) -> tuple[Any, str | None]:
    """Return a picture as the model takes it, and a note on what was done to it."""
    if model.shape is None:
        raise RequestError(
            f"the model {model.name!r} takes rows, got a picture: send JSON or CSV.", 415
        )
    X, is_inverted = read_picture(content, model.shape, model.about["background"])
    if (white := model.about["white"]) < 255:  # 16 of scikit-learn's digits
        X = (X * (white / 255)).astype(np.float32)
    if not is_inverted:
        return X, None
    return X, "the background is not as in training: gray levels were inverted."


async def _predict_csv(
    service: Service, request: Request, model: ServedModel, content: memoryview
) -> Response:
    if isinstance(model.rows, NumberRows):
        X = await service.decoded(content, model.rows.of_csv)
        frame = None
    else:
        frame = await service.in_thread(read_csv, content)
        X = await service.in_thread(model.rows.of_frame, frame)
    outcome = await service.predict(model, X)
    if wants_csv(request):
        return await service.encoded(outcome, csv_answer, model, frame)
    return await service.encoded(outcome, predictions_answer, model)
