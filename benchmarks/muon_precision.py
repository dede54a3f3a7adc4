"""Measures what Muon would lose by products of bfloat16, on the momentum of a training by the recipe `fast`.

    python benchmarks/muon_precision.py [--steps 20 500 1500]

The right result is that of five Newton-Schulz steps in float64, whose singular values are near 1. "X" rounds the factors of
each product of the usual iteration on X to bfloat16. "Gram" does so in the iteration on X X^T, which `ops.muon_step` makes in
float64. The error is relative, in Frobenius' norm; "values" is the largest difference of a singular value.
"""

from __future__ import annotations

import argparse
import math
from contextlib import suppress
from typing import SupportsFloat

import numpy as np

from fastlenet import LeNet
from fastlenet.backend import Array
from fastlenet.data import load_mnist
from fastlenet.reference.bf16 import rounded
from fastlenet.training.callbacks.base import Callback, Run
from fastlenet.training.recipe import RECIPES
from fastlenet.training.trainer import InterruptedRunError, Trainer
from measuring import print_machine, print_table, save

A, B, C = 3.4445, -4.7750, 2.0315  # of Jordan's Muon
ROUNDS = 5


def as_bf16(x: Array) -> Array:
    return rounded(x.astype(np.float32)).astype(np.float64)


def right(x: Array) -> Array:
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x


def by_x(x: Array) -> Array:
    for _ in range(ROUNDS):
        factor = as_bf16(x)
        gram = factor @ factor.T
        square = as_bf16(gram) @ as_bf16(gram)
        x = A * x + as_bf16(B * gram + C * square) @ factor
    return x


def by_gram(x: Array) -> Array:
    factor = as_bf16(x)
    gram, product = factor @ factor.T, np.eye(len(x))
    for _ in range(ROUNDS):
        rounded_gram = as_bf16(gram)
        step = as_bf16(A * np.eye(len(x)) + B * gram + C * (rounded_gram @ rounded_gram))
        product, gram = step @ as_bf16(product), as_bf16(step @ rounded_gram) @ step
    return as_bf16(product) @ factor


class Compare(Callback):
    """Compares the iterations after some steps, and prints a table after the last of them."""

    def __init__(self, steps: list[int]) -> None:
        self._steps = steps
        self._rows: list[list[str]] = []
        self.results: list[dict[str, str | float]] = []

    def batch(self, run: Run, loss: SupportsFloat, images: int) -> None:
        if run.state.position not in self._steps:
            return
        begin, velocity = 0, run.state.optimizer.buffers["velocity"]
        for name, parameter in run.state.model.parameters().items():
            if parameter.ndim == 4:
                self._add(f"{name}, step {run.state.position}", velocity[begin : begin + parameter.size], len(parameter))
            begin += math.prod(parameter.shape)
        if run.state.position == max(self._steps):
            print_table(["", "condition", "X: error", "values", "Gram: error", "values"], self._rows)
            run.stop("all steps were compared")

    def _add(self, name: str, velocity: Array, rows: int) -> None:
        x = velocity.reshape(rows, -1).astype(np.float64)
        x /= np.linalg.norm(x)
        exact, values = right(x), np.linalg.svd(x, compute_uv=False)
        condition = values[0] / values[-1]
        row, result = [name, f"{condition:.0f}"], {"matrix": name, "condition": condition}
        for way, got in (("x", by_x(x)), ("gram", by_gram(x))):
            error = np.linalg.norm(got - exact) / np.linalg.norm(exact)
            apart = np.abs(np.linalg.svd(got, compute_uv=False) - np.linalg.svd(exact, compute_uv=False)).max()
            row += [f"{error:.2%}", f"{apart:.3f}"]
            result |= {f"{way}_error": error, f"{way}_values": apart}
        self._rows.append(row)
        self.results.append(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 500, 1500], help="at most 1875")
    arguments = parser.parse_args()
    print_machine()
    recipe = RECIPES["fast"]
    compare = Compare(arguments.steps)
    with suppress(InterruptedRunError):
        Trainer(LeNet.of(recipe), load_mnist(), recipe).run(compare)
    save("muon_precision", {"matrices": compare.results})


if __name__ == "__main__":
    main()
