"""Times each kernel of a LeNet training step inside whole steps, for a trained network on real images."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from fastlenet import LeNet, fit, get_num_threads, set_num_threads
from fastlenet.data import Dataset, load_mnist
from fastlenet.profiling import Line, Profiler
from fastlenet.testing.timing import peak
from fastlenet.training.callbacks.step_times import StepTimes
from peers import LR, MOMENTUM, PLAIN, TRAINED

__all__ = ["Kernel", "measure_kernels"]

# The profile's lines, by the name that the documentation has for them.
NAMES = {
    "gather_images 28x28": "gather and normalise",
    "conv2d_relu_max_pool2d_forward 1x28x28": "conv1 forward",
    "conv2d_relu_max_pool2d_forward 20x12x12": "conv2 forward",
    "linear_forward 800": "fc1 forward",
    "relu_forward 500": "relu forward",
    "linear_forward 500": "fc2 forward",
    "softmax_cross_entropy 10": "loss",
    "linear_backward 500": "fc2 backward",
    "relu_backward 500": "relu backward",
    "linear_backward 800": "fc1 backward",
    "conv2d_relu_max_pool2d_backward 20x12x12": "conv2 backward",
    "conv2d_relu_max_pool2d_backward 1x28x28": "conv1 backward",
    "sgd_step": "SGD with momentum",
}
ORDER = [*NAMES.values()]
ORDER.insert(ORDER.index("conv2 forward") + 1, "conv2 forward by Winograd")


@dataclass(frozen=True)
class Kernel:
    """One image's: seconds; flops of the dense product, 0 for what has none; peak: FLOP/s of this CPU in the same minute."""

    name: str
    seconds: float
    flops: float
    peak: float


def _round(profiler: Profiler, state: dict[str, Any], data: Dataset, batch: int, algorithm: str) -> dict[str, Line]:
    """Every kernel's line after one epoch of `data`, from the trained parameters."""
    model = LeNet(ops=profiler, algorithm=algorithm)
    model.load_state_dict(state)
    callback = StepTimes(profiler)
    plain = {**PLAIN, "lr": LR, "momentum": MOMENTUM, "algorithm": algorithm}
    fit(model, data, callbacks=(callback,), epochs=1, batch_size=batch, evaluate_every_epoch=False, verbose=0, **plain)
    by = {"conv2 forward": "conv2 forward by Winograd"} if algorithm == "winograd" else {}
    return {by.get(NAMES[name], NAMES[name]): line for name, line in callback.lines.items() if name != "profiler"}


def measure_kernels(rounds: int, batch: int = 128, steps: int = 40, threads: int = 1) -> list[Kernel]:
    """Each kernel's time per image, the median of rounds, and the peak, measured in each round.

    A round is so many steps by the direct and as many by Winograd's algorithm, from the parameters after one epoch of training.
    """
    before = get_num_threads()
    set_num_threads(threads)
    data, model = load_mnist(), LeNet()
    fit(model, data, evaluate_every_epoch=False, verbose=0, **TRAINED)
    images = batch * (steps + 1)
    train = data.train_images[:images], data.train_labels[:images]
    few = Dataset("MNIST", *train, data.test_images[:1], data.test_labels[:1], 10, mean=data.mean, std=data.std)
    profiler, state = Profiler(), model.state_dict()
    peaks, found = [], []
    for _ in range(rounds):
        peaks.append(peak(threads, 0.05))
        found.append(_round(profiler, state, few, batch, "winograd") | _round(profiler, state, few, batch, "direct"))
    set_num_threads(before)
    top, per_image = statistics.median(peaks), batch * steps
    return [
        Kernel(name, statistics.median(lines[name].seconds for lines in found) / per_image, line.flops / per_image, top)
        for name, line in sorted(found[0].items(), key=lambda item: ORDER.index(item[0]))
    ]
