"""Random image augmentation.

The result for an image depends on the seed, the epoch, the index of the image in its data set and
the position of the step in the composition, but not on batches, their order or threads, because
the random generator is counter-based (`fastmlp.core.random_bits`): step s draws for image r in
epoch e the words of Philox with the key (low half, high half) of the seed and the counters
(i, 2**31 + s, r, e), where i = 0, 1, ... The classes document their use. "Uniform in -a..a" is
a * (2 * (w + 0.5) / 2**b - 1) for a number w of b = 32 bits, or b = 16 for half a word.

Pixels are moved by finding, for each pixel of the result, its *source*, a point of the image, and
interpolating bilinearly between the four pixels around it. Pixels outside the image are 0.
Consecutive steps of a composition that move pixels share one interpolation: the source is computed
through all of them, so that images are not blurred by each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp.utils.image_shapes import Shape, check_shape, shape_of_images
from fastmlp.utils.threads import usable_threads

__all__ = [
    "Augmentation",
    "Compose",
    "ElasticDistortion",
    "RandomAffine",
    "RandomDeskew",
    "RandomFlip",
    "RandomNoise",
    "RandomThickness",
]

#: Called with images (n, height, width), their indices (n,), and the output.
_Pass: TypeAlias = Callable[[NDArray[Any], NDArray[np.int64], NDArray[Any]], None]

_CHUNK_PIXELS = 2**17  # per task of a thread, about a millisecond; Ctrl-C waits for them


class Augmentation:
    """Base class of augmentations, which are called with images and composed with ``+``.

    ``a + b`` applies `a`, then `b`. Augmentations with the same parameters are equal.
    """

    image_shape: Shape | None = None

    #: The parameters that say how much images change at most.
    _RANGES: ClassVar[tuple[str, ...]] = ()

    def __call__(
        self,
        X: NDArray[Any],
        *,
        seed: int = 0,
        epoch: int = 0,
        rows: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
        n_threads: int | None = None,
    ) -> NDArray[Any]:
        """Return augmented images.

        Parameters
        ----------
        X : array of shape (n, n_pixels) or (n, height, width), uint8, float32 or float64
            C-contiguous.
        seed : int, default=0
            Below 2**64.
        epoch : int, default=0
            Below 2**32. The augmentation is different in each epoch.
        rows : array of shape (n,), int, optional
            The index of each image in its data set, below 2**32, which determines its
            augmentation. By default 0, 1, ..., n - 1.
        out : array like X, optional
            Output array; may be X itself. By default a new array.
        n_threads : int, optional
            By default all CPUs available to the process; the result does not depend on it.

        Returns
        -------
        array like X
            `out`, if it is given. uint8 results are rounded to nearest.

        Raises
        ------
        ValueError
            An argument is invalid, or X does not contain images of `image_shape`.
        """
        images = _check_array(X, "X")
        result = np.empty_like(images) if out is None else _check_out(out, images)
        numbers = _check_rows(rows, len(images))
        shape = self._shape_of(images)
        for name, value, below in [("seed", seed, 2**64), ("epoch", epoch, 2**32)]:
            if not isinstance(value, Integral) or not 0 <= value < below:
                raise ValueError(
                    f"{name} must be an integer from 0 to 2**{below.bit_length() - 1} - 1, "
                    f"got {value!r}."
                )
        if n_threads is not None and (not isinstance(n_threads, Integral) or n_threads < 1):
            raise ValueError(f"n_threads must be None or an integer >= 1, got {n_threads!r}.")

        passes = _passes(self._steps(), images.dtype, int(seed), int(epoch))
        if passes:
            stacks = images.reshape(-1, *shape), result.reshape(-1, *shape)
            _in_threads(passes, *stacks, numbers, n_threads)
        else:
            result[...] = images
        return result if out is None else out

    def __add__(self, other: Augmentation) -> Compose:
        return Compose(self, other) if isinstance(other, Augmentation) else NotImplemented

    def scaled(self, factor: float) -> Augmentation:
        """Return a weaker or stronger version: all ranges times `factor`.

        `RandomDeskew` and `RandomFlip` stay as they are.

        Parameters
        ----------
        factor : float
            At least 0.

        Raises
        ------
        ValueError
            A range becomes invalid.

        Examples
        --------
        >>> (RandomAffine(rotate=10, shift=2) + ElasticDistortion(alpha=20)).scaled(0.5)
        Compose(RandomAffine(rotate=5.0, shift=1.0, zoom=0.05, shear=0.0, image_shape=None), \
ElasticDistortion(alpha=10.0, sigma=5.0, image_shape=None))
        """
        _check_number("factor", factor, ">= 0 and finite", lambda x: 0 <= x < math.inf)
        steps = [
            step._with({name: float(factor) * getattr(step, name) for name in step._RANGES})
            for step in self._steps()
        ]
        return steps[0] if len(steps) == 1 else Compose(*steps)

    def _steps(self) -> tuple[Augmentation, ...]:
        return (self,)

    def _with(self, parameters: Mapping[str, float]) -> Augmentation:
        """Return a step with some other parameters."""
        return replace(self, **parameters)  # type: ignore[type-var]  # steps are dataclasses

    def _changes(self) -> bool:
        """Return whether it can change images."""
        raise NotImplementedError

    def _shape_of(self, images: NDArray[Any]) -> Shape:
        """Return height and width of each image."""
        has_neighbours = any(isinstance(step, _Spatial) for step in self._steps())
        if images.ndim == 2 and self.image_shape is None and not has_neighbours:
            return 1, images.shape[1]  # noise does not depend on the shape
        return shape_of_images(images.shape, self.image_shape, "image_shape")


class _Spatial(Augmentation):
    """A step for which it matters which pixels are neighbours."""

    def __post_init__(self) -> None:
        if self.image_shape is not None:
            object.__setattr__(self, "image_shape", check_shape(self.image_shape, "image_shape"))


class _Geometric(_Spatial):
    """A step that moves pixels: by a random affine map, or by a displacement per pixel."""

    #: Whether the map depends on the image, so that earlier steps must be done before.
    _looks_at_images: ClassVar[bool] = False

    def _map(self) -> Sequence[float]:
        """Return a row of the kernel's `affine`."""
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0

    def _displacement(self) -> tuple[float, NDArray[np.float64]]:
        """Return a factor, and half of the smoothing kernel."""
        return 0.0, np.ones(1)


