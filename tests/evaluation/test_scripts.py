"""Every script of eval/ runs on made-up data, so that it cannot rot."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoConfig, AutoModelForCausalLM

from llmrec.benchmarking import BenchmarkPlan
from llmrec.models import ScoredSequence
from llmrec.models.prefix_tree import PrefixTree
from llmrec.models.tree_attention import TreeAttention, tree_attention

EVAL = Path(__file__).parents[2] / "eval"
if not EVAL.exists():
    pytest.skip("the eval/ scripts are not beside these tests", allow_module_level=True)

KINDS = ("train", "boat", "bread")
Script = Callable[[str], ModuleType]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """A script of eval/ by name."""
    monkeypatch.syspath_prepend(str(EVAL))
    return import_module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 items of three kinds, 18 users who each met seven of one kind, some reviews."""
    folder = tmp_path_factory.mktemp("data") / "shop"
    folder.mkdir()
    items = [
        {"item_id": f"i{n}", "title": f"{KINDS[n % 3]} {n}", "description": f"A {KINDS[n % 3]}."}
        for n in range(36)
    ]
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    rng = np.random.default_rng(0)
    rows = ["user_id,item_id,rating,timestamp"]
    for user in range(18):
        met = 3 * rng.permutation(12)[:7] + user % 3
        rows += [f"u{user},i{item},{3 + at % 3},{1000 + at}" for at, item in enumerate(met)]
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n")
    reviews = [
        {"item_id": f"i{n}", "text": f"A good {KINDS[n % 3]}, well made.", "rating": 1 + n % 5}
        for n in range(0, 36, 2)
    ]
    (folder / "reviews.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in reviews))
    return folder


@pytest.fixture(scope="module")
def model(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A language model with SmolLM2's tokenizer and few random weights."""
    folder = tmp_path_factory.mktemp("model")
    for path in smollm2_folder.iterdir():
        if path.suffix in {".json", ".jinja", ".txt"}:
            shutil.copy(path, folder)
    config = AutoConfig.from_pretrained(smollm2_folder)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config.update({**small, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8})
    config.layer_types = None
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return str(folder)


def rows_of(path: Path) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]}


def test_full_ranking_compares_the_hybrid_with_its_parts_and_peers(
    script: Script, data: Path, tmp_path: Path
) -> None:
    options = ["--epochs", "2", "--kept", str(tmp_path / "kept"), "--out", str(tmp_path)]
    script("full_ranking").main([str(data), *options])
    rows = rows_of(tmp_path / "full_ranking_shop.json")
    assert {"hybrid", "hybrid without sequence", "sequence alone", "popularity alone"} < rows.keys()
    assert {"item-kNN", "EASE", "SASRec"} < rows.keys()
    script("full_ranking").main([str(data), "--new-items", *options])
    rows = rows_of(tmp_path / "full_ranking_shop_new_items.json")
    assert {"hybrid", "content alone", "sequence alone"} < rows.keys()
    assert not {"item-kNN", "EASE", "SASRec"} & rows.keys()


@pytest.mark.parametrize("new_items", [False, True])
def test_joint_compares_modalities_and_resumes(
    script: Script, data: Path, tmp_path: Path, *, new_items: bool
) -> None:
    options = [str(data), "--seeds", "1", "--epochs", "1", "--kept", str(tmp_path / "kept.jsonl")]
    options += ["--out", str(tmp_path), *(["--new-items"] if new_items else [])]
    script("joint").main(options)
    name = "joint_shop_new_items" if new_items else "joint_shop"
    first = (tmp_path / f"{name}.md").read_bytes()
    rows = rows_of(tmp_path / f"{name}.json")
    assert {"untrained, text", "fusion, reviews", "fusion, all"} <= rows.keys()
    kept = (tmp_path / "kept.jsonl").read_bytes()
    script("joint").main(options)
    assert (tmp_path / f"{name}.md").read_bytes() == first
    assert (tmp_path / "kept.jsonl").read_bytes() == kept


def test_ablation_takes_out_every_part(script: Script, data: Path, tmp_path: Path) -> None:
    options = ["--seeds", "1", "--epochs", "1", "--users", "30"]
    options += ["--kept", str(tmp_path / "kept.jsonl"), "--out", str(tmp_path)]
    script("ablate_fusion").main([str(data), *options])
    rows = rows_of(tmp_path / "ablate_fusion_shop.json")
    assert {"classic head", "EASE, recent", "default", "HSTU's layers", "no times"} <= rows.keys()
    assert "no profiles" not in rows  # there are none
    lines = (tmp_path / "kept.jsonl").read_text().splitlines()
    different = {str(json.loads(line)["ranks"]) for line in lines}
    assert len(different) > len(lines) / 2  # each is a fusion of its own


