"""LeNet's layers in each precision: float32 and bfloat16 by their fastest kernels, int8 by every instruction of this CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

import fastlenet
from fastlenet import _core, bf16, ops
from fastlenet.backend import Array
from fastlenet.data import load_mnist
from fastlenet.quantization import QuantizedFlatten, QuantizedLayer, QuantizedLinear
from fastlenet.quantization.kernels import Kernels

__all__ = ["Timed", "measure_precisions"]

_PARTS = {"conv1": 2, "conv2": 2, "fc1": 1}  # a layer, and how many of the quantized layers compute it


@dataclass(frozen=True)
class Timed:
    """Seconds per image of a layer's forward pass, by the precision and, of int8, the instruction."""

    layer: str
    images: int
    seconds: dict[str, float]


def measure_precisions(rounds: int, images: int) -> Iterator[Timed]:
    """Of the package's network on real images, in the CPU's time, which other processes hardly change; so on one thread.

    The precisions take turns. fc1 contains its ReLU only in int8.
    """
    data = load_mnist()
    model = fastlenet.LeNet.pretrained(algorithm="winograd")
    small = model.quantize(data)
    raw = np.ascontiguousarray(data.test_images[:images, None])
    x = ops.gather_images(data.test_images[:images], np.arange(images), mean=model.mean, std=model.std)
    names = [layer.name for layer in small]
    state = model.state_dict()
    for name, count in _PARTS.items():
        at = names.index(name)
        part = small.layers[at : at + count]
        calls = {"float32": _float32(ops, x, name, state)}
        if not _lacks_bf16():
            calls["bf16"] = _float32(bf16, x, name, state)
        for unit in _core.int8_units_available():
            if not unit.endswith("-emulated"):
                calls[f"int8 {unit}"] = _int8(part, raw, unit)
        times = _in_turns(calls, rounds, max(1, 2000 // images))
        yield Timed(name, images, {kind: statistics.median(taken) / images for kind, taken in times.items()})
        y = calls["float32"]()
        x = (y[0] if isinstance(y, tuple) else y).reshape(images, *_behind(name))
        for layer in small.layers[at : at + count + (name == "conv2")]:
            raw = np.asarray(layer(raw), np.uint8)


def _in_turns(calls: dict[str, Callable[[], object]], rounds: int, repeats: int) -> dict[str, list[float]]:
    """Seconds per call."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            start = time.process_time()
            for _ in range(repeats):
                call()
            times[name].append((time.process_time() - start) / repeats)
    return times


def _lacks_bf16() -> bool:
    try:
        bf16.level()
    except ValueError:
        return True
    return False


def _behind(name: str) -> tuple[int, ...]:
    return {"conv1": (20, 12, 12), "conv2": (800,), "fc1": (500,)}[name]


def _float32(backend: object, x: Array, name: str, state: dict[str, Array]) -> Callable[[], object]:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    if weight.ndim == 2:
        packed = backend.Packed(weight)  # type: ignore[attr-defined]  # a module of ops
        return lambda: backend.linear_forward(x, packed, bias)  # type: ignore[attr-defined]
    algorithm = "winograd" if name == "conv2" else "direct"
    packed = backend.Packed(weight, algorithm)  # type: ignore[attr-defined]
    return lambda: backend.conv2d_relu_max_pool2d_forward(x, packed, bias, algorithm=algorithm)  # type: ignore[attr-defined]


def _int8(layers: tuple[QuantizedLayer, ...], raw: Array, unit: str) -> Callable[[], object]:
    """The layers, and one score behind them, since a network gives some. It costs about 0.1 us per image."""
    features = int(np.prod(layers[-1].output_shape))
    shape = raw.shape[1:] if raw.ndim == 4 else (raw.shape[1], 1, 1)
    before = [QuantizedFlatten("rows", raw.shape[1:])] if raw.ndim == 2 else []
    zeros = np.zeros((1, features), np.int8), np.zeros(1, np.int32), np.ones(1, np.float32)
    behind = [QuantizedFlatten("flat", (features,)), QuantizedLinear("score", (1,), *zeros, None)]
    network, images = Kernels([*before, *layers, *behind], shape), raw.reshape(len(raw), *shape)

    def run() -> object:
        _core.set_int8_unit(unit)
        try:
            return network(images)
        finally:
            _core.set_int8_unit("")

    return run
