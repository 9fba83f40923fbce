"""``fastmlp serve``: models on a page, and over HTTP."""

import gc
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastmlp.cli.models import load_model
from fastmlp.cli.options import Backend, Quiet, Threads, number, script_option, whole

if TYPE_CHECKING:
    from fastmlp.serve.running import Server

#: The end of the help text.
EXIT_STATUS = "Exit status: 0 after Ctrl-C, which stops it, 2 for usage errors or invalid models."


_limit = partial(typer.Option, rich_help_panel="Limits")


def serve(
    model_files: Annotated[
        list[Path], typer.Argument(metavar="MODEL", help="Models saved by 'fastmlp train'.")
    ],
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="Address to listen at. Another than of this machine alone needs --token-file.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(**whole(0, 65535), help="Port to listen at; 0 is any that is free."),
    ] = 8000,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Replace a model when its file changes.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Answer only requests with the token in this file: Authorization: Bearer TOKEN.",
        ),
    ] = None,
    max_body: Annotated[int, _limit(**whole(1), help="Megabytes of a request.")] = 64,
    max_rows: Annotated[int, _limit(**whole(1), help="Rows of a request.")] = 100_000,
    max_connections: Annotated[
        int, _limit(**whole(1), help="Open connections; others are told to try again.")
    ] = 512,
    receive_seconds: Annotated[
        float,
        _limit(**number("greater than 0", lambda x: x > 0), help="Time for a request to arrive."),
    ] = 30,
    predict_seconds: Annotated[
        float,
        _limit(**number("greater than 0", lambda x: x > 0), help="Time to answer a request."),
    ] = 60,
    log: Annotated[
        bool, script_option("--log", help="Print a line per request to standard error.")
    ] = False,
    backend: Backend = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Serve models: a page to draw digits or fill in a form, and an HTTP API.

    Each model has the name of its file. /docs lists the API: JSON, CSV and pictures by POST
    /predict, the Open Inference Protocol of Triton and KServe at /v2, and MLflow's /invocations.
    Only this machine can reach it, unless --host and --token-file say otherwise.

    For example:

        fastmlp serve model.npz --open

        fastmlp serve digits.npz iris.skops --reload
        curl --data-binary @seven.png http://127.0.0.1:8000/predict?model=digits
    """
    server = _server(
        model_files,
        partial(load_model, backend=backend, threads=threads),
        host=host,
        port=port,
        token_file=token_file,
        reloads=reload,
        logs=log,
        limits={
            "body_bytes": max_body << 20,
            "rows": max_rows,
            "connections": max_connections,
            "receive_seconds": receive_seconds,
            "predict_seconds": predict_seconds,
        },
    )

    def tell() -> None:
        if not quiet:
            for model in server.library:
                typer.echo(f"{model.name}: {model.in_words}")
        typer.echo(f"{server.url}  (Ctrl-C stops)")
        sys.stdout.flush()
        if open_page:
            import webbrowser

            webbrowser.open(server.url)

    # What is imported stays: looking for garbage in it would take a tenth of a second, again and
    # again, in which no request is answered.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    server.run(tell)


def _server(
    model_files: list[Path], load: Callable[[Path], Any], *, limits: dict[str, Any], **settings: Any
) -> "Server":
    """Return a server that listens."""
    try:
        from fastmlp.serve.limits import Limits
        from fastmlp.serve.running import Server, Settings
    except ImportError as error:
        raise ImportError(
            f"serving needs {error.name}, which is not installed: pip install 'fastmlp[serve]'."
        ) from None
    return Server(model_files, load, Settings(limits=Limits(**limits), **settings))
