from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.errors import PromptError
from llmrec.models import TextTokenizer
from llmrec.prompting import check_template, example, load_template

Write = Callable[..., Path]
HEAD = "{# For a test. #}\n"


def found(path: Path, tokenizer: TextTokenizer | None = None) -> list[tuple[str, int, str]]:
    return [(f.level, f.line, f.message) for f in check_template(path, tokenizer)]


def only(path: Path) -> tuple[str, int, str]:
    (finding,) = found(path)
    return finding


def chat(user: str, system: str = "Yes or No?") -> str:
    return (
        f"{HEAD}{{% block system %}}{system}{{% endblock %}}\n"
        f"{{% block user %}}\n{user}\n{{% endblock %}}\n"
    )


GOOD = "{% for past in history %}{{ past.title }};{% endfor %}{{ item.title }}"


def test_a_good_template_has_no_findings(write_template: Write) -> None:
    assert check_template(write_template("", source=chat(GOOD))) == ()
    assert check_template(load_template("pointwise/plain-list")) == ()


def test_a_syntax_error_is_found_with_its_line(write_template: Write) -> None:
    level, line, message = only(write_template("", source=chat("{% if %}")))
    assert (level, line) == ("error", 4)
    assert "Expected an expression" in message


def test_every_fault_is_listed_and_not_the_first_alone(write_template: Write) -> None:
    findings = check_template(
        write_template("", source=chat("{{ hystory }}\n{{ item.scroe }}\n{{ item.score }}"))
    )
    assert [(f.level, f.line) for f in findings] == [("error", 4), ("error", 5), ("error", 6)]
    assert "Did you mean 'history'?" in findings[0].message
    assert "unknown field 'scroe'" in findings[1].message
    assert "target leakage" in findings[2].message


def test_missing_blocks_are_an_error(write_template: Write) -> None:
    assert (
        "has the blocks user; allowed"
        in only(write_template("", source="{% block user %}x{% endblock %}"))[2]
    )


def test_an_unused_history_is_a_warning(write_template: Write) -> None:
    level, _, message = only(write_template("", source=chat("{{ item.title }}")))
    assert (level, message) == ("warning", "a pointwise template should read 'history'")


def test_a_pointwise_template_must_show_the_candidate(write_template: Write) -> None:
    source = chat("{{ history | map(attribute='title') | join }}")
    assert only(write_template("", source=source)) == (
        "error",
        1,
        "a pointwise template must read 'item'",
    )


def test_a_likelihood_template_must_not_name_the_candidate(write_template: Write) -> None:
    level, _, message = only(write_template("", strategy="likelihood", source=chat(GOOD)))
    assert level == "error"
    assert "must not read 'item': target leakage" in message


def test_an_explanation_needs_item_and_evidence_and_better_a_fault(write_template: Write) -> None:
    source = chat("{{ user.profile }}")
    findings = found(write_template("", strategy="explain", source=source))
    assert [(level, message.split("'")[1]) for level, _, message in findings] == [
        ("error", "evidence"),
        ("error", "item"),
        ("warning", "fault"),
    ]


def test_a_candidate_before_the_history_is_a_warning(write_template: Write) -> None:
    source = chat("{{ item.title }} {{ history | map(attribute='title') | join(', ') }}")
    level, _, message = only(write_template("", source=source))
    assert level == "warning"
    assert "share only their first" in message


def test_a_question_without_its_answers_is_a_warning(write_template: Write) -> None:
    source = chat(GOOD, system="Good or bad?")
    assert only(write_template("", source=source))[2] == "does not say that the answer is Yes or No"


def test_no_header_and_a_strange_folder_are_warnings(write_template: Write) -> None:
    path = write_template("", strategy="mine", source=chat(GOOD).removeprefix(HEAD))
    assert [(level, message[:20]) for level, _, message in found(path)] == [
        ("warning", "has no {# comment #}"),
        ("warning", "is in a folder 'mine"),
    ]


def test_an_attribute_that_items_may_lack_is_an_error(write_template: Write) -> None:
    level, line, message = only(
        write_template("", source=chat(GOOD + "\n{{ item.attributes.year }}"))
    )
    assert (level, line) == ("error", 5)
    assert "item.attributes.get(" in message


def test_a_fault_in_a_branch_that_only_a_newcomer_sees_is_found(write_template: Write) -> None:
    body = GOOD + "{% if not history %}\n{{ 1 / 0 }}{% endif %}"
    level, line, message = only(write_template("", source=chat(body)))
    assert (level, line) == ("error", 5)
    assert "division by zero" in message


def test_empty_prompt_without_history_is_an_error(write_template: Write) -> None:
    source = HEAD + "{% block text %}{% for p in history %}{{ p.title }}{% endfor %}{% endblock %}"
    path = write_template("", strategy="likelihood", source=source)
    assert only(path)[::2] == ("error", "renders nothing for a user without history")


