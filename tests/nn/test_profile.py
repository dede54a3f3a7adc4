"""The profile of a training step: every op has its own time, and all of them with Python's explain the whole."""

from __future__ import annotations

import copy
import pickle
import re
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, SupportsFloat

import numpy as np
import pytest

from fastlenet import LeNet, fit, ops, profiling
from fastlenet.backend import OPS, Uncaptured
from fastlenet.data import Dataset
from fastlenet.profiling import Profiler
from fastlenet.training.callbacks.step_times import StepTimes
from fastlenet.training.trainer import Trainer

STEPS = 40


class _Replay(ModuleType):
    """A backend whose ops compute once for each shape of their first argument, and then return that again: Python alone.

    Each passes over 2 MB instead, so that Python finds as little in the caches as between real ops; `seconds` has that time.
    """

    Graph = Uncaptured

    def __init__(self) -> None:
        super().__init__("replay")
        self.name = "replay"
        self.seconds = 0.0
        self._memory = np.zeros(2**18)

    def __getattr__(self, name: str) -> Any:
        function = getattr(ops, name)
        if name not in OPS or name == "inverse_root":
            return function
        results: dict[Any, Any] = {}

        def run(*arguments: Any, **options: Any) -> Any:
            key = arguments[0].shape
            if key not in results:
                results[key] = function(*arguments, **options)
            start = time.perf_counter()
            self._memory += 1
            self.seconds += time.perf_counter() - start
            return results[key]

        setattr(self, name, run)
        return run


class _PythonTimes(StepTimes):
    """The seconds of the steps without those of the replayed ops."""

    def __init__(self, replay: _Replay) -> None:
        super().__init__()
        self._replay = replay

    def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
        super().batch(trainer, loss, images)
        if trainer.state.position == 1:
            self._replay.seconds = 0.0
        elif trainer.state.position == trainer.state.batches:
            self.seconds -= self._replay.seconds


@pytest.mark.slow  # since it compares times
def test_ops_and_python_explain_the_step(mnist: Dataset) -> None:
    """The ops' times, and Python's, measured by itself with ops that do nothing, add up to the whole step within 5 %.

    The two runs take turns; a machine that is shared may slow one of them down, but not in each of five attempts.
    """
    images = 128 * (STEPS + 1)
    small = (mnist.train_images[:images], mnist.train_labels[:images], mnist.test_images[:1], mnist.test_labels[:1])
    data = Dataset("MNIST", *small, 10, mean=mnist.mean, std=mnist.std)
    gaps = []
    for _ in range(5):
        profiler, replay = Profiler(), _Replay()
        whole, python = StepTimes(profiler), _PythonTimes(replay)
        fit(LeNet(ops=profiler), data, epochs=1, batch_size=128, callbacks=(whole,))
        fit(LeNet(ops=replay), data, epochs=1, batch_size=128, callbacks=(python,))
        explained = sum(line.seconds for line in whole.lines.values()) + python.seconds
        gaps.append(explained / whole.seconds - 1)
        if abs(gaps[-1]) < 0.05:
            return
    pytest.fail(f"the parts differ from the whole step by {gaps}")


def test_every_step_is_timed_op_by_op() -> None:
    """Though the arrays are the same, of which a model would else repeat the ops without calling them."""
    profiler = Profiler()
    model, x, dy = LeNet(ops=profiler), ops.empty((4, 1, 28, 28)), ops.empty((4, 10))
    x.fill(1)
    dy.fill(1)
    for _ in range(5):
        model(x)
        model.backward(dy)
    calls = {name: line.calls for name, line in profiler.lines.items()}
    assert calls.pop("profiler") == 5 * len(calls) == 50 and set(calls.values()) == {5}, calls


def test_every_op_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only ops and the caller move: what each took is its line's, the rest is Python's, all is the whole."""
    now = 100.0

    def work(seconds: float) -> Callable[..., None]:
        def run(*arguments: Any) -> None:
            nonlocal now
            now += seconds

        return run

    backend = ModuleType("backend")
    backend.name = "backend"
    backend.relu_forward, backend.relu_backward = work(0.25), work(0.5)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    profiler, x = Profiler(backend), ops.empty((2, 3))
    for _ in range(4):
        profiler.relu_forward(x)
        profiler.relu_backward(x, x)
        now += 0.25
    assert {name: (line.calls, line.seconds) for name, line in profiler.lines.items()} == {
        "relu_forward 3": (4, 1.0),
        "relu_backward 3": (4, 2.0),
        "profiler": (8, 0.0),
    }
    monkeypatch.undo()
    rows = re.findall(r"^(\S.*?) +(\d+\.\d) +(\d+\.\d)%$", profiling.profile_table(profiler.lines, 4.0), re.MULTILINE)
    assert rows == [
        ("relu_forward 3", "250000.0", "25.0"),
        ("profiler", "0.0", "0.0"),
        ("relu_backward 3", "500000.0", "50.0"),
        ("Python", "250000.0", "25.0"),
        ("whole step", "1000000.0", "100.0"),
    ]


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda profiler: pickle.loads(pickle.dumps(profiler))], ids=["copied", "pickled"]
)
def test_a_profiler_can_be_copied(again: Callable[[Profiler], Profiler]) -> None:
    profiler = Profiler()
    profiler.relu_forward(ops.empty((2, 3)))
    other = again(profiler)
    assert other.name == "cpu" and other.lines == profiler.lines and other.lines is not profiler.lines
    other.relu_forward(ops.empty((2, 3)))
    assert [one.lines["relu_forward 3"].calls for one in (profiler, other)] == [1, 2]
