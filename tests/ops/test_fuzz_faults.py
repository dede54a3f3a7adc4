"""Every dimension of a call can fail the fuzzer: a fault of each is planted, and found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from fastlenet import _core, bf16, get_num_threads, ops, set_num_threads
from fastlenet.backend import DEAD
from fastlenet.reference import bf16 as bf16_twin
from helpers.bf16 import HARDWARE
from helpers.fuzz.case import drawn_op
from helpers.fuzz.int8_network import NETWORK
from helpers.fuzz.runner import run_here

LEVELS = _core.levels_available()


@pytest.fixture
def machine() -> Iterator[None]:
    """The level and the number of threads as before."""
    level, threads = _core.level(), get_num_threads()
    yield
    _core.set_level(level)
    set_num_threads(threads)


Op = Callable[..., Any]


def place(op: str) -> tuple[Any, str]:
    """The module and the name there."""
    module = _core if op == NETWORK else bf16 if op.endswith("_bf16") else ops
    return module, op.removesuffix("_bf16")


def wrong_where(op: str, is_wrong: Callable[..., bool], bits: int = 0x55) -> tuple[str, Op]:
    """The op, which spoils the last number of its first result where is_wrong(*arguments, **options).

    bits: those that are turned in each byte of the number, or LAST.
    """
    right = getattr(*place(op))

    def planted(*arguments: Any, **options: Any) -> Any:
        spoil = False
        with suppress(Exception):  # of nonsense, which the op refuses
            spoil = is_wrong(*arguments, **options)
        result = right(*arguments, **options)
        first = next(
            (array for array in (result if isinstance(result, tuple) else (result,)) if isinstance(array, np.ndarray)), None
        )
        if spoil and first is not None and first.size:
            first.reshape(-1)[-1:].view(np.uint8)[: 1 if bits == LAST else None] ^= bits
        return result

    return op, planted


LAST = 1  # the last bit of a float


def refuses_no_images(x: Any, kernel_size: Any, **options: Any) -> Any:
    if len(x) == 0:
        raise ValueError("max_pool2d_forward: x expects images")
    return max_pool2d_forward(x, kernel_size, **options)


def takes_float64(x: Any, **options: Any) -> Any:
    return relu_forward(np.asarray(x, np.float32) if getattr(x, "dtype", None) == np.float64 else x, **options)


def refuses_unaligned(x: Any, **options: Any) -> Any:
    if isinstance(x, np.ndarray) and not x.flags.aligned:
        raise ValueError("relu_forward: x expects aligned memory")
    return relu_forward(x, **options)


def takes_unaligned_out(x: Any, out: Any = None) -> Any:
    if isinstance(out, np.ndarray) and not out.flags.aligned and out.dtype == np.float32 and out.shape == np.shape(x):
        out[...] = relu_forward(x)
        return out
    return relu_forward(x, out=out)


def ignores_out(x: Any, out: Any = None) -> Any:
    if out is not None:
        relu_forward(x, out=out)
    return relu_forward(x)


def writes_behind_out(x: Any, out: Any = None) -> Any:
    y = relu_forward(x, out=out)
    root = out.base if isinstance(out, np.ndarray) else None
    if isinstance(root, np.ndarray) and root.nbytes > y.nbytes:
        root[-1] ^= 1
    return y


def changes_its_input(x: Any, **options: Any) -> Any:
    y = relu_forward(x, **options)
    if type(x) is np.ndarray and x.flags.writeable and x.size and options.get("out") is None:
        x.reshape(-1)[:1].fill(5)
    return y


def index_not_checked(images: Any, index: Any, **options: Any) -> Any:
    places = np.asarray(index)
    if places.dtype.kind in "iu" and isinstance(images, np.ndarray) and images.ndim:
        index = np.clip(places, 0, max(len(images) - 1, 0))
    return gather_images(images, index, **options)


def winners_not_checked(dy: Any, winners: Any, x: Any, weight: Any, **options: Any) -> Any:
    """Winners behind the window are taken for its first place."""
    size = options.get("kernel_size", 2)
    rows, columns = (size, size) if np.ndim(size) == 0 else size
    if isinstance(winners, np.ndarray) and winners.dtype == np.uint8:
        winners = np.where((winners >= rows * columns) & (winners != DEAD), 0, winners).astype(np.uint8)
    return conv_pool_backward(dy, winners, x, weight, **options)


def places_not_checked(dy: Any, indices: Any, x_shape: Any, **options: Any) -> Any:
    """Max-pooling's places behind the image are taken for its first pixel."""
    if isinstance(indices, np.ndarray) and indices.dtype == np.int32 and len(x_shape) == 4:
        indices = np.where((indices < 0) | (indices >= int(x_shape[2]) * int(x_shape[3])), 0, indices).astype(np.int32)
    return max_pool2d_backward(dy, indices, x_shape, **options)


def does_not_round(x: Any, weight: Any, bias: Any = None, **options: Any) -> Any:
    """The layer of fastlenet.ops, where the one of fastlenet.bf16 is called."""
    return ops.linear_forward(x, getattr(weight, "weight", weight), bias, **options)


def by_unit(name: str) -> Callable[..., bool]:
    return lambda *arguments, **options: _core.unit_in_use() == name


def dense_on_tiles(dy: Any, winners: Any, x: Any, weight: Any, **options: Any) -> bool:
    tiles = _core.unit_in_use().startswith("tdpbf16ps")
    return tiles and bf16_twin.on_tiles(dy, winners, x, weight, padding=options["padding"])


