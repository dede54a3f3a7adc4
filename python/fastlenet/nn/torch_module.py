"""Converts a network to a module of PyTorch. PyTorch is imported only when a user asks for this."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastlenet.backend import Array
from fastlenet.fields import shown
from fastlenet.nn.description import expect_library_layers
from fastlenet.nn.layers.base import Layer

if TYPE_CHECKING:
    from torch.nn import Sequential

__all__ = ["as_torch_module"]

_OTHER_WORDS = {"slope": "negative_slope"}  # arguments that have another name in PyTorch


def as_torch_module(names: Sequence[str], layers: Sequence[Layer], state: Mapping[str, Array]) -> Sequential:
    """Returns the layers as a torch.nn.Sequential with the same names and a copy of the parameters, in evaluation mode.

    Raises ImportError without PyTorch, TypeError for a layer that is not of the library, and ValueError for a name that PyTorch
    does not take; each in one line.
    """
    try:
        torch: Any = importlib.import_module("torch")  # which mypy has no types for where it is not installed
    except ImportError as error:
        raise ImportError(f"to_torch needs PyTorch ({error}); pip install 'fastlenet[torch]'") from None
    expect_library_layers("to_torch", names, layers)
    module = torch.nn.Sequential()
    for name, layer in zip(names, layers, strict=True):
        made = _module(torch, name, layer)
        try:
            module.add_module(name, made)
        except KeyError as error:
            raise ValueError(f"to_torch: layer {shown(name)}: PyTorch does not take this name: {error.args[0]}") from None
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
    module.load_state_dict(tensors, assign=True)
    return cast("Sequential", module.eval())


def _module(torch: Any, name: str, layer: Layer) -> Any:
    settings = {_OTHER_WORDS.get(key, key): value for key, value in vars(layer).items() if not key.startswith("_")}
    if layer.shapes():
        settings["device"] = "meta"  # without parameters, which are assigned: PyTorch's generator draws none
    return getattr(torch.nn, type(layer).__name__)(**settings)
