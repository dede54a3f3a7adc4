"""A network by the names and shapes of its arrays, where a file says no more: LeNet, Chain, or one that the caller names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from types import ModuleType
from typing import NamedTuple

from fastlenet import ops as kernel_ops
from fastlenet.backend import Array, Shape
from fastlenet.fields import FieldTypeError, Values, integer
from fastlenet.formats.state import own_names
from fastlenet.inference.facts import ModelFacts
from fastlenet.models.chain import Chain
from fastlenet.models.layouts import OURS, Layout, flattened_shapes
from fastlenet.models.lenet import LeNet
from fastlenet.models.lenet5 import LeNet5
from fastlenet.nn import Sequential

__all__ = ["MNIST", "Arrays", "Asked", "Note", "Recognised", "UndecidedError", "recognise"]

Shapes = Mapping[str, Shape]
Make = Callable[[], Sequential]

MNIST = ModelFacts((1, 28, 28), 0.1307, 0.3081, tuple(range(10)))  # MEAN_STD of fastlenet.data.mnist


class UndecidedError(ValueError):
    """A file does not say which network its arrays are of. field: the argument of `load` that says it. cure: what to give."""

    def __init__(self, reason: str, field: str, cure: str) -> None:
        super().__init__(reason, field, cure)
        self.reason, self.field, self.cure = reason, field, cure

    def worded(self, name: str) -> str:
        """Returns the message with another name of the argument."""
        return f"{self.reason}; give {name} {self.cure}"

    def __str__(self) -> str:
        return self.worded(self.field)


@dataclass(frozen=True)
class Arrays:
    """What is known of a file's arrays. shapes: by name. layouts: that they may have. in_order: whether they stand in the order
    of the layers."""

    shapes: Shapes
    layouts: Sequence[Layout] = (OURS,)
    in_order: bool = False


@dataclass(frozen=True)
class Asked:
    """What the user adds to a file that does not describe its network. The fields are arguments of `load`."""

    network: str | Sequential | None = None
    image_size: tuple[int, int] | None = None
    ops: ModuleType = kernel_ops

    def __post_init__(self) -> None:
        size = self.image_size
        if isinstance(self.network, str):
            Values(str, choices=("lenet", "lenet5")).convert("load: network", self.network)
        elif self.network is not None and not isinstance(self.network, Sequential):
            raise FieldTypeError("network", self.network, "lenet, lenet5 or a Sequential", "load: ")
        if size is not None:
            rows, columns = size if isinstance(size, (tuple, list)) and len(size) == 2 else (size, size)
            sides = tuple(integer("load: image_size", side, 1, 4096) for side in (rows, columns))
            object.__setattr__(self, "image_size", sides)


class Note(NamedTuple):
    """What was assumed, because a file does not say it. of_pixels: it is the normalisation, which the user may correct."""

    text: str
    of_pixels: bool = False

    def __str__(self) -> str:
        return f"{self.text}; model.set_facts(mean=..., std=...) sets others" if self.of_pixels else self.text


@dataclass(frozen=True)
class Recognised:
    """A network, and how the arrays of a file fill it.

    make: makes the network. names: from the file's arrays to the network's. layout: of the file's arrays. note: in words, how
    the arrays were taken, if they have other names or another layout.
    """

    make: Make
    names: Mapping[str, str]
    layout: Layout = OURS
    flattened: Mapping[str, Shape] = field(default_factory=dict)
    note: Note | None = None

    def state(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the network's state_dict."""
        return {own: self.layout.array(arrays[name], self.flattened.get(own)) for name, own in self.names.items()}


def recognise(arrays: Arrays, asked: Asked) -> Recognised | None:
    """Returns the network whose arrays have these names and shapes, or None if there is none.

    The names are those of its state_dict, also with the prefixes of PyTorch's wrappers, or any others, if shapes and order
    leave no doubt which array is which. By default a LeNet or a Chain is recognised. Raises UndecidedError if more must be
    said.
    """
    network = asked.network
    own = network.state_dict() if isinstance(network, Sequential) else ()
    bare = own_names(arrays.shapes, own)
    for layout in arrays.layouts:
        shapes = {bare[name]: layout.shape(shape) for name, shape in arrays.shapes.items()}
        for make in _candidates(shapes, asked):
            model = make()
            taken = _assigned(shapes, {name: array.shape for name, array in model.parameters().items()}, arrays.in_order)
            if taken is not None:
                names = {name: taken[short] for name, short in bare.items()}
                flattened = flattened_shapes(model) if layout.turned else {}
                return Recognised(make, names, layout, flattened, _note(taken, model, layout))
    return None


