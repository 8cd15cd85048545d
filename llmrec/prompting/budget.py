"""How many tokens of the reading model each field of a prompt may take."""

from __future__ import annotations

from dataclasses import dataclass, fields

from llmrec.errors import OptionError
from llmrec.models import TextTokenizer
from llmrec.prompting.neutralise import neutralise

_ELLIPSIS = "…"
# No readable text packs more characters into a token: what stands further back cannot be kept, so
# it need not be looked at (a description may have 100,000 characters).
_CHARACTERS_PER_TOKEN = 32


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens a field may take, in the reading model's own tokenizer; 0 leaves a field out.

    ``history_items`` counts items, the most recent. ``evidence`` is for each piece of evidence and
    for the fault note of a rewrite; ``review`` is for each of at most two reviews of a candidate.

    Raises:
        OptionError: A value is negative.
    """

    title: int = 32
    description: int = 48
    attributes: int = 32
    review: int = 40
    profile: int = 48
    history_items: int = 20
    evidence: int = 96

    def __post_init__(self) -> None:
        for field in fields(self):
            value: int = getattr(self, field.name)
            if value < 0:
                raise OptionError(
                    f"Budget {field.name}={value}: allowed is 0 or more.",
                    hint="0 leaves the field out.",
                )


def field_text(text: str, n_tokens: int, tokenizer: TextTokenizer) -> str:
    """Make foreign text harmless and cut it to ``n_tokens`` tokens.

    A text that was cut ends in an ellipsis, which counts. Never more than ``n_tokens`` tokens.

    Args:
        text: Any text, of any length.
        n_tokens: 0 gives the empty text.
        tokenizer: The tokenizer of the model that will read it.
    """
    seen = text[: n_tokens * _CHARACTERS_PER_TOKEN]
    harmless = neutralise(seen, tokenizer.special_tokens)
    if len(seen) == len(text) and len(tokenizer.encode(harmless)) <= n_tokens:
        return harmless
    # Tokens may merge or split where the ellipsis is put on: count the result, not the parts.
    for kept in range(n_tokens - len(tokenizer.encode(_ELLIPSIS)), 0, -1):
        beginning = tokenizer.cut(harmless, kept).rstrip(" \u200c\u200d")
        if beginning and len(tokenizer.encode(beginning + _ELLIPSIS)) <= n_tokens:
            return beginning + _ELLIPSIS
    return tokenizer.cut(harmless, n_tokens)
