"""L-BFGS, with scipy's minimizer."""

import time
from collections.abc import Callable, Mapping
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
    n_samples: int,
    max_iter: int,
    max_fun: int,
    tol: float,
    validate: Callable[[], tuple[float, float]] | None = None,
    verbose: bool = False,
    before_epoch: Callable[[], None] | None = None,
    on_epoch: Callable[[EpochReport], bool] | None = None,
    handles_interrupts: bool = False,
    work: Mapping[str, NDArray] | None = None,
    keep: Callable[..., None] | None = None,
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
    n_samples : int
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
    work : mapping of str to array, optional
        What `keep` was last called with, where training goes on with a checkpoint.
    keep : callable, optional
        Called after every iteration with the minimizer's work arrays and, at the end, with
        ``is_final=True`` and whether the minimizer has ended by itself as `finished`.
    """
    parameters = engine.parameters
    dtype = parameters.flat.dtype
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
        start = parameters.flat.astype(np.float64)
        options: dict[str, Any] = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
        if keep is None:
            result = minimize(
                objective,
                start,
                method="L-BFGS-B",
                jac=True,
                options=options,
                callback=iteration_ended,
            )
        else:
            result = minimize_resumably(
                objective, start, iteration_ended, progress, work or {}, keep, **options
            )
        progress.settle(float(result.fun), result.x)
        if keep is not None:
            keep(result.work, finished=result.finished, is_final=True)
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


#: The parameters of scipy's `minimize` for L-BFGS-B that are not ours to set.
_PAIRS, _LINE_SEARCH_STEPS, _FTOL = 10, 20, 2.2204460492503131e-09

#: Values of the first of the minimizer's two task codes.
_NEW_ITERATION, _EVALUATE, _CONVERGED = 1, 3, 4

#: Places in the minimizer's array `isave`. The first ones are offsets in `wa`, the others counters,
#: and places and numbers of pairs and variables.
_OFFSETS, _ITERATION, _COUNTERS = 16, 29, (29, 30, 33)
_HEAD, _COLUMNS, _TAIL, _FREE = 26, 27, 28, 37


def minimize_resumably(
    objective: Callable[[NDArray], tuple[float, NDArray]],
    start: NDArray,
    callback: Callable[[OptimizeResult], None],
    progress: Progress,
    work: Mapping[str, NDArray],
    keep: Callable[..., None],
    *,
    maxfun: int,
    maxiter: int,
    gtol: float,
) -> OptimizeResult:
    """Do what scipy's `minimize` does, with work arrays that can be stored.

    All of the state of scipy's routine is in arrays that its caller owns. `minimize` makes them
    anew in each call; here they may come from a checkpoint. The iterates have the same bits.

    Parameters
    ----------
    objective : callable
        Returns the value and the gradient at a point.
    start : array of shape (n,)
    callback : callable
        Called after each iteration; may raise StopIteration.
    progress : Progress
        To which `callback` adds the iterations.
    work : mapping of str to array
        Empty at the beginning.
    keep : callable
        Called with the work arrays after each iteration, and if an error or Ctrl-C ends it.
    maxfun, maxiter, gtol
        Options of `minimize`.

    Returns
    -------
    result : OptimizeResult
        fun, x, nit, status and message as of `minimize`; `work`; `finished`, whether the routine
        has ended by itself.
    """
    setulb, messages = _routine()
    n = len(start)
    made = _work_arrays(n)
    made["x"][...] = start
    for name, array in work.items():
        made[name][...] = array
    x, g, task, isave, f = (made[name] for name in ("x", "g", "task", "isave", "f"))
    n_evaluations = made["n_evaluations"]
    unbounded = np.zeros(n), np.zeros(n), np.zeros(n, np.int32)
    stopped = False
    try:
        while True:
            if task[0] == _EVALUATE:
                f[0], g[...] = objective(x.copy())
                n_evaluations[0] += 1
            elif task[0] == _NEW_ITERATION:
                if isave[_ITERATION] > progress.n_epochs:  # else it was there when it was stored
                    try:
                        callback(OptimizeResult(x=x, fun=f[0]))
                    except StopIteration:
                        stopped = True
                    keep(made)
                if stopped or isave[_ITERATION] >= maxiter or n_evaluations[0] > maxfun:
                    break
            elif task[0] != 0:
                break
            arrays = (made[name] for name in ("wa", "iwa", "task", "lsave", "isave", "dsave"))
            factor = _FTOL / np.finfo(float).eps
            setulb(
                *(_PAIRS, x, *unbounded, f[0], g, factor, gtol, *arrays),
                *(_LINE_SEARCH_STEPS, made["ln_task"]),
            )
    except BaseException:
        keep(made)
        raise
    reached_limit = n_evaluations[0] > maxfun or isave[_ITERATION] >= maxiter
    status = 0 if task[0] == _CONVERGED else 1 if reached_limit else 2
    finished = task[0] != _NEW_ITERATION or stopped
    return OptimizeResult(
        fun=float(f[0]),
        x=x.copy(),
        nit=int(isave[_ITERATION]),
        status=99 if stopped else status,
        message=messages(task if finished else (5, 502 if n_evaluations[0] > maxfun else 504)),
        work=made,
        finished=bool(finished),
    )


def _work_arrays(n: int) -> dict[str, NDArray]:
    """Return the minimizer's state before it begins, for n variables."""
    m = _PAIRS
    return {
        "x": np.zeros(n),
        "g": np.zeros(n),
        "f": np.zeros(1),
        "wa": np.zeros(2 * m * n + 5 * n + 11 * m * m + 8 * m),
        "iwa": np.zeros(3 * n, np.int32),
        "task": np.zeros(2, np.int32),
        "lsave": np.zeros(4, np.int32),
        "isave": np.zeros(44, np.int32),
        "dsave": np.zeros(29),
        "ln_task": np.zeros(2, np.int32),
        "n_evaluations": np.zeros(1, np.int64),
    }


