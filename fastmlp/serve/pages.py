"""Pages for browsers, the description of the API, and the metrics."""

import base64
import hashlib
import json
import re
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fastmlp.serve.describing import docs, openapi
from fastmlp.serve.service import Service

__all__ = ["policy_of", "routes"]

_SCRIPT = re.compile(r"<script(?:\s[^>]*)?>(.*?)</script\s*>", re.DOTALL | re.IGNORECASE)


def routes(service: Service) -> list[Route]:
    """Return the routes."""

    async def page(request: Request) -> Response:
        return _html(cached("page", make_page))

    async def documentation(request: Request) -> Response:
        return _html(cached("docs", lambda: docs(service)))

    async def description(request: Request) -> Response:
        content = cached("openapi", lambda: json.dumps(openapi(service)))
        return Response(content, media_type="application/json")

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    def make_page() -> str:
        from fastmlp.page import render

        # With a token, the page asks for the models once it has it.
        models = [] if service.needs_token else [model.about for model in service.library]
        return render(models, runs="server", token_required=service.needs_token)

    kept: dict[str, tuple[int, str]] = {}

    def cached(name: str, make: Callable[[], str]) -> str:
        """Return a text, made again when a model has been replaced."""
        version = service.library.version
        if name not in kept or kept[name][0] != version:
            kept[name] = version, make()
        return kept[name][1]

    return [
        Route("/", page),
        Route("/docs", documentation),
        Route("/openapi.json", description),
        Route("/metrics", metrics),
    ]


def _html(content: str) -> Response:
    headers = {"Content-Security-Policy": policy_of(content)}
    return Response(content, headers=headers, media_type="text/html")


def policy_of(content: str) -> str:
    """Return a content security policy: the page's own scripts run, and nothing comes from outside.

    Parameters
    ----------
    content : str
        HTML with its scripts and styles inside.
    """
    digests = (hashlib.sha256(script.encode()).digest() for script in _SCRIPT.findall(content))
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {scripts or repr('none')}; style-src 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
