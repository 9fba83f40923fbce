"""784-397-10 by L-BFGS on standardized pixels, which stay bytes: the scaling is in the model."""

from fastmlp import MLPClassifier
from fastmlp.datasets import load_mnist

(X, y), (X_test, y_test) = load_mnist()
model = MLPClassifier(
    hidden_layer_sizes=((784 + 10) // 2,),
    solver="lbfgs",
    alpha=1e-5,
    random_state=1,
    input_scale="standard",
)
model.fit(X, y)
print(f"{model.n_iter_} iterations, training score {model.score(X, y):.4f}")
print(f"test score {model.score(X_test, y_test):.4f}")  # scikit-learn's, in float32: 0.9768
