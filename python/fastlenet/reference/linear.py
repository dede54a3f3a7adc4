"""Linear layers."""

from __future__ import annotations

from fastlenet.backend import Array, Gradients
from fastlenet.backend import Packed as PackedWeight
from fastlenet.reference.checks import Call
from fastlenet.reference.packed import Packed

__all__ = ["linear_backward", "linear_forward"]


def _check_linear(call: Call, x: Array, weight: Array) -> None:
    call.rank("x", x, 2)
    call.rank("weight", weight, 2)
    if weight.shape[1] != x.shape[1]:
        raise ValueError(f"{call.op}: weight expects {weight.shape[1]} input features, x has {x.shape[1]} (x shape {x.shape})")


def linear_forward(
    x: Array, weight: Array | PackedWeight[Array], bias: Array | None = None, *, out: Array | None = None
) -> Array:
    call = Call("linear_forward", out)
    if isinstance(weight, Packed):
        weight = weight.weight
    x = call.floats("x", x)
    matrix = call.floats("weight", weight)
    bias = call.optional("bias", bias)
    _check_linear(call, x, matrix)
    y = x @ matrix.T
    if bias is not None:
        call.shape("bias", bias, (matrix.shape[0],))
        y = y + bias
    return call.returns(y)


def linear_backward(
    dy: Array,
    x: Array,
    weight: Array,
    *,
    need_dx: bool = True,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> Gradients[Array]:
    call = Call("linear_backward", out)
    dy = call.floats("dy", dy)
    x = call.floats("x", x)
    weight = call.floats("weight", weight)
    _check_linear(call, x, weight)
    call.shape("dy", dy, (x.shape[0], weight.shape[0]))
    return call.returns_gradients(dy @ weight if need_dx else None, dy.T @ x, dy.sum(axis=0))
