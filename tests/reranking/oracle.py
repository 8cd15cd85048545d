"""A model that answers as it is told to: for what has to hold whatever a model answers."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from llmrec.models import ContinuationRequest, Generated, LabelRequest, LogProbs
from llmrec.records import Prompt, Usage

NOBODY = "N/A"


def shown(prompt: Prompt) -> list[str]:
    """Titles of the candidates that a prompt shows, in its order; ``N/A`` where it names none."""
    text = prompt.text or prompt.user
    labelled = re.findall(r"^\[?[A-Z][\].] (Kite \d+|N/A)$", text, re.MULTILINE)
    return labelled or re.findall(r"Kite \d+", text)[-1:] or [NOBODY]


def words_of(prompt: Prompt) -> int:
    return len(f"{prompt.system} {prompt.user} {prompt.text}".split())


@dataclass
class Oracle:
    """A model of words. ``label`` answers for a title at a place; ``write`` writes an order.

    ``label`` gives None where the whole request fails, which is counted as ``failure``.
    """

    label: Callable[[str, int, Prompt], float | None]
    write: Callable[[str, Sequence[str], list[str]], str] = lambda _prompt, _labels, order: (
        " > ".join(f"[{label}]" for label in order)
    )
    name: str = "words"
    revision: str = "0"
    max_length: int = 100_000
    max_rows: int = 1024
    special_tokens: tuple[str, ...] = ()
    spent: Usage = field(default_factory=Usage)
    vectors: int = 0
    failed: int = 0
    failure: str = "request_failed"

    def session(self) -> Oracle:
        return self

    def encode(self, text: str) -> list[int]:
        return [zlib.crc32(word.encode()) for word in text.split()]

    def cut(self, text: str, n_tokens: int) -> str:
        found = re.match(rf"(?:\s*\S+){{0,{n_tokens}}}", text)
        return found.group() if found else ""

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        return [words_of(prompt) for prompt in prompts]

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        return self._log_probs([self._labels(request) for request in requests], requests)

    def continuation_log_probs(self, requests: Sequence[ContinuationRequest]) -> LogProbs:
        values = [[self.label(r.continuation, 0, r.prompt)] for r in requests]
        return self._log_probs(values, requests)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        orders_of: Sequence[tuple[str, ...]] = (),
    ) -> Generated:
        texts = []
        for prompt, labels in zip(prompts, orders_of, strict=True):
            titles = dict(zip(labels, shown(prompt), strict=True))
            worth = {k: self.label(t, n, prompt) or 0.0 for n, (k, t) in enumerate(titles.items())}
            order = sorted(labels, key=lambda k: -worth[k])
            texts.append(self.write(prompt.user, labels, order))
        tokens = tuple(words_of(prompt) for prompt in prompts)
        usage = Usage(sum(tokens), sum(tokens), 7 * len(prompts), 1, 0.25)
        self.spent += usage
        return Generated(tuple(texts), usage, {}, (True,) * len(texts), tokens)

    def _labels(self, request: LabelRequest) -> list[float | None]:
        titles, n = shown(request.prompt), len(request.labels)
        if len(titles) == n:
            return [self.label(title, place, request.prompt) for place, title in enumerate(titles)]
        (title,) = titles
        worth = self.label(title, 0, request.prompt)
        # One candidate: Yes before No, or a grade that rises with its worth.
        order = (1, 0) if request.labels[0] == "Yes" else range(n)
        return [worth if worth is None else worth * step if step else 0.0 for step in order]

    def _log_probs(
        self,
        values: Sequence[Sequence[float | None]],
        requests: Sequence[LabelRequest] | Sequence[ContinuationRequest],
    ) -> LogProbs:
        tokens = tuple(words_of(request.prompt) + 1 for request in requests)
        found = []
        for value in values:
            whole = [number for number in value if number is not None]
            found.append(np.array(whole if len(whole) == len(value) else [np.nan] * len(value)))
        faults = tuple(self.failure if np.isnan(value).all() else "" for value in found)
        usage = Usage(sum(tokens), sum(tokens) // 3, 0, 1, 0.5)
        self.vectors += len(found)
        self.failed += sum(map(bool, faults))
        self.spent += usage
        return LogProbs(tuple(found), usage, tokens=tokens, faults=faults)
