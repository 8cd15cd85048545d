"""Tokens of a model whose tokenizer is not at hand, estimated."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from llmrec.records import Prompt

_PIECE = re.compile(r" ?[A-Za-z]{1,6}| ?[^\sA-Za-z]|\s")
_AROUND_A_TURN = 8
"""Control tokens that chat templates put around a message."""
_CONTROL = (
    "<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "[INST]", "[/INST]", "<think>", "</think>",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|start|>", "<|channel|>", "<|message|>",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """Pieces of at most six letters with the space before them, every other sign by itself.

    That is more tokens than the vocabularies of today need (in English by about a quarter, by more
    in scripts other than Latin), so that what fits the estimate fits the model. A letter and a
    short word are one piece, as they are one token everywhere.
    """

    special_tokens: tuple[str, ...] = _CONTROL
    """Control tokens of widespread chat templates: servers read them in what they are sent."""

    def encode(self, text: str) -> list[int]:
        """A number a piece, the same for the same piece."""
        return [zlib.crc32(piece.encode()) for piece in _PIECE.findall(text)]

    def cut(self, text: str, n_tokens: int) -> str:
        """The longest beginning of at most ``n_tokens`` pieces."""
        for place, piece in enumerate(_PIECE.finditer(text)):
            if place == n_tokens:
                return text[: piece.start()]
        return text

    def count_tokens(self, prompt: Prompt) -> int:
        """Pieces of a prompt, and what a chat template puts around it."""
        if prompt.text is not None:
            return len(self.encode(prompt.text)) + 1
        turns = [text for text in (prompt.system, prompt.user) if text]
        return sum(len(self.encode(text)) + _AROUND_A_TURN for text in turns) + _AROUND_A_TURN
