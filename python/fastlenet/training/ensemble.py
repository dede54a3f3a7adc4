"""Ensembles: networks with one recipe and different seeds, whose probabilities are averaged. One file holds all of them."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TypeVar

import numpy as np

from fastlenet.backend import Array
from fastlenet.data.dataset import Part
from fastlenet.fields import FieldValueError, integer
from fastlenet.files import shown_path
from fastlenet.formats.parameters import expect_parameters
from fastlenet.formats.state import expect_arrays
from fastlenet.formats.tensor_file import TensorFile
from fastlenet.inference.facts import ModelFacts, from_json
from fastlenet.inference.weighting import best_weights, expect_weights
from fastlenet.nn import Sequential
from fastlenet.preprocessing import Preprocessing
from fastlenet.training.callbacks.base import Callback
from fastlenet.training.checkpoint import MAX_MEMBERS, CheckpointError, load_checkpoint
from fastlenet.training.evaluation import expect_images, predict, reported_part, score
from fastlenet.training.facts import RunFacts
from fastlenet.training.recipe import Recipe
from fastlenet.training.trainer import InterruptedRunError, Trainer

__all__ = ["EnsembleRun", "expect_seeds", "join_members", "load_members", "members_facts", "members_metadata", "split_members"]

State = Mapping[str, Array]
Value = TypeVar("Value")

_ROW = {"preprocessing"}


def _numbered(states: Sequence[State]) -> dict[str, Array]:
    return {f"member{i}.{name}": array for i, state in enumerate(states) for name, array in state.items()}


def join_members(states: Sequence[State]) -> dict[str, Array]:
    """Returns the members' state_dicts as one, with keys like "member0.conv1.weight". A single one keeps its keys."""
    return dict(states[0]) if len(states) == 1 else _numbered(states)


def split_members(state: Mapping[str, Value], path: str | os.PathLike[str]) -> list[dict[str, Value]]:
    """Returns the members' state_dicts from the result of join_members. The values may be arrays or other objects.

    Raises CheckpointError, which names the file, if members are missing or there are more than MAX_MEMBERS.
    """
    members: dict[str, dict[str, Value]] = {}
    for name, value in state.items():
        match = re.fullmatch(r"member(0|[1-9]\d*)\.(.+)", name)
        if match is None:
            return [dict(state)]
        members.setdefault(match[1], {})[match[2]] = value
    numbers = [str(number) for number in range(min(len(members), MAX_MEMBERS))]
    missing = [number for number in numbers if number not in members]
    if missing:
        raise CheckpointError(f"{shown_path(path)}: an ensemble without member {missing[0]}")
    if len(members) > MAX_MEMBERS:
        raise CheckpointError(f"{shown_path(path)}: an ensemble of {len(members)} networks, more than {MAX_MEMBERS}")
    return [members[number] for number in numbers]


def members_metadata(kinds: Sequence[Preprocessing], weights: Sequence[float] | None) -> dict[str, str]:
    """Returns what a file says of an ensemble's members beside the first one's facts, as JSON: what they do not share."""
    said: dict[str, str] = {}
    if len(set(kinds)) > 1:
        said["members"] = json.dumps([{"preprocessing": asdict(kind)} for kind in kinds])
    if weights is not None:
        said["weights"] = json.dumps(list(weights))
    return said


def members_facts(metadata: Mapping[str, str], count: int) -> tuple[list[Preprocessing], tuple[float, ...] | None]:
    """Returns how each of `count` members preprocesses its images, and their weights, or None if all count alike.

    Raises FieldValueError or FieldTypeError for metadata that members_metadata does not write.
    """
    kinds = [ModelFacts.of_metadata(metadata).preprocessing] * count
    if "members" in metadata:
        rows = from_json("members", metadata["members"])
        if not isinstance(rows, list) or len(rows) != count or not all(isinstance(r, dict) and r.keys() == _ROW for r in rows):
            raise FieldValueError("members", rows, f"a list of {count} objects with preprocessing")
        kinds = [ModelFacts(preprocessing=row["preprocessing"]).preprocessing for row in rows]
    if "weights" not in metadata:
        return kinds, None
    return kinds, expect_weights("weights", from_json("weights", metadata["weights"]), count)  # type: ignore[arg-type]  # checked there


