"""The flags of `fastlenet train`: their names, their values, and the settings that they make."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

from fastlenet.cli.command import UsageError
from fastlenet.cli.parser import Parser, file_name, flag_of
from fastlenet.data import TORCHVISION_NAMES
from fastlenet.fields import INT64_MAX
from fastlenet.files import expect_writable
from fastlenet.training.checkpoint import MAX_MEMBERS
from fastlenet.training.evaluation import BATCH_SIZE
from fastlenet.training.figures import expect_plottable
from fastlenet.training.recipe import CHOICES, RECIPES, Recipe

__all__ = [
    "SETTINGS",
    "add_recipe_flags",
    "check_flags",
    "expect_in_range",
    "expect_seeds",
    "make_parser",
    "recipe_of",
    "settings_of",
    "usage_error",
]

# The settings besides the recipe's fields that affect the result or the report. A checkpoint holds both, for --resume.
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
# Flag: least, most. A command checks those flags that it has.
_RANGES: dict[str, tuple[int, int]] = {
    "threads": (1, 4096),
    "log_interval": (0, INT64_MAX),
    "validation": (0, INT64_MAX),
    "test_batch_size": (1, INT64_MAX),
    "ensemble": (1, MAX_MEMBERS),
    "seeds": (1, INT64_MAX),
}

# The first of these is read before the second is written, so both may name the same file.
_MAY_BE_THE_SAME = (("resume", "checkpoint"), ("load_model", "save_model"))


# The flags that --find-lr would ignore, since it does not train.
_NOT_WITH_FIND_LR = ("checkpoint", "save_model", "log_json", "ensemble", "profile", "times")


_FILE: dict[str, Any] = {"type": file_name, "metavar": "FILE"}


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    """Add --recipe, and a flag for every field of a Recipe."""
    group = parser.add_argument_group("recipe", "Named recipes, and a flag for each of their fields; 0 is off.")
    _add(group, "--recipe", "named recipe; --list-recipes shows what each sets", choices=tuple(RECIPES))
    group.add_argument("--list-recipes", action=_ListRecipes, help="print the named recipes as a table, and exit")
    for field in fields(Recipe):
        kind: type = type(field.default)
        options: dict[str, Any] = {"type": kind, "metavar": {int: "N", float: "X"}.get(kind)}
        if kind is bool:
            options = {"action": argparse.BooleanOptionalAction}
        elif kind is str:
            options = {"choices": CHOICES[field.name]}
        default = getattr(RECIPES["default"], field.name)
        text = field.metadata["help"] + (
            "" if not default else " (default: yes)" if default is True else f" (default: {default})"
        )
        group.add_argument(flag_of(field.name), help=text, default=argparse.SUPPRESS, **options)


class _ListRecipes(argparse.Action):
    """Prints the table and exits, as --help does."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(recipe_table())
        parser.exit()


def recipe_table() -> str:
    """A table of the named recipes, one column each. 0 and False are shown as -, for off."""
    rows = [("", *RECIPES)]
    for name in (field.name for field in fields(Recipe)):
        values = [getattr(recipe, name) for recipe in RECIPES.values()]
        if any(values):
            rows.append((flag_of(name), *("-" if not value else "yes" if value is True else str(value) for value in values)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True)).rstrip() for row in rows)


def _add(group: Any, flag: str, help: str, **options: Any) -> None:
    """Add a flag that has no value if it is not given."""
    default = SETTINGS.get(flag[2:].replace("-", "_"))
    text = help + (f" (default: {default})" if default not in (None, False) else "")
    group.add_argument(flag, help=text, default=argparse.SUPPRESS, **options)


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Train LeNet (431,080 parameters) on MNIST, which is part of the package, and report the test accuracy after each "
        "epoch. The same seed gives the same bits, for any number of threads.",
        [
            (prog, "the default recipe, about 99.6 %"),
            (f"{prog} --recipe fast --times", "one epoch; print the time of each part"),
            (f"{prog} --save-model model.safetensors", "save the trained parameters"),
            (f"{prog} --checkpoint state.safetensors", "save the training state regularly"),
            (f"{prog} --resume state.safetensors", "continue from a saved state"),
        ],
        "Ctrl-C, SIGTERM and SIGHUP save the training state; the command then prints how to continue. Exit codes: 0 success, "
        "2 wrong usage or input, or a file that could not be written, 3 a fault in fastlenet, 130 Ctrl-C, 143 SIGTERM, "
        "129 SIGHUP, 141 the output was closed (SIGPIPE).",
    )
    add_recipe_flags(parser)
    _add(
        parser, "--ensemble", "train N networks with seeds S, S+1, ..., and average their probabilities", type=int, metavar="N"
    )
    data = parser.add_argument_group("data")
    _add(
        data,
        "--data-dir",
        "use the four IDX files (train-images-idx3-ubyte, ...), raw or .gz, in this folder instead of MNIST",
        type=file_name,
        metavar="DIR",
    )
    _add(
        data,
        "--dataset",
        "use a data set of torchvision (extra torchvision), in --data-dir or ./data",
        choices=TORCHVISION_NAMES,
    )
    _add(
        data,
        "--validation",
        "hold out the last N training images and evaluate on them instead of the test set",
        type=int,
        metavar="N",
    )
    _add(data, "--test-batch-size", "images per batch in evaluation", type=int, metavar="N")
    files = parser.add_argument_group("files")
    _add(files, "--save-model", "write the final parameters to FILE (safetensors)", **_FILE)
    _add(
        files,
        "--load-model",
        "start from the parameters in FILE (safetensors); with --epochs 0, only evaluate them",
        **_FILE,
    )
    _add(files, "--checkpoint", "save the training state to FILE after each epoch and every 10 s", **_FILE)
    _add(
        files,
        "--resume",
        "continue from a checkpoint with its settings; you may change --epochs and --data-dir; saves to the same FILE unless "
        "--checkpoint names another",
        **_FILE,
    )
    _add(files, "--log-json", "write one JSON object per epoch to FILE", **_FILE)
    _add(
        files,
        "--plot",
        "plot loss and accuracy to FILE after each epoch (.png, .svg, .pdf; extra plot)",
        **_FILE,
    )
    running = parser.add_argument_group("running")
    _add(running, "--device", "device to compute on; cuda needs a build with FASTLENET_CUDA=ON", choices=("cpu", "cuda"))
    _add(running, "--threads", "number of threads (default: the CPUs that this process may use)", type=int, metavar="N")
    _add(running, "--log-interval", "print the loss every N batches", type=int, metavar="N")
    _add(running, "--dry-run", "train one batch per epoch, to test that everything works", action="store_true")
    _add(running, "--profile", "print a table of the time of each op in a training step", action="store_true")
    _add(
        running,
        "--find-lr",
        "do not train; raise the learning rate from 1e-4 until the loss diverges, and suggest one; --plot draws the curve",
        action="store_true",
    )
    _add(running, "--times", "print the seconds spent on data, training and evaluation", action="store_true")
    _add(running, "--quiet", "print nothing but the final accuracy", action="store_true")
    _add(
        running,
        "--allow-level-change",
        "resume a checkpoint of another instruction-set level or another --device; the last bits will differ",
        action="store_true",
    )
    return parser


