"""The input matrix and its affine map."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fastmlp.core.inputs import Inputs, affine_map

FLOAT64 = np.dtype("float64")


def test_none_is_the_identity():
    assert affine_map(None, np.zeros((2, 3)), "float64") == (None, None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_number_and_pair(dtype):
    X = np.zeros((2, 3), np.uint8)
    scale, shift = affine_map(0.5, X, dtype)
    assert scale.tolist() == [0.5] * 3
    assert shift.tolist() == [0.0] * 3
    scale, shift = affine_map(([1, 2, 3], -1), X, dtype)
    assert scale.tolist() == [1, 2, 3]
    assert shift.tolist() == [-1] * 3
    assert scale.dtype == shift.dtype == dtype


@pytest.mark.parametrize("zero", [0, 0.0, (0, 1), ([0, 0, 0], 1)])
def test_a_scale_of_zero_is_refused(zero):
    with pytest.raises(ValueError, match="must not be 0, which makes all samples .* such as 1/255"):
        affine_map(zero, np.ones((2, 3)), "float64")
    assert affine_map(([0, 1, 0], 0), np.ones((2, 3)), "float64")[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("n_samples", [1, 3, 4096, 9001])
def test_standard(n_samples):
    X = np.random.RandomState(0).randint(0, 256, (n_samples, 4)).astype(np.uint8)
    X[:, 1] = 7
    scale, shift = affine_map("standard", X, "float64")
    Z = X * scale + shift
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-12)
    varies = X.std(axis=0) > 0
    np.testing.assert_allclose(Z.std(axis=0), varies, rtol=1e-12, atol=1e-12)


def test_standard_of_a_constant_that_is_not_representable():
    X = np.full((1000, 2), 0.1)
    scale, shift = affine_map("standard", X, "float64")
    np.testing.assert_allclose(X * scale + shift, 0, atol=1e-12)


def test_inputs_refuse_what_no_engine_takes():
    with pytest.raises(ValueError, match="C-contiguous"):
        Inputs(np.zeros((3, 4)).T, FLOAT64)
    with pytest.raises(ValueError, match="values must be uint8 or float64, got float32"):
        Inputs(np.zeros((3, 4), "float32"), FLOAT64)


@pytest.mark.parametrize(
    ("scale", "shift", "message"),
    [
        (np.ones(3), None, r"shift must be .* got NoneType"),
        (None, np.ones(3), r"scale must be .* got NoneType"),
        (np.ones(2), np.ones(3), r"scale must be .* of shape \(3,\), got .* shape \(2,\)"),
        (np.ones(3), 1.0, "shift must be .* got float"),
        (np.ones(3, np.float32), np.ones(3), "scale must be .* float64 .* got .* float32"),
        (np.ones(3), np.ones(6)[::2], "shift must be a contiguous array"),
        (np.ones((3, 1)), np.ones(3), r"scale .* got an array of float64 of shape \(3, 1\)"),
    ],
    ids=str,
)
def test_a_map_that_could_not_be_read_is_refused(scale, shift, message):
    with pytest.raises(ValueError, match=message):
        Inputs(np.ones((2, 3)), FLOAT64, scale, shift)


def test_indices_outside_of_a_sparse_matrix_are_refused():
    good = csr_matrix(np.array([[0.0, 1, 2], [3, 0, 0]]))
    Inputs(good, FLOAT64)
    Inputs(csr_matrix((2, 3)), FLOAT64)
    Inputs(csr_matrix((0, 3)), FLOAT64)
    for name, at, value in (
        ("indices", 0, 3), ("indices", 2, -1), ("indptr", 0, 1), ("indptr", 1, 99), ("indptr", 2, 7)
    ):  # fmt: skip
        bad = good.copy()
        getattr(bad, name)[at] = value
        with pytest.raises(ValueError, match="of a sparse X must"):
            Inputs(bad, FLOAT64)
    bad = good.copy()
    bad.indptr = bad.indptr[:2]
    with pytest.raises(ValueError, match="of a sparse X must"):
        Inputs(bad, FLOAT64)
