"""Augmented images, compared with SciPy's interpolation of what the documentation says is drawn."""

import copy
import os
import pickle
import subprocess
import sys
import tracemalloc
from itertools import permutations

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fastmlp.augment import (
    Augmentation,
    Compose,
    ElasticDistortion,
    RandomAffine,
    RandomDeskew,
    RandomFlip,
    RandomNoise,
    RandomThickness,
)

SHAPES = [(1, 1), (5, 7), (1, 9), (28, 28), (33, 17)]
DTYPES = ["uint8", "float32", "float64"]
AFFINE = RandomAffine(rotate=40, shift=3, zoom=0.4, shear=20)
ELASTIC = ElasticDistortion(alpha=20, sigma=2.5)
THICKNESS = RandomThickness(0.8)
DESKEW = RandomDeskew(0.9)
FLIP = RandomFlip(0.6)
EVERYTHING = (
    DESKEW
    + AFFINE
    + ELASTIC
    + RandomNoise(0.3, probability=0.5)
    + RandomThickness()
    + RandomAffine()
    + RandomDeskew()
    + RandomNoise()
)


def images(n, shape, dtype="uint8", seed=0):
    X = np.random.RandomState(seed).randint(0, 256, (n, *shape))
    return X.astype("uint8") if dtype == "uint8" else (X / 255).astype(dtype)


# ----------------------------------------------------------------------------- what is documented


def words(seed, epoch, step, row, n):
    """Words of the first n counters, (n, 4)."""
    key = [seed % 2**32, seed >> 32]
    return np.array([oracle.philox([i, 2**31 + step, row, epoch], key) for i in range(n)])


