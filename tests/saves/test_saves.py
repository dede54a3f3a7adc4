"""Saves while each call of the C library fails once, or the process dies at it: the old file or the new one is there, whole."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastlenet

HERE = Path(__file__).parent
ALWAYS = ("bytes",)
GROWING = ("runs", "log")
ALSO = (*GROWING, "model", "state", "all runs", "onnx", "c", "html", "sheet", "plot", "report", "speedrun")


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, where a sync costs nothing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-w", "-o", made, HERE / "shim.c", "-ldl"], check=True)
    return made


def injected(shim: Path, folder: Path, *names: str) -> list[dict[str, object]]:
    command = [sys.executable, HERE / "injecting.py", shim, folder, *names]
    elsewhere = str(shim.parent)  # where the speedrun saves if its own file cannot be written
    environment = os.environ | {"LD_PRELOAD": str(shim), "HOME": elsewhere}
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["writer"] for each in said] == list(names)
    for each in said:
        print({key: value for key, value in each.items() if key != "failures"})
        assert not each["failures"], (each["failures"][:20], done.stderr[-2000:])
        assert each["calls"] >= 12 and each["cases"] >= 7 * each["calls"]
    return said


@pytest.mark.slow
def test_a_file_that_is_replaced(shim: Path, folder: Path) -> None:
    said = injected(shim, folder, *ALWAYS)
    assert {"write", "fsync", "rename", "open64", "close"} <= said[0]["by_name"].keys()  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALSO)
def test_all_other_writers(name: str, shim: Path, folder: Path) -> None:
    injected(shim, folder, name)


def test_a_fault_would_be_noticed(shim: Path, folder: Path) -> None:
    """A writer that truncates the old file and writes in place."""
    code = """
import sys, runpy, pathlib
space = runpy.run_path(sys.argv[1])
def careless(path, version):
    try:
        path.write_bytes(bytes([version]) * 100_000)
    except OSError as error:
        raise space["CheckpointError"](str(path)) from None
space["WRITERS"]["careless"] = space["Writer"]("file", careless, space["same"])
folder = pathlib.Path(sys.argv[3]) / "careless"
folder.mkdir()
print(len(space["tried"](space["Shim"](sys.argv[2]), "careless", folder)["failures"]))
"""
    command = [sys.executable, "-c", code, HERE / "injecting.py", shim, folder]
    done = subprocess.run(command, env=os.environ | {"LD_PRELOAD": str(shim)}, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 5


@pytest.mark.strace
@pytest.mark.parametrize("name", (*ALWAYS, *GROWING))
def test_the_shim_sees_every_system_call(name: str, shim: Path, tmp_path: Path) -> None:
    """As many as strace sees, by what they do; memory and signals aside."""
    log, saves = tmp_path / "log", tmp_path / "saves"
    saves.mkdir()
    command = ["strace", "-f", "-o", log, sys.executable, HERE / "injecting.py", "once", saves, name]
    subprocess.run(command, check=True, capture_output=True)
    text = log.read_text()
    calls = re.findall(r"^\d+ +(\w+)\(", text[text.index("/the save begins") : text.index("/the save ends")], re.MULTILINE)[:-1]
    of_memory = {"brk", "mmap", "munmap", "mremap", "madvise", "futex", "rt_sigaction", "rt_sigprocmask", "getpid", "uname"}
    inside = {"getdents64", "ioctl", "fcntl"}  # of opendir, which fails as a whole, and questions about a terminal
    own = [call for call in calls if call not in of_memory | inside and not call.startswith("clock")]
    counted = subprocess.run(
        [sys.executable, HERE / "injecting.py", "count", saves, name, shim],
        env=os.environ | {"LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=True,
    )
    said = counted.stdout.split()
    # opendir is an openat and an fstat
    assert len(own) - calls.count("getdents64") // 2 == len(said), (own, said)


def test_every_module_that_writes_is_known() -> None:
    """Whoever writes a file does it by write_atomically, or is here."""
    others = {
        "cli/ranks.py": "/dev/null",
        "distributed/results.py": "a line at a time",
        "files.py": "write_atomically itself, and lock files",
        "speedrun/contenders.py": "a job in a temporary folder",
        "speedrun/report.py": "devices and pipes; files by write_atomically",
        "streams.py": "/dev/null",
        "training/callbacks/json_log.py": "a line at a time",
    }
    calls = re.compile(r"\.write_(?:bytes|text)\(|open\([^)]*[\"'][wax]b?\+?b?[\"']|O_WRONLY|O_RDWR|savefig\((?!picture)")
    package = Path(fastlenet.__file__).parent
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if calls.search(path.read_text())}
    assert found == others.keys()
