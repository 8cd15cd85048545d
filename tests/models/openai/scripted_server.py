"""An OpenAI-compatible server that answers by a script, well or badly."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, TypeAlias

from llmrec.models.openai import OpenAIServerModel

Listed: TypeAlias = Mapping[str, float]
Fault: TypeAlias = Callable[[BaseHTTPRequestHandler], dict[str, Any] | None]
"""What to do in place of a good answer: a reply to send, or None where it has done all itself."""
YES_OR_NO: Listed = {"Yes": -0.5, " yes": -2.0, "No": -1.5, "Maybe": -4.0}
USAGE = {"prompt_tokens": 11, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}


def chat(listed: Listed | None, text: str = "Yes", finish: str = "stop") -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {"token": token, "logprob": value, "bytes": list(token.encode())}
        for token, value in (listed or {}).items()
    ]
    first = max(rows, key=lambda row: row["logprob"]) | {"top_logprobs": rows} if rows else {}
    return {
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": text},
                "logprobs": {"content": [first]} if first else None,
            }
        ],
        "usage": USAGE,
        "system_fingerprint": "fp1",
    }


def completion(
    text: str, columns: Mapping[str, Any] | None = None, finish: str = "stop"
) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "text": text, "logprobs": columns}
    return {"choices": [choice], "usage": USAGE, "system_fingerprint": "fp1"}


def status(code: int, **headers: str) -> Fault:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = b'{"error": {"message": "no"}}'
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def replied(reply: dict[str, Any]) -> Fault:
    return lambda _: reply


def raw(body: bytes, *, length: int | None = None, kind: str = "application/json") -> Fault:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return answer


def closed(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def slow(seconds: float) -> Fault:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return answer


@dataclass
class ScriptedServer:
    """Answers as a server with these properties, but with ``faults`` first, one a request.

    ``always`` stands before the faults and answers every request, where it is there.
    """

    listed: Listed = field(default_factory=lambda: dict(YES_OR_NO))
    most_listed: int = 20
    serves_chat: bool = True
    serves_text: bool = True
    takes_template_options: bool = True
    takes_system: bool = True
    limit: str = "max_tokens"
    guide: str = ""
    names_tokens: Mapping[int, str] = field(default_factory=dict)
    tokens_of: Callable[[str | list[int]], tuple[list[str], list[float | None]]] | None = None
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "m", "max_model_len": 99}])
    faults: deque[Fault] = field(default_factory=deque)
    always: Fault | None = None
    seen: list[tuple[str, dict[str, Any], Mapping[str, str]]] = field(default_factory=list)
    most_at_once: int = 0

    def __enter__(self) -> ScriptedServer:
        script, lock = self, threading.Lock()
        active = 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # head and body of a reply in one packet
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._send(200, {"object": "list", "data": script.models})

            def do_POST(self) -> None:
                nonlocal active
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    active += 1
                    script.most_at_once = max(script.most_at_once, active)
                    heads = {name.lower(): value for name, value in self.headers.items()}
                    script.seen.append((self.path, body, heads))
                    fault = script.always or (script.faults.popleft() if script.faults else None)
                try:
                    reply = fault(self) if fault else script.answer(self.path, body)
                finally:
                    with lock:
                        active -= 1
                if reply is not None:
                    self._send(400 if "error" in reply else 200, reply)

            def _send(self, code: int, reply: dict[str, Any]) -> None:
                data = json.dumps(reply).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        refusal = {"error": {"message": "unsupported"}}
        if body["model"] != "m":
            return refusal
        if path == "/v1/chat/completions":
            wrong = (
                not self.serves_chat
                or self.limit not in body
                or ("chat_template_kwargs" in body and not self.takes_template_options)
                or (body["messages"][0]["role"] == "system" and not self.takes_system)
                or body.get("top_logprobs", 0) > self.most_listed
            )
            return refusal if wrong else self._chat(body)
        wrong = not self.serves_text or body.get("logprobs", 0) > self.most_listed
        return refusal if wrong else self._text(body)

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.guide and self.guide in body:
            order = "[C] > [A] > [B]"
            wrapped = json.dumps({"order": order}) if self.guide == "response_format" else order
            return chat(None, wrapped)
        if self.names_tokens and "logprob_token_ids" in body:
            ids = body["logprob_token_ids"]
            return chat({self.names_tokens[token]: -1.0 - place for place, token in enumerate(ids)})
        return chat(self.listed if body.get("logprobs") else None)

    def _text(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("echo") and self.tokens_of:
            tokens, values = self.tokens_of(body["prompt"])
            return completion("", {"tokens": tokens, "token_logprobs": values})
        if not body.get("logprobs"):
            return completion("blue")
        first = {"tokens": ["Yes"], "token_logprobs": [-0.5], "top_logprobs": [dict(self.listed)]}
        return completion("Yes", first, "length")


def words(text: str | list[int]) -> tuple[list[str], list[float | None]]:
    """A tokenizer of words with the space before them, and a made-up log-probability each."""
    assert isinstance(text, str)
    tokens = [f" {word}" for word in text.split(" ")]
    tokens[0] = tokens[0][1:]
    return tokens, [None, *(-float(len(token)) for token in tokens[1:])]


def total(*values: float) -> float:
    return math.log(math.fsum(map(math.exp, values)))


@contextmanager
def connected(server: ScriptedServer, **options: float) -> Iterator[OpenAIServerModel]:
    given: dict[str, Any] = {"retries": 1, "timeout": 5.0, "concurrency": 1} | options
    model = OpenAIServerModel.connect(server.url, "m", **given)
    try:
        yield model
    finally:
        model.close()


@contextmanager
def serving(**script: Any) -> Iterator[tuple[ScriptedServer, OpenAIServerModel]]:  # noqa: ANN401
    with ScriptedServer(**script) as server, connected(server) as model:
        yield server, model
