"""The candidates of a search while it runs: their scores so far, and their ranks."""

import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastmlp.model_selection.calls import Call
from fastmlp.training import in_words

__all__ = ["Candidate", "Standings"]


@dataclass
class Candidate:
    """What is known of a candidate.

    Parameters
    ----------
    parameters : dict
    n_splits : int
        How many scores it will have.
    scores : dict of int to float
        By split, those that are known.
    seconds : float
        Time of its fits.
    """

    parameters: dict[str, Any]
    n_splits: int
    scores: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all splits have a score."""
        return len(self.scores) == self.n_splits

    @property
    def mean(self) -> float:
        """Mean of the scores; NaN if one has failed."""
        return float(np.mean(self._in_order))

    @property
    def spread(self) -> float:
        """Standard deviation of the scores, as in `cv_results_`."""
        return float(np.std(self._in_order))

    @property
    def _in_order(self) -> list[float]:
        return [self.scores[split] for split in sorted(self.scores)]


class Standings:
    """The candidates of a search; a watcher of its calls.

    Parameters
    ----------
    resource : str, optional
        The parameter that grows from round to round of a halving search.

    Attributes
    ----------
    n_scores, n_known : int
        Of all candidates and splits; those that were taken from a checkpoint.
    errors : Counter
        How many fits have failed, by the last line of their error.
    """

    def __init__(self, resource: str = "") -> None:
        self._resource = resource
        self._candidates: dict[str, Candidate] = {}
        self._lock = threading.Lock()
        self.n_scores = self.n_known = 0
        self.errors: Counter[str] = Counter()

    def __call__(self, call: Call, result: Any) -> Candidate | None:
        """Add the result of a call; return its candidate if it has all scores now."""
        parameters, progress = (call.given.get(name) for name in ("parameters", "split_progress"))
        if parameters is None or progress is None:  # of a function
            return None
        if not isinstance(result["test_scores"], float | int):
            return None
        key = in_words(dict(sorted(parameters.items())))
        with self._lock:
            self.n_scores += 1
            self.n_known += call.is_known
            if result.get("fit_error"):
                self.errors[result["fit_error"].strip().splitlines()[-1]] += 1
            new = Candidate(dict(parameters), n_splits=progress[1])
            candidate = self._candidates.setdefault(key, new)
            candidate.scores[progress[0]] = float(result["test_scores"])
            candidate.seconds += result["fit_time"]
            return candidate if candidate.is_complete else None

    def ranked(self) -> list[Candidate]:
        """Return the candidates, the best first, failed ones last.

        In a halving search each has its last round, and later rounds come first.
        """
        with self._lock:
            found = list(self._candidates.values())
        last: dict[str, Candidate] = {}
        for candidate in sorted(found, key=self._round):
            others = {k: v for k, v in candidate.parameters.items() if k != self._resource}
            last[in_words(dict(sorted(others.items())))] = candidate
        return sorted(last.values(), key=lambda c: (-self._round(c), _descending(c.mean)))

    def _round(self, candidate: Candidate) -> float:
        return float(candidate.parameters.get(self._resource, 0))


def _descending(score: float) -> float:
    return -score if math.isfinite(score) else math.inf
