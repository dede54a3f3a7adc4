"""Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011). The kernels compute the same numbers.

A number depends on (seed, stream, counter, index) alone. So shuffling, dropout and initialisation do not affect each other, and
a seed gives the same numbers with every version of NumPy.
"""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

__all__ = ["STREAM_AUGMENT", "STREAM_DROPOUT", "STREAM_INIT", "STREAM_SHUFFLE", "permutation", "philox", "uniform"]

STREAM_INIT, STREAM_SHUFFLE, STREAM_DROPOUT, STREAM_AUGMENT = range(4)

_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(seed: int, stream: int, counter: int, count: int, first: int = 0) -> npt.NDArray[np.uint32]:
    """Returns `count` random words from word `first` on, uint32 (count,).

    Word i is word i%4 of the block whose counter words are (i//4, counter, counter>>32, stream). The key is (seed, seed>>32).
    seed, counter and first: integers of Python or NumPy, reduced modulo 2^64.
    """
    seed, stream, counter, count, first = map(operator.index, (seed, stream, counter, count, first))
    block, skipped = divmod(first % 2**64, 4)
    blocks = (skipped + count + 3) // 4
    words = [np.full(blocks, word & 0xFFFFFFFF, np.uint64) for word in (0, counter, counter >> 32, stream)]
    words[0] = np.arange(blocks, dtype=np.uint64) + np.uint64(block) & _LOW
    keys = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(_ROUNDS):
        low, high = _MULTIPLIERS[0] * words[0], _MULTIPLIERS[1] * words[2]
        words = [
            (high >> _HALF) ^ words[1] ^ np.uint64(keys[0]),
            high & _LOW,
            (low >> _HALF) ^ words[3] ^ np.uint64(keys[1]),
            low & _LOW,
        ]
        keys = [(key + step) & 0xFFFFFFFF for key, step in zip(keys, _KEY_STEPS, strict=True)]
    return np.stack(words, axis=1).reshape(-1)[skipped : skipped + count].astype(np.uint32)


def uniform(seed: int, stream: int, counter: int, count: int, first: int = 0) -> npt.NDArray[np.float64]:
    """Returns `count` numbers in [0, 1) from number `first` on, float64 (count,): multiples of 2^-24, exact in float32."""
    numbers: npt.NDArray[np.float64] = np.multiply(philox(seed, stream, counter, count, first) >> np.uint32(8), 2.0**-24)
    return numbers


def permutation(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Returns the order of `count` examples in an epoch, int64 (count,): a stable sort by 64 random bits per example."""
    words = philox(seed, STREAM_SHUFFLE, epoch, 2 * operator.index(count)).astype(np.uint64)
    return np.argsort(words[0::2] << _HALF | words[1::2], kind="stable")
