"""Random image augmentation."""

from fastmlp.augment.steps import (
    Augmentation,
    Compose,
    ElasticDistortion,
    RandomAffine,
    RandomDeskew,
    RandomNoise,
    RandomThickness,
)

__all__ = [
    "Augmentation",
    "Compose",
    "ElasticDistortion",
    "RandomAffine",
    "RandomDeskew",
    "RandomNoise",
    "RandomThickness",
]
