"""Decoding: padded batches of transformers' generation, constrained to an order of labels if asked.

Prompts of a batch are read through their prefix tree: what they share is forwarded once.

Everything in an order ``[B] > [A] > [C]`` but the labels is fixed, so at each place either one
token is allowed, or those of the labels that are still left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from transformers import GenerationConfig, PreTrainedModel

from llmrec.errors import ModelError
from llmrec.models.hardware import halve_until_it_fits
from llmrec.models.labels import BETWEEN, CLOSE, OPEN
from llmrec.models.prefix_scoring import cache_argument, input_device, shared_prefill
from llmrec.models.protocol import TextTokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelOrder:
    """The tokens of an order of labels: ``places`` has None where a label stands."""

    labels: frozenset[int]
    places: tuple[int | None, ...]

    @classmethod
    def of(cls, labels: Sequence[str], tokenizer: TextTokenizer) -> LabelOrder:
        """Encode the labels, each one token, and what stands between them."""
        tokens = frozenset(token for label in labels for token in tokenizer.encode(label))
        between = [None, *tokenizer.encode(BETWEEN)] * (len(tokens) - 1)
        places = [*tokenizer.encode(OPEN), *between, None, *tokenizer.encode(CLOSE)]
        return cls(tokens, tuple(places))

    def allowed(self, written: Sequence[int]) -> list[int]:
        """The tokens that may follow those written; none where the order is complete."""
        if len(written) >= len(self.places):
            return []
        here = self.places[len(written)]
        if here is not None:
            return [here]
        used = {token for token, place in zip(written, self.places, strict=False) if place is None}
        return sorted(self.labels - used)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Tokens of each answer without its end, whether the model ended it, and what it took.

    ``rows`` counts the tokens of prompts that were forwarded.
    """

    answers: tuple[tuple[int, ...], ...]
    finished: tuple[bool, ...]
    rows: int
    forwards: int
    halvings: int


def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    orders: Sequence[LabelOrder | None],
    *,
    ends: Sequence[int],
    max_new_tokens: int,
    temperature: float,
    seed: int,
) -> Decoded:
    """Continue every prompt, given as tokens; greedy at temperature 0, else sampled from ``seed``.

    An answer stops at the first token of ``ends``, and is constrained to its order, if it has one.
    Generation settings of the checkpoint (penalties, beams, suppressed tokens...) have no effect.

    Raises:
        OutOfMemoryError: Not even one prompt fits.
    """
    model.generation_config = control_tokens(model.generation_config)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        pad_token_id=ends[0] if ends else 0,
        eos_token_id=list(ends) or None,
        do_sample=temperature > 0,
        temperature=temperature or 1.0,
    )
    answers: list[tuple[int, ...]] = []
    finished: list[bool] = []
    forwarded, forwards, halvings, size = 0, 0, 0, len(prompts)
    while len(answers) < len(prompts):
        first = len(answers)

        def compute(most: int, first: int = first) -> tuple[list[list[int]], int]:
            part = slice(first, first + most)
            return _batch(model, prompts[part], orders[part], config, seed)

        (rows, read), halved = halve_until_it_fits(
            compute, size, unit="prompt", name=type(model).__name__
        )
        size, halvings, forwarded = -(-size >> halved), halvings + halved, forwarded + read
        longest = 0
        for row, order in zip(rows, orders[first : first + size], strict=True):
            most = len(row) if order is None else min(len(row), len(order.places))
            end = next((at for at, token in enumerate(row[:most]) if token in ends), most)
            complete = order is not None and end == len(order.places)
            answers.append(tuple(row[:end]))
            finished.append(end < len(row) or complete)
            longest = max(longest, end + finished[-1])
        forwards += longest
    return Decoded(tuple(answers), tuple(finished), forwarded, forwards, halvings)


def control_tokens(config: GenerationConfig | Mapping[str, object]) -> GenerationConfig:
    """A generation configuration without any setting but the ids of its control tokens.

    ``generate()`` takes whatever its caller leaves open from the model's own configuration.
    """
    given = config if isinstance(config, Mapping) else vars(config)
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return GenerationConfig(**{name: given.get(name) for name in names})


def _batch(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    orders: Sequence[LabelOrder | None],
    config: GenerationConfig,
    seed: int,
) -> tuple[list[list[int]], int]:
    """Tokens that follow each prompt of one batch, padded on the left; rows read before."""
    longest = max(map(len, prompts))
    fill, ends = config.pad_token_id, config.eos_token_id
    rows = [[fill] * (longest - len(p)) + list(p) for p in prompts]
    seen = [[0] * (longest - len(p)) + [1] * len(p) for p in prompts]
    ids, mask = (torch.tensor(table, device=input_device(model)) for table in (rows, seen))
    every = list(range(model.config.get_text_config().vocab_size)) if None in orders else []

    def allowed(row: int, tokens: torch.Tensor) -> list[int]:
        order = orders[row]
        return (
            every if order is None else order.allowed(tokens[longest:].tolist()) or ends or [fill]
        )

    constrained = {"prefix_allowed_tokens_fn": allowed} if any(orders) else {}
    # transformers declares what generate() needs of a model as more than its models declare.
    generate = cast("Callable[..., torch.Tensor]", model.generate)
    with torch.inference_mode(), torch.random.fork_rng():  # the caller's draws stay theirs
        torch.manual_seed(seed)
        known, read = None, sum(map(len, prompts))
        if len(prompts) > 1 and min(map(len, prompts)) > 1:
            try:
                known, read = shared_prefill(model, prompts)
                read += len(prompts)  # the last tokens
            except (ModelError, TypeError) as error:  # layers of another kind than attention
                logger.info("Prompts are read one by one: %s", error)
        output = generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            **{cache_argument(type(model.base_model).forward): known},
            **constrained,
        )
    continued: list[list[int]] = output[:, longest:].tolist()
    return continued, read
