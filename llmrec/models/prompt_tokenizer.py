"""A model's tokenizer and chat template, or an estimate of its token counts."""

from __future__ import annotations

import logging
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import ModelError, naming
from llmrec.models.chat_sandbox import TODAY, render_chat
from llmrec.models.chat_template import ChatTemplate, Turn
from llmrec.models.resolve import ModelFolder, resolve_model
from llmrec.records import Prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

Given = TypeVar("Given", str, Prompt)

logger = logging.getLogger(__name__)

TEMPLATE_OPTIONS: dict[str, Any] = {"enable_thinking": False, "date_string": TODAY}
"""For chat templates that would have the model think before its answer, or print today's date."""
_PIECE = re.compile(r" ?[A-Za-z]{1,6}| ?[^\sA-Za-z]|\s")
_ORDINARY_TOKEN = re.compile(r"[^\W_]++(?:['’.&/+-][^\W_]++)*+[.+#!?]*+|[.,!?…'\"“”‘’()\-–—:;]*")
"""A word, with marks as words have them, or punctuation."""
MOST_KEPT = 16_384
"""Texts and prompts whose tokens are cached: fields are cut, counted and scored from the same."""
_CALLED = ("__call__", "_encode_plus")
"""Methods through which transformers calls the tokenizer behind its own."""
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
        return cast("list[int]", self.encode_texts([text])[0].tolist())

    def encode_texts(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The same of many texts, in one call of the tokenizer."""
        return self._known(texts, self._encoded_texts)

    def encode_prompts(self, prompts: Sequence[Prompt]) -> list[NDArray[np.int32]]:
        """Tokens of prompts up to where the answer begins, in one call of the tokenizer.

        A chat goes through the model's chat template; a model without one (a base model) reads
        system and user text as paragraphs. Plain text is read as it is, after the tokenizer's
        beginning-of-text token if it has one.
        """
        return self._known(prompts, self._encoded_prompts)

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Number of tokens of each prompt up to where the answer begins."""
        return [len(tokens) for tokens in self.encode_prompts(prompts)]

    @cached_property
    def _kept(self) -> dict[Any, NDArray[np.int32]]:
        return {}

    def _known(
        self, given: Sequence[Given], encoded: Callable[[Sequence[Given]], list[list[int]]]
    ) -> list[NDArray[np.int32]]:
        """Tokens of texts or prompts; the latest are cached."""
        found = {one: self._kept[one] for one in given if one in self._kept}
        new = [one for one in dict.fromkeys(given) if one not in found]
        if new:
            made = {o: np.array(t, np.int32) for o, t in zip(new, encoded(new), strict=True)}
            if len(self._kept) + len(made) > MOST_KEPT:
                self._kept.clear()
            self._kept.update(made)
            found |= made
        return [found[one] for one in given]

    def _encoded_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        chat = self.chat
        chats = [prompt for prompt in prompts if prompt.text is None and chat is not None]
        plain = [prompt for prompt in prompts if prompt.text is not None or chat is None]
        rendered = [chat.render(prompt) for prompt in chats] if chat else []
        found = dict(zip(chats, self._ids(rendered), strict=True))
        texts = self._encoded_texts([plain_text(prompt) for prompt in plain])
        first, least = self._first
        found |= {p: [*first, *tokens] or least for p, tokens in zip(plain, texts, strict=True)}
        return [found[prompt] for prompt in prompts]

    def _encoded_texts(self, texts: Sequence[str]) -> list[list[int]]:
        return self._ids(texts, split=True)

    def _ids(self, texts: Sequence[str], *, split: bool = False) -> list[list[int]]:
        """Tokens of texts; ``split`` reads a control token's text as ordinary text."""
        fast = self._backend
        if fast is not None:  # transformers takes five times as long for a title
            if fast.encode_special_tokens != split:
                fast.encode_special_tokens = split
            return [one.ids for one in fast.encode_batch_fast([*texts], add_special_tokens=False)]
        if not texts:
            return []
        options: dict[str, Any] = {"add_special_tokens": False, "split_special_tokens": split}
        return cast("list[list[int]]", self.tokenizer([*texts], **options)["input_ids"])

    @cached_property
    def _backend(self) -> Tokenizer | None:
        """The tokenizer behind one that adds nothing to it of its own."""
        from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - takes seconds

        kind = type(self.tokenizer)
        if not isinstance(self.tokenizer, PreTrainedTokenizerFast):
            return None
        if any(getattr(kind, n) is not getattr(PreTrainedTokenizerFast, n) for n in _CALLED):
            return None
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        return backend

    @cached_property
    def _first(self) -> tuple[list[int], list[int]]:
        """What stands before plain text, and an empty prompt's one token, to score from."""
        bos, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        begins = bos is not None and self.tokenizer("a")["input_ids"][0] == bos
        return ([bos] if begins else []), [bos if bos is not None else end or 0]

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

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        """Number of pieces of each prompt, and what a chat template puts around it."""
        return [self._count(prompt) for prompt in prompts]

    def _count(self, prompt: Prompt) -> int:
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
