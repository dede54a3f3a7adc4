"""The data set that a command is given."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING

from fastlenet.cli.command import UsageError
from fastlenet.cli.parser import flag_of
from fastlenet.cli.settings import Settings, Value, take_data_dir
from fastlenet.data import Dataset, load
from fastlenet.data.reading import DataFieldError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["SHARE", "fields_given", "load_data"]

SHARE = 0.1  # of the training images is held out, where there are no others to report on


def fields_given(kind: type[DataclassInstance], given: argparse.Namespace) -> dict[str, Value]:
    """The fields of a dataclass whose flags were given."""
    flags = dict(vars(given))
    take_data_dir(flags)
    return {entry.name: flags[entry.name] for entry in fields(kind) if entry.name in flags}


def load_data(settings: Settings) -> Dataset:
    """The data set of --data, --data-dir and --image-size. Raises UsageError and DataError, which name these flags."""
    side = settings.image_size
    try:
        return load(settings.data, root=settings.data_dir, size=None if side is None else (side, side))
    except DataFieldError as error:
        raise _in_words_of_flags(error) from None


def _in_words_of_flags(error: DataFieldError) -> Exception:
    """The error about data, in which a flag stands for the argument `size`."""
    if (error.where, error.field) == ("load: ", "size"):
        return UsageError(error.worded(flag_of("image_size")))
    if "size=(height, width)" not in error.cure:
        return error
    cure = error.cure.replace("size=(height, width)", f"{flag_of('image_size')} N")
    return DataFieldError(error.field, error.value, error.expected, error.where, cure, error.got)
