"""Adam, with the penalty on the weights in the gradient or decoupled from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastlenet.nn import Sequential
from fastlenet.optim.base import DECAY, SIZE, Array, Optimizer, expect

__all__ = ["Adam", "AdamW"]


class AdamW(Optimizer):
    """Adam with decoupled weight decay; ops.adam_step has the rule. Source: Loshchilov & Hutter 2019.

    betas: the decay of the mean gradient and of the mean square, each in [0, 1). eps: added to the root of the mean square.
    """

    def __init__(
        self,
        model: Sequential,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(model, lr, weight_decay)
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{type(self).__name__}: betas expects two numbers in [0, 1), got {betas!r}")
        self.betas = self._convert("betas[0]", betas[0], DECAY), self._convert("betas[1]", betas[1], DECAY)
        self.eps = self._convert("eps", eps, SIZE)
        self.buffers.update(first_moment=self._zeros(), second_moment=self._zeros())

    def expect_state(self, state: Mapping[str, Array]) -> None:
        super().expect_state(state)
        least = np.min(state["second_moment"], initial=0.0)
        expect(least >= 0, type(self).__name__, "second_moment", "a mean of squares, none below 0", float(least))

    def step(self, average: Array | None = None, decay: float = 0.0) -> None:
        self._step(self.model.gradient_buffer, self.weight_decay, average, decay)

    def _step(self, gradients: Array, decoupled: float, average: Array | None, decay: float) -> None:
        self.model.ops.adam_step(
            self.model.parameter_buffer,
            gradients,
            self.buffers["first_moment"],
            self.buffers["second_moment"],
            step=self.steps + 1,
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=self.eps,
            weight_decay=decoupled,
            average=average,
            decay=decay,
        )
        self.steps += 1


class Adam(AdamW):
    """Adam; ops.adam_step has the rule. weight_decay * parameter is added to the gradient. Source: Kingma & Ba 2015.

    betas, eps: as of AdamW.
    """

    def __init__(
        self,
        model: Sequential,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(model, lr, betas, eps, weight_decay)
        self._penalised: Array | None = self._zeros() if self.weight_decay else None

    def step(self, average: Array | None = None, decay: float = 0.0) -> None:
        gradients = self.model.gradient_buffer
        if self.weight_decay:  # which may have been changed since
            if self._penalised is None:
                self._penalised = self._zeros()
            self._penalised[...] = gradients
            self.model.ops.sgd_step(self._penalised, self.model.parameter_buffer, None, lr=-self.weight_decay)
            gradients = self._penalised
        self._step(gradients, 0.0, average, decay)
