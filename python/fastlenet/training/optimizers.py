"""The optimizers that a recipe can name: a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from fastlenet.nn import Sequential
from fastlenet.optim import SGD, Adam, AdamW, Muon, Optimizer

__all__ = ["OPTIMIZERS"]


class _Settings(Protocol):
    """The fields of a recipe that optimizers take."""

    @property
    def lr(self) -> float: ...
    @property
    def muon_lr(self) -> float: ...
    @property
    def momentum(self) -> float: ...
    @property
    def nesterov(self) -> bool: ...
    @property
    def weight_decay(self) -> float: ...


def _sgd(model: Sequential, chosen: _Settings) -> Optimizer:
    return SGD(model, chosen.lr, chosen.momentum, chosen.nesterov and chosen.momentum > 0, chosen.weight_decay)


def _adam(kind: type[Adam | AdamW], model: Sequential, chosen: _Settings) -> Optimizer:
    return kind(model, chosen.lr, (chosen.momentum, 0.999), weight_decay=chosen.weight_decay)


def _muon(model: Sequential, chosen: _Settings) -> Optimizer:
    nesterov = chosen.nesterov and chosen.momentum > 0
    return Muon(model, chosen.lr, chosen.momentum, nesterov, chosen.weight_decay, matrix_lr=chosen.muon_lr)


# By the word in a recipe. To add an optimizer, write it in fastlenet.optim and add a row.
OPTIMIZERS: Mapping[str, Callable[[Sequential, _Settings], Optimizer]] = {
    "sgd": _sgd,
    "adam": partial(_adam, Adam),
    "adamw": partial(_adam, AdamW),
    "muon": _muon,
}
