"""Use fastmlp in unmodified programs that import scikit-learn.

    python -m fastmlp.accel [--report] program [argument ...]
    python -m fastmlp.accel [--report] -m module [argument ...]

run a program (a script, or a directory or zip file with a ``__main__.py``) as Python would, after
`patch_sklearn`. It prints the same lines, except for

- the last digits of results printed to full precision, unless the backend is "numpy" in float64;
- parameters that only fastmlp has, in ``get_params()`` and in representations that show defaults;
- the name of the class's module, ``fastmlp.estimators``, which is also the one in pickles: these
  load wherever fastmlp is installed, patched or not;
- with ``solver="lbfgs", verbose=True``, a line per iteration;
- the order of the lines that a verbose search prints, because its fits run in threads (unless
  networks have no `random_state`, and thus draw from NumPy's generator one after another).

Warnings that both give come from the same module and line, `sklearn`'s, so that filters act alike.
What only fastmlp warns about (`fastmlp.exceptions.FastMLPWarning`) is ignored, so that
``python -W error`` fails on what scikit-learn itself warns of and on nothing else; a filter that
the program sets comes before that. Processes that the program starts are not patched, though
workers train the estimators they are sent.
"""

import argparse
import atexit
import builtins
import importlib.machinery
import io
import os
import pkgutil
import runpy
import sys
import threading
import types
import warnings
from contextlib import ExitStack
from types import TracebackType

import sklearn.model_selection
import sklearn.neural_network

from fastmlp import model_selection
from fastmlp.estimators import MLPClassifier, MLPRegressor
from fastmlp.estimators.base import BaseMLP
from fastmlp.exceptions import FastMLPWarning, LatePatchWarning, warn
from fastmlp.training import Fit, Observer, Outcome, observing

__all__ = ["ESTIMATORS", "SKLEARN_ESTIMATORS", "patch_sklearn", "unpatch_sklearn"]

#: The classes by name: fastmlp's, and scikit-learn's own, which are not available from
#: `sklearn.neural_network` under the patch.
ESTIMATORS: dict[str, type[BaseMLP]] = {cls.__name__: cls for cls in (MLPClassifier, MLPRegressor)}
SKLEARN_ESTIMATORS: dict[str, type] = {name: cls._sklearn_class for name, cls in ESTIMATORS.items()}

#: The searches and functions of `sklearn.model_selection`, which train these in threads.
_SEARCHES = {name: getattr(model_selection, name) for name in model_selection.__all__}
_SKLEARN_SEARCHES = {name: getattr(sklearn.model_selection, name) for name in _SEARCHES}


def patch_sklearn() -> None:
    """Replace scikit-learn's estimators by fastmlp's.

    Afterwards, ``sklearn.neural_network.MLPClassifier`` and ``MLPRegressor`` are fastmlp's in this
    process, however they are imported, and the searches and functions of `sklearn.model_selection`
    are those of `fastmlp.model_selection`. Earlier imports and existing models are not changed; nor
    are scikit-learn's private modules, from which its old pickles load. Patching twice has no
    further effect.

    Warns
    -----
    LatePatchWarning
        If modules have already imported scikit-learn's estimators; it names them.

    Examples
    --------
    >>> from fastmlp.accel import patch_sklearn, unpatch_sklearn
    >>> patch_sklearn()
    >>> from sklearn.neural_network import MLPClassifier
    >>> MLPClassifier
    <class 'fastmlp.estimators.MLPClassifier'>
    >>> unpatch_sklearn()
    """
    for name, cls in ESTIMATORS.items():
        setattr(sklearn.neural_network, name, cls)
    for name, search in _SEARCHES.items():
        setattr(sklearn.model_selection, name, search)
    late = _names_of_sklearns()
    if late:
        shown = ", ".join(late[:5]) + (", ..." if len(late) > 5 else "")
        warn(
            f"patch_sklearn() does not reach what was imported before it: {shown} "
            f"{'is' if len(late) == 1 else 'are'} still scikit-learn's. Call it before these "
            "imports, or import these names again.",
            LatePatchWarning,
        )


def _names_of_sklearns() -> list[str]:
    """Return the names of scikit-learn's classes in other modules."""
    found, seen = [], set()
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] in ("sklearn", "fastmlp") or id(module) in seen:
            continue
        seen.add(id(module))  # joblib gives __main__ a second name
        try:  # not vars, which would trigger lazy imports
            names = object.__getattribute__(module, "__dict__")
        except AttributeError:
            continue
        for name, value in list(names.items()):
            if any(value is cls for cls in SKLEARN_ESTIMATORS.values()):
                found.append(f"{module_name}.{name}")
    return found


def unpatch_sklearn() -> None:
    """Restore scikit-learn's estimators; models created under the patch remain fastmlp's."""
    for name, cls in SKLEARN_ESTIMATORS.items():
        setattr(sklearn.neural_network, name, cls)
    for name, search in _SKLEARN_SEARCHES.items():
        setattr(sklearn.model_selection, name, search)


