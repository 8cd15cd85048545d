"""What is wrong with a template for several candidates, or for grades."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec.prompting import check_template

Write = Callable[..., Path]
HEAD = "{# For a test. #}\n{% block system %}From 0 to 4.{% endblock %}\n{% block user %}\n"
HISTORY = "{% for past in history %}{{ past.title }};{% endfor %}"
SHOWN = "{% for item in items %}{{ item.label }} {{ item.title }}{% endfor %}"


def found(write: Write, strategy: str, body: str) -> list[tuple[str, str]]:
    path = write("", strategy=strategy, source=f"{HEAD}{body}\n{{% endblock %}}\n")
    return [(finding.level, finding.message) for finding in check_template(path)]


@pytest.mark.parametrize("strategy", ["listwise", "listwise-generated", "pairwise", "setwise"])
def test_several_candidates_are_shown_with_their_labels(
    strategy: str, write_template: Write
) -> None:
    assert found(write_template, strategy, HISTORY + SHOWN) == []
    ((level, message),) = found(write_template, strategy, HISTORY)
    assert (level, message) == ("error", f"a {strategy} template must read 'items'")
    findings = found(write_template, strategy, HISTORY + SHOWN + "{{ item.title }}")
    assert any("must not read 'item': it is rendered once for" in text for _, text in findings)


@pytest.mark.parametrize(
    "body",
    [
        "{% for item in items %}{{ item.title }}{% endfor %}",
        "{{ (items | first).label }}{% for item in items %}{{ item.title }}{% endfor %}",
    ],
)
def test_a_candidate_without_its_label_is_an_error(body: str, write_template: Write) -> None:
    ((level, message),) = found(write_template, "listwise", HISTORY + body)
    assert level == "error"
    assert "{{ item.label }}" in message


def test_candidates_before_the_history_are_a_warning(write_template: Write) -> None:
    ((level, message),) = found(write_template, "setwise", SHOWN + HISTORY)
    assert level == "warning"
    assert "shows the candidates before the end of the history" in message


def test_a_grade_needs_its_ends(write_template: Write) -> None:
    body = HISTORY + "{{ item.title }}"
    assert found(write_template, "graded", body) == []
    path = write_template(
        "",
        strategy="graded",
        source=f"{HEAD}{body}{{% endblock %}}\n".replace("From 0 to 4.", "From 1 to 5."),
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
    ((level, message),) = found(write_template, "listwise", body)
    assert level == "warning"
    assert message.startswith("numbers the candidates")


@pytest.mark.parametrize(
    "over", ["items | reverse", "items[:2]", "items | sort(attribute='title')", "these"]
)
def test_a_place_is_one_in_whatever_order_the_candidates_are(
    write_template: Write, over: str
) -> None:
    body = (
        f"{HISTORY}{{% set these = items %}}"
        f"{{% for i in {over} %}}{{{{ loop.index }}}}{{% endfor %}}"
        "{% for i in these %}{{ i.label }} {{ i.title }}{% endfor %}"
    )
    told = found(write_template, "setwise", body)
    assert any("numbers the candidates" in message for _, message in told)


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
    told = found(write_template, "listwise", body)
    assert not any("numbers the candidates" in message for _, message in told)


def test_a_history_that_looks_at_the_candidates_is_no_loop_over_them(
    write_template: Write,
) -> None:
    numbered = "{% for past in history[:items | length] %}{{ loop.index }}. {{ past.title }}"
    assert found(write_template, "listwise", f"{numbered}{{% endfor %}}{SHOWN}") == []
