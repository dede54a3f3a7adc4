"""Training, whole epochs through the public API: images/s of fastlenet and its peers, taking turns.

    python benchmarks/bench_train.py [--batch 128 64 32] [--threads 2] [--images 60000] [--rounds 5] [--peers pytorch ...]

Each contender trains LeNet in a process of its own, on the same CPUs: batches gathered and normalised from uint8 in shuffled
order, forward, loss, backward, SGD with Nesterov momentum, from the parameters after one epoch. The dense roofline is the
multiply-add peak, measured in the same run, over 13.18 MFLOP an image: what no implementation passes that computes all of the
dense convolutions and their gradients.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from contest import Contender, add_arguments, prepare, run_rounds, start, temporary_folder
from measuring import peak, print_machine, print_table, save, spread

FLOP_PER_IMAGE = 13.18e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 64, 32])
    parser.add_argument("--images", type=int, default=60000, help="images per round")
    parser.add_argument("--levels", nargs="*", default=[], metavar="LEVEL", help="other instruction-set levels of ours too")
    add_arguments(parser, ["pytorch", "pytorch:compile", "tensorflow", "jax"])
    arguments = parser.parse_args()
    threads = arguments.threads
    print_machine()
    with temporary_folder() as folder:
        data = prepare(Path(folder))
        ours = ["fastlenet", "fastlenet:winograd"]
        entries = [start(name, sys.executable, data, threads) for name in ours]
        entries += [
            start(name, sys.executable, data, threads, FASTLENET_ISA=level) for level in arguments.levels for name in ours
        ]
        for peer in arguments.peers:
            entries.append(start(peer, getattr(arguments, peer.partition(":")[0]), data, threads))
        contenders: list[Contender] = [entry for entry in entries if entry is not None]
        results = {}
        for batch in arguments.batch:
            roofline = peak(threads) / FLOP_PER_IMAGE
            result = run_rounds(contenders, "train", batch, arguments.images, arguments.rounds)
            roofline = statistics.mean([roofline, peak(threads) / FLOP_PER_IMAGE])
            exact = result["fastlenet"]["median"]
            rows = [
                [
                    contender["version"],
                    spread(contender["images_per_second"]),
                    f"{exact / contender['median']:.2f} x",
                    f"{contender['median'] / roofline:.2f} x",
                    f"{contender['check']:.4f}",
                    f"{contender['memory_mb']:,.0f} MB",
                ]
                for contender in result.values()
            ]
            print(f"training, batch {batch}, {threads} threads; dense roofline {roofline:,.0f} images/s")
            print_table(["", "images/s (from to)", "ours over it", "over roofline", "loss", "memory"], rows)
            results[str(batch)] = {"dense_roofline": roofline, "contenders": result}
        for contender in contenders:
            contender.close()
    save("bench_train", {"threads": threads, "images": arguments.images, "batches": results})


if __name__ == "__main__":
    main()
