"""Reading a picture: a file, a Pillow image or an array becomes float32 (h, w, channels) in 0..1, upright and opaque."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastlenet.backend import Array
from fastlenet.files import shown_path, user_path

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageError", "Picture", "is_path", "pillow", "read_picture"]

Picture: TypeAlias = "str | os.PathLike[str] | Image | npt.ArrayLike"

LONGEST = 1000  # pixels: a longer side is averaged down to at most this, which leaves a digit of 2 % of the page its 20 pixels

_EXPECTED = "a file's name, a Pillow image, or an array (h, w), (h, w, c) or (c, h, w) of 1 to 4 channels"


class ImageError(ValueError):
    """A picture that cannot be read or written; one line that names it and says what is wrong."""


def pillow() -> Any:
    """The module PIL.Image, or ImageError with the command that installs it."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImageError(f"a picture's file needs Pillow ({error}); pip install 'fastlenet[image]'") from None
    return Image


def is_path(image: object) -> bool:
    return isinstance(image, (str, os.PathLike))


def read_picture(image: Picture) -> tuple[Array, int]:
    """A picture as float32 (h, w, 1 or 3) in 0..1, turned as its camera says, over white where it is transparent; and how many
    of its pixels, in height and in width, each of these is the mean of, so that no side has more than 1,000.

    Raises ImageError for a file that is no picture, TypeError and ValueError for an array that is none.
    """
    if is_path(image):
        pixels = _read_file(os.fspath(image))  # type: ignore[arg-type]
    elif (module := sys.modules.get("PIL.Image")) is not None and isinstance(image, module.Image):
        pixels = _from_pillow(image)
    else:
        pixels = _expect_array(image)
    small, factor = _shrink(pixels)
    return _over_white(small), factor


def _read_file(path: str) -> Array:
    place, library = user_path(path), pillow()
    try:
        if not place.is_file():
            raise ImageError(f"{shown_path(path)}: {'not a file' if place.exists() else 'no such file'}")
        with library.open(place) as image:
            return _from_pillow(image)
    except ImageError:
        raise
    except PermissionError:
        raise ImageError(f"{shown_path(path)}: no permission to read it") from None
    except library.UnidentifiedImageError:
        raise ImageError(f"{shown_path(path)}: no picture that Pillow reads; convert it to PNG or JPEG") from None
    except MemoryError:
        raise
    except Exception as error:  # the border: Pillow's decoders raise what they please about a stranger's bytes
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise ImageError(f"{shown_path(path)}: cannot be read as a picture ({reason})") from None


def _from_pillow(image: Image) -> Array:
    """Pixels of 8 or 16 bits: gray, gray and alpha, colour, colour and alpha."""
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):  # 32 bits, of which PNG's 16 are used
        pixels = np.asarray(image, np.float64)
        return pixels / (65535.0 if pixels.max(initial=0) > 255 else 255.0)
    if image.mode.startswith("I;16"):
        return np.asarray(image.convert("I"), np.float64) / 65535
    opaque, transparent = ("L", "LA") if image.mode in ("1", "L", "LA", "La") else ("RGB", "RGBA")
    return np.asarray(image.convert(transparent if image.has_transparency_data else opaque))


def _expect_array(image: Any) -> Array:
    """An array of pixels with the channels last; TypeError or ValueError for anything else."""
    if isinstance(image, np.ma.MaskedArray):
        raise TypeError(f"image expects {_EXPECTED}, got a masked array; fill it with .filled(value)")
    try:
        pixels = np.asarray(image)
    except ValueError:
        raise ValueError(f"image expects {_EXPECTED}, got rows of different lengths") from None
    if pixels.dtype.kind not in "bfiu":
        raise TypeError(f"image expects {_EXPECTED}, got {type(image).__name__}")
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4) and pixels.shape[0] in (1, 2, 3, 4):
        pixels = np.moveaxis(pixels, 0, 2)
    if pixels.ndim not in (2, 3) or 0 in pixels.shape or (pixels.ndim == 3 and pixels.shape[2] > 4):
        batch = "; one picture at a time, as image[0] is" if pixels.ndim == 4 or pixels.ndim == 3 else ""
        raise ValueError(f"image expects {_EXPECTED}, got shape {pixels.shape}{batch}")
    return _scaled(pixels)


def _scaled(pixels: Array) -> Array:
    """uint8 as it is; other kinds in 0..1."""
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "b" or (low >= 0 and high <= 1):
        return pixels.astype(np.float32)
    if pixels.dtype == np.uint8:
        return pixels
    most = 65535 if pixels.dtype == np.uint16 and high > 255 else 255
    if not (low >= 0 and high <= most):  # NaN too
        raise ValueError(
            f"image expects pixels of 0..1 or 0..255, got {pixels.dtype} of {low:.4g}..{high:.4g}; "
            "give it as it was before it was normalised"
        )
    return pixels.astype(np.float32) / most


def _shrink(pixels: Array) -> tuple[Array, int]:
    """(h, w, channels) in 0..1, averaged over squares so that no side is longer than LONGEST, and the squares' side."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    h, w, channels = pixels.shape
    factor = -(-max(h, w) // LONGEST)
    if factor > 1:
        pixels = np.pad(pixels, ((0, -h % factor), (0, -w % factor), (0, 0)), "edge")
        squares = pixels.reshape(pixels.shape[0] // factor, factor, pixels.shape[1] // factor, factor, channels)
        scaled: Array = squares.mean((1, 3), np.float32)
    else:
        scaled = pixels.astype(np.float32)
    if pixels.dtype == np.uint8:
        scaled /= 255
    return scaled, factor


def _over_white(pixels: Array) -> Array:
    """Without the channel of opacity, which is the last one of two or four."""
    if pixels.shape[2] in (1, 3):
        return pixels
    alpha = pixels[:, :, -1:]
    opaque: Array = pixels[:, :, :-1] * alpha + (1 - alpha)
    return opaque
