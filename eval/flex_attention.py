"""FlexAttention over the prefix tree, to be measured against `llmrec.models.tree_attention`.

One call a layer, without gathered keys and without masks in memory: a block mask says which blocks
of 128 rows see which blocks of 128 keys, and a function says which key a row sees inside them.
`gpu_check.py --only flex` compares both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from llmrec.models.tree_attention import TreeAttention, sent

BLOCK = 128
"""Rows and keys of a block of the mask."""


def block_mask(tree: TreeAttention, carried: int, device: torch.device) -> BlockMask:
    """Which keys the rows of a chunk see, both in the order of the tree.

    Key ``k`` is seen by the rows from ``k`` to ``stops[k]``. Blocks of which a part may be seen are
    computed with that rule; blocks that every row sees whole are computed without.
    """
    stops = tree.stops[:-1]
    total = len(stops)
    n_rows, n_keys = (-(-n // BLOCK) for n in (total - carried, total))
    first_row = carried + BLOCK * np.arange(n_rows)[:, None]
    last_row = np.minimum(first_row + BLOCK, total) - 1
    first_key = BLOCK * np.arange(n_keys)
    last_key = np.minimum(first_key + BLOCK, total) - 1
    furthest, nearest = (f.reduceat(stops, first_key) for f in (np.maximum, np.minimum))
    some = (first_key <= last_row) & (furthest > first_row)
    whole = (
        some & (last_key <= first_row) & (nearest > last_row) & (last_key - first_key == BLOCK - 1)
    )
    numbers, offset = sent(device, stops, np.array(carried))

    def seen(batch: Tensor, head: Tensor, row: Tensor, key: Tensor) -> Tensor:  # noqa: ARG001
        here = row + offset
        return (key <= here) & (here < numbers[key])

    made: BlockMask = BlockMask.from_kv_blocks(
        *_listed(some & ~whole, device),
        *_listed(whole, device),
        BLOCK_SIZE=BLOCK,
        mask_mod=seen,
        seq_lengths=(total - carried, total),
    )
    return made


def _listed(chosen: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """How many key blocks each row block has, and their numbers first."""
    numbers = np.argsort(~chosen, axis=1, kind="stable")
    counts, listed = sent(device, chosen.sum(axis=1), numbers)
    return counts[None, None].contiguous(), listed[None, None].contiguous()


class FlexTreeAttention:
    """An attention function for transformers that takes the place of `tree_attention`.

    ``attend`` is `flex_attention`, compiled or not. The mask of a chunk is made once for its
    layers.
    """

    def __init__(self, attend: Callable[..., Tensor] = flex_attention) -> None:
        self.attend = attend
        self._of: tuple[TreeAttention, BlockMask, list[Tensor]] | None = None

    def __call__(
        self,
        module: nn.Module,  # noqa: ARG002 - transformers' interface
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,  # noqa: ARG002
        scaling: float | None = None,
        tree: TreeAttention | None = None,
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> tuple[Tensor, None]:
        """Attention of full layers without caps: ``[1, heads, rows, d]`` of queries."""
        if tree is None:
            raise NotImplementedError("Only scores are computed in this way.")
        if self._of is None or self._of[0] is not tree:
            carried = key.shape[2] - query.shape[2]
            places = tree.places[:-1]
            own = places[carried:] - carried
            planned = sent(query.device, own, np.argsort(own), places)
            self._of = tree, block_mask(tree, carried, query.device), planned
        _, mask, (rows, back, keys) = self._of
        tree.layers += 1
        found = self.attend(
            query.index_select(2, rows),
            key.index_select(2, keys),
            value.index_select(2, keys),
            block_mask=mask,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return found.index_select(2, back).transpose(1, 2), None
