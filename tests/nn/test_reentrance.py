"""A model that is called again in the midst of its own call, by a signal handler or a finaliser: each call has its own numbers.

`at_each_step` plays the handler at every instruction of a call in turn; signals and garbage do the same where Python lets them.
"""

from __future__ import annotations

import faulthandler
import gc
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import pytest

from fastlenet import nn, ops
from helpers.arrays import normals
from helpers.expect import expect_same_bits

Rng = np.random.Generator
Array = Any
Work = Callable[[], Any]


def at_each_step(make: Callable[[], Work], work: Work, event: str = "line", first: int = 0) -> Iterator[Any]:
    """The results of calls that make() makes, with work() done within: at its first step, at its second, and so on to its last.

    event: "line", "opcode" or "call", what is a step of the package's own Python code. first: the step to begin with.
    """
    for place in itertools.count(first):
        left, call = place, make()

        def trace(frame: FrameType, kind: str, argument: Any) -> Any:
            nonlocal left
            if "fastlenet" not in frame.f_code.co_filename:
                return None
            frame.f_trace_opcodes = event == "opcode"
            if kind == event:
                left -= 1
                if left == -1:
                    work()
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            result = call()
        finally:
            sys.settrace(before)
        if left >= 0:
            assert place > 4
            return
        yield result


@contextmanager
def signals(work: Work, seconds: float = 2e-4) -> Iterator[list[int]]:
    """Runs work() in a signal handler, again and again while the code within runs; the list grows by one each time."""
    times: list[int] = []
    over = False

    def handler(*_: Any) -> None:
        work()
        times.append(1)
        if not over:  # a signal may be handled after the timer was stopped
            signal.setitimer(signal.ITIMER_REAL, seconds)  # from now on, so that the code within comes forward

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield times
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Garbage:
    """A cycle whose finaliser works."""

    def __init__(self, work: Work) -> None:
        self.work, self.itself = work, self

    def __del__(self) -> None:
        self.work()


def call_and_append(model: Callable[[Array], Array], x: Array, results: list[Array]) -> None:
    results.append(model(x))


def small(**options: Any) -> nn.Sequential:
    """A network of every kind of layer that can be captured."""
    layers = (
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 2, 2, stride=2),
        nn.Sigmoid(),
        nn.MaxPool2d(2, stride=1),
        nn.Flatten(),
        nn.Linear(2, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )
    return nn.Sequential(*layers, **options)


def dropping(**options: Any) -> nn.Sequential:
    """One that draws anew in each training pass."""
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sigmoid(), nn.MaxPool2d(3), nn.Dropout(0.5), nn.Flatten(), **options)


SHAPE = 1, 10, 10
MODELS: dict[str, Callable[[], Callable[[Array], Array]]] = {
    "frozen": lambda: small().freeze(),
    "evaluation": lambda: small().eval(),
    "frozen with dropout": lambda: dropping().freeze(),
}


# A signal handler can run at the beginning of any function; after what C code returns, too.
EVENTS = pytest.mark.parametrize("event", ["call", pytest.param("line", marks=pytest.mark.slow)])


@EVENTS
@pytest.mark.parametrize(("n", "within"), [(2, 1), (6, 2), (6, 6)])
@pytest.mark.parametrize("name", MODELS)
def test_each_call_has_its_own_numbers(name: str, n: int, within: int, event: str, rng: Rng) -> None:
    """In a model's first call with these shapes, and when it is warm."""
    a, b = normals(rng, (n, *SHAPE)), normals(rng, (within, *SHAPE))
    warm = MODELS[name]()
    expected, other = warm(a), warm(b)
    assert len(np.unique(expected, axis=0)) == n and not np.isin(other, expected).any()
    results: list[Array] = []

    def first() -> Work:
        model[0] = MODELS[name]()
        return lambda: model[0](a)

    model = [warm]
    captured = name.startswith("frozen") and n <= 4  # a few lines, and in them a few instructions
    opcodes = event == "line" and sys.version_info[:2] != (3, 12)  # whose first releases tell of no instructions
    each = "opcode" if opcodes else "line"
    for result in at_each_step(lambda: lambda: warm(a), lambda: results.append(warm(b)), each if captured else event):
        expect_same_bits(result, expected)
    for result in at_each_step(first, lambda: results.append(model[0](b)), event):
        expect_same_bits(result, expected)
        expect_same_bits(model[0](a), expected)
    assert len(results) > 10
    for result in results:
        expect_same_bits(result, other)


def test_a_signal_handler_calls_the_model(rng: Rng) -> None:
    a, b = normals(rng, (2, *SHAPE)), normals(rng, (2, *SHAPE))
    for model in (small().freeze(), small().eval()):
        expected, other, results = model(a), model(b), list[Array]()
        with signals(partial(call_and_append, model, b, results)) as times:
            for _ in range(3000):
                expect_same_bits(model(a), expected)
        assert times
        for result in results:
            expect_same_bits(result, other)


def test_a_finaliser_calls_the_model(rng: Rng) -> None:
    a, b = normals(rng, (6, *SHAPE)), normals(rng, (6, *SHAPE))
    before = gc.get_threshold()
    for model in (small().freeze(), small().eval()):
        expected, other, results = model(a), model(b), list[Array]()
        try:
            for threshold in range(1, 60):
                Garbage(partial(call_and_append, model, b, results))
                gc.set_threshold(threshold)
                expect_same_bits(model(a), expected)
        finally:
            gc.set_threshold(*before)
        assert results
        for result in results:
            expect_same_bits(result, other)


