"""Predictions for tables of Spark, in its executors: pip install "pyspark[sql]".

Needs Java. The fitted pipeline is pickled with the function that uses it; a large one is better
sent once to each executor: spark.sparkContext.broadcast(pipeline).
"""

import os
import sys

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf, struct
from pyspark.sql.types import StringType, StructField, StructType
from sklearn.datasets import load_wine

from fastmlp.tables import make_table_pipeline

wine = load_wine(as_frame=True)
names = wine.target_names[wine.target]
pipeline = make_table_pipeline("classification", n_rows=len(names), random_state=0)
pipeline.fit(wine.data, names)


def name(columns: pd.DataFrame) -> pd.Series:
    """Return a column for columns."""
    return pd.Series(pipeline.predict(columns))


def with_names(parts):
    """Yield each part of a table with one more column."""
    for part in parts:
        yield part.assign(name=pipeline.predict(part))


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the first python3 of PATH
    spark = SparkSession.builder.master("local[2]").getOrCreate()
    table = spark.createDataFrame(wine.data)  # or spark.read.parquet
    name_of = pandas_udf(name, StringType())
    labelled = table.withColumn("name", name_of(struct(*table.columns)))
    print("names", *labelled.toPandas()["name"][::60])
    schema = StructType([*table.schema, StructField("name", StringType())])
    labelled = table.mapInPandas(with_names, schema)
    print({row["name"]: row["count"] for row in labelled.groupBy("name").count().collect()})
    spark.stop()
