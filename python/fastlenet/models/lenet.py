"""LeNet, the convolutional network that the package trains."""

from __future__ import annotations

from types import ModuleType

from fastlenet import ops as kernel_ops
from fastlenet.fields import integer
from fastlenet.nn import Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU, Sequential
from fastlenet.nn.layers import PROBABILITY
from fastlenet.training.recipe import Recipe

__all__ = ["LeNet"]


class LeNet(Sequential):
    """A LeNet for 28x28 images, with 431,080 parameters for ten classes.

    The model maps normalised images x, (n, 1, 28, 28) float32, to logits (n, classes). Its state_dict has the keys and shapes
    of a PyTorch module with layers conv1, conv2, fc1 and fc2.
    seed: of the initial weights and of dropout. classes: the number of outputs.
    dropout, dropout_fc1: probability in [0, 1) of dropping an input of fc2, or of fc1, in training; they change no parameter or
    key.
    ops: the backend. algorithm: "direct" or "winograd", see Sequential.
    Raises TypeError or ValueError, which names the argument.
    Source: LeCun et al. 1998, with the sizes of Caffe's LeNet and a ReLU after each layer.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        classes: int = 10,
        dropout: float = 0.0,
        dropout_fc1: float = 0.0,
        ops: ModuleType = kernel_ops,
        algorithm: str = "direct",
    ) -> None:
        name = type(self).__name__
        classes = integer(f"{name}: classes", classes, 1, 2**31 - 1)
        dropout = PROBABILITY.convert(f"{name}: dropout", dropout)
        dropout_fc1 = PROBABILITY.convert(f"{name}: dropout_fc1", dropout_fc1)
        layers: dict[str, Layer] = {
            "conv1": Conv2d(1, 20, 5),  # 28 -> 24
            "relu1": ReLU(),
            "pool1": MaxPool2d(2),  # 24 -> 12
            "conv2": Conv2d(20, 50, 5),  # 12 -> 8
            "relu2": ReLU(),
            "pool2": MaxPool2d(2),  # 8 -> 4
            "flatten": Flatten(),
            "dropout1": Dropout(dropout_fc1),
            "fc1": Linear(4 * 4 * 50, 500),
            "relu3": ReLU(),
            "dropout2": Dropout(dropout),
            "fc2": Linear(500, classes),
        }
        layers = {name: layer for name, layer in layers.items() if not (isinstance(layer, Dropout) and layer.p == 0)}
        super().__init__(*layers.values(), names=list(layers), seed=seed, ops=ops, algorithm=algorithm)

    @classmethod
    def of(cls, recipe: Recipe, *, classes: int = 10, ops: ModuleType = kernel_ops) -> LeNet:
        """Returns the network that a run with this recipe starts from: with its seed, dropout and algorithm."""
        if not isinstance(recipe, Recipe):
            raise TypeError(f"{cls.__name__}.of: recipe expects a Recipe, got {type(recipe).__name__}")
        return cls(
            recipe.seed,
            classes=classes,
            dropout=recipe.dropout,
            dropout_fc1=recipe.dropout_fc1,
            ops=ops,
            algorithm=recipe.algorithm,
        )
