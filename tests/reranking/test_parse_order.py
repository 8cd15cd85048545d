"""What is read out of a written order: any text gives a permutation, and prose is no answer."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.reranking.parse_order import OrderFault as Fault
from llmrec.reranking.parse_order import ParsedOrder, parse_order

ABC = "ABC"
NUMBERS = ("1", "2", "3")


def read(text: str, labels: Sequence[str] = ABC) -> str:
    """The labels that an answer names, in its order."""
    parsed = parse_order(text, labels)
    return "".join(labels[place] for place in parsed.order[: parsed.named])


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("[B] > [A] > [C]", "BAC"),
        ("[B]>[A]>[C]", "BAC"),
        ("  [ B ] > [A] > [C].", "BAC"),
        ("**[B]** > **[A]** > **[C]**", "BAC"),
        ("[b] > [a] > [c]", "BAC"),
        ("[B] > [A] >\n[C]", "BAC"),
        ("[B] → [A] → [C]", "BAC"),
        ("[B], [A], [C]", "BAC"),
        ("[B], [A] and [C]", "BAC"),
        ("[B] [A] [C]", "BAC"),
        ("1. [B]\n2. [A]\n3. [C]", "BAC"),
        ("- [B] Alien\n- [A] Aliens\n- [C] Brazil", "BAC"),
        ("| 1 | [B] |\n| 2 | [A] |\n| 3 | [C] |", "BAC"),
        ("The order of all labels: [B] > [A] > [C]", "BAC"),
        ("Sure! Here you are:\n\n[B] > [A] > [C]\n\nI hope this helps.", "BAC"),
        ("[B] Alien > [A] Aliens > [C] Brazil", "BAC"),
        ("<think>[A] > [C] is wrong</think>\n[B] > [A] > [C]", "BAC"),
        ("B > A > C", "BAC"),
        ("B, A, C", "BAC"),
        ("B A C", "BAC"),
        ("(B) > (A) > (C)", "BAC"),
        ("1. B\n2. A\n3. C", "BAC"),
        ("1. **B** - Alien\n2. **A** - Aliens\n3. **C** - Brazil", "BAC"),
        ("B. Alien\nA. Aliens\nC. Brazil", "BAC"),
        ("B: Alien\nA: Aliens\nC: Brazil", "BAC"),
        ("B (Alien) > A (Aliens) > C (Brazil)", "BAC"),
        ("B Alien > A Aliens > C Brazil", "BAC"),
        ("Ranking: B > A > C", "BAC"),
        ("The order is: B, A, C.", "BAC"),
        ("My ranking is B > A > C because A is dark", "BAC"),
        ('["B", "A", "C"]', "BAC"),
        ("[B, A, C]", "BAC"),
    ],
)
def test_forms_that_are_read(text: str, order: str) -> None:
    parsed = parse_order(text, ABC)
    assert "".join(ABC[place] for place in parsed.order) == order
    assert parsed.faults == (Fault.OK,)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("A good choice is [C] > [A]", "CA"),
        ("I think A is a fine film, but: [C] > [A]", "CA"),
        ("Instead of [B], I choose [C] > [A]", "CA"),
        ("[A] is a comedy.\n[B] is a drama.\nSo: [B] > [A]", "BA"),
        ("A good film is better than B.", ""),
        ("A, B and C are all good", ""),
        ("I would choose [C].", ""),
        ("All of them.", ""),
        ("Alien > Aliens", ""),
    ],
)
def test_prose_is_not_read(text: str, named: str) -> None:
    assert read(text) == named


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[C] Plan [B] from Outer Space > [A] Alien", "CA"),
        ("1. [C] Plan [B] from Outer Space\n2. [A] Alien\n3. [B] Brazil", "CAB"),
        ("1. [C] [REC]\n2. [A] Alien", "CA"),
        ("1. A Bug's Life\n2. B", "B"),
        ("1. C: Vitamin A\n2. B: A Bug's Life", "CB"),
        ("1. Vitamin C\n2. Plan B", ""),
    ],
)
def test_a_label_within_a_title_is_not_read(text: str, named: str) -> None:
    assert read(text) == named


def test_numbers_are_labels_too_and_not_those_of_a_list() -> None:
    assert read("[3] > [1] > [2]", NUMBERS) == "312"
    assert read("3, 1, 2", NUMBERS) == "312"
    assert read("1. 3\n2. 1\n3. 2", NUMBERS) == "312"
    assert read("1. Alien\n2. Brazil", NUMBERS) == ""
    assert read("12 > 1 > 2", tuple(str(n) for n in range(1, 13))) == "1212"


@pytest.mark.parametrize(
    ("text", "finished", "order", "faults"),
    [
        ("[B] > [A] > [B] > [C]", True, (1, 0, 2), {Fault.REPEATED}),
        ("[C] > [A]", True, (2, 0, 1), {Fault.MISSING}),
        ("[C] > [Z] > [A] > [B]", True, (2, 0, 1), {Fault.FOREIGN}),
        ("C > Z > A > B", True, (2, 0, 1), {Fault.FOREIGN}),
        ("[C] > [7]", True, (2, 0, 1), {Fault.FOREIGN, Fault.MISSING}),
        ("[C] > [A] > [", False, (2, 0, 1), {Fault.MISSING, Fault.CUT_OFF}),
        ("[C] > [A] > [B] and so", False, (2, 0, 1), {Fault.OK}),
        ("", True, (0, 1, 2), {Fault.EMPTY, Fault.MISSING}),
        (" \n", False, (0, 1, 2), {Fault.EMPTY, Fault.MISSING, Fault.CUT_OFF}),
        ("<think>[A] > [B]", False, (0, 1, 2), {Fault.EMPTY, Fault.MISSING, Fault.CUT_OFF}),
        ("I'm sorry, I can't rank people.", True, (0, 1, 2), {Fault.REFUSED, Fault.MISSING}),
        ("I’m unable to order [A] and [B].", True, (0, 1, 2), {Fault.REFUSED, Fault.MISSING}),
        ("I cannot be sure, but [C] > [B] > [A]", True, (2, 1, 0), {Fault.OK}),
        (
            "[Z] > [Z] > [C] > [C]",
            True,
            (2, 0, 1),
            {Fault.REPEATED, Fault.MISSING, Fault.FOREIGN},
        ),
    ],
)
def test_faults(text: str, finished: bool, order: tuple[int, ...], faults: set[Fault]) -> None:
    parsed = parse_order(text, ABC, finished=finished)
    assert parsed.order == order
    assert set(parsed.faults) == faults


labels = st.integers(1, 26).flatmap(
    lambda n: st.sampled_from(
        [tuple(ascii_uppercase[:n]), tuple(str(number) for number in range(1, n + 1))]
    )
)
pieces = st.sampled_from(
    [f"[{letter}]" for letter in "ABCDZ"]
    + [
        *"ABCDabZ0129[]()>.,:;-*|_\"'`\n\t →≻",
        " > ",
        "\n1. ",
        "\r",
        "\x00",
        "\u2028",
        "[1]",
        "[99]",
    ]
    + ["<think>", "</think>", "Plan [B] from", "I cannot", "sorry", "[[A]", "A]", "A good", "and"]
)
adversarial = st.lists(pieces, max_size=16).map("".join)


def is_sound(parsed: ParsedOrder, n: int) -> None:
    assert sorted(parsed.order) == list(range(n))
    assert 0 <= parsed.named <= n
    assert parsed.order[parsed.named :] == tuple(sorted(parsed.order[parsed.named :]))
    assert parsed.faults
    assert (Fault.OK in parsed.faults) == (parsed.faults == (Fault.OK,))
    assert (Fault.MISSING in parsed.faults) == (parsed.named < n)
    if parsed.named:
        assert not {Fault.REFUSED, Fault.EMPTY} & {*parsed.faults}


@settings(max_examples=700, deadline=None)
@given(adversarial, labels, st.booleans())
def test_any_sequence_of_pieces_gives_a_permutation(
    text: str, some: tuple[str, ...], finished: bool
) -> None:
    parsed = parse_order(text, some, finished=finished)
    is_sound(parsed, len(some))
    assert parsed == parse_order(text, some, finished=finished)
    assert (Fault.CUT_OFF in parsed.faults) == (parsed.named < len(some) and not finished)


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=80), labels)
def test_any_text_gives_a_permutation(text: str, some: tuple[str, ...]) -> None:
    is_sound(parse_order(text, some), len(some))


@settings(max_examples=200, deadline=None)
@given(st.permutations(ABC + "DEFGH"), st.sampled_from(["[{}]", "{}", "({})", "**{}**"]))
def test_well_formed_orders_are_read(order: list[str], form: str) -> None:
    given_labels = "".join(sorted(order))
    text = " > ".join(form.format(label) for label in order)
    parsed = parse_order(text, given_labels)
    assert [given_labels[place] for place in parsed.order] == order
    assert parsed.faults == (Fault.OK,)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from("ABCDEZ"), min_size=2, max_size=12))
def test_repeated_foreign_and_missing_labels_are_faults(written: list[str]) -> None:
    parsed = parse_order(" > ".join(f"[{label}]" for label in written), "ABCDE")
    own = [label for label in dict.fromkeys(written) if label != "Z"]
    assert ["ABCDE"[place] for place in parsed.order[: parsed.named]] == own
    assert (Fault.FOREIGN in parsed.faults) == ("Z" in written)
    assert (Fault.REPEATED in parsed.faults) == (len(own) < len(written) - written.count("Z"))
    assert (Fault.MISSING in parsed.faults) == (len(own) < 5)


@pytest.mark.parametrize(
    "text", ["[" * 20_000, "[A] " * 20_000, " " * 50_000 + "A", "1. " * 20_000]
)
def test_a_hopeless_answer_takes_no_long_time(text: str) -> None:
    is_sound(parse_order(text, ABC), 3)
