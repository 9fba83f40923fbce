"""The logger ``fastmlp``, which shows nothing without a handler.

The lines of a training are DEBUG records, regardless of `verbose`; the notes of the command line
are WARNING records.
"""

import logging

LOGGER = logging.getLogger("fastmlp")
LOGGER.addHandler(logging.NullHandler())  # otherwise Python prints warnings
