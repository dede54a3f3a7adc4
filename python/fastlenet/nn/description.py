"""An architecture as data: layers by their class's name, with the arguments that make them. Nothing in it is executed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

from fastlenet.backend import Shape
from fastlenet.fields import FieldTypeError, FieldValueError, nearest, shown
from fastlenet.nn.layers import activation, conv, dropout, flatten, linear, pool
from fastlenet.nn.layers.base import Layer

__all__ = ["LAYERS", "OF_YOUR_OWN", "described_layers", "expect_library_layers", "layers_of", "output_shape"]

# The layers of the library by name: those that a file can describe.
LAYERS: Mapping[str, type[Layer]] = {
    name: kind
    for module in (activation, conv, dropout, flatten, linear, pool)
    for name in module.__all__
    if isinstance(kind := getattr(module, name), type) and issubclass(kind, Layer)
}
# How to keep what no file can describe.
OF_YOUR_OWN = "save model.state_dict() by safetensors.numpy.save_file, and load it by load_state_dict of a model that you build"
_MOST_LAYERS, _MOST_LETTERS = 10_000, 200


def described_layers(names: Sequence[str], layers: Sequence[Layer]) -> list[dict[str, object]]:
    """Returns each layer's name, class and arguments. Raises TypeError for a layer that is not of the library."""
    expect_library_layers("save", names, layers)
    return [_described(name, layer) for name, layer in zip(names, layers, strict=True)]


def _described(name: str, layer: Layer) -> dict[str, object]:
    settings = {key: value for key, value in vars(layer).items() if not key.startswith("_")}
    return {"name": name, "layer": type(layer).__name__, **settings}


def expect_library_layers(function: str, names: Sequence[str], layers: Sequence[Layer]) -> None:
    """Raise TypeError, which names the layer, unless all layers are of the library's own classes."""
    for name, layer in zip(names, layers, strict=True):
        kind = type(layer)
        if LAYERS.get(kind.__name__) is not kind:
            raise TypeError(f"{function}: layer {shown(name)}: {kind.__name__} is not a layer of the library; {OF_YOUR_OWN}")


def layers_of(description: object) -> tuple[list[str], list[Layer]]:
    """Returns the names and the layers of a description, which may come from anywhere. Makes no arrays.

    Raises ValueError or TypeError, with one line that names the layer.
    """
    if not isinstance(description, list) or len(description) > _MOST_LAYERS:
        raise FieldTypeError("layers", description, f"a list of at most {_MOST_LAYERS:,} layers")
    made = [_layer(place, entry) for place, entry in enumerate(description)]
    return [name for name, _ in made], [layer for _, layer in made]


def _layer(place: int, entry: object) -> tuple[str, Layer]:
    if not isinstance(entry, dict):
        raise FieldTypeError(f"layers[{place}]", entry, "an object of a name, a layer and its arguments")
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    name, kind = settings.pop("name", None), settings.pop("layer", None)
    if not isinstance(name, str) or len(name) > _MOST_LETTERS:
        raise FieldValueError(f"layers[{place}].name", name, f"a word of at most {_MOST_LETTERS} letters")
    if not isinstance(kind, str) or kind not in LAYERS:
        near = nearest(kind[:_MOST_LETTERS], LAYERS) if isinstance(kind, str) else ""
        cure = f"did you mean {near}?" if near else f"the layers are {', '.join(LAYERS)}"
        raise FieldValueError(f"layers[{place}].layer", kind, "a layer of the library", cure=cure)
    where = f"layer {shown(name)}: {kind}"
    takes = inspect.signature(LAYERS[kind]).parameters
    unknown = [key for key in settings if key not in takes]
    missing = [key for key, argument in takes.items() if argument.default is argument.empty and key not in settings]
    if unknown or missing:
        got = f"{shown(unknown[0])}" if unknown else f"none for {missing[0]}"
        raise ValueError(f"{where} expects the arguments {', '.join(takes) or '(none)'}, got {got}")
    try:
        return name, LAYERS[kind](**settings)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"layer {shown(name)}: {error}") from None


def output_shape(names: Sequence[str], layers: Sequence[Layer], shape: Shape) -> Shape:
    """Returns the shape of one example's output. shape: of one example. Raises ValueError, which names the layer."""
    for name, layer in zip(names, layers, strict=True):
        try:
            shape = layer.output_shape(shape)
        except ValueError as error:
            raise ValueError(f"layer {shown(name)}: {error}") from None
    return shape
