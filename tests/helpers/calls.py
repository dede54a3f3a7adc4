"""One call of every op."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from fastlenet import reference
from helpers.arrays import Array, integers


class Call(NamedTuple):
    """An op's arrays, which have a batch or are flat, and its other arguments; both by name."""

    arrays: dict[str, Array]
    options: Mapping[str, Any] = MappingProxyType({})
    in_place: tuple[str, ...] = ()


def make_calls(n: int) -> dict[str, Call]:
    """One call of every op."""
    rng = np.random.default_rng(5)
    x, weight, bias = integers(rng, (n, 3, 6, 5)), integers(rng, (4, 3, 3, 2)), integers(rng, (4,))
    rows, matrix = integers(rng, (n, 6)), integers(rng, (5, 6))
    _, indices = reference.max_pool2d_forward(x, 2)
    _, winners = reference.conv2d_relu_max_pool2d_forward(x, weight, bias)
    flat = {
        name: np.abs(integers(rng, (9,))) for name in ("parameters", "gradients", "velocity", "first_moment", "second_moment")
    }
    moments = {name: flat[name] for name in ("parameters", "gradients", "first_moment", "second_moment")}
    sgd = {name: flat[name] for name in ("parameters", "gradients", "velocity")}
    return {
        "conv2d_forward": Call({"x": x, "weight": weight, "bias": bias}),
        "conv2d_backward": Call({"dy": integers(rng, (n, 4, 4, 4)), "x": x, "weight": weight}),
        "max_pool2d_forward": Call({"x": x}, {"kernel_size": 2}),
        "max_pool2d_backward": Call({"dy": integers(rng, (n, 3, 3, 2)), "indices": indices}, {"x_shape": x.shape}),
        "conv2d_relu_max_pool2d_forward": Call({"x": x, "weight": weight, "bias": bias}),
        "conv2d_relu_max_pool2d_backward": Call(
            {"dy": integers(rng, (n, 4, 2, 2)), "winners": winners, "x": x, "weight": weight}
        ),
        "linear_forward": Call({"x": rows, "weight": matrix, "bias": integers(rng, (5,))}),
        "linear_backward": Call({"dy": integers(rng, (n, 5)), "x": rows, "weight": matrix}),
        "relu_forward": Call({"x": rows}),
        "relu_backward": Call({"dy": rows, "y": integers(rng, (n, 6))}),
        "sigmoid_forward": Call({"x": rows}),
        "sigmoid_backward": Call({"dy": rows, "y": integers(rng, (n, 6))}),
        "dropout_forward": Call({"x": rows}, {"rate": 0.25, "seed": 3, "counter": 4}),
        "dropout_backward": Call({"dy": rows, "mask": integers(rng, (n, 6))}),
        "softmax_cross_entropy": Call({"logits": rows}, {"labels": rng.integers(0, 6, n)}),
        "squared_error": Call({"prediction": rows, "target": integers(rng, (n, 6))}),
        "gather_images": Call(
            {"images": rng.integers(0, 256, (7, 4, 5), np.uint8), "transform": integers(rng, (n, 2, 3))},
            {"index": rng.integers(0, 7, n), "mean": 0.5, "std": 0.25},
        ),
        "sgd_step": Call(sgd, {"lr": 0.5, "momentum": 0.5}, ("parameters", "velocity")),
        "adam_step": Call(moments, {"step": 2, "lr": 0.5}, ("parameters", "first_moment", "second_moment")),
        "ema_step": Call({"average": flat["velocity"], "parameters": flat["parameters"]}, {"decay": 0.75}, ("average",)),
    }


CALLS = make_calls(3)
RETURNING = [name for name, call in CALLS.items() if not call.in_place]
IN_PLACE = [name for name, call in CALLS.items() if call.in_place]


def run(module: ModuleType, name: str, arrays: dict[str, Any], call: Call, **options: Any) -> Any:
    return getattr(module, name)(**arrays, **call.options, **options)


def arrays_of(result: Any) -> list[Array]:
    """The arrays that an op returned, without the loss of the losses."""
    results = result if isinstance(result, tuple) else (result,)
    return [value for value in results if isinstance(value, np.ndarray)]
