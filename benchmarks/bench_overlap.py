"""Measures whether it helps to exchange the gradient of the linear layers while the convolutions' is still computed.

    QUEUE='tbf rate 10gbit burst 5mb latency 20ms' tools/two_hosts 2 python benchmarks/bench_overlap.py

Two ranks exchange 94 % of LeNet's gradient, that of fc1 and fc2: after a backward pass, and in a thread beside it. The four
measurements take turns. Needs mpi4py and an MPI.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastlenet import LeNet, ops, set_num_threads
from measuring import print_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 256], help="images of a rank")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1, help="of each rank")
    arguments = parser.parse_args()
    from mpi4py import MPI

    set_num_threads(arguments.threads)
    rank, rows = MPI.COMM_WORLD.rank, []
    for images in arguments.batch_sizes:
        times = measure(MPI.COMM_WORLD, images, arguments.rounds)
        rows.append([f"{images}", *(f"{statistics.median(seconds) * 1e3:.2f}" for seconds in times.values())])
    if rank == 0:
        print_table(["images", *(f"{name}, ms" for name in times)], rows)


def measure(world: Any, images: int, rounds: int) -> dict[str, list[float]]:
    model = LeNet()
    x = np.random.default_rng(0).normal(size=(images, 1, 28, 28)).astype(np.float32)
    _, dlogits = ops.softmax_cross_entropy(model(x), np.zeros(images, np.int64))
    gradient = np.zeros(sum(array.size for name, array in model.parameters().items() if name.startswith("fc")), np.float32)
    half = len(gradient) // 2
    parts = [gradient[:half], gradient[half:]]
    own, other, partner = parts[world.rank], parts[1 - world.rank], 1 - world.rank
    received = np.empty_like(own)

    def backward() -> None:
        model.backward(dlogits)

    def exchange() -> None:
        world.Sendrecv(other, partner, recvbuf=received, source=partner)
        world.Sendrecv(own, partner, recvbuf=other, source=partner)

    def in_order() -> None:
        backward()
        exchange()

    def at_once() -> None:
        thread = threading.Thread(target=exchange)
        thread.start()
        backward()
        thread.join()

    ways: dict[str, Callable[[], None]] = {
        "backward": backward,
        "exchange": exchange,
        "one after the other": in_order,
        "at once": at_once,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            world.Barrier()
            start = time.perf_counter()
            way()
            world.Barrier()
            times[name].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
