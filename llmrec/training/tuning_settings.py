"""Settings of a tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from llmrec.errors import OptionError, nearest
from llmrec.models import MOST_LABELS
from llmrec.models.adapter import read_adapter
from llmrec.prompting import Template
from llmrec.records import User

Objective: TypeAlias = Literal["next-title", "list", "pointwise", "listwise"]
Weights: TypeAlias = Literal["lora", "qlora", "full"]
Count: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
Rate: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class TuningSettings:
    """How a language model is tuned.

    Args:
        objective: ``next-title``: every title of a history from those before it. ``list``: the
            target among candidates of the retriever by the likelihood of its title. ``pointwise``,
            ``listwise``: the same by the labels of these strategies.
        weights: ``lora`` on all linear layers, ``qlora`` (LoRA on a model in NF4), or ``full``.
        rank: Rank of LoRA.
        dropout: Share of LoRA's inputs that a step leaves out.
        weight_decay: Share of each weight, times the learning rate, that a step takes off.
        learning_rate: None takes one that suits objective and weights.
        epochs: Passes over windows or lists.
        step_tokens: Tokens of a step, for ``next-title``.
        step_lists: Lists of a step, for the other objectives.
        sizes: Least and most candidates of a list, the target among them.
        temperature: Divides a teacher's scores, standardised in the list, before their softmax.
        crop: Share of lists whose history is cut to a stretch of it, drawn anew in each epoch.
        mask: Share of each history's items that are left out.
        reorder: Share of lists in whose history two neighbours change places.
        offset: What a list adds to the model's score: the ``gate`` with all its features
            (the model learns what they lack), the ``retriever``'s score alone, or ``none``.
        offset_rate: Learning rate of the offset's weights.
        validations: How often to validate within the training.
        patience: Validations without a gain until it stops; 0 never stops.
        seed: Random seed.
    """

    objective: Objective = "list"
    weights: Weights = "lora"
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    dropout: Share = 0.0
    weight_decay: Share = 0.0
    learning_rate: Rate | None = None
    epochs: Count = 3
    step_tokens: Count = 16_384
    step_lists: Count = 16
    sizes: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]] = (8, 20)
    temperature: Annotated[float, Field(gt=0, le=100)] = 0.5
    crop: Share = 0.0
    mask: Share = 0.0
    reorder: Share = 0.0
    offset: Literal["gate", "retriever", "none"] = "gate"
    offset_rate: Rate = 0.01
    validations: Count = 8
    patience: Annotated[int, Field(ge=0)] = 4
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def rate(self) -> float:
        """The learning rate of the weights."""
        full = self.weights == "full"
        usual = (3e-5 if full else 3e-4) if self.on_lists else (3e-4 if full else 1e-3)
        return self.learning_rate or usual

    @property
    def on_lists(self) -> bool:
        """Whether lists of candidates are learned, not titles in order."""
        return self.objective != "next-title"

    @property
    def strategy(self) -> str:
        """The strategy that the adapter is for."""
        return self.objective if self.objective in {"pointwise", "listwise"} else "likelihood"

    def augmented(self, user: User, draw: np.random.Generator) -> User:
        """A user with a history that is changed a little; one item is always left."""
        rows = list(user.history)
        if len(rows) < 2 or not self.crop + self.mask + self.reorder:
            return user
        if draw.random() < self.crop:
            first, last = np.sort(draw.choice(len(rows) + 1, 2, replace=False))
            rows = rows[first:last]
        kept = draw.random(len(rows)) >= self.mask
        rows = [row for row, keep in zip(rows, kept, strict=True) if keep] or rows[-1:]
        if len(rows) > 1 and draw.random() < self.reorder:
            place = int(draw.integers(len(rows) - 1))
            rows[place : place + 2] = rows[place : place + 2][::-1]
        return replace(user, history=tuple(rows))

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


def check_start(start: Path, settings: TuningSettings, template: Template) -> None:
    """Check that a tuning with these settings can start from an adapter.

    Raises:
        OptionError: It has another template or rank, or all weights where LoRA is tuned.
        StorageError: The folder holds no adapter.
    """
    record = read_adapter(start)
    if record.template_sha256 != template.sha256:
        raise OptionError(
            f"The adapter {start} was tuned on {record.template}; the template is {template.name}.",
            hint="Give both the same template.",
        )
    if settings.weights == "full" or record.kind == "base":
        return
    if record.kind == "full":
        raise OptionError(
            f"The adapter {start} holds all weights; {settings.weights} cannot start from them.",
            hint="Tune all weights (--weights full), or merge the adapter into a model first.",
        )
    if record.settings.get("rank") != settings.rank:
        rank = record.settings.get("rank")
        raise OptionError(
            f"rank is {settings.rank}; the adapter {start} has rank {rank}.",
            hint=f"Give rank={rank}.",
        )


_SETTINGS = TypeAdapter(TuningSettings)


def _read(values: Mapping[str, object]) -> TuningSettings:
    try:
        made = _SETTINGS.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise OptionError(f"{name} is {values[name]!r}: {first['msg']}.") from error
    least, most = made.sizes
    if least > most:
        raise OptionError(f"sizes is {made.sizes}; allowed is the least first.")
    if made.objective == "listwise" and most > MOST_LABELS:
        raise OptionError(
            f"sizes is {made.sizes}; a listwise prompt can label {MOST_LABELS} candidates at most."
        )
    if made.dropout and made.weights == "full":
        raise OptionError(
            f"dropout is {made.dropout} with all weights; it is that of LoRA.",
            hint="Leave one of them out.",
        )
    return made
