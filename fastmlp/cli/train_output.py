"""What ``fastmlp train`` leaves: files, checked before training, and facts about the fit."""

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastmlp.cli.epoch_log import EpochLog
from fastmlp.cli.output import instruction_set
from fastmlp.cli.pictures import check_writable


@dataclass(frozen=True)
class Outputs:
    """Output files and display options of a training.

    Parameters
    ----------
    model_file : Path or None
        Where to save the model; None does not save it.
    report : Path or None
        Where to write a page on the model.
    plots : Path or None
        A directory for plots.
    draws_test : bool
        Whether plots and report may show the test samples' loss per epoch.
    epoch_log : EpochLog or None
    as_json, quiet : bool
    checkpoint : Path or None
        From which training goes on.
    """

    model_file: Path | None
    report: Path | None
    plots: Path | None
    draws_test: bool
    epoch_log: EpochLog | None
    as_json: bool
    quiet: bool
    checkpoint: Path | None = None

    @property
    def shows_epochs(self) -> bool:
        """Whether progress is shown during training."""
        return not (self.quiet or self.as_json)

    @property
    def has_curves(self) -> bool:
        """Whether a loss curve of the test samples is needed."""
        return self.draws_test and (self.plots is not None or self.report is not None)

    def check(self) -> None:
        """Refuse paths that cannot or must not be written."""
        if self.model_file is not None:
            _check_model_file(self.model_file)
        if self.plots is not None:
            _check_plots(self.plots)
        if self.report is not None:
            _check_report(self.report)
        if self.checkpoint is not None:
            log = None if self.epoch_log is None else self.epoch_log.path
            others = {"--out": self.model_file, "--report": self.report, "--log": log}
            _check_checkpoint(self.checkpoint, others)

    def as_entries(self, pictures: Sequence[Path]) -> dict[str, Any]:
        """Return the written files, for --json."""
        return {"model file": self.model_file, "report": self.report, "pictures": pictures}

    def in_words(self, pictures: Sequence[Path]) -> dict[str, str]:
        """Return the written files, in words."""
        words = {"model file": "not saved" if self.model_file is None else str(self.model_file)}
        if self.report is not None:
            words["report"] = str(self.report)
        if pictures:
            words["pictures"] = ", ".join(map(str, pictures))
        return words


def fit_as_json(model: Any, backend_name: str, interrupted: bool) -> dict[str, Any]:
    """Return how a network was fitted, for --json."""
    from fastmlp.utils.threads import usable_threads

    return {
        "backend": backend_name,
        "instruction set": instruction_set(backend_name),
        "threads": model.n_threads or usable_threads(),
        "dtype": str(model.coefs_[0].dtype),
        "epochs": model.n_iter_,
        "epochs at most": model.max_iter,
        "interrupted": interrupted,
        "final loss": model.loss_,
    }


def _check_model_file(out: Path) -> None:
    """Check the path for the model before training."""
    from fastmlp.persistence import is_model_file

    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"--out must be a file in a directory that exists, got {out}.")
    if out.exists() and not out.is_file():  # a pipe or a device
        if not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, "cannot be written", str(out))
        return
    check_writable(out.resolve().parent, out)
    if out.is_file() and out.stat().st_size and not is_model_file(out):
        raise ValueError(f"{out} exists and is not a model: use another file with --out.")


def _check_plots(folder: Path) -> None:
    """Check that plots can be drawn and written, before training."""
    from fastmlp.displays import check_matplotlib

    check_matplotlib()
    whole = folder.resolve()
    existing = next(path for path in (whole, *whole.parents) if path.exists())
    if not existing.is_dir():
        raise ValueError(f"--plots must be a directory, got {folder}, and {existing} is a file.")
    check_writable(existing, folder)


def _check_report(path: Path) -> None:
    """Check the path for the report before training."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--report must end in .html, got {path}.")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--report must be a file in a directory that exists, got {path}.")
    check_writable(path.resolve().parent, path)


def _check_checkpoint(path: Path, others: Mapping[str, Path | None]) -> None:
    """Check the path for the checkpoint before training."""
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--checkpoint must be a file in a directory that exists, got {path}.")
    for option, other in others.items():
        if other is not None and path.resolve() == other.resolve():
            raise ValueError(f"--checkpoint and {option} must be two files, got {path} for both.")
    check_writable(path.resolve().parent, path)
