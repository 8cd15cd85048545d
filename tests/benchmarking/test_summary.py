from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmrec.benchmarking.cells import Cell
from llmrec.benchmarking.results import Failure, Result, Results
from llmrec.benchmarking.summary import PairContrast, Summary, summarise
from llmrec.benchmarking.users import ItemFacts, UserList
from llmrec.errors import OptionError
from llmrec.evaluation import compare, holm, ndcg_at, target_ranks

N, USERS = 12, 40
CELLS = (
    Cell("pointwise/a", "1", "pointwise", "m", "", "none", "all", {}, name="A"),
    Cell("likelihood/b", "2", "likelihood", "m", "", "none", "all", {}, name="B"),
)
KEYS = {"k1": CELLS[0].key, "k2": CELLS[1].key}


def world(*, reached: bool = True) -> tuple[list[UserList], dict[str, list[list[float]]]]:
    rng = np.random.default_rng(5)
    lists: list[UserList] = []
    scores: dict[str, list[list[float]]] = {"k1": [], "k2": []}
    for user in range(USERS):
        items = tuple(f"i{n}" for n in rng.permutation(40)[:N])
        there = reached or user % 4 > 0
        target = int(rng.integers(N))
        lists.append(
            UserList(
                user_id=f"u{user}",
                targets=(items[target] if there else "missed",),
                candidates=items,
                retrieval=tuple(-float(n) for n in range(N)),
                popularity=tuple(float(item[1:]) for item in items),
                activity=user,
                target_popularity=user // 10,
            )
        )
        lift = np.arange(N) == target
        scores["k1"].append((rng.normal(size=N) + 2 * lift).tolist())
        scores["k2"].append(rng.normal(size=N).tolist())
    return lists, scores


def results_of(scores: dict[str, list[list[float]]]) -> list[Result]:
    return [
        Result(KEYS[key], f"u{n}", tuple(own), tokens_given=10, seconds=n / 10, prompts=1)
        for key, table in scores.items()
        for n, own in enumerate(table)
    ]


def summary_of(
    lists: list[UserList], results: list[Result], protocol: str = "discrimination"
) -> Summary:
    return summarise(protocol, CELLS, lists, Results(results), seed=1, resamples=400)


@pytest.fixture(scope="module")
def summary() -> Summary:
    lists, scores = world()
    return summary_of(lists, results_of(scores))


def contrast(summary: Summary, row: str, against: str) -> PairContrast:
    (found,) = [c for c in summary.contrasts if (c.row, c.against) == (row, against)]
    return found


def test_rows_baselines_and_oracle(summary: Summary) -> None:
    assert [(row.name, row.kind) for row in summary.rows] == [
        ("random", "baseline"), ("popularity", "baseline"), ("retriever", "baseline"),
        ("A", "cell"), ("B", "cell"), ("oracle", "oracle"),
    ]  # fmt: skip
    assert all(row.users == USERS for row in summary.rows)
    oracle = summary.rows[-1]
    assert {estimate.mean for estimate in oracle.metrics.values()} == {1.0}
    assert summary.rows[3].settings == CELLS[0].settings
    assert summary.about["protocol"] == "discrimination"
    assert "ndcg@10 reached" not in oracle.metrics


def test_a_cells_figures_are_those_of_its_ranks(summary: Summary) -> None:
    lists, scores = world()
    columns = [entry.candidates.index(entry.targets[0]) for entry in lists]
    ranks = target_ranks(scores["k1"], columns, seed=1)
    row = summary.rows[3]
    np.testing.assert_allclose(summary.per_user["A"], ndcg_at(ranks, 10))
    assert row.metrics["ndcg@10"].mean == pytest.approx(ndcg_at(ranks, 10).mean())
    assert row.metrics["recall@5"] == row.metrics["hit@5"]
    assert row.metrics["recall@5"].mean == pytest.approx((ranks <= 5).mean())
    assert row.metrics["mrr"].mean == pytest.approx((1 / ranks).mean())
    assert row.metrics["map@10"].mean == pytest.approx(np.where(ranks <= 10, 1 / ranks, 0).mean())
    assert row.cost["tokens given"] == 10
    assert row.cost["seconds p50"] == pytest.approx(1.95)
    assert row.cost["seconds p95"] == pytest.approx(3.705)


