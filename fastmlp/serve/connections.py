"""uvicorn's connections, with limits for clients that are slow or send too much.

Clients have a limited time for a request, and connections a limited number. Errors of HTTP are
answered like all others, by a sentence as JSON. The head and the body of an answer are sent
together, which saves a fourth of the time of a small one, and a large body is received into one
array.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from httptools import HttpRequestParser
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fastmlp.serve.limits import MAX_HEAD_BYTES, Limits

__all__ = ["BODY", "LargeBody", "connection_class"]

#: Where the scope of a request has its large body.
BODY = "fastmlp.body"

#: Bodies from this size on are received into one array.
_LARGE = 256 << 10

_SCRATCH_BYTES = 64 << 10

#: Connections beyond the limit that are answered, as a fraction of it; others are closed.
_SURPLUS = 0.5

_PHRASES = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
}


class LargeBody(asyncio.BufferedProtocol):
    """A body of known length, which the system writes into an array: no part of it is copied.

    It takes the place of the connection until the last byte.

    Parameters
    ----------
    length : int
    connection : asyncio.Protocol
    ask : callable
        Tells the client that the body is wanted, if it waits for that.

    Attributes
    ----------
    n_bytes : int
        The length.
    """

    def __init__(self, length: int, connection: Any, ask: Callable[[], None]) -> None:
        self._content = np.empty(length, np.uint8).data  # unlike bytearray's, not written to
        self._scratch: memoryview | None = None  # of bytes that nobody wants
        self._n_received = 0
        self.n_bytes = length
        self._connection = connection
        self._ask = ask
        self._is_aborted = False
        self._n_wanted = 0
        self._arrived: asyncio.Future[None] | None = None

    @property
    def n_received(self) -> int:
        """Number of bytes that have arrived."""
        return self._n_received

    @property
    def n_missing(self) -> int:
        """Number of bytes that have not arrived."""
        return self.n_bytes - self._n_received

    def feed(self, part: bytes) -> None:
        """Take bytes that have arrived together with the headers."""
        if self._scratch is None:
            self._content[self._n_received : self._n_received + len(part)] = part
        self._advance(len(part))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes belong."""
        if self._scratch is not None:
            return self._scratch[: self.n_missing]
        return self._content[self._n_received :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take note of bytes."""
        self._advance(nbytes)
        if not self.n_missing:
            self._connection.body_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the connection."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Tell the connection."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Tell the connection."""
        self._connection.resume_writing()

    def discard(self) -> None:
        """Keep no more of it, because the request is answered."""
        self._content = self._scratch = memoryview(bytearray(_SCRATCH_BYTES))

    def abort(self) -> None:
        """End it, because the client has gone."""
        self._is_aborted = True
        self._wake()

    async def first(self, n_bytes: int) -> memoryview:
        """Return the body once so many bytes of it are there; what follows is undefined.

        Raises
        ------
        ClientDisconnect
        """
        self._ask()
        self._n_wanted = n_bytes
        if self._n_received < n_bytes and not self._is_aborted:
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        if self._is_aborted:
            raise ClientDisconnect
        return self._content

    async def complete(self) -> memoryview:
        """Return the body once it is there.

        Raises
        ------
        ClientDisconnect
        """
        return await self.first(self.n_bytes)

    def _advance(self, n_bytes: int) -> None:
        self._n_received += n_bytes
        if self._n_received >= self._n_wanted:
            self._wake()

    def _wake(self) -> None:
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)


