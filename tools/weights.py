"""Writes the weights that the package carries: safetensors in bfloat16, the upper half of each float32."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def bfloat16_bits(array: Array) -> Array:
    """Finite float32 as the uint16 of the nearest bfloat16, of two equally near the even one."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    upper = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    assert (upper & 0x7F80 != 0x7F80).all(), "a weight is infinite, NaN or too large for bfloat16"
    return upper


def save_bfloat16(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """The format: the header's length in 8 bytes, the header as JSON, the tensors' bytes one after the other."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    content = b""
    for name, array in tensors.items():
        data = bfloat16_bits(array).tobytes()
        header[name] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": [len(content), len(content) + len(data)]}
        content += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    print(f"{path}: {path.stat().st_size:,} bytes")