@EVENTS
@pytest.mark.parametrize("what", ["ops", "an op that fails", "another model", "the model in evaluation", "the model, frozen"])
def test_training_goes_on_around_whatever_is_called_within(what: str, event: str, rng: Rng) -> None:
    """With the same bits, in the pass that is captured and in those that repeat it; they write to no array of the others."""
    x, dy, b = normals(rng, (5, *SHAPE)), normals(rng, (5, 3)), normals(rng, (3, *SHAPE))
    y, within = ops.empty(b.shape), list[Array]()
    another, frozen = small(seed=1), small().freeze()

    def work() -> None:
        if what == "ops":
            ops.relu_forward(b, out=y)
        elif what == "an op that fails":
            with suppress(TypeError):
                ops.relu_forward(None)
            ops.sigmoid_forward(b, out=y)
        elif what == "another model":
            within.append(another(b))
            another.backward(dy[:3])
        elif what == "the model, frozen":
            within.append(frozen(b))
        else:
            current.eval()
            try:
                within.append(current(b))
            finally:
                current.train()

    current = small()
    current(x)
    current.backward(dy)
    expected, gradient = current(x), current.gradient_buffer.copy()

    def make() -> Work:
        nonlocal current
        current = small()

        def step() -> Array:
            result = current(x)
            current.backward(dy)
            return result

        return step

    for result in at_each_step(make, work, event):
        expect_same_bits(result, expected)
        expect_same_bits(current.gradient_buffer, gradient)
        y.fill(7)
        another.gradient_buffer.fill(7)
        for _ in range(2):
            expect_same_bits(current(x), expected)
            current.backward(dy)
            expect_same_bits(current.gradient_buffer, gradient)
        assert (y == 7).all() and (another.gradient_buffer == 7).all()
    assert all(result.tobytes() == within[0].tobytes() for result in within)


def test_a_training_pass_within_another_is_refused(rng: Rng) -> None:
    """Then the outer one is right; where it is not refused, the outer one had not begun, or was over."""
    x, dy, b = normals(rng, (5, *SHAPE)), normals(rng, (5, 3)), normals(rng, (5, *SHAPE))
    model = small()
    model(x)
    model.backward(dy)
    expected, gradient = model(x), model.gradient_buffer.copy()
    refused: list[str] = []

    def work() -> None:
        try:
            model(b)
        except RuntimeError as error:
            refused.append(str(error))

    def cold() -> Work:
        nonlocal model
        model = small()
        return lambda: model(x)

    def warm() -> Work:
        cold()()
        return lambda: model(x)

    def backward() -> Work:
        cold()()
        return lambda: model.backward(dy)

    for make in (cold, warm, backward):
        refused.clear()
        count = 0
        for result in at_each_step(make, work):
            if len(refused) > count:
                count = len(refused)
                if make is not backward:
                    expect_same_bits(result, expected)
                    model.backward(dy)
                expect_same_bits(model.gradient_buffer, gradient)
            elif make is not backward:
                expect_same_bits(result, expected)
        assert len(refused) > 3
        assert "called within a training pass of the same model" in refused[0] and "\n" not in refused[0]


class ThreadsOwn:
    """A cycle with data of each thread; CPython takes a lock to free them."""

    def __init__(self) -> None:
        self.itself, self.data = self, threading.local()
        self.data.itself = self


def test_a_pass_within_another_is_refused_whenever_garbage_is_collected(rng: Rng) -> None:
    """sys._current_frames waited for itself for ever when such a cycle was freed within."""
    x, refused = normals(rng, (5, *SHAPE)), 0
    model, before = small(), gc.get_threshold()
    objects = itertools.cycle(range(1, 60))

    def fresh() -> Work:
        nonlocal model
        model = small()
        return lambda: model(x)

    def work() -> None:
        nonlocal refused
        gc.disable()
        gc.collect()
        ThreadsOwn()
        gc.set_threshold(next(objects))
        gc.enable()
        try:
            model(x)
        except RuntimeError:
            refused += 1
        finally:
            gc.set_threshold(*before)

    faulthandler.dump_traceback_later(60, exit=True)
    gc.freeze()  # so that the others' objects are not searched each time
    try:
        for _ in at_each_step(fresh, work, "call"):
            pass
    finally:
        gc.unfreeze()
        faulthandler.cancel_dump_traceback_later()
    assert refused > 59


def test_a_pass_that_was_cut_short_leaves_no_activations(rng: Rng) -> None:
    """Its backward pass says so, rather than compute with those of two passes."""
    model, x, dy = small(), normals(rng, (5, *SHAPE)), normals(rng, (5, 3))
    other, whole = normals(rng, (5, *SHAPE)), list[bytes]()
    for images in (x, other):
        model(images)
        model.backward(dy)
        whole.append(model.gradient_buffer.tobytes())

    def stop() -> None:
        raise KeyboardInterrupt

    cut = 0
    for place in range(1000):  # a signal at the beginning of any function of the pass
        model(x)
        calls = at_each_step(lambda: lambda: model(other), stop, "call", first=place)
        try:
            next(calls)
        except KeyboardInterrupt:
            cut += 1
        except StopIteration:
            break
        with suppress(RuntimeError):  # or it has not begun, or is over
            model.backward(dy)
            assert model.gradient_buffer.tobytes() in whole
    assert cut > 20
