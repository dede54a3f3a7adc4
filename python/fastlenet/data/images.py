"""Images as training wants them, of arrays as users have them: checked once, and made contiguous once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastlenet.fields import FieldTypeError, FieldValueError
from fastlenet.normalisation import PerChannel

__all__ = [
    "Array",
    "Images",
    "arranged",
    "as_array",
    "as_images",
    "as_pixels",
    "converted",
    "mean_std",
    "owner_of",
    "scale_of",
    "type_error",
    "value_error",
]

Array = npt.NDArray[np.generic]
Images = npt.NDArray[np.uint8 | np.float32]

_LAYOUTS = "images (n, h, w), (n, c, h, w), (n, h, w, c) or (n, h*w)"
_CHANNELS = (1, 2, 3, 4)
_PIECE = 1 << 16  # pixels at a time: sums take eight times their memory


def owner_of(name: str) -> str:
    """What stands in front of an argument's name: "Dataset.from_arrays: " of "Dataset.from_arrays: X"."""
    owner, colon, _ = name.rpartition(": ")
    return owner + colon


def type_error(name: str, value: object, expected: str, got: str, cure: str = "") -> FieldTypeError:
    owner, colon, field = name.rpartition(": ")
    return FieldTypeError(field, value, expected, owner + colon, cure, got)


def value_error(name: str, value: object, expected: str, got: str, cure: str = "") -> FieldValueError:
    owner, colon, field = name.rpartition(": ")
    return FieldValueError(field, value, expected, owner + colon, cure, got)


# --- arrays --------------------------------------------------------------------------------------------------------------


def as_array(name: str, value: object, expected: str) -> Array:
    """The array in whatever holds one: lists, frames of pandas, tensors on the CPU by DLPack. Raises FieldTypeError."""
    if isinstance(value, np.ma.MaskedArray):
        got = "a masked array, whose mask would be ignored"
        raise type_error(name, value, expected, got, "fill it with .filled(value)")
    if isinstance(value, np.ndarray):
        return np.asarray(value)  # of the base class: a matrix would keep its two dimensions
    if value is None or isinstance(value, (str, bytes, dict, set)):
        raise type_error(name, value, expected, type(value).__name__, "numpy.asarray makes an array of a list")
    try:
        return np.asarray(np.from_dlpack(value) if hasattr(value, "__dlpack__") else value)
    except ValueError:  # of rows of different lengths
        raise type_error(name, value, expected, "parts of different shapes", "bring all of them to one size") from None
    except Exception as error:  # a tensor that is not on the CPU, or that needs gradients: libraries raise what they please
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:100]
        cure = "for a tensor, give .detach().cpu().float().numpy()"
        raise type_error(name, value, expected, f"{type(value).__name__} that is not an array ({reason})", cure) from None


def as_pixels(name: str, value: object, expected: str) -> Array:
    """The same of numbers: integers, floats, or truth values where they are only 0 and 1. Raises FieldTypeError."""
    pixels = as_array(name, value, expected)
    if pixels.dtype.kind not in "biuf":
        cure = ".astype(float) makes numbers of Python's objects" if pixels.dtype.kind == "O" else ""
        raise type_error(name, value, f"{expected} of numbers", str(pixels.dtype), cure)
    return _black_or_white(pixels)


def arranged(name: str, value: object) -> Array:
    """Images of any of the layouts as (n, h, w), or (n, c, h, w) for several channels; a view where that is possible.

    Of four dimensions the channels are the second or the fourth: the one that is 1 to 4, or else the smaller one; if that does
    not decide it, the second. Raises FieldTypeError and FieldValueError.
    """
    images = as_pixels(name, value, _LAYOUTS)
    if images.ndim == 2:
        images = _of_rows(name, images)
    if images.ndim not in (3, 4):
        raise value_error(name, value, _LAYOUTS, f"shape {images.shape}")
    if images.size == 0:
        raise value_error(name, value, "at least one image with at least one pixel", f"shape {images.shape}")
    if images.ndim == 4:
        first, last = images.shape[1], images.shape[3]
        is_last = last < first if (first in _CHANNELS) == (last in _CHANNELS) else last in _CHANNELS
        images = images.transpose(0, 3, 1, 2) if is_last else images
    return images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images


