"""Who imports whom, what importing fastmlp costs, what help() shows, and docs/architecture.md."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fastmlp

PACKAGE = Path(fastmlp.__file__).parent

# A wing, a package or a module of fastmlp, -> the wings that it imports: no more, and no fewer.
# Each backend is a wing: they never import each other.
IMPORTS = {
    "fastmlp": {"estimators", "persistence", "training"},
    "__main__": {"cli"},
    "cli": {
        "fastmlp", "backends", "backends.cython_backend", "bench", "blocks", "convert", "core",
        "datasets", "displays", "estimators", "exceptions", "idx", "images", "model_selection",
        "persistence", "cards", "export", "portable", "recipes", "report", "serve", "tables",
        "training", "utils",
    },
    "dask": {"backends", "core", "estimators", "training", "utils"},
    "optuna": {"training"},
    "mlflow": {"cards", "persistence", "training"},
    "serve": {"backends", "estimators", "images", "page", "portable", "tables", "utils"},
    "export": {"cards", "core", "estimators", "page", "portable", "tables", "utils"},
    "page": {"portable"},
    "portable": {"cards", "core", "estimators", "utils"},
    "cards": {"training"},
    "accel": {"estimators", "exceptions", "model_selection", "training"},
    "model_selection": {"estimators", "exceptions", "training", "utils"},
    "bench": {"accel", "backends", "core", "datasets", "idx", "training", "utils"},
    "report": {"displays", "utils"},
    "displays": {"utils"},  # they take scikit-learn's models, too
    "recipes": {"augment", "utils"},
    "persistence": {"augment", "core", "estimators", "exceptions", "training", "utils"},
    "tables": {"estimators", "exceptions", "utils"},
    "estimators": {"augment", "backends", "blocks", "core", "exceptions", "training", "utils"},
    "training": {"core", "exceptions", "utils"},  # it is given an engine
    "backends": {"utils"},
    "backends.numpy_backend": {"core", "utils"},
    "backends.cython_backend": {"core", "utils"},
    "backends.numba_backend": {"core", "utils"},
    "backends.cuda_backend": {"core"},
    "convert": {"datasets", "exceptions", "idx", "images", "utils"},
    "augment": {"core", "utils"},
    "images": {"exceptions", "utils"},
    "datasets": {"idx", "utils"},
    "idx": {"utils"},
    "exceptions": {"utils"},
    "blocks": set(),
    "core": set(),
    "utils": set(),
}  # fmt: skip


def modules():
    """Return the files of every module, by its name without the package's in front."""
    found = {}
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyx")]):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__") if name != "__init__" else "fastmlp"] = path
    return found


@cache
def imported(path):
    """Names of fastmlp's modules that a file imports, anywhere in it."""
    text = path.read_text()
    if path.suffix == ".pyx":  # not all of it is Python
        text = "\n".join(re.findall(r"^from fastmlp\..*$", text, flags=re.MULTILINE))
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            package = node.module.split(".")
            if package[0] == "fastmlp":
                for alias in node.names:
                    candidate = PACKAGE.joinpath(*package[1:], alias.name)
                    is_module = candidate.is_dir() or candidate.with_suffix(".py").exists()
                    tail = [*package[1:], alias.name] if is_module else package[1:]
                    names.add(".".join(tail) or "fastmlp")
        elif isinstance(node, ast.Import):
            names |= {a.name[8:] for a in node.names if a.name.startswith("fastmlp.")}
    return names


def wing(module):
    """Return the wing of a module."""
    parts = module.split(".")
    is_backend = parts[0] == "backends" and len(parts) > 1
    return ".".join(parts[: 1 + is_backend])


def test_imports_go_one_way():
    """What is allowed is also used, so that the table stays true."""
    found = {}
    for name, path in modules().items():
        found.setdefault(wing(name), set()).update(map(wing, imported(path)))
    assert {name: others - {name} for name, others in found.items()} == IMPORTS


def test_no_circles():
    """Neither among wings nor among modules; imports inside functions count."""
    TopologicalSorter(IMPORTS).prepare()
    graph = {name: imported(path) - {name} for name, path in modules().items()}
    TopologicalSorter(graph).prepare()


def test_a_circle_is_found(tmp_path):
    (tmp_path / "a.py").write_text("def f():\n    from fastmlp.training import loop\n")
    with pytest.raises(CycleError):
        TopologicalSorter({"training.loop": {"a"}, "a": imported(tmp_path / "a.py")}).prepare()


