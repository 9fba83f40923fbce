"""``fastmlp train --log``: a file with a line per epoch."""

import csv
import io
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastmlp.cli.output import note
from fastmlp.cli.pictures import check_writable

if TYPE_CHECKING:
    from fastmlp.training import EpochReport

FORMATS = (".jsonl", ".csv")

#: The keys of a line, in the order of the CSV columns.
COLUMNS = (
    *("time", "network", "epoch", "loss", "training_score", "validation_loss", "validation_score"),
    *("n_samples", "seconds"),
)


class EpochLog:
    """A file to which a line per epoch is appended.

    Each line is written immediately and in one piece, so it is kept if the process is killed.

    Parameters
    ----------
    path : Path
        Ends in .jsonl or .csv. An existing log is continued, any other file is refused.

    Raises
    ------
    ValueError
        For another extension, a missing directory, or a file that is not a log.
    OSError
        If the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_csv = path.suffix.lower() == ".csv"
        if path.suffix.lower() not in FORMATS:
            raise ValueError(f"--log must end in {' or '.join(FORMATS)}, got {path}.")
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError(f"--log must be a file in a directory that exists, got {path}.")
        check_writable(path.resolve().parent, path)
        # Not the whole file: it may be long.
        with path.open("a+b") as file:
            end = file.tell()
            file.seek(0)
            first = file.readline(10_000)
            file.seek(max(0, end - 1))
            self._needs_newline = end > 0 and file.read(1) != b"\n"
        self._needs_header = self._is_csv and not first
        if first and not self._is_of_a_log(first):
            raise ValueError(
                f"{path} exists and is not a log of epochs: use another file with --log."
            )
        self._failed = False

    def add(self, report: "EpochReport", network: int = 1) -> None:
        """Write the line of an epoch; if that fails, training continues.

        Parameters
        ----------
        report : EpochReport
        network : int
            Number of the network, from 1.
        """
        line = self._line(report, network)
        if self._needs_header:
            line = f"{','.join(COLUMNS)}\n{line}"
        if self._needs_newline:  # a disk was full
            line = f"\n{line}"
        if self._failed:
            return
        try:
            with self.path.open("ab", buffering=0) as file:
                file.write(line.encode())
        except OSError as error:
            self._failed = True
            note(
                f"{self.path} cannot be written ({error.strerror}): training continues without it."
            )
        self._needs_header = self._needs_newline = False

    def _line(self, report: "EpochReport", network: int) -> str:
        entries: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "network": network,
            **{name: getattr(report, name) for name in COLUMNS[2:]},
        }
        for name, value in entries.items():
            if isinstance(value, float) and not math.isfinite(value):
                entries[name] = None
        if not self._is_csv:
            return json.dumps({name: _number(entries[name]) for name in COLUMNS}) + "\n"
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([_number(entries[name]) for name in COLUMNS])
        return line.getvalue()

    def _is_of_a_log(self, first: bytes) -> bool:
        if self._is_csv:
            return first.decode(errors="replace").strip() == ",".join(COLUMNS)
        try:
            entries = json.loads(first)
        except ValueError:
            return False
        return isinstance(entries, dict) and entries.keys() >= {"epoch", "loss"}


def _number(value: Any) -> Any:
    """Convert NumPy numbers to Python numbers."""
    return value.item() if hasattr(value, "item") else value
