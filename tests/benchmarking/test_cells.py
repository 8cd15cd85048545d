from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.benchmarking.cells import Cell, cells_of, named
from llmrec.benchmarking.plan import BenchmarkPlan
from llmrec.errors import OptionError, PromptError, StorageError
from tests.benchmarking.faked import BLIND, GOOD, template

CELL = Cell(
    "likelihood/titles", "sha", "likelihood", "model", "revision", "none", "all", {"title": 32}
)


def cells(*templates: str, **settings: object) -> tuple[Cell, ...]:
    document = {"index": "i", "templates": list(templates), **settings}
    plan = BenchmarkPlan.of(document, "The test")
    models = [(m, q) for m in plan.models for q in plan.quantizations]
    return named(cells_of(plan), {of: "@".join(of) for of in models})


@pytest.mark.parametrize(
    "other",
    [
        {"template_sha256": "another"},
        {"strategy": "pointwise"},
        {"model": "another"},
        {"revision": "another"},
        {"quantization": "nf4"},
        {"budget": {"title": 31}},
        {"budget": {"title": 32, "history_items": 5}},
        {"calibrate": True},
        {"shuffles": 2},
        {"seed": 1},
    ],
    ids=str,
)
def test_settings_that_change_answers_change_the_key(other: dict[str, object]) -> None:
    assert replace(CELL, **other).key != CELL.key  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["template", "fields", "variant_of", "name"])
def test_name_does_not_change_the_key(name: str) -> None:
    assert replace(CELL, **{name: "another"}).key == CELL.key  # type: ignore[arg-type]


def test_scores_of_an_older_version_are_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = replace(CELL).key
    monkeypatch.setattr("llmrec.benchmarking.cells.SCORING_VERSION", 1)
    assert before != replace(CELL).key


def test_the_key_of_a_cell_is_the_same_on_every_machine() -> None:
    assert CELL.key == "c541a7180bec0f0b"


def test_the_text_of_a_template_is_its_identity_and_not_its_path(tmp_path: Path) -> None:
    one, same = template(tmp_path / "a", "x", GOOD), template(tmp_path / "b", "y", GOOD)
    other = template(tmp_path / "c", "x", BLIND)
    made = cells(one, same, other)
    assert [cell.template for cell in made] == [one, other]
    before = made[0].key
    template(tmp_path / "a", "x", GOOD + " ")
    assert cells(one)[0].key != before


def test_the_cells_are_the_product_of_the_lists() -> None:
    made = cells(
        "listwise/plain-list",
        models=["a", "b"],
        quantizations=["none", "nf4"],
        history_items=[5, 10],
        fields={"all": {}, "titles": {"description": 0}},
        calibrate=[True],
        shuffles=[3],
        strategies=["listwise", "tournament"],
    )
    assert len(made) == len({cell.key for cell in made}) == 2 * 2 * 2 * 2 * 2
    models = [(cell.model, cell.quantization) for cell in made]
    assert models == sorted(models, key=models.index)  # one model after the other
    assert {cell.revision for cell in made} == {"a@none", "a@nf4", "b@none", "b@nf4"}
    assert {cell.budget["description"] for cell in made} == {0, 48}
    assert {cell.budget["history_items"] for cell in made} == {5, 10}
    names = {cell.name for cell in made}
    assert len(names) == len(made)
    how = "calibrated, 3 shuffles"
    assert f"listwise/plain-list, tournament, all, a, none, history 5, {how}" in names
    assert f"listwise/plain-list, titles, b, nf4, history 10, {how}" in names


def test_cells_that_would_ask_the_same_are_one() -> None:
    both = {"calibrate": [False, True], "shuffles": [0, 3]}
    assert len(cells("likelihood/titles", "likelihood/titles", **both)) == 1
    assert len(cells("pointwise/plain-list", **both)) == 2  # with calibration and without
    assert len(cells("listwise-generated/plain-list", **both)) == 2  # shuffled and not
    assert len(cells("listwise/plain-list", **both)) == 4
    alike = {"one": {"title": 32}, "other": {}}
    assert [cell.fields for cell in cells("likelihood/titles", fields=alike)] == ["one"]


def test_row_name_has_the_settings_that_differ(tmp_path: Path) -> None:
    mine = template(tmp_path, "mine", GOOD)
    made = cells("likelihood/titles", mine)
    assert [cell.name for cell in made] == ["likelihood/titles", mine]


def test_paraphrases_follow_their_template(tmp_path: Path) -> None:
    other = template(tmp_path, "other", BLIND)
    made = cells("likelihood/titles", "likelihood/list", variants={"likelihood/titles": [other]})
    assert [(cell.template, cell.variant_of) for cell in made] == [
        ("likelihood/titles", ""),
        (other, "likelihood/titles"),
        ("likelihood/list", ""),
    ]
    made = cells(other, "likelihood/titles", variants={"likelihood/titles": [other]})
    assert [(cell.template, cell.variant_of) for cell in made] == [
        (other, "likelihood/titles"),
        ("likelihood/titles", ""),
    ]
    with pytest.raises(OptionError, match="likelihood/titel is not among the templates") as caught:
        cells("likelihood/titles", variants={"likelihood/titel": [other]})
    assert "likelihood/titles" in caught.value.hint


def test_fields_of_prompts_are_known_by_name() -> None:
    with pytest.raises(OptionError, match="short: unknown field 'titel'") as caught:
        cells("likelihood/titles", fields={"short": {"titel": 3}})
    assert "Did you mean 'title'" in caught.value.hint
    with pytest.raises(OptionError, match="unknown field 'history_items'") as caught:
        cells("likelihood/titles", fields={"short": {"history_items": 3}})
    assert "history_items" not in caught.value.hint


def test_invalid_cells_fail_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no template file"):
        cells(str(tmp_path / "likelihood" / "absent.jinja"))
    with pytest.raises(OptionError, match="No strategy uses"):
        cells(template(tmp_path, "mine", GOOD, "my-folder"))
    with pytest.raises(PromptError, match="unknown variable"):
        cells(template(tmp_path, "broken", "{{ usr }}"))


def test_a_template_that_changes_under_a_run_stops_it(tmp_path: Path) -> None:
    name = template(tmp_path, "mine", GOOD)
    (cell,) = cells(name)
    strategy, budget = cell.make()
    assert strategy.name == "likelihood"
    assert budget.history_items == 20
    template(tmp_path, "mine", BLIND)
    with pytest.raises(StorageError, match="has been changed while the benchmark ran"):
        cell.make()


def test_settings_reach_the_strategy() -> None:
    (cell,) = cells("listwise/plain-list", calibrate=[True], shuffles=[3], seed=5)
    strategy, _ = cell.make()
    assert "shuffled" in strategy.key
    assert "calibrated" in strategy.key
