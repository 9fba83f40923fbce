"""How fastmlp warns: hints of its own at the user's line, and scikit-learn's from its place."""

import functools
import linecache
import os
import re
import sys
import warnings

from fastmlp.utils import searches


class FastMLPWarning(UserWarning):
    """Something that scikit-learn would not warn about; the base of all such warnings."""


class InputScaleWarning(FastMLPWarning):
    """The features span far more than unit scale, on which these networks train badly."""


class TargetScaleWarning(FastMLPWarning):
    """The targets of a regression are far from unit scale, which takes too long to learn."""


class NegativeWeightWarning(FastMLPWarning):
    """Some samples have negative weights."""


class WarmStartWarning(FastMLPWarning):
    """A parameter was changed that a warm start does not heed."""


class OneHotLabelsWarning(FastMLPWarning):
    """The labels look like one class per sample, one-hot encoded, but mean several labels."""


class IneffectiveParameterWarning(FastMLPWarning):
    """Parameters were set that the chosen solver does not heed."""


class ConstantFeatureWarning(FastMLPWarning):
    """Features that never change were to be standardised; they teach nothing."""


class LatePatchWarning(FastMLPWarning):
    """Modules hold scikit-learn's classes, because they were imported before the patch."""


class TableWarning(FastMLPWarning):
    """Something about a table was guessed or left out, such as an encoding or a column's name."""


class ModelFileWarning(FastMLPWarning):
    """A model's file does not hold all of it, or was written by other versions."""


#: The module that scikit-learn's MLPs warn from.
_SKLEARN_MODULE = "sklearn.neural_network._multilayer_perceptron"


def warn(message: str, category: type[FastMLPWarning]) -> None:
    """Give a hint of ours, which names the line of the user that led here.

    In a search it is given by one of its fits only; see `fastmlp.utils.searches`.
    """
    user, distance = searches.line_of_user(sys._getframe())
    search = searches.current()
    if user is not None:
        place = user.f_code.co_filename, user.f_lineno, user.f_globals.get("__name__", "")
    elif search is not None:
        place = search.filename, search.lineno, search.module
    else:
        place = None
    # Asked before it is noted as given: what is an error must be one in every fit, also in those
    # that run at the same time.
    is_error = _is_error(message, category, place)
    if search is not None and not is_error and not search.is_first(message):
        return
    if user is None and place is not None:
        warnings.warn_explicit(message, category, *place)
    else:
        warnings.warn(message, category, stacklevel=distance + 1)


def _is_error(message: str, category: type[Warning], place: tuple[str, int, str] | None) -> bool:
    """Return whether the filters turn a warning into an exception, which `warnings` cannot tell."""
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
    """Return whether part of a filter fits; Python's own filters have whole texts."""
    if pattern is None or isinstance(pattern, str):
        return pattern in (None, text)
    return pattern.match(text) is not None


def warn_as_sklearn(
    message: str, category: type[Warning] = UserWarning, *, at: str | None = None
) -> None:
    """Give a warning that scikit-learn's MLPs give too, from their place.

    So a filter with ``module="sklearn"`` acts on it, and it is shown with the same line.

    Parameters
    ----------
    message : str
    category : type of warning
    at : str, optional
        A regular expression that ends in the line of scikit-learn's source that warns. Without one,
        the line is a call of `warnings.warn` with a text that begins as the message does.
    """
    if at is None:
        at = rf'warnings\.warn\((?=\s*"{re.escape(message[:16])})'
    path = _sklearn_source()
    # Of a module, as Python's own are, because it is there that tools empty them.
    registry = globals().setdefault("__warningregistry__", {})
    warnings.warn_explicit(message, category, path, _line(at), _SKLEARN_MODULE, registry)


def warn_of_column(estimator: str) -> None:
    """Give scikit-learn's warning that y is a column."""
    from sklearn.exceptions import DataConversionWarning

    warn_as_sklearn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y "
        "to (n_samples, ), for example using ravel().",
        DataConversionWarning,
        at=rf"(?s)\nclass {estimator}\b.*?column_or_1d\(y, warn=True\)",
    )


def _sklearn_source() -> str:
    """Return the path of the module that scikit-learn's MLPs warn from."""
    import sklearn  # not above: fastmlp.images does without it

    parts = _SKLEARN_MODULE.split(".")[1:]
    return os.path.join(os.path.dirname(sklearn.__file__), *parts) + ".py"


@functools.cache
def _line(at: str) -> int:
    """Return the line of scikit-learn's source that a regular expression ends in, or 1."""
    source = "".join(linecache.getlines(_sklearn_source()))
    found = re.search(at, source)
    return 1 + source.count("\n", 0, found.end()) if found else 1
