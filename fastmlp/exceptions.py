"""The warning classes, and how they are issued: at the user's line, or as scikit-learn's."""

import functools
import linecache
import os
import re
import sys
import warnings

from fastmlp.utils import searches


class FastMLPWarning(UserWarning):
    """Base class of all warnings that scikit-learn does not have."""


class InputScaleWarning(FastMLPWarning):
    """The features are far from unit scale, which slows or prevents training."""


class TargetScaleWarning(FastMLPWarning):
    """The targets of a regression are far from unit scale, which slows or prevents training."""


class NegativeWeightWarning(FastMLPWarning):
    """Some samples have negative weights."""


class WarmStartWarning(FastMLPWarning):
    """A parameter was changed that a warm start ignores."""


class OneHotLabelsWarning(FastMLPWarning):
    """Multilabel targets look like one-hot encoded classes."""


class IneffectiveParameterWarning(FastMLPWarning):
    """Parameters were set that the chosen solver ignores."""


class ConstantFeatureWarning(FastMLPWarning):
    """Constant features are to be standardized; they carry no information."""


class SlowBackendWarning(FastMLPWarning):
    """No compiled backend is available, so that ``backend="auto"`` uses NumPy."""


class LatePatchWarning(FastMLPWarning):
    """Modules use scikit-learn's classes, because they were imported before the patch."""


class TableWarning(FastMLPWarning):
    """Something about a table was guessed or omitted, such as an encoding or a column's name."""


class InterruptedWarning(FastMLPWarning):
    """Ctrl-C has stopped some of many fits."""


class CheckpointWarning(FastMLPWarning):
    """A checkpoint could not be written, or goes on with another backend."""


class ModelFileWarning(FastMLPWarning):
    """A model's file is incomplete, or was written by other versions."""


#: The module of scikit-learn's MLP warnings.
_SKLEARN_MODULE = "sklearn.neural_network._multilayer_perceptron"


def warn(message: str, category: type[FastMLPWarning]) -> None:
    """Issue a warning at the line of the user's code.

    In a search, only one of its fits issues it; see `fastmlp.utils.searches`.
    """
    user, distance = searches.line_of_user(sys._getframe())
    search = searches.current()
    if user is not None:
        place = user.f_code.co_filename, user.f_lineno, user.f_globals.get("__name__", "")
    elif search is not None:
        place = search.filename, search.lineno, search.module
    else:
        place = None
    # Checked before it is recorded as issued: an error must be raised in every fit, also in
    # concurrent ones.
    is_error = _is_error(message, category, place)
    if search is not None and not is_error and not search.is_first(message):
        return
    if user is None and place is not None:
        warnings.warn_explicit(message, category, *place)
    else:
        warnings.warn(message, category, stacklevel=distance + 1)


def _is_error(message: str, category: type[Warning], place: tuple[str, int, str] | None) -> bool:
    """Return whether the filters turn a warning into an exception."""
    _, line, module = place or ("", 0, "")
    for action, text, base, of_module, at in warnings.filters:
        if (
            _fits(text, message)
            and issubclass(category, base)
            and _fits(of_module, module)
            and at in (0, line)
        ):
            return action == "error"
    return False


def _fits(pattern: "str | re.Pattern[str] | None", text: str) -> bool:
    """Return whether a pattern of a filter matches; Python's default filters have plain strings."""
    if pattern is None or isinstance(pattern, str):
        return pattern in (None, text)
    return pattern.match(text) is not None


def warn_as_sklearn(
    message: str, category: type[Warning] = UserWarning, *, at: str | None = None
) -> None:
    """Issue a warning that scikit-learn's MLPs issue too, at the same place in its source.

    So filters with ``module="sklearn"`` apply to it, and it is shown with the same line.

    Parameters
    ----------
    message : str
    category : type of warning
    at : str, optional
        A regular expression that ends in the line of scikit-learn's source that warns. By default,
        a call of `warnings.warn` whose text begins like the message.
    """
    if at is None:
        at = rf'warnings\.warn\((?=\s*"{re.escape(message[:16])})'
    path = _sklearn_source()
    # In a module, because that is where tools clear registries.
    registry = globals().setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, category, path, _line(at), _SKLEARN_MODULE, registry)


def warn_of_column(estimator: str) -> None:
    """Issue scikit-learn's warning about a column vector y."""
    from sklearn.exceptions import DataConversionWarning

    warn_as_sklearn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y "
        "to (n_samples, ), for example using ravel().",
        DataConversionWarning,
        at=rf"(?s)\nclass {estimator}\b.*?column_or_1d\(y, warn=True\)",
    )


def _sklearn_source() -> str:
    """Return the path of the module of scikit-learn's MLPs."""
    import sklearn  # not at the top: fastmlp.images does not need it

    parts = _SKLEARN_MODULE.split(".")[1:]
    return os.path.join(os.path.dirname(sklearn.__file__), *parts) + ".py"


@functools.cache
def _line(at: str) -> int:
    """Return the line of scikit-learn's source that a regular expression ends in, or 1."""
    source = "".join(linecache.getlines(_sklearn_source()))
    found = re.search(at, source)
    return 1 + source.count("\n", 0, found.end()) if found else 1
