"""``llmrec index`` of whole items, and what rules make of a recommendation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llmrec.retrieval import Index
from tests.cli.calls import Document, Run


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four goods: a whole picture, a torn one, none, and a clip that is text."""
    folder = tmp_path_factory.mktemp("shop")
    Image.new("RGB", (64, 64), "red").save(folder / "whole.png")
    (folder / "torn.png").write_bytes((folder / "whole.png").read_bytes()[:40])
    (folder / "text.mp4").write_text("no clip")
    (folder / "items.csv").write_text(
        "item_id,title,image,video,kind\n"
        "1,Red scarf,whole.png,,scarf\n2,Torn picture,torn.png,,scarf\n"
        "3,No picture,,,hat\n4,A film,,text.mp4,hat\n"
    )
    (folder / "interactions.csv").write_text("user_id,item_id\nu,1\nv,2\nv,3\n")
    (folder / "reviews.csv").write_text("item_id,text,rating\n1,Warm and soft and lovely.,5\n")
    (folder / "facts.csv").write_text("head,relation,tail\n3,made_in,Italy\n")
    return folder


@pytest.fixture(scope="module")
def indexed(
    run: Run, document: Document, shop: Path, minilm_folder: Path
) -> tuple[Path, dict[str, Any]]:
    out = shop.with_name("shop-index")
    words = ("--encoder", minilm_folder, "--image-encoder", "efficientnet-lite0")
    return out, document(
        run("index", shop, "--out", out, *words, "--sentiment", "zero_shot", "--json")
    )


def test_broken_files_are_gaps_that_are_counted(indexed: tuple[Path, dict[str, Any]]) -> None:
    out, summary = indexed
    assert summary["gaps"] == {"image": 1, "clip": 1}
    assert {n: list(reasons) for n, reasons in summary["gaps_by_item"].items()} == {
        "2": ["image"],
        "4": ["clip"],
    }
    assert summary["coverage"] == {"text": 1.0, "reviews": 0.25, "image": 0.25}
    opened = Index.open(out)
    assert "torn.png" in opened.insight_of("2").gaps["image"]
    assert "text.mp4" in opened.insight_of("4").gaps["clip"]
    assert opened.insight_of("3").facts == ("made in: Italy",)
    assert opened.insight_of("1").opinion is not None
    assert list(summary["seconds_by_stage"])[-3:] == ["embedding", "understanding", "saving"]


def test_a_gap_is_shown_with_its_reason(
    run: Run, shop: Path, minilm_folder: Path, tmp_path: Path
) -> None:
    words = ("--encoder", minilm_folder, "--without", "clip", "--without", "reviews")
    ended = run("index", shop, "--out", tmp_path / "index", *words, columns=500)
    assert "torn.png" in ended.stdout
    assert "cannot be decoded" in ended.stdout


def test_parts_can_be_left_out(
    run: Run, document: Document, shop: Path, minilm_folder: Path, tmp_path: Path
) -> None:
    words = [word for part in ("image", "clip", "reviews") for word in ("--without", part)]
    out = tmp_path / "index"
    ended = run("index", shop, "--out", out, "--encoder", minilm_folder, *words, "--json")
    assert list(document(ended)["modalities"]) == ["text"]
    assert document(ended)["gaps"] == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--without", "pictures"), "'pictures' cannot be left out"),
        (("--fusion", "nowhere"), "holds no fusion"),
    ],
)
def test_bad_options_are_refused_before_a_model_is_loaded(
    run: Run, shop: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    ended = run("index", shop, "--out", tmp_path / "index", *words)
    assert ended.returncode in {1, 2}
    assert said in ended.stderr
    assert not (tmp_path / "index").exists()


def test_a_folder_for_no_index_is_refused_before_the_work(
    run: Run, shop: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "notes.txt").touch()
    for out, said in ((notes, "neither empty nor an index"), (notes / "notes.txt", "is a file")):
        # The encoder does not exist: the first error is the first check.
        ended = run("index", shop, "--out", out, "--encoder", "no-such/encoder")
        assert ended.returncode == 1
        assert said in " ".join(ended.stderr.split())


def test_rules_shape_a_recommendation(
    run: Run, document: Document, indexed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    words = ("recommend", indexed[0], "--user", "u", "--no-llm", "--rules", rules, "--json")
    rules.write_text('[[drop]]\nattribute = "kind"\nequals = "scarf"\n')
    found = {item["item_id"] for item in document(run(*words))["items"]}
    assert found == {"3", "4"}
    rules.write_text('[[at_most]]\nn = 1\nattribute = "kind"\n')
    assert len(document(run(*words))["items"]) == 2
    rules.write_text('[[dorp]]\nattribute = "kind"\nequals = "scarf"\n')
    ended = run(*words)
    assert ended.returncode in {1, 2}
    assert "Did you mean 'drop'?" in ended.stderr
