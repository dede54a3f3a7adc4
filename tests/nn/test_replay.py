"""The replay: whatever was done to a model before, its next pass has the bits of a new model's with the same parameters.

A training pass is captured and repeated below Python. The machine below does everything that a captured pass could miss, in any
order, and compares each result with that of a model that has never run.
"""

from __future__ import annotations

import copy
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fastlenet import _core, config, get_num_threads, ops, optim, set_num_threads
from fastlenet.nn import Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential, Tanh
from fastlenet.nn.frozen import Frozen
from fastlenet.nn.passes import Settings, TrainingPasses
from helpers.arrays import Array
from helpers.expect import expect_same_bits

SHAPE = (4, 12, 12)
NETWORKS = {  # captured as a whole; with dropout's counter, which each launch renews; not, because of MaxPool2d alone
    "fused": lambda: (Conv2d(4, 8, 5), ReLU(), MaxPool2d(2), Flatten(), Linear(128, 6), ReLU(), Linear(6, 4)),
    "dropout": lambda: (Conv2d(4, 8, 5), ReLU(), MaxPool2d(2), Flatten(), Dropout(0.5), Linear(128, 4)),
    "plain": lambda: (Conv2d(4, 2, 3, 2), Tanh(), MaxPool2d(2), Flatten(), Linear(8, 5), ReLU(), Linear(5, 4)),
}
LARGEST = 9
SEEDS = st.integers(0, 2**32 - 1)


class Replay(RuleBasedStateMachine):
    """model: the one that everything happens to. inputs: arrays that the passes read, so that captured ones find them again."""

    @initialize(network=st.sampled_from(["fused", "fused", "dropout", "plain"]), seed=st.integers(0, 3))
    def make(self, network: str, seed: int) -> None:
        self.network, self.seed, self.last = network, seed, 1
        self.threads, self.level = get_num_threads(), config()["level"]
        self.model = Sequential(*NETWORKS[network](), seed=seed)
        self.optimizer = optim.SGD(self.model, lr=0.05, momentum=0.9)
        rng = np.random.default_rng(seed)
        self.inputs = [rng.standard_normal((n, *SHAPE)).astype(np.float32) for n in (1, 4, 4, LARGEST)]
        self.slopes = [rng.standard_normal((len(x), 4)).astype(np.float32) for x in self.inputs]

    def teardown(self) -> None:
        if hasattr(self, "threads"):
            set_num_threads(self.threads)
            _core.set_level(self.level)

    def new_model(self) -> Sequential:
        """One that has never run, in the state of the model."""
        made = Sequential(*NETWORKS[self.network](), seed=self.seed, algorithm=self.model.algorithm)
        made.load_state_dict({name: array.copy() for name, array in self.model.parameters().items()})
        made.training, made.dropout_counter = self.model.training, self.model.dropout_counter
        return made

    # --- what is compared ---

    @rule(which=st.integers(0, 3), need_dx=st.booleans(), repeat=st.integers(1, 3))
    def run(self, which: int, need_dx: bool, repeat: int) -> None:
        """The same pass up to three times: the first may be captured, the others repeated."""
        self.last = which
        for _ in range(repeat):
            self.compare(self.inputs[which], self.slopes[which], need_dx)

    @rule()
    def run_again(self) -> None:
        """The last pass once more, after whatever was done in between."""
        self.compare(self.inputs[self.last], self.slopes[self.last], need_dx=False)

    @rule(which=st.integers(0, 3), change_slope=st.booleans())
    def run_other_arrays(self, which: int, change_slope: bool) -> None:
        """Of the same shape, after a pass that may have been captured; then those of before."""
        x, dy = self.inputs[which], self.slopes[which]
        for _ in range(2):
            self.compare(x, dy, need_dx=False)
            self.compare(x if change_slope else x + 1, dy + 1, need_dx=False)

    def compare(self, x: Array, dy: Array, need_dx: bool) -> None:
        new = self.new_model()
        expect_same_bits(self.model(x), new(x))
        if not self.model.training:
            return
        got, right = self.model.backward(dy, need_dx=need_dx), new.backward(dy, need_dx=need_dx)
        assert (got is None) == (right is None)
        if got is not None and right is not None:
            expect_same_bits(got, right)
        expect_same_bits(self.model.gradient_buffer, new.gradient_buffer)

    @rule(which=st.integers(0, 3))
    def freeze(self, which: int) -> None:
        """A frozen copy, and what it must still compute after anything that happens to the model."""
        self.frozen, self.same = self.model.freeze(), self.new_model().eval()
        self.run_frozen(which)

    @rule(which=st.integers(0, 3))
    def run_frozen(self, which: int) -> None:
        if hasattr(self, "frozen"):
            for _ in range(2):
                expect_same_bits(self.frozen(self.inputs[which]), self.same(self.inputs[which]))

    @rule(which=st.integers(0, 3))
    def run_in_a_thread(self, which: int) -> None:
        """The next pass in another thread, while this one runs a model of its own."""
        with ThreadPoolExecutor(1) as pool:
            compared = pool.submit(self.compare, self.inputs[which], self.slopes[which], True)
            mine = Sequential(*NETWORKS[self.network](), seed=self.seed)
            for _ in range(3):
                mine(self.inputs[1])
                mine.backward(self.slopes[1])
            compared.result()

    # --- what a captured pass could miss ---

    @rule(which=st.integers(0, 3), seed=SEEDS)
    def change_input(self, which: int, seed: int) -> None:
        self.inputs[which][...] = np.random.default_rng(seed).standard_normal(self.inputs[which].shape)
        self.slopes[which][...] = np.random.default_rng(seed + 1).standard_normal(self.slopes[which].shape)

    @rule(which=st.integers(0, 3), size=st.integers(0, LARGEST), seed=SEEDS)
    def replace_input(self, which: int, size: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.inputs[which] = rng.standard_normal((size, *SHAPE)).astype(np.float32)
        self.slopes[which] = rng.standard_normal((size, 4)).astype(np.float32)

    @rule(seed=SEEDS)
    def load(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.model.load_state_dict({name: rng.standard_normal(a.shape) for name, a in self.model.parameters().items()})

    @rule(factor=st.sampled_from([0.0, -1.0, 0.5]), whole=st.booleans())
    def change_in_place(self, factor: float, whole: bool) -> None:
        arrays = [self.model.parameter_buffer] if whole else list(self.model.parameters().values())[-2:]
        for array in arrays:
            array *= np.float32(factor)

    @rule()
    def step(self) -> None:
        self.optimizer.step()

    @rule(training=st.booleans())
    def mode(self, training: bool) -> None:
        self.model.train() if training else self.model.eval()
        self.run_again()

    @rule(algorithm=st.sampled_from(["direct", "winograd"]))
    def choose_algorithm(self, algorithm: str) -> None:
        self.model.algorithm = algorithm
        self.run_again()

    @rule(threads=st.integers(1, 3))
    def set_threads(self, threads: int) -> None:
        set_num_threads(threads)

    @rule(level=st.sampled_from(_core.levels_available()))
    def set_level(self, level: str) -> None:
        _core.set_level(level)

    @rule(how=st.sampled_from([copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]))
    def copy(self, how: Any) -> None:
        self.model, self.optimizer = how((self.model, self.optimizer))

    @rule()
    def run_a_copy(self) -> None:
        """What a copy does must not reach the model."""
        other = copy.deepcopy(self.model).train()
        other(self.inputs[0] + 1)
        other.backward(self.slopes[0])
        other.parameter_buffer.fill(7)

    @rule(which=st.integers(0, 3), kind=st.sampled_from(["shape", "dtype", "slope"]))
    def fail(self, which: int, kind: str) -> None:
        x = self.inputs[which]
        wrong = {"shape": x[:, :, :4, :4].copy(), "dtype": x.astype(np.int32), "slope": x}[kind]
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            self.model(wrong)
            self.model.backward(np.zeros((len(x), 5), np.float32))

    @rule(which=st.integers(0, 3), line=st.integers(0, 150))
    def interrupt(self, which: int, line: int) -> None:
        """Ctrl-C at some line of the package within a pass."""
        left = line

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal left
            if "fastlenet" not in frame.f_code.co_filename:
                return None
            if event == "line":
                left -= 1
                if left == -1:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            y = self.model(self.inputs[which])
            if self.model.training:
                self.model.backward(y)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)

    @rule(counter=st.integers(0, 2**40))
    def set_dropout_counter(self, counter: int) -> None:
        self.model.dropout_counter = counter

    @invariant()
    def finite(self) -> None:
        """Steps may not blow the parameters up, or all results would be NaN."""
        if hasattr(self, "model") and not np.abs(self.model.parameter_buffer).max() < 1e3:
            self.model.parameter_buffer.fill(0.25)


def run_machine(examples: int, steps: int, **options: Any) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    chosen = settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, **options)
    run_state_machine_as_test(Replay, settings=chosen)


