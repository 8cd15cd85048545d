from __future__ import annotations

import json
import re
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from llmrec.benchmarking.results import NOTHING_JUDGED
from llmrec.cli.data import read_data
from llmrec.cli.options import split_names
from llmrec.cli.output import fields, print_json, safe, screen, table, visible
from llmrec.cli.ranking_view import (
    fallbacks_line,
    footer,
    model_line,
    number,
    ranking_table,
    recommendation_document,
)
from llmrec.errors import DataError
from llmrec.models import LanguageModel
from llmrec.models.hardware import Placement, Quantization
from llmrec.models.openai import Prices
from llmrec.models.protocol import REQUEST_FAILED, REQUEST_REFUSED
from llmrec.recommender import Recommendation
from llmrec.records import FALLBACKS, Explanation, RankedItem, Ranking, Status, TextSource, Usage
from llmrec.reranking.rankings import ID_AS_TITLE
from tests.reranking.oracle import Oracle


def test_what_controls_a_terminal_is_shown_as_an_escape() -> None:
    text = "two\n\tlines \u3000活 👩\u200d🌾 [b]"
    assert visible(text).plain == text
    assert visible("\x1b[2J\x9b\r\x00\u202e\ud800").plain == r"\x1b[2J\x9b\r\x00\u202e\ud800"


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


HEADS = (">#", "row", ">now failing", ">95 %", ">seconds a user")
NAMES = ("likelihood/history-after-candidates, calibrated, 4 shuffles", "a" * 70, "活着" * 20, "x")


@pytest.mark.parametrize("width", [50, 60, 80, 120])
@pytest.mark.parametrize("name", NAMES, ids=["template", "one word", "wide", "short"])
def test_a_table_keeps_numbers_and_words_of_headings(width: int, name: str) -> None:
    rows = [
        ("1", name, "12", "[-.123, +.456]", "1,234.5 s"),
        ("2", Text(f"{name}\nfaults"), *"abc"),
    ]
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        leave_out = ("seconds a user", "95 %")
        console.print(table(HEADS, rows, width=width, leave_out=leave_out, notes=["A note."]))
    shown = captured.get()
    assert max(cell_len(line) for line in shown.splitlines()) <= width
    assert {"row", "now", "failing", "12", "faults", "A", "note."} <= set(shown.split())
    gone = "Left out for width: seconds a user" in shown
    assert gone != ("1,234.5 s" in shown)
    assert "…" not in shown
    if name == NAMES[0]:
        assert {"calibrated,", "shuffles"} <= set(shown.split())  # no word of it is broken


@pytest.mark.parametrize("width", [60, 80])
def test_a_ranking_shows_ids_and_what_was_left_out(width: int) -> None:
    signals = {"content": 0.1, "co_occurrence": 0.2, "popularity": 1.0, "likelihood": -3.2}
    twins = [
        RankedItem(f"id-{n}", n, 3 - n, 1.5, Status.SCORED, signals, "Twin Peaks, the whole series")
        for n in (1, 2)
    ]
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(ranking_table(Ranking("u", tuple(twins)), 2, width))
    shown = captured.get()
    assert max(map(len, shown.splitlines())) <= width
    assert {"id-1", "id-2", "moved", "▲1", "▼1", "score"} <= set(shown.split())
    assert "moved: places up" in shown
    assert "likelihood" in shown.splitlines()[0]
    assert ("Left out for width: content" in shown) == ("content" not in shown.splitlines()[0])


def test_every_fallback_is_explained_in_the_glossary_and_below_a_ranking() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert [name for name in FALLBACKS if f"`{name}`" not in page] == []
    code = "".join(path.read_text(encoding="utf-8") for path in (root / "llmrec").rglob("*.py"))
    counted = set(re.findall(r'(?:fallbacks\[|fault or \()"(\w+)"', code))
    assert counted > {"unscored", "no_label_returned"}
    counted |= {ID_AS_TITLE, NOTHING_JUDGED, REQUEST_FAILED, REQUEST_REFUSED}
    assert counted <= set(FALLBACKS)
    assert (
        fallbacks_line({"cold_start": 1, "own": 2})
        == "cold_start 1 (the user has no history); own 2"
    )


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (None, []),
        (["a,b", "c"], ["a", "b", "c"]),
        ([" a , ,b,"], ["a", "b"]),
        (["x,y.jinja", "a"], ["x,y.jinja", "a"]),
        (["a,x,y.jinja"], ["a", "x", "y.jinja"]),
    ],
)
def test_names_are_split_at_commas_unless_they_have_some(
    values: list[str] | None, names: list[str]
) -> None:
    assert split_names(values, {"x,y.jinja"}.__contains__) == names


@pytest.mark.parametrize("columns", [None, "my map.json"])
def test_a_hint_repeats_the_options_of_the_user(columns: str | None, tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\n1,a\n1,b\n")
    path = None if columns is None else tmp_path / columns
    if path:
        path.write_text('{"items": {"columns": {"title": "title"}}}')
    with pytest.raises(DataError) as caught:
        read_data(tmp_path, path, skip_broken=False)
    asked = f"llmrec data check {tmp_path}" + (f" --columns '{path}'" if path else "")
    assert f"`{asked}`" in caught.value.hint


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