class _Report(Observer):
    """The fits of this process, by kind, with their number and time."""

    _HEADER = ("fits", "estimator", "method", "backend", "dtype", "samples x features", "seconds")
    _MAX_LINES = 20

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fits: dict[tuple[str, ...], tuple[int, float]] = {}

    def start(self) -> None:
        """Record every fit, and print the report at exit."""
        observed = ExitStack()
        observed.enter_context(observing(self, everywhere=True))
        atexit.register(observed.close)
        atexit.register(lambda: sys.stderr.write(str(self)))

    def fit_ended(self, fit: Fit, outcome: Outcome) -> None:
        """Record a fit, unless it failed."""
        if outcome.error is not None:
            return
        size = " x ".join(map(str, fit.shape))
        kind = (type(fit.model).__name__, fit.method, fit.backend, fit.dtype, size)
        with self._lock:
            count, total = self._fits.get(kind, (0, 0.0))
            self._fits[kind] = count + 1, total + outcome.seconds

    def __str__(self) -> str:
        n_fits = sum(count for count, _ in self._fits.values())
        seconds = sum(total for _, total in self._fits.values())
        title = f"fastmlp: {n_fits or 'no'} fit{'s' * (n_fits != 1)} in this process"
        if not n_fits:
            return f"{title}\n"
        longest = sorted(self._fits.items(), key=lambda fit: -fit[1][1])
        rows = [(str(count), *kind, f"{total:.3f}") for kind, (count, total) in longest]
        rows = [self._HEADER, *rows[: self._MAX_LINES]]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        numbers = ("fits", "samples x features", "seconds")
        align = [">" if name in numbers else "<" for name in self._HEADER]
        lines = [f"{title}, {seconds:.3f} s"]
        for row in rows:
            cells = zip(row, align, widths, strict=True)
            lines.append("  " + "  ".join(f"{cell:{side}{width}}" for cell, side, width in cells))
        if len(longest) > self._MAX_LINES:
            lines.append(f"  and {len(longest) - self._MAX_LINES} other kinds, each of less time")
        return "\n".join(lines) + "\n"


def _run(program: str, *, is_module: bool) -> None:
    """Run a program as ``python`` does; unlike `runpy`'s functions, also for what it leaves behind.

    Its module stays ``__main__`` until the interpreter ends, so functions that run at exit or in
    other threads find (and pickle) what they refer to, and ``sys.argv[0]`` stays, too.
    """
    sys.modules["__main__"] = main_module = types.ModuleType("__main__")
    names = vars(main_module)
    names["__builtins__"] = builtins
    path = os.path.abspath(program)
    if is_module:
        runpy._run_module_as_main(program)  # type: ignore[attr-defined]  # what python -m calls
    elif pkgutil.get_importer(path) is not None:  # a directory or a zip file
        sys.path[: 0 if sys.flags.safe_path else 1] = [path]  # where python -m put the directory
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
    else:
        if not sys.flags.safe_path:
            sys.path[0] = os.path.dirname(os.path.realpath(path))
        loader = importlib.machinery.SourceFileLoader("__main__", path)
        names |= {"__file__": path, "__cached__": None, "__loader__": loader}
        with io.open_code(path) as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        exec(code, names)


def _show_exception(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Show an uncaught exception without the frames that lead to the program."""
    ours = (__file__, runpy.run_module.__code__.co_filename)
    while traceback is not None and traceback.tb_frame.f_code.co_filename in ours:
        traceback = traceback.tb_next
    sys.__excepthook__(kind, error.with_traceback(traceback), traceback)


def main() -> None:
    """Run the command line."""
    command = "python -m fastmlp.accel"
    parser = argparse.ArgumentParser(
        prog=command,
        usage=f"{command} [--report] (program | -m module) [argument ...]",
        description="Run a program with fastmlp instead of scikit-learn's "
        "MLPClassifier and MLPRegressor.",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="print all fits with backend and time at exit, to standard error",
    )
    parser.add_argument("-m", dest="is_module", action="store_true", help="run a module by name")
    parser.add_argument(
        "program",
        help="a script, a directory or zip file with a __main__.py, or the module with -m; "
        "all arguments after it are passed to it",
    )
    # Not argparse.REMAINDER, which drops a leading "--". None of these options has a value.
    given = sys.argv[1:]
    n_ours = 1 + next((i for i, text in enumerate(given) if text[:1] != "-"), len(given))
    options = parser.parse_args(given[:n_ours])
    if not options.is_module and not os.path.exists(options.program):
        parser.exit(2, f"{command}: there is no script {options.program!r}.\n")

    patch_sklearn()
    warnings.filterwarnings("ignore", category=FastMLPWarning)
    model_selection.threads.says_more = False
    if options.report:
        _Report().start()
    sys.excepthook = _show_exception
    sys.argv[:] = [options.program, *given[n_ours:]]
    _run(options.program, is_module=options.is_module)


if __name__ == "__main__":
    # The module under its own name, so that a program that imports it gets this one.
    from fastmlp import accel

    accel.main()
