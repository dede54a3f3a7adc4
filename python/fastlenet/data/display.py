"""A data set in a notebook: a line about it, and an image of each class, without a library of pictures."""

from __future__ import annotations

import base64
import html
import struct
import zlib

import numpy as np

from fastlenet.data.images import Images
from fastlenet.data.labels import Labels

__all__ = ["as_html", "indexed_png", "png"]

_MOST = 20  # classes of which an image is shown
_SIDE = 56  # pixels on the screen
_GRAY, _COLOURS, _INDEXED = 0, 2, 3  # the kinds of PNG's colours


def png(image: Images) -> bytes:
    """A PNG file of an image: (h, w), or (c, h, w), of which 3 are colours and otherwise the first is shown.

    Pixels are brightened so that the largest is white, in uint8 images whose values are few as in floats.
    """
    planes = image[:3] if image.ndim == 3 and image.shape[0] in (3, 4) else image.reshape(-1, *image.shape[-2:])[:1]
    most = float(planes.max()) or 1.0
    pixels = np.rint(planes.transpose(1, 2, 0) * (255 / most)).astype(np.uint8)
    return _file(pixels, _GRAY if pixels.shape[2] == 1 else _COLOURS)


def indexed_png(image: Images, palette: Images) -> bytes:
    """A PNG file of an image (h, w) of uint8, whose pixels are places in a palette: uint8 (n, 4), red, green, blue, opacity."""
    chunks = (b"PLTE", palette[:, :3].tobytes()), (b"tRNS", palette[:, 3].tobytes())
    return _file(image[:, :, np.newaxis], _INDEXED, *chunks)


def _file(pixels: Images, kind: int, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG file of uint8 (h, w, channels). kind: of its colours. more: chunks before the pixels."""
    h, w, channels = pixels.shape
    rows = np.concatenate([np.zeros((h, 1), np.uint8), pixels.reshape(h, w * channels)], axis=1)
    header = struct.pack(">2I5B", w, h, 8, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), *more, (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def as_html(title: str, images: Images, labels: Labels, names: tuple[str, ...]) -> str:
    """The title, and the first image of each of the first classes with the class's name."""
    cells = []
    for number, name in enumerate(names[:_MOST]):
        places = np.flatnonzero(labels == number)
        if len(places):
            data = base64.b64encode(png(images[places[0]])).decode()
            picture = f'<img src="data:image/png;base64,{data}" height="{_SIDE}" style="image-rendering: pixelated" alt="">'
            cells.append(f'<td style="text-align: center">{picture}<br>{html.escape(name)}</td>')
    more = f"<td>and {len(names) - _MOST} more</td>" if len(names) > _MOST else ""
    return f"<div>{html.escape(title)}<table><tr>{''.join(cells)}{more}</tr></table></div>"
