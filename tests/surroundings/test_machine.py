"""The same job in surroundings that only root can make: locales, mounts, control groups, a user; by tools/surroundings."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.surroundings import JOBS, expect_refused, expect_usual, job

pytestmark = pytest.mark.surroundings

_MIB = 1 << 20


@pytest.mark.parametrize("language", ["tr_TR", "de_DE", "ar_EG"])
def test_a_language_that_the_program_itself_sets(language: str, usual: str, tmp_path: Path) -> None:
    """After setlocale, C's own functions write commas for points; nothing of fastlenet may ask them."""
    places, folder = tmp_path / "places", tmp_path / "files"
    places.mkdir()
    folder.mkdir()
    subprocess.run(["localedef", "-i", language, "-f", "UTF-8", places / f"{language}.UTF-8"], check=True, capture_output=True)
    code = f"""
import locale, runpy, sys
locale.setlocale(locale.LC_ALL, "{language}.UTF-8")
sys.argv[1:] = [{str(folder)!r}]
runpy.run_path({str(JOBS / "job.py")!r}, run_name="__main__")
"""
    environment = os.environ | {"LOCPATH": str(places)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    expect_usual(done, usual, folder)


def mounted(*commands: str) -> tuple[str, ...]:
    """A command's prefix: a view of the files of its own, in which these commands were run before."""
    lines = "; ".join(["set -e", *commands, 'exec "$@"'])
    return "unshare", "--mount", "--propagation", "private", "sh", "-c", lines, "sh"


def test_a_file_system_that_is_read_only(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"old")
    before = mounted(f"mount --bind {tmp_path} {tmp_path}", f"mount -o remount,ro,bind {tmp_path}")
    expect_refused(job(tmp_path, None, *before), "log.jsonl: cannot be written (Read-only file system)")
    assert os.listdir(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("kib", [4, 400, 1600, 4000])
def test_a_full_disk(kib: int, tmp_path: Path) -> None:
    """The model has 1.7 MB. What is on the disk is listed after the job."""
    before = mounted(f"mount -t tmpfs -o size={kib}k none {tmp_path}", f"printf old > {tmp_path}/model.safetensors")
    listing = '"$@"; code=$?; cat "$0/model.safetensors" | wc -c; ls -A "$0"; exit $code'
    done = job(tmp_path, None, *before, "sh", "-c", listing, str(tmp_path))
    size, first, second = done.stdout.split()[-3:]
    if kib == 4000:
        assert done.returncode == 0 and int(size) > 1_700_000, done
    else:
        assert done.returncode == 3 and int(size) == 3, done
        assert "model.safetensors: cannot be written (No space left on device)" in done.stderr.splitlines()[-1]
    assert (first, second) == ("log.jsonl", "model.safetensors")


@pytest.mark.parametrize("hidden", ["/dev/shm", "/proc", "/sys", "/var", "/home"])
def test_folders_of_the_system_that_are_empty(hidden: str, usual: str, tmp_path: Path) -> None:
    expect_usual(job(tmp_path, None, *mounted(f"mount -t tmpfs -o ro none {hidden}")), usual, tmp_path)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_few_processes(processes: int, usual: str, tmp_path: Path) -> None:
    """ulimit -u for a user who is not root, but may read root's files: fastlenet does without the refused threads."""
    files = "dac_override,dac_read_search"
    user = ("setpriv", "--reuid=61234", "--regid=61234", "--clear-groups", f"--inh-caps=+{files.replace(',', ',+')}")
    ambient = f"--ambient-caps=+{files.replace(',', ',+')}"

    def limits() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))

    done = job(tmp_path, limits, *user, ambient, OPENBLAS_NUM_THREADS="1", FASTLENET_NUM_THREADS="3")
    expect_usual(done, usual, tmp_path)


# --- control groups: version 2 if there is one, else version 1 ---

_ROOT = Path("/sys/fs/cgroup")
_NEW = (_ROOT / "cgroup.controllers").exists()


class Group:
    """A control group of the test's own. settings: what is written to its files, by their names."""

    def __init__(self, controller: str, settings: dict[str, str]) -> None:
        self.folder = (_ROOT if _NEW else _ROOT / controller) / f"fastlenet-{os.getpid()}"
        self.folder.mkdir()
        for name, value in settings.items():
            (self.folder / name).write_text(value)

    def enter(self) -> None:
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))


def grouped(controller: str, settings: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    group = Group(controller, settings)
    try:
        return job(folder, group.enter)
    finally:
        group.folder.rmdir()


if os.access(_ROOT if _NEW else _ROOT / "memory", os.W_OK):

    @pytest.mark.parametrize("mib", [400, 20])
    def test_memory_of_a_group(mib: int, usual: str, tmp_path: Path) -> None:
        """Linux kills what takes more, by SIGKILL; the file that was there stays."""
        (tmp_path / "model.safetensors").write_bytes(b"old")
        name = "memory.max" if _NEW else "memory.limit_in_bytes"
        done = grouped("memory", {name: str(mib * _MIB)}, tmp_path)
        if mib == 400:
            expect_usual(done, usual, tmp_path)
        else:
            assert done.returncode == -9, done
            assert (tmp_path / "model.safetensors").read_bytes() == b"old"

    def test_cpu_of_a_group(usual: str, tmp_path: Path) -> None:
        settings = {"cpu.max": "50000 100000"} if _NEW else {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}
        expect_usual(grouped("cpu", settings, tmp_path), usual, tmp_path)
