from __future__ import annotations

import pytest

from llmrec.benchmarking.plan import BenchmarkPlan
from llmrec.errors import OptionError

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def refused(**document: object) -> tuple[str, str]:
    with pytest.raises(OptionError) as caught:
        BenchmarkPlan.of({"index": "index", **document}, "The file")
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("key", "value", "meant"),
    [
        ("models", "SmolLM2", "[SmolLM2]"),
        ("models", None, f"[{MODEL}]"),
        ("models", {"a": 1}, f"[{MODEL}]"),
        ("templates", "pointwise/*, */list", "[pointwise/*, '*/list']"),
        ("strategies", "listwise", "[listwise]"),
        ("strategies", None, "[A, B]"),
        ("history_items", 20, "[20]"),
        ("calibrate", True, "[true]"),
    ],
)
def test_where_a_list_is_wanted_it_is_shown_how_to_write_one(
    key: str, value: object, meant: str
) -> None:
    message, hint = refused(**{key: value})
    assert message == f"The file: {key} is {value!r}: a list is wanted."
    assert hint == f"Write it as {key}: {meant}."


def test_wordings_of_a_template_are_a_list_too() -> None:
    message, hint = refused(variants={"pointwise/plain-list": "own.jinja"})
    assert "variants.pointwise/plain-list is 'own.jinja': a list is wanted" in message
    assert hint == "Write it as pointwise/plain-list: [own.jinja]."


@pytest.mark.parametrize(
    ("wrong", "said", "near"),
    [
        (
            {"protocol": "discriminaton"},
            "protocol is 'discriminaton': allowed is 'discrimination' or 'end-to-end'",
            "Did you mean 'discrimination'?",
        ),
        (
            {"quantizations": ["nf5"]},
            "quantizations has 'nf5': allowed is 'none', 'nf4' or 'int8'",
            "Did you mean 'nf4'?",
        ),
        ({"part": "tset"}, "part is 'tset': allowed is 'test' or 'validation'", "'test'"),
    ],
)
def test_a_value_of_a_few_is_told_all_of_them_and_the_nearest(
    wrong: dict[str, object], said: str, near: str
) -> None:
    message, hint = refused(**wrong)
    assert message == f"The file: {said}."  # and nothing of a list that is too short
    assert near in hint
    assert "Allowed are index" not in hint  # which are keys


@pytest.mark.parametrize("key", ["quantizations", "models", "templates", "shuffles"])
def test_an_empty_list_is_refused_as_one(key: str) -> None:
    message, hint = refused(**{key: []})
    assert message == f"The file: {key} is []: at least one is needed."
    assert "llmrec bench schema" in hint


def test_what_maps_names_is_shown() -> None:
    message, hint = refused(fields=["title"])
    assert "fields is ['title']: names are wanted" in message
    assert hint == "Write it as fields: {short: {description: 0}}."
    assert refused(fields={})[0] == "The file: fields is {}: at least one is needed."


def test_all_that_is_wrong_is_told_at_once() -> None:
    message, hint = refused(usrs=3, protocol="end2end", models="a", history_items=[-1, -2])
    assert "unknown key 'usrs'" in message
    assert "protocol is 'end2end'" in message
    assert "history_items has -1" in message
    assert "at least one" not in message
    assert "Did you mean 'users'" in hint
    assert "'end-to-end'" in hint
    assert "models: [a]" in hint


@pytest.mark.parametrize("strategies", [[["listwise"]], [{"listwise": 1}]], ids=str)
def test_strategies_that_are_no_names_are_refused(strategies: list[object]) -> None:
    assert f"strategies has {strategies[0]!r}: " in refused(strategies=strategies)[0]


def test_an_index_that_is_no_path_or_not_there() -> None:
    assert refused(index=3)[0] == "The file: index is 3: a path is wanted."
    with pytest.raises(OptionError, match="index: Field required") as caught:
        BenchmarkPlan.of({}, "The file")
    assert caught.value.hint == "It begins like index: INDEX."
