"""L-BFGS, with scipy's minimizer."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning

from fastmlp.exceptions import warn_as_sklearn
from fastmlp.training.state import EpochReport, Progress, finish, say
from fastmlp.utils import searches


def train_lbfgs(
    engine: Any,
    progress: Progress,
    *,
    max_iter: int,
    max_fun: int,
    tol: float,
    validate: Callable[[], tuple[float, float]] | None = None,
    verbose: bool = False,
    before_epoch: Callable[[], None] | None = None,
    on_epoch: Callable[[EpochReport], bool] | None = None,
    handles_interrupts: bool = False,
) -> None:
    """Minimize the objective over all samples by L-BFGS (scipy's L-BFGS-B).

    scipy's vector is the flat parameter vector, in float64; a float32 network is
    evaluated in float32. Ctrl-C stops training with a warning and keeps the
    parameters of the last iteration; so does an exception of a callable, which
    is re-raised, as is Ctrl-C in a search.

    Parameters
    ----------
    engine : Engine of any backend
        Bound to the training data. Its parameters are the starting point, and
        become the solution.
    progress : Progress
        Records every finished iteration; at the end its loss is the
        objective at the solution.
    max_iter, max_fun : int
        Maximum number of iterations and evaluations.
    tol : float
        Tolerance for the largest component of the gradient.
    validate : callable, optional
        Returns the loss and the score of the engine's current parameters on
        validation data.
    verbose : bool
        Print a line per iteration.
    before_epoch : callable, optional
        Called before every iteration, and after the last one.
    on_epoch : callable, optional
        Called with an `EpochReport` after every iteration; a true result stops
        training.
    handles_interrupts : bool
        As in `train`.
    """
    parameters = engine.parameters
    dtype = parameters.flat.dtype
    n_samples = engine.inputs.n_samples
    started = time.perf_counter()

    def objective(x: NDArray) -> tuple[float, NDArray]:
        gradient = np.empty_like(parameters.flat)  # scipy keeps it
        value = engine.loss_and_gradient(x.astype(dtype, copy=False), gradient)
        return value, gradient.astype(np.float64, copy=False)

    def iteration_ended(intermediate_result: OptimizeResult) -> None:
        nonlocal started
        x, loss = intermediate_result.x, float(intermediate_result.fun)
        parameters.flat[...] = x
        entries, score = {"loss": loss}, None
        if validate is not None:
            entries["val_loss"], score = validate()
            entries["val_score"] = score
        entries["seconds"] = seconds = time.perf_counter() - started
        started += seconds
        progress.add(entries, 0, x)
        iterations = progress.n_epochs
        say(verbose, f"Iteration {iterations}, loss = {loss:.8f}")
        if on_epoch is not None and on_epoch(
            EpochReport(
                *(iterations, max_iter, loss, n_samples, seconds, entries.get("val_loss"), score)
            )
        ):
            raise StopIteration
        if before_epoch is not None:
            before_epoch()

    try:
        if before_epoch is not None:
            before_epoch()
        result = minimize(
            objective,
            parameters.flat.astype(np.float64),
            method="L-BFGS-B",
            jac=True,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": tol},
            callback=iteration_ended,
        )
        progress.settle(float(result.fun), result.x)
    except KeyboardInterrupt:
        progress.interrupted = True
        if searches.is_running() and not handles_interrupts:
            raise
        warn_as_sklearn("Training interrupted by user.")
    else:
        stopped_by_callback = result.status == 99
        if result.status != 0 and not stopped_by_callback:
            _warn_not_converged(result, min(result.nit, max_iter), max_iter)
    finally:
        finish(engine, progress)


def _warn_not_converged(result: OptimizeResult, n_iter: int, max_iter: int) -> None:
    """Issue scikit-learn's warning that L-BFGS has not converged."""
    message = (
        f"lbfgs failed to converge after {n_iter} iteration(s) (status={result.status}):\n"
        f"{result.message}\n"
    )
    if n_iter == max_iter:
        message += (
            f"\nIncrease the number of iterations to improve the convergence (max_iter={max_iter})."
        )
    message += (
        "\nYou might also want to scale the data as shown in:\n"
        "    https://scikit-learn.org/stable/modules/preprocessing.html"
    )
    warn_as_sklearn(message, ConvergenceWarning, at=r'_check_optimize_result\("lbfgs"')
