"""A server that runs until it is told to stop."""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
import uvicorn.protocols.http.httptools_impl  # its absence is to be told now

from fastmlp.serve.app import App, refuse_connection
from fastmlp.serve.connections import connection_class
from fastmlp.serve.guarding import Guard, is_loopback, read_token
from fastmlp.serve.limits import KEEP_ALIVE_SECONDS, Limits
from fastmlp.serve.metrics import Metrics
from fastmlp.serve.models import Library, Load
from fastmlp.serve.service import Service
from fastmlp.utils.threads import usable_threads

__all__ = ["Settings", "Server"]

_CHECK_SECONDS = 1.0  # between two looks at what takes too long, at most
_BACKLOG = 2048


@dataclass(frozen=True)
class Settings:
    """How models are served.

    Attributes
    ----------
    host : str
    port : int
        0 is any that is free.
    token_file : Path or None
        Holds the token that requests must have.
    reloads : bool
        Whether models are replaced when their files change.
    logs : bool
        Whether to print a line per request.
    limits : Limits
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    reloads: bool = False
    logs: bool = False
    limits: Limits = Limits()


class Server:
    """A server of models, which listens once it is made.

    Parameters
    ----------
    paths : iterable of Path
        Files of models.
    load : callable
        Returns the model of a file.
    settings : Settings

    Attributes
    ----------
    library : Library
    url : str
        Of the page.

    Raises
    ------
    ValueError
        If models, the token or the host are not as they must be, or the port is in use.
    OSError
        If a file cannot be read.
    """

    def __init__(self, paths: Iterable[Path], load: Load, settings: Settings) -> None:
        self._settings = settings
        token = None if settings.token_file is None else read_token(settings.token_file)
        if token is None and not is_loopback(settings.host):
            raise ValueError(
                f"--host {settings.host} needs --token-file FILE, because others can reach it: "
                "with the token in that file they may use the models, without it they may not."
            )
        limits, metrics = settings.limits, Metrics()
        self._executor = ThreadPoolExecutor(max(4, usable_threads()), "fastmlp-serve")
        self.library = Library(paths, load, self._executor, limits.rows, metrics)
        self._socket = _listening(settings.host, settings.port)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self.url = f"http://{host}:{self._socket.getsockname()[1]}"
        self._service = service = Service(
            self.library, limits, metrics, self._executor, self.url, token is not None
        )
        app = App(service, Guard(token, [settings.host]), logs=settings.logs)
        self._server = _Server(
            uvicorn.Config(
                app,
                http=connection_class(limits, refuse_connection),
                loop="asyncio",  # uvloop lets single clients wait for seconds under full load
                ws="none",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=int(limits.predict_seconds + limits.receive_seconds),
            ),
            self._tasks,
        )

    def run(self, on_listening: Callable[[], Any] = lambda: None) -> None:
        """Serve until a signal, or `stop`, ends it; what is under way is finished.

        Parameters
        ----------
        on_listening : callable
            Called once requests are answered.
        """
        logger = logging.getLogger("uvicorn")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        self._server.on_listening = on_listening
        # A signal is raised again at the end, which would make Ctrl-C an error.
        with contextlib.suppress(KeyboardInterrupt):
            self._server.run([self._socket])
        self._socket.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Finish what is under way, and end `run`; from any thread."""
        self._server.should_exit = True

    def _tasks(self) -> list[Any]:
        tasks = [self._watch_time()]
        if self._settings.reloads:
            tasks.append(self.library.watch())
        return tasks

    async def _watch_time(self) -> None:
        """End requests that take too long to arrive or to be answered, for ever."""
        loop = asyncio.get_running_loop()
        limits = self._settings.limits
        seconds = min(limits.receive_seconds / 4, limits.predict_seconds / 4, _CHECK_SECONDS)
        while True:
            await asyncio.sleep(seconds)
            for connection in list(self._server.server_state.connections):
                connection.check_time(loop.time())  # type: ignore[union-attr]
            self._service.check_time(loop.time())


class _Server(uvicorn.Server):
    """uvicorn's server, with tasks beside it."""

    def __init__(self, config: uvicorn.Config, make_tasks: Callable[[], list[Any]]) -> None:
        super().__init__(config)
        self._make_tasks = make_tasks
        self.on_listening: Callable[[], Any] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._own_tasks = [asyncio.create_task(task) for task in self._make_tasks()]
        self.on_listening()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for task in self._own_tasks:
            task.cancel()


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ValueError(
            f"--host must be a name or address of this machine, got {host!r}: {error.strerror}."
        ) from None
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # where it would share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ValueError(
            f"port {port} of {host} cannot be used ({(error.strerror or str(error)).lower()}): "
            "choose another, or --port 0 for any that is free."
        ) from None
    return listener
