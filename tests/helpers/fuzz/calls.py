"""A random call of each op, mostly one that it should take."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet import bf16, ops
from fastlenet.testing import OPS as DESCRIBED
from fastlenet.testing import Op
from fastlenet.testing.description import Array
from fastlenet.testing.units import using
from fastlenet.testing.values import EXACT, SIDES, Draw
from helpers import bf16 as bf16_units
from helpers import int8 as int8_units
from helpers.fuzz import int8_network
from helpers.fuzz.dense import dense_case, light_case
from helpers.fuzz.int8_network import NETWORK

# How many arrays `out` has; of these, the first may be one of the inputs named below. And what a step changes.
OUTPUTS = {name: op.outputs for name, op in DESCRIBED.items() if op.outputs} | {NETWORK: 1}
IN_PLACE = {name: op.in_place for name, op in DESCRIBED.items() if op.in_place}
WRITTEN = {name: op.changes for name, op in DESCRIBED.items() if op.changes}


def out_dtype(op: str, i: int) -> npt.DTypeLike:
    return DESCRIBED[op].results[i].dtype if op in DESCRIBED else np.float32


Arguments = dict[str, Any]


@dataclass
class Call:
    """An op and its arguments by name, without `out`.

    unit: of bfloat16, for a call of fastlenet.bf16, or of int8, for a network of it; "" for a call of fastlenet.ops.
    """

    op: str
    arguments: dict[str, Any]
    exact: bool  # whether its sums of products are exact in float32
    twists: tuple[str, ...] = ()  # the arguments that were made wrong
    unit: str = ""

    def using(self) -> AbstractContextManager[None]:
        """A context in which the process multiplies by the unit."""
        if self.op == NETWORK:
            return int8_units.using(self.unit)
        return using(self.unit) if self.unit else nullcontext()

    def run(self, given: Arguments, options: Arguments) -> Any:
        """The op's result for the arguments as they lie in memory."""
        if self.op == NETWORK:
            return int8_network.run(given, options)
        return getattr(bf16 if self.unit else ops, self.op)(**given, **options)


class _Values:
    """Arrays of one kind of numbers, now and then each of its own."""

    def __init__(self, draw: Draw) -> None:
        self._draw, self._kind, self._mixed = draw, draw.kind(), draw.chance(0.15)
        self.rng = draw.rng
        self.exact = True

    def __call__(self, *shape: int) -> Array:
        kind = self._draw.kind() if self._mixed else self._kind
        self.exact = self.exact and kind in EXACT
        return self._draw.values(shape, kind)

    def places(self, shape: tuple[int, ...], limit: int, dtype: npt.DTypeLike) -> Array:
        return self._draw.places(shape, limit, dtype)


Generator = Callable[[Draw, _Values], Arguments]


def _of(op: Op, random: Callable[[Draw], Any] | None = None) -> Generator:
    """From the op's description: a random case, now and then changed, and in the kinds of types that are taken.

    random: draws the case, instead of the description.
    """

    def generate(draw: Draw, values: _Values) -> Arguments:
        arguments = op.arguments((random or op.random)(draw), values)
        for change in (*op.variants, *op.roundings):
            if draw.chance(0.3):
                arguments |= change
        _vary(draw, arguments)
        return arguments

    return generate


def _vary(draw: Draw, arguments: Arguments) -> None:
    """Other types of the same numbers."""
    if "x_shape" in arguments:
        arguments["x_shape"] = draw.pick((tuple, list, np.array))(arguments["x_shape"])
    if "labels" in arguments:
        dtype = draw.pick(("i1", "i2", "i4", "i8", "i8", "i8", "u1", "u8", ">i8"))
        arguments["labels"] = arguments["labels"].astype(dtype)
    if "index" in arguments:
        dtype = draw.pick(("i2", "i4", "i8", "i8", "i8", "u2", "u8", ">i2"))
        arguments["index"] = arguments["index"].astype(dtype)
        if draw.chance(0.2):
            arguments["index"] = arguments["index"].tolist()


# --- what is not of arrays -------------------------------------------------------------------------------------------------


def inverse_root(draw: Draw, values: _Values) -> Arguments:
    numbers = (0, 0.0, 1, 4.0, 5e-324, 1e300, float("inf"), float("nan"), -0.0, -1.0, draw.rng.random())
    return {"square": draw.pick(numbers), "at_least": draw.pick((0.0, *numbers))}


def empty(draw: Draw, values: _Values) -> Arguments:
    shape: Any = draw.dims(*[SIDES] * draw.below(5))
    if draw.chance(0.3):
        shape = draw.pick((0, 1, 17, 1000, np.int64(3), -1, (2, -1), 1.5, None, "2", (1.5,)))
    elif draw.chance(0.5):
        shape = list(shape)
    return {"shape": shape, "dtype": draw.pick((np.float32, np.float64, "i4", np.uint8, "?", "c16", np.dtype("f2")))}


# --- the ops with factors of bfloat16 ---------------------------------------------------------------------------------------


def _dense_or_not(draw: Draw) -> Any:
    """Of the gradients of the fused convolution, which tiles compute for some shapes only."""
    return dense_case(draw) if draw.chance(0.5) else light_case(draw)


_SUFFIX = "_bf16"
LOW_PRECISION: dict[str, Generator] = {
    "linear_forward_bf16": _of(DESCRIBED["linear_forward"]),
    "linear_backward_bf16": _of(DESCRIBED["linear_backward"]),
    "conv2d_relu_max_pool2d_forward_bf16": _of(DESCRIBED["conv2d_relu_max_pool2d_forward"], light_case),
    "conv2d_relu_max_pool2d_backward_bf16": _of(DESCRIBED["conv2d_relu_max_pool2d_backward"], _dense_or_not),
}

GENERATORS: dict[str, Generator] = {name: _of(op) for name, op in DESCRIBED.items()} | LOW_PRECISION
GENERATORS |= {"inverse_root": inverse_root, "empty": empty, NETWORK: int8_network.generate}
# The simple ones need fewer cases; those of bfloat16 take longer than others, by their emulations.
_ONCE = ("empty", "inverse_root", "relu_forward", "sigmoid_forward", "squared_error", "dropout_backward")
OPS = [op for op in GENERATORS for _ in range(1 if op in _ONCE else 2 if op in LOW_PRECISION else 3)]


def draw_call(draw: Draw, op: str) -> Call:
    values = _Values(draw)
    arguments = GENERATORS[op](draw, values)
    unit = ""
    if op == NETWORK:
        unit = draw.pick(int8_units.UNITS)
    elif op in LOW_PRECISION:
        unit = draw.pick((*bf16_units.UNITS, *bf16_units.TILES))  # of which there may be one, and which have more to do
    return Call(op.removesuffix(_SUFFIX), arguments, values.exact, unit=unit)
