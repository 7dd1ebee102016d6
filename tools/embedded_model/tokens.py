"""CLIP's tokens, and a packed table of those that captions use."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .networks import BEGIN, END, TOKENS, VOCABULARY

FIRST_WORD = 256  # lower rows of CLIP's table are single bytes


class PackedTokens:
    """Maps CLIP ids to rows of a small table. Row 0 stands for every token that no caption has."""

    def __init__(self, used: Iterable[int]):
        self.used = sorted({BEGIN, END, *used})
        self.row_of = torch.zeros(VOCABULARY, dtype=torch.long)
        self.row_of[self.used] = torch.arange(1, len(self.used) + 1)

    @property
    def rows(self) -> int:
        return len(self.used) + 1

    def pack(self, ids: Tensor) -> Tensor:
        """ids: (B, 77) CLIP ids. Returns: (B, 77) rows."""
        return self.row_of[ids]

    def unpack(self, table: Tensor) -> Tensor:
        """table: (rows, width). Returns: (49408, width), the unknown row copied to all unused tokens."""
        return table[self.row_of.to(table.device)]


def frame(ids: list[int]) -> list[int]:
    """Word ids -> 77 ids: begin, words, end; padded with end, as SD 1.x does."""
    ids = [BEGIN, *ids[: TOKENS - 2], END]
    return ids + [END] * (TOKENS - len(ids))
