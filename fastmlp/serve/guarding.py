"""Who may ask: the token, and requests that other web pages make a browser send."""

import hmac
from collections.abc import Iterable
from pathlib import Path

from starlette.types import Scope

from fastmlp.serve.errors import RequestError

__all__ = ["Guard", "is_loopback", "read_token"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

#: Paths that need no token: what monitors the server, and the page, which asks for it.
_OPEN = frozenset(
    ["/", "/ping", "/health", "/version", "/v2", "/v2/health/live", "/v2/health/ready"]
)
_MIN_TOKEN = 16


def is_loopback(host: str) -> bool:
    """Return whether only programs on the same machine reach a host name or address."""
    return host in _LOOPBACK or host.startswith("127.")


def read_token(path: Path) -> str:
    """Return the token of a file.

    Raises
    ------
    ValueError
        If it is not a single word of enough characters.
    OSError
        If it cannot be read.
    """
    try:
        token = path.read_text("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if len(token) < _MIN_TOKEN or not all(33 <= ord(letter) < 127 for letter in token):
        raise ValueError(
            f"{path} must hold a token, a word of at least {_MIN_TOKEN} letters and digits, got "
            f"{len(token)} characters: write one with python -c "
            '"import secrets; print(secrets.token_urlsafe())".'
        )
    return token


class Guard:
    """Refuses those who may not ask.

    With a token, requests must have it. Without one, only programs on this machine reach the
    server, among them browsers, which other people's pages may tell to send requests: therefore the
    host that they name must be this machine (or a page could have its own name resolve to it), and
    the page that has sent them must be our own.

    Parameters
    ----------
    token : str, optional
    hosts : iterable of str
        Names of this machine besides those of the loopback interface.
    """

    def __init__(self, token: str | None = None, hosts: Iterable[str] = ()) -> None:
        self._token = None if token is None else token.encode()
        self._hosts = frozenset(host.encode().lower() for host in (*_LOOPBACK, *hosts))

    def check(self, scope: Scope) -> None:
        """Raise `RequestError` if a request must not be answered."""
        headers = dict(scope["headers"])
        if self._token is None:
            self._check_origin(scope["method"], headers)
        elif scope["path"] not in _OPEN:
            self._check_token(headers.get(b"authorization", b""))

    def _check_token(self, given: bytes) -> None:
        assert self._token is not None
        kind, _, token = given.partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise RequestError(
                "the request must have the server's token, as the header Authorization: Bearer "
                f"TOKEN, got {'another one' if given else 'none'}.",
                401,
                {"WWW-Authenticate": "Bearer"},
            )

    def _check_origin(self, method: str, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"")
        if _name_of(host) not in self._hosts:
            raise RequestError(
                "the header Host must name this machine, such as localhost, got "
                f"{_shown(host) or 'none'}: others need --token-file.",
                403,
            )
        origin = headers.get(b"origin")
        if method not in ("GET", "HEAD") and origin is not None:
            if origin.partition(b"://")[2].lower() != host.lower():
                raise RequestError(
                    f"the request must come from a page of this server, got one of "
                    f"{_shown(origin)}.",
                    403,
                )


def _name_of(host: bytes) -> bytes:
    """Return the name of a Host header, without the port."""
    if host.startswith(b"["):
        return host[1:].partition(b"]")[0].lower()
    return host.partition(b":")[0].lower()


def _shown(header: bytes) -> str:
    text = header.decode("latin-1")
    return text if len(text) <= 60 else f"{text[:57]}..."
