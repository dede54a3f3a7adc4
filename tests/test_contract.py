"""What every op promises: another dtype is refused, any strides are read, out= is filled and returned, a batch may be empty."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastlenet
from conftest import Array, expect_same_bits, integers
from fastlenet import ops, reference
from fastlenet.cuda import ops as device_ops
from test_shapes import STYLES, styled

MODULES = pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])


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


def test_every_op_has_its_call() -> None:
    others = ["empty", "inverse_root", "pack_filters"]  # which are not of arrays
    assert sorted([*others, *CALLS]) == sorted(ops.__all__)


def test_the_gpu_has_the_same_ops() -> None:
    """In a build without it too: names, arguments, and those that go by name alone."""
    assert sorted(device_ops.__all__) == sorted(ops.__all__)
    for name in ops.__all__:
        ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (device_ops, ops))
        assert [(p.name, p.kind, p.default) for p in ours.values()] == [(p.name, p.kind, p.default) for p in theirs.values()]


@pytest.mark.parametrize(("name", "argument"), [(name, argument) for name in CALLS for argument in CALLS[name].arrays])
@MODULES
def test_another_dtype_is_refused(module: ModuleType, name: str, argument: str) -> None:
    """By a TypeError that names the op, the argument and the dtype; the reference takes float64 too."""
    call = CALLS[name]
    good = call.arrays[argument]
    wrong: list[Any] = [np.float16, np.int64, np.complex64, *([np.float64, ">f4"] if module is ops else [])]
    for dtype in wrong:
        bad = copy.deepcopy(call.arrays) | {argument: good.astype(dtype)}
        with pytest.raises(TypeError, match=rf"^{name}: {argument} expects .* got {np.dtype(dtype)}"):
            run(module, name, bad, call)
    with pytest.raises(TypeError, match=rf"^{name}: {argument} expects .* got list"):
        run(module, name, call.arrays | {argument: good.tolist()}, call)


@pytest.mark.parametrize("name", RETURNING)
@MODULES
def test_out_is_filled_and_returned(module: ModuleType, name: str) -> None:
    call = CALLS[name]
    expected = arrays_of(run(module, name, call.arrays, call))
    outs = [np.full_like(array, 99) for array in expected]
    result = arrays_of(run(module, name, call.arrays, call, out=tuple(outs) if len(outs) > 1 else outs[0]))
    assert all(a is b for a, b in zip(result, outs, strict=True))
    expect_same_bits(tuple(outs), tuple(expected))
    for i, out in enumerate(outs):
        wrong: list[Any] = [*outs[:i], np.zeros((*out.shape, 1), out.dtype), *outs[i + 1 :]]
        with pytest.raises(ValueError, match=r"out(\[\d\])? expects shape"):
            run(module, name, call.arrays, call, out=tuple(wrong) if len(wrong) > 1 else wrong[0])


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", RETURNING)
def test_any_memory_is_read(name: str, style: str) -> None:
    call = CALLS[name]
    expected = run(ops, name, call.arrays, call)
    arrays = {argument: styled(array, style) for argument, array in call.arrays.items()}
    actual = run(ops, name, arrays, call)
    expect_same_bits(tuple(arrays_of(actual)), tuple(arrays_of(expected)))


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_only_where_it_can_be_written(name: str) -> None:
    """Gradients may lie in any memory; what is changed must be dense, aligned and writable."""
    call = CALLS[name]
    expected = copy.deepcopy(call.arrays)
    assert run(ops, name, expected, call) is None
    for style in STYLES:
        actual = copy.deepcopy(call.arrays)
        read = {argument: styled(array, style) for argument, array in actual.items() if argument not in call.in_place}
        run(ops, name, actual | read, call)
        for argument in call.in_place:
            expect_same_bits(actual[argument], expected[argument])
            assert (actual[argument] != call.arrays[argument]).any()
    for argument in call.in_place:
        for style in ("reversed", "strided", "misaligned", "read-only"):
            bad = copy.deepcopy(call.arrays)
            bad[argument] = styled(bad[argument], style)
            with pytest.raises(ValueError, match=f"^{name}: {argument} expects a C-contiguous, aligned and writable array"):
                run(ops, name, bad, call)


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"relu_forward", "sigmoid_forward", "dropout_forward"}))
@MODULES
def test_sizes_that_differ_are_refused(module: ModuleType, name: str) -> None:
    """Each array with one axis too many: a ValueError that names the op and an argument. The three left out take any shape."""
    call = CALLS[name]
    for argument, array in call.arrays.items():
        with pytest.raises(ValueError, match=rf"^{name}: ({'|'.join([*call.arrays, 'labels'])}) expects"):
            run(module, name, call.arrays | {argument: array[..., None]}, call)


@pytest.mark.parametrize("name", RETURNING)
@MODULES
def test_an_empty_batch(module: ModuleType, name: str) -> None:
    """Outputs of the batch are empty; sums over it are zero, and its mean loss is nan."""
    call, full = make_calls(0)[name], arrays_of(run(module, name, CALLS[name].arrays, CALLS[name]))
    result = run(module, name, call.arrays, call)
    for array, like in zip(arrays_of(result), full, strict=True):
        assert array.shape in (like.shape, (0, *like.shape[1:])) and array.dtype == like.dtype
        assert not array.any()
    if name in ("softmax_cross_entropy", "squared_error"):
        assert np.isnan(result[0]) if name == "softmax_cross_entropy" else result[0] == 0


def test_import_is_light() -> None:
    """`import fastlenet` leaves what only training and files need until it is asked for."""
    heavy = ["fastlenet.cuda", "fastlenet.training.trainer", "hashlib", "json", "safetensors", "tempfile", "tqdm"]
    program = f"import sys, fastlenet; print([name for name in {heavy} if name in sys.modules]); print(fastlenet.fit.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nfit\n"
    assert "fit" in dir(fastlenet)
    with pytest.raises(AttributeError, match="module 'fastlenet' has no attribute 'train_faster'"):
        fastlenet.train_faster  # noqa: B018


@pytest.mark.parametrize(
    ("images", "advice"),
    [(np.float32, ""), (np.float64, ""), (np.int64, ""), (np.uint16, ""), (bool, "; convert it with .astype(numpy.uint8)")],
)
def test_no_cast_is_advised_that_loses(images: type, advice: str) -> None:
    """Whoever made uint8 of pixels in [0, 1] would train on black images; a wider type, or floats, lose nothing to speak of."""
    with pytest.raises(TypeError) as caught:
        ops.gather_images(np.ones((2, 4, 4), images), [0], mean=0.0, std=1.0)
    got = np.dtype(images).name
    assert str(caught.value) == f"gather_images: images expects a numpy array of uint8, got {got}{advice}"
    for dtype in (np.float64, np.float16, np.int64, np.uint8, bool):
        with pytest.raises(TypeError, match=r"got \w+; convert it with \.astype\(numpy\.float32\)$"):
            ops.relu_forward(np.ones(3, dtype))
    for dtype in (complex, "U3", object, "M8[s]"):
        with pytest.raises(TypeError, match=r"^relu_forward: x expects a numpy array of float32, got [^;]+$"):
            ops.relu_forward(np.zeros(3, dtype))
