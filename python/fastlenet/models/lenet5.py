"""LeNet-5, the network of LeCun et al. 1998."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from fastlenet import ops as kernel_ops
from fastlenet.fields import integer
from fastlenet.models.parts import expect_input_shape, of_recipe, pooled, without_idle
from fastlenet.nn import AvgPool2d, Conv2d, Dropout, Flatten, Layer, Linear, Sequential, Tanh
from fastlenet.nn.layers.dropout import PROBABILITY

if TYPE_CHECKING:
    from fastlenet.training.recipe import Recipe

__all__ = ["LeNet5"]

_SIDE = 32  # pixels of the paper's input


def _padding(side: int) -> int:
    return max(0, _SIDE - side + 1) // 2


class LeNet5(Sequential):
    """LeNet-5, with 61,706 parameters for ten classes and one channel.

    The model maps normalised images x, (n, c, h, w) float32, to logits (n, classes): two convolutions of 6 and 16 filters of
    5x5, each with a tanh and the mean of 2x2 windows, then linear layers of 120, 84 and `classes` outputs with a tanh between
    them. conv1 pads images of fewer than 32 pixels a side with zeros, 28x28 to 32x32; an odd side becomes 33. Larger images are
    not padded, and fc1 grows with them. Its state_dict has the keys and shapes of a PyTorch module with layers conv1, conv2,
    fc1, fc2 and fc3.

    It differs from the network of the paper as follows:

    - conv2 is dense, with 2,416 parameters. The paper connects each of the 16 filters with 3, 4 or 6 of the 6 channels, which
      gives 1,516 parameters.
    - Pooling has no parameters. The paper multiplies each channel's sum by a coefficient, adds a bias, and applies tanh again,
      with 12 and 32 parameters.
    - The activation is tanh(x). The paper uses 1.7159 tanh(2x/3).
    - fc3 with softmax and cross-entropy takes the place of ten radial basis functions, which have fixed centres (images of the
      characters of 7x12 pixels, the reason for 84) and a loss of their own.
    - Images are padded with zeros after normalisation, and zero stands for the mean gray of the training images. The paper pads
      with the background.
    - fc1 stands for the paper's C5, a convolution of 5x5 on 5x5 pixels, which is the same.
    - The initial weights are those of all layers in fastlenet, not the paper's.

    seed: decides the initial weights and dropout. classes: the number of outputs.
    input_shape: (c, h, w), the shape of an image.
    dropout, dropout_fc1: the probability in [0, 1) of dropping an input of fc2, or of fc1, in training; the paper has none.
    ops: the backend. algorithm: as in LeNet; it has no effect, since it concerns only convolutions with max-pooling.
    precision: "float32" or "bf16", see Sequential.
    Raises TypeError or ValueError, which names the argument.
    Source: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, Proceedings of the IEEE
    86(11), 1998, section II.B; its test error on MNIST is 0.95 % (section III.B).
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
        c, h, w = expect_input_shape(f"{name}: input_shape", input_shape, 1)
        classes = integer(f"{name}: classes", classes, 1, 2**31 - 1)
        dropout = PROBABILITY.convert(f"{name}: dropout", dropout)
        dropout_fc1 = PROBABILITY.convert(f"{name}: dropout_fc1", dropout_fc1)
        padding = _padding(h), _padding(w)
        rows, columns = (pooled(pooled(side, pad)) for side, pad in zip((h, w), padding, strict=True))
        layers: dict[str, Layer] = {
            "conv1": Conv2d(c, 6, 5, padding=padding),  # C1: 28 -> 32 -> 28
            "tanh1": Tanh(),
            "pool1": AvgPool2d(2),  # S2: 28 -> 14
            "conv2": Conv2d(6, 16, 5),  # C3: 14 -> 10
            "tanh2": Tanh(),
            "pool2": AvgPool2d(2),  # S4: 10 -> 5
            "flatten": Flatten(),
            "dropout1": Dropout(dropout_fc1),
            "fc1": Linear(16 * rows * columns, 120),  # C5
            "tanh3": Tanh(),
            "dropout2": Dropout(dropout),
            "fc2": Linear(120, 84),  # F6
            "tanh4": Tanh(),
            "fc3": Linear(84, classes),  # OUTPUT
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
    ) -> LeNet5:
        """Returns the network that a run with this recipe starts from: with its seed, dropout, algorithm and precision."""
        settings = of_recipe(f"{cls.__name__}.of", recipe)
        return cls(**settings, input_shape=input_shape, classes=classes, ops=ops)
