"""The report in a real browser: apt-get install chromium, pip install playwright."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from llmrec.benchmarking import BenchmarkModels, bench
from llmrec.benchmarking.report import render_report
from llmrec.benchmarking.report.charts import wins
from llmrec.models import LanguageModel
from tests.benchmarking.faked import GOOD, WRONG, family_model, plan_of, revision_of, template
from tests.benchmarking.made_up import made_up_disagreements, made_up_summary

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
SUMMARY = made_up_summary()
CONTRAST = """(selector) => {
  const bright = (rgb) => rgb.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
  const paper = bright(getComputedStyle(document.body).backgroundColor);
  const style = getComputedStyle(document.querySelector(selector));
  const ink = bright(selector.includes("text") ? style.fill : style.color);
  return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip(f"no Chromium on the path: none of {', '.join(NAMES)}")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    rights = ["--no-sandbox"] if os.geteuid() == 0 else []
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--disable-gpu", *rights], timeout=60_000
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(SUMMARY, made_up_disagreements()), encoding="utf-8")
    return path


Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def opening(browser: Browser, report: Path) -> Iterator[Open]:
    """Opens the report; in the end nothing may have been complained of or fetched."""
    said: list[str] = []
    fetched: list[str] = []

    def make(width: int = 1280, **settings: bool) -> Page:
        page = browser.new_page(
            viewport={"width": width, "height": 900},
            reduced_motion="reduce",
            **settings,  # type: ignore[arg-type]  # has_touch and java_script_enabled alone
        )
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(report.as_uri())
        return page

    yield make
    assert said == []
    assert {url for url in fetched if not url.startswith("data:")} == {report.as_uri()}


@pytest.fixture(scope="module")
def desktop(opening: Open) -> Page:
    return opening()


@pytest.fixture(scope="module")
def phone(opening: Open) -> Page:
    return opening(390, has_touch=True)


@pytest.mark.parametrize(("name", "width"), [("desktop", 1280), ("phone", 390)])
def test_charts_stay_within_the_page(
    request: pytest.FixtureRequest, name: str, width: int, tmp_path: Path
) -> None:
    page: Page = request.getfixturevalue(name)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    sizes = page.eval_on_selector_all(
        ".area > svg, td.axis svg.forest",
        "all => all.map((each) => each.getBoundingClientRect()).map((b) => [b.width, b.height])",
    )
    assert len(sizes) == len(SUMMARY.rows) + 2 + 12 + 2 + 1
    assert min(wide for wide, _ in sizes) > 100
    assert min(high for _, high in sizes) > 20
    outside = page.eval_on_selector_all(
        ".point circle, .panel .mark, .forest .mark, .bin rect",
        """all => all.filter((each) => {
            const inner = each.getBoundingClientRect();
            const outer = each.closest(".area, td").getBoundingClientRect();
            return inner.left < outer.left - 8 || inner.right > outer.right + 8
                || inner.top < outer.top - 8 || inner.bottom > outer.bottom + 8;
        }).length""",
    )
    assert outside == 0
    smallest = page.eval_on_selector_all(
        "text, small, td, th, p",
        "all => Math.min(...all.map((e) => parseFloat(getComputedStyle(e).fontSize)))",
    )
    assert smallest >= 11
    folder = Path(os.environ.get("LLMREC_SCREENSHOTS", tmp_path))
    picture = folder / f"report-{width}.png"
    page.screenshot(path=picture, timeout=60_000)
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(desktop: Page, scheme: Literal["light", "dark"]) -> None:
    page = desktop
    page.emulate_media(color_scheme=scheme)
    for selector in ("body", ".lede", ".key", "td small", ".better", ".worse", "nav a", "text.tick",
                     ".oracle th", ".tally .loss b", "summary"):  # fmt: skip
        assert page.evaluate(CONTRAST, selector) >= 4.5, selector


def test_any_two_rows_can_be_picked(desktop: Page) -> None:
    page = desktop
    first, second = "pairwise/a-or-b", "popularity"
    page.select_option("select[name=first]", first)
    page.select_option("select[name=second]", second)
    values = {
        name: [None if value != value else round(value, 4) for value in SUMMARY.per_user[name]]
        for name in (first, second)
    }
    expected = wins(first, second, values[first], values[second])
    counts = [int(page.inner_text(f"#count-{name}")) for name in ("wins", "ties", "losses")]
    assert counts == [expected.wins, expected.ties, expected.losses]
    assert sum(counts) == 197
    bins = page.eval_on_selector_all(".bin text", "all => all.map((each) => each.textContent)")
    assert bins == [str(count or "") for count in expected.bins]
    assert f"{first} against {second}" in page.inner_text(".pairline")
    page.select_option("select[name=first]", "random")
    assert "not compared by a test" in page.inner_text("#pair-verdict")


def test_the_leaderboard_can_be_sorted(desktop: Page) -> None:
    page = desktop
    button = page.get_by_role("button", name="Tokens a user")
    button.click()
    head = page.locator("th", has=button)
    assert head.get_attribute("aria-sort") == "ascending"
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert page.locator(".leaderboard tbody .name").first.inner_text() == "pairwise/a-or-b"


def test_a_phone_sorts_by_a_list(phone: Page) -> None:
    page = phone
    page.locator(".sortby select").select_option(label="Row")
    names = page.locator(".leaderboard tbody .name").all_inner_texts()
    assert names == sorted(names)
    page.locator(".point").first.tap()
    assert re.search(r"nDCG@10 \.\d{3}, [\d.,k]+ tokens", page.inner_text("#tip"))


def test_chart_points_are_keyboard_accessible(desktop: Page) -> None:
    page = desktop
    point = page.locator(".point.efficient").first
    point.focus()
    assert "likelihood/chat-next" in page.inner_text("#tip")
    assert point.get_attribute("aria-label") == page.inner_text("#tip")
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_it_can_be_read_without_a_script(opening: Open) -> None:
    page = opening(java_script_enabled=False)
    assert page.locator("form.pick").is_hidden()
    assert page.locator("#count-wins").is_visible()
    assert page.locator("button").count() == 0
    page.locator("summary", has_text="The prompt").first.click()
    assert "<script>alert('prompt')</script>" in page.locator("pre").first.inner_text()


def test_the_report_of_a_real_run(
    browser: Browser, kites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made by `bench` itself, with everything that a plan can ask for."""

    def load(*_: object) -> LanguageModel:
        return family_model()

    monkeypatch.setattr(BenchmarkModels, "load", load)
    monkeypatch.setattr(BenchmarkModels, "reader", load)
    monkeypatch.setattr(BenchmarkModels, "revision", lambda _, *of: revision_of(*of))
    good, wrong = (template(tmp_path, name, text) for name, text in (("g", GOOD), ("w", WRONG)))
    plan = plan_of(
        kites, "listwise/*", good, variants={good: [wrong]}, places=[1, 3, 6], history_items=[2, 9]
    )
    bench(plan, tmp_path / "run")
    path = tmp_path / "run" / "report.html"
    said: list[str] = []
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        for section in ("position", "wording", "metrics", "splits", "disagreements", "again"):
            assert page.locator(f"#{section}").is_visible(), section
        page.screenshot(path=tmp_path / f"report-{width}.png", full_page=True)
        page.close()
    assert said == []
