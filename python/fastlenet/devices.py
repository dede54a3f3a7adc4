"""Where a network can compute: a table of devices by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import NamedTuple

from fastlenet import ops
from fastlenet.config import config

__all__ = ["DEVICES", "Device"]


class Device(NamedTuple):
    """A device. load: returns its backend, and raises DeviceError where there is none; words: what a run on it at
    that level depends on."""

    load: Callable[[], ModuleType]
    words: Callable[[str], str]


def _cpu() -> ModuleType:
    return ops


def _cpu_words(level: str) -> str:
    return f"level {level}   threads {config()['threads']}"


def _cuda() -> ModuleType:
    from fastlenet import cuda

    cuda.synchronize()
    return cuda


def _cuda_words(level: str) -> str:
    return f"cuda: {config()['cuda']}"


DEVICES: Mapping[str, Device] = {"cpu": Device(_cpu, _cpu_words), "cuda": Device(_cuda, _cuda_words)}
