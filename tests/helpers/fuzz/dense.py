"""Random sizes of the fused convolution whose gradients tiles compute dense, if enough of its windows live."""

from __future__ import annotations

import math

from fastlenet.reference.bf16 import NARROW_ROW
from fastlenet.testing.cases import Fused
from fastlenet.testing.conv import MOST_PRODUCTS
from fastlenet.testing.values import Draw


def dense_case(draw: Draw) -> Fused:
    """Of filter rows of more than NARROW_ROW numbers, and of blocks of images that are full or nearly so."""
    while True:
        h, w = draw.pick((1, 2, 3, 5, 6, 8)), draw.pick((1, 2, 3, 5, 7, 9))
        padding = draw.pick((0, 0, 1, 2, 3)), draw.pick((0, 0, 1, 2, 3))
        tall, wide = h + 2 * padding[0], w + 2 * padding[1]
        r, s = 1 + draw.below(min(tall, 5)), 1 + draw.below(min(wide, 5))
        window = 1 + draw.below(min(tall - r + 1, 4)), 1 + draw.below(min(wide - s + 1, 4))
        c = NARROW_ROW // s + draw.pick((0, 1, 1, 2, 3, 15, 17))  # 0: a row that is one number too narrow, or none
        n, k = draw.pick((9, 15, 16, 17, 31, 32, 33)), draw.pick((1, 2, 5, 15, 16, 17, 33))
        case = Fused(n, c, h, w, k, (r, s), padding, window)
        products = n * k * (tall - r + 1) * (wide - s + 1) * math.prod(case.weight_shape[1:])
        if products <= 2 * MOST_PRODUCTS:
            return case
