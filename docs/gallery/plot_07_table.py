"""
A table: which columns matter, and how
======================================

The pipeline for tables takes a data frame as it is. As it is a scikit-learn pipeline,
:mod:`!sklearn.inspection` explains it by the columns of the frame.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.model_selection import train_test_split

from fastmlp.tables import describe, make_table_pipeline

frame, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
frame["sex"] = frame["sex"].map({1.0: "a", 2.0: "b"})  # the data do not say which is which
frame.loc[np.random.default_rng(0).random(len(frame)) < 0.1, "bmi"] = np.nan
for column in describe(frame):
    print(f"{column.name:5}", column.kind)

# %%
# Text and missing values need no preparation.
X, X_test, y, y_test = train_test_split(frame, y, random_state=0)
pipeline = make_table_pipeline("regression", n_rows=len(X), random_state=0).fit(X, y)
print(f"R² on held-out rows {pipeline.score(X_test, y_test):.2f}")

# %%
# How much worse are predictions if the values of one column are shuffled?
importance = permutation_importance(pipeline, X_test, y_test, n_repeats=10, random_state=0)
order = importance.importances_mean.argsort()
figure, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
ax.boxplot(
    importance.importances[order].T, orientation="horizontal", tick_labels=frame.columns[order]
)
ax.set(xlabel="decrease of R²")
ax.axvline(0, color="gray", linestyle=":")

# %%
# How do predictions change with the most important columns?
features = ["bmi", "s5", "bp"]
display = PartialDependenceDisplay.from_estimator(
    pipeline, X_test.dropna(), features, kind="both", subsample=40, n_cols=3, random_state=0,
    grid_resolution=20, ice_lines_kw={"color": "C0", "alpha": 0.25}, pd_line_kw={"color": "C1"},
)  # fmt: skip
display.figure_.set_size_inches(9, 3.4)
display.figure_.set_layout_engine("constrained")