class TestDocument:
    """What docs/architecture.md says of files and imports is true."""

    ROOT = PACKAGE.parent
    FOLDERS = ("fastmlp", "tests", "benchmarks", "docs", "examples")
    ENDINGS = ("py", "pyx", "c", "h", "md", "sh", "css", "html", "js", "toml")

    @pytest.fixture
    def document(self):
        if not (self.ROOT / "pyproject.toml").exists():
            pytest.skip("this is not a clone")
        return (self.ROOT / "docs/architecture.md").read_text()

    @classmethod
    def missing(cls, text):
        """Return the paths in a text that do not exist.

        A name without a folder is looked for in the root, and in the folders that its paragraph,
        its item of a list or its row of a table names.
        """
        found = []
        for block in re.split(r"\n\n|\n(?=\||- |\d\. )", text):
            paths = re.findall(rf"(?<![\w/])(?:{'|'.join(cls.FOLDERS)})/[\w./-]*", block)
            paths = [path.rstrip(".") for path in paths]
            found += [path for path in paths if not (cls.ROOT / path).exists()]
            folders = ["", *(path for path in paths if path.endswith("/"))]
            for name in re.findall(rf"`(\w[\w.-]*\.(?:{'|'.join(cls.ENDINGS)}))`", block):
                if not any((cls.ROOT / folder / name).is_file() for folder in folders):
                    found.append(name)
        return found

    def test_every_path_exists(self, document):
        assert self.missing(document) == []

    @pytest.mark.parametrize(
        "text",
        ["`fastmlp/base.py`", "`fastmlp/core/`: `base.py`", "`fastmlp/core/`\n\n`network.py`",
         "    tests/test_saved.py | 2 +-"],
    )  # fmt: skip
    def test_a_path_that_does_not_exist_is_found(self, text):
        assert len(self.missing(text)) == 1

    @pytest.mark.parametrize("name", IMPORTS)
    def test_every_wing_is_there(self, document, name):
        path = "fastmlp/" + {"fastmlp": "__init__"}.get(name, name.replace(".", "/"))
        assert f"`{path}/`" in document or f"`{path}.py`" in document

    def test_floors(self, document):
        """A wing stands one floor above the highest that it imports."""
        lines = re.findall(r"^    (\d)  (.+)$", document, flags=re.MULTILINE)
        floors = {name: int(floor) for floor, names in lines for name in names.split(", ")}
        assert floors.keys() == IMPORTS.keys()
        for name, others in IMPORTS.items():
            assert floors[name] == max((floors[other] + 1 for other in others), default=0), name

    def test_the_files_of_the_compiled_engine(self, document):
        names = re.findall(r"^ {4,6}(\w+\.(?:pyx|c|h)) ", document, flags=re.MULTILINE)
        files = (PACKAGE / "backends/cython_backend").iterdir()
        assert sorted(names) == sorted(
            file.name
            for file in files
            if file.suffix in (".pyx", ".c", ".h") and file.name != "_engine.c"  # that is made
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "statements",
    [
        {
            "import fastmlp": {"numba", "matplotlib", "typer", "rich", "sklearn", "pooch"},
            "import fastmlp.idx": {"numba", "matplotlib", "typer", "rich", "sklearn", "pooch"},
            "import fastmlp.export": {"numba", "matplotlib", "typer", "rich", "sklearn", "onnx"},
            "import fastmlp.augment": {"numba", "matplotlib", "typer", "rich", "sklearn", "pooch"},
            # scikit-learn 1.9 itself loads rich
            "from fastmlp import MLPClassifier": {"numba", "matplotlib", "typer", "pooch"},
            "import fastmlp.displays": {"numba", "matplotlib", "typer", "pooch"},
            "import fastmlp.report": {"numba", "matplotlib", "typer", "pooch"},
        },
        {"import fastmlp.cli": {"numba", "matplotlib", "sklearn", "pooch"}},
    ],
)
def test_import_is_light(statements):
    """In one process, what is allowed less comes first."""
    code = "import sys\n" + "\nprint(*sys.modules)\n".join([*statements, ""])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for loaded, forbidden in zip(run.stdout.splitlines(), statements.values(), strict=True):
        assert not forbidden & set(loaded.split())


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

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("statement", "ways"),
        [("from fastmlp import MLPClassifier", ["-c"]), ("import fastmlp", ["-c", "script.py"])],
    )
    def test_import_above_a_clone(self, above_a_clone, statement, ways):
        """The clone's folder must not be taken for the package, which is one level down."""
        code = f"{statement}; import fastmlp; print(fastmlp.__file__, fastmlp.__version__)"
        for way in ways:
            (above_a_clone / "script.py").write_text(code)
            found = run(way, *([code] if way == "-c" else []), cwd=above_a_clone)
            assert found.stdout == f"{fastmlp.__file__} {fastmlp.__version__}\n", found.stderr

    @pytest.mark.slow
    def test_commands_above_a_clone(self, above_a_clone):
        (above_a_clone / "script.py").write_text("import sklearn.neural_network as n; print(n)")
        for arguments in (["-m", "fastmlp", "--version"], ["-m", "fastmlp.accel", "script.py"]):
            assert run(*arguments, cwd=above_a_clone).returncode == 0

    @pytest.mark.slow
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
