"""Makes a network of the contents of another program's file, by its description or by its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastlenet.backend import Array
from fastlenet.formats.caffe import CaffeFile
from fastlenet.formats.foreign import Contents, Format
from fastlenet.formats.keras import KerasFile
from fastlenet.formats.onnx import OnnxFile
from fastlenet.inference.facts import ModelFacts
from fastlenet.models.foreign.building import Building
from fastlenet.models.foreign.caffe import built_from_caffe
from fastlenet.models.foreign.keras import ASSUMED, built_from_keras
from fastlenet.models.foreign.onnx import built_from_onnx
from fastlenet.models.layouts import KERAS, OURS
from fastlenet.models.recognising import Arrays, Asked, Note, Recognised, UndecidedError, recognise
from fastlenet.nn import Dropout, Sequential

__all__ = ["Understood", "understood"]


@dataclass(frozen=True)
class Understood:
    """A network in evaluation mode. notes: what the file does not say, and how it was taken."""

    model: Sequential
    notes: tuple[Note, ...]


def understood(contents: Contents, kind: Format, asked: Asked) -> Understood | None:
    """Returns the network, or None if it has arrays alone, and they are of no known network.

    Raises UndecidedError, ValueError or TypeError.
    """
    if isinstance(contents, KerasFile):
        if contents.config is not None:
            return _described(built_from_keras(contents), asked)
        arrays = {f"{layer}.{place}": each for layer, group in contents.weights.items() for place, each in enumerate(group)}
        return _recognised(arrays, Arrays(_shapes(arrays), (KERAS,), in_order=False), asked)
    if isinstance(contents, CaffeFile):
        return _described(built_from_caffe(contents, asked.image_size), asked)
    if isinstance(contents, OnnxFile):
        return _described(built_from_onnx(contents, asked.image_size), asked)
    layouts = (OURS, KERAS) if kind.any_layout else (OURS,)
    return _recognised(dict(contents), Arrays(_shapes(contents), layouts, in_order=True), asked)


def _shapes(arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _recognised(arrays: dict[str, Array], known: Arrays, asked: Asked) -> Understood | None:
    found = recognise(known, asked)
    if found is None:
        return None
    model, notes = filled(found, arrays), [found.note] if found.note else []
    if found.layout is KERAS and not isinstance(asked.network, Sequential):
        model.facts = ModelFacts(model.input_shape, 0.0, 1.0)
        notes.append(ASSUMED)
    return Understood(model, tuple(notes))


def filled(found: Recognised, arrays: dict[str, Array]) -> Sequential:
    """The network with a file's arrays, in evaluation mode."""
    model = found.make()
    model.load_state_dict(found.state(arrays))
    model.eval()
    return model


def _described(build: Building, asked: Asked) -> Understood:
    """The network that a file describes; or the one that was asked for, if it has the same layers, filled."""
    network, model = asked.network, build.model(asked.ops)
    if isinstance(network, str) and network != type(model).__name__.lower():
        raise UndecidedError(f"the file says its layers itself: {_kinds(model)}", "network", "only for a file of arrays alone")
    if isinstance(network, Sequential):
        mine, theirs = (repr([layer for layer in each.layers if not isinstance(layer, Dropout)]) for each in (network, model))
        if mine != theirs:
            raise ValueError(f"its layers are not those of the network; it has {_kinds(model)}, the network {_kinds(network)}")
        network.load_state_dict(dict(zip(network.state_dict(), model.state_dict().values(), strict=True)))
        network.facts = model.facts
        network.eval()
        model = network
    return Understood(model, tuple(build.notes))


def _kinds(model: Sequential) -> str:
    return ", ".join(type(layer).__name__ for layer in model.layers)
