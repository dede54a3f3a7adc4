"""Muon: orthogonal steps."""

from __future__ import annotations

import math
from typing import TypedDict

from fastlenet.backend import Array, Backend
from fastlenet.nn import Sequential
from fastlenet.optim.base import FLAG, POSITIVE, SIZE, Optimizer

__all__ = ["Muon"]


# Five rounds of the quintic a*x + b*x^3 + c*x^5 bring singular values in (0, 1] near 1.
_QUINTIC = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


class _Rule(TypedDict):
    """What both steps of a velocity share."""

    momentum: float
    nesterov: bool


class _Orthogonaliser:
    """Replaces a matrix (rows, columns) by a nearly orthogonal one with the same singular vectors. Keeps its buffers.

    It is the Newton-Schulz iteration X <- a*X + (b*G + c*G*G) X with G = X X^T, starting from X with a Frobenius norm of 1.
    """

    def __init__(self, ops: Backend[Array], rows: int, columns: int) -> None:
        self._ops = ops
        self.matrix, self._product = self._zeros(rows, columns), self._zeros(rows, columns)
        self._gram, self._square = self._zeros(rows, rows), self._zeros(rows, rows)
        self._nothing, self._difference, self._sums = self._zeros(rows, columns), self._zeros(rows, columns), self._zeros(rows)

    def _zeros(self, *shape: int) -> Array:
        buffer: Array = self._ops.empty(shape)
        buffer.fill(0)
        return buffer

    def _mix(self, x: Array, a: float, y: Array, b: float) -> None:
        """x = a*x + b*y, as the step p -= lr * (g + weight_decay * p)."""
        self._ops.sgd_step(x.reshape(-1), y.reshape(-1), None, lr=-b, weight_decay=(a - 1) / b)

    def run(self) -> None:
        """Orthogonalise `matrix` in place; a matrix of zeros stays as it is."""
        ops, x = self._ops, self.matrix
        squares, _ = ops.squared_error(x, self._nothing, out=self._difference)
        a, b, c = _QUINTIC
        self._product.fill(0)
        ops.sgd_step(self._product.reshape(-1), x.reshape(-1), None, lr=ops.inverse_root(squares) * -1.0)
        x[...] = self._product
        for _ in range(_ROUNDS):
            ops.linear_forward(x, x, out=self._gram)
            ops.linear_forward(self._gram, self._gram, out=self._square)  # G = G^T
            self._mix(self._square, c, self._gram, b)
            # dy^T x with dy = b*G + c*G*G, which is symmetric: the product with X.
            ops.linear_backward(self._square, x, x, need_dx=False, out=(None, self._product, self._sums))
            self._mix(x, a, self._product, 1.0)


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
        self._share_out()

    def _share_out(self) -> None:
        """Split the flat buffers into matrices, each with its orthogonaliser, and the rest."""
        model = self.model
        self._matrices: list[tuple[slice, _Orthogonaliser]] = []
        self._rest: list[slice] = []
        start = end = 0
        for array in model.parameters().values():
            end += array.size
            if array.ndim == 4:
                self._matrices.append((slice(end - array.size, end), _Orthogonaliser(model.ops, len(array), array[0].size)))
                self._rest.append(slice(start, end - array.size))
                start = end
        self._rest = [part for part in [*self._rest, slice(start, end)] if part.stop > part.start]

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name not in ("_matrices", "_rest")}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        self._share_out()

    def step(self) -> None:
        ops, velocity = self.model.ops, self.buffers["velocity"]
        parameters, gradients = self.model.parameter_buffer, self.model.gradient_buffer
        rule: _Rule = {"momentum": self.momentum, "nesterov": self.nesterov}
        for part in self._rest:
            ops.sgd_step(parameters[part], gradients[part], velocity[part], lr=self.lr, weight_decay=self.weight_decay, **rule)
        for part, orthogonaliser in self._matrices:
            direction = orthogonaliser.matrix.reshape(-1)
            direction.fill(0)
            ops.sgd_step(direction, gradients[part], velocity[part], lr=-1.0, **rule)
            orthogonaliser.run()
            rows, columns = orthogonaliser.matrix.shape
            lr = self.lr * (self._ratio * math.sqrt(max(1.0, rows / columns)))
            ops.sgd_step(parameters[part], direction, None, lr=lr, weight_decay=self.weight_decay)
        self.steps += 1
