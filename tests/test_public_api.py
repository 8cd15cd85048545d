from __future__ import annotations

import subprocess
import sys

import pytest

import llmrec

PUBLIC = [
    "Candidate", "Catalog", "ColumnMap", "Evidence", "Explainer", "Explanation", "Index",
    "Interaction", "Item", "LlmrecError", "RankedItem", "Ranking", "Recommendation", "Recommender",
    "Request", "Reranker", "Retriever", "Review", "Status", "TextEncoder", "TransformersModel",
    "Usage", "User", "bench", "load_model",
]  # fmt: skip


def test_the_public_names_do_not_drift() -> None:
    assert llmrec.__all__ == PUBLIC == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(llmrec, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Rerankr"):
        llmrec.Rerankr  # noqa: B018


def test_importing_llmrec_loads_no_torch() -> None:
    code = (
        "import sys, llmrec; llmrec.Catalog, llmrec.Index, llmrec.Retriever;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
