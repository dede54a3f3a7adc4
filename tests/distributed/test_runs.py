"""Many runs: the same bits as alone, each once, whatever happens to the workers, the caller and the file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from fastlenet import LeNet, Recipe, config, fit, get_num_threads
from fastlenet.distributed import LocalWorkers, RunError, Source, WorkerDiedError, speedrun, train_ensemble
from fastlenet.distributed.results import opened, read
from fastlenet.distributed.source import checksum
from fastlenet.distributed.task import Refusal, Task
from fastlenet.distributed.working import run_task
from fastlenet.fields import FieldError
from fastlenet.files import CheckpointError
from fuzzing.make_corpus import outcome
from helpers.expect import expect_same_bits

RECIPE = Recipe(epochs=1, batch_size=50, dropout=0.2, ema=0.9, rotation=3.0)


@pytest.fixture(scope="module")
def workers() -> Iterator[LocalWorkers]:
    with LocalWorkers(2) as executor:
        yield executor


def task(file: Path, **changes: object) -> Task:
    source = Source.of(file)
    return replace(Task(RECIPE, source, checksum(source.load())), **changes)  # type: ignore[arg-type]


# --- the bits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_the_bits_of_a_worker_are_those_of_a_run_alone(threads: int, file: Path, workers: LocalWorkers) -> None:
    data = Source.of(file).load()
    ensemble, runs = train_ensemble(RECIPE, 2, data=file, executor=workers, threads=threads, verbose=0)
    for seed, (member, run) in enumerate(zip(ensemble, runs.runs, strict=True)):
        alone = LeNet(seed, dropout=0.2)
        history = fit(alone, data, replace(RECIPE, seed=seed), verbose=0)
        expect_same_bits(member.parameter_buffer, alone.parameter_buffer)
        assert run.accuracy == history.epochs[-1].val_accuracy and run.pid != os.getpid() and run.threads == threads
        assert np.array_equal(member.predict(data.test_images), alone.predict(data.test_images))


@pytest.mark.slow
def test_any_executor(file: Path, workers: LocalWorkers) -> None:
    """One of threads, one of the standard library's processes, ours, and none; and data that travel."""
    alone = speedrun(RECIPE, [4, 2], data=file, verbose=0)
    assert [run.seed for run in alone.runs] == [4, 2] and alone.accuracies == [run.accuracy for run in alone.runs]
    assert alone.runs[0].threads == get_num_threads()
    sent = speedrun(RECIPE, [4, 2], data=Source.of(file).load(), executor=workers, verbose=0)
    assert sent.accuracies == alone.accuracies and sent.runs[0].threads == 1
    spawn = get_context("spawn")
    for executor in (ThreadPoolExecutor(2), ProcessPoolExecutor(1, mp_context=spawn)):
        with executor:
            assert speedrun(RECIPE, [4, 2], data=file, executor=executor, verbose=0).accuracies == alone.accuracies


def test_statistics(file: Path) -> None:
    runs = speedrun(RECIPE, 3, data=file, verbose=0)
    accuracies = np.array(runs.accuracies)
    assert runs.mean == pytest.approx(accuracies.mean()) and runs.deviation == pytest.approx(accuracies.std(ddof=1))
    assert runs.lowest == accuracies.min() and runs.share_at(float(accuracies.max())) == (accuracies == accuracies.max()).mean()
    elsewhere = replace(runs, runs=(*runs.runs, replace(runs.runs[0], host="elsewhere", accuracy=0.5)))
    hosts = elsewhere.seconds_by_host()
    assert sorted(host["runs"] for host in hosts.values()) == [1, 3]  # times are of a host, accuracies of all
    assert elsewhere.mean == pytest.approx((accuracies.sum() + 0.5) / 4)


# --- workers that die, and those that are not fit ------------------------------------------------------------------------


