"""The checks of a release's files, on tiny files that are spoiled in one way each."""

import base64
import hashlib
import importlib.util
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "packaging" / "release.py"
if not SCRIPT.exists():
    pytest.skip("packaging/release.py is only in a checkout", allow_module_level=True)
spec = importlib.util.spec_from_file_location("release", SCRIPT)
release = importlib.util.module_from_spec(spec)
spec.loader.exec_module(release)

VERSION = "1.2.3"
INFO = f"fastmlp-{VERSION}.dist-info"
ENGINE = f"{release.ENGINE}.cp311-win_amd64.pyd"
SCALING = "fastmlp/idx/_scaling.cp311-win_amd64.pyd"
CHECKED_VERSION = release.read_version()


def wheel_files(version=VERSION):
    names = [*release.IN_WHEEL, "fastmlp/__init__.py", ENGINE, SCALING]
    files = {name: name.encode() for name in names}
    about = f"Metadata-Version: 2.1\nName: fastmlp\nVersion: {version}\n"
    files[f"fastmlp-{version}.dist-info/METADATA"] = about.encode()
    files[f"fastmlp-{version}.dist-info/WHEEL"] = b"Wheel-Version: 1.0\n"
    return files


def write_wheel(
    folder, files, version=VERSION, tag="cp311-cp311-win_amd64", spoil=lambda text: text
):
    """Write a wheel; `spoil` changes the text of its RECORD."""
    record = f"fastmlp-{version}.dist-info/RECORD"
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    path = folder / f"fastmlp-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr(record, spoil("".join(lines) + f"{record},,\n"))
    return path


def write_sdist(folder, names, top=f"fastmlp-{VERSION}"):
    path = folder / f"fastmlp-{VERSION}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"{top}/{name}"), io.BytesIO())
    return path


def write_root(folder, version=VERSION, cited=VERSION, heading=f"{VERSION} (2026-12-01)"):
    (folder / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    (folder / "CITATION.cff").write_text(f"cff-version: 1.2.0\nversion: {cited}\n")
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## {heading}\n\n## 1.2.2 (2026-11-01)\n")
    return folder


class TestVersion:
    def test_agreement(self, tmp_path):
        root = write_root(tmp_path)
        assert release.read_version(root) == VERSION
        assert release.version_problems(VERSION, "v1.2.3", root) == []
        assert release.version_problems(VERSION, None, root) == []

    @pytest.mark.parametrize(
        ("change", "tag", "words"),
        [
            ({"cited": "1.2.2"}, None, ["CITATION.cff", "1.2.3", "got 1.2.2"]),
            ({"heading": "1.2.3 (unreleased)"}, None, ["CHANGELOG.md", "'## 1.2.3 (unreleased)'"]),
            ({"heading": "1.2.4 (2026-12-01)"}, None, ["CHANGELOG.md", "'## 1.2.4 (2026-12-01)'"]),
            ({}, "v1.2.4", ["tag", "v1.2.3", "got v1.2.4"]),
            ({}, "1.2.3", ["tag", "got 1.2.3"]),
        ],
    )
    def test_disagreement(self, tmp_path, change, tag, words):
        (problem,) = release.version_problems(VERSION, tag, write_root(tmp_path, **change))
        assert all(word in problem for word in words)

    def test_files_without_a_version(self, tmp_path):
        write_root(tmp_path)
        (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\n")
        (tmp_path / "CHANGELOG.md").write_text("# Changelog\n")
        problems = release.version_problems(VERSION, None, tmp_path)
        assert [problem.split()[0] for problem in problems] == ["CITATION.cff", "CHANGELOG.md"]
        assert all("got none" in problem or "'none'" in problem for problem in problems)


class TestWheel:
    def test_good(self, tmp_path):
        assert release.wheel_problems(write_wheel(tmp_path, wheel_files()), VERSION) == []

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (
                {ENGINE: None},
                f"must hold the compiled {release.ENGINE}.*: build",
            ),
            (
                {"fastmlp/idx/_scaling.cp311-win_amd64.pyd": None},
                "must hold the compiled fastmlp/idx/_scaling.*",
            ),
            ({"fastmlp/py.typed": None}, "must hold fastmlp/py.typed"),
            ({"fastmlp/export/model.h.in": None}, "must hold fastmlp/export/model.h.in"),
            ({f"{release.ENGINE}.pyx": b""}, f"must not hold {release.ENGINE}.pyx"),
            ({"fastmlp/idx/_scaling.c": b""}, "must not hold fastmlp/idx/_scaling.c"),
            ({"tests/conftest.py": b""}, "must not hold tests/conftest.py"),
            ({f"{INFO}/METADATA": None}, f"must hold {INFO}/METADATA"),
            ({f"{INFO}/METADATA": b"Version: 1.2\n"}, "must say Version: 1.2.3, got 1.2"),
        ],
    )
    def test_wrong_files(self, tmp_path, change, problem):
        files = {name: text for name, text in (wheel_files() | change).items() if text is not None}
        path = write_wheel(tmp_path, files)
        (found,) = release.wheel_problems(path, VERSION)
        assert found.startswith(f"{path.name} {problem}")

    def test_other_version(self, tmp_path):
        path = write_wheel(tmp_path, wheel_files("1.2.4"), "1.2.4")
        (problem,) = release.wheel_problems(path, VERSION)
        assert "must be of fastmlp 1.2.3" in problem

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("sha256=", "sha256=0", "has another digest of fastmlp/py.typed in its RECORD"),
            (
                "fastmlp/py.typed",
                "fastmlp/py.typo",
                "has no fastmlp/py.typo, which its",
            ),
            ("fastmlp/py.typed", "fastmlp/py.typo", "fastmlp/py.typed, which its RECORD does not"),
        ],
    )
    def test_record(self, tmp_path, old, new, problem):
        path = write_wheel(tmp_path, wheel_files(), spoil=lambda text: text.replace(old, new, 1))
        problems = release.wheel_problems(path, VERSION)
        assert any(problem in found for found in problems)
        assert len(problems) == (1 if old == "sha256=" else 2)

    def test_changed_after_it_was_built(self, tmp_path):
        path = write_wheel(tmp_path, wheel_files())
        with zipfile.ZipFile(path, "a") as wheel:
            wheel.writestr("fastmlp/extra.py", "")
        (problem,) = release.wheel_problems(path, VERSION)
        assert "holds fastmlp/extra.py, which its RECORD does not list" in problem


