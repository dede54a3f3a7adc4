"""What every op promises: another dtype is refused, any strides are read, out= is filled and returned, a batch may be empty."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastlenet
from fastlenet import nn, ops, reference
from fastlenet.backend import NAMES
from fastlenet.cuda import ops as device_ops
from helpers.arrays import STYLES, styled
from helpers.calls import CALLS, IN_PLACE, RETURNING, arrays_of, make_calls, run
from helpers.expect import expect_same_bits

MODULES = pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])


def test_every_op_has_its_call() -> None:
    others = ["empty", "inverse_root", "level", "name", "pack_filters"]  # which are not of arrays
    assert sorted([*others, *CALLS]) == sorted(ops.__all__)


def test_every_backend_has_the_names_of_the_contract() -> None:
    """That they have its signatures too is for mypy to say, in each of the modules."""
    for module in (ops, reference, device_ops):
        assert sorted(module.__all__) == sorted(NAMES)
    assert not set(NAMES) - set(fastlenet.cuda.__all__)
    incomplete = ModuleType("incomplete")
    vars(incomplete).update({name: getattr(ops, name) for name in NAMES if name != "level"})
    with pytest.raises(TypeError, match=r"ops expects a module like fastlenet.ops, .* which has no level"):
        nn.Sequential(nn.ReLU(), ops=incomplete)


def test_the_gpu_has_the_same_ops() -> None:
    """In a build without it too: names, arguments, and those that go by name alone."""
    assert sorted(device_ops.__all__) == sorted(ops.__all__)
    for name in set(ops.__all__) - {"name"}:
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
