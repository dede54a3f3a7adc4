"""What every op promises: another dtype is refused, any strides are read, out= is filled and returned, a batch may be empty."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

import fastlenet
from fastlenet import backend, nn, ops, reference
from fastlenet import ops as cpu_ops
from fastlenet.backend import NAMES, gaps_of
from fastlenet.cuda import ops as device_ops
from fastlenet.testing import OPS, Op
from fastlenet.testing.contract import CONTRACT, example
from fastlenet.testing.description import KINDS
from helpers.arrays import STYLES, styled
from helpers.backends import ops as chosen
from helpers.described import each
from helpers.expect import expect_same_bits


def test_every_op_has_its_description() -> None:
    others = ["inverse_root"]  # which are not of arrays
    assert sorted([*others, *OPS]) == sorted(backend.OPS)


def test_every_other_argument_is_of_a_kind() -> None:
    """By which a wrong one is made for it."""
    for op in OPS.values():
        assert {*op.arrays, *KINDS} >= set(op.parameters), op.name


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
    for name in set(device_ops.__all__) - {"name", "Graph", "Packed"} - set(gaps_of(device_ops)):
        ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (device_ops, ops))
        assert [(p.name, p.kind, p.default) for p in ours.values()] == [(p.name, p.kind, p.default) for p in theirs.values()]


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("property", CONTRACT)
@each()
def test_contract(op: Op, property: str) -> None:
    CONTRACT[property](chosen, op)


@pytest.mark.parametrize("property", CONTRACT)
@each()
def test_contract_of_the_reference(op: Op, property: str) -> None:
    CONTRACT[property](reference, op)


@each()
def test_other_floats_are_refused(op: Op) -> None:
    """Which the reference takes: float64; and numbers in another byte order."""
    arguments = example(op).arguments
    for name in op.arrays:
        for dtype in (np.float64, ">f4"):
            if np.dtype(op.dtypes.get(name, np.float32)) == np.dtype(dtype):
                continue
            wrong = copy.deepcopy(arguments) | {name: arguments[name].astype(dtype)}
            with pytest.raises(TypeError, match=rf"^{op.name}: {name} expects .* got {np.dtype(dtype)}"):
                op.run(cpu_ops, wrong)


@each(changes=True)
def test_in_place_only_where_it_can_be_written(op: Op) -> None:
    """Gradients may lie in any memory; what is changed must be dense, aligned and writable."""
    arguments = example(op).arguments
    expected = copy.deepcopy(arguments)
    assert getattr(ops, op.name)(**expected) is None
    for name in op.changes:
        assert (expected[name] != arguments[name]).any()
        for style in set(STYLES) - {"plain", "fortran"}:
            bad = copy.deepcopy(arguments)
            bad[name] = styled(bad[name], style)
            with pytest.raises(ValueError, match=f"^{op.name}: {name} expects a C-contiguous, aligned and writable array"):
                op.run(ops, bad)
    for style in STYLES:
        actual = copy.deepcopy(arguments)
        read = {name: styled(actual[name], style) for name in op.arrays if name not in op.changes}
        for name, array in zip(op.changes, op.run(ops, actual | read), strict=True):
            expect_same_bits(array, expected[name])


def test_version() -> None:
    assert fastlenet.__version__ == fastlenet.config()["version"]


def test_import_is_light() -> None:
    """`import fastlenet` leaves what only training and files need until it is asked for."""
    heavy = [
        "fastlenet.cuda",
        "fastlenet.reference.conv",
        "fastlenet.testing",
        "fastlenet.training.trainer",
        "hashlib",
        "json",
        "safetensors",
        "tempfile",
        "tqdm",
    ]
    program = f"import sys, fastlenet; print([name for name in {heavy} if name in sys.modules]); print(fastlenet.fit.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nfit\n"
    assert "fit" in dir(fastlenet)
    with pytest.raises(AttributeError, match="module 'fastlenet' has no attribute 'train_faster'"):
        fastlenet.train_faster  # noqa: B018


def test_numbers_for_each_channel_in_any_sequence() -> None:
    images = np.arange(96, dtype=np.uint8).reshape(2, 3, 4, 4)
    for module in (ops, reference):
        expected = module.gather_images(images, [1, 0], mean=(1, 2, 3), std=(2, 1, 4))
        for kind in (list, np.array, np.float32):
            got = module.gather_images(images, [1, 0], mean=kind((1, 2, 3)), std=kind((2, 1, 4)))
            np.testing.assert_array_equal(got, expected)
        for wrong in ((1, 2), np.array([1.0, 2.0])):
            with pytest.raises(ValueError, match=r"^gather_images: mean expects a number, or one for each of 3 channels, got "):
                module.gather_images(images, [0], mean=wrong, std=1.0)


@pytest.mark.parametrize(
    ("images", "advice"),
    [(np.float64, ""), (np.int64, ""), (np.uint16, ""), (bool, "")],
)
def test_no_cast_is_advised_that_loses(images: type, advice: str) -> None:
    """Whoever made uint8 of pixels in [0, 1] would train on black images; a wider type, or floats, lose nothing to speak of."""
    with pytest.raises(TypeError) as caught:
        ops.gather_images(np.ones((2, 4, 4), images), [0], mean=0.0, std=1.0)
    got = np.dtype(images).name
    assert str(caught.value) == f"gather_images: images expects a numpy array of uint8 or float32, got {got}{advice}"
    for dtype in (np.float64, np.float16, np.int64, np.uint8, bool):
        with pytest.raises(TypeError, match=r"got \w+; convert it with \.astype\(numpy\.float32\)$"):
            ops.relu_forward(np.ones(3, dtype))
    for dtype in (complex, "U3", object, "M8[s]"):
        with pytest.raises(TypeError, match=r"^relu_forward: x expects a numpy array of float32, got [^;]+$"):
            ops.relu_forward(np.zeros(3, dtype))
