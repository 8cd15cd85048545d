"""What the numbers say, in sentences: the report and leaderboard.md open with the same ones."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from llmrec.benchmarking.entries import METRIC, RETRIEVER
from llmrec.benchmarking.report.charts import Frontier
from llmrec.benchmarking.report.formats import interval, share
from llmrec.benchmarking.report.standings import METRIC_NAME, Standing, best_row
from llmrec.benchmarking.summary import SHOWN_AT, Summary
from llmrec.evaluation.significance import smallest_difference

_NAMED = 4
"""Names that a sentence holds; the others are counted."""


def finding(summary: Summary, lines: Sequence[Standing]) -> str:
    """The one sentence that a reader takes along."""
    best = _best(summary, lines)
    if best is None:
        return "No prompt has an answer yet."
    if summary.about.get("retrieval recall") == 0:
        return "No list holds what its user chose: nothing can be said of any prompt."
    head = f"{best.row.name} leads with {METRIC_NAME} {share(best.score.mean)}"
    call = best.retriever
    if call is not None and call.word == "worse":
        head = f"No prompt reaches the retriever: {head}"
    elif call is not None and call.word == "better":
        head = f"{head} and beats the retriever"
    elif call is not None:
        head = f"{head}, no difference shown from the retriever's {_retriever(lines)}"
    rivals, stopped = len(_rivals(lines)), sum(bool(line.row.dropped) for line in lines)
    rest = []
    if rivals:
        rest.append(f"{rivals} other prompt{'s' * (rivals > 1)} cannot be told from it")
    if stopped:
        rest.append(f"the race stopped {stopped}")
    return f"{head}; {', '.join(rest)}." if rest else f"{head}."


def _retriever(lines: Sequence[Standing]) -> str:
    return share(next(line.score.mean for line in lines if line.row.name == RETRIEVER))


def question(summary: Summary) -> str:
    """What was asked, of how many users, and the smallest difference that so many show."""
    about = summary.about
    prompts = sum(row.kind == "cell" for row in summary.rows)
    several = f"Which of {prompts} prompts ranks highest"
    which = several if prompts > 1 else "How high does the prompt rank"
    users = f"{about.get('users', len(summary.user_ids))} users"
    of = f" of {about['dataset']}" if "dataset" in about else ""
    number = f"{about['candidates']} " if "candidates" in about else ""
    among = {
        "discrimination": f"{number}sampled candidates",
        "end-to-end": f"the {number}candidates that the retriever finds",
    }.get(str(about.get("protocol")), f"{number}candidates")
    asked = f"{which} what {users}{of} chose next, among {among}?"
    smallest = detectable(summary)
    if smallest is None:
        return asked
    one, all_of_them = smallest
    tests = len(summary.contrasts)
    if all_of_them >= 1:  # no difference can be larger
        return f"{asked} So few users show no difference, corrected for {tests} comparisons."
    among_all = f", corrected for {tests} comparisons ({share(one)} for one alone)"
    return (
        f"{asked} Four times out of five, so many users show a true difference of "
        f"{share(all_of_them)} in {METRIC_NAME}{among_all if tests > 1 else ''}; "
        "what is smaller mostly goes unseen."
    )


def detectable(summary: Summary) -> tuple[float, float] | None:
    """The smallest differences in nDCG@10 that the users show.

    The median over the contrasts that have the most of them: what a race stopped has fewer.

    Returns:
        Of one comparison alone, and of one among all that Holm corrects together, at his strictest
        step; None where nothing was compared, or no two rows ever differed, which tells nothing.
    """
    compared = [c.comparison for c in summary.contrasts if c.metric == METRIC]
    most = max((found.users for found in compared), default=0)
    found = [one.detectable for one in compared if one.users == most and one.detectable > 0]
    if not found:
        return None
    one = statistics.median(found)
    harder = smallest_difference(1, 1, alpha=SHOWN_AT / len(summary.contrasts))
    return one, one * harder / smallest_difference(1, 1, alpha=SHOWN_AT)


def leaderboard_note(summary: Summary, lines: Sequence[Standing]) -> str:
    """The best row with its numbers, and what cannot be told from it."""
    best = _best(summary, lines)
    if best is None:
        return ""
    said = [f"{best.row.name}: {interval(best.score)} over {best.row.users} users."]
    if best.retriever is not None:
        said.append(f"Against the retriever: {best.retriever.detail}.")
    rivals = _rivals(lines)
    if rivals:
        said.append(f"No difference is shown between it and {_names(rivals)}.")
    return " ".join(said)


def cost_note(charts: Sequence[Frontier]) -> str:
    """How many rows are worth their cost."""
    efficient = sum(point.efficient for point in charts[0].points)
    unit, number = charts[0].title.split(maxsplit=1)[0], len(charts[0].points)
    if not efficient:
        return f"None of {number} prompts is worth its {unit}: what asks no model ranks as well."
    are = "is worth its" if efficient == 1 else "are worth their"
    return f"{efficient} of {number} prompts {are} {unit}: nothing cheaper ranks as well."


def position_note(spreads: Mapping[str, float]) -> str:
    """Which row the place moves least, and which most."""
    if not spreads:
        return ""
    low, high = min(spreads, key=spreads.__getitem__), max(spreads, key=spreads.__getitem__)
    if share(spreads[low]) == share(spreads[high]):
        return f"The place of the chosen item moves every row by {share(spreads[low])}."
    return (
        f"The place of the chosen item moves {low} least ({share(spreads[low])}) "
        f"and {high} most ({share(spreads[high])})."
    )


def ranks_sentence(names: Sequence[str], ranks: Sequence[int | None]) -> str:
    """Where two rows put the item that was chosen."""
    said = [
        f"not in the list with {name}" if rank is None else f"at place {rank} with {name}"
        for name, rank in zip(names, ranks, strict=True)
    ]
    return f"The chosen item stands {' and '.join(said)}."


def _best(summary: Summary, lines: Sequence[Standing]) -> Standing | None:
    row = best_row(summary.rows)
    return next((line for line in lines if row is not None and line.row.name == row.name), None)


def _rivals(lines: Sequence[Standing]) -> list[str]:
    """The prompts that were compared with the best and not told from it, nor stopped by a race."""
    return [
        line.row.name
        for line in lines
        if line.row.kind == "cell"
        and line.best
        and line.best.word == "no difference shown"
        and not line.row.dropped
    ]


def _names(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))
