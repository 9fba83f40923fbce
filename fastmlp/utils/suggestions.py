"""Suggestions for misspelled names."""

from collections.abc import Iterable, Mapping


def closest(
    word: str, choices: Iterable[str], synonyms: Mapping[str, str] | None = None
) -> str | None:
    """Return the choice that is closest to a word, if any.

    Parameters
    ----------
    word : str
    choices : iterable of str
    synonyms : mapping of str to str, optional
        Words of other libraries, and their equivalents.

    Examples
    --------
    >>> closest("fasion", ["mnist", "fashion", "kmnist"])
    'fashion'
    >>> closest("gpu", ["numpy", "cuda"], {"gpu": "cuda"})
    'cuda'
    """
    from difflib import get_close_matches  # not at the top: rarely needed

    by_lower_case = {choice.lower(): choice for choice in choices}
    synonym = (synonyms or {}).get(word.lower())
    if synonym in by_lower_case.values():
        return synonym
    found = get_close_matches(word.lower(), by_lower_case, n=1)
    return by_lower_case[found[0]] if found else None


def did_you_mean(
    word: str, choices: Iterable[str], synonyms: Mapping[str, str] | None = None
) -> str:
    """Return the end of an error message about a word: a full stop and, if possible, a suggestion.

    Examples
    --------
    >>> f"got 'sgd_50'{did_you_mean('sgd_50', ['sgd-50', 'best'])}"
    "got 'sgd_50'. Did you mean 'sgd-50'?"
    >>> did_you_mean("x", ["sgd-50", "best"])
    '.'
    """
    found = closest(word, choices, synonyms)
    return "." if found is None else f". Did you mean {found!r}?"
