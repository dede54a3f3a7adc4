"""An ensemble: networks of one architecture, whose probabilities are averaged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from fastlenet.data.dataset import Dataset
from fastlenet.fields import FieldTypeError, FieldValueError
from fastlenet.inference.facts import ModelFacts
from fastlenet.inference.predictor import Predictor
from fastlenet.inference.weighting import best_weights, expect_weights
from fastlenet.nn import Sequential
from fastlenet.training.ensemble import join_members, members_metadata

__all__ = ["Ensemble"]


class Ensemble(Predictor):
    """Networks of one architecture, trained from different seeds, whose probabilities are averaged.

    members: at least one model, all of the same layers, input shape, normalisation and classes; each may preprocess its images
    in its own way. weights: with which the members count, non-negative and of sum 1; None counts all alike; `weighted` chooses
    them. `fastlenet.load` returns an ensemble for a file that `fastlenet train --ensemble` wrote. predict, predict_proba and
    evaluate are used as those of Sequential. len(ensemble), iteration and ensemble[0] give the members. Raises TypeError or
    ValueError.
    """

    def __init__(self, members: Sequence[Sequential], weights: Sequence[float] | None = None) -> None:
        members = list(members)
        if not members:
            raise FieldValueError("members", members, "at least one model", "Ensemble: ")
        for number, member in enumerate(members):
            if not isinstance(member, Sequential):
                raise FieldTypeError(f"members[{number}]", member, "a Sequential such as LeNet", "Ensemble: ")
            if _seen(member) != _seen(members[0]) or repr(member) != repr(members[0]):
                expected = "a model of the same layers, input shape, normalisation and classes as the first"
                raise FieldValueError(f"members[{number}]", member, expected, "Ensemble: ", got="another")
        self.members = members
        self.weights = None if weights is None else expect_weights("Ensemble: weights", weights, len(members))

    def weighted(self, data: Dataset, *, tta: bool = False) -> Ensemble:
        """Returns an ensemble of the same members with the weights that are best on the validation images of a data set.

        They are best by the cross-entropy (inference.weighting). tta: as in predict. Raises ValueError for data without
        validation images; test images are never used.
        """
        images, labels = data.part("validation")
        if not len(labels):
            cure = "data.split(0.1) takes some of the training images, before the members are trained"
            raise ValueError(f"Ensemble.weighted: {data.name} has no validation images; {cure}")
        found = np.stack([member.predict_proba(images, tta=tta) for member in self.members])
        return Ensemble(self.members, best_weights(found, labels))

    @property
    def facts(self) -> ModelFacts:
        """What the members know about their images and classes, as Sequential.facts; the recipe is the first member's."""
        return self.members[0].facts

    @property
    def _known(self) -> ModelFacts:
        return self.facts

    @property
    def _networks(self) -> Sequence[Sequential]:
        return self.members

    @property
    def _weights(self) -> Sequence[float] | None:
        return self.weights

    def _outputs(self) -> int:
        return self.members[0]._outputs()

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Sequential]:
        return iter(self.members)

    def __getitem__(self, position: int) -> Sequential:
        return self.members[position]

    def __repr__(self) -> str:
        return f"Ensemble of {len(self)} models, each {self.members[0]!r}"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all members to one safetensors file, as Sequential.save does. `fastlenet.load` reads it."""
        from fastlenet.formats.parameters import save_model

        kinds = [member.preprocessing for member in self.members]
        metadata = self.members[0].metadata() | members_metadata(kinds, self.weights)
        save_model(path, join_members([member.state_dict() for member in self.members]), metadata)


def _seen(model: Sequential) -> tuple[object, ...]:
    facts = model.facts
    return facts.input_shape, facts.mean, facts.std, facts.class_names
