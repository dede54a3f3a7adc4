"""JAX: one jitted step, with channels last, which its convolutions on the CPU need."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from peers import LR, MOMENTUM, PARAMETERS, channels_last

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def forward(p: dict[str, Any], x: Any) -> Any:
    for layer in ("conv1", "conv2"):
        x = lax.conv_general_dilated(x, p[f"{layer}.weight"], (1, 1), "VALID", dimension_numbers=DIMENSIONS)
        x = jax.nn.relu(x + p[f"{layer}.bias"])
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(x.reshape(len(x), -1) @ p["fc1.weight"] + p["fc1.bias"])
    return x @ p["fc2.weight"] + p["fc2.bias"]


@partial(jax.jit, donate_argnums=(0, 1))
def step(p: Any, v: Any, images: Any, labels: Any, index: Any, mean: float, std: float) -> Any:
    x = (images[index].astype(jnp.float32) - mean) / std

    def loss_of(p: Any) -> Any:
        scores = jax.nn.log_softmax(forward(p, x[..., None]))
        return -jnp.take_along_axis(scores, labels[index][:, None], 1).mean()

    loss, g = jax.value_and_grad(loss_of)(p)
    v = jax.tree.map(lambda v, g: MOMENTUM * v + g, v, g)
    p = jax.tree.map(lambda p, v, g: p - LR * (g + MOMENTUM * v), p, v, g)
    return p, v, loss


class Peer:
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        self.version = f"JAX {jax.__version__}"
        self.data = data
        self.images, self.labels = jnp.asarray(data["images"]), jnp.asarray(data["labels"].astype(np.int32))
        self.mean_std = 255 * float(data["mean"]), 255 * float(data["std"])
        self.parameters = channels_last({name: data[name] for name in PARAMETERS})
        self.predict = jax.jit(forward)

    @cached_property
    def x(self) -> Any:
        images = self.data["test_images"][..., None].astype(np.float32)
        return jnp.asarray((images - self.mean_std[0]) / self.mean_std[1])

    def train(self, batch: int, images: int) -> float:
        p = {name: jnp.asarray(array) for name, array in self.parameters.items()}
        v = {name: jnp.zeros_like(array) for name, array in p.items()}
        order = np.random.default_rng(0).permutation(images)
        losses = []
        for start in range(0, images, batch):
            index = jnp.asarray(order[start : start + batch])
            p, v, loss = step(p, v, self.images, self.labels, index, *self.mean_std)
            losses.append(loss * len(index))
        return float(sum(losses)) / images

    def infer(self, batch: int, images: int) -> float:
        predictions = [np.asarray(self.predict(self.parameters, self.x[i : i + batch])) for i in range(0, images, batch)]
        return float((np.concatenate(predictions).argmax(axis=1) == self.data["test_labels"][:images]).mean())
