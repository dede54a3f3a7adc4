"""Train LeNet on MNIST from the command line: python -m fastlenet.train"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn

from fastlenet import ops
from fastlenet.checkpoint import CheckpointError, expect_writable, load_checkpoint, load_model, save_model
from fastlenet.config import config, set_num_threads
from fastlenet.data import TORCHVISION_NAMES, DataError, Dataset, load_idx_directory, load_mnist, load_torchvision
from fastlenet.lenet import LeNet
from fastlenet.profiling import Profiler
from fastlenet.trainer import Epoch, InterruptedRunError, Listener, Recipe, Saver, Trainer, evaluate

__all__ = ["main"]

_INTERRUPTED = "fastlenet-interrupted"
_USAGE, _CTRL_C = 2, 130

# Everything that decides the result or what is reported of it: a checkpoint holds these, and --resume takes them from it.
_SETTINGS: dict[str, Any] = {
    "batch_size": Recipe.batch_size,
    "test_batch_size": 1000,
    "epochs": Recipe.epochs,
    "lr": Recipe.lr,
    "momentum": Recipe.momentum,
    "warm_up": Recipe.warm_up,
    "weight_decay": Recipe.weight_decay,
    "label_smoothing": Recipe.label_smoothing,
    "seed": Recipe.seed,
    "validation": 0,
    "dry_run": False,
    "data_dir": None,
    "dataset": None,
    "load_model": None,
}


class UsageError(ValueError):
    """A command line that makes no sense; one line."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastlenet.train",
        description="Train LeNet (431,080 parameters) on MNIST, which is part of the package, and report the test accuracy "
        "after each epoch. The same seed gives the same bits, whatever the number of threads.",
        epilog="Ctrl-C saves the training state and says how to go on. Exit codes: 0 done, 2 wrong usage or input, 130 Ctrl-C.",
    )

    def add(group: Any, flag: str, help: str, **options: Any) -> None:
        default = _SETTINGS.get(flag[2:].replace("-", "_"))
        text = help + (f" (default: {default})" if default not in (None, False) else "")
        group.add_argument(flag, help=text, default=argparse.SUPPRESS, **options)

    recipe = parser.add_argument_group("recipe: SGD with Nesterov momentum and a one-cycle rate")
    add(recipe, "--epochs", "passes over the training images; 0 only evaluates", type=int, metavar="N")
    add(recipe, "--batch-size", "images per step", type=int, metavar="N")
    add(recipe, "--lr", "peak learning rate: reached linearly, then left linearly for zero", type=float, metavar="RATE")
    add(recipe, "--warm-up", "share of the steps in which the rate rises", type=float, metavar="SHARE")
    add(recipe, "--momentum", "momentum", type=float, metavar="M")
    add(recipe, "--weight-decay", "L2 penalty", type=float, metavar="W")
    add(recipe, "--label-smoothing", "label smoothing", type=float, metavar="E")
    add(recipe, "--seed", "of the initial weights and the order of the images", type=int, metavar="S")
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
    running = parser.add_argument_group("running")
    add(running, "--threads", "threads (default: the CPUs that this process may use)", type=int, metavar="N")
    add(running, "--log-interval", "print the loss every N batches", type=int, metavar="N")
    add(running, "--dry-run", "one batch per epoch, to see that everything works", action="store_true")
    add(running, "--profile", "say at the end where the time of a training step went", action="store_true")
    add(running, "--quiet", "print nothing but the final accuracy", action="store_true")
    add(
        running,
        "--allow-level-change",
        "resume a checkpoint of another instruction-set level: the last bits will differ",
        action="store_true",
    )
    return parser


