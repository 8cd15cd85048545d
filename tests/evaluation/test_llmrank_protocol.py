"""eval/llmrank_protocol.py on small folders in the form of LLMRank's data sets."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from llmrec.errors import DataError, OptionError

EVAL = Path(__file__).parents[2] / "eval"
if not EVAL.exists():
    pytest.skip("the eval/ scripts are not beside these tests", allow_module_level=True)

SEQUENCES = {"1": "a b c d", "2": "b c d", "3": "c b a e f", "4": "a b", "5": "a"}
"""Trained on: 1: a b; 2: b c; 3: c b a; 4: a b; 5 nothing. So a 3, b 4, c 2, d e f 0."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EVAL))
    return import_module("llmrank_protocol")


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


def test_targets_popularity_and_lists_are_those_of_recbole(
    script: ModuleType, folder: Path
) -> None:
    known = script.read_interactions(folder)
    assert known.targets == {"1": "d", "2": "d", "3": "f"}
    assert dict(known.popularity) == {"a": 3, "b": 4, "c": 2}
    lists = script.candidate_lists(known, script.read_candidates(folder, "random"), 4)
    assert lists == [["b", "e", "c", "f"], ["b", "e", "c", "d"], ["e", "f", "a", "d"]]
    (folder / "toy.item").write_text("item_id:token\ttitle:token_seq\nz\tA title\n")
    known = script.read_interactions(folder)
    scores = script.popularity_scores(known, [["z", "y", "b"]])
    np.testing.assert_array_equal(scores, [[0, np.nan, 4]])


def test_popularity_by_hand(script: ModuleType, folder: Path) -> None:
    (folder / "toy.random").write_text("3\tb f c a\n1\tb d c z y\n")
    random, popularity = script.measure(folder, "random", 4, 0)
    # Both targets rank behind every item that was trained on, unknown ids behind them.
    assert popularity.values["ndcg@5"].mean == pytest.approx((1 / np.log2(5) + 1 / np.log2(4)) / 2)
    assert popularity.values["ndcg@1"].mean == 0
    assert list(random.values) == ["ndcg@1", "ndcg@5", "ndcg@10", "ndcg@20"]
    assert popularity.contrasts[0].against == "random"


def test_a_folder_split_beforehand_gives_the_same(
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


def test_random_has_its_expected_value(script: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows, lines = ["user_id:token\titem_id:token"], []
    for user in range(600):
        drawn = rng.permutation([f"i{n}" for n in range(50)])
        rows += [f"u{user}\t{item}" for item in drawn[:4]]
        lines.append(f"u{user}\t{' '.join(drawn[3:40])}")  # the target is the first of them
    (folder / "many.inter").write_text("\n".join(rows) + "\n")
    (folder / "many.random").write_text("\n".join(lines) + "\n")
    for row in script.measure(folder, "random", 20, 1):  # popularity knows nothing here
        for k in (1, 5, 10, 20):
            chance = (1 / np.log2(np.arange(2, k + 2))).sum() / 20
            value = row.values[f"ndcg@{k}"]
            assert value.low - 0.01 <= chance <= value.high + 0.01


def test_the_command_prints_and_writes_the_table(
    script: ModuleType, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "table.md"
    script.main([str(folder), "--budget", "4", "--out", str(out)])
    assert "| popularity | 3 | 0.000" in capsys.readouterr().out
    assert out.read_text().startswith("# LLMRank's protocol: toy, random candidates")
    with pytest.raises(SystemExit):
        script.main([str(folder)])
    assert "Use --budget 6" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("random", "1 a b\n", "line 1"),
        ("random", "1\ta\n1\tb\n", "line 2"),
        ("random", "3\tb f e\n", "has 1 users"),
        ("random", "4\ta b\n3\ta b\n", "no interaction that is held out"),
        ("inter", "user_id:token\titem_id:token\n1\ta\tb\n", "line 2 has 3 fields for 2 columns"),
        ("inter", "user:token\titem_id:token\n", "'user_id' is missing"),
        ("inter", "user_id:t\titem_id:t\ttimestamp:f\n1\ta\tnan\n", "line 2: timestamp 'nan'"),
        ("inter", b"user_id:t\titem_id:t\n1\t\xe9\n", "cannot be read"),
    ],
)
def test_a_broken_file_is_refused(
    script: ModuleType, folder: Path, name: str, text: str | bytes, message: str
) -> None:
    (folder / f"toy.{name}").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        script.measure(folder, "random", 2, 0)


def test_wrong_options_are_refused(script: ModuleType, folder: Path) -> None:
    with pytest.raises(DataError, match="Did you mean 'random'"):
        script.measure(folder, "randm", 4, 0)
    for budget, seed in ((1, 0), (4, -1)):
        with pytest.raises(OptionError, match=f"--budget {budget}, --seed {seed}"):
            script.measure(folder, "random", budget, seed)
