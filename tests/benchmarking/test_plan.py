from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmrec.benchmarking.plan import BenchmarkPlan, plan_schema, strategies_for
from llmrec.errors import OptionError
from llmrec.prompting.template import template_names


def refused(**document: object) -> OptionError:
    with pytest.raises(OptionError) as caught:
        BenchmarkPlan.of({"index": "index", **document}, "The file")
    return caught.value


def test_every_key_but_the_index_has_a_default() -> None:
    plan = BenchmarkPlan.of({"index": "index"}, "The file")
    assert plan.index == Path("index")
    assert (plan.protocol, plan.n_candidates, plan.seed) == ("discrimination", 20, 0)
    assert plan.users is None
    with pytest.raises(OptionError, match="The file: index or requests is required"):
        BenchmarkPlan.of({}, "The file")


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("user", "users"), ("templetes", "templates"), ("shufles", "shuffles"), ("place", "places")],
)
def test_a_typo_is_an_error_with_the_nearest_key(typo: str, meant: str) -> None:
    error = refused(**{typo: 1})
    assert f"unknown key {typo!r}" in error.message
    assert f"Did you mean '{meant}'" in error.hint


def test_unknown_key_lists_the_allowed_keys() -> None:
    error = refused(zzz=1, users=0)
    assert "unknown key 'zzz'" in error.message
    assert "users is 0: Input should be greater than or equal to 1" in error.message  # all at once
    assert "index" in error.hint
    assert "race" in error.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"protocol": "discriminate"},
        {"users": 0},
        {"users": "many"},
        {"n_candidates": 1},
        {"templates": []},
        {"templates": {"a": 1}},
        {"models": []},
        {"quantizations": ["int4"]},
        {"history_items": [-1]},
        {"fields": {}},
        {"fields": {"short": {"title": -1}}},
        {"calibrate": []},
        {"shuffles": [-2]},
        {"places": [0]},
        {"place_users": 0},
    ],
    ids=str,
)
def test_a_value_that_is_not_allowed_is_named_with_its_key(wrong: dict[str, object]) -> None:
    assert next(iter(wrong)) in refused(**wrong).message


def test_a_target_cannot_be_planted_behind_the_list() -> None:
    assert "places [6]: a list has 5 candidates" in refused(n_candidates=5, places=[1, 6]).message


def test_patterns_are_filled_in_and_each_template_comes_once() -> None:
    plan = BenchmarkPlan.of(
        {
            "index": "i",
            "templates": ["pointwise/*", "*/details", "my/own.jinja", "pointwise/opinion"],
        },
        "The file",
    )
    names = plan.named_templates()
    assert len(set(names)) == len(names)
    assert set(template_names("pointwise")) < set(names)
    assert "listwise/details" in names
    assert "my/own.jinja" in names
    assert not any(name.startswith("explain/") for name in names)
    everything = BenchmarkPlan.of({"index": "i", "templates": ["*"]}, "x").named_templates()
    assert set(everything) == set(template_names()) - set(template_names("explain"))


def test_unmatched_pattern_names_the_nearest_template() -> None:
    plan = BenchmarkPlan.of({"index": "i", "templates": ["pointwise/plain-lst"]}, "The file")
    with pytest.raises(OptionError, match="No template matches 'pointwise/plain-lst'") as caught:
        plan.named_templates()
    assert "Did you mean 'pointwise/plain-list'" in caught.value.hint


def test_a_folder_is_asked_as_its_strategy_and_listwise_as_a_tournament_too() -> None:
    assert strategies_for("listwise") == ("listwise",)
    assert strategies_for("listwise", ["listwise", "tournament"]) == ("listwise", "tournament")
    assert strategies_for("listwise", ["tournament", "pointwise"]) == ("tournament",)
    with pytest.raises(OptionError, match="tournament cannot use a pointwise template"):
        strategies_for("pointwise", ["tournament"])
    with pytest.raises(OptionError, match="No strategy uses templates of a folder 'explain'"):
        strategies_for("explain")


def written(folder: Path, text: str) -> Path:
    path = folder / "bench.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_in_a_file_count_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    file = """
