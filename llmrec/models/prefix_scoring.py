"""Scores of token sequences by one pass over their prefix tree.

Every score of a local model comes from `score_sequences`: pointwise labels, likelihoods of titles,
calibration passes. Every distinct prefix token is forwarded once; the vocabulary projection is
computed only where a score is read; memory is bounded by a budget of rows, whatever the number of
candidates; and under autograd the same pass can be trained through.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from numpy.typing import NDArray
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from llmrec.errors import ModelError, OutOfMemoryError
from llmrec.models.prefix_tree import Chunk, PrefixTree, ScoredSequence, common_length
from llmrec.models.tree_attention import TreeAttention

logger = logging.getLogger(__name__)

LOGITS = 32_000_000
"""Logits (scored rows times vocabulary) projected at once: 128 MB in fp32."""
ATTENTION_KINDS = ("full_attention", "sliding_attention")
"""Kinds of layers (transformers' ``layer_types``) that the tree knows."""
TESTED_FAMILIES = frozenset({"llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3_text"})
"""Model types whose scores the tests compare with whole sequences: no check at loading."""
SMALLEST = 16
"""Rows below which an out-of-memory chunk is not halved again."""


@dataclass(frozen=True, slots=True)
class Passed:
    """The result of a pass over a tree: ``log_probs`` has a tensor per sequence.

    ``rows`` were forwarded in ``forwards`` calls of the model; ``halvings`` counts how often memory
    did not suffice and the rows at once were halved.
    """

    log_probs: tuple[Tensor, ...]
    rows: int
    forwards: int
    halvings: int


@dataclass
class PrefixCache:
    """The common prefix of the last call's sequences, for a next call that begins alike.

    ``keys`` and ``values`` belong to ``tokens``, one tensor per layer. A call uses it and replaces
    it; so each call's scores depend, in their last digits, on the calls before it.
    """

    tokens: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)


class _PathLayer(DynamicLayer):
    """One layer's keys and values, of which only the path to the next chunk is kept."""

    path: _Path
    common: tuple[Tensor, Tensor]

    @classmethod
    def along(cls, path: _Path) -> _PathLayer:
        layer = cls()
        layer.path = path
        return layer

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: object,  # noqa: ARG002 - transformers' interface
        **kwargs: object,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        keys, values = super().update(key_states, value_states)
        if self.path.common:  # the common prefix stands first, carried or own
            self.common = (keys[:, :, : self.path.common], values[:, :, : self.path.common])
        keep = self.path.keep.to(keys.device)
        self.keys, self.values = keys.index_select(2, keep), values.index_select(2, keep)
        return keys, values


@dataclass
class _Path:
    """Which of (carried rows + the chunk's rows) the next chunk needs; shared by all layers.

    The first ``common`` rows are cached for the next call; 0: they are cached already.
    """

    keep: Tensor
    common: int = 0


def score_sequences(
    model: PreTrainedModel,
    sequences: Sequence[ScoredSequence],
    *,
    max_rows: int,
    cached: PrefixCache | None = None,
) -> Passed:
    """Log-probabilities of the scored positions, every shared prefix token forwarded once.

    Gradients flow if they are enabled where this is called.

    Args:
        model: A causal language model loaded with ``attn_implementation=tree_attention.NAME``.
        sequences: Any mixture of lengths and shared beginnings, in any order.
        max_rows: Rows forwarded at once. Bounds memory, does not change the result.
        cached: The common prefix of an earlier call, not forwarded again; replaced by this one's.

    Raises:
        OutOfMemoryError: Not even ``SMALLEST`` rows fit.
        ModelError: The model does not route its attention through the tree.
    """
    if not sequences:
        return Passed((), 0, 0, 0)
    tree = PrefixTree.of(sequences)
    halvings = 0
    while True:
        try:
            picked, forwards, rows = _pass_over(model, tree, max_rows, cached)
            break
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if max_rows // 2 < SMALLEST:
                raise out_of_memory(f"{max_rows} tokens", error) from error
            halvings += 1
            max_rows //= 2
            logger.warning("out of memory: trying again with %d tokens at once", max_rows)
    lengths = [len(some.rows) for some in tree.positions]
    return Passed(torch.split(picked, lengths), rows, forwards, halvings)


def out_of_memory(what: str, error: Exception) -> OutOfMemoryError:
    """The error for ``what`` that does not fit even by itself."""
    return OutOfMemoryError(
        f"{what} at once do not fit into memory ({error}).",
        hint="Use a smaller or quantized model, a shorter history, or another device.",
    )


def input_device(model: PreTrainedModel) -> torch.device:
    """The device of a model's token ids, also where weights are offloaded to the disk."""
    hook = getattr(model, "_hf_hook", None)  # accelerate's, where layers stand on several devices
    return model.device if hook is None else torch.device(hook.execution_device)