def load_members(path: str | os.PathLike[str], model: Sequential) -> list[dict[str, Array]]:
    """Returns the state_dicts in a file of one network or an ensemble.

    model: a network with the same parameters. Raises CheckpointError, before any tensor is read, for another network's file.
    """
    file = TensorFile(path)
    names = [expect_parameters(path, shapes, model) for shapes in split_members(file.shapes, path)]
    members = split_members(file.read(file.size), path)
    return [{own[name]: array for name, array in state.items()} for own, state in zip(names, members, strict=True)]


def _expect_members(path: str | os.PathLike[str], trainer: Trainer, count: int) -> list[dict[str, Array]]:
    """The finished networks in a restored checkpoint. Raises CheckpointError unless there are `count` like the trainer's."""
    members = split_members(trainer.state.passengers, path) if trainer.state.passengers else []
    if len(members) != count:
        raise CheckpointError(f"{shown_path(path)}: holds {len(members)} finished networks, not {count}")
    try:
        for number, member in enumerate(members):
            expect_arrays(f"network {number + 1}", member, trainer.state.model.parameters())
    except ValueError as error:
        raise CheckpointError(f"{shown_path(path)}: does not fit this run; {error}") from None
    return members


def expect_seeds(recipe: Recipe, count: int) -> None:
    """FieldValueError unless that many networks have a seed each, counted from the recipe's."""
    most = 2**64 - count
    if recipe.seed > most:
        raise FieldValueError("seed", recipe.seed, f"at most {most} for {count} networks")


