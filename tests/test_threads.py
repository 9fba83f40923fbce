"""How many threads this process may use."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score

from fastmlp import MLPClassifier
from fastmlp.utils.threads import sharing_threads, usable_threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_limits(monkeypatch):
    monkeypatch.setattr("fastmlp.utils.threads._cpus", lambda *_: 6)
    for value, expected in [("", 6), ("2", 2), ("64", 6), ("0", 1), ("4,2", 6)]:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert usable_threads() == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert usable_threads() == 6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_affinity(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    mask = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mask)})
        assert usable_threads() == 1
    finally:
        os.sched_setaffinity(0, mask)


@pytest.fixture
def twelve_cpus(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("joblib.cpu_count", lambda: 12)
    monkeypatch.setattr("fastmlp.utils.threads._cpus", lambda *_: 12)


@sharing_threads
def threads_of_a_fit(meeting=None):
    """Return how many threads a fit has, once all that meet have begun."""
    if meeting is not None:
        meeting.wait(30)
    n_threads = usable_threads()
    if meeting is not None:
        meeting.wait(30)
    return n_threads


@pytest.mark.usefixtures("twelve_cpus")
class TestFitsAtOnce:
    @pytest.mark.parametrize(("n_fits", "expected"), [(1, 12), (2, 6), (5, 2), (16, 1)])
    def test_share_the_cpus(self, n_fits, expected):
        meeting = threading.Barrier(n_fits)
        with ThreadPoolExecutor(n_fits) as pool:
            shares = list(pool.map(threads_of_a_fit, [meeting] * n_fits))
        assert shares == [expected] * n_fits
        assert threads_of_a_fit() == 12  # they are over

    def test_one_that_fails_is_over(self):
        @sharing_threads
        def fail():
            raise ValueError

        with pytest.raises(ValueError):
            fail()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(threads_of_a_fit).result() == 12

    def test_one_within_another_has_all_that_it_has(self):
        assert sharing_threads(lambda: (threads_of_a_fit(), usable_threads()))() == (12, 12)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_a_child_counts_none_of_its_parents(self):
        @sharing_threads
        def forked():
            child = os.fork()
            if child == 0:
                os._exit(usable_threads())
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        meeting = threading.Barrier(2)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(threads_of_a_fit, meeting)
            meeting.wait(30)
            assert forked() == 12
            meeting.wait(30)


@pytest.mark.usefixtures("twelve_cpus")
class TestJoblib:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("backend", "n_jobs", "expected"),
        [
            ("sequential", 3, 12),
            ("threading", 1, 12),
            ("threading", 2, 6),
            ("threading", 3, 4),
            ("threading", 24, 1),
            ("multiprocessing", 2, 6),
        ],
    )
    def test_jobs_share_the_cpus_from_the_first_on(self, backend, n_jobs, expected):
        with joblib.parallel_config(backend, n_jobs=n_jobs):
            shares = joblib.Parallel()(joblib.delayed(usable_threads)() for _ in range(4))
        assert shares == [expected] * 4
        assert usable_threads() == 12

    def test_a_job_per_cpu(self, monkeypatch):
        monkeypatch.undo()  # joblib itself counts those that there are
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert joblib.Parallel(-1, "threading")([joblib.delayed(usable_threads)()] * 2) == [1, 1]

    @pytest.mark.slow
    def test_jobs_within_jobs(self):
        def outer():
            return joblib.Parallel(2)(joblib.delayed(usable_threads)() for _ in range(2))

        shares = joblib.Parallel(4, "threading")(joblib.delayed(outer)() for _ in range(4))
        assert shares == [[3, 3]] * 4


class TestEstimators:
    X = np.random.RandomState(0).standard_normal((80, 6))
    y = np.arange(80) % 3

    @pytest.fixture
    def asked(self, twelve_cpus, monkeypatch):
        """What `usable_threads` answers the engines, which meet there if `meeting` is set."""

        class Answers(list):
            meeting = threading.Barrier(1)

        answers = Answers()

        def usable():
            answers.meeting.wait(30)
            answers.append(usable_threads())
            answers.meeting.wait(30)
            return answers[-1]

        for module in ("numba_backend.engine", "cython_backend._engine"):
            name = f"fastmlp.backends.{module}"
            pytest.importorskip(name, exc_type=ImportError)
            monkeypatch.setattr(f"{name}.usable_threads", usable)
        return answers

    def test_a_search_in_threads(self, asked):
        model = MLPClassifier((4,), max_iter=2, random_state=0)
        expected = cross_val_score(model, self.X, self.y, cv=4)
        assert asked and set(asked) == {12}
        asked.clear()
        with joblib.parallel_config("threading", n_jobs=2):
            scores = cross_val_score(model, self.X, self.y, cv=4)
        assert asked and set(asked) == {6}
        np.testing.assert_array_equal(scores, expected)

    def test_threads_of_the_users(self, asked):
        asked.meeting = threading.Barrier(3)
        model = MLPClassifier((4,), max_iter=5, random_state=0)
        with ThreadPoolExecutor(3) as pool:
            fits = [pool.submit(clone(model).fit, self.X, self.y) for _ in range(3)]
            fitted = [fit.result() for fit in fits]
        assert set(asked) == {4}  # by every engine, and before every epoch
        asked.meeting = threading.Barrier(1)
        alone = clone(model).fit(self.X, self.y)
        for other in fitted:
            for ours, expected in zip(other.coefs_, alone.coefs_, strict=True):
                np.testing.assert_array_equal(ours, expected)

    def test_a_number_that_is_given_is_kept(self, asked):
        model = MLPClassifier((4,), max_iter=2, random_state=0, n_threads=5)
        with joblib.parallel_config("threading", n_jobs=2):
            search = GridSearchCV(model, {"alpha": [1e-4, 1.0]}, cv=2).fit(self.X, self.y)
        assert not asked
        assert search.best_estimator_.n_threads == 5
