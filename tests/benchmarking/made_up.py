"""A benchmark that nobody ran: fifteen rows of 200 users, with everything a report can show."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

import llmrec.catalog
from llmrec.benchmarking.disagreements import Disagreement, RankedTitle
from llmrec.benchmarking.measures import ReliabilityBin
from llmrec.benchmarking.rows import Kind
from llmrec.benchmarking.summary import (
    PairContrast,
    Summary,
    SummaryRow,
)
from llmrec.evaluation import Comparison, Estimate, holm, smallest_difference

USERS, CANDIDATES = 200, 20
PICTURES = sorted((Path(llmrec.catalog.__file__).parent / "sample" / "images").glob("*.png"))
HOSTILE = "<script>alert('title')</script> & \"The Sequel\""
LONG = "pointwise/likes-and-dislikes · HuggingFaceTB/SmolLM2-1.7B-Instruct · int4"

# name: (kind, skill, tokens forwarded a user, seconds)
ROWS: Mapping[str, tuple[Kind, float, float, float]] = {
    "random": ("baseline", 0.0, 0, 0),
    "popularity": ("baseline", 0.9, 0, 0),
    "retriever": ("baseline", 1.35, 0, 0),
    "likelihood/chat-next": ("cell", 1.9, 412, 0.31),
    "likelihood/chat-profile": ("cell", 1.82, 1_130, 0.62),
    "likelihood/details": ("cell", 1.72, 2_840, 1.4),
    "likelihood/titles": ("cell", 1.45, 296, 0.24),
    "likelihood/sentence": ("cell", 1.2, 388, 0.3),
    "pointwise/profile-first": ("cell", 1.5, 1_950, 1.05),
    "pointwise/reviews": ("cell", 1.3, 14_200, 6.8),
    LONG: ("cell", 1.6, 6_300, 5.1),
    "pairwise/a-or-b": ("cell", 1.55, 31_400, 17.2),
    "setwise/best-letter": ("cell", 0.8, 4_600, 2.6),
    "listwise/next-letter": ("cell", 0.35, 690, 0.45),
    "listwise-generated/ranking": ("cell", 0.5, 980, 3.9),
    "oracle": ("oracle", 99.0, 0, 0),
}
POSITION_BIAS = {"listwise/next-letter": 0.5, "setwise/best-letter": 0.25, "pairwise/a-or-b": 0.04}


def made_up_summary() -> Summary:
    """The summary; the same one at every call."""
    values = {name: _values(name) for name in ROWS}
    split = np.arange(USERS) % 3
    names = ("low (3 to 8)", "middle (9 to 21)", "high (22 to 340)")
    groups = {name: split == at for at, name in enumerate(names)}
    return Summary(
        about={
            "dataset": "movielens_mm",
            "fingerprint": "9f2c61d07be4a5312c7e",
            "candidates": CANDIDATES,
            "command": "llmrec bench bench.yaml --out runs/movielens",
            "plan": "index: INDEX\nusers: 200\nplaces: [1, 10, 20]\n",
            "llmrec": "0.1.0",
            "torch": "2.9.1",
            "transformers": "5.16.0",
            "machine": "2 cores, no accelerator",
            "protocol": "discrimination",
            "users": USERS,
            "seed": 0,
            "retrieval recall": 1.0,
        },
        rows=tuple(_row(name, values[name]) for name in ROWS),
        contrasts=_contrasts(values),
        position={name: _position(name) for name in ROWS if ROWS[name][0] == "cell"},
        splits={
            name: {
                group: {
                    row: _estimate(np.clip(own[mask] + lift, 0, 1)) for row, own in values.items()
                }
                for (group, mask), lift in zip(groups.items(), lifts, strict=True)
            }
            for name, lifts in (
                ("activity", (-0.03, 0.0, 0.05)),
                ("rarity of the target", (-0.2, 0.0, 0.1)),
            )
        },
        per_user={name: tuple(own.tolist()) for name, own in values.items()},
        user_ids=tuple(f"u{at}" for at in range(USERS)),
        paraphrase={"likelihood/titles": 0.041, "pointwise/profile-first": 0.017},
        order={name: POSITION_BIAS.get(name, 0.01) for name in ROWS if ROWS[name][0] == "cell"},
        reliability={
            name: tuple(
                ReliabilityBin(p, min(1.0, p * shift), USERS * CANDIDATES // 10)
                for p in np.linspace(0.02, 0.85, 10).tolist()
            )
            for name, shift in (("pointwise/profile-first", 0.4), (LONG, 0.62))
        },
    )


def made_up_disagreements(number: int = 10) -> tuple[Disagreement, ...]:
    """Users with hostile texts, missing pictures and unjudged items among them."""
    rows = ("likelihood/chat-next", "listwise/next-letter")
    films = [f"The Long and Winding Title of Film {at} (19{60 + at})" for at in range(19)]
    titles = [HOSTILE, *films]
    made = []
    for user in range(number):
        draws = np.random.default_rng(user)
        rankings = []
        for _ in rows:
            order = draws.permutation(CANDIDATES)
            rankings.append(
                tuple(
                    RankedTitle(
                        titles[item],
                        "" if item == 3 else str(PICTURES[item]) if item != 4 else "no/such.png",
                        bool(item == 0),
                        None if item == 7 else -0.4 * place,
                    )
                    for place, item in enumerate(order)
                )
            )
        prompt = f"<script>alert('prompt')</script>\nUser {user} chose:\n" + "- a film\n" * 30
        made.append(
            Disagreement(
                f"u{user}",
                rows,
                tuple(f"Film {at} (1994)" for at in range(8)),
                (prompt + "What is next?", prompt + "Answer with a letter."),
                tuple(rankings),
            )
        )
    return tuple(made)


def _values(name: str) -> NDArray[np.float64]:
    """NDCG@10 a user: the target's score is ``skill`` above those of nineteen others."""
    skill = ROWS[name][1]
    users = np.random.default_rng(7).normal(size=USERS)  # some users are easy for every row
    draws = np.random.default_rng(list(name.encode()))
    target = skill + 0.7 * users + draws.normal(size=USERS) * 0.8
    ranks = 1 + (draws.normal(size=(USERS, CANDIDATES - 1)) > target[:, None]).sum(axis=1)
    values = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)
    if name == "pairwise/a-or-b":
        values[:3] = np.nan  # faults
    return values


