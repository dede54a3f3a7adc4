"""Train LeNet on MNIST from the command line: python -m fastlenet.train"""

from __future__ import annotations

import argparse
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from fastlenet import ops
from fastlenet.checkpoint import CheckpointError, expect_writable, load_checkpoint, load_model, save_model
from fastlenet.config import config, set_num_threads
from fastlenet.data import TORCHVISION_NAMES, DataError, Dataset, load_idx_directory, load_mnist, load_torchvision
from fastlenet.ensemble import EnsembleRun, join_members, split_members
from fastlenet.lenet import LeNet
from fastlenet.listeners import Console, JsonLog, StepProfile
from fastlenet.lr_finder import find_lr
from fastlenet.plotting import Plot, PlotError, expect_plottable, plot_sweep
from fastlenet.profiling import Profiler
from fastlenet.recipe import CHOICES, RECIPES, Recipe
from fastlenet.trainer import DivergedError, InterruptedRunError, Listener, Saver, Trainer

__all__ = ["add_recipe_flags", "main"]

_INTERRUPTED = "fastlenet-interrupted"
_USAGE, _CTRL_C = 2, 130

# Beside the recipe's fields, what decides the result or what is reported of it: a checkpoint holds both, for --resume.
_SETTINGS: dict[str, Any] = {
    "recipe": "default",
    "ensemble": 1,
    "test_batch_size": 1000,
    "validation": 0,
    "dry_run": False,
    "data_dir": None,
    "dataset": None,
    "load_model": None,
}


class UsageError(ValueError):
    """A command line that makes no sense; one line."""


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    """--recipe, and a flag for every field of a Recipe."""
    group = parser.add_argument_group("recipe", "Named recipes, and a flag for each of their fields; 0 is off.")
    names = "; ".join(f"{name}: {recipe}" for name, recipe in RECIPES.items())
    add(group, "--recipe", names, choices=tuple(RECIPES))
    for field in fields(Recipe):
        kind: type = type(field.default)
        options: dict[str, Any] = {"type": kind, "metavar": {int: "N", float: "X"}.get(kind)}
        if kind is bool:
            options = {"action": argparse.BooleanOptionalAction}
        elif kind is str:
            options = {"choices": CHOICES[field.name]}
        group.add_argument(
            f"--{field.name.replace('_', '-')}", help=field.metadata["help"], default=argparse.SUPPRESS, **options
        )


def add(group: Any, flag: str, help: str, **options: Any) -> None:
    """A flag that leaves no trace when it is not given."""
    default = _SETTINGS.get(flag[2:].replace("-", "_"))
    text = help + (f" (default: {default})" if default not in (None, False) else "")
    group.add_argument(flag, help=text, default=argparse.SUPPRESS, **options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastlenet.train",
        description="Train LeNet (431,080 parameters) on MNIST, which is part of the package, and report the test accuracy "
        "after each epoch. The same seed gives the same bits, whatever the number of threads.",
        epilog="Ctrl-C saves the training state and says how to go on. Exit codes: 0 done, 2 wrong usage or input, 130 Ctrl-C.",
    )

    add_recipe_flags(parser)
    add(parser, "--ensemble", "train N networks, of seeds S, S+1, ..., and average their probabilities", type=int, metavar="N")
    data = parser.add_argument_group("data")
    add(
        data,
        "--data-dir",
        "folder of four IDX files (train-images-idx3-ubyte, ...), raw or .gz, instead of MNIST",
        metavar="DIR",
    )
    add(
        data,
        "--dataset",
        "a data set of torchvision (extra torchvision), under --data-dir or ./data",
        choices=TORCHVISION_NAMES,
    )
    add(
        data,
        "--validation",
        "hold out the last N training images, and report on them instead of the test set",
        type=int,
        metavar="N",
    )
    add(data, "--test-batch-size", "images per batch of the evaluation", type=int, metavar="N")
    files = parser.add_argument_group("files")
    add(files, "--save-model", "write the final parameters (safetensors)", metavar="FILE")
    add(files, "--load-model", "start from these parameters (safetensors); with --epochs 0, evaluate them", metavar="FILE")
    add(files, "--checkpoint", "save the training state here after each epoch and every 10 s", metavar="FILE")
    add(
        files,
        "--resume",
        "go on from a checkpoint, with all its settings; saves to the same file unless told otherwise",
        metavar="FILE",
    )
    add(files, "--log-json", "write one JSON object per epoch", metavar="FILE")
    add(files, "--plot", "draw loss and accuracy after each epoch (extra plot: matplotlib); .png, .svg, .pdf", metavar="FILE")
    running = parser.add_argument_group("running")
    add(running, "--threads", "threads (default: the CPUs that this process may use)", type=int, metavar="N")
    add(running, "--log-interval", "print the loss every N batches", type=int, metavar="N")
    add(running, "--dry-run", "one batch per epoch, to see that everything works", action="store_true")
    add(running, "--profile", "say at the end where the time of a training step went", action="store_true")
    add(
        running,
        "--find-lr",
        "do not train: sweep the learning rate from 1e-4 to where the loss diverges, and suggest one; --plot draws the curve",
        action="store_true",
    )
    add(running, "--times", "say at the end what the seconds were spent on", action="store_true")
    add(running, "--quiet", "print nothing but the final accuracy", action="store_true")
    add(
        running,
        "--allow-level-change",
        "resume a checkpoint of another instruction-set level: the last bits will differ",
        action="store_true",
    )
    return parser


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of this run: the recipe's, the defaults and what was given, or those of the checkpoint to resume."""
    if "resume" not in given:
        known = _SETTINGS | asdict(RECIPES[given.get("recipe", "default")])
        return known | {name: value for name, value in given.items() if name in known}
    _, facts = load_checkpoint(given["resume"])
    saved = facts.get("settings")
    if not isinstance(saved, dict) or saved.keys() != _SETTINGS.keys() | Recipe.__dataclass_fields__.keys():
        raise CheckpointError(f"{given['resume']}: was not made by this command; resume it with fastlenet.fit")
    for name, value in given.items():
        if name in saved and saved[name] != value:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} {value} contradicts {given['resume']}, which was made with {saved[name]}; leave it out")
    return saved


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
            raise UsageError(f"--{error}") from None
    return data


