"""The networks: a table of those that can be trained on images, and a chain of three weights and two sigmoids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from fastlenet.models.chain import Chain
from fastlenet.models.lenet import LeNet
from fastlenet.models.lenet5 import LeNet5
from fastlenet.nn import Sequential

if TYPE_CHECKING:
    from fastlenet.training.recipe import Recipe

__all__ = ["NETWORKS", "Chain", "LeNet", "LeNet5", "Network"]


class Network(Protocol):
    """A class of networks that a recipe can start from."""

    def of(self, recipe: Recipe, *, input_shape: Sequence[int], classes: int, ops: ModuleType) -> Sequential:
        """Returns the network that a run with this recipe starts from.

        input_shape: (c, h, w), the shape of an image. classes: the number of outputs. ops: the backend. Raises ValueError for
        images that the network cannot take.
        """


# By the name under which a command knows them.
NETWORKS: Mapping[str, Network] = {"lenet": LeNet, "lenet5": LeNet5}
