"""What the routes share: models and limits, the bodies of requests, and answers."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fastmlp.serve.connections import BODY, LargeBody
from fastmlp.serve.errors import RequestError, is_busy, is_late
from fastmlp.serve.limits import Limits
from fastmlp.serve.metrics import Metrics
from fastmlp.serve.models import Library, ServedModel
from fastmlp.serve.predicting import Outcome

__all__ = ["Service", "json_answer", "parsed_json"]

T = TypeVar("T")

#: Bodies from this size on are decoded by a thread, and the answers to as many rows encoded.
_LARGE_BYTES, _MANY_ROWS = 64 << 10, 256


@dataclass
class Service:
    """Everything that routes need.

    Attributes
    ----------
    library : Library
    limits : Limits
    metrics : Metrics
    executor : ThreadPoolExecutor
    url : str
        Of the server, for those who are shown it.
    needs_token : bool
    bytes_held : int
        Of bodies that are in memory.
    """

    library: Library
    limits: Limits
    metrics: Metrics
    executor: ThreadPoolExecutor
    url: str = "http://127.0.0.1:8000"
    needs_token: bool = False
    bytes_held: int = field(default=0, init=False)

    def model_of(self, request: Request) -> ServedModel:
        """Return the model that a path or query names, or the only one."""
        name = request.path_params.get("name")
        if name is None and request.scope["query_string"]:
            name = request.query_params.get("model")
        return self.library.get(name)

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[memoryview]:
        """Read the body of a request; its memory is accounted for until the end of the block.

        Raises
        ------
        RequestError
            If it is too large or encoded.
        ClientDisconnect
            If the client has gone, or has taken too long.
        """
        async with self.arriving(request) as (large, held):
            if large is not None:
                yield await large.complete()
            else:
                yield memoryview(await self._received(request, held))

    @asynccontextmanager
    async def arriving(self, request: Request) -> AsyncIterator[tuple[LargeBody | None, "_Held"]]:
        """Begin to read the body of a request: yield it if it is large, and its memory.

        Raises
        ------
        RequestError
            If it is too large or encoded.
        """
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise RequestError(
                f"Content-Encoding must be identity, got {encoding[:40]!r}: send the body itself.",
                415,
            )
        length = _content_length(request)
        if length > self.limits.body_bytes:
            await self._refuse_large(request)
        held = _Held(self)
        try:
            held.at_least(length)
            yield request.scope.get(BODY), held
        finally:
            held.release()

    async def _received(self, request: Request, held: "_Held") -> bytes:
        """Return a body of few bytes, or of unknown length."""
        parts: list[bytes] = []
        n_bytes = 0
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parts.append(message["body"])
            n_bytes += len(parts[-1])
            if n_bytes > self.limits.body_bytes:
                await self._refuse_large(request)
            held.at_least(n_bytes)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _refuse_large(self, request: Request) -> None:
        """Refuse a body; a client reads that only once it has sent everything, within reason."""
        n_bytes = 0
        if request.headers.get("expect", "").lower() != "100-continue":
            async for part in request.stream():
                n_bytes += len(part)
                if n_bytes > self.limits.body_bytes:
                    break
        raise RequestError(
            f"the body must have at most {self.limits.body_bytes:,} bytes, got more: send fewer "
            "rows at a time.",
            413,
            {"Connection": "close"},
        )

    async def decoded(self, content: memoryview, decode: Callable[..., T], *arguments: Any) -> T:
        """Call a function with a body; if it is large, in a thread."""
        if len(content) < _LARGE_BYTES:
            return decode(content, *arguments)
        return await self.in_thread(decode, content, *arguments)

    async def encoded(self, outcome: Outcome, encode: Callable[..., T], *arguments: Any) -> T:
        """Call a function with predictions; if they are many, in a thread."""
        if len(outcome.values) < _MANY_ROWS:
            return encode(outcome, *arguments)
        return await self.in_thread(encode, outcome, *arguments)

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that takes a while in a thread."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.limits.predict_seconds):
                return await loop.run_in_executor(self.executor, function, *arguments)
        except TimeoutError:
            raise is_late(self.limits.predict_seconds) from None

    async def predict(self, model: ServedModel, X: Any) -> Outcome:
        """Predict rows, together with those of other requests."""
        return await model.batches.predict(X)

    def check_time(self, now: float) -> None:
        """Refuse requests that have waited too long for predictions."""
        for model in self.library:
            model.batches.check_time(now, self.limits.predict_seconds)


class _Held:
    """Memory of a body that is being read or answered."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.n_bytes = 0

    def at_least(self, n_bytes: int) -> None:
        """Account for so many bytes; refuse what would be too many together with the others."""
        more = n_bytes - self.n_bytes
        if more <= 0:
            return
        if self._service.bytes_held + more > self._service.limits.all_bodies_bytes:
            raise is_busy("its memory is in use by other requests")
        self._service.bytes_held += more
        self.n_bytes = n_bytes

    def release(self) -> None:
        """Account for none."""
        self._service.bytes_held -= self.n_bytes
        self.n_bytes = 0


def _content_length(request: Request) -> int:
    """Return the announced length of a body, 0 if it is not."""
    length = request.headers.get("content-length", "0")
    # The parser of the server refuses others; without it, that of ASGI's specification.
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


# -------------------------------------------------------------------------------------------- JSON


def _no_constant(word: str) -> Any:
    raise RequestError(f"the body must be valid JSON, got {word}, which JSON does not have.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(n for n, _ in pairs).items() if count > 1)
        raise RequestError(f"an object must have different names, got {twice[:40]!r} twice.")
    return found


_decoder = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_object)


def parsed_json(content: memoryview) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises
    ------
    RequestError
        If it is not valid, has names twice in an object, or is nested too deeply.
    """
    try:
        return _decoder.decode(str(content, "utf-8"))
    except UnicodeDecodeError as error:
        raise RequestError(
            f"the body must be JSON in UTF-8, got the byte 0x{content[error.start]:02x} at "
            f"{error.start}."
        ) from None
    except json.JSONDecodeError as error:
        raise RequestError(
            f"the body must be valid JSON, got an error at {error.pos}: {error.msg}."
        ) from None
    except RecursionError:
        raise RequestError("the body must be JSON of few levels, got too many.") from None
    except ValueError:  # Python refuses to convert integers of thousands of digits
        raise RequestError("the body must have numbers, got one of too many digits.") from None


def json_answer(
    document: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response of JSON.

    Raises
    ------
    RequestError
        If it has NaN or infinity, which JSON does not.
    """
    try:
        content = json.dumps(document, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise RequestError(
            "the predictions must be finite to be JSON, got NaN or infinity: the rows have numbers "
            "too large for the model."
        ) from None
    return Response(content, status, dict(headers or {}), "application/json")
