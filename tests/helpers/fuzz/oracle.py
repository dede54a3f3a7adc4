"""What an op must return: the reference's numbers, exactly or within a derived bound of their float64 values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastlenet import reference
from fastlenet.augment import Transform
from helpers.expect import gamma
from helpers.fuzz.calls import WRITTEN, Call
from helpers.fuzz.compare import LARGEST, TINY, MismatchError, expect_equal, expect_none, expect_within
from helpers.fuzz.draw import Array
from helpers.oracles import Truth, by_tiles, matrices, sampling_bound

# Their results are float32's own: nothing is added, or in one order.
_ROUNDED_ALIKE = (
    "max_pool2d_forward",
    "max_pool2d_backward",
    "relu_forward",
    "relu_backward",
    "dropout_forward",
    "dropout_backward",
    "pack_filters",
    "empty",
)


def _convert(arguments: dict[str, Any], change: Callable[[Array], Array]) -> dict[str, Any]:
    return {
        name: change(value) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value
        for name, value in arguments.items()
    }


def _run(op: str, arguments: dict[str, Any]) -> tuple[Any, ...]:
    """The reference's results, those of a step being the arrays that it changed."""
    if op in WRITTEN:
        getattr(reference, op)(**arguments)
        return tuple(arguments[name] for name in WRITTEN[op])
    result = getattr(reference, op)(**arguments)
    return result if isinstance(result, tuple) else (result,)


def expected(call: Call) -> tuple[Any, ...]:
    """By the reference, in float64 where a sum rounds. Raises what the reference raises; leaves the arguments as they are."""
    with np.errstate(all="ignore"):
        dtype = np.float32 if call.op in _ROUNDED_ALIKE else np.float64
        arguments = _convert(call.arguments, lambda array: array.astype(dtype))
        return _run(call.op, arguments)


def _sizes(call: Call, **changes: Any) -> tuple[Any, ...]:
    """The same sums of the terms' sizes."""
    arguments = _convert(call.arguments, lambda array: np.abs(array.astype(np.float64)))
    return _run(call.op, arguments | changes)


def _sum(what: str, actual: Array, exact: Array, sizes: Array, terms: int, call: Call) -> None:
    """A sum of so many products, in any order, with or without fused multiply-adds (Higham 2002)."""
    if call.exact:
        expect_equal(what, actual.astype(np.float64), exact)
        return
    if _mixes_huge(call):  # an infinity may meet a sum that has left the range
        sizes = np.where(np.isfinite(sizes), sizes, LARGEST)
    with np.errstate(all="ignore"):
        expect_within(what, actual, exact, gamma(terms) * sizes + terms * TINY, sizes)


def _floats(call: Call) -> list[Array]:
    return [value for value in call.arguments.values() if isinstance(value, np.ndarray) and value.dtype == np.float32]


def _finite(*arrays: Any) -> bool:
    return all(array is None or bool(np.isfinite(array).all()) for array in arrays)


def _mixes_huge(call: Call) -> bool:
    arrays = _floats(call)
    return not _finite(*arrays) and any((np.abs(a[np.isfinite(a)]) > 1e15).any() for a in arrays)


# --- op by op ---------------------------------------------------------------------------------------------------------------


def _conv2d_forward(call: Call, exact: Any, actual: Any) -> None:
    sizes = [None] if call.exact else _sizes(call)
    _sum("y", actual[0], exact[0], sizes[0], int(np.prod(call.arguments["weight"].shape[1:])) + 1, call)


def _gradients(call: Call, exact: Any, actual: Any, terms: tuple[int, int, int]) -> None:
    sizes = (None,) * 3 if call.exact else _sizes(call)
    for name, a, e, size, count in zip(("dx", "dweight", "dbias"), actual, exact, sizes, terms, strict=True):
        if e is None:
            if a is not None:
                raise MismatchError(f"{name}: expected None")
            continue
        _sum(name, a, e, size, max(count, 1), call)


def _conv2d_backward(call: Call, exact: Any, actual: Any) -> None:
    """But for dx where a weight is not finite, which spreads (ops' docstring)."""
    dy, weight = call.arguments["dy"], call.arguments["weight"]
    positions = dy.shape[0] * dy.shape[2] * dy.shape[3]
    if not _finite(weight):
        exact, actual = (None, *exact[1:]), (None, *actual[1:])
    _gradients(call, exact, actual, (weight.shape[0] * weight.shape[2] * weight.shape[3], positions, positions))


def _fused_backward(call: Call, exact: Any, actual: Any) -> None:
    """Where x and weight are finite: else a loser, which counts as absent, would be NaN in the reference (ops' docstring)."""
    dy, x, weight = (call.arguments[name] for name in ("dy", "x", "weight"))
    if _finite(x, weight):
        positions = dy.shape[0] * dy.shape[2] * dy.shape[3]
        _gradients(call, exact, actual, (weight.shape[0] * weight.shape[2] * weight.shape[3], positions, positions))


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return int(first), int(second)


