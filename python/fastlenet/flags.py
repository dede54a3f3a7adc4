"""The flags of python -m fastlenet.train: what they are called, what they may say, what they come to."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fastlenet.checkpoint import expect_writable
from fastlenet.command import UsageError
from fastlenet.data import TORCHVISION_NAMES
from fastlenet.evaluation import BATCH_SIZE
from fastlenet.plotting import expect_plottable
from fastlenet.recipe import CHOICES, RECIPES, Recipe

__all__ = ["SETTINGS", "add_recipe_flags", "check_flags", "make_parser", "recipe_of", "settings_of"]

# Beside the recipe's fields, what decides the result or what is reported of it: a checkpoint holds both, for --resume.
SETTINGS: dict[str, Any] = {
    "recipe": "default",
    "ensemble": 1,
    "test_batch_size": BATCH_SIZE,
    "validation": 0,
    "dry_run": False,
    "data_dir": None,
    "dataset": None,
    "load_model": None,
    "device": "cpu",
}
# Flag, least, most.
_RANGES: tuple[tuple[str, int, int | None], ...] = (
    ("threads", 1, 4096),
    ("log_interval", 0, None),
    ("validation", 0, None),
    ("test_batch_size", 1, None),
    ("ensemble", 1, None),
)

# Read first, then written as a whole.
_MAY_BE_THE_SAME = (("resume", "checkpoint"), ("load_model", "save_model"))


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    """--recipe, and a flag for every field of a Recipe."""
    group = parser.add_argument_group("recipe", "Named recipes, and a flag for each of their fields; 0 is off.")
    names = "; ".join(f"{name}: {recipe}" for name, recipe in RECIPES.items())
    _add(group, "--recipe", names, choices=tuple(RECIPES))
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


def _add(group: Any, flag: str, help: str, **options: Any) -> None:
    """A flag that leaves no trace when it is not given."""
    default = SETTINGS.get(flag[2:].replace("-", "_"))
    text = help + (f" (default: {default})" if default not in (None, False) else "")
    group.add_argument(flag, help=text, default=argparse.SUPPRESS, **options)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastlenet.train",
        description="Train LeNet (431,080 parameters) on MNIST, which is part of the package, and report the test accuracy "
        "after each epoch. The same seed gives the same bits, whatever the number of threads.",
        epilog="Ctrl-C saves the training state and says how to go on. Exit codes: 0 done, 2 wrong usage or input, 130 Ctrl-C, "
        "141 where the reader of the output has gone.",
    )

    add_recipe_flags(parser)
    _add(parser, "--ensemble", "train N networks, of seeds S, S+1, ..., and average their probabilities", type=int, metavar="N")
    data = parser.add_argument_group("data")
    _add(
        data,
        "--data-dir",
        "folder of four IDX files (train-images-idx3-ubyte, ...), raw or .gz, instead of MNIST",
        metavar="DIR",
    )
    _add(
        data,
        "--dataset",
        "a data set of torchvision (extra torchvision), under --data-dir or ./data",
        choices=TORCHVISION_NAMES,
    )
    _add(
        data,
        "--validation",
        "hold out the last N training images, and report on them instead of the test set",
        type=int,
        metavar="N",
    )
    _add(data, "--test-batch-size", "images per batch of the evaluation", type=int, metavar="N")
    files = parser.add_argument_group("files")
    _add(files, "--save-model", "write the final parameters (safetensors)", metavar="FILE")
    _add(files, "--load-model", "start from these parameters (safetensors); with --epochs 0, evaluate them", metavar="FILE")
    _add(files, "--checkpoint", "save the training state here after each epoch and every 10 s", metavar="FILE")
    _add(
        files,
        "--resume",
        "go on from a checkpoint, with all its settings; saves to the same file unless told otherwise",
        metavar="FILE",
    )
    _add(files, "--log-json", "write one JSON object per epoch", metavar="FILE")
    _add(files, "--plot", "draw loss and accuracy after each epoch (extra plot: matplotlib); .png, .svg, .pdf", metavar="FILE")
    running = parser.add_argument_group("running")
    _add(running, "--device", "where to compute; cuda needs a build with FASTLENET_CUDA=ON", choices=("cpu", "cuda"))
    _add(running, "--threads", "threads (default: the CPUs that this process may use)", type=int, metavar="N")
    _add(running, "--log-interval", "print the loss every N batches", type=int, metavar="N")
    _add(running, "--dry-run", "one batch per epoch, to see that everything works", action="store_true")
    _add(running, "--profile", "say at the end where the time of a training step went", action="store_true")
    _add(
        running,
        "--find-lr",
        "do not train: sweep the learning rate from 1e-4 to where the loss diverges, and suggest one; --plot draws the curve",
        action="store_true",
    )
    _add(running, "--times", "say at the end what the seconds were spent on", action="store_true")
    _add(running, "--quiet", "print nothing but the final accuracy", action="store_true")
    _add(
        running,
        "--allow-level-change",
        "resume a checkpoint of another instruction-set level, or on another --device: the last bits will differ",
        action="store_true",
    )
    return parser


def settings_of(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a new run: the recipe's, the defaults, and what was given."""
    known = SETTINGS | asdict(RECIPES[given.get("recipe", "default")])
    return known | {name: value for name, value in given.items() if name in known}


def recipe_of(settings: dict[str, Any]) -> Recipe:
    """The recipe in the settings. Raises UsageError, which names the flag that is out of its range."""
    try:
        return Recipe(**{name: settings[name] for name in Recipe.__dataclass_fields__})
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UsageError(f"--{name.replace('_', '-')} {rest}") from None


def check_flags(given: dict[str, Any]) -> None:
    """UsageError or CheckpointError, before anything is read or written, for what can be seen to be wrong ahead."""
    for flag, least, most in _RANGES:
        value = given.get(flag, least)
        if not least <= value <= (value if most is None else most):
            expected = f"an integer of at least {least}" if most is None else f"an integer in {least}..{most}"
            raise UsageError(f"--{flag.replace('_', '-')} expects {expected}, got {value}")
    if given.get("ensemble", 1) > 1 and "load_model" in given:
        raise UsageError(f"--load-model {given['load_model']}: the networks of an ensemble start anew; leave it out")
    _check_files(given)
    if "plot" in given:
        expect_plottable(given["plot"])


def _check_files(given: dict[str, Any]) -> None:
    """The files to be written: each another, none that is read (but a checkpoint that goes on), all of them possible."""
    outputs = {name: given[name] for name in ("checkpoint", "save_model", "log_json", "plot") if name in given}
    inputs = {name: given[name] for name in ("resume", "load_model") if name in given}
    taken: dict[str, str] = {}
    for name, path in (inputs | outputs).items():
        first = taken.setdefault(os.path.realpath(path), name)
        if first != name and (first, name) not in _MAY_BE_THE_SAME:
            flags = " and ".join(f"--{which.replace('_', '-')}" for which in (first, name))
            raise UsageError(f"{flags} are both {path}; give each a file of its own")
    for name, path in outputs.items():
        expect_writable(path, as_a_whole=name in ("checkpoint", "save_model"))
    goes_on = {"resume", "checkpoint"} <= given.keys() and os.path.realpath(given["checkpoint"]) == os.path.realpath(
        given["resume"]
    )
    if "checkpoint" in given and not goes_on and Path(given["checkpoint"]).exists():
        raise UsageError(f"--checkpoint {given['checkpoint']}: exists; go on with --resume, or choose another name")
    if "resume" in given and "checkpoint" not in given:
        expect_writable(given["resume"])
