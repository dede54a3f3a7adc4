"""Killed by SIGKILL at any moment, in the middle of a save too, and resumed, a run ends with the bits of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fastlenet.training.checkpoint import load_checkpoint

# Forks a process for each run it is asked for, which saves the time of starting Python. A run tells its steps, and saves every
# five of them: its clock ticks once a step. If asked to, it stands still after so many steps, or in a save: with the temporary
# file written, before it is renamed, or after; and says so.
NURSERY = """
import json, os, stat, sys, time, traceback
from pathlib import Path
from fastlenet import LeNet, fit, set_num_threads
from fastlenet.formats.parameters import save_model
from fastlenet.data import load_idx_directory
from fastlenet.training.callbacks.base import Callback

data = load_idx_directory(sys.argv[1])
recipe = dict(batch_size=16, batch_size_end=32, seed=9, lr=0.01, dropout=0.3, dropout_fc1=0.1, ema=0.9, ema_every=3, shift=2,
              plain_epochs=1, label_smoothing=0.1, schedule="cosine", temperature=3.0, mix=0.5)
teacher = LeNet(seed=1)
teacher.set_facts(mean=data.mean, std=data.std)
ticks = 0

def tell(*words):
    print(*words, flush=True)

class Steps(Callback):
    def __init__(self, most):
        self.most = most
    def batch(self, trainer, loss, images):
        global ticks
        ticks += 1
        tell("step", trainer.state.optimizer.steps)
        if ticks == self.most:
            time.sleep(3600)

def stand_still(stage, number):
    sync, replace, passed = os.fsync, os.replace, []
    def passing(place):
        passed.append(place)
        if place == stage and passed.count(place) == number:
            tell("saving")
            time.sleep(3600)
    def passing_sync(descriptor):
        passing("renamed" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "written")
        sync(descriptor)
    def passing_replace(source, target):
        passing("renaming")
        replace(source, target)
    os.fsync, os.replace = passing_sync, passing_replace

def run(folder, epochs, threads, stage, number, most):
    os.chdir(folder)
    set_num_threads(threads)
    stand_still(stage, number)
    time.monotonic = lambda: ticks
    state, model = Path("state"), LeNet(seed=9, dropout=0.3, dropout_fc1=0.1)
    fit(model, data, epochs=epochs, checkpoint=state, checkpoint_seconds=5, resume=state if state.exists() else None,
        callbacks=(Steps(most),), teacher=teacher, **recipe)
    save_model("model", model.state_dict())

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            run(**json.loads(line))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    tell("child", child)
    tell("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
MOST = 25  # steps of a run that will be killed: so that it is at work then, however late the kill comes
SILENCE = 300  # seconds without a word, after which something hangs, however busy the machine is
DYING = 1200  # seconds: a killed process ends only when the disk has written what it syncs, however busy the disk is


class Nursery:
    """The process above; `child` is the run that it has at the moment."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.child = 0

    def start(self, folder: Path, epochs: int, threads: int, *, stage: str = "", number: int = 0, most: int = 0) -> None:
        order = dict(folder=str(folder), epochs=epochs, threads=threads, stage=stage, number=number, most=most)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self.child = self.read("child")

    def read(self, *expected: str, silence: float = SILENCE) -> int:
        """The number in the next line that starts with one of these words."""
        assert self._process.stdout is not None
        while True:
            assert select.select([self._process.stdout], [], [], silence)[0], f"the run hangs: {self._state()}"
            word, _, number = self._process.stdout.readline().decode().strip().partition(" ")
            assert word != "" and (word != "ended" or "ended" in expected), f"the run ended by itself, {number}"
            if word in expected:
                return int(number or 0)

    def kill(self) -> None:
        os.kill(self.child, signal.SIGKILL)
        assert self.read("ended", silence=DYING) == -signal.SIGKILL

    def _state(self) -> str:
        """What the system says of both processes: D, which waits for the disk, S, which sleeps, Z, which has ended."""
        states = []
        for pid in (self._process.pid, self.child):
            status = Path(f"/proc/{pid}/status")
            states.append(f"{pid} {status.read_text().splitlines()[2]}" if status.exists() else f"{pid} is gone")
        return ", ".join(states)


@contextmanager
def nursery(data: Path) -> Iterator[Nursery]:
    command = [sys.executable, "-c", NURSERY, str(data)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            yield Nursery(process)
        finally:
            process.kill()


def steps_in(folder: Path) -> int:
    """How many steps the checkpoint there has behind it; that it is intact is checked on the way."""
    if not (folder / "state").exists():
        return 0
    return int(load_checkpoint(folder / "state")[0]["optimizer.steps"][0])


def kill_at_any_moment(runs: Nursery, folder: Path, draw: random.Random, **options: Any) -> None:
    before = steps_in(folder)
    runs.start(folder, threads=draw.randint(1, 2), most=MOST, **options)
    assert runs.read("step") == before + 1, "did not go on where the checkpoint was"
    for _ in range(draw.randint(5, 14)):
        runs.read("step")
    time.sleep(draw.uniform(0, 0.01))
    runs.kill()
    assert steps_in(folder) >= before + 5


def kill_in_a_save(runs: Nursery, folder: Path, stage: str, draw: random.Random, **options: Any) -> None:
    """Then the old file is there as it was, and a temporary one; or the new one, once it was renamed."""
    before, number = steps_in(folder), draw.randint(1, 2)
    runs.start(folder, threads=draw.randint(1, 2), stage=stage, number=number, **options)
    assert runs.read("step") == before + 1, "did not go on where the checkpoint was"
    runs.read("saving")
    runs.kill()
    assert any(folder.glob(".state.*.tmp")) == (stage != "renamed"), "the kill missed the save"
    assert (steps_in(folder) > before) == (stage == "renamed" or number == 2)


def expect_undisturbed_bits(folder: Path, data: Path, epochs: int, kills: int, stages: list[str], seed: int) -> None:
    """Trains twice, once with so many kills at any moment, and others in the middle of a save."""
    draw = random.Random(seed)
    order = [*stages, *[""] * kills]
    draw.shuffle(order)
    with nursery(data) as runs:
        for name in ("killed", "undisturbed"):
            (folder / name).mkdir()
            for stage in order if name == "killed" else ():
                if stage:
                    kill_in_a_save(runs, folder / name, stage, draw, epochs=epochs)
                else:
                    kill_at_any_moment(runs, folder / name, draw, epochs=epochs)
            runs.start(folder / name, epochs, 2)
            assert runs.read("ended") == 0
            assert sorted(path.name for path in (folder / name).iterdir()) == ["model", "state"]
    assert (folder / "killed" / "model").read_bytes() == (folder / "undisturbed" / "model").read_bytes()


@pytest.mark.slow
def test_many_kills(small_mnist: Path, tmp_path: Path) -> None:
    """24 SIGKILLs, 9 of them in the middle of a save. Six epochs have 500 steps or so, more than 15 * 25 + 9 * 10."""
    expect_undisturbed_bits(tmp_path, small_mnist, 6, 15, ["written", "renaming", "renamed"] * 3, seed=2)
