"""How fastlenet train finds out that mpiexec or srun started it, without MPI."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fastlenet.cli import ranks
from helpers.command import Result

LAUNCHED: dict[str, tuple[Mapping[str, str], int]] = {
    "alone": ({}, 1),
    "Open MPI": ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, 4),
    "one of one": ({"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, 1),
    "MPICH": ({"PMI_SIZE": "2", "PMI_RANK": "1"}, 2),
    "srun": ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, 8),
    "a script in a job of Slurm": ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, 1),
    "nonsense": ({"PMI_SIZE": "x"}, 1),
}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in (ranks._SIZES, ranks._NUMBERS):
        for name in names:
            monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", LAUNCHED)
def test_launched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, expected = LAUNCHED[name]
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert ranks.launched() == expected


@pytest.mark.slow
def test_alone_nothing_of_mpi_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from fastlenet.cli.train import main; code = main(['--dry-run', '--epochs', '1', '--quiet'])\n"
        "odd = [name for name in sys.modules if name.startswith(('mpi4py', 'fastlenet.distributed.mpi'))]\n"
        "sys.exit(code or (1 if odd else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done


def without_mpi4py(rank: str, *arguments: str) -> Result:
    """The command of a process that mpiexec started, where mpi4py is not installed."""
    code = "import sys; sys.modules['mpi4py'] = None\nfrom fastlenet.cli.train import main; sys.exit(main(sys.argv[1:]))"
    environment = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": rank, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    return Result(done.returncode, done.stdout, done.stderr)


def test_without_mpi4py() -> None:
    """The first rank says how to install it; the others are silent, and leave the exit code to the first."""
    first, second = without_mpi4py("0", "--shards", "2"), without_mpi4py("1", "--shards", "2")
    assert first.code == 2 and first.err.count("\n") == 1, first
    assert first.err.startswith("fastlenet.train: error: a run on several ranks needs mpi4py (")
    assert first.err.endswith("); pip install 'fastlenet[mpi]'\n")
    assert second == Result(0, "", "")


def test_off(train_here: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on its own, whatever started it."""
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    done = train_here("--dry-run", "--epochs", "1", "--quiet", "--mpi", "off")
    assert done.code == 0 and done.out.startswith("final accuracy"), done
