"""Ensembles: networks of one recipe and different seeds, whose probabilities are averaged; one file holds them all."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastlenet.checkpoint import CheckpointError, load_checkpoint
from fastlenet.evaluation import predict, score
from fastlenet.trainer import InterruptedRunError, Listener, Trainer

__all__ = ["EnsembleRun", "join_members", "split_members"]

Array = npt.NDArray[Any]
State = Mapping[str, Array]


def _numbered(states: Sequence[State]) -> dict[str, Array]:
    return {f"member{i}.{name}": array for i, state in enumerate(states) for name, array in state.items()}


def join_members(states: Sequence[State]) -> dict[str, Array]:
    """The state_dicts of an ensemble's members as one, with keys as "member0.conv1.weight"; of a single one as it is."""
    return dict(states[0]) if len(states) == 1 else _numbered(states)


def split_members(state: State, path: str | os.PathLike[str]) -> list[dict[str, Array]]:
    """The members' state_dicts that join_members joined. Raises CheckpointError, naming the file, where some are missing."""
    members: dict[int, dict[str, Array]] = {}
    for name, array in state.items():
        match = re.fullmatch(r"member(0|[1-9]\d*)\.(.+)", name)
        if match is None:
            return [dict(state)]
        members.setdefault(int(match[1]), {})[match[2]] = array
    if sorted(members) != list(range(len(members))):
        raise CheckpointError(f"{path}: an ensemble without member {min(set(range(len(members))) - members.keys())}")
    return [members[i] for i in range(len(members))]


class EnsembleRun:
    """Trains an ensemble's members one after the other; the checkpoint of each carries those before it.

    make: from the number of a member to its Trainer; count: members, of which one makes a plain run.
    """

    def __init__(self, make: Callable[[int], Trainer], count: int) -> None:
        self._make, self.count = make, count
        self.member = 0
        self.trainer = make(0)
        self.training_seconds = self.evaluation_seconds = 0.0
        self.finished: list[dict[str, Array]] = []  # the parameters of the members before the one at hand

    def restore(self, path: str | os.PathLike[str], seed: int, *, allow_level_change: bool = False) -> None:
        """Go on from the checkpoint of a run whose first member had that seed. Raises CheckpointError."""
        _, facts = load_checkpoint(path)
        self.member = int(facts["recipe"]["seed"]) - seed
        self.trainer = self._make(self.member)
        self.trainer.restore(path, allow_level_change=allow_level_change)
        self.finished = split_members(self.trainer.passengers, path) if self.member else []
        if len(self.finished) != self.member:
            raise CheckpointError(f"{path}: holds {len(self.finished)} finished networks, not {self.member}")

    def stop(self) -> None:
        """Ask for an InterruptedRunError after the step at hand."""
        self.trainer.stop_requested = True

    def run(self, *listeners: Listener, started: Callable[[Trainer], None] = lambda trainer: None) -> list[dict[str, Array]]:
        """Train to the end and return the members' parameters; calls started before each one's training.

        Raises what Trainer.run raises; trainer.save then holds everything that was trained.
        """
        while True:
            started(self.trainer)
            self._run_member(listeners)
            done = {name: np.array(array) for name, array in self.trainer.model.state_dict().items()}
            if self.member + 1 == self.count:
                return [*self.finished, done]
            if self.trainer.stop_requested:
                raise InterruptedRunError
            self.finished.append(done)
            self.member += 1
            following = self._make(self.member)
            following.passengers = _numbered(self.finished)
            following.stop_requested = self.trainer.stop_requested  # asked for in between
            self.trainer = following

    def _run_member(self, listeners: tuple[Listener, ...]) -> None:
        self.trainer.run(*listeners)
        self.training_seconds += sum(epoch.seconds for epoch in self.trainer.history.epochs)
        self.evaluation_seconds += self.trainer.evaluation_seconds

    def evaluate(self, states: Sequence[State], report: Callable[[str], None]) -> float:
        """The accuracy (a fraction) of the trained members together; reports each one's where there are several."""
        trainer = self.trainer
        if len(states) == 1:
            known = trainer.history.accuracy
            return trainer.evaluate()[0] if known is None else known
        start = time.perf_counter()
        probabilities = []
        for number, state in enumerate(states):
            trainer.model.load_state_dict(state)
            probabilities.append(predict([trainer.model], trainer.data, trainer.test_batch_size, tta=trainer.recipe.tta))
            report(f"network {number + 1}   accuracy {score(probabilities[-1], trainer.data.test_labels)[0]:7.2%}")
        accuracy, loss = score(sum(probabilities[1:], probabilities[0]) / len(states), trainer.data.test_labels)
        report(f"ensemble    accuracy {accuracy:7.2%}   test loss {loss:.4f}")
        self.evaluation_seconds += time.perf_counter() - start
        return accuracy
