"""Optimizers with PyTorch's names and rules. A step calls ops on the model's flat buffers."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.fields import T, Values
from fastlenet.nn import Sequential
from fastlenet.nn.state import expect_arrays

__all__ = ["SGD", "AdamW", "Muon", "Optimizer"]

Array = npt.NDArray[Any]


_SIZE = Values(float, "a non-negative number", 0, sys.float_info.max)
_POSITIVE = Values(float, "a positive number", 0, sys.float_info.max, above=True)
_DECAY = Values(float, "a number in [0, 1)", 0, 1, below=True)
_FLAG = Values(bool)


def _expect(condition: bool, optimizer: str, name: str, expected: str, value: Any) -> None:
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
            raise TypeError(f"{type(self).__name__}: model expects an nn.Sequential, got {type(model).__name__}")
        self.model = model
        self.lr, self.weight_decay = self._convert("lr", lr, _SIZE), self._convert("weight_decay", weight_decay, _SIZE)
        self.steps = 0
        self.buffers: dict[str, Array] = {}

    def _convert(self, name: str, value: object, values: Values[T]) -> T:
        """The argument as a plain Python value. Raises an error that names the optimizer and the argument."""
        return values.convert(f"{type(self).__name__}: {name}", value)

    def _zeros(self) -> Array:
        buffer: Array = self.model.ops.empty(self.model.parameter_buffer.shape)
        buffer.fill(0)
        return buffer

    def step(self) -> None:
        """Update the parameters with the gradients of the last backward pass."""
        raise NotImplementedError

    def state(self) -> dict[str, Array]:
        """The state that load_state accepts: the flat buffers by name, not copied, and "steps", int64 (1,)."""
        return {**self.buffers, "steps": np.array([self.steps], np.int64)}

    def expect_state(self, state: Mapping[str, Array]) -> None:
        """Check a state before load_state: it must have the names, shapes and dtypes of state(), and finite numbers.

        Raises ValueError, which names the buffer, or TypeError if the state is no mapping.
        """
        name = type(self).__name__
        if not isinstance(state, Mapping):
            raise TypeError(f"{name}: state expects a mapping from names to arrays, got {type(state).__name__}")
        expect_arrays(f"{name}: state", state, self.state())
        steps = int(state["steps"][0])
        _expect(steps >= 0, name, "steps", "a count", steps)

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Copy in a state. If it is wrong, raises the error of expect_state and changes nothing."""
        self.expect_state(state)
        for name, buffer in self.buffers.items():
            buffer[...] = state[name]
        self.steps = int(state["steps"][0])

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, buffers={})
        for name, array in state["buffers"].items():  # NumPy does not keep the alignment
            self.buffers[name] = self._zeros()
            self.buffers[name][...] = array


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
        self.momentum = self._convert("momentum", momentum, _SIZE)
        self.nesterov = self._convert("nesterov", nesterov, _FLAG)
        _expect(not self.nesterov or self.momentum > 0, "SGD", "nesterov", "momentum above 0", momentum)
        if self.momentum:
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
            raise TypeError(f"AdamW: betas expects two numbers in [0, 1), got {betas!r}")
        self.betas = self._convert("betas[0]", betas[0], _DECAY), self._convert("betas[1]", betas[1], _DECAY)
        self.eps = self._convert("eps", eps, _SIZE)
        self.buffers.update(first_moment=self._zeros(), second_moment=self._zeros())

    def expect_state(self, state: Mapping[str, Array]) -> None:
        super().expect_state(state)
        least = np.min(state["second_moment"], initial=0.0)
        _expect(least >= 0, "AdamW", "second_moment", "a mean of squares, none below 0", float(least))

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


# Five rounds of the quintic a*x + b*x^3 + c*x^5 bring singular values in (0, 1] near 1.
_QUINTIC = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


class _Orthogonaliser:
    """Replaces a matrix (rows, columns) by a nearly orthogonal one with the same singular vectors. Keeps its buffers.

    It is the Newton-Schulz iteration X <- a*X + (b*G + c*G*G) X with G = X X^T, starting from X with a Frobenius norm of 1.
    """

    def __init__(self, ops: Any, rows: int, columns: int) -> None:
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
            self._convert("momentum", momentum, _POSITIVE),
            self._convert("nesterov", nesterov, _FLAG),
        )
        self._ratio = self._convert("matrix_lr", matrix_lr, _SIZE) / self.lr if self.lr else 0.0
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

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_matrices", "_rest")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share_out()

    def step(self) -> None:
        ops, velocity = self.model.ops, self.buffers["velocity"]
        parameters, gradients = self.model.parameter_buffer, self.model.gradient_buffer
        rule: dict[str, Any] = {"momentum": self.momentum, "nesterov": self.nesterov}
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
