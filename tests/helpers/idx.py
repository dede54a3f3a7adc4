"""IDX files, right and wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from helpers.arrays import Array


def write_idx(path: Path, array: Array, *, compress: bool = False, header: bytes | None = None) -> Path:
    """An IDX file of uint8, with another header than the true one if given."""
    true_header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    data = (true_header if header is None else header) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data, 1) if compress else data)
    return path
