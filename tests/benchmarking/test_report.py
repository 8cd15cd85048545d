from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from llmrec.benchmarking.disagreements import RankedTitle
from llmrec.benchmarking.report import leaderboard_markdown, render_report
from llmrec.benchmarking.report.charts import linear, logarithmic
from llmrec.benchmarking.report.text import (
    amount,
    best_row,
    breakable,
    ranked_rows,
    seconds,
    share,
    signed,
    verdicts,
)
from llmrec.benchmarking.summary import Summary, summary_json
from llmrec.cli.leaderboard_view import leaderboard_view
from llmrec.evaluation import Estimate
from tests.benchmarking.made_up import HOSTILE, LONG, ROWS, made_up_disagreements, made_up_summary

SUMMARY = made_up_summary()
BEST = "likelihood/chat-next"
NAN = Estimate(math.nan, math.nan, math.nan)


class Page(HTMLParser):
    """The elements of a page and its text, without a library for it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._open[-1:]):
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def attributes(self, name: str) -> Iterator[str]:
        yield from (given[name] for _, given in self.elements if name in given)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(SUMMARY, made_up_disagreements())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def without(summary: Summary) -> Summary:
    """A summary of nothing but a row."""
    return replace(
        summary, rows=summary.rows[3:4], contrasts=(), position={}, splits={}, per_user={},
        user_ids=(), paraphrase={}, order={}, reliability={}, about={},
    )  # fmt: skip


def test_page_shows_finding_and_question(page: Page) -> None:
    assert (
        f"{BEST} ranks first with nDCG@10 .722, significantly better than the retriever"
        in page.text
    )
    stopped = sum(bool(row.dropped) for row in SUMMARY.rows)
    assert re.search(
        rf"; \d other prompts not significantly different, {stopped} dropped by the race\.",
        page.text,
    )
    assert stopped > 0
    assert "200 users of movielens_mm" in page.text
    assert "ranking the target among 20 sampled candidates." in page.text
    assert re.search(
        r"difference in nDCG@10 \(80 % power\) is \.\d{3}, corrected for 102", page.text
    )


def test_every_section_is_there_and_linked(page: Page) -> None:
    anchors = {href[1:] for href in page.attributes("href") if href.startswith("#")}
    sections = {given["id"] for tag, given in page.elements if tag == "section" and "id" in given}
    assert anchors == sections
    assert sections == {
        "leaderboard", "cost", "position", "wording", "metrics", "popularity", "splits",
        "probabilities", "wins", "disagreements", "again",
    }  # fmt: skip


def test_every_row_is_on_the_leaderboard_with_its_interval(html: str) -> None:
    body = html[html.index('<table class="leaderboard"') : html.index("</table>")]
    assert body.count('<tr role="row" class=') == len(ROWS)
    assert body.count('<svg class="forest"') == len(ROWS)
    assert re.search(r"\.722 <small>\[\.\d{3}, \.\d{3}\]</small>", body)
    assert "not significant" in body
    assert "dropped after 60 users: worse than likelihood/chat-next" in body
    assert "197 of 200 users" in body
    assert "AnswerError 3" in body


def test_charts_are_drawn_without_a_script(html: str) -> None:
    assert html.count('<g class="point ') == 2 * 11  # but the row that was stopped
    assert html.count('<polygon class="band"') == 12
    assert html.count('<g class="bin ') == 20
    assert html.count('class="ideal"') == 2
    assert "nan%" not in html


def test_page_loads_no_external_resource(html: str, page: Page) -> None:
    loads = [*page.attributes("src"), *page.attributes("xlink:href"), *page.attributes("srcset")]
    assert loads
    assert all(source.startswith("data:image/jpeg;base64,") for source in loads)
    assert all(href.startswith(("#", "data:")) for href in page.attributes("href"))
    assert not re.search(r"@import|url\(|https?://", html)
    assert "default-src 'none'" in "".join(page.attributes("content"))


def test_foreign_text_is_escaped(html: str, page: Page) -> None:
    assert html.count("<script>") == 1
    assert "alert('" not in re.sub(r"&lt;script&gt;alert\(&#39;", "", html)
    assert HOSTILE in page.text
    assert "<script>alert('prompt')</script> User 0 chose:" in page.text


@pytest.mark.parametrize("hostile", ["</script><script>x()</script>", '"><img src=x onerror=x()>'])
def test_a_row_cannot_break_out_of_anything(hostile: str) -> None:
    rows = [replace(row, name=hostile) if row.name == BEST else row for row in SUMMARY.rows]
    per_user = {hostile if name == BEST else name: v for name, v in SUMMARY.per_user.items()}
    html = render_report(replace(SUMMARY, rows=tuple(rows), per_user=per_user))
    page = Page(html)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert "img" not in {tag for tag, _ in page.elements}
    data = re.search(r'id="pair-data">(.*?)</script>', html, re.DOTALL)
    assert data is not None
    assert hostile in json.loads(data.group(1))["values"]


def test_disagreements_show_prompts_rankings_and_small_pictures(page: Page, html: str) -> None:
    assert html.count('<details class="case"') == 10
    assert html.count("<summary>The prompt</summary>") == 20
    pictures = list(page.attributes("src"))
    assert pictures
    assert max(map(len, pictures)) < 6_000
    assert "The target is at rank 11 with likelihood/chat-next and at" in page.text


def test_without_any_picture_there_is_no_room_for_one() -> None:
    bare = [
        replace(
            case,
            rankings=tuple(tuple(replace(title, image="") for title in r) for r in case.rankings),
        )
        for case in made_up_disagreements(2)
    ]
    html = render_report(SUMMARY, bare)
    assert "<img" not in html
    assert '<span class="nopicture">' not in html


def test_a_ranking_may_lack_the_target_and_be_short() -> None:
    case = replace(
        made_up_disagreements(1)[0], rankings=((RankedTitle("A", "", False, None),), ()), history=()
    )
    html = render_report(SUMMARY, [case])
    assert "not ranked by" in html


def test_the_same_summary_gives_the_same_page(html: str) -> None:
    assert render_report(SUMMARY, made_up_disagreements()) == html


def test_a_row_without_a_spread_has_a_dash() -> None:
    order = {name: spread for name, spread in SUMMARY.order.items() if name != BEST}
    html = render_report(replace(SUMMARY, order=order))
    spreads = re.findall(r'aria-label="(\S+): spread (\S+?);', html)
    assert spreads[-1] == (BEST, "–")  # behind those that are known
    assert [name for name, spread in spreads if spread == "–"] == [BEST]
    assert f"changes {BEST}" not in html


def test_one_user_is_too_few_to_compare() -> None:
    rows = [replace(row, users=1) if row.kind == "cell" else row for row in SUMMARY.rows]
    alone = replace(SUMMARY, rows=tuple(rows), contrasts=())
    told = Page(render_report(alone)).text
    assert f"{BEST} ranks first with nDCG@10 .722; one user is too few to compare rows" in told


def test_incomplete_rows_are_no_rivals() -> None:
    other = "likelihood/chat-profile"
    few = replace(next(row for row in SUMMARY.rows if row.name == other), users=20)
    summary = replace(SUMMARY, rows=tuple(few if r.name == other else r for r in SUMMARY.rows))
    (rivals, fewer) = (
        re.findall(r"(\d+) other prompts? not significantly", Page(render_report(one)).text)
        for one in (SUMMARY, summary)
    )
    assert int(rivals[0]) == int(fewer[0]) + 1


def test_minimal_summary_has_a_page() -> None:
    html = render_report(without(SUMMARY))
    assert '<section id="leaderboard"' in html
    for absent in ("cost", "position", "splits", "wins", "disagreements", "probabilities"):
        assert f'<section id="{absent}"' not in html


def test_a_row_that_failed_for_everybody_is_last_and_has_no_number() -> None:
    failed = replace(SUMMARY.rows[3], users=0, metrics={"ndcg@10": NAN}, faults={"ModelError": 200})
    summary = replace(SUMMARY, rows=(failed, *SUMMARY.rows[:3], *SUMMARY.rows[4:]))
    lines = ranked_rows(summary)
    assert lines[-1].row.name == BEST
    assert best_row(summary.rows) is not None
    html = render_report(summary)
    assert "ModelError 200" in html
    assert not re.search(r"[>\[ ]nan[<,% ]", html)


@pytest.mark.parametrize("why", ["failed", "dropped"])
def test_a_row_of_few_users_does_not_lead(why: str) -> None:
    best = next(row for row in SUMMARY.rows if row.name == BEST)
    few = replace(
        best,
        users=20,
        metrics={**best.metrics, "ndcg@10": Estimate(0.99, 0.98, 1.0)},
        faults={"PromptError": 180} if why == "failed" else {},
        dropped="after 20 users" if why == "dropped" else "",
    )
    summary = replace(SUMMARY, rows=tuple(few if row is best else row for row in SUMMARY.rows))
    lines = ranked_rows(summary)
    leader = best_row(summary.rows)
    assert leader is not None
    assert leader.name == "likelihood/details"
    assert lines[-2].row.name == BEST  # behind all but the other that was stopped
    assert lines[-2].missing == "20 of 200 users"
    text = leaderboard_markdown(summary)
    assert text.startswith("# likelihood/details ranks first")
    html = render_report(summary)
    assert f"{BEST}: nDCG@10" not in html.split('<section id="cost">')[1].split("</section>")[0]


def test_page_and_markdown_show_all_metrics(page: Page) -> None:
    row = next(row for row in SUMMARY.rows if row.name == BEST)
    for text in (leaderboard_markdown(SUMMARY), page.text):
        for name in ("nDCG@1", "nDCG@20", "recall@5", "MRR"):
            assert name in text
        assert f"{share(row.metrics['recall@5'].mean)} [" in text
        assert "the hit rate equals recall" in text


def test_every_figure_is_kept_as_json() -> None:
    rows = (replace(SUMMARY.rows[0], metrics={"ndcg@10": NAN}), *SUMMARY.rows[1:])
    document = json.loads(summary_json(replace(SUMMARY, rows=rows)))
    assert document["rows"][0]["metrics"]["ndcg@10"]["mean"] is None
    assert document["rows"][3]["metrics"]["mrr"]["mean"] == SUMMARY.rows[3].metrics["mrr"].mean
    assert len(document["contrasts"]) == len(SUMMARY.contrasts)
    odd = replace(SUMMARY, about={**SUMMARY.about, "dataset": "r\udcff"})  # no UTF-8
    assert json.loads(summary_json(odd).encode())["about"]["dataset"] == "r\udcff"


def test_how_to_run_it_again(page: Page) -> None:
    assert "llmrec bench bench.yaml --out runs/movielens" in page.text
    assert "9f2c61d07be4a5312c7e" in page.text
    assert "places: [1, 10, 20]" in page.text
    assert str(SUMMARY.rows[3].settings["template_sha256"]) in page.text
    assert "5.16.0" in page.text.replace(" ", "")


def test_a_contrast_is_read_from_both_sides() -> None:
    known = verdicts(SUMMARY.contrasts)
    there, back = known[BEST, "retriever"], known["retriever", BEST]
    assert (there.word, back.word) == ("better", "worse")
    assert back.comparison.difference == -there.comparison.difference
    assert back.comparison.low == -there.comparison.high
    assert known[BEST, "likelihood/details"].word == "not significant"


def test_markdown_holds_the_same_rows() -> None:
    text = leaderboard_markdown(SUMMARY)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + len(ROWS))  # the leaderboard and all metrics
    for part in (rows[: 2 + len(ROWS)], rows[2 + len(ROWS) :]):
        assert len({row.count("|") for row in part}) == 1
    assert f"| 1 | {BEST} | .722 [" in text
    assert text.startswith(f"# {BEST} ranks first")
    assert "| – | oracle | 1.000 [1.000, 1.000] |" in text


def test_faults_and_fallbacks_are_shown_with_the_rows(html: str) -> None:
    text = leaderboard_markdown(SUMMARY)
    assert "- pairwise/a-or-b: AnswerError 3, order\\_conflict 1,234" in text.splitlines()
    console = Console(width=120, highlight=False)
    with console.capture() as captured:
        console.print(leaderboard_view(SUMMARY, 120))
    assert "AnswerError 3, order_conflict 1,234" in " ".join(captured.get().split())
    assert "fallbacks: order_conflict 1,234" in html


def test_a_name_cannot_break_the_markdown() -> None:
    rows = tuple(replace(row, name=f"a|b\n<b>{row.name}") for row in SUMMARY.rows)
    text = leaderboard_markdown(replace(SUMMARY, rows=rows))
    assert "a\\|b \\<b\\>likelihood" in text
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 2 * (2 + len(ROWS))


def test_the_terminal_shows_it_in_120_columns_and_obeys_nothing() -> None:
    rows = tuple(
        replace(row, name=f"\x1b[2J[red]{row.name}") if row.name == LONG else row
        for row in SUMMARY.rows
    )
    console = Console(width=120, record=True, highlight=False)
    with console.capture() as captured:
        console.print(leaderboard_view(replace(SUMMARY, rows=rows), 120))
    shown = captured.get()
    assert "\x1b[2J" not in shown
    assert "[2J[red]pointwise" in shown
    assert "▲ +.152" in shown
    assert max(map(len, shown.splitlines())) <= 120


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_keeps_the_names_of_the_rows(width: int) -> None:
    console = Console(width=width, record=True, highlight=False)
    with console.capture() as captured:
        console.print(leaderboard_view(SUMMARY, width))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert any(BEST[:16] in line and ".722" in line for line in lines)
    assert any("▲ +.152" in line for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5124, ".512"), (1.0, "1.000"), (-0.031, "−.031"), (0.0, ".000"), (-0.0001, ".000")],
)
def test_shares(value: float, text: str) -> None:
    assert share(value) == text


def test_numbers_are_written_one_way() -> None:
    assert [signed(v) for v in (0.031, -0.031, 0.0)] == ["+.031", "−.031", ".000"]
    assert [amount(v) for v in (0, 8.44, 964, 9_999, 12_345, 2.5e6, math.nan)] == [
        "0", "8.4", "964", "9,999", "12.3k", "2.5M", "–",
    ]  # fmt: skip
    assert [seconds(v) for v in (0.004, 0.42, 3.14, 84.2)] == [
        "< 0.01 s",
        "0.42 s",
        "3.1 s",
        "84 s",
    ]
    assert breakable("a/<b>") == "a/<wbr>&lt;b&gt;"


def test_scales_hold_their_values() -> None:
    scale = linear([0.13, 0.71], share)
    assert (scale.low, round(scale.high, 6)) == (0.0, 0.8)
    assert [tick.label for tick in scale.ticks] == [".000", ".200", ".400", ".600", ".800"]
    assert scale.at(0.4) == pytest.approx(50)
    assert len(linear([0.3, 0.3], share).ticks) > 1
    cost = logarithmic([300, 30_000], amount)
    assert all(0 <= tick.at <= 100 for tick in cost.ticks)
    assert cost.at(3_000) == pytest.approx(50)


def test_no_prompt_is_efficient_if_a_free_baseline_is_as_good() -> None:
    ahead = tuple(
        replace(row, metrics={**row.metrics, "ndcg@10": Estimate(0.99, 0.98, 1.0)})
        if row.name == "retriever"
        else row
        for row in SUMMARY.rows
    )
    told = Page(render_report(replace(SUMMARY, rows=ahead))).text
    assert re.search(
        r"None of 11 prompts ranks better than the best baseline, which costs nothing\.", told
    )
    told = Page(render_report(SUMMARY)).text
    assert re.search(
        r"\d of 11 prompts (are|is) Pareto-optimal: nothing ranks as well in fewer tokens", told
    )
