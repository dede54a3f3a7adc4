"""Ops, evaluation and set_num_threads from several threads at once, for the thread sanitizer: tools/sanitize runs it.

Each thread compares its results with those of one thread, bit for bit.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from fastlenet import LeNet, get_num_threads, nn, ops, set_num_threads
from fastlenet.backend import OPS
from fastlenet.testing.values import Draw
from helpers.fuzz.calls import draw_call

ROUNDS = 40
rng = np.random.default_rng(0)
X = rng.standard_normal((33, 3, 12, 12), dtype=np.float32)
WEIGHT = rng.standard_normal((8, 3, 5, 5), dtype=np.float32)
IMAGES = rng.standard_normal((9, 1, 28, 28), dtype=np.float32)
ROWS = rng.standard_normal((40, 256), dtype=np.float32)
LONG = rng.standard_normal(20_011, dtype=np.float32)
LABELS = np.arange(33) % 10

model = LeNet(seed=1).eval()
frozen = LeNet(seed=1).freeze()
failures: list[str] = []


# Calls of every op, as the fuzzer draws them.
CALLS = [draw_call(Draw(9, i, j), op) for i, op in enumerate(OPS) for j in range(3)]


def bits(value: Any) -> bytes:
    if isinstance(value, (tuple, list)):
        return b"".join(map(bits, value))
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()


def every_op() -> bytes:
    """The results, and the arguments, which the optimizers' steps change; or the error of a call that is refused."""
    found = []
    for call in CALLS:
        arguments = copy.deepcopy(call.arguments)
        try:
            found.append(bits(getattr(ops, call.op)(**arguments)))
        except (TypeError, ValueError) as error:
            found.append(str(error).encode())
        found.append(bits([value for value in arguments.values() if isinstance(value, np.ndarray)]))
    return b"".join(found)


def fused() -> bytes:
    y, winners = ops.conv2d_relu_max_pool2d_forward(X, WEIGHT)
    gradients = ops.conv2d_relu_max_pool2d_backward(y, winners, X, WEIGHT)
    return y.tobytes() + b"".join(array.tobytes() for array in gradients if array is not None)


def linear() -> bytes:
    return ops.linear_forward(ROWS, ROWS).tobytes() + ops.tanh_forward(LONG).tobytes()


def loss() -> bytes:
    value, gradient = ops.softmax_cross_entropy(ROWS[:33, :10].copy(), LABELS)
    return str(value).encode() + gradient.tobytes()


def convolution() -> bytes:
    y = ops.conv2d_forward(X, WEIGHT)
    return y.tobytes() + ops.max_pool2d_forward(y, 2)[0].tobytes()


def evaluation() -> bytes:
    return model(IMAGES).tobytes() + frozen(IMAGES[:2]).tobytes()


def training() -> bytes:
    own = nn.Sequential(nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 3), seed=2)
    passes = [own(IMAGES).tobytes() for _ in range(3)]
    own.backward(np.ones((9, 3), np.float32))
    return b"".join(passes) + own.gradient_buffer.tobytes()


def compare(work: Callable[[], bytes], right: bytes) -> None:
    for _ in range(ROUNDS):
        if work() != right:
            failures.append(f"{work.__name__} has other bits beside other threads")


def change(over: threading.Event) -> None:
    while not over.is_set():
        for count in (1, 2, 4):
            set_num_threads(count)
            if get_num_threads() < 1:
                failures.append("set_num_threads")


def main() -> int:
    set_num_threads(1)
    works = [fused, linear, loss, convolution, evaluation, evaluation, training, fused, every_op, every_op]
    right = [work() for work in works]
    over = threading.Event()
    threads = [threading.Thread(target=compare, args=pair) for pair in zip(works, right, strict=True)]
    changer = threading.Thread(target=change, args=(over,))
    for thread in [*threads, changer]:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    changer.join()
    print("\n".join(failures) or f"{len(works)} threads, {ROUNDS} rounds each: the same bits as one thread")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
