"""What the shape of an image is: the same rules and sentences wherever one is given."""

import numpy as np
import pytest

from fastmlp import augment, displays, images
from fastmlp.utils.image_shapes import check_shape, shape_of_images, square_shape


def test_square_shape():
    assert [n for n in range(50) if square_shape(n)] == [1, 4, 9, 16, 25, 36, 49]
    assert square_shape(2**62) == (2**31, 2**31)
    assert images.square_shape is square_shape


@pytest.mark.parametrize("shape", [[3, 4], np.array([3, 4])])
def test_what_is_a_shape(shape):
    assert check_shape(shape, "size") == (3, 4)


@pytest.mark.parametrize("shape", [28, (28,), (1, 2, 3), (0, 3), (-2, -3), "ab", None])
def test_what_is_no_shape(shape):
    with pytest.raises(ValueError, match=r"size must be \(height, width\), both at least 1, got "):
        check_shape(shape, "size")


@pytest.mark.parametrize(
    ("array_shape", "given", "shape"),
    [
        ((5, 9), None, (3, 3)),
        ((5, 6), (2, 3), (2, 3)),
        ((5, 2, 3), None, (2, 3)),
        ((5, 2, 3), (2, 3), (2, 3)),
        ((0, 4), None, (2, 2)),
    ],
)
def test_shape_of_images(array_shape, given, shape):
    assert shape_of_images(array_shape, given) == shape


@pytest.mark.parametrize(
    ("X", "shape", "message"),
    [
        (np.zeros((2, 30), np.uint8), None, "must be square .* got 30 pixels: give NAME="),
        (np.zeros((2, 30), np.uint8), (5, 5), r"NAME must be .* 30 pixels, got \(5, 5\)"),
        (np.zeros((2, 30), np.uint8), (30, 0), r"NAME must be \(height, width\), .* \(30, 0\)"),
    ],
)
def test_one_sentence_everywhere(tmp_path, X, shape, message):
    for function, name in [
        (lambda: displays.as_images(X, shape), "shape"),
        (lambda: images.save_folder(X, [0, 1], tmp_path / "new", shape), "shape"),
        (lambda: augment.RandomAffine(image_shape=shape)(X), "image_shape"),
    ]:
        with pytest.raises(ValueError, match=message.replace("NAME", name)):
            function()


@pytest.mark.parametrize("array_shape", [(9,), (1, 2, 3, 4)])
def test_an_array_without_images(array_shape):
    with pytest.raises(ValueError, match=r"^X must be of shape .* one sample is X\[\[i\]\]"):
        shape_of_images(array_shape)
    with pytest.raises(ValueError, match=r"at least 1, got \(0, 3\)"):
        shape_of_images((2, 0, 3))
