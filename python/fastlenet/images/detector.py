"""A small network that tells whether an image of 28x28 pixels is a digit. It was trained on digits and on other shapes.

A network that was trained on the ten digits alone often gives a letter a high probability too. docs/predict.md has the figures
of both networks. tools/detector.py makes the weights.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastlenet.backend import Array
from fastlenet.data.mnist import MEAN_STD
from fastlenet.formats.tensor_file import TensorFile
from fastlenet.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from fastlenet.training.evaluation import probabilities

__all__ = ["WEIGHTS", "build_detector", "how_likely_a_digit"]

WEIGHTS = Path(__file__).parent / "detector.safetensors"


def build_detector(seed: int = 0) -> Sequential:
    """The network, as it is before it is trained: images (n, 1, 28, 28) -> scores of (something else, a digit)."""
    return Sequential(
        Conv2d(1, 8, 5),  # 28 -> 24
        ReLU(),
        MaxPool2d(2),  # 24 -> 12
        Conv2d(8, 16, 5),  # 12 -> 8
        ReLU(),
        MaxPool2d(2),  # 8 -> 4
        Flatten(),
        Linear(16 * 4 * 4, 32),
        ReLU(),
        Linear(32, 2),
        seed=seed,
    )


def how_likely_a_digit(images: Array) -> Array:
    """The probability (n,) that each of uint8 (n, 28, 28), white on black in the middle, is a digit."""
    mean, std = MEAN_STD
    likely: Array = probabilities(_detector(), images, mean=mean, std=std)[:, 1]
    return likely


@cache
def _detector() -> Sequential:
    detector = build_detector()
    detector.load_state_dict(TensorFile(WEIGHTS).read())
    return detector.eval()