@dataclass(frozen=True, kw_only=True)
class RandomAffine(_Geometric):
    """Random zoom, shear, rotation and shift.

    A point at (y, x), relative to the center of the image, is scaled by (zoom_y, zoom_x); then
    tan(shear) times y is added to x; then it is rotated by the angle, counterclockwise; then it is
    shifted. All six values are uniformly distributed in their ranges.

    Parameters
    ----------
    rotate : float, default=15.0
        Maximum angle, in degrees, in both directions; 0 to 180.
    shift : float, default=2.0
        Maximum shift along each axis, in pixels, in both directions.
    zoom : float, default=0.1
        Each axis is scaled by its own factor, from ``1 - zoom`` to ``1 + zoom``; 0 to less than 1.
    shear : float, default=0.0
        Maximum angle of vertical lines after shearing, in degrees, in both directions; 0 to less
        than 90.
    image_shape : (height, width), optional
        By default that of X, if X is three-dimensional; otherwise images are square.

    Notes
    -----
    The words of the first counter give angle, shift_y, shift_x and shear, those of the second
    zoom_y and zoom_x. If all ranges are 0, images are not changed.

    Examples
    --------
    >>> X = np.zeros((2, 25), np.uint8)
    >>> X[:, 12] = 100  # the pixel in the middle
    >>> RandomAffine(rotate=0, zoom=0, shift=1)(X, seed=3)[0].reshape(5, 5)
    array([[ 0,  0,  0,  0,  0],
           [ 0,  0,  0,  0,  0],
           [ 0,  0,  3, 15,  0],
           [ 0,  0, 15, 66,  0],
           [ 0,  0,  0,  0,  0]], dtype=uint8)
    """

    rotate: float = 15.0
    shift: float = 2.0
    zoom: float = 0.1
    shear: float = 0.0
    image_shape: Shape | None = None

    _RANGES = ("rotate", "shift", "zoom", "shear")

    def __post_init__(self) -> None:
        _check_number("rotate", self.rotate, "degrees from 0 to 180", lambda x: 0 <= x <= 180)
        _check_number("shift", self.shift, "pixels, >= 0 and finite", lambda x: 0 <= x < math.inf)
        _check_number("zoom", self.zoom, "a part, >= 0 and < 1", lambda x: 0 <= x < 1)
        _check_number("shear", self.shear, "degrees, >= 0 and < 90", lambda x: 0 <= x < 90)
        super().__post_init__()

    def _changes(self) -> bool:
        return any(self._map())

    def _map(self) -> Sequence[float]:
        angle, slope = math.radians(self.rotate), math.radians(self.shear)
        return angle, self.shift, self.zoom, slope, 0.0, 0.0


