"""Random sizes of the fused convolution for the units of bfloat16, whose emulations are hundreds of times as slow."""

from __future__ import annotations

import math
from dataclasses import replace

from fastlenet.reference.bf16 import NARROW_ROW
from fastlenet.testing.cases import Fused, both
from fastlenet.testing.fused import FORWARD
from fastlenet.testing.values import Draw

MOST_PRODUCTS = 300_000


def _products(case: Fused) -> int:
    """Of the convolution, before its maximum, at most."""
    window = both(case.kernel_size)
    return math.prod(case.y_shape) * math.prod(window) * math.prod(case.weight_shape[1:])


def light_case(draw: Draw) -> Fused:
    """As the op's description draws it, with fewer images and filters if it is large."""
    case = FORWARD.random(draw)
    assert isinstance(case, Fused)
    while _products(case) > MOST_PRODUCTS and max(case.n, case.k) > 1:
        case = replace(case, n=math.ceil(case.n / 2), k=math.ceil(case.k / 2))
    return case


def dense_case(draw: Draw) -> Fused:
    """Whose gradients tiles compute dense, if enough windows live.

    Of filter rows of more than NARROW_ROW numbers, and of blocks of images that are full or nearly so.
    """
    while True:
        h, w = draw.pick((1, 2, 3, 5, 6, 8)), draw.pick((1, 2, 3, 5, 7, 9))
        padding = draw.pick((0, 0, 1, 2, 3)), draw.pick((0, 0, 1, 2, 3))
        tall, wide = h + 2 * padding[0], w + 2 * padding[1]
        r, s = 1 + draw.below(min(tall, 5)), 1 + draw.below(min(wide, 5))
        window = 1 + draw.below(min(tall - r + 1, 4)), 1 + draw.below(min(wide - s + 1, 4))
        c = NARROW_ROW // s + draw.pick((0, 1, 1, 2, 3, 15, 17))  # 0: a row that is one number too narrow, or none
        n, k = draw.pick((9, 15, 16, 17, 31, 32, 33)), draw.pick((1, 2, 5, 15, 16, 17, 33))
        case = Fused(n, c, h, w, k, (r, s), padding, window)
        if _products(case) <= MOST_PRODUCTS:
            return case
