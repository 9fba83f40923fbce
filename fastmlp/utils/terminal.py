"""Where progress can be shown: on a terminal whose cursor moves, and nowhere else."""

import logging
import os
from typing import TextIO

from fastmlp.utils.logs import LOGGER


def on_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is a terminal that can move its cursor, and has colours.

    A notebook's ``!command`` has a terminal of which the cell shows every byte. It is told by what
    the kernel sets; rich would go by FORCE_COLOR, which the kernel sets, too.
    """
    if stream is None or not stream.isatty() or os.environ.get("TERM") == "dumb":
        return False
    return "JPY_PARENT_PID" not in os.environ and "inline" not in os.environ.get("MPLBACKEND", "")


def shows_progress(stream: TextIO | None) -> bool:
    """Return whether to show progress: on a terminal, unless ``fastmlp`` logs errors only."""
    return on_terminal(stream) and LOGGER.isEnabledFor(logging.WARNING)
