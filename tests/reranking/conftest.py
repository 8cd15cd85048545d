from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from llmrec.models import (
    ContinuationRequest,
    Generated,
    LabelRequest,
    LogProbs,
    ScoredSequence,
)
from llmrec.models.adapter import AdapterRecord
from llmrec.models.scoring import score_continuations, score_labels
from llmrec.records import Interaction, Item, Prompt, Usage, User
from llmrec.retrieval import Index

FILMS = ("Alien", "Aliens", "Amélie", "Brazil", "Casablanca", "Diva", "Eraserhead", "Fargo")


@dataclass
class ByteModel:
    """A model of bytes with set scores: for fusion and fallbacks, where no real one is needed.

    ``score`` gives the log-probability of a token after what stands before it.
    """

    score: Callable[[tuple[int, ...], int], float] = lambda _before, _token: -1.0
    name: str = "bytes"
    revision: str = "0"
    max_length: int = 4096
    max_rows: int = 1024
    special_tokens: tuple[str, ...] = ()
    asked: list[ScoredSequence] = field(default_factory=list)
    adapter: AdapterRecord | None = None

    def encode(self, text: str) -> list[int]:
        # Words for labels need to be one token: they stand above the bytes.
        word = text.strip().lower()
        return [256 + (word == "no")] if word in {"yes", "no"} else list(text.encode())

    def cut(self, text: str, n_tokens: int) -> str:
        return text.encode()[:n_tokens].decode(errors="ignore")

    def encode_texts(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        return [np.array(self.encode(text), dtype=np.int32) for text in texts]

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[NDArray[np.int32]]:
        read = [(prompt.text or f"{prompt.system}\n{prompt.user}").encode() for prompt in prompts]
        return [np.frombuffer(text, dtype=np.uint8).astype(np.int32) for text in read]

    def encode_end(self) -> list[int]:
        return [0]

    def session(self) -> ByteModel:
        return self

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        return [len(tokens) for tokens in self.encode_prompts(prompts)]

    def log_probs(self, sequences: Sequence[ScoredSequence]) -> LogProbs:
        self.asked.extend(replace(s, tokens=tuple(map(int, s.tokens))) for s in sequences)
        read = self.asked[len(self.asked) - len(sequences) :]
        values = tuple(
            np.array(
                [
                    self.score(tuple(s.tokens[:i]), s.tokens[i])
                    for i in range(s.start, len(s.tokens))
                ]
                + [self.score(tuple(s.tokens[:-1]), token) for token in s.alternatives]
            )
            for s in read
        )
        return LogProbs(values, Usage(forwards=1))

    def label_log_probs(self, requests: Sequence[LabelRequest]) -> LogProbs:
        return score_labels(self, requests)

    def continuation_log_probs(self, requests: Sequence[ContinuationRequest]) -> LogProbs:
        return score_continuations(self, requests)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        orders_of: Sequence[tuple[str, ...]] = (),
    ) -> Generated:
        raise AssertionError("these strategies generate nothing")


@pytest.fixture
def index() -> Index:
    items = {
        f"i{n}": Item(f"i{n}", title, f"A film called {title}.") for n, title in enumerate(FILMS)
    }
    rows = [("u1", "i0"), ("u1", "i3"), ("u2", "i1"), ("u2", "i0"), ("u3", "i7")]
    history = tuple(Interaction(user, item, 5.0, n) for n, (user, item) in enumerate(rows))
    vectors = np.eye(len(items), 4, dtype=np.float32) + 0.1
    return Index(items, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), history)


@pytest.fixture
def user(index: Index) -> User:
    return index.user("u1")
