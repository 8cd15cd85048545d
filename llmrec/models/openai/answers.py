"""Sends requests and reads what comes: an answer each, or nothing, and what it took."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from llmrec.errors import ModelError, ServerError
from llmrec.models.openai.replies import Reply, WrongReplyError
from llmrec.models.openai.sending import Ask, RefusedError, Sender
from llmrec.models.protocol import REQUEST_FAILED, REQUEST_REFUSED
from llmrec.records import Usage

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answers(Generic[T]):
    """What a server answered, one a request.

    ``prompts`` and ``written`` count tokens of each prompt and answer as the server does.
    ``faults`` names why a request has no answer: it failed, also when tried again, or the server
    does not take it; its value is what was to stand for none. "" where there is an answer.
    """

    values: tuple[T, ...]
    prompts: tuple[int, ...]
    written: tuple[int, ...]
    usage: Usage
    faults: tuple[str, ...]


def gather(
    sender: Sender,
    asks: Sequence[Ask],
    read: Callable[[Reply, int], T],
    *,
    otherwise: Callable[[int], T],
    count: Callable[[int], int],
    tolerant: bool,
) -> Answers[T]:
    """Ask everything, and read each reply.

    Args:
        sender: Sends.
        asks: What to send.
        read: Reads the reply to the i-th request; a `WrongReplyError` of it is a failure.
        otherwise: What stands where the i-th request failed.
        count: Tokens of the i-th prompt, where the server does not count them.
        tolerant: Whether it is known to take such requests: then one that it does not take is that
            request's own fault, also where there is no other.

    Raises:
        ServerError: Every request failed; another time they may not.
        ModelError: The server takes none of the requests, and is not known to take any.
    """
    started = time.perf_counter()
    outcomes = sender.send_all(asks)
    seconds = time.perf_counter() - started
    values: list[T] = []
    prompts: list[int] = []
    written: list[int] = []
    given, cached = 0, 0
    faults: list[str] = []
    failures: list[Exception] = []
    for place, outcome in enumerate(outcomes):
        reply, failure = (None, outcome) if isinstance(outcome, Exception) else (outcome, None)
        value = otherwise(place)
        if reply is not None:
            given += reply.usage.prompt_tokens
            cached += min(reply.usage.cached, reply.usage.prompt_tokens)
            try:
                value = read(reply, place)
            except WrongReplyError as error:
                failure = error
        fault = ""
        if failure is not None:
            fault = REQUEST_REFUSED if isinstance(failure, RefusedError) else REQUEST_FAILED
            failures.append(failure)
        faults.append(fault)
        values.append(value)
        prompts.append((reply and reply.usage.prompt_tokens) or count(place))
        written.append((reply and reply.usage.completion_tokens) or 0)
    if failures:
        logger.warning("%d of %d requests failed: %s", len(failures), len(asks), failures[-1])
    all_refused = REQUEST_FAILED not in faults
    if failures and len(failures) == len(asks) and not (tolerant and all_refused):
        kind = ModelError if all_refused else ServerError
        raise kind(
            f"All {len(asks)} requests to {sender.client.base_url} failed, the last one because "
            f"{failures[-1]}.",
            hint="Check that the server runs and is not overloaded; "
            "fewer requests at a time (concurrency) or a longer timeout may help.",
        ) from failures[-1]
    usage = Usage(given, given - cached, sum(written), len(asks), seconds)
    return Answers(tuple(values), tuple(prompts), tuple(written), usage, tuple(faults))