@dataclass(frozen=True, kw_only=True)
class ElasticDistortion(_Geometric):
    """Elastic distortion: a smooth random displacement of pixels.

    Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to
    visual document analysis", ICDAR 2003: each pixel draws two uniform numbers in -1..1; both
    fields are smoothed with a Gaussian whose sum is 1, with zero padding; times `alpha`, they are
    the displacements of a pixel's source, in pixels along y and x.

    Parameters
    ----------
    alpha : float, default=34.0
        Strength. Displacements along either axis have a standard deviation of about
        ``alpha / (6.14 * sigma)`` pixels, 1.1 by default, less near the edges.
    sigma : float, default=5.0
        Standard deviation of the Gaussian, in pixels, up to 1000. It is truncated at 3 sigma: after
        ``int(3 * sigma + 0.5)`` pixels. Smaller values give shorter waves. (The paper's 4, with
        the same `alpha`, sometimes tears or folds a digit of MNIST.)
    image_shape : (height, width), optional
        By default that of X, if X is three-dimensional; otherwise images are square.

    Notes
    -----
    With n = ceil(n_pixels / 4), pixel j draws word j // n of counter j % n. Its lower half is for
    y, its upper half for x.

    The maps of earlier steps in a composition are applied to the displaced source; with later
    steps, the displacement is still that of the result's pixel, not that of its source. (The
    distribution is the same.)

    Examples
    --------
    >>> X = np.tile(np.float32([0, 0, 1, 1, 0, 0]), (1, 6))  # an upright bar
    >>> ElasticDistortion(alpha=10, sigma=2)(X).reshape(6, 6).round(1)
    array([[0. , 0. , 0. , 0. , 0. , 0. ],
           [0. , 0.3, 0.9, 0.2, 0. , 0. ],
           [0. , 0.7, 1. , 0. , 0. , 0. ],
           [0. , 1. , 0.7, 0. , 0. , 0. ],
           [0. , 1. , 0.5, 0. , 0. , 0. ],
           [0. , 0.6, 0.6, 0. , 0. , 0. ]], dtype=float32)
    """

    alpha: float = 34.0
    sigma: float = 5.0
    image_shape: Shape | None = None

    _RANGES = ("alpha",)

    def __post_init__(self) -> None:
        _check_number("alpha", self.alpha, ">= 0 and finite", lambda x: 0 <= x < math.inf)
        _check_number("sigma", self.sigma, "pixels, > 0 and <= 1000", lambda x: 0 < x <= 1000)
        super().__post_init__()

    def _changes(self) -> bool:
        return self.alpha > 0

    def _displacement(self) -> tuple[float, NDArray[np.float64]]:
        radius = int(3 * self.sigma + 0.5)
        weights = np.exp(-0.5 * (np.arange(radius + 1) / self.sigma) ** 2)
        return self.alpha, weights / (2 * weights.sum() - weights[0])


@dataclass(frozen=True)
class RandomDeskew(_Geometric):
    """Straightens slanted handwriting by a random part of its slant.

    The slant of an image is that of the regression line of x on y, weighted by the pixels: strokes
    lean by so many pixels along x for each pixel along y, at most 1. The image is sheared against
    it, around the middle of its strokes, by a part that is uniform in 0..strength. It makes
    different handwritings more alike, and so the network's task easier. At prediction, without
    `TTAClassifier`, images are as they are.

    Parameters
    ----------
    strength : float, default=1.0
        Maximum of the part; 0 to 1. `scaled` leaves it as it is.
    image_shape : (height, width), optional
        By default that of X, if X is three-dimensional; otherwise images are square.

    Notes
    -----
    Strokes must be bright, the ground 0. The first word w of the first counter gives the part,
    ``strength * (w + 0.5) / 2**32``. Images without slant, such as empty ones, are not changed.

    It shares the interpolation of the steps that follow it, but not of those before it.

    Examples
    --------
    >>> X = 100 * np.eye(5, dtype=np.float32).reshape(1, 25)
    >>> RandomDeskew()(X, seed=5).reshape(5, 5).round()
    array([[  0.,  24.,  76.,   0.,   0.],
           [  0.,  12.,  88.,   0.,   0.],
           [  0.,   0., 100.,   0.,   0.],
           [  0.,   0.,  88.,  12.,   0.],
           [  0.,   0.,  76.,  24.,   0.]], dtype=float32)
    """

    strength: float = 1.0
    _: KW_ONLY
    image_shape: Shape | None = None

    _looks_at_images = True

    def __post_init__(self) -> None:
        _check_number("strength", self.strength, "a part, from 0 to 1", lambda x: 0 <= x <= 1)
        super().__post_init__()

    def _changes(self) -> bool:
        return self.strength > 0

    def _map(self) -> Sequence[float]:
        return 0.0, 0.0, 0.0, 0.0, self.strength, 0.0


