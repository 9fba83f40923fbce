"""Philox-4x32-10 against the vectors that the Random123 library publishes."""

import numpy as np
import pytest

from fastmlp.random_bits import address, philox

# (counter, key, words): kat_vectors of Random123.
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text):
    return np.array([int(word, 16) for word in text.split()], np.uint32)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    np.testing.assert_array_equal(philox(words(counter), words(key)), words(expected))


def test_many_at_once_are_as_one_by_one():
    counter, key = address(2**40 + 7, 3, 2, 1, np.arange(5)[:, np.newaxis], np.arange(6))
    assert counter.shape == (5, 6, 4)
    together = philox(counter, key)
    assert together.shape == (5, 6, 4)
    assert together.dtype == np.uint32
    for row, unit in np.ndindex(5, 6):
        np.testing.assert_array_equal(together[row, unit], philox(counter[row, unit], key))


def test_every_part_of_an_address_counts():
    base = {"seed": 1, "epoch": 2, "batch": 3, "layer": 4, "row": 5, "unit": 6}
    seen = {tuple(philox(*address(**base)))}
    for name in base:
        seen.add(tuple(philox(*address(**{**base, name: 9}))))
    seen.add(tuple(philox(*address(**{**base, "seed": 1 + 2**32}))))
    assert len(seen) == 8


def test_bits_are_balanced():
    counter, key = address(0, 0, 0, 0, np.arange(100)[:, np.newaxis], np.arange(100))
    drawn = philox(counter, key)
    for bit in range(32):
        assert abs(((drawn >> np.uint32(bit)) & 1).mean() - 0.5) < 0.01
