"""Save and load models without pickle: fastmlp's estimators, or whole pipelines with them."""

from fastmlp.persistence.models import ModelFileError, is_model_file
from fastmlp.persistence.pipelines import (
    StoredAugmentation,
    StoredGenerator,
    StoredModel,
    load,
    save,
)

__all__ = [
    "ModelFileError",
    "StoredAugmentation",
    "StoredGenerator",
    "StoredModel",
    "is_model_file",
    "load",
    "save",
]

# The public module name, which saved pipelines contain.
StoredAugmentation.__module__ = StoredGenerator.__module__ = StoredModel.__module__ = __name__