def wrong_network(is_wrong: Callable[[str, list[str], Any], bool]) -> tuple[str, Op]:
    """Networks of int8 whose last score is wrong where is_wrong(unit, the methods that were called, images)."""
    right = _core.Int8Network

    class Network:
        def __init__(self, *sizes: Any) -> None:
            self._network, self._called = right(*sizes), list[str]()

        def __getattr__(self, name: str) -> Any:
            self._called.append(name)
            return getattr(self._network, name)

        def scores(self, images: Any, out: Any) -> Any:
            y = self._network.scores(images, out)
            if y.size and is_wrong(self._network.unit, self._called, images):
                y.reshape(-1)[-1:].view(np.uint8)[:] ^= 0x55
            return y

    return NETWORK, Network


relu_forward, gather_images = ops.relu_forward, ops.gather_images
max_pool2d_forward, max_pool2d_backward = ops.max_pool2d_forward, ops.max_pool2d_backward
conv_pool_backward = ops.conv2d_relu_max_pool2d_backward


def overlapping(x: Any, dy: Any) -> bool:
    return isinstance(x, np.ndarray) and isinstance(dy, np.ndarray) and np.may_share_memory(x, dy)


DIMENSIONS: dict[str, tuple[str, Op]] = {
    "no images": ("max_pool2d_forward", refuses_no_images),
    "17 channels": wrong_where("conv2d_forward", lambda weight, **o: len(weight) == 17),
    "a stride of 2": wrong_where("conv2d_forward", lambda **o: o["stride"] == 2),
    "strides backwards": wrong_where("tanh_forward", lambda x, **o: any(step < 0 for step in x.strides)),
    "axes in another order": wrong_where("tanh_forward", lambda x, **o: x.flags.f_contiguous and not x.flags.c_contiguous),
    "an axis of stride 0": wrong_where("tanh_forward", lambda x, **o: 0 in x.strides and x.size > 1),
    "float64": ("relu_forward", takes_float64),
    "labels of one byte": wrong_where("softmax_cross_entropy", lambda labels, **o: labels.dtype == np.int8),
    "big-endian labels": wrong_where("softmax_cross_entropy", lambda labels, **o: labels.dtype == np.dtype(">i8")),
    "unaligned inputs": ("relu_forward", refuses_unaligned),
    "unaligned outputs": ("relu_forward", takes_unaligned_out),
    "inputs that share memory": wrong_where("linear_backward", lambda dy, x, **o: overlapping(dy, x)),
    "in place": wrong_where("relu_forward", lambda x, **o: o["out"] is x),
    "out is ignored": ("relu_forward", ignores_out),
    "memory behind out": ("relu_forward", writes_behind_out),
    "an input is changed": ("relu_forward", changes_its_input),
    "hostile index": ("gather_images", index_not_checked),
    "hostile winners": ("conv2d_relu_max_pool2d_backward", winners_not_checked),
    "hostile places": ("max_pool2d_backward", places_not_checked),
    "NaN": wrong_where("relu_forward", lambda x, **o: bool(np.isnan(x).any())),
    "one level": wrong_where("relu_forward", lambda **o: _core.level() == LEVELS[-1]),
    "three threads": wrong_where("relu_forward", lambda **o: get_num_threads() == 3),
    "packed weights": wrong_where("linear_forward", lambda weight, **o: isinstance(weight, ops.Packed)),
    "Winograd": wrong_where("conv2d_relu_max_pool2d_forward", lambda **o: o["algorithm"] == "winograd"),
    "factors of bfloat16": ("linear_forward_bf16", does_not_round),
    "emulated tiles": wrong_where("linear_backward_bf16", by_unit("tdpbf16ps-emulated")),
    "emulated vectors": wrong_where("conv2d_relu_max_pool2d_forward_bf16", by_unit("vdpbf16ps-emulated")),
    "dense gradients on tiles": wrong_where("conv2d_relu_max_pool2d_backward_bf16", dense_on_tiles),
    "a unit of int8": wrong_network(lambda unit, called, images: unit == "vpdpbusd-emulated"),
    "a layer of int8": wrong_network(lambda unit, called, images: "add_avg_pool" in called),
    "one image of int8": wrong_network(lambda unit, called, images: len(images) == 1),
    "packed weights of bfloat16": wrong_where("linear_forward_bf16", lambda weight, **o: isinstance(weight, bf16.Packed)),
}
# An instruction's last bit is right only by its emulation, so that no fault of it is found where the CPU has neither.
for unit in HARDWARE:
    DIMENSIONS[f"the last bit by {unit}"] = wrong_where("linear_forward_bf16", by_unit(unit), LAST)


MOST = 100_000  # cases that are drawn until one fails


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_fault_of_each_dimension_is_found(dimension: str, monkeypatch: pytest.MonkeyPatch, machine: None) -> None:
    """By the first cases of the op, at levels of their own choice. The case that fails passes without the fault."""
    op, planted = DIMENSIONS[dimension]
    for case in range(MOST):
        if drawn_op(300, case) != op:
            continue
        with monkeypatch.context() as patch:
            patch.setattr(*place(op), planted)
            (line,) = run_here(300, range(case, case + 1))
        if line.startswith("python"):
            assert next(run_here(300, range(case, case + 1))) in ("taken", "refused")
            return
    pytest.fail(f"none of {MOST} cases fails")
