"""A server that is slow, overloaded, broken or wrong gives failures, never scores."""

from __future__ import annotations

import logging
import socket
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import pytest

from llmrec.errors import ModelError, ServerError
from llmrec.models import LabelRequest
from llmrec.models.openai import OpenAIServerModel
from llmrec.models.openai.client import api_key
from llmrec.records import Prompt
from tests.models.openai.scripted_server import (
    Fault,
    ScriptedServer,
    chat,
    closed,
    connected,
    raw,
    replied,
    slow,
    status,
)

REQUEST = LabelRequest(Prompt("Answer.", "Does it suit?"), ("Yes", "No"))


@pytest.mark.parametrize(
    "fault",
    [
        status(429, Retry_After="0.3"),
        status(500),
        status(503),
        closed,
        slow(0.7),
        raw(b"{", length=9),
    ],
    ids=["429", "500", "503", "closed", "slow", "cut off"],
)
def test_passing_errors_are_retried(fault: Fault) -> None:
    with ScriptedServer() as server, connected(server, timeout=0.5) as model:
        server.faults.append(fault)
        started = time.perf_counter()
        found = model.label_log_probs([REQUEST])
        waited = time.perf_counter() - started
    assert np.isfinite(found.values[0]).all()
    assert found.faults == ("",)
    assert waited >= 0.3


def malformed(**changes: object) -> Fault:
    reply = chat({"Yes": -0.5, "No": -1.5})
    reply["choices"][0].update(changes)
    return replied(reply)


@pytest.mark.parametrize(
    "fault",
    [
        raw(b'{"choices": [{"ind'),
        raw(b"<html>busy</html>", kind="text/html"),
        raw(b""),
        replied({}),
        replied({"choices": []}),
        replied({"choices": "many"}),
        malformed(logprobs=None),
        malformed(logprobs={}),
        malformed(logprobs={"content": []}),
        malformed(logprobs={"content": [{"token": "Yes", "logprob": -0.5, "top_logprobs": []}]}),
        malformed(logprobs={"content": [{"token": "Yes", "top_logprobs": [{"token": "No"}]}]}),
        replied(chat({"Yes": 0.5, "No": -1.5})),
        replied(chat({"Yes": float("nan"), "No": -1.5})),
        replied(chat({"Yes": float("-inf"), "No": -1.5})),
    ],
    ids=[
        "truncated", "html", "empty", "nothing", "no choice", "wrong type", "no logprobs",
        "empty logprobs", "no place", "no list", "no number", "above 1", "nan", "infinite",
    ],
)  # fmt: skip
def test_malformed_replies_are_failures_without_scores(fault: Fault) -> None:
    with ScriptedServer() as server, connected(server) as model:
        server.faults.append(fault)
        found = model.label_log_probs([REQUEST, REQUEST])
    assert np.isnan(found.values[0]).all()
    assert found.values[0].shape == (2,)
    assert np.isfinite(found.values[1]).all()
    assert found.faults == ("request_failed", "")
    assert found.floored == (0, 0)
    assert found.tokens[0] > 0
    assert found.usage.tokens_given in {11, 22}


def test_other_tokens_than_labels_are_no_score() -> None:
    with ScriptedServer() as server, connected(server) as model:
        server.faults.append(replied(chat({"Ja": -0.5, "Nein": -1.5})))
        found = model.label_log_probs([REQUEST])
    assert np.isnan(found.values[0]).all()
    assert found.faults == ("no_label_returned",)


def test_rejected_requests_are_refused_without_scores() -> None:
    with ScriptedServer() as server, connected(server) as outside:
        model = outside.session()
        server.faults.append(status(400))
        found = model.label_log_probs([REQUEST, REQUEST])
        assert [bool(np.isnan(value).all()) for value in found.values] == [True, False]
        assert found.faults == ("request_refused", "")
        server.always = status(400)
        found = model.label_log_probs([REQUEST])  # such requests are taken: it is this one's fault
        assert np.isnan(found.values[0]).all()
        assert found.faults == ("request_refused",)
        with pytest.raises(ModelError, match="All 1 requests"):  # outside of a session
            outside.label_log_probs([REQUEST])
        with pytest.raises(ModelError, match="All 2 requests") as refused:
            model.session().label_log_probs([REQUEST, REQUEST])
    assert not isinstance(refused.value, ServerError)