def test_classic_baseline_learns_user_item_pairs(script: Script) -> None:
    classic = script("peers.classic")
    vectors = np.repeat(np.eye(3, dtype=np.float32), 8, axis=0)
    rng = np.random.default_rng(0)
    histories = [8 * (user % 3) + rng.permutation(8)[:6] for user in range(30)]
    targets = [
        int(np.setdiff1d(8 * (user % 3) + np.arange(8), history)[0])
        for user, history in enumerate(histories)
    ]
    made = classic.train(vectors, histories, epochs=40)
    assert classic.figures(made, histories, targets)["auc"] > 0.9


def test_reranking_in_two_protocols(script: Script, data: Path, model: str, tmp_path: Path) -> None:
    options = ["--model", model, "--pointwise-users", "3", "--out", str(tmp_path)]
    script("rerank_movielens").main([str(data), *options, "--kept", str(tmp_path / "kept.jsonl")])
    found = json.loads((tmp_path / "rerank_movielens.json").read_text())
    names = [row["name"] for row in found["discrimination"]["rows"]]
    assert "LM fused over content + popularity" in names
    assert set(found["end_to_end"]) == {"content-only", "content + popularity"}


def test_rerankers_are_compared_on_the_same_prompts(
    script: Script, data: Path, model: str, tmp_path: Path
) -> None:
    options = ["--model", model, "--users", "2", "--out", str(tmp_path)]
    script("compare_rerankers").main([str(data), *options, "--kept", str(tmp_path / "kept.jsonl")])
    found = json.loads((tmp_path / "compare_rerankers.json").read_text())
    assert found["costs"]["CrossEncoder, LogitScore"]["spearman"] > 0.7
    assert found["costs"]["tokens forwarded"] < found["costs"]["tokens given"]


