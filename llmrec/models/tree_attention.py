"""Attention over a prefix tree: each row attends only to its ancestors and itself.

The rows of a chunk are forwarded as one sequence without padding. Attention processes ``RUN`` rows
at a time: such a run attends to the ancestors of its first row and to itself. Its keys are gathered
from the existing ones, not copied for each candidate, and one comparison gives the mask. Runs with
similar numbers of keys share one call of PyTorch's fused attention. Query heads that share a key
head are folded into its rows.

Registered with transformers' attention and mask interfaces as ``NAME``. Without a tree (in
generation) it is transformers' scaled-dot-product attention.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from llmrec.errors import ModelError
from llmrec.models.prefix_tree import Chunk, PrefixTree

NAME = "llmrec_tree"
RUN = 64
"""Rows per run. Longer runs gather fewer keys but compute more masked scores."""
MAX_KEYS = 16_384
"""Maximum keys of all runs of one call. Limits memory, does not change the result."""
MAX_MASK = 16_000_000
"""Maximum mask entries cached for all layers: 64 MB in fp32. Larger masks are made per layer."""


@dataclass(frozen=True)
class Block:
    """Some runs of a chunk: the ``rows`` of their queries, and the ``keys`` of each run.

    ``keys[runs, longest]`` are indices: carried rows first, then the chunk's own. ``sees[runs, RUN,
    longest]`` is the mask. ``query_depths[runs, RUN]`` and ``key_depths[runs, longest]`` are for
    sliding windows.
    """

    rows: slice
    keys: NDArray[np.int64]
    sees: NDArray[np.bool_]
    query_depths: NDArray[np.int64]
    key_depths: NDArray[np.int64]


@dataclass
class TreeAttention:
    """Key indices and masks of a chunk, for all layers. ``layers`` counts its calls."""

    blocks: tuple[Block, ...]
    longest: int
    layers: int = 0
    _on_device: dict[tuple[object, ...], list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: PrefixTree, chunk: Chunk) -> TreeAttention:
        """Divide a chunk into runs and blocks."""
        starts = list(range(chunk.start, chunk.end, RUN))
        paths = tree.paths(starts)
        blocks: list[Block] = []
        first = 0
        while first < len(starts):
            longest = 0
            last = first
            while last < len(starts):
                keys = len(paths[last]) + RUN
                if last > first and (max(longest, keys) * (last + 1 - first) > MAX_KEYS):
                    break
                longest = max(longest, keys)
                last += 1
            blocks.append(_block(tree, chunk, starts[first:last], paths[first:last], longest))
            first = last
        rows = slice(chunk.start, chunk.end)
        return cls(tuple(blocks), int(tree.depths[rows].max()) + 1)

    def tensors(
        self, query: Tensor, repeats: int, window: int | None
    ) -> Iterable[tuple[Tensor, Tensor]]:
        """Key indices and additive mask of each block, on the query's device.

        Small ones (`MAX_MASK`) are made once per chunk, others once per layer.
        """
        window = window if window is not None and window < self.longest else None
        made = (_tensors(block, query, repeats, window) for block in self.blocks)
        if sum(block.sees.size for block in self.blocks) * repeats > MAX_MASK:
            return made
        key = (query.device, query.dtype, repeats, window)
        if key not in self._on_device:
            self._on_device[key] = list(made)
        return self._on_device[key]


def _block(
    tree: PrefixTree, chunk: Chunk, starts: list[int], paths: list[NDArray[np.int64]], longest: int
) -> Block:
    end = min(starts[-1] + RUN, chunk.end)
    key_rows = np.full((len(starts), longest), -1, dtype=np.int64)
    for i, (start, path) in enumerate(zip(starts, paths, strict=True)):
        own = np.arange(start, min(start + RUN, chunk.end))
        key_rows[i, : len(path) + len(own)] = np.concatenate([path, own])
    # The last run may be short: the other queries repeat its last row and are discarded.
    query_rows = np.minimum(np.asarray(starts)[:, None] + np.arange(RUN), end - 1)
    there = key_rows >= 0
    key_rows = np.where(there, key_rows, 0)
    keys, queries = key_rows[:, None, :], query_rows[:, :, None]
    sees = there[:, None, :] & (keys <= queries) & (queries < tree.ends[keys])
    place = np.where(
        key_rows < chunk.start, tree.depths[key_rows], len(chunk.carried) + key_rows - chunk.start
    )
    return Block(
        slice(starts[0] - chunk.start, end - chunk.start),
        np.where(there, place, 0),
        sees,
        tree.depths[query_rows],
        tree.depths[key_rows],
    )


def _tensors(
    block: Block, query: Tensor, repeats: int, window: int | None
) -> tuple[Tensor, Tensor]:
    sees = block.sees
    if window is not None:
        distance = block.query_depths[:, :, None] - block.key_depths[:, None, :]
        sees = sees & (distance < window)
    allowed = torch.from_numpy(sees).to(query.device)
    mask = torch.zeros(allowed.shape, dtype=query.dtype, device=query.device)
    mask.masked_fill_(~allowed, float("-inf"))
    return torch.from_numpy(block.keys).to(query.device), mask.repeat(1, repeats, 1)[:, None]


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    tree: TreeAttention | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,  # noqa: ANN401 - transformers' interface
) -> tuple[Tensor, None]:
    """Compute attention over the tree.

    Queries are ``[1, heads, rows, d]``, keys and values ``[1, kv heads, carried + rows, d]``.

    Raises:
        ModelError: The model's attention has a term that is not supported here.
    """
    if tree is None:
        if softcap is not None:  # sdpa has none
            return _capped(query, key, value, attention_mask, scaling, softcap, dropout), None
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout,
            scaling,
            sliding_window=sliding_window,
            **kwargs,
        )
    unknown = [name for name in ("s_aux", "position_bias") if kwargs.get(name) is not None]
    if unknown:
        raise ModelError(
            f"The model's attention uses {unknown[0]}, which the prefix tree does not support."
        )
    tree.layers += 1
    heads, size = query.shape[1], query.shape[3]
    kv_heads = key.shape[1]
    repeats = heads // kv_heads
    outputs = []
    for block, (keys, mask) in zip(
        tree.blocks, tree.tensors(query, repeats, sliding_window), strict=True
    ):
        runs, longest = keys.shape
        flat = keys.flatten()
        some = query[0, :, block.rows]
        q = pad(some, (0, 0, 0, runs * RUN - some.shape[1])).view(
            kv_heads, repeats, runs, RUN, size
        )
        q = q.permute(2, 0, 1, 3, 4).reshape(runs, kv_heads, repeats * RUN, size)
        k = key[0].index_select(1, flat).view(kv_heads, runs, longest, size).transpose(0, 1)
        v = value[0].index_select(1, flat).view(kv_heads, runs, longest, -1).transpose(0, 1)
        out = _attend(q, k, v, mask, scaling, softcap, dropout)
        out = out.view(runs, kv_heads, repeats, RUN, -1).permute(0, 3, 1, 2, 4)
        outputs.append(out.reshape(runs * RUN, heads, -1)[: some.shape[1]])
    return torch.cat(outputs)[None], None


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    scaling: float | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    if softcap is None:
        return scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, scale=scaling)
    scale = scaling if scaling is not None else q.shape[-1] ** -0.5
    scores = torch.tanh(q @ k.transpose(-1, -2) * scale / softcap) * softcap + mask
    return torch.dropout(scores.softmax(-1), dropout, dropout > 0) @ v


def _capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor | None,
    scaling: float | None,
    softcap: float,
    dropout: float,
) -> Tensor:
    """Ordinary attention with capped scores; ``allowed`` is a bool mask, None where causal."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    if allowed is None:
        queries, keys = query.shape[2], key.shape[2]
        ones = torch.ones(queries, keys, dtype=torch.bool, device=query.device)
        allowed = ones.tril(keys - queries)
    mask = torch.zeros(allowed.shape, dtype=query.dtype, device=query.device)
    mask.masked_fill_(~allowed, torch.finfo(query.dtype).min)  # finite: padding rows see nothing
    return _attend(query, key, value, mask, scaling, softcap, dropout).transpose(1, 2)


AttentionInterface.register(NAME, tree_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
