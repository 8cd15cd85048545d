"""Scores of token sequences by one pass over their prefix tree.

Every score of a local model comes from `score_sequences`: pointwise labels, likelihoods of titles,
calibration passes. Every distinct prefix token is forwarded once; the vocabulary projection is
computed only where a score is read; memory is bounded by a budget of rows, whatever the number of
candidates; and under autograd the same pass can be trained through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import signature

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import MoeModelOutputWithPast

from llmrec.errors import ModelError
from llmrec.models.hardware import halve_until_it_fits
from llmrec.models.prefix_tree import Chunk, PrefixTree, ScoredSequence, common_length
from llmrec.models.tree_attention import TreeAttention, sent

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
    """The result of a pass over a tree: all scores, one sequence after the other, ``counts`` each.

    ``rows`` were forwarded in ``forwards`` calls of the model; ``given`` counts the tokens of all
    distinct sequences; ``halvings`` counts how often memory did not suffice and the rows at once
    were halved.
    """

    scores: Tensor
    counts: list[int]
    rows: int
    given: int
    forwards: int
    halvings: int

    @property
    def log_probs(self) -> tuple[Tensor, ...]:
        """The scores of each sequence."""
        return tuple(torch.split(self.scores, self.counts))


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
        if self.path.common is not None:
            self.common = _taken(keys, values, self.path.common)
        self.keys, self.values = _taken(keys, values, self.path.keep)
        return keys, values


@dataclass
class _Path:
    """Places of the keys that the next chunk needs; shared by all layers.

    Those of ``common`` are cached for the next call; None: they are cached already.
    """

    keep: Tensor
    common: Tensor | None = None


def _taken(keys: Tensor, values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    places = places.to(keys.device)
    return keys.index_select(2, places), values.index_select(2, places)


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
        return Passed(torch.empty(0), [], 0, 0, 0, 0)
    tree = PrefixTree.of(sequences)
    (scores, forwards, rows), halvings = halve_until_it_fits(
        lambda most: _pass_over(model, tree, most, cached),
        max_rows,
        unit="token",
        name=type(model).__name__,
        least=SMALLEST,
    )
    return Passed(scores, tree.counts.tolist(), rows, tree.given, forwards, halvings)


def input_device(model: PreTrainedModel) -> torch.device:
    """The device of a model's token ids, also where weights are offloaded to the disk."""
    hook = getattr(model, "_hf_hook", None)  # accelerate's, where layers stand on several devices
    return model.device if hook is None else torch.device(hook.execution_device)


def _pass_over(
    model: PreTrainedModel, tree: PrefixTree, max_rows: int, cached: PrefixCache | None
) -> tuple[Tensor, int, int]:
    """The scores of all sequences, one after the other; forwards and rows that they took.

    Nothing in the loop waits for the device: the next chunk is planned while it computes.
    """
    common = tree.common_prefix() if cached else np.empty(0, dtype=np.int64)
    known = common_length(cached.tokens, common) if cached else 0
    chunks = list(tree.chunks(max_rows, known))
    device = input_device(model)
    path = _Path(torch.arange(known, device=device))
    layers = [_PathLayer.along(path) for _ in range(_layers(model))]
    if cached and known:
        for layer, keys, values in zip(layers, cached.keys, cached.values, strict=True):
            layer.update(keys[:, :, :known], values[:, :, :known])
    cache = Cache(layers=[*layers]) if cached or len(chunks) > 1 else None
    by_row = np.argsort(tree.score_rows, kind="stable")
    rows, tokens = tree.score_rows[by_row], tree.score_tokens[by_row]
    parts = []
    for chunk, following in zip(chunks, [*chunks[1:], None], strict=True):
        attention = TreeAttention.of(tree, chunk, device.type)
        above = following.carried if following else chunk.carried[:0]
        caching = known <= chunk.start < len(common)
        keep, first = sent(
            device,
            attention.places[_numbers(chunk, above)],
            attention.places[
                _numbers(chunk, np.arange(min(len(common), chunk.end) if caching else 0))
            ],
        )
        path.keep, path.common = keep, first if caching else None
        hidden = forward_chunk(model, tree, chunk, attention, cache)
        read = slice(*np.searchsorted(rows, [chunk.start, chunk.end]))
        places = attention.places[_numbers(chunk, rows[read])] - len(chunk.carried)
        parts += log_probs_at(model, hidden, places, tokens[read])
    if cached and known < len(common):
        cached.tokens = common
        cached.keys, cached.values = ([layer.common[i] for layer in layers] for i in (0, 1))
    back = torch.from_numpy(np.argsort(by_row))
    return torch.cat(parts)[back.to(parts[0].device)], len(chunks), len(tree) - known


