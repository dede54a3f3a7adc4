"""Weights for repeated use."""

from __future__ import annotations

from fastlenet.backend import Array
from fastlenet.backend import Packed as PackedWeight
from fastlenet.reference.checks import Call

__all__ = ["Packed"]


class Packed(PackedWeight[Array]):
    """Keeps the weight unchanged, since the reference has no other layout."""

    def __init__(self, weight: Array, algorithm: str = "direct") -> None:
        call = Call("Packed")
        super().__init__(call.weight(weight), algorithm)
