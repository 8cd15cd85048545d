"""Detect a server's capabilities by small requests, and write requests for it.

The content of a reply is checked, not only its status: servers ignore unknown options.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from llmrec.documents import parse_json
from llmrec.errors import ModelError, ModelNotFoundError, ServerError
from llmrec.models.labels import order_grammar, order_regex, spellings, write_order
from llmrec.models.openai.client import (
    CHAT,
    COMPLETIONS,
    KEY,
    Body,
    FailedError,
    RefusedError,
    Reply,
    ServerClient,
    WrongReplyError,
    read_echo,
)
from llmrec.models.prompt_tokenizer import TEMPLATE_OPTIONS, plain_text
from llmrec.records import Prompt

logger = logging.getLogger(__name__)

Guide: TypeAlias = Literal["", "structured_outputs", "guided_regex", "grammar", "json_schema"]
Limit: TypeAlias = Literal["max_tokens", "max_completion_tokens"]
WIDTHS = (100, 20, 5)
"""Numbers of likely tokens to ask for: 20 is the usual limit, 5 that of old completions."""
GUIDES: tuple[Guide, ...] = ("structured_outputs", "guided_regex", "grammar", "json_schema")
_CHAT_FORMS: tuple[tuple[bool, bool, Limit], ...] = (
    (True, True, "max_tokens"),
    (False, True, "max_tokens"),
    (True, False, "max_tokens"),
    (True, False, "max_completion_tokens"),
    (False, False, "max_tokens"),
)
"""Combinations of system turn, template options and token limit; the first accepted is used."""
_QUESTION = Prompt("Answer.", "What is the sky like?")
_ORDER = ("B", "A", "C")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Detected capabilities of a server.

    Args:
        chat: It accepts chats.
        system: A chat may begin with a system turn.
        completions: It accepts plain text.
        chat_listed: Number of likely tokens that a chat lists; 0: no log-probabilities.
        text_listed: The same for a completion.
        template_options: It passes options to the chat template, and knows a repetition penalty:
            without one named, vLLM takes the checkpoint's.
        limit: Its name for the limit of an answer's tokens.
        label_tokens: It lists the tokens that a request names (vLLM's ``logprob_token_ids``).
        echo: Minimum of generated tokens in a request for the log-probabilities of a given text;
            None: it gives no such log-probabilities.
        guide: Option that constrains its output to a pattern; empty: none.
    """

    chat: bool = False
    system: bool = True
    completions: bool = False
    chat_listed: int = 0
    text_listed: int = 0
    template_options: bool = False
    limit: Limit = "max_tokens"
    label_tokens: bool = False
    echo: int | None = None
    guide: Guide = ""

    def request(self, prompt: Prompt, tokens: int, extra: Body) -> tuple[str, Body]:
        """The request for an answer of at most ``tokens`` tokens, and its path.

        If system turns are not accepted, the system text goes into the user's turn. If chats are
        not accepted, turns become paragraphs.
        """
        if prompt.text is not None or not self.chat:
            body = {"prompt": plain_text(prompt), "max_tokens": tokens, "temperature": 0.0}
            return COMPLETIONS, {**body, **extra}
        system, user = prompt.system, prompt.user
        if system and not self.system:
            system, user = "", f"{system}\n\n{user}"
        turns = [{"role": "system", "content": system}] if system else []
        chat: dict[str, object] = {
            "messages": [*turns, {"role": "user", "content": user}],
            self.limit: tokens,
            "temperature": 0.0,
        }
        if self.template_options:
            chat |= {"chat_template_kwargs": TEMPLATE_OPTIONS, "repetition_penalty": 1.0}
        return CHAT, {**chat, **extra}


def guided(guide: Guide, labels: Sequence[str]) -> dict[str, object]:
    """The options that constrain an answer to an order of labels."""
    pattern = order_regex(labels)
    schema = {
        "type": "object",
        "properties": {"order": {"type": "string", "pattern": f"^{pattern}$"}},
        "required": ["order"],
        "additionalProperties": False,
    }
    json_schema = {"name": "order", "strict": True, "schema": schema}
    options: Mapping[Guide, dict[str, object]] = {
        "": {},
        "structured_outputs": {"structured_outputs": {"regex": pattern}},
        "guided_regex": {"guided_regex": pattern},
        "grammar": {"grammar": order_grammar(labels)},
        "json_schema": {
            "response_format": {"type": "json_schema", "json_schema": json_schema},
        },
    }
    return options[guide]


def unwrapped(text: str) -> str:
    """The order in a JSON answer; the answer itself if there is none."""
    try:
        parsed = parse_json(text)
    except ValueError:
        return text
    order = parsed.get("order") if isinstance(parsed, dict) else None
    return order if isinstance(order, str) else text


