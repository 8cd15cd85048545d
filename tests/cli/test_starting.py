"""The command line itself: help, version, what is imported when, streams and interrupts."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import llmrec
from llmrec.catalog import sample_folder
from tests.cli.calls import Document, Run, Start

HEAVY = ("torch", "transformers", "scipy", "sentence_transformers", "datasets")
COMMANDS = (
    ("demo",),
    ("doctor",),
    ("index",),
    ("recommend",),
    ("rerank",),
    ("explain",),
    ("fit",),
    ("data", "check"),
    ("prompts", "list"),
    ("prompts", "show"),
    ("prompts", "check"),
    ("models", "fetch"),
    ("models", "list"),
)


def test_help_names_every_command(run: Run) -> None:
    ended = run("--help")
    assert ended.returncode == 0
    assert all(f" {command[0]} " in ended.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_json(run: Run, command: tuple[str, ...]) -> None:
    ended = run(*command, "--help")
    assert ended.returncode == 0
    assert "--json" in ended.stdout
    lines = ended.stdout.splitlines()
    width = max(map(len, lines))
    said = list(itertools.takewhile(lambda line: not line.startswith("╭"), lines))
    broken = [
        line
        for line, following in itertools.pairwise(said)
        if line.strip()
        and following.strip()
        and len(line.rstrip()) + len(following.split()[0]) < width - 2
    ]
    assert not broken


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"llmrec {llmrec.__version__}\n"


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "llmrec", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == f"llmrec {llmrec.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("recommend",),
        ("recommend", "index"),
        ("recommend", "index", "--user", "u", "-k", "0"),
        ("recommend", "index", "--user", "u", "--quantization", "int3"),
        ("recomend",),
        ("data", "chekc", "folder"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(run: Run, words: tuple[str, ...]) -> None:
    ended = run(*words)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Usage" in ended.stderr


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (("--help",), (*HEAVY, "pyarrow", "pydantic")),
        (("prompts", "list"), HEAVY),
        (("data", "check", "SAMPLE"), HEAVY),
        (("recommend", "INDEX", "--user", "u01", "--no-llm"), ("torch", "transformers")),
    ],
    ids=["help", "prompts list", "data check", "recommend --no-llm"],
)
def test_slow_imports_are_lazy(
    plain_index: Path, words: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    places = {"SAMPLE": str(sample_folder()), "INDEX": str(plain_index)}
    code = f"""
import sys
from llmrec.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print(sorted(set({absent}) & set(sys.modules)), file=sys.stderr)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, *(places.get(word, word) for word in words)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr.strip() == "[]"


@pytest.mark.parametrize("where", [">/dev/full", ">&-"])
@pytest.mark.parametrize("words", ["prompts list", "prompts list --json", "--version"])
def test_output_that_cannot_be_written_ends_in_a_sentence(words: str, where: str) -> None:
    main = f"{sys.executable} -c 'from llmrec.cli import main; main()'"
    ended = subprocess.run(
        ["sh", "-c", f"{main} {words} {where}"], capture_output=True, text=True, check=False
    )
    if where == ">&-":  # closed by whoever called: nobody reads it
        assert (ended.returncode, ended.stderr) == (0, "")
    else:
        sentence = "Error: The output cannot be written: No space left on device.\n"
        assert (ended.returncode, ended.stderr) == (1, sentence)


def test_a_reader_that_leaves_is_no_error(start: Start) -> None:
    for words in (("prompts", "list"), ("prompts", "list", "--json")):
        process = start(*words)
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(60) in {0, 1}
        assert process.stderr.read() == ""
        process.stderr.close()


def test_ctrl_c_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmrec.catalog.check_folder", interrupt)
    ended = run("data", "check", sample_folder(), "--json")
    assert ended.returncode == 130
    assert ended.stderr == "Interrupted.\n"
    assert ended.stdout == ""


def test_verbose_logs_progress(run: Run, plain_index: Path) -> None:
    words = ("recommend", plain_index, "--user", "u01", "--no-llm")
    assert run(*words).stderr == ""
    # A retriever says nothing of a known user's, so a cold start is asked for.
    cold = ("recommend", plain_index, "--user", "u21", "--no-llm")
    assert "no content signal" in " ".join(run("-v", *cold).stderr.split())


def test_an_error_is_a_message_a_hint_and_a_document(
    run: Run, document: Document, tmp_path: Path
) -> None:
    ended = run("data", "check", tmp_path / "absent", "--json", columns=200)
    assert ended.returncode == 1
    message = f"The data set folder '{tmp_path / 'absent'}' does not exist."
    hint = "Give the folder that holds items.jsonl, items.parquet or items.csv."
    assert document(ended) == {"error": {"type": "DataError", "message": message, "hint": hint}}
    # A long path is broken at the width.
    assert "".join(ended.stderr.split()) == "".join(f"Error: {message} {hint}".split())
    assert run("data", "check", tmp_path / "absent").stdout == ""
