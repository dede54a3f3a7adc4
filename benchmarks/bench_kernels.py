"""Times every op at LeNet's shapes and some others, with NumPy and, where installed, PyTorch beside it in the same run.

    python benchmarks/bench_kernels.py [--threads N] [--only TEXT] [--rounds N] [--without-numpy]
    python benchmarks/bench_kernels.py --step       # the table "kernel by kernel" of docs/performance.md

Ours, PyTorch and NumPy take turns; each figure is the median of the rounds. The share is of the multiply-add peak, which is
measured in the same run; for the passes that skip losers of a pooling window, of the multiply-adds that a dense pass would do,
and so it may exceed 100 %. Ops that only move memory have GB/s instead: of the arrays that they must read and write.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastlenet import Augmentation, get_num_threads, ops, reference, set_num_threads
from lenet_step import measure_kernels
from measuring import alternate, peak, print_machine, print_table, save

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from helpers.cases import LENET, Fused, Linear, Pool

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

Run = Callable[[], Any]

CONVOLUTIONS = {
    "conv1": LENET["conv1"].with_batch(128),
    "conv2": LENET["conv2"].with_batch(128),
    "32x32x3, 32 of 5x5": Fused(64, 3, 32, 32, 32, (5, 5)),
    "16x16x32, 64 of 3x3": Fused(64, 32, 16, 16, 64, (3, 3), padding=1),
    "29x31x1, 7 of 3x3": Fused(64, 1, 29, 31, 7, (3, 3)),
}
LINEARS = {
    "fc1": LENET["fc1"].with_batch(128),
    "fc2": LENET["fc2"].with_batch(128),
    "fc1, batch 32": LENET["fc1"].with_batch(32),
}
POOLS = {
    "pool1": Pool(128, 20, 24, 24, 2),
    "pool2": Pool(128, 50, 8, 8, 2),
    "3x3, stride 2": Pool(32, 20, 24, 24, 3, stride=2),
}
AUGMENTATIONS = {
    "shift": Augmentation(shift=2),
    "affine": Augmentation(shift=2, rotation=12, scale=0.12, shear=0.12),
    "elastic": Augmentation(shift=2, rotation=12, scale=0.12, shear=0.12, elastic=34, elastic_sigma=4, cutout=6),
}


@dataclass
class Line:
    """One op on one shape. flops: of a dense pass; bytes: that must be read and written, for ops that compute little."""

    name: str
    run: Callable[[Any], Run]  # of the backend, ops or reference
    torch: Callable[[], Run] | None = None
    flops: float = 0
    bytes: float = 0


def normals(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape, dtype=np.float32)


def tensor(array: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(array))


def convolution_lines(name: str, case: Fused) -> list[Line]:
    """The plain convolution, and the one with bias, ReLU and max-pool fused; each forward and backward."""
    x, weight, bias = normals(*case.x_shape), normals(*case.weight_shape) / case.weight_shape[1] / 5, normals(case.k)
    first = name == "conv1"  # the network's first layer needs no gradient by its input
    padding = {"padding": case.padding}
    y = ops.conv2d_forward(x, weight, bias, **padding)
    dy = normals(*y.shape)
    pooled, winners = ops.conv2d_relu_max_pool2d_forward(x, weight, bias, **case.options)
    dpooled = normals(*pooled.shape)
    flops = 2.0 * y.size * case.c * case.filter[0] * case.filter[1]
    backward = flops if first else 2 * flops

    def functional() -> Any:
        return torch.nn.functional

    def torch_forward(fused: bool) -> Run:
        tx, tw, tb = tensor(x), tensor(weight), tensor(bias)

        def run() -> Any:
            with torch.no_grad():
                out = functional().conv2d(tx, tw, tb, padding=case.padding)
                return functional().max_pool2d(functional().relu(out), case.kernel_size) if fused else out

        return run

    def torch_backward(fused: bool) -> Run:
        tx, tw, tb = tensor(x).requires_grad_(not first), tensor(weight).requires_grad_(), tensor(bias).requires_grad_()
        out = functional().conv2d(tx, tw, tb, padding=case.padding)
        if fused:
            out = functional().max_pool2d(functional().relu(out), case.kernel_size)
        gradient = tensor(dpooled if fused else dy)
        leaves = [tw, tb] if first else [tx, tw, tb]
        return lambda: torch.autograd.grad(out, leaves, gradient, retain_graph=True)

    def fused_forward(algorithm: str) -> Callable[[Any], Run]:
        return lambda b: lambda: b.conv2d_relu_max_pool2d_forward(x, weight, bias, algorithm=algorithm, **case.options)

    lines = [
        Line(
            f"conv2d_forward, {name}",
            lambda b: lambda: b.conv2d_forward(x, weight, bias, **padding),
            lambda: torch_forward(False),
            flops,
        ),
        Line(
            f"conv2d_backward, {name}",
            lambda b: lambda: b.conv2d_backward(dy, x, weight, need_dx=not first, **padding),
            lambda: torch_backward(False),
            backward,
        ),
        Line(
            f"conv2d_relu_max_pool2d_forward, {name}",
            fused_forward("direct"),
            lambda: torch_forward(True),
            flops,
        ),
        Line(
            f"conv2d_relu_max_pool2d_backward, {name}",
            lambda b: lambda: b.conv2d_relu_max_pool2d_backward(dpooled, winners, x, weight, need_dx=not first, **case.options),
            lambda: torch_backward(True),
            backward,
        ),
    ]
    if case.c > 1:  # images of one channel are computed directly
        line = f"conv2d_relu_max_pool2d_forward by Winograd, {name}"
        lines.append(Line(line, fused_forward("winograd"), lambda: torch_forward(True), flops))
    return lines


def pool_lines(name: str, case: Pool) -> list[Line]:
    x = normals(*case.x_shape)
    y, indices = ops.max_pool2d_forward(x, case.kernel_size, **case.options)
    dy = normals(*y.shape)

    def backward() -> Run:
        tx = tensor(x).requires_grad_()
        out = torch.nn.functional.max_pool2d(tx, case.kernel_size, **case.options)
        gradient = tensor(dy)
        return lambda: torch.autograd.grad(out, tx, gradient, retain_graph=True)

    def forward() -> Run:
        tx = tensor(x)
        return lambda: torch.nn.functional.max_pool2d(tx, case.kernel_size, **case.options, return_indices=True)

    size = x.nbytes + y.nbytes + indices.nbytes
    return [
        Line(
            f"max_pool2d_forward, {name}",
            lambda b: lambda: b.max_pool2d_forward(x, case.kernel_size, **case.options),
            forward,
            bytes=size,
        ),
        Line(
            f"max_pool2d_backward, {name}",
            lambda b: lambda: b.max_pool2d_backward(dy, indices, x.shape),
            backward,
            bytes=size,
        ),
    ]


def linear_lines(name: str, case: Linear) -> list[Line]:
    x, weight, bias = normals(case.n, case.inputs), normals(case.outputs, case.inputs), normals(case.outputs)
    dy = normals(case.n, case.outputs)
    flops = 2.0 * case.n * case.inputs * case.outputs

    def forward() -> Run:
        tx, tw, tb = tensor(x), tensor(weight), tensor(bias)
        return lambda: torch.nn.functional.linear(tx, tw, tb)

    def backward() -> Run:
        leaves = [tensor(a).requires_grad_() for a in (x, weight, bias)]
        out, gradient = torch.nn.functional.linear(*leaves), tensor(dy)
        return lambda: torch.autograd.grad(out, leaves, gradient, retain_graph=True)

    return [
        Line(f"linear_forward, {name}", lambda b: lambda: b.linear_forward(x, weight, bias), forward, flops),
        Line(f"linear_backward, {name}", lambda b: lambda: b.linear_backward(dy, x, weight), backward, 2 * flops),
    ]


def other_lines() -> list[Line]:
    """Element by element, the loss, the gather and the optimizers: a batch of 128, and LeNet's 431,080 parameters."""
    x, dy = normals(128, 20, 24, 24), normals(128, 20, 24, 24)
    rectified, squashed = ops.relu_forward(x), ops.sigmoid_forward(x)
    logits, labels = normals(128, 10), np.arange(128) % 10
    images, index = np.random.default_rng(0).integers(0, 256, (60000, 28, 28), np.uint8), np.arange(128) * 461
    mask = ops.dropout_forward(x, 0.5, 0, 0)[1]
    parameters, gradient, first, second = (np.abs(normals(431080)) for _ in range(4))

    def functional(function: str, *arrays: Any, **options: Any) -> Callable[[], Run]:
        def prepare() -> Run:
            tensors = [tensor(array) for array in arrays]
            chosen = getattr(torch.nn.functional, function, None) or getattr(torch, function)
            return lambda: chosen(*tensors, **options)

        return prepare

    def augmented(name: str, augmentation: Augmentation) -> Line:
        transform = augmentation.at(0, 0)
        return Line(
            f"gather_images, 128 of 28x28, {name}",
            lambda b: lambda: b.gather_images(images, index, mean=0.13, std=0.31, transform=transform),
            bytes=5 * 128 * 784,
        )

    def torch_gather() -> Run:
        timages, tindex = tensor(images), tensor(index)
        return lambda: timages[tindex].unsqueeze(1).float().sub_(33.3).div_(78.6)

    def torch_optimizer(make: Callable[[Any], Any]) -> Callable[[], Run]:
        def prepare() -> Run:
            leaf = tensor(parameters).requires_grad_()
            leaf.grad = tensor(gradient)
            run: Run = make([leaf]).step
            return run

        return prepare

    one, adam = x.nbytes, {"step": 5, "lr": 1e-9, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
    flat = parameters.nbytes
    return [
        Line("relu_forward", lambda b: lambda: b.relu_forward(x), functional("relu", x), bytes=2 * one),
        Line("relu_backward", lambda b: lambda: b.relu_backward(dy, rectified), bytes=3 * one),
        Line("sigmoid_forward", lambda b: lambda: b.sigmoid_forward(x), functional("sigmoid", x), bytes=2 * one),
        Line("sigmoid_backward", lambda b: lambda: b.sigmoid_backward(dy, squashed), bytes=3 * one),
        Line("dropout_forward", lambda b: lambda: b.dropout_forward(x, 0.5, 0, 0), functional("dropout", x), bytes=3 * one),
        Line("dropout_backward", lambda b: lambda: b.dropout_backward(dy, mask), bytes=3 * one),
        Line(
            "softmax_cross_entropy, 128x10",
            lambda b: lambda: b.softmax_cross_entropy(logits, labels),
            functional("cross_entropy", logits, labels),
            bytes=2 * logits.nbytes,
        ),
        Line("squared_error", lambda b: lambda: b.squared_error(x, dy), bytes=3 * one),
        Line(
            "gather_images, 128 of 28x28",
            lambda b: lambda: b.gather_images(images, index, mean=0.13, std=0.31),
            torch_gather,
            bytes=5 * 128 * 784,
        ),
        *(augmented(name, augmentation) for name, augmentation in AUGMENTATIONS.items()),
        Line(
            "sgd_step, Nesterov",
            lambda b: lambda: b.sgd_step(parameters, gradient, first, lr=1e-9, momentum=0.9, nesterov=True),
            torch_optimizer(lambda leaves: torch.optim.SGD(leaves, lr=1e-9, momentum=0.9, nesterov=True)),
            bytes=5 * flat,
        ),
        Line(
            "adam_step",
            lambda b: lambda: b.adam_step(parameters, gradient, first, second, **adam),
            torch_optimizer(lambda leaves: torch.optim.AdamW(leaves, lr=1e-9)),
            bytes=7 * flat,
        ),
        Line("ema_step", lambda b: lambda: b.ema_step(first, parameters, decay=0.999), bytes=3 * flat),
    ]


def all_lines() -> list[Line]:
    lines = [line for name, case in CONVOLUTIONS.items() for line in convolution_lines(name, case)]
    lines += [line for name, case in LINEARS.items() for line in linear_lines(name, case)]
    lines += [line for name, case in POOLS.items() for line in pool_lines(name, case)]
    return lines + other_lines()


def print_step(rounds: int, threads: int) -> None:
    """In Markdown: every kernel of LeNet's training step, of a trained network on real images, beside its bound."""
    print("| kernel | bound at peak, us per image | measured, us per image | share of peak |")
    print("|---|---|---|---|")
    kernels = list(measure_kernels(rounds, threads=threads))
    for kernel in kernels:
        bound = kernel.flops / kernel.peak
        limit, share = (f"{bound * 1e6:.3g}", f"{bound / kernel.seconds:.0%}".replace("%", " %")) if bound else ("", "")
        print(f"| {kernel.name} | {limit} | {kernel.seconds * 1e6:.3g} | {share} |")
    figures = {kernel.name: {"seconds": kernel.seconds, "flops": kernel.flops, "peak": kernel.peak} for kernel in kernels}
    save("lenet_step", {"threads": threads, "kernels": figures})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, help="(default: all that there are)")
    parser.add_argument("--only", default="", help="only ops with this text in their line")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--without-numpy", action="store_true", help="leave out the slowest of the three")
    parser.add_argument("--step", action="store_true", help="time LeNet's training step instead, by default on one thread")
    arguments = parser.parse_args()
    if arguments.step:
        return print_step(arguments.rounds, arguments.threads or 1)
    arguments.threads = arguments.threads or get_num_threads()
    set_num_threads(arguments.threads)
    if torch is None:
        print("PyTorch is not installed: its columns stay empty")
    else:
        torch.set_num_threads(arguments.threads)

    print_machine()
    top = peak(arguments.threads)
    print(f"{arguments.threads} threads, multiply-add peak {top / 1e9:.0f} GFLOP/s\n")
    rows, results = [], []
    for line in all_lines():
        if arguments.only not in line.name:
            continue
        contenders = {"fastlenet": line.run(ops)}
        if torch is not None and line.torch is not None:
            contenders["torch"] = line.torch()
        if not arguments.without_numpy:
            contenders["numpy"] = line.run(reference)
        medians = {name: statistics.median(times) for name, times in alternate(contenders, arguments.rounds).items()}
        ours = medians["fastlenet"]
        rate = f"{line.flops / ours / 1e9:,.0f} GFLOP/s" if line.flops else f"{line.bytes / ours / 1e9:,.1f} GB/s"
        share = f"{line.flops / ours / top:.0%}" if line.flops else ""
        others = [f"{medians[name] / ours:.1f} x" if name in medians else "" for name in ("torch", "numpy")]
        rows.append([line.name, f"{ours * 1e6:,.1f}", rate, share, *others])
        results.append({"name": line.name, "seconds": medians, "flops": line.flops, "bytes": line.bytes})
    print_table(["op", "us", "rate", "of peak", "over PyTorch", "over NumPy"], rows)
    versions = {"torch": None if torch is None else torch.__version__}
    save("bench_kernels", {"threads": arguments.threads, "peak": top, "versions": versions, "lines": results})


if __name__ == "__main__":
    main()
