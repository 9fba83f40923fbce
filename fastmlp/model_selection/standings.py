"""The candidates of a search while it runs: their scores so far, and their ranks."""

import math
import threading
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
    scores : list of float
        One per split, in the order in which they were known.
    seconds : float
        Time of its fits.
    """

    parameters: dict[str, Any]
    n_splits: int
    scores: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all splits have a score."""
        return len(self.scores) == self.n_splits

    @property
    def mean(self) -> float:
        """Mean of the scores; NaN if one has failed."""
        return float(np.mean(self.scores))

    @property
    def spread(self) -> float:
        """Standard deviation of the scores, as in `cv_results_`."""
        return float(np.std(self.scores))


class Standings:
    """The candidates of a search; a watcher of its calls.

    Attributes
    ----------
    n_scores : int
        Of all candidates and splits.
    """

    def __init__(self) -> None:
        self._candidates: dict[str, Candidate] = {}
        self._lock = threading.Lock()
        self.n_scores = 0

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
            new = Candidate(dict(parameters), n_splits=progress[1])
            candidate = self._candidates.setdefault(key, new)
            candidate.scores.append(float(result["test_scores"]))
            candidate.seconds += result["fit_time"]
            return candidate if candidate.is_complete else None

    def ranked(self) -> list[Candidate]:
        """Return the candidates with all scores, the best first, failed ones last."""
        with self._lock:
            complete = [c for c in self._candidates.values() if c.is_complete]
        return sorted(complete, key=lambda c: -c.mean if math.isfinite(c.mean) else math.inf)
