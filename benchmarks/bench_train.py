"""Measures training, whole epochs through the public API: images/s of fastlenet and its peers, in turns.

    python benchmarks/bench_train.py [--batch 128 64 32] [--threads 2] [--images 60000] [--rounds 5] [--peers pytorch ...]
    python benchmarks/bench_train.py --device cuda      on a GPU, beside PyTorch on it, batch 1024 and 128

Each contender trains LeNet in its own process on the same CPUs, starting from the parameters after one epoch. It gathers and
normalises batches from uint8 in shuffled order, and computes forward pass, loss, backward pass and SGD with Nesterov momentum.
The dense roofline is the multiply-add peak, measured in the same run, over 13.18 MFLOP an image. No implementation that
computes all of the dense convolutions and gradients can pass it. fastlenet has rows for the exact kernels, for Winograd's
algorithm (fastlenet:winograd) and for one thread; there "ours over it" is the gain from the second thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from contest import Contender, add_arguments, prepare, run_rounds, start, temporary_folder
from fastlenet.testing.timing import peak
from measuring import print_machine, print_table, save, spread

FLOP_PER_IMAGE = 13.18e6


def start_all(arguments: argparse.Namespace, data: Path) -> list[Contender]:
    """Ours, exact and algebraic; the exact on one thread; both at other levels; the peers that are installed. On a GPU, one."""
    threads, gpu = arguments.threads, arguments.device == "cuda"
    ours = ["fastlenet:cuda"] if gpu else ["fastlenet", "fastlenet:winograd"]
    entries = [start(name, sys.executable, data, threads) for name in ours]
    if threads > 1 and not gpu:
        entries.append(start("fastlenet", sys.executable, data, 1, label="fastlenet, one thread"))
    for level in arguments.levels:
        entries += [start(name, sys.executable, data, threads, label=f"{name}, {level}", FASTLENET_ISA=level) for name in ours]
    entries += [start(peer, getattr(arguments, peer.partition(":")[0]), data, threads) for peer in arguments.peers]
    return [entry for entry in entries if entry is not None]


def show(result: dict[str, dict[str, Any]], roofline: float | None) -> None:
    """ours: the first row, or what takes its place; without a roofline, nothing is said of it."""
    ours = next(iter(result.values()))
    rows = [
        [
            name if name.startswith("fastlenet") else contender["version"],
            spread(contender["images_per_second"]),
            f"{ours['median'] / contender['median']:.2f} x",
            f"{contender['median'] / roofline:.2f} x" if roofline else "",
            f"{contender['check']:.4f}",
            f"{contender['memory_mb']:,.0f} MB",
            f"{ours['memory_mb'] / contender['memory_mb']:.2f} x",
        ]
        for name, contender in result.items()
    ]
    header = ["", "images/s (from to)", "ours over it", "over roofline", "loss", "peak memory", "ours over it"]
    print_table(header, rows)


def show_batches(results: dict[str, Any]) -> None:
    """Images/s at every batch size over those at the largest."""
    largest = results[max(results, key=int)]["contenders"]
    if len(results) == 1:
        return
    rows = [
        [name, *(f"{result['contenders'][name]['median'] / most['median']:.2f} x" for result in results.values())]
        for name, most in largest.items()
    ]
    print_table(["images/s over the largest batch's", *results], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", help="(default: 128 64 32; on a GPU 1024 128)")
    parser.add_argument("--images", type=int, default=60000, help="images per round")
    parser.add_argument(
        "--levels", nargs="*", default=[], metavar="LEVEL", help="also run fastlenet at these instruction-set levels"
    )
    add_arguments(parser, ["pytorch", "pytorch:compile", "tensorflow", "jax"])
    parser.epilog = "On a GPU the peer is pytorch:cuda, unless --peers says otherwise."
    arguments = parser.parse_args()
    threads, gpu = arguments.threads, arguments.device == "cuda"
    if gpu and arguments.peers == parser.get_default("peers"):
        arguments.peers = ["pytorch:cuda"]
    print_machine()
    results = {}
    with temporary_folder() as folder:
        contenders = start_all(arguments, prepare(Path(folder)))
        if not contenders:
            return
        for batch in arguments.batch or ([1024, 128] if gpu else [128, 64, 32]):
            peaks = [] if gpu else [peak(threads)]
            result = run_rounds(contenders, "train", batch, arguments.images, arguments.rounds)
            roofline = None if gpu else statistics.mean([*peaks, peak(threads)]) / FLOP_PER_IMAGE
            where = "on a GPU" if roofline is None else f"{threads} threads; dense roofline {roofline:,.0f} images/s"
            print(f"training, batch {batch}, {where}")
            show(result, roofline)
            results[str(batch)] = {"dense_roofline": roofline, "contenders": result}
        for contender in contenders:
            contender.close()
    show_batches(results)
    save(f"bench_train{'_cuda' if gpu else ''}", {"threads": threads, "images": arguments.images, "batches": results})


if __name__ == "__main__":
    main()
