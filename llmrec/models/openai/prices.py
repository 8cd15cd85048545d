"""Costs of usage, from the user's own table of prices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from llmrec.documents import parse_json, parse_toml
from llmrec.errors import OptionError, nearest
from llmrec.records import Usage

_FORM = 'A table has a part a model: ["gpt-4o-mini"] with input = 0.15 and output = 0.60.'


Price = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class Prices(BaseModel):
    """Money per million tokens, in whatever currency the table is in.

    ``cached_input`` is for tokens that the server had cached; None takes the full price.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    input: Price
    output: Price
    cached_input: Price | None = None

    @classmethod
    def load(cls, path: Path, model: str) -> Prices:
        """Read the prices of a model from a ``.toml`` or ``.json`` table of model names.

        Raises:
            OptionError: The file cannot be read, is malformed, or does not name the model.
        """
        try:
            text = path.read_text(encoding="utf-8")
            parsed = parse_json(text) if path.suffix == ".json" else parse_toml(text)
            table = TypeAdapter(dict[str, Prices]).validate_python(parsed)
        except (OSError, ValueError) as error:
            what: object = error
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise OptionError(f"{path} is no table of prices: {what}.", hint=_FORM) from error
        if model not in table:
            near = nearest(model, table)
            raise OptionError(
                f"{path} has no prices of {model!r}, but of {', '.join(table) or 'nothing'}.",
                hint=near or _FORM,
            )
        return table[model]

    def cost(self, usage: Usage) -> float:
        """The price of tokens given, those of them cached, and tokens generated."""
        cached = self.input if self.cached_input is None else self.cached_input
        millionths = (
            usage.tokens_forwarded * self.input
            + (usage.tokens_given - usage.tokens_forwarded) * cached
            + usage.tokens_generated * self.output
        )
        return millionths / 1e6
