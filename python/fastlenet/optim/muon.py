"""Muon: orthogonal steps."""

from __future__ import annotations

from fastlenet.backend import Array
from fastlenet.nn import Sequential
from fastlenet.optim.base import FLAG, POSITIVE, SIZE, Optimizer

__all__ = ["Muon"]


class Muon(Optimizer):
    """Orthogonalised momentum for the convolutions' weights, as matrices (k, c*r*s); SGD for all other parameters.

    lr, momentum (above 0), nesterov, weight_decay: as for SGD.
    matrix_lr: the learning rate of the matrices at the lr given here. If lr changes later, it changes in proportion.
    A step moves a matrix by matrix_lr * sqrt(max(1, rows / columns)) times a nearly orthogonal matrix; the size of the gradient
    does not matter. Source: Jordan et al. 2024.
    """

    def __init__(
        self,
        model: Sequential,
        lr: float = 0.01,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        *,
        matrix_lr: float = 0.02,
    ) -> None:
        super().__init__(model, lr, weight_decay)
        self.momentum, self.nesterov = (
            self._convert("momentum", momentum, POSITIVE),
            self._convert("nesterov", nesterov, FLAG),
        )
        self._ratio = self._convert("matrix_lr", matrix_lr, SIZE) / self.lr if self.lr else 0.0
        self.buffers["velocity"] = self._zeros()
        self._matrices: list[tuple[int, int, int]] = []  # (begin, rows, columns) in the flat buffers
        end = 0
        for array in model.parameters().values():
            if array.ndim == 4:
                self._matrices.append((end, len(array), array.size // max(1, len(array))))
            end += array.size

    def step(self, average: Array | None = None, decay: float = 0.0) -> None:
        self.model.ops.muon_step(
            self.model.parameter_buffer,
            self.model.gradient_buffer,
            self.buffers["velocity"],
            matrices=self._matrices,
            lr=self.lr,
            matrix_lr=self.lr * self._ratio,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            average=average,
            decay=decay,
        )
        self.steps += 1
