"""Files and directories that appear whole or not at all, also when the process is killed."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile

import numpy as np
import pytest

from fastmlp.utils import files
from fastmlp.utils.files import (
    atomic_directory,
    atomic_files,
    atomic_write,
    is_temporary,
    locked,
    workspace,
    write_npz,
)
from fastmlp.utils.interrupts import uninterrupted

posix = pytest.mark.skipif(os.name != "posix", reason="signals and locks of POSIX")


def tree(directory):
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*")
        if path.is_file()
    }


def fill(directory, **files):
    for name, text in files.items():
        (directory / name).mkdir(parents=True)
        (directory / name / "file").write_text(text)


def write(paths, text):
    with atomic_files(paths) as streams:
        for stream in streams:
            stream.write(text)


def run(code, *args, **options):
    """Run code in a process of its own, where everything of fastmlp.utils.files is at hand."""
    prelude = (
        "import os, signal, sys; from pathlib import Path; from fastmlp.utils import files;"
        "from fastmlp.utils.files import *\n"
        "def die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", prelude + code, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def assert_killed(result):
    assert result.returncode == -signal.SIGKILL, result.stderr


# ----------------------------------------------------------------------------------- several files


@pytest.mark.parametrize("before", [None, b"old"])
def test_several_files_appear_together(tmp_path, before):
    paths = [tmp_path / name for name in "abc"]
    for path in paths[:2] if before else []:
        path.write_bytes(before)
    with atomic_files(paths) as streams:
        for stream in streams:
            stream.write(b"new")
            stream.flush()
        assert {name for name in os.listdir(tmp_path) if not is_temporary(name)} == (
            {"a", "b"} if before else set()
        )
    assert [path.read_bytes() for path in paths] == [b"new"] * 3
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
def test_a_failure_while_several_are_written(tmp_path, error):
    paths = [tmp_path / name for name in "ab"]
    paths[0].write_bytes(b"old")
    with pytest.raises(error), atomic_files(paths) as streams:
        streams[0].write(b"new")
        raise error
    assert tree(tmp_path) == {"a": "old"} and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("failing", range(3))
@pytest.mark.parametrize("error", [KeyboardInterrupt, PermissionError])
def test_a_file_that_cannot_take_its_name_gives_all_back(tmp_path, monkeypatch, failing, error):
    paths = [tmp_path / name for name in "abc"]
    for path in paths[:2]:
        path.write_bytes(b"old")
    replace, calls = os.replace, []

    def fail_once(source, target):
        calls.append(target)
        if len(calls) == failing + 1:
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(error):
        write(paths, b"new")
    assert len(calls) == 1 + failing + len({0, 1} & set(range(failing)))
    assert tree(tmp_path) == {"a": "old", "b": "old"}
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_what_cannot_be_given_back_is_kept(tmp_path, monkeypatch):
    """The disk fails for good after the first of two renames: no version of a file is lost."""
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(b"old")
    replace, calls = os.replace, []

    def fail_from_now_on(source, target):
        calls.append(target)
        if len(calls) > 1:
            raise OSError("the disk is gone")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_from_now_on)
    with pytest.raises(OSError, match="gone"):
        write(paths, b"new")
    monkeypatch.undo()
    assert paths[0].read_bytes() == b"new" and paths[1].read_bytes() == b"old"
    kept = [path.read_bytes() for path in tmp_path.glob(".fastmlp-*/old")]
    assert b"old" in kept
    write(paths, b"newer")  # which makes it superfluous
    assert os.listdir(tmp_path) in (["a", "b"], ["b", "a"])


def test_without_hard_links_old_files_are_copied(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError("not on this file system")

    monkeypatch.setattr(os, "link", no_links)
    test_a_file_that_cannot_take_its_name_gives_all_back(tmp_path, monkeypatch, 1, PermissionError)


def test_a_directory_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "c").mkdir()
    paths = [tmp_path / name for name in "abc"]
    with pytest.raises(IsADirectoryError) as caught, atomic_files(paths):
        raise AssertionError("it must not come to writing")
    assert caught.value.filename == str(tmp_path / "c")
    assert caught.value.strerror == "is a directory, where a file is to be written"
    assert tree(tmp_path) == {"a": "old"} and sorted(os.listdir(tmp_path)) == ["a", "c"]


@posix
def test_links_modes_and_devices(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    with atomic_files([tmp_path / "link", os.devnull]) as streams:
        for stream in streams:
            stream.write(b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


@posix
@pytest.mark.parametrize("limit", [70_000, 99_950, 100_000])
def test_a_full_disk(tmp_path, limit):
    """The first of two files gets no room, with its last buffer or before; or both have it."""
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(b"old")
    result = run(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "with atomic_files(sys.argv[1:3]) as (first, second):\n"
        "    second.write(b'new')\n"
        "    for _ in range(1000): first.write(bytes(100))\n",
        *(*paths, limit),
    )
    if limit == 100_000:
        assert result.returncode == 0, result.stderr
        assert paths[0].stat().st_size == 100_000 and paths[1].read_bytes() == b"new"
    else:
        assert "File too large" in result.stderr
        assert tree(tmp_path) == {"a": "old", "b": "old"}
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


# ------------------------------------------------------------------------------ what is left behind

POINTS = {
    "while writing": "streams[0].write(b'half'); die()",
    "when all is written": "files._Part.finish = die",
    "before the first rename": "os.replace = die",
}


@pytest.mark.slow
@posix
@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_is_killed_leaves_old_files_and_something_to_be_cleared(tmp_path, point):
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(b"old")
    code = "with atomic_files(sys.argv[1:]) as streams:\n"
    code += f"    for stream in streams: stream.write(b'new')\n    {POINTS[point]}"
    for _ in range(2):
        assert_killed(run(code, *paths))
        assert [path.read_bytes() for path in paths] == [b"old"] * 2
        left = [name for name in os.listdir(tmp_path) if is_temporary(name)]
        # Of the second process only, unless the first was about to replace files.
        assert len(left) == 4 or list(tmp_path.glob(".fastmlp-*/old"))
        assert len(list(tmp_path.glob(".fastmlp-*/new"))) == 2
    with atomic_write(tmp_path / "c") as file:
        file.write(b"other")
    assert all((tmp_path / name).exists() for name in left)  # that was another name
    with atomic_write(paths[0]) as file:
        file.write(b"new")
    assert len([name for name in os.listdir(tmp_path) if is_temporary(name)]) == len(left) / 2
    write(paths, b"new")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


@posix
def test_a_process_that_is_killed_between_two_renames(tmp_path):
    """Some files are new, and no old one is lost before there is a new one."""
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.write_bytes(b"old")
    code = (
        "replace = os.replace\n"
        "def once(*args): replace(*args); die()\n"
        "os.replace = once\n"
        "with atomic_files(sys.argv[1:]) as streams:\n"
        "    for stream in streams: stream.write(b'new')"
    )
    assert_killed(run(code, *paths))
    assert [path.read_bytes() for path in paths] == [b"new", b"old"]
    with pytest.raises(KeyboardInterrupt), atomic_files(paths):
        raise KeyboardInterrupt
    assert b"old" in [path.read_bytes() for path in tmp_path.glob(".fastmlp-*/old")]
    write(paths, b"new")
    assert [path.read_bytes() for path in paths] == [b"new", b"new"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@posix
def test_what_a_live_process_writes_is_left_alone(tmp_path):
    """Two write to one name at once: the last wins, and neither disturbs the other."""
    path = tmp_path / "a"
    code = (
        "from fastmlp.utils.files import atomic_write; import sys\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        "    file.write(b'theirs')\n"
        "    print('writing', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"writing\n"
        with atomic_write(path) as file:  # in this process, too
            with atomic_write(path) as inner:
                inner.write(b"inner")
            assert path.read_bytes() == b"inner"
            file.write(b"ours")
        assert path.read_bytes() == b"ours"
        assert len([name for name in os.listdir(tmp_path) if is_temporary(name)]) == 2
        other.communicate(b"\n", timeout=60)
    assert other.returncode == 0
    assert path.read_bytes() == b"theirs" and os.listdir(tmp_path) == ["a"]


def test_many_threads_write_to_one_name(tmp_path):
    errors = []

    def write_often(text):
        try:
            for _ in range(20):
                with atomic_write(tmp_path / "a") as file:
                    file.write(text)
        except BaseException as error:
            errors.append(error)

    texts = [b"1" * 10_000, b"2" * 20_000, b"3" * 30_000]
    threads = [threading.Thread(target=write_often, args=[text]) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert (tmp_path / "a").read_bytes() in texts and os.listdir(tmp_path) == ["a"]


@posix
def test_where_files_cannot_be_locked_nothing_is_cleared(tmp_path, monkeypatch):
    assert_killed(run("with atomic_write(sys.argv[1]): die()", tmp_path / "a"))
    left = os.listdir(tmp_path)
    assert len(left) == 2

    def no_locks(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    with atomic_write(tmp_path / "a"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([*left, "a"])
    monkeypatch.setattr(files, "fcntl", None)  # Windows
    with atomic_write(tmp_path / "a"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([*left, "a"])


def test_a_workspace_and_its_name(tmp_path):
    with workspace(tmp_path, "name") as folder:
        assert folder.is_dir() and folder.parent == tmp_path
        assert all(map(is_temporary, os.listdir(tmp_path)))
        (folder / "file").write_text("text")
    assert not os.listdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught, workspace(tmp_path / "none"):
        pass
    assert caught.value.filename == str(tmp_path / "none")
    assert not is_temporary(".fastmlp-x.part") and not is_temporary("a")


# ------------------------------------------------------------------------------------- directories


@pytest.mark.parametrize("before", [None, {}, {"a": "old", "b": "old"}])
def test_a_directory_gets_new_contents(tmp_path, before):
    target = tmp_path / "parent" / "target"
    if before is not None:
        target.mkdir(parents=True)
        fill(target, **before)
        inode = target.stat().st_ino
    with atomic_directory(target) as staging:
        fill(staging, a="new", c="new")
        assert "a/file" not in tree(target) or tree(target)["a/file"] == "old"
    assert tree(target) == {"a/file": "new", "c/file": "new"}
    assert sorted(os.listdir(target)) == ["a", "c"]
    assert before is None or target.stat().st_ino == inode  # a working directory stays valid


@pytest.mark.parametrize("before", [None, {}, {"a": "old", "b": "old"}])
def test_a_failure_changes_nothing(tmp_path, before):
    target = tmp_path / "target"
    if before is not None:
        target.mkdir()
        fill(target, **before)
    expected = tree(target)
    with pytest.raises(KeyboardInterrupt), atomic_directory(target) as staging:
        fill(staging, a="new")
        raise KeyboardInterrupt
    assert tree(target) == expected and target.exists() == (before is not None)


@pytest.mark.parametrize("failing", range(4))
def test_a_failure_between_the_last_steps_is_undone(tmp_path, monkeypatch, failing):
    fill(tmp_path, a="old", b="old")
    rename = type(tmp_path).rename
    calls = []

    def fail_once(self, target):
        calls.append(target)
        if len(calls) == failing + 1:
            raise OSError("the disk is gone")
        return rename(self, target)

    with pytest.raises(OSError, match="gone"), atomic_directory(tmp_path) as staging:
        fill(staging, a="new", c="new")
        monkeypatch.setattr(type(tmp_path), "rename", fail_once)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert tree(tmp_path) == {"a/file": "old", "b/file": "old"}


@posix
@pytest.mark.parametrize("n_renames", range(6))
def test_a_process_that_is_killed_while_it_fills_a_directory(tmp_path, n_renames):
    """Killed after so many of the five renames: what was there is there until all is new."""
    fill(tmp_path, a="old", b="old")
    code = (
        "rename, left = Path.rename, [int(sys.argv[2])]\n"
        "def count(*args):\n"
        "    if not left[0]: die()\n"
        "    left[0] -= 1\n"
        "    return rename(*args)\n"
        "with atomic_directory(sys.argv[1]) as staging:\n"
        "    for name in 'ac':\n"
        "        (staging / name).mkdir(); (staging / name / 'file').write_text('new')\n"
        "    Path.rename = count\n"
    )
    result = run(code, tmp_path, n_renames)
    if n_renames == 5:
        assert result.returncode == 0 and not list(tmp_path.glob(".*"))
        return
    assert_killed(result)
    kept = list(tmp_path.glob(".fastmlp-*/old/*/file")) + [tmp_path / n / "file" for n in "ab"]
    assert [path.read_text() for path in kept if path.exists()].count("old") == 2
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path):
        raise KeyboardInterrupt
    assert [path.read_text() for path in kept if path.exists()].count("old") == 2
    with atomic_directory(tmp_path) as staging:
        fill(staging, d="newer")
    assert tree(tmp_path) == {"d/file": "newer"} and os.listdir(tmp_path) == ["d"]


# ------------------------------------------------------------------------------------------- Ctrl-C


@posix
@pytest.mark.parametrize("error", [None, OSError])
def test_ctrl_c_waits_for_the_end(error):
    done, stopped = [], []
    with pytest.raises(KeyboardInterrupt) as caught, uninterrupted(lambda: stopped.append(True)):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
        done.append(True)
        if error:
            raise error
    assert done and stopped
    assert type(caught.value.__context__) is (error or type(None))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@posix
def test_a_users_way_with_signals_is_left_alone():
    received = []
    before = signal.signal(signal.SIGINT, lambda *_: received.append(True))
    try:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            assert received
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_not_interrupted_anyway():
    results = []

    def work():
        with uninterrupted():
            results.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [signal.default_int_handler]


@posix
@pytest.mark.slow
@pytest.mark.parametrize("target", ["_ZipWriteFile.__init__", "ZipFile._write_end_record"])
@pytest.mark.parametrize("compress", [False, True])
def test_ctrl_c_in_an_archive_is_nothing_but_that(tmp_path, target, compress):
    """Between two steps of zipfile, where an error of its own would be seen on top."""
    (tmp_path / "a").write_text("old")
    cls, method = target.split(".")
    code = (
        "import numpy as np, zipfile\n"
        f"step = zipfile.{target}\n"
        "def interrupted(*args): os.kill(os.getpid(), signal.SIGINT); return step(*args)\n"
        f"zipfile.{cls}.{method} = interrupted\n"
        "with atomic_write(sys.argv[1]) as file:\n"
        f"    write_npz(file, {{'x': np.zeros(10**6)}}, compress={compress})\n"
    )
    result = run(code, tmp_path / "a")
    assert result.stderr.rstrip().endswith("KeyboardInterrupt"), result.stderr
    assert "ZIP" not in result.stderr and "ignored" not in result.stderr
    assert result.stderr.count("Traceback") == 1
    assert tree(tmp_path) == {"a": "old"} and os.listdir(tmp_path) == ["a"]


def test_an_archive_is_numpys(tmp_path):
    arrays = {"x": np.arange(3), "y": np.array(["a", "b"])}
    for compress, kind in ((False, zipfile.ZIP_STORED), (True, zipfile.ZIP_DEFLATED)):
        file = io.BytesIO()
        write_npz(file, arrays, compress=compress)
        with zipfile.ZipFile(file) as archive:
            assert {member.compress_type for member in archive.infolist()} == {kind}
        file.seek(0)
        with np.load(file) as loaded:
            np.testing.assert_equal(dict(loaded), arrays)


def test_a_lock_removes_what_killed_writers_have_left(tmp_path):
    target = tmp_path / "run.ckpt"
    script = f"""
        import os, signal
        from fastmlp.utils.files import atomic_write
        with atomic_write({str(target)!r}) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    for content in (None, b"whole"):
        if content is not None:
            target.write_bytes(content)
        subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
        assert len(list(tmp_path.iterdir())) == 2 + (content is not None)
        with locked(target):
            pass
        assert list(tmp_path.iterdir()) == ([] if content is None else [target])
        assert content is None or target.read_bytes() == content