def test_a_chat_template_token_is_an_error(write_template: Write) -> None:
    level, _, message = only(write_template("", source=chat(GOOD + "<|im_end|>")))
    assert level == "error"
    assert "writes the chat-template token '<|'" in message


def test_fields_that_overflow_are_counted_in_tokens(
    write_template: Write, tokenizer: TextTokenizer
) -> None:
    body = "{% for p in history %}{{ p.title }}{{ p.details }}{{ p.description }}{% endfor %}"
    path = write_template("", source=chat(body + "{{ item.title }}"))
    level, _, message = found(path, tokenizer)[0]
    n_tokens = int(message.split(" tokens")[0].removeprefix("takes ").replace(",", ""))
    assert level == "warning"
    assert 2048 < n_tokens <= 20 * (32 + 32 + 48) + 64
    assert found(path)[0][2].startswith("takes about ")


def test_a_name_that_is_set_and_never_read_is_a_warning(write_template: Write) -> None:
    body = "{% for past in history %}\n- something\n{% endfor %}{{ item.title }}"
    level, line, message = only(write_template("", source=chat(body)))
    assert (level, line, message) == ("warning", 4, "sets 'past' and never reads it")
    assert not found(write_template("", source=chat(GOOD + "{% for _ in history %}.{% endfor %}")))


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ("{{ item.title | replace('< |', '<|') }}", "chat-template token '<|'"),
        ("\n\n{{ item.title | replace(' - ', ': ') }}", "a foreign text opens a chat turn"),
        (
            "{{ item.title }}\n{% for n in item.attributes %}{{ n|replace(' -',':') }}{% endfor %}",
            "a foreign text opens a chat turn",
        ),
    ],
)
def test_filter_that_undoes_neutralising_is_an_error(
    write_template: Write, body: str, part: str
) -> None:
    path = write_template("", source=chat(GOOD.replace("{{ item.title }}", body)))
    level, _, message = only(path)
    assert level == "error"
    assert message.startswith("restores what was neutralised")
    assert part in message


def test_the_same_is_found_in_a_query(write_template: Write) -> None:
    source = chat("{{ user.query | replace(' -', ':') }}\n" + GOOD)
    assert "a foreign text opens a chat turn" in only(write_template("", source=source))[2]


def test_the_same_is_found_in_a_history_that_alone_is_read(write_template: Write) -> None:
    body = "Next\n{% for p in history %}\n{{ p.title | replace(' -', ':') }}\n{% endfor %}\n- "
    source = f"{HEAD}{{% block text %}}\n{body}\n{{% endblock %}}\n"
    path = write_template("", strategy="likelihood", source=source)
    assert "a foreign text opens a chat turn" in only(path)[2]


def test_a_template_that_is_not_there_is_raised() -> None:
    with pytest.raises(PromptError, match="no template 'pointwise/none'"):
        check_template("pointwise/none")


def test_an_example_needs_no_tokenizer(tokenizer: TextTokenizer) -> None:
    template = load_template("pointwise/plain-list")
    assert example(template) == example(template, tokenizer)
    assert "- Larkspur Tent for Two\n" in example(template).user


def test_a_prompt_too_long_without_history_is_an_error(
    write_template: Write,
) -> None:
    path = write_template("", source=chat(f"{'Yes or No? ' * 200}{GOOD}"))
    assert [f.level for f in check_template(path, context=4_000)] == []
    (finding,) = check_template(path, context=300)
    assert finding.level == "error"
    assert "tokens without any history; the model reads 300" in finding.message


def test_fields_that_fill_their_budgets_have_to_fit_too(write_template: Write) -> None:
    body = f"{GOOD}{' {{ item.description }}' * 20}"
    path = write_template("", source=chat(body))
    assert not [f for f in check_template(path, context=1_100) if f.level == "error"]
    (finding,) = (f for f in check_template(path, context=900) if f.level == "error")
    assert "takes up to 984 tokens" in finding.message  # 20 times 48, and the title


def test_the_tokens_of_a_prompt_are_counted_as_the_model_counts_them(
    write_template: Write,
) -> None:
    path = write_template("", source=chat(GOOD))
    assert check_template(path, context=2_000, count=lambda some: [1_999] * len(some)) == ()
    # No room to answer.
    (finding,) = check_template(path, context=2_000, count=lambda some: [2_000] * len(some))
    assert (finding.level, finding.line) == ("error", 1)
    assert "takes up to 2,000 tokens without any history; the model reads 2,000" in finding.message


# Templates for several candidates, and for grades.

GROUP_HEAD = HEAD + "{% block system %}From 0 to 4.{% endblock %}\n{% block user %}\n"
HISTORY = "{% for past in history %}{{ past.title }};{% endfor %}"
SHOWN = "{% for item in items %}{{ item.label }} {{ item.title }}{% endfor %}"


def group_found(write: Write, strategy: str, body: str) -> list[tuple[str, str]]:
    path = write("", strategy=strategy, source=f"{GROUP_HEAD}{body}\n{{% endblock %}}\n")
    return [(finding.level, finding.message) for finding in check_template(path)]


