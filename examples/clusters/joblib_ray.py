"""A randomized search whose fits run on the workers of Ray: pip install ray.

Each fit gets as many threads as Ray reserves CPUs for a worker: one.
"""

import ray
from joblib import parallel_config
from ray.util.joblib import register_ray
from sklearn.datasets import load_digits
from sklearn.model_selection import RandomizedSearchCV

from fastmlp import MLPClassifier

X, y = load_digits(return_X_y=True)
network = MLPClassifier(early_stopping=True, random_state=0)
grid = {"alpha": [0.01, 0.1, 1, 10], "hidden_layer_sizes": [(20,), (40,), (40, 20)]}
search = RandomizedSearchCV(network, grid, n_iter=6, cv=3, random_state=0)

if __name__ == "__main__":
    ray.init(num_cpus=2)  # a cluster: ray.init(address="auto")
    register_ray()
    with parallel_config(backend="ray", n_jobs=2):  # without n_jobs, fits would run here
        search.fit(X, y)
    ray.shutdown()
    results = search.cv_results_
    for score, parameters in zip(results["mean_test_score"], results["params"], strict=True):
        print(score, parameters)
