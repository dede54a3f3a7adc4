"""The state of a training run: everything that the rest of the run depends on, and its checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.config import config
from fastlenet.data import Dataset
from fastlenet.files import shown_path
from fastlenet.nn import Sequential
from fastlenet.nn.state import expect_arrays
from fastlenet.optim import SGD, AdamW, Muon, Optimizer
from fastlenet.training.checkpoint import MAX_MEMBERS, CheckpointError, load_checkpoint, save_checkpoint
from fastlenet.training.evaluation import BATCH_SIZE
from fastlenet.training.facts import Epoch, RunFacts
from fastlenet.training.recipe import Recipe

__all__ = ["DivergedError", "Epoch", "History", "OtherLevelError", "RunState"]

Array = npt.NDArray[Any]


@dataclass
class History:
    """The epochs of a run; interrupted: that it was stopped before its end."""

    epochs: list[Epoch] = field(default_factory=list)
    interrupted: bool = False

    @property
    def accuracy(self) -> float | None:
        """The last epoch's test accuracy: the final one, not the best."""
        return self.epochs[-1].accuracy if self.epochs else None


class OtherLevelError(CheckpointError):
    """A checkpoint made where the last bits differ. what_differs: the message without the way to allow it."""

    def __init__(self, what_differs: str) -> None:
        super().__init__(f"{what_differs}, or allow it with allow_level_change=True")
        self.what_differs = what_differs


class DivergedError(FloatingPointError):
    """The loss or the weights are no longer finite; the message says where."""


def _optimizer(model: Sequential, recipe: Recipe) -> Optimizer:
    if recipe.optimizer == "adamw":
        return AdamW(model, recipe.lr, (recipe.momentum, 0.999), weight_decay=recipe.weight_decay)
    nesterov = recipe.nesterov and recipe.momentum > 0
    if recipe.optimizer == "muon":
        return Muon(model, recipe.lr, recipe.momentum, nesterov, recipe.weight_decay, matrix_lr=recipe.muon_lr)
    return SGD(model, recipe.lr, recipe.momentum, nesterov, recipe.weight_decay)


def _level(model: Sequential) -> str:
    """What a run's last bits depend on: the CPU's instruction-set level, or that it was a GPU."""
    return "cuda" if model.ops.name == "cuda" else str(config()["level"])


