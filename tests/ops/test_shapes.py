"""Arguments of every kind: strides, alignment, odd values, wrong types and shapes, and `out`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fastlenet import ops as cpu_ops
from fastlenet import reference
from helpers.arrays import STYLES, integers, normals, styled
from helpers.backends import ops
from helpers.expect import expect_equal, expect_same_bits

Array = npt.NDArray[Any]
Rng = np.random.Generator

sizes = st.integers(1, 9)
CONVOLUTION: dict[str, st.SearchStrategy[Any]] = {
    "n": st.integers(0, 18),
    "c": st.integers(1, 5),
    "k": st.integers(1, 7),
    "h": sizes,
    "w": sizes,
    "r": st.integers(1, 4),
    "s": st.integers(1, 4),
    "padding": st.tuples(st.integers(0, 3), st.integers(0, 3)),
    "style": st.sampled_from(STYLES),
    "seed": st.integers(0, 2**32 - 1),
}


@pytest.mark.usefixtures("device_kind")
@given(
    **CONVOLUTION,
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_conv2d(
    n: int, c: int, k: int, h: int, w: int, r: int, s: int, stride: Any, padding: Any, style: str, seed: int
) -> None:
    assume(r <= h + 2 * padding[0] and s <= w + 2 * padding[1])
    rng = np.random.default_rng(seed)
    x, weight, bias = integers(rng, (n, c, h, w)), integers(rng, (k, c, r, s)), integers(rng, (k,))
    options = {"stride": stride, "padding": padding}
    y = ops.conv2d_forward(*(styled(a, style) for a in (x, weight, bias)), **options)
    expect_equal(y, reference.conv2d_forward(x, weight, bias, **options))
    dy = integers(rng, y.shape)
    actual = ops.conv2d_backward(*(styled(a, style) for a in (dy, x, weight)), **options)
    expect_equal(actual, reference.conv2d_backward(dy, x, weight, **options))


@pytest.mark.usefixtures("device_kind")
@given(
    **CONVOLUTION,
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_conv2d_relu_max_pool2d(
    n: int, c: int, k: int, h: int, w: int, r: int, s: int, padding: Any, window: Any, style: str, seed: int
) -> None:
    assume(window[0] <= h + 2 * padding[0] - r + 1 and window[1] <= w + 2 * padding[1] - s + 1)
    rng = np.random.default_rng(seed)
    x, weight, bias = integers(rng, (n, c, h, w)), integers(rng, (k, c, r, s)), integers(rng, (k,))
    options = {"padding": padding, "kernel_size": window}
    y, winners = ops.conv2d_relu_max_pool2d_forward(*(styled(a, style) for a in (x, weight, bias)), **options)
    expect_equal((y, winners), reference.conv2d_relu_max_pool2d_forward(x, weight, bias, **options))
    dy = integers(rng, y.shape)
    arguments = (styled(dy, style), styled(winners, style), styled(x, style), styled(weight, style))
    actual = ops.conv2d_relu_max_pool2d_backward(*arguments, **options)
    expect_equal(actual, reference.conv2d_relu_max_pool2d_backward(dy, winners, x, weight, **options))


@pytest.mark.usefixtures("device_kind")
@given(
    shape=st.tuples(st.integers(0, 4), st.integers(1, 5), sizes, sizes),
    window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)),
    data=st.data(),
)
def test_max_pool2d_of_anything(shape: tuple[int, ...], window: Any, stride: Any, data: st.DataObject) -> None:
    """Ties, NaN, infinities and denormals, bit for bit as the reference."""
    padding = tuple(data.draw(st.integers(0, size // 2)) for size in window)
    assume(all(size <= image + 2 * pad for size, image, pad in zip(window, shape[2:], padding, strict=True)))
    values = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38]
    seed = data.draw(st.integers(0, 2**32 - 1))
    x = np.random.default_rng(seed).choice(np.float32(values), shape)
    y, indices = ops.max_pool2d_forward(x, window, stride=stride, padding=padding)
    expected, expected_indices = reference.max_pool2d_forward(x, window, stride=stride, padding=padding)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, expected_indices)


@pytest.mark.usefixtures("device_kind")
@given(n=st.integers(0, 40), inputs=st.integers(1, 70), outputs=st.integers(1, 40), style=st.sampled_from(STYLES))
def test_linear(n: int, inputs: int, outputs: int, style: str) -> None:
    rng = np.random.default_rng([n, inputs, outputs])
    x, weight, bias = integers(rng, (n, inputs)), integers(rng, (outputs, inputs)), integers(rng, (outputs,))
    y = ops.linear_forward(*(styled(a, style) for a in (x, weight, bias)))
    expect_equal(y, reference.linear_forward(x, weight, bias))
    dy = integers(rng, y.shape)
    actual = ops.linear_backward(*(styled(a, style) for a in (dy, x, weight)))
    expect_equal(actual, reference.linear_backward(dy, x, weight))


ODD = np.float32([0.0, -0.0, 1e-45, -1e-45, 1e38, -1e38, np.inf, -np.inf, np.nan])


@pytest.mark.usefixtures("backend")
def test_odd_values_through_the_element_wise_ops() -> None:
    for name in ("relu_forward", "leaky_relu_forward", "sigmoid_forward", "tanh_forward"):
        np.testing.assert_array_equal(getattr(ops, name)(ODD), getattr(reference, name)(ODD))
    ones = np.ones_like(ODD)
    np.testing.assert_array_equal(ops.relu_backward(ODD, ones), ODD)
    np.testing.assert_array_equal(ops.relu_backward(ones, ODD), reference.relu_backward(ones, ODD))


@pytest.mark.usefixtures("backend")
def test_nan_and_infinity_through_the_products(rng: Rng) -> None:
    """They reach the outputs that they belong to, and no others."""
    x, weight = normals(rng, (18, 2, 6, 6)), normals(rng, (3, 2, 3, 3))
    x[4, 1, 0, 0], x[7, 0, 5, 5] = np.nan, np.inf
    y = ops.conv2d_forward(x, weight)
    expected = reference.conv2d_forward(x, weight)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
    assert (~np.isfinite(y)).sum() == 6
    fused, winners = ops.conv2d_relu_max_pool2d_forward(x, weight)
    assert np.isnan(fused[4, :, 0, 0]).all() and (winners[4, :, 0, 0] != 255).all()
    assert np.isfinite(fused[[0, 5, 17]]).all()


@pytest.mark.usefixtures("backend")
def test_a_loser_counts_as_absent(rng: Rng) -> None:
    """An infinite gradient stays within its own patch, and a NaN that no winner saw goes nowhere."""
    x, weight = normals(rng, (1, 3, 8, 8)), normals(rng, (2, 3, 3, 3))
    winners = np.full((1, 2, 3, 3), 255, np.uint8)
    winners[0, 1, 0, 0] = 0
    dy = np.full(winners.shape, np.inf, np.float32)
    x[:, :, 4:, :] = np.nan
    dx, dweight, dbias = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight)
    assert dx is not None
    seen = np.zeros_like(dx, bool)
    seen[:, :, :3, :3] = True
    assert (np.isinf(dx) == seen).all() and (dx[~seen] == 0).all()
    assert (dweight[0] == 0).all() and np.isinf(dweight[1]).all()
    assert dbias.tolist() == [0, np.inf]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("odd", [np.inf, np.nan])
def test_a_dead_windows_weights_count_as_absent(odd: float, rng: Rng) -> None:
    """Those of a channel without a winner may be anything: dx is as if they were zeros."""
    x, weight = integers(rng, (18, 1, 8, 8)), integers(rng, (2, 1, 3, 3))
    dy, winners = integers(rng, (18, 2, 3, 3)), np.full((18, 2, 3, 3), 255, np.uint8)
    winners[:, 1] = 2
    weight[0] = 0
    expected, *_ = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight)
    weight[0] = odd
    dx, *_ = ops.conv2d_relu_max_pool2d_backward(dy, winners, x, weight)
    np.testing.assert_array_equal(np.asarray(dx), np.asarray(expected))


IMAGES = np.zeros((2, 3, 6, 6), np.float32)
FILTERS = np.zeros((4, 3, 3, 3), np.float32)


WRONG_SHAPES = [
    ("conv2d_forward", (IMAGES, FILTERS[:, :2]), "weight expects 2 input channels, x has 3"),
    ("conv2d_forward", (IMAGES[0], FILTERS), "x expects 4 dimensions"),
    ("conv2d_forward", (IMAGES[:, :, :2], FILTERS), "exceeds the padded image"),
    ("conv2d_forward", (IMAGES, FILTERS, np.zeros(3, np.float32)), r"bias expects shape \(4,\), got \(3,\)"),
    ("conv2d_backward", (IMAGES, IMAGES, FILTERS), r"dy expects shape \(2, 4, 4, 4\)"),
    ("max_pool2d_forward", (IMAGES, 7), "kernel_size .* exceeds the padded image"),
    ("max_pool2d_forward", (IMAGES, 0), "kernel_size expects integers of at least 1"),
    ("max_pool2d_backward", (IMAGES, np.full(IMAGES.shape, 36, np.int32), (2, 3, 6, 6)), r"values in 0\.\.35"),
    ("avg_pool2d_forward", (IMAGES, 7), "kernel_size .* exceeds the padded image"),
    ("avg_pool2d_forward", (IMAGES[0], 2), "x expects 4 dimensions"),
    ("avg_pool2d_forward", (IMAGES[:, :, :0], 2), "x expects planes of at least one pixel"),
    ("avg_pool2d_backward", (IMAGES[:, :, ::2, ::2], (2, 3, 6), 2), "x_shape expects 4 dimensions"),
    ("avg_pool2d_backward", (IMAGES[:, :, ::2, ::2], (2, 3, 8, 6), 2), r"dy expects shape \(2, 3, 4, 3\), got \(2, 3, 3, 3\)"),
    ("avg_pool2d_backward", (IMAGES, (2, 3, 0, 6), 2), "x_shape expects planes of at least one pixel"),
    *(
        (f"leaky_relu_{way}", (*arrays, slope), "slope expects a number of at least 0 that fits float32, got")
        for way, arrays in (("forward", (IMAGES,)), ("backward", (IMAGES, IMAGES)))
        for slope in (-0.01, math.inf, math.nan, 1e39)
    ),
    ("tanh_backward", (np.zeros(3, np.float32), np.zeros(4, np.float32)), "dy expects shape"),
    (
        "conv2d_relu_max_pool2d_forward",
        (IMAGES[:, :, :3], FILTERS),
        "kernel_size .* exceeds the (padded image|convolution's)",
    ),
    ("linear_forward", (np.zeros((2, 3), np.float32), np.zeros((4, 5), np.float32)), "weight expects 5 input features"),
    ("linear_backward", (np.zeros((2, 3), np.float32),) * 3, "dy expects shape"),
    ("relu_backward", (np.zeros(3, np.float32), np.zeros(4, np.float32)), "dy expects shape"),
    ("dropout_forward", (np.zeros(3, np.float32), 1.0, 0, 0), r"rate expects a number in \[0, 1\)"),
    ("softmax_cross_entropy", (np.zeros((2, 3), np.float32), np.array([0, 3])), r"labels expects values in 0\.\.2"),
    ("softmax_cross_entropy", (np.zeros((2, 3), np.float32), np.array([0])), "labels expects shape"),
    ("squared_error", (np.zeros(3, np.float32), np.zeros(4, np.float32)), "target expects shape"),
]


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
def test_padding_of_pooling(module: Any) -> None:
    """At most half a window, so that no window lies outside the image."""
    for padding in (2, (0, 2), (2, 0)):
        for op in ("max_pool2d_forward", "avg_pool2d_forward"):
            with pytest.raises(ValueError, match=rf"^{op}: padding expects at most half of kernel_size \(3, 3\), got"):
                getattr(module, op)(IMAGES, 3, padding=padding)


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
def test_windows_whose_winners_fit_a_byte(module: Any) -> None:
    """255 marks a window without one, so that the largest window has the winners 0..254."""
    x = np.zeros((1, 1, 16, 17), np.float32)
    x[0, 0, 14, 16] = 1
    weight = np.ones((1, 1, 1, 1), np.float32)
    y, winners = module.conv2d_relu_max_pool2d_forward(x, weight, kernel_size=(15, 17))
    assert (np.asarray(y).item(), np.asarray(winners).item()) == (1, 254)
    with pytest.raises(ValueError, match=r"kernel_size expects at most 255 elements, .*got \(16, 16\)"):
        module.conv2d_relu_max_pool2d_forward(x, weight, kernel_size=16)


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    WRONG_SHAPES,
)
def test_wrong_shapes(module: Any, call: str, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        getattr(module, call)(*arguments)
    assert str(error.value).startswith(call)


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("index", [[0, 5], [-1, 0]])
def test_index_out_of_range(index: list[int]) -> None:
    for module in (ops, reference):
        with pytest.raises(ValueError, match=r"index expects values in 0\.\.4"):
            module.gather_images(np.zeros((5, 2, 2), np.uint8), index, mean=0.0, std=1.0)


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.dtype(">f4"), np.float64])
def test_wrong_dtypes(dtype: Any) -> None:
    with pytest.raises(TypeError, match=f"conv2d_forward: x expects a .*numpy array of float32, got {np.dtype(dtype)}"):
        ops.conv2d_forward(IMAGES.astype(dtype), FILTERS)
    with pytest.raises(TypeError, match=r"weight expects a .*numpy array of float32"):
        ops.conv2d_forward(IMAGES, FILTERS.astype(dtype))
    with pytest.raises(TypeError, match="got list"):
        ops.relu_forward([1.0])


@pytest.mark.usefixtures("device_kind")
def test_labels_of_any_integer_dtype_but_no_floats() -> None:
    logits = np.zeros((2, 3), np.float32)
    for dtype in (np.uint8, np.int16, np.int64, np.uint64):
        assert ops.softmax_cross_entropy(logits, np.array([0, 2], dtype))[0] == pytest.approx(np.log(3))
    for module in (ops, reference):
        with pytest.raises(TypeError, match="labels expects an array of integers, got float64"):
            module.softmax_cross_entropy(logits, [0.0, 2.0])
        with pytest.raises(ValueError, match=r"^softmax_cross_entropy: labels expects .* got rows of different lengths$"):
            module.softmax_cross_entropy(logits, [[0], [1, 2]])


def test_out_must_fit() -> None:
    y = np.empty((2, 4, 4, 4), np.float32)
    with pytest.raises(ValueError, match=r"out expects shape \(2, 4, 4, 4\), got \(2, 4, 4, 3\)"):
        ops.conv2d_forward(IMAGES, FILTERS, out=y[..., :3].copy())
    with pytest.raises(TypeError, match="out expects a numpy array of float32, got float64"):
        ops.conv2d_forward(IMAGES, FILTERS, out=y.astype(np.float64))
    for bad in (styled(y, "fortran"), styled(y, "misaligned"), styled(y, "read-only")):
        with pytest.raises(ValueError, match="C-contiguous, aligned and writable"):
            ops.conv2d_forward(IMAGES, FILTERS, out=bad)
    with pytest.raises(TypeError, match="tuple of 2 arrays"):
        ops.max_pool2d_forward(IMAGES, 2, out=y)


def test_out_must_not_overlap() -> None:
    x = np.zeros((3, 5), np.float32)
    with pytest.raises(ValueError, match="share memory"):
        ops.linear_forward(x, np.zeros((5, 5), np.float32), out=x)
    expect_same_bits(ops.relu_forward(x, out=x), x)  # in place is fine, element by element
    flat = np.zeros(10, np.float32)
    with pytest.raises(ValueError, match="share memory"):
        ops.relu_forward(flat[:5], out=flat[1:6])
    with pytest.raises(ValueError, match="share memory"):
        ops.relu_forward(flat[4::-1], out=flat[3:8])
    for x in (flat[:5], flat[4::-1]):  # neighbours may touch
        assert ops.relu_forward(x, out=flat[5:]) is not None


@pytest.mark.usefixtures("device_kind")
def test_empty_batches_have_no_loss() -> None:
    for module in (ops, reference):
        loss, dlogits = module.softmax_cross_entropy(np.zeros((0, 10), np.float32), np.zeros(0, np.int64))
        assert np.isnan(loss) and dlogits.shape == (0, 10)


def test_empty_is_aligned() -> None:
    for shape in ((3, 5), 7, (0, 2), ()):
        array = ops.empty(shape)
        assert (array.ctypes.data % 64 == 0 or array.size == 0) and array.dtype == np.float32 and array.flags.c_contiguous
    assert ops.empty((2, 3), np.uint8).dtype == np.uint8


# --- numbers ------------------------------------------------------------------------------------------------------------

SMALL = np.zeros((1, 1, 4, 4), np.float32)
FLAT = np.zeros(4, np.float32)
PIXELS = np.zeros((1, 2, 2), np.uint8)
PAIRS = (np.array([2, 2]), np.array([[2, 2], [2, 2]]), 2.0, "2", None, (2,), (2, 2, 2), (2, 2.0), [None, 2], {2, 3}, object())
LARGE = (2**31, 2**63, 2**70, -(2**70), (1, 2**70))
SIZES = ((1.9, 1, 4, 4), "1144", None, 4, np.zeros((4, 1)), [1, 1, 4, None])
NUMBERS = ("0.5", None, [0.5], np.zeros(2), 1j)
INTEGERS = (0.5, "1", None, np.zeros(2, int), [1])
TAUGHT = (SMALL[0, 0], [0] * 4, SMALL[0, 0])  # logits, labels, teacher

WRONG_TYPES = [
    *(("conv2d_forward", (SMALL, SMALL), {name: value}) for name in ("stride", "padding") for value in PAIRS),
    *(("max_pool2d_forward", (SMALL,), {"kernel_size": value}) for value in PAIRS),
    *(("max_pool2d_forward", (SMALL, 2), {"stride": value}) for value in PAIRS if value is not None),
    *(("conv2d_relu_max_pool2d_forward", (SMALL, SMALL[..., :2]), {"kernel_size": value}) for value in PAIRS),
    *(("max_pool2d_backward", (SMALL, SMALL.astype(np.int32)), {"x_shape": value}) for value in SIZES),
    *(("dropout_forward", (FLAT,), {"rate": value, "seed": 1, "counter": 1}) for value in NUMBERS),
    *(("dropout_forward", (FLAT,), {"seed": value, "rate": 0.5, "counter": 1}) for value in INTEGERS),
    *(("dropout_forward", (FLAT,), {"counter": value, "rate": 0.5, "seed": 1}) for value in INTEGERS),
    *(("softmax_cross_entropy", (SMALL[0, 0], [0] * 4), {"label_smoothing": value}) for value in NUMBERS),
    *(("softmax_distillation", TAUGHT, {"mix": value}) for value in NUMBERS),
    *(("softmax_distillation", TAUGHT, {"temperature": value, "mix": 1}) for value in NUMBERS),
    *(("gather_images", (PIXELS, [0]), {"mean": value, "std": 1}) for value in NUMBERS),
    *(("gather_images", (PIXELS, [0]), {"std": value, "mean": 1}) for value in NUMBERS),
    *(("Packed", (array,), {"algorithm": value}) for array in (SMALL, SMALL[0, 0]) for value in (None, 1, b"direct")),
]
WRONG_VALUES = [
    *(("conv2d_forward", (SMALL, SMALL), {name: value}) for name in ("stride", "padding") for value in LARGE),
    *(("max_pool2d_forward", (SMALL,), {"kernel_size": value}) for value in LARGE),
    *(("max_pool2d_backward", (SMALL, SMALL.astype(np.int32)), {"x_shape": (1, 1, 4, value)}) for value in (2**70, -1)),
    *(("dropout_forward", (FLAT,), {"seed": value, "rate": 0.5, "counter": 1}) for value in (-1, 2**64)),
    ("dropout_forward", (FLAT,), {"rate": 10**400, "seed": 1, "counter": 1}),
    ("dropout_forward", (FLAT,), {"rate": 1e-50 - 1, "seed": 1, "counter": 1}),
    ("softmax_cross_entropy", (SMALL[0, 0], [0] * 4), {"label_smoothing": np.nan}),
    *(("softmax_distillation", TAUGHT, {"mix": value}) for value in (-0.1, 1.1, np.nan)),
    *(("softmax_distillation", TAUGHT, {"temperature": value, "mix": 1}) for value in (0, -1, 1e-300, 1e300, np.nan)),
    *(("gather_images", (PIXELS, [0]), {"std": value, "mean": 0}) for value in (1e-300, 1e-39, 0, np.inf)),
    ("gather_images", (PIXELS, [0]), {"std": 0.1, "mean": 1e38}),
    ("Packed", (SMALL[..., :0],), {}),
    ("Packed", (SMALL[0],), {}),
    *(("Packed", (SMALL,), {"algorithm": value}) for value in ("", "\ud800", "direct\0")),
]


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("module", [ops, reference], ids=["ops", "reference"])
@pytest.mark.parametrize(("kind", "calls"), [(TypeError, WRONG_TYPES), (ValueError, WRONG_VALUES)], ids=["type", "value"])
def test_numbers_that_are_none(kind: type[Exception], calls: list[Any], module: Any) -> None:
    """One short line: the op, the argument, what it expects, what came."""
    for op, arguments, options in calls:
        name = next(iter(options), "weight")
        with pytest.raises(kind) as error:
            getattr(module, op)(*arguments, **options)
        message = str(error.value)
        assert message.startswith(f"{op}: {name} expects ") and ", got " in message, message
        assert "\n" not in message and len(message) < 200, message


STEPS = {
    "sgd_step": ("lr", "momentum", "weight_decay", "decay"),
    "adam_step": ("step", "lr", "beta1", "beta2", "eps", "weight_decay", "decay"),
    "muon_step": ("lr", "matrix_lr", "momentum", "weight_decay", "decay"),
}
OPTIONS: dict[str, dict[str, Any]] = {"adam_step": {"step": 1}, "muon_step": {"matrices": [(0, 1, 2)], "matrix_lr": 0.1}}


@pytest.mark.parametrize("module", [cpu_ops, reference], ids=["ops", "reference"])
@pytest.mark.parametrize(("op", "name"), [(op, name) for op, names in STEPS.items() for name in names])
def test_numbers_of_a_step(op: str, name: str, module: Any) -> None:
    arrays = [np.ones(3, np.float32) for _ in range(4 if op == "adam_step" else 3)]
    good: dict[str, Any] = {"lr": 0.1, **OPTIONS.get(op, {})}
    for value in INTEGERS[1:] if name == "step" else NUMBERS:
        with pytest.raises(TypeError, match=f"^{op}: {name} expects .*, got "):
            getattr(module, op)(*arrays, **good | {name: value})
    if name in ("beta1", "beta2", "step"):
        for value in (-1, 0) if name == "step" else (1, -0.1, 1e300):
            with pytest.raises(ValueError, match=f"^{op}: {name} expects .*, got "):
                getattr(module, op)(*arrays, **good | {name: value})
    assert all((array == 1).all() for array in arrays)


def test_scalars_of_numpy_are_numbers() -> None:
    x = integers(np.random.default_rng(0), (2, 1, 6, 6))
    pair = (np.int64(2), np.uint8(2))
    expect_same_bits(cpu_ops.max_pool2d_forward(x, pair, stride=np.array(2)), cpu_ops.max_pool2d_forward(x, 2))
    expect_same_bits(
        cpu_ops.dropout_forward(x, np.float64(0.5), np.uint64(2**64 - 1), np.int32(3)),
        cpu_ops.dropout_forward(x, 0.5, 2**64 - 1, 3),
    )