def test_contrasts_are_one_family_with_verdicts(summary: Summary) -> None:
    assert {(c.row, c.against) for c in summary.contrasts} == {
        ("A", "B"),
        *((cell, base) for cell in "AB" for base in ("random", "popularity", "retriever")),
    }  # fmt: skip
    raw = [c.comparison.p_value for c in summary.contrasts]
    assert [c.p_corrected for c in summary.contrasts] == holm(raw).tolist()
    a, b = (np.array(summary.per_user[name]) for name in "AB")
    found = contrast(summary, "A", "B")
    alone = compare(a, b, seed=1, resamples=4000)
    assert found.comparison.difference == pytest.approx(alone.difference)
    assert found.comparison.p_value == pytest.approx(alone.p_value, abs=0.005)
    assert found.comparison.low == pytest.approx(compare(a, b, seed=1, resamples=400).low)
    assert (found.comparison.users, found.comparison.detectable) == (USERS, alone.detectable)
    assert found.verdict == "better"
    assert contrast(summary, "B", "random").verdict == "not significant"
    turned = replace(found, comparison=replace(found.comparison, difference=-0.1))
    assert turned.verdict == "worse"


def test_a_fault_is_counted_and_in_no_figure() -> None:
    lists, scores = world()
    results = results_of(scores)
    results[0] = Result(
        KEYS["k1"], "u0", fault=Failure("PromptError", "no"), fallbacks={"short": 2}
    )
    del results[1]  # not asked yet
    summary = summary_of(lists, results)
    row = summary.rows[3]
    assert (row.users, row.faults, row.fallbacks) == (USERS - 2, {"PromptError": 1}, {"short": 2})
    assert np.isnan(summary.per_user["A"][:2]).all()
    assert not np.isnan(summary.per_user["B"]).any()
    found = contrast(summary, "A", "B").comparison
    assert found.users == USERS - 2
    whole = summary_of(*(lists, results_of(scores)))
    assert summary.per_user["A"][2:] == whole.per_user["A"][2:]
    assert summary.per_user["B"] == whole.per_user["B"]


def test_result_order_is_irrelevant_and_later_replaces(summary: Summary) -> None:
    lists, scores = world()
    results = results_of(scores)
    again = [Result(KEYS["k1"], "u3", (0.0,) * N), *results]
    shuffled = [again[n] for n in np.random.default_rng(0).permutation(len(again))]
    latest = sorted(shuffled, key=lambda result: result.scores != (0.0,) * N)
    assert summary_of(lists, latest) == summary


def test_end_to_end_counts_missed_targets() -> None:
    lists, scores = world(reached=False)
    summary = summary_of(lists, results_of(scores), "end-to-end")
    oracle, row = summary.rows[-1], summary.rows[3]
    assert summary.about["retrieval recall"] == 0.75
    assert oracle.metrics["ndcg@10"].mean == 0.75
    assert oracle.metrics["ndcg@10 reached"].mean == 1
    assert set(np.array(summary.per_user["A"])[::4]) == {0.0}
    own, base = (np.array(summary.per_user[name]) for name in ("A", "retriever"))
    there = np.array([entry.reached for entry in lists])
    assert row.measures["gain on reached"] == pytest.approx((own - base)[there].mean())
    assert row.metrics["ndcg@10 reached"].mean == pytest.approx(own[there].mean())


def test_the_two_protocols_are_never_mixed() -> None:
    lists, scores = world(reached=False)
    with pytest.raises(OptionError, match="only the end-to-end"):
        summary_of(lists, results_of(scores))
    with pytest.raises(OptionError, match="Did you mean 'end-to-end'"):
        summary_of(lists, results_of(scores), "end to end")


