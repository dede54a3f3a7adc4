"""Stochastic gradient descent."""

from __future__ import annotations

from fastlenet.backend import Array
from fastlenet.nn import Sequential
from fastlenet.optim.base import FLAG, SIZE, Optimizer, expect

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent with momentum; ops.sgd_step has the rule. Source: Sutskever et al. 2013.

    momentum: at least 0. nesterov: needs momentum above 0.
    """

    def __init__(
        self,
        model: Sequential,
        lr: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(model, lr, weight_decay)
        self.momentum = self._convert("momentum", momentum, SIZE)
        self.nesterov = self._convert("nesterov", nesterov, FLAG)
        expect(not self.nesterov or self.momentum > 0, "SGD", "nesterov", "momentum above 0", momentum)
        if self.momentum:
            self.buffers["velocity"] = self._zeros()

    def step(self, average: Array | None = None, decay: float = 0.0) -> None:
        self.model.ops.sgd_step(
            self.model.parameter_buffer,
            self.model.gradient_buffer,
            self.buffers.get("velocity"),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            average=average,
            decay=decay,
        )
        self.steps += 1
