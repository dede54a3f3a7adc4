"""Data sets of noise in the files that users have, and how `load` refuses a file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastlenet.data import DataError, load
from helpers.arrays import Array

__all__ = ["COLOUR", "IMAGES", "LABELS", "PIXELS", "Bomb", "refused", "table", "write_cifar"]

_RNG = np.random.default_rng(0)
IMAGES = _RNG.integers(0, 256, (20, 6, 6), np.uint8)
COLOUR = _RNG.integers(0, 256, (20, 6, 6, 3), np.uint8)
PIXELS = _RNG.integers(0, 256, (30, 3, 32, 32), np.uint8)
LABELS = (np.arange(20) % 5).astype(np.uint8)


def refused(source: str | os.PathLike[str], message: str) -> None:
    """A DataError of one line, which names the file and ends so."""
    with pytest.raises(DataError) as caught:
        load(source)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600 and re.search(message, text), text


class Bomb:
    """What a pickle may run."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, ("exploded",)


def table(images: Array = IMAGES, labels: Any = LABELS, header: bool = True, label: str | None = "label") -> str:
    """As Kaggle's digit recognizer has it."""
    rows = [[str(value) for value in image.reshape(-1).tolist()] for image in images]
    names = [f"pixel{number}" for number in range(images[0].size)]
    if label is not None:
        rows, names = [[str(word), *row] for word, row in zip(labels, rows, strict=True)], [label, *names]
    return "\n".join(",".join(row) for row in ([names] if header else []) + rows) + "\n"


def write_cifar(folder: Path, label_bytes: int = 1) -> Path:
    """Five files of six records and one for testing; or CIFAR-100's two, with a coarse label before the fine one."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [bytes([9] * (label_bytes - 1) + [number % 10]) + image.tobytes() for number, image in enumerate(PIXELS)]
    if label_bytes == 1:
        for batch in range(5):
            (folder / f"data_batch_{batch + 1}.bin").write_bytes(b"".join(records[6 * batch : 6 * batch + 6]))
        (folder / "test_batch.bin").write_bytes(b"".join(records[:3]))
    else:
        (folder / "train.bin").write_bytes(b"".join(records))
        (folder / "test.bin").write_bytes(b"".join(records[:3]))
    return folder
