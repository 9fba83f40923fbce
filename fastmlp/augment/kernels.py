"""The kernels of `fastmlp.augment`, compiled by Numba on first use.

Numba caches them on disk, and recompiles them when this file changes, but not when
`core/random_bits.py` does. Nothing is validated here, and no kernel reads an image after starting
to write it, so images may be transformed in place.

Loops are written so that LLVM vectorizes them: over whole planes, including the gaps between rows,
and without branches.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from fastmlp.core.random_bits import philox_words

_JIT: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"contract", "nsz"},
    "error_model": "numpy",
}
jit = njit(**_JIT)


def entry(function: Any) -> Any:
    """Compile a function that is called from Python, and cache it on disk."""
    try:
        return njit(**_JIT, cache=True)(function)
    except RuntimeError:  # no writable cache directory
        return jit(function)


# A call in the loop over counters would prevent vectorization.
_philox_words = njit(**_JIT, forceinline=True)(philox_words)

#: Second word of the counter of step 0. Dropout's streams never set this bit.
STREAM = np.uint64(1 << 31)

#: Columns of `affine`.
ROTATE, SHIFT, ZOOM, SHEAR, DESKEW, FLIP = range(6)

#: Taps per side that a convolution processes at a time.
_UNROLLED = 4

#: Zero padding of an interpolated image: one before it, and two after it, because a source may be
#: at `height`.
_BORDER = 3


@jit
def _draw(key, epoch, step, row, words):
    """Fill words (4, n), uint32: column i is drawn with counter (i, STREAM + step, row, epoch)."""
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
def _slant(image):
    """Return how far strokes lean, in pixels along x per pixel along y, and their middle's y.

    The slant is that of the regression line of x on y, weighted by the pixels. The middle is
    relative to the center of the image.
    """
    height, width = image.shape
    ink = of_y = of_x = of_yy = of_xy = 0.0
    for row in range(height):
        y = row - 0.5 * (height - 1)
        line = line_of_x = 0.0
        for column in range(width):
            value = np.float64(image[row, column])
            line += value
            line_of_x += value * column
        ink += line
        of_y += line * y
        of_x += line_of_x
        of_yy += line * y * y
        of_xy += line_of_x * y
    if not ink > 0.0:  # empty, or not a number
        return 0.0, 0.0
    middle = of_y / ink
    spread = of_yy - of_y * middle
    if not spread > 1e-9 * ink:  # a single row
        return 0.0, 0.0
    slant = (of_xy - of_x * middle) / spread
    return min(max(slant, -1.0), 1.0), middle


@jit
def _part(word):
    """Return a number between 0 and 1 from 32 bits."""
    return (np.float64(word) + 0.5) / 4294967296.0


@jit
def _deskew(words, strength, image, source):
    """Multiply `source` from the right by the inverse of a shear; see `_compose`."""
    slant, middle = _slant(image)
    slant *= strength * _part(words[0, 0])
    for i in range(2):
        lean = slant * source[i, 1]
        source[i, 0] += lean
        source[i, 2] -= lean * middle


@jit
def _flip(words, probability, source):
    """Multiply `source` from the right by a reflection, or not; see `_compose`."""
    if _part(words[0, 0]) < probability:
        source[0, 1] = -source[0, 1]
        source[1, 1] = -source[1, 1]


@jit
def _compose(words, affine, source):
    """Multiply `source` (2, 3) from the right by the inverse of a random affine map.

    `source` maps (y, x, 1) of a pixel of the result, relative to the center, to its source; the
    affine map applies zoom, shear, rotation and then shift.
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
    """Set out[i] to the sum of weights[|k|] * plane[start + i + k * step] over |k| <= radius.

    `weights` is padded with zeros to a multiple of `_UNROLLED`, and the plane accordingly.
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
    """Fill `numbers` with values in -scale..scale, from the lower or upper half of words."""
    real = numbers.dtype.type
    shift = np.uint32(16 * half)
    step, start = scale * real(2.0**-15), scale * real(2.0**-16 - 1.0)
    for i in range(len(numbers)):
        bits = np.int32(np.uint32(words[i] >> shift) & np.uint32(0xFFFF))
        numbers[i] = step * real(bits) + start


@jit
def _copy_rows(values, width, plane, stride):
    """Copy contiguous rows to an array with gaps between rows."""
    for y in range(len(values) // width):
        before, after = values[y * width :], plane[y * stride :]
        for x in range(width):
            after[x] = before[x]


@jit
def _interpolate(padded, source, field_y, field_x, stride, rounding, at, rest, out):
    """Set each pixel to the bilinear interpolation at its source; `at` and `rest` are scratch."""
    height, width = out.shape
    real = padded.dtype.type
    half_height, half_width = 0.5 * (height - 1), 0.5 * (width - 1)
    border = width + _BORDER
    rest_y, rest_x = rest[0], rest[1]
    step_y, step_x = real(source[0, 1]), real(source[1, 1])
    one = np.uint64(1)
    for y in range(height):
        # The source of the row's first pixel, counted from the corner of `padded`.
        down = y - half_height
        from_y = source[0, 0] * down - source[0, 1] * half_width + source[0, 2] + half_height + 1
        from_x = source[1, 0] * down - source[1, 1] * half_width + source[1, 2] + half_width + 1
        start_y, start_x = real(from_y), real(from_x)
        line_y, line_x = field_y[y * stride :], field_x[y * stride :]
        for x in range(width):
            source_y = start_y + step_y * real(x) + line_y[x]
            source_x = start_x + step_x * real(x) + line_x[x]
            # Not min and max, which would propagate NaN from infinite displacements.
            source_y = source_y if source_y > real(0) else real(0)
            source_x = source_x if source_x > real(0) else real(0)
            source_y = source_y if source_y < real(height + 1) else real(height + 1)
            source_x = source_x if source_x < real(width + 1) else real(width + 1)
            whole_y, whole_x = np.int32(source_y), np.int32(source_x)
            rest_y[x] = source_y - real(whole_y)
            rest_x[x] = source_x - real(whole_x)
            at[x] = np.uint32(whole_y * np.int32(border) + whole_x)
        for x in range(width):
            i = np.uint64(at[x])  # unsigned, so that Numba does not check for negative indices
            upper = padded[i] + rest_x[x] * (padded[i + one] - padded[i])
            i += np.uint64(border)
            lower = padded[i] + rest_x[x] * (padded[i + one] - padded[i])
            rest_y[x] = upper + rest_y[x] * (lower - upper)
        for x in range(width):
            out[y, x] = rest_y[x] + rounding


@entry
def warp(images, rows, key, epoch, steps, affine, alpha, weights, rounding, out):
    """Move pixels: affine maps and displacements in order, with a single interpolation.

    Parameters
    ----------
    images : array of shape (n, height, width), uint8, float32 or float64  # IN
    rows : array of shape (n,), int64                                     # IN
        Number of each image in its data set.
    key : array of shape (2,), uint64                                     # IN
    epoch : uint64
    steps : array of shape (n_steps,), int64                              # IN
        Place of each step in the composition.
    affine : array of shape (n_steps, 6), float64                         # IN
        Ranges of an affine map: radians, pixels, part, radians; or the largest part of the slant
        that the first step removes; or the probability of a reflection. Other numbers are 0.
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

    # Taps are limited to the size of the image. `reach` includes the zero padding.
    radius = weights.shape[1] - 1
    radius_y, radius_x = min(radius, height - 1), min(radius, width - 1)
    reach_y = -(-radius_y // _UNROLLED) * _UNROLLED
    reach_x = -(-radius_x // _UNROLLED) * _UNROLLED
    taps_y = np.zeros((n_steps, reach_y + 1), weights.dtype)
    taps_x = np.zeros((n_steps, reach_x + 1), weights.dtype)
    taps_y[:, : radius_y + 1] = weights[:, : radius_y + 1]
    taps_x[:, : radius_x + 1] = weights[:, : radius_x + 1]

    # Rows of planes are separated by a gap of zeros for the taps.
    stride = width + reach_x
    n = height * stride
    few = np.empty((4, 2), np.uint32)
    many = np.empty((4, -(-height * width // 4)), np.uint32)
    per_pixel = many.reshape(-1)[: height * width]
    numbers = np.empty(height * width, weights.dtype)
    noise = np.zeros(n + 2 * reach_x, weights.dtype)
    blurred = np.zeros(n + 2 * reach_y * stride, weights.dtype)
    rows_blurred = blurred[reach_y * stride : reach_y * stride + n]
    smooth = np.empty(n, weights.dtype)
    field_y, field_x = np.empty(n, weights.dtype), np.empty(n, weights.dtype)
    source = np.empty((2, 3))
    padded = np.zeros((height + _BORDER) * (width + _BORDER), weights.dtype)
    at = np.empty(width, np.uint32)
    rest = np.empty((2, width), weights.dtype)

    for image in range(n_images):
        row = np.uint64(rows[image])
        source[:] = 0.0
        source[0, 0] = source[1, 1] = 1.0
        field_y[:] = real(0)
        field_x[:] = real(0)
        for k in range(n_steps):
            if alpha[k] == 0.0:
                _draw(key, epoch, steps[k], row, few)
                if affine[k, DESKEW] > 0.0:
                    _deskew(few, affine[k, DESKEW], images[image], source)
                elif affine[k, FLIP] > 0.0:
                    _flip(few, affine[k, FLIP], source)
                else:
                    _compose(few, affine[k], source)
                continue
            _draw(key, epoch, steps[k], row, many)
            for axis in range(2):
                _to_numbers(per_pixel, axis, real(1), numbers)
                _copy_rows(numbers, width, noise[reach_x:], stride)
                _convolve(noise, reach_x, 1, taps_x[k], radius_x, n, rows_blurred)
                _convolve(blurred, reach_y * stride, stride, taps_y[k], radius_y, n, smooth)
                along_y = real(alpha[k] * source[0, axis])
                along_x = real(alpha[k] * source[1, axis])
                for i in range(n):
                    field_y[i] += along_y * smooth[i]
                    field_x[i] += along_x * smooth[i]
        border = width + _BORDER
        _copy_rows(images[image].reshape(-1), width, padded[border + 1 :], border)
        _interpolate(padded, source, field_y, field_x, stride, rounding, at, rest, out[image])


@entry
def thicken(images, rows, key, epoch, step, strength, rounding, out):
    """Blend each pixel with the largest or smallest of itself and its four neighbours.

    Parameters
    ----------
    images : array of shape (n, height, width), uint8, float32 or float64  # IN
    rows, key, epoch : as in `warp`
    step : int64
        Place in the composition.
    strength : float32 or float64
        Largest part of the other pixel in the blend. Its dtype is what is computed in.
    rounding, out : as in `warp`
    """
    n_images, height, width = images.shape
    real = type(strength)
    few = np.empty((4, 1), np.uint32)
    # Pixels at the edges are repeated outside of them, where they cannot change a maximum.
    padded = np.empty((height + 2, width + 2), np.asarray(strength).dtype)
    blend = np.empty(width, padded.dtype)
    for image in range(n_images):
        _draw(key, epoch, step, np.uint64(rows[image]), few)
        part = real(np.float64(strength) * _symmetric(few[0, 0]))
        for y in range(height):
            before, line = images[image, y], padded[y + 1, 1:]
            for x in range(width):
                line[x] = before[x]
            padded[y + 1, 0], padded[y + 1, width + 1] = line[0], line[width - 1]
        padded[0], padded[height + 1] = padded[1], padded[height]
        # The smallest is the largest of the negated pixels, negated.
        sign = real(1) if part >= real(0) else real(-1)
        for y in range(height):
            above, line, below = padded[y, 1:], padded[y + 1], padded[y + 2, 1:]
            for x in range(width):
                m = sign * line[x + 1]
                a, b = sign * line[x], sign * line[x + 2]
                c, d = sign * above[x], sign * below[x]
                a = a if a > b else b
                c = c if c > d else d
                a = a if a > c else c
                a = a if a > m else m
                blend[x] = line[x + 1] + part * (a - m) + rounding
            after = out[image, y]
            for x in range(width):
                after[x] = blend[x]


@entry
def add_noise(images, rows, key, epoch, step, scale, threshold, limits, rounding, out):
    """Add noise to some pixels, and clip them to the range.

    Parameters
    ----------
    images : array of shape (n, height, width), uint8, float32 or float64  # IN
    rows, key, epoch : as in `warp`
    step : int64
        Place in the composition.
    scale : float64
        Half-width of the noise.
    threshold : uint32
        A pixel gets noise if the upper half of its word is smaller.
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
            value = low if value < low else value  # not min and max, to keep NaN
            value = high if value > high else value
            is_hit = np.uint32(per_pixel[i] >> np.uint32(16)) < threshold
            noise[i] = value + rounding if is_hit else real(before[i])
        for i in range(n_pixels):
            after[i] = noise[i]