@dataclass(frozen=True)
class RandomFlip(_Geometric):
    """Random reflection, left to right; for clothes and animals, not for letters and digits.

    Parameters
    ----------
    probability : float, default=0.5
        Fraction of the images that are reflected. `scaled` leaves it as it is.
    image_shape : (height, width), optional
        By default that of X, if X is three-dimensional; otherwise images are square.

    Notes
    -----
    The first word w of the first counter decides: an image is reflected if ``(w + 0.5) / 2**32`` is
    below `probability`.

    Examples
    --------
    >>> X = np.tile(np.uint8([1, 2, 3]), (2, 3))
    >>> RandomFlip()(X, seed=3)[:, :3]
    array([[1, 2, 3],
           [3, 2, 1]], dtype=uint8)
    """

    probability: float = 0.5
    _: KW_ONLY
    image_shape: Shape | None = None

    def __post_init__(self) -> None:
        _check_number("probability", self.probability, "from 0 to 1", lambda x: 0 <= x <= 1)
        super().__post_init__()

    def _changes(self) -> bool:
        return self.probability > 0

    def _map(self) -> Sequence[float]:
        return 0.0, 0.0, 0.0, 0.0, 0.0, self.probability


@dataclass(frozen=True)
class RandomThickness(_Spatial):
    """Random thickness of strokes: blends of images and their dilation or erosion.

    Each image draws a number t, uniform in -strength..strength. If t is positive, each pixel
    becomes ``(1 - t) * pixel + t * largest``, where `largest` is the maximum of the pixel and its
    four neighbours: bright strokes get thicker, by about 2 t pixels. If t is negative, it becomes
    ``(1 + t) * pixel - t * smallest``, with the minimum, and they get thinner.

    Parameters
    ----------
    strength : float, default=0.5
        Maximum of t in both directions; 0 to 1.
    image_shape : (height, width), optional
        By default that of X, if X is three-dimensional; otherwise images are square.

    Notes
    -----
    The first word of the first counter gives t. Pixels at the edges have fewer neighbours. Dark
    strokes on bright paper get thinner if t is positive, and thicker if it is negative.

    Examples
    --------
    >>> X = np.zeros((2, 25), np.uint8)
    >>> X[:, 5:20] = 100  # horizontal bars
    >>> RandomThickness(0.5)(X, seed=5)[:, 2::5]
    array([[ 38, 100, 100, 100,  38],
           [  0,  76, 100,  76,   0]], dtype=uint8)
    """

    strength: float = 0.5
    _: KW_ONLY
    image_shape: Shape | None = None

    _RANGES = ("strength",)

    def __post_init__(self) -> None:
        _check_number("strength", self.strength, "a part, from 0 to 1", lambda x: 0 <= x <= 1)
        super().__post_init__()

    def _changes(self) -> bool:
        return self.strength > 0