def _of_rows(name: str, rows: Array) -> Array:
    """(n, h*w) as (n, h, w) of square images."""
    count, size = rows.shape
    side, third = math.isqrt(size), math.isqrt(size // 3)
    if side * side == size:
        return rows.reshape(count, side, side)
    cure = "give one image as image[numpy.newaxis]; .reshape(-1, h, w) makes images of rows that are not squares"
    if 3 * third * third == size:
        cure = f".reshape(-1, 3, {third}, {third}) makes images of rows of three channels, one after the other"
    raise value_error(name, rows, f"{_LAYOUTS}, where h*w is a square", f"shape {rows.shape}", cure)


# --- pixels --------------------------------------------------------------------------------------------------------------


def _black_or_white(images: Array) -> Array:
    """The same; integers that are only 0 and 1 become truth values: they are black and white, not two shades of black."""
    if images.dtype.kind in "iu" and images.size and images.min() == 0 and images.max() == 1:
        return images.astype(np.bool_)
    return images


def scale_of(name: str, images: Array) -> int:
    """What the pixels are divided by to come to [0, 1]: 1 for truth values and for floats in [0, 1], else 255.

    0 where they are all zero, so that one cannot tell. Raises FieldValueError for pixels out of these ranges.
    """
    low, high = images.min().item(), images.max().item()
    if low == high == 0:
        return 0
    if low >= 0 and high <= 1 and images.dtype.kind in "bf":
        return 1
    if low >= 0 and high <= 255:
        return 255
    expected = "pixels in 0..255, or floats in [0, 1] or [0, 255]"
    raise value_error(name, images, expected, f"{images.dtype} in {low}..{high}", _cure_of(low, high, images.dtype))


def _cure_of(low: float, high: float, dtype: np.dtype[np.generic]) -> str:
    if not (math.isfinite(low) and math.isfinite(high)):
        return "numpy.isfinite finds them"
    if low >= 0:
        return f"divide them by {2 ** (8 * dtype.itemsize) - 1 if dtype.kind == 'u' else high:g}"
    if low >= -0.5 and high <= 1.5:
        return "numpy.clip(images, 0, 1), if resizing brought them there"
    return "give the pixels as they were before they were normalised; fastlenet normalises them"


def as_images(name: str, images: Array, scale: int) -> Images:
    """Contiguous uint8, or float32 in [0, 1], of pixels whose scale is that of the training images.

    Integers of other types become uint8, which loses nothing; True becomes 255. Raises FieldValueError for another scale.
    """
    found = scale_of(name, images)
    if found not in (0, scale):
        expected = f"pixels in the same range as the training images, {'[0, 1]' if scale == 1 else '0..255'}"
        raise value_error(name, images, expected, f"{images.dtype} in {images.min()}..{images.max()}", "scale all parts alike")
    return converted(images, scale)


def converted(images: Array, scale: int) -> Images:
    """The same as as_images, of pixels that are known to have this scale."""
    if images.dtype.kind == "b":
        truths: Images = np.ascontiguousarray(images, np.uint8) * np.uint8(255)
        return truths
    if images.dtype.kind in "iu":
        return np.ascontiguousarray(images, np.uint8)
    if scale == 1:
        return np.ascontiguousarray(images, np.float32)
    floats: Images = np.divide(images.astype(np.float32), np.float32(255), order="C")
    return floats


# --- mean and deviation --------------------------------------------------------------------------------------------------


def mean_std(images: Images) -> tuple[PerChannel, PerChannel]:
    """The mean and the standard deviation of pixels, scaled to [0, 1]; of (n, c, h, w) those of each channel.

    Of uint8 by exact sums of integers, from how often each value occurs; of floats by sums in float64. One colour has std 1.
    """
    if images.ndim < 4:
        return _of_channel(images)
    pairs = [_of_channel(images[:, channel]) for channel in range(images.shape[1])]
    return tuple(mean for mean, _ in pairs), tuple(std for _, std in pairs)


def _of_channel(images: Images) -> tuple[float, float]:
    total = max(1, images.size)
    if images.dtype == np.uint8:
        counts = sum((np.bincount(piece, minlength=256) for piece in _pieces(images)), np.zeros(256, np.int64)).tolist()
        first = sum(value * count for value, count in enumerate(counts))
        second = sum(value * value * count for value, count in enumerate(counts))
        return first / total / 255, math.sqrt((second * total - first * first) / total**2) / 255 or 1.0
    mean = math.fsum(float(piece.sum(dtype=np.float64)) for piece in _pieces(images)) / total
    squares = math.fsum(float(((piece - np.float64(mean)) ** 2).sum()) for piece in _pieces(images))
    return mean, math.sqrt(squares / total) or 1.0


def _pieces(images: Images) -> Iterator[Images]:
    """All pixels, those of some images at a time."""
    step = max(1, _PIECE // max(1, images[:1].size))
    for start in range(0, len(images), step):
        yield images[start : start + step].reshape(-1)
