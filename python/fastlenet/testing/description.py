"""The description of an op. Its checks, its tests, its fuzzed calls and its benchmark come from it.

To add an op, add its description to the file of its group (conv.py, pool.py, linear.py, elementwise.py, loss.py, gather.py,
update.py) and to the list OPS at the end of that file.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastlenet import reference
from fastlenet.backend import Array
from fastlenet.backend import Backend as BackendOf
from fastlenet.testing.values import Draw

__all__ = ["KINDS", "Arguments", "Array", "Benchmark", "Call", "Gradient", "Judge", "Op", "Result", "Results", "Values"]

Arguments = dict[str, Any]  # the arguments of a call, by name
Results = tuple[Any, ...]  # arrays, or None for one that was not requested; a loss is a float
Backend = BackendOf[Array]  # as a backend is called here: `on_host` converts the arrays of others
Torch = ModuleType  # the module torch, which is no dependency of this package

# The kinds of arguments that are not arrays of floats. The contract and the fuzzer treat an argument by its kind.
KINDS: Mapping[str, str] = {
    "stride": "pair",
    "padding": "pair",
    "kernel_size": "pair",
    "x_shape": "sizes",
    "rate": "number",
    "slope": "number",
    "label_smoothing": "number",
    "mix": "number",
    "temperature": "number",
    "mean": "number",
    "std": "number",
    "lr": "number",
    "matrix_lr": "number",
    "momentum": "number",
    "weight_decay": "number",
    "beta1": "number",
    "beta2": "number",
    "eps": "number",
    "decay": "number",
    "seed": "integer",
    "counter": "integer",
    "offset": "integer",
    "batch_size": "integer",
    "step": "integer",
    "algorithm": "choice",
    "need_dx": "flag",
    "nesterov": "flag",
    "matrices": "matrices",
    "labels": "places",
    "index": "places",
    "indices": "places",
    "winners": "places",
}


class Values(Protocol):
    """The source of a description's numbers."""

    @property
    def rng(self) -> np.random.Generator: ...

    def __call__(self, *shape: int) -> Array:
        """Returns float32 numbers of the tested kind."""

    def places(self, shape: tuple[int, ...], limit: int, dtype: npt.DTypeLike) -> Array:
        """Returns integers in 0..limit-1."""


class Case(Protocol):
    """The sizes and options of a call. `str(case)` names it in a test."""

    def __hash__(self) -> int: ...

    def with_batch(self, n: int) -> Case:
        """Returns the case with another number of images."""


@dataclass(frozen=True)
class Result:
    """An array that an op returns."""

    name: str
    dtype: type[np.generic] = np.float32
    batched: bool = True  # whether its first axis is the batch; otherwise the op sums over the batch
    optional: str = ""  # it is None if this argument is false


# Raises AssertionError, with one line, unless the results of a call are as exact as the op promises.
Judge = Callable[["Call", Results], None]


@dataclass(frozen=True)
class Gradient:
    """The meaning of a backward op.

    forward: the op whose gradients it returns. of: the forward op's arguments, in the order of their gradients. passes:
    arguments of the backward op that are results of the forward op, by the number of the result. linear: sets of arguments in
    which the forward op is linear for fixed `passes`, so that <dy, y> = the sum of <gradient, argument> over each set.
    saved_error: the error of a gradient in roundings of dy, including those that come from a rounded y.
    """

    forward: Op
    of: tuple[str, ...]
    passes: Mapping[str, int] = field(default_factory=dict)
    linear: tuple[tuple[str, ...], ...] = ()
    saved_error: int = 0
    cases: Sequence[Case] | None = None  # the cases with exact products; None: all cases of the op


def _as_they_are(arguments: Arguments) -> Arguments:
    return {}


@dataclass(frozen=True)
class Benchmark:
    """A line of benchmarks/bench_kernels.py. label: follows the op's name. case, changes: the arguments of the call.

    torch: whether PyTorch has the same op.
    """

    label: str
    case: Case
    changes: Callable[[Arguments], Arguments] = _as_they_are
    torch: bool = True


