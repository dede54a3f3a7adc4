"""The contract of a backend, as types. `fastlenet.ops`, `fastlenet.reference` and `fastlenet.cuda` fulfil it.

A backend is a module, or any object, with the names of `Backend`. A network takes a backend as its `ops`, and calls nothing
else on activations, parameters and gradients. `fastlenet.ops` documents each op: shapes, ties, errors, source. mypy checks a
backend's signatures, and `fastlenet.testing.check_backend` its results.

Legend: n batch, c in-channels, k out-channels, h w input, p q output, r s filter or window; gradients dx, dweight, dbias, dy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, NoReturn, Protocol, SupportsFloat, TypeVar, overload

import numpy as np
import numpy.typing as npt

from fastlenet.augment import Transform
from fastlenet.fields import shown

__all__ = [
    "ALGORITHMS",
    "DEAD",
    "FEW_IMAGES",
    "NAMES",
    "OPS",
    "PRECISIONS",
    "Array",
    "Backend",
    "Gap",
    "Gradients",
    "Graph",
    "Packed",
    "Pair",
    "Shape",
    "Uncaptured",
    "as_integers",
    "expect_algorithm",
    "gaps_of",
]

Array = npt.NDArray[Any]  # a NumPy array; layers and optimizers use this type for the arrays of any backend
Shape = tuple[int, ...]
Pair = int | tuple[int, int]  # for rows and columns

DEAD = 255  # in `winners`: the window has no positive number, and receives no gradient
ALGORITHMS = ("direct", "winograd")  # of fused convolutions
PRECISIONS = ("float32", "bf16")  # of the factors of products
FEW_IMAGES = 4  # up to this number, packed weights and graphs of frozen models save time

A = TypeVar("A")  # the backend's arrays

Gradients = tuple[A | None, A, A]  # dx, or None without need_dx; dweight; dbias


class Graph(Protocol[A]):
    """A captured sequence of op calls, which `launch` repeats without Python.

    Graph(function, *inputs) calls function(*inputs) and captures the ops that it calls. `launch` calls these ops again, in the
    same order and on the same arrays, which may then contain other numbers. It repeats nothing else that the function does. The
    graph keeps the arrays alive. The inputs are the arrays that the caller fills between launches.

    Some work cannot be captured and voids the graph: an op that takes or returns Python numbers, since they would not change
    from launch to launch; an op that fails; and a call of `void`. The function has then done its work all the same, `reason`
    names the cause, and `launch` raises RuntimeError.
    """

    captures_one_thread: ClassVar[bool]  # True: other threads may call ops while a graph is captured
    captures_steps: ClassVar[bool]  # True: rates and counters may lie on the device, so whole training steps are captured

    def __init__(self, function: Callable[..., object], *inputs: A) -> None: ...

    @property
    def reason(self) -> str | None:
        """The reason why the graph cannot be launched, in one line, or None if it can."""

    @property
    def result(self) -> object:
        """The function's return value. If it is an array, each launch overwrites its numbers."""

    @property
    def calls(self) -> int:
        """The number of ops that were called during the capture, including those that could not be captured."""

    def reads(self, *arrays: A) -> bool:
        """Returns whether these arrays are the inputs: the same memory, shapes and dtypes."""

    @overload
    def launch(self) -> None: ...

    @overload
    def launch(self, *, copy_of: A) -> A | None: ...

    @staticmethod
    def void(reason: str) -> None:
        """Void the graph that this thread is capturing, if any. Call it before computing without ops. reason: one line."""


class Packed(Generic[A]):
    """A weight in the layout that is fastest for a few images. Ops take it in place of the weight.

    weight: (out, in) for linear_forward, or (k, c, r, s) for conv2d_relu_max_pool2d_forward with the same algorithm. The array
    is kept, not copied; pack it again after a change. The results have the same bits as with the weight itself. Each backend
    derives its own class from this one, which checks the arguments and keeps them.
    """

    def __init__(self, weight: A, algorithm: str = "direct") -> None:
        expect_algorithm("Packed", algorithm)
        self.weight, self.algorithm = weight, algorithm

    def expect_algorithm(self, op: str, algorithm: str) -> None:
        """Raises ValueError unless the weight was packed for the algorithm of the op's call."""
        expect_algorithm(op, algorithm)
        if algorithm != self.algorithm:
            expected = f"{self.algorithm!r}, for which the weight was packed"
            raise ValueError(f"{op}: algorithm expects {expected}, got {algorithm!r}")


def expect_algorithm(op: str, algorithm: object) -> None:
    """Raises TypeError or ValueError unless it is one of ALGORITHMS."""
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        kind = ValueError if isinstance(algorithm, str) else TypeError
        raise kind(f"{op}: algorithm expects {' or '.join(map(repr, ALGORITHMS))}, got {shown(algorithm)}")


_PackedWeight = Packed  # since in Backend its name is that of a member


