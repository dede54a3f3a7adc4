"""check_backend: our three backends pass it, and each of many broken ones is found and named in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import conftest
from fastlenet import cuda, ops, reference
from fastlenet.backend import NAMES, Gap, Uncaptured
from fastlenet.testing import OPS, BackendError, check_backend
from fastlenet.testing.description import Array
from fastlenet.testing.packed import PACKED
from helpers.backends import ORDERS, on_device


def broken(base: ModuleType = reference, **changes: Any) -> ModuleType:
    """A backend like `base` but for these names; one that is None is missing."""
    module = ModuleType("broken")
    vars(module).update({name: getattr(base, name) for name in NAMES})
    for name, change in changes.items():
        if change is None:
            delattr(module, name)
        else:
            setattr(module, name, change)
    return module


def with_signature_of(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function that looks like the op, so that what it does is its only fault."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__wrapped__ = getattr(reference, name)
        return function

    return wrap


# --- ours --------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_kernels_pass(level: str) -> None:
    """The other files of this folder check the same properties of every op at every level."""
    report = check_backend(ops)
    assert report.checks > 500 and not report.failures and not report.gaps


@pytest.mark.slow
def test_the_reference_passes() -> None:
    assert not check_backend(reference).failures


@pytest.mark.cuda
@pytest.mark.parametrize("order", ORDERS)
def test_the_gpu_passes(order: str) -> None:
    with on_device(order):
        print(check_backend(cuda))


# --- broken ones -------------------------------------------------------------------------------------------------------------


@with_signature_of("conv2d_forward")
def wrong_sign(x: Any, weight: Any, bias: Any = None, **options: Any) -> Any:
    return reference.conv2d_forward(x, weight, None if bias is None else -bias, **options)


@with_signature_of("linear_backward")
def transposed_gradient(dy: Any, x: Any, weight: Any, **options: Any) -> Any:
    dx, dweight, dbias = reference.linear_backward(dy, x, weight, **options)
    dweight[...] = dweight.T.reshape(dweight.shape).copy()
    return dx, dweight, dbias


@with_signature_of("conv2d_backward")
def filters_not_turned(dy: Any, x: Any, weight: Any, **options: Any) -> Any:
    dx, *_ = ops.conv2d_backward(dy, x, weight[:, :, ::-1, ::-1], **options)
    _, dweight, dbias = ops.conv2d_backward(dy, x, weight, **options)
    return dx, dweight, dbias


@with_signature_of("sigmoid_forward")
def out_ignored(x: Any, *, out: Any = None) -> Any:
    return reference.sigmoid_forward(x)


@with_signature_of("relu_forward")
def out_unfilled(x: Any, *, out: Any = None) -> Any:
    y = reference.relu_forward(x)
    return y if out is None else out


@with_signature_of("relu_forward")
def changed_input(x: Any, *, out: Any = None) -> Any:
    y = reference.relu_forward(x, out=out)
    if isinstance(x, np.ndarray) and x.size and x.flags.writeable:
        x[...] = y
    return y


@with_signature_of("relu_forward")
def writes_outside(x: Any, *, out: Any = None) -> Any:
    y = reference.relu_forward(x, out=out)
    if out is not None and out.base is not None and out.base.dtype == np.uint8:
        out.base[-1] = 0
    return y


_calls = [0]


@with_signature_of("sigmoid_forward")
def another_rounding_each_time(x: Any, *, out: Any = None) -> Any:
    _calls[0] += 1
    y = reference.sigmoid_forward(x, out=out)
    if y.size > 1000:
        y[_calls[0] % 1000] = np.nextafter(y[_calls[0] % 1000], np.float32(1))
    return y


def _rounded(array: Array) -> Array:
    return array.astype(np.float16).astype(np.float32)


@with_signature_of("linear_forward")
def half_precision(x: Any, weight: Any, bias: Any = None, **options: Any) -> Any:
    """Integers are as exact as before."""
    if not isinstance(x, np.ndarray) or not isinstance(weight, np.ndarray) or x.dtype != np.float32 or weight.dtype != x.dtype:
        return reference.linear_forward(x, weight, bias, **options)
    return reference.linear_forward(_rounded(x), _rounded(weight), bias, **options)


@with_signature_of("relu_backward")
def double_results(dy: Any, y: Any, *, out: Any = None) -> Any:
    dx = reference.relu_backward(dy, y, out=out)
    return dx if out is not None else dx.astype(np.float64)


@with_signature_of("max_pool2d_forward")
def last_of_equals(x: Any, kernel_size: Any, **options: Any) -> Any:
    y, indices = reference.max_pool2d_forward(x, kernel_size, **options)
    if isinstance(x, np.ndarray) and x.ndim == 4 and x.size:
        flipped, places = reference.max_pool2d_forward(np.ascontiguousarray(x[..., ::-1, ::-1]), kernel_size)
        if flipped.shape == y.shape and not options.get("padding"):
            indices[...] = (x.shape[2] * x.shape[3] - 1 - places)[..., ::-1, ::-1]
    return y, indices


@with_signature_of("linear_forward")
def nameless_error(x: Any, weight: Any, bias: Any = None, **options: Any) -> Any:
    try:
        return reference.linear_forward(x, weight, bias, **options)
    except ValueError:
        raise ValueError("shapes do not fit") from None


@with_signature_of("sgd_step")
def touched_before_refused(parameters: Any, gradients: Any, velocity: Any, **options: Any) -> None:
    if isinstance(velocity, np.ndarray):
        velocity += 1
        velocity -= 1 if isinstance(options["lr"], float) else 0
    reference.sgd_step(parameters, gradients, velocity, **options)


@with_signature_of("squared_error")
def not_in_place(prediction: Any, target: Any, *, out: Any = None) -> Any:
    if out is prediction or out is target:
        raise ValueError("squared_error: out must not share memory with an input")
    return reference.squared_error(prediction, target, out=out)


@with_signature_of("linear_backward")
def no_empty_batch(dy: Any, x: Any, weight: Any, **options: Any) -> Any:
    if isinstance(x, np.ndarray) and not len(x):
        raise ZeroDivisionError("division by zero")
    return reference.linear_backward(dy, x, weight, **options)


@with_signature_of("dropout_backward")
def memory_order(dy: Any, mask: Any, *, out: Any = None) -> Any:
    """Multiplies element by element as they lie in memory."""
    result = reference.dropout_backward(dy, mask, out=out)
    if result.ndim == 2 and dy.flags.f_contiguous and not dy.flags.c_contiguous:
        result[...] = result.T.reshape(result.shape).copy()
    return result


def other_default(x: Any, weight: Any, bias: Any = None, *, stride: Any = 2, padding: Any = 0, out: Any = None) -> Any:
    return reference.conv2d_forward(x, weight, bias, stride=stride, padding=padding, out=out)


@with_signature_of("gather_images")
def next_image(images: Any, index: Any, **options: Any) -> Any:
    """The number after the one that is asked for, where there is one."""
    if isinstance(index, np.ndarray) and index.size and isinstance(images, np.ndarray) and images.ndim == 3:
        index = np.minimum(index + 1, len(images) - 1)
    return reference.gather_images(images, index, **options)


@with_signature_of("adam_step")
def uncorrected(parameters: Any, gradients: Any, first_moment: Any, second_moment: Any, *, step: Any, **options: Any) -> None:
    reference.adam_step(parameters, gradients, first_moment, second_moment, step=step, **options)
    if isinstance(options["lr"], float):
        parameters *= np.float32(1 + 1e-5)


@pytest.mark.parametrize(
    ("op", "function", "line"),
    [
        ("conv2d_forward", wrong_sign, "exact, 17x1x28x28-20of5x5-stride1-pad0: y expected "),
        ("conv2d_forward", other_default, "signature: signature expected keyword-only stride=1, got keyword-only stride=2"),
        ("conv2d_backward", filters_not_turned, "adjoint, 17x1x28x28-20of5x5-stride1-pad0: <dx, x> + <dbias, bias> expected "),
        ("max_pool2d_forward", last_of_equals, "exact, 3x5x8x8-window2-strideNone-pad0: indices expected "),
        ("linear_forward", half_precision, "bounded, 17x800-500: y expected "),
        ("linear_forward", nameless_error, "shapes: x of shape (3, 6, 1) expected a ValueError "),
        ("linear_backward", transposed_gradient, "exact, 17x800-500: dweight expected "),
        ("linear_backward", no_empty_batch, "empty batch: expected no exception, got ZeroDivisionError: division by zero"),
        ("relu_forward", out_unfilled, "exact, 5: y expected "),
        ("relu_forward", changed_input, "exact, 3x4x5: x after the call, bit for bit, expected "),
        ("relu_forward", writes_outside, "exact, 3x4x5: out expected nothing written outside of it, "),
        ("relu_backward", double_results, "bounded, 3x4x5: dx expected an array of float32, got float64"),
        ("sigmoid_forward", out_ignored, "out: y expected the array given as out, got another one"),
        (
            "sigmoid_forward",
            another_rounding_each_time,
            "repeatable, 50000: result 0 of the second call, bit for bit, ",
        ),
        ("dropout_backward", memory_order, "memory: result 0 of fortran arrays, bit for bit, expected "),
        ("squared_error", not_in_place, "in place: expected no exception, got ValueError: squared_error: out must not share "),
        ("gather_images", next_image, "exact, 37of50x28x27: x expected "),
        ("sgd_step", touched_before_refused, "numbers: velocity after a refusal, bit for bit, expected "),
        ("adam_step", uncorrected, "bounded, 17-step1-lr0.001-weight_decay0.01-averageNone: parameters expected "),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_is_found_and_named(op: str, function: Callable[..., Any], line: str) -> None:
    with pytest.raises(BackendError) as error:
        check_backend(broken(**{op: function}), ops=[op])
    lines = [str(failure) for failure in error.value.report.failures]
    assert any(found.startswith(f"{op}, {line}") for found in lines), lines
    assert all("\n" not in found and len(found) < 300 for found in lines)
    assert all(re.search(r" expected .+, got .+", found) for found in lines)
    assert str(error.value).splitlines()[1:] == lines


def float64_by_default(shape: Any, dtype: Any = np.float64) -> Array:
    return np.empty(shape, dtype)


class Nothing(Uncaptured[Array]):
    """A graph that leaves its function's work undone."""

    def __init__(self, function: Callable[..., object], *inputs: Array) -> None:
        self.result = None


