"""Reading a picture: a file, a Pillow image or an array becomes float32 (h, w, channels) in 0..1, upright and opaque."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array
from fastlenet.data.images import as_array
from fastlenet.data.reading import pixels_at_most
from fastlenet.files import shown_path, user_path

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageError", "Picture", "is_path", "pillow", "read_picture"]

Picture: TypeAlias = "str | os.PathLike[str] | Image | npt.ArrayLike"

LONGEST = 1000  # pixels: a longer side is averaged down to at most this, which leaves a digit of 2 % of the page its 20 pixels
_DRAFT = 4 * LONGEST  # pixels a side, which the decoder of a JPEG need not exceed
_STRIP = 1 << 21  # pixels at a time
_UNSEEN = 0.8  # of white: what is nowhere darker than that would hardly be seen on white

_EXPECTED = "a file's name, a Pillow image, or an array (h, w), (h, w, c) or (c, h, w) of 1 to 4 channels"


class ImageError(ValueError):
    """A picture that cannot be read or written. The message is one line that names the picture and says what is wrong."""


def pillow() -> ModuleType:
    """The module PIL.Image, or ImageError with the command that installs it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImageError(f"reading or writing a picture needs Pillow ({error}); pip install 'fastlenet[image]'") from None
    return Image


def is_path(image: object) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(image, (str, os.PathLike))


def read_picture(image: Picture) -> tuple[Array, int]:
    """A picture as float32 (h, w, 1 or 3) in 0..1, turned as its camera says, over white where it is transparent; and how many
    of its pixels, in height and in width, each of these is the mean of, so that no side has more than 1,000.

    White strokes on a transparent ground are laid over black. Memory: some 100 MB, and twice the decoded file, which may have
    40 million pixels, or 20 for each byte of the file if that is more. Raises ImageError for a file that is not a picture, or
    has more pixels, and TypeError or ValueError for an array that is not a picture.
    """
    if is_path(image):
        return _read_file(os.fspath(image))
    if (module := sys.modules.get("PIL.Image")) is not None and isinstance(image, module.Image):
        return _from_pillow(image)
    pixels = _expect_array(image)
    return _averaged(lambda top, bottom: pixels[top:bottom], *pixels.shape[:2])


def _read_file(path: str) -> tuple[Array, int]:
    place, library = user_path(path), pillow()
    try:
        if not place.is_file():
            raise ImageError(f"{shown_path(path)}: {'not a file' if place.exists() else 'no such file'}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of a size that this module takes in strips
            with library.open(place) as image:
                whole = max(image.size)
                image.draft(None, (_DRAFT, _DRAFT))  # a JPEG of several times this size is decoded at a half, a fourth, ...
                _expect_reasonable(image, place)
                pixels, factor = _from_pillow(image)
                return pixels, factor * round(whole / max(image.size))
    except ImageError:
        raise
    except PermissionError:
        raise ImageError(f"{shown_path(path)}: no permission to read it") from None
    except library.UnidentifiedImageError:
        raise ImageError(f"{shown_path(path)}: not a picture that Pillow reads; convert it to PNG or JPEG") from None
    except library.DecompressionBombError:
        most = 2 * library.MAX_IMAGE_PIXELS
        raise ImageError(f"{shown_path(path)}: more than {most:,} pixels, which Pillow refuses; make it smaller") from None
    except MemoryError:
        raise
    except Exception as error:  # the border: Pillow's decoders raise what they please about a stranger's bytes
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise ImageError(f"{shown_path(path)}: cannot be read as a picture ({reason})") from None


def _expect_reasonable(image: Image, place: Path) -> None:
    """Raise ImageError for pixels that a file of this size would hardly have, since all of them would take memory."""
    pixels, most = math.prod(image.size), pixels_at_most(place.stat().st_size)
    if pixels > most:
        what = f"claims {pixels:,} pixels, where at most {most:,} are accepted from a file of this size"
        raise ImageError(f"{shown_path(place)}: {what}; make it smaller")


def _from_pillow(image: Image) -> tuple[Array, int]:
    """Pixels of 8, 16 or 32 bits: gray, gray and alpha, colour, colour and alpha."""
    from PIL import ExifTags, ImageOps

    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    w, h = image.size
    if image.mode == "F" or image.mode.startswith("I"):
        most = _brightest(image)
        return _averaged(lambda top, bottom: np.asarray(image.crop((0, top, w, bottom)).convert("F")) / most, h, w)
    opaque, transparent = ("L", "LA") if image.mode in ("1", "L", "LA", "La") else ("RGB", "RGBA")
    mode = transparent if image.has_transparency_data else opaque
    return _averaged(lambda top, bottom: np.asarray(image.crop((0, top, w, bottom)).convert(mode)), h, w)


def _brightest(image: Image) -> float:
    """What white is in a picture of 16 or 32 bits a pixel. Raises ValueError for pixels that are not scaled as pictures are."""
    if image.mode.startswith("I;16"):
        return 65535.0
    low, high = np.asarray(image.getextrema(), float).tolist()
    most = next((most for most in (1.0, 255.0, 65535.0) if high <= most), math.nan)
    if not (low >= 0 and high <= most):  # NaN too
        raise ValueError(f"image expects pixels of 0..1, 0..255 or 0..65535, got {low:.4g}..{high:.4g}")
    return most


def _expect_array(image: object) -> Array:
    """An array of pixels with the channels last; TypeError or ValueError for anything else."""
    pixels = as_array("image", image, _EXPECTED)
    if pixels.dtype.kind not in "bfiu":
        raise TypeError(f"image expects {_EXPECTED}, got {type(image).__name__}")
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4) and pixels.shape[0] in (1, 2, 3, 4):
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or (pixels.ndim == 3 and pixels.shape[2] > 4):
        batch = "; give one picture at a time, such as image[0]" if pixels.ndim == 4 or pixels.ndim == 3 else ""
        raise ValueError(f"image expects {_EXPECTED}, got shape {pixels.shape}{batch}")
    return _scaled(pixels)


