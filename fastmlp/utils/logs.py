"""The logger ``fastmlp``: nothing is shown until a program gives it a handler.

The lines of a training are records of level DEBUG, whether `verbose` prints them or not; the
notes of the command line are of level WARNING.
"""

import logging

LOGGER = logging.getLogger("fastmlp")
LOGGER.addHandler(logging.NullHandler())  # otherwise Python shows warnings by itself