def as_integers(op: str, argument: str, values: object) -> Array:
    """An array of any integer dtype as int64; another dtype is refused rather than truncated."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{op}: {argument} expects an array of integers, got a masked array, whose mask would be ignored")
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{op}: {argument} expects an array of integers, got rows of different lengths") from None
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{op}: {argument} expects an array of integers, got {array.dtype}")
    return array.astype(np.int64, copy=False)


@dataclass(frozen=True)
class Rate:
    """A learning rate that each launch of a graph reads anew: cell, float64 of shape (), times a factor."""

    cell: Array
    factor: float = 1.0

    def __mul__(self, factor: float) -> Rate:
        return replace(self, factor=self.factor * factor)

    def __float__(self) -> float:
        return float(self.cell) * self.factor


@dataclass(frozen=True)
class Count:
    """A number of steps or passes, or an epoch, which each launch of a graph reads anew.

    cell: uint64 of shape (), to which `offset` is added.
    """

    cell: Array
    offset: int = 0

    def __add__(self, more: int) -> Count:
        return replace(self, offset=self.offset + more)

    def __index__(self) -> int:
        return int(self.cell) + self.offset


class Backend(Protocol[A]):
    """The names of a backend whose arrays have the type A.

    A backend may accept more than this: other arrays, or numbers in its device's memory.
    """

    __name__: str  # the module's name, by which a pickled network finds its backend
    name: str  # the backend's name in messages and files

    @property
    def Graph(self) -> type[Graph[A]]:
        """The class of the backend's graphs."""

    @property
    def Packed(self) -> type[Packed[A]]:
        """The class of the backend's packed weights."""

    def level(self) -> str:
        """Returns the level on which the last bits of results depend: an instruction-set level or a kind of device."""

    def empty(self, shape: int | Sequence[int], dtype: npt.DTypeLike = ...) -> A:
        """Returns a dense array with undefined numbers, float32 by default."""

    # --- layers ---

    def conv2d_forward(
        self, x: A, weight: A, bias: A | None = ..., *, stride: Pair = ..., padding: Pair = ..., out: A | None = ...
    ) -> A: ...

    def conv2d_backward(
        self,
        dy: A,
        x: A,
        weight: A,
        *,
        stride: Pair = ...,
        padding: Pair = ...,
        need_dx: bool = ...,
        out: tuple[A | None, A | None, A | None] | None = ...,
    ) -> Gradients[A]: ...

    def max_pool2d_forward(
        self,
        x: A,
        kernel_size: Pair,
        *,
        stride: Pair | None = ...,
        padding: Pair = ...,
        out: tuple[A | None, A | None] | None = ...,
    ) -> tuple[A, A]: ...

    def max_pool2d_backward(self, dy: A, indices: A, x_shape: Sequence[int], *, out: A | None = ...) -> A: ...

    def avg_pool2d_forward(
        self, x: A, kernel_size: Pair, *, stride: Pair | None = ..., padding: Pair = ..., out: A | None = ...
    ) -> A: ...

    def avg_pool2d_backward(
        self,
        dy: A,
        x_shape: Sequence[int],
        kernel_size: Pair,
        *,
        stride: Pair | None = ...,
        padding: Pair = ...,
        out: A | None = ...,
    ) -> A: ...

    def conv2d_relu_max_pool2d_forward(
        self,
        x: A,
        weight: A | _PackedWeight[A],
        bias: A | None = ...,
        *,
        padding: Pair = ...,
        kernel_size: Pair = ...,
        algorithm: str = ...,
        out: tuple[A | None, A | None] | None = ...,
    ) -> tuple[A, A]: ...

    def conv2d_relu_max_pool2d_backward(
        self,
        dy: A,
        winners: A,
        x: A,
        weight: A,
        *,
        padding: Pair = ...,
        kernel_size: Pair = ...,
        need_dx: bool = ...,
        out: tuple[A | None, A | None, A | None] | None = ...,
    ) -> Gradients[A]: ...

    def linear_forward(self, x: A, weight: A | _PackedWeight[A], bias: A | None = ..., *, out: A | None = ...) -> A: ...

    def linear_backward(
        self,
        dy: A,
        x: A,
        weight: A,
        *,
        need_dx: bool = ...,
        out: tuple[A | None, A | None, A | None] | None = ...,
    ) -> Gradients[A]: ...

    # --- element by element ---

    def relu_forward(self, x: A, *, out: A | None = ...) -> A: ...

    def relu_backward(self, dy: A, y: A, *, out: A | None = ...) -> A: ...

    def leaky_relu_forward(self, x: A, slope: float = ..., *, out: A | None = ...) -> A: ...

    def leaky_relu_backward(self, dy: A, y: A, slope: float = ..., *, out: A | None = ...) -> A: ...

    def sigmoid_forward(self, x: A, *, out: A | None = ...) -> A: ...

    def sigmoid_backward(self, dy: A, y: A, *, out: A | None = ...) -> A: ...

    def tanh_forward(self, x: A, *, out: A | None = ...) -> A: ...

    def tanh_backward(self, dy: A, y: A, *, out: A | None = ...) -> A: ...

    def dropout_forward(
        self,
        x: A,
        rate: float,
        seed: int,
        counter: int,
        *,
        offset: int = ...,
        out: tuple[A | None, A | None] | None = ...,
    ) -> tuple[A, A]: ...

    def dropout_backward(self, dy: A, mask: A, *, out: A | None = ...) -> A: ...

    # --- losses and batches ---

    def softmax_cross_entropy(
        self,
        logits: A,
        labels: A,
        *,
        label_smoothing: float = ...,
        weights: A | None = ...,
        batch_size: int | None = ...,
        out: A | None = ...,
    ) -> tuple[SupportsFloat, A]: ...

    def softmax_squared_error(
        self,
        logits: A,
        labels: A,
        *,
        label_smoothing: float = ...,
        weights: A | None = ...,
        batch_size: int | None = ...,
        out: A | None = ...,
    ) -> tuple[SupportsFloat, A]: ...

    def softmax_distillation(
        self,
        logits: A,
        labels: A,
        teacher: A,
        *,
        mix: float,
        temperature: float = ...,
        label_smoothing: float = ...,
        weights: A | None = ...,
        batch_size: int | None = ...,
        out: A | None = ...,
    ) -> tuple[SupportsFloat, A]: ...

    def squared_error(self, prediction: A, target: A, *, out: A | None = ...) -> tuple[SupportsFloat, A]: ...

    def inverse_root(self, square: Any, *, at_least: float = ...) -> Any:
        """As in `fastlenet.ops`. square: a number as this backend's losses return it. The result can be part of `lr`."""

    def gather_images(
        self,
        images: A,
        index: A,
        *,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        transform: A | Transform | None = ...,
        out: A | None = ...,
    ) -> A: ...

    # --- optimizer steps, in place ---

    def sgd_step(
        self,
        parameters: A,
        gradients: A,
        velocity: A | None,
        *,
        lr: float,
        momentum: float = ...,
        nesterov: bool = ...,
        weight_decay: float = ...,
        average: A | None = ...,
        decay: float = ...,
    ) -> None: ...

    def adam_step(
        self,
        parameters: A,
        gradients: A,
        first_moment: A,
        second_moment: A,
        *,
        step: int,
        lr: float,
        beta1: float = ...,
        beta2: float = ...,
        eps: float = ...,
        weight_decay: float = ...,
        average: A | None = ...,
        decay: float = ...,
    ) -> None: ...

    def muon_step(
        self,
        parameters: A,
        gradients: A,
        velocity: A | None,
        *,
        matrices: Sequence[tuple[int, int, int]],
        lr: float,
        matrix_lr: float,
        momentum: float = ...,
        nesterov: bool = ...,
        weight_decay: float = ...,
        average: A | None = ...,
        decay: float = ...,
    ) -> None: ...

    def ema_step(self, average: A, parameters: A, *, decay: float) -> None: ...


