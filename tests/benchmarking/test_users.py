from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from llmrec.benchmarking.plan import BenchmarkPlan
from llmrec.benchmarking.users import BenchmarkData, data_of, index_data
from llmrec.errors import DataError, OptionError
from llmrec.prompting import Budget, Context
from llmrec.retrieval import WEIGHTS_KEY, Index
from tests.benchmarking.faked import BUSY, ITEMS, USERS, plan_of


def asked(index: Path, **settings: object) -> BenchmarkData:
    return index_data(Index.open(index), plan_of(index, "likelihood/titles", **settings))


def known(data: BenchmarkData) -> Context:
    """What prompts are made from."""
    return data.known(data.users[0].user_id)[1]


@pytest.mark.parametrize("protocol", ["discrimination", "end-to-end"])
def test_prompts_do_not_leak_the_target(kites: Path, protocol: str) -> None:
    index = Index.open(kites)
    made = asked(kites, users=USERS, protocol=protocol)
    last = {row.user_id: row for row in index.interactions}  # of the latest time
    assert len(made.users) == made.qualifying == USERS
    left = [row for row in index.interactions if row not in last.values()]
    popularity = Counter(row.item_id for row in left)
    context = known(made)
    assert {item_id: context.popularity(item_id) for item_id in index.items} == {
        item_id: popularity[item_id] for item_id in index.items
    }
    for one in made.users:
        assert one.targets[0] == last[one.user_id].item_id
        history = [row.item_id for row in context.user(one.user_id).history]
        assert one.targets[0] not in history
        assert one.activity == len(history) == (5 if one.user_id == BUSY else 4)
        assert not set(one.candidates) & set(history)
        assert one.popularity == tuple(popularity[item_id] for item_id in one.candidates)
        assert one.target_popularity == popularity[one.targets[0]]
        assert one.reached == (one.targets[0] in one.candidates)
        assert len(set(one.candidates)) == 6
        assert one.user_id not in {review.user_id for review in context.reviews(one.targets[0])}


def test_weights_that_were_fitted_on_the_targets_are_not_used(kites: Path, tmp_path: Path) -> None:
    fitted = Index.open(kites).with_weights(WEIGHTS_KEY, {"popularity": 9.0})
    fitted.save(tmp_path / "index")
    made = asked(tmp_path / "index", users=USERS)
    assert made.users == asked(kites, users=USERS).users


def test_other_targets_give_the_same_negatives(kites: Path, tmp_path: Path) -> None:
    """Neither the order of the candidates nor a score says which of them is held out."""
    index = Index.open(kites)
    first = [row for row in index.interactions if row.user_id == "u00"]
    # The same user, whose last two interactions change places in time.
    times = {first[-1]: first[-2].timestamp, first[-2]: first[-1].timestamp}
    rows = tuple(replace(r, timestamp=times.get(r, r.timestamp)) for r in index.interactions)
    replace(index, interactions=rows).save(tmp_path / "index")
    one, other = (
        {one.user_id: one for one in asked(folder, users=USERS).users}["u00"]
        for folder in (kites, tmp_path / "index")
    )
    assert one.targets[0] != other.targets[0]
    place = one.candidates.index(one.targets[0])
    assert other.candidates.index(other.targets[0]) == place


def test_target_positions_are_uniform(kites: Path) -> None:
    places = Counter(
        one.candidates.index(one.targets[0])
        for seed in range(5)
        for one in asked(kites, users=USERS, seed=seed).users
    )
    assert set(places) == set(range(6))
    assert max(places.values()) < 2 * 5 * USERS / 6


@pytest.mark.parametrize("protocol", ["discrimination", "end-to-end"])
def test_fewer_users_are_the_first_of_more(kites: Path, protocol: str) -> None:
    some = asked(kites, users=7, protocol=protocol).users
    assert asked(kites, users=20, protocol=protocol).users[:7] == some
    assert [one.user_id for one in some] != sorted(one.user_id for one in some)  # drawn


def test_the_seed_draws_users_and_lists(kites: Path) -> None:
    one, same, other = (asked(kites, seed=seed).users for seed in (0, 0, 1))
    assert one == same
    assert [x.user_id for x in one] != [x.user_id for x in other]


@pytest.mark.parametrize("protocol", ["discrimination", "end-to-end"])
def test_more_users_than_there_are_names_how_many(kites: Path, protocol: str) -> None:
    with pytest.raises(OptionError, match=f"users is 41; {USERS} users qualify") as caught:
        asked(kites, users=USERS + 1, protocol=protocol)
    assert f"Ask for {USERS} or fewer" in caught.value.hint
    assert len(asked(kites, users=USERS, protocol=protocol).users) == USERS


def test_more_candidates_than_there_are_unseen_items(kites: Path) -> None:
    with pytest.raises(OptionError, match=f"{ITEMS - 1} unseen items"):
        asked(kites, n_candidates=ITEMS)


