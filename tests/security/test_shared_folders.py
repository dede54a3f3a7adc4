"""Files in a folder that others can write to: temporary names, planted links, modes."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastlenet import files, nn
from fastlenet.distributed import results
from fastlenet.exports import export
from fastlenet.files import CheckpointError, reserve, save_somewhere, write_atomically
from fastlenet.formats.parameters import save_model
from fastlenet.training.callbacks.json_log import JsonLog

SECRET = b"the user's own file"


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    model.set_facts(input_shape=(1, 2, 2), mean=0.5, std=0.25)
    return model.eval()


def runs(path: Path) -> None:
    with results.opened(path, {"data": "x"}):
        pass


WRITERS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: write_atomically(path, b"new"),
    "model.safetensors": lambda path: save_model(path, network().state_dict()),
    "model.onnx": lambda path: export(network(), path),
    "model.h": lambda path: export(network(), path),
    "log.jsonl": lambda path: JsonLog(path, resumed=False).close(),
    "resumed.jsonl": lambda path: JsonLog(path, resumed=True).close(),
    "runs.jsonl": runs,
}


@pytest.fixture
def shared() -> Iterator[Path]:
    """Everybody writes to it; without the sticky bit, so that no protection of the kernel's helps."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o777)
        yield Path(made)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


def lay(link: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link of another user: root hands one over; anybody else sees all links as another's."""
    link.symlink_to(target)
    if os.geteuid() == 0:
        os.lchown(link, 65534, 65534)
        return
    original = os.lstat

    def other(path: Path, **options: object) -> os.stat_result:
        status = original(path)
        return os.stat_result([*status[:4], status.st_uid + 1, *status[5:10]]) if Path(path) == link else status

    monkeypatch.setattr(os, "lstat", other)


@pytest.mark.parametrize("name", WRITERS)
def test_no_link_of_another_user_is_followed(name: str, shared: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(shared / name, mine, monkeypatch)
    with pytest.raises(CheckpointError, match="is a link of another user; remove it, or choose another name"):
        WRITERS[name](shared / name)
    assert mine.read_bytes() == SECRET and (shared / name).is_symlink()
    assert os.listdir(shared) == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_links_of_another_user_behind_an_own_one(name: str, shared: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(shared / "theirs", mine, monkeypatch)
    (shared / name).symlink_to("theirs")
    with pytest.raises(CheckpointError, match="is a link of another user"):
        WRITERS[name](shared / name)
    assert mine.read_bytes() == SECRET


@pytest.mark.parametrize("name", WRITERS)
def test_own_links_are_followed(name: str, shared: Path, tmp_path: Path) -> None:
    (shared / name).symlink_to(tmp_path / name)
    WRITERS[name](shared / name)
    assert (tmp_path / name).is_file() and (shared / name).is_symlink()


def test_a_lock_file_that_is_another_files_name_is_left_alone(shared: Path, tmp_path: Path) -> None:
    own = shared / "own"
    own.write_bytes(SECRET)
    os.link(own, shared / ".model.lock")
    with pytest.raises(CheckpointError, match=r"\.model\.lock is there, and is no lock file"), reserve(shared / "model"):
        pass
    assert own.read_bytes() == SECRET
    (shared / ".model.lock").unlink()
    (shared / ".model.lock").symlink_to(own)
    with pytest.raises(CheckpointError, match="model: cannot be written"), reserve(shared / "model"):
        pass
    assert own.read_bytes() == SECRET


def test_a_target_with_a_second_name_keeps_the_other_file(shared: Path) -> None:
    own = shared / "own"
    own.write_bytes(SECRET)
    os.link(own, shared / "model")
    write_atomically(shared / "model", b"new")
    assert own.read_bytes() == SECRET and (shared / "model").read_bytes() == b"new"


@contextlib.contextmanager
def opened() -> Iterator[list[tuple[str, int]]]:
    """The names that are opened for writing, and how."""
    seen: list[tuple[str, int]] = []
    active = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if active and event == "open" and isinstance(arguments[2], int):
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):  # type: ignore[operator]
                seen.append((os.fspath(path), flags))  # type: ignore[arg-type]

    sys.addaudithook(hook)  # cannot be removed
    yield seen
    active = False


def test_temporary_names_cannot_be_foreseen(shared: Path) -> None:
    names = set()
    with opened() as seen:
        for _ in range(50):
            write_atomically(shared / "model", b"new")
    made = [(Path(path).name, flags) for path, flags in seen if Path(path).parent == shared]
    assert len(made) == 50
    for name, flags in made:
        assert re.fullmatch(r"\.model\.\d+\.[0-9a-f]{8}\.tmp", name)
        assert flags & os.O_EXCL and flags & os.O_CREAT  # with both, Linux follows no link
        names.add(name)
    assert len(names) == 50


def test_a_taken_temporary_name_is_never_written_to(shared: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one who guesses the name gains nothing."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0" * 8)
    (shared / f".model.{os.getpid()}.00000000.tmp").symlink_to(mine)
    with pytest.raises(CheckpointError, match="File exists"):
        write_atomically(shared / "model", b"new")
    assert mine.read_bytes() == SECRET


def test_names_that_are_found_are_claimed(tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rescue").symlink_to(mine)
    path = save_somewhere(lambda path: write_atomically(path, b"new"), "rescue")
    assert path.name == "rescue-2" and mine.read_bytes() == SECRET


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o007])
@pytest.mark.parametrize("name", WRITERS)
def test_modes_are_those_of_the_umask(name: str, mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        WRITERS[name](tmp_path / name)
        with reserve(tmp_path / "other"):
            locks = list(tmp_path.glob(".other.lock"))
            assert len(locks) == 1
            assert stat.S_IMODE(locks[0].stat().st_mode) == 0o666 & ~mask
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_atomically(path, np.zeros(3).tobytes())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