def test_refused_requests_do_not_keep_the_next_from_being_sent() -> None:
    with ScriptedServer() as server, connected(server, concurrency=1) as model:
        model.label_log_probs([REQUEST])
        server.faults.extend([status(400)] * 2)
        found = model.label_log_probs([REQUEST] * 6)
    assert found.faults == ("request_refused",) * 2 + ("",) * 4
    assert [bool(np.isnan(value).all()) for value in found.values] == [True] * 2 + [False] * 4


def test_where_all_fail_the_last_cause_is_raised() -> None:
    with ScriptedServer() as server, connected(server, retries=0) as model:
        server.always = status(500)
        with pytest.raises(ServerError, match=r"All 2 requests .* it answered 500"):
            model.label_log_probs([REQUEST, REQUEST])


def test_a_server_that_is_gone_is_not_asked_for_everything() -> None:
    with ScriptedServer() as server, connected(server, retries=0, concurrency=2) as model:
        server.always = status(500)
        before = len(server.seen)
        with pytest.raises(ModelError, match="All 50 requests"):
            model.label_log_probs([REQUEST] * 50)
        assert len(server.seen) - before <= 6


def test_no_more_requests_at_a_time_than_allowed() -> None:
    with ScriptedServer() as server, connected(server, concurrency=3) as model:
        server.most_at_once = 0

        def wait(_: object) -> dict[str, Any]:
            time.sleep(0.05)
            return chat({"Yes": -0.5, "No": -1.5})

        server.always = wait
        model.label_log_probs([REQUEST] * 12)
    assert 2 <= server.most_at_once <= 3


def test_answers_keep_the_order_of_requests() -> None:
    with ScriptedServer() as server, connected(server, concurrency=4) as model:

        def late(handler: BaseHTTPRequestHandler) -> dict[str, Any]:
            user = server.seen[-1][1]["messages"][-1]["content"]
            time.sleep(0.05 * (4 - int(user)))
            return chat(None, user)

        prompts = [Prompt("", str(n)) for n in range(4)]
        server.faults.extend([late] * 4)
        found = model.generate(prompts, max_new_tokens=3)
    assert found.texts == ("0", "1", "2", "3")
    assert found.finished == (True,) * 4


def test_generation_that_fails_is_empty_and_counted() -> None:
    with ScriptedServer() as server, connected(server) as model:
        server.faults.extend(
            [replied(chat(None, "cut", "length")), replied(chat(None, "x", "content_filter"))]
        )
        found = model.generate([Prompt("", "Hello")] * 3, max_new_tokens=3)
    assert found.texts == ("cut", "", "Yes")
    assert found.finished == (False, False, True)
    assert found.faults == ("", "request_failed", "")
    assert found.usage.tokens_generated == 3


def test_unreachable_server_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ModelError, match=r"The request to .* failed"):
            OpenAIServerModel.connect(url, "m", retries=0, timeout=1.0)


def test_refused_key_is_reported_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLMREC_API_KEY", "sk-hidden")
    caplog.set_level(logging.DEBUG)
    with ScriptedServer() as server, connected(server) as model:
        sent = server.seen[-1][2]
        assert sent["authorization"] == "Bearer sk-hidden"
        server.always = status(401)
        with pytest.raises(ModelError, match="refuses the key") as refused:
            OpenAIServerModel.connect(server.url, "m", retries=0)
    assert "LLMREC_API_KEY" in refused.value.hint
    assert "sk-hidden" not in caplog.text + repr(model) + str(refused.value)


def test_openais_key_goes_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMREC_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hidden")
    assert api_key("https://api.openai.com/v1") == "sk-hidden"
    for other in (
        "http://api.openai.com/v1",
        "https://openai.com.evil.org",
        "http://localhost:8000",
    ):
        assert api_key(other) == ""
