"""What all optimizers share: a learning rate, a count of steps, and a state that a checkpoint can hold."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

import numpy as np

from fastlenet.backend import Array
from fastlenet.fields import T, Values
from fastlenet.formats.state import expect_arrays
from fastlenet.nn import Sequential

__all__ = ["DECAY", "FLAG", "POSITIVE", "SIZE", "Array", "Optimizer", "expect"]


SIZE = Values(float, "a non-negative number", 0, sys.float_info.max)
POSITIVE = Values(float, "a positive number", 0, sys.float_info.max, above=True)
DECAY = Values(float, "a number in [0, 1)", 0, 1, below=True)
FLAG = Values(bool)


def expect(condition: bool, optimizer: str, name: str, expected: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{optimizer}: {name} expects {expected}, got {value!r}")


class Optimizer:
    """The base class of the optimizers: a learning rate, a count of steps, and state that a checkpoint can hold.

    model: the nn.Sequential to train. lr: the learning rate of the next step; you may change it between steps.
    weight_decay: adds weight_decay * parameter to the gradient, or to the step where it is decoupled (AdamW).
    steps: the number of steps done. buffers: the state, flat float32 arrays by name.
    Raises TypeError or ValueError, which names the argument, for a wrong model, type or range.

    A copy or a pickle contains the model too. Copy both in one call, deepcopy((model, optimizer)), so that the new optimizer
    belongs to the new model.
    """

    lr: float

    def __init__(self, model: Sequential, lr: float, weight_decay: float) -> None:
        if not isinstance(model, Sequential):
            name, got = type(self).__name__, type(model).__name__
            cure = (
                f"; pass the model itself, as {name}(model)"
                if isinstance(model, Iterable) and not isinstance(model, str)
                else ""
            )
            raise TypeError(f"{name}: model expects an nn.Sequential, got {got}{cure}")
        self.model = model
        self.lr, self.weight_decay = self._convert("lr", lr, SIZE), self._convert("weight_decay", weight_decay, SIZE)
        self.steps = 0
        self.buffers: dict[str, Array] = {}

    def _convert(self, name: str, value: object, values: Values[T]) -> T:
        """The argument as a plain Python value. Raises an error that names the optimizer and the argument."""
        return values.convert(f"{type(self).__name__}: {name}", value)

    def _zeros(self) -> Array:
        buffer: Array = self.model.ops.empty(self.model.parameter_buffer.shape)
        buffer.fill(0)
        return buffer

    def step(self, average: Array | None = None, decay: float = 0.0) -> None:
        """Update the parameters with the gradients of the last backward pass.

        average: None, or a flat buffer that becomes decay * average + (1 - decay) * parameters in the same pass over memory.
        """
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Does nothing. It exists for loops that come from PyTorch: here a backward pass replaces the gradients, and never adds
        to them.
        """

    def state_dict(self) -> dict[str, Array]:
        """The state that load_state_dict accepts: the flat buffers by name, not copied, and "steps", int64 (1,)."""
        return {**self.buffers, "steps": np.array([self.steps], np.int64)}

    def expect_state(self, state: Mapping[str, Array]) -> None:
        """Check a state before load_state_dict: it must have the names, shapes and dtypes of state_dict(), and finite numbers.

        Raises ValueError, which names the buffer, or TypeError if the state is no mapping.
        """
        name = type(self).__name__
        if not isinstance(state, Mapping):
            raise TypeError(f"{name}: state expects a mapping from names to arrays, got {type(state).__name__}")
        expect_arrays(f"{name}: state", state, self.state_dict())
        steps = int(state["steps"][0])
        expect(steps >= 0, name, "steps", "a count", steps)

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Copy in a state. If it is wrong, raises the error of expect_state and changes nothing."""
        self.expect_state(state)
        for name, buffer in self.buffers.items():
            buffer[...] = state[name]
        self.steps = int(state["steps"][0])

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        kept, self.buffers = self.buffers, {}
        for name, array in kept.items():  # NumPy does not keep the alignment
            self.buffers[name] = self._zeros()
            self.buffers[name][...] = array
