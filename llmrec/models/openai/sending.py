"""Requests to a server: bounded in number and time, tried again where that may help."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from pydantic import ValidationError

from llmrec.errors import ModelError
from llmrec.models.openai.replies import Reply, WrongReplyError

if TYPE_CHECKING:
    from openai import OpenAI

logger = logging.getLogger(__name__)

Body: TypeAlias = Mapping[str, object]
CHAT, COMPLETIONS = "/chat/completions", "/completions"
_REFUSED = frozenset({400, 404, 405, 413, 415, 422, 501})
KEY, OPENAI_KEY = "LLMREC_API_KEY", "OPENAI_API_KEY"


class RefusedError(Exception):
    """The server answered that it does not take such a request."""


class FailedError(Exception):
    """A request failed, also when tried again; ``status`` is 0 where no answer came at all."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: where to, and what."""

    path: str
    body: Body


Outcome: TypeAlias = Reply | Exception


@dataclass(frozen=True)
class Sender:
    """Sends requests to one server.

    The client itself tries again after 408, 409, 429 and 5xx, lost connections and timeouts, with
    exponential waits and jitter, and as the server's Retry-After asks.
    """

    client: OpenAI = field(repr=False)
    concurrency: int

    @classmethod
    def to(cls, base_url: str, *, concurrency: int, timeout: float, retries: int) -> Sender:
        """Make a client.

        Raises:
            ModelError: The client library is not installed.
        """
        try:
            import openai  # noqa: PLC0415
        except ImportError as error:
            raise ModelError(
                "A model of a server needs the package openai, which is not installed.",
                hint="Run `pip install 'llmrec[server]'`.",
            ) from error
        client = openai.OpenAI(
            base_url=base_url,
            api_key=api_key(base_url) or "none",
            timeout=timeout,
            max_retries=retries,
        )
        return cls(client, concurrency)

    def get(self, path: str) -> object:
        """The JSON of a path.

        Raises:
            RefusedError: The server does not give it.
            FailedError: It failed, also when tried again.
            WrongReplyError: What came is no JSON.
        """
        return self._checked(lambda: self.client.get(path, cast_to=object))

    def send(self, ask: Ask) -> Reply:
        """Send one request.

        Raises:
            RefusedError: The server does not take it.
            FailedError: It failed, also when tried again.
            WrongReplyError: What came is no reply.
        """
        raw = self._checked(lambda: self.client.post(ask.path, cast_to=object, body=ask.body))
        try:
            return Reply.model_validate(raw)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise WrongReplyError(f"its reply is malformed: {where}: {first['msg']}") from error

    def _checked(self, request: Callable[[], object]) -> object:
        import openai  # noqa: PLC0415

        try:
            return request()
        except openai.APIStatusError as error:
            said = f"it answered {error.status_code}: {error.message[:300]}"
            if error.status_code in _REFUSED:
                raise RefusedError(said) from error
            raise FailedError(said, error.status_code) from error
        except openai.OpenAIError as error:
            why = f" ({error.__cause__})" if error.__cause__ else ""
            raise FailedError(f"{error}{why}") from error
        except ValueError as error:  # json's own error is one
            raise WrongReplyError(f"its reply is no JSON: {error}") from error

    def send_all(self, asks: Sequence[Ask]) -> list[Outcome]:
        """Send requests side by side: a reply each, or why there is none.

        Where the first ones all fail, the rest is not sent: a server that is gone would take many
        times the longest wait.
        """
        lock = threading.Lock()
        failed, succeeded = 0, False
        enough = 2 * self.concurrency
        last: Exception | None = None

        def send(ask: Ask) -> Outcome:
            nonlocal failed, succeeded, last
            with lock:
                if last is not None and failed >= enough and not succeeded:
                    return last
            try:
                reply = self.send(ask)
            except (RefusedError, FailedError, WrongReplyError) as error:
                with lock:  # what it does not take says nothing of the next request
                    if not isinstance(error, RefusedError):
                        failed, last = failed + 1, error
                return error
            with lock:
                succeeded = True
            return reply

        with ThreadPoolExecutor(max_workers=self.concurrency) as pool:
            return list(pool.map(send, asks))

    def close(self) -> None:
        """Give the connections back."""
        self.client.close()


def api_key(base_url: str) -> str:
    """The key for a server, from the environment; empty where there is none.

    ``LLMREC_API_KEY`` goes to whichever server is named, ``OPENAI_API_KEY`` to OpenAI's own alone:
    a key is not shown to a server that it was not made for.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    own = parts.scheme == "https" and (host == "openai.com" or host.endswith(".openai.com"))
    return os.environ.get(KEY) or (os.environ.get(OPENAI_KEY, "") if own else "")
