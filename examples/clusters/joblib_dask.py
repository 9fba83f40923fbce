"""A grid search whose fits run on the workers of Dask: pip install distributed.

Each fit gets as many threads as Dask lets a worker's task use: one.
"""

from distributed import Client
from joblib import parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from fastmlp import MLPClassifier

X, y = load_digits(return_X_y=True)
network = MLPClassifier(early_stopping=True, random_state=0)
grid = {"alpha": [0.01, 0.1, 1], "hidden_layer_sizes": [(20,), (40, 20)]}
search = GridSearchCV(network, grid, cv=3)

if __name__ == "__main__":  # the processes of the workers import this file
    with (
        Client(n_workers=2, threads_per_worker=1),  # a cluster: Client("tcp://scheduler:8786")
        parallel_config(backend="dask"),
    ):
        search.fit(X, y)
    results = search.cv_results_
    for score, parameters in zip(results["mean_test_score"], results["params"], strict=True):
        print(score, parameters)
