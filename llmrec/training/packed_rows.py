"""Log-probabilities under gradients, with shared prompts forwarded once and hardly any padding.

A row of a batch holds several segments. A segment is a prompt with the answers that may follow it:
a block mask lets each answer see the prompt and itself, as if it stood alone after the prompt. So a
list of twenty titles costs its history once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from llmrec.models.prefix_scoring import input_device

Tokens = NDArray[np.int32]

SAME_GRADIENT = 1e-3
"""Largest relative difference of gradients to those of whole rows, in fp32."""
_MULTIPLE = 32
"""Rows end at a multiple of it: fast kernels need aligned masks."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A prompt and the answers that may follow it, each scored by the sum over its tokens.

    With ``labels``, what follows the text is scored instead: each answer by the log-odds of its
    first label against the second (pointwise), or, without answers, each label by its
    log-probability after the prompt (listwise).

    Attributes:
        prompt: Tokens of the prompt, one or more.
        answers: Tokens of each answer. Without any, the ``learned`` tokens of the prompt are scored
            as one answer.
        learned: bool, one a token of the prompt; its first token cannot be scored.
        labels: The tokens of each label, one a spelling; their probabilities are summed.
    """

    prompt: Tokens
    answers: tuple[Tokens, ...] = ()
    learned: NDArray[np.bool_] | None = None
    labels: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.prompt) + sum(map(len, self.answers))

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest answer."""
        return len(self.prompt) + max(map(len, self.answers), default=0)

    @property
    def sums(self) -> int:
        """How many sums of tokens, or probabilities of labels, its scores are made of."""
        return (len(self.answers) or 1) * (len(self.labels) or 1)

    def apart(self) -> list[Segment]:
        """The whole rows that it shares the prompt of."""
        if not self.answers:
            return [self]
        rows = [np.concatenate([self.prompt, answer]) for answer in self.answers]
        return [
            Segment(
                row,
                learned=None if self.labels else np.arange(len(row)) >= len(self.prompt),
                labels=self.labels,
            )
            for row in rows
        ]


@dataclass(frozen=True, eq=False)
class _Row:
    """One row: tokens, positions, segment and answer of each; which to read, and for which score.

    ``answer`` is 0 in a prompt. Token ``read[i]`` predicts ``following[i]`` for score ``owner[i]``.
    """

    tokens: Tokens
    position: Tokens
    segment: Tokens
    answer: Tokens
    read: Tokens
    following: Tokens
    owner: Tokens


def rows_of(segments: Sequence[Segment], row_tokens: int) -> list[list[int]]:
    """Pack segments into rows, first fit of the longest first: the numbers of each row's segments.

    A segment that is longer than ``row_tokens`` has a row of its own.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(segments)), key=lambda i: -len(segments[i])):
        size = len(segments[number])
        fitting = next((row for row, left in enumerate(room) if left >= size), None)
        if fitting is None:
            rows.append([number])
            room.append(max(0, row_tokens - size))
        else:
            rows[fitting].append(number)
            room[fitting] -= size
    return rows


def batches_of(
    segments: Sequence[Segment], row_tokens: int, batch_tokens: int
) -> list[list[list[int]]]:
    """Pack segments into rows, and rows into batches of at most ``batch_tokens`` with padding."""
    batches: list[list[list[int]]] = []
    longest = 0
    rows = rows_of(segments, row_tokens)
    sizes = [sum(len(segments[number]) for number in row) for row in rows]
    for size, row in sorted(zip(sizes, rows, strict=True), key=lambda pair: -pair[0]):
        if batches and longest * (len(batches[-1]) + 1) <= batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
            longest = size
    return batches


def segment_scores(
    model: PreTrainedModel, rows: Sequence[Sequence[Segment]], *, whole: bool = False
) -> list[Tensor]:
    """Score every answer of the segments in one forward pass; gradients flow.

    Args:
        model: A causal language model whose attention takes a four-dimensional mask.
        rows: The segments of each row: all with labels, or none.
        whole: Forward every answer in a row of its own: for models that cannot share prompts.

    Returns:
        For each segment, row by row, scores [answers], or [labels] without answers, in fp32.
    """
    segments = [segment for row in rows for segment in row]
    if whole:
        rows = [[alone] for segment in segments for alone in segment.apart()]
    owner, made = 0, []
    for row in rows:
        made.append(_row(row, owner))
        owner += sum(segment.sums for segment in row)
    tokens, owners = _forward(model, made, whole=whole)
    sums = torch.zeros(owner, device=tokens.device)
    if segments[0].labels:
        # log of the summed probabilities of a label's spellings
        most = torch.full_like(sums, -torch.inf)
        most = most.scatter_reduce(0, owners, tokens.detach(), "amax")
        sums = sums.index_add(0, owners, (tokens - most[owners]).exp()).log() + most
    else:
        sums = sums.index_add(0, owners, tokens)
    found = torch.split(sums, [segment.sums for segment in segments])
    return [
        own[0::2] - own[1::2] if segment.labels and segment.answers else own
        for segment, own in zip(segments, found, strict=True)
    ]


def gradient_difference(model: PreTrainedModel) -> float:
    """Largest relative difference of a list's gradient to that of whole rows, in random tokens."""
    vocabulary = model.config.get_text_config().vocab_size
    draw = np.random.default_rng(0)

    def some(size: int) -> Tokens:
        return draw.integers(0, vocabulary, size, dtype=np.int32)

    lists = [Segment(some(16), (some(4), some(7), some(1))), Segment(some(9), (some(5), some(3)))]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = []
    for whole in (False, True):
        with sdpa_kernel(SDPBackend.MATH):  # the others round inputs on some GPUs
            scores = segment_scores(model, [lists], whole=whole)
            loss = torch.stack([-entry.log_softmax(0)[0] for entry in scores]).sum()
            found.append(torch.autograd.grad(loss, trained, allow_unused=True))
    pairs = [(a, b) for a, b in zip(*found, strict=True) if a is not None and b is not None]
    apart = torch.stack([(a - b).float().square().sum() for a, b in pairs]).sum().sqrt()
    size = torch.stack([b.float().square().sum() for _, b in pairs]).sum().sqrt()
    return float(apart / size.clamp_min(1e-12))