def _windows(conv: Array, kernel_size: Any) -> Array:
    view = reference._window_view(conv, *_pair(kernel_size))
    return view.reshape(*view.shape[:4], -1) if view.size else np.zeros((*view.shape[:4], int(np.prod(view.shape[4:]))))


def _fused_bound(call: Call) -> tuple[Array, Array]:
    """How far each output of the convolution may be off, and how large what it passes may become."""
    a = call.arguments
    numbers = {name: None if a[name] is None else np.abs(a[name].astype(np.float64)) for name in ("x", "weight", "bias")}
    sizes = reference.conv2d_forward(**numbers, padding=a["padding"])
    c, r, s = a["weight"].shape[1:]
    bound, largest = gamma(c * r * s + 1) * sizes + (c * r * s + 1) * TINY, sizes
    if a["algorithm"] == "winograd" and r == s and r in (3, 5) and _pair(a["kernel_size"]) == (2, 2) and sizes.size and c:
        transforms = [np.abs(matrix) for matrix in matrices(r)]
        tiles = by_tiles(numbers["x"], numbers["weight"], _pair(a["padding"]), (transforms[0], transforms[1], transforms[2]))
        tiles = tiles[:, :, : sizes.shape[2], : sizes.shape[3]]
        tiles = tiles if numbers["bias"] is None else tiles + numbers["bias"][:, None, None]
        # As in test_winograd.py. What is too small to be rounded by a factor may be lost: 2^-100 stands far above it.
        bound, largest = np.maximum(bound, gamma(c + 19) * tiles + 2.0**-100), np.maximum(sizes, tiles)
    return bound, largest


def _fused_forward(call: Call, exact: Any, actual: Any) -> None:
    a, (y, winners) = call.arguments, actual
    winograd = a["algorithm"] == "winograd"
    if call.exact and not winograd:
        expect_equal("y", y.astype(np.float64), exact[0])
        expect_equal("winners", winners, exact[1])
        return
    numbers = {name: None if a[name] is None else a[name].astype(np.float64) for name in ("x", "weight", "bias")}
    conv = _windows(reference.conv2d_forward(**numbers, padding=a["padding"]), a["kernel_size"])
    if not conv.size:
        return
    bounds, sizes = (_windows(array, a["kernel_size"]) for array in _fused_bound(call))
    bound, largest, best = bounds.max(-1), sizes.max(-1), conv.max(-1)
    dead = winners == reference.DEAD
    expect_none("winners", ~dead & (winners >= conv.shape[-1]), winners, exact[1])
    chosen = np.take_along_axis(conv, np.where(dead, 0, winners)[..., None].astype(np.int64), -1)[..., 0]
    calm = largest < LARGEST / 2
    expect_none("y", calm & ~(np.abs(y - np.maximum(best, 0)) <= bound), y, exact[0])
    expect_none("winners", calm & ~dead & ~(chosen >= best - 2 * bound), winners, exact[1])
    expect_none("dead winners", calm & dead & ~((best <= bound) & (y == 0)), winners, exact[1])
    if winograd or _mixes_huge(call):
        return  # what is not finite may spread (ops' docstring)
    # An infinity or NaN is that of the reference: the first of the largest, or of the NaN.
    wild = (np.isnan(best) | (best == np.inf)) & ~np.isfinite(largest)
    expect_none("y", wild & ~((y == exact[0]) | (np.isnan(y) & np.isnan(exact[0]))), y, exact[0])
    expect_none("winners", wild & (winners != exact[1]), winners, exact[1])


def _linear_forward(call: Call, exact: Any, actual: Any) -> None:
    if call.arguments["skip_zeros"] and not _finite(call.arguments["weight"]):
        return  # it leaves out what a zero would meet (ops' docstring)
    sizes = [None] if call.exact else _sizes(call)
    _sum("y", actual[0], exact[0], sizes[0], call.arguments["weight"].shape[1] + 1, call)


def _linear_backward(call: Call, exact: Any, actual: Any) -> None:
    n, outputs = call.arguments["dy"].shape
    _gradients(call, exact, actual, (outputs, n, n))


def _rounded_alike(call: Call, exact: Any, actual: Any) -> None:
    for i, (a, e) in enumerate(zip(actual, exact, strict=True)):
        expect_equal(f"result {i}", a, e)


def _sigmoid_forward(call: Call, exact: Any, actual: Any) -> None:
    worst = Truth(call.arguments["x"]).worst_ulp(actual[0])
    if worst > 2:
        raise MismatchError(f"y: {worst} ulp")


