"""Fits on Dask's arrays and data frames; on workers in this process, and in real processes."""

import asyncio
import operator
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from functools import reduce

import numpy as np
import pandas as pd
import pytest
import threadpoolctl
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_matrix
from sklearn.base import clone

pytest.importorskip("distributed")

import dask.array as da
import dask.dataframe as dd
from dask import delayed
from distributed import Client, LocalCluster, get_task_stream

from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.dask import DaskMLPClassifier, DaskMLPRegressor, partitions, shards, training
from fastmlp.dask import cluster as cluster_module
from fastmlp.estimators.summaries import Questions
from fastmlp.training import Observer, PartialSum, observing

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Port .* is already in use"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

N, D = 1203, 12


@pytest.fixture(scope="module")
def client():
    with Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as client:
        yield client


@pytest.fixture(scope="module")
def data():
    generator = np.random.RandomState(0)
    X = generator.randint(0, 256, (N, D)).astype(np.uint8)
    return X, (X[:, :3].astype(int).sum(axis=1) // 200).astype(np.int64)


def parameters(**others):
    defaults = {
        "hidden_layer_sizes": (6,),
        "random_state": 1,
        "max_iter": 5,
        "input_scale": 1 / 255,
        "dtype": "float64",
    }
    return defaults | others


def split(array, n):
    """Return a Dask array of n partitions of unequal lengths."""
    ends = np.linspace(0, len(array), n + 1).astype(int)
    chunks = tuple(np.diff(ends).tolist())
    return da.from_array(array, chunks=(chunks, *array.shape[1:]))


def assert_close(a, b, atol=1e-12):
    for left, right in zip(a.coefs_ + a.intercepts_, b.coefs_ + b.intercepts_, strict=True):
        assert_allclose(left, right, atol=atol, rtol=0)


class TestLBFGS:
    @pytest.mark.parametrize("n", [1, 2, 3, 7, 20])
    def test_partitions(self, n, client, data):
        X, y = data
        options = parameters(solver="lbfgs", alpha=0.1, max_iter=8)
        local = MLPClassifier(**options).fit(X, y)
        model = DaskMLPClassifier(**options).fit(split(X, n), split(y, n))
        assert_close(model, local)
        assert_allclose(model.loss_, local.loss_, rtol=1e-13)
        assert model.n_iter_ == local.n_iter_

    def test_who_adds_first_changes_no_bit(self):
        """Sums have twice the digits, so they may be added in any order."""
        generator = np.random.RandomState(0)
        parts = [PartialSum.of(generator.normal(size=999) * 10.0**k, k, 1.5) for k in range(-8, 8)]
        expected = reduce(operator.add, parts)
        for seed in range(20):
            order = np.random.RandomState(seed).permutation(len(parts))
            some = [reduce(operator.add, [parts[i] for i in order[a::3]]) for a in range(3)]
            found = some[2] + (some[0] + some[1])
            assert_array_equal(found.rounded, expected.rounded)
        plain = [sum(parts[i].high for i in order) for order in (range(16), range(15, -1, -1))]
        assert (plain[0] != plain[1]).any()

    def test_weights_of_samples_and_classes(self, client, data):
        X, y = data
        weight = np.random.RandomState(3).uniform(size=N)
        weight[:300] = 0  # a partition without any weight
        options = parameters(solver="lbfgs", class_weight={1: 3.0}, max_iter=15)
        local = MLPClassifier(**options).fit(X, y, weight)
        model = DaskMLPClassifier(**options).fit(split(X, 5), split(y, 5), split(weight, 5))
        assert_close(model, local, atol=1e-11)

    def test_regression(self, client, data):
        X, y = data[0], data[0][:, :2] / 50.0
        options = parameters(solver="lbfgs", target_scale="standard", max_iter=15)
        local = MLPRegressor(**options).fit(X, y)
        model = DaskMLPRegressor(**options).fit(split(X, 3), split(y, 3))
        assert_close(model, local, atol=1e-10)
        assert_allclose(model.predict(split(X, 3)).compute(), local.predict(X), atol=1e-8)


class TestStochastic:
    @pytest.mark.parametrize("solver", ["adam", "sgd", "adamw"])
    @pytest.mark.parametrize("n", [1, 5])
    def test_sync_every_1_is_exact(self, solver, n, client, data):
        X, y = data
        options = parameters(solver=solver, batch_size=200, max_iter=3, learning_rate_init=0.05)
        local = MLPClassifier(**options).fit(X, y)
        model = DaskMLPClassifier(**options, sync_every=1).fit(split(X, n), split(y, n))
        assert_close(model, local)
        assert_allclose(model.loss_curve_, local.loss_curve_, rtol=1e-12)

    def test_one_worker_is_one_network(self, data):
        """And nothing is averaged, so an epoch is one of the local estimator on dealt-out rows."""
        X, y = data
        with Client(
            processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as one:
            model = DaskMLPClassifier(**parameters(max_iter=40, batch_size=50), client=one)
            model.fit(split(X, 3), split(y, 3))
        local = MLPClassifier(**parameters(max_iter=40, batch_size=50)).fit(X, y)
        assert_allclose(model.loss_, local.loss_, rtol=0.1)
        assert model.t_ == 40 * N

    @pytest.mark.parametrize("sync_every", [2, 7, 150])
    def test_replicas_learn(self, sync_every, client, data):
        X, y = data
        options = parameters(batch_size=80, max_iter=25, learning_rate_init=0.02)
        model = DaskMLPClassifier(**options, sync_every=sync_every).fit(split(X, 4), split(y, 4))
        local = MLPClassifier(**options).fit(X, y)
        assert model.score(split(X, 4), split(y, 4)) > local.score(X, y) - 0.06

    @pytest.mark.filterwarnings("ignore:Got `batch_size` less than 1")
    def test_the_average_of_two_replicas(self, client, data):
        """Against the definition: two local epochs, and their mean by samples."""
        X, y = data
        options = parameters(batch_size=40, max_iter=1, learning_rate_init=0.01, shuffle=False)
        model = DaskMLPClassifier(**options).fit(split(X, 4), split(y, 4))
        ask = Questions(True, None, False, False)
        pairs = partitions.paired(split(X, 4), split(y, 4), None)
        made = [
            future.result() for future in client.compute(partitions.plan(pairs, ask, 8, deals=True))
        ]
        assert sum(map(len, made)) == N
        means, total = None, 0
        for replica in range(2):
            own = made[replica::2]
            # One epoch with all batches in order; a shard's last batch is smaller.
            local = MLPClassifier(**parameters(batch_size=20, learning_rate_init=0.01))
            local._set_classes(np.unique(y), y)
            for shard in own:
                for start in range(0, len(shard), 20):
                    rows = slice(start, start + 20)
                    local.partial_fit(shard.X[rows], shard.y[rows])
            n = sum(map(len, own))
            weighted = [n * part for part in local.coefs_ + local.intercepts_]
            means = (
                weighted if means is None else [a + b for a, b in zip(means, weighted, strict=True)]
            )
            total += n
        for found, expected in zip(model.coefs_ + model.intercepts_, means, strict=True):
            assert_allclose(found, expected / total, atol=1e-10)

    def test_rows_are_dealt_out(self, client, data):
        """So sorted partitions do no harm."""
        X, y = data
        order = np.argsort(y, kind="stable")
        pairs = partitions.paired(split(X[order], 4), split(y[order], 4), None)
        ask = Questions(True, None, False, False)
        made = client.compute(partitions.plan(pairs, ask, 8, deals=True))
        for shard in [future.result() for future in made]:
            share = np.bincount(shard.y, minlength=4) / len(shard)
            assert_allclose(share, np.bincount(y) / N, atol=0.1)
        rows = np.concatenate([future.result().X for future in made])
        assert_array_equal(rows[np.lexsort(rows.T)], X[np.lexsort(X.T)])

    def test_early_stopping(self, client, data):
        X, y = data
        options = parameters(early_stopping=True, max_iter=200, n_iter_no_change=5, batch_size=40)
        model = DaskMLPClassifier(**options, learning_rate_init=0.01).fit(split(X, 4), split(y, 4))
        assert 5 < model.n_iter_ < 200
        assert model.best_validation_score_ > 0.7
        assert 0.85 * N < model.t_ / model.n_iter_ < 0.95 * N
        regressor = DaskMLPRegressor(**options, learning_rate_init=0.01)
        regressor.fit(split(X, 4), split(X[:, 0] / 100.0, 4))
        local = MLPRegressor(**options, learning_rate_init=0.01).fit(X, X[:, 0] / 100.0)
        assert abs(regressor.best_validation_score_ - local.best_validation_score_) < 0.1

    def test_the_score_of_held_out_samples(self, client, data):
        """R^2 of all of them together, not the mean over shards."""
        X, y = data[0], data[0][:, :2] / 50.0
        options = parameters(early_stopping=True, max_iter=1, validation_fraction=0.3)
        weight = np.linspace(1, 2, N)
        source = {}
        original = training._validate

        def validate(job, task, samples):
            score = original(job, task, samples)
            (wave,) = samples.waves()
            made = [future.result() for future in wave.futures]
            source.update(made=made, score=score, task=task)
            return score

        training._validate = validate
        try:
            model = DaskMLPRegressor(**options).fit(split(X, 3), split(y, 3), split(weight, 3))
        finally:
            training._validate = original
        held = [(s.X[a:], s.y[a:], s.weight[a:]) for s in source["made"]
                for a in [s.n_trained(source["task"])]]  # fmt: skip
        hX, hy, hw = map(np.concatenate, zip(*held, strict=True))
        assert_allclose(source["score"][1], model.to_local().score(hX, hy, hw), rtol=1e-10)
        loss = np.average(((model.predict(hX) - hy) ** 2).mean(axis=1), weights=hw) / 2
        assert_allclose(source["score"][0], loss, rtol=1e-10)

    def test_dropout_and_schedules(self, client, data):
        X, y = data
        options = parameters(dropout=0.2, lr_schedule={1: 0.01, 3: 0.001}, batch_size=40)
        model = DaskMLPClassifier(**options).fit(split(X, 4), split(y, 4))
        again = DaskMLPClassifier(**options).fit(split(X, 4), split(y, 4))
        assert model.loss_curve_ == again.loss_curve_
        assert model.history_["learning_rate"] == [0.01, 0.01, 0.001, 0.001, 0.001]

    def test_checkpoint(self, client, data, tmp_path):
        X, y = split(data[0], 4), split(data[1], 4)
        for options in (
            {"solver": "adam"}, {"solver": "lbfgs"}, {"solver": "sgd", "sync_every": 1},
        ):  # fmt: skip
            path = tmp_path / f"{options['solver']}.ckpt"
            expected = DaskMLPClassifier(**parameters(max_iter=6), **options).fit(X, y)
            for max_iter in (2, 6):
                model = DaskMLPClassifier(**parameters(max_iter=max_iter), **options)
                model.fit(X, y, checkpoint=path)
            assert_close(model, expected, atol=0)
            with pytest.raises(ValueError, match="belongs to another fit"):
                model.fit(X, split((data[1] > 1).astype(int), 4), checkpoint=path)


class TestCollections:
    def test_frames(self, client, data):
        X, y = data
        frame = pd.DataFrame(X.astype(np.float32)).add_prefix("x")
        frame["label"] = np.array(["a", "b", "c", "d"])[y]
        frame = dd.from_pandas(frame, npartitions=3)
        options = parameters(solver="lbfgs", max_iter=10)
        columns = [c for c in frame.columns if c != "label"]
        model = DaskMLPClassifier(**options).fit(frame[columns], frame["label"])
        local = MLPClassifier(**options).fit(
            frame[columns].compute(), frame["label"].compute().to_numpy(object)
        )
        assert_close(model, local)
        assert model.feature_names_in_.tolist() == columns
        labels = model.predict(frame[columns])
        assert_array_equal(labels.compute(), local.predict(frame[columns].compute()))
        assert labels.compute().index.equals(frame.index.compute())
        proba = model.predict_proba(frame[columns]).compute()
        assert list(proba.columns) == ["a", "b", "c", "d"]
        assert_allclose(proba, local.predict_proba(frame[columns].compute()), atol=1e-10)

    def test_unknown_lengths(self, client, data):
        """As after a filter; a partition is empty, and y is chunked alike."""
        X, y = split(data[0], 4), split(data[1], 4)
        first = np.zeros(N, bool)
        first[301:] = True
        chosen = split(first, 4)
        options = parameters(solver="lbfgs", max_iter=10)
        model = DaskMLPClassifier(**options).fit(X[chosen], y[chosen])
        assert_close(model, MLPClassifier(**options).fit(data[0][first], data[1][first]))
        predicted = model.predict(X[chosen])
        assert np.isnan(predicted.shape[0])
        assert_array_equal(predicted.compute(), model.to_local().predict(data[0][first]))

    def test_other_chunks(self, client, data):
        X = da.from_array(data[0], chunks=(400, 5))  # columns too
        options = parameters(solver="lbfgs", max_iter=10)
        model = DaskMLPClassifier(**options).fit(X, split(data[1], 7))
        assert_close(model, MLPClassifier(**options).fit(*data))
        assert_array_equal(model.predict(X).compute(), model.predict(data[0]))

    def test_sparse(self, client):
        X = random_matrix(400, 30, 0.1, "csr", random_state=0)
        y = np.asarray(X[:, :5].sum(axis=1)).ravel() > 0.2
        blocks = [
            da.from_delayed(delayed(X[i : i + 100]), (100, 30), X.dtype, meta=csr_matrix((0, 0)))
            for i in range(0, 400, 100)
        ]
        options = {"solver": "lbfgs", "random_state": 0, "max_iter": 10}
        for also in ({}, {"solver": "adam", "sync_every": 1, "batch_size": 100}):
            model = DaskMLPClassifier(**options | also).fit(da.concatenate(blocks), split(y, 4))
            also.pop("sync_every", None)
            assert_close(model, MLPClassifier(**options | also).fit(X, y), atol=1e-10)
        DaskMLPClassifier(max_iter=2).fit(da.concatenate(blocks), split(y, 4))

    def test_a_partition_lacks_a_class(self, client, data):
        X, y = data
        order = np.argsort(y, kind="stable")
        options = parameters(solver="lbfgs", max_iter=10)
        model = DaskMLPClassifier(**options).fit(split(X[order], 6), split(y[order], 6))
        assert_close(model, MLPClassifier(**options).fit(X[order], y[order]))

    def test_scales_and_multilabel(self, client, data):
        X, y = data[0].astype(np.float32), np.stack([data[1] > 0, data[1] > 2], axis=1).astype(int)
        options = parameters(solver="lbfgs", input_scale="standard", max_iter=10)
        model = DaskMLPClassifier(**options).fit(split(X, 3), split(y, 3))
        local = MLPClassifier(**options).fit(X, y)
        assert_close(model, local, atol=1e-9)
        assert_array_equal(model.predict(split(X, 3)).compute(), local.predict(X))

    def test_data_larger_than_the_cluster(self, client, data, monkeypatch):
        """Partitions are made anew in each pass, and few are there at a time."""
        monkeypatch.setattr(training, "_FRACTION", 0.0)
        X, y = split(data[0], 13), split(data[1], 13)
        options = parameters(solver="lbfgs", max_iter=10)
        model = DaskMLPClassifier(**options).fit(X, y)
        assert_close(model, MLPClassifier(**options).fit(*data))
        options = parameters(batch_size=80, max_iter=25, learning_rate_init=0.02)
        model = DaskMLPClassifier(**options).fit(X, y)
        assert model.score(X, y) > MLPClassifier(**options).fit(*data).score(*data) - 0.06
        with pytest.raises(ValueError, match="needs all samples in the workers' memory"):
            DaskMLPClassifier(**options, sync_every=1).fit(X, y)

    def test_large_weights_are_no_warning(self, client):
        X = np.random.RandomState(0).uniform(size=(40, 1000)).astype(np.float32)
        options = {"hidden_layer_sizes": (3000,), "max_iter": 1, "random_state": 0}  # 12 MB
        for solver in ("adam", "lbfgs"):
            model = DaskMLPClassifier(**options, solver=solver)
            model.fit(split(X, 2), split(np.arange(40) % 2, 2))
            assert model.predict(split(X, 2)).compute().shape == (40,)


class TestEstimator:
    def test_a_client_that_is_not_the_default(self, data):
        with Client(
            processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None,
            set_as_default=False,
        ) as other:  # fmt: skip
            model = DaskMLPClassifier(**parameters(max_iter=1), client=other)
            model.fit(split(data[0], 2), split(data[1], 2))
            assert model.n_iter_ == 1

    def test_parameters(self, client):
        model = DaskMLPClassifier((5,), alpha=0.3, sync_every=9, client=client)
        assert model.get_params()["alpha"] == 0.3
        assert model.get_params()["sync_every"] == 9
        assert "client" not in model.get_params()
        assert clone(model).sync_every == 9
        assert "sync_every=9" in repr(model)
        assert pickle.loads(pickle.dumps(model)).client is None
        with pytest.raises(TypeError, match="unexpected keyword argument 'aplha'"):
            DaskMLPClassifier(aplha=1)

    def test_to_local(self, client, data):
        X, y = data
        model = DaskMLPClassifier(**parameters()).fit(split(X, 3), split(y, 3))
        local = model.to_local()
        assert type(local) is MLPClassifier
        assert_array_equal(local.predict_proba(X), model.predict_proba(X))
        assert_allclose(model.predict_log_proba(X), np.log(model.predict_proba(X)))
        before = model.coefs_[0].copy()
        local.partial_fit(X, y)  # with the optimiser's state, and on its own
        assert_array_equal(model.coefs_[0], before)
        assert local._optimizer.t > 0
        assert model.score(split(X, 3), split(y, 3)) == model.score(X, y)

    def test_warm_start_and_observers(self, client, data):
        class Counts(Observer):
            seen = ()

            def samples_done(self, fit, n_samples):
                self.seen += (n_samples,)

        X, y = split(data[0], 3), split(data[1], 3)
        model = DaskMLPClassifier(
            **parameters(warm_start=True, max_iter=2, batch_size=20), sync_every=10
        )
        with observing(Counts()) as counts:
            model.fit(X, y).fit(X, y)
        assert len(model.loss_curve_) == 4
        assert counts.seen[-1] == N
        assert len(counts.seen) > 4

    def test_refused(self, client, data):
        X, y = split(data[0], 3), split(data[1], 3)
        fit = DaskMLPClassifier(**parameters()).fit
        with pytest.raises(TypeError, match=r"X must be a Dask array or data frame, got ndarray"):
            fit(data[0], y)
        with pytest.raises(ValueError, match="same number of rows, got 1203 and 1000"):
            fit(X, y[:1000])
        with pytest.raises(ValueError, match="two dimensions, got 1"):
            fit(y, y)
        with pytest.raises(ValueError, match="same partitions .* got 3 and 2"):
            fit(X[X[:, 0] > 3], split(data[1], 2))
        with pytest.raises(ValueError, match="The 'sync_every' parameter of DaskMLPClassifier"):
            DaskMLPClassifier(sync_every=0).fit(X, y)
        with pytest.raises(ValueError, match="sync_every=1 supports neither dropout"):
            DaskMLPClassifier(**parameters(dropout=0.1), sync_every=1).fit(X, y)
        with pytest.raises(ValueError, match="augment is not supported on a cluster"):
            DaskMLPClassifier(**parameters(augment=np.copy)).fit(X, y)
        broken = data[0].astype(float)
        broken[700, 2] = np.inf
        with pytest.raises(ValueError, match="In partition 1: Input X contains infinity"):
            fit(split(broken, 3), y)
        with pytest.raises(ValueError, match="must not be negative"):
            fit(X, y, split(np.linspace(-1, 1, N), 3))
        with pytest.raises(ValueError, match="at least one row"):
            fit(X[:0], y[:0])
        with pytest.raises(TypeError, match="no partial_fit"):
            DaskMLPClassifier().partial_fit(X, y)

    def test_without_a_client(self, data):
        program = (
            "import dask.array as da, numpy as np\n"
            "from fastmlp.dask import DaskMLPClassifier\n"
            "DaskMLPClassifier().fit(da.ones((3, 2)), da.ones(3))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.stderr.strip().endswith(
            "there is no Dask client: make one before, distributed.Client(), or pass client=..."
        )


def test_names_on_the_dashboard(client, data):
    X, y = split(data[0], 3), split(data[1], 3)
    with get_task_stream(client) as stream:
        DaskMLPClassifier(**parameters(early_stopping=True)).fit(X, y)
        DaskMLPClassifier(**parameters(solver="lbfgs")).fit(X, y)
    from dask.utils import key_split

    names = {key_split(task["key"]) for task in stream.data}
    assert {"mlp-shard", "mlp-summary", "mlp-steps", "mlp-validate", "mlp-gradient"} <= names


def test_ten_thousand_partitions_are_keys_of_a_graph(client, monkeypatch):
    """Planned in tenths of a second; an object for each of them would take ten."""

    def to_delayed(*_, **__):
        raise AssertionError("partitions have become objects")

    monkeypatch.setattr(da.Array, "to_delayed", to_delayed)
    X = da.ones((10_000 * 10, 20), chunks=(10, 20))
    pairs = partitions.paired(X, X[:, 0] > 0.5, None)
    ask = Questions(True, None, False, False)
    planned = partitions.plan(pairs, ask, 8, deals=True)
    assert len(planned) == 8
    layers = planned[0].dask.layers
    (layer,) = (layers[name] for name in layers if name.startswith("mlp-shard"))
    assert sum(len(numbers) for *_, numbers in layer.values()) == 10_000


def test_threads_of_a_worker(client):
    with Client(
        processes=False, n_workers=1, threads_per_worker=3, dashboard_address=None,
        set_as_default=False,
    ) as other:  # fmt: skip
        assert other.submit(shards._threads).result() == 3
    assert shards._threads() == 1


def test_a_worker_that_joins_is_used(data):
    with (
        LocalCluster(
            processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as local,
        Client(local) as client,
    ):
        X, y = split(data[0], 4), split(data[1], 4)
        model = DaskMLPClassifier(**parameters(max_iter=400, tol=0, n_iter_no_change=400))
        workers = set()
        original = shards.local_steps

        thread = threading.Thread(target=model.fit, args=(X, y))
        with get_task_stream(client) as stream:
            thread.start()
            time.sleep(1)
            local.scale(2)
            thread.join()
        workers = {task["worker"] for task in stream.data if "mlp-steps" in str(task["key"])}
        assert len(workers) == 2
        assert original is shards.local_steps
        assert model.n_iter_ == 400


def test_no_worker_is_left(data, monkeypatch):
    monkeypatch.setattr(cluster_module, "_PATIENCE", 2.0)
    with (
        LocalCluster(
            processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as local,
        Client(local),
    ):

        class Ends(Observer):
            def epoch_ended(self, fit, report):
                if report.epoch == 3:
                    threading.Thread(target=local.scale, args=[0]).start()

        X, y = split(data[0], 4), split(data[1], 4)
        model = DaskMLPClassifier(**parameters(max_iter=100_000, n_iter_no_change=100_000))
        with (
            observing(Ends()),
            pytest.raises(cluster_module.NoWorkersError, match="no Dask worker is left"),
        ):
            model.fit(X, y)
        assert model.n_iter_ >= 3
        assert np.isfinite(model.coefs_[0]).all()


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_workers_that_are_killed(solver, data):
    """SIGKILL, in real processes: the same losses, to the last digit."""
    X, y = split(np.tile(data[0], (5, 1)), 6), split(np.tile(data[1], 5), 6)
    options = parameters(solver=solver, hidden_layer_sizes=(100,), max_iter=150, tol=0)
    if solver == "adam":
        options["n_iter_no_change"] = 1000
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local,
        Client(local) as client,
    ):
        expected = DaskMLPClassifier(**options).fit(X, y)
        stop, killed = threading.Event(), []

        def kill():
            generator = np.random.RandomState(0)
            while not stop.wait(0.5 + generator.uniform(0, 1.5)) and len(killed) < 4:
                pids = [w.pid for w in local.workers.values() if w.pid and w.pid not in killed]
                if pids:
                    killed.append(pids[generator.randint(len(pids))])
                    os.kill(killed[-1], signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        found = DaskMLPClassifier(**options).fit(X, y)
        stop.set()
        thread.join()
        assert killed
        assert found.history_["loss"] == expected.history_["loss"]
        assert_close(found, expected, atol=0)
        del client


@pytest.mark.slow
@pytest.mark.parametrize(
    "fits_in_memory",
    [
        True,
        pytest.param(
            False,
            marks=pytest.mark.skipif(
                "FASTMLP_KILL_WORKERS" not in os.environ,
                reason="partitions made anew are not always freed: FASTMLP_KILL_WORKERS=1 runs it",
            ),
        ),
    ],
)
def test_all_workers_are_killed_at_once(fits_in_memory, data, monkeypatch):
    """For a moment there is none, and Dask forgets no task that was for one of them.

    Partitions that are made anew in each pass are restricted to workers, and Dask never computes
    them then.
    """
    if not fits_in_memory:
        monkeypatch.setattr(training, "_FRACTION", 0.0)
    monkeypatch.setattr(cluster_module, "_STALLED", 60.0 if fits_in_memory else 5.0)
    renewed = []
    monkeypatch.setattr(
        training.Samples,
        "_renewed",
        lambda self, numbers, original=training.Samples._renewed: (
            renewed.append(numbers) or original(self, numbers)
        ),
    )
    X, y = split(data[0], 6), split(data[1], 6)
    options = parameters(solver="lbfgs", max_iter=12, tol=0)
    expected = MLPClassifier(**options).fit(*data)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local,
        Client(local),
    ):

        class Kills(Observer):
            def epoch_ended(self, fit, report):
                if report.epoch == 4:
                    for worker in local.workers.values():
                        os.kill(worker.pid, signal.SIGKILL)

        with observing(Kills()):
            found = DaskMLPClassifier(**options).fit(X, y)
    assert_close(found, expected)
    assert found.n_iter_ == expected.n_iter_
    assert not (fits_in_memory and renewed)


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_dask_has_lost_a_task(solver, client, data, monkeypatch):
    """Nothing is computed, and nothing comes: the samples are made anew under other names."""
    X, y = split(data[0], 3), split(data[1], 3)
    expected = DaskMLPClassifier(**parameters(solver=solver)).fit(X, y)
    run, calls = cluster_module.Cluster.run, []

    def stalls_once(self, given):
        calls.append([future.key for call in given for future in call.arguments[0]])
        if len(calls) == 4:
            raise cluster_module.StalledError
        return run(self, given)

    monkeypatch.setattr(cluster_module.Cluster, "run", stalls_once)
    found = DaskMLPClassifier(**parameters(solver=solver)).fit(X, y)
    assert_close(found, expected, atol=0)
    assert not set(map(str, calls[3])) & set(map(str, calls[4]))


def test_a_call_that_is_never_computed_is_noticed(client, monkeypatch):
    monkeypatch.setattr(cluster_module, "_STALLED", 1.0)
    monkeypatch.setattr(cluster_module, "_INTERVAL", 0.3)
    cluster = cluster_module.Cluster(client)
    future = client.submit(abs, 1, workers=["tcp://192.0.2.1:1"], pure=False)  # none such
    with pytest.raises(cluster_module.StalledError):
        cluster._wait([future])


def test_results_that_never_come_are_noticed(client, monkeypatch):
    monkeypatch.setattr(cluster_module, "_STALLED", 1.0)
    monkeypatch.setattr(cluster_module, "_INTERVAL", 0.2)

    async def gather(*_, **__):
        await asyncio.sleep(3600)

    future = client.submit(abs, 1, pure=False)
    monkeypatch.setattr(client, "gather", gather)
    with pytest.raises(cluster_module.StalledError):
        cluster_module.Cluster(client)._fetched([future])


def test_calls_that_are_given_up_are_forgotten(client, monkeypatch):
    """Or Dask would keep the partitions that they need, and that it never computes."""
    monkeypatch.setattr(cluster_module, "_STALLED", 1.0)
    monkeypatch.setattr(cluster_module, "_INTERVAL", 0.3)
    cluster = cluster_module.Cluster(client)
    needed = client.submit(abs, 1, workers=["tcp://192.0.2.1:1"], pure=False)
    calls = [cluster_module.Call("mlp-test", abs, (needed,)) for _ in range(3)]
    with pytest.raises(cluster_module.StalledError):
        cluster.run(calls)
    client.cancel([needed])
    begun = time.monotonic()
    while client.cluster.scheduler.tasks.get(needed.key) and time.monotonic() < begun + 10:
        time.sleep(0.05)
    assert needed.key not in client.cluster.scheduler.tasks


def test_results_come_directly_from_workers_of_this_machine(client, monkeypatch):
    """The scheduler would copy them."""
    asked, gather = [], client.gather

    def recorded(*arguments, direct=None, **others):
        asked.append(direct)
        return gather(*arguments, direct=direct, **others)

    monkeypatch.setattr(client, "gather", recorded)
    cluster = cluster_module.Cluster(client)
    assert cluster.run([cluster_module.Call("mlp-test", abs, (-2,))]) == [2]
    assert asked == [True]


def test_the_client_does_not_take_the_workers_cores(client, data):
    """BLAS has one thread there: its threads wait for work by keeping their cores busy."""
    found = []

    class Looks(Observer):
        def epoch_ended(self, fit, report):
            libraries = threadpoolctl.threadpool_info()
            found.extend(lib["num_threads"] for lib in libraries if lib["user_api"] == "blas")

    X, y = split(data[0], 2), split(data[1], 2)
    with threadpoolctl.threadpool_limits(2, "blas"), observing(Looks()):
        DaskMLPClassifier(**parameters(solver="lbfgs", max_iter=1)).fit(X, y)
    assert found
    assert set(found) == {1}


def tasks_of(client):
    return [key for key in client.cluster.scheduler.tasks if "mlp-" in str(key)]


def test_a_fit_that_fails_leaves_nothing(client, data):
    X, y = data
    X = X.astype(float)
    X[-1, 0] = np.nan
    for _ in range(2):
        with pytest.raises(ValueError, match=r"In partition 2: Input X contains NaN"):
            DaskMLPClassifier(**parameters()).fit(split(X, 3), split(y, 3))
    begun = time.monotonic()
    while tasks_of(client) and time.monotonic() < begun + 10:
        time.sleep(0.05)
    assert not tasks_of(client)


def test_a_fit_in_a_task(data):
    """It gives up its place, or its own tasks would wait for it."""
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as client:

        def fit():
            options = parameters(solver="lbfgs", max_iter=2)
            return DaskMLPClassifier(**options).fit(split(data[0], 2), split(data[1], 2)).loss_

        expected = MLPClassifier(**parameters(solver="lbfgs", max_iter=2)).fit(*data).loss_
        assert_allclose(client.submit(fit).result(timeout=60), expected)


def test_fits_at_the_same_time(client, data):
    """On the same data; one of them gives up its samples in between."""
    X, y = split(data[0], 3), split(data[1], 3)
    expected = DaskMLPClassifier(**parameters(solver="lbfgs")).fit(X, y)
    stalled, run = [], cluster_module.Cluster.run

    def stalls_once(self, calls):
        if calls[0].name == "mlp-gradient" and not stalled:
            stalled.append(True)
            raise cluster_module.StalledError
        return run(self, calls)

    models = [DaskMLPClassifier(**parameters(solver="lbfgs"), client=client) for _ in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_module.Cluster, "run", stalls_once)
        threads = [threading.Thread(target=model.fit, args=(X, y)) for model in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for model in models:
        assert_close(model, expected, atol=0)


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_a_checkpoint_goes_on_with_more_workers(solver, client, data, tmp_path):
    """There are more shards then, and the same samples."""
    X, y = split(np.tile(data[0], (5, 1)), 5), split(np.tile(data[1], 5), 5)
    path = tmp_path / "run.ckpt"
    DaskMLPClassifier(**parameters(solver=solver, max_iter=3)).fit(X, y, checkpoint=path)
    with Client(
        processes=False, n_workers=5, threads_per_worker=1, dashboard_address=None,
        set_as_default=False,
    ) as more:  # fmt: skip
        model = DaskMLPClassifier(**parameters(solver=solver, max_iter=6), client=more)
        model.fit(X, y, checkpoint=path)
        assert model.n_iter_ == 6
        with pytest.raises(ValueError, match="X differs"):
            model.fit(255 - X, y, checkpoint=path)


def test_the_client_is_closed(data):
    client = Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None)

    class Closes(Observer):
        def epoch_ended(self, fit, report):
            if report.epoch == 2:
                client.close()

    model = DaskMLPClassifier(**parameters(max_iter=100, n_iter_no_change=100), client=client)
    with (
        observing(Closes()),
        pytest.raises(cluster_module.ClientClosedError, match="client was closed during the fit"),
    ):
        model.fit(split(data[0], 2), split(data[1], 2))
    assert model.n_iter_ == 2


def test_partitions_that_are_empty_and_do_not_fit(client, data, monkeypatch):
    monkeypatch.setattr(training, "_FRACTION", 0.0)
    X, y = split(data[0], 40), split(data[1], 40)
    rows = da.from_array(np.arange(N) < 300, chunks=X.chunks[0])
    model = DaskMLPClassifier(**parameters(early_stopping=True, max_iter=2)).fit(X[rows], y[rows])
    assert model.n_iter_ == 2


def test_nothing_is_left_to_train_on(client, data):
    options = parameters(early_stopping=True, validation_fraction=0.9)
    with pytest.raises(ValueError, match="leaves no samples to train on, of 8"):
        DaskMLPClassifier(**options).fit(split(data[0][:8], 2), split(data[1][:8], 2))


def test_saved(client, data, tmp_path):
    """As the local estimator, which every machine can load."""
    import fastmlp

    model = DaskMLPClassifier(**parameters(max_iter=1)).fit(split(data[0], 2), split(data[1], 2))
    fastmlp.save(model, tmp_path / "model.npz")
    loaded = fastmlp.load(tmp_path / "model.npz")
    assert type(loaded) is MLPClassifier
    assert_array_equal(loaded.predict(data[0]), model.predict(data[0]))
