"""Whether a race finds the winner of the full run, and at what share of its cost.

python eval/racing_simulation.py [--simulations 100]   # writes results/racing_simulation.*

Twelve rows, 300 users in blocks of ten, as ``llmrec bench`` takes them, alpha .05. Users are drawn
anew in every simulation: the target's advantage over 19 other candidates is normal around the row's
own level and partly shared by the rows of a user (an easy target is easy for every prompt), and its
rank among them gives nDCG@10. Cost counts users asked, over all rows; the last row standing is
asked to the end. The full run's winner is the row with the best mean over all 300 users, whatever
its true level.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from llmrec.benchmarking.race import race
from llmrec.benchmarking.run import BLOCK
from llmrec.evaluation import ndcg_at

RESULTS = Path(__file__).parent / "results"
BLUE, GREY = "#1f5fa8", "#8a8f98"
USERS, ALPHA, NEGATIVES = 300, 0.05, 19
LOOKS = USERS // BLOCK
"""As ``llmrec bench --race`` looks."""
SAME, COST = 0.95, 0.5
"""What is asked of a race: the same winner in 19 of 20, at most half of the cost."""


@dataclass(frozen=True)
class Scenario:
    """True nDCG@10 of every row, and how much of a target's advantage the rows share, 0 to 1."""

    name: str
    levels: tuple[float, ...]
    alike: float


SPREAD = tuple(np.linspace(0.20, 0.40, 12).round(4).tolist())
SCENARIOS = (
    Scenario("evenly from .20 to .40", SPREAD, 0.6),
    Scenario(
        "most near chance, three within .02",
        (0.40, 0.39, 0.38, 0.34, 0.30, 0.27, 0.25, 0.24, 0.23, 0.22, 0.21, 0.205),
        0.6,
    ),
    Scenario("evenly, rows less alike", SPREAD, 0.3),
    Scenario("two within .005, the rest .10 behind", (0.40, 0.395, *[0.30] * 10), 0.6),
    Scenario("no differences at all", (0.30,) * 12, 0.6),
)


@dataclass(frozen=True)
class Outcome:
    """What came of the races of one scenario."""

    scenario: str
    hypothesis: str
    simulations: int
    same_winner: int
    cost: float
    cost_low: float
    cost_high: float
    true_best_won: int
    rows_left: tuple[float, ...]
    paired_deviation: float


@cache
def advantage(level: float) -> float:
    """The mean advantage that gives this expected nDCG@10."""
    at = np.linspace(-5, 5, 801)
    weights = stats.norm.pdf(at)
    ranks = np.arange(NEGATIVES + 1)

    def expected(mean: float) -> float:
        chances = stats.binom.pmf(ranks, NEGATIVES, stats.norm.sf(mean + at)[:, None])
        return float(weights @ (chances @ ndcg_at(1.0 + ranks, 10)) / weights.sum())

    return float(brentq(lambda mean: expected(mean) - level, -5, 5))


def draw(scenario: Scenario, seed: int) -> dict[str, NDArray[np.float64]]:
    """Every row's nDCG@10 a user, [USERS]."""
    rng = np.random.default_rng((7, seed))
    means = np.array([advantage(level) for level in scenario.levels])[:, None]
    shared = math.sqrt(scenario.alike) * rng.standard_normal(USERS)
    own = math.sqrt(1 - scenario.alike) * rng.standard_normal((len(means), USERS))
    ranks = 1.0 + rng.binomial(NEGATIVES, stats.norm.sf(means + shared + own))
    return {f"row {n + 1}": ndcg_at(values, 10) for n, values in enumerate(ranks)}


def run_race(
    full: dict[str, NDArray[np.float64]], *, finite: bool
) -> tuple[str, int, tuple[int, ...]]:
    """Race the rows: the winner, the users asked, and the rows left after each block."""
    racing, asked, left, block = list(full), 0, [], USERS // LOOKS
    for look in range(1, LOOKS + 1):
        asked += len(racing) * block
        seen = {name: full[name][: look * block] for name in racing}
        out = race(seen, LOOKS, look, ALPHA, started=len(full), finite=finite)
        racing = [name for name in racing if name not in out]
        left.append(len(racing))
    return max(racing, key=lambda name: float(full[name].mean())), asked, tuple(left)


