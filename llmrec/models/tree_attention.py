"""Attention over a prefix tree: each row attends only to its ancestors and itself.

The rows of a chunk are forwarded as one sequence without padding. Attention processes a *run* of
consecutive rows at a time: it attends to the ancestors of its first row and to itself. Runs with
similar numbers of keys are a block, which is one call of PyTorch's fused attention; so one long
history does not lengthen the others' calls. The runs of a chunk are forwarded in the order of their
blocks: the queries of a block are a slice, its keys are gathered from the existing ones. Masks are
computed on the device. Query heads that share a key head are folded into its rows.

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
MULTIPLE = 32
"""Keys of a block are padded to a multiple: few shapes, and aligned masks."""


@dataclass(frozen=True)
class Sizes:
    """How a chunk is divided; results do not depend on it.

    Longer runs (rows) gather fewer keys but compute more masked scores. ``keys`` of all runs of a
    block bound its memory. Masks of more than ``mask`` entries are made once per layer instead of
    once per chunk.
    """

    run: int
    keys: int
    mask: int


ON_CPU = Sizes(run=64, keys=16_384, mask=16_000_000)
ON_ACCELERATOR = Sizes(run=64, keys=131_072, mask=128_000_000)


@dataclass(frozen=True)
class Block:
    """Runs that attend together: where their rows begin and end, and their share of all keys."""

    rows: slice
    runs: slice
    keys: slice


@dataclass
class TreeAttention:
    """Runs, keys and masks of a chunk, for all layers; ``layers`` counts its calls.

    Key numbers are those of the carried rows, then of the chunk's, in the order of the tree, and
    one more for padding. ``order[i]`` is the key number of the row that is forwarded at ``i``,
    ``places[k]`` where key ``k`` stands among the model's keys. ``heads[r]`` is the key number of
    run ``r``'s first row, ``keys`` holds the blocks' key numbers, ``[runs, longest]`` each. Key
    ``k`` is seen by the rows from ``k`` to ``stops[k]``.
    """

    blocks: tuple[Block, ...]
    order: NDArray[np.int64]
    places: NDArray[np.int64]
    depths: NDArray[np.int64]
    stops: NDArray[np.int64]
    heads: NDArray[np.int64]
    keys: NDArray[np.int64]
    sizes: Sizes
    layers: int = 0
    _sent: dict[torch.device, list[Tensor]] = field(default_factory=dict)
    _made: dict[tuple[object, ...], list[tuple[Tensor, Tensor]]] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: PrefixTree, chunk: Chunk, device: str = "cpu") -> TreeAttention:
        """Divide a chunk into runs and blocks of sizes that suit a type of device."""
        sizes = ON_CPU if device == "cpu" else ON_ACCELERATOR
        carried, total = len(chunk.carried), len(chunk.carried) + chunk.end - chunk.start
        rows = np.append(chunk.carried, np.arange(chunk.start, chunk.end))
        stops = np.minimum(tree.ends[rows], chunk.end) - chunk.start + carried
        depths = tree.depths[rows]
        heads = np.arange(carried, total, sizes.run)
        own = np.minimum(sizes.run, total - heads)
        lengths = depths[heads] + own
        padded = -(-lengths // MULTIPLE) * MULTIPLE
        by_size = np.argsort(-padded, kind="stable")
        blocks, place = [], np.empty(len(heads), dtype=np.int64)  # of each run's keys in ``keys``
        run = row = key = 0
        while run < len(heads):
            longest = int(padded[by_size[run]])
            alike = int(np.searchsorted(-padded[by_size], -longest // 2, side="right"))
            most = run + max(1, sizes.keys // longest)
            end = min(len(heads), most, max(alike, run + sizes.keys // 8 // longest))
            some = by_size[run:end]
            some.sort()  # only the chunk's last run may be short: it comes last in its block
            place[some] = key + longest * np.arange(len(some))
            ends = row + int(own[some].sum()), key + longest * len(some)
            blocks.append(Block(slice(row, ends[0]), slice(run, end), slice(key, ends[1])))
            run, row, key = end, *ends
        keys = np.full(key, total)
        # A key is above the runs that begin in its subtree; its place in them is its depth.
        numbers = np.arange(total)
        first = np.maximum((numbers - carried) // sizes.run + 1, 0)
        first[:carried] = 0
        above = np.maximum(-((carried - stops) // sizes.run) - first, 0)
        key_of, run_of = np.repeat(numbers, above), np.repeat(first, above) + _counted(above)
        keys[place[run_of] + depths[key_of]] = key_of
        inside = _counted(own)
        keys[np.repeat(place + lengths - own, own) + inside] = np.repeat(heads, own) + inside
        order = np.repeat(heads[by_size], own[by_size]) + _counted(own[by_size])
        places = np.arange(total + 1)
        places[order] = np.arange(carried, total)
        places[total] = 0
        return cls(
            tuple(blocks),
            order,
            places,
            np.append(depths, 0),
            np.append(stops, 0),
            heads[by_size],
            keys,
            sizes,
        )

    def tensors(
        self, query: Tensor, repeats: int, window: int | None
    ) -> Iterable[tuple[Tensor, Tensor]]:
        """Key places and additive mask of each block, on the query's device."""
        if query.device not in self._sent:
            arrays = (self.places, self.depths, self.stops, self.heads, self.keys)
            self._sent[query.device] = sent(query.device, *arrays)
        window = window if window is not None and window <= self.depths.max() else None
        made = (self._tensors(block, query, repeats, window) for block in self.blocks)
        if len(self.keys) * self.sizes.run * repeats > self.sizes.mask:
            return made
        key = (query.device, query.dtype, repeats, window)
        if key not in self._made:
            self._made[key] = list(made)
        return self._made[key]

    def _tensors(
        self, block: Block, query: Tensor, repeats: int, window: int | None
    ) -> tuple[Tensor, Tensor]:
        places, depths, stops, heads, keys = self._sent[query.device]
        heads = heads[block.runs, None]
        keys = keys[block.keys].view(len(heads), -1)
        rows = heads + torch.arange(self.sizes.run, device=query.device, dtype=heads.dtype)
        rows = rows.clamp(max=len(places) - 2)  # a short run repeats its last row: discarded later
        here, there = rows[:, :, None], keys[:, None, :]
        hidden = (there > here) | (here >= stops[keys][:, None, :])
        if window is not None:
            hidden |= depths[rows][:, :, None] - depths[keys][:, None, :] >= window
        mask = torch.zeros(hidden.shape, dtype=query.dtype, device=query.device)
        mask = mask.masked_fill_(hidden, float("-inf")).repeat(1, repeats, 1)[:, None]
        return places[keys.flatten()], mask


