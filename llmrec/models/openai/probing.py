"""Finds out once, by tiny requests, what a server can do.

What it answers is looked at, not only whether it answers: servers ignore what they do not know.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from llmrec.errors import ModelError, ModelNotFoundError, ServerError
from llmrec.models.labels import spellings, write_order
from llmrec.models.openai.capabilities import (
    Capabilities,
    Guide,
    Limit,
    guided,
    unwrapped,
)
from llmrec.models.openai.replies import (
    Reply,
    WrongReplyError,
    read_echo,
)
from llmrec.models.openai.sending import (
    CHAT,
    COMPLETIONS,
    KEY,
    Ask,
    Body,
    FailedError,
    RefusedError,
    Sender,
)

logger = logging.getLogger(__name__)

WIDTHS = (100, 20, 5)
"""How many likely tokens are asked for: 20 is the usual limit, 5 that of old completions."""
GUIDES: tuple[Guide, ...] = ("structured_outputs", "guided_regex", "grammar", "json_schema")
_PROBE = ("B", "A", "C")
_MANNERS: tuple[tuple[bool, bool, Limit], ...] = (
    (True, True, "max_tokens"),
    (False, True, "max_tokens"),
    (True, False, "max_tokens"),
    (True, False, "max_completion_tokens"),
    (False, False, "max_tokens"),
)
"""With a system turn? With options for the chat template? The first that is taken stays."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model as its server describes it: ``max_length`` is None where it does not say."""

    capabilities: Capabilities
    fingerprint: str
    max_length: int | None


