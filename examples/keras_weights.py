"""Weights that Keras trained: write a file in Keras's layout, load it, and evaluate it. Needs h5py, not Keras.

pip install '.[keras]'
python examples/keras_weights.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import h5py

import fastlenet
from fastlenet import LeNet
from fastlenet.data import load_mnist


def save_as_keras(model: LeNet, path: Path) -> None:
    """Write the weights as `model.save_weights("m.weights.h5")` of Keras does.

    Kernels are (r, s, c, k), matrices (in, out), and Keras flattens images (h, w, c).
    """
    state = model.state_dict()
    fc1 = state["fc1.weight"].reshape(500, 50, 4, 4).transpose(0, 2, 3, 1).reshape(500, 800)
    weights = {
        "conv2d": state["conv1.weight"].transpose(2, 3, 1, 0),
        "conv2d_1": state["conv2.weight"].transpose(2, 3, 1, 0),
        "dense": fc1.T,
        "dense_1": state["fc2.weight"].T,
    }
    with h5py.File(path, "w") as file:
        for (name, weight), own in zip(weights.items(), ("conv1", "conv2", "fc1", "fc2"), strict=True):
            file[f"layers/{name}/vars/0"] = weight
            file[f"layers/{name}/vars/1"] = state[f"{own}.bias"]


def main(images: int = 1000) -> float:
    """Returns the accuracy on the first test images."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lenet.weights.h5"
        save_as_keras(LeNet.pretrained(), path)
        model = fastlenet.load(path)  # warns: the file says neither its layers nor its normalisation
    assert isinstance(model, LeNet)
    model.set_facts(mean=0.1307, std=0.3081)  # Keras's users often divide by 255 only: mean 0 and std 1, which load assumes
    data = load_mnist()
    result = model.evaluate(data.test_images[:images], data.test_labels[:images])
    print(f"accuracy {result.accuracy:.2%}")
    return result.accuracy


if __name__ == "__main__":
    main()
