"""Bad input on the command line: a clear message, the right status, and no model is loaded."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llmrec.catalog import sample_folder
from llmrec.retrieval import Index
from tests.cli.calls import Document, Run, said


@pytest.fixture(autouse=True)
def _no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be refused is refused before a model is loaded."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("llmrec.models.transformers_model._load", refuse)


@pytest.mark.parametrize("words", [("data", "check"), ("index", "--out", "out")], ids=" ".join)
def test_a_missing_data_folder(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    ended = run(*words, tmp_path / "absent")
    assert ended.returncode == 1
    assert "does not exist" in said(ended)


def test_a_missing_column_map(run: Run, tmp_path: Path) -> None:
    ended = run("data", "check", sample_folder(), "--columns", tmp_path / "absent.json")
    assert ended.returncode == 1
    assert "column map" in said(ended)


@pytest.mark.parametrize(
    "words",
    [
        ("recommend", "--user", "u01"),
        ("rerank", "--user", "u01", "--candidates", "o29"),
        ("explain", "--user", "u01", "--item", "o29"),
        ("fit",),
    ],
    ids=lambda words: str(words[0]),
)
def test_a_damaged_index_is_refused_by_the_file_s_name(
    run: Run, document: Document, plain_index: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    absent = run(*words, tmp_path / "absent")
    assert absent.returncode == 1
    assert "is not an index" in said(absent)
    folder = tmp_path / "index"
    shutil.copytree(plain_index, folder)
    (vectors,) = folder.glob("vectors-*")
    content = bytearray(vectors.read_bytes())
    content[-1] ^= 1
    vectors.write_bytes(content)
    ended = run(*words, folder, "--json")
    assert ended.returncode == 1
    error = document(ended)["error"]
    assert error["type"] == "StorageError"
    assert vectors.name in error["message"]
    assert "llmrec index" in error["hint"]


@pytest.mark.parametrize(
    "words",
    [
        ("recommend", "--user", "u019"),
        ("rerank", "--user", "u019", "--candidates", "o29"),
        ("explain", "--user", "u019", "--item", "o29"),
    ],
    ids=lambda words: str(words[0]),
)
def test_an_unknown_user(run: Run, plain_index: Path, words: tuple[str, ...]) -> None:
    ended = run(*words, plain_index)
    assert ended.returncode == 1
    assert "'u019'" in said(ended)
    assert "Did you mean 'u19'" in said(ended)


def test_an_unknown_user_of_the_demo(run: Run) -> None:
    ended = run("demo", "--user", "u99")
    assert ended.returncode == 1
    assert "Did you mean" in said(ended)


def test_more_items_than_the_demo_has(run: Run) -> None:
    ended = run("demo", "-k", 30)
    assert ended.returncode == 2
    assert "less than or equal to 20" in said(ended)


def test_an_unknown_item(run: Run, plain_index: Path) -> None:
    for words in (("rerank", "--candidates", "o29,o99"), ("explain", "--item", "o99")):
        ended = run(*words, plain_index, "--user", "u01")
        assert ended.returncode == 1
        assert "no item 'o99'" in said(ended)


@pytest.mark.parametrize(
    ("candidates", "part"),
    [("", "no candidates"), (" , ", "no candidates"), ("o29,o29", "than once")],
)
def test_candidates_that_cannot_be_ranked(
    run: Run, plain_index: Path, candidates: str, part: str
) -> None:
    ended = run("rerank", plain_index, "--user", "u01", "--candidates", candidates)
    assert ended.returncode == 2
    assert part in said(ended)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--user", "u01"),
        ("--candidates", "o29"),
        ("--requests", "requests.jsonl"),
        ("--user", "u01", "--candidates", "o29", "--out", "out.jsonl"),
    ],
    ids=" ".join,
)
def test_candidates_come_from_one_place(
    run: Run, document: Document, plain_index: Path, words: tuple[str, ...]
) -> None:
    ended = run("rerank", plain_index, *words, "--json")
    assert ended.returncode == 2
    assert document(ended)["error"]["type"] == "OptionError"


def test_a_missing_requests_file(run: Run, plain_index: Path, tmp_path: Path) -> None:
    requests, out = tmp_path / "absent.jsonl", tmp_path / "out.jsonl"
    ended = run("rerank", plain_index, "--requests", requests, "--out", out)
    assert ended.returncode == 1
    assert "cannot be read" in said(ended)
    assert not out.exists()


def test_an_unknown_model(run: Run, plain_index: Path) -> None:
    ended = run("recommend", plain_index, "--user", "u01", "--model", "smolm2-135m-instruct")
    assert ended.returncode == 1
    assert "was not found" in said(ended)
    assert "Did you mean 'smollm2-135m-instruct'" in said(ended)


def test_a_device_that_is_not_there(run: Run, plain_index: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for words in (("recommend", plain_index, "--user", "u01"), ("doctor",)):
        ended = run(*words, "--device", "cuda")
        assert ended.returncode == 1
        assert "'cuda' is not there" in said(ended)
    ended = run("recommend", plain_index, "--user", "u01", "--device", "gpu")
    assert ended.returncode == 2


def test_a_strategy_that_there_is_not(run: Run, plain_index: Path) -> None:
    ended = run("recommend", plain_index, "--user", "u01", "--strategy", "likelyhood")
    assert ended.returncode == 2
    assert "Did you mean 'likelihood'" in said(ended)


@pytest.mark.parametrize(
    ("words", "status", "part"),
    [
        (("--strategy", "listwise", "--strategy", "listwise"), 2, "name each strategy once"),
        (("--strategy", "listwise", "--stop-early"), 2, "Early stopping needs"),
        (("--strategy", "listwise", "--template", "setwise/plain-list"), 1, "not listwise"),
        (
            ("--strategy", "listwise", "--strategy", "graded", "--template", "setwise/plain-list"),
            2,
            "the strategies that lack one are listwise, graded",
        ),
        (
            ("--template", "likelihood/list", "--template", "likelihood/titles"),
            2,
            "more than once for likelihood",
        ),
        (("--strategy", "listwise", "--shuffles", "-1"), 2, "greater than or equal to 0"),
        (("--strategy", "listwise", "--shuffles", "1000000000"), 2, "allowed are 1 to 1,000"),
        (("--model", "openai:localhost:8000#m"), 2, "has to begin with http"),
        (("--model", "openai:http://h/v1#m", "--device", "cpu"), 2, "the server decides that"),
        (("--model", "openai:http://h/v1#m", "--skip-layers", "2"), 2, "the server decides that"),
        (("--tokenizer", "some/model"), 2, "that is for servers"),
    ],
)
def test_options_that_do_not_go_together(
    run: Run, plain_index: Path, words: tuple[str, ...], status: int, part: str
) -> None:
    ended = run("recommend", plain_index, "--user", "u01", *words)
    assert ended.returncode == status
    assert part in said(ended)


def test_a_template_that_cannot_be_used(run: Run, plain_index: Path, tmp_path: Path) -> None:
    template = tmp_path / "likelihood" / "mine.jinja"
    template.parent.mkdir()
    template.write_text("{% block text %}\n{{ usr.profile }}\n- \n{% endblock %}\n")
    words = ("recommend", plain_index, "--user", "u01", "--template")
    ended = run(*words, template)
    assert ended.returncode == 1
    assert "usr" in said(ended)
    assert "line 2" in said(ended)
    ended = run(*words, "pointwise/plain-list")
    assert ended.returncode == 1
    assert "not likelihood" in said(ended)
    explain = ("explain", plain_index, "--user", "u01", "--item", "o29")
    ended = run(*explain, "--text", "written", "--template", "shopper")
    assert ended.returncode == 1
    assert "explain/shopper" in said(ended)
    ended = run(*explain, "--template", "explain/shopper")
    assert ended.returncode == 2
    assert "--text written" in said(ended)
    ended = run(*explain, "--text", "poem")
    assert ended.returncode == 2
    assert "text 'poem' is not one of" in said(ended)


@pytest.mark.parametrize(
    ("condition", "part"),
    [("price<<3", "not understood"), ("prise<=3", "Did you mean 'price'"), ("brand>=3", "brand")],
)
def test_a_filter_that_does_not_fit(run: Run, plain_index: Path, condition: str, part: str) -> None:
    ended = run("recommend", plain_index, "--user", "u01", "--filter", condition)
    assert ended.returncode == 2
    assert part in said(ended)


def test_an_explanation_without_a_model(run: Run, plain_index: Path) -> None:
    explain = ("recommend", plain_index, "--user", "u01", "--no-llm", "--explain", "-k", 1)
    ended = run(*explain, "--text", "written")
    assert ended.returncode == 2
    assert "--no-llm" in said(ended)
    ended = run(*explain)
    assert ended.returncode == 0
    assert "quoted from the evidence" in ended.stdout
    for words in (("--strategy", "pointwise"), ("--calibrate",), ("--quantization", "nf4")):
        ended = run("recommend", plain_index, "--user", "u01", "--no-llm", *words)
        assert ended.returncode == 2
        assert f"--no-llm uses no model, but {words[0]} was given" in said(ended)
    fit = ("fit", plain_index, "--retriever")
    ended = run(*fit, "--model", "nosuch", "--shuffles", "3")
    assert ended.returncode == 2
    assert "--retriever uses no model, but --shuffles, --model was given" in said(ended)
    for command in (explain, fit):
        ended = run(*command, "--adapter", "nosuch")
        assert ended.returncode == 2
        assert "uses no model, but --adapter was given" in said(ended)


def test_a_model_with_a_name_longer_than_names_may_be(run: Run, plain_index: Path) -> None:
    words = ("rerank", plain_index, "--user", "u01", "--candidates", "o29,o30")
    ended = run(*words, "--model", "x" * 5000)
    assert ended.returncode == 1
    assert "was not found: file name too long" in said(ended)


def test_fit_without_held_out_items_fails(run: Run, plain_index: Path, tmp_path: Path) -> None:
    replace(Index.open(plain_index), interactions=()).save(tmp_path / "index")
    ended = run("fit", tmp_path / "index")
    assert ended.returncode == 1
    assert "of the 0 users" in said(ended)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("recommend", "INDEX", "--user", "u01", "--stratgy", "setwise"), "--stratgy"),
        (("recommend",), "INDEX"),
        (("bench", "compare", "A"), "RUN_B"),
        (("recommend", "INDEX", "--user", "u01", "-k", "many"), "-k"),
        (("nonsense",), "nonsense"),
    ],
)
def test_a_command_called_wrongly_says_so_as_json_too(
    run: Run, document: Document, words: tuple[str, ...], named: str
) -> None:
    ended = run(*words, "--json")
    assert ended.returncode == 2
    error = document(ended)["error"]
    assert error["type"] == "UsageError"
    assert named in error["message"]
    assert named in ended.stderr
    assert run(*words).stdout == ""


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("recommend", "INDEX", "--user", "a", "--user", "b"), "--user"),
        (("recommend", "INDEX", "--user=a", "-k", "1", "-k", "2"), "-k"),
        (("rerank", "--requests", "a", "--requests=a", "--out", "b"), "--requests"),
        (("bench", "INDEX", "--seed", "1", "--seed", "2"), "--seed"),
        (("data", "check", "DATA", "--columns", "a", "--columns", "b"), "--columns"),
        (("train", "fusion", "DATA", "--out", "a", "--out", "b"), "--out"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_option_of_one_value_is_refused_where_it_is_given_twice(
    run: Run, document: Document, words: tuple[str, ...], option: str
) -> None:
    ended = run(*words, "--json")
    assert ended.returncode == 2
    message = document(ended)["error"]["message"]
    assert option in message
    assert "it is given 2 times and takes one value" in message


def test_options_of_several_values_and_flags_may_be_given_twice(run: Run, tmp_path: Path) -> None:
    twice = ("--filter", "a=1", "--filter", "b=1", "--json", "--json")
    assert "is not an index" in said(run("recommend", tmp_path, "--user", "a", *twice))
