from __future__ import annotations

import json
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest

from llmrec.cli.output import fields, print_json, safe, screen, table
from llmrec.cli.ranking_view import footer, model_line, number, recommendation_document
from llmrec.models import LanguageModel
from llmrec.models.hardware import Placement, Quantization
from llmrec.models.openai import Prices
from llmrec.recommender import Recommendation
from llmrec.records import Explanation, RankedItem, Ranking, Status, TextSource, Usage
from tests.reranking.oracle import Oracle


def test_a_document_holds_records_enums_and_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    signals = MappingProxyType({"content": float("nan"), "popularity": float("inf")})
    row = RankedItem("i1", 1, 2, float("nan"), Status.UNSCORED, signals)
    print_json({"ranking": Ranking("u\ud800 ☕", (row,), weights=MappingProxyType({"x": 1.0}))})
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["ranking"]
    assert found["user_id"] == "u\ud800 ☕"
    assert found["weights"] == {"x": 1.0}
    assert found["items"] == [
        {
            "item_id": "i1",
            "rank": 1,
            "retrieval_rank": 2,
            "score": None,
            "status": "unscored",
            "signals": {"content": None, "popularity": None},
            "title": "",
        }
    ]


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("[red]Alarm[/red]", "[red]Alarm[/red]"),
        ("a\x1b[2Jb\x07c", "a [2Jb c"),
        ("two\r\nlines\t here", "two lines here"),
        ("abc\u202edcba", "abc dcba"),
        ("活着 👩\u200d🌾 عربي", "活着 👩\u200d🌾 عربي"),
        ("half \ud83d a character", "half a character"),
    ],
)
def test_foreign_text_cannot_harm_a_terminal(foreign: str, shown: str) -> None:
    assert safe(foreign).plain == shown


def test_markup_in_cells_is_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    shown = table((">#", "item"), [("1", safe("[bold]x[/bold]"))])
    screen().print(shown, fields({"Name": "[bold]y[/bold]", "Empty": ""}))
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert "[bold]y[/bold]" in out
    assert "Empty" not in out


def test_a_number_that_is_not_there_is_a_dash() -> None:
    assert number(None) == "–"
    assert number(-1.006) == "-1.01"


@pytest.mark.parametrize(
    ("quantization", "revision", "line"),
    [
        ("none", "abc", "m on cpu, float32"),
        ("nf4", "abc+nf4", "m on cpu, float32, weights in nf4"),
        ("none", "abc+skip-2", "m on cpu, float32, without the last 2 layers"),
        (
            "int8",
            "abc+int8+skip-12",
            "m on cpu, float32, weights in int8, without the last 12 layers",
        ),
    ],
)
def test_model_line_shows_changes_to_the_weights(
    quantization: Quantization, revision: str, line: str
) -> None:
    placement = Placement("cpu", "float32", quantization, ())
    model = SimpleNamespace(name="m", revision=revision, placement=placement)
    assert model_line(cast("LanguageModel", model)) == line


def test_the_cost_of_a_recommendation_includes_its_explanations() -> None:
    why = Explanation("u", "i", "text", TextSource.MODEL, (), usage=Usage(100, 80, 50, 1, 0.1, 1))
    found = Recommendation(Ranking("u", (), Usage(10, 10, 0, 1, 0.1, 2)), 1, (why,))
    model: Any = Oracle(lambda *_: 0.0)
    rates = Prices(input=1.0, output=2.0, cached_input=0.5)
    document = recommendation_document(found, model, rates)
    assert document["cost"] == pytest.approx((90 * 1.0 + 20 * 0.5 + 50 * 2.0) / 1e6)
    shown = dict(footer(found, model, rates))
    assert shown["Cost"] == "0.000200 by the price table"
    assert "whole prompts (3)" in shown["Tokens"]
