"""Schedules of a run: the learning rate of each step and the images of each batch, as functions of plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

__all__ = ["SCHEDULES", "batch_starts", "cosine", "one_cycle"]

_PART = 16  # images; growing batches are multiples of it, since the kernels compute 16 images at a time


def one_cycle(step: int, steps: int, *, peak: float = 1.0, warm_up: float = 0.2) -> float:
    """The learning rate of step 0..steps-1: it rises linearly to `peak` in the share `warm_up` of the steps, then falls
    linearly to zero. Source: Smith 2018.
    """
    rising = round(warm_up * steps)
    return peak * (step + 1) / rising if step < rising else peak * (steps - step) / (steps - rising)


def cosine(step: int, steps: int, *, peak: float = 1.0, warm_up: float = 0.2) -> float:
    """The learning rate of step 0..steps-1: it rises linearly to `peak` in the share `warm_up` of the steps, then falls to
    zero as a half wave of the cosine. Source: Loshchilov & Hutter 2017.
    """
    rising = round(warm_up * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


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
