from __future__ import annotations

from llmrec.catalog import Catalog
from llmrec.items import Taste, Tastes, taste_line
from llmrec.records import (
    Aspect,
    Insight,
    Interaction,
    Item,
    Opinion,
    SentimentSource,
    User,
)

ITEMS = {
    f"{kind}{n}": Item(f"{kind}{n}", f"{kind} {n}", attributes={"kind": kind, "on": "film"})
    for kind in ("war", "love", "horror")
    for n in range(20)
}


def user(*chosen: tuple[str, float], friends: tuple[str, ...] = ()) -> User:
    return User(
        "me", tuple(Interaction("me", item, rating) for item, rating in chosen), {}, friends
    )


def tastes(insights: dict[str, Insight] | None = None, *rows: Interaction) -> Tastes:
    return Tastes(Catalog(ITEMS, rows), insights or {})


def test_favoured_values_are_overrepresented_in_the_history() -> None:
    taste = tastes().of(user(*[(f"war{n}", 5.0) for n in range(4)], ("love1", 5.0)))
    assert taste.favoured == (("kind", "war"),)  # and not ("on", "film"), which all items have
    assert taste.avoided == ()


def test_avoided_values_come_from_disliked_items() -> None:
    liked = [(f"war{n}", 5.0) for n in range(6)]
    taste = tastes().of(user(*liked, *[(f"horror{n}", 1.0) for n in range(3)]))
    assert taste.avoided == (("kind", "horror"),)


def test_recent_choices_weigh_more() -> None:
    old = [(f"war{n}", 5.0) for n in range(8)]
    new = [(f"love{n}", 5.0) for n in range(8)]
    tellers = Tastes(Catalog(ITEMS), {}, half_life=3.0)
    assert tellers.of(user(*old, *new)).favoured[0] == ("kind", "love")
    assert tellers.of(user(*new, *old)).favoured[0] == ("kind", "war")


def test_one_choice_and_no_choice_tell_nothing() -> None:
    assert tastes().of(user(("war1", 5.0))) == Taste()
    assert tastes().of(user()) == Taste()
    assert tastes().of(user(("nowhere", 5.0))) == Taste()


def test_taste_aspects_come_from_reviews() -> None:
    def opinion(positive: int, negative: int) -> Insight:
        aspects = (Aspect("music", positive, negative),)
        return Insight(opinion=Opinion(5, 0.5, (), (), aspects, SentimentSource.RATINGS))

    insights = {f"war{n}": opinion(4, 1) for n in range(3)}
    insights |= {f"horror{n}": opinion(1, 4) for n in range(3)}
    chosen = [(f"war{n}", 5.0) for n in range(3)] + [(f"horror{n}", 1.0) for n in range(3)]
    taste = tastes(insights).of(user(*chosen))
    assert taste.enjoyed == (("aspect", "music"),)
    assert taste.disliked == (("aspect", "music"),)


def test_friends_give_items_chosen_by_several() -> None:
    rows = [Interaction(friend, item) for friend in ("a", "b") for item in ("war1", "war2")]
    rows += [Interaction("a", "love1"), Interaction("stranger", "love1")]
    known = tastes(None, *rows)
    assert known.of(user(("war1", 5.0), friends=("a", "b", "unheard of"))).friends == ("war2",)
    assert known.of(user(friends=())).friends == ()


def test_the_same_history_always_tells_the_same() -> None:
    chosen = [(f"{kind}{n}", 5.0) for n in range(3) for kind in ("war", "love")]
    assert tastes().of(user(*chosen)) == tastes().of(user(*chosen))


def test_a_taste_reads_as_one_line() -> None:
    taste = Taste(
        favoured=(("genres", "War"), ("made_in", "Italy"), ("genres", "Crime")),
        avoided=(("genres", "Horror"),),
        enjoyed=(("aspect", "music"),),
        disliked=(("aspect", "length"),),
    )
    assert taste_line(taste) == (
        "often genres War, Crime, made in Italy; rarely liked genres Horror; enjoys music; "
        "put off by length"
    )
    assert taste_line(Taste()) == ""