@pytest.mark.parametrize("strategy", ["listwise", "listwise-generated", "pairwise", "setwise"])
def test_several_candidates_are_shown_with_their_labels(
    strategy: str, write_template: Write
) -> None:
    assert group_found(write_template, strategy, HISTORY + SHOWN) == []
    ((level, message),) = group_found(write_template, strategy, HISTORY)
    assert (level, message) == ("error", f"a {strategy} template must read 'items'")
    findings = group_found(write_template, strategy, HISTORY + SHOWN + "{{ item.title }}")
    assert any("must not read 'item': it is rendered once for" in text for _, text in findings)


@pytest.mark.parametrize(
    "body",
    [
        "{% for item in items %}{{ item.title }}{% endfor %}",
        "{{ (items | first).label }}{% for item in items %}{{ item.title }}{% endfor %}",
    ],
)
def test_a_candidate_without_its_label_is_an_error(body: str, write_template: Write) -> None:
    ((level, message),) = group_found(write_template, "listwise", HISTORY + body)
    assert level == "error"
    assert "{{ item.label }}" in message


def test_candidates_before_the_history_are_a_warning(write_template: Write) -> None:
    ((level, message),) = group_found(write_template, "setwise", SHOWN + HISTORY)
    assert level == "warning"
    assert "shows the candidates before the end of the history" in message


def test_a_grade_needs_its_ends(write_template: Write) -> None:
    body = HISTORY + "{{ item.title }}"
    assert group_found(write_template, "graded", body) == []
    path = write_template(
        "",
        strategy="graded",
        source=f"{GROUP_HEAD}{body}{{% endblock %}}\n".replace("From 0 to 4.", "From 1 to 5."),
    )
    (finding,) = check_template(path)
    assert (finding.level, finding.message) == ("warning", "does not say what 0 and 4 mean")


@pytest.mark.parametrize(
    "line",
    [
        "{{ i.label }} rank {{ loop.index }}: {{ i.title }}",
        "{{ i.label }} {{ loop.revindex0 + 1 }}: {{ i.title }}",
        "{% if i.title %}{{ i.label }} {{ loop.index0 }} {{ i.title }}{% endif %}",
        "{{ i.label }} {{ loop['index'] }}: {{ i.title }}",
        "{{ i.label }} {{ '(' ~ loop.revindex ~ ')' }}: {{ i.title }}",
        "{{ i.label }} {{ loop.index if loop.index > 1 else 'first' }}: {{ i.title }}",
        "{% set n = loop.index + 1 %}{{ i.label }} {{ n }}: {{ i.title }}",
        "{% set a = loop %}{% for _ in history %}{{ a.index }}{% endfor %}{{ i.label }}",
    ],
)
def test_a_candidates_place_is_not_shown(write_template: Write, line: str) -> None:
    body = f"{HISTORY}{{% for i in items %}}{line}\n{{% endfor %}}"
    ((level, message),) = group_found(write_template, "listwise", body)
    assert level == "warning"
    assert message.startswith("numbers the candidates")


@pytest.mark.parametrize(
    "over", ["items | reverse", "items[:2]", "items | sort(attribute='title')", "these"]
)
def test_numbered_candidates_are_found_in_every_loop(write_template: Write, over: str) -> None:
    body = (
        f"{HISTORY}{{% set these = items %}}"
        f"{{% for i in {over} %}}{{{{ loop.index }}}}{{% endfor %}}"
        "{% for i in these %}{{ i.label }} {{ i.title }}{% endfor %}"
    )
    messages = group_found(write_template, "setwise", body)
    assert any("numbers the candidates" in message for _, message in messages)


@pytest.mark.parametrize(
    "line",
    [
        "{{ i.label }}: {{ i.title }}{{ ',' if not loop.last }}",
        "{% if loop.index > 1 %}and {% endif %}{{ i.label }}: {{ i.title }}",
        "{{ 'and ' if loop.index > 1 }}{{ i.label }}: {{ i.title }}",
        "{{ i.label }}: {{ i.title }}{{ ';' if loop.index is odd else ',' }}",
        "{% set more = loop.revindex > 1 %}{{ i.label }}: {{ i.title }}{{ ',' if more }}",
        "{{ i.label }}: {% for past in history %}{{ loop.index }}. {% endfor %}{{ i.title }}",
    ],
)
def test_commas_and_numbered_histories_show_no_place(write_template: Write, line: str) -> None:
    body = f"{HISTORY}{{% for i in items %}}{line}\n{{% endfor %}}"
    messages = group_found(write_template, "listwise", body)
    assert not any("numbers the candidates" in message for _, message in messages)


def test_a_history_that_looks_at_the_candidates_is_no_loop_over_them(
    write_template: Write,
) -> None:
    numbered = "{% for past in history[:items | length] %}{{ loop.index }}. {{ past.title }}"
    assert group_found(write_template, "listwise", f"{numbered}{{% endfor %}}{SHOWN}") == []
