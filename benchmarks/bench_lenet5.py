"""Times the ops that LeNet-5 has in place of LeNet's: tanh, the mean of 2x2 windows; and leaky ReLU, on one thread.

    python benchmarks/bench_lenet5.py [--rounds N]     # the table "LeNet-5's ops" of docs/performance.md

The shape is that of its first layer, batch 64, 6x28x28. Each op takes turns with a copy of as many bytes as it must move. The
figure is the median of the ratios of neighbours, so it holds on a machine that does other work too. The cycles per element are
those of the least disturbed call, by the rate of the least disturbed multiply-add loop.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastlenet import _core, ops, set_num_threads
from measuring import print_machine, print_table, save

SHAPE = 64, 6, 28, 28
FLOP_PER_CYCLE = 32  # of the multiply-add loop at x86-64-v4: one instruction of 16 numbers
_BURST = 0.002  # seconds of the multiply-add loop

Call = Callable[[], Any]


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def copy_of(size: int) -> Call:
    """Copies an array, which moves that many bytes: half of them are read, half written."""
    source, target = np.ones(size // 8, np.float32), np.empty(size // 8, np.float32)
    return lambda: np.copyto(target, source)


def calls() -> dict[str, tuple[Call, int]]:
    """Each op on arrays that exist, and the bytes that it must move."""
    rng = np.random.default_rng(0)
    x, dy, y, dx = (ops.empty(SHAPE) for _ in range(4))
    small, dsmall = (ops.empty((*SHAPE[:2], 14, 14)) for _ in range(2))
    x[...], dy[...], dsmall[...] = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE), rng.standard_normal(small.shape)
    ops.tanh_forward(x, out=y)
    return {
        "tanh forward": (lambda: ops.tanh_forward(x, out=y), 2 * x.nbytes),
        "tanh backward": (lambda: ops.tanh_backward(dy, y, out=dx), 3 * x.nbytes),
        "avg pool forward": (lambda: ops.avg_pool2d_forward(x, 2, out=small), x.nbytes + small.nbytes),
        "avg pool backward": (lambda: ops.avg_pool2d_backward(dsmall, SHAPE, 2, out=dx), x.nbytes + small.nbytes),
        "leaky relu forward": (lambda: ops.leaky_relu_forward(x, out=y), 2 * x.nbytes),
        "leaky relu backward": (lambda: ops.leaky_relu_backward(dy, y, out=dx), 3 * x.nbytes),
    }


def over_copy(call: Call, size: int, rounds: int) -> float:
    """The op's time over that of the copy."""
    copy = copy_of(size)
    call(), copy()
    return statistics.median(seconds(call) / seconds(copy) for _ in range(rounds))


def cycles(call: Call, rounds: int) -> float:
    """The op's cycles for each element of SHAPE."""
    times, rates = zip(*((seconds(call), _core.multiply_add_peak(1, _BURST)) for _ in range(rounds)), strict=True)
    return float(min(times) * max(rates) / FLOP_PER_CYCLE / np.prod(SHAPE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=400)
    rounds = parser.parse_args().rounds
    set_num_threads(1)
    print_machine()
    found = {}
    for name, (call, size) in calls().items():
        found[name] = {"bytes": size, "over_copy": over_copy(call, size, rounds), "cycles": cycles(call, rounds)}
    rows = [[name, f"{of['bytes']:,}", f"{of['over_copy']:.2f} x", f"{of['cycles']:.2f}"] for name, of in found.items()]
    print_table(["op", "bytes", "over a copy", "cycles per element"], rows)
    save("lenet5_ops", {"rounds": rounds, "shape": SHAPE, "ops": found})


if __name__ == "__main__":
    main()
