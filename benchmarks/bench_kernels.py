"""Times every op at LeNet's shapes and some others, with NumPy and, where installed, PyTorch beside it in the same run.

    python benchmarks/bench_kernels.py [--threads N] [--only TEXT] [--rounds N] [--without-numpy]
    python benchmarks/bench_kernels.py --step       # the table "kernel by kernel" of docs/performance.md
    python benchmarks/bench_kernels.py --precisions # LeNet's layers in float32, bfloat16, int8, by each instruction, both ways

fastlenet, PyTorch and NumPy take turns; each figure is the median of the rounds. The share is the rate of the dense product's
multiply-adds over the multiply-add peak, which is measured in the same run. A pass that skips the losers of pooling windows can
exceed 100 %. Ops that only move memory have GB/s instead, for the arrays that they must read and write.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from fastlenet import get_num_threads, ops, reference, set_num_threads
from fastlenet.testing.timing import Line, alternate, lines, peak
from lenet_precisions import Timed, kinds, measure_precisions
from lenet_step import measure_kernels
from measuring import print_machine, print_table, save

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

Run = Callable[[], Any]


def in_torch(line: Line) -> Run | None:
    """The call in PyTorch, if it has the op; a gradient is that of its autograd."""
    gradient = line.op.gradient
    function = (line.op if gradient is None else gradient.forward).torch
    if not line.in_torch or function is None:
        return None
    arguments = {name: tensor(value) for name, value in {**line.arguments, **line.inputs}.items()}
    if line.op.changes:
        step: Run = function(torch, arguments)
        return step
    if gradient is not None:
        wanted = [n for n, r in zip(gradient.of, line.op.results, strict=True) if line.arguments.get(r.optional, True)]
        leaves = [arguments[name].requires_grad_() for name in wanted]
        out = function(torch, arguments)
        y = out[0] if isinstance(out, tuple) else out
        return lambda: torch.autograd.grad(y, leaves, arguments["dy"], retain_graph=True)

    def run() -> Any:
        with torch.no_grad():
            return function(torch, arguments)

    return run


def tensor(value: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value


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


def print_precisions(rounds: int) -> None:
    set_num_threads(1)
    print_machine()
    found = [timed for images in (128, 1) for timed in measure_precisions(rounds, images)]
    here, lacking = kinds()

    def cell(timed: Timed, kind: str) -> str:
        if "backward" in timed.layer and kind.startswith("int8"):
            return ""
        return f"{1e6 * timed.seconds[kind]:.2f}" if kind in here else "not measured"

    columns = [*here, *lacking]
    rows = [[f"{t.layer}, {t.images} image{'s' * (t.images != 1)}", *(cell(t, kind) for kind in columns)] for t in found]
    print_table(["us per image", *columns], rows)
    if lacking:
        print(f"not measured: {', '.join(lacking)}, which this CPU lacks; their emulations are not timed, being far slower")
    save("lenet_precisions", {"rounds": rounds, "not_measured": lacking, "layers": [vars(timed) for timed in found]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, help="(default: all CPUs)")
    parser.add_argument("--only", default="", help="only ops whose line contains this text")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--without-numpy", action="store_true", help="skip NumPy, the slowest of the three")
    parser.add_argument("--step", action="store_true", help="time LeNet's training step instead, by default on one thread")
    parser.add_argument("--precisions", action="store_true", help="time LeNet's layers in each precision, on one thread")
    arguments = parser.parse_args()
    if arguments.precisions:
        return print_precisions(arguments.rounds)
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
    for line in lines(arguments.only):
        contenders = {"fastlenet": line.call(ops)}
        theirs = None if torch is None else in_torch(line)
        if theirs is not None:
            contenders["torch"] = theirs
        if not arguments.without_numpy:
            contenders["numpy"] = line.call(reference)
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
