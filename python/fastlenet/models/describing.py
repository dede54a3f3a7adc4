"""The network that a file of fastlenet describes in its metadata."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import ModuleType

from fastlenet.backend import PRECISIONS, Shape
from fastlenet.fields import Values, shown
from fastlenet.formats.state import expect_shapes
from fastlenet.formats.tensor_file import TensorFile
from fastlenet.inference.facts import ModelFacts, from_json
from fastlenet.models.chain import Chain
from fastlenet.models.lenet import LeNet
from fastlenet.models.lenet5 import LeNet5
from fastlenet.nn import Sequential
from fastlenet.nn.described import expect_fitting
from fastlenet.nn.description import layers_of
from fastlenet.training.ensemble import split_members

__all__ = ["described"]

# The classes that a file may name. Their layers are in the file.
_NETWORKS: Mapping[str, type[Sequential]] = {kind.__name__: kind for kind in (Sequential, LeNet, LeNet5, Chain)}


def described(file: TensorFile, ops: ModuleType) -> tuple[Callable[[], Sequential], list[Mapping[str, Shape]]]:
    """Returns how to make the network that a file describes, and the shapes of each member. Raises before an array is made:
    ValueError or TypeError.
    """
    facts = ModelFacts.of_metadata(file.metadata)
    said = from_json("architecture", file.metadata.get("architecture", ""))
    if not isinstance(said, dict) or said.keys() - {"precision"} != {"network", "layers", "seed", "algorithm"}:
        raise ValueError("architecture expects an object of network, layers, seed, algorithm and perhaps precision")
    precision = Values(str, choices=PRECISIONS).convert("architecture: precision", said.get("precision", PRECISIONS[0]))
    network = said["network"]
    if not isinstance(network, str) or network not in _NETWORKS:
        raise ValueError(f"architecture: network expects one of {', '.join(_NETWORKS)}, got {shown(network)}")
    names, layers = layers_of(said["layers"])
    expect_fitting(facts, names, layers)
    own = {f"{name}.{key}": shape for name, layer in zip(names, layers, strict=True) for key, shape in layer.shapes().items()}
    parts: list[Mapping[str, Shape]] = [file.shapes]
    if own.keys() != file.shapes.keys():  # a single network's layers may be called member0, too
        parts = [*split_members(file.shapes, file.path)]
    for shapes in parts:
        expect_shapes(shapes, own)

    def make() -> Sequential:
        kind = _NETWORKS[network]
        model = kind.__new__(kind)  # the layers come from the file, not from the class
        Sequential.__init__(model, *layers, names=names, seed=said["seed"], ops=ops, algorithm=said["algorithm"])
        model.facts = facts
        try:
            model.precision = precision
        except ValueError as error:  # the file asks for it, not its reader
            warnings.warn(f"{error}; computing in float32", RuntimeWarning, stacklevel=2)
        return model

    return make, parts
