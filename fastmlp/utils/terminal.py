"""Detection of terminals, for progress displays."""

import logging
import os
from typing import TextIO

from fastmlp.utils.logs import LOGGER


def on_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal with cursor movement and colors.

    A notebook's ``!command`` has a terminal, but the cell shows every byte. It is detected by
    variables of the kernel; rich would use FORCE_COLOR, which the kernel sets, too.
    """
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        return False
    return "JPY_PARENT_PID" not in os.environ and "inline" not in os.environ.get("MPLBACKEND", "")


def shows_progress(stream: TextIO | None) -> bool:
    """Return whether to show progress: on a terminal, unless ``fastmlp`` logs errors only."""
    return on_terminal(stream) and LOGGER.isEnabledFor(logging.WARNING)
