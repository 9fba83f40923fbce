"""The routes of MLflow's scoring server: ``POST /invocations`` and what monitors it."""

from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fastmlp.serve.errors import RequestError
from fastmlp.serve.models import ServedModel
from fastmlp.serve.predicting import Outcome
from fastmlp.serve.rows import NumberRows, kind_of
from fastmlp.serve.service import Service, json_answer, parsed_json

__all__ = ["routes"]

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def routes(service: Service) -> list[Route]:
    """Return the routes."""

    async def invocations(request: Request) -> Response:
        model = service.model_of(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        async with service.body(request) as content:
            if kind == "text/csv":
                X = await service.in_thread(model.rows.of_csv, content)
            else:
                X = await service.decoded(content, _rows, model)
            outcome = await service.predict(model, X)
        return await service.encoded(outcome, _answer)

    async def ping(request: Request) -> Response:
        return PlainTextResponse("\n")

    async def own_version(request: Request) -> Response:
        return PlainTextResponse(version("fastmlp"))

    return [
        Route("/invocations", invocations, methods=["POST"]),
        Route("/ping", ping),
        Route("/health", ping),
        Route("/version", own_version),
    ]


def _answer(outcome: Outcome) -> Response:
    return json_answer({"predictions": outcome.values.tolist()})


def _rows(content: memoryview, model: ServedModel) -> Any:
    """Return the rows of a body of JSON, as the model takes them."""
    document = parsed_json(content)
    if not isinstance(document, dict):
        raise RequestError(f"the body must be an object, got {kind_of(document)}.")
    given = [form for form in _FORMS if form in document]
    if len(given) != 1:
        raise RequestError(
            f"the body must have one of {', '.join(_FORMS)}, got {', '.join(given) or 'none'}."
        )
    rows = document[given[0]]
    if given[0] == "dataframe_split":
        return model.rows.of_rows(_of_split(rows, model))
    if given[0] == "inputs" and isinstance(rows, dict):
        for name, column in rows.items():
            if not isinstance(column, list):
                raise RequestError(
                    f"the column {name[:40]!r} must be a list, got {kind_of(column)}."
                )
        return model.rows.of_columns(rows)
    if not isinstance(rows, list):
        raise RequestError(f'"{given[0]}" must be a list of rows, got {kind_of(rows)}.')
    return model.rows.of_rows(rows)


def _of_split(split: Any, model: ServedModel) -> list[Any]:
    """Return the rows of a frame as pandas writes it with ``orient="split"``."""
    if not isinstance(split, dict) or not isinstance(split.get("data"), list):
        raise RequestError(
            '"dataframe_split" must be an object with the lists "columns" and "data", got '
            f"{kind_of(split)}."
        )
    rows, names = split["data"], split.get("columns")
    if names is None or (isinstance(model.rows, NumberRows) and not model.rows.has_own_names):
        return rows
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RequestError('"columns" must be a list of names, got something else.')
    if len(set(names)) < len(names):
        raise RequestError("the columns must have different names, got one twice.")
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            got = f"{len(row)} values" if isinstance(row, list) else kind_of(row)
            raise RequestError(
                f"a row must be a list of {len(names)} values, one per column, got {got} in row "
                f"{place}."
            )
    return [dict(zip(names, row, strict=True)) for row in rows]
