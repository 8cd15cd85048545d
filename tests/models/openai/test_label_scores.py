from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from llmrec.errors import ModelError, ModelNotFoundError, OptionError
from llmrec.models import LabelRequest
from llmrec.models.openai import OpenAIServerModel
from llmrec.records import Prompt
from tests.models.openai.scripted_server import (
    USAGE,
    ScriptedServer,
    chat,
    connected,
    serving,
    total,
)

CHAT = Prompt("Answer.", "Does it suit?")
PLAIN = Prompt("", "", "Does it suit? Answer:")
YES_NO = ("Yes", "No")


@pytest.mark.parametrize("prompt", [CHAT, PLAIN], ids=["chat", "plain"])
def test_listed_spellings_of_a_label_are_summed(prompt: Prompt) -> None:
    with serving() as (_, model):
        found = model.label_log_probs([LabelRequest(prompt, YES_NO)])
    assert found.values[0] == pytest.approx([total(-0.5, -2.0), -1.5])
    assert found.floored == (0,)
    assert found.faults == ("",)
    assert found.tokens == (11,)
    assert (found.usage.tokens_given, found.usage.tokens_forwarded) == (11, 7)
    assert (found.usage.tokens_generated, found.usage.forwards) == (1, 1)


def test_a_letter_counts_as_it_is_written_alone() -> None:
    with serving(listed={"A": -1.0, " A": -2.0, "a": -0.9, "B": -3.0, "Bee": -3.5}) as (_, model):
        found = model.label_log_probs([LabelRequest(CHAT, ("A", "B"))])
    assert found.values[0] == pytest.approx([total(-1.0, -2.0), -3.0])


@pytest.mark.parametrize(
    ("listed", "bound"),
    [
        ({"A": -2.0, "x": -2.5}, -2.5),  # much is left: the lowest listed bounds what is not
        ({"A": math.log(0.9), "x": math.log(0.09)}, math.log(0.01)),  # little is left: that does
    ],
)
def test_unlisted_label_gets_an_upper_bound(listed: dict[str, float], bound: float) -> None:
    with serving(listed=listed) as (_, model):
        found = model.label_log_probs([LabelRequest(CHAT, ("A", "B", "C"))])
    assert found.values[0] == pytest.approx([listed["A"], bound, bound])
    assert found.floored == (2,)


def test_an_answer_that_begins_with_no_label_is_unknown_and_counted() -> None:
    with serving() as (server, model):
        server.faults.append(lambda _: chat({"Hm": -0.1, "Well": -3.0}))
        found = model.label_log_probs([LabelRequest(CHAT, YES_NO)])
    assert np.isnan(found.values[0]).all()
    assert found.faults == ("no_label_returned",)
    assert found.floored == (0,)


def test_placeholder_log_probabilities_are_not_scores() -> None:
    with serving(listed={"Yes": -0.5, "Maybe": -3.0, "No": -9999.0}) as (_, model):
        found = model.label_log_probs([LabelRequest(CHAT, YES_NO)])
    assert found.values[0][1] == pytest.approx(-3.0)
    assert found.floored == (1,)


def test_capabilities_are_found_once_and_used() -> None:
    with serving(
        takes_template_options=False, takes_system=False, limit="max_tokens", most_listed=5
    ) as (server, model):
        n_probes = len(server.seen)
        model.label_log_probs([LabelRequest(CHAT, YES_NO)])
        model.label_log_probs([LabelRequest(CHAT, YES_NO)])
    able = model.capabilities
    assert (able.chat, able.completions, able.chat_listed, able.text_listed) == (True, True, 5, 5)
    assert not able.template_options
    assert (able.guide, able.echo, able.label_tokens) == ("", None, False)
    sent = [body for _, body, _ in server.seen[n_probes:]]
    assert len(sent) == 2
    assert sent[0]["top_logprobs"] == 5
    assert [turn["role"] for turn in sent[0]["messages"]] == ["user"]
    assert sent[0]["messages"][0]["content"] == "Answer.\n\nDoes it suit?"
    assert (model.max_length, model.revision) == (99, "m@fp1")


def test_a_server_may_call_the_limit_otherwise() -> None:
    with serving(limit="max_completion_tokens", takes_template_options=False) as (server, model):
        model.label_log_probs([LabelRequest(CHAT, YES_NO)])
    assert server.seen[-1][1]["max_completion_tokens"] == 1
    assert "max_tokens" not in server.seen[-1][1]


def test_a_base_models_server_reads_paragraphs() -> None:
    with serving(serves_chat=False) as (server, model):
        model.label_log_probs([LabelRequest(CHAT, YES_NO)])
    assert server.seen[-1][1]["prompt"] == "Answer.\n\nDoes it suit?\n\n"


def test_a_server_without_log_probabilities_is_named() -> None:
    with (
        serving(listed={}) as (_, model),
        pytest.raises(ModelError, match=r"no log-probabilities for chats.*listwise"),
    ):
        model.label_log_probs([LabelRequest(CHAT, YES_NO)])


def test_a_chat_server_refuses_plain_text() -> None:
    with (
        serving(serves_text=False) as (_, model),
        pytest.raises(ModelError, match="takes chats, not plain text"),
    ):
        model.generate([PLAIN], max_new_tokens=3)


def test_a_model_that_is_named_and_answers_nothing() -> None:
    with (
        ScriptedServer(serves_chat=False, serves_text=False) as server,
        pytest.raises(ModelError, match="lists 'm' but gives no valid answer"),
    ):
        OpenAIServerModel.connect(server.url, "m")


def test_a_model_that_is_not_there() -> None:
    with (
        ScriptedServer() as server,
        pytest.raises(ModelNotFoundError, match=r"does not serve 'n'; it names m\."),
    ):
        OpenAIServerModel.connect(server.url, "n")


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"timeout": 0.0}, {"retries": -1}, {"max_length": 0}]
)
def test_numbers_are_checked(options: dict[str, int]) -> None:
    name = next(iter(options))
    with pytest.raises(OptionError, match=name):
        OpenAIServerModel.connect("http://127.0.0.1:9/v1", "m", **options)  # type: ignore[arg-type]


@dataclass
class CountingServer(ScriptedServer):
    """Counts the characters of the turns that its chat template writes."""

    drops_system: bool = False

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = super().answer(path, body)
        written = [
            turn["content"]
            for turn in body.get("messages", ())
            if not (self.drops_system and turn["role"] == "system")
        ]
        return reply | {"usage": USAGE | {"prompt_tokens": len("".join(written))}}


@pytest.mark.parametrize("drops", [True, False])
def test_a_dropped_system_turn_goes_into_the_turn_of_the_user(drops: bool) -> None:
    with CountingServer(drops_system=drops) as server, connected(server) as model:
        server.seen.clear()
        model.label_log_probs([LabelRequest(Prompt("The task.", "Heat?"), ("Yes", "No"))])
        roles = [turn["role"] for turn in server.seen[-1][1]["messages"]]
        assert roles == (["user"] if drops else ["system", "user"])
        assert "The task." in server.seen[-1][1]["messages"][0]["content"]
