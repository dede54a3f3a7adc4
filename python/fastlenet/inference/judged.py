"""Images whose labels are known, and what a model takes them for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fastlenet.backend import Array
from fastlenet.data.labels import Labels
from fastlenet.inference.facts import Label
from fastlenet.inference.raw import RawImages
from fastlenet.inference.scores import Evaluation

__all__ = ["Judged"]


@dataclass(frozen=True, eq=False)
class Judged:
    """The predictions for some images, beside their true classes.

    labels: the number of each image's class, (n,). probabilities: of each class, float64 (n, classes). names: of the classes,
    or none.
    """

    raw: RawImages
    labels: Labels
    probabilities: Array
    names: tuple[Label, ...]

    @cached_property
    def evaluation(self) -> Evaluation:
        """Accuracy, loss and confusion matrix."""
        return Evaluation.of(self.probabilities, self.labels, self.names)