def _numbers(chunk: Chunk, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The key numbers of rows that are carried or the chunk's own."""
    above = np.searchsorted(chunk.carried, rows)
    return np.where(rows < chunk.start, above, len(chunk.carried) + rows - chunk.start)


def _layers(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().num_hidden_layers)


def forward_chunk(
    model: PreTrainedModel,
    tree: PrefixTree,
    chunk: Chunk,
    attention: TreeAttention,
    cache: Cache | None = None,
) -> Tensor:
    """Hidden states of a chunk's rows, ``[rows, hidden]``, in the order of ``attention.order``.

    Gradients flow if they are enabled. ``cache`` has the keys and values of the carried rows.

    Raises:
        ModelError: The model does not route its attention through the tree.
    """
    device = input_device(model)
    rows = attention.order - len(chunk.carried) + chunk.start
    tokens, depths = sent(device, tree.tokens[rows], tree.depths[rows])
    output = getattr(model, model.base_model_prefix)(
        input_ids=tokens[None],
        position_ids=depths[None],
        # A 4-D mask is taken as it is, so transformers builds none; the tree holds the real one.
        attention_mask=torch.zeros(1, 1, 1, 1, device=device),
        use_cache=cache is not None,
        tree=attention,
        **{cache_argument(type(model.base_model).forward): cache},
    )
    if attention.layers != _layers(model):
        raise ModelError(
            f"{type(model).__name__} routes {attention.layers} of its {_layers(model)} layers "
            "through the prefix tree.",
            hint="Load it with attn_implementation='llmrec_tree'; models with layers of another "
            "kind than attention cannot share prefixes.",
        )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


@lru_cache
def cache_argument(forward: Callable[..., object]) -> str:
    """The argument of a forward pass that takes the cache: transformers 5.24 has renamed it."""
    return "cache" if "cache" in signature(forward).parameters else "past_key_values"


def shared_prefill(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]]
) -> tuple[DynamicCache, int]:
    """Keys and values of a left-padded batch, for all tokens of each prompt but its last.

    Returns them with the number of rows that were forwarded: shared beginnings once.
    """
    tree = PrefixTree.of([ScoredSequence(prompt, len(prompt) - 1) for prompt in prompts])
    (chunk,) = tree.chunks(len(tree))
    device = input_device(model)
    attention = TreeAttention.of(tree, chunk, device.type)
    padded = np.zeros((len(prompts), max(map(len, prompts)) - 1), dtype=np.int64)
    for row, last in zip(padded, tree.score_rows, strict=True):
        path = np.flatnonzero(tree.ends[: last + 1] > last)
        row[len(row) - len(path) :] = path
    wanted, none = sent(device, attention.places[padded.ravel()], padded[:0, 0])
    layers = [_PathLayer.along(_Path(none, wanted)) for _ in range(_layers(model))]
    forward_chunk(model, tree, chunk, attention, Cache(layers=[*layers]))
    cache = DynamicCache(config=model.config)
    for number, layer in enumerate(layers):
        keys, values = (some[0].unflatten(1, padded.shape).transpose(0, 1) for some in layer.common)
        cache.update(keys, values, number)
    return cache, len(tree)


def log_probs_at(
    model: PreTrainedModel, hidden: Tensor, places: NDArray[np.int64], tokens: NDArray[np.int64]
) -> list[Tensor]:
    """Log-probabilities of ``tokens[i]`` at ``hidden[places[i]]``, in parts.

    Each place is projected to the vocabulary once, a slice of at most `LOGITS` at a time. Under
    autograd, slices are projected again for their gradients instead of being kept.
    """
    starts = np.flatnonzero(np.append(True, places[1:] != places[:-1])[: len(places)])
    once = places[starts]
    which = np.repeat(np.arange(len(once)), np.diff(np.append(starts, len(places))))
    at, read, asked = sent(hidden.device, once, which, tokens)
    size = max(1, LOGITS // model.config.get_text_config().vocab_size)

    def slice_of(some: Tensor, rows: Tensor, wanted: Tensor) -> Tensor:
        logits = _project(model, some)
        rows, wanted = rows.to(logits.device), wanted.to(logits.device)
        return logits[rows, wanted] - logits.logsumexp(-1)[rows]

    parts = []
    for start in range(0, len(once), size):
        inside = slice(*np.searchsorted(which, [start, start + size]))
        given = hidden[at[start : start + size]], read[inside] - start, asked[inside]
        parts.append(
            checkpoint(slice_of, *given, use_reentrant=False)
            if torch.is_grad_enabled() and hidden.requires_grad
            else slice_of(*given)
        )
    return parts


class _WithHidden:
    """A model whose last hidden states are known: its forward projects them and nothing else.

    So whatever a family does to its logits (caps, scales) is done here too.
    """

    def __init__(self, model: PreTrainedModel, hidden: Tensor) -> None:
        known = MoeModelOutputWithPast(last_hidden_state=hidden)  # the kind with most fields
        self._model = model
        setattr(self, model.base_model_prefix, lambda **_: known)

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)


def _project(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits of hidden states ``[rows, hidden]``, in fp32."""
    output = type(model).forward(_WithHidden(model, hidden[None]), use_cache=False)
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
