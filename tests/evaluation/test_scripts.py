"""Parts of the eval/ scripts that committed results hang on."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from llmrec.benchmarking.results import Result, RunFolder
from llmrec.benchmarking.users import UserList
from llmrec.models import TransformersModel

EVAL = Path(__file__).parents[2] / "eval"
if not EVAL.exists():
    pytest.skip("the eval/ scripts are not beside these tests", allow_module_level=True)

ABOUT: dict[str, object] = {
    "fingerprint": "f",
    "protocol": "discrimination",
    "part": "test",
    "candidates": 2,
    "seed": 0,
}
LISTS = (UserList("u", ("a",), ("a", "b"), (0.5, 0.1), (1.0, 2.0), 4, 1),)
RESULTS = (Result("cell", "u", (0.5, None), seconds=0.5), Result("other", "u", (1.0, 2.0)))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(str(EVAL))
    return import_module(request.param)


def run_folder(path: Path, *results: Result) -> RunFolder:
    folder = RunFolder(path)
    with folder.open(ABOUT, LISTS) as kept:
        kept.add(*results)
    return folder


@pytest.mark.parametrize("script", ["kept_answers"], indirect=True)
def test_kept_answers_begin_a_run_on_another_machine(script: ModuleType, tmp_path: Path) -> None:
    kept, again = tmp_path / "kept.gz", tmp_path / "again.gz"
    script.keep(kept, run_folder(tmp_path / "first", *RESULTS), ABOUT)
    other = RunFolder(tmp_path / "other")
    script.take_up(kept, other, ABOUT, LISTS)
    assert tuple(other.results()) == RESULTS
    assert other.users() == LISTS
    script.keep(again, other, ABOUT)
    assert again.read_bytes() == kept.read_bytes()


@pytest.mark.parametrize("script", ["kept_answers"], indirect=True)
def test_kept_answers_of_other_lists_or_beside_a_run_are_left(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.gz"
    script.keep(kept, run_folder(tmp_path / "first", *RESULTS), ABOUT)
    going_on = run_folder(tmp_path / "second", RESULTS[0])
    script.take_up(kept, going_on, ABOUT, LISTS)
    assert tuple(going_on.results()) == RESULTS[:1]
    for name, value in {**ABOUT, "fingerprint": "g", "seed": 1, "candidates": 3}.items():
        if ABOUT[name] != value:
            other = RunFolder(tmp_path / name)
            script.take_up(kept, other, {**ABOUT, name: value}, LISTS)
            assert not list(other.results())
            assert "other lists" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["ask_ways_again"], indirect=True)
def test_half_a_table_is_not_asked_again(script: ModuleType) -> None:
    script.refuse_half_a_table(300, 30, ["pairwise", "listwise-generated"])
    with pytest.raises(SystemExit, match="listwise-generated stand in the same table"):
        script.refuse_half_a_table(300, 30, ["pairwise"])
    with pytest.raises(SystemExit, match="setwise"):  # 73 lists: setwise is of 30 users too
        script.refuse_half_a_table(73, 30, ["pairwise", "listwise-generated"])


@pytest.mark.parametrize("script", ["ask_ways_again"], indirect=True)
def test_new_tables_take_the_place_of_those_of_as_many_users(script: ModuleType) -> None:
    def row(name: str, users: int, value: float) -> dict[str, Any]:
        return {"name": name, "users": users, "value": value}

    before = {
        "rows": [row("random", 300, 0.1), row("random", 30, 0.2), row("pairwise", 30, 0.3)],
        "faults": {"pairwise": {"order_conflict": 9}, "listwise": {}},
    }
    now = {"rows": [row("random", 30, 0.2), row("pairwise", 30, 0.4)], "faults": {"pairwise": {}}}
    merged = script.merged(before, now)
    assert merged["rows"] == [row("random", 300, 0.1), *now["rows"]]
    assert merged["faults"] == {"pairwise": {}, "listwise": {}}


@pytest.mark.parametrize("script", ["gpu_check"], indirect=True)
def test_the_check_for_a_gpu_runs_small_on_a_cpu(script: ModuleType, smollm2_folder: Path) -> None:
    model = TransformersModel.from_pretrained(str(smollm2_folder), device="cpu")
    found = script.check(model, 2, 1)
    assert found["candidates"] == 2
    assert found["tokens"] == 300 + 2 * 60
    assert found["tokens_a_second"] == pytest.approx(420 / found["seconds"])
    judged = script.verdicts(found, model)
    assert judged["difference to whole prompts"].startswith("PASS")
    worse = script.verdicts({**found, "largest_difference_to_whole_prompts": 0.5}, model)
    assert worse["difference to whole prompts"].startswith("FAIL: 0.5")
    assert {verdict[:4] for verdict in judged.values()} <= {"PASS", "FAIL"}
