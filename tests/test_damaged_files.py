"""Whatever is done to a file: it is read, or an error of ours says what is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec.benchmarking import BenchmarkPlan, RunFolder
from llmrec.benchmarking.run import run_benchmark
from llmrec.errors import LlmrecError, OptionError, PromptError, StorageError
from llmrec.prompting import check_template, load_template
from llmrec.reranking import retrieval_ranking
from llmrec.reranking.request_files import rank_file
from llmrec.resumable import encode_row
from llmrec.retrieval import Index, Retriever, verify_index
from tests.benchmarking.faked import Loading, benchmark_of, world

quickly = settings(max_examples=40, deadline=None, derandomize=True, database=None)

_JUNK = [
    b"", b"\x00", b"\xff\xfe", b"\n", b'"', b"\\", b"null", b"NaN", b"-1", b"1e999", b"9" * 400,
    b"[]", b"{}", b"[" * 99, b"../../x", b"\xed\xa0\x80", b"\x1b[2J", b"true", b",",
]  # fmt: skip
DAMAGE = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(_JUNK), st.integers(0, 60)), min_size=1, max_size=3
)
ODD: st.SearchStrategy[object] = st.sampled_from(
    [
        None,
        "",
        "x",
        "\ud800",
        "9" * 400,
        -1,
        0,
        2**63,
        1e308,
        True,
        [],
        {},
        [[]],
        {"a": 1},
        "\x1b[2J",
    ]
)


def damaged(content: bytes, spots: list[tuple[float, bytes, int]]) -> bytes:
    """Put junk in the place of some bytes."""
    for where, junk, length in spots:
        at = int(where * len(content))
        content = content[:at] + junk + content[at + length :]
    return content


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401
    """The paths of all values in a document."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed(document: Any, where: float, odd: object) -> Any:  # noqa: ANN401
    """The document with another value in one place."""
    copy = json.loads(json.dumps(document))
    found = list(places(copy))
    *path, last = found[int(where * (len(found) - 1))]
    inner = copy
    for key in path:
        inner = inner[key]
    inner[last] = odd
    return copy


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world(tmp_path_factory.mktemp("damaged") / "index")


def used(folder: Path) -> None:
    verify_index(folder)
    opened = Index.open(folder)
    user = opened.user("u01")
    Retriever(opened).retrieve(user, 3)
    [(item.name, opened.reviews_of(item_id)) for item_id, item in opened.items.items()]


@quickly
@given(st.integers(0, 7), DAMAGE, st.booleans())
def test_an_index_opens_or_says_what_is_damaged(
    index: Path, number: int, spots: list[tuple[float, bytes, int]], sealed: bool
) -> None:
    folder = index.with_name("changed")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(index, folder)
    path = sorted(folder.iterdir())[number]
    path.write_bytes(damaged(path.read_bytes(), spots))
    if sealed and path.name != "manifest.json":  # its author signed it as it is
        seal(folder, lambda content: sign(content, path))
    with suppress(LlmrecError):
        used(folder)


@quickly
@given(st.floats(0, 1), ODD)
def test_a_signed_manifest_with_odd_values_is_read_or_refused(
    index: Path, where: float, odd: object
) -> None:
    folder = index.with_name("odd")
    if not folder.exists():
        shutil.copytree(index, folder)
    shutil.copy(index / "manifest.json", folder)
    seal(folder, lambda content: changed(content, where, odd))
    with suppress(LlmrecError):
        used(folder)


def sign(content: dict[str, Any], path: Path) -> dict[str, Any]:
    for entry in content["files"].values():
        if entry["name"] == path.name:
            data = path.read_bytes()
            entry |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return content