def check_work(work: Mapping[str, NDArray], n: int) -> None:
    """Refuse work arrays that scipy's routine, which checks nothing, could not use safely.

    Parameters
    ----------
    work : mapping of str to array
        From a file.
    n : int
        Number of variables.

    Raises
    ------
    ValueError
        The message begins with "its".
    """
    made = _work_arrays(n)
    if work.keys() != made.keys():
        raise ValueError(f"its arrays of L-BFGS must be {sorted(made)}, got {sorted(work)}")
    for name, array in made.items():
        if work[name].shape != array.shape or work[name].dtype != array.dtype:
            raise ValueError(
                f"its lbfgs_{name} must be {array.dtype} of shape {array.shape}, got "
                f"{work[name].dtype} of shape {work[name].shape}"
            )
    begun = _work_arrays(n)
    arrays = [begun[name] for name in ("wa", "iwa", "task", "lsave", "isave", "dsave")]
    bounds = np.zeros(n), np.zeros(n), np.zeros(n, np.int32)
    _routine()[0](
        *(_PAIRS, begun["x"], *bounds, 0.0, begun["g"], 1.0, 1.0, *arrays),
        *(_LINE_SEARCH_STEPS, begun["ln_task"]),
    )
    integers = work["isave"]
    largest = np.full(44, max(n, _LINE_SEARCH_STEPS))
    largest[[_HEAD, _TAIL]], largest[_COLUMNS], largest[_FREE] = _PAIRS - 1, _PAIRS, n
    largest[list(_COUNTERS)] = np.iinfo(np.int32).max
    indices = work["iwa"].reshape(3, n)
    is_valid = {
        "isave": np.array_equal(integers[:_OFFSETS], begun["isave"][:_OFFSETS])
        and (integers[_OFFSETS:] <= largest[_OFFSETS:]).all()
        and (integers[_OFFSETS:] >= -5).all()
        and (integers[[_HEAD, _COLUMNS, _TAIL, _FREE, *_COUNTERS]] >= 0).all(),
        "iwa": (indices < n).all()
        and (indices[[0, 2]] >= 0).all()
        and (indices[1] >= -1).all()
        and (indices[1] <= 3).all(),
        "lsave": ((work["lsave"] == 0) | (work["lsave"] == 1)).all(),
        "task": 0 <= work["task"][0] <= 5,
        "n_evaluations": 0 <= work["n_evaluations"][0] <= np.iinfo(np.int32).max,
    }
    for name, valid in is_valid.items():
        if not valid:
            raise ValueError(f"its lbfgs_{name} is invalid")


def _routine() -> tuple[Callable[..., None], Callable[[Any], str]]:
    """Return scipy's routine, and a function that words its task codes."""
    try:
        from scipy.optimize import _lbfgsb_py

        routine = _lbfgsb_py._lbfgsb.setulb
        status, reasons = _lbfgsb_py.status_messages, _lbfgsb_py.task_messages
    except (ImportError, AttributeError):  # scipy before 1.15, whose routine has other arguments
        raise ValueError(
            "a checkpoint with solver='lbfgs' needs scipy 1.15 or later; upgrade scipy, or fit "
            "without a checkpoint."
        ) from None
    return routine, lambda task: f"{status.get(task[0], '')}: {reasons.get(task[1], '')}"
