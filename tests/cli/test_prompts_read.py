"""``llmrec prompts check --model`` and ``prompts diff``: what a template makes, and reads."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import LlamaConfig

from llmrec.cli import prompts
from llmrec.errors import ModelError
from llmrec.models import TransformersModel
from llmrec.models.references import load_reader
from llmrec.prompting import load_template
from llmrec.prompting.template import VARIABLES
from tests.cli.calls import Document, Run


def test_prompts_check_refuses_too_long_prompts(
    run: Run, document: Document, smollm2_folder: Path, tmp_path: Path
) -> None:
    template = tmp_path / "pointwise" / "long.jinja"
    template.parent.mkdir()
    body = "{% for past in history %}\n{{ past.title }}\n{% endfor %}\nYes or No: {{ item.title }}?"
    for words, usable in ((7_900, True), (9_600, False)):  # the model reads 8,192 tokens
        filler = "and " * words
        template.write_text(
            "{# Long. #}\n{% block system %}\nSay Yes or No.\n{% endblock %}\n"
            f"{{% block user %}}\n{filler}{body}\n{{% endblock %}}\n"
        )
        ended = run("prompts", "check", template, "--model", smollm2_folder, "--json")
        found = document(ended)
        assert (found["usable"], ended.returncode) == (usable, 0 if usable else 1)
    (error,) = (one for one in found["findings"] if one["level"] == "error")
    assert "takes up to 9,6" in error["message"]
    assert "the model reads 8,192" in error["message"]
    told = run("prompts", "check", template, "--model", smollm2_folder)
    assert "cannot be used." in " ".join(told.stdout.split())
    assert run("prompts", "check", template).returncode == 0  # without a model nobody can say


@pytest.mark.parametrize(
    "given",
    [
        {"max_position_embeddings": 640},
        {
            "max_position_embeddings": 640,
            "rope_parameters": {
                "rope_type": "dynamic",
                "rope_theta": 10_000.0,
                "factor": 2.0,
                "original_max_position_embeddings": 320,
            },
        },
    ],
    ids=["plain", "dynamic"],
)
def test_context_length_from_config_matches_the_loaded_model(
    given: dict[str, Any], smollm2_folder: Path, tmp_path: Path
) -> None:
    for file in smollm2_folder.glob("tokenizer*"):
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "model.safetensors").write_bytes(b"")  # weights that nobody reads
    config = LlamaConfig(**given)
    config.save_pretrained(tmp_path)
    reader = load_reader(str(tmp_path))
    loaded = SimpleNamespace(model=SimpleNamespace(config=config))
    limit = vars(TransformersModel)["max_length"].fget(loaded)
    assert prompts._context(str(tmp_path), reader) == limit
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        prompts._context(str(tmp_path), reader)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_prompts_diff_lays_two_prompts_side_by_side(run: Run, columns: int) -> None:
    names = ("pointwise/plain-list", "pointwise/likes-and-dislikes")
    ended = run("prompts", "diff", *names, columns=columns)
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    words = " ".join(ended.stdout.split())
    assert "history.liked, history.rating, item.details" in words or columns == 60
    assert "Both read history.title, item.title." in words
    assert "about 68" in words
    assert sum("[system]" in line for line in lines) == 1
    if columns == 120:
        (liked,) = (line for line in lines if "oldest first:" in line)
        assert "| Liked:" in liked
        (added,) = (line for line in lines if "Quiet Ferryman, rated 2" in line)
        assert added.strip().startswith("> ")


def test_a_template_does_not_control_the_terminal(run: Run, tmp_path: Path) -> None:
    shipped = load_template("pointwise/plain-list").source
    (tmp_path / "pointwise").mkdir()
    own = tmp_path / "pointwise" / "own.jinja"
    own.write_text(shipped.replace("{% block user %}", "{% block user %}\x1b[2J\x9b31m [red]"))
    for words in (("show", own), ("diff", own, "pointwise/plain-list")):
        ended = run("prompts", *words)
        assert ended.returncode == 0, ended.stderr
        assert "\\x1b[2J\\x9b31m [red]" in ended.stdout
        assert not {"\x1b", "\x9b"} & {*ended.stdout, *ended.stderr}


def test_prompts_diff_document(run: Run, document: Document, smollm2_folder: Path) -> None:
    names = ("likelihood/list", "likelihood/numbered")
    found = document(run("prompts", "diff", *names, "--json"))
    assert found["model"] is None
    diff = found["diff"]
    assert (diff["first"]["name"], diff["second"]["name"]) == names
    assert diff["both"] == ["history.title"]
    assert diff["only_first"] == []
    assert diff["only_second"] == ["user.profile", "user.query"]
    shown = document(run("prompts", "show", names[0], "--json"))["prompt"]
    assert diff["first"]["prompt"] == shown
    for side in ("first", "second"):  # nothing of either prompt is lost
        lines = [pair[side] for pair in diff["lines"] if pair[side] is not None]
        assert "\n".join(lines) == diff[side]["prompt"]["text"]
    assert {pair["mark"] for pair in diff["lines"]} <= {"", "changed", "first", "second"}
    assert all((p["first"] == p["second"]) == (p["mark"] == "") for p in diff["lines"])
    assert not diff["counted"]
    counted = document(run("prompts", "diff", *names, "--model", smollm2_folder, "--json"))["diff"]
    assert counted["counted"]
    assert 20 < counted["first"]["tokens"] < counted["second"]["tokens"] < 100
    text = run("prompts", "diff", *names, "--model", smollm2_folder).stdout
    assert f" {counted['first']['tokens']} " in text
    assert "about" not in text


def test_prompts_diff_of_a_chat_and_a_plain_prompt_and_of_a_template_with_itself(
    run: Run, document: Document
) -> None:
    mixed = document(run("prompts", "diff", "pointwise/plain-list", "likelihood/list", "--json"))
    assert {pair["block"] for pair in mixed["diff"]["lines"]} == {""}
    assert mixed["diff"]["only_first"] == ["item.title", "user.profile", "user.query"]
    same = run("prompts", "diff", "pairwise/details", "pairwise/details")
    assert "The prompts are the same." in same.stdout
    assert " | " not in same.stdout


def test_prompts_diff_lists_the_fields_of_every_template(run: Run, document: Document) -> None:
    wanted = {
        "listwise/plain-list": {"history.title", "items.label", "items.title"},
        "explain/shopper": {"evidence", "fault", "history", "item.title"},
    }
    for name, reads in wanted.items():
        found = document(run("prompts", "diff", name, name, "--json"))["diff"]["both"]
        assert set(found) >= reads - {"history"}
        assert {read.partition(".")[0] for read in found} <= set(VARIABLES)


def test_prompts_diff_of_a_missing_template_fails(
    run: Run, document: Document, tmp_path: Path
) -> None:
    ended = run("prompts", "diff", "pointwise/plain-list", "pointwise/plain-lst")
    assert ended.returncode == 1
    assert "Did you mean 'pointwise/plain-list'" in ended.stderr
    ended = run("prompts", "diff", tmp_path / "absent.jinja", "pointwise/plain-list", "--json")
    assert ended.returncode == 1
    assert document(ended)["error"]["type"] == "PromptError"


def test_prompts_diff_of_two_files_of_one_name_tells_them_apart(run: Run, tmp_path: Path) -> None:
    paths = [tmp_path / side / "likelihood" / "own.jinja" for side in ("a", "b")]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text("{% block text %}" + path.parent.parent.name + "{% endblock %}")
    ended = run("prompts", "diff", *paths, columns=400)
    assert ended.returncode == 0
    assert all(ended.stdout.count(str(path)) == 2 for path in paths)
