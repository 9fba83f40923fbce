"""Tables of mixed columns: read from files of any kind, described, and learned from.

reading       a file or stream of any format, found by its content, becomes a frame
text          numbers, dates and booleans that are written as text
columns       what each column is and what will be done with it; target and task
transformers  columns found and converted, numbers scaled, categories encoded
averages      the average of several networks
pipeline      from frame to prediction: all of these put together, and the defaults
"""

try:
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastmlp.tables needs pandas and pyarrow: pip install 'fastmlp[tables]'."
    ) from error

from fastmlp.tables.averages import AveragedMLPClassifier, AveragedMLPRegressor
from fastmlp.tables.columns import Column, describe, find_target, find_task, take_target
from fastmlp.tables.pipeline import ColumnsOfDtype, make_table_pipeline
from fastmlp.tables.reading import read_table
from fastmlp.tables.transformers import RobustSmoothScaler, TableColumns, TableOneHotEncoder

__all__ = [
    "AveragedMLPClassifier",
    "AveragedMLPRegressor",
    "Column",
    "ColumnsOfDtype",
    "RobustSmoothScaler",
    "TableColumns",
    "TableOneHotEncoder",
    "describe",
    "find_target",
    "find_task",
    "make_table_pipeline",
    "read_table",
    "take_target",
]
