"""Models in files, without pickle: one of our own estimators, or a whole pipeline around it."""

from fastmlp.persistence.models import ModelFileError, is_model_file
from fastmlp.persistence.pipelines import StoredGenerator, StoredModel, load, save

__all__ = ["ModelFileError", "StoredGenerator", "StoredModel", "is_model_file", "load", "save"]

# Their public name, which saved pipelines have in them.
StoredGenerator.__module__ = StoredModel.__module__ = __name__
