"""What a backend's packed weights must do: give the bits of the weights themselves, and refuse what does not fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastlenet.backend import ALGORITHMS, FEW_IMAGES, Array
from fastlenet.testing.description import Backend
from fastlenet.testing.judging import WrongError, expect_same_bits
from fastlenet.testing.values import Numbers

__all__ = ["PACKED"]

_BATCHES = (1, FEW_IMAGES, 17)


def _on_backend(backend: Backend, *hosts: Array) -> tuple[Array, ...]:
    """Copies of NumPy arrays as arrays of the backend."""
    arrays = tuple(backend.empty(host.shape, host.dtype) for host in hosts)
    for array, host in zip(arrays, hosts, strict=True):
        array[...] = host
    return arrays


def _expect_refusal(what: str, pattern: str, call: Callable[[], object]) -> None:
    """The call must raise a ValueError of one line with this text."""
    try:
        call()
    except ValueError as error:
        if pattern not in str(error) or "\n" in str(error):
            raise WrongError(f"{what} expected a ValueError with {pattern!r}, got {error}") from None
    except Exception as error:
        raise WrongError(f"{what} expected a ValueError, got {type(error).__name__}: {error}") from None
    else:
        raise WrongError(f"{what} expected a ValueError, got a result")


def _expect_kept(backend: Backend, weight: Array, algorithm: str) -> None:
    """`weight` has the numbers that were packed, and `algorithm` the word."""
    packed = backend.Packed(weight, algorithm)
    expect_same_bits("Packed(weight).weight", np.asarray(packed.weight), np.asarray(weight))
    if packed.algorithm != algorithm:
        raise WrongError(f"Packed(weight, {algorithm!r}).algorithm expected {algorithm!r}, got {packed.algorithm!r}")


def matrix(backend: Backend) -> None:
    """linear_forward takes a packed matrix in the place of the weight, with and without a bias, to the same bits."""
    numbers = Numbers("normals", "packed matrix")
    weight, bias = _on_backend(backend, numbers(19, 35), numbers(19))
    _expect_kept(backend, weight, "direct")
    packed = backend.Packed(weight)
    for n in _BATCHES:
        host = numbers(n, 35)
        host[:, ::3] = 0  # as after ReLU
        (x,) = _on_backend(backend, host)
        for given, words in ((bias, ""), (None, " without bias")):
            expected, got = backend.linear_forward(x, weight, given), backend.linear_forward(x, packed, given)
            what = f"linear_forward(x, Packed(weight)) of {n}x35{words}"
            expect_same_bits(what, np.asarray(got), np.asarray(expected))
    _expect_refusal("Packed(weight, 'fft')", "algorithm", lambda: backend.Packed(weight, "fft"))
    (cube,) = _on_backend(backend, numbers(2, 3, 4))
    _expect_refusal("Packed of shape (2, 3, 4)", "weight", lambda: backend.Packed(cube))


def filters(backend: Backend) -> None:
    """The fused op takes packed filters in the place of the weight, by each algorithm, to the same bits; never by another."""
    numbers = Numbers("normals", "packed filters")
    weight, bias = _on_backend(backend, numbers(6, 3, 5, 5), numbers(6))
    op = backend.conv2d_relu_max_pool2d_forward
    for algorithm in ALGORITHMS:
        _expect_kept(backend, weight, algorithm)
        packed = backend.Packed(weight, algorithm)
        for n in _BATCHES:
            (x,) = _on_backend(backend, numbers(n, 3, 12, 12))
            expected, got = op(x, weight, bias, algorithm=algorithm), op(x, packed, bias, algorithm=algorithm)
            for name, mine, its in zip(("y", "winners"), got, expected, strict=True):
                what = f"{name} of the fused op with Packed(weight, {algorithm!r}) of {n}x3x12x12"
                expect_same_bits(what, np.asarray(mine), np.asarray(its))
    (x,) = _on_backend(backend, numbers(1, 3, 12, 12))
    direct = backend.Packed(weight, "direct")
    _expect_refusal(
        "the fused op by winograd with Packed(weight, 'direct')", "algorithm", lambda: op(x, direct, bias, algorithm="winograd")
    )


# Each check, and the op that it calls.
PACKED: dict[str, tuple[str, Callable[[Backend], None]]] = {
    "Packed matrix": ("linear_forward", matrix),
    "Packed filters": ("conv2d_relu_max_pool2d_forward", filters),
}
