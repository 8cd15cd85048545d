"""How a model reads prompts: through its tokenizer and chat template, no weights needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import jinja2
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llmrec.errors import ModelError
from llmrec.models.sources import ModelFolder, resolve_model
from llmrec.records import Prompt


@dataclass(frozen=True)
class PromptTokenizer:
    """A tokenizer with its chat template."""

    tokenizer: PreTrainedTokenizerBase
    name: str

    @classmethod
    def from_pretrained(cls, ref: str, *, progress: bool = False) -> PromptTokenizer:
        """Load a tokenizer by what `llmrec.models.resolve_model` takes.

        Raises:
            ModelNotFoundError: The reference names nothing that can be had.
            ModelError: What was found has no tokenizer.
        """
        source = resolve_model(ref, progress=progress)
        return cls(load_tokenizer(source), source.name)

    @property
    def revision(self) -> str:
        """There are no weights that could be of any."""
        return ""

    @property
    def max_length(self) -> int:
        """No limit is known without the model."""
        return 1 << 30

    @cached_property
    def special_tokens(self) -> tuple[str, ...]:
        """Texts that the tokenizer reads as control tokens."""
        added = self.tokenizer.added_tokens_decoder.values()
        return tuple(sorted(token.content for token in added if token.special))

    def encode(self, text: str) -> list[int]:
        """Tokens of plain text: nothing added, and no text read as a control token."""
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return list(encoded["input_ids"])

    def cut(self, text: str, n_tokens: int) -> str:
        """The longest beginning of ``text`` that is at most ``n_tokens`` tokens long."""
        # No readable text packs more characters into a token: the rest need not be tokenized.
        text = text[: 64 * n_tokens]
        encoded = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        offsets = encoded["offset_mapping"]
        if len(offsets) <= n_tokens:
            return text
        # A character of several byte-level tokens spans them all: cut before it if it is split.
        end = offsets[n_tokens][0]
        return text[:end]

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Tokens of a prompt up to where the answer begins.

        A chat prompt goes through the model's chat template; a model without one (a base model)
        reads system and user text as paragraphs. A plain-text prompt is read as it is, after the
        tokenizer's beginning-of-text token if it has one.
        """
        if prompt.text is None and self.tokenizer.chat_template:
            return list(self.tokenizer(self._chat(prompt), add_special_tokens=False)["input_ids"])
        text = prompt.text
        if text is None:
            text = "\n\n".join(part for part in (prompt.system, prompt.user) if part) + "\n\n"
        bos = self.tokenizer.bos_token_id
        starts_with_bos = bos is not None and self.tokenizer("a")["input_ids"][0] == bos
        tokens = ([bos] if starts_with_bos else []) + self.encode(text)
        # Even an empty prompt needs one token from which to score what follows.
        return tokens or [bos if bos is not None else self.tokenizer.eos_token_id or 0]

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt up to where the answer begins."""
        return len(self.encode_prompt(prompt))

    def _chat(self, prompt: Prompt) -> str:
        user = {"role": "user", "content": prompt.user}
        turns = [{"role": "system", "content": prompt.system}, user] if prompt.system else [user]
        try:
            return self._apply_template(turns)
        except jinja2.TemplateError:
            # Gemma-style templates refuse a system turn: its text then opens the user's.
            merged = {"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}
        try:
            return self._apply_template([merged])
        except jinja2.TemplateError as error:
            raise ModelError(
                f"The chat template of {self.name} cannot be rendered: {error}",
                hint="Take another model, or a plain-text template.",
            ) from error

    def _apply_template(self, turns: list[dict[str, str]]) -> str:
        text = self.tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
            date_string="1 January 2025",  # templates that print today's date would never repeat
        )
        return str(text)


def load_tokenizer(source: ModelFolder) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder.

    Raises:
        ModelError: There is none that can be loaded.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.path, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"{source.name} has no tokenizer that can be loaded: {error}",
            hint=f"{source.path} should hold tokenizer.json and tokenizer_config.json.",
        ) from error
    return cast("PreTrainedTokenizerBase", tokenizer)
