"""Convert data sets between file formats."""

from fastmlp.convert.arrays import read_array
from fastmlp.convert.converting import convert, read
from fastmlp.convert.kind import LabelWarning, Part

__all__ = ["LabelWarning", "Part", "convert", "read", "read_array"]