def longer_than_window(model: PreTrainedModel, segments: Sequence[Segment]) -> bool:
    """Whether a layer with a sliding window would not see all of a prompt with an answer.

    The block mask knows no such window.
    """
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    return window is not None and max(segment.longest for segment in segments) > window


def _row(segments: Sequence[Segment], first: int) -> _Row:
    parts: list[_Row] = []
    start = 0
    for number, segment in enumerate(segments):
        prompt = segment.prompt
        places = np.arange(len(prompt), dtype=np.int32)
        tokens, position, answer = [prompt], [places], [np.zeros_like(places)]
        read, following, owner = [], [], []
        if segment.learned is not None:
            scored = np.flatnonzero(segment.learned[1:]) + 1
            read.append(scored - 1)
            following.append(prompt[scored])
            owner.append(np.full(len(scored), first))
        at = len(prompt)
        spelled = np.array([token for label in segment.labels for token in label], dtype=np.int32)
        label = np.repeat(np.arange(len(segment.labels)), [len(some) for some in segment.labels])
        # Labels without answers follow the prompt: an answer without tokens.
        texts = segment.answers or (spelled[:0],) * bool(segment.labels)
        for place, given in enumerate(texts):
            own = np.arange(len(given), dtype=np.int32)
            tokens.append(given)
            position.append(len(prompt) + own)
            answer.append(np.full(len(given), place + 1, dtype=np.int32))
            if segment.labels:
                read.append(np.full(len(spelled), at + len(given) - 1))
                following.append(spelled)
                owner.append(first + place * len(segment.labels) + label)
            else:
                # The prompt's last token predicts the first, each token the one after it.
                read.append(np.concatenate([[len(prompt) - 1], at + own[:-1]]))
                following.append(given)
                owner.append(np.full(len(given), first + place))
            at += len(given)
        parts.append(
            _Row(
                np.concatenate(tokens),
                np.concatenate(position),
                np.full(at, number, dtype=np.int32),
                np.concatenate(answer).astype(np.int32),
                (np.concatenate(read) + start).astype(np.int32),
                np.concatenate(following),
                np.concatenate(owner),
            )
        )
        start += at
        first += segment.sums
    names = _Row.__dataclass_fields__
    return _Row(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _forward(model: PreTrainedModel, rows: Sequence[_Row], *, whole: bool) -> tuple[Tensor, Tensor]:
    """The log-probability of each token that is read, and the number of its sum."""
    longest = max(len(row.tokens) for row in rows)
    longest += -longest % _MULTIPLE
    device = input_device(model)

    def table(name: str, filling: int = 0) -> Tensor:
        padded = np.full((len(rows), longest), filling, dtype=np.int64)
        for line, row in zip(padded, rows, strict=True):
            values = getattr(row, name)
            line[: len(values)] = values
        return torch.from_numpy(padded).to(device, non_blocking=True)

    def joined(name: str, step: int = 0) -> Tensor:
        parts = [getattr(row, name) + step * place for place, row in enumerate(rows)]
        return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device)

    segment, answer = table("segment", -1), table("answer")
    if whole:
        mask = (segment >= 0).long()
    else:
        place = torch.arange(longest, device=device)
        before = place[:, None] >= place  # padding sees padding before it: no row sees nothing
        same = segment[:, :, None] == segment[:, None, :]
        shared = (answer[:, None, :] == 0) | (answer[:, :, None] == answer[:, None, :])
        mask = (before & same & shared)[:, None]
    places, which = joined("read", longest).unique(return_inverse=True)  # labels share a place
    with _projecting(model, places):
        logits = model(
            input_ids=table("tokens"),
            position_ids=table("position"),
            attention_mask=mask,
            use_cache=False,
        ).logits[0]
    return logits.float().log_softmax(-1)[which, joined("following")], joined("owner")


@contextmanager
def _projecting(model: PreTrainedModel, places: Tensor) -> Iterator[None]:
    """Project some places of a flattened batch only: logits ``[1, places, vocabulary]``."""

    def choose(_: object, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].flatten(0, 1).index_select(0, places)[None], *inputs[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        yield
    finally:
        hook.remove()
