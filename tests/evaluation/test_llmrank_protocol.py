"""eval/llmrank_protocol.py on small folders in the form of LLMRank's data sets."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from llmrec.errors import DataError, OptionError

EVAL = Path(__file__).parents[2] / "eval"
if not EVAL.exists():
    pytest.skip("the eval/ scripts are not beside these tests", allow_module_level=True)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EVAL))
    return import_module("llmrank_protocol")


SEQUENCES = {"1": "a b c d", "2": "b c d", "3": "c b a e f", "4": "a b", "5": "a"}
"""Trained on: 1: a b; 2: b c; 3: c b a; 4: a b; 5 nothing. So a 3, b 4, c 2, d e f 0."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole .inter file, its lines in any order: time says which is last."""
    path = tmp_path / "toy"
    path.mkdir()
    rows = [
        f"{user}\t{item}\t5\t{100 + place}"
        for user, items in SEQUENCES.items()
        for place, item in enumerate(items.split())
    ]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (path / "toy.inter").write_text("\n".join([header, *rows[::-1]]) + "\n")
    (path / "toy.random").write_text("3\tb f e c z a\n1\td b e c a\n2\te f a c\n")
    return path


def ranks_of(script: ModuleType, folder: Path, budget: int) -> list[float]:
    known = script.read_interactions(folder)
    lists = script.asked_lists(known, script.read_candidates(folder, "random"), budget)
    scores = script.popularity_scores(known, lists)
    return [float(1 + (np.nan_to_num(row, nan=-1)[:-1] > row[-1]).sum()) for row in scores]


def test_targets_and_popularity_are_those_of_recbole(script: ModuleType, folder: Path) -> None:
    known = script.read_interactions(folder)
    assert known.targets == {"1": "d", "2": "d", "3": "f"}
    assert dict(known.popularity) == {"a": 3, "b": 4, "c": 2}


def test_lists_hold_the_first_candidates_and_the_target(script: ModuleType, folder: Path) -> None:
    known = script.read_interactions(folder)
    lists = script.asked_lists(known, script.read_candidates(folder, "random"), 4)
    assert [(one.user_id, one.item_ids) for one in lists] == [
        ("3", ("b", "e", "c", "f")),
        ("1", ("b", "e", "c", "d")),
        ("2", ("e", "f", "a", "d")),
    ]


def test_popularity_by_hand(script: ModuleType, folder: Path) -> None:
    (folder / "toy.random").write_text("3\tb f c a\n1\tb d c z y\n")
    assert ranks_of(script, folder, 4)[0] == 4
    random, popularity = script.measure(folder, "random", 4, 0)
    # Both targets stand behind every item that was trained on; unknown ids stand behind them.
    assert popularity.values["ndcg@5"].mean == pytest.approx((1 / np.log2(5) + 1 / np.log2(4)) / 2)
    assert popularity.values["ndcg@1"].mean == 0
    assert list(random.values) == ["ndcg@1", "ndcg@5", "ndcg@10", "ndcg@20"]
    assert popularity.contrasts[0].against == "random"


def test_a_folder_split_beforehand_says_the_same(
    script: ModuleType, folder: Path, tmp_path: Path
) -> None:
    whole = script.read_interactions(folder)
    split = tmp_path / "ready"
    split.mkdir()
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user, text in SEQUENCES.items():
        items = text.split()
        samples = [f"{user}\t{' '.join(items[:n])}\t{items[n]}" for n in range(1, len(items))]
        held = min(2, len(samples) - 1)
        for sample, part in zip(samples[::-1], ["test", "valid"][:held], strict=False):
            parts[part].append(sample)
        parts["train"] += samples[: len(samples) - max(held, 0)]
    header = "user_id:token\titem_id_list:token_seq\titem_id:token"
    for part, lines in parts.items():
        (split / f"ready.{part}.inter").write_text("\n".join([header, *lines]) + "\n")
    found = script.read_interactions(split)
    assert found.targets == whole.targets
    assert found.popularity == whole.popularity


