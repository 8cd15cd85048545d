from __future__ import annotations

from llmrec.items.aspects import AspectNames, find_aspects, title_words
from llmrec.items.readings import Noun, Reading, ReadSentence
from llmrec.records import Aspect

NOTHING: frozenset[str] = frozenset()


def sentence(text: str, *nouns: str | Noun) -> ReadSentence:
    read = tuple(("", noun) if isinstance(noun, str) else noun for noun in nouns)
    return ReadSentence(text, 0.0, read)


def names_of(*read: ReadSentence) -> AspectNames:
    return AspectNames.of([Reading(True, (each,)) for each in read])


def test_aspects_count_sentences_that_speak_well_and_ill() -> None:
    plot, plots = sentence("I liked the plot.", "plot"), sentence("No such plots.", "plots")
    other = [sentence("It has a cast.", "cast")] * 3
    names = names_of(plot, plots, *other)
    reviews = [[(plot, 0.9)], [(plots, 0.1), (plot, 0.5)], [(other[0], 0.9)]]
    assert find_aspects(reviews, names, NOTHING, well=0.6) == (Aspect("plot", 1, 1),)


def test_what_only_one_review_speaks_of_is_no_aspect() -> None:
    plot = sentence("I liked the plot.", "plot")
    assert find_aspects([[(plot, 0.9), (plot, 0.9)]], names_of(plot), NOTHING, well=0.6) == ()


def test_sentences_without_a_score_count_nothing() -> None:
    plot = sentence("I liked the plot.", "plot")
    reviews = [[(plot, float("nan"))], [(plot, float("nan"))]]
    assert find_aspects(reviews, names_of(plot), NOTHING, well=0.6) == ()


def test_words_of_opinion_are_no_aspects_and_start_none() -> None:
    read = sentence("A film of love and great acting.", "love", ("great", "acting"))
    names = names_of(read, read, read)
    assert set(names.names) == {"acting"}


def test_a_first_word_is_believed_only_as_a_subject() -> None:
    verb, noun = sentence("Works as it should.", "works"), sentence("Music was fine.", "music")
    names = names_of(verb, noun)
    assert set(names.names) == {"music"}
    assert names.of_sentence(verb, NOTHING) == frozenset()


def test_two_words_that_stand_together_are_one_name() -> None:
    read = [sentence("Their customer service helped.", ("customer", "service"))] * 3
    others = [sentence("It has a box.", "box")] * 6
    assert names_of(*read, *others).of_sentence(read[0], NOTHING) == {"customer service"}


def test_words_of_the_title_and_those_of_most_reviews_are_none() -> None:
    films = [sentence("The film has a ghost.", "film", "ghost")] * 4
    others = [sentence("It has a box.", "box")] * 7
    names = names_of(*films, *others)
    assert names.of_sentence(films[0], NOTHING) == {"ghost", "film"}
    assert names.of_sentence(films[0], title_words("The Ghosts")) == {"film"}
    assert names_of(*films, *others[:3]).of_sentence(films[0], NOTHING) == frozenset()


def test_no_nouns_no_aspects() -> None:
    read = sentence("很好看。")
    assert find_aspects([[(read, 0.9)]] * 2, names_of(read, read), NOTHING, well=0.6) == ()


def test_what_reviewers_judge_goes_before_what_a_story_is_of() -> None:
    virus = [sentence(f"A virus comes in part {n}.", "virus") for n in range(30)]
    acting = [sentence(f"The acting was superb in part {n}.", "acting") for n in range(30)]
    names = names_of(*virus, *acting, *[sentence("It has a box.", "box")] * 60)
    assert names.judged["acting"] > 1 > names.judged["virus"]
    reviews = [[(v, 0.9), (a, 0.9)] for v, a in zip(virus, acting, strict=True)]
    reviews += [[(each, 0.1)] for each in virus]
    aspects = find_aspects(reviews, names, NOTHING, well=0.6)
    assert [each.name for each in aspects] == ["acting", "virus"]


def test_whom_a_thing_is_for_is_no_side_of_it() -> None:
    read = sentence("I bought it for my sons and my nephew.", "sons", "nephew")
    assert names_of(read).of_sentence(read, NOTHING) == frozenset()
