"""Schedules of a run: the learning rate of each step and the images of each batch, as functions of plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastlenet.optim.schedules import cosine, one_cycle

__all__ = ["SCHEDULES", "batch_starts"]

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
