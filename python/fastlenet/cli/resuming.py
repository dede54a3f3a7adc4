"""--resume: takes the settings from a checkpoint, lets some be changed, and words the errors of those that may not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fastlenet.cli.command import UsageError
from fastlenet.cli.flags import SETTINGS
from fastlenet.cli.parser import flag_of
from fastlenet.data import TORCHVISION_NAMES
from fastlenet.files import shown_path
from fastlenet.training.checkpoint import CheckpointError, NoCheckpointError, load_checkpoint
from fastlenet.training.facts import RunFacts, Schema, is_count, judge
from fastlenet.training.recipe import RECIPES

__all__ = ["resumed_settings", "stored"]

# Places of files, and the batch size of evaluation: they do not affect the result, so they may change. A fingerprint checks
# that the data are the same.
_PLACES = ("data_dir", "dataset", "load_model", "test_batch_size")


def _is_path(value: Any) -> bool:
    return value is None or isinstance(value, str)


_SCHEMA: Schema = {
    "recipe": (lambda value: isinstance(value, str) and value in RECIPES, f"one of {', '.join(RECIPES)}"),
    "ensemble": (lambda value: is_count(value) and value >= 1, "a positive integer"),
    "test_batch_size": (lambda value: is_count(value) and value >= 1, "a positive integer"),
    "validation": (is_count, "a count"),
    "dry_run": (lambda value: isinstance(value, bool), "true or false"),
    "data_dir": (_is_path, "a path"),
    "dataset": (lambda value: value is None or value in TORCHVISION_NAMES, f"one of {', '.join(TORCHVISION_NAMES)}"),
    "load_model": (_is_path, "a path"),
    "device": (lambda value: value in ("cpu", "cuda"), "cpu or cuda"),
    "seed": (is_count, "a count"),
}


def stored(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings for a checkpoint, with absolute paths, so that the run can be resumed from another folder."""
    whole = dict(settings)
    if whole["dataset"] is not None and whole["data_dir"] is None:
        whole["data_dir"] = "data"
    for name in ("data_dir", "load_model"):
        if whole[name] is not None:
            whole[name] = os.path.abspath(whole[name])
    return whole


def resumed_settings(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a checkpoint's run, with the changed ones. Raises UsageError or CheckpointError."""
    path = given["resume"]
    facts = _facts(path)
    saved = _saved_settings(path, facts)
    anew = {name: given[name] for name in (*_PLACES, "epochs") if name in given}
    if given.get("allow_level_change", False) and "device" in given:
        anew["device"] = given["device"]
    if anew.get("dataset", saved["dataset"]) != saved["dataset"]:
        anew.setdefault("data_dir", None)  # the old folder belongs to the old data set
    settings = saved | anew
    for name, value in given.items():
        if name in settings and settings[name] != value:
            raise UsageError(f"{flag_of(name)} {value} contradicts {path}, which was made with {settings[name]}; leave it out")
    _expect_epochs(path, facts, settings)
    _expect_data_folder(path, saved, anew)
    return settings


def _facts(path: str) -> RunFacts:
    try:
        return RunFacts.of(load_checkpoint(path)[1])
    except NoCheckpointError:
        raise CheckpointError(
            f"{shown_path(path)}: not a checkpoint of fastlenet; a file of parameters is read by --load-model"
        ) from None
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{shown_path(path)}: not a run's checkpoint; {error}") from None


def _saved_settings(path: str, facts: RunFacts) -> dict[str, Any]:
    recipe = vars(facts.recipe)
    if facts.settings.keys() != SETTINGS.keys() | recipe.keys():
        raise CheckpointError(f"{shown_path(path)}: was not made by this command; resume it with fastlenet.fit")
    try:
        judge("its settings", facts.settings, _SCHEMA)
    except ValueError as error:
        raise CheckpointError(f"{shown_path(path)}: not a checkpoint of this command; {error}") from None
    return facts.settings | recipe | {"seed": facts.settings["seed"]}  # the recipe has the current network's seed


def _expect_epochs(path: str, facts: RunFacts, settings: dict[str, Any]) -> None:
    """Raise UsageError if the run has passed this number of epochs, or if its finished networks were trained for another."""
    epochs, before = settings["epochs"], facts.recipe.epochs
    least, finished = facts.epoch + (facts.position > 0), facts.recipe.seed - settings["seed"]
    if epochs < least:
        raise UsageError(f"--epochs {epochs}: {path} stands in epoch {least}; it expects at least {least}")
    if epochs != before and finished:
        networks = "a network" if finished == 1 else f"{finished} networks"
        raise UsageError(
            f"--epochs {epochs}: {path} holds {networks} finished after {before} epochs, which cannot go on; leave it out"
        )


def _expect_data_folder(path: str, saved: dict[str, Any], anew: dict[str, Any]) -> None:
    folder = saved["data_dir"]
    if folder is not None and not anew.keys() & {"data_dir", "dataset"} and not Path(folder).is_dir():
        raise UsageError(
            f"{path} was made on the data in {shown_path(folder)}, which is not there; name their folder with --data-dir"
        )
