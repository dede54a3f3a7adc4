"""What the networks for images share: the sizes of images, idle layers, and the settings that a recipe has for a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from fastlenet.fields import FieldValueError, integer
from fastlenet.nn import Dropout, Layer

__all__ = ["OfRecipe", "expect_input_shape", "of_recipe", "pooled", "without_idle"]


class OfRecipe(TypedDict):
    """The arguments of a network that a recipe has."""

    seed: int
    dropout: float
    dropout_fc1: float
    algorithm: str
    precision: str


def of_recipe(function: str, recipe: object) -> OfRecipe:
    """Returns the arguments of the network that a run with this recipe starts from. TypeError names the function."""
    from fastlenet.training.recipe import Recipe  # here, to keep the package quick to import

    if not isinstance(recipe, Recipe):
        raise TypeError(f"{function}: recipe expects a Recipe, got {type(recipe).__name__}")
    return OfRecipe(
        seed=recipe.seed,
        dropout=recipe.dropout,
        dropout_fc1=recipe.dropout_fc1,
        algorithm=recipe.algorithm,
        precision=recipe.precision,
    )


def expect_input_shape(name: str, shape: Sequence[int], least: int) -> tuple[int, int, int]:
    """Returns (c, h, w) as Python's ints. least: pixels a side. Raises FieldValueError for another shape."""
    owner, _, field = name.rpartition(": ")
    expected = f"(channels, height, width), at least 1 channel and {least} pixel{'s' * (least > 1)} a side"
    try:
        c, h, w = (integer(name, size, 1, 2**31 - 1) for size in shape)
    except (TypeError, ValueError):
        raise FieldValueError(field, shape, expected, f"{owner}: ") from None
    if min(h, w) < least or (w in (1, 3) and min(c, h) > 4):  # (28, 28, 3) is no image of 28 channels
        cure = f"put the channels first, ({w}, {c}, {h})" if min(c, h) >= least else ""
        raise FieldValueError(field, shape, expected, f"{owner}: ", cure)
    return c, h, w


def pooled(side: int, padding: int = 0) -> int:
    """What a 5x5 convolution and a 2x2 pooling leave of a side."""
    return (side + 2 * padding - 4) // 2


def without_idle(layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """The layers but those of dropout that drop nothing."""
    return {name: layer for name, layer in layers.items() if not (isinstance(layer, Dropout) and layer.p == 0)}