def words_of_pixels(n_pixels, *stream):
    n = -(-n_pixels // 4)
    drawn = words(*stream, n)
    return np.array([drawn[j % n, j // n] for j in range(n_pixels)])


def uniform(w, a, bits=32):
    return a * (2 * (np.asarray(w) + 0.5) / 2**bits - 1)


def drawn_map(step, *stream):
    """Matrix and shift of the map of an image, for (y, x) from its middle."""
    (a, b, c, d), (e, f, *_) = words(*stream, 2)
    angle, slope = np.radians(uniform(a, step.rotate)), np.tan(np.radians(uniform(d, step.shear)))
    zoom = np.diag([1 + uniform(e, step.zoom), 1 + uniform(f, step.zoom)])
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ np.array([[1, 0], [slope, 1]]) @ zoom, uniform([b, c], step.shift)


def drawn_field(step, shape, *stream):
    """Displacements along y and x, (2, height, width)."""
    w = words_of_pixels(shape[0] * shape[1], *stream).reshape(shape)
    return [
        step.alpha
        * ndimage.gaussian_filter(uniform(half, 1, 16), step.sigma, mode="constant", truncate=3)
        for half in (w % 2**16, w >> 16)
    ]


def drawn_shear(step, image, *stream):
    """Matrix of the shear against the slant of an image, and its middle."""
    ys, _ = places = np.indices(image.shape)
    middle = np.array([np.average(axis, weights=image) for axis in places])
    covariance = np.cov(places.reshape(2, -1), aweights=image.ravel(), ddof=0)
    slant = np.clip(covariance[0, 1] / covariance[0, 0], -1, 1) if np.ptp(ys) else 0
    part = step.strength * (words(*stream, 1)[0, 0] + 0.5) / 2**32
    return np.array([[1, 0], [-part * slant, 1]]), middle


def moved(steps, image, seed, epoch, row, first=0):
    """What geometric steps make of an image, in float64."""
    middle = (np.array(image.shape) - 1)[:, np.newaxis, np.newaxis] / 2
    source = np.indices(image.shape) - middle
    for place in reversed(range(len(steps))):
        step, stream = steps[place], (seed, epoch, first + place, row)
        if isinstance(step, RandomAffine):
            matrix, shift = drawn_map(step, *stream)
            back = np.linalg.inv(matrix)
            source = np.einsum("ij,jyx->iyx", back, source - shift[:, np.newaxis, np.newaxis])
        elif isinstance(step, RandomFlip):
            if words(*stream, 1)[0, 0] + 0.5 < step.probability * 2**32:
                source = source * [[[1]], [[-1]]]
        elif isinstance(step, RandomDeskew):
            assert place == 0  # it depends on what earlier steps do
            matrix, around = drawn_shear(step, image, *stream)
            offset = around[:, np.newaxis, np.newaxis] - middle
            source = np.einsum("ij,jyx->iyx", np.linalg.inv(matrix), source - offset) + offset
        else:
            source = source + drawn_field(step, image.shape, *stream)
    return ndimage.map_coordinates(
        image.astype("float64"), source + middle, order=1, mode="grid-constant"
    )


def assert_near(result, expected, dtype):
    assert result.dtype == dtype
    margin = {"uint8": 0.5 + 0.02, "float32": 1e-4, "float64": 1e-10}[dtype]
    np.testing.assert_allclose(result, expected, rtol=0, atol=margin)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "steps",
    [
        (AFFINE,),
        (ELASTIC,),
        (AFFINE, ELASTIC),
        (ELASTIC, AFFINE),
        (AFFINE, ELASTIC, RandomAffine(), ElasticDistortion(alpha=9, sigma=1)),
        (DESKEW,),
        (DESKEW, AFFINE, ELASTIC),
        (AFFINE, FLIP, ELASTIC, FLIP),
    ],
    ids=["affine", "elastic", "both", "elastic first", "four", "deskew", "deskew first", "flips"],
)
def test_moved_images_are_those_of_the_oracle(steps, shape, dtype):
    X = images(3, shape, dtype)
    before = X.copy()
    rows = [5, 2**32 - 1, 0]
    result = Compose(*steps)(X, seed=2**40 + 9, epoch=3, rows=rows)
    assert result.shape == X.shape
    np.testing.assert_array_equal(X, before)
    for image, row, changed in zip(X, rows, result, strict=True):
        assert_near(changed, moved(steps, image, 2**40 + 9, 3, row), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("limits", [None, (-0.1, 0.8)])
def test_noise_is_that_of_the_oracle(limits, shape, dtype):
    X = images(3, shape, dtype)
    step = RandomNoise(0.4, probability=0.6, limits=limits)
    result = step(X, seed=7, epoch=2)
    low, high = (0, 255) if dtype == "uint8" else limits or (-np.inf, np.inf)
    scale = 0.4 * (high - low if np.isfinite(high) else 1)
    for row in range(3):
        w = words_of_pixels(X[row].size, 7, 2, 0, row).reshape(shape)
        noisy = np.clip(X[row] + uniform(w % 2**16, scale, 16), low, high)
        hit = (w >> 16) < round(0.6 * 2**16)
        assert_near(result[row], np.where(hit, noisy, X[row]), dtype)
        np.testing.assert_array_equal(result[row][~hit], X[row][~hit])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_thickness_is_that_of_the_oracle(shape, dtype):
    cross = ndimage.generate_binary_structure(2, 1)
    X = images(6, shape, dtype)
    if dtype != "uint8":
        X -= X.dtype.type(0.5)  # outside of the image is neither the largest nor the smallest
    before = X.copy()
    rows = [5, 2**32 - 1, 0, 1, 2, 3]
    result = THICKNESS(X, seed=2**40 + 9, epoch=3, rows=rows)
    np.testing.assert_array_equal(X, before)
    drawn = [uniform(words(2**40 + 9, 3, 0, row, 1)[0, 0], 0.8) for row in rows]
    assert min(drawn) < -0.2 and 0.2 < max(drawn)
    for image, t, changed in zip(X.astype("float64"), drawn, result, strict=True):
        morphed = (ndimage.grey_dilation if t > 0 else ndimage.grey_erosion)(
            image, footprint=cross, mode="nearest"
        )
        assert_near(changed, image + abs(t) * (morphed - image), dtype)


def test_steps_between_which_there_is_noise_interpolate_twice():
    X = images(2, (9, 9), "float64")
    result = (AFFINE + RandomNoise(1e-12) + ELASTIC)(X, seed=1)
    for row in range(2):
        once = moved([AFFINE], X[row], 1, 0, row)
        assert_near(result[row], moved([ELASTIC], once, 1, 0, row, first=2), "float64")


def test_deskewing_looks_at_what_earlier_steps_made():
    X = images(2, (9, 9), "float64")
    result = (AFFINE + DESKEW + ELASTIC)(X, seed=1)
    for row in range(2):
        once = moved([AFFINE], X[row], 1, 0, row)
        assert_near(result[row], moved([DESKEW, ELASTIC], once, 1, 0, row, first=1), "float64")


def test_a_smoothing_that_reaches_over_the_whole_image():
    X = images(2, (4, 6), "float64")
    step = ElasticDistortion(alpha=300, sigma=7)
    for row, changed in enumerate(step(X)):
        assert_near(changed, moved([step], X[row], 0, 0, row), "float64")


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    rotate=st.floats(0, 180),
    shift=st.floats(0, 50),
    zoom=st.floats(0, 0.9),
    shear=st.floats(0, 60),
    alpha=st.floats(0, 100),
    sigma=st.floats(0.01, 10),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
)
def test_any_parameters(shape, rotate, shift, zoom, shear, alpha, sigma, seed, epoch):
    X = images(1, shape, "float64")
    steps = (
        RandomAffine(rotate=rotate, shift=shift, zoom=zoom, shear=shear),
        ElasticDistortion(alpha=alpha, sigma=sigma),
    )
    result = Compose(*steps)(X, seed=seed, epoch=epoch)
    np.testing.assert_allclose(result[0], moved(steps, X[0], seed, epoch, 0), atol=1e-8)


# ------------------------------------------------------------------------------------- invariances


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_in_any_number_of_threads(dtype, monkeypatch):
    monkeypatch.setattr("fastmlp.augment.steps._CHUNK_PIXELS", 300)
    X = images(50, (8, 9), dtype)
    expected = EVERYTHING(X, seed=3, n_threads=1)
    for n_threads in (None, 2, 3, 5):
        np.testing.assert_array_equal(EVERYTHING(X, seed=3, n_threads=n_threads), expected)


def test_the_same_in_any_batches_and_order():
    X = images(23, (8, 9))
    expected = EVERYTHING(X, seed=3, epoch=4)
    order = np.random.RandomState(0).permutation(23)
    shuffled = EVERYTHING(X[order], seed=3, epoch=4, rows=order)
    np.testing.assert_array_equal(shuffled, expected[order])
    for batch in np.split(order, [1, 5, 6, 20]):
        part = EVERYTHING(X[batch], seed=3, epoch=4, rows=batch.astype("uint32"))
        np.testing.assert_array_equal(part, expected[batch])


def test_rows_of_pixels_are_as_images():
    X = images(4, (12, 12))
    flat = EVERYTHING(X.reshape(4, 144))
    assert flat.shape == (4, 144)
    np.testing.assert_array_equal(flat.reshape(X.shape), EVERYTHING(X))
    X = images(4, (5, 7))
    step = RandomAffine(image_shape=(5, 7))
    np.testing.assert_array_equal(step(X.reshape(4, 35)).reshape(X.shape), step(X))
    noisy = RandomNoise()(X.reshape(4, 35))  # which need not know the shape
    np.testing.assert_array_equal(noisy.reshape(X.shape), RandomNoise()(X))


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place_and_into_an_array(dtype):
    X = images(6, (7, 5), dtype)
    expected = EVERYTHING(X)
    out = np.full_like(X, 77)
    assert EVERYTHING(X, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert EVERYTHING(X, out=X) is X
    np.testing.assert_array_equal(X, expected)


def test_no_copy_of_the_images_is_made():
    X = images(2000, (28, 28), "float64")
    EVERYTHING(X[:1])
    tracemalloc.start()
    try:
        EVERYTHING(X, out=X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 20


def test_read_only_and_mapped_images(tmp_path):
    X = images(6, (6, 6))
    expected = EVERYTHING(X)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(EVERYTHING(mapped), expected)
    written = np.load(tmp_path / "X.npy", mmap_mode="r+")
    assert EVERYTHING(written, out=written) is written
    np.testing.assert_array_equal(np.load(tmp_path / "X.npy"), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "step",
    [
        RandomAffine(rotate=0, shift=0, zoom=0),
        ElasticDistortion(alpha=0),
        RandomNoise(0),
        RandomNoise(probability=0),
        RandomThickness(0),
        RandomDeskew(0),
        RandomFlip(0),
        RandomNoise(0) + RandomAffine(rotate=0, shift=0, zoom=0) + ElasticDistortion(alpha=0),
    ],
)
def test_what_changes_nothing_changes_no_bit(step, dtype):
    X = images(4, (6, 6), dtype)
    if dtype != "uint8":
        X[0, 0] = [np.nan, np.inf, -np.inf, -0.0, 1e-310, -5.0]
    result = step(X)
    assert result is not X
    assert result.tobytes() == X.tobytes()
    before = X.tobytes()
    assert step(X, out=X) is X
    assert X.tobytes() == before


def test_everything_that_it_depends_on_counts():
    X = images(1, (12, 12))
    still = RandomAffine(rotate=0, shift=0, zoom=0)
    for step in (AFFINE, ELASTIC, DESKEW, THICKNESS, RandomNoise()):
        results = [
            step(X),
            step(X, seed=1),
            step(X, seed=2**32),
            step(X, epoch=1),
            step(X, rows=[1]),
            (still + step)(X),
        ]
        assert len({result.tobytes() for result in results}) == len(results)


def test_not_a_number_stays_and_spreads_no_further_than_neighbours():
    X = np.zeros((1, 9, 9))
    X[0, 4, 4] = np.nan
    noisy = RandomNoise(limits=(0, 1))(X)
    np.testing.assert_array_equal(np.isnan(noisy), np.isnan(X))
    small = RandomAffine(rotate=0, shift=0.5, zoom=0)(X)
    assert 1 <= np.isnan(small).sum() <= 9
    thick = THICKNESS(X)
    assert np.isnan(thick[0, 4, 4]) and np.isnan(thick).sum() <= 5


def test_no_images():
    assert EVERYTHING(np.empty((0, 49), np.uint8)).shape == (0, 49)


def test_kernels_are_compiled_once_per_dtype():
    from fastmlp.augment import kernels

    for dtype in DTYPES:
        X = images(4, (6, 6), dtype)
        EVERYTHING(X, rows=np.arange(4, dtype="uint8")[::-1])
        integers = RandomAffine(rotate=5, shift=1, zoom=0) + ElasticDistortion(alpha=9, sigma=3)
        (integers + RandomThickness(1) + RandomNoise(1, probability=1, limits=(0, 1)))(
            X, out=X, seed=np.int8(3)
        )
        X.flags.writeable = False
        EVERYTHING(X)
    for kernel in (kernels.warp, kernels.thicken, kernels.add_noise):
        assert len(getattr(kernel, "signatures", DTYPES)) == len(DTYPES)


@pytest.mark.slow
def test_without_compilation():
    code = """
import numpy as np
from fastmlp.augment import *
X = np.arange(3 * 35, dtype={dtype!r}).reshape(3, 5, 7)
augment = RandomDeskew() + RandomFlip() + RandomAffine(shear=5) + ElasticDistortion(sigma=2)
augment += RandomThickness() + RandomNoise(probability=0.5)
print(augment(X, seed=5).tolist())
"""
    for dtype in DTYPES:
        outputs = [
            subprocess.run(
                [sys.executable, "-W", "error", "-c", code.format(dtype=dtype)],
                env=os.environ | {"NUMBA_DISABLE_JIT": plain},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for plain in ("0", "1")
        ]
        compiled, plain = (np.array(eval(output)) for output in outputs)
        np.testing.assert_allclose(
            plain, compiled, atol={"uint8": 1, "float32": 1e-3}.get(dtype, 1e-9)
        )


# -------------------------------------------------------------------------------------- statistics


def test_ranges_are_reached_evenly():
    # The centre of mass of a block tells the shift, its spread the zoom.
    X = np.zeros((4000, 25, 25), np.float32)
    X[:, 10:15, 9:16] = 1
    ys, xs = np.indices((25, 25)) - 12
    shifted = RandomAffine(rotate=0, shift=4, zoom=0)(X)
    for axis in (ys, xs):
        shifts = (shifted * axis).sum((1, 2)) / shifted.sum((1, 2))
        assert abs(shifts.mean()) < 4 * 4 / np.sqrt(3 * 4000)
        assert shifts.std() == pytest.approx(4 / np.sqrt(3), rel=0.03)
        assert -4.0001 < shifts.min() < -3.9 and 3.9 < shifts.max() < 4.0001
    zoomed = RandomAffine(rotate=0, shift=0, zoom=0.3)(X).sum((1, 2)) / 35
    assert zoomed.mean() == pytest.approx(1, abs=0.02)
    assert 0.7**2 - 0.02 < zoomed.min() < 0.55 and 1.6 < zoomed.max() < 1.3**2 + 0.02
    turned = RandomAffine(rotate=30, shift=0, zoom=0)(X)
    inertia = [(turned * a * b).sum((1, 2)) for a, b in ((xs, xs), (ys, ys), (xs, ys))]
    angles = np.degrees(0.5 * np.arctan2(-2 * inertia[2], inertia[0] - inertia[1]))
    assert abs(angles.mean()) < 4 * 30 / np.sqrt(3 * 4000)
    assert -31 < angles.min() < -29 and 29 < angles.max() < 31


def test_displacements_have_the_documented_size():
    # A ramp shows how far sources are away.
    X = np.tile(np.arange(64.0), (200, 64, 1))
    along_x = ElasticDistortion()(X)[:, 24:40, 24:40] - X[:, 24:40, 24:40]
    along_y = ElasticDistortion()(X.transpose(0, 2, 1).copy())[:, 24:40, 24:40]
    along_y -= X.transpose(0, 2, 1)[:, 24:40, 24:40]
    for displacement in (along_x, along_y):
        assert displacement.std() == pytest.approx(34 / (6.14 * 5), rel=0.05)
        assert abs(displacement.mean()) < 0.1
    assert abs(np.corrcoef(along_x.ravel(), along_y.ravel())[0, 1]) < 0.1


def test_slants_of_a_random_part_are_removed():
    ys, xs = np.indices((28, 28)) - 13.5
    stroke = np.clip(3 - abs(xs + 2 - 0.5 * (ys - 1)), 0, 1) * (abs(ys - 1) < 8)
    X = np.tile(stroke, (2000, 1, 1))

    def slants(images):
        ink = images.sum((1, 2))
        y, x = ((images * axis).sum((1, 2)) / ink for axis in (ys, xs))
        spread = (images * ys**2).sum((1, 2)) / ink - y**2
        return ((images * ys * xs).sum((1, 2)) / ink - x * y) / spread

    np.testing.assert_allclose(slants(X[:1]), 0.5, atol=1e-3)
    left = slants(RandomDeskew()(X))
    assert left.mean() == pytest.approx(0.25, abs=0.01)
    assert 0 < left.min() < 0.01 and 0.49 < left.max() < 0.5
    assert 0.3 < slants(RandomDeskew(0.4)(X)).min() < 0.31
    shallow = np.tile((abs(xs - 3 * ys) < 3) * (abs(ys) < 4) * 1.0, (500, 1, 1))
    before, after = slants(shallow[:1]), slants(RandomDeskew()(shallow))
    assert before - 1.05 < after.min() < before - 0.9
    still = np.stack([np.zeros((28, 28)), (abs(xs) < 2) * 1.0])
    np.testing.assert_allclose(RandomDeskew()(still), still, atol=1e-12)
    for row in (np.ones((1, 1, 9)), np.full((1, 5, 5), np.nan)):
        np.testing.assert_array_equal(RandomDeskew()(row), row)


@pytest.mark.parametrize("dtype", DTYPES)
def test_reflections_are_exact(dtype):
    X = images(1000, (5, 8), dtype)
    flipped = RandomFlip(0.3)(X)
    is_flipped = (flipped == X[:, :, ::-1]).all((1, 2))
    np.testing.assert_array_equal(flipped[~is_flipped], X[~is_flipped])
    assert is_flipped.mean() == pytest.approx(0.3, abs=0.05)
    np.testing.assert_array_equal(RandomFlip(1)(X), X[:, :, ::-1])


def test_strokes_get_thicker_and_thinner_by_what_is_documented():
    X = np.zeros((2000, 28, 28))
    X[:, :, 10:16] = 1  # a long stroke of 6 pixels
    thickness = RandomThickness(0.6)(X)[:, 14].sum(axis=1)
    assert thickness.mean() == pytest.approx(6, abs=0.06)
    assert thickness.std() == pytest.approx(2 * 0.6 / np.sqrt(3), rel=0.05)
    assert 6 - 1.2 < thickness.min() < 6 - 1.19 and 6 + 1.19 < thickness.max() < 6 + 1.2
    on_paper = 1 - RandomThickness(0.6)(1 - X)[:, 14]
    np.testing.assert_allclose(on_paper.sum(axis=1), 12 - thickness)


def test_noise_is_even_and_meets_as_many_pixels_as_it_should():
    X = np.full((500, 30, 30), 0.5)
    noise = RandomNoise(0.2, probability=0.3)(X) - X
    assert (noise != 0).mean() == pytest.approx(0.3, rel=0.02)
    assert abs(noise).max() == pytest.approx(0.2, rel=1e-3)
    assert noise[noise != 0].std() == pytest.approx(0.2 / np.sqrt(3), rel=0.01)
    assert abs(noise.mean()) < 1e-3


# ------------------------------------------------------------------------------- values and errors


def test_augmentations_are_values():
    steps = (AFFINE, ELASTIC, DESKEW, FLIP, THICKNESS, RandomNoise(limits=(0, 1)), EVERYTHING)
    for step in steps:
        for twin in (pickle.loads(pickle.dumps(step)), copy.deepcopy(step), eval(repr(step))):
            assert twin == step and hash(twin) == hash(step) and repr(twin) == repr(step)
        with pytest.raises(AttributeError):
            step.image_shape = (3, 3)
        assert isinstance(step, Augmentation)
    assert RandomAffine(rotate=3) != RandomAffine(rotate=4)
    assert AFFINE + ELASTIC != ELASTIC + AFFINE
    assert RandomAffine(image_shape=[3, 4]) == RandomAffine(image_shape=(3, 4))


def test_compositions_are_flat():
    a, b, c = AFFINE, ELASTIC, RandomNoise()
    assert a + (b + c) == (a + b) + c == Compose(a, b, c) == Compose(Compose(a, b), c)
    assert Compose(a, b, c).steps == (a, b, c)
    X = images(2, (6, 6))
    results = {Compose(*order)(X).tobytes() for order in permutations((a, b, c))}
    assert len(results) == 6
    np.testing.assert_array_equal(Compose(a)(X), a(X))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomAffine(rotate=181), "rotate must be degrees from 0 to 180, got 181"),
        (lambda: RandomAffine(rotate=np.nan), "rotate must be .* got nan"),
        (lambda: RandomAffine(shift=-1), "shift must be pixels, >= 0 and finite, got -1"),
        (lambda: RandomAffine(shift=np.inf), "shift must be"),
        (lambda: RandomAffine(zoom=1.0), "zoom must be a part, >= 0 and < 1, got 1.0"),
        (lambda: RandomAffine(shear=90), "shear must be degrees, >= 0 and < 90, got 90"),
        (lambda: RandomAffine(rotate="9"), "rotate must be .* got '9'"),
        (lambda: RandomAffine(image_shape=(0, 3)), "image_shape must be .* got \\(0, 3\\)"),
        (lambda: ElasticDistortion(image_shape=28), "image_shape must be .* got 28"),
        (lambda: ElasticDistortion(alpha=-1), "alpha must be >= 0 and finite, got -1"),
        (lambda: ElasticDistortion(sigma=0), "sigma must be pixels, > 0 and <= 1000, got 0"),
        (lambda: RandomThickness(1.1), "strength must be a part, from 0 to 1, got 1.1"),
        (lambda: RandomDeskew(-0.1), "strength must be a part, from 0 to 1, got -0.1"),
        (lambda: RandomFlip(2), "probability must be from 0 to 1, got 2"),
        (lambda: RandomThickness(np.nan), "strength must be .* got nan"),
        (lambda: RandomThickness(image_shape=28), "image_shape must be .* got 28"),
        (lambda: THICKNESS.scaled(2), "strength must be a part, from 0 to 1, got 1.6"),
        (lambda: RandomNoise(-0.1), "scale must be"),
        (lambda: RandomNoise(probability=1.1), "probability must be from 0 to 1, got 1.1"),
        (lambda: RandomNoise(limits=(1, 1)), "limits must be .* low < high, got \\(1, 1\\)"),
        (lambda: RandomNoise(limits=3), "limits must be .* got 3"),
        (lambda: Compose(), "at least one step, got none"),
        (
            lambda: RandomAffine(image_shape=(2, 3)) + ElasticDistortion(image_shape=(3, 2)),
            "all steps must have the same image_shape, got \\[\\(2, 3\\), \\(3, 2\\)\\]",
        ),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_augmentation():
    with pytest.raises(TypeError, match="steps must be augmentations, got list: Compose\\(a, b\\)"):
        Compose([AFFINE, ELASTIC])
    with pytest.raises(TypeError, match="unsupported operand"):
        AFFINE + 1


X = np.zeros((4, 36), np.uint8)


@pytest.mark.parametrize(
    ("step", "X", "options", "message"),
    [
        (THICKNESS, X[:, :35].copy(), {}, "square unless .* got 35 pixels: give image_shape="),
        (AFFINE, X[:, :35].copy(), {}, "square unless .* got 35 pixels: give image_shape="),
        (AFFINE, X.astype(int), {}, "X must be .* got int64: convert it"),
        (AFFINE, X.astype(">f4"), {}, "X must be .* got >f4"),
        (AFFINE, X.tolist(), {}, "X must be an array .* got list"),
        (AFFINE, X[0], {}, "X must be of shape .* got \\(36,\\)"),
        (AFFINE, X[:, :0], {}, "with at least a pixel, got \\(4, 0\\)"),
        (AFFINE, X[:, ::2], {}, "X must be C-contiguous, got strides .*ascontiguousarray\\(X\\)"),
        (
            RandomAffine(image_shape=(5, 7)),
            X,
            {},
            "image_shape must be .* have 36 pixels, got \\(5, 7\\)",
        ),
        (
            RandomAffine(image_shape=(4, 9)),
            X.reshape(4, 9, 4),
            {},
            "image_shape must be .* have 9 x 4 pixels, got \\(4, 9\\)",
        ),
        (AFFINE, X, {"rows": [1, 2]}, "rows must hold one integer per image, \\(4,\\), got"),
        (AFFINE, X, {"rows": [0.0, 1, 2, 3]}, "rows must hold one integer per image"),
        (AFFINE, X, {"rows": [0, 1, 2, -3]}, "rows must be from 0 to .* got numbers from -3 to 2"),
        (AFFINE, X, {"rows": [0, 1, 2, 2**32]}, "rows must be from 0 to 2\\*\\*32 - 1, got"),
        (AFFINE, X, {"seed": -1}, "seed must be an integer from 0 to 2\\*\\*64 - 1, got -1"),
        (AFFINE, X, {"seed": None}, "seed must be .* got None"),
        (AFFINE, X, {"epoch": 2**32}, "epoch must be an integer from 0 to 2\\*\\*32 - 1, got"),
        (AFFINE, X, {"n_threads": 0}, "n_threads must be None or an integer >= 1, got 0"),
        (AFFINE, X, {"out": np.zeros((4, 36))}, "out must be like X, uint8 of .* got float64"),
        (AFFINE, X, {"out": X[:3]}, "out must be like X"),
        (AFFINE, X, {"out": np.zeros((36, 4), np.uint8).T}, "out must be C-contiguous"),
        (AFFINE, X, {"out": np.frombuffer(bytes(144), np.uint8).reshape(4, 36)}, "read-only"),
        (AFFINE, X[:3], {"out": X[1:]}, "share no memory"),
    ],
)
def test_wrong_arguments(step, X, options, message):
    with pytest.raises(ValueError, match=message):
        step(X, **options)


@pytest.mark.mnist
def test_digits_keep_their_ink(mnist):
    X = mnist[0][0][:500]
    changed = (RandomAffine() + ElasticDistortion())(X)
    ratio = changed.sum(axis=1) / X.sum(axis=1)
    assert 0.95 < ratio.mean() < 1.05
    assert ratio.min() > 0.5
