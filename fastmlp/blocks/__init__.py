"""Data larger than memory: arrays on disk and batches, read in blocks.

`fit` of the estimators takes memory maps and iterables of batches as they are; `read_parquet`
makes batches of a Parquet file. See docs/scaling.md.
"""

from fastmlp.blocks.batches import Gathered, gathered
from fastmlp.blocks.parquet import read_parquet
from fastmlp.blocks.rows import Rows, is_on_disk
from fastmlp.blocks.windows import Window, Windows

__all__ = ["Gathered", "Rows", "Window", "Windows", "gathered", "is_on_disk", "read_parquet"]
