"""scikit-learn's searches, whose fits share data and run in threads."""

import os
from contextlib import ExitStack
from typing import Any, Self

import sklearn.model_selection
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

from fastmlp.model_selection.journal import Journal
from fastmlp.model_selection.threads import in_threads, reason_against

__all__ = ["GridSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV", "RandomizedSearchCV"]


class _SharesData:
    """Mixin of searches."""

    _doc_link_module = "fastmlp"
    _doc_link_template = (
        "https://scikit-learn.org/stable/modules/generated/"
        "sklearn.model_selection.{estimator_name}.html"
    )
    estimator: Any
    verbose: int
    n_splits_: int

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        **params: Any,
    ) -> Self:
        """Run fit with all sets of parameters.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        checkpoint : path, optional
            A file with the results of the fits that have ended. After Ctrl-C or a kill, the same
            call takes them from it, with the same `cv_results_`; so does a search with other
            candidates.
        **params
            As of scikit-learn's class: `groups`, `sample_weight`, and others.

        Returns
        -------
        self

        Raises
        ------
        fastmlp.training.CheckpointError
            If the checkpoint belongs to another search, or is damaged.
        ValueError
            If there is a checkpoint, and the fits do not run in threads.
        """
        vars(self).pop("fit_histories_", None)
        if checkpoint is not None and (reason := reason_against(self.estimator)):
            raise ValueError(
                f"checkpoint is for searches of fastmlp's networks in threads, but {reason}; omit "
                "it."
            )
        with ExitStack() as stack:
            journal = None
            if checkpoint is not None:
                opened = Journal.opened(checkpoint, self, X, y, params)
                journal = stack.enter_context(opened)
            resource = getattr(self, "resource", None)
            backend = stack.enter_context(
                in_threads(
                    self.estimator,
                    title=type(self).__name__,
                    resource=resource,
                    journal=journal,
                    verbose=self.verbose,
                )
            )
            super().fit(X, y, **params)  # type: ignore[misc]
        if backend is not None:
            found = [call.history for call in backend.finished]
            n_splits = self.n_splits_
            self.fit_histories_ = [found[i : i + n_splits] for i in range(0, len(found), n_splits)]
        return self


class GridSearchCV(_SharesData, sklearn.model_selection.GridSearchCV):
    """Exhaustive search over parameter values, for networks and pipelines that end in one.

    The parameters, attributes and results are those of
    :class:`sklearn.model_selection.GridSearchCV`. The difference is in how the fits are done:

    - in threads of this process, by default as many as there are CPUs (`n_jobs`): one thread for
      each fit, and more when fewer fits are left;
    - X is validated once, and folds are not copied;
    - the steps of a pipeline before the network are fitted once for each split and set of their own
      parameters;
    - ``fit(X, y, checkpoint="search.ckpt")`` continues after Ctrl-C or a kill;
    - `pre_dispatch` is ignored.

    Other estimators are searched in scikit-learn's way (with `verbose`, a line says so), and so are
    ours within joblib's workers or after ``joblib.parallel_config(backend=...)``.

    Attributes
    ----------
    fit_histories_ : list of lists of dict
        The `history_` of every fit, by candidate and split; empty for a fit that did not begin.

    See Also
    --------
    fastmlp.displays.SearchDisplay : Pictures of a search.

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.model_selection import GridSearchCV
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> network = MLPClassifier(solver="lbfgs", max_iter=2000, random_state=0)
    >>> search = GridSearchCV(network, {"alpha": [0.1, 1, 1e4]}).fit(X, y)
    >>> search.best_params_["alpha"] < 1e4
    True
    """


class RandomizedSearchCV(_SharesData, sklearn.model_selection.RandomizedSearchCV):
    """Search over random parameter values, for networks and pipelines that end in one.

    As :class:`sklearn.model_selection.RandomizedSearchCV`; the differences are those of
    `GridSearchCV`.
    """


class HalvingGridSearchCV(_SharesData, sklearn.model_selection.HalvingGridSearchCV):
    """Search over parameter values with successive halving, for networks and their pipelines.

    As :class:`sklearn.model_selection.HalvingGridSearchCV`, without the import from
    ``sklearn.experimental``; the differences are those of `GridSearchCV`. With
    ``resource="max_iter"``, candidates that survive a round are trained further in the next one,
    instead of from the start: the result is the same. (Not with a named `lr_schedule`, whose rates
    depend on `max_iter`, or a generator as `random_state`.)

    Examples
    --------
    >>> from fastmlp import MLPClassifier
    >>> from fastmlp.model_selection import HalvingGridSearchCV
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> grid = {"alpha": [1e-4, 1e-2, 1, 100], "activation": ["relu", "tanh"]}
    >>> search = HalvingGridSearchCV(
    ...     MLPClassifier(random_state=0, n_iter_no_change=100), grid,
    ...     resource="max_iter", max_resources=64, factor=2,
    ... )
    >>> search.fit(X, y).n_resources_  # doctest: +SKIP
    [8, 16, 32, 64]
    """


class HalvingRandomSearchCV(_SharesData, sklearn.model_selection.HalvingRandomSearchCV):
    """Search over random values with successive halving, for networks and their pipelines.

    As :class:`sklearn.model_selection.HalvingRandomSearchCV`; see `HalvingGridSearchCV`.
    """


for _class in (GridSearchCV, RandomizedSearchCV, HalvingGridSearchCV, HalvingRandomSearchCV):
    _class.__module__ = "fastmlp.model_selection"  # where users find it
