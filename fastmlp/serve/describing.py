"""What the API is: an OpenAPI document, and a page that lists it."""

import json
from collections.abc import Mapping
from html import escape
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from fastmlp.serve.inference import metadata
from fastmlp.serve.models import ServedModel
from fastmlp.serve.rows import NumberRows
from fastmlp.serve.service import Service

__all__ = ["docs", "openapi"]

_JSON = "application/json"
_KINDS = {"number": "number", "boolean": "boolean", "date": "string", "category": "string"}


def openapi(service: Service) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the server, with the models that it serves."""
    names = [model.name for model in service.library]
    model_query = {
        "name": "model",
        "in": "query",
        "required": len(names) > 1,
        "schema": {"type": "string", "enum": names},
    }
    paths: dict[str, Any] = {
        "/predict": {"post": _predict(service, [model_query])},
        "/invocations": {
            "post": {
                "summary": "Predict rows as MLflow's clients send them",
                "parameters": [model_query],
                "requestBody": _body({_JSON: {"type": "object"}, "text/csv": {"type": "string"}}),
                "responses": _responses({"type": "object", "required": ["predictions"]}),
            }
        },
        "/models": {"get": _get("What each model takes and predicts", {"type": "array"})},
        "/v2": {"get": _get("Name and version of the server", {"type": "object"})},
        "/v2/health/live": {"get": _get("Whether the server is there", {"type": "object"})},
        "/v2/health/ready": {"get": _get("Whether it answers", {"type": "object"})},
        "/ping": {"get": _get("Whether the server is there", None)},
        "/version": {"get": _get("Version of fastmlp", None)},
        "/metrics": {"get": _get("Numbers about the server, for Prometheus", None)},
    }
    for model in service.library:
        paths |= _paths_of(model)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "fastmlp", "version": version("fastmlp")},
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "properties": {"error": {"type": "string"}},
                    "required": ["error"],
                },
                **{_component(model, "rows"): _rows(model) for model in service.library},
                **{
                    _component(model, "predictions"): _predictions(model)
                    for model in service.library
                },
            }
        },
    }
    if service.needs_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _paths_of(model: ServedModel) -> dict[str, Any]:
    """Return the paths of one model."""
    name, quoted = model.name, _quoted(model.name)
    described = f"{name}: {model.in_words}"
    tensors = {
        "type": "object",
        "properties": {"inputs": {"type": "array"}, "outputs": {"type": "array"}},
        "examples": [_example_of_tensors(model)],
    }
    of_protocol = {
        "get": _get(f"Inputs and outputs of {described}", {"type": "object"}),
    }
    return {
        f"/models/{quoted}": {"get": _get(f"What {described} takes", {"type": "object"})},
        f"/models/{quoted}/predict": {
            "post": {
                "summary": f"Predict rows by {described}",
                "requestBody": _body(_bodies(model)),
                "responses": _responses(_reference(_component(model, "predictions"))),
            }
        },
        f"/models/{quoted}/explain": {
            "post": {
                "summary": f"Explain a prediction of {name}",
                "requestBody": _body({_JSON: {"type": "object"}}),
                "responses": _responses({"type": "object"}),
            }
        },
        f"/v2/models/{quoted}": of_protocol,
        f"/v2/models/{quoted}/ready": {"get": _get(f"Whether {name} answers", {"type": "object"})},
        f"/v2/models/{quoted}/infer": {
            "post": {
                "summary": f"Predict tensors by {described} (Open Inference Protocol)",
                "requestBody": _body({_JSON: tensors, "application/octet-stream": {}}),
                "responses": _responses({"type": "object"}),
            }
        },
    }


def _predict(service: Service, parameters: list[Any]) -> dict[str, Any]:
    """Return the operation that takes the rows of any model."""
    models = list(service.library)
    bodies = {kind: schema for model in models for kind, schema in _bodies(model).items()}
    bodies[_JSON] = _any_of([_reference(_component(model, "rows")) for model in models])
    predictions = _any_of([_reference(_component(model, "predictions")) for model in models])
    return {
        "summary": "Predict rows",
        "parameters": parameters,
        "requestBody": _body(bodies),
        "responses": _responses(predictions),
    }


def _any_of(schemas: list[Any]) -> Any:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _bodies(model: ServedModel) -> dict[str, Any]:
    """Return the kinds of bodies that a model takes, and their schemas."""
    bodies: dict[str, Any] = {
        _JSON: _reference(_component(model, "rows")),
        "text/csv": {"type": "string"},
    }
    if model.shape is not None:
        bodies |= {"image/png": {}, "image/jpeg": {}}
    return bodies


def _rows(model: ServedModel) -> dict[str, Any]:
    """Return the schema of the rows of a model."""
    if isinstance(model.rows, NumberRows) and not model.rows.has_own_names:
        n = model.rows.n_features
        row: dict[str, Any] = {"type": "array", "items": {"type": "number"}}
        if n:
            row |= {"minItems": n, "maxItems": n}
    else:
        properties = {column["name"]: _column(column) for column in model.columns}
        row = {"type": "object", "properties": properties, "required": list(model.rows.names or ())}
    return {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": row, "minItems": 1}},
        "required": ["rows"],
        "examples": [_example_of_rows(model)],
    }


def _column(column: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a value of a column."""
    kind = _KINDS[column["kind"]]
    if column["kind"] == "boolean" and not isinstance(column["values"][0], bool):
        kind = "string"
    schema: dict[str, Any] = {"type": [kind, "null"]}
    if column["kind"] == "date":
        schema["format"] = "date"
    if column.get("values") and kind == "string":
        schema["examples"] = column["values"][:5]
    return schema


