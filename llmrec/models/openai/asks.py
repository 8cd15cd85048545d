"""Which request asks a server for what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmrec.errors import ModelError
from llmrec.models.labels import label_tokens
from llmrec.models.openai.capabilities import Capabilities
from llmrec.models.openai.replies import Reply, read_echo, read_echoed_ids
from llmrec.models.openai.sending import CHAT, COMPLETIONS, Ask
from llmrec.models.prompt_tokenizer import EstimatedTokenizer, PromptTokenizer
from llmrec.models.protocol import ContinuationRequest, LabelRequest
from llmrec.records import Prompt


@dataclass(frozen=True, slots=True)
class Echo:
    """A request for the log-probabilities of a text, and how its reply is read.

    ``text`` is what was sent: characters that end with ``after``, or tokens of which the first
    ``before`` are the prompt's.
    """

    ask: Ask
    text: str | list[int]
    after: str
    before: int

    def read(self, reply: Reply) -> NDArray[np.float64]:
        """Log-probability of each token of the continuation.

        Raises:
            WrongReplyError: The reply does not hold them.
        """
        if isinstance(self.text, str):
            return read_echo(reply, self.text, self.after)
        return read_echoed_ids(reply, self.before, len(self.text))


@dataclass(frozen=True, slots=True)
class Asker:
    """Writes requests to one model of a server.

    Args:
        name: Of the model, for messages.
        model: Its name at the server.
        able: What the server can do.
        reader: The model's tokenizer, or an estimate.
    """

    name: str
    model: str
    able: Capabilities
    reader: PromptTokenizer | EstimatedTokenizer

    def labels(self, request: LabelRequest) -> Ask:
        """One token of an answer, and what it might have been.

        Raises:
            ModelError: The server does not say, or does not take such prompts.
        """
        chat = request.prompt.text is None and self.able.chat
        width = self.able.chat_listed if chat else self.able.text_listed
        if width == 0:
            raise ModelError(
                f"{self.name} gives no log-probabilities for {'chats' if chat else 'plain text'}, "
                "which labels are read from.",
                hint="Use the strategy listwise-generated, which reads what a model writes, or a "
                "server that gives them (vLLM, llama.cpp).",
            )
        if not chat:
            return self.prompt(request.prompt, 1, {"logprobs": width})
        extra: dict[str, object] = {"logprobs": True, "top_logprobs": width}
        if self.able.label_tokens and not isinstance(self.reader, EstimatedTokenizer):
            tokens = [label_tokens(self.reader, label) for label in request.labels]
            extra["logprob_token_ids"] = [token for some in tokens for token in some]
        return self.prompt(request.prompt, 1, extra)

    def continuation(self, request: ContinuationRequest) -> Echo:
        """A text with its log-probabilities: of the same tokens as without a server, if known.

        Raises:
            ModelError: The server does not give them, or the prompt is a chat.
        """
        if self.able.echo is None:
            raise ModelError(
                f"{self.name} does not give log-probabilities of a text it is given, which the "
                "likelihood strategy needs.",
                hint="Use a pointwise, graded or listwise strategy, or a server that echoes "
                "prompts with their log-probabilities (vLLM, SGLang).",
            )
        prompt, after = request.split()
        if prompt.text is None:
            raise ModelError(
                f"{self.name} scores what follows a plain text, not what follows a chat.",
                hint="Use a template that is one plain text, as those of likelihood are.",
            )
        text: str | list[int] = prompt.text + after
        before = 0
        if not isinstance(self.reader, EstimatedTokenizer):
            tokens = self.reader.encode_prompt(prompt)
            before, text = len(tokens), tokens + self.reader.encode(after)
        body = {"prompt": text, "echo": True, "logprobs": 1, "max_tokens": self.able.echo}
        return Echo(self._to(COMPLETIONS, body | {"temperature": 0.0}), text, after, before)

    def prompt(self, prompt: Prompt, tokens: int, extra: Mapping[str, object]) -> Ask:
        """An answer of at most so many tokens; ``extra`` is added to what is always asked.

        Raises:
            ModelError: The server does not take such prompts.
        """
        text = prompt.text
        if text is None:
            if self.able.chat:
                body = self.able.chat_body(prompt.system, prompt.user, tokens)
                return self._to(CHAT, body | dict(extra))
            # A base model's server: paragraphs, as without a server.
            text = "\n\n".join(part for part in (prompt.system, prompt.user) if part) + "\n\n"
        if not self.able.completions:
            raise ModelError(
                f"{self.name} takes chats, not plain text.", hint="Use a template of a chat."
            )
        body = {"prompt": text, "max_tokens": tokens, "temperature": 0.0}
        return self._to(COMPLETIONS, body | dict(extra))

    def _to(self, path: str, body: Mapping[str, object]) -> Ask:
        return Ask(path, {"model": self.model, **body})
