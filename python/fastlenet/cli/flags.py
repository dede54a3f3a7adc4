"""The flags of the commands that train: made from the fields of their settings, options and recipe."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from typing import TYPE_CHECKING, NoReturn, TypedDict

from fastlenet.cli.parser import Parser, file_name, flag_of
from fastlenet.cli.settings import Options, Settings
from fastlenet.training.recipe import RECIPES, Recipe

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["add_flags", "add_recipe_flags", "make_parser", "recipe_table"]

# The groups that --help shows after the recipe, and their fields in order.
_GROUPS = {
    "data": ("data", "data_dir", "image_size", "validation", "sample_weight", "test_batch_size"),
    "teacher": ("teacher", "teacher_cache"),
    "files": ("save_model", "load_model", "checkpoint", "resume", "log_json", "plot"),
    "running": (
        *("device", "threads", "mpi", "log_interval", "dry_run", "profile", "find_lr", "times", "quiet", "json"),
        "allow_level_change",
    ),
}


class _How(TypedDict, total=False):
    """The keywords of argparse for a flag."""

    type: Callable[[str], object]
    metavar: str
    choices: tuple[str, ...]
    action: type[argparse.Action] | str
    nargs: str
    const: str


def _how(entry: Field[object], negatable: bool) -> _How:
    """How a command line writes a field. negatable: a switch may have --no- before it."""
    if "metavar" in entry.metadata:
        how: _How = {"type": file_name, "metavar": entry.metadata["metavar"]}
        if entry.metadata.get("many"):
            return how | {"action": "append"}
        otherwise = entry.metadata.get("otherwise")
        return how if otherwise is None else how | {"nargs": "?", "const": otherwise}
    values = entry.metadata["values"]
    if values.choices:
        return {"choices": values.choices}
    if values.kind is bool:
        return {"action": argparse.BooleanOptionalAction if negatable else "store_true"}
    return {"type": values.kind, "metavar": "N" if values.kind is int else "X"}


def add_flags(
    group: argparse._ActionsContainer,
    kind: type[DataclassInstance],
    names: Sequence[str] | None = None,
    *,
    defaults: object = None,
) -> None:
    """Add a flag for each field of these names, or for all fields. A flag that is not given has no value.

    defaults: an object with other default values than the fields' own; its switches can be turned off too.
    """
    by_name = {entry.name: entry for entry in fields(kind)}
    for name in by_name if names is None else names:
        entry = by_name[name]
        default = entry.default if defaults is None else getattr(defaults, name)
        text = "" if not default else " (default: yes)" if default is True else f" (default: {default})"
        help = f"{entry.metadata['help']}{text}".replace("%", "%%")
        how = _how(entry, defaults is not None)
        flags = flag_of(name), *entry.metadata.get("flags", ())
        group.add_argument(*flags, help=help, default=argparse.SUPPRESS, **how)


def add_recipe_flags(parser: argparse.ArgumentParser, *others: str) -> None:
    """Add --recipe, the settings of these other names, and a flag for every field of a Recipe."""
    group = parser.add_argument_group("recipe", "Choose a named recipe, and change its fields by flags; 0 turns a setting off.")
    add_flags(group, Settings, ("recipe",))
    group.add_argument("--list-recipes", action=_ListRecipes, help="print the named recipes as a table, and exit")
    add_flags(group, Settings, others)
    add_flags(group, Recipe, defaults=RECIPES["default"])


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


def make_parser(prog: str) -> Parser:
    parser = Parser(
        prog,
        "Train LeNet (431,080 parameters) on MNIST, which is part of the package, or on your own images, and report the "
        "accuracy after each epoch. The same seed gives the same bits, for any number of threads.",
        [
            (prog, "the default recipe, about 99.6 %"),
            (f"{prog} --recipe fast --times", "one epoch; print the time of each part"),
            (f"{prog} --data photos", "train on the pictures in photos/CLASS/"),
            (f"{prog} --save-model model.safetensors", "save the trained parameters"),
            (f"{prog} --checkpoint state.safetensors", "save the training state regularly"),
            (f"{prog} --resume state.safetensors", "continue from a saved state"),
            (f"{prog} --ensemble 10 --workers 2 --results ten.jsonl", "ten networks, two at a time"),
        ],
        "Ctrl-C, SIGTERM and SIGHUP save the training state; the command then prints how to continue. Exit codes: 0 success, "
        "2 wrong usage or input, or a file that could not be written, 70 a fault in fastlenet, 130 Ctrl-C, 143 SIGTERM, "
        "129 SIGHUP, 141 the output was closed (SIGPIPE).",
    )
    add_recipe_flags(parser, "network", "ensemble", "looks", "weigh")
    settings = {entry.name for entry in fields(Settings)}
    for title, names in _GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            add_flags(group, Settings if name in settings else Options, (name,))
    return parser
