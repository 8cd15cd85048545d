"""What a server can do, and how it is asked accordingly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from llmrec.models.labels import order_grammar, order_regex

TEMPLATE_OPTIONS = {"enable_thinking": False, "date_string": "1 January 2025"}
"""For chat templates that would have the model think before its answer, or print today's date."""
Guide: TypeAlias = Literal["", "structured_outputs", "guided_regex", "grammar", "json_schema"]
Limit: TypeAlias = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server was found to do.

    Args:
        chat: It takes chats.
        system: A chat may begin with a system turn.
        completions: It continues plain text.
        chat_listed: How many likely tokens a chat lists; 0: it gives no log-probabilities.
        text_listed: The same of a completion.
        template_options: It hands options to the chat template.
        limit: What it calls the limit of an answer's tokens.
        label_tokens: It lists the tokens that are named to it (vLLM's ``logprob_token_ids``).
        echo: Fewest tokens it writes after the log-probabilities of a text it was given; None: it
            does not give those.
        guide: How its answers are held to a pattern; empty: they are not.
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

    def chat_body(self, system: str, user: str, tokens: int) -> dict[str, object]:
        """What every chat is asked with; a system turn that is not taken opens the user's."""
        if system and not self.system:
            system, user = "", f"{system}\n\n{user}"
        turns = [{"role": "system", "content": system}] if system else []
        body: dict[str, object] = {
            "messages": [*turns, {"role": "user", "content": user}],
            self.limit: tokens,
            "temperature": 0.0,
        }
        return body | ({"chat_template_kwargs": TEMPLATE_OPTIONS} if self.template_options else {})


def guided(guide: Guide, labels: Sequence[str]) -> dict[str, object]:
    """What holds an answer to an order of labels."""
    pattern = order_regex(labels)
    order = {"type": "string", "pattern": f"^{pattern}$"}
    schema = {
        "type": "object",
        "properties": {"order": order},
        "required": ["order"],
        "additionalProperties": False,
    }
    forms: Mapping[Guide, dict[str, object]] = {
        "": {},
        "structured_outputs": {"structured_outputs": {"regex": pattern}},
        "guided_regex": {"guided_regex": pattern},
        "grammar": {"grammar": order_grammar(labels)},
        "json_schema": {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "order", "strict": True, "schema": schema},
            }
        },
    }
    return forms[guide]


def unwrapped(text: str) -> str:
    """The order in a JSON answer; the answer itself where it holds none."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return text
    order = parsed.get("order") if isinstance(parsed, dict) else None
    return order if isinstance(order, str) else text