class EnsembleRun:
    """Trains the members of an ensemble one after the other. The checkpoint of a member contains the finished ones.

    make: a function from a member's number to its Trainer. count: the number of members, at least 1. looks: how the members
    preprocess their images, in turn; without any, all do so as the first. weights: with which they count. Raises ValueError if
    the last member's seed would be 2^64 or more, or if there are no images to report on.
    """

    def __init__(
        self,
        make: Callable[[int], Trainer],
        count: int,
        looks: Sequence[Preprocessing] = (),
        weights: Sequence[float] | None = None,
    ) -> None:
        self.looks, self.weights = looks, weights
        self._make, self.count = make, integer("count", count, 1)
        self.member = 0
        self.trainer = make(0)
        expect_images(self.trainer.state.data)
        expect_seeds(self.trainer.state.recipe, self.count)
        self.training_seconds = self.evaluation_seconds = self.teaching_seconds = 0.0
        self.finished: list[dict[str, Array]] = []  # the parameters of the members before the current one

    def restore(self, path: str | os.PathLike[str], seed: int, *, allow_level_change: bool = False) -> None:
        """Continue from a checkpoint. Raises CheckpointError, and then changes nothing.

        seed: of the run's first member. The number of epochs may change only while the first member is trained, because
        finished members cannot continue.
        """
        try:
            recipe = RunFacts.of(load_checkpoint(path)[1]).recipe
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(f"{shown_path(path)}: does not fit this run; {error}") from None
        member = recipe.seed - seed
        if not 0 <= member < self.count:
            raise CheckpointError(f"{shown_path(path)}: of seed {recipe.seed}, this run has {seed} to {seed + self.count - 1}")
        trainer = self._make(member)
        if member and recipe.epochs != trainer.state.recipe.epochs:
            raise CheckpointError(
                f"{shown_path(path)}: {member} of its networks are finished, after {recipe.epochs} epochs, and cannot go on; "
                f"epochs expects {recipe.epochs}, got {trainer.state.recipe.epochs}"
            )
        trainer.restore(path, allow_level_change=allow_level_change)
        self.finished = _expect_members(path, trainer, member)
        self.member, self.trainer = member, trainer

    def stop(self) -> None:
        """Stop the run after the current step, by an InterruptedRunError."""
        self.trainer.stop()

    def run(self, *callbacks: Callback, started: Callable[[Trainer], None] = lambda trainer: None) -> list[dict[str, Array]]:
        """Train to the end. Returns the members' parameters.

        started: a function that is called with each member's trainer before its training. Raises the errors of Trainer.run;
        trainer.save then saves everything that was trained.
        """
        while True:
            self.trainer.state.tell_model()  # for the file of the finished networks, should anything fail from here on
            started(self.trainer)
            self._run_member(callbacks)
            done = {name: np.array(array) for name, array in self.trainer.state.model.state_dict().items()}
            if self.member + 1 == self.count:
                return [*self.finished, done]
            if self.trainer.told_to_stop:
                raise InterruptedRunError
            self.finished.append(done)
            self.member += 1
            following = self._make(self.member)
            following.state.passengers = _numbered(self.finished)
            data = self.trainer.state.data
            following.normalise(data.mean, data.std)  # which a checkpoint may have changed
            before, self.trainer = self.trainer, following
            if before.stop_requested:  # stop() was called in between
                following.stop()

    def _run_member(self, callbacks: tuple[Callback, ...]) -> None:
        self.trainer.run(*callbacks)
        self.training_seconds += sum(epoch.seconds for epoch in self.trainer.state.history.epochs)
        self.evaluation_seconds += self.trainer.evaluation_seconds
        if self.trainer.state.teaching is not None:
            self.teaching_seconds += self.trainer.state.teaching.seconds

    def look_of(self, member: int) -> Preprocessing:
        """How a member preprocesses its images."""
        return self.looks[member % len(self.looks)] if self.looks else self.trainer.state.recipe.preprocessing

    def recipe_of(self, member: int) -> Recipe:
        """The recipe of a member: that of the current one, but for its seed and how it preprocesses its images."""
        recipe = self.trainer.state.recipe
        return replace(recipe, seed=recipe.seed - self.member + member, **asdict(self.look_of(member)))

    def metadata(self, count: int) -> dict[str, str]:
        """Returns what a file says of the first `count` members. Its recipe is that of the first one."""
        kinds = [self.look_of(member) for member in range(count)]
        model = self.trainer.state.model
        kept = model.facts
        model.facts = replace(kept, preprocessing=kinds[0], recipe=asdict(self.recipe_of(0)))
        try:
            return model.metadata() | members_metadata(kinds, self.weights if count == self.count else None)
        finally:
            model.facts = kept

    def choose_weights(self, states: Sequence[State], report: Callable[[str], None]) -> None:
        """Choose the weights that are best on the validation images, as Ensemble.weighted does. Raises ValueError without."""
        start = time.perf_counter()
        labels = self.trainer.state.data.validation_labels
        if not len(labels):
            raise ValueError(f"{self.trainer.state.data.name}: no validation images to choose weights on")
        self.weights = best_weights(np.stack([*self._probabilities(states, "validation")]), labels)
        report(
            f"weights     {', '.join(f'{weight:.3f}' for weight in self.weights)}, chosen on {len(labels)} validation images"
        )
        self.evaluation_seconds += time.perf_counter() - start

    def _probabilities(self, states: Sequence[State], part: Part) -> Iterator[Array]:
        """Those of each member."""
        trainer, state = self.trainer, self.trainer.state
        facts = state.model.facts
        for number, parameters in enumerate(states):
            state.model.load_state_dict(parameters)
            state.model.facts = replace(facts, preprocessing=self.look_of(number))
            yield predict([state.model], state.data, trainer.test_batch_size, tta=state.recipe.tta, part=part)

    def evaluate(self, states: Sequence[State], report: Callable[[str], None]) -> tuple[float, float]:
        """Returns the accuracy of the ensemble, a fraction, and its loss. Reports the accuracy of each member if there are
        several.

        states: the members' parameters. report: a function that takes each line. The images are the test images, or those for
        validation if there are none.
        """
        trainer, state = self.trainer, self.trainer.state
        part = reported_part(state.data)
        if len(states) == 1:
            last = state.history.epochs[-1] if state.history.epochs and part == trainer.watched else None
            if last is None or last.val_accuracy is None or last.val_loss is None:
                return trainer.evaluate(part)
            return last.val_accuracy, last.val_loss
        start = time.perf_counter()
        labels = state.data.part(part).labels
        probabilities = []
        for number, found in enumerate(self._probabilities(states, part)):
            probabilities.append(found)
            report(f"network {number + 1}   accuracy {score(probabilities[-1], labels)[0]:7.2%}")
        mean = sum(probabilities[1:], probabilities[0]) / len(states)
        if self.weights is not None:
            mean = np.tensordot(np.asarray(self.weights), np.stack(probabilities), axes=1)
        accuracy, loss = score(mean, labels, loss=state.recipe.loss)
        report(f"ensemble    accuracy {accuracy:7.2%}   {part} loss {loss:.4f}")
        self.evaluation_seconds += time.perf_counter() - start
        return accuracy, loss
