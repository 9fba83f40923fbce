"""The card of a model as a file."""

from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from fastmlp.cards import to_markdown
from fastmlp.utils.files import AnyPath, atomic_write

__all__ = ["to_card"]


def to_card(model: Any, path: AnyPath | None = None, *, name: str | None = None) -> str:
    """Return the card of a fitted model as Markdown.

    Parameters
    ----------
    model : estimator
        Of fastmlp, an ensemble, or a pipeline that ends in one; see `fastmlp.cards`.
    path : path, optional
        Where to write it, too. An existing file is replaced.
    name : str, optional
        The title. By default the name of the file without its ending, otherwise "model".

    Returns
    -------
    str

    Raises
    ------
    sklearn.exceptions.NotFittedError
    OSError
        If the file cannot be written.
    """
    check_is_fitted(model)
    if name is None:
        name = "model" if path is None else Path(path).stem.removesuffix("_card")
    text = to_markdown(model, name)
    if path is not None:
        with atomic_write(path) as file:
            file.write(text.encode())
    return text
