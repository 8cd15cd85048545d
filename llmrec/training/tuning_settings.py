"""Settings of a tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from llmrec.errors import OptionError, nearest

Objective: TypeAlias = Literal["next-title", "list"]
Count: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
Rate: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
_RATES: Mapping[tuple[str, str], float] = {
    ("next-title", "full"): 3e-4,
    ("next-title", "lora"): 1e-3,
    ("list", "full"): 3e-5,
    ("list", "lora"): 3e-4,
}
"""Learning rates by objective and weights."""


@dataclass(frozen=True)
class TuningSettings:
    """How a language model is tuned.

    Args:
        objective: ``next-title``: every title of a history from those before it. ``list``: the
            target among candidates of the retriever.
        weights: ``lora`` on all linear layers, or ``full``.
        rank: Rank of LoRA.
        learning_rate: None takes one that suits objective and weights.
        epochs: Passes over windows or lists.
        step_tokens: Tokens of a step, for ``next-title``.
        step_lists: Lists of a step, for ``list``.
        sizes: Least and most candidates of a list, the target among them.
        offset: What the list objective adds to the likelihood: the ``gate`` with all its features
            (the model learns what they lack), the ``retriever``'s score alone, or ``none``.
        offset_rate: Learning rate of the offset's weights.
        validations: How often to validate within the training.
        patience: Validations without a gain until it stops; 0 never stops.
        seed: Random seed.
    """

    objective: Objective = "list"
    weights: Literal["lora", "full"] = "lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    learning_rate: Rate | None = None
    epochs: Count = 3
    step_tokens: Count = 16_384
    step_lists: Count = 16
    sizes: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]] = (8, 20)
    offset: Literal["gate", "retriever", "none"] = "gate"
    offset_rate: Rate = 0.01
    validations: Count = 8
    patience: Annotated[int, Field(ge=0)] = 4
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def rate(self) -> float:
        """The learning rate of the weights."""
        return self.learning_rate or _RATES[self.objective, self.weights]

    @classmethod
    def from_texts(cls, settings: Mapping[str, str]) -> TuningSettings:
        """Make settings of texts, ``{"rank": "8", "sizes": "8,20"}``.

        Raises:
            OptionError: A setting is unknown, or its value is not allowed.
        """
        names = [entry.name for entry in fields(cls)]
        for name in settings:
            if name not in names:
                raise OptionError(
                    f"There is no setting {name!r}; there are {', '.join(names)}.",
                    hint=nearest(name, names),
                )
        pairs = {name: text.split(",") for name, text in settings.items() if name == "sizes"}
        return _read({**settings, **pairs})

    def checked(self) -> TuningSettings:
        """Return the settings if all values are allowed.

        Raises:
            OptionError: One is not.
        """
        return _read(asdict(self))


_SETTINGS = TypeAdapter(TuningSettings)


def _read(values: Mapping[str, object]) -> TuningSettings:
    try:
        made = _SETTINGS.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise OptionError(f"{name} is {values[name]!r}: {first['msg']}.") from error
    if made.sizes[0] > made.sizes[1]:
        raise OptionError(f"sizes is {made.sizes}; allowed is the least first.")
    return made