def settings_of(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a new run: the defaults, the recipe's, then the given ones."""
    known = SETTINGS | asdict(RECIPES[given.get("recipe", "default")])
    return known | {name: value for name, value in given.items() if name in known}


def recipe_of(settings: dict[str, Any]) -> Recipe:
    """The recipe in the settings. Raises UsageError, which names the flag that is out of its range."""
    try:
        recipe = Recipe(**{name: settings[name] for name in Recipe.__dataclass_fields__})
    except ValueError as error:
        raise usage_error(error) from None
    expect_seeds(recipe, settings.get("ensemble", 1))
    return recipe


def usage_error(error: ValueError) -> UsageError:
    """The error with the flag's name, for an error whose message begins with a setting's name."""
    name, _, rest = str(error).partition(" ")
    return UsageError(f"{flag_of(name)} {rest}")


def expect_seeds(recipe: Recipe, count: int) -> None:
    """Raise UsageError unless `count` networks have valid seeds, counted from the recipe's."""
    last = 2**64 - 1
    if recipe.seed + count - 1 > last:
        raise UsageError(f"--seed expects at most {last - count + 1} for {count} networks, got {recipe.seed}")


def expect_in_range(given: dict[str, Any]) -> None:
    """Raise UsageError for a number out of its range."""
    for name, (least, most) in _RANGES.items():
        value = given.get(name, least)
        if not least <= value <= most:
            expected = f"an integer in {least}..{most}"
            if most == INT64_MAX:
                expected = f"an integer of at least {least}" if value < least else "an integer below 2^63"
            raise UsageError(f"{flag_of(name)} expects {expected}, got {value}")


def check_flags(given: dict[str, Any]) -> None:
    """Check the flags before anything is read or written. Raises UsageError or CheckpointError."""
    expect_in_range(given)
    if given.get("ensemble", 1) > 1 and "load_model" in given:
        raise UsageError(f"--load-model {given['load_model']}: the networks of an ensemble start anew; leave it out")
    undone = [name for name in _NOT_WITH_FIND_LR if given.get("find_lr", False) and name in given]
    if undone:
        raise UsageError(f"--find-lr does not train; leave out {', '.join(map(flag_of, undone))}")
    _check_files(given)
    if "plot" in given:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # no warnings about its cache folder
        expect_plottable(given["plot"])


def _check_files(given: dict[str, Any]) -> None:
    """Check that the output files are different, that none is also read (except a resumed checkpoint), and can be written."""
    outputs = {name: given[name] for name in ("checkpoint", "save_model", "log_json", "plot") if name in given}
    inputs = {name: given[name] for name in ("resume", "load_model") if name in given}
    taken: dict[str, str] = {}
    for name, path in (inputs | outputs).items():
        first = taken.setdefault(_real(name, path), name)
        if first != name and (first, name) not in _MAY_BE_THE_SAME:
            raise UsageError(f"{flag_of(first)} and {flag_of(name)} are both {path}; give each a file of its own")
    for name, path in outputs.items():
        expect_writable(path, as_a_whole=name != "log_json")
    anew = "checkpoint" in given and taken[_real("checkpoint", given["checkpoint"])] != "resume"
    if anew and Path(given["checkpoint"]).exists():
        raise UsageError(f"--checkpoint {given['checkpoint']}: exists; continue with --resume, or choose another name")
    if "resume" in given and "checkpoint" not in given:
        expect_writable(given["resume"])


def _real(name: str, path: str) -> str:
    """The real path of a file, links followed."""
    try:
        return os.path.realpath(path)
    except OSError as error:  # of the working folder, which a relative name needs
        raise UsageError(f"{flag_of(name)} {path}: the working folder is gone ({error.strerror}); give a full name") from None