def _pass_over(
    model: PreTrainedModel, tree: PrefixTree, max_rows: int, cached: PrefixCache | None
) -> tuple[Tensor, int, int]:
    """The scores of all sequences, one after the other; forwards and rows that they took."""
    config = model.config.get_text_config()
    common = tree.common_prefix() if cached else np.empty(0, dtype=np.int64)
    known = common_length(cached.tokens, common) if cached else 0
    chunks = list(tree.chunks(max_rows, max(1, LOGITS // config.vocab_size), known))
    path = _Path(torch.arange(known))
    layers = [_PathLayer.along(path) for _ in range(config.num_hidden_layers)]
    if cached and known:
        for layer, keys, values in zip(layers, cached.keys, cached.values, strict=True):
            layer.update(keys[:, :, :known], values[:, :, :known])
    cache = Cache(layers=[*layers])
    rows = np.concatenate([some.rows for some in tree.positions])
    tokens = np.concatenate([some.tokens for some in tree.positions])
    by_row = np.argsort(rows, kind="stable")
    rows, tokens = rows[by_row], tokens[by_row]
    parts = []
    for chunk, following in zip(chunks, [*chunks[1:], None], strict=True):
        path.keep = _places(chunk, following)
        path.common = len(common) if known <= chunk.start < len(common) else 0
        logits = _forward(model, tree, chunk, cache if cached or len(chunks) > 1 else None)
        read = slice(*np.searchsorted(rows, [chunk.start, chunk.end]))
        which = torch.from_numpy(np.searchsorted(chunk.scored, rows[read])).to(logits.device)
        next_tokens = torch.from_numpy(tokens[read]).to(logits.device)
        parts.append(logits[which, next_tokens] - logits.logsumexp(-1)[which])
    if cached and known < len(common):
        cached.tokens = common
        cached.keys, cached.values = ([layer.common[i] for layer in layers] for i in (0, 1))
    back = torch.from_numpy(np.argsort(by_row))
    return torch.cat(parts)[back.to(parts[0].device)], len(chunks), len(tree) - known


def _places(chunk: Chunk, following: Chunk | None) -> Tensor:
    """The places of the next chunk's carried rows among this one's carried and own rows."""
    if following is None:
        return torch.empty(0, dtype=torch.long)
    carried = following.carried
    depth = np.arange(len(carried))  # a path holds one row a depth
    places = np.where(carried < chunk.start, depth, len(chunk.carried) + carried - chunk.start)
    return torch.from_numpy(places)


def _forward(model: PreTrainedModel, tree: PrefixTree, chunk: Chunk, cache: Cache | None) -> Tensor:
    """The chunk's logits at its scored rows, ``[scored, vocabulary]``, in fp32."""
    rows = slice(chunk.start, chunk.end)
    attention = TreeAttention.of(tree, chunk)
    device = input_device(model)
    output = model(
        input_ids=torch.from_numpy(tree.tokens[rows])[None].to(device),
        position_ids=torch.from_numpy(tree.depths[rows])[None].to(device),
        # A 4-D mask is taken as it is, so transformers builds none; the tree holds the real one.
        attention_mask=torch.zeros(1, 1, 1, 1, device=device),
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=torch.from_numpy(chunk.scored - chunk.start).to(device),
        tree=attention,
    )
    layers = model.config.get_text_config().num_hidden_layers
    if attention.layers != layers:
        raise ModelError(
            f"{type(model).__name__} routes {attention.layers} of its {layers} layers through the "
            "prefix tree.",
            hint="Load it with attn_implementation='llmrec_tree'; models with layers of another "
            "kind than attention cannot share prefixes.",
        )
    logits: Tensor = output.logits[0].float()
    return logits


def check_prefix_sharing(model: PreTrainedModel) -> None:
    """Compare the scores of two short sequences through the tree and whole.

    A model can have state that the tree ignores (recurrent layers, chunked attention, convolutions
    beside the attention); its scores would be wrong without any other sign.

    Raises:
        ModelError: The scores differ, or not every layer goes through the tree.
    """
    config = model.config.get_text_config()
    if config.model_type in TESTED_FAMILIES:
        return
    kinds = set(getattr(config, "layer_types", None) or ()) - {*ATTENTION_KINDS}
    if kinds:
        raise ModelError(
            f"{type(model).__name__} has layers of the kind {', '.join(sorted(kinds))}.",
            hint=f"Prefixes can be shared where all layers are {' or '.join(ATTENTION_KINDS)}.",
        )
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, 48).tolist()
    branches = [tuple(tokens[:32]), (*tokens[:16], *tokens[32:])]
    with torch.inference_mode():
        passed = score_sequences(
            model, [ScoredSequence(branch, 8) for branch in branches], max_rows=64
        )
        apart = []
        for branch, shared in zip(branches, passed.log_probs, strict=True):
            ids = torch.tensor([branch], device=input_device(model))
            whole = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
            alone = whole[list(range(7, len(branch) - 1)), list(branch[8:])]
            apart.append((alone - shared).abs().mean())
    difference = float(torch.stack(apart).max())
    # Half precision rounds differently wherever shapes differ, by chance in either direction.
    if not difference <= (1e-3 if model.dtype == torch.float32 else 0.1):
        raise ModelError(
            f"{type(model).__name__} gives scores through the prefix tree that differ from those "
            f"of whole sequences by {difference:.2g} on average.",
            hint="Its layers keep state that the tree does not know of: it cannot be used here.",
        )
