"""Run the code of README.md and docs/, and compare what it prints with what the page says.

Each page runs in a folder of its own with a copy of the sample shop (DATA), its index (INDEX) and
every file that a page names in the head of a code block. A block that begins with ``# not run:``
is only parsed.
"""

from __future__ import annotations

import io
import logging
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import typer.main
from sybil import Document, Example, Region, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer
from typer.testing import CliRunner

from llmrec import Catalog, Index
from llmrec.catalog import sample_folder
from llmrec.cli.app import app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
LINKING = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "prompts" / "README.md")
NOT_RUN = "# not run: "
PRINTED = "printed"

_HEAD = re.compile(r"(?P<language>\w+)(?:[ \t]+(?P<file>\S+))?[ \t]*$\n", re.MULTILINE)
_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
_LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)")
_COMMAND = typer.main.get_command(app)
_BLOCKS = RawFencedCodeBlockLexer(_HEAD)


@pytest.fixture(scope="module")
def shop(
    smollm2_folder: Path, minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the sample shop, its index and the files that pages define."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(sample_folder(), folder / "DATA")
    Index.build(Catalog.from_folder(folder / "DATA")).save(folder / "INDEX")
    for page in PAGES:
        for region in _BLOCKS(Document.parse(str(page), encoding="utf-8")):
            if name := region.lexemes["file"]:
                path = folder / name
                assert not path.exists(), f"{page.name} defines {name}, as another page does."
                path.parent.mkdir(exist_ok=True)
                path.write_text(region.lexemes["source"], encoding="utf-8")
    return folder


@pytest.mark.usefixtures("models_loaded_once")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_a_page_runs_and_prints_its_output(
    page: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(shop, tmp_path / "shop"))
    for example in Sybil(parsers=[_runnable]).parse(page).examples():
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_scripts_in_the_text_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in re.findall(r"`llmrec ([^`]+)`", text):
        check_options(shlex.split(line))
    scripts = set(re.findall(r"\b(?:eval|tests)/[\w/]+\.py\b", text))
    assert not [name for name in sorted(scripts) if not (ROOT / name).is_file()]


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for path, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}."
        assert not anchor or anchor in anchors(target), f"{page.name} links to {path}#{anchor}."


def test_the_readme_is_short_and_shows_output() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert "```text" in lines


def test_marked_tables_are_those_of_the_committed_results() -> None:
    words = [sys.executable, str(ROOT / "eval" / "results_tables.py"), "--check"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert results.count("<!-- strategies: ") == results.count("<!-- templates: ") == 1


@pytest.mark.parametrize(
    ("page", "printed", "same"),
    [
        ("1 Dune -1.23", "1 Dune -1.24", True),
        ("1 Dune -1.23", "1 Dune -1.34", False),
        ("1 Dune -1.23", "2 Dune -1.23", False),
        ("1 Dune", "1 Heat", False),
        ("a\n...\nb 2", "a\nanything\nb 2", True),
        ("a", "a\nb", False),
    ],
)
def test_output_is_compared_by_words_and_numbers(page: str, printed: str, same: bool) -> None:
    assert says_the_same(page, printed) is same


def test_an_option_that_a_command_lacks_is_found() -> None:
    check_options(["rerank", "INDEX", "--user", "u19"])
    with pytest.raises(AssertionError, match="--usr"):
        check_options(["rerank", "INDEX", "--usr", "u19"])
    with pytest.raises(AssertionError, match="reorder"):
        check_options(["reorder"])


def _runnable(document: Document) -> Iterable[Region]:
    evaluators = {"python": _run_python, "sh": _run_commands, "text": _compare}
    for region in _BLOCKS(document):
        region.parsed = region.lexemes["source"]
        region.evaluator = evaluators.get(region.lexemes["language"])
        if region.evaluator:
            yield region


def _run_python(example: Example) -> None:
    if example.parsed.startswith(NOT_RUN):
        compile(example.parsed, example.path, "exec")
        return
    printed = io.StringIO()
    with redirect_stdout(printed):
        PythonEvaluator()(example)
    example.namespace[PRINTED] = printed.getvalue()


def _run_commands(example: Example) -> None:
    for line in example.parsed.splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] == "llmrec", f"{example.path}, line {example.line}: {line}"
        check_options(words[1:])
        if not example.parsed.startswith(NOT_RUN):
            example.namespace[PRINTED] = _run(words[1:])


def _run(words: list[str]) -> str:
    logger = logging.getLogger("llmrec")
    before = logger.handlers, logger.level
    try:
        ended = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}).invoke(app, words)
    finally:
        logger.handlers, logger.level = before
    assert ended.exit_code == 0, f"llmrec {shlex.join(words)}: {ended.stderr} {ended.exception}"
    return ended.stdout


def _compare(example: Example) -> None:
    printed = example.namespace.pop(PRINTED)
    assert says_the_same(example.parsed, printed), (
        f"{example.path}, line {example.line}, prints:\n{printed}"
    )


def says_the_same(page: str, printed: str) -> bool:
    """Whether words are equal and decimals close; ``...`` on a page stands for anything."""
    expected = [line.rstrip() for line in page.strip().splitlines()]
    pattern, numbers = "", []
    for part in re.split(r"(\.\.\.|-?\d+(?:[.,]\d+)*)", "\n".join(expected)):
        if _NUMBER.fullmatch(part):
            numbers.append(part)
            pattern += f"({_NUMBER.pattern})"
        else:
            pattern += ".*" if part == "..." else re.escape(part)
    lines = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    found = re.fullmatch(pattern, lines, re.DOTALL)
    return found is not None and all(map(_close, numbers, found.groups()))


def _close(expected: str, found: str) -> bool:
    if "." not in expected:
        return expected == found
    return float(found) == pytest.approx(float(expected), abs=0.02)


def check_options(words: list[str]) -> None:
    """Find that a command, and each option of it, exists."""
    command, given = _COMMAND, list(words)
    while hasattr(command, "commands") and given:
        if given[0] in command.commands:
            command = command.commands[given.pop(0)]
        elif "run" in command.commands:  # llmrec bench FILE
            command = command.commands["run"]
        elif given[0].startswith("-"):
            break
        else:
            raise AssertionError(f"llmrec {shlex.join(words)}: there is no {given[0]!r}.")
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    unknown = [word for word in given if word.startswith("-") and word.split("=")[0] not in known]
    assert not unknown, f"llmrec {shlex.join(words)}: there is no option {', '.join(unknown)}."


def anchors(page: Path) -> Iterator[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.replace("`", "")).lower().replace(" ", "-")
