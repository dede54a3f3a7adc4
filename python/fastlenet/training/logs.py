"""Reads the log of a training run, which JsonLog writes."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import fields

from fastlenet.fields import shown
from fastlenet.files import shown_path, user_path
from fastlenet.training.callbacks.json_log import LogError
from fastlenet.training.history import Epoch, History

__all__ = ["read_log"]

_MOST = 64 << 20  # bytes; an epoch takes about 200
_MAY_BE_NULL = ("val_loss", "val_accuracy")
_NAMES = tuple(entry.name for entry in fields(Epoch))


def read_log(path: str | os.PathLike[str]) -> list[History]:
    """Returns the epochs of each network in a log: one history, or several for an ensemble, in the order of the log.

    A loss that is null was infinite. If an epoch is in the log twice, after a run that was killed and resumed, the later line
    counts. A last line that a killed run did not finish is left out. Raises LogError, in one line, for any other file. The
    memory is at most 20 times the size of the file.
    """
    path = user_path(path)
    try:
        with path.open("rb") as file:
            text = file.read(_MOST + 1)
    except OSError as error:
        raise LogError(f"{shown_path(path)}: {error.strerror or error}") from None
    if len(text) > _MOST:
        raise LogError(f"{shown_path(path)}: no log of a training; it has more than {_MOST >> 20} MiB")
    *lines, rest = text.split(b"\n")
    found: dict[int, dict[int, Epoch]] = {}
    for number, line in enumerate([*lines, rest], 1):
        if not line.strip():
            continue
        try:
            seed, epoch = _epoch(line)
        except ValueError as error:
            if number > len(lines) and lines:
                break  # a killed run left it unfinished
            raise LogError(f"{shown_path(path)}: no log of a training; line {number} {error}") from None
        found.setdefault(seed, {})[epoch.epoch] = epoch
    if not found:
        raise LogError(f"{shown_path(path)}: no log of a training; it has no epochs")
    return [History([epochs[number] for number in sorted(epochs)]) for epochs in found.values()]


def _epoch(line: bytes) -> tuple[int, Epoch]:
    """The seed and the epoch of a line. Raises ValueError with words that follow "line 3"."""
    try:
        entry = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ValueError("expects a JSON object") from None
    if not isinstance(entry, dict):
        raise ValueError("expects a JSON object")
    values = {name: _number(name, entry.get(name)) for name in _NAMES}
    seed = entry.get("seed", 0)
    if not isinstance(seed, int) or not values["epoch"] or values["epoch"] < 1 or values["epoch"] % 1:
        raise ValueError(f"expects a whole seed and an epoch from 1, got {shown(seed)} and {shown(entry.get('epoch'))}")
    if values["val_loss"] is None and values["val_accuracy"] is not None:
        values["val_loss"] = math.inf
    return seed, Epoch(**{**values, "epoch": int(values["epoch"])})  # type: ignore[arg-type]  # checked above


def _no_number(word: str) -> float:
    raise ValueError(word)


def _number(name: str, value: object) -> float | None:
    """A number of an epoch; None where it may be missing."""
    if value is None and name in _MAY_BE_NULL:
        return None
    if value is None and name == "loss":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expects a number as {name!r}, got {shown(value)}")
    if not 0 <= value <= sys.float_info.max or ("accuracy" in name and value > 1):
        raise ValueError(
            f"expects a {name!r} in {'0..1' if 'accuracy' in name else 'the finite numbers from 0'}, got {shown(value)}"
        )
    return float(value)
