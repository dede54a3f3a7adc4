"""A Dask scheduler and its workers, each a process of its own, on the loopback interface."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastlenet import _core
from fastlenet.distributed.results import read
from helpers.command import Result, one_line

pytestmark = pytest.mark.cluster

Start = Callable[..., subprocess.Popen[str]]
LONG = ["--epochs", "12", "--batch-size", "50", "--target", "10"]


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program of Dask; all are ended with the test. Its output is in a file of the same name."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        with (tmp_path / f"{name}.log").open("w") as log:
            command = [sys.executable, "-m", "dask", *map(str, arguments)]
            started.append(
                subprocess.Popen(command, cwd=tmp_path, env=os.environ | environment, stdout=log, stderr=log, text=True)
            )
        (tmp_path / f"{name}.pid").write_text(str(started[-1].pid))
        return started[-1]

    yield start
    for process in reversed(started):
        process.kill()
        process.wait()


def scheduler(start: Start, folder: Path, *more: object, **environment: str) -> str:
    """The address of a new scheduler."""
    place = folder / "scheduler.json"
    flags = ["--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", place, *more]
    start("scheduler", "scheduler", *flags, **environment)
    wait_for(lambda: place.exists() and place.read_text().endswith("}"))
    address: str = json.loads(place.read_text())["address"]
    return address


def worker(start: Start, address: str, name: str, *more: object, **environment: str) -> subprocess.Popen[str]:
    flags = ["--nthreads", 1, "--no-nanny", "--no-dashboard", "--name", name, *more]
    return start(name, "worker", address, *flags, **environment)


def connected(folder: Path, *names: str) -> None:
    """Wait until these workers have registered."""
    logs = [folder / f"{name}.log" for name in names]
    wait_for(lambda: all("Registered to:" in log.read_text() for log in logs))


def speedrun(folder: Path, *arguments: object, **environment: str) -> Result:
    command = [sys.executable, "-m", "fastlenet.speedrun", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=100)
    return Result(done.returncode, done.stdout, done.stderr)


def test_one_of_two_workers_is_killed(start: Start, file: Path, tmp_path: Path) -> None:
    """All results are there, each once, and are those of one process."""
    address = scheduler(start, tmp_path)
    doomed = worker(start, address, "doomed")
    worker(start, address, "other")
    connected(tmp_path, "doomed", "other")
    flags = ["--data", file, *LONG, "--seeds", 8]
    command = [sys.executable, "-m", "fastlenet.speedrun", *map(str, flags), "--cluster", address, "--results", "runs.jsonl"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("seed"):
                doomed.send_signal(signal.SIGKILL)
                break
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0 and err == ""
    outcomes = read(tmp_path / "runs.jsonl").outcomes
    assert sorted(run.seed for run in outcomes) == list(range(8))
    assert {run.pid for run in outcomes[-3:]} != {doomed.pid} and {run.pid for run in outcomes} >= {outcomes[-1].pid}
    alone = speedrun(tmp_path, *flags, "--workers", 1, "--results", "alone.jsonl")
    assert alone.code == 0
    accuracies = [{run.seed: run.accuracy for run in read(tmp_path / name).outcomes} for name in ("runs.jsonl", "alone.jsonl")]
    assert accuracies[0] == accuracies[1]


def test_a_worker_of_another_level_is_refused(start: Start, file: Path, tmp_path: Path) -> None:
    """By its name, in one line; the others do its runs. Without any other, the command ends."""
    other = _core.levels_available()[1]
    address = scheduler(start, tmp_path)
    worker(start, address, "old", FASTLENET_ISA=other)
    connected(tmp_path, "old")
    flags = ["--data", file, *LONG, "--seeds", 4, "--cluster", address]
    why = rf"worker old at tcp://127.0.0.1:\d+ \(\S+:\d+\) is refused: it has level {other}, this run needs {_core.level()}"
    alone = speedrun(tmp_path, *flags)
    assert alone.code == 2 and re.fullmatch(rf"{why}\nfastlenet.speedrun: error: no worker is left; {why}\n", alone.err)
    worker(start, address, "new")
    connected(tmp_path, "new")
    both = speedrun(tmp_path, *flags)
    assert both.code == 0 and re.fullmatch(f"{why}\n", both.err)
    assert len(re.findall(r"^seed \d", both.out, re.MULTILINE)) == 4


def test_a_worker_that_comes_late(start: Start, file: Path, tmp_path: Path) -> None:
    """The command says that there is none, and goes on when there is one."""
    address = scheduler(start, tmp_path)
    command = [sys.executable, "-m", "fastlenet.speedrun", "--data", str(file), *LONG, "--seeds", "2", "--cluster", address]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "no worker is connected; the runs wait for one\n"
        worker(start, address, "late")
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and err == "" and "2 runs" in out


def test_the_scheduler_is_killed(start: Start, file: Path, tmp_path: Path) -> None:
    """The command ends in one line, and the finished runs are kept."""
    address = scheduler(start, tmp_path)
    worker(start, address, "one")
    connected(tmp_path, "one")
    flags = ["--data", file, *LONG, "--seeds", 60, "--results", "runs.jsonl"]
    command = [sys.executable, "-m", "fastlenet.speedrun", *map(str, flags), "--cluster", address]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("seed"):
                pid = int((tmp_path / "scheduler.pid").read_text())
                os.kill(pid, signal.SIGKILL)
                break
        _, err = process.communicate(timeout=100)
    assert process.returncode == 2 and re.fullmatch(
        r"fastlenet.speedrun: error: seed \d+: was cancelled; .* lost its scheduler\n", err
    ), err
    done = len(read(tmp_path / "runs.jsonl").outcomes)
    assert 0 < done < 60


def test_no_scheduler(file: Path, tmp_path: Path) -> None:
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        result = speedrun(tmp_path, "--data", file, "--cluster", address)
        assert one_line(result).startswith(f"fastlenet.speedrun: error: {address}: no Dask scheduler answers (")


def test_tls(start: Start, file: Path, tmp_path: Path) -> None:
    """With a certificate of ours the runs are done; without one nobody gets in."""
    subject = ["-subj", "/CN=fastlenet", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(key, cwd=tmp_path, check=True, capture_output=True)
    files = {"CA_FILE": "cert.pem"}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        files |= {f"{role}__CERT": "cert.pem", f"{role}__KEY": "key.pem"}
    tls = {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(tmp_path / of) for name, of in files.items()}
    address = scheduler(start, tmp_path, "--protocol", "tls", **tls)
    assert address.startswith("tls://127.0.0.1:")
    worker(start, address, "one", **tls)
    connected(tmp_path, "one")
    flags = ["--data", file, *LONG, "--seeds", 2, "--cluster"]
    assert speedrun(tmp_path, *flags, address, **tls).code == 0
    assert "(TLS needs certificates: name them in Dask's configuration" in one_line(speedrun(tmp_path, *flags, address))
    assert "no Dask scheduler answers (" in one_line(speedrun(tmp_path, *flags, address.replace("tls", "tcp")))


SBATCH = """#!/bin/sh
# Slurm's command, which takes a job script and prints the job's number: here the job starts at once. As in Slurm, the job is a
# copy of the script: the caller deletes its file as soon as this command ends.
script=$(mktemp {folder}/job.XXXXXX)
cp "$1" "$script"
setsid sh "$script" > {folder}/job.log 2>&1 &
echo "$!" >> {folder}/jobs
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job; do kill -- "-$job" 2> /dev/null; echo "$job" >> {folder}/cancelled; done
"""


def test_slurm(file: Path, tmp_path: Path) -> None:
    """Jobs are submitted, do the runs, and are cancelled at the end."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    slurm = ["--cluster", "slurm", "jobs=2", "cores=1", "memory=1GB", "host=127.0.0.1", "queue=short"]
    result = speedrun(tmp_path, "--data", file, *LONG, "--seeds", 4, "--results", "runs.jsonl", *slurm, PATH=path)
    assert result.code == 0 and result.err in ("", "no worker is connected; the runs wait for one\n"), result
    assert sorted(run.seed for run in read(tmp_path / "runs.jsonl").outcomes) == [0, 1, 2, 3]
    jobs = (tmp_path / "jobs").read_text().split()
    assert len(jobs) == 2 and sorted((tmp_path / "cancelled").read_text().split()) == sorted(jobs)
    wait_for(lambda: not any(Path(f"/proc/{job}").exists() for job in jobs))
    wrong = speedrun(tmp_path, "--data", file, "--cluster", "slurm", "host=127.0.0.1", "pool=short", PATH=path)
    assert one_line(wrong).endswith("slurm: pool is not an option of dask_jobqueue.SLURMCluster")
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: short' >&2\nexit 1\n")
    refused = speedrun(tmp_path, "--data", file, "--cluster", "slurm", "host=127.0.0.1", "queue=short", PATH=path)
    assert one_line(refused).endswith("slurm: cannot submit the jobs (sbatch: error: invalid partition specified: short)")


PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"


def commands_of_the_page() -> Iterator[str]:
    many_runs = PAGE.read_text().partition("\n## One run on several processes")[0]  # test_mpi.py runs those of the rest
    for block in re.findall(r"```sh\n(.*?)```", many_runs, re.DOTALL):
        yield from block.splitlines()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.slow
def test_every_command_of_the_page(start: Start, file: Path, tmp_path: Path) -> None:
    """In order, on few images and with few seeds; what listens goes on in the background, on free ports."""
    (space,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    space = space.replace("validation = 5000", "validation = 200").replace("trials = 16", "trials = 3")
    (tmp_path / "space.toml").write_text(f'data = "{file}"\n{space}')
    choices = re.sub(r"\nhalving.*", "", space).replace("seeds = 4", "seeds = 1")
    (tmp_path / "choices.toml").write_text(f'data = "{file}"\n{choices}')
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    ports = {port: str(free_port()) for port in ("8786", "8787")}
    few = {
        "speedrun": ["--data", str(file), "--seeds", "2", "--target", "1"],
        "train": ["--data", str(file), "--epochs", "1", "--ensemble", "2"],
    }
    done = []
    for number, line in enumerate(commands_of_the_page()):
        for port, free in ports.items():
            line = line.replace(port, free)
        program, *arguments = line.split()
        if program == "export":
            environment |= {name: str(tmp_path / value) for name, _, value in (pair.partition("=") for pair in arguments)}
        elif program == "dask":
            start(f"{arguments[0]}{number}", *arguments, **environment)
        elif program == "openssl":
            subprocess.run([program, *arguments], cwd=tmp_path, check=True, capture_output=True)
        else:
            extra = few.get(arguments[0], [])
            at = arguments.index("--cluster") if "--cluster" in arguments else len(arguments)
            command = [sys.executable, "-m", "fastlenet", *arguments[:at], *extra, *arguments[at:]]
            run = subprocess.run(
                command, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, timeout=200
            )
            assert run.returncode == 0, (line, run.stdout, run.stderr)
            done.append(arguments[0])
    assert done.count("speedrun") >= 5 and done.count("search") >= 4 and "train" in done
    assert {path.name for path in tmp_path.iterdir()} >= {"fast.jsonl", "ten.safetensors", "trials.png", "space.png"}