def test_planted_positions_only_affect_the_curve(summary: Summary) -> None:
    lists, scores = world()
    planted = []
    for place, shift in ((1, 5.0), (6, 0.0), (12, -5.0)):
        for entry, own in zip(lists, scores["k2"], strict=True):
            column = entry.candidates.index(entry.targets[0])
            moved = [score + shift * (n == column) for n, score in enumerate(own)]
            planted.append(Result(KEYS["k2"], entry.user_id, tuple(moved), place))
    found = summary_of(lists, [*results_of(scores), *planted])
    assert list(found.position) == ["B"]
    assert list(found.position["B"]) == [1, 6, 12]
    means = [estimate.mean for estimate in found.position["B"].values()]
    assert means == sorted(means, reverse=True)
    assert found.order["B"] == pytest.approx(means[0] - means[-1])
    assert found.rows[4].measures["order sensitivity"] >= found.order["B"]
    assert found.per_user == summary.per_user
    assert found.contrasts == summary.contrasts
    assert summary.position == {}


def test_paraphrases_have_a_spread() -> None:
    lists, scores = world()
    cells = (replace(CELLS[0], template="p/a"), replace(CELLS[0], template="p/b", name="B",
             template_sha256="2", variant_of="p/a"))  # fmt: skip
    results = [
        replace(one, cell=cells[0].key if one.cell == KEYS["k1"] else cells[1].key)
        for one in results_of(scores)
    ]
    found = summarise("discrimination", cells, lists, Results(results), seed=1, resamples=50)
    means = [row.metrics["ndcg@10"].mean for row in found.rows[3:5]]
    assert found.paraphrase == {"p/a": pytest.approx(abs(means[0] - means[1]))}
    assert found.rows[3].measures["paraphrase sensitivity"] > found.paraphrase["p/a"]


def test_lists_that_all_failed_have_no_spread() -> None:
    lists, scores = world()
    name = {"template": "likelihood/c", "name": "C", "variant_of": "likelihood/b"}
    paraphrase = replace(CELLS[1], template_sha256="3", **name)  # type: ignore[arg-type]
    fault = Failure("PromptError", "no")

    def asked(
        key: str, place: int | None, users: list[UserList], fault: Failure | None = None
    ) -> list[Result]:
        scored = () if fault else (0.0,) * N
        return [Result(key, one.user_id, scored, place, fault) for one in users]

    results = [
        *results_of(scores),
        *asked(paraphrase.key, None, lists, fault),
        *asked(KEYS["k1"], 1, lists, fault),
        *asked(KEYS["k1"], 6, lists, fault),
        *asked(KEYS["k2"], 1, lists[:3]),
        *asked(KEYS["k2"], 6, lists[3:5]),  # nobody has both
        *asked(KEYS["k2"], 12, lists, fault),
    ]
    cells = (*CELLS, paraphrase)
    found = summarise("discrimination", cells, lists, Results(results), seed=1, resamples=50)
    assert {row: list(places) for row, places in found.position.items()} == {"B": [1, 6]}
    assert (found.order, found.paraphrase) == ({}, {})
    assert not [name for row in found.rows for name in row.measures if "sensitivity" in name]


def test_splits_hold_every_row_and_average_to_the_whole(summary: Summary) -> None:
    assert set(summary.splits) == {"activity", "rarity of the target"}
    groups = summary.splits["activity"]
    assert list(groups) == ["low (0 to 13)", "middle (14 to 26)", "high (27 to 39)"]
    mean = (14 * groups["low (0 to 13)"]["A"].mean + 13 * sum(
        groups[name]["A"].mean for name in list(groups)[1:]
    )) / 40  # fmt: skip
    assert mean == pytest.approx(summary.rows[3].metrics["ndcg@10"].mean)


def test_pointwise_scores_are_checked_as_probabilities(summary: Summary) -> None:
    assert list(summary.reliability) == ["A"]
    assert 0 < summary.rows[3].measures["calibration error"] < 1
    assert "calibration error" not in summary.rows[4].measures


def test_costs_facts_and_drops_find_their_row() -> None:
    lists, scores = world()
    found = summarise(
        "discrimination", CELLS, lists, Results(results_of(scores)), seed=1, resamples=50,
        facts=ItemFacts(titles={f"i{n}": "x" * n for n in range(40)}, training_users=100),
        costs={KEYS["k1"]: {"peak MiB": 300.0}}, dropped={KEYS["k2"]: "after 20 users"},
        about={"command": "llmrec bench"},
    )  # fmt: skip
    assert found.rows[3].cost["peak MiB"] == 300
    assert found.rows[4].dropped == "after 20 users"
    assert found.about["command"] == "llmrec bench"
    assert {"novelty", "length bias", "coverage", "gini"} <= set(found.rows[3].measures)


