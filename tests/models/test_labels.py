from __future__ import annotations

import re
from itertools import permutations

import pytest

from llmrec.models.labels import SPELLED_OUT, order_grammar, order_regex, write_order


@pytest.mark.parametrize("n", range(2, SPELLED_OUT + 1))
def test_every_order_of_a_few_labels_and_no_other(n: int) -> None:
    labels = "ABCDEF"[:n]
    pattern = re.compile(order_regex(labels))
    assert all(pattern.fullmatch(write_order(order)) for order in permutations(labels))
    assert not pattern.fullmatch(write_order(labels[:-1]))
    assert not pattern.fullmatch(write_order(labels[0] * n))
    assert order_grammar(labels).count('"') == 2 * len(list(permutations(labels)))


def test_the_form_of_an_order_of_many() -> None:
    labels = [str(number) for number in range(1, 13)]
    pattern = re.compile(order_regex(labels))
    assert pattern.fullmatch(write_order(labels[::-1]))
    assert not pattern.fullmatch(write_order(labels[1:]))
    assert not pattern.fullmatch(write_order([*labels[1:], "13"]))
    assert '"12"' in order_grammar(labels)
    assert "{11}" in order_grammar(labels)