def seal(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / "manifest.json"
    content = change(json.loads(path.read_text("utf-8"))["content"])
    canonical = json.dumps(content, sort_keys=True).encode()
    whole = {"sha256": hashlib.sha256(canonical).hexdigest(), "content": content}
    path.write_text(json.dumps(whole), encoding="utf-8")


@pytest.fixture(scope="module")
def finished(index: Path) -> RunFolder:
    folder = RunFolder(index.with_name("run"))
    run_benchmark(benchmark_of(index, "likelihood/titles", users=3), folder, Loading())
    return folder


def read(folder: RunFolder) -> None:
    folder.about()
    folder.users()
    list(folder.results())


@quickly
@given(st.sampled_from(["run.json", "lists.jsonl", "results.jsonl"]), DAMAGE)
def test_a_run_is_read_or_refused(
    finished: RunFolder, name: str, spots: list[tuple[float, bytes, int]]
) -> None:
    folder = finished.path.with_name("changed run")
    shutil.copytree(finished.path, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(damaged((folder / name).read_bytes(), spots))
    with suppress(StorageError):
        read(RunFolder(folder))


@quickly
@given(st.sampled_from(["lists.jsonl", "results.jsonl"]), st.floats(0, 1), ODD)
def test_a_signed_line_of_odd_values_is_read_or_refused(
    finished: RunFolder, name: str, where: float, odd: object
) -> None:
    folder = finished.path.with_name("odd run")
    shutil.copytree(finished.path, folder, dirs_exist_ok=True)
    row = json.loads((folder / name).read_text("utf-8").splitlines()[0])
    row.pop("checksum", None)
    (folder / name).write_bytes(encode_row(changed(row, where, odd), checksum=True))
    with suppress(StorageError):
        read(RunFolder(folder))


@quickly
@given(DAMAGE)
def test_results_of_rerank_resume_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, spots: list[tuple[float, bytes, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    requests, out = folder / "requests.jsonl", folder / "damaged-results.jsonl"
    scored = '{"candidates": [{"title": "Heat", "score": 1}, {"title": "Dune", "score": 2}]}\n'
    requests.write_text(scored * 3, encoding="utf-8")
    out.unlink(missing_ok=True)

    def rank(batch: Any) -> Any:  # noqa: ANN401
        return [retrieval_ranking(request) for request in batch]

    assert rank_file(requests, out, rank).reranked == 3
    whole = out.read_bytes()
    out.write_bytes(damaged(whole, spots))
    with suppress(StorageError):
        rank_file(requests, out, rank)
        assert out.read_bytes() == whole


_VALUES = st.recursive(
    ODD | st.sampled_from([float("nan"), float("inf"), 10**400, "pointwise/*", "x.jinja"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@quickly
@given(st.dictionaries(st.sampled_from([*BenchmarkPlan.model_fields, "zzz"]), _VALUES, max_size=5))
def test_a_plan_of_any_values_is_read_or_refused(document: dict[str, object]) -> None:
    with suppress(OptionError):
        BenchmarkPlan.of({"index": "index", **document}, "The plan").named_templates()


@quickly
@given(DAMAGE)
def test_a_plan_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, spots: list[tuple[float, bytes, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    plan = {"index": "i", "templates": ["likelihood/*"], "fields": {"a": {"title": 3}}, "seed": 1}
    path.write_bytes(damaged(yaml.safe_dump(plan).encode(), spots))
    with suppress(OptionError):
        BenchmarkPlan.from_file(path)


_PIECES = [
    "{% block system %}", "{% block user %}", "{% block text %}", "{% endblock %}",
    "{{ item.title }}",
    "{% for past in history %}", "{% for item in items %}", "{% endfor %}", "{% if user.query %}",
    "{% endif %}", "{{", "}}", "{%", "%}", "{#", "#}", "{{ item.score }}", "{{ ''.__class__ }}",
    "{{ history[9] }}", "{{ 'a' * 999999999 }}", "{% set x = [1] * 9 %}", "{{ x | join }}",
    "{% include 'x' %}", "{{ items | map(attribute=3) }}", "\x00", "\ud800", "é", "Yes?", "\n",
]  # fmt: skip


@quickly
@given(st.lists(st.sampled_from(_PIECES), max_size=12))
def test_a_template_of_any_pieces_is_checked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "pointwise" / "damaged.jinja"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes("".join(pieces).encode("utf-8", "surrogatepass"))
    with suppress(PromptError):
        check_template(load_template(path))
