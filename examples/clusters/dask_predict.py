"""Predictions for tables and arrays of Dask, part by part: pip install "dask[dataframe]"."""

import dask.array as da
import dask.dataframe as dd
from sklearn.datasets import load_digits, load_wine

from fastmlp import MLPClassifier
from fastmlp.tables import make_table_pipeline

X, y = load_digits(return_X_y=True)
model = MLPClassifier(solver="lbfgs", input_scale=1 / 16, max_iter=1000, random_state=0).fit(X, y)

wine = load_wine(as_frame=True)
names = wine.target_names[wine.target]
pipeline = make_table_pipeline("classification", n_rows=len(names), random_state=0)
pipeline.fit(wine.data, names)

if __name__ == "__main__":
    images = da.from_array(X, chunks=(500, -1))  # or da.from_zarr, as large as disks are
    labels = images.map_blocks(model.predict, drop_axis=1, dtype=model.classes_.dtype)
    chunks = images.chunks[0], (len(model.classes_),)
    like = model.predict_proba(X[:1])[:0]  # a call tells Dask the type
    probabilities = images.map_blocks(model.predict_proba, chunks=chunks, meta=like)
    print("accuracy", (labels == y).mean().compute())
    print("mean confidence", probabilities.max(axis=1).mean().compute())

    table = dd.from_pandas(wine.data, npartitions=3)  # or dd.read_parquet
    labels = table.map_partitions(pipeline.predict, meta=pipeline.predict(wine.data[:1])[:0])
    print("names", *labels.compute()[::60])
    labelled = table.map_partitions(lambda part: part.assign(name=pipeline.predict(part)))
    print(labelled.groupby("name").size().compute().sort_index().to_dict())
