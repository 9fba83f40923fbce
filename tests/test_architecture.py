"""Who imports whom, what importing fastmlp costs, and what help() shows."""

import ast
import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastmlp

PACKAGE = Path(fastmlp.__file__).parent

# Module -> the modules of fastmlp that it may import. Backends never import each other.
ALLOWED = {
    "__init__": {"estimators", "progress_bar", "saving"},
    "__main__": {"cli"},
    "network": set(),
    "inputs": set(),
    "threads": set(),
    "constraints": set(),
    "callbacks": set(),
    "overrides": set(),
    "turns": set(),
    "notices": {"searches"},
    "searches": set(),
    "files": set(),
    "logs": set(),
    "suggestions": set(),
    "terminal": {"logs"},
    "progress_bar": {"terminal"},
    "backends": {"suggestions"},
    "backends.numpy_backend": {"inputs", "network", "random_bits", "threads"},
    "backends.cython_backend": {"backends.cython_backend._engine"},
    "backends.numba_backend": {
        "backends.numba_backend", "backends.numba_backend.kernels", "inputs", "network",
        "random_bits", "terminal", "threads",
    },
    "backends.numba_backend.kernels": {"random_bits"},
    "backends.cuda_backend": {"inputs", "network", "random_bits"},
    "random_bits": set(),
    "training": {"logs", "network", "notices", "random_bits", "searches"},
    # conversion is above base, which offers it as methods
    "base": {
        "augment", "backends", "callbacks", "constraints", "conversion", "hints", "inputs",
        "network", "notices", "overrides", "prediction", "random_bits", "searches", "threads",
        "training", "turns",
    },
    "prediction": {"backends", "constraints", "inputs", "network"},
    "hints": {"notices"},
    "estimators": {"base", "callbacks", "constraints", "hints", "inputs", "notices", "turns"},
    "displays": set(),
    "blocks": set(),
    "idx": {"backends", "files"},
    "sources": {"terminal"},
    "datasets": {"files", "idx", "sources", "suggestions"},
    "images": {"files", "notices", "threads"},
    "augment": {"augment_kernels", "images", "threads"},
    "augment_kernels": {"random_bits"},
    "formats": {"datasets", "files", "idx", "images", "notices"},
    "tables": {"tables.averages", "tables.columns", "tables.pipeline", "tables.reading"},
    "tables.averages": set(),
    "tables.reading": {"notices", "tables.text"},
    "tables.text": set(),
    "tables.columns": {"notices", "suggestions", "tables.text"},
    "tables.pipeline": {"estimators", "tables.averages", "tables.columns", "tables.text"},
    "persistence": {
        "augment", "base", "constraints", "estimators", "files", "inputs", "network", "notices",
        "prediction", "training",
    },
    "report": {
        "files", "report", "report.analysis", "report.explorer", "report.markup", "report.rows",
        "report.sections",
    },
    "report.analysis": {"displays"},
    "report.explorer": {"report.analysis", "report.markup", "report.rows"},
    "report.figures": {"report.markup"},
    "report.markup": set(),
    "report.rows": {"displays", "report.analysis", "report.figures", "report.markup"},
    "report.sections": {
        "report.analysis", "report.figures", "report.markup", "report.rows",
    },
    "saving": {"base", "files", "notices", "persistence"},
    "recipes": {"augment", "suggestions"},  # the first when one is augmented
    "accel": {"accel", "backends", "base", "notices"},
    "conversion": {"accel", "base", "estimators", "network", "training"},
    "parity": {"accel", "backends", "base", "estimators", "network", "notices"},
    "bench": {"bench.cases", "bench.chart", "bench.contest"},
    "bench.cases": {"suggestions"},
    "bench.chart": set(),
    "bench.contest": {"backends", "bench.cases", "threads"},
    "bench.devices": {"bench.cases", "bench.chart", "bench.contest"},
    "bench.worker": {
        "backends", "bench.cases", "datasets", "idx", "inputs", "network", "threads", "training",
    },
    "cli": {
        "backends", "cli.about", "cli.data", "cli.look", "cli.measure", "cli.models", "cli.output",
        "cli.train", "cli.usage",
    },
    "cli.usage": {"suggestions", "terminal"},
    "cli.options": {"backends", "cli.output", "suggestions"},
    "cli.output": {"backends", "datasets", "estimators", "logs", "terminal"},
    "cli.progress": {"cli.epoch_log", "cli.output", "terminal", "training"},
    "cli.epoch_log": {"cli.output", "cli.pictures", "training"},
    "cli.pictures": {"datasets", "displays", "files"},
    "cli.about": {
        "backends", "backends.cython_backend", "cli.options", "cli.output", "datasets", "recipes",
        "threads",
    },
    "cli.image_data": {"cli.output", "cli.progress", "datasets", "formats", "images"},
    "cli.tables": {
        "cli.output", "cli.pictures", "datasets", "files", "report.analysis", "tables",
    },
    "cli.train_table": {
        "__init__", "backends", "cli.epoch_log", "cli.output", "cli.pictures", "cli.progress",
        "cli.tables", "displays", "report", "report.analysis", "tables", "threads", "training",
    },
    "cli.train_images": {
        "backends", "cli.epoch_log", "cli.image_data", "cli.output", "cli.pictures",
        "cli.progress", "datasets", "displays", "estimators", "hints", "persistence", "recipes",
        "report", "threads",
    },
    "cli.data": {
        "cli.options", "cli.output", "cli.progress", "cli.tables", "cli.usage", "datasets",
        "formats", "idx", "images", "notices", "suggestions", "tables",
    },
    "cli.look": {
        "blocks", "cli.image_data", "cli.models", "cli.options", "cli.output", "cli.pictures",
        "cli.tables", "displays",
    },
    "cli.measure": {
        "backends", "bench", "bench.devices", "cli.options", "cli.output", "files", "parity",
        "terminal",
    },
    "cli.models": {
        "__init__", "backends", "cli.image_data", "cli.options", "cli.output", "cli.tables",
        "estimators", "formats", "report.analysis", "tables",
    },
    "cli.train": {
        "backends", "cli.epoch_log", "cli.image_data", "cli.options", "cli.pictures", "cli.tables",
        "cli.train_images", "cli.train_table", "displays", "persistence", "recipes",
    },
}  # fmt: skip


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        yield (name.removesuffix(".__init__") if name != "__init__" else name), path


