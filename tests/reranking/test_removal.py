from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

from llmrec.prompting import Context, context_of
from llmrec.records import Candidate, Interaction, Item, Prompt, User
from llmrec.reranking import STRATEGIES, Gate, Request, Reranker
from llmrec.reranking.removal import find_reasons
from llmrec.retrieval import Index, Retriever
from tests.reranking.oracle import Oracle

SCORING = sorted(set(STRATEGIES) - {"listwise-generated"})


def whim(title: str, place: int, prompt: Prompt) -> float:
    """An answer that every word of the prompt moves."""
    return (
        zlib.crc32(f"{title}{place}{prompt.system}{prompt.user}{prompt.text}".encode()) % 997 / 99
    )


def kites(n: int = 6) -> dict[str, Item]:
    colours = ("red", "blue")
    texts = "It flies. It lands."
    items = {
        f"k{i}": Item(f"k{i}", f"Kite {i}", texts, {"colour": colours[i % 2]}) for i in range(n)
    }
    return items | {f"m{i}": Item(f"m{i}", f"Mug {i}") for i in range(4)}


@pytest.fixture(scope="module")
def shop() -> Index:
    items = kites()
    rows = [
        ("u", "m0"),
        ("u", "m1"),
        ("u", "m2"),
        ("v", "m1"),
        ("v", "k1"),
        ("w", "m2"),
        ("w", "k1"),
    ]
    rows += [("x", "m2"), ("x", "k3"), ("y", "m0"), ("y", "k2")]
    met = tuple(Interaction(user, item, 5.0, at) for at, (user, item) in enumerate(rows))
    vectors = np.random.default_rng(0).normal(size=(len(items), 5)).astype(np.float32)
    return Index(items, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), met)


def asked(index: Index | None, user: User | None = None) -> Request:
    """The six kites for a user, by the retriever where there is an index."""
    met = tuple(Interaction("u", f"m{i}", 5.0, i) for i in range(3))
    if index is None:
        scores = [0.9, 0.1, float("nan"), 0.3, 0.2, 0.7]
        given = tuple(Candidate(f"k{i}", score) for i, score in enumerate(scores))
        return Request(user or User("u", met), given, Context(kites()))
    user = user or index.user("u")
    found = Retriever(index).candidates(user, [f"k{i}" for i in range(6)])
    return Request(user, found, context_of(index))


@pytest.mark.parametrize("name", SCORING)
@pytest.mark.parametrize("known", [True, False])
def test_parts_are_exact_and_add_up(name: str, known: bool, shop: Index) -> None:
    index = shop if known else None
    weights = {"retrieval": 0.7, name: 0.4, f"{name} x history": 0.1}
    gate = Gate(weights | {"popularity": 0.2} if known else weights, history=(0.5, 2.0))
    reranker = Reranker(Oracle(whim), index, strategy=name, weights=gate)
    request = asked(index)
    (reasons,) = find_reasons(reranker, request, ["k1"], pairs=2)
    unit = "history:2"
    past = tuple(row for row in request.user.history if row.item_id != "m1")
    changed = replace(request, user=replace(request.user, history=past))
    before, after = ({c.item_id: c.score for c in r.candidates} for r in (request, changed))
    if index is not None:
        after = {
            c.item_id: c.score for c in Retriever(index).candidates(changed.user, list(before))
        }
    (old, new) = (each[name].scores for each in reranker.judge_many([request, changed]))
    at = list(before).index("k1")
    slope = (0.4 + 0.1 * (np.log1p(3) - 0.5) / 2.0) / np.std(old)
    spread = np.nanstd(list(before.values()))
    parts = reasons.parts[unit]
    assert parts[name] == pytest.approx(slope * (old[at] - new[at]), abs=1e-9)
    assert parts.get("retrieval", 0.0) == pytest.approx(0.7 * (before["k1"] - after["k1"]) / spread)
    assert bool(parts.get("retrieval")) == known
    assert reasons.weights[unit] == pytest.approx(sum(parts.values()))
    (fact,) = [fact for fact in reasons.evidence if fact.unit == unit]
    assert fact.weight == pytest.approx(sum(fact.parts.values())) == reasons.weights[unit]
    (ranking,) = reranker.rank_many([request])
    (row,) = [row for row in ranking.items if row.item_id == "k1"]
    assert reasons.score == pytest.approx(row.score)
    assert sum(reasons.carried.values()) == pytest.approx(row.score, abs=1e-3)
    assert np.isfinite(list(reasons.pairs.values())).all()
