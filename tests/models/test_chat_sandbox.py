"""Chat templates of strangers: rendered as transformers renders them, and ended soon."""

from __future__ import annotations

import time
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from llmrec.metered_jinja import FAILURES
from llmrec.models.chat_sandbox import TODAY, render_chat

TURNS = [
    {"role": "system", "content": "Be *brief* <x>. {{ no }}"},
    {"role": "user", "content": "Is 'fire' \"hot\"?\n And ice? "},
    {"role": "assistant", "content": "<think>warm</think>Yes"},
]
VARIABLES: dict[str, Any] = {
    "messages": TURNS,
    "add_generation_prompt": True,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "tools": None,
    "documents": None,
}
USUAL = [
    (
        "{{ bos_token }}{% for m in messages %}\n  {{- '<' + m.role + '>' + m.content | trim }}\n"
        "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}\n"
    ),
    (
        "{% set ns = namespace(text='', n=0) %}{% for m in messages %}{% if m.role == 'user' %}"
        "{% set ns.text = ns.text ~ m.content %}{% endif %}{% set ns.n = ns.n + 1 %}{% endfor %}"
        "{{ ns.text }}{{ ns.n }}"
    ),
    (
        "{% macro say(turn, end='|') %}{{ turn.role | title }}: {{ turn.content }}{{ end }}"
        "{% endmacro %}{% for m in messages %}{{ say(m) }}{{ say(m, end='.') }}{% endfor %}"
    ),
    (
        "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ loop.last }}"
        "{{ m | tojson }}{{ m | tojson(indent=2) }}{% if loop.index0 == 2 %}{% break %}{% endif %}"
        "{% endfor %}"
    ),
    (
        "{{ messages[2].content.split('</think>')[-1].lstrip('\n') }}"
        "{{ '-' * 3 }}{{ 2 ** 3 }}{{ 7 % 4 }}"
    ),
    "{% for m in messages[1:] %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ messages[0].get('x') }}",
    (
        "{{ messages | map(attribute='role') | join(', ') }}{{ messages | selectattr('role', 'eq',"
        " 'user') | list | length }}{{ range(3) | list }}{{ dict(a=1) }}"
    ),
    (
        "{% filter upper %}{{ messages[0].content }}{% endfilter %}{% set kept %}<{{ eos_token }}>"
        "{% endset %}{{ kept }}{{ kept }}{{ undefined_name }}{% if tools is none %}none{% endif %}"
    ),
    (
        "{% if messages[0].content is string and 'brief' in messages[0]['content'] %}t{% endif %}"
        "{{ (messages | length - 1) ~ '' }}{{ messages[-1]['role'] }}"
    ),
]


@pytest.mark.parametrize("source", USUAL)
def test_usual_templates_render_byte_for_byte_as_in_transformers(source: str) -> None:
    theirs = render_jinja_template(
        [TURNS],
        chat_template=source,
        **{name: value for name, value in VARIABLES.items() if name != "messages"},
    )[0][0]
    assert render_chat(source, VARIABLES) == theirs


def test_the_clock_stands_still() -> None:
    assert render_chat("{{ strftime_now('%d %b %Y') }}", VARIABLES) == TODAY


def test_tools_and_documents_are_none_and_not_undefined() -> None:
    source = "{% if tools is not none or documents is not none %}tools{% endif %}"
    assert render_chat(source, {"messages": TURNS}) == ""


def test_a_long_prompt_is_no_attack() -> None:
    turns = [{"role": "user", "content": "word " * 100_000}]
    source = "{% for m in messages %}{{ m.content.strip() | trim ~ m.role }}{% endfor %}"
    assert len(render_chat(source, {"messages": turns})) == 500_003


HOSTILE = {
    "product": "{{ 'a' * 2000000000 }}",
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "loops over a text": "{% for a in t %}{% for b in t %}{% for c in t %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "deep macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "kept output": "{% set x %}{% for a in range(99999) %}{{ t }}{% endfor %}{% endset %}",
    "kept text": "{% macro f() %}{% for a in range(99999) %}" + "x" * 9_999 + "{% endfor %}"
    "{% endmacro %}{{ f() | length }}",
    "doubling": "{% set ns = namespace(x=t) %}{% for a in range(99) %}{% set ns.x = ns.x + ns.x %}"
    "{% endfor %}",
    "doubling list": "{% set ns = namespace(x=[t]) %}{% for a in range(99) %}"
    "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "replace": "{{ (t * 9).replace('a', t * 9) }}",
    "join": "{{ (t * 9).join(t * 9) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "ljust": "{{ 'x'.ljust(1000000000) }}",
    "zfill": "{{ 'x'.zfill(1000000000) }}",
    "expandtabs": "{{ '\t'.expandtabs(1000000000) }}",
    "batch": "{{ [1] | batch(1000000000, 'x') | list }}",
    "indent": "{{ 'a\nb' | indent(1000000000) }}",
    "json indent": "{{ messages | tojson(indent=1000000000) * 99999 }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "shift": "{{ 99999999999999 * 99999999999999 }}",
    "lipsum": "{{ lipsum(n=1000000) }}",
    "cycler": "{{ cycler(1, 2) }}",
    "division": "{{ 1 / 0 }}",
    "class": "{{ ''.__class__.__mro__ }}",
    "class through a function": "{{ dict.__globals__.x }}",
    "class in a namespace": "{% set ns = namespace(__class__=1) %}",
    "include": "{% include 'secret' %}",
    "refused": "{{ raise_exception('no system turn') }}",
    "open": "{% for x in",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_template_ends_soon(source: str) -> None:
    began = time.thread_time()
    with pytest.raises(FAILURES):
        render_chat(source, {**VARIABLES, "t": "a" * 9_999})
    assert time.thread_time() - began < 3
