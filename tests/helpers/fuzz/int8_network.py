"""Random networks of int8: a call of _core.Int8Network, whose layers' parameters are arguments like any other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastlenet import _core
from fastlenet.testing.description import Array
from fastlenet.testing.values import BATCHES, CHANNELS, Draw

__all__ = ["KINDS", "NETWORK", "PARAMETERS", "generate", "name_of", "run", "wrong_layers"]

Arguments = dict[str, Any]
Layers = tuple[tuple[str, int], ...]  # a method add_... and the number in the names of its arguments

NETWORK = "Int8Network"  # the name of the op

_PRODUCT = ("weight", "bias", "multiplier", "zero_point")
_WINDOWS = ("kernel_size", "stride", "padding")
PARAMETERS: dict[str, tuple[str, ...]] = {
    "conv": (*_PRODUCT, "stride", "padding", "padding_value", "window"),
    "linear": _PRODUCT,
    "max_pool": _WINDOWS,
    "avg_pool": (*_WINDOWS, "zero_point", "multiplier"),
    "table": ("table",),
    "flatten": (),
    "scores": ("scale", "zero_point"),
}
# Of the arguments that are not arrays.
KINDS = {name: "integer" for name in ("c", "h", "w", "zero_point")}
KINDS |= {"multiplier": "number", "scale": "number", "window": "pair", "layers": "layers"}

MOST_PRODUCTS = 400_000  # of a layer, for all images
MULTIPLIERS = (0.0, 1e-45, 1e-39, 0.5, 1.0, 1e30, 3.4028235e38)


def name_of(argument: str) -> str:
    """Without the layer's number."""
    return argument.rpartition(".")[2]


def run(arguments: Arguments, options: Arguments) -> Any:
    network = _core.Int8Network(arguments["c"], arguments["h"], arguments["w"])
    for kind, number in arguments["layers"]:
        getattr(network, f"add_{kind}")(*(arguments[f"{number}.{name}"] for name in PARAMETERS[kind]))
    return network.scores(arguments["images"], options.get("out"))


def wrong_layers(draw: Draw, layers: Layers) -> Layers:
    """One layer less, twice, or in another place; or none at all, or one where there was none."""
    if not layers:
        return (("flatten", 0),)
    at, rest = draw.below(len(layers)), list(layers)
    layer = rest.pop(at)
    to = draw.below(len(layers))
    return draw.pick((tuple(rest), (*rest[:to], layer, *rest[to:]), (*layers[:at], layer, *layers[at:]), (), layers[:1]))


def generate(draw: Draw, values: object) -> Arguments:
    return _Network(draw).arguments


