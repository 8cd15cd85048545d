"""``llmrec fit`` on the sample: gates and weights that are kept in the index."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.reranking import Gate
from llmrec.retrieval import FittedWeights, Index
from tests.cli.calls import Document, Run


def test_fit_keeps_weights_that_recommend_then_uses(
    run: Run, document: Document, sample_index: Path, byte_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    shutil.copytree(sample_index, folder)
    words = ("--model", byte_model, "--json")
    prices = tmp_path / "prices.toml"
    prices.write_text(f'["{byte_model}"]\ninput = 1\noutput = 1\n')
    fit = ("fit", folder, "--users", 10, "--n-candidates", 40, "--prices", prices)
    fitted = document(run(*fit, *words))
    assert fitted["lists"] == 10
    assert fitted["cost"] > 0
    assert fitted["model"]["name"] == byte_model.name
    assert {*fitted["dropped"]} == fitted["p_values"].keys() - {*Gate(fitted["gate"]).parts}
    shown = run(*fit, "--model", byte_model).stdout
    assert f"{fitted['cost']:.6f} by the price table" in shown
    assert fitted["ndcg@10"].keys() == {"retriever", "control", "gate"}
    assert sum(rarity["lists"] for rarity in fitted["by_rarity"]) == 10
    assert fitted["served"] in fitted["ndcg@10"]
    assert "The language model adds" in fitted["notes"][0]
    assert "mostly noise" in fitted["notes"][1]
    assert Index.open(folder).gates[fitted["key"]]["weights"] == fitted["weights"]
    # The gate may do without the model: then it is asked only where that is asked for.
    list_of_5 = ("-k", 5, "--n-candidates", 5, "--always-ask")
    found = document(run("recommend", folder, "--user", "u19", *list_of_5, *words))
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


def test_fit_keeps_concurrent_changes_of_the_index(
    run: Run,
    document: Document,
    plain_index: Path,
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

    monkeypatch.setattr("llmrec.retrieval.learn_weights", fit_while_others_write)
    words = ("fit", folder, "--retriever", "--json")
    fitted = document(run(*words))
    kept = Index.open(folder)
    assert kept.encoder == "another@1"
    assert kept.weights == {"else": {"content": 1.0}, fitted["key"]: {"content": 2.0}}

    rebuilt = replace(opened, fingerprint="other data")
    refused = run(*words)
    assert refused.returncode == 1
    assert "rebuilt from other data" in document(refused)["error"]["message"]
    assert Index.open(folder).weights == {"else": {"content": 1.0}}