def test_no_retriever_no_row() -> None:
    lists, scores = world()
    blind = [replace(entry, retrieval=(None,) * N) for entry in lists]
    names = [row.name for row in summary_of(blind, results_of(scores)).rows]
    assert names == ["random", "popularity", "A", "B", "oracle"]


def test_failed_row_stays_in_the_summary() -> None:
    lists, scores = world()
    failed = [Result(KEYS["k1"], f"u{n}", fault=Failure("ModelError", "no")) for n in range(USERS)]
    found = summary_of(lists, [*failed, *results_of({"k2": scores["k2"]})])
    row = found.rows[3]
    assert (row.users, row.faults, row.measures) == (0, {"ModelError": USERS}, {})
    assert np.isnan(row.metrics["ndcg@10"].mean)
    assert not [c for c in found.contrasts if "A" in (c.row, c.against)]


def test_as_many_scores_as_candidates_and_only_results_of_the_run_count() -> None:
    lists, scores = world()
    with pytest.raises(OptionError, match="1 scores for 12 candidates"):
        summary_of(lists, [Result(KEYS["k1"], "u0", (0.0,))])
    others = [Result("another", "u0", (0.0,) * N), Result(KEYS["k1"], "nobody", (0.0,) * N)]
    kept = results_of(scores)
    assert summary_of(lists, [*kept, *others]).rows == summary_of(lists, kept).rows


def test_no_users_or_duplicate_names_are_refused() -> None:
    lists, _ = world()
    with pytest.raises(OptionError, match="needs users"):
        summary_of([], [])
    with pytest.raises(OptionError, match="each of them once"):
        summary_of([*lists, lists[0]], [])
    cells = (CELLS[0], replace(CELLS[1], name="random"))
    with pytest.raises(OptionError, match="two rows have one name"):
        summarise("discrimination", cells, lists, Results(), seed=0)


def test_failed_users_do_not_count_in_cost() -> None:
    lists, scores = world()
    answered = results_of({"k1": scores["k1"]})
    failed = [Result(KEYS["k1"], f"u{n}", fault=Failure("PromptError", "no")) for n in range(30)]
    row = summary_of(lists, [*failed, *answered[30:]]).rows[3]
    assert (row.users, row.faults) == (10, {"PromptError": 30})
    assert row.cost["tokens given"] == 10
    assert row.cost["seconds p50"] == pytest.approx(3.45)


def test_random_row_has_expected_values() -> None:
    lists, scores = world(reached=False)
    row = summary_of(lists, results_of(scores), "end-to-end").rows[0]
    reached = sum(entry.reached for entry in lists) / USERS
    expected = ndcg_at(np.arange(1.0, N + 1), 10).mean()
    assert row.metrics["ndcg@10"].mean == pytest.approx(reached * expected)
    assert row.metrics["ndcg@10 reached"].mean == pytest.approx(expected)
    assert row.metrics["recall@5"].mean == pytest.approx(reached * 5 / N)
    assert row.metrics["mrr"].mean == pytest.approx(reached * (1 / np.arange(1, N + 1)).mean())


def test_labelled_lists_with_several_relevant_items_are_summed_up() -> None:
    lists, scores = world()
    several = [
        replace(one, targets=one.candidates[:2], retrieval=(None,) * N, popularity=())
        for one in lists
    ]
    found = summary_of(several, results_of(scores), "labelled")
    assert [row.name for row in found.rows] == ["random", "given order", "A", "B", "oracle"]
    given, own = found.rows[1], found.rows[2]
    assert {given.metrics[name].mean for name in ("ndcg@10", "recall@5", "mrr", "map")} == {1.0}
    assert given.metrics["recall@1"].mean == 0.5
    assert own.metrics["hit@5"].mean > own.metrics["recall@5"].mean
    assert "popularity lift" not in own.measures
    assert list(found.splits) == ["activity"]
    assert ("A", "given order") in {(c.row, c.against) for c in found.contrasts}
