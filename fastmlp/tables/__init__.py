"""Tables with columns of mixed types: reading, description, and a pipeline for training.

reading       read files and streams; the format is detected from the content
text          parse numbers, dates and booleans written as text
columns       describe the columns; find target and task
transformers  select and convert columns, scale numbers, encode categories
pipeline      the complete pipeline, and its default parameters
parquet       Parquet files larger than memory: sampled, and fitted on in batches
"""

try:
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastmlp.tables needs pandas and pyarrow: pip install 'fastmlp[tables]'."
    ) from error

from fastmlp.tables.columns import Column, describe, find_target, find_task, take_target
from fastmlp.tables.parquet import ParquetTable, fit_in_batches
from fastmlp.tables.pipeline import ColumnsOfDtype, make_table_pipeline
from fastmlp.tables.reading import read_table
from fastmlp.tables.transformers import RobustSmoothScaler, TableColumns, TableOneHotEncoder

__all__ = [
    "Column",
    "ColumnsOfDtype",
    "ParquetTable",
    "RobustSmoothScaler",
    "TableColumns",
    "TableOneHotEncoder",
    "describe",
    "find_target",
    "find_task",
    "fit_in_batches",
    "make_table_pipeline",
    "read_table",
    "take_target",
]
