"""PyTorch compiled by AMD's zentorch, inference only; with the variant "bf16", by autocast."""

from __future__ import annotations

from typing import Any

import torch
import zentorch

from peers import pytorch


class Peer(pytorch.Peer):
    def __init__(self, data: dict[str, Any], threads: int, variant: str) -> None:
        super().__init__(data, threads, variant)
        self.version = " ".join(["zentorch", zentorch.__version__, variant]).strip()
        self.run = torch.compile(self.net, backend="zentorch")
