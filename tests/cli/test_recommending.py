"""``index``, ``recommend``, ``rerank``, ``explain`` and ``fit`` on the sample, with real models."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from llmrec.catalog import Catalog, sample_folder
from llmrec.reranking import FittedWeights
from llmrec.retrieval import Index

Run = Callable[..., CompletedProcess[str]]
Document = Callable[[CompletedProcess[str]], dict[str, Any]]
Start = Callable[..., subprocess.Popen[str]]
COLD = "u21"
"""The user of the sample who has a profile and no history."""


def _width(ended: CompletedProcess[str]) -> int:
    return max(map(len, ended.stdout.splitlines()))


def test_index_says_what_it_made(
    run: Run, document: Document, sample: Catalog, minilm_folder: Path, tmp_path: Path
) -> None:
    ended = run("index", sample_folder(), "--out", tmp_path / "index", "--json")
    found = document(ended)
    assert ended.returncode == 0
    assert (found["items"], found["interactions"]) == (80, len(sample.interactions))
    assert found["fingerprint"] == sample.fingerprint
    assert found["left_out"] == []
    assert Index.open(tmp_path / "index").encoder == found["encoder"]
    again = run("index", sample_folder(), "--out", tmp_path / "index", columns=80)
    assert "Next" in again.stdout
    assert _width(again) <= 80


def test_index_refuses_broken_rows_or_leaves_them_out(
    run: Run, document: Document, minilm_folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "items.csv").write_text("item_id,title\na,Alien\nb,Brazil\na,Again\n")
    refused = run("index", data, "--out", tmp_path / "index")
    assert refused.returncode == 1
    assert "--skip-broken" in refused.stderr
    assert not (tmp_path / "index").exists()
    ended = run("index", data, "--out", tmp_path / "index", "--skip-broken", "--json")
    assert ended.returncode == 0
    assert [problem["row"] for problem in document(ended)["left_out"]] == [3]


def test_index_does_not_write_into_another_kind_of_folder(
    run: Run, minilm_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("Dear all")
    ended = run("index", sample_folder(), "--out", tmp_path)
    assert ended.returncode == 1
    assert "neither empty nor an index" in " ".join(ended.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_recommend_without_a_model(run: Run, document: Document, plain_index: Path) -> None:
    words = ("recommend", plain_index, "--user", "u01", "--no-llm", "-k", 4)
    found = document(run(*words, "--json"))
    assert [row["rank"] for row in found["items"]] == [1, 2, 3, 4]
    assert {row["status"] for row in found["items"]} == {"not_asked"}
    assert all(row["title"] for row in found["items"])
    assert found["candidates"] > 4
    assert found["model"] is None
    assert found["explanations"] == []
    for columns in (80, 120):
        shown = run(*words, columns=columns)
        assert _width(shown) <= columns
        assert found["items"][0]["title"][:20] in shown.stdout


def test_recommend_filters_before_it_takes_k(
    run: Run, document: Document, plain_index: Path, sample: Catalog
) -> None:
    words = ("recommend", plain_index, "--user", "u01", "--no-llm", "--json", "-k", 3)
    filters = ("--filter", "price<=40", "--filter", "color=green|grey")
    rows = document(run(*words, "--candidates", 3, *filters))["items"]
    assert len(rows) == 3
    for row in rows:
        attributes = sample.items[row["item_id"]].attributes
        assert float(str(attributes["price"])) <= 40
        assert attributes["color"] in {"green", "grey"}


def test_recommend_where_no_item_is_left_says_so(
    run: Run, document: Document, plain_index: Path
) -> None:
    ended = run("recommend", plain_index, "--user", "u01", "--filter", "price<=0", "--json")
    assert ended.returncode == 0
    assert document(ended)["items"] == []
    assert "No item is left" in document(ended)["notes"][0]
    assert (
        "No item is left"
        in run("recommend", plain_index, "--user", "u01", "--filter", "price<=0").stdout
    )


def test_seen_items_come_back_where_asked(
    run: Run, document: Document, plain_index: Path, sample: Catalog
) -> None:
    seen = {row.item_id for row in sample.user("u01").history}
    words = ("recommend", plain_index, "--user", "u01", "--no-llm", "--json", "-k", 80)
    without = {row["item_id"] for row in document(run(*words))["items"]}
    assert without.isdisjoint(seen)
    every = {row["item_id"] for row in document(run(*words, "--include-seen"))["items"]}
    assert every == set(sample.items)


def test_a_user_without_history_is_served_by_popularity_where_the_encoder_is_gone(
    run: Run, document: Document, plain_index: Path
) -> None:
    ended = run("recommend", plain_index, "--user", COLD, "--no-llm", "--json")
    found = document(ended)
    assert ended.returncode == 0
    assert found["fallbacks"] == {"cold_start": 1}
    assert found["notes"] == [
        f"User {COLD} has no history: popularity serves, the profile cannot be read."
    ]
    popularity = [row["signals"]["popularity"] for row in found["items"]]
    assert popularity == sorted(popularity, reverse=True)
    assert "cannot be had" in ended.stderr


def test_a_user_without_history_is_served_by_the_profile(
    run: Run, document: Document, sample_index: Path
) -> None:
    found = document(run("recommend", sample_index, "--user", COLD, "--no-llm", "--json"))
    assert found["notes"] == [f"User {COLD} has no history: the profile and popularity serve."]
    assert len({row["signals"]["content"] for row in found["items"]}) > 1


def test_recommend_reranks_and_explains(
    run: Run, document: Document, sample_index: Path, smollm2_folder: Path, sample: Catalog
) -> None:
    words = ("recommend", sample_index, "--user", "u19", "--model", smollm2_folder)
    ended = run(*words, "-k", 1, "--candidates", 10, "--explain", "--json")
    found = document(ended)
    assert ended.returncode == 0
    assert found["candidates"] == 10
    assert found["items"][0]["signals"].keys() == {
        "content",
        "co_occurrence",
        "popularity",
        "retrieval",
        "likelihood",
    }
    assert found["items"][0]["status"] == "scored"
    assert found["usage"]["tokens_forwarded"] < found["usage"]["tokens_given"]
    assert found["model"]["dtype"] == "float32"
    assert found["fitted"] is False
    (explanation,) = found["explanations"]
    assert explanation["item_id"] == found["items"][0]["item_id"]
    assert explanation["text"]
    assert explanation["source"] in {"model", "rewritten", "evidence"}
    for columns in (80, 120):
        shown = run(*words, "--candidates", 10, "--strategy", "pointwise", columns=columns)
        assert shown.returncode == 0
        assert _width(shown) <= columns
        assert "pointwise" in shown.stdout
        assert "whole prompts" in shown.stdout


def test_several_strategies_are_fused_and_their_options_hold(
    run: Run, document: Document, sample_index: Path, smollm2_folder: Path
) -> None:
    asked = ("recommend", sample_index, "--user", "u01", "--candidates", 10, "-k", 10)
    words = (*asked, "--model", smollm2_folder, "--json")
    both = document(
        run(
            *(*words, "--strategy", "listwise", "--strategy", "likelihood"),
            *("--template", "likelihood/list", "--calibrate", "--shuffles", 2),
        )
    )
    assert {"listwise", "likelihood"} <= both["items"][0]["signals"].keys()
    assert both["weights"] == {"retrieval": 1.0, "listwise": 0.2, "likelihood": 0.2}
    assert sorted(item["rank"] for item in both["items"]) == list(range(1, 11))
    # Two orders, each with its blank list; ten titles and their priors know no order.
    assert both["usage"]["prompts"] == 2 * 2 + 2 * 10
    alone = document(run(*words, "--strategy", "listwise", "--calibrate", "--shuffles", 2))
    listwise = {item["item_id"]: item["signals"]["listwise"] for item in both["items"]}
    assert {i["item_id"]: i["signals"]["listwise"] for i in alone["items"]} == listwise


@pytest.mark.parametrize(
    ("candidates", "order"), [("k01", 1), (" o29, k01 ,o28,", 3)], ids=["one", "three"]
)
def test_rerank_keeps_every_candidate(
    run: Run,
    document: Document,
    sample_index: Path,
    smollm2_folder: Path,
    candidates: str,
    order: int,
) -> None:
    words = ("rerank", sample_index, "--user", "u19", "--candidates", candidates)
    found = document(run(*words, "--model", smollm2_folder, "--json"))
    given = {item_id.strip() for item_id in candidates.split(",")} - {""}
    assert {row["item_id"] for row in found["items"]} == given
    assert [row["rank"] for row in found["items"]] == list(range(1, order + 1))
    seen = ["In the user's history already: o28."] if "o28" in given else []
    assert found["notes"] == seen


def test_explain_shows_the_evidence(
    run: Run, document: Document, sample_index: Path, smollm2_folder: Path, sample: Catalog
) -> None:
    words = ("explain", sample_index, "--user", "u19", "--item", "o29", "--model", smollm2_folder)
    shown = run(*words, columns=80)
    assert shown.returncode == 0
    assert _width(shown) <= 80
    assert sample.items["o29"].title in shown.stdout
    assert "Evidence" in shown.stdout
    found = document(run(*words, "--json"))
    (explained,) = found["explanations"]
    assert explained["title"] == sample.items["o29"].title
    assert explained["explanation"]["evidence"]


def test_fit_keeps_weights_that_recommend_then_uses(
    run: Run, document: Document, sample_index: Path, smollm2_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    shutil.copytree(sample_index, folder)
    words = ("--model", smollm2_folder, "--json")
    fitted = document(run("fit", folder, "--users", 4, "--candidates", 30, *words))
    assert fitted["lists"] == 4
    assert fitted["weights"].keys() == {"retrieval", "likelihood"}
    assert all(weight >= 0 for weight in fitted["weights"].values())
    assert "mostly chance" in fitted["notes"][0]
    assert Index.open(folder).weights[fitted["key"]] == fitted["weights"]
    found = document(run("recommend", folder, "--user", "u19", "--candidates", 5, *words))
    assert found["fitted"] is True
    assert found["weights"] == pytest.approx(fitted["weights"])


def test_fit_keeps_the_retrievers_weights_without_a_model(
    run: Run, document: Document, plain_index: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    shutil.copytree(plain_index, folder)
    fitted = document(run("fit", folder, "--retriever", "--json"))
    assert fitted["key"] == "retriever"
    assert all(weight >= 0 for weight in fitted["weights"].values())
    assert Index.open(folder).weights["retriever"] == fitted["weights"]
    assert "Signal" in run("fit", folder, "--retriever").stdout
    found = document(run("recommend", folder, "--user", "u01", "--no-llm", "--json"))
    counting = {name for name, weight in fitted["weights"].items() if weight > 0} - {"friends"}
    assert found["items"][0]["signals"].keys() == counting


def test_fit_keeps_what_was_written_to_the_index_meanwhile(
    run: Run,
    document: Document,
    plain_index: Path,
    smollm2_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "index"
    shutil.copytree(plain_index, folder)
    opened = Index.open(folder)
    rebuilt = replace(opened, encoder="another@1")

    def fit_while_others_write(*_: object, **__: object) -> FittedWeights:
        rebuilt.with_weights("else", {"content": 1.0}).save(folder)
        return FittedWeights({"content": 2.0}, {"content": 0.5}, 1)

    monkeypatch.setattr("llmrec.reranking.fit_weights", fit_while_others_write)
    words = ("fit", folder, "--users", 1, "--candidates", 30, "--model", smollm2_folder, "--json")
    fitted = document(run(*words))
    kept = Index.open(folder)
    assert kept.encoder == "another@1"
    assert kept.weights == {"else": {"content": 1.0}, fitted["key"]: {"content": 2.0}}

    rebuilt = replace(opened, fingerprint="other data")
    refused = run(*words)
    assert refused.returncode == 1
    assert "made anew from other data" in document(refused)["error"]["message"]
    assert Index.open(folder).weights == {"else": {"content": 1.0}}


def _requests(folder: Path, n: int) -> Path:
    path = folder / "requests.jsonl"
    lines = [{"user_id": f"u{1 + i % 20:02}", "candidates": ["o29", "k01"]} for i in range(n)]
    lines.append({"user_id": "new", "candidates": ["o29", "k01"], "history": ["o01"]})
    lines.append({"user_id": COLD, "candidates": ["o29", "k01"]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_rerank_requests_counts_what_failed(
    run: Run, document: Document, sample_index: Path, smollm2_folder: Path, tmp_path: Path
) -> None:
    requests, out = _requests(tmp_path, 1), tmp_path / "out.jsonl"
    files = ("--requests", requests, "--out", out)
    words = ("rerank", sample_index, *files, "--model", smollm2_folder)
    ended = run(*words, "--json")
    assert ended.returncode == 0, ended.stderr
    assert document(ended)["outcome"]["reranked"] == 3
    *_, cold = map(json.loads, out.read_text().splitlines())
    assert cold["fallbacks"] == {"cold_start": 1}
    same = run(*words, "--json", *(() if torch.cuda.is_available() else ("--device", "cpu")))
    assert document(same)["outcome"]["resumed"] == 3
    with requests.open("a") as file:
        file.write('{"user_id": "u01", "candidates": ["o299"]}\n')
        file.write('{"user_id": "u01", "candidates": []}\n')
        file.write('{"user_id": "nobody", "candidates": ["o29"]}\n')
    ended = run(*words, columns=80)
    assert ended.returncode == 1
    assert _width(ended) <= 80
    assert "3 answered now, 3 by earlier runs" in ended.stdout
    errors = [json.loads(line)["error"]["type"] for line in out.read_text().splitlines()[3:]]
    assert errors == ["UnknownItemError", "OptionError", "UnknownUserError"]
    other = run(*words, "--strategy", "pointwise")
    assert other.returncode == 1
    assert "another model, index or setting" in " ".join(other.stderr.split())


@pytest.fixture(scope="module")
def undisturbed(
    run: Run, sample_index: Path, smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The results of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    files = ("--requests", _requests(folder, 8), "--out", folder / "out.jsonl")
    assert run("rerank", sample_index, *files, "--model", smollm2_folder).returncode == 0
    return folder / "out.jsonl"


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_rerank_requests_goes_on_where_it_was_stopped(
    run: Run,
    start: Start,
    sample_index: Path,
    smollm2_folder: Path,
    undisturbed: Path,
    tmp_path: Path,
    sent: signal.Signals,
    status: int,
) -> None:
    requests, out = _requests(tmp_path, 8), tmp_path / "out.jsonl"
    files = ("--requests", requests, "--out", out)
    words = ("rerank", sample_index, *files, "--model", smollm2_folder)
    process = start(*words)
    while process.poll() is None and not (out.exists() and b"\n" in out.read_bytes()):
        time.sleep(0.01)
    process.send_signal(sent)
    printed, said = process.communicate()
    assert process.returncode == status
    assert printed == ""
    if sent == signal.SIGINT:
        assert said == "Interrupted.\n"
    assert 1 <= out.read_bytes().count(b"\n") < 10

    assert run(*words).returncode == 0
    resumed, whole = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in (out, undisturbed)
    )
    assert [each["position"] for each in resumed] == list(range(1, 11))
    for one, other in zip(resumed, whole, strict=True):
        assert one["fingerprint"] == other["fingerprint"]
        # What is shared between requests is computed anew, so the last digits may differ.
        for row, same in zip(one["items"], other["items"], strict=True):
            assert row["item_id"] == same["item_id"]
            assert row["signals"] == pytest.approx(same["signals"], abs=1e-3)
