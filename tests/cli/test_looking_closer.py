"""``data check``, ``prompts``, ``models`` and ``doctor``: commands that need no index."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from llmrec.catalog import sample_folder
from llmrec.models import DEFAULT_LANGUAGE_MODEL, DEFAULT_TEXT_ENCODER, OFFLINE_IMAGE_MODEL
from llmrec.prompting import DEFAULT_TEMPLATES, list_templates
from llmrec.records import Prompt
from tests.cli.calls import Document, Run


@pytest.fixture
def broken_data(tmp_path: Path) -> Path:
    """The sample with three broken rows."""
    folder = tmp_path / "broken"
    shutil.copytree(sample_folder(), folder)
    with (folder / "interactions.csv").open("a", encoding="utf-8") as file:
        file.write("u01,no-such-item,4,1704539905\nu01,k03,nan,1704539905\nu01,,4,1704539905\n")
    return folder


@pytest.mark.parametrize("columns", [80, 120])
def test_data_check_of_the_sample_is_clean(run: Run, document: Document, columns: int) -> None:
    ended = run("data", "check", sample_folder(), columns=columns)
    assert ended.returncode == 0
    assert "items            80 " in ended.stdout
    assert "Nothing is broken." in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= columns
    found = document(run("data", "check", sample_folder(), "--json"))
    assert (found["whole"], found["report"]["problems"]) == (True, [])
    assert found["report"]["counts"]["items"] == 80


def test_data_check_lists_broken_rows_and_ends_with_1(
    run: Run, document: Document, broken_data: Path
) -> None:
    ended = run("data", "check", broken_data)
    assert ended.returncode == 1
    assert "no-such-item" in ended.stdout
    assert "3 broken" in ended.stdout
    some = run("data", "check", broken_data, "--rows", 1)
    assert "3 broken, 2 not shown" in some.stdout
    assert "nan" not in some.stdout
    found = document(run("data", "check", broken_data, "--json"))
    assert [problem["row"] for problem in found["report"]["problems"]] == [248, 249, 250]


def test_data_check_reads_a_column_map(run: Run, tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text("id,name\n1,Alien\n", encoding="utf-8")
    names = tmp_path / "columns.json"
    names.write_text('{"items": {"file": "films.csv", "columns": {"item_id": "id"}}}')
    assert run("data", "check", tmp_path, "--columns", names).returncode == 0
    names.write_text('{"itmes": {}}')
    ended = run("data", "check", tmp_path, "--columns", names)
    assert ended.returncode == 1
    assert "itmes" in ended.stderr


@pytest.mark.parametrize("columns", [80, 120])
def test_prompts_list_marks_the_default_of_each_strategy(run: Run, columns: int) -> None:
    ended = run("prompts", "list", columns=columns)
    assert all(f"{name} * " in ended.stdout for name in DEFAULT_TEMPLATES.values())
    assert max(map(len, ended.stdout.splitlines())) <= columns
    only = run("prompts", "list", "pointwise")
    assert f"{DEFAULT_TEMPLATES['pointwise']} *" in only.stdout
    assert "likelihood" not in only.stdout


def test_prompts_list_document(run: Run, document: Document) -> None:
    templates = document(run("prompts", "list", "--json"))["templates"]
    assert [each["name"] for each in templates] == [each.name for each in list_templates()]
    assert sum(each["default"] for each in templates) == len(set(DEFAULT_TEMPLATES.values()))


def test_prompts_list_of_no_strategy(run: Run) -> None:
    ended = run("prompts", "list", "pointwse")
    assert ended.returncode == 1
    assert "Did you mean 'pointwise'" in ended.stderr


def test_prompts_show_prints_the_prompt_as_it_is(run: Run, document: Document) -> None:
    found = document(run("prompts", "show", "pointwise/plain-list", "--json"))
    assert found["tokens"] is None
    shown = run("prompts", "show", "pointwise/plain-list", columns=40).stdout
    assert found["prompt"]["system"] in shown
    assert found["prompt"]["user"] in shown
    plain = document(run("prompts", "show", "likelihood/list", "--json"))["prompt"]
    assert plain["text"] in run("prompts", "show", "likelihood/list").stdout


def test_prompts_show_counts_a_models_tokens(
    run: Run, document: Document, smollm2_folder: Path
) -> None:
    words = ("prompts", "show", "pointwise/plain-list", "--model", smollm2_folder)
    tokens = document(run(*words, "--json"))["tokens"]
    assert 80 < tokens < 140
    assert f"{tokens} tokens" in run(*words).stdout


def test_prompts_check_accepts_shipped_templates(run: Run, document: Document) -> None:
    ended = run("prompts", "check", "likelihood/list", "--json")
    assert ended.returncode == 0
    assert document(ended)["usable"] is True


def test_prompts_check_names_the_line_of_an_unknown_variable(
    run: Run, document: Document, tmp_path: Path
) -> None:
    template = tmp_path / "pointwise" / "mine.jinja"
    template.parent.mkdir()
    template.write_text(
        "{% block system %}\nSay Yes or No.\n{% endblock %}\n"
        "{% block user %}\n{{ itme.title }}\n{% endblock %}\n"
    )
    ended = run("prompts", "check", template, "--json")
    assert ended.returncode == 1
    found = document(ended)
    assert found["usable"] is False
    assert any(each["line"] == 5 and "itme" in each["message"] for each in found["findings"])
    shown = run("prompts", "check", template)
    assert shown.returncode == 1
    assert "cannot be used" in " ".join(shown.stdout.split())
    assert "itme" in shown.stdout
    assert run("prompts", "check", tmp_path / "absent.jinja").returncode == 1


def test_prompts_check_counts_a_models_tokens_and_labels(
    run: Run, document: Document, smollm2_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pointwise/plain-list", "graded/plain-list", "listwise/plain-list"):
        ended = run("prompts", "check", name, "--model", smollm2_folder, "--json")
        assert document(ended) == {"template": name, "usable": True, "findings": []}

    def words_of_many_tokens(_: str, **_how: object) -> _Words:
        return _Words()

    monkeypatch.setattr("llmrec.models.references.load_reader", words_of_many_tokens)
    for name, part in (
        ("pointwise/plain-list", "no single token for 'Yes'"),
        ("graded/plain-list", "no single token for '0'"),
        ("listwise/plain-list", "no 26 letters or numbers that are one token each"),
    ):
        ended = run("prompts", "check", name, "--model", "words", "--json")
        assert ended.returncode == 1
        (finding,) = document(ended)["findings"]
        assert part in finding["message"]
    assert run("prompts", "check", "likelihood/list", "--model", "words").returncode == 0


@dataclass
class _Words:
    """A tokenizer that has two tokens for every letter."""

    special_tokens: tuple[str, ...] = ()
    max_length = 2048
    max_rows = 1024

    def encode(self, text: str) -> list[int]:
        return [0, 1] * len(text)

    def cut(self, text: str, n_tokens: int) -> str:
        return text[: n_tokens // 2]

    def count_tokens(self, prompts: Sequence[Prompt]) -> list[int]:
        return [len(self.encode(prompt.text or prompt.system + prompt.user)) for prompt in prompts]


def test_models_list_shows_cached_models(
    run: Run, document: Document, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LLMREC_CACHE", str(tmp_path))
    found = document(run("models", "list", "--json"))
    assert found["cache"] == str(tmp_path)
    assert [each["name"] for each in found["models"]][:1] == ["smollm2-135m-instruct"]
    assert not any(each["on_disk"] for each in found["models"])
    assert "smollm2-135m-instruct" in run("models", "list").stdout


def test_models_fetch_puts_models_on_the_disk(
    run: Run, document: Document, smollm2_folder: Path, minilm_folder: Path
) -> None:
    found = document(run("models", "fetch", "--json"))["models"]
    asked = [each["asked"] for each in found]
    assert asked == [DEFAULT_LANGUAGE_MODEL, DEFAULT_TEXT_ENCODER, OFFLINE_IMAGE_MODEL]
    assert [each["path"] for each in found[:2]] == [str(smollm2_folder), str(minilm_folder)]
    assert str(minilm_folder) in run("models", "fetch", minilm_folder).stdout.replace("\n", "")
    ended = run("models", "fetch", "smolm2-135m-instruct")
    assert ended.returncode == 1
    assert "Did you mean 'smollm2-135m-instruct'" in ended.stderr


@pytest.mark.parametrize("columns", [80, 120])
def test_doctor_shows_device_and_reasons(run: Run, document: Document, columns: int) -> None:
    ended = run("doctor", columns=columns)
    assert ended.returncode == 0
    for word in ("Processor", "Memory", "GPU", "Device", "Dtype", "Quantization", "Why"):
        assert f"{word} " in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= columns
    found = document(run("doctor", "--device", "cpu", "--quantization", "nf4", "--json"))
    placement = found["placement"]
    assert (placement["device"], placement["quantization"]) == ("cpu", "nf4")
    assert placement["reasons"]
    assert found["machine"]["memory"] > 2**30
    assert found["packages"]["torch"] == version("torch")


def test_doctor_lists_missing_packages_and_commands(
    run: Run, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"matplotlib", "bitsandbytes"}

    def some(name: str) -> str:
        if name in absent:
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("llmrec.cli.doctor.version", some)
    ended = run("doctor", "--json")
    assert ended.returncode == 1  # bitsandbytes is no extra
    missing = {each["name"]: each["command"] for each in document(ended)["missing"]}
    assert missing == {
        "bitsandbytes": "pip install bitsandbytes",
        "matplotlib": "pip install 'llmrec[eval]'",
    }
    assert "pip install 'llmrec[eval]'" in run("doctor").stdout
    absent.remove("bitsandbytes")
    assert run("doctor").returncode == 0
