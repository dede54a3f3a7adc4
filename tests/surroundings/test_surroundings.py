"""A training, a save and a prediction in unusual surroundings: the same bits, or one clear line, and nothing lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastlenet.formats.parameters import load_model
from helpers.surroundings import expect_refused, expect_usual, job

_MIB = 1 << 20


LANGUAGES = {
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII output": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    "Turkish": {"LC_ALL": "tr_TR.UTF-8"},
    "German": {"LC_ALL": "de_DE.UTF-8"},
    "German in Latin-1": {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"},
    "Arabic": {"LC_ALL": "ar_EG.UTF-8"},
    "none such": {"LC_ALL": "xx_XX.UTF-8"},
    "time zone beyond the date line": {"TZ": "X-23:59:59"},
    "time zone of half hours": {"TZ": "Australia/Lord_Howe"},
    "time zone of nonsense": {"TZ": "\N{SNOWMAN}/../etc"},
    "no variables but PATH": dict.fromkeys(("HOME", "USER", "LANG", "TERM", "LOGNAME", "TMPDIR", "SHELL")),
    "home that is not there": {"HOME": "/nowhere/at/all"},
}


@pytest.mark.surroundings
@pytest.mark.parametrize("name", LANGUAGES)
def test_languages_and_places(name: str, usual: str, tmp_path: Path) -> None:
    expect_usual(job(tmp_path, **LANGUAGES[name]), usual, tmp_path)


@pytest.mark.slow
def test_clocks_that_jump(shim: str, usual: str, tmp_path: Path) -> None:
    seen = subprocess.run(
        [sys.executable, "-c", "import time; read = [time.time() for _ in range(6)]; print(max(read) - min(read))"],
        env=os.environ | {"LD_PRELOAD": shim, "CLOCK_JUMPS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(seen.stdout) > 86000  # the clock does jump
    expect_usual(job(tmp_path, LD_PRELOAD=shim, CLOCK_JUMPS="1"), usual, tmp_path)


@pytest.mark.parametrize("name", ["nolock", "nosync"])
def test_a_network_file_system_that_still_works(name: str, shim: str, usual: str, tmp_path: Path) -> None:
    expect_usual(job(tmp_path, LD_PRELOAD=shim, NETWORK=name), usual, tmp_path)


@pytest.mark.parametrize(("name", "words"), [("stale", "Stale file handle"), ("fsync", "Disk quota exceeded")])
def test_a_network_file_system_that_fails(name: str, words: str, shim: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"old")
    expect_refused(job(tmp_path, LD_PRELOAD=shim, NETWORK=name), f"model.safetensors: cannot be written ({words})")
    assert (tmp_path / "model.safetensors").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["log.jsonl", "model.safetensors"]


def test_an_error_of_close(shim: str, tmp_path: Path) -> None:
    """After a sync without error the new file is there, whole; the error is reported all the same."""
    (tmp_path / "model.safetensors").write_bytes(b"old")
    done = job(tmp_path, LD_PRELOAD=shim, NETWORK="close")
    expect_refused(done, "model.safetensors: cannot be written (Input/output error)")
    assert sum(array.size for array in load_model(tmp_path / "model.safetensors").values()) == 431_080
    assert sorted(os.listdir(tmp_path)) == ["log.jsonl", "model.safetensors"]


def limit(which: int, amount: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(which, (amount, amount))


@pytest.mark.surroundings
@pytest.mark.parametrize("mib", [150, 300, 1000])
def test_address_space(mib: int, usual: str, tmp_path: Path) -> None:
    """ulimit -v. With less, NumPy cannot be loaded."""
    expect_usual(job(tmp_path, limit(resource.RLIMIT_AS, mib * _MIB), OPENBLAS_NUM_THREADS="1"), usual, tmp_path)


@pytest.mark.slow
def test_no_memory(usual: str, tmp_path: Path) -> None:
    """Whichever allocation fails after the imports, one line says so, and the old file stays."""
    codes = []
    for kib in [0, 512, *range(2048, 32768, 2048), 65536]:
        (tmp_path / "log.jsonl").unlink(missing_ok=True)
        (tmp_path / "model.safetensors").write_bytes(b"old")
        done = job(tmp_path, more=(str(kib),), OPENBLAS_NUM_THREADS="1")
        codes.append(done.returncode)
        if done.returncode == 0:
            expect_usual(done, usual, tmp_path)
        else:
            expect_refused(done, "MemoryError", "no memory to write")
            assert (tmp_path / "model.safetensors").read_bytes() == b"old"
            assert set(os.listdir(tmp_path)) <= {"log.jsonl", "model.safetensors"}
    assert codes[0] == 3 and codes[-1] == 0, codes


def test_few_files(usual: str, tmp_path: Path) -> None:
    expect_usual(job(tmp_path, limit(resource.RLIMIT_NOFILE, 16)), usual, tmp_path)


def test_a_small_stack(usual: str, tmp_path: Path) -> None:
    expect_usual(job(tmp_path, limit(resource.RLIMIT_STACK, 256 << 10)), usual, tmp_path)


def test_files_of_limited_size(tmp_path: Path) -> None:
    """ulimit -f: Python ignores SIGXFSZ, so that the write is refused."""
    (tmp_path / "model.safetensors").write_bytes(b"old")
    done = job(tmp_path, limit(resource.RLIMIT_FSIZE, 1 << 20))
    expect_refused(done, "model.safetensors: cannot be written (File too large)")
    assert (tmp_path / "model.safetensors").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["log.jsonl", "model.safetensors"]


def test_one_cpu(usual: str, tmp_path: Path) -> None:
    expect_usual(job(tmp_path, lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})), usual, tmp_path)
