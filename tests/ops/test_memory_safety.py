"""No call of an op reads or writes memory that is not its own: empty shapes, shared memory, odd arrays, other threads."""

from __future__ import annotations

import copy
import itertools
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from fastlenet import _core, reference
from fastlenet import ops as cpu_ops
from fastlenet.augment import Augmentation
from helpers.arrays import Array, Guarded, integers
from helpers.backends import ops
from helpers.calls import CALLS, RETURNING, arrays_of, run
from helpers.expect import expect_equal, expect_same_bits

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


EMPTY = [  # x, weight, stride, padding
    pytest.param((0, 2, 5, 5), (3, 2, 3, 3), 1, 0, id="no images"),
    pytest.param((17, 0, 5, 5), (3, 0, 3, 3), 1, 0, id="no input channels"),
    pytest.param((17, 20, 5, 5), (0, 20, 3, 3), 1, 0, id="no output channels"),
    pytest.param((2, 20, 5, 5), (0, 20, 3, 3), 1, 1, id="no output channels of two images"),
    pytest.param((17, 2, 0, 0), (3, 2, 3, 3), 1, 3, id="no pixels but padding"),
    pytest.param((3, 2, 0, 4), (3, 2, 2, 2), 1, 2, id="no rows but padding"),
    pytest.param((0, 0, 4, 4), (0, 0, 2, 2), 1, 0, id="nothing"),
]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(("x_shape", "weight_shape", "stride", "padding"), EMPTY)
def test_empty_convolutions(
    x_shape: tuple[int, ...], weight_shape: tuple[int, ...], stride: int, padding: int, rng: Rng, guarded: Guarded
) -> None:
    """As the reference has them: sums over nothing are zero, or the bias."""
    x, weight, bias = integers(rng, x_shape), integers(rng, weight_shape), integers(rng, weight_shape[:1])
    y = reference.conv2d_forward(x, weight, bias, stride=stride, padding=padding)
    expect_equal(ops.conv2d_forward(x, weight, bias, stride=stride, padding=padding, out=guarded.output(y.shape)), y)
    dy = integers(rng, y.shape)
    expected = reference.conv2d_backward(dy, x, weight, stride=stride, padding=padding)
    outs = tuple(guarded.output(array.shape) for array in expected)
    expect_equal(ops.conv2d_backward(dy, x, weight, stride=stride, padding=padding, out=outs), expected)
    for algorithm in ("direct", "winograd"):
        y, winners = reference.conv2d_relu_max_pool2d_forward(x, weight, bias, padding=padding)
        for given in (weight, ops.Packed(weight, algorithm)):
            options: dict[str, Any] = {"padding": padding, "algorithm": algorithm}
            expect_equal(ops.conv2d_relu_max_pool2d_forward(x, given, bias, **options), (y, winners))
    dy = integers(rng, y.shape)
    expected = reference.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, padding=padding)
    outs = tuple(guarded.output(array.shape) for array in expected)
    expect_equal(ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, padding=padding, out=outs), expected)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    "shape", [(0, 3, 4), (5, 0, 4), (5, 3, 0), (0, 0, 0), (0, 300, 0), (20, 0, 300), (20, 300, 0)], ids=str
)
def test_empty_linear_layers(shape: tuple[int, int, int], rng: Rng, guarded: Guarded) -> None:
    n, inputs, outputs = shape
    x, weight, bias = integers(rng, (n, inputs)), integers(rng, (outputs, inputs)), integers(rng, (outputs,))
    y = reference.linear_forward(x, weight, bias)
    for memory in (weight, np.asfortranarray(weight), ops.Packed(weight)):
        expect_equal(ops.linear_forward(x, memory, bias, out=guarded.output(y.shape)), y)
    dy = integers(rng, y.shape)
    expected = reference.linear_backward(dy, x, weight)
    outs = tuple(guarded.output(array.shape) for array in expected)
    expect_equal(ops.linear_backward(dy, x, weight, out=outs), expected)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(("n", "h", "w"), [(0, 4, 4), (3, 0, 4), (3, 4, 0), (0, 0, 0)])
def test_empty_gathers_and_pools(n: int, h: int, w: int) -> None:
    images, index = np.ones((5, h, w), np.uint8), np.arange(n)
    options: dict[str, Any] = {"mean": 0.5, "std": 0.25}
    expect_equal(ops.gather_images(images, index, **options), reference.gather_images(images, index, **options))
    turned = np.ones((n, 2, 3), np.float32)
    expect_equal(ops.gather_images(images, index, transform=turned, **options), np.zeros((n, 1, h, w), np.float32))
    augmented = Augmentation(rotation=10.0, elastic=2.0, cutout=3).at(1, 2)
    assert ops.gather_images(images, index, transform=augmented, **options).shape == (n, 1, h, w)
    if h:
        x = np.ones((n, 0, h, h), np.float32)
        y, indices = ops.max_pool2d_forward(x, 2)
        expect_equal((y, indices), reference.max_pool2d_forward(x, 2))
        expect_equal(ops.max_pool2d_backward(y, indices, x.shape), reference.max_pool2d_backward(y, indices, x.shape))


