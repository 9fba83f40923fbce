"""A grid search whose fits run on the executors of Spark: pip install pyspark joblibspark.

Needs Java. Each fit gets as many threads as Spark reserves CPUs for a task: one.
"""

import os
import sys

from joblib import parallel_config
from joblibspark import register_spark
from pyspark.sql import SparkSession
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from fastmlp import MLPClassifier

X, y = load_digits(return_X_y=True)
network = MLPClassifier(early_stopping=True, random_state=0)
grid = {"alpha": [0.01, 0.1, 1], "hidden_layer_sizes": [(20,), (40, 20)]}
search = GridSearchCV(network, grid, cv=3)

if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the first python3 of PATH
    spark = SparkSession.builder.master("local[2]").getOrCreate()
    register_spark()
    with parallel_config(backend="spark", n_jobs=2):  # without n_jobs, fits would run here
        search.fit(X, y)
    spark.stop()
    results = search.cv_results_
    for score, parameters in zip(results["mean_test_score"], results["params"], strict=True):
        print(score, parameters)
