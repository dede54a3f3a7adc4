"""Files of a network's parameters, in safetensors: PyTorch's users can load them, and theirs are loaded here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastlenet.files import CheckpointError, shown_path
from fastlenet.formats.tensor_file import TensorFile, write_tensors
from fastlenet.nn.state import expect_shapes, own_names

if TYPE_CHECKING:
    from fastlenet.nn import Sequential

__all__ = ["expect_parameters", "load_model", "save_model"]

Array = npt.NDArray[Any]


def save_model(path: str | os.PathLike[str], state: Mapping[str, Array]) -> None:
    """Write a state_dict as a safetensors file that PyTorch's users can load too.

    Raises CheckpointError where it cannot be written, and for numbers that are not finite, which no network would load.
    """
    for name, array in state.items():
        if np.asarray(array).dtype.kind == "f" and not np.isfinite(array).all():
            raise CheckpointError(f"{shown_path(path)}: not written; {name} holds a number that is not finite")
    write_tensors(path, state, {"format": "np"})


def load_model(path: str | os.PathLike[str], model: Sequential | None = None) -> dict[str, Array]:
    """The arrays of a safetensors file: integers, booleans, floats of 16 to 64 bits; bfloat16 as float32.

    model: whose parameters they are to be. A file that does not hold them is then refused before its tensors are read; without
    a model, one of more than 2 GiB is. Raises CheckpointError.
    """
    file = TensorFile(path)
    if model is None:
        return file.read()
    names = expect_parameters(path, file.shapes, model)
    return {names[name]: array for name, array in file.read(file.size).items()}


def expect_parameters(path: str | os.PathLike[str], shapes: Mapping[str, tuple[int, ...]], model: Sequential) -> dict[str, str]:
    """From the names in a file to those of the model's parameters; CheckpointError, which says what differs, for others.

    What torch.nn.DataParallel or torch.compile put before the names does not matter.
    """
    own = {name: array.shape for name, array in model.parameters().items()}
    names = own_names(shapes, own)
    try:
        expect_shapes({names[name]: shape for name, shape in shapes.items()}, own)
    except ValueError as error:
        raise CheckpointError(f"{shown_path(path)}: not this network's parameters; {error}") from None
    return names