def _predictions(model: ServedModel) -> dict[str, Any]:
    """Return the schema of the predictions of a model."""
    properties: dict[str, Any] = {"model": {"const": model.name}, "predictions": {"type": "array"}}
    if model.classes is not None:
        properties["classes"] = {"const": model.classes}
        numbers = {"type": "array", "items": {"type": "number"}}
        properties["probabilities"] = {"type": "array", "items": numbers}
    return {"type": "object", "properties": properties, "required": ["model", "predictions"]}


def _example_of_rows(model: ServedModel) -> dict[str, Any]:
    if isinstance(model.rows, NumberRows) and not model.rows.has_own_names:
        return {"rows": [[0.0] * (model.rows.n_features or 1)]}
    return {"rows": [{column["name"]: column["typical"] for column in model.columns}]}


def _example_of_tensors(model: ServedModel) -> dict[str, Any]:
    inputs = []
    values = {column["name"]: column["typical"] for column in model.columns}
    for described in metadata(model)["inputs"]:
        shape = [1, *(max(side, 1) for side in described["shape"][1:])]
        data = [values.get(described["name"])]
        if len(shape) > 1:
            data = [0] * shape[1]
        inputs.append({**described, "shape": shape, "data": data})
    return {"inputs": inputs}


def _get(summary: str, schema: Any) -> dict[str, Any]:
    return {"summary": summary, "responses": _responses(schema)}


def _body(kinds: Mapping[str, Any]) -> dict[str, Any]:
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"required": True, "content": content}


def _responses(schema: Any) -> dict[str, Any]:
    kind = "text/plain" if schema is None else _JSON
    content = {kind: {"schema": {"type": "string"} if schema is None else schema}}
    error = {
        "description": "The request cannot be answered; the reason is a sentence.",
        "content": {_JSON: {"schema": _reference("Error")}},
    }
    return {"200": {"description": "The answer.", "content": content}, "4XX": error}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _component(model: ServedModel, what: str) -> str:
    """Return the name of a schema, which OpenAPI allows few characters."""
    return f"{_quoted(model.name).replace('%', '_').replace('~', '_')}.{what}"


def _quoted(text: str) -> str:
    return quote(text, safe="")


# -------------------------------------------------------------------------------------- as a page

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>fastmlp: the API</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; }}
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
td {{ padding: .3rem .8rem .3rem 0; vertical-align: top; overflow-wrap: anywhere; }}
tr {{ border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }}
code, pre {{ font-family: ui-monospace, monospace; font-size: .9em; }}
pre {{ overflow-x: auto; padding: .8rem; }}
pre {{ background: color-mix(in srgb, currentColor 8%, transparent); }}
</style>
</head>
<body>
<h1>The API</h1>
<p><a href="/">The models</a> &middot; <a href="/openapi.json">openapi.json</a></p>
{token}
<table>
{rows}
</table>
{models}
</body>
</html>
"""
_TOKEN = "<p>Requests need the header <code>Authorization: Bearer TOKEN</code>.</p>"


def docs(service: Service) -> str:
    """Return a page that lists the API, with an example for each model."""
    rows = [
        f"<tr><td><code>{method.upper()}</code></td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(operation['summary'])}</td></tr>"
        for path, operations in openapi(service)["paths"].items()
        for method, operation in operations.items()
    ]
    models = []
    token = ' -H "Authorization: Bearer TOKEN"' if service.needs_token else ""
    for model in service.library:
        path = f"/models/{_quoted(model.name)}/predict"
        models.append(f"<h2>{escape(model.name)}</h2>\n<p>{escape(model.in_words)}</p>")
        commands = [
            f"curl{token} --data-binary @rows.csv -H 'Content-Type: text/csv' {service.url}{path}"
        ]
        if model.shape is not None:
            commands.insert(0, f"curl{token} --data-binary @picture.png {service.url}{path}")
        elif model.columns and len(model.columns) <= 20:
            body = json.dumps(_example_of_rows(model))
            commands.insert(0, f"curl{token} --data '{body}' {service.url}{path}")
        models.append(f"<pre>{escape(chr(10).join(commands))}</pre>")
    return _PAGE.format(
        token=_TOKEN if service.needs_token else "",
        rows="\n".join(rows),
        models="\n".join(models),
    )
