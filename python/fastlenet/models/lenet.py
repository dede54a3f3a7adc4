"""LeNet, the convolutional network that the package trains."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from fastlenet import ops as kernel_ops
from fastlenet.fields import integer
from fastlenet.inference.facts import ModelFacts
from fastlenet.models.parts import expect_input_shape, of_recipe, pooled, without_idle
from fastlenet.nn import Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU, Sequential
from fastlenet.nn.layers.dropout import PROBABILITY

if TYPE_CHECKING:
    from fastlenet.training.recipe import Recipe

__all__ = ["PRETRAINED", "LeNet"]

# Made by tools/pretrain.py. A Path would cost a tenth of the time of importing NumPy.
PRETRAINED = os.path.join(os.path.dirname(__file__), "pretrained", "lenet.safetensors")
_LEAST, _UNPADDED = 4, 16  # pixels a side: what two poolings need, and what two 5x5 filters without padding need


class LeNet(Sequential):
    """A LeNet. By default it takes 28x28 gray images, and has ten classes and 431,080 parameters.

    The model maps normalised images x, (n, c, h, w) float32, to logits (n, classes). Its state_dict has the keys and shapes of
    a PyTorch module with layers conv1, conv2, fc1 and fc2.
    seed: decides the initial weights and dropout. classes: the number of outputs.
    input_shape: (c, h, w), the shape of an image, at least 4 pixels a side. It decides the size of fc1. Along a side of fewer
    than 16 pixels both convolutions pad with 2 zeros, since nothing would be left of it without padding.
    dropout, dropout_fc1: the probability in [0, 1) of dropping an input of fc2, or of fc1, in training. They change neither the
    parameters nor the keys.
    ops: the backend. algorithm: "direct" or "winograd", and precision: "float32" or "bf16", see Sequential.
    Raises TypeError or ValueError, which names the argument.
    Source: LeCun et al. 1998, with the sizes of Caffe's LeNet and a ReLU after each layer.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        input_shape: Sequence[int] = (1, 28, 28),
        classes: int = 10,
        dropout: float = 0.0,
        dropout_fc1: float = 0.0,
        ops: ModuleType = kernel_ops,
        algorithm: str = "direct",
        precision: str = "float32",
    ) -> None:
        name = type(self).__name__
        c, h, w = expect_input_shape(f"{name}: input_shape", input_shape, _LEAST)
        classes = integer(f"{name}: classes", classes, 1, 2**31 - 1)
        dropout = PROBABILITY.convert(f"{name}: dropout", dropout)
        dropout_fc1 = PROBABILITY.convert(f"{name}: dropout_fc1", dropout_fc1)
        padding = 2 * (h < _UNPADDED), 2 * (w < _UNPADDED)
        rows, columns = (pooled(pooled(side, pad), pad) for side, pad in zip((h, w), padding, strict=True))
        layers: dict[str, Layer] = {
            "conv1": Conv2d(c, 20, 5, padding=padding),  # 28 -> 24
            "relu1": ReLU(),
            "pool1": MaxPool2d(2),  # 24 -> 12
            "conv2": Conv2d(20, 50, 5, padding=padding),  # 12 -> 8
            "relu2": ReLU(),
            "pool2": MaxPool2d(2),  # 8 -> 4
            "flatten": Flatten(),
            "dropout1": Dropout(dropout_fc1),
            "fc1": Linear(rows * columns * 50, 500),
            "relu3": ReLU(),
            "dropout2": Dropout(dropout),
            "fc2": Linear(500, classes),
        }
        layers = without_idle(layers)
        super().__init__(
            *layers.values(),
            names=list(layers),
            seed=seed,
            ops=ops,
            algorithm=algorithm,
            precision=precision,
            input_shape=(c, h, w),
        )

    @classmethod
    def of(
        cls, recipe: Recipe, *, input_shape: Sequence[int] = (1, 28, 28), classes: int = 10, ops: ModuleType = kernel_ops
    ) -> LeNet:
        """Returns the network that a run with this recipe starts from: with its seed, dropout, algorithm and precision."""
        settings = of_recipe(f"{cls.__name__}.of", recipe)
        return cls(**settings, input_shape=input_shape, classes=classes, ops=ops)

    @classmethod
    def pretrained(cls, *, ops: ModuleType = kernel_ops, algorithm: str = "direct", precision: str = "float32") -> LeNet:
        """Returns the package's network, in evaluation mode. It was trained on MNIST by the recipe `best` with seed 0.

        Its weights are rounded to bfloat16, 0.86 MB. Its test accuracy is 99.62 %. Raises CheckpointError for a damaged file.
        """
        from fastlenet.formats.tensor_file import TensorFile  # which only this needs

        model, file = cls(ops=ops, algorithm=algorithm, precision=precision), TensorFile(PRETRAINED)
        model.load_state_dict(file.read())
        model.facts = ModelFacts.of_metadata(file.metadata)
        model.eval()
        return model
