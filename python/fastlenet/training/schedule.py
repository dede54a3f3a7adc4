"""Schedules of a run: the learning rate of each step and the images of each batch, as functions of plain numbers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping

from fastlenet.fields import FieldTypeError, Values
from fastlenet.optim.schedules import cosine, one_cycle

__all__ = ["SCHEDULES", "Schedule", "batch_starts", "expect_schedule", "schedule_digest", "share"]

Schedule = Callable[[int, int], float]  # from a step, counted from 0, and the number of steps to the share of the peak rate

_SHARE = Values(float, "to return a non-negative number", 0, sys.float_info.max)
_LOOKED_AT = 1000  # steps at which a schedule is checked and compared

_PART = 16  # images; growing batches are multiples of it, since the kernels compute 16 images at a time


# What Recipe.schedule may say.
SCHEDULES: Mapping[str, Callable[..., float]] = {"one-cycle": one_cycle, "cosine": cosine}


def batch_starts(first: int, images: int, size: int, size_end: int, epoch: int, epochs: int) -> list[int]:
    """Returns where the batches of an epoch start, and as the last element where the last batch ends.

    first: the image from which to start. images: the number of images in the epoch. epoch: counted from 0, of `epochs`. A batch
    has `size` images; if size_end is not 0, batches grow linearly to it over the epochs, in multiples of 16.
    """
    starts = [first]
    while starts[-1] < images:
        of_this = size
        if size_end:
            done = (epoch + starts[-1] / images) / max(1, epochs)
            of_this = max(1, round((size + done * (size_end - size)) / _PART)) * _PART
        starts.append(min(starts[-1] + of_this, images))
    return starts


def share(schedule: Schedule, step: int, steps: int) -> float:
    """The share of the peak rate at a step. Raises FieldTypeError or FieldValueError for a result that is no rate."""
    return _SHARE.convert(f"schedule: step {step} of {steps}", schedule(step, steps))


def _shares(schedule: Schedule, steps: int) -> list[float]:
    """At evenly spaced steps, at all of them if there are not many."""
    looked_at = range(0, steps, max(1, -(-steps // _LOOKED_AT)))
    return [share(schedule, step, steps) for step in [*looked_at, steps - 1][: steps + 1] if step >= 0]


def expect_schedule(schedule: Schedule, steps: int) -> None:
    """Raises an error unless it is a function of a step and the number of steps, with numbers that can be rates."""
    try:
        inspect.signature(schedule).bind(0, 1)
    except (TypeError, ValueError):
        raise FieldTypeError("schedule", schedule, "a function of two numbers, the step and the number of steps") from None
    _shares(schedule, steps)


def schedule_digest(schedule: Schedule, steps: int) -> str:
    """What tells schedules apart: a checksum of the shares that they give to the steps of a run."""
    import hashlib  # loads OpenSSL

    return hashlib.sha256(repr(_shares(schedule, steps)).encode()).hexdigest()
