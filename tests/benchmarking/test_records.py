from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from llmrec.benchmarking.records import Fault, Result, UserList, checksum, stored_scores
from llmrec.errors import StorageError

LIST = UserList("u1", "b", ("a", "b", "c"), (1.5, None, -2.0), (3.0, 0.0, 7.0), 12, 0, True)
RESULT = Result("cell", "u1", (0.5, None, 1.0), 2, None, {"unanswered": 1}, 3, 40, 30, 2, 1, 0.25)


def test_lines_come_back_as_they_were() -> None:
    failed = Result("cell", "ü", fault=Fault("PromptError", 'a "quoted" ☃ line'))
    assert UserList.from_json(LIST.to_json()) == LIST
    for result in (RESULT, failed):
        assert Result.from_json(result.to_json()) == result
        assert Result.from_json(result.to_json().encode()) == result
        assert "\n" not in result.to_json()


def test_the_checksum_is_of_the_sorted_line_without_it() -> None:
    fields = json.loads(RESULT.to_json())
    said = fields.pop("checksum")
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    assert said == hashlib.sha256(text.encode()).hexdigest()[:16] == checksum(fields)


def test_every_cut_line_is_noticed() -> None:
    line = RESULT.to_json()
    for end in range(len(line)):
        with pytest.raises(StorageError):
            Result.from_json(line[:end])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seconds": 0.25', '"seconds": 0.26', "checksum"),
        ('"seconds": 0.25', '"seconds": NaN', "NaN is no number"),
        ('"user_id": "u1"', '"user_id": "u1', "not JSON"),
    ],
)
def test_an_edited_line_is_refused(old: str, new: str, message: str) -> None:
    assert old in RESULT.to_json()
    with pytest.raises(StorageError, match=message):
        Result.from_json(RESULT.to_json().replace(old, new))


@pytest.mark.parametrize("line", ["[]", "1", '"text"', "{}", b"\xff\xfe"])
def test_what_is_no_record_is_refused(line: str | bytes) -> None:
    with pytest.raises(StorageError):
        UserList.from_json(line)


def test_fields_are_checked_though_the_checksum_fits() -> None:
    fields = {k: v for k, v in json.loads(RESULT.to_json()).items() if k != "checksum"}
    for change, message in (
        ({"prompts": "many"}, "prompts"),
        ({"more": 1}, "more"),
        ({"fault": {"type": "X"}}, r"fault\.message"),
    ):
        line = {**fields, **change}
        with pytest.raises(StorageError, match=message):
            Result.from_json(json.dumps({**line, "checksum": checksum(line)}))


@pytest.mark.parametrize(
    "wrong",
    [
        replace(LIST, popularity=(1.0,)),
        replace(LIST, candidates=("a", "b", "b")),
        replace(LIST, reached=False),
        replace(LIST, target="d"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused(wrong: UserList) -> None:
    with pytest.raises(StorageError, match="The list of user 'u1'"):
        UserList.from_json(wrong.to_json())


def test_what_is_not_finite_is_stored_as_not_judged() -> None:
    assert stored_scores(np.array([1, np.nan, -np.inf, np.inf])) == (1.0, None, None, None)
