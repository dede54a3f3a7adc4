"""--resume: which of a checkpoint's settings hold, which may be given anew, and how the command words what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path

from fastlenet.cli.command import UsageError
from fastlenet.cli.parser import flag_of
from fastlenet.cli.settings import Arguments, Settings, Value, build, flags_for, take_data_dir
from fastlenet.data import named
from fastlenet.fields import FieldError, Values
from fastlenet.files import CheckpointError, shown_path
from fastlenet.training.checkpoint import NoCheckpointError, load_checkpoint
from fastlenet.training.facts import RunFacts
from fastlenet.training.recipe import Recipe

__all__ = ["resumed_run"]

_SEED = Values(int, "an integer in 0..2^64-1", 0, 2**64 - 1)

# Where things lie, and how many images are evaluated at a time: none of it decides what is computed. Whether the data are the
# same is judged by their fingerprint.
_PLACES = ("data", "data_dir", "sample_weight", "load_model", "teacher", "teacher_cache", "test_batch_size")


def resumed_run(path: str, arguments: Arguments) -> tuple[Settings, Recipe]:
    """The settings and the recipe, with its first seed, of the run in a checkpoint, with what was given anew.

    Raises UsageError and CheckpointError.
    """
    facts = _facts(path)
    saved, seed = _saved_settings(path, facts)
    recipe = replace(facts.recipe, seed=seed)  # the recipe's is that of the network at hand
    own, of_recipe = arguments.divided()
    with flags_for():
        settings = build(Settings, asdict(saved) | _anew(saved, own, arguments.options.allow_level_change))
        meant = build(Recipe, asdict(recipe) | of_recipe)  # a flag may write a value in another way
        recipe = replace(recipe, epochs=meant.epochs)
    _expect_no_contradiction(path, own | {name: getattr(meant, name) for name in of_recipe}, settings, recipe)
    _expect_epochs(path, facts, seed, recipe.epochs)
    if not own.keys() & {"data", "data_dir"} and not named(saved.data) and not Path(saved.data).exists():
        raise UsageError(f"{path} was made on the data in {shown_path(saved.data)}, which is not there; name them with --data")
    return settings, recipe


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


def _saved_settings(path: str, facts: RunFacts) -> tuple[Settings, int]:
    """The settings that a checkpoint keeps, and the first seed."""
    kept = dict(facts.settings)
    seed = kept.pop("seed", None)
    if kept.keys() != {entry.name for entry in fields(Settings)}:
        raise CheckpointError(f"{shown_path(path)}: was not made by this command; resume it with fastlenet.fit")
    try:
        return build(Settings, kept), _SEED.convert("seed", seed)
    except FieldError as error:
        words = error.worded(f"{error.field} in its settings")
        raise CheckpointError(f"{shown_path(path)}: not a checkpoint of this command; {words}") from None


def _anew(saved: Settings, own: dict[str, Value], allow_level_change: bool) -> dict[str, Value]:
    """Those of the settings that may be another than before."""
    anew = {name: own[name] for name in _PLACES if name in own}
    if saved.data_dir is None:  # else it is where a named data set lies
        take_data_dir(anew)
    if allow_level_change and "device" in own:
        anew["device"] = own["device"]
    return anew


def _expect_no_contradiction(path: str, changes: Mapping[str, Value], settings: Settings, recipe: Recipe) -> None:
    """UsageError for a flag that says something else than what holds."""
    for name, value in changes.items():
        holds = getattr(settings if hasattr(settings, name) else recipe, name)
        if name not in _PLACES and holds != value:
            made = "none" if holds == "" else holds
            raise UsageError(f"{flag_of(name)} {value} contradicts {path}, which was made with {made}; leave it out")


def _expect_epochs(path: str, facts: RunFacts, seed: int, epochs: int) -> None:
    """UsageError for a number of epochs that the run has passed, or that its finished networks were not trained for."""
    before, finished = facts.recipe.epochs, facts.recipe.seed - seed
    least = facts.epoch + (facts.position > 0)
    if epochs < least:
        raise UsageError(f"--epochs {epochs}: {path} has reached epoch {least}; give at least {least}")
    if epochs != before and finished:
        networks = "a network" if finished == 1 else f"{finished} networks"
        done = f"{before} epoch{'s' * (before != 1)}"
        raise UsageError(f"--epochs {epochs}: {path} holds {networks} finished after {done}; leave --epochs out")
