"""What a backend is: the one contract of the modules that compute, `fastlenet.ops`, `fastlenet.reference` and `fastlenet.cuda`.

A backend is a module, or any object, with the names of `Backend`. Networks take one as their `ops`, and call nothing else on
activations, parameters and gradients. What each op means (shapes, ties, errors, source) stands in `fastlenet.ops`; the type
checker compares the signatures, and the tests the results.

Legend: n batch, c in-channels, k out-channels, h w input, p q output, r s filter or window; gradients dx, dweight, dbias, dy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, NoReturn, Protocol, SupportsFloat, TypeVar, overload

import numpy.typing as npt

from fastlenet.augment import Transform

__all__ = [
    "DEAD",
    "FEW_IMAGES",
    "NAMES",
    "OPS",
    "Array",
    "Backend",
    "Gap",
    "Graph",
    "Pair",
    "Shape",
    "Uncaptured",
    "gaps_of",
]

Array = npt.NDArray[Any]  # of NumPy, as which layers and optimizers know their arrays, whatever a backend takes
Shape = tuple[int, ...]
Pair = int | tuple[int, int]  # for rows and columns

DEAD = 255  # in `winners`: a pooling window without a positive number, which gets no gradient
FEW_IMAGES = 4  # for which it pays to have weights in other layouts, and to spare Python's part of a pass

A = TypeVar("A")  # the backend's arrays


class Graph(Protocol[A]):
    """The ops that a function calls, on the arrays on which it calls them: captured once, to be called again without Python.

    Graph(function, *inputs) calls function(*inputs), whose work is done as ever, and captures the ops that it calls meanwhile.
    `launch` has them called again, in their order, on the same arrays, whatever numbers these hold then; nothing else that the
    function does is repeated. The graph keeps the arrays; the inputs are those whose numbers come from outside.

    What cannot be captured voids the graph: an op that takes or returns numbers of Python's, which would be the old ones in
    each launch; an op that fails; and what calls `void`. The function has then done its work, `reason` says what it was, and
    `launch` raises a RuntimeError.
    """

    captures_one_thread: ClassVar[bool]  # whether other threads may call ops while a graph is captured

    def __init__(self, function: Callable[..., object], *inputs: A) -> None: ...

    @property
    def reason(self) -> str | None:
        """Why the graph cannot be launched, in one line; None if it can."""

    @property
    def result(self) -> object:
        """What the function returned. If that is an array, each launch renews its numbers."""

    @property
    def calls(self) -> int:
        """How many ops were called while it was captured, captured or not."""

    def reads(self, *arrays: A) -> bool:
        """Whether these are the inputs: the same memory, shapes and dtypes."""

    @overload
    def launch(self) -> None: ...

    @overload
    def launch(self, *, copy_of: A) -> A | None: ...

    @staticmethod
    def void(reason: str) -> None:
        """Void the graph that this thread is capturing, if any: for what computes something by other means than ops."""


class Backend(Protocol[A]):
    """The names of a backend whose arrays are of type A. A backend may accept more than this: other arrays, or numbers that lie
    on its device.
    """

    __name__: str  # by which a copy of a network finds its backend again, as a module
    name: str  # which tells backends apart in messages and records

    @property
    def Graph(self) -> type[Graph[A]]:
        """The class of its graphs."""

    def level(self) -> str:
        """What the last bits of its results depend on: an instruction-set level, a kind of device."""

    def empty(self, shape: int | Sequence[int], dtype: npt.DTypeLike = ...) -> A:
        """A dense array whose numbers are undefined, of float32 by default."""

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
    ) -> tuple[A | None, A, A]: ...

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

    def conv2d_relu_max_pool2d_forward(
        self,
        x: A,
        weight: A,
        bias: A | None = ...,
        *,
        padding: Pair = ...,
        kernel_size: Pair = ...,
        algorithm: str = ...,
        packed: A | None = ...,
        out: tuple[A | None, A | None] | None = ...,
    ) -> tuple[A, A]: ...

    def pack_filters(self, weight: A, algorithm: str = ...) -> A: ...

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
    ) -> tuple[A | None, A, A]: ...

    def linear_forward(self, x: A, weight: A, bias: A | None = ..., *, skip_zeros: bool = ..., out: A | None = ...) -> A: ...

    def linear_backward(
        self,
        dy: A,
        x: A,
        weight: A,
        *,
        need_dx: bool = ...,
        out: tuple[A | None, A | None, A | None] | None = ...,
    ) -> tuple[A | None, A, A]: ...

    # --- element by element ---

    def relu_forward(self, x: A, *, out: A | None = ...) -> A: ...

    def relu_backward(self, dy: A, y: A, *, out: A | None = ...) -> A: ...

    def sigmoid_forward(self, x: A, *, out: A | None = ...) -> A: ...

    def sigmoid_backward(self, dy: A, y: A, *, out: A | None = ...) -> A: ...

    def dropout_forward(
        self, x: A, rate: float, seed: int, counter: int, *, out: tuple[A | None, A | None] | None = ...
    ) -> tuple[A, A]: ...

    def dropout_backward(self, dy: A, mask: A, *, out: A | None = ...) -> A: ...

    # --- losses and batches ---

    def softmax_cross_entropy(
        self, logits: A, labels: A, *, label_smoothing: float = ..., out: A | None = ...
    ) -> tuple[SupportsFloat, A]: ...

    def squared_error(self, prediction: A, target: A, *, out: A | None = ...) -> tuple[SupportsFloat, A]: ...

    def inverse_root(self, square: Any) -> Any:
        """Of a loss, as this backend has it; the result goes into `lr`."""

    def gather_images(
        self,
        images: A,
        index: A,
        *,
        mean: float,
        std: float,
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
    ) -> None: ...

    def ema_step(self, average: A, parameters: A, *, decay: float) -> None: ...


class Gap:
    """An op that a backend does not have yet, in its place: `tanh_forward: Any = Gap("tanh_forward", "no GPU kernel yet")`.

    A call raises NotImplementedError, which names the op and the reason. `gaps_of` lists the gaps of a backend; the tests print
    them, and `fastlenet.testing.check_backend` leaves them out.
    """

    def __init__(self, op: str, reason: str) -> None:
        self.op, self.reason = op, reason

    def __call__(self, *arguments: object, **options: object) -> NoReturn:
        raise NotImplementedError(f"{self.op}: this backend has no such op ({self.reason}); compute it on another one")


def gaps_of(backend: object) -> dict[str, str]:
    """Returns the ops that the backend declares as gaps: the reason of each, by the op's name."""
    found = ((name, getattr(backend, name, None)) for name in NAMES)
    return {name: gap.reason for name, gap in found if isinstance(gap, Gap)}


# All that a backend has, by name; and of that the ops, which compute.
NAMES = tuple(name for name in (*Backend.__annotations__, *vars(Backend)) if not name.startswith("_"))
OPS = tuple(name for name in NAMES if callable(vars(Backend).get(name)) and name not in ("level", "empty"))


class Uncaptured(Generic[A]):
    """A Graph for backends that cannot capture their ops: it calls the function, and is void. Derived classes say why."""

    captures_one_thread: ClassVar[bool] = False
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
        """It is void anyway."""