def probe(
    client: ServerClient, label_tokens: Sequence[int] = ()
) -> tuple[Capabilities, str, int | None]:
    """Detect a server's capabilities.

    Args:
        client: Sends the requests.
        label_tokens: Tokens of the labels Yes and No, if the tokenizer is known.

    Returns:
        The capabilities; a fingerprint of the weights, if the server gives one; and the longest
        sequence in tokens, None if unknown.

    Raises:
        ModelNotFoundError: The server does not have the model.
        ServerError: It cannot be reached.
        ModelError: It refuses the key.
    """
    address = client.address
    try:
        listing = client.models()
        found = _accepted(client)
        if not (found.chat or found.completions):
            if client.model in listing:
                raise ModelError(
                    f"The server {address} lists {client.model!r} but gives no valid answer, "
                    "neither to a chat nor to a completion.",
                    hint="Read the server's log; it has to support OpenAI's protocol.",
                )
            raise ModelNotFoundError(
                f"The server {address} does not serve {client.model!r}; it names "
                f"{', '.join(listing) or 'no model'}.",
                hint="Write a name of the server's after #; its address usually ends in /v1.",
            )
        found = _log_probabilities(client, found, label_tokens)
        guides = (guide for guide in GUIDES if _constrains(client, found, guide))
        found = replace(found, guide=next(guides, ""))
        reply = _ask(client, found, 1)
    except FailedError as error:
        if error.status in {401, 403}:
            raise ModelError(
                f"The server {address} refuses the key: {error}",
                hint=f"Put the server's key into the environment variable {KEY}.",
            ) from error
        raise ServerError(
            f"The request to {address} failed: {error}",
            hint="Check that it runs and that the address is right; it usually ends in /v1.",
        ) from error
    logger.info("%s of %s: %s", client.model, address, found)
    # A server with one model may accept any name.
    row = listing.get(client.model) or (listing.popitem()[1] if len(listing) == 1 else {})
    meta = row.get("meta")  # llama.cpp's: how the weights are quantized, and their size in bytes
    meta = meta if isinstance(meta, dict) else {}
    marks = [reply and reply.system_fingerprint, meta.get("ftype"), meta.get("size")]
    length = row.get("max_model_len") or meta.get("n_ctx")  # vLLM's, and llama.cpp's
    return (
        found,
        "/".join(str(mark) for mark in marks if mark),
        length if isinstance(length, int) and length > 0 else None,
    )


def _accepted(client: ServerClient) -> Capabilities:
    """Find which prompts the server accepts, and in which form."""
    text = Capabilities(completions=True)
    found = text if _ask(client, text, 1, strict=True) else Capabilities()
    for system, options, limit in _CHAT_FORMS:
        chat = replace(found, chat=True, system=system, template_options=options, limit=limit)
        reply = _ask(client, chat, 1, strict=not options)
        if reply is not None:
            return replace(chat, system=system and not _drops_system(client, chat, reply))
    return found


def _drops_system(client: ServerClient, chat: Capabilities, short: Reply) -> bool:
    """Whether the server counts no more tokens for a long system turn than for a short one."""
    prompt = replace(_QUESTION, system=_QUESTION.system * 50)
    long, moved = (
        _accept(client, *form.request(prompt, 1, {}))
        for form in (chat, replace(chat, system=False))
    )
    if long is None or moved is None:
        return False
    counts = short.usage.prompt_tokens, long.usage.prompt_tokens, moved.usage.prompt_tokens
    return counts[0] == counts[1] < counts[2]


def _log_probabilities(
    client: ServerClient, found: Capabilities, label_tokens: Sequence[int]
) -> Capabilities:
    """Find which log-probabilities the server gives."""
    text = replace(found, chat=False)
    if found.chat:
        chats = (
            width
            for width in WIDTHS
            if _listed(_ask(client, found, 1, {"logprobs": True, "top_logprobs": width}))
        )
        found = replace(found, chat_listed=next(chats, 0))
    if found.completions:
        texts = (width for width in WIDTHS if _listed(_ask(client, text, 1, {"logprobs": width})))
        echoes = (tokens for tokens in (0, 1) if _echoes(client, tokens))
        found = replace(found, text_listed=next(texts, 0), echo=next(echoes, None))
    if found.chat_listed and label_tokens:
        named = {"logprobs": True, "top_logprobs": 1, "logprob_token_ids": list(label_tokens)}
        listed = _listed(_ask(client, found, 1, named))
        every = all(listed & set(spellings(label)) for label in ("Yes", "No"))
        found = replace(found, label_tokens=every)
    return found


def _listed(reply: Reply | None) -> set[str]:
    """The likely first tokens in a reply; empty if it lists only the generated one."""
    try:
        listed = reply.first_place() if reply else []
    except WrongReplyError:
        return set()
    return {text for text, _ in listed} if len(listed) > 1 else set()


def _echoes(client: ServerClient, tokens: int) -> bool:
    text = "One two three four"
    body = {"prompt": text, "max_tokens": tokens, "temperature": 0.0, "logprobs": 1, "echo": True}
    reply = _accept(client, COMPLETIONS, body)
    try:
        return reply is not None and len(read_echo(reply, text, " three four")) > 0
    except WrongReplyError:
        return False


def _constrains(client: ServerClient, found: Capabilities, guide: Guide) -> bool:
    """Whether an unlikely answer is given if it is the only one allowed."""
    reply = _ask(client, found, 40, guided(guide, _ORDER))
    try:
        text = reply.written()[0] if reply else ""
    except WrongReplyError:
        return False
    return is_order(unwrapped(text) if guide == "json_schema" else text, _ORDER)


def is_order(text: str, labels: Sequence[str]) -> bool:
    """Whether a text is an order of all the labels and nothing else."""
    parts = [part[1:-1] for part in text.strip().split(" > ")]
    return write_order(parts) == text.strip() and sorted(parts) == sorted(labels)


def _ask(
    client: ServerClient,
    found: Capabilities,
    tokens: int,
    extra: Body | None = None,
    *,
    strict: bool = False,
) -> Reply | None:
    prompt = _QUESTION if found.chat else Prompt("", "", "The sky is")
    path, body = found.request(prompt, tokens, extra or {})
    return _accept(client, path, body, strict=strict)


def _accept(client: ServerClient, path: str, body: Body, *, strict: bool = False) -> Reply | None:
    """The reply; None if the server does not accept such a request.

    Some servers fail with a 5xx status on unknown options: that counts as not accepted, unless
    ``strict``, for requests with standard options only.
    """
    try:
        return client.send(path, body)
    except (RefusedError, WrongReplyError) as error:
        why: Exception = error
    except FailedError as error:
        if strict or error.status < 500:
            raise
        why = error
    logger.debug("%s %s: %s", path, sorted(body), why)
    return None
