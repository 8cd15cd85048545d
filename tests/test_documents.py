from __future__ import annotations

import pytest

from llmrec.documents import parse_json, parse_toml, parse_yaml
from llmrec.errors import DataError, LlmrecError, naming

LAUGHS = "a: &a [x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(20)
)


@pytest.mark.parametrize(
    "text",
    ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "-1e400", "9" * 310, "9" * 5000, "[" * 900
     + "]" * 900, "[" * 90_000, '{"a":' * 100 + "1" + "}" * 100, "{", "\x00"],
)  # fmt: skip
def test_json_outside_the_limits_is_refused(text: str) -> None:
    for given in (text, text.encode()):
        with pytest.raises(ValueError, match=r"."):
            parse_json(given)


@pytest.mark.parametrize(
    "text",
    ["a = inf", "a = [-nan]", "a = 1e999", f"a = {'9' * 400}", f"a = {'9' * 5000}",
     f"a = {'[' * 900}{']' * 900}", f"a = {'[' * 90_000}", "a"],
)  # fmt: skip
def test_toml_outside_the_limits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_toml(text)


@pytest.mark.parametrize(
    "text",
    ["a: .inf", "a: [.nan]", "a: 1.0e+999", f"a: {'9' * 400}", f"a: {'9' * 5000}", LAUGHS,
     "a: &a [*a]", "a: 1\na: 2", f"a: {'[' * 900}{']' * 900}",
     f"a: {'[' * 90_000}", "a: !!python/object/apply:os.system [ls]", "? [1]\n: 2", "\x00",
     "a: 2024-13-45", LAUGHS.replace("[", "{<<: [").replace("]", "]}").replace("[x]", "{x: 1}")],
)  # fmt: skip
def test_yaml_outside_the_limits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_yaml(text)


def test_what_is_within_the_limits_is_read() -> None:
    assert parse_json('{"a": [1, -2.5, "NaN", 1e308]}') == {"a": [1, -2.5, "NaN", 1e308]}
    assert parse_json("[" * 60 + "]" * 60)
    assert parse_json("[Infinity]", finite=False) == [float("inf")]
    assert parse_toml("a = 1.5\n[b]\nc = ['x']") == {"a": 1.5, "b": {"c": ["x"]}}
    assert parse_yaml("a: 1\nb: [x, null]") == {"a": 1, "b": ["x", None]}
    assert parse_yaml("a: &a {b: 1}\nc: {<<: *a}") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("raised", "said"),
    [(ValueError("odd."), "x: odd."), (KeyError("a"), "x: 'a' is missing."), (TypeError(), "x: T"),
     (RecursionError("deep"), "x: deep."), (OSError(28, "No space"), "x: No space.")],
)  # fmt: skip
def test_whatever_is_raised_becomes_an_error_with_the_file(raised: Exception, said: str) -> None:
    with pytest.raises(DataError) as caught, naming("x", DataError, hint="Do this."):
        raise raised
    assert caught.value.message.startswith(said)
    assert caught.value.hint == "Do this."


def test_interruptions_and_errors_of_llmrec_pass() -> None:
    for raised in (KeyboardInterrupt(), LlmrecError("as it is")):
        with pytest.raises(type(raised)) as caught, naming("x", DataError):
            raise raised
        assert caught.value is raised
