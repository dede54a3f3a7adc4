"""The state of a training run: everything that the rest of the run depends on, and its checkpoints."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from fastlenet.config import config
from fastlenet.data import Dataset
from fastlenet.evaluation import BATCH_SIZE
from fastlenet.nn import Sequential
from fastlenet.optim import SGD, AdamW, Muon, Optimizer
from fastlenet.recipe import Recipe

__all__ = ["DivergedError", "Epoch", "History", "RunState"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to: mean training loss, test accuracy (a fraction) and loss, seconds and images/s of training."""

    epoch: int
    loss: float
    accuracy: float | None
    test_loss: float | None
    seconds: float
    images_per_second: float


@dataclass
class History:
    """The epochs of a run."""

    epochs: list[Epoch] = field(default_factory=list)

    @property
    def accuracy(self) -> float | None:
        """The last epoch's test accuracy: the final one, not the best."""
        return self.epochs[-1].accuracy if self.epochs else None


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
    return "cuda" if model.ops.__name__ == "fastlenet.cuda" else str(config()["level"])


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
        self.steps = sum(len(self._batch_starts(epoch)) - 1 for epoch in range(recipe.epochs))
        self.history = History()
        self.epoch, self.position = 0, 0  # completed epochs, and batches of the one at hand
        self._starts = self._batch_starts(0)
        self.loss_sum, self.images, self.seconds = 0.0, 0, 0.0  # of the epoch at hand
        self.average_from = recipe.average_from(self.steps)
        self.average: dict[str, Array] = {}
        if self.average_from is not None:
            self.average["parameters"] = model.ops.empty(model.parameter_buffer.shape)
            self.average["parameters"][...] = model.parameter_buffer

    def _batch_starts(self, epoch: int) -> list[int]:
        starts = self.recipe.batch_starts(epoch, len(self.data.train_images))
        return starts if self.batches_per_epoch is None else starts[: self.batches_per_epoch + 1]

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
        save_checkpoint(
            path,
            {f"{part}.{name}": array for part, arrays in self._tensors().items() for name, array in arrays.items()},
            {
                "version": config()["version"],
                "level": _level(self.model),
                "recipe": asdict(self.recipe),
                "settings": self.settings,
                "data": self.data.fingerprint,
                "test_batch_size": self.test_batch_size,
                "steps": self.steps,
                "epoch": self.epoch,
                "position": self.position,
                "dropout_counter": self.model.dropout_counter,
                "sums": [self.loss_sum, self.images, self.seconds],
                "history": [asdict(epoch) for epoch in self.history.epochs],
            },
        )

    def restore(self, path: str | os.PathLike[str], *, allow_level_change: bool = False) -> None:
        """Go on from a checkpoint of the same model, data and recipe. Raises CheckpointError and then changes nothing."""
        tensors, facts = load_checkpoint(path)
        try:
            self._check(path, facts, allow_level_change)
            history = [Epoch(**epoch) for epoch in facts["history"]]
            epoch, position, counter = int(facts["epoch"]), int(facts["position"]), int(facts["dropout_counter"])
            loss_sum, images, seconds = float(facts["sums"][0]), int(facts["sums"][1]), float(facts["sums"][2])
            starts = self._batch_starts(epoch)
            if not (0 <= epoch <= self.recipe.epochs and 0 <= position < max(1, len(starts) - 1)):
                raise ValueError(f"epoch {epoch}, position {position}")
            parts: dict[str, dict[str, Array]] = {part: {} for part in self._tensors()}
            for name, array in tensors.items():
                part, _, key = name.partition(".")
                parts[part][key] = array
            for part, expected in (("optimizer", self.optimizer.state()), ("average", self.average)):
                if {name: a.shape for name, a in parts[part].items()} != {name: a.shape for name, a in expected.items()}:
                    raise ValueError(f"its {part} is not of this model")
            self.model.load_state_dict(parts["model"])
            self.optimizer.load_state(parts["optimizer"])
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"{path}: does not fit this run ({error})") from None
        for name, array in self.average.items():
            array[...] = parts["average"][name]
        self.passengers = parts["passenger"]
        self.history.epochs = history
        self.epoch, self.position, self.model.dropout_counter = epoch, position, counter
        self._starts = starts
        self.loss_sum, self.images, self.seconds = loss_sum, images, seconds

    def _check(self, path: str | os.PathLike[str], facts: Mapping[str, Any], allow_level_change: bool) -> None:
        level = _level(self.model)
        if facts["level"] != level and not allow_level_change:
            cure = "train on cuda" if facts["level"] == "cuda" else f"set FASTLENET_ISA={facts['level']}"
            raise CheckpointError(
                f"{path}: made at level {facts['level']}, this is {level}, whose last bits differ; {cure}, or allow it with "
                "--allow-level-change"
            )
        if facts["data"] != self.data.fingerprint:
            raise CheckpointError(f"{path}: made on other training data than {self.data.name}")
        for name, value in asdict(self.recipe).items():
            if facts["recipe"].get(name) != value:
                raise CheckpointError(f"{path}: made with {name} {facts['recipe'].get(name)}, not {value}")
        if facts["steps"] != self.steps:
            raise CheckpointError(f"{path}: made for {facts['steps']} steps, not {self.steps}")
