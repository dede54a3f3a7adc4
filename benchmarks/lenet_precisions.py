"""LeNet's layers in each precision: float32 by its fastest kernels, bfloat16 and int8 by every instruction of this CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastlenet
from fastlenet import _core, bf16, ops
from fastlenet.backend import DEAD, Array
from fastlenet.data import load_mnist
from fastlenet.quantization import QuantizedFlatten, QuantizedLayer, QuantizedLinear
from fastlenet.quantization.kernels import Kernels
from fastlenet.testing.units import using

__all__ = ["Timed", "kinds", "measure_precisions"]

LIVING = 0.28  # of conv2's windows: as in training by the default recipe (docs/performance.md)
_PARTS = {"conv1": 2, "conv2": 2, "fc1": 1}  # a layer, and how many of the quantized layers compute it


@dataclass(frozen=True)
class Timed:
    """Seconds per image of a layer's forward or backward pass, by the precision and the instruction."""

    layer: str
    images: int
    seconds: dict[str, float]


def kinds() -> tuple[list[str], list[str]]:
    """The precisions with their instructions: those that this CPU has, and those of this build that it lacks.

    A missing instruction's emulation is not timed: it is hundreds of times as slow, and tells nothing of the instruction.
    """
    in_bf16 = _units("bf16", _core.units_built(), _core.units_available())
    in_int8 = _units("int8", _core.int8_units_built(), _core.int8_units_available())
    return ["float32", *in_bf16[0], *in_int8[0]], [*in_bf16[1], *in_int8[1]]


def _units(precision: str, built: list[str], available: list[str]) -> tuple[list[str], list[str]]:
    real = [name for name in built if not name.endswith("-emulated")]
    here = [f"{precision} {name}" for name in real if name in available]
    return here, [f"{precision} {name}" for name in real if name not in available]


def _instructions(precision: str) -> list[str]:
    return [kind.partition(" ")[2] for kind in kinds()[0] if kind.startswith(precision)]


def measure_precisions(rounds: int, images: int) -> Iterator[Timed]:
    """Of the package's network on real images, in the CPU's time, which other processes hardly change; so on one thread.

    The precisions take turns. fc1 contains its ReLU only in int8, which has no backward pass. The gradients of the outputs are
    random. As many windows live as the line says: those of the network, and of conv2 a share above which tiles compute dense
    gradients, where others add up those of the winners. conv1 gives no gradient of the images.
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
        calls = {"float32": _forward(ops, x, name, state)}
        for unit in _instructions("bf16"):
            with using(unit):
                calls[f"bf16 {unit}"] = _by(unit, _forward(bf16, x, name, state))
        for unit in _instructions("int8"):
            calls[f"int8 {unit}"] = _int8(part, raw, unit)
        yield _timed(name, calls, rounds, images)
        y = calls["float32"]()
        yield _backward(x, y, name, state, rounds)
        if name == "conv2" and images > 1:
            yield _backward(x, _revived(y), name, state, rounds)
        x = (y[0] if isinstance(y, tuple) else y).reshape(images, *_behind(name))
        for layer in small.layers[at : at + count + (name == "conv2")]:
            raw = np.asarray(layer(raw), np.uint8)


def _timed(name: str, calls: dict[str, Callable[[], object]], rounds: int, images: int) -> Timed:
    times = _in_turns(calls, rounds, max(1, 2000 // images))
    return Timed(name, images, {kind: statistics.median(taken) / images for kind, taken in times.items()})


def _revived(y: Any) -> tuple[Array, Array]:
    """The outputs and the winners, of which the share LIVING lives, spread at random."""
    winners, rng = y[1].copy(), np.random.default_rng(1)
    lives = rng.random(winners.shape) < LIVING
    winners[...] = np.where(lives, rng.integers(0, 4, winners.shape), DEAD)
    return y[0], winners


def _backward(x: Array, y: object, name: str, state: dict[str, Array], rounds: int) -> Timed:
    """y: what the forward pass in float32 returns for x."""
    weight, need_dx = state[f"{name}.weight"], name != "conv1"
    rng = np.random.default_rng(0)
    label = f"{name} backward"
    if isinstance(y, tuple):
        winners = y[1]
        dy = rng.standard_normal(winners.shape, np.float32)
        label += f" ({(winners != DEAD).mean():.0%} of windows live)".replace("%", " %")
        arguments = dy, winners, x, weight
    else:
        arguments = rng.standard_normal(np.shape(y), np.float32), x, weight

    def call(backend: Any) -> Callable[[], object]:
        op = backend.linear_backward if weight.ndim == 2 else backend.conv2d_relu_max_pool2d_backward
        return lambda: op(*arguments, need_dx=need_dx)

    calls = {"float32": call(ops)} | {f"bf16 {unit}": _by(unit, call(bf16)) for unit in _instructions("bf16")}
    return _timed(label, calls, rounds, len(x))


def _by(unit: str, call: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with using(unit):
            return call()

    return run


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


def _behind(name: str) -> tuple[int, ...]:
    return {"conv1": (20, 12, 12), "conv2": (800,), "fc1": (500,)}[name]


def _forward(backend: object, x: Array, name: str, state: dict[str, Array]) -> Callable[[], object]:
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