class Gap:
    """A placeholder for an op that a backend lacks: `tanh_forward: Any = Gap("tanh_forward", "no GPU kernel yet")`.

    Calling it raises NotImplementedError, which names the op and the reason. `gaps_of` lists a backend's gaps. The tests print
    them, and `fastlenet.testing.check_backend` does not check them.
    """

    def __init__(self, op: str, reason: str) -> None:
        self.op, self.reason = op, reason

    def __call__(self, *arguments: object, **options: object) -> NoReturn:
        raise NotImplementedError(f"{self.op}: this backend has no such op ({self.reason}); compute it on another one")


def gaps_of(backend: object) -> dict[str, str]:
    """Returns the gaps of a backend: the reason for each, by the op's name."""
    found = ((name, getattr(backend, name, None)) for name in NAMES)
    return {name: gap.reason for name, gap in found if isinstance(gap, Gap)}


# All names of a backend, and those of its ops.
NAMES = tuple(name for name in (*Backend.__annotations__, *vars(Backend)) if not name.startswith("_"))
OPS = tuple(name for name in NAMES if callable(vars(Backend).get(name)) and name not in ("level", "empty"))


class Uncaptured(Generic[A]):
    """A Graph for backends that cannot capture their ops: it calls the function, and is void. Derived classes set `reason`."""

    captures_one_thread: ClassVar[bool] = False
    captures_steps: ClassVar[bool] = False
    calls = 0
    reason: str = "this backend does not capture its ops"

    def __init__(self, function: Callable[..., object], *inputs: A) -> None:
        self.result = function(*inputs)

    def reads(self, *arrays: A) -> bool:
        return False

    def launch(self, *, copy_of: A | None = None) -> None:
        raise RuntimeError(f"Graph: it cannot be launched; {self.reason}")

    @staticmethod
    def void(reason: str) -> None:
        """Do nothing, since the graph is void already."""