def _estimate(values: NDArray[np.float64]) -> Estimate:
    """By the normal approximation: a hundred bootstraps are slow, and nobody looks closely."""
    known = values[~np.isnan(values)]
    mean, half = float(known.mean()), 1.96 * float(known.std()) / len(known) ** 0.5
    return Estimate(mean, mean - half, mean + half)


def _compare(differences: NDArray[np.float64]) -> Comparison:
    found, deviation = _estimate(differences), float(differences.std())
    z = abs(found.mean) / (deviation / len(differences) ** 0.5)
    return Comparison(
        found.mean,
        found.low,
        found.high,
        2 * NormalDist().cdf(-z),
        len(differences),
        smallest_difference(deviation, len(differences)),
    )


def _row(name: str, values: NDArray[np.float64]) -> SummaryRow:
    kind, skill, tokens, seconds = ROWS[name]
    known = _estimate(values)
    asked = kind == "cell"
    settings: dict[str, str | int | bool] = {
        "template": name.split(" ", maxsplit=1)[0],
        "template_sha256": hashlib.sha256(name.encode()).hexdigest(),
        "strategy": name.split("/", maxsplit=1)[0],
        "model": "SmolLM2-1.7B-Instruct" if name == LONG else "SmolLM2-360M-Instruct",
        "revision": "a10cc1512eabd3dde888204e902eca88bddb4951",
        "quantization": "int4" if name == LONG else "none",
        "history_items": 10,
        "calibrate": name == "pointwise/profile-first",
    }
    return SummaryRow(
        name=name,
        kind=kind,
        settings=settings if asked else {},
        users=int((~np.isnan(values)).sum()),
        metrics=dict.fromkeys(("ndcg@1", "ndcg@10", "ndcg@20", "recall@5", "mrr"), known),
        measures={}
        if kind == "oracle"
        else {
            "coverage": 0.3 + 0.05 * skill,
            "gini": 0.62 - 0.04 * skill,
            "novelty": 4.2 - skill / 3,
            "intra-list diversity": 0.71,
            "popularity lift": 0.42 * skill - 0.31,
            "length bias": 0.02 * skill - 0.03,
        },
        cost={
            "tokens given": tokens * 4.0,
            "tokens forwarded": float(tokens),
            "tokens generated": 120.0 if "generated" in name else 0.0,
            "seconds p50": seconds,
            "seconds p95": seconds * 1.7,
        }
        if asked
        else {},
        faults={"AnswerError": 3} if name == "pairwise/a-or-b" else {},
        fallbacks={"order_conflict": 1234} if name == "pairwise/a-or-b" else {},
        dropped="after 60 users: worse than likelihood/chat-next, p .003"
        if name == "listwise/next-letter"
        else "",
    )


def _contrasts(values: Mapping[str, NDArray[np.float64]]) -> tuple[PairContrast, ...]:
    cells = [name for name, row in ROWS.items() if row[0] == "cell"]
    baselines = [name for name, row in ROWS.items() if row[0] == "baseline"]
    pairs = [*combinations(cells, 2), *((cell, base) for cell in cells for base in baselines)]
    compared = []
    for row, against in pairs:
        apart = values[row] - values[against]
        compared.append(_compare(apart[~np.isnan(apart)]))
    corrected = holm([found.p_value for found in compared])
    return tuple(
        PairContrast(row, against, "ndcg@10", found, float(p))
        for (row, against), found, p in zip(pairs, compared, corrected, strict=True)
    )


def _position(name: str) -> dict[int, Estimate]:
    mean = float(np.nanmean(_values(name)))
    slope = POSITION_BIAS.get(name, 0.01)
    places = (1, 5, 10, 15, 20)
    return {
        place: Estimate(middle, middle - 0.05, middle + 0.05)
        for place in places
        for middle in [mean + slope * (0.5 - (place / CANDIDATES) ** 0.5)]
    }
