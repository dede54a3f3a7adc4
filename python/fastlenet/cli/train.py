"""The command `fastlenet train`: trains LeNet and reports its accuracy."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import ModuleType
from typing import Any

from fastlenet import ops
from fastlenet._core import DeviceError
from fastlenet.cli.command import UsageError, run_command
from fastlenet.cli.flags import check_flags, make_parser, recipe_of, settings_of, usage_error
from fastlenet.cli.resuming import resumed_settings, stored
from fastlenet.cli.train_run import run_and_save
from fastlenet.config import config, set_num_threads
from fastlenet.data import DataError, Dataset, load_idx_directory, load_mnist, load_torchvision
from fastlenet.files import reserve
from fastlenet.models.lenet import LeNet
from fastlenet.profiling import Profiler
from fastlenet.signals import STOP_SIGNALS, StopSignals
from fastlenet.streams import one_line
from fastlenet.training.callbacks.base import Callback, Writer
from fastlenet.training.callbacks.console import Console
from fastlenet.training.callbacks.json_log import JsonLog, LogError
from fastlenet.training.callbacks.plot import Plot
from fastlenet.training.callbacks.saver import Saver
from fastlenet.training.callbacks.step_times import StepProfile
from fastlenet.training.checkpoint import CheckpointError, OtherLevelError
from fastlenet.training.ensemble import EnsembleRun, load_members
from fastlenet.training.figures import PlotError
from fastlenet.training.lr_finder import find_lr
from fastlenet.training.recipe import RECIPES, Recipe
from fastlenet.training.state import DivergedError, RunState
from fastlenet.training.trainer import Trainer

__all__ = ["main", "make_parser"]


def _load_data(settings: dict[str, Any]) -> Dataset:
    if settings["dataset"] is not None:
        data = load_torchvision(settings["dataset"], settings["data_dir"] or "data")
    elif settings["data_dir"] is not None:
        data = load_idx_directory(settings["data_dir"])
    else:
        data = load_mnist()
    if data.train_images.shape[1:] != (28, 28):
        raise DataError(f"{data.name}: LeNet takes images of 28x28 pixels, these have {data.train_images.shape[1:]}")
    if settings["validation"]:
        try:
            data = data.hold_out(settings["validation"])
        except ValueError as error:
            raise usage_error(error) from None
    return data


def _backend(device: str) -> ModuleType:
    """The backend of a device. Raises DeviceError, before anything is done, if the device cannot be used."""
    if device == "cpu":
        return ops
    from fastlenet import cuda

    cuda.synchronize()
    return cuda


def _announce(console: Console, state: RunState, settings: dict[str, Any]) -> None:
    facts, recipe, data = config(), state.recipe, state.data
    where = f"level {facts['level']}   threads {facts['threads']}" if settings["device"] == "cpu" else f"cuda: {facts['cuda']}"
    console.say(
        f"fastlenet {facts['version']}   {where}   seed {recipe.seed}\n"
        f"{one_line(data.name)}: {len(data.test_images)} test images, {len(data.train_images)} training images\n"
    )
    for name, array in state.model.parameters().items():
        console.say(f"  {name:<13} {array.shape}")
    console.say(f"  {state.model.parameter_buffer.size} parameters\n")
    changed = replace(recipe, seed=0) != RECIPES[settings["recipe"]]
    console.say(textwrap.fill(f"recipe {settings['recipe']}{' with changes' if changed else ''}: {recipe}", 100))
    if recipe.tta:
        console.say("test-time augmentation: predictions are averaged over each test image and its four shifts by one pixel")


def _load_members(path: str, model: Callable[[int], LeNet]) -> list[LeNet]:
    """The networks of a file that --save-model wrote; an ensemble has several."""
    models = [model(0)]
    for number, state in enumerate(load_members(path, models[0])):
        if number:
            models.append(model(number))
        try:
            models[number].load_state_dict(state)
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None
    return models


def _expect_no_training(recipe: Recipe, path: str, given: dict[str, Any]) -> Recipe:
    """The recipe with 0 epochs, to evaluate an ensemble's file. Raises UsageError if --epochs asks for training."""
    if given.get("epochs", 0):
        raise UsageError(f"--epochs {given['epochs']}: {path} is an ensemble, which can be evaluated, not trained on")
    return replace(recipe, epochs=0)


