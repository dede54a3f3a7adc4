"""Files in the layouts of Keras, written with h5py: a `.keras` archive, an HDF5 file as of Keras 2, and weights alone."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from fastlenet import LeNet

Array = npt.NDArray[Any]
Config = dict[str, Any]
Layer = tuple[str, Config]
Weights = Mapping[str, list[Array]]


def lenet_layers() -> list[Layer]:
    conv: Config = {"kernel_size": [5, 5], "activation": "relu"}
    return [
        ("InputLayer", {"name": "input", "batch_shape": [None, 28, 28, 1]}),
        ("Conv2D", {"name": "conv2d", "filters": 20, **conv}),
        ("MaxPooling2D", {"name": "max_pooling2d", "pool_size": [2, 2]}),
        ("Conv2D", {"name": "conv2d_1", "filters": 50, **conv}),
        ("MaxPooling2D", {"name": "max_pooling2d_1", "pool_size": [2, 2]}),
        ("Flatten", {"name": "flatten"}),
        ("Dense", {"name": "dense", "units": 500, "activation": "relu"}),
        ("Dense", {"name": "dense_1", "units": 10, "activation": "softmax"}),
    ]


def weights_of(model: LeNet) -> dict[str, list[Array]]:
    """The weights of a LeNet as Keras keeps them: (r, s, c, k), (in, out), and fc1 for images (h, w, c)."""
    state = {name: array.copy() for name, array in model.state_dict().items()}
    state["fc1.weight"] = state["fc1.weight"].reshape(500, 50, 4, 4).transpose(0, 2, 3, 1).reshape(500, 800)
    made = {}
    for name, own in zip(("conv2d", "conv2d_1", "dense", "dense_1"), ("conv1", "conv2", "fc1", "fc2"), strict=True):
        weight = state[f"{own}.weight"]
        made[name] = [weight.transpose(2, 3, 1, 0).copy() if weight.ndim == 4 else weight.T.copy(), state[f"{own}.bias"]]
    return made


def described(layers: list[Layer]) -> str:
    return json.dumps({"class_name": "Sequential", "config": {"layers": [{"class_name": c, "config": d} for c, d in layers]}})


def _numbered(layers: list[Layer], weights: Weights) -> bytes:
    """As of Keras 3: layers/conv2d_1/vars/0. A name counts the layers of a class."""
    content, counts = io.BytesIO(), dict[str, int]()
    with h5py.File(content, "w") as file:
        for kind, config in layers:
            word = re.sub("([a-z])([A-Z])", r"\1_\2", kind).lower()
            counts[word] = counts.get(word, -1) + 1
            group = file.create_group(f"layers/{word}_{counts[word]}" if counts[word] else f"layers/{word}").create_group(
                "vars"
            )
            for place, array in enumerate(weights.get(config["name"], [])):
                group[str(place)] = array
        file.create_group("vars")
        file["optimizer/vars/0"] = np.zeros(3)
    return content.getvalue()


def save_weights(path: Path, layers: list[Layer], weights: Weights) -> Path:
    path = path.with_suffix(".weights.h5")
    path.write_bytes(_numbered(layers, weights))
    return path


def save_keras(path: Path, layers: list[Layer], weights: Weights) -> Path:
    path = path.with_suffix(".keras")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", described(layers))
        file.writestr("model.weights.h5", _numbered(layers, weights))
    return path


def save_old(path: Path, layers: list[Layer], weights: Weights) -> Path:
    """As of Keras 2: the attributes of model_weights name the layers, and those of a layer its weights."""
    path = path.with_suffix(".h5")
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = described(layers)
        top = file.create_group("model_weights")
        names = [config["name"] for _, config in layers if config and "name" in config]
        top.attrs["layer_names"] = np.array([name.encode() for name in names])
        for name in names:
            words = [f"{name}/{word}:0" for word, _ in zip(("kernel", "bias"), weights.get(name, []), strict=False)]
            group = top.create_group(name)
            group.attrs["weight_names"] = np.array([word.encode() for word in words])
            for word, array in zip(words, weights.get(name, []), strict=False):
                group[word] = array
    return path
