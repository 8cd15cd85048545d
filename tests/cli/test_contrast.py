from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

Run = Callable[..., CompletedProcess[str]]
Document = Callable[[CompletedProcess[str]], dict[str, Any]]


def test_explain_compares_two_items(
    run: Run, document: Document, sample_index: Path, byte_model: Path, tmp_path: Path
) -> None:
    words = ("explain", sample_index, "--user", "u19", "--item", "o03", "--against", "k05")
    ended = run(*words, "--model", byte_model, "--json")
    assert ended.returncode == 0, ended.stderr
    found = document(ended)
    assert list(found["titles"]) == ["o03", "k05"]
    sides = [found["contrast"][name] for name in ("reasons", "against")]
    assert found["lead"] == pytest.approx(sides[0]["score"] - sides[1]["score"])
    assert found["cost"] is None
    prices = tmp_path / "prices.toml"
    prices.write_text(f'["{byte_model}"]\ninput = 1e6\noutput = 0\n')
    shown = run(*words, "--model", byte_model, "--prices", prices)
    assert shown.returncode == 0, shown.stderr
    assert "Out of the top 10" in shown.stdout
    tokens = found["contrast"]["usage"]["tokens_given"]
    assert f"{tokens}.000000 by the price table" in shown.stdout


def test_explain_weighs_the_evidence(
    run: Run, document: Document, sample_index: Path, byte_model: Path, tmp_path: Path
) -> None:
    words = ("explain", sample_index, "--user", "u19", "--item", "o03", "--weigh")
    ended = run(*words, "--model", byte_model, "--json")
    assert ended.returncode == 0, ended.stderr
    found = document(ended)
    evidence = found["explanations"][0]["explanation"]["evidence"]
    weighed = [fact for fact in evidence if fact["weight"] is not None]
    assert [fact["unit"] for fact in weighed if fact["unit"].startswith("history:")]
    assert all(
        fact["weight"] == pytest.approx(sum(fact["parts"].values()), abs=1e-9) for fact in weighed
    )
    assert found["model"] is not None
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"history": ["Alien", "Blade Runner"], "candidates": ["Dune", "Heat"]}\n')
    ended = run("explain", "--requests", asked, "--weigh", "--model", byte_model, "--json")
    assert ended.returncode == 0, ended.stderr
    assert len(document(ended)["explanations"]) == 2
    asked.write_text('{"user_id": "u19", "candidates": ["o03", {"title": "A new tent"}]}\n')
    ended = run("explain", sample_index, "--requests", asked, "--weigh", "--model", byte_model)
    assert ended.returncode == 0, ended.stderr
    assert "A new tent" in ended.stdout


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--item", "o03", "--against", "o03"), 2, "compared with itself"),
        (("--item", "o03", "--against", "o99"), 1, "o99"),
        (("--item", "o03,k05", "--against", "o04"), 2, "one item"),
        (
            ("--item", "o03", "--against", "k05", "--text", "written", "--html", "a.html"),
            2,
            "no explanation, but --text, --html was given",
        ),
        (
            ("--item", "o03", "--against", "k05", "--weigh", "--entailment", "a"),
            2,
            "no explanation, but --weigh, --entailment was given",
        ),
    ],
)
def test_comparisons_that_cannot_be_made(
    words: tuple[str, ...], status: int, says: str, run: Run, sample_index: Path, byte_model: Path
) -> None:
    ended = run("explain", sample_index, "--user", "u19", *words, "--model", byte_model)
    assert ended.returncode == status
    assert says in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
