"""gather_images, with and without a transform."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fastlenet.augment import Augmentation, Transform
from fastlenet.backend import Shape
from fastlenet.testing.description import Arguments, Array, Benchmark, Call, Op, Result, Results, Torch, Values
from fastlenet.testing.judging import LARGEST, expect_all, expect_equal, expect_shape, gamma
from fastlenet.testing.values import BATCHES, SIDES, Draw

__all__ = ["OPS", "Images", "sampling_bound"]

MEAN, STD = 0.1307, 0.3081


@dataclass(frozen=True)
class Images:
    """n of `count` images. transform: None; "shift", by whole pixels; "matrices", one for each image; or an Augmentation.

    c: the channels; None is a single one, without an axis. floats: the pixels are float32 in [0, 1], not uint8.
    """

    count: int
    h: int
    w: int
    n: int
    transform: str | Augmentation | None = None
    mean: float = MEAN
    std: float = STD
    spread: float = 0.1  # how far the matrices lie from the identity
    c: int | None = None
    floats: bool = False
    views: bool = False  # an augmentation distorts preprocessed images

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.shape))
        kind = "-floats" * self.floats + "-views" * self.views
        return f"{self.n}of{sizes}{kind}" + ("" if self.transform is None else f"-{self.transform}")

    def with_batch(self, n: int) -> Images:
        return replace(self, n=n)

    @property
    def shape(self) -> Shape:
        return (self.count, self.h, self.w) if self.c is None else (self.count, self.c, self.h, self.w)


AFFINE = Augmentation(shift=2, rotation=12, scale=0.12, shear=0.12)
ELASTIC = replace(AFFINE, elastic=34, elastic_sigma=4, cutout=6)
# One case of each kind of transform. Of floats too, a shift by whole pixels is exact, at a deviation of 1.
_EACH_KIND = (
    Images(50, 28, 27, 37),
    Images(20, 9, 33, 6, Augmentation(shift=3, cutout=4)),
    Images(6, 28, 28, 6, "matrices"),
    Images(20, 9, 17, 6, ELASTIC),
    Images(20, 9, 17, 6, Augmentation(shift=2, cutout=4), views=True),
    Images(20, 12, 33, 6, ELASTIC, views=True),
)
CASES = [
    *(Images(50, 28, 27, n) for n in (0, 1, 37)),
    # Whole pixels and powers of two: the sample is exact too.
    *(Images(50, 28, 27, n, "shift", 0.0, 1 / 255) for n in (0, 1, 37)),
    Images(6, 28, 28, 6, "matrices"),
    Images(20, 28, 28, 6, AFFINE),
    Images(20, 9, 17, 6, ELASTIC),
    *(replace(case, c=c, floats=floats) for case in _EACH_KIND for c, floats in ((3, False), (None, True), (2, True))),
]
TIMED = Images(60_000, 28, 28, 128, None, 0.13, 0.31)


def _transform(case: Images, values: Values) -> Array | Transform | None:
    if isinstance(case.transform, Augmentation):
        identity = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
        return case.transform.at(3, 4, identity + np.float32(0.3) * values(case.count, 2, 3) if case.views else None)
    if case.transform is None:
        return None
    step = (2, -3) if case.transform == "shift" else (0, 0)
    matrices: Array = np.tile(np.array([[1, 0, step[0]], [0, 1, step[1]]], np.float32), (case.n, 1, 1))
    if case.transform == "matrices":
        matrices = matrices + np.float32(case.spread) * values(case.n, 2, 3)
    return matrices


def _arguments(case: Images, values: Values) -> Arguments:
    images: Array = values.rng.integers(0, 256, case.shape, np.uint8)
    if case.floats:
        images = values.rng.random(case.shape, np.float32)
    index = values.places((case.n,), case.count, np.int64)
    mean: object = case.mean
    std: object = case.std
    if case.c is not None and case.c > 1:
        mean, std = tuple(case.mean + 0.01 * c for c in range(case.c)), [case.std * (1 + c) for c in range(case.c)]
    return {"images": images, "index": index, "mean": mean, "std": std, "transform": _transform(case, values)}


def _random_augmentation(draw: Draw) -> Augmentation:
    return Augmentation(
        shift=draw.pick((0, 0, 1, 2, 40)),
        rotation=draw.pick((0, 0, 10, 180)),
        scale=draw.pick((0, 0, 0.1, 0.9)),
        shear=draw.pick((0, 0, 0.3, 1)),
        elastic=draw.pick((0, 0, 34, 2000)),
        elastic_sigma=draw.pick((0.01, 1.0, 4.0, 900.0)),
        cutout=draw.pick((0, 0, 1, 4, 9)),
    )


def _random(draw: Draw) -> Images:
    count, h, w = draw.pick((0, 1, 2, 7, 300)), draw.pick(SIDES), draw.pick((*SIDES, 28))
    n = draw.pick(BATCHES) if count else 0
    mean, std = draw.pick((0.1307, 0.1307, 0, -3.5, 1e10)), draw.pick((0.3081, 0.3081, 1, 1e-3, 1e30))
    c, floats = draw.pick((None, None, None, 1, 2, 3)), draw.chance(0.3)
    if draw.chance(0.25):
        return Images(count, h, w, n, "matrices", mean, std, spread=1.0, c=c, floats=floats)
    if draw.chance(0.35):
        return Images(count, h, w, min(n, 5), _random_augmentation(draw), c=c, floats=floats, views=draw.chance(0.3))
    return Images(count, h, w, n, None, mean, std, c=c, floats=floats)


def sampling_bound(
    transform: Transform, number: int, h: int, w: int, mean: float | Array = MEAN, std: float | Array = STD
) -> Array:
    """The error bound of float32, pixel by pixel, for images of 0..255, or of floats in [0, 1].

    mean, std: numbers, or arrays (c, 1, 1).

    A position is a sum of five parts: two products of the matrix's numbers and pixel numbers, the offset, the frame's border of
    1, and the displacement. Rounding the matrix, the products and the sums is at most 5 roundings of each part. A view
    multiplies all of this by its matrix, of which each number is at most once more rounded, and adds its offset. The
    displacement is alpha times two nested sums of K products each, of taps that were rounded and noise below 1 that is exact;
    the taps' sum is 1. With the taps' rounding, alpha's, its product, and the last sum, these are 2 K + 5 roundings of alpha.
    Then a sample moves by at most 255, the steepest slope there is, per pixel along each axis. Five more roundings are the
    interpolation's, of numbers up to 255 (two of a row's, which the other axis averages, and three of that), and four those
    of the normalisation, the reference's included.
    """
    chosen = transform.augmentation
    matrix, shift = np.abs(transform.affine(number)), np.abs(transform.shift(number))
    middle = np.array([h - 1, w - 1]) / 2
    rows, columns = np.arange(h)[:, None], np.arange(w)
    taps = sum(min(2 * math.ceil(3 * chosen.elastic_sigma) + 1, size) for size in (h, w))
    offset = middle + matrix @ (middle + shift)
    places = matrix[:, :1, None] * rows + matrix[:, 1:, None] * columns + offset[:, None, None]  # (2, h, w)
    bends = np.full(2, chosen.elastic)
    if transform.views is not None:
        view = np.abs(np.asarray(transform.views[number], np.float64))
        places = np.einsum("ij,jhw->ihw", view[:, :2], places) + view[:, 2, None, None]
        bends = view[:, :2] @ bends
    position: Array = gamma(5) * (places + 1).sum(axis=0) + gamma(taps + 6) * bends.sum()
    return np.asarray((position + gamma(5)) / std + gamma(4) * (1 + np.abs(mean)) / std)


def _judge(call: Call, actual: Results) -> None:
    """A table's numbers exactly; samples within the bound of a position's error times the steepest slope, 255 a pixel.

    Whole pixels are samples without rounding too, and exact where the normalisation is: by a mean of 0 and a scale of 1.
    """
    a, x, expected = call.arguments, actual[0], call.exact[0]
    transform = a["transform"]
    exact_std = 1 / 255 if a["images"].dtype == np.uint8 else 1.0
    whole = isinstance(transform, np.ndarray) and bool((transform == np.rint(transform)).all())
    whole = whole and a["std"] == exact_std and not np.any(a["mean"])
    if transform is None or whole or (isinstance(transform, Transform) and not transform.samples):
        expect_equal("x", x, expected)
        return
    expect_shape("x", x, expected)
    if not expected.size:
        return
    h, w = a["images"].shape[-2:]
    mean, std = (np.reshape(np.asarray(a[name], np.float64), (-1, 1, 1)) for name in ("mean", "std"))
    if isinstance(transform, Transform):
        bounds = [sampling_bound(transform, int(number), h, w, mean, std) for number in np.asarray(a["index"])]
        bound: Array = np.stack(bounds)
    else:
        # A coordinate is a sum of three products and the border: its error moves a sample by at most 255 a pixel.
        with np.errstate(all="ignore"):
            extent = np.abs(transform.astype(np.float64)) @ np.array([h, w, 1.0]) + 1
            bound = (gamma(5) * extent.sum(-1)[:, None, None, None] + gamma(8) * (1 + np.abs(mean))) / std
    # Beyond what a float32 can place, the sample is any that the image has; black outside it is left.
    bound = np.where(np.isfinite(bound), bound, 0) + np.zeros(expected.shape)
    near = np.abs(x.astype(np.float64) - expected) <= bound
    expect_all("x", near | (np.abs(expected) >= LARGEST / 2), x, expected, bound)


def _torch(torch: Torch, a: Arguments) -> object:
    """Without a transform, and rounded otherwise."""
    result: object = a["images"][a["index"]].unsqueeze(1).float().sub_(255 * a["mean"]).div_(255 * a["std"])
    return result


AUGMENTATIONS = {"shift": Augmentation(shift=2), "affine": AFFINE, "elastic": ELASTIC}
GATHER_IMAGES = Op(
    name="gather_images",
    arrays=("images", "transform"),
    dtypes={"images": np.uint8},
    optional_axes=("images",),
    results=(Result("x"),),
    arguments=_arguments,
    cases=CASES,
    small=[Images(7, 4, 5, 3, "matrices", 0.5, 0.25)],
    large=Images(100, 28, 28, 90, "matrices"),
    random=_random,
    judge=_judge,
    torch=_torch,
    timed_only=True,
    benchmarks=(
        Benchmark(", 128 of 28x28", TIMED),
        *(
            Benchmark(f", 128 of 28x28, {label}", replace(TIMED, transform=augmentation), torch=False)
            for label, augmentation in AUGMENTATIONS.items()
        ),
    ),
    traffic=lambda arguments: 5.0 * len(arguments["index"]) * math.prod(arguments["images"].shape[1:]),
)
OPS = (GATHER_IMAGES,)