class RunState:
    """A run between two steps: the model, its optimizer, and the place in the data; all of which a checkpoint holds.

    `passengers` are arrays by name that go into every checkpoint and come back out of it.
    """

    def __init__(
        self,
        model: Sequential,
        data: Dataset,
        recipe: Recipe,
        *,
        test_batch_size: int = BATCH_SIZE,
        batches_per_epoch: int | None = None,
        settings: Mapping[str, Any] | None = None,
        passengers: Mapping[str, Array] | None = None,
    ) -> None:
        self.model, self.data, self.recipe = model, data, recipe
        self.test_batch_size, self.batches_per_epoch = test_batch_size, batches_per_epoch
        self.settings, self.passengers = dict(settings or {}), dict(passengers or {})
        self.optimizer = _optimizer(model, recipe)
        self.history = History()
        self.epoch, self.position = 0, 0  # completed epochs, and batches of the one at hand
        self._starts = self._batch_starts(recipe, 0)
        self.steps = self._steps_left(recipe, 0, 0)
        self.loss_sum, self.images, self.seconds = 0.0, 0, 0.0  # of the epoch at hand
        # From the step, counted from 0, to its learning rate. Not a method: no cycle keeps the model.
        self.rate: Callable[[int], float] = partial(recipe.rate, steps=self.steps)
        self.schedule_note = ""  # what restore did to the schedule, where the number of epochs is another
        self.average_from = recipe.average_from(self.steps)
        self.average: dict[str, Array] = {}
        if self.average_from is not None:
            self.average["parameters"] = model.ops.empty(model.parameter_buffer.shape)
            self.average["parameters"][...] = model.parameter_buffer

    @property
    def batches(self) -> int:
        """The steps of the epoch at hand."""
        return len(self._starts) - 1

    def _batch_starts(self, recipe: Recipe, epoch: int, position: int = 0, images: int = 0) -> list[int]:
        """Where the batches of an epoch start, from the batch of that position on, before which stand so many images."""
        starts = [0] * position + recipe.batch_starts(epoch, len(self.data.train_images), images)
        return starts if self.batches_per_epoch is None else starts[: self.batches_per_epoch + 1]

    def _steps_left(self, recipe: Recipe, epoch: int, position: int, images: int = 0) -> int:
        """From a place in the run to its end."""
        if epoch >= recipe.epochs:
            return 0
        here = len(self._batch_starts(recipe, epoch, position, images)) - 1 - position
        if not recipe.batch_size_end:  # all epochs are alike
            return here + (recipe.epochs - epoch - 1) * (len(self._batch_starts(recipe, 0)) - 1)
        return here + sum(len(self._batch_starts(recipe, later)) - 1 for later in range(epoch + 1, recipe.epochs))

    def _expect_finite(self) -> None:
        """Raises DivergedError if a weight is infinite or NaN: the next loss would be."""
        if not np.isfinite(self.model.parameter_buffer).all():
            raise DivergedError(f"weights are no longer finite in epoch {self.epoch + 1} after step {self.position}")

    def _tensors(self) -> dict[str, Mapping[str, Array]]:
        """Everything that a checkpoint holds, by the prefix of its names; live."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state(),
            "average": self.average,
            "passenger": self.passengers,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything that the rest of the run depends on.

        Raises CheckpointError, and DivergedError rather than write weights that are not finite; the old file then stays.
        """
        self._expect_finite()
        facts = RunFacts(
            version=config()["version"],
            level=_level(self.model),
            recipe=self.recipe,
            settings=self.settings,
            data=self.data.fingerprint,
            normalisation=(float(self.data.mean), float(self.data.std)),
            steps=self.steps,
            epoch=self.epoch,
            position=self.position,
            dropout_counter=self.model.dropout_counter,
            loss_sum=self.loss_sum,
            images=self.images,
            seconds=self.seconds,
            history=tuple(self.history.epochs),
        )
        tensors = {f"{part}.{name}": array for part, arrays in self._tensors().items() for name, array in arrays.items()}
        save_checkpoint(path, tensors, facts.as_json())

    def restore(self, path: str | os.PathLike[str], *, allow_level_change: bool = False) -> None:
        """Go on from a checkpoint of the same model, data and recipe. Raises CheckpointError and then changes nothing.

        The recipe may have another number of epochs, if no fewer than are done: from the step at hand on, the learning rate and
        all else that depends on the length is then as in a run that has had this length from its start; schedule_note says so.
        Images are normalised as they were before.
        """
        tensors, values = load_checkpoint(path, max_bytes=self._bytes_at_most())
        try:
            facts = RunFacts.of(values)
            self._expect_same_run(facts, allow_level_change)
            parts = self._expect_tensors(tensors)
            steps_done = self._expect_steps(facts, int(parts["optimizer"]["steps"][0]))
            self.model.load_state_dict(parts["model"])
        except OtherLevelError as error:
            raise OtherLevelError(f"{shown_path(path)}: {error.what_differs}") from None
        except ValueError as error:
            raise CheckpointError(f"{shown_path(path)}: does not fit this run; {error}") from None
        self.optimizer.load_state(parts["optimizer"])
        self._take(facts, steps_done)
        self.passengers = parts["passenger"]
        for name, array in self.average.items():
            array[...] = parts["average"][name]
            if self._begins_late(facts, steps_done):
                array[...] = self.model.parameter_buffer

    def _begins_late(self, facts: RunFacts, steps_done: int) -> bool:
        """Whether the average of the weights begins here, as it would have begun before in a run of the new length."""
        before = facts.recipe.average_from(facts.steps)
        return before is not None and self.average_from is not None and self.average_from <= steps_done < before

    def _take(self, facts: RunFacts, steps_done: int) -> None:
        """The place, the schedule and the sums of facts that were found to fit."""
        self.epoch, self.position, self.images = facts.epoch, facts.position, facts.images
        self.history.epochs, self.model.dropout_counter = list(facts.history), facts.dropout_counter
        self.loss_sum, self.seconds = facts.loss_sum, facts.seconds
        if facts.normalisation is not None:
            self.normalise(*facts.normalisation)
        self._starts = self._batch_starts(self.recipe, self.epoch, self.position, self.images)
        self.steps = steps_done + self._steps_left(self.recipe, self.epoch, self.position, self.images)
        self.average_from = self.recipe.average_from(self.steps)
        self.schedule_note = ""
        if facts.recipe.epochs != self.recipe.epochs:
            self.schedule_note = (
                f"{self.recipe.epochs} epochs instead of {facts.recipe.epochs}: the learning rate goes on as in a run of "
                f"{self.steps} steps, from step {steps_done} on"
            )

    def normalise(self, mean: float, std: float) -> None:
        """Normalise the images by these numbers from now on."""
        if (mean, std) != (self.data.mean, self.data.std):
            self.data = replace(self.data, mean=mean, std=std)

    def _bytes_at_most(self) -> int:
        """Of a checkpoint of this run: its own arrays, four times the parameters at most, and the networks finished before."""
        return max(64 << 20, 4 * self.model.parameter_buffer.size * (MAX_MEMBERS + 5))

    def _expect_same_run(self, facts: RunFacts, allow_level_change: bool) -> None:
        """OtherLevelError, or ValueError, where the facts are those of another run than this one."""
        level = _level(self.model)
        if facts.level != level and not allow_level_change:
            cure = "train on cuda" if facts.level == "cuda" else f"set FASTLENET_ISA={facts.level}"
            raise OtherLevelError(f"made at level {facts.level}, this is {level}, whose last bits differ; {cure}")
        if facts.data != self.data.fingerprint:
            raise ValueError(f"made on other training data than {self.data.name}")
        if facts.normalisation is not None:  # the data set may have something to say against it
            replace(self.data, mean=facts.normalisation[0], std=facts.normalisation[1])
        for name, value in vars(facts.recipe).items():
            if name != "epochs" and value != getattr(self.recipe, name):
                raise ValueError(f"made with {name} {value}, this run has {getattr(self.recipe, name)}")
        least = facts.epoch + (facts.position > 0)
        if self.recipe.epochs < least:
            raise ValueError(f"epochs expects at least {least}, where it stands, got {self.recipe.epochs}")

    def _expect_steps(self, facts: RunFacts, done: int) -> int:
        """The steps done; ValueError where they, the place, the data and the length do not agree."""
        batches = self.batches_per_epoch
        none_left = batches is not None and 0 < batches <= facts.position
        if facts.images >= max(1, len(self.data.train_images)) or none_left:
            raise ValueError(f"it stands at batch {facts.position}, after {facts.images} images, where no batch is left")
        if facts.steps != done + self._steps_left(facts.recipe, facts.epoch, facts.position, facts.images):
            raise ValueError(f"made for {facts.steps} steps, which are not those of this data and recipe from step {done} on")
        return done

    def _expect_tensors(self, tensors: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
        """The tensors by part; ValueError unless each part but the passengers is what this run has, and finite."""
        own = self._tensors()
        parts: dict[str, dict[str, Array]] = {part: {} for part in own}
        for name, array in tensors.items():
            part, _, key = name.partition(".")
            if part not in parts:
                raise ValueError(f"{name[:80]!r} is not of a run")
            parts[part][key] = array
        for part in ("model", "average"):
            expect_arrays(part, parts[part], own[part])
        self.optimizer.expect_state(parts["optimizer"])
        return parts
