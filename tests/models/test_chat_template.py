"""What chat templates do to prompts, and what is done about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
import pytest

from llmrec.errors import ModelError
from llmrec.models.chat_template import ChatTemplate, Turn
from llmrec.models.prompt_tokenizer import PromptTokenizer, load_tokenizer
from llmrec.models.resolve import ModelFolder
from llmrec.records import Prompt

PROMPT = Prompt("Answer Yes or No only.", "Is fire hot?")
TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}"
ANSWER = "{% if add_generation_prompt %}<assistant>{% endif %}"
GOOD = TURNS + ANSWER
RENDERED = "<system>Answer Yes or No only.<end>\n<user>Is fire hot?<end>\n<assistant>"
MOVED = "<user>Answer Yes or No only.\n\nIs fire hot?<end>\n<assistant>"
USERS = "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}<end>\n"
NO_SYSTEM = USERS + "{% endif %}{% endfor %}" + ANSWER


def chat(source: str) -> ChatTemplate:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment.globals["raise_exception"] = refuse

    def apply(turns: Sequence[Turn], answer: bool) -> str:
        template = environment.from_string(source)
        return template.render(messages=turns, add_generation_prompt=answer)

    return ChatTemplate("m", apply)


@pytest.mark.parametrize(
    "source",
    [
        NO_SYSTEM,
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + GOOD,
        "{% if messages[0].role == 'system' %}{% set messages = messages[1:] %}{% endif %}" + GOOD,
        NO_SYSTEM.replace("m.content", "m.content[0].text"),
        NO_SYSTEM.replace("{{ m.content }}", "{% for c in m.content %}{{ c.text }}{% endfor %}"),
    ],
)
def test_system_text_that_would_be_lost_goes_into_the_users_turn(source: str) -> None:
    assert chat(source).render(PROMPT) == MOVED
    assert any("has no system turn" in note for note in chat(source).notes)


def test_a_template_that_keeps_everything_is_not_touched() -> None:
    assert chat(GOOD).render(PROMPT) == RENDERED
    assert chat(GOOD).notes == ()
    assert chat(GOOD).render(Prompt("", "Hi")) == "<user>Hi<end>\n<assistant>"
    trimmed = GOOD.replace("m.content", "m.content | trim")
    assert chat(trimmed).notes == ()
    assert chat(trimmed).render(Prompt("", " Hi\n")) == "<user>Hi<end>\n<assistant>"


@pytest.mark.parametrize(
    "source",
    [
        "<user>",
        "{% for m in messages %}{{ m.content[:9] }}{% endfor %}",
        "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}",
        "{{ messages[3].content }}",
        "{{ 'x' + 1 }}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_that_loses_the_prompt_is_refused(source: str) -> None:
    with pytest.raises(ModelError, match=r"The chat template of m .*plain-text template"):
        chat(source).render(PROMPT)
    assert "Only plain-text templates can be used" in chat(source).notes[0]


def test_only_the_prompt_that_is_cut_is_refused() -> None:
    cuts = chat(GOOD.replace("m.content", "m.content[:40]"))
    assert cuts.notes == ()
    assert cuts.render(PROMPT) == RENDERED
    with pytest.raises(ModelError, match="loses text of the prompt"):
        cuts.render(Prompt("", "word " * 20))


@pytest.mark.parametrize(
    ("beginning", "used"),
    [
        ("<assistant>", "<assistant>"),
        ("", "<assistant>"),
        ("<assistant><end>\n<assistant>", "<assistant>"),
        ("<assistant><assistant>", "<assistant>"),
        ("<assistant><think>", "<assistant><think>\n\n</think>\n\n"),
        ("<assistant>\n<think>\n", "<assistant>\n<think>\n\n</think>\n\n"),
        ("<assistant><think>\n\n</think>\n\n", "<assistant><think>\n\n</think>\n\n"),
        ("<assistant>[THINK]", "<assistant>[THINK]\n\n[/THINK]\n\n"),
        (
            "<assistant><|START_THINKING|>",
            "<assistant><|START_THINKING|>\n\n<|END_THINKING|>\n\n",
        ),
    ],
)
def test_the_answer_begins_where_the_assistant_speaks(beginning: str, used: str) -> None:
    source = TURNS + "{% if add_generation_prompt %}" + beginning + "{% endif %}"
    made = chat(source)
    expected = RENDERED.removesuffix("<assistant>") + used
    assert made.render(PROMPT).split() == expected.split()
    assert any("is used instead" in note for note in made.notes) == (beginning != used)


def test_a_final_channel_is_opened() -> None:
    turn = "{% if m.role == 'assistant' %}<channel>final<message>{% endif %}{{ m.content }}"
    made = chat(GOOD.replace("{{ m.content }}", turn))
    assert made.render(PROMPT) == RENDERED + "<channel>final<message>"


@pytest.mark.parametrize(
    ("source", "note"),
    [
        (GOOD.replace("m.content", "m.content | lower"), "changes the user text"),
        (GOOD.replace("m.content", "m.content.split() | join('\n')"), "changes the system text"),
        (TURNS + GOOD, "repeats the user text"),
        ("<assistant><end>\n" + GOOD, "empty assistant turn"),
        (
            "{% if messages[0].role != 'system' %}<system><end>\n{% endif %}" + GOOD,
            "empty system turn",
        ),
    ],
)
def test_other_changes_are_noted(source: str, note: str) -> None:
    made = chat(source)
    assert any(note in each for each in made.notes)
    made.render(PROMPT)


def test_brackets_that_are_no_header_are_no_fault() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }}</s>"
        "{% else %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
    )
    made = chat(source)
    assert made.render(Prompt("", "Hi")) == "[INST] Hi [/INST]"
    assert made.turn_end == "</s>"
    assert len(made.notes) == 1


@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>", "<file_sep>"])
def test_the_token_after_an_assistants_turn_ends_an_answer(smollm2_folder: Path, end: str) -> None:
    tokenizer = load_tokenizer(ModelFolder(smollm2_folder, "m", "0"))
    tokenizer.chat_template = GOOD.replace("<end>", end)
    tokens = PromptTokenizer(tokenizer, "m").end_tokens()
    assert set(tokens) == {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(end)}


def test_prompts_do_not_depend_on_the_date(smollm2_folder: Path) -> None:
    tokenizer = load_tokenizer(ModelFolder(smollm2_folder, "m", "0"))
    tokenizer.chat_template = "{{ strftime_now('%d %B %Y') }}\n" + GOOD
    reader = PromptTokenizer(tokenizer, "m")
    text = tokenizer.decode(reader.encode_prompts([PROMPT])[0].tolist())
    assert text == "1 January 2025\n" + RENDERED