class _JoiningTransport:
    """A transport that sends together what is written in the same step of the event loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not data:
            return
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))


class _TooLargeError(Exception):
    """The headers are too large."""


def connection_class(limits: Limits, refuse: ASGIApp) -> type[HttpToolsProtocol]:
    """Return the class of the connections of a server.

    Parameters
    ----------
    limits : Limits
    refuse : ASGI application
        Answers on connections beyond the limit.
    """

    class Connection(HttpToolsProtocol):
        _receiving_since: float | None = None  # seconds of the event loop
        _is_in_message = _is_in_head = False
        _n_head_bytes = 0
        _large: LargeBody | None = None
        _unsent: tuple[int, float] | None = None  # bytes, and since when there are so many

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._receiving_since = self.loop.time()
            joining: Any = _JoiningTransport(transport, self.loop)
            super().connection_made(joining)
            if len(self.connections) > limits.connections:
                self.app = refuse
            if len(self.connections) > (1 + _SURPLUS) * limits.connections:
                transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._large is not None:
                self._large.abort()
            super().connection_lost(exc)

        def eof_received(self) -> bool:  # type: ignore[override]
            """Answer a client that sends nothing more, if it has asked."""
            cycle = self.cycle
            if cycle is None or cycle.response_complete or self._is_in_message:
                self.transport.close()
            else:
                cycle.keep_alive = False
            return True  # or it would be closed before what is to be sent

        def data_received(self, data: bytes) -> None:
            if self._receiving_since is None:
                self._receiving_since = self.loop.time()
            super().data_received(data)
            if self._large is not None and self._large.n_missing and self._is_in_message:
                self.transport.set_protocol(self._large)
            if self._is_in_head:
                self._n_head_bytes += len(data)
                if self._n_head_bytes > MAX_HEAD_BYTES:
                    self.send_400_response("")

        def on_message_begin(self) -> None:
            self._receiving_since = self.loop.time()
            self._is_in_message = self._is_in_head = True
            self._n_head_bytes, self._large = 0, None
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._n_head_bytes += len(url)
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._n_head_bytes += len(name) + len(value) + len(": \r\n")
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            if self._n_head_bytes > MAX_HEAD_BYTES:
                raise _TooLargeError  # which ends the parsing
            self._is_in_head = False
            super().on_headers_complete()
            length = _length(self.headers)
            if _LARGE <= length <= limits.body_bytes:
                self._large = LargeBody(length, self, self._ask_for_body)
                self._scope[BODY] = self._large

        def on_body(self, body: bytes) -> None:
            if self._large is None:
                super().on_body(body)
            else:
                self._large.feed(body)

        def body_received(self) -> None:
            """Go on after a body that the parser has not seen."""
            self.transport.set_protocol(self)
            self.parser = HttpRequestParser(self)
            self.on_message_complete()

        def on_message_complete(self) -> None:
            self._receiving_since = None
            self._is_in_message = False
            super().on_message_complete()

        def on_response_complete(self) -> None:
            if not self.pipeline:  # or the body is that of the next request, which has begun
                large = self._scope.pop(BODY, None)
                if large is not None and large.n_missing:
                    large.discard()
                self._large = None  # a connection that waits for a request needs no memory
            super().on_response_complete()

        def send_400_response(self, msg: str) -> None:
            if self._n_head_bytes > MAX_HEAD_BYTES:
                sentence = f"the headers must have at most {MAX_HEAD_BYTES:,} bytes, got more."
                self._refuse(431, sentence)
            else:
                self._refuse(400, "the request must be valid HTTP, got something else.")

        def check_time(self, now: float) -> None:
            """Close the connection if the client takes too long to send or to receive."""
            if self._receives_nothing(now):
                self.transport.abort()
                return
            since = self._receiving_since
            if since is None or self.transport.is_closing() or now - since < limits.receive_seconds:
                return
            cycle = self.cycle
            if self._is_in_message and not self._is_in_head and cycle is not None:
                if cycle.response_started:  # what arrives is the rest of a body that was refused
                    self.transport.abort()
                    return
                cycle.disconnected = True  # which the application hears instead of the body
                cycle.message_event.set()
                if self._large is not None:
                    self._large.abort()
            self._refuse(
                408,
                f"a request must arrive within {limits.receive_seconds:g} seconds, got only a part "
                "of it.",
            )

        def _receives_nothing(self, now: float) -> bool:
            n_bytes = self.transport.get_write_buffer_size()
            if n_bytes == 0:
                self._unsent = None
            elif self._unsent is None or n_bytes != self._unsent[0]:
                self._unsent = n_bytes, now
            return self._unsent is not None and now - self._unsent[1] > limits.receive_seconds

        @property
        def _scope(self) -> Any:
            return self.scope

        def _ask_for_body(self) -> None:
            if self.cycle.waiting_for_100_continue:
                self.cycle.waiting_for_100_continue = False
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

        def _refuse(self, status: int, sentence: str) -> None:
            """Answer what is not a whole request, and close the connection."""
            if self.transport.is_closing():
                return
            content = json.dumps({"error": sentence}).encode()
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%s" % (status, _PHRASES[status], len(content), content)
            )
            self.transport.close()

    return Connection


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    """Return the announced length of a body, which the parser has checked; 0 if there is none."""
    return next((int(value) for name, value in headers if name == b"content-length"), 0)