class TestSdist:
    def test_good(self, tmp_path):
        assert release.sdist_problems(write_sdist(tmp_path, release.IN_SDIST), VERSION) == []

    @pytest.mark.parametrize("missing", ["setup.py", "tests/conftest.py", f"{release.ENGINE}.pyx"])
    def test_missing(self, tmp_path, missing):
        path = write_sdist(tmp_path, [name for name in release.IN_SDIST if name != missing])
        assert release.sdist_problems(path, VERSION) == [f"{path.name} must hold {missing}."]

    @pytest.mark.parametrize("left", [ENGINE, f"{release.ENGINE}.c", "tests/a.pyc"])
    def test_left_by_builds(self, tmp_path, left):
        path = write_sdist(tmp_path, [*release.IN_SDIST, left])
        assert release.sdist_problems(path, VERSION) == [f"{path.name} must not hold {left}."]

    def test_other_folder(self, tmp_path):
        path = write_sdist(tmp_path, release.IN_SDIST, top="fastmlp")
        (problem,) = release.sdist_problems(path, VERSION)
        assert "one folder, fastmlp-1.2.3" in problem


class TestPlatforms:
    NAMES = [
        f"fastmlp-1.2.3-cp3{minor}-cp3{minor}-{platform}.whl"
        for minor in (11, 12, 13, 14)
        for platform in (
            "manylinux2014_x86_64.manylinux_2_17_x86_64",
            "manylinux_2_28_aarch64",
            "macosx_11_0_arm64",
            "macosx_11_0_x86_64",
            "win_amd64",
        )
    ] + ["fastmlp-1.2.3.tar.gz"]

    def test_all(self):
        assert release.platform_problems([Path(name) for name in self.NAMES]) == []

    @pytest.mark.parametrize(
        ("index", "pattern"),
        [
            (0, "*-cp311-cp311-manylinux*_x86_64.whl"),
            (9, "*-cp312-cp312-win_amd64.whl"),
            (17, "*-cp314-cp314-macosx_*_arm64.whl"),
            (20, "*.tar.gz"),
        ],
    )
    def test_one_is_missing(self, index, pattern):
        names = self.NAMES[:index] + self.NAMES[index + 1 :]
        assert release.platform_problems([Path(name) for name in names]) == [
            f"A release must have a file {pattern}."
        ]

    def test_what_an_index_refuses(self):
        name = "fastmlp-1.2.3-cp311-cp311-linux_x86_64.whl"
        (problem,) = release.platform_problems([Path(n) for n in [*self.NAMES, name]])
        assert problem.startswith(name)


def run(*arguments):
    """Run the script on files of this checkout's version."""
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


class TestCommand:
    def test_problems_are_printed(self, tmp_path):
        files = wheel_files(CHECKED_VERSION)
        del files[ENGINE]
        wheel = write_wheel(tmp_path, files, CHECKED_VERSION)
        (tmp_path / "notes.txt").write_text("")
        sums = tmp_path / "SHA256SUMS"
        done = run(wheel, tmp_path / "notes.txt", "--tag", "v0", "--sums", sums)
        assert done.returncode == 1
        assert f"must be v{CHECKED_VERSION}, got v0" in done.stderr
        assert "must hold the compiled" in done.stderr
        assert "must have a file *-cp311-cp311-manylinux*_x86_64.whl" in done.stderr
        assert "notes.txt is neither a wheel nor a .tar.gz" in done.stderr
        assert not sums.exists()

    def test_digests(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(release, "version_problems", lambda version, tag: [])
        monkeypatch.setattr(release, "fits_this_machine", lambda path: False)
        wheel = write_wheel(tmp_path, wheel_files(CHECKED_VERSION), CHECKED_VERSION)
        sums = tmp_path / "SHA256SUMS"
        monkeypatch.setattr(sys, "argv", ["release.py", str(wheel), "--sums", str(sums)])
        release.main()
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        assert sums.read_text() == f"{digest}  {wheel.name}\n"
        out = capsys.readouterr().out
        assert "is for another machine: not installed" in out
        assert "1 files can be published" in out

    @pytest.mark.slow
    def test_which_wheels_fit(self, tmp_path):
        for tag, fits in (("py3-none-any", True), ("cp311-cp311-win_ia64", False)):
            assert release.fits_this_machine(write_wheel(tmp_path, wheel_files(), tag=tag)) == fits
