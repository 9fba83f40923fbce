"""Random image augmentation."""

from fastmlp.augment.steps import (
    Augmentation,
    Compose,
    ElasticDistortion,
    RandomAffine,
    RandomDeskew,
    RandomFlip,
    RandomNoise,
    RandomThickness,
)

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
