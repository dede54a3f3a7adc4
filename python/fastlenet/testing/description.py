"""One description of an op: from it come its checks, its tests, its fuzzed calls and its benchmark.

To add an op, add its description to the file of its group (conv.py, pool.py, linear.py, elementwise.py, loss.py, gather.py,
update.py) and to the list OPS at the end of that file.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastlenet import reference
from fastlenet.backend import Array

__all__ = ["KINDS", "Arguments", "Array", "Benchmark", "Call", "Gradient", "Judge", "Op", "Result", "Results", "Values"]

Arguments = dict[str, Any]  # of a call, by name
Results = tuple[Any, ...]  # arrays; None for one that was not asked for; a loss is a float
Torch = Any  # the module, which is no dependency of this package

# What an argument is that holds no floats, by its name: a wrong one is refused by its kind, and fuzzed by its kind.
KINDS: Mapping[str, str] = {
    "stride": "pair",
    "padding": "pair",
    "kernel_size": "pair",
    "x_shape": "sizes",
    "rate": "number",
    "label_smoothing": "number",
    "mean": "number",
    "std": "number",
    "lr": "number",
    "momentum": "number",
    "weight_decay": "number",
    "beta1": "number",
    "beta2": "number",
    "eps": "number",
    "decay": "number",
    "seed": "integer",
    "counter": "integer",
    "step": "integer",
    "algorithm": "choice",
    "packed": "packed",
    "need_dx": "flag",
    "skip_zeros": "flag",
    "nesterov": "flag",
    "labels": "places",
    "index": "places",
    "indices": "places",
    "winners": "places",
}


class Values(Protocol):
    """Where a description takes its numbers from."""

    @property
    def rng(self) -> np.random.Generator: ...

    def __call__(self, *shape: int) -> Array:
        """Float32 numbers of the kind that is tested."""

    def places(self, shape: tuple[int, ...], limit: int, dtype: npt.DTypeLike) -> Array:
        """Integers in 0..limit-1."""


class Case(Protocol):
    """The sizes and options of a call. `str(case)` names it in a test."""

    def __hash__(self) -> int: ...

    def with_batch(self, n: int) -> Case:
        """The same with another number of images."""


@dataclass(frozen=True)
class Result:
    """An array that an op returns."""

    name: str
    dtype: type[np.generic] = np.float32
    batched: bool = True  # whether its first axis is the batch; else the op adds up over the batch
    optional: str = ""  # the argument without which it is None


# Raises AssertionError, in one line, unless the results of a call are as exact as the op promises.
Judge = Callable[["Call", Results], None]


@dataclass(frozen=True)
class Gradient:
    """What a backward op computes.

    forward: the op whose gradients it returns. of: that op's arguments, in the order of these gradients. passes: arguments of
    the backward op that are results of the forward one, by the number of the result. linear: sets of arguments in which the
    forward op is linear while what it passes stays the same, so that <dy, y> = the sum of <gradient, argument> over each set.
    saved_error: how many roundings of dy a gradient may be off, of which some come through a y that was rounded.
    """

    forward: Op
    of: tuple[str, ...]
    passes: Mapping[str, int] = field(default_factory=dict)
    linear: tuple[tuple[str, ...], ...] = ()
    saved_error: int = 0
    cases: Sequence[Case] | None = None  # where the products are exact, if not on all cases of the op


def _as_they_are(arguments: Arguments) -> Arguments:
    return {}


@dataclass(frozen=True)
class Benchmark:
    """A line of benchmarks/bench_kernels.py, the op's name and a label, and its call: a case's arguments, some of them changed.

    torch: whether PyTorch has the same.
    """

    label: str
    case: Any
    changes: Callable[[Arguments], Arguments] = _as_they_are
    torch: bool = True


def _no_flops(arguments: Arguments) -> float:
    return 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Op:
    """All that is known of an op.

    name: in `fastlenet.ops`, and in every other backend.
    arrays: its arguments that are arrays of one dtype, float32 unless `dtypes` says otherwise.
    results: the arrays that it returns. `scalar`: it returns a number before them, a loss.
    arguments: draws the arguments of a case, by name.
    cases: the sizes it is tested on. small: few and small ones, for what is repeated often; the first is of three images.
    large: one that is split among threads.
    judge: whether results are exact enough.
    random: draws a case at random, for the fuzzer.
    integers: whether its results are exact in float32 if its arguments are small integers.
    rounds: whether it rounds at all; if not, its results are those of the reference in float32, whatever the numbers.
    variants: changes of the arguments that are tested with integers on every case. roundings: such that change how it rounds.
    batched: its arrays whose first axis is the batch.
    changes: arguments that it writes instead of returning a result.
    in_place: arguments that may be the first output.
    any_shape: its array may have any shape.
    gradient, benchmarks: see these classes.
    torch: the op in PyTorch, a function of the module and of the arguments by name, which have tensors for arrays. It returns
    what the op returns, or the first of it; for an op that changes its arguments, a function that does so and returns them.
    Gradients come from PyTorch's own. timed_only: with other numbers, drawn or rounded
    otherwise.
    flops: of its arguments, two for each multiply-add of the dense product.
    traffic: bytes that must be read and written, if these are not all its arrays.
    """

    name: str
    arrays: tuple[str, ...]
    results: tuple[Result, ...] = ()
    arguments: Callable[[Any, Values], Arguments]
    cases: Sequence[Case]
    small: Sequence[Case]
    large: Case
    judge: Judge
    random: Callable[[Any], Case]
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
    gradient: Gradient | None = None
    torch: Callable[[Torch, Arguments], Any] | None = None
    timed_only: bool = False
    benchmarks: tuple[Benchmark, ...] = ()
    flops: Callable[[Arguments], float] = _no_flops
    traffic: Callable[[Arguments], float] | None = None

    @property
    def outputs(self) -> int:
        """How many arrays `out` has; none for an op that works in place."""
        return 0 if self.changes else len(self.results)

    @functools.cached_property
    def parameters(self) -> tuple[str, ...]:
        """The names of its arguments, without `out`."""
        return tuple(name for name in inspect.signature(getattr(reference, self.name)).parameters if name != "out")

    def run(self, backend: object, arguments: Arguments, **options: Any) -> Results:
        """Calls it on that backend. Its results, or the arrays that it changed."""
        result = getattr(backend, self.name)(**arguments, **options)
        if self.changes:
            return tuple(arguments[name] for name in self.changes)
        return result if isinstance(result, tuple) else (result,)

    def arrays_of(self, results: Results) -> Results:
        """The results without the loss."""
        return results[1:] if self.scalar else results

    def chain(
        self,
        case: Any,
        values: Values,
        backend: object = reference,
        changes: Callable[[Arguments], Arguments] = _as_they_are,
    ) -> tuple[Arguments, Results, Arguments]:
        """A forward call on that backend: its arguments, its results; and the arguments of the backward call that follows.

        For an op that is no gradient, only the last of the three is of use.
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

    def in_network(self, case: Any, values: Values, backend: object = reference) -> Arguments:
        """The arguments of a case as they come in a network: what the forward op passes is what it returns."""
        return self.chain(case, values, backend)[2]


@dataclass(frozen=True, eq=False)
class Call:
    """A call of an op, and what its results are held against.

    integers: whether its arguments are such that every sum is exact in float32.
    """

    op: Op
    arguments: Arguments
    integers: bool = False

    @functools.cached_property
    def exact(self) -> Results:
        """What the reference computes, in float64 if the op rounds."""
        return self._computed(lambda array: array)

    @functools.cached_property
    def sizes(self) -> Results:
        """The same of the absolute values of all floats: sums of the terms' sizes."""
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
        """The same, with other exact results than the reference's."""
        call = Call(self.op, self.arguments, self.integers)
        vars(call)["exact"] = exact
        return call

    def copied(self) -> Arguments:
        """Its arguments, in arrays of their own."""
        return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in self.arguments.items()}

    def changed(self, changes: Arguments) -> Call:
        """The same but for these arguments."""
        return Call(self.op, self.arguments | changes, self.integers)
