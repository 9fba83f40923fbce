"""Fitted models as plain arrays, which other programs can compute with.

networks  the networks of a model, and what is made of their outputs
tables    what the pipeline for tables does with a row before them
about     what a person, a page or a form needs to know of a model
"""

from fastmlp.portable.about import about
from fastmlp.portable.networks import PlainModel, PlainNetwork, plain
from fastmlp.portable.tables import PlainColumn, PlainTable

__all__ = ["PlainColumn", "PlainModel", "PlainNetwork", "PlainTable", "about", "plain"]
