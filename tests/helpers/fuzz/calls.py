"""A random call of each op, mostly one that it should take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.testing import OPS as DESCRIBED
from fastlenet.testing import Op
from fastlenet.testing.description import Array
from fastlenet.testing.values import EXACT, SIDES, Draw

# How many arrays `out` has; of these, the first may be one of the inputs named below. And what a step changes.
OUTPUTS = {name: op.outputs for name, op in DESCRIBED.items() if op.outputs}
IN_PLACE = {name: op.in_place for name, op in DESCRIBED.items() if op.in_place}
WRITTEN = {name: op.changes for name, op in DESCRIBED.items() if op.changes}


def out_dtype(op: str, i: int) -> npt.DTypeLike:
    return DESCRIBED[op].results[i].dtype if op in DESCRIBED else np.float32


@dataclass
class Call:
    """An op and its arguments by name, without `out`."""

    op: str
    arguments: dict[str, Any]
    exact: bool  # whether its sums of products are exact in float32
    twists: tuple[str, ...] = ()  # the arguments that were made wrong


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


Arguments = dict[str, Any]
Generator = Callable[[Draw, _Values], Arguments]


def _of(op: Op) -> Generator:
    """From the op's description: a random case, now and then changed, and in the kinds of types that are taken."""

    def generate(draw: Draw, values: _Values) -> Arguments:
        arguments = op.arguments(op.random(draw), values)
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


GENERATORS: dict[str, Generator] = {name: _of(op) for name, op in DESCRIBED.items()} | {
    "inverse_root": inverse_root,
    "empty": empty,
}
# The simple ones need fewer cases.
_ONCE = ("empty", "inverse_root", "relu_forward", "sigmoid_forward", "squared_error", "dropout_backward")
OPS = [op for op in GENERATORS for _ in range(1 if op in _ONCE else 3)]


def draw_call(draw: Draw, op: str) -> Call:
    values = _Values(draw)
    arguments = GENERATORS[op](draw, values)
    return Call(op, arguments, values.exact)