def test_end_to_end_takes_the_retrievers_order(kites: Path) -> None:
    made = asked(kites, protocol="end-to-end", users=USERS, n_candidates=3)
    for one in made.users:
        scores = [score for score in one.retrieval if score is not None]
        assert scores == sorted(scores, reverse=True)
    assert 0 < sum(one.reached for one in made.users) < USERS


def test_more_candidates_than_items_are_refused(kites: Path) -> None:
    with pytest.raises(OptionError, match=f"candidates is 61; the index has {ITEMS} items"):
        asked(kites, n_candidates=61)


def test_validation_hides_the_test_interaction(kites: Path) -> None:
    last, before = (asked(kites, users=USERS, part=part) for part in ("test", "validation"))
    tests = {one.user_id: one.targets[0] for one in last.users}
    context = known(before)
    assert len(before.users) == len(last.users) == USERS
    for one in before.users:
        history = [row.item_id for row in context.user(one.user_id).history]
        assert one.targets[0] != tests[one.user_id]
        for unknown in (one.targets[0], tests[one.user_id]):
            assert unknown not in history
            assert one.user_id not in {review.user_id for review in context.reviews(unknown)}
        assert tests[one.user_id] not in one.candidates


LINES: list[dict[str, object]] = [
    {"history": ["Alien"], "candidates": ["Heat", "Aliens", "Up"], "relevant": "Aliens"},
    {"user_id": "7", "history": ["Up", "Cars"], "candidates": ["Heat", "Aliens", "Up 2"],
     "relevant": ["Up 2", "Heat"]},
    {"user_id": "7", "history": [], "relevant": [2],
     "candidates": [{"id": 1, "title": "Heat", "score": 0.5}, {"id": 2, "title": "Aliens"}]},
]  # fmt: skip


def labelled(folder: Path, lines: list[dict[str, object]], **settings: object) -> BenchmarkData:
    path = folder / "labelled.jsonl"
    path.write_text("\n\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return data_of(BenchmarkPlan.of({"requests": path, **settings}, "The test"))


def test_labelled_requests_need_no_index(tmp_path: Path) -> None:
    data = labelled(tmp_path, LINES)
    found = {one.user_id: one for one in data.users}
    assert set(found) == {"line 1", "7", "7 (line 5)"}
    assert found["line 1"].targets == ("Aliens",)
    assert found["line 1"].candidates == ("Heat", "Aliens", "Up")
    assert found["7"].targets == ("Heat", "Up 2")
    assert (found["7"].columns, found["7"].activity) == ((0, 2), 2)
    assert found["7 (line 5)"].targets == ("2",)
    assert found["7 (line 5)"].retrieval == (0.5, None)
    question = data.question(found["7"], ("Up 2", "Heat"), Budget())
    assert [item.name for item in question.candidates] == ["Up 2", "Heat"]
    assert [row.item_id for row in question.user.history] == ["Up", "Cars"]
    assert data.facts().titles["2"] == "Aliens"
    assert data.about["dataset"] == {"name": "labelled.jsonl", "requests": 3}
    assert len(labelled(tmp_path, LINES, users=2).users) == 2


def test_relevant_candidates_that_always_come_first_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first: dict[str, object] = {"candidates": ["a", "b", "c"], "relevant": ["b", "a"]}
    labelled(tmp_path, [first, {**first, "relevant": "b"}])
    assert not caplog.text
    labelled(tmp_path, [first, {**first, "relevant": "a"}])
    assert "Shuffle the candidates" in caplog.text


def test_requests_may_name_items_of_a_table_or_an_index(kites: Path, tmp_path: Path) -> None:
    line: dict[str, object] = {"history": ["i1"], "candidates": ["i2", "i3"], "relevant": "i3"}
    table = tmp_path / "items.jsonl"
    table.write_text("".join(f'{{"id": "i{n}", "title": "Kite {n}"}}\n' for n in range(5)))
    for more in ({"items": table}, {"index": kites}):
        data = labelled(tmp_path, [line], **more)
        assert data.facts().titles == {"i2": "Kite 2", "i3": "Kite 3"}


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ({"candidates": ["a", "b"]}, "0 relevant ones"),
        ({"candidates": ["a"], "relevant": "a"}, "1 candidates"),
        ({"candidates": ["a", "b"], "relevant": "c"}, "not a candidate"),
        ({"relevant": "c"}, "no candidates"),
    ],
)
def test_a_request_without_a_label_is_named(
    tmp_path: Path, line: dict[str, object], part: str
) -> None:
    with pytest.raises(DataError, match=f"labelled.jsonl line 3.*{part}"):
        labelled(tmp_path, [LINES[0], line])


def test_requests_that_cannot_be_read(tmp_path: Path) -> None:
    plan = BenchmarkPlan.of({"requests": tmp_path / "absent.jsonl"}, "The test")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        data_of(plan)
    (tmp_path / "absent.jsonl").write_text("not json")
    with pytest.raises(DataError, match="line 1 is not JSON"):
        data_of(plan)
    (tmp_path / "absent.jsonl").write_text("")
    with pytest.raises(OptionError, match="0 users qualify"):
        data_of(plan)
