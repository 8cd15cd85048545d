"""Decoding: padded batches of transformers' own generation, held to an order of labels where asked.

An order is written ``[B] > [A] > [C]``. Everything in it but the labels is known beforehand, so at
each place either one token is allowed, or those of the labels that are still left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import GenerationConfig, PreTrainedModel

from llmrec.models.labels import BETWEEN, CLOSE, OPEN
from llmrec.models.prefix_scoring import input_device, out_of_memory
from llmrec.models.protocol import TextTokenizer


@dataclass(frozen=True, slots=True)
class LabelOrder:
    """The tokens that an order of labels is made of."""

    labels: frozenset[int]
    open: tuple[int, ...]
    between: tuple[int, ...]
    close: tuple[int, ...]

    @classmethod
    def of(cls, labels: Sequence[str], tokenizer: TextTokenizer) -> LabelOrder:
        """Encode the labels, each one token, and what stands between them."""
        tokens = frozenset(token for label in labels for token in tokenizer.encode(label))
        parts = (tuple(tokenizer.encode(text)) for text in (OPEN, BETWEEN, CLOSE))
        return cls(tokens, *parts)

    @property
    def n_tokens(self) -> int:
        """Tokens of the whole order."""
        n = len(self.labels)
        return len(self.open) + n + (n - 1) * len(self.between) + len(self.close)

    def allowed(self, written: Sequence[int]) -> list[int]:
        """What may follow the tokens written so far; nothing where the order is whole."""
        place = len(written)
        if place < len(self.open):
            return [self.open[place]]
        place -= len(self.open)
        cycle = 1 + len(self.between)
        turn, within = divmod(place, cycle)
        if turn < len(self.labels) and within == 0:
            return sorted(self.labels - set(written[len(self.open) :: cycle]))
        if turn < len(self.labels) - 1:
            return [self.between[within - 1]]
        place -= 1 + (len(self.labels) - 1) * cycle
        return [self.close[place]] if place < len(self.close) else []


@dataclass(frozen=True, slots=True)
class Decoded:
    """Tokens of each answer without its end, whether the model ended it, and what it took."""

    answers: tuple[tuple[int, ...], ...]
    finished: tuple[bool, ...]
    forwards: int
    halvings: int


def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    orders: Sequence[LabelOrder | None],
    *,
    fill: int | None,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Decoded:
    """Continue every prompt; greedy at temperature 0, else sampled from ``seed``.

    Args:
        model: What writes.
        prompts: Tokens of each.
        orders: What each answer is held to, or None.
        fill: The padding token, where the tokenizer has one.
        max_new_tokens: Of each answer.
        temperature: 0 is greedy.
        seed: For sampling.

    Raises:
        OutOfMemoryError: Not even one prompt fits.
    """
    answers: list[tuple[int, ...]] = []
    finished: list[bool] = []
    forwards, halvings = 0, 0
    size, done = len(prompts), 0
    while done < len(prompts):
        part = slice(done, done + size)
        try:
            batch = _batch(
                model, prompts[part], orders[part], fill, max_new_tokens, temperature, seed
            )
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if size == 1:
                raise out_of_memory("one prompt", error) from error
            size, halvings = (size + 1) // 2, halvings + 1
            continue
        answers.extend(tokens for tokens, _ in batch)
        finished.extend(ended for _, ended in batch)
        done += size
        forwards += max((len(tokens) + ended for tokens, ended in batch), default=0)
    return Decoded(tuple(answers), tuple(finished), forwards, halvings)


def _batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    orders: Sequence[LabelOrder | None],
    fill: int | None,
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> list[tuple[tuple[int, ...], bool]]:
    """One padded batch, padding on the left: each answer before its end, and whether it has one."""
    longest = max(map(len, prompts))
    given = model.generation_config.eos_token_id
    ends = [given] if isinstance(given, int) else list(given or [])
    fill = fill if fill is not None else (ends[0] if ends else 0)
    rows = [[fill] * (longest - len(p)) + list(p) for p in prompts]
    seen = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    ids, mask = (torch.tensor(table, device=input_device(model)) for table in (rows, seen))
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        pad_token_id=fill,
        eos_token_id=ends or None,
        do_sample=temperature > 0,
        temperature=temperature or 1.0,
    )

    def allowed(row: int, tokens: torch.Tensor) -> list[int]:
        order = orders[row]
        if order is None:
            return every
        return order.allowed(tokens[longest:].tolist()) or (ends or [fill])

    every = list(range(model.config.get_text_config().vocab_size)) if None in orders else []
    held = {"prefix_allowed_tokens_fn": allowed} if any(orders) else {}
    # transformers declares what generate() needs of a model as more than its models declare.
    generate = cast("Callable[..., torch.Tensor]", model.generate)
    with torch.inference_mode(), torch.random.fork_rng():  # the caller's draws stay theirs
        torch.manual_seed(seed)
        output = generate(input_ids=ids, attention_mask=mask, generation_config=config, **held)
    stops = {*ends, fill}
    answers = []
    for row, order in zip(output[:, longest:].tolist(), orders, strict=True):
        end = next((place for place, token in enumerate(row) if token in stops), len(row))
        whole = order is not None and end == order.n_tokens
        answers.append((tuple(row[:end]), end < len(row) or whole))
    return answers