def test_lists_are_tuned_on_and_resumed(script: Script, byte_model: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    n, titles = 60, [f"{KINDS[row % 3]} {row}" for row in range(24)]
    candidates = np.array([draw.permutation(24)[:20] for _ in range(n)], dtype=np.int32)
    lists: dict[str, np.ndarray] = {
        "titles": np.frombuffer(json.dumps(titles).encode(), np.uint8),
        "popularity": np.arange(24, dtype=np.int32),
        "train_starts": np.arange(0, 41, 4),
        "train_items": draw.integers(0, 24, 40, dtype=np.int32),
        "part": np.repeat([0, 2, 1], n // 3).astype(np.int8),
        "target": candidates[np.arange(n), draw.integers(0, 8, n)],
        "history_starts": np.arange(0, 2 * n + 1, 2),
        "history_items": draw.integers(0, 24, 2 * n, dtype=np.int32),
        "candidates": candidates,
        "scores": -np.sort(draw.normal(size=(n, 20)).astype(np.float32), axis=1),
    }
    np.savez(tmp_path / "lists.npz", allow_pickle=False, **lists)
    train = script("train_on_gpu")
    words = [
        str(tmp_path / "lists.npz"),
        "--model",
        str(byte_model),
        "--out",
        str(tmp_path / "out"),
    ]
    words += ["--device", "cpu", "--next-epochs", "1", "--list-epochs", "1", "--weights", "lora"]
    assert train.main([*words, "--minutes", "0"]) == 3
    assert train.main([*words, "--set", "patience=0"]) == 0
    assert {folder.name for folder in (tmp_path / "out").iterdir() if folder.is_dir()} == {
        "next-title", "list",
    }  # fmt: skip
    lines = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["finished"] is True


def test_choices_of_a_tuning_are_judged(
    script: Script, data: Path, byte_model: Path, tmp_path: Path
) -> None:
    shop = shutil.copytree(data, tmp_path / "shop")
    draw = np.random.default_rng(0)
    rows = [
        f"u{user},i{3 * item + user % 3},3,{at}"
        for user in range(50)
        for at, item in enumerate(draw.permutation(12)[:6])
    ]
    (shop / "interactions.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]))
    words = [str(shop), "--model", str(byte_model), "--device", "cpu", "--limit", "30"]
    words += ["--events", "1", "--rows", "list", "in-sample lists", "--set", "epochs=1"]
    words += ["--kept", str(tmp_path / "kept"), "--out", str(tmp_path / "out")]
    ablate = script("ablate_tuning")
    assert ablate.main([*words, "--minutes", "0"]) == 3
    assert ablate.main(words) == 0
    found = json.loads((tmp_path / "out" / "ablate_tuning_shop.json").read_text())["rows"]
    assert found.keys() == {"list", "in-sample lists"}
    assert all(0 < row["tuned"] <= 1 for row in found.values())


def test_every_plan_is_a_benchmark_file() -> None:
    paths = sorted((EVAL / "plans").glob("*.yaml"))
    assert len(paths) > 5
    for path in paths:
        document = {**yaml.safe_load(path.read_text()), "index": "INDEX"}
        assert BenchmarkPlan.of(document, path.name).named_templates()


def test_a_plan_runs(script: Script, data: Path, model: str, tmp_path: Path) -> None:
    options = ["strategies", str(data), "--users", "3", "--model", model, "--out", str(tmp_path)]
    script("run_plans").main([*options, "--runs", str(tmp_path / "runs")])
    rows = rows_of(tmp_path / f"strategies_shop_{Path(model).name.lower()}.json")
    assert {"random", "retriever", "listwise/plain-list, calibrated"} <= rows.keys()


def test_tables_of_the_docs_are_those_of_the_committed_results(
    script: Script, tmp_path: Path
) -> None:
    tables = script("results_tables")
    page = tmp_path / "results.md"
    page.write_text("Before\n<!-- strategies -->\n\n| old |\n\n<!-- /strategies -->\nAfter\n")
    with pytest.raises(SystemExit, match="results_tables"):
        tables.main(["--check", str(page)])
    tables.main([str(page)])
    tables.main(["--check", str(page)])
    assert "| listwise, 4 shuffles | .249 (102) | .230 (102) |" in page.read_text()
    assert page.read_text().endswith("<!-- /strategies -->\nAfter\n")


def test_the_page_of_results_has_these_tables(script: Script) -> None:
    page = EVAL.parent / "docs" / "results.md"
    if "<!-- strategies" not in (page.read_text() if page.exists() else ""):
        pytest.skip("docs/results.md has no marked tables")
    script("results_tables").main(["--check"])


def test_races_are_simulated(script: Script, tmp_path: Path) -> None:
    script("racing_simulation").main(["--simulations", "2", "--out", str(tmp_path)])
    assert "| no differences at all |" in (tmp_path / "racing_simulation.md").read_text()


def test_plots_are_drawn(script: Script, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    script("plot_results").main(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".svg"}


def test_the_check_for_a_gpu_runs_small_on_a_cpu(script: Script, model: str) -> None:
    gpu_check = script("gpu_check")
    size = replace(gpu_check.SMALL, lists=2, candidates=2)
    check = gpu_check.Check(model, "cpu", size)
    found = gpu_check.label_rows(check)["8 users x 2"]
    assert found["rows"] == 8 * (300 + 2 * 60)
    assert found["ratio_to_dense"] > 0
    assert gpu_check.tau(check)["tree against fp32"]["mean"] > 0.99


def test_the_gate_is_judged_on_parts_that_a_model_scored(
    script: Script, model: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    n, items = 120, 40
    titles = json.dumps([f"{KINDS[item % 3]} {item}" for item in range(items)] + [""]).encode()
    candidates = np.stack([rng.permutation(items)[:12] for _ in range(n)])
    scores = -np.sort(-rng.normal(size=(n, 12)), axis=1)
    scores[:5, 10:] = -np.inf
    target = candidates[np.arange(n), rng.integers(0, 12, n) % 6]
    target[-6:] = items  # not retrieved
    np.savez(
        tmp_path / "shop_lists.npz",
        titles=np.frombuffer(titles, dtype=np.uint8),
        popularity=rng.geometric(0.1, items + 1),
        part=np.arange(n) % 3,
        users=np.arange(n) // 6,
        target=target,
        history_starts=3 * np.arange(n + 1),
        history_items=rng.integers(0, items, 3 * n),
        history_times=np.full(3 * n, 86_400),
        target_time=np.full(n, 86_400) * (1 + np.arange(n) % 4),
        candidates=candidates.astype(np.int32),
        scores=scores.astype(np.float32),
    )
    given = [str(tmp_path / "shop_lists.npz"), "--model", model, "--top", "8"]
    parts = tmp_path / "shop_parts.npz"
    stopped = [*given, "--out", str(parts), "--window", "16"]
    script("gated_lists").main([*stopped, "--max-seconds", "1e-9"])
    assert np.isnan(np.load(parts)["length"]).all(axis=1).any()
    script("gated_lists").main(stopped)
    with np.load(parts) as found:
        whole = dict(found)
    reached = (candidates[:, :8] == target[:, None]).any(axis=1) & (np.arange(n) % 3 < 2)
    assert whole["rows"].tolist() == np.flatnonzero(reached).tolist()
    there = np.isfinite(scores[whole["rows"], :8])
    assert (np.isfinite(whole["conditional"]) == there).all()
    assert (np.isfinite(whole["prior"]) == there).all()

    states, head = tmp_path / "states.npz", tmp_path / "head.npz"
    script("frozen_head").main(["states", *given, "--out", str(states)])
    with np.load(states) as found:
        assert np.isfinite(found["histories"].astype(float)).all()
        assert np.isfinite(found["items"][found["candidates"][found["candidates"] >= 0]]).all()
    trained = ["train", str(states), str(parts), "--out", str(head), "--set", "epochs=2"]
    script("frozen_head").main(trained)
    with np.load(head) as found:
        assert (np.isfinite(found["head"]) >= there).all()

    script("ablate_head").main([str(states), given[0], "--out", str(tmp_path), "--name", "shop"])
    rows = json.loads((tmp_path / "ablate_head_shop.json").read_text())["rows"]
    assert rows["1/2 of the lists"]["lists"] == round(rows["as it is"]["lists"] / 2) > 0
    assert len({row["control"] for row in rows.values()}) == 1
    assert all(0 < row["gate"] <= 1 for row in rows.values())

    options = [str(parts), str(head), "--tops", "4", "8", "--out", str(tmp_path)]
    script("gate_table").main(options)
    found = json.loads((tmp_path / "gate_shop.json").read_text())
    assert [table["top"] for table in found["tables"]] == [4, 8]
    table = found["tables"][1]
    assert table["reached"]["all"]["lists"] == (whole["part"][whole["rows"]] == 1).sum()
    assert table["end_to_end"]["all"]["lists"] == 40
    assert table["reached"]["without same-day targets"]["lists"] < table["reached"]["all"]["lists"]
    assert set(table["weights"]) == {"retriever", "control", "gate", "gate head"}
    assert "by how often the target was met" in (tmp_path / "gate_shop.md").read_text()


def test_faithfulness_compares_orders_of_units(
    data: Path, model: str, tmp_path: Path, script: Script
) -> None:
    options = [str(data), "--users", "3", "--history", "3", "--model", model]
    options += ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    faithfulness = script("faithfulness")
    faithfulness.main(options)
    found = json.loads((tmp_path / "faithfulness_shop.json").read_text())
    for rows in found["methods"].values():
        best = rows["exhaustive"]["deletion"] + rows["exhaustive"]["insertion"]
        assert best >= rows["random"]["deletion"] + rows["random"]["insertion"]
    assert found["planted"]["reason"] > 0.5
    assert found["costs"]["10"]["given"] > found["costs"]["10"]["forwarded"] > 0
    table = np.array([0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 4.0])  # and 1 for all three together
    assert faithfulness.shapley(table) == pytest.approx([4 / 3, 7 / 3, 1 / 3])
    assert faithfulness.curves(table, [1, 0, 2]) == pytest.approx((3.5, 2.5))


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_that_of_the_tree(script: Script) -> None:
    rng = np.random.default_rng(0)
    trunk = rng.integers(0, 90, 150).tolist()
    sequences = [
        ScoredSequence((*trunk[: 150 - 9 * n], *rng.integers(0, 90, 20 + n).tolist()), 1)
        for n in range(16)
    ]
    tree = PrefixTree.of(sequences)
    flex = script("flex_attention").FlexTreeAttention()
    chunks = list(tree.chunks(200))
    assert len(chunks) > 2
    for chunk in chunks:
        carried, rows = len(chunk.carried), chunk.end - chunk.start
        query = torch.randn(1, 4, rows, 16)
        key, value = torch.randn(2, 1, 2, carried + rows, 16)
        planned = TreeAttention.of(tree, chunk)
        own, _ = tree_attention(torch.nn.Module(), query, key, value, None, tree=planned)
        other, _ = flex(torch.nn.Module(), query, key, value, None, tree=planned)
        assert (own - other).abs().max() < 1e-5


def test_soft_tokens_tell_vectors_apart_and_keep_words(script: Script) -> None:
    soft_tokens = script("soft_tokens")
    base = torch.nn.Embedding(10, 4)
    vectors = torch.eye(3)  # two items and a user
    soft = soft_tokens.SoftTokens(base, vectors, 2)
    ids = torch.tensor([[3, 10, 11, 12]])
    before = soft(ids)[0]
    assert torch.equal(before[0], base.weight[3])
    assert torch.equal(before[1], before[2])  # no projection is learned yet
    soft(ids)[0, 1:3].sum().backward()
    assert soft.projections.grad[0, :2].abs().min() > 0
    assert soft.projections.grad[0, 2].abs().max() == soft.projections.grad[1].abs().max() == 0


def test_facts_know_nothing_of_training_events(script: Script) -> None:
    lists = {"train_starts": np.array([0, 4, 5]), "train_items": np.array([7, 8, 9, 7, 8])}
    assert script("soft_tokens").met_before(lists) == {"7": {"0"}, "8": {"0"}}
