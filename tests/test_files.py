"""Directories that appear whole or not at all; files are tested where they are written."""

import os

import pytest

from fastmlp.files import atomic_directory


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