class Console(Listener):
    """What the user sees: a line per epoch; while one runs, a bar on a terminal, or a line every log_interval batches."""

    def __init__(self, quiet: bool, log_interval: int) -> None:
        self.quiet, self.log_interval = quiet, log_interval
        self._bar: Any = None

    def say(self, text: str = "") -> None:
        if not self.quiet:
            print(text, flush=True)

    def _open_bar(self, trainer: Trainer, done: int) -> None:
        from tqdm import tqdm

        total = min(len(trainer.data.train_images), trainer.batches * trainer.recipe.batch_size)
        # disable=None: silent when standard error is not a terminal.
        self._bar = tqdm(
            desc=f"epoch {trainer.epoch + 1}/{trainer.recipe.epochs}",
            total=total,
            initial=done,
            unit=" images",
            leave=False,
            disable=True if self.quiet else None,
            mininterval=0.1,
        )

    def batch(self, trainer: Trainer, loss: float, images: int) -> None:
        if self._bar is None:
            self._open_bar(trainer, trainer.images - images)
        self._bar.set_postfix_str(f"loss {trainer.loss_sum / trainer.images:.4f}", refresh=False)
        self._bar.update(images)
        if self.log_interval and trainer.position % self.log_interval == 0:
            seen, total = trainer.images, len(trainer.data.train_images)
            self.say(f"Train Epoch: {trainer.epoch + 1} [{seen}/{total} ({seen / total:.0%})]\tLoss: {loss:.6f}")

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        self.close()
        assert epoch.accuracy is not None
        self.say(
            f"epoch {epoch.epoch}/{trainer.recipe.epochs}   accuracy {epoch.accuracy:7.2%}   loss {epoch.loss:.4f}   "
            f"{epoch.seconds:.2f} s   {epoch.images_per_second:,.0f} images/s"
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class JsonLog(Listener):
    """One line of JSON per epoch, on disk as soon as the epoch is over."""

    def __init__(self, path: str, resumed: bool) -> None:
        try:
            self._stream: IO[str] = open(path, "a" if resumed else "w", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"--log-json {path}: cannot be written ({error.strerror})") from None

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        print(json.dumps(asdict(epoch)), file=self._stream, flush=True)


class StepProfile(Listener):
    """Prints, after the last epoch, what its training steps spent their time on; evaluation is left out."""

    def __init__(self, profiler: Profiler) -> None:
        self._profiler = profiler
        self._table = ""

    def batch(self, trainer: Trainer, loss: float, images: int) -> None:
        if trainer.position == 1:  # the first step makes the buffers
            self._profiler.reset()
            self._before = trainer.seconds
        elif trainer.position == trainer.batches:
            self._table = self._profiler.table(trainer.seconds - self._before, trainer.batches - 1)

    def epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        if trainer.epoch == trainer.recipe.epochs and self._table:
            print(self._table, flush=True)


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of this run: the defaults and what was given, or those of the checkpoint to resume."""
    if "resume" not in given:
        return _SETTINGS | {name: value for name, value in given.items() if name in _SETTINGS}
    _, facts = load_checkpoint(given["resume"])
    saved = facts.get("settings")
    if not isinstance(saved, dict) or saved.keys() != _SETTINGS.keys():
        raise CheckpointError(f"{given['resume']}: was not made by this command; resume it with fastlenet.fit")
    for name, value in given.items():
        if name in _SETTINGS and saved[name] != value:
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
    for flag, least in (("threads", 1), ("log_interval", 0), ("validation", 0), ("test_batch_size", 1)):
        if given.get(flag, least) < least:
            raise UsageError(f"--{flag.replace('_', '-')} expects an integer of at least {least}, got {given[flag]}")
    if "checkpoint" in given and given["checkpoint"] != given.get("resume") and Path(given["checkpoint"]).exists():
        raise UsageError(f"--checkpoint {given['checkpoint']}: exists; go on with --resume, or choose another name")
    for name in ("checkpoint", "save_model", "log_json"):
        if name in given:
            expect_writable(given[name])


def _free_name() -> Path:
    """Where to save without --checkpoint: never over an earlier interrupted run."""
    number, path = 1, Path(f"{_INTERRUPTED}.safetensors")
    while path.exists():
        number += 1
        path = Path(f"{_INTERRUPTED}-{number}.safetensors")
    return path


def _announce(console: Console, trainer: Trainer) -> None:
    facts, recipe, data = config(), trainer.recipe, trainer.data
    console.say(
        f"fastlenet {facts['version']}   level {facts['level']}   threads {facts['threads']}   seed {recipe.seed}\n"
        f"{data.name}: {len(data.test_images)} test images, {len(data.train_images)} training images\n"
    )
    for name, array in trainer.model.parameters().items():
        console.say(f"  {name:<13} {array.shape}")
    console.say(f"  {trainer.model.parameter_buffer.size} parameters\n")
    if recipe.epochs:
        console.say(
            f"{recipe.epochs} epochs of {trainer.batches} steps of {recipe.batch_size} images; SGD, Nesterov momentum "
            f"{recipe.momentum:g}, rate up to {recipe.lr:g}"
        )


def _train(given: dict[str, Any]) -> int:
    _check_flags(given)
    settings = _settings(given)
    recipe = _recipe(settings)
    if "threads" in given:
        set_num_threads(given["threads"])
    data = _load_data(settings)
    profiler = Profiler() if given.get("profile", False) else None
    model = LeNet(recipe.seed, classes=data.classes, ops=profiler or ops)
    if settings["load_model"] is not None and "resume" not in given:
        try:
            model.load_state_dict(load_model(settings["load_model"]))
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(f"{settings['load_model']}: not this network's parameters; {error}") from None
    trainer = Trainer(
        model,
        data,
        recipe,
        test_batch_size=settings["test_batch_size"],
        batches_per_epoch=1 if settings["dry_run"] else None,
        settings=settings,
    )
    if "resume" in given:
        trainer.restore(given["resume"], allow_level_change=given.get("allow_level_change", False))
    console = Console(given.get("quiet", False), given.get("log_interval", 0))
    listeners: list[Listener] = [console]
    if "log_json" in given:
        listeners.append(JsonLog(given["log_json"], "resume" in given))
    checkpoint = given.get("checkpoint", given.get("resume"))
    if checkpoint is not None:
        listeners.append(Saver(checkpoint))

    _announce(console, trainer)
    if profiler is not None:
        listeners.append(StepProfile(profiler))
    return _run(trainer, console, listeners, checkpoint, given)


def _run(
    trainer: Trainer, console: Console, listeners: Sequence[Listener], checkpoint: str | None, given: dict[str, Any]
) -> int:
    def stop(number: int, frame: FrameType | None) -> None:
        trainer.stop_requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second Ctrl-C stops at once

    before = signal.signal(signal.SIGINT, stop)
    try:
        if trainer.epoch or trainer.position:
            console.say(f"resumed in epoch {trainer.epoch + 1} at step {trainer.position}")
            accuracy = trainer.history.accuracy
        else:
            accuracy, _ = evaluate(trainer.model, trainer.data, trainer.test_batch_size)
            console.say(f"before training   accuracy {accuracy:7.2%}")
        trainer.run(*listeners)
    except InterruptedRunError:
        path = Path(checkpoint) if checkpoint is not None else _free_name()
        trainer.save(path)
        console.close()
        print(f"\ninterrupted; saved. To go on: python -m fastlenet.train --resume {path}", file=sys.stderr)
        return _CTRL_C
    finally:
        console.close()
        signal.signal(signal.SIGINT, before)
    if trainer.history.accuracy is not None:
        accuracy = trainer.history.accuracy
    if "save_model" in given:
        save_model(given["save_model"], trainer.model.state_dict())
        console.say(f"saved {given['save_model']}")
    if accuracy is not None:
        print(f"final accuracy {accuracy:.2%}", flush=True)
    return 0


def _fail(message: str) -> NoReturn:
    print(f"fastlenet.train: error: {message}", file=sys.stderr)
    sys.exit(_USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code 0 or 130, and exits with 2 for wrong usage or input."""
    given = vars(_parser().parse_args(arguments))
    try:
        return _train(given)
    except (UsageError, DataError, CheckpointError, FloatingPointError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return _CTRL_C


if __name__ == "__main__":
    sys.exit(main())