def _train(given: dict[str, Any], signals: StopSignals) -> int:
    check_flags(given)
    checkpoint = given.get("checkpoint", given.get("resume"))
    with nullcontext() if checkpoint is None else reserve(checkpoint, given.get("resume")):
        return _train_alone(given, checkpoint, signals)


def _train_alone(given: dict[str, Any], checkpoint: str | None, signals: StopSignals) -> int:
    """Train. checkpoint: a file that is reserved for this run, or None."""
    settings = resumed_settings(given) if "resume" in given else settings_of(given)
    recipe = recipe_of(settings)
    if "threads" in given:
        set_num_threads(given["threads"])
    if given.get("profile", False) and settings["device"] == "cuda":
        raise UsageError("--profile measures the CPU's kernels; leave it out, and see a GPU's by nsys profile python -m ...")
    backend = _backend(settings["device"])
    start = time.perf_counter()
    data = _load_data(settings)
    seconds = {"data": time.perf_counter() - start}
    profiler = Profiler() if given.get("profile", False) else None

    def model(member: int) -> LeNet:
        return LeNet.of(replace(recipe, seed=recipe.seed + member), classes=data.classes, ops=profiler or backend)

    loaded: list[LeNet] = []
    if settings["load_model"] is not None and "resume" not in given:
        loaded = _load_members(settings["load_model"], model)
        if len(loaded) > 1:
            recipe = _expect_no_training(recipe, settings["load_model"], given)

    def trainer(member: int) -> Trainer:
        return Trainer(
            loaded[member] if loaded else model(member),
            data,
            replace(recipe, seed=recipe.seed + member),
            test_batch_size=settings["test_batch_size"],
            evaluate_every_epoch=not given.get("quiet", False) or "log_json" in given or "plot" in given,
            batches_per_epoch=1 if settings["dry_run"] else None,
            settings=stored(settings),
        )

    run = EnsembleRun(trainer, max(settings["ensemble"], len(loaded)))
    if "resume" in given:
        _restore(run, given, settings["seed"])
    console = Console(given.get("quiet", False), given.get("log_interval", 0))
    _announce(console, run.trainer.state, settings)
    if {"resume", "load_model"} <= given.keys():
        console.say(f"{given['load_model']} is not read: {given['resume']} holds the weights")
    callbacks: list[Callback] = [console]
    if given.get("find_lr", False):
        return _find_lr(run.trainer.state, console, given.get("plot"))
    if "log_json" in given:
        callbacks.append(JsonLog(given["log_json"], "resume" in given))
    if checkpoint is not None:
        callbacks.append(Saver(checkpoint))
    if "plot" in given:  # after the saver, so that a picture that cannot be written costs no state
        callbacks.append(Plot(given["plot"]))
    if profiler is not None:
        callbacks.append(StepProfile(profiler))
    for callback in callbacks:
        if isinstance(callback, Writer):
            callback.tell = console.warn
    return run_and_save(run, console, callbacks, given, seconds, signals)


def _restore(run: EnsembleRun, given: dict[str, Any], seed: int) -> None:
    try:
        run.restore(given["resume"], seed, allow_level_change=given.get("allow_level_change", False))
    except OtherLevelError as error:
        raise CheckpointError(f"{error.what_differs}, or allow it with --allow-level-change") from None


def _find_lr(state: RunState, console: Console, plot: str | None) -> int:
    sweep = find_lr(state.model, state.data, state.recipe)
    console.say(sweep.table())
    print(f"suggested --lr {sweep.suggestion:.2g}", flush=True)
    if plot is not None:  # after the line, so that it is printed even if the picture cannot be written
        sweep.plot(plot)
    return 0


def main(arguments: Sequence[str] | None = None, prog: str = "python -m fastlenet.train") -> int:
    """Run the command line. Returns the exit code; exits with 2 for flags that do not exist."""

    def command() -> int:
        with StopSignals(*STOP_SIGNALS) as signals:
            return _train(vars(make_parser(prog).parse(arguments)), signals)

    expected = (DataError, CheckpointError, PlotError, LogError, DivergedError, DeviceError)
    return run_command(prog.removeprefix("python -m "), command, *expected)
