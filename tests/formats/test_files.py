"""Files are written as a whole or not at all, whoever else writes them, and whatever fails."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet.cli.flags import make_parser
from fastlenet.cli.parser import flag_of
from fastlenet.files import CheckpointError, expect_writable, reserve, save_somewhere, write_atomically
from fastlenet.formats.parameters import load_model, save_model


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- one file ------------------------------------------------------------------------------------------------------------


def calls_of_a_write(path: Path, monkeypatch: pytest.MonkeyPatch, fail: int | None, error: BaseException) -> list[str]:
    """Writes a file with the system call number `fail` failing; the calls that were made. Cleaning up does not fail."""
    made: list[str] = []

    def failing(name: str) -> Callable[..., Any]:
        call = getattr(os, name)

        def run(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) - 1 == fail:
                raise error
            return call(*arguments, **options)

        return run

    with monkeypatch.context() as patch:
        for name in ("open", "write", "fsync", "replace"):
            patch.setattr(os, name, failing(name))
        write_atomically(path, b"new" * 1000)
    return made


@pytest.mark.parametrize("there", [True, False], ids=["replaced", "new"])
@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "Disk quota exceeded"), KeyboardInterrupt()],
    ids=["full", "quota", "Ctrl-C"],
)
def test_whatever_call_of_a_save_fails(
    error: BaseException, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is the old one or the new one, and no other is left."""
    path = tmp_path / "file"
    calls = calls_of_a_write(path, monkeypatch, None, error)
    assert [calls.count(name) for name in ("open", "write", "fsync", "replace")] == [2, 1, 2, 1]
    for number in range(len(calls)):
        path.unlink()
        if there:
            path.write_bytes(b"old")
        with pytest.raises(CheckpointError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
            calls_of_a_write(path, monkeypatch, number, error)
        if isinstance(error, OSError):
            assert str(caught.value) == f"{path}: cannot be written ({error.strerror})"
        renamed = number > calls.index("replace")
        assert names(tmp_path) == (["file"] if there or renamed else [])
        if there or renamed:
            assert path.read_bytes() == (b"new" * 1000 if renamed else b"old")
        path.touch()


def test_a_disk_that_takes_a_little_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that is almost full: what a write did not take is written by the next."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    write_atomically(tmp_path / "file", bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


@pytest.mark.parametrize(
    ("call", "code"),
    [("fsync", errno.EINVAL), ("fsync", errno.ENOTSUP), ("open", errno.EACCES)],
    ids=["EINVAL", "ENOTSUP", "EACCES"],
)
def test_a_folder_that_cannot_be_synced(call: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CIFS and some FUSE file systems, or where a folder may not be read: the file is saved all the same."""
    real = getattr(os, call)

    def refuse(place: Any, *arguments: Any) -> Any:
        if stat.S_ISDIR(os.stat(place).st_mode) if call == "fsync" else place == tmp_path:
            raise OSError(code, os.strerror(code))
        return real(place, *arguments)

    monkeypatch.setattr(os, call, refuse)
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new" and names(tmp_path) == ["file"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    target, link, dangling = tmp_path / "there" / "file", tmp_path / "here" / "link", tmp_path / "here" / "dangling"
    target.write_bytes(b"old")
    link.symlink_to("../there/file")
    dangling.symlink_to(tmp_path / "there" / "other")
    for path in (link, dangling):
        expect_writable(path)
        write_atomically(path, b"new")
        assert path.is_symlink() and path.read_bytes() == b"new"
    assert target.read_bytes() == b"new" and names(tmp_path / "there") == ["file", "other"]
    dangling.unlink()
    dangling.symlink_to(tmp_path / "nowhere" / "file")
    with pytest.raises(CheckpointError, match=r"dangling: there is no folder .*nowhere"):
        expect_writable(dangling)
    (tmp_path / "loop").symlink_to("loop")
    for write in (expect_writable, lambda path: write_atomically(path, b"new")):
        with pytest.raises(CheckpointError, match="loop: cannot be written"):
            write(tmp_path / "loop")
    assert (tmp_path / "loop").is_symlink()


def test_a_mode_is_kept_and_respected(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for mode in (0o600, 0o664):
        path.touch()
        path.chmod(mode)
        write_atomically(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode
    path.chmod(0o444)
    for write in (expect_writable, lambda path: write_atomically(path, b"newer")):
        with pytest.raises(CheckpointError, match="file: no permission to write to it; make it writable"):
            write(path)
    assert path.read_bytes() == b"new" and names(tmp_path) == ["file"]


@pytest.mark.parametrize("letter", ["x", "é", "漢"])
def test_names_of_any_length(letter: str, tmp_path: Path) -> None:
    """Whatever name a file can have, it can be saved; a longer one is refused in a line."""
    size = len(letter.encode())
    for length in {1, 60, 64, 66, *range(243, 256)}:
        path = tmp_path / (letter * (length // size) or letter)
        with reserve(path):
            write_atomically(path, b"new")
        assert path.read_bytes() == b"new" and names(tmp_path) == [path.name]
        path.unlink()
    with pytest.raises(CheckpointError, match=r"cannot be written \(File name too long\)"):
        expect_writable(tmp_path / (letter * 256))


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    expect_writable("~/a.st")
    write_atomically("~/a.st", b"new")
    with reserve("~/b.st"), reserve("~/a.st", "~/a.st"):
        assert (tmp_path / ".b.st.lock").exists()
    save_model("~/m.st", {"bias": np.ones(2)})
    assert list(load_model("~/m.st")["bias"]) == [1, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.st", "m.st"]
    names = {"save_model": "~/m.st", "checkpoint": "~/c.st", "log_json": "~/l", "resume": "~/r.st"}
    given = make_parser("train").parse([part for name, path in names.items() for part in (flag_of(name), path)])
    assert vars(given) == {name: path.replace("~", str(tmp_path)) for name, path in names.items()}


@pytest.mark.parametrize(("name", "error"), [("a\0b", ValueError), (b"a", TypeError), (3, TypeError)])
def test_what_is_no_name_of_a_file(name: Any, error: type[Exception]) -> None:
    for use in (expect_writable, load_model, lambda name: write_atomically(name, b"")):
        with pytest.raises(error, match=r"name|path|PathLike"):
            use(name)


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, message in (("pipe", "not a file that could be replaced"), ("folder", "is a folder"), ("pipe/file", "no folder")):
        for write in (expect_writable, lambda path: write_atomically(path, b"new")):
            with pytest.raises(CheckpointError, match=message):
                write(tmp_path / name)
    assert names(tmp_path) == ["folder", "pipe"]


def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for write in (expect_writable, lambda path: write_atomically(path, b"new")):
        with pytest.raises(CheckpointError, match=r"^file: the working folder is gone; give a full path$"):
            write(Path("file"))


# --- several writers -----------------------------------------------------------------------------------------------------


def test_another_writer_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each system call of a save another one writes the same file: both succeed, and the file is one of theirs."""
    path, contents, busy = tmp_path / "file", {b"ours" * 1000, b"theirs"}, []

    def interleaved(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            if not busy:
                busy.append(True)
                expect_writable(path)
                write_atomically(path, b"theirs")
                assert path.read_bytes() == b"theirs"
                busy.pop()
            return call(*arguments, **options)

        return run

    for name in ("open", "write", "fsync", "replace", "listdir", "close"):
        monkeypatch.setattr(os, name, interleaved(getattr(os, name)))
    write_atomically(path, b"ours" * 1000)
    monkeypatch.undo()
    assert path.read_bytes() in contents and names(tmp_path) == ["file"]


def test_leftovers_of_the_dead_alone_are_removed(tmp_path: Path) -> None:
    """A temporary file is one if nobody holds its lock, whatever process has its number now. Links are not followed."""
    dead, alive, link = (tmp_path / f".file.{os.getpid()}.{digit * 8}.tmp" for digit in "123")
    others = [tmp_path / name for name in (".file.tmp", ".file.1.x.tmp", ".other.1.11111111.tmp", "file.1.11111111.tmp")]
    for path in (dead, alive, *others):
        path.write_bytes(b"precious")
    link.symlink_to(others[0])
    with alive.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        for write in (expect_writable, lambda path: write_atomically(path, b"new")):
            write(tmp_path / "file")
            assert not dead.exists() and alive.exists() and link.is_symlink()
            dead.write_bytes(b"left")
    write_atomically(tmp_path / "file", b"new")
    assert not alive.exists() and all(path.read_bytes() == b"precious" for path in others)


def test_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without them: files are saved, leftovers stay, and nothing is said."""

    def none(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    left = tmp_path / ".file.1.11111111.tmp"
    left.touch()
    with reserve(tmp_path / "file"):
        write_atomically(tmp_path / "file", b"new")
    assert names(tmp_path) == [left.name, "file"]


# --- names ---------------------------------------------------------------------------------------------------------------


def test_free_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two saves get the same, though the second begins before the first has written; nor one that is there already."""
    monkeypatch.chdir(tmp_path)
    Path("state.safetensors").mkdir()

    def save(path: Path) -> None:
        if path == Path("state-2.safetensors"):
            assert save_somewhere(save, "state.safetensors") == Path("state-3.safetensors")
        write_atomically(path, path.name.encode())

    assert save_somewhere(save, "state.safetensors") == Path("state-2.safetensors")
    for name in ("state-2.safetensors", "state-3.safetensors"):
        assert Path(name).read_text() == name


def test_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The home folder where the current one takes no file, then the temporary one; if none does, a line that names them all."""
    for name in ("home", "temporary", "gone"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert (
        save_somewhere(lambda path: write_atomically(path, b"new"), "state.safetensors")
        == tmp_path / "home" / "state.safetensors"
    )

    def full_at_home(path: Path) -> None:
        if "home" in str(path):
            raise CheckpointError(f"{path}: full")
        write_atomically(path, b"new")

    assert save_somewhere(full_at_home, "state.safetensors") == tmp_path / "temporary" / "state.safetensors"

    def full(path: Path) -> None:
        raise CheckpointError(f"{path}: full")

    with pytest.raises(CheckpointError, match=r"^state.safetensors: .*home/state-2.safetensors: full; .*temporary/.*: full$"):
        save_somewhere(full, "state.safetensors")
    assert names(tmp_path / "home") == names(tmp_path / "temporary") == ["state.safetensors"]


# --- reserved files ------------------------------------------------------------------------------------------------------


def test_reserved_by_a_run_that_lives(tmp_path: Path) -> None:
    """In this process or another one, until it ends, by SIGKILL too; and nothing is left."""
    path = tmp_path / "state"
    ours = rf"state: another run writes it, process {os.getpid()} on "
    with reserve(path), pytest.raises(CheckpointError, match=ours), reserve(path):
        pass
    assert names(tmp_path) == []
    code = """
import sys, time
from fastlenet.files import reserve
with reserve(sys.argv[1]):
    print(flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(CheckpointError, match=f"state: another run writes it, process {other.pid} on "), reserve(path):
            pass
        other.send_signal(signal.SIGKILL)
    with reserve(path):
        pass
    assert names(tmp_path) == []


def test_reserved_only_while_a_forked_child_lives_on(tmp_path: Path) -> None:
    """A child that was forked meanwhile does not keep it."""
    read, write = os.pipe()
    with reserve(tmp_path / "state"):
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    with reserve(tmp_path / "state"):
        pass
    os.close(write)
    os.waitpid(child, 0)
    os.close(read)


def test_an_existing_file_is_reserved_only_to_go_on(tmp_path: Path) -> None:
    path, link = tmp_path / "state", tmp_path / "link"
    path.touch()
    link.symlink_to(path)
    for goes_on in (path, link, os.path.relpath(path)):
        with reserve(path, goes_on):
            pass
    for other in (None, tmp_path / "other"):
        with pytest.raises(CheckpointError, match="state: exists; resume the run that wrote it"), reserve(path, other):
            pass
    assert names(tmp_path) == ["link", "state"]
