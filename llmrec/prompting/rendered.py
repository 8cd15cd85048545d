"""What rendering gives: the text a language model is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmrec.records import Prompt


@dataclass(frozen=True, slots=True)
class Rendered:
    """The prompts of one user, all with the same history.

    ``history_given`` counts the items that the budget allows, ``history_kept`` those of them (the
    most recent) that stand in the prompts: fewer where a prompt would not have fitted.
    """

    prompts: tuple[Prompt, ...]
    history_given: int
    history_kept: int

    @property
    def fallbacks(self) -> Mapping[str, int]:
        """How many history items did not fit, where any did not, for a ranking's count."""
        dropped = self.history_given - self.history_kept
        return {"history_shortened": dropped} if dropped else {}