def sent(device: torch.device, *arrays: NDArray[np.int64]) -> list[Tensor]:
    """Arrays as int32 tensors on a device: one transfer, for which the host does not wait."""
    packed = torch.from_numpy(np.concatenate([*map(np.ravel, arrays)]).astype(np.int32))
    if device.type == "cuda":
        packed = packed.pin_memory()
    parts = packed.to(device, non_blocking=True).split([array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def _counted(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 to each of ``lengths``, one after the other."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


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
    kv_heads, run = key.shape[1], tree.sizes.run
    repeats = heads // kv_heads
    outputs = []
    for block, (places, mask) in zip(
        tree.blocks, tree.tensors(query, repeats, sliding_window), strict=True
    ):
        runs, longest = len(mask), mask.shape[-1]
        some = query[0, :, block.rows]
        q = pad(some, (0, 0, 0, runs * run - some.shape[1])).view(
            kv_heads, repeats, runs, run, size
        )
        q = q.permute(2, 0, 1, 3, 4).reshape(runs, kv_heads, repeats * run, size)
        k = key[0].index_select(1, places).view(kv_heads, runs, longest, size).transpose(0, 1)
        v = value[0].index_select(1, places).view(kv_heads, runs, longest, -1).transpose(0, 1)
        out = _attend(q, k, v, mask, scaling, softcap, dropout)
        out = out.view(runs, kv_heads, repeats, run, -1).permute(0, 3, 1, 2, 4)
        outputs.append(out.reshape(runs * run, heads, -1)[: some.shape[1]])
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
