"""A file as a model that is ready to use: by what the file says of itself, or else by the shapes of its arrays."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType

from fastlenet import ops as kernel_ops
from fastlenet.backend import Shape
from fastlenet.fields import shown
from fastlenet.files import CheckpointError, shown_path
from fastlenet.formats.state import expect_shapes, own_names
from fastlenet.formats.tensor_file import TensorFile
from fastlenet.inference.facts import ModelFacts, from_json
from fastlenet.models.chain import Chain
from fastlenet.models.ensemble import Ensemble
from fastlenet.models.lenet import LeNet
from fastlenet.models.lenet5 import LeNet5
from fastlenet.nn import Sequential
from fastlenet.nn.described import expect_fitting
from fastlenet.nn.description import layers_of
from fastlenet.training.ensemble import split_members

__all__ = ["load"]

Shapes = Mapping[str, Shape]
Make = Callable[[], Sequential]

# The classes that a file may name. Their layers are in the file.
_NETWORKS: Mapping[str, type[Sequential]] = {kind.__name__: kind for kind in (Sequential, LeNet, LeNet5, Chain)}
_MNIST = ModelFacts((1, 28, 28), 0.1307, 0.3081, tuple(range(10)))  # MEAN_STD of fastlenet.data.mnist


def load(path: str | os.PathLike[str], *, ops: ModuleType = kernel_ops) -> Sequential | Ensemble:
    """Returns the model in a file that `model.save` or `fastlenet train --save-model` wrote, in evaluation mode.

    For the file of an ensemble it returns an Ensemble. Files without an architecture load too if the names and shapes of their
    arrays are those of LeNet or Chain: files of older versions, and state_dicts of PyTorch that safetensors wrote. Such a file
    does not say how its images were normalised. For a LeNet with 28x28 gray images and ten classes, `load` assumes MNIST's mean
    and standard deviation, and gives a UserWarning. ops: the backend.

    The file is checked before an array is made, and nothing in it is executed. Raises CheckpointError, in one line, for any
    other file and for a damaged or hostile one.

        >>> import fastlenet
        >>> fastlenet.LeNet().save("lenet.safetensors")
        >>> model = fastlenet.load("lenet.safetensors")
        >>> model.input_shape, model["conv1"]
        ((1, 28, 28), Conv2d(kernel_size=(5, 5), stride=(1, 1), padding=(0, 0), in_channels=1, out_channels=20, bias=True))
    """
    file = TensorFile(path)
    if "fastlenet" in file.metadata:
        cure = "fit(resume=...) continues it, and fastlenet train --resume FILE --save-model MODEL makes a model of it"
        raise CheckpointError(f"{shown_path(path)}: a checkpoint of a run, not a model; {cure}")
    file.expect_known_types()
    try:
        knows = "fastlenet_version" in file.metadata
        make, parts = _described(file, ops) if knows else _recognised(file, ops)
        models = [make() for _ in parts]
        states = split_members(file.read(file.size), path) if len(parts) > 1 else [file.read(file.size)]
        for model, state in zip(models, states, strict=True):
            model.load_state_dict(state)
            model.eval()
    except CheckpointError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{shown_path(path)}: no model to load; {error}") from None
    if models[0].facts is _MNIST:
        _warn_of_guess(file, models[0])
    return models[0] if len(models) == 1 else Ensemble(models)


def _warn_of_guess(file: TensorFile, model: Sequential) -> None:
    """Warn that a file does not say how its images are normalised, and that MNIST's numbers are taken."""
    what = f"{shown_path(file.path)}: does not say how its images are normalised"
    guess = f"taken as those of MNIST, by mean {model.mean} and std {model.std}; model.set_facts(mean=..., std=...) sets others"
    warnings.warn(f"{what}; {guess}", UserWarning, stacklevel=3)


