"""The suite of `fastmlp bench` under pytest-benchmark: its cases, its workers, its ratios.

Timed is a measurement of ours, after the others have had their turn; the ratios are in
``extra_info``. Where benchmarks are disabled, one case of each kind runs, in quick sizes.
"""

import pytest

from fastmlp import bench


def pytest_generate_tests(metafunc):
    cases = bench.CASES
    if metafunc.config.getoption("benchmark_disable"):
        kinds = {(case.group, case.task): case for case in sorted(cases, key=n_peers)}
        cases = kinds.values()
    metafunc.parametrize("case", cases, ids=[case.name for case in cases])


def n_peers(case):
    return len(case.peers)


def test_case(benchmark, case):
    benchmark.group = case.group
    with bench.Contest(case, quick=not benchmark.enabled) as contest:
        if contest.ours.missing:
            pytest.skip(contest.ours.missing)
        benchmark.pedantic(
            contest.ours.measure, setup=contest.measure_others, rounds=contest.rounds
        )
        result = contest.result()
    benchmark.extra_info.update(result)
    assert bench.passed([result]), result["peers"]
