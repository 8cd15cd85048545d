"""``llmrec verify`` of whole and of damaged indexes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.calls import Document, Run, said


@pytest.fixture
def copied(plain_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain_index, tmp_path / "index"))


def test_a_whole_index_is_whole(run: Run, document: Document, copied: Path) -> None:
    ended = run("verify", copied)
    assert ended.returncode == 0
    assert "Nothing is damaged." in ended.stdout
    found = document(run("verify", copied, "--json"))
    assert found["whole"]
    assert len(found["report"]["files"]) == 7


def test_damaged_files_are_named_with_the_way_out(
    run: Run, document: Document, copied: Path
) -> None:
    (vectors,), (users,) = copied.glob("vectors-*"), copied.glob("users-*")
    content = vectors.read_bytes()
    vectors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    users.unlink()
    ended = run("verify", copied, columns=300)
    assert ended.returncode == 1
    assert f"{vectors} is damaged: its content does not match its checksum" in ended.stdout
    assert f"{users} cannot be read: No such file" in ended.stdout
    assert "2 of 7 files are damaged." in ended.stdout
    assert "rebuild it with `llmrec index`" in ended.stdout
    ended = run("verify", copied, "--json")
    assert ended.returncode == 1
    report = document(ended)["report"]
    faulty = {file["name"] for file in report["files"] if file["fault"]}
    assert faulty == {vectors.name, users.name}


@pytest.mark.parametrize(
    ("content", "message"), [(None, "is not an index"), ("{", "manifest.json is damaged")]
)
def test_what_is_no_index_is_an_error(
    run: Run, tmp_path: Path, content: str | None, message: str
) -> None:
    if content:
        (tmp_path / "manifest.json").write_text(content)
    ended = run("verify", tmp_path)
    assert ended.returncode == 1
    # A long path is wrapped anywhere.
    assert message.replace(" ", "") in said(ended).replace(" ", "")
    assert "llmrec index" in said(ended)
