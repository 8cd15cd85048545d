from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from llmrec.errors import DataError, OptionError
from llmrec.records import AttributeValue, Candidate, Interaction, Item, User
from llmrec.retrieval import AttributeColumns, Index, Retriever, retriever
from llmrec.retrieval.filters import Dates
from llmrec.retrieval.rules import Rules

ITEMS = {
    item.item_id: item
    for item in (
        Item("a", attributes={"brand": "X", "genre": ("Horror",), "price": 5, "stock": True}),
        Item("b", attributes={"brand": "Y", "genre": ("Children", "Comedy"), "stock": True}),
        Item("c", attributes={"brand": "Y", "genre": ("Comedy", "Horror"), "stock": False}),
        Item("d", attributes={"price": 20.0, "released": "2001-12-31", "stock": True}),
        Item("e", attributes={"brand": "Y", "released": "2002-01-01T00:30:00+01:00"}),
    )
}
CANDIDATES = tuple(Candidate(item_id, 1.0) for item_id in ITEMS)


def rules(tmp_path: Path, text: str) -> Rules:
    path = tmp_path / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return Rules.from_file(path)


def user(*met: str) -> User:
    return User("u", tuple(Interaction("u", item_id) for item_id in met))


def kept(tmp_path: Path, text: str, *met: str) -> str:
    rows = [list(ITEMS).index(item_id) for item_id in met]
    mask = rules(tmp_path, text).bind(AttributeColumns(ITEMS)).allowed(user(*met), rows)
    return "".join(item_id for item_id, keep in zip(ITEMS, mask, strict=True) if keep)


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ('attribute = "stock"\nequals = true', "abd"),
        ('attribute = "stock"\nequals = false', "c"),
        ('attribute = "brand"\none_of = ["X", "Z"]', "a"),
        ('attribute = "genre"\nequals = "Comedy"', "bc"),
        ('attribute = "price"\nat_least = 5\nat_most = 19.9', "a"),
        ('attribute = "released"\nuntil = 2001-12-31', "de"),
        ('attribute = "released"\nsince = 2001-12-31\nuntil = 2001-12-31T20:00:00Z', "d"),
        ('attribute = "released"\nsince = 2002-01-01', ""),
    ],
)
def test_keep_and_drop_are_opposites(tmp_path: Path, condition: str, ids: str) -> None:
    assert kept(tmp_path, f"[[keep]]\n{condition}") == ids
    assert kept(tmp_path, f"[[drop]]\n{condition}") == "".join(i for i in ITEMS if i not in ids)


NEVER = """
[[never]]
attribute = "genre"
equals = "Horror"
after = { attribute = "genre", equals = "Children" }
"""


def test_never_depends_on_the_history(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert kept(tmp_path, NEVER, "a") == "abcde"
    with caplog.at_level(logging.INFO):
        assert kept(tmp_path, NEVER, "a", "b") == "bde"
    assert "genre equals Horror after genre equals Children' removes 2" in caplog.text


def test_each_rule_logs_removed_items(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    both = '[[keep]]\nattribute = "stock"\nequals = true\n' + NEVER
    with caplog.at_level(logging.INFO):
        assert kept(tmp_path, both, "b") == "bd"
    assert "Of 5 items the rules remove: `keep stock equals True` removes 2." in caplog.text
    assert "after genre equals Children' removes 1" in caplog.text


def test_boosts_add_up(tmp_path: Path) -> None:
    text = """
    [[boost]]
    attribute = "brand"
    equals = "Y"
    add = 0.5
    [[boost]]
    attribute = "genre"
    equals = "Horror"
    add = -1
    """
    assert rules(tmp_path, text).bind(AttributeColumns(ITEMS)).boosts.tolist() == [
        -1.0,
        0.5,
        -0.5,
        0.0,
        0.5,
    ]


def test_at_most_so_many_of_a_kind(tmp_path: Path) -> None:
    text = '[[at_most]]\nn = 1\nattribute = "genre"\n[[at_most]]\nn = 2\nattribute = "brand"'
    bound = rules(tmp_path, text).bind(AttributeColumns(ITEMS))
    assert "".join(candidate.item_id for candidate in bound.cap(CANDIDATES, 4)) == "abde"
    assert len(bound.cap(CANDIDATES, 2)) == 2


def test_without_rules_everything_is_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bound = Rules().bind(AttributeColumns(ITEMS))
    assert bound.allowed(user("a"), [0]).all()
    assert not bound.boosts.any()
    assert bound.cap(CANDIDATES, 3) == CANDIDATES[:3]
    assert rules(tmp_path, "") == Rules()
    assert "hold no rule" in caplog.text


def test_rules_without_matches_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert kept(tmp_path, '[[keep]]\nattribute = "price"\nat_least = 1e9') == ""
    assert "leave none of 5 items: `keep price at_least" in caplog.text


KEEP = '[[keep]]\nattribute = "price"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{KEEP}at_leest = 3", r"unknown key 'keep\.0\.at_leest'.*'at_least'"),
        ("[[boosts]]", "unknown key 'boosts'.*'boost'"),
        ("[[zzz]]", "unknown key 'zzz'.*Allowed are keep, drop"),
        (NEVER.replace(", equals", ", equal"), r"'never\.0\.after\.equal'.*'equals'"),
        ("[keep]\nattribute = 'a'", r"keep: one rule is written under \[\[keep\]\]"),
        (KEEP, "there are 0 of them"),
        (f"{KEEP}equals = 1\nat_most = 2", "there are 2 of them"),
        (f"{KEEP}at_least = '3'", "at_least: .*number"),
        (f"{KEEP}at_least = nan", "finite"),
        (f"{KEEP}at_least = 3\nat_most = 2", "the lower one first"),
        (f"{KEEP}equals = [1]", "neither text nor a number"),
        (f"{KEEP}one_of = []", "allows no value"),
        (f"{KEEP}since = '2001-01-01'", "write it without quotes"),
        (f"{KEEP}since = 2001-01-02\nuntil = 2001-01-01", "the earlier one first"),
        (f"{KEEP}since = 07:30:00", "is not a date"),
        ("[[at_most]]\nn = 0\nattribute = 'a'", r"at_most\.0\.n: .*greater than or equal to 1"),
        ("[[at_most]]\nn = 1.5\nattribute = 'a'", r"at_most\.0\.n: .*integer"),
        ("[[boost]]\nattribute = 'a'\nequals = 1", r"boost\.0\.add: Field required"),
        ("[[keep]\n", "cannot be read"),
        ("keep = \x00", "cannot be read"),
    ],
)
def test_invalid_rules_file_names_the_fault(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=f"(?s){said}"):
        rules(tmp_path, text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes("# é".encode("latin-1"))
    for name in ("latin.toml", "nowhere.toml", "."):
        with pytest.raises(DataError, match="cannot be read"):
            Rules.from_file(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[keep]]\nattribute = "brnd"\nequals = "X"', "'brnd'.*'brand'"),
        ('[[at_most]]\nattribute = "brnd"\nn = 1', "'brnd'.*'brand'"),
        ('[[boost]]\nattribute = "price"\nequals = "cheap"\nadd = 1', "'cheap' is none"),
        ('[[drop]]\nattribute = "brand"\nat_least = 3', "cannot be compared with a number"),
        ('[[keep]]\nattribute = "price"\nsince = 2001-01-01', "with a date: it holds 5"),
        ('[[keep]]\nattribute = "brand"\nsince = 2001-01-01', "with a date: it holds 'X'"),
        ('[[keep]]\nattribute = "genre"\nsince = 2001-01-01', "with a date: it holds"),
        (
            NEVER.replace('{ attribute = "genre', '{ attribute = "gnre'),
            "'gnre'.*'genre'",
        ),
    ],
)
def test_rules_that_do_not_fit_the_items_are_refused(tmp_path: Path, text: str, said: str) -> None:
    loaded = rules(tmp_path, text)
    with pytest.raises(OptionError, match=said):
        loaded.bind(AttributeColumns(ITEMS))