def _recipe(settings: dict[str, Any]) -> Recipe:
    try:
        return Recipe(**{name: settings[name] for name in Recipe.__dataclass_fields__})
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UsageError(f"--{name.replace('_', '-')} {rest}") from None


def _check_flags(given: dict[str, Any]) -> None:
    for flag, least in (("threads", 1), ("log_interval", 0), ("validation", 0), ("test_batch_size", 1), ("ensemble", 1)):
        if given.get(flag, least) < least:
            raise UsageError(f"--{flag.replace('_', '-')} expects an integer of at least {least}, got {given[flag]}")
    if given.get("ensemble", 1) > 1 and "load_model" in given:
        raise UsageError(f"--load-model {given['load_model']}: the networks of an ensemble start anew; leave it out")
    if "checkpoint" in given and given["checkpoint"] != given.get("resume") and Path(given["checkpoint"]).exists():
        raise UsageError(f"--checkpoint {given['checkpoint']}: exists; go on with --resume, or choose another name")
    for name in ("checkpoint", "save_model", "log_json", "plot"):
        if name in given:
            expect_writable(given[name])
    if "plot" in given:
        expect_plottable(given["plot"])


def _free_name() -> Path:
    """Where to save without --checkpoint: never over an earlier interrupted run."""
    number, path = 1, Path(f"{_INTERRUPTED}.safetensors")
    while path.exists():
        number += 1
        path = Path(f"{_INTERRUPTED}-{number}.safetensors")
    return path


def _announce(console: Console, trainer: Trainer, settings: dict[str, Any]) -> None:
    facts, recipe, data = config(), trainer.recipe, trainer.data
    console.say(
        f"fastlenet {facts['version']}   level {facts['level']}   threads {facts['threads']}   seed {recipe.seed}\n"
        f"{data.name}: {len(data.test_images)} test images, {len(data.train_images)} training images\n"
    )
    for name, array in trainer.model.parameters().items():
        console.say(f"  {name:<13} {array.shape}")
    console.say(f"  {trainer.model.parameter_buffer.size} parameters\n")
    changed = replace(recipe, seed=0) != RECIPES[settings["recipe"]]
    console.say(textwrap.fill(f"recipe {settings['recipe']}{' with changes' if changed else ''}: {recipe}", 100))
    if recipe.tta:
        console.say("test-time augmentation: each test image is seen five times, as it is and moved by one pixel")


def _load_members(path: str, model: Callable[[int], LeNet]) -> list[LeNet]:
    """The networks of a file that --save-model wrote: several where it is an ensemble."""
    models = []
    for number, state in enumerate(split_members(load_model(path), path)):
        models.append(model(number))
        try:
            models[-1].load_state_dict(state)
        except ValueError as error:
            raise CheckpointError(f"{path}: not this network's parameters; {error}") from None
    return models


