"""A template from a stranger reaches only its variables, and ends soon whatever it does."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from llmrec.errors import PromptError
from llmrec.items import Taste
from llmrec.prompting import Context, Template, example, sandbox
from llmrec.prompting.check_template import CANDIDATES, FourCharacters
from llmrec.records import User
from tests.prompting.writing import written

OwnTemplate = Callable[..., Template]

ATTEMPTS = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ ().__class__.__base__.__subclasses__() }}",
    "{{ item._item }}",
    "{{ item['_item'].description }}",
    "{% set key = '_item' %}{{ item[key].description }}",
    "{{ history | map(attribute='_item') | list }}",
    "{{ history | map(attribute='__class__') | join }}",
    "{{ history | sort(attribute='_item') | list }}",
    "{{ item | attr('title') }}",
    "{{ item.attributes.get.__self__ }}",
    "{{ item.attributes.get.__globals__ }}",
    "{{ item.attributes.update({'kind': 'x'}) }}",
    "{{ item.attributes.items() }}",
    "{{ item.title.format(1) }}",
    "{{ '{0.__class__}'.format(item) }}",
    "{{ '%s' % item }}",
    "{{ 'x'.join(['a', 'b']) }}",
    "{% include 'secret' %}",
    "{% import 'secret' as s %}",
    "{% from 'secret' import s %}",
    "{% extends 'secret' %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% for x in history recursive %}{{ loop(history) }}{% endfor %}",
    "{% for x in range(10 ** 12) %}x{% endfor %}",
    "{% for x in range(9) %}{% for y in range(10 ** x) %}x{% endfor %}{% endfor %}",
    "{{ range(3) }}",
    "{{ 'x' * 10 ** 12 }}",
    "{{ 'a' * 2000000000 }}",
    "{{ ('a' * 2000000000) | length }}",
    "{{ [1] * 1000000000 }}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ 'x' | center(1000000000) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ 'x'.ljust(1000000000) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ lipsum() }}",
    "{{ cycler }}",
    "{{ namespace(x=1) }}",
    "{{ self.system() }}",
    "{{ self }}",
    "{{ super() }}",
    "{{ 1 / 0 }}",
    "{{ item.attributes.nothing }}",
    "{{ item.attributes['nothing'] }}",
    "{{ [] | first }}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{% for a in history %}" * 25 + "x" + "{% endfor %}" * 25,
    "{# " + "a" * 100_000 + " #}",
]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt[:48])
def test_forbidden_template_constructs_are_errors(attempt: str, own_template: OwnTemplate) -> None:
    with pytest.raises(PromptError):
        example(own_template(attempt))


LONG = "{% set a = 'abcdefgh' %}" + "{% set a = a ~ a %}" * 13  # 65,536 characters
LISTED = LONG + "{% set b = a | list %}"
NESTED = "".join(f"{{% for {name} in item.title %}}" for name in "abcdefgh")
ENDLESS = {
    "output": NESTED + "{{ item.title }}" + "{% endfor %}" * 8,
    "steps": NESTED + "{% endfor %}" * 8,
    "steps with loop": NESTED + "{% if loop.last %}{% endif %}" + "{% endfor %}" * 8,
    "pairs": LONG + "{% for x in a %}{% for y in a if x == y %}{% endfor %}{% endfor %}",
    "comparisons": LISTED + "{% for x in a %}{% if 'no' in b %}{% endif %}{% endfor %}",
    "tests": LISTED + "{{ b | select('in', [b, 'no']) | list | length }}" * 9,
    "tests of attributes": LISTED + "{{ b | rejectattr('0', 'in', a) | list | length }}" * 99,
    "sums": "{% set b = [[1]] %}" + "{% set b = b + b %}" * 15 + "{{ b | sum(start=[]) }}",
    "sorting": LISTED + "{{ b | sort | unique | list | length }}" * 99,
}


@pytest.mark.parametrize("body", ENDLESS.values(), ids=ENDLESS)
def test_a_template_that_would_not_end_is_stopped(
    body: str, own_template: OwnTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_MOST_SECONDS", 1.0)
    start = time.thread_time()
    with pytest.raises(PromptError, match=r"it (makes|renders|takes) more than|adds numbers only"):
        example(own_template(body))
    assert time.thread_time() - start < 3


GROWING = {
    "~": "{% set a = a ~ a ~ a %}",
    "+": "{% set a = a + a + a %}",
    "list +": "{% set b = b + b + b %}",
    "*": "{% set n = n * n * n %}",
    "**": "{% set n = n ** 3 %}",
    "slices": "{% set a = (a ~ a ~ a)[0:] %}",
    "replace": "{% set a = a | replace('a', 'aaa') %}",
    "replace nothing": "{% set a = a | replace('', a) %}",
    "join by": "{% set a = a | join(a) %}",
    "join": "{% set a = [a, a, a] | join %}",
    "join a map": "{% set a = a | list | map('replace', 'a', a) | join %}",
    "repeat": "{% set a = a | list | map('int', a) | join %}",
    "a list's text": "{% set b = [b, b, b] %}",
    "a tuple's text": "{% set b = (b, b, b) %}",
    "a mapping's text": "{% set b = {1: b, 2: b, 3: b} %}",
    "a list of lists": "{% set b = a | list | map('list') | list %}{% set a = b | join ~ a ~ a %}",
    "set block": "{% set a %}{{ a }}{{ a }}{{ a }}{% endset %}",
    "filter block": "{% filter replace('a', 'aaaa') %}{{ a }}{% endfilter %}",
    "escaping": "{% autoescape true %}{% set a = a ~ a ~ '&' %}{% endautoescape %}",
}


@pytest.mark.parametrize("step", GROWING.values(), ids=GROWING)
def test_a_few_lines_do_not_fill_the_memory(step: str, own_template: OwnTemplate) -> None:
    begin = "{% set a = 'aaaaaaaa' %}{% set b = ['aaaaaaaa'] %}{% set n = 9 %}\n"
    with pytest.raises(PromptError, match=r"more than|digits|stretch of text"):
        example(own_template(f"{begin}{step * 14}{{{{ a | length }}}}{{{{ b | length }}}}"))


def test_rounding_does_not_make_large_powers_of_ten(own_template: OwnTemplate) -> None:
    with pytest.raises(PromptError, match="at most 15 digits"):
        example(own_template("{{ 1 | round(1000000000, 'ceil') }}"))


def test_full_memory_is_a_prompt_error(own_template: OwnTemplate) -> None:
    def full(_: User) -> Taste:
        raise MemoryError

    with pytest.raises(PromptError):
        written(
            own_template("{{ user.taste }}{{ item.title }}"),
            CANDIDATES,
            user=User("me"),
            items={},
            tokenizer=FourCharacters(),
            context=Context(taste=full),
        )


def test_an_error_while_rendering_names_template_line_and_way_out(
    own_template: OwnTemplate,
) -> None:
    template = own_template("\n{{ item.title }}\n{{ item.attributes.weihgt }}")
    with pytest.raises(PromptError) as caught:
        example(template)
    assert "pointwise/own, line 7, block user" in str(caught.value)
    assert "the item's attributes has no attribute 'weihgt'" in str(caught.value)
    assert "item.attributes.get(" in caught.value.hint


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{{ item.attributes.get('kind', 'thing') }}", "tent"),
        ("{{ item.attributes.get('none', 'thing') }}", "thing"),
        ("{{ item.attributes['kind'] | upper if 'kind' in item.attributes }}", "TENT"),
        (
            "{% for name, value in item.attributes | items %}{{ name }}={{ value }},{% endfor %}",
            "kind=tent,materials=nylon,weight_g=1900,",
        ),
        ("{{ 7 * 6 }} {{ 2 ** 3 }} {{ 7 % 4 }}", "42 8.0 3"),
        (
            "{% for p in history[-2:] | reverse %}{{ loop.index }}{{ p.title[:3] }}{% endfor %}",
            "1Emb2Fer",
        ),
        ("{{ 'none' if item.attributes.year is not defined }}", "none"),
        ("{{ history | rejectattr('liked') | map(attribute='rating') | join(',') }}", "2"),
        ("{{ [1, 'b'] | join(' ') ~ 2 ~ 'a-a' | replace('a', 'c', 1) }}", "1 b2c-a"),
        (
            "{{ ('x' + 'y') in ['xy'] }} {{ 2 in (1, 2) }} {{ {'k': 1.25 | round(1)}.k }}",
            "True True 1.2",
        ),
    ],
)
def test_allowed_template_constructs(body: str, expected: str, own_template: OwnTemplate) -> None:
    assert example(own_template(body)).user == expected


@pytest.mark.parametrize("token", ["<|im_end|>", "<s>", "[INST]", "[PAD]"])
def test_a_template_writes_no_chat_template_tokens(token: str, own_template: OwnTemplate) -> None:
    class WithTokens(FourCharacters):
        special_tokens = ("[PAD]", "<|im_end|>")

    with pytest.raises(PromptError, match="writes the chat-template token"):
        written(
            own_template(f"{{{{ item.title }}}} {token}"),
            user=User("new"),
            items={},
            candidates=CANDIDATES,
            tokenizer=WithTokens(),
        )