@dataclass(frozen=True)
class RandomNoise(Augmentation):
    """Additive uniform noise, independent for each pixel.

    Parameters
    ----------
    scale : float, default=0.1
        Half-width of the noise, as a fraction of the range of values: of 255 for uint8, of
        ``high - low`` if there are limits, otherwise of 1.
    probability : float, default=1.0
        Fraction of the pixels that get noise.
    limits : (low, high), optional
        Range to which floats with noise are clipped. By default, they are not clipped. (The range
        of uint8 is always 0..255.)

    Notes
    -----
    Pixels draw words as in `ElasticDistortion`. The lower half is the noise; a pixel gets it if the
    upper half is below ``probability * 2**16``, rounded.

    Examples
    --------
    >>> X = np.full((1, 6), 100, np.uint8)
    >>> RandomNoise(0.1)(X)
    array([[ 77, 106, 101,  82, 124, 122]], dtype=uint8)
    >>> RandomNoise(0.1, probability=0.5)(X)
    array([[100, 106, 101, 100, 100, 100]], dtype=uint8)
    """

    scale: float = 0.1
    _: KW_ONLY
    probability: float = 1.0
    limits: tuple[float, float] | None = None

    _RANGES = ("scale",)

    def __post_init__(self) -> None:
        _check_number("scale", self.scale, ">= 0 and finite", lambda x: 0 <= x < math.inf)
        _check_number("probability", self.probability, "from 0 to 1", lambda x: 0 <= x <= 1)
        if self.limits is not None:
            try:
                low, high = map(float, self.limits)
            except (TypeError, ValueError):
                low = high = math.nan
            if not -math.inf < low < high < math.inf:
                raise ValueError(
                    "limits must be None or (low, high), finite and low < high, got "
                    f"{self.limits!r}."
                )
            object.__setattr__(self, "limits", (low, high))

    def _changes(self) -> bool:
        return self.scale > 0 and self.probability > 0


@dataclass(frozen=True, init=False, repr=False)
class Compose(Augmentation):
    """Applies steps in order; consecutive ones that move pixels share one interpolation.

    Parameters
    ----------
    *steps : Augmentation
        At least one. Other compositions are flattened.

    Examples
    --------
    >>> augment = RandomAffine(rotate=10) + ElasticDistortion()
    >>> augment == Compose(RandomAffine(rotate=10), ElasticDistortion())
    True
    >>> X = np.zeros((100, 784), np.uint8)
    >>> epochs = [augment(X, seed=1, epoch=epoch) for epoch in range(3)]
    """

    steps: tuple[Augmentation, ...]

    def __init__(self, *steps: Augmentation) -> None:
        for step in steps:
            if not isinstance(step, Augmentation):
                raise TypeError(
                    f"steps must be augmentations, got {type(step).__name__}: Compose(a, b) takes "
                    "them as separate arguments."
                )
        if not steps:
            raise ValueError("Compose must have at least one step, got none.")
        flat = tuple(part for step in steps for part in step._steps())
        object.__setattr__(self, "steps", flat)
        shapes = {step.image_shape for step in flat if step.image_shape is not None}
        if len(shapes) > 1:
            raise ValueError(f"all steps must have the same image_shape, got {sorted(shapes)}.")
        object.__setattr__(self, "image_shape", shapes.pop() if shapes else None)

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.steps))})"

    def _steps(self) -> tuple[Augmentation, ...]:
        return self.steps


# ------------------------------------------------------------------------------------------ at work


def _passes(
    steps: Sequence[Augmentation], dtype: np.dtype[Any], seed: int, epoch: int
) -> list[_Pass]:
    """Return the passes over images of a dtype, in order."""
    # Here, because importing Numba is slow.
    from fastmlp.augment import kernels

    is_bytes = dtype == np.uint8
    real = np.dtype("float64" if dtype == np.float64 else "float32")
    rounding = real.type(0.5 if is_bytes else 0)
    stream = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64), np.uint64(epoch)

    def warp(places: NDArray[np.int64], group: Sequence[Any]) -> _Pass:
        maps = np.array([step._map() for step in group], float)
        alpha = np.array([step._displacement()[0] for step in group], float)
        halves = [step._displacement()[1] for step in group]
        weights = np.zeros((len(group), max(map(len, halves))), real)
        for row, half in zip(weights, halves, strict=True):
            row[: len(half)] = half
        return lambda images, rows, out: kernels.warp(
            images, rows, *stream, places, maps, alpha, weights, rounding, out
        )

    def add_noise(place: int, step: Any) -> _Pass:
        low, high = (0.0, 255.0) if is_bytes else step.limits or (-math.inf, math.inf)
        scale = float(step.scale * (high - low if math.isfinite(high) else 1))
        threshold = np.uint32(round(step.probability * 2**16))
        limits = np.array([low, high], real)
        return lambda images, rows, out: kernels.add_noise(
            images, rows, *stream, place, scale, threshold, limits, rounding, out
        )

    def thicken(place: int, step: Any) -> _Pass:
        strength = real.type(step.strength)
        return lambda images, rows, out: kernels.thicken(
            images, rows, *stream, place, strength, rounding, out
        )

    # Of steps that move pixels, those that look at images begin an interpolation; others join it.
    runs: list[list[tuple[int, Any]]] = []
    for place, step in enumerate(steps):
        if not step._changes():
            continue
        moves = isinstance(step, _Geometric) and not step._looks_at_images
        if moves and runs and isinstance(runs[-1][0][1], _Geometric):
            runs[-1].append((place, step))
        else:
            runs.append([(place, step)])

    passes = []
    for run in runs:
        place, step = run[0]
        if isinstance(step, _Geometric):
            places, group = zip(*run, strict=True)
            passes.append(warp(np.array(places), group))
        else:
            make = thicken if isinstance(step, RandomThickness) else add_noise
            passes.append(make(place, step))
    return passes


