"""What a training command came to, as data: one JSON object, which other programs read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace

from fastlenet.cli.settings import Settings
from fastlenet.config import config, get_num_threads
from fastlenet.training.ensemble import EnsembleRun
from fastlenet.training.evaluation import reported_part
from fastlenet.training.recipe import Recipe

__all__ = ["Result"]


def _teacher(settings: Settings, run: EnsembleRun) -> dict[str, object] | None:
    teaching = run.trainer.state.teaching
    if teaching is None:
        return None
    teacher = teaching.teacher
    return {"files": [*settings.teacher], "networks": len(teacher), "fingerprint": teacher.fingerprint, "seconds": 0.0}


@dataclass(frozen=True)
class Result:
    """The result of a run.

    accuracy: a fraction of the images in `part`, "test" or "validation"; test_loss: the mean loss on them. loss: the mean
    training loss of the last epoch, None without one. epochs: that were trained, by each of `networks`. seconds: what they were
    spent on. teacher: the files, networks, fingerprint and seconds of what it learnt from, or None; training's seconds include
    these. level: of the instruction set, or what else the last bits depend on.
    """

    accuracy: float | None
    test_loss: float | None
    loss: float | None
    part: str
    epochs: int
    seconds: dict[str, float]
    teacher: dict[str, object] | None
    data: str
    classes: int
    network: str
    networks: int
    recipe_name: str
    recipe: Recipe  # of the first network
    level: str
    device: str
    threads: int
    version: str

    @classmethod
    def of(cls, settings: Settings, run: EnsembleRun, seconds: dict[str, float]) -> Result:
        """What is known before the first step."""
        state = run.trainer.state
        return cls(
            accuracy=None,
            test_loss=None,
            loss=None,
            part=reported_part(state.data),
            epochs=0,
            seconds=seconds,
            teacher=_teacher(settings, run),
            data=state.data.name,
            classes=state.data.classes,
            network=settings.network,
            networks=run.count,
            recipe_name=settings.recipe,
            recipe=replace(state.recipe, seed=state.recipe.seed - run.member),
            level=state.model.level(),
            device=settings.device,
            threads=get_num_threads(),
            version=config()["version"],
        )

    def finished(self, run: EnsembleRun, accuracy: float, test_loss: float) -> Result:
        """The same, after the last step."""
        epochs = run.trainer.state.history.epochs
        seconds = self.seconds | {"training": run.training_seconds, "evaluation": run.evaluation_seconds}
        loss = epochs[-1].loss if epochs else None
        taught = None if self.teacher is None else self.teacher | {"seconds": run.teaching_seconds}
        done = replace(self, accuracy=accuracy, test_loss=test_loss, loss=loss, epochs=len(epochs), seconds=seconds)
        return replace(done, teacher=taught)

    def as_json(self) -> str:
        """One line. A loss that is infinite is null, since JSON has no word for it."""
        kept = asdict(self)
        kept["recipe"] = {"name": kept.pop("recipe_name"), **kept["recipe"]}
        kept["seed"] = self.recipe.seed
        for name in ("loss", "test_loss"):
            if kept[name] is not None and not math.isfinite(kept[name]):
                kept[name] = None
        return json.dumps(kept, allow_nan=False)