def imported(path):
    """Names of fastmlp's modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            package = node.module.split(".")
            if package[0] == "fastmlp":
                for alias in node.names:
                    candidate = PACKAGE.joinpath(*package[1:], alias.name)
                    is_module = candidate.is_dir() or candidate.with_suffix(".py").exists()
                    tail = [*package[1:], alias.name] if is_module else package[1:]
                    names.add(".".join(tail) or "__init__")
        elif isinstance(node, ast.Import):
            names |= {a.name[8:] for a in node.names if a.name.startswith("fastmlp.")}
    return names


@pytest.mark.parametrize(("name", "path"), [pytest.param(n, p, id=n) for n, p in modules()])
def test_imports_go_one_way(name, path):
    assert imported(path) - {"__init__"} <= ALLOWED[name]


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import fastmlp", {"numba", "matplotlib", "typer", "rich", "sklearn", "pooch"}),
        # scikit-learn 1.9 itself loads rich
        ("from fastmlp import MLPClassifier", {"numba", "matplotlib", "typer", "pooch"}),
        ("import fastmlp.idx", {"numba", "matplotlib", "typer", "rich", "sklearn", "pooch"}),
        ("import fastmlp.cli", {"numba", "matplotlib", "sklearn", "pooch"}),
        ("import fastmlp.augment", {"numba", "matplotlib", "typer", "rich", "sklearn", "pooch"}),
        ("import fastmlp.displays", {"numba", "matplotlib", "typer", "pooch"}),
        ("import fastmlp.report", {"numba", "matplotlib", "typer", "pooch"}),
    ],
)
def test_import_is_light(statement, forbidden):
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not forbidden & set(run.stdout.split())


def run(*arguments, cwd, **environment):
    """Return what an interpreter that sees only what is installed prints."""
    inherited = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=inherited | environment,
    )


class TestInstallation:
    @pytest.fixture
    def above_a_clone(self, tmp_path):
        """A folder that has a clone in it, under the package's own name."""
        if not (PACKAGE.parent / "pyproject.toml").exists():
            pytest.skip("this is not a clone")
        (tmp_path / "fastmlp").symlink_to(PACKAGE.parent, target_is_directory=True)
        return tmp_path

    @pytest.mark.parametrize("statement", ["from fastmlp import MLPClassifier", "import fastmlp"])
    def test_import_above_a_clone(self, above_a_clone, statement):
        """The clone's folder must not be taken for the package, which is one level down."""
        code = f"{statement}; import fastmlp; print(fastmlp.__file__, fastmlp.__version__)"
        for arguments in (["-c", code], ["script.py"]):
            (above_a_clone / "script.py").write_text(code)
            found = run(*arguments, cwd=above_a_clone)
            assert found.stdout == f"{fastmlp.__file__} {fastmlp.__version__}\n", found.stderr

    def test_commands_above_a_clone(self, above_a_clone):
        (above_a_clone / "script.py").write_text("import sklearn.neural_network as n; print(n)")
        for arguments in (["-m", "fastmlp", "--version"], ["-m", "fastmlp.accel", "script.py"]):
            assert run(*arguments, cwd=above_a_clone).returncode == 0

    @pytest.mark.parametrize(
        ("arguments", "status"), [(["--help"], 0), (["recipes"], 0), (["nothing"], 2)]
    )
    def test_module_is_the_command(self, tmp_path, arguments, status):
        command = "from fastmlp.cli import main; main()"
        expected = run("-c", command, *arguments, cwd=tmp_path)
        got = run("-m", "fastmlp", *arguments, cwd=tmp_path)
        assert got.returncode == expected.returncode == status
        assert (got.stdout, got.stderr) == (expected.stdout, expected.stderr)


def test_importing_the_command_runs_nothing():
    import fastmlp.__main__  # noqa: F401


def test_there_is_one_version():
    from importlib.metadata import version

    assert fastmlp.__version__ == version("fastmlp")


def test_public_names_exist():
    for name in fastmlp.__all__:
        assert getattr(fastmlp, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'MLPClusterer'"):
        fastmlp.MLPClusterer  # noqa: B018


@pytest.mark.parametrize("module", ["fastmlp.estimators", "fastmlp.displays", "fastmlp.idx"])
def test_signatures_are_readable(module):
    """As help() shows them: type aliases by their names, not all that they stand for."""
    module = importlib.import_module(module)
    for name in module.__all__:
        public = getattr(module, name)
        if inspect.isclass(public) and issubclass(public, Exception):  # warnings, too
            continue
        methods = inspect.getmembers(public, inspect.isfunction) if inspect.isclass(public) else []
        for _, function in [(name, public), *methods]:
            assert "numpy._typing" not in str(inspect.signature(function))


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_html_links_to_the_documentation(name):
    page = f"https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.{name}.html"
    assert page in getattr(fastmlp, name)()._repr_html_()
