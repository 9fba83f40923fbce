"""The CUDA backend where there is no device: its refusals; cuda_simulated.py runs its kernels."""

import os
import subprocess
import sys

import pytest

from fastmlp import backends


def reason_given(prelude):
    """Return why the backend is unavailable in a process that begins with `prelude`."""
    code = f"{prelude}; from fastmlp import backends; print(backends.unavailable().get('cuda', ''))"
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    return run.stdout.strip()


def test_without_numba():
    assert "numba is not installed" in reason_given("import sys; sys.modules['numba'] = None")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("'CUDA_ERROR_NO_DEVICE (100)'", "no CUDA device was found"),
        ("'libcuda.so\\n  was not found'", "no CUDA driver can be used: libcuda.so was not found"),
        ("None", "the CUDA toolkit was not found"),
    ],
)
def test_refusals_say_why(error, reason):
    pytest.importorskip("numba")
    prelude = (
        f"from numba import cuda; cuda.cuda_error = lambda: {error}; "
        "cuda.is_available = lambda: False"
    )
    assert reason in reason_given(prelude)


def test_a_refusal_names_the_ways_out():
    if "cuda" in backends.available():
        pytest.skip("CUDA can be used here")
    with pytest.raises(
        backends.BackendUnavailableError, match=r"backend='cuda' is not available: .*numpy"
    ):
        backends.get("cuda")
