"""The ASGI application: from a request to its answer, whatever happens."""

import json
import sys
import time
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from fastmlp.serve import inference, invocations, pages, short
from fastmlp.serve.errors import RequestError, is_busy
from fastmlp.serve.guarding import Guard
from fastmlp.serve.rows import shown
from fastmlp.serve.service import Service
from fastmlp.utils.logs import LOGGER

__all__ = ["App", "refuse_connection"]

#: Of every answer. Pages have a policy of their own, with the hashes of their scripts.
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")

_CLIENT_HAS_GONE = 499  # as nginx counts them
_OTHER = "other"  # the route of what has none


class App:
    """An ASGI application.

    Starlette's own would spend a quarter of a small request on its layers.

    Parameters
    ----------
    service : Service
    guard : Guard
        Refuses those who may not ask.
    logs : bool
        Whether to print a line per request to standard error.
    """

    def __init__(self, service: Service, guard: Guard, *, logs: bool = False) -> None:
        self._metrics = service.metrics
        self._guard = guard
        self._logs = logs
        self._routes = [
            *short.routes(service),
            *inference.routes(service),
            *invocations.routes(service),
            *pages.routes(service),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, by a sentence if it cannot be answered, and count it."""
        started = time.perf_counter()
        status = _CLIENT_HAS_GONE
        self._metrics.in_flight.inc()
        try:
            response = await self._response(scope, receive, send)
            status = response.status_code
            await response(scope, receive, send)
        except ClientDisconnect:
            pass
        finally:
            self._metrics.in_flight.dec()
            seconds = time.perf_counter() - started
            self._metrics.request(scope.get("route", _OTHER), status, seconds)
            if self._logs:
                _log(scope, status, seconds)

    async def _response(self, scope: Scope, receive: Receive, send: Send) -> Response:
        try:
            self._guard.check(scope)
            endpoint = self._endpoint(scope)
            response: Response = await endpoint(Request(scope, receive, send))
        except RequestError as error:
            response = error_answer(error)
        except ClientDisconnect:
            raise
        except Exception as error:
            LOGGER.error("an error in fastmlp's server", exc_info=error)
            sentence = "the server made an error, which its log describes."
            response = error_answer(RequestError(sentence, 500))
        headers = response.raw_headers
        headers += _HEADERS
        if not any(name == _POLICY[0] for name, _ in headers):
            headers.append(_POLICY)
        return response

    def _endpoint(self, scope: Scope) -> Any:
        """Return what answers a request, and note its route and the parameters of its path."""
        allowed: set[str] = set()
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                scope["route"] = route.path
                return route.endpoint
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        path = shown(scope["path"])
        if allowed:
            methods = ", ".join(sorted(allowed))
            raise RequestError(
                f"{path} must be asked by {methods}, got {scope['method'][:20]}.",
                405,
                {"Allow": methods},
            )
        raise RequestError(f"there is nothing at {path}: /docs lists what there is.", 404)


def error_answer(error: RequestError) -> Response:
    """Return the answer to a request that cannot be answered."""
    content = json.dumps({"error": error.sentence})
    return Response(content, error.status, error.headers, "application/json")


async def refuse_connection(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer on a connection that is one too many; an ASGI application."""
    error = is_busy("it has as many connections as it may have")
    error.headers["Connection"] = "close"
    await error_answer(error)(scope, receive, send)


def _log(scope: Scope, status: int, seconds: float) -> None:
    path = scope["path"].encode("unicode_escape").decode()
    client = (scope.get("client") or ("-",))[0]
    line = f"{client} {scope['method']} {path[:200]} {status} {1e3 * seconds:.1f} ms\n"
    sys.stderr.write(line)
