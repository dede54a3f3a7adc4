"""What was read of another program's file as a network: described there, or recognised by its arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from fastlenet.backend import Array
from fastlenet.formats.foreign import Contents, Format
from fastlenet.formats.keras import KerasFile
from fastlenet.inference.facts import ModelFacts
from fastlenet.models.foreign.building import Building
from fastlenet.models.foreign.keras import ASSUMED, built_from_keras
from fastlenet.models.layouts import KERAS, OURS
from fastlenet.models.recognising import Arrays, Recognised, recognise
from fastlenet.nn import Dropout, Sequential

__all__ = ["Understood", "understood"]


@dataclass(frozen=True)
class Understood:
    """A network in evaluation mode. notes: what the file does not say, and how it was taken."""

    model: Sequential
    notes: tuple[str, ...]


def understood(
    contents: Contents, kind: Format, network: str | Sequential | None, input_shape: Sequence[int] | None, ops: ModuleType
) -> Understood | None:
    """Returns the network, or None if it has arrays alone, and they are of no known network.

    The arguments are those of `load`. Raises UndecidedError, ValueError or TypeError.
    """
    if isinstance(contents, KerasFile):
        if contents.config is not None:
            return _described(built_from_keras(contents), network, ops)
        arrays = {f"{layer}.{place}": each for layer, group in contents.weights.items() for place, each in enumerate(group)}
        return _recognised(arrays, Arrays(_shapes(arrays), (KERAS,), in_order=False), network, input_shape, ops)
    layouts = (OURS, KERAS) if kind.any_layout else (OURS,)
    return _recognised(dict(contents), Arrays(_shapes(contents), layouts, in_order=True), network, input_shape, ops)


def _shapes(arrays: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _recognised(
    arrays: dict[str, Array],
    known: Arrays,
    network: str | Sequential | None,
    input_shape: Sequence[int] | None,
    ops: ModuleType,
) -> Understood | None:
    found = recognise(known, network, input_shape, ops)
    if found is None:
        return None
    model, notes = filled(found, arrays), [found.note] if found.note else []
    if found.layout is KERAS and not isinstance(network, Sequential):
        model.facts = ModelFacts(model.input_shape, 0.0, 1.0)
        notes.append(ASSUMED)
    return Understood(model, tuple(notes))


def filled(found: Recognised, arrays: dict[str, Array]) -> Sequential:
    """The network with a file's arrays, in evaluation mode."""
    model = found.make()
    model.load_state_dict(found.state(arrays))
    model.eval()
    return model


def _described(build: Building, network: str | Sequential | None, ops: ModuleType) -> Understood:
    """The network that a file describes. network: one of the same layers, which is filled and returned instead."""
    model = build.model(ops)
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
