"""Random image augmentation."""

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
