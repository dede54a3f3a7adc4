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
from fastlenet.backend import NAMES
from fastlenet.config import get_num_threads
from fastlenet.data import Dataset
from fastlenet.profiling import Profiler
from fastlenet.training.callbacks.step_times import StepTimes
from fastlenet.training.host_step import HostStep
from fastlenet.training.recipe import Recipe
from fastlenet.training.trainer import Trainer
from helpers.expect import expect_same_bits

STEPS = 40


class _NoWork(ops.Graph):
    """A graph whose launch computes nothing, except while another graph captures it.

    It passes over 2 MB instead, so that Python finds as little in the caches as after a real launch; `seconds` has that time.
    """

    seconds = 0.0
    _memory = np.zeros(2**18)

    def launch(self, **options: Any) -> Any:
        if ops.Graph.recorded():
            return super().launch(**options)
        start = time.perf_counter()
        _NoWork._memory += 1
        _NoWork.seconds += time.perf_counter() - start
        return None


class _PythonTimes(StepTimes):
    """The seconds of the steps without those of the launches."""

    def batch(self, trainer: Trainer, loss: SupportsFloat, images: int) -> None:
        super().batch(trainer, loss, images)
        if trainer.state.position == 1:
            _NoWork.seconds = 0.0
        elif trainer.state.position == trainer.state.batches:
            self.seconds -= _NoWork.seconds


def no_work() -> ModuleType:
    """A backend whose captured steps compute nothing: Python alone."""
    backend = ModuleType("no work")
    vars(backend).update({name: getattr(ops, name) for name in NAMES}, Graph=_NoWork)
    return backend


@pytest.mark.slow  # since it compares times
@pytest.mark.parametrize("optimizer, batch_size", [("sgd", 128), ("muon", 32)])
def test_ops_and_python_explain_the_step(mnist: Dataset, optimizer: str, batch_size: int) -> None:
    """The ops' times in a profiled run, and Python's, measured by itself with launches that do nothing, add up to the step of
    a run without a profiler within 5 %.

    The three runs take turns; a machine that is shared may slow one of them down, but not in each of eight attempts.
    """
    images = batch_size * (STEPS + 1)
    small = (mnist.train_images[:images], mnist.train_labels[:images], mnist.test_images[:1], mnist.test_labels[:1])
    data = Dataset("MNIST", *small, 10, mean=mnist.mean, std=mnist.std)
    gaps = []
    for _ in range(8):
        profiler = Profiler()
        times = StepTimes(profiler), _PythonTimes(), StepTimes()
        for backend, callback in zip((profiler, no_work(), ops), times, strict=True):
            options: Any = {"optimizer": optimizer, "batch_size": batch_size, "epochs": 1, "lr": 1e-6}
            fit(LeNet(ops=backend), data, **options, callbacks=(callback,))
        profiled, python, whole = times
        explained = sum(line.seconds for line in profiled.lines.values()) + python.seconds
        gaps.append(explained / whole.seconds - 1)
        if abs(gaps[-1]) < 0.05:
            return
    pytest.fail(f"the parts differ from the whole step by {gaps}")


def test_a_model_captures_its_passes_and_times_each_op() -> None:
    profiler = Profiler()
    model, x, dy = LeNet(ops=profiler), ops.empty((4, 1, 28, 28)), ops.empty((4, 10))
    x.fill(1)
    dy.fill(1)
    for passes in range(1, 6):
        model(x)
        model.backward(dy)
        lines = profiler.lines
        assert lines.pop("profiler").calls == len(lines) == 10  # only the first pass calls them one by one
        assert {line.calls for line in lines.values()} == {passes}
    profiler.reset()
    assert profiler.lines == {}
    model(x)
    assert {line.calls for line in profiler.lines.values()} == {1} and len(profiler.lines) == 5
    assert all(line.seconds > 0 for line in profiler.lines.values())
    assert [line.flops > 0 for line in profiler.lines.values()] == [True, True, True, False, True]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_profiled_step_is_the_captured_one(precision: str, mnist: Dataset) -> None:
    """Every step is one call of each op, the profiled run has the bits of the others, and its steps are launches."""
    arrays = mnist.train_images[:160], mnist.train_labels[:160], mnist.test_images[:3], mnist.test_labels[:3]
    data = Dataset("MNIST", *arrays, 10, mean=mnist.mean, std=mnist.std)
    recipe = Recipe(epochs=2, batch_size=20, optimizer="muon", precision=precision)
    profiler = Profiler()
    profiled, plain = (Trainer(LeNet.of(recipe, ops=backend), data, recipe) for backend in (profiler, ops))
    times = StepTimes(profiler)
    profiled.run(times)
    plain.run()
    expect_same_bits(profiled.state.model.parameter_buffer, plain.state.model.parameter_buffer)
    step: Any = profiled._step
    assert isinstance(step, HostStep) and any(step._graphs.values())
    assert times.lines.keys() >= {"gather_images 28x28", "softmax_cross_entropy 10", "muon_step", "linear_backward 800"}
    assert {line.calls for line in times.lines.values()} == {7} and "profiler" not in times.lines
    assert sum(line.barriers for line in times.lines.values()) > 0 or get_num_threads() == 1


def test_launches_are_measured_below_python() -> None:
    """Op by op, each with the times that it waited; what ends a launch early has not been launched."""
    x, y = ops.empty((3, 4)), ops.empty((3, 4))
    stop = ops.empty((), np.float64)
    x.fill(1)
    stop.fill(0)

    def function() -> None:
        assert ops.Graph.recorded() == 0
        ops.relu_forward(x, out=y)
        assert ops.Graph.recorded() == 1
        ops.Graph.stop_unless_finite(stop)
        ops.tanh_forward(y, out=x)

    graph = ops.Graph(function)
    assert ops.Graph.recorded() == 0
    graph.launch()
    times = graph.time()
    assert times.shape == (3, 3) and times.dtype == np.float64 and not times.any()
    graph.launch()
    assert times[:, 0].tolist() == [1, 1, 1] and (times[:, 1] > 0).all()
    stop.fill(np.nan)
    graph.launch()
    assert times[:, 0].tolist() == [2, 2, 1]
    again = graph.time()
    graph.launch()
    assert times[:, 0].tolist() == [2, 2, 1] and again[:, 0].tolist() == [1, 1, 0]
    void = ops.Graph(lambda: ops.Graph.void("it is a test"))
    with pytest.raises(RuntimeError, match="it cannot be launched; it is a test"):
        void.time()


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