class Forgetful(Uncaptured[Array]):
    """A graph that says it was launched, and did nothing."""

    reason = None
    calls = 1

    def launch(self, *, copy_of: Array | None = None) -> None:
        pass


class Rounded(reference.Packed):
    """A packed weight that lost its last bits."""

    def __init__(self, weight: Array, algorithm: str = "direct") -> None:
        super().__init__((weight.astype(np.float16)).astype(np.float32), algorithm)


@with_signature_of("linear_forward")
def without_bias_if_packed(x: Any, weight: Any, bias: Any = None, **options: Any) -> Any:
    return reference.linear_forward(x, weight, None if isinstance(weight, reference.Packed) else bias, **options)


@with_signature_of("conv2d_relu_max_pool2d_forward")
def winners_lost_if_packed(x: Any, weight: Any, bias: Any = None, **options: Any) -> Any:
    y, winners = reference.conv2d_relu_max_pool2d_forward(x, weight, bias, **options)
    return y, np.zeros_like(winners) if isinstance(weight, reference.Packed) and len(x) == 1 else winners


class AnyAlgorithm(reference.Packed):
    """A packed weight that does not remember for which algorithm it is."""

    def __init__(self, weight: Array, algorithm: str = "direct") -> None:
        super().__init__(weight, algorithm)

    def expect_algorithm(self, op: str, algorithm: str) -> None:
        pass


