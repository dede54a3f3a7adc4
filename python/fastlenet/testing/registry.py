"""The descriptions of all ops, by name."""

from __future__ import annotations

from collections.abc import Mapping

from fastlenet.testing import conv, elementwise, fused, gather, linear, loss, pool, update
from fastlenet.testing.description import Op

__all__ = ["OPS"]

GROUPS = (conv, pool, fused, linear, elementwise, loss, gather, update)
OPS: Mapping[str, Op] = {op.name: op for group in GROUPS for op in group.OPS}
