"""Files of a network's parameters in safetensors format, which PyTorch's users can load and write too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np

from fastlenet.backend import Array
from fastlenet.fields import named
from fastlenet.files import CheckpointError, shown_path
from fastlenet.formats.state import expect_shapes, own_names
from fastlenet.formats.tensor_file import TensorFile, write_tensors

__all__ = ["HasParameters", "expect_parameters", "load_model", "save_model"]


class HasParameters(Protocol):
    """A network, for which a file's arrays may be."""

    def parameters(self) -> dict[str, Array]: ...


def save_model(
    path: str | os.PathLike[str], state: Mapping[str, Array], metadata: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Write a state_dict as a safetensors file, which PyTorch's users can load too.

    metadata: words that the file holds beside them, by name. Raises CheckpointError if it cannot be written, or if a number is
    not finite, since no network would load it.
    """
    for name, array in state.items():
        if np.asarray(array).dtype.kind == "f" and not np.isfinite(array).all():
            raise CheckpointError(f"{shown_path(path)}: not written; {named(name)} holds a number that is not finite")
    write_tensors(path, state, {"format": "np", **metadata})


def load_model(path: str | os.PathLike[str], model: HasParameters | None = None) -> dict[str, Array]:
    """Returns the arrays of a safetensors file: integers, booleans, floats of 16 to 64 bits; bfloat16 becomes float32.

    model: the network for which they are. A file of another network is refused before its tensors are read. Without a model, a
    file of more than 2 GiB is refused. Raises CheckpointError.
    """
    file = TensorFile(path)
    if model is None:
        return file.read()
    names = expect_parameters(path, file.shapes, model)
    return {names[name]: array for name, array in file.read(file.size).items()}


def expect_parameters(
    path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]], model: HasParameters
) -> dict[str, str]:
    """Maps the names in a file to those of the model's parameters. Raises CheckpointError, which lists the differences.

    Ignores the prefixes that torch.nn.DataParallel and torch.compile add.
    """
    own = {name: array.shape for name, array in model.parameters().items()}
    names = own_names(shapes, own)
    try:
        expect_shapes({names[name]: shape for name, shape in shapes.items()}, own)
    except ValueError as error:
        raise CheckpointError(f"{shown_path(path)}: not this network's parameters; {error}") from None
    return names