def test_random_comes_to_chance(script: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    users, items = range(600), [f"i{n}" for n in range(50)]
    rng = np.random.default_rng(0)
    rows, lines = ["user_id:token\titem_id:token"], []
    for user in users:
        drawn = rng.permutation(items)
        rows += [f"u{user}\t{item}" for item in drawn[:4]]
        lines.append(f"u{user}\t{' '.join(drawn[3:40])}")  # the target is the first of them
    (folder / "many.inter").write_text("\n".join(rows) + "\n")
    (folder / "many.random").write_text("\n".join(lines) + "\n")
    random, popularity = script.measure(folder, "random", 20, 1)
    for row in (random, popularity):  # popularity knows nothing here
        for k in (1, 5, 10, 20):
            chance = (1 / np.log2(np.arange(2, k + 2))).sum() / 20
            value = row.values[f"ndcg@{k}"]
            assert value.low - 0.01 <= chance <= value.high + 0.01


def test_items_nobody_met_are_known_from_the_item_file(script: ModuleType, folder: Path) -> None:
    (folder / "toy.item").write_text("item_id:token\ttitle:token_seq\nz\tA title\n")
    known = script.read_interactions(folder)
    lists = script.asked_lists(known, {"1": ("z", "y", "b")}, 4)
    np.testing.assert_array_equal(script.popularity_scores(known, lists), [[0, np.nan, 4, 0]])


def test_the_command_prints_and_writes_the_table(
    script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "table.md"
    command = ["llmrank_protocol.py", str(folder), "--budget", "4", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    script.main()
    assert "| popularity | 3 | 0.000" in capsys.readouterr().out
    assert out.read_text().startswith("# LLMRank's protocol: toy, random candidates")
    monkeypatch.setattr(sys, "argv", ["llmrank_protocol.py", str(folder)])
    with pytest.raises(SystemExit):
        script.main()
    assert "Ask with --budget 6" in capsys.readouterr().err


def test_folders_of_another_form_are_refused(script: ModuleType, folder: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'random'"):
        script.read_candidates(folder, "randm")
    with pytest.raises(DataError, match="no interaction that is held out"):
        script.asked_lists(script.read_interactions(folder), {"4": ("a", "b")}, 2)
    for wrong in ("1 a b\n", "1\t\n", "1\ta\n1\tb\n"):
        (folder / "toy.bad").write_text(wrong)
        with pytest.raises(DataError, match="line"):
            script.read_candidates(folder, "bad")
    (folder / "toy.inter").write_text("user_id:token\titem_id:token\n1\ta\tb\n")
    with pytest.raises(DataError, match="line 2 has 3 fields for 2 columns"):
        script.read_interactions(folder)
    (folder / "toy.inter").write_text("user:token\titem_id:token\n")
    with pytest.raises(DataError, match="'user_id' is missing"):
        script.read_interactions(folder)
    (folder / "toy.inter").unlink()
    with pytest.raises(DataError, match=r"toy\.inter is not there"):
        script.read_interactions(folder)


def test_what_cannot_be_read_is_told_with_its_line(script: ModuleType, folder: Path) -> None:
    (folder / "toy.latin").write_bytes("1\ta b\n3\tb f é\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"toy\.latin, line 2 holds the byte 0xe9, which is no UTF"):
        script.read_candidates(folder, "latin")
    header = "user_id:token\titem_id:token\ttimestamp:float"
    for wrong in ("x", "", "nan", "inf"):
        (folder / "toy.inter").write_text(f"{header}\n1\ta\t1\n1\tb\t{wrong}\n")
        with pytest.raises(DataError, match=f"line 3 has the timestamp '{wrong}', which is no fin"):
            script.read_interactions(folder)


@pytest.mark.parametrize(("lines", "users"), [("", 0), ("\n\n", 0), ("3\tb f e\n", 1)])
def test_who_is_asked_has_to_be_enough_for_an_interval(
    script: ModuleType, folder: Path, lines: str, users: int
) -> None:
    (folder / "toy.few").write_text(lines)
    with pytest.raises(DataError, match=rf"toy\.few has {users} to ask about; .* two users"):
        script.measure(folder, "few", 3, 0)


def test_no_budget_is_proposed_that_is_then_refused(script: ModuleType, folder: Path) -> None:
    known = script.read_interactions(folder)
    with pytest.raises(DataError, match="User '1' has 0 candidates beside the target") as caught:
        script.asked_lists(known, {"1": ("d",)}, 2)
    assert "--budget" not in caught.value.hint


def test_a_seed_below_zero_is_refused(script: ModuleType, folder: Path) -> None:
    with pytest.raises(OptionError, match="--seed -1: allowed is 0 or more"):
        script.measure(folder, "random", 4, -1)


@pytest.mark.parametrize("budget", [0, 1])
def test_a_list_of_nothing_is_refused(script: ModuleType, folder: Path, budget: int) -> None:
    with pytest.raises(OptionError, match=f"--budget {budget}: a list has 2 candidates or more"):
        script.measure(folder, "random", budget, 0)


def test_the_folder_of_the_table_is_made(
    script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "new" / "table.md"
    words = ["llmrank_protocol.py", str(folder), "--budget", "4", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    assert out.exists()
    words[-1] = str(tmp_path)  # which is a folder
    with pytest.raises(SystemExit):
        script.main()
    told = capsys.readouterr()
    assert f"--out {tmp_path} cannot be written: Is a directory" in told.err
    assert "| popularity |" in told.out  # what was measured is not lost
