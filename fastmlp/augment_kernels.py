"""The kernels of `fastmlp.augment`, compiled by Numba when they are first used.

Numba keeps them on disk, and compiles them anew when this file changes, but not when
`random_bits.py` does. Nothing is validated here, and no kernel reads an image after it has begun
to write it, so images may be transformed in place.

Loops are written so that LLVM makes vector code of them: over whole planes, rows and the gaps
between them alike, and without branches.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from fastmlp.random_bits import philox_words

_JIT: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"contract", "nsz"},
    "error_model": "numpy",
}
jit = njit(**_JIT)


def entry(function: Any) -> Any:
    """Compile what is called from Python, with all that it calls, and keep it on disk."""
    try:
        return njit(**_JIT, cache=True)(function)
    except RuntimeError:  # there is no place for a cache
        return jit(function)


_philox_words = jit(philox_words)

#: Second word of the counter of step 0. In dropout's streams this bit is never set.
STREAM = np.uint64(1 << 31)

#: Columns of `affine`.
ROTATE, SHIFT, ZOOM, SHEAR = range(4)

#: Taps on either side that the convolution takes at a time.
_UNROLLED = 4


@jit
def _draw(key, epoch, step, row, words):
    """Fill words (4, n), uint32: column i has those of the counter (i, STREAM + step, row, epoch)."""
    k0, k1 = key[0], key[1]
    stream = STREAM + np.uint64(step)
    for i in range(words.shape[1]):
        a, b, c, d = _philox_words(np.uint64(i), stream, row, epoch, k0, k1)
        words[0, i] = np.uint32(a)
        words[1, i] = np.uint32(b)
        words[2, i] = np.uint32(c)
        words[3, i] = np.uint32(d)


@jit
def _symmetric(word):
    """Return a number between -1 and 1 from 32 bits."""
    return (np.float64(word) + 0.5) / 2147483648.0 - 1.0


@jit
def _compose(words, affine, source):
    """Let `source` (2, 3), which maps a pixel's (y, x, 1) to its source, go through a map before.

    The map takes the image to zoom, shear, rotation and then shift, so a pixel's source is found
    by undoing them in reverse order.
    """
    angle = affine[ROTATE] * _symmetric(words[0, 0])
    shift_y = affine[SHIFT] * _symmetric(words[1, 0])
    shift_x = affine[SHIFT] * _symmetric(words[2, 0])
    slope = math.tan(affine[SHEAR] * _symmetric(words[3, 0]))
    zoom_y = 1.0 + affine[ZOOM] * _symmetric(words[0, 1])
    zoom_x = 1.0 + affine[ZOOM] * _symmetric(words[1, 1])
    cos, sin = math.cos(angle), math.sin(angle)
    yy, yx = cos / zoom_y, sin / zoom_y
    xy, xx = (-sin - slope * cos) / zoom_x, (cos - slope * sin) / zoom_x
    ty, tx = -(yy * shift_y + yx * shift_x), -(xy * shift_y + xx * shift_x)
    for i in range(2):
        a, b = source[i, 0], source[i, 1]
        source[i, 0] = a * yy + b * xy
        source[i, 1] = a * yx + b * xx
        source[i, 2] += a * ty + b * tx


@jit
def _convolve(plane, start, step, weights, radius, n, out):
    """Set out[i] to the sum of weights[|k|] * plane[start + i + k * step], |k| <= radius.

    `weights` has zeros after `radius` up to a whole number of turns, and the plane is long enough
    for them.
    """
    centre = plane[start : start + n]
    w = weights[0]
    for i in range(n):
        out[i] = w * centre[i]
    for k in range(1, radius + 1, _UNROLLED):
        w0, w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        at, by = start + k * step, start - k * step
        a0, b0 = plane[at : at + n], plane[by : by + n]
        at, by = at + step, by - step
        a1, b1 = plane[at : at + n], plane[by : by + n]
        at, by = at + step, by - step
        a2, b2 = plane[at : at + n], plane[by : by + n]
        at, by = at + step, by - step
        a3, b3 = plane[at : at + n], plane[by : by + n]
        for i in range(n):
            out[i] += (w0 * (a0[i] + b0[i]) + w1 * (a1[i] + b1[i])) + (
                w2 * (a2[i] + b2[i]) + w3 * (a3[i] + b3[i])
            )


@jit
def _to_numbers(words, half, scale, numbers):
    """Fill `numbers` with values between -scale and scale, from the lower or upper half of words."""
    real = numbers.dtype.type
    shift = np.uint32(16 * half)
    step, start = scale * real(2.0**-15), scale * real(2.0**-16 - 1.0)
    for i in range(len(numbers)):
        bits = np.int32(np.uint32(words[i] >> shift) & np.uint32(0xFFFF))
        numbers[i] = step * real(bits) + start


@entry
def warp(images, rows, key, epoch, steps, affine, alpha, weights, rounding, out):
    """Move pixels: maps and displacements one after another, and one interpolation.

    Parameters
    ----------
    images : array of shape (n, height, width), uint8, float32 or float64  # IN
    rows : array of shape (n,), int64                                     # IN
        Number of each image in its data set.
    key : array of shape (2,), uint64                                     # IN
    epoch : uint64
    steps : array of shape (n_steps,), int64                              # IN
        Place of each step in the composition.
    affine : array of shape (n_steps, 4), float64                         # IN
        Ranges of an affine map: radians, pixels, part, radians; zeros for a displacement.
    alpha : array of shape (n_steps,), float64                            # IN
        Factor of a displacement; 0 for an affine map.
    weights : array of shape (n_steps, radius + 1), float32 or float64    # IN
        Half of the Gaussian of a displacement. Its dtype is what is computed in.
    rounding : float32 or float64
        Added before the fraction is cut off: 0.5 for bytes, otherwise 0.
    out : array like images                                               # OUT, may be images
    """
    n_images, height, width = images.shape
    n_steps = len(steps)
    real = weights.dtype.type
    half_height, half_width = 0.5 * (height - 1), 0.5 * (width - 1)
    has_field = False
    for k in range(n_steps):
        has_field = has_field or alpha[k] != 0.0

    # Taps that reach over the whole image meet nothing beyond; `reach` has the tap's zeros, too.
    radius = weights.shape[1] - 1 if has_field else 0
    radius_y, radius_x = min(radius, height - 1), min(radius, width - 1)
    reach_y = -(-radius_y // _UNROLLED) * _UNROLLED
    reach_x = -(-radius_x // _UNROLLED) * _UNROLLED
    stride = width + reach_x  # the gap belongs to the row before and to the one after
    n = height * stride
    numbers = np.empty(height * width, weights.dtype)
    noise = np.zeros(n + 2 * reach_x, weights.dtype)
    blurred = np.zeros(n + 2 * reach_y * stride, weights.dtype)
    displacement = np.zeros((2, n), weights.dtype)
    field = np.zeros((2, n), weights.dtype)
    taps_y = np.zeros((n_steps, reach_y + 1), weights.dtype)
    taps_x = np.zeros((n_steps, reach_x + 1), weights.dtype)
    for k in range(n_steps):
        taps_y[k, : radius_y + 1] = weights[k, : radius_y + 1]
        taps_x[k, : radius_x + 1] = weights[k, : radius_x + 1]
    few = np.empty((4, 2), np.uint32)
    many = np.empty((4, -(-height * width // 4)), np.uint32)
    per_pixel = many.reshape(-1)[: height * width]
    source = np.empty((2, 3))

    # The image, with zeros around it: one before, two after, since a source may lie at `height`.
    border = width + 3
    padded = np.zeros((height + 3) * border, weights.dtype)
    at = np.empty(width, np.uint32)
    rest_y, rest_x = np.empty(width, weights.dtype), np.empty(width, weights.dtype)

    values = np.empty(width, weights.dtype)
    one = np.uint64(1)

    for image in range(n_images):
        row = np.uint64(rows[image])
        source[:] = 0.0
        source[0, 0] = source[1, 1] = 1.0
        field[:] = real(0)
        for k in range(n_steps):
            if alpha[k] == 0.0:
                _draw(key, epoch, steps[k], row, few)
                _compose(few, affine[k], source)
                continue
            _draw(key, epoch, steps[k], row, many)
            for axis in range(2):
                _to_numbers(per_pixel, axis, real(1), numbers)
                for y in range(height):
                    line, line_numbers = noise[reach_x + y * stride :], numbers[y * width :]
                    for x in range(width):
                        line[x] = line_numbers[x]
                middle = blurred[reach_y * stride : reach_y * stride + n]
                _convolve(noise, reach_x, 1, taps_x[k], radius_x, n, middle)
                _convolve(
                    blurred, reach_y * stride, stride, taps_y[k], radius_y, n, displacement[axis]
                )
            for axis in range(2):
                along_y, along_x = (
                    real(alpha[k] * source[axis, 0]),
                    real(alpha[k] * source[axis, 1]),
                )
                sums, dy, dx = field[axis], displacement[0], displacement[1]
                for i in range(n):
                    sums[i] += along_y * dy[i] + along_x * dx[i]

        for y in range(height):
            line = padded[(y + 1) * border + 1 : (y + 1) * border + 1 + width]
            for x in range(width):
                line[x] = real(images[image, y, x])
        for y in range(height):
            # The row's first source, counted from the corner of `padded`.
            down = y - half_height
            start_y = real(
                source[0, 0] * down - source[0, 1] * half_width + source[0, 2] + half_height + 1.0
            )
            start_x = real(
                source[1, 0] * down - source[1, 1] * half_width + source[1, 2] + half_width + 1.0
            )
            step_y, step_x = real(source[0, 1]), real(source[1, 1])
            field_y = field[0, y * stride : y * stride + width]
            field_x = field[1, y * stride : y * stride + width]
            for x in range(width):
                source_y = start_y + step_y * real(x) + field_y[x]
                source_x = start_x + step_x * real(x) + field_x[x]
                source_y = min(max(source_y, real(0)), real(height + 1))
                source_x = min(max(source_x, real(0)), real(width + 1))
                whole_y, whole_x = np.int32(source_y), np.int32(source_x)
                rest_y[x] = source_y - real(whole_y)
                rest_x[x] = source_x - real(whole_x)
                at[x] = np.uint32(whole_y * np.int32(border) + whole_x)
            for x in range(width):
                i = np.uint64(at[x])  # unsigned, so Numba need not look for negative indices
                upper = padded[i] + rest_x[x] * (padded[i + one] - padded[i])
                i += np.uint64(border)
                lower = padded[i] + rest_x[x] * (padded[i + one] - padded[i])
                values[x] = upper + rest_y[x] * (lower - upper)
            for x in range(width):
                out[image, y, x] = values[x] + rounding


@entry
def add_noise(images, rows, key, epoch, step, scale, threshold, limits, rounding, out):
    """Add noise to some pixels, and cut off where those leave the range.

    Parameters
    ----------
    images : array of shape (n, height, width), uint8, float32 or float64  # IN
    rows, key, epoch : as in `warp`
    step : int64
        Place in the composition.
    scale : float64
        Half-width of the noise.
    threshold : uint32
        A pixel gets noise if the upper half of its word is below.
    limits : array of shape (2,), float32 or float64                      # IN
        The range. Its dtype is what is computed in.
    rounding, out : as in `warp`
    """
    n_images, height, width = images.shape
    n_pixels = height * width
    real = limits.dtype.type
    low, high = limits[0], limits[1]
    words = np.empty((4, -(-n_pixels // 4)), np.uint32)
    per_pixel = words.reshape(-1)[:n_pixels]
    noise = np.empty(n_pixels, limits.dtype)
    for image in range(n_images):
        _draw(key, epoch, step, np.uint64(rows[image]), words)
        _to_numbers(per_pixel, 0, real(scale), noise)
        before, after = images[image].reshape(-1), out[image].reshape(-1)
        for i in range(n_pixels):
            value = real(before[i]) + noise[i]
            value = low if value < low else high if value > high else value  # NaN stays
            is_hit = np.uint32(per_pixel[i] >> np.uint32(16)) < threshold
            after[i] = value + rounding if is_hit else before[i]