def _scaled(pixels: Array) -> Array:
    """uint8 as it is; other kinds in 0..1."""
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "b" or (low >= 0 and high <= 1):
        return pixels.astype(np.float32)
    if pixels.dtype == np.uint8:
        return pixels
    most = 65535 if pixels.dtype.newbyteorder("=") == np.uint16 and high > 255 else 255
    if not (low >= 0 and high <= most):  # NaN too
        raise ValueError(
            f"image expects pixels of 0..1 or 0..255, got {pixels.dtype} of {low:.4g}..{high:.4g}; "
            "give the pixels as they were before they were normalised"
        )
    return pixels.astype(np.float32) / most


def _averaged(strip: Callable[[int, int], Array], height: int, width: int) -> tuple[Array, int]:
    """The means over squares, so that no side is longer than LONGEST, opaque; and the squares' side.

    strip: gives the rows from one to another, uint8 or floats in 0..1. A strip at a time is taken, which bounds the memory.
    """
    factor = -(-max(height, width) // LONGEST)
    rows = factor * max(1, _STRIP // (factor * width))
    means = [_means(strip(top, min(top + rows, height)), factor) for top in range(0, height, rows)]
    return _opaque(np.concatenate(means)), factor


def _means(pixels: Array, factor: int) -> Array:
    """(h, w) or (h, w, channels) as float32 (h, w, channels) over squares, some columns at a time."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    columns = factor * max(1, _STRIP // (factor * len(pixels)))
    lefts = range(0, pixels.shape[1], columns)
    return np.concatenate([_means_of_block(pixels[:, left : left + columns], factor) for left in lefts], 1)


def _means_of_block(pixels: Array, factor: int) -> Array:
    """The same of a few columns; colours are multiplied by their opacity before."""
    scaled = pixels.astype(np.float32)
    if pixels.dtype == np.uint8:
        scaled /= 255
    if scaled.shape[2] in (2, 4):
        scaled[:, :, :-1] *= scaled[:, :, -1:]
    if factor == 1:
        return scaled
    rows = _means_of_rows(scaled, factor)
    columns = _means_of_rows(rows.swapaxes(0, 1), factor)
    return np.asarray(columns.swapaxes(0, 1), np.float32, order="C")


def _means_of_rows(values: Array, factor: int) -> Array:
    """(n, ...) as float64 (n / factor rounded up, ...): the means of so many rows, as if the last row were repeated.

    The repeated rows are not made: in a picture of few, long rows they would be thousands.
    """
    whole = len(values) // factor * factor
    means: Array = values[:whole].reshape(-1, factor, *values.shape[1:]).mean(1, np.float64)
    rest = values[whole:]
    if not len(rest):
        return means
    last = (rest.sum(0, np.float64) + np.float64(factor - len(rest)) * rest[-1]) / factor
    return np.concatenate([means, last[None]])


def _opaque(pixels: Array) -> Array:
    """Without the channel of opacity, the last one of two or four: over white, or over black if that hides all."""
    if pixels.shape[2] in (1, 3):
        return pixels
    colours, ground = pixels[:, :, :-1], 1 - pixels[:, :, -1:]
    over_white: Array = colours + ground
    return colours if over_white.min() > _UNSEEN and ground.max() > 0 else over_white
