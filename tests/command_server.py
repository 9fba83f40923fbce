"""A process that runs commands for the tests of the command line."""

import json
import os
import re
import select
import subprocess
import sys

SERVER = """
import importlib, json, os, sys, traceback
from typer import rich_utils
from fastmlp import cli
for line in sys.stdin:
    arguments, code, folder, environment = json.loads(line)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    importlib.reload(rich_utils)  # which reads the environment
    sys.argv[1:] = arguments
    status = 0
    try:
        exec(code, {"cli": cli})
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    for stream in (sys.stdout, sys.stderr):
        print(f"<{status}>", file=stream, flush=True)
"""


class Server:
    """A process that runs commands one after the other, as if each had a process of its own.

    Importing what they need takes longer than most of them.

    Parameters
    ----------
    on_terminal : bool
        Whether the process writes to a terminal, or into a pipe for each of its two streams.
    """

    def __init__(self, on_terminal):
        streams = (subprocess.PIPE, subprocess.PIPE)
        if on_terminal:
            import pty

            controller, terminal = pty.openpty()
            streams = (terminal, terminal)
        command = [sys.executable, "-c", SERVER]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=streams[0], stderr=streams[1], bufsize=0
        )
        self._sources = [self._process.stdout, self._process.stderr]
        if on_terminal:
            os.close(terminal)
            self._sources = [os.fdopen(controller, "rb", 0)]

    def __call__(self, *arguments, code="cli.main()", columns=80, status=0, **environment):
        """Run a command, or Python code; return what it writes: all, or to each stream."""
        clean = {name: text for name, text in os.environ.items() if name not in _ABOUT_COLOURS}
        environment = clean | {"TERM": "xterm-256color", "COLUMNS": str(columns)} | environment
        command = [list(map(str, arguments)), code, os.getcwd(), environment]
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        shown = [self._read(source, status) for source in self._sources]
        return shown[0] if len(shown) == 1 else shown

    def _read(self, source, status):
        """Return what a command writes to a terminal or a pipe."""
        text, ends = b"", []
        while len(ends) < 2 // len(self._sources):
            assert select.select([source], [], [], 120)[0], text
            part = os.read(source.fileno(), 1 << 16)
            assert part, text
            text += part
            ends = re.findall(rb"<(\d+)>\r?\n", text)
        assert {int(end) for end in ends} == {status}, text
        return re.sub(r"<\d+>\n", "", text.decode().replace("\r\n", "\n"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(timeout=60)
        for source in self._sources:
            source.close()


_ABOUT_COLOURS = ("NO_COLOR", "FORCE_COLOR", "JPY_PARENT_PID", "MPLBACKEND", "TERM", "COLORTERM")