def _no_flops(arguments: Arguments) -> float:
    """The FLOP of an op without products: 0."""
    return 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Op:
    """The description of an op.

    name: in every backend.
    arrays: the arguments that are arrays. dtypes: their dtypes by name; float32 if not listed.
    results: the arrays that the op returns. scalar: it returns a number, a loss, before them.
    arguments: a function that draws the arguments of a case, by name.
    cases: the tested sizes. small: a few small ones, for tests that repeat often; the first has three images. large: a case
    that is split among threads.
    judge: checks that results are exact enough.
    random: draws a random case, for the fuzzer.
    integers: whether results are exact in float32 if the arguments are small integers.
    rounds: whether the op rounds. If not, its results equal the reference's in float32 for all numbers.
    variants: changed arguments that are tested with integers on every case. roundings: changed arguments that round
    differently.
    batched: the arrays whose first axis is the batch.
    changes: arguments that the op writes instead of returning a result.
    in_place: arguments that may be the first output.
    any_shape: its array may have any shape. optional_axes: the arrays that may have one more axis.
    gradient, benchmarks: described in these classes.
    torch: the op in PyTorch, a function of the module and of the arguments by name, with tensors for arrays. It returns the
    op's results, or the first one. For an op that changes its arguments, it returns a function that does so and returns them.
    Gradients are PyTorch's own. timed_only: PyTorch draws or rounds other numbers, so only the times are compared.
    flops: a function of the arguments, two for each multiply-add of the dense product.
    traffic: a function of the arguments, the bytes to be read and written, if these are not all arrays.
    """

    name: str
    arrays: tuple[str, ...]
    results: tuple[Result, ...] = ()
    arguments: Callable[[Any, Values], Arguments]
    cases: Sequence[Case]
    small: Sequence[Case]
    large: Case
    judge: Judge
    random: Callable[[Draw], Case]
    dtypes: Mapping[str, npt.DTypeLike] = field(default_factory=dict)
    scalar: bool = False
    integers: bool = True
    rounds: bool = True
    variants: tuple[Arguments, ...] = ()
    roundings: tuple[Arguments, ...] = ()
    batched: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    in_place: tuple[str, ...] = ()
    any_shape: bool = False
    optional_axes: tuple[str, ...] = ()
    gradient: Gradient | None = None
    torch: Callable[[Torch, Arguments], object] | None = None
    timed_only: bool = False
    benchmarks: tuple[Benchmark, ...] = ()
    flops: Callable[[Arguments], float] = _no_flops
    traffic: Callable[[Arguments], float] | None = None

    @property
    def outputs(self) -> int:
        """The number of arrays in `out`; 0 for an op that changes its arguments."""
        return 0 if self.changes else len(self.results)

    @functools.cached_property
    def parameters(self) -> tuple[str, ...]:
        """The names of its arguments, without `out`."""
        return tuple(name for name in inspect.signature(getattr(reference, self.name)).parameters if name != "out")

    def run(self, backend: object, arguments: Arguments, **options: object) -> Results:
        """Call the op of a backend. Returns its results, or the arrays that it changed."""
        result = getattr(backend, self.name)(**arguments, **options)
        if self.changes:
            return tuple(arguments[name] for name in self.changes)
        return result if isinstance(result, tuple) else (result,)

    def arrays_of(self, results: Results) -> Results:
        """The results without the loss."""
        return results[1:] if self.scalar else results

    def chain(
        self,
        case: Case,
        values: Values,
        backend: object = reference,
        changes: Callable[[Arguments], Arguments] = _as_they_are,
    ) -> tuple[Arguments, Results, Arguments]:
        """Returns the arguments and the results of a forward call on the backend, and the arguments of the backward call after
        it.

        For an op that is no gradient, the first two are empty and the third are the op's arguments.
        """
        arguments = self.arguments(case, values)
        changed = changes(arguments)
        arguments |= changed
        if self.gradient is None:
            return {}, (), arguments
        forward = self.gradient.forward
        inputs = forward.arguments(case, values) | {name: changed[name] for name in changed if name in forward.parameters}
        results = forward.run(backend, inputs)
        shared = {name: value for name, value in inputs.items() if name in arguments}
        passed = {name: results[i] for name, i in self.gradient.passes.items()}
        return inputs, results, arguments | shared | passed

    def in_network(self, case: Case, values: Values, backend: object = reference) -> Arguments:
        """Returns the arguments of a case as in a network: the forward op's results are passed to its backward op."""
        return self.chain(case, values, backend)[2]


@dataclass(frozen=True, eq=False)
class Call:
    """A call of an op, and the exact results to compare with.

    integers: whether every sum is exact in float32, because the arguments are small integers.
    """

    op: Op
    arguments: Arguments
    integers: bool = False

    @functools.cached_property
    def exact(self) -> Results:
        """The reference's results, in float64 if the op rounds."""
        return self._computed(lambda array: array)

    @functools.cached_property
    def sizes(self) -> Results:
        """The reference's results for the absolute values of all floats: the sums of the terms' magnitudes."""
        return self._computed(np.abs)

    def _computed(self, change: Callable[[Array], Array]) -> Results:
        dtype = np.float64 if self.op.rounds else np.float32
        floats = {
            name: change(value.astype(dtype))
            for name, value in self.arguments.items()
            if isinstance(value, np.ndarray) and value.dtype == np.float32
        }
        with np.errstate(all="ignore"):
            return self.op.run(reference, self.arguments | floats)

    def against(self, exact: Results) -> Call:
        """Returns the call with other exact results than the reference's."""
        call = Call(self.op, self.arguments, self.integers)
        vars(call)["exact"] = exact
        return call

    def copied(self) -> Arguments:
        """Returns the arguments, with copies of the arrays."""
        return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in self.arguments.items()}

    def changed(self, changes: Arguments) -> Call:
        """Returns the call with these arguments changed."""
        return Call(self.op, self.arguments | changes, self.integers)
