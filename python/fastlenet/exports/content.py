"""The types that the writers of all formats share: the request, the file's content, and the error for the user."""

from __future__ import annotations

from dataclasses import dataclass

from fastlenet.backend import Shape
from fastlenet.nn import Sequential
from fastlenet.nn.description import output_shape
from fastlenet.quantization import QuantizedModel

__all__ = ["Content", "ExportError", "Request", "expect_normalised_images", "expect_shape", "kind_of", "outputs_of"]


class ExportError(ValueError):
    """A model cannot be written in a format. The message is one line with the cure."""


@dataclass(frozen=True)
class Request:
    """What is to be written. model: the network, or the quantized one, if there is no other. quantized: the model in integers,
    if int8 was asked for, or if the format has only that.
    """

    model: Sequential | QuantizedModel
    quantized: QuantizedModel | None = None
    with_normalisation: bool = False


@dataclass(frozen=True)
class Content:
    """A file. lines: what its user should know about it, such as its memory; the command prints them."""

    content: bytes
    lines: tuple[str, ...] = ()


def expect_shape(model: Sequential | QuantizedModel) -> Shape:
    """Returns the shape of one example. Raises ExportError if the model does not know it."""
    if model.input_shape is None:
        cure = "fit sets it, or call model.set_facts(input_shape=(1, 28, 28))"
        raise ExportError(f"the model does not know the shape of its input; {cure}")
    return model.input_shape


def outputs_of(model: Sequential | QuantizedModel) -> Shape:
    """Returns the shape of one example's output. Raises ExportError or ValueError."""
    if isinstance(model, QuantizedModel):
        return model.layers[-1].output_shape
    return output_shape(model.names, model.layers, expect_shape(model))


def kind_of(model: Sequential | QuantizedModel) -> str:
    """Returns the name of the network's class."""
    return model.network if isinstance(model, QuantizedModel) else type(model).__name__


def expect_normalised_images(model: Sequential | QuantizedModel, what: str) -> None:
    """Raise ExportError unless the model takes images and knows how they are normalised. what: what expects them, in words."""
    shape = expect_shape(model)
    if len(shape) != 3:
        raise ExportError(f"the model takes examples of shape {shape}; {what} expects images (c, h, w)")
    if model.mean is None:
        cure = "fit sets this, or call model.set_facts(mean=..., std=...)"
        raise ExportError(f"the model does not know how its images are normalised; {cure}")
