"""Asks every cell about every user, keeps each answer as it comes, and goes on where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from tqdm import tqdm

from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.ranking import planted
from llmrec.benchmarking.records import Fault, Result, UserList, stored_scores
from llmrec.benchmarking.run_folder import RunFolder
from llmrec.errors import (
    HardwareError,
    LlmrecError,
    OutOfMemoryError,
    ServerError,
    StorageError,
)
from llmrec.models import LanguageModel
from llmrec.models.hardware import peak_mib, reset_peak_memory
from llmrec.models.protocol import REQUEST_FAILED
from llmrec.reranking import judge
from llmrec.reranking.strategies import ONE_AT_A_TIME
from llmrec.reranking.strategy import question_about
from llmrec.retrieval import Index

logger = logging.getLogger(__name__)

BLOCK = 10
"""Users that every cell is asked about before the next ones are."""
_PASSING = (OutOfMemoryError, HardwareError, ServerError, StorageError)
"""What another run may not meet: kept as faults, these would never be tried again."""

Load = Callable[[str, str], LanguageModel]
"""Loads a model by reference and quantization."""


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to ask: a cell, a user, and where the target is planted (None: nowhere)."""

    cell: Cell
    asked: UserList
    place: int | None = None

    @property
    def name(self) -> tuple[str, str, int | None]:
        """What its result is found by."""
        return self.cell.key, self.asked.user_id, self.place


def tasks_of(cells: Sequence[Cell], lists: Sequence[UserList]) -> Iterator[Task]:
    """Every cell and user, in blocks of users: early figures are of the same users in every row."""
    for start in range(0, len(lists), BLOCK):
        for cell in cells:
            for one in lists[start : start + BLOCK]:
                yield Task(cell, one)


def place_tasks(
    cells: Sequence[Cell], lists: Sequence[UserList], places: Sequence[int], users: int
) -> Iterator[Task]:
    """Every cell and place, of the first users whose candidates hold their target.

    Ways that see one candidate at a time do not know an order: they are not asked.
    """
    ordered = [cell for cell in cells if cell.strategy not in ONE_AT_A_TIME]
    for one in [one for one in lists if one.reached][:users]:
        there = [place for place in places if place <= len(one.candidates)]
        for cell in ordered:
            yield from (Task(cell, one, place) for place in there)


def run_tasks(
    folder: RunFolder,
    tasks: Sequence[Task],
    index: Index,
    load: Load,
    *,
    progress: bool = False,
) -> int:
    """Answer the tasks that have no result yet; returns how many were answered.

    A model is loaded only where something is to be asked of it. An error about one user is that
    result's fault and the run goes on; what another run may not meet (memory, hardware, a full
    disk, a server that is down) stops it, and what was answered stays. An answer that lacks some
    requests because a server failed them is not kept: the next run asks it again.

    Args:
        folder: Where results are, and are added.
        tasks: What is to be asked, in order.
        index: That knows none of the targets.
        load: Loads models.
        progress: Show a bar on stderr, where that is a terminal.

    Raises:
        StorageError: The results cannot be written.
        ModelError: A model cannot be loaded, or memory, hardware or a server failed.
    """
    done = {(r.cell, r.user_id, r.place) for r in folder.results()}
    left = [task for task in tasks if task.name not in done]
    if not left:
        return 0
    answered = unkept = 0
    bar = tqdm(total=len(left), desc="Asking", unit="answer", disable=None if progress else True)
    with bar, folder.appending() as file:
        for (ref, quantization), of_model in groupby(
            left, key=lambda task: (task.cell.model, task.cell.quantization)
        ):
            model: LanguageModel | None = None
            for task in of_model:
                bar.update()
                model = model or load(ref, quantization)
                result = ask(task, index, model)
                if REQUEST_FAILED in result.fallbacks:
                    unkept += 1
                    continue
                folder.add(file, [result])
                answered += 1
    if unkept:
        logger.warning(
            "%d answers lack requests that a server failed and are not kept: the same command asks "
            "them again.",
            unkept,
        )
    return answered


def ask(task: Task, index: Index, model: LanguageModel) -> Result:
    """Ask one task; scores come back in the order of the user's list, wherever items stood."""
    one = task.asked
    ids = one.candidates if task.place is None else planted(one, task.place)
    strategy, budget = task.cell.make()  # it was made before: what fails now is about no user
    reset_peak_memory()
    try:
        question = question_about(index, index.user(one.user_id), ids, budget)
        (judged,) = judge(model, strategy, [question])
    except _PASSING:
        raise
    except LlmrecError as error:
        fault = Fault(type(error).__name__, str(error))
        return Result(task.cell.key, one.user_id, place=task.place, fault=fault)
    scores = dict(zip(ids, judged.scores, strict=True))
    usage = judged.usage
    return Result(
        cell=task.cell.key,
        user_id=one.user_id,
        scores=stored_scores(np.array([scores[item_id] for item_id in one.candidates])),
        place=task.place,
        fallbacks=dict(judged.fallbacks),
        prompts=usage.prompts,
        tokens_given=usage.tokens_given,
        tokens_forwarded=usage.tokens_forwarded,
        tokens_generated=usage.tokens_generated,
        forwards=usage.forwards,
        seconds=round(usage.seconds, 4),
        peak_mib=peak_mib() if hasattr(model, "placement") else None,  # a server has its own
    )