def _in_threads(
    passes: Sequence[_Pass],
    images: NDArray[Any],
    out: NDArray[Any],
    rows: NDArray[np.int64],
    n_threads: int | None,
) -> None:
    """Run all passes, in chunks."""
    n_rows = max(1, _CHUNK_PIXELS // math.prod(images.shape[1:]))
    chunks = [slice(start, start + n_rows) for start in range(0, len(images), n_rows)]

    def change(chunk: slice) -> None:
        source = images[chunk]
        for run in passes:
            # Numba compiles separately for read-only arrays, so all are read-only.
            source = source.view()
            source.flags.writeable = False
            try:
                run(source, rows[chunk], out[chunk])
            except OSError:  # the disk is full: it was compiled, but not cached
                run(source, rows[chunk], out[chunk])
            source = out[chunk]

    if len(chunks) > 1:
        n_threads = min(n_threads or usable_threads(), len(chunks))
    if len(chunks) <= 1 or n_threads == 1:
        for chunk in chunks:
            change(chunk)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(
            change, chunks
        ):  # after a failure, those that have not started are cancelled
            pass


# ------------------------------------------------------------------------------------------- checks


def _check_number(name: str, value: float, rule: str, holds: Callable[[float], bool]) -> None:
    if not isinstance(value, Real) or not holds(float(value)):
        raise ValueError(f"{name} must be {rule}, got {value!r}.")


def _check_array(X: Any, name: str) -> NDArray[Any]:
    """Return an array as a plain ndarray."""
    if not isinstance(X, np.ndarray) or X.dtype not in ("uint8", "float32", "float64"):
        got = X.dtype if isinstance(X, np.ndarray) else type(X).__name__
        raise ValueError(
            f"{name} must be an array of uint8, float32 or float64, got {got}: convert it, for "
            "example by np.asarray(X, dtype='float32')."
        )
    if X.ndim not in (2, 3) or 0 in X.shape[1:]:
        raise ValueError(
            f"{name} must be of shape (n, n_pixels) or (n, height, width), with at least a pixel, "
            f"got {X.shape}."
        )
    if not X.flags.c_contiguous:
        raise ValueError(
            f"{name} must be C-contiguous, got strides {X.strides} for shape {X.shape}: pass "
            f"np.ascontiguousarray({name})."
        )
    return np.asarray(X)


def _check_out(out: Any, images: NDArray[Any]) -> NDArray[Any]:
    result = _check_array(out, "out")
    if result.shape != images.shape or result.dtype != images.dtype:
        raise ValueError(
            f"out must be like X, {images.dtype} of shape {images.shape}, got {result.dtype} of "
            f"shape {result.shape}."
        )
    if not result.flags.writeable:
        raise ValueError("out must be writeable, got a read-only array: pass a copy of it.")
    if result.ctypes.data != images.ctypes.data and np.may_share_memory(result, images):
        raise ValueError("out must be X itself or share no memory with it, got one that overlaps.")
    return result


def _check_rows(rows: ArrayLike | None, n_images: int) -> NDArray[np.int64]:
    if rows is None:
        return np.arange(n_images, dtype=np.int64)
    numbers = np.asarray(rows)
    if numbers.shape != (n_images,) or (n_images and numbers.dtype.kind not in "iu"):
        raise ValueError(
            f"rows must hold one integer per image, ({n_images},), got {numbers.dtype} of shape "
            f"{numbers.shape}."
        )
    if n_images and not 0 <= numbers.min() <= numbers.max() < 2**32:
        raise ValueError(
            "rows must be from 0 to 2**32 - 1, got numbers from "
            f"{numbers.min()} to {numbers.max()}."
        )
    return np.ascontiguousarray(numbers, dtype=np.int64)