def test_a_time_without_a_zone_is_utc() -> None:
    noon = datetime(2001, 1, 1, 12, tzinfo=UTC)
    for until in (noon, noon.replace(tzinfo=None)):
        condition = Dates("released", until=until)
        assert condition.matches("2001-01-01T12:00:00")
        assert not condition.matches("2001-01-01T12:00:01")
        assert condition.matches("2001-01-01T14:00:00+02:00")
        assert condition.matches(int(noon.timestamp()))
    assert Dates("released", until=date(2001, 1, 1)).matches("2001-01-01T23:59:59.999")
    assert not Dates("released", until=date(2001, 1, 1)).matches("2001-01-02")
    assert Dates("released", since=date(2001, 1, 1)).matches("2001-01-01")


@pytest.mark.parametrize("year", [1999, 1999.0, "1999", " 1999.0 ", "0"])
def test_a_year_is_no_date(year: AttributeValue) -> None:
    with pytest.raises(OptionError, match="cannot be compared with a date"):
        Dates("released", until=date(2001, 1, 1)).matches(year)


def test_the_retriever_keeps_to_them(tmp_path: Path) -> None:
    vectors = np.eye(5, dtype=np.float32)
    interactions = tuple(Interaction("v", item_id) for item_id in "aabbbccccdeeeee")
    index = Index(ITEMS, vectors, interactions)
    text = """
    [[drop]]
    attribute = "brand"
    equals = "X"
    [[boost]]
    attribute = "released"
    since = 2001-12-31
    until = 2001-12-31T20:00:00Z
    add = 99
    [[at_most]]
    attribute = "brand"
    n = 1
    """
    retriever = Retriever(index, weights={"popularity": 1.0}, rules=rules(tmp_path, text))
    assert [found.item_id for found in retriever.retrieve(User("new"), 2)] == ["d", "e"]
    assert [found.item_id for found in retriever.retrieve(User("new"), 5)] == ["d", "e"]


def test_only_caps_need_more_candidates_than_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(item_id: str, score: float, signals: Mapping[str, float]) -> Candidate:
        made.append(1)
        return Candidate(item_id, score, signals)

    monkeypatch.setattr(retriever, "Candidate", counted)
    index = Index(ITEMS, np.eye(5, dtype=np.float32))
    keep, cap = "[[keep]]\nattribute='stock'\nequals=true\n", "[[at_most]]\nattribute='brand'\nn=1"
    for text, n in ((keep, 1), (keep + cap, 3)):
        made.clear()
        assert len(Retriever(index, rules=rules(tmp_path, text)).retrieve(User("new"), 1)) == 1
        assert len(made) == n


def test_bounds_of_whole_numbers_are_exact(tmp_path: Path) -> None:
    items = {str(n): Item(str(n), attributes={"n": n}) for n in (2**53, 2**53 + 1)}
    text = f"[[keep]]\nattribute = 'n'\nat_least = {2**53 + 1}"
    assert rules(tmp_path, text).bind(AttributeColumns(items)).everybody.tolist() == [False, True]