class AnyWord(reference.Packed):
    """A packed weight that takes any word for an algorithm, and forgets it."""

    def __init__(self, weight: Array, algorithm: str = "direct") -> None:
        super().__init__(weight, "direct")


class AnyShape(reference.Packed):
    """A packed weight that takes arrays which no op takes."""

    def __init__(self, weight: Array, algorithm: str = "direct") -> None:
        if weight.ndim == 3:
            weight = weight[0]
        super().__init__(weight, algorithm)


FUSED = "conv2d_relu_max_pool2d_forward"


@pytest.mark.parametrize(
    ("changes", "name", "line"),
    [
        ({"Packed": Rounded}, "Packed matrix", "Packed(weight).weight, bit for bit, expected "),
        ({"Packed": Rounded}, "Packed filters", "Packed(weight).weight, bit for bit, expected "),
        (
            {"linear_forward": without_bias_if_packed},
            "Packed matrix",
            "linear_forward(x, Packed(weight)) of 1x35, bit for bit, expected ",
        ),
        (
            {FUSED: winners_lost_if_packed},
            "Packed filters",
            "winners of the fused op with Packed(weight, 'direct') of 1x3x12x12, bit for bit, expected ",
        ),
        (
            {"Packed": AnyAlgorithm},
            "Packed filters",
            "the fused op by winograd with Packed(weight, 'direct') expected a ValueError, got a result",
        ),
        ({"Packed": AnyWord}, "Packed matrix", "Packed(weight, 'fft') expected a ValueError, got a result"),
        ({"Packed": AnyWord}, "Packed filters", "Packed(weight, 'winograd').algorithm expected 'winograd', got 'direct'"),
        ({"Packed": AnyShape}, "Packed matrix", "Packed of shape (2, 3, 4) expected a ValueError, got a result"),
    ],
    ids=lambda given: given if isinstance(given, str) else " ".join(value.__name__ for value in given.values()),
)
def test_a_fault_of_packed_weights_is_found_and_named(changes: dict[str, Any], name: str, line: str) -> None:
    _, check = PACKED[name]
    with pytest.raises(AssertionError) as error:
        check(broken(**changes))
    assert str(error.value).startswith(line) and "\n" not in str(error.value)
    check(reference)


