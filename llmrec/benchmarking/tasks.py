"""What a benchmark asks: every cell and list, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmrec.benchmarking.attacks import Trial, attackable
from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.users import UserList
from llmrec.reranking.strategies import ONE_AT_A_TIME

BLOCK = 10
"""Users per block: every cell finishes a block before the next; a race tests after each."""


@dataclass(frozen=True, slots=True)
class Task:
    """A cell and a user to ask; ``place``: position of the planted target, None: unchanged."""

    cell: Cell
    one: UserList
    place: int | None = None

    @property
    def name(self) -> tuple[str, str, int | None]:
        """Key of its result."""
        return self.cell.key, self.one.user_id, self.place


def tasks_of(cells: Sequence[Cell], users: Sequence[UserList]) -> Iterator[Task]:
    """Every cell and user, one model after the other and in blocks of users.

    Early figures are then of the same users in every row.
    """
    for of_model in by_model(cells):
        for start in range(0, len(users), BLOCK):
            for cell in of_model:
                yield from (Task(cell, one) for one in users[start : start + BLOCK])


def place_tasks(
    cells: Sequence[Cell], users: Sequence[UserList], places: Sequence[int], number: int
) -> Iterator[Task]:
    """Every cell and position, for the first users whose only target is among the candidates.

    Strategies that show one candidate at a time know no order and are left out.
    """
    chosen = [one for one in users if one.reached and len(one.targets) == 1][:number]
    for of_model in by_model(cells):
        for cell in of_model:
            if cell.strategy in ONE_AT_A_TIME:
                continue
            for one in chosen:
                for place in places:
                    if place <= len(one.candidates):
                        yield Task(cell, one, place)


def attack_tasks(cells: Sequence[Cell], trials: Sequence[Trial]) -> Iterator[Task]:
    """Every cell and both variants of each trial whose field its prompts show."""
    for of_model in by_model(cells):
        for cell in of_model:
            fields = attackable(cell)
            for trial in trials:
                if trial.field in fields:
                    yield from (Task(cell, one) for one, _ in trial.variants)


def by_model(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells of one model and quantization together, so that each is loaded once."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.model, cell.quantization), []).append(cell)
    return list(groups.values())