def _sigmoid_backward(call: Call, exact: Any, actual: Any) -> None:
    """Three roundings, in either order of the products; each may lose what is too small, which the other factor then scales."""
    dy, y = (np.abs(call.arguments[name].astype(np.float64)) for name in ("dy", "y"))
    rest = np.abs(1 - call.arguments["y"].astype(np.float64))
    with np.errstate(all="ignore"):
        largest = np.maximum(np.maximum(dy * y, y * rest), np.abs(exact[0]))
        expect_within("dx", actual[0], exact[0], gamma(3) * np.abs(exact[0]) + TINY * (1 + dy + rest), largest)


def _softmax_cross_entropy(call: Call, exact: Any, actual: Any) -> None:
    """In float64, where exp errs by 3e-13 at most; rounded once. The loss is a difference of numbers as large as the logits."""
    (loss, dlogits), (exact_loss, exact_gradient) = actual, exact
    logits = np.abs(call.arguments["logits"].astype(np.float64))
    bound = 1e-12 * (61 + abs(exact_loss)) + (dlogits.shape[1] + 8) * 2.0**-53 * logits.max(initial=0, where=logits < np.inf)
    if not (abs(loss - exact_loss) <= bound or loss == exact_loss or np.isnan([loss, exact_loss]).all()):
        raise MismatchError(f"loss: {loss!r} instead of {exact_loss!r}")
    bound = np.spacing(np.abs(exact_gradient).astype(np.float32)) / 2 + 1e-12 / max(len(dlogits), 1)
    expect_within("dlogits", dlogits, exact_gradient, bound, np.abs(exact_gradient))


def _squared_error(call: Call, exact: Any, actual: Any) -> None:
    """The loss in float64, of terms that are not negative; the gradient rounded once."""
    (loss, gradient), (exact_loss, exact_gradient) = actual, exact
    bound = (gradient.size + 4) * 2.0**-52 * abs(exact_loss)
    if not (abs(loss - exact_loss) <= bound or loss == exact_loss or np.isnan([loss, exact_loss]).all()):
        raise MismatchError(f"loss: {loss!r} instead of {exact_loss!r}")
    with np.errstate(all="ignore"):
        expect_within("dprediction", gradient, exact_gradient, gamma(1) * np.abs(exact_gradient) + TINY, np.abs(exact_gradient))


def _inverse_root(call: Call, exact: Any, actual: Any) -> None:
    if not (abs(actual[0] - exact[0]) <= 2.0**-51 * abs(exact[0]) or actual == exact or np.isnan([*actual, *exact]).all()):
        raise MismatchError(f"{actual[0]!r} instead of {exact[0]!r}")


def _gather_images(call: Call, exact: Any, actual: Any) -> None:
    """A table's numbers exactly; samples as in test_augment.py, and of a matrix of the caller's as in test_bounds.py."""
    a = call.arguments
    transform, (h, w), mean, std = a["transform"], a["images"].shape[1:], abs(float(a["mean"])), float(a["std"])
    if transform is None or (isinstance(transform, Transform) and not transform.augmentation.warps):
        expect_equal("x", actual[0], exact[0])
        return
    if not exact[0].size:
        return
    if isinstance(transform, Transform):
        bounds = [sampling_bound(transform, int(number), h, w)[None] for number in np.asarray(a["index"])]
        bound: Array = np.stack(bounds)
    else:
        # A coordinate is a sum of three products and the border: its error moves a sample by at most 255 a pixel, the steepest.
        with np.errstate(all="ignore"):
            extent = np.abs(transform.astype(np.float64)) @ np.array([h, w, 1.0]) + 1
            bound = (gamma(5) * extent.sum(-1) + gamma(8) * (1 + mean)) / std
            # Beyond what a float32 can place, the sample is any that the image has; black outside it is left.
            bound = np.where(np.isfinite(bound), bound, 0)[:, None, None, None] + np.zeros(exact[0].shape)
    off = ~(np.abs(actual[0].astype(np.float64) - exact[0]) <= bound)
    expect_none("x", off & (np.abs(exact[0]) < LARGEST / 2), actual[0], exact[0])


def _step(call: Call, exact: Any, actual: Any) -> None:
    """Each array within the roundings of its sums, if its rates are numbers that float32 has, to which they are rounded."""
    rates = {name: value for name, value in call.arguments.items() if isinstance(value, (float, np.floating))}
    if not all(abs(rate) < 1e30 for rate in rates.values()) or not all(0 <= rates.get(b, 0) < 1 for b in ("beta1", "beta2")):
        return
    if rates.get("eps", 0) < 0:  # it may cancel the root
        return
    with np.errstate(all="ignore"):
        bounds = {"sgd_step": _sgd_bounds, "adam_step": _adam_bounds, "ema_step": _ema_bounds}[call.op](call)
    for name, a, e, (bound, largest) in zip(WRITTEN[call.op], actual, exact, bounds, strict=True):
        if a is None:
            continue
        if _mixes_huge(call):
            largest = np.where(np.isfinite(largest), largest, LARGEST)
        expect_within(name, a, e, bound, largest)


