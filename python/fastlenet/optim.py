"""Optimizers: one call of an op per step, on the model's flat buffers. PyTorch's names and rules."""

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
    """What a checkpoint asks of an optimizer: its rate, its steps and its state, flat buffers and counters by name.

    A copy or a pickle has its model with it: copy both in one call, deepcopy((model, optimizer)), to have the copies belong
    together.
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
        """An argument's value; the error for a wrong one names the optimizer and the argument."""
        return values.convert(f"{type(self).__name__}: {name}", value)

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

    def expect_state(self, state: Mapping[str, Array]) -> None:
        """ValueError, which names the buffer, unless load_state can take the state: same names, shapes and dtypes, finite."""
        name = type(self).__name__
        if not isinstance(state, Mapping):
            raise TypeError(f"{name}: state expects a mapping from names to arrays, got {type(state).__name__}")
        expect_arrays(f"{name}: state", state, self.state())
        steps = int(state["steps"][0])
        _expect(steps >= 0, name, "steps", "a count", steps)

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Copy in a state. Raises ValueError and then changes nothing; see expect_state."""
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


# The quintic a*x + b*x^3 + c*x^5 that takes the singular values of a matrix from (0, 1] to near 1 in five rounds.
_QUINTIC = 3.4445, -4.7750, 2.0315
_ROUNDS = 5


class _Orthogonaliser:
    """Replaces a matrix (rows, columns) by a nearly orthogonal one of the same singular vectors; buffers kept between calls.

    The Newton-Schulz iteration X <- a*X + (b*G + c*G*G) X with G = X X^T, from X scaled to a Frobenius norm of 1.
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
        """Orthogonalise `matrix` in place; one of zeros stays."""
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
    """Orthogonalised momentum for the weights of the convolutions, as matrices (k, c*r*s); SGD for everything else.

    matrix_lr is the rate of the former when lr is as given here, and follows it in proportion. A matrix moves by
    matrix_lr * sqrt(max(1, rows / columns)) times a nearly orthogonal one, whatever the size of its gradient.
    Source: Jordan et al. 2024.
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
        """Which parts of the buffers are matrices, with what makes them orthogonal, and which are not."""
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
