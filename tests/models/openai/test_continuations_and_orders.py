from __future__ import annotations

import numpy as np
import pytest

from llmrec.errors import ModelError
from llmrec.models import ContinuationRequest
from llmrec.records import Prompt
from tests.models.openai.scripted_server import (
    completion,
    replied,
    serving,
    words,
)

PLAIN = Prompt("", "", "They chose: ")


def test_the_echo_of_a_title_is_read() -> None:
    with serving(tokens_of=words) as (server, model):
        found = model.continuation_log_probs(
            [ContinuationRequest(PLAIN, "Blue Velvet"), ContinuationRequest(PLAIN, "Up")]
        )
    assert model.capabilities.echo == 0
    assert [value.tolist() for value in found.values] == [[-5.0, -7.0], [-3.0]]
    assert server.seen[-1][1]["prompt"].startswith("They chose: ")
    assert found.tokens == (11, 11)


def test_a_token_before_the_text_and_one_after_it_do_not_count() -> None:
    echo = {
        "tokens": ["<s>", "They", " chose:", " Up", "."],
        "token_logprobs": [None, -9, -8, -2, -7],
    }
    with serving(tokens_of=words) as (server, model):
        server.faults.append(replied(completion(".", echo)))
        found = model.continuation_log_probs([ContinuationRequest(PLAIN, "Up")])
    assert found.values[0].tolist() == [-2.0]


@pytest.mark.parametrize(
    "columns",
    [
        None,
        {"tokens": ["Up"], "token_logprobs": [-1.0]},
        {"tokens": ["They chose: U", "p"], "token_logprobs": [None, -1.0]},
        {"tokens": ["They", " chose:", " Up"], "token_logprobs": [None, -1.0]},
        {"tokens": ["They", " chose:", " Up"], "token_logprobs": [None, -1.0, None]},
    ],
    ids=["nothing", "no echo", "across", "too few", "unknown"],
)
def test_a_wrong_echo_is_a_failure(columns: dict[str, object] | None) -> None:
    request = ContinuationRequest(PLAIN, "Up")
    with serving(tokens_of=words) as (server, model):
        server.faults.append(replied(completion("", columns)))
        found = model.continuation_log_probs([request, request])
    assert np.isnan(found.values[0]).all()
    assert np.isfinite(found.values[1]).all()
    assert found.faults == ("request_failed", "")


def test_unsupported_requests_name_the_way_out() -> None:
    with (
        serving() as (_, model),
        pytest.raises(ModelError, match=r"likelihood strategy needs.*pointwise"),
    ):
        model.continuation_log_probs([ContinuationRequest(PLAIN, "Up")])
    with (
        serving(tokens_of=words) as (_, model),
        pytest.raises(ModelError, match="not what follows a chat"),
    ):
        model.continuation_log_probs([ContinuationRequest(Prompt("", "Hello"), "Up")])


@pytest.mark.parametrize(
    ("field", "guide"),
    [
        ("structured_outputs", "structured_outputs"),
        ("guided_regex", "guided_regex"),
        ("grammar", "grammar"),
        ("response_format", "json_schema"),
        ("", ""),
    ],
)
def test_orders_are_held_to_their_form_where_the_server_can(field: str, guide: str) -> None:
    with serving(guide=field) as (server, model):
        found = model.generate(
            [Prompt("", "Order them."), Prompt("", "Hello")],
            max_new_tokens=20,
            orders_of=[("A", "B", "C"), ()],
        )
    assert model.capabilities.guide == guide
    assert found.texts == ("[C] > [A] > [B]" if field else "Yes", "Yes")
    held, free = (body for _, body, _ in server.seen[-2:])
    assert not field or field in held
    assert not field or field not in free


def test_sampling_is_seeded_and_greedy_is_not() -> None:
    with serving() as (server, model):
        model.generate([Prompt("", "Hello")], max_new_tokens=3, temperature=0.7, seed=5)
        model.generate([Prompt("", "Hello")], max_new_tokens=3)
        assert model.generate([], max_new_tokens=3).texts == ()
    warm, cold = (body for _, body, _ in server.seen[-2:])
    assert (warm["temperature"], warm["seed"]) == (0.7, 5)
    assert cold["temperature"] == 0.0
    assert "seed" not in cold