def _sizes_of(call: Call, *names: str) -> list[Any]:
    values = (call.arguments[name] for name in names)
    return [np.abs(value.astype(np.float64)) if isinstance(value, np.ndarray) else abs(float(value or 0)) for value in values]


def _sgd_bounds(call: Call) -> list[Any]:
    """Ten roundings at most lie on any term's way, the numbers' own included."""
    names = ("parameters", "gradients", "velocity", "lr", "momentum", "weight_decay")
    p, g, v, lr, momentum, decay = _sizes_of(call, *names)
    gradient = g + decay * p
    velocity = momentum * v + gradient if momentum else gradient
    change = gradient + momentum * velocity if call.arguments["nesterov"] else velocity
    parameters = p + lr * change
    if not momentum:  # and the velocity is left alone
        return [(gamma(10) * parameters + 10 * TINY * (1 + lr), np.maximum(parameters, change)), (0.0, v)]
    kept = gamma(5) * velocity + 5 * TINY, velocity
    return [(gamma(10) * parameters + 10 * TINY * (1 + lr), np.maximum(parameters, change)), kept]


def _adam_bounds(call: Call) -> list[Any]:
    """As in test_bounds.py; with moments that are not zero, and squares that are too small for float32."""
    names = ("parameters", "gradients", "first_moment", "second_moment", "lr", "beta1", "beta2", "eps", "weight_decay")
    p, g, m, v, lr, beta1, beta2, eps, decay = _sizes_of(call, *names)
    step = call.arguments["step"]
    first, second = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    correction, rate = 1 / (1 - beta2**step), lr / (1 - beta1**step)
    denominator = np.sqrt(second * correction) + eps
    change = rate * first / denominator
    lost = np.sqrt(4 * TINY * correction) / denominator
    bound = gamma(3) * p * (1 + lr * decay) + (gamma(14) + lost) * change + 16 * TINY * (1 + (1 + rate) / denominator)
    largest = np.maximum(np.maximum(p, change + rate * first), np.maximum(g**2, second))
    return [
        # An infinite second moment is divided by: what it may round to is not looked at.
        (bound, np.where(np.isfinite(change + second) | np.isnan(change), largest, LARGEST)),
        (gamma(4) * first + 4 * TINY, first),
        (gamma(5) * second + 5 * TINY, np.maximum(g**2, second)),
    ]


def _ema_bounds(call: Call) -> list[Any]:
    """The decay is rounded before it is taken from 1, which is then exact or rounded by less."""
    average, parameters, decay = _sizes_of(call, "average", "parameters", "decay")
    size = decay * average + (1 + decay) * parameters
    return [(gamma(4) * size + 4 * TINY, size)]


def _nothing(call: Call, exact: Any, actual: Any) -> None:
    """The layout of packed filters is the backend's own, and empty arrays hold anything."""


_JUDGES: dict[str, Callable[[Call, Any, Any], None]] = {
    "conv2d_forward": _conv2d_forward,
    "conv2d_backward": _conv2d_backward,
    "conv2d_relu_max_pool2d_forward": _fused_forward,
    "conv2d_relu_max_pool2d_backward": _fused_backward,
    "linear_forward": _linear_forward,
    "linear_backward": _linear_backward,
    "sigmoid_forward": _sigmoid_forward,
    "sigmoid_backward": _sigmoid_backward,
    "softmax_cross_entropy": _softmax_cross_entropy,
    "squared_error": _squared_error,
    "inverse_root": _inverse_root,
    "gather_images": _gather_images,
    "pack_filters": _nothing,
    "empty": _nothing,
    **dict.fromkeys(WRITTEN, _step),
    **dict.fromkeys(_ROUNDED_ALIKE[:6], _rounded_alike),
}


def judge(call: Call, exact: tuple[Any, ...], actual: tuple[Any, ...]) -> None:
    """Raises MismatchError unless the results are those of the reference."""
    for i, (a, e) in enumerate(zip(actual, exact, strict=True)):
        if isinstance(e, np.ndarray) and call.op not in ("pack_filters", "empty") and (a.shape != e.shape):
            raise MismatchError(f"result {i}: shape {a.shape} instead of {e.shape}")
    with np.errstate(all="ignore"):
        _JUDGES[call.op](call, exact, actual)
