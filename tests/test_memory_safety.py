"""No call of an op reads or writes memory that is not its own: empty shapes, shared memory, odd arrays, other threads."""

from __future__ import annotations

import copy
import itertools
import re
from typing import Any

import numpy as np
import pytest

from backends import ops
from conftest import Array, expect_equal, expect_same_bits, integers
from fastlenet import ops as cpu_ops
from fastlenet import reference
from test_contract import CALLS, RETURNING, arrays_of, run

Rng = np.random.Generator

# --- empty shapes -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("backend")
def test_backward_without_output_channels(rng: Rng) -> None:
    """After another op has left its numbers in the scratch memory."""
    ops.conv2d_forward(np.ones((64, 20, 12, 12), np.float32), np.ones((8, 20, 5, 5), np.float32))
    x = integers(rng, (16, 20, 12, 12))
    arguments = np.empty((16, 0, 4, 4), np.float32), np.empty((16, 0, 4, 4), np.uint8), x, np.empty((0, 20, 5, 5), np.float32)
    expect_equal(ops.conv2d_relu_max_pool2d_backward(*arguments), reference.conv2d_relu_max_pool2d_backward(*arguments))


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("shape", [(1, 1, 0, 64), (1, 1, 64, 0), (0, 2, 0, 0)], ids=str)
@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
def test_planes_without_pixels_have_no_maximum(module: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^max_pool2d_forward: x expects planes of at least one pixel, got shape \("):
        module.max_pool2d_forward(np.empty(shape, np.float32), 2, padding=1)
    dy, indices = np.empty((*shape[:2], 0, 0), np.float32), np.empty((*shape[:2], 0, 0), np.int32)
    with pytest.raises(ValueError, match=r"^max_pool2d_backward: x_shape expects planes of at least one pixel, got shape \("):
        module.max_pool2d_backward(dy, indices, shape)


# --- memory that two arguments share --------------------------------------------------------------------------------------


def shared(first: Array, second: Array) -> tuple[Array, Array]:
    """The same numbers in arrays whose memory overlaps: the second starts within the first, the first keeps its numbers."""
    size = -(-first.nbytes // 64) * 64 + second.nbytes
    memory = np.zeros(size, np.uint8)
    start = (first.nbytes - 1) // second.itemsize * second.itemsize
    again = memory[start : start + second.nbytes].view(second.dtype).reshape(second.shape)
    again[...] = second
    one = memory[: first.nbytes].view(first.dtype).reshape(first.shape)
    one[...] = first
    return one, again


def names_of_outputs(count: int) -> list[str]:
    return ["out"] if count == 1 else [f"out[{i}]" for i in range(count)]


def place(outs: list[Array], names: list[str], arrays: dict[str, Any], name: str, array: Array) -> None:
    """Hands the array in as that output or argument."""
    if name in names:
        outs[names.index(name)] = array
    else:
        arrays[name] = array


def pairs_of(name: str) -> list[tuple[str, str]]:
    """The pairs of arguments of which the op writes at least one."""
    call = CALLS[name]
    written = list(call.in_place) or names_of_outputs(len(arrays_of(run(reference, name, call.arrays, call))))
    others = [argument for argument in call.arrays if argument not in written]
    if name == "softmax_cross_entropy":
        others.append("labels")
    if name == "gather_images":
        others.append("index")
    return [*itertools.combinations(written, 2), *itertools.product(written, others)]


@pytest.mark.parametrize(("name", "pair"), [(name, pair) for name in CALLS for pair in pairs_of(name)], ids=str)
def test_what_an_op_writes_shares_no_memory(name: str, pair: tuple[str, str]) -> None:
    """With nothing else it writes, and with nothing it reads: one line that names both, before anything is touched."""
    call = CALLS[name]
    options = dict(call.options)
    arrays: dict[str, Any] = copy.deepcopy(call.arrays)
    arrays |= {key: options.pop(key) for key in ("labels", "index") if key in options}
    results = [] if call.in_place else arrays_of(run(reference, name, call.arrays, call))
    outs = [np.empty(array.shape, array.dtype) for array in results]
    names = [] if call.in_place else names_of_outputs(len(outs))
    first, second = ((outs[names.index(key)] if key in names else arrays[key]) for key in pair)
    for key, array in zip(reversed(pair), shared(second, first), strict=True):  # what is read keeps its numbers
        place(outs, names, arrays, key, array)
    before = copy.deepcopy(arrays)
    if outs:
        options["out"] = tuple(outs) if len(outs) > 1 else outs[0]
    one, other = map(re.escape, pair)
    with pytest.raises(ValueError, match=rf"^{name}: ({one} must not share memory with {other}|{other} .* with {one})$"):
        getattr(cpu_ops, name)(**arrays, **options)
    for key, array in before.items():
        np.testing.assert_array_equal(arrays[key], array)


@pytest.mark.parametrize("name", RETURNING)
def test_in_place_where_it_is_documented(name: str) -> None:
    """Element by element: the output may be an input, all of it."""
    call = CALLS[name]
    expected = arrays_of(run(cpu_ops, name, call.arrays, call))
    element_wise = "May work in place" in str(getattr(cpu_ops, name).__doc__)
    for argument, array in call.arrays.items():
        if array.shape != expected[0].shape or array.dtype != expected[0].dtype:
            continue
        arrays = copy.deepcopy(call.arrays)
        out = (arrays[argument], *[None] * (len(expected) - 1)) if len(expected) > 1 else arrays[argument]
        if element_wise:
            expect_same_bits(tuple(arrays_of(run(cpu_ops, name, arrays, call, out=out))), tuple(expected))
        else:
            with pytest.raises(ValueError, match="must not share memory with"):
                run(cpu_ops, name, arrays, call, out=out)


# --- subclasses -------------------------------------------------------------------------------------------------------------


class Liar(np.ndarray):
    """Whose every method and attribute is wrong."""

    def __array_finalize__(self, base: Any) -> None:
        if base is not None and type(base) is Liar:
            raise AssertionError("asked")

    def _lie(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("asked")

    copy = astype = __len__ = __getitem__ = __iter__ = __array__ = view = reshape = ravel = tobytes = _lie
    shape = strides = dtype = flags = size = ndim = nbytes = __array_interface__ = __array_struct__ = property(_lie)


@pytest.mark.parametrize("name", CALLS)
def test_no_method_of_an_array_is_believed(name: str) -> None:
    """Of dense arrays, of others that are copied, and of those that are changed."""
    call = CALLS[name]
    expected = copy.deepcopy(call.arrays)
    results = run(cpu_ops, name, expected, call)
    for stride in (1, 2):
        arrays, plain = {}, {}
        for argument, array in copy.deepcopy(call.arrays).items():
            if stride == 2 and argument not in call.in_place:
                array = np.repeat(array, 2, axis=-1)[..., ::2]
            plain[argument], arrays[argument] = array, np.ndarray.view(array, Liar)
        actual = run(cpu_ops, name, arrays, call)
        expect_same_bits(tuple(arrays_of(actual)), tuple(arrays_of(results)))
        for argument in call.in_place:
            expect_same_bits(plain[argument], expected[argument])


@pytest.mark.parametrize(("name", "argument"), [(name, argument) for name in CALLS for argument in CALLS[name].arrays])
def test_a_masked_array_is_refused(name: str, argument: str) -> None:
    """Its mask would be ignored without a word."""
    call = CALLS[name]
    arrays = call.arrays | {argument: np.ma.masked_array(call.arrays[argument], mask=True)}
    with pytest.raises(TypeError, match=rf"^{name}: {argument} expects .* got a masked array, whose mask would be ignored"):
        run(cpu_ops, name, arrays, call)
