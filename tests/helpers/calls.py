"""One call of every op."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from fastlenet.testing import OPS, Op
from fastlenet.testing.contract import example
from helpers.arrays import Array


class Call(NamedTuple):
    """An op's arrays, which have a batch or are flat, and its other arguments; both by name."""

    arrays: dict[str, Array]
    options: Mapping[str, Any] = MappingProxyType({})
    in_place: tuple[str, ...] = ()


def make_calls(n: int) -> dict[str, Call]:
    """One small call of every op, of that many images."""
    return {op.name: _call(op, example(op, n).arguments) for op in OPS.values()}


def _call(op: Op, arguments: dict[str, Any]) -> Call:
    arrays = {name: arguments[name] for name in op.arrays}
    return Call(arrays, {name: value for name, value in arguments.items() if name not in arrays}, op.changes)


CALLS = make_calls(3)
RETURNING = [name for name, call in CALLS.items() if not call.in_place]
IN_PLACE = [name for name, call in CALLS.items() if call.in_place]


def run(module: ModuleType, name: str, arrays: dict[str, Any], call: Call, **options: Any) -> Any:
    return getattr(module, name)(**arrays, **call.options, **options)


def arrays_of(result: Any) -> list[Array]:
    """The arrays that an op returned, without the loss of the losses."""
    results = result if isinstance(result, tuple) else (result,)
    return [value for value in results if isinstance(value, np.ndarray)]