def simulate(scenario: Scenario, simulations: int, *, finite: bool) -> Outcome:
    """Race as often as told, each time with other users."""
    same, best, costs, left, deviations = 0, 0, [], [], []
    for seed in range(simulations):
        full = draw(scenario, seed)
        winner, asked, rows = run_race(full, finite=finite)
        same += winner == max(full, key=lambda name: float(full[name].mean()))
        best += scenario.levels[list(full).index(winner)] == max(scenario.levels)
        costs.append(asked / (USERS * len(full)))
        left.append(rows)
        table = np.stack(list(full.values()))
        deviations.append(float((table[0] - table[1:]).std(axis=1).mean()))
    return Outcome(
        scenario.name,
        "all users of this run" if finite else "all users there could be",
        simulations,
        same,
        float(np.mean(costs)),
        float(np.min(costs)),
        float(np.max(costs)),
        best,
        tuple(np.mean(left, axis=0).tolist()),
        float(np.mean(deviations)),
    )


def markdown(outcomes: Sequence[Outcome], command: str) -> str:
    """Write the table, and what it says."""
    lines = [
        "# Racing against the full run, simulated",
        "",
        f"`{command}`",
        "",
        (
            f"{len(SCENARIOS[0].levels)} rows, {USERS} users in {LOOKS} blocks, alpha {ALPHA}. "
            f"Asked for: the same winner as the full run in at least {SAME:.0%} of simulations, at "
            f"most {COST:.0%} of its cost. Cost is users asked over all rows: mean [least, most]. "
            "The deviation is that of the per-user difference of two rows; between rows "
            "of results/rerank_movielens.md it is .19 (one prompt fused or not) to .41 (unrelated)."
        ),
        "",
        (
            "| true nDCG@10 of the rows | deviation | hypothesis is about | same winner | cost | "
            "true best won | asked for |"
        ),
        "|---|---:|---|---:|---:|---:|---|",
    ]
    lines += [
        f"| {o.scenario} | {o.paired_deviation:.2f} | {o.hypothesis} | "
        f"{o.same_winner} of {o.simulations} | "
        f"{o.cost:.0%} [{o.cost_low:.0%}, {o.cost_high:.0%}] | {o.true_best_won} | {_said(o)} |"
        for o in outcomes
    ]
    lines += [
        "",
        (
            "`llmrec bench --race` asks about all users of the run (`race(finite=True)`): would "
            "this row still win it? The other rows say what the same race costs where the question "
            "is about all users there could be. Where no row is worse than another there is "
            'nothing to drop, and a race costs nearly what a full run does. "True best won" says '
            "how often the winner was the best row in truth: rows so close, full runs miss it too."
        ),
    ]
    return "\n".join(lines) + "\n"


def _said(outcome: Outcome) -> str:
    missed = []
    if outcome.same_winner < SAME * outcome.simulations:
        missed.append("winner missed")
    if outcome.cost > COST:
        missed.append("cost missed")
    return ", ".join(missed) or "met"


def plot(outcomes: Sequence[Outcome]) -> Figure:
    """The cost of every race, and the rows left after each block."""
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    bars, lines = figure.subplots(1, 2, width_ratios=[3, 2])
    for place, outcome in enumerate(outcomes[::-1]):
        colour = BLUE if "this run" in outcome.hypothesis else GREY
        bars.barh(place, outcome.cost, color=colour)
        bars.plot([outcome.cost_low, outcome.cost_high], [place, place], color="black", lw=0.8)
    bars.axvline(COST, color="black", linestyle=":", linewidth=1)
    bars.set_yticks(
        [2 * place + 0.5 for place in range(len(SCENARIOS))],
        [scenario.name for scenario in SCENARIOS[::-1]],
    )
    bars.set_xlabel("cost, full run = 1\nblue: about this run, grey: about all users")
    bars.set_xlim(0, 1.02)
    for outcome in outcomes:
        if "this run" in outcome.hypothesis:
            lines.plot(
                np.arange(1, LOOKS + 1) * USERS // LOOKS, outcome.rows_left, label=outcome.scenario
            )
    lines.set_xlabel("users asked")
    lines.set_ylabel("rows still racing")
    lines.set_ylim(0, 12.5)
    figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=3)
    for axes in (bars, lines):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Simulate, write, print."""
    parser = argparse.ArgumentParser(description="Race against the full run, simulated.")
    parser.add_argument("--simulations", type=int, default=100)
    simulations = parser.parse_args().simulations
    outcomes = [
        simulate(scenario, simulations, finite=finite)
        for scenario in SCENARIOS
        for finite in (True, False)
    ]
    command = f"python eval/racing_simulation.py --simulations {simulations}"
    about = {"command": command, "users": USERS, "looks": LOOKS, "alpha": ALPHA}
    document = {
        **about,
        "scenarios": [asdict(scenario) for scenario in SCENARIOS],
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    text = markdown(outcomes, command)
    (RESULTS / "racing_simulation.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "racing_simulation.md").write_text(text)
    mpl.rcParams["svg.hashsalt"] = "llmrec"
    plot(outcomes).savefig(RESULTS / "racing_simulation.svg", metadata={"Date": None})
    print(text)


if __name__ == "__main__":
    main()
