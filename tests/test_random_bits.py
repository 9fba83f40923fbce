"""Philox-4x32-10 against the vectors that the Random123 library publishes, and dropout's masks."""

from dataclasses import replace

import numpy as np
import oracle
import pytest

from fastmlp.core.random_bits import Dropout, philox

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
    assert oracle.philox(words(counter).tolist(), words(key).tolist()) == words(expected).tolist()


def test_many_at_once_are_as_one_by_one():
    counter = np.random.RandomState(0).randint(0, 2**32, (5, 6, 4))
    key = [7, 2**31]
    together = philox(counter, key)
    assert together.shape == (5, 6, 4)
    assert together.dtype == np.uint32
    for row, unit in np.ndindex(5, 6):
        np.testing.assert_array_equal(together[row, unit], philox(counter[row, unit], key))


def test_bits_are_balanced():
    counter = np.zeros((100, 100, 4))
    counter[..., 0], counter[..., 1] = np.indices((100, 100))
    drawn = philox(counter, [0, 0])
    for bit in range(32):
        assert abs(((drawn >> np.uint32(bit)) & 1).mean() - 0.5) < 0.01


class TestDropout:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_factors_are_those_of_the_oracle(self, dtype):
        dropout = Dropout((0.25, 0.0, 0.9), seed=2**40 + 7, epoch=3, start=2**32 - 2)
        positions = np.array([0, 1, 5])
        assert dropout.factors(1, positions, 7, dtype) is None
        for layer in (0, 2):
            factors = dropout.factors(layer, positions, 70, dtype)
            assert factors.dtype == dtype
            for row, position in enumerate(positions):
                expected = oracle.dropout_factors(
                    dropout.rates[layer], dropout.seed, 3, 2**32 - 2 + position, layer, 70
                )
                np.testing.assert_allclose(factors[row], expected, rtol=1e-6)

    @pytest.mark.parametrize("rate", [0.1, 0.5, 0.6, 0.9])
    def test_a_million_draws_have_the_mean_that_they_should(self, rate):
        factors = Dropout((rate,), seed=1).factors(0, np.arange(1000), 1000, "float64")
        kept = (factors != 0).mean()
        assert kept == pytest.approx(1 - rate, rel=0.005)
        # Neither units nor samples are favoured: 1000 draws each, six standard deviations.
        margin = 6 * np.sqrt(rate * (1 - rate) / 1000)
        for axis in (0, 1):
            assert np.abs((factors != 0).mean(axis=axis) - (1 - rate)).max() < margin

    def test_every_part_of_the_key_counts(self):
        base = Dropout((0.5, 0.5), seed=1, epoch=2, start=3)
        changes = [{}, {"seed": 9}, {"seed": 1 + 2**32}, {"epoch": 9}, {"start": 9}]
        changes.append({"start": 3 + 2**32})
        seen = {
            replace(base, **change).factors(layer, np.arange(1), 64, "float32").tobytes()
            for change in changes
            for layer in (0, 1)
        }
        assert len(seen) == 2 * len(changes)

    def test_a_rate_of_almost_one_still_has_a_threshold(self):
        assert Dropout((1 - 1e-12,), seed=0).threshold(0) == 2**32 - 1