class _Network:
    """Layers that fit, mostly; each is drawn for what comes out of the one before."""

    def __init__(self, draw: Draw) -> None:
        self._draw, self._layers = draw, list[tuple[str, int]]()
        sizes = (1, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17)
        self._n = draw.pick((*BATCHES, 65, 70))
        self._shape: tuple[int, ...] = (draw.pick(CHANNELS) or 3, draw.pick(sizes), draw.pick(sizes))
        self._own: Arguments = {}
        c, h, w = self._shape
        images = self._bytes((self._n, *self._shape))
        for _ in range(draw.pick((0, 1, 1, 1, 2, 2, 3))):
            draw.pick((self._conv, self._conv, self._conv, self._max_pool, self._avg_pool, self._table))()
        if draw.chance(0.97):
            self._add("flatten")
            self._shape = (math.prod(self._shape),)
        self._rows()
        self.arguments = {"images": images, "c": c, "h": h, "w": w, "layers": tuple(self._layers), **self._own}

    def _rows(self) -> None:
        """Linear layers, of which the last gives scores; or bytes as scores."""
        draw = self._draw
        if len(self._shape) == 1:
            for _ in range(draw.pick((0, 0, 1, 2))):
                self._linear(draw.below(256))
                if draw.chance(0.2):
                    self._table()
        if len(self._shape) == 1 and draw.chance(0.7):
            self._linear(None)
        elif draw.chance(0.97):
            self._add("scores", scale=self._number(), zero_point=draw.below(256))

    def _add(self, kind: str, **own: object) -> None:
        number = len(self._layers)
        self._layers.append((kind, number))
        self._own |= {f"{number}.{name}": value for name, value in own.items()}

    # --- numbers ---

    def _bytes(self, shape: tuple[int, ...]) -> Array:
        draw = self._draw
        if draw.chance(0.2):
            return np.full(shape, draw.pick((0, 1, 128, 255)), np.uint8)
        array = draw.rng.integers(0, 256, shape).astype(np.uint8)
        return (
            array if draw.chance(0.7) else np.where(draw.rng.random(shape) < 0.2, array, draw.pick((0, 255))).astype(np.uint8)
        )

    def _weight(self, shape: tuple[int, ...]) -> Array:
        """Any numbers, few, only the largest of both signs, or the least, whose sums are the largest."""
        rng = self._draw.rng
        kind = self._draw.pick(("any", "any", "any", "few", "largest", "least"))
        if kind == "largest":
            return np.where(rng.random(shape) < 0.5, -127, 127).astype(np.int8)
        if kind == "least":
            return np.full(shape, -128, np.int8)
        array = rng.integers(-128, 128, shape)
        return (array * (rng.random(shape) < (0.1 if kind == "few" else 1))).astype(np.int8)

    def _number(self) -> Any:
        number = self._draw.pick(MULTIPLIERS) if self._draw.chance(0.3) else float(self._draw.rng.random())
        return np.float32(number) if self._draw.chance(0.5) else number

    def _product(self, shape: tuple[int, ...], zero_point: int | None) -> Arguments:
        """Constants that bring most sums near 0..255, and some beyond; biases up to where a sum may overflow."""
        draw = self._draw
        weight = self._weight(shape)
        k, depth = shape[0], math.prod(shape[1:])
        bias = draw.rng.integers(-2000, 2001, k)
        if draw.chance(0.2):
            left = 2**31 - 1 - 255 * np.abs(weight.astype(np.int64)).reshape(k, depth).sum(axis=1)
            bias = np.where(draw.rng.random(k) < 0.5, left, -left) + (draw.rng.random(k) < 0.01)
        multiplier = draw.rng.random(k) * 600 / (255 * 127 * max(depth, 1) ** draw.pick((0.5, 1.0)))
        if draw.chance(0.3):
            multiplier = np.where(draw.rng.random(k) < 0.5, draw.rng.choice(MULTIPLIERS, k), multiplier)
        small, floats = np.clip(bias, -(2**31), 2**31 - 1).astype(np.int32), multiplier.astype(np.float32)
        return {"weight": weight, "bias": small, "multiplier": floats, "zero_point": zero_point}

    # --- layers ---

    def _conv(self) -> None:
        draw, (c, h, w) = self._draw, self._shape
        padding = draw.pick((0, 0, 1, 2, 3)), draw.pick((0, 0, 1, 2, 3))
        stride = draw.pick((1, 1, 1, 2, 3)), draw.pick((1, 1, 1, 2, 3))
        tall, wide = h + 2 * padding[0], w + 2 * padding[1]
        r, s = min(draw.pick((1, 2, 3, 3, 5, 5, 7)), tall), min(draw.pick((1, 2, 3, 3, 5, 5, 7)), wide)
        p, q = (tall - r) // stride[0] + 1, (wide - s) // stride[1] + 1
        k = draw.pick((0, *CHANNELS[1:], 20, 33, 40)) if draw.chance(0.3) else draw.pick(CHANNELS[1:])
        while k > 1 and max(self._n, 1) * k * p * q * c * r * s > MOST_PRODUCTS:
            k //= 2
        window: Any = min(draw.pick((1, 1, 2, 2, 3)), p), min(draw.pick((1, 1, 2, 2, 4)), q)
        value = draw.rng.integers(0, 256, c).astype(np.uint8)
        own = self._product((k, c, r, s), draw.below(256))
        self._add("conv", **own, stride=stride, padding=padding, padding_value=value, window=window)
        self._shape = k, p // window[0], q // window[1]

    def _linear(self, zero_point: int | None) -> None:
        (features,) = self._shape
        outputs = self._draw.pick((0, 1, 2, 3, 10, 15, 16, 17, 33, 65))
        while outputs > 1 and max(self._n, 1) * outputs * features > MOST_PRODUCTS:
            outputs //= 2
        self._add("linear", **self._product((outputs, features), zero_point))
        self._shape = (outputs,)

    def _windows(self) -> Arguments:
        draw, (c, h, w) = self._draw, self._shape
        size = draw.pick((1, 2, 2, 3, 4)), draw.pick((1, 2, 2, 3, 5))
        padding = draw.below(size[0] // 2 + 1), draw.below(size[1] // 2 + 1)
        size = min(size[0], h + 2 * padding[0]), min(size[1], w + 2 * padding[1])
        padding = min(padding[0], size[0] // 2), min(padding[1], size[1] // 2)
        size = min(size[0], h + 2 * padding[0]), min(size[1], w + 2 * padding[1])
        stride: Any = None if draw.chance(0.1) else (draw.pick((1, 2, 3)), draw.pick((1, 2, 3)))
        steps = stride or size
        p, q = (h + 2 * padding[0] - size[0]) // steps[0] + 1, (w + 2 * padding[1] - size[1]) // steps[1] + 1
        self._shape = c, p, q
        return {"kernel_size": size, "stride": stride, "padding": padding}

    def _max_pool(self) -> None:
        self._add("max_pool", **self._windows())

    def _avg_pool(self) -> None:
        zero_point = self._draw.rng.integers(0, 256, self._shape[0]).astype(np.uint8)
        own = self._windows()
        multiplier = np.float32(1 / math.prod(own["kernel_size"])) if self._draw.chance(0.7) else self._number()
        self._add("avg_pool", **own, zero_point=zero_point, multiplier=multiplier)

    def _table(self) -> None:
        self._add("table", table=self._bytes((256,)))