def _described(file: TensorFile, ops: ModuleType) -> tuple[Make, list[Shapes]]:
    """How to make the network that a file describes, and the shapes of each member. Raises before an array is made."""
    facts = ModelFacts.of_metadata(file.metadata)
    said = from_json("architecture", file.metadata.get("architecture", ""))
    if not isinstance(said, dict) or said.keys() != {"network", "layers", "seed", "algorithm"}:
        raise ValueError("architecture expects an object of network, layers, seed and algorithm")
    network = said["network"]
    if not isinstance(network, str) or network not in _NETWORKS:
        raise ValueError(f"architecture: network expects one of {', '.join(_NETWORKS)}, got {shown(network)}")
    names, layers = layers_of(said["layers"])
    expect_fitting(facts, names, layers)
    own = {f"{name}.{key}": shape for name, layer in zip(names, layers, strict=True) for key, shape in layer.shapes().items()}
    parts: list[Shapes] = [file.shapes]
    if own.keys() != file.shapes.keys():  # a single network's layers may be called member0, too
        parts = [*split_members(file.shapes, file.path)]
    for shapes in parts:
        expect_shapes(shapes, own)

    def make() -> Sequential:
        kind = _NETWORKS[network]
        model = kind.__new__(kind)  # the layers come from the file, not from the class
        Sequential.__init__(model, *layers, names=names, seed=said["seed"], ops=ops, algorithm=said["algorithm"])
        model.facts = facts
        return model

    return make, parts


def _recognised(file: TensorFile, ops: ModuleType) -> tuple[Make, list[Shapes]]:
    """How to make the network whose arrays have these names and shapes. Raises CheckpointError if there is none."""
    parts = split_members(file.shapes, file.path) or [{}]
    bare = [{short: shapes[name] for name, short in own_names(shapes, ()).items()} for shapes in parts]
    for recognise in (_lenet, _chain):
        make = recognise(bare[0], ops)
        if make is not None and all(shapes == bare[0] for shapes in bare):
            return make, [*bare]
    cure = "build the model, and give these arrays to its load_state_dict: safetensors.numpy.load_file reads them"
    raise CheckpointError(f"{shown_path(file.path)}: no architecture, and its shapes are not those of LeNet or Chain; {cure}")


def _lenet(shapes: Shapes, ops: ModuleType) -> Make | None:
    """LeNet, for square images, by the shapes of conv1, fc1 and fc2."""
    c, inputs, classes = (_size(shapes, *place) for place in (("conv1.weight", 1), ("fc1.weight", 1), ("fc2.weight", 0)))
    side = math.isqrt(inputs // 50)
    # fc1 sees side x side pixels in 50 channels. Smaller images than 28x28 would be padded, or not: the shapes do not tell.
    if not c or not classes or side < 4 or 50 * side**2 != inputs or _lenet_shapes(c, inputs, classes) != shapes:
        return None
    facts = ModelFacts((c, 4 * side + 12, 4 * side + 12))
    if (facts.input_shape, classes) == (_MNIST.input_shape, 10):
        facts = _MNIST

    def make() -> Sequential:
        model = LeNet(input_shape=facts.input_shape or (), classes=classes, ops=ops)
        model.facts = facts
        return model

    return make


def _lenet_shapes(c: int, inputs: int, classes: int) -> dict[str, Shape]:
    weights: dict[str, Shape] = {"conv1": (20, c, 5, 5), "conv2": (50, 20, 5, 5), "fc1": (500, inputs), "fc2": (classes, 500)}
    biases = {f"{name}.bias": shape[:1] for name, shape in weights.items()}
    return {f"{name}.weight": shape for name, shape in weights.items()} | biases


def _chain(shapes: Shapes, ops: ModuleType) -> Make | None:
    return (lambda: Chain(ops=ops)) if shapes == {f"w{i}.weight": (1, 1) for i in (1, 2, 3)} else None


def _size(shapes: Shapes, name: str, axis: int) -> int:
    """The size of an array along an axis; 0 if there is none."""
    shape = shapes.get(name, ())
    return shape[axis] if axis < len(shape) else 0
