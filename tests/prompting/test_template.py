from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.errors import PromptError
from llmrec.prompting import (
    example,
    list_templates,
    load_template,
    prompts_folder,
    template,
)

Write = Callable[..., Path]


def test_template_has_name_and_hash() -> None:
    template = load_template("likelihood/list")
    source = (prompts_folder() / "likelihood" / "list.jinja").read_bytes()
    assert template.name == "likelihood/list"
    assert template.strategy == "likelihood"
    assert template.source == source.decode()
    assert template.sha256 == hashlib.sha256(source).hexdigest()
    assert template.blocks == ("text",)
    assert template.variables == {"history"}
    assert template.summary == "A list that simply goes on."


def test_a_file_is_a_template_of_the_strategy_its_folder_names(write_template: Write) -> None:
    path = write_template("Would {{ item.title }} do?")
    template = load_template(str(path))
    assert (template.name, template.strategy) == ("pointwise/own", "pointwise")
    assert template == load_template(path)
    assert template.summary == ""


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(PromptError, match="no template 'likelihod/list'") as caught:
        load_template("likelihod/list")
    assert "'likelihood/list'" in caught.value.hint


def test_a_name_cannot_leave_the_folder() -> None:
    with pytest.raises(PromptError, match="There is no template"):
        load_template("../prompts/likelihood/list")


def test_an_unknown_strategy_gets_the_nearest() -> None:
    with pytest.raises(PromptError, match="explain, graded, likelihood, listwise") as caught:
        list_templates("pointwize")
    assert "'pointwise'" in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"no template file .*gone\.jinja"):
        load_template(tmp_path / "gone.jinja")


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.jinja"
    path.write_bytes(b"{% block text %}caf\xe9{% endblock %}")
    with pytest.raises(PromptError, match=r"latin\.jinja cannot be read"):
        load_template(path)


def test_templates_of_a_wheel_come_before_a_checkouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = tmp_path / "llmrec" / "prompting"
    room.mkdir(parents=True)
    monkeypatch.setattr(template, "__file__", str(room / "template.py"))
    with pytest.raises(PromptError, match="templates of llmrec are missing"):
        prompts_folder()
    checkout = tmp_path / "prompts"
    checkout.mkdir()
    assert prompts_folder() == checkout.resolve()
    wheel = tmp_path / "llmrec" / "_prompts"
    wheel.mkdir()
    assert prompts_folder() == wheel.resolve()


SYSTEM = "{% block system %}Answer.{% endblock %}"
BROKEN = {
    "{% block text %}\n{% for past in history %}\n{% endblock %}": r"line 3: .*endblock",
    "{% block text %}\n{{ 'a' | shuffle }}{% endblock %}": r"line 2: No filter named 'shuffle'",
    "{% block text %}{{ 1 is sunny }}{% endblock %}": r"line 1: No test named 'sunny'",
    "Hello {{ user.profile }}": "has the blocks none; allowed are system and user",
    SYSTEM: "has the blocks system; allowed are",
    SYSTEM + "{% block text %}x{% endblock %}": "has the blocks system, text; allowed are",
    SYSTEM
    + "{% block user %}x{% endblock %}\n\nloose words": r"line \d: only comments may stand outside",
    "{% set x = 1 %}{% block text %}{{ x }}{% endblock %}": "only comments may stand outside",
    "{% block text %}a{% endblock %}{% block text %}b{% endblock %}": "block 'text' defined twice",
    "{% block text %}\n\n{{ hystory }}{% endblock %}": (
        r"line 3: unknown variable 'hystory'; allowed are user, history, .*Did you mean 'history'"
    ),
    "{% block text %}{{ user.profil }}{% endblock %}": (
        "unknown field 'profil'; allowed are profile.*Did you mean 'profile'"
    ),
    "{% block text %}{% for h in history %}{{ h.titel }}{% endfor %}{% endblock %}": (
        "unknown field 'titel'; allowed are title, details, .*Did you mean 'title'"
    ),
    "{% block text %}{{ (history | selectattr('liked') | last).name }}{% endblock %}": (
        "unknown field 'name'"
    ),
    "{% block text %}{{ history | map(attribute='titel') | join }}{% endblock %}": (
        "unknown field 'titel'"
    ),
    "{% block text %}{{ history | selectattr('licked') | list }}{% endblock %}": (
        "unknown field 'licked'.*Did you mean 'liked'"
    ),
    "{% block text %}{{ history[-1].score }}{% endblock %}": "unknown field 'score'",
    "{% block text %}{{ item.score }}{% endblock %}": "target leakage: a candidate's 'score'",
    "{% block text %}{% for i in items %}{{ i.rating }}{% endfor %}{% endblock %}": (
        "target leakage: a candidate's 'rating'"
    ),
    "{% block text %}{% set first = items[0] %}{{ first.rank }}{% endblock %}": (
        "target leakage: a candidate's 'rank'"
    ),
}


@pytest.mark.parametrize("source", sorted(BROKEN))
def test_a_broken_template_is_refused_when_it_is_loaded(source: str, write_template: Write) -> None:
    path = write_template("", source=source)
    with pytest.raises(PromptError, match=BROKEN[source]) as caught:
        load_template(path)
    assert str(path) in str(caught.value)


def test_block_drops_only_its_outer_line_breaks(
    write_template: Write,
) -> None:
    source = "{% block text %}\n\n  a \n\tb\n\n\n{% endblock %}\n"
    template = load_template(write_template("", source=source))
    assert example(template).text == "\n  a \n\tb\n\n"


def test_windows_line_ends_are_line_breaks(write_template: Write) -> None:
    source = "{% block text %}\r\na\r\nb\r\n{% endblock %}\r\n"
    assert example(load_template(write_template("", source=source))).text == "a\nb"