@dataclass(frozen=True)
class Probe:
    """Finds out what one model of a server can do.

    Args:
        sender: Where to ask.
        model: The model's name there.
        label_tokens: Tokens of the labels Yes and No, where the tokenizer is at hand.
    """

    sender: Sender
    model: str
    label_tokens: tuple[int, ...] = ()

    def served(self) -> Served:
        """Ask the server.

        Raises:
            ModelNotFoundError: It does not have the model.
            ServerError: It cannot be reached.
            ModelError: It refuses the key.
        """
        address = self.sender.client.base_url
        try:
            listing = self._listing()
            found = self._basics()
            if not (found.chat or found.completions) and self.model in listing:
                raise ModelError(
                    f"The server {address} names {self.model!r} and answers no prompt to it, by "
                    "chat or as a completion, with anything that can be read.",
                    hint="Look at what the server logs; it has to speak OpenAI's protocol.",
                )
            if not (found.chat or found.completions):
                raise ModelNotFoundError(
                    f"The server {address} does not serve {self.model!r}; it names "
                    f"{', '.join(listing) or 'no model'}.",
                    hint="Write a name of the server's after #; its address usually ends in /v1.",
                )
            capabilities = self._rest(found)
            fingerprint = self._fingerprint(capabilities)
        except FailedError as error:
            if error.status in {401, 403}:
                raise ModelError(
                    f"The server {address} refuses the key: {error}",
                    hint=f"Put the server's key into the environment variable {KEY}.",
                ) from error
            raise ServerError(
                f"The server {address} cannot be asked: {error}",
                hint="Check that it runs and that the address, which usually ends in /v1, is its.",
            ) from error
        logger.info("%s of %s: %s", self.model, address, capabilities)
        row = listing.get(self.model) or (  # a server of one model may take any name for it
            next(iter(listing.values())) if len(listing) == 1 else {}
        )
        marks = (fingerprint, *_marks(row))
        return Served(capabilities, "/".join(filter(None, marks)), _length(row))

    def _listing(self) -> dict[str, Mapping[str, object]]:
        """What the server says of its models; nothing where it does not list them."""
        try:
            said = self.sender.get("/models")
        except (RefusedError, WrongReplyError):
            return {}
        rows = said.get("data") if isinstance(said, dict) else None
        rows = (
            [row for row in rows or () if isinstance(row, dict)] if isinstance(rows, list) else []
        )
        return {str(row.get("id")): row for row in rows}

    def _basics(self) -> Capabilities:
        found = Capabilities(completions=self._text(1, strict=True) is not None)
        for system, options, limit in _MANNERS:
            chat = Capabilities(
                chat=True,
                completions=found.completions,
                system=system,
                template_options=options,
                limit=limit,
            )
            if self._chat(chat, 1, strict=not options) is not None:
                return chat
        return found

    def _rest(self, found: Capabilities) -> Capabilities:
        if found.chat:
            found = replace(found, chat_listed=next(self._chat_widths(found), 0))
        if found.completions:
            found = replace(found, text_listed=next(self._text_widths(), 0), echo=self._echo())
        if found.chat_listed and self.label_tokens:
            found = replace(found, label_tokens=self._lists_tokens(found))
        for guide in GUIDES:
            if self._holds(found, guide):
                return replace(found, guide=guide)
        return found

    def _chat_widths(self, found: Capabilities) -> Iterator[int]:
        for width in WIDTHS:
            reply = self._chat(found, 1, {"logprobs": True, "top_logprobs": width})
            if reply is not None and _lists(reply):
                yield width

    def _text_widths(self) -> Iterator[int]:
        for width in WIDTHS:
            reply = self._text(1, {"logprobs": width})
            if reply is not None and _lists(reply):
                yield width

    def _echo(self) -> int | None:
        for tokens in (0, 1):
            reply = self._text(tokens, {"logprobs": 1, "echo": True}, "One two three four")
            try:
                if reply is not None and len(read_echo(reply, "One two three four", " three four")):
                    return tokens
            except WrongReplyError:
                continue
        return None

    def _lists_tokens(self, found: Capabilities) -> bool:
        named = {"logprobs": True, "top_logprobs": 1, "logprob_token_ids": self.label_tokens}
        reply = self._chat(found, 1, named)
        listed = {text for text, _ in reply.first_place()} if reply and _lists(reply) else set()
        return all(listed & set(spellings(label)) for label in ("Yes", "No"))

    def _holds(self, found: Capabilities, guide: Guide) -> bool:
        """Whether an answer that no model would give comes where it is the only one allowed."""
        extra = guided(guide, _PROBE)
        reply = self._chat(found, 40, extra) if found.chat else self._text(40, extra)
        if reply is None:
            return False
        try:
            text, _ = reply.written()
        except WrongReplyError:
            return False
        return is_order(text if guide != "json_schema" else unwrapped(text), _PROBE)

    def _chat(
        self, found: Capabilities, tokens: int, extra: Body | None = None, *, strict: bool = False
    ) -> Reply | None:
        system = "Answer." if found.system else ""
        body = found.chat_body(system, "What is the sky like?", tokens)
        return self._ask(CHAT, body | dict(extra or {}), strict=strict)

    def _text(
        self,
        tokens: int,
        extra: Body | None = None,
        text: str = "The sky is",
        *,
        strict: bool = False,
    ) -> Reply | None:
        body = {"prompt": text, "max_tokens": tokens, "temperature": 0.0}
        return self._ask(COMPLETIONS, body | dict(extra or {}), strict=strict)

    def _ask(self, path: str, body: Body, *, strict: bool) -> Reply | None:
        """The reply; None where the server does not take such a request.

        Some servers break on what they do not know, so that an error of theirs says the same,
        unless ``strict``: where nothing is asked but what every server knows.
        """
        try:
            return self.sender.send(Ask(path, {"model": self.model, **body}))
        except (RefusedError, WrongReplyError) as error:
            why: Exception = error
        except FailedError as error:
            if strict or error.status < 500:
                raise
            why = error
        logger.debug("%s %s: %s", path, sorted(body), why)
        return None

    def _fingerprint(self, found: Capabilities) -> str:
        reply = self._chat(found, 1) if found.chat else self._text(1)
        return (reply and reply.system_fingerprint) or ""


def is_order(text: str, labels: Sequence[str]) -> bool:
    """Whether a text is an order of all the labels and nothing else."""
    parts = text.strip().split(" > ")
    return write_order([part[1:-1] for part in parts]) == text.strip() and sorted(parts) == sorted(
        f"[{label}]" for label in labels
    )


def _lists(reply: Reply) -> bool:
    try:
        return len(reply.first_place()) > 1
    except WrongReplyError:
        return False


def _marks(row: Mapping[str, object]) -> tuple[str, ...]:
    """What llama.cpp says of the weights: how they are quantized, and how many bytes they are."""
    meta = row.get("meta")
    return (
        tuple(str(meta.get(key) or "") for key in ("ftype", "size"))
        if isinstance(meta, dict)
        else ()
    )


def _length(row: Mapping[str, object]) -> int | None:
    """The longest sequence, as vLLM (``max_model_len``) and llama.cpp (``meta.n_ctx``) say it."""
    meta = row.get("meta")
    said = row.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    return said if isinstance(said, int) and said > 0 else None