index: index
templates: [pointwise/plain-list, pointwise/mine.jinja, /elsewhere/pointwise/a.jinja]
models: [weights, SmolLM2-135M-Instruct, openai:http://localhost:1/v1#m]
variants: {pointwise/mine.jinja: [pointwise/other.jinja, pointwise/details]}
"""
    plan = BenchmarkPlan.from_file(written(tmp_path, file))
    mine = str(tmp_path / "pointwise/mine.jinja")
    assert plan.index == tmp_path / "index"
    assert plan.templates == ("pointwise/plain-list", mine, "/elsewhere/pointwise/a.jinja")
    assert plan.models == (
        str(tmp_path / "weights"),
        "SmolLM2-135M-Instruct",
        "openai:http://localhost:1/v1#m",
    )
    assert plan.variants == {mine: (str(tmp_path / "pointwise/other.jinja"), "pointwise/details")}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "has no keys"),
        ("- index\n", "has no keys"),
        ("index: [\n", "cannot be read"),
        ("index: a\nusrs: 3\n", "unknown key 'usrs'"),
    ],
)
def test_missing_benchmark_file_is_named(tmp_path: Path, text: str, part: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(OptionError, match=part) as caught:
        BenchmarkPlan.from_file(path)
    assert str(path) in caught.value.message


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        BenchmarkPlan.from_file(tmp_path / "absent.yaml")
    (tmp_path / "bench.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="cannot be read"):
        BenchmarkPlan.from_file(tmp_path / "bench.yaml")


def test_plan_in_run_json_can_be_read_again(tmp_path: Path) -> None:
    file = "index: index\nfields: {short: {title: 5}}\nplaces: [1, 20]\ncalibrate: [false, true]\n"
    plan = BenchmarkPlan.from_file(written(tmp_path, file))
    kept = json.loads(json.dumps(plan.model_dump(mode="json")))
    assert BenchmarkPlan.of(kept, "run.json") == plan


def test_the_schema_is_one_and_knows_every_key() -> None:
    schema: dict[str, Any] = json.loads(plan_schema())
    assert set(schema["properties"]) == set(BenchmarkPlan.model_fields)
    assert "required" not in schema
    assert schema["additionalProperties"] is False
    assert "end-to-end" in schema["properties"]["protocol"]["enum"]
    assert schema["properties"]["users"]["anyOf"][0]["minimum"] == 1
    assert schema["properties"]["templates"]["minItems"] == 1


def test_duplicate_key_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text("index: a\nusers: 3\nusers: 4\n")
    with pytest.raises(OptionError, match=r"duplicate key 'users'[\s\S]*line 3"):
        BenchmarkPlan.from_file(path)
    path.write_text("index: a\nfields: {x: {review: 3}, x: {}}\n")
    with pytest.raises(OptionError, match="duplicate key 'x'"):
        BenchmarkPlan.from_file(path)


def test_schema_describes_each_key() -> None:
    properties = json.loads(plan_schema())["properties"]
    assert len(properties) > 15
    assert all(len(about["description"]) > 10 for about in properties.values())


def test_the_value_that_is_not_allowed_is_named() -> None:
    with pytest.raises(OptionError, match="users is 0: Input should be greater than"):
        BenchmarkPlan.of({"index": "a", "users": 0}, "The file")


def test_a_mapping_that_is_merged_twice_is_no_key_twice(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text(
        "index: a\nfields:\n  x: &x {review: 3}\n  y: &y {<<: *x, description: 1}\n"
        "  z: {<<: *y, taste: 2}\n"
    )
    fields = BenchmarkPlan.from_file(path).fields
    assert fields["z"] == {"review": 3, "description": 1, "taste": 2}
    path.write_text("!!map [a]\n")
    with pytest.raises(OptionError, match="cannot be read"):
        BenchmarkPlan.from_file(path)


def test_strategies_bring_their_templates_where_none_are_named() -> None:
    plan = BenchmarkPlan.of({"index": "INDEX", "strategies": ["tournament", "pairwise"]}, "x")
    assert plan.templates == ("listwise/*", "pairwise/*")
    named = {"index": "INDEX", "strategies": ["tournament"], "templates": ["listwise/details"]}
    assert BenchmarkPlan.of(named, "x").templates == ("listwise/details",)
    assert BenchmarkPlan.of({"index": "INDEX"}, "x").templates == ("likelihood/*", "pointwise/*")


def test_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"unknown strategy 'listwize'.*'listwise'"):
        BenchmarkPlan.of({"index": "INDEX", "strategies": ["listwize"]}, "The options")


@pytest.mark.parametrize(
    ("key", "value", "listed"),
    [
        ("models", "SmolLM2", ("SmolLM2",)),
        ("templates", "likelihood/*", ("likelihood/*",)),
        ("strategies", "listwise", ("listwise",)),
        ("history_items", 5, (5,)),
        ("calibrate", True, (True,)),
    ],
)
def test_one_value_is_a_list_of_one(key: str, value: object, listed: tuple[object, ...]) -> None:
    assert getattr(BenchmarkPlan.of({"index": "index", key: value}, "x"), key) == listed


@pytest.mark.parametrize(
    ("wrong", "allowed", "near"),
    [
        ({"protocol": "discriminaton"}, "'discrimination', 'end-to-end'", "'discrimination'"),
        ({"quantizations": ["nf5"]}, "'none', 'nf4' or 'int8'", "'nf4'"),
        ({"part": "tset"}, "'test' or 'validation'", "'test'"),
    ],
)
def test_invalid_value_names_the_allowed_ones(
    wrong: dict[str, object], allowed: str, near: str
) -> None:
    error = refused(**wrong)
    assert allowed in error.message
    assert f"Did you mean {near}" in error.hint


def test_requests_need_no_index_and_have_a_protocol_of_their_own() -> None:
    plan = BenchmarkPlan.of({"requests": "labelled.jsonl", "places": [30]}, "x")
    assert (plan.index, plan.protocol) == (None, "labelled")
    with pytest.raises(OptionError, match="'labelled' is that of requests alone"):
        BenchmarkPlan.of({"index": "index", "protocol": "labelled"}, "x")
    with pytest.raises(OptionError, match="'labelled' is that of requests alone"):
        BenchmarkPlan.of({"requests": "a", "protocol": "end-to-end"}, "x")
