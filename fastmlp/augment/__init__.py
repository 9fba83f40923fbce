"""Images changed at random, so that a network sees each of them in many shapes."""

from fastmlp.augment.steps import (
    Augmentation,
    Compose,
    ElasticDistortion,
    RandomAffine,
    RandomNoise,
)

__all__ = [
    "Augmentation",
    "Compose",
    "ElasticDistortion",
    "RandomAffine",
    "RandomNoise",
]