def test_any_order() -> None:
    run_machine(60, 25)


@pytest.mark.slow
def test_any_long_order() -> None:
    """`nox -s long -- replay` asks for 1,000 of them; 60 take half a minute."""
    run_machine(int(os.environ.get("FASTLENET_REPLAYS", "60")), 60)


@pytest.mark.parametrize("network", NETWORKS)
def test_ctrl_c_at_each_line(network: str) -> None:
    """The next pass is a new model's: also after Ctrl-C at the last line of a pass, which takes back its mark of running."""
    machine = Replay()
    machine.make(network=network, seed=1)
    machine.run(which=1, need_dx=False, repeat=2)
    for line in range(150):
        machine.interrupt(which=1, line=line)
        machine.compare(machine.inputs[1], machine.slopes[1], need_dx=False)


def key_without_algorithm(self: TrainingPasses, x: Array, settings: Settings) -> tuple[object, ...]:
    return settings.ops, x.shape


def reads_anything(self: Any, *arrays: Array) -> bool:
    return True


def keeps_the_parameters(self: Sequential) -> Any:
    """A frozen copy with the model's own parameters."""
    return Frozen(self._steps, self._parameters, self.ops, self.algorithm)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "name", "planted"),
    [
        (TrainingPasses, "_key", key_without_algorithm),
        (ops.Graph, "reads", reads_anything),
        (Sequential, "freeze", keeps_the_parameters),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_planted_fault_is_found(owner: Any, name: str, planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults of the key, of the arrays that a captured pass reads, and of a frozen copy."""
    monkeypatch.setattr(owner, name, planted)
    with pytest.raises(AssertionError):
        run_machine(1000, 25, report_multiple_bugs=False, phases=[Phase.generate])