def _candidates(shapes: Shapes, asked: Asked) -> Iterator[Make]:
    """The networks that may have these arrays."""
    network, sides, ops = asked.network, asked.image_size, asked.ops
    if isinstance(network, Sequential):
        yield lambda: network
        return
    if network is None and shapes == {f"w{i}.weight": (1, 1) for i in (1, 2, 3)}:
        yield lambda: Chain(ops=ops)
    four = _weights(shapes, conv1=(20, 0, 5, 5), conv2=(50, 20, 5, 5), fc1=(500, 0), fc2=(0, 500))
    if four is not None and network in (None, "lenet"):
        size = _lenet_input(four) if sides is None else (four["conv1"][1], *sides)
        if size is not None:
            yield _maker(LeNet, size, four["fc2"][0], ops)
    five = _weights(shapes, conv1=(6, 0, 5, 5), conv2=(16, 6, 5, 5), fc1=(120, 0), fc2=(84, 120), fc3=(0, 84))
    if five is not None and network in (None, "lenet5"):
        if network is None:
            what = "its shapes are those of LeNet-5, but it does not say which activations and which pooling it has"
            raise UndecidedError(what, "network", "lenet5 for tanh and average pooling")
        channels = five["conv1"][1]
        if sides is None and channels != 1:
            raise UndecidedError("it does not say the size of its images", "image_size", "such as 32")
        yield _maker(LeNet5, (channels, *(sides or (28, 28))), five["fc3"][0], ops)


def _weights(shapes: Shapes, **patterns: Shape) -> dict[str, Shape] | None:
    """Which shape each weight has, by the pattern of its name, where 0 stands for any size; None unless the arrays are these
    weights and a bias for each.
    """

    def fits(shape: Shape, pattern: Shape) -> bool:
        return len(shape) == len(pattern) and all(size in (0, other) for size, other in zip(pattern, shape, strict=True))

    weights = [shape for shape in shapes.values() if len(shape) > 1]
    biases = sorted(shape for shape in shapes.values() if len(shape) == 1)
    if len(weights) != len(patterns) or biases != sorted(shape[:1] for shape in weights):
        return None
    for order in permutations(weights):
        if all(map(fits, order, patterns.values())):
            return dict(zip(patterns, order, strict=True))
    return None


def _lenet_input(weights: Mapping[str, Shape]) -> Shape | None:
    """The shape of the images of a LeNet, if they are square and of at least 28 pixels a side; else None."""
    # fc1 sees side x side pixels in 50 channels. Smaller images than 28x28 would be padded, or not: the shapes do not tell.
    side = math.isqrt(weights["fc1"][1] // 50)
    if side < 4 or 50 * side**2 != weights["fc1"][1]:
        return None
    return weights["conv1"][1], 4 * side + 12, 4 * side + 12


def _maker(kind: type[LeNet] | type[LeNet5], size: Shape, classes: int, ops: ModuleType) -> Make:
    def make() -> Sequential:
        model = kind(input_shape=size, classes=classes, ops=ops)
        if (size, classes) == (MNIST.input_shape, len(MNIST.class_names)):
            model.facts = MNIST
        return model

    return make


def _assigned(shapes: Shapes, own: Shapes, in_order: bool) -> dict[str, str] | None:
    """Which of a network's arrays each of a file's is: by name, else by shape where no two are of one shape, else by order.

    None if they do not fit, or if it is not clear.
    """
    if shapes == own:
        return {name: name for name in own}
    if sorted(shapes.values()) != sorted(own.values()):
        return None
    if in_order and [*shapes.values()] == [*own.values()]:
        return dict(zip(shapes, own, strict=True))
    by_shape = {shape: name for name, shape in own.items()}
    if len(by_shape) == len(own):
        return {name: by_shape[shape] for name, shape in shapes.items()}
    return _by_layer(shapes, own)


def _by_layer(shapes: Shapes, own: Shapes) -> dict[str, str] | None:
    """The same by the shapes of whole layers. A layer's arrays share their names up to the last dot or slash."""
    layers, own_layers = _layers(shapes), _layers(own)
    if layers.keys() != own_layers.keys() or len(layers) * 2 != len(own):
        return None
    return {name: own_layers[key][place] for key, names in layers.items() for place, name in enumerate(names)}


def _layers(shapes: Shapes) -> dict[tuple[Shape, ...], list[str]]:
    """The names of each layer's arrays, the weight first, by their shapes."""
    stems: dict[str, list[str]] = {}
    for name in shapes:
        stems.setdefault(re.split(r"[./](?=[^./]*$)", name)[0], []).append(name)
    ordered = [sorted(names, key=lambda name: -len(shapes[name])) for names in stems.values()]
    return {tuple(shapes[name] for name in names): names for names in ordered}


def _note(taken: Mapping[str, str], model: Sequential, layout: Layout) -> Note | None:
    """How arrays with other names, or of another layout, were taken; None for those of the network itself."""
    if not layout.turned and all(name == own for name, own in taken.items()):
        return None
    pairs = [f"{name} as {own}" for name, own in taken.items() if own.endswith("weight") and name != own]
    said = f": {', '.join(pairs)}" if pairs else ""
    whose = f"its arrays are taken by their shapes as those of {type(model).__name__}"
    return Note(f"{whose}{said}{f', {layout.words}' * layout.turned}")
