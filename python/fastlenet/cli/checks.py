"""What can be seen to be wrong with a command line ahead, before anything is read or written."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import cast

from fastlenet.cli.command import UsageError
from fastlenet.cli.parser import flag_of
from fastlenet.cli.settings import Arguments
from fastlenet.files import expect_writable
from fastlenet.training.figures import expect_plottable

__all__ = ["check_arguments"]

# Read first, then written as a whole.
_MAY_BE_THE_SAME = (("resume", "checkpoint"), ("load_model", "save_model"))
# What --find-lr would leave undone, since it does not train.
_NOT_WITH_FIND_LR = ("checkpoint", "save_model", "log_json", "profile", "times")


def check_arguments(arguments: Arguments) -> None:
    """UsageError or CheckpointError for what can be seen ahead."""
    options, changes = arguments.options, arguments.changes
    if "load_model" in changes and int(changes.get("ensemble", 1)) > 1:
        raise UsageError(f"--load-model {changes['load_model']}: an ensemble's networks start from new weights; leave it out")
    undone = [name for name in _NOT_WITH_FIND_LR if getattr(options, name)]
    undone += [name for name in ("ensemble", "teacher") if name in changes]
    if options.find_lr and undone:
        raise UsageError(f"--find-lr does not train; leave out {', '.join(map(flag_of, undone))}")
    _check_files(arguments)
    if options.plot is not None:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # what it says of its cache folder is not of this run
        expect_plottable(options.plot)


def _check_files(arguments: Arguments) -> None:
    """The files to be written: each another, none that is read (but a checkpoint that goes on), all of them possible."""
    options = arguments.options
    changes = arguments.changes
    named = [(name, str(changes[name])) for name in ("load_model", "sample_weight") if name in changes]
    teachers = [("teacher", path) for path in cast("list[str]", changes.get("teacher", []))]
    inputs = [("resume", options.resume), *named, *teachers]
    outputs = {name: getattr(options, name) for name in ("checkpoint", "save_model", "log_json", "plot")}
    taken: dict[str, str] = {}
    for name, path in (*inputs, *outputs.items()):
        first = name if path is None else taken.setdefault(_real(name, path), name)
        if first != name and (first, name) not in _MAY_BE_THE_SAME:
            raise UsageError(f"{flag_of(first)} and {flag_of(name)} are both {path}; give each a file of its own")
    for name, path in outputs.items():
        if path is not None:
            expect_writable(path, as_a_whole=name != "log_json")
    if options.checkpoint is not None:
        anew = taken[_real("checkpoint", options.checkpoint)] != "resume"
        if anew and Path(options.checkpoint).exists():
            raise UsageError(f"--checkpoint {options.checkpoint}: exists; continue with --resume, or choose another name")
    elif options.resume is not None:
        expect_writable(options.resume)


def _real(name: str, path: str) -> str:
    """Where a file lies, links followed."""
    try:
        return os.path.realpath(path)
    except OSError as error:  # of the working folder, which a relative name needs
        raise UsageError(f"{flag_of(name)} {path}: the working folder is gone ({error.strerror}); give a full name") from None
