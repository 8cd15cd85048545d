from __future__ import annotations

import numpy as np
import pytest

from llmrec.errors import OptionError
from llmrec.evaluation import Row, compare, compare_rows, holm, markdown_table
from llmrec.evaluation.result_tables import About, Metrics


def metrics_of(seed: int, lift: float = 0.0) -> Metrics:
    values = np.random.default_rng(seed).random((2, 60))
    return {"ndcg@10": values[0] + lift, "mrr": values[1]}


ROWS = {"random": metrics_of(0), "fused": metrics_of(1, lift=0.4)}


@pytest.fixture
def rows() -> tuple[Row, ...]:
    about: dict[str, About] = {"fused": {"model": "tiny", "seed": 0}}
    return compare_rows(ROWS, [("fused", "random")], seed=0, about=about, resamples=500)


def test_a_row_holds_estimates_and_paired_comparisons(rows: tuple[Row, ...]) -> None:
    random, fused = rows
    assert (random.name, random.users, random.contrasts) == ("random", 60, ())
    assert fused.values["mrr"].mean == pytest.approx(float(np.mean(ROWS["fused"]["mrr"])))
    assert [(c.against, c.metric) for c in fused.contrasts] == [
        ("random", "ndcg@10"),
        ("random", "mrr"),
    ]
    expected = compare(ROWS["fused"]["ndcg@10"], ROWS["random"]["ndcg@10"], seed=0, resamples=500)
    assert fused.contrasts[0].comparison == expected


def test_the_whole_call_is_one_family(rows: tuple[Row, ...]) -> None:
    contrasts = rows[1].contrasts
    corrected = holm([contrast.comparison.p_value for contrast in contrasts])
    assert [contrast.p_corrected for contrast in contrasts] == corrected.tolist()
    assert contrasts[0].p_corrected == pytest.approx(2 * contrasts[0].comparison.p_value)


def test_markdown(rows: tuple[Row, ...]) -> None:
    lines = markdown_table(rows).splitlines()
    assert lines[0] == "| row | users | ndcg@10 | mrr |"
    assert lines[3].startswith("| fused | 60 | 0.9")
    assert lines[5] == "| row | against | metric | difference | p | p (Holm) | detectable |"
    assert lines[7].startswith("| fused | random | ndcg@10 | +0.")
    assert len(lines) == 9
    assert len({line.count("|") for line in lines[:4]}) == 1


def test_a_name_cannot_break_the_table() -> None:
    table = markdown_table(compare_rows({"a|b": metrics_of(0)}, [], seed=0, resamples=50))
    assert table.splitlines()[2].startswith("| a\\|b | 60 |")
    assert len(table.splitlines()) == 3


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(OptionError, match=r"'fusd' is not a row. Did you mean 'fused'"):
        compare_rows(ROWS, [("fusd", "random")], seed=0)
    with pytest.raises(OptionError, match="'other' is not a row"):
        compare_rows(ROWS, [], seed=0, about={"other": {}})
    with pytest.raises(OptionError, match="the same in every row"):
        compare_rows({**ROWS, "x": {"mrr": np.ones(60)}}, [], seed=0)
    with pytest.raises(OptionError, match="at least one"):
        compare_rows({"x": {}}, [], seed=0)
    with pytest.raises(OptionError, match="differ in users"):
        compare_rows({**ROWS, "x": {"ndcg@10": np.ones(9), "mrr": np.ones(9)}}, [], seed=0)
