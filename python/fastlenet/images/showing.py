"""Show what a network saw: as blocks of a terminal, or as a picture."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastlenet.backend import Array
from fastlenet.files import write_atomically
from fastlenet.images.reading import ImageError, pillow

__all__ = ["as_blocks", "expect_picture_name", "save_sheet"]

_LARGER, _GAP, _COLUMNS = 8, 8, 10  # pixels for each of an image; between images; images in a row
_HALVES = " ▄▀█"  # the lower half, the upper half, both
_ASCII = " .'#"


def as_blocks(image: Array, encoding: str | None = "utf-8") -> str:
    """uint8 (h, w), h even, as h/2 lines of w characters: half-blocks, or signs of ASCII where the encoding lacks them."""
    try:
        _HALVES.encode(encoding or "ascii")
        signs = _HALVES
    except (UnicodeEncodeError, LookupError):
        signs = _ASCII
    white = np.asarray(image > 127, int)
    codes = 2 * white[::2] + white[1::2]
    return "\n".join("".join(signs[code] for code in row) for row in codes.tolist())


def expect_picture_name(path: str | os.PathLike[str]) -> None:
    """Raises ImageError if Pillow does not write files with this ending, or if Pillow is not installed."""
    library = pillow()
    library.init()
    endings = {ending for ending, kind in library.registered_extensions().items() if kind in library.SAVE}
    if Path(path).suffix.lower() not in endings:
        raise ImageError(f"{path}: the name of a picture expects an ending such as .png or .jpg")


def save_sheet(images: Sequence[Array], path: str | os.PathLike[str]) -> None:
    """Write images uint8 (28, 28), eight times as large, ten in a row. Raises ImageError and CheckpointError."""
    expect_picture_name(path)
    library = pillow()
    side = images[0].shape[0] * _LARGER + _GAP
    rows, columns = -(-len(images) // _COLUMNS), min(len(images), _COLUMNS)
    sheet = np.full((rows * side + _GAP, columns * side + _GAP), 96, np.uint8)
    for index, image in enumerate(images):
        top, left = (_GAP + place * side for place in divmod(index, _COLUMNS))
        large = np.kron(image, np.ones((_LARGER, _LARGER), np.uint8))
        sheet[top : top + large.shape[0], left : left + large.shape[1]] = large
    content = io.BytesIO()
    kind = library.registered_extensions()[Path(path).suffix.lower()]
    library.fromarray(sheet).save(content, kind)
    write_atomically(path, content.getvalue())
