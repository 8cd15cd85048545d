"""A model's tokenizer and chat template, or an estimate of its token counts."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import ModelError, naming
from llmrec.models.chat_sandbox import TODAY, render_chat
from llmrec.models.chat_template import ChatTemplate, Turn
from llmrec.models.resolve import ModelFolder, resolve_model
from llmrec.records import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

TEMPLATE_OPTIONS: dict[str, Any] = {"enable_thinking": False, "date_string": TODAY}
"""For chat templates that would have the model think before its answer, or print today's date."""
_PIECE = re.compile(r" ?[A-Za-z]{1,6}| ?[^\sA-Za-z]|\s")
_ORDINARY_TOKEN = re.compile(r"[^\W_]++(?:['’.&/+-][^\W_]++)*+[.+#!?]*+|[.,!?…'\"“”‘’()\-–—:;]*")
"""A word, with marks as words have them, or punctuation."""
MOST_KEPT = 16_384
"""Texts and prompts whose tokens are cached: fields are cut, counted and scored from the same."""
_AROUND_A_TURN = 8
"""Control tokens that chat templates put around a message."""
_CONTROL = (
    "<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "[INST]", "[/INST]", "<think>", "</think>",
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|end_of_text|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|start|>", "<|channel|>", "<|message|>",
)  # fmt: skip


@dataclass(frozen=True)
class PromptTokenizer:
    """A tokenizer with its chat template."""

    tokenizer: PreTrainedTokenizerBase
    name: str

    @classmethod
    def from_pretrained(cls, ref: str, *, progress: bool = False) -> PromptTokenizer:
        """Load a tokenizer by a reference of `llmrec.models.resolve_model`.

        Raises:
            ModelNotFoundError: The reference names no model that can be reached.
            ModelError: It has no tokenizer.
        """
        source = resolve_model(ref, progress=progress)
        return cls(load_tokenizer(source), source.name)

    @property
    def revision(self) -> str:
        """Empty: there are no weights to identify."""
        return ""

    @property
    def max_length(self) -> int:
        """No limit is known without the model."""
        return 1 << 30

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer reads as control tokens, or as one token of another form.

        Of the added tokens that are not flagged special, ordinary words ("co-op", "C++") and
        punctuation are left out: without them, no item could use the word.
        """
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(
            sorted(
                token.content
                for token in added
                if token.special or not _ORDINARY_TOKEN.fullmatch(token.content.strip())
            )
        )

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text: none added, and no text read as a control token."""
        return cast("list[int]", self._encoded(text).tolist())

    @cached_property
    def _encoded(self) -> Callable[[str | Prompt], NDArray[np.int32]]:
        """Tokens of texts and of whole prompts; those asked for again are cached."""
        return lru_cache(MOST_KEPT)(self._encode)

    def _encode(self, given: str | Prompt) -> NDArray[np.int32]:
        if isinstance(given, str):
            tokens = self.tokenizer(given, add_special_tokens=False, split_special_tokens=True)
        elif given.text is None and self.chat is not None:
            tokens = self.tokenizer(self.chat.render(given), add_special_tokens=False)
        else:
            # Even an empty prompt needs one token from which to score what follows.
            bos, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
            first = [bos] if bos is not None and self.tokenizer("a")["input_ids"][0] == bos else []
            plain = [*first, *self._encode(plain_text(given))]
            tokens = {"input_ids": plain or [bos if bos is not None else end or 0]}
        return np.array(tokens["input_ids"], dtype=np.int32)

    def cut(self, text: str, n_tokens: int) -> str:
        """The longest beginning of ``text`` of at most ``n_tokens`` tokens, whole characters."""
        # No readable text packs more characters into a token: the rest need not be tokenized.
        text = text[: 64 * n_tokens]
        encoded = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        offsets = encoded["offset_mapping"]
        if len(offsets) <= n_tokens:
            return text
        # A character of several byte-level tokens spans them all: cut before it if it is split.
        return text[: offsets[n_tokens][0]]

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt up to where the answer begins.

        A chat goes through the model's chat template; a model without one (a base model) reads
        system and user text as paragraphs. Plain text is read as it is, after the tokenizer's
        beginning-of-text token if it has one.
        """
        return cast("list[int]", self._encoded(prompt).tolist())

    def count_tokens(self, prompt: Prompt) -> int:
        """Number of tokens of a prompt up to where the answer begins."""
        return len(self._encoded(prompt))

    def end_tokens(self) -> tuple[int, ...]:
        """Tokens that end an answer: the tokenizer's, and the chat template's after a turn."""
        ends = [self.tokenizer.eos_token_id]
        if self.chat is not None and self.chat.turn_end:
            after = self.tokenizer(self.chat.turn_end, add_special_tokens=False)["input_ids"][:1]
            ends += [token for token in after if token in self.tokenizer.added_tokens_decoder]
        return tuple(end for end in ends if end is not None)

    def encode_end(self) -> list[int]:
        """The token that ends the answer to a chat; a line break for a base model."""
        turn_end = self.chat.turn_end if self.chat is not None else ""
        after = self.tokenizer(turn_end, add_special_tokens=False)["input_ids"][:1]
        return list(after) or self.encode("\n")

    @cached_property
    def chat(self) -> ChatTemplate | None:
        """The chat template; None for a base model."""
        return ChatTemplate(self.name, self._apply) if self.tokenizer.chat_template else None

    def log_notes(self) -> None:
        """Log a warning for what the chat template does to prompts that may not be expected."""
        for note in self.chat.notes if self.chat else ():
            logger.warning(note)

    def _apply(self, turns: Sequence[Turn], answer: bool) -> str:
        given = {"messages": turns, "add_generation_prompt": answer, **TEMPLATE_OPTIONS}
        return render_chat(
            self.tokenizer.get_chat_template(), {**self.tokenizer.special_tokens_map, **given}
        )


@dataclass(frozen=True, slots=True)
class EstimatedTokenizer:
    """Token counts of a model whose tokenizer is not known.

    Tokens are pieces of at most six letters with the space before them; every other character is
    one. That is more than today's vocabularies need (in English by about a quarter, by more in
    other scripts), so that what fits the estimate fits the model. A letter and a short word are one
    piece, as they are one token everywhere.
    """

    special_tokens: tuple[str, ...] = _CONTROL
    """Control tokens of widespread chat templates."""

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
        """Number of pieces of a prompt, and what a chat template puts around it."""
        if prompt.text is not None:
            return len(self.encode(prompt.text)) + 1
        turns = [text for text in (prompt.system, prompt.user) if text]
        return sum(len(self.encode(text)) + _AROUND_A_TURN for text in turns) + _AROUND_A_TURN


def plain_text(prompt: Prompt) -> str:
    """A prompt as a base model reads it: a chat's turns become paragraphs."""
    if prompt.text is not None:
        return prompt.text
    return "\n\n".join(part for part in (prompt.system, prompt.user) if part) + "\n\n"


def load_tokenizer(source: ModelFolder) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder.

    Raises:
        ModelError: It has none that can be loaded.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds

    with naming(
        f"{source.name} has no tokenizer that can be loaded",
        ModelError,
        hint=f"{source.path} should hold tokenizer.json and tokenizer_config.json.",
    ):
        tokenizer = AutoTokenizer.from_pretrained(
            source.path, local_files_only=True, trust_remote_code=False
        )
        tokenizer("a")  # a damaged tokenizer can fail on its first text only
    PromptTokenizer(tokenizer, source.name).log_notes()
    return cast("PreTrainedTokenizerBase", tokenizer)
