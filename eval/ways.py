"""The ways to rank that are measured: a strategy with its options, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from movielens import MovieLens

from llmrec import Reranker, Usage
from llmrec.models import LanguageModel
from llmrec.reranking import make_strategy


@dataclass(frozen=True)
class Way:
    """One row: a strategy with its options, of how many users it is asked, and their places."""

    name: str
    strategy: str
    calibrate: bool = False
    shuffles: int = 0
    share: float = 1.0  # 0: of ``--few`` users
    biased: bool = False


WAYS = (
    Way("likelihood", "likelihood"),
    Way("pointwise", "pointwise"),
    Way("pointwise, calibrated", "pointwise", calibrate=True),
    Way("graded", "graded"),
    Way("graded, calibrated", "graded", calibrate=True),
    Way("listwise", "listwise", biased=True),
    Way("listwise, calibrated", "listwise", calibrate=True, biased=True),
    Way("listwise, 4 shuffles", "listwise", shuffles=4, share=0.34),
    Way("setwise", "setwise", share=0.2),
    Way("setwise, calibrated", "setwise", calibrate=True, share=0.2),
    Way("pairwise", "pairwise", share=0),
    Way("listwise-generated", "listwise-generated", share=0),
)


def users_of(way: Way, lists: int, few: int) -> int:
    """Of how many users a way is asked."""
    return max(few, round(way.share * lists))


def reranker_of(way: Way, model: LanguageModel, data: MovieLens) -> Reranker:
    """Ask one way alone."""
    strategy = make_strategy(way.strategy, calibrate=way.calibrate, shuffles=way.shuffles)
    return Reranker(model, data.index, strategy=strategy)


def cost(name: str, usage: Usage, n: int) -> dict[str, object]:
    """What a way took a user."""
    return {
        "row": name,
        "users": n,
        "prompts": round(usage.prompts / n, 1),
        "tokens of whole prompts": round(usage.tokens_given / n),
        "tokens forwarded": round(usage.tokens_forwarded / n),
        "tokens generated": round(usage.tokens_generated / n),
        "forwards": round(usage.forwards / n, 1),
        "seconds": round(usage.seconds / n, 2),
    }


def cost_table(costs: Sequence[dict[str, object]]) -> str:
    """Costs a user as markdown."""
    names = list(costs[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(entry[name]) for name in names) + " |" for entry in costs]
    note = "What a user takes, each row asked by itself, on a machine that does other work too:"
    return f"## Cost\n\n{note}\n\n" + "\n".join(lines) + "\n"