def _expect_no_training(recipe: Recipe, path: str, given: dict[str, Any]) -> Recipe:
    """The recipe of no epochs, with which an ensemble's file is evaluated; UsageError if training was asked for."""
    if given.get("epochs", 0):
        raise UsageError(f"--epochs {given['epochs']}: {path} is an ensemble, which can be evaluated, not trained on")
    return replace(recipe, epochs=0)


def _train(given: dict[str, Any]) -> int:
    _check_flags(given)
    settings = _settings(given)
    recipe = _recipe(settings)
    if "threads" in given:
        set_num_threads(given["threads"])
    start = time.perf_counter()
    data = _load_data(settings)
    seconds = {"data": time.perf_counter() - start}
    profiler = Profiler() if given.get("profile", False) else None

    def model(member: int) -> LeNet:
        return LeNet.of(replace(recipe, seed=recipe.seed + member), classes=data.classes, ops=profiler or ops)

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
            settings=settings,
        )

    run = EnsembleRun(trainer, max(settings["ensemble"], len(loaded)))
    if "resume" in given:
        run.restore(given["resume"], settings["seed"], allow_level_change=given.get("allow_level_change", False))
    console = Console(given.get("quiet", False), given.get("log_interval", 0))
    _announce(console, run.trainer, settings)
    listeners: list[Listener] = [console]
    if given.get("find_lr", False):
        return _find_lr(run.trainer, console, given.get("plot"))
    if "log_json" in given:
        try:
            listeners.append(JsonLog(given["log_json"], "resume" in given))
        except OSError as error:
            raise UsageError(f"--log-json {given['log_json']}: cannot be written ({error.strerror})") from None
    checkpoint = given.get("checkpoint", given.get("resume"))
    if checkpoint is not None:
        listeners.append(Saver(checkpoint))
    if "plot" in given:  # after the saver, so that a picture that cannot be written loses nothing
        listeners.append(Plot(given["plot"]))
    if profiler is not None:
        listeners.append(StepProfile(profiler))
    return _run(run, console, listeners, checkpoint, given, seconds)


def _find_lr(trainer: Trainer, console: Console, plot: str | None) -> int:
    sweep = find_lr(trainer.model, trainer.data, trainer.recipe)
    console.say(sweep.table())
    if plot is not None:
        plot_sweep(sweep, plot)
    print(f"suggested --lr {sweep.suggestion:.2g}", flush=True)
    return 0


def _run(
    run: EnsembleRun,
    console: Console,
    listeners: Sequence[Listener],
    checkpoint: str | None,
    given: dict[str, Any],
    seconds: dict[str, float],
) -> int:
    def stop(number: int, frame: FrameType | None) -> None:
        run.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second Ctrl-C stops at once

    before = signal.signal(signal.SIGINT, stop)
    try:
        states = run.run(*listeners, started=lambda trainer: _say_start(console, run, trainer))
    except InterruptedRunError:
        path = Path(checkpoint) if checkpoint is not None else _free_name()
        run.trainer.save(path)
        console.close()
        print(f"\ninterrupted; saved. To go on: python -m fastlenet.train --resume {path}", file=sys.stderr)
        return _CTRL_C
    except DivergedError as error:
        kept = f"; {checkpoint} holds the last good state" if checkpoint is not None and Path(checkpoint).exists() else ""
        raise DivergedError(f"{error}; a smaller --lr may help{kept}") from None
    finally:
        console.close()
        signal.signal(signal.SIGINT, before)
    if "save_model" in given:
        save_model(given["save_model"], join_members(states))
        console.say(f"saved {given['save_model']}")
    accuracy = run.evaluate(states, report=console.say)
    seconds |= {"training": run.training_seconds, "evaluation": run.evaluation_seconds}
    if given.get("times", False):
        print("   ".join(f"{name} {value:.3f} s" for name, value in seconds.items()))
    print(f"final accuracy {accuracy:.2%}", flush=True)
    return 0


def _say_start(console: Console, run: EnsembleRun, trainer: Trainer) -> None:
    if run.count > 1:
        console.say(f"\nnetwork {run.member + 1} of {run.count}, seed {trainer.recipe.seed}")
    if trainer.epoch or trainer.position:
        console.say(f"resumed in epoch {trainer.epoch + 1} at step {trainer.position}")
    elif not console.quiet:
        console.say(f"before training   accuracy {trainer.evaluate()[0]:7.2%}")


def _fail(message: str) -> NoReturn:
    print(f"fastlenet.train: error: {message}", file=sys.stderr)
    sys.exit(_USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code 0 or 130, and exits with 2 for wrong usage or input."""
    given = vars(_parser().parse_args(arguments))
    try:
        return _train(given)
    except (UsageError, DataError, CheckpointError, PlotError, DivergedError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return _CTRL_C


if __name__ == "__main__":
    sys.exit(main())
