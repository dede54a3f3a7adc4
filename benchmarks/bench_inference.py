"""Measures inference: images/s of a frozen model and its peers at several batch sizes, and the time of one image on one thread.

    python benchmarks/bench_inference.py [--batch 1000 64] [--threads 2] [--images 10000] [--rounds 5] [--peers pytorch ...]
                                         [--levels x86-64-v3]

Each contender has the same trained parameters and its own process on the same CPUs, and is called from Python. The test images
are normalised beforehand, except for fastlenet:int8, which takes raw ones. Each precision of fastlenet has a row.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from contest import Contender, add_arguments, prepare, run_rounds, start, temporary_folder
from measuring import print_machine, print_table, save, spread


def contenders(arguments: argparse.Namespace, data: Path, threads: int) -> list[Contender]:
    ours = ("fastlenet", "fastlenet:winograd", "fastlenet:bf16", "fastlenet:int8")
    entries = [start(name, sys.executable, data, threads) for name in ours]
    for level in arguments.levels:
        named = {name: f"{name}, {level}" for name in ("fastlenet", "fastlenet:winograd", "fastlenet:int8")}
        entries += [start(*(n, sys.executable, data, threads, label), FASTLENET_ISA=level) for n, label in named.items()]
    entries += [start(peer, getattr(arguments, peer.partition(":")[0]), data, threads) for peer in arguments.peers]
    return [entry for entry in entries if entry is not None]


def show(result: dict[str, dict[str, Any]], one_image: bool) -> None:
    ours = result["fastlenet"]["median"]
    rows = []
    for contender in result.values():
        rates = contender["images_per_second"]
        speed = f"{1e6 / statistics.median(rates):.1f}" if one_image else spread(rates)
        rows.append([contender["version"], speed, f"{ours / contender['median']:.2f} x", f"{contender['check']:.2%}"])
    print_table(["", "us per image" if one_image else "images/s (from to)", "ours over it", "accuracy"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, nargs="*", default=[1000, 64])
    parser.add_argument("--images", type=int, default=10000, help="images per round")
    parser.add_argument("--levels", nargs="*", default=[], metavar="LEVEL", help="also run fastlenet at these levels")
    parser.add_argument("--save", default="bench_inference", metavar="NAME", help="the file of results (%(default)s)")
    add_arguments(parser, ["pytorch", "onnxruntime", "openvino"])
    arguments = parser.parse_args()
    print_machine()
    results: dict[str, Any] = {}
    with temporary_folder() as folder:
        data = prepare(Path(folder))
        many = contenders(arguments, data, arguments.threads)
        for batch in arguments.batch:
            print(f"inference, batch {batch}, {arguments.threads} threads")
            images = arguments.images // batch * batch
            results[str(batch)] = run_rounds(many, "infer", batch, images, arguments.rounds)
            show(results[str(batch)], False)
        for contender in many:
            contender.close()
        single = contenders(arguments, data, 1)
        print("inference, one image at a time, one thread")
        results["one image, one thread"] = run_rounds(single, "infer", 1, min(2000, arguments.images), arguments.rounds)
        show(results["one image, one thread"], True)
        for contender in single:
            contender.close()
    save(arguments.save, {"threads": arguments.threads, "images": arguments.images, "results": results})


if __name__ == "__main__":
    main()
