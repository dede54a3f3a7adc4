"""The linear layer."""

from __future__ import annotations

from fastlenet.backend import Array, Shape
from fastlenet.nn.context import Context
from fastlenet.nn.layers.base import FLAG, SIZE, Layer, MisfitError, gradient_outputs

__all__ = ["Linear"]


class Linear(Layer):
    """y = x @ weight.T + bias. x: (n, in_features) -> (n, out_features). weight: (out_features, in_features)."""

    calls_only_ops = True
    packs = ("weight",)
    has_bf16 = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features: int = SIZE.convert("Linear: in_features", in_features)
        self.out_features: int = SIZE.convert("Linear: out_features", out_features)
        self.bias: bool = FLAG.convert("Linear: bias", bias)

    def shapes(self) -> dict[str, Shape]:
        return {"weight": (self.out_features, self.in_features)} | ({"bias": (self.out_features,)} if self.bias else {})

    def fan_in(self) -> int:
        return self.in_features

    def output_shape(self, shape: Shape) -> Shape:
        if shape != (self.in_features,):
            raise MisfitError(str(self.in_features), shape)
        return (self.out_features,)

    def multiply_adds(self, shape: Shape) -> int:
        return self.in_features * self.out_features

    def forward(self, x: Array, context: Context) -> Array:
        y = context.output((len(x), *self.output_shape(x.shape[1:])))
        bias = context.parameter("bias") if self.bias else None
        context.save(x)
        return context.ops.linear_forward(x, context.weight("weight"), bias, out=y)

    def backward(self, dy: Array, context: Context) -> Array | None:
        (x,) = context.saved
        out = gradient_outputs(x, context, self.bias)
        return context.ops.linear_backward(dy, x, context.parameter("weight"), need_dx=context.need_dx, out=out)[0]
