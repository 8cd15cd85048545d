"""What usage costs, by a table of the user's own."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, TypeAdapter, ValidationError

from llmrec.errors import OptionError, nearest
from llmrec.records import Usage

_FORM = 'A table has a part a model: ["gpt-4o-mini"] with input = 0.15 and output = 0.60.'


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid")
    input: NonNegativeFloat
    output: NonNegativeFloat
    cached_input: NonNegativeFloat | None = None


_TABLE = TypeAdapter(dict[str, _Row])


@dataclass(frozen=True, slots=True)
class Prices:
    """Money per million tokens, in whatever currency the table is in.

    ``cached_input`` is for tokens that the server had read before; None takes the full price.
    """

    input: float
    output: float
    cached_input: float | None = None

    @classmethod
    def load(cls, path: Path, model: str) -> Prices:
        """Read the prices of a model from a ``.toml`` or ``.json`` table of model names.

        Raises:
            OptionError: The file cannot be read, is no such table, or does not name the model.
        """
        try:
            text = path.read_text(encoding="utf-8")
            parsed = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
            table = _TABLE.validate_python(parsed)
        except (OSError, ValueError) as error:
            what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise OptionError(f"{path} is no table of prices: {what}.", hint=_FORM) from error
        if model not in table:
            near = nearest(model, table)
            raise OptionError(
                f"{path} has no prices of {model!r}, but of {', '.join(table) or 'nothing'}.",
                hint=near or _FORM,
            )
        row = table[model]
        return cls(row.input, row.output, row.cached_input)

    def cost(self, usage: Usage) -> float:
        """What was paid for: tokens given, those of them read before, and tokens written."""
        cached = self.input if self.cached_input is None else self.cached_input
        read_before = usage.tokens_given - usage.tokens_forwarded
        millionths = (
            usage.tokens_forwarded * self.input
            + read_before * cached
            + usage.tokens_generated * self.output
        )
        return millionths / 1e6
