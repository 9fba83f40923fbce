"""How many threads this process may use."""

import os

import pytest

from fastmlp.threads import usable_threads


def test_limits(monkeypatch):
    monkeypatch.setattr("fastmlp.threads._cpus", lambda *_: 6)
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
