"""Measures training of a network of CIFAR's size: images/s of fastlenet and of PyTorch, in turns.

    python benchmarks/bench_cifar.py [--batch 64] [--padding 1 0] [--threads 2] [--images 2560] [--rounds 7]

The network takes 3x32x32: 3x3 convolutions to 32, 64 and 128 channels, each with ReLU and 2x2 maximum; 256; 10. PyTorch runs in
float32, in float32 with channels last, and in bfloat16 by autocast with either layout; fastlenet in float32, exactly and by
Winograd's algorithm. Each gathers and normalises batches from uint8 in shuffled order, and steps by SGD with Nesterov momentum.
The images are MNIST's digits in random colours on backgrounds of random colours, with noise, so that a download is not needed;
all start from the same parameters, after a hundred steps.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from contest import Contender, run_rounds, start, temporary_folder
from fastlenet.data import load_mnist
from measuring import print_machine, print_table, save, spread
from peers.cifar_fastlenet import network, train_network

TRAINING = 6400  # images that the parameters are trained on first
OURS = ["cifar_fastlenet:winograd", "cifar_fastlenet"]
PEERS = [f"cifar_pytorch{variant}" for variant in ("", ":channels_last", ":bf16", ":channels_last_bf16")]


def coloured(count: int) -> tuple[Any, Any]:
    """Images (count, 3, 32, 32) of uint8, and their labels."""
    mnist, rng = load_mnist(), np.random.default_rng(0)
    ink = np.pad(mnist.train_images[:count], ((0, 0), (2, 2), (2, 2)))[:, None] / np.float32(255)
    paper, pen = rng.uniform(0, 200, (2, count, 3, 1, 1)).astype(np.float32)
    images = paper + (pen - paper) * ink + rng.normal(0, 16, (count, 3, 32, 32)).astype(np.float32)
    return images.clip(0, 255).astype(np.uint8), mnist.train_labels[:count]


def prepare(folder: Path, padding: int) -> Path:
    """The images and the trained parameters in one file for every worker."""
    images, labels = coloured(TRAINING)
    data = {"images": images, "labels": labels, "mean": images.mean() / 255, "std": images.std() / 255, "padding": padding}
    model = network(padding, "direct")
    train_network(model, data, 64, TRAINING, 0.05)
    path = folder / f"padding{padding}.npz"
    np.savez(path, **data, **model.state_dict())
    return path


def show(result: dict[str, dict[str, Any]]) -> float:
    """Prints the table. Returns our fastest row over the fastest of the peers."""
    ours, peers = (
        max((row["median"] for name, row in result.items() if name.startswith("cifar_fastlenet") is mine), default=float("nan"))
        for mine in (True, False)
    )
    rows = [
        [row["version"], spread(row["images_per_second"]), f"{ours / row['median']:.2f} x", f"{row['check']:.4f}"]
        for row in result.values()
    ]
    print_table(["", "images/s (from to)", "our fastest over it", "loss"], rows)
    return ours / peers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--padding", type=int, nargs="+", default=[1, 0])
    parser.add_argument("--images", type=int, default=2560, help=f"images per round, at most {TRAINING}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pytorch", default=sys.executable, metavar="PYTHON", help="a Python interpreter that has pytorch")
    arguments = parser.parse_args()
    if not arguments.batch <= arguments.images <= TRAINING:
        parser.error(f"--images expects {arguments.batch} (the batch) to {TRAINING}, got {arguments.images}")
    print_machine()
    results: dict[str, Any] = {}
    for padding in arguments.padding:
        with temporary_folder() as folder:
            data = prepare(Path(folder), padding)
            started = [start(name, sys.executable, data, arguments.threads) for name in OURS]
            started += [start(name, arguments.pytorch, data, arguments.threads) for name in PEERS]
            contenders: list[Contender] = [entry for entry in started if entry is not None]
            result = run_rounds(contenders, "train", arguments.batch, arguments.images, arguments.rounds)
            for contender in contenders:
                contender.close()
        print(f"training, batch {arguments.batch}, {arguments.threads} threads, padding {padding}")
        ratio = show(result)
        print(f"our fastest over the fastest of PyTorch: {ratio:.2f} x\n")
        results[str(padding)] = {"ratio": ratio, "contenders": result}
    save(
        "bench_cifar", {"threads": arguments.threads, "batch": arguments.batch, "images": arguments.images, "paddings": results}
    )


if __name__ == "__main__":
    main()
