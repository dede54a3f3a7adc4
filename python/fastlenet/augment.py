"""Random distortions of the training images, defined in NumPy. The kernels compute the same numbers.

    Augmentation(shift=2, rotation=10).at(seed, epoch)     pass this to ops.gather_images as its `transform`

An image's distortion depends on (seed, epoch, its number in the data set) alone, not on its batch or the threads. Word i of
Philox4x32-10 (key seed, counter number + 2^32 * epoch, stream 3) is used for

    0, 1  shift down, right      2  angle      3, 4  factors of height and width      5  slant
    6, 7  centre of the cutout box, row and column   8 + j*h + i  displacement of pixel (i, j), low half down, high half right

Sources: Simard et al. 2003 (elastic distortion), DeVries & Taylor 2017 (cutout).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from fastlenet.fields import Values, a_field, expect_fields, names_expected
from fastlenet.philox import STREAM_AUGMENT, philox

__all__ = ["Augmentation", "Transform", "with_views"]

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint32]
Views = npt.NDArray[np.float32]  # or an array of the backend

_IMAGE_WORDS = 8
EPOCH = Values(int, "an integer in 0..2^32-1", 0, 2**32 - 1)  # 32 bits of the generator's counter
_PIXELS = Values(int, "pixels in 0..32000", 0, 32000)


@names_expected
@dataclass(frozen=True)
class Augmentation:
    """The range of each random distortion. Every image is distorted independently; 0 turns a distortion off.

    shift: whole pixels; down and right are each uniform in -shift..shift.
    rotation: degrees about the image's centre, uniform in +-rotation; positive angles turn counter-clockwise.
    scale: height and width are each multiplied by their own factor, uniform in 1 +- scale.
    shear: pixels to the right per row downwards, uniform in +-shear; this slants handwriting.
    elastic, elastic_sigma: Simard's alpha and sigma, in pixels. Each pixel moves by alpha times smoothed noise. The noise is
        uniform in (-1, 1), independent for every pixel and both axes, and 0 outside the image. It is convolved with a Gaussian
        of standard deviation sigma, cut off at 3 sigma and scaled to sum 1. Simard et al. used 34 and 4, which moves pixels far
        from the borders by 1.4 pixels, root mean square (alpha / sigma / sqrt(12 pi)).
    cutout: side in pixels of a black square. Its centre is any pixel, so part of it may lie outside the image.

    Scale, slant, rotation, elastic distortion and shift are applied in one step, by bilinear samples of the raw pixels with
    black outside. Whole shifts alone are exact copies. The cutout box comes last. Raises ValueError, or TypeError for a value
    that is not a number; both name the field.
    """

    shift: int = a_field(0, _PIXELS)
    rotation: float = a_field(0.0, Values(float, "degrees in [0, 180]", 0, 180))
    scale: float = a_field(0.0, Values(float, "a number in [0, 1)", 0, 1, below=True))
    shear: float = a_field(0.0, Values(float, "a number in [0, 1]", 0, 1))
    elastic: float = a_field(0.0, Values(float, "pixels in [0, 1e6]", 0, 1e6))
    elastic_sigma: float = a_field(4.0, Values(float, "pixels in [0.001, 1000]", 0.001, 1000))
    cutout: int = a_field(0, _PIXELS)

    def __post_init__(self) -> None:
        expect_fields(self, "Augmentation: ")

    def __bool__(self) -> bool:
        """Whether any distortion is on."""
        return bool(self.shift or self.cutout or self.warps)

    @property
    def warps(self) -> bool:
        """Whether images must be sampled between pixels: a distortion other than a whole shift or cutout is on."""
        return bool(self.rotation or self.scale or self.shear or self.elastic)

    def at(self, seed: int, epoch: int, views: Views | None = None) -> Transform:
        """Returns the distortions of an epoch, for ops.gather_images.

        seed: an integer, reduced modulo 2^64. epoch: an integer in 0..2^32-1. views: None, or the data set's maps as
        Preprocessing.views returns them: then the preprocessed images are distorted, and the raw ones sampled once. Raises
        ValueError or TypeError for others.
        """
        whole = Values(int, "an integer").convert("Augmentation.at: seed", seed)
        return Transform(self, whole % 2**64, EPOCH.convert("Augmentation.at: epoch", epoch), views)


def _below(count: int, word: int) -> int:
    """Uniform in 0..count-1."""
    return count * word >> 32


def _symmetric(words: Words, bits: int) -> Floats:
    """Numbers uniform in (-1, 1): (n + 1/2) * 2^(1-bits), where n is a word read as a signed number of `bits` bits."""
    signed = words.astype(np.int64)
    signed = np.where(signed >= 2 ** (bits - 1), signed - 2**bits, signed)
    return np.asarray((signed + 0.5) * 2.0 ** (1 - bits))


def _smoothing(size: int, sigma: float) -> Floats:
    """The matrix that convolves `size` numbers, zeros around them, with a Gaussian cut off at 3 sigma and scaled to sum 1."""
    reach = math.ceil(3 * sigma)
    gaussian = np.exp(-0.5 * np.arange(-reach, reach + 1) ** 2 / sigma**2)
    distance = np.arange(size) - np.arange(size)[:, None]
    taps = gaussian[np.clip(distance, -reach, reach) + reach] / gaussian.sum()
    return np.asarray(np.where(np.abs(distance) <= reach, taps, 0))


@dataclass(frozen=True)
class Transform:
    """The distortions of every image in one epoch. Make it with `Augmentation.at`.

    views: None, or the preprocessing of every image of the data set, float32 (N, 2, 3), an array of the backend: places of the
    preprocessed image, (row, column, 1), become places of the raw one.
    """

    augmentation: Augmentation
    seed: int
    epoch: int
    views: Views | None = field(default=None, compare=False)

    @property
    def samples(self) -> bool:
        """Whether images must be sampled between pixels."""
        return self.augmentation.warps or self.views is not None

    @property
    def numbers(self) -> dict[str, float]:
        """The augmentation's fields, the seed and the epoch, by name: the arguments of the kernels, but views."""
        return {**vars(self.augmentation), "seed": self.seed, "epoch": self.epoch}

    def _words(self, number: int, count: int) -> Words:
        return philox(self.seed, STREAM_AUGMENT, number + (self.epoch << 32), count)

    def shift(self, number: int) -> tuple[int, int]:
        """Returns the shift of image `number`, down and right, in pixels."""
        most = self.augmentation.shift
        down, right = (_below(2 * most + 1, int(word)) - most for word in self._words(number, 2))
        return down, right

    def hole(self, number: int, h: int, w: int) -> tuple[slice, slice]:
        """Returns the rows and the columns of an h x w image that cutout makes black."""
        side = self.augmentation.cutout
        starts = (_below(size, int(word)) - side // 2 for size, word in zip((h, w), self._words(number, 8)[6:], strict=True))
        rows, columns = (slice(max(start, 0), max(start + side, 0)) for start in starts)
        return rows, columns

    def affine(self, number: int) -> Floats:
        """Returns the matrix (2, 2) that maps a pixel's offset from the centre, (down, right), to the offset of its source."""
        chosen = self.augmentation
        turn, taller, wider, slant = _symmetric(self._words(number, 6)[2:], 32)
        angle = math.radians(chosen.rotation * turn)
        scaled = np.diag([1 + chosen.scale * taller, 1 + chosen.scale * wider])
        slanted = np.array([[1, 0], [chosen.shear * slant, 1]])
        turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return np.asarray(np.linalg.inv(turned @ slanted @ scaled))

    def displacement(self, number: int, h: int, w: int) -> Floats:
        """Returns the elastic displacement of each pixel's source, down and right, in pixels: (2, h, w)."""
        chosen = self.augmentation
        words = self._words(number, _IMAGE_WORDS + h * w)[_IMAGE_WORDS:].reshape(w, h).T
        noise = _symmetric(np.stack([words & 0xFFFF, words >> 16]), 16)
        smoothed = _smoothing(h, chosen.elastic_sigma) @ noise @ _smoothing(w, chosen.elastic_sigma).T
        return np.asarray(chosen.elastic * smoothed)

    def places(self, number: int, h: int, w: int) -> Floats:
        """Returns the row and column, (2, h, w), of the raw image at which each pixel of image `number` is sampled."""
        centre = np.array([h - 1, w - 1])[:, None, None] / 2
        pixels = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"))
        distance = pixels - np.array(self.shift(number))[:, None, None] - centre
        places: Floats = np.einsum("ij,jhw->ihw", self.affine(number), distance) + centre
        if self.augmentation.elastic:
            places += self.displacement(number, h, w)
        if self.views is not None:
            view = np.asarray(self.views[number], np.float64)
            places = np.einsum("ij,jhw->ihw", view[:, :2], places) + view[:, 2, None, None]
        return places


def with_views(transform: Transform | None, views: Views | None) -> Transform | None:
    """Returns the transform of images with these views, or without if they are None. transform: None for no distortion."""
    if views is None:
        return transform
    return Augmentation().at(0, 0, views) if transform is None else replace(transform, views=views)
