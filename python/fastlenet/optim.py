"""Optimizers: one call of an op per step, on the model's flat buffers. PyTorch's names and rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.nn import Sequential

__all__ = ["SGD", "AdamW", "Optimizer"]

Array = npt.NDArray[Any]


def _expect(condition: bool, optimizer: str, name: str, expected: str, value: Any) -> None:
    if not condition:
        raise ValueError(f"{optimizer}: {name} expects {expected}, got {value!r}")


class Optimizer:
    """What a checkpoint asks of an optimizer: its rate, its steps and its state, flat buffers and counters by name."""

    lr: float

    def __init__(self, model: Sequential, lr: float, weight_decay: float) -> None:
        name = type(self).__name__
        _expect(lr >= 0, name, "lr", "a non-negative number", lr)
        _expect(weight_decay >= 0, name, "weight_decay", "a non-negative number", weight_decay)
        self.model, self.lr, self.weight_decay = model, lr, weight_decay
        self.steps = 0
        self.buffers: dict[str, Array] = {}

    def _zeros(self) -> Array:
        buffer: Array = self.model.ops.empty(self.model.parameter_buffer.shape)
        buffer.fill(0)
        return buffer

    def step(self) -> None:
        """Change the parameters by the gradients of the last backward pass."""
        raise NotImplementedError

    def state(self) -> dict[str, Array]:
        """The state's flat buffers by name, live, and "steps": all that load_state needs to go on."""
        return {**self.buffers, "steps": np.array([self.steps], np.int64)}

    def load_state(self, state: dict[str, Array]) -> None:
        """Copy in a state; ValueError if its names or sizes are not this optimizer's."""
        expected = {name: array.shape for name, array in self.state().items()}
        got = {name: array.shape for name, array in state.items()}
        if expected != got:
            raise ValueError(f"{type(self).__name__}: state expects {expected}, got {got}")
        for name, buffer in self.buffers.items():
            buffer[...] = state[name]
        self.steps = int(state["steps"][0])


class SGD(Optimizer):
    """Stochastic gradient descent with momentum; see ops.sgd_step. Source: Sutskever et al. 2013."""

    def __init__(
        self,
        model: Sequential,
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(model, lr, weight_decay)
        _expect(momentum >= 0, "SGD", "momentum", "a non-negative number", momentum)
        _expect(not nesterov or momentum > 0, "SGD", "nesterov", "momentum above 0", momentum)
        self.momentum, self.nesterov = momentum, nesterov
        if momentum:
            self.buffers["velocity"] = self._zeros()

    def step(self) -> None:
        self.model.ops.sgd_step(
            self.model.parameter_buffer,
            self.model.gradient_buffer,
            self.buffers.get("velocity"),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )
        self.steps += 1


class AdamW(Optimizer):
    """Adam with decoupled weight decay; see ops.adam_step. Source: Loshchilov & Hutter 2019."""

    def __init__(
        self,
        model: Sequential,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(model, lr, weight_decay)
        _expect(all(0 <= beta < 1 for beta in betas), "AdamW", "betas", "two numbers in [0, 1)", betas)
        _expect(eps >= 0, "AdamW", "eps", "a non-negative number", eps)
        self.betas, self.eps = betas, eps
        self.buffers.update(first_moment=self._zeros(), second_moment=self._zeros())

    def step(self) -> None:
        self.steps += 1
        self.model.ops.adam_step(
            self.model.parameter_buffer,
            self.model.gradient_buffer,
            self.buffers["first_moment"],
            self.buffers["second_moment"],
            step=self.steps,
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=self.eps,
            weight_decay=self.weight_decay,
        )
