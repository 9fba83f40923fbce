"""784-300-10 with dropout, from a folder of pictures for each label; a fifth is for validation."""

from tempfile import TemporaryDirectory

from sklearn.model_selection import train_test_split

from fastmlp import MLPClassifier
from fastmlp.datasets import load_mnist
from fastmlp.images import load_folder, save_folder

(X, y), (X_test, y_test) = load_mnist()
with TemporaryDirectory() as directory:
    save_folder(X[:42_000], y[:42_000], directory)  # label/row.png
    pictures = load_folder(directory)
X, X_val, y, y_val = train_test_split(pictures.X, pictures.y, test_size=0.2, random_state=1)
model = MLPClassifier(
    hidden_layer_sizes=(300,),
    dropout=0.6,
    loss="squared_error",
    label_smoothing=(0.01, 0.99),  # the targets, in place of 0 and 1
    alpha=0,
    batch_size=67,  # 500 batches per epoch
    max_iter=100,
    n_iter_no_change=100,
    lr_schedule={1: 1e-3, 15: 1e-4, 40: 1e-5, 60: 5e-6},
    input_scale=(0.99 / 255, 0.01),
    random_state=1,
)
model.fit(X, y, X_val=X_val, y_val=y_val)
for epoch in range(9, model.n_iter_, 10):
    losses = model.history_["loss"][epoch], model.history_["val_loss"][epoch]
    print(f"epoch {epoch + 1}: losses {losses[0]:.4f} and {losses[1]:.4f}", end=", ")
    print(f"validation score {model.history_['val_score'][epoch]:.4f}")  # published: 0.9723
print(f"test score {model.score(X_test, y_test):.4f}")
