"""Writes the files of Keras in this folder, and what Keras predicts with them. Run once with each version, in this folder:

python write_keras.py keras3      (keras 3.15.1 on torch 2.13.0)
python write_keras.py keras2      (tensorflow-cpu 2.15.1, whose Keras is 2.15.0)
"""

from __future__ import annotations

import os
import sys

import numpy as np

try:
    from tensorflow import keras
except ImportError:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

L = keras.layers


def conv_net(order: str) -> keras.Model:
    """All kinds of layers that are read."""
    shape = (12, 10, 2) if order == "channels_last" else (2, 12, 10)
    axis = -1 if order == "channels_last" else 1
    images = keras.Input(shape)
    x = L.Rescaling(1 / 255)(images)
    x = L.Normalization(axis=axis, mean=[0.25, 0.5], variance=[0.0625, 0.25])(x)
    x = L.Conv2D(4, 3, padding="same", use_bias=False, data_format=order)(x)
    x = L.LeakyReLU()(x)
    x = L.AveragePooling2D(2, data_format=order)(x)
    x = L.Conv2D(5, (2, 1), strides=(2, 1), activation="tanh", data_format=order)(x)
    x = L.MaxPooling2D((2, 3), strides=1, data_format=order)(x)
    x = L.Flatten(data_format=order)(x)
    x = L.Dropout(0.5)(x)
    x = L.Dense(7, activation="sigmoid")(x)
    return keras.Model(images, L.Dense(3, activation="softmax")(x))


def nested_net() -> keras.Model:
    inner = keras.Sequential([keras.Input((12, 10, 2)), L.Conv2D(3, 5, activation="relu"), L.MaxPooling2D()])
    layers = [keras.Input((12, 10, 2)), inner, L.GlobalAveragePooling2D(), L.Dense(4), L.ReLU(negative_slope=0.25), L.Dense(3)]
    return keras.Sequential(layers)


def main(name: str) -> None:
    keras.utils.set_random_seed(7)
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 10, 2)).astype(np.float32)
    answers = {}
    last = conv_net("channels_last")
    models = {"conv": last, "nested": nested_net()}
    if name == "keras3":  # TensorFlow has no channels_first on a CPU
        models["first"] = conv_net("channels_first")
        models["first"].set_weights(last.get_weights())
    for key, model in models.items():
        model.set_weights([each + np.random.default_rng(1).normal(0, 0.1, each.shape) for each in model.get_weights()])
        raw = images / 255 if key == "nested" else images.transpose(0, 3, 1, 2) if key == "first" else images
        answers[key] = np.asarray(model.predict(raw, verbose=0))
        for ending in ("keras", "h5"):
            model.save(f"{name}_{key}.{ending}")
    last.save_weights(f"{name}_conv.weights.h5")
    np.savez(f"{name}.npz", images=images.astype(np.uint8), **answers)


main(*sys.argv[1:])