def stop_worker(workers: LocalWorkers, started: threading.Event) -> None:
    started.wait()
    os.kill(workers.pids()[0], signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_costs_its_run_only(file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Which goes elsewhere: all results are there, each once, and the other process is the same all along."""
    long = replace(RECIPE, epochs=8)
    with LocalWorkers(2) as workers:
        started = threading.Event()
        threading.Timer(0.0, stop_worker, (workers, started)).start()
        [future.result() for future in [workers.submit(time.sleep, 0.2) for _ in range(2)]]
        before = set(workers.pids())
        threading.Timer(0.15, started.set).start()
        runs = speedrun(long, 4, data=file, executor=workers, results=tmp_path / "runs.jsonl", verbose=0)
        after = set(workers.pids())
    assert len(before & after) == 1 and len(before | after) == 3
    assert [run.seed for run in runs.runs] == [0, 1, 2, 3]
    assert sorted(run.seed for run in read(tmp_path / "runs.jsonl").outcomes) == [0, 1, 2, 3]
    assert "was ended by SIGKILL; seed" in capfd.readouterr().err
    assert runs.accuracies == speedrun(long, 4, data=file, verbose=0).accuracies


class Poisonous(Executor):
    """Each call ends its worker."""

    slots = 1

    def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[object]:  # type: ignore[override]
        future: Future[object] = Future()
        future.set_exception(WorkerDiedError("process 1 was ended by SIGSEGV"))
        return future


def test_a_run_that_ends_every_worker(file: Path) -> None:
    with pytest.raises(RunError, match=r"^seed 0: process 1 was ended by SIGSEGV, the third worker that it has ended$"):
        speedrun(RECIPE, 2, data=file, executor=Poisonous(), verbose=0)


def test_a_run_that_ends_the_workers_of_dask(file: Path) -> None:
    """Which tries it on several by itself."""

    killed = type("KilledWorker", (Exception,), {})

    class Dask(Poisonous):
        def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[object]:  # type: ignore[override]
            future: Future[object] = Future()
            future.set_exception(killed("Attempted to run task on 4 different workers"))
            return future

    with pytest.raises(RunError, match=r"^seed 0: its workers died \(Attempted to run task on 4 different workers\)$"):
        speedrun(RECIPE, 1, data=file, executor=Dask(), verbose=0)


def test_a_broken_pool_of_another(file: Path, tmp_path: Path) -> None:
    """It cannot be mended from outside; the line says what can be done."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pid = pool.submit(os.getpid).result()
        threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
        with pytest.raises(RunError, match=r"the executor is broken .* or with LocalWorkers, which replaces a dead process$"):
            speedrun(replace(RECIPE, epochs=10_000), 2, data=file, executor=pool, verbose=0)


@pytest.mark.slow
def test_a_call_that_ends_its_process() -> None:
    """Costs that call; the next one gets a new process, also where the old one was killed while it waited."""
    with LocalWorkers(1) as workers:
        with pytest.raises(WorkerDiedError, match=r"process \d+ ended with code 7$"):
            workers.submit(os._exit, 7).result()
        before = workers.submit(os.getpid).result()
        os.kill(before, signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match=f"process {before} was ended by SIGKILL$"):
            workers.submit(os.getpid).result()
        assert workers.submit(os.getpid).result() not in (before, os.getpid())


def test_errors_of_a_call(workers: LocalWorkers) -> None:
    assert workers.submit(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        workers.submit(divmod, 1, 0).result()
    with pytest.raises(TypeError, match="pickle"):
        workers.submit(threading.Lock).result()
    with pytest.raises(FieldError, match=r"LocalWorkers: count expects an integer in 1..4096, got 0"):
        LocalWorkers(0)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": "9.9"}, "it has version 0.1.0, this run needs 9.9"),
        ({"level": "x86-64-v9"}, f"it has level {config()['level']}, this run needs x86-64-v9"),
        ({"fingerprint": "0" * 32}, "its data differ: .*few.npz has checksum [0-9a-f]{32} there, this run needs 0{32}"),
        ({"source": Source("/no/such/file")}, r"it cannot read the data \(.*no such folder or file"),
    ],
    ids=["version", "level", "data", "no data"],
)
def test_a_worker_that_is_not_fit(changes: dict[str, object], why: str, file: Path) -> None:
    """Says so in one line, with its name."""
    found = run_task(task(file, **({"fingerprint": "1" * 32} | changes)).as_message())
    assert isinstance(found, Refusal) and "\n" not in str(found)
    assert str(found).startswith("worker ") and f":{os.getpid()} is refused: " in str(found)
    assert re.search(why, str(found))


def test_a_refused_run_goes_elsewhere(file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Mixed(Executor):
        """Its first worker has another level, until it is left out."""

        slots = 1
        excluded: tuple[str, ...] = ()

        def submit(self, fn: Callable[..., object], /, *args: object, **kwargs: object) -> Future[object]:  # type: ignore[override]
            future: Future[object] = Future()
            future.set_result(fn(*args) if self.excluded else Refusal("old:1", "it has level v2, this run needs v4"))
            return future

        def exclude(self, worker: str) -> bool:
            self.excluded += (worker,)
            return True

        def workers_left(self) -> int:
            return 1

    executor = Mixed()
    runs = speedrun(RECIPE, 2, data=file, executor=executor, verbose=0)
    assert len(runs.runs) == 2 and executor.excluded == ("old:1",)
    assert capfd.readouterr().err == "worker old:1 is refused: it has level v2, this run needs v4\n"
    executor.exclude = lambda worker: False  # type: ignore[method-assign]
    executor.excluded = ()
    with pytest.raises(RunError, match="no worker is left; worker old:1 is refused"):
        speedrun(RECIPE, 1, data=file, executor=executor, verbose=0)


# --- the file ------------------------------------------------------------------------------------------------------------


def test_the_rest_of_a_line_is_cut_off(tmp_path: Path) -> None:
    """Also if it is longer than the line that is written in its place."""
    path = tmp_path / "runs.jsonl"
    with opened(path, {"data": "x"}) as kept:
        kept.append(outcome(0))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"recipe":{"name":"' + b"x" * 100_000)
    with opened(path, {"data": "x"}) as kept:
        assert path.read_bytes() == whole
        kept.append(outcome(1))
    assert [run.seed for run in read(path).outcomes] == [0, 1]
    assert path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == 3


@pytest.mark.slow
def test_a_killed_speedrun_goes_on(file: Path, tmp_path: Path) -> None:
    """Killed in the middle, and its last line torn: no seed is run twice, and its processes are gone with it."""
    program = f"""
    from fastlenet import Recipe
    from fastlenet.distributed import LocalWorkers, speedrun
    if __name__ == "__main__":
        with LocalWorkers(2) as workers:
            print(*[workers.submit(__import__("os").getpid).result() for _ in range(2)], flush=True)
            speedrun({replace(RECIPE, epochs=4)!r}, 40, data={str(file)!r}, executor=workers, results="runs.jsonl")
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    with subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        for _ in range(3):
            process.stdout.readline()
        process.kill()
    path = tmp_path / "runs.jsonl"
    done = {run.seed: run.pid for run in read(path).outcomes}
    assert 3 <= len(done) < 40
    with path.open("ab") as stream:
        stream.write(b'{"recipe":{"epochs":')
    seeds = [*sorted(done)[:3], 1000]
    runs = speedrun(replace(RECIPE, epochs=4), seeds, data=file, results=path, verbose=0)
    assert [run.pid for run in runs.runs] == [*(done[seed] for seed in seeds[:3]), os.getpid()]
    lines = path.read_text().splitlines()
    assert len(lines) == len(done) + 2 and all(map(json.loads, lines))
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": replace(RECIPE, lr=0.5)}, "its runs have lr 0.08, this one has 0.5; choose another file"),
        ({"network": "lenet5"}, "its runs have network 'lenet', this one has 'lenet5'; choose another file"),
        ({"data": None}, "its runs have data 'few', this one has 'other'; choose another file"),
    ],
    ids=["recipe", "network", "data"],
)
def test_a_file_of_other_runs(change: dict[str, object], message: str, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    speedrun(RECIPE, 1, data=file, results=path, verbose=0)
    before = path.read_bytes()
    if "data" in change:
        change["data"] = replace(Source.of(file).load(), name="other")
    arguments: dict[str, object] = {"recipe": RECIPE, "data": file} | change
    with pytest.raises(CheckpointError, match=message):
        speedrun(**arguments, seeds=1, results=path, verbose=0)  # type: ignore[arg-type]
    assert path.read_bytes() == before


HEAD = b'{"format":"fastlenet runs 1"}\n'


@pytest.mark.parametrize(
    "content",
    [b"\x89PNG\r\n\x1a\n", b"words", b"{}\n", HEAD + b"{}\n", HEAD + b"[" * 100_000 + b"\n", HEAD + b"NaN\n"],
    ids=["picture", "words", "object", "no run", "deep", "no number"],
)
def test_a_file_of_something_else_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"mine: not a file of runs; line \d: "), opened(path, {}):
        pass
    assert path.read_bytes() == content


def test_two_runs_do_not_write_one_file(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    with opened(path, {}), pytest.raises(CheckpointError, match="another run writes it"):
        speedrun(RECIPE, 1, data=file, results=path, verbose=0)


def test_a_run_that_diverges(file: Path, tmp_path: Path) -> None:
    """Is kept, so that it is not repeated; the line names its seed."""
    path = tmp_path / "runs.jsonl"
    wild = replace(RECIPE, lr=1e30, epochs=3)
    for _ in range(2):
        with pytest.raises(RunError, match=r"^seed 0: the loss is nan in epoch 1"):
            speedrun(wild, 1, data=file, results=path, verbose=0)
    assert [run.diverged[:12] for run in read(path).outcomes] == ["the loss is "]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipe": "quick"}, "recipe expects one of default, fast, best, got 'quick'"),
        ({"seeds": 0}, "seeds expects a positive integer, got 0"),
        ({"seeds": [1, 1]}, r"seeds expects at least one seed, each once, got \[1, 1\]"),
        ({"executor": 2}, "executor expects a concurrent.futures.Executor, got 2"),
        ({"threads": 0}, "threads expects an integer in 1..4096, got 0"),
        ({"network": "vgg"}, "network expects one of lenet, lenet5, got 'vgg'"),
        ({"verbose": "loud"}, "verbose expects"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_arguments(arguments: dict[str, object], message: str, file: Path) -> None:
    with pytest.raises(FieldError, match=message):
        speedrun(**{"data": file, "recipe": RECIPE, "seeds": 1, **arguments})  # type: ignore[arg-type]