def test_empty_work_takes_no_time_and_no_memory() -> None:
    """However large the sizes are that one zero makes empty; each of these took minutes, or memory that there is not."""
    many = 2**40

    def zeros(*shape: int) -> Array:
        return np.zeros(shape, np.float32)

    assert cpu_ops.linear_backward(zeros(0, 0), zeros(0, many), zeros(0, many))[1].shape == (0, many)
    assert cpu_ops.linear_forward(zeros(0, many), zeros(0, many)).shape == (0, 0)
    assert cpu_ops.linear_forward(zeros(0, 0), zeros(many, 0)).shape == (0, many)
    x, weight = zeros(0, 1, 2**15, 2**15), zeros(1, 1, 1, 1)
    assert cpu_ops.conv2d_forward(x, weight).size == cpu_ops.conv2d_relu_max_pool2d_forward(x, weight)[0].size == 0
    assert cpu_ops.conv2d_backward(x, x, weight)[1].tolist() == [[[[0]]]]
    assert cpu_ops.max_pool2d_forward(zeros(0, 1, 40000, 40000), 2)[0].shape == (0, 1, 20000, 20000)
    images = np.zeros((0, 30000, 30000), np.uint8)
    assert cpu_ops.gather_images(images, [], mean=0, std=1, transform=zeros(0, 2, 3)).shape == (0, 1, 30000, 30000)
    no_winners, no_indices = np.zeros((0, 2, 1, 1), np.uint8), np.zeros((0, 1, 1, 1), np.int32)
    refused: list[tuple[Any, Any]] = [
        (cpu_ops.linear_forward, (zeros(many, 0), zeros(many, 0))),
        (cpu_ops.conv2d_forward, (zeros(2**30, 0, 1, 1), zeros(2**31, 0, 1, 1))),
        (cpu_ops.max_pool2d_backward, (zeros(0, 1, 1, 1), no_indices, (0, 1, many, many))),
        (cpu_ops.avg_pool2d_backward, (zeros(0, 1, 1, 1), (2**63 - 1, 1, 2, 2), 2)),
        (
            cpu_ops.conv2d_relu_max_pool2d_backward,
            (zeros(0, 2, 1, 1), no_winners, zeros(0, 1, 4, 2**28), zeros(2, 1, 3, 2**28 - 1)),
        ),
    ]
    for op, arguments in refused:
        with pytest.raises(ValueError, match=rf"^{op.__name__}: .*(too large to address|fewer than 2\^)"):
            op(*arguments)


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
    if name in ("softmax_cross_entropy", "softmax_squared_error", "softmax_distillation"):
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


def test_a_mask_of_labels_is_refused() -> None:
    labels = np.ma.masked_array(np.zeros(2, np.int64), mask=[True, False])
    for module in (cpu_ops, reference):
        with pytest.raises(TypeError, match=r"^softmax_cross_entropy: labels expects .* a masked array"):
            module.softmax_cross_entropy(np.zeros((2, 3), np.float32), labels)


# --- other threads ----------------------------------------------------------------------------------------------------------

# What another thread writes while ops read it: each op checks, and another thread changes, tens of thousands of times a second.
RACE = """
import sys, threading, numpy as np
from fastlenet import _core, ops, set_num_threads
_core.set_level(sys.argv[1])
set_num_threads(1)
n = 4096
dy, indices = np.ones((n, 1, 4, 4), np.float32), np.zeros((n, 1, 4, 4), np.int32)
logits, labels = np.ones((n, 16), np.float32), np.zeros(n, np.int64)
images, index = np.zeros((8, 4, 4), np.uint8), np.zeros(n, np.int64)
x, weight = np.ones((n // 16, 16, 6, 6), np.float32), np.ones((4, 16, 3, 3), np.float32)
pooled, winners = np.ones((n // 16, 4, 2, 2), np.float32), np.zeros((n // 16, 4, 2, 2), np.uint8)
calls = {
    "indices": (indices, [2**31 - 1, -(2**31), 0], lambda: ops.max_pool2d_backward(dy, indices, (n, 1, 8, 8))),
    "labels": (labels, [2**60, -(2**60), 0], lambda: ops.softmax_cross_entropy(logits, labels)),
    "index": (index, [2**55, -(2**55), 0], lambda: ops.gather_images(images, index, mean=0.0, std=1.0)),
    "winners": (winners, [254, 100, 0], lambda: ops.conv2d_relu_max_pool2d_backward(pooled, winners, x, weight)),
}
array, wild, call = calls[sys.argv[2]]
done, passed = threading.Event(), 0
def write():
    while not done.is_set():
        for value in wild:
            array[array.shape[0] // 2 :] = value
        done.wait(1e-4)  # else, on a busy machine, it may come before the check of every call
sys.setswitchinterval(1e-6)
writer = threading.Thread(target=write)
writer.start()
for _ in range(600):
    try:
        call()
        passed += 1
    except ValueError:
        pass
    array[...] = 0
done.set()
writer.join()
print(passed)
"""


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["indices", "labels", "index", "winners"])
def test_another_thread_writes_wild_indices(argument: str) -> None:
    """The result may be anything; the process lives."""
    done = subprocess.run([sys.executable, "-c", RACE, _core.level(), argument], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