def test_check_backend_checks_packed_weights() -> None:
    left_out = {op: Gap(op, "not of this test") for op in OPS if op != "linear_forward"}
    with pytest.raises(BackendError) as error:
        check_backend(broken(**left_out, Packed=Rounded))
    (failure,) = error.value.report.failures
    assert str(failure).startswith("backend, Packed matrix: Packed(weight).weight, bit for bit, expected ")


def test_packed_weights_wait_for_their_ops() -> None:
    """Without the op that takes them they are not checked."""
    left_out = {op: Gap(op, "not yet") for op in OPS if op != "relu_forward"}
    assert not check_backend(broken(**left_out, Packed=None)).failures


def test_what_is_missing_is_found_and_named() -> None:
    """A missing op is one line, and does not hide what others do; the transpose of a missing forward op is not tried."""
    report = check_backend(
        broken(relu_forward=None, dropout_forward=None), ops=["relu_forward", "relu_backward"], on_fail="report"
    )
    missing = "relu_forward, name: expected an op of this name, got none; until it comes, put a fastlenet.backend.Gap there"
    assert [str(failure) for failure in report.failures] == [missing]
    left_out = {op: Gap(op, "not of this test") for op in OPS if op != "relu_forward"}
    for name, change, line in [
        ("name", "", "backend, name: name expected a string, got ''"),
        ("level", None, "backend, level: level() expected a string, got None"),
        ("empty", None, "backend, empty: empty expected a function of a shape and a dtype, got none"),
        ("empty", float64_by_default, "backend, empty: empty(5) expected float32 of shape (5,), got float64 of shape (5,)"),
        ("Graph", Nothing, "backend, Graph: Graph(function, x) expected [0.0, 2.0, 0.0], got "),
        ("Graph", Forgetful, "backend, Graph: launch() expected [4.0, 0.0, 6.0], got [0.0, 2.0, 0.0]"),
    ]:
        with pytest.raises(BackendError) as error:
            check_backend(broken(**left_out, **{name: change}))
        assert line in str(error.value)


def test_gaps_are_declared() -> None:
    """They are listed, not failures; but what is there is no gap."""
    both, reasons = ["relu_forward", "relu_backward"], {"relu_forward": "no kernel yet", "relu_backward": "no kernel yet"}
    declared = broken(**{name: Gap(name, reason) for name, reason in reasons.items()})
    for report in (
        check_backend(broken(relu_forward=None, relu_backward=None), gaps=reasons, ops=both),
        check_backend(declared, ops=both),
    ):
        assert report.gaps == reasons and not report.checks and not report.failures
        assert str(report).splitlines()[1:] == [f"{name}: a declared gap, no kernel yet" for name in reasons]
    # The transpose is not tried without its forward op, all else is.
    report = check_backend(broken(relu_forward=Gap("relu_forward", "no kernel yet")), ops=both)
    assert report.checks and list(report.gaps) == ["relu_forward"]
    with pytest.raises(NotImplementedError, match=r"^relu_forward: this backend has no such op \(no kernel yet\); "):
        declared.relu_forward([0.0])
    for gaps, line in [
        (["sigmoid_forward"], "sigmoid_forward, gap: expected no such op, since it is declared a gap, got one; "),
        (["sigmiod_forward"], "sigmiod_forward, gap: expected the name of an op, got 'sigmiod_forward'"),
    ]:
        with pytest.raises(BackendError) as error:
            check_backend(reference, gaps=gaps, ops=["relu_forward"])
        assert line in str(error.value)


def test_the_tests_print_the_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "relu_forward", Gap("relu_forward", "no text yet"))
    lines: list[str] = []
    conftest.pytest_terminal_summary(SimpleNamespace(write_line=lines.append))
    assert "fastlenet.reference has no relu_forward yet: no text yet" in lines


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"^check_backend: on_fail expects 'raise' or 'report', got 'stop'$"):
        check_backend(reference, on_fail="stop")
    with pytest.raises(ValueError, match=r"^check_backend: ops expects names of ops, got 'relu'$"):
        check_backend(reference, ops=["relu"])
