"""Schedules: functions from a step to its learning rate, or to its share of a peak rate.

step: 0..steps-1. steps: of the whole run. peak: the highest rate; with 1, the result is the share of it. warm_up: the share
of the steps, 0 to 1, in which the rate rises linearly to the peak.

>>> from fastlenet.optim import schedules
>>> [schedules.cosine(step, 4, peak=0.1, warm_up=0.25) for step in (0, 1, 3)]
[0.1, 0.1, 0.025000000000000012]
"""

from __future__ import annotations

import math

__all__ = ["constant", "cosine", "exponential", "one_cycle", "staircase"]


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


def constant(step: int, steps: int, *, peak: float = 1.0, warm_up: float = 0.0) -> float:
    """The same rate at every step after the warm-up."""
    rising = round(warm_up * steps)
    return peak * (step + 1) / rising if step < rising else peak


def exponential(step: int, steps: int, *, peak: float = 1.0, warm_up: float = 0.0, last: float = 0.01) -> float:
    """Falls by the same factor at every step after the warm-up, to the share `last` of the peak at the last step."""
    rising = round(warm_up * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * float(last ** ((step - rising) / max(1, steps - rising - 1)))


def staircase(step: int, steps: int, *, peak: float = 1.0, warm_up: float = 0.0, levels: int = 3, factor: float = 0.1) -> float:
    """Multiplies the rate by `factor` between levels of equal length after the warm-up."""
    rising = round(warm_up * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * float(factor ** ((step - rising) * levels // (steps - rising)))
