"""The ASGI application: routes, and what surrounds each of them."""

import json
import sys
import time
from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastmlp.serve import inference, invocations, pages, short
from fastmlp.serve.errors import RequestError, is_busy
from fastmlp.serve.guarding import Guard
from fastmlp.serve.metrics import Metrics
from fastmlp.serve.service import Service
from fastmlp.utils.logs import LOGGER

__all__ = ["create_app", "refuse_connection"]

#: Of every answer. Pages have a policy of their own, with the hashes of their scripts.
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")


def create_app(
    service: Service, token: str | None = None, hosts: Iterable[str] = (), *, logs: bool = False
) -> Starlette:
    """Return the application.

    Parameters
    ----------
    service : Service
    token : str, optional
        That requests must have.
    hosts : iterable of str
        Names of this machine besides those of the loopback interface.
    logs : bool
        Whether to print a line per request to standard error.
    """
    app = Starlette(
        routes=[
            *short.routes(service),
            *inference.routes(service),
            *invocations.routes(service),
            *pages.routes(service),
        ],
        middleware=[
            Middleware(_Answering, metrics=service.metrics, logs=logs),
            Middleware(Guard, token=token, hosts=list(hosts)),
        ],
        exception_handlers={HTTPException: _refuse},  # type: ignore[dict-item]
    )
    app.router.redirect_slashes = False
    return app


class _Answering:
    """Middleware that answers errors by a sentence, adds headers, and counts requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics, logs: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._logs = logs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message)
            await send(message)

        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, counted)
        except ClientDisconnect:
            status = 499  # as nginx counts those whose client has gone
        except Exception as error:
            if status:  # the answer has begun
                raise
            if not isinstance(error, RequestError):
                LOGGER.error("an error in fastmlp's server", exc_info=error)
                error = RequestError("the server made an error, which its log describes.", 500)
            await error_answer(error)(scope, receive, counted)
        finally:
            self._metrics.in_flight.dec()
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.request(route, status, seconds)
            if self._logs:
                path = scope["path"].encode("unicode_escape").decode()
                client = (scope.get("client") or ("-",))[0]
                sys.stderr.write(
                    f"{client} {scope['method']} {path[:200]} {status} {1e3 * seconds:.1f} ms\n"
                )


def _add_headers(message: Message) -> None:
    headers = message["headers"] = [*message.get("headers", ()), *_HEADERS]
    if not any(name == b"content-security-policy" for name, _ in headers):
        headers.append(_POLICY)


def error_answer(error: RequestError) -> Response:
    """Return the answer to a request that cannot be answered."""
    content = json.dumps({"error": error.sentence})
    return Response(content, error.status, error.headers, "application/json")


async def _refuse(request: Request, error: HTTPException) -> Response:
    """Answer what has no route."""
    method, path = request.method, request.scope["path"]
    path = path if len(path) <= 60 else f"{path[:57]}..."
    sentence = f"there is nothing at {path!r}: /docs lists what there is."
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        sentence = f"{path} must be asked by {allowed}, got {method[:20]}."
    return error_answer(RequestError(sentence, error.status_code, error.headers))


async def refuse_connection(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer on a connection that is one too many; an ASGI application."""
    error = is_busy("it has as many connections as it may have")
    error.headers["Connection"] = "close"
    await error_answer(error)(scope, receive, send)
